//! The encryption of a private key under a passphrase: PKCS#8 EncryptedPrivateKeyInfo (RFC 5958, section 3) with PBES2
//! (RFC 8018, 6.2).

use std::path::Path;

use pkcs8::{
    EncryptedPrivateKeyInfo, EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef, SecretDocument,
    der::{ErrorKind, asn1::OctetStringRef, pem},
    pkcs5::{
        self, EncryptionScheme,
        pbes2::{self, Kdf, Pbkdf2Prf},
        scrypt,
    },
};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::{KdfCost, KeyFileError, Passphrase, cosign, import};

pub(super) const SEALED_KEY: &str =
    "an encrypted private key in PKCS#8 PEM (-----BEGIN ENCRYPTED PRIVATE KEY-----)";
pub(super) const SEALED_LABEL: &str = "ENCRYPTED PRIVATE KEY";
pub(super) const PLAIN_LABEL: &str = "PRIVATE KEY";

// What we write: 16 MiB, four passes. OpenSSL 3 opens nothing above 32 MiB including its overhead, so N = 2^15 with
// r = 8 is just out of its reach; p makes up for the work.
const LOG_N: u8 = 14;
const R: u32 = 8;
const P: u32 = 4;

// What we are ready to spend on a file that others may have written.
const MAX_N: u64 = 1 << 17;
const MAX_R: u16 = 16;
const MAX_P: u16 = 4;
const MAX_MEMORY: u64 = 256 * 1024 * 1024;
const MAX_ITERATIONS: u32 = 10_000_000;

/// `pkcs8` in DER, sealed under `passphrase`, in PEM.
pub(super) fn seal(pkcs8: &[u8], passphrase: &Passphrase) -> Result<Zeroizing<String>, KeyFileError> {
    let cost = scrypt::Params::new(LOG_N, R, P).expect("constants within scrypt's range");
    seal_with(pkcs8, passphrase, cost)
}

/// The EncryptedPrivateKeyInfo that `pem` holds. `path` names the file in errors.
pub(super) fn document(pem: &str, path: &Path) -> Result<SecretDocument, KeyFileError> {
    let foreign = |form| Err(KeyFileError::Foreign { path: path.to_owned(), form });
    let not_a_key = || KeyFileError::NotAKey { path: path.to_owned(), expected: SEALED_KEY };
    // What cosign has in its PEM is not DER.
    if pem::decode_label(pem.as_bytes()).is_ok_and(|label| cosign::LABELS.contains(&label)) {
        return foreign("a key of cosign");
    }
    match SecretDocument::from_pem(pem).map_err(|_| not_a_key())? {
        (SEALED_LABEL, document) => Ok(document),
        (PLAIN_LABEL, _) => Err(KeyFileError::Unencrypted { path: path.to_owned() }),
        (import::SEC1_LABEL, _) => foreign("a private key in SEC1 form"),
        _ => Err(not_a_key()),
    }
}

/// The PKCS#8 in DER that the EncryptedPrivateKeyInfo `der` holds sealed under `passphrase`.
pub(super) fn unseal(
    der: &[u8],
    passphrase: &Passphrase,
    path: &Path,
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let not_a_key = || KeyFileError::NotAKey { path: path.to_owned(), expected: SEALED_KEY };
    let wrong = || KeyFileError::WrongPassphrase { path: path.to_owned() };

    let sealed = EncryptedPrivateKeyInfoRef::try_from(der).map_err(|e| match e {
        pkcs8::Error::Asn1(e) => match e.kind() {
            ErrorKind::OidUnknown { oid } => unsupported(path, oid.to_string()),
            _ => not_a_key(),
        },
        _ => not_a_key(),
    })?;
    let EncryptionScheme::Pbes2(parameters) = &sealed.encryption_algorithm else {
        return Err(unsupported(path, "PBES1".to_owned()));
    };
    check_parameters(parameters, path)?;

    let mut bytes = Zeroizing::new(sealed.encrypted_data.as_bytes().to_vec());
    if bytes.is_empty() || bytes.len() % 16 != 0 {
        return Err(not_a_key());
    }
    let length = match parameters.decrypt_in_place(passphrase.bytes(), &mut bytes) {
        Ok(plain) => plain.len(),
        Err(pkcs5::Error::DecryptFailed) => return Err(wrong()),
        Err(_) => return Err(not_a_key()),
    };
    bytes.truncate(length);
    // One wrong passphrase in 256 leaves a padding that looks right; what it gives is not a key.
    PrivateKeyInfoRef::try_from(bytes.as_slice()).map_err(|_| wrong())?;
    Ok(bytes)
}

