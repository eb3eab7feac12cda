//! Everything that a trust repository does, ended at each step: the process dies there, or the step fails and it goes on;
//! before the step had an effect, or after, with its answer lost. Every pair converges.
//!
//! The steps are found by running once without a fault: each call of the store and each request to the registry is one.
//! What an online key rotation does in its folder has tests of its own (`pipeline/tests/rotation.rs` in the library, and the
//! real daemon killed before each change of a file in `tests/e2e/crash.rs`).

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::TimeDelta;
use plimsoll::{
    keys::{Algorithm, PrivateKey, Signer},
    publish::{
        Answer, Inbox, Left,
        api::{Accepted, OnlineKeys, Progress, RefusalCode},
        author,
    },
    registry::{Credentials, Registry, RegistryOptions},
    update::{Bounds, RegistrySource, Session, UpdateError},
};
use plimsoll_core::{
    oci::{Digest, mapping::Profile},
    tuf::{Document, Outcome, Root, Snapshot, Target, Targets, Timestamp, metadata::RoleType},
};
use plimsoll_server::{
    inbox::{self, InboxOptions},
    keys::{self, Keyring},
    pipeline::Engine,
    store::{Store, TrustKey},
};
use tempfile::TempDir;
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use super::{
    around::Surrounded,
    front::LOOKER,
    steps::{FailPoint, Step, Steps, Then, When},
    world::{World, publish, sign},
};

type Documents = BTreeMap<String, Vec<u8>>;

/// Pairs that are tried at a time: most of their time they wait.
const AT_A_TIME: usize = 8;
const PATIENCE: Duration = Duration::from_secs(120);
const NAME: &str = "acme/r0:v1";
const ROLE: &str = "targets--r0";

/// What is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    /// The first root and targets.
    Init,
    /// A team vouches for a name.
    Publish,
    /// A timestamp is due.
    Tick,
    /// A snapshot is due, and a timestamp with it.
    SnapshotTick,
    /// Another owner, who signs targets anew.
    RootRotation,
    /// A root that names the next online keys.
    OnlineKeys,
    /// A digest is taken back.
    Revoke,
    /// As publish, left in the inbox.
    Inbox,
}

impl Action {
    const ALL: [Self; 8] = [
        Self::Init,
        Self::Publish,
        Self::Tick,
        Self::SnapshotTick,
        Self::RootRotation,
        Self::OnlineKeys,
        Self::Revoke,
        Self::Inbox,
    ];
}

/// P1, P6, P7: no pair loses what was acknowledged, gives a version two contents, or leaves a client behind.
#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_everything_may_fail() {
    let (room, mut running) = (Arc::new(Semaphore::new(AT_A_TIME)), JoinSet::new());
    for action in Action::ALL {
        let steps = run(action, None).await.log;
        for point in points(&steps) {
            let room = room.clone();
            running.spawn(async move {
                let _room = room.acquire_owned().await.unwrap();
                let failed = run(action, Some(point.clone())).await.failed;
                (action, point, failed)
            });
        }
    }
    let (mut table, mut missed, mut wrong) = (BTreeMap::<_, [usize; 4]>::new(), 0, Vec::new());
    while let Some(ended) = running.join_next().await {
        // The others are told, too.
        let (action, point, failed) = match ended {
            Ok(ended) => ended,
            Err(panic) => {
                wrong.push(panic.to_string());
                continue;
            }
        };
        let Some(step) = failed else {
            missed += 1;
            continue;
        };
        let column = match (point.then, point.when) {
            (Then::Dies, When::NotPersisted) => 0,
            (Then::Dies, When::Persisted) => 1,
            (Then::GoesOn, When::NotPersisted) => 2,
            (Then::GoesOn, When::Persisted) => 3,
        };
        table.entry((action, step.name)).or_default()[column] += 1;
    }
    tell(&table, missed);
    assert!(wrong.is_empty(), "{} pairs do not converge: {wrong:#?}", wrong.len());
    let all: usize = table.values().flatten().sum();
    // The two tasks and the registry do not take quite the same steps each time.
    assert!(missed * 10 < all, "{missed} fail points were not reached, {all} were");
    for action in Action::ALL {
        for step in ["store: commit", "store: record", "registry: PUT :latest"] {
            let tried = table[&(action, step.to_owned())];
            assert!(tried.iter().all(|count| *count > 0), "{action:?}, {step}: {tried:?}");
        }
    }
}

