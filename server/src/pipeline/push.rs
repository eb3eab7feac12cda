//! commit, second half: into the registry. Blobs, role manifests, `:latest` last, read back, record.
//!
//! What each step leaves behind if the next one fails: blobs and role manifests that nobody refers to yet, and the old
//! `:latest`, which is whole. Everything is in the store before the first byte is sent, so the next try, in this process
//! or after a restart, does the same again.

use std::{
    collections::{BTreeMap, BTreeSet},
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
        Digest, EMPTY_CONFIG, Manifest, RepositoryAddress,
        mapping::{
            self, Artifact, FileEntry, LATEST, Listing, MAX_LAYERS, MAX_MANIFEST, Profile, RepositoryEntries,
            SNAPSHOTS,
        },
        media_type,
    },
    tuf::{Document, Root, Snapshot, Timestamp, distinct_signers, limit},
};
use tokio::task::{JoinSet, spawn_blocking};

use super::{
    beat::Beat,
    committed::{Committed, News, TopLevel, is_top_level},
};
use crate::{
    keys::{Keyring, OnlineRole},
    store::{Head, Published, Store, StoreError, TrustKey},
};

/// The tag at which a daemon that stops because of a second signer leaves the timestamp that it signed, so that the other
/// one, which may never see it at `:latest`, stops too (docs/oci-mapping.md). No role has a tag that begins with `x-`, but
/// for a hash.
const SECOND_SIGNER: &str = "x-second-signer";

/// How many role manifests are put at a time. One after the other, a push takes so long that what comes meanwhile makes the next
/// one longer.
const AT_A_TIME: usize = 4;

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
    /// What is to be pushed.
    committed: Arc<Committed>,
    /// What we last published, so that a look costs one conditional request.
    seen: Option<Known>,
    /// What may stand at `:latest` without surprise: what the last look found there (none for nothing), and what was put
    /// there since, though the answer was lost.
    expected: [Option<Digest>; 2],
    /// Which version of each delegated role the registry has, as far as we know; at most one entry for each role.
    pushed: BTreeMap<String, u64>,
    /// Delegated roles that it may not have in their newest version.
    todo: News,
    /// True once a push failed, until one succeeds: then roles are put one after the other, as they share what there is of a
    /// thin line and each has a deadline.
    slowly: bool,
    /// Blobs of the last `:latest` that it took, which it has then.
    there: BTreeSet<Digest>,
    /// The files of `:latest` that were read last, by role and version.
    files: BTreeMap<(&'static str, u64), File>,
    /// What was found at [`SECOND_SIGNER`], once it was looked at. What was there at the start was told to the operator by the
    /// daemon before, and does not stop this one.
    second: Option<Option<Digest>>,
    /// A push may take as long as it has steps, each of which is a sign of life.
    beat: Arc<Beat>,
}

/// A file of `:latest`.
#[derive(Debug, Clone)]
struct File {
    digest: Digest,
    size: u64,
    /// The bytes, if they are few enough to travel inside the manifest.
    small: Option<Bytes>,
}

