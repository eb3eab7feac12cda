//! Reading the private keys of other tools, to be sealed as our own.

use std::path::Path;

use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef, der::pem};
use zeroize::Zeroizing;

use super::{KeyFileError, Passphrase, PrivateKey, cosign, file, sealed};

const IMPORTABLE: &str = "a private key that can be imported: Ed25519 or ECDSA P-256 in PKCS#8 (PEM or DER), SEC1 or \
                          cosign's form";
pub(super) const SEC1_LABEL: &str = "EC PRIVATE KEY";
/// OpenSSL writes the curve in front of a SEC1 key.
const PARAMETERS_END: &str = "-----END EC PARAMETERS-----";

/// A private key that another tool wrote.
#[derive(Debug)]
pub struct Imported {
    /// The key.
    pub key: PrivateKey,
    /// What opened its file; `None` if it was not encrypted, or under an empty passphrase.
    pub passphrase: Option<Passphrase>,
}

impl PrivateKey {
    /// Reads the private key file `path` of another tool: PKCS#8, encrypted (as [`PrivateKey::load`]) or not, in PEM or
    /// DER; an ECDSA key in SEC1 form, not encrypted; an encrypted key of cosign. Calls `ask` if a passphrase is needed.
    /// Public keys are compared as by [`PrivateKey::load`]. Blocking: file I/O, and some tenths of a second of derivation.
    ///
    /// # Errors
    /// [`KeyFileError`] as by [`PrivateKey::load`], what `ask` returns, [`KeyFileError::UnreadForm`],
    /// [`KeyFileError::NoPublicKey`].
    pub fn import(
        path: &Path,
        ask: impl FnOnce() -> Result<Passphrase, KeyFileError>,
    ) -> Result<Imported, KeyFileError> {
        let bytes = file::read_private_bytes(path, IMPORTABLE)?;
        let imported = match std::str::from_utf8(&bytes) {
            Ok(text) if text.trim_start().starts_with("-----BEGIN ") => from_text(text, ask, path),
            _ => from_der(&bytes, ask, path),
        };
        let Imported { key, passphrase } = imported?;
        Ok(Imported { key: key.beside(path)?, passphrase })
    }
}

fn from_text(
    text: &str,
    ask: impl FnOnce() -> Result<Passphrase, KeyFileError>,
    path: &Path,
) -> Result<Imported, KeyFileError> {
    let text = text.split_once(PARAMETERS_END).map_or(text, |(_, key)| key).trim_start();
    let label = text.strip_prefix("-----BEGIN ").and_then(|text| text.split_once("-----"));
    let unread = |form, next| Err(KeyFileError::UnreadForm { path: path.to_owned(), form, next });
    match label.map(|(label, _)| label) {
        Some("OPENSSH PRIVATE KEY") => {
            return unread(
                "a private key of OpenSSH",
                "if it is Ed25519, `ssh-add` it and sign with `--key ssh-agent:COMMENT`",
            );
        }
        Some("RSA PRIVATE KEY") => {
            return Err(KeyFileError::UnsupportedAlgorithm {
                path: path.to_owned(),
                algorithm: "RSA".to_owned(),
            });
        }
        Some(SEC1_LABEL) if text.contains("\nProc-Type:") => {
            return unread(
                "sealed in OpenSSL's old way",
                "write it anew with `openssl pkcs8 -topk8 -in FILE -out NEW`",
            );
        }
        _ => {}
    }
    let (label, content) = pem::decode_vec(text.as_bytes()).map_err(|_| not_importable(path))?;
    let content = Zeroizing::new(content);
    match label {
        sealed::PLAIN_LABEL => PrivateKey::from_pkcs8(&content, path).map(plain),
        SEC1_LABEL => PrivateKey::from_ec(&content, None, None, path).map(plain),
        sealed::SEALED_LABEL => sealed_der(&content, ask()?, path),
        label if cosign::LABELS.contains(&label) => from_cosign(&content, ask, path),
        _ => Err(not_importable(path)),
    }
}

fn from_der(
    der: &[u8],
    ask: impl FnOnce() -> Result<Passphrase, KeyFileError>,
    path: &Path,
) -> Result<Imported, KeyFileError> {
    if PrivateKeyInfoRef::try_from(der).is_ok() {
        return PrivateKey::from_pkcs8(der, path).map(plain);
    }
    if EncryptedPrivateKeyInfoRef::try_from(der).is_ok() {
        return sealed_der(der, ask()?, path);
    }
    PrivateKey::from_ec(der, None, None, path).map(plain).map_err(|error| match error {
        KeyFileError::NotAKey { .. } => not_importable(path),
        other => other,
    })
}

/// cosign allows an empty passphrase, which nobody needs to be asked for.
fn from_cosign(
    document: &[u8],
    ask: impl FnOnce() -> Result<Passphrase, KeyFileError>,
    path: &Path,
) -> Result<Imported, KeyFileError> {
    match cosign::open(document, b"", path) {
        Ok(der) => PrivateKey::from_pkcs8(&der, path).map(plain),
        Err(KeyFileError::WrongPassphrase { .. }) => {
            let passphrase = ask()?;
            let key = PrivateKey::from_pkcs8(&cosign::open(document, passphrase.bytes(), path)?, path)?;
            Ok(Imported { key, passphrase: Some(passphrase) })
        }
        Err(error) => Err(error),
    }
}

fn sealed_der(der: &[u8], passphrase: Passphrase, path: &Path) -> Result<Imported, KeyFileError> {
    let key = PrivateKey::from_pkcs8(&sealed::unseal(der, &passphrase, path)?, path)?;
    Ok(Imported { key, passphrase: Some(passphrase) })
}

fn plain(key: PrivateKey) -> Imported {
    Imported { key, passphrase: None }
}

fn not_importable(path: &Path) -> KeyFileError {
    KeyFileError::NotAKey { path: path.to_owned(), expected: IMPORTABLE }
}
