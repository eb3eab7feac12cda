//! A floor: what one machine saw of a trust repository, written down for machines that remember nothing.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    Document, HighWater, Key, KeyId, MetaFile, Root, Snapshot,
    json::{self, JsonError},
    trusted::Mark,
};
use crate::{oci::Digest, record};

/// The form that this version writes and reads.
const FORM: u64 = 1;

/// What one machine saw of one trust repository, as strict JSON. Whoever is held to it takes nothing older
/// (docs/ephemeral.md). It holds no secret, and only narrows what is trusted.
///
/// ```json
/// {
///   "floor": 1,
///   "trust": "00112233445566778899aabbccddeeff",
///   "pinned": "sha256:…",
///   "as-of": "2026-01-31T12:00:00Z",
///   "root": {"version": 3, "digest": "sha256:…"},
///   "timestamp": {"version": 812, "digest": "sha256:…", "keys": ["…"]},
///   "snapshot": {"version": 97, "digest": "sha256:…", "keys": ["…"]},
///   "roles": {"targets": {"version": 12, "digest": "sha256:…"}}
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Floor {
    /// What it is called in messages, its file as a rule; no part of the floor.
    #[serde(skip)]
    pub name: Option<String>,
    /// Always 1.
    floor: u64,
    /// The trust id, 32 hex digits; none for a foreign repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<String>,
    /// sha256 of the root document that was pinned; it says whose floor this is where there is no trust id.
    pub pinned: Digest,
    /// When the newest update was complete, UTC, to within 10 minutes; not before the timestamp was signed.
    #[serde(with = "super::expires")]
    pub as_of: DateTime<Utc>,
    /// The newest root.
    pub root: Mark,
    /// The newest timestamp.
    pub timestamp: Vouched,
    /// The newest snapshot.
    pub snapshot: Vouched,
    /// By role, the documents that were in use: `targets` and delegated roles. May be empty.
    pub roles: BTreeMap<String, Mark>,
}

/// A version, the sha256 of its bytes, and who could vouch for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vouched {
    /// The version.
    pub version: u64,
    /// sha256 of the document.
    pub digest: Digest,
    /// The keys that the root gave this role, each by the sha256 of its canonical form in hex. A later root that keeps
    /// too few of them lifts this mark: fast-forward recovery (5.3.11).
    pub keys: BTreeSet<KeyId>,
}

/// Why bytes are not a floor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FloorError {
    /// Not one strict JSON document.
    #[error("not strict JSON")]
    Json(#[from] JsonError),
    /// JSON, but not of a floor's shape.
    #[error("not a floor")]
    Shape(#[from] serde_json::Error),
    /// A form that this version does not know.
    #[error("a floor of form {found}, where this version reads form {FORM}")]
    Form {
        /// What `floor` says.
        found: u64,
    },
    /// A mark that nobody vouched for would be lifted at once.
    #[error("{role}: no keys")]
    NoKeys {
        /// `timestamp` or `snapshot`.
        role: &'static str,
    },
}

impl Floor {
    /// The floor of what `memory` remembers, complete at `as_of`: `pinned` started it, `root` and `snapshot` are the
    /// documents that the memory names, and `roles` those that were in use. None if the memory names no timestamp, or
    /// the documents are not the ones it names.
    pub fn of(
        pinned: &[u8],
        memory: &HighWater,
        root: &Document<Root>,
        snapshot: &Document<Snapshot>,
        roles: BTreeMap<String, Mark>,
        as_of: DateTime<Utc>,
    ) -> Option<Self> {
        let seen = (memory.root?, memory.timestamp?, memory.snapshot?);
        if seen.0.digest != Some(root.digest()) || seen.2.digest != snapshot.digest() {
            return None;
        }
        Some(Self {
            name: None,
            floor: FORM,
            trust: root.signed.common.identity.as_ref().map(|identity| identity.trust.clone()),
            pinned: Digest::of(pinned),
            as_of,
            root: seen.0,
            timestamp: Vouched {
                version: seen.1.version,
                digest: seen.1.digest?,
                keys: fingerprints(&root.signed, "timestamp"),
            },
            snapshot: Vouched {
                version: seen.2.version,
                digest: seen.2.digest,
                keys: fingerprints(&root.signed, "snapshot"),
            },
            roles,
        })
    }

    /// Reads a floor, strictly: unknown and repeated members are refused.
    ///
    /// # Errors
    /// [`FloorError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, FloorError> {
        json::check(bytes)?;
        let floor: Self = record::json(bytes)?;
        if floor.floor != FORM {
            return Err(FloorError::Form { found: floor.floor });
        }
        for (role, seen) in [("timestamp", &floor.timestamp), ("snapshot", &floor.snapshot)] {
            if seen.keys.is_empty() {
                return Err(FloorError::NoKeys { role });
            }
        }
        Ok(floor)
    }

    /// The floor as JSON, indented, ending in a line feed. Equal floors give equal bytes.
    ///
    /// # Panics
    /// Never: versions, digests and times always serialise.
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("versions, digests and times always serialise");
        text + "\n"
    }

    /// What it is called in a sentence: `the floor FILE`, or `the floor`.
    pub fn called(&self) -> String {
        self.name.as_ref().map_or_else(|| "the floor".to_owned(), |name| format!("the floor {name}"))
    }

    /// True if this is a floor of the trust repository that the pinned `root` starts: by its trust id, whichever of its
    /// roots is pinned; by the very root where there is none.
    pub fn is_of(&self, root: &Document<Root>) -> bool {
        match (&self.trust, &root.signed.common.identity) {
            (Some(trust), Some(identity)) => *trust == identity.trust,
            (None, None) => self.pinned == root.digest(),
            _ => false,
        }
    }

    /// What this says of `role`, `timestamp` or `snapshot`, if under `root` enough of the keys that vouched for it then
    /// still do.
    pub(super) fn vouched(&self, role: &str, root: &Root) -> Option<Mark> {
        let seen = if role == "timestamp" { &self.timestamp } else { &self.snapshot };
        let kept = fingerprints(root, role).intersection(&seen.keys).count() as u64;
        let holds = kept >= root.roles.get(role)?.threshold;
        holds.then_some(Mark { version: seen.version, digest: Some(seen.digest) })
    }
}

/// The keys that `root` gives `role`, by their material and not by the ids that they have there.
fn fingerprints(root: &Root, role: &str) -> BTreeSet<KeyId> {
    let ids = root.roles.get(role).map(|keys| keys.keyids.as_slice()).unwrap_or_default();
    ids.iter().filter_map(|id| Some(Key::new(&root.keys.get(id)?.public().ok()?).id())).collect()
}

impl MetaFile {
    /// The version and, if it is listed, the sha256: what a floor and the memory have of it.
    pub fn mark(&self) -> Mark {
        Mark { version: self.version, digest: self.digest() }
    }
}
