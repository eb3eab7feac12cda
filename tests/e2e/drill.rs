//! The story of `docs/publishing.md`, done by the people in it: each with a home of their own, the real programs, Debian's
//! registry with a token server, and users who have as few rights as they need.
//!
//! The page's blocks are those of `plimsoll_tests::transcript`, with `alice$ ` before what alice runs. All homes lie side
//! by side: `cp ../alice/first.draft .` is a USB stick. What the page does not show is the same for every command: those
//! that open a key get `--passphrase-file passphrase` instead of asking for it, and those that ask whether to go on get
//! `--yes`, as nobody sits at a terminal. A command must succeed, unless the page shows `echo $?` after it.
//!
//! A remark "> **Clients:** `acme/app:v1` VERIFIED, `acme/app:v2` ABSENT" says what clients must say at that point: a fresh
//! one, one that has looked every time, and one that slept since root version 1. python-tuf's client (a fresh one and one
//! that slept) and tough start from the same root and must agree with VERIFIED, ABSENT and REVOKED.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]
#![expect(clippy::print_stderr, reason = "whoever reads a failure wants the story up to there")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use plimsoll_core::oci::Digest;
use plimsoll_tests::{
    docker_registry::{Access, Registry},
    http, peers,
    process::{self, Cli, Daemon, Run},
    token_server::{TokenServer, User},
    tough_peer,
    transcript::{Part, Step, lines_match, parts},
    world::{files, log_in},
};
use serde_json::Value;
use tempfile::TempDir;

const PAGE: &str = "docs/publishing.md";
const NAME: &str = "acme";
const TRUST: &str = "acme/trust";
/// What the page calls the two servers.
const REGISTRY: &str = "registry.example.com";
const DAEMON: &str = "https://plimsolld.example.com";

/// Commands that ask before they do something.
const ASKING: [&str; 6] = [
    "ceremony sign",
    "ceremony finish",
    "delegate rotate",
    "delegate remove",
    "delegate take-over",
    "revoke --key-id",
];

#[test]
fn the_story_of_publishing_happens_as_it_is_told() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(PAGE)).unwrap();
    let parts = parts(&page);
    let mut drill = Drill::start(config(&page));
    let mut looks = 0;
    for (at, part) in parts.iter().enumerate() {
        match part {
            Part::Step(step) => {
                let code_shown = matches!(
                    parts.get(at + 1),
                    Some(Part::Step(next)) if next.who == step.who && next.command == "echo $?"
                );
                drill.step(step, code_shown);
            }
            Part::Remark { line, name, text } if name == "Clients" => {
                looks += 1;
                for expected in text.split(", ") {
                    let (target, verdict) = expected.split_once(' ').unwrap();
                    drill.look(*line, target.trim_matches('`'), verdict);
                }
            }
            Part::Remark { .. } => {}
        }
    }
    assert!(drill.wrong.is_empty(), "these print something else:\n{}", drill.wrong.join("\n"));
    assert!(looks >= 10, "the clients of {PAGE} look {looks} times");
}

/// Everybody in the story, and what they use.
struct Drill {
    folder: TempDir,
    daemon: Daemon,
    registry: Registry,
    _tokens: TokenServer,
    /// The exit code of what each of them ran last.
    codes: BTreeMap<String, i32>,
    /// What printed something else than the page says.
    wrong: Vec<String>,
}

impl Drill {
    /// The servers. The trust repository is not made yet.
    fn start(config: &str) -> Self {
        let tokens = TokenServer::start([
            ("keeper", {
                let keeper = User::new("keeper's").may(&["pull", "push"], TRUST);
                keeper.may(&["pull", "push", "delete"], &format!("{TRUST}/inbox"))
            }),
            ("builder", User::new("builder's").may(&["pull", "push"], "acme/net/*")),
            (
                "ci",
                User::new("ci's").may(&["pull"], "acme/*").may(&["pull", "push"], &format!("{TRUST}/inbox")),
            ),
            ("reader", User::new("reader's").may(&["pull"], "acme/*")),
        ]);
        let registry = Registry::start(Access::Token(&tokens));
        let folder = tempfile::tempdir().unwrap();
        let operator = folder.path().join("operator");
        fs::create_dir_all(operator.join(".docker")).unwrap();
        log_in(&operator, &registry.address(), "keeper", "keeper's");
        let config = format!("listen = \"127.0.0.1:0\"\n{config}").replace(REGISTRY, &registry.address());
        let daemon = Daemon::start(&operator, &config);
        Self { folder, daemon, registry, _tokens: tokens, codes: BTreeMap::new(), wrong: Vec::new() }
    }

