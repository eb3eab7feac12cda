//! Asks one root about names: one refresh, then one search for each.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::{Digest, TargetName},
    policy::{Place, Verdict, is_current},
    tuf::{
        self, Document, Found, Key, KeyId, Outcome, PublicKey, Revocation, RoleType, Target, Targets,
        Trusted, Verified,
    },
};
use tokio::time::{Instant, timeout_at};

use super::{LocalFault, Part, RoleReport, RootReport, words};
use crate::{
    floor::FloorFault,
    update::{AnySource, Bounds, Places, Remembered, Session, Source, SourceError, Unfinished, UpdateError},
};

/// A root of the policy, ready to be asked.
#[derive(Debug, Clone)]
pub(super) struct Root {
    /// Its name in the policy.
    pub(super) name: String,
    /// Where its metadata may be had; at least one.
    pub(super) places: Vec<Place>,
    /// The root document, already compared with the policy's sha256.
    pub(super) document: Vec<u8>,
    /// How far it may be stale, and the floor that it is held to.
    pub(super) bounds: Bounds,
}

/// When a verification gives up, and how long it had.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    pub(super) whole: Duration,
}

/// What one root says, and what the answer rests on.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) report: RootReport,
    pub(super) said: Said,
    /// Which role took back what, among the roles asked; of a root that failed, what was seen earlier besides.
    pub(super) revocations: Arc<Vec<(String, Revocation)>>,
    /// Of a root that failed: the whole scope holding the name that a role took back, as seen earlier.
    pub(super) scope_seen: Option<(String, Revocation)>,
    /// The role that decided.
    pub(super) role: Option<Verified<Targets>>,
    /// What a person should look at.
    pub(super) notes: Vec<String>,
    /// The roots that led to this answer, where they carry no trust id; empty if none could be had.
    pub(super) lineage: Arc<BTreeSet<Digest>>,
    /// The keys of the newest root's roles; empty if none could be had.
    pub(super) keys: Arc<BTreeSet<PublicKey>>,
}

/// The root's word on the name.
#[derive(Debug, Clone)]
pub(super) enum Said {
    /// It is signed.
    Signed(Signed),
    /// Freshly proven: nobody who may speak about the name lists it.
    Absent,
    /// A role took back a whole scope that holds the name.
    ScopeRevoked(String, Revocation),
    /// No answer that could be used.
    Failed(Verdict),
}

/// What is signed under the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signed {
    pub(super) digest: Digest,
    /// None where the policy itself lists the digest.
    pub(super) length: Option<u64>,
    pub(super) media_type: Option<String>,
    /// For a digest: some tag of its repository means it now, or an index that it was signed with.
    pub(super) current: bool,
    /// `custom.version`.
    pub(super) version: Option<String>,
    /// When the role that lists it was signed.
    pub(super) at: Option<DateTime<Utc>>,
}

impl Answer {
    /// Who took `digest` back.
    pub(super) fn revokes(&self, digest: &Digest) -> Option<&(String, Revocation)> {
        self.revocations.iter().find(|(_, revocation)| revocation.digest.as_ref() == Some(digest))
    }

    /// Who took back a whole scope that holds the name, now or as seen earlier.
    pub(super) fn revokes_scope(&self) -> Option<(&String, &Revocation)> {
        match &self.said {
            Said::ScopeRevoked(role, revocation) => Some((role, revocation)),
            _ => self.scope_seen.as_ref().map(|(role, revocation)| (role, revocation)),
        }
    }

    /// True if both are of the same trust repository.
    pub(super) fn is_of_the_same(&self, other: &Self) -> bool {
        match (&self.report.trust, &other.report.trust) {
            (Some(one), Some(other)) => one == other,
            _ => !self.lineage.is_disjoint(&other.lineage) || !self.keys.is_disjoint(&other.keys),
        }
    }

    /// True if the answer rests on metadata that is past its expiry, by the policy's leave.
    pub(super) fn is_stale(&self) -> bool {
        self.report.stale_by.is_some()
    }
}

/// Brings the trusted state of `root`, below `base`, up to date and searches for each of `names`. The state is locked
/// while it does, and by nothing that waits for another root.
///
/// # Errors
/// [`LocalFault`]; an untrusted or unavailable root is an answer, and so is a deadline that passed.
pub(super) async fn ask(
    root: Root,
    sources: Vec<AnySource>,
    base: &Path,
    now: DateTime<Utc>,
    names: BTreeSet<TargetName>,
    deadline: Deadline,
) -> Result<BTreeMap<TargetName, Answer>, LocalFault> {
    let places = Places::new(sources);
    let source = places.location();
    let refreshed =
        timeout_at(deadline.at, Session::refresh_places(places, base, &root.document, now, &root.bounds))
            .await;
    let mut failed = match refreshed {
        Ok(Ok(session)) => {
            let mut asking = Asking::new(root.name, session);
            let mut answers = asking.all(names, deadline).await?;
            recall(&mut answers, Some(asking.session.trusted()), base, &root.document, now)?;
            return Ok(answers);
        }
        Ok(Err(error)) => failure(&error).map_err(|()| fault(error))?,
        Err(_) => late(deadline),
    };
    failed.report.name = root.name;
    failed.report.source = source;
    let named = |name: TargetName| {
        let mut answer = failed.clone();
        answer.report.target = name.to_string();
        (name, answer)
    };
    let mut answers = names.into_iter().map(named).collect();
    recall(&mut answers, None, base, &root.document, now)?;
    Ok(answers)
}

