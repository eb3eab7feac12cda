//! Many references at once: every root is asked once, every tag once, and one deadline holds for all.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core::{
    oci::{Reference, RepositoryAddress, Tag, TargetName},
    policy::{Place, Policy, Require, Rule, ScopeEntry, Verdict, Vouch},
};
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, timeout_at},
};

use super::{
    Context, Judged, LocalFault, Mode, Part, Verification,
    ask::{Answer, Deadline, Root, ask},
    decide::{Case, Presented, decide, wants_fallback, wants_registry},
    latest, target_name,
    words::{self, chain},
};
use crate::{
    floor,
    registry::Registry,
    trust,
    update::{AnySource, Bounds, key_of, registry_verdict},
};

/// The longest time to wait.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// How many references are verified together, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// At most so many requests for tags run at a time; at least 1. Default: 16.
    pub parallel: usize,
    /// For everything together. What has no answer by then is UNREACHABLE. Default: 60 s.
    pub deadline: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { parallel: 16, deadline: Duration::from_secs(60) }
    }
}

/// Decides on each of `references`, in their order.
///
/// Network: each root that any of them needs is brought up to date once (once for each `max-staleness` that the policy
/// has for it), roots side by side; each tag that is signed is asked for once in [`Mode::Verify`]. All of it is judged at
/// one time, that of the start. Trusted state on disk moves forward, never back; no lock is held while waiting for
/// anything but its own root.
///
/// A reference that fails, for whatever reason, has its own verdict and changes no other one; so a fault of this machine
/// with one host, or with what is remembered of one root, ends those that need it, and no other one. What another root took
/// back is REVOKED even then, with the fault as a warning.
///
/// # Errors
/// [`LocalFault`] in the pinned roots and floors, before anybody is asked.
pub async fn verify_all(
    ctx: &Context,
    references: &[Reference],
    mode: Mode,
    options: &Options,
) -> Result<Vec<Judged>, LocalFault> {
    // A clock of this machine ends some time; nobody waits for that.
    let at = Instant::now() + options.deadline.min(LONGEST);
    let deadline = Deadline { at, whole: options.deadline };
    let now = ctx.clock.now();
    let mut questions: Vec<Question<'_>> =
        references.iter().map(|reference| Question::new(&ctx.policy, reference)).collect();
    // Every pinned root is read before anybody is asked: a local fault costs no request and changes nothing.
    let asking = Asking { ctx, now, deadline, roots: roots(ctx, &questions)? };

    let mut wanted = Wanted::new();
    for question in &questions {
        question.each_root(required, &mut wanted);
        // What these take back holds, whether the fallback is needed or not.
        question.each_root(beside, &mut wanted);
    }
    // A root that is asked anyway is asked for the names it is a fallback of, too: it is asked once.
    let mut besides = Wanted::new();
    for question in &questions {
        question.each_root(instead, &mut besides);
    }
    for (key, names) in &mut wanted {
        names.extend(besides.remove(key).unwrap_or_default());
    }

    let mut known = Known::new();
    let mut tags = Tags::new(&ctx.registry, options.parallel.max(1), deadline);
    for question in questions.iter_mut().filter(|question| question.vouch().is_none()) {
        question.settle(&mut tags, now, mode);
    }
    asking
        .ask(wanted, &mut known, &mut tags, |known, tags| {
            for question in questions.iter_mut().filter(|question| !question.settled) {
                let heard = question.answers(required, known).zip(question.answers(beside, known));
                let Some((required, beside)) = heard else { continue };
                (question.answers, question.beside) = (required.answers, beside.answers);
                question.fault = required.fault.or(beside.fault);
                // Without waiting for roots that it does not need.
                if question.fault.is_some() || !question.wants_fallback() {
                    question.settle(tags, now, mode);
                }
            }
        })
        .await;

    let mut wanted = Wanted::new();
    for question in questions.iter().filter(|question| !question.settled) {
        question.each_root(instead, &mut wanted);
    }
    wanted.retain(|key, _| !known.contains_key(key));
    asking.ask(wanted, &mut known, &mut tags, |_, _| {}).await;
    for question in questions.iter_mut().filter(|question| !question.settled) {
        if let Some(heard) = question.answers(instead, &known) {
            (question.fallback, question.fault) = (Some(heard.answers), heard.fault);
        }
        question.settle(&mut tags, now, mode);
    }
    drop(known);

    while tags.is_busy() {
        tags.step().await;
    }
    for question in &mut questions {
        match question.tag.as_ref().map(|address| tags.known[address].clone()) {
            Some(Ok(told)) if question.reference.digest.is_some() => question.beside_digest = told,
            // What is judged is the digest that is written there.
            Some(Err(fault)) if question.reference.digest.is_some() => {
                question.beside_digest =
                    Presented::Failed { verdict: Verdict::Unreachable, why: chain(&*fault) };
            }
            Some(Ok(presented)) => question.presented = presented,
            Some(Err(fault)) => {
                question.fault.get_or_insert(fault);
            }
            None => {}
        }
    }
    Ok(questions.into_iter().map(|question| question.verdict(now)).collect())
}

