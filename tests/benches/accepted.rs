//! Durable, verified publishes from sixteen publishers at once, against what no daemon could do without.

use std::{
    fmt,
    fs::File,
    io::Write,
    ops::Range,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use plimsoll::{
    clock::{Clock, SystemClock},
    keys::Signer,
    publish::api::TrustInfo,
};
use plimsoll_core::{
    oci::Digest,
    tuf::{Document, Targets, Timestamp, verify},
};
use plimsoll_server::store::{Commit, Head, RoleHead, SledStore, Store, TrustKey};
use plimsoll_tests::{docker_registry::Registry, process::Daemon};
use tempfile::TempDir;

use crate::{
    connection::{Connection, cpu_of},
    crowd::{Crowd, body, role},
    parts::Parts,
    table::{Row, Target, cpu},
};

const PUBLISHERS: usize = 16;
/// Each publisher's.
const PUBLISHES: usize = 150;

/// A daemon with a trust repository of `teams` teams in a registry of its own.
pub(crate) struct Site {
    pub(crate) registry: Registry,
    pub(crate) daemon: Daemon,
    pub(crate) crowd: Crowd,
    _home: TempDir,
}

impl Site {
    pub(crate) fn new(teams: usize) -> Self {
        let (registry, home) = (Registry::open(), tempfile::tempdir().unwrap());
        let repository = format!("{}/acme/trust", registry.address());
        let config = format!(
            "data = \"data\"\nlisten = \"127.0.0.1:0\"\n[quota]\npublishes-per-minute = 1000000\n[[trust]]\nname = \"acme\"\nrepository = \"{repository}\"\n"
        );
        let daemon = Daemon::start(home.path(), &config);
        let site = Self { registry, daemon, crowd: Crowd::new(teams, now()), _home: home };
        let mut connection = site.connect();
        let (_, info) = connection.send("GET", "/v1/trusts/acme", b"");
        let info: TrustInfo = serde_json::from_slice(&info).unwrap();
        for documents in site.crowd.beginning(&info.online) {
            accept(&mut connection, &body(&documents));
        }
        site
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::open(&self.daemon.address())
    }
}

/// Publishes `body`, which must be accepted; its id.
pub(crate) fn accept(connection: &mut Connection, body: &[u8]) -> String {
    let (status, answer) = connection.send("POST", "/v1/trusts/acme/submissions", body);
    assert_eq!(status, 202, "{}", String::from_utf8_lossy(&answer));
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    answer["id"].as_str().unwrap().to_owned()
}

fn now() -> DateTime<Utc> {
    SystemClock.now()
}

pub(crate) fn rows(wants: &dyn Fn(&str) -> bool) -> Vec<Row> {
    const ACCEPTED: &str = "accepted: CPU of verify+sha256+parse+fsync / the daemon's";
    const PARTS: &str = "accepted: the daemon's CPU / that of a server of its parts that does nothing else";
    if !wants(ACCEPTED) && !wants(PARTS) {
        return Vec::new();
    }
    let mut site = Site::new(PUBLISHERS);
    let signed: Vec<Vec<Vec<u8>>> = (0..PUBLISHERS)
        .map(|n| (2..2 + 2 * PUBLISHES as u64).map(|version| site.crowd.document(n, version)).collect())
        .collect();

    // Half of the floor before, half after: whatever else the machine does meets both.
    let mut floor = floor(&site.crowd, &signed);
    let parts = Parts::start(site.crowd.team.key(), PUBLISHERS);
    let least = publish(&parts.address, parts.pid(), &signed, 0..PUBLISHES);
    drop(parts);
    let (address, pid) = (site.daemon.address(), site.daemon.pid());
    let first = rounds(&site);
    let pushing = publish(&address, pid, &signed, 0..PUBLISHES);
    let second = rounds(&site);
    // What is accepted waits for no registry, and the floor has none: what it costs to bring metadata there is not in it.
    site.registry.stop();
    let alone = publish(&address, pid, &signed, PUBLISHES..2 * PUBLISHES);
    let last = rounds(&site);
    floor += self::floor(&site.crowd, &signed);
    let size = signed[0][0].len();
    println!("accepted: publishes of {size} bytes from {PUBLISHERS} publishers");
    println!("accepted: while the registry is filled: {pushing}, {} rounds", second - first);
    println!("accepted: while there is no registry: {alone}, {} rounds", last - second);
    println!("accepted: a server of the same parts: {least}");
    // What our store takes by itself, which the floor, a plain file, does not.
    println!(
        "accepted: our store alone, in commits of {PUBLISHERS}: {:.1?} for each publish",
        stored(&signed) / count(&signed)
    );
    let (ours, least, floor) = (alone.each(), least.each(), floor / 2 / count(&signed));
    vec![
        Row { name: ACCEPTED, ours: ours.into(), other: floor.into(), target: Target::AtLeast(0.4) },
        Row { name: PARTS, ours: ours.into(), other: least.into(), target: Target::AtMost(2.0) },
    ]
}

fn count(signed: &[Vec<Vec<u8>>]) -> u32 {
    u32::try_from(signed.len() * signed[0].len()).unwrap()
}

/// What a number of publishes took.
struct Spent {
    count: u32,
    took: Duration,
    cpu: Duration,
}

impl Spent {
    /// CPU for each.
    fn each(&self) -> Duration {
        self.cpu / self.count
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = f64::from(self.count) / self.took.as_secs_f64();
        write!(f, "{second:.0}/s, {:.1?} of CPU for each of {}", self.each(), self.count)
    }
}

/// How many rounds there were.
fn rounds(site: &Site) -> u64 {
    let (_, timestamp) = site.connect().send("GET", "/tuf/acme/metadata/timestamp.json", b"");
    Document::<Timestamp>::parse("timestamp", &timestamp).unwrap().version()
}

/// All `PUBLISHERS` at once, each its versions `which`, one after the other, to the server `pid`.
fn publish(address: &str, pid: u32, signed: &[Vec<Vec<u8>>], which: Range<usize>) -> Spent {
    let ready = Barrier::new(PUBLISHERS + 1);
    thread::scope(|scope| {
        let threads: Vec<_> = signed
            .iter()
            .enumerate()
            .map(|(n, documents)| {
                let (ready, documents) = (&ready, &documents[which.clone()]);
                scope.spawn(move || {
                    let bodies: Vec<Vec<u8>> =
                        documents.iter().map(|bytes| body(&[(role(n), bytes.clone())].into())).collect();
                    let mut connection = Connection::open(address);
                    ready.wait();
                    for body in &bodies {
                        accept(&mut connection, body);
                    }
                })
            })
            .collect();
        ready.wait();
        let (start, before) = (Instant::now(), cpu_of(pid));
        for thread in threads {
            thread.join().unwrap();
        }
        let (took, cpu) = (start.elapsed(), cpu_of(pid) - before);
        let count = u32::try_from(signed.len() * which.len()).unwrap();
        Spent { count, took, cpu }
    })
}

/// CPU for reading, verifying, hashing and storing all of `signed`, one fsync for one of each publisher.
fn floor(crowd: &Crowd, signed: &[Vec<Vec<u8>>]) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let mut file = File::create(folder.path().join("log")).unwrap();
    let key = crowd.team.key().clone();
    let id = crowd.team.key_id();
    let keys = [(id.clone(), key)].into();
    let start = cpu();
    for round in 0..signed[0].len() {
        for (n, documents) in signed.iter().enumerate() {
            let bytes = &documents[round];
            let document = Document::<Targets>::parse(&role(n), bytes).unwrap();
            std::hint::black_box(Digest::of(bytes));
            verify(document, &role(n), &keys, std::slice::from_ref(&id), 1).unwrap();
            file.write_all(bytes).unwrap();
        }
        file.sync_data().unwrap();
    }
    cpu() - start
}

/// CPU for storing all of `signed`, one commit for one of each publisher, with that of the store's own threads.
fn stored(signed: &[Vec<Vec<u8>>]) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    let (store, trust) = (SledStore::open(folder.path()).unwrap(), TrustKey::whole("acme"));
    let before = cpu_of(std::process::id());
    for round in 0..signed[0].len() {
        let sequence = round as u64 + 1;
        let mut commit = Commit {
            documents: Vec::new(),
            head: Head { sequence, ..Head::default() },
            submissions: Vec::new(),
        };
        for (n, documents) in signed.iter().enumerate() {
            let bytes = Bytes::copy_from_slice(&documents[round]);
            let entry =
                RoleHead { version: sequence, digest: Digest::of(&bytes), length: bytes.len() as u64 };
            commit.head.roles.insert(role(n), entry);
            commit.documents.push((role(n), sequence, bytes));
        }
        store.commit(&trust, &commit).unwrap();
    }
    cpu_of(std::process::id()) - before
}
