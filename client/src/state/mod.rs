//! Trusted state on disk: what a client remembers to refuse rollback (docs/architecture.md, "Trusted state").
//!
//! One folder per trust id and view, never per address, so that a mirror does not reset the memory:
//!
//! ```text
//! <state>/<trust id>/whole/
//!     lock            locked while a process updates, and so is the folder itself
//!     memory.json     the high-water record: the highest versions seen, and when
//!     snapshots/<sha256>.json
//!                     part of the record: the snapshot that it names, which lists the versions of all roles
//!     root.json       the newest root; roots/N.json every root since the pinned one
//!     timestamp.json snapshot.json targets.json roles/<sha256 of the name>.json
//!                     cached documents. Lost or torn: fetched again and held to the record
//!     entry.json      which `:latest` the last complete update saw
//! ```
//!
//! The record is written before the document it speaks of, and its copy of the snapshot before the record. If the
//! process dies in between, the document counts as torn and is fetched again: the memory can be ahead of the cache,
//! never behind it. A record that is lost or torn is never a fresh start: everything stops ([`StateError::MemoryLost`]).
//!
//! Where the disk is full or read-only, what is there still counts, and writing fails with an error that says so
//! ([`StateError::is_unwritable`]).

mod error;
mod files;
mod lock;
mod place;
#[cfg(test)]
mod tests;

use std::{io, os::unix::fs::MetadataExt, path::Path, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core::{
    oci::Digest,
    record,
    tuf::{Floor, HighWater, SnapshotMark, limit},
};
use serde::{Deserialize, Serialize};

pub use error::StateError;
use files::{clear, is_spoilt};
pub use files::{create_private_folder, read, replace};
pub(crate) use lock::{Lock, lock, lock_alone};
pub use place::{Place, StateKey};

/// Room for the hashes of all roles that a snapshot has room for, should it have stopped listing them: of one role
/// the record keeps 78 bytes more than the 22 that a snapshot takes at least, so less than five times its length.
const MAX_MEMORY: u64 = 5 * limit::SNAPSHOT;
const MAX_ENTRY: u64 = 64 * 1024;
/// The time of the last complete update is written again when it is older than this, so that not each one writes.
const TIME_STEP: TimeDelta = TimeDelta::minutes(10);
/// A clock may be set back by so much before it counts as wrong.
const MAX_STEP_BACK: TimeDelta = TimeDelta::hours(1);

/// Which `:latest` the last complete update saw. A hint that saves requests; nothing is trusted for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The trust repository it was read from.
    pub repository: String,
    /// The registry's ETag.
    pub etag: Option<String>,
    /// sha256 of the manifest.
    pub digest: Digest,
}

/// A state folder under its lock, which is held until this is dropped.
#[derive(Debug)]
pub struct State {
    place: Place,
    memory: Option<HighWater>,
    /// When the last update was complete.
    seen: Option<DateTime<Utc>>,
    /// Shared with others who cannot write if the folder cannot be written; none if it has no lock file then, either.
    _lock: Option<Lock>,
    /// Why nothing is to be written.
    stopped: Option<io::Error>,
}

