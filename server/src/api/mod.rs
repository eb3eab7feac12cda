//! The daemon's HTTP face (docs/http-api.md): submissions, plain TUF files, health.
//!
//! What is submitted counts only by its signatures, and all that can be read is public. A token may be needed to submit at
//! all (`gate.rs`), so that strangers cannot keep the daemon busy. Every request is
//! bounded: its head in size and time, its body too, and how many are worked on at a time, in all and for each peer
//! (`peers.rs`).

mod body;
mod export;
mod failure;
mod files;
pub(crate) mod gate;
mod health;
mod operator;
mod peers;
pub(crate) mod serve;
mod submissions;
#[cfg(test)]
mod tests;
mod tuf;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use plimsoll::publish::api::{TrustInfo, Trusts};
use tokio::sync::{Semaphore, watch};

pub(crate) use self::submissions::read as read_submission;
use self::{failure::Failure, files::Files, gate::Gate, peers::Peers, serve::Routes};
use crate::{metrics::Settings, pipeline::Engine};

/// How many submissions are worked on at a time.
const SUBMISSIONS: usize = 32;
/// How many bodies are parsed and their signatures verified at a time: a parsed document takes many times the room of its
/// text. Of one peer it is one at a time, so that who sends nonsense waits for nobody but itself.
const PARSERS: usize = 2;
/// How many pages of exports are made at a time, each of some MiB.
const EXPORTS: usize = 1;
/// What bodies that are being received may hold together, KiB.
const BODIES_KIB: usize = 192 * 1024;

/// How far a daemon is on its way from start to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// All is served.
    Serving,
    /// No submission is taken and nobody is kept waiting; all else is served, so that the engines can finish.
    Draining,
    /// No connection is accepted, and those that are open end with their present request.
    Closing,
}

/// Returns when the phase is `at` or a later one, or the daemon is gone.
async fn reached(phase: &mut watch::Receiver<Phase>, at: Phase) {
    // An error says that it is gone.
    let _ = phase.wait_for(|phase| *phase >= at).await;
}

/// The routes of all trust repositories of a daemon. Clones share one state.
#[derive(Clone)]
pub(crate) struct Api {
    shared: Arc<Shared>,
}

struct Shared {
    /// By name; none until the engine has started. They come and go while the daemon runs.
    trusts: RwLock<BTreeMap<String, Option<Engine>>>,
    settings: Mutex<Settings>,
    gate: Gate,
    submissions: Semaphore,
    parsers: Semaphore,
    exports: Semaphore,
    files: Files,
    /// Room for bodies, KiB.
    bodies: Semaphore,
    peers: Peers,
    phase: watch::Receiver<Phase>,
}

