//! docs/policy.md does what it says: each of its examples is executed here. And the commands on the policy, as a user runs them.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use common::{
    Host, Publisher,
    several::{Several, letter},
};
use plimsoll::{
    clock::{Clock, SystemClock},
    verify::target_name,
};
use plimsoll_core::{
    oci::{Digest, Reference},
    policy::{Policy, PolicyError},
};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;
const OTHER: &[u8] = br#"{"schemaVersion":2,"config":{},"layers":[],"x":1}"#;

/// A fenced block of the page: what stands behind its fence, and its lines.
struct Block {
    kind: String,
    text: String,
}

impl Block {
    /// What each line says of its first words, and its last one.
    fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.lines().map(|line| {
            let (first, last) = line.rsplit_once(' ').unwrap();
            (first.trim(), last)
        })
    }
}

fn blocks() -> Vec<Block> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policy.md")).unwrap();
    let mut parts = page.split("\n```");
    parts.next().unwrap();
    let mut blocks = Vec::new();
    while let (Some(block), Some(_)) = (parts.next(), parts.next()) {
        let (kind, text) = block.split_once('\n').unwrap();
        blocks.push(Block { kind: kind.to_owned(), text: text.to_owned() });
    }
    assert!(blocks.len() > 15, "{}", blocks.len());
    blocks
}

fn of_kind(kind: &str) -> Vec<Block> {
    let blocks: Vec<Block> =
        blocks().into_iter().filter(|block| block.kind.split(' ').next() == Some(kind)).collect();
    assert!(!blocks.is_empty(), "the page has a block of the kind {kind}");
    blocks
}

/// The policy in the block before the first one of this kind.
fn policy_before(kind: &str) -> Policy {
    let blocks = blocks();
    let at = blocks.iter().position(|block| block.kind == kind).unwrap();
    Policy::parse(&blocks[at - 1].text).unwrap()
}

#[test]
fn the_pages_policies_are_read_or_refused_as_it_says() {
    for block in of_kind("toml") {
        let read = Policy::parse(&block.text);
        match block.kind.strip_prefix("toml refused ") {
            None => drop(read.unwrap_or_else(|error| panic!("{error}: {:?}\n{}", error.rule, block.text))),
            Some(place) => {
                let Err(PolicyError { at: Some(at), .. }) = read else { panic!("{}", block.text) };
                assert_eq!(format!("{}:{}", at.line, at.column), place, "{}", block.text);
            }
        }
    }
}

#[test]
fn the_pages_references_are_read_as_it_says() {
    for (text, read) in of_kind("reads").iter().flat_map(Block::lines) {
        let reference = text.parse::<Reference>().map(|reference| reference.to_string());
        assert_eq!(reference.as_deref().unwrap_or("refused"), read, "{text}");
    }
}

#[test]
fn the_pages_remaps_give_the_identities_it_says() {
    let policy = policy_before("identities");
    for (text, identity) in of_kind("identities").iter().flat_map(Block::lines) {
        let reference: Reference = text.parse().unwrap();
        let repository = policy.identity(&reference.repository).unwrap();
        assert_eq!(Reference { repository, ..reference }.to_string(), identity);
    }
}

#[test]
fn the_pages_scopes_apply_as_it_says() {
    let policy = policy_before("matches");
    for (text, scope) in of_kind("matches").iter().flat_map(Block::lines) {
        let reference: Reference = text.parse().unwrap();
        let identity = policy.identity(&reference.repository).unwrap();
        let selected = policy.select(&identity.host, &target_name(&reference));
        assert_eq!(selected.map_or("none", |scope| scope.pattern.as_str()), scope, "{text}");
    }
}