/// Each way to fail at these steps. A process that dies between two changes leaves the same behind wherever that is, and a
/// step that changes nothing has nothing to persist. Of reads of one kind every fourth fails, in the long run each.
fn points(steps: &[Step]) -> Vec<FailPoint> {
    let (mut points, long) = (Vec::new(), std::env::var_os("PLIMSOLL_KILL_ROUNDS").is_some());
    for (at, step) in steps.iter().enumerate() {
        let nth = steps[..at].iter().filter(|before| *before == step).count();
        let mut fail = |when, then| points.push(FailPoint { step: step.clone(), nth, when, then });
        if step.writes {
            fail(When::NotPersisted, Then::Dies);
            fail(When::Persisted, Then::Dies);
            fail(When::Persisted, Then::GoesOn);
        }
        if step.writes || long || nth % 4 == 0 {
            fail(When::NotPersisted, Then::GoesOn);
        }
    }
    points
}

fn tell(table: &BTreeMap<(Action, String), [usize; 4]>, missed: usize) {
    use std::io::Write;
    let mut text = String::from("aborted at each step, and converged:\n");
    text += "action        step                               dies: not persisted, persisted   goes on: not, persisted\n";
    for ((action, step), [a, b, c, d]) in table {
        text += &format!("{:<13} {step:<34} {a:>19} {b:>11} {c:>14} {d:>9}\n", format!("{action:?}"));
    }
    let sum = |at: usize| table.values().map(|row| row[at]).sum::<usize>();
    let (all, rows) = ((0..4).map(sum).sum::<usize>(), table.len());
    text += &format!(
        "{all} pairs in {rows} rows: dies {} + {}, goes on {} + {}; {missed} not reached\n",
        sum(0),
        sum(1),
        sum(2),
        sum(3)
    );
    // Past the test harness, which shows nothing of a test that succeeds.
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

/// What a run tells.
struct Ran {
    /// Every step of the action.
    log: Vec<Step>,
    /// The step that failed.
    failed: Option<Step>,
}

async fn run(action: Action, point: Option<FailPoint>) -> Ran {
    let what = format!("{action:?}, {point:?}");
    let mut scene = timeout(PATIENCE, Scene::new(action, what.clone())).await.expect(&what);
    timeout(PATIENCE, scene.run(point)).await.unwrap_or_else(|_| {
        panic!("{what}: does not converge after {:?}: {:?}", scene.steps.failed(), scene.engine.health())
    })
}

/// A trust repository with one team, a client that has seen it, and an action that is about to happen.
struct Scene {
    action: Action,
    what: String,
    world: World,
    steps: Steps,
    data: TempDir,
    warm: TempDir,
    pinned: Vec<u8>,
    engine: Engine,
    inbox: Option<JoinHandle<()>>,
    /// What lies in the inbox.
    left: Option<Left>,
    /// What is submitted; nothing for a tick.
    documents: Documents,
    /// The pair that the root to come names.
    next: Option<OnlineKeys>,
    /// The version of the timestamp before.
    before: u64,
}

impl Scene {
    async fn new(action: Action, what: String) -> Self {
        let mut world = World::new().await;
        if action == Action::SnapshotTick {
            // What is there before is good until then.
            world.freshness.timestamp_validity = TimeDelta::days(7);
        }
        let steps = world.front.steps();
        world.store = Arc::new(Surrounded { inner: world.memory.clone(), around: steps.clone() });
        let data = tempfile::tempdir().unwrap();
        let pair = keys::load_or_make(data.path(), "acme").unwrap();
        world.timestamp_pem = pair.signers.timestamp.to_pem_insecure_plain().to_string();
        world.snapshot_pem = pair.signers.snapshot.to_pem_insecure_plain().to_string();
        let engine = world.engine_of(Keyring::open(data.path(), "acme").unwrap()).await;
        let (warm, init) = (tempfile::tempdir().unwrap(), world.init());
        let pinned = init["root"].clone();
        let mut scene = Self {
            action,
            what,
            world,
            steps,
            data,
            warm,
            pinned,
            engine,
            inbox: None,
            left: None,
            documents: init,
            next: None,
            before: 0,
        };
        if action == Action::Init {
            return scene;
        }
        publish(&scene.engine, scene.documents.clone()).await;
        publish(&scene.engine, scene.world.teams(1)).await;
        if action == Action::Revoke {
            publish(&scene.engine, scene.vouch()).await;
        }
        scene.look(scene.warm.path()).await.unwrap();
        scene.before = scene.newest::<Timestamp>("timestamp").common.version;
        scene.documents = match action {
            Action::Init | Action::Tick | Action::SnapshotTick => Documents::new(),
            Action::Publish | Action::Inbox => scene.vouch(),
            Action::Revoke => scene.edit(|role| {
                author::revoke(role, &content(), "a test", scene.world.now());
            }),
            Action::RootRotation => scene.other_owner(),
            Action::OnlineKeys => scene.naming_next(),
        };
        if action == Action::Inbox {
            scene.left = Some(scene.inbox().leave(&scene.documents).await.unwrap());
        }
        scene
    }

    async fn run(&mut self, point: Option<FailPoint>) -> Ran {
        let dies = point.as_ref().is_some_and(|point| point.then == Then::Dies);
        self.steps.arm(point);
        let mut publisher = self.begin();
        if dies {
            tokio::select! {
                () = self.steps.until_failed() => {}
                () = self.is_done() => {}
            }
            if self.steps.failed().is_some() {
                publisher = self.die_and_start_again(publisher).await;
            }
        }
        self.is_done().await;
        let answered = publisher.published().await;
        let log = self.steps.disarm();
        self.has_converged(answered).await;
        self.engine.stop().await;
        if let Some(inbox) = self.inbox.take() {
            inbox.abort();
        }
        Ran { log, failed: self.steps.failed() }
    }

    /// Starts the action.
    fn begin(&mut self) -> Publisher {
        match self.action {
            Action::Tick => self.world.clock.set(self.world.born + TimeDelta::seconds(60)),
            // Not set but reached: its monotonic half goes along.
            Action::SnapshotTick => {
                let then = self.world.born + TimeDelta::days(4);
                self.world.clock.advance(then - self.world.now());
            }
            Action::Inbox => {
                self.inbox = Some(tokio::spawn(inbox::run(InboxOptions {
                    engine: self.engine.clone(),
                    registry: self.world.registry(),
                    repository: self.inbox().repository().clone(),
                    profile: Profile::default(),
                    clock: self.world.clock.clone(),
                    interval: Duration::from_millis(50),
                })));
            }
            _ => return Publisher::submitting(self.engine.clone(), self.documents.clone()),
        }
        Publisher::nobody()
    }

    /// The process is gone; a client looks; another process starts, on the same store, keys and registry.
    async fn die_and_start_again(&mut self, publisher: Publisher) -> Publisher {
        if let Some(inbox) = self.inbox.take() {
            inbox.abort();
            let _ = inbox.await;
        }
        self.engine.stop().await;
        let answers = publisher.stop().await;
        self.steps.disarm();

        // What it leaves behind.
        let seen = self.look(self.warm.path()).await;
        if answers.iter().any(|answer| answer.state == Progress::Published) {
            self.is_as_wanted(seen.unwrap_or_else(|error| panic!("{}: {error:?}", self.what)));
        } else if self.action != Action::Init {
            // There was something before, and there is now.
            seen.unwrap_or_else(|error| panic!("{}: {error:?}", self.what));
        }
        if let Some(left) = &self.left
            && let Some(Answer::Accepted(accepted)) = self.inbox().answer(left).await.unwrap()
        {
            assert!(self.is_stored(&accepted), "{}: {accepted:?} was only said", self.what);
        }

        self.engine = self.world.engine_of(Keyring::open(self.data.path(), "acme").unwrap()).await;
        let Some(answer) = answers.first() else { return self.begin() };
        // Whoever has an answer does not ask again: it comes by itself.
        assert!(self.is_stored(answer), "{}: {answer:?} is lost", self.what);
        Publisher::waiting(self.engine.clone(), answer.clone())
    }

    fn is_stored(&self, answer: &Accepted) -> bool {
        let record = self.world.memory.submission(&trust(), &answer.id).unwrap();
        record.is_some_and(|record| {
            (record.roles, record.timestamp_version) == (answer.documents.clone(), answer.timestamp)
        })
    }

    /// Waits until the engine says that it is all done, in as far as that costs no step.
    async fn is_done(&self) {
        loop {
            let (health, info) = (self.engine.health(), self.engine.info());
            assert_eq!(health.alarm, None, "{}", self.what);
            let newest = info.heads.get("timestamp").copied();
            let keys = self.next.as_ref().is_none_or(|next| info.online == *next && self.key_files() == 2);
            if health.ready
                && health.detail == "fresh"
                && health.published == newest
                && newest > Some(self.before)
                && keys
                && self.is_answered().await
            {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// True unless something was left in the inbox that has no answer yet.
    async fn is_answered(&self) -> bool {
        let Some(left) = &self.left else { return true };
        match self.inbox().answer(left).await.unwrap() {
            None => false,
            Some(Answer::Accepted(_)) => true,
            Some(refused) => panic!("{}: {refused:?}", self.what),
        }
    }

    /// As if nothing had failed.
    async fn has_converged(&self, answered: Option<Accepted>) {
        let (what, head) = (&self.what, self.world.head());
        assert_eq!(self.steps.two_contents(), [""; 0], "{what}");
        for (role, bytes) in &self.documents {
            let version = head.roles[role].version;
            let stored = self.world.memory.document(&trust(), role, version).unwrap().unwrap();
            assert_eq!(stored, *bytes, "{what}: {role} version {version} is the one that was submitted");
        }
        if let Some(answered) = answered {
            assert!(self.is_stored(&answered), "{what}: {answered:?}");
            assert_eq!(answered.documents.len(), self.documents.len(), "{what}");
        }
        let timestamp = self.newest::<Timestamp>("timestamp");
        assert_eq!(timestamp.common.version, self.before + 1, "{what}: no version more than it takes");
        assert_eq!(
            timestamp.common.expires,
            self.world.now() + self.world.freshness.timestamp_validity,
            "{what}"
        );
        let snapshot = self.newest::<Snapshot>("snapshot");
        if self.action == Action::SnapshotTick {
            assert_eq!(
                snapshot.common.expires,
                self.world.now() + self.world.freshness.snapshot_validity,
                "{what}"
            );
        }
        for (file, meta) in &snapshot.meta {
            assert_eq!(head.roles[file.trim_end_matches(".json")].version, meta.version, "{what}: {file}");
        }
        // Who saw what was there before, who sees it for the first time.
        for home in [self.warm.path(), tempfile::tempdir().unwrap().path()] {
            self.is_as_wanted(self.look(home).await.unwrap_or_else(|error| panic!("{what}: {error:?}")));
        }
        // And it goes on.
        if self.action != Action::RootRotation {
            publish(&self.engine, self.world.vouch("acme/later:v1", "later")).await;
            self.look(self.warm.path()).await.unwrap();
        }
    }

    fn is_as_wanted(&self, (root, timestamp, outcome): Seen) {
        let what = &self.what;
        let rotated = matches!(self.action, Action::RootRotation | Action::OnlineKeys);
        assert_eq!(root, if rotated { 2 } else { 1 }, "{what}");
        assert_eq!(timestamp, self.before + 1, "{what}");
        let as_wanted = match (&outcome, self.action) {
            (Outcome::Found(found), Action::Publish | Action::Inbox) => found.path == ["targets", ROLE],
            (Outcome::Absent { revocations, .. }, Action::Revoke) => {
                revocations.iter().any(|(role, revoked)| role == ROLE && revoked.digest == Some(content()))
            }
            (Outcome::Absent { .. }, action) => !matches!(action, Action::Publish | Action::Inbox),
            _ => false,
        };
        assert!(as_wanted, "{what}: {outcome:?}");
    }

    /// What a client with this memory sees.
    async fn look(&self, home: &Path) -> Result<Seen, UpdateError> {
        let source = RegistrySource::new(looker(), self.world.repository());
        let mut session =
            Session::refresh(source, home, &self.pinned, self.world.now(), &Bounds::default()).await?;
        let outcome = session.find(NAME).await.map_err(|unfinished| unfinished.error)?;
        let trusted = session.trusted();
        let timestamp = trusted.timestamp().expect("it was refreshed").signed.common.version;
        Ok((trusted.root().signed.common.version, timestamp, outcome))
    }

    fn inbox(&self) -> Inbox {
        Inbox::new(looker(), &self.world.repository()).unwrap()
    }

    fn key_files(&self) -> usize {
        std::fs::read_dir(self.data.path().join("keys/acme")).unwrap().count()
    }

    fn newest<T: RoleType>(&self, role: &str) -> T {
        let version = self.world.head().roles[role].version;
        let bytes = self.world.memory.document(&trust(), role, version).unwrap().unwrap();
        Document::<T>::parse(role, &bytes).unwrap().signed
    }

    /// The next version of the team's role, changed.
    fn edit(&self, change: impl FnOnce(&mut Targets)) -> Documents {
        let mut role: Targets = self.newest(ROLE);
        author::next_version(ROLE, &mut role, self.world.now());
        change(&mut role);
        [(ROLE.to_owned(), sign(&role, &self.world.team))].into()
    }

    fn vouch(&self) -> Documents {
        let hashes = BTreeMap::from([("sha256".to_owned(), content().hex())]);
        let target = Target { length: 1, hashes, custom: None, extra: BTreeMap::new() };
        self.edit(|role| drop(role.targets.insert(NAME.to_owned(), target)))
    }

    fn next_root(&self, change: impl FnOnce(&mut Root)) -> Root {
        let mut root: Root = self.newest("root");
        root.common.version += 1;
        change(&mut root);
        let used: Vec<_> = root.roles.values().flat_map(|role| role.keyids.clone()).collect();
        root.keys.retain(|id, _| used.contains(id));
        root
    }

    /// Root and targets are another owner's.
    fn other_owner(&self) -> Documents {
        let other = PrivateKey::generate(Algorithm::Ed25519).unwrap();
        let root = self.next_root(|root| {
            root.keys.insert(other.key_id(), other.key().clone());
            for role in ["root", "targets"] {
                root.roles.get_mut(role).unwrap().keyids = vec![other.key_id()];
            }
        });
        let mut targets: Targets = self.newest("targets");
        author::next_version("targets", &mut targets, self.world.now());
        let root = author::sign(&root, &[&self.world.owner, &other]).unwrap();
        [("root".to_owned(), root), ("targets".to_owned(), sign(&targets, &other))].into()
    }

    /// A root that names the next online keys, which are made now.
    fn naming_next(&mut self) -> Documents {
        let next = keys::make_next(self.data.path(), "acme").unwrap().0.next(None).unwrap();
        let root = self.next_root(|root| {
            for (role, key) in [("timestamp", &next.timestamp), ("snapshot", &next.snapshot)] {
                root.keys.insert(key.id(), key.clone());
                root.roles.get_mut(role).unwrap().keyids = vec![key.id()];
            }
        });
        self.next = Some(next);
        [("root".to_owned(), sign(&root, &self.world.owner))].into()
    }
}

/// Versions of root and timestamp, and what was found.
type Seen = (u64, u64, Outcome);

/// Whoever waits for a submission, and what it was answered.
struct Publisher {
    task: JoinHandle<()>,
    answers: Arc<Mutex<Vec<Accepted>>>,
}

impl Publisher {
    fn nobody() -> Self {
        Self { task: tokio::spawn(async {}), answers: Arc::default() }
    }

    /// Submits until it is accepted, and waits until it is published.
    fn submitting(engine: Engine, documents: Documents) -> Self {
        let answers = Arc::<Mutex<Vec<Accepted>>>::default();
        let told = answers.clone();
        let task = tokio::spawn(async move {
            let accepted = loop {
                match engine.submit(documents.clone()).await {
                    Ok(accepted) => break accepted,
                    Err(refusal) => {
                        assert_eq!(refusal.code, RefusalCode::Unavailable, "{}", refusal.message);
                    }
                }
                sleep(Duration::from_millis(10)).await;
            };
            told.lock().unwrap().push(accepted.clone());
            let published = until_published(&engine, &accepted).await;
            told.lock().unwrap().push(published);
        });
        Self { task, answers }
    }

    /// Waits until what was accepted is published.
    fn waiting(engine: Engine, accepted: Accepted) -> Self {
        let answers = Arc::new(Mutex::new(vec![accepted.clone()]));
        let told = answers.clone();
        let task = tokio::spawn(async move {
            let published = until_published(&engine, &accepted).await;
            told.lock().unwrap().push(published);
        });
        Self { task, answers }
    }

    /// Gone, with what it was answered.
    async fn stop(self) -> Vec<Accepted> {
        self.task.abort();
        if let Err(ended) = self.task.await
            && ended.is_panic()
        {
            std::panic::resume_unwind(ended.into_panic());
        }
        self.answers.lock().unwrap().clone()
    }

    /// What it was answered in the end.
    async fn published(self) -> Option<Accepted> {
        self.task.await.unwrap();
        self.answers.lock().unwrap().last().cloned()
    }
}

async fn until_published(engine: &Engine, accepted: &Accepted) -> Accepted {
    loop {
        // A store that does not answer is asked again.
        if let Ok(found) = engine.submission(&accepted.id, Duration::from_secs(20)).await {
            let found = found.expect("what was accepted is known");
            if found.state == Progress::Published {
                return found;
            }
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// A client of the registry whose requests are no steps.
fn looker() -> Registry {
    let credentials = Credentials::anonymous();
    let user_agent = LOOKER.to_owned();
    Registry::new(RegistryOptions { credentials, user_agent, ..RegistryOptions::default() }).unwrap()
}

fn trust() -> TrustKey {
    TrustKey::whole("acme")
}

/// The digest that the team vouches for.
fn content() -> Digest {
    Digest::of(b"content")
}
