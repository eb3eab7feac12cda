//! The pipeline of one trust repository: accept → plan → sign → check → store → push → record.
//!
//! Two tasks. The *committer* takes all submissions that came while it was busy as one round (`round.rs`), which shares
//! one snapshot, one timestamp and one fsync, and re-signs what is due. The *pusher* brings the newest head into the
//! registry and tries again until it is there. They meet in the store: after a crash the same two tasks go on from it.
//! The committer alone commits and the pusher alone records what is published, so neither undoes the other's word.

mod accept;
pub(crate) mod ahead;
mod beat;
mod check;
mod committed;
mod committer;
mod files;
mod plan;
pub(crate) mod push;
mod pusher;
pub mod report;
mod round;
#[cfg(test)]
mod tests;
mod tick;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use plimsoll::{
    clock::Clock,
    publish::api::{Accepted, OnlineKeys, Progress, Refusal, RefusalCode, TrustInfo},
    registry::Registry,
    verify,
};
use plimsoll_core::{
    oci::{Digest, RepositoryAddress, mapping::Profile},
    tuf::KeyId,
};
use serde::Serialize;
use tokio::{
    sync::{
        Notify, OwnedSemaphorePermit, Semaphore,
        mpsc::{self, error::TrySendError},
        oneshot, watch,
    },
    task::{JoinHandle, spawn_blocking},
    time::Instant,
};
use tracing::{error, warn};

pub(crate) use files::PlainFile;
pub use push::PushError;
pub use round::RoundError;
pub use tick::{Tick, tick};

use crate::{
    export,
    freshness::{Freshness, FreshnessError, Guard, Reading},
    keys::Keyring,
    quota::{Quota, Rates},
    store::{Published, Store, StoreError, SubmissionRecord, TrustKey},
};
use accept::{Parsed, Sent};
use beat::Beat;
use committed::Committed;
use push::{Push, Shown};
use round::{Overlay, Setup, Submitted, unavailable};

/// Submissions that wait for the committer; beyond that the answer is 503.
const QUEUE: usize = 256;
/// What they may hold together, in KiB.
const QUEUE_KIB: usize = 128 * 1024;

/// How far the registry's clock may be from ours, in seconds.
const REGISTRY_CLOCK: i64 = 300;

/// What an engine is made of.
pub struct EngineOptions {
    /// What the daemon calls the trust repository.
    pub name: String,
    /// Where its metadata is put.
    pub repository: RepositoryAddress,
    /// With the credentials to push there.
    pub registry: Registry,
    /// Holds everything that must survive.
    pub store: Arc<dyn Store>,
    /// The online keys, and those that are to follow them.
    pub keys: Keyring,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Lives and intervals.
    pub freshness: Freshness,
    /// How manifests are written.
    pub profile: Profile,
    /// Keys that no document may name: the example keys, which everybody has.
    pub refused_keys: BTreeSet<KeyId>,
    /// What each team may have of what all share.
    pub quota: Quota,
}

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Lives that cannot be kept.
    #[error("[freshness]")]
    Freshness(#[from] FreshnessError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is stored cannot be read.
    #[error("{name}: stored metadata cannot be read")]
    Stored {
        /// The trust repository.
        name: String,
        /// Why.
        source: RoundError,
    },
}

/// How one trust repository is doing.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    /// True if it signs, and what it signed is in the registry or is on its way for less than half of its life.
    pub ready: bool,
    /// Why it stopped signing for good, until somebody looks.
    pub alarm: Option<String>,
    /// In a few words.
    pub detail: String,
    /// When the newest timestamp in the registry expires.
    pub timestamp_expires: Option<DateTime<Utc>>,
    /// Its version.
    pub published: Option<u64>,
    /// By how many seconds the registry's clock is ahead of ours (below zero: behind), if that is more than five minutes. It
    /// changes nothing else: a registry may say what it likes.
    pub registry_clock: Option<i64>,
}

