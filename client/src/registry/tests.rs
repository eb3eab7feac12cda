//! The client against servers that behave, and against servers that do not.

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
    assert_eq!((seen.header("accept-encoding"), seen.header("authorization")), (None, None));
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

#[tokio::test]
async fn an_endless_head_ends_too() {
    let error = manifest(|| Reply::Endless(b"HTTP/1.1 200 x\r\n".to_vec(), b"a: b\r\n".repeat(100))).await;
    assert!(matches!(error, Err(RegistryError::Interrupted { .. })), "{error:?}");
}

#[tokio::test]
async fn a_slow_drip_is_given_up() {
    let server = Server::start(|_| Reply::Drip(head(200, &[TYPE, ("content-length", "5000")])));
    let options = RegistryOptions { rate_window: Duration::from_millis(200), ..options() };
    let error = Registry::new(options).unwrap().manifest(&at(&server), "v1", CAP, None).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooSlow { bytes, .. } if bytes < 1024), "{error}");
    assert!(error.is_unavailable());
}

/// The deadline holds for the body and for the token server alike.
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

#[tokio::test]
async fn an_encoding_nobody_asked_for_is_refused() {
    let error = blob(|| answer(200, &[("content-encoding", "gzip")], b"content")).await.unwrap_err();
    assert!(matches!(error, RegistryError::ContentEncoding { .. }), "{error}");
    assert!(blob(|| answer(200, &[("content-encoding", "identity")], b"content")).await.is_ok());
}

/// T77.
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
    let port = Server::start(|_| Reply::BreakOff).port;
    let error =
        client().blob(&repo(format!("127.0.0.1:{port}")), &Digest::of(b""), 0, true).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot reach 127.0.0.1:{port}"));
    assert!(error.source().unwrap().to_string().starts_with("Connection refused"), "{error:?}");
    assert!(error.is_unavailable());
}

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

// --- redirects

fn redirect(to: &str) -> Reply {
    answer(307, &[("location", to)], b"")
}

/// T72: the registry sees the credentials, the storage it redirects to does not.
#[tokio::test]
async fn authorization_stays_with_the_registry() {
    let storage = Server::start(|_| answer(200, &[], b"content"));
    let to = format!("http://{}/storage?sig=CANARY", storage.host());
    let server = Server::start(move |seen| match (seen.header("authorization"), seen.target.as_str()) {
        (None, _) => answer(401, &[("www-authenticate", "Basic realm=x")], b""),
        (_, "/here") => redirect(&to),
        _ => redirect("/here"),
    });
    let got = with_login().blob(&at(&server), &Digest::of(b"content"), 7, true).await.unwrap();
    assert_eq!(got.unwrap(), "content");
    assert_eq!(storage.lines(), ["GET /storage?sig=CANARY"]);
    assert_eq!(storage.seen()[0].header("authorization"), None);
    assert_eq!(server.seen().iter().filter(|s| s.header("authorization").is_some()).count(), 2);
}

/// A 401 or 404 by someone else says nothing about the registry, and nobody else gets credentials.
#[tokio::test]
async fn whoever_is_redirected_to_does_not_speak_for_the_registry() {
    for status in [401, 404] {
        let other = Server::start(move |_| answer(status, &[("www-authenticate", "Basic realm=x")], b""));
        let to = format!("http://{}/x", other.host());
        let server = Server::start(move |_| redirect(&to));
        let error = with_login().blob(&at(&server), &Digest::of(b"content"), 7, true).await.unwrap_err();
        match status {
            401 => assert!(matches!(error, RegistryError::Unauthorized { .. }), "{error}"),
            _ => assert!(matches!(error, RegistryError::Status { .. }), "{error}"),
        }
        assert_eq!(other.seen().len(), 1);
        assert_eq!(other.seen()[0].header("authorization"), None);
    }
}

/// T75.
#[tokio::test]
async fn redirects_end() {
    let server = Server::start(|seen| redirect(&seen.target));
    let error = client().blob(&at(&server), &Digest::of(b""), 0, true).await.unwrap_err();
    assert!(matches!(error, RegistryError::RedirectRefused { source: Refusal::TooMany, .. }), "{error}");
    assert!(error.is_untrusted());
    assert_eq!(server.seen().len(), 6);
}

