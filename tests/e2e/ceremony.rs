//! Ceremonies, with the real binaries: holders who are apart in place and time, drafts that travel between them, and what
//! clients say after each root.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use plimsoll::{
    clock::{Clock, SystemClock},
    keys::{Passphrase, PrivateKey},
    publish::author,
};
use plimsoll_core::{
    oci::Digest,
    tuf::{Document, Root},
};
use plimsoll_tests::{
    http, peers,
    process::{self, Cli, Run},
    tough_peer,
    world::{IMAGES, NAME, Site, World},
};
use serde_json::Value;
use tempfile::TempDir;

/// A world whose holders have keys, and that has no trust repository yet.
struct Holders {
    world: World,
}

impl Holders {
    fn new(names: &[&str]) -> Self {
        let world = World::start(Site::embedded());
        for name in names {
            world.generate_key(name).ok();
        }
        Self { world }
    }

    /// Runs a command line written with spaces between its words on the machine `name`.
    fn at(&self, name: &str, line: &str) -> Run {
        run(&self.world.machine(name), &self.filled(name, line))
    }

    /// The same on a machine without a network.
    fn offline(&self, name: &str, line: &str) -> Run {
        run(&self.world.machine(name).under(&["unshare", "-rn"]), &self.filled(name, line))
    }

    /// `KEY` is the machine's own key, and `TRUST`, `DAEMON` and `HOST` are this world's.
    fn filled(&self, name: &str, line: &str) -> String {
        line.replace("KEY", &format!("--key {name}.key --passphrase-file passphrase"))
            .replace("TRUST", &self.world.trust())
            .replace("DAEMON", &self.world.daemon.url())
            .replace("HOST", self.world.host())
    }

    fn sign(&self, draft: &str, names: &[&str]) {
        for name in names {
            let root = if self.file("owner", "acme-root.json").exists() {
                "--root ../owner/acme-root.json"
            } else {
                ""
            };
            self.offline(name, &format!("ceremony sign ../owner/{draft} {root} KEY --yes")).ok();
        }
    }

    fn file(&self, machine: &str, name: &str) -> PathBuf {
        self.world.machine(machine).home().join(name)
    }

    /// Two of alice, bob and carol hold root and targets.
    fn founded() -> Self {
        let holders = Self::new(&["alice", "bob", "carol", "dave", "team"]);
        holders.at("owner", FIRST).ok();
        holders.sign("first.draft", &["alice", "bob"]);
        holders.at("owner", "ceremony finish first.draft --server DAEMON --yes").ok();
        holders
    }

    /// The file of the daemon's present online keys.
    fn online(&self, name: &str) -> PathBuf {
        let trusts = http::get(&format!("{}/v1/trusts", self.world.daemon.url())).unwrap();
        let trusts: Value = serde_json::from_slice(&trusts.body).unwrap();
        let file = self.file("owner", name);
        fs::write(&file, trusts["trusts"][0]["online"].to_string()).unwrap();
        file
    }

    /// The newest version of each role at the daemon.
    fn heads(&self) -> Value {
        let trusts = http::get(&format!("{}/v1/trusts", self.world.daemon.url())).unwrap();
        let trusts: Value = serde_json::from_slice(&trusts.body).unwrap();
        trusts["trusts"][0]["heads"].clone()
    }

    /// python-tuf's client and tough, from root version 1 on, are led to `root` and find the image `digest`.
    fn peers_agree(&self, root: u64, digest: &str) {
        let (pinned, url) = (self.file("owner", "acme-root.json"), self.world.daemon.url());
        let name = format!("{IMAGES}:v1");
        let found = peers::ngclient(
            &format!("{url}/tuf/{NAME}/metadata/"),
            &format!("{url}/targets/"),
            &pinned,
            &name,
        );
        let found = found.ok().json();
        assert_eq!((&found["root"], &found["target"]["sha256"]), (&root.into(), &digest.into()), "{found}");
        let loaded = tough_peer::load(&fs::read(pinned).unwrap(), self.dump().path()).unwrap();
        assert_eq!((loaded.root, loaded.found[&name].1.as_str()), (root, digest));
    }

