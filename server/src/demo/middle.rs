//! A registry in the middle: it forwards to the real one, or answers what an attacker wants.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header::HOST};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

/// Nothing larger passes through the demo.
const MAX_BODY: usize = 16 << 20;

/// An answer that was seen, or made up.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// The attacker's registry; ends when dropped.
pub(super) struct Middle {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

struct Shared {
    upstream: SocketAddr,
    client: Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>,
    /// The last answers to GET, by path.
    seen: Mutex<BTreeMap<String, Answer>>,
    /// What is answered instead of asking, by path.
    forged: Mutex<BTreeMap<String, Answer>>,
    /// Which forged answers were given.
    fooled: Mutex<BTreeSet<String>>,
}

impl Middle {
    /// Listens on a free loopback port in front of `upstream`.
    pub(super) async fn start(upstream: SocketAddr) -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let shared = Arc::new(Shared {
            upstream,
            client,
            seen: Mutex::default(),
            forged: Mutex::default(),
            fooled: Mutex::default(),
        });
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let task = tokio::spawn(async move {
            // It serves until the demo ends; an error would show in the verdicts.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, shared, task })
    }

    /// `HOST:PORT`.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// What the real registry last answered to GET `path`.
    pub(super) fn seen(&self, path: &str) -> Option<Answer> {
        lock(&self.shared.seen).get(path).cloned()
    }

    /// From now on answers GET and HEAD of `path` with `answer`.
    pub(super) fn forge(&self, path: &str, answer: Answer) {
        lock(&self.shared.forged).insert(path.to_owned(), answer);
    }

    /// True if somebody was given the forged answer for `path`.
    pub(super) fn fooled(&self, path: &str) -> bool {
        lock(&self.shared.fooled).contains(path)
    }

    /// Stops attacking.
    pub(super) fn honest(&self) {
        lock(&self.shared.forged).clear();
    }
}

impl Drop for Middle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if let Some(forged) = lock(&shared.forged).get(&path).filter(|_| reads).cloned() {
        lock(&shared.fooled).insert(path);
        return respond(StatusCode::OK, forged.headers, forged.body);
    }
    let get = request.method() == Method::GET;
    match forward(&shared, request).await {
        Ok((status, headers, body)) => {
            if get && status == StatusCode::OK {
                lock(&shared.seen).insert(path, Answer { headers: headers.clone(), body: body.clone() });
            }
            respond(status, headers, body)
        }
        Err(error) => respond(StatusCode::BAD_GATEWAY, HeaderMap::new(), Bytes::from(error.to_string())),
    }
}

async fn forward(
    shared: &Shared,
    request: Request,
) -> Result<(StatusCode, HeaderMap, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (head, body) = request.into_parts();
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let body = Limited::new(body, MAX_BODY).collect().await?.to_bytes();
    let mut onward = http::Request::new(Full::new(body));
    *onward.method_mut() = head.method;
    *onward.uri_mut() = format!("http://{}{target}", shared.upstream).parse()?;
    *onward.headers_mut() = head.headers;
    onward.headers_mut().remove(HOST);
    let (head, body) = shared.client.request(onward).await?.into_parts();
    Ok((head.status, head.headers, Limited::new(body, MAX_BODY).collect().await?.to_bytes()))
}

fn respond(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
