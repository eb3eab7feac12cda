//! What the daemon must not forget: role documents, the head that names the current ones, and which submissions were
//! taken.
//!
//! [`Store`] is the contract that the pipeline stands on. [`SledStore`] keeps it on one machine's disk,
//! [`MemoryStore`] keeps it in memory and fails on demand.

#[cfg(test)]
mod contract;
mod mark;
mod memory;
mod open;
mod sled;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use plimsoll_core::oci::{Digest, RepositoryAddress};
use serde::{Deserialize, Serialize};

pub(crate) use self::open::OPENER;
pub use self::{
    memory::{FailAt, MemoryStore},
    sled::SledStore,
};

/// One trust repository and view. Everything in a [`Store`] is kept apart by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustKey {
    /// The daemon's name for the trust repository. Any text.
    pub name: String,
    /// The view's name; empty for the whole repository, the only one there is today.
    pub view: String,
}

impl TrustKey {
    /// The whole of the trust repository `name`.
    pub fn whole(name: impl Into<String>) -> Self {
        Self { name: name.into(), view: String::new() }
    }
}

/// The current version of one role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleHead {
    /// The version inside the document.
    pub version: u64,
    /// sha256 of the document's bytes.
    pub digest: Digest,
    /// Length of the document in bytes.
    pub length: u64,
}

/// What the registry was last known to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Version of the timestamp under `:latest`.
    pub timestamp_version: u64,
    /// Digest of the manifest under `:latest`.
    pub manifest: Digest,
    /// When it was read back from the registry, UTC.
    pub at: DateTime<Utc>,
    /// Where, as [`Published::place`] has it; none if that is not known, as in what earlier versions stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<Digest>,
}

impl Published {
    /// What stands for `repository`: sha256 of `HOST/REPOSITORY`.
    pub fn place(repository: &RepositoryAddress) -> Digest {
        Digest::of(repository.to_string().as_bytes())
    }

    /// False if it was read back from another repository than `place`.
    pub fn is_at(&self, place: &Digest) -> bool {
        self.repository.is_none_or(|repository| repository == *place)
    }
}

/// The current state of one trust repository. The default is the state before the first commit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Counts commits; 0 before the first.
    pub sequence: u64,
    /// Every role in use: the four top-level ones and all delegated ones.
    pub roles: BTreeMap<String, RoleHead>,
    /// Names of roles that were once used and removed: never given to others (TUF 1.0.34, section 5.5.5, keeps them in
    /// the snapshot).
    pub retired: BTreeSet<String>,
    /// When the online keys last signed, UTC.
    pub last_signed: Option<DateTime<Utc>>,
    /// What the registry was last known to show. Moved by [`Store::record_published`].
    pub published: Option<Published>,
    /// The newest timestamp version that was taken over from elsewhere, when the store was rebuilt or caught up: of those
    /// up to it, the store may lack some that our keys signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_over: Option<u64>,
}

/// One accepted submission: it took effect in one timestamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmissionRecord {
    /// The submission's id, hex.
    pub id: String,
    /// The role versions it brought.
    pub roles: BTreeMap<String, u64>,
    /// The first timestamp that covers them.
    pub timestamp_version: u64,
    /// When it was accepted, UTC.
    pub at: DateTime<Utc>,
}

/// What [`Store::commit`] stores in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// New documents: role, the version inside, and the bytes exactly as they will be published.
    pub documents: Vec<(String, u64, Bytes)>,
    /// What changes of the head: its `roles` and `retired` are added to those stored, so that a commit costs as much as it
    /// brings; the rest takes the place of what is stored. Its `sequence` is the stored one plus 1.
    pub head: Head,
    /// Submissions that this commit accepts. A record whose id is already stored replaces the stored one.
    pub submissions: Vec<SubmissionRecord>,
}

