//! Keys for generated repositories: always the same ones, and nobody else's.

use std::{cell::RefCell, collections::HashMap};

use data_encoding::{BASE64, HEXLOWER};
use ring::{
    rand::SystemRandom,
    rsa::KeyPair as RsaKeyPair,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
        KeyPair, RSA_PSS_SHA256,
    },
};
use serde_json::{Value, json};

use super::json::canonical;

/// Made for these tests by `openssl genpkey`; private and public key of each in turn.
const FILE: &str = include_str!("keys.pem");
const ED25519_KEYS: usize = 16;

/// How keys are spelled in a repository.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spelling {
    /// Key ids that are no hashes.
    pub(super) opaque: bool,
    /// P-256 keys as points in hex.
    pub(super) points: bool,
    /// P-256 keys under the key type that older repositories have.
    pub(super) old_type: bool,
}

/// What a key is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ed25519,
    P256,
    P384,
    Rsa,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair, usize),
    Rsa(Box<RsaKeyPair>),
}

struct Entry {
    kind: Kind,
    public: String,
    /// Of P-256: the point.
    point: String,
    pair: Pair,
}

/// The keys. A key is named by its number.
pub(super) struct Pool {
    entries: Vec<Entry>,
    random: SystemRandom,
    /// A message that was signed by a key has one signature, though ECDSA and PSS are randomised.
    signed: RefCell<HashMap<(usize, Vec<u8>), String>>,
}

impl Pool {
    pub(super) fn new() -> Self {
        let random = SystemRandom::new();
        let mut entries: Vec<Entry> = (1..=ED25519_KEYS)
            .map(|seed| {
                let seed = [u8::try_from(seed).expect("few keys"); 32];
                let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are a seed");
                let public = HEXLOWER.encode(pair.public_key().as_ref());
                Entry { kind: Kind::Ed25519, public, point: String::new(), pair: Pair::Ed25519(pair) }
            })
            .collect();
        let mut blocks = FILE.split_inclusive("KEY-----\n").collect::<Vec<_>>().into_iter();
        // A block is its BEGIN line, then all up to its END line.
        while let (Some(begin), Some(body), Some(begin_public), Some(public)) =
            (blocks.next(), blocks.next(), blocks.next(), blocks.next())
        {
            assert!(begin.contains("PRIVATE") && begin_public.contains("PUBLIC"), "private, public in turn");
            let der = der(body);
            entries.push(from_file(&der, &format!("{begin_public}{public}"), &random));
        }
        Self { entries, random, signed: RefCell::default() }
    }

    /// The numbers of the keys of `kind`.
    pub(super) fn of(&self, kind: Kind) -> Vec<usize> {
        (0..self.entries.len()).filter(|&key| self.entries[key].kind == kind).collect()
    }

    pub(super) fn kind(&self, key: usize) -> Kind {
        self.entries[key].kind
    }

    /// The key as metadata spells it.
    pub(super) fn json(&self, key: usize, spelling: Spelling) -> Value {
        let entry = &self.entries[key];
        let (keytype, scheme) = match entry.kind {
            Kind::Ed25519 => ("ed25519", "ed25519"),
            Kind::P256 if spelling.old_type => ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"),
            Kind::P256 => ("ecdsa", "ecdsa-sha2-nistp256"),
            Kind::P384 => ("ecdsa", "ecdsa-sha2-nistp384"),
            Kind::Rsa => ("rsa", "rsassa-pss-sha256"),
        };
        let public = if spelling.points && entry.kind == Kind::P256 { &entry.point } else { &entry.public };
        json!({"keytype": keytype, "scheme": scheme, "keyval": {"public": public}})
    }

    /// The id of the key in a repository with this spelling.
    pub(super) fn id(&self, key: usize, spelling: Spelling) -> String {
        if spelling.opaque {
            return format!("key {key}");
        }
        let canonical = canonical(&self.json(key, spelling));
        HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, &canonical).as_ref())
    }

    /// The signature in hex; the same length each time for each key.
    pub(super) fn sign(&self, key: usize, message: &[u8]) -> String {
        let mut signed = self.signed.borrow_mut();
        let fresh = || HEXLOWER.encode(&self.signature(key, message));
        signed.entry((key, message.to_vec())).or_insert_with(fresh).clone()
    }

    /// Forgets the signatures made so far.
    pub(super) fn forget(&self) {
        self.signed.borrow_mut().clear();
    }

    fn signature(&self, key: usize, message: &[u8]) -> Vec<u8> {
        match &self.entries[key].pair {
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            // DER is shorter or longer by a byte or two; of one length, so that places in a file stay where they are.
            Pair::Ecdsa(pair, length) => loop {
                let signature = pair.sign(&self.random, message).expect("signing does not fail");
                if signature.as_ref().len() == *length {
                    break signature.as_ref().to_vec();
                }
            },
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PSS_SHA256, &self.random, message, &mut signature)
                    .expect("signing does not fail");
                signature
            }
        }
    }
}

fn from_file(der: &[u8], public: &str, random: &SystemRandom) -> Entry {
    let public = public.to_owned();
    if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, random) {
        let point = HEXLOWER.encode(pair.public_key().as_ref());
        return Entry { kind: Kind::P256, public, point, pair: Pair::Ecdsa(pair, 71) };
    }
    let point = String::new();
    if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, der, random) {
        return Entry { kind: Kind::P384, public, point, pair: Pair::Ecdsa(pair, 103) };
    }
    let pair = RsaKeyPair::from_pkcs8(der).expect("the file has P-256, P-384 and RSA keys");
    Entry { kind: Kind::Rsa, public, point, pair: Pair::Rsa(Box::new(pair)) }
}

fn der(body: &str) -> Vec<u8> {
    let text: String = body.lines().filter(|line| !line.starts_with('-')).collect();
    BASE64.decode(text.as_bytes()).expect("the file is PEM")
}
