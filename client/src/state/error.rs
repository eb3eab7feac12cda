//! Why trusted state cannot be used.

use std::{io, path::PathBuf, time::Duration};

use chrono::{DateTime, Utc};

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
    /// The folder is open to others, or one above it can be written by them.
    #[error("{} is open to others (mode {mode:o}): run `chmod 700 {}`", path.display(), path.display())]
    Permissions {
        /// The folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// An update was complete at a later time than it is now: by this clock, what expired could be fresh again.
    #[error(
        "this machine's clock shows {}, but trust metadata was fresh at {}: set the clock",
        now.format("%Y-%m-%d %H:%M UTC"), seen.format("%Y-%m-%d %H:%M UTC")
    )]
    ClockBehind {
        /// The time now.
        now: DateTime<Utc>,
        /// When the last update was complete, to within 10 minutes.
        seen: DateTime<Utc>,
    },
    /// The same, where a floor was written.
    #[error(
        "this machine's clock shows {}, but {floor} is as of {}: set the clock",
        now.format("%Y-%m-%d %H:%M UTC"), as_of.format("%Y-%m-%d %H:%M UTC")
    )]
    ClockBehindFloor {
        /// The time now.
        now: DateTime<Utc>,
        /// The floor, for example `the floor /etc/plimsoll/floor.json`.
        floor: String,
        /// When that was written down.
        as_of: DateTime<Utc>,
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
        matches!(self, Self::Write { source, .. } if is_unwritable(source))
    }
}

/// True if `error` says that the disk is full or does not let us write.
pub(super) fn is_unwritable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::PermissionDenied
    )
}
