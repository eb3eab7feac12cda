//! What the end-to-end tests about faults start from: a trust repository in use, made with the real binaries.

#![allow(dead_code, reason = "each test program uses its part")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use plimsoll_core::oci::Digest;
use plimsoll_tests::{
    docker_registry::Registry,
    http,
    image::Image,
    process::{Cli, Daemon, Run},
    skopeo::Side,
};
use serde_json::Value;
use tempfile::TempDir;

/// The passphrase of every key, and a word that no program may ever print.
pub(crate) const CANARY: &str = "canary-2f9b-no-program-prints-this";

const REPOSITORIES: [&str; 4] = ["acme/trust", "acme/net-monitor", "acme/other", "fresh/trust"];

/// A publisher's desk: a folder with key files, and the command line that works there.
pub(crate) struct Desk {
    folder: TempDir,
    pub(crate) cli: Cli,
}

impl Desk {
    /// An empty desk with a passphrase file.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("passphrase"), format!("{CANARY}\n")).unwrap();
        let cli = Cli::new(folder.path());
        Self { folder, cli }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Runs a command line written with spaces between its words.
    pub(crate) fn run(&self, line: &str) -> Run {
        self.cli.run(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs a command that signs with `key`.
    pub(crate) fn with_key(&self, line: &str, key: &str) -> Run {
        self.run(&format!("{line} --key {key}.key --passphrase-file passphrase"))
    }

    /// Makes `NAME.key` and `NAME.pub`.
    pub(crate) fn key(&self, name: &str) {
        self.run(&format!("key generate {name} --passphrase-file passphrase")).ok();
    }

    /// A desk with copies of all files of this one, to be spoilt.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new();
        copy_tree(self.path(), copy.path());
        copy
    }

    /// Every file and folder: mode and content.
    pub(crate) fn tree(&self) -> BTreeMap<PathBuf, (u32, Option<Digest>)> {
        let mut tree = BTreeMap::new();
        walk(self.path(), self.path(), &mut tree);
        tree
    }
}

/// A registry, a daemon, a trust repository in use, and a publisher's desk.
pub(crate) struct InUse {
    pub(crate) registry: Registry,
    pub(crate) daemon: Daemon,
    pub(crate) daemon_home: TempDir,
    pub(crate) desk: Desk,
    pub(crate) host: String,
}

impl InUse {
    pub(crate) fn new() -> Self {
        let registry = Registry::open();
        let host = registry.address();
        let daemon_home = tempfile::tempdir().unwrap();
        let mut config = config("127.0.0.1:0", Some(&format!("{host}/acme/trust")), "");
        config.push_str(&format!("[[trust]]\nname = \"fresh\"\nrepository = \"{host}/fresh/trust\"\n"));
        let daemon = Daemon::start(daemon_home.path(), &config);
        let desk = Desk::new();
        establish(&desk, &host, &format!("{host}/acme/trust"), &daemon);
        desk.key("stranger");
        push(&format!("{host}/acme/net-monitor:v1"), "one");
        push(&format!("{host}/acme/net-monitor:v2"), "two");
        push(&format!("{host}/acme/other:v1"), "three");
        let world = Self { registry, daemon, daemon_home, desk, host };
        world.desk.with_key(&world.line("sign HOST/acme/net-monitor:v1"), "team").ok();
        world.settle();
        world
    }

    /// Whatever a refused command may read is read: from here on nothing is new to either side's memory.
    pub(crate) fn settle(&self) {
        self.desk.run("status").ok();
        self.desk.run(&self.line("verify HOST/acme/net-monitor:v1")).ok();
        self.desk.run(&self.line("revoke HOST/acme/net-monitor:none --reason x TEAM")).expect_code(2);
    }

    /// `HOST`, `DAEMON` and `KEY` in a command line mean what this world has.
    pub(crate) fn line(&self, line: &str) -> String {
        let line = line.replace("TEAM", "--key team.key --passphrase-file passphrase");
        let line = line.replace("OWNER", "--key owner.key --passphrase-file passphrase");
        line.replace("HOST", &self.host).replace("DAEMON", &self.daemon.url())
    }

    /// Runs `line` at this world's own desk: it must be refused.
    pub(crate) fn refuse(&self, line: &str, code: i32, says: &[&str]) -> Run {
        self.refuse_at(&self.desk, line, code, says)
    }

    /// Runs `line` at `desk`: it must end with `code`, say all of `says` in one line, and change nothing.
    pub(crate) fn refuse_at(&self, desk: &Desk, line: &str, code: i32, says: &[&str]) -> Run {
        let line = self.line(line);
        let before = (desk.tree(), tags(&self.registry, &REPOSITORIES));
        let run = desk.run(&line);
        let after = (desk.tree(), tags(&self.registry, &REPOSITORIES));
        let changed: Vec<_> =
            after.0.iter().filter(|(path, entry)| before.0.get(*path) != Some(*entry)).collect();
        assert_eq!(after, before, "changed by: {line}: {changed:#?}\n{}{}", run.stdout, run.stderr);
        plain(&run);
        assert_eq!(run.code, code, "{line}\n{}{}", run.stdout, run.stderr);
        let told = if run.stdout.is_empty() { &run.stderr } else { &run.stdout };
        for word in says {
            assert!(told.contains(word), "{line}: no `{word}` in\n{told}");
        }
        run
    }

