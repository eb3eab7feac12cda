//! Several places for the metadata of one root: transport only, and the newest valid one wins.
//!
//! All places are asked, in order, each in a round of its own over the same trusted state. So a mirror that lags hides
//! nothing that another place shows, and who owns one place can take nothing away that another one gives.

use std::path::{Path, PathBuf};

use plimsoll_core::{
    policy::{Place, Verdict},
    tuf::{self, Document, HighWater, MetaFile, Root, Trusted},
};
use url::Url;

use super::{
    Begin, Bounds, LayoutSource, RegistrySource, Remembers, Session, Source, SourceError, TufSource,
    UpdateError, place_of,
};
use crate::{registry::Registry, state::Entry};

/// A place of any kind that a policy can name.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum AnySource {
    /// A trust repository in a registry.
    Registry(RegistrySource),
    /// Plain TUF files over HTTP.
    Tuf(TufSource),
    /// An image layout.
    Layout(LayoutPlace),
}

/// An image layout that is opened when it is asked, so that one that is not there is a place that failed, and no more.
#[derive(Debug, Clone)]
pub struct LayoutPlace {
    path: PathBuf,
    trust: Option<String>,
    opened: Option<LayoutSource>,
}

impl AnySource {
    /// The place `place` of a policy in the folder `beside`, for the root document `pinned`: of several trust repositories in
    /// a layout, the one with its trust id. No I/O.
    pub fn new(http: Registry, place: &Place, beside: &Path, pinned: &[u8]) -> Self {
        match place {
            Place::Registry(repository) => Self::Registry(RegistrySource::new(http, repository.clone())),
            Place::Tuf(url) => {
                let url = Url::parse(url).expect("the policy's check refuses what is no URL");
                Self::Tuf(TufSource::new(http, url))
            }
            Place::Layout(path) => {
                let document = Document::<Root>::parse("root", pinned).ok();
                let identity = document.and_then(|document| document.signed.common.identity.clone());
                Self::Layout(LayoutPlace::new(beside.join(path), identity.map(|identity| identity.trust)))
            }
        }
    }
}

impl LayoutPlace {
    /// The layout at `path`, a directory or an archive; of several trust repositories in it the one of the id `trust`. No
    /// I/O.
    pub fn new(path: PathBuf, trust: Option<String>) -> Self {
        Self { path, trust, opened: None }
    }

    /// What the trust repository is called in the layout, without `:latest`; none if it has no name, or there are several.
    ///
    /// # Errors
    /// [`SourceError`]: there is no layout, or none with the trust repository.
    pub fn called(&self) -> Result<Option<String>, SourceError> {
        LayoutSource::open(&self.path, None)?.of_trust(self.trust.as_deref()).called()
    }

    /// The layout, once a round has begun.
    fn opened(&mut self) -> Result<&mut LayoutSource, SourceError> {
        let location = self.location();
        self.opened.as_mut().ok_or(SourceError::Empty { location })
    }
}

impl Source for LayoutPlace {
    async fn begin(&mut self, entry: Option<&Entry>) -> Result<Begin, SourceError> {
        let source = LayoutSource::open(&self.path, None)?.of_trust(self.trust.as_deref());
        self.opened.insert(source).begin(entry).await
    }

    async fn root(&mut self, version: u64) -> Result<Option<Vec<u8>>, SourceError> {
        self.opened()?.root(version).await
    }

    async fn timestamp(&mut self) -> Result<Vec<u8>, SourceError> {
        self.opened()?.timestamp().await
    }

    async fn snapshot(&mut self, meta: &MetaFile, consistent: bool) -> Result<Vec<u8>, SourceError> {
        self.opened()?.snapshot(meta, consistent).await
    }

    async fn targets(
        &mut self,
        role: &str,
        meta: &MetaFile,
        consistent: bool,
    ) -> Result<Vec<u8>, SourceError> {
        self.opened()?.targets(role, meta, consistent).await
    }

    fn entry(&self) -> Option<Entry> {
        self.opened.as_ref().and_then(Source::entry)
    }

    fn location(&self) -> String {
        format!("oci:{}", self.path.display())
    }
}

/// Does the same with whichever source it is.
macro_rules! each {
    ($any:expr, $source:ident => $call:expr) => {
        match $any {
            AnySource::Registry($source) => $call,
            AnySource::Tuf($source) => $call,
            AnySource::Layout($source) => $call,
        }
    };
}

