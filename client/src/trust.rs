//! The user's trust: pinned roots and the policy that says what they speak for.
//!
//! Everything here is local. A root is only ever pinned by its sha256, which must come another way than the file; there
//! is no trust on first use. The policy is replaced as a whole and only by one that was read back and checked.

mod edit;
mod error;
mod files;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::{Digest, RepositoryAddress},
    policy::{Format, Policy, RootDocument, RootEntry, Scope},
    tuf::{Document, HighWater, Mark, Root, Trusted, limit},
};
use serde::Serialize;

use crate::{
    home::Home,
    state::{self, Place, State, StateError, StateKey, create_private_folder, read, replace},
};

pub use error::TrustError;

/// A policy may be this long, bytes.
const MAX_POLICY: u64 = 16 * 1024 * 1024;
/// How long another process may hold trusted state that is to be shown or reset.
const PATIENCE: Duration = Duration::from_secs(10);

/// A root to be pinned.
#[derive(Debug, Clone)]
pub struct Addition {
    /// What the user calls it: lower-case letters, digits, `-` and `_`, at most 64.
    pub name: String,
    /// Where its metadata is fetched.
    pub repository: RepositoryAddress,
    /// What it shall speak for, each `HOST/SCOPE`. Empty: what the root itself says, at the host of `repository`.
    pub scopes: Vec<String>,
}

/// A pinned root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pinned {
    /// Its name in the policy.
    pub name: String,
    /// Where its metadata is fetched; of several places the first.
    pub repository: String,
    /// What it speaks for: the `match` of each scope that names it.
    pub scopes: Vec<String>,
    /// The file it is pinned from: the policy itself if it holds the root.
    pub file: PathBuf,
    /// sha256 of that file, hex.
    pub sha256: String,
}

/// A pinned root, its content, and what is remembered of its trust repository.
#[derive(Debug, Clone, Serialize)]
pub struct Details {
    /// The pin.
    #[serde(flatten)]
    pub pinned: Pinned,
    /// The trust id; none for a foreign root.
    pub trust: Option<String>,
    /// Version of the pinned root; a newer one may be remembered.
    pub version: u64,
    /// When the pinned root expires, UTC.
    pub expires: DateTime<Utc>,
    /// What the root says it may speak about.
    pub root_scope: Vec<String>,
    /// For each top-level role its key ids and threshold.
    pub roles: Vec<KeysOf>,
    /// The folder of trusted state.
    pub state: PathBuf,
    /// The highest versions seen; none before the first update.
    pub remembered: Option<Remembered>,
}

/// Who signs a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeysOf {
    /// The role.
    pub role: String,
    /// The ids of its keys.
    pub keys: Vec<String>,
    /// How many must sign.
    pub threshold: u64,
}

/// The highest versions seen of one trust repository: nothing older is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remembered {
    /// The newest root.
    pub root: Option<u64>,
    /// The newest timestamp.
    pub timestamp: Option<u64>,
    /// The newest snapshot.
    pub snapshot: Option<u64>,
}

/// What was removed.
#[derive(Debug, Clone, Serialize)]
pub struct Removed {
    /// The pin as it was.
    pub pinned: Pinned,
    /// The state folder, which stays: a root that comes back is held to what was seen.
    pub state: Option<PathBuf>,
}

/// Reads and checks the policy of `home`, with the scopes of its profile if it has one, and each file that it names: root
/// documents and floors. No two names of one list may be the same trust repository.
///
/// # Errors
/// [`TrustError::NoPolicy`], [`TrustError::TwoPolicies`], [`TrustError::Read`], [`TrustError::Policy`].
pub fn load_policy(home: &Home) -> Result<Policy, TrustError> {
    let (path, text) = existing_policy(home)?;
    let refuse = |source| TrustError::Policy { path: path.clone(), source: Box::new(source) };
    let format = format_of(&path);
    let policy = Policy::read(&text, format).map_err(refuse)?;
    files::check(home, &policy, &text, format).map_err(refuse)?;
    match home.profile() {
        Some(profile) => policy.with_profile(profile).map_err(refuse),
        None => Ok(policy),
    }
}