    /// All that a stock client could ask for, in a folder.
    fn dump(&self) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        let get = |file: &str| {
            let url = format!("{}/tuf/{NAME}/metadata/{file}", self.world.daemon.url());
            let answer = http::get(&url).unwrap();
            (answer.status == 200).then(|| {
                fs::write(directory.path().join(file), &answer.body).unwrap();
                serde_json::from_slice::<Value>(&answer.body).unwrap()
            })
        };
        assert!((1..100).take_while(|version| get(&format!("{version}.root.json")).is_some()).count() > 0);
        let timestamp = get("timestamp.json").unwrap();
        let version = &timestamp["signed"]["meta"]["snapshot.json"]["version"];
        let snapshot = get(&format!("{version}.snapshot.json")).unwrap();
        for (file, meta) in snapshot["signed"]["meta"].as_object().unwrap() {
            get(&format!("{}.{file}", meta["version"])).unwrap();
        }
        directory
    }
}

const FIRST: &str = "init TRUST --scope acme/** --server DAEMON --root-pub ../alice/alice.pub --root-pub ../bob/bob.pub \
                     --root-pub ../carol/carol.pub --root-threshold 2 --draft first.draft";

fn run(cli: &Cli, line: &str) -> Run {
    cli.run(&line.split_whitespace().collect::<Vec<_>>())
}

#[track_caller]
fn refused(run: &Run, code: i32, says: &str) {
    assert_eq!(run.code, code, "{}\n{}{}", run.command, run.stdout, run.stderr);
    assert!(run.stderr.contains(says), "{}: no `{says}` in\n{}", run.command, run.stderr);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}

/// Three holders make a trust repository and change who they are; clients that are fresh, warm, or asleep since the first
/// root come along, and so do the stock ones.
#[test]
fn holders_who_are_apart_make_a_trust_repository_and_rotate_its_root() {
    let holders = Holders::founded();
    let world = &holders.world;
    holders.at("owner", "delegate add HOST/acme/net-monitor --label net-monitor --pub ../team/team.pub --draft team.draft").ok();
    holders.sign("team.draft", &["carol", "alice"]);
    let done = holders.at("owner", "ceremony finish team.draft --yes -o json").ok().json();
    assert_eq!(done["versions"]["targets"], 2);
    let image = world.push("v1", "held by three\n");
    world.sign("v1").ok();
    let reference = world.reference("v1");
    let (warm, sleeper) = (world.client("warm"), world.client("sleeper"));
    warm.run(&["verify", &reference]).ok();
    sleeper.run(&["verify", &reference]).ok();

    // Dave in place of bob; the root and, as others sign targets now, targets with its content.
    holders
        .at(
            "owner",
            "ceremony edit --draft dave.draft --add-owner-pub ../dave/dave.pub --remove-owner-key bob",
        )
        .ok();
    holders.sign("dave.draft", &["dave", "alice"]);
    // The new root has its two; the old one has alice only.
    let early = holders.at("owner", "ceremony finish dave.draft --yes");
    refused(&early, 2, "root needs 1 more of bob, carol");
    let status = holders.offline("carol", "ceremony status ../owner/dave.draft -o json").ok().json();
    assert_eq!(status["complete"], false);
    assert_eq!(status["requirements"][0]["by"], "root version 1");
    holders.sign("dave.draft", &["bob"]);
    let done = holders.at("owner", "ceremony finish dave.draft --yes -o json").ok().json();
    assert_eq!(done["rehearsed"]["from"], serde_json::json!([1]));
    assert_eq!((&done["versions"]["root"], &done["versions"]["targets"]), (&2.into(), &3.into()));
    warm.run(&["verify", &reference]).ok();
    world.client("fresh-2").run(&["verify", &reference]).ok();
    holders.peers_agree(2, &image.digest().hex());

    // Bob has no say any more; three must sign from now on, and who signs targets is carol alone.
    holders.at("owner", "ceremony edit --draft next.draft --root-threshold 3 --extend").ok();
    holders
        .at(
            "owner",
            "ceremony edit --draft next.draft --remove-targets-key alice --remove-targets-key dave \
                      --targets-threshold 1",
        )
        .ok();
    let root = "--root ../owner/acme-root.json";
    let bob = holders.offline("bob", &format!("ceremony sign ../owner/next.draft {root} KEY --yes"));
    refused(&bob, 2, "need not sign this");
    holders.sign("next.draft", &["alice", "carol", "dave"]);
    holders.at("owner", "ceremony finish next.draft --yes").ok();
    assert_eq!((&holders.heads()["root"], &holders.heads()["targets"]), (&3.into(), &4.into()));

    for client in [&warm, &sleeper, &world.client("fresh-3")] {
        let said = client.run(&["verify", &reference]).ok().stdout;
        assert!(said.contains("VERIFIED"), "{said}");
    }
    holders.peers_agree(3, &image.digest().hex());
    // What is published later is seen by all.
    world.revoke("v1", "enough").ok();
    for client in [&warm, &sleeper, &world.client("fresh-4")] {
        client.run(&["verify", &reference]).expect_code(14);
    }
}

