//! `plimsolld tick`: one round for each trust repository and an exit code, for cron and CI.

use std::{sync::Arc, time::Duration};

use plimsoll::clock::Clock;
use tokio::{task::JoinSet, time::timeout};

use crate::{
    config::Config,
    daemon::{self, DaemonError},
    pipeline::{self, Tick},
};

/// For one trust repository: each request has a time of its own, this is for very many.
const LONGEST: Duration = Duration::from_secs(300);

/// Why there was no round.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TickError {
    /// Asked for one that is not configured.
    #[error("there is no trust repository `{name}`; there is: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// All that are configured.
        known: String,
    },
    /// It is in a registry that is not there.
    #[error(
        "trust repository {name} is on the embedded registry, which is there only while `plimsolld serve` runs; that does \
         this by itself"
    )]
    Embedded {
        /// Which.
        name: String,
    },
    /// The data folder, the store or the keys. A daemon that runs on them is one reason.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
}

impl TickError {
    /// The exit code: 2 for what was asked, 1 for all else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unknown { .. } | Self::Embedded { .. } => 2,
            Self::Daemon(_) => 1,
        }
    }
}

/// One round for each of `names`, all that are configured if there is none; beside each other, so that a registry that
/// hangs delays nobody else. With `force`, timestamps are signed whether they are due or not. In the order of `names`.
///
/// Takes the store's lock for that time. Reads no inbox.
///
/// # Errors
/// [`TickError`]; nothing was done then.
pub async fn tick(
    mut config: Config,
    names: &[String],
    force: bool,
    clock: Arc<dyn Clock>,
) -> Result<Vec<Tick>, TickError> {
    let known = || config.trusts.iter().map(|trust| trust.name.as_str()).collect::<Vec<_>>().join(", ");
    for name in names {
        if !config.trusts.iter().any(|trust| trust.name == *name) {
            return Err(TickError::Unknown { name: name.clone(), known: known() });
        }
    }
    if !names.is_empty() {
        config.trusts.retain(|trust| names.contains(&trust.name));
    }
    if let Some(trust) = config.trusts.iter().find(|trust| trust.repository.is_none()) {
        return Err(TickError::Embedded { name: trust.name.clone() });
    }
    let mut rounds = JoinSet::new();
    for (at, options) in daemon::engines(config, clock).await?.into_iter().enumerate() {
        rounds.spawn(async move {
            let (name, repository) = (options.name.clone(), options.repository.to_string());
            let failed = |detail: String| Tick {
                name,
                repository,
                verdict: None,
                signed: None,
                published: None,
                expires: None,
                registry_clock: None,
                detail,
            };
            let tick = match timeout(LONGEST, pipeline::tick(options, force)).await {
                Ok(Ok(tick)) => tick,
                Ok(Err(error)) => failed(plimsoll::verify::chain(&error)),
                Err(_) => failed(format!("not finished within {} s", LONGEST.as_secs())),
            };
            (at, tick)
        });
    }
    let mut ticks = rounds.join_all().await;
    ticks.sort_by_key(|(at, _)| *at);
    Ok(ticks.into_iter().map(|(_, tick)| tick).collect())
}

/// One exit code for all of `ticks`: 1 if one has no verdict, else the highest, 0 if there is none.
pub fn exit_code(ticks: &[Tick]) -> u8 {
    let codes = ticks.iter().map(Tick::exit_code);
    if codes.clone().any(|code| code == 1) { 1 } else { codes.max().unwrap_or_default() }
}

/// `NAME: VERDICT: detail`, without control characters, whatever a registry's words brought into it.
pub fn line(tick: &Tick) -> String {
    let verdict = tick.verdict.map_or("FAILED".to_owned(), |verdict| verdict.to_string());
    let mut line = format!("{}: {verdict}: {}", tick.name, tick.detail);
    if let (Some(version), Some(expires)) = (tick.published, tick.expires) {
        line.push_str(&format!(
            "; timestamp {version} is in the registry, good until {}",
            expires.format("%Y-%m-%dT%H:%M:%SZ")
        ));
    }
    if let Some(by) = tick.registry_clock {
        line.push_str(&format!("; the registry's clock is {by} s from ours: one of them is wrong"));
    }
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use plimsoll_core::policy::Verdict;

    use super::*;

    fn of(verdict: Option<Verdict>) -> Tick {
        Tick {
            name: "acme".to_owned(),
            repository: "r.io/acme".to_owned(),
            verdict,
            signed: None,
            published: Some(7),
            expires: chrono::DateTime::from_timestamp(1_800_000_000, 0),
            registry_clock: Some(-400),
            detail: "a\nb".to_owned(),
        }
    }

    #[test]
    fn one_exit_code_stands_for_the_worst() {
        let code = |verdicts: &[Option<Verdict>]| {
            exit_code(&verdicts.iter().map(|verdict| of(*verdict)).collect::<Vec<_>>())
        };
        let (fine, expired, away) =
            (Some(Verdict::Verified), Some(Verdict::Expired), Some(Verdict::Unreachable));
        assert_eq!(code(&[]), 0);
        assert_eq!(code(&[fine, fine]), 0);
        assert_eq!(code(&[fine, expired, fine]), 20);
        assert_eq!(code(&[away, expired]), 30);
        assert_eq!(code(&[away, None]), 1);
    }

    #[test]
    fn a_line_is_a_line() {
        assert_eq!(
            line(&of(Some(Verdict::Verified))),
            "acme: VERIFIED: a b; timestamp 7 is in the registry, good until 2027-01-15T08:00:00Z; the registry's clock is \
             -400 s from ours: one of them is wrong"
        );
        assert!(line(&of(None)).starts_with("acme: FAILED: "));
    }
}
