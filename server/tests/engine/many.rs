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
    store::StoreError,
};

use super::{
    around::{Around, Call, Surrounded},
    front::{Fault, Front},
    world::*,
};

/// How many are well.
const WELL: usize = 160;
/// How many have each kind of trouble.
const EACH: usize = 10;

/// The disk stops answering when somebody commits to a trust repository called `stuck…`.
struct Sticks {
    stuck: Mutex<bool>,
    over: Condvar,
}

impl Sticks {
    fn set(&self, stuck: bool) {
        *self.stuck.lock().unwrap() = stuck;
        self.over.notify_all();
    }
}

impl Around for Sticks {
    fn call<T>(
        &self,
        call: Call<'_>,
        go_on: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Call::Commit(trust, commit) = call {
            if trust.name.starts_with("stuck") {
                let _over = self.over.wait_while(self.stuck.lock().unwrap(), |stuck| *stuck).unwrap();
            }
            if trust.name.starts_with("failing") && commit.head.sequence > 1 {
                let source = std::io::Error::other("a fault the test asked for");
                return Err(StoreError::Unavailable { source });
            }
        }
        go_on()
    }
}

/// Lets the disk answer again, also if the test fails: else its threads would never end.
struct Unstick(Arc<Surrounded<Sticks>>);

impl Drop for Unstick {
    fn drop(&mut self) {
        self.0.around.set(false);
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
    let around = Sticks { stuck: Mutex::new(false), over: Condvar::new() };
    let store = Arc::new(Surrounded { inner: world.memory.clone(), around });
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
    store.around.set(true);

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
    store.around.set(false);
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
