//! Opening sled in a guarded way: it can hang, panic or refuse on damaged files.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use ::sled::{Db, Error as SledError, Mode};
use plimsoll_core::record;

use super::{Head, StoreError};

/// The name of the thread that opens a store, and catches sled's panics.
pub(crate) const OPENER: &str = "store-open";
/// How long sled may take to replay its log before it counts as hanging.
const OPEN_LIMIT: Duration = Duration::from_secs(30);
/// sled's page cache in bytes; its own default is 1 GiB.
const CACHE: u64 = 32 << 20;
/// A thread of a [`Db`] that was just dropped can hold sled's lock for a moment: waits of 20 ms.
const LOCK_WAITS: u32 = 50;

/// Makes the folder, or takes it away from other users, and locks it for this process.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path.join("lock"))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Why sled did not open.
#[derive(Debug)]
pub(super) enum Refusal {
    Locked,
    Io(io::Error),
    Damaged(String),
    /// The thread that opens it is still at it, so it must not be tried again.
    Hangs,
}

impl Refusal {
    pub(super) fn into_error(self, path: &Path) -> StoreError {
        let path = path.to_owned();
        match self {
            Self::Locked => StoreError::InUse { path },
            Self::Io(source) => StoreError::Open { path, source },
            Self::Damaged(detail) => StoreError::Damaged { path, detail },
            Self::Hangs => {
                let detail = format!("sled did not open it within {} s", OPEN_LIMIT.as_secs());
                StoreError::Damaged { path, detail }
            }
        }
    }
}

/// Opens sled on a thread of its own, catching its panics and giving up on it after [`OPEN_LIMIT`].
pub(super) fn open_guarded(folder: &Path) -> Result<Db, Refusal> {
    let (send, receive) = mpsc::sync_channel(1);
    let folder = folder.to_owned();
    thread::Builder::new()
        .name(OPENER.to_owned())
        .spawn(move || {
            let opened = catch_unwind(AssertUnwindSafe(|| open_sled(&folder))).unwrap_or_else(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
                Err(Refusal::Damaged(format!("sled panicked: {text}")))
            });
            // Fails only if the receiver gave up; the store then closes here.
            let _ = send.send(opened);
        })
        .map_err(Refusal::Io)?;
    match receive.recv_timeout(OPEN_LIMIT) {
        Ok(opened) => opened,
        Err(_) => Err(Refusal::Hangs),
    }
}

fn open_sled(folder: &Path) -> Result<Db, Refusal> {
    let config = ::sled::Config::new()
        .path(folder)
        .mode(Mode::LowSpace)
        .cache_capacity(CACHE)
        // Every write flushes by itself.
        .flush_every_ms(None);
    let mut waits = 0;
    let db = loop {
        match config.open() {
            Err(SledError::Io(e)) if e.to_string().contains("could not acquire lock") => {
                if waits == LOCK_WAITS {
                    return Err(Refusal::Locked);
                }
                waits += 1;
                thread::sleep(Duration::from_millis(20));
            }
            other => break other.map_err(refusal)?,
        }
    };
    // Reads each head once, so that a damaged log shows here, where it is guarded.
    for head in db.scan_prefix(b"h") {
        let (_, value) = head.map_err(refusal)?;
        record::json::<Head>(&value).map_err(|e| Refusal::Damaged(format!("a head does not parse: {e}")))?;
    }
    Ok(db)
}

fn refusal(error: SledError) -> Refusal {
    match error {
        SledError::Io(e)
            if !matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
        {
            Refusal::Io(e)
        }
        other => Refusal::Damaged(other.to_string()),
    }
}

/// Renames the chosen `snap.*` files and tells how many there were.
///
/// The new name does not begin with `snap.`: sled takes every file that does for a snapshot, whatever its ending.
pub(super) fn set_aside(folder: &Path, chosen: impl Fn(&str) -> bool) -> io::Result<usize> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    let mut count = 0;
    for entry in entries {
        let name = entry?.file_name();
        let Some(name) = name.to_str().filter(|n| n.starts_with("snap.") && chosen(n)) else { continue };
        fs::rename(folder.join(name), folder.join(format!("torn-{name}")))?;
        count += 1;
    }
    Ok(count)
}

/// Makes the names in a folder durable; a folder that is not there has none.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder) {
        Ok(folder) => folder.sync_all(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}