/// Adds to the answers that are failures what is remembered: a revocation that was seen holds, though nothing can be had of
/// its root now. `session` is what verified just now, as far as it got.
fn recall(
    answers: &mut BTreeMap<TargetName, Answer>,
    session: Option<&Trusted>,
    base: &Path,
    pinned: &[u8],
    now: DateTime<Utc>,
) -> Result<(), LocalFault> {
    let mut failed: Vec<(String, &mut Answer)> = answers
        .iter_mut()
        .filter(|(_, answer)| matches!(answer.said, Said::Failed(_)))
        .map(|(name, answer)| (name.to_string(), answer))
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    let remembered = match Remembered::of(base, pinned, now) {
        Ok(remembered) => remembered,
        // What is held is not of this root: there is nothing to remember.
        Err(error) if error.verdict().is_some() => return Ok(()),
        Err(error) => return Err(fault(error)),
    };
    let timestamp = remembered.timestamp();
    let held = held_roles(&remembered, timestamp.as_ref());
    let taken_back = remembered.taken_back(session, failed.iter().map(|(name, _)| name.as_str()));
    let mut merge = Merge::default();
    for ((_, answer), seen) in failed.iter_mut().zip(taken_back) {
        answer.revocations = merge.of(&answer.revocations, &seen.digests);
        answer.scope_seen = seen.scope;
        if let (None, Some(timestamp)) = (answer.report.timestamp_expires, &timestamp) {
            dated(&mut answer.report, timestamp, now);
        }
        if answer.report.roles.is_empty() {
            answer.report.trust = remembered.trusted().trust_id().map(str::to_owned);
            answer.report.roles.clone_from(&held);
        }
    }
    Ok(())
}

type Revocations = Arc<Vec<(String, Revocation)>>;

/// Joins what was taken back now and earlier. A list may be long, and mostly it is the same for all names: then it is made
/// once.
#[derive(Default)]
struct Merge {
    last: Option<[Revocations; 3]>,
}

impl Merge {
    fn of(&mut self, now: &Revocations, seen: &Revocations) -> Revocations {
        if now.is_empty() {
            return seen.clone();
        }
        if let Some([last_now, last_seen, merged]) = &self.last
            && Arc::ptr_eq(last_now, now)
            && Arc::ptr_eq(last_seen, seen)
        {
            return merged.clone();
        }
        let known: HashSet<_> = now.iter().map(|(role, revocation)| (role, revocation.digest)).collect();
        let fresh = |(role, revocation): &&(String, Revocation)| !known.contains(&(role, revocation.digest));
        let more: Vec<_> = seen.iter().filter(fresh).cloned().collect();
        let merged = match more.is_empty() {
            true => now.clone(),
            false => Arc::new(now.iter().cloned().chain(more).collect()),
        };
        self.last = Some([now.clone(), seen.clone(), merged.clone()]);
        merged
    }
}

/// The roles above the targets as far as they were verified: before this root failed, or by an earlier run.
fn held_roles(remembered: &Remembered, timestamp: Option<&Document<tuf::Timestamp>>) -> Vec<RoleReport> {
    let root: &Document<tuf::Root> = remembered.trusted().root();
    let snapshot = remembered.snapshot();
    let timestamp = timestamp.and_then(|timestamp| held(&root.signed, "timestamp", timestamp));
    let snapshot = snapshot.and_then(|snapshot| held(&root.signed, "snapshot", &snapshot));
    held(&root.signed, "root", root).into_iter().chain(timestamp).chain(snapshot).collect()
}

/// None if the keys of `root` did not sign it: it was verified under an earlier one.
fn held<T: RoleType>(root: &tuf::Root, role: &str, document: &Document<T>) -> Option<RoleReport> {
    let top = root.roles.get(role)?;
    let keys: BTreeSet<KeyId> = tuf::distinct_signers(document, &root.keys, &top.keyids)
        .iter()
        .map(|public| Key::new(public).id())
        .collect();
    let (version, expires, signed_at) = common(document);
    (keys.len() as u64 >= top.threshold).then(|| RoleReport {
        role: role.to_owned(),
        version,
        keys: keys.into_iter().collect(),
        threshold: top.threshold,
        signed_at,
        expires,
    })
}

