//! Collecting submissions from the inbox of a trust repository, `REPOSITORY/inbox` (docs/oci-mapping.md).
//!
//! Others push there what they like, so every look is bounded in requests, bytes and time, nothing found there can end
//! it, and it takes no more than half of the time. It runs beside the engine, whose rounds never wait for it.

mod look;
mod memory;

use std::{sync::Arc, time::Duration};

use plimsoll::{clock::Clock, registry::Registry, verify};
use plimsoll_core::oci::{RepositoryAddress, mapping::Profile};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tracing::{debug, error, info, warn};

use self::look::{Looked, Looker};
use crate::pipeline::Engine;

/// The longest pause between tries against a registry or an engine in trouble, unless the interval is longer.
const LONGEST: Duration = Duration::from_secs(60);

/// What is needed to empty an inbox.
#[derive(Clone)]
pub struct InboxOptions {
    /// Takes the submissions.
    pub engine: Engine,
    /// With the credentials to pull, push and delete in the inbox.
    pub registry: Registry,
    /// The inbox.
    pub repository: RepositoryAddress,
    /// How answers are written.
    pub profile: Profile,
    /// Dates the answers.
    pub clock: Arc<dyn Clock>,
    /// Between two looks.
    pub interval: Duration,
}

/// Looks into the inbox time and again, until it is dropped. That loses nothing: what was not answered is found again.
/// Network, as the engine's registry.
pub async fn run(options: InboxOptions) {
    loop {
        // A task of its own, so that a panic ends one look and not all. It ends with this one.
        let mut looking = JoinSet::new();
        looking.spawn(look_forever(options.clone()));
        if let Some(Err(panic)) = looking.join_next().await {
            error!(trust = options.engine.name(), "looking into the inbox panicked: {panic}");
        }
        sleep(LONGEST).await;
    }
}

async fn look_forever(options: InboxOptions) {
    let (engine, interval) = (options.engine.clone(), options.interval);
    let name = engine.name();
    let mut looker = Looker::new(options);
    let (mut pause, mut told) = (interval, String::new());
    loop {
        // With an alarm nothing is taken until somebody looked, so there is nothing to read it for.
        if engine.info().alarm.is_none() {
            let started = Instant::now();
            let Looked { tally, trouble } = looker.look().await;
            if tally.any() {
                info!(
                    trust = name,
                    accepted = tally.accepted,
                    refused = tally.refused,
                    garbage = tally.garbage,
                    "emptied the inbox"
                );
            }
            let text = trouble.as_ref().map(|error| verify::chain(error)).unwrap_or_default();
            if !text.is_empty() && text != told {
                warn!(trust = name, "the inbox cannot be emptied: {text}");
            } else {
                debug!(trust = name, waiting = looker.waiting(), text, "looked into the inbox");
            }
            let again = trouble.is_some() || tally.put_off > 0;
            pause = if again { (pause * 2).min(LONGEST.max(interval)) } else { interval };
            pause = pause.max(started.elapsed());
            told = text;
        }
        sleep(pause).await;
    }
}
