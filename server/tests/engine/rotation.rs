//! Keys are replaced: what clients make of it that start now, that looked just before, and that slept since root v1.

use std::{collections::BTreeMap, path::Path};

use chrono::TimeDelta;
use plimsoll::{
    keys::{Algorithm, PrivateKey, Signer},
    publish::{
        api::{OnlineKeys, RefusalReason},
        author,
    },
    update::{Bounds, RegistrySource, Session, UpdateError},
};
use plimsoll_core::{
    oci::{Digest, mapping},
    tuf::{Document, MetaFile, Outcome, RoleKeys, Root, Snapshot, Targets, Timestamp, metadata::RoleType},
};
use plimsoll_server::{
    keys::{self, Keyring},
    pipeline::Engine,
    store::{Store, TrustKey},
};
use tempfile::TempDir;

use super::world::*;

/// A trust repository whose online keys are on disk, and the homes of three clients that pin root v1.
struct Drill {
    world: World,
    data: TempDir,
    /// Looked at root v1, and then not until the end of each test.
    asleep: TempDir,
    /// Looks after each step.
    warm: TempDir,
    pinned: Vec<u8>,
}

impl Drill {
    /// Root, targets and one tag are published, and both clients have seen them.
    async fn new() -> (Self, Engine) {
        let mut world = World::new().await;
        let data = tempfile::tempdir().unwrap();
        let pair = keys::load_or_make(data.path(), "acme").unwrap();
        world.timestamp_pem = pair.signers.timestamp.to_pem_insecure_plain().to_string();
        world.snapshot_pem = pair.signers.snapshot.to_pem_insecure_plain().to_string();
        let (asleep, warm) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let pinned = world.root();
        let drill = Self { world, data, asleep, warm, pinned };
        let engine = drill.start().await;
        let mut init = drill.world.init();
        init.insert("root".to_owned(), drill.pinned.clone());
        publish(&engine, init).await;
        publish(&engine, drill.world.vouch("acme/app:v1", "one")).await;
        for home in [&drill.asleep, &drill.warm] {
            drill.finds(home.path(), "acme/app:v1").await;
        }
        (drill, engine)
    }

    async fn start(&self) -> Engine {
        self.world.engine_of(Keyring::open(self.data.path(), "acme").unwrap()).await
    }

    fn document(&self, role: &str) -> Vec<u8> {
        let version = self.world.head().roles[role].version;
        let stored = self.world.memory.document(&TrustKey::whole("acme"), role, version);
        stored.unwrap().unwrap().to_vec()
    }

    fn newest<T: RoleType>(&self, role: &str) -> T {
        Document::<T>::parse(role, &self.document(role)).unwrap().signed
    }

    /// The next root, changed.
    fn root(&self, change: impl FnOnce(&mut Root)) -> Root {
        let mut root: Root = self.newest("root");
        root.common.version += 1;
        root.common.expires = self.world.now() + author::MAX_ROOT_LIFE;
        change(&mut root);
        let used: Vec<_> = root.roles.values().flat_map(|role| role.keyids.clone()).collect();
        root.keys.retain(|id, _| used.contains(id));
        root
    }

    /// The next root, with these online keys.
    fn naming(&self, online: &OnlineKeys) -> BTreeMap<String, Vec<u8>> {
        let root = self.root(|root| {
            for (role, key) in [("timestamp", &online.timestamp), ("snapshot", &online.snapshot)] {
                root.keys.insert(key.id(), key.clone());
                root.roles.get_mut(role).unwrap().keyids = vec![key.id()];
            }
        });
        BTreeMap::from([("root".to_owned(), sign(&root, &self.world.owner))])
    }

    async fn find(&self, home: &Path, name: &str) -> Result<Outcome, UpdateError> {
        let source = RegistrySource::new(self.world.registry(), self.world.repository());
        let mut session =
            Session::refresh(source, home, &self.pinned, self.world.now(), &Bounds::default()).await?;
        session.find(name).await.map_err(|unfinished| unfinished.error)
    }

    async fn finds(&self, home: &Path, name: &str) {
        let outcome = self.find(home, name).await;
        assert!(matches!(outcome, Ok(Outcome::Found(_))), "{name}: {outcome:?}");
    }

