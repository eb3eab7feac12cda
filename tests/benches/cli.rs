//! One publisher who signs a tag with the command line, end to end, against a bare client that makes the same requests.
//!
//! There are two worlds that go through the same publishes, each with a registry and a daemon of its own. In one a person
//! signs tag after tag with `plimsoll sign`, and the wall clock is read from outside of the process. In the other a bare
//! client, which knows no TUF and opens one connection for each that the command opened, sends what the command was seen to
//! send there once, in the same order, with documents that were signed beforehand. Both wait until the registry shows it.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use plimsoll::{
    clock::{Clock, SystemClock},
    keys::{Passphrase, PrivateKey},
    publish::author,
};
use plimsoll_core::tuf::{Document, Targets};
use plimsoll_tests::{
    docker_registry::Registry,
    http,
    process::Cli,
    world::{IMAGES, NAME, ROLE, Site, World},
};

use crate::{
    connection::Connection,
    crowd::body,
    table::{Row, Target, median},
    tape::{Request, Tape},
};

const ROUNDS: usize = 30;
/// Signed before it counts: what a publisher has at hand who signs again.
const BEFORE: usize = 3;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

pub(crate) fn rows(wants: &dyn Fn(&str) -> bool) -> Vec<Row> {
    const SIGN: &str = "cli: p50 of plimsoll sign less a decryption / its requests alone";
    if !wants(SIGN) {
        return Vec::new();
    }
    let (ours, other) = (Place::new(), Place::new());
    for at in 0..BEFORE {
        ours.sign(at);
        other.sign(at);
    }
    ours.sign(BEFORE);
    let replay = Replay::record(&other, BEFORE);
    let key = ours.team.home().join("team.key");
    let passphrase = Passphrase::from_file(&ours.team.home().join("passphrase")).unwrap();

    let (mut signed, mut replayed, mut opened) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..=ROUNDS {
        let sign = timed(|| ours.sign(BEFORE + 1 + at));
        let body = replay.next(&other);
        let bare = timed(|| replay.send(&other, &body));
        let open = timed(|| drop(PrivateKey::load(&key, &passphrase).unwrap()));
        if at > 0 {
            signed.push(sign);
            replayed.push(bare);
            opened.push(open);
        }
    }
    let (signed, opened) = (median(signed), median(opened));
    println!(
        "cli: a signed tag takes {signed:.1?}, of which opening the key {opened:.1?}; {} requests on {} connections",
        replay.requests.len(),
        replay.connections(),
    );
    vec![Row {
        name: SIGN,
        ours: signed.saturating_sub(opened).into(),
        other: median(replayed).into(),
        target: Target::AtMost(3.0),
    }]
}

fn timed(call: impl FnOnce()) -> Duration {
    let start = Instant::now();
    call();
    start.elapsed()
}

/// A world with tags to sign.
struct Place {
    registry: Registry,
    world: World,
    team: Cli,
}

impl Place {
    fn new() -> Self {
        let registry = Registry::open();
        let world = World::ready(Site::at(&registry.address()));
        world.push("v0", "for the bench\n");
        let manifests = format!("{}/v2/{IMAGES}/manifests", registry.url());
        let manifest =
            http::request("GET", &format!("{manifests}/v0"), &[("accept", MANIFEST)], b"").unwrap();
        for at in 1..BEFORE + ROUNDS + 2 {
            let put = format!("{manifests}/v{at}");
            let answer = http::request("PUT", &put, &[("content-type", MANIFEST)], &manifest.body).unwrap();
            assert_eq!(answer.status, 201);
        }
        let team = world.team();
        Self { registry, world, team }
    }

    fn sign(&self, at: usize) {
        self.world.sign(&format!("v{at}")).ok();
    }
}

