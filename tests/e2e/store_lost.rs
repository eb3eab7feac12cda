//! A store that is lost, old, or used twice, with the real programs: what was published goes on, and no client has to
//! forget anything.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod operator;
mod stage;

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use operator::{FRESHNESS, Operator, copy, ends, readyz};
use plimsoll_core::oci::Digest;
use plimsoll_tests::{
    middle::{Effect, Middle, Rule},
    process::{Daemon, binary, run},
};
use stage::{Desk, config, establish, plain};

/// P1, P6: the disk with the store is gone, and there is no backup of it.
#[test]
fn a_lost_store_is_rebuilt_from_the_registry_alone() {
    let mut operator = Operator::new();
    let old = operator.latest();
    operator.publish("v2");
    operator.verifies("v2");
    let before = operator.timestamp();
    let targets = operator.file("2.targets.json").unwrap();
    operator.kill();
    fs::remove_dir_all(operator.store()).unwrap();

    // It signs nothing, and says so, and doctor says what to do.
    operator.doctor(1).has("wrong", "registry", "is not in the store");
    let daemon = operator.spawn();
    daemon.wait_for_line("ALARM");
    assert!(readyz(&daemon.url()).contains("the store is an old copy"), "{}", readyz(&daemon.url()));
    assert_eq!(daemon.terminate(), 0);
    // Which made an empty one.
    operator.doctor(1).has("wrong", "registry", "is not in the store");

    // The owners' root must be named: whoever owns the registry could show another.
    let refused = operator.run("restore acme").expect_code(1);
    assert!(refused.stderr.contains(&format!("--root {}", operator.root())), "{}", refused.stderr);
    let other = format!("sha256:{}", "0".repeat(64));
    let refused = operator.run(&format!("restore acme --root {other}")).expect_code(1);
    assert!(refused.stderr.contains("another chain of roots"), "{}", refused.stderr);
    let restored = operator.run(&format!("restore acme --root {}", operator.root())).ok();
    assert!(restored.stdout.contains("restored  acme"), "{}", restored.stdout);
    operator.doctor(0).well();
    let again = operator.run(&format!("restore acme --root {}", operator.root())).expect_code(1);
    assert!(again.stderr.contains("is not overwritten"), "{}", again.stderr);

    // Clients and publishers with a memory go on.
    operator.start();
    assert!(operator.timestamp() > before + 1000, "{} after {before}", operator.timestamp());
    assert_eq!(operator.file("2.targets.json").unwrap(), targets);
    operator.verifies("v2");
    operator.publish("v3");
    for tag in ["v1", "v2", "v3"] {
        operator.verifies(tag);
    }
    operator.doctor(0).has("ok", "daemon", "ready");
    // And an older state of the registry is no second signer, though the store does not have all of it any more.
    operator.overwrite_latest(&old);
    operator.publish("v4");
    operator.verifies("v4");
    operator.doctor(0).has("ok", "daemon", "ready");
}

/// P6: the same where the daemon hosts the registry itself; and where the keys are gone, too.
#[test]
fn the_embedded_registry_is_read_and_missing_keys_are_told() {
    let (home, desk) = (tempfile::tempdir().unwrap(), Desk::new());
    let daemon = Daemon::start(home.path(), &config("127.0.0.1:0", None, FRESHNESS));
    let host = daemon.address();
    establish(&desk, &host, &format!("{host}/acme/trust"), &daemon);
    daemon.kill();
    let command = |line: &str| {
        let mut command = Command::new(binary("plimsolld"));
        command.env("HOME", home.path()).current_dir(home.path()).args(line.split_whitespace());
        let run = run(command.args(["--config", "plimsolld.toml"]), b"");
        plain(&run);
        run
    };
    let (store, keys) = (home.path().join("data/store"), home.path().join("data/keys"));
    let root = Digest::of(&fs::read(desk.file("acme-root.json")).unwrap());
    command("doctor").ok();
    fs::remove_dir_all(&store).unwrap();
    let lost = command("doctor").expect_code(1);
    assert!(lost.stdout.contains("the store is lost"), "{}", lost.stdout);
    fs::rename(&keys, home.path().join("keys")).unwrap();
    let restored = command(&format!("restore acme --root {root}")).ok();
    assert!(restored.stdout.contains("nothing is signed until then"), "{}", restored.stdout);
    assert!(!restored.stdout.contains("next"), "{}", restored.stdout);
    command("doctor").expect_code(1);
    let refused = command("serve").expect_code(1);
    assert!(
        refused.stderr.contains("the online keys of trust repository acme are gone"),
        "{}",
        refused.stderr
    );

    fs::rename(home.path().join("keys"), &keys).unwrap();
    fs::remove_dir_all(&store).unwrap();
    let restored = command(&format!("restore acme --root {root}")).ok();
    assert!(restored.stdout.contains("next"), "{}", restored.stdout);
    command("doctor").ok();
    let daemon = Daemon::start(home.path(), &config(&host, None, FRESHNESS));
    desk.run("status").ok();
    assert_eq!(daemon.terminate(), 0);
}

