//! The binary: what it prints, its exit codes, and that bad input changes nothing.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use common::{Host, Publisher};
use plimsoll::clock::{Clock, SystemClock};
use plimsoll_core::oci::Digest;

const OLD: &[u8] = br#"{"schemaVersion":2,"config":{},"layers":[],"x":0}"#;
const MANIFEST: &[u8] = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;

/// A user: a home, a working folder with a passphrase, a root to pin, and a registry that has it signed.
struct Desk {
    dir: tempfile::TempDir,
    registry: Host,
    publisher: Publisher,
}

/// What a command did.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

fn desk() -> Desk {
    let dir = tempfile::tempdir().unwrap();
    let (registry, mut publisher) = (Host::start(), Publisher::new(SystemClock.now()));
    publisher.timestamp_life = chrono::TimeDelta::minutes(23 * 60 + 30);
    publisher.vouch("acme/app:v1", MANIFEST);
    publisher.publish(&registry);
    registry.put("acme/app/manifests/v1", MANIFEST);
    fs::write(dir.path().join("pass"), "correct horse\n").unwrap();
    fs::write(dir.path().join("root.json"), &publisher.root).unwrap();
    Desk { dir, registry, publisher }
}

fn pinned() -> Desk {
    let desk = desk();
    let sha256 = Digest::of(&desk.publisher.root).hex();
    let repository = format!("{}/acme/trust", desk.registry.address);
    let ran =
        desk.run(&format!("trust add acme --root root.json --sha256 {sha256} --repository {repository}"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    desk
}

impl Desk {
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
        command
            .args(line.replace("HOST", &self.registry.address).split_whitespace())
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PLIMSOLL_HOME", self.dir.path().join("home"))
            .stdin(Stdio::null());
        command
    }

    /// Runs a command line; `HOST` stands for the registry.
    fn run(&self, line: &str) -> Ran {
        let Output { status, stdout, stderr } = self.command(line).output().unwrap();
        let text = |bytes| self.scrub(&String::from_utf8(bytes).unwrap());
        Ran { code: status.code().unwrap(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// Takes out what differs from run to run.
    fn scrub(&self, text: &str) -> String {
        let text = text
            .replace(&self.registry.address, "HOST")
            .replace(self.dir.path().to_str().unwrap(), "DIR")
            .replace(&Digest::of(MANIFEST).hex(), "GOOD")
            .replace(&Digest::of(&self.publisher.root).hex(), "ROOT");
        ["0 s ago", "1 s ago", "2 s ago", "3 s ago"].iter().fold(text, |text, ago| text.replace(ago, "NOW"))
    }

    /// Everything on disk but locks, with modes.
    fn files(&self) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        let (mut files, mut folders) = (BTreeMap::new(), vec![self.dir.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let mode = fs::metadata(&path).unwrap().permissions().mode();
                let bytes = if path.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
                if path.is_dir() {
                    folders.push(path.clone());
                }
                files.insert(path, (mode, bytes));
            }
        }
        files
    }

    /// Runs a command that must fail with `code` and one line that holds `says`, and must change nothing.
    fn refused(&self, line: &str, code: i32, says: &str) {
        let before = self.files();
        let ran = self.run(line);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{line}\n{}", ran.stderr);
        assert!(ran.stderr.contains(says), "{line}\n{}", ran.stderr);
        let errors = ran.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, 1, "{line}\n{}", ran.stderr);
        assert_eq!(self.files(), before, "{line}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_is_signed_reads_verified_and_resolves() {
    let desk = pinned();
    let ran = desk.run("verify HOST/acme/app:v1");
    let text = "\
VERIFIED  HOST/acme/app:v1  sha256:GOOD
  signed by  targets > targets--app, under the root acme
  as of      NOW, timestamp 1; good for another 23 h
";
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, text, ""));
    let ran = desk.run("resolve HOST/acme/app:v1");
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "HOST/acme/app@sha256:GOOD\n", ""));
    let ran = desk.run("verify HOST/acme/app:v1 -o json");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&json["verdict"], &json["resolved"]),
        (&"VERIFIED".into(), &"HOST/acme/app@sha256:GOOD".into())
    );
    assert_eq!(json["roots"][0]["path"], serde_json::json!(["targets", "targets--app"]));
}

#[test]
fn what_is_not_prints_the_verdict_the_reason_and_what_to_do() {
    let mut desk = pinned();
    desk.registry.put("acme/app/manifests/v1", b"{}");
    let other = Digest::of(b"{}");
    let ran = desk.run("verify HOST/acme/app:v1");
    let text = format!(
        "\
MISMATCH  HOST/acme/app:v1
  why   the publisher signed sha256:GOOD, but {other} is presented: the tag was moved without a signature, or somebody \
         exchanged the image
  next  do not run it; tell the publisher. `plimsoll resolve HOST/acme/app:v1` prints what was signed
  as of NOW
"
    );
    assert_eq!((ran.code, ran.stdout, ran.stderr.as_str()), (12, text, ""));
    // `resolve` keeps standard output clean.
    let ran = desk.run("resolve HOST/acme/app:v2");
    assert_eq!((ran.code, ran.stdout.as_str()), (10, ""));
    assert!(ran.stderr.starts_with("ABSENT  HOST/acme/app:v2\n  why   "), "{}", ran.stderr);
    let ran = desk.run("resolve -q HOST/acme/app:v2");
    assert_eq!((ran.code, ran.stderr.as_str()), (10, "ABSENT  HOST/acme/app:v2\n"));
    desk.publisher.revoke(MANIFEST, "leaked");
    desk.publisher.publish(&desk.registry);
    desk.registry.put("acme/app/manifests/v1", MANIFEST);
    let ran = desk.run("verify HOST/acme/app:v1");
    assert_eq!(ran.code, 14);
    assert!(ran.stdout.contains("taken back by targets--app of acme on "), "{}", ran.stdout);
    let ran = desk.run("verify r.io/acme/app:v1");
    assert_eq!(ran.code, 17);
    assert!(ran.stdout.starts_with("NO_POLICY  r.io/acme/app:v1\n"), "{}", ran.stdout);
    desk.registry.fail_with(Some(403));
    assert_eq!(desk.run("verify HOST/acme/app:v1").code, 31);
    desk.registry.fail_with(Some(503));
    assert_eq!(desk.run("verify HOST/acme/app:v1").code, 30);
}