/// How old what `timestamp` says is at `now`, and how long it holds.
fn dated(report: &mut RootReport, timestamp: &Document<tuf::Timestamp>, now: DateTime<Utc>) {
    report.timestamp_expires = Some(timestamp.signed.common.expires);
    // A clock behind the signer's makes the age negative; that is no age at all, so it is shown as none passed.
    report.age = signed_at(timestamp).map(|at| u64::try_from((now - at).num_seconds()).unwrap_or(0));
}

/// A session with the root `name`, and what its answers have in common.
struct Asking {
    name: String,
    session: Session<Places<AnySource>>,
    /// By role and version: signatures are verified again to tell whose they are, so once is enough.
    roles: BTreeMap<(String, u64), RoleReport>,
    /// The revocations of the answer before: mostly they are the same.
    revocations: Arc<Vec<(String, Revocation)>>,
}

impl Asking {
    fn new(name: String, session: Session<Places<AnySource>>) -> Self {
        Self { name, session, roles: BTreeMap::new(), revocations: Arc::default() }
    }

    async fn all(
        &mut self,
        names: BTreeSet<TargetName>,
        deadline: Deadline,
    ) -> Result<BTreeMap<TargetName, Answer>, LocalFault> {
        let mut answers = BTreeMap::new();
        let mut in_time = true;
        let lineage = match self.session.trusted().trust_id() {
            Some(_) => Arc::default(),
            None => Arc::new(self.session.lineage()?),
        };
        let keys = Arc::new(self.session.trusted().root().signed.public_keys());
        for name in names {
            // What was cut off in the middle of a search is no basis for another one.
            let found = match in_time {
                true => timeout_at(deadline.at, self.session.find(&name.to_string())).await.ok(),
                false => None,
            };
            in_time = found.is_some();
            let (mut answer, asked) = match found {
                Some(found) => self.answer(&name, found)?,
                None => (late(deadline), Vec::new()),
            };
            answer.report.name.clone_from(&self.name);
            answer.report.target = name.to_string();
            answer.notes.extend(words::notes(&self.name, &self.session));
            self.describe(&mut answer.report, asked);
            (answer.lineage, answer.keys) = (lineage.clone(), keys.clone());
            answers.insert(name, answer);
        }
        Ok(answers)
    }

    /// The answer, and the roles that it rests on besides those of its path.
    fn answer(
        &mut self,
        name: &TargetName,
        found: Result<Outcome, Unfinished>,
    ) -> Result<(Answer, Vec<String>), LocalFault> {
        let mut answer = blank(Verdict::Absent, Said::Absent);
        let mut rests_on = Vec::new();
        match found {
            Err(unfinished) => {
                answer = failure(&unfinished.error).map_err(|()| fault(unfinished.error))?;
                // A role above took it back: that holds, whatever the roles below fail to say.
                answer.revocations = self.shared(unfinished.revocations);
                rests_on = unfinished.asked;
            }
            Ok(Outcome::Revoked { role, revocation }) => {
                answer.report.path = vec![role.clone()];
                answer.report.status = Verdict::Revoked;
                answer.said = Said::ScopeRevoked(role, revocation);
            }
            Ok(Outcome::Absent { revocations, asked }) => {
                answer.revocations = self.shared(revocations);
                rests_on = asked;
            }
            Ok(Outcome::Found(found)) => {
                answer.report.path.clone_from(&found.path);
                match self.signed(name, &found) {
                    Some(signed) => {
                        answer.report.status = Verdict::Verified;
                        answer.report.digest = Some(signed.digest);
                        answer.said = Said::Signed(signed);
                    }
                    None => {
                        answer = Answer {
                            report: answer.report,
                            ..blank(Verdict::Untrusted, Said::Failed(Verdict::Untrusted))
                        };
                        answer.report.status = Verdict::Untrusted;
                        answer.report.error = Some("the entry has no sha256".to_owned());
                    }
                }
                let last = found.path.last().and_then(|last| self.session.trusted().role(last));
                answer.role = last.map(|(_, role)| role.clone());
                answer.revocations = self.shared(found.revocations);
            }
        }
        Ok((answer, rests_on))
    }

    fn signed(&self, name: &TargetName, found: &Found) -> Option<Signed> {
        let trusted = self.session.trusted();
        let digest = found.target.digest()?;
        let current = match name {
            TargetName::Tag { .. } => true,
            TargetName::Digest { repository, .. } => means_now(trusted, found, repository, &digest),
        };
        let (_, role) = trusted.role(found.path.last()?)?;
        Some(Signed {
            digest,
            length: Some(found.target.length),
            media_type: found.target.media_type().map(str::to_owned),
            current,
            version: custom_version(&found.target),
            at: signed_at(role),
        })
    }

