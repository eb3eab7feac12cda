//! commit, second half: into the registry. Blobs, role manifests, `:latest` last, read back, record.
//!
//! What each step leaves behind if the next one fails: blobs and role manifests that nobody refers to yet, and the old
//! `:latest`, which is whole. Everything is in the store before the first byte is sent, so the next try, in this process
//! or after a restart, does the same again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use plimsoll::{
    clock::Clock,
    keys::Signer,
    registry::{Known, ManifestAnswer, Registry, RegistryError},
};
use plimsoll_core::{
    oci::{
        Digest, Manifest, RepositoryAddress,
        mapping::{
            self, Artifact, LATEST, Listing, MAX_LAYERS, MAX_MANIFEST, Profile, RepositoryFiles, SNAPSHOTS,
        },
        media_type,
    },
    tuf::{Document, Root, Snapshot, Timestamp, distinct_signers, limit},
};
use tokio::task::spawn_blocking;

use super::beat::Beat;
use crate::{
    keys::{Keyring, OnlineRole},
    store::{Head, Published, Store, StoreError, TrustKey},
};

/// The tag at which a daemon that stops because of a second signer leaves the timestamp that it signed, so that the other
/// one, which may never see it at `:latest`, stops too (docs/oci-mapping.md). No role has a tag that begins with `x-`, but
/// for a hash.
const SECOND_SIGNER: &str = "x-second-signer";

/// The registry side of one trust repository. A clone goes on from what the original knew.
#[derive(Clone)]
pub(super) struct Push {
    pub(super) registry: Registry,
    pub(super) repository: RepositoryAddress,
    pub(super) profile: Profile,
    pub(super) store: Arc<dyn Store>,
    pub(super) key: TrustKey,
    /// By them we know our own hand.
    pub(super) keys: Arc<Mutex<Keyring>>,
    /// What we last published, so that a look costs one conditional request.
    seen: Option<Known>,
    /// What may stand at `:latest` without surprise: what the last look found there (none for nothing), and what was put
    /// there since, though the answer was lost.
    expected: [Option<Digest>; 2],
    /// Which version of each delegated role the registry has, as far as we know; at most one entry for each role.
    pushed: BTreeMap<String, u64>,
    /// What was found at [`SECOND_SIGNER`], once it was looked at. What was there at the start was told to the operator by the
    /// daemon before, and does not stop this one.
    second: Option<Option<Digest>>,
    /// A push may take as long as it has steps, each of which is a sign of life.
    beat: Arc<Beat>,
}

/// What the registry shows at `:latest`, compared with our store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
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
    /// The store panicked; the panic was printed where it happened.
    #[error("the store failed; see the daemon's log")]
    Panicked,
}

/// What was published, and until when it is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) published: Published,
    /// When its timestamp expires.
    pub(super) expires: DateTime<Utc>,
}

impl Push {
    pub(super) fn new(
        registry: Registry,
        repository: RepositoryAddress,
        profile: Profile,
        store: Arc<dyn Store>,
        key: TrustKey,
        keys: Arc<Mutex<Keyring>>,
    ) -> Self {
        Self {
            registry,
            repository,
            profile,
            store,
            key,
            keys,
            seen: None,
            expected: [None; 2],
            pushed: BTreeMap::new(),
            second: None,
            beat: Arc::default(),
        }
    }

    /// Its life sign; clones share it.
    pub(super) fn beat(&self) -> Arc<Beat> {
        self.beat.clone()
    }

