//! Signing, unsigning, revoking and reinstating, of one name and of many, with the real programs.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::{fs, os::unix::fs::symlink, path::Path};

use plimsoll_core::oci::Digest;
use plimsoll_tests::{
    docker_registry::Registry,
    http,
    image::Image,
    middle::{Effect, Middle, Rule},
    peers,
    process::{Cli, Run},
    world::{IMAGES, NAME, ROLE, Site, World},
};
use serde_json::{Value, json};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const KEY: [&str; 4] = ["--key", "team.key", "--passphrase-file", "passphrase"];

/// A registry, a daemon and a client.
struct Setting {
    registry: Registry,
    world: World,
    client: Cli,
}

impl Setting {
    fn new() -> Self {
        let registry = Registry::open();
        let world = World::ready(Site::at(&registry.address()));
        let client = world.client("client");
        Self { registry, world, client }
    }

    /// The team runs `plimsoll` with `arguments` and its key.
    fn team(&self, arguments: &[&str]) -> Run {
        self.world.team().run(&[arguments, &KEY].concat())
    }

    fn reference(&self, tag: &str) -> String {
        self.world.reference(tag)
    }

    fn by_digest(&self, digest: Digest) -> String {
        format!("{}/{IMAGES}@{digest}", self.world.host())
    }

    /// The client must say `verdict` of `reference`.
    #[track_caller]
    fn verdict(&self, reference: &str, verdict: &str) {
        let said = self.client.run(&["verify", reference, "-o", "json"]).json();
        assert_eq!(said["verdict"], verdict, "{reference}: {said:#}");
    }

    /// The team's newest document.
    fn role(&self) -> Value {
        let version = self.version();
        let url = format!("{}/tuf/{NAME}/metadata/{version}.{ROLE}.json", self.world.daemon.url());
        serde_json::from_slice(&http::get(&url).unwrap().body).unwrap()
    }

    /// The version of the team's newest document.
    fn version(&self) -> usize {
        let there = |version: &usize| {
            let url = format!("{}/tuf/{NAME}/metadata/{version}.{ROLE}.json", self.world.daemon.url());
            http::get(&url).unwrap().status == 200
        };
        (1..100).take_while(there).count()
    }

    fn names(&self) -> Vec<String> {
        self.role()["signed"]["targets"].as_object().unwrap().keys().cloned().collect()
    }

    /// What python-tuf's client finds under `name`: the sha256.
    fn python(&self, name: &str) -> Value {
        let base = self.world.daemon.url();
        let (metadata, targets) = (format!("{base}/tuf/{NAME}/metadata/"), format!("{base}/targets/"));
        let root = self.world.owner().home().join("acme-root.json");
        peers::ngclient(&metadata, &targets, &root, name).ok().json()["target"]["sha256"].clone()
    }

    /// Puts `manifest` into the registry as `tag`, byte for byte.
    fn put(&self, tag: &str, media_type: &str, manifest: &Value) -> Digest {
        let bytes = manifest.to_string();
        let url = format!("{}/v2/{IMAGES}/manifests/{tag}", self.registry.url());
        let answer = http::request("PUT", &url, &[("Content-Type", media_type)], bytes.as_bytes()).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
        Digest::of(bytes.as_bytes())
    }

    /// Puts `content` into the registry and returns its descriptor.
    fn blob(&self, media_type: &str, content: &str) -> Value {
        let start = format!("{}/v2/{IMAGES}/blobs/uploads/", self.registry.url());
        let answer = http::request("POST", &start, &[], b"").unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text());
        let place = answer.header("Location").unwrap();
        let place =
            if place.starts_with('/') { format!("{}{place}", self.registry.url()) } else { place.to_owned() };
        let digest = Digest::of(content.as_bytes());
        let joint = if place.contains('?') { '&' } else { '?' };
        let url = format!("{place}{joint}digest={digest}");
        let answer = http::request("PUT", &url, &[], content.as_bytes()).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    }

    /// Pushes an image of two platforms as `tag`.
    fn push_index(&self, tag: &str, message: &str) -> Image {
        let image = Image::busybox_index(message);
        image.push(&self.reference(tag), &self.world.side()).ok();
        image
    }
}

