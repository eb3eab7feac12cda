//! The pipeline of one trust repository: accept → plan → sign → check → store → push → record.
//!
//! Two tasks. The *committer* takes all submissions that came while it was busy as one round (`round.rs`), which shares
//! one snapshot, one timestamp and one fsync, and re-signs what is due. The *pusher* brings the newest head into the
//! registry and tries again until it is there. They meet in the store: after a crash the same two tasks go on from it.

mod accept;
mod check;
mod plan;
mod push;
mod round;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use plimsoll::{
    clock::Clock,
    keys::{PrivateKey, Signer},
    publish::api::{Accepted, OnlineKeys, Progress, Refusal, TrustInfo},
    registry::Registry,
};
use plimsoll_core::{
    oci::{Digest, RepositoryAddress, mapping::Profile},
    tuf::{Document, KeyId, Root},
};
use serde::Serialize;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinHandle, spawn_blocking},
    time::Instant,
};
use tracing::{error, info, warn};

pub use push::PushError;
pub use round::RoundError;

use crate::{
    freshness::{self, Freshness, FreshnessError},
    store::{Published, Store, StoreError, SubmissionRecord, TrustKey},
};
use push::{Push, Standing};
use round::{Setup, Submitted, unavailable};

/// Submissions that wait for the committer; beyond that the answer is 503.
const QUEUE: usize = 256;
/// Submissions that share one round.
const BATCH: usize = 64;
/// Waits between tries against a registry that does not answer: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// The daemon's private keys for one trust repository.
pub struct OnlineSigners {
    /// Signs `timestamp`.
    pub timestamp: PrivateKey,
    /// Signs `snapshot`.
    pub snapshot: PrivateKey,
}

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
    /// The online keys.
    pub keys: OnlineSigners,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Lives and intervals.
    pub freshness: Freshness,
    /// How manifests are written.
    pub profile: Profile,
    /// Keys that no document may name: the example keys, which everybody has.
    pub refused_keys: BTreeSet<KeyId>,
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
    setup: Setup,
    queue: mpsc::Sender<Request>,
    /// What the registry shows of ours.
    published: watch::Sender<Option<Published>>,
    /// The newest timestamp version in the store, which the pusher follows.
    committed: watch::Sender<u64>,
    /// True once the registry was read: nothing is signed before.
    observed: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    status: Mutex<Status>,
    tasks: tokio::sync::Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Status {
    alarm: Option<String>,
    trouble: Option<String>,
    trust_id: Option<String>,
    heads: BTreeMap<String, u64>,
    timestamp_expires: Option<DateTime<Utc>>,
}

struct Request {
    submitted: Submitted,
    answer: oneshot::Sender<Result<SubmissionRecord, Refusal>>,
}

