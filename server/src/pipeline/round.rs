//! One round: accept → plan → sign → check → store. Pure but for the store; the caller says what time it is.
//!
//! What each step leaves behind if the next one fails:
//!
//! | step | leaves | repaired by |
//! |---|---|---|
//! | accept, plan, sign, check | nothing; versions are taken only by the store | nothing to repair |
//! | claim: the next online keys, if the root names them | they can no longer be discarded | the next look at the head releases them |
//! | store | documents, head and submissions, all or none, durable | nothing to repair |
//! | push (`push.rs`): blobs, roles | unreferenced blobs, tags of roles that no snapshot leads to yet, the old `:latest` whole | the next push, also after a restart |
//! | push: `:latest`, read back | a `:latest` that the store does not yet know as published | the next look: it is ours, and pushed again |
//! | record | nothing: `published` is answered | nothing to repair |
//! | settle: online keys that were replaced (`keys/ring.rs`) | both pairs, of which the root names one | the next push or start |

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use plimsoll::{
    keys::{PrivateKey, SignError},
    publish::{
        api::{Refusal, RefusalCode, RefusalReason},
        author,
    },
};
use plimsoll_core::{
    oci::Digest,
    tuf::{self, Document, KeyId, Root, Snapshot, Targets, Timestamp, Trusted},
};

use super::{
    accept::{self, AcceptedSet, Kept, Parsed, Present, RoleDocument, Rules, Sent},
    check::{self, Held, Offered},
    committed::Committed,
    plan::{self, Base},
    push::Shown,
};
use crate::{
    freshness::{self, ClockFault, Freshness, Jitter, Signed},
    keys::{Keyring, OnlineKeyError, OnlineRole},
    quota::{self, Quota, Rates, TooOften, Usage},
    store::{Commit, Head, Published, RoleHead, Store, StoreError, SubmissionRecord, TrustKey},
};

/// Everything a round needs that does not change.
pub(super) struct Setup {
    pub(super) store: Arc<dyn Store>,
    pub(super) key: TrustKey,
    /// Where it is published, as [`Published::place`] has it.
    pub(super) place: Digest,
    /// Held for a whole round, so that the keys that a root names stay the ones that were looked at.
    pub(super) keys: Arc<Mutex<Keyring>>,
    /// Changed at run time; a round takes it once.
    pub(super) freshness: Mutex<Freshness>,
    pub(super) refused_keys: BTreeSet<KeyId>,
    /// Changed at run time; a round takes it once.
    pub(super) quota: Mutex<Quota>,
    /// How often each team published of late.
    pub(super) rates: Mutex<Rates>,
    /// Roots and delegating roles, read once.
    pub(super) parsed: Parsed,
    /// The newest root to which the walk from the first one was made.
    pub(super) walked: Mutex<Option<Digest>>,
    /// The newest head.
    pub(super) committed: Arc<Committed>,
    /// What the next round goes on from; none if the store must be read first.
    pub(super) working: Mutex<Option<Working>>,
}

/// What is committed, as a round needs it.
#[derive(Debug)]
pub(super) struct Working {
    /// A client that took it; none before the first submission.
    client: Option<Trusted>,
    /// When its online documents were signed, and expire.
    signed: Option<Signed>,
}

/// A submission as it came.
#[derive(Debug, Clone)]
pub(crate) struct Submitted {
    pub(super) id: String,
    pub(super) documents: BTreeMap<String, Sent>,
}

/// What of a batch was accepted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken<'a> {
    pub(super) batch: &'a [Submitted],
    /// Each with its place in the batch.
    pub(super) sets: &'a [(usize, AcceptedSet)],
}

/// What a round did.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// One answer for each submission, in their order.
    pub(super) answers: Vec<Result<SubmissionRecord, Refusal>>,
    /// True if something was signed.
    pub(super) signed: bool,
    /// What the operator should know.
    pub(super) reports: Vec<String>,
}

