//! One HTTP exchange: TLS roots, redirects, and bodies that are capped in bytes and time.

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
    header::{
        ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, LOCATION, RETRY_AFTER,
        TRANSFER_ENCODING, USER_AGENT,
    },
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, connect::HttpInfo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{
    Refusal, RegistryError, RegistryOptions,
    connect::{self, Both, HeadFault, HeadWatch, Inside, Network, Plain, Reach, Tls},
    site,
};

const MAX_REDIRECTS: usize = 5;
const MAX_CA_FILE: u64 = 1 << 20;
/// Before a request that was answered with 500 is sent once more.
const FAULT_PAUSE: Duration = Duration::from_millis(50);
const MAX_RETRY_AFTER: u64 = 24 * 60 * 60;

pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    /// The server that named `url`; none if the user did. A server outside sends nobody inside.
    pub(super) named_by: Option<Url>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Where the answer came from, after redirects.
    pub(super) url: Url,
    /// True if the server at the call's first URL is inside this machine or its network.
    pub(super) inside: bool,
    body: Incoming,
}

impl Response {
    /// Who is to be named as [`Request::named_by`] for what this answer leads to.
    pub(super) fn names(&self) -> Option<Url> {
        (!self.inside).then(|| self.url.clone())
    }
}

/// The connections of one [`Registry`](super::Registry).
pub(super) struct Transport {
    options: RegistryOptions,
    user_agent: HeaderValue,
    ca_file: Vec<CertificateDer<'static>>,
    network: Network,
    plain: Both<Plain>,
    /// Clients for each host with a CA of its own, and, under the empty name, for all others.
    tls: tokio::sync::Mutex<HashMap<String, Both<Tls>>>,
    requests: AtomicU64,
}

