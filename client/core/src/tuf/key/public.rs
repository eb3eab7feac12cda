//! The key itself, apart from how a document spells it.

use data_encoding::{BASE64, HEXLOWER};
use ring::{
    agreement::{self, ECDH_P256, ECDH_P384, EphemeralPrivateKey, agree_ephemeral},
    rand::SystemRandom,
};

use super::{KeyError, der};

/// The key itself, apart from how a document spells it: two [`Key`](super::Key)s with equal material are one key to a
/// threshold, whatever their types, schemes and spellings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PublicKey {
    /// The 32 bytes of RFC 8032.
    Ed25519([u8; 32]),
    /// The uncompressed point, 65 bytes starting with 4.
    EcdsaP256(Vec<u8>),
    /// The uncompressed point, 97 bytes starting with 4.
    EcdsaP384(Vec<u8>),
    /// The RSAPublicKey in DER (RFC 8017, A.1.1): modulus and exponent.
    Rsa(Vec<u8>),
}

/// DER before the 65 bytes of an uncompressed P-256 point in a SubjectPublicKeyInfo (RFC 5480).
const P256_SPKI: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// DER before the 97 bytes of an uncompressed P-384 point in a SubjectPublicKeyInfo (RFC 5480).
const P384_SPKI: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81,
    0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
];
/// DER before the 32 bytes of an Ed25519 key in a SubjectPublicKeyInfo (RFC 8410).
const ED25519_SPKI: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The fewest bits of an RSA modulus that count (TUF 1.0.34, 4.2: "at least 2048 bits").
const RSA_MIN_BITS: usize = 2048;
/// The most: what ring verifies.
const RSA_MAX_BITS: usize = 8192;

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo in PEM, the form of `openssl pkey -pubout` and of our `.pub` files. White space
    /// may stand anywhere in the base64 and around the whole, line ends may be of any kind; the DER inside is strict.
    ///
    /// # Errors
    /// [`KeyError`] if it is not one, of another algorithm, or weak. Points in compressed form are not read.
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
        if let Some(point) = der.strip_prefix(P384_SPKI) {
            return Self::EcdsaP384(point.to_vec()).strong();
        }
        if let Some(key) = der::rsa_key(&der) {
            return Self::Rsa(key.to_vec()).strong();
        }
        Err(KeyError::Malformed("Ed25519, ECDSA P-256 or P-384, or RSA"))
    }

    /// The SubjectPublicKeyInfo in PEM.
    ///
    /// # Panics
    /// Never: base64 is ASCII.
    pub fn to_pem(&self) -> String {
        let der = match self {
            Self::Ed25519(bytes) => [ED25519_SPKI, bytes].concat(),
            Self::EcdsaP256(point) => [P256_SPKI, point].concat(),
            Self::EcdsaP384(point) => [P384_SPKI, point].concat(),
            Self::Rsa(key) => der::rsa_info(key),
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

    /// The key as ring takes it.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Ed25519(bytes) => bytes,
            Self::EcdsaP256(bytes) | Self::EcdsaP384(bytes) | Self::Rsa(bytes) => bytes,
        }
    }

    /// Refuses keys that anybody can sign for.
    pub(super) fn strong(self) -> Result<Self, KeyError> {
        match &self {
            Self::Ed25519(bytes) if small_order(bytes) => Err(KeyError::Weak("ed25519")),
            Self::EcdsaP256(point) if point.len() != 65 || point[0] != 4 => Err(KeyError::Malformed("ecdsa")),
            Self::EcdsaP384(point) if point.len() != 97 || point[0] != 4 => Err(KeyError::Malformed("ecdsa")),
            Self::Rsa(key) => strong_rsa(key).map(|()| self),
            _ => Ok(self),
        }
    }

    /// Refuses a point off its curve, before a key is authored into metadata. When read, such a key needs no check of
    /// its own: no signature ever verifies under it. Draws randomness from the system.
    ///
    /// # Errors
    /// [`KeyError::Weak`].
    pub fn check_on_curve(&self) -> Result<(), KeyError> {
        let on_curve = match self {
            Self::Ed25519(_) | Self::Rsa(_) => true,
            Self::EcdsaP256(point) => agrees(&ECDH_P256, point),
            Self::EcdsaP384(point) => agrees(&ECDH_P384, point),
        };
        if on_curve { Ok(()) } else { Err(KeyError::Weak("ecdsa")) }
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

/// A modulus of 2,048 to 8,192 bits, counted exactly (ring counts whole bytes, so would take one of 2,041), and an
/// exponent of 2 to 33 bits, both odd. With exponent 1 a signature is what it signs; whoever sees an even modulus has
/// its factors; an even exponent has no private one.
fn strong_rsa(key: &[u8]) -> Result<(), KeyError> {
    let (modulus, exponent) = der::rsa_numbers(key).ok_or(KeyError::Malformed("rsa"))?;
    let bits = bits(modulus);
    if !(RSA_MIN_BITS..=RSA_MAX_BITS).contains(&bits) {
        return Err(KeyError::RsaSize { bits });
    }
    let odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
    if !odd(modulus) || !odd(exponent) || !(2..=33).contains(&self::bits(exponent)) {
        return Err(KeyError::Weak("rsa"));
    }
    Ok(())
}

/// The length in bits of a big-endian number without leading zeros.
fn bits(number: &[u8]) -> usize {
    number.len() * 8 - number.first().map_or(0, |first| first.leading_zeros() as usize)
}

/// True if the uncompressed point satisfies the curve's equation: ring checks that when it agrees on a key with it.
fn agrees(curve: &'static agreement::Algorithm, point: &[u8]) -> bool {
    let Ok(ours) = EphemeralPrivateKey::generate(curve, &SystemRandom::new()) else { return false };
    agree_ephemeral(ours, &agreement::UnparsedPublicKey::new(curve, point), |_| ()).is_ok()
}
