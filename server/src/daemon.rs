//! The daemon as a whole: data folder, keys, listener, embedded registry, engines.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use plimsoll::{
    clock::Clock,
    publish::api::TrustInfo,
    registry::{Credentials, Registry, RegistryError, RegistryOptions, Secret},
};
use plimsoll_core::{
    oci::{ReferenceError, RepositoryAddress, mapping},
    tuf::KeyId,
};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tracing::info;

use crate::{
    api::{
        Api, Phase,
        serve::{Times, serve},
    },
    config::{Config, TrustConfig},
    host::{Host, HostError},
    inbox::{self, InboxOptions},
    keys::{self, Keyring, OnlineKeyError},
    pipeline::{Engine, EngineError, EngineOptions},
    store::{SledStore, Store, StoreError, TrustKey},
};

/// A password file is one line.
const MAX_PASSWORD: u64 = 4 * 1024;
/// How long the engines may take to finish what is under way when the daemon ends.
const ENGINES_STOP: Duration = Duration::from_secs(6);

/// A running daemon.
///
/// Dropped without [`Daemon::stop`], it stops serving, and the engines end with the runtime: as safe as a kill, which
/// they survive too, but a later start in the same process may find the store still in use.
#[derive(Debug)]
pub struct Daemon {
    address: SocketAddr,
    api: Api,
    phase: watch::Sender<Phase>,
    server: JoinHandle<()>,
    /// Each holds its engine, and ends with it at the latest.
    announcements: JoinSet<()>,
    inboxes: JoinSet<()>,
}

/// Why a daemon does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// The data folder, or the keys in it, cannot be used.
    #[error(transparent)]
    Keys(#[from] OnlineKeyError),
    /// The store has documents of a trust repository whose keys are gone.
    #[error(
        "the online keys of trust repository {name} are gone ({} does not exist): restore them from a backup; or run \
         `plimsolld key show {name}`, which makes new ones, and have the owners publish a root that names those",
        folder.display()
    )]
    KeysGone {
        /// The trust repository.
        name: String,
        /// Where they should be.
        folder: PathBuf,
    },
    /// Two trust repositories have one key, so what is signed for one could be shown for the other.
    #[error("{} and {} hold the same key: remove the copy, each trust repository needs keys of its own", first.display(), second.display())]
    SharedKey {
        /// One folder.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// An online key is an example key.
    #[error("{} holds a key of keys-example/, whose private half everybody has: remove that folder", folder.display())]
    ExampleKey {
        /// The folder.
        folder: PathBuf,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The embedded registry.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: choose another with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The embedded registry takes pushes from everybody who reaches it.
    #[error(
        "trust repository {name} is on the embedded registry, which asks nobody who they are, so it serves loopback only \
         and not {listen}: give it a `repository` on another registry, or listen on 127.0.0.1"
    )]
    Exposed {
        /// The trust repository.
        name: String,
        /// Where the daemon was to listen.
        listen: SocketAddr,
    },
    /// The embedded registry's address and the trust repository's name make no repository.
    #[error(
        "trust repository {name} cannot be on the embedded registry: give it a `repository`, or another name"
    )]
    Repository {
        /// The trust repository.
        name: String,
        /// Why.
        source: ReferenceError,
    },
    /// The trust repository's name leaves no room for that of its inbox.
    #[error("trust repository {name} can have no inbox: leave `inbox` out, or give it a shorter name")]
    Inbox {
        /// The trust repository.
        name: String,
        /// Why.
        source: ReferenceError,
    },
    /// Two trust repositories, or the inbox of one and another, are at one address.
    #[error(
        "trust repositories {first} and {second} are both at {repository}; each needs a repository of its own"
    )]
    SameRepository {
        /// One.
        first: String,
        /// The other.
        second: String,
        /// Where.
        repository: RepositoryAddress,
    },
    /// The password file cannot be used.
    #[error("trust repository {name}: cannot use the password file {}", path.display())]
    Password {
        /// The trust repository.
        name: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The registry client's settings cannot be used.
    #[error("trust repository {name}: [registry]")]
    Registry {
        /// The trust repository.
        name: String,
        /// Why.
        source: RegistryError,
    },
    /// An engine does not start.
    #[error("trust repository {name} does not start")]
    Engine {
        /// The trust repository.
        name: String,
        /// Why.
        source: Box<EngineError>,
    },
}

/// What the data folder and the files that the configuration names hold.
struct Opened {
    store: Arc<dyn Store>,
    /// One for each trust repository, in the configuration's order.
    trusts: Vec<(Registry, Keyring)>,
}

/// Where one trust repository is.
struct Place {
    repository: RepositoryAddress,
    /// Its inbox, and how often to look there.
    inbox: Option<(RepositoryAddress, Duration)>,
}