/// What an index lists of its two platforms.
fn listed(index: &Image) -> [Value; 2] {
    let bytes = fs::read(index.path().join("blobs/sha256").join(index.digest().hex())).unwrap();
    let index: Value = serde_json::from_slice(&bytes).unwrap();
    [0, 1].map(|at| index["manifests"][at].clone())
}

fn platforms(index: &Image) -> [Digest; 2] {
    listed(index).map(|platform| platform["digest"].as_str().unwrap().parse().unwrap())
}

fn index_of(manifests: &[Value]) -> Value {
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is missing in: {text}");
    }
}

#[test]
fn a_multi_platform_image_is_signed_and_revoked_with_its_platforms() {
    let setting = Setting::new();
    let image = setting.push_index("v1", "two platforms\n");
    let (index, [amd64, arm64]) = (image.digest(), platforms(&image));
    let signed = setting.team(&["sign", &setting.reference("v1")]).ok();
    says(&signed.stdout, &[&index.to_string(), &amd64.to_string(), &arm64.to_string()]);
    for reference in [setting.reference("v1"), setting.by_digest(index)] {
        setting.verdict(&reference, "VERIFIED");
    }
    for platform in [amd64, arm64] {
        setting.verdict(&setting.by_digest(platform), "VERIFIED");
        assert_eq!(setting.python(&format!("{IMAGES}@{platform}")), platform.hex());
    }

    // A second index of the same amd64 image.
    let [shared, own] = listed(&image);
    setting.put("v2", INDEX, &index_of(std::slice::from_ref(&shared)));
    setting.team(&["sign", &setting.reference("v2")]).ok();

    let told =
        setting.team(&["revoke", &setting.reference("v1"), "--reason", "leaked", "-o", "json"]).ok().json();
    assert_eq!(told["platforms"], json!([arm64]));
    for reference in [setting.reference("v1"), setting.by_digest(index), setting.by_digest(arm64)] {
        setting.verdict(&reference, "REVOKED");
    }
    for reference in [setting.reference("v2"), setting.by_digest(amd64)] {
        setting.verdict(&reference, "VERIFIED");
    }
    // An index of what was revoked is not signed.
    let version = setting.version();
    setting.put("v3", INDEX, &index_of(&[own, shared]));
    let refused = setting.team(&["sign", &setting.reference("v3")]).expect_code(2);
    says(&refused.stderr, &[&arm64.to_string(), "leaked"]);
    assert_eq!(setting.version(), version);
    assert_eq!(setting.python(&format!("{IMAGES}@{amd64}")), amd64.hex());
}

#[test]
fn a_platform_is_current_only_while_its_index_is() {
    let setting = Setting::new();
    let [old, _] = platforms(&setting.push_index("v1", "old\n"));
    setting.team(&["sign", &setting.reference("v1")]).ok();
    let [new, _] = platforms(&setting.push_index("v1", "new\n"));
    setting.team(&["sign", &setting.reference("v1")]).ok();
    setting.verdict(&setting.by_digest(old), "POLICY_DENY");
    setting.verdict(&setting.by_digest(new), "VERIFIED");
    // The owner takes the index back: what the team wrote does not keep its platforms current.
    let owner = setting.world.owner();
    owner
        .run(&[
            "revoke",
            &setting.reference("v1"),
            "--reason",
            "no",
            "--key",
            "owner.key",
            "--passphrase-file",
            "passphrase",
        ])
        .ok();
    setting.verdict(&setting.by_digest(new), "REVOKED");
}