/// Nobody needs a network but who finishes: drafted from a file of online keys, signed apart, merged, one signature made
/// by openssl.
#[test]
fn a_draft_is_made_signed_merged_and_attached_to_without_a_network() {
    let holders = Holders::new(&["alice", "bob", "carol"]);
    let home = holders.world.machine("carol").home().to_owned();
    let openssl = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        process::run(command.current_dir(&home).args(arguments), b"").ok()
    };
    // Carol's key never meets plimsoll.
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", "hsm.key"]);
    openssl(&["pkey", "-in", "hsm.key", "-pubout", "-out", "hsm.pub"]);
    holders.online("online.json");
    let first =
        FIRST.replace("carol/carol", "carol/hsm").replace("--server DAEMON", "--online-pub online.json");
    let made = holders.offline("owner", &first).ok();
    for line in [
        "a NEW trust repository",
        "acme/**: every repository below acme/",
        "the root needs 2 of 3 signatures",
        "hsm, key id",
    ] {
        assert!(made.stdout.contains(line), "no `{line}` in\n{}", made.stdout);
    }
    for name in ["alice", "bob"] {
        fs::copy(holders.file("owner", "first.draft"), holders.file(name, "mine.draft")).unwrap();
        holders.offline(name, "ceremony sign mine.draft KEY --yes").ok();
    }
    // The same draft, not the same key twice.
    refused(&holders.offline("alice", "ceremony sign mine.draft KEY --yes"), 2, "signed this already");
    let merged =
        holders.offline("owner", "ceremony merge first.draft ../alice/mine.draft -o json").ok().json();
    assert_eq!(merged["complete"], false);
    // Bob's is lost; carol's signatures are made elsewhere.
    for role in ["root", "targets"] {
        holders
            .offline(
                "carol",
                &format!("ceremony payload ../owner/first.draft --role {role} --out {role}.bin"),
            )
            .ok();
        openssl(&[
            "pkeyutl",
            "-sign",
            "-rawin",
            "-inkey",
            "hsm.key",
            "-in",
            &format!("{role}.bin"),
            "-out",
            &format!("{role}.sig"),
        ]);
    }
    let attach = |role: &str, signature: &str| {
        let line = format!(
            "ceremony attach ../owner/first.draft --role {role} --pub hsm.pub --signature {signature}"
        );
        holders.offline("carol", &line)
    };
    let before = fs::read(holders.file("owner", "first.draft")).unwrap();
    refused(&attach("root", "targets.sig"), 2, "is not a signature of");
    assert_eq!(fs::read(holders.file("owner", "first.draft")).unwrap(), before);
    attach("root", "root.sig").ok();
    attach("targets", "targets.sig").ok();
    let status = holders.offline("bob", "ceremony status ../owner/first.draft").ok().stdout;
    assert!(status.contains("complete, not published") && status.contains("ceremony finish"), "{status}");
    let made = holders
        .at("owner", "ceremony finish first.draft --trust mine --server DAEMON --yes -o json")
        .ok()
        .json();
    assert_eq!(made["name"], "mine");
    let root = fs::read(holders.file("owner", "mine-root.json")).unwrap();
    assert_eq!(made["sha256"], Digest::of(&root).hex());
    let again = holders.at("owner", "ceremony finish first.draft --trust again --server DAEMON --yes");
    refused(&again, 2, "is made already, and pinned here as mine");
}

