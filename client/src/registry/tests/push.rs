//! Pushing, and lists of tags.

use std::sync::{Arc, OnceLock};

use plimsoll_core::oci::Descriptor;

use super::*;
use crate::registry::Removal;

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
async fn pieces_are_sent_where_the_registry_wants_them_and_elsewhere_without_credentials() {
    let storage = Server::start(|seen| match seen.method.as_str() {
        "PATCH" => answer(202, &[("location", "/next")], b""),
        _ => answer(201, &[], b""),
    });
    let to = format!("http://{}/first?state=1", storage.host());
    let server = Server::start(move |seen| match seen.header("authorization") {
        None => answer(401, &[("www-authenticate", "Basic realm=x")], b""),
        _ => answer(202, &[("location", &to)], b""),
    });
    let client = with_login();
    let mut upload = client.start_upload(&at(&server)).await.unwrap();
    client.upload_piece(&mut upload, "con".into()).await.unwrap();
    client.upload_piece(&mut upload, "tent".into()).await.unwrap();
    client.finish_upload(upload, &Digest::of(b"content")).await.unwrap();
    assert_eq!(storage.lines()[..2], ["PATCH /first?state=1", "PATCH /next"]);
    assert_eq!(storage.seen()[0].header("content-range"), Some("0-2"));
    assert!(storage.seen().iter().all(|seen| seen.header("authorization").is_none()));
    // Nor where that leads back to the registry, whose own address only its answers know.
    let home = Arc::new(OnceLock::<String>::new());
    let known = home.clone();
    let storage = Server::start(move |_| {
        let back = format!("http://{}/v2/acme/other/manifests/v1", known.get().unwrap());
        answer(202, &[("location", &back)], b"")
    });
    let to = format!("http://{}/first", storage.host());
    let server = Server::start(move |seen| match (seen.method.as_str(), seen.header("authorization")) {
        ("POST", None) => answer(401, &[("www-authenticate", "Basic realm=x")], b""),
        ("POST", _) => answer(202, &[("location", &to)], b""),
        _ => answer(401, &[("www-authenticate", "Basic realm=x")], b""),
    });
    home.set(server.host()).unwrap();
    let client = with_login();
    let mut upload = client.start_upload(&at(&server)).await.unwrap();
    client.upload_piece(&mut upload, "con".into()).await.unwrap();
    assert!(client.upload_piece(&mut upload, "tent".into()).await.is_err());
    let seen = server.seen();
    let back: Vec<_> = seen.iter().filter(|seen| seen.method == "PATCH").collect();
    assert!(back.len() == 1 && back[0].header("authorization").is_none());

    let digest = Digest::of(b"content");
    let same = Server::start(move |seen| match seen.method.as_str() {
        "POST" => answer(202, &[("location", "/u/1")], b""),
        "PATCH" => answer(202, &[("location", "/u/2?state=b")], b""),
        _ => answer(201, &[("docker-content-digest", &digest.to_string())], b""),
    });
    let mut upload = client.start_upload(&at(&same)).await.unwrap();
    for piece in ["con", "tent"] {
        client.upload_piece(&mut upload, piece.into()).await.unwrap();
    }
    client.finish_upload(upload, &digest).await.unwrap();
    let put = format!("PUT /u/2?state=b&digest=sha256%3A{}", digest.hex());
    assert_eq!(same.lines()[1..], ["PATCH /u/1".to_owned(), "PATCH /u/2?state=b".to_owned(), put]);
    assert_eq!(same.seen()[2].header("content-range"), Some("3-6"));
    let mut upload = client.start_upload(&at(&same)).await.unwrap();
    client.upload_piece(&mut upload, "other".into()).await.unwrap();
    let other = client.finish_upload(upload, &Digest::of(b"other")).await;
    assert!(matches!(other, Err(RegistryError::DigestMismatch { .. })), "{other:?}");
}

