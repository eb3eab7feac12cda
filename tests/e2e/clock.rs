//! The real daemon when somebody sets the clock under it, and `plimsolld tick`, which does without it.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use plimsoll_tests::{
    docker_registry::Registry,
    http,
    process::{self, Run, Service, binary},
};
use tempfile::TempDir;

/// A registry, a daemon's home with a configuration, and the owner's desk with a key.
struct Place {
    registry: Registry,
    home: TempDir,
}

impl Place {
    fn new(freshness: &str) -> Self {
        let (registry, home) = (Registry::open(), tempfile::tempdir().unwrap());
        let config = format!(
            "data = \"data\"\nlisten = \"127.0.0.1:0\"\n{freshness}\n[[trust]]\nname = \"acme\"\nrepository = \
             \"{0}/acme/trust\"\n[[trust]]\nname = \"fresh\"\nrepository = \"{0}/fresh/trust\"\n",
            registry.address()
        );
        fs::write(home.path().join("plimsolld.toml"), config).unwrap();
        Self { registry, home }
    }

    fn config(&self) -> PathBuf {
        self.home.path().join("plimsolld.toml")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(binary(program));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("PLIMSOLL") || name.starts_with("XDG_") || name == "DOCKER_CONFIG" {
                command.env_remove(&*name);
            }
        }
        command.current_dir(self.home.path()).env("HOME", self.home.path());
        command
    }

    fn daemon(&self, command: &mut Command) -> (Service, String) {
        let service = Service::start(command.arg("serve").arg("--config").arg(self.config()));
        let url = format!("http://{}", service.wait_listening());
        (service, url)
    }

    /// The owner makes the trust repository `acme`.
    fn init(&self, url: &str) {
        fs::write(self.home.path().join("passphrase"), "a passphrase for tests\n").unwrap();
        let trust = format!("{}/acme/trust", self.registry.address());
        for line in [
            "key generate owner --passphrase-file passphrase".to_owned(),
            format!(
                "init {trust} --scope acme/** --key owner.key --passphrase-file passphrase --server {url}"
            ),
        ] {
            process::run(self.command("plimsoll").args(line.split(' ')), b"").ok();
        }
    }

    fn tick(&self, line: &str) -> Run {
        let arguments = line.split_whitespace();
        process::run(
            self.command("plimsolld").arg("tick").args(arguments).arg("--config").arg(self.config()),
            b"",
        )
    }
}

/// The line of `/readyz` about `acme`, once it contains `wanted`.
fn eventually(url: &str, wanted: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let text = http::get(&format!("{url}/readyz")).unwrap().text();
        if let Some(line) = text.lines().find(|line| line.starts_with("acme: ") && line.contains(wanted)) {
            return line.to_owned();
        }
        assert!(Instant::now() < deadline, "no `{wanted}` in {text}");
        // Readiness is not an event we could wait for from outside.
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Where Debian's faketime has its library: the command would fix the time, and this test sets it while the daemon runs.
fn faketime() -> PathBuf {
    let libraries = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut found =
        libraries.map(|folder| folder.join("faketime/libfaketime.so.1")).filter(|path| path.exists());
    found.next().expect("faketime is installed")
}

fn set(file: &Path, offset: &str) {
    let new = file.with_extension("new");
    fs::write(&new, offset).unwrap();
    fs::rename(new, file).unwrap();
}

/// T15: the system's own clocks, one of them set while the daemon runs.
#[test]
fn a_daemon_whose_clock_is_set_under_it_signs_nothing_until_it_is_right() {
    let place = Place::new("[freshness]\ntimestamp-interval = \"1s\"");
    let offset = place.home.path().join("offset");
    set(&offset, "+0");
    let mut command = place.command("plimsolld");
    command
        .env("LD_PRELOAD", faketime())
        .env("FAKETIME_TIMESTAMP_FILE", &offset)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let (mut service, url) = place.daemon(&mut command);
    place.init(&url);
    eventually(&url, "ready: fresh");
    let timestamp = || http::get(&format!("{url}/tuf/acme/metadata/timestamp.json")).unwrap().body;
    for (by, told) in [
        ("+2h", "set 2 h ahead"),
        ("+365d", "set 365 d ahead"),
        ("-3h", "the clock went back"),
        ("-365d", "the clock went back"),
    ] {
        set(&offset, by);
        let line = eventually(&url, told);
        assert!(line.starts_with("acme: not ready: nothing is signed: "), "{line}");
        let before = timestamp();
        // Two intervals, in which it would have signed twice.
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(timestamp(), before, "{by}");
        set(&offset, "+0");
        eventually(&url, "ready: fresh");
    }
    let output = service.output();
    assert_eq!(output.matches("nothing was signed").count(), 4, "told once each: {output}");
    assert_eq!(output.matches("signing again").count(), 4, "{output}");
    assert_eq!(service.terminate(), 0);
}

#[test]
fn a_round_from_a_timer_ends_with_the_codes_of_the_verdict_table() {
    let place = Place::new("");
    let (mut service, url) = place.daemon(&mut place.command("plimsolld"));
    place.init(&url);
    let run = place.tick("").expect_code(1);
    assert!(run.stdout.is_empty() && run.stderr.contains("in use by another process"), "{}", run.stderr);
    assert_eq!(service.terminate(), 0);

    let run = place.tick("acme").expect_code(0);
    assert!(
        run.stdout.starts_with("acme: VERIFIED: fresh; timestamp 1 is in the registry, good until 2"),
        "{}",
        run.stdout
    );
    assert_eq!(run.stderr, "");
    let run = place.tick("acme --force -o json").expect_code(0);
    let ticks: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&ticks[0]["verdict"], &ticks[0]["signed"]), (&"VERIFIED".into(), &2.into()), "{ticks}");
    let run = place.tick("fresh").expect_code(10);
    assert!(run.stdout.contains("plimsoll init"), "{}", run.stdout);
    let run = place.tick("").expect_code(10);
    assert_eq!(run.stdout.lines().count(), 2, "{}", run.stdout);
    place.tick("nobody").expect_code(2);

    let embedded =
        process::run(place.command("plimsolld").args(["tick", "--data", "other"]), b"").expect_code(2);
    assert!(embedded.stderr.contains("embedded registry"), "{}", embedded.stderr);
    let shown = process::run(
        place.command("plimsolld").args(["config", "show", "-o", "json"]).arg(place.config()),
        b"",
    )
    .ok();
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["freshness"]["snapshot-interval"], "84h", "{shown}");

    let Place { registry, home } = place;
    let address = registry.address();
    drop(registry);
    let run = process::run(
        Command::new(binary("plimsolld"))
            .args(["tick", "acme", "--config"])
            .arg(home.path().join("plimsolld.toml")),
        b"",
    )
    .expect_code(30);
    assert!(run.stdout.contains("UNREACHABLE") && run.stdout.contains(&address), "{}", run.stdout);
}