/// Reads and checks the policy of `home` without a look at the files that it names: to say what is pinned, and to unpin it,
/// a root file that is gone is no hindrance.
///
/// # Errors
/// As [`load_policy`].
pub fn read_policy(home: &Home) -> Result<Policy, TrustError> {
    let (path, text) = existing_policy(home)?;
    Policy::read(&text, format_of(&path))
        .map_err(|source| TrustError::Policy { path, source: Box::new(source) })
}

/// In which of its two formats a policy is written, by the file's name.
pub fn format_of(policy: &Path) -> Format {
    if policy.extension().is_some_and(|extension| extension == "json") { Format::Json } else { Format::Toml }
}

/// Reads the root document that `entry` pins, and compares it with its sha256 each time.
///
/// # Errors
/// [`TrustError::Read`], [`TrustError::RootDigest`].
pub fn load_root(home: &Home, entry: &RootEntry) -> Result<Vec<u8>, TrustError> {
    let path = root_path(home, entry);
    let bytes = match &entry.document {
        RootDocument::File(_) => read_file(&path, limit::ROOT)?,
        RootDocument::Inline(text) => text.clone().into_bytes(),
    };
    let (expected, found) = (entry.sha256, Digest::of(&bytes));
    if found == expected { Ok(bytes) } else { Err(TrustError::RootDigest { path, expected, found }) }
}

/// Reads a root document that is to be pinned, at most 512 KiB.
///
/// # Errors
/// [`TrustError::Read`].
pub fn read_root_file(path: &Path) -> Result<Vec<u8>, TrustError> {
    read_file(path, limit::ROOT)
}

/// Pins the root `document`, which was read from `path` and must have the digest `sha256`, and writes it into the policy
/// with its scopes. Expired roots may be pinned: the chain leads on from them.
///
/// Changes `roots/NAME-root.json`, then `policy.toml`, each atomically; a failure leaves the policy as it was.
///
/// # Errors
/// [`TrustError`]; without a policy yet, one is made.
pub fn add(
    home: &Home,
    addition: &Addition,
    document: &[u8],
    sha256: &Digest,
    path: &Path,
    now: DateTime<Utc>,
) -> Result<Pinned, TrustError> {
    let found = Digest::of(document);
    if found != *sha256 {
        return Err(TrustError::NotTheRoot { path: path.to_owned(), expected: *sha256, found });
    }
    let not_a_root = |source| TrustError::NotARoot { path: path.to_owned(), source };
    // By its own threshold (TUF 1.0.34, 5.2); whether it is expired only matters at the end of the chain.
    Trusted::new(document, now).map_err(not_a_root)?;
    let root = Document::<Root>::parse("root", document).map_err(not_a_root)?;
    let own: Vec<String> = root.signed.common.identity.map(|identity| identity.scope).unwrap_or_default();
    let scopes = scopes(addition, &own)?;
    // Checked before anything is made, and again under the lock.
    edit::with_root(home, addition, &scopes, sha256)?;
    let _lock = lock(home)?;
    let text = edit::with_root(home, addition, &scopes, sha256)?;
    let file = home.roots().join(root_file(&addition.name));
    let write = |path: &Path, source| TrustError::Write { path: path.to_owned(), source };
    create_private_folder(&home.roots()).map_err(|source| write(&home.roots(), source))?;
    replace(&file, document, 0o644).map_err(|source| write(&file, source))?;
    // A root file that no policy names means nothing, so this order never leaves a policy that names a missing file.
    replace(&home.policy(), text.as_bytes(), 0o644).map_err(|source| write(&home.policy(), source))?;
    Ok(Pinned {
        name: addition.name.clone(),
        repository: addition.repository.to_string(),
        scopes,
        file,
        sha256: sha256.hex(),
    })
}