    /// Reads `:latest` and compares it with the store. One request when nothing changed since the last look.
    pub(super) async fn look(&mut self) -> Result<Standing, PushError> {
        let head = self.stored(|store, key| Ok(store.head(key)?)).await?;
        let answer =
            self.registry.manifest(&self.repository, LATEST, MAX_MANIFEST as u64, self.seen.as_ref()).await;
        let manifest = match answer {
            Ok(ManifestAnswer::NotModified) => return Ok(Standing::Current),
            Ok(ManifestAnswer::NotFound) => {
                self.found(None);
                return Ok(Standing::Empty);
            }
            // Something is there, and it is nothing that we could have written.
            Err(RegistryError::Manifest { .. } | RegistryError::TooLarge { .. }) => {
                self.surprised();
                return Ok(Standing::Foreign);
            }
            Ok(ManifestAnswer::Found(manifest)) => manifest,
            Err(error) => return Err(error.into()),
        };
        let known = Known { etag: manifest.etag, digest: manifest.digest };
        if let Some(published) = head.published.filter(|published| published.manifest == known.digest) {
            if self.pushed.is_empty() {
                self.pushed = self.stored(move |store, key| roles_in(store, key, &published)).await?;
            }
            self.expected = [Some(known.digest); 2];
            self.seen = Some(known);
            return Ok(Standing::Current);
        }
        self.found(Some(known.digest));
        let Ok(listing) = Listing::parse(&manifest.bytes) else { return Ok(Standing::Foreign) };
        let shown = match listing.timestamp() {
            Some(listed) => match &listed.data {
                Some(data) => Some(Bytes::copy_from_slice(data)),
                None if listed.size > limit::TIMESTAMP => None,
                None => self.registry.blob(&self.repository, &listed.digest, listed.size, true).await?,
            },
            None => None,
        };
        let keys = self.keys.clone();
        self.stored(move |store, key| compare(store, key, &keys, shown.as_deref(), &head)).await
    }

    /// Notes what stands at `:latest`, which is not what was last recorded.
    fn found(&mut self, manifest: Option<Digest>) {
        self.seen = None;
        // As expected, if a push did not end: it goes on where it stopped.
        if !self.expected.contains(&manifest) {
            self.surprised();
        }
        self.expected = [manifest; 2];
    }

    /// Somebody else was there: whatever we knew of role manifests may be gone.
    fn surprised(&mut self) {
        self.seen = None;
        self.pushed.clear();
    }

    /// Puts the head of the store into the registry and records that.
    pub(super) async fn push(&mut self, clock: &dyn Clock) -> Result<Shown, PushError> {
        let head = self.stored(|store, key| Ok(store.head(key)?)).await?;
        // Role manifests first: who reads the new `:latest` finds everything it leads to.
        for (role, version) in delegated(&head) {
            if self.pushed.get(&role) == Some(&version) {
                continue;
            }
            let (name, profile) = (role.clone(), self.profile);
            let artifact = self.stored(move |store, key| role_artifact(store, key, &name, version, profile));
            let artifact = artifact.await?;
            self.put(&artifact).await?;
            self.pushed.insert(role, version);
        }
        let profile = self.profile;
        let (artifact, timestamp_version, expires) =
            self.stored(move |store, key| entry_point(store, key, &head, profile)).await?;
        // Noted before it is sent: if the answer is lost, it may be there.
        self.expected[1] = Some(artifact.digest);
        self.put(&artifact).await?;
        // Registries have no compare-and-swap: read back what is there now.
        let known = Known { etag: None, digest: artifact.digest };
        let answer =
            self.registry.manifest(&self.repository, LATEST, MAX_MANIFEST as u64, Some(&known)).await?;
        if answer != ManifestAnswer::NotModified {
            return Err(PushError::NotReadBack { repository: self.repository.clone() });
        }
        let published = Published { timestamp_version, manifest: artifact.digest, at: clock.now() };
        self.stored(move |store, key| Ok(store.record_published(key, &published)?)).await?;
        self.expected = [Some(artifact.digest); 2];
        self.seen = Some(known);
        Ok(Shown { published, expires })
    }

    /// Leaves our timestamp `version`, of which there is another one, for whoever signed that.
    pub(super) async fn tell_second(&self, version: u64) -> Result<(), PushError> {
        let profile = self.profile;
        let mut artifact = self
            .stored(move |store, key| {
                let ours = document(store, key, "timestamp", version)?;
                Ok(mapping::role("timestamp", (version, &ours), None, profile))
            })
            .await?;
        artifact.tag = SECOND_SIGNER.to_owned();
        self.put(&artifact).await
    }