#[tokio::test]
async fn redirects_that_lead_astray_are_refused() {
    for (to, why) in [
        ("http://registry.example.com/x", Refusal::PlainHttp),
        ("file:///etc/passwd", Refusal::NotHttp),
        ("http://user:CANARY@127.0.0.1/", Refusal::UserInfo),
    ] {
        let error = blob(move || redirect(to)).await.unwrap_err();
        assert!(matches!(&error, RegistryError::RedirectRefused { source, .. } if *source == why), "{error}");
        assert!(!format!("{error} {error:?}").contains("CANARY"));
    }
    let none = blob(|| answer(302, &[], b"")).await.unwrap_err();
    assert!(matches!(none, RegistryError::Malformed { .. }), "{none}");
    let server = Server::start(|_| redirect("/x"));
    let put = client().put_manifest(&at(&server), "v1", media_type::MANIFEST, MANIFEST.into()).await;
    assert!(matches!(put, Err(RegistryError::RedirectRefused { source: Refusal::Upload, .. })));
}

// --- credentials

/// `Basic user:CANARY`.
const BASIC: &str = "Basic dXNlcjpDQU5BUlk=";

/// A registry that wants `Bearer TOKEN`, and whose own /token wants the credentials.
fn token_registry(token_for: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |seen| {
        if seen.target.starts_with("/token") {
            return token_for(seen);
        }
        match seen.header("authorization") {
            Some("Bearer good") => answer(200, &[TYPE], MANIFEST),
            _ => {
                let realm = format!(
                    "Bearer realm=\"http://{}/token\",service=\"s v\",scope=\"repository:other/x:*\"",
                    seen.header("host").unwrap()
                );
                answer(401, &[("www-authenticate", &realm)], b"{}")
            }
        }
    })
}

#[tokio::test]
async fn basic_credentials_are_shown_when_asked_and_then_up_front() {
    let server = Server::start(|seen| match seen.header("authorization") {
        Some(BASIC) => answer(200, &[TYPE], MANIFEST),
        _ => answer(401, &[("www-authenticate", "Basic realm=\"x\"")], b""),
    });
    let client = with_login();
    client.manifest(&at(&server), "v1", CAP, None).await.unwrap();
    assert_eq!(client.requests(), 2);
    client.manifest(&at(&server), "v1", CAP, None).await.unwrap();
    assert_eq!(client.requests(), 3);
}

