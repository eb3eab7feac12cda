//! The task that publishes: looks at the registry, and brings the newest head there.

use std::{sync::Arc, time::Duration};

use tokio::{task::spawn_blocking, time::Instant};
use tracing::{debug, error, info, warn};

use super::{
    PushError, Shared,
    push::{Push, Standing},
};
use crate::store::StoreError;
use plimsoll::verify;

/// Waits between tries against a registry that does not answer: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// How long a push may go on after the daemon was told to stop. Whatever it left undone is done after the next start.
const GRACE: Duration = Duration::from_secs(2);

/// Until the daemon stops.
pub(super) async fn run(shared: Arc<Shared>, push: Push) {
    let mut stop = shared.stop.subscribe();
    loop {
        // A task of its own, so that a panic ends one try and not all publishing.
        let tries = tokio::spawn(until_stopped(shared.clone(), push.clone()));
        let Err(panic) = tries.await else { return };
        error!(trust = shared.name, "the pusher panicked: {panic}");
        shared.pushing.broken();
        shared.status().unpushed = Some("the pusher panicked; see the log".to_owned());
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

async fn until_stopped(shared: Arc<Shared>, mut push: Push) {
    let mut stop = shared.stop.subscribe();
    let mut committed = shared.committed.subscribe();
    // Looked at again each interval, also when nothing is new: somebody may write over it.
    let mut retry = RETRY.0;
    let mut listened: Option<Instant> = None;
    loop {
        let interval = shared.setup.freshness().timestamp_interval.to_std().unwrap_or(RETRY.1);
        let longest = RETRY.1.min(interval);
        let goal = *committed.borrow_and_update();
        shared.pushing.step();
        let result = tokio::select! {
            result = push_once(&shared, &mut push, goal) => result,
            () = stopped_for(&mut stop, GRACE) => return,
        };
        shared.note_try(&result, goal);
        if result.is_ok() && listened.is_none_or(|at| at.elapsed() >= interval) {
            listened = Some(Instant::now());
            tokio::select! {
                () = listen(&shared, &mut push) => {}
                () = stopped_for(&mut stop, GRACE) => return,
            }
        }
        let failed = result.is_err();
        match &result {
            Err(PushError::Panicked | PushError::Store(StoreError::Stopped { .. })) => {
                shared.pushing.broken();
            }
            _ => shared.pushing.done(),
        }
        let pause = match result {
            Ok(()) => {
                retry = RETRY.0;
                shared.status().unpushed = None;
                interval
            }
            Err(error) => {
                let text = verify::chain(&error);
                warn!(trust = shared.name, "not in the registry yet: {text}");
                shared.status().unpushed = Some(text);
                let asked = match &error {
                    PushError::Registry(error) => error.retry_after(),
                    _ => None,
                };
                let pause = retry.max(asked.unwrap_or_default()).min(longest);
                retry = (retry * 2).min(longest);
                pause
            }
        };
        shared.pushing.sleep(Instant::now() + pause);
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(pause) => {}
            // A registry in trouble is given its pause; otherwise what is new goes out at once.
            changed = committed.changed(), if !failed => if changed.is_err() { return },
        }
    }
}

async fn stopped_for(stop: &mut tokio::sync::watch::Receiver<bool>, grace: Duration) {
    // The sender lives as long as this task.
    let _ = stop.wait_for(|stop| *stop).await;
    tokio::time::sleep(grace).await;
}

/// Looks whether a second signer left word. Trouble with that is none: `:latest` comes first.
async fn listen(shared: &Arc<Shared>, push: &mut Push) {
    if shared.status().alarm.is_some() {
        return;
    }
    match push.hear_second().await {
        Ok(None) => {}
        Ok(Some(version)) => shared.alarm(format!(
            "another daemon signed timestamp version {version} with our key and stopped when it saw ours \
             ({}:x-second-signer): find out which of the two is right, stop the other for good, and rotate the key if it is \
             not yours",
            shared.repository
        )),
        Err(error) => {
            debug!(trust = shared.name, "a second signer was not listened for: {}", verify::chain(&error));
        }
    }
}

/// Looks at the registry and, if it does not show timestamp version `goal`, pushes.
pub(super) async fn push_once(shared: &Arc<Shared>, push: &mut Push, goal: u64) -> Result<(), PushError> {
    if shared.status().alarm.is_some() {
        return Ok(());
    }
    let standing = push.look().await?;
    shared.look_at_registry_clock(push.registry.clock());
    let repository = &shared.repository;
    let shown = *shared.shown.borrow();
    // Before the alarm, which ends all pushing.
    if let Standing::Twin { version } = standing
        && let Err(error) = push.tell_second(version).await
    {
        warn!(trust = shared.name, "the second signer was not told: {}", verify::chain(&error));
    }
    if let Some(alarm) = alarm(shared, &standing, goal) {
        shared.alarm(alarm);
        return Ok(());
    }
    if matches!(standing, Standing::Foreign | Standing::Empty) && shown.is_some() {
        warn!(trust = shared.name, "{repository}:latest was removed or overwritten; writing it again");
    }
    shared.observed.send_if_modified(|observed| !std::mem::replace(observed, true));
    if goal == 0
        || (standing == Standing::Current && shown.is_some_and(|s| s.published.timestamp_version == goal))
    {
        return Ok(());
    }
    let began = Instant::now();
    let shown = push.push(&*shared.clock).await?;
    shared.recorder().pushed(began.elapsed(), &shown.published);
    info!(trust = shared.name, timestamp = shown.published.timestamp_version, "published");
    shared.shown.send_replace(Some(shown));
    // Keys that were replaced go when the registry shows what their successors signed.
    let settling = shared.clone();
    match spawn_blocking(move || settling.settle_keys(false)).await {
        Ok(Err(error)) => warn!(trust = shared.name, "the online keys: {}", verify::chain(&error)),
        Err(_) => return Err(PushError::Panicked),
        Ok(Ok(())) => {}
    }
    Ok(())
}

/// Why nothing may be signed any more, if `standing` says so.
pub(super) fn alarm(shared: &Shared, standing: &Standing, goal: u64) -> Option<String> {
    let repository = &shared.repository;
    match standing {
        Standing::Ahead { version } => Some(format!(
            "{repository} shows timestamp version {version}, validly signed by our key, but the store knows only version \
             {goal}: the store is an old copy, or another daemon signs with our key; see docs/operations.md, An old store"
        )),
        Standing::Twin { version } => Some(format!(
            "{repository} shows timestamp version {version} with other content, validly signed by our key: another daemon \
             signs with it; stop it, and rotate the key if it is not yours"
        )),
        // Nothing of ours was ever there, so it is somebody else's, and theirs to remove.
        Standing::Foreign if shared.shown.borrow().is_none() => Some(format!(
            "{repository}:latest holds something that is not ours: choose an empty repository, or remove it and restart the \
             daemon"
        )),
        _ => None,
    }
}