/// Who finishes a draft once more, for the first try was interrupted or somebody else was faster, learns that it is done.
#[test]
fn a_draft_that_is_finished_twice_is_published_once() {
    let holders = Holders::new(&["alice", "bob", "carol", "dave"]);
    holders.at("owner", FIRST).ok();
    holders.sign("first.draft", &["alice", "bob"]);
    // A first try that ended after the root was written leaves it for the next one.
    let first = fs::read(holders.file("owner", "first.draft")).unwrap();
    let first: Value = serde_json::from_slice(&first).unwrap();
    let root = first["documents"]["root"].to_string();
    let root_file = holders.file("owner", "acme-root.json");
    fs::write(&root_file, "another root").unwrap();
    let finish = "ceremony finish first.draft --server DAEMON --yes";
    refused(&holders.at("owner", finish), 2, "exists already");
    assert_eq!(fs::read_to_string(&root_file).unwrap(), "another root");
    fs::write(&root_file, canonical(&root)).unwrap();
    let nowhere = "ceremony finish first.draft --server http://127.0.0.1:9 --yes";
    holders.at("owner", nowhere).expect_code(30);
    assert!(root_file.exists());
    holders.at("owner", finish).ok();
    refused(&holders.at("owner", finish), 2, "is made already, and pinned here as acme");
    // What is done can still be looked at where it is pinned.
    holders.offline("owner", "ceremony status first.draft").ok();

    for (draft, edit) in [
        ("root.draft", "ceremony edit --add-root-pub ../dave/dave.pub --draft root.draft"),
        ("team.draft", "delegate add HOST/acme/app --label app --pub ../dave/dave.pub --draft team.draft"),
    ] {
        holders.at("owner", edit).ok();
        holders.sign(draft, &["bob", "carol"]);
        let once = holders.at("owner", &format!("ceremony finish {draft} --yes -o json")).ok().json();
        let heads = holders.heads();
        let again = holders.at("owner", &format!("ceremony finish {draft} --yes")).ok();
        assert!(again.stdout.contains("was published before"), "{}", again.stdout);
        let twice = holders.at("owner", &format!("ceremony finish {draft} --yes -o json")).ok().json();
        assert_eq!((&twice["versions"], &twice["code"]), (&once["versions"], &once["code"]));
        assert_eq!(holders.heads(), heads);
    }
}

/// A document as the daemon's API has it: the members of the file in one order, without white space.
fn canonical(document: &str) -> String {
    let value: Value = serde_json::from_str(document).unwrap();
    value.to_string()
}

/// A machine that has just looked at the registry knows all roots as well as one that never did.
#[test]
fn a_draft_is_made_from_the_registry_alone() {
    let holders = Holders::founded();
    holders.at("owner", "status").ok();
    holders.at("owner", "ceremony edit --extend --via-registry --draft root.draft").ok();
    holders
        .at(
            "owner",
            "delegate add HOST/acme/app --label app --pub ../team/team.pub --via-registry --draft team.draft",
        )
        .ok();
    holders.sign("root.draft", &["alice", "bob"]);
    let done = holders.at("owner", "ceremony finish root.draft --yes -o json").ok().json();
    assert_eq!(done["rehearsed"]["from"], serde_json::json!([1]));
}

