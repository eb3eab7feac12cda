//! Taking over a trust repository whose newest state is elsewhere: in the registry, or in an export.
//!
//! [`View`] verifies what one source has, with the client's own code; [`merge`] says what a store holds once it has taken
//! that in. Both are pure but for reading a store. [`registry`] fetches.

pub mod registry;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::{Digest, RepositoryAddress},
    tuf::{self, Document, KeyId, MetaFile, Root, Snapshot, Targets, Trusted},
};

use crate::store::{Head, Published, RoleHead, Store, StoreError, TrustKey};

/// Why nothing was taken over. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeOverError {
    /// It does not verify.
    #[error("what is in {place} does not verify")]
    Untrusted {
        /// Where.
        place: String,
        /// Why.
        source: tuf::Error,
    },
    /// It names a document that is not there.
    #[error("{place} names version {version} of {role} and does not have it")]
    Missing {
        /// Where.
        place: String,
        /// The role.
        role: String,
        /// The version.
        version: u64,
    },
    /// A root without a trust id, or a snapshot without hashes: not of this program's making.
    #[error("what is in {place} was not made by plimsolld: {what}")]
    NotOurs {
        /// Where.
        place: String,
        /// What is missing.
        what: &'static str,
    },
    /// Nothing says that this is the owners' root.
    #[error(
        "nothing says that the root in {place} is the owners': its first version is {first}, with the root keys {}; ask \
         them, or look at what clients pin, and run this again with `--root {first}`",
        keys.iter().map(KeyId::short).collect::<Vec<_>>().join(", ")
    )]
    Anchor {
        /// Where.
        place: String,
        /// Digest of the first root.
        first: Digest,
        /// Its root keys.
        keys: Vec<KeyId>,
    },
    /// The root that was named is not in the chain.
    #[error("{place} has another chain of roots: none of them is {pinned}")]
    OtherRoot {
        /// Where.
        place: String,
        /// What was named.
        pinned: Digest,
    },
    /// Another trust repository.
    #[error("{place} holds trust repository {found}, not {expected}")]
    OtherTrust {
        /// Where.
        place: String,
        /// The trust id there.
        found: String,
        /// The trust id here.
        expected: String,
    },
    /// One version with two contents, both signed with our keys.
    #[error(
        "version {version} of {role} in {place} has other content than ours: a second daemon signs with these keys; stop \
         it, or, if it is not yours, have the keys replaced (docs/operations.md, A second signer)"
    )]
    Twin {
        /// Where.
        place: String,
        /// The role.
        role: String,
        /// The version.
        version: u64,
    },
    /// It is newer by its timestamp, and lacks a role version that we have.
    #[error(
        "{place} shows version {shown} of {role} under a newer timestamp, but version {held} was accepted here: a second \
         daemon signs with these keys; stop it, or, if it is not yours, have the keys replaced (docs/operations.md, A second \
         signer)"
    )]
    Lost {
        /// Where.
        place: String,
        /// The role.
        role: String,
        /// What it shows.
        shown: u64,
        /// What we have.
        held: u64,
    },
    /// The store, or what stands for it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The newest documents of one source, verified by the client's own code.
///
/// Expiry is not judged: whoever takes over renews what the daemon signs, and the rest is the publishers' to renew.
#[derive(Debug, Clone)]
pub struct View {
    place: String,
    trusted: Trusted,
    roots: BTreeMap<u64, Bytes>,
    timestamp: Bytes,
    snapshot: Bytes,
    roles: BTreeMap<String, (u64, Bytes)>,
    /// Why a role does not verify by its parent's keys. It counts as what it is, as the snapshot names it.
    faults: BTreeMap<String, String>,
}

