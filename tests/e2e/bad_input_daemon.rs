//! What an operator can get wrong, with the real binaries: the documented exit code, one clear line, no panic, no secret, and
//! nothing changed on disk or in the registry.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod stage;

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use plimsoll_tests::{
    docker_registry::Registry,
    http,
    process::{self, Daemon, Service},
};
use stage::{CANARY, Desk, establish, one_line, plain, push, tags};

/// Runs `plimsolld` in `home`; it must end with `code` and say all of `says` in its last line.
#[track_caller]
fn daemon_refuses(home: &Path, arguments: &[&str], code: i32, says: &[&str]) {
    let mut command = Command::new(process::binary("plimsolld"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PLIMSOLL") || name.starts_with("XDG_")) {
            command.env_remove(name);
        }
    }
    command.args(arguments).current_dir(home).env("HOME", home);
    let run = process::run(&mut command, b"");
    plain(&run);
    assert_eq!(run.code, code, "{arguments:?}\n{}{}", run.stdout, run.stderr);
    assert_eq!(run.stdout, "", "{arguments:?}");
    for word in says {
        assert!(run.stderr.contains(word), "{arguments:?}: no `{word}` in\n{}", run.stderr);
    }
    if code == 2 {
        let lines: Vec<&str> = run.stderr.lines().collect();
        let told = matches!(lines[..], [first, next] if first.starts_with("error: ")
            && next.starts_with("  try: plimsolld") && next.ends_with("--help"));
        assert!(told, "{arguments:?}\n{}", run.stderr);
    }
    if code == 1 {
        let complaints: Vec<&str> =
            run.stderr.lines().filter(|line| line.starts_with("plimsolld: ")).collect();
        assert_eq!(complaints.len(), 1, "{arguments:?}\n{}", run.stderr);
        assert_eq!(run.stderr.lines().last(), complaints.first().copied(), "{arguments:?}\n{}", run.stderr);
    }
}

#[test]
fn a_wrong_configuration_says_where() {
    let home = tempfile::tempdir().unwrap();
    let head = "data = \"data\"\nlisten = \"127.0.0.1:0\"\n";
    let trust = "[[trust]]\nname = \"acme\"\n";
    for (config, says) in [
        ("data = \n".to_owned(), "plimsolld.toml:1"),
        (format!("{head}datum = \"x\"\n"), "plimsolld.toml:3"),
        ("listen = \"nowhere\"\n".to_owned(), "`listen`: `nowhere`"),
        ("listen = 8480\n".to_owned(), "plimsolld.toml:1"),
        (format!("{head}[freshness]\ntimestamp-validity = \"1 fortnight\"\n"), "1 fortnight"),
        (format!("{head}[freshness]\ntimestamp-validity = \"30d\"\n"), "timestamp-validity"),
        (
            format!("{head}[freshness]\ntimestamp-validity = \"1h\"\ntimestamp-interval = \"1h\"\n"),
            "timestamp-interval",
        ),
        (format!("{head}[[trust]]\nname = \"../x\"\n"), "../x"),
        (format!("{head}{trust}{trust}"), "two trust repositories called `acme`"),
        (format!("{head}{trust}repository = \"example.com/\"\n"), "trust.repository"),
        (format!("{head}{trust}profile = \"docker\"\n"), "`docker` is not a profile"),
        (format!("{head}{trust}username = \"amy\"\n"), "password-file"),
        (format!("{head}{trust}password = \"{CANARY}\"\n"), "plimsolld.toml:5"),
        (
            format!(
                "{head}{trust}repository = \"example.com/a/trust\"\nusername = \"amy\"\npassword-file = \"none\"\n"
            ),
            "password file",
        ),
        (
            format!(
                "{head}[registry]\nca-file = \"none.pem\"\n{trust}repository = \"example.com/a/trust\"\n"
            ),
            "none.pem",
        ),
        ("data = \"data\"\nlisten = \"0.0.0.0:0\"\n".to_owned(), "loopback"),
    ] {
        fs::write(home.path().join("plimsolld.toml"), config).unwrap();
        daemon_refuses(home.path(), &["config", "check", "plimsolld.toml"], 1, &[says]);
        daemon_refuses(home.path(), &["serve", "--config", "plimsolld.toml"], 1, &[says]);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "something was made");
    }
    daemon_refuses(home.path(), &["serve", "--config", "none.toml"], 1, &["none.toml"]);
    for (arguments, says) in [
        (&["serve", "--insecure"][..], "--insecure"),
        (&["serve", "--listen", "nowhere"], "nowhere"),
        (&["serve", "--trust", "Not/A/Name"], "Not/A/Name"),
        (&["key", "show"], "<NAME>"),
        (&["sleep"], "sleep"),
    ] {
        daemon_refuses(home.path(), arguments, 2, &[says]);
    }
    daemon_refuses(home.path(), &["key", "show", "../x", "--data", "data"], 1, &["../x"]);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "something was made");
}