/// Who asks for a passphrase waits long; what others sign in the same file meanwhile is not lost.
#[test]
fn two_who_sign_one_file_at_once_both_sign_it() {
    let holders = Holders::new(&["alice", "bob", "carol"]);
    holders.at("owner", FIRST).ok();
    // Alice's passphrase comes through a pipe, so that she signs when the test wants.
    let alice = holders.world.machine("alice");
    let pipe = alice.home().join("pipe");
    process::run(Command::new("mkfifo").arg(&pipe), b"").ok();
    let signs = std::thread::spawn({
        let alice = alice.clone();
        move || run(&alice, "ceremony sign ../owner/first.draft --key alice.key --passphrase-file pipe --yes")
    });
    // Opened by her when she has read the draft.
    let mut writer = fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    holders.sign("first.draft", &["bob"]);
    std::io::Write::write_all(&mut writer, b"alice has a long passphrase\n").unwrap();
    drop(writer);
    let signed = signs.join().unwrap().ok();
    assert!(signed.stdout.contains("complete"), "{}", signed.stdout);
    let status = holders.offline("carol", "ceremony status ../owner/first.draft -o json").ok().json();
    assert_eq!(status["complete"], true);
}

/// Alice's machine has seen a newer root than the draft knows. Whoever held the keys that were replaced since could have
/// signed any past of it.
#[test]
fn a_draft_that_ends_before_the_newest_root_that_was_seen_is_not_signed() {
    let holders = Holders::founded();
    holders
        .at("owner", "delegate add HOST/acme/app --label app --pub ../team/team.pub --draft old.draft")
        .ok();
    let pinned = fs::read(holders.file("owner", "acme-root.json")).unwrap();
    let add = format!(
        "trust add acme --root ../owner/acme-root.json --sha256 {} --repository TRUST",
        Digest::of(&pinned).hex()
    );
    holders.at("alice", &add).ok();
    let sign = "ceremony sign ../owner/old.draft KEY --yes";
    let payload = "ceremony payload ../owner/old.draft --role targets --out";
    // What it knows so far, it knows from the pinned root.
    holders.offline("alice", &format!("{payload} before.bin")).ok();
    holders
        .at(
            "owner",
            "ceremony edit --draft dave.draft --add-owner-pub ../dave/dave.pub --remove-owner-key bob",
        )
        .ok();
    holders.sign("dave.draft", &["alice", "bob", "dave"]);
    holders.at("owner", "ceremony finish dave.draft --yes").ok();
    holders.at("alice", "status").ok();
    let draft = fs::read(holders.file("owner", "old.draft")).unwrap();
    let behind = "starts from root version 1, and this machine has seen version 2";
    refused(&holders.offline("alice", sign), 15, behind);
    refused(&holders.offline("alice", &format!("{payload} after.bin")), 15, behind);
    assert!(!holders.file("alice", "after.bin").exists());
    assert_eq!(fs::read(holders.file("owner", "old.draft")).unwrap(), draft);
}

