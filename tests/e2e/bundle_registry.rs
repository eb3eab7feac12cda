//! Several who write one trust repository to one registry at the same time: nothing older stays over something newer, and
//! no entry point names roles that are not there.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use plimsoll_core::oci::Digest;
use plimsoll_tests::{
    docker_registry::Registry,
    http,
    middle::{Answer, Effect, Middle, Rule},
    process::{Cli, Run},
    world::{NAME, ROLE, Site, TRUST, World},
};
use serde_json::{Value, json};

/// How long the other one is waited for.
const LONG: Duration = Duration::from_secs(60);

/// A far registry that has the first state, and bundles of two later ones; the middle stands before the registry.
struct Scene {
    world: World,
    _near: Registry,
    far: Registry,
    middle: Middle,
    older: String,
    newer: String,
}

impl Scene {
    fn new() -> Self {
        let (near, far) = (Registry::open(), Registry::open());
        let world = World::ready(Site::at(&near.address()));
        world.push("v1", "one\n");
        world.sign("v1").ok();
        let gate = world.client("gate");
        let exported = |name: &str| {
            gate.run(&["bundle", "export", NAME, "--out", name]).ok();
            gate.home().join(name).to_str().unwrap().to_owned()
        };
        let first = exported("first.tar");
        world.push("v2", "two\n");
        world.sign("v2").ok();
        let older = exported("older.tar");
        world.push("v3", "three\n");
        world.sign("v3").ok();
        let newer = exported("newer.tar");
        let middle = Middle::start(&far.address());
        world.client("first").run(&["bundle", "import", &first, "--to", &far.address()]).ok();
        Self { world, _near: near, far, middle, older, newer }
    }

    fn to(&self) -> String {
        self.middle.address()
    }

    /// The registry shows `v3`, and everything that leads there; also after a collection of what no tag keeps.
    #[track_caller]
    fn shows_the_newer(&self) {
        let url = format!("http://{}/v2/{TRUST}/manifests/{ROLE}", self.far.address());
        let shown = http::request("GET", &url, &[("Accept", OCI)], b"").unwrap();
        let manifest: Value = serde_json::from_slice(&shown.body).unwrap();
        let version = manifest["layers"][0]["annotations"]["tuf.io/filename"].clone();
        let reader = self.world.client_at("reader", &self.far.address());
        reader.run(&["resolve", &self.world.reference_at(&self.far.address(), "v3")]).ok();
        assert_eq!(version, format!("3.{ROLE}.json"), "the tag keeps the role that the entry point leads to");
    }

    /// Another machine, which reaches the registry directly, imports the newer bundle.
    fn other_imports(&self) -> impl Fn() + Send + Sync + 'static {
        let (machine, to) = (self.world.client_at("other", &self.far.address()), self.far.address());
        let newer = self.newer.clone();
        move || drop(machine.run(&["bundle", "import", &newer, "--to", &to]).ok())
    }
}

fn import(machine: &Cli, bundle: &str, to: &str) -> Run {
    machine.run(&["bundle", "import", bundle, "--to", to, "-o", "json"])
}

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

/// Does `act` once, when the first request that `rule` matches was answered by the registry and the client does not know yet.
fn once(middle: &Middle, rule: Rule, act: impl Fn() + Send + Sync + 'static) -> Arc<AtomicBool> {
    let done = Arc::new(AtomicBool::new(false));
    let at = Arc::clone(&done);
    middle.set(
        rule,
        Effect::edit(move |_: &mut Answer| {
            if !at.swap(true, Ordering::SeqCst) {
                tokio::task::block_in_place(&act);
            }
        }),
    );
    done
}

