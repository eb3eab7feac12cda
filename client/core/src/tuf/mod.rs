//! The client workflow of TUF 1.0.34, section 5, without I/O: bytes and one fixed `now` in, verdict out.
//!
//! [`Trusted`] has one method per role in spec order and [`Search`] walks the delegations; whoever drives them fetches
//! what they ask for. A document that was not verified has another type ([`Document`]) than one that was ([`Verified`]).

mod bounds;
mod document;
mod error;
mod floor;
pub mod json;
mod key;
pub mod metadata;
mod object;
mod pattern;
mod recall;
mod search;
mod signers;
mod trusted;
mod verify;

pub use bounds::Bounds;
pub use document::{Document, MAX_SIGNATURES, Signature, Verbatim, assemble};
pub use error::Error;
pub use floor::{Floor, FloorError, Vouched};
pub use key::{Key, KeyError, KeyId, PublicKey};
pub use metadata::{
    DelegatedRole, Delegations, Identity, MetaFile, Revocation, RoleKeys, RoleType, Root, SPEC_VERSION,
    Snapshot, SuccinctRoles, Target, Targets, Timestamp, TrustId, expires,
};
pub use object::Json;
pub use pattern::{matches, within};
pub use recall::{Recall, TakenBack};
pub use search::{Found, MAX_DEPTH, MAX_ROLE_NAME, MAX_ROLES, Outcome, Search, Step};
pub use signers::Signers;
pub use trusted::{HighWater, MAX_ROOT_STEPS, Mark, SnapshotMark, TimestampUpdate, Trusted};
pub use verify::{MAX_VERIFICATIONS, Verified, distinct_signers, verify};

/// Limits on the size of each file, in bytes. A role's META `length` in the snapshot narrows them.
pub mod limit {
    /// Root documents.
    pub const ROOT: u64 = 512 * 1024;
    /// The timestamp document.
    pub const TIMESTAMP: u64 = 16 * 1024;
    /// The snapshot document: room for 50,000 roles with hashes.
    pub const SNAPSHOT: u64 = 8 * 1024 * 1024;
    /// Targets documents, top level and delegated.
    pub const TARGETS: u64 = 8 * 1024 * 1024;

    /// The limit for `role`.
    pub fn of(role: &str) -> u64 {
        match role {
            "root" => ROOT,
            "timestamp" => TIMESTAMP,
            "snapshot" => SNAPSHOT,
            _ => TARGETS,
        }
    }
}
