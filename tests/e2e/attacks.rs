//! A registry that lies, withholds and breaks, against the real command line (ATTACKS: what a registry's owner can do).

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod victim;

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use data_encoding::BASE64;
use plimsoll::{
    clock::SystemClock,
    home::Home,
    registry::{Registry as Client, RegistryOptions},
    verify::{Context, Mode, Verification, verify},
};
use plimsoll_core::oci::Digest;
use plimsoll_tests::{
    docker_registry::Registry,
    middle::{Answer, Effect, Middle, Rule},
    process::Cli,
    world::{IMAGES, ROLE, Site, TRUST, World, files, state_folder},
};
use serde_json::{Value, json};
use victim::{LATEST, MANIFEST, Stage, Victim, html, latest};

/// T20: P1.
#[test]
fn an_old_entry_point_played_back_is_rollback() {
    let stage = Stage::shared();
    let victim = stage.victim("rollback");
    let old = victim.middle.recorded(LATEST).pop().unwrap();
    stage.world.push("newer", "newer\n");
    stage.world.sign("newer").ok();
    victim.verify().ok();
    for _ in 0..2 {
        victim.attack(LATEST, Effect::Answer(old.clone()));
        victim.is_stopped("replay", 21, &["ROLLBACK", "older metadata", "timestamp"]);
    }
    victim.verify().ok();
}

/// P2: the same answer for ever is noticed when its time is over, and not before.
#[test]
fn a_frozen_entry_point_expires() {
    let stage = Stage::new(|site| site.timestamp(3, 1));
    let victim = stage.victim("freeze");
    victim.attack("/", Effect::Freeze);
    let deadline = Instant::now() + Duration::from_secs(20);
    let expired = loop {
        let run = victim.verify();
        if run.code != 0 || Instant::now() > deadline {
            break run.expect_code(20);
        }
    };
    assert!(expired.stdout.starts_with("EXPIRED"), "{}", expired.stdout);
    victim.is_stopped("freeze", 20, &["timestamp", "expired"]);
    victim.verify().ok();
}

/// T40, T43, T45, T47, T49, P8: what the registry says in place of the entry point.
#[test]
fn a_broken_entry_point_is_untrusted_or_unreachable_and_changes_nothing() {
    let stage = Stage::shared();
    let victim = stage.victim("entry");
    let good = latest(&victim);
    let body = |bytes: &[u8]| Effect::Answer(good.clone().body(bytes.to_vec()));
    let half = good.body.len() / 2;
    let index = json!({"schemaVersion": 2, "mediaType": MANIFEST, "manifests": [], "layers": []}).to_string();
    let index = Answer::status(200).header("content-type", MANIFEST).body(index);
    let lies = Answer::status(200).header("content-type", MANIFEST).header("content-length", "9999999999");
    let around = Answer::status(307).header("location", LATEST);
    for (what, effect, code, words) in [
        ("500", Effect::Status(500), 30, "500"),
        ("503", Effect::Status(503), 30, "503"),
        ("429", Effect::Status(429), 30, "429"),
        ("404", Effect::Status(404), 30, "no trust metadata"),
        ("204", Effect::Status(204), 30, "204"),
        ("reset", Effect::Reset, 30, "UNREACHABLE"),
        ("reset after the request", Effect::ResetAfter, 30, "UNREACHABLE"),
        ("401", Effect::Status(401), 31, "AUTH"),
        ("403", Effect::Status(403), 31, "denies access"),
        ("cut off", Effect::Truncate(half), 30, "cut off"),
        ("shortened", body(&good.body[..half]), 22, "UNTRUSTED"),
        ("empty", body(b""), 22, "UNTRUSTED"),
        ("garbled", Effect::WrongBytes, 22, "UNTRUSTED"),
        ("two documents", body(&[&good.body[..], b"{}"].concat()), 22, "UNTRUSTED"),
        ("a page of HTML", html(), 22, "not a manifest"),
        ("a manifest and an index", Effect::Answer(index), 22, "UNTRUSTED"),
        ("a body without end", Effect::Endless, 22, "larger than"),
        ("an announced body without end", Effect::Answer(lies), 22, "larger than"),
        ("a redirect to itself", Effect::Answer(around), 22, "not followed"),
    ] {
        victim.look_anew();
        victim.attack(LATEST, effect);
        victim.is_stopped(what, code, &[words]);
    }
    victim.verify().ok();
}

