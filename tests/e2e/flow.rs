//! The main job from end to end, with the real programs, on Debian's docker-registry in each of its ways to let people in.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::fs;

use plimsoll_core::oci::Digest;
use plimsoll_tests::{
    docker_registry::{Access, Registry},
    image::Image,
    middle::{Effect, Middle, Rule},
    process::Cli,
    skopeo,
    tls::Authority,
    token_server::{TokenServer, User},
    world::{IMAGES, ROLE, Site, TRUST, World, files, log_in, state_folder},
};

#[test]
fn the_main_job_on_an_open_registry() {
    let registry = Registry::open();
    main_job(Site::at(&registry.address()), &registry);
}

#[test]
fn the_main_job_on_a_registry_with_htpasswd() {
    let amy = ("amy", "s3cret: with a colon");
    let registry = Registry::start(Access::Htpasswd { user: amy.0, password: amy.1 });
    let site = Site::at(&registry.address()).daemon(amy).machines(amy).builder(amy);
    let (world, client) = main_job(site, &registry);

    let reference = world.reference("v1");
    fs::remove_file(client.home().join(".docker/config.json")).unwrap();
    assert_says(&client.run(&["verify", &reference]).expect_code(31).stdout, &["AUTH", "docker login"]);
    log_in(client.home(), world.host(), amy.0, "wrong");
    let state = files(&state_folder(&client));
    assert_says(&client.run(&["verify", &reference]).expect_code(31).stdout, &["AUTH", "docker login"]);
    assert_eq!(client.run(&["resolve", &reference]).expect_code(31).stdout, "");
    assert_eq!(files(&state_folder(&client)), state);
}

/// The daemon may write to the trust repository and to nothing else; owner, team and clients may only read.
#[test]
fn the_main_job_on_a_registry_with_tokens() {
    let (daemon, reader, builder) = (("keeper", "k"), ("reader", "r"), ("builder", "b"));
    let tokens = TokenServer::start([
        (daemon.0, User::new(daemon.1).may(&["pull", "push"], TRUST)),
        (reader.0, User::new(reader.1).may(&["pull"], "acme/*")),
        (builder.0, User::new(builder.1).may(&["pull", "push"], IMAGES)),
        ("images", User::new("i").may(&["pull"], IMAGES)),
        ("metadata", User::new("m").may(&["pull"], TRUST)),
        ("nobody", User::new("n")),
    ]);
    let registry = Registry::start(Access::Token(&tokens));
    let site = Site::at(&registry.address()).daemon(daemon).machines(reader).builder(builder);
    let (world, client) = main_job(site, &registry);

    let reference = world.reference("v1");
    let state = files(&state_folder(&client));
    // One who may read images but not what vouches for them: of `v1` it was seen that it was taken back, and that is what is
    // there; one without rights, and one whom nobody knows, learn nothing.
    for (user, password, code, says) in
        [("images", "i", 14, "REVOKED"), ("nobody", "n", 31, "AUTH"), ("stranger", "x", 31, "AUTH")]
    {
        log_in(client.home(), world.host(), user, password);
        assert_says(&client.run(&["verify", &reference]).expect_code(code).stdout, &[says, "AUTH"]);
        assert_eq!(client.run(&["resolve", &reference]).expect_code(code).stdout, "");
    }
    log_in(client.home(), world.host(), "images", "i");
    assert_says(&client.run(&["verify", &world.reference("v2")]).expect_code(31).stdout, &["AUTH"]);
    // One who may read what vouches for images but not the images: what is meant is known, what is there is not.
    log_in(client.home(), world.host(), "metadata", "m");
    let v2 = world.reference("v2");
    assert_says(&client.run(&["verify", &v2]).expect_code(31).stdout, &["AUTH"]);
    client.run(&["resolve", &v2]).ok();
    assert_eq!(files(&state_folder(&client)), state);
}

