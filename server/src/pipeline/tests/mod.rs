//! What the daemon accepts, signs and stores, without a registry. Time stands still unless a test moves it.

mod accept;
mod check;
mod delegations;
mod faults;
mod promises;
mod quotas;
mod rotation;
mod rounds;
mod sets;
mod signatures;
mod size;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use plimsoll::{
    keys::{Algorithm, PrivateKey, Signer},
    publish::{
        api::{OnlineKeys, Refusal, RefusalCode},
        author,
    },
};
use plimsoll_core::{
    oci::Digest,
    policy::Scope,
    tuf::{Document, Root, Snapshot, Target, Targets, Timestamp, metadata::RoleType},
};

use super::{
    round::{Outcome, RoundError, Setup, Submitted},
    submission_id,
};
use crate::{
    freshness::Freshness,
    keys::OnlineSigners,
    quota::{Quota, Rates},
    store::{Head, MemoryStore, Store, SubmissionRecord, TrustKey},
};

pub(super) const TRUST: &str = "0123456789abcdef0123456789abcdef";

/// A trust repository `acme/**` on a store in memory, seen by its publishers.
pub(super) struct World {
    pub(super) store: MemoryStore,
    pub(super) setup: Setup,
    pub(super) owner: PrivateKey,
    pub(super) team: PrivateKey,
    pub(super) now: DateTime<Utc>,
}

pub(super) fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

pub(super) fn key() -> PrivateKey {
    PrivateKey::generate(Algorithm::Ed25519).unwrap()
}

pub(super) fn sign<T: RoleType>(signed: &T, signers: &[&PrivateKey]) -> Vec<u8> {
    let signers: Vec<&dyn Signer> = signers.iter().map(|key| *key as &dyn Signer).collect();
    author::sign(signed, &signers).unwrap()
}

pub(super) fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

/// A target whose digest is that of `content`.
pub(super) fn target(content: &str) -> Target {
    let hashes = BTreeMap::from([("sha256".to_owned(), Digest::of(content.as_bytes()).hex())]);
    Target { length: 1, hashes, custom: None, extra: BTreeMap::new() }
}

pub(super) fn submitted(documents: &[(&str, Vec<u8>)]) -> Submitted {
    let documents =
        documents.iter().map(|(role, bytes)| ((*role).to_owned(), bytes.clone().into())).collect();
    Submitted { id: submission_id(&documents), documents }
}

/// Adds a delegation without any of the author's checks.
pub(super) fn delegate(targets: &mut Targets, name: &str, scope_text: &str, keys: &[&PrivateKey]) {
    let all = ["**".to_owned(), scope_text.to_owned()];
    let allowed: Vec<String> = all.iter().flat_map(|text| scope(text).patterns()).collect();
    let keys: Vec<_> = keys.iter().map(|key| key.public().clone()).collect();
    author::delegate(targets, ("any", &allowed), name, &scope(scope_text), &keys, 1).unwrap();
}

impl World {
    /// Nothing was submitted yet.
    pub(super) fn empty() -> Self {
        let store = MemoryStore::new();
        let signers = OnlineSigners { timestamp: key(), snapshot: key() };
        let setup = Setup {
            place: Digest::of(b"r.io/acme/trust"),
            store: Arc::new(store.clone()),
            key: TrustKey::whole("acme"),
            keys: Arc::new(Mutex::new(signers.into())),
            freshness: Freshness::default().into(),
            refused_keys: Default::default(),
            quota: Mutex::default(),
            rates: Mutex::new(Rates::new(&Quota::default())),
            parsed: Default::default(),
            walked: Default::default(),
            committed: Default::default(),
            working: Default::default(),
        };
        Self { store, setup, owner: key(), team: key(), now: start() }
    }

    /// Root and targets version 1 are published.
    pub(super) fn new() -> Self {
        let world = Self::empty();
        world.submit(&[("root", world.signed_root()), ("targets", world.first_targets())]).unwrap();
        world
    }

