//! Who gets credentials, and who is believed: redirects, logins and TLS.

use super::*;

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

/// T72: a 401 or 404 by someone else says nothing about the registry, and nobody else gets credentials.
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

/// T75.
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
    // Basic is for pushing too.
    client.put_manifest(&at(&server), "v1", media_type::MANIFEST, MANIFEST.into()).await.unwrap_err();
    assert_eq!(client.requests(), 4);
}

/// T72: a token for pulling is not shown where pushing is meant.
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

/// T72: a token is shown to no other repository and no other host.
#[tokio::test]
async fn a_token_is_for_one_repository_at_one_host() {
    let start = || token_registry(|_| answer(200, &[], br#"{"token":"good","expires_in":300}"#));
    let (first, second) = (start(), start());
    let client = client();
    let other = RepositoryAddress { name: "acme/other".into(), ..at(&first) };
    for place in [&at(&first), &other, &at(&second), &at(&first)] {
        client.manifest(place, "v1", CAP, None).await.unwrap();
    }
    for (server, fresh) in [(&first, 2), (&second, 1)] {
        let shown =
            |seen: &&Seen| seen.target.contains("/manifests/") && seen.header("authorization").is_none();
        assert_eq!(server.seen().iter().filter(shown).count(), fresh, "each scope begins without a token");
    }
    let asked: Vec<_> = first.lines().into_iter().filter(|line| line.contains("/token")).collect();
    let scopes = ["app", "other"]
        .map(|name| format!("GET /token?service=s+v&scope=repository%3Aacme%2F{name}%3Apull"));
    assert_eq!(asked, scopes);
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

/// T40, T47.
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
    let realm = format!("Bearer realm=\"http://localhost:{}/token\"", foreign.port());
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

/// T73.
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

// --- TLS

pub(super) fn with_ca(dir: &tempfile::TempDir, id: &Identity) -> RegistryOptions {
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
    by_file.manifest(&repo(format!("localhost:{}", server.port())), "v1", CAP, None).await.unwrap();

    let host_dir = dir.path().join("certs.d").join(server.host());
    std::fs::create_dir_all(&host_dir).unwrap();
    std::fs::write(host_dir.join("ca.crt"), &id.ca_pem).unwrap();
    let by_host = RegistryOptions { certs_dir: dir.path().join("certs.d"), ..options() };
    let by_host = Registry::new(by_host).unwrap();
    by_host.manifest(&at(&server), "v1", CAP, None).await.unwrap();
}

/// T76.
#[tokio::test]
async fn a_ca_that_is_not_configured_is_not_trusted() {
    let (id, dir) = (Identity::new(), tempfile::tempdir().unwrap());
    let server = Server::start_tls(&id, |_| answer(200, &[TYPE], MANIFEST));
    let other = Registry::new(with_ca(&dir, &Identity::new())).unwrap();
    let error = other.manifest(&at(&server), "v1", CAP, None).await.unwrap_err();
    assert!(matches!(error, RegistryError::Tls { .. }) && error.is_unavailable(), "{error:?}");
    assert_eq!(server.seen().len(), 0);
}

/// T76: also by whoever has a clone, and also if the file with the CA has the name that it had.
#[tokio::test]
async fn how_registries_are_reached_can_change_while_they_are_used() {
    let (id, dir) = (Identity::new(), tempfile::tempdir().unwrap());
    let server = Server::start_tls(&id, |_| answer(200, &[TYPE], MANIFEST));
    let client = Registry::new(with_ca(&dir, &Identity::new())).unwrap();
    let clone = client.clone();
    clone.manifest(&at(&server), "v1", CAP, None).await.unwrap_err();
    let before = client.requests();
    client.replace(&Registry::new(with_ca(&dir, &id)).unwrap());
    clone.manifest(&at(&server), "v1", CAP, None).await.unwrap();
    assert_eq!(clone.requests(), before + 1);
    clone.replace(&Registry::new(with_ca(&dir, &Identity::new())).unwrap());
    let error = client.manifest(&at(&server), "v1", CAP, None).await.unwrap_err();
    assert!(matches!(error, RegistryError::Tls { .. }), "{error:?}");
    assert_eq!(server.seen().len(), 1);
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
    // Opened, it would wait for somebody to write.
    std::fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let error = Registry::new(RegistryOptions { ca_file: Some(path), ..options() }).unwrap_err();
    assert!(crate::verify::chain(&error).ends_with("it is not a file"), "{error}");
    let missing = RegistryOptions { ca_file: Some("/nonexistent/ca.pem".into()), ..options() };
    assert!(matches!(Registry::new(missing), Err(RegistryError::CaFile { .. })));
}