/// Why nothing was signed. Nothing was stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoundError {
    /// The wall clock may not be signed with.
    #[error(transparent)]
    Clock(#[from] ClockFault),
    /// Signing failed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The key that the newest root names is not here, as after a backup of other keys was restored.
    #[error(
        "the key of {role} that root version {version} names is not here: restore it from a backup, or have the owners \
         publish a root that names the present one (`plimsolld key show`)"
    )]
    NoKey {
        /// The online role.
        role: &'static str,
        /// The root's version.
        version: u64,
    },
    /// The folder of the online keys.
    #[error(transparent)]
    Keys(#[from] OnlineKeyError),
    /// A client would refuse what was about to be published.
    #[error("a client would refuse what was about to be published")]
    Check(#[source] tuf::Error),
    /// A stored document cannot be read.
    #[error("a stored document cannot be read")]
    Stored(#[source] tuf::Error),
    /// A stored document is missing.
    #[error("the store has no {role} version {version}, which its head names")]
    Missing {
        /// The role.
        role: String,
        /// The version.
        version: u64,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Setup {
    /// Takes what is acceptable of `batch`, and re-signs what is due.
    ///
    /// # Errors
    /// [`RoundError`]; with [`RoundError::Store`] the caller must read the head before it goes on.
    pub(super) fn round(&self, batch: &[Submitted], now: DateTime<Utc>) -> Result<Outcome, RoundError> {
        let mut keys = self.keys();
        let unread = if batch.iter().any(|submitted| submitted.documents.contains_key("root")) {
            keys.reload().err()
        } else {
            None
        };
        let mut outcome = self.round_with(&mut keys, batch, now)?;
        // Then a root can name the present ones only.
        outcome.reports.extend(unread.map(|error| format!("the next online keys cannot be read: {error}")));
        Ok(outcome)
    }

    /// Signs a new timestamp, due or not, and a new snapshot if that is due. Nothing before the first submission.
    ///
    /// # Errors
    /// As [`round`](Self::round).
    pub(super) fn renew(&self, now: DateTime<Utc>) -> Result<Outcome, RoundError> {
        let working = self.take_working(now)?;
        let Some(signed) = &working.signed else {
            self.keep_working(working);
            return Ok(Outcome::default());
        };
        let due = freshness::due(&self.freshness(), signed, self.jitter(signed), now);
        let due = due.map_err(ClockFault::from)?;
        let (mut keys, overlay) = (self.keys(), Overlay::new(self));
        let nothing = Taken { batch: &[], sets: &[] };
        let stored = self.sign_and_store(&mut keys, &working, &overlay, &[], nothing, due.snapshot, now)?;
        self.keep_working(stored.working);
        Ok(Outcome { answers: Vec::new(), signed: true, reports: stored.reports })
    }

    /// What the last round left, or what the store holds. Until it is kept again, the next round reads the store.
    pub(super) fn take_working(&self, now: DateTime<Utc>) -> Result<Working, RoundError> {
        let kept = self.working.lock().unwrap_or_else(PoisonError::into_inner).take();
        kept.map_or_else(|| self.read_store(now), Ok)
    }

    fn keep_working(&self, working: Working) {
        *self.working.lock().unwrap_or_else(PoisonError::into_inner) = Some(working);
    }

    /// Reads the store anew: whatever a round, or a failure, left there is what the next one goes on from.
    ///
    /// # Errors
    /// [`RoundError`].
    pub(super) fn reload(&self, now: DateTime<Utc>) -> Result<(), RoundError> {
        let working = self.read_store(now)?;
        self.keep_working(working);
        Ok(())
    }

    fn read_store(&self, now: DateTime<Utc>) -> Result<Working, RoundError> {
        self.committed.read(self.store.head(&self.key)?);
        let Some(root) = self.newest("root")? else { return Ok(Working { client: None, signed: None }) };
        let (timestamp, snapshot) = (self.newest("timestamp")?, self.newest("snapshot")?);
        let client = Held { root, timestamp, snapshot }.client(now).map_err(RoundError::Stored)?;
        let signed = signed(&client, self.committed.head().last_signed);
        Ok(Working { client: Some(client), signed })
    }

    /// Lives and intervals, as they are now.
    pub(super) fn freshness(&self) -> Freshness {
        *self.freshness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each team may have, as it is now.
    pub(super) fn quota(&self) -> Quota {
        *self.quota.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on each team may have this; what it published of late stays counted.
    pub(super) fn set_quota(&self, quota: Quota, now: DateTime<Utc>) {
        self.rates().change(&quota, now);
        *self.quota.lock().unwrap_or_else(PoisonError::into_inner) = quota;
    }

    /// The online keys.
    pub(super) fn keys(&self) -> MutexGuard<'_, Keyring> {
        // Each of its steps leaves it whole.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn round_with(
        &self,
        keys: &mut Keyring,
        batch: &[Submitted],
        now: DateTime<Utc>,
    ) -> Result<Outcome, RoundError> {
        let working = self.take_working(now)?;
        let due = match &working.signed {
            Some(signed) => freshness::due(&self.freshness(), signed, self.jitter(signed), now),
            None => Ok(freshness::Due { snapshot: false, timestamp: false }),
        };
        let due = match due {
            Ok(due) => due,
            Err(fault) => {
                self.keep_working(working);
                return Err(ClockFault::from(fault).into());
            }
        };
        let (mut overlay, quota) = (Overlay::new(self), self.quota());
        let mut outcome = Outcome::default();
        let mut taken: Vec<(usize, AcceptedSet)> = Vec::new();
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        let mut again: Vec<(usize, usize)> = Vec::new();
        for (at, submitted) in batch.iter().enumerate() {
            // A submission whose answer was lost comes again under the same id, maybe while the first still waits.
            if let Some(earlier) = first.insert(&submitted.id, at) {
                outcome.answers.push(Err(unavailable("not committed".to_owned())));
                again.push((at, earlier));
                continue;
            }
            let rules =
                Rules { keys, refused_keys: &self.refused_keys, quota: &quota, parsed: &self.parsed, now };
            let accepted = accept::accept(&overlay, &submitted.documents, rules);
            // Last, so that what is refused anyway takes nothing.
            match accepted.and_then(|set| self.take_turn(&set, now).map(|()| set)) {
                Ok(set) => {
                    overlay.add(&set);
                    taken.push((at, set));
                    outcome.answers.push(Err(unavailable("not committed".to_owned())));
                }
                // What was taken, and whose answer was lost, is not newer than itself.
                Err(refusal) => {
                    let known = match refusal.code {
                        RefusalCode::Conflict => self.store.submission(&self.key, &submitted.id)?,
                        _ => None,
                    };
                    outcome.answers.push(known.ok_or(refusal));
                }
            }
        }
        if taken.is_empty() && !due.timestamp {
            self.keep_working(working);
        } else {
            let changed: Vec<_> = taken.iter().flat_map(|(_, set)| set.documents.clone()).collect();
            let of = Taken { batch, sets: &taken };
            let stored = self.sign_and_store(keys, &working, &overlay, &changed, of, due.snapshot, now);
            if stored.is_err() {
                taken.iter().for_each(|(_, set)| self.rates().give_back(&publishes_of(set)));
            }
            match stored {
                Ok(stored) => {
                    self.keep_working(stored.working);
                    outcome.signed = true;
                    outcome.reports = stored.reports;
                    for ((at, set), record) in taken.into_iter().zip(stored.records) {
                        outcome.reports.extend(set.reports);
                        outcome.answers[at] = Ok(record);
                    }
                }
                Err(RoundError::Check(error)) if !taken.is_empty() => {
                    self.keep_working(working);
                    self.one_by_one(keys, of, &error, now, &mut outcome)?;
                }
                Err(error) => return Err(error),
            }
        }
        // In order, so that the third finds the second's answer.
        for (at, earlier) in again {
            outcome.answers[at] = outcome.answers[earlier].clone();
        }
        Ok(outcome)
    }

    /// Counts a set that was accepted for the subtrees that it is of.
    fn take_turn(&self, set: &AcceptedSet, now: DateTime<Utc>) -> Result<(), Refusal> {
        self.rates().take(&publishes_of(set), now).map_err(|TooOften { subtree, wait }| {
            let most = self.quota().publishes_per_minute;
            let who = format!("{subtree}, with the roles below it, may publish {most} times in a minute");
            Refusal::rate_limited(RefusalReason::PublishRate, &who, wait)
        })
    }

    fn rates(&self) -> MutexGuard<'_, Rates> {
        // Counted and nothing else: a panic half-way costs nobody more than a turn.
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of `taken` made the check fail: each alone, so that the others do not suffer, and what is due without it.
    fn one_by_one(
        &self,
        keys: &mut Keyring,
        taken: Taken<'_>,
        error: &tuf::Error,
        now: DateTime<Utc>,
        outcome: &mut Outcome,
    ) -> Result<(), RoundError> {
        if let [(at, _)] = taken.sets {
            let message = format!("clients would refuse it: {error}");
            let refusal = Refusal::new(RefusalCode::Refused, message);
            outcome.answers[*at] = Err(Refusal { reason: Some(RefusalReason::Clients), ..refusal });
            // Without this, whoever submits such a thing again and again would keep the timestamp from being signed.
            let rest = self.round_with(keys, &[], now)?;
            outcome.signed |= rest.signed;
            outcome.reports.extend(rest.reports);
            return Ok(());
        }
        for (at, _) in taken.sets {
            let alone = self.round_with(keys, std::slice::from_ref(&taken.batch[*at]), now)?;
            outcome.signed |= alone.signed;
            outcome.reports.extend(alone.reports);
            outcome.answers[*at] = alone.answers.into_iter().next().expect("one answer for one submission");
        }
        Ok(())
    }

    /// What is recorded as published where it is now to be, which is nothing if it moved.
    fn published(&self) -> Option<Published> {
        self.committed.head().published.filter(|published| published.is_at(&self.place))
    }

    /// What is recorded as published there, and until when that is good.
    ///
    /// # Errors
    /// [`RoundError`].
    pub(super) fn shown(&self) -> Result<Option<Shown>, RoundError> {
        let Some(published) = self.published() else { return Ok(None) };
        let version = published.timestamp_version;
        let missing = || RoundError::Missing { role: "timestamp".to_owned(), version };
        let timestamp = self.store.document(&self.key, "timestamp", version)?.ok_or_else(missing)?;
        let timestamp = Document::<Timestamp>::parse("timestamp", &timestamp).map_err(RoundError::Stored)?;
        Ok(Some(Shown { published, expires: timestamp.signed.common.expires }))
    }

    /// How long from `now` until something may be due.
    pub(super) fn pause(&self, now: DateTime<Utc>) -> Duration {
        match &*self.working.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(Working { signed: Some(signed), .. }) => {
                freshness::next_check(&self.freshness(), signed, self.jitter(signed), now)
            }
            Some(Working { signed: None, .. }) => freshness::LONGEST_CHECK,
            None => Duration::from_secs(1),
        }
    }

    /// Different for each trust repository and each time, and known beforehand.
    fn jitter(&self, signed: &Signed) -> Jitter {
        let of = |at: DateTime<Utc>| {
            let seed = Digest::of(format!("{} {at}", self.key.name).as_bytes()).hex();
            f64::from(u8::from_str_radix(&seed[..2], 16).unwrap_or_default()) / 255.0
        };
        Jitter { timestamp: of(signed.timestamp_at), snapshot: of(signed.snapshot_at) }
    }

    /// The newest root; none before the first submission.
    ///
    /// # Errors
    /// [`RoundError`].
    pub(super) fn newest_root(&self) -> Result<Option<Arc<Document<Root>>>, RoundError> {
        self.newest_parsed("root")
    }

    fn newest_parsed<T: Kept>(&self, role: &str) -> Result<Option<Arc<Document<T>>>, RoundError> {
        let entry = self.committed.head().roles.get(role).copied();
        if let Some(known) = entry.and_then(|entry| self.parsed.find(&entry.digest)) {
            return Ok(Some(known));
        }
        let Some(bytes) = self.newest(role)? else { return Ok(None) };
        let document = Arc::new(Document::parse(role, &bytes).map_err(RoundError::Stored)?);
        self.parsed.keep(&document);
        Ok(Some(document))
    }

    /// The bytes of the newest root.
    ///
    /// # Errors
    /// [`RoundError::Missing`] before the first submission, any other [`RoundError`].
    pub(super) fn newest_root_bytes(&self) -> Result<Bytes, RoundError> {
        self.newest("root")?.ok_or_else(|| missing("root"))
    }

    /// True if the registry shows a timestamp and a snapshot that the keys of `root` signed, so `root` too.
    ///
    /// # Errors
    /// [`RoundError`].
    pub(super) fn is_shown(&self, root: &Root) -> Result<bool, RoundError> {
        let Some(published) = self.published() else { return Ok(false) };
        let read = |role: &str, version| -> Result<Bytes, RoundError> {
            let missing = || RoundError::Missing { role: role.to_owned(), version };
            self.store.document(&self.key, role, version)?.ok_or_else(missing)
        };
        let timestamp = read("timestamp", published.timestamp_version)?;
        let timestamp = Document::<Timestamp>::parse("timestamp", &timestamp).map_err(RoundError::Stored)?;
        let snapshot = read("snapshot", timestamp.signed.snapshot().version)?;
        let snapshot = Document::<Snapshot>::parse("snapshot", &snapshot).map_err(RoundError::Stored)?;
        Ok(is_signed(&timestamp, OnlineRole::Timestamp, root)
            && is_signed(&snapshot, OnlineRole::Snapshot, root))
    }

    #[expect(clippy::too_many_arguments, reason = "a step of the round, with what the steps before it found")]
    pub(super) fn sign_and_store(
        &self,
        keys: &mut Keyring,
        working: &Working,
        overlay: &Overlay<'_>,
        changed: &[(String, RoleDocument)],
        taken: Taken<'_>,
        snapshot_due: bool,
        now: DateTime<Utc>,
    ) -> Result<Stored, RoundError> {
        let root_document = overlay.newest_root()?;
        let root = &root_document.signed;
        let trust = root.common.identity.as_ref().map(|identity| identity.trust.clone()).unwrap_or_default();
        let before = working.client.as_ref().and_then(Trusted::remembered).map(|(_, snapshot)| snapshot);

        // A root with another snapshot key makes the present snapshot worthless, whatever it lists.
        let snapshot_due =
            snapshot_due || before.is_some_and(|document| !is_signed(document, OnlineRole::Snapshot, root));

        // plan
        let head = self.committed.head();
        let (sequence, taken_over) = (head.sequence + 1, head.taken_over);
        let timestamp_version = head.roles.get("timestamp").map_or(0, |role| role.version);
        drop(head);
        let base =
            Base { trust: &trust, snapshot: before.map(|document| &document.signed), timestamp_version };
        let plan = plan::plan(&base, changed, snapshot_due, &self.freshness(), now);

        // sign
        let snapshot = match (&plan.snapshot, before) {
            (Some(snapshot), _) => {
                let bytes = author::sign(snapshot, &[signer(keys, OnlineRole::Snapshot, root)?])?;
                Arc::new(Document::parse("snapshot", &bytes).map_err(RoundError::Check)?)
            }
            (None, Some(before)) => before.clone(),
            (None, None) => return Err(missing("snapshot")),
        };
        let timestamp = plan.timestamp(snapshot.version(), &snapshot.bytes);
        let timestamp = author::sign(&timestamp, &[signer(keys, OnlineRole::Timestamp, root)?])?;
        let timestamp = Arc::new(Document::parse("timestamp", &timestamp).map_err(RoundError::Check)?);

        // check
        let (client, reports) = self.check(working, overlay, changed, &timestamp, &snapshot, now)?;

        // claim: from the commit on nothing but these keys will do.
        keys.claim(root)?;

        // store: from here on the versions are taken and the submissions are safe.
        let records: Vec<SubmissionRecord> = taken
            .sets
            .iter()
            .map(|(at, set)| SubmissionRecord {
                id: taken.batch[*at].id.clone(),
                roles: set.documents.iter().map(|(role, doc)| (role.clone(), doc.version())).collect(),
                timestamp_version: plan.timestamp_version,
                at: now,
            })
            .collect();
        let mut documents = Vec::new();
        let mut head = Head { sequence, last_signed: Some(now), taken_over, ..Head::default() };
        let mut add = |role: &str, version: u64, bytes: &tuf::Verbatim| {
            let entry = RoleHead { version, digest: bytes.digest(), length: bytes.len() as u64 };
            head.roles.insert(role.to_owned(), entry);
            documents.push((role.to_owned(), version, Bytes::copy_from_slice(bytes)));
        };
        for (role, document) in changed {
            add(role, document.version(), document.verbatim());
        }
        if plan.snapshot.is_some() {
            add("snapshot", snapshot.version(), &snapshot.bytes);
        }
        add("timestamp", timestamp.version(), &timestamp.bytes);
        head.retired = taken.sets.iter().flat_map(|(_, set)| set.retired.iter().cloned()).collect();
        let commit = Commit { documents, head, submissions: records };
        self.store.commit(&self.key, &commit)?;
        self.committed.apply(&commit);
        let signed = signed(&client, Some(now));
        // Without the roles that were checked, which may be large.
        let working = Working { client: Some(client.again(now)), signed };
        Ok(Stored { records: commit.submissions, reports, working })
    }

    fn check(
        &self,
        working: &Working,
        overlay: &Overlay<'_>,
        changed: &[(String, RoleDocument)],
        timestamp: &Arc<Document<Timestamp>>,
        snapshot: &Arc<Document<Snapshot>>,
        now: DateTime<Utc>,
    ) -> Result<(Trusted, Vec<String>), RoundError> {
        let mut roots = changed.iter().filter(|(role, _)| role == "root").map(|(_, root)| root);
        let started;
        let held = match &working.client {
            Some(client) => client,
            // The first root is what clients pin.
            None => {
                let missing = RoundError::Missing { role: "root".to_owned(), version: 1 };
                let first =
                    Held { root: roots.next().ok_or(missing)?.bytes(), timestamp: None, snapshot: None };
                started = first.client(now).map_err(RoundError::Check)?;
                &started
            }
        };
        let roots: Vec<&[u8]> = roots.map(|root| &**root.verbatim()).collect();
        // The newest version of each changed role, with the roles that lead to it.
        let names: BTreeSet<&str> =
            changed.iter().map(|(role, _)| role.as_str()).filter(|role| *role != "root").collect();
        let mut roles = Vec::new();
        for role in names {
            let mut path = Vec::new();
            for (at, _) in role.match_indices("--").chain([(role.len(), "")]) {
                path.push((role[..at].to_owned(), overlay.newest_targets(&role[..at])?));
            }
            roles.push(path);
        }
        let changed_targets = changed.iter().any(|(role, _)| role == "targets");
        let vouched_anew = !roots.is_empty() || held.held_snapshot() != Some(&*snapshot.bytes);
        let targets =
            (vouched_anew && !changed_targets).then(|| overlay.newest_targets("targets")).transpose()?;
        let newest = overlay.newest_root()?.digest();
        let walked = || self.walked.lock().unwrap_or_else(PoisonError::into_inner);
        let chain = (*walked() != Some(newest)).then(|| overlay.roots()).transpose()?;
        let (timestamp, snapshot) = (timestamp.clone(), snapshot.clone());
        let offered = Offered { roots, chain, timestamp, snapshot, roles, targets };
        let checked = check::check(held, &offered, now).map_err(RoundError::Check)?;
        *walked() = Some(newest);
        Ok(checked)
    }

    /// The newest document of `role`. No lock is held while the disk is read.
    fn newest(&self, role: &str) -> Result<Option<Bytes>, RoundError> {
        let entry = self.committed.head().roles.get(role).copied();
        let Some(RoleHead { version, .. }) = entry else { return Ok(None) };
        let missing = || RoundError::Missing { role: role.to_owned(), version };
        self.store.document(&self.key, role, version)?.ok_or_else(missing).map(Some)
    }
}

/// What every commit has is not there.
fn missing(role: &str) -> RoundError {
    RoundError::Missing { role: role.to_owned(), version: 0 }
}

/// What [`Setup::sign_and_store`] did.
pub(super) struct Stored {
    records: Vec<SubmissionRecord>,
    reports: Vec<String>,
    /// For the next round.
    pub(super) working: Working,
}

/// When the online documents that `client` holds were signed and expire; none before the first submission.
fn signed(client: &Trusted, last_signed: Option<DateTime<Utc>>) -> Option<Signed> {
    let (timestamp, snapshot) = client.remembered()?;
    let expires = timestamp.signed.common.expires;
    let snapshot = &snapshot.signed.common;
    let snapshot_at = snapshot.identity.as_ref().map(|identity| identity.at);
    Some(Signed {
        timestamp_at: last_signed.unwrap_or(expires),
        timestamp_expires: expires,
        snapshot_at: snapshot_at.unwrap_or(snapshot.expires),
        snapshot_expires: snapshot.expires,
    })
}

/// Whether an [`Overlay`] may read the disk.
enum Disk {
    Read,
    /// It may not. True once it would have had to.
    Spared(Cell<bool>),
}

/// What is committed, with what a round has taken so far. Without a round: what is committed at each question.
pub(super) struct Overlay<'a> {
    setup: &'a Setup,
    disk: Disk,
    documents: BTreeMap<String, RoleDocument>,
    /// All of this round, also those that were followed by another.
    new_roots: Vec<Bytes>,
    retired: BTreeSet<String>,
}

impl<'a> Overlay<'a> {
    pub(super) fn new(setup: &'a Setup) -> Self {
        let (documents, new_roots, retired) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        Self { setup, disk: Disk::Read, documents, new_roots, retired }
    }

    /// Without the disk, nor a wait for who writes to it: documents that are not in memory are refused as unavailable, and
    /// [`is_short`](Self::is_short) says so.
    pub(super) fn in_memory(setup: &'a Setup) -> Self {
        Self { disk: Disk::Spared(Cell::new(false)), ..Self::new(setup) }
    }

    /// True if something that was asked for is on the disk alone.
    pub(super) fn is_short(&self) -> bool {
        matches!(&self.disk, Disk::Spared(short) if short.get())
    }

    fn add(&mut self, set: &AcceptedSet) {
        self.add_all(&set.documents);
        self.retired.extend(set.retired.iter().cloned());
    }

    pub(super) fn add_all(&mut self, documents: &[(String, RoleDocument)]) {
        for (role, document) in documents {
            let before = self.digest(role);
            match document {
                RoleDocument::Root(root) => {
                    self.new_roots.push(document.bytes());
                    self.setup.parsed.keep(root);
                }
                // It will be asked for when the next version comes.
                RoleDocument::Targets(targets) => {
                    before.iter().for_each(|before| self.setup.parsed.drop::<Targets>(before));
                    self.setup.parsed.keep(targets);
                }
            }
            self.documents.insert(role.clone(), document.clone());
        }
    }

    /// Every root, from version 1 on.
    fn roots(&self) -> Result<Vec<Bytes>, RoundError> {
        let held = self.setup.committed.head().roles.get("root").map_or(0, |root| root.version);
        let missing = |version| RoundError::Missing { role: "root".to_owned(), version };
        let stored = (1..=held).map(|version| {
            let root = self.setup.store.document(&self.setup.key, "root", version)?;
            root.ok_or_else(|| missing(version))
        });
        stored.chain(self.new_roots.iter().cloned().map(Ok)).collect()
    }

    fn newest_root(&self) -> Result<Arc<Document<Root>>, RoundError> {
        match self.documents.get("root") {
            Some(RoleDocument::Root(root)) => Ok(root.clone()),
            _ => self.setup.newest_root()?.ok_or_else(|| missing("root")),
        }
    }

    fn newest_targets(&self, role: &str) -> Result<Arc<Document<Targets>>, RoundError> {
        match self.documents.get(role) {
            Some(RoleDocument::Targets(targets)) => Ok(targets.clone()),
            _ => self.setup.newest_parsed(role)?.ok_or_else(|| missing(role)),
        }
    }
}

impl Present for Overlay<'_> {
    fn version(&self, role: &str) -> u64 {
        match self.documents.get(role) {
            Some(document) => document.version(),
            None => self.setup.committed.head().roles.get(role).map_or(0, |role| role.version),
        }
    }

    fn document(&self, role: &str) -> Result<Option<Bytes>, Refusal> {
        if let Some(document) = self.documents.get(role) {
            return Ok(Some(document.bytes()));
        }
        if let Disk::Spared(short) = &self.disk {
            short.set(true);
            return Err(unavailable(format!("{role} is not in memory")));
        }
        self.setup.newest(role).map_err(|error| unavailable(error.to_string()))
    }

    fn is_retired(&self, role: &str) -> bool {
        self.retired.contains(role) || self.setup.committed.head().retired.contains(role)
    }

    fn digest(&self, role: &str) -> Option<Digest> {
        match self.documents.get(role) {
            Some(document) => Some(document.verbatim().digest()),
            None => self.setup.committed.head().roles.get(role).map(|role| role.digest),
        }
    }

    fn length(&self, role: &str) -> Option<u64> {
        match self.documents.get(role) {
            Some(document) => Some(document.verbatim().len() as u64),
            None => self.setup.committed.head().roles.get(role).map(|role| role.length),
        }
    }

    fn usage(&self, subtree: &str) -> Usage {
        let head = self.setup.committed.head();
        let mut usage = usage(&head, subtree);
        for (role, document) in within(&self.documents, subtree) {
            let old = head.roles.get(role).map(|role| role.length);
            usage.roles += u64::from(old.is_none());
            let new = document.verbatim().len() as u64;
            usage.bytes = (usage.bytes + new).saturating_sub(old.unwrap_or_default());
        }
        usage
    }

    fn count(&self, prefix: &str) -> usize {
        let head = self.setup.committed.head();
        let stored = head.roles.keys().filter(|role| role.starts_with(prefix)).count();
        let new = self.documents.keys().filter(|role| role.starts_with(prefix));
        stored + new.filter(|role| !head.roles.contains_key(*role)).count()
    }
}

/// The subtrees that publish with a set; none if the owners do, whom no team's haste may hold up.
fn publishes_of(set: &AcceptedSet) -> BTreeSet<String> {
    let roles = || set.documents.iter().map(|(role, _)| role.as_str());
    if roles().any(|role| matches!(role, "root" | "targets")) {
        return BTreeSet::new();
    }
    roles().filter_map(quota::subtree).map(str::to_owned).collect()
}

/// What the subtree `subtree` has in `head`.
fn usage(head: &Head, subtree: &str) -> Usage {
    within(&head.roles, subtree).fold(Usage::default(), |usage, (_, role)| Usage {
        roles: usage.roles + 1,
        bytes: usage.bytes + role.length,
    })
}

/// What `roles`, by name, has of the subtree `subtree`: the role itself and all below it.
fn within<'a, T>(
    roles: &'a BTreeMap<String, T>,
    subtree: &'a str,
) -> impl Iterator<Item = (&'a String, &'a T)> {
    let below = format!("{subtree}--");
    let itself = roles.get_key_value(subtree);
    let below = roles.range(below.clone()..).take_while(move |(role, _)| role.starts_with(&below));
    itself.into_iter().chain(below)
}

/// The key that `root` names for `role`.
pub(super) fn signer<'a>(
    keys: &'a Keyring,
    role: OnlineRole,
    root: &Root,
) -> Result<&'a PrivateKey, RoundError> {
    let named = role.named_by(root).and_then(|id| keys.signer(role, id));
    named.ok_or(RoundError::NoKey { role: role.name(), version: root.common.version })
}

/// True if `document`, which we signed, was signed with the key that `root` names for `role`.
fn is_signed<T>(document: &Document<T>, role: OnlineRole, root: &Root) -> bool {
    role.named_by(root).is_some_and(|id| document.signatures.iter().any(|signature| signature.keyid == *id))
}

pub(super) fn unavailable(message: String) -> Refusal {
    Refusal::new(RefusalCode::Unavailable, message)
}
