//! The online keys: one pair for each trust repository, made on first use, in `DATA/keys/NAME/`, and the pair that is to
//! follow it, in folders below that (`ring.rs`).
//!
//! They are not encrypted, since the daemon starts without anybody there to type a passphrase; whoever reads them can
//! sign timestamps and snapshots until the owners publish a root without them (design, promise P5).

mod ring;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fmt,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use plimsoll::{
    keys::{Algorithm, KeyFileError, PrivateKey, SignError, Signer},
    publish::api::OnlineKeys,
};
use plimsoll_core::tuf::KeyId;

pub use ring::{Keyring, OnlineRole, discard_next, make_next};

/// The ids of the keys in `keys-example/`, whose private halves everybody has.
const EXAMPLE_IDS: &str = include_str!("../../../keys-example/key-ids.txt");
const TIMESTAMP: &str = "timestamp.key";
const SNAPSHOT: &str = "snapshot.key";

/// Why the online keys of a trust repository cannot be used: the operator must change something on the disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnlineKeyError {
    /// A folder cannot be made or read.
    #[error("cannot use the folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Others than the owner have access to a folder.
    #[error("{0} is open to others (mode {mode:03o}); run `chmod 700 {0}`", path.display())]
    Permissions {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The folder is there, so the keys were made, and one of them is gone. Making a new one would hide the loss.
    #[error("{} is gone: restore it from a backup", path.display())]
    Lost {
        /// The missing file.
        path: PathBuf,
    },
    /// The pair that was to follow is gone, or another one.
    #[error("the keys in {} were discarded or replaced meanwhile; nothing was accepted, try again", folder.display())]
    NextChanged {
        /// Where they were.
        folder: PathBuf,
    },
    /// The pair that was to follow is in use, or about to be.
    #[error("a root that names the keys in {} was submitted: they are not discarded any more", folder.display())]
    Taken {
        /// Where they are.
        folder: PathBuf,
    },
    /// A key file cannot be used.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// No key could be made.
    #[error(transparent)]
    Make(#[from] SignError),
}

/// The daemon's private keys for one trust repository.
pub struct OnlineSigners {
    /// Signs `timestamp`.
    pub timestamp: PrivateKey,
    /// Signs `snapshot`.
    pub snapshot: PrivateKey,
}

impl OnlineSigners {
    /// The one that signs `role`.
    pub fn of(&self, role: OnlineRole) -> &PrivateKey {
        match role {
            OnlineRole::Timestamp => &self.timestamp,
            OnlineRole::Snapshot => &self.snapshot,
        }
    }
}

/// A pair of online keys.
pub struct OnlinePair {
    /// The keys.
    pub signers: OnlineSigners,
    /// Their folder.
    pub folder: PathBuf,
    /// True if they were made just now.
    pub made: bool,
}

impl OnlinePair {
    /// The public halves.
    pub fn public(&self) -> OnlineKeys {
        OnlineKeys {
            timestamp: self.signers.timestamp.key().clone(),
            snapshot: self.signers.snapshot.key().clone(),
        }
    }
}

impl fmt::Debug for OnlinePair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnlinePair")
            .field("public", &self.public())
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

/// True if the online keys of `name`, a valid name, were made.
pub fn exist(data: &Path, name: &str) -> bool {
    folder(data, name).exists()
}

/// Loads the online keys of `name`, a valid name, or makes them: Ed25519, files of mode 0600 in a folder of mode 0700.
///
/// Blocking disk I/O. Both or none: the folder gets its name when both keys are durable in it. Of two processes that
/// make them at the same time, both get the pair of the first. What a killed one left is removed.
///
/// # Errors
/// [`OnlineKeyError`].
pub fn load_or_make(data: &Path, name: &str) -> Result<OnlinePair, OnlineKeyError> {
    let folder = folder(data, name);
    let made = !folder.exists() && make(&folder)?;
    check_folder(&folder)?;
    tidy(&folder);
    let signers =
        OnlineSigners { timestamp: load(&folder.join(TIMESTAMP))?, snapshot: load(&folder.join(SNAPSHOT))? };
    Ok(OnlinePair { signers, folder, made })
}

/// The ids of the keys in `keys-example/`.
pub fn example_keys() -> BTreeSet<KeyId> {
    let id = |line: &str| line.split_whitespace().next().map(|id| KeyId(id.to_owned()));
    EXAMPLE_IDS.lines().filter(|line| !line.starts_with('#')).filter_map(id).collect()
}

/// Makes `folder`, or checks that only its owner has access. Folders above are made too.
///
/// # Errors
/// [`OnlineKeyError::Folder`], [`OnlineKeyError::Permissions`].
pub(crate) fn private_folder(folder: &Path) -> Result<(), OnlineKeyError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| OnlineKeyError::Folder { path: folder.to_owned(), source })?;
    check_folder(folder)
}

