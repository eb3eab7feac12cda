//! A place for the embedded registry among the daemon's routes: it may come and go while they are served.

use std::{
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::any,
};

use super::{Host, HostError, serve};

/// Routes to a registry, if there is one. Clones share one state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Berth {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Stays open once it was: requests may still be under way in it, and two on one folder would clean up after each other.
    host: OnceLock<Host>,
    served: AtomicBool,
}

impl Berth {
    /// From now on the registry in the folder `dir` is served. `dir` counts when this is first called. Blocking, as
    /// [`Host::open`]; not to be called twice at a time.
    ///
    /// # Errors
    /// [`HostError`]; nothing changes then.
    pub(crate) fn open(&self, dir: &Path) -> Result<(), HostError> {
        if self.shared.host.get().is_none() {
            let _ = self.shared.host.set(Host::open(dir)?);
        }
        self.shared.served.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// True if there is one.
    pub(crate) fn is_open(&self) -> bool {
        self.shared.served.load(Ordering::SeqCst)
    }

    /// From now on there is none. Requests that are under way end as they began.
    pub(crate) fn close(&self) {
        self.shared.served.store(false, Ordering::SeqCst);
    }

    /// The routes of [`Host::router`], with or without a registry behind them.
    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route("/v2", any(answer))
            .route("/v2/", any(answer))
            .route("/v2/{*rest}", any(answer))
            .with_state(self.clone())
    }
}

async fn answer(State(berth): State<Berth>, request: Request) -> Response {
    match berth.shared.host.get().filter(|_| berth.is_open()) {
        Some(host) => serve(State(host.clone()), request).await,
        None => (StatusCode::NOT_FOUND, "no registry here; / says what there is\n").into_response(),
    }
}
