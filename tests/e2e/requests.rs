//! What verification costs a registry: every request, in order, and the bytes that come back.

#![expect(clippy::print_stdout, reason = "what it costs is worth reading")]

use plimsoll_tests::{
    docker_registry::Registry,
    middle::{Entry, Middle},
    process::Cli,
    world::{IMAGES, ROLE, Site, World, files, state_folder},
};

const LATEST: &str = "/v2/acme/trust/manifests/latest";

#[test]
fn docker_registry_sees_one_request_when_nothing_changed() {
    let registry = Registry::open();
    let world = World::ready(Site::at(&registry.address()));
    count(&world, &Middle::start(&registry.address()));
}

#[test]
fn the_embedded_registry_sees_one_request_when_nothing_changed() {
    let world = World::ready(Site::embedded());
    count(&world, &Middle::start(&world.daemon.address()));
}

fn count(world: &World, middle: &Middle) {
    let image = world.push("v1", "counted\n");
    world.sign("v1").ok();
    world.sign_elsewhere("v1");
    let client = world.client_at("client", &middle.address());
    let tag = world.reference_at(&middle.address(), "v1");
    let digest = format!("{}/{IMAGES}@{}", middle.address(), image.digest());
    let manifest = format!("/v2/{IMAGES}/manifests/v1");
    let role = role_blob(&client, &tag, middle);
    let seen = |what: &str| spent(what, middle);

    // The first look: the entry point, the one role on the way to the name, and the tag. Nothing of other namespaces.
    let cold = world.client_at("cold", &middle.address());
    cold.run(&["verify", &tag]).ok();
    let log = seen("first verify of a tag");
    assert_eq!(
        requests(&log),
        [("GET", LATEST, 200), ("GET", role.as_str(), 200), ("HEAD", manifest.as_str(), 200)]
    );
    assert!(bytes(&log) < 32 << 10, "{log:#?}");

    let state = files(&state_folder(&client));
    client.run(&["resolve", &tag]).ok();
    steady(&seen("resolve, nothing changed"), &[("GET", LATEST, 304)]);
    client.run(&["verify", &digest]).ok();
    steady(&seen("verify of a digest, nothing changed"), &[("GET", LATEST, 304)]);
    client.run(&["verify", &tag]).ok();
    let both = [("GET", LATEST, 304), ("HEAD", manifest.as_str(), 200)];
    steady(&seen("verify of a tag, nothing changed"), &both);
    let absent = format!("{}/{IMAGES}:v9", middle.address());
    client.run(&["verify", &absent]).expect_code(10);
    steady(&seen("verify of an unsigned tag, nothing changed"), &[("GET", LATEST, 304)]);
    assert_eq!(files(&state_folder(&client)), state, "nothing changed, so nothing is written");
    client.run(&["verify", "registry.invalid/a/b:v1"]).expect_code(17);
    assert_eq!(requests(&seen("verify without a policy")), []);

    // Somebody else's namespace changes: its role is not fetched.
    world.sign_elsewhere("v2");
    client.run(&["verify", &tag]).ok();
    let log = seen("verify of a tag, another namespace changed");
    assert_eq!(requests(&log), [("GET", LATEST, 200), ("HEAD", manifest.as_str(), 200)]);

    // This namespace changes: one blob more.
    world.push("v2", "counted again\n");
    world.sign("v2").ok();
    client.run(&["verify", &tag]).ok();
    let log = seen("verify of a tag, its namespace changed");
    let [latest, blob, head] = requests(&log)[..] else { panic!("{log:#?}") };
    assert_eq!((latest, head), (("GET", LATEST, 200), ("HEAD", manifest.as_str(), 200)));
    assert_eq!((blob.0, blob.2), ("GET", 200));
    assert!(blob.1.starts_with("/v2/acme/trust/blobs/sha256:") && blob.1 != role, "{blob:?}");
    client.run(&["verify", &tag]).ok();
    steady(&seen("and again"), &both);
}

/// Brings `client` up to date; returns the path of the blob with the team's role.
fn role_blob(client: &Cli, tag: &str, middle: &Middle) -> String {
    let json = client.run(&["verify", tag, "-o", "json"]).ok().json();
    assert_eq!(json["roots"][0]["path"][1], ROLE);
    let log = middle.take_log();
    let blobs: Vec<_> = log.iter().filter(|entry| entry.path.contains("/blobs/")).collect();
    assert_eq!(blobs.len(), 1, "{log:#?}");
    blobs[0].path.clone()
}

/// Takes the log, and says what it cost.
fn spent(what: &str, middle: &Middle) -> Vec<Entry> {
    let log = middle.take_log();
    let list: Vec<String> = log.iter().map(|entry| format!("{} {} B", entry.status, entry.sent)).collect();
    println!("{what}: {} requests ({}), {} B of body", log.len(), list.join(", "), bytes(&log));
    log
}

fn requests(log: &[Entry]) -> Vec<(&str, &str, u16)> {
    log.iter().map(|entry| (entry.method.as_str(), entry.path.as_str(), entry.status)).collect()
}

fn bytes(log: &[Entry]) -> u64 {
    log.iter().map(|entry| entry.sent).sum()
}

/// Exactly these requests, the first one conditional, and next to nothing sent.
#[track_caller]
fn steady(log: &[Entry], expected: &[(&str, &str, u16)]) {
    assert_eq!(requests(log), expected);
    assert!(log[0].conditional, "{log:#?}");
    assert!(bytes(log) <= 1024 && log.iter().all(|entry| entry.received == 0), "{log:#?}");
}
