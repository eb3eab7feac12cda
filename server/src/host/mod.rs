//! A small OCI registry inside the daemon, for starting without one.
//!
//! OCI distribution 1.1: pull, push and tag listing, enough for the Plimsoll client, for skopeo (which the tests use) and for
//! buildah (1.28, tried by hand); no deletion, no referrers, no catalog. What it answered 201 for survives `kill -9` and loss of power, and a tag never names a
//! manifest that is not there. It asks nobody who they are: whoever reaches its address can read and push, so
//! it belongs on loopback (its content is not trusted by clients either, promise P5).
//!
//! Limits: manifests of 4 MiB, blobs of 8 GiB, 64 uploads at a time, an idle upload is dropped after an hour.

mod berth;
mod body;
mod disk;
mod error;
mod manifest;
mod pull;
mod push;
mod route;
#[cfg(test)]
mod tests;
mod uploads;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode},
    response::{IntoResponse, Response},
    routing::any,
};

pub(crate) use self::berth::Berth;
use self::{disk::Disk, error::Refusal, route::Route, uploads::Uploads};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The embedded registry. Clones share one state.
#[derive(Clone)]
pub struct Host {
    shared: Arc<Shared>,
}

struct Shared {
    disk: Disk,
    uploads: Uploads,
}

/// Why the registry could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The folder could not be made or read.
    #[error("cannot use {} for the embedded registry", path.display())]
    Open {
        /// The registry's folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("disk", &self.shared.disk).finish_non_exhaustive()
    }
}

impl Host {
    /// Opens the registry kept in the folder `dir`, making it (mode 0700) if it is not there.
    ///
    /// Does a little disk work, blocking. One process at a time: the daemon's store, beside it, holds the lock.
    ///
    /// # Errors
    /// [`HostError::Open`].
    pub fn open(dir: &Path) -> Result<Self, HostError> {
        let failed = |source| HostError::Open { path: dir.to_owned(), source };
        let disk = Disk::open(dir).map_err(failed)?;
        let uploads = Uploads::open(disk.temporary()).map_err(failed)?;
        Ok(Self { shared: Arc::new(Shared { disk, uploads }) })
    }

    /// The routes, `/v2/` and all below it; to be merged into a router, not nested under a path.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v2", any(serve))
            .route("/v2/", any(serve))
            .route("/v2/{*rest}", any(serve))
            .with_state(self.clone())
    }

    async fn answer(&self, request: Request) -> Result<Response, Refusal> {
        let (parts, body) = request.into_parts();
        let reads = parts.method == Method::GET || parts.method == Method::HEAD;
        match Route::parse(parts.uri.path())? {
            Route::Base if reads => Ok((StatusCode::OK, axum::Json(serde_json::json!({}))).into_response()),
            Route::Tags(repository) if reads => pull::tags(self, repository, &parts).await,
            Route::Manifest(repository, reference) if reads => {
                pull::manifest(self, repository, reference, &parts).await
            }
            Route::Blob(repository, digest) if reads => pull::blob(self, repository, digest, &parts).await,
            Route::Manifest(repository, reference) if parts.method == Method::PUT => {
                push::manifest(self, repository, reference, &parts, body).await
            }
            Route::Uploads(repository) if parts.method == Method::POST => {
                push::begin(self, repository, &parts, body).await
            }
            Route::Upload(repository, id) => match parts.method {
                Method::GET => push::status(self, &repository, &id).await,
                Method::PATCH => push::append(self, &repository, &id, &parts, body).await,
                Method::PUT => push::finish(self, repository, &id, &parts, body).await,
                Method::DELETE => push::cancel(self, &repository, &id),
                method => Err(Refusal::Unsupported(method)),
            },
            _ => Err(Refusal::Unsupported(parts.method)),
        }
    }
}

async fn serve(State(host): State<Host>, request: Request) -> Response {
    let mut response = host.answer(request).await.unwrap_or_else(IntoResponse::into_response);
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    response
}

impl Shared {
    /// Runs disk work on a thread that may block.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Disk) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let shared = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&shared.disk))
            .await
            .map_err(|e| Refusal::Io(io::Error::other(e)))?
    }
}
