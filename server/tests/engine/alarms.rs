//! What somebody else does to `:latest`.

use plimsoll::publish::api::{Progress, RefusalCode};
use plimsoll_server::{
    pipeline::Engine,
    store::{MemoryStore, Published, Store, TrustKey},
};

use super::world::*;

/// T79: removed or overwritten, ours is there again within an interval.
#[tokio::test(flavor = "multi_thread")]
async fn latest_is_written_again_over_older_content_of_ours_and_over_foreign_content() {
    let world = World::new().await;
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    let old = world.latest().await.unwrap();
    publish(&engine, world.vouch("acme/app:v1", "x")).await;
    let new = world.latest().await.unwrap();
    let foreign = world.foreign();
    for content in [&old[..], &foreign[..]] {
        world.overwrite(content).await;
        assert_eq!(world.latest().await.unwrap(), content);
        until("ours is back", || async { world.latest().await.as_ref() == Some(&new) }).await;
        assert!(engine.health().alarm.is_none());
    }
    engine.stop().await;

    // A registry that lost everything, found by the next start.
    let empty = World { front: world.empty_front().await, ..world };
    let engine = empty.engine().await;
    until("ours is there", || async { empty.latest().await.is_some() }).await;
    assert!(matches!(empty.find("acme/app:v1").await.unwrap(), plimsoll_core::tuf::Outcome::Found(_)));
    engine.stop().await;
}

async fn alarmed(world: &World, engine: &Engine, why: &str) {
    let health = eventually("the alarm", engine, |h| h.alarm.is_some()).await;
    assert!(!health.ready && health.detail.contains(why), "{health:?}");
    assert_eq!(engine.info().alarm, health.alarm);
    assert!(!engine.looked().await);
    let (head, latest) = (world.memory.head(&TrustKey::whole("acme")).unwrap(), world.latest().await);
    let documents = if head.sequence == 0 { world.init() } else { world.vouch("acme/late:v1", "x") };
    let refusal = engine.submit(documents).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Unavailable);
    assert!(refusal.message.contains("stopped signing"), "{}", refusal.message);
    world.clock.advance(chrono::TimeDelta::seconds(400));
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    assert_eq!(world.memory.head(&TrustKey::whole("acme")).unwrap(), head, "nothing is signed any more");
    assert_eq!(world.latest().await, latest, "nothing is pushed any more");
    assert!(!engine.health().ready);
}

/// A copy of the store, as a backup makes it.
pub(crate) fn copy(world: &World) -> MemoryStore {
    let (trust, copy) = (TrustKey::whole("acme"), MemoryStore::new());
    let mut head = world.memory.head(&trust).unwrap();
    let published = head.published;
    let mut documents = Vec::new();
    for role in head.roles.keys() {
        for version in world.memory.versions(&trust, role).unwrap() {
            documents.push((
                role.clone(),
                version,
                world.memory.document(&trust, role, version).unwrap().unwrap(),
            ));
        }
    }
    head.sequence = 1;
    let commit = plimsoll_server::store::Commit { documents, head, submissions: vec![] };
    copy.commit(&trust, &commit).unwrap();
    assert_eq!(copy.head(&trust).unwrap().published, published);
    copy
}

/// P1, P7: a store restored from a backup.
#[tokio::test(flavor = "multi_thread")]
async fn a_newer_timestamp_of_ours_in_the_registry_is_an_alarm() {
    let mut world = World::new().await;
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    let old = copy(&world);
    publish(&engine, world.vouch("acme/app:v1", "x")).await;
    engine.stop().await;
    world.memory = old.clone();
    world.store = std::sync::Arc::new(old);
    let engine = world.engine().await;
    alarmed(&world, &engine, "the store is an old copy").await;
    engine.stop().await;
}

/// P7: two daemons with one key.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_version_with_other_bytes_is_an_alarm() {
    let mut world = World::new().await;
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    let mine = world.memory.clone();
    let other = copy(&world);
    publish(&engine, world.vouch("acme/app:v1", "x")).await;
    engine.stop().await;
    // The other daemon goes on from the copy, against the same registry as it was then.
    let registry = world.empty_front().await;
    let first = std::mem::replace(&mut world.front, registry);
    (world.memory, world.store) = (other.clone(), std::sync::Arc::new(other));
    let second = world.engine().await;
    publish(&second, world.vouch("acme/app:v2", "y")).await;
    second.stop().await;
    let theirs = world.latest().await.unwrap();
    let blobs = plimsoll_core::oci::mapping::Listing::parse(&theirs).unwrap();
    let (from, registry) = (world.repository(), world.registry());
    let mut copies = Vec::new();
    for listed in blobs.files.values() {
        copies.push(registry.blob(&from, &listed.digest, listed.size, true).await.unwrap().unwrap());
    }
    world.front = first;
    for bytes in copies {
        world.registry().put_blob(&world.repository(), bytes).await.unwrap();
    }
    world.overwrite(&theirs).await;
    (world.memory, world.store) = (mine.clone(), std::sync::Arc::new(mine));
    let engine = world.engine().await;
    alarmed(&world, &engine, "another daemon signs with it").await;
    engine.stop().await;
}

