//! How long until the registry shows a publish, against a bare client that pushes the same blobs and manifests.

use std::{
    sync::{Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use plimsoll::registry::{Credentials, Known, ManifestAnswer, Registry, RegistryOptions};
use plimsoll_core::oci::{
    RepositoryAddress,
    mapping::{self, Artifact, Profile, RepositoryFiles},
    media_type,
};

use crate::{
    accepted::{Site, accept},
    connection::Connection,
    crowd::{body, role},
    table::{Row, Target, median},
};

const TEAMS: usize = 16;
/// Packagist's peak.
const EACH_SECOND: u32 = 20;
const PUBLISHES: usize = 300;

pub(crate) fn rows(wants: &dyn Fn(&str) -> bool) -> Vec<Row> {
    const LAG: &str = "lag: p99 at 20 publishes/s until the registry shows it / a bare push";
    if !wants(LAG) {
        return Vec::new();
    }
    let site = Site::new(TEAMS);
    let documents: Vec<(String, Vec<u8>)> = (0..PUBLISHES)
        .map(|at| (role(at % TEAMS), site.crowd.document(at % TEAMS, 2 + (at / TEAMS) as u64)))
        .collect();
    let bodies: Vec<Vec<u8>> =
        documents.iter().map(|(role, bytes)| body(&[(role.clone(), bytes.clone())].into())).collect();
    let (before, accepted) = (pushes(&site), Mutex::new(Vec::new()));
    // A team's next version is sent when the one before was accepted, however late that is.
    let turns: Vec<(Mutex<usize>, Condvar)> = (0..TEAMS).map(|_| Default::default()).collect();
    let ours = paced(|at| {
        let (mut connection, start) = (site.connect(), Instant::now());
        let (taken, changed) = &turns[at % TEAMS];
        let mut taken = changed.wait_while(taken.lock().unwrap(), |taken| *taken < at / TEAMS).unwrap();
        let id = accept(&mut connection, &bodies[at]);
        *taken += 1;
        changed.notify_all();
        drop(taken);
        accepted.lock().unwrap().push(start.elapsed());
        published(&mut connection, &id);
    });
    let after = pushes(&site);

    let bare = Bare::of(&site);
    let other = paced(|at| bare.push(at, &documents[at]));
    let (count, seconds) = (after.0 - before.0, after.1 - before.1);
    println!(
        "lag: of {PUBLISHES} publishes half are accepted within {:.0?} and shown within {:.0?}; {count} pushes took {:.0?} each; \
         half of the bare client's take {:.0?}",
        median(accepted.into_inner().unwrap()),
        median(ours.clone()),
        Duration::from_secs_f64(seconds / count),
        median(other.clone()),
    );
    vec![Row { name: LAG, ours: p99(ours).into(), other: p99(other).into(), target: Target::AtMost(3.0) }]
}

/// Waits until submission `id` is published, however long that takes, within reason.
fn published(connection: &mut Connection, id: &str) {
    for _ in 0..15 {
        let path = format!("/v1/trusts/acme/submissions/{id}?wait=20");
        let (status, answer) = connection.send("GET", &path, b"");
        let text = String::from_utf8_lossy(&answer);
        assert_eq!(status, 200, "{text}");
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        if answer["state"] == "published" {
            return;
        }
    }
    panic!("{id} was not published within five minutes");
}

/// How many pushes the daemon has made, and how long they took in all, seconds.
fn pushes(site: &Site) -> (f64, f64) {
    let (status, text) = site.connect().send("GET", "/metrics", b"");
    assert_eq!(status, 200);
    let text = String::from_utf8(text).unwrap();
    let figure = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    (figure("plimsolld_push_seconds_count"), figure("plimsolld_push_seconds_sum"))
}

/// Does `one` for each publish, each when its time has come, whether or not those before have ended.
fn paced(one: impl Fn(usize) + Sync) -> Vec<Duration> {
    let times = Mutex::new(Vec::new());
    let start = Instant::now();
    thread::scope(|scope| {
        for at in 0..PUBLISHES {
            let due = start + Duration::from_secs(1) / EACH_SECOND * u32::try_from(at).unwrap();
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let (one, times) = (&one, &times);
            scope.spawn(move || {
                let start = Instant::now();
                one(at);
                times.lock().unwrap().push(start.elapsed());
            });
        }
    });
    times.into_inner().unwrap()
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// A client that pushes and knows nothing of TUF.
struct Bare {
    runtime: tokio::runtime::Runtime,
    registry: Registry,
    repository: RepositoryAddress,
    /// docker-registry answers 500 to two who move a tag at once, or link a blob at once: what many publishes have in common
    /// is there before the first.
    moving: tokio::sync::Mutex<()>,
    /// What a publish puts there besides the role: of the same sizes each time, of another content.
    entry: Box<dyn Fn(usize) -> Artifact + Sync>,
}

impl Bare {
    fn of(site: &Site) -> Self {
        let get = |file: &str| {
            let (status, bytes) = site.connect().send("GET", &format!("/tuf/acme/metadata/{file}"), b"");
            assert_eq!(status, 200, "{file}");
            bytes
        };
        let (root, targets, timestamp) = (get("1.root.json"), get("1.targets.json"), get("timestamp.json"));
        let named: serde_json::Value = serde_json::from_slice(&timestamp).unwrap();
        let version = named["signed"]["meta"]["snapshot.json"]["version"].as_u64().unwrap();
        let snapshot = get(&format!("{version}.snapshot.json"));
        let entry = move |at: usize| {
            let mark = format!("{at:08}");
            let marked = |bytes: &[u8]| {
                let mut bytes = bytes.to_vec();
                let end = bytes.len();
                bytes[end - 8..].copy_from_slice(mark.as_bytes());
                bytes
            };
            let (timestamp, snapshot) = (marked(&timestamp), marked(&snapshot));
            let files = RepositoryFiles {
                timestamp: &timestamp,
                snapshots: vec![(version, &snapshot)],
                targets: (1, &targets),
                roots: vec![(1, &root)],
            };
            mapping::repository(&files, Profile::Oci11)
        };
        let credentials = Credentials::anonymous();
        let bare = Self {
            runtime: tokio::runtime::Runtime::new().unwrap(),
            registry: Registry::new(RegistryOptions { credentials, ..RegistryOptions::default() }).unwrap(),
            repository: format!("{}/bare/trust", site.registry.address()).parse().unwrap(),
            moving: tokio::sync::Mutex::default(),
            entry: Box::new(entry),
        };
        bare.push(PUBLISHES, &(role(TEAMS), b"nobody's".to_vec()));
        bare
    }

    fn push(&self, at: usize, (role, bytes): &(String, Vec<u8>)) {
        let version = 2 + (at / TEAMS) as u64;
        let artifacts = [mapping::role(role, (version, bytes), None, Profile::Oci11), (self.entry)(at)];
        self.runtime.block_on(async {
            for artifact in artifacts {
                for (_, bytes) in &artifact.blobs {
                    self.registry.put_blob(&self.repository, bytes.clone().into()).await.unwrap();
                }
                let _moving = self.moving.lock().await;
                let manifest = Bytes::from(artifact.manifest.clone());
                let put = self.registry.put_manifest(
                    &self.repository,
                    &artifact.tag,
                    media_type::MANIFEST,
                    manifest,
                );
                put.await.unwrap();
            }
            let known = Known { etag: None, digest: (self.entry)(at).digest };
            let read =
                self.registry.manifest(&self.repository, "latest", 4 << 20, Some(&known)).await.unwrap();
            // Others push at the same time.
            assert!(matches!(read, ManifestAnswer::NotModified | ManifestAnswer::Found(_)));
        });
    }
}
