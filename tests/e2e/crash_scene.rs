//! A real daemon in front of Debian's docker-registry, teams that publish without end, and readers that forget nothing.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::PathBuf,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use plimsoll::{
    clock::{Clock, SystemClock},
    keys::{Algorithm, PrivateKey, Signer},
    publish::{
        api::{Accepted, Progress, Submission, TrustInfo},
        author,
    },
    registry::{Registry as Client, RegistryOptions},
    update::{Bounds, RegistrySource, Session, UpdateError},
};
use plimsoll_core::{
    oci::{
        Digest, Manifest,
        mapping::{FILENAME, Listed, Listing, role_tag},
        media_type,
    },
    policy::Verdict,
    tuf::{Document, Outcome, Snapshot, Target, Timestamp, metadata::RoleType},
};
use plimsoll_tests::{docker_registry::Registry, http, process::Daemon};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::stage::config;

const TRUST: &str = "0123456789abcdef0123456789abcdef";

/// How many kills: `PLIMSOLL_KILL_ROUNDS`, or `default`.
pub(crate) fn rounds(default: u64) -> u64 {
    number("PLIMSOLL_KILL_ROUNDS").unwrap_or(default)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// Writes a line past the test harness, which shows nothing of a test that succeeds.
pub(crate) fn tell(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// The moments of the kills, the same for the same `PLIMSOLL_KILL_SEED` (1 unless set).
pub(crate) struct Dice {
    pub(crate) seed: u64,
    state: u64,
}

impl Dice {
    pub(crate) fn new() -> Self {
        let seed = number("PLIMSOLL_KILL_SEED").unwrap_or(1);
        Self { seed, state: seed }
    }

    /// From 0 to `below`, without it.
    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    pub(crate) fn pause(&mut self, below_ms: u64) -> Duration {
        Duration::from_micros(self.roll(below_ms * 1000))
    }
}

/// What must never happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// What was acknowledged is not there.
    Lost,
    /// A version after a higher one.
    WentBack,
    /// A version with two contents.
    TwoContents,
    /// A panic in the daemon's log, a refusal that nobody deserved, a client that does not find.
    Other,
}

/// Everything that was ever seen, by everybody who looks, and what was wrong with it.
#[derive(Default)]
pub(crate) struct Watch {
    /// Role and version, and the content's digest.
    seen: Mutex<BTreeMap<(String, u64), Digest>>,
    wrong: Mutex<Vec<(Wrong, String)>>,
}

impl Watch {
    pub(crate) fn wrong(&self, what: Wrong, text: String) {
        tell(&format!("WRONG: {what:?}: {text}"));
        self.wrong.lock().unwrap().push((what, text));
    }

    /// How often something was wrong in this way.
    pub(crate) fn count(&self, what: Wrong) -> usize {
        self.wrong.lock().unwrap().iter().filter(|(found, _)| *found == what).count()
    }

    /// How many versions of roles were seen.
    pub(crate) fn versions(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    #[track_caller]
    pub(crate) fn assert_nothing_was_wrong(&self) {
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    fn note(&self, role: &str, version: u64, digest: Digest) {
        let known = *self.seen.lock().unwrap().entry((role.to_owned(), version)).or_insert(digest);
        if known != digest {
            self.wrong(Wrong::TwoContents, format!("{role} version {version}: {known} and {digest}"));
        }
    }

    fn knows(&self, role: &str, version: u64) -> bool {
        self.seen.lock().unwrap().contains_key(&(role.to_owned(), version))
    }

    /// What the daemon said must not tell of a panic.
    pub(crate) fn hear(&self, said: &str) {
        if let Some(line) = said.lines().find(|line| line.contains("panicked")) {
            self.wrong(Wrong::Other, format!("the daemon: {line}\n{said}"));
        }
    }
}

/// One reader's view of one place: versions there only grow.
struct Face<'a> {
    place: &'static str,
    watch: &'a Watch,
    newest: BTreeMap<String, u64>,
}

impl<'a> Face<'a> {
    fn new(place: &'static str, watch: &'a Watch) -> Self {
        Self { place, watch, newest: BTreeMap::new() }
    }

    fn shows(&mut self, role: &str, version: u64, digest: Digest) {
        self.watch.note(role, version, digest);
        let newest = self.newest.entry(role.to_owned()).or_insert(version);
        if version < *newest {
            let text = format!("{} shows {role} version {version} after {newest}", self.place);
            self.watch.wrong(Wrong::WentBack, text);
        }
        *newest = version.max(*newest);
    }
}

/// The registry, the daemon's home, and the keys of everybody.
pub(crate) struct Scene {
    pub(crate) registry: Registry,
    pub(crate) home: TempDir,
    pub(crate) config: String,
    /// The daemon's, the same after each start.
    pub(crate) url: String,
    pub(crate) owner: PrivateKey,
    pub(crate) teams: Vec<PrivateKey>,
    pub(crate) first_root: Vec<u8>,
    pub(crate) watch: Watch,
    pub(crate) acknowledged: Mutex<Vec<Acknowledged>>,
    pub(crate) over: AtomicBool,
    /// How often the registry answered 500 to a reader.
    pub(crate) disturbed: AtomicUsize,
}

/// A publish that was answered.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    pub(crate) role: String,
    pub(crate) version: u64,
    pub(crate) digest: Digest,
    /// Answered as published, not only as accepted.
    pub(crate) published: bool,
}

/// Ends all threads of a scene, also when the one that holds it panics.
pub(crate) struct End<'a>(pub(crate) &'a Scene);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