impl Api {
    /// The routes for the trust repositories called `names`, of which none is there yet.
    pub(crate) fn new(
        names: impl IntoIterator<Item = String>,
        gate: Gate,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        let trusts: BTreeMap<_, _> = names.into_iter().map(|name| (name, None)).collect();
        let shared = Shared {
            trusts: trusts.into(),
            settings: Mutex::default(),
            gate,
            submissions: Semaphore::new(SUBMISSIONS),
            parsers: Semaphore::new(PARSERS),
            exports: Semaphore::new(EXPORTS),
            files: Files::default(),
            bodies: Semaphore::new(BODIES_KIB),
            peers: Peers::default(),
            phase,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Who may submit.
    pub(crate) fn gate(&self) -> &Gate {
        &self.shared.gate
    }

    /// What became of the configuration that was read last.
    pub(crate) fn settings(&self) -> Settings {
        *self.shared.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says it.
    pub(crate) fn note_settings(&self, settings: Settings) {
        *self.shared.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// From now on `engine` answers for `name`.
    pub(crate) fn serve(&self, name: &str, engine: Engine) {
        self.change(|trusts| trusts.insert(name.to_owned(), Some(engine)));
    }

    /// From now on `name` is starting. Returns the engine that it had.
    pub(crate) fn pause(&self, name: &str) -> Option<Engine> {
        self.change(|trusts| trusts.insert(name.to_owned(), None)).flatten()
    }

    /// From now on there is no trust repository `name`. Returns its engine.
    pub(crate) fn withdraw(&self, name: &str) -> Option<Engine> {
        self.change(|trusts| trusts.remove(name)).flatten()
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Option<Engine>>) -> T) -> T {
        // One insertion or removal: a panic leaves nothing half-done.
        change(&mut self.shared.trusts.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The trust repositories, by name, with the engines that have started.
    fn trusts(&self) -> Vec<(String, Option<Engine>)> {
        let trusts = self.shared.trusts.read().unwrap_or_else(PoisonError::into_inner);
        trusts.iter().map(|(name, engine)| (name.clone(), engine.clone())).collect()
    }

    /// The names of the trust repositories, with those that are starting.
    pub(crate) fn names(&self) -> Vec<String> {
        self.trusts().into_iter().map(|(name, _)| name).collect()
    }

    /// The engines that have started.
    pub(crate) fn engines(&self) -> Vec<Engine> {
        self.trusts().into_iter().filter_map(|(_, engine)| engine).collect()
    }

    /// The routes; the embedded registry's may be merged with them.
    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route("/", get(operator::front))
            .route("/trusts/{name}", get(operator::trust))
            .route("/metrics", get(operator::metrics))
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(health::readyz))
            .route("/v1/trusts", get(trusts))
            .route("/v1/trusts/{name}", get(trust))
            .route("/v1/trusts/{name}/export", get(export::page))
            .route("/v1/trusts/{name}/submissions", post(operator::counted))
            .route("/v1/trusts/{name}/submissions/{id}", get(submissions::progress))
            .route("/v1", any(no_such_route))
            .route("/v1/", any(no_such_route))
            .route("/v1/{*rest}", any(no_such_route))
            .route("/tuf/{name}/metadata/{file}", get(tuf::file))
            .method_not_allowed_fallback(not_allowed)
            .fallback(|| async {
                plain(StatusCode::NOT_FOUND, "nothing here; / says what there is\n".to_owned())
            })
            .with_state(self.clone())
    }

    /// `router`, with what needs no routing answered before it.
    pub(crate) fn before(&self, router: Router) -> Routes {
        Routes { router, files: Some(self.clone()) }
    }

    /// The engine of `name`.
    fn engine(&self, name: &str) -> Result<Engine, Failure> {
        let trusts = self.shared.trusts.read().unwrap_or_else(PoisonError::into_inner);
        let engine = trusts.get(name).ok_or_else(Failure::no_such_trust)?;
        engine.clone().ok_or_else(Failure::starting)
    }

    fn phase(&self) -> watch::Receiver<Phase> {
        self.shared.phase.clone()
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("trusts", &self.names()).finish_non_exhaustive()
    }
}

async fn trusts(State(api): State<Api>) -> Result<Json<Trusts>, Failure> {
    let mut list = Trusts { trusts: Vec::new(), starting: Vec::new() };
    for (name, engine) in api.trusts() {
        // Named, as who looks for it would conclude that it is not served; the others go on without it.
        let Some(engine) = engine else {
            list.starting.push(name);
            continue;
        };
        engine.reload_keys().await;
        list.trusts.push(engine.info());
    }
    if list.trusts.is_empty() && !list.starting.is_empty() {
        return Err(Failure::starting());
    }
    Ok(Json(list))
}

async fn trust(
    State(api): State<Api>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<TrustInfo>, Failure> {
    let Path(name) = name.map_err(|_| Failure::no_such_trust())?;
    let engine = api.engine(&name)?;
    engine.reload_keys().await;
    Ok(Json(engine.info()))
}

async fn no_such_route() -> Failure {
    Failure::not_found("no such route; docs/http-api.md lists them")
}

async fn not_allowed(uri: Uri) -> Response {
    if uri.path().starts_with("/v1/") {
        return Failure::method().into_response();
    }
    (StatusCode::METHOD_NOT_ALLOWED, "this method is not allowed here\n").into_response()
}

/// A text answer that no cache keeps.
fn plain(status: StatusCode, text: String) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], text).into_response()
}
