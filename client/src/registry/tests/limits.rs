//! Every fetch is bounded in bytes, time and rate, from the look-up of the name to the last trailer.

use std::{io, net::TcpListener, sync::Arc};

use http::StatusCode;
use url::Url;

use super::trust::with_ca;
use super::*;
use crate::registry::connect::Network;

/// As much patience as a test has.
fn impatient() -> RegistryOptions {
    let (short, shorter) = (Duration::from_millis(400), Duration::from_millis(150));
    RegistryOptions { connect_time: short, rate_window: shorter, ..options() }
}

/// What a manifest request gets from a server that always replies so, with little patience.
async fn hurried(reply: impl Fn() -> Reply + Send + Sync + 'static) -> (RegistryError, usize) {
    let server = Server::start(move |_| reply());
    let client = Registry::new(impatient()).unwrap();
    let error = client.manifest(&at(&server), "v1", CAP, None).await.unwrap_err();
    (error, server.seen().len())
}

fn raw(text: &str) -> Reply {
    Reply::Raw(text.as_bytes().to_vec())
}

/// T48: a status line or a header that comes byte by byte, of the answer or of one before it.
#[tokio::test]
async fn headers_that_drip_are_given_up() {
    for begun in
        ["HTTP/1.1 200 ", "HTTP/1.1 200 x\r\nx-", "HTTP/1.1 200 x\r\nx: ", "HTTP/1.1 103 x\r\nlink: "]
    {
        let (error, asked) = hurried(move || Reply::Drip(begun.as_bytes().to_vec())).await;
        assert!(matches!(error, RegistryError::SlowHead { .. }), "{begun:?}: {error}");
        assert!(error.is_unavailable());
        assert_eq!(asked, 1, "it is not tried again");
    }
}

/// T48: on a connection that was used before, too.
#[tokio::test]
async fn headers_that_drip_on_a_kept_connection_are_given_up() {
    let server = Server::start(|seen| match seen.target.ends_with("first") {
        true => Reply::Keep(kept(&[TYPE], MANIFEST)),
        false => Reply::Drip(b"HTTP/1.1 200 x\r\nx-".to_vec()),
    });
    let client = Registry::new(impatient()).unwrap();
    client.manifest(&at(&server), "first", CAP, None).await.unwrap();
    let error = client.manifest(&at(&server), "second", CAP, None).await.unwrap_err();
    assert!(matches!(error, RegistryError::SlowHead { .. }), "{error}");
    assert_eq!(server.seen()[1].connection, 0);
}

/// T48: neither a name that is never found nor a handshake that never ends takes longer than a connection may.
#[tokio::test]
async fn a_connection_that_is_not_made_in_time_is_given_up() {
    let timed_out = |error: &RegistryError| match error {
        RegistryError::Connect { source, .. } => source.kind() == io::ErrorKind::TimedOut,
        _ => false,
    };
    let dir = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let options =
        RegistryOptions { connect_time: impatient().connect_time, ..with_ca(&dir, &Identity::new()) };
    let repository = repo(silent.local_addr().unwrap().to_string());
    let error = Registry::new(options).unwrap().manifest(&repository, "v1", CAP, None).await.unwrap_err();
    assert!(timed_out(&error) && error.is_unavailable(), "{error:?}");

    let lost = Network { lookup: Arc::new(|_| Box::pin(std::future::pending())), ..Network::default() };
    let client = Registry::on(lost, impatient()).unwrap();
    let error = client.manifest(&repo("r.test".into()), "v1", CAP, None).await.unwrap_err();
    assert!(timed_out(&error) && error.is_unavailable(), "{error:?}");
}

/// T47, T48: interim answers are passed over, but not for ever.
#[tokio::test]
async fn a_flood_of_interim_answers_is_cut_off() {
    for interim in ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 x\r\nlink: </x>; rel=preload\r\n\r\n"] {
        let (error, asked) =
            hurried(move || Reply::Endless(Vec::new(), interim.repeat(100).into_bytes())).await;
        assert!(matches!(error, RegistryError::Malformed { .. }) && error.is_unavailable(), "{error}");
        assert_eq!(asked, 1);

        let whole = [interim.as_bytes(), interim.as_bytes(), &kept(&[TYPE], MANIFEST)].concat();
        let found = manifest(move || Reply::Raw(whole.clone())).await.unwrap();
        assert!(matches!(found, ManifestAnswer::Found(_)));
    }
}

