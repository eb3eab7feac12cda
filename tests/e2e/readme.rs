//! The README's terminal examples, run as they are written.
//!
//! The blocks are those of `plimsoll_tests::transcript`; the output of a command is that of both streams. All blocks share
//! one bash and one folder, from the first to the last.
//!
//! The README says that `REGISTRY` and `DAEMON` may be set beforehand; the test sets them to free ports, and puts these
//! addresses into the expected output instead of the ones that are written there.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::{
    fs,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use plimsoll_tests::{
    process,
    transcript::{lines_match, steps},
};

const WRITTEN: [(&str, &str); 2] = [("REGISTRY", "127.0.0.1:5005"), ("DAEMON", "127.0.0.1:8480")];
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn the_readme_does_what_it_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let steps = steps(&fs::read_to_string(file).unwrap());
    assert!(steps.len() >= 10, "the README has {} steps", steps.len());

    let addresses = free_addresses();
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    let mut script = String::new();
    for (at, step) in steps.iter().enumerate() {
        // The exit code is given back, so that `echo $?` says what it would on a terminal.
        script.push_str(&format!("{}\n__code=$?; echo; echo '@@ {at}'; (exit $__code)\n", step.command));
    }
    // Whatever the README leaves running, or did not get to end.
    script.push_str("kill $(jobs -p) 2>/dev/null; wait; exit 0\n");
    fs::write(folder.path().join("script"), script).unwrap();

    let log = fs::File::create(folder.path().join("log")).unwrap();
    let mut command = Command::new("bash");
    for (name, _) in std::env::vars_os() {
        let foreign = |name: &str| {
            ["PLIMSOLL", "XDG_", "REGISTRY_", "DOCKER_"].iter().any(|prefix| name.starts_with(prefix))
        };
        if name.to_str().is_some_and(foreign) {
            command.env_remove(name);
        }
    }
    let programs = process::binary("plimsoll").parent().unwrap().to_owned();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    command.arg(folder.path().join("script")).current_dir(folder.path()).env("PATH", path).env("HOME", &home);
    command.envs(WRITTEN.iter().zip(&addresses).map(|((name, _), address)| (name, address)));
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let ended = wait(command.process_group(0).spawn().unwrap());
    let said = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(ended, "the README did not end within {LIMIT:?}:\n{said}");

    let mut rest = said.as_str();
    for (at, step) in steps.iter().enumerate() {
        let mark = format!("\n@@ {at}\n");
        let end = rest.find(&mark).unwrap_or_else(|| panic!("`{}` never ended:\n{rest}", step.command));
        let found: Vec<&str> = rest[..end].lines().collect();
        rest = &rest[end + mark.len()..];
        let expected: Vec<String> = step.output.iter().map(|line| with_addresses(line, &addresses)).collect();
        assert!(
            lines_match(&expected, &found),
            "README.md:{}: `{}` is said to print\n{}\n-- and prints\n{}\n-- then\n{rest}",
            step.line,
            step.command,
            expected.join("\n"),
            found.join("\n"),
        );
    }
}

fn with_addresses(line: &str, addresses: &[String]) -> String {
    WRITTEN
        .iter()
        .zip(addresses)
        .fold(line.to_owned(), |line, ((_, written), real)| line.replace(written, real))
}

/// Two addresses that nobody listens on. They are free until somebody takes them, as on any machine.
fn free_addresses() -> Vec<String> {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

fn wait(mut child: Child) -> bool {
    let deadline = Instant::now() + LIMIT;
    loop {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        if Instant::now() > deadline {
            // The whole group, which is ours: with it what the README started in the background.
            let group = format!("kill -KILL -{}", child.id());
            Command::new("sh").args(["-c", &group]).status().unwrap();
            child.wait().unwrap();
            return false;
        }
        // The standard library has no wait with a limit.
        std::thread::sleep(Duration::from_millis(10));
    }
}
