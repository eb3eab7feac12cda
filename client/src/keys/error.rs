//! What can be wrong with a key file or a passphrase.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use plimsoll_core::tuf::{KeyError, KeyId};

/// Why a key file or a passphrase cannot be used: the misuse family, the user's files or arguments are to be changed.
///
/// No message holds any part of a key or a passphrase.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// There is no such file.
    #[error("there is no file `{}`", .path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("cannot use the file `{}`", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key file is never overwritten.
    #[error("`{}` exists already and is not overwritten", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner have access to a private key.
    #[error("`{0}` is open to others (mode {mode:03o}); run `chmod 600 {0}`", .path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is bigger than any key or passphrase.
    #[error("`{}` is bigger than {limit} bytes", .path.display())]
    TooBig {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file holds something else, or a damaged key.
    #[error("`{}` is not {expected}", .path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
    },
    /// The private key lies open in its file.
    #[error(
        "`{0}` holds an unencrypted private key; encrypt it with `plimsoll key import {0} --out NAME.key`",
        .path.display()
    )]
    Unencrypted {
        /// The file.
        path: PathBuf,
    },
    /// A private key in the form of another tool, which is imported once and not used as it is.
    #[error("`{0}` is {form}; bring it in with `plimsoll key import {0} --out NAME.key`", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose form.
        form: &'static str,
    },
    /// A private key in a form that is not read.
    #[error("`{}` is {form}, which is not read; {next}", .path.display())]
    UnreadForm {
        /// The file.
        path: PathBuf,
        /// Which form.
        form: &'static str,
        /// What makes it one that is.
        next: &'static str,
    },
    /// The file states a public key that is not the one of its private key.
    #[error("the public key that `{}` states is not that of its private key: the file is damaged or forged", .path.display())]
    StatedPublicKey {
        /// The file.
        path: PathBuf,
    },
    /// The public key file beside a private key is of another key.
    #[error(
        "`{}` is the private key of {}, but `{}` beside it is the public key {}; find out which is the wrong one, and \
         move it away",
        .path.display(), .private.short(), .beside.display(), .public.short()
    )]
    PublicFileDiffers {
        /// The private key's file.
        path: PathBuf,
        /// The id of the key that it gives.
        private: KeyId,
        /// The public key's file.
        beside: PathBuf,
        /// The id of the key in there.
        public: KeyId,
    },
    /// An ECDSA key without its public part, which is not derived here.
    #[error("`{0}` does not state its public key; write it anew with `openssl ec -in {0} -out NEW`", .path.display())]
    NoPublicKey {
        /// The file.
        path: PathBuf,
    },
    /// The passphrase does not open the file, or the encrypted part is damaged: these cannot be told apart.
    #[error("the passphrase does not open `{}`", .path.display())]
    WrongPassphrase {
        /// The file.
        path: PathBuf,
    },
    /// The file asks for more work or memory than a passphrase needs. Nothing was derived.
    #[error("opening `{}` would cost too much: {cost}", .path.display())]
    ParametersTooCostly {
        /// The file.
        path: PathBuf,
        /// What it asks for.
        cost: KdfCost,
    },
    /// A key or an encryption that Plimsoll does not use.
    #[error("`{}` uses {algorithm}, which Plimsoll does not use", .path.display())]
    UnsupportedAlgorithm {
        /// The file.
        path: PathBuf,
        /// Its name or object identifier.
        algorithm: String,
    },
    /// A public key that must not be put into metadata.
    #[error("the public key in `{}` cannot be used", .path.display())]
    PublicKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// An empty passphrase protects nothing.
    #[error("the passphrase is empty")]
    PassphraseEmpty,
    /// The passphrase and its repetition differ.
    #[error("the two passphrases differ")]
    PassphraseMismatch,
    /// The passphrase is not UTF-8.
    #[error("the first line of `{}` is not UTF-8 text", .path.display())]
    PassphraseNotText {
        /// The file.
        path: PathBuf,
    },
    /// There is nobody to ask for a passphrase.
    #[error("there is no terminal to ask for the passphrase; use --passphrase-file")]
    NoTerminal,
    /// The terminal failed or was left without an answer.
    #[error("no passphrase was read from the terminal")]
    Terminal {
        /// What the system said.
        source: io::Error,
    },
    /// The system gave no random bytes to encrypt with.
    #[error("the system gave no random bytes")]
    Randomness,
}

impl KeyFileError {
    /// The error for `source` at `path`.
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path },
            _ => Self::Io { path, source },
        }
    }
}

/// What a file asks to be spent on turning a passphrase into a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KdfCost {
    /// scrypt (RFC 7914): `128 * n * r` bytes of memory, `n * r * p` of work.
    Scrypt {
        /// Cost.
        n: u64,
        /// Block size.
        r: u16,
        /// Parallelisation.
        p: u16,
    },
    /// PBKDF2 (RFC 8018).
    Pbkdf2 {
        /// Iterations.
        iterations: u32,
    },
}

impl fmt::Display for KdfCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scrypt { n, r, p } => write!(f, "scrypt with N={n}, r={r}, p={p}"),
            Self::Pbkdf2 { iterations } => write!(f, "PBKDF2 with {iterations} iterations"),
        }
    }
}
