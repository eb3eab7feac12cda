//! Trusted state on disk: what a client remembers to refuse rollback (docs/architecture.md, "Trusted state").
//!
//! One folder per trust id and view, never per address, so that a mirror does not reset the memory:
//!
//! ```text
//! <state>/<trust id>/whole/
//!     lock            held while a process updates
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

mod files;
mod place;

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core::{
    oci::Digest,
    tuf::{HighWater, SnapshotMark, limit},
};
use serde::{Deserialize, Serialize};

pub use files::{create_private_folder, read, replace};
pub use place::{Place, StateKey};

/// Room for the hashes of 100,000 roles that a repository stopped listing.
const MAX_MEMORY: u64 = 32 * 1024 * 1024;
const MAX_ENTRY: u64 = 64 * 1024;
/// The time of the last complete update is written again when it is older than this, so that not each one writes.
const TIME_STEP: TimeDelta = TimeDelta::minutes(10);
/// A clock may be set back by so much before it counts as wrong.
const MAX_STEP_BACK: TimeDelta = TimeDelta::hours(1);

/// Why trusted state cannot be used. Never a reason to trust anything.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The record is gone or torn while documents are there.
    #[error(
        "rollback memory lost: {} is missing or damaged; run `plimsoll trust reset NAME` to start over with the pinned \
         root, after you made sure that nobody tampered with the folder",
        path.display()
    )]
    MemoryLost {
        /// The record.
        path: PathBuf,
    },
    /// Reading failed.
    #[error("cannot read trusted state at {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Writing failed; what was trusted before stays.
    #[error("cannot write trusted state at {}: what was trusted before stays", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder is open to others.
    #[error("{} is open to others (mode {mode:o}): run `chmod 700 {}`", path.display(), path.display())]
    Permissions {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// An update was complete here at a later time than it is now: by this clock, what expired could be fresh again.
    #[error(
        "this machine's clock shows {}, but trust metadata was fresh here at {}: set the clock",
        now.format("%Y-%m-%d %H:%M UTC"), seen.format("%Y-%m-%d %H:%M UTC")
    )]
    ClockBehind {
        /// The time now.
        now: DateTime<Utc>,
        /// When the last update was complete, to within 10 minutes.
        seen: DateTime<Utc>,
    },
    /// Another process held the lock for too long.
    #[error("{} is held by another plimsoll process for more than {} s", path.display(), waited.as_secs())]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
}

impl StateError {
    /// True if the disk is full or the folder cannot be written: what was trusted before is as it was.
    pub fn is_unwritable(&self) -> bool {
        matches!(self, Self::Write { source, .. } if matches!(
            source.kind(),
            io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::ReadOnlyFilesystem
                | io::ErrorKind::PermissionDenied
        ))
    }
}

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
    /// None if the folder cannot be written and has none, so that nobody can write.
    _lock: Option<File>,
}

