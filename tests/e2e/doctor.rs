//! `plimsoll doctor` with the real binaries: a healthy trust repository, each thing that can be wrong with its code and its
//! advice, and repositories about which the second opinion differs, knows less, or must not be believed alone.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::{collections::BTreeMap, fs, path::Path};

use plimsoll::{
    clock::{Clock, SystemClock},
    keys::{Algorithm, PrivateKey, Signer},
    publish::{api::OnlineKeys, author},
    registry::{Credentials, Registry, RegistryOptions},
};
use plimsoll_core::{
    oci::{
        Digest, RepositoryAddress,
        mapping::{self, Profile, RepositoryFiles},
        media_type,
    },
    tuf::{Identity, Key, MetaFile, PublicKey, Root, Snapshot, Target, Targets, Timestamp, metadata::Common},
};
use plimsoll_tests::{
    docker_registry,
    process::{Cli, Run},
    world::{Site, World, files},
};
use serde_json::Value;

const TRUST: &str = "00112233445566778899aabbccddeeff";
const NAME: &str = "acme/app:v1";

/// What the doctor found, by what it looked at; the worst of each.
fn findings(run: &Run) -> BTreeMap<String, (String, String)> {
    let report: Value =
        serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e}: {}{}", run.stdout, run.stderr));
    assert_eq!(report["code"], run.code, "{}", run.stdout);
    let mut found: BTreeMap<String, (String, String)> = BTreeMap::new();
    for finding in report["findings"].as_array().unwrap() {
        let text = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let (check, state) = (text("check"), text("state"));
        if state == "bad" {
            assert!(!text("next").is_empty(), "what is wrong comes with what to do: {finding}");
            assert_ne!(finding["code"], 0, "{finding}");
        }
        let worse = found.get(&check).is_none_or(|(known, _)| known != "bad" && state != "good");
        if worse {
            found.insert(check, (state, text("text")));
        }
    }
    found
}

fn doctor(machine: &Cli) -> Run {
    machine.run(&["doctor", "-o", "json"])
}

#[test]
fn a_healthy_trust_repository_gets_a_clean_bill_and_nothing_is_changed() {
    let world = World::ready(Site::embedded());
    world.push("v1", "hello\n");
    world.sign("v1").ok();
    let client = world.client("ci");
    client.run(&["verify", &world.reference("v1")]).ok();
    let before = files(client.home());
    let run = doctor(&client).ok();
    let found = findings(&run);
    for check in ["policy", "state", "root", "memory", "registry", "clock", "freshness", "second opinion"] {
        assert_eq!(found[check].0, "good", "{check}: {}", run.stdout);
    }
    assert_eq!(found["daemon"].0, "note", "a client needs none");
    // The tag and its digest.
    assert_eq!(found["second opinion"].1, "tough says the same of 2 names");
    assert_eq!(files(client.home()), before, "a doctor only reads");

    // Who publishes is told of the daemon, too; people read lines.
    let owner = world.owner();
    assert_eq!(findings(&doctor(&owner).ok())["daemon"].0, "good");
    let text = owner.run(&["doctor"]).ok().stdout;
    assert!(text.lines().all(|line| line.starts_with("good  ") || line.starts_with("note  ")), "{text}");
    assert_eq!(owner.run(&["doctor", "--quiet"]).ok().stdout, "");

    // A daemon that is gone is the first thing that is wrong, and the rest is looked at all the same.
    let run = owner.run(&["doctor", "-o", "json", "--server", "http://127.0.0.1:1"]);
    run.clone().expect_code(30);
    let found = findings(&run);
    assert_eq!((found["daemon"].0.as_str(), found["second opinion"].0.as_str()), ("bad", "good"));
}

