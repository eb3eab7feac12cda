//! Metadata from a plain TUF repository over HTTP, as the daemon serves it beside the registry.

use plimsoll_core::tuf::{MetaFile, limit};
use url::Url;

use super::{Begin, Source, SourceError};
use crate::{registry::Registry, state::Entry};

/// Reads a repository with consistent snapshots (TUF 1.0.34, section 6.2): `N.root.json`, `timestamp.json`,
/// `N.snapshot.json`, `N.ROLE.json` below one URL.
#[derive(Clone)]
pub struct TufSource {
    http: Registry,
    base: Url,
}

impl std::fmt::Debug for TufSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TufSource").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

impl TufSource {
    /// The repository whose files lie directly below `base`. No I/O.
    pub fn new(http: Registry, base: Url) -> Self {
        Self { http, base }
    }

    /// The file, or none for a plain 404.
    async fn file(&self, name: &str, cap: u64) -> Result<Option<Vec<u8>>, SourceError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // One segment, percent-encoded, whatever the role is called.
            segments.pop_if_empty().push(name);
        }
        Ok(self.http.file(&url, cap).await?.map(Into::into))
    }

    async fn required(&self, name: &str, cap: u64) -> Result<Vec<u8>, SourceError> {
        let gone = || SourceError::Gone { location: self.location(), file: name.to_owned() };
        self.file(name, cap).await?.ok_or_else(gone)
    }
}

impl Source for TufSource {
    async fn begin(&mut self, _entry: Option<&Entry>) -> Result<Begin, SourceError> {
        Ok(Begin::Changed)
    }

    async fn root(&mut self, version: u64) -> Result<Option<Vec<u8>>, SourceError> {
        self.file(&format!("{version}.root.json"), limit::ROOT).await
    }

    async fn timestamp(&mut self) -> Result<Vec<u8>, SourceError> {
        let file = self.file("timestamp.json", limit::TIMESTAMP).await?;
        file.ok_or_else(|| SourceError::Empty { location: self.location() })
    }

    async fn snapshot(&mut self, meta: &MetaFile, _consistent: bool) -> Result<Vec<u8>, SourceError> {
        self.required(&format!("{}.snapshot.json", meta.version), limit::SNAPSHOT).await
    }

    async fn targets(
        &mut self,
        role: &str,
        meta: &MetaFile,
        _consistent: bool,
    ) -> Result<Vec<u8>, SourceError> {
        self.required(&format!("{}.{role}.json", meta.version), limit::TARGETS).await
    }

    fn entry(&self) -> Option<Entry> {
        None
    }

    fn location(&self) -> String {
        self.base.to_string()
    }
}
