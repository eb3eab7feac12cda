//! `plimsolld restore`: rebuilds the store of a trust repository from the registry, and from an export where there is one.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use plimsoll::registry::RegistryError;
use plimsoll_core::oci::Digest;

use crate::{
    config::{Config, TrustConfig},
    daemon::DaemonError,
    export::{Export, ExportError},
    keys::{self, Keyring, OnlineKeyError, OnlineRole},
    pipeline::{RoundError, ahead},
    reach::Reach,
    store::{Commit, Head, MemoryStore, SledStore, Store, StoreError, TrustKey},
    takeover::{
        self, Merged, Shown, TakeOverError, View,
        registry::{FetchError, Found, entry, fetch},
    },
};

/// Why nothing was restored, or repaired. The store is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The store has it.
    #[error(
        "{name} is in the store {}, at commit {sequence}, and is not overwritten: if it is older than the registry, \
         `plimsolld repair {name} --skip-ahead` catches up; if it is damaged, move the folder away and run this again",
        path.display()
    )]
    Exists {
        /// The trust repository.
        name: String,
        /// The store.
        path: PathBuf,
        /// How many commits it has.
        sequence: u64,
    },
    /// A damaged store is in the way.
    #[error(
        "{} is damaged: move it away (`mv {0} {0}.damaged`; keep it until all is well), then run this again, for each trust \
         repository that was in it", path.display()
    )]
    Damaged {
        /// The store.
        path: PathBuf,
        /// What is wrong.
        source: StoreError,
    },
    /// A daemon runs.
    #[error("{} is in use: stop the daemon first", path.display())]
    InUse {
        /// The store.
        path: PathBuf,
    },
    /// There is nothing to restore from.
    #[error(
        "{place} shows nothing: name an export with --from, or look whether the registry is the right one"
    )]
    Nothing {
        /// Where.
        place: String,
    },
    /// There is something else.
    #[error(
        "{place} holds something that is not trust metadata ({what}): look whether the registry is the right one"
    )]
    Foreign {
        /// Where.
        place: String,
        /// What.
        what: String,
    },
    /// The registry cannot be asked. What it shows must be known before anything is signed.
    #[error(
        "{place} cannot be read, and nothing is signed before it was: try again when the registry answers"
    )]
    Registry {
        /// Where.
        place: String,
        /// Why.
        source: RegistryError,
    },
    /// What was found does not fit.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// The registry names too much.
    #[error(transparent)]
    Fetch(FetchError),
    /// The export.
    #[error("{}", path.display())]
    Export {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ExportError,
    },
    /// It is the export of another one.
    #[error("{} is an export of `{found}`, not of `{name}`", path.display())]
    OtherExport {
        /// The file.
        path: PathBuf,
        /// What it is of.
        found: String,
        /// What was asked for.
        name: String,
    },
    /// The store is not behind.
    #[error("{name}: nothing to skip: {what}")]
    NotBehind {
        /// The trust repository.
        name: String,
        /// How it stands.
        what: String,
    },
    /// The next documents could not be signed.
    #[error("the next timestamp of {name} was not signed")]
    Sign {
        /// The trust repository.
        name: String,
        /// Why.
        source: RoundError,
    },
    /// The data folder or the keys.
    #[error(transparent)]
    Keys(#[from] OnlineKeyError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry's settings, or the embedded registry.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Where the newest state was.
    pub place: String,
    /// The trust id.
    pub trust_id: String,
    /// The timestamp version that was newest.
    pub found: u64,
    /// The version of the timestamp that the daemon goes on with; none if the keys for it are not here.
    pub next: Option<u64>,
    /// How many documents the store got.
    pub documents: usize,
    /// How many roles, the top-level ones included.
    pub roles: usize,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// What to restore from besides the registry, and how its root is known.
#[derive(Debug, Clone, Default)]
pub struct From<'a> {
    /// An export.
    pub export: Option<&'a Path>,
    /// The digest of a root of the chain, as the owners say it.
    pub root: Option<Digest>,
}

/// Rebuilds the store of `trust` and signs the next snapshot and timestamp, of versions above all that may have been signed
/// before. All or nothing: one commit.
///
/// Everything is verified from the first root on. That root is the owners' if `from.root` says so, or if the export
/// was sealed by a key that is in the data folder.
///
/// # Errors
/// [`RestoreError`].
pub async fn restore(
    config: &Config,
    trust: &TrustConfig,
    from: &From<'_>,
    now: DateTime<Utc>,
) -> Result<Done, RestoreError> {
    let (name, key) = (&trust.name, TrustKey::whole(&trust.name));
    keys::private_folder(&config.data)?;
    let store = open(config)?;
    let sequence = store.head(&key)?.sequence;
    if sequence > 0 {
        let path = config.data.join("store");
        return Err(RestoreError::Exists { name: name.clone(), path, sequence });
    }
    let keys = if keys::exist(&config.data, name) { Some(Keyring::open(&config.data, name)?) } else { None };
    let reach = Reach::of(config, trust).await?;
    // An export, or nothing, as if it were the store.
    let (held, mut commit, pinned) = match from.export {
        Some(path) => {
            let (commit, pinned) = read_export(path, name, from.root, keys.as_ref())?;
            (path.display().to_string(), Some(commit), Some(pinned))
        }
        None => ("the store".to_owned(), None, from.root),
    };
    let memory = MemoryStore::new();
    if let Some(commit) = &commit {
        memory.commit(&key, commit)?;
    }
    let shown = shown(&reach, |_, _, _| None).await?;
    if let Some(shown) = &shown {
        shown.view.check_anchor(pinned)?;
    }
    let merged = takeover::merge(&memory, &key, &held, shown, now)?
        .ok_or_else(|| RestoreError::Nothing { place: takeover::place(&reach.repository) })?;
    let (mut documents, submissions) =
        commit.take().map(|commit| (commit.documents, commit.submissions)).unwrap_or_default();
    documents.extend(merged.documents.iter().cloned());
    let head = Head { sequence: 1, ..merged.head.clone() };
    finish(config, trust, &store, keys.as_ref(), &merged, Commit { documents, head, submissions }, now)
}