/// A root, and how stale its view may be.
type Key = (String, Option<TimeDelta>);
/// The names to ask each root for.
type Wanted = BTreeMap<Key, BTreeSet<TargetName>>;
/// What each root said of each name, or why it could not be asked from here.
type Known = BTreeMap<Key, Result<BTreeMap<TargetName, Answer>, Arc<LocalFault>>>;
/// A tag at the registry.
type Address = (RepositoryAddress, Tag);

/// Which roots of a scope.
type Which = for<'a> fn(&'a Vouch) -> Vec<&'a String>;

fn required(vouch: &Vouch) -> Vec<&String> {
    vouch.require.roots().iter().collect()
}

fn instead(vouch: &Vouch) -> Vec<&String> {
    vouch.fallback.iter().flat_map(Require::roots).collect()
}

/// Those that stand only in the fallback, and have a veto.
fn beside(vouch: &Vouch) -> Vec<&String> {
    let only = |root: &&String| vouch.veto.contains(*root) && !vouch.require.roots().contains(*root);
    instead(vouch).into_iter().filter(only).collect()
}

/// What some of the roots of a scope said.
struct Heard {
    answers: Vec<Answer>,
    /// Why one of them could not be asked from here: of what is left, only what was taken back holds.
    fault: Option<Arc<LocalFault>>,
}

/// A reference on its way to its verdict.
struct Question<'a> {
    reference: Reference,
    identity: Reference,
    name: TargetName,
    /// Without one the verdict is there.
    scope: Result<&'a ScopeEntry, Box<Verification>>,
    answers: Vec<Answer>,
    beside: Vec<Answer>,
    fallback: Option<Vec<Answer>>,
    presented: Presented,
    /// What the registry says of a tag beside a digest.
    beside_digest: Presented,
    /// All the roots it needs were heard, or cannot be.
    settled: bool,
    /// What keeps it from being judged, unless it was taken back.
    fault: Option<Arc<LocalFault>>,
    /// The tag that the registry is asked for.
    tag: Option<Address>,
}

impl<'a> Question<'a> {
    fn new(policy: &'a Policy, reference: &Reference) -> Self {
        let mut reference = reference.clone();
        if reference.tag.is_none() && reference.digest.is_none() {
            reference.tag = Some(latest());
        }
        let exchanged = policy.identity(&reference.repository);
        let repository = exchanged.clone().unwrap_or_else(|| reference.repository.clone());
        let identity = Reference { repository, ..reference.clone() };
        let name = target_name(&identity);
        let selected = exchanged.and_then(|repository| policy.select(&repository.host, &name));
        let scope = match selected {
            None => Err(words::no_policy(&reference, &identity, &name)),
            Some(scope) => {
                match scope.roots().into_iter().find(|root| scope.name_in(root, &name).is_none()) {
                    Some(root) => Err(words::no_name(&reference, &identity, &name, &scope.pattern, root)),
                    None => Ok(scope),
                }
            }
        };
        let presented = reference.digest.map_or(Presented::Unasked, Presented::Written);
        let scope = scope.map_err(Box::new);
        Self {
            reference,
            identity,
            name,
            scope,
            answers: Vec::new(),
            beside: Vec::new(),
            fallback: None,
            presented,
            beside_digest: Presented::Unasked,
            settled: false,
            fault: None,
            tag: None,
        }
    }

    fn vouch(&self) -> Option<(&'a ScopeEntry, &'a Vouch)> {
        match self.scope.as_ref().ok()? {
            scope @ ScopeEntry { rule: Rule::Vouch(vouch), .. } => Some((scope, vouch)),
            _ => None,
        }
    }

    /// Adds what the roots `which` of the scope are to be asked for.
    fn each_root(&self, which: Which, wanted: &mut Wanted) {
        let Some((scope, vouch)) = self.vouch() else { return };
        for root in which(vouch) {
            wanted.entry((root.clone(), vouch.max_staleness)).or_default().insert(self.name_in(scope, root));
        }
    }

