//! What the tests share: keys, documents, an engine, a client.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use plimsoll::{
    clock::{Clock, ManualClock},
    keys::{Algorithm, PrivateKey, Signer},
    publish::{
        api::{Accepted, OnlineKeys, Progress, Refusal},
        author,
    },
    registry::{Credentials, ManifestAnswer, Registry, RegistryOptions},
    update::{Bounds, RegistrySource, Session, UpdateError},
};
use plimsoll_core::{
    oci::{Digest, RepositoryAddress, mapping::Profile, media_type},
    policy::Scope,
    tuf::{Document, Outcome, Target, Targets, metadata::RoleType},
};
use plimsoll_server::{
    freshness::Freshness,
    keys::{Keyring, OnlineSigners},
    pipeline::{Engine, EngineOptions, Health},
    store::{Head, MemoryStore, Store, TrustKey},
};

use super::front::Front;

pub(crate) const TRUST: &str = "0123456789abcdef0123456789abcdef";
/// Nothing in these tests takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) front: Arc<Front>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) memory: MemoryStore,
    pub(crate) clock: Arc<ManualClock>,
    /// When the first root is signed.
    pub(crate) born: DateTime<Utc>,
    pub(crate) freshness: Freshness,
    /// How long a request to the registry may take.
    pub(crate) deadline: Duration,
    pub(crate) timestamp_pem: String,
    pub(crate) snapshot_pem: String,
    pub(crate) owner: PrivateKey,
    pub(crate) team: PrivateKey,
    pub(crate) home: tempfile::TempDir,
}

fn key() -> PrivateKey {
    PrivateKey::generate(Algorithm::Ed25519).unwrap()
}

pub(crate) fn sign<T: RoleType>(signed: &T, key: &PrivateKey) -> Vec<u8> {
    author::sign(signed, &[key]).unwrap()
}

impl World {
    pub(crate) async fn new() -> Self {
        let memory = MemoryStore::new();
        let clock = Arc::new(ManualClock::new(start()));
        Self {
            front: Arc::new(Front::start(clock.clone()).await),
            store: Arc::new(memory.clone()),
            memory,
            clock,
            deadline: Duration::from_secs(30),
            born: start(),
            freshness: Freshness {
                timestamp_validity: TimeDelta::seconds(600),
                timestamp_interval: TimeDelta::seconds(1),
                ..Freshness::default()
            },
            timestamp_pem: key().to_pem_insecure_plain().to_string(),
            snapshot_pem: key().to_pem_insecure_plain().to_string(),
            owner: key(),
            team: key(),
            home: tempfile::tempdir().unwrap(),
        }
    }

