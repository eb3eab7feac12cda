//! From TUF files to manifests.

use std::collections::BTreeMap;

use data_encoding::BASE64;

use super::{
    ARTIFACT_TYPE, FILENAME, INLINE_MAX, LATEST, MAX_LAYERS, METADATA_TYPE, ROLE_ARTIFACT_TYPE, SNAPSHOTS,
    TIMESTAMP, file_name, role_tag,
};
use crate::oci::{Descriptor, Digest, EMPTY_CONFIG, Manifest, media_type};

/// Which manifest members a registry is trusted to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// OCI image spec 1.1: `artifactType`, an empty config, small files inside the manifest (`data`).
    #[default]
    Oci11,
    /// OCI image spec 1.0: no `artifactType`, the config's media type says what the artifact is; no `data`, which 1.0
    /// reserves.
    Oci10,
}

/// A manifest ready to push, with the blobs it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Where the manifest goes.
    pub tag: String,
    /// The manifest's bytes. Equal input gives equal bytes.
    pub manifest: Vec<u8>,
    /// sha256 of [`manifest`](Self::manifest).
    pub digest: Digest,
    /// What must be in the repository before the manifest, in push order, the config first, each digest once.
    pub blobs: Vec<(Digest, Vec<u8>)>,
}

/// The top-level files of a trust repository, each as its version and verbatim bytes.
#[derive(Debug, Clone)]
pub struct RepositoryFiles<'a> {
    /// The current timestamp.
    pub timestamp: &'a [u8],
    /// The snapshots; the [`SNAPSHOTS`] with the highest versions are written.
    pub snapshots: Vec<(u64, &'a [u8])>,
    /// The current top-level targets.
    pub targets: (u64, &'a [u8]),
    /// Every root since version 1, in any order.
    pub roots: Vec<(u64, &'a [u8])>,
}

/// A file of a trust repository by what a manifest says of it.
#[derive(Debug, Clone, Copy)]
pub struct FileEntry<'a> {
    /// Its version.
    pub version: u64,
    /// sha256 of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Its bytes; needed only if they travel inside the manifest: see [`travels_inside`].
    pub bytes: Option<&'a [u8]>,
}

impl<'a> FileEntry<'a> {
    /// The entry of `bytes`.
    pub fn of(version: u64, bytes: &'a [u8]) -> Self {
        Self { version, digest: Digest::of(bytes), size: bytes.len() as u64, bytes: Some(bytes) }
    }
}

/// The top-level files of a trust repository by their entries, as [`RepositoryFiles`] has them whole.
#[derive(Debug, Clone)]
pub struct RepositoryEntries<'a> {
    /// The current timestamp.
    pub timestamp: FileEntry<'a>,
    /// The snapshots; the [`SNAPSHOTS`] with the highest versions are written.
    pub snapshots: Vec<FileEntry<'a>>,
    /// The current top-level targets.
    pub targets: FileEntry<'a>,
    /// Every root since version 1, in any order.
    pub roots: Vec<FileEntry<'a>>,
}

/// True if the newest snapshot or `targets` of `size` bytes is put inside the manifest. The timestamp always is.
pub fn travels_inside(size: u64) -> bool {
    size <= INLINE_MAX as u64
}

/// The artifact at [`LATEST`], with its blobs: see [`entry_point`].
pub fn repository(files: &RepositoryFiles<'_>, profile: Profile) -> Artifact {
    let all =
        |files: &[(u64, _)]| files.iter().map(|&(version, bytes)| FileEntry::of(version, bytes)).collect();
    let entries = RepositoryEntries {
        timestamp: FileEntry::of(0, files.timestamp),
        snapshots: all(&files.snapshots),
        targets: FileEntry::of(files.targets.0, files.targets.1),
        roots: all(&files.roots),
    };
    draft_of(&entries, profile).finish(LATEST.to_owned())
}

/// The manifest at [`LATEST`] and its sha256. A blob for each file, and the empty config, must be there before it.
pub fn entry_point(files: &RepositoryEntries<'_>, profile: Profile) -> (Vec<u8>, Digest) {
    let artifact = draft_of(files, profile).finish(LATEST.to_owned());
    (artifact.manifest, artifact.digest)
}