#[test]
fn the_main_job_on_a_registry_with_a_private_ca() {
    let authority = Authority::new();
    let amy = ("amy", "s3cret");
    let access = Access::Htpasswd { user: amy.0, password: amy.1 };
    let registry = Registry::start_tls(access, &authority);
    let site = Site::at(&registry.address()).tls(&authority).daemon(amy).machines(amy).builder(amy);
    let (world, client) = main_job(site, &registry);

    let state = files(&state_folder(&client));
    let other = Authority::new();
    let stranger = Cli::new(client.home()).argument("--ca-file").argument(other.ca_file().to_str().unwrap());
    let refused = stranger.run(&["verify", &world.reference("v1")]).expect_code(30);
    assert_says(&refused.stdout, &["UNREACHABLE", "no TLS connection", "certificate"]);
    assert_eq!(files(&state_folder(&client)), state);
}

/// From nothing to a verified, a moved, a withheld and a revoked tag. Ends with `v1` revoked and `v2` good.
fn main_job(site: Site, registry: &Registry) -> (World, Cli) {
    let world = World::start(site);
    let image = world.push("v1", "the first version\n");
    world.push("unsigned", "nobody vouches for this\n");
    let client = join(&world);
    let (v1, unsigned) = (world.reference("v1"), world.reference("unsigned"));

    // A namespace that was given to a team that has not signed yet is no proof of absence (design, section 5).
    assert_says(
        &client.run(&["verify", &v1]).expect_code(22).stdout,
        &["UNTRUSTED", ROLE, "signed nothing yet"],
    );

    let signed = world.sign("v1").ok();
    assert_says(&signed.stdout, &[&image.digest().to_string(), ROLE, "in the registry since timestamp"]);
    verified(&world, &client, "v1", &image);

    let absent = client.run(&["verify", &unsigned]).expect_code(10);
    assert_says(&absent.stdout, &["ABSENT", &unsigned, "fresh"]);
    assert_eq!(client.run(&["resolve", &unsigned]).expect_code(10).stdout, "");
    let elsewhere = client.run(&["verify", "registry.invalid/acme/net-monitor:v1"]).expect_code(17);
    assert_says(&elsewhere.stdout, &["NO_POLICY", "plimsoll trust add"]);

    withheld(&world, &client, registry);
    moved(&world, &client, &image);

    let better = world.push("v2", "the second version\n");
    world.sign("v2").ok();
    verified(&world, &client, "v2", &better);
    revoked(&world, &client, &image);
    verified(&world, &client, "v2", &better);
    status(&world);
    (world, client)
}

/// Keys, trust repository and delegation; a client that pins the root by the line that `init` prints, as it is printed.
fn join(world: &World) -> Cli {
    for machine in ["owner", "team"] {
        assert_says(&world.generate_key(machine).ok().stdout, &[&format!("{machine}.key")]);
    }
    let made = world.init().ok();
    assert_says(&made.stdout, &[&world.trust(), "acme/**", "acme-root.json"]);
    let line = made.stdout.lines().find(|line| line.trim_start().starts_with("plimsoll trust add ")).unwrap();
    assert_says(&world.init().expect_code(2).stderr, &["error:"]);

    let client = world.machine("client");
    fs::copy(world.owner().home().join("acme-root.json"), client.home().join("acme-root.json")).unwrap();
    assert_says(&client.shell(line).ok().stdout, &["pinned acme", &world.trust()]);

    let delegated = world.delegate(IMAGES, "net-monitor", "team").ok();
    assert_says(&delegated.stdout, &[IMAGES, ROLE, "covers"]);
    client
}

/// Every way to ask says that `tag` is `image`, and skopeo agrees.
fn verified(world: &World, client: &Cli, tag: &str, image: &Image) {
    let digest = image.digest().to_string();
    let reference = world.reference(tag);
    let resolved = format!("{}/{IMAGES}@{digest}", world.host());

    let text = client.run(&["verify", &reference]).ok();
    assert_says(&text.stdout, &["VERIFIED", &reference, &digest, "targets > targets--net-monitor"]);

    let json = client.run(&["verify", &reference, "-o", "json"]).ok().json();
    assert_eq!(json["verdict"], "VERIFIED");
    assert_eq!(json["name"], format!("{IMAGES}:{tag}"));
    assert_eq!(json["resolved"], resolved);
    assert_eq!((&json["digest"], &json["presented"]), (&digest.clone().into(), &digest.clone().into()));
    assert_eq!(json["size"], image.size());
    assert_eq!(json["media_type"], image.media_type());
    assert_eq!(json["roots"][0]["path"], serde_json::json!(["targets", ROLE]));
    assert_eq!(json["warnings"], serde_json::json!([]));

    assert_eq!(client.run(&["resolve", &reference]).ok().stdout, format!("{resolved}\n"));
    client.run(&["verify", &resolved]).ok();
    client.run(&["verify", &format!("{reference}@{digest}")]).ok();
    let manifest = skopeo::inspect_raw(&reference, &world.side()).ok();
    assert_eq!(Digest::of(manifest.stdout.as_bytes()), image.digest());
}