#[test]
fn many_references_have_a_line_each_and_the_exit_code_of_the_gravest() {
    let mut desk = pinned();
    desk.publisher.vouch("acme/app:v2", MANIFEST);
    desk.publisher.vouch("acme/app:v3", MANIFEST);
    desk.publisher.publish(&desk.registry);
    desk.registry.put("acme/app/manifests/v2", b"{}");
    desk.registry.lines();
    let ran =
        desk.run("verify HOST/acme/app:v1 HOST/acme/app:v2 HOST/acme/app:v3 HOST/acme/app:v4 r.io/x:v1");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("VERIFIED  HOST/acme/app:v1  sha256:GOOD  (as of "), "{lines:?}");
    for (line, starts) in lines.iter().zip([
        "VERIFIED  HOST/acme/app:v1  ",
        "MISMATCH  HOST/acme/app:v2  the publisher signed sha256:GOOD, but ",
        "NO_SUCH_TAG  HOST/acme/app:v3  the publisher signed it as sha256:GOOD, but ",
        "ABSENT  HOST/acme/app:v4  nobody who may speak about it has signed this name: ",
        "NO_POLICY  r.io/x:v1  no scope of your policy covers r.io/x, ",
    ]) {
        assert!(line.starts_with(starts), "{line}");
    }
    assert_eq!((ran.code, lines.len()), (12, 5));
    assert_eq!(ran.stderr, "1 of 5 are VERIFIED; the gravest verdict is MISMATCH\n");
    let latest = "GET /v2/acme/trust/manifests/latest".to_owned();
    assert_eq!(desk.registry.lines().iter().filter(|line| **line == latest).count(), 1);
    let quiet = desk.run("verify -q HOST/acme/app:v1 HOST/acme/app:v4");
    let text = "VERIFIED  HOST/acme/app:v1  sha256:GOOD\nABSENT  HOST/acme/app:v4\n";
    assert_eq!((quiet.code, quiet.stdout.as_str(), quiet.stderr.as_str()), (10, text, ""));
    // One JSON object on each line, in the order asked.
    let ran = desk.run("verify -o json HOST/acme/app:v4 HOST/acme/app:v1");
    let parsed: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = parsed.iter().map(|v| (v["version"].clone(), v["exit_code"].clone())).collect();
    assert_eq!((ran.code, told), (10, vec![(1.into(), 10.into()), (1.into(), 0.into())]));
}

#[test]
fn a_list_is_read_whole_before_anybody_is_asked() {
    let desk = pinned();
    let write = |text: &str| {
        fs::write(desk.path("list"), text.replace("HOST", &desk.registry.address)).unwrap();
    };
    write("# ours\n\n  HOST/acme/app:v1  \nHOST/acme/app:v2\n");
    let ran = desk.run("verify -f list");
    assert_eq!((ran.code, ran.stdout.lines().count()), (10, 2), "{}", ran.stderr);
    let ran = desk.run("verify HOST/acme/app:v1 --file list");
    assert_eq!((ran.code, ran.stdout.lines().count()), (10, 3), "{}", ran.stderr);
    // From standard input, and one alone is a list too.
    let mut command = desk.command("verify -f - -o json");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, format!("{}/acme/app:v1\n", desk.registry.address).as_bytes())
        .unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.iter().filter(|byte| **byte == b'\n').count()),
        (Some(0), 1)
    );

    desk.registry.lines();
    write("# nothing yet\n");
    desk.refused("verify -f list", 2, "list lists no reference");
    fs::write(desk.path("list"), [0xff, 0xfe]).unwrap();
    desk.refused("verify -f list", 2, "cannot read list");
    desk.refused("verify -f missing", 2, "cannot read missing");
    for usage in [
        "verify",
        "verify HOST/acme/app:v1 --parallel 0",
        "verify HOST/acme/app:v1 --parallel 1001",
        "verify HOST/acme/app:v1 --deadline 0s",
        "verify HOST/acme/app:v1 --deadline soon",
    ] {
        assert_eq!(desk.run(usage).code, 2, "{usage}");
    }
    assert!(desk.registry.lines().is_empty());
}