/// Whatever is wrong with a draft or its signer is said before anything is sent, and nothing changes.
#[test]
fn drafts_that_must_not_be_signed_or_published_are_refused() {
    let holders = Holders::founded();
    let heads = holders.heads();
    holders.at("owner", "ceremony edit --draft good.draft --add-root-pub ../dave/dave.pub").ok();
    let good = fs::read_to_string(holders.file("owner", "good.draft")).unwrap();
    let root = "--root ../owner/acme-root.json";
    let sign = |name: &str, text: &str, flags: &str| {
        fs::write(holders.file(name, "bad.draft"), text).unwrap();
        let run = holders.offline(name, &format!("ceremony sign bad.draft {flags} KEY --yes"));
        assert_eq!(fs::read_to_string(holders.file(name, "bad.draft")).unwrap(), text, "it was written");
        run
    };
    // Tampered with.
    let lowered = good.replacen("\"threshold\":2", "\"threshold\":1", 4);
    assert_ne!(lowered, good);
    refused(&sign("alice", &lowered, root), 22, "damaged on its way, or changed by hand");
    refused(&sign("alice", "{}", root), 2, "not a draft");
    refused(&sign("alice", &good[..good.len() / 2], root), 2, "not a draft");
    // Of a trust repository that alice does not know: not without a root, and not with another's.
    refused(&sign("alice", &good, ""), 2, "no root of this trust repository is pinned here");
    let other = Holders::founded();
    let others = other.file("owner", "acme-root.json").display().to_string();
    refused(&sign("alice", &good, &format!("--root {others}")), 22, "is of another trust repository");
    fs::write(other.file("owner", "foreign.draft"), &good).unwrap();
    refused(
        &other.at("owner", "ceremony finish foreign.draft --trust acme --yes"),
        22,
        "another trust repository",
    );
    refused(&other.at("owner", "ceremony finish foreign.draft --yes"), 2, "is pinned here");
    // Of the same name, and from another first root: by every command where the right one is pinned.
    for command in [
        "status imposter.draft",
        "payload imposter.draft --role root --out imposter.bin",
        "merge imposter.draft imposter.draft",
        "edit --draft imposter.draft --extend",
        "finish imposter.draft --yes",
    ] {
        let draft = imposter(&holders, &other);
        fs::write(holders.file("owner", "imposter.draft"), draft).unwrap();
        refused(&holders.at("owner", &format!("ceremony {command}")), 22, "is of another trust repository");
    }
    assert!(!holders.file("owner", "imposter.bin").exists());
    // By a key without a say.
    refused(&sign("team", &good, root), 2, "need not sign this");
    // Without anybody to ask.
    fs::write(holders.file("alice", "ask.draft"), &good).unwrap();
    let asked = holders.offline("alice", &format!("ceremony sign ask.draft {root} KEY"));
    refused(&asked, 2, "--yes");
    assert!(asked.stderr.contains("may sign the root from now on: dave"), "{}", asked.stderr);
    // Signed already: one draft is one change.
    holders.sign("good.draft", &["alice"]);
    refused(
        &holders.at("owner", "ceremony edit --draft good.draft --root-threshold 1"),
        2,
        "is signed already",
    );
    // Two changes are not one.
    holders.at("owner", "ceremony edit --draft else.draft --add-root-pub ../team/team.pub").ok();
    refused(&holders.offline("owner", "ceremony merge good.draft else.draft"), 2, "two different changes");
    refused(&holders.at("owner", "ceremony finish else.draft --yes"), 2, "not signed by enough keys");
    assert_eq!(holders.heads(), heads);

    // Somebody was faster.
    holders.sign("else.draft", &["bob", "carol"]);
    holders.at("owner", "ceremony finish else.draft --yes").ok();
    holders.sign("good.draft", &["carol"]);
    let stale = holders.at("owner", "ceremony finish good.draft --yes");
    refused(&stale, 15, "somebody else changed root since this draft was made");
    assert!(stale.stderr.contains("with the command that made it"), "{}", stale.stderr);
    assert_eq!(holders.heads()["root"], 2);
}

/// A draft by the holders of `other` that says it is a change of the trust repository of `holders`.
fn imposter(holders: &Holders, other: &Holders) -> Vec<u8> {
    use plimsoll::publish::{
        author::{RootEdit, edit_root, next_version},
        draft::{Base, Draft},
    };
    let read = |holders: &Holders| {
        let bytes = fs::read(holders.file("owner", "acme-root.json")).unwrap();
        Document::<Root>::parse("root", &bytes).unwrap().signed
    };
    let mut root = read(other);
    root.common.identity = read(holders).common.identity;
    let keys = ["alice", "bob"].map(|name| {
        let passphrase = Passphrase::from_file(&other.file(name, "passphrase")).unwrap();
        PrivateKey::load(&other.file(name, &format!("{name}.key")), &passphrase).unwrap()
    });
    let base = Base {
        roots: vec![author::sign(&root, &[&keys[0], &keys[1]]).unwrap()],
        documents: std::collections::BTreeMap::new(),
    };
    edit_root(&mut root, &RootEdit { extend: true, ..RootEdit::default() }).unwrap();
    next_version("root", &mut root, SystemClock.now());
    Draft::new(&holders.world.trust(), &base, [("root".to_owned(), root.into())]).unwrap().write()
}