/// One trust repository that is served. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    repository: RepositoryAddress,
    clock: Arc<dyn Clock>,
    /// Says whether the clock may be signed with.
    guard: Mutex<Guard>,
    setup: Setup,
    queue: mpsc::Sender<Request>,
    /// Room in the queue, in KiB.
    room: Arc<Semaphore>,
    /// What the registry shows of ours.
    shown: watch::Sender<Option<Shown>>,
    /// The newest timestamp version in the store, which the pusher follows.
    committed: watch::Sender<u64>,
    /// True once the registry was read: nothing is signed before. An alarm is told through it, too.
    observed: watch::Sender<bool>,
    /// Makes the committer look now.
    wake: Notify,
    /// True if the store may hold a newer head than the one that was read last.
    unread: AtomicBool,
    /// How many rounds the committer has begun.
    begun: AtomicU64,
    /// The number of the last one that ended.
    ended: watch::Sender<u64>,
    stop: watch::Sender<bool>,
    status: Mutex<Status>,
    committing: Beat,
    pushing: Arc<Beat>,
    recorder: Mutex<report::Recorder>,
    memory: Arc<tokio::sync::Mutex<report::Memory>>,
    tasks: tokio::sync::Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Status {
    alarm: Option<String>,
    /// Why the last try to reach the registry failed.
    unpushed: Option<String>,
    /// Why the last round failed.
    unsigned: Option<Unsigned>,
    /// By how many seconds the registry's clock is ahead of ours, if that is too much.
    registry_clock: Option<i64>,
    /// When the online keys last signed.
    last_signed: Option<DateTime<Utc>>,
    trust_id: Option<String>,
    /// The online keys in use; known once the store was read.
    online: Option<OnlineKeys>,
    /// Those that wait.
    online_next: Option<OnlineKeys>,
}

/// Why nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unsigned {
    text: String,
    /// True if it is the clock: nothing will be signed before that is right.
    clock: bool,
}

struct Request {
    submitted: Submitted,
    answer: oneshot::Sender<Result<SubmissionRecord, Refusal>>,
    _room: OwnedSemaphorePermit,
}

/// A submission whose versions and signatures were looked at.
#[derive(Debug)]
pub(crate) enum Examined {
    /// It was taken before.
    Known(SubmissionRecord),
    /// It may be taken.
    New(Submitted),
}