/// P2: whoever reads a verdict reads how old the view is that it rests on.
#[test]
fn every_verdict_that_rests_on_metadata_tells_its_age() {
    let mut desk = pinned();
    for tag in ["v2", "v3"] {
        desk.publisher.vouch(&format!("acme/app:{tag}"), MANIFEST);
    }
    desk.publisher.vouch("acme/app:v5", OLD);
    desk.publisher.revoke(OLD, "leaked");
    desk.publisher.publish(&desk.registry);
    desk.registry.put("acme/app/manifests/v2", b"{}");
    desk.registry.put("acme/app/manifests/v5", OLD);
    let names = ["v1", "v2", "v3", "v4", "v5"].map(|tag| format!("HOST/acme/app:{tag}"));
    let ran = desk.run(&format!("verify {} r.io/x:v1", names.join(" ")));
    let words = ["VERIFIED", "MISMATCH", "NO_SUCH_TAG", "ABSENT", "REVOKED", "NO_POLICY"];
    assert_eq!(ran.stdout.lines().count(), words.len());
    for (line, word) in ran.stdout.lines().zip(words) {
        assert!(line.starts_with(word), "{line}");
        // Where nobody was asked there is no view.
        assert_eq!(line.contains("  (as of "), word != "NO_POLICY", "{line}");
    }
    // One alone has it below, and so have those who explain or audit.
    for (name, word) in names.iter().zip(words) {
        let ran = desk.run(&format!("verify {name}"));
        let told = ran.stdout.lines().skip(1).filter(|line| line.starts_with("  as of "));
        assert_eq!((told.count(), ran.stdout.starts_with(word)), (1, true), "{}", ran.stdout);
        let explained = desk.run(&format!("policy explain {name}"));
        let head = explained.stdout.lines().next().unwrap();
        assert!(head.starts_with(word) && head.contains("  (as of "), "{head}");
    }
    fs::write(desk.path("list"), names.join("\n").replace("HOST", &desk.registry.address)).unwrap();
    let ran = desk.run("audit list");
    let heads: Vec<&str> = ran.stdout.lines().filter(|line| !line.starts_with(' ')).collect();
    assert!(heads.len() == 5 && heads.iter().all(|line| line.contains("  (as of ")), "{heads:?}");
    fs::write(desk.path("Dockerfile"), format!("FROM {}/acme/app:v1\n", desk.registry.address)).unwrap();
    let ran = desk.run("lock Dockerfile");
    assert!(ran.code == 0 && ran.stdout.contains("  (as of "), "{}{}", ran.stdout, ran.stderr);
    // Of what cannot be had now, what was seen last has an age; of what was never seen, nothing has.
    desk.registry.fail_with(Some(503));
    let ran = desk.run("verify HOST/acme/app:v1");
    assert!(ran.stdout.contains("\n  last seen "), "{}", ran.stdout);
    let ran = desk.run("verify HOST/acme/app:v1 HOST/acme/app:v5");
    assert!(ran.stdout.lines().all(|line| line.contains("  (last seen ")), "{}", ran.stdout);
    fs::remove_dir_all(desk.path("home/state")).unwrap();
    let ran = desk.run("verify HOST/acme/app:v1");
    assert!(ran.code == 30 && !ran.stdout.contains(" seen "), "{}", ran.stdout);
}

/// The lock holds to what is signed; where the registry's tag points by now is told.
#[test]
fn a_line_that_is_locked_to_what_is_signed_is_good_though_the_registrys_tag_moved() {
    let desk = pinned();
    let (address, good) = (&desk.registry.address, Digest::of(MANIFEST));
    let dockerfile = |digest: &str| {
        fs::write(desk.path("Dockerfile"), format!("FROM {address}/acme/app:v1{digest}\n")).unwrap();
    };
    desk.registry.put("acme/app/manifests/v1", b"moved by somebody");
    dockerfile(&format!("@{good}"));
    let ran = desk.run("lock --check Dockerfile");
    assert!(ran.code == 0 && ran.stdout.starts_with("current"), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("warning: the registry's tag v1 points to"), "{}", ran.stderr);
    // Without that digest, what is pulled is what the tag points to.
    for digest in [String::new(), format!("@{}", Digest::of(b"moved by somebody"))] {
        dockerfile(&digest);
        let ran = desk.run("lock --check Dockerfile");
        assert!(ran.code == 12 && ran.stdout.starts_with("MISMATCH"), "{}{}", ran.stdout, ran.stderr);
    }
    // One that is locked to something else moves on, as before.
    desk.registry.put("acme/app/manifests/v1", MANIFEST);
    let ran = desk.run("lock --check Dockerfile");
    assert!(ran.code == 12 && ran.stdout.starts_with("moved"), "{}{}", ran.stdout, ran.stderr);
}

/// What cannot be read as a reference has no verdict, and takes none from the others.
#[test]
fn one_that_is_no_reference_does_not_keep_the_others_from_being_judged() {
    let desk = pinned();
    let ran = desk.run("verify HOST/acme/app:v1 HOST/acme/App:v1 HOST/acme/app:v9");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("VERIFIED  HOST/acme/app:v1  sha256:GOOD"), "{lines:?}");
    assert!(
        lines[1].starts_with("UNKNOWN  HOST/acme/App:v1  `HOST/acme/App:v1`: `acme/App` is not"),
        "{lines:?}"
    );
    assert!(lines[2].starts_with("ABSENT  HOST/acme/app:v9"), "{lines:?}");
    assert_eq!((ran.code, lines.len()), (10, 3));
    assert_eq!(ran.stderr, "1 of 3 are VERIFIED; the gravest verdict is ABSENT; 1 could not be judged\n");
    // Where all others are good, it alone says how it ends.
    assert_eq!(desk.run("verify HOST/acme/app:v1 HOST/acme/App:v1").code, 2);
    assert_eq!(desk.run("verify :v1 HOST/acme/App:v1").code, 2);
    // In a list it is told with its line.
    let list = "HOST/acme/app:v1\n\nHOST/acme/App:v1\n".replace("HOST", &desk.registry.address);
    fs::write(desk.path("list"), list).unwrap();
    let ran = desk.run("verify -f list");
    assert_eq!((ran.code, ran.stdout.lines().count()), (2, 2), "{}", ran.stdout);
    assert!(ran.stdout.contains("UNKNOWN  HOST/acme/App:v1  line 3 of list: "), "{}", ran.stdout);
    let ran = desk.run("verify -f list -o json");
    let told: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((ran.code, told[0]["verdict"].as_str()), (2, Some("VERIFIED")));
    assert_eq!((&told[1]["verdict"], told[1]["exit_code"].as_u64()), (&serde_json::Value::Null, Some(2)));
    assert_eq!(told[1]["reference"], "HOST/acme/App:v1");
}

