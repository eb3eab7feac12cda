//! Public keys and signature verification (TUF 1.0.34, section 4.2, "keys", and 4.1).

use std::{borrow::Borrow, collections::BTreeMap, fmt};

use data_encoding::{BASE64, HEXLOWER};
use ring::signature::{self, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::{
    json,
    object::{Extra, Json, object},
};

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
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Key {
    /// `ed25519`, `ecdsa` or something this version does not know.
    pub keytype: String,
    /// `ed25519`, `ecdsa-sha2-nistp256` or something this version does not know.
    pub scheme: String,
    /// The public part, `{"public": "…"}` for the types we know: Ed25519 as 32 bytes in hex, ECDSA as a
    /// SubjectPublicKeyInfo in PEM or a point in hex.
    pub keyval: BTreeMap<String, Json>,
    /// Members this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

object!(Key { keytype: "keytype" needed, scheme: "scheme" needed, keyval: "keyval" needed } extra => {
    Key { keytype, scheme, keyval, extra }
});

/// The key itself, apart from how a document spells it: two [`Key`]s with equal material are one key to a threshold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PublicKey {
    /// The 32 bytes of RFC 8032.
    Ed25519([u8; 32]),
    /// The uncompressed point, 65 bytes starting with 4.
    EcdsaP256(Vec<u8>),
}

/// Why a key cannot verify anything.
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
}

/// DER before the 65 bytes of an uncompressed P-256 point in a SubjectPublicKeyInfo (RFC 5480).
const P256_SPKI: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// DER before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410).
const ED25519_SPKI: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

impl Key {
    /// The key as we author it: no extra members, PEM for ECDSA.
    pub fn new(public: &PublicKey) -> Self {
        let (keytype, scheme, text) = match public {
            PublicKey::Ed25519(bytes) => ("ed25519", "ed25519", HEXLOWER.encode(bytes)),
            PublicKey::EcdsaP256(_) => ("ecdsa", "ecdsa-sha2-nistp256", public.to_pem()),
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
        let text = self.text();
        match (self.keytype.as_str(), self.scheme.as_str()) {
            ("ed25519", "ed25519") => {
                let bytes = HEXLOWER
                    .decode(text.as_bytes())
                    .ok()
                    .and_then(|b| <[u8; 32]>::try_from(b).ok())
                    .ok_or(KeyError::Malformed("ed25519"))?;
                PublicKey::Ed25519(bytes).strong()
            }
            // `ecdsa-sha2-nistp256` as a key type is how older repositories spell it.
            ("ecdsa" | "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256") => {
                if text.trim_start().starts_with("-----BEGIN") {
                    match PublicKey::from_pem(text)? {
                        key @ PublicKey::EcdsaP256(_) => Ok(key),
                        PublicKey::Ed25519(_) => Err(KeyError::Malformed("ecdsa")),
                    }
                } else {
                    let point = HEXLOWER.decode(text.as_bytes()).map_err(|_| KeyError::Malformed("ecdsa"))?;
                    PublicKey::EcdsaP256(point).strong()
                }
            }
            _ => Err(KeyError::Unknown {
                keytype: self.keytype.chars().take(80).collect(),
                scheme: self.scheme.chars().take(80).collect(),
            }),
        }
    }
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo in PEM, the form of `openssl pkey -pubout` and of our `.pub` files.
    ///
    /// # Errors
    /// [`KeyError`] if it is not one, of another algorithm, or weak.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let malformed = KeyError::Malformed("PEM");
        let body = pem
            .trim()
            .strip_prefix("-----BEGIN PUBLIC KEY-----")
            .and_then(|rest| rest.strip_suffix("-----END PUBLIC KEY-----"))
            .ok_or(malformed.clone())?;
        let text: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let der = BASE64.decode(text.as_bytes()).map_err(|_| malformed.clone())?;
        if let Some(bytes) = der.strip_prefix(ED25519_SPKI) {
            return Self::Ed25519(bytes.try_into().map_err(|_| malformed)?).strong();
        }
        if let Some(point) = der.strip_prefix(P256_SPKI) {
            return Self::EcdsaP256(point.to_vec()).strong();
        }
        Err(KeyError::Malformed("Ed25519 or ECDSA P-256"))
    }

    /// The SubjectPublicKeyInfo in PEM.
    ///
    /// # Panics
    /// Never: base64 is ASCII.
    pub fn to_pem(&self) -> String {
        let der = match self {
            Self::Ed25519(bytes) => [ED25519_SPKI, bytes].concat(),
            Self::EcdsaP256(point) => [P256_SPKI, point].concat(),
        };
        let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
        let text = BASE64.encode(&der);
        for line in text.as_bytes().chunks(64) {
            pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
            pem.push('\n');
        }
        pem.push_str("-----END PUBLIC KEY-----\n");
        pem
    }

    /// True if `signature` over `message` verifies. A signature of the wrong length or form is simply not valid.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(bytes) => {
                UnparsedPublicKey::new(&signature::ED25519, bytes).verify(message, signature)
            }
            Self::EcdsaP256(point) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_ASN1, point).verify(message, signature)
            }
        }
        .is_ok()
    }

    /// Refuses keys that anybody can sign for.
    fn strong(self) -> Result<Self, KeyError> {
        match &self {
            Self::Ed25519(bytes) if small_order(bytes) => Err(KeyError::Weak("ed25519")),
            Self::EcdsaP256(point) if point.len() != 65 || point[0] != 4 => Err(KeyError::Malformed("ecdsa")),
            _ => Ok(self),
        }
    }

    /// Refuses a point off its curve, before a key is authored into metadata. When read, such a key needs no check of
    /// its own: no signature ever verifies under it. Draws randomness from the system.
    ///
    /// # Errors
    /// [`KeyError::Weak`].
    pub fn check_on_curve(&self) -> Result<(), KeyError> {
        match self {
            Self::EcdsaP256(point) if !on_p256(point) => Err(KeyError::Weak("ecdsa")),
            _ => Ok(()),
        }
    }
}

/// The encodings, canonical or not, of the eight points of small order on edwards25519: for such a key there are
/// signatures that verify for many messages. The sign bit is masked before the comparison.
fn small_order(key: &[u8; 32]) -> bool {
    const Y: [&str; 7] = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    let mut masked = *key;
    masked[31] &= 0x7f;
    Y.contains(&HEXLOWER.encode(&masked).as_str())
}

/// True if the uncompressed point satisfies the curve's equation: ring checks that when it agrees on a key with it.
fn on_p256(point: &[u8]) -> bool {
    use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
    let random = ring::rand::SystemRandom::new();
    let Ok(ours) = EphemeralPrivateKey::generate(&ECDH_P256, &random) else { return false };
    agree_ephemeral(ours, &UnparsedPublicKey::new(&ECDH_P256, point), |_| ()).is_ok()
}
