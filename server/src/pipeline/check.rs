//! check: would the client's own verifier take what we are about to publish? Pure.
//!
//! Asked twice: as a client that holds what was published before, and as one that comes fresh with the first root. Root,
//! timestamp, snapshot and the roles that changed must verify for both, each with the roles that lead to it; nothing else
//! keeps a round from being stored. `targets` that does not verify though nobody changed it, as after a root with other
//! keys, is its owners' to mend: a report.
//!
//! A fresh client walks along all roots. Each was verified from the one before it when it came, so the walk is made once
//! for each newest root, and once after each start of the daemon, which finds a chain that was damaged meanwhile; in
//! between a fresh client starts at the newest root.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core::{
    oci::Digest,
    tuf::{
        self, Document, HighWater, Mark, Snapshot, SnapshotMark, Targets, Timestamp, TimestampUpdate, Trusted,
    },
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
    /// Roots that came after the held one.
    pub(super) roots: Vec<&'a [u8]>,
    /// All roots, from version 1 to the newest, if the walk along them is to be made.
    pub(super) chain: Option<Vec<Bytes>>,
    pub(super) timestamp: Arc<Document<Timestamp>>,
    /// A new one, or the one that is held.
    pub(super) snapshot: Arc<Document<Snapshot>>,
    /// Changed targets roles, each with the roles on its path from `targets` down to itself.
    pub(super) roles: Vec<Vec<(String, Arc<Document<Targets>>)>>,
    /// `targets`, if it did not change and the snapshot, or the root, that vouch for it did.
    pub(super) targets: Option<Arc<Document<Targets>>>,
}

impl Held {
    /// A client that took these documents.
    ///
    /// # Errors
    /// [`tuf::Error`] if one cannot be read.
    pub(super) fn client(&self, now: DateTime<Utc>) -> Result<Trusted, tuf::Error> {
        let mut client = Trusted::resume(&self.root, memory(self)?, self.timestamp.as_deref(), now)?;
        if let Some(snapshot) = &self.snapshot {
            client.hold_snapshot(snapshot)?;
        }
        Ok(client)
    }
}

/// Runs the client workflow at `now` over what the client `held` holds and what it is offered. Gives that client after it,
/// and what the operator should know.
///
/// A root or parent that has expired is the publisher's to renew and does not stop us: it is returned as a report, and
/// the rest is checked as of the last moment at which it was alive. So freshness goes on, and the renewal takes effect
/// the moment it comes.
///
/// # Errors
/// Any other refusal: publishing this would make clients refuse it.
pub(super) fn check(
    held: &Trusted,
    offered: &Offered<'_>,
    now: DateTime<Utc>,
) -> Result<(Trusted, Vec<String>), tuf::Error> {
    let mut at = now;
    // With nothing new but the timestamp, it is all that a fresh client has not been shown before.
    let news = !offered.roots.is_empty()
        || offered.chain.is_some()
        || held.held_snapshot() != Some(&*offered.snapshot.bytes);
    let (client, mut reports) = loop {
        let client = warm(held, offered, at);
        let taken = client.and_then(|client| {
            let reports = if news { fresh(&client, offered, at)? } else { Vec::new() };
            Ok((client, reports))
        });
        match taken {
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
    reports.extend(root.into_iter().chain(roles).map(|error| error.to_string()));
    Ok((client, reports))
}

/// As a client that holds what was published before.
fn warm(held: &Trusted, offered: &Offered<'_>, at: DateTime<Utc>) -> Result<Trusted, tuf::Error> {
    let mut client = held.again(at);
    for root in &offered.roots {
        client.update_root(root)?;
    }
    take(&mut client, offered)?;
    Ok(client)
}

/// As a client that comes fresh, where `warm` came to. Returns what is wrong with `targets` and is not ours to judge.
fn fresh(warm: &Trusted, offered: &Offered<'_>, at: DateTime<Utc>) -> Result<Vec<String>, tuf::Error> {
    let mut client = match offered.chain.as_deref() {
        None | Some([]) => warm.afresh(at)?,
        Some([first, rest @ ..]) => {
            let mut client = Trusted::new(first, at)?;
            for root in rest {
                client.update_root(root)?;
            }
            client
        }
    };
    if client.root().bytes != *warm.root().bytes {
        let (expected, found) = (warm.root().version(), client.root().version());
        return Err(tuf::Error::RootVersion { expected, found });
    }
    take(&mut client, offered)?;
    let Some(targets) = &offered.targets else { return Ok(Vec::new()) };
    match client.take_targets("targets", "root", targets.clone()) {
        Ok(()) => Ok(Vec::new()),
        Err(error @ (tuf::Error::Threshold { .. } | tuf::Error::Expired { .. })) => {
            Ok(vec![error.to_string()])
        }
        Err(error) => Err(error),
    }
}

/// Everything after the roots.
fn take(client: &mut Trusted, offered: &Offered<'_>) -> Result<(), tuf::Error> {
    client.finish_root()?;
    if client.take_timestamp(offered.timestamp.clone())? != TimestampUpdate::New {
        let version = offered.timestamp.version();
        return Err(tuf::Error::Equivocation { role: "timestamp".to_owned(), version });
    }
    if !client.keep_snapshot()? {
        client.take_snapshot(offered.snapshot.clone())?;
    }
    for path in &offered.roles {
        let mut delegator = "root";
        for (role, document) in path {
            if !matches!(client.role(role), Some((by, _)) if by == delegator) {
                client.take_targets(role, delegator, document.clone())?;
            }
            delegator = role;
        }
    }
    Ok(())
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
