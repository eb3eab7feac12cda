//! Why metadata is not trusted.

use chrono::{DateTime, Utc};

use super::{KeyId, json::JsonError};

/// Why a document was refused. Every variant means *untrusted*: nothing here is a network fault or a misuse.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not one strict JSON document.
    #[error("{role}: not strict JSON")]
    Json {
        /// The role that was expected.
        role: String,
        /// Which rule broke.
        source: JsonError,
    },
    /// JSON, but not of the role's shape.
    #[error("{role}: not of the shape TUF 1.0.34 section 4 gives it")]
    Shape {
        /// The role that was expected.
        role: String,
        /// Where it differs.
        source: serde_json::Error,
    },
    /// A value that has the right type and no meaning.
    #[error("{role}: {what}")]
    Invalid {
        /// The role that was expected.
        role: String,
        /// What is wrong.
        what: String,
    },
    /// The document is longer than its role may be.
    #[error("{role}: longer than {limit} bytes")]
    TooLong {
        /// The role.
        role: String,
        /// The limit, bytes.
        limit: u64,
    },
    /// A key id stands twice in `signatures` (4.2.1: "MUST NOT").
    #[error("{role}: key id {keyid} signs twice")]
    DuplicateSignature {
        /// The role.
        role: String,
        /// The id.
        keyid: KeyId,
    },
    /// Fewer distinct keys than the threshold vouch for the document.
    #[error("{role}: {have} of {need} required signatures")]
    Threshold {
        /// The role.
        role: String,
        /// Distinct listed keys with a valid signature.
        have: u64,
        /// The role's threshold.
        need: u64,
    },
    /// A root that is not the successor of the trusted one (5.3.5).
    #[error("root: version {found} where {expected} must follow")]
    RootVersion {
        /// Trusted version + 1.
        expected: u64,
        /// The version offered.
        found: u64,
    },
    /// Older than what was seen before (5.4.3, 5.5.5).
    #[error("{role}: version {offered} is older than version {held}, seen before")]
    Rollback {
        /// The role.
        role: String,
        /// The highest version seen.
        held: u64,
        /// The version offered.
        offered: u64,
    },
    /// A role that a trusted snapshot listed is gone from the new one (5.5.5).
    #[error("snapshot: role {role}, seen before, is missing from it")]
    RoleRemoved {
        /// The role.
        role: String,
    },
    /// A version that was seen before, with other content.
    #[error("{role}: version {version} was seen before with other content")]
    Equivocation {
        /// The role.
        role: String,
        /// The version.
        version: u64,
    },
    /// Not what a floor says was seen: what is wrong, and which floor says so. Its verdict is that of what is wrong.
    #[error("{}", below(floor, unmet))]
    Floor {
        /// The floor, for example `the floor /etc/plimsoll/floor.json`.
        floor: String,
        /// [`Error::Rollback`], [`Error::RoleRemoved`] or [`Error::Equivocation`], as if it had been seen here.
        unmet: Box<Error>,
    },
    /// The bytes do not have a hash that the referring document lists (5.5.2, 5.6.2).
    #[error("{role}: its {algorithm} is not the one that {referrer} lists")]
    Hash {
        /// The role.
        role: String,
        /// The document that lists it.
        referrer: &'static str,
        /// Hash algorithm, or `known hash` if none of the listed ones is known.
        algorithm: String,
    },
    /// The bytes do not have the length that the referring document lists.
    #[error("{role}: {found} bytes where {expected} are listed")]
    Length {
        /// The role.
        role: String,
        /// The listed length.
        expected: u64,
        /// The length found.
        found: u64,
    },
    /// The version is not the one that the referring document lists (5.5.4, 5.6.4).
    #[error("{role}: version {found} where version {expected} is listed")]
    Version {
        /// The role.
        role: String,
        /// The listed version.
        expected: u64,
        /// The version found.
        found: u64,
    },
    /// Past its expiry (5.3.10, 5.4.4, 5.5.6, 5.6.5).
    #[error("{role}: version {version} expired at {}", super::metadata::format_time(.expires))]
    Expired {
        /// The role.
        role: String,
        /// Its version.
        version: u64,
        /// When it expired.
        expires: DateTime<Utc>,
    },
    /// A document of another trust repository.
    #[error("{role}: belongs to trust id {found}, not to {expected}")]
    Identity {
        /// The role.
        role: String,
        /// The id of the trusted root.
        expected: String,
        /// The id found, or `none`.
        found: String,
    },
    /// A document of a view that was not asked for.
    #[error("{role}: belongs to the view `{view}`, which was not asked for")]
    View {
        /// The role.
        role: String,
        /// The view.
        view: String,
    },
    /// A role is delegated to but no snapshot names it.
    #[error(
        "{role}: delegated to, but the snapshot lists no version of it: nothing was published under it yet"
    )]
    NotInSnapshot {
        /// The role.
        role: String,
    },
    /// Nobody delegates to the role.
    #[error("{role}: {delegator} does not delegate to it")]
    NotDelegated {
        /// The role.
        role: String,
        /// The role that was said to delegate.
        delegator: String,
    },
    /// The search for a name would go deeper or wider than its limits.
    #[error("{role}: the search for `{name}` goes beyond {limit}")]
    SearchLimit {
        /// The role it stopped at.
        role: String,
        /// The name searched for.
        name: String,
        /// Which limit.
        limit: &'static str,
    },
    /// A step was taken out of order: an expired or missing earlier role.
    #[error("{role}: {missing} must be verified first")]
    Order {
        /// The role.
        role: String,
        /// What is missing.
        missing: &'static str,
    },
}

impl Error {
    /// What is wrong, whether it was seen here or a floor says so.
    pub fn without_floor(&self) -> &Self {
        match self {
            Self::Floor { unmet, .. } => unmet,
            other => other,
        }
    }
}

/// What is wrong by the word of `floor`.
fn below(floor: &str, unmet: &Error) -> String {
    match unmet {
        Error::Rollback { role, held, offered } => {
            format!("{role}: version {offered} is older than version {held}, which {floor} says was seen")
        }
        Error::RoleRemoved { role } => {
            format!("snapshot: role {role}, which {floor} says was seen, is missing from it")
        }
        Error::Equivocation { role, version } => {
            format!("{role}: version {version} has other content than {floor} says was seen")
        }
        other => format!("{other}, says {floor}"),
    }
}
