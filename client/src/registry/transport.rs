//! One HTTP exchange: connections, TLS roots, redirects, and bodies that are capped in bytes and time.

use std::{
    collections::HashMap,
    error::Error,
    fs::File,
    io::{self, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, LOCATION, RETRY_AFTER, USER_AGENT},
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{Refusal, RegistryError, RegistryOptions, site};

const MAX_REDIRECTS: usize = 5;
/// Status line and headers of an answer, in bytes.
const MAX_HEAD: usize = 64 << 10;
const MAX_CA_FILE: u64 = 1 << 20;
/// For one of a host's addresses; the call's deadline holds besides.
const CONNECT_TIME: Duration = Duration::from_secs(10);
const IDLE_TIME: Duration = Duration::from_secs(30);
/// Before a request that was answered with 500 is sent once more.
const FAULT_PAUSE: Duration = Duration::from_millis(50);
const MAX_RETRY_AFTER: u64 = 24 * 60 * 60;

pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Where the answer came from, after redirects.
    pub(super) url: Url,
    body: Incoming,
}

type Plain = Client<HttpConnector, Full<Bytes>>;
type Tls = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The connections of one [`Registry`](super::Registry).
pub(super) struct Transport {
    options: RegistryOptions,
    user_agent: HeaderValue,
    ca_file: Vec<CertificateDer<'static>>,
    plain: Plain,
    /// One client for each host with a CA of its own, and one, under the empty name, for all others.
    tls: tokio::sync::Mutex<HashMap<String, Tls>>,
    requests: AtomicU64,
}

