//! `plimsolld backup`: everything that the store holds of a trust repository, in one signed file.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::{DateTime, Utc};
use plimsoll::registry::{Credentials, Registry, RegistryError, RegistryOptions};
use plimsoll_core::tuf::{self, Document, Root};
use tokio::time::Instant;
use url::Url;

use crate::{
    config::{Config, TrustConfig},
    export::{self, ExportError, Part, Writer},
    keys::{Keyring, OnlineKeyError, OnlineRole},
    store::{SledStore, StoreError, TrustKey},
};

/// How long a page is asked for again while the daemon is busy with others, and the pause if it names none.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

/// What an export's file is called in a folder.
pub const ENDING: &str = "plimsolld-export";

/// Why no backup was made. What was there before is untouched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// There is nothing to back up.
    #[error(
        "there is no store in {}: name the data folder with --data or the configuration with --config", path.display()
    )]
    NoStore {
        /// The store's folder.
        path: PathBuf,
    },
    /// The trust repository was never made.
    #[error("{name} was never made, or its store is lost: there is nothing of it to back up")]
    Empty {
        /// The trust repository.
        name: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys, one of which signs.
    #[error(transparent)]
    Keys(#[from] OnlineKeyError),
    /// The key that the newest root names is not here.
    #[error(
        "the timestamp key that the newest root of {name} names is not in the data folder: it signs the export"
    )]
    NoKey {
        /// The trust repository.
        name: String,
    },
    /// The running daemon did not answer.
    #[error("the daemon has the store open, and did not answer at {url}: name it with --server, or stop it")]
    Server {
        /// Where it was asked.
        url: String,
        /// Why.
        source: RegistryError,
    },
    /// What answered is not the daemon, or an older one.
    #[error(
        "{url} is not a plimsolld that serves {name} and makes exports: name it with --server, or stop it"
    )]
    NotADaemon {
        /// Where it was asked.
        url: String,
        /// The trust repository.
        name: String,
    },
    /// What it answered.
    #[error("the answer of {url}")]
    Answer {
        /// Where it was asked.
        url: String,
        /// What is wrong.
        source: ExportError,
    },
    /// The file.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ExportError,
    },
    /// What is stored does not parse.
    #[error("{name}: stored metadata cannot be read")]
    Stored {
        /// The trust repository.
        name: String,
        /// Why.
        source: tuf::Error,
    },
}

/// Where the content comes from: the store, or the daemon that has it open.
#[derive(Debug)]
pub enum Source {
    /// Opened here.
    Store(SledStore),
    /// Asked over HTTP.
    Server(Registry, Url),
}

