//! What leaves in a bundle, or by a mirror, is the newest that is valid at any of a root's places, wherever it is.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::fs;

use plimsoll_tests::{
    docker_registry::Registry,
    middle::{Effect, Middle, Rule},
    process::Cli,
    world::{IMAGES, NAME, ROLE, Site, TRUST, World},
};
use serde_json::{Value, json};

/// A place where nobody listens.
const DOWN: &str = "127.0.0.1:1/acme/trust";

/// A world whose first copy lags: `v2` is signed, and it does not know.
struct Scene {
    world: World,
    _origin: Registry,
    copy: Registry,
    lagging: String,
}

impl Scene {
    fn new() -> Self {
        let (origin, copy) = (Registry::open(), Registry::open());
        let world = World::ready(Site::at(&origin.address()));
        world.push("v1", "carried\n");
        world.sign("v1").ok();
        let lagging = format!("{}/{TRUST}", copy.address());
        world.client("carrier").run(&["mirror", NAME, &lagging]).ok();
        world.push("v2", "newer\n");
        world.sign("v2").ok();
        Self { world, _origin: origin, copy, lagging }
    }

    /// A machine that reads the metadata at `places`, in this order.
    fn client(&self, name: &str, places: &[&str]) -> Cli {
        let client = self.world.client(name);
        let policy = client.home().join("policy.toml");
        let text = fs::read_to_string(&policy).unwrap();
        let one = format!("repository = \"{}\"", self.world.trust());
        assert_eq!(text.matches(&one).count(), 1, "{text}");
        fs::write(policy, text.replace(&one, &format!("repository = {}", json!(places)))).unwrap();
        client
    }

    /// What is exported on the machine `name` that reads at `places`, and what it warned of.
    fn exported(&self, name: &str, places: &[&str]) -> (Value, Cli) {
        let gate = self.client(name, places);
        let run = gate.run(&["bundle", "export", NAME, "--out", "full.tar", "-o", "json"]);
        (run.ok().json(), gate)
    }

    /// Far from all of this, what `gate` exported vouches for `v2`.
    #[track_caller]
    fn vouches_for_the_newer(&self, gate: &Cli) {
        let name = format!("cell-of-{}", gate.home().file_name().unwrap().to_str().unwrap());
        let cell = self.client(&name, &["oci:trust"]).under(&["unshare", "--net"]);
        let bundle = gate.home().join("full.tar");
        cell.run(&["bundle", "import", bundle.to_str().unwrap(), "--layout", "trust"]).ok();
        cell.run(&["resolve", &self.world.reference("v2")]).ok();
    }

    fn newest(&self) -> Value {
        let carrier = self.world.client("carrier");
        let exported =
            carrier.run(&["bundle", "export", NAME, "--out", "newest.tar", "-o", "json"]).ok().json();
        let _ = fs::remove_file(carrier.home().join("newest.tar"));
        exported["trusts"][0]["versions"].clone()
    }
}

/// P1, P5: a place that lags, is down or lies hides nothing that another one shows; which one failed is told.
#[test]
fn an_export_takes_the_newest_that_is_valid_at_any_place() {
    let scene = Scene::new();
    let (newest, trust) = (scene.newest(), scene.world.trust());

    let (exported, gate) = scene.exported("lagging", &[&scene.lagging, &trust]);
    assert_eq!(exported["trusts"][0]["versions"], newest);
    // It is called as the first of the places that are repositories, and one that lags is no fault.
    assert_eq!(exported["trusts"][0]["repository"], scene.lagging);
    assert_eq!(exported["skipped"], json!([]));
    scene.vouches_for_the_newer(&gate);

    let (exported, gate) = scene.exported("down", &[DOWN, &scene.lagging, &trust]);
    assert_eq!(exported["trusts"][0]["versions"], newest);
    assert_eq!(exported["skipped"][0]["place"], DOWN);
    scene.vouches_for_the_newer(&gate);
    let told = gate.run(&["bundle", "export", NAME, "--out", "again.tar"]).ok();
    assert!(told.stderr.contains("warning: ") && told.stderr.contains(DOWN), "{}", told.stderr);

    let liar = Middle::start(&scene.copy.address());
    liar.set(Rule::new("GET", "manifests/latest"), Effect::WrongBytes);
    let lying = format!("{}/{TRUST}", liar.address());
    let (exported, gate) = scene.exported("lied-to", &[&lying, &trust]);
    assert_eq!(exported["trusts"][0]["versions"], newest);
    assert_eq!(exported["skipped"][0]["place"], lying);
    scene.vouches_for_the_newer(&gate);

    // No place at all is no bundle, and nothing is left of it.
    let alone = scene.client("alone", &[DOWN, &lying]);
    alone.run(&["bundle", "export", NAME, "--out", "full.tar"]).expect_code(22);
    assert!(!alone.home().join("full.tar").exists());
}

/// P5: a file that one place lacks or spoils is fetched from a place that serves exactly these bytes.
#[test]
fn what_one_place_spoils_is_fetched_from_another() {
    let scene = Scene::new();
    let carrier = scene.world.client("carrier");
    carrier.run(&["mirror", NAME, &scene.lagging]).ok();
    let newest = scene.newest();
    for (name, effect) in [("lacks", Effect::Status(404)), ("spoils", Effect::WrongBytes)] {
        // Its entry point is good, and first of those that are alike.
        let middle = Middle::start(&scene.copy.address());
        middle.set(Rule::new("GET", "/blobs/"), effect);
        let poor = format!("{}/{TRUST}", middle.address());
        let (exported, gate) = scene.exported(name, &[&poor, &scene.world.trust()]);
        assert_eq!(exported["trusts"][0]["versions"], newest, "{name}");
        assert_eq!(exported["left_out"], json!([]), "{name}");
        assert!(exported["trusts"][0]["versions"][ROLE].is_u64(), "{exported}");
        scene.vouches_for_the_newer(&gate);
    }
}

