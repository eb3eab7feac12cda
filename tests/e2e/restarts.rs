//! Promises P1, P6 and P7 on the real daemon: killed time and again under publishers, cut off from its registry, told to
//! end. What was acknowledged stays, versions only grow, one version has one content, and no client's memory is lost.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod stage;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use plimsoll::{
    clock::SystemClock,
    keys::{Passphrase, PrivateKey, Signer},
    publish::{Done, How, PublishError, Publisher, Server, SignRequest},
    registry::{Registry as Client, RegistryOptions},
};
use plimsoll_core::{
    oci::{Descriptor, Digest},
    policy::Verdict,
};
use plimsoll_tests::{
    docker_registry::Registry,
    http,
    image::Image,
    middle::{Effect, Middle, Rule},
    process::{Cli, Daemon},
    skopeo::{self, Side},
};
use serde_json::Value;
use stage::{Desk, config, establish, push};
use tokio::runtime::Runtime;
use url::Url;

const KILLS: usize = 16;
/// Publishers at work at a time; the first two share a role, so that they also meet in conflicts.
const TEAMS: [&str; 3] = ["net-monitor", "net-monitor", "billing"];

/// Everything that was ever seen of the plain TUF files: by name with its version, the bytes.
#[derive(Default)]
struct Seen {
    files: BTreeMap<String, Vec<u8>>,
    newest: u64,
}

impl Seen {
    /// Reads the timestamp and all it leads to. False if the daemon did not answer.
    fn look(&mut self, daemon: &str) -> bool {
        let Some(timestamp) = file(daemon, "timestamp") else { return false };
        let version = version(&timestamp);
        assert!(version >= self.newest, "timestamp {version} after {}", self.newest);
        self.newest = version;
        let snapshot = meta(&timestamp)["snapshot.json"];
        self.note(&format!("{version}.timestamp"), &timestamp);
        let name = format!("{snapshot}.snapshot");
        let Some(snapshot) = file(daemon, &name) else { return false };
        let listed = meta(&snapshot);
        self.note(&name, &snapshot);
        for (role, version) in listed {
            let name = format!("{version}.{}", role.trim_end_matches(".json"));
            if self.files.contains_key(&name) {
                continue;
            }
            let Some(document) = file(daemon, &name) else { return false };
            self.note(&name, &document);
        }
        true
    }

    fn note(&mut self, name: &str, bytes: &[u8]) {
        match self.files.get(name) {
            Some(before) => assert_eq!(before, bytes, "{name} with two contents"),
            None => drop(self.files.insert(name.to_owned(), bytes.to_owned())),
        }
    }

    /// All versions of all roles that there are now: those seen have the content they had then.
    fn compare(&mut self, daemon: &str) {
        assert!(self.look(daemon));
        for (name, seen) in &self.files {
            if name.ends_with(".timestamp") {
                continue;
            }
            let now = file(daemon, name);
            assert!(now.is_some(), "{name} is gone");
            assert_eq!(now.as_deref(), Some(seen.as_slice()), "{name} has another content");
        }
    }
}

fn file(daemon: &str, name: &str) -> Option<Vec<u8>> {
    let answer = http::get(&format!("{daemon}/tuf/acme/metadata/{name}.json")).ok()?;
    // A connection that is cut by a kill is no answer.
    let whole = answer.header("content-length").is_some_and(|length| length == answer.body.len().to_string());
    (answer.status == 200 && whole).then_some(answer.body)
}

fn signed(bytes: &[u8]) -> Value {
    serde_json::from_slice::<Value>(bytes).unwrap()["signed"].take()
}

fn version(bytes: &[u8]) -> u64 {
    signed(bytes)["version"].as_u64().unwrap()
}

fn meta(bytes: &[u8]) -> BTreeMap<String, u64> {
    let signed = signed(bytes);
    let meta = signed["meta"].as_object().unwrap();
    meta.iter().map(|(name, entry)| (name.clone(), entry["version"].as_u64().unwrap())).collect()
}

/// Pauses from 50 to 850 ms, the same in each run.
struct Pauses(u64);

impl Pauses {
    fn next(&mut self) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis(50 + (self.0 >> 33) % 800)
    }
}