/// Signs the next documents, if the keys for them are here, and commits all.
pub(crate) fn finish(
    config: &Config,
    trust: &TrustConfig,
    store: &dyn Store,
    keys: Option<&Keyring>,
    merged: &Merged,
    commit: Commit,
    now: DateTime<Utc>,
) -> Result<Done, RestoreError> {
    let Commit { mut documents, mut head, submissions } = commit;
    let view = &merged.newest;
    let mut notes: Vec<String> = view.faults().collect();
    let has = |role: OnlineRole| {
        role.named_by(view.root()).is_some_and(|id| keys.is_some_and(|keys| keys.signer(role, id).is_some()))
    };
    let next = if OnlineRole::ALL.into_iter().all(has) {
        let keys = keys.expect("it was just asked");
        let signed = ahead::go_on(&view.newest(), keys, &config.freshness, now, &mut head, &mut documents);
        notes.extend(signed.map_err(|source| RestoreError::Sign { name: trust.name.clone(), source })?);
        head.roles.get("timestamp").map(|role| role.version)
    } else {
        notes.push(format!(
            "the keys that root version {} names for timestamp and snapshot are not in {}: restore them from a backup, or \
             have the owners publish a root that names those of `plimsolld key show {}`; nothing is signed until then",
            view.root().common.version,
            config.data.join("keys").join(&trust.name).display(),
            trust.name
        ));
        None
    };
    let (count, roles) = (documents.len(), head.roles.len());
    store.commit(&TrustKey::whole(&trust.name), &Commit { documents, head, submissions })?;
    Ok(Done {
        place: view.place().to_owned(),
        trust_id: view.trust_id().to_owned(),
        found: view.timestamp_version(),
        next,
        documents: count,
        roles,
        notes,
    })
}

/// What the registry shows, verified; none if there is nothing.
pub(crate) async fn shown(
    reach: &Reach,
    known: impl Fn(&str, u64, &Digest) -> Option<bytes::Bytes>,
) -> Result<Option<Shown>, RestoreError> {
    let place = takeover::place(&reach.repository);
    let failed = |source| RestoreError::Registry { place: place.clone(), source };
    match entry(&reach.registry, &reach.repository).await.map_err(failed)? {
        Found::Nothing => Ok(None),
        Found::Foreign(what) => Err(RestoreError::Foreign { place, what }),
        Found::Entry(entry) => match fetch(&reach.registry, &reach.repository, entry, known).await {
            Ok(shown) => Ok(Some(shown)),
            Err(FetchError::Registry(source)) => Err(failed(source)),
            Err(FetchError::TakeOver(error)) => Err(error.into()),
            Err(error) => Err(RestoreError::Fetch(error)),
        },
    }
}

/// Opens the store, which no daemon may have open.
pub(crate) fn open(config: &Config) -> Result<SledStore, RestoreError> {
    let path = config.data.join("store");
    SledStore::open(&path).map_err(|error| match error {
        StoreError::InUse { path } => RestoreError::InUse { path },
        source @ StoreError::Damaged { .. } => RestoreError::Damaged { path, source },
        other => other.into(),
    })
}

/// The content of an export, verified, and the digest of its first root, which is the owners'.
fn read_export(
    path: &Path,
    name: &str,
    pinned: Option<Digest>,
    keys: Option<&Keyring>,
) -> Result<(Commit, Digest), RestoreError> {
    let wrong = |source| RestoreError::Export { path: path.to_owned(), source };
    let file = File::open(path).map_err(|e| wrong(e.into()))?;
    let export = Export::read(BufReader::new(file)).map_err(wrong)?;
    if export.name != name {
        let (path, name) = (path.to_owned(), name.to_owned());
        return Err(RestoreError::OtherExport { path, found: export.name, name });
    }
    let (memory, key) = (MemoryStore::new(), TrustKey::whole(name));
    memory.commit(&key, &export.commit)?;
    let view = View::of_store(&path.display().to_string(), &memory, &key)?;
    export.check_seal(view.root()).map_err(wrong)?;
    let ours = keys.is_some_and(|keys| keys.signer(OnlineRole::Timestamp, &export.sealed_by).is_some());
    if pinned.is_some() || !ours {
        view.check_anchor(pinned)?;
    }
    // What the registry shows must begin with the same root; where both have a version, `merge` compares them.
    let first = view.roots().values().next().expect("a view has a root");
    Ok((export.commit, Digest::of(first)))
}
