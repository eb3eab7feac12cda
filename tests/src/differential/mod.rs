//! Generated TUF repositories, judged by our client, python-tuf's and tough: where they differ, we know why.
//!
//! A repository comes from a seed and a number ([`Differential::check`]). It has two generations, and most have one
//! mutation in one of them. A client meets them in turn, with the trusted state that it keeps: the first, the second,
//! and after a mutated second one what its owners publish then. Each stage is a folder of metadata files, so that
//! every client reads the same bytes. At each stage the clients say whether they accept, and what each name stands for.
//!
//! Every difference has to be one of [`classes`]: docs/divergences.md says why they are. The same seed makes the same
//! repositories, but for what randomises ECDSA and RSA-PSS signatures.

mod classes;
mod generate;
mod json;
mod keys;
mod mutate;
mod ours;
mod peer;
mod random;
mod repository;
mod tough;
mod verdict;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use tempfile::TempDir;

pub use classes::classes;
pub use tough::serve_tough;
pub use verdict::{Answer, Failure, Kind, Verdict};

use generate::{Generations, NOW, generate};
use keys::Pool;
use mutate::{Mutation, Sort};
use peer::{Peer, Request};
use random::Random;
use repository::{Files, Repository, write};

/// One of the other clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// python-tuf's `ngclient`.
    PythonTuf,
    /// tough.
    Tough,
}

impl Client {
    /// Its name in docs/divergences.md.
    pub fn name(self) -> &'static str {
        match self {
            Self::PythonTuf => "python-tuf",
            Self::Tough => "tough",
        }
    }
}

/// A generated repository with all that is known about it.
struct Case {
    seed: u64,
    index: u64,
    generations: [Repository; 3],
    features: BTreeSet<&'static str>,
    names: Vec<String>,
    mutation: Mutation,
    stages: Vec<Stage>,
    pinned: Vec<u8>,
    /// The generation that was mutated, as its owners made it.
    clean: Files,
}

/// What is served at one time.
struct Stage {
    generation: usize,
    mutated: bool,
    files: Files,
}

/// A difference between our client and another one.
struct Divergence<'a> {
    case: &'a Case,
    stage: usize,
    client: Client,
    /// The name that they differ about; none if it is the update.
    name: Option<&'a str>,
    ours: Option<Answer>,
    theirs: Option<Answer>,
}

/// What came of all repositories so far.
#[derive(Debug, Default)]
pub struct Tally {
    /// Repositories.
    pub repositories: u64,
    /// Updates that were compared, with each client.
    pub updates: u64,
    /// Of these, those that our client accepted.
    pub accepted: u64,
    /// Names that were compared, with each client.
    pub names: u64,
    /// Of these, those that our client found.
    pub found: u64,
    /// How many divergences each class explained, by client and name.
    pub explained: BTreeMap<(&'static str, &'static str), u64>,
    /// The words for each divergence that none did.
    pub unexplained: Vec<String>,
}

/// Clients ready to judge.
pub struct Differential {
    pool: Pool,
    python: Peer,
    tough: Peer,
    runtime: tokio::runtime::Runtime,
    work: TempDir,
    keep: PathBuf,
}

impl Differential {
    /// Starts the clients. `tough` is the program that ends in [`serve_tough`]; cases that nothing explains are kept in
    /// `keep`.
    ///
    /// # Panics
    /// If the virtual environment has not been made.
    pub fn new(tough: &Path, keep: &Path) -> Self {
        // Clients flush what they trust: in memory that costs nothing.
        let memory = Path::new("/dev/shm");
        let work = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        Self {
            pool: Pool::new(),
            python: Peer::python(),
            tough: Peer::tough(tough),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime starts"),
            work: work.expect("a temporary folder"),
            keep: keep.to_owned(),
        }
    }

    /// Makes repository `index` of `seed`, has all clients judge it, and adds what came of it to `tally`.
    ///
    /// # Panics
    /// If the files cannot be written, or a client answers nonsense.
    pub fn check(&mut self, seed: u64, index: u64, tally: &mut Tally) {
        let case = Case::make(seed, index, &self.pool);
        let folder = self.work.path().join(format!("{seed}-{index}"));
        case.write(&folder);
        let request = Request {
            folder: folder.clone(),
            stages: case.stages.len(),
            names: case.names.clone(),
            now: NOW.to_owned(),
        };
        self.python.ask(&request);
        self.tough.ask(&request);
        let now: DateTime<Utc> = NOW.parse().expect("a time");
        let ours: Vec<Verdict> = (0..case.stages.len())
            .map(|stage| ours::judge(&self.runtime, &folder, stage, &case.names, now))
            .collect();
        let python = self.python.answer(case.stages.len());
        let tough = self.tough.answer(case.stages.len());

        let before = tally.unexplained.len();
        tally.repositories += 1;
        case.check_honest(&ours, tally);
        case.compare(&ours, Client::PythonTuf, &python, tally);
        case.compare(&ours, Client::Tough, &tough, tally);
        if tally.unexplained.len() > before {
            let kept = self.keep.join(format!("{seed}-{index}"));
            let _ = std::fs::remove_dir_all(&kept);
            case.write(&kept);
            for words in &mut tally.unexplained[before..] {
                let _ = write!(words, "\n  kept in {}", kept.display());
            }
        }
        std::fs::remove_dir_all(&folder).expect("the case was written");
        self.pool.forget();
    }
}

