//! Registries in every kind of trouble: nothing is acknowledged falsely, readers of the plain TUF face notice nothing, and
//! what was accepted is published when the trouble is over.

use std::time::Duration;

use chrono::TimeDelta;
use plimsoll::{
    clock::{Clock, SystemClock},
    publish::api::{Accepted, Progress},
};
use plimsoll_core::{
    policy::Verdict,
    tuf::{Document, Outcome, Timestamp},
};
use plimsoll_server::pipeline::Engine;

use super::{front::Fault, world::*};

/// When the timestamp expires that the plain TUF face serves now.
async fn served_until(engine: &Engine) -> chrono::DateTime<chrono::Utc> {
    let bytes = engine.file("timestamp.json").await.unwrap().expect("it is served");
    Document::<Timestamp>::parse("timestamp", &bytes).unwrap().signed.common.expires
}

/// Submits while `fault` lasts: accepted, not published, told with `why`, and not to be found by clients of the registry.
async fn held_up(world: &World, engine: &Engine, fault: Fault, name: &str, why: &str) -> Accepted {
    world.front.fail(Some(fault));
    let accepted = engine.submit(world.vouch(name, "x")).await.unwrap();
    assert_eq!(accepted.state, Progress::Accepted, "{fault:?}");
    eventually(why, engine, |health| health.detail.contains(why)).await;
    let now = engine.submission(&accepted.id, Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(now.state, Progress::Accepted, "{fault:?}: no false acknowledgement");
    // Who reads from the daemon has it already.
    assert!(served_until(engine).await > world.now());
    let version = world.head().roles["targets"].version;
    assert!(engine.file(&format!("{version}.targets.json")).await.unwrap().is_some());
    accepted
}

/// The trouble is over: it is published by itself, and found.
async fn comes_through(world: &World, engine: &Engine, accepted: &Accepted, name: &str) {
    world.front.fail(None);
    let later = engine.submission(&accepted.id, Duration::from_secs(10)).await.unwrap().unwrap();
    assert_eq!(later.state, Progress::Published, "{:?}", engine.health());
    assert!(matches!(world.find(name).await.unwrap(), Outcome::Found(_)));
    eventually("all is well", engine, |health| health.ready && health.detail == "fresh").await;
}

async fn one(fault: Fault, why: &str) {
    let world = World::new().await;
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    let accepted = held_up(&world, &engine, fault, "acme/app:v1", why).await;
    assert!(matches!(world_absent(&world).await, None | Some(Outcome::Absent { .. })));
    comes_through(&world, &engine, &accepted, "acme/app:v1").await;
    engine.stop().await;
}

/// What a client of the registry says of the tag that was not published; none if the registry does not answer.
async fn world_absent(world: &World) -> Option<Outcome> {
    world.find("acme/app:v1").await.ok()
}

/// P6.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_down_for_a_while_costs_only_time() {
    one(Fault::All(503), "503").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_fails_with_any_5xx_is_tried_again() {
    for code in [500, 502, 504] {
        one(Fault::PutLatest(code), &code.to_string()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_refuses_the_login_is_tried_again_and_told_as_such() {
    one(Fault::PutLatest(401), "ask").await;
    one(Fault::PutLatest(403), "denies access").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_put_is_no_publication() {
    one(Fault::HalfPut, "500").await;
}

/// P6: read back, so that a registry that forgets what it acknowledged, or somebody who writes there at the same time, makes
/// nobody believe that it was published.
#[tokio::test(flavor = "multi_thread")]
async fn a_latest_that_is_acknowledged_and_not_there_is_no_publication() {
    one(Fault::PutLatestForgotten, "is not what was just written there").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_too_slow_to_answer_in_time_is_given_up_and_tried_again() {
    let mut world = World::new().await;
    world.deadline = Duration::from_millis(300);
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    let accepted = held_up(&world, &engine, Fault::HangLatest, "acme/app:v1", "did not finish").await;
    comes_through(&world, &engine, &accepted, "acme/app:v1").await;
    engine.stop().await;
}

/// A registry that asks for patience gets it, but no more than an interval.
#[tokio::test(flavor = "multi_thread")]
async fn a_429_with_retry_after_is_heeded_for_at_most_an_interval() {
    let mut world = World::new().await;
    world.freshness.timestamp_interval = TimeDelta::seconds(2);
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    let fault = Fault::RetryAfter(429, 86_400);
    let accepted = held_up(&world, &engine, fault, "acme/app:v1", "429").await;
    let asked = world.front.requests();
    // Without the header it would be asked again after 0.2, 0.4 and 0.8 s.
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert_eq!(world.front.requests(), asked);
    comes_through(&world, &engine, &accepted, "acme/app:v1").await;
    engine.stop().await;
}

/// P2, P8: real figures on the virtual clock. A day and more without a registry: signed each hour all the same, so that
/// readers of the plain face never see an expired timestamp; clients of the registry do, as EXPIRED; and one push mends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_down_for_longer_than_a_timestamps_life() {
    let mut world = World::new().await;
    world.freshness = Default::default();
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    let accepted = held_up(&world, &engine, Fault::PutLatest(500), "acme/app:v1", "500").await;
    let mut shortest = TimeDelta::MAX;
    for hour in 1..=30 {
        let before = world.head().roles["timestamp"].version;
        world.clock.advance(TimeDelta::minutes(60));
        shortest = shortest.min(served_until(&engine).await - world.now());
        engine.wake().await;
        until("it is signed again", || async { world.head().roles["timestamp"].version > before }).await;
        until("it is served", || async { served_until(&engine).await > world.now() + TimeDelta::hours(23) })
            .await;
        assert_eq!(engine.health().ready, hour < 13, "hour {hour}: {:?}", engine.health());
        let found = world.find("acme/app:v1").await;
        match found {
            Ok(outcome) => assert!(hour < 24 && matches!(outcome, Outcome::Absent { .. }), "hour {hour}"),
            Err(error) => {
                assert!(hour >= 24 && error.verdict() == Some(Verdict::Expired), "hour {hour}: {error}");
            }
        }
    }
    println!(
        "30 h without a registry: the plain face's timestamp was good for {} min or more",
        shortest.num_minutes()
    );
    assert!(shortest >= TimeDelta::hours(23));
    comes_through(&world, &engine, &accepted, "acme/app:v1").await;
    engine.stop().await;
}

/// P2: the same on the wall clock, with lives of seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_down_for_longer_than_a_life_of_three_seconds() {
    let mut world = World::new().await;
    world.freshness.timestamp_validity = TimeDelta::seconds(3);
    world.freshness.snapshot_validity = TimeDelta::seconds(3);
    let clock = std::sync::Arc::new(SystemClock);
    world.born = clock.now();
    let engine = world.engine_with(clock.clone()).await;
    publish(&engine, world.init()).await;
    let in_registry = engine.health().timestamp_expires.unwrap();
    world.front.fail(Some(Fault::All(503)));
    let (end, mut looks) = (in_registry + TimeDelta::seconds(2), 0);
    while clock.now() < end {
        assert!(served_until(&engine).await > clock.now(), "look {looks}");
        looks += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let health = engine.health();
    assert!(!health.ready && health.timestamp_expires.unwrap() < clock.now(), "{health:?}");
    world.front.fail(None);
    let over = tokio::time::Instant::now();
    eventually("it is fresh again", &engine, |health| health.ready).await;
    println!("fresh in the registry {:?} after it came back, interval 1 s; {looks} looks", over.elapsed());
    assert!(matches!(world.find_at("acme/app:v1", clock.now()).await, Ok(Outcome::Absent { .. })));
    engine.stop().await;
}
