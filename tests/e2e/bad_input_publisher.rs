//! What a publisher can get wrong, with the real binaries: the documented exit code, one clear line, no panic, no secret, and
//! nothing changed on disk or in the registry.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod stage;

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, process::Command};

use plimsoll_tests::{
    http,
    middle::{Answer, Effect, Middle, Rule},
    process,
};
use stage::{Desk, InUse, one_line};

#[test]
fn wrong_arguments_are_refused_before_anything_is_done() {
    let world = InUse::new();
    for (line, says) in [
        ("", "Usage"),
        ("sing HOST/acme/net-monitor:v1", "unrecognized subcommand"),
        ("sign", "<REFERENCE>"),
        ("sign HOST/acme/net-monitor:v1", "--key <KEY>"),
        ("sign HOST/acme/net-monitor:v1 TEAM --no-check", "--no-check"),
        ("sign HOST/acme/net-monitor:v1 TEAM --passphrase=secret", "--passphrase"),
        ("sign HOST/Acme/net-monitor:v1 TEAM", "HOST/Acme/net-monitor:v1"),
        ("sign HOST/acme/net-monitor:v1@sha256:00 TEAM", "sha256:00"),
        ("sign HOST/acme/net-monitor:v1 TEAM --server not-a-url", "--server"),
        ("sign HOST/acme/net-monitor:v1 TEAM -o yaml", "yaml"),
        ("verify", "<REFERENCE>"),
        ("verify ../../etc/passwd", "../../etc/passwd"),
        ("verify HOST/acme/net-monitor@md5:00", "md5:00"),
        ("verify HOST/acme/net-monitor: ", "net-monitor:"),
        ("resolve HOST//net-monitor:v1", "//"),
        ("revoke HOST/acme/net-monitor:v1 TEAM", "--reason"),
        ("delegate add acme/x --label x --key owner.key", "--pub"),
        ("delegate add acme/x --label x --pub team.pub --threshold many OWNER", "many"),
        ("init HOST --scope acme/** --server DAEMON OWNER", "HOST"),
        ("init HOST/fresh/trust --server DAEMON OWNER", "--scope"),
        ("init HOST/fresh/trust --scope acme/[ab] --server DAEMON OWNER", "acme/[ab]"),
        ("init HOST/fresh/trust --scope acme/../x --server DAEMON OWNER", "acme/../x"),
        ("trust add other --root acme-root.json --sha256 1234 --repository HOST/acme/trust", "1234"),
        ("trust add other --root acme-root.json --repository HOST/acme/trust", "--sha256"),
        ("key generate", "NAME"),
        ("key generate one --out two", "--out"),
    ] {
        let says = world.line(says);
        let run = world.refuse(line, 2, &[]);
        assert_eq!(run.stdout, "", "{line}");
        assert!(run.stderr.contains(&says), "{line}: no `{says}` in\n{}", run.stderr);
    }
}

