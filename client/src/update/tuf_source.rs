//! Metadata from a plain TUF repository over HTTP, as the daemon serves it beside the registry.

use plimsoll_core::tuf::{MetaFile, limit};
use url::Url;

use super::{
    Begin, Source, SourceError,
    urls::{below, segment},
};
use crate::{registry::Registry, state::Entry};

/// Reads a TUF repository below one URL: `N.root.json`, `timestamp.json`, and the other roles as `N.ROLE.json` with
/// consistent snapshots (TUF 1.0.34, 6.2), as `ROLE.json` without.
///
/// One GET for each file and nothing else. Role names are percent-encoded, so that each is one segment of the path;
/// the base URL is left as it is, its query included.
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
        Ok(self.http.file(&below(&self.base, &segment(name)), cap).await?.map(Into::into))
    }

    /// The file of `role` that `meta` describes, at most as long as it says (5.5.1, 5.6.1).
    async fn described(&self, role: &str, meta: &MetaFile, consistent: bool) -> Result<Vec<u8>, SourceError> {
        let name = if consistent { format!("{}.{role}.json", meta.version) } else { format!("{role}.json") };
        let cap = meta.length.map_or(limit::of(role), |length| length.min(limit::of(role)));
        let gone = || SourceError::Gone { location: self.location(), file: name.clone() };
        self.file(&name, cap).await?.ok_or_else(gone)
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

    async fn snapshot(&mut self, meta: &MetaFile, consistent: bool) -> Result<Vec<u8>, SourceError> {
        self.described("snapshot", meta, consistent).await
    }

    async fn targets(
        &mut self,
        role: &str,
        meta: &MetaFile,
        consistent: bool,
    ) -> Result<Vec<u8>, SourceError> {
        self.described(role, meta, consistent).await
    }

    fn entry(&self) -> Option<Entry> {
        None
    }

    fn location(&self) -> String {
        self.base.to_string()
    }
}
