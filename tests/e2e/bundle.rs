//! Trust that is carried through an air gap, with the real binaries: what leaves, what arrives, and that nothing goes back.
//! The far side is a network namespace without routes.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]
#![expect(clippy::print_stdout, reason = "how large a delta is, is worth reading")]

use std::{fs, path::Path, process::Command};

use plimsoll::{
    clock::{Clock, SystemClock},
    update::{Bounds, LayoutSource, Session},
};
use plimsoll_core::{oci::Digest, tuf::Outcome};
use plimsoll_tests::{
    docker_registry::Registry,
    gap::Gap,
    image::Image,
    middle::Middle,
    process::{self, Cli, Run},
    world::{IMAGES, NAME, ROLE, Site, TRUST, World, files, state_folder},
};
use serde_json::Value;

/// skopeo reads `source` (`oci-archive:FILE:NAME`); the bytes of its manifest in `stdout`.
fn skopeo_raw(source: &str) -> Run {
    process::run(Command::new("skopeo").args(["inspect", "--raw", source]), b"")
}

/// A machine that runs everything in the gap.
fn inside(gap: &Gap, machine: Cli) -> Cli {
    machine.under(&gap.enter())
}

/// What the layout at `place` says of `name`, held to nothing that was seen before. No network: a file is all there is.
fn in_layout(place: &Path, root: &Path, name: &str) -> Outcome {
    let state = tempfile::tempdir().unwrap();
    let source = LayoutSource::open(place, None).unwrap();
    let (root, now) = (fs::read(root).unwrap(), SystemClock.now());
    let bounds = Bounds::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut session = Session::refresh(source, state.path(), &root, now, &bounds).await.unwrap();
        session.find(name).await.unwrap()
    })
}

fn path(machine: &Cli, name: &str) -> String {
    machine.home().join(name).to_str().unwrap().to_owned()
}