impl Engine {
    /// Reads what is stored and starts the two tasks on the current tokio runtime. The registry is not waited for.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn start(options: EngineOptions) -> Result<Self, EngineError> {
        let (shared, pusher, requests) = prepare(options).await?;
        let tasks = vec![
            tokio::spawn(committer::run(shared.clone(), requests)),
            tokio::spawn(pusher::run(shared.clone(), pusher)),
        ];
        *shared.tasks.lock().await = tasks;
        Ok(Self { shared })
    }

    /// Looks at the clocks, and signs what is due, now; by itself it does so at least once a minute. For after the clock was
    /// set. Returns when that is done, or the engine is stopped.
    pub async fn wake(&self) {
        let begun = self.shared.begun.load(Ordering::SeqCst);
        let (mut ended, mut stop) = (self.shared.ended.subscribe(), self.shared.stop.subscribe());
        self.shared.wake.notify_one();
        tokio::select! {
            _ = ended.wait_for(|ended| *ended > begun) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    /// What the daemon calls it.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Submits signed documents, by role. On success they are durable and will be published.
    ///
    /// # Errors
    /// [`Refusal`]; with code `unavailable` or `rate-limited` nothing was decided and the same submission may be sent again.
    pub async fn submit(&self, documents: BTreeMap<String, Vec<u8>>) -> Result<Accepted, Refusal> {
        let shared = self.shared.clone();
        let examined = spawn_blocking(move || shared.examine(documents)).await;
        // A panic there was printed.
        let failed = |_| unavailable("the daemon failed at this submission; see its log".to_owned());
        let examined = examined.map_err(failed).flatten();
        self.take(examined.inspect_err(|refusal| self.shared.note_refused(refusal))?).await
    }

    /// As [`Engine::examine`], if that takes nothing but processor time; none if it takes the disk.
    ///
    /// # Errors
    /// As [`Engine::submit`].
    pub(crate) fn examine_in_memory(
        &self,
        documents: BTreeMap<String, Vec<u8>>,
    ) -> Option<Result<Examined, Refusal>> {
        self.shared.examine_in_memory(documents)
    }

    /// Looks at versions and signatures, before anything waits in the committer's queue: the first half of
    /// [`Engine::submit`]. Takes processor time, and may read the disk.
    ///
    /// # Errors
    /// As [`Engine::submit`].
    pub(crate) fn examine(&self, documents: BTreeMap<String, Vec<u8>>) -> Result<Examined, Refusal> {
        self.shared.examine(documents)
    }

    /// The second half of [`Engine::submit`].
    ///
    /// # Errors
    /// As [`Engine::submit`].
    pub(crate) async fn take(&self, examined: Examined) -> Result<Accepted, Refusal> {
        let submitted = match examined {
            Examined::Known(record) => return Ok(self.progress(record)),
            Examined::New(submitted) => submitted,
        };
        let busy = || {
            let refusal = unavailable("too many submissions at once; try again in a moment".to_owned());
            self.shared.note_refused(&refusal);
            refusal
        };
        let stopping = || unavailable("the daemon is stopping; try again".to_owned());
        let bytes = submitted.documents.iter().map(|(role, sent)| role.len() + sent.len()).sum::<usize>();
        let kib = u32::try_from(bytes / 1024 + 1).map_err(|_| busy())?;
        let room = self.shared.room.clone().try_acquire_many_owned(kib).map_err(|_| busy())?;
        let (answer, answered) = oneshot::channel();
        let request = Request { submitted, answer, _room: room };
        self.shared.queue.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => busy(),
            TrySendError::Closed(_) => stopping(),
        })?;
        let record = answered.await.map_err(|_| stopping())??;
        Ok(self.progress(record))
    }

    /// How far the submission `id` came; waits up to `wait` for it to be published. None if it is unknown.
    ///
    /// # Errors
    /// [`Refusal`] if the store cannot be read.
    pub async fn submission(&self, id: &str, wait: Duration) -> Result<Option<Accepted>, Refusal> {
        let (shared, wanted) = (self.shared.clone(), id.to_owned());
        let record = blocking(move || shared.setup.store.submission(&shared.setup.key, &wanted)).await?;
        let Some(record) = record else { return Ok(None) };
        let version = record.timestamp_version;
        let (mut shown, mut stop) = (self.shared.shown.subscribe(), self.shared.stop.subscribe());
        // Whether it came, the time ran out or the daemon stops: the answer says how far it is.
        tokio::select! {
            _ = shown.wait_for(|s| s.is_some_and(|s| s.published.timestamp_version >= version)) => {}
            _ = stop.wait_for(|stop| *stop) => {}
            () = tokio::time::sleep(wait) => {}
        }
        Ok(Some(self.progress(record)))
    }

    fn progress(&self, record: SubmissionRecord) -> Accepted {
        let shown = *self.shared.shown.borrow();
        let there = shown.is_some_and(|s| s.published.timestamp_version >= record.timestamp_version);
        Accepted {
            id: record.id,
            state: if there { Progress::Published } else { Progress::Accepted },
            documents: record.roles,
            timestamp: record.timestamp_version,
        }
    }

    /// Looks whether the operator made a next pair of online keys, or discarded it: [`Engine::info`] says so then. Blocking
    /// disk I/O on a thread that may block; waits for the round that is under way.
    pub async fn reload_keys(&self) {
        let shared = self.shared.clone();
        // A panic there was printed; what is told of the keys stays as it was.
        let _ = spawn_blocking(move || {
            if let Err(error) = shared.settle_keys(true) {
                warn!(trust = shared.name, "the online keys were not looked at: {}", verify::chain(&error));
            }
        })
        .await;
    }

    /// What clients of the API are told of it.
    ///
    /// # Panics
    /// Never: an engine that started has read its store.
    pub fn info(&self) -> TrustInfo {
        let heads = {
            let head = self.shared.setup.committed.head();
            head.roles.iter().map(|(role, head)| (role.clone(), head.version)).collect()
        };
        let status = self.shared.status();
        TrustInfo {
            name: self.shared.name.clone(),
            repository: self.shared.repository.to_string(),
            online: status.online.clone().expect("the store was read before the engine started"),
            online_next: status.online_next.clone(),
            trust_id: status.trust_id.clone(),
            heads,
            alarm: status.alarm.clone(),
        }
    }

    /// Waits for the first look at the registry, for as long as that takes: true if there was nothing against signing,
    /// false if it ended in an alarm, or the engine was stopped before.
    pub async fn looked(&self) -> bool {
        let (mut observed, mut stop) = (self.shared.observed.subscribe(), self.shared.stop.subscribe());
        loop {
            // In this order: an alarm is set before it is told through `observed`.
            let seen = *observed.borrow_and_update();
            if self.shared.status().alarm.is_some() || *stop.borrow() {
                return false;
            }
            if seen {
                return true;
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return false,
                changed = observed.changed() => if changed.is_err() { return false },
            }
        }
    }

    /// A page of all that the store holds of it ([`crate::export`]), from `after` on; none for the first.
    ///
    /// # Errors
    /// [`Refusal`] if the store cannot be read.
    pub async fn export(&self, after: Option<String>) -> Result<Vec<u8>, Refusal> {
        let shared = self.shared.clone();
        blocking(move || export::page(&*shared.setup.store, &shared.setup.key, after.as_deref())).await
    }

    /// How it is doing.
    pub fn health(&self) -> Health {
        let (shown, status) = (*self.shared.shown.borrow(), self.shared.status());
        let observed = *self.shared.observed.borrow();
        let half = self.shared.setup.freshness().timestamp_validity / 2;
        let now = self.shared.clock.now();
        let aging = shown.is_some_and(|shown| shown.expires - now < half);
        let trouble = status.unsigned.as_ref().map(|unsigned| &unsigned.text).or(status.unpushed.as_ref());
        let because = |what: &str| trouble.map_or(what.to_owned(), |trouble| format!("{what}: {trouble}"));
        let (ready, detail) = if let Some(alarm) = &status.alarm {
            (false, alarm.clone())
        } else if !observed {
            (false, because("the registry was not read yet"))
        } else if status.unsigned.as_ref().is_some_and(|unsigned| unsigned.clock) {
            (false, because("nothing is signed"))
        } else if status.trust_id.is_none() {
            (true, because(&format!("waiting for `plimsoll init {}`", self.shared.repository)))
        } else if shown.is_none() {
            (false, because("not yet in the registry"))
        } else if aging {
            (false, because("more than half of the life of the timestamp in the registry is over"))
        } else if trouble.is_some() {
            (true, because("trying again"))
        } else {
            (true, "fresh".to_owned())
        };
        let apart = status.registry_clock;
        let detail = match apart {
            Some(by) => format!("{detail}; the registry's clock is {by} s from ours: one of them is wrong"),
            None => detail,
        };
        Health {
            ready,
            alarm: status.alarm.clone(),
            detail,
            timestamp_expires: shown.map(|shown| shown.expires),
            published: shown.map(|shown| shown.published.timestamp_version),
            registry_clock: apart,
        }
    }

    /// Why only a restart may help, for the watchdog: one of its two tasks does not come back from what it does, or ends it
    /// again and again as only a restart can cure (a panic, a store that stopped). None while both go on, whatever keeps
    /// them from success: a registry that is down, an alarm and a clock that went back are not cured by a restart.
    pub fn hangs(&self, now: Instant) -> Option<String> {
        let tasks = [("committer", &self.shared.committing), ("pusher", &*self.shared.pushing)];
        tasks.into_iter().find_map(|(name, beat)| {
            let late = beat.late(now)?;
            Some(format!("the {name} gave no sign of life, {} s after it should have", late.as_secs()))
        })
    }

    /// From now on lives and intervals are these: for what is signed next, and for when that is.
    ///
    /// # Errors
    /// [`FreshnessError`]; nothing changes then.
    pub fn set_freshness(&self, freshness: Freshness) -> Result<(), FreshnessError> {
        freshness.check()?;
        *self.shared.setup.freshness.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = freshness;
        let guard = self.shared.guard.lock();
        guard.unwrap_or_else(std::sync::PoisonError::into_inner).set_freshness(&freshness);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// From now on each team may have this of what all share: for what is submitted next. What it published of late stays
    /// counted.
    pub fn set_quota(&self, quota: Quota) {
        self.shared.setup.set_quota(quota, self.shared.clock.now());
    }

    /// Ends the tasks: after the round that is under way, and after the push if that ends within two seconds. What
    /// waits in the queue is answered `unavailable`; what was accepted and is not yet published will be after the next
    /// start. Calling it again does nothing.
    pub async fn stop(&self) {
        self.shared.stop.send_replace(true);
        for task in self.shared.tasks.lock().await.drain(..) {
            // A task that panicked is over, too; it was logged where it happened.
            let _ = task.await;
        }
    }
}

