//! The fixtures themselves: each server and peer is shown working for real before other tests lean on it.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::{fs, io, process::Command, time::Duration};

use plimsoll_tests::{
    docker_registry::{Access, Registry},
    http,
    image::Image,
    middle::{Answer, Effect, Middle, Rule},
    peers, process,
    skopeo::{self, Side},
    tls::Authority,
    token_server::{TokenServer, User},
    tough_peer,
};

const REPOSITORY: &str = "acme/net-monitor";

/// Pushes an image, and copies it back out: the digests must be the same.
fn push_and_pull(host: &str, side: &Side) -> Image {
    let image = Image::busybox("push and pull\n");
    let reference = format!("{host}/{REPOSITORY}:v1");
    image.push(&reference, side).ok();
    pull(&reference, side, &image);
    image
}

fn pull(reference: &str, side: &Side, image: &Image) {
    let directory = tempfile::tempdir().unwrap();
    let destination = format!("dir:{}", directory.path().display());
    skopeo::copy(&format!("docker://{reference}"), side, &destination, &Side::plain()).ok();
    let manifest = fs::read(directory.path().join("manifest.json")).unwrap();
    assert_eq!(plimsoll_core::oci::Digest::of(&manifest), image.digest());
}

#[test]
fn an_image_goes_to_an_open_registry_and_back() {
    let registry = Registry::open();
    let image = push_and_pull(&registry.address(), &Side::plain());

    let url = format!("{}/v2/{REPOSITORY}/manifests/v1", registry.url());
    let answer = http::request("GET", &url, &[("accept", image.media_type())], b"").unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("docker-content-digest"), Some(image.digest().to_string().as_str()));
    assert_eq!(answer.body.len() as u64, image.size());
}

#[test]
fn the_pushed_program_is_a_real_one() {
    let image = Image::busybox("hello from a container\n");
    let directory = tempfile::tempdir().unwrap();
    let blobs = image.path().join("blobs/sha256");
    for blob in fs::read_dir(blobs).unwrap() {
        // Only the layers are archives.
        let blob = blob.unwrap().path();
        process::run(Command::new("tar").arg("-xf").arg(blob).arg("-C").arg(directory.path()), b"");
    }
    let cat = directory.path().join("bin/cat");
    let motd = directory.path().join("etc/motd");
    assert_eq!(process::run(Command::new(cat).arg(motd), b"").ok().stdout, "hello from a container\n");
}

#[test]
fn an_index_keeps_its_digest_and_both_platforms() {
    let registry = Registry::open();
    let image = Image::busybox_index("two platforms\n");
    let reference = format!("{}/{REPOSITORY}:v1", registry.address());
    image.push(&reference, &Side::plain()).ok();
    let index = skopeo::inspect_raw(&reference, &Side::plain()).ok();
    assert_eq!(plimsoll_core::oci::Digest::of(index.stdout.as_bytes()), image.digest());
    assert_eq!(index.json()["manifests"].as_array().unwrap().len(), 2);
}

#[test]
fn what_a_registry_holds_survives_an_outage() {
    let mut registry = Registry::open();
    let image = push_and_pull(&registry.address(), &Side::plain());
    let address = registry.address();
    registry.stop();
    assert_eq!(
        http::get(&format!("http://{address}/v2/")).unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
    registry.start_again();
    assert_eq!(registry.address(), address);
    pull(&format!("{address}/{REPOSITORY}:v1"), &Side::plain(), &image);
}

#[test]
fn a_registry_with_htpasswd_lets_only_its_user_in() {
    let registry = Registry::start(Access::Htpasswd { user: "amy", password: "s3cret" });
    push_and_pull(&registry.address(), &Side::plain().user("amy", "s3cret"));

    let reference = format!("{}/{REPOSITORY}:v2", registry.address());
    for side in [Side::plain(), Side::plain().user("amy", "wrong"), Side::plain().user("bob", "s3cret")] {
        let refused = Image::busybox("no").push(&reference, &side);
        assert_ne!(refused.code, 0);
        assert!(refused.stderr.contains("authentication required"), "{}", refused.stderr);
    }
}

#[test]
fn a_registry_with_tokens_grants_each_user_what_is_theirs() {
    let tokens = TokenServer::start([
        ("amy", User::new("a").may(&["pull", "push"], "acme/*")),
        ("bob", User::new("b").may(&["pull"], REPOSITORY)),
    ]);
    let registry = Registry::start(Access::Token(&tokens));
    let reference = format!("{}/{REPOSITORY}:v1", registry.address());
    let image = push_and_pull(&registry.address(), &Side::plain().user("amy", "a"));
    assert!(tokens.requests() > 0);

    let reader = Side::plain().user("bob", "b");
    pull(&reference, &reader, &image);
    let refused = Image::busybox("bob was here").push(&reference, &reader);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("requested access to the resource is denied"), "{}", refused.stderr);
    pull(&reference, &reader, &image);

    for stranger in [Side::plain(), Side::plain().user("bob", "a"), Side::plain().user("eve", "")] {
        assert_ne!(skopeo::inspect_raw(&reference, &stranger).code, 0);
    }
}

