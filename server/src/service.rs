//! The daemon as a service: runs until a signal ends it, reloads on SIGHUP, and tells systemd.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
use plimsoll::clock::SystemClock;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{Level, error, info};

use crate::{
    config::{Config, Overrides},
    daemon::Daemon,
    logging::{self, Filter},
    metrics::Settings,
    notify::Notifier,
};

/// Runs what `file` and `overrides` say until SIGTERM or SIGINT. SIGHUP reads both again. What is logged, `log` decides.
///
/// # Errors
/// What keeps it from starting. Afterwards nothing ends it but a signal.
pub async fn run(file: Option<PathBuf>, overrides: Overrides, log: &Filter) -> anyhow::Result<()> {
    let config = Config::resolve(file.as_deref(), &overrides)?;
    log.set(config.log.as_deref().unwrap_or(logging::DEFAULT));
    let notifier = Notifier::from_env();
    // Before anything starts, so that no signal is missed, and that none but these two ends it.
    let (mut terminate, mut interrupt) = (watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?);
    let mut hangup = watch(SignalKind::hangup())?;
    let mut daemon = tokio::select! {
        daemon = Daemon::start(config, Arc::new(SystemClock)) => daemon?,
        // Half-started is as safe as killed: the same code goes on from it.
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    notifier.ready();
    let signal = loop {
        // Others after a reload.
        let engines = daemon.engines();
        let attend = async {
            notifier.attend(&engines).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            _ = hangup.recv() => {}
            () = attend => {}
        }
        notifier.reloading();
        reload(&mut daemon, file.as_deref(), &overrides, log).await;
        // Whatever came of it: it serves.
        notifier.ready();
    };
    info!("{signal}: stopping");
    notifier.stopping();
    daemon.stop().await;
    info!("stopped");
    Ok(())
}

async fn reload(daemon: &mut Daemon, file: Option<&std::path::Path>, overrides: &Overrides, log: &Filter) {
    info!("SIGHUP: reading the configuration again");
    let outcome = match Config::resolve(file, overrides) {
        Ok(config) => daemon.reload(config).await.map_err(anyhow::Error::from),
        Err(error) => Err(error.into()),
    };
    daemon.api.note_settings(match &outcome {
        Ok(reloaded) => {
            let refused = !reloaded.failed.is_empty() || !reloaded.kept.is_empty();
            Settings { refused, restart: !reloaded.restart.is_empty() }
        }
        Err(_) => Settings { refused: true, ..daemon.api.settings() },
    });
    match outcome {
        Ok(reloaded) => {
            let switch = || log.set(daemon.config().log.as_deref().unwrap_or(logging::DEFAULT));
            // Told by whichever of the two filters lets it through.
            if tracing::enabled!(Level::INFO) {
                reloaded.log();
                switch();
            } else {
                switch();
                reloaded.log();
            }
        }
        Err(error) => error!("not reloaded, everything goes on as it was: {error:#}"),
    }
}

fn watch(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("cannot watch for signals")
}
