//! The store: does it open, is every document what it was, do the keys fit?

use std::{
    fs::{self, File, TryLockError},
    io,
    path::Path,
};

use chrono::{DateTime, Utc};
use plimsoll::verify;
use tempfile::TempDir;

use super::{Finding, expiries};
use crate::{
    config::{Config, TrustConfig},
    keys::{Keyring, OnlineRole},
    store::{Head, SledStore, Store, StoreError, TrustKey},
    takeover::View,
};

/// A larger store is not copied, bytes.
const MAX_COPY: u64 = 2 << 30;
/// So many damaged documents are named.
const NAMED: usize = 5;

/// What became of the store.
pub(super) enum Opened {
    /// A daemon has it open.
    Running,
    /// A copy of it is open.
    Copy(Copy),
    /// There is none.
    None,
    /// It does not open, or was not tried; what is wrong was told.
    Not,
}

/// A copy, open.
pub(super) struct Copy {
    store: SledStore,
    _folder: TempDir,
}

impl Opened {
    /// What can be read; nothing at all if there is none.
    pub(super) fn store(&self) -> Option<Option<&SledStore>> {
        match self {
            Self::Copy(copy) => Some(Some(&copy.store)),
            Self::None => Some(None),
            Self::Running | Self::Not => None,
        }
    }
}

/// Copies the store and opens the copy: opening one repairs it, and nothing is to be changed here.
pub(super) fn open(config: &Config, findings: &mut Vec<Finding>) -> Opened {
    let path = config.data.join("store");
    let next = "name another temporary folder with TMPDIR, or look at the disk";
    let mut not = |found: String| {
        findings.push(Finding::wrong("store", found, next));
        Opened::Not
    };
    if !path.join("sled").is_dir() && !path.join("marks").is_dir() {
        let next = "nothing, if no trust repository was made yet; else `plimsolld restore NAME` rebuilds each of them";
        findings.push(Finding::warning("store", format!("there is none in {}", path.display()), next));
        return Opened::None;
    }
    // Held while it is copied, so that no daemon writes meanwhile.
    let lock = match File::open(path.join("lock")) {
        Ok(lock) => Some(lock),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return not(format!("{} cannot be read: {error}", path.display())),
    };
    match lock.as_ref().map(File::try_lock_shared) {
        Some(Err(TryLockError::WouldBlock)) => return Opened::Running,
        Some(Err(TryLockError::Error(error))) => {
            return not(format!("{} cannot be locked: {error}", path.display()));
        }
        Some(Ok(())) | None => {}
    }
    let copied = TempDir::with_prefix("plimsolld-doctor-").and_then(|folder| {
        let mut room = MAX_COPY;
        copy(&path, folder.path(), &mut room)?;
        Ok(folder)
    });
    drop(lock);
    let folder = match copied {
        Ok(folder) => folder,
        Err(error) => return not(format!("{} cannot be copied to look at it: {error}", path.display())),
    };
    match SledStore::open(folder.path()) {
        Ok(store) => {
            findings.push(Finding::ok("store", format!("{} opens", path.display())));
            Opened::Copy(Copy { store, _folder: folder })
        }
        Err(error) => {
            let found = match error {
                StoreError::Damaged { detail, .. } => format!("{} is damaged: {detail}", path.display()),
                error => verify::chain(&error),
            };
            let next = format!(
                "move it away (`mv {0} {0}.damaged`), then `plimsolld restore NAME --from EXPORT` for each trust repository",
                path.display()
            );
            findings.push(Finding::wrong("store", found, next));
            Opened::Not
        }
    }
}

fn copy(from: &Path, to: &Path, room: &mut u64) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, to) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            fs::create_dir(&to)?;
            copy(&entry.path(), &to, room)?;
        } else if kind.is_file() {
            let length = entry.metadata()?.len();
            *room = room
                .checked_sub(length)
                .ok_or_else(|| io::Error::other(format!("it is larger than {} MiB", MAX_COPY >> 20)))?;
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// Looks at what `copy` has of `trust`.
pub(super) fn check(
    copy: &Copy,
    trust: &TrustConfig,
    keys: Option<&Keyring>,
    now: DateTime<Utc>,
    findings: &mut Vec<Finding>,
) {
    let (name, key) = (&trust.name, TrustKey::whole(&trust.name));
    let restore = format!("move the store away and run `plimsolld restore {name} --from EXPORT`");
    let head = match copy.store.head(&key) {
        Ok(head) if head.sequence > 0 => head,
        Ok(_) => {
            findings.push(Finding::ok("store", "it is not in the store: never made, or lost").of(name));
            return;
        }
        Err(error) => {
            findings.push(Finding::wrong("store", verify::chain(&error), restore).of(name));
            return;
        }
    };
    let (whole, damaged) = documents(&copy.store, &key, &head);
    if damaged.is_empty() {
        findings.push(Finding::ok("documents", format!("{whole}, each with its hash")).of(name));
    } else {
        let named = damaged.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
        let found = format!("{} of {} are damaged or gone: {named}", damaged.len(), whole + damaged.len());
        findings.push(Finding::wrong("documents", found, restore.clone()).of(name));
    }
    if let Some(signed) = head.last_signed.filter(|signed| now < *signed) {
        let found = format!("it shows {}, but a timestamp was signed at {}", at(now), at(signed));
        let next = "set the clock right: nothing is signed until then";
        findings.push(Finding::wrong("clock", found, next).of(name));
    }
    match View::of_store("the store", &copy.store, &key) {
        Ok(view) => {
            for fault in view.faults() {
                let next = "have the publishers of that role sign it again";
                findings.push(Finding::warning("documents", fault, next).of(name));
            }
            findings.extend(expiries(name, &view.expiries(), now));
            let has = |role: OnlineRole| {
                role.named_by(view.root())
                    .is_some_and(|id| keys.is_some_and(|keys| keys.signer(role, id).is_some()))
            };
            if !OnlineRole::ALL.into_iter().all(has) {
                let found = format!("not those that root version {} names", view.root().common.version);
                let next = format!(
                    "restore `keys/{name}` from a backup, or have the owners publish a root that names those of `plimsolld \
                     key show {name}`; nothing is signed until then"
                );
                findings.push(Finding::wrong("keys", found, next).of(name));
            }
        }
        // Said above.
        Err(_) if !damaged.is_empty() => {}
        Err(error) => findings.push(Finding::wrong("documents", verify::chain(&error), restore).of(name)),
    }
}

/// How many documents are whole, and what is wrong with the others.
fn documents(store: &SledStore, key: &TrustKey, head: &Head) -> (usize, Vec<String>) {
    let (mut whole, mut damaged) = (0, Vec::new());
    for (role, newest) in &head.roles {
        let versions = match store.versions(key, role) {
            Ok(versions) => versions,
            Err(error) => {
                damaged.push(verify::chain(&error));
                continue;
            }
        };
        if !versions.contains(&newest.version) {
            damaged.push(format!("version {} of {role}, the newest, is gone", newest.version));
        }
        for version in versions {
            match store.document(key, role, version) {
                Ok(Some(bytes))
                    if version != newest.version
                        || plimsoll_core::oci::Digest::of(&bytes) == newest.digest =>
                {
                    whole += 1;
                }
                Ok(Some(_)) => {
                    damaged.push(format!("version {version} of {role} is not the one in the head"));
                }
                Ok(None) => damaged.push(format!("version {version} of {role} is gone")),
                Err(error) => damaged.push(verify::chain(&error)),
            }
        }
    }
    (whole, damaged)
}

fn at(time: DateTime<Utc>) -> String {
    time.format("%FT%TZ").to_string()
}
