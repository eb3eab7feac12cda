//! commit, second half: into the registry. Blobs, role manifests, `:latest` last, read back, record.
//!
//! What each step leaves behind if the next one fails: blobs and role manifests that nobody refers to yet, and the old
//! `:latest`, which is whole. Everything is in the store before the first byte is sent, so the next try, in this process
//! or after a restart, does the same again.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use plimsoll::{
    keys::Signer,
    registry::{Known, ManifestAnswer, Registry, RegistryError},
};
use plimsoll_core::{
    oci::{
        RepositoryAddress,
        mapping::{self, Artifact, LATEST, Listing, MAX_MANIFEST, Profile, RepositoryFiles, SNAPSHOTS},
        media_type,
    },
    tuf::{Document, Key, Snapshot, Timestamp, distinct_signers, limit},
};

use crate::store::{Head, Published, Store, StoreError, TrustKey};

/// The registry side of one trust repository.
pub(super) struct Push {
    pub(super) registry: Registry,
    pub(super) repository: RepositoryAddress,
    pub(super) profile: Profile,
    pub(super) store: Arc<dyn Store>,
    pub(super) key: TrustKey,
    /// Our timestamp key: by it we know our own hand.
    pub(super) timestamp_key: Key,
    /// What we last saw at `:latest`.
    seen: Option<Known>,
    /// Which version of each delegated role the registry has, as far as we know.
    pushed: BTreeMap<String, u64>,
}

/// What the registry shows at `:latest`, compared with our store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing.
    Empty,
    /// What we last published.
    Current,
    /// Something older of ours, or of nobody's: ours goes over it.
    Behind,
    /// A trust repository or image that is not ours.
    Foreign,
    /// Signed by our key and newer than our store: the store is an old copy.
    Ahead {
        /// The version shown.
        version: u64,
    },
    /// Signed by our key, of a version of ours, with other content: somebody else signs with our key.
    Twin {
        /// The version shown.
        version: u64,
    },
}

/// Why a push did not succeed. Nothing is lost: it is tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The registry took `:latest` and shows another one.
    #[error("{repository}:latest is not what was just written there: somebody else writes to it")]
    NotReadBack {
        /// The trust repository.
        repository: RepositoryAddress,
    },
    /// A document that the head names is not in the store.
    #[error("the store has no {role} version {version}, which its head names")]
    Missing {
        /// The role.
        role: String,
        /// The version.
        version: u64,
    },
    /// A stored document cannot be read.
    #[error("a stored document cannot be read")]
    Document(#[from] plimsoll_core::tuf::Error),
}

impl Push {
    pub(super) fn new(
        registry: Registry,
        repository: RepositoryAddress,
        profile: Profile,
        store: Arc<dyn Store>,
        key: TrustKey,
        timestamp: &dyn Signer,
    ) -> Self {
        let timestamp_key = timestamp.key().clone();
        Self { registry, repository, profile, store, key, timestamp_key, seen: None, pushed: BTreeMap::new() }
    }

    /// Reads `:latest` and compares it with the store. One request when nothing changed since the last look.
    pub(super) async fn look(&mut self) -> Result<Standing, PushError> {
        let head = self.store.head(&self.key)?;
        let answer =
            self.registry.manifest(&self.repository, LATEST, MAX_MANIFEST as u64, self.seen.as_ref()).await?;
        let manifest = match answer {
            ManifestAnswer::NotModified => return Ok(Standing::Current),
            ManifestAnswer::NotFound => {
                self.forget();
                return Ok(Standing::Empty);
            }
            ManifestAnswer::Found(manifest) => manifest,
        };
        let known = Known { etag: manifest.etag, digest: manifest.digest };
        if head.published.as_ref().is_some_and(|published| published.manifest == known.digest) {
            if self.pushed.is_empty() {
                self.pushed = self.published_roles(&head)?;
            }
            self.seen = Some(known);
            return Ok(Standing::Current);
        }
        // Not what we wrote last: whatever we knew of role manifests may be gone with it.
        self.forget();
        let Ok(listing) = Listing::parse(&manifest.bytes) else { return Ok(Standing::Foreign) };
        let shown = match listing.timestamp() {
            Some(listed) => match &listed.data {
                Some(data) => Some(Bytes::copy_from_slice(data)),
                None if listed.size > limit::TIMESTAMP => None,
                None => self.registry.blob(&self.repository, &listed.digest, listed.size, true).await?,
            },
            None => None,
        };
        Ok(self.compare(shown.as_deref(), &head))
    }

    fn forget(&mut self) {
        self.seen = None;
        self.pushed.clear();
    }

    fn compare(&self, shown: Option<&[u8]>, head: &Head) -> Standing {
        let document = shown.and_then(|bytes| Document::<Timestamp>::parse("timestamp", bytes).ok());
        let Some(document) = document else { return Standing::Foreign };
        let id = self.timestamp_key.id();
        let keys = BTreeMap::from([(id.clone(), self.timestamp_key.clone())]);
        if distinct_signers(&document, &keys, &[id]).is_empty() {
            return Standing::Foreign;
        }
        let version = document.version();
        match self.store.document(&self.key, "timestamp", version) {
            Ok(Some(ours)) if ours == document.bytes => Standing::Behind,
            Ok(Some(_)) => Standing::Twin { version },
            _ if version > head.roles.get("timestamp").map_or(0, |role| role.version) => {
                Standing::Ahead { version }
            }
            _ => Standing::Twin { version },
        }
    }

