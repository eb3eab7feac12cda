//! Fail points: every call of the store and every request to the registry is a step, and a chosen one fails.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex},
};

use data_encoding::BASE64;
use plimsoll_core::{
    oci::{Digest, Manifest, mapping::FILENAME},
    tuf::{Document, Timestamp},
};
use plimsoll_server::store::StoreError;
use tokio::sync::watch;

use super::around::{Around, Call};

/// What a step that fails leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum When {
    /// Nothing.
    NotPersisted,
    /// What it was to do; only its answer is lost.
    Persisted,
}

/// What happens after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Then {
    /// Nothing works any more: the process is gone.
    Dies,
    /// Everything works again.
    GoesOn,
}

/// One way to fail.
#[derive(Debug, Clone)]
pub(crate) struct FailPoint {
    pub(crate) step: Step,
    /// Which of the steps of this name, from 0: they are not always in the same order.
    pub(crate) nth: usize,
    pub(crate) when: When,
    pub(crate) then: Then,
}

/// A step that was taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Step {
    pub(crate) name: String,
    /// It changes something.
    pub(crate) writes: bool,
}

/// What becomes of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Done,
    Fails(When),
}

/// The steps of one engine. Clones share one state.
#[derive(Clone)]
pub(crate) struct Steps {
    state: Arc<Mutex<State>>,
    /// The step that failed, once it did.
    failed: watch::Sender<Option<Step>>,
}

#[derive(Default)]
struct State {
    armed: Option<FailPoint>,
    log: Option<Vec<Step>>,
    dead: bool,
    /// Every version of every role that the registry ever took.
    published: BTreeMap<(String, u64), Digest>,
    two_contents: Vec<String>,
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps").field("failed", &*self.failed.borrow()).finish_non_exhaustive()
    }
}

impl Default for Steps {
    fn default() -> Self {
        Self { state: Arc::default(), failed: watch::Sender::new(None) }
    }
}

impl Steps {
    /// From now on counts, and fails at `point`, if there is one.
    pub(crate) fn arm(&self, point: Option<FailPoint>) {
        let mut state = self.state.lock().unwrap();
        state.armed = point;
        state.log = Some(Vec::new());
    }

    /// From now on everything works; returns the steps since it was armed.
    pub(crate) fn disarm(&self) -> Vec<Step> {
        let mut state = self.state.lock().unwrap();
        (state.armed, state.dead) = (None, false);
        state.log.take().unwrap_or_default()
    }

    /// The step that failed.
    pub(crate) fn failed(&self) -> Option<Step> {
        self.failed.borrow().clone()
    }

    /// Waits until a step failed.
    pub(crate) async fn until_failed(&self) {
        let mut failed = self.failed.subscribe();
        failed.wait_for(Option::is_some).await.expect("the sender is here");
    }

    /// Versions that the registry took with two contents.
    pub(crate) fn two_contents(&self) -> Vec<String> {
        self.state.lock().unwrap().two_contents.clone()
    }

    pub(crate) fn take(&self, name: impl Into<String>, writes: bool) -> Fate {
        let step = Step { name: name.into(), writes };
        let mut state = self.state.lock().unwrap();
        if state.dead {
            return Fate::Fails(When::NotPersisted);
        }
        let Some(log) = &mut state.log else { return Fate::Done };
        let nth = log.iter().filter(|before| **before == step).count();
        log.push(step.clone());
        let point = match &state.armed {
            Some(point) if point.step == step && point.nth == nth => point.clone(),
            _ => return Fate::Done,
        };
        state.armed = None;
        state.dead = point.then == Then::Dies;
        self.failed.send_replace(Some(step));
        Fate::Fails(point.when)
    }

    /// Notes what the manifest that the registry took under `tag` lists.
    pub(crate) fn took(&self, tag: &str, manifest: &[u8]) {
        let manifest = Manifest::parse(manifest).unwrap();
        let mut state = self.state.lock().unwrap();
        for layer in manifest.layers {
            let stem = layer.annotations[FILENAME].trim_end_matches(".json");
            let (role, version) = match stem.split_once('.') {
                Some((version, role)) => (role, version.parse().unwrap()),
                None => {
                    let timestamp = layer.data.expect("the timestamp is inline");
                    let timestamp = BASE64.decode(timestamp.as_bytes()).unwrap();
                    (stem, Document::<Timestamp>::parse(stem, &timestamp).unwrap().version())
                }
            };
            let first = *state.published.entry((role.to_owned(), version)).or_insert(layer.digest);
            if first != layer.digest {
                state.two_contents.push(format!("{role} version {version} under {tag}"));
            }
        }
    }
}

/// Each call of the store is a step.
impl Around for Steps {
    fn call<T>(
        &self,
        call: Call<'_>,
        go_on: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (name, writes) = match call {
            Call::Head => ("store: read the head", false),
            Call::Document => ("store: read a document", false),
            Call::Versions => ("store: read versions", false),
            Call::Submission => ("store: read a submission", false),
            Call::Submissions => ("store: read submissions", false),
            Call::Commit(..) => ("store: commit", true),
            Call::Record => ("store: record", true),
        };
        match self.take(name, writes) {
            Fate::Done => go_on(),
            Fate::Fails(When::Persisted) if writes => {
                go_on().and(Err(StoreError::Uncertain { source: injected() }))
            }
            Fate::Fails(_) => Err(StoreError::Unavailable { source: injected() }),
        }
    }
}

fn injected() -> io::Error {
    io::Error::other("a fault set by the test")
}