#[test]
fn a_daemon_does_not_start_where_it_cannot_keep_its_word() {
    let registry = Registry::open();
    let repository = format!("{}/acme/trust", registry.address());
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let daemon = Daemon::start(home, &stage::config("127.0.0.1:0", Some(&repository), ""));
    let taken = daemon.address();

    // Another daemon on the same data, and another one on the same port.
    let serve = ["serve", "--config", "plimsolld.toml"];
    daemon_refuses(home, &serve, 1, &["in use by another process"]);
    let other = ["serve", "--data", "other", "--listen", &taken];
    daemon_refuses(home, &other, 1, &["cannot listen on", &taken]);
    // Reading the keys disturbs nobody.
    let mut show = Command::new(process::binary("plimsolld"));
    process::run(show.args(["key", "show", "acme", "--config", "plimsolld.toml"]).current_dir(home), b"")
        .ok();
    daemon_refuses(home, &["key", "show", "none", "--config", "plimsolld.toml"], 1, &["none"]);
    assert_eq!(daemon.terminate(), 0);

    // A file in place of the data folder, a folder open to others, one that cannot be written.
    fs::write(home.join("file"), "").unwrap();
    daemon_refuses(home, &["serve", "--listen", "127.0.0.1:0", "--data", "file"], 1, &["file"]);
    daemon_refuses(home, &["serve", "--listen", "127.0.0.1:0", "--data", "file/below"], 1, &["file/below"]);
    // Nobody, root neither, makes folders here.
    daemon_refuses(
        home,
        &["serve", "--listen", "127.0.0.1:0", "--data", "/proc/plimsolld"],
        1,
        &["/proc/plimsolld"],
    );
    let mode =
        |path: &str, mode| fs::set_permissions(home.join(path), fs::Permissions::from_mode(mode)).unwrap();
    mode("data", 0o755);
    daemon_refuses(home, &serve, 1, &["chmod 700"]);
    mode("data", 0o700);
    mode("data/keys/acme/timestamp.key", 0o644);
    daemon_refuses(home, &serve, 1, &["chmod 600"]);
    mode("data/keys/acme/timestamp.key", 0o600);

    // A key that is gone, damaged, or another's.
    let key = home.join("data/keys/acme/timestamp.key");
    let good = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    daemon_refuses(home, &serve, 1, &["timestamp.key is gone"]);
    fs::write(&key, "garbage").unwrap();
    mode("data/keys/acme/timestamp.key", 0o600);
    daemon_refuses(home, &serve, 1, &["timestamp.key"]);
    fs::write(&key, good).unwrap();
    let again = Daemon::start(home, &fs::read_to_string(home.join("plimsolld.toml")).unwrap());
    assert_eq!(again.terminate(), 0);
    assert_eq!(tags(&registry, &["acme/trust"]), BTreeMap::new());
}

