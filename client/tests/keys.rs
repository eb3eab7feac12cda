//! The binary's `key` commands and `--key`: what they print, write and refuse.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use common::{Host, Publisher};
use plimsoll::clock::{Clock, SystemClock};
use serde_json::Value;

/// A folder with passphrases, and an ssh-agent if there is one.
struct Desk {
    dir: tempfile::TempDir,
    agent: Option<Child>,
}

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("pass", "correct horse\n"), ("new", "battery staple\n"), ("empty", "\n")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        Self { dir, agent: None }
    }

    /// The same with a real ssh-agent, at `socket`.
    fn with_agent() -> Self {
        let mut desk = Self::new();
        let mut child = Command::new("ssh-agent")
            .args(["-D", "-s", "-a"])
            .arg(desk.path("socket"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("these tests need ssh-agent");
        // It tells its socket once it listens there.
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        desk.agent = Some(child);
        desk
    }

    /// Makes an Ed25519 key with OpenSSH's own tools and gives it to the agent.
    fn ssh_add(&self, file: &str, comment: &str) {
        let make = ["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", file];
        for (tool, args) in [("ssh-keygen", &make[..]), ("ssh-add", &["-q", file])] {
            let mut command = Command::new(tool);
            command.args(args).current_dir(self.dir.path()).env("SSH_AUTH_SOCK", self.path("socket"));
            assert!(command.status().unwrap().success(), "{tool}");
        }
    }

    fn run(&self, line: &str) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
        command
            .args(line.split_whitespace())
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PLIMSOLL_HOME", self.path("home"))
            .stdin(Stdio::null());
        if self.agent.is_some() {
            command.env("SSH_AUTH_SOCK", self.path("socket"));
        }
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// What a command prints that must succeed.
    fn done(&self, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!(ran.code, 0, "{line}\n{}", ran.stderr);
        ran.stdout
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.done(&format!("{line} -o json"))).unwrap()
    }

    /// Runs a command that must fail, say `says` on standard error, and change nothing.
    fn refused(&self, line: &str, code: i32, says: &str) {
        let before = self.files();
        let ran = self.run(line);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{line}\n{}", ran.stderr);
        assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(says), "{line}\n{}", ran.stderr);
        assert_eq!(self.files(), before, "{line}");
    }

    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_file()).map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Copies a file that another tool wrote.
    fn fixture(&self, name: &str) {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/keys/fixtures").join(name);
        fs::write(self.path(name), fs::read(from).unwrap()).unwrap();
        chmod(&self.path(name), 0o600);
    }

    fn id(&self, file: &str) -> String {
        self.json(&format!("key show {file}"))["key_id"].as_str().unwrap().to_owned()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_key_of_cosign_is_imported_and_sealed_anew() {
    let desk = Desk::new();
    for name in ["cosign.key", "cosign.pub", "cosign-empty.key", "python-sec1.pem"] {
        desk.fixture(name);
    }
    let before = desk.files();
    let text = desk.done("key import cosign.key --out team.key --passphrase-file pass");
    let id = desk.id("cosign.pub");
    assert!(text.starts_with(&format!("{id}  ECDSA P-256\n  private  team.key")), "{text}");
    assert_eq!(fs::metadata(desk.path("team.key")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read(desk.path("team.pub")).unwrap(), fs::read(desk.path("cosign.pub")).unwrap());
    // The same passphrase, unless another one is given.
    assert!(desk.done("key show team.key --passphrase-file pass").starts_with(&id));
    let made =
        desk.json("key import cosign.key --out other.key --passphrase-file pass --new-passphrase-file new");
    assert_eq!((made["key_id"].as_str(), made["private"].as_str()), (Some(id.as_str()), Some("other.key")));
    assert!(desk.done("key show other.key --passphrase-file new").starts_with(&id));
    // What has no passphrase is given one.
    for (file, out) in [("cosign-empty.key", "a.key"), ("python-sec1.pem", "b.key")] {
        desk.done(&format!("key import {file} --out {out} --new-passphrase-file new"));
        desk.done(&format!("key show {out} --passphrase-file new"));
    }
    for (path, bytes) in before {
        assert_eq!(fs::read(&path).unwrap(), bytes, "{}", path.display());
    }
}

#[test]
fn an_import_that_fails_leaves_nothing() {
    let desk = Desk::new();
    for name in ["cosign.key", "python-ed25519-plain.pem"] {
        desk.fixture(name);
    }
    fs::write(desk.path("taken.pub"), "mine").unwrap();
    fs::write(desk.path("garbage"), "garbage").unwrap();
    chmod(&desk.path("garbage"), 0o600);
    let cosign = "key import cosign.key --out x.key";
    for (line, says) in [
        (format!("{cosign} --passphrase-file new"), "the passphrase does not open `cosign.key`"),
        (format!("{cosign} --passphrase-file pass --new-passphrase-file empty"), "the passphrase is empty"),
        ("key import cosign.key --out x.pub --passphrase-file pass".to_owned(), "is a name for a public key"),
        (
            "key import cosign.key --out taken.key --passphrase-file pass".to_owned(),
            "`taken.pub` exists already",
        ),
        (
            "key import cosign.key --out cosign.key --passphrase-file pass".to_owned(),
            "`cosign.key` exists already",
        ),
        ("key import none --out x.key".to_owned(), "there is no file `none`"),
        ("key import garbage --out x.key".to_owned(), "is not a private key that can be imported"),
        ("key show cosign.key".to_owned(), "`plimsoll key import cosign.key --out NAME.key`"),
        ("key passwd python-ed25519-plain.pem".to_owned(), "`plimsoll key import python-ed25519-plain.pem"),
    ] {
        desk.refused(&line, 2, says);
    }
    chmod(&desk.path("cosign.key"), 0o640);
    desk.refused(&format!("{cosign} --passphrase-file pass"), 2, "run `chmod 600 cosign.key`");
}

#[test]
fn a_passphrase_is_changed_and_the_key_stays() {
    let desk = Desk::new();
    desk.done("key generate team --passphrase-file pass");
    let id = desk.id("team.pub");
    let before = fs::read(desk.path("team.key")).unwrap();
    desk.refused("key passwd team.key --passphrase-file new --new-passphrase-file new", 2, "does not open");
    desk.refused("key passwd team.key --passphrase-file pass --new-passphrase-file empty", 2, "is empty");
    desk.refused("key passwd team.pub --passphrase-file pass", 2, "is not a private key");
    desk.refused("key passwd none --passphrase-file pass", 2, "there is no file `none`");
    let changed = desk.json("key passwd team.key --passphrase-file pass --new-passphrase-file new");
    assert_eq!(changed["key_id"].as_str(), Some(id.as_str()));
    assert_ne!(fs::read(desk.path("team.key")).unwrap(), before);
    assert_eq!(fs::metadata(desk.path("team.key")).unwrap().permissions().mode() & 0o777, 0o600);
    desk.refused("key show team.key --passphrase-file pass", 2, "does not open `team.key`");
    assert!(desk.done("key show team.key --passphrase-file new").starts_with(&id));
}

#[test]
fn a_key_whose_public_file_is_of_another_is_refused() {
    let desk = Desk::new();
    desk.done("key generate team --passphrase-file pass");
    desk.done("key generate other --passphrase-file pass");
    fs::copy(desk.path("other.pub"), desk.path("team.pub")).unwrap();
    desk.refused("key show team.key --passphrase-file pass", 2, "but `team.pub` beside it is the public key");
    let line = "key passwd team.key --passphrase-file pass --new-passphrase-file new";
    desk.refused(line, 2, "move it away");
}

#[test]
fn the_public_part_is_exported_from_every_kind_of_key() {
    let desk = Desk::with_agent();
    desk.ssh_add("id", "alice@laptop");
    desk.done("key generate team --passphrase-file pass");
    let team = fs::read_to_string(desk.path("team.pub")).unwrap();
    assert_eq!(desk.done("key export-public team.pub"), team);
    assert_eq!(desk.done("key export-public team.key --passphrase-file pass"), team);
    desk.done("key export-public ssh-agent:alice@laptop --out alice.pub");
    let alice = fs::read_to_string(desk.path("alice.pub")).unwrap();
    assert!(alice.starts_with("-----BEGIN PUBLIC KEY-----\n"), "{alice}");
    assert_eq!(desk.done("key export-public id.pub"), alice);
    let exported = desk.json("key export-public id.pub");
    assert_eq!(exported["pem"].as_str(), Some(alice.as_str()));
    assert_eq!(exported["key_id"].as_str(), Some(desk.id("ssh-agent:alice@laptop").as_str()));
    desk.refused("key export-public id.pub --out alice.pub", 2, "`alice.pub` exists already");
}

#[test]
fn keys_are_listed_without_being_opened() {
    let desk = Desk::with_agent();
    assert_eq!(desk.run("key list").stdout, "");
    desk.done("key generate team --passphrase-file pass");
    desk.done("key generate lonely --passphrase-file pass");
    fs::remove_file(desk.path("lonely.pub")).unwrap();
    desk.fixture("cosign.pub");
    fs::write(desk.path("junk.pub"), "\u{1b}[2Jjunk").unwrap();
    desk.ssh_add("id", "alice@laptop");
    let [team, cosign, alice] = ["team.pub", "cosign.pub", "id.pub"].map(|file| desk.id(file));
    let lines = desk.done("key list");
    assert!(lines.contains(&format!("{team}  Ed25519      private  team.key\n")), "{lines}");
    assert!(lines.contains(&format!("{cosign}  ECDSA P-256  public   cosign.pub\n")), "{lines}");
    assert!(lines.contains("private  lonely.key\n  no lonely.pub beside it"), "{lines}");
    assert!(lines.contains("public   junk.pub\n  `junk.pub` is not"), "{lines}");
    assert!(lines.ends_with(&format!("{alice}  Ed25519      private  ssh-agent:alice@laptop\n")), "{lines}");
    // The agent's key, whose public file lies here as well, stands there twice; one of a private file does not.
    assert_eq!(lines.matches(&team).count(), 1, "{lines}");

    let list = desk.json("key list team.key");
    assert_eq!(list["warnings"].as_array().unwrap().len(), 0);
    let keys = list["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2);
    assert_eq!(
        (keys[0]["private"].as_str(), keys[0]["public"].as_str()),
        (Some("team.key"), Some("team.pub"))
    );
    assert_eq!(
        (keys[1]["key_id"].as_str(), keys[1]["ssh_agent"].as_str()),
        (Some(&*alice), Some("alice@laptop"))
    );
    desk.refused("key list none", 2, "there is no file or folder `none`");
    chmod(&desk.path("team.key"), 0o644);
    assert!(desk.done("key list").contains("run `chmod 600 team.key`"));
}

#[test]
fn without_an_agent_the_error_says_how_to_get_one() {
    let desk = Desk::new();
    desk.refused("key show ssh-agent:work", 2, "SSH_AUTH_SOCK is not set\n  try: start one with `eval");
    let desk = Desk::with_agent();
    desk.refused("key show ssh-agent:work", 2, "it has none at all\n  try: choose one by its comment");
    desk.ssh_add("a", "work");
    desk.ssh_add("b", "work");
    desk.refused("key show ssh-agent:work", 2, "could be several keys of the ssh-agent: ");
    desk.refused("key show ssh-agent:home", 2, "no Ed25519 key `home`; it has ");
}

/// A root signed by a key in an ssh-agent and one in a file, against a daemon that takes everything.
#[test]
fn keys_of_an_agent_and_of_files_sign_together() {
    let desk = Desk::with_agent();
    let (registry, publisher) = (Host::start(), Publisher::new(SystemClock.now()));
    publisher.daemon(&registry, None);
    desk.ssh_add("id", "alice@laptop");
    desk.done("key generate one --passphrase-file pass");
    desk.done("key generate two --passphrase-file new");
    let init = |keys: &str| {
        format!("init {0}/acme/trust --scope acme/** {keys} --server http://{0}", registry.address)
    };
    let agent = "--key ssh-agent:alice@laptop";
    let id = desk.id("id.pub");
    for (keys, says) in [
        (format!("{agent} --key ssh-agent:{}", &id[..12]), "holds a key that was given already"),
        (
            format!("{agent} --key one.key --passphrase-file pass --passphrase-file new"),
            "2 passphrase files were given for 1 key files",
        ),
        (
            "--key one.key --key two.key --passphrase-file new --passphrase-file pass".to_owned(),
            "does not open `one.key`",
        ),
        ("--key one.key --key two.key --passphrase-file pass".to_owned(), "does not open `two.key`"),
    ] {
        desk.refused(&init(&keys), 2, says);
    }
    let keys = format!("--key one.key {agent} --key two.key --passphrase-file pass --passphrase-file new");
    desk.done(&init(&keys));
    let root: Value = serde_json::from_slice(&fs::read(desk.path("acme-root.json")).unwrap()).unwrap();
    let owners = root["signed"]["roles"]["root"]["keyids"].as_array().unwrap();
    let signed: Vec<_> =
        root["signatures"].as_array().unwrap().iter().map(|signature| &signature["keyid"]).collect();
    for id in [id, desk.id("one.pub"), desk.id("two.pub")] {
        assert!(owners.contains(&Value::from(id.as_str())), "{owners:?}");
        assert!(signed.contains(&&Value::from(id.as_str())), "{signed:?}");
    }
}

/// Nobody need write to it, ever.
#[test]
fn a_named_pipe_is_no_key_and_is_not_waited_for() {
    let desk = Desk::new();
    let pipe = desk.path("pipe.key");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        // Goes on when somebody opens it to read.
        move || fs::write(pipe, "-----BEGIN PRIVATE KEY-----")
    });
    for line in
        ["key show pipe.key", "key export-public pipe.key", "key passwd pipe.key --passphrase-file pass"]
    {
        desk.refused(line, 2, "`pipe.key` is not");
        assert!(!writer.is_finished(), "{line} opened it");
    }
    assert!(desk.done("key list pipe.key").contains("`pipe.key` is not"));
    assert!(!writer.is_finished(), "`key list` opened it");
    drop(fs::File::open(&pipe).unwrap());
    let _ = writer.join().unwrap();
}
