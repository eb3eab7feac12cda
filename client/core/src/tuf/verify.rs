//! Signature thresholds (TUF 1.0.34, 4.2 and 5.3.4, 5.4.2, 5.5.3, 5.6.3).

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
    sync::Arc,
};

use data_encoding::HEXLOWER;

use super::{Document, Error, Key, KeyId, PublicKey, key::Verifier};

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

/// At most this many signatures of one document are verified; a threshold above it is never met.
///
/// The delegator chooses the keys and the signer the document, so both may be hostile. One verification costs about a
/// millisecond at most (RSA of 8,192 bits), and a hash of all that is signed: about 20 ms for 8 MiB. So the worst
/// document costs little more than a second, and one of a hundred kilobytes less than a tenth of that.
pub const MAX_VERIFICATIONS: usize = 64;

/// The listed keys, distinct by their material, that validly signed `document`.
///
/// Ids that `keyids` does not list, keys that cannot verify and malformed signatures do not count and do no harm. The
/// algorithm comes from the key, never from the signature.
///
/// Cost: [`MAX_VERIFICATIONS`] verifications at most, in the order of the signatures; for the rest of the work, the
/// sizes of `keyids` and of the document's signatures. A key that counts already is not verified again under another id.
pub fn distinct_signers<T>(
    document: &Document<T>,
    keys: &BTreeMap<KeyId, Key>,
    keyids: &[KeyId],
) -> BTreeSet<PublicKey> {
    signers(document, keys, keyids, usize::MAX, |verifier, signature| {
        document.is_signed_by(verifier, signature)
    })
}

/// Passes `document` on as verified if at least `threshold` distinct keys of `keyids` signed it. Costs as much as
/// [`distinct_signers`], and stops verifying when the threshold is met.
///
/// # Errors
/// [`Error::Threshold`].
pub fn verify<T>(
    document: impl Into<Arc<Document<T>>>,
    role: &str,
    keys: &BTreeMap<KeyId, Key>,
    keyids: &[KeyId],
    threshold: u64,
) -> Result<Verified<T>, Error> {
    let document = document.into();
    meets(&document, role, keys, keyids, threshold)?;
    Ok(Verified(document))
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
    // A parsed threshold is at least 1; `max` keeps that true of a caller's slip too.
    let need = threshold.max(1);
    let enough = usize::try_from(need).unwrap_or(usize::MAX);
    let signers = signers(document, keys, keyids, enough, |verifier, signature| {
        document.is_signed_by(verifier, signature)
    });
    let have = signers.len() as u64;
    if have < need {
        return Err(Error::Threshold { role: role.to_owned(), have, need: threshold });
    }
    Ok(())
}

/// Up to `enough` distinct keys of `keyids` for whose signature `verifies` is true; asked [`MAX_VERIFICATIONS`] times
/// at most.
fn signers<T>(
    document: &Document<T>,
    keys: &BTreeMap<KeyId, Key>,
    keyids: &[KeyId],
    enough: usize,
    mut verifies: impl FnMut(&Verifier, &[u8]) -> bool,
) -> BTreeSet<PublicKey> {
    // At most MAX_SIGNATURES ids are kept, however many the role lists.
    let signing: BTreeSet<&KeyId> = document.signatures.iter().map(|signature| &signature.keyid).collect();
    let listed: BTreeSet<&KeyId> = keyids.iter().filter(|id| signing.contains(id)).collect();
    let mut signers = BTreeSet::new();
    let mut left = MAX_VERIFICATIONS;
    for signature in &document.signatures {
        if left == 0 || signers.len() >= enough {
            break;
        }
        let key = listed.get(&signature.keyid).and_then(|id| keys.get(*id));
        let Some(Ok(verifier)) = key.map(Key::verifier) else { continue };
        let Ok(bytes) = HEXLOWER.decode(signature.sig.as_bytes()) else { continue };
        if signers.contains(&verifier.public) {
            continue;
        }
        left -= 1;
        if verifies(&verifier, &bytes) {
            signers.insert(verifier.public);
        }
    }
    signers
}

#[cfg(test)]
mod tests {
    use super::{super::Signature, *};

    /// `count` keys that could verify, and a document with a signature of each.
    fn signed_by(count: usize) -> (Document<()>, BTreeMap<KeyId, Key>, Vec<KeyId>) {
        let key = |n: usize| {
            let mut bytes = [0x55; 32];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            Key::new(&PublicKey::Ed25519(bytes))
        };
        let keys: BTreeMap<_, _> = (0..count).map(|n| (KeyId(format!("{n:04}")), key(n))).collect();
        let keyids: Vec<KeyId> = keys.keys().cloned().collect();
        let sign = |keyid: &KeyId| Signature { keyid: keyid.clone(), sig: "00".repeat(64) };
        let signatures = keyids.iter().map(sign).collect();
        let canonical = super::super::document::Canonical::Apart(Vec::new());
        let (bytes, more, good) = Default::default();
        (Document { signed: (), signatures, bytes, canonical, more, good }, keys, keyids)
    }

    /// How often a signature is verified, and who counts, if the first `bad` verifications fail.
    fn verifications(
        (document, keys, keyids): &(Document<()>, BTreeMap<KeyId, Key>, Vec<KeyId>),
        enough: usize,
        bad: usize,
    ) -> (usize, usize) {
        let mut asked = 0;
        let counted = signers(document, keys, keyids, enough, |_, _| {
            asked += 1;
            asked > bad
        });
        (asked, counted.len())
    }

    /// T41: a document of nothing but bad signatures, by as many keys, ends after a bounded number of verifications.
    #[test]
    fn verifications_are_bounded() {
        let hostile = signed_by(1024);
        assert_eq!(verifications(&hostile, 1, usize::MAX), (MAX_VERIFICATIONS, 0));
        assert_eq!(verifications(&hostile, usize::MAX, 0), (MAX_VERIFICATIONS, MAX_VERIFICATIONS));
        assert_eq!(verifications(&signed_by(MAX_VERIFICATIONS), MAX_VERIFICATIONS, 0).1, MAX_VERIFICATIONS);
        // The last one that is verified still counts.
        assert_eq!(verifications(&hostile, 1, MAX_VERIFICATIONS - 1), (MAX_VERIFICATIONS, 1));
    }

    #[test]
    fn nothing_is_verified_once_the_threshold_is_met() {
        assert_eq!(verifications(&signed_by(10), 3, 0), (3, 3));
        assert_eq!(verifications(&signed_by(10), 3, 4), (7, 3));
    }

    /// T02, T41: signatures that cannot count are not verified, and do not use up what is left for others.
    #[test]
    fn signatures_that_cannot_count_cost_no_verification() {
        let (mut document, mut keys, keyids) = signed_by(20);
        for (n, signature) in document.signatures.iter_mut().enumerate() {
            let key = keys.get_mut(&signature.keyid).unwrap();
            match n {
                0..4 => signature.sig = ["é", "0", "zz", "AB"][n].to_owned(),
                4 => key.keytype = "future".to_owned(),
                5 => drop(key.keyval.insert("public".to_owned(), "0".repeat(64).into())),
                6 => signature.keyid = KeyId("nobody".to_owned()),
                7 => drop(keys.remove(&signature.keyid)),
                // The rest are one key.
                9.. => key.keyval = Key::new(&PublicKey::Ed25519([0x55; 32])).keyval,
                _ => {}
            }
        }
        let all = (document, keys, keyids);
        assert_eq!(verifications(&all, usize::MAX, 0), (2, 2));
    }
}
