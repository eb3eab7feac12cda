//! What can be wrong with the user's own trust files.

use std::{io, path::PathBuf};

use plimsoll_core::{
    oci::Digest,
    policy::{PolicyError, PolicyRule},
    tuf,
};

use crate::state::StateError;

/// What to do about a root document that is not the one pinned.
const CHANGED: &str = "if you did not change the file, find out who did; then get the root from its publisher again, \
                       `plimsoll trust remove` the name and `plimsoll trust add` it anew";

/// Why the policy, a pinned root or its state cannot be used or changed: the misuse family, but for
/// [`TrustError::State`] and [`TrustError::Write`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// There is no policy.
    #[error("there is no policy at {}: no root is pinned, so nothing can be verified", path.display())]
    NoPolicy {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There are two policies, and nothing says which one is meant.
    #[error("both {} and {} are there, and only one policy can apply", toml.display(), json.display())]
    TwoPolicies {
        /// One.
        toml: PathBuf,
        /// The other.
        json: PathBuf,
    },
    /// A file cannot be read, or is too big.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written; it is as it was.
    #[error("cannot write {}: it is as it was", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The policy breaks a rule.
    #[error("cannot use the policy {}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// The rule.
        source: Box<PolicyError>,
    },
    /// The policy would break a rule.
    #[error("the policy would not be valid with this root")]
    Addition {
        /// The rule.
        source: Box<PolicyError>,
    },
    /// The file is not the root that was pinned.
    #[error("{} is not the root that was pinned: its sha256 is {}, the policy says {}", path.display(), found.hex(), expected.hex())]
    RootDigest {
        /// The file.
        path: PathBuf,
        /// What the policy says.
        expected: Digest,
        /// What it has.
        found: Digest,
    },
    /// The file is not the root that the user was told of.
    #[error("{} does not have the sha256 given: it has {}, you gave {}", path.display(), found.hex(), expected.hex())]
    NotTheRoot {
        /// The file.
        path: PathBuf,
        /// What was given.
        expected: Digest,
        /// What it has.
        found: Digest,
    },
    /// The file is not a root document that its own keys vouch for.
    #[error("{} is not a TUF root document", path.display())]
    NotARoot {
        /// The file.
        path: PathBuf,
        /// Why.
        source: tuf::Error,
    },
    /// A root of this name is pinned already.
    #[error("a root called `{name}` is pinned already")]
    Exists {
        /// The name.
        name: String,
    },
    /// No root of this name is pinned.
    #[error("no root called `{name}` is pinned; pinned: {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The names there are.
        known: String,
    },
    /// Neither the root nor the user says what it speaks for.
    #[error("this root does not say what it may speak for")]
    NoScope,
    /// A scope beyond what the root may speak about.
    #[error("{scope} is outside of what this root may speak for ({allowed}); a scope here is HOST/SCOPE")]
    OutOfScope {
        /// The scope.
        scope: String,
        /// What the root says.
        allowed: String,
    },
    /// Another process changes the policy.
    #[error("another plimsoll process is changing {}", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// Trusted state.
    #[error(transparent)]
    State(#[from] StateError),
}

impl TrustError {
    /// The exit code: 1 for what this machine could not do, 2 for what the user must change.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Write { .. } | Self::Busy { .. } | Self::State(_) => 1,
            _ => 2,
        }
    }

    /// What to do next, if there is more to say than the message.
    pub fn next(&self) -> Option<String> {
        let text = match self {
            Self::NoPolicy { .. } => {
                "plimsoll trust add NAME --root FILE --sha256 HEX --repository HOST/REPOSITORY, with what the publisher \
                 gave you"
            }
            Self::RootDigest { .. } => CHANGED,
            Self::Policy { source, .. } => match &source.rule {
                PolicyRule::RootDigest { .. } => CHANGED,
                PolicyRule::NotARoot { .. } => "get the root from its publisher again",
                PolicyRule::Floor { .. } | PolicyRule::OtherFloor { .. } => {
                    "make it anew with `plimsoll trust floor NAME --out FILE`, where it was made"
                }
                _ => return None,
            },
            Self::NotTheRoot { .. } => {
                "ask the publisher for both again, the hash by another way than the file"
            }
            Self::Exists { name } => {
                return Some(format!("choose another name, or `plimsoll trust remove {name}` first"));
            }
            Self::Unknown { .. } => "plimsoll trust list",
            Self::TwoPolicies { .. } => {
                "remove one of them, or name the one that is meant with --policy FILE"
            }
            Self::NoScope => "add --scope HOST/SCOPE, for example --scope registry.example.com/acme/**",
            Self::Busy { .. } => "wait for it and run this again",
            _ => return None,
        };
        Some(text.to_owned())
    }
}
