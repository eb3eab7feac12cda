//! One round from a timer.

use std::sync::Arc;

use chrono::TimeDelta;
use plimsoll_core::{policy::Verdict, tuf::Outcome};
use plimsoll_server::{
    pipeline::{Tick, tick},
    store::MemoryStore,
};

use super::{alarms::copy, front::Fault, world::*};

async fn round(world: &World, force: bool) -> Tick {
    tick(world.options(world.signers().into(), world.clock.clone()), force).await.unwrap()
}

/// A day and an hour, one tag published, and no engine.
async fn world() -> World {
    let mut world = World::new().await;
    world.freshness = Default::default();
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    publish(&engine, world.vouch("acme/app:v1", "x")).await;
    engine.stop().await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_signs_what_is_due_and_no_more() {
    let world = world().await;
    let first = round(&world, false).await;
    assert_eq!((first.verdict, first.signed), (Some(Verdict::Verified), None));
    assert_eq!(first.detail, "fresh");
    world.clock.advance(TimeDelta::hours(1));
    let second = round(&world, false).await;
    assert_eq!(second.verdict, Some(Verdict::Verified));
    assert_eq!(second.signed, first.published.map(|version| version + 1));
    assert_eq!(second.published, second.signed);
    assert_eq!(second.expires, Some(world.now() + TimeDelta::hours(24)));
    let forced = round(&world, true).await;
    assert_eq!(forced.signed, second.signed.map(|version| version + 1));
    assert_eq!(forced.exit_code(), 0);
    assert!(matches!(world.find("acme/app:v1").await.unwrap(), Outcome::Found(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_before_is_published_by_a_round() {
    let world = world().await;
    let engine = world.engine().await;
    world.front.fail(Some(Fault::PutLatest(500)));
    submit(&engine, world.vouch("acme/app:v2", "x")).await.unwrap();
    engine.stop().await;
    world.front.fail(None);
    let tick = round(&world, false).await;
    assert_eq!((tick.verdict, tick.signed), (Some(Verdict::Verified), None));
    assert!(matches!(world.find("acme/app:v2").await.unwrap(), Outcome::Found(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trust_repository_that_was_never_made_is_absent() {
    let world = World::new().await;
    for force in [false, true] {
        let tick = round(&world, force).await;
        assert_eq!((tick.verdict, tick.signed, tick.published), (Some(Verdict::Absent), None, None));
        assert!(tick.detail.contains("plimsoll init"), "{}", tick.detail);
    }
    assert_eq!(world.latest().await, None);
}

/// P8: what failed is told by the verdict table's codes, and nothing is signed before the registry was read.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_that_fails_says_why_and_signs_nothing() {
    let world = world().await;
    world.clock.advance(TimeDelta::hours(2));
    let head = world.head();
    for (fault, verdict, code) in [
        (Fault::All(500), Verdict::Unreachable, 30),
        (Fault::All(429), Verdict::Unreachable, 30),
        (Fault::All(401), Verdict::Auth, 31),
        (Fault::All(403), Verdict::Auth, 31),
    ] {
        world.front.fail(Some(fault));
        let tick = round(&world, true).await;
        assert_eq!((tick.verdict, tick.exit_code()), (Some(verdict), code), "{}", tick.detail);
        assert_eq!(world.head(), head);
    }
    world.front.fail(None);
    // The clock: a fault of this machine.
    let right = world.now();
    world.clock.set(right - TimeDelta::hours(3));
    let tick = round(&world, true).await;
    assert_eq!((tick.verdict, tick.exit_code()), (None, 1));
    assert!(tick.detail.contains("the clock went back"), "{}", tick.detail);
    assert_eq!(world.head(), head);
    world.clock.set(right);
    assert_eq!(round(&world, false).await.exit_code(), 0);
    // Signed, and not in the registry.
    world.front.fail(Some(Fault::PutLatestForgotten));
    let tick = round(&world, true).await;
    assert_eq!(tick.exit_code(), 22, "{}", tick.detail);
    assert!(tick.signed > tick.published);
}

/// P1, P7: an old store, and a second signer.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_on_an_old_store_is_a_rollback_and_on_foreign_content_untrusted() {
    let mut world = world().await;
    world.memory = MemoryStore::new();
    world.store = Arc::new(world.memory.clone());
    let latest = world.latest().await;
    let tick = round(&world, true).await;
    assert_eq!((tick.verdict, tick.signed), (Some(Verdict::Rollback), None), "{}", tick.detail);
    assert_eq!(world.latest().await, latest);

    world.front = world.empty_front().await;
    world.overwrite(&world.foreign()).await;
    let tick = round(&world, true).await;
    assert_eq!(tick.verdict, Some(Verdict::Untrusted), "{}", tick.detail);
    assert_eq!(world.latest().await.unwrap(), world.foreign());
}

/// P7: a second signer stops the first also where it runs from a timer.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signer_tells_the_first() {
    let world = World::new().await;
    let first = world.engine().await;
    publish(&first, world.init()).await;
    let theirs = copy(&world);
    let mut other = world.twin();
    (other.memory, other.store) = (theirs.clone(), Arc::new(theirs));
    // Both sign the next version while neither can publish it.
    world.front.fail(Some(Fault::PutLatest(500)));
    let accepted = submit(&first, world.vouch("acme/app:v1", "x")).await.unwrap();
    assert_eq!(round(&other, true).await.signed, Some(accepted.timestamp));
    world.front.fail(None);
    eventually("the first is there", &first, |h| h.published == Some(accepted.timestamp)).await;

    let tick = round(&other, false).await;
    assert_eq!(tick.verdict, Some(Verdict::Untrusted));
    let told = eventually("the first was told", &first, |h| h.alarm.is_some()).await;
    assert!(told.alarm.unwrap().contains("another daemon signed"));
    first.stop().await;
}
