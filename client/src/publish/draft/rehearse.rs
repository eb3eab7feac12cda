//! A rehearsal: would every client get to the new root, and go on from there? Pure: no I/O, no clock.

use chrono::{DateTime, Utc};
use plimsoll_core::tuf::{
    self, Document, KeyId, MAX_ROOT_STEPS, RoleType, Root, Snapshot, Targets, Timestamp, Trusted, verify,
};
use serde::Serialize;

use super::Draft;

/// What the daemon signed last. Clients go on with it until it signs again.
#[derive(Debug, Clone, Copy)]
pub struct Live<'a> {
    /// The timestamp.
    pub timestamp: &'a [u8],
    /// The snapshot it names.
    pub snapshot: &'a [u8],
    /// The present `targets`; none before the first one.
    pub targets: Option<&'a [u8]>,
}

/// What a rehearsal found out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rehearsed {
    /// The root versions from which a client was led to the new one.
    pub from: Vec<u64>,
    /// The version of the new root.
    pub to: u64,
    /// Clients that hold this root version or an older one need more than one run to get there: a run takes 256 steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_from: Option<u64>,
}

/// Why clients would not come along.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RehearsalError {
    /// A client would stop on its way.
    #[error("a client that holds root version {from} would stop at root version {at}")]
    Root {
        /// The root it holds.
        from: u64,
        /// The root that it would not take.
        at: u64,
        /// Why.
        source: tuf::Error,
    },
    /// A role would not count any more.
    #[error("under root version {root}, clients would refuse {role}")]
    Role {
        /// The new root's version.
        root: u64,
        /// The role.
        role: String,
        /// Why.
        source: tuf::Error,
    },
}

/// Leads a client from every root that the draft knows to its new root, at `now`, and lets it verify what it finds
/// there: the new `targets`, or the present one; and, unless their keys are replaced, the present timestamp and snapshot.
/// Their expiry is not looked at: the daemon signs them anew.
///
/// None if the draft changes no root.
///
/// # Errors
/// [`RehearsalError`].
pub fn rehearse(
    draft: &Draft,
    live: Option<Live<'_>>,
    now: DateTime<Utc>,
) -> Result<Option<Rehearsed>, RehearsalError> {
    let Some(next) = draft.next_root() else { return Ok(None) };
    let mut from = Vec::new();
    for (at, held) in draft.roots().iter().enumerate() {
        walk(held, draft.roots()[at + 1..].iter().chain([next]), now)?;
        from.push(held.version());
    }
    if draft.is_first() {
        walk(next, [], now)?;
    }
    let root = &next.signed;
    let targets =
        draft.next_targets().find(|(role, _)| *role == "targets").map(|(_, targets)| &targets.bytes);
    match (targets, live.and_then(|live| live.targets)) {
        (Some(targets), _) => {
            let targets = counts::<Targets>("targets", root, targets)?;
            targets.check_expiry("targets", now).map_err(|source| refused("targets", root, source))?;
        }
        (None, Some(targets)) => drop(counts::<Targets>("targets", root, targets)?),
        (None, None) => {}
    }
    if let Some(live) = live {
        let before = draft.roots().last().map(|root| &root.signed);
        if before.is_some_and(|before| keys(before, "timestamp") == keys(root, "timestamp")) {
            counts::<Timestamp>("timestamp", root, live.timestamp)?;
        }
        if before.is_some_and(|before| keys(before, "snapshot") == keys(root, "snapshot")) {
            counts::<Snapshot>("snapshot", root, live.snapshot)?;
        }
    }
    let to = next.version();
    let slow_from = to.checked_sub(MAX_ROOT_STEPS + 1).filter(|version| *version > 0);
    Ok(Some(Rehearsed { from, to, slow_from }))
}

/// A client that holds the root `held` takes `roots`, one after the other.
fn walk<'a>(
    held: &Document<Root>,
    roots: impl IntoIterator<Item = &'a Document<Root>>,
    now: DateTime<Utc>,
) -> Result<(), RehearsalError> {
    let from = held.version();
    let stopped = |at| move |source| RehearsalError::Root { from, at, source };
    let mut client = Trusted::new(&held.bytes, now).map_err(stopped(from))?;
    for root in roots {
        client.update_root(&root.bytes).map_err(stopped(root.version()))?;
    }
    let at = client.root().version();
    client.finish_root().map_err(stopped(at))
}

/// The document, if `root` vouches for it.
fn counts<T: RoleType>(role: &str, root: &Root, bytes: &[u8]) -> Result<Document<T>, RehearsalError> {
    let document = Document::<T>::parse(role, bytes).map_err(|source| refused(role, root, source))?;
    let (keyids, threshold) = keys(root, role);
    verify(document.clone(), role, &root.keys, keyids, threshold)
        .map_err(|source| refused(role, root, source))?;
    Ok(document)
}

fn keys<'a>(root: &'a Root, role: &str) -> (&'a [KeyId], u64) {
    let keys = &root.roles[role];
    (&keys.keyids, keys.threshold)
}

fn refused(role: &str, root: &Root, source: tuf::Error) -> RehearsalError {
    RehearsalError::Role { root: root.common.version, role: role.to_owned(), source }
}