#[test]
fn an_index_of_indexes_is_followed_one_step() {
    let setting = Setting::new();
    let inner = setting.push_index("inner", "inner\n");
    let [amd64, _] = platforms(&inner);
    let listed = |digest: Digest, size: u64| json!({"mediaType": INDEX, "digest": digest, "size": size});
    let outer = index_of(&[listed(inner.digest(), inner.size())]);
    let outer_digest = setting.put("outer", INDEX, &outer);
    setting.team(&["sign", &setting.reference("outer")]).ok();
    for digest in [inner.digest(), amd64] {
        setting.verdict(&setting.by_digest(digest), "VERIFIED");
    }
    let size = outer.to_string().len() as u64;
    let outermost = index_of(&[listed(outer_digest, size)]);
    setting.put("outermost", INDEX, &outermost);
    let version = setting.version();
    let refused = setting.team(&["sign", &setting.reference("outermost")]).expect_code(2);
    says(&refused.stderr, &["index of indexes of indexes"]);
    assert_eq!(setting.version(), version);
}

#[test]
fn all_tags_of_a_repository_are_signed_in_one_publish() {
    let setting = Setting::new();
    let tags: Vec<String> = (0..6).map(|at| format!("v{at}")).collect();
    for tag in &tags {
        setting.world.push(tag, &format!("this is {tag}\n"));
    }
    setting.world.push("nightly-1", "not this\n");
    let (repository, exclude) = (format!("{}/{IMAGES}", setting.world.host()), ["--exclude", "nightly-*"]);
    let all = [&["sign", "--all-tags", &repository], exclude.as_slice()].concat();
    // Nobody named them one by one, so somebody must have seen them.
    let unasked = setting.team(&all).expect_code(2);
    says(&unasked.stderr, &["--yes", "v0", "v5"]);
    assert!(!unasked.stderr.contains("nightly"), "{}", unasked.stderr);
    assert_eq!(setting.version(), 0);

    let told = setting.team(&[all.as_slice(), &["--yes", "-o", "json"]].concat()).ok().json();
    assert_eq!(told["signed"].as_array().unwrap().len(), tags.len());
    assert_eq!(told["versions"], json!({ROLE: 1}));
    assert_eq!(setting.version(), 1);
    for tag in &tags {
        setting.verdict(&setting.reference(tag), "VERIFIED");
    }
    setting.verdict(&setting.reference("nightly-1"), "ABSENT");

    // Several by name, too; and one name twice is no plan.
    let (v0, nightly) = (setting.reference("v0"), setting.reference("nightly-1"));
    setting.team(&["sign", &v0, &nightly]).ok();
    assert_eq!(setting.version(), 2);
    setting.verdict(&nightly, "VERIFIED");
    let twice = setting.team(&["sign", &v0, &v0]).expect_code(2);
    says(&twice.stderr, &["the same name"]);
    let nothing =
        setting.team(&["sign", "--all-tags", &repository, "--exclude", "*", "--yes"]).expect_code(2);
    says(&nothing.stderr, &["no tag to sign"]);
    assert_eq!(setting.version(), 2);
}

/// The team's machine where the registry is reached through `middle`.
fn team_at(setting: &Setting, middle: &Middle) -> Cli {
    let team = setting.world.team();
    let other = setting.world.client_at("team-elsewhere", &middle.address());
    for file in ["team.key", "passphrase"] {
        fs::copy(team.home().join(file), other.home().join(file)).unwrap();
    }
    other.env("PLIMSOLL_SERVER", &setting.world.daemon.url())
}