impl Daemon {
    /// Starts what `config` says: opens the data folder (made with mode 0700), takes the store's lock, loads or makes the
    /// keys, listens, and returns when all engines run. Registries are not waited for.
    ///
    /// Must be called on a tokio runtime, which must go on for as long as the daemon does.
    ///
    /// # Errors
    /// [`DaemonError`]; nothing runs then. Folders and keys that were made stay.
    pub async fn start(config: Config, clock: Arc<dyn Clock>) -> Result<Self, DaemonError> {
        check(&config)?;
        let trusts = config.trusts.clone();
        let (config, opened) = blocking(move || {
            let opened = open(&config);
            (config, opened)
        })
        .await;
        let Opened { store, trusts: prepared } = opened?;

        // Before the rest, since the embedded repositories' names need the port.
        let failed = |source| DaemonError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let places = places(&trusts, address)?;
        let phase = watch::Sender::new(Phase::Serving);
        let api = Api::new(trusts.iter().map(|trust| trust.name.clone()), phase.subscribe());
        let mut router = api.router();
        if trusts.iter().any(|trust| trust.repository.is_none()) {
            let folder = config.data.join("registry");
            router = router.merge(blocking(move || Host::open(&folder)).await?.router());
        }
        // Before the engines: those on the embedded registry reach it over HTTP like any other.
        let server = tokio::spawn(serve(listener, router, phase.subscribe(), Times::default()));
        info!(%address, data = %config.data.display(), "listening on http://{address}");
        let mut daemon =
            Self { address, api, phase, server, announcements: JoinSet::new(), inboxes: JoinSet::new() };

        for ((trust, place), (registry, keys)) in trusts.iter().zip(places).zip(prepared) {
            let Place { repository, inbox } = place;
            let access = registry.clone();
            let options = EngineOptions {
                name: trust.name.clone(),
                repository,
                registry,
                store: store.clone(),
                keys,
                clock: clock.clone(),
                freshness: config.freshness,
                profile: trust.profile,
                refused_keys: if trust.allow_example_keys {
                    Default::default()
                } else {
                    keys::example_keys()
                },
                quota: config.quota,
            };
            match Engine::start(options).await {
                Ok(engine) => {
                    daemon.announcements.spawn(announce(engine.clone(), address));
                    if let Some((repository, interval)) = inbox {
                        info!(trust = trust.name, inbox = %repository, "collecting submissions from its inbox");
                        daemon.inboxes.spawn(inbox::run(InboxOptions {
                            engine: engine.clone(),
                            registry: access,
                            repository,
                            profile: trust.profile,
                            clock: clock.clone(),
                            interval,
                        }));
                    }
                    daemon.api.serve(&trust.name, engine);
                }
                Err(source) => {
                    daemon.stop().await;
                    return Err(DaemonError::Engine { name: trust.name.clone(), source: source.into() });
                }
            }
        }
        Ok(daemon)
    }

    /// Where it listens; the port is the real one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops: takes no more submissions, lets the engines finish the round and the push that are under way, then closes
    /// the listener and lets open requests end. Takes at most 10 s; what is unfinished then is what a kill would leave,
    /// and is taken up at the next start.
    pub async fn stop(mut self) {
        // What is under way there is found again after the next start.
        self.inboxes.shutdown().await;
        // Then the engines: their last push may need the embedded registry, so it must still accept connections.
        self.phase.send_replace(Phase::Draining);
        let engines = self.api.engines();
        let stopped = timeout(ENGINES_STOP, async {
            for engine in &engines {
                engine.stop().await;
            }
            while self.announcements.join_next().await.is_some() {}
        });
        if stopped.await.is_err() {
            tracing::warn!("an engine did not finish in time; the next start goes on from what is stored");
        }
        self.phase.send_replace(Phase::Closing);
        // A panic there was logged; there is nothing left to stop.
        let _ = self.server.await;
    }
}

/// What can be told from the configuration alone, before anything is made.
///
/// # Errors
/// [`DaemonError`].
pub fn check(config: &Config) -> Result<(), DaemonError> {
    if let Some(trust) = config.trusts.iter().find(|trust| trust.repository.is_none())
        && !config.listen.ip().is_loopback()
    {
        return Err(DaemonError::Exposed { name: trust.name.clone(), listen: config.listen });
    }
    let mut address = config.listen;
    if address.port() == 0 {
        // Which it will be is not known, and 0 is none; it is checked again when it is.
        address.set_port(u16::MAX);
    }
    places(&config.trusts, address)?;
    for trust in &config.trusts {
        registry(config, trust)?;
    }
    Ok(())
}

