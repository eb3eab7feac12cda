//! The encrypted private keys of cosign: JSON in PEM, scrypt (RFC 7914), and NaCl's secretbox (XSalsa20-Poly1305) around
//! a PKCS#8 PrivateKeyInfo.

use std::path::Path;

use data_encoding::BASE64;
use pkcs8::pkcs5::scrypt::{self, scrypt};
use plimsoll_core::record;
use poly1305::{Poly1305, universal_hash::KeyInit};
use salsa20::{
    XSalsa20,
    cipher::{KeyIvInit, StreamCipher},
};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{KdfCost, KeyFileError, sealed};

/// What stands in the first line of the PEM, as newer and older versions write it.
pub(super) const LABELS: [&str; 2] = ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"];
const COSIGN_KEY: &str = "an undamaged key of cosign (-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----)";
const TAG: usize = 16;

#[derive(Deserialize)]
struct Document {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Deserialize)]
struct Params {
    #[serde(rename = "N")]
    n: u64,
    r: u16,
    p: u16,
}

#[derive(Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// The PKCS#8 in DER that the JSON `document` holds sealed under `passphrase`, which may be empty: cosign allows that.
/// `path` names the file in errors.
pub(super) fn open(
    document: &[u8],
    passphrase: &[u8],
    path: &Path,
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let damaged = || KeyFileError::NotAKey { path: path.to_owned(), expected: COSIGN_KEY };
    let Document { kdf, cipher, ciphertext } = record::json(document).map_err(|_| damaged())?;
    for (name, ours) in [(kdf.name, "scrypt"), (cipher.name, "nacl/secretbox")] {
        if name != ours {
            return Err(sealed::unsupported(path, name.chars().take(40).collect()));
        }
    }
    let bytes = |text: &str| BASE64.decode(text.as_bytes()).map_err(|_| damaged());
    let (salt, nonce, sealed_bytes) = (bytes(&kdf.salt)?, bytes(&cipher.nonce)?, bytes(&ciphertext)?);
    let nonce = nonce.try_into().map_err(|_| damaged())?;
    let (tag, sealed_bytes) = sealed_bytes.split_at_checked(TAG).ok_or_else(damaged)?;

    let Params { n, r, p } = kdf.params;
    sealed::check_cost(KdfCost::Scrypt { n, r, p }, COSIGN_KEY, path)?;
    let log_n = u8::try_from(n.ilog2()).expect("n was checked to be small");
    let params = scrypt::Params::new(log_n, r.into(), p.into()).map_err(|_| damaged())?;
    let mut key = Zeroizing::new([0; 32]);
    scrypt(passphrase, &salt, &params, key.as_mut_slice()).expect("32 bytes can be derived");
    let opened = open_box(&key, &nonce, tag, sealed_bytes);
    opened.ok_or_else(|| KeyFileError::WrongPassphrase { path: path.to_owned() })
}

/// NaCl's `crypto_secretbox_open`: the first 32 bytes of the key stream are the key of the tag, the rest hides the message.
fn open_box(key: &[u8; 32], nonce: &[u8; 24], tag: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut stream = XSalsa20::new(key.into(), nonce.into());
    let mut tag_key = Zeroizing::new([0; 32]);
    stream.apply_keystream(tag_key.as_mut_slice());
    let ours = Poly1305::new((&*tag_key).into()).compute_unpadded(sealed);
    // All bytes are looked at, whichever differ.
    let differ = ours.iter().zip(tag).fold(0, |differ, (ours, theirs)| differ | (ours ^ theirs));
    if differ != 0 || tag.len() != TAG {
        return None;
    }
    let mut message = Zeroizing::new(sealed.to_vec());
    stream.apply_keystream(&mut message);
    Some(message)
}
