//! The keys that a daemon holds for one trust repository: the pair in use, and the pair that waits to take its place.
//!
//! Which key signs is not decided by the disk: the newest root in the store names one for each online role, and it is
//! looked up here. The folder only follows, so a crash between any two steps loses nothing:
//!
//! | step | in `DATA/keys/NAME/` | if the next step never comes |
//! |---|---|---|
//! | `plimsolld key rotate` | `next/` beside the pair, both keys or none | the pair waits, or is discarded; what a kill left half-made or half-removed goes with the next command or start |
//! | claim, before a root that names one of them is committed | `next/` is `taken/`, and no longer to be discarded | no root names them: `taken/` is `next/` again |
//! | commit | the same | the root names them: the next start finds them in `taken/` and signs with them |
//! | settle, once the registry shows what they signed | each key named replaces its predecessor, one rename each; then what is left in `taken/` is removed | the next settle goes on |
//!
//! The replaced keys are gone then: the owners dropped them, and nothing is signed with them any more.

use std::{
    fmt,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use plimsoll::{
    keys::{PrivateKey, Signer},
    publish::api::OnlineKeys,
};
use plimsoll_core::tuf::{KeyId, Root};

use super::{OnlineKeyError, OnlineSigners, check_folder, folder, load, lock, make, tidy};

pub(super) const NEXT: &str = "next";
const TAKEN: &str = "taken";
/// The stem of the name under which a pair is removed.
pub(super) const DISCARDED: &str = "discarded";

/// A role that the daemon signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnlineRole {
    /// `timestamp`
    Timestamp,
    /// `snapshot`
    Snapshot,
}

impl OnlineRole {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Timestamp, Self::Snapshot];

    /// The role's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
        }
    }

    /// The one key that `root` names for this role; none if it names several, or asks for several.
    pub fn named_by(self, root: &Root) -> Option<&KeyId> {
        match root.roles.get(self.name()) {
            Some(keys) if keys.threshold == 1 => match keys.keyids.as_slice() {
                [id] => Some(id),
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Timestamp => super::TIMESTAMP,
            Self::Snapshot => super::SNAPSHOT,
        }
    }
}

/// The keys of one trust repository. Methods that say so do blocking disk I/O.
pub struct Keyring {
    /// None for keys that are in memory only.
    folder: Option<PathBuf>,
    current: OnlineSigners,
    waiting: Option<Waiting>,
}

/// A pair that no published root names yet. One key is missing only in `taken/`, after a crash in the middle of a settle.
struct Waiting {
    timestamp: Option<PrivateKey>,
    snapshot: Option<PrivateKey>,
    /// In `taken/`: a root that names one of them is committed, or was about to be.
    taken: bool,
}

impl Waiting {
    fn of(&self, role: OnlineRole) -> Option<&PrivateKey> {
        match role {
            OnlineRole::Timestamp => self.timestamp.as_ref(),
            OnlineRole::Snapshot => self.snapshot.as_ref(),
        }
    }

    fn has(&self, role: OnlineRole, id: Option<&KeyId>) -> bool {
        self.of(role).is_some_and(|key| Some(&key.key_id()) == id)
    }

    fn ids(&self) -> [Option<KeyId>; 2] {
        OnlineRole::ALL.map(|role| self.of(role).map(Signer::key_id))
    }

    fn is_named_by(&self, root: &Root) -> bool {
        OnlineRole::ALL.into_iter().any(|role| self.has(role, role.named_by(root)))
    }
}

impl From<OnlineSigners> for Keyring {
    /// Keys that are in memory only and never change.
    fn from(current: OnlineSigners) -> Self {
        Self { folder: None, current, waiting: None }
    }
}

impl Keyring {
    /// The keys of `name`, a valid name, which were made before. Disk.
    ///
    /// # Errors
    /// [`OnlineKeyError`].
    pub fn open(data: &Path, name: &str) -> Result<Self, OnlineKeyError> {
        let folder = folder(data, name);
        check_folder(&folder)?;
        let current = OnlineSigners {
            timestamp: load(&folder.join(super::TIMESTAMP))?,
            snapshot: load(&folder.join(super::SNAPSHOT))?,
        };
        let waiting = waiting(&folder)?;
        Ok(Self { folder: Some(folder), current, waiting })
    }

    /// Looks again for the pair that waits. Disk.
    ///
    /// # Errors
    /// [`OnlineKeyError`]; what was known stays.
    pub fn reload(&mut self) -> Result<(), OnlineKeyError> {
        if let Some(folder) = &self.folder {
            self.waiting = waiting(folder)?;
        }
        Ok(())
    }

