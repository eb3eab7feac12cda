//! The distribution API (OCI distribution spec 1.1) over hyper.
//!
//! A registry is not trusted: every answer is capped in bytes and time, only the expected status codes count, content
//! is hashed here, and credentials go to no one but the registry and the token server at its own site.

mod auth;
mod challenge;
mod connect;
mod credentials;
mod error;
mod http;
mod pull;
mod push;
mod site;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod transport;

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::http::{
    HeaderMap, Method, StatusCode,
    header::{AGE, DATE},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use plimsoll_core::oci::{Digest, RepositoryAddress, valid_tag};
use url::Url;

pub use credentials::{Credentials, Secret};
pub use error::{ConfigFault, HelperFault, ManifestFault, Refusal, RegistryError};
pub use pull::{NextTags, TagPage};
pub use push::{Removal, Upload};

use auth::{Access, Auth, Scope};
use connect::Network;
use transport::{Request, Response, Transport};

/// How to speak to registries.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// PEM file of CA certificates trusted besides the system's, for every host. Default: none.
    pub ca_file: Option<PathBuf>,
    /// Speak plain http to every registry, not just to loopback. Default: false.
    pub plain_http: bool,
    /// For one call as a whole: connections, token server, redirects and bodies. Default: 30 s.
    pub deadline: Duration,
    /// For one connection: look-up of the name, TCP and TLS. Default: 10 s.
    pub connect_time: Duration,
    /// Default: [`Credentials::docker`].
    pub credentials: Credentials,
    /// Default: `plimsoll/` and the version.
    pub user_agent: String,
    /// Where `HOST[:PORT]/ca.crt` holds the CA of one host. Default: docker's, `/etc/docker/certs.d`.
    pub certs_dir: PathBuf,
    /// A body that brings fewer bytes than this within [`rate_window`](Self::rate_window) is given up. Default: 1024.
    pub rate_bytes: u64,
    /// Besides, the headers of an answer must be whole within this time from their first byte on. Default: 10 s.
    pub rate_window: Duration,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            ca_file: None,
            plain_http: false,
            deadline: Duration::from_secs(30),
            connect_time: Duration::from_secs(10),
            credentials: Credentials::docker(),
            user_agent: concat!("plimsoll/", env!("CARGO_PKG_VERSION")).to_owned(),
            certs_dir: "/etc/docker/certs.d".into(),
            rate_bytes: 1024,
            rate_window: Duration::from_secs(10),
        }
    }
}

/// A client for all registries. Cheap to clone; clones share connections and tokens, and may be used concurrently.
///
/// Hosts are spoken to over TLS, except loopback hosts without a configured CA and everything under
/// [`RegistryOptions::plain_http`]. No call retries for long: a GET or HEAD whose connection breaks, or that is answered
/// with 500, is sent once more, and all else is the caller's decision.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    transport: RwLock<Arc<Transport>>,
    /// Of transports before this one.
    requests: AtomicU64,
    auth: Auth,
    deadline: Duration,
    /// What the registry's clock showed with its last answer about a manifest.
    clock: Mutex<Option<DateTime<Utc>>>,
}

/// What the caller already has of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The `ETag` it came with, if any: then the request is conditional.
    pub etag: Option<String>,
    /// Its digest.
    pub digest: Digest,
}

/// The answer to a request for a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestAnswer {
    /// It is the one the caller knows: 304, or a 200 with the known digest.
    NotModified,
    /// 404 by the registry itself.
    NotFound,
    /// A manifest.
    Found(ManifestBytes),
}

/// A manifest as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestBytes {
    /// The bytes, verbatim.
    pub bytes: Bytes,
    /// sha256 of the bytes, computed here.
    pub digest: Digest,
    /// The `Content-Type` without parameters, lower case; one of the four manifest types.
    pub media_type: String,
    /// The `ETag`, if there was a usable one.
    pub etag: Option<String>,
}

impl Registry {
    /// A client with `options`. Reads the CA file if one is given; connects to nothing.
    ///
    /// # Errors
    /// [`RegistryError::CaFile`], [`RegistryError::Argument`] for the user agent.
    pub fn new(options: RegistryOptions) -> Result<Self, RegistryError> {
        Self::on(Network::default(), options)
    }

    fn on(network: Network, options: RegistryOptions) -> Result<Self, RegistryError> {
        let (auth, deadline) = (Auth::new(options.credentials.clone()), options.deadline);
        let transport = RwLock::new(Arc::new(Transport::new(options, network)?));
        let (requests, clock) = Default::default();
        Ok(Self { inner: Arc::new(Inner { transport, requests, auth, deadline, clock }) })
    }