/// What both tasks share, with what is stored read into it; and what each has for itself.
async fn prepare(
    options: EngineOptions,
) -> Result<(Arc<Shared>, Push, mpsc::Receiver<Request>), EngineError> {
    options.freshness.check()?;
    let keys = Arc::new(Mutex::new(options.keys));
    let key = TrustKey::whole(&options.name);
    let committed = Arc::new(Committed::default());
    let pusher = Push::new(
        options.registry,
        options.repository.clone(),
        options.profile,
        options.store.clone(),
        key.clone(),
        keys.clone(),
        committed.clone(),
    );
    let setup = Setup {
        store: options.store,
        key,
        place: Published::place(&options.repository),
        keys,
        freshness: Mutex::new(options.freshness),
        refused_keys: options.refused_keys,
        rates: Mutex::new(Rates::new(&options.quota)),
        quota: Mutex::new(options.quota),
        parsed: Parsed::default(),
        walked: Mutex::default(),
        committed,
        working: Mutex::default(),
    };
    let (queue, requests) = mpsc::channel(QUEUE);
    let shared = Arc::new(Shared {
        name: options.name,
        repository: options.repository,
        clock: options.clock,
        guard: Mutex::new(Guard::new(&options.freshness)),
        setup,
        queue,
        room: Arc::new(Semaphore::new(QUEUE_KIB)),
        shown: watch::Sender::new(None),
        committed: watch::Sender::new(0),
        observed: watch::Sender::new(false),
        wake: Notify::new(),
        unread: AtomicBool::new(false),
        begun: AtomicU64::new(0),
        ended: watch::Sender::new(0),
        stop: watch::Sender::new(false),
        status: Mutex::default(),
        committing: Beat::default(),
        pushing: pusher.beat(),
        recorder: Mutex::default(),
        memory: Arc::default(),
        tasks: tokio::sync::Mutex::default(),
    });
    let reading = shared.clone();
    spawn_blocking(move || reading.read_start())
        .await
        .map_err(|_| StoreError::Stopped { path: std::path::PathBuf::new() })?
        .map_err(|source| EngineError::Stored { name: shared.name.clone(), source })?;
    // What the clock is set to from now on is noticed; what is wrong now, the first round tells.
    let _ = shared.now();
    Ok((shared, pusher, requests))
}

