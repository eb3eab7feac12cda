//! `mirror`.

use std::time::Duration;

use plimsoll_core::{
    oci::RepositoryAddress,
    policy::{Place, Policy, duration},
};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Env, Failure, Out, argument,
    bundle::{bounds, others, sources, warn},
};
use crate::{
    bundle::{Mirror, Round, is_passing},
    trust::{load_policy, load_root},
    verify::{ago, chain},
};

/// So many looks in a row may fail before a watch ends.
const MAX_FAILURES: u32 = 10;
/// After a failure a watch waits longer, up to so many times as long.
const MAX_PATIENCE: u32 = 8;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The trust repository: the name of a pinned root, whose places are all asked, or HOST/REPOSITORY of one place
    #[arg(value_name = "SRC")]
    from: String,
    /// Where it is copied to, HOST/REPOSITORY
    #[arg(value_name = "DST", value_parser = argument::<RepositoryAddress>)]
    to: RepositoryAddress,
    /// Go on until told to end (Ctrl-C, SIGTERM)
    #[arg(long)]
    watch: bool,
    /// How long to wait between two looks: 30s, 5m, 1h
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = interval, requires = "watch")]
    interval: Duration,
}

fn interval(text: &str) -> Result<Duration, String> {
    let wanted = duration(text).map_err(|error| error.to_string())?;
    let sensible = Duration::from_secs(1)..=Duration::from_secs(86_400);
    let wanted = wanted.to_std().ok().filter(|wanted| sensible.contains(wanted));
    wanted.ok_or_else(|| "an interval is between 1s and 24h".to_owned())
}

pub(super) async fn run(env: &Env, out: &Out, args: &Args) -> Result<u8, Failure> {
    let policy = load_policy(&env.home)?;
    let (root, from) = source(&policy, &args.from, &args.to)?;
    let pinned = load_root(&env.home, &policy.root[&root])?;
    let mirror = Mirror {
        registry: env.registry.clone(),
        from: sources(env, &from, &pinned),
        pinned,
        bounds: bounds(env, &policy, &root)?,
        state: env.home.state(),
        to: args.to.clone(),
    };
    if !args.watch {
        tell(env, out, &mirror.round(env.clock.as_ref()).await?)?;
        return Ok(0);
    }
    let ended =
        |kind| signal(kind).map_err(|error| Failure::internal(format!("cannot wait for signals: {error}")));
    let (mut interrupt, mut terminate) = (ended(SignalKind::interrupt())?, ended(SignalKind::terminate())?);
    let watched = watch(env, out, &mirror, args.interval);
    // Wherever it is broken off, the copy is whole: its entry point comes last.
    tokio::select! {
        failed = watched => failed.map(|()| 0),
        _ = interrupt.recv() => Ok(0),
        _ = terminate.recv() => Ok(0),
    }
}

/// Ends only with a failure.
async fn watch(env: &Env, out: &Out, mirror: &Mirror, interval: Duration) -> Result<(), Failure> {
    let (mut failures, mut told, mut skipped) = (0, false, Vec::new());
    loop {
        match mirror.round(env.clock.as_ref()).await {
            Ok(round) => {
                if round.copied || !told || failures > 0 || round.skipped != skipped {
                    tell(env, out, &round)?;
                }
                skipped = round.skipped;
                (failures, told) = (0, true);
            }
            // What is not to be trusted is not tried again: somebody must look at it.
            Err(error) if is_passing(&error) && failures + 1 < MAX_FAILURES => {
                failures += 1;
                out.aside(&format!("warning: {} (try {failures} of {MAX_FAILURES})", chain(&error)));
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(interval * failures.saturating_add(1).min(MAX_PATIENCE)).await;
    }
}

/// The pinned root that is called so, with all of its places, or of which that is a place, with this one. What is copied
/// to is no place to copy from.
fn source(policy: &Policy, text: &str, to: &RepositoryAddress) -> Result<(String, Vec<Place>), Failure> {
    let (root, mut places) = match policy.root.get(text) {
        Some(entry) => (text, entry.places.clone()),
        None => {
            let is_it = |place: &&Place| matches!(place, Place::Registry(at) if at.to_string() == text);
            let mut named = policy.root.iter();
            let named = named.find_map(|(root, entry)| Some((root, entry.places.iter().find(is_it)?)));
            let (root, place) = named.ok_or_else(|| {
                let text = format!("no root is pinned that is called `{text}` or is fetched there");
                Failure::usage(text).next("plimsoll trust list")
            })?;
            (root.as_str(), vec![place.clone()])
        }
    };
    places.retain(|place| *place != Place::Registry(to.clone()));
    if places.is_empty() {
        return Err(Failure::usage(format!("{to} cannot be copied onto itself")));
    }
    Ok((root.to_owned(), places))
}

fn tell(env: &Env, out: &Out, round: &Round) -> Result<(), Failure> {
    let age = round.as_of.map(|at| u64::try_from((env.clock.now() - at).num_seconds()).unwrap_or(0));
    let age = age.map_or_else(String::new, |age| format!(", signed {} ago", ago(age)));
    let lag = match (round.lag, round.before) {
        (Some(0), _) if !round.copied => "in step".to_owned(),
        (Some(lag), Some(before)) => format!("was {} behind, at timestamp {before}", ago(lag)),
        (None, Some(before)) => format!("was behind, at timestamp {before}"),
        (_, None) => "there was no copy".to_owned(),
    };
    let what = if round.copied { "copied" } else { "same" };
    let head = format!("{what}  {}  timestamp {}{age}; {lag}", round.to, round.timestamp);
    let left = round.left_out.iter().map(|left| format!("! not copied  {}: {}", left.role, left.why));
    let notes = others(&round.others).into_iter().chain(left);
    out.result(round, &head, &notes.collect::<Vec<_>>())?;
    warn(out, &round.skipped);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_a_unit_and_bounds() {
        for (text, seconds) in [("1s", 1), ("5m", 300), ("24h", 86_400)] {
            assert_eq!(interval(text), Ok(Duration::from_secs(seconds)));
        }
        for wrong in ["", "s", "0s", "5", "25h", "2d", "-1s", "1.5m", "99999999999999999999h", "5é"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