/// T45, T49: P5, P8. Nothing that happens on a first contact is proof of absence, either.
#[test]
fn a_first_look_at_a_broken_registry_is_never_absent() {
    let stage = Stage::shared();
    let middle = Middle::start(&stage.registry.address());
    let client = stage.world.client_at("first", &middle.address());
    let reference = stage.world.reference_at(&middle.address(), "v1");
    for (effect, code) in [
        (Effect::Status(404), 30),
        (Effect::Status(500), 30),
        (Effect::Reset, 30),
        (Effect::Status(401), 31),
        (html(), 22),
    ] {
        middle.set(Rule::new("GET", "/acme/trust/"), effect);
        client.run(&["verify", &reference]).expect_code(code);
    }
    middle.clear();
    client.run(&["verify", &reference]).ok();
}

/// T71: one bit, in a document whose digest is made to fit: only the signature can tell.
#[test]
fn a_forged_timestamp_is_untrusted() {
    let stage = Stage::shared();
    let victim = stage.victim("forged");
    let good = latest(&victim);
    let mut manifest: Value = serde_json::from_slice(&good.body).unwrap();
    let layer = &mut manifest["layers"][0];
    assert_eq!(layer["annotations"]["tuf.io/filename"], "timestamp.json");
    let bytes = BASE64.decode(layer["data"].as_str().unwrap().as_bytes()).unwrap();
    let mut timestamp: Value = serde_json::from_slice(&bytes).unwrap();
    let version = timestamp["signed"]["version"].as_u64().unwrap();
    timestamp["signed"]["version"] = json!(version + 1);
    let bytes = timestamp.to_string().into_bytes();
    layer["data"] = json!(BASE64.encode(&bytes));
    layer["digest"] = json!(Digest::of(&bytes));
    layer["size"] = json!(bytes.len());
    victim.attack(LATEST, Effect::Answer(good.clone().body(manifest.to_string())));
    victim.is_stopped("forged version", 22, &["UNTRUSTED", "timestamp"]);

    // Other bytes than the descriptor's digest says: not even looked at.
    manifest["layers"][0]["digest"] = json!(Digest::of(b"other"));
    victim.attack(LATEST, Effect::Answer(good.clone().body(manifest.to_string())));
    victim.is_stopped("wrong digest", 22, &["UNTRUSTED"]);
    victim.verify().ok();
}

/// T40, T43, T47, T49, T71: a role's blob.
#[test]
fn a_broken_blob_is_untrusted_or_unreachable_and_changes_nothing() {
    let stage = Stage::shared();
    let victim = stage.victim("blob");
    let role = state_folder(&victim.client).join(format!("roles/{}.json", Digest::of(ROLE.as_bytes()).hex()));
    for (what, effect, code, words) in [
        ("one bit", Effect::WrongBytes, 22, "digest"),
        ("cut off", Effect::Truncate(10), 30, "cut off"),
        ("a page of HTML", html(), 22, "UNTRUSTED"),
        ("a body without end", Effect::Endless, 22, "UNTRUSTED"),
        ("500", Effect::Status(500), 30, "500"),
        ("404", Effect::Status(404), 30, "does not have it"),
        ("403", Effect::Status(403), 31, "denies access"),
        ("reset", Effect::Reset, 30, "UNREACHABLE"),
    ] {
        fs::remove_file(&role).unwrap();
        victim.attack("/acme/trust/blobs/", effect);
        victim.is_stopped(what, code, &[words]);
        victim.verify().ok();
        assert!(role.exists(), "{what}");
    }
}

