//! What a client says about a repository.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Why a client refuses something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// Not JSON, or not of the role's form.
    Malformed,
    /// Too few signatures.
    Signatures,
    /// Older than before, or another version than the one listed.
    Version,
    /// Another hash or length than the one listed.
    Mismatch,
    /// Delegated to, but in no snapshot.
    Unlisted,
    /// Expired.
    Expired,
    /// A file is not there.
    Missing,
    /// Too many roles, or too deep.
    Limit,
    /// The client broke down, or raised what is not an error of its own.
    Crash,
}

impl Kind {
    /// What a caller does about it: stop, wait for the signer, or try again. This is what must be the same everywhere:
    /// which of two defects is seen first is each client's own affair.
    pub(super) fn family(self) -> &'static str {
        match self {
            Self::Malformed | Self::Signatures | Self::Version | Self::Mismatch | Self::Unlisted => {
                "untrusted"
            }
            Self::Expired => "expired",
            Self::Missing => "missing",
            Self::Limit => "limit",
            Self::Crash => "crash",
        }
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Why.
    pub kind: Kind,
    /// The client's own words.
    pub text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", self.kind, self.text)
    }
}

/// What a client says about a target name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// It is vouched for.
    Found {
        /// As the entry has it.
        length: Value,
        /// As the entry has them.
        hashes: Value,
    },
    /// It is not.
    Absent,
    /// That cannot be said.
    Failed(Failure),
}

impl Answer {
    pub(super) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Failed(ours), Self::Failed(theirs)) => ours.kind.family() == theirs.kind.family(),
            _ => self == other,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found { length, hashes } => write!(f, "found, {length} bytes, {hashes}"),
            Self::Absent => f.write_str("absent"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

/// What a client says at one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Why the update to the top-level roles was refused, if it was.
    pub refresh: Option<Failure>,
    /// The answer for each name; none if the update was refused.
    pub names: BTreeMap<String, Answer>,
}

impl Verdict {
    pub(super) fn refused(failure: Failure) -> Self {
        Self { refresh: Some(failure), names: BTreeMap::new() }
    }
}
