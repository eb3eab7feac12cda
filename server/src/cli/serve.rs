//! `plimsolld serve`.

use std::{net::SocketAddr, sync::Arc};

use clap::Args;
use plimsoll::clock::SystemClock;
use tokio::signal::unix::SignalKind;
use tracing::info;

use super::{Source, watch};
use crate::{
    config::{Config, Overrides, TrustArgument},
    daemon::Daemon,
};

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) source: Source,
    /// Where to listen, as 127.0.0.1:8480; port 0 is any free one
    #[arg(long, value_name = "ADDR")]
    pub(super) listen: Option<SocketAddr>,
    /// Serve this trust repository, at HOST/REPO or on the embedded registry; may be given several times
    ///
    /// If given, exactly these are served; what the configuration says of one with the same name still holds.
    #[arg(long = "trust", value_name = "NAME[=HOST/REPO]")]
    pub(super) trusts: Vec<TrustArgument>,
}

/// Runs the daemon until a signal ends it.
pub(super) async fn serve(arguments: Serve) -> anyhow::Result<()> {
    let Serve { source, listen, trusts } = arguments;
    let overrides = Overrides { data: source.data, listen, trusts };
    let config = Config::resolve(source.config.as_deref(), &overrides)?;
    // Before anything starts, so that no signal is missed.
    let (mut terminate, mut interrupt) = (watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?);
    let daemon = tokio::select! {
        daemon = Daemon::start(config, Arc::new(SystemClock)) => daemon?,
        // Half-started is as safe as killed: the same code goes on from it.
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let signal = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    info!("{signal}: stopping");
    daemon.stop().await;
    info!("stopped");
    Ok(())
}