/// Kills the daemon under publishers and a client: in front of the registry at `external`, or with its own.
fn killed_again_and_again(external: Option<&str>) {
    let home = tempfile::tempdir().unwrap();
    let trust = external.map(|host| format!("{host}/acme/trust"));
    let freshness = "timestamp-validity = \"1h\"\ntimestamp-interval = \"1s\"\n";
    let daemon = Daemon::start(home.path(), &config("127.0.0.1:0", trust.as_deref(), freshness));
    // On the same address again after each kill: clients know it.
    let (address, url) = (daemon.address(), daemon.url());
    let config = config(&address, trust.as_deref(), freshness);
    let host = external.unwrap_or(&address).to_owned();

    let desk = Desk::new();
    establish(&desk, &host, &format!("{host}/acme/trust"), &daemon);
    desk.key("billing");
    let line = format!("delegate add {host}/acme/billing --label billing --pub billing.pub");
    desk.with_key(&line, "owner").ok();
    let mut images = Vec::new();
    for (at, team) in TEAMS.iter().enumerate() {
        let image = Image::busybox(&format!("{at}"));
        image.push(&format!("{host}/{}", name(team, at, 0)), &Side::plain()).ok();
        images.push(image);
    }

    let (done, acknowledged) = (AtomicBool::new(false), Mutex::new(Vec::<Acknowledged>::new()));
    let mut seen = Seen::default();
    let daemon = thread::scope(|scope| {
        for (at, team) in TEAMS.iter().enumerate() {
            let (desk, done, acknowledged, images) = (&desk, &done, &acknowledged, &images);
            // A machine of its own: its memory must survive, too.
            let publisher = Signing::new(desk.copy(), team, &url);
            scope.spawn(move || {
                // Always another name: who signs what is signed already sends the same document as others do.
                for number in 0.. {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    let name = name(team, at, number);
                    match publisher.sign(&name, &images[at]) {
                        Ok((role, version)) => {
                            let digest = images[at].digest();
                            acknowledged.lock().unwrap().push(Acknowledged { name, digest, role, version });
                        }
                        Err(error) if error.verdict() == Some(Verdict::Unreachable) => {}
                        // A lost memory, or a document that was refused.
                        Err(error) => panic!("sign {name}: {error:?}"),
                    }
                }
            });
        }
        let reader = desk.copy();
        let (done, acknowledged, host) = (&done, &acknowledged, &host);
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let Some(name) = acknowledged.lock().unwrap().last().map(|last| last.name.clone()) else {
                    thread::sleep(Duration::from_millis(10));
                    continue;
                };
                let reference = format!("{host}/{name}");
                let run = reader.run(&format!("resolve {reference}"));
                assert!(matches!(run.code, 0 | 30), "{reference}: {}{}", run.stdout, run.stderr);
            }
        });

        // Ends the others also when this thread panics.
        let _end = End(done);
        let (mut daemon, mut pauses) = (daemon, Pauses(external.map_or(1, |_| 2)));
        for _ in 0..KILLS {
            // The moment is what matters here, not an event.
            let until = Instant::now() + pauses.next();
            while Instant::now() < until {
                seen.look(&url);
                thread::sleep(Duration::from_millis(5));
            }
            daemon.kill();
            daemon = Daemon::start(home.path(), &config);
            assert_eq!(daemon.address(), address);
            assert!(seen.look(&url), "ready, and not serving:\n{}", daemon.output());
        }
        // So that the last kill is followed by work, too.
        let count = || acknowledged.lock().unwrap().len();
        let (before, deadline) = (count(), Instant::now() + Duration::from_secs(30));
        while count() < before + 3 {
            assert!(
                Instant::now() < deadline,
                "nothing is published after the last start:\n{}",
                daemon.output()
            );
            thread::sleep(Duration::from_millis(10));
        }
        daemon
    });

    seen.compare(&url);
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() >= 5, "{acknowledged:?}");
    let mut versions = BTreeSet::new();
    for Acknowledged { name, digest, role, version } in &acknowledged {
        assert!(versions.insert((role, version)), "{role} version {version} was acknowledged twice");
        let document = file(&url, &format!("{version}.{role}"));
        let document =
            signed(&document.unwrap_or_else(|| panic!("{role} version {version} of {name} is lost")));
        assert_eq!(document["targets"][name]["hashes"]["sha256"], digest.hex(), "{role} {version}");
    }
    let new = Desk::new();
    let root = fs::read(desk.file("acme-root.json")).unwrap();
    fs::write(new.file("acme-root.json"), &root).unwrap();
    let sha256 = Digest::of(&root).hex();
    new.run(&format!(
        "trust add acme --root acme-root.json --sha256 {sha256} --repository {host}/acme/trust"
    ))
    .ok();
    for Acknowledged { name, digest, .. } in acknowledged.iter().rev().take(10) {
        for desk in [&desk, &new] {
            let run = desk.run(&format!("resolve {host}/{name}")).ok();
            assert!(run.stdout.trim_end().ends_with(&digest.to_string()), "{name}: {}", run.stdout);
        }
    }
    // Tags of images are there, too, in the embedded registry as in the other.
    for (at, team) in TEAMS.iter().enumerate() {
        let tag = format!("{host}/{}", name(team, at, 0));
        let manifest = skopeo::inspect_raw(&tag, &Side::plain()).ok();
        assert_eq!(Digest::of(manifest.stdout.as_bytes()), images[at].digest());
    }
    let started = Instant::now();
    assert_eq!(daemon.terminate(), 0);
    assert!(started.elapsed() < Duration::from_secs(10));
}

