//! Reading and writing a signed document (TUF 1.0.34, section 4.2): strictly, and without believing it yet.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Error, KeyId, json,
    metadata::{RoleType, is_trust_id},
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
    pub bytes: Vec<u8>,
    /// The canonical form of `signed`: what the signatures are over.
    pub canonical: Vec<u8>,
}

/// One signature (4.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Whose.
    pub keyid: KeyId,
    /// The signature in hex.
    pub sig: String,
}

impl<T: RoleType> Document<T> {
    /// Parses `bytes`, the document of `role`, strictly. Nothing is verified yet; the caller capped the length.
    ///
    /// # Errors
    /// [`Error::Json`], [`Error::Shape`], [`Error::Invalid`], [`Error::DuplicateSignature`].
    pub fn parse(role: &str, bytes: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Envelope<'a> {
            #[serde(borrow)]
            signed: &'a RawValue,
            signatures: Vec<Signature>,
        }
        let json_error = |source| Error::Json { role: role.to_owned(), source };
        let shape = |source| Error::Shape { role: role.to_owned(), source };
        let invalid = |what: String| Error::Invalid { role: role.to_owned(), what };

        let value = json::parse(bytes).map_err(json_error)?;
        let signed = value.member("signed").ok_or_else(|| invalid("no member `signed`".to_owned()))?;
        let canonical = signed.canonical().map_err(json_error)?;
        // A derived reader would take an array of two strings for a signature as well.
        if let Some(json::Value::Array(signatures)) = value.member("signatures")
            && !signatures.iter().all(|signature| matches!(signature, json::Value::Object(_)))
        {
            return Err(invalid("a signature is not an object".to_owned()));
        }
        drop(value);

        let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(shape)?;
        let signed: T = serde_json::from_str(envelope.signed.get()).map_err(shape)?;
        let common = signed.common();
        if common.role_type != T::TYPE {
            return Err(invalid(format!("_type is not `{}`", T::TYPE)));
        }
        if !common.spec_version.starts_with("1.") {
            return Err(invalid("spec_version is not 1.x".to_owned()));
        }
        if common.version == 0 {
            return Err(invalid("version 0".to_owned()));
        }
        if common.identity.as_ref().is_some_and(|identity| !is_trust_id(&identity.trust)) {
            return Err(invalid("the trust id is not 32 lower-case hex digits".to_owned()));
        }
        signed.check().map_err(invalid)?;

        let signatures = envelope.signatures;
        if signatures.len() > MAX_SIGNATURES {
            return Err(invalid(format!("more than {MAX_SIGNATURES} signatures")));
        }
        let mut ids: Vec<&KeyId> = signatures.iter().map(|s| &s.keyid).collect();
        ids.sort();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::DuplicateSignature { role: role.to_owned(), keyid: pair[0].clone() });
        }
        Ok(Self { signed, signatures, bytes: bytes.to_vec(), canonical })
    }

    /// The document's version.
    pub fn version(&self) -> u64 {
        self.signed.common().version
    }

    /// sha256 of the bytes as they came.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
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

/// The bytes of a document that we author. Equal arguments give equal bytes; every stock client reads them.
///
/// # Panics
/// Never: role types serialise to JSON without floats.
pub fn assemble<T: RoleType>(signed: &T, signatures: &[Signature]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Envelope<'a, T> {
        signatures: &'a [Signature],
        signed: &'a T,
    }
    serde_json::to_vec(&Envelope { signatures, signed }).expect("role types always serialise")
}