    /// A client that starts now, and the warm one.
    async fn awake_find(&self, name: &str) {
        self.finds(tempfile::tempdir().unwrap().path(), name).await;
        self.finds(self.warm.path(), name).await;
    }

    /// And the one that slept.
    async fn all_find(&self, name: &str) {
        self.awake_find(name).await;
        self.finds(self.asleep.path(), name).await;
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.data.path().join("keys/acme")).unwrap().count()
    }
}

fn key() -> PrivateKey {
    PrivateKey::generate(Algorithm::Ed25519).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn online_keys_are_replaced_while_the_daemon_runs() {
    let (drill, engine) = Drill::new().await;
    let old = engine.info().online;
    let next = keys::make_next(drill.data.path(), "acme").unwrap().0.next(None).unwrap();
    engine.reload_keys().await;
    assert_eq!((engine.info().online, engine.info().online_next), (old.clone(), Some(next.clone())));
    let dropped = OnlineKeys { timestamp: key().key().clone(), ..next.clone() };
    let refusal = engine.submit(drill.naming(&dropped)).await.unwrap_err();
    assert_eq!(refusal.reason, Some(RefusalReason::OnlineKeys), "{}", refusal.message);
    drill.awake_find("acme/app:v1").await;

    publish(&engine, drill.naming(&next)).await;
    assert_eq!((engine.info().online, engine.info().online_next), (next.clone(), None));
    drill.awake_find("acme/app:v1").await;
    publish(&engine, drill.world.vouch("acme/app:v2", "two")).await;
    drill.awake_find("acme/app:v2").await;
    until("the old keys are gone", || async { drill.files() == 2 }).await;
    assert_eq!(keys::load_or_make(drill.data.path(), "acme").unwrap().public(), next);

    // Once more, one at a time, over a restart.
    for timestamp_only in [true, false] {
        let (old, next) = (engine.info().online, keys::make_next(drill.data.path(), "acme").unwrap().0);
        let mut mixed = next.next(None).unwrap();
        if timestamp_only {
            mixed.snapshot = old.snapshot;
        } else {
            mixed.timestamp = old.timestamp;
        }
        publish(&engine, drill.naming(&mixed)).await;
        assert_eq!(engine.info().online, mixed);
        until("the old key is gone", || async { drill.files() == 2 }).await;
        drill.awake_find("acme/app:v2").await;
    }
    engine.stop().await;
    let engine = drill.start().await;
    publish(&engine, drill.world.vouch("acme/app:v3", "three")).await;
    drill.all_find("acme/app:v3").await;
    engine.stop().await;
}

/// P6: committed, and killed before the registry or the folder of the keys heard of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_before_the_swap_goes_on_with_the_keys_that_its_root_names() {
    let (drill, engine) = Drill::new().await;
    let next = keys::make_next(drill.data.path(), "acme").unwrap().0.next(None).unwrap();
    drill.world.front.fail(Some(super::front::Fault::PutLatest(500)));
    let accepted = engine.submit(drill.naming(&next)).await.unwrap();
    engine.stop().await;
    assert!(drill.data.path().join("keys/acme/taken/timestamp.key").exists());
    // The registry shows the old keys' word still, which is no alarm, and the old keys are not offered any more.
    drill.awake_find("acme/app:v1").await;
    let engine = drill.start().await;
    assert_eq!((engine.info().online, engine.info().online_next), (next.clone(), None));
    assert_eq!(drill.files(), 3, "the old keys are kept until the registry shows the new ones");
    drill.world.front.fail(None);
    until("it is published", || async {
        let state = engine.submission(&accepted.id, std::time::Duration::ZERO).await.unwrap().unwrap().state;
        state == plimsoll::publish::api::Progress::Published
    })
    .await;
    until("the old keys are gone", || async { drill.files() == 2 }).await;
    publish(&engine, drill.world.vouch("acme/app:v2", "two")).await;
    assert!(engine.health().alarm.is_none());
    drill.all_find("acme/app:v2").await;
    engine.stop().await;

    // Half of the swap was done by a daemon that died in it.
    let third = keys::make_next(drill.data.path(), "acme").unwrap().0.next(None).unwrap();
    drill.world.front.fail(Some(super::front::Fault::PutLatest(500)));
    let engine = drill.start().await;
    submit(&engine, drill.naming(&third)).await.unwrap();
    engine.stop().await;
    let folder = drill.data.path().join("keys/acme");
    std::fs::rename(folder.join("taken/snapshot.key"), folder.join("snapshot.key")).unwrap();
    drill.world.front.fail(None);
    let engine = drill.start().await;
    assert_eq!(engine.info().online, third);
    publish(&engine, drill.world.vouch("acme/app:v3", "three")).await;
    until("the old keys are gone", || async { drill.files() == 2 }).await;
    drill.all_find("acme/app:v3").await;
    engine.stop().await;
}