#[tokio::test]
async fn a_token_is_fetched_once_for_one_repository_and_purpose() {
    let server = token_registry(|seen| match seen.header("authorization") {
        Some(BASIC) => answer(200, &[], br#"{"token":"good","expires_in":300}"#),
        _ => answer(401, &[], b""),
    });
    let client = with_login();
    client.manifest(&at(&server), "v1", CAP, None).await.unwrap();
    client.manifest(&at(&server), "v2", CAP, None).await.unwrap();
    // The scope is ours, not the challenge's.
    let token = "GET /token?service=s+v&scope=repository%3Aacme%2Fapp%3Apull";
    let (v1, v2) = ("GET /v2/acme/app/manifests/v1", "GET /v2/acme/app/manifests/v2");
    assert_eq!(server.lines(), [v1, token, v1, v2]);
    // Pushing is another purpose.
    let put = client.put_manifest(&at(&server), "v1", media_type::MANIFEST, MANIFEST.into()).await;
    assert!(matches!(put, Err(RegistryError::Status { .. })), "the test's registry answers 200, not 201");
    assert_eq!(server.lines()[5], format!("{token}%2Cpush"));
}

#[tokio::test]
async fn a_token_that_ran_out_or_was_revoked_is_renewed_once() {
    for life in ["0", "3600"] {
        let given = AtomicUsize::new(0);
        let server = Server::start(move |seen| {
            if seen.target.starts_with("/token") {
                let n = given.fetch_add(1, Ordering::SeqCst);
                return answer(
                    200,
                    &[],
                    format!("{{\"access_token\":\"t{n}\",\"expires_in\":{life}}}").as_bytes(),
                );
            }
            match seen.header("authorization") {
                // t0 is good for v1 only, as if it were revoked after it.
                Some("Bearer t0") if seen.target.ends_with("v1") => answer(200, &[TYPE], MANIFEST),
                Some("Bearer t1") => answer(200, &[TYPE], MANIFEST),
                _ => {
                    let realm = format!("Bearer realm=\"http://{}/token\"", seen.header("host").unwrap());
                    answer(401, &[("www-authenticate", &realm)], b"")
                }
            }
        });
        let client = client();
        client.manifest(&at(&server), "v1", CAP, None).await.unwrap();
        client.manifest(&at(&server), "v2", CAP, None).await.unwrap();
        assert_eq!(client.requests(), 6, "{life}");
    }
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let dir = tempfile::tempdir().unwrap();
    let server = token_registry(|seen| {
        let form = String::from_utf8(seen.body.clone()).unwrap();
        let wanted = "service=s+v&scope=repository%3Aacme%2Fapp%3Apull&grant_type=refresh_token&client_id=plimsoll&refresh_token=id%26";
        match (seen.method.as_str(), form == wanted) {
            ("POST", true) => answer(200, &[], br#"{"access_token":"good"}"#),
            _ => answer(400, &[], b""),
        }
    });
    let path = dir.path().join("config.json");
    let config = format!("{{\"auths\":{{\"{}\":{{\"identitytoken\":\"id&\"}}}}}}", server.host());
    std::fs::write(&path, config).unwrap();
    let options = RegistryOptions { credentials: Credentials::config_file(path), ..options() };
    Registry::new(options).unwrap().manifest(&at(&server), "v1", CAP, None).await.unwrap();
}

#[tokio::test]
async fn missing_and_wrong_credentials_are_told_apart() {
    let basic = Server::start(|_| answer(401, &[("www-authenticate", "Basic realm=\"x\"")], b""));
    let bearer = token_registry(|_| answer(401, &[], b""));
    let useless = token_registry(|_| answer(200, &[], br#"{"token":"CANARY"}"#));
    for server in [&basic, &bearer, &useless] {
        let error = client().manifest(&at(server), "v1", CAP, None).await.unwrap_err();
        assert!(matches!(error, RegistryError::Unauthorized { .. }) && error.is_auth(), "{error}");
        assert!(error.to_string().ends_with(&format!("`docker login {}`", server.host())), "{error}");
        let error = with_login().manifest(&at(server), "v1", CAP, None).await.unwrap_err();
        assert!(matches!(error, RegistryError::LoginRejected { .. }) && error.is_auth(), "{error}");
        assert!(!format!("{error} {error:?}").contains("CANARY"));
    }
    let odd = Server::start(|_| answer(401, &[("www-authenticate", "Negotiate")], b""));
    let error = with_login().manifest(&at(&odd), "v1", CAP, None).await.unwrap_err();
    assert!(matches!(error, RegistryError::UnknownChallenge { .. }) && error.is_auth());
}

#[tokio::test]
async fn a_token_server_can_break_nothing() {
    type Check = fn(&RegistryError) -> bool;
    let cases: [(fn() -> Reply, Check); 7] = [
        (|| answer(200, &[], b"CANARY"), |e| matches!(e, RegistryError::Malformed { .. })),
        (|| answer(200, &[], br#"{"token":""}"#), |e| matches!(e, RegistryError::Malformed { .. })),
        (
            || answer(200, &[], br#"{"token":"CANARY\r\nx"}"#),
            |e| matches!(e, RegistryError::Malformed { .. }),
        ),
        (|| answer(503, &[], b""), |e| matches!(e, RegistryError::Status { .. })),
        (|| redirect("/v2/"), |e| matches!(e, RegistryError::Status { .. })),
        (|| answer(403, &[], b""), |e| matches!(e, RegistryError::Forbidden { .. })),
        (
            || Reply::Endless(head(200, &[]), vec![b' '; 4096]),
            |e| matches!(e, RegistryError::TooLarge { .. }),
        ),
    ];
    for (reply, check) in cases {
        let server = token_registry(move |_| reply());
        let error = with_login().manifest(&at(&server), "v1", CAP, None).await.unwrap_err();
        assert!(check(&error), "{error}");
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{error:?}");
    }
}

/// T73: a token server at another site gets nothing while we hold credentials, and no credentials otherwise.
#[tokio::test]
async fn credentials_do_not_go_to_a_foreign_realm() {
    let foreign = Server::start(|_| answer(200, &[], br#"{"token":"good"}"#));
    let realm = format!("Bearer realm=\"http://localhost:{}/token\"", foreign.port);
    let server = Server::start(move |seen| match seen.header("authorization") {
        Some("Bearer good") => answer(200, &[TYPE], MANIFEST),
        _ => answer(401, &[("www-authenticate", &realm)], b""),
    });
    let error = with_login().manifest(&at(&server), "v1", CAP, None).await.unwrap_err();
    assert!(matches!(error, RegistryError::RealmRefused { source: Refusal::OtherSite, .. }), "{error}");
    assert!(error.is_untrusted());
    assert_eq!(foreign.seen().len(), 0);
    client().manifest(&at(&server), "v1", CAP, None).await.unwrap();
    assert_eq!(foreign.seen()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_realm_that_is_no_place_to_go_is_refused() {
    for (realm, why) in [
        ("http://auth.example.com/token", Refusal::PlainHttp),
        ("nonsense", Refusal::NotHttp),
        ("file:///x", Refusal::NotHttp),
        ("http://u:CANARY@127.0.0.1/", Refusal::UserInfo),
    ] {
        let realm = format!("Bearer realm=\"{realm}\"");
        let error = manifest(move || answer(401, &[("www-authenticate", &realm)], b"")).await.unwrap_err();
        assert!(matches!(&error, RegistryError::RealmRefused { source, .. } if *source == why), "{error}");
        assert!(!format!("{error:?}").contains("CANARY"));
    }
}

#[test]
fn what_is_printed_of_a_client_holds_no_secret() {
    let credentials = Credentials::fixed("user", Secret::new("CANARY"));
    let options = RegistryOptions { credentials, ..options() };
    let text = format!("{options:?} {:?}", Registry::new(options.clone()).unwrap());
    assert!(!text.contains("CANARY"), "{text}");
}

// --- pushing

#[tokio::test]
async fn a_blob_is_uploaded_unless_it_is_there() {
    let digest = Digest::of(b"content");
    let server = Server::start(move |seen| {
        let digest = digest.to_string();
        match (seen.method.as_str(), seen.target.starts_with("/v2/acme/there/")) {
            ("HEAD", true) => {
                answer(200, &[("content-length", "7"), ("docker-content-digest", &digest)], b"")
            }
            ("HEAD", _) => answer(404, &[], b""),
            ("POST", _) => answer(202, &[("location", "/upload/1?state=a%3D")], b""),
            ("PUT", _) => answer(201, &[("docker-content-digest", &digest)], b""),
            _ => answer(500, &[], b""),
        }
    });
    let there = RepositoryAddress { name: "acme/there".into(), ..at(&server) };
    assert_eq!(client().put_blob(&there, "content".into()).await.unwrap(), digest);
    assert_eq!(server.seen().len(), 1);
    assert_eq!(client().put_blob(&at(&server), "content".into()).await.unwrap(), digest);
    let put = format!("PUT /upload/1?state=a%3D&digest=sha256%3A{}", digest.hex());
    assert_eq!(server.lines()[2..], ["POST /v2/acme/app/blobs/uploads/".to_owned(), put]);
    assert_eq!(server.seen()[3].body, b"content");
    assert_eq!(server.seen()[2].header("content-length"), Some("0"));
}

#[tokio::test]
async fn an_upload_elsewhere_gets_no_credentials() {
    let storage = Server::start(|_| answer(201, &[], b""));
    let to = format!("http://{}/upload", storage.host());
    let server = Server::start(move |seen| match (seen.header("authorization"), seen.method.as_str()) {
        (None, _) => answer(401, &[("www-authenticate", "Basic realm=x")], b""),
        (_, "HEAD") => answer(404, &[], b""),
        _ => answer(202, &[("location", &to)], b""),
    });
    with_login().put_blob(&at(&server), "content".into()).await.unwrap();
    assert_eq!(storage.seen()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_registry_that_stored_something_else_is_found_out() {
    let other = Digest::of(b"other").to_string();
    let server = Server::start(move |seen| match seen.method.as_str() {
        "HEAD" => answer(200, &[("content-length", "8")], b""),
        _ => answer(201, &[("docker-content-digest", &other)], b""),
    });
    let blob = client().put_blob(&at(&server), "content".into()).await;
    assert!(matches!(blob, Err(RegistryError::SizeMismatch { expected: 7, got: 8, .. })), "{blob:?}");
    let put = client().put_manifest(&at(&server), "v1", media_type::MANIFEST, MANIFEST.into()).await;
    assert!(matches!(put, Err(RegistryError::DigestMismatch { .. })), "{put:?}");
    let digest = Digest::of(b"other").to_string();
    let put = client().put_manifest(&at(&server), &digest, media_type::MANIFEST, MANIFEST.into()).await;
    assert!(matches!(put, Err(RegistryError::Argument { .. })), "{put:?}");
}

// --- tags

#[tokio::test]
async fn tags_are_listed_page_by_page() {
    let server = Server::start(|seen| match seen.target.as_str() {
        "/v2/acme/app/tags/list?n=1000" => answer(
            200,
            &[("link", "</first>; rel=\"first\", </v2/acme/app/tags/list?n=1000&last=b>; rel=\"next\"")],
            br#"{"name":"acme/app","tags":["a","b"]}"#,
        ),
        "/v2/acme/app/tags/list?n=1000&last=b" => answer(200, &[], br#"{"tags":["c"]}"#),
        "/v2/acme/none/tags/list?n=1000" => answer(200, &[], br#"{"tags":null}"#),
        _ => answer(404, &[], b""),
    });
    let client = client();
    assert_eq!(client.tags(&at(&server)).await.unwrap(), ["a", "b", "c"]);
    let named = |name: &str| RepositoryAddress { name: name.into(), ..at(&server) };
    assert!(client.tags(&named("acme/none")).await.unwrap().is_empty());
    let error = client.tags(&named("acme/missing")).await.unwrap_err();
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn pages_that_lead_nowhere_are_refused() {
    for (link, why) in [
        ("</v2/acme/app/tags/list?n=1000>; rel=next", Refusal::Circle),
        ("<?n=1000>; rel=next", Refusal::Circle),
        ("</v2/acme/other/tags/list>; rel=next", Refusal::OtherList),
        ("<http://localhost:1/v2/acme/app/tags/list>; rel=next", Refusal::OtherList),
    ] {
        let server = Server::start(move |_| answer(200, &[("link", link)], br#"{"tags":["a"]}"#));
        let error = client().tags(&at(&server)).await.unwrap_err();
        assert!(matches!(&error, RegistryError::RedirectRefused { source, .. } if *source == why), "{error}");
        assert_eq!(server.seen().len(), 1);
    }
    // Pages without end, each at a new address.
    let pages = AtomicUsize::new(0);
    let server = Server::start(move |_| {
        let link = format!("<?last={}>; rel=next", pages.fetch_add(1, Ordering::SeqCst));
        answer(200, &[("link", &link)], br#"{"tags":["a"]}"#)
    });
    let error = client().tags(&at(&server)).await.unwrap_err();
    assert!(matches!(error, RegistryError::RedirectRefused { source: Refusal::Circle, .. }), "{error}");
    for body in [&b"<html>"[..], br#"{"tags":["../x"]}"#, br#"{"tags":7}"#] {
        let server = Server::start(move |_| answer(200, &[], body));
        let error = client().tags(&at(&server)).await.unwrap_err();
        assert!(matches!(error, RegistryError::Malformed { .. }), "{error}");
    }
}

// --- TLS

fn with_ca(dir: &tempfile::TempDir, id: &Identity) -> RegistryOptions {
    let path = dir.path().join("ca.pem");
    std::fs::write(&path, &id.ca_pem).unwrap();
    RegistryOptions { ca_file: Some(path), ..options() }
}

#[tokio::test]
async fn a_ca_of_ones_own_is_trusted_where_it_is_configured() {
    let (id, dir) = (Identity::new(), tempfile::tempdir().unwrap());
    let server = Server::start_tls(&id, |_| answer(200, &[TYPE], MANIFEST));
    let by_file = Registry::new(with_ca(&dir, &id)).unwrap();
    by_file.manifest(&at(&server), "v1", CAP, None).await.unwrap();
    by_file.manifest(&repo(format!("localhost:{}", server.port)), "v1", CAP, None).await.unwrap();

    let host_dir = dir.path().join("certs.d").join(server.host());
    std::fs::create_dir_all(&host_dir).unwrap();
    std::fs::write(host_dir.join("ca.crt"), &id.ca_pem).unwrap();
    let by_host = RegistryOptions { certs_dir: dir.path().join("certs.d"), ..options() };
    let by_host = Registry::new(by_host).unwrap();
    by_host.manifest(&at(&server), "v1", CAP, None).await.unwrap();
}

#[tokio::test]
async fn a_ca_that_is_not_configured_is_not_trusted() {
    let (id, dir) = (Identity::new(), tempfile::tempdir().unwrap());
    let server = Server::start_tls(&id, |_| answer(200, &[TYPE], MANIFEST));
    let other = Registry::new(with_ca(&dir, &Identity::new())).unwrap();
    let error = other.manifest(&at(&server), "v1", CAP, None).await.unwrap_err();
    assert!(matches!(error, RegistryError::Tls { .. }) && error.is_unavailable(), "{error:?}");
    assert_eq!(server.seen().len(), 0);
}

/// T76, T72: the token server is verified as the registry is, and https never leads to http.
#[tokio::test]
async fn whoever_a_tls_registry_names_is_held_to_tls() {
    let (id, dir) = (Identity::new(), tempfile::tempdir().unwrap());
    let token = Server::start_tls(&Identity::new(), |_| answer(200, &[], br#"{"token":"good"}"#));
    let realm = format!("Bearer realm=\"https://{}/token\"", token.host());
    let plain = format!("Bearer realm=\"http://{}/token\"", token.host());
    let location = format!("http://{}/", token.host());
    let server = Server::start_tls(&id, move |seen| match seen.target.rsplit('/').next().unwrap() {
        "tls" => answer(401, &[("www-authenticate", &realm)], b""),
        "plain" => answer(401, &[("www-authenticate", &plain)], b""),
        _ => redirect(&location),
    });
    let client = Registry::new(with_ca(&dir, &id)).unwrap();
    let get = async |tag| client.manifest(&at(&server), tag, CAP, None).await.unwrap_err();
    assert!(matches!(get("tls").await, RegistryError::Tls { .. }));
    assert!(matches!(get("plain").await, RegistryError::RealmRefused { source: Refusal::PlainHttp, .. }));
    assert!(matches!(
        get("redirect").await,
        RegistryError::RedirectRefused { source: Refusal::PlainHttp, .. }
    ));
    assert_eq!(token.seen().len(), 0);
}

#[test]
fn a_ca_file_without_a_certificate_is_misuse() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    for content in ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&path, content).unwrap();
        let error = Registry::new(RegistryOptions { ca_file: Some(path.clone()), ..options() }).unwrap_err();
        assert!(matches!(error, RegistryError::CaFile { .. }) && error.is_misuse(), "{content}: {error}");
    }
    let missing = RegistryOptions { ca_file: Some("/nonexistent/ca.pem".into()), ..options() };
    assert!(matches!(Registry::new(missing), Err(RegistryError::CaFile { .. })));
}