impl View {
    /// Verifies the chain of `roots`, `timestamp` under the newest of them, and `snapshot`. `place` is for messages.
    ///
    /// # Errors
    /// [`TakeOverError::Untrusted`], [`TakeOverError::NotOurs`].
    pub fn begin(
        place: &str,
        roots: BTreeMap<u64, Bytes>,
        timestamp: Bytes,
        snapshot: Bytes,
    ) -> Result<Self, TakeOverError> {
        let untrusted = |source| TakeOverError::Untrusted { place: place.to_owned(), source };
        let not_ours = |what| TakeOverError::NotOurs { place: place.to_owned(), what };
        let (_, first) = roots.first_key_value().ok_or_else(|| not_ours("it has no root"))?;
        // At a time at which nothing had expired yet.
        let mut trusted = Trusted::new(first, DateTime::UNIX_EPOCH).map_err(untrusted)?;
        for root in roots.values().skip(1) {
            trusted.update_root(root).map_err(untrusted)?;
        }
        trusted.finish_root().map_err(untrusted)?;
        trusted.update_timestamp(&timestamp).map_err(untrusted)?;
        trusted.update_snapshot(&snapshot).map_err(untrusted)?;
        if trusted.trust_id().is_none() {
            return Err(not_ours("its root has no trust id"));
        }
        let (roles, faults) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { place: place.to_owned(), trusted, roots, timestamp, snapshot, roles, faults })
    }

    /// What `store` says is newest.
    ///
    /// # Errors
    /// [`TakeOverError`].
    pub fn of_store(place: &str, store: &dyn Store, trust: &TrustKey) -> Result<Self, TakeOverError> {
        let head = store.head(trust)?;
        let newest = |role: &str| head.roles.get(role).map_or(0, |role| role.version);
        let read = |role: &str, version| -> Result<Bytes, TakeOverError> {
            let missing =
                || TakeOverError::Missing { place: place.to_owned(), role: role.to_owned(), version };
            store.document(trust, role, version)?.ok_or_else(missing)
        };
        let roots = (1..=newest("root")).map(|version| Ok((version, read("root", version)?)));
        let roots = roots.collect::<Result<_, TakeOverError>>()?;
        let (timestamp, snapshot) =
            (read("timestamp", newest("timestamp"))?, read("snapshot", newest("snapshot"))?);
        let mut view = Self::begin(place, roots, timestamp, snapshot)?;
        for (role, meta) in view.wanted()? {
            let bytes = read(&role, meta.version)?;
            view.take(&role, bytes)?;
        }
        Ok(view)
    }

    /// The roles that the snapshot lists, parents first, each with its sha256.
    ///
    /// # Errors
    /// [`TakeOverError::NotOurs`].
    pub fn wanted(&self) -> Result<Vec<(String, MetaFile)>, TakeOverError> {
        let mut wanted = Vec::new();
        for (file, meta) in &self.snapshot().meta {
            let Some(role) = file.strip_suffix(".json") else { continue };
            if meta.digest().is_none() {
                let what = "its snapshot names a document without its sha256";
                return Err(TakeOverError::NotOurs { place: self.place.clone(), what });
            }
            wanted.push((role.to_owned(), meta.clone()));
        }
        wanted.sort_by_key(|(role, _)| (role != "targets", role.matches("--").count()));
        Ok(wanted)
    }

    /// Takes a role, after its parents: the document that the snapshot names.
    ///
    /// # Errors
    /// [`TakeOverError::Untrusted`] if it is not that, or if it is `targets` and its keys do not vouch for it. A role
    /// below it counts as it is: the snapshot names it, so it was accepted once, and what it may say is for clients to see.
    pub fn take(&mut self, role: &str, bytes: Bytes) -> Result<(), TakeOverError> {
        let untrusted = |place: &str, source| TakeOverError::Untrusted { place: place.to_owned(), source };
        let delegator = role.rsplit_once("--").map_or("root", |(parent, _)| parent);
        let version = self.trusted.wanted_role(role).map_err(|e| untrusted(&self.place, e))?.version;
        if let Err(error) = self.trusted.update_targets(role, delegator, &bytes) {
            let named = matches!(error, tuf::Error::NotDelegated { .. } | tuf::Error::Threshold { .. });
            if role == "targets" || !named {
                return Err(untrusted(&self.place, error));
            }
            self.faults.insert(role.to_owned(), error.to_string());
        }
        self.roles.insert(role.to_owned(), (version, bytes));
        Ok(())
    }

    /// Where it is.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Its trust id.
    pub fn trust_id(&self) -> &str {
        self.trusted.trust_id().unwrap_or_default()
    }

    /// Its newest root.
    pub fn root(&self) -> &Root {
        &self.trusted.root().signed
    }

    /// Its newest snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        let snapshot = self.trusted.snapshot().expect("it was verified in `begin`");
        &snapshot.signed
    }

    /// Version of its timestamp.
    pub fn timestamp_version(&self) -> u64 {
        self.trusted.timestamp().map_or(0, |timestamp| timestamp.version())
    }

    /// Its roots, by version.
    pub fn roots(&self) -> &BTreeMap<u64, Bytes> {
        &self.roots
    }

    /// What does not verify by its parent's keys, though the snapshot names it.
    pub fn faults(&self) -> impl Iterator<Item = String> {
        let retired = self.retired();
        let faults = self.faults.iter().filter(move |(role, _)| !retired.contains(*role));
        faults.map(|(_, fault)| fault.clone()).collect::<Vec<_>>().into_iter()
    }

    /// Roles that the snapshot lists and nobody delegates to any more.
    pub fn retired(&self) -> BTreeSet<String> {
        let retired = |role: &&String| {
            let parent = role.rsplit_once("--").and_then(|(parent, _)| self.roles.get(parent));
            let parent = parent.and_then(|(_, bytes)| Document::<Targets>::parse(role, bytes).ok());
            parent.is_some_and(|parent| parent.signed.delegated(role).is_none())
        };
        self.roles.keys().filter(retired).cloned().collect()
    }

    /// When what expires, by role: every role that is in use.
    pub fn expiries(&self) -> BTreeMap<String, DateTime<Utc>> {
        let top = [
            ("root", self.root().common.expires),
            ("snapshot", self.snapshot().common.expires),
            ("timestamp", self.trusted.timestamp().map_or(DateTime::UNIX_EPOCH, |t| t.signed.common.expires)),
        ];
        let retired = self.retired();
        let roles = self.roles.iter().filter(|(role, _)| !retired.contains(*role));
        let roles = roles.filter_map(|(role, (_, bytes))| {
            Some((role.clone(), Document::<Targets>::parse(role, bytes).ok()?.signed.common.expires))
        });
        top.into_iter().map(|(role, expires)| (role.to_owned(), expires)).chain(roles).collect()
    }

    /// Refuses a chain of roots without the one that has the digest `pinned`.
    ///
    /// # Errors
    /// [`TakeOverError::OtherRoot`]; without `pinned`, [`TakeOverError::Anchor`].
    pub fn check_anchor(&self, pinned: Option<Digest>) -> Result<(), TakeOverError> {
        let place = self.place.clone();
        match pinned {
            Some(pinned) if self.roots.values().any(|root| Digest::of(root) == pinned) => Ok(()),
            Some(pinned) => Err(TakeOverError::OtherRoot { place, pinned }),
            None => {
                let first = self.roots.values().next().map(|root| Digest::of(root));
                let first = first.expect("a view has a root");
                let keys = self.root().roles["root"].keyids.clone();
                Err(TakeOverError::Anchor { place, first, keys })
            }
        }
    }

    /// Every document: role, version, bytes.
    pub fn documents(&self) -> Vec<(String, u64, Bytes)> {
        let root = |(version, bytes): (&u64, &Bytes)| ("root".to_owned(), *version, bytes.clone());
        let role =
            |(role, (version, bytes)): (&String, &(u64, Bytes))| (role.clone(), *version, bytes.clone());
        let online = [
            ("snapshot".to_owned(), self.snapshot().common.version, self.snapshot.clone()),
            ("timestamp".to_owned(), self.timestamp_version(), self.timestamp.clone()),
        ];
        self.roots.iter().map(root).chain(self.roles.iter().map(role)).chain(online).collect()
    }

    /// Its newest online documents and root.
    pub(crate) fn newest(&self) -> crate::pipeline::ahead::Newest {
        crate::pipeline::ahead::Newest {
            root: self.roots.values().next_back().cloned().expect("a view has a root"),
            timestamp: self.timestamp.clone(),
            snapshot: self.snapshot.clone(),
        }
    }
}

