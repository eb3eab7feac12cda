//! Metadata from an OCI registry (docs/oci-mapping.md, "Reading").

use bytes::Bytes;
use plimsoll_core::{
    oci::{
        RepositoryAddress,
        mapping::{LATEST, Listed, Listing, MAX_MANIFEST},
    },
    tuf::{MetaFile, limit},
};

use super::{Begin, Source, SourceError};
use crate::{
    registry::{Known, ManifestAnswer, Registry},
    state::Entry,
};

/// Reads a trust repository: one conditional GET of `:latest` when nothing changed, one blob for each role needed.
#[derive(Clone)]
pub struct RegistrySource {
    registry: Registry,
    repository: RepositoryAddress,
    listing: Listing,
    entry: Option<Entry>,
}

impl std::fmt::Debug for RegistrySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistrySource").field("repository", &self.repository).finish_non_exhaustive()
    }
}

impl RegistrySource {
    /// The trust repository at `repository`. No I/O.
    pub fn new(registry: Registry, repository: RepositoryAddress) -> Self {
        Self { registry, repository, listing: Listing::default(), entry: None }
    }

    async fn listed(&self, file: &str, listed: Option<Listed>, cap: u64) -> Result<Vec<u8>, SourceError> {
        let listed = listed.ok_or_else(|| self.gone(file))?;
        if let Some(data) = listed.data {
            return Ok(data);
        }
        if listed.size > cap {
            // Not worth a request: the core would refuse its length.
            let url = format!("{}@{}", self.repository, listed.digest);
            return Err(crate::registry::RegistryError::TooLarge { url, cap }.into());
        }
        let blob = self.registry.blob(&self.repository, &listed.digest, listed.size, true).await?;
        blob.map(Bytes::into).ok_or_else(|| self.gone(file))
    }

    fn gone(&self, file: &str) -> SourceError {
        SourceError::Gone { location: self.location(), file: file.to_owned() }
    }

    /// The blob that `meta` names by its sha256: immutable, and found without any manifest.
    async fn by_hash(&self, file: &str, meta: &MetaFile, cap: u64) -> Result<Vec<u8>, SourceError> {
        let digest = meta.digest().ok_or_else(|| self.gone(file))?;
        let (size, exact) = meta.length.map_or((cap, false), |length| (length.min(cap), length <= cap));
        let blob = self.registry.blob(&self.repository, &digest, size, exact).await?;
        blob.map(Bytes::into).ok_or_else(|| self.gone(file))
    }
}

impl Source for RegistrySource {
    async fn begin(&mut self, entry: Option<&Entry>) -> Result<Begin, SourceError> {
        let known = entry
            .filter(|entry| entry.repository == self.location())
            .map(|entry| Known { etag: entry.etag.clone(), digest: entry.digest });
        let answer =
            self.registry.manifest(&self.repository, LATEST, MAX_MANIFEST as u64, known.as_ref()).await?;
        match answer {
            ManifestAnswer::NotModified => Ok(Begin::Unchanged),
            ManifestAnswer::NotFound => Err(SourceError::Empty { location: self.location() }),
            ManifestAnswer::Found(manifest) => {
                self.listing = Listing::parse(&manifest.bytes)
                    .map_err(|source| SourceError::Mapping { location: self.location(), source })?;
                self.entry =
                    Some(Entry { repository: self.location(), etag: manifest.etag, digest: manifest.digest });
                Ok(Begin::Changed)
            }
        }
    }

    async fn root(&mut self, version: u64) -> Result<Option<Vec<u8>>, SourceError> {
        match self.listing.root(version).cloned() {
            // A well-formed manifest that does not list it: there is none.
            None => Ok(None),
            listed => self.listed(&format!("{version}.root.json"), listed, limit::ROOT).await.map(Some),
        }
    }

    async fn timestamp(&mut self) -> Result<Vec<u8>, SourceError> {
        self.listed("timestamp.json", self.listing.timestamp().cloned(), limit::TIMESTAMP).await
    }

    async fn snapshot(&mut self, meta: &MetaFile, _consistent: bool) -> Result<Vec<u8>, SourceError> {
        let file = format!("{}.snapshot.json", meta.version);
        match self.listing.snapshot(meta.version).cloned() {
            None => self.by_hash(&file, meta, limit::SNAPSHOT).await,
            listed => self.listed(&file, listed, limit::SNAPSHOT).await,
        }
    }

    async fn targets(
        &mut self,
        role: &str,
        meta: &MetaFile,
        _consistent: bool,
    ) -> Result<Vec<u8>, SourceError> {
        let file = format!("{}.{role}.json", meta.version);
        let listed = if role == "targets" { self.listing.targets(meta.version).cloned() } else { None };
        match listed {
            None => self.by_hash(&file, meta, limit::TARGETS).await,
            listed => self.listed(&file, listed, limit::TARGETS).await,
        }
    }

    fn entry(&self) -> Option<Entry> {
        self.entry.clone()
    }

    fn location(&self) -> String {
        self.repository.to_string()
    }
}