#[test]
fn a_repository_that_holds_something_else_is_left_alone() {
    let registry = Registry::open();
    let host = registry.address();
    push(&format!("{host}/acme/trust:latest"), "an image");
    push(&format!("{host}/acme/trust:v1"), "another image");
    let before = tags(&registry, &["acme/trust"]);
    let home = tempfile::tempdir().unwrap();
    fs::write(
        home.path().join("plimsolld.toml"),
        stage::config("127.0.0.1:0", Some(&format!("{host}/acme/trust")), ""),
    )
    .unwrap();
    let daemon = Daemon::spawn(home.path(), &["serve", "--config", "plimsolld.toml"]);
    daemon.wait_for_line("holds something that is not ours");
    let ready = http::get(&format!("{}/readyz", daemon.url())).unwrap();
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("ALARM"), "{}", ready.text());

    let desk = Desk::new();
    desk.key("owner");
    let files = desk.tree();
    let init = format!("init {host}/acme/trust --scope acme/** --server {}", daemon.url());
    let run = desk.with_key(&init, "owner");
    plain(&run);
    assert_eq!(run.code, 30, "{}", run.stderr);
    assert!(run.stderr.contains("something that is not ours"), "{}", run.stderr);
    assert_eq!(desk.tree(), files);
    assert_eq!(tags(&registry, &["acme/trust"]), before);
    assert_eq!(daemon.terminate(), 0);
}

/// With its store gone, a daemon cannot tell what it has signed: nobody is told that nothing was ever made.
#[test]
fn a_daemon_without_its_store_does_not_pass_for_a_new_one() {
    let home = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(home.path(), &stage::config("127.0.0.1:0", None, ""));
    let desk = Desk::new();
    let host = daemon.address();
    establish(&desk, &host, &format!("{host}/acme/trust"), &daemon);
    assert_eq!(daemon.terminate(), 0);
    fs::remove_dir_all(home.path().join("data/store")).unwrap();

    // The same port: the trust repository is on it.
    let config = stage::config(&host, None, "");
    fs::write(home.path().join("plimsolld.toml"), config).unwrap();
    let daemon = Daemon::spawn(home.path(), &["serve", "--config", "plimsolld.toml"]);
    daemon.wait_for_line("the store is an old copy");
    let files = desk.tree();
    for line in [
        format!("delegate add {host}/acme/other --label other --pub team.pub"),
        format!(
            "init {host}/acme/trust --scope acme/** --name again --out again.json --server {}",
            daemon.url()
        ),
    ] {
        let run = desk.with_key(&line, "owner");
        one_line(&run);
        assert_eq!(run.code, 30, "{line}: {}", run.stderr);
        assert!(run.stderr.contains("ALARM: "), "{line}: {}", run.stderr);
    }
    assert_eq!(desk.tree(), files);
    assert!(!daemon.output().contains("not made yet"), "{}", daemon.output());
    assert_eq!(daemon.terminate(), 0);
}

#[test]
fn a_log_in_json_is_json_in_every_line() {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(process::binary("plimsolld"));
    command.args([
        "--log-format",
        "json",
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--trust",
        "a",
        "--trust",
        "b",
    ]);
    let mut daemon = Service::start(command.arg("--data").arg(home.path().join("data")));
    let address = daemon.wait_listening().to_string();
    for name in ["\"a\"", "\"b\""] {
        daemon.wait_for(|line| (line.contains("not made yet") && line.contains(name)).then_some(()));
    }
    assert_eq!(daemon.terminate(), 0);
    daemon.wait_for(|line| line.contains("\"stopped\"").then_some(()));
    let mut told = Vec::new();
    for line in daemon.output().lines() {
        let entry: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let fields = &entry["fields"];
        let message = fields["message"].as_str().unwrap();
        if message.starts_with("listening") {
            assert_eq!(fields["address"], address);
            assert_eq!(fields["data"], home.path().join("data").to_str().unwrap());
        } else if !["SIGTERM: stopping", "stopped"].contains(&message) {
            // All else is about one trust repository.
            assert!(["a", "b"].contains(&fields["trust"].as_str().unwrap_or_default()), "{line}");
        }
        if message.starts_with("not made yet") {
            let name = fields["trust"].as_str().unwrap();
            assert_eq!(fields["repository"], format!("{address}/{name}/trust"));
            told.push(name.to_owned());
        }
    }
    told.sort();
    assert_eq!(told, ["a", "b"]);
}