    /// The same list in one copy, as far as it is the same as the one before.
    fn shared(&mut self, revocations: Vec<(String, Revocation)>) -> Arc<Vec<(String, Revocation)>> {
        if *self.revocations != revocations {
            self.revocations = Arc::new(revocations);
        }
        self.revocations.clone()
    }

    /// Fills in what does not depend on the name, and the roles on the path and besides.
    fn describe(&mut self, report: &mut RootReport, besides: Vec<String>) {
        let trusted = self.session.trusted();
        report.trust = trusted.trust_id().map(str::to_owned);
        report.source = self.session.location();
        report.fetched_at = Some(trusted.now());
        report.stale_by = trusted.stale_by().map(|by| u64::try_from(by.num_seconds()).unwrap_or(0));
        if let Some(timestamp) = trusted.timestamp() {
            dated(report, timestamp, trusted.now());
        }
        let top = ["root", "timestamp", "snapshot"].map(str::to_owned);
        let below = report.path.iter().cloned().chain(besides);
        report.roles = top.into_iter().chain(below).filter_map(|role| self.role(&role)).collect();
        let last = report.path.last().and_then(|last| report.roles.iter().find(|role| role.role == *last));
        report.signed_at = last.and_then(|last| last.signed_at);
    }

    fn role(&mut self, role: &str) -> Option<RoleReport> {
        let trusted = self.session.trusted();
        let (version, expires, at) = match role {
            "root" => common(trusted.root()),
            "timestamp" => common(trusted.timestamp()?),
            "snapshot" => common(trusted.snapshot()?),
            _ => common(trusted.role(role)?.1),
        };
        let key = (role.to_owned(), version);
        if !self.roles.contains_key(&key) {
            let signers = trusted.signers(role)?;
            let report = RoleReport {
                role: role.to_owned(),
                version,
                keys: signers.keys.into_iter().collect(),
                threshold: signers.threshold,
                signed_at: at,
                expires,
            };
            self.roles.insert(key.clone(), report);
        }
        self.roles.get(&key).cloned()
    }
}

fn common<T: RoleType>(document: &Document<T>) -> (u64, DateTime<Utc>, Option<DateTime<Utc>>) {
    let common = document.signed.common();
    (common.version, common.expires, signed_at(document))
}

fn signed_at<T: RoleType>(document: &Document<T>) -> Option<DateTime<Utc>> {
    document.signed.common().identity.as_ref().map(|identity| identity.at)
}

fn custom_version(target: &Target) -> Option<String> {
    target.custom.as_ref()?.get("version")?.as_str().map(str::to_owned)
}

/// True if the role at the end of `found`'s path means `digest` now.
fn means_now(trusted: &Trusted, found: &Found, repository: &str, digest: &Digest) -> bool {
    let Some((_, role)) = found.path.last().and_then(|role| trusted.role(role)) else { return false };
    is_current(&role.signed, repository, digest, |index| found.revocation(index).is_some())
}

/// The answer of a root that failed with `error`.
fn failure(error: &UpdateError) -> Result<Answer, ()> {
    let verdict = error.verdict().ok_or(())?;
    let mut answer = blank(verdict, Said::Failed(verdict));
    answer.report.error = Some(words::chain(error));
    answer.report.unpublished = matches!(error, UpdateError::Tuf(tuf::Error::NotInSnapshot { .. }));
    Ok(answer)
}

/// The answer of a root that there was no time for.
fn late(deadline: Deadline) -> Answer {
    let mut answer = blank(Verdict::Unreachable, Said::Failed(Verdict::Unreachable));
    answer.report.error = Some(words::late(deadline.whole));
    answer
}

/// An error without a verdict.
fn fault(error: UpdateError) -> LocalFault {
    match error {
        UpdateError::State(error) => error.into(),
        UpdateError::Source(SourceError::Registry(error)) => LocalFault::Registry(error),
        UpdateError::OtherFloor { floor, root } => FloorFault::Other { floor, root }.into(),
        error => unreachable!("every other error has a verdict: {error}"),
    }
}

fn blank(status: Verdict, said: Said) -> Answer {
    let report = RootReport {
        name: String::new(),
        part: Part::Required,
        status,
        vouches: false,
        trust: None,
        source: String::new(),
        target: String::new(),
        digest: None,
        path: Vec::new(),
        roles: Vec::new(),
        signed_at: None,
        timestamp_expires: None,
        fetched_at: None,
        age: None,
        stale_by: None,
        error: None,
        unpublished: false,
    };
    Answer {
        report,
        said,
        revocations: Arc::default(),
        scope_seen: None,
        role: None,
        notes: Vec::new(),
        lineage: Arc::default(),
        keys: Arc::default(),
    }
}