/// T25: whoever stole the timestamp and snapshot keys signed absurd versions, and a client took them. The root that drops
/// those keys makes it well again; and what they sign afterwards at `:latest` stops nobody.
#[tokio::test(flavor = "multi_thread")]
async fn stolen_online_keys_are_replaced_and_a_fast_forward_is_forgotten() {
    let (drill, engine) = Drill::new().await;
    engine.stop().await;
    let stolen = drill.world.signers();
    let forged = |version: u64| {
        let mut snapshot: Snapshot = drill.newest("snapshot");
        snapshot.common.version = version;
        let snapshot_bytes = sign(&snapshot, &stolen.snapshot);
        let mut timestamp: Timestamp = drill.newest("timestamp");
        timestamp.common.version = version;
        timestamp.meta.insert("snapshot.json".to_owned(), MetaFile::of(version, &snapshot_bytes));
        (sign(&timestamp, &stolen.timestamp), snapshot_bytes)
    };
    let show = async |version: u64| {
        let ((timestamp, snapshot), targets) = (forged(version), drill.document("targets"));
        let files = mapping::RepositoryFiles {
            timestamp: &timestamp,
            snapshots: vec![(version, &snapshot)],
            targets: (drill.world.head().roles["targets"].version, &targets),
            roots: vec![(1, &drill.pinned)],
        };
        let artifact = mapping::repository(&files, mapping::Profile::default());
        for (_, bytes) in artifact.blobs {
            drill.world.registry().put_blob(&drill.world.repository(), bytes.into()).await.unwrap();
        }
        drill.world.overwrite(&artifact.manifest).await;
    };
    let honest = drill.world.latest().await.unwrap();
    show(1 << 31).await;
    drill.finds(drill.warm.path(), "acme/app:v1").await;
    drill.world.overwrite(&honest).await;
    assert!(drill.find(drill.warm.path(), "acme/app:v1").await.is_err(), "it is held to what it saw");

    let next = keys::make_next(drill.data.path(), "acme").unwrap().0.next(None).unwrap();
    let engine = drill.start().await;
    submit(&engine, drill.naming(&next)).await.unwrap();
    publish(&engine, drill.world.vouch("acme/app:v2", "two")).await;
    drill.all_find("acme/app:v2").await;
    // The thief comes back: no alarm, since that key is nobody's now, and ours is written over it.
    let ours = drill.world.latest().await.unwrap();
    show(1 << 32).await;
    until("ours is back", || async { drill.world.latest().await.as_ref() == Some(&ours) }).await;
    assert!(engine.health().alarm.is_none());
    drill.all_find("acme/app:v2").await;
    engine.stop().await;
}

