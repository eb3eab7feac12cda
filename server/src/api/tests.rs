//! The routes over a real listener, with a daemon behind them.

use std::{
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::http::{HeaderMap, Request, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use plimsoll::{
    clock::SystemClock,
    keys::{Algorithm, PrivateKey, Signer},
    publish::{
        api::{Accepted, MAX_SUBMISSION, Progress, Refusal, RefusalCode, RefusalReason},
        author,
    },
};
use plimsoll_core::oci::Digest;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::Instant,
};

use super::{peers::Peer, serve::Times, *};
use crate::{
    config::{Config, Submit},
    daemon::Daemon,
};

const TRUST: &str = "00112233445566778899aabbccddeeff";

struct Setup {
    daemon: Daemon,
    client: Client<HttpConnector, Full<Bytes>>,
    _folder: TempDir,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Setup {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new(folder.path().join("data"));
        change(&mut config);
        config.listen = "127.0.0.1:0".parse().unwrap();
        let daemon = Daemon::start(config, Arc::new(SystemClock)).await.unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let setup = Self { daemon, client, _folder: folder };
        setup.until("/readyz", 200).await;
        setup
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request =
            Request::builder().method(method).uri(format!("http://{}{path}", self.daemon.address()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.client.request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.into_body().collect().await.unwrap().to_bytes() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    /// A connection from [`other_peer`]'s address that has sent a GET of `path`.
    async fn connect_as_other(&self, path: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
        let mut stream = socket.connect(self.daemon.address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn submit(&self, body: impl Into<Bytes>) -> Answer {
        self.ask("POST", "/v1/trusts/main/submissions", &[("content-type", "application/json")], body).await
    }

    /// Asks until the status is `status`, for 10 s.
    async fn until(&self, path: &str, status: u16) {
        for _ in 0..200 {
            if self.get(path).await.status == status {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{path} never answered {status}: {}", self.get(path).await.text());
    }

    /// A root and targets that the daemon takes.
    async fn first_documents(&self) -> String {
        self.first_documents_of(&PrivateKey::generate(Algorithm::Ed25519).unwrap()).await
    }

    async fn first_documents_of(&self, owner: &PrivateKey) -> String {
        let now = plimsoll::clock::Clock::now(&SystemClock);
        let online = self.get("/v1/trusts/main").await.json::<TrustInfo>().online;
        let id = TRUST;
        let scopes = ["acme/**".parse().unwrap()];
        let root = author::first_root(id, &scopes, &[owner.key().clone()], 1, &online, now);
        let root = author::sign(&root, &[owner]).unwrap();
        let targets = author::sign(&author::empty_targets("targets", id, now), &[owner]).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        format!("{{\"documents\":{{\"root\":{},\"targets\":{}}}}}", text(root), text(targets))
    }
}

impl Answer {
    fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn header(&self, name: header::HeaderName) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    fn refused(&self, status: u16, code: RefusalCode) {
        assert_eq!((self.status, self.json::<Refusal>().code), (status, code), "{}", self.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_under_v1_is_json_with_its_status() {
    let setup = Setup::start().await;
    let trusts = setup.get("/v1/trusts").await;
    assert_eq!((trusts.status, trusts.header(header::CONTENT_TYPE)), (200, "application/json"));
    let trusts: Trusts = trusts.json();
    assert_eq!(trusts.trusts, [setup.get("/v1/trusts/main").await.json::<TrustInfo>()]);

    for path in [
        "/v1",
        "/v1/",
        "/v1/x",
        "/v1/trusts/",
        "/v1/trusts/no",
        "/v1/trusts/%ff",
        "/v1/trusts/%2e%2e",
        "/v1/trusts/main/x",
        "/v1/trusts/no/submissions/ab",
        "/v1/trusts/main/submissions/ab",
        "/v1/trusts/main/submissions/..%2fx",
    ] {
        setup.get(path).await.refused(404, RefusalCode::NotFound);
    }
    for (method, path) in [
        ("POST", "/v1/trusts"),
        ("DELETE", "/v1/trusts/main"),
        ("GET", "/v1/trusts/main/submissions"),
        ("PUT", "/v1/trusts/main/submissions/ab"),
    ] {
        setup.ask(method, path, &[], "").await.refused(405, RefusalCode::Malformed);
    }
    for query in ["wait=x", "wait=-1", "wait=1.5", "wait=1&x=2", "wait=99999999999999999999"] {
        let path = format!("/v1/trusts/main/submissions/ab?{query}");
        setup.get(&path).await.refused(400, RefusalCode::Malformed);
    }
    setup.ask("POST", "/v1/trusts/no/submissions", &[], "{}").await.refused(404, RefusalCode::NotFound);
    for body in ["", "{}", "[1", r#"{"documents":{"root":{},"root":{}}}"#] {
        setup.submit(body).await.refused(400, RefusalCode::Malformed);
    }
    // Understood, and not a document.
    let refusal = setup.submit(r#"{"documents":{"root":{}}}"#).await;
    assert!((400..500).contains(&refusal.status), "{}", refusal.text());
    refusal.json::<Refusal>();
    setup.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_is_taken_and_its_files_are_served() {
    let setup = Setup::start().await;
    assert_eq!(setup.get("/tuf/main/metadata/timestamp.json").await.status, 404);
    let accepted = setup.submit(setup.first_documents().await).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    let accepted: Accepted = accepted.json();
    let progress = setup.get(&format!("/v1/trusts/main/submissions/{}?wait=20", accepted.id)).await;
    assert_eq!(progress.status, 200);
    assert_eq!(progress.json::<Accepted>().state, Progress::Published);

    let timestamp = setup.get("/tuf/main/metadata/timestamp.json").await;
    assert_eq!((timestamp.status, timestamp.header(header::CACHE_CONTROL)), (200, "no-cache"));
    let root = setup.get("/tuf/main/metadata/1.root.json").await;
    assert_eq!(root.status, 200);
    assert_eq!(root.header(header::CONTENT_TYPE), "application/json");
    assert_eq!(root.header(header::CACHE_CONTROL), "public, max-age=31536000, immutable");
    let etag = root.header(header::ETAG);
    assert_eq!(etag, format!("\"{}\"", Digest::of(&root.body).hex()));
    for known in [etag, "*", &format!("\"x\", W/{etag}")] {
        let same = setup.ask("GET", "/tuf/main/metadata/1.root.json", &[("if-none-match", known)], "").await;
        assert_eq!((same.status, same.body.len(), same.header(header::ETAG)), (304, 0, etag));
    }
    let other = setup.ask("GET", "/tuf/main/metadata/1.root.json", &[("if-none-match", "\"x\"")], "").await;
    assert_eq!(other.status, 200);
    let head = setup.ask("HEAD", "/tuf/main/metadata/1.root.json", &[], "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header(header::CONTENT_LENGTH), root.body.len().to_string());

    for none in
        ["2.root.json", "root.json", "01.root.json", "..%2f..%2fx", "%ff", "timestamp", &"a".repeat(400)]
    {
        let answer = setup.get(&format!("/tuf/main/metadata/{none}")).await;
        assert_eq!((answer.status, answer.header(header::CACHE_CONTROL)), (404, "no-store"), "{none}");
    }
    assert_eq!(setup.get("/tuf/no/metadata/timestamp.json").await.status, 404);
    assert_eq!(setup.get("/tuf/main/metadata/").await.status, 404);
    setup.daemon.stop().await;
}

/// What is held answers as what is read, and never instead of something newer.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_from_memory_is_the_file_that_was_read() {
    let setup = Setup::start().await;
    let owner = PrivateKey::generate(Algorithm::Ed25519).unwrap();
    assert_eq!(setup.submit(setup.first_documents_of(&owner).await).await.status, 202);
    let held = |path: &str| {
        let request = Request::get(format!("http://localhost{path}")).body(()).unwrap();
        tuf::held(&setup.daemon.api, &request).is_some()
    };
    let without_date = |mut answer: Answer| {
        answer.headers.remove(header::DATE);
        (answer.status, answer.headers, answer.body)
    };
    for (file, status) in
        [("1.root.json", 200), ("1.targets.json", 200), ("timestamp.json", 200), ("2.root.json", 404)]
    {
        let path = format!("/tuf/main/metadata/{file}");
        let headers = [("if-none-match", "\"x\"")];
        assert!(!held(&path), "{file}");
        let read = without_date(setup.ask("GET", &path, &headers, "").await);
        assert_eq!((read.0, held(&path)), (status, status == 200), "{file}");
        assert_eq!(without_date(setup.ask("GET", &path, &headers, "").await), read, "{file}");
        let mut head = without_date(setup.ask("HEAD", &path, &headers, "").await);
        assert!(std::mem::replace(&mut head.2, read.2.clone()).is_empty());
        assert_eq!(head, read, "{file}");
        assert_eq!(setup.ask("POST", &path, &[], "").await.status, 405);
        if status == 200 {
            let known = read.1[header::ETAG].to_str().unwrap();
            assert_eq!(setup.ask("GET", &path, &[("if-none-match", known)], "").await.status, 304);
        }
    }
    // Another spelling of the same is answered, and takes no room.
    assert_eq!(setup.get("/tuf/main/metadata/1.%72oot.json").await.status, 200);
    assert!(!held("/tuf/main/metadata/1.%72oot.json"));

    let before = setup.get("/tuf/main/metadata/timestamp.json").await;
    let now = plimsoll::clock::Clock::now(&SystemClock);
    let mut targets = author::empty_targets("targets", TRUST, now);
    targets.common.version = 2;
    let targets = String::from_utf8(author::sign(&targets, &[&owner]).unwrap()).unwrap();
    let accepted = setup.submit(format!("{{\"documents\":{{\"targets\":{targets}}}}}")).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text());
    // Who was told `accepted` is shown it.
    assert!(!held("/tuf/main/metadata/timestamp.json"));
    let version = |answer: &Answer| answer.json::<serde_json::Value>()["signed"]["version"].as_u64();
    let after = setup.get("/tuf/main/metadata/timestamp.json").await;
    assert_eq!((version(&before), version(&after)), (Some(1), Some(accepted.json::<Accepted>().timestamp)));
    assert_eq!(version(&after), Some(2));
    assert_ne!(before.header(header::ETAG), after.header(header::ETAG));
    setup.daemon.stop().await;
}

/// T40: with an honest length, and in chunks without one.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_limit_is_refused() {
    let setup = Setup::start().await;
    let long = Bytes::from(vec![b' '; usize::try_from(MAX_SUBMISSION).unwrap() + 1]);
    setup.submit(long).await.refused(413, RefusalCode::TooLarge);

    let mut stream = TcpStream::connect(setup.daemon.address()).await.unwrap();
    let head = "POST /v1/trusts/main/submissions HTTP/1.1\r\nhost: x\r\n";
    stream.write_all(format!("{head}content-length: 99999999999\r\n\r\n").as_bytes()).await.unwrap();
    assert!(first_line(&mut stream).await.starts_with("HTTP/1.1 413"));

    let mut stream = TcpStream::connect(setup.daemon.address()).await.unwrap();
    stream.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes()).await.unwrap();
    let chunk = [b"100000\r\n", vec![b' '; 0x10_0000].as_slice(), b"\r\n"].concat();
    for _ in 0..49 {
        // Answered, and closed, after twice the limit.
        if stream.write_all(&chunk).await.is_err() {
            break;
        }
    }
    assert!(first_line(&mut stream).await.starts_with("HTTP/1.1 413"));
    setup.daemon.stop().await;
}

/// T48.
#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let body = axum::body::Body::new(Never);
    let (all, peer) = (Semaphore::new(1), Semaphore::new(1));
    let room = body::Room { all: &all, peer: &peer };
    let slow = body::collect(body, 10, Duration::from_millis(10), room).await.unwrap_err();
    assert_eq!(slow.status, StatusCode::REQUEST_TIMEOUT);
}

/// T41: bodies take room as they come, and give it back.
#[tokio::test]
async fn bodies_share_the_room_that_there_is() {
    let (all, peer, other) = (Semaphore::new(3), Semaphore::new(2), Semaphore::new(2));
    let (room, others) = (body::Room { all: &all, peer: &peer }, body::Room { all: &all, peer: &other });
    let body = |kib: usize| axum::body::Body::from(vec![b' '; kib * 1024]);
    let collect = async |kib, room| body::collect(body(kib), 1 << 20, Duration::from_secs(60), room).await;
    let held = collect(2, room).await.unwrap();
    let crowded = collect(1, room).await.unwrap_err();
    assert_eq!((crowded.status, crowded.refusal.retry_after), (StatusCode::TOO_MANY_REQUESTS, Some(1)));
    assert_eq!(collect(2, others).await.unwrap_err().status, StatusCode::SERVICE_UNAVAILABLE);
    collect(1, others).await.unwrap();
    drop(held);
    assert_eq!((all.available_permits(), peer.available_permits(), other.available_permits()), (3, 2, 2));
    collect(2, room).await.unwrap();
}

/// T48: a page of one peer is no reason for others to wait.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_pages_without_end_waits_for_itself() {
    const PAGE: &str = "/v1/trusts/main/export";
    let setup = Setup::start().await;
    assert_eq!(setup.submit(setup.first_documents().await).await.status, 202);
    let account = setup.daemon.api.shared.peers.account(other_peer(), Instant::now());
    let turn = account.exports.acquire().await.unwrap();
    let mut waiting = setup.connect_as_other(PAGE).await;
    let page = setup.get(PAGE).await;
    assert_eq!((page.status, page.body.starts_with(b"{\"head\"")), (200, true));
    // After five seconds.
    assert!(first_line(&mut waiting).await.starts_with("HTTP/1.1 429"));
    drop(turn);
    assert!(first_line(&mut setup.connect_as_other(PAGE).await).await.starts_with("HTTP/1.1 200"));
    setup.daemon.stop().await;
}

/// T48: whoever tries tokens is as limited as whoever tries signatures, and stands in nobody's way.
#[tokio::test(flavor = "multi_thread")]
async fn submissions_without_a_good_token_are_counted() {
    let setup = Setup::start_with(|config| config.api.submit = Some(Submit::Tokens)).await;
    let path = "/v1/trusts/main/submissions";
    for (headers, reason) in
        [(&[][..], RefusalReason::NoToken), (&[("authorization", "Bearer plt_x")], RefusalReason::BadToken)]
    {
        let answer = setup.ask("POST", path, headers, "{}").await;
        answer.refused(401, RefusalCode::Unauthorized);
        assert_eq!(answer.json::<Refusal>().reason, Some(reason));
    }
    let mut refused = 2;
    // One a second is forgotten, which a slow machine may see.
    let limited = loop {
        let answer = setup.ask("POST", path, &[("authorization", "Bearer plt_x")], "{}").await;
        if answer.status != 401 || refused > 10_000 {
            break answer;
        }
        refused += 1;
    };
    limited.refused(429, RefusalCode::RateLimited);
    assert_eq!(limited.json::<Refusal>().reason, Some(RefusalReason::Peer));
    assert!(refused >= 60, "{refused}");
    let account = setup.daemon.api.shared.peers.account(other_peer(), Instant::now());
    assert!(account.check(Instant::now()).is_ok());
    setup.daemon.stop().await;
}

fn other_peer() -> Peer {
    Peer::of([127, 0, 0, 2].into())
}

/// A body of which nothing ever comes.
struct Never;

impl hyper::body::Body for Never {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, std::io::Error>>> {
        Poll::Pending
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_front_page_are_text() {
    let setup = Setup::start().await;
    assert_eq!(setup.get("/livez").await.text(), "ok\n");
    let ready = setup.get("/readyz").await;
    assert!(ready.text().starts_with("main: ready"), "{}", ready.text());
    assert!(setup.get("/").await.text().contains("/v1/trusts"));
    assert_eq!(setup.get("/x").await.status, 404);
    assert_eq!(setup.ask("POST", "/livez", &[], "").await.status, 405);
    assert_eq!(setup.get("/v2/").await.status, 200);
    setup.daemon.stop().await;
}

#[tokio::test]
async fn browsers_get_the_page_and_everybody_else_text() {
    let setup = Setup::start().await;
    let browser = [("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")];
    for path in ["/", "/?refresh", "/trusts/main"] {
        let page = setup.ask("GET", path, &browser, "").await;
        assert_eq!(
            (page.status, page.header(header::CONTENT_TYPE)),
            (200, "text/html; charset=utf-8"),
            "{path}"
        );
        assert!(
            page.header(header::CONTENT_SECURITY_POLICY)
                .starts_with("default-src 'none'; style-src 'sha256-")
        );
        assert_eq!(
            (page.header(header::X_CONTENT_TYPE_OPTIONS), page.header(header::CACHE_CONTROL)),
            ("nosniff", "no-store")
        );
        assert!(page.text().contains("waiting for its owner"), "{}", page.text());
        assert_eq!(page.text().contains("http-equiv"), path == "/?refresh");
    }
    for headers in [&[][..], &[("accept", "*/*")], &[("accept", "text/plain")]] {
        let text = setup.ask("GET", "/", headers, "").await;
        assert_eq!(
            (text.header(header::CONTENT_TYPE), text.header(header::VARY)),
            ("text/plain; charset=utf-8", "accept")
        );
        assert!(text.text().contains("/metrics"));
    }
    assert_eq!(setup.ask("GET", "/trusts/%3Cscript%3E", &browser, "").await.status, 404);
    assert_eq!(setup.ask("POST", "/", &browser, "").await.status, 405);
    setup.daemon.stop().await;
}

#[tokio::test]
async fn metrics_tell_what_was_accepted_and_refused() {
    let setup = Setup::start().await;
    let documents = setup.first_documents().await;
    assert_eq!(setup.submit(documents).await.status, 202);
    // Refused by the engine, and before it.
    assert_eq!(setup.submit("{\"documents\":{\"x\":{}}}").await.status, 400);
    assert_eq!(setup.submit("nothing of the kind").await.status, 400);
    let answer = setup.get("/metrics").await;
    assert_eq!(answer.header(header::CONTENT_TYPE), "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "plimsolld_submissions_accepted_total{trust=\"main\"} 1",
        "plimsolld_submissions_refused_total{trust=\"main\",reason=\"malformed\"} 2",
        "plimsolld_timestamp_version{trust=\"main\"} 1",
    ] {
        assert!(answer.text().lines().any(|other| other == line), "{line}: {}", answer.text());
    }
    setup.daemon.stop().await;
}

/// The states before and after: engines not there yet, daemon stopping.
#[tokio::test]
async fn what_is_not_there_yet_is_unavailable_and_not_absent() {
    let phase = watch::Sender::new(Phase::Serving);
    let held =
        gate::Held::read(Some(crate::config::Submit::Anyone), PathBuf::from("/no/tokens").into()).unwrap();
    let gate = gate::Gate::new(held, true, Arc::new(SystemClock));
    let api = Api::new(["acme".to_owned()], gate, phase.subscribe());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server =
        tokio::spawn(serve::serve(listener, None, api.router(), phase.subscribe(), Times::default()));
    for (path, expected) in [
        ("/v1/trusts", "HTTP/1.1 503"),
        ("/v1/trusts/acme", "HTTP/1.1 503"),
        ("/v1/trusts/other", "HTTP/1.1 404"),
        ("/tuf/acme/metadata/timestamp.json", "HTTP/1.1 503"),
        ("/readyz", "HTTP/1.1 503"),
        ("/livez", "HTTP/1.1 200"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        let line = first_line(&mut stream).await;
        assert!(line.starts_with(expected), "{path}: {line}");
    }
    phase.send_replace(Phase::Closing);
    server.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_panic_ends_its_own_request_only() {
    let phase = watch::Sender::new(Phase::Serving);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route(
            "/panic",
            get(|| async {
                if true {
                    panic!("as told")
                }
            }),
        )
        .route("/ok", get(|| async { "ok" }));
    let server = tokio::spawn(serve::serve(listener, None, router, phase.subscribe(), Times::default()));
    let ask = async |path: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        first_line(&mut stream).await
    };
    assert_eq!(ask("/panic").await, "");
    assert!(ask("/ok").await.starts_with("HTTP/1.1 200"));
    drop(phase);
    server.await.unwrap();
}

/// T48: neither a request without an end nor a slow head keeps the daemon.
#[tokio::test]
async fn open_connections_do_not_hold_up_the_end() {
    let phase = watch::Sender::new(Phase::Serving);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/never", get(std::future::pending::<()>));
    let times = Times { head: Duration::from_millis(100), drain: Duration::from_millis(100) };
    let server = tokio::spawn(serve::serve(listener, None, router, phase.subscribe(), times));
    let mut never = TcpStream::connect(address).await.unwrap();
    never.write_all(b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /nev").await.unwrap();
    // Closed by the server after its time for heads, with 408 or nothing.
    let line = first_line(&mut slow).await;
    assert!(line.is_empty() || line.starts_with("HTTP/1.1 408"), "{line}");
    phase.send_replace(Phase::Closing);
    server.await.unwrap();
    assert_eq!(first_line(&mut never).await, "");
}

/// The first line of the answer; empty if the connection ends without one.
async fn first_line(stream: &mut TcpStream) -> String {
    let mut buffer = [0; 1024];
    let length = stream.read(&mut buffer).await.unwrap_or_default();
    String::from_utf8_lossy(&buffer[..length]).lines().next().unwrap_or_default().to_owned()
}
