//! What the registry has of a trust repository, verified as it is fetched.

use std::collections::BTreeMap;

use bytes::Bytes;
use plimsoll::registry::{ManifestAnswer, Registry, RegistryError};
use plimsoll_core::{
    oci::{
        Digest, RepositoryAddress,
        mapping::{LATEST, Listed, Listing, MAX_MANIFEST, SNAPSHOTS},
    },
    tuf::{Document, Snapshot, Timestamp, distinct_signers, limit},
};

use super::{Shown, TakeOverError, View, place};

/// All documents together, bytes: more is not a trust repository that this program made.
const MAX_ALL: u64 = 4 << 30;

/// What is at `:latest`.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// Something that is not trust metadata, and what.
    Foreign(String),
    /// An entry point.
    Entry(Entry),
}

/// The entry point of a trust repository, not verified yet.
#[derive(Debug)]
pub struct Entry {
    /// Digest of the manifest.
    pub manifest: Digest,
    listing: Listing,
    /// The timestamp that it lists, if it has it.
    pub timestamp: Option<Bytes>,
}

/// Why the registry's content could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// What it has.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// It has too much.
    #[error("{place} names more than {limit} bytes")]
    TooMuch {
        /// Where.
        place: String,
        /// The most that is read.
        limit: u64,
    },
}

/// Reads `:latest` and the timestamp that it lists: two requests at most.
///
/// # Errors
/// [`RegistryError`] if the registry cannot be asked.
pub async fn entry(registry: &Registry, repository: &RepositoryAddress) -> Result<Found, RegistryError> {
    let manifest = match registry.manifest(repository, LATEST, MAX_MANIFEST as u64, None).await {
        Ok(ManifestAnswer::Found(manifest)) => manifest,
        Ok(ManifestAnswer::NotFound | ManifestAnswer::NotModified) => return Ok(Found::Nothing),
        Err(error @ (RegistryError::Manifest { .. } | RegistryError::TooLarge { .. })) => {
            return Ok(Found::Foreign(error.to_string()));
        }
        Err(error) => return Err(error),
    };
    let listing = match Listing::parse(&manifest.bytes) {
        Ok(listing) => listing,
        Err(error) => return Ok(Found::Foreign(error.to_string())),
    };
    let timestamp = match listing.timestamp() {
        Some(listed) => content(registry, repository, listed, limit::TIMESTAMP).await?,
        None => None,
    };
    Ok(Found::Entry(Entry { manifest: manifest.digest, listing, timestamp }))
}

/// Fetches and verifies all that `entry` leads to. `known` gives content that need not be fetched.
///
/// # Errors
/// [`FetchError`].
pub async fn fetch(
    registry: &Registry,
    repository: &RepositoryAddress,
    entry: Entry,
    known: impl Fn(&str, u64, &Digest) -> Option<Bytes>,
) -> Result<Shown, FetchError> {
    let place = place(repository);
    let missing =
        |role: &str, version| TakeOverError::Missing { place: place.clone(), role: role.to_owned(), version };
    let Entry { manifest, listing, timestamp } = entry;
    let timestamp = timestamp.ok_or_else(|| missing("timestamp", 0))?;
    let named = Document::<Timestamp>::parse("timestamp", &timestamp)
        .map_err(|source| TakeOverError::Untrusted { place: place.clone(), source })?;
    let mut roots = BTreeMap::new();
    for version in (1..=listing.newest_root().unwrap_or_default()).rev() {
        let Some(listed) = listing.root(version) else { break };
        let root = match known("root", version, &listed.digest) {
            Some(root) => Some(root),
            None => content(registry, repository, listed, limit::ROOT).await?,
        };
        roots.insert(version, root.ok_or_else(|| missing("root", version))?);
    }
    let meta = named.signed.snapshot();
    let listed = listing.snapshot(meta.version).ok_or_else(|| missing("snapshot", meta.version))?;
    let snapshot = content(registry, repository, listed, limit::SNAPSHOT).await?;
    let snapshot = snapshot.ok_or_else(|| missing("snapshot", meta.version))?;

    // Verified before the rest is asked for.
    let mut view = View::begin(&place, roots, timestamp, snapshot)?;
    let mut all = 0;
    for (role, meta) in view.wanted()? {
        let (version, digest) = (meta.version, meta.digest().expect("`wanted` gives those that have one"));
        let most = meta.length.unwrap_or(limit::TARGETS).min(limit::TARGETS);
        let bytes = match known(&role, version, &digest) {
            Some(bytes) => bytes,
            None => registry
                .blob(repository, &digest, most, false)
                .await?
                .ok_or_else(|| missing(&role, version))?,
        };
        all += bytes.len() as u64;
        if all > MAX_ALL {
            return Err(FetchError::TooMuch { place, limit: MAX_ALL });
        }
        view.take(&role, bytes)?;
    }
    let older = older(registry, repository, &listing, &view).await;
    Ok(Shown { view, manifest, older })
}

/// The older snapshots that are listed, and what they name, as far as it is still there. Only for the history, so
/// trouble with it is none.
async fn older(
    registry: &Registry,
    repository: &RepositoryAddress,
    listing: &Listing,
    view: &View,
) -> Vec<(String, u64, Bytes)> {
    let mut found: BTreeMap<(String, u64), Bytes> = BTreeMap::new();
    let newest = view.snapshot();
    let version = |name: &str| name.strip_suffix(".snapshot.json").and_then(|version| version.parse().ok());
    let listed = listing.files.iter().filter_map(|(name, listed)| Some((version(name)?, listed)));
    let listed = listed.filter(|(version, _): &(u64, _)| *version < newest.common.version);
    for (version, listed) in listed.take(SNAPSHOTS - 1) {
        let Ok(Some(bytes)) = content(registry, repository, listed, limit::SNAPSHOT).await else { continue };
        let Ok(snapshot) = Document::<Snapshot>::parse("snapshot", &bytes) else { continue };
        let keys = &view.root().roles["snapshot"];
        if snapshot.version() != version
            || distinct_signers(&snapshot, &view.root().keys, &keys.keyids).is_empty()
        {
            continue;
        }
        for (file, meta) in &snapshot.signed.meta {
            let Some(role) = file.strip_suffix(".json") else { continue };
            let Some(digest) = meta.digest() else { continue };
            let key = (role.to_owned(), meta.version);
            let is_newest = newest.role(role).is_none_or(|newest| newest.version <= meta.version);
            if is_newest || found.contains_key(&key) {
                continue;
            }
            let most = meta.length.unwrap_or(limit::TARGETS).min(limit::TARGETS);
            if let Ok(Some(bytes)) = registry.blob(repository, &digest, most, false).await {
                found.insert(key, bytes);
            }
        }
        found.insert(("snapshot".to_owned(), version), bytes);
    }
    found.into_iter().map(|((role, version), bytes)| (role, version, bytes)).collect()
}

async fn content(
    registry: &Registry,
    repository: &RepositoryAddress,
    listed: &Listed,
    most: u64,
) -> Result<Option<Bytes>, RegistryError> {
    match &listed.data {
        Some(data) => Ok(Some(Bytes::copy_from_slice(data))),
        None if listed.size > most => Ok(None),
        None => registry.blob(repository, &listed.digest, listed.size, true).await,
    }
}