/// P6: the whole history comes back from an export, made beside the running daemon; nothing of it is believed unseen.
#[test]
fn an_export_brings_back_the_whole_history() {
    let mut operator = Operator::new();
    let desk = &operator.desk;
    desk.key("gone");
    let add = format!("delegate add {}/acme/gone --label gone --pub gone.pub", operator.host);
    desk.with_key(&add, "owner").ok();
    desk.with_key("delegate remove targets--gone --yes", "owner").ok();
    operator.publish("v2");
    let made = operator.run("backup backups/").ok();
    assert!(made.stderr.contains("private keys are not in it"), "{}", made.stderr);
    let export = operator.home.path().join("backups/acme.plimsolld-export");
    assert_eq!(fs::metadata(&export).unwrap().permissions().mode() & 0o777, 0o600);
    // A daemon that is busy with others is asked again.
    let middle = Middle::start(&operator.daemon.as_ref().unwrap().address());
    middle.set(Rule::new("GET", "/export").times(1), Effect::Status(429));
    middle.set(Rule::new("GET", "/export").times(1), Effect::Status(503));
    operator.run(&format!("backup busy.export acme --server {}", middle.url())).ok();
    let statuses: Vec<u16> = middle.take_log().into_iter().map(|entry| entry.status).collect();
    assert_eq!(statuses[..3], [503, 429, 200]);
    let files = ["1.root.json", "1.targets.json", "2.targets.json", "1.snapshot.json", "2.snapshot.json"];
    let files = files.map(|name| (name, operator.file(name).unwrap()));
    let keys = fs::read(operator.data().join("keys/acme/timestamp.key")).unwrap();
    let whole = fs::read(&export).unwrap();
    assert!(!whole.windows(keys.len()).any(|window| window == keys), "a private key is in it");

    // After the export was made, something more is published.
    operator.publish("v3");
    operator.verifies("v3");
    let before = operator.timestamp();
    operator.kill();
    // With the daemon stopped it is the same.
    operator.run("backup second.export acme").ok();
    fs::remove_dir_all(operator.store()).unwrap();

    for (what, spoilt) in spoilt(&whole) {
        let file = operator.home.path().join("spoilt");
        fs::write(&file, spoilt).unwrap();
        let refused = operator.run("restore acme --from spoilt").expect_code(1);
        assert!(refused.stderr.contains("spoilt"), "{what}: {}", refused.stderr);
        operator.doctor(1);
    }
    operator.run("restore acme --from backups/acme.plimsolld-export").ok();
    operator.start();
    for (name, bytes) in files {
        assert_eq!(operator.file(name).as_ref(), Some(&bytes), "{name}");
    }
    assert!(operator.timestamp() > before + 1000);
    for tag in ["v1", "v2", "v3"] {
        operator.verifies(tag);
    }
    operator.publish("v4");
    operator.verifies("v4");
    operator.doctor(0).well();
}

/// An export with something wrong, each in another way.
fn spoilt(whole: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let text = String::from_utf8(whole.to_owned()).unwrap();
    let at = |word: &str| text.find(word).unwrap_or_else(|| panic!("no {word}"));
    let mut flipped = whole.to_owned();
    flipped[at("\"signed\"") + 30] ^= 1;
    vec![
        ("empty", Vec::new()),
        ("not one", b"{}\n".to_vec()),
        ("cut in the middle", whole[..whole.len() / 2].to_vec()),
        ("without its seal", whole[..at("{\"seal\"")].to_vec()),
        ("a document changed", flipped),
        ("a retired name put in", text.replacen("\"retired\":[", "\"retired\":[\"targets--x\"", 1).into()),
        ("another name", text.replacen("\"name\":\"acme\"", "\"name\":\"acmf\"", 1).into()),
        ("something after it", [whole, b"{}\n"].concat()),
        ("a line without an end", vec![b'x'; 100_000]),
    ]
}

/// P1, P7: a store from an old backup signs nothing, catches up on command, and nobody who saw the newer state has to forget
/// it.
#[test]
fn an_old_copy_of_the_store_catches_up_with_the_registry() {
    let mut operator = Operator::new();
    operator.kill();
    let old = operator.home.path().join("old-store");
    copy(&operator.store(), &old);
    let nothing = operator.run("repair acme --skip-ahead").expect_code(1);
    assert!(nothing.stderr.contains("nothing to skip"), "{}", nothing.stderr);
    operator.start();
    operator
        .desk
        .with_key(
            "delegate add HOST/acme/late --label late --pub team.pub"
                .replace("HOST", &operator.host)
                .as_str(),
            "owner",
        )
        .ok();
    operator.publish("v2");
    operator.verifies("v2");
    let before = operator.timestamp();
    operator.kill();
    fs::remove_dir_all(operator.store()).unwrap();
    copy(&old, &operator.store());

    operator.doctor(1).has("wrong", "registry", "AHEAD");
    let daemon = operator.spawn();
    daemon.wait_for_line("ALARM");
    let refused = operator.run("repair acme --skip-ahead").expect_code(1);
    assert!(refused.stderr.contains("stop the daemon first"), "{}", refused.stderr);
    let found = operator.doctor(1);
    found.has("wrong", "daemon", "the store is an old copy");
    found.has("wrong", "registry", "AHEAD");
    assert_eq!(daemon.terminate(), 0);

    operator.run("repair acme --skip-ahead").ok();
    operator.doctor(0).well();
    operator.start();
    assert!(operator.timestamp() > before + 1000);
    operator.verifies("v2");
    operator.publish("v3");
    operator.verifies("v3");
    // The team that came after the copy is there, too.
    operator.desk.with_key(&format!("sign {}/acme/net-monitor:v3", operator.host), "team").ok();
}

/// P7: one store, two daemons.
#[test]
fn a_second_daemon_on_one_store_does_not_start() {
    let operator = Operator::new();
    let second = ends(&operator, &[]).expect_code(1);
    assert!(second.stderr.contains("in use by another process"), "{}", second.stderr);
    operator.verifies("v1");
    operator.publish("v2");
}
