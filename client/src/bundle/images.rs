//! Images that go along: a manifest or index with everything below it, all platforms.

use std::collections::BTreeSet;

use plimsoll_core::{
    oci::{
        Descriptor, Digest, IndexError, MAX_PLATFORMS, Reference, RepositoryAddress, is_index, read_index,
    },
    record,
};
use serde::Deserialize;

use super::BundleError;
use crate::registry::{ManifestAnswer, Registry};

/// A manifest may be this long, bytes.
const MAX_MANIFEST: u64 = 4 << 20;
/// How deep indexes may lie inside indexes.
const MAX_DEPTH: usize = 4;

/// A manifest may have so many layers.
const MAX_LAYERS: usize = 1000;

/// An image and all that it is made of.
#[derive(Debug, Clone)]
pub struct Image {
    /// What it is called, `HOST/REPOSITORY:TAG` or `HOST/REPOSITORY@DIGEST`.
    pub called: String,
    /// The target name that it was verified as.
    pub name: String,
    /// Where its blobs are.
    pub repository: RepositoryAddress,
    /// The manifest or index that was verified.
    pub top: Descriptor,
    /// The manifests, each with its bytes: `top` last, each one after those it lists.
    pub manifests: Vec<(Descriptor, Vec<u8>)>,
    /// Configs and layers, each digest once.
    pub blobs: Vec<Descriptor>,
}

impl Image {
    /// Reads the manifests of the image whose digest was verified; its blobs are fetched when they are written.
    ///
    /// # Errors
    /// [`BundleError::Gone`], [`BundleError::Registry`], [`BundleError::Index`], [`BundleError::Manifest`],
    /// [`BundleError::Sizes`].
    pub async fn fetch(
        registry: &Registry,
        reference: &Reference,
        name: &str,
        digest: Digest,
    ) -> Result<Self, BundleError> {
        let repository = &reference.repository;
        let mut manifests: Vec<Listed<(Descriptor, Vec<u8>)>> = Vec::new();
        let mut pending = vec![(digest, None, 0)];
        let (mut blobs, mut known): (Vec<Descriptor>, BTreeSet<Digest>) = Default::default();
        while let Some((digest, expected, depth)) = pending.pop() {
            if manifests.iter().any(|known| known.digest == digest) {
                continue;
            }
            let called = format!("{repository}@{digest}");
            let found = match registry.manifest(repository, &digest.to_string(), MAX_MANIFEST, None).await? {
                ManifestAnswer::Found(found) => found,
                _ => return Err(BundleError::Gone { place: repository.to_string(), digest }),
            };
            let mut descriptor = Descriptor::of(&found.media_type, &found.bytes);
            if let Some(expected) = expected {
                same_size(digest, expected, descriptor.size)?;
            }
            descriptor.media_type = found.media_type;
            let parts = parts(&called, &found.bytes, &descriptor.media_type)?;
            check_counts(&called, manifests.len() + parts.manifests.len(), depth)?;
            pending.extend(parts.manifests.iter().map(|child| (child.digest, Some(child.size), depth + 1)));
            for blob in parts.blobs {
                if known.insert(blob.digest) {
                    blobs.push(blob);
                }
            }
            let below = parts.manifests.iter().map(|child| child.digest).collect();
            manifests.push(Listed { digest, below, item: (descriptor, found.bytes.to_vec()) });
        }
        let manifests = children_first(manifests);
        let top = manifests.last().expect("the top lists all others").0.clone();
        let repository = repository.clone();
        let called = match (&reference.tag, reference.digest) {
            (Some(tag), _) => format!("{repository}:{tag}"),
            (None, _) => format!("{repository}@{digest}"),
        };
        Ok(Self { called, name: name.to_owned(), repository, top, manifests, blobs })
    }
}

/// A manifest, and those that it lists.
pub(super) struct Listed<T> {
    pub(super) digest: Digest,
    pub(super) below: Vec<Digest>,
    pub(super) item: T,
}

