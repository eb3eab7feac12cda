//! Public keys and signature verification (TUF 1.0.34, section 4.2, "keys", and 4.1).

mod der;
mod public;

use std::{borrow::Borrow, collections::BTreeMap, fmt};

use data_encoding::HEXLOWER;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use serde::{Deserialize, Serialize};

use super::{
    json,
    object::{Extra, Json, object},
};

pub use public::PublicKey;

/// A key id: opaque when read (TAP 12), [`Key::id`] when authored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub String);

impl KeyId {
    /// The first eight characters, for people.
    pub fn short(&self) -> &str {
        self.0.char_indices().nth(8).map_or(self.0.as_str(), |(i, _)| &self.0[..i])
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for KeyId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A public key as it stands in metadata. Unknown types, schemes and fields are kept; such a key never verifies.
///
/// | type | schemes | public part |
/// |---|---|---|
/// | `ed25519` | `ed25519` | 32 bytes in hex |
/// | `ecdsa`, `ecdsa-sha2-nistp256` | `ecdsa-sha2-nistp256` | PEM, or the uncompressed point in hex |
/// | `ecdsa`, `ecdsa-sha2-nistp384` | `ecdsa-sha2-nistp384` | PEM, or the uncompressed point in hex |
/// | `rsa` | `rsassa-pss-sha256`, `-sha384`, `-sha512` | PEM; 2,048 to 8,192 bits |
///
/// PEM holds a SubjectPublicKeyInfo; hex is in lower case. The salt of an RSASSA-PSS signature is as long as the hash.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Key {
    /// See the table, or something this version does not know.
    pub keytype: String,
    /// See the table, or something this version does not know.
    pub scheme: String,
    /// The public part, `{"public": "…"}` for the types we know.
    pub keyval: BTreeMap<String, Json>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

object!(Key { keytype: "keytype" needed, scheme: "scheme" needed, keyval: "keyval" needed } extra => {
    Key { keytype, scheme, keyval, extra }
});

/// Why a key cannot verify anything, or must not be authored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A type or scheme this version does not know.
    #[error("key type `{keytype}` with scheme `{scheme}` is not one that Plimsoll verifies")]
    Unknown {
        /// The key's type.
        keytype: String,
        /// The key's scheme.
        scheme: String,
    },
    /// The public part is not of its type's form.
    #[error("the public part is not a valid {0} key")]
    Malformed(&'static str),
    /// The key is one that anybody can sign for, or is not a point of its curve.
    #[error("the public part is a weak {0} key")]
    Weak(&'static str),
    /// An RSA key that is too weak to count, or too long to verify.
    #[error("the RSA key has {bits} bits where 2048 to 8192 are needed")]
    RsaSize {
        /// Of the modulus.
        bits: usize,
    },
    /// A key that Plimsoll verifies, but with which a file would be unreadable to other TUF clients.
    #[error(
        "other TUF clients cannot read files that list a key of scheme `{scheme}`; use an Ed25519, ECDSA P-256 or \
         RSA key (rsassa-pss-sha256)"
    )]
    NotPortable {
        /// The key's scheme.
        scheme: String,
    },
}

/// The schemes that every stock client reads: tough refuses a whole file for a key of another one.
const PORTABLE: [&str; 3] = ["ed25519", "ecdsa-sha2-nistp256", "rsassa-pss-sha256"];

/// A key that can verify: its material, and the algorithm that its type and scheme say.
#[derive(Debug, Clone)]
pub(super) struct Verifier {
    /// The material.
    pub(super) public: PublicKey,
    algorithm: &'static dyn VerificationAlgorithm,
    /// Of the key: material may stand under several.
    scheme: String,
}

/// Equal ones say the same of every signature.
impl PartialEq for Verifier {
    fn eq(&self, other: &Self) -> bool {
        (&self.public, &self.scheme) == (&other.public, &other.scheme)
    }
}

impl Verifier {
    /// True if `signature` over `message` verifies. A signature of the wrong length or form is simply not valid.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.algorithm, self.public.bytes()).verify(message, signature).is_ok()
    }
}

impl Key {
    /// The key as we author it: no extra members, PEM for ECDSA and RSA.
    pub fn new(public: &PublicKey) -> Self {
        let (keytype, scheme, text) = match public {
            PublicKey::Ed25519(bytes) => ("ed25519", "ed25519", HEXLOWER.encode(bytes)),
            PublicKey::EcdsaP256(_) => ("ecdsa", "ecdsa-sha2-nistp256", public.to_pem()),
            PublicKey::EcdsaP384(_) => ("ecdsa", "ecdsa-sha2-nistp384", public.to_pem()),
            PublicKey::Rsa(_) => ("rsa", "rsassa-pss-sha256", public.to_pem()),
        };
        Self {
            keytype: keytype.to_owned(),
            scheme: scheme.to_owned(),
            keyval: BTreeMap::from([("public".to_owned(), text.into())]),
            extra: BTreeMap::new(),
        }
    }