#[test]
fn a_tag_that_moves_after_it_was_shown_is_not_signed() {
    let setting = Setting::new();
    let old = setting.world.push("v1", "shown\n");
    setting.world.push("v2", "stays\n");
    let new = setting.world.push("other", "sneaked in\n");
    let middle = Middle::start(&setting.registry.address());
    let team = team_at(&setting, &middle);
    let moved = new.digest().to_string();
    middle.set(
        Rule::new("HEAD", "/manifests/v1"),
        Effect::edit(move |answer| {
            answer.headers.insert("docker-content-digest", moved.parse().unwrap());
        }),
    );
    let repository = format!("{}/{IMAGES}", middle.address());
    let (v1, v2) = (format!("{repository}:v1"), format!("{repository}:v2"));
    for command in
        [vec!["sign", "--all-tags", &repository, "--yes"], vec!["sign", &v1], vec!["sign", &v2, &v1]]
    {
        let refused = team.run(&[command.as_slice(), &KEY].concat()).expect_code(2);
        says(&refused.stderr, &["moved", &old.digest().to_string(), &new.digest().to_string()]);
    }
    // Gone altogether.
    middle.clear();
    middle.set(Rule::new("HEAD", "/manifests/v1"), Effect::Status(404));
    says(&team.run(&[&["sign", &v1], KEY.as_slice()].concat()).expect_code(11).stderr, &["has no"]);
    assert_eq!(setting.version(), 0);
    setting.verdict(&setting.reference("v1"), "UNTRUSTED");
}

#[test]
fn a_digest_is_signed_under_a_tag_or_by_itself_if_the_registry_has_it() {
    let setting = Setting::new();
    let old = setting.world.push("v1", "old\n").digest();
    let new = setting.world.push("v1", "new\n").digest();
    setting.team(&["sign", &format!("{}@{old}", setting.reference("v1"))]).ok();
    setting.verdict(&setting.reference("v1"), "MISMATCH");
    setting.verdict(&setting.by_digest(old), "VERIFIED");

    let told = setting.team(&["sign", &setting.by_digest(new)]).ok();
    says(&told.stdout, &["once a tag"]);
    setting.verdict(&setting.by_digest(new), "POLICY_DENY");
    assert!(setting.names().contains(&format!("{IMAGES}@{new}")));

    let version = setting.version();
    let unknown = Digest::of(b"nobody has this");
    for reference in [setting.by_digest(unknown), format!("{}@{unknown}", setting.reference("v1"))] {
        let refused = setting.team(&["sign", &reference]).expect_code(11);
        says(&refused.stderr, &[&unknown.to_string(), "nothing to sign"]);
    }
    // Whose digest it is must be said.
    for command in [vec!["sign", "BARE"], vec!["revoke", "BARE", "--reason", "x"], vec!["unsign", "BARE"]] {
        let bare = old.to_string();
        let command: Vec<&str> =
            command.iter().map(|word| if *word == "BARE" { &bare } else { *word }).collect();
        says(&setting.team(&command).expect_code(2).stderr, &["name its repository"]);
    }
    let refused = setting.team(&["sign", "--immutable", &setting.by_digest(old)]).expect_code(2);
    says(&refused.stderr, &["--immutable"]);
    assert_eq!(setting.version(), version);
}

#[test]
fn an_image_is_signed_from_a_layout_before_it_is_pushed() {
    let setting = Setting::new();
    let image = Image::busybox_index("built here\n");
    let layout = image.path().to_str().unwrap();
    let v1 = setting.reference("v1");
    for place in [layout, &format!("{layout}:image")] {
        let told = setting.team(&["sign", "--layout", place, &v1]).ok();
        says(&told.stdout, &[&image.digest().to_string()]);
    }
    setting.verdict(&v1, "NO_SUCH_TAG");
    image.push(&v1, &setting.world.side()).ok();
    setting.verdict(&v1, "VERIFIED");
    for platform in platforms(&image) {
        setting.verdict(&setting.by_digest(platform), "VERIFIED");
    }
}

