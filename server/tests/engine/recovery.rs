//! Taking over what the registry shows: by whom it must be signed, and what is refused.

use std::collections::BTreeMap;

use plimsoll::{keys::Signer, publish::author};
use plimsoll_core::{
    oci::{
        Digest,
        mapping::{self, Profile, RepositoryFiles},
        media_type,
    },
    tuf::RoleKeys,
};
use plimsoll_server::{
    store::{MemoryStore, Store, TrustKey},
    takeover::{
        Shown, TakeOverError, View, merge,
        registry::{FetchError, Found, entry, fetch},
    },
};

use super::{alarms::copy, front::Fault, world::*};

async fn shown(world: &World) -> Result<Shown, FetchError> {
    let (registry, repository) = (world.registry(), world.repository());
    let Found::Entry(entry) = entry(&registry, &repository).await.unwrap() else {
        panic!("nothing is there")
    };
    fetch(&registry, &repository, entry, |_, _, _| None).await
}

fn trust() -> TrustKey {
    TrustKey::whole("acme")
}

/// P5: whoever owns the registry knows our public keys, and has what they signed. A root of their own that names these is
/// not the owners'.
#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_names_our_keys_is_not_taken_for_the_owners() {
    let world = World::new().await;
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    publish(&engine, world.vouch("acme/app:v1", "x")).await;
    let info = engine.info();
    engine.stop().await;
    let mut root = author::first_root(
        TRUST,
        &["acme/**".parse().unwrap()],
        &[world.team.key().clone()],
        1,
        &info.online,
        world.born,
    );
    let owner = world.owner.key().clone();
    root.roles
        .insert("targets".to_owned(), RoleKeys { keyids: vec![owner.id()], ..root.roles["targets"].clone() });
    root.keys.insert(owner.id(), owner);
    let root = sign(&root, &world.team);
    let head = world.head();
    let read = |role: &str| {
        let version = head.roles[role].version;
        (version, world.memory.document(&trust(), role, version).unwrap().unwrap())
    };
    let (snapshot, targets, timestamp) = (read("snapshot"), read("targets"), read("timestamp"));
    let files = RepositoryFiles {
        timestamp: &timestamp.1,
        snapshots: vec![(snapshot.0, &snapshot.1)],
        targets: (targets.0, &targets.1),
        roots: vec![(1, &root)],
    };
    let forged = mapping::repository(&files, Profile::default());
    let registry = world.registry();
    for (_, bytes) in forged.blobs {
        registry.put_blob(&world.repository(), bytes.into()).await.unwrap();
    }
    let manifest = forged.manifest.into();
    registry.put_manifest(&world.repository(), "latest", media_type::MANIFEST, manifest).await.unwrap();

    // It verifies by itself: only who the owners are is not in it.
    let shown = shown(&world).await.unwrap();
    let pinned = Digest::of(&world.root());
    assert!(
        matches!(shown.view.check_anchor(None), Err(TakeOverError::Anchor { first, .. }) if first == Digest::of(&root))
    );
    assert!(matches!(shown.view.check_anchor(Some(pinned)), Err(TakeOverError::OtherRoot { .. })));
    let before = world.head();
    let refused = merge(&world.memory, &trust(), "the store", Some(shown), world.now());
    assert!(matches!(refused, Err(TakeOverError::Twin { role, version: 1, .. }) if role == "root"));
    assert_eq!(world.head(), before);
}

/// P7: what two signers made is not merged, whichever is newer.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_second_signer_made_is_not_taken_over() {
    let world = World::new().await;
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    let theirs = copy(&world);
    let mut other = world.twin();
    (other.memory, other.store) = (theirs.clone(), std::sync::Arc::new(theirs));
    let second = other.engine().await;
    eventually("the second looked", &second, |h| h.ready).await;
    world.front.fail(Some(Fault::All(503)));
    // The first signs two timestamps, the second one of the same version, and a role.
    second.submit(other.vouch("acme/app:v1", "y")).await.unwrap();
    second.stop().await;
    let before = world.head().roles["timestamp"].version;
    for n in 1..=2 {
        world.clock.advance(chrono::TimeDelta::seconds(2));
        until("it signs", || async { world.head().roles["timestamp"].version >= before + n }).await;
    }
    world.front.fail(None);
    let newest = world.head().roles["timestamp"].version;
    until("it publishes", || async { world.head().published.is_some_and(|p| p.timestamp_version == newest) })
        .await;
    let lost = merge(&other.memory, &trust(), "the store", Some(shown(&world).await.unwrap()), world.now());
    assert!(matches!(lost, Err(TakeOverError::Lost { .. })), "{lost:?}");

    publish(&engine, world.vouch("acme/app:v1", "x")).await;
    engine.stop().await;
    let twin = merge(&other.memory, &trust(), "the store", Some(shown(&world).await.unwrap()), world.now());
    assert!(matches!(twin, Err(TakeOverError::Twin { .. })), "{twin:?}");
}

/// What is taken over is the registry's, whole; the same again changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_takes_over_what_is_newer() {
    let world = World::new().await;
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    let old = copy(&world);
    publish(&engine, world.teams(3)).await;
    engine.stop().await;
    let head = world.head();
    let found = shown(&world).await.unwrap();
    found.view.check_anchor(Some(Digest::of(&world.root()))).unwrap();
    let merged = merge(&old, &trust(), "the store", Some(found.clone()), world.now()).unwrap().unwrap();
    assert!(merged.from_registry);
    assert_eq!(merged.head.roles, head.roles);
    assert_eq!(merged.head.taken_over, Some(head.roles["timestamp"].version));
    let new: BTreeMap<_, _> =
        merged.documents.iter().map(|(role, version, _)| (role.clone(), *version)).collect();
    assert_eq!(new["targets--r2"], 1);
    assert!(!new.contains_key("root"), "it has that");
    let same = merge(&world.memory, &trust(), "the store", Some(found), world.now()).unwrap().unwrap();
    assert!(!same.from_registry && same.documents.is_empty());
    assert_eq!(same.head.roles, head.roles);

    let empty = MemoryStore::new();
    assert!(merge(&empty, &trust(), "the store", None, world.now()).unwrap().is_none());
    assert!(View::of_store("the store", &empty, &trust()).is_err());
}