    /// The versions of delegated roles that the last published snapshot names.
    fn published_roles(&self, head: &Head) -> Result<BTreeMap<String, u64>, PushError> {
        let Some(published) = &head.published else { return Ok(BTreeMap::new()) };
        let timestamp = self.document("timestamp", published.timestamp_version)?;
        let timestamp = Document::<Timestamp>::parse("timestamp", &timestamp)?;
        let snapshot = self.document("snapshot", timestamp.signed.snapshot().version)?;
        let snapshot = Document::<Snapshot>::parse("snapshot", &snapshot)?;
        let delegated = snapshot.signed.meta.iter().filter_map(|(file, meta)| {
            let role = file.strip_suffix(".json").filter(|role| *role != "targets")?;
            Some((role.to_owned(), meta.version))
        });
        Ok(delegated.collect())
    }

    /// Puts the head of the store into the registry and records that.
    pub(super) async fn push(&mut self, now: DateTime<Utc>) -> Result<Published, PushError> {
        let head = self.store.head(&self.key)?;
        // Role manifests first: who reads the new `:latest` finds everything it leads to.
        for (role, version) in delegated(&head) {
            if self.pushed.get(role) == Some(&version) {
                continue;
            }
            let current = self.document(role, version)?;
            let previous = match self.store.versions(&self.key, role)?.into_iter().rfind(|v| *v < version) {
                Some(previous) => Some((previous, self.document(role, previous)?)),
                None => None,
            };
            let previous = previous.as_ref().map(|(version, bytes)| (*version, bytes.as_ref()));
            let artifact = mapping::role(role, (version, &current), previous, self.profile);
            self.put(&artifact).await?;
            self.pushed.insert(role.to_owned(), version);
        }
        let (artifact, timestamp_version) = self.entry_point(&head)?;
        self.put(&artifact).await?;
        // Registries have no compare-and-swap: read back what is there now.
        let known = Known { etag: None, digest: artifact.digest };
        let answer =
            self.registry.manifest(&self.repository, LATEST, MAX_MANIFEST as u64, Some(&known)).await?;
        if answer != ManifestAnswer::NotModified {
            self.forget();
            return Err(PushError::NotReadBack { repository: self.repository.clone() });
        }
        let published = Published { timestamp_version, manifest: artifact.digest, at: now };
        self.store.record_published(&self.key, &published)?;
        self.seen = Some(known);
        Ok(published)
    }

    async fn put(&self, artifact: &Artifact) -> Result<(), PushError> {
        // One after the other: some registries refuse concurrent links of the same blob.
        for (_, bytes) in &artifact.blobs {
            self.registry.put_blob(&self.repository, bytes.clone().into()).await?;
        }
        let bytes = Bytes::from(artifact.manifest.clone());
        self.registry.put_manifest(&self.repository, &artifact.tag, media_type::MANIFEST, bytes).await?;
        Ok(())
    }

    /// `:latest` for the head, and the version of its timestamp.
    fn entry_point(&self, head: &Head) -> Result<(Artifact, u64), PushError> {
        let newest = |role: &str| head.roles.get(role).map_or(0, |role| role.version);
        let timestamp_version = newest("timestamp");
        let timestamp = self.document("timestamp", timestamp_version)?;
        let targets = self.document("targets", newest("targets"))?;
        let mut roots = Vec::new();
        for version in 1..=newest("root") {
            roots.push((version, self.document("root", version)?));
        }
        let mut snapshots = Vec::new();
        for version in self.store.versions(&self.key, "snapshot")?.into_iter().rev().take(SNAPSHOTS) {
            snapshots.push((version, self.document("snapshot", version)?));
        }
        let files = RepositoryFiles {
            timestamp: &timestamp,
            snapshots: snapshots.iter().map(|(version, bytes)| (*version, bytes.as_ref())).collect(),
            targets: (newest("targets"), &targets),
            roots: roots.iter().map(|(version, bytes)| (*version, bytes.as_ref())).collect(),
        };
        Ok((mapping::repository(&files, self.profile), timestamp_version))
    }

    fn document(&self, role: &str, version: u64) -> Result<Bytes, PushError> {
        let missing = || PushError::Missing { role: role.to_owned(), version };
        self.store.document(&self.key, role, version)?.ok_or_else(missing)
    }
}

/// The delegated roles of `head` and their versions.
fn delegated(head: &Head) -> impl Iterator<Item = (&str, u64)> {
    let top = ["root", "timestamp", "snapshot", "targets"];
    head.roles
        .iter()
        .filter(move |(role, _)| !top.contains(&role.as_str()))
        .map(|(role, head)| (role.as_str(), head.version))
}
