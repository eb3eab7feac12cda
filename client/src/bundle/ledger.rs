//! What a bundle names, counted and added up while it is read, and in the end compared with what is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use plimsoll_core::oci::{Descriptor, Digest};

use super::{
    BundleError, Missing,
    images::{Parts, parts, same_size},
};
use crate::layout::{Layout, LayoutError};

/// How much is listed in all, in each image what is listed there.
const MAX_DESCRIPTORS: u64 = 100_000;
/// How much is read of manifests in all, bytes.
const MAX_READ: u64 = 1 << 30;

/// What was named so far.
#[derive(Default)]
pub(super) struct Ledger {
    blobs: BTreeMap<Digest, Named>,
    /// How much was listed.
    listed: u64,
    /// How much was read of manifests, bytes.
    read: u64,
    /// The manifests, by digest and media type, that are images whatever they are called.
    plain: BTreeSet<(Digest, String)>,
    /// What the manifests of images list, by digest and media type.
    parts: BTreeMap<(Digest, String), Arc<Parts>>,
}

struct Named {
    what: String,
    descriptor: Descriptor,
    repository: String,
    metadata: bool,
    /// Its content stands in a manifest as well, or is known, or it was a manifest that has been read.
    at_hand: bool,
}

impl Ledger {
    /// True for a manifest that has been read and is an image under every name.
    pub(super) fn known(&self, descriptor: &Descriptor) -> bool {
        self.plain.contains(&(descriptor.digest, descriptor.media_type.clone()))
    }

    /// The manifest is an image under every name.
    pub(super) fn is_image(&mut self, descriptor: &Descriptor) {
        self.plain.insert((descriptor.digest, descriptor.media_type.clone()));
    }

    /// Counts `count` more that `name` lists.
    pub(super) fn lists(&mut self, name: &str, count: usize) -> Result<(), BundleError> {
        self.listed = self.listed.saturating_add(count as u64);
        if self.listed <= MAX_DESCRIPTORS {
            return Ok(());
        }
        let (what, limit) = ("descriptors in all", MAX_DESCRIPTORS);
        Err(BundleError::TooMany { name: name.to_owned(), what, limit })
    }

    /// The bytes of a manifest of `name`, counted.
    pub(super) fn manifest(
        &mut self,
        layout: &Layout,
        name: &str,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, BundleError> {
        self.read = self.read.saturating_add(descriptor.size);
        if self.read > MAX_READ {
            let (what, limit) = ("bytes of manifests in all", MAX_READ);
            return Err(BundleError::TooMany { name: name.to_owned(), what, limit });
        }
        manifest(layout, descriptor)
    }

    /// What the manifest `descriptor` of the image `name` lists; read once, whoever lists it.
    pub(super) fn parts(
        &mut self,
        layout: &Layout,
        name: &str,
        descriptor: &Descriptor,
        bytes: Option<Vec<u8>>,
    ) -> Result<Arc<Parts>, BundleError> {
        let key = (descriptor.digest, descriptor.media_type.clone());
        if let Some(known) = self.parts.get(&key) {
            return Ok(known.clone());
        }
        let bytes = bytes.map_or_else(|| self.manifest(layout, name, descriptor), Ok)?;
        let found = Arc::new(parts(name, &bytes, &descriptor.media_type)?);
        self.parts.insert(key, found.clone());
        Ok(found)
    }

    /// A manifest that was read.
    pub(super) fn sees(&mut self, descriptor: &Descriptor) -> Result<(), BundleError> {
        self.names(String::new(), descriptor, "", false, true)
    }

    /// Something names the blob `descriptor`, which is `what`; one blob has one length.
    pub(super) fn names(
        &mut self,
        what: String,
        descriptor: &Descriptor,
        repository: &str,
        metadata: bool,
        at_hand: bool,
    ) -> Result<(), BundleError> {
        if let Some(known) = self.blobs.get_mut(&descriptor.digest) {
            known.at_hand |= at_hand;
            return same_size(descriptor.digest, known.descriptor.size, descriptor.size);
        }
        let (repository, descriptor) = (repository.to_owned(), descriptor.clone());
        self.blobs.insert(descriptor.digest, Named { what, descriptor, repository, metadata, at_hand });
        Ok(())
    }

    /// What of all that was named is there, each with its digest, and what is not.
    pub(super) fn look(self, layout: &Layout) -> Result<(BTreeMap<Digest, u64>, Vec<Missing>), BundleError> {
        if let Some(archived) = layout.archived() {
            for digest in archived {
                if !self.blobs.contains_key(&digest) {
                    let path = layout.place().join("blobs/sha256").join(digest.hex());
                    return Err(BundleError::Stowaway { path });
                }
            }
        }
        let (mut present, mut missing) = (BTreeMap::new(), Vec::new());
        for (digest, named) in self.blobs {
            match layout.length(&digest)? {
                Some(_) => {
                    layout.copy(&named.descriptor, |_| Ok(()))?;
                    present.insert(digest, named.descriptor.size);
                }
                None if named.at_hand => {}
                None => missing.push(Missing {
                    what: named.what,
                    digest,
                    bytes: named.descriptor.size,
                    repository: named.repository,
                    metadata: named.metadata,
                }),
            }
        }
        Ok((present, missing))
    }
}

/// A manifest is in the bundle, also where what it names is left out.
fn manifest(layout: &Layout, descriptor: &Descriptor) -> Result<Vec<u8>, BundleError> {
    match layout.manifest(descriptor) {
        Err(LayoutError::Missing { .. }) => {
            Err(BundleError::Gone { place: layout.place().display().to_string(), digest: descriptor.digest })
        }
        found => Ok(found?),
    }
}