#[tokio::test]
async fn the_pages_decisions_come_out_as_it_says() {
    for block in of_kind("decides") {
        let rule = block.kind.strip_prefix("decides ").unwrap();
        // The keys of a scope, each on a line of its own.
        let rule = [" optional =", " on-absent =", " fallback =", " veto =", " constraint ="]
            .iter()
            .fold(rule.to_owned(), |rule, key| rule.replace(key, &format!("\n{}", key.trim_start())));
        for (roots, expected) in block.lines() {
            let roots: Vec<(&str, &str)> =
                roots.split(", ").map(|root| root.split_once(' ').unwrap()).collect();
            let mut world = Several::new(roots.len(), MANIFEST);
            world.push("v2", MANIFEST);
            for (at, (name, does)) in roots.iter().enumerate() {
                assert_eq!(*name, letter(at).to_string());
                match *does {
                    "signs" => world.vouch(at, "v2", MANIFEST),
                    "other" => world.vouch(at, "v2", OTHER),
                    "lacks" => {}
                    "revokes" => {
                        world.vouch(at, "v2", MANIFEST);
                        world.publishers[at].revoke(MANIFEST, "a hole");
                        world.publish(at);
                    }
                    "down" => world.hosts[at].fail_with(Some(503)),
                    other => panic!("{other}"),
                }
            }
            let verification = world.ask(&world.scope(&rule), "v2").await;
            assert_eq!(verification.verdict.name(), expected, "{rule}\n{roots:?}\n{verification:#?}");
        }
    }
}

/// A user with one root pinned, whose `acme/app:v1` is signed and pushed.
struct Desk {
    dir: tempfile::TempDir,
    registry: Host,
    publisher: Publisher,
}

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

fn desk() -> Desk {
    let dir = tempfile::tempdir().unwrap();
    let (registry, mut publisher) = (Host::start(), Publisher::new(SystemClock.now()));
    publisher.vouch("acme/app:v1", MANIFEST);
    publisher.publish(&registry);
    registry.put("acme/app/manifests/v1", MANIFEST);
    fs::create_dir_all(dir.path().join("home/roots")).unwrap();
    fs::write(dir.path().join("home/roots/acme-root.json"), &publisher.root).unwrap();
    Desk { dir, registry, publisher }
}

impl Desk {
    fn policy_path(&self) -> PathBuf {
        self.dir.path().join("home/policy.toml")
    }

    /// Writes a policy with the root, on its lines 1 to 4, and `rest`.
    fn policy(&self, rest: &str) -> &Self {
        let root = format!(
            "[root.acme]\nfile = \"roots/acme-root.json\"\nsha256 = \"{}\"\nrepository = \"HOST/acme/trust\"\n",
            Digest::of(&self.publisher.root).hex()
        );
        fs::write(self.policy_path(), (root + rest).replace("HOST", &self.registry.address)).unwrap();
        self
    }

    fn covered(&self) -> &Self {
        self.policy("[[scope]]\nmatch = \"HOST/acme/**\"\nrequire = { all = [\"acme\"] }\n")
    }

    fn run(&self, line: &str) -> Ran {
        self.run_with(line, &[], &[])
    }

    /// The same with more arguments and variables, which may be empty.
    fn run_with(&self, line: &str, more: &[&str], variables: &[(&str, &str)]) -> Ran {
        let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_plimsoll"))
            .args(line.replace("HOST", &self.registry.address).split_whitespace())
            .args(more)
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PLIMSOLL_HOME", self.dir.path().join("home"))
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| {
            let text = String::from_utf8(bytes).unwrap().replace(&self.registry.address, "HOST");
            text.replace(self.dir.path().to_str().unwrap(), "DIR")
                .replace(&Digest::of(MANIFEST).to_string(), "GOOD")
        };
        Ran { code: status.code().unwrap(), stdout: text(stdout), stderr: text(stderr) }
    }
}

