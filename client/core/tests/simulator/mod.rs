//! A TUF repository and a client of it, both in memory, at one fixed time: an attack is a few lines.
//!
//! [`Repository`] holds the role documents as typed structs and their files as bytes; a test edits either. [`Client`]
//! drives [`Trusted`] and [`Search`] in spec order and keeps what a client persists between updates.

// Each test file uses its own part of this, as a module of its own.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod keys;

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Duration, Utc};
use plimsoll_core::{
    oci::Digest,
    tuf::{
        Bounds, DelegatedRole, Delegations, Document, Error, Floor, HighWater, Identity, MAX_ROOT_STEPS,
        MetaFile, Outcome, Revocation, RoleKeys, Root, Search, Snapshot, Step, Target, Targets, Timestamp,
        TimestampUpdate, Trusted,
        metadata::{Common, RoleKeysOnly, RoleType},
    },
};

pub use keys::{Signer, sign, sign_value};

/// The trust id of every simulated repository that does not say otherwise.
pub const TRUST: &str = "00112233445566778899aabbccddeeff";
/// A name that `team` speaks about in [`Repository::with_team`].
pub const NAME: &str = "acme/app:v1";

/// The fixed time of every test.
pub fn now() -> DateTime<Utc> {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

pub fn identity() -> Identity {
    Identity::new(TRUST, now())
}

fn common(role_type: &str) -> Common {
    Common::new(role_type, 1, now() + Duration::days(30), identity())
}

pub fn targets() -> Targets {
    Targets { common: common("targets"), targets: BTreeMap::new(), delegations: None, extra: BTreeMap::new() }
}

pub fn target(content: &str) -> Target {
    let hashes = BTreeMap::from([("sha256".to_owned(), Digest::of(content.as_bytes()).hex())]);
    Target { length: content.len() as u64, hashes, custom: None, extra: BTreeMap::new() }
}

/// The revocation of the digest of `content`.
pub fn revoked(content: &str) -> Revocation {
    Revocation {
        digest: Some(Digest::of(content.as_bytes())),
        paths: Vec::new(),
        reason: "leaked".to_owned(),
        at: now(),
        extra: BTreeMap::new(),
    }
}

/// A publisher, its online keys and the files it serves.
pub struct Repository {
    pub root: Root,
    pub timestamp: Timestamp,
    pub snapshot: Snapshot,
    /// `targets` and the delegated roles.
    pub roles: BTreeMap<String, Targets>,
    /// Who signs each role from now on.
    pub signers: BTreeMap<String, Vec<Signer>>,
    /// What a client can fetch: `timestamp.json`, everything else as `VERSION.ROLE.json`.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Repository {
    /// Version 1 of the four top-level roles, one Ed25519 key each, nothing in `targets`.
    pub fn new() -> Self {
        let mut root = Root {
            common: Common { expires: now() + Duration::days(365), ..common("root") },
            consistent_snapshot: true,
            keys: BTreeMap::new(),
            roles: BTreeMap::new(),
            extra: BTreeMap::new(),
        };
        let mut signers = BTreeMap::new();
        for (seed, role) in (1..).zip(["root", "timestamp", "snapshot", "targets"]) {
            grant(&mut root, role, &[Signer::ed25519(seed)], 1);
            signers.insert(role.to_owned(), vec![Signer::ed25519(seed)]);
        }
        let mut repository = Self {
            root,
            timestamp: Timestamp {
                common: common("timestamp"),
                meta: BTreeMap::new(),
                extra: BTreeMap::new(),
            },
            snapshot: Snapshot { common: common("snapshot"), meta: BTreeMap::new(), extra: BTreeMap::new() },
            roles: BTreeMap::from([("targets".to_owned(), targets())]),
            signers,
            files: BTreeMap::new(),
        };
        repository.timestamp.common.version = 0;
        repository.snapshot.common.version = 0;
        repository.put_root(&repository.signers["root"].clone());
        repository.put("targets");
        repository.publish();
        repository
    }

    /// [`Repository::new`] with `acme/app` delegated to `team`, which lists [`NAME`].
    pub fn with_team() -> Self {
        let mut repository = Self::new();
        repository.delegate("targets", "team", &Signer::ed25519(50), &["acme/app:*", "acme/app@*"]);
        repository.list("team", NAME, "image");
        repository.publish();
        repository
    }

    /// The next version of `role`, changed by `edit` and signed by its signers. Not yet in a snapshot.
    pub fn edit(&mut self, role: &str, edit: impl FnOnce(&mut Targets)) {
        let document = self.roles.get_mut(role).unwrap();
        document.common.version += 1;
        edit(document);
        self.put(role);
    }

    pub fn list(&mut self, role: &str, name: &str, content: &str) {
        self.edit(role, |targets| drop(targets.targets.insert(name.to_owned(), target(content))));
    }

    pub fn revoke(&mut self, role: &str, revocation: Revocation) {
        self.edit(role, |targets| targets.common.identity.as_mut().unwrap().revocations.push(revocation));
    }

    /// Appends a non-terminating delegation and, if there is no such role yet, publishes an empty first version.
    pub fn delegate(&mut self, parent: &str, name: &str, signer: &Signer, paths: &[&str]) {
        let keys = RoleKeysOnly { keyids: vec![signer.id.clone()], threshold: 1 };
        self.edit(parent, |targets| {
            let delegations = delegations(targets);
            delegations.keys.insert(signer.id.clone(), signer.key.clone());
            delegations.roles.push(DelegatedRole {
                name: name.to_owned(),
                keys,
                terminating: false,
                paths: Some(paths.iter().map(|&path| path.to_owned()).collect()),
                path_hash_prefixes: None,
                extra: BTreeMap::new(),
            });
        });
        if !self.roles.contains_key(name) {
            self.add_role(name, signer);
        }
    }

    /// An empty first version of `role`, which nobody need delegate to.
    pub fn add_role(&mut self, role: &str, signer: &Signer) {
        self.signers.insert(role.to_owned(), vec![signer.clone()]);
        self.roles.insert(role.to_owned(), targets());
        self.put(role);
    }

    /// The delegation of `parent` to `name`, to be changed inside [`Repository::edit`].
    pub fn edit_delegation(&mut self, parent: &str, name: &str, edit: impl FnOnce(&mut DelegatedRole)) {
        self.edit(parent, |targets| {
            edit(delegations(targets).roles.iter_mut().find(|role| role.name == name).unwrap());
        });
    }

    /// The next root, signed by the signers before and after the change.
    pub fn next_root(&mut self, edit: impl FnOnce(&mut Root, &mut BTreeMap<String, Vec<Signer>>)) {
        let mut signers = self.signers["root"].clone();
        self.root.common.version += 1;
        edit(&mut self.root, &mut self.signers);
        for signer in &self.signers["root"] {
            if !signers.iter().any(|s| s.id == signer.id) {
                signers.push(signer.clone());
            }
        }
        self.put_root(&signers);
    }

    /// The next root gives `role` the one key `signer`.
    pub fn rotate(&mut self, role: &str, signer: &Signer) {
        self.next_root(|root, signers| {
            grant(root, role, std::slice::from_ref(signer), 1);
            signers.insert(role.to_owned(), vec![signer.clone()]);
        });
    }

    /// The next snapshot and timestamp.
    pub fn publish(&mut self) {
        self.publish_snapshot(|_| ());
    }

    /// The next snapshot, changed by `edit` after it took in the roles, and the next timestamp.
    pub fn publish_snapshot(&mut self, edit: impl FnOnce(&mut Snapshot)) {
        self.snapshot.common.version += 1;
        for (role, document) in &self.roles {
            let version = document.common.version;
            let meta = MetaFile::of(version, &self.files[&format!("{version}.{role}.json")]);
            self.snapshot.meta.insert(format!("{role}.json"), meta);
        }
        edit(&mut self.snapshot);
        let bytes = sign(&self.snapshot, &self.signers["snapshot"]);
        self.files.insert(format!("{}.snapshot.json", self.snapshot.common.version), bytes);
        self.publish_timestamp(|_| ());
    }

    /// The next timestamp, changed by `edit`.
    pub fn publish_timestamp(&mut self, edit: impl FnOnce(&mut Timestamp)) {
        self.timestamp.common.version += 1;
        let version = self.snapshot.common.version;
        let meta = MetaFile::of(version, &self.files[&format!("{version}.snapshot.json")]);
        self.timestamp.meta.insert("snapshot.json".to_owned(), meta);
        edit(&mut self.timestamp);
        self.put_timestamp();
    }

    pub fn put_timestamp(&mut self) {
        self.files.insert("timestamp.json".to_owned(), sign(&self.timestamp, &self.signers["timestamp"]));
    }

    /// Signs `role` as it stands.
    pub fn put(&mut self, role: &str) {
        let document = &self.roles[role];
        let bytes = sign(document, &self.signers[role]);
        self.files.insert(format!("{}.{role}.json", document.common.version), bytes);
    }

    /// Signs the root as it stands by `signers`.
    pub fn put_root(&mut self, signers: &[Signer]) {
        let bytes = sign(&self.root, signers);
        self.files.insert(format!("{}.root.json", self.root.common.version), bytes);
    }

    /// The name of the current file of `role`.
    pub fn file(&self, role: &str) -> String {
        match role {
            "timestamp" => "timestamp.json".to_owned(),
            "snapshot" => format!("{}.snapshot.json", self.snapshot.common.version),
            "root" => format!("{}.root.json", self.root.common.version),
            _ => format!("{}.{role}.json", self.roles[role].common.version),
        }
    }

    pub fn bytes(&self, role: &str) -> &[u8] {
        &self.files[&self.file(role)]
    }
}

/// Gives `role` exactly these keys. Keys that no role uses any more stay listed, which does no harm.
pub fn grant(root: &mut Root, role: &str, signers: &[Signer], threshold: u64) {
    for signer in signers {
        root.keys.insert(signer.id.clone(), signer.key.clone());
    }
    let keyids = signers.iter().map(|signer| signer.id.clone()).collect();
    root.roles.insert(role.to_owned(), RoleKeys { keyids, threshold, extra: BTreeMap::new() });
}

/// The delegations of `targets`, made if it has none.
pub fn delegations(targets: &mut Targets) -> &mut Delegations {
    targets.delegations.get_or_insert_with(|| Delegations {
        keys: BTreeMap::new(),
        roles: Vec::new(),
        succinct_roles: None,
        extra: BTreeMap::new(),
    })
}

/// Why an update failed.
#[derive(Debug)]
pub enum Failure {
    /// A document was refused.
    Refused(Error),
    /// A file that is wanted is not there.
    Missing(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// What a client persists, and what it asked for.
#[derive(Clone)]
pub struct Client {
    pub root: Vec<u8>,
    pub timestamp: Option<Vec<u8>>,
    /// The snapshot, which is part of the memory.
    pub snapshot: Option<Vec<u8>>,
    pub memory: HighWater,
    pub now: DateTime<Utc>,
    /// What it is held to besides.
    pub bounds: Bounds,
    /// Files asked for in the last update, in order.
    pub requests: Vec<String>,
    /// What the last timestamp brought.
    pub brought: Option<TimestampUpdate>,
}

impl Client {
    /// A client that pins the first root.
    pub fn new(repository: &Repository) -> Self {
        Self {
            root: repository.files["1.root.json"].clone(),
            timestamp: None,
            snapshot: None,
            memory: HighWater::default(),
            now: now(),
            bounds: Bounds::default(),
            requests: Vec::new(),
            brought: None,
        }
    }

    /// One whole update and a search for `name`.
    pub fn update(&mut self, repository: &Repository, name: &str) -> Result<Outcome, Failure> {
        let mut trusted = self.refresh(repository)?;
        self.search(repository, &mut trusted, name)
    }

    /// Root chain, timestamp, snapshot; each is kept as soon as it verifies.
    pub fn refresh(&mut self, repository: &Repository) -> Result<Trusted, Failure> {
        self.requests.clear();
        self.brought = None;
        let (memory, timestamp) = (self.memory.clone(), self.timestamp.as_deref());
        let mut trusted = Trusted::resume(&self.root, memory, timestamp, self.now)?
            .bounded(Arc::new(self.bounds.clone()))?;
        for _ in 0..MAX_ROOT_STEPS {
            let file = format!("{}.root.json", trusted.root().version() + 1);
            let Ok(bytes) = self.fetch(repository, &file) else { break };
            self.read_snapshot(&mut trusted)?;
            trusted.update_root(&bytes)?;
            self.root = bytes;
            self.keep(&trusted);
        }
        if trusted.is_behind() {
            self.read_snapshot(&mut trusted)?;
        }
        trusted.finish_root()?;

        let bytes = self.fetch(repository, "timestamp.json")?;
        self.brought = Some(trusted.update_timestamp(&bytes)?);
        self.keep(&trusted);

        if !trusted.keep_snapshot()? {
            self.read_snapshot(&mut trusted)?;
            let bytes = match trusted.held_snapshot().filter(|_| trusted.held_snapshot_fits()) {
                Some(held) => held.to_vec(),
                None => {
                    let version = trusted.wanted_snapshot().unwrap().version;
                    self.fetch(repository, &format!("{version}.snapshot.json"))?
                }
            };
            trusted.update_snapshot(&bytes)?;
            self.keep(&trusted);
        }
        self.read_snapshot(&mut trusted)?;
        Ok(trusted)
    }

    /// The lazy walk for `name`.
    pub fn search(
        &mut self,
        repository: &Repository,
        trusted: &mut Trusted,
        name: &str,
    ) -> Result<Outcome, Failure> {
        let mut search = Search::new(name);
        loop {
            match search.step(trusted)? {
                Step::Done(outcome) => return Ok(outcome),
                Step::Load { role, delegator, meta } => {
                    let bytes = self.fetch(repository, &format!("{}.{role}.json", meta.version))?;
                    trusted.update_targets(&role, &delegator, &bytes)?;
                }
            }
        }
    }

    /// The version of `role` that is remembered.
    pub fn seen(&self, role: &str) -> u64 {
        let snapshot = parsed::<Snapshot>("snapshot", self.snapshot.as_ref().unwrap());
        snapshot.signed.role(role).unwrap().version
    }

    /// The floor of what it has seen, every role that the snapshot lists in it.
    pub fn floor(&self) -> Floor {
        let root = parsed::<Root>("root", &self.root);
        let snapshot = parsed::<Snapshot>("snapshot", self.snapshot.as_ref().unwrap());
        let names = snapshot.signed.meta.iter();
        let roles = names.map(|(file, meta)| (file.replace(".json", ""), meta.mark())).collect();
        Floor::of(&self.root, &self.memory, &root, &snapshot, roles, self.now).unwrap()
    }

    fn read_snapshot(&self, trusted: &mut Trusted) -> Result<(), Error> {
        if trusted.needs_snapshot() {
            trusted.hold_snapshot(self.snapshot.as_ref().unwrap())?;
        }
        Ok(())
    }

    /// The digest that `name` stands for; panics with the reason if there is none.
    pub fn finds(&mut self, repository: &Repository, name: &str) -> Digest {
        match self.update(repository, name) {
            Ok(Outcome::Found(found)) => found.target.digest().unwrap(),
            other => panic!("{name} was not found: {other:?}"),
        }
    }

    /// The error of an update that must be refused without a trace in what the client persists.
    pub fn refuses(&mut self, repository: &Repository) -> Error {
        let before = self.clone();
        let error = self.refusal(repository, NAME);
        assert_eq!(self.memory, before.memory, "a refusal changed the memory: {error}");
        assert!(
            self.root == before.root
                && self.timestamp == before.timestamp
                && self.snapshot == before.snapshot
        );
        error
    }

    /// The error of an update that must be refused.
    pub fn refusal(&mut self, repository: &Repository, name: &str) -> Error {
        match self.update(repository, name) {
            Err(Failure::Refused(error)) => error,
            other => panic!("not refused: {other:?}"),
        }
    }

    fn fetch(&mut self, repository: &Repository, file: &str) -> Result<Vec<u8>, Failure> {
        self.requests.push(file.to_owned());
        repository.files.get(file).cloned().ok_or_else(|| Failure::Missing(file.to_owned()))
    }

    /// Persists what `trusted` holds now.
    fn keep(&mut self, trusted: &Trusted) {
        self.memory = trusted.memory().clone();
        self.timestamp = trusted.held_timestamp().map(<[u8]>::to_vec);
        if !trusted.needs_snapshot() {
            self.snapshot = trusted.held_snapshot().map(<[u8]>::to_vec);
        }
    }
}

/// The document of `bytes` with its `signed` changed as plain JSON and signed again.
pub fn forge(bytes: &[u8], signers: &[Signer], edit: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let mut document: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    edit(&mut document["signed"]);
    sign_value(&document["signed"], signers)
}

/// `bytes` parsed, for a look at its fields.
pub fn parsed<T: RoleType>(role: &str, bytes: &[u8]) -> Document<T> {
    Document::parse(role, bytes).unwrap()
}