fn seal_with(
    pkcs8: &[u8],
    passphrase: &Passphrase,
    cost: scrypt::Params,
) -> Result<Zeroizing<String>, KeyFileError> {
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    let random = SystemRandom::new();
    random.fill(&mut salt).and_then(|()| random.fill(&mut iv)).map_err(|_| KeyFileError::Randomness)?;
    let parameters = pbes2::Parameters::generate_scrypt_aes256cbc(cost, &salt, iv)
        .expect("a salt of 16 bytes fits, and r and p are small");
    let data = parameters.encrypt(passphrase.bytes(), pkcs8).expect("AES-256-CBC encrypts any length");
    Ok(to_pem(parameters, &data))
}

fn to_pem(parameters: pbes2::Parameters, data: &[u8]) -> Zeroizing<String> {
    let data = OctetStringRef::new(data).expect("a key is a few hundred bytes");
    let sealed = EncryptedPrivateKeyInfo { encryption_algorithm: parameters.into(), encrypted_data: data };
    let document = SecretDocument::encode_msg(&sealed).expect("small known values always have a DER form");
    document.to_pem(SEALED_LABEL, LineEnding::LF).expect("the label is valid and memory is the limit")
}

/// Refuses what we do not use and what would cost too much, before anything is derived.
fn check_parameters(parameters: &pbes2::Parameters, path: &Path) -> Result<(), KeyFileError> {
    if !matches!(parameters.encryption, pbes2::EncryptionScheme::Aes256Cbc { .. }) {
        return Err(unsupported(path, parameters.encryption.oid().to_string()));
    }
    let cost = match &parameters.kdf {
        Kdf::Scrypt(scrypt) => {
            let (n, r, p) = (scrypt.cost_parameter, scrypt.block_size, scrypt.parallelization);
            KdfCost::Scrypt { n, r, p }
        }
        Kdf::Pbkdf2(pbkdf2) => {
            if pbkdf2.prf != Pbkdf2Prf::HmacWithSha256 {
                return Err(unsupported(path, format!("PBKDF2 with {}", pbkdf2.prf.oid())));
            }
            KdfCost::Pbkdf2 { iterations: pbkdf2.iteration_count }
        }
        other => return Err(unsupported(path, other.oid().to_string())),
    };
    check_cost(cost, SEALED_KEY, path)
}

/// Refuses a cost that is more than a passphrase needs, or none at all.
pub(super) fn check_cost(cost: KdfCost, expected: &'static str, path: &Path) -> Result<(), KeyFileError> {
    let (sane, affordable) = match cost {
        KdfCost::Scrypt { n, r, p } => (
            n >= 2 && n.is_power_of_two() && r > 0 && p > 0,
            n <= MAX_N && r <= MAX_R && p <= MAX_P && 128 * n * u64::from(r) <= MAX_MEMORY,
        ),
        KdfCost::Pbkdf2 { iterations } => (iterations > 0, iterations <= MAX_ITERATIONS),
    };
    match (affordable, sane) {
        (false, _) => Err(KeyFileError::ParametersTooCostly { path: path.to_owned(), cost }),
        (true, false) => Err(KeyFileError::NotAKey { path: path.to_owned(), expected }),
        (true, true) => Ok(()),
    }
}

pub(super) fn unsupported(path: &Path, algorithm: String) -> KeyFileError {
    KeyFileError::UnsupportedAlgorithm { path: path.to_owned(), algorithm }
}

#[cfg(test)]
mod tests {
    use pkcs5::pbes2::{Pbkdf2Params, Salt, ScryptParams};

    use super::*;
    use crate::keys::{Algorithm, PrivateKey, tests::pem};

    const IV: pbes2::EncryptionScheme = pbes2::EncryptionScheme::Aes256Cbc { iv: [7; 16] };

    fn passphrase() -> Passphrase {
        Passphrase::new("correct horse".to_owned()).unwrap()
    }