impl State {
    /// Opens the folders of `place`, creating them if needed, and waits up to `patience` for the lock.
    ///
    /// Folders that cannot be written are opened as they are, empty if they are not there; writing fails then.
    ///
    /// # Errors
    /// [`StateError`]; [`StateError::MemoryLost`] if documents are there without a sound record.
    pub async fn open(place: &Place, patience: Duration) -> Result<Self, StateError> {
        for path in place.folders() {
            match create_private_folder(&path).map_err(|source| StateError::Write { path, source }) {
                Err(error) if !error.is_unwritable() => return Err(error),
                _ => {}
            }
        }
        let mut state = Self { place: place.clone(), memory: None, seen: None, _lock: None };
        let own = place.own();
        let mode = match std::fs::metadata(&own) {
            Ok(metadata) => metadata.mode(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(state),
            Err(source) => return Err(StateError::Read { path: own, source }),
        };
        if mode & 0o077 != 0 {
            return Err(StateError::Permissions { path: own, mode: mode & 0o7777 });
        }
        state._lock = lock(&place.lock(), patience).await?;
        if let Some(record) = state.read_record()? {
            (state.memory, state.seen) = (Some(record.memory), record.seen);
        }
        Ok(state)
    }

    /// The record as it was found or last written; none on first use.
    pub fn memory(&self) -> Option<&HighWater> {
        self.memory.as_ref()
    }

    /// Refuses a clock that stands more than an hour before the last complete update. An update is only complete while
    /// its timestamp is fresh, so a clock that once was ahead locks nobody out for longer than a timestamp lives.
    ///
    /// # Errors
    /// [`StateError::ClockBehind`].
    pub fn check_clock(&self, now: DateTime<Utc>) -> Result<(), StateError> {
        match self.seen {
            Some(seen) if now + MAX_STEP_BACK < seen => Err(StateError::ClockBehind { now, seen }),
            _ => Ok(()),
        }
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
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
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
            // Nobody speaks of the copy, so it would only fill the disk.
            let _ = std::fs::remove_file(&copy);
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
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Err(lost()),
            Err(source) => return Err(StateError::Read { path, source }),
        };
        match bytes {
            Some(bytes) => {
                let record: Record = serde_json::from_slice(&bytes).map_err(|_| lost())?;
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
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(None),
            Err(source) => Err(StateError::Read { path: path.to_owned(), source }),
        }
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StateError> {
        replace(path, bytes, 0o600).map_err(|source| StateError::Write { path: path.to_owned(), source })
    }
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

/// The lock on `path`; none if the file is not there and cannot be made.
async fn lock(path: &Path, patience: Duration) -> Result<Option<File>, StateError> {
    let failed = |source| StateError::Write { path: path.to_owned(), source };
    let mut writable = OpenOptions::new();
    writable.create(true).truncate(false).write(true).mode(0o600);
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let file = match writable.open(path).map_err(failed) {
            Ok(file) => file,
            // A lock needs no right to write.
            Err(error) if error.is_unwritable() => match File::open(path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(source) => return Err(failed(source)),
            },
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) if is_at(&file, path) => return Ok(Some(file)),
            // Somebody put another file in its place while we waited.
            Ok(()) => {}
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) if tokio::time::Instant::now() >= deadline => {
                return Err(StateError::Busy { path: path.to_owned(), waited: patience });
            }
            Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// True if `path` is the name of the open `file`.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_core::tuf::Mark;

    use super::*;

    async fn open(base: &Path) -> Result<State, StateError> {
        let key = StateKey::of(b"root", Some("0123456789abcdef0123456789abcdef"));
        State::open(&Place::keyed(base, &key), Duration::from_millis(50)).await
    }

    fn memory(version: u64) -> HighWater {
        let mark = Mark { version, digest: Some(Digest::of(b"t")) };
        HighWater { timestamp: Some(mark), ..HighWater::default() }
    }

    #[tokio::test]
    async fn what_was_put_is_there_again() {
        let base = tempfile::tempdir().unwrap();
        let mut state = open(base.path()).await.unwrap();
        assert!(state.memory().is_none());
        state.put("timestamp", b"t", &memory(3)).unwrap();
        state.put("../x", b"r", &memory(3)).unwrap();
        drop(state);
        let state = open(base.path()).await.unwrap();
        assert_eq!(state.memory(), Some(&memory(3)));
        assert_eq!(state.document("timestamp").unwrap().unwrap(), b"t");
        assert_eq!(state.document("../x").unwrap().unwrap(), b"r");
        assert_eq!(state.document("snapshot").unwrap(), None);
    }

    /// T15.
    #[tokio::test]
    async fn a_clock_that_was_set_back_is_noticed_after_a_restart() {
        let base = tempfile::tempdir().unwrap();
        let at = |minutes: i64| DateTime::<Utc>::from_timestamp(1_800_000_000 + minutes * 60, 0).unwrap();
        let mut state = open(base.path()).await.unwrap();
        state.put("timestamp", b"t", &memory(3)).unwrap();
        state.check_clock(at(-10_000)).unwrap();
        state.put_time(at(0)).unwrap();
        let path = state.place.memory();
        let written = std::fs::read(&path).unwrap();
        state.put_time(at(9)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), written);
        state.put_time(at(10)).unwrap();
        // Never back.
        state.put_time(at(5)).unwrap();
        state.put("timestamp", b"t", &memory(4)).unwrap();
        drop(state);
        let state = open(base.path()).await.unwrap();
        state.check_clock(at(-50)).unwrap();
        let refused = state.check_clock(at(-51));
        assert!(
            matches!(refused, Err(StateError::ClockBehind { seen, .. }) if seen == at(10)),
            "{refused:?}"
        );
    }

    /// T12.
    #[tokio::test]
    async fn a_lost_or_torn_record_fails_closed() {
        let base = tempfile::tempdir().unwrap();
        let mut state = open(base.path()).await.unwrap();
        state.put("timestamp", b"t", &memory(3)).unwrap();
        let path = state.place.memory();
        drop(state);
        let good = std::fs::read(&path).unwrap();
        let lower = String::from_utf8(good.clone()).unwrap().replace("\"version\":3", "\"version\":1");
        for bad in [&good[..good.len() / 2], b"", b"{}", lower.as_bytes()] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(open(base.path()).await, Err(StateError::MemoryLost { .. })));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(open(base.path()).await, Err(StateError::MemoryLost { .. })));
    }

    /// T12: the snapshot lists the versions of the roles. One sound copy is enough and makes the other good.
    #[tokio::test]
    async fn the_snapshot_of_the_record_survives_the_loss_of_either_copy() {
        let base = tempfile::tempdir().unwrap();
        let mut state = open(base.path()).await.unwrap();
        let seen = |bytes: &[u8]| {
            let (digest, length) = (Digest::of(bytes), bytes.len() as u64);
            SnapshotMark { version: 1, digest, length, expires: DateTime::UNIX_EPOCH }
        };
        for bytes in [b"first".as_slice(), b"second"] {
            let memory = HighWater { snapshot: Some(seen(bytes)), ..memory(3) };
            state.put_snapshot(bytes, &memory).unwrap();
        }
        let copy = state.place.snapshot(&Digest::of(b"second"));
        let cached = state.place.document("snapshot");
        // The copy before is gone.
        assert!(matches!(state.held_snapshot(&seen(b"first")), Err(StateError::MemoryLost { .. })));
        for torn in [&copy, &cached] {
            for bad in [Some(b"seco".as_slice()), None] {
                match bad {
                    Some(bytes) => std::fs::write(torn, bytes).unwrap(),
                    None => std::fs::remove_file(torn).unwrap(),
                }
                assert_eq!(state.held_snapshot(&seen(b"second")).unwrap(), b"second");
                assert_eq!(std::fs::read(torn).unwrap(), b"second");
            }
        }
        for path in [&copy, &cached] {
            std::fs::write(path, b"torn").unwrap();
        }
        let lost = state.held_snapshot(&seen(b"second"));
        assert!(matches!(lost, Err(StateError::MemoryLost { ref path }) if *path == copy), "{lost:?}");
    }

    #[tokio::test]
    async fn a_folder_open_to_others_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let base = tempfile::tempdir().unwrap();
        let folder = open(base.path()).await.unwrap().place.own();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(open(base.path()).await, Err(StateError::Permissions { mode: 0o750, .. })));
    }

    #[tokio::test]
    async fn one_process_at_a_time() {
        let base = tempfile::tempdir().unwrap();
        let held = open(base.path()).await.unwrap();
        assert!(matches!(open(base.path()).await, Err(StateError::Busy { .. })));
        drop(held);
        open(base.path()).await.unwrap();
    }
}
