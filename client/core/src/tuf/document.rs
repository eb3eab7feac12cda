//! Reading and writing a signed document (TUF 1.0.34, section 4.2): strictly, and without believing it yet.

use std::{
    fmt,
    ops::{Deref, Range},
    sync::{Mutex, OnceLock, PoisonError},
};

use chrono::{DateTime, Utc};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, SeqAccess, Visitor},
};

use super::{
    Error, KeyId, json,
    key::Verifier,
    metadata::{RoleType, is_spec_version, is_trust_id},
    object::object,
};
use crate::oci::Digest;

/// More signatures than this on one document refuse it.
pub const MAX_SIGNATURES: usize = 1024;

/// A document as it came: parsed strictly, **not** verified.
#[derive(Debug, Clone)]
pub struct Document<T> {
    /// What the signatures are over, parsed.
    pub signed: T,
    /// The signatures; no key id twice.
    pub signatures: Vec<Signature>,
    /// The bytes as they came.
    pub bytes: Verbatim,
    pub(super) canonical: Canonical,
    pub(super) more: bool,
    pub(super) good: Good,
}

/// Bytes that do not change, and their sha256, which is computed once.
#[derive(Clone, Default)]
pub struct Verbatim {
    bytes: Vec<u8>,
    digest: OnceLock<Digest>,
}

impl Verbatim {
    /// The sha256 of the bytes.
    pub fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| Digest::of(&self.bytes))
    }
}

impl From<Vec<u8>> for Verbatim {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, digest: OnceLock::new() }
    }
}

impl From<Verbatim> for Vec<u8> {
    fn from(verbatim: Verbatim) -> Self {
        verbatim.bytes
    }
}

impl Deref for Verbatim {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Verbatim {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<B: AsRef<[u8]> + ?Sized> PartialEq<B> for Verbatim {
    fn eq(&self, other: &B) -> bool {
        self.bytes == other.as_ref()
    }
}

impl fmt::Debug for Verbatim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.bytes.escape_ascii())
    }
}

/// Signatures over this very document that were verified. Only good ones: what a bad one costs is bounded elsewhere.
#[derive(Debug, Default)]
pub(super) struct Good(Mutex<Vec<(Verifier, Vec<u8>)>>);

impl Clone for Good {
    fn clone(&self) -> Self {
        Self(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().into())
    }
}

/// Where the canonical form of `signed` is.
#[derive(Debug, Clone)]
pub(super) enum Canonical {
    /// In the bytes as they came.
    Within(Range<usize>),
    /// They spell it otherwise.
    Apart(Vec<u8>),
}

/// One signature (4.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signature {
    /// Whose.
    pub keyid: KeyId,
    /// The signature in hex.
    pub sig: String,
}

object!(Signature { keyid: "keyid" needed, sig: "sig" needed } _unknown => Signature { keyid, sig });

impl<T> Document<T> {
    /// True if members stand beside `signed` and `signatures`. Nobody signed them: readers pass over them (4.2).
    pub fn has_unsigned_members(&self) -> bool {
        self.more
    }

    /// sha256 of the bytes as they came.
    pub fn digest(&self) -> Digest {
        self.bytes.digest()
    }

    /// True if `signature` over this document verifies by the key. A good one is remembered, so that one process that
    /// verifies the same document from several points of view pays for each signature once.
    pub(super) fn is_signed_by(&self, verifier: &Verifier, signature: &[u8]) -> bool {
        // Nothing that is done under this lock can panic half-way.
        let good = || self.good.0.lock().unwrap_or_else(PoisonError::into_inner);
        if good().iter().any(|(known, by)| known == verifier && by == signature) {
            return true;
        }
        let verifies = verifier.verifies(self.canonical(), signature);
        if verifies {
            good().push((verifier.clone(), signature.to_vec()));
        }
        verifies
    }

    /// The canonical form of `signed`: what the signatures are over.
    pub fn canonical(&self) -> &[u8] {
        match &self.canonical {
            Canonical::Within(range) => &self.bytes[range.clone()],
            Canonical::Apart(bytes) => bytes,
        }
    }
}

