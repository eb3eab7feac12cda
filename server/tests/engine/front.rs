//! The embedded registry on a loopback port, with a front that fails when told to.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use chrono::TimeDelta;
use http_body_util::BodyExt;
use plimsoll::clock::{Clock, ManualClock};
use plimsoll_server::host::Host;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use super::steps::{Fate, Steps, When};

/// The user agent of clients whose requests are no steps.
pub(crate) const LOOKER: &str = "a looker";

/// What happens to requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Every request is answered with this status.
    All(u16),
    /// Every PUT of `:latest` is answered with this status.
    PutLatest(u16),
    /// Every PUT of `:latest` is done, and its answer lost in a 500.
    PutLatestAnswerLost,
    /// One request in so many is answered with 500.
    OneIn(u64),
    /// Every request waits for a minute.
    Hang,
    /// Every PUT of `:latest` waits for a minute.
    HangLatest,
    /// Every request is answered with this status and this `Retry-After`, in seconds.
    RetryAfter(u16, u64),
    /// Of every PUT the first half gets there; the answer is 500.
    HalfPut,
    /// Every PUT of `:latest` is answered with 201, and nothing is done.
    PutLatestForgotten,
    /// The `Date` of every answer is so many seconds off.
    Date(i64),
}

#[derive(Clone)]
struct Shared {
    fault: Arc<Mutex<Option<Fault>>>,
    requests: Arc<AtomicU64>,
    latest: Arc<AtomicBool>,
    tried: Arc<AtomicBool>,
    steps: Steps,
    clock: Arc<ManualClock>,
}

/// A running registry. Ends when it is dropped.
pub(crate) struct Front {
    pub(crate) host: String,
    shared: Shared,
    _stop: oneshot::Sender<()>,
    _task: JoinHandle<()>,
    dir: tempfile::TempDir,
}

impl Front {
    /// With the time that `clock` shows.
    pub(crate) async fn start(clock: Arc<ManualClock>) -> Self {
        // In memory where that is to be had: each file is made durable, and nothing here is to survive.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let (fault, requests, latest, tried, steps) = Default::default();
        let shared = Shared { fault, requests, latest, tried, steps, clock };
        let router: Router = Host::open(dir.path())
            .unwrap()
            .router()
            .layer(middleware::from_fn_with_state(shared.clone(), through));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            tokio::select! {
                served = async { axum::serve(listener, router).await } => served.unwrap(),
                _ = stopped => {}
            }
        });
        Self { host, shared, _stop: stop, _task: task, dir }
    }

    pub(crate) fn fail(&self, fault: Option<Fault>) {
        *self.shared.fault.lock().unwrap() = fault;
    }

    /// Each request is a step of these.
    pub(crate) fn steps(&self) -> Steps {
        self.shared.steps.clone()
    }

    /// True once `:latest` was put.
    pub(crate) fn has_latest(&self) -> bool {
        self.shared.latest.load(Ordering::SeqCst)
    }

    /// True once somebody tried to put `:latest`.
    pub(crate) fn tried_latest(&self) -> bool {
        self.shared.tried.load(Ordering::SeqCst)
    }

    /// Removes all that is in it. Nobody may be writing.
    pub(crate) fn empty(&self) {
        for folder in ["blobs/sha256", "repositories"] {
            for entry in fs::read_dir(self.dir.path().join(folder)).unwrap() {
                fs::remove_dir_all(entry.unwrap().path()).unwrap();
            }
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

async fn through(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let number = shared.requests.fetch_add(1, Ordering::SeqCst) + 1;
    let fault = *shared.fault.lock().unwrap();
    let latest = request.method() == Method::PUT && request.uri().path().ends_with("/manifests/latest");
    let status = |code| StatusCode::from_u16(code).unwrap().into_response();
    if latest {
        shared.tried.store(true, Ordering::SeqCst);
    }
    match fault {
        Some(Fault::OneIn(n)) if number.is_multiple_of(n) => return status(500),
        Some(Fault::All(code)) => return status(code),
        Some(Fault::PutLatest(code)) if latest => return status(code),
        Some(Fault::PutLatestForgotten) if latest => return status(201),
        Some(Fault::RetryAfter(code, seconds)) => {
            let code = StatusCode::from_u16(code).unwrap();
            return (code, [("retry-after", seconds.to_string())]).into_response();
        }
        Some(Fault::HalfPut) if request.method() == Method::PUT => {
            let (mut parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let half = body.slice(..body.len() / 2);
            parts.headers.insert("content-length", half.len().into());
            let _ = next.run(Request::from_parts(parts, half.into())).await;
            return status(500);
        }
        Some(Fault::Hang) => tokio::time::sleep(Duration::from_secs(60)).await,
        Some(Fault::HangLatest) if latest => tokio::time::sleep(Duration::from_secs(60)).await,
        _ => {}
    }
    let method = request.method().clone();
    if request.headers().get(header::USER_AGENT).is_some_and(|agent| agent == LOOKER) {
        return next.run(request).await;
    }
    let fate = shared.steps.take(name(&method, request.uri().path()), !method.is_safe());
    // Not 500, which is tried again once within the same request.
    if fate == Fate::Fails(When::NotPersisted) {
        return status(503);
    }
    let mut response = stepped(&shared.steps, request, next).await;
    if fate == Fate::Fails(When::Persisted) {
        return status(503);
    }
    let off = if let Some(Fault::Date(seconds)) = fault { seconds } else { 0 };
    let date = shared.clock.now() + TimeDelta::seconds(off);
    let date = date.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    response.headers_mut().insert("date", date.parse().unwrap());
    if latest && response.status().is_success() {
        shared.latest.store(true, Ordering::SeqCst);
    }
    if latest && fault == Some(Fault::PutLatestAnswerLost) { status(500) } else { response }
}

/// What a request is for.
fn name(method: &Method, path: &str) -> String {
    let place = if path.contains("/inbox/") { "inbox" } else { "registry" };
    let what = match path.rsplit('/').next().unwrap_or_default() {
        _ if path.contains("/blobs/uploads/") => "upload",
        _ if path.contains("/blobs/") => "blob",
        "latest" => ":latest",
        _ if path.contains("/tags/") => "tags",
        _ if place == "inbox" => "manifest",
        _ => "manifest of a role",
    };
    format!("{place}: {method} {what}")
}

/// The registry's answer; what it took is noted.
async fn stepped(steps: &Steps, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let Some((_, tag)) = path.split_once("/trust/manifests/").filter(|_| request.method() == Method::PUT)
    else {
        return next.run(request).await;
    };
    let (head, body) = request.into_parts();
    let manifest = axum::body::to_bytes(body, 4 << 20).await.unwrap();
    let response = next.run(Request::from_parts(head, manifest.clone().into())).await;
    if response.status().is_success() {
        steps.took(tag, &manifest);
    }
    response
}