#[test]
fn a_policy_that_can_be_used_is_good_and_what_is_hardly_meant_is_noted() {
    let desk = desk();
    let ran = desk.covered().run("policy check");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!(ran.stdout, "good  DIR/home/policy.toml: roots 1, scopes 1, remaps 0, profiles none\n");
    assert!(desk.registry.lines().is_empty(), "nobody is asked");

    let rest = r#"
[[scope]]
match = "docker.io/nginx"
action = "deny"
reason = "x"
[[scope]]
match = "m.io/acme/app"
action = "deny"
reason = "x"
[[scope]]
match = "HOST/other/**"
require = { all = ["acme"] }
[[scope]]
match = "HOST/mine/**"
require = { all = ["acme"] }
map = { acme = "acme/**" }
[[scope]]
match = "HOST/acme/app:v*"
require = { all = ["acme"] }
digest-refs = "retained"
[[scope]]
match = "HOST/acme/old"
action = "allow-digest"
digests = ["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]
until = "2020-01-01T00:00:00Z"
reason = "x"
[[remap]]
from = "m.io"
to = "r.io"
"#;
    let ran = desk.policy(rest).run("policy check");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let notes: Vec<&str> = ran.stdout.lines().skip(1).collect();
    let expected = [
        "no reference is ever in the scope docker.io/nginx: names of one part are below library/",
        "no reference is ever in the scope m.io/acme/app: the remap from m.io judges what is there as r.io",
        "the pinned root acme says that it speaks for acme/** only, which is not all of the scope HOST/other/**",
        "`digest-refs` of the scope HOST/acme/app:v* never applies: a scope of tags covers no reference by digest",
        "what the scope HOST/acme/old allowed ended on 2020-01-01",
    ];
    assert_eq!(notes.len(), expected.len(), "{notes:#?}");
    for (note, expected) in notes.iter().zip(expected) {
        assert!(note.contains(expected), "{note}\n{expected}");
    }
    let unused = desk.policy("").run("policy check -o json");
    let json: serde_json::Value = serde_json::from_str(&unused.stdout).unwrap();
    assert_eq!(json["notes"], serde_json::json!(["no scope names [root.acme]"]));
}

#[test]
fn a_policy_that_cannot_be_used_is_2_with_line_and_column() {
    let desk = desk();
    let with = |rest: &str| {
        let ran = desk.policy(rest).run("policy check");
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{rest}");
        // Nothing that is wrong with the policy is left for the one reference that needs it.
        assert_eq!(desk.run("verify HOST/acme/app:v1").code, 2, "{rest}");
        ran.stderr
    };
    for (rest, says) in [
        ("priority = 1\n", "line 5, column 1: unknown field `priority`"),
        ("floor = 1\n", "line 5, column 9: "),
        (
            "[[scope]]\nmatch = \"HOST/x\"\nrequire = { all = [\"us\"] }\n",
            "line 7, column 20: [[scope]] HOST/x require.all.1: there is no [root.us]",
        ),
        (
            "[root.us]\nfile = \"us.json\"\nsha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"\nrepository = \"HOST/us/trust\"\n",
            "line 6, column 8: [root.us] file: DIR/home/us.json cannot be reached",
        ),
        (
            "[root.us]\ninline = \"\"\nsha256 = \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\nrepository = \"http://256.1.1.1/x\"\n",
            "line 8, column 14: [root.us] repository: `http://256.1.1.1/x` must be http",
        ),
    ] {
        let stderr = with(rest);
        assert!(stderr.contains(says), "{stderr}\n{says}");
    }
}

/// What a policy names is as much a part of it as what it says: each file, and what is in it, with the place of its name.
#[test]
fn what_is_wrong_with_a_file_is_told_with_the_line_and_column_of_its_name() {
    let desk = desk();
    let home = desk.dir.path().join("home");
    let covered = "[[scope]]\nmatch = \"HOST/acme/**\"\nrequire = { all = [\"acme\"] }\n";
    let us = |document: &str, content: &[u8]| {
        let sha256 = Digest::of(content).hex();
        format!("[root.us]\n{document}\nsha256 = \"{sha256}\"\nrepository = \"HOST/us/trust\"\n")
    };
    fs::write(home.join("text"), "not JSON").unwrap();
    fs::write(home.join("big"), vec![b' '; 513 * 1024]).unwrap();
    let floor = r#"{"floor":1,"trust":"ffffffffffffffffffffffffffffffff","pinned":"sha256:ROOT","as-of":"2026-01-31T12:00:00Z",
        "root":{"version":1,"digest":"sha256:ROOT"},"timestamp":{"version":1,"digest":"sha256:ROOT","keys":["ROOT"]},
        "snapshot":{"version":1,"digest":"sha256:ROOT","keys":["ROOT"]},"roles":{}}"#;
    let digest = Digest::of(&desk.publisher.root).hex();
    fs::write(home.join("other-floor"), floor.replace("ROOT", &digest)).unwrap();
    for (rest, says) in [
        (us("file = \"none\"", b""), "line 6, column 8: [root.us] file: DIR/home/none cannot be reached"),
        (
            us("file = \"roots\"", b""),
            "line 6, column 8: [root.us] file: DIR/home/roots cannot be reached: it is not a file",
        ),
        (us("file = \"big\"", b""), "line 6, column 8: [root.us] file: DIR/home/big cannot be reached"),
        (
            us("file = \"text\"", b"x"),
            "line 6, column 8: [root.us] file: DIR/home/text is not the root that was pinned: its sha256",
        ),
        (
            us("file = \"text\"", b"not JSON"),
            "line 6, column 8: [root.us] file: it is no root document: root: not strict JSON",
        ),
        (us("inline = \"{}\"", b"{}"), "line 6, column 10: [root.us] inline: it is no root document"),
        (us("inline = \"{}\"", b"x"), "line 6, column 10: [root.us] inline: the inline root is not the one"),
        (
            "floor = \"none\"\n".to_owned(),
            "line 5, column 9: [root.acme] floor: DIR/home/none cannot be reached",
        ),
        (
            "floor = \"text\"\n".to_owned(),
            "line 5, column 9: [root.acme] floor: DIR/home/text is not a floor: not strict JSON",
        ),
        (
            "floor = \"other-floor\"\n".to_owned(),
            "line 5, column 9: [root.acme] floor: the floor is of trust id ffff",
        ),
    ] {
        let text = format!("{rest}{covered}");
        for command in ["policy check", "verify HOST/acme/app:v1"] {
            let ran = desk.policy(&text).run(command);
            assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{text}");
            assert!(ran.stderr.contains(says), "{}\n{says}", ran.stderr);
        }
    }
    desk.policy(covered);
    assert_eq!(desk.run("policy check").code, 0);
    fs::write(home.join("roots/acme-root.json"), "{}").unwrap();
    let ran = desk.run("policy check");
    let says =
        "line 2, column 8: [root.acme] file: DIR/home/roots/acme-root.json is not the root that was pinned";
    assert!(ran.code == 2 && ran.stderr.contains(says), "{}", ran.stderr);
    assert!(ran.stderr.contains("find out who did"), "{}", ran.stderr);
    // As JSON, too.
    let json = fs::read_to_string(desk.policy_path()).unwrap();
    let json = plimsoll_core::policy::PolicyFile::from_toml(&json).unwrap().to_json();
    fs::remove_file(desk.policy_path()).unwrap();
    fs::write(home.join("policy.json"), json).unwrap();
    let ran = desk.run("policy check");
    assert!(
        ran.code == 2 && ran.stderr.contains("policy.json: line 4, column 15: [root.acme] file:"),
        "{}",
        ran.stderr
    );
    assert!(desk.registry.lines().is_empty(), "nobody is asked");
}

