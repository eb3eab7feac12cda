//! Registries that fail, and stores and rounds that do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::TimeDelta;
use plimsoll::{
    publish::api::{Progress, RefusalCode},
    registry::ManifestAnswer,
};
use plimsoll_core::tuf::Outcome;
use plimsoll_server::store::{FailAt, Head, StoreError};

use super::{
    around::{Around, Call, Surrounded},
    front::Fault,
    world::*,
};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_signed_before_the_registry_was_read() {
    let world = World::new().await;
    world.front.fail(Some(Fault::All(500)));
    let engine = world.engine().await;
    let health = eventually("it says why", &engine, |h| h.detail.contains("500")).await;
    assert!(!health.ready);
    let refusal = engine.submit(world.init()).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Unavailable);
    assert!(refusal.message.contains("has not read the registry yet"), "{}", refusal.message);
    assert_eq!(world.head(), Head::default());
    world.front.fail(None);
    publish(&engine, world.init()).await;
    engine.stop().await;

    // With a store that has something, too: an old timestamp is not renewed blindly.
    world.front.fail(Some(Fault::All(500)));
    world.clock.advance(TimeDelta::hours(2));
    let before = world.head();
    let engine = world.engine().await;
    assert_eq!(
        engine.submit(world.vouch("acme/app:v1", "x")).await.unwrap_err().code,
        RefusalCode::Unavailable
    );
    assert_eq!(world.head(), before);
    world.front.fail(None);
    eventually("it recovers", &engine, |h| h.ready && h.detail == "fresh").await;
    engine.stop().await;
}

/// P6.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_stays_so_while_the_registry_fails_and_is_published_later() {
    let world = World::new().await;
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    for (n, code) in [500, 401, 403, 429, 404].into_iter().enumerate() {
        world.front.fail(Some(Fault::PutLatest(code)));
        let name = format!("acme/app:v{n}");
        let accepted = engine.submit(world.vouch(&name, "x")).await.unwrap();
        assert_eq!(accepted.state, Progress::Accepted);
        eventually("the trouble is told", &engine, |h| h.detail.contains("trying again")).await;
        assert!(matches!(world.find(&name).await.unwrap(), Outcome::Absent { .. }));
        world.front.fail(None);
        let later = engine.submission(&accepted.id, Duration::from_secs(10)).await.unwrap().unwrap();
        assert_eq!(later.state, Progress::Published, "{code}");
        assert!(matches!(world.find(&name).await.unwrap(), Outcome::Found(_)), "{code}");
    }
    engine.stop().await;
}

/// P6: also across a restart, which must not forget it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_before_a_restart_is_published_after_it() {
    let world = World::new().await;
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    world.front.fail(Some(Fault::PutLatest(500)));
    let accepted = engine.submit(world.vouch("acme/app:v1", "x")).await.unwrap();
    engine.stop().await;
    world.front.fail(None);
    let engine = world.engine().await;
    let later = engine.submission(&accepted.id, Duration::from_secs(10)).await.unwrap().unwrap();
    assert_eq!(later.state, Progress::Published);
    assert!(matches!(world.find("acme/app:v1").await.unwrap(), Outcome::Found(_)));
    engine.stop().await;
}

/// P7.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_answer_is_lost_converges() {
    let world = World::new().await;
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    world.front.fail(Some(Fault::PutLatestAnswerLost));
    let accepted = engine.submit(world.vouch("acme/app:v1", "x")).await.unwrap();
    eventually("the trouble is told", &engine, |h| h.detail.contains("trying again")).await;
    // It is there, though nobody could tell.
    assert!(matches!(world.find("acme/app:v1").await.unwrap(), Outcome::Found(_)));
    world.front.fail(None);
    let later = engine.submission(&accepted.id, Duration::from_secs(10)).await.unwrap().unwrap();
    assert_eq!(later.state, Progress::Published);
    assert!(engine.health().alarm.is_none());
    engine.stop().await;
}

/// P6, P7.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_fails_before_or_after_it_is_stored_converges() {
    let world = World::new().await;
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    for (n, at) in [FailAt::BeforePersist, FailAt::AfterPersist].into_iter().enumerate() {
        world.memory.fail_next_record(at);
        publish(&engine, world.vouch(&format!("acme/app:v{n}"), "x")).await;
        assert!(engine.health().alarm.is_none());
    }
    for (n, at) in [FailAt::BeforePersist, FailAt::AfterPersist].into_iter().enumerate() {
        let documents = world.vouch(&format!("acme/app:w{n}"), "x");
        world.memory.fail_next(at);
        assert_eq!(engine.submit(documents.clone()).await.unwrap_err().code, RefusalCode::Unavailable);
        publish(&engine, documents).await;
    }
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_does_not_wait_for_a_registry_that_hangs() {
    let world = World::new().await;
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    for fault in [Fault::HangLatest, Fault::Hang] {
        let engine = world.engine().await;
        world.front.fail(Some(fault));
        let _ = engine.submit(world.vouch("acme/app:v1", "x")).await;
        tokio::time::timeout(Duration::from_secs(4), engine.stop()).await.expect("stop ends by itself");
        world.front.fail(None);
    }
    engine.stop().await;
}