    /// The same keys and registry, with nothing in the store.
    pub(crate) fn twin(&self) -> Self {
        let memory = MemoryStore::new();
        Self {
            front: self.front.clone(),
            store: Arc::new(memory.clone()),
            memory,
            clock: Arc::new(ManualClock::new(self.now())),
            deadline: self.deadline,
            born: self.born,
            freshness: self.freshness,
            timestamp_pem: self.timestamp_pem.clone(),
            snapshot_pem: self.snapshot_pem.clone(),
            owner: PrivateKey::from_pem_insecure_plain(&self.owner.to_pem_insecure_plain(), Path::new("key"))
                .unwrap(),
            team: PrivateKey::from_pem_insecure_plain(&self.team.to_pem_insecure_plain(), Path::new("key"))
                .unwrap(),
            home: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub(crate) fn repository(&self) -> RepositoryAddress {
        format!("{}/acme/trust", self.front.host).parse().unwrap()
    }

    pub(crate) fn registry(&self) -> Registry {
        let credentials = Credentials::anonymous();
        let deadline = self.deadline;
        Registry::new(RegistryOptions { credentials, deadline, ..RegistryOptions::default() }).unwrap()
    }

    pub(crate) fn signers(&self) -> OnlineSigners {
        let load = |pem| PrivateKey::from_pem_insecure_plain(pem, Path::new("key")).unwrap();
        OnlineSigners { timestamp: load(&self.timestamp_pem), snapshot: load(&self.snapshot_pem) }
    }

    pub(crate) async fn engine(&self) -> Engine {
        self.engine_with(self.clock.clone()).await
    }

    pub(crate) async fn engine_with(&self, clock: Arc<dyn Clock>) -> Engine {
        self.start(self.signers().into(), clock).await
    }

    /// With these keys.
    pub(crate) async fn engine_of(&self, keys: Keyring) -> Engine {
        self.start(keys, self.clock.clone()).await
    }

    async fn start(&self, keys: Keyring, clock: Arc<dyn Clock>) -> Engine {
        Engine::start(self.options(keys, clock)).await.unwrap()
    }

    /// What its engine is made of.
    pub(crate) fn options(&self, keys: Keyring, clock: Arc<dyn Clock>) -> EngineOptions {
        EngineOptions {
            name: "acme".to_owned(),
            repository: self.repository(),
            registry: self.registry(),
            store: self.store.clone(),
            keys,
            clock,
            freshness: self.freshness,
            profile: Profile::default(),
            refused_keys: Default::default(),
            quota: Default::default(),
        }
    }

    /// A registry with nothing in it.
    pub(crate) async fn empty_front(&self) -> Arc<Front> {
        Arc::new(Front::start(self.clock.clone()).await)
    }

    pub(crate) fn head(&self) -> Head {
        self.memory.head(&TrustKey::whole("acme")).unwrap()
    }

    pub(crate) fn root(&self) -> Vec<u8> {
        let keys = self.signers();
        let online =
            OnlineKeys { timestamp: keys.timestamp.key().clone(), snapshot: keys.snapshot.key().clone() };
        let scope: Scope = "acme/**".parse().unwrap();
        let root = author::first_root(TRUST, &[scope], &[self.owner.key().clone()], 1, &online, self.born);
        sign(&root, &self.owner)
    }

    pub(crate) fn init(&self) -> BTreeMap<String, Vec<u8>> {
        let targets = sign(&author::empty_targets("targets", TRUST, self.born), &self.owner);
        BTreeMap::from([("root".to_owned(), self.root()), ("targets".to_owned(), targets)])
    }

    /// The next version of `targets`, vouching for `name` with the digest of `content`.
    pub(crate) fn vouch(&self, name: &str, content: &str) -> BTreeMap<String, Vec<u8>> {
        let version = self.head().roles["targets"].version;
        let bytes = self.memory.document(&TrustKey::whole("acme"), "targets", version).unwrap().unwrap();
        let mut targets = Document::<Targets>::parse("targets", &bytes).unwrap().signed;
        author::next_version("targets", &mut targets, self.now());
        let hashes = BTreeMap::from([("sha256".to_owned(), Digest::of(content.as_bytes()).hex())]);
        let target = Target { length: 1, hashes, custom: None, extra: BTreeMap::new() };
        targets.targets.insert(name.to_owned(), target);
        BTreeMap::from([("targets".to_owned(), sign(&targets, &self.owner))])
    }

    /// Version 2 of the role of team `n` of [`World::teams`], with one name in it.
    pub(crate) fn team_vouches(&self, n: usize, tag: &str) -> BTreeMap<String, Vec<u8>> {
        let role = format!("targets--r{n}");
        let mut targets = author::empty_targets(&role, TRUST, self.now());
        targets.common.version = 2;
        let hashes = BTreeMap::from([("sha256".to_owned(), Digest::of(tag.as_bytes()).hex())]);
        let target = Target { length: 1, hashes, custom: None, extra: BTreeMap::new() };
        targets.targets.insert(format!("acme/r{n}:{tag}"), target);
        BTreeMap::from([(role, sign(&targets, &self.team))])
    }

    /// `targets` version 2 with `count` delegations, each with its first version.
    pub(crate) fn teams(&self, count: usize) -> BTreeMap<String, Vec<u8>> {
        let mut targets = author::empty_targets("targets", TRUST, self.now());
        targets.common.version = 2;
        let mut documents = BTreeMap::new();
        for n in 0..count {
            let (name, scope) = (format!("targets--r{n}"), format!("acme/r{n}").parse().unwrap());
            let (allowed, keys) = (["acme/*".to_owned()], [self.team.public().clone()]);
            author::delegate(&mut targets, ("targets", &allowed), &name, &scope, &keys, 1).unwrap();
            // Each of other bytes, or they would be one blob.
            let mut role = author::empty_targets(&name, TRUST, self.now());
            role.common.expires -= TimeDelta::seconds(i64::try_from(n).unwrap());
            documents.insert(name, sign(&role, &self.team));
        }
        documents.insert("targets".to_owned(), sign(&targets, &self.owner));
        documents
    }

    /// What `:latest` holds now; none if nothing.
    pub(crate) async fn latest(&self) -> Option<Bytes> {
        match self.registry().manifest(&self.repository(), "latest", 4 << 20, None).await.unwrap() {
            ManifestAnswer::Found(manifest) => Some(manifest.bytes),
            _ => None,
        }
    }

    /// Puts a manifest at `:latest`, past the daemon.
    pub(crate) async fn overwrite(&self, manifest: &[u8]) {
        let registry = self.registry();
        let _ = registry.put_blob(&self.repository(), Bytes::from_static(b"{}")).await.unwrap();
        let bytes = Bytes::copy_from_slice(manifest);
        registry.put_manifest(&self.repository(), "latest", media_type::MANIFEST, bytes).await.unwrap();
    }

    /// A manifest that has nothing to do with us.
    pub(crate) fn foreign(&self) -> Vec<u8> {
        let config = serde_json::json!({
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(b"{}").to_string(), "size": 2,
        });
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::MANIFEST, "config": config, "layers": [],
        });
        serde_json::to_vec(&manifest).unwrap()
    }