/// What a trust repository is in the registry.
#[derive(Debug, Clone)]
pub struct Shown {
    /// What `:latest` leads to.
    pub view: View,
    /// Digest of the manifest at `:latest`.
    pub manifest: Digest,
    /// Older documents that the registry still has: role, version, bytes.
    pub older: Vec<(String, u64, Bytes)>,
}

/// What a store holds once it has taken over what was found.
#[derive(Debug)]
pub struct Merged {
    /// The new head; its sequence is the old one's.
    pub head: Head,
    /// What the store does not have yet.
    pub documents: Vec<(String, u64, Bytes)>,
    /// The newest state: the registry's, or the store's own.
    pub newest: View,
    /// True if that is the registry's.
    pub from_registry: bool,
}

/// What `store` (an export read into memory, or a store that is behind) becomes once it has taken over what the registry
/// shows. None if there is nothing in either.
///
/// # Errors
/// [`TakeOverError::Twin`] and [`TakeOverError::Lost`] if somebody else signed with the same keys,
/// [`TakeOverError::OtherTrust`], and what [`View`] refuses.
pub fn merge(
    store: &dyn Store,
    trust: &TrustKey,
    held: &str,
    shown: Option<Shown>,
    now: DateTime<Utc>,
) -> Result<Option<Merged>, TakeOverError> {
    let head = store.head(trust)?;
    let ours = if head.sequence > 0 { Some(View::of_store(held, store, trust)?) } else { None };
    let Some(Shown { view, manifest, older }) = shown else {
        return Ok(ours.map(|newest| Merged { head, documents: vec![], newest, from_registry: false }));
    };
    let mut documents = Vec::new();
    if let Some(ours) = &ours {
        let (found, expected) = (view.trust_id().to_owned(), ours.trust_id().to_owned());
        if found != expected {
            return Err(TakeOverError::OtherTrust { place: view.place, found, expected });
        }
    }
    for (role, version, bytes) in view.documents().into_iter().chain(older) {
        match store.document(trust, &role, version)? {
            None => documents.push((role, version, bytes)),
            Some(same) if same == bytes => {}
            Some(_) => return Err(TakeOverError::Twin { place: view.place, role, version }),
        }
    }
    let shown = view.timestamp_version();
    let known = documents.iter().all(|(role, ..)| role != "timestamp");
    let published = Some(Published { timestamp_version: shown, manifest, at: now, repository: None });
    match ours {
        Some(ours) if ours.timestamp_version() >= shown => {
            // Older content of ours; or of ours too, but signed before this store was rebuilt.
            if !known && head.taken_over.is_none_or(|taken| shown > taken) {
                return Err(TakeOverError::Twin {
                    place: view.place,
                    role: "timestamp".to_owned(),
                    version: shown,
                });
            }
            let head = Head { published: if known { published } else { head.published }, ..head };
            Ok(Some(Merged { head, documents: vec![], newest: ours, from_registry: false }))
        }
        ours => {
            for (role, held) in ours.iter().flat_map(|_| &head.roles) {
                let shown = documents_version(&view, role);
                if shown < held.version {
                    let (place, role, held) = (view.place, role.clone(), held.version);
                    return Err(TakeOverError::Lost { place, role, shown, held });
                }
            }
            let mut head = Head { published, taken_over: Some(shown), ..head };
            for (role, version, bytes) in view.documents() {
                let entry = RoleHead { version, digest: Digest::of(&bytes), length: bytes.len() as u64 };
                // Roots come in order, so the newest stays.
                head.roles.insert(role, entry);
            }
            head.retired.extend(view.retired());
            Ok(Some(Merged { head, documents, newest: view, from_registry: true }))
        }
    }
}

fn documents_version(view: &View, role: &str) -> u64 {
    match role {
        "root" => view.root().common.version,
        "timestamp" => view.timestamp_version(),
        "snapshot" => view.snapshot().common.version,
        role => view.roles.get(role).map_or(0, |(version, _)| *version),
    }
}

/// How a place in a registry is called in messages.
pub fn place(repository: &RepositoryAddress) -> String {
    format!("{repository}:latest")
}