/// T40: nothing is ever unpacked, so no bomb goes off.
#[tokio::test]
async fn a_packed_answer_is_refused_unread() {
    for header in [
        ("content-encoding", "gzip"),
        ("content-encoding", "identity, gzip"),
        ("content-encoding", "zstd"),
        ("transfer-encoding", "gzip, chunked"),
        ("transfer-encoding", "gzip"),
    ] {
        let endless = move || Reply::Endless(head(200, &[TYPE, header]), vec![0x1f; 1 << 16]);
        let error = manifest(endless).await.unwrap_err();
        assert!(matches!(error, RegistryError::ContentEncoding { .. }), "{header:?}: {error}");
        assert!(error.is_untrusted());
        let error = blob(endless).await.unwrap_err();
        assert!(matches!(error, RegistryError::ContentEncoding { .. }), "{header:?}: {error}");
    }
    let twice = head(200, &[TYPE, ("content-encoding", "identity"), ("content-encoding", "gzip")]);
    let error = manifest(move || Reply::Raw(twice.clone())).await.unwrap_err();
    assert!(matches!(error, RegistryError::ContentEncoding { .. }), "{error}");
}

/// T40: what stands around the body is bounded as well.
#[tokio::test]
async fn endless_framing_ends() {
    let chunked = || head(200, &[TYPE, ("transfer-encoding", "chunked")]);
    let many: String = (0..200).map(|n| format!("x-{n}: y\r\n")).collect();
    for (what, first, then) in [
        ("a chunk extension", [&chunked()[..], b"1;x="].concat(), vec![b'x'; 1 << 16]),
        ("chunk extensions", chunked(), [&b"1;"[..], &[b'x'; 4096], b"\r\ny\r\n"].concat()),
        ("trailers", [&chunked()[..], b"0\r\n"].concat(), b"x: y\r\n".repeat(1000)),
        (
            "a chunk larger than numbers go",
            [&chunked()[..], b"fffffffffffffffff\r\n"].concat(),
            b"x".repeat(99),
        ),
        ("a header's value", b"HTTP/1.1 200 x\r\nx: ".to_vec(), vec![b'x'; 1 << 16]),
        ("a status line", b"HTTP/1.1 200 ".to_vec(), vec![b'x'; 1 << 16]),
        ("two hundred headers", format!("HTTP/1.1 200 x\r\n{many}").into_bytes(), b"\r\n".to_vec()),
    ] {
        let server = Server::start(move |_| Reply::Endless(first.clone(), then.clone()));
        let error = client().manifest(&at(&server), "v1", CAP, None).await.unwrap_err();
        assert!(matches!(error, RegistryError::Interrupted { .. }), "{what}: {error:?}");
        assert!(error.is_unavailable(), "{what}");
    }
}

/// T48: bytes that are no content are no progress: a chunk's size may have as many zeros in front as its sender likes.
#[tokio::test]
async fn bytes_without_content_are_too_slow() {
    let head = head(200, &[TYPE, ("transfer-encoding", "chunked")]);
    let (error, asked) = hurried(move || Reply::Endless(head.clone(), vec![b'0'; 1 << 20])).await;
    assert!(matches!(error, RegistryError::TooSlow { bytes: 0, .. }), "{error:?}");
    assert!(error.is_unavailable());
    assert_eq!(asked, 1);
}

/// T40: lengths that contradict each other or the body.
#[tokio::test]
async fn a_length_that_lies_gains_nothing() {
    for lengths in ["content-length: 7\r\ncontent-length: 8", "content-length: -7", "content-length: 7, 8"] {
        let text = format!("HTTP/1.1 200 x\r\n{lengths}\r\n\r\ncontent");
        let error = blob(move || raw(&text)).await.unwrap_err();
        assert!(matches!(error, RegistryError::Interrupted { .. }), "{lengths}: {error}");
    }
    // Without a length the body ends with the connection, and the size says whether it was whole.
    let short = blob(|| raw("HTTP/1.1 200 x\r\nconnection: close\r\n\r\nconten")).await.unwrap_err();
    assert!(matches!(short, RegistryError::SizeMismatch { expected: 7, got: 6, .. }), "{short}");
    assert!(blob(|| raw("HTTP/1.1 200 x\r\nconnection: close\r\n\r\ncontent")).await.is_ok());
    let cut = manifest(|| raw(&format!("HTTP/1.1 200 x\r\ncontent-type: {}\r\n\r\n{{\"a\":", TYPE.1))).await;
    assert!(matches!(cut, Err(RegistryError::Manifest { .. })), "{cut:?}");
    // A chunked body with a length besides: the chunks count, in full.
    let both =
        "HTTP/1.1 200 x\r\ncontent-length: 7\r\ntransfer-encoding: chunked\r\n\r\n8\r\ncontent!\r\n0\r\n\r\n";
    let both = blob(move || raw(both)).await.unwrap_err();
    assert!(
        matches!(both, RegistryError::TooLarge { cap: 7, .. } | RegistryError::Interrupted { .. }),
        "{both}"
    );
}

