//! Everything a user or an operator can get wrong, with the real binaries: the documented exit code, one clear line, no
//! panic, no secret, and nothing changed on disk or in the registry.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod stage;

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use plimsoll_core::oci::Digest;
use plimsoll_tests::{
    docker_registry::Registry,
    http,
    middle::{Answer, Effect, Middle, Rule},
    process::{self, Daemon, Run, Service},
};
use stage::{CANARY, Desk, establish, push, tags};
use tempfile::TempDir;

const REPOSITORIES: [&str; 4] = ["acme/trust", "acme/net-monitor", "acme/other", "fresh/trust"];

/// A registry, a daemon, a trust repository in use, and a publisher's desk.
struct World {
    registry: Registry,
    daemon: Daemon,
    daemon_home: TempDir,
    desk: Desk,
    host: String,
}

impl World {
    fn new() -> Self {
        let registry = Registry::open();
        let host = registry.address();
        let daemon_home = tempfile::tempdir().unwrap();
        let mut config = stage::config("127.0.0.1:0", Some(&format!("{host}/acme/trust")), "");
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
    fn settle(&self) {
        self.desk.run("status").ok();
        self.desk.run(&self.line("verify HOST/acme/net-monitor:v1")).ok();
        self.desk.run(&self.line("revoke HOST/acme/net-monitor:none --reason x TEAM")).expect_code(2);
    }

    /// `HOST`, `DAEMON` and `KEY` in a command line mean what this world has.
    fn line(&self, line: &str) -> String {
        let line = line.replace("TEAM", "--key team.key --passphrase-file passphrase");
        let line = line.replace("OWNER", "--key owner.key --passphrase-file passphrase");
        line.replace("HOST", &self.host).replace("DAEMON", &self.daemon.url())
    }

    /// Runs `line` at this world's own desk: it must be refused.
    fn refuse(&self, line: &str, code: i32, says: &[&str]) -> Run {
        self.refuse_at(&self.desk, line, code, says)
    }

    /// Runs `line` at `desk`: it must end with `code`, say all of `says` in one line, and change nothing.
    fn refuse_at(&self, desk: &Desk, line: &str, code: i32, says: &[&str]) -> Run {
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

    /// As [`World::refuse`], and the fault is one line, perhaps with one line of advice.
    fn fault(&self, line: &str, code: i32, says: &[&str]) {
        one_line(&self.refuse(line, code, says));
    }

    fn fault_at(&self, desk: &Desk, line: &str, code: i32, says: &[&str]) {
        one_line(&self.refuse_at(desk, line, code, says));
    }
}

/// No panic and no secret in what was said.
#[track_caller]
fn plain(run: &Run) {
    for stream in [&run.stdout, &run.stderr] {
        for bad in ["panicked", "RUST_BACKTRACE", CANARY, "-----BEGIN PRIVATE KEY", "\u{1b}["] {
            assert!(!stream.contains(bad), "`{bad}` in what {} said:\n{stream}", run.command);
        }
    }
}

/// `error: …`, then at most `  try: …`, and nothing else. `init` may have shown the daemon's keys before.
#[track_caller]
fn one_line(run: &Run) {
    assert_eq!(run.stdout, "", "{}", run.command);
    let mut lines: Vec<&str> = run.stderr.lines().collect();
    if lines[0].starts_with("the daemon's online keys") {
        lines.drain(..3);
    }
    assert!(lines[0].starts_with("error: ") && lines[0].len() > 20, "{}: {lines:?}", run.command);
    assert!(matches!(&lines[1..], [] | [_]), "{}: {lines:#?}", run.command);
    assert!(lines[1..].iter().all(|line| line.starts_with("  try: ")), "{}: {lines:#?}", run.command);
}

#[test]
fn wrong_arguments_are_refused_before_anything_is_done() {
    let world = World::new();
    for (line, says) in [
        ("", "Usage"),
        ("sing HOST/acme/net-monitor:v1", "unrecognized subcommand"),
        ("sign", "<REFERENCE>"),
        ("sign HOST/acme/net-monitor:v1", "--key <FILE>"),
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
    let world = World::new();
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
    let world = World::new();
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
            "by 1 distinct keys",
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
    let world = World::new();
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
    let world = World::new();
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

#[test]
fn a_root_is_pinned_only_with_its_hash() {
    let world = World::new();
    let desk = world.desk.copy();
    let root = fs::read(desk.file("acme-root.json")).unwrap();
    let sha256 = Digest::of(&root).hex();
    fs::write(desk.file("garbage.json"), "{}").unwrap();
    let targets =
        http::get(&format!("{}/tuf/acme/metadata/1.targets.json", world.daemon.url())).unwrap().body;
    fs::write(desk.file("targets.json"), &targets).unwrap();
    let mut unsigned = String::from_utf8(root.clone()).unwrap().replace("acme/**", "evil/**");
    unsigned.push('\n');
    fs::write(desk.file("unsigned.json"), &unsigned).unwrap();
    let add = |name: &str, file: &str, sha256: &str, more: &str| {
        format!("trust add {name} --root {file} --sha256 {sha256} --repository HOST/acme/trust {more}")
    };
    let of = |bytes: &[u8]| Digest::of(bytes).hex();
    for (line, says) in [
        (add("other", "acme-root.json", &"0".repeat(64), ""), "does not have the sha256 given"),
        (add("other", "none.json", &sha256, ""), "none.json"),
        (add("other", "garbage.json", &of(b"{}"), ""), "garbage.json is not a TUF root document"),
        (add("other", "targets.json", &of(&targets), ""), "targets.json is not a TUF root document"),
        (
            add("other", "unsigned.json", &of(unsigned.as_bytes()), ""),
            "unsigned.json is not a TUF root document",
        ),
        (add("acme", "acme-root.json", &sha256, ""), "a root called `acme` is pinned already"),
        (add("../x", "acme-root.json", &sha256, ""), "../x"),
        (add("other", "acme-root.json", &sha256, "--scope HOST/evil/**"), "outside of what this root"),
        (add("other", "acme-root.json", &sha256, "--scope nonsense"), "nonsense"),
        // A second root for the same scope: which one counts would be a matter of luck.
        (add("other", "acme-root.json", &sha256, ""), "acme/**"),
        ("trust show none".to_owned(), "no root called `none`"),
        ("trust remove none".to_owned(), "no root called `none`"),
        ("trust reset none --yes".to_owned(), "no root called `none`"),
        ("trust reset acme".to_owned(), "not confirmed"),
        ("status none".to_owned(), "no root called `none`"),
    ] {
        world.fault_at(&desk, &line, 2, &[says]);
    }
}

#[test]
fn a_policy_that_cannot_be_used_is_no_policy() {
    let world = World::new();
    let desk = world.desk.copy();
    let policy = fs::read_to_string(desk.file("policy.toml")).unwrap();
    let verify = "verify HOST/acme/net-monitor:v1";
    for (change, says) in [
        (format!("{policy}\nskip-verification = true\n"), "skip-verification"),
        (policy.replace("sha256", "sha512"), "policy.toml"),
        (policy.replace(&world.host, "HOST{1,2}"), "policy.toml"),
        (format!("{policy}\n["), "policy.toml"),
        ("\u{0}".to_owned(), "policy.toml"),
    ] {
        fs::write(desk.file("policy.toml"), change).unwrap();
        world.fault_at(&desk, verify, 2, &[says]);
    }
    fs::write(desk.file("policy.toml"), "").unwrap();
    world.refuse_at(&desk, verify, 17, &["NO_POLICY"]);
    fs::write(desk.file("policy.toml"), b"\xff\xfe").unwrap();
    world.fault_at(&desk, verify, 2, &["policy.toml"]);
    fs::remove_file(desk.file("policy.toml")).unwrap();
    for line in [verify, "trust list", "status", "sign HOST/acme/net-monitor:v2 TEAM"] {
        world.fault_at(&desk, line, 2, &["there is no policy at", "plimsoll trust add"]);
    }
    fs::create_dir(desk.file("policy.toml")).unwrap();
    world.fault_at(&desk, verify, 2, &["policy.toml"]);

    // The pinned root is compared with the policy every time.
    let desk = world.desk.copy();
    fs::write(desk.file("roots/acme-root.json"), "{}").unwrap();
    for line in [verify, "resolve HOST/acme/net-monitor:v1", "status", "sign HOST/acme/net-monitor:v2 TEAM"] {
        let run = desk.run(&world.line(line));
        assert_eq!(run.code, 2, "{line}: {}", run.stderr);
        assert!(run.stderr.contains("is not the root that was pinned"), "{}", run.stderr);
    }
    fs::remove_file(desk.file("roots/acme-root.json")).unwrap();
    world.fault_at(&desk, verify, 2, &["acme-root.json"]);
    // What no policy covers is not judged.
    let run = world.refuse("verify other.example.com/acme/net-monitor:v1", 17, &["NO_POLICY"]);
    assert_eq!(run.stderr, "");
    assert_eq!(world.refuse("resolve other.example.com/acme/net-monitor:v1", 17, &["NO_POLICY"]).stdout, "");
}

#[test]
fn trusted_state_that_is_damaged_fails_closed() {
    let world = World::new();
    // The memory of the verify side, and that of the publish side.
    let states = |desk: &Desk| {
        [desk.file("state"), desk.file("state/publishing")].map(|folder| {
            let folders = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            let found: Vec<_> = folders.filter(|path| !path.ends_with("publishing")).collect();
            assert_eq!(found.len(), 1, "{found:?}");
            found[0].join("whole")
        })
    };
    let lines = [
        "verify HOST/acme/net-monitor:v1",
        "resolve HOST/acme/net-monitor:v1",
        "sign HOST/acme/net-monitor:v2 TEAM",
    ];
    type Spoil = fn(&Path);
    let spoil: [(&str, &str, Spoil); 5] = [
        ("torn", "run `plimsoll trust reset acme` to", |whole| {
            let bytes = fs::read(whole.join("memory.json")).unwrap();
            fs::write(whole.join("memory.json"), &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("gone", "rollback memory lost", |whole| fs::remove_file(whole.join("memory.json")).unwrap()),
        ("lowered", "rollback memory lost", |whole| {
            let text = fs::read_to_string(whole.join("memory.json")).unwrap();
            let lower = text.replacen("\"version\":3", "\"version\":1", 1).replacen(
                "\"version\":4",
                "\"version\":1",
                1,
            );
            assert_ne!(lower, text);
            fs::write(whole.join("memory.json"), lower).unwrap();
        }),
        ("open to others", "chmod 700", |whole| {
            fs::set_permissions(whole, fs::Permissions::from_mode(0o755)).unwrap();
        }),
        ("a file", "state", |whole| {
            fs::remove_dir_all(whole).unwrap();
            fs::write(whole, "").unwrap();
        }),
    ];
    for (what, says, spoil) in spoil {
        let desk = world.desk.copy();
        states(&desk).iter().for_each(|state| spoil(state));
        for line in lines {
            let run = world.refuse_at(&desk, line, 1, &[says]);
            assert_eq!(run.stdout, "", "{what}: {line}");
            one_line(&run);
        }
    }
    // What is said to help helps.
    let desk = world.desk.copy();
    fs::remove_file(states(&desk)[0].join("memory.json")).unwrap();
    desk.run("trust reset acme --yes").ok();
    desk.run(&world.line(lines[0])).ok();
    // A torn cached document is no fault: it is fetched again.
    fs::write(states(&desk)[0].join("snapshot.json"), "{").unwrap();
    desk.run(&world.line(lines[0])).ok();
}

#[test]
fn a_registry_that_does_not_answer_proves_nothing() {
    let world = World::new();
    let middle = Middle::start(&world.host);
    let desk = Desk::new();
    fs::copy(world.desk.file("acme-root.json"), desk.file("acme-root.json")).unwrap();
    fs::copy(world.desk.file("team.key"), desk.file("team.key")).unwrap();
    let sha256 = Digest::of(&fs::read(desk.file("acme-root.json")).unwrap()).hex();
    let at = middle.address();
    desk.run(&format!("trust add acme --root acme-root.json --sha256 {sha256} --repository {at}/acme/trust"))
        .ok();
    let reference = format!("{at}/acme/net-monitor:v1");
    let (verify, resolve) = (format!("verify {reference}"), format!("resolve {reference}"));
    let absent = format!("verify {at}/acme/other:v1");
    let sign = format!("sign {at}/acme/net-monitor:v2 TEAM --server DAEMON");
    desk.run(&verify).ok();
    desk.run(&absent).expect_code(10);

    let statuses = [(401, "AUTH", 31), (403, "AUTH", 31), (404, "UNREACHABLE", 30), (429, "UNREACHABLE", 30)];
    let more = [
        (500, "UNREACHABLE", 30),
        (502, "UNREACHABLE", 30),
        (503, "UNREACHABLE", 30),
        (418, "UNREACHABLE", 30),
    ];
    for (status, verdict, code) in statuses.into_iter().chain(more) {
        middle.set(Rule::new("*", "/acme/trust/"), Effect::Status(status));
        world.refuse_at(&desk, &verify, code, &[verdict, &reference]);
        // Neither found nor absent: nobody can tell.
        world.refuse_at(&desk, &absent, code, &[verdict]);
        let run = world.refuse_at(&desk, &resolve, code, &[verdict]);
        assert_eq!(run.stdout, "");
        let run = world.refuse_at(&desk, "status", code, &[]);
        assert!(run.stderr.contains("error: acme: "), "{}", run.stderr);
        middle.clear();
        // The image's own repository, asked by HEAD after the metadata said what is signed.
        middle.set(Rule::new("*", "/acme/net-monitor/"), Effect::Status(status));
        if status == 404 {
            world.refuse_at(&desk, &verify, 11, &["NO_SUCH_TAG"]);
            world.fault_at(&desk, &sign, 11, &["nothing to sign"]);
        } else {
            world.refuse_at(&desk, &verify, code, &[verdict]);
            world.fault_at(&desk, &sign, code, &[&at]);
        }
        middle.clear();
    }
    let html = Effect::Answer(Answer::status(200).body("<html>"));
    for effect in [Effect::Reset, Effect::Truncate(7), Effect::WrongBytes, html] {
        // With an empty memory, so that the registry cannot say that nothing changed.
        let new = desk.copy();
        fs::remove_dir_all(new.file("state")).unwrap();
        middle.set(Rule::new("GET", "/acme/trust/"), effect.clone());
        let run = new.run(&verify);
        plain(&run);
        assert!(matches!(run.code, 22 | 30), "{effect:?}: {}{}", run.stdout, run.stderr);
        middle.clear();
    }
    desk.run(&verify).ok();
    drop(middle);
    world.refuse_at(&desk, &verify, 30, &["UNREACHABLE", &at]);
    world.fault_at(&desk, &sign, 30, &[&at]);
}

#[test]
fn results_that_cannot_be_written_are_failures() {
    let world = World::new();
    let reference = world.line("HOST/acme/net-monitor:v1");
    let commands: [&[&str]; 8] = [
        &["--help"],
        &["--version"],
        &["verify", &reference],
        &["verify", &reference, "-o", "json"],
        &["resolve", &reference],
        &["trust", "list"],
        &["status"],
        &["key", "show", "team.pub"],
    ];
    for arguments in commands {
        for full in [false, true] {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let stdout = if full {
                Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap())
            } else {
                writer.into()
            };
            let mut command = Command::new(process::binary("plimsoll"));
            command.args(arguments).current_dir(world.desk.path()).env("PLIMSOLL_HOME", world.desk.path());
            let output = command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
            assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
        }
    }
    for arguments in [&["key", "show", "acme", "--data", "data"][..], &["config", "check", "plimsolld.toml"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(process::binary("plimsolld"));
        command.args(arguments).current_dir(world.daemon_home.path());
        let output = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    }
}

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

/// An address that nobody listens on.
fn closed() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
