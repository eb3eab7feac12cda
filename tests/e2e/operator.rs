//! What the tests of the operator's commands start from: a registry, a daemon's home, a trust repository in use.

#![allow(dead_code, reason = "each test program uses its part")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use plimsoll_core::oci::Digest;
use plimsoll_tests::{
    docker_registry::Registry,
    http,
    process::{Daemon, Run, Service, binary, run},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::stage::{Desk, config, establish, plain, push};

/// Signed often, good for long: a test waits for nothing.
pub(crate) const FRESHNESS: &str = "timestamp-validity = \"1h\"\ntimestamp-interval = \"1s\"\n";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An operator's machine, a publisher's desk, and the registry between them.
pub(crate) struct Operator {
    pub(crate) registry: Registry,
    pub(crate) desk: Desk,
    pub(crate) host: String,
    pub(crate) daemon: Option<Daemon>,
    pub(crate) home: TempDir,
}

impl Operator {
    /// A trust repository `acme` with a team, of which `acme/net-monitor:v1` is signed and verified at the desk.
    pub(crate) fn new() -> Self {
        let registry = Registry::open();
        let (host, home, desk) = (registry.address(), tempfile::tempdir().unwrap(), Desk::new());
        let trust = format!("{host}/acme/trust");
        let daemon = Daemon::start(home.path(), &config("127.0.0.1:0", Some(&trust), FRESHNESS));
        // On the same address each time: publishers know it.
        let file = home.path().join("plimsolld.toml");
        fs::write(file, config(&daemon.address(), Some(&trust), FRESHNESS)).unwrap();
        establish(&desk, &host, &trust, &daemon);
        let operator = Self { registry, desk, host, daemon: Some(daemon), home };
        operator.publish("v1");
        operator.verifies("v1");
        operator
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.data().join("store")
    }

    /// Pushes an image and signs it.
    pub(crate) fn publish(&self, tag: &str) {
        push(&format!("{}/acme/net-monitor:{tag}", self.host), tag);
        self.desk.with_key(&format!("sign {}/acme/net-monitor:{tag}", self.host), "team").ok();
    }

    /// The desk, which has seen all that was published before, verifies it.
    pub(crate) fn verifies(&self, tag: &str) {
        self.desk.run(&format!("verify {}/acme/net-monitor:{tag}", self.host)).ok();
    }

    /// Runs `plimsolld` with the words of `line`; it must not panic.
    pub(crate) fn run(&self, line: &str) -> Run {
        let run = run(&mut self.command(line), b"");
        plain(&run);
        run
    }

    /// The command that runs `plimsolld` with the words of `line`, under this operator's configuration.
    pub(crate) fn command(&self, line: &str) -> Command {
        self.command_under(&[], line)
    }

    pub(crate) fn command_under(&self, under: &[String], line: &str) -> Command {
        let program = binary("plimsolld");
        let mut command = match under.split_first() {
            Some((outer, words)) => {
                let mut command = Command::new(outer);
                command.args(words).arg(program);
                command
            }
            None => Command::new(program),
        };
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("PLIMSOLL") || name == "DOCKER_CONFIG") {
                command.env_remove(name);
            }
        }
        let home = self.home.path();
        command.env("HOME", home).current_dir(home);
        command.args(line.split_whitespace()).arg("--config").arg(home.join("plimsolld.toml"));
        command
    }

    /// Starts the daemon again and waits until it is ready.
    pub(crate) fn start(&mut self) {
        let daemon = self.spawn();
        daemon.wait_ready();
        self.daemon = Some(daemon);
    }

    pub(crate) fn spawn(&self) -> Daemon {
        let file = self.home.path().join("plimsolld.toml");
        Daemon::spawn(self.home.path(), &["serve".as_ref(), "--config".as_ref(), file.as_os_str()])
    }

    /// Ends the daemon without warning.
    pub(crate) fn kill(&mut self) {
        self.daemon.take().unwrap().kill();
    }

    /// The digest of the first root, as the owner knows it.
    pub(crate) fn root(&self) -> String {
        Digest::of(&fs::read(self.desk.file("acme-root.json")).unwrap()).to_string()
    }

    /// The plain TUF file `name` of the daemon.
    pub(crate) fn file(&self, name: &str) -> Option<Vec<u8>> {
        let url = format!("{}/tuf/acme/metadata/{name}", self.daemon.as_ref().unwrap().url());
        let answer = http::get(&url).unwrap();
        (answer.status == 200).then_some(answer.body)
    }

    /// Version of the timestamp that the daemon serves.
    pub(crate) fn timestamp(&self) -> u64 {
        let timestamp: Value = serde_json::from_slice(&self.file("timestamp.json").unwrap()).unwrap();
        timestamp["signed"]["version"].as_u64().unwrap()
    }

    fn entry_point(&self) -> String {
        format!("{}/v2/acme/trust/manifests/latest", self.registry.url())
    }

    /// The manifest at `:latest`.
    pub(crate) fn latest(&self) -> Vec<u8> {
        let answer = http::request("GET", &self.entry_point(), &[("accept", MANIFEST)], b"").unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.body
    }

    /// Puts a manifest at `:latest`, as whoever owns the registry could.
    pub(crate) fn overwrite_latest(&self, manifest: &[u8]) {
        let url = self.entry_point();
        let answer = http::request("PUT", &url, &[("content-type", MANIFEST)], manifest).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
    }

    /// What doctor finds, as JSON; the exit code must be `code`.
    pub(crate) fn doctor(&self, code: i32) -> Findings {
        Findings(self.run("doctor -o json").expect_code(code).json())
    }
}

/// What doctor found.
pub(crate) struct Findings(pub(crate) Value);

impl Findings {
    /// The finding about `about` at `level` whose text has `text`.
    #[track_caller]
    pub(crate) fn has(&self, level: &str, about: &str, text: &str) {
        let found = self.0["findings"].as_array().unwrap().iter().any(|finding| {
            finding["level"] == level
                && finding["about"] == about
                && finding["found"].as_str().unwrap().contains(text)
                && (level == "ok" || !finding["next"].as_str().unwrap().is_empty())
        });
        assert!(found, "no {level} {about} `{text}` in {:#}", self.0);
    }

    /// Nothing is wrong.
    #[track_caller]
    pub(crate) fn well(&self) {
        assert_eq!(self.0["well"], true, "{:#}", self.0);
    }
}

/// What `/readyz` says at `url`.
pub(crate) fn readyz(url: &str) -> String {
    http::get(&format!("{url}/readyz")).unwrap().text()
}

/// A daemon that is expected to end by itself: what it said, and its exit code.
pub(crate) fn ends(operator: &Operator, under: &[String]) -> Run {
    run(&mut operator.command_under(under, "serve"), b"")
}

/// A daemon under other words, once it listens.
pub(crate) fn listening(operator: &Operator, under: &[String]) -> (Service, String) {
    let service = Service::start(&mut operator.command_under(under, "serve"));
    let address = service.wait_listening();
    (service, format!("http://{address}"))
}

/// A copy of the folder `from` at `to`, which must not be there.
pub(crate) fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to), b"").ok();
}
