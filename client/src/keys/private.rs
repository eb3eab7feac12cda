//! Private keys kept in memory and in files, signing through ring.

use std::{fmt, path::Path};

use pkcs8::{
    LineEnding, ObjectIdentifier, PrivateKeyInfoRef, SecretDocument,
    der::{
        Reader, SliceReader, TagNumber,
        asn1::{BitStringRef, ContextSpecific, OctetStringRef},
    },
};
use plimsoll_core::tuf::{Key, KeyId, PublicKey};
use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use zeroize::Zeroizing;

use super::{KeyFileError, Passphrase, SignError, Signer, file, sealed};

const PLAIN_KEY: &str = "an Ed25519 or ECDSA P-256 private key in PKCS#8";
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// DER before the 32 bytes of the seed in a version 1 PrivateKeyInfo (RFC 8410, section 7).
const ED25519_PKCS8: &[u8] =
    &[0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// DER before the 32 secret bytes in a version 1 PrivateKeyInfo with an ECPrivateKey on P-256 (RFC 5915, section 3).
const P256_PKCS8: &[u8] = &[
    0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
    0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01,
    0x04, 0x20,
];
/// DER between those and the 65 bytes of the public point.
const P256_POINT: &[u8] = &[0xa1, 0x44, 0x03, 0x42, 0x00];

/// The kinds of keys that Plimsoll makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// ECDSA on P-256 with SHA-256.
    EcdsaP256,
}

/// A private key in this process's memory; its bytes are wiped when it is dropped and never shown.
pub struct PrivateKey {
    algorithm: Algorithm,
    /// PKCS#8 version 1 in DER. ring does not wipe its key pairs, so one is built for each signature and kept no longer.
    pkcs8: Zeroizing<Vec<u8>>,
    public: PublicKey,
    key: Key,
    id: KeyId,
}

impl PrivateKey {
    /// A new key from the system's randomness.
    ///
    /// # Errors
    /// [`SignError::Randomness`].
    ///
    /// # Panics
    /// Never: a key that was just made can be read.
    pub fn generate(algorithm: Algorithm) -> Result<Self, SignError> {
        let random = SystemRandom::new();
        let nowhere = Path::new("");
        let made = match algorithm {
            Algorithm::Ed25519 => {
                let mut seed = Zeroizing::new([0; 32]);
                random.fill(seed.as_mut_slice()).map_err(|_| SignError::Randomness)?;
                Self::from_ed25519(seed.as_slice(), None, nowhere)
            }
            Algorithm::EcdsaP256 => {
                let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
                    .map_err(|_| SignError::Randomness)?;
                Self::from_pkcs8(pkcs8.as_ref(), nowhere)
            }
        };
        Ok(made.expect("a key just made is of its own form"))
    }

    /// Reads the encrypted PKCS#8 PEM file `path`, ours or one of `openssl`: PBES2 with scrypt or PBKDF2-HMAC-SHA256 and
    /// AES-256-CBC. Blocking: file I/O, and up to a second of derivation or more if the file asks for it. The public key
    /// is derived, and compared with the one that the file states and with that of the file beside it, ending in `.pub`,
    /// if there is one.
    ///
    /// # Errors
    /// [`KeyFileError`] by name: the file is missing, over 16 KiB, open to others than its owner, not such a key,
    /// unencrypted, too costly to open, of an unsupported algorithm, `passphrase` is not its passphrase, or a public key
    /// differs.
    pub fn load(path: &Path, passphrase: &Passphrase) -> Result<Self, KeyFileError> {
        Self::from_sealed(&Self::sealed(path)?, passphrase, path)
    }

    /// As [`PrivateKey::load`]; `ask` is called when the file is known to need a passphrase.
    ///
    /// # Errors
    /// As [`PrivateKey::load`], and what `ask` returns.
    pub fn load_asking(
        path: &Path,
        ask: impl FnOnce() -> Result<Passphrase, KeyFileError>,
    ) -> Result<Self, KeyFileError> {
        let sealed = Self::sealed(path)?;
        Self::from_sealed(&sealed, &ask()?, path)
    }

    /// Writes the new file `path`, mode 0600: PKCS#8 version 1 (RFC 5958, RFC 8410), encrypted with PBES2, scrypt and
    /// AES-256-CBC, in PEM. Durable on return; a failure leaves no file. Blocking: file I/O and about 0.1 s of derivation.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`] if there is anything at `path`, [`KeyFileError::Io`], [`KeyFileError::Randomness`].
    pub fn save(&self, path: &Path, passphrase: &Passphrase) -> Result<(), KeyFileError> {
        file::create_private(path, &sealed::seal(&self.pkcs8, passphrase)?)
    }