fn folder(data: &Path, name: &str) -> PathBuf {
    data.join("keys").join(name)
}

fn check_folder(path: &Path) -> Result<(), OnlineKeyError> {
    let failed = |source| OnlineKeyError::Folder { path: path.to_owned(), source };
    let found = fs::metadata(path).map_err(failed)?;
    if !found.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(OnlineKeyError::Permissions { path: path.to_owned(), mode });
    }
    Ok(())
}

fn load(path: &Path) -> Result<PrivateKey, OnlineKeyError> {
    PrivateKey::load_insecure_plain(path).map_err(|error| match error {
        KeyFileError::NotFound { path } => OnlineKeyError::Lost { path },
        other => other.into(),
    })
}

/// True if the keys that are now in `folder` are ours.
fn make(folder: &Path) -> Result<bool, OnlineKeyError> {
    let above = folder.parent().expect("the folder is below the data folder");
    private_folder(above)?;
    let failed = |source| OnlineKeyError::Folder { path: folder.to_owned(), source };
    let name = folder.file_name().expect("the folder has the trust repository's name").to_string_lossy();
    // Two may still make keys at once where a file system has no locks: of the renames below, one wins.
    let lock = lock(above).ok();
    if lock.is_some() {
        // What cannot be removed is in nobody's way.
        let _ = sweep(above, &name);
    }
    // No name begins with a dot.
    let temporary = above.join(format!(".{name}-{}", std::process::id()));
    match fs::remove_dir_all(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    private_folder(&temporary)?;
    for file in [TIMESTAMP, SNAPSHOT] {
        PrivateKey::generate(Algorithm::Ed25519)?.save_insecure_plain(&temporary.join(file))?;
    }
    match fs::rename(&temporary, folder) {
        Ok(()) => {
            File::open(above).and_then(|above| above.sync_all()).map_err(failed)?;
            Ok(true)
        }
        // Another process was faster; its keys count. Ours were never used, so what is left of them does no harm.
        Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
            let _ = fs::remove_dir_all(&temporary);
            Ok(false)
        }
        Err(e) => Err(failed(e)),
    }
}

/// Waits until no other process makes or removes keys in `folder`; for as long as this is kept, none does.
fn lock(folder: &Path) -> io::Result<File> {
    let file = File::open(folder)?;
    file.lock()?;
    Ok(file)
}

/// Removes what killed processes left of the keys in `folder`, unless somebody is at work there or it cannot be removed: then
/// the next one does. None of it was ever in use, or is any more.
fn tidy(folder: &Path) {
    let Some((above, name)) = folder.parent().zip(folder.file_name()) else { return };
    let name = name.to_string_lossy();
    for (at, stems) in [(above, &[&*name][..]), (folder, &[ring::NEXT, ring::DISCARDED])] {
        let Some(_lock) = File::open(at).ok().filter(|file| file.try_lock().is_ok()) else { continue };
        for stem in stems {
            let _ = sweep(at, stem);
        }
    }
}

/// Removes the folders `.STEM-PID` in `folder`, which the caller has locked: those who made them are gone.
fn sweep(folder: &Path, stem: &str) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let pid =
            name.to_str().and_then(|name| name.strip_prefix('.')?.strip_prefix(stem)?.strip_prefix('-'));
        if pid.is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit())) {
            // One that cannot go holds up none of the others.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}