    /// What the real client says about `name` now.
    pub(crate) async fn find(&self, name: &str) -> Result<Outcome, UpdateError> {
        self.find_at(name, self.now()).await
    }

    pub(crate) async fn find_at(&self, name: &str, now: DateTime<Utc>) -> Result<Outcome, UpdateError> {
        let source = RegistrySource::new(self.registry(), self.repository());
        let mut session =
            Session::refresh(source, self.home.path(), &self.root(), now, &Bounds::default()).await?;
        session.find(name).await.map_err(|unfinished| unfinished.error)
    }
}

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

/// Submits and waits until it is published.
#[track_caller]
pub(crate) fn publish(
    engine: &Engine,
    documents: BTreeMap<String, Vec<u8>>,
) -> impl Future<Output = Accepted> + use<> {
    let engine = engine.clone();
    async move {
        let accepted = submit(&engine, documents).await.unwrap();
        let published = engine.submission(&accepted.id, PATIENCE).await.unwrap().unwrap();
        assert_eq!(published.state, Progress::Published, "{:?}", engine.health());
        published
    }
}

/// Submits, again and again while the daemon has not read the registry yet.
pub(crate) async fn submit(
    engine: &Engine,
    documents: BTreeMap<String, Vec<u8>>,
) -> Result<Accepted, Refusal> {
    eventually("the registry is read", engine, |health| !health.detail.contains("not read yet")).await;
    engine.submit(documents).await
}

/// Waits until the engine's health is as wanted.
pub(crate) async fn eventually(what: &str, engine: &Engine, wanted: impl Fn(&Health) -> bool) -> Health {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let health = engine.health();
        if wanted(&health) {
            return health;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}: {health:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until `wanted` holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut wanted: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !wanted().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