/// An answer with its true length on a connection that stays open.
fn kept(headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 200 x\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    [text.as_bytes(), b"\r\n", body].concat()
}

/// T40, T71: bytes after an answer are no answer to the next request.
#[tokio::test]
async fn what_follows_an_answer_does_not_poison_the_next() {
    let poison = br#"{"schemaVersion":2,"config":{},"layers":[],"poison":true}"#;
    let honest = Digest::of(MANIFEST);
    for next in ["v2", "v3", "v4", "v5", "v6"] {
        let server = Server::start(move |seen| match seen.target.ends_with("/v1") {
            true => Reply::Keep([kept(&[TYPE], MANIFEST), kept(&[TYPE], poison)].concat()),
            false => Reply::Keep(kept(&[TYPE], MANIFEST)),
        });
        let client = client();
        client.manifest(&at(&server), "v1", CAP, None).await.unwrap();
        match client.manifest(&at(&server), next, CAP, None).await {
            Ok(ManifestAnswer::Found(found)) => assert_eq!(found.digest, honest),
            Err(error) => assert!(error.is_unavailable(), "{error}"),
            Ok(other) => panic!("{other:?}"),
        }
    }
}

/// T40: a connection whose answer was refused is not used again.
#[tokio::test]
async fn a_refused_answer_costs_its_connection() {
    for refused in [
        kept(&[TYPE, ("content-encoding", "gzip")], &[0; 100_000]),
        kept(&[TYPE], &vec![b' '; (1 << 20) + 1]),
        kept(&[("content-type", "text/html")], &[b'x'; 100_000]),
        b"HTTP/1.1 503 x\r\ncontent-length: 1000000\r\n\r\n".to_vec(),
    ] {
        let server = Server::start(move |seen| match seen.target.ends_with("/v1") {
            true => Reply::Keep(refused.clone()),
            false => Reply::Keep(kept(&[TYPE], MANIFEST)),
        });
        let client = client();
        client.manifest(&at(&server), "v1", CAP, None).await.unwrap_err();
        let found = client.manifest(&at(&server), "v2", CAP, None).await.unwrap();
        assert!(matches!(found, ManifestAnswer::Found(_)));
        let connections: Vec<_> = server.seen().iter().map(|seen| seen.connection).collect();
        assert_eq!(connections, [0, 1]);
    }
}

/// T47: whatever is asked, one status is the answer, and partial content is none.
#[tokio::test]
async fn only_the_exact_status_counts() {
    for status in [201, 202, 203, 204, 205, 206, 207, 226, 299, 300, 304, 305, 306, 402, 410, 451] {
        let reply = move || {
            answer(
                status,
                &[TYPE, ("content-range", "bytes 0-6/7"), ("docker-content-digest", "x")],
                b"content",
            )
        };
        let server = Server::start(move |_| reply());
        let (client, place) = (client(), at(&server));
        let file = Url::parse(&format!("http://{}/1.root.json", server.host())).unwrap();
        for error in [
            client.manifest(&place, "v1", CAP, None).await.unwrap_err(),
            client.head_manifest(&place, "v1").await.unwrap_err(),
            client.blob(&place, &Digest::of(b"content"), 7, true).await.unwrap_err(),
            client.tags(&place).await.unwrap_err(),
            client.file(&file, CAP).await.unwrap_err(),
        ] {
            let same = matches!(&error, RegistryError::Status { status: got, .. } if *got == status);
            assert!(same && error.is_unavailable(), "{status}: {error:?}");
        }
        assert_eq!(server.seen().len(), 5, "{status}: none is asked twice");
    }
    for status in [301, 302, 303, 307, 308] {
        let error = blob(move || answer(status, &[], b"content")).await.unwrap_err();
        assert!(matches!(error, RegistryError::Malformed { .. }), "{status}: {error}");
    }
    for text in [
        "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        "HTTP/1.1 099 x\r\n\r\n",
        "HTTP/9 200 x",
    ] {
        let error = blob(move || raw(text)).await.unwrap_err();
        assert!(error.is_unavailable(), "{text:?}: {error}");
    }
}