/// The daemon's memory.
///
/// **Atomic**: a commit is stored whole or not at all, whatever ends the process. **Durable**: what a call returned
/// `Ok` for, and whatever any call reads, survives `kill -9` and loss of power; nothing is ever read that could still be
/// lost. **Ordered**: commits to one [`TrustKey`] form one line, [`Head::sequence`] 1, 2, 3, …; who planned on an
/// older head gets [`StoreError::Conflict`] and has stored nothing.
///
/// Synchronous and blocking (disk, `fsync`): async callers use a blocking thread. Calls from several threads are safe;
/// writers wait for each other and readers wait for a writer.
///
/// **Which errors may be retried**: [`StoreError::Unavailable`], as it stands, since nothing was stored.
/// [`StoreError::Conflict`], after planning again on a fresh [`Store::head`]. After [`StoreError::Uncertain`] the
/// write may or may not be stored: read [`Store::head`] before anything else; where that answers
/// [`StoreError::Stopped`], the store must be opened again first. No other error goes away by itself.
pub trait Store: Send + Sync + 'static {
    /// The current head, [`Head::default`] if nothing was committed yet.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Damaged`], [`StoreError::Stopped`].
    fn head(&self, trust: &TrustKey) -> Result<Head, StoreError>;

    /// The bytes stored for `version` of `role`.
    ///
    /// # Errors
    /// As for [`Store::head`].
    fn document(&self, trust: &TrustKey, role: &str, version: u64) -> Result<Option<Bytes>, StoreError>;

    /// The stored versions of `role`, ascending.
    ///
    /// # Errors
    /// As for [`Store::head`].
    fn versions(&self, trust: &TrustKey, role: &str) -> Result<Vec<u64>, StoreError>;

    /// The record of the submission `id`, if it was accepted.
    ///
    /// # Errors
    /// As for [`Store::head`].
    fn submission(&self, trust: &TrustKey, id: &str) -> Result<Option<SubmissionRecord>, StoreError>;

    /// Up to `most` records of submissions, by id, those after the id `after`.
    ///
    /// # Errors
    /// As for [`Store::head`].
    fn submissions(
        &self,
        trust: &TrustKey,
        after: &str,
        most: usize,
    ) -> Result<Vec<SubmissionRecord>, StoreError>;

    /// Stores documents, head and submissions in one step; all are durable on return.
    ///
    /// Of the stored `published` and the one in `commit.head` the newer is kept, so a plan made before
    /// [`Store::record_published`] does not undo it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the sequence is not the successor of the stored one; [`StoreError::Rewrite`] if a
    /// version is already stored with other bytes (the same bytes are fine); nothing is stored then. [`StoreError::Uncertain`] if
    /// it failed while writing. Further as for [`Store::head`].
    fn commit(&self, trust: &TrustKey, commit: &Commit) -> Result<(), StoreError>;

    /// Records what the registry shows; durable on return, the head's sequence unchanged.
    ///
    /// Only moves forward: a record with a lower `timestamp_version` than the stored one is `Ok` and changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Uncertain`] if it failed while writing. Further as for [`Store::head`].
    fn record_published(&self, trust: &TrustKey, published: &Published) -> Result<(), StoreError>;
}

/// Why a store refused or failed. Which of these may be retried stands at [`Store`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The commit was planned on another head than the stored one. Nothing was stored.
    #[error("the head has moved: the next commit is number {expected}, not {found}")]
    Conflict {
        /// The successor of the stored sequence.
        expected: u64,
        /// The sequence that the commit carried.
        found: u64,
    },
    /// A role version may have one content only (promise P7). Nothing was stored.
    #[error("version {version} of role `{role}` exists with other bytes")]
    Rewrite {
        /// Name of the role.
        role: String,
        /// The version that exists.
        version: u64,
    },
    /// Another process has this folder open.
    #[error("{} is in use by another process: is a second plimsolld running?", path.display())]
    InUse {
        /// The store's folder.
        path: PathBuf,
    },
    /// The folder could not be made, opened or read.
    #[error("cannot open the store in {}", path.display())]
    Open {
        /// The store's folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// What is on disk cannot be read as a store.
    #[error(
        "the store in {} is damaged: {detail}; `plimsolld doctor` says more, and docs/operations.md, A lost store, what to do",
        path.display()
    )]
    Damaged {
        /// The store's folder.
        path: PathBuf,
        /// What is wrong, for people.
        detail: String,
    },
    /// Reading failed, or writing before anything was stored.
    #[error("the store did not answer; nothing was changed")]
    Unavailable {
        /// The system's reason.
        source: io::Error,
    },
    /// Writing failed half-way: after a restart it is stored whole or not at all.
    #[error("the store failed while writing; it may or may not be stored")]
    Uncertain {
        /// The system's reason.
        source: io::Error,
    },
    /// A write failed earlier, so what this process reads might not be on disk: open the store again.
    #[error("the store in {} stopped after a failed write and must be opened again", path.display())]
    Stopped {
        /// The store's folder.
        path: PathBuf,
    },
}

impl Head {
    /// This head after `commit`.
    pub fn apply(&mut self, commit: &Commit) {
        let Head { sequence, roles, retired, last_signed, published, taken_over } = &commit.head;
        self.sequence = *sequence;
        self.roles.extend(roles.iter().map(|(role, head)| (role.clone(), *head)));
        self.retired.extend(retired.iter().cloned());
        self.last_signed = *last_signed;
        self.published = newer(self.published, *published);
        self.taken_over = *taken_over;
    }
}

/// The checks that every store makes before it stores `commit`. Of the head `stored`, the roles are not looked at.
fn admit(
    stored: &Head,
    commit: &Commit,
    mut existing: impl FnMut(&str, u64) -> Result<Option<Bytes>, StoreError>,
) -> Result<(), StoreError> {
    let (expected, found) = (stored.sequence.saturating_add(1), commit.head.sequence);
    if expected != found {
        return Err(StoreError::Conflict { expected, found });
    }
    let mut new: BTreeMap<(&str, u64), &Bytes> = BTreeMap::new();
    for (role, version, bytes) in &commit.documents {
        let twice = new.insert((role, *version), bytes).is_some_and(|other| other != bytes);
        if twice || existing(role, *version)?.is_some_and(|other| other != bytes) {
            return Err(StoreError::Rewrite { role: role.clone(), version: *version });
        }
    }
    Ok(())
}

/// The one of the newer timestamp; of equals, `offered`.
pub(crate) fn newer(stored: Option<Published>, offered: Option<Published>) -> Option<Published> {
    match (stored, offered) {
        (Some(stored), Some(offered)) if stored.timestamp_version > offered.timestamp_version => Some(stored),
        (stored, offered) => offered.or(stored),
    }
}