/// Layers in the order that a client needs them: the timestamp, the newest snapshot, targets, the roots from the newest
/// down, older snapshots. Versions within one role are distinct; of two equal ones the first is written. Roots beyond what
/// a reader takes ([`MAX_LAYERS`]) are left out from the oldest up, so everyone but holders of those keeps working.
fn draft_of(files: &RepositoryEntries<'_>, profile: Profile) -> Draft {
    let snapshots = newest_first(&files.snapshots);
    let mut snapshots = snapshots.iter().take(SNAPSHOTS);
    let mut draft = Draft::new(ARTIFACT_TYPE, profile);
    draft.layer(TIMESTAMP.to_owned(), &files.timestamp, true);
    if let Some(snapshot) = snapshots.next() {
        draft.layer(file_name("snapshot", snapshot.version), snapshot, travels_inside(snapshot.size));
    }
    let targets = &files.targets;
    draft.layer(file_name("targets", targets.version), targets, travels_inside(targets.size));
    // Besides the roots: timestamp, targets, snapshots.
    for root in newest_first(&files.roots).into_iter().take(MAX_LAYERS - 2 - SNAPSHOTS) {
        draft.layer(file_name("root", root.version), &root, false);
    }
    for snapshot in snapshots {
        draft.layer(file_name("snapshot", snapshot.version), snapshot, false);
    }
    draft
}

/// The artifact of one delegated role, at its [`role_tag`]: its current version, then the previous one if there is one.
pub fn role(role: &str, current: (u64, &[u8]), previous: Option<(u64, &[u8])>, profile: Profile) -> Artifact {
    let mut draft = Draft::new(ROLE_ARTIFACT_TYPE, profile);
    for (version, bytes) in [Some(current), previous].into_iter().flatten() {
        draft.layer(file_name(role, version), &FileEntry::of(version, bytes), false);
    }
    draft.finish(role_tag(role))
}

fn newest_first<'a>(files: &[FileEntry<'a>]) -> Vec<FileEntry<'a>> {
    let mut files = files.to_vec();
    files.sort_by_key(|file| std::cmp::Reverse(file.version));
    files.dedup_by_key(|file| file.version);
    files
}

/// A manifest in the making.
struct Draft {
    profile: Profile,
    manifest: Manifest,
    blobs: Vec<(Digest, Vec<u8>)>,
}

impl Draft {
    fn new(artifact_type: &str, profile: Profile) -> Self {
        let (artifact_type, config_type) = match profile {
            Profile::Oci11 => (Some(artifact_type.to_owned()), media_type::EMPTY),
            Profile::Oci10 => (None, artifact_type),
        };
        Self {
            profile,
            manifest: Manifest {
                schema_version: 2,
                media_type: Some(media_type::MANIFEST.to_owned()),
                artifact_type,
                config: Descriptor::of(config_type, EMPTY_CONFIG),
                layers: Vec::new(),
                annotations: BTreeMap::new(),
            },
            blobs: vec![(Digest::of(EMPTY_CONFIG), EMPTY_CONFIG.to_vec())],
        }
    }

    /// Adds a file. Inline or not, it is a blob too: a reader may ignore `data`, and other tools copy blobs.
    fn layer(&mut self, name: String, file: &FileEntry<'_>, inline: bool) {
        let inside = file.bytes.filter(|_| inline && self.profile == Profile::Oci11);
        let layer = Descriptor {
            size: file.size,
            digest: file.digest,
            data: inside.map(|bytes| BASE64.encode(bytes)),
            media_type: METADATA_TYPE.to_owned(),
            annotations: BTreeMap::from([(FILENAME.to_owned(), name)]),
        };
        if let Some(bytes) = file.bytes
            && self.blobs.iter().all(|(digest, _)| *digest != layer.digest)
        {
            self.blobs.push((layer.digest, bytes.to_vec()));
        }
        self.manifest.layers.push(layer);
    }

