//! A year of the engine, on the virtual clock.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core::tuf::{Document, Outcome, Snapshot, metadata::RoleType};
use plimsoll_server::{
    freshness::Freshness,
    store::{Store, TrustKey},
};

use super::world::*;

fn signed<T: RoleType>(world: &World, role: &str) -> DateTime<Utc> {
    let version = world.head().roles[role].version;
    let bytes = world.memory.document(&TrustKey::whole("acme"), role, version).unwrap().unwrap();
    let document = Document::<T>::parse(role, &bytes).unwrap();
    T::common(&document.signed).identity.as_ref().unwrap().at
}

/// P2: what clients of the registry are shown is never older than one and a half intervals, as the engine itself looks once
/// a minute.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_year_the_registry_never_shows_a_timestamp_older_than_one_and_a_half_intervals() {
    let mut world = World::new().await;
    // The longest that a life of a day allows.
    let interval = TimeDelta::hours(12);
    world.freshness = Freshness {
        timestamp_interval: interval,
        timestamp_jitter: Some(TimeDelta::minutes(12)),
        ..Freshness::default()
    };
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    let (started, end) = (std::time::Instant::now(), world.now() + TimeDelta::days(364));
    let (mut oldest, mut oldest_snapshot, mut youngest) =
        (TimeDelta::zero(), TimeDelta::zero(), TimeDelta::MAX);
    let mut signings = 0;
    let mut steps = 0;
    while world.now() < end {
        let before = world.head();
        // The first time at which a timestamp may be due by itself, then once a minute as the engine looks.
        let age = world.now() - world.head().last_signed.unwrap();
        let first = interval - TimeDelta::minutes(13) - age;
        world.clock.advance(if first > TimeDelta::zero() { first } else { TimeDelta::seconds(60) });
        let shown = engine.health().timestamp_expires.unwrap() - world.freshness.timestamp_validity;
        oldest = oldest.max(world.now() - shown);
        oldest_snapshot = oldest_snapshot.max(world.now() - signed::<Snapshot>(&world, "snapshot"));
        engine.wake().await;
        steps += 1;
        let after = world.head();
        let newest = after.roles["timestamp"].version;
        if newest > before.roles["timestamp"].version {
            signings += 1;
            // A new snapshot brings a timestamp with it, whatever its age.
            if after.roles["snapshot"] == before.roles["snapshot"] {
                youngest = youngest.min(world.now() - shown);
            }
            while engine.health().published < Some(newest) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert!(engine.health().ready, "{:?}", engine.health());
        assert!(oldest * 2 <= interval * 3, "{oldest}");
    }
    println!(
        "a year: {signings} signings in {steps} looks; in the registry never older than {} min, re-signed after {} min at \
         the earliest, interval {} min; snapshot never older than {} h, interval 84 h; {:?}",
        oldest.num_minutes(),
        youngest.num_minutes(),
        interval.num_minutes(),
        oldest_snapshot.num_hours(),
        started.elapsed()
    );
    assert!(youngest >= interval - TimeDelta::minutes(12) && signings > 700);
    assert!(oldest_snapshot * 2 <= TimeDelta::hours(84) * 3);
    assert!(matches!(world.find("acme/app:v1").await.unwrap(), Outcome::Absent { .. }));
    engine.stop().await;
}