/// P7: two daemons with one key, each with a store of its own, that sign while the registry is away: both stop, also the
/// one whose timestamp got there first.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_signers_both_stop() {
    let world = World::new().await;
    let first = world.engine().await;
    publish(&first, world.init()).await;
    let theirs = copy(&world);
    let mut other = world.twin();
    (other.memory, other.store) = (theirs.clone(), std::sync::Arc::new(theirs));
    let second = other.engine().await;
    eventually("the second looked", &second, |h| h.ready).await;

    world.front.fail(Some(super::front::Fault::All(503)));
    let accepted = first.submit(world.vouch("acme/app:v1", "x")).await.unwrap();
    second.submit(other.vouch("acme/app:v1", "y")).await.unwrap();
    assert_eq!(world.head().roles["timestamp"].version, other.head().roles["timestamp"].version);
    world.front.fail(None);
    for engine in [&first, &second] {
        eventually("both stop", engine, |health| {
            health.alarm.as_ref().is_some_and(|alarm| alarm.contains("another daemon"))
        })
        .await;
    }
    // A restart is the operator's word that the other one is gone: the one whose state is published goes on.
    let published = world.latest().await.unwrap();
    first.stop().await;
    second.stop().await;
    let shows = |name: &str| {
        let bytes = published.clone();
        let listing = plimsoll_core::oci::mapping::Listing::parse(&bytes).unwrap();
        let shown = listing.timestamp().unwrap().digest;
        let ours = if name == "first" { world.head() } else { other.head() };
        ours.roles["timestamp"].digest == shown
    };
    assert!(shows("first") != shows("second"), "{accepted:?}");
    let winner = if shows("first") { world.engine().await } else { other.engine().await };
    eventually("it goes on", &winner, |health| health.ready && health.alarm.is_none()).await;
    winner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_holds_something_else_is_left_alone() {
    let world = World::new().await;
    world.overwrite(&world.foreign()).await;
    let engine = world.engine().await;
    alarmed(&world, &engine, "not ours").await;
    engine.stop().await;
}

/// It was empty when the daemon looked, and is not when it comes to publish.
#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_put_there_before_init_is_not_overwritten() {
    let mut world = World::new().await;
    world.freshness.timestamp_interval = chrono::TimeDelta::seconds(300);
    let engine = world.engine().await;
    eventually("it waits for init", &engine, |h| h.ready).await;
    world.overwrite(&world.foreign()).await;
    let accepted = engine.submit(world.init()).await.unwrap();
    let health = eventually("the alarm", &engine, |h| h.alarm.is_some()).await;
    assert!(health.detail.contains("not ours"));
    assert_eq!(world.latest().await.unwrap(), world.foreign());
    engine.stop().await;
    assert!(engine.submission(&accepted.id, std::time::Duration::ZERO).await.unwrap().is_some());
}

/// What was published in one repository says nothing of another: what somebody has there is not overwritten, and nothing is
/// called published before it is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_has_where_the_trust_repository_moves_is_not_overwritten() {
    let world = World::new().await;
    let engine = world.engine().await;
    let first = publish(&engine, world.init()).await;
    engine.stop().await;
    let head = world.head();

    let moved = World { front: world.empty_front().await, ..world };
    moved.overwrite(&moved.foreign()).await;
    let engine = moved.engine().await;
    alarmed(&moved, &engine, "not ours").await;
    assert_eq!(moved.latest().await.unwrap(), moved.foreign());
    let known = engine.submission(&first.id, std::time::Duration::ZERO).await.unwrap().unwrap();
    assert_eq!((known.state, engine.health().published), (Progress::Accepted, None));
    engine.stop().await;
    assert_eq!(moved.head(), head);

    // An empty one gets all of it, and from then on that counts.
    let empty = World { front: moved.empty_front().await, ..moved };
    let engine = empty.engine().await;
    let known = engine.submission(&first.id, std::time::Duration::from_secs(30)).await.unwrap().unwrap();
    assert_eq!(known.state, Progress::Published, "{:?}", engine.health());
    assert!(empty.latest().await.is_some());
    engine.stop().await;
    let repository = empty.head().published.unwrap().repository;
    assert_eq!(repository, Some(Published::place(&empty.repository())));
    empty.overwrite(&empty.foreign()).await;
    let engine = empty.engine().await;
    until("ours is back", || async { empty.latest().await.unwrap() != empty.foreign() }).await;
    assert!(engine.health().alarm.is_none(), "it was ours before");
    engine.stop().await;
}