impl Source for AnySource {
    async fn begin(&mut self, entry: Option<&Entry>) -> Result<Begin, SourceError> {
        each!(self, source => source.begin(entry).await)
    }

    async fn root(&mut self, version: u64) -> Result<Option<Vec<u8>>, SourceError> {
        each!(self, source => source.root(version).await)
    }

    async fn timestamp(&mut self) -> Result<Vec<u8>, SourceError> {
        each!(self, source => source.timestamp().await)
    }

    async fn snapshot(&mut self, meta: &MetaFile, consistent: bool) -> Result<Vec<u8>, SourceError> {
        each!(self, source => source.snapshot(meta, consistent).await)
    }

    async fn targets(
        &mut self,
        role: &str,
        meta: &MetaFile,
        consistent: bool,
    ) -> Result<Vec<u8>, SourceError> {
        each!(self, source => source.targets(role, meta, consistent).await)
    }

    fn entry(&self) -> Option<Entry> {
        each!(self, source => source.entry())
    }

    fn location(&self) -> String {
        each!(self, source => source.location())
    }
}

/// One or more places, of which one is asked at a time.
#[derive(Debug, Clone)]
pub struct Places<S> {
    sources: Vec<S>,
    at: usize,
}

impl<S: Source> Places<S> {
    /// The places in the order in which they are asked.
    ///
    /// # Panics
    /// If there is none.
    pub fn new(sources: Vec<S>) -> Self {
        assert!(!sources.is_empty(), "a root has a place: the policy's check refuses one without");
        Self { sources, at: 0 }
    }

    fn current(&mut self) -> &mut S {
        &mut self.sources[self.at]
    }

    /// A file that the metadata describes: from the current place or, where that has none that fits, from another one.
    async fn described(
        &mut self,
        role: Option<&str>,
        meta: &MetaFile,
        consistent: bool,
    ) -> Result<Vec<u8>, SourceError> {
        let first = file(self.current(), role, meta, consistent).await;
        if self.sources.len() == 1 || first.as_ref().is_ok_and(|bytes| meta.fits(bytes)) {
            return first;
        }
        let others = (0..self.sources.len()).filter(|at| *at != self.at).collect::<Vec<_>>();
        for at in others {
            match file(&mut self.sources[at], role, meta, consistent).await {
                Ok(bytes) if meta.fits(&bytes) => return Ok(bytes),
                _ => {}
            }
        }
        first
    }
}

async fn file<S: Source>(
    source: &mut S,
    role: Option<&str>,
    meta: &MetaFile,
    consistent: bool,
) -> Result<Vec<u8>, SourceError> {
    match role {
        None => source.snapshot(meta, consistent).await,
        Some(role) => source.targets(role, meta, consistent).await,
    }
}

impl<S: Source> Source for Places<S> {
    async fn begin(&mut self, entry: Option<&Entry>) -> Result<Begin, SourceError> {
        self.current().begin(entry).await
    }

    async fn root(&mut self, version: u64) -> Result<Option<Vec<u8>>, SourceError> {
        self.current().root(version).await
    }

    async fn other_roots(&mut self, version: u64) -> Vec<Vec<u8>> {
        let (mut roots, at) = (Vec::new(), self.at);
        for (_, source) in self.sources.iter_mut().enumerate().filter(|(other, _)| *other != at) {
            let mut found = source.root(version).await;
            // One that was asked before others, and had nothing new then, has not told what it has.
            if matches!(found, Ok(None)) && source.begin(None).await.is_ok() {
                found = source.root(version).await;
            }
            roots.extend(found.ok().flatten());
        }
        roots
    }

    async fn timestamp(&mut self) -> Result<Vec<u8>, SourceError> {
        self.current().timestamp().await
    }

    async fn snapshot(&mut self, meta: &MetaFile, consistent: bool) -> Result<Vec<u8>, SourceError> {
        self.described(None, meta, consistent).await
    }

    async fn targets(
        &mut self,
        role: &str,
        meta: &MetaFile,
        consistent: bool,
    ) -> Result<Vec<u8>, SourceError> {
        self.described(Some(role), meta, consistent).await
    }

    /// Of the first place only: there is room for one, and taking turns would spare nobody a request.
    fn entry(&self) -> Option<Entry> {
        if self.at == 0 { self.sources[0].entry() } else { None }
    }

