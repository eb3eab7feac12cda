//! A hostile registry on the wire, against the real command line: statuses, headers, sizes, names, and what is asked.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod victim;

use std::fs;

use plimsoll::{
    clock::{Clock, SystemClock},
    keys::{Passphrase, PrivateKey},
    publish::author,
    registry::{Registry as Client, RegistryOptions},
    update::{Bounds, Session, TufSource, UpdateError},
};
use plimsoll_core::{
    oci::Digest,
    policy::Verdict,
    tuf::{Document, Root},
};
use plimsoll_tests::{
    docker_registry::Registry,
    middle::{Answer, Effect, Entry, Middle, Rule},
    process::Run,
    world::{IMAGES, NAME, Site, TRUST, World, files, state_folder},
};
use serde_json::{Value, json};
use victim::{LATEST, MANIFEST, Stage, Victim, html, latest};

/// Method, path and status of each request.
fn requests(log: &[Entry]) -> Vec<(&str, &str, u16)> {
    log.iter().map(|entry| (entry.method.as_str(), entry.path.as_str(), entry.status)).collect()
}

/// T45: of a plain TUF repository. "No newer root" is what a 404 says, and nothing else does.
#[test]
fn only_a_404_says_that_there_is_no_newer_root() {
    let stage = Stage::shared();
    let middle = Middle::start(&stage.world.daemon.address());
    let base = format!("/tuf/{NAME}/metadata");
    let url: url::Url = format!("{}{base}/", middle.url()).parse().unwrap();
    let pinned = fs::read(stage.world.owner().home().join("acme-root.json")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let now = SystemClock.now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refresh = || {
        let client = Client::new(RegistryOptions::default()).unwrap();
        runtime.block_on(Session::refresh(
            TufSource::new(client, url.clone()),
            folder.path(),
            &pinned,
            now,
            &Bounds::default(),
        ))
    };
    let next = format!("{base}/2.root.json");

    refresh().unwrap();
    let log = middle.take_log();
    let (first, rest) = (requests(&log)[0], &log[1..]);
    assert_eq!(first, ("GET", next.as_str(), 404));
    assert_eq!((rest[0].path.as_str(), rest[0].status), (format!("{base}/timestamp.json").as_str(), 200));
    // Each file once: no HEAD before it and none twice, not even the 404.
    let mut paths: Vec<_> = log.iter().map(|entry| &entry.path).collect();
    paths.dedup();
    assert_eq!(paths.len(), log.len(), "{log:#?}");
    assert!(log.iter().all(|entry| entry.method == "GET"), "{log:#?}");

    let redirect = |to: &str| Effect::Answer(Answer::status(302).header("location", to));
    let away = Middle::start("127.0.0.1:1");
    away.set(Rule::new("*", "/"), Effect::Status(404));
    let before = files(folder.path());
    for (what, effect, verdict, asked) in [
        ("401", Effect::Status(401), Verdict::Auth, 1),
        ("403", Effect::Status(403), Verdict::Auth, 1),
        ("410", Effect::Status(410), Verdict::Unreachable, 1),
        ("429", Effect::Status(429), Verdict::Unreachable, 1),
        ("500", Effect::Status(500), Verdict::Unreachable, 2),
        ("502", Effect::Status(502), Verdict::Unreachable, 1),
        ("503", Effect::Status(503), Verdict::Unreachable, 1),
        ("204", Effect::Status(204), Verdict::Unreachable, 1),
        ("206", Effect::Status(206), Verdict::Unreachable, 1),
        ("304", Effect::Status(304), Verdict::Unreachable, 1),
        ("reset", Effect::Reset, Verdict::Unreachable, 2),
        ("reset after", Effect::ResetAfter, Verdict::Unreachable, 2),
        ("HTML", html(), Verdict::Untrusted, 1),
        ("nothing", Effect::Answer(Answer::status(200)), Verdict::Untrusted, 1),
        ("a body without end", Effect::Answer(huge()), Verdict::Untrusted, 1),
        ("a 404 by somebody else", redirect(&format!("{}/x", away.url())), Verdict::Unreachable, 1),
        ("a redirect to nowhere", Effect::Status(302), Verdict::Unreachable, 1),
    ] {
        middle.set(Rule::new("*", &next), effect);
        middle.take_log();
        let error = refresh().unwrap_err();
        assert_eq!(error.verdict(), Some(verdict), "{what}: {error:?}");
        let log = middle.take_log();
        assert!(log.iter().all(|entry| entry.path == next), "{what}: nothing else is asked: {log:#?}");
        assert_eq!(log.len(), asked, "{what}: {log:#?}");
        assert_eq!(files(folder.path()), before, "{what}: trusted state");
        middle.clear();
    }
    refresh().unwrap();
}

/// T46: a chain of roots that goes on and on is walked 256 steps at a time, and each step is kept.
#[test]
fn a_run_takes_256_roots_and_the_next_goes_on() {
    let stage = Stage::shared();
    let owner = stage.world.owner();
    let middle = Middle::start(&stage.world.daemon.address());
    let base = format!("/tuf/{NAME}/metadata");
    let url: url::Url = format!("{}{base}/", middle.url()).parse().unwrap();
    let pinned = fs::read(owner.home().join("acme-root.json")).unwrap();
    let passphrase = Passphrase::from_file(&owner.home().join("passphrase")).unwrap();
    let key = PrivateKey::load(&owner.home().join("owner.key"), &passphrase).unwrap();
    let mut root = Document::<Root>::parse("root", &pinned).unwrap().signed.clone();
    for version in 2..=300 {
        root.common.version = version;
        let bytes = author::sign(&root, &[&key]).unwrap();
        let rule = Rule::new("GET", &format!("{base}/{version}.root.json"));
        middle.set(rule, Effect::Answer(Answer::status(200).body(bytes)));
    }
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refresh = || {
        let source = TufSource::new(Client::new(RegistryOptions::default()).unwrap(), url.clone());
        runtime.block_on(Session::refresh(
            source,
            folder.path(),
            &pinned,
            SystemClock.now(),
            &Bounds::default(),
        ))
    };
    let error = refresh().unwrap_err();
    assert!(matches!(error, UpdateError::TooManyRoots), "{error:?}");
    assert_eq!(error.verdict(), Some(Verdict::Unreachable));
    let log = middle.take_log();
    let asked: Vec<_> = log.iter().map(|entry| entry.path.clone()).collect();
    let roots: Vec<_> = (2..=258).map(|version| format!("{base}/{version}.root.json")).collect();
    assert_eq!(asked, roots, "nothing but roots, each once");

    assert_eq!(refresh().unwrap().trusted().root().version(), 300);
    let log = middle.take_log();
    assert_eq!(log[0].path, format!("{base}/258.root.json"), "it goes on where it was");

    // What remembers nothing has no next run, so it goes on by itself.
    let fresh = tempfile::tempdir().unwrap();
    let source = TufSource::new(Client::new(RegistryOptions::default()).unwrap(), url.clone());
    let rehearsed = runtime.block_on(Session::rehearse(
        source,
        fresh.path(),
        &pinned,
        SystemClock.now(),
        &Bounds::default(),
    ));
    assert_eq!(rehearsed.unwrap().trusted().root().version(), 300);
    assert!(files(fresh.path()).is_empty(), "{:?}", files(fresh.path()));
}

/// An answer that says it is a gigabyte.
fn huge() -> Answer {
    Answer::status(200).header("content-type", MANIFEST).header("content-length", "1000000000")
}

/// T45: in a registry. What is listed must be had; what is not listed is withheld at worst.
#[test]
fn a_root_that_is_listed_is_never_taken_for_missing() {
    let stage = Stage::new(|site| site);
    let victim = stage.victim("next-root");
    let known = latest(&victim);
    stage.world.renew_root();
    let manifest: Value = {
        let fresh = stage.world.client_at("fresh", &victim.middle.address());
        fresh.run(&["resolve", &victim.reference]).ok();
        serde_json::from_slice(&latest(&victim).body).unwrap()
    };
    let name = |layer: &Value| layer["annotations"]["tuf.io/filename"].as_str().map(str::to_owned);
    let layers = manifest["layers"].as_array().unwrap();
    let root = layers.iter().find(|layer| name(layer).as_deref() == Some("2.root.json")).unwrap();
    let blob = format!("/v2/{TRUST}/blobs/{}", root["digest"].as_str().unwrap());
    for (what, effect, code, word) in [
        ("401", Effect::Status(401), 31, "AUTH"),
        ("403", Effect::Status(403), 31, "denies access"),
        ("404", Effect::Status(404), 30, "does not have it"),
        ("410", Effect::Status(410), 30, "410"),
        ("429", Effect::Status(429), 30, "429"),
        ("500", Effect::Status(500), 30, "500"),
        ("503", Effect::Status(503), 30, "503"),
        ("206", Effect::Status(206), 30, "206"),
        ("reset", Effect::Reset, 30, "UNREACHABLE"),
        ("cut off", Effect::Truncate(100), 30, "cut off"),
        ("HTML", html(), 22, "UNTRUSTED"),
        ("one bit", Effect::WrongBytes, 22, "digest"),
        ("without end", Effect::Endless, 22, "UNTRUSTED"),
    ] {
        victim.attack(&blob, effect);
        victim.is_stopped(what, code, &[word]);
    }

    // A well-formed manifest that does not list it is an older one played back: nothing is proven, and nothing forgotten.
    let before = victim.state();
    victim.attack(LATEST, Effect::Answer(known));
    victim.verify().ok();
    assert!(!victim.state().keys().any(|path| path.ends_with("roots/2.json")));
    victim.middle.clear();
    victim.verify().ok();
    assert!(victim.state().keys().any(|path| path.ends_with("roots/2.json")));
    assert_ne!(victim.state(), before);
    // Nor is a root that is known forgotten when it is not listed any more.
    victim.look_anew();
    victim.attack(
        LATEST,
        Effect::edit(|answer| {
            let mut manifest: Value = serde_json::from_slice(&answer.body).unwrap();
            manifest["layers"]
                .as_array_mut()
                .unwrap()
                .retain(|layer| layer["annotations"]["tuf.io/filename"].as_str() != Some("2.root.json"));
            answer.body = manifest.to_string().into();
            answer.headers.remove("etag");
        }),
    );
    victim.verify().ok();
    assert!(victim.state().keys().any(|path| path.ends_with("roots/2.json")));
}

/// T41, T43, T47, T77: a status, a type or a shape that is nearly right.
#[test]
fn an_entry_point_that_is_nearly_right_is_refused() {
    let stage = Stage::shared();
    let victim = stage.victim("nearly");
    let good = latest(&victim);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut manifest: Value = serde_json::from_slice(&good.body).unwrap();
        change(&mut manifest);
        Effect::Answer(good.clone().body(manifest.to_string()))
    };
    let status = |status: u16| Effect::Answer(Answer { status, ..good.clone() });
    let typed = |kind: &str| Effect::Answer(good.clone().header("content-type", kind));
    let gzip = Effect::Answer(good.clone().header("content-encoding", "gzip"));
    for (what, effect, code, word) in [
        ("201", status(201), 30, "201"),
        ("202", status(202), 30, "202"),
        ("203", status(203), 30, "203"),
        ("206", status(206), 30, "206"),
        ("300", status(300), 30, "300"),
        ("302 to nowhere", status(302), 30, "no usable Location"),
        ("a 304 for nothing", status(304), 30, "304"),
        (
            "an index by its header",
            typed("application/vnd.oci.image.index.v1+json"),
            22,
            "refused as a manifest",
        ),
        ("text by its header", typed("text/plain"), 22, "not a manifest"),
        ("packed", gzip, 22, "content encoding"),
        (
            "an index by its mediaType",
            with(&|manifest| manifest["mediaType"] = json!("application/vnd.oci.image.index.v1+json")),
            22,
            "refused as a manifest",
        ),
        (
            "manifests besides layers",
            with(&|manifest| manifest["manifests"] = json!([])),
            22,
            "refused as a manifest",
        ),
        (
            "twenty thousand layers",
            with(&|manifest| {
                let layer = manifest["layers"][1].clone();
                manifest["layers"].as_array_mut().unwrap().resize(20_000, layer);
            }),
            22,
            "UNTRUSTED",
        ),
        ("too large", Effect::Answer(good.clone().body(vec![b' '; 5 << 20])), 22, "larger than"),
    ] {
        victim.look_anew();
        victim.attack(LATEST, effect);
        victim.is_stopped(what, code, &[word]);
    }
    victim.verify().ok();
}