/// What is wrong on this machine with one host is told on the lines of that host.
#[test]
fn a_credential_helper_that_fails_ends_only_the_lines_of_its_host() {
    let desk = pinned();
    let other = common::Host::start();
    other.fail_with(Some(401));
    let config = format!("{{\"credHelpers\": {{\"{}\": \"none-such\"}}}}", other.address);
    fs::create_dir_all(desk.path(".docker")).unwrap();
    fs::write(desk.path(".docker/config.json"), config).unwrap();
    let policy = desk.path("home/policy.toml");
    let more =
        format!("\n[[scope]]\nmatch = \"{}/acme/**\"\nrequire = {{ all = [\"acme\"] }}\n", other.address);
    fs::write(&policy, fs::read_to_string(&policy).unwrap() + &more).unwrap();
    let references = format!("HOST/acme/app:v1 {}/acme/app:v1", other.address);
    let ran = desk.run(&format!("verify {references}"));
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines[0].starts_with("VERIFIED  HOST/acme/app:v1"), "{lines:?}");
    let says = format!(
        "UNKNOWN  {0}/acme/app:v1  the credential helper `docker-credential-none-such` has no answer for",
        other.address
    );
    assert!(lines[1].starts_with(&says), "{lines:?}");
    assert_eq!((ran.code, lines.len()), (2, 2));
    fs::write(desk.path("list"), references.replace("HOST", &desk.registry.address).replace(' ', "\n"))
        .unwrap();
    let ran = desk.run("audit list");
    assert_eq!(ran.code, 2, "{}", ran.stdout);
    assert!(ran.stdout.contains("VERIFIED  HOST/acme/app:v1"), "{}", ran.stdout);
    assert!(ran.stdout.contains(&format!("UNKNOWN  {}/acme/app:v1", other.address)), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("why   the credential helper `docker-credential-none-such`"),
        "{}",
        ran.stdout
    );
    // A line of a table that cannot be judged fails, and the others are told.
    let table = format!("HOST/acme/app:v1 VERIFIED\n{}/acme/app:v1 VERIFIED\n", other.address);
    fs::write(desk.path("table"), table.replace("HOST", &desk.registry.address)).unwrap();
    let ran = desk.run("policy test table");
    assert_eq!(ran.code, 2, "{}", ran.stdout);
    assert!(ran.stdout.starts_with("ok    HOST/acme/app:v1  VERIFIED\nFAIL  "), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("line 2: expected VERIFIED, is not judged: the credential helper"),
        "{}",
        ran.stdout
    );
    // One alone is the fault itself.
    let ran = desk.run(&format!("verify {}/acme/app:v1", other.address));
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.starts_with("error: the credential helper"), "{}", ran.stderr);
}

#[test]
fn an_unreachable_registry_is_30_for_every_command_that_asks_it() {
    let desk = pinned();
    assert_eq!(desk.run("verify HOST/acme/app:v1").code, 0);
    // A port where nobody listens.
    let closed = "127.0.0.1:1";
    let policy = desk.path("home/policy.toml");
    let text = fs::read_to_string(&policy).unwrap().replace(&desk.registry.address, closed);
    fs::write(&policy, text).unwrap();
    let before = desk.files();
    let ran = desk.run(&format!("verify {closed}/acme/app:v1"));
    assert_eq!(ran.code, 30, "{}", ran.stderr);
    assert!(ran.stdout.starts_with("UNREACHABLE  "), "{}", ran.stdout);
    assert_eq!(desk.run(&format!("resolve {closed}/acme/app:v1")).code, 30);
    assert_eq!(desk.run("status").code, 30);
    assert_eq!(desk.files(), before);
}

#[test]
fn wrong_usage_is_2_and_changes_nothing() {
    let desk = desk();
    for (line, says) in [
        ("", "Usage"),
        ("frobnicate", "unrecognized subcommand"),
        ("verify", "required arguments"),
        ("verify HOST/acme/App:v1", "is not a repository name"),
        ("verify HOST/acme/app:v1@sha256:00", "is not a digest"),
        ("verify HOST/acme/app:v1 --insecure", "unexpected argument"),
        ("verify HOST/acme/app:v1 -o yaml", "invalid value"),
        ("key generate", "required arguments"),
        ("key generate a --out b.key", "cannot be used with"),
        ("trust add acme --root root.json --repository HOST/acme/trust", "--sha256"),
        ("trust add acme --root root.json --sha256 00 --repository HOST/acme/trust", "is not a digest"),
        ("init HOST/acme/trust --key k --server http://127.0.0.1:1", "--scope"),
        ("init HOST/acme/trust --scope acme/[a] --key k --server http://127.0.0.1:1", "is not a scope"),
        ("sign HOST/acme/app:v1", "--key"),
        ("sign HOST/acme/app:v1 --key k --server nonsense", "--server"),
        ("delegate add acme/app --label app --key k", "--pub"),
        ("revoke HOST/acme/app:v1 --key k", "--reason"),
    ] {
        let before = desk.files();
        let ran = desk.run(line);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{line}\n{}", ran.stderr);
        assert!(ran.stderr.contains(says), "{line}\n{}", ran.stderr);
        if !line.is_empty() {
            let told: Vec<&str> = ran.stderr.lines().collect();
            assert!(told[0].starts_with("error: ") && told.len() <= 2, "{line}\n{}", ran.stderr);
            assert!(told.iter().skip(1).all(|next| next.starts_with("  try: ")), "{line}\n{}", ran.stderr);
        }
        assert_eq!(desk.files(), before, "{line}");
    }
    let next = |line: &str| desk.run(line).stderr.lines().nth(1).unwrap_or_default().to_owned();
    assert_eq!(next("verify"), "  try: plimsoll verify --help");
    assert_eq!(next("-q trust add acme"), "  try: plimsoll trust add --help");
    assert_eq!(next("frobnicate"), "  try: plimsoll --help");
    desk.refused("verify --ca-file none.pem HOST/acme/app:v1", 2, "none.pem");
}

#[test]
fn without_a_policy_the_next_step_is_named() {
    let desk = desk();
    for line in [
        "verify HOST/acme/app:v1",
        "resolve HOST/acme/app:v1",
        "status",
        "trust show x",
        "trust remove x",
        "trust reset x",
    ] {
        desk.refused(line, 2, "error: there is no policy at DIR/home/policy.toml");
        assert!(desk.run(line).stderr.contains("\n  try: plimsoll trust add NAME --root FILE --sha256 HEX"));
    }
}

