//! What the far side has already: so that a bundle brings what is new, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use plimsoll_core::{oci::Digest, record, tuf::json};
use serde::Deserialize;

use super::BundleError;
use crate::state;

/// A state may be this long, bytes.
const MAX_STATE: u64 = 64 << 20;

/// What the far side has, by its own word. It decides what is left out of a bundle, and nothing else: what is left out and
/// is not there is named when the bundle is imported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    blobs: BTreeSet<Digest>,
    /// By trust id, the newest root: those before it are there as well.
    roots: BTreeMap<Option<String>, u64>,
}

/// What `bundle inspect` and `bundle import` print with `-o json`, or a floor (`trust floor`).
#[derive(Deserialize)]
struct State {
    bundle: Option<u64>,
    #[serde(default)]
    blobs: Vec<Digest>,
    floor: Option<u64>,
    trust: Option<String>,
    root: Option<Mark>,
    timestamp: Option<Mark>,
    snapshot: Option<Mark>,
    #[serde(default)]
    roles: BTreeMap<String, Mark>,
}

#[derive(Deserialize)]
struct Mark {
    version: u64,
    digest: Option<Digest>,
}

impl Known {
    /// Reads the file `path`, strictly.
    ///
    /// # Errors
    /// [`BundleError::Read`], [`BundleError::Json`], [`BundleError::State`].
    pub fn read(path: &Path) -> Result<Self, BundleError> {
        let at = || path.to_owned();
        let read =
            state::read(path, MAX_STATE).and_then(|bytes| bytes.ok_or(std::io::ErrorKind::NotFound.into()));
        let bytes = read.map_err(|source| BundleError::Read { path: at(), source })?;
        json::check(&bytes).map_err(|source| BundleError::Json { path: at(), source })?;
        let unknown = || BundleError::State { path: at() };
        let state: State = record::json(&bytes).map_err(|_| unknown())?;
        match (state.bundle, state.floor) {
            (Some(1), None) => Ok(Self { blobs: state.blobs.into_iter().collect(), roots: BTreeMap::new() }),
            (None, Some(1)) => {
                let roots = state.root.iter().map(|root| (state.trust.clone(), root.version)).collect();
                let marks = [state.root, state.timestamp, state.snapshot].into_iter().flatten();
                let marks = marks.chain(state.roles.into_values());
                Ok(Self { blobs: marks.filter_map(|mark| mark.digest).collect(), roots })
            }
            _ => Err(unknown()),
        }
    }

    /// True if the far side has the blob.
    pub fn has(&self, digest: &Digest) -> bool {
        self.blobs.contains(digest)
    }

    /// True if the far side has the root of `version` of the trust repository `trust`.
    pub fn has_root(&self, trust: Option<&str>, version: u64) -> bool {
        self.roots.get(&trust.map(str::to_owned)).is_some_and(|newest| version <= *newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Known, BundleError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Known::read(file.path())
    }

    #[test]
    fn a_floor_and_an_inspection_say_what_is_there() {
        let [one, two] = [Digest::of(b"1"), Digest::of(b"2")];
        let known = read(&format!(r#"{{"bundle":1,"blobs":["{one}"],"trusts":[{{}}]}}"#)).unwrap();
        assert!(known.has(&one) && !known.has(&two) && !known.has_root(None, 1));
        let known = read(&format!(
            r#"{{"floor":1,"trust":"ab","pinned":"{one}","as-of":"2026-01-31T12:00:00Z",
               "root":{{"version":3,"digest":"{one}"}},"timestamp":{{"version":8,"digest":"{one}","keys":["k"]}},
               "snapshot":{{"version":2,"digest":"{one}","keys":[]}},"roles":{{"targets":{{"version":1,"digest":"{two}"}}}}}}"#
        ))
        .unwrap();
        assert!(known.has(&one) && known.has(&two));
        assert!(known.has_root(Some("ab"), 3) && !known.has_root(Some("ab"), 4) && !known.has_root(None, 1));
    }

    #[test]
    fn what_is_neither_is_refused() {
        for other in
            ["{}", "[]", r#"{"bundle":2}"#, r#"{"bundle":1,"floor":1}"#, r#"{"bundle":1,"blobs":["x"]}"#]
        {
            assert!(matches!(read(other), Err(BundleError::State { .. })), "{other}");
        }
        assert!(matches!(read(r#"{"bundle":1,"bundle":1}"#), Err(BundleError::Json { .. })));
        assert!(matches!(Known::read(Path::new("/nowhere/x")), Err(BundleError::Read { .. })));
    }
}
