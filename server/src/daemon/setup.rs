//! What a daemon needs before an engine runs: files, keys, registry clients, places.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use plimsoll::{
    clock::Clock,
    registry::{Credentials, Registry, RegistryOptions},
};
use plimsoll_core::{
    oci::{RepositoryAddress, mapping},
    tuf::KeyId,
};
use rustls::ServerConfig;
use tracing::info;

use super::{DaemonError, blocking};
use crate::{
    api::gate::Held,
    config::{Config, Login, TrustConfig},
    keys::{self, Keyring},
    pipeline::EngineOptions,
    secrets::SecretFile,
    store::{SledStore, Store, TrustKey},
    tls, tokens,
};

/// A password file is one line.
pub(super) const MAX_PASSWORD: usize = 4 * 1024;

/// What the files say that a configuration names. All of it may change at run time.
pub(crate) struct Edge {
    /// How the registry of each trust repository is reached, in the configuration's order.
    pub(crate) accesses: Vec<Access>,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) tokens: Held,
}

impl Edge {
    /// Reads the files that `config` names: passwords, CAs, certificate and key, tokens. Blocking disk I/O; changes nothing.
    ///
    /// # Errors
    /// [`DaemonError::Password`], [`DaemonError::Registry`], [`DaemonError::Tls`], [`DaemonError::Tokens`].
    pub(crate) fn read(config: &Config) -> Result<Self, DaemonError> {
        let file = config.api.tokens.clone().unwrap_or_else(|| tokens::default_file(&config.data).into());
        Ok(Self {
            accesses: config
                .trusts
                .iter()
                .map(|trust| Access::of(config, trust))
                .collect::<Result<_, _>>()?,
            tls: config.tls.as_ref().map(tls::load).transpose()?,
            tokens: Held::read(config.api.submit, file)?,
        })
    }
}

/// How a registry is reached. Clones share one client, which may be told another way.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) registry: Registry,
    credentials: Credentials,
}

impl Access {
    /// Reads the CA file and the password file.
    fn of(config: &Config, trust: &TrustConfig) -> Result<Self, DaemonError> {
        let credentials = credentials(trust)?;
        Ok(Self { registry: registry(config, trust, credentials.clone())?, credentials })
    }

    /// From now on the registry is reached as by `other`.
    pub(crate) fn replace(&self, other: &Self) {
        self.credentials.replace(&other.credentials);
        self.registry.replace(&other.registry);
    }
}

/// Where one trust repository is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) repository: RepositoryAddress,
    /// Its inbox, and how often to look there.
    pub(crate) inbox: Option<(RepositoryAddress, Duration)>,
}

/// All that the engine of one trust repository is made of.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) trust: TrustConfig,
    pub(crate) place: Place,
    pub(crate) access: Access,
    pub(crate) keys: Keyring,
}

/// The keys that are in use, and where.
pub(crate) type Seen = BTreeMap<KeyId, PathBuf>;

/// Opens the store in the data folder, which is made (mode 0700) if it is not there. Blocking disk I/O.
///
/// # Errors
/// [`DaemonError`].
pub(super) fn store(config: &Config) -> Result<Arc<dyn Store>, DaemonError> {
    keys::private_folder(&config.data)?;
    Ok(Arc::new(SledStore::open(&config.data.join("store"))?))
}

/// Loads or makes the keys of `trust`, which must be none of those `seen`; they are added to these. Blocking disk I/O.
///
/// # Errors
/// [`DaemonError`].
pub(crate) fn keyring(
    config: &Config,
    trust: &TrustConfig,
    store: &dyn Store,
    seen: &mut Seen,
) -> Result<Keyring, DaemonError> {
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
    Ok(ring)
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
        let accesses = config.trusts.iter().map(|trust| Access::of(&config, trust));
        let accesses = accesses.collect::<Result<Vec<_>, _>>()?;
        let store = store(&config)?;
        let mut seen = Seen::new();
        let all = config.trusts.iter().zip(places(&config.trusts, config.listen)?).zip(accesses);
        all.map(|((trust, place), access)| {
            let keys = keyring(&config, trust, &*store, &mut seen)?;
            Ok(options(&config, trust, place.repository, access.registry, store.clone(), keys, clock.clone()))
        })
        .collect()
    })
    .await
}

pub(super) fn options(
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

/// Where each trust repository and its inbox are, those on the embedded registry included.
pub(crate) fn places(trusts: &[TrustConfig], address: SocketAddr) -> Result<Vec<Place>, DaemonError> {
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
