//! Documents that delegate, read once: each is asked at every publish below it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use plimsoll_core::{
    oci::Digest,
    tuf::{Document, Root, Targets, metadata::RoleType},
};

/// How much is kept of each kind, bytes of text.
const MAX_BYTES: usize = 8 << 20;

/// Stored documents by the sha256 of their bytes, so that none is ever out of date. Bounded.
#[derive(Debug, Default)]
pub(in super::super) struct Parsed {
    root: Mutex<Shelf<Root>>,
    targets: Mutex<Shelf<Targets>>,
}

#[derive(Debug)]
pub(in super::super) struct Shelf<T> {
    documents: BTreeMap<Digest, Arc<Document<T>>>,
    bytes: usize,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { documents: BTreeMap::new(), bytes: 0 }
    }
}

/// Role types that are kept.
pub(in super::super) trait Kept: RoleType {
    fn shelf(parsed: &Parsed) -> &Mutex<Shelf<Self>>
    where
        Self: Sized;
}

impl Kept for Root {
    fn shelf(parsed: &Parsed) -> &Mutex<Shelf<Self>> {
        &parsed.root
    }
}

impl Kept for Targets {
    fn shelf(parsed: &Parsed) -> &Mutex<Shelf<Self>> {
        &parsed.targets
    }
}

impl Parsed {
    /// The document with these bytes, if it is kept.
    pub(super) fn find<T: Kept>(&self, digest: &Digest) -> Option<Arc<Document<T>>> {
        // Nothing that is done under this lock can panic half-way.
        let shelf = T::shelf(self).lock().unwrap_or_else(PoisonError::into_inner);
        shelf.documents.get(digest).cloned()
    }

    /// Keeps a document, whose bytes have this digest. If there is no room, all others go: it is a handful that is asked
    /// for again and again.
    pub(super) fn keep<T: Kept>(&self, digest: Digest, document: &Arc<Document<T>>) {
        let mut shelf = T::shelf(self).lock().unwrap_or_else(PoisonError::into_inner);
        let size = document.bytes.len();
        if shelf.bytes + size > MAX_BYTES {
            *shelf = Shelf::default();
        }
        if size <= MAX_BYTES && shelf.documents.insert(digest, document.clone()).is_none() {
            shelf.bytes += size;
        }
    }
}