    fn open(pem: &str) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
        let path = Path::new("x.key");
        unseal(document(pem, path)?.as_bytes(), &passphrase(), path)
    }

    fn scrypt_file(n: u64, r: u16, p: u16) -> Zeroizing<String> {
        let salt = Salt::new([1; 16]).unwrap();
        let kdf =
            ScryptParams { salt, cost_parameter: n, block_size: r, parallelization: p, key_length: None };
        to_pem(pbes2::Parameters { kdf: kdf.into(), encryption: IV }, &[0; 64])
    }

    fn pbkdf2_file(iterations: u32, prf: Pbkdf2Prf) -> Zeroizing<String> {
        let salt = Salt::new([1; 16]).unwrap();
        let kdf = Pbkdf2Params { salt, iteration_count: iterations, key_length: None, prf };
        to_pem(pbes2::Parameters { kdf: kdf.into(), encryption: IV }, &[0; 64])
    }

    #[test]
    fn costly_parameters_are_refused_before_deriving() {
        // The variant says that the costs were read and nothing was derived: 2^24 would want 16 GiB.
        for (n, r, p) in [
            (1 << 24, 8, 1),
            (1 << 18, 1, 1),
            (u64::MAX, 1, 1),
            (1 << 14, 17, 1),
            (1 << 14, 8, 5),
            (2, u16::MAX, u16::MAX),
        ] {
            let error = open(&scrypt_file(n, r, p)).unwrap_err();
            let KeyFileError::ParametersTooCostly { cost, .. } = error else { panic!("{error:?}") };
            assert_eq!(cost, KdfCost::Scrypt { n, r, p });
        }
        for iterations in [10_000_001, u32::MAX] {
            let error = open(&pbkdf2_file(iterations, Pbkdf2Prf::HmacWithSha256)).unwrap_err();
            assert!(matches!(error, KeyFileError::ParametersTooCostly { .. }), "{error:?}");
        }
    }

    #[test]
    fn parameters_that_mean_nothing_are_refused() {
        for (n, r, p) in [(0, 8, 1), (1, 8, 1), (3, 8, 1), (16, 0, 1), (16, 8, 0)] {
            let error = open(&scrypt_file(n, r, p)).unwrap_err();
            assert!(matches!(error, KeyFileError::NotAKey { .. }), "{n} {r} {p}: {error:?}");
        }
        let error = open(&pbkdf2_file(0, Pbkdf2Prf::HmacWithSha256)).unwrap_err();
        assert!(matches!(error, KeyFileError::NotAKey { .. }), "{error:?}");
    }

    #[test]
    fn other_encryption_is_named_and_refused() {
        let error = open(&pbkdf2_file(1, Pbkdf2Prf::HmacWithSha1)).unwrap_err();
        assert!(matches!(error, KeyFileError::UnsupportedAlgorithm { .. }), "{error:?}");
        let aes128 = pbes2::Parameters::generate_pbkdf2_sha256_aes128cbc(1, &[1; 16], [7; 16]).unwrap();
        let error = open(&to_pem(aes128, &[0; 64])).unwrap_err();
        assert!(error.to_string().contains("2.16.840.1.101.3.4.1.2"), "{error}");
    }

    #[test]
    fn a_damaged_file_never_panics() {
        let key = PrivateKey::generate(Algorithm::Ed25519).unwrap();
        let plain = key.to_pem_insecure_plain();
        let (_, plain) = SecretDocument::from_pem(&plain).unwrap();
        // The cheapest scrypt, so that no damaged parameter within the caps takes long either.
        let cost = scrypt::Params::new(1, 1, 1).unwrap();
        let file = seal_with(plain.as_bytes(), &passphrase(), cost).unwrap();
        let (_, sealed) = SecretDocument::from_pem(&file).unwrap();
        assert_eq!(open(&file).unwrap().as_slice(), plain.as_bytes());

        let wrap = |der: &[u8]| pem(SEALED_LABEL, der);
        let mut damaged = sealed.as_bytes().to_vec();
        for i in 0..damaged.len() {
            assert!(open(&wrap(&damaged[..i])).is_err());
            for flip in [0x01, 0x80, 0xff] {
                damaged[i] ^= flip;
                // A flip in the wrapped seed itself is beyond PBES2, which does not authenticate.
                if let Ok(bytes) = open(&wrap(&damaged)) {
                    let _ = PrivateKeyInfoRef::try_from(bytes.as_slice()).unwrap();
                }
                damaged[i] ^= flip;
            }
        }
        let mut text = file.to_string().into_bytes();
        for i in 0..text.len() {
            for byte in [b'\0', b'-', b'\n', b'A', b':', b'='] {
                let kept = std::mem::replace(&mut text[i], byte);
                let _ = open(std::str::from_utf8(&text).unwrap());
                text[i] = kept;
            }
            let _ = open(std::str::from_utf8(&text[..i]).unwrap());
        }
    }
}
