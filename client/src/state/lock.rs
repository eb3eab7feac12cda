//! The lock of a state folder: one process at a time updates it, and where none can write, all may read.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    time::Duration,
};

use super::{StateError, error::is_unwritable};

/// Held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    /// None where folders cannot be locked.
    _folder: Option<File>,
    _file: File,
    /// Why the folder cannot be written, if it cannot: then others who cannot either hold the lock too.
    pub(super) unwritable: Option<io::Error>,
}

enum Attempt {
    Held(Lock),
    Busy,
    /// There is no lock file, and none can be made.
    NoFile,
}

/// The lock of the folder that the lock file `path` is in, waited for up to `patience`: that of the folder itself, so
/// that a lock file which is deleted lets nobody in, and that of the file, since not every file system locks folders.
/// None if the file is not there and cannot be made. Who cannot write shares the lock with others who cannot, and keeps
/// out who can.
///
/// # Errors
/// [`StateError::Write`], with [`io::ErrorKind::NotFound`] if there is no folder; [`StateError::Busy`].
pub(crate) async fn lock(path: &Path, patience: Duration) -> Result<Option<Lock>, StateError> {
    let failed = |source| StateError::Write { path: path.to_owned(), source };
    if path.is_symlink() {
        return Err(failed(io::Error::other("it is a link")));
    }
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        match attempt(path).map_err(failed)? {
            Attempt::Held(lock) => return Ok(Some(lock)),
            Attempt::NoFile => return Ok(None),
            Attempt::Busy if tokio::time::Instant::now() >= deadline => {
                return Err(StateError::Busy { path: path.to_owned(), waited: patience });
            }
            Attempt::Busy => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// The lock as [`lock`] gives it, for who must be alone: it is not had where it could be shared, or cannot be written.
///
/// # Errors
/// As [`lock`].
pub(crate) async fn lock_alone(path: &Path, patience: Duration) -> Result<Lock, StateError> {
    let failed = |source| StateError::Write { path: path.to_owned(), source };
    match lock(path, patience).await? {
        Some(mut lock) => match lock.unwritable.take() {
            None => Ok(lock),
            Some(source) => Err(failed(source)),
        },
        None => Err(failed(io::ErrorKind::ReadOnlyFilesystem.into())),
    }
}

fn attempt(path: &Path) -> io::Result<Attempt> {
    let folder = path.parent().and_then(|folder| File::open(folder).ok());
    let Some((file, unwritable)) = open(path)? else { return Ok(Attempt::NoFile) };
    let lock = if unwritable.is_none() { File::try_lock } else { File::try_lock_shared };
    let folder = match folder.as_ref().map(lock) {
        Some(Err(TryLockError::WouldBlock)) => return Ok(Attempt::Busy),
        Some(Ok(())) => folder,
        // NFS locks only what is open for writing, which no folder can be. There the file is all there is.
        Some(Err(TryLockError::Error(_))) | None => None,
    };
    match lock(&file) {
        Ok(()) if is_at(&file, path) => Ok(Attempt::Held(Lock { _folder: folder, _file: file, unwritable })),
        // Held by another process, or another file was put in its place meanwhile.
        Ok(()) | Err(TryLockError::WouldBlock) => Ok(Attempt::Busy),
        Err(TryLockError::Error(source)) => Err(source),
    }
}

/// The lock file, made if it is missing, and why it cannot be written, if it cannot; none if it is missing and cannot be
/// made.
fn open(path: &Path) -> io::Result<Option<(File, Option<io::Error>)>> {
    let mut writable = OpenOptions::new();
    match writable.create(true).truncate(false).write(true).mode(0o600).open(path) {
        // A lock needs no right to write.
        Err(error) if is_unwritable(&error) => match File::open(path) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(|file| Some((file, Some(error)))),
        },
        opened => opened.map(|file| Some((file, None))),
    }
}

/// True if `path` is the name of the open `file`.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}
