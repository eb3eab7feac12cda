//! Several hundred trust repositories in one daemon: the trouble of some is not that of the others.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use bytes::Bytes;
use chrono::TimeDelta;
use plimsoll_core::oci::Digest;
use plimsoll_server::{
    pipeline::{Engine, EngineOptions},
    store::{Commit, Head, MemoryStore, Published, Store, StoreError, SubmissionRecord, TrustKey},
};

use super::{front::Fault, front::Front, world::*};

/// How many are well.
const WELL: usize = 160;
/// How many have each kind of trouble.
const EACH: usize = 10;

/// A store whose disk stops answering when somebody commits to a trust repository called `stuck…`.
struct Sticking {
    inner: MemoryStore,
    stuck: Mutex<bool>,
    over: Condvar,
}

impl Sticking {
    fn set(&self, stuck: bool) {
        *self.stuck.lock().unwrap() = stuck;
        self.over.notify_all();
    }
}

impl Store for Sticking {
    fn head(&self, trust: &TrustKey) -> Result<Head, StoreError> {
        self.inner.head(trust)
    }
    fn document(&self, trust: &TrustKey, role: &str, version: u64) -> Result<Option<Bytes>, StoreError> {
        self.inner.document(trust, role, version)
    }
    fn versions(&self, trust: &TrustKey, role: &str) -> Result<Vec<u64>, StoreError> {
        self.inner.versions(trust, role)
    }
    fn submission(&self, trust: &TrustKey, id: &str) -> Result<Option<SubmissionRecord>, StoreError> {
        self.inner.submission(trust, id)
    }
    fn submissions(
        &self,
        trust: &TrustKey,
        after: &str,
        most: usize,
    ) -> Result<Vec<SubmissionRecord>, StoreError> {
        self.inner.submissions(trust, after, most)
    }
    fn commit(&self, trust: &TrustKey, commit: &Commit) -> Result<(), StoreError> {
        if trust.name.starts_with("stuck") {
            let _over = self.over.wait_while(self.stuck.lock().unwrap(), |stuck| *stuck).unwrap();
        }
        if trust.name.starts_with("failing") && commit.head.sequence > 1 {
            return Err(StoreError::Unavailable {
                source: std::io::Error::other("a fault the test asked for"),
            });
        }
        self.inner.commit(trust, commit)
    }
    fn record_published(&self, trust: &TrustKey, published: &Published) -> Result<(), StoreError> {
        self.inner.record_published(trust, published)
    }
}

/// Lets the disk answer again, also if the test fails: else its threads would never end.
struct Unstick(Arc<Sticking>);

impl Drop for Unstick {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

async fn start(world: &World, front: &Front, name: &str) -> Engine {
    let repository = format!("{}/{name}/trust", front.host).parse().unwrap();
    let options = world.options(world.signers().into(), world.clock.clone());
    Engine::start(EngineOptions { name: name.to_owned(), repository, ..options }).await.unwrap()
}

fn version(engine: &Engine) -> u64 {
    engine.health().published.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trouble_of_forty_trust_repositories_delays_no_tick_of_the_others() {
    let mut world = World::new().await;
    world.freshness = Default::default();
    let store =
        Arc::new(Sticking { inner: world.memory.clone(), stuck: Mutex::new(false), over: Condvar::new() });
    world.store = store.clone();
    let _unstick = Unstick(store.clone());
    let (hanging, failing, alarmed) =
        (world.empty_front().await, world.empty_front().await, world.empty_front().await);
    // The embedded registry takes 64 uploads at a time.
    let others = [world.empty_front().await, world.empty_front().await, world.empty_front().await];
    let mut engines = Vec::new();
    for (kind, front, count) in [
        ("well", &world.front, WELL / 4),
        ("well-b", &others[0], WELL / 4),
        ("well-c", &others[1], WELL / 4),
        ("well-d", &others[2], WELL / 4),
        ("hanging", &hanging, EACH),
        ("away", &failing, EACH),
        ("stuck", &world.front, EACH),
        ("failing", &world.front, EACH),
    ] {
        for n in 0..count {
            engines.push((kind, start(&world, front, &format!("{kind}{n}")).await));
        }
    }
    // One submission serves all: who has the keys, has the trust repository.
    let init = world.init();
    for some in engines.chunks(20) {
        let published: Vec<_> =
            some.iter().map(|(_, engine)| tokio::spawn(publish(engine, init.clone()))).collect();
        for published in published {
            published.await.unwrap();
        }
    }
    // Somebody else's content where nothing of ours was yet.
    let config = Bytes::from_static(b"{}");
    for n in 0..EACH {
        let at = format!("{}/alarmed{n}/trust", alarmed.host).parse().unwrap();
        assert_eq!(world.registry().put_blob(&at, config.clone()).await.unwrap(), Digest::of(&config));
        let media_type = plimsoll_core::oci::media_type::MANIFEST;
        world.registry().put_manifest(&at, "latest", media_type, world.foreign().into()).await.unwrap();
        engines.push(("alarmed", start(&world, &alarmed, &format!("alarmed{n}")).await));
    }
    hanging.fail(Some(Fault::Hang));
    failing.fail(Some(Fault::All(500)));
    store.set(true);

    let before: Vec<u64> = engines.iter().map(|(_, engine)| version(engine)).collect();
    world.clock.advance(TimeDelta::hours(1));
    for (_, engine) in engines.clone() {
        tokio::spawn(async move { engine.wake().await });
    }
    let started = tokio::time::Instant::now();
    for ((kind, engine), before) in engines.iter().zip(&before) {
        if kind.starts_with("well") {
            eventually("its tick", engine, |health| {
                health.published > Some(*before) && health.ready && health.detail == "fresh"
            })
            .await;
        }
    }
    println!(
        "{WELL} ticks beside {} in trouble: all in the registry after {:?}",
        5 * EACH,
        started.elapsed()
    );
    for ((kind, engine), before) in engines.iter().zip(&before) {
        if !kind.starts_with("well") {
            assert_eq!(version(engine), *before, "{kind}: it is in trouble");
        }
    }
    let troubled = |kind: &str, why: &str| {
        let of_kind: Vec<_> = engines.iter().filter(|(k, _)| *k == kind).collect();
        assert_eq!(of_kind.len(), EACH);
        for (_, engine) in of_kind {
            let health = engine.health();
            assert!(health.detail.contains(why), "{kind}: {health:?}");
        }
    };
    troubled("alarmed", "not ours");
    troubled("failing", "the store did not answer");

    // And when it is over, it is over.
    hanging.fail(None);
    failing.fail(None);
    store.set(false);
    for ((kind, engine), before) in engines.iter().zip(&before) {
        if ["away", "stuck"].contains(kind) {
            eventually(kind, engine, |health| health.published > Some(*before)).await;
        }
    }
    let stopping: Vec<_> =
        engines.into_iter().map(|(_, engine)| tokio::spawn(async move { engine.stop().await })).collect();
    for stopped in stopping {
        tokio::time::timeout(Duration::from_secs(10), stopped).await.expect("it ends").unwrap();
    }
}