/// T42, T71: what headers say of digests, links and pages is neither believed nor followed.
#[test]
fn headers_that_lie_or_lead_on_change_nothing() {
    let stage = Stage::shared();
    let middle = Middle::start(&stage.registry.address());
    let client = stage.world.client_at("headers", &middle.address());
    let reference = stage.world.reference_at(&middle.address(), "v1");
    middle.set(Rule::new("*", "/acme/trust/"), Effect::edit(|answer| {
        for (name, value) in [
            ("docker-content-digest", Digest::of(b"a lie").to_string().as_str()),
            ("link", "</v2/acme/trust/tags/list?n=1>; rel=\"next\", </v2/acme/trust/manifests/latest>; rel=next"),
            ("oci-subject", "sha256:00"),
            ("oci-filters-applied", "artifactType"),
            ("refresh", "0; url=/v2/"),
        ] {
            *answer = std::mem::take(answer).header(name, value);
        }
    }));
    client.run(&["verify", &reference]).ok();
    let log = middle.take_log();
    let asked: Vec<_> = log.iter().map(|entry| (entry.method.as_str(), entry.path.as_str())).collect();
    let [latest, (method, role), head] = asked[..] else { panic!("{log:#?}") };
    assert_eq!((latest, method), (("GET", LATEST), "GET"));
    assert!(role.starts_with("/v2/acme/trust/blobs/sha256:"), "{role}");
    assert_eq!(head, ("HEAD", format!("/v2/{IMAGES}/manifests/v1").as_str()));
}

