//! The daemon as a whole: data folder, keys, listener, embedded registry, engines.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use plimsoll::{
    clock::Clock,
    publish::api::TrustInfo,
    registry::{Credentials, Registry, RegistryError, RegistryOptions},
};
use plimsoll_core::{
    oci::{ReferenceError, RepositoryAddress, mapping},
    tuf::KeyId,
};
use rustls::ServerConfig;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tracing::{info, warn};

use crate::{
    api::{
        Api, Phase,
        gate::{Gate, Held},
        serve::{Times, serve},
    },
    config::{Config, Login, TrustConfig},
    host::{Host, HostError},
    inbox::{self, InboxOptions},
    keys::{self, Keyring, OnlineKeyError},
    pipeline::{Engine, EngineError, EngineOptions},
    secrets::SecretFile,
    store::{SledStore, Store, StoreError, TrustKey},
    tls::{self, Handshakes, Tls, TlsError},
    tokens::{self, TokenError},
};

/// A password file is one line.
const MAX_PASSWORD: usize = 4 * 1024;
/// How long the engines may take to finish what is under way when the daemon ends.
const ENGINES_STOP: Duration = Duration::from_secs(6);

/// A running daemon.
///
/// Dropped without [`Daemon::stop`], it stops serving, and the engines end with the runtime: as safe as a kill, which
/// they survive too, but a later start in the same process may find the store still in use.
#[derive(Debug)]
pub struct Daemon {
    address: SocketAddr,
    pub(crate) api: Api,
    phase: watch::Sender<Phase>,
    server: JoinHandle<()>,
    /// What it was started with, and what was changed since.
    config: Config,
    /// What each trust repository's registry client logs in with, in the configuration's order.
    credentials: Vec<Credentials>,
    /// What new connections are shown; none without TLS.
    tls: Option<watch::Sender<Arc<ServerConfig>>>,
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
    #[error("trust repository {name}: cannot use the password file {file}")]
    Password {
        /// The trust repository.
        name: String,
        /// The file.
        file: SecretFile,
        /// Why.
        source: io::Error,
    },
    /// The listener's certificate and key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The tokens.
    #[error(transparent)]
    Tokens(#[from] TokenError),
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

/// What the data folder holds.
struct Opened {
    store: Arc<dyn Store>,
    /// One for each trust repository, in the configuration's order.
    trusts: Vec<(Registry, Keyring)>,
}

/// What the listener needs of the disk. All of it may change at run time.
pub(crate) struct Edge {
    /// What each trust repository's registry client logs in with, in the configuration's order.
    pub(crate) credentials: Vec<Credentials>,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) tokens: Held,
}

impl Edge {
    /// Reads the files that `config` names: passwords, certificate and key, tokens. Blocking disk I/O; changes nothing.
    ///
    /// # Errors
    /// [`DaemonError::Password`], [`DaemonError::Tls`], [`DaemonError::Tokens`].
    pub(crate) fn read(config: &Config) -> Result<Self, DaemonError> {
        let file = config.api.tokens.clone().unwrap_or_else(|| tokens::default_file(&config.data).into());
        Ok(Self {
            credentials: config.trusts.iter().map(credentials).collect::<Result<_, _>>()?,
            tls: config.tls.as_ref().map(tls::load).transpose()?,
            tokens: Held::read(config.api.submit, file)?,
        })
    }
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
            // What may be wrong with the files that the configuration names, before anything is made.
            let opened = Edge::read(&config).and_then(|edge| Ok((open(&config, &edge.credentials)?, edge)));
            (config, opened)
        })
        .await;
        let (Opened { store, trusts: prepared }, Edge { credentials, tls, tokens }) = opened?;

        // Before the rest, since the embedded repositories' names need the port.
        let failed = |source| DaemonError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let places = places(&trusts, address)?;
        let phase = watch::Sender::new(Phase::Serving);
        let gate = Gate::new(tokens, address.ip().is_loopback(), clock.clone());
        let names = trusts.iter().map(|trust| trust.name.clone());
        let api = Api::new(names, gate, phase.subscribe());
        let mut router = api.router();
        if trusts.iter().any(|trust| trust.repository.is_none()) {
            let folder = config.data.join("registry");
            router = router.merge(blocking(move || Host::open(&folder)).await?.router());
        }
        // Before the engines: those on the embedded registry reach it over HTTP like any other.
        let tls = tls.map(watch::Sender::new);
        let secured = tls.as_ref().map(|config| Tls::new(config.subscribe(), Handshakes::default()));
        let routes = api.before(router);
        let server = tokio::spawn(serve(listener, secured, routes, phase.subscribe(), Times::default()));
        let scheme = if tls.is_some() { "https" } else { "http" };
        info!(%address, data = %config.data.display(), "listening on {scheme}://{address}");
        let mut daemon = Self {
            address,
            api,
            phase,
            server,
            config: config.clone(),
            credentials,
            tls,
            announcements: JoinSet::new(),
            inboxes: JoinSet::new(),
        };
        daemon.warn_of_the_open();

        for ((trust, place), (registry, keys)) in trusts.iter().zip(places).zip(prepared) {
            let Place { repository, inbox } = place;
            let access = registry.clone();
            let options = options(&config, trust, repository, registry, store.clone(), keys, clock.clone());
            match Engine::start(options).await {
                Ok(engine) => {
                    daemon.announcements.spawn(announce(engine.clone(), format!("{scheme}://{address}")));
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

    /// Says what whoever reaches this daemon may do or see, if that may be more than was meant.
    fn warn_of_the_open(&self) {
        if self.address.ip().is_loopback() {
            return;
        }
        if self.tls.is_none() {
            warn!(
                "this address is reached in plain http: a token sent to it can be read on the way, and `plimsoll` sends \
                 none; set [tls], or listen on loopback behind a proxy that does"
            );
        }
        if !self.api.gate().closed() {
            warn!("whoever reaches this address may submit, without a token: `submit = \"anyone\"` says so");
        }
    }

    /// The engines.
    pub fn engines(&self) -> Vec<Engine> {
        self.api.engines()
    }

    /// Where it listens; the port is the real one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it goes by now.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// From now on goes by `config`, which differs from the one it has in what `edge`, read by it, and the engines hold.
    pub(crate) fn take(&mut self, config: Config, edge: Edge) {
        for (held, new) in self.credentials.iter().zip(&edge.credentials) {
            held.replace(new);
        }
        if let (Some(held), Some(new)) = (&self.tls, edge.tls) {
            held.send_replace(new);
        }
        self.api.gate().replace(edge.tokens);
        self.config = config;
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
            warn!("an engine did not finish in time; the next start goes on from what is stored");
        }
        self.phase.send_replace(Phase::Closing);
        // A panic there was logged; there is nothing left to stop.
        let _ = self.server.await;
    }
}

/// What each trust repository's engine is made of, with the store opened, for who runs them without a listener. None may be
/// on the embedded registry.
///
/// # Errors
/// [`DaemonError`].
pub(crate) async fn engines(
    config: Config,
    clock: Arc<dyn Clock>,
) -> Result<Vec<EngineOptions>, DaemonError> {
    check(&config)?;
    blocking(move || {
        let logins = config.trusts.iter().map(credentials).collect::<Result<Vec<_>, _>>()?;
        let Opened { store, trusts } = open(&config, &logins)?;
        let places = places(&config.trusts, config.listen)?;
        let all = config.trusts.iter().zip(places).zip(trusts);
        Ok(all
            .map(|((trust, place), (registry, keys))| {
                options(&config, trust, place.repository, registry, store.clone(), keys, clock.clone())
            })
            .collect())
    })
    .await
}

fn options(
    config: &Config,
    trust: &TrustConfig,
    repository: RepositoryAddress,
    registry: Registry,
    store: Arc<dyn Store>,
    keys: Keyring,
    clock: Arc<dyn Clock>,
) -> EngineOptions {
    EngineOptions {
        name: trust.name.clone(),
        repository,
        registry,
        store,
        keys,
        clock,
        freshness: config.freshness,
        profile: trust.profile,
        refused_keys: if trust.allow_example_keys { Default::default() } else { keys::example_keys() },
        quota: config.quota,
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
        registry(config, trust, Credentials::anonymous())?;
    }
    Ok(())
}

/// What can be told of the files that the configuration names, before anything is made. Blocking disk I/O. Returns those
/// that cannot be looked at here: credentials of a service that this process is not.
///
/// # Errors
/// [`DaemonError`].
pub fn check_files(config: &Config) -> Result<Vec<SecretFile>, DaemonError> {
    let mut config = config.clone();
    let mut elsewhere = Vec::new();
    let mut keep = |file: &SecretFile| {
        let here = file.is_here();
        if !here {
            elsewhere.push(file.clone());
        }
        here
    };
    for trust in &mut config.trusts {
        trust.login = trust.login.take().filter(|login| keep(&login.password_file));
    }
    config.tls = config.tls.take().filter(|tls| keep(&tls.certificate) & keep(&tls.key));
    config.api.tokens = config.api.tokens.take().filter(&mut keep);
    Edge::read(&config)?;
    Ok(elsewhere)
}

fn open(config: &Config, logins: &[Credentials]) -> Result<Opened, DaemonError> {
    keys::private_folder(&config.data)?;
    let store: Arc<dyn Store> = Arc::new(SledStore::open(&config.data.join("store"))?);
    let mut seen: BTreeMap<KeyId, PathBuf> = BTreeMap::new();
    let mut trusts = Vec::new();
    for (trust, credentials) in config.trusts.iter().zip(logins) {
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
        trusts.push((registry(config, trust, credentials.clone())?, ring));
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

/// The client for the registry of `trust`, logged in. Reads the CA file and the password file.
pub(crate) fn client(config: &Config, trust: &TrustConfig) -> Result<Registry, DaemonError> {
    registry(config, trust, credentials(trust)?)
}

/// What the client for the registry of `trust` logs in with. Reads the password file.
fn credentials(trust: &TrustConfig) -> Result<Credentials, DaemonError> {
    Ok(match (&trust.repository, &trust.login) {
        // The embedded registry asks for none, and must not be sent any.
        (None, _) => Credentials::anonymous(),
        (Some(_), None) => Credentials::docker(),
        (Some(_), Some(Login { username, password_file: file })) => {
            let failed =
                |source| DaemonError::Password { name: trust.name.clone(), file: file.clone(), source };
            Credentials::fixed(username, file.first_line(MAX_PASSWORD).map_err(failed)?)
        }
    })
}

/// The client for the registry of `trust`. Reads the CA file.
fn registry(config: &Config, trust: &TrustConfig, credentials: Credentials) -> Result<Registry, DaemonError> {
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

/// Says where a trust repository is and, if it was never made, how to make it. An empty store alone does not tell that:
/// it may be lost, so the registry is looked at first. An alarm speaks for itself.
async fn announce(engine: Engine, url: String) {
    let known = engine.info().trust_id.is_some();
    let sound = known || engine.looked().await;
    let TrustInfo { name, repository, trust_id, .. } = engine.info();
    match trust_id {
        Some(trust_id) => info!(trust = name, repository, trust_id, "serving it"),
        None if sound => info!(
            trust = name,
            repository,
            "not made yet: plimsoll init {repository} --scope 'ORG/**' --key owner.key --server {url}"
        ),
        None => {}
    }
}

/// Runs `work` on a thread that may block; a panic there is passed on.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic()))
}