    /// `targets--team` for `acme/app` is published too, empty.
    pub(super) fn with_team() -> Self {
        let world = Self::new();
        let targets = world.next("targets", |t| delegate(t, "targets--team", "acme/app", &[&world.team]));
        world
            .submit(&[("targets", targets), ("targets--team", world.first("targets--team", &world.team))])
            .unwrap();
        world
    }

    /// The online keys that are in use.
    pub(super) fn online(&self) -> OnlineKeys {
        let root = self.setup.newest_root().unwrap();
        self.setup.keys().public(root.as_ref().map(|root| &root.signed))
    }

    pub(super) fn first_root(&self) -> Root {
        author::first_root(
            TRUST,
            &[scope("acme/**")],
            &[self.owner.key().clone()],
            1,
            &self.online(),
            self.now,
        )
    }

    pub(super) fn signed_root(&self) -> Vec<u8> {
        sign(&self.first_root(), &[&self.owner])
    }

    pub(super) fn first_targets(&self) -> Vec<u8> {
        self.first("targets", &self.owner)
    }

    pub(super) fn first(&self, role: &str, key: &PrivateKey) -> Vec<u8> {
        sign(&author::empty_targets(role, TRUST, self.now), &[key])
    }

    pub(super) fn head(&self) -> Head {
        self.store.head(&self.setup.key).unwrap()
    }

    pub(super) fn version(&self, role: &str) -> u64 {
        self.head().roles.get(role).map_or(0, |role| role.version)
    }

    pub(super) fn document(&self, role: &str, version: u64) -> Option<Bytes> {
        self.store.document(&self.setup.key, role, version).unwrap()
    }

    pub(super) fn newest<T: RoleType>(&self, role: &str) -> T {
        let bytes = self.document(role, self.version(role)).unwrap();
        Document::<T>::parse(role, &bytes).unwrap().signed
    }

    pub(super) fn timestamp(&self) -> Timestamp {
        self.newest("timestamp")
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.newest("snapshot")
    }

    /// The next version of `role`, changed.
    pub(super) fn edit(&self, role: &str, change: impl FnOnce(&mut Targets)) -> Targets {
        let mut targets: Targets = self.newest(role);
        author::next_version(role, &mut targets, self.now);
        change(&mut targets);
        targets
    }

    /// The next version of `role`, changed, and signed by the owner for `targets`, else by the team.
    pub(super) fn next(&self, role: &str, change: impl FnOnce(&mut Targets)) -> Vec<u8> {
        sign(&self.edit(role, change), &[if role == "targets" { &self.owner } else { &self.team }])
    }

    /// The next root, changed, signed by the owner.
    pub(super) fn next_root(&self, change: impl FnOnce(&mut Root)) -> Root {
        let mut root: Root = self.newest("root");
        root.common.version += 1;
        root.common.expires = self.now + author::MAX_ROOT_LIFE;
        change(&mut root);
        root
    }

    pub(super) fn round(&self, batch: &[Submitted]) -> Result<Outcome, RoundError> {
        self.setup.round(batch, self.now)
    }

    /// One submission, in a round of its own.
    pub(super) fn submit(&self, documents: &[(&str, Vec<u8>)]) -> Result<SubmissionRecord, Refusal> {
        self.round(&[submitted(documents)]).unwrap().answers.pop().unwrap()
    }

    pub(super) fn tick(&self) -> Outcome {
        self.round(&[]).unwrap()
    }

    pub(super) fn advance(&mut self, by: TimeDelta) {
        self.now += by;
    }

    /// Asserts that the submission is refused with `code` for the reason `why`, and that nothing changed.
    #[track_caller]
    pub(super) fn refuses(&self, documents: &[(&str, Vec<u8>)], code: RefusalCode, why: &str) -> Refusal {
        let before = self.head();
        let refusal = self.submit(documents).expect_err("it must be refused");
        assert_eq!(refusal.code, code, "{}", refusal.message);
        assert!(refusal.message.contains(why), "`{why}` is not in: {}", refusal.message);
        assert!(!refusal.message.contains(char::is_control), "{:?}", refusal.message);
        assert!(refusal.message.len() < 4000, "a message of {} bytes", refusal.message.len());
        assert_eq!(self.head(), before, "a refusal changes nothing");
        refusal
    }
}
