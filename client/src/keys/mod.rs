//! Key files and the signer seam.
//!
//! A private key lives in an encrypted PKCS#8 file ([`PrivateKey::save`]) or, for a daemon's own online keys only, in a
//! plain one ([`PrivateKey::save_insecure_plain`]). Whatever signs does so through [`Signer`]: a key in memory, or one that
//! an ssh-agent keeps ([`Agent`]); a token or a key service later (decision 10). Keys of other tools are brought in by
//! [`PrivateKey::import`].

mod agent;
mod cosign;
mod error;
mod file;
mod import;
mod passphrase;
mod private;
mod sealed;
mod ssh;
#[cfg(test)]
mod tests;

use plimsoll_core::tuf::{Key, KeyId};

pub use agent::{Agent, AgentError, AgentKey};
pub use error::{KdfCost, KeyFileError};
pub use file::{load_public, save_public};
pub use import::Imported;
pub use passphrase::Passphrase;
pub use private::{Algorithm, PrivateKey};

/// Something that signs with one key, wherever that key is kept.
pub trait Signer: Send + Sync {
    /// The public key as it stands in metadata that we author.
    fn key(&self) -> &Key;

    /// The id of [`Signer::key`].
    fn key_id(&self) -> KeyId {
        self.key().id()
    }

    /// The signature over exactly `message`: 64 bytes for Ed25519 (RFC 8032), an ASN.1 DER sequence over the sha256 for
    /// ECDSA P-256. It may take as long as the key's home takes; call it where blocking is allowed.
    ///
    /// # Errors
    /// [`SignError`] if the key's home does not sign.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// Why a key was not made or did not sign. The messages hold no part of the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Randomness,
    /// The key's home refused or failed.
    #[error("the key {} did not sign", .key_id.short())]
    Failed {
        /// Which key was asked.
        key_id: KeyId,
        /// What its home said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
