//! What the tests about trusted state start from: a trust repository of which three moments are kept, so that a registry
//! in the middle can show any of them to any machine.

#![allow(dead_code, reason = "each test program uses its part")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use plimsoll_core::oci::Digest;
use plimsoll_tests::{
    http,
    middle::{Answer, Effect, Middle, Rule},
    process::{self, Cli, Run},
    world::{Site, World, files, state_folder},
};
use serde_json::Value;
use tempfile::TempDir;

const LATEST: &str = "/v2/acme/trust/manifests/latest";

/// A moment of the trust repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// `v1` was signed.
    First,
    /// The team signed once more.
    Second,
    /// Every role is newer: root, targets and the team's.
    Third,
}

use Moment::{First, Second, Third};

/// A trust repository with a past.
pub(crate) struct Past {
    pub(crate) world: World,
    moments: [Answer; 3],
}

impl Past {
    /// The one that the tests running at the time share. Whoever publishes to it changes no moment.
    pub(crate) fn shared() -> Arc<Self> {
        static PAST: Mutex<Weak<Past>> = Mutex::new(Weak::new());
        let mut past = PAST.lock().unwrap_or_else(PoisonError::into_inner);
        past.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Self::new());
            *past = Arc::downgrade(&new);
            new
        })
    }

    fn new() -> Self {
        let world = World::ready(Site::embedded());
        world.push("v1", "what is verified\n");
        world.sign("v1").ok();
        let first = latest(world.host());
        world.sign("v1").ok();
        let second = latest(world.host());
        world.renew_root();
        world.delegate("acme/third", "third", "team").ok();
        world.sign("v1").ok();
        let third = latest(world.host());
        Self { world, moments: [first, second, third] }
    }

    /// A machine that has pinned the first root, behind a registry of its own.
    pub(crate) fn machine(self: &Arc<Self>, name: &str) -> Machine {
        let middle = Middle::start(self.world.host());
        let cli = self.world.client_at(name, &middle.address());
        let reference = self.world.reference_at(&middle.address(), "v1");
        Machine { past: Arc::clone(self), middle: Arc::new(middle), cli, reference, _home: None }
    }

    /// The document `name` as the daemon serves it, `2.root`.
    pub(crate) fn document(&self, name: &str) -> Vec<u8> {
        let answer =
            http::get(&format!("{}/tuf/acme/metadata/{name}.json", self.world.daemon.url())).unwrap();
        assert_eq!(answer.status, 200, "{name}");
        answer.body
    }
}

/// What the registry at `host` shows now.
fn latest(host: &str) -> Answer {
    let accept = [("accept", "application/vnd.oci.image.manifest.v1+json")];
    let response = http::request("GET", &format!("http://{host}{LATEST}"), &accept, b"").unwrap();
    assert_eq!(response.status, 200);
    ["content-type", "docker-content-digest", "etag"].iter().fold(
        Answer::status(200).body(response.body.clone()),
        |answer, name| match response.header(name) {
            Some(value) => answer.header(name, value),
            None => answer,
        },
    )
}

/// A machine that verifies, and the registry it sees. Copies of it share the registry.
pub(crate) struct Machine {
    pub(crate) past: Arc<Past>,
    middle: Arc<Middle>,
    pub(crate) cli: Cli,
    pub(crate) reference: String,
    _home: Option<TempDir>,
}

impl Machine {
    /// From now on, its registry shows this.
    pub(crate) fn show(&self, moment: Moment) {
        self.middle.clear();
        let at = [First, Second, Third].iter().position(|known| *known == moment).unwrap();
        self.middle.set(Rule::new("GET HEAD", LATEST), Effect::Answer(self.past.moments[at].clone()));
    }

    pub(crate) fn registry(&self) -> String {
        self.middle.address()
    }

    /// Itself, having verified at `moment`.
    pub(crate) fn seen(self, moment: Moment) -> Self {
        self.show(moment);
        self.verify().ok();
        self
    }

    pub(crate) fn verify(&self) -> Run {
        self.verify_by(&self.cli)
    }

    /// With the command line under another program.
    pub(crate) fn verify_under<A: AsRef<str>>(&self, words: &[A]) -> Run {
        self.verify_by(&self.cli.clone().under(words))
    }

    pub(crate) fn verify_by(&self, cli: &Cli) -> Run {
        cli.run(&["verify", "-o", "json", &self.reference])
    }

    /// Verifies what `moment` shows: refused as rollback, nothing changed.
    #[track_caller]
    pub(crate) fn refuses(&self, moment: Moment, what: &str) {
        let before = self.state();
        self.show(moment);
        let run = self.verify();
        assert_eq!(run.code, 21, "{what}: {moment:?} is shown: {}{}", run.stdout, run.stderr);
        assert_eq!(self.state(), before, "{what}: {moment:?} was refused");
    }

