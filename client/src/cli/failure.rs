//! The one place where an error becomes an exit code.

use std::sync::Arc;

use plimsoll_core::policy::Verdict;

use crate::{
    bundle::BundleError,
    floor::FloorFault,
    home::Home,
    keys::{KeyFileError, SignError},
    layout::LayoutError,
    lock::LockFault,
    publish::{PublishError, author::AuthorError, draft::DraftError},
    registry::RegistryError,
    state::StateError,
    trust::{self, TrustError},
    update::{UpdateError, registry_verdict},
    verify::{LocalFault, chain},
};

/// A command that did not do what it was asked: one line of text, an exit code, perhaps advice.
#[derive(Debug)]
pub(super) struct Failure {
    /// Never 0.
    pub(super) code: u8,
    /// What is wrong, with its causes.
    pub(super) text: String,
    /// What to do next.
    pub(super) next: Option<String>,
}

impl Failure {
    /// The user must change an argument, a file or the policy.
    pub(super) fn usage(text: String) -> Self {
        Self { code: 2, text, next: None }
    }

    /// A fault of this machine.
    pub(super) fn internal(text: String) -> Self {
        Self { code: 1, text, next: None }
    }

    /// What a verdict means for a command that is not about a verdict.
    pub(super) fn verdict(verdict: Verdict, text: String) -> Self {
        Self { code: verdict.exit_code().max(1), text, next: None }
    }

    /// The same with the name of the pinned root where the advice on lost memory says NAME.
    pub(super) fn named(mut self, home: &Home) -> Self {
        self.text = named(home, self.text);
        self
    }

    /// The same with advice.
    pub(super) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

/// Trusted state knows its folder and not what the policy calls the root whose it is, so the name is filled in here.
pub(super) fn named(home: &Home, text: String) -> String {
    const OPEN: &str = "`plimsoll trust reset NAME`";
    if !text.contains(OPEN) {
        return text;
    }
    let mut roots = trust::list(home).unwrap_or_default().into_iter().map(|root| root.name);
    let whose = |name: &String| {
        let folders = trust::state_folders(home, name).unwrap_or_default();
        folders.iter().any(|folder| text.contains(&*folder.to_string_lossy()))
    };
    match roots.find(whose) {
        Some(name) => text.replace(OPEN, &format!("`plimsoll trust reset {name}`")),
        None => text,
    }
}

impl From<TrustError> for Failure {
    fn from(error: TrustError) -> Self {
        Self { code: error.exit_code(), text: chain(&error), next: error.next() }
    }
}

impl From<FloorFault> for Failure {
    fn from(error: FloorFault) -> Self {
        Self { code: error.exit_code(), text: chain(&error), next: error.next() }
    }
}

impl From<LockFault> for Failure {
    fn from(error: LockFault) -> Self {
        Self { code: error.exit_code(), text: chain(&error), next: error.next() }
    }
}

impl From<LocalFault> for Failure {
    fn from(error: LocalFault) -> Self {
        Self { code: error.exit_code(), text: chain(&error), next: error.next() }
    }
}

impl From<Arc<LocalFault>> for Failure {
    fn from(error: Arc<LocalFault>) -> Self {
        Self { code: error.exit_code(), text: chain(&*error), next: error.next() }
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::internal(chain(&error))
    }
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        Self::usage(chain(&error))
    }
}

impl From<SignError> for Failure {
    fn from(error: SignError) -> Self {
        Self::internal(chain(&error))
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        let code = registry_verdict(&error).map_or(2, Verdict::exit_code);
        Self { code, text: chain(&error), next: None }
    }
}

impl From<UpdateError> for Failure {
    fn from(error: UpdateError) -> Self {
        let code = match (error.verdict(), &error) {
            (Some(verdict), _) => verdict.exit_code(),
            (None, UpdateError::State(_)) => 1,
            (None, _) => 2,
        };
        Self { code, text: chain(&error), next: None }
    }
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        let next = match &error {
            BundleError::Exists { .. } => Some("give --out another name, or remove that file"),
            BundleError::NotPinned { .. } => {
                Some("ask its publisher for the complete `plimsoll trust add` line")
            }
            BundleError::Incomplete { .. } | BundleError::Lacks { .. } => Some(
                "have it exported again with --since FILE, where FILE is what `plimsoll bundle inspect -o json` or \
                 `plimsoll bundle import -o json` last printed here; or without --since, to bring everything",
            ),
            BundleError::Older { .. } => Some("nothing needs to be done: what is there is newer"),
            BundleError::Foreign { .. } | BundleError::Elsewhere { .. } => Some(
                "give it a place of its own; if it is a bundle whose names are not what its publisher calls them, somebody \
                 changed them on the way",
            ),
            BundleError::Moved { .. } => Some("a copy has one writer; find out who else writes there"),
            BundleError::Layout(LayoutError::NoSuchImage { .. } | LayoutError::Missing { .. }) => {
                Some("name a file that `plimsoll bundle export` wrote")
            }
            BundleError::Refused { source, .. } => match source.verdict() {
                Some(Verdict::Rollback) => {
                    Some("this machine has seen newer: if this is not an old bundle, have it exported again")
                }
                Some(Verdict::Expired) => Some(
                    "have it exported again: a bundle can be imported as long as its timestamp lives, and for the policy's \
                     `max-staleness` after that",
                ),
                Some(Verdict::Untrusted) => {
                    Some("ask who brought it: it was changed on the way, or its publisher did not sign it")
                }
                _ => None,
            },
            _ => None,
        };
        let text = chain(&error);
        let (code, text) = match error.verdict() {
            Some(verdict) => (verdict.exit_code(), format!("{verdict}: {text}")),
            None if error.is_local() => (1, text),
            None => (2, text),
        };
        Self { code, text, next: next.map(str::to_owned) }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        let code = match (error.verdict(), &error) {
            (Some(verdict), _) => verdict.exit_code(),
            (None, PublishError::Sign(_) | PublishError::Randomness) => 1,
            (None, PublishError::Update(UpdateError::State(_))) => 1,
            (None, PublishError::NotSeen { source, .. }) if matches!(**source, UpdateError::State(_)) => 1,
            (None, _) => 2,
        };
        Self { code, text: chain(&error), next: advice(&error).map(str::to_owned) }
    }
}

