//! Keys that sign, made with ring.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use plimsoll_core::tuf::{Key, KeyId, PublicKey, Signature, assemble, json, metadata::RoleType};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};

/// A key pair and the id under which it signs.
#[derive(Clone)]
pub struct Signer {
    pub id: KeyId,
    pub key: Key,
    pair: Arc<Pair>,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
}

impl Signer {
    /// The Ed25519 key of a one-byte seed: the same one each time.
    pub fn ed25519(seed: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public = PublicKey::Ed25519(pair.public_key().as_ref().try_into().unwrap());
        Self::of(&public, Pair::Ed25519(pair))
    }

    /// A fresh ECDSA P-256 key. It signs differently each time.
    pub fn ecdsa() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let public = PublicKey::EcdsaP256(pair.public_key().as_ref().to_vec());
        Self::of(&public, Pair::Ecdsa(pair))
    }

    fn of(public: &PublicKey, pair: Pair) -> Self {
        let key = Key::new(public);
        Self { id: key.id(), key, pair: Arc::new(pair) }
    }

    /// The same pair under another id.
    pub fn called(&self, id: &str) -> Self {
        Self { id: KeyId(id.to_owned()), ..self.clone() }
    }

    /// The same pair under another id, its public part spelled as `public`.
    pub fn spelled(&self, id: &str, public: &str) -> Self {
        let mut other = self.called(id);
        other.key.keyval.insert("public".to_owned(), public.into());
        other
    }

    /// The public part as metadata spells it.
    pub fn public(&self) -> &str {
        self.key.keyval["public"].as_str().unwrap()
    }

    pub fn sign(&self, message: &[u8]) -> Signature {
        let bytes = match &*self.pair {
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Ecdsa(pair) => pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec(),
        };
        Signature { keyid: self.id.clone(), sig: HEXLOWER.encode(&bytes) }
    }
}

/// A document signed by each of `signers`.
pub fn sign<T: RoleType>(signed: &T, signers: &[Signer]) -> Vec<u8> {
    let canonical = json::canonical_of(signed).unwrap();
    let signatures: Vec<_> = signers.iter().map(|signer| signer.sign(&canonical)).collect();
    assemble(signed, &signatures)
}

/// The same for a `signed` that no type of ours would let through.
pub fn sign_value(signed: &serde_json::Value, signers: &[Signer]) -> Vec<u8> {
    let canonical = json::canonical_of(signed).unwrap_or_else(|_| signed.to_string().into_bytes());
    let signatures: Vec<_> = signers.iter().map(|signer| signer.sign(&canonical)).collect();
    serde_json::to_vec(&serde_json::json!({"signatures": signatures, "signed": signed})).unwrap()
}