    /// Replaces the file `path`, which holds this key, by one that `passphrase` opens; its form is that of
    /// [`PrivateKey::save`]. After a crash there is the old file or the new one, whole and durable; so after a failure.
    /// Blocking: file I/O and about 0.1 s of derivation.
    ///
    /// # Errors
    /// [`KeyFileError::NotFound`], [`KeyFileError::Io`], [`KeyFileError::Randomness`].
    pub fn reseal(&self, path: &Path, passphrase: &Passphrase) -> Result<(), KeyFileError> {
        file::replace_private(path, &sealed::seal(&self.pkcs8, passphrase)?)
    }

    /// Reads the unencrypted PKCS#8 PEM file `path`: only for a daemon's own online key, in its own data folder.
    ///
    /// # Errors
    /// As [`PrivateKey::load`], as far as they apply.
    pub fn load_insecure_plain(path: &Path) -> Result<Self, KeyFileError> {
        Self::from_pem_insecure_plain(&file::read_private(path, PLAIN_KEY)?, path)?.beside(path)
    }

    /// Writes the new file `path`, mode 0600, **unencrypted**: only for a daemon's own online key, in its own data folder.
    /// Durable on return; a failure leaves no file.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`] if there is anything at `path`, [`KeyFileError::Io`].
    pub fn save_insecure_plain(&self, path: &Path) -> Result<(), KeyFileError> {
        file::create_private(path, &self.to_pem_insecure_plain())
    }

    /// The key in an unencrypted PKCS#8 PEM. `path` names the text's origin in errors; nothing is read from it.
    ///
    /// # Errors
    /// [`KeyFileError::NotAKey`], [`KeyFileError::UnsupportedAlgorithm`].
    pub fn from_pem_insecure_plain(pem: &str, path: &Path) -> Result<Self, KeyFileError> {
        match SecretDocument::from_pem(pem) {
            Ok((sealed::PLAIN_LABEL, document)) => Self::from_pkcs8(document.as_bytes(), path),
            _ => Err(not_a_key(path)),
        }
    }

    /// The key as **unencrypted** PKCS#8 version 1 in PEM.
    ///
    /// # Panics
    /// Never: the DER was read or made by us.
    pub fn to_pem_insecure_plain(&self) -> Zeroizing<String> {
        SecretDocument::try_from(self.pkcs8.as_slice())
            .and_then(|document| document.to_pem(sealed::PLAIN_LABEL, LineEnding::LF))
            .expect("the DER was read or made by us")
    }