#[test]
fn a_list_of_nothing_is_no_fault() {
    let desk = desk();
    for (line, says) in
        [("trust list", "no root is pinned, so nothing can be verified\n"), ("trust list -o json", "[]\n")]
    {
        let ran = desk.run(line);
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, says, ""), "{line}");
    }
}

#[test]
fn a_bad_policy_is_2_and_says_where() {
    let desk = pinned();
    let path = desk.path("home/policy.toml");
    let good = fs::read_to_string(&path).unwrap();
    for (bad, says) in [
        (format!("{good}\nextra = 1\n"), "line 10, column 1: unknown field `extra`"),
        (format!("extra = 1\n{good}"), "unknown field `extra`"),
        (good.replace("sha256", "sha512"), "sha512"),
        (good.replace("all = [\"acme\"]", "all = [\"other\"]"), "there is no [root.other]"),
        (
            good.replace("/**", "/[a]"),
            "line 7, column 9: [[scope]] HOST/acme/[a] match: `acme/[a]` is not a scope",
        ),
        ("\u{0}".to_owned(), "policy.toml"),
    ] {
        fs::write(&path, &bad).unwrap();
        desk.refused("verify HOST/acme/app:v1", 2, says);
        desk.refused("trust list", 2, says);
        desk.refused("trust remove acme", 2, says);
    }
    fs::write(&path, [0xff, 0xfe]).unwrap();
    desk.refused("verify HOST/acme/app:v1", 2, "cannot read DIR/home/policy.toml");
    fs::write(&path, &good).unwrap();
    fs::write(desk.path("home/roots/acme-root.json"), "{}").unwrap();
    desk.refused("verify HOST/acme/app:v1", 2, "is not the root that was pinned");
    fs::remove_file(desk.path("home/roots/acme-root.json")).unwrap();
    desk.refused("verify HOST/acme/app:v1", 2, "DIR/home/roots/acme-root.json cannot be reached");
}

#[test]
fn damaged_state_is_1_until_it_is_reset() {
    let desk = pinned();
    assert_eq!(desk.run("verify HOST/acme/app:v1").code, 0);
    let folder = desk.path("home/state").join(common::TRUST).join("whole");
    fs::write(folder.join("memory.json"), "{").unwrap();
    desk.refused("verify HOST/acme/app:v1", 1, "rollback memory lost");
    desk.refused("verify HOST/acme/app:v1", 1, "`plimsoll trust reset acme`");
    let ran = desk.run("status acme -o json");
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("`plimsoll trust reset acme`"), "{}", ran.stdout);
    desk.refused("trust reset acme", 2, "was not confirmed");
    desk.refused("trust reset other --yes", 2, "no root called `other`");
    let ran = desk.run("trust reset acme --yes");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(desk.run("verify HOST/acme/app:v1").code, 0);
    chmod(&folder, 0o755);
    desk.refused("verify HOST/acme/app:v1", 1, "chmod 700");
}

#[test]
fn an_empty_server_variable_counts_as_unset() {
    let desk = pinned();
    let said = |value: &str, line: &str| {
        let output = desk.command(line).env("PLIMSOLL_SERVER", value).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let sign = "sign HOST/acme/app:v1 --key none.key";
    let (code, stderr) = said("", sign);
    assert_eq!(code, 2);
    assert!(stderr.contains("no daemon is known for"), "{stderr}");
    let (code, stderr) = said("x", sign);
    assert_eq!(code, 2);
    assert!(stderr.contains("invalid value 'x' for '--server <URL>'"), "{stderr}");
    let (code, stderr) = said("", "init HOST/acme/other --scope acme/** --key none.key");
    assert_eq!(code, 2);
    assert!(stderr.contains("--server <URL>") && stderr.contains("required"), "{stderr}");
}

#[test]
fn roots_are_pinned_listed_and_removed() {
    let desk = pinned();
    let ran = desk.run("trust list");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "acme  HOST/acme/trust\n  trusted for  HOST/acme/**\n"));
    let ran = desk.run("trust show acme");
    assert!(ran.stdout.contains("remembered   nothing yet"), "{}", ran.stdout);
    desk.run("verify HOST/acme/app:v1");
    let ran = desk.run("trust show acme");
    assert!(ran.stdout.contains("remembered   root 1, timestamp 1, snapshot 1"), "{}", ran.stdout);
    let ran = desk.run("status");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("targets--app"), "{}", ran.stdout);

    let add = "trust add NAME --root root.json --sha256 ROOT --repository HOST/acme/trust"
        .replace("ROOT", &Digest::of(&desk.publisher.root).hex());
    desk.refused(&add.replace("NAME", "acme"), 2, "a root called `acme` is pinned already");
    desk.refused(&add.replace("NAME", "other"), 2, "equally specific");
    desk.refused(&add.replace("NAME", "Other"), 2, "the name `Other`");
    desk.refused(&add.replace("NAME", "other").replace("root.json", "none.json"), 2, "cannot read none.json");
    desk.refused(&add.replace("NAME", "other").replace("root.json", "pass"), 2, "does not have the sha256");
    desk.refused(&format!("{} --scope HOST/other/**", add.replace("NAME", "other")), 2, "is outside of what");
    desk.refused("trust show other", 2, "pinned: acme");
    let ran = desk.run("trust remove acme");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("still remembered"), "{}", ran.stdout);
    assert_eq!(desk.run("verify HOST/acme/app:v1").code, 17);
    assert!(desk.path("home/state").join(common::TRUST).exists());
}

