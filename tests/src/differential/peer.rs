//! The other clients: processes that judge case after case.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::verdict::{Failure, Kind, Verdict};

/// Longer than any case takes, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// One case, for another client.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) folder: PathBuf,
    pub(super) stages: usize,
    pub(super) names: Vec<String>,
    pub(super) now: String,
}

/// A process that reads a request a line and answers each with a line.
pub(super) struct Peer {
    program: PathBuf,
    arguments: Vec<String>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// python-tuf's client, in the virtual environment that `tests/run.sh` makes.
    pub(super) fn python() -> Self {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = tests.join("../.venv/bin/python");
        assert!(python.exists(), "{} is missing: run `bash tests/run.sh --install` first", python.display());
        let script = tests.join("peers/differential.py");
        // Isolated: no PYTHON* variables, no user's packages.
        let arguments = vec!["-I".to_owned(), script.to_str().expect("a path that is text").to_owned()];
        Self { program: python, arguments, running: None }
    }

    /// tough, by the program that ends in [`super::serve_tough`].
    pub(super) fn tough(program: &Path) -> Self {
        Self { program: program.to_owned(), arguments: Vec::new(), running: None }
    }

    /// Has the process begin with `request`; [`Peer::answer`] waits for its end.
    pub(super) fn ask(&mut self, request: &Request) {
        let mut line = serde_json::to_string(request).expect("requests are JSON");
        line.push('\n');
        let running = self.running.get_or_insert_with(|| start(&self.program, &self.arguments));
        // One that is dead is noticed when it does not answer.
        let _ = running.input.write_all(line.as_bytes()).and_then(|()| running.input.flush());
    }

    /// The verdict on each stage of what was asked; a crash on each, if the process ended, and the next case gets a new one.
    pub(super) fn answer(&mut self, stages: usize) -> Vec<Verdict> {
        let running = self.running.as_mut().expect("it was asked before");
        if let Ok(line) = running.lines.recv_timeout(PATIENCE) {
            return serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        }
        self.running = None;
        let text = "the process ended, or did not answer".to_owned();
        vec![Verdict::refused(Failure { kind: Kind::Crash, text }); stages]
    }
}

fn start(program: &Path, arguments: &[String]) -> Running {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let input = child.stdin.take().expect("it is piped");
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    let (sender, lines) = channel();
    // Ends with the process.
    thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    Running { child, input, lines }
}