#[test]
fn holders_and_thresholds_that_cannot_be_are_refused() {
    let holders = Holders::founded();
    holders.online("online.json");
    let heads = holders.heads();
    let copy = holders.file("owner", "again.pub");
    fs::copy(holders.file("alice", "alice.pub"), copy).unwrap();
    let alice = holders.file("owner", "alice");
    fs::create_dir(&alice).unwrap();
    fs::copy(holders.file("dave", "dave.pub"), alice.join("alice.pub")).unwrap();
    for (edit, says) in [
        ("--root-threshold 4", "threshold 4 cannot be met by 3 distinct keys"),
        ("--root-threshold 0", "threshold 0"),
        ("--remove-root-key alice --remove-root-key bob", "threshold 2 cannot be met by 1 distinct keys"),
        ("--remove-root-key mallory", "`mallory` is none of the keys of root: alice ("),
        ("--add-root-pub again.pub", "is one of root's already"),
        ("--add-root-pub ../dave/dave.pub --add-root-pub ../dave/dave.pub", "given already"),
        ("--add-root-pub alice/alice.pub", "two keys would be called `alice`"),
        ("--add-root-pub ../dave/dave.pub --add-targets-pub alice/alice.pub", "one key is given as"),
        ("--online-pub online.json", "this changes nothing"),
        ("--root-threshold 2", "this changes nothing"),
        ("", "nothing is to be changed"),
    ] {
        let run = holders.at("owner", &format!("ceremony edit --draft no.draft {edit}"));
        refused(&run, 2, says);
        assert!(!holders.file("owner", "no.draft").exists(), "{edit}");
    }
    // Online keys that the daemon does not have are drafted, and not published.
    let keys: Value =
        serde_json::from_slice(&fs::read(holders.file("owner", "online.json")).unwrap()).unwrap();
    let swapped = serde_json::json!({"timestamp": keys["snapshot"], "snapshot": keys["timestamp"]});
    fs::write(holders.file("owner", "swapped.json"), swapped.to_string()).unwrap();
    holders.at("owner", "ceremony edit --draft online.draft --online-pub swapped.json").ok();
    holders.sign("online.draft", &["alice", "bob"]);
    refused(&holders.at("owner", "ceremony finish online.draft --yes"), 2, "does not have the online keys");
    assert_eq!(holders.heads(), heads);

    let fresh = Holders::new(&["alice", "bob"]);
    for (flags, says) in [
        ("--root-pub ../alice/alice.pub --root-threshold 2", "threshold 2 cannot be met by 1"),
        ("--root-pub ../alice/alice.pub --root-pub ../alice/alice.pub --root-threshold 1", "given already"),
        ("--root-pub ../alice/alice.pub", "--root-threshold"),
        ("--root-pub ../alice/alice.pub --root-threshold 1 --key ../alice/alice.key", "--key"),
    ] {
        let run = fresh
            .at("owner", &format!("init TRUST --scope acme/** --server DAEMON --draft no.draft {flags}"));
        refused(&run, 2, says);
        assert!(!fresh.file("owner", "no.draft").exists(), "{flags}");
    }
}