    /// What the roots `which` of the scope said; none if they were not asked yet.
    fn answers(&self, which: Which, known: &Known) -> Option<Heard> {
        let (scope, vouch) = self.vouch()?;
        let mut fault = None;
        let mut answers = Vec::new();
        for root in which(vouch) {
            let said = match known.get(&(root.clone(), vouch.max_staleness))? {
                Ok(said) => said,
                Err(why) => {
                    fault.get_or_insert(why.clone());
                    continue;
                }
            };
            let mut answer = said.get(&self.name_in(scope, root))?.clone();
            if vouch.optional.contains(root) {
                answer.report.part = Part::Optional;
            }
            let twice = answers.iter().find(|other: &&Answer| answer.is_of_the_same(other));
            if let Some(other) = twice.map(|other| other.report.name.clone()) {
                let (scope, root) = (scope.pattern.clone(), root.clone());
                let fault = Some(Arc::new(LocalFault::SameRepository { scope, root, other }));
                return Some(Heard { answers: Vec::new(), fault });
            }
            answers.push(answer);
        }
        Some(Heard { answers, fault })
    }

    fn name_in(&self, scope: &ScopeEntry, root: &str) -> TargetName {
        scope.name_in(root, &self.name).expect("a name that a root cannot hold has its verdict already")
    }

    fn wants_fallback(&self) -> bool {
        self.vouch().is_some_and(|(_, vouch)| wants_fallback(vouch, &self.answers))
    }

    /// All the roots it needs were heard: what is left is the registry's word, if that matters.
    fn settle(&mut self, tags: &mut Tags, now: DateTime<Utc>, mode: Mode) {
        self.settled = true;
        self.tag = self.wanted_tag(now, mode);
        if let Some(address) = &self.tag {
            tags.want(address);
        }
    }

    /// The tag that the registry is to be asked for, if its word can change the verdict or tells of drift.
    fn wanted_tag(&self, now: DateTime<Utc>, mode: Mode) -> Option<Address> {
        let case = self.case(self.scope.as_ref().ok()?, now);
        let tag = self.reference.tag.clone().filter(|_| wants_registry(&case, mode == Mode::Verify))?;
        Some((self.reference.repository.clone(), tag))
    }

    fn case<'b>(&'b self, scope: &'b ScopeEntry, now: DateTime<Utc>) -> Case<'b> {
        Case {
            reference: &self.reference,
            identity: &self.identity,
            name: &self.name,
            scope,
            answers: &self.answers,
            beside: &self.beside,
            fallback: self.fallback.as_deref(),
            presented: &self.presented,
            beside_digest: &self.beside_digest,
            now,
        }
    }

    fn verdict(self, now: DateTime<Utc>) -> Judged {
        match (&self.fault, &self.scope) {
            // By a policy that cannot be used there is no verdict at all.
            (Some(fault), _) if matches!(**fault, LocalFault::SameRepository { .. }) => Err(fault.clone()),
            (Some(fault), Ok(scope)) => match decide(&self.case(scope, now)) {
                // That holds, whatever else could not be found out.
                mut revoked @ Verification { verdict: Verdict::Revoked, .. } => {
                    revoked.warnings.push(chain(&**fault));
                    Ok(revoked)
                }
                _ => Err(fault.clone()),
            },
            (Some(fault), Err(_)) => Err(fault.clone()),
            (None, Ok(scope)) => Ok(decide(&self.case(scope, now))),
            (None, Err(verification)) => Ok((**verification).clone()),
        }
    }
}

/// The roots that any of the questions may need, by name.
fn roots(ctx: &Context, questions: &[Question<'_>]) -> Result<BTreeMap<String, Root>, LocalFault> {
    let mut roots = BTreeMap::new();
    for root in questions.iter().filter_map(Question::vouch).flat_map(|(_, vouch)| vouch.roots()) {
        if roots.contains_key(root) {
            continue;
        }
        let entry = &ctx.policy.root[root];
        let document = trust::load_root(&ctx.home, entry)?;
        let mut floors = floor::of_root(&ctx.floors, &document);
        if let Some(path) = &entry.floor {
            floors.push(floor::read(&beside_policy(ctx, path))?);
        }
        let (name, places) = (root.to_owned(), entry.places.clone());
        let bounds = Bounds { floors, ..Bounds::default() };
        roots.insert(root.to_owned(), Root { name, places, document, bounds });
    }
    Ok(roots)
}

/// A path of the policy: a relative one starts at its folder.
fn beside_policy(ctx: &Context, path: &Path) -> PathBuf {
    ctx.home.policy().parent().unwrap_or(Path::new("")).join(path)
}

fn source(ctx: &Context, root: &Root, place: &Place) -> AnySource {
    let policy = ctx.home.policy();
    let beside = policy.parent().unwrap_or(Path::new(""));
    AnySource::new(ctx.registry.clone(), place, beside, &root.document)
}

/// Who is asked, when, and for how long.
struct Asking<'a> {
    ctx: &'a Context,
    now: DateTime<Utc>,
    deadline: Deadline,
    roots: BTreeMap<String, Root>,
}