/// A signed tag that the registry has lost, or never had.
fn withheld(world: &World, client: &Cli, registry: &Registry) {
    let image = world.push("gone", "soon gone\n");
    world.sign("gone").ok();
    verified(world, client, "gone", &image);
    registry.remove_tag(IMAGES, "gone");
    let reference = world.reference("gone");
    let gone = client.run(&["verify", &reference]).expect_code(11);
    assert_says(&gone.stdout, &["NO_SUCH_TAG", &image.digest().to_string()]);
    let json = client.run(&["verify", &reference, "-o", "json"]).expect_code(11).json();
    assert_eq!((&json["verdict"], &json["resolved"]), (&"NO_SUCH_TAG".into(), &serde_json::Value::Null));
    // What the publisher means does not depend on the registry's tags.
    let resolved = format!("{}/{IMAGES}@{}\n", world.host(), image.digest());
    assert_eq!(client.run(&["resolve", &reference]).ok().stdout, resolved);
    assert_says(&world.sign("never-pushed").expect_code(11).stderr, &["never-pushed", "push it first"]);
}

/// The tag is pointed elsewhere without a signature, and back.
fn moved(world: &World, client: &Cli, image: &Image) {
    let reference = world.reference("v1");
    let other = world.push("v1", "somebody else's version\n");
    let mismatch = client.run(&["verify", &reference]).expect_code(12);
    let digests = [image.digest().to_string(), other.digest().to_string()];
    assert_says(&mismatch.stdout, &["MISMATCH", &digests[0], &digests[1]]);
    let presented = client.run(&["verify", &format!("{reference}@{}", digests[1])]).expect_code(12);
    assert_says(&presented.stdout, &["MISMATCH"]);
    client.run(&["verify", &format!("{}/{IMAGES}@{}", world.host(), digests[1])]).expect_code(10);
    let resolved = format!("{}/{IMAGES}@{}\n", world.host(), digests[0]);
    assert_eq!(client.run(&["resolve", &reference]).ok().stdout, resolved);
    image.push(&reference, &world.side()).ok();
    verified(world, client, "v1", image);
}

fn revoked(world: &World, client: &Cli, image: &Image) {
    let done = world.revoke("v1", "it leaks the key").ok();
    assert_says(&done.stdout, &["revoked", &image.digest().to_string()]);
    let by_digest = format!("{}/{IMAGES}@{}", world.host(), image.digest());
    for reference in [world.reference("v1"), by_digest] {
        let refused = client.run(&["verify", &reference]).expect_code(14);
        assert_says(&refused.stdout, &["REVOKED", "it leaks the key"]);
    }
    assert_eq!(client.run(&["resolve", &world.reference("v1")]).expect_code(14).stdout, "");
    let json = client.run(&["verify", &world.reference("v1"), "-o", "json"]).expect_code(14).json();
    assert_eq!(json["revocation"]["reason"], "it leaks the key");
    assert_eq!(json["revocation"]["digest"], image.digest().to_string());
}

fn status(world: &World) {
    let status = world.owner().run(&["status"]).ok();
    assert_says(&status.stdout, &[&world.trust(), "root", "timestamp", "snapshot", ROLE, "acme/net-monitor"]);
    let json = world.owner().run(&["status", "-o", "json"]).ok().json();
    let roles = json[0]["roles"].as_array().unwrap();
    let names: Vec<_> = roles.iter().map(|role| role["role"].as_str().unwrap()).collect();
    assert_eq!(names, ["root", "timestamp", "snapshot", "targets", ROLE]);
    assert!(roles.iter().all(|role| role["fault"].is_null()), "{json:#}");
}