/// P1, P5: roots from before the pinned one are taken along from whichever place has them.
#[test]
fn older_roots_come_from_any_place_that_has_them() {
    let scene = Scene::new();
    let old = fs::read(scene.world.owner().home().join("acme-root.json")).unwrap();
    scene.world.renew_root();
    let root = scene.world.owner().home().join("acme-root.json");
    // A machine that is pinned to the newer root, and a copy that lists that root alone.
    let carrier = scene.world.client("carrier");
    carrier.run(&["mirror", NAME, &scene.lagging]).ok();
    let url = format!("{}/tuf/{NAME}/metadata/2.root.json", scene.world.daemon.url());
    let newer = plimsoll_tests::http::get(&url).unwrap().body;
    let middle = Middle::start(&scene.copy.address());
    middle.set(Rule::new("GET", "manifests/latest"), Effect::edit(without_the_first_root));
    let poor = format!("{}/{TRUST}", middle.address());
    fs::write(&root, &newer).unwrap();
    let (exported, gate) = scene.exported("newer", &[&poor, &scene.world.trust()]);
    assert_eq!((&exported["skipped"], &exported["trusts"][0]["versions"]["root"]), (&json!([]), &json!(2)));
    fs::write(&root, &old).unwrap();
    // The far side was pinned to the older one.
    scene.vouches_for_the_newer(&gate);
}

fn without_the_first_root(answer: &mut plimsoll_tests::middle::Answer) {
    let mut manifest: Value = serde_json::from_slice(&answer.body).unwrap();
    let layers = manifest["layers"].as_array_mut().unwrap();
    let all = layers.len();
    layers.retain(|layer| layer["annotations"]["tuf.io/filename"] != "1.root.json");
    assert_eq!(layers.len(), all - 1);
    let body = manifest.to_string().into_bytes();
    let digest = plimsoll_core::oci::Digest::of(&body).to_string();
    answer.body = body.into();
    answer.headers.insert("docker-content-digest", digest.parse().unwrap());
    answer.headers.remove("etag");
}

/// The places of a root may be of any kind; what cannot be carried is told, with what to do.
#[test]
fn places_of_every_kind_are_exported_and_a_bundle_must_have_a_name() {
    let scene = Scene::new();
    let newest = scene.newest();
    let tuf = format!("{}/tuf/{NAME}/metadata", scene.world.daemon.url());
    let (exported, gate) = scene.exported("plain", &[&scene.lagging, &tuf]);
    assert_eq!(exported["trusts"][0]["versions"], newest);
    scene.vouches_for_the_newer(&gate);

    // From the folder that a bundle was put into, under the name that it has there: over the next gap.
    let next = scene.client("next", &["oci:trust"]).under(&["unshare", "--net"]);
    let bundle = gate.home().join("full.tar");
    next.run(&["bundle", "import", bundle.to_str().unwrap(), "--layout", "trust"]).ok();
    let again = next.run(&["bundle", "export", NAME, "--out", "full.tar", "-o", "json"]).ok().json();
    assert_eq!(again["trusts"][0]["versions"], newest);
    assert_eq!(again["trusts"][0]["repository"], scene.lagging);
    scene.vouches_for_the_newer(&next);
    // The same content is the same bundle, whichever way it came.
    assert_eq!(fs::read(&bundle).unwrap(), fs::read(next.home().join("full.tar")).unwrap());

    // Plain TUF files have no name that a registry could put them under; a mirror has the name of where it goes to.
    let nameless = scene.client("nameless", &[&tuf]);
    let refused = nameless.run(&["bundle", "export", NAME, "--out", "full.tar"]).expect_code(2);
    assert!(
        refused.stderr.contains("[root.acme]") && refused.stderr.contains("try: add HOST"),
        "{}",
        refused.stderr
    );
    assert!(!nameless.home().join("full.tar").exists());
    let to = Registry::open();
    nameless.run(&["mirror", NAME, &format!("{}/{TRUST}", to.address())]).ok();
    let reader = scene.client("reader", &[&format!("{}/{TRUST}", to.address())]);
    reader.run(&["resolve", &scene.world.reference("v2")]).ok();
}

/// P1: a mirror copies the newest of all places but the one that it writes to, or what the one has that is named.
#[test]
fn a_mirror_copies_the_newest_of_all_places() {
    let scene = Scene::new();
    let to = Registry::open();
    let there = format!("{}/{TRUST}", to.address());
    let trust = scene.world.trust();
    let carrier = scene.client("many", &[&there, DOWN, &scene.lagging, &trust]);
    // The one that is named, alone; and it is not behind itself.
    let named = carrier.run(&["mirror", &scene.lagging, &there, "-o", "json"]).ok().json();
    assert_eq!((&named["copied"], &named["from"]), (&json!(true), &json!(scene.lagging)));
    assert_eq!(named["skipped"], json!([]));
    let all = carrier.run(&["mirror", NAME, &there, "-o", "json"]).ok().json();
    assert_eq!((&all["copied"], &all["from"]), (&json!(true), &json!(trust)));
    assert_eq!(all["skipped"][0]["place"], DOWN);
    let told = carrier.run(&["mirror", NAME, &there]).ok();
    assert!(told.stderr.contains(DOWN), "{}", told.stderr);
    let reader = scene.client("reader", &[&there]);
    reader.run(&["resolve", &scene.world.reference("v2")]).ok();
    carrier.run(&["mirror", &there, &there]).expect_code(2);
    let absent = format!("{}/{IMAGES}", to.address());
    carrier.run(&["mirror", &absent, &there]).expect_code(2);
}