    /// The keys that a root may name for `role` after `root`, the newest one: the one in use, then the one that waits.
    /// One whose successor `root` names already is not among them: it may be the stolen one.
    pub fn usable(&self, role: OnlineRole, root: Option<&Root>) -> Vec<&PrivateKey> {
        let named = root.and_then(|root| role.named_by(root));
        let waiting = self.waiting.as_ref().and_then(|waiting| waiting.of(role));
        match waiting {
            Some(key) if Some(&key.key_id()) == named => vec![key],
            _ => std::iter::once(self.current.of(role)).chain(waiting).collect(),
        }
    }

    /// The key of `role` with this id, if it is held.
    pub fn signer(&self, role: OnlineRole, id: &KeyId) -> Option<&PrivateKey> {
        let waiting = self.waiting.as_ref().and_then(|waiting| waiting.of(role));
        std::iter::once(self.current.of(role)).chain(waiting).find(|key| key.key_id() == *id)
    }

    /// The public halves of the keys in use under `root`, the newest one.
    pub fn public(&self, root: Option<&Root>) -> OnlineKeys {
        let of = |role| self.usable(role, root)[0].key().clone();
        OnlineKeys { timestamp: of(OnlineRole::Timestamp), snapshot: of(OnlineRole::Snapshot) }
    }

    /// The public halves of the pair that waits; none if there is none, or if `root` names one of it.
    pub fn next(&self, root: Option<&Root>) -> Option<OnlineKeys> {
        let waiting = self.waiting.as_ref()?;
        if root.is_some_and(|root| waiting.is_named_by(root)) {
            return None;
        }
        let of = |role| waiting.of(role).map(|key| key.key().clone());
        Some(OnlineKeys { timestamp: of(OnlineRole::Timestamp)?, snapshot: of(OnlineRole::Snapshot)? })
    }

    /// The ids of all keys held.
    pub fn ids(&self) -> Vec<KeyId> {
        let waiting = self.waiting.iter().flat_map(Waiting::ids).flatten();
        OnlineRole::ALL.map(|role| self.current.of(role).key_id()).into_iter().chain(waiting).collect()
    }

    /// Makes sure that the keys `root` names are there for good, before it is committed. Disk.
    ///
    /// # Errors
    /// [`OnlineKeyError::NextChanged`] if the operator discarded them meanwhile: the root must not be committed.
    pub fn claim(&mut self, root: &Root) -> Result<(), OnlineKeyError> {
        let (Some(folder), Some(waiting)) = (&self.folder, &mut self.waiting) else { return Ok(()) };
        if waiting.taken || !waiting.is_named_by(root) {
            return Ok(());
        }
        let (next, taken) = (folder.join(NEXT), folder.join(TAKEN));
        let changed = || OnlineKeyError::NextChanged { folder: next.clone() };
        // Of this rename and that of a discard, one finds nothing.
        match fs::rename(&next, &taken) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.waiting = None;
                return Err(changed());
            }
            renamed => renamed.map_err(|source| failed(&next, source))?,
        }
        sync(folder)?;
        // Another pair may have come in the place of the one that was looked at.
        let there = load_waiting(&taken, true)?;
        if there.ids() != waiting.ids() {
            self.waiting = Some(there);
            self.release()?;
            return Err(changed());
        }
        waiting.taken = true;
        Ok(())
    }

    /// Brings the folder up to `root`, the newest one committed; `published` says that the registry shows what its keys
    /// signed. Does nothing most of the time. Disk.
    ///
    /// # Errors
    /// [`OnlineKeyError::Folder`]; the next call goes on from where this one stopped.
    pub fn settle(&mut self, root: &Root, published: bool) -> Result<(), OnlineKeyError> {
        let (Some(folder), Some(waiting)) = (self.folder.clone(), &mut self.waiting) else { return Ok(()) };
        if !waiting.taken {
            return Ok(());
        }
        if waiting.is_named_by(root) {
            return if published { self.promote(&folder, root) } else { Ok(()) };
        }
        let whole = waiting.ids().iter().all(Option::is_some);
        if whole {
            // The commit that they were taken for did not come.
            return self.release();
        }
        // Half of it was promoted before a crash; the other half is named by nobody. Unless the store is an old copy: the
        // root to come may name it then.
        let in_use = |role: OnlineRole| role.named_by(root) == Some(&self.current.of(role).key_id());
        if OnlineRole::ALL.into_iter().all(in_use) { self.remove_taken(&folder) } else { Ok(()) }
    }

    /// Each key that `root` names takes its predecessor's place.
    fn promote(&mut self, folder: &Path, root: &Root) -> Result<(), OnlineKeyError> {
        let taken = folder.join(TAKEN);
        for role in OnlineRole::ALL {
            let Some(waiting) = self.waiting.as_mut().filter(|w| w.has(role, role.named_by(root))) else {
                continue;
            };
            let (from, to) = (taken.join(role.file()), folder.join(role.file()));
            fs::rename(&from, &to).map_err(|source| failed(&from, source))?;
            match role {
                OnlineRole::Timestamp => {
                    self.current.timestamp = waiting.timestamp.take().expect("it was named");
                }
                OnlineRole::Snapshot => {
                    self.current.snapshot = waiting.snapshot.take().expect("it was named");
                }
            }
        }
        sync(folder)?;
        self.remove_taken(folder)
    }

    /// What is left was made together with a key that is in use now, and waits no more.
    fn remove_taken(&mut self, folder: &Path) -> Result<(), OnlineKeyError> {
        let taken = folder.join(TAKEN);
        match fs::remove_dir_all(&taken) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(&taken, e)),
            _ => sync(folder)?,
        }
        self.waiting = None;
        self.reload()
    }

    /// `taken/` waits as `next/` again; if there is another `next/` by now, that one waits.
    fn release(&mut self) -> Result<(), OnlineKeyError> {
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        let (next, taken) = (folder.join(NEXT), folder.join(TAKEN));
        match fs::rename(&taken, &next) {
            Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {
                return self.remove_taken(&folder);
            }
            renamed => renamed.map_err(|source| failed(&taken, source))?,
        }
        sync(&folder)?;
        self.reload()
    }

    /// True if the pair that waits can no longer be discarded.
    pub fn is_taken(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.taken)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("folder", &self.folder)
            .field("ids", &self.ids())
            .finish_non_exhaustive()
    }
}

