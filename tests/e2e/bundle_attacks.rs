//! Bundles that somebody had in hands on the way: refused with the place named, and nothing imported.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::{collections::BTreeMap, fs, path::PathBuf};

use plimsoll::layout::{header, write};
use plimsoll_core::oci::{Descriptor, Digest, media_type};
use plimsoll_tests::{
    docker_registry::Registry,
    image::Image,
    middle::Middle,
    process::{Cli, Run},
    world::{IMAGES, NAME, ROLE, Site, World, files},
};
use serde_json::{Value, json};

const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A bundle taken apart: its files, by name.
type Parts = BTreeMap<String, Vec<u8>>;

fn taken_apart(tar: &[u8]) -> Parts {
    let (mut parts, mut at) = (Parts::new(), 0);
    while tar[at] != 0 {
        let name = std::str::from_utf8(&tar[at..at + 100]).unwrap().trim_end_matches('\0').to_owned();
        let size = std::str::from_utf8(&tar[at + 124..at + 135]).unwrap();
        let size = usize::from_str_radix(size, 8).unwrap();
        parts.insert(name, tar[at + 512..at + 512 + size].to_vec());
        at += 512 + size.next_multiple_of(512);
    }
    parts
}

fn put_together(parts: &Parts) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, content) in parts {
        tar.extend_from_slice(&header(name, content.len() as u64).unwrap());
        tar.extend_from_slice(content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// `tar` whose first header was changed; its sum is right again.
fn with_header(tar: &[u8], change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut tar = tar.to_vec();
    change(&mut tar[..512]);
    let sum: u64 = (0..512).map(|at| if (148..156).contains(&at) { 32 } else { u64::from(tar[at]) }).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A world, a sound bundle of it with an image, and a machine that has never imported anything.
struct Scene {
    world: World,
    near: Registry,
    _far: Registry,
    /// Before a registry that nothing was imported to.
    far: Middle,
    image: Image,
    sound: Parts,
}

impl Scene {
    fn new() -> Self {
        let near = Registry::open();
        let world = World::ready(Site::at(&near.address()));
        let image = world.push("v1", "carried\n");
        world.sign("v1").ok();
        let gate = world.client("gate");
        gate.run(&["bundle", "export", NAME, "--with-images", "--out", "sound.tar"]).ok();
        let sound = taken_apart(&fs::read(gate.home().join("sound.tar")).unwrap());
        let registry = Registry::open();
        let far = Middle::start(&registry.address());
        Self { world, near, _far: registry, far, image, sound }
    }

    fn index(&self) -> Value {
        serde_json::from_slice(&self.sound["index.json"]).unwrap()
    }

    fn with_index(&self, index: &Value) -> Parts {
        let mut parts = self.sound.clone();
        parts.insert("index.json".to_owned(), index.to_string().into_bytes());
        parts
    }

    /// Imports `tar` on the machine `name` into its folder `trust`.
    fn import(&self, name: &str, tar: &[u8]) -> (Cli, Run) {
        let machine = self.world.client(name);
        fs::write(machine.home().join("spoilt.tar"), tar).unwrap();
        let run = machine.run(&["bundle", "import", "spoilt.tar", "--layout", "trust"]);
        (machine, run)
    }

    /// It must be refused with `code`, naming `place`, whether it is to go to a folder or a registry: no layout is made, and
    /// nothing is written to the registry. The machine `name`, on which this was tried.
    #[track_caller]
    fn not_imported(&self, name: &str, tar: &[u8], code: i32, place: &str) -> Cli {
        let (machine, run) = self.import(name, tar);
        self.far.take_log();
        let to = self.far.address();
        for run in [run, machine.run(&["bundle", "import", "spoilt.tar", "--to", to.as_str()])] {
            let run = run.expect_code(code);
            assert!(run.stderr.contains(place), "no `{place}` in {}", run.stderr);
            assert_eq!(run.stderr.trim_end().lines().filter(|line| line.starts_with("error:")).count(), 1);
            assert!(!machine.home().join("trust").exists(), "{}", run.stderr);
        }
        let written =
            self.far.take_log().into_iter().find(|sent| sent.method != "GET" && sent.method != "HEAD");
        assert!(written.is_none(), "{written:?}");
        machine
    }

    /// The same before anything is asked of the update: no state.
    #[track_caller]
    fn refused(&self, tar: &[u8], code: i32, place: &str) {
        let machine = self.not_imported("victim", tar, code, place);
        assert!(!machine.home().join("state").exists());
        let left: Vec<PathBuf> =
            fs::read_dir(machine.home()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.iter().all(|path| path.extension().is_none_or(|end| end != "tmp")), "{left:?}");
        // Inspecting says no less.
        machine.run(&["bundle", "inspect", "spoilt.tar"]).expect_code(code);
    }
}

/// T60, T62, T71, T40: what is wrong in the archive is found before anything is verified, so nothing is remembered of it.
#[test]
fn a_spoilt_archive_is_refused_with_its_place_and_nothing_is_imported() {
    let scene = Scene::new();
    let sound = put_together(&scene.sound);
    let role = scene.index()["manifests"][1]["digest"].as_str().unwrap().parse::<Digest>().unwrap();
    let layer = scene.sound.iter().max_by_key(|(_, content)| content.len()).unwrap().0.clone();

    let mut outside = scene.sound.clone();
    outside.insert("../outside".to_owned(), b"x".to_vec());
    scene.refused(&put_together(&outside), 22, "../outside");
    let mut absolute = scene.sound.clone();
    absolute.insert("/tmp/outside".to_owned(), b"x".to_vec());
    scene.refused(&put_together(&absolute), 22, "/tmp/outside");
    // The first entry becomes a hard link, a symbolic link, a device, a folder, a sparse file, a name for the next one.
    let first = scene.sound.keys().next().unwrap();
    for kind in *b"12345678gxKLSV" {
        let other = with_header(&sound, |header| header[156] = kind);
        scene.refused(&other, 22, first);
    }
    // Bombs: more than there is, and more than is held at once.
    let endless = with_header(&sound, |header| header[124..135].copy_from_slice(b"77777777777"));
    scene.refused(&endless, 22, first);
    let mut large = scene.sound.clone();
    large.get_mut("index.json").unwrap().resize(64 << 20, b' ');
    scene.refused(&put_together(&large), 22, "index.json");
    let mut twice = sound[..sound.len() - 1024].to_vec();
    twice.extend_from_slice(&header(&layer, 0).unwrap());
    twice.resize(twice.len() + 1024, 0);
    scene.refused(&twice, 22, &layer);
    scene.refused(&[sound.as_slice(), b"garbage"].concat(), 22, "only zeros may stand");
    scene.refused(&sound[..sound.len() / 2], 22, "ends before it is complete");
    scene.refused(b"\x1f\x8b\x08\x00 and so on", 22, "gzip");
    scene.refused(b"", 22, "ends before");

    // Blobs: other content, another length, one too many.
    for name in [layer.clone(), blob(&role), blob(&scene.image.digest())] {
        let mut flipped = scene.sound.clone();
        *flipped.get_mut(&name).unwrap().last_mut().unwrap() ^= 1;
        scene.refused(&put_together(&flipped), 22, &name);
        let mut longer = scene.sound.clone();
        longer.get_mut(&name).unwrap().push(b' ');
        scene.refused(&put_together(&longer), 22, &name);
    }
    let mut stowaway = scene.sound.clone();
    stowaway.insert(blob(&Digest::of(b"stowaway")), b"stowaway".to_vec());
    scene.refused(&put_together(&stowaway), 22, &blob(&Digest::of(b"stowaway")));
    // A manifest that is not there.
    let mut without = scene.sound.clone();
    without.remove(&blob(&role)).unwrap();
    scene.refused(&put_together(&without), 30, &role.hex());
    for file in ["index.json", "oci-layout"] {
        let mut without = scene.sound.clone();
        without.remove(file).unwrap();
        scene.refused(&put_together(&without), 2, file);
    }

    // The same machine takes the sound one.
    let (_, run) = scene.import("victim", &sound);
    run.ok();
}

/// T51, T77: one name, one meaning.
#[test]
fn an_index_that_says_two_things_is_refused() {
    let scene = Scene::new();
    let index = scene.index();
    let name = index["manifests"][0]["annotations"][REF_NAME].as_str().unwrap().to_owned();
    let edit = |change: &dyn Fn(&mut Value)| {
        let mut index = index.clone();
        change(&mut index);
        put_together(&scene.with_index(&index))
    };
    let twice = edit(&|index| {
        let first = index["manifests"][0].clone();
        index["manifests"].as_array_mut().unwrap().push(first);
    });
    scene.refused(&twice, 22, &name);
    for odd in ["", "latest", "../../x", "HOST/x:v1", "127.0.0.1:1/acme/trust"] {
        let odd_name = edit(&|index| index["manifests"][0]["annotations"][REF_NAME] = json!(odd));
        scene.refused(&odd_name, 22, "names no tag and no digest");
    }
    let later = edit(&|index| {
        index["manifests"][0]["annotations"]["vnd.plimsoll.as-of"] = json!("2099-01-01T00:00:00Z");
    });
    scene.refused(&later, 22, "2099-01-01");
    let sized = edit(&|index| index["manifests"][0]["size"] = json!(5));
    scene.refused(&sized, 22, "where the layout says 5");
    let typed = edit(&|index| index["manifests"][0]["mediaType"] = json!(media_type::INDEX));
    scene.refused(&typed, 22, "media type");
    let role_elsewhere = edit(&|index| {
        index["manifests"][1]["annotations"][REF_NAME] =
            json!(format!("other.example.com/acme/trust:{ROLE}"));
    });
    scene.refused(&role_elsewhere, 22, "is not the manifest of a role");
    let none = edit(&|index| index["manifests"] = json!([]));
    scene.refused(&none, 22, "there is no trust repository");
    let text = String::from_utf8(scene.sound["index.json"].clone()).unwrap();
    let mut doubled = scene.sound.clone();
    let text = text.replacen("\"manifests\":", "\"manifests\":[],\"manifests\":", 1);
    doubled.insert("index.json".to_owned(), text.into_bytes());
    scene.refused(&put_together(&doubled), 22, "strict JSON");
}

/// T91, P5: whoever carries a bundle cannot add to what the publisher signed, and cannot leave out what makes it whole.
#[test]
fn what_nobody_vouches_for_is_not_imported() {
    let scene = Scene::new();
    // Another image under the signed name, whole and with right digests.
    let other = Image::busybox("somebody else's\n");
    let mut index = scene.index();
    let entries = index["manifests"].as_array_mut().unwrap();
    let at = entries.iter().position(|entry| entry["digest"] == scene.image.digest().to_string()).unwrap();
    let mut swapped = scene.sound.clone();
    let old: Value = serde_json::from_slice(&swapped.remove(&blob(&scene.image.digest())).unwrap()).unwrap();
    let mut gone = vec![old["config"]["digest"].clone()];
    gone.extend(old["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].clone()));
    for digest in gone {
        swapped.remove(&blob(&digest.as_str().unwrap().parse().unwrap()));
    }
    for file in fs::read_dir(other.path().join("blobs/sha256")).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        swapped.insert(blob(&Digest::of(&bytes)), bytes);
    }
    entries[at]["digest"] = json!(other.digest());
    entries[at]["size"] = json!(other.size());
    swapped.insert("index.json".to_owned(), index.to_string().into_bytes());
    scene.not_imported("swapped", &put_together(&swapped), 12, &format!("{IMAGES}:v1"));
    // Under a name that nobody signed.
    let unsigned = format!("{}/{IMAGES}:v9", scene.world.host());
    let mut index: Value = serde_json::from_slice(&swapped["index.json"]).unwrap();
    index["manifests"][at]["annotations"] = json!({REF_NAME: unsigned});
    swapped.insert("index.json".to_owned(), index.to_string().into_bytes());
    scene.not_imported("unsigned", &put_together(&swapped), 10, &unsigned);

    // A role of somebody's own making.
    let document = br#"{"signed":{},"signatures":[]}"#;
    let forged = plimsoll_core::oci::mapping::role(
        "targets--forged",
        (1, document),
        None,
        plimsoll_core::oci::mapping::Profile::Oci11,
    );
    let mut added = scene.sound.clone();
    let mut descriptor = Descriptor::of(media_type::MANIFEST, &forged.manifest);
    descriptor.annotations.insert(REF_NAME.to_owned(), format!("{}:targets--forged", scene.world.trust()));
    let mut manifests: Vec<Descriptor> = serde_json::from_value(scene.index()["manifests"].clone()).unwrap();
    manifests.push(descriptor);
    added.insert("index.json".to_owned(), write::index(&manifests));
    added.insert(blob(&forged.digest), forged.manifest);
    added.insert(blob(&Digest::of(document)), document.to_vec());
    scene.not_imported("forged", &put_together(&added), 22, "targets--forged");

    // A blob that is named and not there, on a machine that has nothing to complete it from: metadata, then a layer.
    let manifests = scene.index()["manifests"].as_array().unwrap().clone();
    let role: Digest = manifests[1]["digest"].as_str().unwrap().parse().unwrap();
    let role: Value = serde_json::from_slice(&scene.sound[&blob(&role)]).unwrap();
    let image: Value = serde_json::from_slice(&scene.sound[&blob(&scene.image.digest())]).unwrap();
    for layer in [&role["layers"][0]["digest"], &image["layers"][0]["digest"]] {
        let digest: Digest = layer.as_str().unwrap().parse().unwrap();
        let mut without = scene.sound.clone();
        without.remove(&blob(&digest)).unwrap();
        let machine = scene.not_imported("without", &put_together(&without), 30, &digest.to_string());
        assert!(!machine.home().join("state").exists());
    }

    // Nobody pinned its root here.
    let stranger = scene.world.machine("stranger");
    fs::write(stranger.home().join("policy.toml"), "").unwrap();
    let trust = scene.world.trust();
    let stranger = scene.not_imported("stranger", &put_together(&scene.sound), 17, &trust);
    assert!(!stranger.home().join("state").exists());
}

impl Scene {
    /// The sound bundle, in which somebody replaced `from` by `to` in the names of the entries.
    fn renamed(&self, from: &str, to: &str) -> Vec<u8> {
        let mut index = self.index();
        let mut changed = 0;
        for entry in index["manifests"].as_array_mut().unwrap() {
            let name = entry["annotations"][REF_NAME].as_str().unwrap().to_owned();
            let other = name.replace(from, to);
            changed += usize::from(name != other);
            entry["annotations"][REF_NAME] = json!(other);
        }
        assert_ne!(changed, 0, "{index}");
        put_together(&self.with_index(&index))
    }

    /// Pins the root of this world on `machine` as `second`, at `place`.
    fn pin_second(&self, machine: &Cli, place: &str) {
        let root = self.world.owner().home().join("acme-root.json");
        let digest = Digest::of(&fs::read(&root).unwrap()).hex();
        let add = ["trust", "add", "second", "--root", root.to_str().unwrap(), "--sha256", &digest];
        machine.run(&[&add[..], &["--repository", place]].concat()).ok();
    }
}

/// T70, T91: whoever carries a bundle does not decide by the names in it whose trust repository is written over, be it in a
/// registry or a folder; nor does a mirror.
#[test]
fn a_trust_repository_never_takes_the_place_of_another_one() {
    let (one, other) = (Scene::new(), Scene::new());
    let far = Registry::open();
    let sound = put_together(&one.sound);
    let gate = one.world.client_at("plant", &far.address());
    fs::write(gate.home().join("sound.tar"), &sound).unwrap();
    gate.run(&["bundle", "import", "sound.tar", "--to", &far.address()]).ok();
    let reference = one.world.reference_at(&far.address(), "v1");
    gate.run(&["verify", &reference]).ok();

    // The other world's has the same name, and is not signed by keys of the one that is there.
    let stranger = other.world.client("stranger");
    fs::write(stranger.home().join("other.tar"), put_together(&other.sound)).unwrap();
    let place = format!("{}/acme/trust", far.address());
    let import = ["bundle", "import", "other.tar", "--to", &far.address()];
    let mirror = ["mirror", NAME, &place];
    for command in [&import[..], &mirror[..]] {
        let run = stranger.run(command).expect_code(15);
        assert!(run.stderr.contains("CONFLICT") && run.stderr.contains(&place), "{}", run.stderr);
    }
    gate.run(&["verify", &reference]).ok();

    // In a folder: renamed to be what is there, by the policy and by what the folder shows.
    let cell = one.world.client("cell");
    fs::write(cell.home().join("sound.tar"), &sound).unwrap();
    cell.run(&["bundle", "import", "sound.tar", "--layout", "trust"]).ok();
    other.pin_second(&cell, &other.world.trust());
    let index = fs::read(cell.home().join("trust/index.json")).unwrap();
    let renamed = other.renamed(&other.world.trust(), &one.world.trust());
    fs::write(cell.home().join("renamed.tar"), &renamed).unwrap();
    let policy = cell.home().join("policy.toml");
    let text = fs::read_to_string(&policy).unwrap();
    let by_folder = text.replace(&format!("\"{}\"", one.world.trust()), "\"oci:trust\"");
    assert_ne!(text, by_folder);
    for (text, found) in [(text, "the root acme"), (by_folder, "the trust id")] {
        fs::write(&policy, text).unwrap();
        // Also into a folder that has nothing yet, where the policy says whose place it is.
        let folders: &[&str] = if found == "the root acme" { &["trust", "fresh"] } else { &["trust"] };
        for folder in folders {
            let run = cell.run(&["bundle", "import", "renamed.tar", "--layout", folder]).expect_code(15);
            assert!(run.stderr.contains(found), "{}", run.stderr);
        }
    }
    assert!(!cell.home().join("fresh").exists());
    // The same trust repository under a second name.
    let twice = one.renamed(&one.world.trust(), "x.example.com/other/trust");
    fs::write(cell.home().join("twice.tar"), &twice).unwrap();
    let run = cell.run(&["bundle", "import", "twice.tar", "--layout", "trust"]).expect_code(15);
    assert!(run.stderr.contains("x.example.com/other/trust"), "{}", run.stderr);
    assert_eq!(fs::read(cell.home().join("trust/index.json")).unwrap(), index);
}

/// T91, T51: an image goes where the name leads that it was signed as, whatever the bundle says that it was verified as.
#[test]
fn an_image_goes_nowhere_but_to_the_place_that_it_was_signed_for() {
    let scene = Scene::new();
    let image = |tag: &str| format!("{IMAGES}:{tag}");
    // It keeps saying what it was verified as, which is signed.
    for (name, code) in [(image("v2"), 10), ("acme/other:v1".to_owned(), 10), ("beta/app:v1".to_owned(), 10)]
    {
        let (machine, run) = scene.import("victim", &scene.renamed(&image("v1"), &name));
        let run = run.expect_code(code);
        assert!(run.stderr.contains(&name), "{}", run.stderr);
        assert!(!machine.home().join("trust").exists());
    }

    let far = Registry::open();
    let plant = scene.world.client_at("plant", &far.address());
    fs::write(plant.home().join("sound.tar"), put_together(&scene.sound)).unwrap();
    let below = format!("{}/mirror", far.address());
    let import = ["bundle", "import", "sound.tar", "--to", &below];
    let policy = plant.home().join("policy.toml");
    let text = fs::read_to_string(&policy).unwrap();
    let scope = format!("\n[[scope]]\nmatch = \"{below}/acme/**\"\nrequire = {{ all = [\"acme\"] }}\n");
    // The policy says what the place is called, and then that it stands for another name.
    fs::write(&policy, format!("{text}{scope}")).unwrap();
    let run = plant.run(&import).expect_code(10);
    assert!(run.stderr.contains(&format!("mirror/{}", image("v1"))), "{}", run.stderr);
    // Where a trust repository is, there is no image.
    let mapped = format!("{text}{scope}map = {{ acme = \"acme/**\" }}\n");
    let elsewhere = mapped.replace(&format!("{}/acme/trust", far.address()), &format!("{below}/{IMAGES}"));
    assert_ne!(mapped, elsewhere);
    fs::write(&policy, elsewhere).unwrap();
    let run = plant.run(&import).expect_code(22);
    assert!(run.stderr.contains("where a trust repository is"), "{}", run.stderr);
    fs::write(&policy, &mapped).unwrap();
    plant.run(&import).ok();
}

/// P1, P5: who carries a bundle cannot make the far side remember more than it was given: what is refused at the end, for an
/// image, moved no trusted state, so the far side's own registry is not taken for one that went back.
#[test]
fn what_is_refused_moves_no_trusted_state() {
    let mut scene = Scene::new();
    let cell = scene.world.client("cell");
    fs::write(cell.home().join("sound.tar"), put_together(&scene.sound)).unwrap();
    cell.run(&["bundle", "import", "sound.tar", "--layout", "trust"]).ok();
    let before = files(&cell.home().join("state"));
    assert!(!before.is_empty());

    scene.world.push("v2", "newer\n");
    scene.world.sign("v2").ok();
    let gate = scene.world.client("gate");
    gate.run(&["bundle", "export", NAME, "--with-images", "--out", "newer.tar"]).ok();
    let newer = fs::read(gate.home().join("newer.tar")).unwrap();
    let mut parts = taken_apart(&newer);
    let index = String::from_utf8(parts["index.json"].clone()).unwrap();
    let renamed = index.replace(&format!("{IMAGES}:v2"), &format!("{IMAGES}:v9"));
    assert_ne!(renamed, index);
    parts.insert("index.json".to_owned(), renamed.into_bytes());
    fs::write(cell.home().join("renamed.tar"), put_together(&parts)).unwrap();
    let refused = cell.run(&["bundle", "import", "renamed.tar", "--layout", "trust"]).expect_code(10);
    assert!(refused.stderr.contains(&format!("{IMAGES}:v9")), "{}", refused.stderr);
    assert_eq!(files(&cell.home().join("state")), before);

    // The honest one moves it, and then the old one is refused by name, with advice.
    fs::write(cell.home().join("newer.tar"), newer).unwrap();
    cell.run(&["bundle", "import", "newer.tar", "--layout", "trust"]).ok();
    assert_ne!(files(&cell.home().join("state")), before);
    let old = cell.run(&["bundle", "import", "sound.tar", "--layout", "other"]).expect_code(21);
    assert!(old.stderr.contains(&scene.world.trust()) && old.stderr.contains("try: "), "{}", old.stderr);
    assert!(!cell.home().join("other").exists());

    // What a bundle takes back is remembered, with every role of it: nobody has to be reached to know.
    scene.world.revoke("v1", "leaked").ok();
    gate.run(&["bundle", "export", NAME, "--out", "revoking.tar"]).ok();
    fs::copy(gate.home().join("revoking.tar"), cell.home().join("revoking.tar")).unwrap();
    cell.run(&["bundle", "import", "revoking.tar", "--layout", "trust"]).ok();
    scene.near.stop();
    let taken_back = format!("{}@{}", scene.world.reference("v1"), scene.image.digest());
    cell.run(&["verify", &taken_back]).expect_code(14);
}

/// P1: of two imports into one folder, the one that waits for the other looks again.
#[test]
fn an_import_that_waited_for_a_newer_one_does_not_go_back() {
    let scene = Scene::new();
    let cell = scene.world.client("cell");
    fs::write(cell.home().join("sound.tar"), put_together(&scene.sound)).unwrap();
    cell.run(&["bundle", "import", "sound.tar", "--layout", "trust"]).ok();
    scene.world.push("v2", "newer\n");
    scene.world.sign("v2").ok();
    let gate = scene.world.client("gate");
    gate.run(&["bundle", "export", NAME, "--out", "newer.tar"]).ok();
    let newer = gate.home().join("newer.tar");
    let newer = newer.to_str().unwrap();
    let trust = cell.home().join("trust");
    gate.run(&["bundle", "import", newer, "--layout", "ready"]).ok();

    // The folder is held; the file of its lock is made by whoever comes to wait for it.
    let lock = trust.join(".plimsoll.lock");
    fs::remove_file(&lock).unwrap();
    let held = fs::File::open(&trust).unwrap();
    held.lock().unwrap();
    let (late, folder) = (scene.world.client("late"), trust.to_str().unwrap().to_owned());
    fs::write(late.home().join("sound.tar"), put_together(&scene.sound)).unwrap();
    let waiting =
        std::thread::spawn(move || late.run(&["bundle", "import", "sound.tar", "--layout", &folder]));
    for _ in 0..3000 {
        if lock.exists() || waiting.is_finished() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(lock.exists() && !waiting.is_finished());
    // Meanwhile the newer one is there.
    let ready = gate.home().join("ready");
    for blob in fs::read_dir(ready.join("blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        fs::copy(blob.path(), trust.join("blobs/sha256").join(blob.file_name())).unwrap();
    }
    fs::copy(ready.join("index.json"), trust.join("index.json")).unwrap();
    let index = fs::read(trust.join("index.json")).unwrap();
    held.unlock().unwrap();
    waiting.join().unwrap().expect_code(21);
    assert_eq!(fs::read(trust.join("index.json")).unwrap(), index);
}