fn open(config: &Config) -> Result<Opened, DaemonError> {
    keys::private_folder(&config.data)?;
    let store: Arc<dyn Store> = Arc::new(SledStore::open(&config.data.join("store"))?);
    let mut seen: BTreeMap<KeyId, PathBuf> = BTreeMap::new();
    let mut trusts = Vec::new();
    for trust in &config.trusts {
        let name = &trust.name;
        let known = store.head(&TrustKey::whole(name))?.sequence > 0;
        if known && !keys::exist(&config.data, name) {
            let folder = config.data.join("keys").join(name);
            return Err(DaemonError::KeysGone { name: name.clone(), folder });
        }
        let keys::OnlinePair { folder, made, .. } = keys::load_or_make(&config.data, name)?;
        let ring = Keyring::open(&config.data, name)?;
        for id in ring.ids() {
            if !trust.allow_example_keys && keys::example_keys().contains(&id) {
                return Err(DaemonError::ExampleKey { folder });
            }
            if let Some(first) = seen.insert(id, folder.clone()).filter(|first| *first != folder) {
                return Err(DaemonError::SharedKey { first, second: folder });
            }
        }
        if made {
            info!(trust = name, folder = %folder.display(), "made the online keys");
        }
        trusts.push((registry(config, trust)?, ring));
    }
    Ok(Opened { store, trusts })
}

/// Where each trust repository and its inbox are, those on the embedded registry included.
fn places(trusts: &[TrustConfig], address: SocketAddr) -> Result<Vec<Place>, DaemonError> {
    let mut seen = BTreeMap::new();
    let mut all = Vec::new();
    for TrustConfig { name, repository, inbox, .. } in trusts {
        let repository = match repository {
            Some(repository) => repository.clone(),
            None => format!("{address}/{name}/trust")
                .parse()
                .map_err(|source| DaemonError::Repository { name: name.clone(), source })?,
        };
        let inbox = inbox.map(|interval| Ok((mapping::inbox::inbox(&repository)?, interval)));
        let inbox = inbox.transpose().map_err(|source| DaemonError::Inbox { name: name.clone(), source })?;
        for repository in [Some(&repository), inbox.as_ref().map(|(at, _)| at)].into_iter().flatten() {
            if let Some(first) = seen.insert(repository.clone(), name.clone()) {
                let (second, repository) = (name.clone(), repository.clone());
                return Err(DaemonError::SameRepository { first, second, repository });
            }
        }
        all.push(Place { repository, inbox });
    }
    Ok(all)
}

/// The client for the registry of `trust`. Reads the CA file and the password file.
fn registry(config: &Config, trust: &TrustConfig) -> Result<Registry, DaemonError> {
    let credentials = match (&trust.repository, &trust.login) {
        // The embedded registry asks for none, and must not be sent any.
        (None, _) => Credentials::anonymous(),
        (Some(_), None) => Credentials::docker(),
        (Some(_), Some(login)) => {
            let path = &login.password_file;
            let failed =
                |source| DaemonError::Password { name: trust.name.clone(), path: path.clone(), source };
            Credentials::fixed(&login.username, password(path).map_err(failed)?)
        }
    };
    let access = config.registry.clone();
    let default = RegistryOptions::default();
    let options = RegistryOptions {
        ca_file: access.ca_file,
        plain_http: access.plain_http,
        certs_dir: access.certs_dir.unwrap_or(default.certs_dir),
        user_agent: concat!("plimsolld/", env!("CARGO_PKG_VERSION")).to_owned(),
        credentials,
        ..default
    };
    Registry::new(options).map_err(|source| DaemonError::Registry { name: trust.name.clone(), source })
}

/// The first line of the file, which must be its owner's only.
fn password(path: &Path) -> io::Result<Secret> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    // Asked before opening, as opening a FIFO would wait for its writer; the mode is asked of the opened file.
    if !std::fs::metadata(path)?.is_file() {
        return Err(wrong("it is not a file".to_owned()));
    }
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(wrong(format!("it is open to others (mode {mode:03o}); run `chmod 600` on it")));
    }
    let room = usize::try_from(MAX_PASSWORD + 1).expect("a few KiB");
    let mut text = String::with_capacity(room);
    file.take(MAX_PASSWORD + 1).read_to_string(&mut text)?;
    // From here on wiped when dropped; with room for all it was never moved.
    let whole = Secret::new(text);
    if whole.expose().len() == room {
        return Err(wrong(format!("it is larger than {MAX_PASSWORD} bytes")));
    }
    let line = whole.expose().lines().next().unwrap_or_default();
    if line.is_empty() { Err(wrong("its first line is empty".to_owned())) } else { Ok(Secret::new(line)) }
}

/// Says where a trust repository is and, if it was never made, how to make it. An empty store alone does not tell that:
/// it may be lost, so the registry is looked at first. An alarm speaks for itself.
async fn announce(engine: Engine, address: SocketAddr) {
    let known = engine.info().trust_id.is_some();
    let sound = known || engine.looked().await;
    let TrustInfo { name, repository, trust_id, .. } = engine.info();
    match trust_id {
        Some(trust_id) => info!(trust = name, repository, trust_id, "serving it"),
        None if sound => info!(
            trust = name,
            repository,
            "not made yet: plimsoll init {repository} --scope 'ORG/**' --key owner.key --server http://{address}"
        ),
        None => {}
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic()))
}