    /// How many HTTP requests this client and its clones have sent, token servers and redirects included.
    pub fn requests(&self) -> u64 {
        self.inner.requests.load(Ordering::Relaxed) + self.inner.transport().requests()
    }

    /// Takes over from `other`, for itself and all its clones, how registries are reached: CAs, whether plain http is spoken,
    /// times and rates, but not the deadline. Credentials stay ([`Credentials::replace`]). Calls that are under way end as they
    /// began; those that follow open connections of their own, for which CA files are read again.
    pub fn replace(&self, other: &Self) {
        let new = other.inner.transport();
        let mut held = self.inner.transport.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *held, new);
        self.inner.requests.fetch_add(old.requests(), Ordering::Relaxed);
    }

    /// The `Date` of the last answer to [`Registry::manifest`], by this client and its clones: the registry's word, so good
    /// for a warning and for nothing else. None if it sent no usable one, or a cache answered.
    pub fn clock(&self) -> Option<DateTime<Utc>> {
        *self.inner.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_clock(&self, request: &Request, response: &Response) {
        let own = site::same_origin(&request.url, &response.url) && !response.headers.contains_key(AGE);
        let date = response.headers.get(DATE).filter(|_| own).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        *self.inner.clock.lock().unwrap_or_else(PoisonError::into_inner) = date.map(|date| date.to_utc());
    }

    /// Runs one call under the deadline.
    async fn bounded<T>(
        &self,
        repo: &RepositoryAddress,
        call: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let after = self.inner.deadline;
        tokio::time::timeout(after, call)
            .await
            .unwrap_or_else(|_| Err(RegistryError::Timeout { host: repo.host.clone(), after }))
    }

    /// Sends `request` with the credentials for `scope`, answering one 401 on the way. A 401 that remains is an error.
    async fn send(&self, scope: &Scope, request: &Request) -> Result<Response, RegistryError> {
        let (transport, auth) = (self.inner.transport(), &self.inner.auth);
        let header = auth.cached(scope);
        let response = transport.send(request, header.as_ref()).await?;
        if !challenged(request, &response) {
            return Ok(response);
        }
        let header = auth.login(&transport, scope, &response).await?;
        let response = transport.send(request, Some(&header)).await?;
        if challenged(request, &response) {
            return Err(auth.rejected(scope, &response.url).await);
        }
        Ok(response)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("requests", &self.requests()).finish_non_exhaustive()
    }
}

/// True if the registry itself asks for credentials; whoever it redirects to gets none, so is not answered.
fn challenged(request: &Request, response: &Response) -> bool {
    response.status == StatusCode::UNAUTHORIZED && site::same_origin(&request.url, &response.url)
}

/// True for a 404 by the registry itself. One by whoever it redirects to says nothing about the registry.
fn missing(request: &Request, response: &Response) -> bool {
    response.status == StatusCode::NOT_FOUND && site::same_origin(&request.url, &response.url)
}

fn scope(repo: &RepositoryAddress, access: Access) -> Scope {
    Scope { host: repo.host.clone(), repository: repo.name.clone(), access }
}

fn request(method: Method, url: Url) -> Request {
    Request { method, url, named_by: None, headers: HeaderMap::new(), body: Bytes::new() }
}

impl Inner {
    fn transport(&self) -> Arc<Transport> {
        self.transport.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `SCHEME://HOST/v2/NAME/TAIL`. The fields of an address are public, so they are checked again.
    fn endpoint(&self, repo: &RepositoryAddress, tail: &str) -> Result<Url, RegistryError> {
        let wrong = || RegistryError::Argument {
            text: repo.to_string().chars().take(200).collect(),
            what: "a repository on a registry",
        };
        if repo.to_string().parse().as_ref() != Ok(repo) {
            return Err(wrong());
        }
        let host = if repo.host == "docker.io" { "registry-1.docker.io" } else { &repo.host };
        let parse =
            |scheme| Url::parse(&format!("{scheme}://{host}/v2/{}/{tail}", repo.name)).map_err(|_| wrong());
        let url = parse("https")?;
        let transport = self.transport();
        let plain = transport.plain_http() || (site::is_loopback(&url) && !transport.has_ca(&url));
        if plain { parse("http") } else { Ok(url) }
    }
}

/// `reference` is put into a path, so it is checked first; `Some` if it is a digest.
fn check_reference(reference: &str) -> Result<Option<Digest>, RegistryError> {
    match reference.parse() {
        Ok(digest) => Ok(Some(digest)),
        Err(_) if valid_tag(reference) => Ok(None),
        Err(_) => Err(RegistryError::Argument {
            text: reference.chars().take(200).collect(),
            what: "a tag or a digest",
        }),
    }
}