/// T28: two documents of one trust repository are one voice, under whatever names.
#[test]
fn a_trust_repository_that_is_pinned_twice_has_one_voice() {
    let desk = desk();
    // Another root document of the same trust id.
    let again = Publisher::new(SystemClock.now());
    fs::write(desk.dir.path().join("home/roots/again.json"), &again.root).unwrap();
    let rest = |list: &str| {
        format!(
            "[root.again]\nfile = \"roots/again.json\"\nsha256 = \"{}\"\nrepository = \"HOST/again/trust\"\n\
             [[scope]]\nmatch = \"HOST/acme/**\"\n{list}\n",
            Digest::of(&again.root).hex()
        )
    };
    let says = "[root.again] and [root.acme] are of the same trust repository, and one trust repository has one voice";
    for (list, place) in [
        (
            "require = { all = [\"acme\", \"again\"] }",
            "line 11, column 28: [[scope]] HOST/acme/** require.all.2: ",
        ),
        (
            "require = { threshold = 2, of = [\"acme\", \"again\"] }",
            "line 11, column 42: [[scope]] HOST/acme/** require.of.2: ",
        ),
        (
            "require = { any = [\"acme\", \"again\"] }",
            "line 11, column 28: [[scope]] HOST/acme/** require.any.2: ",
        ),
    ] {
        for command in ["policy check", "verify HOST/acme/app:v1"] {
            let ran = desk.policy(&rest(list)).run(command);
            assert_eq!(ran.code, 2, "{list}: {}", ran.stdout);
            assert!(ran.stderr.contains(&format!("{place}{says}")), "{}", ran.stderr);
        }
    }
    let profile = rest("require = { all = [\"acme\"] }")
        + "[[profile.ci.scope]]\nmatch = \"HOST/acme/**\"\nrequire = { any = [\"again\", \"acme\"] }\n";
    let ran = desk.policy(&profile).run("policy check");
    let says =
        "line 14, column 29: [[profile.ci.scope]] HOST/acme/** require.any.2: [root.acme] and [root.again]";
    assert!(ran.code == 2 && ran.stderr.contains(says), "{}", ran.stderr);
    // One after the other is not both at a time.
    let apart =
        rest("require = { all = [\"acme\"] }\nfallback = { all = [\"again\"] }\non-absent = \"fallback\"");
    assert_eq!(desk.policy(&apart).run("policy check").code, 0);
    assert!(desk.registry.lines().is_empty(), "nobody is asked");
}