impl Source {
    /// Opens the store of `config`; if a daemon has it open, that one is asked: at `server`, else where `config` says that
    /// it listens. Blocking.
    ///
    /// # Errors
    /// [`BackupError::NoStore`], [`BackupError::Store`].
    pub fn open(config: &Config, server: Option<Url>) -> Result<Self, BackupError> {
        let path = config.data.join("store");
        if !path.is_dir() {
            return Err(BackupError::NoStore { path });
        }
        match SledStore::open(&path) {
            Ok(store) => Ok(Self::Store(store)),
            Err(StoreError::InUse { .. }) => {
                let (url, http) = daemon(config, server);
                let http = http.map_err(|e| failed(&url, e))?;
                Ok(Self::Server(http, url))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn page(
        &self,
        name: &str,
        after: Option<&str>,
    ) -> Result<(Vec<Part>, Option<String>), BackupError> {
        match self {
            Self::Store(store) => {
                let page = export::page(store, &TrustKey::whole(name), after)?;
                let parts = export::parts(&page);
                parts.map_err(|source| BackupError::Answer { url: "the store".to_owned(), source })
            }
            Self::Server(registry, url) => {
                let mut url = url.clone();
                if let Ok(mut path) = url.path_segments_mut() {
                    path.pop_if_empty().extend(["v1", "trusts", name, "export"]);
                }
                if let Some(after) = after {
                    url.query_pairs_mut().append_pair("after", after);
                }
                let page = patient(|| registry.file(&url, export::MAX_PAGE)).await;
                let page = page
                    .map_err(|e| failed(&url, e))?
                    .ok_or_else(|| BackupError::NotADaemon { url: url.to_string(), name: name.to_owned() })?;
                export::parts(&page).map_err(|source| BackupError::Answer { url: url.to_string(), source })
            }
        }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub path: PathBuf,
    /// How many documents it holds.
    pub documents: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Writes the export of `trust` to `path`: mode 0600, under another name until it is whole and on the disk, in place of
/// what was there.
///
/// # Errors
/// [`BackupError`].
pub async fn backup(
    config: &Config,
    trust: &TrustConfig,
    source: &Source,
    path: &Path,
    now: DateTime<Utc>,
) -> Result<Written, BackupError> {
    let name = &trust.name;
    let keys = Keyring::open(&config.data, name)?;
    let (first, mut next) = source.page(name, None).await?;
    let root = newest_root(name, &first, source).await?;
    let key = OnlineRole::Timestamp.named_by(&root).and_then(|id| keys.signer(OnlineRole::Timestamp, id));
    let key = key.ok_or_else(|| BackupError::NoKey { name: name.clone() })?;

    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".new-{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let failed = |source| BackupError::Write { path: path.to_owned(), source };
    let written = async {
        let _ = fs::remove_file(&temporary);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&temporary);
        let file = file.map_err(|e| failed(e.into()))?;
        let mut writer = Writer::begin(BufWriter::new(file), name, now).map_err(failed)?;
        let mut parts = first;
        loop {
            for part in &parts {
                writer.add(part).map_err(failed)?;
            }
            let Some(after) = next else { break };
            (parts, next) = source.page(name, Some(&after)).await?;
        }
        let (mut file, documents) = writer.seal(key).map_err(failed)?;
        file.flush().and_then(|()| file.get_ref().sync_all()).map_err(|e| failed(e.into()))?;
        let bytes = file.get_ref().metadata().map_err(|e| failed(e.into()))?.len();
        fs::rename(&temporary, path).and_then(|()| sync_above(path)).map_err(|e| failed(e.into()))?;
        Ok(Written { path: path.to_owned(), documents, bytes })
    };
    let written = written.await;
    if written.is_err() {
        // What is left of it is nothing that could be restored.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// The newest root: on the first page, or on one that starts before it.
async fn newest_root(name: &str, first: &[Part], source: &Source) -> Result<Root, BackupError> {
    let version = first.iter().find_map(|part| match part {
        Part::Head(head) => head.roles.get("root").map(|role| role.version),
        _ => None,
    });
    let version = version.ok_or_else(|| BackupError::Empty { name: name.to_owned() })?;
    let wanted = |parts: &[Part]| {
        parts.iter().find_map(|part| match part {
            Part::Document { role, version: v, bytes } if role == "root" && *v == version => {
                Some(bytes.clone())
            }
            _ => None,
        })
    };
    let found = match wanted(first) {
        Some(found) => Some(found),
        None => wanted(&source.page(name, Some(&format!("{}:root", version - 1))).await?.0),
    };
    let found = found.ok_or_else(|| BackupError::Empty { name: name.to_owned() })?;
    let root = Document::<Root>::parse("root", &found);
    Ok(root.map_err(|source| BackupError::Stored { name: name.to_owned(), source })?.signed)
}

/// A client for the daemon that runs with `config`, and where it answers: at `server`, else where `config` says that it
/// listens, which is on this machine, so that nobody is between.
pub(crate) fn daemon(config: &Config, server: Option<Url>) -> (Url, Result<Registry, RegistryError>) {
    let plain_http = server.is_none();
    let url = server.unwrap_or_else(|| running(config));
    let default = RegistryOptions::default();
    let options = RegistryOptions {
        credentials: Credentials::anonymous(),
        user_agent: concat!("plimsolld/", env!("CARGO_PKG_VERSION")).to_owned(),
        plain_http,
        ca_file: config.registry.ca_file.clone(),
        certs_dir: config.registry.certs_dir.clone().unwrap_or_else(|| default.certs_dir.clone()),
        ..default
    };
    (url, Registry::new(options))
}

fn running(config: &Config) -> Url {
    let mut address = config.listen;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => IpAddr::from([127, 0, 0, 1]),
            IpAddr::V6(_) => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        });
    }
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    Url::parse(&format!("{scheme}://{address}")).expect("an address makes a URL")
}

/// What `ask` answers once the daemon is not busy with others, which it says by 429 or 503; for a minute at most.
async fn patient<T, F: Future<Output = Result<T, RegistryError>>>(
    ask: impl Fn() -> F,
) -> Result<T, RegistryError> {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = ask().await;
        let pause = match &answer {
            Err(error @ RegistryError::Status { status, .. }) if matches!(status.as_u16(), 429 | 503) => {
                error.retry_after().unwrap_or(PAUSE)
            }
            _ => return answer,
        };
        if Instant::now() + pause > end {
            return answer;
        }
        tokio::time::sleep(pause).await;
    }
}

fn failed(url: &Url, source: RegistryError) -> BackupError {
    BackupError::Server { url: url.to_string(), source }
}

fn sync_above(path: &Path) -> io::Result<()> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(above)?.sync_all()
}