#[test]
fn a_registry_with_a_private_ca_is_trusted_by_those_who_know_the_ca() {
    let authority = Authority::new();
    let registry = Registry::start_tls(Access::Htpasswd { user: "amy", password: "s3cret" }, &authority);
    push_and_pull(&registry.address(), &Side::plain().user("amy", "s3cret").tls(&authority.ca_directory()));

    let other = Authority::new();
    let stranger = Side::plain().user("amy", "s3cret").tls(&other.ca_directory());
    let refused = skopeo::inspect_raw(&format!("{}/{REPOSITORY}:v1", registry.address()), &stranger);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("certificate signed by unknown authority"), "{}", refused.stderr);
}

#[test]
fn the_middle_passes_pushes_and_pulls_and_tells_what_it_saw() {
    let registry = Registry::open();
    let middle = Middle::start(&registry.address());
    let image = push_and_pull(&middle.address(), &Side::plain());
    let log = middle.take_log();
    let manifest = format!("/v2/{REPOSITORY}/manifests/v1");
    let put = log.iter().find(|entry| entry.method == "PUT" && entry.path == manifest).unwrap();
    assert_eq!((put.status, put.received), (201, image.size()));
    let get = log.iter().find(|entry| entry.method == "GET" && entry.path == manifest).unwrap();
    assert_eq!((get.status, get.sent), (200, image.size()));
    assert_eq!(middle.recorded(&manifest)[0].body.len() as u64, image.size());
    assert!(middle.log().is_empty());
}

/// A registry, a proxy in front of it, and the path of a manifest in it.
fn lying_middle() -> (Registry, Middle, String) {
    let registry = Registry::open();
    let middle = Middle::start(&registry.address());
    let path = format!("/v2/{REPOSITORY}/manifests/v1");
    Image::busybox("one").push(&format!("{}/{REPOSITORY}:v1", registry.address()), &Side::plain()).ok();
    (registry, middle, path)
}

fn get(middle: &Middle, path: &str, etag: Option<&str>) -> io::Result<http::Response> {
    let mut headers = vec![("accept", "application/vnd.oci.image.manifest.v1+json")];
    headers.extend(etag.map(|etag| ("if-none-match", etag)));
    http::request("GET", &format!("{}{path}", middle.url()), &headers, b"")
}

#[test]
fn the_middle_freezes_and_replays_a_tag() {
    let (registry, middle, path) = lying_middle();
    let rule = Rule::new("GET HEAD", &path);
    let first = get(&middle, &path, None).unwrap();
    middle.set(rule.clone(), Effect::Freeze);
    Image::busybox("two").push(&format!("{}/{REPOSITORY}:v1", registry.address()), &Side::plain()).ok();
    assert_eq!(get(&middle, &path, None).unwrap().body, first.body);
    let etag = first.header("etag").unwrap();
    assert_eq!(get(&middle, &path, Some(etag)).unwrap().status, 304);

    middle.clear();
    let second = get(&middle, &path, Some(etag)).unwrap();
    assert_eq!(second.status, 200);
    assert_ne!(second.body, first.body);

    let recorded = middle.recorded(&path);
    assert_eq!(recorded.len(), 2);
    middle.set(rule, Effect::Answer(recorded[0].clone()));
    assert_eq!(get(&middle, &path, None).unwrap().body, first.body);
}

#[test]
fn the_middle_refuses_as_often_as_it_is_told() {
    let (_registry, middle, path) = lying_middle();
    for status in [401, 403, 404, 429, 500] {
        middle.set(Rule::new("*", &path).times(1), Effect::Status(status));
        assert_eq!(get(&middle, &path, None).unwrap().status, status);
        assert_eq!(get(&middle, &path, None).unwrap().status, 200);
    }
    let busy = Answer::status(429).header("retry-after", "7").body("later");
    middle.set(Rule::new("GET", "/manifests/"), Effect::Answer(busy));
    let answer = get(&middle, &path, None).unwrap();
    assert_eq!(
        (answer.status, answer.header("retry-after"), answer.text().as_str()),
        (429, Some("7"), "later")
    );
    middle.set(Rule::new("GET", &path), Effect::Pass);
    assert_eq!(get(&middle, &path, None).unwrap().status, 200);
}

#[test]
fn the_middle_garbles_cuts_and_drips_bodies() {
    let (_registry, middle, path) = lying_middle();
    let rule = Rule::new("GET", &path).times(1);
    let honest = get(&middle, &path, None).unwrap();

    middle.set(rule.clone(), Effect::WrongBytes);
    let wrong = get(&middle, &path, None).unwrap();
    assert_eq!(wrong.headers.len(), honest.headers.len());
    assert_eq!(wrong.body.len(), honest.body.len());
    assert_ne!(wrong.body, honest.body);

    middle.set(rule.clone(), Effect::edit(|answer| answer.body = "{}".into()));
    assert_eq!(get(&middle, &path, None).unwrap().text(), "{}");

    middle.set(rule.clone(), Effect::Truncate(10));
    let cut = get(&middle, &path, None).unwrap();
    assert_eq!(cut.header("content-length"), honest.header("content-length"));
    assert_eq!(cut.body, honest.body[..10]);

    middle.set(rule, Effect::Drip(Duration::from_millis(1)));
    let started = std::time::Instant::now();
    assert_eq!(get(&middle, &path, None).unwrap().body, honest.body);
    assert!(started.elapsed() >= Duration::from_millis(honest.body.len() as u64));
}