impl Asking<'_> {
    /// Asks each root for its names, side by side, while `tags` go on; what they say is added to `known`, and `heard` is
    /// called each time. Roots that share a folder of trusted state, which one of them locks, are asked one after the
    /// other.
    async fn ask(
        &self,
        wanted: Wanted,
        known: &mut Known,
        tags: &mut Tags,
        mut heard: impl FnMut(&Known, &mut Tags),
    ) {
        let base = self.ctx.home.state();
        let mut folders: BTreeMap<PathBuf, Vec<(Key, BTreeSet<TargetName>)>> = BTreeMap::new();
        for (key, names) in wanted {
            // What is no root document fails by itself, without a folder.
            let folder = key_of(&self.roots[&key.0].document).map(|key| key.folder(&base));
            folders.entry(folder.unwrap_or_else(|_| key.0.clone().into())).or_default().push((key, names));
        }
        let mut running = JoinSet::new();
        for questions in folders.into_values() {
            let (base, now, deadline) = (base.clone(), self.now, self.deadline);
            let questions: Vec<_> = questions
                .into_iter()
                .map(|(key, names)| {
                    let mut root = self.roots[&key.0].clone();
                    root.bounds.max_staleness = key.1;
                    let sources = root.places.iter().map(|place| source(self.ctx, &root, place)).collect();
                    (key, root, sources, names)
                })
                .collect();
            running.spawn(async move {
                let mut known = Vec::new();
                for (key, root, sources, names) in questions {
                    known
                        .push((key, ask(root, sources, &base, now, names, deadline).await.map_err(Arc::new)));
                }
                known
            });
        }
        loop {
            tokio::select! {
                done = running.join_next() => {
                    let Some(done) = done else { return };
                    known.extend(finished(done));
                    heard(known, tags);
                }
                () = tags.step(), if tags.is_busy() => {}
            }
        }
    }
}

/// What a task of ours returned; its panic is ours.
fn finished<T>(done: Result<T, JoinError>) -> T {
    match done.map_err(JoinError::try_into_panic) {
        Ok(value) => value,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(error)) => unreachable!("nobody cancels what is awaited: {error}"),
    }
}

/// What the registry's tags point to now, each asked for once.
struct Tags {
    registry: Registry,
    /// At most so many requests at a time.
    parallel: usize,
    deadline: Deadline,
    left: Vec<Address>,
    running: JoinSet<(Result<Presented, LocalFault>, Address)>,
    /// Of those that did not answer yet, that there was no time left.
    known: BTreeMap<Address, Result<Presented, Arc<LocalFault>>>,
}

impl Tags {
    fn new(registry: &Registry, parallel: usize, deadline: Deadline) -> Self {
        let (left, running) = (Vec::new(), JoinSet::new());
        Self { registry: registry.clone(), parallel, deadline, left, running, known: BTreeMap::new() }
    }

    fn want(&mut self, address: &Address) {
        if !self.known.contains_key(address) {
            let why = words::late(self.deadline.whole);
            self.known.insert(address.clone(), Ok(Presented::Failed { verdict: Verdict::Unreachable, why }));
            self.left.push(address.clone());
        }
    }

    fn is_busy(&self) -> bool {
        !self.left.is_empty() || !self.running.is_empty()
    }

    /// Sends what may be sent and waits for one answer, or the deadline. Nothing is lost if it is given up.
    async fn step(&mut self) {
        while self.running.len() < self.parallel
            && let Some(address) = self.left.pop()
        {
            let registry = self.registry.clone();
            self.running.spawn(async move { (head(&registry, &address).await, address) });
        }
        match timeout_at(self.deadline.at, self.running.join_next()).await {
            Ok(None) => {}
            Ok(Some(done)) => {
                let (presented, address) = finished(done);
                self.known.insert(address, presented.map_err(Arc::new));
            }
            Err(_) => {
                self.left.clear();
                self.running = JoinSet::new();
            }
        }
    }
}

async fn head(registry: &Registry, (repository, tag): &Address) -> Result<Presented, LocalFault> {
    match registry.head_manifest(repository, tag.as_str()).await {
        Ok(Some(descriptor)) => Ok(Presented::Tag(descriptor.digest)),
        Ok(None) => Ok(Presented::NoSuchTag),
        Err(error) => match registry_verdict(&error) {
            Some(verdict) => Ok(Presented::Failed { verdict, why: chain(&error) }),
            None => Err(LocalFault::Registry(error)),
        },
    }
}