/// T71: what comes piece by piece is hashed as it comes, and is never longer than it is said to be.
#[tokio::test]
async fn a_blob_that_is_given_on_piece_by_piece_is_checked_all_the_same() {
    let server = Server::start(|seen| match seen.target.rsplit('/').next().unwrap() {
        target if target == Digest::of(b"absent").to_string() => answer(404, &[], b""),
        _ => answer(200, &[], b"content"),
    });
    let (client, repo) = (client(), at(&server));
    let mut got = Vec::new();
    let right = Descriptor::of("x/y", b"content");
    let found = client.blob_into(&repo, &right, |piece| {
        got.extend_from_slice(piece);
        true
    });
    assert!(found.await.unwrap());
    assert_eq!(got, b"content");
    let absent = Descriptor::of("x/y", b"absent");
    assert!(!client.blob_into(&repo, &absent, |_| true).await.unwrap());
    assert!(!client.has_blob(&repo, &absent.digest).await.unwrap());
    assert!(client.has_blob(&repo, &right.digest).await.unwrap());
    let other = client.blob_into(&repo, &Descriptor::of("x/y", b"tnetnoc"), |_| true).await;
    assert!(matches!(other, Err(RegistryError::DigestMismatch { .. })), "{other:?}");
    let shorter = client.blob_into(&repo, &Descriptor { size: 6, ..right.clone() }, |_| true).await;
    assert!(matches!(shorter, Err(RegistryError::TooLarge { cap: 6, .. })), "{shorter:?}");
    let longer = client.blob_into(&repo, &Descriptor { size: 8, ..right }, |_| true).await;
    assert!(matches!(longer, Err(RegistryError::SizeMismatch { expected: 8, got: 7, .. })), "{longer:?}");
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

#[tokio::test]
async fn who_may_push_and_not_look_uploads_all_the_same() {
    for status in [401, 403] {
        let server = Server::start(move |seen| match (seen.header("authorization"), seen.method.as_str()) {
            (None, _) => answer(401, &[("www-authenticate", "Basic realm=x")], b""),
            (_, "HEAD") => answer(status, &[("www-authenticate", "Basic realm=x")], b""),
            (_, "POST") => answer(202, &[("location", "/upload/1")], b""),
            _ => answer(201, &[], b""),
        });
        with_login().put_blob(&at(&server), "content".into()).await.unwrap();
        assert!(server.lines().iter().any(|line| line.starts_with("PUT /upload/1")), "{:?}", server.lines());
        let server = Server::start(move |seen| match seen.header("authorization") {
            None => answer(401, &[("www-authenticate", "Basic realm=x")], b""),
            _ => answer(status, &[("www-authenticate", "Basic realm=x")], b""),
        });
        let error = with_login().put_blob(&at(&server), "content".into()).await.unwrap_err();
        assert!(error.is_auth(), "{error}");
    }
}

#[tokio::test]
async fn a_manifest_is_removed_with_a_right_of_its_own() {
    let digest = Digest::of(b"manifest");
    let server = Server::start(|seen| match seen.target.as_str() {
        target if target.starts_with("/token") => answer(200, &[], br#"{"token":"t"}"#),
        _ if seen.header("authorization").is_none() => {
            let realm = format!("Bearer realm=\"http://{}/token\"", seen.header("host").unwrap());
            answer(401, &[("www-authenticate", &realm)], b"")
        }
        _ => answer(202, &[], b""),
    });
    assert_eq!(client().delete_manifest(&at(&server), &digest).await.unwrap(), Removal::Removed);
    let lines = server.lines();
    assert!(lines[1].contains("scope=repository%3Aacme%2Fapp%3Adelete"), "{lines:?}");
    assert_eq!(lines[2], format!("DELETE /v2/acme/app/manifests/{digest}"));
    for (status, removal) in [
        (200, Removal::Removed),
        (204, Removal::Removed),
        (404, Removal::Absent),
        (405, Removal::Unsupported),
        (400, Removal::Unsupported),
        (501, Removal::Unsupported),
    ] {
        let server = Server::start(move |_| answer(status, &[], b""));
        assert_eq!(client().delete_manifest(&at(&server), &digest).await.unwrap(), removal, "{status}");
    }
    for (status, auth) in [(403, true), (500, false), (307, false)] {
        let server = Server::start(move |_| answer(status, &[("location", "/x")], b""));
        let error = client().delete_manifest(&at(&server), &digest).await.unwrap_err();
        assert_eq!(error.is_auth(), auth, "{error}");
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_page_of_tags_may_be_read_alone_and_in_part() {
    let server = Server::start(|seen| match seen.target.as_str() {
        "/v2/acme/app/tags/list?n=1000" => answer(
            200,
            &[("link", "</v2/acme/app/tags/list?last=b>; rel=next")],
            br#"{"name":"acme/app","tags":["a","b"]}"#,
        ),
        "/v2/acme/app/tags/list?last=b" => answer(200, &[], br#"{"tags":["c"]}"#),
        _ => answer(404, &[], b""),
    });
    let (client, repo) = (client(), at(&server));
    let first = client.tags_page(&repo, None, 1000).await.unwrap();
    assert_eq!((first.tags.as_slice(), first.cut), (&["a".to_owned(), "b".to_owned()][..], false));
    let second = client.tags_page(&repo, first.next.as_ref(), 1000).await.unwrap();
    assert_eq!((second.tags.as_slice(), second.next), (&["c".to_owned()][..], None));
    // `{"name":"acme/app","tags":["a","b"]}` has its quotes at 27, 29, 31 and 33.
    for (cap, tags) in [(27, 0), (29, 0), (30, 1), (33, 1), (34, 2), (35, 2)] {
        let page = client.tags_page(&repo, None, cap).await.unwrap();
        assert_eq!((page.tags.len(), page.cut), (tags, true), "{cap}");
    }
    let error = client.tags_page(&repo, None, 20).await.unwrap_err();
    assert!(matches!(error, RegistryError::Malformed { .. }), "{error}");
    let elsewhere = RepositoryAddress { name: "acme/other".into(), ..repo };
    let error = client.tags_page(&elsewhere, first.next.as_ref(), 1000).await.unwrap_err();
    assert!(matches!(error, RegistryError::RedirectRefused { source: Refusal::OtherList, .. }), "{error}");
}

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

/// T42.
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
