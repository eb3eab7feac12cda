//! What the operator sees of one trust repository: the metrics, the page and whoever else asks are made from it.
//!
//! Signing and publishing only count and note (`recorder.rs`); everything else is done when somebody asks, and read from
//! the store only if the head has changed since (`tree.rs`).

mod recorder;
#[cfg(test)]
pub(crate) mod sample;
mod tree;

use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use plimsoll::{publish::api::Refusal, verify};
use serde::Serialize;
use tokio::{sync::OwnedMutexGuard, task::spawn_blocking};

pub(super) use recorder::Recorder;
pub use recorder::{BUCKETS, Counts, Histogram, Point, PublishEvent, RefusalEvent};
pub use tree::{DocumentReport, KeyReport, RoleReport, Tree};

use super::{
    Engine, Health, PushError, QUEUE, QUEUE_KIB, Shared,
    push::Shown,
    round::{Outcome, RoundError},
};

/// How one trust repository is, and what happened to it since the daemon started. Bounded; holds no secrets, but words
/// that others chose: names of roles and keys, what was wrong with a submission, what a registry said.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What the daemon calls it.
    pub name: String,
    /// Where its metadata is put, `HOST/REPOSITORY`.
    pub repository: String,
    /// The trust id; none before `init`.
    pub trust_id: Option<String>,
    /// When this was said, by the daemon's clock, UTC.
    pub at: DateTime<Utc>,
    /// As in `/readyz`.
    pub health: Health,
    /// The configured lives of what the daemon signs.
    pub lives: Lives,
    /// All roles as stored. The same value for as long as the head stays.
    #[serde(serialize_with = "shared_tree")]
    pub tree: Arc<Tree>,
    /// Why `tree` is not the newest one; none if it is.
    pub unread: Option<String>,
    /// The newest timestamp in the store; none before the first submission.
    pub stored: Option<DocumentReport>,
    /// The timestamp that the registry was last seen to show; none if none of ours.
    pub served: Option<Served>,
    /// How far the registry is behind the store.
    pub lag: Lag,
    /// When the registry was last seen to show the newest timestamp, UTC; none since the start.
    pub last_success: Option<DateTime<Utc>>,
    /// What waits to be decided.
    pub queue: Queue,
    /// Counters since the start.
    pub counts: Counts,
    /// How long the rounds took that signed something: accept, sign, check, store.
    pub commits: Histogram,
    /// How long it took to put the newest state into the registry, from the first request to the record.
    pub pushes: Histogram,
    /// How long after its commit each timestamp, or a newer one, was in the registry.
    pub visible: Histogram,
    /// The last submissions accepted, at most 50, the newest last.
    pub publishes: Vec<PublishEvent>,
    /// The last submissions refused, at most 50, the newest last.
    pub refusals: Vec<RefusalEvent>,
    /// The freshness timeline: at most 160 timestamps, the newest last. Of those that were signed at nearly the same
    /// time only the last is kept.
    pub points: Vec<Point>,
}

/// Lives and intervals of what the daemon signs, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Lives {
    /// Life of a timestamp.
    pub timestamp_validity: i64,
    /// How often it is signed when nothing else happens.
    pub timestamp_interval: i64,
    /// Life of a snapshot.
    pub snapshot_validity: i64,
}

/// The timestamp that the registry shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Served {
    /// Its version.
    pub version: u64,
    /// When it was signed, UTC; none if the store has it no more.
    pub signed: Option<DateTime<Utc>>,
    /// When it expires, UTC.
    pub expires: DateTime<Utc>,
    /// When it was read back from the registry, UTC.
    pub published: DateTime<Utc>,
}

/// How far the registry is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// Timestamp versions that are stored and not shown.
    pub versions: u64,
    /// For how long the oldest of these has waited, seconds; 0 if there is none.
    pub seconds: i64,
}

/// Submissions that wait for the round after the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// How many.
    pub submissions: usize,
    /// How many there is room for.
    pub limit: usize,
    /// Their size, those of the present round included; KiB, rounded up for each.
    pub kib: usize,
    /// The most that there is room for, KiB.
    pub kib_limit: usize,
}

/// What was read for the last report.
#[derive(Debug, Default)]
pub(super) struct Memory {
    reader: tree::Reader,
    tree: Arc<Tree>,
    /// The timestamp that was last seen in the registry.
    served: Option<DocumentReport>,
}

impl Engine {
    /// How it is, and what happened since the start. Reads the store on a thread that may block, and only what is new there
    /// since the last call; reports are made one after the other.
    pub async fn report(&self) -> Report {
        let memory = self.shared.memory.clone().lock_owned().await;
        let shared = self.shared.clone();
        let made = spawn_blocking(move || shared.report(memory)).await;
        // Nothing in there panics but for a fault of ours, and whoever asked is answered by a closed connection then.
        made.unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic()))
    }

    /// Counts a submission that was refused before it came here: too long, no JSON, no right to submit.
    pub(crate) fn note_refused(&self, refusal: &Refusal) {
        self.shared.note_refused(refusal);
    }
}