impl Scene {
    /// The trust repository `acme/**`, published, with a delegated role for each of `teams`.
    pub(crate) fn new(teams: usize, freshness: &str) -> (Self, Daemon) {
        let registry = Registry::open();
        let home = tempfile::tempdir().unwrap();
        let trust = format!("{}/acme/trust", registry.address());
        let daemon = Daemon::start(home.path(), &config("127.0.0.1:0", Some(&trust), freshness));
        let config = config(&daemon.address(), Some(&trust), freshness);
        fs::write(home.path().join("plimsolld.toml"), &config).unwrap();
        let key = || PrivateKey::generate(Algorithm::Ed25519).unwrap();
        let mut scene = Self {
            registry,
            home,
            config,
            url: daemon.url(),
            owner: key(),
            teams: (0..teams).map(|_| key()).collect(),
            first_root: Vec::new(),
            watch: Watch::default(),
            acknowledged: Mutex::default(),
            over: AtomicBool::new(false),
            disturbed: AtomicUsize::new(0),
        };
        scene.establish();
        (scene, daemon)
    }

    fn establish(&mut self) {
        let online = self.info().unwrap().online;
        let (scope, owner) = ("acme/**".parse().unwrap(), self.owner.key().clone());
        let root = author::first_root(TRUST, &[scope], &[owner], 1, &online, now());
        self.first_root = author::sign(&root, &[&self.owner]).unwrap();
        let mut targets = author::empty_targets("targets", TRUST, now());
        let first = author::sign(&targets, &[&self.owner]).unwrap();
        self.publish(&[("root".to_owned(), self.first_root.clone()), ("targets".to_owned(), first)].into());

        let mut set = BTreeMap::new();
        author::next_version("targets", &mut targets, now());
        for (at, key) in self.teams.iter().enumerate() {
            let (role, scope) = (role(at), format!("acme/p{at:02}").parse().unwrap());
            let allowed = ["acme/*".to_owned()];
            let keys = [key.public().clone()];
            author::delegate(&mut targets, ("targets", &allowed), &role, &scope, &keys, 1).unwrap();
            let first = author::empty_targets(&role, TRUST, now());
            set.insert(role, author::sign(&first, &[key]).unwrap());
        }
        set.insert("targets".to_owned(), author::sign(&targets, &[&self.owner]).unwrap());
        self.publish(&set);
    }

    pub(crate) fn start(&self) -> Daemon {
        Daemon::start(self.home.path(), &self.config)
    }

    /// A daemon that lives for `life` and is then killed, ready or not.
    pub(crate) fn start_for(&self, life: Duration) {
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", &life.as_secs_f64().to_string()]);
        command.arg(plimsoll_tests::process::binary("plimsolld")).args(["serve", "--config"]);
        command.arg(self.home.path().join("plimsolld.toml")).current_dir(self.home.path());
        let run = plimsoll_tests::process::run(&mut command, b"");
        self.watch.hear(&format!("{}{}", run.stdout, run.stderr));
    }

    /// What the daemon says of the trust repository; none if it does not answer.
    pub(crate) fn info(&self) -> Option<TrustInfo> {
        let answer = http::get(&format!("{}/v1/trusts/acme", self.url)).ok()?;
        serde_json::from_slice(&answer.body).ok()
    }