/// T78: a tag that moves between two looks. The verdict is about one digest, and that is the one that was signed.
#[test]
fn a_tag_that_moves_between_two_requests_is_judged_once() {
    let stage = Stage::shared();
    let victim = stage.victim("moving");
    let tag = format!("/v2/{IMAGES}/manifests/v1");
    let other =
        Answer::status(200).header("content-type", MANIFEST).body(r#"{"schemaVersion":2,"layers":[]}"#);
    let signed = victim.client.run(&["resolve", &victim.reference]).ok().stdout;

    // Whoever asks by GET is shown another image: nobody does, and what may be run is named by its digest.
    victim.middle.set(Rule::new("GET", &tag), Effect::Answer(other.clone()));
    victim.middle.take_log();
    let json = victim.client.run(&["verify", &victim.reference, "-o", "json"]).ok().json();
    assert_eq!(json["resolved"], signed.trim_end());
    assert_eq!(json["digest"], json["presented"]);
    let log = victim.middle.take_log();
    assert_eq!(log.iter().filter(|entry| entry.path == tag).count(), 1, "{log:#?}");
    assert!(log.iter().all(|entry| entry.path != tag || entry.method == "HEAD"), "{log:#?}");

    // A HEAD that names no digest: then what is hashed is what GET gives, and no other word counts.
    let silent = Effect::edit(|answer| drop(answer.headers.remove("docker-content-digest")));
    victim.middle.set(Rule::new("HEAD", &tag), silent);
    let before = victim.state();
    let json = victim.client.run(&["verify", &victim.reference, "-o", "json"]).expect_code(12).json();
    assert_eq!(json["presented"], Digest::of(&other.body).to_string());
    assert_eq!(json["resolved"], Value::Null);
    assert_eq!(victim.state(), before);
}

/// T78: what is signed is what was read, in one request; the second look only asks whether the tag still means that.
#[test]
fn sign_signs_the_bytes_it_read() {
    let registry = Registry::open();
    let middle = Middle::start(&registry.address());
    let world = World::ready(Site::at(&middle.address()));
    let (first, second) = (world.push("v1", "one\n"), world.push("v2", "two\n"));
    let tag = format!("/v2/{IMAGES}/manifests/v1");
    // The tag is v2's image to all who read it a second time; the header says v2 at once.
    let lie = Effect::edit({
        let digest = second.digest().to_string();
        move |answer| *answer = std::mem::take(answer).header("docker-content-digest", &digest)
    });
    let moved = middle.recorded(&format!("/v2/{IMAGES}/manifests/v2")).pop();
    let moved = moved.map_or(Effect::Status(404), Effect::Answer);
    middle.set(Rule::new("GET", &tag), moved);
    middle.set(Rule::new("GET", &tag).times(1), lie);
    middle.take_log();
    let signed = world.sign("v1").ok();
    assert!(signed.stdout.contains(&first.digest().to_string()), "{}", signed.stdout);
    assert!(!signed.stdout.contains(&second.digest().to_string()), "{}", signed.stdout);
    let log = middle.take_log();
    let looks: Vec<_> =
        log.iter().filter(|entry| entry.path == tag).map(|entry| entry.method.as_str()).collect();
    assert_eq!(looks, ["GET", "HEAD"]);
    middle.clear();
    let resolved = world.team().run(&["resolve", &world.reference("v1")]).ok().stdout;
    assert_eq!(resolved.trim_end(), format!("{}/{IMAGES}@{}", world.host(), first.digest()));
}

/// T60, T63: names and digests that are none are the user's mistake; nobody is asked about them.
#[test]
fn references_that_are_none_cost_no_request() {
    let stage = Stage::shared();
    let victim = stage.victim("names");
    let host = victim.middle.address();
    let hex = "0".repeat(64);
    let long = "a".repeat(300);
    let dots = format!("a{}", ".a".repeat(50_000));
    let mut bad: Vec<String> =
        ["../x", "/x", "x/../y", "./x", ".", "..", "x/", "x//y", "CON", "a%2Fb", "a%00b"]
            .into_iter()
            .chain([r"a\b", "a b", "a\nb", "ä", "a\u{202e}b", "-x", "x-", "a?b", "a#b", "a@b"])
            .chain([long.as_str(), dots.as_str()])
            .map(|name| format!("{host}/{name}:v1"))
            .collect();
    for digest in [
        "sha256:../../x".to_owned(),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}0"),
        format!("sha256:{}", "A".repeat(64)),
        format!("SHA256:{hex}"),
        format!("sha512:{hex}"),
        format!("md5:{}", &hex[..32]),
        format!("sha256:{}g", &hex[1..]),
        format!("sha256:{hex}/../x"),
        format!("sha256%3A{hex}"),
        format!("sha256:{hex}@sha256:{hex}"),
        "sha256:".to_owned(),
        hex.clone(),
        String::new(),
    ] {
        bad.push(format!("{host}/{IMAGES}@{digest}"));
        bad.push(format!("{host}/{IMAGES}:v1@{digest}"));
    }
    for tag in ["", "../x", ".x", "-x", "a/b", "a%b", "a\\b", &"t".repeat(129)] {
        bad.push(format!("{host}/{IMAGES}:{tag}"));
    }
    victim.middle.take_log();
    let before = victim.state();
    for reference in &bad {
        for command in ["verify", "resolve"] {
            let Run { code, stdout, stderr, .. } = victim.client.run(&[command, "--", reference]);
            let shown: String = reference.chars().take(300).collect();
            assert_eq!((code, stdout.as_str()), (2, ""), "{command} {shown}: {stderr}");
        }
    }
    assert_eq!(requests(&victim.middle.take_log()), []);
    assert_eq!(victim.state(), before);
}