    /// Looks whether a second signer left a timestamp since this was first asked: its version, if our keys signed it and we
    /// did not.
    pub(super) async fn hear_second(&mut self) -> Result<Option<u64>, PushError> {
        self.beat.step();
        let answer = self.registry.manifest(&self.repository, SECOND_SIGNER, MAX_MANIFEST as u64, None).await;
        let found = match answer {
            Ok(ManifestAnswer::Found(manifest)) => Some(manifest),
            Ok(_) | Err(RegistryError::Manifest { .. } | RegistryError::TooLarge { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let before = self.second.replace(found.as_ref().map(|manifest| manifest.digest));
        let Some(manifest) = found.filter(|found| before.is_some_and(|before| before != Some(found.digest)))
        else {
            return Ok(None);
        };
        let listed =
            Manifest::parse(&manifest.bytes).ok().and_then(|manifest| manifest.layers.into_iter().next());
        let Some(listed) = listed.filter(|listed| listed.size <= limit::TIMESTAMP) else { return Ok(None) };
        self.beat.step();
        let theirs = self.registry.blob(&self.repository, &listed.digest, listed.size, true).await?;
        let keys = self.keys.clone();
        let standing = self.stored(move |store, key| {
            let head = store.head(key)?;
            compare(store, key, &keys, theirs.as_deref(), &head)
        });
        Ok(match standing.await? {
            Standing::Ahead { version } | Standing::Twin { version } => Some(version),
            _ => None,
        })
    }

    async fn put(&self, artifact: &Artifact) -> Result<(), PushError> {
        // One after the other: some registries refuse concurrent links of the same blob.
        for (_, bytes) in &artifact.blobs {
            self.beat.step();
            self.registry.put_blob(&self.repository, bytes.clone().into()).await?;
        }
        self.beat.step();
        let bytes = Bytes::from(artifact.manifest.clone());
        self.registry.put_manifest(&self.repository, &artifact.tag, media_type::MANIFEST, bytes).await?;
        Ok(())
    }

    /// Reads or writes the store on a thread that may block.
    async fn stored<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Store, &TrustKey) -> Result<T, PushError> + Send + 'static,
    ) -> Result<T, PushError> {
        self.beat.step();
        let (store, key) = (self.store.clone(), self.key.clone());
        spawn_blocking(move || call(&*store, &key)).await.unwrap_or(Err(PushError::Panicked))
    }
}

/// Compares the timestamp that `:latest` lists with the store.
///
/// # Errors
/// [`PushError::Store`], [`PushError::Missing`], [`PushError::Document`].
pub(crate) fn compare(
    store: &dyn Store,
    key: &TrustKey,
    keys: &Mutex<Keyring>,
    shown: Option<&[u8]>,
    head: &Head,
) -> Result<Standing, PushError> {
    let document = shown.and_then(|bytes| Document::<Timestamp>::parse("timestamp", bytes).ok());
    let Some(document) = document else { return Ok(Standing::Foreign) };
    let version = document.version();
    // Also after a change of our key, what we once signed is ours.
    let ours = store.document(key, "timestamp", version)?;
    if ours.as_deref() == Some(document.bytes.as_slice()) {
        return Ok(Standing::Behind);
    }
    let newest = |role: &str| head.roles.get(role).map_or(0, |role| role.version);
    let root = match newest("root") {
        0 => None,
        version => {
            Some(Document::<Root>::parse("root", &self::document(store, key, "root", version)?)?.signed)
        }
    };
    // A key that the newest root dropped is nobody's: whoever stole it must not stop the daemon with it. One that waits
    // never signed, unless the store is an old copy.
    let ours: BTreeMap<_, _> = {
        let keys = keys.lock().unwrap_or_else(PoisonError::into_inner);
        let usable = keys.usable(OnlineRole::Timestamp, root.as_ref());
        usable.into_iter().map(|key| (key.key_id(), key.key().clone())).collect()
    };
    let ids: Vec<_> = ours.keys().cloned().collect();
    if distinct_signers(&document, &ours, &ids).is_empty() {
        return Ok(Standing::Foreign);
    }
    Ok(match () {
        () if version > newest("timestamp") => Standing::Ahead { version },
        // Signed before this store was rebuilt, which may not have it any more.
        () if head.taken_over.is_some_and(|taken| version <= taken) => Standing::Behind,
        () => Standing::Twin { version },
    })
}

/// The versions of delegated roles that the snapshot of `published` names.
fn roles_in(
    store: &dyn Store,
    key: &TrustKey,
    published: &Published,
) -> Result<BTreeMap<String, u64>, PushError> {
    let timestamp = document(store, key, "timestamp", published.timestamp_version)?;
    let timestamp = Document::<Timestamp>::parse("timestamp", &timestamp)?;
    let snapshot = document(store, key, "snapshot", timestamp.signed.snapshot().version)?;
    let snapshot = Document::<Snapshot>::parse("snapshot", &snapshot)?;
    let delegated = snapshot.signed.meta.iter().filter_map(|(file, meta)| {
        let role = file.strip_suffix(".json").filter(|role| *role != "targets")?;
        Some((role.to_owned(), meta.version))
    });
    Ok(delegated.collect())
}

fn role_artifact(
    store: &dyn Store,
    key: &TrustKey,
    role: &str,
    version: u64,
    profile: Profile,
) -> Result<Artifact, PushError> {
    let current = document(store, key, role, version)?;
    // Versions of targets roles have no gaps.
    let previous = store.document(key, role, version - 1)?;
    let previous = previous.as_ref().map(|bytes| (version - 1, bytes.as_ref()));
    Ok(mapping::role(role, (version, &current), previous, profile))
}

/// `:latest` for the head, the version of its timestamp, and when that expires.
fn entry_point(
    store: &dyn Store,
    key: &TrustKey,
    head: &Head,
    profile: Profile,
) -> Result<(Artifact, u64, DateTime<Utc>), PushError> {
    let newest = |role: &str| head.roles.get(role).map_or(0, |role| role.version);
    let timestamp_version = newest("timestamp");
    let timestamp = document(store, key, "timestamp", timestamp_version)?;
    let expires = Document::<Timestamp>::parse("timestamp", &timestamp)?.signed.common.expires;
    let targets = document(store, key, "targets", newest("targets"))?;
    let mut roots = Vec::new();
    // More are not written, so they are not read.
    for version in (1..=newest("root")).rev().take(MAX_LAYERS) {
        roots.push((version, document(store, key, "root", version)?));
    }
    // Not by `Store::versions`: there may be very many, and snapshot versions may have gaps, which only shorten this.
    let mut snapshots = vec![(newest("snapshot"), document(store, key, "snapshot", newest("snapshot"))?)];
    for version in (1..newest("snapshot")).rev().take(SNAPSHOTS - 1) {
        snapshots.extend(store.document(key, "snapshot", version)?.map(|bytes| (version, bytes)));
    }
    let files = RepositoryFiles {
        timestamp: &timestamp,
        snapshots: snapshots.iter().map(|(version, bytes)| (*version, bytes.as_ref())).collect(),
        targets: (newest("targets"), &targets),
        roots: roots.iter().map(|(version, bytes)| (*version, bytes.as_ref())).collect(),
    };
    Ok((mapping::repository(&files, profile), timestamp_version, expires))
}

fn document(store: &dyn Store, key: &TrustKey, role: &str, version: u64) -> Result<Bytes, PushError> {
    let missing = || PushError::Missing { role: role.to_owned(), version };
    store.document(key, role, version)?.ok_or_else(missing)
}

/// The delegated roles of `head` and their versions.
fn delegated(head: &Head) -> Vec<(String, u64)> {
    let top = ["root", "timestamp", "snapshot", "targets"];
    head.roles
        .iter()
        .filter(|(role, _)| !top.contains(&role.as_str()))
        .map(|(role, head)| (role.clone(), head.version))
        .collect()
}
