//! Documents that are parsed once: submitted ones, and those that are asked for at every publish below them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use bytes::Bytes;
use plimsoll::publish::api::Refusal;
use plimsoll_core::{
    oci::Digest,
    tuf::{Document, Root, Targets, Verbatim, metadata::RoleType},
};

use super::parse;

/// How much is kept of each kind, bytes of text.
const MAX_BYTES: usize = 8 << 20;

/// A document of up to this many bytes stays parsed while it waits for a round. Parsed, a document takes many times the room of
/// its text, and only that of the text is counted.
const STAYS_PARSED: usize = 64 << 10;

/// A document as it was submitted: parsed when it is first asked for, and as what it is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    bytes: Vec<u8>,
    root: Cell<Root>,
    targets: Cell<Targets>,
}

type Cell<T> = OnceLock<Result<Arc<Document<T>>, Refusal>>;

impl From<Vec<u8>> for Sent {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, root: OnceLock::new(), targets: OnceLock::new() }
    }
}

impl Sent {
    /// Its length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets what it was parsed into, if that is much; it is parsed again when it is next asked for.
    pub(crate) fn pack(&mut self) {
        if self.bytes.len() > STAYS_PARSED {
            (self.root, self.targets) = (OnceLock::new(), OnceLock::new());
        }
    }

    /// sha256 of its bytes.
    pub(crate) fn digest(&self) -> Digest {
        let root = self.root.get().and_then(|root| root.as_ref().ok()).map(|root| root.digest());
        let targets = || self.targets.get().and_then(|t| t.as_ref().ok()).map(|targets| targets.digest());
        root.or_else(targets).unwrap_or_else(|| Digest::of(&self.bytes))
    }

    /// The document of `role`.
    ///
    /// # Errors
    /// [`Refusal`] if it is none.
    pub(super) fn read<T: Kept>(&self, role: &str) -> Result<Arc<Document<T>>, Refusal> {
        T::cell(self).get_or_init(|| parse(role, &self.bytes).map(Arc::new)).clone()
    }
}

/// A document that was accepted.
#[derive(Debug, Clone)]
pub(in super::super) enum RoleDocument {
    Root(Arc<Document<Root>>),
    /// `targets`, or a delegated role.
    Targets(Arc<Document<Targets>>),
}

impl RoleDocument {
    pub(in super::super) fn version(&self) -> u64 {
        match self {
            Self::Root(document) => document.version(),
            Self::Targets(document) => document.version(),
        }
    }

    pub(in super::super) fn verbatim(&self) -> &Verbatim {
        match self {
            Self::Root(document) => &document.bytes,
            Self::Targets(document) => &document.bytes,
        }
    }

    pub(in super::super) fn bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.verbatim())
    }
}

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

/// Role types that are submitted and kept.
pub(in super::super) trait Kept: RoleType + Sized {
    fn shelf(parsed: &Parsed) -> &Mutex<Shelf<Self>>;
    fn cell(sent: &Sent) -> &Cell<Self>;
}

impl Kept for Root {
    fn shelf(parsed: &Parsed) -> &Mutex<Shelf<Self>> {
        &parsed.root
    }

    fn cell(sent: &Sent) -> &Cell<Self> {
        &sent.root
    }
}

impl Kept for Targets {
    fn shelf(parsed: &Parsed) -> &Mutex<Shelf<Self>> {
        &parsed.targets
    }

    fn cell(sent: &Sent) -> &Cell<Self> {
        &sent.targets
    }
}

impl Parsed {
    /// The document with these bytes, if it is kept.
    pub(in super::super) fn find<T: Kept>(&self, digest: &Digest) -> Option<Arc<Document<T>>> {
        // Nothing that is done under this lock can panic half-way.
        let shelf = T::shelf(self).lock().unwrap_or_else(PoisonError::into_inner);
        shelf.documents.get(digest).cloned()
    }

    /// Keeps a document, unless it is so large that it would crowd out others. If there is no room, all others go: it is a
    /// handful that is asked for again and again.
    pub(in super::super) fn keep<T: Kept>(&self, document: &Arc<Document<T>>) {
        let (digest, size) = (document.digest(), document.bytes.len());
        if size > MAX_BYTES / 16 {
            return;
        }
        let mut shelf = T::shelf(self).lock().unwrap_or_else(PoisonError::into_inner);
        if shelf.bytes + size > MAX_BYTES {
            *shelf = Shelf::default();
        }
        if shelf.documents.insert(digest, document.clone()).is_none() {
            shelf.bytes += size;
        }
    }

    /// No longer keeps the document with these bytes: another one took its place.
    pub(in super::super) fn drop<T: Kept>(&self, digest: &Digest) {
        let mut shelf = T::shelf(self).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(document) = shelf.documents.remove(digest) {
            shelf.bytes -= document.bytes.len();
        }
    }
}