/// T72, T73, T75: where a registry sends us, from the command line.
#[test]
fn a_way_that_leads_astray_is_not_taken() {
    let stage = Stage::shared();
    let victim = stage.victim("astray");
    let foreign = Middle::start("127.0.0.1:1");
    let login = |realm: &str| {
        let challenge = format!("Bearer realm=\"{realm}\",service=\"x\"");
        Effect::Answer(Answer::status(401).header("www-authenticate", &challenge))
    };
    let redirect = |to: &str| Effect::Answer(Answer::status(307).header("location", to));
    let around = format!("http://127.0.0.1:{}{LATEST}", victim.middle.address().rsplit(':').next().unwrap());
    for (what, effect, code, word) in [
        ("a realm without TLS", login("http://auth.example.com/token"), 22, "not asked"),
        ("a realm that is a file", login("file:///etc/passwd"), 22, "not asked"),
        ("a realm with a password", login("http://u:p@127.0.0.1/token"), 22, "not asked"),
        ("a realm that is none", login("nonsense"), 22, "not asked"),
        ("a redirect off TLS", redirect("http://registry.example.com/x"), 22, "not followed"),
        ("a redirect to a file", redirect("file:///etc/passwd"), 22, "not followed"),
        (
            "a redirect with a password",
            redirect(&format!("http://u:p@{}/", foreign.address())),
            22,
            "not followed",
        ),
        ("a circle", redirect(&around), 22, "not followed"),
    ] {
        victim.look_anew();
        victim.attack(LATEST, effect);
        victim.is_stopped(what, code, &[word]);
    }
    assert_eq!(requests(&foreign.log()), []);
    victim.verify().ok();
}