/// A root that ran out stops everything but its own renewal.
#[test]
fn an_expired_root_is_renewed() {
    let holders = Holders::founded();
    let world = &holders.world;
    world.push("v1", "for more than a year\n");
    let reference = world.reference("v1");
    holders.at("owner", &format!("sign {reference} --draft v1.draft")).ok();
    holders.sign("v1.draft", &["alice", "carol"]);
    holders.at("owner", "ceremony finish v1.draft --yes").ok();
    let warm = world.client("warm");
    warm.run(&["verify", &reference]).ok();

    // Opened before the time starts, as that takes some.
    let keys = ["alice", "bob"].map(|name| {
        let passphrase = Passphrase::from_file(&holders.file(name, "passphrase")).unwrap();
        PrivateKey::load(&holders.file(name, &format!("{name}.key")), &passphrase).unwrap()
    });
    // Version 2 lives for three seconds.
    let url = format!("{}/tuf/{NAME}/metadata/1.root.json", world.daemon.url());
    let mut root = Document::<Root>::parse("root", &http::get(&url).unwrap().body).unwrap().signed;
    root.common.version = 2;
    root.common.expires = SystemClock.now() + TimeDelta::seconds(3);
    let root = author::sign(&root, &[&keys[0], &keys[1]]).unwrap();
    let root: Value = serde_json::from_slice(&root).unwrap();
    let submissions = format!("{}/v1/trusts/{NAME}/submissions", world.daemon.url());
    let body = serde_json::json!({"documents": {"root": root}}).to_string();
    let answer = http::request("POST", &submissions, &[], body.as_bytes()).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let deadline = Instant::now() + Duration::from_secs(30);
    while warm.run(&["verify", &reference]).code != 20 {
        assert!(Instant::now() < deadline, "the root does not expire");
    }

    let sign = format!("sign {reference} --key ../alice/alice.key --passphrase-file ../alice/passphrase");
    holders.at("owner", &format!("{sign} --draft no.draft")).expect_code(20);
    holders.at("owner", "ceremony edit --draft renewed.draft --extend").ok();
    holders.sign("renewed.draft", &["alice", "bob"]);
    let done = holders.at("owner", "ceremony finish renewed.draft --yes -o json").ok().json();
    assert_eq!(done["versions"]["root"], 3);
    assert_eq!(done["rehearsed"]["from"], serde_json::json!([1, 2]));
    for client in [&warm, &world.client("fresh")] {
        client.run(&["verify", &reference]).ok();
    }
}

/// The daemon signs with other keys from the root on that names them; who stole the old ones signs nothing that counts.
#[test]
fn the_daemons_online_keys_are_replaced() {
    let holders = Holders::founded();
    let world = &holders.world;
    let image = world.push("v1", "before and after\n");
    let reference = world.reference("v1");
    holders.at("owner", &format!("sign {reference} --draft v1.draft")).ok();
    holders.sign("v1.draft", &["bob", "carol"]);
    holders.at("owner", "ceremony finish v1.draft --yes").ok();
    let (warm, sleeper) = (world.client("warm"), world.client("sleeper"));
    for client in [&warm, &sleeper] {
        client.run(&["verify", &reference]).ok();
    }
    refused(&holders.at("owner", "ceremony edit --draft no.draft --online"), 2, "plimsolld key rotate");

    let before: Value = serde_json::from_slice(&fs::read(holders.online("before.json")).unwrap()).unwrap();
    let mut rotate = Command::new(process::binary("plimsolld"));
    let config = world.owner().home().join("../daemon/plimsolld.toml");
    rotate.args(["key", "rotate", NAME, "--config"]).arg(config);
    process::run(&mut rotate, b"").ok();
    let drafted = loop_until(|| {
        let run = holders.at("owner", "ceremony edit --draft online.draft --online");
        (run.code == 0).then_some(run)
    });
    assert!(drafted.stdout.contains("may sign timestamp, for the daemon, from now on"), "{}", drafted.stdout);
    holders.sign("online.draft", &["alice", "carol"]);
    holders.at("owner", "ceremony finish online.draft --yes").ok();
    let after: Value = serde_json::from_slice(&fs::read(holders.online("after.json")).unwrap()).unwrap();
    assert_ne!(before["timestamp"], after["timestamp"]);
    for client in [&warm, &sleeper, &world.client("fresh")] {
        client.run(&["verify", &reference]).ok();
    }
    holders.peers_agree(2, &image.digest().hex());
}

/// What `done` gives, asked until it gives something.
fn loop_until<T>(done: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within 30 s");
    }
}
