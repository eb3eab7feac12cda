//! Where the files of one trusted state lie.

use std::path::{Path, PathBuf};

use plimsoll_core::oci::Digest;

use crate::percent::{encoded, unreserved};

/// The view that covers a whole trust repository; the only one there is today.
const WHOLE: &str = "whole";
/// The folder with our own files in a folder of documents.
const OWN: &str = ".plimsoll";
/// Longer names are not possible on common file systems.
const MAX_NAME: usize = 200;

/// The key of a state folder: a trust id, or for foreign repositories the sha256 of the pinned root, in hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateKey(String);

impl StateKey {
    /// The key of the trust repository that the pinned root starts.
    pub fn of(root: &[u8], trust_id: Option<&str>) -> Self {
        match trust_id {
            // Only what is safe as a folder name is taken as it is; an odd id is hashed like a foreign root.
            Some(id) if id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) => {
                Self(id.to_owned())
            }
            Some(id) => Self(Digest::of(id.as_bytes()).hex()),
            None => Self(Digest::of(root).hex()),
        }
    }

    /// The folder below `base`.
    pub fn folder(&self, base: &Path) -> PathBuf {
        base.join(&self.0).join(WHOLE)
    }

    /// The folder below `base` with all views, what a reset removes.
    pub fn all_views(&self, base: &Path) -> PathBuf {
        base.join(&self.0)
    }
}

/// Where the files of one trusted state lie. No I/O.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    folder: PathBuf,
    shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Keyed,
    Documents,
}

impl Place {
    /// The folder of `key` below `base`, which is ours alone.
    pub fn keyed(base: &Path, key: &StateKey) -> Self {
        Self { folder: key.folder(base), shape: Shape::Keyed }
    }

    /// A folder of documents that other programs read: `ROLE.json` for every role, the name percent-encoded but for
    /// ASCII letters, digits and `-._~`. Everything that only we need lies in `.plimsoll/` there, under names that do
    /// not end in `.json`.
    pub fn documents(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), shape: Shape::Documents }
    }

    /// The folder with our own files, whose mode must be 0700.
    pub(super) fn own(&self) -> PathBuf {
        match self.shape {
            Shape::Keyed => self.folder.clone(),
            Shape::Documents => self.folder.join(OWN),
        }
    }

    /// The folders between ours and those that are the user's own business, which nobody else may write.
    pub(super) fn above(&self) -> Vec<PathBuf> {
        match self.shape {
            Shape::Keyed => self.folder.ancestors().skip(1).take(2).map(Path::to_owned).collect(),
            Shape::Documents => Vec::new(),
        }
    }

    /// Every folder that must exist.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.own().join("roots"), self.own().join("snapshots")];
        if self.shape == Shape::Keyed {
            folders.push(self.folder.join("roles"));
        }
        folders
    }

    pub(super) fn document(&self, role: &str) -> PathBuf {
        match (self.shape, role) {
            (_, "root" | "timestamp" | "snapshot" | "targets") => self.folder.join(format!("{role}.json")),
            // Hashed, so that no role name is ever a path.
            (Shape::Keyed, _) => self.folder.join("roles").join(format!("{}.json", hashed(role))),
            (Shape::Documents, _) => self.folder.join(format!("{}.json", file_name(role))),
        }
    }

    pub(super) fn root(&self, version: u64) -> PathBuf {
        self.own().join("roots").join(self.named(&version.to_string()))
    }

    /// The record's own copy of a snapshot.
    pub(super) fn snapshot(&self, digest: &Digest) -> PathBuf {
        self.own().join("snapshots").join(self.named(&digest.hex()))
    }

    pub(super) fn memory(&self) -> PathBuf {
        self.own().join(self.named("memory"))
    }

    pub(super) fn entry(&self) -> PathBuf {
        self.own().join(self.named("entry"))
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.own().join("lock")
    }

    fn named(&self, name: &str) -> String {
        match self.shape {
            Shape::Keyed => format!("{name}.json"),
            Shape::Documents => name.to_owned(),
        }
    }
}

fn hashed(role: &str) -> String {
    Digest::of(role.as_bytes()).hex()
}

/// The name of `role` as a file name: one segment, never hidden, never the name of a top-level role's file.
fn file_name(role: &str) -> String {
    let name = encoded(role, |at, byte| unreserved(byte) && (at, byte) != (0, b'.'));
    if name.len() > MAX_NAME { hashed(role) } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T60: no role name is a path, hides a file or takes another role's place.
    #[test]
    fn role_names_are_file_names_inside_the_folder() {
        let long = "x".repeat(300);
        let names =
            ["../x", "/x", "a\0b", ".", "..", "a/b", "a\\b", "?", "#", "%2e%2e", "", ".plimsoll", "é", &long];
        for place in
            [Place::documents(Path::new("/d")), Place::keyed(Path::new("/d"), &StateKey::of(b"", None))]
        {
            let mut seen = std::collections::BTreeSet::new();
            for role in names {
                let path = place.document(role);
                let folder = place.document("targets");
                assert!(path.starts_with(folder.parent().unwrap()), "{role:?}: {}", path.display());
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                assert!(!name.contains(['/', '\0']) && !name.starts_with("..") && name.len() < 255, "{name}");
                assert!(seen.insert(path), "{role:?} is not alone under its name");
            }
        }
    }
}