/// T40, T43: with less memory than the registry sends, the verdict is the same: nothing is kept that is not wanted.
#[test]
fn hostile_bytes_do_not_fill_the_memory() {
    let stage = Stage::shared();
    let victim = stage.victim("memory");
    let good = latest(&victim);
    let spaces = |megabytes: usize| vec![b' '; megabytes << 20];
    let honest = good.clone().header("content-encoding", "gzip");
    let nested = [vec![b'['; 1 << 19], vec![b']'; 1 << 19]].concat();
    for (what, path, effect, code) in [
        ("a body without end", LATEST, Effect::Endless, 22),
        ("an announced gigabyte", LATEST, Effect::Answer(huge()), 22),
        ("a quarter of a gigabyte", LATEST, Effect::Answer(good.clone().body(spaces(256))), 22),
        ("a packed one", LATEST, Effect::Answer(honest.body(spaces(256))), 22),
        ("brackets", LATEST, Effect::Answer(good.clone().body(nested)), 22),
        ("a page without end", LATEST, Effect::Answer(html_of(spaces(256))), 22),
        ("a fault with a page", LATEST, Effect::Answer(Answer::status(503).body(spaces(256))), 30),
        ("a role without end", "/acme/trust/blobs/", Effect::Endless, 22),
    ] {
        let roles = state_folder(&victim.client).join("roles");
        if path == LATEST {
            victim.look_anew();
        } else {
            fs::remove_dir_all(&roles).unwrap();
            fs::create_dir(&roles).unwrap();
        }
        let before = victim.state();
        victim.attack(path, effect);
        let run = limited(&victim);
        assert_eq!(run.code, code, "{what}: {}{}", run.stdout, run.stderr);
        assert_eq!(victim.state(), before, "{what}: trusted state");
        victim.middle.clear();
        limited(&victim).ok();
    }
}

fn html_of(body: Vec<u8>) -> Answer {
    Answer::status(200).header("content-type", "text/html").body(body)
}

/// `plimsoll verify` in an address space of 128 MiB.
fn limited(victim: &Victim) -> Run {
    victim.client.shell(&format!("ulimit -v 131072; exec plimsoll verify {}", victim.reference))
}