#[test]
fn keys_are_made_and_shown() {
    let desk = desk();
    for (name, flag, kind) in [("team", "", "Ed25519"), ("ci", "--ecdsa", "ECDSA P-256")] {
        let ran = desk.run(&format!("key generate {name} {flag} --passphrase-file pass"));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let id = ran.stdout.lines().next().unwrap().to_owned();
        assert!(id.ends_with(kind) && id.len() == 66 + kind.len(), "{id}");
        let mode = fs::metadata(desk.path(&format!("{name}.key"))).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for line in [format!("key show {name}.pub"), format!("key show {name}.key --passphrase-file pass")] {
            let shown = desk.run(&line);
            assert_eq!((shown.code, shown.stdout.trim_end()), (0, id.as_str()), "{}", shown.stderr);
        }
    }
    fs::write(desk.path("wrong"), "battery staple\n").unwrap();
    fs::write(desk.path("empty"), "\n").unwrap();
    for (line, says) in [
        ("key generate team --passphrase-file pass", "`team.key` exists already"),
        ("key generate --out x.pub --passphrase-file pass", "is a name for a public key"),
        ("key generate x --passphrase-file none", "there is no file `none`"),
        ("key generate x --passphrase-file empty", "the passphrase is empty"),
        ("key generate none/x --passphrase-file pass", "none/x.pub"),
        ("key show none.pub", "there is no file `none.pub`"),
        ("key show pass", "is not an Ed25519, ECDSA P-256 or RSA public key"),
        ("key show team.key --passphrase-file wrong", "the passphrase does not open `team.key`"),
    ] {
        desk.refused(line, 2, says);
    }
    chmod(&desk.path("team.key"), 0o644);
    desk.refused("key show team.key --passphrase-file pass", 2, "run `chmod 600 team.key`");
}

#[test]
fn publishing_with_bad_arguments_changes_nothing() {
    let desk = pinned();
    assert_eq!(desk.run("key generate team --passphrase-file pass").code, 0);
    fs::write(desk.path("wrong"), "battery staple\n").unwrap();
    let down = "--server http://127.0.0.1:9";
    let key = "--key team.key --passphrase-file pass";
    for (line, code, says) in [
        (format!("sign HOST/acme/app:v1 {key}"), 2, "no daemon is known for HOST/acme/trust"),
        (format!("sign HOST/other/app:v1 {key} {down}"), 2, "no scope of your policy covers HOST/other/app"),
        (format!("sign HOST/acme/app:v9 {key} {down}"), 11, "there is nothing to sign"),
        (format!("sign HOST/acme/app:v1 --trust other {key} {down}"), 2, "no root called `other`"),
        (format!("sign HOST/acme/app:v1 --key none.key {down}"), 2, "there is no file `none.key`"),
        (
            format!("sign HOST/acme/app:v1 --key team.key --passphrase-file wrong {down}"),
            2,
            "passphrase does not",
        ),
        (
            format!("sign HOST/acme/app:v1 --key team.pub --passphrase-file pass {down}"),
            2,
            "`team.pub` is not a private key",
        ),
        (format!("sign HOST/acme/app:v1 {key} {down}"), 30, "cannot talk to the daemon"),
        // It answers, but it is a registry.
        (
            format!("sign HOST/acme/app:v1 {key} --server http://HOST/nowhere"),
            30,
            "but not as plimsolld does",
        ),
        (format!("revoke HOST/acme/app:v1 --reason leaked {key} {down}"), 30, "cannot talk to the daemon"),
        (format!("revoke HOST/acme/app:v1 --reason= {key} {down}"), 2, "--reason must be"),
        (format!("delegate add acme/[x] --label x --pub team.pub {key} {down}"), 2, "is not a scope"),
        (format!("delegate add r.io/acme/x --label x --pub team.pub {key} {down}"), 2, "no root is pinned"),
        (
            format!("delegate add acme/x --label x --pub none.pub {key} {down}"),
            2,
            "there is no file `none.pub`",
        ),
        (
            format!("delegate add acme/x --label x --pub team.pub {key} {down}"),
            30,
            "cannot talk to the daemon",
        ),
        (format!("init HOST/new/trust --scope new/** {key} {down}"), 30, "cannot talk to the daemon"),
        (format!("init HOST/new/trust:v1 --scope new/** {key} {down}"), 2, "has a tag or digest"),
        (format!("init HOST/new/trust --scope new/** --online-pub pass {key} {down}"), 2, "as online keys"),
        ("status other".to_owned(), 2, "no root called `other`"),
    ] {
        let before = desk.files();
        let ran = desk.run(&line);
        assert_eq!(ran.code, code, "{line}\n{}", ran.stderr);
        assert!(ran.stderr.contains(says), "{line}\n{}", ran.stderr);
        assert_eq!(desk.files(), before, "{line}");
    }
}

/// Against a daemon that takes and publishes everything: what is sent, printed and remembered on this side.
#[test]
fn a_trust_repository_is_made_pinned_and_published_to() {
    let desk = desk();
    desk.publisher.save_keys(desk.dir.path(), &desk.path("pass"));
    desk.publisher.daemon(&desk.registry, None);
    let init =
        "init HOST/acme/trust --scope acme/** --key owner.key --passphrase-file pass --server http://HOST";
    fs::write(desk.path("acme-root.json"), "mine").unwrap();
    desk.refused(init, 2, "`acme-root.json` exists already");
    fs::remove_file(desk.path("acme-root.json")).unwrap();
    desk.refused(&format!("{init} --name Acme"), 2, "the name `Acme`");
    desk.refused(&init.replace("HOST/acme/trust", "HOST/other/trust"), 2, "does not serve HOST/other/trust");

    let ran = desk.run(init);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let root = fs::read(desk.path("acme-root.json")).unwrap();
    let line = format!(
        "plimsoll trust add acme --root acme-root.json --sha256 {} --repository HOST/acme/trust",
        Digest::of(&root).hex()
    );
    assert!(ran.stdout.starts_with("made HOST/acme/trust\n"), "{}", ran.stdout);
    assert!(ran.stdout.trim_end().ends_with(&format!("clients run:\n    {line}")), "{}", ran.stdout);
    assert!(ran.stderr.contains("compare with `plimsolld key show`"), "{}", ran.stderr);
    let listed = desk.run("trust list").stdout;
    assert_eq!(listed, "acme  HOST/acme/trust\n  trusted for  HOST/acme/**\n");
    assert!(fs::read_to_string(desk.path("home/servers.toml")).unwrap().contains(&desk.registry.address));
    desk.publisher.daemon(&desk.registry, Some(common::TRUST));
    desk.refused(&format!("{init} --name again"), 2, "already is a trust repository");
}