    fn location(&self) -> String {
        self.sources[self.at].location()
    }
}

impl<S: Source> Session<Places<S>> {
    /// Opens the state of the trust repository that the root document `pinned` starts, below `base`, and brings it up to
    /// date from all of `places`. One place costs what [`Session::refresh`] costs; each further one as much again.
    ///
    /// A place that fails, or shows something older than was remembered, is skipped if another one is good:
    /// [`Session::skipped`]. One that only lags behind another place is no failure at all.
    ///
    /// # Errors
    /// The gravest [`UpdateError`] of all places if none is good, or if one showed something newer that is genuine and
    /// cannot be had: what is older than that is not good any more.
    pub async fn refresh_places(
        places: Places<S>,
        base: &Path,
        pinned: &[u8],
        now: chrono::DateTime<chrono::Utc>,
        bounds: &Bounds,
    ) -> Result<Self, UpdateError> {
        let mut session =
            Self::open(places, &place_of(base, pinned)?, pinned, now, bounds, Remembers::All).await?;
        let remembered = session.trusted.memory().clone();
        let entry = session.state.entry()?;
        let mut good: Option<(usize, Trusted)> = None;
        let mut failed = Vec::new();
        for at in 0..session.source.sources.len() {
            session.source.at = at;
            if at > 0 {
                session.restart()?;
            }
            session.refetched = false;
            match session.whole_round(entry.as_ref().filter(|_| at == 0)).await {
                Ok(()) => {
                    let tie = good.as_ref().filter(|(_, best)| same(best.memory(), session.trusted.memory()));
                    good = Some((tie.map_or(at, |(first, _)| *first), session.trusted.clone()));
                }
                Err(error) if error.verdict().is_none() => return Err(error),
                Err(error) => {
                    let lags = lags(&error, &remembered, session.trusted.memory());
                    failed.push((session.source.location(), error, lags));
                }
            }
        }
        match good {
            Some((at, trusted)) if same(trusted.memory(), session.trusted.memory()) => {
                session.source.at = at;
                session.trusted = trusted;
                session.refetched = false;
                let grave = failed.into_iter().filter(|(_, _, lags)| !lags);
                session.skipped = grave.map(|(place, error, _)| (place, error)).collect();
                Ok(session)
            }
            _ => Err(gravest(failed)),
        }
    }

    /// The places that gave nothing good while another one did, and why. Those that merely lag are not among them.
    pub fn skipped(&self) -> &[(String, UpdateError)] {
        &self.skipped
    }
}

/// True if both have seen the same top of the repository.
fn same(one: &HighWater, other: &HighWater) -> bool {
    let top = |memory: &HighWater| (memory.root, memory.timestamp, memory.snapshot_named, memory.snapshot);
    top(one) == top(other)
}

/// True if a place is only older than what another place showed in this very run, and not than what was remembered.
fn lags(error: &UpdateError, remembered: &HighWater, now: &HighWater) -> bool {
    let newest = |memory: &HighWater, role: &str| {
        let snapshot = memory.snapshot.map(|seen| seen.version);
        match role {
            "root" => memory.root.map(|seen| seen.version),
            "timestamp" => memory.timestamp.map(|seen| seen.version),
            "snapshot" => snapshot.max(memory.snapshot_named.map(|seen| seen.version)),
            // A targets role is held to what the snapshot lists.
            _ => snapshot,
        }
    };
    let UpdateError::Tuf(error) = error else { return false };
    match error.without_floor() {
        tuf::Error::Rollback { role, held, offered } => {
            let (before, after) = (newest(remembered, role), newest(now, role));
            match role.as_str() {
                "root" | "timestamp" | "snapshot" => {
                    Some(*offered) >= before && Some(*held) <= after && before < after
                }
                _ => before < after,
            }
        }
        tuf::Error::RoleRemoved { role } => newest(remembered, role) < newest(now, role),
        _ => false,
    }
}

/// The gravest failure. That a place lags counts only if there is nothing else to say.
fn gravest(failed: Vec<(String, UpdateError, bool)>) -> UpdateError {
    let gravity =
        |error: &UpdateError| Verdict::BY_GRAVITY.iter().position(|grave| Some(*grave) == error.verdict());
    let gravest = failed.into_iter().min_by_key(|(_, error, lags)| (*lags, gravity(error)));
    gravest.expect("no place is good, so one failed").1
}
