//! Signature thresholds (TUF 1.0.34, 4.2 and 5.3.4, 5.4.2, 5.5.3, 5.6.3).

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
    sync::Arc,
};

use data_encoding::HEXLOWER;

use super::{Document, Error, Key, KeyId, PublicKey};

/// A document whose signatures meet a threshold. [`verify`] makes one, and `Verified::remembered` for a document that
/// passed it in an earlier run. Cheap to clone.
#[derive(Debug)]
pub struct Verified<T>(Arc<Document<T>>);

impl<T> Verified<T> {
    /// A document whose sha256 is the one that the high-water record has of a document verified earlier under the very
    /// root that is trusted now. The caller compared both.
    pub(super) fn remembered(document: Arc<Document<T>>) -> Self {
        Self(document)
    }

    /// The document, to be held beyond the keys that vouched for it.
    pub(super) fn document(&self) -> Arc<Document<T>> {
        self.0.clone()
    }
}

impl<T> Clone for Verified<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Verified<T> {
    type Target = Document<T>;

    fn deref(&self) -> &Document<T> {
        &self.0
    }
}

/// The listed keys, distinct by their material, that validly signed `document`.
///
/// Ids that `keyids` does not list, keys that cannot verify and malformed signatures do not count and do no harm. The
/// algorithm comes from the key, never from the signature.
pub fn distinct_signers<T>(
    document: &Document<T>,
    keys: &BTreeMap<KeyId, Key>,
    keyids: &[KeyId],
) -> BTreeSet<PublicKey> {
    // At most MAX_SIGNATURES ids are kept, however many the role lists.
    let signing: BTreeSet<&KeyId> = document.signatures.iter().map(|signature| &signature.keyid).collect();
    let listed: BTreeSet<&KeyId> = keyids.iter().filter(|id| signing.contains(id)).collect();
    document
        .signatures
        .iter()
        .filter(|signature| listed.contains(&signature.keyid))
        .filter_map(|signature| {
            let public = keys.get(&signature.keyid)?.public().ok()?;
            let bytes = HEXLOWER.decode(signature.sig.as_bytes()).ok()?;
            public.verifies(&document.canonical, &bytes).then_some(public)
        })
        .collect()
}

/// Passes `document` on as verified if at least `threshold` distinct keys of `keyids` signed it.
///
/// # Errors
/// [`Error::Threshold`].
pub fn verify<T>(
    document: Document<T>,
    role: &str,
    keys: &BTreeMap<KeyId, Key>,
    keyids: &[KeyId],
    threshold: u64,
) -> Result<Verified<T>, Error> {
    meets(&document, role, keys, keyids, threshold)?;
    Ok(Verified(Arc::new(document)))
}

/// Refuses `document` unless at least `threshold` distinct keys of `keyids` signed it.
///
/// # Errors
/// [`Error::Threshold`].
pub(super) fn meets<T>(
    document: &Document<T>,
    role: &str,
    keys: &BTreeMap<KeyId, Key>,
    keyids: &[KeyId],
    threshold: u64,
) -> Result<(), Error> {
    let have = distinct_signers(document, keys, keyids).len() as u64;
    // A parsed threshold is at least 1; `max` keeps that true of a caller's slip too.
    if have < threshold.max(1) {
        return Err(Error::Threshold { role: role.to_owned(), have, need: threshold });
    }
    Ok(())
}
