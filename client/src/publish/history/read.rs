//! Fetches histories.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use plimsoll_core::tuf::{Document, MetaFile, Root, Snapshot};

use super::{
    Entry, Fault, History,
    check::{Eras, Role, Roots},
};
use crate::{
    publish::{PublishError, head::is_on_the_way},
    update::{Session, Source, SourceError, TufSource, UpdateError},
};

/// At most this many versions are read in one go, of all roles together.
pub const MAX_VERSIONS: u64 = 20_000;
/// At most this much is read in one go, bytes. Only two versions are held at a time.
pub const MAX_BYTES: u64 = 1 << 30;

/// What is published now, verified: which versions there are.
#[derive(Debug, Clone)]
pub struct Present {
    root: Document<Root>,
    snapshot: Snapshot,
    now: DateTime<Utc>,
}

impl Present {
    /// What `session` verified. No network. The session need not be held any longer.
    ///
    /// # Errors
    /// [`UpdateError`] if its snapshot cannot be read from the disk.
    pub fn of<S: Source>(session: &mut Session<S>) -> Result<Self, UpdateError> {
        let snapshot = session.verified_snapshot()?.signed.clone();
        let trusted = session.trusted();
        Ok(Self { root: Document::clone(trusted.root()), snapshot, now: trusted.now() })
    }
}

/// Reads the histories of all roles that `present` lists, or of `only` one of them and those on the way to it: `root` first,
/// then `targets`, then delegated roles, parents before children; removed roles too. `pinned` is the root document
/// that is trusted out of band.
///
/// One GET for each version of these roles, four at a time. What is wrong with a version is part of its history; see
/// [`History::faults`].
///
/// # Errors
/// [`PublishError::Update`] if something could not be fetched, [`PublishError::LongHistory`] beyond [`MAX_VERSIONS`] or
/// [`MAX_BYTES`], [`PublishError::UnknownRole`].
pub async fn read(
    source: &TufSource,
    pinned: &[u8],
    present: &Present,
    only: Option<&str>,
) -> Result<Vec<History>, PublishError> {
    let mut roots = Roots::new(pinned, present.now).map_err(UpdateError::from)?;
    let pinned = Document::<Root>::parse("root", pinned).map_err(UpdateError::from)?.version();
    let mut reader = Reader { source, versions: 0, bytes: 0 };
    let newest = present.root.version();
    reader.each("root", pinned + 1..newest, |version, bytes| roots.take(version, bytes)).await?;
    roots.newest(&present.root).map_err(UpdateError::from)?;
    let (root, targets) = roots.finish();

    let trust = present.root.signed.common.identity.as_ref().map(|identity| identity.trust.as_str());
    let mut histories = vec![root];
    let mut listed: BTreeMap<&str, &MetaFile> = present
        .snapshot
        .meta
        .iter()
        .filter_map(|(file, meta)| Some((file.strip_suffix(".json")?, meta)))
        .collect();
    let mut pending: VecDeque<(String, Eras)> = VecDeque::new();
    if only != Some("root") {
        pending.push_back(("targets".to_owned(), targets));
    }
    while let Some((role, eras)) = pending.pop_front() {
        // One that two roles delegate to belongs to the first; one that was never published has no history.
        let Some(meta) = listed.remove(role.as_str()) else { continue };
        let mut versions = Role::new(&role, trust, pinned, &eras);
        let head = meta.version;
        reader
            .each(&role, 1..head.saturating_add(1), |version, bytes| {
                versions.take(version, bytes, (version == head).then_some(meta));
            })
            .await?;
        let (history, below) = versions.finish();
        histories.push(history);
        // Of thousands, only those on the way are read.
        let wanted = |child: &str| only.is_none_or(|only| is_on_the_way(child, only));
        pending.extend(below.into_iter().filter(|(child, _)| wanted(child)));
    }
    match only {
        Some(only) if histories.iter().all(|history| history.role() != only) => {
            Err(PublishError::UnknownRole { role: only.to_owned(), roles: roles(&histories, &listed) })
        }
        Some(_) => Ok(histories),
        None => {
            let unproven = pinned > 1;
            histories
                .extend(listed.into_iter().map(|(role, meta)| orphan(role, meta.version, unproven, pinned)));
            Ok(histories)
        }
    }
}

fn roles(histories: &[History], listed: &BTreeMap<&str, &MetaFile>) -> String {
    const SHOWN: usize = 20;
    let known = histories.iter().map(History::role).chain(listed.keys().copied());
    known.take(SHOWN).collect::<Vec<_>>().join(", ")
}

/// A role that the snapshot lists and nobody is known to have delegated to. With a pinned root above the first one, it may
/// have been removed before that.
fn orphan(role: &str, version: u64, unproven: bool, pinned: u64) -> History {
    let fault = if unproven { Fault::Unproven { pinned } } else { Fault::Orphan };
    let entries = vec![Entry::faulty(role, version, fault)];
    History { role: role.to_owned(), entries, present: std::collections::BTreeSet::new() }
}

/// Fetches versions, as many as there may be.
struct Reader<'a> {
    source: &'a TufSource,
    versions: u64,
    bytes: u64,
}

impl Reader<'_> {
    /// Gives every one of `versions` of `role` to `take`, in order; none for one that the daemon does not have.
    async fn each(
        &mut self,
        role: &str,
        versions: std::ops::Range<u64>,
        mut take: impl FnMut(u64, Option<&[u8]>),
    ) -> Result<(), PublishError> {
        let too_long = || PublishError::LongHistory { role: role.to_owned() };
        self.versions = self.versions.saturating_add(versions.end.saturating_sub(versions.start));
        if self.versions > MAX_VERSIONS {
            return Err(too_long());
        }
        let (source, end) = (self.source, versions.end);
        let fetch = async |version: u64| {
            if version < end { file(source, role, version).await } else { Ok(None) }
        };
        let mut at = versions.start;
        while at < end {
            let four = tokio::join!(fetch(at), fetch(at + 1), fetch(at + 2), fetch(at + 3));
            for (version, file) in (at..end).zip([four.0, four.1, four.2, four.3]) {
                let file = file?;
                self.bytes += file.as_ref().map_or(0, |bytes| bytes.len() as u64);
                if self.bytes > MAX_BYTES {
                    return Err(too_long());
                }
                take(version, file.as_deref());
            }
            at += 4;
        }
        Ok(())
    }
}

async fn file(source: &TufSource, role: &str, version: u64) -> Result<Option<Vec<u8>>, UpdateError> {
    let mut source = source.clone();
    if role == "root" {
        return Ok(source.root(version).await?);
    }
    let meta = MetaFile { version, length: None, hashes: None, extra: BTreeMap::new() };
    match source.targets(role, &meta, true).await {
        Err(SourceError::Gone { .. }) => Ok(None),
        other => Ok(other.map(Some)?),
    }
}

#[cfg(test)]
pub(super) fn present(root: &[u8], snapshot: Snapshot, now: DateTime<Utc>) -> Present {
    Present { root: Document::parse("root", root).expect("a root"), snapshot, now }
}