#[test]
fn each_step_to_a_verdict_is_told() {
    let desk = desk();
    let rest = r#"
[[scope]]
match = "r.io/vendored/**"
require = { all = ["acme"] }
map = { acme = "acme/**" }
pin = { acme = { role = "targets--app" } }
max-signed-age = "90d"
constraint = { tag = ">=1" }
[[scope]]
match = "r.io/**"
action = "deny"
reason = "we do not run that"
[[scope]]
match = "HOST/acme/**"
require = { all = ["acme"] }
[[remap]]
from = "HOST/mirror"
to = "r.io/vendored"
[[remap]]
from = "HOST/mirror/acme/app"
to = "r.io"
"#;
    let ran = desk.policy(rest).run("policy explain HOST/acme/app:v1");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.stdout);
    for says in [
        "VERIFIED  HOST/acme/app:v1",
        "reference  HOST/acme/app:v1 is read as HOST/acme/app:v1",
        "identity   no remap applies",
        "scope      HOST/acme/** applies: every repository below acme/",
        "rule       acme must vouch for it",
        "root       acme (required), asked for acme/app:v1: VERIFIED by targets > targets--app, signed ",
        "registry   its tag points to GOOD, as signed",
        "verdict    VERIFIED: signed by",
    ] {
        assert!(ran.stdout.contains(says), "{says}\n{}", ran.stdout);
    }
    desk.registry.put("mirror/app/manifests/v1", MANIFEST);
    let ran = desk.run("policy explain HOST/mirror/app:v1");
    assert_eq!(ran.code, 16, "{}", ran.stdout);
    for says in [
        "identity   the remap from HOST/mirror to r.io/vendored applies: it is judged as r.io/vendored/app:v1",
        "scope      r.io/vendored/** applies, the most specific: every repository below vendored/",
        "less specific, so without a say: r.io/**",
        "acme calls it acme/app:v1",
        "in acme, the role targets--app must be on the path",
        "the tag must be a version: >=1",
        "it must have been signed in the last 90 days",
        "registry   its tag points to GOOD, as signed",
        "verdict    POLICY_DENY: your policy refuses it: the tag must be a version",
        "next       ",
    ] {
        assert!(ran.stdout.contains(says), "{says}\n{}", ran.stdout);
    }
    // The longest remap makes no repository of it, and no shorter one steps in.
    let ran = desk.run("policy explain HOST/mirror/acme/app:v1");
    assert_eq!(ran.code, 17, "{}", ran.stdout);
    for says in [
        "the remap from HOST/mirror/acme/app to r.io applies, and what it makes of it is no repository",
        "verdict    NO_POLICY",
    ] {
        assert!(ran.stdout.contains(says), "{says}\n{}", ran.stdout);
    }
    let ran = desk.run("policy explain r.io/x");
    assert_eq!(ran.code, 16);
    assert!(ran.stdout.contains("rule       it is refused, and nobody is asked: we do not run that"));
    let ran = desk.run("policy explain ubuntu -o json");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, json["verdict"].as_str()), (17, Some("NO_POLICY")));
    assert_eq!(
        json["steps"][0]["text"],
        "docker.io/library/ubuntu is read as docker.io/library/ubuntu:latest"
    );
    assert_eq!(json["steps"][2]["text"], "none covers docker.io/library/ubuntu:latest");
}