#[test]
fn keys_and_passphrases_that_cannot_be_used_are_named() {
    let world = InUse::new();
    let desk = world.desk.copy();
    let write = |name: &str, bytes: &[u8], mode: u32| {
        fs::write(desk.file(name), bytes).unwrap();
        fs::set_permissions(desk.file(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    let team = fs::read(desk.file("team.key")).unwrap();
    write("open.key", &team, 0o644);
    write("torn.key", &team[..team.len() / 2], 0o600);
    write("garbage.key", b"not a key\n", 0o600);
    write("empty.key", b"", 0o600);
    write("huge.key", &vec![b'x'; 1 << 20], 0o600);
    let mut openssl = Command::new("openssl");
    openssl.args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(desk.file("plain.key"));
    process::run(&mut openssl, b"").ok();
    fs::set_permissions(desk.file("plain.key"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(desk.file("folder.key")).unwrap();
    write("wrong", b"another passphrase\n", 0o600);
    write("empty", b"", 0o600);
    write("latin", b"caf\xe9\n", 0o600);

    let sign = "sign HOST/acme/net-monitor:v2 --passphrase-file passphrase --key";
    for (key, says) in [
        ("none.key", "there is no file `none.key`"),
        ("open.key", "chmod 600 open.key"),
        ("torn.key", "torn.key"),
        ("garbage.key", "garbage.key"),
        ("empty.key", "empty.key"),
        ("huge.key", "huge.key"),
        ("plain.key", "unencrypted"),
        ("folder.key", "folder.key"),
        ("team.pub", "team.pub"),
    ] {
        world.fault_at(&desk, &format!("{sign} {key}"), 2, &[says]);
    }
    for (passphrase, says) in [
        ("wrong", "the passphrase does not open `team.key`"),
        ("empty", "the passphrase is empty"),
        ("latin", "latin"),
        ("none", "there is no file `none`"),
    ] {
        let sign = format!("sign HOST/acme/net-monitor:v2 --key team.key --passphrase-file {passphrase}");
        world.fault_at(&desk, &sign, 2, &[says]);
    }
    for (line, says) in [
        ("key generate team --passphrase-file passphrase", "`team.key` exists already"),
        ("key generate --out new.pub --passphrase-file passphrase", "new.pub"),
        ("key generate --out no/folder.key --passphrase-file passphrase", "no/folder"),
        ("key generate new --passphrase-file empty", "the passphrase is empty"),
        ("key show none.pub", "there is no file `none.pub`"),
        ("key show garbage.key", "garbage.key"),
        ("key show team.key --passphrase-file wrong", "does not open"),
        ("delegate add acme/x --label x --pub none.pub OWNER", "there is no file `none.pub`"),
        ("delegate add acme/x --label x --pub garbage.key OWNER", "garbage.key"),
        ("delegate add acme/x --label x --pub team.key OWNER", "team.key"),
    ] {
        world.fault_at(&desk, line, 2, &[says]);
    }
}

#[test]
fn without_a_terminal_nobody_is_asked() {
    let desk = Desk::new();
    // A session of its own has no terminal, also where the tests are run on one.
    let mut command = Command::new("setsid");
    command.arg("--wait").arg(process::binary("plimsoll")).args(["key", "generate", "team"]);
    let run = process::run(command.current_dir(desk.path()).env("PLIMSOLL_HOME", desk.path()), b"secret\n");
    one_line(&run.clone().expect_code(2));
    assert!(run.stderr.contains("--passphrase-file"), "{}", run.stderr);
    assert_eq!(desk.tree().len(), 1);
}

#[test]
fn what_a_key_may_not_do_it_does_not_do() {
    let world = InUse::new();
    world.desk.with_key(&world.line("sign HOST/acme/net-monitor:v2"), "team").ok();
    world.settle();
    for (line, code, says) in [
        // Outside of the team's scope, outside of the trust repository's, outside of the policy's.
        ("sign HOST/acme/other:v1 TEAM", 2, "signs for no role that may speak about acme/other:v1"),
        ("sign HOST/other/app:v1 TEAM", 2, "no scope of your policy covers"),
        ("sign other.example.com/acme/net-monitor:v1 TEAM", 2, "no scope of your policy covers"),
        ("delegate add other/app --label app --pub team.pub OWNER", 2, "other/app is not inside"),
        ("delegate add acme/x --label x --pub team.pub TEAM", 2, "signs for no role"),
        (
            "delegate add acme/other --label x --pub team.pub --parent targets--net-monitor TEAM",
            2,
            "acme/other is not inside",
        ),
        (
            "delegate add acme/x --label x --pub team.pub --parent targets--no OWNER",
            2,
            "no role `targets--no`",
        ),
        ("delegate add acme/x --label a--b --pub team.pub OWNER", 2, "`a--b` cannot label a role"),
        ("delegate add acme/x --label latest --pub team.pub OWNER", 2, "cannot label a role"),
        ("delegate add acme/x --label net-monitor --pub team.pub OWNER", 2, "already is the name of a role"),
        ("delegate add acme/x --label x --pub team.pub --threshold 0 OWNER", 2, "threshold 0"),
        ("delegate add acme/x --label x --pub team.pub --threshold 2 OWNER", 2, "threshold 2"),
        (
            "delegate add acme/x --label x --pub team.pub --pub team.pub --threshold 2 OWNER",
            2,
            "holds a key that was given already",
        ),
        ("delegate add acme/{a,b} --label x --pub team.pub OWNER", 2, "acme/{a,b}"),
        ("sign HOST/acme/net-monitor:v2 --trust none TEAM", 2, "no root called `none`"),
        // Nothing there.
        ("sign HOST/acme/net-monitor:v9 TEAM", 11, "nothing to sign"),
        ("revoke HOST/acme/net-monitor:v9 --reason x TEAM", 2, "does not list acme/net-monitor:v9"),
        ("revoke HOST/acme/other:v1 --reason x TEAM", 2, "signs for no role"),
    ] {
        world.fault(line, code, &[says]);
    }
    let desk = world.desk.copy();
    world.fault_at(
        &desk,
        "sign HOST/acme/net-monitor:v2 --key stranger.key --passphrase-file passphrase",
        2,
        &["signs for no role", "net-monitor"],
    );
    let reference = world.line("HOST/acme/net-monitor:v2");
    for reason in ["", "two\nlines", &"x".repeat(201)] {
        let line = [
            "revoke",
            &reference,
            "--reason",
            reason,
            "--key",
            "team.key",
            "--passphrase-file",
            "passphrase",
        ];
        let before = desk.tree();
        let run = desk.cli.run(&line).expect_code(2);
        one_line(&run);
        assert!(run.stderr.contains("--reason"), "{}", run.stderr);
        assert_eq!(desk.tree(), before);
    }
    // Twice the same: the second is no change.
    world.desk.with_key(&world.line("revoke HOST/acme/net-monitor:v2 --reason broken"), "team").ok();
    world.settle();
    world.fault("revoke HOST/acme/net-monitor:v2 --reason broken TEAM", 2, &["net-monitor"]);
    world.fault("sign HOST/acme/net-monitor:v2 TEAM", 2, &["was revoked (broken)"]);
}

#[test]
fn a_daemon_that_is_none_is_named() {
    let world = InUse::new();
    let closed = closed();
    let web = Middle::start("127.0.0.1:1");
    web.set(Rule::new("*", "/"), Effect::Answer(Answer::status(200).body("<html>hello</html>")));
    let registry = world.registry.url();
    let dead = format!("http://{closed}");
    for (server, code, says) in [
        (dead.as_str(), 30, closed.as_str()),
        (registry.as_str(), 30, "not as plimsolld does"),
        (web.url().as_str(), 30, "not as plimsolld does"),
    ] {
        for line in [
            "sign HOST/acme/net-monitor:v2 TEAM",
            "delegate add acme/x --label x --pub team.pub OWNER",
            "revoke HOST/acme/net-monitor:v1 --reason x TEAM",
            "init HOST/fresh/trust --scope fresh/** OWNER",
        ] {
            world.fault(&format!("{line} --server {server}"), code, &[says]);
        }
    }
    // What a daemon of another version could answer is no success either.
    for (status, code) in [(401, 31), (403, 31), (404, 30), (429, 30), (500, 30), (503, 30)] {
        web.set(Rule::new("*", "/"), Effect::Status(status));
        world.fault(
            &format!("sign HOST/acme/net-monitor:v2 TEAM --server {}", web.url()),
            code,
            &["error: "],
        );
    }
    let desk = world.desk.copy();
    fs::remove_file(desk.file("servers.toml")).unwrap();
    world.fault_at(&desk, "sign HOST/acme/net-monitor:v2 TEAM", 2, &["no daemon is known", "--server URL"]);
    fs::write(desk.file("servers.toml"), "servers = 7\n").unwrap();
    world.fault_at(&desk, "sign HOST/acme/net-monitor:v2 TEAM", 2, &["servers.toml"]);
}

#[test]
fn a_trust_repository_is_made_once_and_where_it_is_served() {
    let world = InUse::new();
    let desk = world.desk.copy();
    let online = |name: &str| {
        let info = http::get(&format!("{}/v1/trusts/{name}", world.daemon.url())).unwrap();
        let info: serde_json::Value = serde_json::from_slice(&info.body).unwrap();
        info["online"].to_string()
    };
    fs::write(desk.file("online.json"), online("acme")).unwrap();
    fs::write(desk.file("twice.json"), format!("{{\"timestamp\":1,\"timestamp\":{}}}", online("acme")))
        .unwrap();
    fs::write(desk.file("there-root.json"), "mine").unwrap();
    let init = "init HOST/fresh/trust --scope fresh/** --server DAEMON OWNER --name fresh";
    for (line, says) in [
        (
            "init HOST/acme/trust --scope acme/** --server DAEMON OWNER --name again".to_owned(),
            "already is a trust",
        ),
        ("init HOST/none/trust --scope none/** --server DAEMON OWNER".to_owned(), "does not serve"),
        (format!("{init} --online-pub online.json"), "other online keys"),
        (format!("{init} --online-pub none.json"), "none.json"),
        (format!("{init} --online-pub twice.json"), "twice.json"),
        (format!("{init} --online-pub passphrase"), "passphrase"),
        (format!("{init} --out there-root.json"), "there-root.json"),
        ("init HOST/fresh/trust --scope fresh/** --server DAEMON OWNER --name acme".to_owned(), "`acme`"),
        ("init HOST/fresh/trust --scope fresh/** --server DAEMON OWNER --name Fresh!".to_owned(), "Fresh!"),
        ("init HOST/fresh/trust --scope acme/** --server DAEMON OWNER --name fresh".to_owned(), "acme/**"),
    ] {
        world.fault_at(&desk, &line, 2, &[says]);
    }
    // It still can be made, once, with the right ones.
    fs::write(desk.file("online.json"), online("fresh")).unwrap();
    desk.run(&world.line(&format!("{init} --online-pub online.json"))).ok();
}

/// An address that nobody listens on.
fn closed() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