impl Case {
    fn make(seed: u64, index: u64, pool: &Pool) -> Self {
        let mut random = Random::new(seed, index);
        let Generations { first, second, third, features, names } = generate(&mut random, pool);
        let all = [&first, &second, &third];
        let both = [&first, &second];
        let mutation = Mutation::choose(&mut random, both, pool);
        let honest = |generation: usize| Stage {
            generation,
            mutated: false,
            files: write(all[generation], &[], pool),
        };
        let mutated =
            || Stage { generation: mutation.generation, mutated: true, files: mutation.files(both, pool) };
        let stages = match (mutation.sort, mutation.generation) {
            (Sort::None, _) => vec![honest(0), honest(1)],
            (_, 0) => vec![mutated(), honest(1)],
            _ => vec![honest(0), mutated(), honest(2)],
        };
        // A later root than the first may be the one that is shipped; never one that was tampered with.
        let clean = write(&first, &[], pool);
        let version = if random.percent(80) { 1 } else { random.between(1, first.roots.len()) };
        let pinned = clean.bytes[&format!("{version}.root.json")].clone();
        let clean = write(both[mutation.generation], &[], pool);
        Self {
            seed,
            index,
            generations: [first, second, third],
            features,
            names,
            mutation,
            stages,
            pinned,
            clean,
        }
    }

    /// Writes the case as a folder.
    fn write(&self, folder: &Path) {
        let about = serde_json::json!({
            "seed": self.seed, "index": self.index, "mutation": self.mutation.what,
            "generation": self.mutation.generation, "features": self.features, "names": self.names, "now": NOW,
        });
        let put = |path: PathBuf, bytes: &[u8]| std::fs::write(path, bytes).expect("there is room");
        std::fs::create_dir_all(folder).expect("there is room");
        put(folder.join("case.json"), about.to_string().as_bytes());
        put(folder.join("root.json"), &self.pinned);
        for (number, stage) in self.stages.iter().enumerate() {
            let folder = folder.join(number.to_string());
            std::fs::create_dir_all(&folder).expect("there is room");
            for (name, bytes) in &stage.files.bytes {
                put(folder.join(name), bytes);
            }
        }
    }

    /// What nobody tampered with is accepted by our client, whatever the others say.
    fn check_honest(&self, ours: &[Verdict], tally: &mut Tally) {
        if self.mutation.sort != Sort::None {
            return;
        }
        for (stage, verdict) in ours.iter().enumerate() {
            if let Some(failure) = &verdict.refresh {
                tally
                    .unexplained
                    .push(format!("{self}\n  stage {stage}: ours refuses what is sound: {failure}"));
            }
        }
    }

    fn compare(&self, ours: &[Verdict], client: Client, theirs: &[Verdict], tally: &mut Tally) {
        for (stage, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            tally.updates += 1;
            tally.accepted += u64::from(ours.refresh.is_none());
            let difference =
                |name, ours, theirs| Divergence { case: self, stage, client, name, ours, theirs };
            let failed = |failure: &Option<Failure>| failure.clone().map(Answer::Failed);
            let (our_refresh, their_refresh) = (failed(&ours.refresh), failed(&theirs.refresh));
            let same = match (&our_refresh, &their_refresh) {
                (None, None) => true,
                (Some(ours), Some(theirs)) => ours.same(theirs),
                _ => false,
            };
            if !same {
                let accepted_differs = our_refresh.is_none() != their_refresh.is_none();
                difference(None, our_refresh, their_refresh).explain(tally);
                if accepted_differs {
                    // From here on the two trust different things: what they say next has another ground.
                    return;
                }
            }
            for (name, our_answer) in &ours.names {
                let Some(their_answer) = theirs.names.get(name) else { continue };
                tally.names += 1;
                tally.found += u64::from(matches!(our_answer, Answer::Found { .. }));
                if !our_answer.same(their_answer) {
                    difference(Some(name), Some(our_answer.clone()), Some(their_answer.clone()))
                        .explain(tally);
                }
            }
        }
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seed, index, mutation, features, .. } = self;
        write!(
            f,
            "seed {seed}, repository {index}, generation {}: {}; {features:?}",
            mutation.generation, mutation.what
        )
    }
}

impl Divergence<'_> {
    fn explain(&self, tally: &mut Tally) {
        match classes().find(|class| class.client() == self.client && class.explains(self)) {
            Some(class) => {
                *tally.explained.entry((class.client().name(), class.name())).or_default() += 1;
            }
            None => tally.unexplained.push(self.to_string()),
        }
    }
}

impl std::fmt::Display for Divergence<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = self.name.map_or("the update".to_owned(), |name| format!("`{name}`"));
        let say =
            |answer: &Option<Answer>| answer.as_ref().map_or("accepted".to_owned(), ToString::to_string);
        writeln!(f, "{}", self.case)?;
        writeln!(f, "  stage {}, {what}", self.stage)?;
        writeln!(f, "  ours:   {}", say(&self.ours))?;
        write!(f, "  {}: {}", self.client.name(), say(&self.theirs))
    }
}
