//! Trusted state on disk: what a client remembers to refuse rollback (docs/architecture.md, "Trusted state").
//!
//! One folder per trust id and view, never per address, so that a mirror does not reset the memory:
//!
//! ```text
//! <state>/<trust id>/whole/
//!     lock            held while a process updates
//!     memory.json     the high-water record: the highest versions seen, and when. Lost or torn: fail closed
//!     root.json       the newest root; roots/N.json every root since the pinned one
//!     timestamp.json snapshot.json targets.json roles/<sha256 of the name>.json
//!                     cached documents. Lost or torn: fetched again and held to the record
//!     entry.json      which `:latest` the last complete update saw
//! ```
//!
//! The record is written before the document it speaks of. If the process dies in between, the document counts as torn
//! and is fetched again: the memory can be ahead of the cache, never behind it.

mod files;

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
    tuf::{HighWater, limit},
};
use serde::{Deserialize, Serialize};

pub use files::{create_private_folder, read, replace};

/// The view that covers a whole trust repository; the only one there is today.
const WHOLE: &str = "whole";
/// The record names every role: room for 100,000.
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

/// The key of a state folder: a trust id, or for foreign repositories the sha256 of the pinned root, in hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateKey(String);

impl StateKey {
    /// The key of the trust repository that the pinned root starts.
    pub fn of(root: &[u8], trust_id: Option<&str>) -> Self {
        match trust_id {
            // Only what is safe as a folder name is taken as it is; an odd id is hashed like a foreign root.
            Some(id) if id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) => {
                Self(id.to_owned())
            }
            Some(id) => Self(Digest::of(id.as_bytes()).hex()),
            None => Self(Digest::of(root).hex()),
        }
    }

    /// The folder below `base`.
    pub fn folder(&self, base: &Path) -> PathBuf {
        base.join(&self.0).join(WHOLE)
    }

    /// The folder below `base` with all views, what a reset removes.
    pub fn all_views(&self, base: &Path) -> PathBuf {
        base.join(&self.0)
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
    folder: PathBuf,
    memory: Option<HighWater>,
    /// When the last update was complete.
    seen: Option<DateTime<Utc>>,
    _lock: File,
}

impl State {
    /// Opens the folder of `key` below `base`, creating it if needed, and waits up to `patience` for its lock.
    ///
    /// # Errors
    /// [`StateError`]; [`StateError::MemoryLost`] if documents are there without a sound record.
    pub async fn open(base: &Path, key: &StateKey, patience: Duration) -> Result<Self, StateError> {
        let folder = key.folder(base);
        let roles = folder.join("roles");
        for folder in [&roles, &folder.join("roots")] {
            create_private_folder(folder)
                .map_err(|source| StateError::Write { path: folder.clone(), source })?;
        }
        let mode = std::fs::metadata(&folder)
            .map_err(|source| StateError::Read { path: folder.clone(), source })?
            .mode();
        if mode & 0o077 != 0 {
            return Err(StateError::Permissions { path: folder, mode: mode & 0o7777 });
        }
        let lock = lock(&folder.join("lock"), patience).await?;
        let mut state = Self { folder, memory: None, seen: None, _lock: lock };
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
        self.read(&self.document_path(role), limit::of(role))
    }

    /// The root of `version` that was once trusted here.
    ///
    /// # Errors
    /// [`StateError::Read`].
    pub fn root(&self, version: u64) -> Result<Option<Vec<u8>>, StateError> {
        self.read(&self.root_path(version), limit::ROOT)
    }

    /// What the last complete update saw, if it can be read; it is only a hint.
    ///
    /// # Errors
    /// [`StateError::Read`].
    pub fn entry(&self) -> Result<Option<Entry>, StateError> {
        let bytes = self.read(&self.folder.join("entry.json"), MAX_ENTRY)?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Persists a root that verified, and the record that speaks of it.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub fn put_root(&mut self, version: u64, bytes: &[u8], memory: &HighWater) -> Result<(), StateError> {
        self.put_memory(memory)?;
        self.write(&self.root_path(version), bytes)?;
        self.write(&self.document_path("root"), bytes)
    }

    /// Persists a document of `role` that verified, and the record that speaks of it.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub fn put(&mut self, role: &str, bytes: &[u8], memory: &HighWater) -> Result<(), StateError> {
        self.put_memory(memory)?;
        self.write(&self.document_path(role), bytes)
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
        self.write(&self.folder.join("entry.json"), &bytes)
    }

    /// Forgets what the last complete update saw: the next one asks for everything.
    ///
    /// # Errors
    /// [`StateError::Write`].
    pub fn forget_entry(&self) -> Result<(), StateError> {
        let path = self.folder.join("entry.json");
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
        self.write(&self.folder.join("memory.json"), &bytes)?;
        (self.memory, self.seen) = (Some(record.memory), record.seen);
        Ok(())
    }

    /// The record, checked against its own sum. Its absence is a first use only if no document is there.
    fn read_record(&self) -> Result<Option<Record>, StateError> {
        let path = self.folder.join("memory.json");
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
                    ["root", "timestamp", "snapshot", "targets"].map(|role| self.document_path(role));
                if traces.iter().any(|path| path.exists()) { Err(lost()) } else { Ok(None) }
            }
        }
    }

    fn document_path(&self, role: &str) -> PathBuf {
        match role {
            "root" | "timestamp" | "snapshot" | "targets" => self.folder.join(format!("{role}.json")),
            // Hashed, so that no role name is ever a path.
            _ => self.folder.join("roles").join(format!("{}.json", Digest::of(role.as_bytes()).hex())),
        }
    }

    fn root_path(&self, version: u64) -> PathBuf {
        self.folder.join("roots").join(format!("{version}.json"))
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

async fn lock(path: &Path, patience: Duration) -> Result<File, StateError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| StateError::Write { path: path.to_owned(), source })?;
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => {
                return Err(StateError::Write { path: path.to_owned(), source });
            }
            Err(TryLockError::WouldBlock) if tokio::time::Instant::now() >= deadline => {
                return Err(StateError::Busy { path: path.to_owned(), waited: patience });
            }
            Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_core::tuf::Mark;

    use super::*;

    async fn open(base: &Path) -> Result<State, StateError> {
        let key = StateKey::of(b"root", Some("0123456789abcdef0123456789abcdef"));
        State::open(base, &key, Duration::from_millis(50)).await
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
        let path = state.folder.join("memory.json");
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
        let path = state.folder.join("memory.json");
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

    #[tokio::test]
    async fn a_folder_open_to_others_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let base = tempfile::tempdir().unwrap();
        let folder = open(base.path()).await.unwrap().folder.clone();
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
