//! What is remembered of what was seen, and how what comes is compared with it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::super::{Document, Error, MetaFile, metadata::RoleType};
use crate::oci::Digest;

/// A version that was seen and, where known, the sha256 of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// The version.
    pub version: u64,
    /// sha256 of the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// What is remembered of the newest snapshot that verified. Its document lists the versions of all roles, so it is part
/// of the memory: whoever persists this persists the document too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMark {
    /// The version.
    pub version: u64,
    /// sha256 of the document.
    pub digest: Digest,
    /// Its length in bytes.
    pub length: u64,
    /// When it expires, UTC.
    #[serde(with = "super::super::metadata::expires")]
    pub expires: DateTime<Utc>,
}

/// The memory against rollback: the highest versions seen. It only grows, but for fast-forward recovery (5.3.11).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HighWater {
    /// The newest root.
    pub root: Option<Mark>,
    /// The newest timestamp.
    pub timestamp: Option<Mark>,
    /// The newest snapshot that a timestamp named.
    pub snapshot_named: Option<Mark>,
    /// The newest snapshot verified. The versions it lists, `targets` included, are the newest seen of every role.
    pub snapshot: Option<SnapshotMark>,
    /// The root version whose keys vouched for that timestamp and that snapshot last. Under this root, and no other, a
    /// document with the sha256 remembered is believed without verifying it again.
    pub under: Option<u64>,
    /// Roles whose hash an earlier snapshot listed while the newest one lists the same version without it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unlisted: BTreeMap<String, Mark>,
}

pub(in super::super) fn not_older(role: &str, held: u64, offered: u64) -> Result<(), Error> {
    if offered < held { Err(Error::Rollback { role: role.to_owned(), held, offered }) } else { Ok(()) }
}

pub(super) fn same_version(role: &str, expected: u64, found: u64) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::Version { role: role.to_owned(), expected, found }) }
}

pub(in super::super) fn same_if_known(role: &str, seen: Mark, now: Mark) -> Result<(), Error> {
    let differs = matches!((seen.digest, now.digest), (Some(a), Some(b)) if a != b);
    if seen.version == now.version && differs {
        return Err(Error::Equivocation { role: role.to_owned(), version: seen.version });
    }
    Ok(())
}

/// The marks remember sha256 alone; this compares what two documents list by any algorithm.
pub(super) fn same_hashes(role: &str, seen: &MetaFile, now: &MetaFile) -> Result<(), Error> {
    let (Some(known), Some(hashes)) = (&seen.hashes, &now.hashes) else { return Ok(()) };
    let differs = known.iter().any(|(algorithm, hash)| hashes.get(algorithm).is_some_and(|now| now != hash));
    if seen.version == now.version && differs {
        return Err(Error::Equivocation { role: role.to_owned(), version: seen.version });
    }
    Ok(())
}

/// A hash that is known for a version is not forgotten when a later document leaves it out.
pub(super) fn keep_known(seen: Mark, now: &mut Mark) {
    if seen.version == now.version {
        now.digest = now.digest.or(seen.digest);
    }
}

pub(super) fn mark<T: RoleType>(document: &Document<T>) -> Mark {
    Mark { version: document.version(), digest: Some(document.digest()) }
}