/// T06, T11, T14: owners, their threshold, the targets they sign and a team's keys, all replaced, one set each.
#[tokio::test(flavor = "multi_thread")]
async fn owners_and_teams_are_replaced_and_every_client_follows() {
    let (drill, engine) = Drill::new().await;
    let owners = [key(), key(), key()];
    let root = drill.root(|root| {
        root.keys.extend(owners.iter().map(|key| (key.key_id(), key.key().clone())));
        let keyids: Vec<_> = owners.iter().map(Signer::key_id).collect();
        for role in ["root", "targets"] {
            let keys = RoleKeys { keyids: keyids.clone(), threshold: 2, extra: BTreeMap::new() };
            root.roles.insert(role.to_owned(), keys);
        }
    });
    let [a, b, c] = &owners;
    let mut targets: Targets = drill.newest("targets");
    author::next_version("targets", &mut targets, drill.world.now());
    let (allowed, scope) = (["acme/*".to_owned()], "acme/net:v*".parse().unwrap());
    let team = [drill.world.team.public().clone()];
    author::delegate(&mut targets, ("targets", &allowed), "targets--net", &scope, &team, 1).unwrap();
    let mut net = author::empty_targets("targets--net", TRUST, drill.world.now());
    net.targets.insert("acme/net:v1".to_owned(), target("net one"));
    let set = BTreeMap::from([
        ("root".to_owned(), author::sign(&root, &[&drill.world.owner, a, b]).unwrap()),
        ("targets".to_owned(), author::sign(&targets, &[b, c]).unwrap()),
        ("targets--net".to_owned(), sign(&net, &drill.world.team)),
    ]);
    publish(&engine, set).await;
    drill.awake_find("acme/app:v1").await;
    drill.awake_find("acme/net:v1").await;

    // The team's key leaked: another one, and its last content signed with that, at once.
    let new = key();
    let mut targets: Targets = drill.newest("targets");
    author::next_version("targets", &mut targets, drill.world.now());
    let delegations = targets.delegations.as_mut().unwrap();
    delegations.keys = BTreeMap::from([(new.key_id(), new.key().clone())]);
    delegations.roles[0].keys.keyids = vec![new.key_id()];
    author::next_version("targets--net", &mut net, drill.world.now());
    let set = BTreeMap::from([
        ("targets".to_owned(), author::sign(&targets, &[a, c]).unwrap()),
        ("targets--net".to_owned(), sign(&net, &new)),
    ]);
    publish(&engine, set).await;
    drill.awake_find("acme/net:v1").await;

    // One holder is replaced, and the online keys with it; then the scope of the team is revoked.
    let fourth = key();
    let next = keys::make_next(drill.data.path(), "acme").unwrap().0.next(None).unwrap();
    let root = drill.root(|root| {
        root.keys.insert(fourth.key_id(), fourth.key().clone());
        for role in ["root", "targets"] {
            root.roles.get_mut(role).unwrap().keyids[2] = fourth.key_id();
        }
        for (role, key) in [("timestamp", &next.timestamp), ("snapshot", &next.snapshot)] {
            root.keys.insert(key.id(), key.clone());
            root.roles.get_mut(role).unwrap().keyids = vec![key.id()];
        }
    });
    let mut targets: Targets = drill.newest("targets");
    author::next_version("targets", &mut targets, drill.world.now());
    targets.delegations = None;
    let revocation = serde_json::json!({
        "paths": ["acme/net:v*"], "reason": "they left", "at": drill.world.now().format("%Y-%m-%dT%H:%M:%SZ").to_string(),
    });
    let identity = targets.common.identity.as_mut().unwrap();
    identity.revocations.push(serde_json::from_value(revocation).unwrap());
    let set = BTreeMap::from([
        ("root".to_owned(), author::sign(&root, &[a, b]).unwrap()),
        ("targets".to_owned(), author::sign(&targets, &[a, &fourth]).unwrap()),
    ]);
    publish(&engine, set).await;
    assert_eq!(engine.info().online, next);
    drill.all_find("acme/app:v1").await;
    for home in [&drill.asleep, &drill.warm] {
        let outcome = drill.find(home.path(), "acme/net:v1").await.unwrap();
        assert!(matches!(&outcome, Outcome::Revoked { role, .. } if role == "targets"), "{outcome:?}");
    }
    // Time goes on under the new keys.
    drill.world.clock.advance(TimeDelta::seconds(300));
    until("it is signed again", || async {
        let timestamp: Timestamp = drill.newest("timestamp");
        timestamp.common.expires > drill.world.now() + TimeDelta::seconds(500)
    })
    .await;
    engine.stop().await;
}

fn target(content: &str) -> plimsoll_core::tuf::Target {
    let hashes = BTreeMap::from([("sha256".to_owned(), Digest::of(content.as_bytes()).hex())]);
    plimsoll_core::tuf::Target { length: 1, hashes, custom: None, extra: BTreeMap::new() }
}
