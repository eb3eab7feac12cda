//! The daemon as a whole: data folder, keys, listener, embedded registry, engines.

mod error;
mod setup;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use plimsoll::{clock::Clock, publish::api::TrustInfo};
use plimsoll_core::tuf::KeyId;
use rustls::ServerConfig;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tracing::{info, warn};

pub(crate) use self::setup::{Access, Edge, Place, Prepared, Seen, client, engines, keyring, places};
pub use self::{
    error::DaemonError,
    setup::{check, check_files},
};
use crate::{
    api::{
        Api, Phase,
        gate::Gate,
        serve::{Times, serve},
    },
    config::{Config, TrustConfig},
    host::Berth,
    inbox::{self, InboxOptions},
    pipeline::Engine,
    store::Store,
    tls::{Handshakes, Tls},
};

/// How long the engines may take to finish what is under way when they are to end.
const ENGINES_STOP: Duration = Duration::from_secs(6);

/// A running daemon.
///
/// Dropped without [`Daemon::stop`], it stops serving, and the engines end with the runtime: as safe as a kill, which
/// they survive too, but a later start in the same process may find the store still in use.
pub struct Daemon {
    address: SocketAddr,
    pub(crate) api: Api,
    phase: watch::Sender<Phase>,
    server: JoinHandle<()>,
    /// What it was started with, and what was changed since.
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// The embedded registry, if it is served.
    pub(crate) berth: Berth,
    /// What new connections are shown; none without TLS.
    tls: Option<watch::Sender<Arc<ServerConfig>>>,
    /// By name.
    pub(crate) trusts: BTreeMap<String, Running>,
    /// Names whose engine was told to end and did not: no other one may have them while this process lives.
    pub(crate) stuck: BTreeSet<String>,
    /// Each holds its engine, and ends with it at the latest.
    announcements: JoinSet<()>,
}

/// A trust repository that is served.
pub(crate) struct Running {
    engine: Engine,
    pub(crate) access: Access,
    /// Looks into its inbox, if it has one.
    inbox: JoinSet<()>,
}

impl Running {
    /// From now on goes by the lives, intervals and quota of `config`.
    pub(crate) fn adjust(&self, config: &Config) {
        let set = self.engine.set_freshness(config.freshness);
        // It was checked when the configuration was read.
        debug_assert!(set.is_ok(), "{set:?}");
        self.engine.set_quota(config.quota);
    }
}