/// T45: a missing file is a 404 by the server itself, whatever page comes with it; and nothing else is.
#[tokio::test]
async fn only_a_404_of_its_own_says_that_a_file_is_missing() {
    let elsewhere = Server::start(|_| answer(404, &[], b""));
    let away = format!("http://{}/", elsewhere.host());
    let server = Server::start(move |seen| match seen.target.as_str() {
        "/1.root.json" => answer(404, &[("content-encoding", "gzip")], &[b'x'; 5000]),
        "/2.root.json" => Reply::Endless(head(404, &[]), vec![b'x'; 1 << 16]),
        "/3.root.json" => answer(302, &[("location", &away)], b""),
        _ => answer(200, &[], b"{}"),
    });
    let client = client();
    let file = async |name: &str| {
        client.file(&Url::parse(&format!("http://{}/{name}", server.host())).unwrap(), 1000).await
    };
    assert_eq!(file("1.root.json").await.unwrap(), None);
    assert_eq!(file("2.root.json").await.unwrap(), None);
    let error = file("3.root.json").await.unwrap_err();
    assert!(matches!(error, RegistryError::Status { status: StatusCode::NOT_FOUND, .. }), "{error}");
    assert!(error.is_unavailable());
    assert_eq!(file("4.root.json").await.unwrap().unwrap(), "{}");
    // Each asked for once, by GET and as a whole.
    let asked = ["GET /1.root.json", "GET /2.root.json", "GET /3.root.json", "GET /4.root.json"];
    assert_eq!(server.lines(), asked);
    assert!(server.seen().iter().all(|seen| seen.header("range").is_none()));
}

/// T42: of all that is fetched only a list of tags has pages.
#[tokio::test]
async fn links_are_not_followed() {
    let server = Server::start(|seen| {
        let link = format!("<{}>; rel=\"next\", </x>; rel=\"next\", </v2/>; rel=\"subject\"", seen.target);
        let body = if seen.target.contains("/manifests/") { MANIFEST } else { b"content" };
        answer(200, &[TYPE, ("link", &link), ("oci-subject", "sha256:00"), ("refresh", "0; url=/x")], body)
    });
    let (client, place) = (client(), at(&server));
    client.manifest(&place, "v1", CAP, None).await.unwrap();
    client.blob(&place, &Digest::of(b"content"), 7, true).await.unwrap();
    client.file(&Url::parse(&format!("http://{}/f", server.host())).unwrap(), CAP).await.unwrap();
    let blob = format!("GET /v2/acme/app/blobs/{}", Digest::of(b"content"));
    assert_eq!(server.lines(), ["GET /v2/acme/app/manifests/v1", &blob, "GET /f"]);
}