impl Transport {
    pub(super) fn new(options: RegistryOptions, network: Network) -> Result<Self, RegistryError> {
        let user_agent = HeaderValue::from_str(&options.user_agent).map_err(|_| RegistryError::Argument {
            text: options.user_agent.chars().take(200).collect(),
            what: "a user agent (visible ASCII)",
        })?;
        let ca_file = match &options.ca_file {
            Some(path) => read_certificates(path)?,
            None => Vec::new(),
        };
        let plain = connect::plain(&network, options.connect_time);
        let (tls, requests) = Default::default();
        Ok(Self { options, user_agent, ca_file, network, plain, tls, requests })
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
        let (mut url, mut named_by, mut inside) = (request.url.clone(), request.named_by.clone(), None);
        let refuse = |from: &Url, to: &Url, source| RegistryError::RedirectRefused {
            from: site::shown(from),
            to: site::shown(to),
            source,
        };
        for followed in 0.. {
            let mut response = self.send_once(request, &url, named_by.as_ref(), authorization).await?;
            response.inside = *inside.get_or_insert(response.inside);
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
                named_by = response.names();
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
        named_by: Option<&Url>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let reach = if named_by.is_some() { Reach::Outside } else { Reach::Anywhere };
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
            message.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            if let Some(authorization) = authorization {
                message.headers_mut().insert(AUTHORIZATION, authorization.clone());
            }
            let head = HeadWatch::new(&mut message);
            let sending = if url.scheme() == "https" {
                self.tls(url).await?.to(reach).request(message)
            } else {
                self.plain.to(reach).request(message)
            };
            self.requests.fetch_add(1, Ordering::Relaxed);
            let answer = tokio::select! {
                answer = sending => answer,
                fault = head.fault(self.options.rate_window) => return Err(self.head_fault(url, fault)),
            };
            match answer {
                // distribution 2.8 replaces a tag's file in place, and answers 500 to who reads it at that moment.
                Ok(response) if retry && response.status() == StatusCode::INTERNAL_SERVER_ERROR => {
                    retry = false;
                    tokio::time::sleep(FAULT_PAUSE).await;
                }
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    let peer = head.extensions.get::<HttpInfo>().map(HttpInfo::remote_addr);
                    return Ok(Response {
                        status: head.status,
                        headers: head.headers,
                        url: url.clone(),
                        inside: peer.is_some_and(|peer| (self.network.inside)(peer.ip())),
                        body,
                    });
                }
                Err(e) if retry && broke_off(&e) => retry = false,
                Err(e) => return Err(classify(named_by, url, e)),
            }
        }
    }

    fn head_fault(&self, url: &Url, fault: HeadFault) -> RegistryError {
        let (url, window) = (site::shown(url), self.options.rate_window);
        match fault {
            HeadFault::Slow => RegistryError::SlowHead { url, window },
            HeadFault::Interim => {
                RegistryError::Malformed { url, what: "one interim answer (1xx) after the other" }
            }
        }
    }

    /// The body of `response`, at most `cap` bytes of it, whatever its `Content-Length` says, and not slower than the
    /// minimum rate.
    pub(super) async fn read(&self, response: Response, cap: u64) -> Result<Bytes, RegistryError> {
        let url = site::shown(&response.url);
        if content_length(&response.headers).is_some_and(|length| length > cap) {
            return Err(RegistryError::TooLarge { url, cap });
        }
        match self.read_up_to(response, cap).await? {
            (_, true) => Err(RegistryError::TooLarge { url, cap }),
            (bytes, false) => Ok(bytes),
        }
    }

    /// As [`Transport::read`], but a longer body is read up to `cap` bytes; then the second value is true.
    pub(super) async fn read_up_to(
        &self,
        response: Response,
        cap: u64,
    ) -> Result<(Bytes, bool), RegistryError> {
        let mut bytes = BytesMut::new();
        let keep = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            true
        };
        let cut = self.read_each(response, cap, keep).await?;
        Ok((bytes.freeze(), cut))
    }

    /// As [`Transport::read_up_to`], but each piece is given to `take` as it comes, until that says no.
    pub(super) async fn read_each(
        &self,
        response: Response,
        cap: u64,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<bool, RegistryError> {
        let url = || site::shown(&response.url);
        let encoded = |name, plain| response.headers.get_all(name).iter().find(|e| *e != plain);
        let encoding = encoded(CONTENT_ENCODING, "identity");
        if let Some(encoding) = encoding.or_else(|| encoded(TRANSFER_ENCODING, "chunked")) {
            let got = String::from_utf8_lossy(encoding.as_bytes()).chars().take(200).collect();
            return Err(RegistryError::ContentEncoding { url: url(), got });
        }
        let mut body = response.body;
        let mut left = cap;
        let (window, least) = (self.options.rate_window, self.options.rate_bytes);
        let (mut ends, mut came) = (Instant::now() + window, 0);
        loop {
            match timeout_at(ends, body.frame()).await {
                Ok(None) => return Ok(false),
                Ok(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    if data.len() as u64 > left {
                        // The rest stays unread, so the connection is closed with the body.
                        take(&data[..usize::try_from(left).expect("less than what is in memory")]);
                        return Ok(true);
                    }
                    left -= data.len() as u64;
                    came += data.len() as u64;
                    if !take(&data) {
                        return Ok(true);
                    }
                }
                Ok(Some(Err(e))) => return Err(RegistryError::Interrupted { url: url(), source: e.into() }),
                Err(_) if came < least => {
                    return Err(RegistryError::TooSlow { url: url(), bytes: came, window });
                }
                Err(_) => (ends, came) = (Instant::now() + window, 0),
            }
        }
    }

    /// The clients whose roots are right for the host of `url`. The roots are read when they are first needed.
    async fn tls(&self, url: &Url) -> Result<Both<Tls>, RegistryError> {
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
        let client = connect::tls(&self.network, self.options.connect_time, &config);
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

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let fault = |source| RegistryError::CaFile { path: path.to_owned(), source };
    let invalid = |what: &'static str| fault(io::Error::new(io::ErrorKind::InvalidData, what));
    // Asked before opening, as opening a FIFO would wait for its writer.
    if !std::fs::metadata(path).map_err(fault)?.is_file() {
        return Err(invalid("it is not a file"));
    }
    let mut pem = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_CA_FILE + 1).read_to_end(&mut pem)).map_err(fault)?;
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

fn classify(named_by: Option<&Url>, url: &Url, error: legacy::Error) -> RegistryError {
    let host = site::authority(url);
    if let Some(from) = named_by.filter(|_| causes(&error).any(<dyn Error + 'static>::is::<Inside>)) {
        let (from, to) = (site::shown(from), site::shown(url));
        return RegistryError::RedirectRefused { from, to, source: Refusal::Internal };
    }
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
