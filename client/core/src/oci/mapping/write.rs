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

/// The artifact at [`LATEST`].
///
/// Layers in the order that a client needs them: the timestamp, the newest snapshot, targets, the roots from the newest
/// down, older snapshots. Versions within one role are distinct; of two equal ones the first is written. Roots beyond what
/// a reader takes ([`MAX_LAYERS`]) are left out from the oldest up, so everyone but holders of those keeps working.
pub fn repository(files: &RepositoryFiles<'_>, profile: Profile) -> Artifact {
    let snapshots = newest_first(&files.snapshots);
    let mut snapshots = snapshots.iter().take(SNAPSHOTS);
    let mut draft = Draft::new(ARTIFACT_TYPE, profile);
    draft.layer(TIMESTAMP.to_owned(), files.timestamp, true);
    if let Some(&(version, bytes)) = snapshots.next() {
        draft.layer(file_name("snapshot", version), bytes, bytes.len() <= INLINE_MAX);
    }
    let (version, bytes) = files.targets;
    draft.layer(file_name("targets", version), bytes, bytes.len() <= INLINE_MAX);
    // Besides the roots: timestamp, targets, snapshots.
    for (version, bytes) in newest_first(&files.roots).into_iter().take(MAX_LAYERS - 2 - SNAPSHOTS) {
        draft.layer(file_name("root", version), bytes, false);
    }
    for &(version, bytes) in snapshots {
        draft.layer(file_name("snapshot", version), bytes, false);
    }
    draft.finish(LATEST.to_owned())
}

/// The artifact of one delegated role, at its [`role_tag`]: its current version, then the previous one if there is one.
pub fn role(role: &str, current: (u64, &[u8]), previous: Option<(u64, &[u8])>, profile: Profile) -> Artifact {
    let mut draft = Draft::new(ROLE_ARTIFACT_TYPE, profile);
    for (version, bytes) in [Some(current), previous].into_iter().flatten() {
        draft.layer(file_name(role, version), bytes, false);
    }
    draft.finish(role_tag(role))
}

fn newest_first<'a>(files: &[(u64, &'a [u8])]) -> Vec<(u64, &'a [u8])> {
    let mut files = files.to_vec();
    files.sort_by_key(|&(version, _)| std::cmp::Reverse(version));
    files.dedup_by_key(|&mut (version, _)| version);
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
    fn layer(&mut self, name: String, bytes: &[u8], inline: bool) {
        let mut layer = Descriptor::of(METADATA_TYPE, bytes);
        layer.data = (inline && self.profile == Profile::Oci11).then(|| BASE64.encode(bytes));
        layer.annotations.insert(FILENAME.to_owned(), name);
        if self.blobs.iter().all(|(digest, _)| *digest != layer.digest) {
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