/// T43: a manifest over 4 MiB, a blob over its descriptor's size, announced or not.
#[tokio::test]
async fn what_is_larger_than_it_may_be_is_refused() {
    let limit = 4 << 20;
    let chunks = |body: &[u8]| {
        let head = head(200, &[TYPE, ("transfer-encoding", "chunked")]);
        Reply::Raw([&head[..], format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n0\r\n\r\n"].concat())
    };
    let large = [MANIFEST, &vec![b' '; limit]].concat();
    let just = [MANIFEST, &vec![b' '; limit - MANIFEST.len()]].concat();
    // A HEAD without a digest has the manifest fetched, under the limit for manifests.
    let server =
        Server::start(move |seen| match (seen.method.as_str(), seen.target.rsplit('/').next().unwrap()) {
            ("HEAD", _) => answer(200, &[TYPE], b""),
            (_, "announced") => answer(200, &[TYPE], &large),
            (_, "chunked") => chunks(&large),
            _ => chunks(&just),
        });
    for tag in ["announced", "chunked"] {
        let error = client().head_manifest(&at(&server), tag).await.unwrap_err();
        assert!(
            matches!(error, RegistryError::TooLarge { cap, .. } if cap == limit as u64),
            "{tag}: {error}"
        );
        assert!(error.is_untrusted());
    }
    client().head_manifest(&at(&server), "just").await.unwrap().unwrap();
    for error in [
        blob(move || chunks(b"content and more")).await.unwrap_err(),
        blob(|| answer(200, &[], b"content and more")).await.unwrap_err(),
    ] {
        assert!(matches!(error, RegistryError::TooLarge { cap: 7, .. }) && error.is_untrusted(), "{error}");
    }
}

/// T44: a million dots, wherever a server or a user can put them.
#[tokio::test]
async fn a_million_dots_are_refused_unparsed() {
    let dots = ".".repeat(1_000_000);
    let server = Server::start(|_| answer(200, &[TYPE], MANIFEST));
    let client = client();
    let error = client.manifest(&at(&server), &dots, CAP, None).await.unwrap_err();
    assert!(matches!(error, RegistryError::Argument { ref text, .. } if text.len() == 200), "{error}");
    for address in [
        RepositoryAddress { host: dots.clone(), name: "a".into() },
        RepositoryAddress { host: server.host(), name: format!("a/{dots}") },
        RepositoryAddress { host: server.host(), name: format!("a{}", "/a".repeat(500_000)) },
    ] {
        let error = client.manifest(&address, "v1", CAP, None).await.unwrap_err();
        assert!(matches!(error, RegistryError::Argument { .. }), "{}", error.to_string().len());
    }
    assert_eq!(client.requests(), 0);

    // As a token: too large for an answer; and the most that fits is a token like any other, never taken apart.
    for (length, refused) in [(1_000_000, true), (60_000, false)] {
        let token = ".".repeat(length);
        let server = Server::start(move |seen| {
            match (seen.target.starts_with("/token"), seen.header("authorization")) {
                (true, _) => answer(200, &[], format!("{{\"token\":\"{token}\"}}").as_bytes()),
                (_, Some(_)) => answer(200, &[TYPE], MANIFEST),
                _ => {
                    let realm = format!("Bearer realm=\"http://{}/token\"", seen.header("host").unwrap());
                    answer(401, &[("www-authenticate", &realm)], b"")
                }
            }
        });
        let got = super::client().manifest(&at(&server), "v1", CAP, None).await;
        match got {
            Err(error) => assert!(refused && matches!(error, RegistryError::TooLarge { .. }), "{error}"),
            Ok(_) => assert!(!refused),
        }
    }
    // As a realm, a service or a way to go: longer than headers may be, and as long as they may be.
    for (length, header) in
        [(1_000_000, "www-authenticate"), (60_000, "www-authenticate"), (60_000, "location")]
    {
        let dots = ".".repeat(length);
        let (status, value) = match header {
            "location" => (302, format!("/{dots}/{dots}").chars().take(length).collect()),
            _ => (
                401,
                format!("Bearer realm=\"https://r.io/{dots}\",service=\"{dots}\"")
                    .chars()
                    .take(length)
                    .collect::<String>(),
            ),
        };
        let error = blob(move || answer(status, &[(header, &value)], b"")).await.unwrap_err();
        match (length, header) {
            (1_000_000, _) => assert!(matches!(error, RegistryError::Interrupted { .. }), "{error}"),
            (_, "location") => {
                assert!(matches!(error, RegistryError::RedirectRefused { source: Refusal::TooMany, .. }));
            }
            _ => assert!(matches!(error, RegistryError::UnknownChallenge { .. }), "{error}"),
        }
        assert!(error.to_string().len() < 1000);
    }
}

/// T75: a chain of redirects, its last link silent, is under the one deadline of the call; a circle of two hosts ends.
#[tokio::test]
async fn a_chain_of_redirects_has_one_deadline() {
    let server = Server::start(|seen| match seen.target.as_str() {
        "/4" => Reply::Hang,
        "/1" | "/2" | "/3" => {
            let next = seen.target[1..].parse::<u32>().unwrap() + 1;
            answer(302, &[("location", &format!("/{next}"))], b"")
        }
        _ => answer(302, &[("location", "/1")], b""),
    });
    let options = RegistryOptions { deadline: Duration::from_millis(500), ..options() };
    let error = Registry::new(options).unwrap().manifest(&at(&server), "v1", CAP, None).await.unwrap_err();
    assert!(matches!(error, RegistryError::Timeout { .. }) && error.is_unavailable(), "{error}");
    assert_eq!(server.lines()[1..], ["GET /1", "GET /2", "GET /3", "GET /4"]);

    let back = Arc::new(std::sync::OnceLock::<String>::new());
    let to = back.clone();
    let other = Server::start(move |_| answer(302, &[("location", to.get().unwrap())], b""));
    let there = format!("http://{}/", other.host());
    let server = Server::start(move |_| answer(302, &[("location", &there)], b""));
    back.set(format!("http://{}/", server.host())).unwrap();
    let error = client().manifest(&at(&server), "v1", CAP, None).await.unwrap_err();
    assert!(matches!(error, RegistryError::RedirectRefused { source: Refusal::TooMany, .. }), "{error}");
    assert_eq!((server.seen().len(), other.seen().len()), (3, 3));
}