impl Engine {
    /// Reads what is stored and starts the two tasks on the current tokio runtime. The registry is not waited for.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn start(options: EngineOptions) -> Result<Self, EngineError> {
        options.freshness.check()?;
        let online = OnlineKeys {
            timestamp: options.keys.timestamp.key().clone(),
            snapshot: options.keys.snapshot.key().clone(),
        };
        let key = TrustKey::whole(&options.name);
        let pusher = Push::new(
            options.registry,
            options.repository.clone(),
            options.profile,
            options.store.clone(),
            key.clone(),
            &options.keys.timestamp,
        );
        let setup = Setup {
            store: options.store,
            key,
            signers: options.keys,
            online,
            freshness: options.freshness,
            refused_keys: options.refused_keys,
        };
        let (queue, requests) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            name: options.name,
            repository: options.repository,
            clock: options.clock,
            setup,
            queue,
            published: watch::Sender::new(None),
            committed: watch::Sender::new(0),
            observed: watch::Sender::new(false),
            stop: watch::Sender::new(false),
            status: Mutex::default(),
            tasks: tokio::sync::Mutex::default(),
        });
        let reading = shared.clone();
        spawn_blocking(move || reading.read_head())
            .await
            .map_err(|_| StoreError::Stopped { path: std::path::PathBuf::new() })?
            .map_err(|source| EngineError::Stored { name: shared.name.clone(), source })?;
        let tasks = vec![
            tokio::spawn(committer(shared.clone(), requests)),
            tokio::spawn(push_loop(shared.clone(), pusher)),
        ];
        *shared.tasks.lock().await = tasks;
        Ok(Self { shared })
    }

    /// What the daemon calls it.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Submits signed documents, by role. On success they are durable and will be published.
    ///
    /// # Errors
    /// [`Refusal`]; with code `unavailable` nothing was decided and the same submission may be sent again.
    pub async fn submit(&self, documents: BTreeMap<String, Vec<u8>>) -> Result<Accepted, Refusal> {
        let (answer, answered) = oneshot::channel();
        let request = Request { submitted: Submitted { id: submission_id(&documents), documents }, answer };
        self.shared
            .queue
            .try_send(request)
            .map_err(|_| unavailable("too many submissions at once; try again in a moment".to_owned()))?;
        let record =
            answered.await.map_err(|_| unavailable("the daemon is stopping; try again".to_owned()))??;
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
        let mut published = self.shared.published.subscribe();
        let there = published.wait_for(|p| p.as_ref().is_some_and(|p| p.timestamp_version >= version));
        // Whether it came or the time ran out, the answer says how far it is.
        let _ = tokio::time::timeout(wait, there).await;
        Ok(Some(self.progress(record)))
    }

    fn progress(&self, record: SubmissionRecord) -> Accepted {
        let published = self.shared.published.borrow();
        let there = published.as_ref().is_some_and(|p| p.timestamp_version >= record.timestamp_version);
        Accepted {
            id: record.id,
            state: if there { Progress::Published } else { Progress::Accepted },
            documents: record.roles,
            timestamp: record.timestamp_version,
        }
    }

    /// What clients of the API are told of it.
    pub fn info(&self) -> TrustInfo {
        let status = self.shared.status();
        TrustInfo {
            name: self.shared.name.clone(),
            repository: self.shared.repository.to_string(),
            online: self.shared.setup.online.clone(),
            trust_id: status.trust_id.clone(),
            heads: status.heads.clone(),
        }
    }

    /// The plain TUF file `name`: `timestamp.json`, `N.root.json`, `N.snapshot.json` or `N.ROLE.json`. None if there is
    /// no such file.
    ///
    /// # Errors
    /// [`Refusal`] if the store cannot be read.
    pub async fn file(&self, name: &str) -> Result<Option<Bytes>, Refusal> {
        let Some(stem) = name.strip_suffix(".json") else { return Ok(None) };
        let (role, version) = if stem == "timestamp" {
            (stem.to_owned(), self.shared.status().heads.get(stem).copied().unwrap_or_default())
        } else {
            let Some((version, role)) = stem.split_once('.') else { return Ok(None) };
            // Only the digits that we would write: one name for one file.
            let Some(version) = version.parse().ok().filter(|v: &u64| v.to_string() == version) else {
                return Ok(None);
            };
            if role == "timestamp" {
                return Ok(None);
            }
            (role.to_owned(), version)
        };
        let shared = self.shared.clone();
        blocking(move || shared.setup.store.document(&shared.setup.key, &role, version)).await
    }

    /// How it is doing.
    pub fn health(&self) -> Health {
        let (published, status) = (self.shared.published.borrow().clone(), self.shared.status());
        let observed = *self.shared.observed.borrow();
        let now = self.shared.clock.now();
        let half = self.shared.setup.freshness.timestamp_validity / 2;
        let initialised = status.trust_id.is_some();
        let behind =
            published.as_ref().map(|p| p.timestamp_version) != status.heads.get("timestamp").copied();
        let aging = published.as_ref().is_none_or(|p| now - p.at >= half);
        let (ready, detail) = if let Some(alarm) = &status.alarm {
            (false, alarm.clone())
        } else if !observed {
            let why = status.trouble.as_deref().unwrap_or("asking it now");
            (false, format!("the registry was not read yet: {why}"))
        } else if let (true, true, Some(trouble)) = (initialised, aging, &status.trouble) {
            (false, trouble.clone())
        } else if initialised && behind && published.is_none() {
            (false, "not yet in the registry".to_owned())
        } else if let Some(trouble) = &status.trouble {
            (true, format!("trying again: {trouble}"))
        } else if initialised {
            (true, "fresh".to_owned())
        } else {
            (true, format!("waiting for `plimsoll init {}`", self.shared.repository))
        };
        Health {
            ready,
            alarm: status.alarm.clone(),
            detail,
            timestamp_expires: status.timestamp_expires,
            published: published.map(|p| p.timestamp_version),
        }
    }

    /// Ends the tasks, after the round and the push that are under way.
    pub async fn stop(&self) {
        self.shared.stop.send_replace(true);
        for task in self.shared.tasks.lock().await.drain(..) {
            // A task that panicked is over, too; it was logged where it happened.
            let _ = task.await;
        }
    }
}

