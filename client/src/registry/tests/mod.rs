//! The client against servers that behave, and against servers that do not.

mod inside;
mod limits;
mod push;
mod trust;

use std::{
    error::Error as _,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use plimsoll_core::oci::{Digest, RepositoryAddress, media_type};

use super::{
    Credentials, Known, ManifestAnswer, ManifestFault, Refusal, Registry, RegistryError, RegistryOptions,
    Secret,
    testing::{Identity, Reply, Seen, Server, answer, head},
};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;
const TYPE: (&str, &str) = ("content-type", media_type::MANIFEST);
const CAP: u64 = 1 << 20;

fn options() -> RegistryOptions {
    RegistryOptions {
        credentials: Credentials::anonymous(),
        certs_dir: "/nonexistent".into(),
        deadline: Duration::from_secs(20),
        ..RegistryOptions::default()
    }
}

fn client() -> Registry {
    Registry::new(options()).unwrap()
}

fn with_login() -> Registry {
    let credentials = Credentials::fixed("user", Secret::new("CANARY"));
    Registry::new(RegistryOptions { credentials, ..options() }).unwrap()
}

fn repo(host: String) -> RepositoryAddress {
    RepositoryAddress { host, name: "acme/app".into() }
}

fn at(server: &Server) -> RepositoryAddress {
    repo(server.host())
}

/// What a blob request gets from a server that always replies so.
async fn blob(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Result<Option<Bytes>, RegistryError> {
    let server = Server::start(move |_| reply());
    client().blob(&at(&server), &Digest::of(b"content"), 7, true).await
}

/// What a manifest request gets from a server that always replies so.
async fn manifest(
    reply: impl Fn() -> Reply + Send + Sync + 'static,
) -> Result<ManifestAnswer, RegistryError> {
    let server = Server::start(move |_| reply());
    client().manifest(&at(&server), "v1", CAP, None).await
}

// --- pulling

#[tokio::test]
async fn a_manifest_is_pulled_in_one_request() {
    let server = Server::start(|_| {
        answer(
            200,
            &[("content-type", "Application/vnd.oci.image.manifest.v1+json; x=y"), ("etag", "\"e\"")],
            MANIFEST,
        )
    });
    let client = client();
    let ManifestAnswer::Found(found) = client.manifest(&at(&server), "v1", CAP, None).await.unwrap() else {
        panic!("not found")
    };
    assert_eq!((&found.bytes[..], found.digest), (MANIFEST, Digest::of(MANIFEST)));
    assert_eq!((found.media_type.as_str(), found.etag.as_deref()), (media_type::MANIFEST, Some("\"e\"")));
    assert_eq!(server.lines(), ["GET /v2/acme/app/manifests/v1"]);
    let seen = &server.seen()[0];
    assert_eq!(seen.header("accept"), Some(media_type::ACCEPT));
    assert_eq!((seen.header("accept-encoding"), seen.header("authorization")), (Some("identity"), None));
    assert!(seen.header("user-agent").unwrap().starts_with("plimsoll/"));
    assert_eq!(client.requests(), 1);
}

#[tokio::test]
async fn a_known_manifest_is_not_fetched_again() {
    let server = Server::start(|seen| match seen.header("if-none-match") {
        Some("\"e\"") => answer(304, &[], b""),
        _ => answer(200, &[TYPE], MANIFEST),
    });
    let client = client();
    let mut known = Known { etag: Some("\"e\"".into()), digest: Digest::of(b"older") };
    assert_eq!(
        client.manifest(&at(&server), "v1", CAP, Some(&known)).await.unwrap(),
        ManifestAnswer::NotModified
    );
    // A registry without ETags: the digest decides.
    known = Known { etag: None, digest: Digest::of(MANIFEST) };
    assert_eq!(
        client.manifest(&at(&server), "v1", CAP, Some(&known)).await.unwrap(),
        ManifestAnswer::NotModified
    );
    known.digest = Digest::of(b"older");
    let found = client.manifest(&at(&server), "v1", CAP, Some(&known)).await.unwrap();
    assert!(matches!(found, ManifestAnswer::Found(_)));
}

/// The last answer counts, and only if it is the registry's own and tells a time.
#[tokio::test]
async fn the_time_that_a_registry_tells_is_its_last_own_word() {
    const DATE: (&str, &str) = ("date", "Fri, 15 Jan 2027 08:00:00 GMT");
    let elsewhere = Server::start(|_| answer(200, &[TYPE, DATE], MANIFEST));
    let to = format!("http://{}/v2/acme/app/manifests/there", elsewhere.host());
    let server = Server::start(move |seen| match seen.target.rsplit('/').next().unwrap() {
        "told" => answer(200, &[TYPE, DATE], MANIFEST),
        "gone" => answer(404, &[DATE], b""),
        "cached" => answer(200, &[TYPE, DATE, ("age", "60")], MANIFEST),
        "garbled" => answer(200, &[TYPE, ("date", "yesterday")], MANIFEST),
        "elsewhere" => answer(307, &[("location", &to)], b""),
        _ => answer(200, &[TYPE], MANIFEST),
    });
    let client = client();
    assert_eq!(client.clock(), None);
    for tag in ["told", "gone", "cached", "told", "garbled", "told", "elsewhere", "told", "silent"] {
        let _ = client.manifest(&at(&server), tag, CAP, None).await.unwrap();
        let told = matches!(tag, "told" | "gone").then_some(1_800_000_000);
        assert_eq!(client.clock().map(|time| time.timestamp()), told, "{tag}");
    }
}

/// T47.
#[tokio::test]
async fn a_304_that_was_not_asked_for_is_no_answer() {
    let error = manifest(|| answer(304, &[], b"")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Status { status, .. } if status == 304), "{error}");
}

#[tokio::test]
async fn head_gives_what_the_registry_says() {
    let digest = Digest::of(MANIFEST);
    let server = Server::start(move |seen| match seen.target.as_str() {
        "/v2/acme/app/manifests/gone" => answer(404, &[], b""),
        target => {
            let header = ("docker-content-digest", &*digest.to_string());
            let length = MANIFEST.len().to_string();
            let length = ("content-length", &*length);
            match (seen.method.as_str(), target.ends_with("/bare")) {
                ("HEAD", false) => answer(200, &[TYPE, header, length], b""),
                ("HEAD", true) => answer(200, &[TYPE, length], b""),
                _ => answer(200, &[TYPE], MANIFEST),
            }
        }
    });
    let client = client();
    let found = client.head_manifest(&at(&server), "v1").await.unwrap().unwrap();
    assert_eq!((found.digest, found.size), (digest, MANIFEST.len() as u64));
    assert_eq!(found.media_type, media_type::MANIFEST);
    assert_eq!(client.requests(), 1);
    assert_eq!(client.head_manifest(&at(&server), "gone").await.unwrap(), None);
    // Without the header, the manifest itself is fetched and hashed.
    assert_eq!(client.head_manifest(&at(&server), "bare").await.unwrap(), Some(found));
    let other = Digest::of(b"other").to_string();
    let error = client.head_manifest(&at(&server), &other).await.unwrap_err();
    assert!(matches!(error, RegistryError::DigestMismatch { got, .. } if got == digest));
}

/// T71: the header says the wanted digest, the bytes say another.
#[tokio::test]
async fn content_is_hashed_here() {
    let wanted = Digest::of(b"content");
    let lie = move |body: &[u8]| answer(200, &[TYPE, ("docker-content-digest", &wanted.to_string())], body);
    let got = blob(move || lie(b"Content")).await.unwrap_err();
    assert!(matches!(got, RegistryError::DigestMismatch { expected, .. } if expected == wanted), "{got}");
    assert!(got.is_untrusted());
    let server = Server::start(move |_| lie(MANIFEST));
    let got = client().manifest(&at(&server), &wanted.to_string(), CAP, None).await.unwrap_err();
    assert!(matches!(got, RegistryError::DigestMismatch { expected, .. } if expected == wanted));
    assert_eq!(blob(|| answer(200, &[], b"content")).await.unwrap().unwrap(), "content");
}

/// T40, T43.
#[tokio::test]
async fn a_size_is_kept_to_whatever_is_announced() {
    let short = blob(|| answer(200, &[], b"conten")).await.unwrap_err();
    assert!(matches!(short, RegistryError::SizeMismatch { expected: 7, got: 6, .. }), "{short}");
    let cut = blob(|| answer(200, &[("content-length", "7")], b"cont")).await.unwrap_err();
    assert!(matches!(cut, RegistryError::Interrupted { .. }) && cut.is_unavailable(), "{cut}");
    let announced = blob(|| answer(200, &[("content-length", "999999999999")], b"x")).await.unwrap_err();
    assert!(matches!(announced, RegistryError::TooLarge { cap: 7, .. }), "{announced}");
    // Announced as 7 bytes: what follows them is never read.
    assert!(blob(|| answer(200, &[("content-length", "7")], b"content and more")).await.is_ok());
}

/// T40.
#[tokio::test]
async fn an_endless_body_ends_at_the_cap() {
    let chunked = || {
        Reply::Endless(
            head(200, &[TYPE, ("transfer-encoding", "chunked")]),
            [b"4000\r\n", &[b'x'; 0x4000][..], b"\r\n"].concat(),
        )
    };
    let to_the_end = || Reply::Endless(head(200, &[TYPE]), vec![b'x'; 0x4000]);
    for error in [manifest(chunked).await.unwrap_err(), manifest(to_the_end).await.unwrap_err()] {
        assert!(matches!(error, RegistryError::TooLarge { cap: CAP, .. }) && error.is_untrusted(), "{error}");
    }
}

/// T40.
#[tokio::test]
async fn an_endless_head_ends_too() {
    let error = manifest(|| Reply::Endless(b"HTTP/1.1 200 x\r\n".to_vec(), b"a: b\r\n".repeat(100))).await;
    assert!(matches!(error, Err(RegistryError::Interrupted { .. })), "{error:?}");
}

/// T48.
#[tokio::test]
async fn a_slow_drip_is_given_up() {
    let server = Server::start(|_| Reply::Drip(head(200, &[TYPE, ("content-length", "5000")])));
    let options = RegistryOptions { rate_window: Duration::from_millis(200), ..options() };
    let error = Registry::new(options).unwrap().manifest(&at(&server), "v1", CAP, None).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooSlow { bytes, .. } if bytes < 1024), "{error}");
    assert!(error.is_unavailable());
}