    /// A copy of its home folder, to be spoilt.
    pub(crate) fn copy(&self) -> Self {
        let home = tempfile::tempdir().unwrap();
        copy(self.cli.home(), home.path());
        let cli = Cli::new(home.path());
        let (past, middle) = (Arc::clone(&self.past), Arc::clone(&self.middle));
        Self { past, middle, cli, reference: self.reference.clone(), _home: Some(home) }
    }

    /// The folder with its trusted state.
    pub(crate) fn folder(&self) -> PathBuf {
        state_folder(&self.cli)
    }

    /// Every file of its trusted state.
    pub(crate) fn state(&self) -> BTreeMap<PathBuf, (usize, Digest)> {
        files(&self.folder())
    }

    /// The names of the files of its trusted state, below its folder.
    pub(crate) fn names(&self) -> Vec<PathBuf> {
        let folder = self.folder();
        self.state().keys().map(|path| path.strip_prefix(&folder).unwrap().to_owned()).collect()
    }

    /// The versions it remembers, as `trust show` says them; null if nothing is remembered.
    #[track_caller]
    pub(crate) fn remembered(&self) -> Value {
        self.cli.run(&["trust", "show", "acme", "-o", "json"]).ok().json()["remembered"].take()
    }

    /// The cached documents, by name. What was left half-written is none.
    fn documents(&self) -> BTreeMap<PathBuf, Digest> {
        let folder = self.folder();
        let names = self.names().into_iter().filter(|name| !is_half_written(name));
        // The memory says when, too, and an older snapshot of its own stays until the next one comes.
        let names = names.filter(|name| name != Path::new("memory.json") && !name.starts_with("snapshots"));
        names.map(|name| (name.clone(), Digest::of(&fs::read(folder.join(name)).unwrap()))).collect()
    }
}

/// A machine that has seen [`Second`], and what becomes of its like when an update to [`Third`] is disturbed.
pub(crate) struct Update {
    pub(crate) machine: Machine,
    before: Value,
    after: Value,
    documents: BTreeMap<PathBuf, Digest>,
}

impl Update {
    /// One on a new machine of the shared world.
    pub(crate) fn new(name: &str) -> Self {
        let machine = Past::shared().machine(name).seen(Second);
        let third = machine.copy().seen(Third);
        let (before, after) = (machine.remembered(), third.remembered());
        assert_ne!(before, after);
        Self { machine, before, after, documents: third.documents() }
    }

    /// What is true of `machine`, a copy, after any run against [`Third`], `verified` if it said VERIFIED and could write:
    /// it remembers what it knew, and the next run goes on where that one ended, without anybody's help.
    #[track_caller]
    pub(crate) fn is_remembered(&self, machine: &Machine, verified: bool, what: &str) {
        let remembered = machine.remembered();
        for role in ["root", "timestamp", "snapshot"] {
            let [seen, low, high] =
                [&remembered, &self.before, &self.after].map(|memory| memory[role].as_u64().unwrap());
            assert!((low..=high).contains(&seen), "{what}: {role}: {seen} is not in {low}..={high}");
        }
        assert!(!verified || remembered == self.after, "{what}: it said VERIFIED and remembers {remembered}");
        if remembered["timestamp"] != self.before["timestamp"] {
            machine.refuses(Second, what);
        } else {
            machine.refuses(First, what);
            // A root of which only the record was written is missed; one that is held goes with what was signed before.
            let codes: &[i32] = if remembered == self.before { &[0] } else { &[0, 21] };
            machine.show(Second);
            let run = machine.verify();
            assert!(codes.contains(&run.code), "{what}: {remembered}: {}{}", run.stdout, run.stderr);
        }
        machine.show(Third);
        let run = machine.verify();
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{what}: the next run: {}", run.stdout);
        assert_eq!(machine.remembered(), self.after, "{what}: after the next run");
        // The same documents as on a machine that nothing ever happened to.
        assert_eq!(machine.documents(), self.documents, "{what}: after the next run");
    }
}

/// Copies what is in the folder `from` into the folder `to`, with modes and times.
pub(crate) fn copy(from: &Path, to: &Path) {
    process::run(Command::new("cp").arg("-a").arg(from.join(".")).arg(to), b"").ok();
}

/// A file that a process did not come to put in its place.
pub(crate) fn is_half_written(name: &Path) -> bool {
    name.extension().is_some_and(|extension| extension == "tmp")
}
