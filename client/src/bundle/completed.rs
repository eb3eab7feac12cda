//! What a delta leaves out, from where it goes to: hints like the bundle itself, each held to its digest.

use std::{collections::BTreeMap, sync::Arc};

use plimsoll_core::{oci::Digest, tuf::MetaFile};

use super::{Bundle, BundleError, Site};
use crate::{
    state::Entry,
    update::{Begin, LayoutSource, Source, SourceError},
};

/// How much metadata that a bundle lacks is read from where it goes to, bytes in all.
const MAX_COMPLETED: u64 = 512 << 20;

/// What `bundle` names and does not have, from where it goes to.
pub(super) async fn completed(
    site: &Site,
    bundle: &Bundle,
) -> Result<BTreeMap<Digest, Vec<u8>>, BundleError> {
    let mut completed = BTreeMap::new();
    let mut left = MAX_COMPLETED;
    for missing in bundle.missing() {
        let spot = site.spot(&missing.repository)?;
        let found = if missing.metadata && missing.bytes <= left {
            let bytes = spot.blob(&missing.digest, missing.bytes).await?;
            left -= bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
            bytes.map(|bytes| completed.insert(missing.digest, bytes)).is_some()
        } else {
            !missing.metadata && spot.has(&missing.digest).await?
        };
        if !found {
            let (what, digest) = (missing.what.clone(), missing.digest);
            return Err(BundleError::Incomplete { what, digest, place: spot.place() });
        }
    }
    Ok(completed)
}

/// A bundle, and what it leaves out.
pub(super) struct Completed {
    pub(super) bundle: LayoutSource,
    pub(super) files: Arc<BTreeMap<Digest, Vec<u8>>>,
}

impl Completed {
    fn or_there(
        &self,
        found: Result<Vec<u8>, SourceError>,
        digest: Option<Digest>,
    ) -> Result<Vec<u8>, SourceError> {
        match found {
            Err(SourceError::Gone { location, file }) => {
                let there = digest.and_then(|digest| self.files.get(&digest).cloned());
                there.ok_or(SourceError::Gone { location, file })
            }
            found => found,
        }
    }
}

impl Source for Completed {
    async fn begin(&mut self, entry: Option<&Entry>) -> Result<Begin, SourceError> {
        self.bundle.begin(entry).await
    }

    async fn root(&mut self, version: u64) -> Result<Option<Vec<u8>>, SourceError> {
        let listed = self.bundle.listing().root(version).map(|listed| listed.digest);
        match self.bundle.root(version).await {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => Ok(Some(bytes)),
            Err(error) => self.or_there(Err(error), listed).map(Some),
        }
    }

    async fn timestamp(&mut self) -> Result<Vec<u8>, SourceError> {
        let listed = self.bundle.listing().timestamp().map(|listed| listed.digest);
        let found = self.bundle.timestamp().await;
        self.or_there(found, listed)
    }

    async fn snapshot(&mut self, meta: &MetaFile, consistent: bool) -> Result<Vec<u8>, SourceError> {
        let listed = self.bundle.listing().snapshot(meta.version).map(|listed| listed.digest);
        let found = self.bundle.snapshot(meta, consistent).await;
        self.or_there(found, listed.or(meta.digest()))
    }

    async fn targets(
        &mut self,
        role: &str,
        meta: &MetaFile,
        consistent: bool,
    ) -> Result<Vec<u8>, SourceError> {
        let found = self.bundle.targets(role, meta, consistent).await;
        self.or_there(found, meta.digest())
    }

    fn entry(&self) -> Option<Entry> {
        None
    }

    fn location(&self) -> String {
        self.bundle.location()
    }
}