/// T63: what is in a layout leads nowhere but into it.
#[test]
fn a_layout_that_was_tampered_with_is_refused_with_the_place_named() {
    let setting = Setting::new();
    let v1 = setting.reference("v1");
    let refused = |layout: &Path, words: &[&str]| {
        let run = setting.team(&["sign", "--layout", layout.to_str().unwrap(), &v1]).expect_code(2);
        says(&run.stderr, words);
    };
    let image = Image::busybox("whole\n");
    let blob = image.path().join("blobs/sha256").join(image.digest().hex());
    let bytes = fs::read(&blob).unwrap();
    fs::write(&blob, [&bytes[..bytes.len() - 1], b" "].concat()).unwrap();
    refused(image.path(), &[&image.digest().hex(), "has the digest"]);
    fs::write(&blob, &bytes[1..]).unwrap();
    refused(image.path(), &[&image.digest().hex(), "bytes where the layout says"]);
    fs::remove_file(&blob).unwrap();
    refused(image.path(), &[&image.digest().hex(), "missing"]);
    let secret = setting.world.team().home().join("secret");
    fs::write(&secret, &bytes).unwrap();
    symlink(&secret, &blob).unwrap();
    refused(image.path(), &[&image.digest().hex(), "links in a layout are not followed"]);

    let index = image.path().join("index.json");
    let text =
        fs::read_to_string(&index).unwrap().replace(&image.digest().to_string(), "sha256:../../../secret");
    fs::write(&index, text).unwrap();
    refused(image.path(), &["index.json"]);
    refused(setting.world.team().home(), &["oci-layout", "missing"]);
    let two =
        setting.team(&["sign", "--layout", image.path().to_str().unwrap(), &v1, &setting.reference("v2")]);
    says(&two.expect_code(2).stderr, &["--layout"]);
    assert_eq!(setting.version(), 0);
}

#[test]
fn an_immutable_tag_keeps_its_digest_until_that_is_revoked() {
    let setting = Setting::new();
    let v1 = setting.reference("v1");
    let first = setting.world.push("v1", "for good\n").digest();
    says(&setting.team(&["sign", "--immutable", &v1]).ok().stdout, &["for good"]);
    let entry = setting.role()["signed"]["targets"][format!("{IMAGES}:v1")].clone();
    assert_eq!(entry["custom"]["immutable"], true);
    let version = setting.version();
    let second = setting.world.push("v1", "another\n").digest();
    for command in [vec!["sign", v1.as_str()], vec!["sign", "--immutable", &v1], vec!["unsign", &v1]] {
        let refused = setting.team(&command).expect_code(2);
        says(&refused.stderr, &["immutable", &first.to_string()]);
    }
    assert_eq!(setting.version(), version);
    setting.verdict(&v1, "MISMATCH");
    setting.team(&["revoke", &v1, "--reason", "broken for good"]).ok();
    setting.team(&["sign", &v1]).ok();
    setting.verdict(&v1, "VERIFIED");
    assert_eq!(setting.python(&format!("{IMAGES}:v1")), second.hex());
}

#[test]
fn what_is_unsigned_is_absent_and_not_revoked() {
    let setting = Setting::new();
    let (v1, v2) = (setting.reference("v1"), setting.reference("v2"));
    let image = setting.world.push("v1", "one\n");
    image.push(&v2, &setting.world.side()).ok();
    setting.team(&["sign", &v1, &v2]).ok();
    setting.team(&["unsign", &v1]).ok();
    setting.verdict(&v1, "ABSENT");
    setting.verdict(&v2, "VERIFIED");
    setting.verdict(&setting.by_digest(image.digest()), "VERIFIED");
    let refused = setting.team(&["unsign", &setting.by_digest(image.digest())]).expect_code(2);
    says(&refused.stderr, &["still meant by", "acme/net-monitor:v2"]);
    let refused = setting.team(&["unsign", &v1]).expect_code(2);
    says(&refused.stderr, &["does not sign", "acme/net-monitor:v1"]);

    // The owner signs it, too: unsigned by the team, clients go by the owner's word.
    let owner = setting.world.owner();
    owner.run(&["sign", &v2, "--key", "owner.key", "--passphrase-file", "passphrase"]).ok();
    let told = setting.team(&["unsign", &v2, "-o", "json"]).ok().json();
    assert_eq!(told["unsigned"][0]["still"], json!(["targets"]));
    assert_eq!(setting.names(), Vec::<String>::new());
    setting.verdict(&v2, "VERIFIED");
    let refused = setting.team(&["unsign", &v2]).expect_code(2);
    says(&refused.stderr, &["but others do: targets"]);
    owner.run(&["unsign", &v2, "--key", "owner.key", "--passphrase-file", "passphrase"]).ok();
    for reference in [v1, v2, setting.by_digest(image.digest())] {
        setting.verdict(&reference, "ABSENT");
    }
}

