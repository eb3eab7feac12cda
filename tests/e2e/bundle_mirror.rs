//! `plimsoll mirror`: a trust repository copied between registries, verified, forward only, the entry point last.

use std::{fs, process::Command};

use plimsoll_tests::{
    docker_registry::Registry,
    middle::{Effect, Middle, Rule},
    process::{Service, binary},
    world::{IMAGES, NAME, ROLE, Site, TRUST, World, files, state_folder},
};

#[test]
fn a_mirror_copies_what_verifies_and_says_how_far_it_was_behind() {
    let (origin, copy) = (Registry::open(), Registry::open());
    let world = World::ready(Site::at(&origin.address()));
    let image = world.push("v1", "mirrored\n");
    world.sign("v1").ok();
    let middle = Middle::start(&copy.address());
    let to = format!("{}/{TRUST}", middle.address());
    let carrier = world.client("carrier");

    let first = carrier.run(&["mirror", NAME, &to, "-o", "json"]).ok().json();
    assert_eq!((&first["copied"], &first["before"]), (&true.into(), &serde_json::Value::Null));
    // Roles before the entry point, and that last; then it is read back.
    let log = middle.take_log();
    let puts: Vec<String> = log
        .iter()
        .filter(|entry| entry.method == "PUT" && entry.path.contains("/manifests/"))
        .map(|entry| entry.path.rsplit('/').next().unwrap().to_owned())
        .collect();
    assert_eq!(puts, [ROLE, "latest"]);
    let last = log.iter().rposition(|entry| entry.method == "PUT").unwrap();
    assert!(log[last].path.ends_with("/manifests/latest"), "{:?}", log[last]);
    let reader = world.client_at("reader", &copy.address());
    image.push(&world.reference_at(&copy.address(), "v1"), &world.side()).ok();
    reader.run(&["verify", &world.reference_at(&copy.address(), "v1")]).ok();

    // Nothing changed: nothing is written.
    let same = carrier.run(&["mirror", &world.trust(), &to, "-o", "json"]).ok().json();
    assert_eq!((&same["copied"], &same["lag"]), (&false.into(), &0.into()));
    assert!(middle.take_log().iter().all(|entry| entry.method == "GET"));

    // A revocation reaches the readers of the copy with the next look.
    world.revoke("v1", "it leaks").ok();
    reader.run(&["verify", &world.reference_at(&copy.address(), "v1")]).ok();
    let next = carrier.run(&["mirror", NAME, &to, "-o", "json"]).ok().json();
    assert_eq!(next["copied"], true);
    assert_eq!(next["before"], same["timestamp"]);
    assert!(next["lag"].is_u64(), "{next}");
    reader.run(&["verify", &world.reference_at(&copy.address(), "v1")]).expect_code(14);
}

/// P1, T79: a copy never goes back, by whomever; and what does not verify is not copied.
#[test]
fn a_mirror_never_puts_something_older_or_untrusted_in_the_place_of_a_copy() {
    let (origin, first, second) = (Registry::open(), Registry::open(), Registry::open());
    let world = World::ready(Site::at(&origin.address()));
    world.push("v1", "mirrored\n");
    world.sign("v1").ok();
    let carrier = world.client("carrier");
    let [one, two] = [&first, &second].map(|registry| format!("{}/{TRUST}", registry.address()));
    carrier.run(&["mirror", NAME, &one]).ok();
    world.renew_root();
    world.push("v2", "newer\n");
    world.sign("v2").ok();
    carrier.run(&["mirror", NAME, &two]).ok();

    // The first copy, which lags, is copied over the second by a machine that has seen neither.
    let middle = Middle::start(&second.address());
    let through = format!("{}/{TRUST}", middle.address());
    let naive = world.client_at("naive", &first.address());
    let refused = naive.run(&["mirror", NAME, &through]).expect_code(21);
    assert!(refused.stderr.contains("newer"), "{}", refused.stderr);
    assert!(middle.take_log().iter().all(|entry| entry.method == "GET"));
    // And by one that has seen the newer one: its own memory refuses.
    let text = fs::read_to_string(carrier.home().join("policy.toml")).unwrap();
    let stale =
        text.replace(&format!("repository = \"{}\"", world.trust()), &format!("repository = \"{one}\""));
    assert_ne!(text, stale);
    fs::write(carrier.home().join("policy.toml"), stale).unwrap();
    let seen = files(&state_folder(&carrier));
    carrier.run(&["mirror", NAME, &through]).expect_code(21);
    assert_eq!(files(&state_folder(&carrier)), seen);
    assert!(middle.take_log().is_empty());

    // An ordinary image is not written over, and nothing is copied onto itself.
    let image = format!("{}/{IMAGES}", second.address());
    plimsoll_tests::image::Image::busybox("x").push(&format!("{image}:latest"), &world.side()).ok();
    naive.run(&["mirror", NAME, &image]).expect_code(22);
    naive.run(&["mirror", NAME, &one]).expect_code(2);
    naive.run(&["mirror", "nobody", &two]).expect_code(2);
}

#[test]
fn a_watch_goes_on_until_it_is_told_to_end_and_over_short_outages() {
    let (origin, copy) = (Registry::open(), Registry::open());
    let world = World::ready(Site::at(&origin.address()));
    world.push("v1", "mirrored\n");
    world.sign("v1").ok();
    let middle = Middle::start(&copy.address());
    let carrier = world.client("carrier");
    let mut command = Command::new(binary("plimsoll"));
    command.args(["mirror", NAME, &format!("{}/{TRUST}", middle.address()), "--watch", "--interval", "1s"]);
    command.env("PLIMSOLL_HOME", carrier.home()).env("HOME", carrier.home());
    let mut watch = Service::start(&mut command);
    watch.wait_for(|line| line.starts_with("copied").then_some(()));
    middle.set(Rule::new("GET", "manifests/latest").times(1), Effect::Status(503));
    watch.wait_for(|line| line.contains("try 1 of").then_some(()));
    world.push("v2", "two\n");
    world.sign("v2").ok();
    let line = watch
        .wait_for(|line| (line.starts_with("copied") && line.contains("behind")).then(|| line.to_owned()));
    assert!(line.contains("behind, at timestamp"), "{line}");
    assert_eq!(watch.terminate(), 0);
    let reader = world.client_at("reader", &copy.address());
    let absent = format!("{}/{IMAGES}:v3", copy.address());
    reader.run(&["verify", &absent]).expect_code(10);
}