impl<T: RoleType> Document<T> {
    /// Parses `bytes`, the document of `role`, strictly. Nothing is verified yet; the caller capped the length.
    ///
    /// # Errors
    /// [`Error::Json`], [`Error::Shape`], [`Error::Invalid`], [`Error::DuplicateSignature`].
    pub fn parse(role: &str, bytes: &[u8]) -> Result<Self, Error> {
        let json_error = |source| Error::Json { role: role.to_owned(), source };
        let shape = |source| Error::Shape { role: role.to_owned(), source };
        let invalid = |what: String| Error::Invalid { role: role.to_owned(), what };

        let outline = json::Outline::of(bytes).map_err(json_error)?;
        let text = std::str::from_utf8(bytes).expect("strict JSON is UTF-8");
        let within = outline.signed.ok_or_else(|| invalid("no member `signed`".to_owned()))?;
        let signed_text = &text[within.clone()];
        let canonical = if outline.canonical {
            Canonical::Within(within)
        } else {
            let value = json::parse(signed_text.as_bytes()).map_err(json_error)?;
            Canonical::Apart(value.canonical().map_err(json_error)?)
        };
        let signatures = outline.signatures.ok_or_else(|| invalid("no member `signatures`".to_owned()))?;
        let Signatures(signatures) = serde_json::from_str(&text[signatures]).map_err(shape)?;
        let signed: T = serde_json::from_str(signed_text).map_err(shape)?;
        let common = signed.common();
        if common.role_type != T::TYPE {
            return Err(invalid(format!("_type is not `{}`", T::TYPE)));
        }
        if !is_spec_version(&common.spec_version) {
            return Err(invalid("spec_version is not 1.x or 1.x.y".to_owned()));
        }
        if common.version == 0 {
            return Err(invalid("version 0".to_owned()));
        }
        if common.identity.as_ref().is_some_and(|identity| !is_trust_id(&identity.trust)) {
            return Err(invalid("the trust id is not 32 lower-case hex digits".to_owned()));
        }
        signed.check().map_err(invalid)?;

        if signatures.len() > MAX_SIGNATURES {
            return Err(invalid(format!("more than {MAX_SIGNATURES} signatures")));
        }
        let mut ids: Vec<&KeyId> = signatures.iter().map(|s| &s.keyid).collect();
        ids.sort();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::DuplicateSignature { role: role.to_owned(), keyid: pair[0].clone() });
        }
        Ok(Self {
            signed,
            signatures,
            bytes: bytes.to_vec().into(),
            canonical,
            more: outline.more,
            good: Good::default(),
        })
    }

    /// The document's version.
    pub fn version(&self) -> u64 {
        self.signed.common().version
    }

    /// Refuses the document if `now` is not before its expiry.
    ///
    /// # Errors
    /// [`Error::Expired`].
    pub fn check_expiry(&self, role: &str, now: DateTime<Utc>) -> Result<(), Error> {
        let common = self.signed.common();
        if now < common.expires {
            return Ok(());
        }
        Err(Error::Expired { role: role.to_owned(), version: common.version, expires: common.expires })
    }
}

/// The list, cut off where it is refused anyway.
struct Signatures(Vec<Signature>);

impl<'de> Deserialize<'de> for Signatures {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Signatures;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of signatures")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Signatures, A::Error> {
                let mut signatures = Vec::new();
                while signatures.len() <= MAX_SIGNATURES
                    && let Some(signature) = list.next_element()?
                {
                    signatures.push(signature);
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Signatures(signatures))
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}

/// The bytes of a document that we author: JSON with members sorted and no white space, so that `signed` stands in it in
/// its canonical form (unless a text holds control characters, which JSON cannot spell like that). Equal arguments give
/// equal bytes; every stock client reads them.
///
/// # Panics
/// Never: role types serialise to JSON without floats.
pub fn assemble<T: RoleType>(signed: &T, signatures: &[Signature]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Envelope<'a, T> {
        signatures: &'a [Signature],
        signed: &'a T,
    }
    let bytes = serde_json::to_vec(&Envelope { signatures, signed }).expect("role types always serialise");
    // What breaks a rule here has no canonical form to sign either, and is refused wherever it is read.
    let sorted = json::parse(&bytes).and_then(|value| value.compact());
    sorted.unwrap_or(bytes)
}
