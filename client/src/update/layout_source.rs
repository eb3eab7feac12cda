//! Metadata from an OCI image layout: a directory, or a bundle (docs/oci-mapping.md, "Reading", without a registry).

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use plimsoll_core::{
    oci::{
        Descriptor, Digest,
        mapping::{LATEST, Listed, Listing, MAX_MANIFEST},
        media_type,
    },
    tuf::{Document, MetaFile, Timestamp, limit},
};

use super::{Begin, Source, SourceError};
use crate::{
    layout::{Layout, LayoutError, REF_NAME},
    state::Entry,
};

/// Reads a trust repository in an image layout. No network: the disk is all that is asked.
#[derive(Debug, Clone)]
pub struct LayoutSource {
    place: PathBuf,
    name: Option<String>,
    trust: Option<String>,
    layout: Arc<Layout>,
    listing: Listing,
}

impl LayoutSource {
    /// The trust repository called `name` in the layout at `place`, a directory or a tar archive of one; without a name
    /// the only one. `name` is what the layout calls it, with or without `:latest` after it: for a bundle the repository
    /// that it was exported from, `HOST/REPOSITORY`.
    ///
    /// Which one it is, is looked up each time a round begins; nothing of it is believed.
    ///
    /// # Errors
    /// [`LayoutError`] if there is no layout.
    pub fn open(place: &Path, name: Option<&str>) -> Result<Self, LayoutError> {
        let layout = Arc::new(Layout::open(place)?);
        let name = name.map(str::to_owned);
        Ok(Self { place: place.to_owned(), name, trust: None, layout, listing: Listing::default() })
    }

    /// Itself, for the trust repository whose timestamp says that it is of this trust id: where a layout has several, this
    /// one is meant. It is a hint like everything here; the pinned root decides.
    #[must_use]
    pub fn of_trust(mut self, trust: Option<&str>) -> Self {
        self.trust = trust.map(str::to_owned);
        self
    }

    /// What the layout calls the trust repository that is meant, without `:latest`; none if it has no name, or several.
    ///
    /// # Errors
    /// [`SourceError::Empty`] if there is none, [`SourceError::Layout`], [`SourceError::Mapping`].
    pub fn called(&self) -> Result<Option<String>, SourceError> {
        let found = self.found()?;
        match found.as_slice() {
            [] => Err(SourceError::Empty { location: self.location() }),
            [(Some(name), _)] => {
                let repository = name.strip_suffix(LATEST).and_then(|name| name.strip_suffix(':'));
                Ok(repository.map(str::to_owned))
            }
            _ => Ok(None),
        }
    }

    /// What the entry point lists, once a round has begun.
    pub(crate) fn listing(&self) -> &Listing {
        &self.listing
    }

    /// The name and manifest of each trust repository that is meant.
    fn found(&self) -> Result<Vec<(Option<&str>, Listing)>, SourceError> {
        let mut found: Vec<(Option<&str>, Listing)> = Vec::new();
        for descriptor in self.layout.manifests() {
            let called = descriptor.annotations.get(REF_NAME).map(String::as_str);
            if !self.is_called(called) || !may_be_latest(descriptor, called) {
                continue;
            }
            let bytes = self.layout.manifest(descriptor)?;
            let listing = match Listing::parse(&bytes) {
                Ok(listing) => listing,
                // An image called so.
                Err(_) if self.name.is_none() => continue,
                Err(source) => return Err(SourceError::Mapping { location: self.location(), source }),
            };
            let meant = self.trust.is_none() || self.trust == self.trust_of(&listing)?;
            if meant && !found.iter().any(|(_, known)| *known == listing) {
                found.push((called, listing));
            }
        }
        Ok(found)
    }

    fn is_called(&self, called: Option<&str>) -> bool {
        let Some(name) = self.name.as_deref() else { return true };
        called.is_some_and(|called| {
            called == name
                || called.strip_suffix(LATEST).and_then(|called| called.strip_suffix(':')) == Some(name)
        })
    }

