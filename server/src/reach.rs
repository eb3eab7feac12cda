//! Reaching what belongs to one trust repository while the daemon does not run: its registry, also the embedded one.

use plimsoll::registry::Registry;
use plimsoll_core::oci::RepositoryAddress;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::{
    api::{
        Phase,
        serve::{Times, serve},
    },
    config::{Config, TrustConfig},
    daemon::{self, DaemonError},
    host::Host,
};

/// A registry that can be asked. The embedded one is served on loopback until this is dropped.
#[derive(Debug)]
pub(crate) struct Reach {
    pub(crate) registry: Registry,
    pub(crate) repository: RepositoryAddress,
    server: Option<(JoinHandle<()>, watch::Sender<Phase>)>,
}

impl Reach {
    /// The registry of `trust`. Must be called on a tokio runtime. The caller holds the store's lock, or knows otherwise
    /// that no daemon has the embedded registry open.
    ///
    /// # Errors
    /// [`DaemonError`].
    pub(crate) async fn of(config: &Config, trust: &TrustConfig) -> Result<Self, DaemonError> {
        let registry = daemon::client(config, trust)?;
        if let Some(repository) = &trust.repository {
            return Ok(Self { registry, repository: repository.clone(), server: None });
        }
        let host = Host::open(&config.data.join("registry"))?;
        let any = ([127, 0, 0, 1], 0).into();
        let failed = |source| DaemonError::Listen { address: any, source };
        let listener = TcpListener::bind(any).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let repository = format!("{address}/{}/trust", trust.name)
            .parse()
            .map_err(|source| DaemonError::Repository { name: trust.name.clone(), source })?;
        let phase = watch::Sender::new(Phase::Serving);
        let server = tokio::spawn(serve(listener, None, host.router(), phase.subscribe(), Times::default()));
        Ok(Self { registry, repository, server: Some((server, phase)) })
    }
}

impl Drop for Reach {
    fn drop(&mut self) {
        if let Some((server, _)) = self.server.take() {
            server.abort();
        }
    }
}
