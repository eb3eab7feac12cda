//! Running programs: the project's own binaries, and others.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::http;

/// How long a program may run before its test fails.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// How long a server may take to start, and to end when told to.
const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The most bytes kept of one stream of one program.
const MAX_OUTPUT: u64 = 16 << 20;

/// The program `name` of this workspace, from the build that the running test belongs to.
///
/// # Panics
/// If it has not been built.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let directory = test.parent().and_then(Path::parent).expect("tests are in TARGET/PROFILE/deps");
    let path = directory.join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --workspace --bins` first", path.display());
    path
}

/// What a program did.
#[derive(Debug, Clone)]
pub struct Run {
    /// The command line, for messages.
    pub command: String,
    /// All of its standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// All of its standard error; bytes that are not UTF-8 are replaced.
    pub stderr: String,
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
}

impl Run {
    /// Itself, if the program exited with `code`.
    ///
    /// # Panics
    /// With all that the program said, if it exited with another.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "exit code of: {}\n-- stdout\n{}\n-- stderr\n{}",
            self.command, self.stdout, self.stderr
        );
        self
    }

    /// Itself, if the program exited with 0.
    ///
    /// # Panics
    /// As [`Run::expect_code`].
    #[track_caller]
    pub fn ok(self) -> Self {
        self.expect_code(0)
    }

    /// Its standard output as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in the output of {}: {}", self.command, self.stdout))
    }
}

/// Runs `command` to its end with `input` as its standard input.
///
/// # Panics
/// If it cannot be started, or has not ended after two minutes (then it is killed).
pub fn run(command: &mut Command, input: &[u8]) -> Run {
    let line = command_line(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {line}: {error}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let stdout = collect(child.stdout.take().expect("stdout is piped"));
    let stderr = collect(child.stderr.take().expect("stderr is piped"));
    let input = input.to_vec();
    // A thread of its own: a program that writes before it has read everything must not block us both. One that ends
    // without reading its input is free to.
    let writer = thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let Some(code) = wait_at_most(&mut child, RUN_LIMIT) else {
        kill(&mut child);
        panic!("still running after {RUN_LIMIT:?}: {line}");
    };
    let _ = writer.join();
    let text = |thread: JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&thread.join().expect("reading a pipe does not panic")).into_owned()
    };
    Run { command: line, stdout: text(stdout), stderr: text(stderr), code }
}

/// The command line `plimsoll` with a home of its own.
#[derive(Debug, Clone)]
pub struct Cli {
    home: PathBuf,
    variables: Vec<(String, String)>,
    arguments: Vec<String>,
    under: Vec<String>,
}

impl Cli {
    /// The command line with `home` as its home directory (`HOME` and `PLIMSOLL_HOME`), and none of this process's
    /// `PLIMSOLL_*`, `DOCKER_CONFIG` and `XDG_*` variables.
    pub fn new(home: &Path) -> Self {
        Self { home: home.to_owned(), variables: Vec::new(), arguments: Vec::new(), under: Vec::new() }
    }

    /// Its home directory.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Itself, with an environment variable more.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Itself, with an argument before those of each [`Cli::run`]: a global flag, or its value.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Itself, with each [`Cli::run`] under another program, which gets the command line as its last arguments: `strace`,
    /// `faketime`. The first one named is the innermost.
    #[must_use]
    pub fn under<A: AsRef<str>>(mut self, words: &[A]) -> Self {
        self.under.splice(..0, words.iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Runs `plimsoll` with `arguments`, in the home directory.
    ///
    /// # Panics
    /// As [`run`].
    pub fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Run {
        let program = binary("plimsoll");
        let mut command = match self.under.split_first() {
            Some((outer, words)) => {
                let mut command = Command::new(outer);
                command.args(words).arg(program);
                command
            }
            None => Command::new(program),
        };
        own_environment(&mut command, &self.home);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        run(command.args(&self.arguments).args(arguments), b"")
    }

    /// Runs `line` as a person would who pasted it into a shell in the home directory; `plimsoll` is on the path.
    ///
    /// # Panics
    /// As [`run`].
    pub fn shell(&self, line: &str) -> Run {
        let programs = binary("plimsoll").parent().map(Path::to_owned).expect("a program is in a directory");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(programs).chain(std::env::split_paths(&path));
        let mut command = Command::new("sh");
        own_environment(&mut command, &self.home);
        command.env("PATH", std::env::join_paths(path).expect("a path that was split can be joined"));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        run(command.args(["-c", line]), b"")
    }
}

/// A running `plimsolld`.
#[derive(Debug)]
pub struct Daemon {
    service: Service,
    address: SocketAddr,
}

impl Daemon {
    /// Writes `config` to `plimsolld.toml` in `home` and runs `plimsolld serve --config FILE` until `/readyz` says
    /// 200. The configuration should listen on `127.0.0.1:0`.
    ///
    /// # Panics
    /// With all that the daemon said, if it is not ready within 30 s.
    pub fn start(home: &Path, config: &str) -> Self {
        let file = home.join("plimsolld.toml");
        fs::write(&file, config).expect("the daemon's home can be written");
        let daemon = Self::spawn(home, &[OsStr::new("serve"), OsStr::new("--config"), file.as_os_str()]);
        daemon.wait_ready();
        daemon
    }

    /// Runs `plimsolld` with `arguments` in `home` until it says where it is listening: a line of its output with the
    /// word `listening` followed by `127.0.0.1:PORT`.
    ///
    /// # Panics
    /// With all that the daemon said, if it does not within 30 s.
    pub fn spawn<A: AsRef<OsStr>>(home: &Path, arguments: &[A]) -> Self {
        let mut command = Command::new(binary("plimsolld"));
        own_environment(&mut command, home);
        command.args(arguments);
        let service = Service::start(&mut command);
        let address = service.wait_listening();
        Self { service, address }
    }

    /// Waits until `/readyz` says 200.
    ///
    /// # Panics
    /// If it does not within 30 s.
    pub fn wait_ready(&self) {
        let url = format!("{}/readyz", self.url());
        wait_until(&url, |status| status == 200, || self.output());
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Its base URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.service.child.id()
    }

    /// All it has said so far.
    pub fn output(&self) -> String {
        self.service.output()
    }

    /// Waits for a line of its output that contains `text`, and returns it.
    ///
    /// # Panics
    /// If there is none within 30 s.
    pub fn wait_for_line(&self, text: &str) -> String {
        self.service.wait_for(|line| line.contains(text).then(|| line.to_owned()))
    }

    /// Tells it to end (SIGTERM) and returns its exit code, -1 if it had to be killed.
    pub fn terminate(mut self) -> i32 {
        self.service.terminate()
    }

    /// Ends it without warning (SIGKILL).
    pub fn kill(mut self) {
        kill(&mut self.service.child);
    }
}

/// A server in a process of its own; ended by its own pid when dropped.
#[derive(Debug)]
pub struct Service {
    child: Child,
    command: String,
    lines: Arc<Lines>,
}

/// What a server has said, on both streams.
#[derive(Debug, Default)]
struct Lines {
    state: Mutex<LinesState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct LinesState {
    lines: Vec<String>,
    streams_ended: usize,
}

impl Service {
    /// Starts `command` with nothing on its standard input.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let line = command_line(command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {line}: {error}"));
        let lines = Arc::new(Lines::default());
        lines.follow(child.stdout.take().expect("stdout is piped"));
        lines.follow(child.stderr.take().expect("stderr is piped"));
        Self { child, command: line, lines }
    }

    /// All it has said so far, both streams.
    pub fn output(&self) -> String {
        self.lines.state.lock().expect("no holder of this lock panics").lines.join("\n")
    }

    /// Waits for a line of its output that `wanted` makes something of.
    ///
    /// # Panics
    /// With all that it said, if there is none within 30 s, or it ends before.
    pub fn wait_for<T>(&self, wanted: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + START_LIMIT;
        let mut state = self.lines.state.lock().expect("no holder of this lock panics");
        let mut seen = 0;
        loop {
            if let Some(found) = state.lines[seen..].iter().find_map(|line| wanted(line)) {
                return found;
            }
            seen = state.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.streams_ended == 2 {
                let why = if left.is_zero() { "too late" } else { "ended" };
                let said = state.lines.join("\n");
                drop(state);
                panic!("{why}: {}\n-- it said\n{said}", self.command);
            }
            state = self.lines.changed.wait_timeout(state, left).expect("no holder of this lock panics").0;
        }
    }

    /// Waits for a line with `listening` and then `127.0.0.1:PORT`, and returns that address.
    ///
    /// # Panics
    /// As [`Service::wait_for`].
    pub fn wait_listening(&self) -> SocketAddr {
        self.wait_for(listening_address)
    }

    /// Tells it to end (SIGTERM), kills it after 10 s, and returns its exit code, -1 if a signal ended it.
    pub fn terminate(&mut self) -> i32 {
        // The shell's own `kill`: no crate for one signal. The pid is ours until the child has been waited for.
        let pid = self.child.id().to_string();
        let _ = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).stderr(Stdio::null()).status();
        wait_at_most(&mut self.child, STOP_LIMIT).unwrap_or_else(|| {
            kill(&mut self.child);
            -1
        })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.terminate();
        }
    }
}

impl Lines {
    fn follow(self: &Arc<Self>, stream: impl Read + Send + 'static) {
        let this = Arc::clone(self);
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while let Ok(1..) = {
                line.clear();
                (&mut reader).take(MAX_OUTPUT).read_until(b'\n', &mut line)
            } {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                this.state.lock().expect("no holder of this lock panics").lines.push(text);
                this.changed.notify_all();
            }
            this.state.lock().expect("no holder of this lock panics").streams_ended += 1;
            this.changed.notify_all();
        });
    }
}

/// Asks for `url` until `wanted` likes the status.
///
/// # Panics
/// With `said()`, if it does not within 30 s.
pub(crate) fn wait_until(url: &str, wanted: impl Fn(u16) -> bool, said: impl Fn() -> String) {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        let answer = http::get(url);
        if answer.as_ref().is_ok_and(|response| wanted(response.status)) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{url} does not answer as it should: {answer:?}\n-- it said\n{}",
            said()
        );
        // Readiness is not an event we could wait for from outside.
        thread::sleep(Duration::from_millis(20));
    }
}

/// The loopback address that a server's line names after the word `listening`.
fn listening_address(line: &str) -> Option<SocketAddr> {
    let rest = &line[line.find("listening")?..];
    let rest = &rest[rest.find("127.0.0.1:")?..];
    let end = rest[10..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |length| 10 + length);
    rest[..end].parse().ok()
}

fn own_environment(command: &mut Command, home: &Path) {
    let foreign =
        |name: &str| name.starts_with("PLIMSOLL") || name.starts_with("XDG_") || name == "DOCKER_CONFIG";
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(foreign) {
            command.env_remove(name);
        }
    }
    command.current_dir(home).env("HOME", home).env("PLIMSOLL_HOME", home);
}

fn collect(stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.take(MAX_OUTPUT).read_to_end(&mut bytes);
        bytes
    })
}

/// The exit code of `child` (-1 for a signal) once it has ended, `None` if it has not within `limit`.
fn wait_at_most(child: &mut Child, limit: Duration) -> Option<i32> {
    let deadline = Instant::now() + limit;
    // The standard library has no wait with a limit; a poll of 2 ms is the simplest thing without a crate.
    loop {
        if let Some(status) = child.try_wait().expect("an own child can be waited for") {
            return Some(status.code().unwrap_or(-1));
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn kill(child: &mut Child) {
    // It may have ended by itself in the meantime.
    let _ = child.kill();
    let _ = child.wait();
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_lines_of_both_servers_are_understood() {
        let registry = r#"time="…" level=info msg="listening on 127.0.0.1:41234" go.version=go1.19"#;
        assert_eq!(listening_address(registry), "127.0.0.1:41234".parse().ok());
        let coloured = "INFO listening \u{1b}[3maddress\u{1b}[0m=127.0.0.1:80\u{1b}[0m";
        assert_eq!(listening_address(coloured), "127.0.0.1:80".parse().ok());
        assert_eq!(listening_address("pushing to 127.0.0.1:5000"), None);
        assert_eq!(listening_address("listening on [::1]:5000"), None);
    }

    #[test]
    fn a_run_has_both_streams_and_the_code() {
        let run = run(Command::new("sh").args(["-c", "cat; echo no >&2; exit 7"]), b"yes");
        assert_eq!((run.stdout.as_str(), run.stderr.as_str(), run.code), ("yes", "no\n", 7));
    }

    #[test]
    fn a_service_ends_when_told_and_has_an_exit_code() {
        let mut polite = Service::start(
            Command::new("sh").args(["-c", "trap 'exit 3' TERM; echo up; while :; do :; done"]),
        );
        polite.wait_for(|line| (line == "up").then_some(()));
        assert_eq!(polite.terminate(), 3);
    }
}
