//! When the watchdog is to think that an engine hangs, and when not.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::Duration,
};

use plimsoll_server::store::{MemoryStore, StoreError};
use tokio::time::Instant;

use super::{
    around::{Around, Call, Surrounded},
    front::Fault,
    world::*,
};

const GOOD: u8 = 0;
const STOPPED: u8 = 1;
const HANGING: u8 = 2;

/// A store that can be asked in vain.
struct Ails {
    how: AtomicU8,
}

impl Around for Ails {
    fn call<T>(
        &self,
        call: Call<'_>,
        go_on: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if matches!(call, Call::Head | Call::Commit(..)) {
            while self.how.load(Ordering::SeqCst) == HANGING {
                thread::sleep(Duration::from_millis(10));
            }
            if self.how.load(Ordering::SeqCst) == STOPPED {
                return Err(StoreError::Stopped { path: PathBuf::new() });
            }
        }
        go_on()
    }
}

/// As seen in so many seconds, if no sign of life came until then. A task has 60 s for one.
fn in_seconds(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

async fn ailing(how: u8) {
    let mut world = World::new().await;
    let store =
        Arc::new(Surrounded { inner: world.memory.clone(), around: Ails { how: AtomicU8::new(GOOD) } });
    world.store = store.clone();
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    assert_eq!(engine.hangs(in_seconds(30)), None);
    store.around.how.store(how, Ordering::SeqCst);
    // Something is due, so the store is needed.
    world.clock.advance(chrono::TimeDelta::seconds(300));
    until("nobody hears of it", || async { engine.hangs(in_seconds(55)).is_some() }).await;
    let why = engine.hangs(in_seconds(55)).unwrap();
    assert!(why.contains("gave no sign of life"), "{why}");
    store.around.how.store(GOOD, Ordering::SeqCst);
    if how == HANGING {
        until("it goes on", || async { engine.hangs(in_seconds(55)).is_none() }).await;
    } else {
        assert!(engine.health().alarm.is_some());
        assert!(engine.hangs(in_seconds(60)).is_some(), "only opening the store again helps");
    }
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_come_back_hangs_the_engine_until_it_does() {
    ailing(HANGING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stopped_is_cured_by_a_restart_only() {
    ailing(STOPPED).await;
}

/// A restart would find the registry as it is, and the alarm's cause as well.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_and_an_alarm_are_no_hanging() {
    let world = World::new().await;
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    world.front.fail(Some(Fault::All(503)));
    world.clock.advance(chrono::TimeDelta::seconds(700));
    eventually("the outage is noticed", &engine, |health| !health.ready).await;
    for _ in 0..20 {
        assert_eq!(engine.hangs(in_seconds(30)), None);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.front.fail(None);
    eventually("it recovers", &engine, |health| health.ready).await;
    engine.stop().await;

    let behind = World { store: Arc::new(MemoryStore::new()), ..world };
    let engine = behind.engine().await;
    eventually("the alarm", &engine, |health| health.alarm.is_some()).await;
    for _ in 0..20 {
        assert_eq!(engine.hangs(in_seconds(30)), None);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    engine.stop().await;
}