/// Design, section 7: a 404 on a blob that `:latest` lists has it fetched once more.
#[test]
fn a_blob_that_is_missing_once_is_fetched_again() {
    let stage = Stage::shared();
    let middle = Middle::start(&stage.registry.address());
    let client = stage.world.client_at("once", &middle.address());
    middle.set(Rule::new("GET", "/acme/trust/blobs/").times(1), Effect::Status(404));
    client.run(&["resolve", &stage.world.reference_at(&middle.address(), "v1")]).ok();
    let log = middle.take_log();
    let statuses: Vec<_> = log.iter().map(|entry| (entry.path.contains("/blobs/"), entry.status)).collect();
    assert_eq!(statuses, [(false, 200), (true, 404), (false, 200), (true, 200)], "{log:#?}");
}

/// T47, T49, T78: what the registry says of the tag itself.
#[test]
fn a_registry_that_lies_about_the_tag_convinces_nobody() {
    let stage = Stage::shared();
    let victim = stage.victim("tag");
    let other = Digest::of(b"another image").to_string();
    let manifest = |digest: &str| {
        let answer = Answer::status(200).header("content-type", MANIFEST).header("content-length", "7");
        Effect::Answer(answer.header("docker-content-digest", digest))
    };
    for (what, effect, code) in [
        ("another digest", manifest(&other), 12),
        ("404", Effect::Status(404), 11),
        ("500", Effect::Status(500), 30),
        ("429", Effect::Status(429), 30),
        ("401", Effect::Status(401), 31),
        ("403", Effect::Status(403), 31),
        ("a page of HTML", html(), 22),
        ("reset", Effect::Reset, 30),
    ] {
        let before = victim.state();
        victim.attack("/acme/net-monitor/manifests/", effect);
        assert_eq!(victim.verify().code, code, "{what}");
        // Which digest the publisher means is not the registry's to say.
        victim.client.run(&["resolve", &victim.reference]).ok();
        assert_eq!(victim.state(), before, "{what}");
        victim.middle.clear();
    }
    victim.verify().ok();
}

/// T48. The command line waits 30 s for a call, and 10 s for 1 KiB; here it is the same code with less patience.
#[test]
fn a_registry_that_stalls_or_drips_is_unreachable_within_the_deadline() {
    let stage = Stage::shared();
    let victim = stage.victim("slow");
    victim.look_anew();
    let before = victim.state();
    for (what, effect, word) in [
        ("stall", Effect::Stall, "did not finish"),
        ("drip", Effect::Drip(Duration::from_millis(20)), "too slow"),
    ] {
        victim.attack(LATEST, effect);
        let verification = impatient(&victim);
        assert_eq!(verification.verdict.exit_code(), 30, "{what}: {verification:?}");
        assert!(verification.reason.contains(word), "{what}: {}", verification.reason);
        assert_eq!(victim.state(), before, "{what}");
        victim.middle.clear();
    }
    victim.verify().ok();
}