/// The items of `manifests`, which hold all that they list, each after those it lists: registries take them in this order
/// only. The later ones first, as far as that allows.
pub(super) fn children_first<T>(mut manifests: Vec<Listed<T>>) -> Vec<T> {
    let (mut known, mut ordered) = (BTreeSet::new(), Vec::new());
    // A manifest cannot hold its own hash, so there is always one.
    while let Some(at) = manifests.iter().rposition(|listed| listed.below.iter().all(|d| known.contains(d))) {
        let next = manifests.remove(at);
        known.insert(next.digest);
        ordered.push(next.item);
    }
    ordered
}

/// What a manifest or index lists.
pub(super) struct Parts {
    pub(super) manifests: Vec<Descriptor>,
    pub(super) blobs: Vec<Descriptor>,
}

/// Reads `bytes`, which are a manifest or index of `media_type` called `name`.
///
/// # Errors
/// [`BundleError::Index`], [`BundleError::Manifest`], [`BundleError::TooMany`] layers.
pub(super) fn parts(name: &str, bytes: &[u8], media_type: &str) -> Result<Parts, BundleError> {
    #[derive(Deserialize)]
    struct Manifest {
        config: Descriptor,
        layers: Vec<Descriptor>,
    }
    if is_index(media_type) {
        let wrong = |source| BundleError::Index { name: name.to_owned(), source };
        let manifests = read_index(bytes, media_type).map_err(wrong)?;
        return Ok(Parts { manifests, blobs: Vec::new() });
    }
    let wrong = |source| BundleError::Manifest { name: name.to_owned(), source };
    plimsoll_core::tuf::json::check(bytes).map_err(|error| wrong(error.into()))?;
    let manifest: Manifest = record::json(bytes).map_err(|error| wrong(error.into()))?;
    if manifest.layers.len() > MAX_LAYERS {
        let limit = MAX_LAYERS as u64;
        return Err(BundleError::TooMany { name: name.to_owned(), what: "layers", limit });
    }
    let blobs = std::iter::once(manifest.config).chain(manifest.layers).collect();
    Ok(Parts { manifests: Vec::new(), blobs })
}

pub(super) fn check_counts(name: &str, manifests: usize, depth: usize) -> Result<(), BundleError> {
    if manifests <= MAX_PLATFORMS && depth <= MAX_DEPTH {
        return Ok(());
    }
    Err(BundleError::Index { name: name.to_owned(), source: IndexError::TooMany })
}

pub(super) fn same_size(digest: Digest, one: u64, other: u64) -> Result<(), BundleError> {
    if one == other { Ok(()) } else { Err(BundleError::Sizes { digest, one, other }) }
}

#[cfg(test)]
mod tests {
    use plimsoll_core::oci::media_type;

    use super::*;

    #[test]
    fn a_manifest_has_a_thousand_layers_and_no_more() {
        let layer = Descriptor::of("application/octet-stream", b"layer");
        let manifest = |count| {
            let layers = vec![&layer; count];
            serde_json::json!({"schemaVersion": 2, "config": layer, "layers": layers}).to_string()
        };
        let read = |count| parts("x", manifest(count).as_bytes(), media_type::MANIFEST);
        assert_eq!(read(MAX_LAYERS).unwrap().blobs.len(), MAX_LAYERS + 1);
        let many = read(MAX_LAYERS + 1).map(|parts| parts.blobs.len());
        assert!(matches!(many, Err(BundleError::TooMany { what: "layers", .. })), "{many:?}");
    }

    #[test]
    fn what_is_listed_comes_before_whatever_lists_it() {
        let digest = |name: &str| Digest::of(name.as_bytes());
        let listed = |name: &'static str, below: &[&str]| Listed {
            digest: digest(name),
            below: below.iter().map(|below| digest(below)).collect(),
            item: name,
        };
        let flat = vec![listed("index", &["a", "b"]), listed("b", &[]), listed("a", &[])];
        assert_eq!(children_first(flat), ["a", "b", "index"]);
        // `b` is in both, and was found in the outer one first.
        let nested = vec![
            listed("outer", &["inner", "b"]),
            listed("b", &[]),
            listed("inner", &["a", "b"]),
            listed("a", &[]),
        ];
        assert_eq!(children_first(nested), ["a", "b", "inner", "outer"]);
    }
}
