//! The main line, restarts, and time.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use plimsoll::{
    clock::{Clock, SystemClock},
    publish::{api::RefusalCode, author},
};
use plimsoll_core::tuf::{Document, Outcome, Targets};
use plimsoll_server::store::{Store, TrustKey};

use super::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_found_by_the_client_and_survives_a_restart() {
    let world = World::new().await;
    let engine = world.engine().await;
    assert!(eventually("it waits for init", &engine, |h| h.ready).await.detail.contains("plimsoll init"));
    publish(&engine, world.init()).await;
    assert!(engine.health().ready);

    // A team, its role and its signature.
    let bytes = world.memory.document(&TrustKey::whole("acme"), "targets", 1).unwrap().unwrap();
    let mut targets = Document::<Targets>::parse("targets", &bytes).unwrap().signed;
    author::next_version("targets", &mut targets, world.now());
    let allowed = ["acme/*".to_owned()];
    let scope = "acme/app:v*".parse().unwrap();
    let keys = [world.team.public().clone()];
    author::delegate(&mut targets, ("targets", &allowed), "targets--team", &scope, &keys, 1).unwrap();
    let mut role = author::empty_targets("targets--team", TRUST, world.now());
    let empty = sign(&role, &world.team);
    let set = [("targets".to_owned(), sign(&targets, &world.owner)), ("targets--team".to_owned(), empty)];
    publish(&engine, set.into()).await;
    author::next_version("targets--team", &mut role, world.now());
    let target = serde_json::from_value(serde_json::json!({
        "length": 2, "hashes": {"sha256": plimsoll_core::oci::Digest::of(b"{}").hex()},
    }));
    role.targets.insert("acme/app:v1".to_owned(), target.unwrap());
    publish(&engine, [("targets--team".to_owned(), sign(&role, &world.team))].into()).await;

    assert!(
        matches!(world.find("acme/app:v1").await.unwrap(), Outcome::Found(f) if f.path == ["targets", "targets--team"])
    );
    assert!(matches!(world.find("acme/app:v2").await.unwrap(), Outcome::Absent { .. }));
    engine.stop().await;

    let again = world.engine().await;
    assert_eq!(again.health().published, world.head().published.map(|p| p.timestamp_version));
    let before = world.head().roles["timestamp"].version;
    publish(&again, world.vouch("acme/other:v1", "x")).await;
    assert!(world.head().roles["timestamp"].version > before);
    assert!(matches!(world.find("acme/other:v1").await.unwrap(), Outcome::Found(_)));
    again.stop().await;
}

/// P2: what the demo does. On the wall clock, the registry never shows an expired timestamp.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_life_of_three_seconds_the_registry_never_shows_an_expired_timestamp() {
    let mut world = World::new().await;
    world.freshness.timestamp_validity = TimeDelta::seconds(3);
    world.freshness.snapshot_validity = TimeDelta::seconds(3);
    // The documents are of the wall clock's time.
    let clock = Arc::new(SystemClock);
    world.born = clock.now();
    let engine = world.engine_with(clock.clone()).await;
    publish(&engine, world.init()).await;
    let (end, mut looks) = (tokio::time::Instant::now() + Duration::from_secs(6), 0);
    while tokio::time::Instant::now() < end {
        let outcome = world.find_at("acme/app:v1", clock.now()).await;
        assert!(matches!(outcome, Ok(Outcome::Absent { .. })), "look {looks}: {outcome:?}");
        let health = engine.health();
        assert!(health.ready, "{health:?}");
        looks += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(looks > 20);
    engine.stop().await;
}

/// T15.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_went_back_is_told_and_recovers() {
    let world = World::new().await;
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    let right = world.now();
    world.clock.set(right - TimeDelta::hours(1));
    let refusal = engine.submit(world.vouch("acme/app:v1", "x")).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Unavailable);
    assert!(refusal.message.contains("the clock went back"), "{}", refusal.message);
    assert!(engine.health().detail.contains("the clock went back"), "{:?}", engine.health());
    world.clock.set(right);
    publish(&engine, world.vouch("acme/app:v1", "x")).await;
    assert_eq!(engine.health().detail, "fresh");
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn submissions_after_stop_are_unavailable_and_waiting_ends() {
    let world = World::new().await;
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    world.front.fail(Some(super::front::Fault::PutLatest(500)));
    let accepted = engine.submit(world.vouch("acme/app:v1", "x")).await.unwrap();
    let waiting = tokio::spawn({
        let (engine, id) = (engine.clone(), accepted.id.clone());
        async move { engine.submission(&id, Duration::from_secs(60)).await }
    });
    engine.stop().await;
    engine.stop().await;
    let answer = tokio::time::timeout(Duration::from_secs(2), waiting).await.expect("it ends").unwrap();
    assert_eq!(answer.unwrap().unwrap(), accepted);
    let refusal = engine.submit(world.vouch("acme/app:v2", "x")).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Unavailable);
    assert!(refusal.message.contains("stopping"), "{}", refusal.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_submissions_cost_the_registry_nothing() {
    let mut world = World::new().await;
    world.freshness.timestamp_interval = TimeDelta::seconds(300);
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    let before = world.front.requests();
    for _ in 0..20 {
        let mut bad = world.init();
        bad.remove("root");
        assert_eq!(engine.submit(bad).await.unwrap_err().code, RefusalCode::Conflict);
    }
    assert_eq!(world.front.requests(), before);
    engine.stop().await;
}