/// Asked and answered, asked without an answer, or not asked: that is told, and nothing else.
#[test]
fn the_step_of_the_registry_says_what_happened() {
    let mut desk = desk();
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let down = silent.local_addr().unwrap().to_string();
    drop(silent);
    desk.publisher.vouch("acme/app:gone", MANIFEST);
    desk.publisher.revoke(b"something else", "a hole");
    desk.publisher.publish(&desk.registry);
    let rest = format!(
        r#"
[[scope]]
match = "HOST/acme/**"
require = {{ all = ["acme"] }}
[[scope]]
match = "{down}/acme/**"
require = {{ all = ["acme"] }}
[[scope]]
match = "r.io/denied/**"
action = "deny"
reason = "no"
[[scope]]
match = "HOST/listed/**"
action = "allow-digest"
digests = ["{}"]
until = "2999-01-01T00:00:00Z"
reason = "new"
"#,
        Digest::of(MANIFEST)
    );
    desk.policy(&rest);
    let good = Digest::of(MANIFEST);
    let other = Digest::of(OTHER);
    for (reference, code, says) in [
        ("HOST/acme/app:v1".to_owned(), 0, "its tag points to GOOD, as signed"),
        ("HOST/acme/app:gone".to_owned(), 11, "it has no such tag"),
        (
            format!("{down}/acme/app:v1"),
            30,
            "asked for the tag, and without an answer that could be used: cannot",
        ),
        // Something was taken back, so what the registry hands out matters to an absence, too.
        (
            format!("{down}/acme/app:v9"),
            10,
            "asked for the tag, and without an answer that could be used: cannot",
        ),
        (
            format!("{down}/acme/app:v1@{good}"),
            0,
            "asked for the tag, and without an answer that could be used: cannot",
        ),
        (format!("HOST/acme/app:v1@{good}"), 0, "its tag points to GOOD, as signed"),
        (format!("HOST/acme/app@{good}"), 0, "not asked: the digest is written in the reference, and no tag"),
        (
            format!("HOST/acme/app:v9@{other}"),
            10,
            "not asked: the digest is written in the reference, and the roots",
        ),
        ("r.io/denied/x".to_owned(), 16, "not asked: it is refused"),
        ("HOST/listed/x".to_owned(), 16, "it has no such tag"),
        (format!("HOST/listed/x@{good}"), 0, "not asked: the digest is written in the reference\n"),
        ("ubuntu".to_owned(), 17, "not asked: no scope covers the reference"),
    ] {
        let ran = desk.run(&format!("policy explain {reference}"));
        assert_eq!(ran.code, code, "{reference}\n{}{}", ran.stdout, ran.stderr);
        let step = format!("registry   {says}");
        assert!(ran.stdout.contains(&step), "{reference}\n{}", ran.stdout);
        assert!(!ran.stdout.contains("would not change"), "{}", ran.stdout);
    }
}

