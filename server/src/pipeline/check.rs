//! check: would the client's own verifier take what we are about to publish, after what it took before? Pure.

use std::collections::BTreeSet;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core::{
    oci::Digest,
    tuf::{self, Document, HighWater, Mark, Snapshot, SnapshotMark, Timestamp, TimestampUpdate, Trusted},
};

/// The documents a client holds after the last commit.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) root: Bytes,
    pub(super) timestamp: Option<Bytes>,
    pub(super) snapshot: Option<Bytes>,
}

/// The documents it will be offered.
#[derive(Debug)]
pub(super) struct Offered<'a> {
    pub(super) roots: Vec<&'a [u8]>,
    pub(super) timestamp: &'a [u8],
    pub(super) snapshot: &'a [u8],
    /// Changed targets roles, each with the roles on its path from `targets` down to itself.
    pub(super) roles: Vec<Vec<(String, Bytes)>>,
}

/// Runs the client workflow at `now` over what it holds and what it is offered.
///
/// A root or parent that has expired is the publisher's to renew and does not stop us: it is returned as a report, and
/// the rest is checked as of the last moment at which it was alive. So freshness goes on, and the renewal takes effect
/// the moment it comes.
///
/// # Errors
/// Any other refusal: publishing this would make clients refuse it.
pub(super) fn check(
    held: &Held,
    offered: &Offered<'_>,
    now: DateTime<Utc>,
) -> Result<Vec<String>, tuf::Error> {
    let mut at = now;
    let client = loop {
        match check_at(held, offered, at) {
            // Each step is strictly earlier than the one before, and each expiry is met once.
            Err(tuf::Error::Expired { role, expires, .. })
                if expires <= at && !matches!(role.as_str(), "timestamp" | "snapshot") =>
            {
                at = expires - TimeDelta::seconds(1);
            }
            other => break other?,
        }
    };
    let names: BTreeSet<&str> = offered.roles.iter().flatten().map(|(role, _)| role.as_str()).collect();
    let roles = names.into_iter().filter_map(|role| client.role(role)?.1.check_expiry(role, now).err());
    let root = client.root().check_expiry("root", now).err();
    Ok(root.into_iter().chain(roles).map(|error| error.to_string()).collect())
}

fn check_at(held: &Held, offered: &Offered<'_>, at: DateTime<Utc>) -> Result<Trusted, tuf::Error> {
    let mut client = Trusted::resume(&held.root, memory(held)?, held.timestamp.as_deref(), at)?;
    if let Some(snapshot) = &held.snapshot {
        client.hold_snapshot(snapshot)?;
    }
    for root in &offered.roots {
        client.update_root(root)?;
    }
    client.finish_root()?;
    if client.update_timestamp(offered.timestamp)? != TimestampUpdate::New {
        let version = Document::<Timestamp>::parse("timestamp", offered.timestamp)?.version();
        return Err(tuf::Error::Equivocation { role: "timestamp".to_owned(), version });
    }
    client.update_snapshot(offered.snapshot)?;
    for path in &offered.roles {
        let mut delegator = "root";
        for (role, bytes) in path {
            if !matches!(client.role(role), Some((by, _)) if by == delegator) {
                client.update_targets(role, delegator, bytes)?;
            }
            delegator = role;
        }
    }
    Ok(client)
}

/// What a client that took `held` remembers.
fn memory(held: &Held) -> Result<HighWater, tuf::Error> {
    let mark = |version, bytes: &[u8]| Some(Mark { version, digest: Some(Digest::of(bytes)) });
    let root = Document::<tuf::Root>::parse("root", &held.root)?;
    let mut memory = HighWater { root: mark(root.version(), &held.root), ..HighWater::default() };
    if let Some(bytes) = &held.timestamp {
        let timestamp = Document::<Timestamp>::parse("timestamp", bytes)?;
        let named = timestamp.signed.snapshot();
        memory.timestamp = mark(timestamp.version(), bytes);
        memory.snapshot_named = Some(Mark { version: named.version, digest: named.digest() });
    }
    if let Some(bytes) = &held.snapshot {
        let snapshot = Document::<Snapshot>::parse("snapshot", bytes)?;
        memory.snapshot = Some(SnapshotMark {
            version: snapshot.version(),
            digest: snapshot.digest(),
            length: bytes.len() as u64,
            expires: snapshot.signed.common.expires,
        });
    }
    Ok(memory)
}