/// The same documents have the same id, so a submission that is sent again is known.
fn submission_id(documents: &BTreeMap<String, Vec<u8>>) -> String {
    let mut all = Vec::new();
    for (role, bytes) in documents {
        all.extend_from_slice(format!("{role} {}\n", Digest::of(bytes)).as_bytes());
    }
    Digest::of(&all).hex()[..32].to_owned()
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

    /// Brings status and the pusher's goal up to what is stored.
    fn read_head(&self) -> Result<(), RoundError> {
        let head = self.setup.store.head(&self.setup.key)?;
        let signed = self.setup.signed(&head)?;
        let root = match head.roles.get("root") {
            Some(root) => self.setup.store.document(&self.setup.key, "root", root.version)?,
            None => None,
        };
        let root = root
            .map(|bytes| Document::<Root>::parse("root", &bytes))
            .transpose()
            .map_err(RoundError::Stored)?;
        {
            let mut status = self.status();
            status.trust_id =
                root.and_then(|root| root.signed.common.identity).map(|identity| identity.trust);
            status.heads = head.roles.iter().map(|(role, head)| (role.clone(), head.version)).collect();
            status.timestamp_expires = signed.map(|signed| signed.timestamp_expires);
        }
        self.published.send_replace(head.published);
        self.committed.send_replace(head.roles.get("timestamp").map_or(0, |role| role.version));
        Ok(())
    }

    fn alarm(&self, text: String) {
        error!(trust = self.name, "ALARM, nothing is signed any more: {text}");
        self.status().alarm = Some(text);
    }

    /// Why nothing may be signed now.
    fn blocked(&self) -> Option<String> {
        if let Some(alarm) = &self.status().alarm {
            return Some(format!("the daemon stopped signing: {alarm}"));
        }
        (!*self.observed.borrow()).then(|| {
            let trouble = self.status().trouble.clone();
            let why = trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
            format!("the daemon has not read the registry yet, so it signs nothing{why}")
        })
    }

    /// How long until something may be due.
    fn pause(&self) -> Duration {
        let head = self.setup.store.head(&self.setup.key);
        let signed = head.map_err(RoundError::from).and_then(|head| self.setup.signed(&head));
        match signed {
            Ok(Some(signed)) => {
                // Different for each trust repository and each time, and known beforehand.
                let seed = Digest::of(format!("{} {}", self.name, signed.timestamp_at).as_bytes()).hex();
                let jitter = f64::from(u8::from_str_radix(&seed[..2], 16).unwrap_or_default()) / 255.0;
                freshness::next_check(&self.setup.freshness, &signed, self.clock.now(), jitter)
            }
            _ => Duration::from_secs(1),
        }
    }
}