/// True to its name: says whether [`add`] would take this name, repository and scopes, before there is a root. Changes
/// nothing.
///
/// # Errors
/// [`TrustError`].
pub fn check_addition(home: &Home, addition: &Addition) -> Result<(), TrustError> {
    edit::with_root(home, addition, &scopes(addition, &[])?, &Digest::of(b"")).map(drop)
}

/// The pinned roots, by name; none without a policy.
///
/// # Errors
/// As [`load_policy`], but for [`TrustError::NoPolicy`].
pub fn list(home: &Home) -> Result<Vec<Pinned>, TrustError> {
    let policy = match read_policy(home) {
        Err(TrustError::NoPolicy { .. }) => return Ok(Vec::new()),
        policy => policy?,
    };
    Ok(policy.root.keys().filter_map(|name| pinned(home, &policy, name)).collect())
}

/// All there is to know about one pinned root without the network.
///
/// # Errors
/// [`TrustError::Unknown`], those of [`load_root`], and [`TrustError::State`] if its memory is damaged.
pub async fn show(home: &Home, name: &str) -> Result<Details, TrustError> {
    let (pinned, document, key) = open(home, name)?;
    let folder = key.folder(&home.state());
    // Looked at before it is opened: to show something makes nothing.
    let remembered = if folder.exists() {
        State::open(&Place::keyed(&home.state(), &key), PATIENCE).await?.memory().map(remembered)
    } else {
        None
    };
    let root = document.signed;
    let roles = root.roles.iter().map(|(role, keys)| KeysOf {
        role: role.clone(),
        keys: keys.keyids.iter().map(ToString::to_string).collect(),
        threshold: keys.threshold,
    });
    Ok(Details {
        pinned,
        trust: root.common.identity.as_ref().map(|identity| identity.trust.clone()),
        version: root.common.version,
        expires: root.common.expires,
        root_scope: root.common.identity.as_ref().map(|identity| identity.scope.clone()).unwrap_or_default(),
        roles: roles.collect(),
        state: folder,
        remembered,
    })
}

/// The pinned root document `name` and, under its lock, what verifying remembers of its trust repository; none if there
/// is nothing. No network.
///
/// # Errors
/// As [`show`].
pub(crate) async fn remembered_of(home: &Home, name: &str) -> Result<Option<(Vec<u8>, State)>, TrustError> {
    let (_, document, key) = open(home, name)?;
    // Looked at before it is opened: to ask makes nothing.
    if !key.folder(&home.state()).exists() {
        return Ok(None);
    }
    let state = State::open(&Place::keyed(&home.state(), &key), PATIENCE).await?;
    Ok(Some((document.bytes.into(), state)))
}

/// The newest root that this machine has seen of the trust repository that the root `name` starts, be it from the registry
/// or from the daemon; none before the first update. No network.
///
/// # Errors
/// As [`show`].
pub async fn newest_root(home: &Home, name: &str) -> Result<Option<Mark>, TrustError> {
    let (_, _, key) = open(home, name)?;
    let mut newest: Option<Mark> = None;
    for base in [home.state(), home.publishing()] {
        // Looked at before it is opened: to ask makes nothing.
        if !key.folder(&base).exists() {
            continue;
        }
        let state = State::open(&Place::keyed(&base, &key), PATIENCE).await?;
        let seen = state.memory().and_then(|memory| memory.root);
        newest = newest.into_iter().chain(seen).max_by_key(|mark| mark.version);
    }
    Ok(newest)
}