impl fmt::Debug for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Daemon")
            .field("address", &self.address)
            .field("api", &self.api)
            .finish_non_exhaustive()
    }
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
        let (config, opened) = blocking(move || {
            // What may be wrong with the files that the configuration names, before anything is made.
            let opened = Edge::read(&config).and_then(|edge| {
                let (store, mut seen) = (setup::store(&config)?, Seen::new());
                let rings = config.trusts.iter().map(|trust| keyring(&config, trust, &*store, &mut seen));
                Ok((edge, rings.collect::<Result<Vec<_>, _>>()?, store))
            });
            (config, opened)
        })
        .await;
        let (Edge { accesses, tls, tokens }, rings, store) = opened?;

        // Before the rest, since the embedded repositories' names need the port.
        let failed = |source| DaemonError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let places = places(&config.trusts, address)?;
        let phase = watch::Sender::new(Phase::Serving);
        let gate = Gate::new(tokens, address.ip().is_loopback(), clock.clone());
        let names = config.trusts.iter().map(|trust| trust.name.clone());
        let api = Api::new(names, gate, phase.subscribe());
        let berth = Berth::default();
        if config.trusts.iter().any(|trust| trust.repository.is_none()) {
            let (berth, folder) = (berth.clone(), config.data.join("registry"));
            blocking(move || berth.open(&folder)).await?;
        }
        let router = api.router().merge(berth.router());
        // Before the engines: those on the embedded registry reach it over HTTP like any other.
        let tls = tls.map(watch::Sender::new);
        let secured = tls.as_ref().map(|config| Tls::new(config.subscribe(), Handshakes::default()));
        let routes = api.before(router);
        let server = tokio::spawn(serve(listener, secured, routes, phase.subscribe(), Times::default()));
        let (trusts, stuck, announcements) = Default::default();
        let mut daemon = Self {
            address,
            api,
            phase,
            server,
            config,
            store,
            clock,
            berth,
            tls,
            trusts,
            stuck,
            announcements,
        };
        let data = daemon.config.data.display().to_string();
        info!(%address, data, "listening on {}", daemon.url());
        daemon.warn_of_the_open();

        let config = daemon.config.clone();
        for (((trust, place), access), keys) in config.trusts.iter().zip(places).zip(accesses).zip(rings) {
            let prepared = Prepared { trust: trust.clone(), place, access, keys };
            match daemon.launch(&config, prepared).await {
                Ok(launched) => daemon.admit(launched),
                Err(error) => {
                    daemon.stop().await;
                    return Err(error);
                }
            }
        }
        Ok(daemon)
    }

    /// Starts the engine of `prepared`, which nobody reaches yet.
    pub(crate) async fn launch(&self, config: &Config, prepared: Prepared) -> Result<Launched, DaemonError> {
        let Prepared { trust, place, access, keys } = prepared;
        let (repository, registry) = (place.repository.clone(), access.registry.clone());
        let (store, clock) = (self.store.clone(), self.clock.clone());
        let options = setup::options(config, &trust, repository, registry, store, keys, clock);
        match Engine::start(options).await {
            Ok(engine) => Ok(Launched { trust, place, access, engine }),
            Err(source) => Err(DaemonError::Engine { name: trust.name, source: source.into() }),
        }
    }

    /// From now on what was launched is served.
    pub(crate) fn admit(&mut self, launched: Launched) {
        let Launched { trust, place, access, engine } = launched;
        // Those that are over.
        while self.announcements.try_join_next().is_some() {}
        self.announcements.spawn(announce(engine.clone(), self.url()));
        self.api.serve(&trust.name, engine.clone());
        let running = Running { engine, access, inbox: JoinSet::new() };
        self.trusts.insert(trust.name.clone(), running);
        self.look_into_inbox(&trust, place);
    }

    /// From now on looks into the inbox of `trust` as `place` says, or not at all.
    pub(crate) fn look_into_inbox(&mut self, trust: &TrustConfig, place: Place) {
        let Some(running) = self.trusts.get_mut(&trust.name) else { return };
        // Ends what looked before. What it had under way is found again.
        running.inbox = JoinSet::new();
        if let Some((repository, interval)) = place.inbox {
            info!(trust = trust.name, inbox = %repository, "collecting submissions from its inbox");
            running.inbox.spawn(inbox::run(InboxOptions {
                engine: running.engine.clone(),
                registry: running.access.registry.clone(),
                repository,
                profile: trust.profile,
                clock: self.clock.clone(),
                interval,
            }));
        }
    }

    /// The ids of the keys of `name`, which is served: those in use and those that wait.
    pub(crate) fn key_ids(&self, name: &str) -> Vec<KeyId> {
        let Some(running) = self.trusts.get(name) else { return Vec::new() };
        let TrustInfo { online, online_next, .. } = running.engine.info();
        let pairs = std::iter::once(online).chain(online_next);
        pairs.flat_map(|pair| [pair.timestamp.id(), pair.snapshot.id()]).collect()
    }

    /// Ends what serves `names`, which nobody may reach any more, all at the same time: the rounds and pushes that are under way
    /// are finished. Returns those that took too long, and notes them as stuck.
    pub(crate) async fn retire(&mut self, names: impl IntoIterator<Item = String>) -> BTreeSet<String> {
        let mut ending = JoinSet::new();
        for name in names {
            let Some(Running { engine, mut inbox, .. }) = self.trusts.remove(&name) else { continue };
            ending.spawn(async move {
                // What is under way there is found again.
                inbox.shutdown().await;
                let ended = timeout(ENGINES_STOP, engine.stop()).await;
                (name, ended.is_ok())
            });
        }
        let ended = ending.join_all().await.into_iter();
        let late: BTreeSet<String> = ended.filter(|(_, ended)| !ended).map(|(name, _)| name).collect();
        self.stuck.extend(late.iter().cloned());
        late
    }

    /// Says what whoever reaches this daemon may do or see, if that may be more than was meant.
    pub(crate) fn warn_of_the_open(&self) {
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

    /// What it goes by now.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Where it listens; the port is the real one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// From now on shows `tls` to new connections, if it is one that shows anything.
    pub(crate) fn show(&self, tls: Option<Arc<ServerConfig>>) {
        if let (Some(held), Some(new)) = (&self.tls, tls) {
            held.send_replace(new);
        }
    }

    /// Stops: takes no more submissions, lets the engines finish the round and the push that are under way, then closes
    /// the listener and lets open requests end. Takes at most 10 s; what is unfinished then is what a kill would leave,
    /// and is taken up at the next start.
    pub async fn stop(mut self) {
        for running in self.trusts.values_mut() {
            running.inbox.shutdown().await;
        }
        // Then the engines: their last push may need the embedded registry, so it must still accept connections.
        self.phase.send_replace(Phase::Draining);
        let names: Vec<_> = self.trusts.keys().cloned().collect();
        let late = self.retire(names).await;
        if !late.is_empty() {
            warn!(engines = ?late, "they did not finish in time; the next start goes on from what is stored");
        }
        self.announcements.shutdown().await;
        self.phase.send_replace(Phase::Closing);
        // A panic there was logged; there is nothing left to stop.
        let _ = self.server.await;
    }
}

/// An engine that runs, and that nobody reaches yet.
pub(crate) struct Launched {
    trust: TrustConfig,
    place: Place,
    access: Access,
    pub(crate) engine: Engine,
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