/// P1, P3: the whole way. Also T70: the same trust repository at another address is trusted.
#[test]
fn trust_and_images_cross_a_gap_revocations_follow_and_nothing_goes_back() {
    let near = Registry::open();
    let world = World::ready(Site::at(&near.address()));
    let index = Image::busybox_index("carried\n");
    index.push(&world.reference("v1"), &world.side()).ok();
    let second = world.push("v2", "second\n");
    world.sign("v1").ok();
    world.sign("v2").ok();
    world.push("unsigned", "nobody vouches for this\n");
    world.sign_elsewhere("v1");

    // What leaves: everything that verifies, the same bytes each time, readable by others.
    let gate = world.client("gate");
    let exported = gate.run(&["bundle", "export", NAME, "--with-images", "--out", "full.tar", "-o", "json"]);
    let exported = exported.ok().json();
    assert_eq!(exported["images"].as_array().unwrap().len(), 3, "{exported}");
    assert_eq!(exported["unverified"], serde_json::json!({}));
    gate.run(&["bundle", "export", NAME, "--with-images", "--out", "again.tar"]).ok();
    let full = path(&gate, "full.tar");
    assert_eq!(fs::read(&full).unwrap(), fs::read(path(&gate, "again.tar")).unwrap());
    gate.run(&["bundle", "export", NAME, "--out", "full.tar"]).expect_code(2);
    for (name, digest) in [("v1", index.digest()), ("v2", second.digest())] {
        let raw = skopeo_raw(&format!("oci-archive:{full}:{}", world.reference(name))).ok();
        assert_eq!(Digest::of(raw.stdout.as_bytes()), digest, "{name}");
    }
    // Not only the manifest: the whole image with all platforms is copied out of it.
    let [image, out] = [format!("oci-archive:{full}:{}", world.reference("v1")), path(&gate, "copied")];
    let copy = ["--insecure-policy", "copy", "--all", "--preserve-digests", "--quiet"];
    let copied = process::run(Command::new("skopeo").args(copy).args([image, format!("oci:{out}:v1")]), b"");
    copied.ok();
    assert_eq!(Digest::of(skopeo_raw(&format!("oci:{out}:v1")).ok().stdout.as_bytes()), index.digest());
    let latest = skopeo_raw(&format!("oci-archive:{full}:{}/{TRUST}:latest", near.address())).ok();
    assert!(latest.stdout.contains("application/vnd.tuf.repository.v1+json"), "{}", latest.stdout);
    skopeo_raw(&format!("oci-archive:{full}:{}/{TRUST}:{ROLE}", near.address())).ok();

    // What is inside is told without a network, and without believing it.
    let gap = Gap::new();
    assert_eq!(gap.run("busybox", &["ip", "route"]).ok().stdout, "");
    let far = gap.registry();
    let machine = inside(&gap, world.client_at("far", &far.address()));
    let inspected = machine.run(&["bundle", "inspect", &full, "-o", "json"]).ok().json();
    assert_eq!(inspected["trusts"][0]["repository"], world.trust());
    assert_eq!(inspected["missing"], serde_json::json!([]));
    assert!(inspected["trusts"][0]["as_of"].is_string() && inspected["trusts"][0]["age"].is_u64());
    assert!(inspected["trusts"][0]["versions"][ROLE].is_u64(), "{inspected}");

    // What arrives: in a registry behind the gap.
    let reference = |tag: &str| format!("{}/{IMAGES}:{tag}", far.address());
    machine.run(&["verify", &reference("v1")]).expect_code(30);
    let imported = machine.run(&["bundle", "import", &full, "--to", &far.address(), "-o", "json"]).ok();
    fs::write(machine.home().join("far.json"), &imported.stdout).unwrap();
    assert_eq!(imported.json()["trusts"][0]["new"], true);
    for (tag, digest) in [("v1", index.digest()), ("v2", second.digest())] {
        let verified = machine.run(&["verify", &reference(tag), "-o", "json"]).ok().json();
        assert_eq!(verified["digest"], digest.to_string());
    }
    machine.run(&["verify", &format!("{}/acme/other:v1", far.address())]).ok();
    // All platforms, all layers: somebody else's tool pulls it there.
    let pulled = ["--insecure-policy", "copy", "--all", "--quiet", "--src-tls-verify=false"];
    let source = format!("docker://{}", reference("v1"));
    let pulled =
        gap.run("skopeo", &[&pulled[..], &[&source, &format!("oci:{}:v1", path(&machine, "out"))]].concat());
    pulled.ok();
    // Once more is no fault, and changes nothing.
    let before = files(&state_folder(&machine));
    let again = machine.run(&["bundle", "import", &full, "--to", &far.address()]).ok();
    assert!(again.stdout.starts_with("nothing new"), "{}", again.stdout);
    assert_eq!(files(&state_folder(&machine)), before);

    // And in a folder, on a machine that has not even loopback.
    let cell = world.client("cell").under(&["unshare", "--net"]);
    cell.run(&["bundle", "import", &full, "--layout", "trust"]).ok();
    let (layout, root) = (cell.home().join("trust"), world.owner().home().join("acme-root.json"));
    let name = format!("{IMAGES}:v1");
    let vouched = |place: &Path| match in_layout(place, &root, &name) {
        Outcome::Found(found) => found.revocation(&index.digest()).is_none(),
        _ => false,
    };
    // The folder, and the bundle itself.
    assert!(vouched(&layout) && vouched(Path::new(&full)));
    let raw = skopeo_raw(&format!("oci:{}:{}", layout.display(), world.reference("v1"))).ok();
    assert_eq!(Digest::of(raw.stdout.as_bytes()), index.digest());

    // A revocation is a few kilobytes, and arrives at both.
    world.revoke("v1", "it leaks").ok();
    let since = path(&machine, "far.json");
    gate.run(&["bundle", "export", NAME, "--metadata-only", "--since", &since, "--out", "delta.tar"]).ok();
    let delta = path(&gate, "delta.tar");
    let bytes = fs::metadata(&delta).unwrap().len();
    println!("a delta for one revocation: {bytes} bytes; everything: {}", fs::metadata(&full).unwrap().len());
    assert!(bytes < 24 << 10, "{bytes}");
    let inspected = machine.run(&["bundle", "inspect", &delta, "-o", "json"]).ok().json();
    assert!(!inspected["missing"].as_array().unwrap().is_empty(), "{inspected}");
    machine.run(&["verify", &reference("v1")]).ok();
    machine.run(&["bundle", "import", &delta, "--to", &far.address()]).ok();
    machine.run(&["verify", &reference("v1")]).expect_code(14);
    machine.run(&["verify", &reference("v2")]).ok();
    cell.run(&["bundle", "import", &delta, "--layout", "trust"]).ok();
    assert!(!vouched(&layout));

    // Nothing goes back: where the newer one was seen, and where only the registry shows it.
    let seen = files(&state_folder(&machine));
    let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
    let latest = format!("http://{}/v2/{TRUST}/manifests/latest", far.address());
    let shown = || gap.run("busybox", &["wget", "-qO-", "--header", accept, &latest]).ok().stdout;
    let before = shown();
    let old = machine.run(&["bundle", "import", &full, "--to", &far.address()]).expect_code(21);
    assert!(old.stderr.contains("ROLLBACK"), "{}", old.stderr);
    assert_eq!(files(&state_folder(&machine)), seen);
    let fresh = inside(&gap, world.client_at("fresh", &far.address()));
    let old = fresh.run(&["bundle", "import", &full, "--to", &far.address()]).expect_code(21);
    assert!(old.stderr.contains("newer"), "{}", old.stderr);
    cell.run(&["bundle", "import", &full, "--layout", "trust"]).expect_code(21);
    assert_eq!(shown(), before);
    machine.run(&["verify", &reference("v1")]).expect_code(14);
}