    /// Sends `documents` once. None if no whole answer came, or if the daemon cannot take them now.
    pub(crate) fn submit(&self, documents: &BTreeMap<String, Vec<u8>>) -> Option<Accepted> {
        let url = format!("{}/v1/trusts/acme/submissions", self.url);
        let answer = http::request("POST", &url, &[], &Submission::json(documents)).ok()?;
        match answer.status {
            202 => serde_json::from_slice(&answer.body).ok(),
            429 | 500.. => None,
            status => {
                // Nobody else signs for this role, and the daemon has all that came before.
                let text = format!("{:?} refused: {status} {}", documents.keys(), answer.text());
                self.watch.wrong(Wrong::Lost, text);
                None
            }
        }
    }

    /// Sends `documents` again and again until they are taken; none if it is all over before.
    pub(crate) fn insist(&self, documents: &BTreeMap<String, Vec<u8>>) -> Option<Accepted> {
        while !self.over.load(Ordering::Relaxed) {
            if let Some(accepted) = self.submit(documents) {
                return Some(accepted);
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// Waits until the daemon says that it is published; false if it is all over before.
    pub(crate) fn wait_published(&self, accepted: &Accepted) -> bool {
        let url = format!("{}/v1/trusts/acme/submissions/{}?wait=9", self.url, accepted.id);
        while !self.over.load(Ordering::Relaxed) {
            match http::get(&url) {
                Ok(answer) if answer.status == 200 => {
                    let now: Option<Accepted> = serde_json::from_slice(&answer.body).ok();
                    if now.is_some_and(|now| now.state == Progress::Published) {
                        return true;
                    }
                }
                Ok(answer) if answer.status == 404 => {
                    self.watch.wrong(Wrong::Lost, format!("nothing is known of {accepted:?}"));
                    return false;
                }
                _ => thread::sleep(Duration::from_millis(5)),
            }
        }
        false
    }

    /// Publishes, while nobody kills the daemon.
    pub(crate) fn publish(&self, documents: &BTreeMap<String, Vec<u8>>) {
        let accepted = self.insist(documents).expect("it is not over yet");
        assert!(self.wait_published(&accepted));
    }

    /// Publishes one version of the role of team `at` after the other; the team waits for each to be published, or only
    /// for it to be accepted.
    pub(crate) fn publish_without_end(&self, at: usize, waits: bool) {
        let (role, key) = (role(at), &self.teams[at]);
        let mut targets = author::empty_targets(&role, TRUST, now());
        while !self.over.load(Ordering::Relaxed) {
            author::next_version(&role, &mut targets, now());
            let version = targets.common.version;
            targets.targets.insert(name(at), target(version));
            let bytes = author::sign(&targets, &[key as &dyn Signer]).unwrap();
            let digest = Digest::of(&bytes);
            let documents = BTreeMap::from([(role.clone(), bytes)]);
            let Some(accepted) = self.insist(&documents) else { return };
            if accepted.documents.get(&role) != Some(&version) {
                self.watch.wrong(Wrong::Other, format!("{role} version {version} taken as {accepted:?}"));
            }
            let mut one = Acknowledged { role: role.clone(), version, digest, published: false };
            self.acknowledged.lock().unwrap().push(one.clone());
            if waits && self.wait_published(&accepted) {
                self.is_in_registry(&one, &accepted);
                one.published = true;
                self.acknowledged.lock().unwrap().push(one);
            }
        }
    }

    /// What was answered as published must be there now, for everybody.
    fn is_in_registry(&self, one: &Acknowledged, accepted: &Accepted) {
        let shown = self.latest().map(|(_, timestamp, snapshot)| {
            let listed =
                snapshot.signed.meta.get(&format!("{}.json", one.role)).map_or(0, |meta| meta.version);
            (timestamp.version(), listed)
        });
        if !shown.is_some_and(|(timestamp, role)| timestamp >= accepted.timestamp && role >= one.version) {
            self.watch.wrong(Wrong::Lost, format!("{one:?}, {accepted:?}, and the registry shows {shown:?}"));
        }
    }

    /// The plain TUF file `name`; none if it is not there, or the daemon is not.
    pub(crate) fn file(&self, name: &str) -> Option<Vec<u8>> {
        let answer = http::get(&format!("{}/tuf/acme/metadata/{name}.json", self.url)).ok()?;
        // A connection that is cut by a kill is no answer.
        let whole =
            answer.header("content-length").is_some_and(|length| length == answer.body.len().to_string());
        (answer.status == 200 && whole).then_some(answer.body)
    }

    /// The newest version of `role`, as the plain TUF files have it.
    pub(crate) fn newest<T: RoleType>(&self, role: &str) -> Document<T> {
        let version = self.info().expect("the daemon answers").heads[role];
        Document::parse(role, &self.file(&format!("{version}.{role}")).expect("its head is there")).unwrap()
    }

    /// Reads the plain TUF files for as long as it goes on.
    pub(crate) fn watch_files(&self) {
        let mut face = Face::new("the daemon", &self.watch);
        while !self.over.load(Ordering::Relaxed) {
            if self.look_at_files(&mut face).is_none() {
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// None if the daemon ended in between.
    fn look_at_files(&self, face: &mut Face<'_>) -> Option<()> {
        let timestamp = self.file("timestamp")?;
        let timestamp = Document::<Timestamp>::parse("timestamp", &timestamp).unwrap();
        face.shows("timestamp", timestamp.version(), timestamp.digest());
        let named = timestamp.signed.snapshot();
        let snapshot = self.file(&format!("{}.snapshot", named.version))?;
        face.shows("snapshot", named.version, Digest::of(&snapshot));
        face.watch.note("snapshot", named.version, named.digest().unwrap());
        let snapshot = Document::<Snapshot>::parse("snapshot", &snapshot).unwrap();
        for (file, meta) in &snapshot.signed.meta {
            let role = file.trim_end_matches(".json");
            let known = self.watch.knows(role, meta.version);
            face.shows(role, meta.version, meta.digest().unwrap());
            if !known {
                let document = self.file(&format!("{}.{role}", meta.version))?;
                face.shows(role, meta.version, Digest::of(&document));
            }
        }
        Some(())
    }

    /// Reads the registry for as long as it goes on: everything that `:latest` leads to, and the tags of roles.
    pub(crate) fn watch_registry(&self) {
        let mut face = Face::new("the registry", &self.watch);
        let mut dice = Dice::new();
        while !self.over.load(Ordering::Relaxed) {
            let Some((listing, timestamp, snapshot)) = self.latest() else {
                self.watch.wrong(Wrong::Lost, "the registry has no :latest that can be read".to_owned());
                return;
            };
            face.shows("timestamp", timestamp.version(), timestamp.digest());
            for (file, listed) in &listing.files {
                if let Some((version, role)) = file.trim_end_matches(".json").split_once('.') {
                    self.watch.note(role, version.parse().unwrap(), listed.digest);
                }
            }
            let named = timestamp.signed.snapshot();
            face.shows("snapshot", named.version, named.digest().unwrap());
            for (file, meta) in &snapshot.signed.meta {
                let (role, digest) = (file.trim_end_matches(".json"), meta.digest().unwrap());
                let unmoved = face.newest.get(role) == Some(&meta.version);
                face.shows(role, meta.version, digest);
                if !unmoved && self.blob(&digest).is_none() {
                    let text =
                        format!(":latest leads to {role} version {}, which is not there", meta.version);
                    self.watch.wrong(Wrong::Lost, text);
                }
            }
            let role = role(usize::try_from(dice.roll(self.teams.len() as u64)).unwrap());
            let manifest = Manifest::parse(&self.manifest(&role_tag(&role)).unwrap()).unwrap();
            for layer in &manifest.layers {
                let (version, _) = layer.annotations[FILENAME].split_once('.').unwrap();
                self.watch.note(&role, version.parse().unwrap(), layer.digest);
            }
        }
    }

    /// Retried: while docker-registry moves a tag, who reads it may be answered 500.
    fn manifest(&self, tag: &str) -> Option<Vec<u8>> {
        let url = format!("{}/v2/acme/trust/manifests/{tag}", self.registry.url());
        for _ in 0..100 {
            let answer = http::request("GET", &url, &[("accept", media_type::MANIFEST)], b"").ok()?;
            match answer.status {
                200 => return Some(answer.body),
                500 => self.disturbed.fetch_add(1, Ordering::Relaxed),
                _ => return None,
            };
            thread::sleep(Duration::from_millis(2));
        }
        None
    }

    fn blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        let answer = http::get(&format!("{}/v2/acme/trust/blobs/{digest}", self.registry.url())).ok()?;
        (answer.status == 200 && Digest::of(&answer.body) == *digest).then_some(answer.body)
    }

    /// What stands at `:latest`, and the timestamp and snapshot there.
    pub(crate) fn latest(&self) -> Option<(Listing, Document<Timestamp>, Document<Snapshot>)> {
        let listing = Listing::parse(&self.manifest("latest")?).ok()?;
        let read = |listed: &Listed| match &listed.data {
            Some(data) => Some(data.clone()),
            None => self.blob(&listed.digest),
        };
        let timestamp = Document::<Timestamp>::parse("timestamp", &read(listing.timestamp()?)?).ok()?;
        let snapshot = listing.snapshot(timestamp.signed.snapshot().version)?;
        let snapshot = Document::<Snapshot>::parse("snapshot", &read(snapshot)?).ok()?;
        Some((listing, timestamp, snapshot))
    }

    /// The registry is never ahead of what the daemon shows after a start.
    pub(crate) fn daemon_is_not_behind_the_registry(&self) {
        let shown = self.latest().map(|(_, timestamp, _)| timestamp.version());
        let served = self
            .file("timestamp")
            .map(|bytes| Document::<Timestamp>::parse("timestamp", &bytes).unwrap().version());
        if shown.is_none() || served < shown {
            let text = format!("the registry shows timestamp {shown:?}, the daemon {served:?}");
            self.watch.wrong(Wrong::WentBack, text);
        }
    }

    /// All of `these` are at the daemon, byte by byte.
    pub(crate) fn are_kept(&self, these: &[Acknowledged]) {
        for one in these {
            let found = self.file(&format!("{}.{}", one.version, one.role)).map(|bytes| Digest::of(&bytes));
            if found != Some(one.digest) {
                self.watch.wrong(Wrong::Lost, format!("{one:?} is {found:?} now"));
            }
        }
    }

    /// Looks with `client` for as long as it goes on: it always finds what every team signed last, or something before.
    pub(crate) fn follow(&self, client: &FollowingClient) {
        let mut dice = Dice::new();
        while !self.over.load(Ordering::Relaxed) {
            let at = usize::try_from(dice.roll(self.teams.len() as u64)).unwrap();
            if let Err(text) = client.find(self, at) {
                self.watch.wrong(Wrong::Other, text);
                return;
            }
        }
    }

    /// The files and folders of the online keys, sorted.
    pub(crate) fn key_files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.key_folder())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn key_folder(&self) -> PathBuf {
        self.home.path().join("data/keys/acme")
    }
}

/// A client that pins the first root, with a memory of its own.
pub(crate) struct FollowingClient {
    home: TempDir,
    runtime: Runtime,
}

impl FollowingClient {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { home: tempfile::tempdir().unwrap(), runtime }
    }

    /// The version that team `at` signed last, as far as the registry tells; 0 if it has signed nothing.
    ///
    /// # Errors
    /// What the client said instead.
    pub(crate) fn find(&self, scene: &Scene, at: usize) -> Result<u64, String> {
        for _ in 0..20 {
            let error = match self.runtime.block_on(self.look(scene, &name(at))) {
                Ok(Outcome::Found(found)) => return Ok(found.target.length),
                Ok(Outcome::Absent { .. }) => return Ok(0),
                Ok(revoked) => return Err(format!("a client finds {revoked:?}")),
                Err(error) => error,
            };
            // It has tried twice, and docker-registry may take longer to move a tag.
            if error.verdict() != Some(Verdict::Unreachable) {
                return Err(format!("a client looks for {}: {error:?}", name(at)));
            }
            scene.disturbed.fetch_add(1, Ordering::Relaxed);
        }
        Err(format!("a client does not get an answer about {}", name(at)))
    }

    async fn look(&self, scene: &Scene, name: &str) -> Result<Outcome, UpdateError> {
        let registry = Client::new(RegistryOptions::default()).unwrap();
        let repository = format!("{}/acme/trust", scene.registry.address()).parse().unwrap();
        let source = RegistrySource::new(registry, repository);
        let mut session =
            Session::refresh(source, self.home.path(), &scene.first_root, now(), &Bounds::default()).await?;
        session.find(name).await.map_err(|unfinished| unfinished.error)
    }
}

/// The role of team `at`.
pub(crate) fn role(at: usize) -> String {
    format!("targets--p{at:02}")
}

/// The one name that team `at` signs; its length is the version of the role.
fn name(at: usize) -> String {
    format!("acme/p{at:02}:now")
}

fn target(version: u64) -> Target {
    let hashes = BTreeMap::from([("sha256".to_owned(), Digest::of(&version.to_be_bytes()).hex())]);
    Target { length: version, hashes, custom: None, extra: BTreeMap::new() }
}

fn now() -> chrono::DateTime<chrono::Utc> {
    SystemClock.now()
}

/// Waits until `wanted` holds.
#[track_caller]
pub(crate) fn until(what: &str, mut wanted: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !wanted() {
        assert!(Instant::now() < deadline, "{what} does not come true");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The one in the middle, and the longest, in seconds.
pub(crate) fn median_and_longest(times: &[Duration]) -> (f64, f64) {
    let mut times = times.to_vec();
    times.sort();
    let at = |index: usize| times.get(index).copied().unwrap_or_default().as_secs_f64();
    (at(times.len() / 2), at(times.len().saturating_sub(1)))
}