/// What the command line sends when it signs a tag.
struct Replay {
    requests: Vec<(Host, Request)>,
    key: PrivateKey,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Host {
    Registry,
    Daemon,
}

impl Replay {
    /// Signs tag `at` there with proxies in between.
    fn record(place: &Place, at: usize) -> Self {
        let registry = Tape::start(&place.registry.address());
        let daemon = Tape::start(&place.world.daemon.address());
        let team = place.team.home();
        let path = |name: &str| -> PathBuf { team.join(name) };
        let machine = place.world.client_at("recorder", registry.address());
        let machine = machine.env("PLIMSOLL_SERVER", &format!("http://{}", daemon.address()));
        let sign = |tag: usize| {
            let reference = place.world.reference_at(registry.address(), &format!("v{tag}"));
            let (key, passphrase) = (path("team.key"), path("passphrase"));
            let (key, passphrase) = (key.to_str().unwrap(), passphrase.to_str().unwrap());
            machine.run(&["sign", &reference, "--key", key, "--passphrase-file", passphrase]).ok();
        };
        // The second time it knows what its own first time published, as the machine whose time is taken does.
        sign(at - 1);
        registry.take();
        daemon.take();
        sign(at);
        // One request after the other, so the order of each host's is the order of all but for where they alternate.
        let all = [(Host::Registry, registry.take()), (Host::Daemon, daemon.take())];
        let mut requests: Vec<(Host, Request)> =
            all.into_iter().flat_map(|(host, list)| list.into_iter().map(move |one| (host, one))).collect();
        requests.sort_by_key(|(_, request)| request.at);
        let passphrase = Passphrase::from_file(&path("passphrase")).unwrap();
        Self { requests, key: PrivateKey::load(&path("team.key"), &passphrase).unwrap() }
    }

    fn connections(&self) -> usize {
        let mut all: Vec<_> =
            self.requests.iter().map(|(host, one)| (*host as usize, one.connection)).collect();
        all.sort_unstable();
        all.dedup();
        all.len()
    }

    /// A submission of the role as it is, in its next version.
    fn next(&self, place: &Place) -> Vec<u8> {
        let mut connection = Connection::open(&place.world.daemon.address());
        let (_, info) = connection.send("GET", &format!("/v1/trusts/{NAME}"), b"");
        let info: serde_json::Value = serde_json::from_slice(&info).unwrap();
        let version = info["heads"][ROLE].as_u64().unwrap();
        let path = format!("/tuf/{NAME}/metadata/{version}.{ROLE}.json");
        let (status, bytes) = connection.send("GET", &path, b"");
        assert_eq!(status, 200);
        let mut role = Document::<Targets>::parse(ROLE, &bytes).unwrap().signed.clone();
        role.common.version += 1;
        if let Some(identity) = &mut role.common.identity {
            identity.at = SystemClock.now();
        }
        body(&[(ROLE.to_owned(), author::sign(&role, &[&self.key]).unwrap())].into())
    }

    fn send(&self, place: &Place, submission: &[u8]) {
        let hosts = [place.registry.address(), place.world.daemon.address()];
        let mut open: Vec<(Host, usize, Connection)> = Vec::new();
        let mut id = String::new();
        for (host, request) in &self.requests {
            let found = open.iter().position(|(at, number, _)| (at, *number) == (host, request.connection));
            let found = found.unwrap_or_else(|| {
                open.push((*host, request.connection, Connection::open(&hosts[*host as usize])));
                open.len() - 1
            });
            let connection = &mut open[found].2;
            let submits = request.method == "POST";
            let body = if submits { submission } else { &request.body };
            let path = match request.path.split_once("/submissions/") {
                Some((before, rest)) => {
                    let query = rest.split_once('?').map(|(_, query)| format!("?{query}"));
                    format!("{before}/submissions/{id}{}", query.unwrap_or_default())
                }
                None => request.path.clone(),
            };
            let (status, answer) = connection.send_with(&request.method, &path, &request.headers, body);
            assert!(matches!(status, 200..=299 | 304 | 404), "{status}: {} {path}", request.method);
            let answer = || serde_json::from_slice::<serde_json::Value>(&answer).unwrap();
            if submits {
                id = answer()["id"].as_str().unwrap().to_owned();
            } else if path.contains("/submissions/") {
                assert_eq!(answer()["state"], "published");
            }
        }
    }
}