/// P3: a floor is enough to leave out what the far side has. A delta brings no more than it must.
#[test]
fn a_bundle_of_one_reference_has_its_roles_alone_and_a_delta_what_is_new() {
    let near = Registry::open();
    let world = World::ready(Site::at(&near.address()));
    world.push("v1", "one\n");
    world.sign("v1").ok();
    world.sign_elsewhere("v1");
    let gate = world.client("gate");
    let export = |what: &str, out: &str, more: &[&str]| -> Value {
        let arguments = [&["bundle", "export", what, "--out", out, "-o", "json"], more].concat();
        gate.run(&arguments).ok().json()
    };
    let roles = |exported: &Value| {
        let versions = exported["trusts"][0]["versions"].as_object().unwrap();
        versions.keys().filter(|role| role.contains("--")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(roles(&export(&world.reference("v1"), "one.tar", &[])), [ROLE]);
    assert_eq!(roles(&export(NAME, "all.tar", &[])), [ROLE, "targets--other"]);

    // The far side has everything; then one team signs.
    let cell = world.client("cell").under(&["unshare", "--net"]);
    let all = path(&gate, "all.tar");
    let state = cell.run(&["bundle", "import", &all, "--layout", "trust", "-o", "json"]).ok().stdout;
    fs::write(gate.home().join("state.json"), state).unwrap();
    world.push("v2", "two\n");
    world.sign("v2").ok();
    export(NAME, "delta.tar", &["--since", "state.json"]);
    let delta = gate.run(&["bundle", "inspect", "delta.tar", "-o", "json"]).ok().json();
    let inside = delta["trusts"][0]["versions"].as_object().unwrap();
    assert!(inside.contains_key(ROLE) && !inside.contains_key("targets--other"), "{delta}");
    cell.run(&["bundle", "import", &path(&gate, "delta.tar"), "--layout", "trust"]).ok();
    let root = world.owner().home().join("acme-root.json");
    for name in [format!("{IMAGES}:v2"), "acme/other:v1".to_owned()] {
        assert!(matches!(in_layout(&cell.home().join("trust"), &root, &name), Outcome::Found(_)), "{name}");
    }

    // A bundle of one reference alone would take the other role's news away from here: it is refused, by name.
    world.sign_elsewhere("v2");
    let other = format!("{}/acme/other:v2", world.host());
    export(&world.reference("v1"), "narrow.tar", &[]);
    let lacks =
        cell.run(&["bundle", "import", &path(&gate, "narrow.tar"), "--layout", "trust"]).expect_code(30);
    assert!(lacks.stderr.contains("targets--other"), "{}", lacks.stderr);
    export(&other, "other.tar", &["--since", "state.json"]);
    cell.run(&["bundle", "import", &path(&gate, "other.tar"), "--layout", "trust"]).ok();

    // By a floor.
    let floor = gate.run(&["trust", "floor", NAME, "--out", "floor.json"]);
    floor.ok();
    world.revoke("v1", "withdrawn").ok();
    export(NAME, "by-floor.tar", &["--since", "floor.json"]);
    let bytes = |name: &str| fs::metadata(gate.home().join(name)).unwrap().len();
    assert!(bytes("by-floor.tar") < bytes("all.tar"), "{} {}", bytes("by-floor.tar"), bytes("all.tar"));
    cell.run(&["bundle", "import", &path(&gate, "by-floor.tar"), "--layout", "trust"]).ok();

    // What is not signed does not travel as an image.
    world.push("unsigned", "nobody\n");
    let unsigned = world.reference("unsigned");
    let refused =
        gate.run(&["bundle", "export", &unsigned, "--with-images", "--out", "u.tar"]).expect_code(10);
    assert!(refused.stderr.contains("ABSENT"), "{}", refused.stderr);
    let revoked = gate.run(&["bundle", "export", &world.reference("v1"), "--with-images", "--out", "u.tar"]);
    revoked.expect_code(14);
    assert!(!gate.home().join("u.tar").exists());
    gate.run(&["bundle", "export", "registry.invalid/a:v1", "--out", "u.tar"]).expect_code(17);
}

/// P2, P3, P8: a machine without any network verifies from the folder that a policy names as a place. A bundle that was long
/// on the way is EXPIRED, unless the policy says by how much.
#[test]
fn a_machine_without_a_network_verifies_from_a_folder_and_time_passes_there_too() {
    let near = Registry::open();
    let world = World::ready(Site::at(&near.address()));
    let image = world.push("v1", "carried\n");
    world.sign("v1").ok();
    let gate = world.client("gate");
    gate.run(&["bundle", "export", NAME, "--out", "full.tar", "-o", "json"]).ok();
    let plain = world.client("cell");
    let cell = plain.clone().under(&["unshare", "--net"]);
    let policy = plain.home().join("policy.toml");
    let text = fs::read_to_string(&policy).unwrap();
    let place = format!("\"{}\"", world.trust());
    assert_eq!(text.matches(&place).count(), 1, "{text}");
    fs::write(&policy, text.replace(&place, "\"oci:trust\"")).unwrap();
    let digest = format!("{}/{IMAGES}@{}", world.host(), image.digest());

    // Before anything came, nothing is known, least of all that it is absent.
    cell.run(&["verify", &digest]).expect_code(30);
    cell.run(&["bundle", "import", &path(&gate, "full.tar"), "--layout", "trust"]).ok();
    cell.run(&["verify", &digest]).ok();
    let resolved = cell.run(&["resolve", &world.reference("v1")]).ok();
    assert_eq!(resolved.stdout.trim(), digest);
    cell.run(&["verify", &format!("{}/{IMAGES}@{}", world.host(), Digest::of(b"x"))]).expect_code(10);
    // A spoilt folder vouches for nothing, and what was verified is still remembered.
    let state = files(&state_folder(&plain));
    let index = plain.home().join("trust/index.json");
    let sound = fs::read(&index).unwrap();
    fs::write(&index, b"{}").unwrap();
    cell.run(&["verify", &digest]).expect_code(22);
    fs::write(&index, sound).unwrap();
    assert_eq!(files(&state_folder(&plain)), state);

    world.revoke("v1", "it leaks").ok();
    gate.run(&["bundle", "export", NAME, "--out", "later.tar"]).ok();
    // Three days on the way: the timestamp lives for one.
    let late = ["env", "FAKETIME_DONT_FAKE_MONOTONIC=1", "faketime", "-f", "+3d"];
    let late = cell.under(&late);
    let expired =
        late.run(&["bundle", "import", &path(&gate, "later.tar"), "--layout", "trust"]).expect_code(20);
    assert!(expired.stderr.contains("EXPIRED"), "{}", expired.stderr);
    late.run(&["verify", &digest]).expect_code(20);
    let text = fs::read_to_string(&policy).unwrap();
    let scope = "[[scope]]\n";
    assert_eq!(text.matches(scope).count(), 1, "{text}");
    fs::write(&policy, text.replace(scope, "[[scope]]\nmax-staleness = \"7d\"\n")).unwrap();
    late.run(&["verify", &digest]).ok();
    late.run(&["bundle", "import", &path(&gate, "later.tar"), "--layout", "trust"]).ok();
    late.run(&["verify", &digest]).expect_code(14);
    // It relaxes time and no version.
    late.run(&["bundle", "import", &path(&gate, "full.tar"), "--layout", "trust"]).expect_code(21);
}

/// T16: a role that ran out on the way takes its own names with it, and those below it, and holds up nothing else.
#[test]
fn roles_that_expire_on_the_way_hold_up_nothing_else() {
    let near = Registry::open();
    let world = World::ready(Site::at(&near.address()));
    let image = world.push("v1", "carried\n");
    world.sign("v1").ok();
    // A role below the team's.
    world.generate_key("other").ok();
    let public = world.machine("other").home().join("other.pub");
    let scope = format!("{IMAGES}:d*");
    let delegate =
        ["delegate", "add", &scope, "--label", "d", "--parent", ROLE, "--pub", public.to_str().unwrap()];
    let key = ["--key", "team.key", "--passphrase-file", "passphrase"];
    world.team().run(&[&delegate[..], &key].concat()).ok();
    world.push("d1", "deep\n");
    let other = world.client("other").env("PLIMSOLL_SERVER", &world.daemon.url());
    let key = ["--key", "other.key", "--passphrase-file", "passphrase"];
    other.run(&[&["sign", world.reference("d1").as_str()], &key[..]].concat()).ok();
    let gate = world.client("gate");
    let exported = gate.run(&["bundle", "export", NAME, "--out", "full.tar", "-o", "json"]).ok().json();
    assert!(exported["trusts"][0]["versions"][format!("{ROLE}--d")].is_u64(), "{exported}");

    let plain = world.client("late");
    let policy = plain.home().join("policy.toml");
    let text = fs::read_to_string(&policy).unwrap();
    let text = text.replace(&format!("\"{}\"", world.trust()), "\"oci:trust\"");
    fs::write(&policy, text.replace("[[scope]]\n", "[[scope]]\nmax-staleness = \"200d\"\n")).unwrap();
    let late = ["env", "FAKETIME_DONT_FAKE_MONOTONIC=1", "faketime", "-f", "+95d"];
    let late = plain.clone().under(&["unshare", "--net"]).under(&late);
    late.run(&["bundle", "import", &path(&gate, "full.tar"), "--layout", "trust"]).ok();
    late.run(&["verify", &format!("{}/{IMAGES}@{}", world.host(), image.digest())]).expect_code(20);
    // What no expired role may speak about: the search comes to its end. Only that a view this stale proves no absence.
    let elsewhere = format!("{}/acme/elsewhere@{}", world.host(), image.digest());
    let absent = late.run(&["verify", &elsewhere]).expect_code(20);
    assert!(absent.stdout.contains("root acme does not list"), "{}", absent.stdout);
}

/// A layer that is longer than what is sent or held at once.
#[test]
fn large_layers_cross_in_pieces() {
    let (near, far) = (Registry::open(), Registry::open());
    let world = World::ready(Site::at(&near.address()));
    let image = world.push("large", &"0123456789abcdef".repeat(20 << 16));
    world.sign("large").ok();
    let (gate, middle) = (world.client("gate"), Middle::start(&far.address()));
    gate.run(&["bundle", "export", &world.reference("large"), "--with-images", "--out", "large.tar"]).ok();
    let machine = world.client_at("far", &middle.address());
    machine.run(&["bundle", "import", &path(&gate, "large.tar"), "--to", &middle.address()]).ok();
    let log = middle.take_log();
    let pieces: Vec<u64> =
        log.iter().filter(|sent| sent.method == "PATCH").map(|sent| sent.received).collect();
    assert!(pieces.len() >= 4 && pieces.iter().all(|piece| *piece <= 8 << 20), "{pieces:?}");
    // The image's tag before the entry point, which is the last of all.
    let puts = log.iter().filter(|sent| sent.method == "PUT" && sent.path.contains("/manifests/"));
    let puts: Vec<&str> = puts.map(|sent| sent.path.rsplit('/').next().unwrap()).collect();
    assert_eq!(puts, ["large", ROLE, "latest"]);
    let verified = machine.run(&["verify", &world.reference_at(&middle.address(), "large"), "-o", "json"]);
    assert_eq!(verified.ok().json()["digest"], image.digest().to_string());
    // What is there is not sent once more.
    machine.run(&["bundle", "import", &path(&gate, "large.tar"), "--to", &middle.address()]).ok();
    assert!(
        middle
            .take_log()
            .iter()
            .all(|sent| sent.method != "PATCH" && !sent.path.ends_with("/latest") || sent.method == "GET")
    );
}

/// T70: two trust repositories in one bundle and one folder. Each root reads its own, and neither speaks for the other.
#[test]
fn one_bundle_carries_several_roots_and_each_reads_its_own() {
    let registries = [Registry::open(), Registry::open()];
    let worlds = registries.each_ref().map(|registry| World::ready(Site::at(&registry.address())));
    let images = worlds.each_ref().map(|world| world.push("v1", "carried\n"));
    worlds.iter().for_each(|world| drop(world.sign("v1").ok()));
    let pinned = |machine: &Cli, world: &World| {
        let root = world.owner().home().join("acme-root.json");
        let digest = Digest::of(&fs::read(&root).unwrap()).hex();
        let add = ["trust", "add", "second", "--root", root.to_str().unwrap(), "--sha256", &digest];
        machine.run(&[&add[..], &["--repository", world.trust().as_str()]].concat()).ok();
    };
    let gate = worlds[0].client("gate");
    pinned(&gate, &worlds[1]);
    gate.run(&["bundle", "export", NAME, "second", "--out", "both.tar"]).ok();
    let plain = worlds[0].client("cell");
    let both = path(&gate, "both.tar");
    // One of the two is not pinned: nothing is taken.
    plain.run(&["bundle", "import", &both, "--layout", "trust"]).expect_code(17);
    assert!(!plain.home().join("trust").exists());
    pinned(&plain, &worlds[1]);
    let cell = plain.clone().under(&["unshare", "--net"]);
    cell.run(&["bundle", "import", &both, "--layout", "trust"]).ok();
    let policy = plain.home().join("policy.toml");
    let mut text = fs::read_to_string(&policy).unwrap();
    for world in &worlds {
        text = text.replace(&format!("\"{}\"", world.trust()), "\"oci:trust\"");
    }
    fs::write(&policy, text).unwrap();
    for (world, image) in worlds.iter().zip(&images) {
        cell.run(&["verify", &format!("{}/{IMAGES}@{}", world.host(), image.digest())]).ok();
    }
    worlds[1].revoke("v1", "only there").ok();
    gate.run(&["bundle", "export", "second", "--out", "news.tar"]).ok();
    cell.run(&["bundle", "import", &path(&gate, "news.tar"), "--layout", "trust"]).ok();
    for (world, code) in worlds.iter().zip([0, 14]) {
        let digest = format!("{}/{IMAGES}@{}", world.host(), images[0].digest());
        cell.run(&["verify", &digest]).expect_code(code);
    }
}

/// The commands of docs/air-gap.md, each on the side that the page says, between two real registries.
#[test]
fn the_commands_of_the_page_do_what_it_says() {
    let (near, far) = (Registry::open(), Registry::open());
    let world = World::ready(Site::at(&near.address()));
    world.push("v1", "carried\n");
    world.sign("v1").ok();
    let (gate, plant) = (world.client("gate"), world.client_at("plant", &far.address()));
    let (stick, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let page = include_str!("../../docs/air-gap.md");
    let mut commands = 0;
    for block in page.split("<!-- run: ").skip(1) {
        let (side, rest) = block.split_once(" -->\n```sh\n").unwrap();
        let (script, _) = rest.split_once("```").unwrap();
        let script = script
            .replace("/media/stick", stick.path().to_str().unwrap())
            .replace("/srv/trust", folder.path().join("trust").to_str().unwrap())
            .replace("registry.example.com", &near.address())
            .replace("registry.plant.example", &far.address());
        let machine = if side == "near" { &gate } else { &plant };
        for line in script.lines() {
            machine.shell(line).ok();
            commands += 1;
        }
        // It goes back by some way.
        if plant.home().join("far.json").exists() {
            fs::copy(plant.home().join("far.json"), gate.home().join("far.json")).unwrap();
        }
    }
    assert_eq!(commands, 9);
}