/// Makes the next pair of `name`, a valid name whose keys were made, if none waits. True if it was made now. Disk; safe
/// beside a running daemon.
///
/// # Errors
/// [`OnlineKeyError`].
pub fn make_next(data: &Path, name: &str) -> Result<(Keyring, bool), OnlineKeyError> {
    let mut ring = Keyring::open(data, name)?;
    let folder = folder(data, name);
    let made = ring.waiting.is_none() && make(&folder.join(NEXT))?;
    tidy(&folder);
    ring.reload()?;
    Ok((ring, made))
}

/// Removes the next pair of `name`, a valid name. False if there was none. Disk; safe beside a running daemon.
///
/// # Errors
/// [`OnlineKeyError::Taken`] if a root that names it was accepted, or is about to be; [`OnlineKeyError::Folder`].
pub fn discard_next(data: &Path, name: &str) -> Result<bool, OnlineKeyError> {
    let folder = folder(data, name);
    check_folder(&folder)?;
    tidy(&folder);
    let (next, taken) = (folder.join(NEXT), folder.join(TAKEN));
    // Where a file system has no locks, nothing is swept, either.
    let _lock = lock(&folder).ok();
    let away = folder.join(format!(".{DISCARDED}-{}", std::process::id()));
    match fs::rename(&next, &away) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && taken.exists() => {
            return Err(OnlineKeyError::Taken { folder: taken });
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        renamed => renamed.map_err(|source| failed(&next, source))?,
    }
    sync(&folder)?;
    fs::remove_dir_all(&away).map_err(|source| failed(&away, source))?;
    Ok(true)
}

fn waiting(folder: &Path) -> Result<Option<Waiting>, OnlineKeyError> {
    // The one first that a root may name already.
    for (name, taken) in [(TAKEN, true), (NEXT, false)] {
        let folder = folder.join(name);
        if !folder.exists() {
            continue;
        }
        match load_waiting(&folder, taken) {
            // Discarded or claimed while it was read.
            Err(_) if !folder.exists() => continue,
            loaded => return loaded.map(Some),
        }
    }
    Ok(None)
}

fn load_waiting(folder: &Path, taken: bool) -> Result<Waiting, OnlineKeyError> {
    check_folder(folder)?;
    let load = |role: OnlineRole| match load(&folder.join(role.file())) {
        Err(OnlineKeyError::Lost { .. }) if taken => Ok(None),
        loaded => loaded.map(Some),
    };
    Ok(Waiting { timestamp: load(OnlineRole::Timestamp)?, snapshot: load(OnlineRole::Snapshot)?, taken })
}

fn sync(folder: &Path) -> Result<(), OnlineKeyError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(|source| failed(folder, source))
}

fn failed(path: &Path, source: io::Error) -> OnlineKeyError {
    OnlineKeyError::Folder { path: path.to_owned(), source }
}