/// As `plimsoll verify`, with 2 s for a call and half of one for 1 KiB.
fn impatient(victim: &Victim) -> Verification {
    let options = RegistryOptions {
        deadline: Duration::from_secs(2),
        rate_window: Duration::from_millis(500),
        ..RegistryOptions::default()
    };
    let home = Home::at(victim.client.home());
    let context = Context::load(home, Client::new(options).unwrap(), Arc::new(SystemClock)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reference = victim.reference.parse().unwrap();
    runtime.block_on(verify(&context, &reference, Mode::Verify)).unwrap()
}

/// T12: the memory against rollback is never started anew in silence.
#[test]
fn a_lost_or_torn_memory_stops_everything_until_it_is_reset() {
    let stage = Stage::shared();
    let victim = stage.victim("memory");
    let memory = state_folder(&victim.client).join("memory.json");
    let good = fs::read(&memory).unwrap();
    for torn in [None, Some(&good[..good.len() / 2]), Some(b""), Some(b"{}")] {
        match torn {
            None => fs::remove_file(&memory).unwrap(),
            Some(bytes) => fs::write(&memory, bytes).unwrap(),
        }
        let before = victim.state();
        for command in ["verify", "resolve"] {
            let run = victim.client.run(&[command, &victim.reference]).expect_code(1);
            assert_eq!(run.stdout, "");
            assert!(run.stderr.contains("rollback memory lost"), "{}", run.stderr);
            assert!(run.stderr.contains("`plimsoll trust reset acme`"), "{}", run.stderr);
        }
        let run = victim.client.run(&["status"]).expect_code(1);
        assert!(run.stderr.contains("`plimsoll trust reset acme`"), "{}", run.stderr);
        assert_eq!(victim.state(), before);
    }
    victim.client.run(&["trust", "reset", "acme"]).expect_code(2);
    victim.client.run(&["trust", "reset", "acme", "--yes"]).ok();
    victim.verify().ok();
}

/// T12: cached documents are only a cache.
#[test]
fn torn_cached_documents_are_fetched_again() {
    let stage = Stage::shared();
    let victim = stage.victim("torn");
    let role = format!("roles/{}.json", Digest::of(ROLE.as_bytes()).hex());
    let folder = state_folder(&victim.client);
    for file in
        ["timestamp.json", "snapshot.json", "targets.json", &role, "entry.json", "root.json", "roots/1.json"]
    {
        let path = folder.join(file);
        for torn in [None, Some(0), Some(fs::read(&path).unwrap().len() / 2)] {
            // Others may publish meanwhile: what is compared is as new as it can be.
            victim.verify().ok();
            let good = fs::read(&path).unwrap();
            match torn {
                None => fs::remove_file(&path).unwrap(),
                Some(length) => fs::write(&path, &good[..length]).unwrap(),
            }
            let run = victim.verify();
            assert_eq!(run.code, 0, "{file} {torn:?}: {}{}", run.stdout, run.stderr);
            assert_eq!(run.stderr, "", "{file} {torn:?}");
            let healed = fs::read(&path).unwrap_or_default();
            assert!(serde_json::from_slice::<Value>(&healed).is_ok(), "{file} {torn:?} is not healed");
        }
    }
}

/// T11, T12: with several roots, too, whether or not something changed at the registry.
#[test]
fn a_torn_root_chain_is_walked_again() {
    let stage = Stage::new(|site| site);
    let victim = stage.victim("roots");
    let old = victim.middle.recorded(LATEST).pop().unwrap();
    stage.world.renew_root();
    stage.world.renew_root();
    victim.verify().ok();
    let folder = state_folder(&victim.client);
    for torn in [&["root.json"][..], &["roots/1.json"], &["roots/3.json"], &["root.json", "roots/1.json"]] {
        for changed in [false, true] {
            let before = victim.state();
            for file in torn {
                fs::write(folder.join(file), "{").unwrap();
            }
            if changed {
                victim.look_anew();
            }
            let run = victim.verify();
            assert_eq!(run.code, 0, "{torn:?} {changed}: {}{}", run.stdout, run.stderr);
            assert_eq!(victim.state(), before, "{torn:?} {changed}");
        }
    }
    // A registry that shows only the first root again, with the newest copy torn.
    fs::write(folder.join("root.json"), "{").unwrap();
    victim.attack(LATEST, Effect::Answer(old));
    let run = victim.verify().expect_code(21);
    assert!(run.stdout.contains("root"), "{}", run.stdout);
}

/// T12, P1: a torn cache is no way around the memory.
#[test]
fn an_old_entry_point_is_rollback_with_a_torn_cache_too() {
    let stage = Stage::shared();
    let victim = stage.victim("torn-rollback");
    let old = victim.middle.recorded(LATEST).pop().unwrap();
    stage.world.push("newest", "newest\n");
    stage.world.sign("newest").ok();
    victim.verify().ok();
    let folder = state_folder(&victim.client);
    for file in ["timestamp.json", "snapshot.json", "targets.json", "entry.json", "root.json"] {
        fs::remove_file(folder.join(file)).unwrap();
    }
    victim.attack(LATEST, Effect::Answer(old));
    assert_eq!(victim.verify().code, 21);
    victim.middle.clear();
    victim.verify().ok();
}

/// T70: what another trust repository signed, at the address of this one.
#[test]
fn another_trust_repository_at_the_address_is_untrusted() {
    let stage = Stage::shared();
    let foreign = World::ready(Site::embedded());
    let move_to = |client: &Cli, host: &str| {
        let policy = client.home().join("policy.toml");
        let text = fs::read_to_string(&policy).unwrap();
        let line = text.lines().find(|line| line.starts_with("repository = ")).unwrap().to_owned();
        fs::write(&policy, text.replace(&line, &format!("repository = \"{host}/{TRUST}\""))).unwrap();
    };
    let known = stage.victim("foreign");
    let before = known.state();
    move_to(&known.client, foreign.host());
    let run = known.verify().expect_code(22);
    assert!(run.stdout.starts_with("UNTRUSTED"), "{}", run.stdout);
    assert_eq!(known.state(), before);

    let fresh = stage.world.client("foreign-fresh");
    move_to(&fresh, foreign.host());
    fresh.run(&["verify", &stage.world.reference("v1")]).expect_code(22);
    move_to(&fresh, stage.world.host());
    fresh.run(&["verify", &stage.world.reference("v1")]).ok();
}

/// P1: parallel processes on one state, one of them on the machine that publishes.
#[test]
fn parallel_processes_all_succeed_while_the_publisher_signs() {
    let stage = Stage::new(|site| site);
    let client = stage.world.client("parallel");
    let reference = stage.world.reference("v1");
    stage.world.push("race", "race\n");
    std::thread::scope(|scope| {
        for client in [&client, &client, &client, &client, &client, &stage.world.team()] {
            let (client, reference) = (client.clone(), &reference);
            scope.spawn(move || {
                for _ in 0..6 {
                    client.run(&["verify", reference]).ok();
                }
            });
        }
        for tag in ["race", "v1", "race", "v1"] {
            stage.world.sign(tag).ok();
        }
    });
    assert_no_litter(&state_folder(&client));
    client.run(&["verify", &format!("{}/{IMAGES}:race", stage.world.host())]).ok();
}

/// Nothing half-written stays.
fn assert_no_litter(folder: &Path) {
    let litter: Vec<_> =
        files(folder).into_keys().filter(|path| path.to_string_lossy().ends_with(".tmp")).collect();
    assert!(litter.is_empty(), "{litter:?}");
}

/// P1, P8: a registry that takes no writes is no rollback on the publisher's own machine.
#[test]
fn a_publishers_machine_sees_no_rollback_while_the_registry_takes_no_writes() {
    let registry = Registry::open();
    let middle = Middle::start(&registry.address());
    let world = World::ready(Site::at(&middle.address()));
    world.push("v1", "one\n");
    world.push("v2", "two\n");
    world.sign("v1").ok();
    let team = world.team();
    team.run(&["verify", &world.reference("v1")]).ok();
    middle.set(Rule::new("PUT", LATEST), Effect::Status(503));
    middle.take_log();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| world.sign("v2"));
        middle.wait_for(|entry| entry.method == "PUT" && entry.path.contains("manifests/latest"));
        let second = scope.spawn(|| world.sign("v1"));
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline {
            let run = team.run(&["verify", &world.reference("v1")]);
            run.expect_code(0);
            std::thread::sleep(Duration::from_millis(200));
        }
        middle.clear();
        first.join().unwrap().ok();
        second.join().unwrap().ok();
    });
    team.run(&["verify", &world.reference("v1")]).ok();
}