impl State {
    /// Opens the folders of `place`, creating them if needed, and waits up to `patience` for the lock.
    ///
    /// Folders that cannot be written are opened as they are, empty if they are not there; writing fails then. Any number
    /// of processes may have such folders open at a time, and others may read them; nobody may write them.
    ///
    /// # Errors
    /// [`StateError`]; [`StateError::MemoryLost`] if documents are there without a sound record.
    pub async fn open(place: &Place, patience: Duration) -> Result<Self, StateError> {
        let mut state = Self { place: place.clone(), memory: None, seen: None, _lock: None, stopped: None };
        for path in place.folders() {
            match create_private_folder(&path).map_err(|source| StateError::Write { path, source }) {
                Err(error) if !error.is_unwritable() => return Err(error),
                Err(StateError::Write { source, .. }) => state.stopped = Some(source),
                _ => {}
            }
        }
        let own = place.own();
        let mode = match std::fs::metadata(&own) {
            Ok(metadata) => metadata.mode(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                state.stop_writing();
                return Ok(state);
            }
            Err(source) => return Err(StateError::Read { path: own, source }),
        };
        // What others can write is no memory of ours.
        if mode & 0o022 != 0 {
            return Err(StateError::Permissions { path: own, mode: mode & 0o7777 });
        }
        for path in place.above() {
            let mode = match std::fs::metadata(&path) {
                Ok(metadata) => metadata.mode(),
                Err(source) => return Err(StateError::Read { path, source }),
            };
            // Who can put another folder in the place of ours can make us forget; with the sticky bit nobody can.
            if mode & 0o022 != 0 && mode & 0o1000 == 0 {
                return Err(StateError::Permissions { path, mode: mode & 0o7777 });
            }
        }
        let mut lock = lock(&place.lock(), patience).await?;
        match lock.as_mut().map(|lock| lock.unwritable.take()) {
            Some(None) => place.folders().iter().chain([&own]).for_each(|folder| clear(folder)),
            // Others may hold this lock too.
            Some(Some(why)) => {
                state.stopped.get_or_insert(why);
            }
            // Should there be room on the disk later, others could write at the same time.
            None => state.stop_writing(),
        }
        state._lock = lock;
        // What is shared read-only has to be readable; what we can write is nobody else's business.
        if mode & 0o077 != 0 && state.stopped.is_none() {
            return Err(StateError::Permissions { path: own, mode: mode & 0o7777 });
        }
        if let Some(record) = state.read_record()? {
            (state.memory, state.seen) = (Some(record.memory), record.seen);
        }
        Ok(state)
    }

    /// Opens the folders of `place` to read what is there, as it is: makes nothing, and waits for nobody. Without the lock
    /// another process may replace one file after the other meanwhile, each as a whole, so nothing may rest on two of them
    /// being of the same time. Writing fails.
    ///
    /// # Errors
    /// [`StateError::MemoryLost`], [`StateError::Read`].
    pub fn look(place: &Place) -> Result<Self, StateError> {
        let mut state = Self { place: place.clone(), memory: None, seen: None, _lock: None, stopped: None };
        state.stop_writing();
        if let Some(record) = state.read_record()? {
            (state.memory, state.seen) = (Some(record.memory), record.seen);
        }
        Ok(state)
    }

    /// The record as it was found or last written; none on first use.
    pub fn memory(&self) -> Option<&HighWater> {
        self.memory.as_ref()
    }

    /// Refuses every write from now on, as a disk that takes none. To be called once one has failed: what comes after it
    /// may rest on what was not written.
    pub fn stop_writing(&mut self) {
        self.stopped.get_or_insert(io::ErrorKind::ReadOnlyFilesystem.into());
    }

    /// Refuses a clock that stands more than an hour before the last complete update. An update is only complete while
    /// its timestamp is fresh, or as stale as the policy allows, so a clock that once was ahead locks nobody out for longer
    /// than that.
    ///
    /// # Errors
    /// [`StateError::ClockBehind`].
    pub fn check_clock(&self, now: DateTime<Utc>) -> Result<(), StateError> {
        self.seen.map_or(Ok(()), |seen| check_clock(now, seen))
    }

    /// When the last update was complete here, UTC, to within 10 minutes; none before the first.
    pub fn seen(&self) -> Option<DateTime<Utc>> {
        self.seen
    }