/// Else a registry that fails once in a while would never be filled again after a loss.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_fails_goes_on_where_it_stopped() {
    let world = World::new().await;
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    publish(&engine, world.teams(20)).await;
    engine.stop().await;
    let world = World { front: world.empty_front().await, ..world };
    // A whole push takes about a hundred requests.
    world.front.fail(Some(Fault::OneIn(20)));
    let engine = world.engine().await;
    until("all of it is there", || async { world.front.has_latest() }).await;
    let requests = world.front.requests();
    assert!(requests > 60, "the test is one only if the push failed in between: {requests}");
    world.front.fail(None);
    assert!(matches!(world.find("acme/r19:v1").await.unwrap(), Outcome::Absent { .. }));
    engine.stop().await;
}

/// Whatever it took before it was emptied has to be put again, also where nothing else would show that it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_emptied_during_the_first_push_is_filled_anew() {
    let world = World::new().await;
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    publish(&engine, world.teams(5)).await;
    engine.stop().await;
    let world = World { front: world.empty_front().await, ..world };
    world.front.fail(Some(Fault::PutLatest(500)));
    let engine = world.engine().await;
    until("all but `:latest` is there", || async { world.front.tried_latest() }).await;
    // Nobody writes while it is emptied.
    world.front.fail(Some(Fault::All(503)));
    eventually("it is seen", &engine, |health| health.detail.contains("503")).await;
    world.front.empty();
    world.front.fail(None);
    until("all of it is there", || async { world.front.has_latest() }).await;
    for team in 0..5 {
        let tag = format!("targets--r{team}");
        let manifest = world.registry().manifest(&world.repository(), &tag, 4 << 20, None).await.unwrap();
        assert!(matches!(manifest, ManifestAnswer::Found(_)), "{tag}: {manifest:?}");
        let found = world.find(&format!("acme/r{team}:v1")).await;
        assert!(matches!(found, Ok(Outcome::Absent { .. })), "{tag}: {found:?}");
    }
    eventually("all is well", &engine, |health| health.ready && health.detail == "fresh").await;
    engine.stop().await;
}

/// P2: not ready as soon as half of the life of what the registry shows is over, whatever the store has.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_not_ready_when_the_timestamp_in_the_registry_is_old() {
    let world = World::new().await;
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    let expires = engine.health().timestamp_expires.unwrap();
    world.front.fail(Some(Fault::PutLatest(500)));
    world.clock.advance(TimeDelta::seconds(300));
    let health =
        eventually("one more is signed and not published", &engine, |h| h.detail.contains("trying")).await;
    assert!(health.ready, "{health:?}");
    assert_eq!(health.timestamp_expires, Some(expires), "of the one in the registry, not in the store");
    world.clock.advance(TimeDelta::seconds(1));
    let health = engine.health();
    assert!(!health.ready && health.detail.contains("more than half"), "{health:?}");
    world.front.fail(None);
    eventually("it recovers", &engine, |h| h.ready).await;
    engine.stop().await;
}

/// Panics once when the next push is recorded, and whenever a commit holds the word `poison`.
///
/// Two switches, since submissions sent together are looked at side by side and may be committed in any order.
struct Panics {
    record: AtomicBool,
    poison: AtomicBool,
}

impl Around for Panics {
    fn call<T>(
        &self,
        call: Call<'_>,
        go_on: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let panics = match call {
            Call::Commit(_, commit) => {
                let poisoned = commit.documents.iter().any(|(_, _, b)| b.windows(6).any(|w| w == b"poison"));
                poisoned && self.poison.load(Ordering::SeqCst)
            }
            Call::Record => self.record.swap(false, Ordering::SeqCst),
            _ => false,
        };
        assert!(!panics, "a panic that the test asked for");
        go_on()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_costs_one_submission_and_nothing_else() {
    let mut world = World::new().await;
    let inner = world.memory.clone();
    let around = Panics { record: AtomicBool::new(false), poison: AtomicBool::new(true) };
    let store = Arc::new(Surrounded { inner, around });
    world.store = store.clone();
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    publish(&engine, world.teams(2)).await;

    // In the pusher: tried again.
    store.around.record.store(true, Ordering::SeqCst);
    publish(&engine, world.vouch("acme/app:v1", "x")).await;
    assert!(!store.around.record.load(Ordering::SeqCst), "it did panic");

    // In a round: the others are taken, the next timestamp too.
    let (bad, good) = (world.team_vouches(0, "poison"), world.team_vouches(1, "v1"));
    let (bad, good) = tokio::join!(engine.submit(bad), engine.submit(good));
    let refusal = bad.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Unavailable);
    good.unwrap();
    store.around.poison.store(false, Ordering::SeqCst);
    publish(&engine, world.vouch("acme/app:v3", "x")).await;
    engine.stop().await;
}