/// A name for the publisher number `at`.
fn name(team: &str, at: usize, number: usize) -> String {
    format!("acme/{team}:p{at}-{number}")
}

/// A publish that was answered as published.
#[derive(Debug)]
struct Acknowledged {
    name: String,
    digest: Digest,
    role: String,
    version: u64,
}

/// A publisher at a desk of its own. The library and not the command line: a key is opened once, so that kills come in
/// the middle of publishes, not of key derivations.
struct Signing {
    desk: Desk,
    url: Url,
    registry: Client,
    key: PrivateKey,
    runtime: Runtime,
}

impl Signing {
    fn new(desk: Desk, team: &str, url: &str) -> Self {
        let key = if team == "billing" { "billing.key" } else { "team.key" };
        let passphrase = Passphrase::from_file(&desk.file("passphrase")).unwrap();
        let key = PrivateKey::load(&desk.file(key), &passphrase).unwrap();
        let registry = Client::new(RegistryOptions::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { desk, url: url.parse().unwrap(), registry, key, runtime }
    }

    /// The role that signed, and its version.
    fn sign(&self, name: &str, image: &Image) -> Result<(String, u64), PublishError> {
        let descriptor = Descriptor {
            media_type: image.media_type().to_owned(),
            digest: image.digest(),
            size: image.size(),
            data: None,
            annotations: BTreeMap::new(),
        };
        let request = SignRequest::new(name.parse().unwrap(), descriptor);
        let server = Server::new(self.registry.clone(), self.url.clone());
        let root = fs::read(self.desk.file("acme-root.json")).unwrap();
        let state = self.desk.file("state");
        self.runtime.block_on(async {
            let clock = Arc::new(SystemClock);
            // Only drafts say where they belong.
            let place = "registry.example/acme/trust".parse().unwrap();
            let publisher =
                Publisher::through_daemon(self.registry.clone(), server, place, root, &state, clock);
            let how = How { signers: &[&self.key as &dyn Signer], draft: false };
            match publisher.sign(std::slice::from_ref(&request), how).await? {
                Done::Published(published, _) => Ok(published.versions.into_iter().next().unwrap()),
                Done::Drafted(..) => unreachable!("nobody asked for a draft"),
            }
        })
    }
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_kills_in_front_of_a_registry() {
    let registry = Registry::open();
    killed_again_and_again(Some(&registry.address()));
}

#[test]
fn nothing_acknowledged_is_lost_by_kills_of_the_embedded_registry() {
    killed_again_and_again(None);
}

/// A registry for the images, one for the metadata that can go away, and a daemon.
struct Two {
    images: Registry,
    metadata: Registry,
    home: tempfile::TempDir,
    config: String,
    daemon: Daemon,
    desk: Desk,
}

impl Two {
    fn new() -> Self {
        let (images, metadata) = (Registry::open(), Registry::open());
        let home = tempfile::tempdir().unwrap();
        let trust = format!("{}/acme/trust", metadata.address());
        let daemon = Daemon::start(home.path(), &config("127.0.0.1:0", Some(&trust), ""));
        let config = config(&daemon.address(), Some(&trust), "");
        let desk = Desk::new();
        establish(&desk, &metadata.address(), &trust, &daemon);
        // The names are judged at the host of the images.
        let root = desk.file("acme-root.json");
        let sha256 = Digest::of(&fs::read(&root).unwrap()).hex();
        let scope = format!("{}/acme/**", images.address());
        desk.run("trust remove acme").ok();
        desk.run(&format!(
            "trust add acme --root acme-root.json --sha256 {sha256} --repository {trust} --scope {scope}"
        ))
        .ok();
        push(&format!("{}/acme/net-monitor:v1", images.address()), "one");
        Self { images, metadata, home, config, daemon, desk }
    }

    fn reference(&self) -> String {
        format!("{}/acme/net-monitor:v1", self.images.address())
    }
}

#[test]
fn a_publish_during_an_outage_of_the_registry_is_kept_and_comes_later() {
    let mut two = Two::new();
    let reference = two.reference();
    two.metadata.stop();
    let signing = {
        let (cli, reference): (Cli, _) = (two.desk.cli.clone(), reference.clone());
        thread::spawn(move || {
            cli.run(&["sign", &reference, "--key", "team.key", "--passphrase-file", "passphrase"])
        })
    };
    two.daemon.wait_for_line("accepted");
    two.daemon.wait_for_line("not in the registry yet");
    // Accepted, not published, and now the daemon goes, too.
    two.daemon.kill();
    two.daemon = Daemon::spawn(
        two.home.path(),
        &["serve", "--config", "plimsolld.toml", "--listen", &listen(&two.config)],
    );
    // Cut off from the daemon it cannot say that it is published.
    assert_eq!(signing.join().unwrap().code, 30);

    // With the registry still down the daemon runs, says so, and signs nothing that it might have to take back.
    assert_eq!(http::get(&format!("{}/livez", two.daemon.url())).unwrap().status, 200);
    let ready = http::get(&format!("{}/readyz", two.daemon.url())).unwrap();
    assert_eq!(ready.status, 503, "{}", ready.text());
    let run = two.desk.with_key(&format!("sign {reference}"), "team");
    assert_eq!(run.code, 30, "{}", run.stderr);
    assert!(run.stderr.contains("has not read the registry yet"), "{}", run.stderr);
    two.desk.run(&format!("verify {reference}")).expect_code(30);

    two.metadata.start_again();
    two.daemon.wait_ready();
    two.daemon.wait_for_line("published");
    two.desk.run(&format!("verify {reference}")).ok();
    two.desk.with_key(&format!("sign {reference}"), "team").ok();
}

#[test]
fn a_publish_waits_for_a_registry_that_comes_back() {
    let mut two = Two::new();
    let reference = two.reference();
    two.metadata.stop();
    let signing = {
        let (cli, reference): (Cli, _) = (two.desk.cli.clone(), reference.clone());
        thread::spawn(move || {
            cli.run(&["sign", &reference, "--key", "team.key", "--passphrase-file", "passphrase"])
        })
    };
    two.daemon.wait_for_line("not in the registry yet");
    two.metadata.start_again();
    signing.join().unwrap().ok();
    two.desk.run(&format!("verify {reference}")).ok();
}

#[test]
fn a_push_that_breaks_half_way_is_repaired() {
    let registry = Registry::open();
    let middle = Middle::start(&registry.address());
    let home = tempfile::tempdir().unwrap();
    let trust = format!("{}/acme/trust", middle.address());
    let daemon = Daemon::start(home.path(), &config("127.0.0.1:0", Some(&trust), ""));
    let desk = Desk::new();
    establish(&desk, &middle.address(), &trust, &daemon);
    let reference = format!("{}/acme/net-monitor:v1", middle.address());
    push(&reference, "one");
    for effect in [Effect::Status(500), Effect::Status(429), Effect::Reset, Effect::ResetAfter] {
        for place in [
            "/acme/trust/blobs/uploads/",
            "/acme/trust/manifests/targets--net-monitor",
            "/acme/trust/manifests/latest",
        ] {
            middle.set(Rule::new("PUT POST PATCH", place).times(1), effect.clone());
            desk.with_key(&format!("sign {reference}"), "team").ok();
            desk.run(&format!("verify {reference}")).ok();
        }
    }
    assert_eq!(daemon.terminate(), 0);
}

#[test]
fn freshness_goes_on_without_being_asked() {
    let registry = Registry::open();
    let host = registry.address();
    let home = tempfile::tempdir().unwrap();
    let trust = format!("{host}/acme/trust");
    let freshness = "timestamp-validity = \"4s\"\ntimestamp-interval = \"1s\"\n";
    let daemon = Daemon::start(home.path(), &config("127.0.0.1:0", Some(&trust), freshness));
    let desk = Desk::new();
    establish(&desk, &host, &trust, &daemon);
    let reference = format!("{host}/acme/net-monitor:v1");
    push(&reference, "one");
    desk.with_key(&format!("sign {reference}"), "team").ok();

    let first = version(&file(&daemon.url(), "timestamp").unwrap());
    // More than two lives of a timestamp, on the wall clock: that is what is tested.
    let until = Instant::now() + Duration::from_secs(9);
    while Instant::now() < until {
        desk.run(&format!("verify {reference}")).ok();
        thread::sleep(Duration::from_millis(200));
    }
    let last = version(&file(&daemon.url(), "timestamp").unwrap());
    assert!(last >= first + 6, "timestamp {first}, 9 s later {last}");

    // Without the daemon nobody keeps it fresh, and the client notices within the timestamp's life.
    daemon.kill();
    let deadline = Instant::now() + Duration::from_secs(8);
    loop {
        let run = desk.run(&format!("verify {reference}"));
        if run.code == 20 {
            break;
        }
        assert_eq!(run.code, 0, "{}", run.stdout);
        assert!(Instant::now() < deadline, "{}", run.stdout);
        thread::sleep(Duration::from_millis(200));
    }
}

/// The address in a configuration.
fn listen(config: &str) -> String {
    config.lines().find_map(|line| line.strip_prefix("listen = ")).unwrap().trim_matches('"').to_owned()
}
