//! `promote` on its way: what is refused before anything is copied, what is left when it breaks off, and that it goes on from
//! there. What it is for is told in `story.rs`.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::fs;

use plimsoll_core::oci::Digest;
use plimsoll_tests::{
    docker_registry::Registry,
    http,
    image::Image,
    middle::{Effect, Middle, Rule},
    process::{Cli, Run},
    skopeo::Side,
    world::{IMAGES, NAME, ROLE, Site, World},
};
use serde_json::{Value, json};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const KEY: [&str; 4] = ["--key", "team.key", "--passphrase-file", "passphrase"];

/// A world with `v1`, an index, signed; seen through `near`, and another registry, seen through `far`.
struct Way {
    world: World,
    near: Middle,
    far: Middle,
    image: Image,
    registries: [Registry; 2],
}

impl Way {
    fn new() -> Self {
        let registries = [Registry::open(), Registry::open()];
        let [near, far] = registries.each_ref().map(|registry| Middle::start(&registry.address()));
        let world = World::ready(Site::at(&registries[0].address()));
        let image = Image::busybox_index("promoted\n");
        image.push(&world.reference("v1"), &Side::plain()).ok();
        world.sign("v1").ok();
        Self { world, near, far, image, registries }
    }

    /// The team, who reach the registry through `near`.
    fn team(&self) -> Cli {
        let (team, home) = (self.world.team(), self.world.client_at("team-here", &self.near.address()));
        for file in ["team.key", "passphrase"] {
            fs::copy(team.home().join(file), home.home().join(file)).unwrap();
        }
        home.env("PLIMSOLL_SERVER", &self.world.daemon.url())
    }

    fn source(&self) -> String {
        self.world.reference_at(&self.near.address(), "v1")
    }

    fn destination(&self) -> String {
        self.world.reference_at(&self.far.address(), "copy")
    }

    /// The team promotes `v1` to the tag `copy` at the other registry.
    fn promote(&self, more: &[&str]) -> Run {
        let (from, to) = (self.source(), self.destination());
        let words = ["promote", &from, &to, "--trust", NAME, "-o", "json"];
        self.team().run(&[&words, more].concat())
    }

    /// What the other registry shows under the tag, asked directly.
    fn shown(&self) -> Option<Digest> {
        let url = format!("{}/v2/{IMAGES}/manifests/copy", self.registries[1].url());
        let answer = http::request("GET", &url, &[("Accept", INDEX)], b"").unwrap();
        (answer.status == 200).then(|| Digest::of(&answer.body))
    }

    /// The version of the team's role.
    fn version(&self) -> usize {
        let there = |version: &usize| {
            let url = format!("{}/tuf/{NAME}/metadata/{version}.{ROLE}.json", self.world.daemon.url());
            http::get(&url).unwrap().status == 200
        };
        (1..100).take_while(there).count()
    }

    /// What was written to the other registry since this was asked last.
    fn written(&self) -> Vec<String> {
        let log =
            self.far.take_log().into_iter().filter(|entry| ["PUT", "PATCH"].contains(&entry.method.as_str()));
        log.map(|entry| format!("{} {}", entry.method, entry.path)).collect()
    }
}

fn says(run: &Run, words: &[&str]) {
    for word in words {
        assert!(run.stderr.contains(word), "`{word}` is missing in: {}", run.stderr);
    }
}

/// P5: a blob that is not what was verified is not sent on; what arrives arrives in an order in which nothing is seen before
/// it is whole; and whatever breaks off, the same command goes on.
#[test]
fn what_breaks_off_says_what_is_left_and_goes_on_when_it_is_run_again() {
    let way = Way::new();
    let version = way.version();

    // The source lies about a layer.
    way.near.set(Rule::new("GET", &format!("{IMAGES}/blobs/")), Effect::WrongBytes);
    let lied = way.promote(&KEY).expect_code(22);
    says(&lied, &["is not copied and not signed", "run this again"]);
    assert_eq!((way.shown(), way.written()), (None, vec![]));

    // The other registry takes everything but the tag.
    way.near.clear();
    way.far.set(Rule::new("PUT", "/manifests/copy"), Effect::Status(503));
    says(&way.promote(&KEY).expect_code(30), &["is not copied and not signed"]);
    assert_eq!(way.shown(), None);
    let written = way.written();
    assert!(written.last().unwrap().ends_with("/manifests/copy"), "{written:?}");
    assert_eq!(way.version(), version);

    // The tag, and the daemon takes nothing. The layers are not sent once more.
    way.far.clear();
    let daemon = Middle::start(&way.world.daemon.address());
    daemon.set(Rule::new("POST", "/submissions"), Effect::Status(503));
    let unsigned = way.promote(&[&["--server", daemon.url().as_str()], KEY.as_slice()].concat());
    says(&unsigned.expect_code(30), &["is copied, and not signed", "run this again"]);
    assert_eq!((way.shown(), way.version()), (Some(way.image.digest()), version));
    assert!(way.written().iter().all(|line| line.starts_with("PUT") && line.contains("/manifests/")));

    // The rest.
    let done = way.promote(&KEY).ok().json();
    assert_eq!((&done["copied"], &done["signed"][0]["digest"]), (&json!(false), &json!(way.image.digest())));
    assert_eq!(way.written(), Vec::<String>::new());
    let client = way.world.client_at("far-client", way.world.host());
    let policy = client.home().join("policy.toml");
    let text = fs::read_to_string(&policy).unwrap();
    let scope =
        format!("\n[[scope]]\nmatch = \"{}/acme/**\"\nrequire = {{ all = [\"acme\"] }}\n", way.far.address());
    fs::write(&policy, format!("{text}{scope}")).unwrap();
    assert_eq!(
        client.run(&["verify", &way.destination(), "-o", "json"]).ok().json()["digest"],
        json!(way.image.digest())
    );
}