/// T48: the deadline holds for the body and for the token server alike.
#[tokio::test]
async fn the_deadline_is_for_the_whole_call() {
    let hang = Server::start(|_| Reply::Hang);
    let drip = Server::start(|_| Reply::Drip(head(200, &[TYPE, ("content-length", "5000")])));
    let realm = format!("Bearer realm=\"http://{}/token\"", hang.host());
    let dance = Server::start(move |_| answer(401, &[("www-authenticate", &realm)], b""));
    for server in [&hang, &drip, &dance] {
        let options = RegistryOptions { deadline: Duration::from_millis(300), ..options() };
        let error = Registry::new(options).unwrap().manifest(&at(server), "v1", CAP, None).await.unwrap_err();
        assert!(matches!(error, RegistryError::Timeout { .. }) && error.is_unavailable(), "{error}");
    }
}

/// T40.
#[tokio::test]
async fn an_encoding_nobody_asked_for_is_refused() {
    let error = blob(|| answer(200, &[("content-encoding", "gzip")], b"content")).await.unwrap_err();
    assert!(matches!(error, RegistryError::ContentEncoding { .. }), "{error}");
    assert!(blob(|| answer(200, &[("content-encoding", "identity")], b"content")).await.is_ok());
}

/// T49, T77.
#[tokio::test]
async fn what_is_not_one_manifest_is_refused() {
    let html = manifest(|| answer(200, &[("content-type", "text/html")], b"<html>log in")).await.unwrap_err();
    assert!(matches!(&html, RegistryError::ContentType { got, .. } if got == "text/html"));
    assert!(html.is_untrusted());
    assert!(matches!(manifest(|| answer(200, &[], MANIFEST)).await, Err(RegistryError::ContentType { .. })));
    for (kind, body, fault) in [
        (media_type::MANIFEST, r#"{"layers":[],"manifests":[]}"#, ManifestFault::Ambiguous),
        (media_type::INDEX, r#"{"manifests":[],"config":{}}"#, ManifestFault::Ambiguous),
        (media_type::DOCKER_LIST, r#"{"layers":[]}"#, ManifestFault::Ambiguous),
        (media_type::MANIFEST, r#"{"fsLayers":[]}"#, ManifestFault::Ambiguous),
        (
            media_type::MANIFEST,
            r#"{"mediaType":"application/vnd.oci.image.index.v1+json"}"#,
            ManifestFault::MediaType,
        ),
        (media_type::MANIFEST, "[]", ManifestFault::Shape),
        (media_type::MANIFEST, r#"{"mediaType":7}"#, ManifestFault::Shape),
    ] {
        let error =
            manifest(move || answer(200, &[("content-type", kind)], body.as_bytes())).await.unwrap_err();
        assert!(
            matches!(error, RegistryError::Manifest { source, .. } if source == fault),
            "{body}: {error}"
        );
    }
    for body in ["<html>", r#"{"layers":[],"layers":[]}"#] {
        let error = manifest(move || answer(200, &[TYPE], body.as_bytes())).await.unwrap_err();
        assert!(matches!(error, RegistryError::Manifest { source: ManifestFault::Json(_), .. }), "{error}");
    }
}

// --- statuses and connections

/// T45, T47.
#[tokio::test]
async fn only_a_404_means_not_there() {
    assert_eq!(manifest(|| answer(404, &[], b"{}")).await.unwrap(), ManifestAnswer::NotFound);
    assert_eq!(blob(|| answer(404, &[], b"{}")).await.unwrap(), None);
    for status in [201, 204, 206, 400, 405, 410, 418, 500, 503] {
        let error = blob(move || answer(status, &[], b"content")).await.unwrap_err();
        assert!(matches!(&error, RegistryError::Status { status: s, .. } if *s == status), "{error}");
        assert!(error.is_unavailable());
    }
    let error = blob(|| answer(429, &[("retry-after", "7")], b"")).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    assert!(error.to_string().ends_with("429 Too Many Requests: try again in 7 s"), "{error}");
    let error = blob(|| answer(403, &[], b"")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Forbidden { .. }) && error.is_auth());
}

/// docker-registry answers 500 to who reads a tag while it is being replaced.
#[tokio::test]
async fn a_fault_of_the_registry_is_tried_once_more_for_reading_only() {
    let calls = AtomicUsize::new(0);
    let once = Server::start(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => answer(500, &[], b""),
        _ => answer(200, &[], b"content"),
    });
    assert!(client().blob(&at(&once), &Digest::of(b"content"), 7, true).await.is_ok());

    let server = Server::start(|_| answer(500, &[], b""));
    client().blob(&at(&server), &Digest::of(b""), 0, true).await.unwrap_err();
    assert_eq!(server.seen().len(), 2);
    client().put_manifest(&at(&server), "v1", media_type::MANIFEST, MANIFEST.into()).await.unwrap_err();
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_connection_that_breaks_is_tried_once_more_for_reading_only() {
    let server = Server::start(|_| Reply::BreakOff);
    let error = client().blob(&at(&server), &Digest::of(b""), 0, true).await.unwrap_err();
    assert!(matches!(error, RegistryError::Interrupted { .. }) && error.is_unavailable(), "{error}");
    assert_eq!(server.seen().len(), 2);

    let calls = AtomicUsize::new(0);
    let once = Server::start(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::BreakOff,
        _ => answer(200, &[], b"content"),
    });
    assert!(client().blob(&at(&once), &Digest::of(b"content"), 7, true).await.is_ok());

    let server = Server::start(|_| Reply::BreakOff);
    client().put_manifest(&at(&server), "v1", media_type::MANIFEST, MANIFEST.into()).await.unwrap_err();
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn nobody_there_is_said_plainly() {
    let port = Server::start(|_| Reply::BreakOff).port();
    let error =
        client().blob(&repo(format!("127.0.0.1:{port}")), &Digest::of(b""), 0, true).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot reach 127.0.0.1:{port}"));
    assert!(error.source().unwrap().to_string().starts_with("Connection refused"), "{error:?}");
    assert!(error.is_unavailable());
}

/// T60, T63.
#[tokio::test]
async fn arguments_are_checked_before_anything_is_sent() {
    let server = Server::start(|_| answer(200, &[TYPE], MANIFEST));
    let client = client();
    for reference in ["", "../x", "a/b", "a?b", "sha256:00", "-x"] {
        let error = client.manifest(&at(&server), reference, CAP, None).await.unwrap_err();
        assert!(matches!(error, RegistryError::Argument { .. }) && error.is_misuse(), "{reference}");
    }
    for (host, name) in [("user@127.0.0.1", "a"), ("a/b", "a"), ("", "a"), ("127.0.0.1", "../a"), ("a?", "a")]
    {
        let repo = RepositoryAddress { host: host.into(), name: name.into() };
        let error = client.manifest(&repo, "v1", CAP, None).await.unwrap_err();
        assert!(matches!(error, RegistryError::Argument { .. }), "{host} {name}: {error}");
    }
    assert_eq!(client.requests(), 0);
}

#[test]
fn plain_http_is_for_loopback_or_when_told() {
    let endpoint = |options, host: &str| {
        let registry = Registry::new(options).unwrap();
        registry.inner.endpoint(&repo(host.into()), "tags/list").unwrap().to_string()
    };
    assert_eq!(endpoint(options(), "r.io:5000"), "https://r.io:5000/v2/acme/app/tags/list");
    assert_eq!(endpoint(options(), "docker.io"), "https://registry-1.docker.io/v2/acme/app/tags/list");
    assert_eq!(endpoint(options(), "localhost.r.io"), "https://localhost.r.io/v2/acme/app/tags/list");
    assert_eq!(endpoint(options(), "10.0.0.1"), "https://10.0.0.1/v2/acme/app/tags/list");
    for host in ["localhost:5000", "127.0.0.2:5000", "[::1]:5000"] {
        assert_eq!(endpoint(options(), host), format!("http://{host}/v2/acme/app/tags/list"));
    }
    let plain = RegistryOptions { plain_http: true, ..options() };
    assert_eq!(endpoint(plain, "r.io:5000"), "http://r.io:5000/v2/acme/app/tags/list");
}
