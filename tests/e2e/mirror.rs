//! Copies of a trust repository made with other people's tools, and a registry that cleans up behind its back.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::fs;

use plimsoll_core::oci::Digest;
use plimsoll_tests::{
    docker_registry::Registry,
    process::Cli,
    skopeo::{self, Side},
    world::{IMAGES, ROLE, Site, TRUST, World, files, state_folder},
};

/// Copies every tag of the trust repository; returns the tags.
fn mirror(origin: &Registry, copy: &Registry) -> Vec<String> {
    let [from, to] = [origin, copy].map(|registry| format!("{}/{TRUST}", registry.address()));
    let listed = skopeo::list_tags(&from, &Side::plain()).ok().json();
    let tags = listed["Tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned());
    let tags: Vec<String> = tags.collect();
    for tag in &tags {
        let [source, destination] = [&from, &to].map(|repository| format!("docker://{repository}:{tag}"));
        skopeo::copy(&source, &Side::plain(), &destination, &Side::plain()).ok();
    }
    tags
}

/// Makes `client` fetch trust metadata from `host`, and changes nothing else in its policy.
fn fetch_from(client: &Cli, from: &Registry, to: &Registry) {
    let path = client.home().join("policy.toml");
    let policy = fs::read_to_string(&path).unwrap();
    let [old, new] = [from, to].map(|at| format!("repository = \"{}/{TRUST}\"", at.address()));
    assert_eq!(policy.matches(&old).count(), 1, "{policy}");
    fs::write(&path, policy.replace(&old, &new)).unwrap();
}

/// P1, T70: the same trust repository at another address is trusted, and held to what was seen at the first one.
#[test]
fn a_copy_by_skopeo_verifies_and_a_stale_one_reads_rollback() {
    let (origin, copy) = (Registry::open(), Registry::open());
    let world = World::ready(Site::at(&origin.address()));
    let image = world.push("v1", "mirrored\n");
    world.sign("v1").ok();
    let client = world.client("client");
    client.run(&["verify", &world.reference("v1")]).ok();
    let seen = state_folder(&client);

    let tags = mirror(&origin, &copy);
    assert_eq!(tags, ["latest", ROLE]);
    for tag in &tags {
        let [a, b] = [&origin, &copy].map(|registry| {
            let reference = format!("{}/{TRUST}:{tag}", registry.address());
            Digest::of(skopeo::inspect_raw(&reference, &Side::plain()).ok().stdout.as_bytes())
        });
        assert_eq!(a, b, "{tag}");
    }

    // The same reference, vouched for by what the copy holds; what was seen is still known.
    fetch_from(&client, &origin, &copy);
    let json = client.run(&["verify", &world.reference("v1"), "-o", "json"]).ok().json();
    assert_eq!(json["digest"], image.digest().to_string());
    assert_eq!(json["roots"][0]["source"], format!("{}/{TRUST}", copy.address()));
    assert_eq!(state_folder(&client), seen);
    // So it does on a machine that never saw the origin.
    let fresh = world.client("fresh");
    fetch_from(&fresh, &origin, &copy);
    fresh.run(&["verify", &world.reference("v1")]).ok();

    // The origin moves on, and the copy does not.
    fetch_from(&client, &copy, &origin);
    world.push("v2", "newer\n");
    world.sign("v2").ok();
    client.run(&["verify", &world.reference("v2")]).ok();
    fetch_from(&client, &origin, &copy);
    let before = files(&seen);
    for tag in ["v1", "v2"] {
        let stale = client.run(&["verify", &world.reference(tag)]).expect_code(21);
        assert!(stale.stdout.starts_with("ROLLBACK"), "{}", stale.stdout);
    }
    assert_eq!(files(&seen), before);
    // Who never saw the newer one is shown what the copy has, while it is fresh.
    fresh.run(&["verify", &world.reference("v1")]).ok();
    fresh.run(&["verify", &world.reference("v2")]).expect_code(10);

    // Copied again, it is good again.
    assert_eq!(mirror(&origin, &copy), tags);
    client.run(&["verify", &world.reference("v2")]).ok();
}

/// Design, section 7: nothing of the trust repository is without a tag, so nothing of it is garbage.
#[test]
fn garbage_collection_takes_old_versions_and_leaves_what_counts() {
    let mut registry = Registry::open();
    let world = World::ready(Site::at(&registry.address()));
    for tag in ["v1", "v2", "v3"] {
        world.push(tag, tag);
        world.sign(tag).ok();
    }
    let old = world.client("old");
    old.run(&["verify", &world.reference("v1")]).ok();

    registry.stop();
    let collected = registry.collect_garbage().ok();
    assert!(collected.stdout.contains("manifest eligible for deletion"), "{}", collected.stdout);
    registry.start_again();

    for client in [old, world.client("new")] {
        for tag in ["v1", "v2", "v3"] {
            client.run(&["verify", &world.reference(tag)]).ok();
        }
        client.run(&["verify", &format!("{}/{IMAGES}:v4", world.host())]).expect_code(10);
    }
    // The daemon writes on, although the registry has forgotten blobs that it once had.
    world.push("v4", "v4");
    world.sign("v4").ok();
    world.client("new").run(&["verify", &world.reference("v4")]).ok();
}