/// P1: of two imports on one machine the second waits for the first, and then looks at what is there.
#[test]
fn two_imports_on_one_machine_go_one_after_the_other() {
    let scene = Scene::new();
    let plant = scene.world.client_at("plant", &scene.to());
    // The older one has looked at what is there, and is held up before it writes.
    let (looked, wait_for_look) = mpsc::channel();
    let (go_on, told_to) = mpsc::channel::<()>();
    let told_to = std::sync::Mutex::new(told_to);
    once(&scene.middle, Rule::new("GET", "manifests/latest"), move || {
        looked.send(()).unwrap();
        let _ = told_to.lock().unwrap().recv_timeout(LONG);
    });
    let (machine, to, bundle) = (plant.clone(), scene.to(), scene.older.clone());
    let first = std::thread::spawn(move || machine.run(&["bundle", "import", &bundle, "--to", &to]));
    wait_for_look.recv_timeout(LONG).unwrap();
    // Whoever waits makes the file of the lock anew.
    let place = Digest::of(format!("{}/{TRUST}", scene.to()).as_bytes()).hex();
    let lock = plant.home().join("state/writing").join(place).join("lock");
    let held = lock.exists();
    let _ = fs::remove_file(&lock);
    let (machine, to, bundle) = (plant, scene.to(), scene.newer.clone());
    let second = std::thread::spawn(move || machine.run(&["bundle", "import", &bundle, "--to", &to]));
    for _ in 0..6000 {
        if lock.exists() || second.is_finished() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let waited = !second.is_finished();
    go_on.send(()).unwrap();
    first.join().unwrap().ok();
    second.join().unwrap().ok();
    assert!(held && waited);
    scene.shows_the_newer();
}

/// P1: from another machine something newer came while an older bundle was verified. That one is not written, and the roles
/// that it had written already are put back.
#[test]
fn an_older_bundle_gives_way_to_a_newer_one_that_came_meanwhile() {
    let scene = Scene::new();
    let plant = scene.world.client_at("plant", &scene.to());
    // When it has looked, and written nothing yet.
    let came = once(&scene.middle, Rule::new("GET", "manifests/latest"), scene.other_imports());
    let run = import(&plant, &scene.older, &scene.to()).expect_code(21);
    assert!(run.stderr.contains("ROLLBACK") && run.stderr.contains("newer"), "{}", run.stderr);
    assert!(came.load(Ordering::SeqCst));
    let log = scene.middle.take_log();
    assert!(log.iter().all(|sent| sent.method != "PUT" || !sent.path.ends_with("/latest")), "{log:#?}");
    assert!(log.iter().any(|sent| sent.method == "PUT" && sent.path.ends_with(ROLE)), "it was late");
    scene.shows_the_newer();
}

/// P1: an older entry point, and an older role, that another machine writes over newer ones before they were read back are
/// replaced again, and that is told.
#[test]
fn what_somebody_older_wrote_over_is_put_there_again() {
    let scene = Scene::new();
    let plant = scene.world.client_at("plant", &scene.to());
    // What the older bundle makes of a registry.
    let stage = Registry::open();
    let stager = scene.world.client_at("stager", &stage.address());
    import(&stager, &scene.older, &stage.address()).ok();
    let copy = ["copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false", "--insecure-policy"];
    let (from, far) = (stage.address(), scene.far.address());
    let overwritten = once(&scene.middle, Rule::new("PUT", "manifests/latest"), move || {
        for tag in [ROLE, "latest"] {
            let [from, to] = [&from, &far].map(|host| format!("docker://{host}/{TRUST}:{tag}"));
            let mut command = std::process::Command::new("skopeo");
            plimsoll_tests::process::run(command.args(copy).args([&from, &to]), b"").ok();
        }
    });
    let told = import(&plant, &scene.newer, &scene.to()).ok().json();
    assert!(overwritten.load(Ordering::SeqCst));
    assert_eq!((&told["trusts"][0]["again"], &told["trusts"][0]["newer"]), (&json!(true), &Value::Null));
    scene.shows_the_newer();
}

/// P1: something newer that is there when it is read back stays, and is told.
#[test]
fn something_newer_that_came_after_it_stays() {
    let scene = Scene::new();
    let plant = scene.world.client_at("plant", &scene.to());
    once(&scene.middle, Rule::new("PUT", "manifests/latest"), scene.other_imports());
    let told = import(&plant, &scene.older, &scene.to()).ok().json();
    assert!(told["trusts"][0]["newer"].is_u64(), "{told}");
    assert_eq!(told["trusts"][0]["again"], json!(false));
    scene.shows_the_newer();
}

/// P1: a mirror and an import are writers alike.
#[test]
fn a_mirror_holds_to_the_same() {
    let scene = Scene::new();
    let stage = Registry::open();
    let stager = scene.world.client_at("stager", &stage.address());
    import(&stager, &scene.older, &stage.address()).ok();
    let to = format!("{}/{TRUST}", scene.to());
    // It copies the older one, and the newer one comes meanwhile.
    let lagging = scene.world.client_at("lagging", &stage.address());
    once(&scene.middle, Rule::new("GET", "manifests/latest"), scene.other_imports());
    let run = lagging.run(&["mirror", NAME, &to]).expect_code(21);
    assert!(run.stderr.contains("newer"), "{}", run.stderr);
    scene.shows_the_newer();
}