    /// The key id that we author: sha256 of the canonical key without extra members, in hex (TUF 1.0.34, 4.2, KEYID).
    ///
    /// # Panics
    /// Never: three strings always have a canonical form.
    pub fn id(&self) -> KeyId {
        let bare = serde_json::json!({
            "keytype": self.keytype, "scheme": self.scheme, "keyval": {"public": self.text()},
        });
        let canonical = json::canonical_of(&bare).expect("three strings always have a canonical form");
        KeyId(crate::oci::Digest::of(&canonical).hex())
    }

    /// The public part as the document spells it; empty if it is not a string.
    fn text(&self) -> &str {
        self.keyval.get("public").and_then(Json::as_str).unwrap_or_default()
    }

    /// The key's material, by its own type and scheme: a signature never chooses the algorithm.
    ///
    /// # Errors
    /// [`KeyError`] if the key is unknown, malformed or weak; it then never counts towards a threshold.
    pub fn public(&self) -> Result<PublicKey, KeyError> {
        self.verifier().map(|verifier| verifier.public)
    }

    /// True if `signature` over `message` verifies by this key. A key that cannot verify makes it false.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.verifier().is_ok_and(|verifier| verifier.verifies(message, signature))
    }

    /// The material of a key that may be authored or submitted: on its curve, and of a scheme that other clients read.
    /// Draws randomness from the system.
    ///
    /// # Errors
    /// Those of [`Key::public`], [`KeyError::Weak`], [`KeyError::NotPortable`].
    pub fn check_authored(&self) -> Result<PublicKey, KeyError> {
        let public = self.public()?;
        public.check_on_curve()?;
        if !PORTABLE.contains(&self.scheme.as_str()) {
            return Err(KeyError::NotPortable { scheme: self.scheme.clone() });
        }
        Ok(public)
    }

    /// The key, ready to verify, by its own type and scheme.
    pub(super) fn verifier(&self) -> Result<Verifier, KeyError> {
        let text = self.text();
        let (public, algorithm): (_, &dyn VerificationAlgorithm) =
            match (self.keytype.as_str(), self.scheme.as_str()) {
                ("ed25519", "ed25519") => (ed25519(text)?, &signature::ED25519),
                // The scheme as a key type is how older repositories spell it.
                ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => {
                    (ecdsa(text, PublicKey::EcdsaP256)?, &signature::ECDSA_P256_SHA256_ASN1)
                }
                ("ecdsa" | "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384") => {
                    (ecdsa(text, PublicKey::EcdsaP384)?, &signature::ECDSA_P384_SHA384_ASN1)
                }
                ("rsa", "rsassa-pss-sha256") => (rsa(text)?, &signature::RSA_PSS_2048_8192_SHA256),
                ("rsa", "rsassa-pss-sha384") => (rsa(text)?, &signature::RSA_PSS_2048_8192_SHA384),
                ("rsa", "rsassa-pss-sha512") => (rsa(text)?, &signature::RSA_PSS_2048_8192_SHA512),
                _ => {
                    return Err(KeyError::Unknown {
                        keytype: self.keytype.chars().take(80).collect(),
                        scheme: self.scheme.chars().take(80).collect(),
                    });
                }
            };
        Ok(Verifier { public, algorithm, scheme: self.scheme.clone() })
    }
}

fn ed25519(text: &str) -> Result<PublicKey, KeyError> {
    let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    PublicKey::Ed25519(bytes.ok_or(KeyError::Malformed("ed25519"))?).strong()
}

/// The point of `curve` that stands there, in PEM or hex.
fn ecdsa(text: &str, curve: fn(Vec<u8>) -> PublicKey) -> Result<PublicKey, KeyError> {
    if text.trim_start().starts_with("-----BEGIN") {
        let key = PublicKey::from_pem(text)?;
        let right = key == curve(key.bytes().to_vec());
        return right.then_some(key).ok_or(KeyError::Malformed("ecdsa"));
    }
    let point = HEXLOWER.decode(text.as_bytes()).map_err(|_| KeyError::Malformed("ecdsa"))?;
    curve(point).strong()
}

fn rsa(text: &str) -> Result<PublicKey, KeyError> {
    match PublicKey::from_pem(text)? {
        key @ PublicKey::Rsa(_) => Ok(key),
        _ => Err(KeyError::Malformed("rsa")),
    }
}