    /// Remembers that an update was complete at `now`, to within 10 minutes.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub fn put_time(&mut self, now: DateTime<Utc>) -> Result<(), StateError> {
        match &self.memory {
            Some(memory) if self.seen.is_none_or(|seen| seen + TIME_STEP <= now) => {
                self.write_record(memory.clone(), Some(now))
            }
            _ => Ok(()),
        }
    }

    /// The cached document of `role`, if there is one.
    ///
    /// # Errors
    /// [`StateError::Read`]; one that is too large counts as torn.
    pub fn document(&self, role: &str) -> Result<Option<Vec<u8>>, StateError> {
        self.read(&self.place.document(role), limit::of(role))
    }

    /// The root of `version` that was once trusted here.
    ///
    /// # Errors
    /// [`StateError::Read`].
    pub fn root(&self, version: u64) -> Result<Option<Vec<u8>>, StateError> {
        self.read(&self.place.root(version), limit::ROOT)
    }

    /// The oldest root that was trusted here, and its version: the pinned one, if the folder was made with it.
    ///
    /// # Errors
    /// [`StateError::Read`].
    pub fn oldest_root(&self) -> Result<Option<(u64, Vec<u8>)>, StateError> {
        let path = self.place.own().join("roots");
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::Read { path, source }),
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let versions = names.filter_map(|name| name.trim_end_matches(".json").parse().ok());
        let Some(version) = versions.min() else { return Ok(None) };
        Ok(self.root(version)?.map(|bytes| (version, bytes)))
    }

    /// The snapshot that the record names. Of its two copies one may be torn; it is made good if the disk lets us.
    ///
    /// # Errors
    /// [`StateError::MemoryLost`] if both are: nothing is left to hold a new snapshot to. [`StateError::Read`].
    pub fn held_snapshot(&self, seen: &SnapshotMark) -> Result<Vec<u8>, StateError> {
        let paths = [self.place.snapshot(&seen.digest), self.place.document("snapshot")];
        let mut sound = None;
        let mut torn = None;
        for path in &paths {
            match self.read(path, limit::SNAPSHOT)? {
                Some(bytes) if Digest::of(&bytes) == seen.digest => sound = Some(bytes),
                _ => torn = Some(path),
            }
        }
        let [path, _] = &paths;
        let bytes = sound.ok_or_else(|| StateError::MemoryLost { path: path.clone() })?;
        if let Some(torn) = torn {
            // One copy is enough to go on with, so a disk that cannot be written is no fault here.
            let _ = self.write(torn, &bytes);
        }
        Ok(bytes)
    }

    /// What the last complete update saw, if it can be read; it is only a hint.
    ///
    /// # Errors
    /// [`StateError::Read`].
    pub fn entry(&self) -> Result<Option<Entry>, StateError> {
        let bytes = self.read(&self.place.entry(), MAX_ENTRY)?;
        Ok(bytes.and_then(|bytes| record::json(&bytes).ok()))
    }

    /// Persists a root that verified, and the record that speaks of it.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub fn put_root(&mut self, version: u64, bytes: &[u8], memory: &HighWater) -> Result<(), StateError> {
        self.put_memory(memory)?;
        self.write(&self.place.root(version), bytes)?;
        self.write(&self.place.document("root"), bytes)
    }

    /// Persists a snapshot that verified, and the record that names it. If this fails after the record was written, its
    /// copy stands in for the document.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub fn put_snapshot(&mut self, bytes: &[u8], memory: &HighWater) -> Result<(), StateError> {
        let copy = self.place.snapshot(&Digest::of(bytes));
        self.write(&copy, bytes)?;
        if let Err(error) = self.put_memory(memory) {
            // If nobody speaks of the copy, it only fills the disk. A write may have failed after it was done, though.
            let named = self.read_record()?.and_then(|record| record.memory.snapshot);
            if named.is_none_or(|named| named.digest != Digest::of(bytes)) {
                let _ = std::fs::remove_file(&copy);
            }
            return Err(error);
        }
        self.write(&self.place.document("snapshot"), bytes)?;
        // Older copies are of no use any more. One that stays behind is removed with the next snapshot.
        for entry in std::fs::read_dir(self.place.own().join("snapshots")).into_iter().flatten().flatten() {
            if entry.path() != copy {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// Persists a document of `role` that verified, and the record that speaks of it.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub fn put(&mut self, role: &str, bytes: &[u8], memory: &HighWater) -> Result<(), StateError> {
        self.put_memory(memory)?;
        self.write(&self.place.document(role), bytes)
    }

    /// Persists that an update is complete under this `:latest`.
    ///
    /// # Errors
    /// [`StateError::Write`].
    ///
    /// # Panics
    /// Never: strings always serialise.
    pub fn put_entry(&self, entry: &Entry) -> Result<(), StateError> {
        let bytes = serde_json::to_vec(entry).expect("strings always serialise");
        self.write(&self.place.entry(), &bytes)
    }

    /// Forgets what the last complete update saw: the next one asks for everything.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub fn forget_entry(&self) -> Result<(), StateError> {
        let path = self.place.entry();
        if let Some(source) = self.refusal() {
            return Err(StateError::Write { path, source });
        }
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(StateError::Write { path, source })
            }
            _ => Ok(()),
        }
    }

    fn put_memory(&mut self, memory: &HighWater) -> Result<(), StateError> {
        if self.memory.as_ref() == Some(memory) {
            return Ok(());
        }
        self.write_record(memory.clone(), self.seen)
    }

    fn write_record(&mut self, memory: HighWater, seen: Option<DateTime<Utc>>) -> Result<(), StateError> {
        let mut record = Record { sha256: String::new(), memory, seen };
        record.sha256 = record.sum();
        let bytes = serde_json::to_vec(&record).expect("versions and digests always serialise");
        self.write(&self.place.memory(), &bytes)?;
        (self.memory, self.seen) = (Some(record.memory), record.seen);
        Ok(())
    }

    /// The record, checked against its own sum. Its absence is a first use only if no document is there.
    fn read_record(&self) -> Result<Option<Record>, StateError> {
        let path = self.place.memory();
        let lost = || StateError::MemoryLost { path: path.clone() };
        let bytes = match read(&path, MAX_MEMORY) {
            Ok(bytes) => bytes,
            // One that is only closed to us is not lost.
            Err(error) if is_spoilt(&error) && error.kind() != io::ErrorKind::PermissionDenied => {
                return Err(lost());
            }
            Err(source) => return Err(StateError::Read { path, source }),
        };
        match bytes {
            Some(bytes) => {
                let record: Record = record::json(&bytes).map_err(|_| lost())?;
                if record.sum() == record.sha256 { Ok(Some(record)) } else { Err(lost()) }
            }
            None => {
                let traces =
                    ["root", "timestamp", "snapshot", "targets"].map(|role| self.place.document(role));
                let copies = std::fs::read_dir(self.place.own().join("snapshots"));
                let copied = copies.is_ok_and(|mut copies| copies.next().is_some());
                if copied || traces.iter().any(|path| path.exists()) { Err(lost()) } else { Ok(None) }
            }
        }
    }

    fn read(&self, path: &Path, cap: u64) -> Result<Option<Vec<u8>>, StateError> {
        match read(path, cap) {
            Ok(bytes) => Ok(bytes),
            Err(error) if is_spoilt(&error) => Ok(None),
            Err(source) => Err(StateError::Read { path: path.to_owned(), source }),
        }
    }

    fn refusal(&self) -> Option<io::Error> {
        self.stopped.as_ref().map(|why| io::Error::new(why.kind(), why.to_string()))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StateError> {
        let written = match self.refusal() {
            Some(error) => Err(error),
            None => replace(path, bytes, 0o600),
        };
        written.map_err(|source| StateError::Write { path: path.to_owned(), source })
    }
}

/// Refuses a clock that shows `now`, more than an hour before the time `seen`, when an update was complete.
///
/// # Errors
/// [`StateError::ClockBehind`].
pub fn check_clock(now: DateTime<Utc>, seen: DateTime<Utc>) -> Result<(), StateError> {
    if now + MAX_STEP_BACK < seen { Err(StateError::ClockBehind { now, seen }) } else { Ok(()) }
}

/// The same for the time that `floor` names.
///
/// # Errors
/// [`StateError::ClockBehindFloor`].
pub fn check_floor(now: DateTime<Utc>, floor: &Floor) -> Result<(), StateError> {
    let as_of = floor.as_of;
    check_clock(now, as_of).map_err(|_| StateError::ClockBehindFloor { now, floor: floor.called(), as_of })
}

/// The record with a sum over it: a torn or half-edited one is noticed.
#[derive(Serialize, Deserialize)]
struct Record {
    sha256: String,
    memory: HighWater,
    /// When the last update was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<DateTime<Utc>>,
}

impl Record {
    fn sum(&self) -> String {
        let bytes = serde_json::to_vec(&(&self.memory, &self.seen));
        Digest::of(&bytes.expect("versions, digests and times always serialise")).hex()
    }
}