#[test]
fn artifacts_of_any_type_are_signed_and_found_by_stock_clients() {
    let setting = Setting::new();
    let helm = setting
        .blob("application/vnd.cncf.helm.config.v1+json", r#"{"name":"net-monitor","version":"1.0.0"}"#);
    let chart = setting.blob("application/vnd.cncf.helm.chart.content.v1.tar+gzip", "a chart");
    let wasm =
        setting.blob("application/vnd.wasm.config.v0+json", r#"{"architecture":"wasm","os":"wasip1"}"#);
    let module = setting.blob("application/wasm", "\0asm");
    let empty = setting.blob(EMPTY, "{}");
    let file = setting.blob("text/plain", "read me\n");
    let manifest = |config: &Value, layer: &Value| json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    let mut plain = manifest(&empty, &file);
    plain["artifactType"] = json!("application/vnd.acme.notes");
    plain["layers"][0]["annotations"] = json!({"org.opencontainers.image.title": "README"});
    let artifacts = [
        ("chart-1.0.0", manifest(&helm, &chart), "vnd.cncf.helm.config"),
        ("module", manifest(&wasm, &module), "vnd.wasm.config"),
        ("notes", plain, "application/vnd.acme.notes"),
    ];
    let digests: Vec<Digest> =
        artifacts.iter().map(|(tag, manifest, _)| setting.put(tag, MANIFEST, manifest)).collect();
    let repository = format!("{}/{IMAGES}", setting.world.host());
    let told = setting.team(&["sign", "--all-tags", &repository, "--yes"]).ok();
    for ((tag, _, kind), digest) in artifacts.iter().zip(digests) {
        says(&told.stderr, &[kind]);
        setting.verdict(&setting.reference(tag), "VERIFIED");
        setting.verdict(&setting.by_digest(digest), "VERIFIED");
        assert_eq!(setting.python(&format!("{IMAGES}:{tag}")), digest.hex());
    }
}

#[test]
fn every_change_can_be_a_draft_and_publishes_nothing_then() {
    let setting = Setting::new();
    let v1 = setting.reference("v1");
    setting.push_index("v1", "signed elsewhere\n");
    let repository = format!("{}/{IMAGES}", setting.world.host());
    let draft = setting.team(&["sign", "--all-tags", &repository, "--yes", "--draft", "sign.draft"]).ok();
    says(&draft.stdout, &["draft, not published", "sign.draft"]);
    assert_eq!(setting.version(), 0);
    let team = setting.world.team();
    assert!(fs::read_to_string(team.home().join("sign.draft")).unwrap().contains("\"index\""));
    setting.team(&["sign", &v1]).ok();
    setting.team(&["unsign", &v1, "--draft", "unsign.draft", "-o", "json"]).ok();
    assert!(team.home().join("unsign.draft").exists());
    assert_eq!(setting.version(), 1);
    setting.verdict(&v1, "VERIFIED");
}

#[test]
fn a_revoked_index_is_reinstated_as_it_was() {
    let setting = Setting::new();
    let (v1, latest) = (setting.reference("v1"), setting.reference("latest"));
    let image = setting.push_index("v1", "revoked too soon\n");
    image.push(&latest, &setting.world.side()).ok();
    setting.team(&["sign", "--immutable", &v1, &latest]).ok();
    let before = setting.role()["signed"]["targets"].clone();
    setting.team(&["revoke", &v1, "--reason", "looked bad"]).ok();
    assert_eq!(setting.role()["signed"]["targets"], json!({}));
    setting.verdict(&latest, "REVOKED");
    // What happens in between is no obstacle.
    let other = setting.world.push("v2", "in between\n");
    setting.team(&["sign", &setting.reference("v2")]).ok();

    let command = ["reinstate", &v1, "--reason", "a false alarm"];
    let version = setting.version();
    let unasked = setting.team(&command).expect_code(2);
    says(&unasked.stderr, &["--yes", &image.digest().to_string(), "latest"]);
    assert_eq!(setting.version(), version);
    let told = setting.team(&[&command, ["--yes", "-o", "json"].as_slice()].concat()).ok().json();
    assert_eq!(told["digests"].as_array().unwrap().len(), 3);
    let role = setting.role();
    for (name, entry) in before.as_object().unwrap() {
        assert_eq!(role["signed"]["targets"][name], *entry, "{name}");
    }
    assert_eq!(role["signed"]["x-plimsoll"]["revocations"], Value::Null);
    let reinstated = role["signed"]["x-plimsoll"]["reinstated"].as_array().unwrap();
    assert!(reinstated.iter().all(|entry| entry["reason"] == "a false alarm"));
    let [amd64, arm64] = platforms(&image);
    for reference in
        [&v1, &latest, &setting.reference("v2"), &setting.by_digest(amd64), &setting.by_digest(arm64)]
    {
        setting.verdict(reference, "VERIFIED");
    }
    assert_eq!(setting.python(&format!("{IMAGES}:latest")), image.digest().hex());
    assert_eq!(setting.python(&format!("{IMAGES}:v2")), other.digest().hex());
    // Nothing is left to bring back.
    let again = setting.team(&[&command, ["--yes"].as_slice()].concat()).expect_code(2);
    says(&again.stderr, &["nothing to bring back"]);
}

#[test]
fn a_tag_goes_back_to_what_it_meant_under_a_new_version() {
    let setting = Setting::new();
    let v1 = setting.reference("v1");
    let old = setting.push_index("v1", "old\n");
    setting.team(&["sign", &v1]).ok();
    let new = setting.world.push("v1", "new\n").digest();
    setting.team(&["sign", &v1]).ok();
    let back = |arguments: &[&str]| {
        setting.team(
            &[["reinstate", &v1, "--reason", "the new one fails", "--yes"].as_slice(), arguments].concat(),
        )
    };
    let told = back(&["-o", "json"]).ok().json();
    assert_eq!((&told["digest"], &told["replaces"]), (&json!(old.digest()), &json!(new)));
    assert_eq!(setting.version(), 3);
    // The registry still hands out the new one.
    setting.verdict(&v1, "MISMATCH");
    setting.verdict(&format!("{v1}@{}", old.digest()), "VERIFIED");
    setting.verdict(&setting.by_digest(platforms(&old)[0]), "VERIFIED");
    setting.verdict(&setting.by_digest(new), "POLICY_DENY");

    back(&["--to", &new.to_string()]).ok();
    setting.verdict(&v1, "VERIFIED");
    let never = Digest::of(b"never signed").to_string();
    says(&back(&["--to", &never]).expect_code(2).stderr, &["nothing to bring back"]);
    setting.team(&["unsign", &v1]).ok();
    setting.verdict(&v1, "ABSENT");
    back(&[]).ok();
    setting.verdict(&v1, "VERIFIED");
    assert_eq!(setting.python(&format!("{IMAGES}:v1")), new.hex());
}

#[test]
fn what_a_role_above_revoked_or_the_registry_lost_is_not_brought_back() {
    let setting = Setting::new();
    let v1 = setting.reference("v1");
    let image = setting.world.push("v1", "contested\n");
    setting.team(&["sign", &v1]).ok();
    let owner = |arguments: &[&str]| {
        let key = ["--key", "owner.key", "--passphrase-file", "passphrase"];
        setting.world.owner().run(&[arguments, &key].concat())
    };
    owner(&["revoke", &v1, "--reason", "leaked"]).ok();
    let by_digest = setting.by_digest(image.digest());
    let version = setting.version();
    for reference in [format!("{v1}@{}", image.digest()), by_digest.clone()] {
        let back = ["reinstate", &reference, "--reason", "no", "--yes"];
        says(&setting.team(&back).expect_code(2).stderr, &["targets revoked", "only the keys of targets"]);
    }
    assert_eq!(setting.version(), version);
    // The owner's role never listed it: its revocation goes, and the team's entry, which was never taken out, counts.
    owner(&["reinstate", &by_digest, "--reason", "found it", "--yes"]).ok();
    setting.verdict(&v1, "VERIFIED");

    setting.team(&["revoke", &v1, "--reason", "old"]).ok();
    let url = format!("{}/v2/{IMAGES}/manifests/{}", setting.registry.url(), image.digest());
    assert_eq!(http::request("DELETE", &url, &[], b"").unwrap().status, 202);
    let version = setting.version();
    let gone = setting.team(&["reinstate", &v1, "--reason", "again", "--yes"]).expect_code(11);
    says(&gone.stderr, &[&image.digest().to_string(), "nothing to bring back"]);
    assert_eq!(setting.version(), version);
}

/// Two teams' machines sign different content under one name at once: while the first looks at its tags again, the second
/// one publishes.
struct Race {
    setting: Setting,
    first: Cli,
    middle: Middle,
    ours: Digest,
    theirs: Digest,
}

impl Race {
    fn new() -> Self {
        let setting = Setting::new();
        let ours = setting.world.push("v1", "ours\n").digest();
        setting.world.push("v2", "no question\n");
        let theirs = setting.world.push("other", "theirs\n").digest();
        let middle = Middle::start(&setting.registry.address());
        let first = team_at(&setting, &middle);
        let second = setting.world.team();
        let reference = format!("{}@{theirs}", setting.reference("v1"));
        middle.set(
            Rule::new("HEAD", "/manifests/v1").times(1),
            Effect::edit(move |_| {
                second.run(&[&["sign", &reference], KEY.as_slice()].concat()).ok();
            }),
        );
        Self { setting, first, middle, ours, theirs }
    }

    fn means(&self, tag: &str) -> Value {
        self.setting.python(&format!("{IMAGES}:{tag}"))
    }

    fn references(&self) -> [String; 2] {
        ["v1", "v2"].map(|tag| format!("{}/{IMAGES}:{tag}", self.middle.address()))
    }

    /// The first machine signs at a terminal, where somebody types `answers`.
    fn at_a_terminal(&self, answers: &str) -> Run {
        let [v1, v2] = self.references();
        let command = format!("plimsoll sign {v1} {v2} {}", KEY.join(" "));
        self.first.shell(&format!("printf '{answers}' | script -qefc '{command}' /dev/null"))
    }
}

#[test]
fn two_digests_for_one_name_are_a_conflict_that_names_both() {
    let race = Race::new();
    let [v1, v2] = race.references();
    let refused = race.first.run(&[&["sign", &v1, &v2], KEY.as_slice()].concat()).expect_code(15);
    says(&refused.stderr, &[&race.ours.to_string(), &race.theirs.to_string(), "try:"]);
    assert_eq!((race.means("v1"), race.means("v2")), (json!(race.theirs.hex()), Value::Null));
    assert_eq!(race.setting.version(), 1, "nothing of the first one's was sent");
}

#[test]
fn who_is_at_a_terminal_is_asked_which_of_two_digests_is_meant() {
    let race = Race::new();
    let told = race.at_a_terminal("yes\\nyes\\n").ok();
    says(&told.stdout, &[&race.ours.to_string(), &race.theirs.to_string(), "signed 2 names"]);
    assert_eq!(race.means("v1"), race.ours.hex());
    assert!(!race.means("v2").is_null());

    let race = Race::new();
    race.at_a_terminal("yes\\nno\\n").expect_code(15);
    assert_eq!((race.means("v1"), race.means("v2")), (json!(race.theirs.hex()), Value::Null));
    // Not even begun.
    let race = Race::new();
    says(&race.at_a_terminal("no\\n").expect_code(2).stdout, &["nothing was changed"]);
    assert_eq!(race.setting.version(), 0);
}
