//! Keys that sign, made with ring.

use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use plimsoll_core::tuf::{Key, KeyId, PublicKey, Signature, assemble, json, metadata::RoleType};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        Ed25519KeyPair, KeyPair, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaKeyPair,
    },
};

/// Made with `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048`; guards nothing.
const RSA: &str = include_str!("../vectors/rsa-2048.pem");

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
    Rsa(RsaKeyPair),
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
        Self::curve(&ECDSA_P256_SHA256_ASN1_SIGNING, PublicKey::EcdsaP256)
    }

    /// A fresh ECDSA P-384 key. It signs differently each time.
    pub fn p384() -> Self {
        Self::curve(&ECDSA_P384_SHA384_ASN1_SIGNING, PublicKey::EcdsaP384)
    }

    fn curve(algorithm: &'static EcdsaSigningAlgorithm, public: fn(Vec<u8>) -> PublicKey) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        let public = public(pair.public_key().as_ref().to_vec());
        Self::of(&public, Pair::Ecdsa(pair))
    }

    /// The same RSA key of 2,048 bits each time. It signs differently each time, by the hash that its scheme says.
    pub fn rsa() -> Self {
        let text: String = RSA.lines().filter(|line| !line.starts_with("-----")).collect();
        let pair = RsaKeyPair::from_pkcs8(&BASE64.decode(text.as_bytes()).unwrap()).unwrap();
        let public = PublicKey::Rsa(pair.public_key().as_ref().to_vec());
        Self::of(&public, Pair::Rsa(pair))
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

    /// The same pair under another id, its type and scheme said to be these.
    pub fn typed(&self, id: &str, keytype: &str, scheme: &str) -> Self {
        let mut other = self.called(id);
        (other.key.keytype, other.key.scheme) = (keytype.to_owned(), scheme.to_owned());
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
            Pair::Rsa(pair) => {
                let padding = match self.key.scheme.as_str() {
                    "rsassa-pss-sha384" => &RSA_PSS_SHA384,
                    "rsassa-pss-sha512" => &RSA_PSS_SHA512,
                    _ => &RSA_PSS_SHA256,
                };
                let mut bytes = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &SystemRandom::new(), message, &mut bytes).unwrap();
                bytes
            }
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