/// Unpins a root: takes it and every scope that names it, in profiles too, out of the policy, and removes its file. Trusted
/// state stays.
///
/// # Errors
/// [`TrustError::Unknown`] and those of [`load_policy`]; [`TrustError::Write`].
pub fn remove(home: &Home, name: &str) -> Result<Removed, TrustError> {
    let policy = read_policy(home)?;
    let pinned = pinned(home, &policy, name).ok_or_else(|| unknown(&policy, name))?;
    // A damaged root file is no reason to keep it.
    let state = open(home, name).ok().map(|(_, _, key)| key.folder(&home.state())).filter(|f| f.exists());
    let _lock = lock(home)?;
    let text = edit::without_root(home, name)?;
    let write = |path: &Path, source| TrustError::Write { path: path.to_owned(), source };
    replace(&home.policy(), text.as_bytes(), 0o644).map_err(|source| write(&home.policy(), source))?;
    // Only our own copy: a policy written by hand may name a file elsewhere.
    let ours = home.roots().join(root_file(name));
    match fs::remove_file(&ours) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(write(&ours, source)),
        _ => Ok(Removed { pinned, state }),
    }
}

/// Forgets what was seen of the trust repository that the root `name` starts: the next update begins at the pinned root.
/// Returns the folder, or none if nothing was remembered.
///
/// Runs under the folder's lock. The lock file stays, since a process may wait for it; the record goes last, so a crash
/// leaves the memory whole or the folder as good as new, or fails closed.
///
/// # Errors
/// [`TrustError::Unknown`], those of [`load_root`], [`TrustError::State`].
pub async fn reset(home: &Home, name: &str) -> Result<Option<PathBuf>, TrustError> {
    let [verify, publish] = state_folders(home, name)?;
    // What the publish side remembers of it goes too; it is never more than a copy of what the daemon shows.
    forget(&publish).await?;
    Ok(forget(&verify).await?.then_some(verify))
}

/// Where the verify side and the publish side remember the root `name`; they need not exist. Reads the policy.
///
/// # Errors
/// As [`reset`], but for the folders themselves.
pub(crate) fn state_folders(home: &Home, name: &str) -> Result<[PathBuf; 2], TrustError> {
    let (_, _, key) = open(home, name)?;
    Ok([key.folder(&home.state()), key.folder(&home.publishing())])
}