#[test]
fn an_index_is_verified_by_tag_and_by_digest() {
    let registry = Registry::open();
    let world = World::ready(Site::at(&registry.address()));
    let index = Image::busybox_index("two platforms\n");
    index.push(&world.reference("multi"), &world.side()).ok();
    world.sign("multi").ok();
    let client = world.client("client");
    verified(&world, &client, "multi", &index);
    let json = client.run(&["verify", &world.reference("multi"), "-o", "json"]).ok().json();
    assert_eq!(json["media_type"], "application/vnd.oci.image.index.v1+json");

    // A container engine asks for the index, then for a platform by its digest: it was signed with the index.
    let manifest = skopeo::inspect_raw(&world.reference("multi"), &world.side()).ok().json();
    let platform = manifest["manifests"][0]["digest"].as_str().unwrap();
    client.run(&["verify", &format!("{}/{IMAGES}@{platform}", world.host())]).ok();
}

/// P3, and that an emergency does not need the team: the owner takes back by tag what the team signed, and the team goes on.
#[test]
fn the_owner_revokes_what_the_team_signed_and_the_team_can_still_publish() {
    let registry = Registry::open();
    let world = World::ready(Site::at(&registry.address()));
    let client = world.client("client");
    let bad = world.push("v1", "broken into\n");
    world.sign("v1").ok();
    verified(&world, &client, "v1", &bad);
    let tag = world.reference("v1");
    let signed = ["--key", "owner.key", "--passphrase-file", "passphrase"];
    let revoked =
        world.owner().run(&[&["revoke", &tag, "--reason", "builder broken into"], &signed[..]].concat());
    assert_says(&revoked.ok().stdout, &[&format!("revoked {}", bad.digest())]);
    client.run(&["verify", &tag]).expect_code(14);
    // What was revoked above is dropped from the team's next version, which the daemon would refuse otherwise.
    world.sign("v1").expect_code(2);
    let good = world.push("v2", "repaired\n");
    world.sign("v2").ok();
    verified(&world, &client, "v2", &good);
    client.run(&["verify", &tag]).expect_code(14);
    // Signing a tag anew says what it meant before.
    let newer = world.push("v2", "repaired again\n");
    assert_says(&world.sign("v2").ok().stdout, &[&format!("was    {}", good.digest())]);
    verified(&world, &client, "v2", &newer);
}

#[test]
fn ecdsa_keys_do_all_that_the_default_ones_do() {
    let registry = Registry::open();
    let world = World::start(Site::at(&registry.address()).ecdsa());
    let client = join(&world);
    let shown = world.owner().run(&["key", "show", "owner.pub"]).ok();
    assert_says(&shown.stdout, &["ECDSA P-256"]);
    let image = world.push("v1", "signed by ecdsa\n");
    world.sign("v1").ok();
    verified(&world, &client, "v1", &image);
    world.revoke("v1", "enough").ok();
    client.run(&["verify", &world.reference("v1")]).expect_code(14);
}

/// Where a registry sends no `ETag`, a 200 whose digest is the known one means that nothing changed.
#[test]
fn a_registry_without_etags_costs_a_body_and_no_more() {
    let registry = Registry::open();
    let world = World::ready(Site::at(&registry.address()));
    world.push("v1", "no etag\n");
    world.sign("v1").ok();
    let middle = Middle::start(&registry.address());
    middle.set(
        Rule::new("GET HEAD", "/v2/"),
        Effect::edit(|answer| {
            answer.headers.remove("etag");
        }),
    );
    let client = world.client_at("client", &middle.address());
    let reference = world.reference_at(&middle.address(), "v1");
    client.run(&["resolve", &reference]).ok();
    let state = files(&state_folder(&client));
    middle.take_log();

    client.run(&["resolve", &reference]).ok();
    let log = middle.take_log();
    assert_eq!(log.len(), 1, "{log:#?}");
    assert_eq!((log[0].path.as_str(), log[0].status), ("/v2/acme/trust/manifests/latest", 200));
    assert!(!log[0].conditional);
    assert_eq!(files(&state_folder(&client)), state);
}

/// Every one of `words` is in `text`.
#[track_caller]
fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "`{word}` is not in:\n{text}");
    }
}
