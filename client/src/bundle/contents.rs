//! What a bundle has.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use plimsoll_core::oci::{Descriptor, Digest, mapping::Listing};
use serde::Serialize;

use crate::layout::Layout;

/// A bundle that was looked through: every blob that is there has its digest and its size, and nothing else is there.
#[derive(Debug)]
pub struct Bundle {
    pub(super) layout: Layout,
    pub(super) trusts: Vec<TrustPart>,
    pub(super) images: Vec<ImagePart>,
    pub(super) present: BTreeMap<Digest, u64>,
    pub(super) missing: Vec<Missing>,
}

/// A trust repository in a bundle. All of it is unsigned hints, or not verified yet.
#[derive(Debug, Clone, Serialize)]
pub struct TrustPart {
    /// Where it was exported from, `HOST/REPOSITORY`.
    pub repository: String,
    /// The trust id, as the timestamp says.
    pub trust: Option<String>,
    /// When the timestamp was signed, as it says, UTC.
    pub as_of: Option<DateTime<Utc>>,
    /// How old that is, seconds; none until somebody says what time it is.
    pub age: Option<u64>,
    /// When the timestamp expires, UTC.
    pub expires: Option<DateTime<Utc>>,
    /// Versions by role, of `root` the newest.
    pub versions: BTreeMap<String, u64>,
    /// What the entry point lists.
    #[serde(skip)]
    pub listing: Listing,
    /// The delegated roles that have a manifest here, by name.
    #[serde(skip)]
    pub roles: BTreeMap<String, RolePart>,
}

/// A delegated role in a bundle.
#[derive(Debug, Clone)]
pub struct RolePart {
    /// Its version, as the file's name says.
    pub version: u64,
    /// Its document.
    pub document: Descriptor,
}

/// An image in a bundle.
#[derive(Debug, Clone, Serialize)]
pub struct ImagePart {
    /// What it was called where it was exported, `HOST/REPOSITORY:TAG` or `HOST/REPOSITORY@DIGEST`.
    pub image: String,
    /// The target name that is to vouch for it.
    pub name: String,
    /// Its manifest or index.
    pub digest: Digest,
    /// Its length and media type.
    #[serde(skip)]
    pub top: Descriptor,
    /// Every manifest, `top` last, each one after those it lists.
    #[serde(skip)]
    pub manifests: Vec<Descriptor>,
    /// Configs and layers.
    #[serde(skip)]
    pub blobs: Vec<Descriptor>,
    /// Bytes in all.
    pub bytes: u64,
}

/// A blob that is named and not there: the far side has it, or the bundle is of no use to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// What it is.
    pub what: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length, bytes.
    pub bytes: u64,
    /// The repository that it belongs to.
    #[serde(skip)]
    pub repository: String,
    /// True for metadata, false for the blob of an image.
    #[serde(skip)]
    pub metadata: bool,
}

/// What a bundle has, as `bundle inspect -o json` prints it; also what `--since` takes.
#[derive(Debug, Clone, Serialize)]
pub struct Contents {
    /// The form of this: 1.
    pub bundle: u64,
    /// The trust repositories.
    pub trusts: Vec<TrustPart>,
    /// The images.
    pub images: Vec<ImagePart>,
    /// Every blob that is there.
    pub blobs: Vec<Digest>,
    /// Their bytes in all.
    pub bytes: u64,
    /// What is named and not there.
    pub missing: Vec<Missing>,
}

impl Bundle {
    /// Its layout.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The trust repositories.
    pub fn trusts(&self) -> &[TrustPart] {
        &self.trusts
    }

    /// The images.
    pub fn images(&self) -> &[ImagePart] {
        &self.images
    }

    /// The blobs that are there.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> + '_ {
        self.present.keys().copied()
    }

    /// What is named and not there.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// All there is to tell of it at `now`.
    pub fn contents(&self, now: DateTime<Utc>) -> Contents {
        let mut trusts = self.trusts.clone();
        for trust in &mut trusts {
            trust.age = trust.as_of.map(|at| u64::try_from((now - at).num_seconds()).unwrap_or(0));
        }
        Contents {
            bundle: 1,
            trusts,
            images: self.images.clone(),
            blobs: self.present.keys().copied().collect(),
            bytes: self.present.values().sum(),
            missing: self.missing.clone(),
        }
    }
}