#[test]
fn a_table_of_expectations_is_0_or_16() {
    let desk = desk();
    desk.covered();
    let table = |text: &str| {
        fs::write(desk.dir.path().join("table"), text.replace("HOST", &desk.registry.address)).unwrap();
    };
    table("# ours\nHOST/acme/app:v1 VERIFIED\nHOST/acme/app:v9 ABSENT # not yet\nubuntu NO_POLICY\n");
    let ran = desk.run("policy test table");
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(
        ran.stdout,
        "ok    HOST/acme/app:v1  VERIFIED\nok    HOST/acme/app:v9  ABSENT\nok    docker.io/library/ubuntu:latest  NO_POLICY\n"
    );
    let lines = desk.registry.lines();
    let refreshes = lines.iter().filter(|line| line.ends_with("acme/trust/manifests/latest")).count();
    assert_eq!(refreshes, 1, "{lines:?}");

    table("HOST/acme/app:v1 ABSENT\nHOST/acme/app:v1 VERIFIED\n");
    let ran = desk.run("policy test table");
    assert_eq!(ran.code, 16);
    assert!(
        ran.stdout.starts_with("FAIL  HOST/acme/app:v1  line 1: expected ABSENT, is VERIFIED: signed by"),
        "{}",
        ran.stdout
    );
    assert!(ran.stderr.contains("1 of 2 as expected"), "{}", ran.stderr);
    let json: serde_json::Value =
        serde_json::from_str(&desk.run("policy test table -o json").stdout).unwrap();
    assert_eq!((json[0]["ok"].as_bool(), json[1]["ok"].as_bool()), (Some(false), Some(true)));

    for (text, says) in [
        ("", "there is no line to test"),
        ("HOST/acme/app:v1\n", "line 1: a line is REFERENCE VERDICT"),
        ("\nHOST/acme/app:v1 GOOD\n", "line 2: `GOOD` is no verdict"),
    ] {
        table(text);
        let ran = desk.run("policy test table");
        assert!(ran.code == 2 && ran.stderr.contains(says), "{}", ran.stderr);
    }
    assert_eq!(desk.run("policy test none").code, 2);
    for block in of_kind("table") {
        table(&block.text);
        assert_eq!(desk.run("policy test table").code, 16, "the page's table is one, of other names");
    }
}