impl Transport {
    pub(super) fn new(options: RegistryOptions) -> Result<Self, RegistryError> {
        let user_agent = HeaderValue::from_str(&options.user_agent).map_err(|_| RegistryError::Argument {
            text: options.user_agent.chars().take(200).collect(),
            what: "a user agent (visible ASCII)",
        })?;
        let ca_file = match &options.ca_file {
            Some(path) => read_certificates(path)?,
            None => Vec::new(),
        };
        let plain = builder().build(connector());
        Ok(Self { options, user_agent, ca_file, plain, tls: Default::default(), requests: AtomicU64::new(0) })
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn plain_http(&self) -> bool {
        self.options.plain_http
    }

    /// True if a CA is configured for whoever is at `url`: then it speaks TLS, even on loopback.
    pub(super) fn has_ca(&self, url: &Url) -> bool {
        !self.ca_file.is_empty() || self.host_ca(url).is_some()
    }

    /// Sends `request` and follows redirects of GET and HEAD. `authorization` goes to the first origin only.
    pub(super) async fn send(
        &self,
        request: &Request,
        mut authorization: Option<&HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let mut url = request.url.clone();
        let refuse = |from: &Url, to: &Url, source| RegistryError::RedirectRefused {
            from: site::shown(from),
            to: site::shown(to),
            source,
        };
        for followed in 0.. {
            let response = self.send_once(request, &url, authorization).await?;
            if !matches!(response.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let next = location(&response)?;
            if !matches!(request.method, Method::GET | Method::HEAD) {
                return Err(refuse(&url, &next, Refusal::Upload));
            }
            if followed == MAX_REDIRECTS {
                return Err(refuse(&url, &next, Refusal::TooMany));
            }
            site::check_hop(&request.url, &url, &next, self.options.plain_http)
                .map_err(|source| refuse(&url, &next, source))?;
            if !site::same_origin(&url, &next) {
                authorization = None;
            }
            url = next;
        }
        unreachable!("the loop ends by a return")
    }

    /// Sends `request` to `url` and follows nothing. A GET or HEAD whose connection breaks before the answer, or that is
    /// answered with 500, is sent once more.
    pub(super) async fn send_once(
        &self,
        request: &Request,
        url: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let uri: http::Uri = url
            .as_str()
            .parse()
            .map_err(|_| RegistryError::Malformed { url: site::shown(url), what: "an unusable URL" })?;
        let mut retry = matches!(request.method, Method::GET | Method::HEAD);
        loop {
            let mut message = http::Request::new(Full::new(request.body.clone()));
            *message.method_mut() = request.method.clone();
            *message.uri_mut() = uri.clone();
            *message.headers_mut() = request.headers.clone();
            message.headers_mut().insert(USER_AGENT, self.user_agent.clone());
            if let Some(authorization) = authorization {
                message.headers_mut().insert(AUTHORIZATION, authorization.clone());
            }
            let sending = if url.scheme() == "https" {
                self.tls(url).await?.request(message)
            } else {
                self.plain.request(message)
            };
            self.requests.fetch_add(1, Ordering::Relaxed);
            match sending.await {
                // distribution 2.8 replaces a tag's file in place, and answers 500 to who reads it at that moment.
                Ok(response) if retry && response.status() == StatusCode::INTERNAL_SERVER_ERROR => {
                    retry = false;
                    tokio::time::sleep(FAULT_PAUSE).await;
                }
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    return Ok(Response {
                        status: head.status,
                        headers: head.headers,
                        url: url.clone(),
                        body,
                    });
                }
                Err(e) if retry && broke_off(&e) => retry = false,
                Err(e) => return Err(classify(url, e)),
            }
        }
    }

    /// The body of `response`, at most `cap` bytes of it, whatever its `Content-Length` says, and not slower than the
    /// minimum rate.
    pub(super) async fn read(&self, response: Response, cap: u64) -> Result<Bytes, RegistryError> {
        let url = || site::shown(&response.url);
        if let Some(encoding) = response.headers.get(CONTENT_ENCODING).filter(|e| *e != "identity") {
            let got = String::from_utf8_lossy(encoding.as_bytes()).chars().take(200).collect();
            return Err(RegistryError::ContentEncoding { url: url(), got });
        }
        let too_large = || RegistryError::TooLarge { url: url(), cap };
        if content_length(&response.headers).is_some_and(|length| length > cap) {
            return Err(too_large());
        }
        let mut body = response.body;
        let mut bytes = BytesMut::new();
        let (window, least) = (self.options.rate_window, self.options.rate_bytes);
        let (mut ends, mut came) = (Instant::now() + window, 0);
        loop {
            match timeout_at(ends, body.frame()).await {
                Ok(None) => return Ok(bytes.freeze()),
                Ok(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if (bytes.len() + data.len()) as u64 > cap {
                        return Err(too_large());
                    }
                    came += data.len() as u64;
                    bytes.extend_from_slice(&data);
                }
                Ok(Some(Err(e))) => return Err(RegistryError::Interrupted { url: url(), source: e.into() }),
                Err(_) if came < least => {
                    return Err(RegistryError::TooSlow { url: url(), bytes: came, window });
                }
                Err(_) => (ends, came) = (Instant::now() + window, 0),
            }
        }
    }

    /// The client whose roots are right for the host of `url`. The roots are read when they are first needed.
    async fn tls(&self, url: &Url) -> Result<Tls, RegistryError> {
        let own = self.host_ca(url);
        let key = if own.is_some() { site::authority(url) } else { String::new() };
        let mut clients = self.tls.lock().await;
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let mut given = self.ca_file.clone();
        let roots = tokio::task::spawn_blocking(move || {
            if let Some(path) = own {
                given.extend(read_certificates(&path)?);
            }
            roots(given)
        })
        .await
        .map_err(|e| RegistryError::Connect { host: site::authority(url), source: io::Error::other(e) })??;
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the suites of TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_http1()
            .wrap_connector(connector());
        let client = builder().build(https);
        clients.insert(key, client.clone());
        Ok(client)
    }

    /// docker's place for the CA of one registry, `CERTS_DIR/HOST[:PORT]/ca.crt`, if it exists.
    fn host_ca(&self, url: &Url) -> Option<std::path::PathBuf> {
        let host = site::authority(url);
        if host.is_empty() || host.starts_with('.') || host.contains(['/', '\\']) {
            return None;
        }
        let path = self.options.certs_dir.join(host).join("ca.crt");
        path.exists().then_some(path)
    }
}

/// The error for an answer whose status is none of those the request expects.
pub(super) fn unexpected(response: &Response) -> RegistryError {
    let url = site::shown(&response.url);
    match response.status {
        StatusCode::UNAUTHORIZED => RegistryError::Unauthorized { host: site::authority(&response.url), url },
        StatusCode::FORBIDDEN => RegistryError::Forbidden { url },
        status => {
            let retry_after = response.headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
            let retry_after = retry_after.map(|s: u64| Duration::from_secs(s.min(MAX_RETRY_AFTER)));
            RegistryError::Status { url, status, retry_after }
        }
    }
}

/// Where the `Location` of `response` leads, relative to where the answer came from.
pub(super) fn location(response: &Response) -> Result<Url, RegistryError> {
    let value = response.headers.get(LOCATION).and_then(|value| value.to_str().ok());
    value.and_then(|value| response.url.join(value).ok()).ok_or_else(|| RegistryError::Malformed {
        url: site::shown(&response.url),
        what: "no usable Location",
    })
}

/// The announced length in bytes, if it is one number.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn builder() -> legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIME).http1_max_buf_size(MAX_HEAD);
    builder
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIME));
    connector
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let fault = |source| RegistryError::CaFile { path: path.to_owned(), source };
    let mut pem = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_CA_FILE + 1).read_to_end(&mut pem)).map_err(fault)?;
    let invalid = |what: &'static str| fault(io::Error::new(io::ErrorKind::InvalidData, what));
    if pem.len() as u64 > MAX_CA_FILE {
        return Err(invalid("it is larger than 1 MiB"));
    }
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| invalid("it is not PEM"))?;
    // Checked here, so that a key or a request in the file's place is not silently no root at all.
    let mut probe = RootCertStore::empty();
    if certificates.is_empty() || certificates.iter().any(|c| probe.add(c.clone()).is_err()) {
        return Err(invalid("it holds no PEM certificate, or a broken one"));
    }
    Ok(certificates)
}