    fn finish(self, tag: String) -> Artifact {
        let manifest = self.manifest.to_bytes();
        Artifact { tag, digest: Digest::of(&manifest), manifest, blobs: self.blobs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(artifact: &Artifact) -> Vec<String> {
        let manifest = Manifest::parse(&artifact.manifest).unwrap();
        manifest.layers.into_iter().map(|mut layer| layer.annotations.remove(FILENAME).unwrap()).collect()
    }

    fn inline(artifact: &Artifact) -> Vec<bool> {
        let manifest = Manifest::parse(&artifact.manifest).unwrap();
        manifest.layers.iter().map(|layer| layer.data.is_some()).collect()
    }

    #[test]
    fn layers_come_in_the_order_of_need_whatever_the_order_given() {
        let files = |order: &[u64]| RepositoryFiles {
            timestamp: b"t",
            snapshots: order.iter().map(|&v| (v + 10, b"s".as_slice())).collect(),
            targets: (4, b"targets"),
            roots: order.iter().map(|&v| (v, b"r".as_slice())).collect(),
        };
        let artifact = repository(&files(&[1, 3, 2, 4]), Profile::Oci11);
        assert_eq!(
            names(&artifact),
            [
                "timestamp.json",
                "14.snapshot.json",
                "4.targets.json",
                "4.root.json",
                "3.root.json",
                "2.root.json",
                "1.root.json",
                "13.snapshot.json",
                "12.snapshot.json",
            ]
        );
        assert_eq!(inline(&artifact), [true, true, true, false, false, false, false, false, false]);
        assert_eq!(repository(&files(&[4, 2, 1, 3]), Profile::Oci11), artifact);
        // Equal bytes are one blob: config, t, s, targets, r.
        assert_eq!(artifact.blobs.len(), 5);
        assert_eq!(artifact.blobs[0].1, EMPTY_CONFIG);
        assert!(artifact.blobs.iter().all(|(digest, bytes)| *digest == Digest::of(bytes)));
    }

    #[test]
    fn only_small_files_travel_inside_and_the_timestamp_always() {
        let (fits, large) = (vec![b'x'; INLINE_MAX], vec![b'x'; INLINE_MAX + 1]);
        let files = |snapshot, targets| RepositoryFiles {
            timestamp: &large,
            snapshots: vec![(1, snapshot)],
            targets: (1, targets),
            roots: vec![(1, b"r")],
        };
        assert_eq!(inline(&repository(&files(&fits, &large), Profile::Oci11)), [true, true, false, false]);
        assert_eq!(inline(&repository(&files(&large, &fits), Profile::Oci11)), [true, false, true, false]);
        assert_eq!(inline(&repository(&files(&fits, &fits), Profile::Oci10)), [false; 4]);
    }

    #[test]
    fn a_thousand_roots_still_make_a_manifest_that_can_be_read() {
        let files = RepositoryFiles {
            timestamp: b"t",
            snapshots: (1..=5).map(|v| (v, b"s".as_slice())).collect(),
            targets: (1, b"targets"),
            roots: (1..=2000).map(|v| (v, b"r".as_slice())).collect(),
        };
        let artifact = repository(&files, Profile::Oci11);
        let names = names(&artifact);
        assert_eq!(names.len(), MAX_LAYERS);
        assert_eq!((names[3].as_str(), names[997].as_str()), ("2000.root.json", "1006.root.json"));
        assert!(artifact.manifest.len() < crate::oci::mapping::MAX_MANIFEST);
    }

    #[test]
    fn a_role_keeps_its_previous_version_and_its_name_as_it_is() {
        let artifact = role("a/ü", (2, b"two"), Some((1, b"one")), Profile::Oci10);
        assert_eq!(names(&artifact), ["2.a/ü.json", "1.a/ü.json"]);
        assert_eq!(artifact.tag, role_tag("a/ü"));
        assert_eq!(names(&role("r", (1, b"one"), None, Profile::Oci11)), ["1.r.json"]);
    }
}
