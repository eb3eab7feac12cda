//! What a client can get wrong, with the real binaries: the documented exit code, one clear line, no panic, no secret, and
//! nothing changed on disk or in the registry.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod stage;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use plimsoll_core::oci::Digest;
use plimsoll_tests::{
    http,
    middle::{Answer, Effect, Middle, Rule},
    process,
};
use stage::{Desk, InUse, one_line, plain};

#[test]
fn a_root_is_pinned_only_with_its_hash() {
    let world = InUse::new();
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
    let world = InUse::new();
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
    for line in [verify, "status", "sign HOST/acme/net-monitor:v2 TEAM"] {
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
    let world = InUse::new();
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
    let world = InUse::new();
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
    let world = InUse::new();
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