    fn home(&self, who: &str) -> PathBuf {
        self.folder.path().join(who)
    }

    /// The machine of `who`, made if it is not there.
    fn machine(&self, who: &str) -> Cli {
        let home = self.home(who);
        if !home.join(".docker").exists() {
            fs::create_dir_all(home.join(".docker")).unwrap();
            fs::write(home.join("passphrase"), format!("{who} has a long passphrase\n")).unwrap();
            let user = match who {
                "builder" | "ci" => who,
                _ => "reader",
            };
            log_in(&home, &self.registry.address(), user, &format!("{user}'s"));
        }
        // What the page says is set.
        let hash = fs::read(self.root()).map_or_else(|_| String::new(), |root| Digest::of(&root).hex());
        let cli = Cli::new(&home).env("HASH", &hash).env("REGISTRY", &self.registry.address());
        match who {
            "operator" => cli.env("PLIMSOLLD_CONFIG", "plimsolld.toml"),
            "ci" => cli,
            _ => cli.env("PLIMSOLL_SERVER", &self.daemon.url()),
        }
    }

    fn with_addresses(&self, text: &str) -> String {
        text.replace(REGISTRY, &self.registry.address()).replace(DAEMON, &self.daemon.url())
    }

    fn step(&mut self, step: &Step, code_shown: bool) {
        let before = self.codes.get(&step.who).copied().unwrap_or_default();
        let line = format!("exec 2>&1; (exit {before}); {}", completed(&self.with_addresses(&step.command)));
        let run = self.machine(&step.who).shell(&line);
        let told = format!("{PAGE}:{}: {}$ {}", step.line, step.who, step.command);
        eprintln!("{told}\n{}", run.stdout.trim_end());
        self.codes.insert(step.who.clone(), run.code);
        assert!(run.code == 0 || code_shown, "{told}\nends with {}", run.code);
        let expected: Vec<String> = step.output.iter().map(|line| self.with_addresses(line)).collect();
        let found: Vec<&str> = run.stdout.lines().collect();
        if !expected.is_empty() && !lines_match(&expected, &found) {
            // The story goes on: who changes what is printed wants to know every place at once.
            eprintln!("-- it is said to print\n{}\n--", expected.join("\n"));
            self.wrong.push(told);
        }
    }

    /// What every client says of `target`, `REPOSITORY:TAG`.
    fn look(&self, line: usize, target: &str, verdict: &str) {
        let reference = format!("{}/{target}", self.registry.address());
        let told = |who: &str| format!("{PAGE}:{line}: {target} must be {verdict} for {who}");
        eprintln!("{}", told("everybody"));
        let said = |run: &Run| run.stdout.split_whitespace().next().unwrap_or_default().to_owned();

        let fresh = self.client("fresh");
        let slept = self.slept();
        for (who, client) in
            [("the warm one", &self.client("warm")), ("the one that slept", &slept), ("a fresh one", &fresh)]
        {
            let run = client.run(&["verify", &reference]);
            assert_eq!(said(&run), verdict, "{}: {}{}", told(who), run.stdout, run.stderr);
        }
        let digest = (verdict == "VERIFIED").then(|| {
            let resolved = fresh.run(&["resolve", &reference]).ok().stdout;
            let (_, digest) = resolved.trim().split_once("@sha256:").unwrap();
            digest.to_owned()
        });
        fs::remove_dir_all(fresh.home()).unwrap();
        fs::remove_dir_all(slept.home()).unwrap();
        if !["VERIFIED", "ABSENT", "REVOKED"].contains(&verdict) {
            return;
        }
        for who in ["a fresh python-tuf", "a python-tuf that slept"] {
            let found = self.python(target, who.ends_with("slept"));
            let found = found["target"]["sha256"].as_str().map(str::to_owned);
            assert_eq!(found, digest, "{}", told(who));
        }
        let dump = self.dump();
        let loaded = tough_peer::load(&fs::read(self.root()).unwrap(), dump.path()).unwrap();
        assert_eq!(loaded.found.get(target).map(|(_, sha256)| sha256), digest.as_ref(), "{}", told("tough"));
    }

    /// Root version 1, as alice gave it to everybody.
    fn root(&self) -> PathBuf {
        self.home("alice").join("acme-root.json")
    }