    /// What the timestamp says of itself, if it can be read.
    fn trust_of(&self, listing: &Listing) -> Result<Option<String>, SourceError> {
        let Some(listed) = listing.timestamp().cloned() else { return Ok(None) };
        let bytes = self.listed("timestamp.json", Some(listed), limit::TIMESTAMP)?;
        let identity = Document::<Timestamp>::parse("timestamp", &bytes).ok();
        Ok(identity.and_then(|document| Some(document.signed.common.identity.as_ref()?.trust.clone())))
    }

    fn listed(&self, file: &str, listed: Option<Listed>, cap: u64) -> Result<Vec<u8>, SourceError> {
        let listed = listed.ok_or_else(|| self.gone(file))?;
        match listed.data {
            Some(data) => Ok(data),
            None => self.blob(file, &listed.digest, cap),
        }
    }

    fn blob(&self, file: &str, digest: &Digest, cap: u64) -> Result<Vec<u8>, SourceError> {
        self.layout.blob(digest, cap)?.ok_or_else(|| self.gone(file))
    }

    fn gone(&self, file: &str) -> SourceError {
        SourceError::Gone { location: self.location(), file: file.to_owned() }
    }

    fn by_hash(&self, file: &str, meta: &MetaFile, cap: u64) -> Result<Vec<u8>, SourceError> {
        let digest = meta.digest().ok_or_else(|| self.gone(file))?;
        self.blob(file, &digest, meta.length.map_or(cap, |length| length.min(cap)))
    }
}

fn may_be_latest(descriptor: &Descriptor, called: Option<&str>) -> bool {
    descriptor.media_type == media_type::MANIFEST
        && descriptor.size <= MAX_MANIFEST as u64
        && called.is_none_or(|called| called.rsplit(':').next() == Some(LATEST))
}

impl Source for LayoutSource {
    async fn begin(&mut self, _entry: Option<&Entry>) -> Result<Begin, SourceError> {
        // It may have been replaced since.
        self.layout = Arc::new(Layout::open(&self.place)?);
        let mut found = self.found()?;
        if found.len() > 1 {
            let names: Vec<&str> =
                found.iter().map(|(name, _)| name.unwrap_or("one without a name")).collect();
            let (directory, names) = (self.place.clone(), names.join(", "));
            return Err(LayoutError::Several { directory, names }.into());
        }
        let (_, listing) = found.pop().ok_or_else(|| SourceError::Empty { location: self.location() })?;
        self.listing = listing;
        Ok(Begin::Changed)
    }

    async fn root(&mut self, version: u64) -> Result<Option<Vec<u8>>, SourceError> {
        match self.listing.root(version).cloned() {
            None => Ok(None),
            listed => self.listed(&format!("{version}.root.json"), listed, limit::ROOT).map(Some),
        }
    }

    async fn timestamp(&mut self) -> Result<Vec<u8>, SourceError> {
        self.listed("timestamp.json", self.listing.timestamp().cloned(), limit::TIMESTAMP)
    }

    async fn snapshot(&mut self, meta: &MetaFile, _consistent: bool) -> Result<Vec<u8>, SourceError> {
        let file = format!("{}.snapshot.json", meta.version);
        match self.listing.snapshot(meta.version).cloned() {
            None => self.by_hash(&file, meta, limit::SNAPSHOT),
            listed => self.listed(&file, listed, limit::SNAPSHOT),
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
            None => self.by_hash(&file, meta, limit::TARGETS),
            listed => self.listed(&file, listed, limit::TARGETS),
        }
    }

    fn entry(&self) -> Option<Entry> {
        None
    }

    fn location(&self) -> String {
        match &self.name {
            Some(name) => format!("oci:{}:{name}", self.place.display()),
            None => format!("oci:{}", self.place.display()),
        }
    }
}
