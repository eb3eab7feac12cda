//! What a re-sign and a publish cost in a trust repository of ten, and of ten thousand roles: CPU of this process, in which
//! the engine runs, until the registry shows it.
//!
//! With `TMPDIR` on a disk that is slow at small files, removing what docker-registry made for 10,000 roles takes minutes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta};
use plimsoll::{
    clock::{Clock, ManualClock},
    keys::{Algorithm, PrivateKey, Signer},
    publish::api::{OnlineKeys, Progress},
    registry::{Credentials, Registry as Client, RegistryOptions},
};
use plimsoll_core::oci::mapping::Profile;
use plimsoll_server::{
    freshness::Freshness,
    keys::OnlineSigners,
    pipeline::{Engine, EngineOptions},
    store::SledStore,
};
use plimsoll_tests::docker_registry::Registry;
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

use crate::{
    crowd::{Crowd, Documents, role},
    table::{Row, Target, median},
};

const ROUNDS: usize = 15;
/// One publish or re-sign is in the registry by then, or never.
const LIMIT: Duration = Duration::from_secs(300);

pub(crate) fn rows(wants: &dyn Fn(&str) -> bool) -> Vec<Row> {
    const RESIGN: &str = "roles: CPU of a re-sign with 10,000 roles / with 100";
    const PUBLISH: &str = "roles: CPU of a publish for each MB of snapshot, 10,000 / 1,000";
    if !wants(RESIGN) && !wants(PUBLISH) {
        return Vec::new();
    }
    let (mut resigns, mut publishes) = (Vec::new(), Vec::new());
    for teams in [100, 1_000, 10_000] {
        let mut site = Site::start(teams);
        let publish = median((0..ROUNDS).map(|at| site.publish(2 + at as u64)).collect());
        let resign = median((0..ROUNDS).map(|_| site.resign()).collect());
        let (role, snapshot) = (site.crowd.document(0, 2).len(), site.snapshot());
        println!(
            "roles: with {teams}, a re-sign costs {resign:.1?} of CPU, a publish of {role} bytes {publish:.1?}; its snapshot has \
             {snapshot} bytes",
        );
        resigns.push(resign);
        let megabytes = f64::from(u32::try_from(snapshot).unwrap()) / 1e6;
        publishes.push(publish.div_f64(megabytes));
    }
    let (ours, other) = (publishes[2].into(), publishes[1].into());
    let publish = Row { name: PUBLISH, ours, other, target: Target::AtMost(1.5) };
    vec![
        Row { name: RESIGN, ours: resigns[2].into(), other: resigns[0].into(), target: Target::AtMost(1.5) },
        publish,
    ]
}

struct Site {
    runtime: tokio::runtime::Runtime,
    engine: Engine,
    clock: Arc<ManualClock>,
    crowd: Crowd,
    _registry: Registry,
    _folder: TempDir,
}

impl Site {
    fn start(teams: usize) -> Self {
        let (registry, folder) = (Registry::open(), tempfile::tempdir().unwrap());
        let clock = Arc::new(ManualClock::new(DateTime::from_timestamp(1_800_000_000, 0).unwrap()));
        let crowd = Crowd::new(teams, clock.now());
        let key = || PrivateKey::generate(Algorithm::Ed25519).unwrap();
        let signers = OnlineSigners { timestamp: key(), snapshot: key() };
        let online = OnlineKeys {
            timestamp: signers.timestamp.key().clone(),
            snapshot: signers.snapshot.key().clone(),
        };
        let credentials = Credentials::anonymous();
        let options = EngineOptions {
            name: "acme".to_owned(),
            repository: format!("{}/acme/trust", registry.address()).parse().unwrap(),
            registry: Client::new(RegistryOptions { credentials, ..RegistryOptions::default() }).unwrap(),
            store: Arc::new(SledStore::open(&folder.path().join("store")).unwrap()),
            keys: signers.into(),
            clock: clock.clone(),
            freshness: Freshness::default(),
            profile: Profile::default(),
            refused_keys: Default::default(),
            quota: Default::default(),
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let engine = runtime.block_on(Engine::start(options)).unwrap();
        assert!(runtime.block_on(engine.looked()));
        let site = Self { runtime, engine, clock, crowd, _registry: registry, _folder: folder };
        let beginning = site.crowd.beginning(&online);
        let last = beginning.len() - 1;
        for (at, documents) in beginning.into_iter().enumerate() {
            site.submit(documents, at == last);
        }
        site
    }

    /// CPU of one publish of one team.
    fn publish(&mut self, version: u64) -> Duration {
        let documents = [(role(0), self.crowd.document(0, version))].into();
        let before = cpu();
        self.submit(documents, true);
        cpu() - before
    }

    /// CPU of one re-sign of the timestamp.
    fn resign(&mut self) -> Duration {
        let shown = || self.engine.health().published.unwrap();
        let before = (shown(), cpu());
        self.clock.advance(TimeDelta::hours(1));
        self.runtime.block_on(self.engine.wake());
        let end = Instant::now() + LIMIT;
        while shown() == before.0 {
            assert!(Instant::now() < end, "not re-signed: {}", self.engine.health().detail);
            std::thread::sleep(Duration::from_millis(20));
        }
        cpu() - before.1
    }

    fn submit(&self, documents: Documents, wait: bool) {
        self.runtime.block_on(async {
            let accepted = self.engine.submit(documents).await.unwrap();
            if wait {
                let known = self.engine.submission(&accepted.id, LIMIT).await.unwrap().unwrap();
                assert_eq!(known.state, Progress::Published);
            }
        });
    }

    /// Bytes of the newest snapshot.
    fn snapshot(&self) -> usize {
        let version = self.engine.info().heads["snapshot"];
        self.runtime.block_on(self.engine.file(&format!("{version}.snapshot.json"))).unwrap().unwrap().len()
    }
}

/// CPU time of this process.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}