    /// A client's machine that pins root version 1.
    fn client(&self, who: &str) -> Cli {
        let client = self.machine(who);
        if !client.home().join("policy.toml").exists() {
            let root = self.root();
            let sha256 = Digest::of(&fs::read(&root).unwrap()).hex();
            let repository = format!("{}/{TRUST}", self.registry.address());
            let root = root.to_str().unwrap();
            let arguments =
                ["trust", "add", NAME, "--root", root, "--sha256", &sha256, "--repository", &repository];
            client.run(&arguments).ok();
        }
        client
    }

    /// A copy of a client that has looked once, when root version 1 was the only one.
    fn slept(&self) -> Cli {
        let sleeper = self.home("sleeper");
        if !sleeper.exists() {
            let client = self.client("sleeper");
            client.run(&["trust", "show", NAME]).ok();
            client.run(&["status"]).ok();
            assert_eq!(self.roots().len(), 1, "it falls asleep at root version 1");
            assert!(!files(&client.home().join("state")).is_empty());
        }
        let copy = self.home("slept");
        process::run(Command::new("cp").arg("-a").arg(sleeper).arg(&copy), b"").ok();
        self.machine("slept")
    }

    /// What python-tuf's client finds, starting from root version 1: with nothing else, or with what it had then.
    fn python(&self, target: &str, slept: bool) -> Value {
        let metadata = format!("{}/tuf/{NAME}/metadata/", self.daemon.url());
        let targets = format!("{}/targets/", self.daemon.url());
        let root = self.root();
        let run = |target: &str, kept: Option<&Path>| {
            let kept = kept.map(|path| path.to_str().unwrap());
            let arguments: Vec<&str> =
                [&metadata, &targets, root.to_str().unwrap(), target].into_iter().chain(kept).collect();
            peers::run("ngclient.py", &arguments, b"").ok().json()
        };
        if !slept {
            return run(target, None);
        }
        let sleeper = self.home("sleeper/python-tuf");
        if !sleeper.exists() {
            fs::create_dir(&sleeper).unwrap();
            assert_eq!(
                run("acme/unknown:v1", Some(&sleeper))["root"],
                1,
                "it falls asleep at root version 1"
            );
        }
        let copy = tempfile::tempdir().unwrap();
        process::run(Command::new("cp").arg("-a").arg(sleeper.join(".")).arg(copy.path()), b"").ok();
        run(target, Some(copy.path()))
    }

    /// The versions of the root that the daemon serves, oldest first.
    fn roots(&self) -> Vec<Vec<u8>> {
        (1..100).map_while(|version| self.metadata(&format!("{version}.root.json"))).collect()
    }

    fn metadata(&self, file: &str) -> Option<Vec<u8>> {
        let answer = http::get(&format!("{}/tuf/{NAME}/metadata/{file}", self.daemon.url())).unwrap();
        (answer.status == 200).then_some(answer.body)
    }

    /// All that a stock client could ask for, in a folder.
    fn dump(&self) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        let keep = |file: &str, bytes: &[u8]| {
            fs::write(directory.path().join(file), bytes).unwrap();
            serde_json::from_slice::<Value>(bytes).unwrap()
        };
        for (at, root) in self.roots().iter().enumerate() {
            keep(&format!("{}.root.json", at + 1), root);
        }
        let timestamp = keep("timestamp.json", &self.metadata("timestamp.json").unwrap());
        let snapshot = format!("{}.snapshot.json", timestamp["signed"]["meta"]["snapshot.json"]["version"]);
        let snapshot = keep(&snapshot, &self.metadata(&snapshot).unwrap());
        for (file, meta) in snapshot["signed"]["meta"].as_object().unwrap() {
            let file = format!("{}.{file}", meta["version"]);
            keep(&file, &self.metadata(&file).unwrap());
        }
        directory
    }
}

/// The daemon's configuration, which the page shows.
fn config(page: &str) -> &str {
    let (_, rest) = page.split_once("```toml\n").unwrap();
    rest.split_once("```").unwrap().0
}

/// The command with what the page leaves out, before any redirection or second command.
fn completed(command: &str) -> String {
    if !command.starts_with("plimsoll ") {
        return command.to_owned();
    }
    let mut command = command.to_owned();
    if ["--key ", "key generate "].iter().any(|part| command.contains(part)) {
        command.push_str(" --passphrase-file passphrase");
    }
    if ASKING.iter().any(|words| command.starts_with(&format!("plimsoll {words}"))) {
        command.push_str(" --yes");
    }
    command
}