impl Shared {
    fn report(self: &Arc<Self>, mut memory: OwnedMutexGuard<Memory>) -> Report {
        // Before the store is read: what comes in between is then too new and not too old.
        let (shown, committed) = (*self.shown.borrow(), *self.committed.borrow());
        let unread =
            self.read(&mut memory, shown.as_ref(), committed).err().map(|error| verify::chain(&error));
        let tree = memory.tree.clone();
        let stored = tree.roles.iter().find(|role| role.name == "timestamp").and_then(|role| role.document);
        let served = shown.map(|shown| Served {
            version: shown.published.timestamp_version,
            signed: memory.served.and_then(|document| document.signed),
            expires: shown.expires,
            published: shown.published.at,
        });
        drop(memory);
        let now = self.clock.now();
        let freshness = self.setup.freshness();
        let recorder = self.recorder().clone();
        // The tree may be newer than what was asked for.
        let newest = committed.max(tree.timestamp_version);
        let versions = newest.saturating_sub(served.map_or(0, |served| served.version));
        // Not known for what was stored before the start: then since the newest was signed.
        let since = recorder.waiting_since().or(stored.and_then(|stored| stored.signed)).unwrap_or(now);
        let lag =
            Lag { versions, seconds: if versions == 0 { 0 } else { (now - since).num_seconds().max(0) } };
        let (name, repository) = (self.name.clone(), self.repository.to_string());
        let health = Engine { shared: self.clone() }.health();
        let trust_id = self.status().trust_id.clone();
        let queue = Queue {
            submissions: QUEUE - self.queue.capacity(),
            limit: QUEUE,
            kib: QUEUE_KIB - self.room.available_permits(),
            kib_limit: QUEUE_KIB,
        };
        Report {
            name,
            repository,
            trust_id,
            at: now,
            health,
            lives: Lives {
                timestamp_validity: freshness.timestamp_validity.num_seconds(),
                timestamp_interval: freshness.timestamp_interval.num_seconds(),
                snapshot_validity: freshness.snapshot_validity.num_seconds(),
            },
            tree,
            unread,
            stored,
            served,
            lag,
            last_success: recorder.last_success,
            queue,
            points: points(&recorder, served.as_ref()),
            publishes: recorder.publishes.into(),
            refusals: recorder.refusals.into(),
            counts: recorder.counts,
            commits: recorder.commits,
            pushes: recorder.pushes,
            visible: recorder.visible,
        }
    }

    /// Brings `memory` up to what is stored, if something is new there.
    fn read(&self, memory: &mut Memory, shown: Option<&Shown>, committed: u64) -> Result<(), RoundError> {
        let (store, key) = (&*self.setup.store, &self.setup.key);
        let served = shown.map(|shown| shown.published.timestamp_version);
        if memory.served.map(|document| document.version) != served {
            memory.served = match served {
                Some(version) => tree::timestamp(store, key, version)?,
                None => None,
            };
        }
        // Every commit has a timestamp of its own.
        if memory.tree.timestamp_version != committed {
            memory.tree = Arc::new(memory.reader.read(store, key, &store.head(key)?)?);
        }
        Ok(())
    }

    /// What was counted and noted so far.
    pub(super) fn recorder(&self) -> MutexGuard<'_, Recorder> {
        // Nothing that is done under this lock can panic half-way.
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a round that took `took`; the head was read after it.
    pub(super) fn note_round(&self, took: Duration, outcome: &Result<Outcome, RoundError>) {
        let now = self.clock.now();
        let newest = *self.committed.borrow();
        let spacing = self.setup.freshness().timestamp_interval / 8;
        let mut recorder = self.recorder();
        match outcome {
            Ok(outcome) => {
                recorder.round(took, outcome.signed.then_some(newest), now, spacing);
                if outcome.signed && !outcome.answers.iter().any(Result::is_ok) {
                    recorder.resigned();
                }
                for answer in &outcome.answers {
                    recorder.answered(answer, now);
                }
            }
            Err(_) => recorder.round_failed(),
        }
    }

    /// Notes a submission that was refused without a round.
    pub(super) fn note_refused(&self, refusal: &Refusal) {
        self.recorder().refused(refusal, self.clock.now());
    }

    /// Notes what became of a try to bring timestamp version `goal` into the registry.
    pub(super) fn note_try(&self, result: &Result<(), PushError>, goal: u64) {
        let shown = self.shown.borrow().map_or(0, |shown| shown.published.timestamp_version);
        let current = goal > 0 && shown >= goal && self.status().alarm.is_none();
        self.recorder().tried(result.is_ok(), current, self.clock.now());
    }
}

fn shared_tree<S: serde::Serializer>(tree: &Arc<Tree>, serializer: S) -> Result<S::Ok, S::Error> {
    tree.serialize(serializer)
}

/// The recorded points; before the first of them the one that the registry showed when the daemon started.
fn points(recorder: &Recorder, served: Option<&Served>) -> Vec<Point> {
    let mut points: Vec<Point> = recorder.points.iter().copied().collect();
    if let Some(Served { version, signed: Some(signed), published, .. }) = served
        && points.first().is_none_or(|first| first.timestamp_version > *version)
    {
        points.insert(0, Point { timestamp_version: *version, signed: *signed, seen: Some(*published) });
    }
    points
}