    /// As [`InUse::refuse`], and the fault is one line, perhaps with one line of advice.
    pub(crate) fn fault(&self, line: &str, code: i32, says: &[&str]) {
        one_line(&self.refuse(line, code, says));
    }

    pub(crate) fn fault_at(&self, desk: &Desk, line: &str, code: i32, says: &[&str]) {
        one_line(&self.refuse_at(desk, line, code, says));
    }
}

/// No panic and no secret in what was said.
#[track_caller]
pub(crate) fn plain(run: &Run) {
    for stream in [&run.stdout, &run.stderr] {
        for bad in ["panicked", "RUST_BACKTRACE", CANARY, "-----BEGIN PRIVATE KEY", "\u{1b}["] {
            assert!(!stream.contains(bad), "`{bad}` in what {} said:\n{stream}", run.command);
        }
    }
}

/// `error: …`, then at most `  try: …`, and nothing else. `init` may have shown the daemon's keys before.
#[track_caller]
pub(crate) fn one_line(run: &Run) {
    assert_eq!(run.stdout, "", "{}", run.command);
    let mut lines: Vec<&str> = run.stderr.lines().collect();
    if lines[0].starts_with("the daemon's online keys") {
        lines.drain(..3);
    }
    assert!(lines[0].starts_with("error: ") && lines[0].len() > 20, "{}: {lines:?}", run.command);
    assert!(matches!(&lines[1..], [] | [_]), "{}: {lines:#?}", run.command);
    assert!(lines[1..].iter().all(|line| line.starts_with("  try: ")), "{}: {lines:#?}", run.command);
}

/// The configuration of a daemon at `listen` with one trust repository.
pub(crate) fn config(listen: &str, repository: Option<&str>, freshness: &str) -> String {
    let repository = repository.map_or_else(String::new, |at| format!("repository = \"{at}\"\n"));
    format!(
        "data = \"data\"\nlisten = \"{listen}\"\n[freshness]\n{freshness}\n[[trust]]\nname = \"acme\"\n{repository}"
    )
}

/// Pushes a small image, a different one for each message.
pub(crate) fn push(reference: &str, message: &str) -> Digest {
    let image = Image::busybox(message);
    image.push(reference, &Side::plain()).ok();
    image.digest()
}

/// Makes the keys `owner` and `team`, the trust repository `host`/acme/trust for `acme/**`, and a delegation of
/// `acme/net-monitor` to the team.
pub(crate) fn establish(desk: &Desk, host: &str, trust: &str, daemon: &Daemon) {
    desk.key("owner");
    desk.key("team");
    let url = daemon.url();
    desk.with_key(&format!("init {trust} --scope acme/** --server {url}"), "owner").ok();
    desk.with_key(
        &format!("delegate add {host}/acme/net-monitor --label net-monitor --pub team.pub"),
        "owner",
    )
    .ok();
}

/// Every tag of `repositories` with the digest of what it points to.
pub(crate) fn tags(registry: &Registry, repositories: &[&str]) -> BTreeMap<String, Digest> {
    let mut all = BTreeMap::new();
    for repository in repositories {
        let list = http::get(&format!("{}/v2/{repository}/tags/list", registry.url())).unwrap();
        if list.status == 404 {
            continue;
        }
        let list: Value = serde_json::from_slice(&list.body).unwrap();
        for tag in list["tags"].as_array().into_iter().flatten() {
            let tag = tag.as_str().unwrap();
            let url = format!("{}/v2/{repository}/manifests/{tag}", registry.url());
            let accept = [("accept", "application/vnd.oci.image.manifest.v1+json")];
            let manifest = http::request("GET", &url, &accept, b"").unwrap();
            all.insert(format!("{repository}:{tag}"), Digest::of(&manifest.body));
        }
    }
    all
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&target).unwrap();
            fs::set_permissions(&target, entry.metadata().unwrap().permissions()).unwrap();
            copy_tree(&entry.path(), &target);
        } else {
            // Keeps the mode.
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn walk(base: &Path, folder: &Path, tree: &mut BTreeMap<PathBuf, (u32, Option<Digest>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let found = path.symlink_metadata().unwrap();
        let content = found.is_file().then(|| Digest::of(&fs::read(&path).unwrap()));
        tree.insert(path.strip_prefix(base).unwrap().to_owned(), (found.permissions().mode(), content));
        if found.is_dir() {
            walk(base, &path, tree);
        }
    }
}
