//! The README's terminal examples, run as they are written.
//!
//! A `console` block is run if the line before it is `<!-- run -->`. In it, a line that starts with `$ ` is a command;
//! the lines up to the next command are its output, both streams, where `…` stands for any text within a line
//! and a line `...` for any lines. All blocks share one bash and one folder, from the first to the last.
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

use plimsoll_tests::process;

const WRITTEN: [(&str, &str); 2] = [("REGISTRY", "127.0.0.1:5005"), ("DAEMON", "127.0.0.1:8480")];
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug)]
struct Step {
    line: usize,
    command: String,
    output: Vec<String>,
}

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

/// The commands of the blocks that are to be run.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut marked, mut inside, mut here) = (false, false, None::<String>);
    for (number, line) in text.lines().enumerate() {
        if !inside {
            inside = marked && line == "```console";
            assert!(!marked || inside, "README.md:{}: a mark without a block", number + 1);
            marked = line == "<!-- run -->";
            continue;
        }
        if line == "```" {
            inside = false;
            continue;
        }
        let last = steps.last_mut();
        match (line.strip_prefix("$ "), last) {
            _ if here.is_some() => {
                let last = last_command(&mut steps);
                last.push('\n');
                last.push_str(line);
                here = here.filter(|end| end != line);
            }
            (None, Some(last)) if last.command.ends_with('\\') => {
                last.command.push('\n');
                last.command.push_str(line);
            }
            (Some(command), _) => {
                here = command.split_once("<<").map(|(_, end)| end.trim().to_owned());
                steps.push(Step { line: number + 1, command: command.to_owned(), output: Vec::new() });
            }
            (None, Some(last)) => last.output.push(line.to_owned()),
            (None, None) => panic!("README.md:{}: output before any command", number + 1),
        }
    }
    steps
}

fn last_command(steps: &mut [Step]) -> &mut String {
    &mut steps.last_mut().unwrap().command
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

/// Whether `found` is what `expected` says; empty lines at the end do not count.
fn lines_match(expected: &[String], found: &[&str]) -> bool {
    let trimmed = found.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    let mut rest = &found[..trimmed];
    let mut groups = expected.split(|line| line == "...");
    let first = groups.next().unwrap_or_default();
    let matches = |lines: &[String], found: &[&str]| {
        lines.len() <= found.len() && lines.iter().zip(found).all(|(line, found)| line_matches(line, found))
    };
    if !matches(first, rest) {
        return false;
    }
    rest = &rest[first.len()..];
    let groups: Vec<_> = groups.collect();
    for (at, group) in groups.iter().enumerate() {
        let last = at + 1 == groups.len();
        let places = 0..=rest.len().saturating_sub(group.len());
        let place = places.into_iter().find(|&place| {
            matches(group, &rest[place..]) && (!last || group.is_empty() || place + group.len() == rest.len())
        });
        let Some(place) = place else { return false };
        if last {
            return true;
        }
        rest = &rest[place + group.len()..];
    }
    rest.is_empty()
}

fn line_matches(expected: &str, found: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = found.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn wildcards_stand_for_text_and_for_lines() {
    assert!(line_matches("signed … by …", "signed this by that"));
    assert!(line_matches("a…", "a") && line_matches("a", "a"));
    assert!(!line_matches("a", "ab") && !line_matches("…b", "ba") && !line_matches("x…", "a"));
    let check = |expected: &[&str], found: &[&str]| {
        lines_match(&expected.iter().map(ToString::to_string).collect::<Vec<_>>(), found)
    };
    assert!(check(&[], &[]) && check(&[], &[""]) && !check(&[], &["a"]));
    assert!(check(&["..."], &["a", "b"]) && check(&["a", "...", "c"], &["a", "b", "c"]));
    assert!(check(&["...", "b", "...", "d"], &["a", "b", "b", "c", "d", ""]));
    assert!(!check(&["a", "...", "c"], &["a", "b"]) && !check(&["a"], &["a", "b"]));
}

#[test]
fn only_marked_blocks_are_steps() {
    let text =
        "```console\n$ no\n```\n<!-- run -->\n```console\n$ a \\\n  b\nout\n$ cat <<END\n$ x\nEND\n```\n";
    let steps = steps(text);
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert_eq!(
        (steps[0].command.as_str(), steps[0].output.as_slice()),
        ("a \\\n  b", &["out".to_owned()][..])
    );
    assert_eq!(steps[1].command, "cat <<END\n$ x\nEND");
}
