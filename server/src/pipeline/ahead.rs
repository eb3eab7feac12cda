//! Going on above what others may have signed: after a restore, and for a store that is behind the registry. Pure.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use plimsoll::publish::author;
use plimsoll_core::{
    oci::Digest,
    tuf::{Document, Root, Snapshot, Timestamp},
};

use super::{
    check::{self, Held, Offered},
    plan::{self, Base},
    round::{RoundError, signer},
};
use crate::{
    freshness::{ClockBehind, ClockFault, Freshness},
    keys::{Keyring, OnlineRole},
    store::{Head, RoleHead},
};

/// No daemon signs more often than it can flush its disk: timestamps in a second, at most.
const PER_SECOND: u64 = 1000;
/// Versions skipped at least: clocks differ.
const AT_LEAST: u64 = 100_000;

/// The newest online documents that are known, verified, and the root they are under.
#[derive(Debug, Clone)]
pub(crate) struct Newest {
    /// The newest root.
    pub(crate) root: Bytes,
    /// The newest timestamp.
    pub(crate) timestamp: Bytes,
    /// The snapshot that it names.
    pub(crate) snapshot: Bytes,
}

/// Signs the next snapshot and timestamp at `now`, of versions above all that may have been signed since
/// `newest.timestamp`, and adds them to `documents` and `head`. Gives what the operator should know.
///
/// Pure: the caller stores documents and head in one commit.
///
/// # Errors
/// [`RoundError::NoKey`], [`RoundError::Clock`], [`RoundError::Check`], [`RoundError::Stored`].
pub(crate) fn go_on(
    newest: &Newest,
    keys: &Keyring,
    freshness: &Freshness,
    now: DateTime<Utc>,
    head: &mut Head,
    documents: &mut Vec<(String, u64, Bytes)>,
) -> Result<Vec<String>, RoundError> {
    let root = Document::<Root>::parse("root", &newest.root).map_err(RoundError::Stored)?.signed;
    let snapshot =
        Document::<Snapshot>::parse("snapshot", &newest.snapshot).map_err(RoundError::Stored)?.signed;
    let timestamp =
        Document::<Timestamp>::parse("timestamp", &newest.timestamp).map_err(RoundError::Stored)?.signed;
    let signed = timestamp.common.identity.as_ref().map(|identity| identity.at);
    if let Some(signed) = signed.into_iter().chain(head.last_signed).max().filter(|signed| now < *signed) {
        return Err(ClockFault::from(ClockBehind { now, signed }).into());
    }
    let below = timestamp.common.version.max(snapshot.common.version).saturating_add(skipped(signed, now));
    let mut from = snapshot;
    from.common.version = below;
    let trust = root.common.identity.as_ref().map(|identity| identity.trust.clone()).unwrap_or_default();
    let base = Base { trust: &trust, snapshot: Some(&from), timestamp_version: below };
    let plan = plan::plan(&base, &[], true, freshness, now);
    let snapshot = plan.snapshot.as_ref().expect("it was asked for");
    let snapshot_bytes = Bytes::from(author::sign(snapshot, &[signer(keys, OnlineRole::Snapshot, &root)?])?);
    let version = snapshot.common.version;
    let timestamp = plan.timestamp(version, &snapshot_bytes);
    let timestamp_bytes =
        Bytes::from(author::sign(&timestamp, &[signer(keys, OnlineRole::Timestamp, &root)?])?);
    let held = Held {
        root: newest.root.clone(),
        timestamp: Some(newest.timestamp.clone()),
        snapshot: Some(newest.snapshot.clone()),
    };
    let client = held.client(now).map_err(RoundError::Stored)?;
    // The walk from the first root is made when the daemon starts on this.
    let offered = Offered {
        roots: vec![],
        chain: None,
        timestamp: Arc::new(Document::parse("timestamp", &timestamp_bytes).map_err(RoundError::Stored)?),
        snapshot: Arc::new(Document::parse("snapshot", &snapshot_bytes).map_err(RoundError::Stored)?),
        roles: vec![],
        targets: None,
    };
    let (_, reports) = check::check(&client, &offered, now).map_err(RoundError::Check)?;
    for (role, bytes) in [("snapshot", snapshot_bytes), ("timestamp", timestamp_bytes)] {
        let entry = RoleHead { version, digest: Digest::of(&bytes), length: bytes.len() as u64 };
        head.roles.insert(role.to_owned(), entry);
        documents.push((role.to_owned(), version, bytes));
    }
    head.last_signed = Some(now);
    Ok(reports)
}

/// How many versions may have been signed from `signed` to `now`.
fn skipped(signed: Option<DateTime<Utc>>, now: DateTime<Utc>) -> u64 {
    let since = signed.map_or(TimeDelta::days(365), |signed| now - signed);
    AT_LEAST + PER_SECOND * u64::try_from(since.num_seconds()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_skipped_than_can_have_been_signed() {
        let at = DateTime::UNIX_EPOCH;
        assert_eq!(skipped(Some(at), at), AT_LEAST);
        assert_eq!(skipped(Some(at), at + TimeDelta::hours(1)), AT_LEAST + 3_600_000);
        assert_eq!(skipped(Some(at + TimeDelta::hours(1)), at), AT_LEAST, "a clock ahead of ours");
        assert_eq!(skipped(None, at), AT_LEAST + 31_536_000_000);
    }
}
