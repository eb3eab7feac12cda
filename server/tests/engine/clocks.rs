//! Clocks that are set, and registries that lie about the time.

use chrono::TimeDelta;
use plimsoll::publish::api::RefusalCode;
use plimsoll_core::tuf::{Document, Outcome, Timestamp};
use plimsoll_server::{
    pipeline::{Engine, Health},
    store::{Store, TrustKey},
};

use super::{front::Fault, world::*};

/// A day and an hour, as by default, with one tag published.
async fn world() -> (World, Engine) {
    let mut world = World::new().await;
    world.freshness = Default::default();
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    publish(&engine, world.vouch("acme/app:v1", "x")).await;
    (world, engine)
}

/// The engine looks at the clocks until it says `why`, and signs nothing, whoever asks.
async fn refuses(world: &World, engine: &Engine, why: &str) -> Health {
    let (head, latest) = (world.head(), world.latest().await);
    engine.wake().await;
    let health = eventually(why, engine, |health| health.detail.contains(why)).await;
    assert!(!health.ready && health.alarm.is_none(), "{health:?}");
    let refusal = engine.submit(world.vouch("acme/late:v1", "x")).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Unavailable);
    assert!(refusal.message.contains(why), "{}", refusal.message);
    assert_eq!(world.head(), head, "nothing is signed");
    assert_eq!(world.latest().await, latest, "nothing is pushed");
    health
}

/// It signs again, by itself, and clients find what it publishes.
async fn signs(world: &World, engine: &Engine, name: &str) {
    engine.wake().await;
    eventually("it signs again", engine, |health| health.ready && health.detail == "fresh").await;
    publish(engine, world.vouch(name, "x")).await;
    assert!(matches!(world.find(name).await.unwrap(), Outcome::Found(_)));
}

/// How long the timestamp in the store is still good, by the clock as it is now.
fn left(world: &World) -> TimeDelta {
    let version = world.head().roles["timestamp"].version;
    let bytes = world.memory.document(&TrustKey::whole("acme"), "timestamp", version).unwrap().unwrap();
    let timestamp = Document::<Timestamp>::parse("timestamp", &bytes).unwrap();
    timestamp.signed.common.expires - world.now()
}

/// T15: an hour back is before the last signing; it is noticed, and over when the clock is right.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_by_an_hour_or_a_year_signs_nothing_until_it_is_right() {
    let (world, engine) = world().await;
    for back in [TimeDelta::hours(1), TimeDelta::days(365)] {
        world.clock.set(world.now() - back);
        refuses(&world, &engine, "the clock went back").await;
        world.clock.advance(TimeDelta::minutes(30));
        refuses(&world, &engine, "the clock went back").await;
        world.clock.set(world.now() + back);
        signs(&world, &engine, &format!("acme/app:b{}", back.num_hours())).await;
    }
    engine.stop().await;
}

/// T15: and if nobody sets it right, it is signed with when it has passed the last signing: what is signed then ends
/// earlier than it might, never later.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_stays_back_is_signed_with_after_the_last_signing() {
    let (world, engine) = world().await;
    world.clock.set(world.now() - TimeDelta::hours(1));
    refuses(&world, &engine, "the clock went back").await;
    world.clock.advance(TimeDelta::minutes(61));
    signs(&world, &engine, "acme/app:v2").await;
    engine.stop().await;
}

/// T15: a timestamp signed an hour ahead could be shown to clients an hour longer than the operator decided.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_an_hour_ahead_signs_nothing_until_it_is_right_or_has_gone_steadily() {
    let (world, engine) = world().await;
    world.clock.set(world.now() + TimeDelta::hours(1));
    refuses(&world, &engine, "set 60 min ahead").await;
    world.clock.set(world.now() - TimeDelta::hours(1));
    signs(&world, &engine, "acme/app:v2").await;

    world.clock.set(world.now() + TimeDelta::hours(1));
    refuses(&world, &engine, "set 60 min ahead").await;
    world.clock.advance(TimeDelta::seconds(599));
    refuses(&world, &engine, "set 60 min ahead").await;
    world.clock.advance(TimeDelta::seconds(1));
    signs(&world, &engine, "acme/app:v3").await;
    engine.stop().await;
}

/// T15, P2: it never becomes right by itself, or who sets the clock gets timestamps for a year; a restart says that
/// somebody looked.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_a_year_ahead_signs_nothing_until_it_is_right_or_the_daemon_is_restarted() {
    let (world, engine) = world().await;
    let right = world.now();
    world.clock.set(right + TimeDelta::days(365));
    refuses(&world, &engine, "set 365 d ahead").await;
    world.clock.advance(TimeDelta::hours(20));
    let health = refuses(&world, &engine, "set 365 d ahead").await;
    assert!(health.detail.contains("restart the daemon"), "{health:?}");
    world.clock.set(right + TimeDelta::hours(20));
    assert!(left(&world) < TimeDelta::hours(24));
    signs(&world, &engine, "acme/app:v2").await;
    engine.stop().await;

    // It was right, after all: the machine stood still for a week, which no clock of its own could tell.
    world.clock.advance(TimeDelta::hours(1));
    let engine = world.engine().await;
    signs(&world, &engine, "acme/app:v3").await;
    world.clock.set(world.now() + TimeDelta::days(7));
    refuses(&world, &engine, "set 7 d ahead").await;
    engine.stop().await;
    let engine = world.engine().await;
    eventually("it signs", &engine, |health| health.ready).await;
    assert_eq!(left(&world), TimeDelta::hours(24));
    engine.stop().await;
}

/// A machine that slept is no alarm: its monotonic clock counts that.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_slept_signs_at_once() {
    let (world, engine) = world().await;
    world.clock.advance(TimeDelta::days(3));
    engine.wake().await;
    until("it is signed again", || async { left(&world) == TimeDelta::hours(24) }).await;
    signs(&world, &engine, "acme/app:v2").await;
    engine.stop().await;
}

/// T15: a registry may say what it likes about the time. It is told, and changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_lies_about_the_time_is_told_and_stops_nothing() {
    let mut world = World::new().await;
    world.freshness.timestamp_interval = TimeDelta::seconds(1);
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    assert_eq!(engine.health().registry_clock, None);
    for (n, off) in [301, -301, 3600, -3600, 365 * 86_400, -365 * 86_400].into_iter().enumerate() {
        world.front.fail(Some(Fault::Date(off)));
        let name = format!("acme/app:v{n}");
        publish(&engine, world.vouch(&name, "x")).await;
        // The look comes before the push, and the lie with it.
        let health = eventually("it is told", &engine, |health| health.registry_clock == Some(off)).await;
        assert!(health.ready && health.alarm.is_none(), "{health:?}");
        assert!(health.detail.contains(&format!("the registry's clock is {off} s from ours")), "{health:?}");
        assert!(matches!(world.find(&name).await.unwrap(), Outcome::Found(_)), "{off}");
    }
    for off in [300, -300, 0] {
        world.front.fail(Some(Fault::Date(off)));
        eventually("it is within bounds", &engine, |health| health.registry_clock.is_none()).await;
    }
    engine.stop().await;
}