/// A tag that somebody else moved while this was on its way is theirs: it is told, and not written over.
#[test]
fn a_tag_that_is_moved_meanwhile_is_not_written_over() {
    let way = Way::new();
    let theirs = Image::busybox("theirs\n");
    theirs.push(&format!("{}/{IMAGES}:copy", way.registries[1].address()), &Side::plain()).ok();
    let version = way.version();
    // When it was looked at first, there was nothing.
    way.far.set(Rule::new("HEAD", "/manifests/copy").times(1), Effect::Status(404));
    let conflict = way.promote(&[&["--yes"], KEY.as_slice()].concat()).expect_code(15);
    says(&conflict, &[&theirs.digest().to_string(), "is not copied and not signed"]);
    let tag = format!("http://{}/v2/{IMAGES}/manifests/copy", way.registries[1].address());
    let now = http::request("GET", &tag, &[("Accept", MANIFEST)], b"").unwrap();
    assert_eq!((Digest::of(&now.body), way.version()), (theirs.digest(), version));
    // Seen, it is asked about.
    says(&way.promote(&KEY).expect_code(2), &[&theirs.digest().to_string(), "nobody is there to answer"]);
    let moved = way.promote(&[&["--yes"], KEY.as_slice()].concat()).ok().json();
    assert_eq!(moved["moved_from"], json!(theirs.digest()));
    assert_eq!(way.shown(), Some(way.image.digest()));
}

/// With keys that are elsewhere: copied at once, and signed when the draft is finished.
#[test]
fn what_is_promoted_with_a_draft_is_copied_now_and_signed_later() {
    let way = Way::new();
    let version = way.version();
    let drafted = way.promote(&["--draft", "copy.draft"]).ok().json();
    assert_eq!((&drafted["draft"], &drafted["copied"]), (&json!("copy.draft"), &json!(true)));
    assert_eq!((way.shown(), way.version()), (Some(way.image.digest()), version));
    let name = way.world.reference("copy");
    way.image.push(&name, &Side::plain()).ok();
    way.world.client("looks").run(&["verify", &name]).expect_code(10);
    let team = way.team();
    team.run(&[&["ceremony", "sign", "copy.draft", "--yes"], KEY.as_slice()].concat()).ok();
    team.run(&["ceremony", "finish", "copy.draft", "--yes"]).ok();
    way.world.client("looks").run(&["verify", &name]).ok();
}

/// An index that holds another one and shares a manifest with it: registries want what is listed first.
#[test]
fn indexes_that_share_manifests_arrive_in_an_order_that_registries_take() {
    let way = Way::new();
    let v1 = way.source();
    let repository = format!("{}/v2/{IMAGES}/manifests", way.registries[0].url());
    let index = http::request("GET", &format!("{repository}/v1"), &[("Accept", INDEX)], b"").unwrap();
    let inner: Value = serde_json::from_slice(&index.body).unwrap();
    let shared = inner["manifests"][1].clone();
    assert_eq!(shared["mediaType"], MANIFEST);
    let listed = json!({"mediaType": INDEX, "digest": way.image.digest(), "size": way.image.size()});
    let outer = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [listed, shared]}).to_string();
    let put = http::request("PUT", &format!("{repository}/v1"), &[("Content-Type", INDEX)], outer.as_bytes());
    assert_eq!(put.unwrap().status, 201);
    way.team().run(&[&["sign", &v1], KEY.as_slice()].concat()).ok();
    way.promote(&KEY).ok();
    assert_eq!(way.shown(), Some(Digest::of(outer.as_bytes())));
}
