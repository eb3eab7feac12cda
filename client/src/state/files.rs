//! Files that are replaced as a whole and survive a crash.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

/// Creates `folder` and what is missing above it, mode 0700.
///
/// # Errors
/// The system's.
pub fn create_private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Replaces `path` by `bytes`, atomically and durably: after a crash it holds the old content or the new, whole.
///
/// Temporary file, fsync, rename, fsync of the folder. A failure leaves the old content and no temporary file.
///
/// # Errors
/// The system's.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut temporary = name.to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = folder.join(temporary);
    // Left behind only by a crash of a process that had our id; nobody else writes under this name.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        match fs::rename(&temporary, path) {
            // Somebody put an empty folder in its place.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                fs::remove_dir(path)?;
                fs::rename(&temporary, path)
            }
            other => other,
        }
    })();
    if let Err(error) = written {
        // The first error is the one to report; a temporary file that stays is overwritten next time.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(folder)?.sync_all()
}

/// True if `error`, of [`read`], says that what is there is no file that we could have written: too large, a folder, a link
/// that leads nowhere, or closed to us.
pub(super) fn is_spoilt(error: &io::Error) -> bool {
    // The kind for a loop of links is not stable yet.
    const ELOOP: i32 = 40;
    matches!(
        error.kind(),
        io::ErrorKind::FileTooLarge | io::ErrorKind::IsADirectory | io::ErrorKind::PermissionDenied
    ) || error.raw_os_error() == Some(ELOOP)
}

/// Removes the temporary files that a process which was killed left in `folder`. Only for who holds its lock.
pub(super) fn clear(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "tmp") {
            // One that stays costs its room and nothing else.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The content of `path`, at most `cap` bytes; none if there is no such file.
///
/// # Errors
/// The system's; [`io::ErrorKind::FileTooLarge`] beyond `cap`.
pub fn read(path: &Path, cap: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(cap + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > cap {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Some(bytes))
}