#[test]
fn what_is_wrong_with_a_machine_is_told_with_its_code_and_what_to_do() {
    let registry = docker_registry::Registry::open();
    let repository = Repository::new();
    repository.publish(&registry.address());
    let home = tempfile::tempdir().unwrap();
    let machine = Cli::new(home.path());

    let run = doctor(&machine);
    run.clone().expect_code(2);
    let found = findings(&run);
    assert_eq!((found["policy"].0.as_str(), found["state"].0.as_str()), ("bad", "note"), "{}", run.stdout);

    repository.pin(&machine, &registry.address());
    let run = doctor(&machine).ok();
    assert_eq!(findings(&run)["second opinion"].0, "good", "{}", run.stdout);

    // The pinned root was changed.
    let root = home.path().join("roots/acme-root.json");
    let good = fs::read(&root).unwrap();
    fs::write(&root, [&good[..], b" "].concat()).unwrap();
    let run = doctor(&machine);
    run.clone().expect_code(2);
    assert_eq!(findings(&run)["root"].0, "bad");
    fs::write(&root, good).unwrap();

    // What was seen is not written where others can.
    doctor(&machine).ok();
    fs::create_dir_all(home.path().join("state")).unwrap();
    fs::set_permissions(home.path().join("state"), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .unwrap();
    let run = doctor(&machine);
    run.clone().expect_code(1);
    assert!(findings(&run)["state"].1.contains("written by others"), "{}", run.stdout);
    fs::set_permissions(home.path().join("state"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();

    assert!(doctor_of(&machine, "other").stderr.contains("no root called `other` is pinned"));

    // Nobody is there.
    drop(registry);
    let run = doctor(&machine);
    run.clone().expect_code(30);
    let found = findings(&run);
    assert_eq!(found["registry"].0, "bad");
    assert!(!found.contains_key("second opinion"), "{}", run.stdout);
}

fn doctor_of(machine: &Cli, name: &str) -> Run {
    machine.run(&["doctor", name])
}

/// tough takes a file that is shorter than what is listed; we do not: one of the two must be wrong, whoever it is.
#[test]
fn a_disagreement_is_found_and_never_passes_for_health() {
    let run = examined(&Repository { snapshot_says_longer: true, ..Repository::new() });
    run.clone().expect_code(22);
    let (state, text) = &findings(&run)["second opinion"];
    assert_eq!(state, "bad");
    assert!(text.contains("tough disagrees") && text.contains(NAME), "{text}");
    assert!(text.contains("bytes where"), "what we say of it: {text}");
}

/// It cannot read P-384 keys: that is said, and is no alarm.
#[test]
fn what_tough_cannot_read_is_its_limitation() {
    let run = examined(&Repository { odd_key: true, ..Repository::new() }).ok();
    let (state, text) = &findings(&run)["second opinion"];
    assert_eq!(state, "note", "{text}");
    assert!(text.contains("a limitation of tough") && text.contains("ecdsa-sha2-nistp384"), "{text}");
}

/// It does not know our list of revocations, so that is no disagreement either.
#[test]
fn a_revocation_that_tough_does_not_read_is_its_limitation() {
    let run = examined(&Repository { revoked: true, ..Repository::new() }).ok();
    let (state, text) = &findings(&run)["second opinion"];
    assert_eq!(state, "note", "{text}");
    assert!(text.contains("revoked by targets") && text.contains("does not read revocations"), "{text}");
}

/// P2: both refuse what has expired, and the code is that of the verdict.
#[test]
fn what_has_expired_is_expired_for_both() {
    let run = examined(&Repository { expired: true, ..Repository::new() });
    run.clone().expect_code(20);
    let found = findings(&run);
    assert_eq!((found["metadata"].0.as_str(), found["second opinion"].0.as_str()), ("bad", "note"));
    assert!(found["second opinion"].1.contains("tough refuses it, too"), "{}", run.stdout);
}

/// T70: tough takes what is of another trust repository.
#[test]
fn a_document_of_another_trust_repository_is_refused_whatever_tough_says() {
    let run = examined(&Repository { foreign_timestamp: true, ..Repository::new() });
    run.clone().expect_code(22);
    let found = findings(&run);
    assert_eq!(found["metadata"].0, "bad");
    assert!(found["second opinion"].1.contains("does not read `x-plimsoll`"), "{}", run.stdout);
}

/// What the doctor says of `repository`, on a machine that pins it.
fn examined(repository: &Repository) -> Run {
    let registry = docker_registry::Registry::open();
    repository.publish(&registry.address());
    let home = tempfile::tempdir().unwrap();
    let machine = Cli::new(home.path());
    repository.pin(&machine, &registry.address());
    doctor(&machine)
}

/// A trust repository made without a daemon, which would not publish it like this.
struct Repository {
    owner: PrivateKey,
    timestamp: PrivateKey,
    snapshot: PrivateKey,
    odd_key: bool,
    snapshot_says_longer: bool,
    revoked: bool,
    expired: bool,
    foreign_timestamp: bool,
}

/// Made with openssl; nobody has its private part.
const P384: &str = "-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEv3UczGXfVsEQiNjpODRf7mAeT7PeVrbz
qH4ek+Ux5ydAXLA4nt2J8mFduXlgcBmToF4U80zb7rwbXpSsRWpILwQYznqItXQy
HJ7KOKj7L7VJnZ2/Afm35OJ6wa6hexta
-----END PUBLIC KEY-----
";

impl Repository {
    fn new() -> Self {
        let key = || PrivateKey::generate(Algorithm::Ed25519).unwrap();
        Self {
            owner: key(),
            timestamp: key(),
            snapshot: key(),
            odd_key: false,
            snapshot_says_longer: false,
            revoked: false,
            expired: false,
            foreign_timestamp: false,
        }
    }

    fn root(&self) -> Vec<u8> {
        let online =
            OnlineKeys { timestamp: self.timestamp.key().clone(), snapshot: self.snapshot.key().clone() };
        let born = SystemClock.now() - chrono::TimeDelta::days(1);
        let scopes = ["acme/**".parse().unwrap()];
        let mut root: Root =
            author::first_root(TRUST, &scopes, &[self.owner.key().clone()], 1, &online, born);
        if self.odd_key {
            let key = Key::new(&PublicKey::from_pem(P384).unwrap());
            root.keys.insert(key.id(), key);
        }
        // Made at one time, so that it is the same each time.
        root.common.expires = EXPIRES.parse().unwrap();
        root.common.identity.as_mut().unwrap().at = BORN.parse().unwrap();
        author::sign(&root, &[&self.owner]).unwrap()
    }

    fn publish(&self, host: &str) {
        let now = SystemClock.now();
        let mut targets: Targets = author::empty_targets("targets", TRUST, now);
        let digest = Digest::of(b"an image");
        let hashes = BTreeMap::from([("sha256".to_owned(), digest.hex())]);
        targets
            .targets
            .insert(NAME.to_owned(), Target { length: 8, hashes, custom: None, extra: BTreeMap::new() });
        if self.revoked {
            let kept = targets.targets.clone();
            author::revoke(&mut targets, &digest, "found broken", now);
            // As a role further down would still list it.
            targets.targets = kept;
        }
        let targets = author::sign(&targets, &[&self.owner]).unwrap();
        let mut meta = MetaFile::of(1, &targets);
        if self.snapshot_says_longer {
            *meta.length.as_mut().unwrap() += 1;
        }
        let common = |role: &str, trust: &str| {
            let life = chrono::TimeDelta::days(if self.expired && role == "timestamp" { -1 } else { 1 });
            Common::new(role, 1, now + life, Identity::new(trust, now))
        };
        let snapshot = Snapshot {
            common: common("snapshot", TRUST),
            meta: BTreeMap::from([("targets.json".to_owned(), meta)]),
            extra: BTreeMap::new(),
        };
        let snapshot = author::sign(&snapshot, &[&self.snapshot]).unwrap();
        let other = "f".repeat(32);
        let timestamp = Timestamp {
            common: common("timestamp", if self.foreign_timestamp { &other } else { TRUST }),
            meta: BTreeMap::from([("snapshot.json".to_owned(), MetaFile::of(1, &snapshot))]),
            extra: BTreeMap::new(),
        };
        let timestamp = author::sign(&timestamp, &[&self.timestamp]).unwrap();
        let root = self.root();
        let artifact = mapping::repository(
            &RepositoryFiles {
                timestamp: &timestamp,
                snapshots: vec![(1, &snapshot)],
                targets: (1, &targets),
                roots: vec![(1, &root)],
            },
            Profile::Oci11,
        );
        let options = RegistryOptions { credentials: Credentials::anonymous(), ..RegistryOptions::default() };
        let registry = Registry::new(options).unwrap();
        let repository: RepositoryAddress = format!("{host}/acme/trust").parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for (_, bytes) in artifact.blobs {
                registry.put_blob(&repository, bytes.into()).await.unwrap();
            }
            let manifest = artifact.manifest.into();
            registry.put_manifest(&repository, "latest", media_type::MANIFEST, manifest).await.unwrap();
        });
    }

    fn pin(&self, machine: &Cli, host: &str) {
        let root = self.root();
        let file = machine.home().join("pinned.json");
        fs::write(&file, &root).unwrap();
        let (sha256, repository) = (Digest::of(&root).hex(), format!("{host}/acme/trust"));
        let file: &Path = &file;
        let arguments = ["trust", "add", "acme", "--root", file.to_str().unwrap(), "--sha256", &sha256];
        machine.run(&[&arguments[..], &["--repository", &repository]].concat()).ok();
    }
}

/// When the roots here were signed, and when they expire.
const BORN: &str = "2026-01-01T00:00:00Z";
const EXPIRES: &str = "2099-01-01T00:00:00Z";