/// The same documents have the same id, so a submission that is sent again is known.
fn submission_id(documents: &BTreeMap<String, Sent>) -> String {
    let mut all = Vec::new();
    for (role, sent) in documents {
        all.extend_from_slice(format!("{role} {}\n", sent.digest()).as_bytes());
    }
    Digest::of(&all).hex()[..32].to_owned()
}

fn sent(documents: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Sent> {
    documents.into_iter().map(|(role, bytes)| (role, bytes.into())).collect()
}

/// As it waits for its round.
fn submitted(mut documents: BTreeMap<String, Sent>) -> Submitted {
    let id = submission_id(&documents);
    documents.values_mut().for_each(Sent::pack);
    Submitted { id, documents }
}

async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Refusal> {
    match spawn_blocking(call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(unavailable(error.to_string())),
        Err(_) => Err(unavailable("the store failed; see the daemon's log".to_owned())),
    }
}

impl Shared {
    fn status(&self) -> MutexGuard<'_, Status> {
        // Nothing that is done under this lock can panic half-way.
        self.status.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What was published is read once; from then on the pusher says it.
    fn read_start(&self) -> Result<(), RoundError> {
        self.read_head()?;
        self.shown.send_replace(self.setup.shown()?);
        Ok(())
    }

    /// Reads what is stored, and brings status and the pusher's goal up to that.
    fn read_head(&self) -> Result<(), RoundError> {
        self.setup.reload(self.clock.now())?;
        self.note_head()
    }

    /// Brings status and the pusher's goal up to what is committed.
    fn note_head(&self) -> Result<(), RoundError> {
        let root = self.setup.newest_root()?;
        let (last_signed, newest) = {
            let head = self.setup.committed.head();
            (head.last_signed, head.roles.get("timestamp").map_or(0, |role| role.version))
        };
        {
            let mut status = self.status();
            let identity = root.and_then(|root| root.signed.common.identity.clone());
            status.trust_id = identity.map(|identity| identity.trust);
            status.last_signed = last_signed;
        }
        // The pusher asks the registry each time this changes, so only when it does.
        self.committed.send_if_modified(|goal| std::mem::replace(goal, newest) != newest);
        self.settle_keys(false)
    }

    /// Brings the key folder, and what is said of the keys, up to the newest root. With `reload`, looks at the folder first,
    /// and does no more than that if nothing changed there.
    ///
    /// A folder that cannot be changed now is changed later: the keys are in memory.
    fn settle_keys(&self, reload: bool) -> Result<(), RoundError> {
        let mut keys = self.setup.keys();
        if reload {
            let before = keys.ids();
            keys.reload()?;
            if keys.ids() == before {
                return Ok(());
            }
        }
        let root = self.setup.newest_root()?;
        let root = root.as_ref().map(|root| &root.signed);
        if let Some(root) = root
            && keys.is_taken()
            && let Err(error) = keys.settle(root, self.setup.is_shown(root)?)
        {
            warn!(trust = self.name, "the folder of the online keys: {}", verify::chain(&error));
        }
        let mut status = self.status();
        status.online = Some(keys.public(root));
        status.online_next = keys.next(root);
        Ok(())
    }

    /// The time to sign with.
    ///
    /// # Errors
    /// [`RoundError::Clock`] if the clocks say that it is not to be signed with.
    fn now(&self) -> Result<DateTime<Utc>, RoundError> {
        let reading = Reading { wall: self.clock.now(), monotonic: self.clock.monotonic() };
        let signed = self.status().last_signed;
        // Each of its steps leaves it whole.
        let mut guard = self.guard.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        guard.look(reading, signed)?;
        Ok(reading.wall)
    }

    /// Compares the registry's clock with ours, which only warns: a hostile registry must not stop anything.
    fn look_at_registry_clock(&self, shown: Option<DateTime<Utc>>) {
        let Some(shown) = shown else { return };
        let by = (shown - self.clock.now()).num_seconds();
        let by = (by.abs() > REGISTRY_CLOCK).then_some(by);
        let before = std::mem::replace(&mut self.status().registry_clock, by);
        if let Some(by) = by.filter(|_| before.is_none()) {
            warn!(
                trust = self.name,
                "the clock of {} is {by} s from ours: one of them is wrong", self.repository.host
            );
        }
    }

    fn alarm(&self, text: String) {
        // First, so that who reads the log finds it in /readyz.
        let text = self.status().alarm.insert(text).clone();
        error!(trust = self.name, "ALARM, nothing is signed any more: {text}");
        // Wakes who waits in `looked`.
        self.observed.send_modify(|_| {});
    }

    /// Against the newest head: a round that is under way, and the disk that it writes to, are not waited for if the
    /// documents that name the keys were read before.
    fn examine(&self, documents: BTreeMap<String, Vec<u8>>) -> Result<Examined, Refusal> {
        let documents = sent(documents);
        match self.vouch(&Overlay::new(&self.setup), &documents) {
            Ok(()) => Ok(Examined::New(submitted(documents))),
            // What was taken, and whose answer was lost, is not newer than itself.
            Err(conflict) if conflict.code == RefusalCode::Conflict => {
                let known = self.setup.store.submission(&self.setup.key, &submission_id(&documents));
                let known = known.map_err(|error| unavailable(error.to_string()))?;
                known.map(Examined::Known).ok_or(conflict)
            }
            Err(refusal) => Err(refusal),
        }
    }

    fn examine_in_memory(&self, documents: BTreeMap<String, Vec<u8>>) -> Option<Result<Examined, Refusal>> {
        let (documents, overlay) = (sent(documents), Overlay::in_memory(&self.setup));
        match self.vouch(&overlay, &documents) {
            _ if overlay.is_short() => None,
            // Whether it was taken before is on the disk.
            Err(conflict) if conflict.code == RefusalCode::Conflict => None,
            vouched => Some(vouched.map(|()| Examined::New(submitted(documents)))),
        }
    }

    fn vouch(&self, overlay: &Overlay<'_>, documents: &BTreeMap<String, Sent>) -> Result<(), Refusal> {
        if let Some(why) = self.blocked() {
            return Err(unavailable(why));
        }
        accept::vouch(overlay, documents, &self.setup.parsed)
    }

    /// Why nothing may be signed now.
    fn blocked(&self) -> Option<String> {
        let status = self.status();
        if let Some(alarm) = &status.alarm {
            return Some(format!("the daemon stopped signing: {alarm}"));
        }
        (!*self.observed.borrow()).then(|| {
            let why = status.unpushed.as_ref().map(|trouble| format!(": {trouble}")).unwrap_or_default();
            format!("the daemon has not read the registry yet, so it signs nothing{why}")
        })
    }
}