#[test]
fn signing_revoking_and_delegating_say_what_was_published() {
    let desk = pinned();
    desk.publisher.save_keys(desk.dir.path(), &desk.path("pass"));
    let daemon = "--server http://HOST --passphrase-file pass";
    for (line, says) in [
        (
            format!("sign HOST/acme/app:v1 --key team.key {daemon}"),
            "signed HOST/acme/app:v1  sha256:GOOD\n  as     acme/app:v1\n  as     acme/app@sha256:GOOD\n  by     \
             targets--app version 3, in the registry since timestamp 2\n",
        ),
        (
            format!("revoke HOST/acme/app:v1 --reason leaked --key team.key {daemon}"),
            "revoked sha256:GOOD\n  removed  acme/app:v1\n  removed  acme/app@sha256:GOOD\n",
        ),
        (
            format!("delegate add acme/new --label new --pub team.pub --key owner.key {daemon}"),
            "delegated acme/new to targets--new\n  covers every tag and digest of acme/new; nothing below acme/new/\n",
        ),
    ] {
        let ran = desk.run(&line);
        assert_eq!(ran.code, 0, "{line}\n{}", ran.stderr);
        assert!(ran.stdout.starts_with(says), "{line}\n{}", ran.stdout);
        assert!(desk.registry.lines().contains(&"POST /v1/trusts/acme/submissions".to_owned()), "{line}");
    }
    for (line, says) in [
        (format!("sign HOST/acme/app:v1 --key owner.key --key team.key {daemon}"), "signs for no role"),
        (format!("sign HOST/acme/app:v1 --key team.key --key ./team.key {daemon}"), "was given already"),
        (
            format!("delegate add acme/x --label x --pub team.pub --key team.key {daemon}"),
            "signs for no role",
        ),
        (
            format!("delegate add acme/app --label again --pub team.pub --key owner.key {daemon}"),
            "acme/app is delegated to targets--app already",
        ),
        (
            format!("delegate add acme/x/trust --label x --pub team.pub --key owner.key {daemon}"),
            "are reserved for trust metadata",
        ),
        (format!("delegate add other/x --label x --pub team.pub --key owner.key {daemon}"), "is not inside"),
        (format!("delegate add acme/x --label a--b --pub team.pub --key owner.key {daemon}"), "cannot label"),
        (
            format!("delegate add acme/x --label x --threshold 2 --pub team.pub --key owner.key {daemon}"),
            "threshold 2",
        ),
        (
            format!("delegate add acme/x --label x --parent y --pub team.pub --key owner.key {daemon}"),
            "no role `y`",
        ),
        (
            format!("revoke HOST/acme/app:v2 --reason leaked --key team.key {daemon}"),
            "does not list acme/app:v2",
        ),
    ] {
        let ran = desk.run(&line);
        assert_eq!(ran.code, 2, "{line}\n{}", ran.stderr);
        assert!(ran.stderr.contains(says), "{line}\n{}", ran.stderr);
        assert!(!desk.registry.lines().iter().any(|line| line.starts_with("POST")), "{line}");
    }
}

#[test]
fn a_signature_that_would_decide_nothing_is_not_made() {
    let mut desk = pinned();
    desk.publisher.save_keys(desk.dir.path(), &desk.path("pass"));
    desk.registry.put("acme/app/manifests/v2", b"{}");
    let daemon = "--server http://HOST --passphrase-file pass";
    assert_eq!(desk.run(&format!("sign HOST/acme/app:v2 --key owner.key {daemon}")).code, 0);
    desk.registry.lines();
    // Its parent lists the name, and is asked first.
    let team = format!("sign HOST/acme/app:v2 --key team.key {daemon}");
    let ran = desk.run(&team);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("clients ask targets for acme/app:v2 before targets--app"), "{}", ran.stderr);
    // What its parent took back.
    desk.publisher.revoke_above(MANIFEST, "leaked");
    desk.publisher.publish(&desk.registry);
    desk.publisher.publish(&desk.registry);
    for line in [
        format!("sign HOST/acme/app:v1 --key team.key {daemon}"),
        format!("revoke HOST/acme/app:v1 --reason again --key team.key {daemon}"),
    ] {
        let ran = desk.run(&line);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{line}\n{}", ran.stderr);
        assert!(ran.stderr.contains("revoked"), "{line}\n{}", ran.stderr);
    }
    assert!(!desk.registry.lines().iter().any(|line| line.starts_with("POST")));
}

/// P6: a daemon's word is no proof.
#[test]
fn what_the_registry_does_not_show_is_not_said_to_be_published() {
    let desk = pinned();
    desk.publisher.save_keys(desk.dir.path(), &desk.path("pass"));
    desk.publisher.liar(&desk.registry, 9);
    let daemon = "--server http://HOST --passphrase-file pass";
    for line in [
        format!("sign HOST/acme/app:v1 --key team.key {daemon}"),
        format!("revoke HOST/acme/app:v1 --reason leaked --key team.key {daemon}"),
    ] {
        let ran = desk.run(&line);
        assert_eq!((ran.code, ran.stdout.as_str()), (30, ""), "{line}\n{}", ran.stderr);
        assert!(
            ran.stderr.contains(
                "in timestamp 9, but that could not be seen at HOST/acme/trust: timestamp: version "
            ),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains("\n  try: look at `plimsoll status`"), "{}", ran.stderr);
    }
}

/// Nothing is published that could not be seen afterwards.
#[test]
fn a_damaged_memory_is_told_before_anything_is_published() {
    let desk = pinned();
    desk.publisher.save_keys(desk.dir.path(), &desk.path("pass"));
    assert_eq!(desk.run("verify HOST/acme/app:v1").code, 0);
    fs::write(desk.path("home/state").join(common::TRUST).join("whole/memory.json"), "{").unwrap();
    desk.registry.lines();
    let line = "sign HOST/acme/app:v1 --key team.key --passphrase-file pass --server http://HOST";
    desk.refused(line, 1, "rollback memory lost");
    assert!(!desk.registry.lines().iter().any(|line| line.starts_with("POST")));
}