#[test]
fn a_policy_to_start_from_is_written_once() {
    let desk = desk();
    let ran = desk.run("policy init");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(
        ran.stdout.starts_with("wrote DIR/home/policy.toml\n  next  plimsoll trust add"),
        "{}",
        ran.stdout
    );
    let written = fs::read(desk.policy_path()).unwrap();
    let checked = desk.run("policy check");
    assert_eq!(checked.stdout, "good  DIR/home/policy.toml: roots 0, scopes 0, remaps 0, profiles none\n");
    let again = desk.run("policy init");
    assert!(again.code == 2 && again.stderr.contains("it is not overwritten"), "{}", again.stderr);
    assert_eq!(fs::read(desk.policy_path()).unwrap(), written);

    // What is added is added below the comments.
    fs::write(desk.dir.path().join("root.json"), &desk.publisher.root).unwrap();
    let sha256 = Digest::of(&desk.publisher.root).hex();
    let ran =
        desk.run(&format!("trust add acme --root root.json --sha256 {sha256} --repository HOST/acme/trust"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(fs::read(desk.policy_path()).unwrap().starts_with(&written));
    assert_eq!(desk.run("verify HOST/acme/app:v1").code, 0);

    let elsewhere = desk.run("policy init --policy ci/policy.toml");
    assert_eq!(elsewhere.code, 0, "{}", elsewhere.stderr);
    assert!(desk.dir.path().join("ci/policy.toml").exists());
    assert_eq!(desk.run("policy init --policy ci/policy.json").code, 2);
    let dangling = desk.dir.path().join("ci/link.toml");
    std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
    assert_eq!(desk.run("policy init --policy ci/link.toml").code, 2);
    assert!(!desk.dir.path().join("ci/nowhere").exists());
}

/// T61: a scope that only looks like a good one is not told to be written as it is.
#[test]
fn a_look_alike_in_a_scope_is_named() {
    let desk = desk();
    for (pattern, words) in [
        ("HOST/\u{430}cme/app", "of `HOST/\u{430}cme/app` is U+0430; a scope holds plain ASCII"),
        (
            "r\u{435}gistry.example.com/acme/app",
            "character 2 of `r\u{435}gistry.example.com/acme/app` is U+0435",
        ),
    ] {
        let scope = format!("[[scope]]\nmatch = \"{pattern}\"\nrequire = {{ all = [\"acme\"] }}\n");
        let ran = desk.policy(&scope).run("policy check");
        assert!(ran.code == 2 && ran.stderr.contains("line 6, column 9"), "{}", ran.stderr);
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
    }
}

#[test]
fn a_tag_that_is_no_full_version_is_told_as_that() {
    let desk = desk();
    desk.policy("[[scope]]\nmatch = \"HOST/acme/**\"\nrequire = { all = [\"acme\"] }\nconstraint = { tag = \">=1, <3\" }\n");
    let ran = desk.run("verify HOST/acme/app:v1");
    assert!(
        ran.code == 16
            && ran.stdout.contains("the tag is v1, which is no full semantic version, as 1.2.3 is"),
        "{}",
        ran.stdout
    );
}

#[test]
fn another_policy_and_a_profile_can_be_named() {
    let desk = desk();
    desk.covered();
    let scope =
        "\n[[profile.closed.scope]]\nmatch = \"HOST/acme/**\"\naction = \"deny\"\nreason = \"closed\"\n";
    let text =
        fs::read_to_string(desk.policy_path()).unwrap() + &scope.replace("HOST", &desk.registry.address);
    fs::write(desk.policy_path(), &text).unwrap();
    assert_eq!(desk.run("verify HOST/acme/app:v1").code, 0);
    assert_eq!(desk.run("verify --profile closed HOST/acme/app:v1").code, 16);
    let ran = desk.run("verify --profile open HOST/acme/app:v1");
    assert!(
        ran.code == 2 && ran.stderr.contains("there is no [profile.open]; there is: closed"),
        "{}",
        ran.stderr
    );

    // An argument that is empty was to be a name; a variable that is empty is as good as none.
    let line = "verify HOST/acme/app:v1";
    for empty in [["--profile", ""].as_slice(), &["--profile="]] {
        let ran = desk.run_with(line, empty, &[("PLIMSOLL_PROFILE", "closed")]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{}", ran.stderr);
        assert!(ran.stderr.starts_with("error: --profile names no profile\n  try: "), "{}", ran.stderr);
    }
    assert_eq!(desk.run_with(line, &[], &[("PLIMSOLL_PROFILE", "")]).code, 0);
    assert_eq!(desk.run_with(line, &[], &[("PLIMSOLL_PROFILE", "closed")]).code, 16);
    assert_eq!(desk.run_with(line, &[], &[("PLIMSOLL_PROFILE", "open")]).code, 2);

    let other = desk.dir.path().join("home/other.json");
    fs::write(&other, "{\"scope\": [{\"match\": \"r.io/x\", \"action\": \"deny\", \"reason\": \"no\"}]}")
        .unwrap();
    assert_eq!(desk.run("verify --policy home/other.json HOST/acme/app:v1").code, 17);
    assert_eq!(desk.run("verify --policy home/other.json r.io/x").code, 16);
    fs::write(&other, "{\"scope\": [{\"match\": \"x\"}]}").unwrap();
    let ran = desk.run("policy check --policy home/other.json");
    assert!(ran.code == 2 && ran.stderr.contains("home/other.json: line 1, column 22"), "{}", ran.stderr);
    let ran = desk.run("verify --policy none.toml HOST/acme/app:v1");
    assert!(ran.code == 2 && ran.stderr.contains("there is no policy at DIR/none.toml"), "{}", ran.stderr);
}