#[test]
fn the_middle_sends_bodies_without_end() {
    let (_registry, middle, path) = lying_middle();
    middle.set(Rule::new("GET", &path), Effect::Endless);
    let answer = get(&middle, &path, None).unwrap();
    assert_eq!(answer.header("content-length"), None);
    // As much as our own client reads before it has had enough.
    assert!(answer.body.len() > 60 << 20);
}

#[test]
fn the_middle_resets_before_or_after_the_registry_has_done_its_work() {
    let (registry, middle, path) = lying_middle();
    middle.set(Rule::new("GET", &path).times(1), Effect::Reset);
    assert_eq!(get(&middle, &path, None).unwrap_err().kind(), io::ErrorKind::ConnectionReset);

    let manifest = get(&middle, &path, None).unwrap().body;
    middle.set(Rule::new("PUT", "/manifests/v2").times(1), Effect::ResetAfter);
    let headers = [("content-type", "application/vnd.oci.image.manifest.v1+json")];
    let other = format!("/v2/{REPOSITORY}/manifests/v2");
    let put = http::request("PUT", &format!("{}{other}", middle.url()), &headers, &manifest);
    assert_eq!(put.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let statuses: Vec<u16> = middle.log().iter().map(|entry| entry.status).collect();
    assert_eq!(statuses, [0, 200, 0]);
    let tags = skopeo::list_tags(&format!("{}/{REPOSITORY}", registry.address()), &Side::plain()).ok();
    assert_eq!(tags.json()["Tags"], serde_json::json!(["v1", "v2"]));
}

#[test]
fn the_middle_shows_a_dead_registry_as_a_bad_gateway() {
    let (mut registry, middle, path) = lying_middle();
    registry.stop();
    assert_eq!(get(&middle, &path, None).unwrap().status, 502);
}

/// A repository made by python-tuf, on disk and over HTTP.
fn others_repository(days: i32) -> (tempfile::TempDir, Middle) {
    let directory = tempfile::tempdir().unwrap();
    peers::make_repository(directory.path(), days);
    // No upstream: everything is a made-up answer.
    let server = Middle::start("127.0.0.1:1");
    server.set(Rule::new("*", "/"), Effect::Status(404));
    for file in fs::read_dir(directory.path()).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        let answer = Answer::status(200).body(fs::read(file.path()).unwrap());
        server.set(Rule::new("GET", &format!("/metadata/{name}")), Effect::Answer(answer));
    }
    (directory, server)
}

#[test]
fn both_peers_find_the_target_of_a_good_repository() {
    const SHA256: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let (directory, server) = others_repository(1);
    let root = directory.path().join("1.root.json");
    let ngclient = |name| {
        let (metadata, targets) =
            (format!("{}/metadata/", server.url()), format!("{}/targets/", server.url()));
        peers::ngclient(&metadata, &targets, &root, name)
    };
    let expected = serde_json::json!({
        "root": 1, "timestamp": 1, "snapshot": 1, "targets": 1,
        "target": {"length": 5, "sha256": SHA256},
    });
    assert_eq!(ngclient("hello.txt").ok().json(), expected);
    assert_eq!(ngclient("other.txt").ok().json()["target"], serde_json::Value::Null);

    let loaded = tough_peer::load(&fs::read(&root).unwrap(), directory.path()).unwrap();
    assert_eq!(loaded.found, [("hello.txt".to_owned(), (5, SHA256.to_owned()))].into());
    assert_eq!((loaded.root, loaded.timestamp, loaded.snapshot, loaded.targets), (1, 1, 1, 1));
}

#[tokio::test]
async fn both_peers_refuse_an_expired_repository_also_from_an_async_test() {
    let (directory, server) = others_repository(-1);
    let root = directory.path().join("1.root.json");
    let url = format!("{}/metadata/", server.url());
    let refused = peers::ngclient(&url, &url, &root, "hello.txt").expect_code(1);
    assert!(refused.stderr.starts_with("ExpiredMetadataError"), "{}", refused.stderr);
    let refused = tough_peer::load(&fs::read(&root).unwrap(), directory.path()).unwrap_err();
    assert!(refused.contains("expired"), "{refused}");
}

#[test]
fn both_peers_refuse_a_root_that_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root.json");
    fs::write(&root, "{}").unwrap();
    let refused = peers::ngclient("http://127.0.0.1:1/", "http://127.0.0.1:1/", &root, "x").expect_code(1);
    assert!(refused.stderr.starts_with("DeserializationError"), "{}", refused.stderr);
    assert!(tough_peer::load(b"{}", directory.path()).is_err());
}