/// P6: a daemon's word is no proof. What was signed here must be what clients are shown, or older than that.
#[test]
fn a_daemon_that_drops_what_it_calls_published_is_found_out() {
    let desk = pinned();
    desk.publisher.save_keys(desk.dir.path(), &desk.path("pass"));
    desk.publisher.liar(&desk.registry, 1);
    let daemon = "--server http://HOST --passphrase-file pass";
    for (line, role) in [
        (format!("delegate add acme/new --label new --pub team.pub --key owner.key {daemon}"), "targets"),
        (format!("sign HOST/acme/app:v1 --key team.key {daemon}"), "targets--app"),
    ] {
        let ran = desk.run(&line);
        assert_eq!((ran.code, ran.stdout.as_str()), (22, ""), "{line}\n{}", ran.stderr);
        assert!(
            ran.stderr.contains(&format!("has another {role} in the place of")),
            "{line}\n{}",
            ran.stderr
        );
    }
}

/// A trust repository whose root is lost cannot be used, nor made again.
#[test]
fn a_root_that_may_be_taken_is_kept_and_pinned() {
    let desk = desk();
    desk.publisher.save_keys(desk.dir.path(), &desk.path("pass"));
    desk.publisher.liar(&desk.registry, 9);
    desk.publisher.daemon(&desk.registry, None);
    let init =
        "init HOST/acme/trust --scope acme/** --key owner.key --passphrase-file pass --server http://HOST";
    // Taken, and the registry shows it no more.
    desk.registry.answer_posts_with_garbage();
    let ran = desk.run(init);
    assert_eq!(ran.code, 30, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("try: keep acme-root.json: it is the root, pinned here as acme"),
        "{}",
        ran.stderr
    );
    let pinned = fs::read(desk.path("home/roots/acme-root.json")).unwrap();
    assert_eq!(fs::read(desk.path("acme-root.json")).unwrap(), pinned);
}

/// What a daemon or a publisher writes cannot act on the terminal.
#[test]
fn other_peoples_words_reach_the_terminal_as_plain_text() {
    let desk = pinned();
    desk.publisher.save_keys(desk.dir.path(), &desk.path("pass"));
    let trusts = serde_json::json!({"trusts": [{
        "name": "x", "repository": "r.io/\u{1b}[2J\u{9b}1m\u{202e}x\nerror: y", "heads": {},
        "online": serde_json::from_slice::<serde_json::Value>(&desk.registry.bytes("/v1/trusts")).unwrap()
            ["trusts"][0]["online"],
    }]});
    desk.registry.put_at("/v1/trusts", trusts.to_string().as_bytes());
    let line = "sign HOST/acme/app:v1 --key team.key --passphrase-file pass --server http://HOST";
    let ran = desk.run(line);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("it serves: r.io/ [2J 1m x; error: y\n"), "{:?}", ran.stderr);
    assert!(!ran.stderr.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{:?}", ran.stderr);
}

/// T93.
#[test]
fn a_result_that_nobody_reads_is_a_failure() {
    let desk = pinned();
    for line in [
        "verify HOST/acme/app:v1",
        "verify HOST/acme/app:v1 -o json",
        "verify HOST/acme/app:v9",
        "resolve HOST/acme/app:v1",
        "resolve HOST/acme/app:v1 -o json",
        "status",
        "trust list",
        "trust list -o json",
        "--help",
        "help verify",
        "--version",
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        for (what, stdout) in [("pipe", Stdio::from(writer)), ("full disk", full.into())] {
            let output = desk.command(line).stdout(stdout).output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{what}: {line}: {stderr}");
            assert!(!stderr.contains("panicked") && !stderr.contains("bug"), "{what}: {line}: {stderr}");
            assert_eq!(stderr.lines().count(), 1, "{what}: {line}: {stderr}");
        }
    }
}

/// T93: a standard output that was closed, not redirected, is `/dev/null`, and never one of our own files.
#[test]
fn a_closed_output_is_nowhere_and_not_in_the_trusted_state() {
    let desk = pinned();
    assert_eq!(desk.run("verify HOST/acme/app:v1").code, 0);
    let before = desk.files();
    for (line, code) in [
        ("verify HOST/acme/app:v1", 0),
        ("verify HOST/acme/app:v9", 10),
        ("verify HOST/acme/App", 2),
        ("resolve HOST/acme/app:v1 -o json", 0),
    ] {
        for closed in [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"] {
            let line = line.replace("HOST", &desk.registry.address);
            let script = format!("exec {} {line} {closed}", env!("CARGO_BIN_EXE_plimsoll"));
            let own = desk.command("");
            let output = Command::new("sh")
                .args(["-c", &script])
                .current_dir(desk.dir.path())
                .env_clear()
                .envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))))
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(code), "{line} {closed}");
            assert_eq!(desk.files(), before, "{line} {closed}");
        }
    }
}

#[test]
fn completions_and_manual_pages_come_from_the_command_line_itself() {
    let desk = desk();
    for shell in ["bash", "zsh", "fish"] {
        let ran = desk.run(&format!("completion {shell}"));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(ran.stdout.contains("delegate") && ran.stdout.contains("passphrase-file"), "{shell}");
    }
    desk.refused("completion ksh", 2, "possible values");
    let ran = desk.run("man pages");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let page = |name: &str| fs::read_to_string(desk.path(&format!("pages/{name}"))).unwrap();
    assert!(page("plimsoll.1").contains("plimsoll"));
    assert!(page("plimsoll-sign.1").contains("REFERENCE"));
    assert!(page("plimsoll-delegate-add.1").contains("SCOPE"));
    desk.refused("man pass", 1, "cannot write the manual to pass");
}
