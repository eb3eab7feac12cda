//! The lock of a state folder: one process at a time updates it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    time::Duration,
};

use super::StateError;

/// The lock on `path`; none if the file is not there and cannot be made.
pub(super) async fn lock(path: &Path, patience: Duration) -> Result<Option<File>, StateError> {
    let failed = |source| StateError::Write { path: path.to_owned(), source };
    let mut writable = OpenOptions::new();
    writable.create(true).truncate(false).write(true).mode(0o600);
    if path.is_symlink() {
        return Err(failed(io::Error::other("it is a link")));
    }
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
            // Held by another process, or another file was put in its place while we waited.
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(StateError::Busy { path: path.to_owned(), waited: patience });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// True if `path` is the name of the open `file`.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}