/// The system's roots and those given.
fn roots(given: Vec<CertificateDer<'static>>) -> Result<RootCertStore, RegistryError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(given);
    // Systems keep a few that rustls does not read; what is left decides.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(RegistryError::NoRoots) } else { Ok(roots) }
}

/// Every error behind `error`; looks into `io::Error`, which hides what it wraps.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |e| {
        let e: &'a (dyn Error + 'static) = *e;
        match e.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => e.source(),
        }
    })
    .take(16)
}

/// True if the connection ended before anything of an answer came.
fn broke_off(error: &legacy::Error) -> bool {
    causes(error).any(|e| {
        let http = e.downcast_ref::<hyper::Error>();
        let system = e.downcast_ref::<io::Error>().map(io::Error::kind);
        http.is_some_and(|e| e.is_incomplete_message() || e.is_canceled() || e.is_closed())
            || matches!(system, Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe))
    })
}

fn classify(url: &Url, error: legacy::Error) -> RegistryError {
    let host = site::authority(url);
    if let Some(tls) = causes(&error).find_map(|e| e.downcast_ref::<rustls::Error>()) {
        return RegistryError::Tls { host, source: tls.clone() };
    }
    if !error.is_connect() {
        return RegistryError::Interrupted { url: site::shown(url), source: error.into() };
    }
    // The innermost system error is the one that says something.
    let system = causes(&error).filter_map(|e| e.downcast_ref::<io::Error>()).last();
    let source = match system {
        Some(e) => e
            .raw_os_error()
            .map_or_else(|| io::Error::new(e.kind(), e.to_string()), io::Error::from_raw_os_error),
        None => io::Error::other(error),
    };
    RegistryError::Connect { host, source }
}
