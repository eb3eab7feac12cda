//! Decides what a reference is worth now: the policy says who must vouch, each of those roots is asked, and the registry
//! says what it would hand out.
//!
//! Every outcome but a fault of this machine is a [`Verdict`]. A root that cannot be asked is never skipped, a network
//! fault is never proof of absence, and a revocation by any root that is asked beats everything else.

mod ask;
mod decide;
#[cfg(test)]
mod tests;
mod words;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::{Digest, Reference, RepositoryAddress, Tag, TargetName},
    policy::{DigestRefs, Place, Policy, Require, RootEntry, Rule, ScopeEntry, Verdict},
    tuf::Floor,
};
use serde::Serialize;

use crate::{
    clock::Clock,
    floor::{self, FloorFault},
    home::Home,
    registry::{Registry, RegistryError},
    state::StateError,
    trust::{self, TrustError},
    update::{Bounds, RegistrySource, registry_verdict},
};

use ask::{Answer, ask};
use decide::{Presented, decide};

pub use words::{ago, chain, printable};

/// What a verification needs: the user's folders and policy, a registry client and a clock.
#[derive(Clone)]
pub struct Context {
    /// Where pinned roots and trusted state live.
    pub home: Home,
    /// Who must vouch for what; checked.
    pub policy: Policy,
    /// Nothing older than these is taken, of the trust repositories that they are of.
    pub floors: Vec<Floor>,
    /// The client for every registry that is asked.
    pub registry: Registry,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("home", &self.home)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// Reads the policy of `home`; there are no floors yet. No network.
    ///
    /// # Errors
    /// [`LocalFault::Trust`] if there is no policy, or not a valid one.
    pub fn load(home: Home, registry: Registry, clock: Arc<dyn Clock>) -> Result<Self, LocalFault> {
        let policy = trust::load_policy(&home)?;
        Ok(Self { home, policy, floors: Vec::new(), registry, clock })
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// May what the registry hands out under this reference be run? A tag costs one HEAD.
    Verify,
    /// Which digest does the publisher mean? The registry's tag is not asked.
    Resolve,
}

/// A verdict with its reasons.
#[derive(Debug, Clone, Serialize)]
pub struct Verification {
    /// The verdict; the exit code of the command line follows from it.
    pub verdict: Verdict,
    /// The reference in full: with its host, and with `latest` if neither tag nor digest was written.
    pub reference: String,
    /// The target name that was searched for.
    pub name: String,
    /// The `match` of the policy's scope that applies; none if there is none.
    pub scope: Option<String>,
    /// `HOST/REPOSITORY@sha256:HEX`, what may be run; only with [`Verdict::Verified`].
    pub resolved: Option<String>,
    /// The signed digest, as far as the roots agree; not to be run unless `resolved` says so.
    pub digest: Option<Digest>,
    /// The digest that was presented: written in the reference, or what the registry's tag points to.
    pub presented: Option<Digest>,
    /// Signed length of the manifest in bytes.
    pub length: Option<u64>,
    /// Signed media type of the manifest.
    pub media_type: Option<String>,
    /// What each required root says, in the policy's order.
    pub roots: Vec<RootReport>,
    /// Why it was taken back, if it was.
    pub revocation: Option<RevocationReport>,
    /// What a person should look at although it does not change the verdict.
    pub warnings: Vec<String>,
    /// The reason in words.
    pub detail: String,
    /// What to do next, if there is something to do.
    pub next: Option<String>,
}

/// What one root says of the name.
#[derive(Debug, Clone, Serialize)]
pub struct RootReport {
    /// Its name in the policy.
    pub name: String,
    /// The trust id, 32 hex digits; none for a foreign root, or before it was read.
    pub trust: Option<String>,
    /// Where its metadata was fetched.
    pub repository: String,
    /// The verdict of this root alone, before the registry is asked and roots are compared.
    pub verdict: Verdict,
    /// The roles from `targets` down to the one that decided.
    pub path: Vec<String>,
    /// The verified roles that the answer rests on: root, timestamp, snapshot and those of `path`.
    pub roles: Vec<RoleReport>,
    /// Seconds since the timestamp was signed; none if it does not say when, or there is none.
    pub timestamp_age: Option<u64>,
    /// Seconds since the timestamp or the snapshot expired, which the policy's `max-staleness` lets pass; none if both are
    /// fresh.
    pub stale_by: Option<u64>,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// True if it failed because a namespace was delegated and its team has published nothing yet.
    pub unpublished: bool,
}

/// One verified role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleReport {
    /// The role.
    pub role: String,
    /// Its version.
    pub version: u64,
    /// When it expires, UTC.
    pub expires: DateTime<Utc>,
}

/// A revocation and who said it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RevocationReport {
    /// The root, by its name in the policy.
    pub root: String,
    /// The role that lists it.
    pub role: String,
    /// The digest taken back; none if a whole scope was.
    pub digest: Option<Digest>,
    /// Why, in the publisher's words. Untrusted text: printable characters only, at most 200.
    pub reason: String,
    /// When, UTC.
    pub at: DateTime<Utc>,
}