fn advice(error: &PublishError) -> Option<&'static str> {
    match error {
        PublishError::Server(RegistryError::Tls { .. }) => {
            Some("check --server; a CA of your own is given with --ca-file, or in docker's certs.d")
        }
        PublishError::Server(error) if error.is_unavailable() => {
            Some("check that plimsolld runs and that --server names it, and run this again")
        }
        PublishError::NotADaemon { .. } => {
            Some("check --server: it is the URL that plimsolld prints when it starts")
        }
        PublishError::NotServed { .. } => {
            Some("check the repository's name, or add it to the daemon's configuration as [[trust]]")
        }
        PublishError::NoRole { .. } => {
            Some("use a key of a role on the path, or ask its holder for `plimsoll delegate add`")
        }
        PublishError::RevokedBy { .. } => Some("ask the holder of that role's keys to reinstate it"),
        PublishError::NothingEarlier { .. } => Some("look at `plimsoll log --ref REFERENCE`"),
        PublishError::Author(AuthorError::Immutable { .. }) => {
            Some("sign it under another tag; revoking that digest frees this one")
        }
        PublishError::Author(AuthorError::Revoked { .. }) => {
            Some("if it was good after all, `plimsoll reinstate` takes the revocation back")
        }
        PublishError::Stale { .. } | PublishError::Draft(DraftError::Behind { .. }) => {
            Some("make the draft anew with the command that made it, and have it signed again")
        }
        PublishError::DraftExpired { .. } => {
            Some("make the draft anew with the command that made it, and have it signed soon")
        }
        PublishError::NoNextKeys => {
            Some("its operator makes them with `plimsolld key rotate NAME`; or give --online-pub FILE")
        }
        PublishError::NotHeld { .. } => {
            Some("ask who runs the daemon which online keys it has; draft with those")
        }
        PublishError::Draft(DraftError::Different(_)) => {
            Some("compare the codes with `plimsoll ceremony status`; keep one draft and sign that")
        }
        PublishError::Draft(error) if error.verdict().is_some() => {
            Some("do not sign it; ask whoever sent it, by another way than it came")
        }
        PublishError::UnknownRole { .. } | PublishError::UnknownKey(_) => Some("plimsoll delegate list"),
        PublishError::Orphaned { .. } => Some(
            "its keys sign it anew with `plimsoll delegate rotate ROLE --key FILE`; where they are lost, the keys above it \
             do: `plimsoll delegate take-over ROLE`",
        ),
        PublishError::ExpiredAbove { .. } => Some("whoever holds its keys must sign it anew first"),
        PublishError::TooFewLeft { .. } => Some(
            "give the role another key in its place: `plimsoll delegate rotate ROLE --remove-key-id ID --pub FILE`",
        ),
        PublishError::NoHistory(_) => {
            Some("run this where the daemon can be reached, without --via-registry")
        }
        PublishError::Owners { .. } => Some("plimsoll ceremony edit"),
        PublishError::NothingPublished(_) => Some("give it other keys with `plimsoll delegate rotate`"),
        PublishError::Moved(_) => Some("look at it again: run this once more"),
        PublishError::Author(AuthorError::Threshold { .. }) => {
            Some("name more keys, or a threshold that those there are can meet")
        }
        PublishError::Author(AuthorError::TooDeep { .. }) => Some("delegate from a role further up"),
        PublishError::Author(AuthorError::NoSuchKey { .. }) => Some("plimsoll delegate show ROLE"),
        PublishError::Shadowed { .. } => {
            Some("ask the holder of that role's key to sign it or to take the name out, or use that key")
        }
        PublishError::NotPublishedInTime { .. } | PublishError::Unconfirmed { .. } => {
            Some("look at `plimsoll status` in a while; nothing needs to be done again")
        }
        PublishError::RefusedIn { .. } => Some(
            "nobody signs such an answer, and whoever may push to the inbox can write one: look at `plimsoll status` \
             whether it was published all the same",
        ),
        PublishError::NotCollected { .. } => Some(
            "look at `plimsoll status` in a while; if it stays, ask who runs the daemon whether it collects from the inbox",
        ),
        PublishError::Unsigned { .. } => {
            Some("give the other keys with --key too, or collect their signatures: --draft FILE")
        }
        PublishError::Clash { .. } => Some("agree with whoever signed it; to replace theirs, run this again"),
        PublishError::NotSeen { .. } => Some(
            "look at `plimsoll status` in a while; if it stays, ask who runs the daemon and the registry",
        ),
        PublishError::Overruled { .. } => Some(
            "look at `plimsoll status`: a role that is asked before yours decides, or somebody was faster",
        ),
        PublishError::Dropped { .. } => {
            Some("ask who runs the daemon: it did not publish what it accepted; look at `plimsoll log`")
        }
        PublishError::OnlineKeys { .. } => {
            Some("compare with `plimsolld key show NAME` on the daemon's machine; if that differs too, stop")
        }
        _ => None,
    }
}