/// Empties one state folder under its lock; false if there is none.
async fn forget(folder: &Path) -> Result<bool, TrustError> {
    let path = folder.join("lock");
    // Made if it is gone: that is no reason to keep the rest. Without the folder there is nothing to make it in.
    let _lock = match state::lock(&path, PATIENCE).await {
        Ok(Some(lock)) => lock,
        Ok(None) => {
            return Err(StateError::Write { path, source: io::ErrorKind::ReadOnlyFilesystem.into() }.into());
        }
        Err(StateError::Write { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    };
    empty(folder).map_err(|source| StateError::Write { path: folder.to_owned(), source })?;
    Ok(true)
}

/// Removes everything in a state folder but its lock, the record last.
fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == "lock" || entry.file_name() == "memory.json" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    let memory = folder.join("memory.json");
    let removed = if memory.is_dir() { fs::remove_dir_all(&memory) } else { fs::remove_file(&memory) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::open(folder)?.sync_all()
}

/// The pin, document and state key of the root `name`.
fn open(home: &Home, name: &str) -> Result<(Pinned, Document<Root>, StateKey), TrustError> {
    let policy = read_policy(home)?;
    let entry = policy.root.get(name).ok_or_else(|| unknown(&policy, name))?;
    let pinned = pinned(home, &policy, name).ok_or_else(|| unknown(&policy, name))?;
    let bytes = load_root(home, entry)?;
    let document = Document::<Root>::parse("root", &bytes)
        .map_err(|source| TrustError::NotARoot { path: pinned.file.clone(), source })?;
    let trust = document.signed.common.identity.as_ref().map(|identity| identity.trust.clone());
    Ok((pinned, document, StateKey::of(&bytes, trust.as_deref())))
}

fn unknown(policy: &Policy, name: &str) -> TrustError {
    let known = policy.root.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    TrustError::Unknown {
        name: name.to_owned(),
        known: if known.is_empty() { "none".to_owned() } else { known },
    }
}

fn pinned(home: &Home, policy: &Policy, name: &str) -> Option<Pinned> {
    let entry = policy.root.get(name)?;
    let uses = policy.scopes().iter().filter(|scope| scope.roots().contains(&name));
    Some(Pinned {
        name: name.to_owned(),
        repository: entry.location(),
        scopes: uses.map(|scope| scope.pattern.clone()).collect(),
        file: root_path(home, entry),
        sha256: entry.sha256.hex(),
    })
}

fn remembered(memory: &HighWater) -> Remembered {
    Remembered {
        root: memory.root.map(|mark| mark.version),
        timestamp: memory.timestamp.map(|mark| mark.version),
        snapshot: memory.snapshot.map(|mark| mark.version),
    }
}

/// The scopes of `addition`, inside what the root says of itself (`own`, empty if it says nothing).
fn scopes(addition: &Addition, own: &[String]) -> Result<Vec<String>, TrustError> {
    if addition.scopes.is_empty() {
        if own.is_empty() {
            return Err(TrustError::NoScope);
        }
        return Ok(own.iter().map(|scope| format!("{}/{scope}", addition.repository.host)).collect());
    }
    let parents: Vec<Scope> = own.iter().filter_map(|scope| scope.parse().ok()).collect();
    for given in &addition.scopes {
        let Some(scope) = given.split_once('/').and_then(|(_, scope)| scope.parse::<Scope>().ok()) else {
            continue; // The policy's own check says what is wrong with it.
        };
        if !own.is_empty() && !parents.iter().any(|parent| scope.within(parent)) {
            return Err(TrustError::OutOfScope { scope: given.clone(), allowed: own.join(", ") });
        }
    }
    Ok(addition.scopes.clone())
}

fn root_file(name: &str) -> String {
    format!("{name}-root.json")
}

fn root_path(home: &Home, entry: &RootEntry) -> PathBuf {
    let policy = home.policy();
    match &entry.document {
        // `join` keeps an absolute path as it is.
        RootDocument::File(file) => policy.parent().unwrap_or(Path::new("")).join(file),
        RootDocument::Inline(_) => policy,
    }
}

/// The policy's path and text.
fn existing_policy(home: &Home) -> Result<(PathBuf, String), TrustError> {
    let path = home.policy();
    let text = policy_text(home)?.ok_or_else(|| TrustError::NoPolicy { path: path.clone() })?;
    Ok((path, text))
}

/// The policy as text; none if there is none yet.
fn policy_text(home: &Home) -> Result<Option<String>, TrustError> {
    let path = home.policy();
    let [toml, json] = home.policies();
    if !home.policy_given() && toml.exists() && json.exists() {
        return Err(TrustError::TwoPolicies { toml, json });
    }
    let failed = |source| TrustError::Read { path: path.clone(), source };
    let Some(bytes) = read(&path, MAX_POLICY).map_err(failed)? else { return Ok(None) };
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.split(|&byte| byte == b'\n').count();
        failed(io::Error::new(io::ErrorKind::InvalidData, format!("line {line} is not UTF-8 text")))
    })?;
    Ok(Some(text))
}

fn read_file(path: &Path, cap: u64) -> Result<Vec<u8>, TrustError> {
    let failed = |source| TrustError::Read { path: path.to_owned(), source };
    read(path, cap)
        .map_err(failed)?
        .ok_or_else(|| failed(io::Error::new(io::ErrorKind::NotFound, "there is no such file")))
}

/// Locks the folder of the policy against another change; a reader needs no lock. The folder is made if it is missing.
fn lock(home: &Home) -> Result<File, TrustError> {
    let policy = home.policy();
    let folder = policy.parent().unwrap_or(Path::new(".")).to_owned();
    let failed = |source| TrustError::Write { path: folder.clone(), source };
    create_private_folder(&folder).map_err(failed)?;
    let file = File::open(&folder).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(TrustError::Busy { path: folder }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