    /// The public part.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The kind of the key.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn sealed(path: &Path) -> Result<SecretDocument, KeyFileError> {
        sealed::document(&file::read_private(path, sealed::SEALED_KEY)?, path)
    }

    fn from_sealed(
        document: &SecretDocument,
        passphrase: &Passphrase,
        path: &Path,
    ) -> Result<Self, KeyFileError> {
        Self::from_pkcs8(&sealed::unseal(document.as_bytes(), passphrase, path)?, path)?.beside(path)
    }

    /// Reads a PrivateKeyInfo, version 1 or 2; what is kept is version 1 in its one form.
    pub(super) fn from_pkcs8(der: &[u8], path: &Path) -> Result<Self, KeyFileError> {
        let info = PrivateKeyInfoRef::try_from(der).map_err(|_| not_a_key(path))?;
        let stated = info.public_key.map(|stated| stated.raw_bytes());
        match info.algorithm.oid {
            ED25519 => {
                let seed = info.private_key.as_bytes().strip_prefix(&[0x04, 0x20]).filter(|s| s.len() == 32);
                Self::from_ed25519(seed.ok_or_else(|| not_a_key(path))?, stated, path)
            }
            EC => {
                let curve = info.algorithm.parameters_oid().map_err(|_| not_a_key(path))?;
                Self::from_ec(info.private_key.as_bytes(), Some(curve), stated, path)
            }
            oid => Err(unsupported(oid, path)),
        }
    }

    /// Reads an ECPrivateKey (RFC 5915, section 3), alone if there is no `curve` and no `stated` public key around it.
    pub(super) fn from_ec(
        der: &[u8],
        curve: Option<ObjectIdentifier>,
        stated: Option<&[u8]>,
        path: &Path,
    ) -> Result<Self, KeyFileError> {
        let ec = EcPrivateKey::read(der).ok_or_else(|| not_a_key(path))?;
        let curves: Vec<_> = curve.into_iter().chain(ec.curve).collect();
        match curves.iter().find(|&&curve| curve != P256) {
            Some(&other) => return Err(unsupported(other, path)),
            None if curves.is_empty() => return Err(not_a_key(path)),
            None => {}
        }
        if ec.secret.len() != 32 {
            return Err(not_a_key(path));
        }
        let point =
            ec.public.or(stated).ok_or_else(|| KeyFileError::NoPublicKey { path: path.to_owned() })?;
        if point.len() != 65 || point[0] != 4 {
            return Err(not_a_key(path));
        }
        let differs = || KeyFileError::StatedPublicKey { path: path.to_owned() };
        let pkcs8 = Zeroizing::new([P256_PKCS8, ec.secret, P256_POINT, point].concat());
        // ring derives the point and refuses another.
        let public = ecdsa_pair(&pkcs8).ok_or_else(differs)?.public_key().as_ref().to_vec();
        if stated.is_some_and(|stated| stated != public) {
            return Err(differs());
        }
        Ok(Self::new(Algorithm::EcdsaP256, pkcs8, PublicKey::EcdsaP256(public)))
    }

    /// The key itself, if the public key file beside `path` is missing or that of this key.
    pub(super) fn beside(self, path: &Path) -> Result<Self, KeyFileError> {
        let beside = path.with_extension("pub");
        if beside == path {
            return Ok(self);
        }
        match file::load_public(&beside) {
            Ok(public) if public == self.public => Ok(self),
            Ok(public) => Err(KeyFileError::PublicFileDiffers {
                path: path.to_owned(),
                private: self.id,
                beside,
                public: Key::new(&public).id(),
            }),
            Err(KeyFileError::NotFound { .. }) => Ok(self),
            Err(error) => Err(error),
        }
    }

    fn from_ed25519(seed: &[u8], stated: Option<&[u8]>, path: &Path) -> Result<Self, KeyFileError> {
        let pkcs8 = Zeroizing::new([ED25519_PKCS8, seed].concat());
        let pair = ed25519_pair(&pkcs8).ok_or_else(|| not_a_key(path))?;
        let public: [u8; 32] = pair.public_key().as_ref().try_into().map_err(|_| not_a_key(path))?;
        if stated.is_some_and(|stated| stated != public) {
            return Err(KeyFileError::StatedPublicKey { path: path.to_owned() });
        }
        Ok(Self::new(Algorithm::Ed25519, pkcs8, PublicKey::Ed25519(public)))
    }

    fn new(algorithm: Algorithm, pkcs8: Zeroizing<Vec<u8>>, public: PublicKey) -> Self {
        let key = Key::new(&public);
        let id = key.id();
        Self { algorithm, pkcs8, public, key, id }
    }
}

impl Signer for PrivateKey {
    fn key(&self) -> &Key {
        &self.key
    }

    fn key_id(&self) -> KeyId {
        self.id.clone()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        const READ: &str = "the key was read by ring before";
        match self.algorithm {
            Algorithm::Ed25519 => Ok(ed25519_pair(&self.pkcs8).expect(READ).sign(message).as_ref().to_vec()),
            Algorithm::EcdsaP256 => ecdsa_pair(&self.pkcs8)
                .ok_or(SignError::Randomness)?
                .sign(&SystemRandom::new(), message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| SignError::Randomness),
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey")
            .field("algorithm", &self.algorithm)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn ed25519_pair(pkcs8: &[u8]) -> Option<Ed25519KeyPair> {
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).ok()
}

/// ring checks that the two parts belong together; it draws randomness for that.
fn ecdsa_pair(pkcs8: &[u8]) -> Option<EcdsaKeyPair> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, &SystemRandom::new()).ok()
}

/// An ECPrivateKey as it stands in DER.
struct EcPrivateKey<'a> {
    secret: &'a [u8],
    curve: Option<ObjectIdentifier>,
    public: Option<&'a [u8]>,
}

impl<'a> EcPrivateKey<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let mut reader = SliceReader::new(der).ok()?;
        let read = reader.sequence(|fields| {
            let version: u8 = fields.decode()?;
            let secret: &OctetStringRef = fields.decode()?;
            let curve = ContextSpecific::<ObjectIdentifier>::decode_explicit(fields, TagNumber(0))?;
            let public = ContextSpecific::<BitStringRef<'a>>::decode_explicit(fields, TagNumber(1))?;
            let (curve, public) =
                (curve.map(|field| field.value), public.map(|field| field.value.raw_bytes()));
            Ok::<_, pkcs8::der::Error>((version, Self { secret: secret.as_bytes(), curve, public }))
        });
        let (version, key) = read.ok()?;
        (version == 1 && reader.finish().is_ok()).then_some(key)
    }
}

fn unsupported(oid: ObjectIdentifier, path: &Path) -> KeyFileError {
    KeyFileError::UnsupportedAlgorithm {
        path: path.to_owned(),
        algorithm: format!("the key algorithm {oid}"),
    }
}

fn not_a_key(path: &Path) -> KeyFileError {
    KeyFileError::NotAKey { path: path.to_owned(), expected: PLAIN_KEY }
}