/// `:latest`, made for what was committed.
struct EntryPoint {
    manifest: Vec<u8>,
    digest: Digest,
    /// The blobs that it needs, each with its bytes unless the registry has it.
    blobs: Vec<(Digest, Option<Bytes>)>,
    files: BTreeMap<(&'static str, u64), File>,
    timestamp_version: u64,
    expires: DateTime<Utc>,
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
        committed: Arc<Committed>,
    ) -> Self {
        Self {
            registry,
            repository,
            profile,
            store,
            key,
            keys,
            committed,
            seen: None,
            expected: [None; 2],
            pushed: BTreeMap::new(),
            todo: News::Any,
            slowly: false,
            there: BTreeSet::new(),
            files: BTreeMap::new(),
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
        let answer =
            self.registry.manifest(&self.repository, LATEST, MAX_MANIFEST as u64, self.seen.as_ref()).await;
        let manifest = match answer {
            Ok(ManifestAnswer::NotModified) => return Ok(Standing::Current),
            Ok(ManifestAnswer::NotFound) => {
                // Also if that is what was expected it may have been emptied in between; else a first push goes on where it
                // stopped.
                if !(self.expected.contains(&None) && self.keeps_roles().await?) {
                    self.surprised();
                }
                self.seen = None;
                self.expected = [None; 2];
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
        let (published, place) = (self.committed.head().published, Published::place(&self.repository));
        let same = |published: &Published| published.manifest == known.digest && published.is_at(&place);
        if let Some(published) = published.filter(same) {
            if self.pushed.is_empty() {
                self.pushed = self.stored(move |store, key| roles_in(store, key, &published)).await?;
            }
            self.expected = [Some(known.digest); 2];
            self.seen = Some(known);
            return Ok(Standing::Current);
        }
        self.found(known.digest);
        let Ok(listing) = Listing::parse(&manifest.bytes) else { return Ok(Standing::Foreign) };
        let shown = match listing.timestamp() {
            Some(listed) => match &listed.data {
                Some(data) => Some(Bytes::copy_from_slice(data)),
                None if listed.size > limit::TIMESTAMP => None,
                None => self.registry.blob(&self.repository, &listed.digest, listed.size, true).await?,
            },
            None => None,
        };
        let (keys, known) = (self.keys.clone(), self.known());
        self.stored(move |store, key| compare(store, key, &keys, shown.as_deref(), &known)).await
    }

    /// What [`compare`] needs of the head.
    fn known(&self) -> Head {
        let head = self.committed.head();
        let role = |role: &str| Some((role.to_owned(), *head.roles.get(role)?));
        let roles = ["root", "timestamp"].into_iter().filter_map(role).collect();
        Head { roles, taken_over: head.taken_over, ..Head::default() }
    }

    /// Notes what stands at `:latest`, which is not what was last recorded.
    fn found(&mut self, manifest: Digest) {
        self.seen = None;
        // As expected, if a push did not end: it goes on where it stopped.
        if !self.expected.contains(&Some(manifest)) {
            self.surprised();
        }
        self.expected = [Some(manifest); 2];
    }

    /// True if the registry still has the first and the last of the roles that it took, by name: then it was not emptied since,
    /// neither before nor while the last push went on.
    async fn keeps_roles(&self) -> Result<bool, PushError> {
        let (Some((first, _)), Some((last, _))) =
            (self.pushed.first_key_value(), self.pushed.last_key_value())
        else {
            return Ok(false);
        };
        for role in [first, last] {
            let there = self.registry.head_manifest(&self.repository, &mapping::role_tag(role)).await?;
            if there.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Somebody else was there: whatever we knew of role manifests may be gone.
    fn surprised(&mut self) {
        self.seen = None;
        self.pushed.clear();
        self.todo = News::Any;
        self.there.clear();
    }

    /// Puts what is committed into the registry and records that. Costs as much as what is new there: nothing is sent, asked
    /// for or read again that the registry took before.
    ///
    /// # Panics
    /// Never: it is called once something was committed.
    pub(super) async fn push(&mut self, clock: &dyn Clock) -> Result<Shown, PushError> {
        let pushed = self.push_all(clock).await;
        self.slowly = pushed.is_err();
        if pushed.is_err() {
            // Maybe because it lost something that we took to be there.
            self.there.clear();
        }
        pushed
    }

    async fn push_all(&mut self, clock: &dyn Clock) -> Result<Shown, PushError> {
        let (top, news) = self.committed.take();
        let top = top.expect("every commit has all four top-level roles");
        match (&mut self.todo, news) {
            (News::Roles(todo), News::Roles(news)) => todo.extend(news),
            (todo, _) => *todo = News::Any,
        }
        // Role manifests first: who reads the new `:latest` finds everything it leads to.
        self.put_roles().await?;
        self.todo = News::Roles(BTreeSet::new());

        let (profile, files, there) = (self.profile, std::mem::take(&mut self.files), self.there.clone());
        let made =
            self.stored(move |store, key| entry_point(store, key, &top, files, &there, profile)).await?;
        self.files = made.files;
        // Noted before it is sent: if the answer is lost, it may be there.
        self.expected[1] = Some(made.digest);
        // One after the other: they are few, and a daemon with many trust repositories must not flood a registry that they
        // share.
        for bytes in made.blobs.iter().filter_map(|(_, bytes)| bytes.clone()) {
            self.put_blob(bytes).await?;
        }
        self.put_manifest(LATEST, made.manifest.into()).await?;
        // Registries have no compare-and-swap: read back what is there now.
        let known = Known { etag: None, digest: made.digest };
        let answer =
            self.registry.manifest(&self.repository, LATEST, MAX_MANIFEST as u64, Some(&known)).await?;
        if answer != ManifestAnswer::NotModified {
            return Err(PushError::NotReadBack { repository: self.repository.clone() });
        }
        self.there = made.blobs.into_iter().map(|(digest, _)| digest).collect();
        let timestamp_version = made.timestamp_version;
        let repository = Some(Published::place(&self.repository));
        let published = Published { timestamp_version, manifest: made.digest, at: clock.now(), repository };
        self.stored(move |store, key| Ok(store.record_published(key, &published)?)).await?;
        self.committed.record(published);
        self.expected = [Some(made.digest); 2];
        self.seen = Some(known);
        Ok(Shown { published, expires: made.expires })
    }

    /// Puts the manifests of all roles that are due, some at a time: their blobs have nothing in common but the empty config,
    /// and are linked by one each. After a failure those under way end first, so that what is known of the registry is true.
    async fn put_roles(&mut self) -> Result<(), PushError> {
        let (mut due, there) = (self.due().into_iter(), Arc::new(self.there.clone()));
        let (mut running, mut result) = (JoinSet::new(), Ok(()));
        if there.is_empty()
            && let Some(first) = due.next()
        {
            // Alone, so that the config is there before others look.
            result = self.role_putter(&first, &there).put().await;
            self.note(first, &result);
        }
        loop {
            while result.is_ok()
                && running.len() < (if self.slowly { 1 } else { AT_A_TIME })
                && let Some(role) = due.next()
            {
                let putter = self.role_putter(&role, &there);
                running.spawn(async move { (role, putter.put().await) });
            }
            let Some(done) = running.join_next().await else { return result };
            let (role, put) = done.map_err(|_| PushError::Panicked)?;
            self.note(role, &put);
            result = result.and(put);
        }
    }

    fn note(&mut self, (role, version): (String, u64), put: &Result<(), PushError>) {
        match put {
            Ok(()) => self.pushed.insert(role, version),
            Err(_) => self.pushed.remove(&role),
        };
    }

    fn role_putter(&self, (role, version): &(String, u64), there: &Arc<BTreeSet<Digest>>) -> RolePutter {
        RolePutter {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            profile: self.profile,
            store: self.store.clone(),
            key: self.key.clone(),
            beat: self.beat.clone(),
            there: there.clone(),
            had: self.pushed.get(role).is_some_and(|had| had + 1 == *version),
            role: role.clone(),
            version: *version,
        }
    }

    /// The delegated roles that the registry does not have in their newest version, as far as we know.
    fn due(&self) -> Vec<(String, u64)> {
        let head = self.committed.head();
        let newer = |role: &String, version: u64| {
            (!is_top_level(role) && self.pushed.get(role) != Some(&version)).then(|| (role.clone(), version))
        };
        match &self.todo {
            News::Any => head.roles.iter().filter_map(|(role, head)| newer(role, head.version)).collect(),
            News::Roles(roles) => {
                roles.iter().filter_map(|role| newer(role, head.roles.get(role)?.version)).collect()
            }
        }
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
        for (_, bytes) in artifact.blobs {
            self.put_blob(bytes.into()).await?;
        }
        self.put_manifest(&artifact.tag, artifact.manifest.into()).await
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
        let (keys, known) = (self.keys.clone(), self.known());
        let standing = self.stored(move |store, key| compare(store, key, &keys, theirs.as_deref(), &known));
        Ok(match standing.await? {
            Standing::Ahead { version } | Standing::Twin { version } => Some(version),
            _ => None,
        })
    }

    async fn put_blob(&self, bytes: Bytes) -> Result<(), PushError> {
        self.beat.step();
        self.registry.put_blob(&self.repository, bytes).await?;
        Ok(())
    }

    async fn put_manifest(&self, tag: &str, bytes: Bytes) -> Result<(), PushError> {
        self.beat.step();
        self.registry.put_manifest(&self.repository, tag, media_type::MANIFEST, bytes).await?;
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

/// One role on its way into the registry.
struct RolePutter {
    registry: Registry,
    repository: RepositoryAddress,
    profile: Profile,
    store: Arc<dyn Store>,
    key: TrustKey,
    beat: Arc<Beat>,
    there: Arc<BTreeSet<Digest>>,
    /// True if the registry has the version before it.
    had: bool,
    role: String,
    version: u64,
}

impl RolePutter {
    async fn put(self) -> Result<(), PushError> {
        self.beat.step();
        let (store, key, role) = (self.store.clone(), self.key.clone(), self.role.clone());
        let artifact =
            spawn_blocking(move || role_artifact(&*store, &key, &role, self.version, self.profile)).await;
        let artifact = artifact.unwrap_or(Err(PushError::Panicked))?;
        // The version before it is the second file, and was pushed as the first of the manifest before.
        let news = if self.had { 2 } else { artifact.blobs.len() };
        for (digest, bytes) in artifact.blobs.into_iter().take(news) {
            if !self.there.contains(&digest) {
                self.beat.step();
                self.registry.put_blob(&self.repository, bytes.into()).await?;
            }
        }
        self.beat.step();
        let bytes = artifact.manifest.into();
        self.registry.put_manifest(&self.repository, &artifact.tag, media_type::MANIFEST, bytes).await?;
        Ok(())
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
    if ours.as_deref() == Some(&*document.bytes) {
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

/// `:latest` for `top`. Of what is among `files`, and of blobs that are `there`, nothing is read again.
fn entry_point(
    store: &dyn Store,
    key: &TrustKey,
    top: &TopLevel,
    mut files: BTreeMap<(&'static str, u64), File>,
    there: &BTreeSet<Digest>,
    profile: Profile,
) -> Result<EntryPoint, PushError> {
    let timestamp = document(store, key, "timestamp", top.timestamp.version)?;
    let expires = Document::<Timestamp>::parse("timestamp", &timestamp)?.signed.common.expires;
    let mut wanted = vec![("snapshot", top.snapshot.version), ("targets", top.targets.version)];
    // More roots are not written, so they are not read. Snapshots not by `Store::versions`: there may be very many, and
    // their versions may have gaps, which only shorten this.
    wanted.extend((1..=top.root.version).rev().take(MAX_LAYERS).map(|version| ("root", version)));
    let older = (1..top.snapshot.version).rev().take(SNAPSHOTS - 1).map(|version| ("snapshot", version));
    wanted.extend(older);
    let (mut kept, mut blobs) = (BTreeMap::new(), Vec::new());
    let config = Bytes::from_static(EMPTY_CONFIG);
    for (digest, bytes) in [(Digest::of(&config), config), (top.timestamp.digest, timestamp.clone())] {
        blobs.push((digest, (!there.contains(&digest)).then_some(bytes)));
    }
    for of in wanted {
        let (role, version) = of;
        let file = match files.remove(&of) {
            Some(file) if there.contains(&file.digest) => {
                blobs.push((file.digest, None));
                file
            }
            known => {
                let Some(bytes) = store.document(key, role, version)? else {
                    if role == "snapshot" && version != top.snapshot.version {
                        continue;
                    }
                    return Err(PushError::Missing { role: role.to_owned(), version });
                };
                let size = bytes.len() as u64;
                let small = mapping::travels_inside(size).then(|| bytes.clone());
                let digest = known.map_or_else(|| Digest::of(&bytes), |file| file.digest);
                blobs.push((digest, (!there.contains(&digest)).then_some(bytes)));
                File { digest, size, small }
            }
        };
        kept.insert(of, file);
    }
    let entry = |(&(_, version), file): (&(&str, u64), &'_ File)| FileEntry {
        version,
        digest: file.digest,
        size: file.size,
        bytes: None,
    };
    let inside = |of: (&'static str, u64)| {
        let file = &kept[&of];
        FileEntry { bytes: file.small.as_deref(), ..entry((&of, file)) }
    };
    let of_role = |role: &'static str| kept.range((role, 0)..=(role, u64::MAX));
    let newest = inside(("snapshot", top.snapshot.version));
    let older = of_role("snapshot").filter(|((_, version), _)| *version != top.snapshot.version).map(entry);
    let entries = RepositoryEntries {
        timestamp: FileEntry::of(top.timestamp.version, &timestamp),
        snapshots: std::iter::once(newest).chain(older).collect(),
        targets: inside(("targets", top.targets.version)),
        roots: of_role("root").map(entry).collect(),
    };
    let (manifest, digest) = mapping::entry_point(&entries, profile);
    Ok(EntryPoint { manifest, digest, blobs, files: kept, timestamp_version: top.timestamp.version, expires })
}

fn document(store: &dyn Store, key: &TrustKey, role: &str, version: u64) -> Result<Bytes, PushError> {
    let missing = || PushError::Missing { role: role.to_owned(), version };
    store.document(key, role, version)?.ok_or_else(missing)
}
