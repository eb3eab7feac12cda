//! One round and no more, for who runs the daemon's work from a timer: look at the registry, sign what is due, push, and
//! read it back as a client that has seen nothing yet.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use plimsoll::{
    update::{Bounds, RegistrySource, Session, UpdateError, registry_verdict},
    verify,
};
use plimsoll_core::policy::Verdict;
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::{
    EngineError, EngineOptions, PushError, Shared, prepare,
    push::{Push, Standing},
    pusher,
    round::RoundError,
};

/// How one round went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tick {
    /// What the daemon calls the trust repository.
    pub name: String,
    /// Where it is.
    pub repository: String,
    /// What a client that starts now makes of it: VERIFIED if the registry shows what we signed and it is fresh. None for a
    /// fault of this machine: the clock, the store, the keys.
    pub verdict: Option<Verdict>,
    /// The version of the timestamp that this round signed; none if nothing was due.
    pub signed: Option<u64>,
    /// The version of the timestamp that the registry shows, as far as we know.
    pub published: Option<u64>,
    /// When that expires, UTC.
    pub expires: Option<DateTime<Utc>>,
    /// By how many seconds the registry's clock is ahead of ours, if that is too much.
    pub registry_clock: Option<i64>,
    /// In a few words.
    pub detail: String,
}

impl Tick {
    /// The exit code: that of the verdict, 1 if there is none.
    pub fn exit_code(&self) -> u8 {
        self.verdict.map_or(1, Verdict::exit_code)
    }
}

/// One round for one trust repository, without a running engine: nobody else may use its store. Submissions that were
/// accepted and not yet published are published. With `force`, a timestamp is signed whether it is due or not.
///
/// # Errors
/// [`EngineError`] if it cannot even start; all else is told by the [`Tick`].
pub async fn tick(options: EngineOptions, force: bool) -> Result<Tick, EngineError> {
    let (shared, mut push, _requests) = prepare(options).await?;
    let before = *shared.committed.borrow();
    let done = round(&shared, &mut push, force).await;
    let (verdict, detail) = match done {
        Ok((verdict, detail)) => (Some(verdict), detail),
        Err(fault) => (fault.verdict(), fault.text()),
    };
    let (newest, shown) = (*shared.committed.borrow(), *shared.shown.borrow());
    let registry_clock = shared.status().registry_clock;
    Ok(Tick {
        name: shared.name.clone(),
        repository: shared.repository.to_string(),
        verdict,
        signed: (newest > before).then_some(newest),
        published: shown.map(|shown| shown.published.timestamp_version),
        expires: shown.map(|shown| shown.expires),
        registry_clock,
        detail,
    })
}

/// Why a round did not come to its end.
enum Fault {
    Push(PushError),
    Round(RoundError),
    Client(UpdateError),
    /// A step panicked.
    Panicked,
}

impl Fault {
    fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Push(PushError::Registry(error)) => registry_verdict(error),
            // Somebody else writes there, all the time.
            Self::Push(PushError::NotReadBack { .. }) => Some(Verdict::Untrusted),
            Self::Client(error) => error.verdict(),
            Self::Push(_) | Self::Round(_) | Self::Panicked => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Push(error) => verify::chain(error),
            Self::Round(error) => format!("nothing was signed: {}", verify::chain(error)),
            Self::Client(error) => {
                format!("a client that starts now would refuse it: {}", verify::chain(error))
            }
            Self::Panicked => "the daemon failed; see its log".to_owned(),
        }
    }
}

async fn round(shared: &Arc<Shared>, push: &mut Push, force: bool) -> Result<(Verdict, String), Fault> {
    let standing = push.look().await.map_err(Fault::Push)?;
    shared.look_at_registry_clock(push.registry.clock());
    // Before the alarm, which ends all pushing.
    if let Standing::Twin { version } = standing
        && let Err(error) = push.tell_second(version).await
    {
        tracing::warn!(trust = shared.name, "the second signer was not told: {}", verify::chain(&error));
    }
    if let Some(alarm) = pusher::alarm(shared, &standing, *shared.committed.borrow()) {
        let verdict =
            if matches!(standing, Standing::Ahead { .. }) { Verdict::Rollback } else { Verdict::Untrusted };
        return Ok((verdict, alarm));
    }
    let signing = shared.clone();
    let signed = spawn_blocking(move || {
        let now = signing.now()?;
        let setup = &signing.setup;
        let outcome = if force { setup.renew(now) } else { setup.round(&[], now) };
        // Also after a failure: a write that was said to have failed may be there.
        signing.read_head()?;
        outcome
    });
    let signed = signed.await.map_err(|_| Fault::Panicked)?;
    // What was accepted before is published, whatever kept the rest from being signed.
    let goal = *shared.committed.borrow();
    pusher::push_once(shared, push, goal).await.map_err(Fault::Push)?;
    if let Some(alarm) = shared.status().alarm.clone() {
        return Ok((Verdict::Untrusted, alarm));
    }
    let outcome = signed.map_err(Fault::Round)?;
    if goal == 0 {
        return Ok((Verdict::Absent, format!("waiting for `plimsoll init {}`", shared.repository)));
    }
    read_back(shared, push).await?;
    Ok((Verdict::Verified, if outcome.signed { "signed and published" } else { "fresh" }.to_owned()))
}

/// Reads what the registry shows as a client does that starts now and pins the newest root.
async fn read_back(shared: &Arc<Shared>, push: &Push) -> Result<(), Fault> {
    let reading = shared.clone();
    let start = spawn_blocking(move || {
        let root = reading.setup.newest_root_bytes()?;
        // A folder of its own, that nobody else can have written to.
        let home = tempfile::tempdir().map_err(|source| crate::store::StoreError::Unavailable { source })?;
        Ok::<_, RoundError>((root, home))
    });
    let (root, home) = start.await.map_err(|_| Fault::Panicked)?.map_err(Fault::Round)?;
    let source = RegistrySource::new(push.registry.clone(), shared.repository.clone());
    let now = shared.clock.now();
    Session::refresh(source, home.path(), &root, now, &Bounds::default()).await.map_err(Fault::Client)?;
    Ok(())
}