/// A fault of this machine: never a statement about a reference.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalFault {
    /// The policy or a pinned root.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A floor.
    #[error(transparent)]
    Floor(#[from] FloorFault),
    /// Trusted state.
    #[error(transparent)]
    State(#[from] StateError),
    /// A registry option, or a local file that the registry client needs.
    #[error(transparent)]
    Registry(RegistryError),
}

impl LocalFault {
    /// The exit code: 1 for trusted state, 2 for what the user must change.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Trust(error) => error.exit_code(),
            Self::Floor(error) => error.exit_code(),
            Self::State(_) => 1,
            Self::Registry(_) => 2,
        }
    }

    /// What to do next, if there is more to say than the message.
    pub fn next(&self) -> Option<String> {
        match self {
            Self::Trust(error) => error.next(),
            Self::Floor(error) => error.next(),
            Self::State(_) | Self::Registry(_) => None,
        }
    }
}

/// The target name that a reference is judged by: its tag if it has one, else its digest, else the tag `latest`.
pub fn target_name(reference: &Reference) -> TargetName {
    let repository = reference.repository.name.clone();
    match (&reference.tag, reference.digest) {
        (Some(tag), _) => TargetName::Tag { repository, tag: tag.clone() },
        (None, Some(digest)) => TargetName::Digest { repository, digest },
        (None, None) => TargetName::Tag { repository, tag: latest() },
    }
}

/// Decides on `reference`.
///
/// Network: for each required root one conditional request when nothing changed, more to fetch what did; and in
/// [`Mode::Verify`] one HEAD of a tag that is signed. Trusted state on disk moves forward, never back.
///
/// # Errors
/// [`LocalFault`]; everything else is a verdict.
pub async fn verify(ctx: &Context, reference: &Reference, mode: Mode) -> Result<Verification, LocalFault> {
    let mut reference = reference.clone();
    if reference.tag.is_none() && reference.digest.is_none() {
        reference.tag = Some(latest());
    }
    let name = target_name(&reference);
    let scope = ctx.policy.select(&reference.repository.host, &name);
    // Forms that deciding does not know yet cover nothing, so that nothing is decided by them.
    let Some((scope, roots)) = scope.and_then(|scope| Some((scope, plain(&ctx.policy, scope)?))) else {
        return Ok(words::no_policy(&reference, &name));
    };
    // Every pinned root is read before anybody is asked: a local fault costs no request and changes nothing.
    let mut pinned = Vec::new();
    for (root, address, entry) in roots {
        pinned.push((root, address, trust::load_root(&ctx.home, entry)?));
    }
    let mut answers: Vec<Answer> = Vec::new();
    for (root, address, bytes) in pinned {
        let source = RegistrySource::new(ctx.registry.clone(), address);
        let bounds = Bounds { floors: floor::of_root(&ctx.floors, &bytes), ..Bounds::default() };
        answers.push(ask(source, &ctx.home.state(), root, &bytes, ctx.clock.now(), &bounds, &name).await?);
    }
    let written = reference.digest.map_or(Presented::Unasked, Presented::Digest);
    let first = decide(&reference, &name, &scope.pattern, &answers, &written);
    // The registry is asked only if its word can change the verdict.
    let ask_registry = match first.verdict {
        Verdict::Verified => mode == Mode::Verify,
        // Absent or failed, what it hands out may be something that was taken back.
        _ => answers.iter().any(Answer::has_revocations),
    };
    match &reference.tag {
        Some(tag) if ask_registry && reference.digest.is_none() => {
            let presented = head(ctx, &reference, tag).await?;
            Ok(decide(&reference, &name, &scope.pattern, &answers, &presented))
        }
        _ => Ok(first),
    }
}

/// What the registry's tag points to now.
async fn head(ctx: &Context, reference: &Reference, tag: &Tag) -> Result<Presented, LocalFault> {
    match ctx.registry.head_manifest(&reference.repository, tag.as_str()).await {
        Ok(Some(descriptor)) => Ok(Presented::Digest(descriptor.digest)),
        Ok(None) => Ok(Presented::NoSuchTag),
        Err(error) => match registry_verdict(&error) {
            Some(verdict) => Ok(Presented::Failed { verdict, why: chain(&error) }),
            None => Err(LocalFault::Registry(error)),
        },
    }
}

/// The roots of a scope that says no more than `require = { all = [..] }`, each with its one registry.
fn plain<'a>(
    policy: &'a Policy,
    scope: &'a ScopeEntry,
) -> Option<Vec<(&'a str, RepositoryAddress, &'a RootEntry)>> {
    let Rule::Vouch(vouch) = &scope.rule else { return None };
    let Require::All(roots) = &vouch.require else { return None };
    let bare = vouch.map.is_empty()
        && vouch.pin.is_empty()
        && vouch.fallback.is_none()
        && vouch.digest_refs == DigestRefs::Current
        && vouch.constraint.is_none()
        && vouch.max_signed_age.is_none()
        && vouch.max_staleness.is_none()
        && vouch.optional.is_empty()
        && vouch.veto.len() == roots.len();
    let placed = roots.iter().map(|root| {
        let entry = &policy.root[root];
        match entry.places.as_slice() {
            [Place::Registry(address)] if entry.floor.is_none() => {
                Some((root.as_str(), address.clone(), entry))
            }
            _ => None,
        }
    });
    placed.collect::<Option<_>>().filter(|_| bare && policy.remaps().is_empty())
}

fn latest() -> Tag {
    "latest".parse().expect("`latest` is a tag")
}
