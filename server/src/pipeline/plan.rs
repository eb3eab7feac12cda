//! plan: which snapshot and timestamp follow from what was accepted. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use plimsoll_core::tuf::{Identity, MetaFile, Snapshot, Timestamp, metadata::Common};

use super::accept::RoleDocument;
use crate::freshness::Freshness;

/// The online documents to be signed.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// A new snapshot, if a role changed or the old one ages.
    pub(super) snapshot: Option<Snapshot>,
    /// The version of the timestamp.
    pub(super) timestamp_version: u64,
    pub(super) trust: String,
    pub(super) now: DateTime<Utc>,
    pub(super) freshness: Freshness,
}

/// What a plan starts from.
#[derive(Debug, Clone)]
pub(super) struct Base<'a> {
    pub(super) trust: &'a str,
    /// The newest snapshot, if there is one.
    pub(super) snapshot: Option<&'a Snapshot>,
    pub(super) timestamp_version: u64,
}

/// Plans the next online documents at `now`. `changed` are the role documents that take effect; `root` is not among
/// those that a snapshot lists.
pub(super) fn plan(
    base: &Base<'_>,
    changed: &[(String, RoleDocument)],
    snapshot_due: bool,
    freshness: &Freshness,
    now: DateTime<Utc>,
) -> Plan {
    let listed: Vec<_> = changed.iter().filter(|(role, ..)| role != "root").collect();
    let snapshot = (!listed.is_empty() || snapshot_due || base.snapshot.is_none()).then(|| {
        // 5.5.5: a role once listed stays listed, also when nobody delegates to it any more.
        let mut meta = base.snapshot.map(|snapshot| snapshot.meta.clone()).unwrap_or_default();
        for (role, document) in listed {
            let bytes = document.verbatim();
            let listed = MetaFile::named(document.version(), bytes.len() as u64, &bytes.digest());
            meta.insert(format!("{role}.json"), listed);
        }
        let version = base.snapshot.map_or(0, |snapshot| snapshot.common.version) + 1;
        Snapshot {
            common: common("snapshot", version, now, freshness.snapshot_validity, base.trust),
            meta,
            extra: BTreeMap::new(),
        }
    });
    Plan {
        snapshot,
        timestamp_version: base.timestamp_version + 1,
        trust: base.trust.to_owned(),
        now,
        freshness: *freshness,
    }
}

impl Plan {
    /// The timestamp for the snapshot whose bytes are `snapshot`.
    pub(super) fn timestamp(&self, version: u64, snapshot: &[u8]) -> Timestamp {
        Timestamp {
            common: common(
                "timestamp",
                self.timestamp_version,
                self.now,
                self.freshness.timestamp_validity,
                &self.trust,
            ),
            meta: BTreeMap::from([("snapshot.json".to_owned(), MetaFile::of(version, snapshot))]),
            extra: BTreeMap::new(),
        }
    }
}

fn common(role: &str, version: u64, now: DateTime<Utc>, life: chrono::TimeDelta, trust: &str) -> Common {
    Common::new(role, version, now + life, Identity::new(trust, now))
}