async fn committer(shared: Arc<Shared>, mut requests: mpsc::Receiver<Request>) {
    let mut stop = shared.stop.subscribe();
    let mut next = Instant::now();
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            count = requests.recv_many(&mut batch, BATCH) => if count == 0 { return },
            () = tokio::time::sleep_until(next) => {}
        }
        if let Some(why) = shared.blocked() {
            for request in batch {
                let _ = request.answer.send(Err(unavailable(why.clone())));
            }
            next = Instant::now() + Duration::from_millis(200);
            continue;
        }
        let (submitted, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|request| (request.submitted, request.answer)).unzip();
        let working = shared.clone();
        let round = spawn_blocking(move || {
            let outcome = working.setup.round(&submitted, working.clock.now());
            // Also after a failure: a write that was said to have failed may be there.
            let read = working.read_head();
            (outcome.and_then(|outcome| read.map(|()| outcome)), working.pause())
        });
        let (outcome, pause) = match round.await {
            Ok(done) => done,
            Err(panic) => {
                error!(trust = shared.name, "a round panicked, nothing was stored by it: {panic}");
                next = Instant::now() + RETRY.1;
                continue;
            }
        };
        next = Instant::now() + pause;
        match outcome {
            Ok(outcome) => {
                for report in outcome.reports {
                    warn!(trust = shared.name, "{report}");
                }
                for (answer, result) in answers.into_iter().zip(outcome.answers) {
                    match &result {
                        Ok(record) => {
                            info!(trust = shared.name, id = record.id, roles = ?record.roles, "accepted")
                        }
                        Err(refusal) => info!(trust = shared.name, "refused: {}", refusal.message),
                    }
                    // Who asked may be gone; what was accepted stays accepted.
                    let _ = answer.send(result);
                }
            }
            Err(error) => {
                let text = chain(&error);
                match error {
                    RoundError::Store(StoreError::Stopped { .. } | StoreError::Damaged { .. }) => {
                        shared.alarm(format!("{text}; restart the daemon"));
                    }
                    _ => error!(trust = shared.name, "nothing was signed: {text}"),
                }
                for answer in answers {
                    let _ = answer.send(Err(unavailable(text.clone())));
                }
                next = Instant::now() + RETRY.0.max(Duration::from_secs(1));
            }
        }
    }
}

async fn push_loop(shared: Arc<Shared>, mut push: Push) {
    let mut stop = shared.stop.subscribe();
    let mut committed = shared.committed.subscribe();
    let mut wait = RETRY.0;
    loop {
        let goal = *committed.borrow_and_update();
        let result =
            if shared.status().alarm.is_some() { Ok(()) } else { push_once(&shared, &mut push, goal).await };
        let pause = match result {
            Ok(()) => {
                wait = RETRY.0;
                shared.status().trouble = None;
                // Looked at again each interval, also when nothing is new: somebody may write over it.
                shared.setup.freshness.timestamp_interval.to_std().unwrap_or(RETRY.1)
            }
            Err(error) => {
                let text = chain(&error);
                warn!(trust = shared.name, "not in the registry yet: {text}");
                shared.status().trouble = Some(text);
                wait = (wait * 2).min(RETRY.1);
                wait
            }
        };
        let failed = pause == wait;
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(pause) => {}
            // A registry in trouble is given its pause; otherwise what is new goes out at once.
            changed = committed.changed(), if !failed => if changed.is_err() { return },
        }
    }
}

/// Looks at the registry and, if it does not show timestamp version `goal`, pushes.
async fn push_once(shared: &Shared, push: &mut Push, goal: u64) -> Result<(), PushError> {
    let standing = push.look().await?;
    let repository = &shared.repository;
    match &standing {
        Standing::Ahead { version } => {
            shared.alarm(format!(
                "{repository} shows timestamp version {version}, validly signed by our key, but the store knows only \
                 version {goal}: the store is an old copy; restore a newer one"
            ));
            return Ok(());
        }
        Standing::Twin { version } => {
            shared.alarm(format!(
                "{repository} shows timestamp version {version} with other content, validly signed by our key: another \
                 daemon signs with it; stop it, and rotate the key if it is not yours"
            ));
            return Ok(());
        }
        Standing::Foreign if goal == 0 => {
            shared.alarm(format!(
                "{repository}:latest holds something that is not ours: choose an empty repository"
            ));
            return Ok(());
        }
        Standing::Foreign | Standing::Empty if shared.published.borrow().is_some() => {
            warn!(trust = shared.name, "{repository}:latest was removed or overwritten; writing it again");
        }
        _ => {}
    }
    shared.observed.send_replace(true);
    let published = shared.published.borrow().as_ref().map(|p| p.timestamp_version);
    if goal == 0 || (published == Some(goal) && standing == Standing::Current) {
        return Ok(());
    }
    let published = push.push(shared.clock.now()).await?;
    info!(trust = shared.name, timestamp = published.timestamp_version, "published");
    shared.published.send_replace(Some(published));
    Ok(())
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}
