//! `key generate` and `key show`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use plimsoll_core::tuf::{Key, PublicKey};
use serde::Serialize;

use super::{Failure, Out};
use crate::keys::{Algorithm, KeyFileError, Passphrase, PrivateKey, Signer, load_public, save_public};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a key: FILE, encrypted, and its public part beside it, ending in .pub
    Generate {
        /// Writes NAME.key and NAME.pub
        #[arg(required_unless_present = "out", conflicts_with = "out")]
        name: Option<String>,
        /// The private key's file
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// ECDSA on P-256 instead of Ed25519
        #[arg(long)]
        ecdsa: bool,
        /// Take the passphrase from the first line of this file instead of asking
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Show the id and type of a key; a private one needs its passphrase
    Show {
        /// A .pub or .key file
        file: PathBuf,
        /// Take the passphrase from the first line of this file instead of asking
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
}

/// `--key` and `--passphrase-file`, for the commands that sign.
#[derive(Debug, clap::Args)]
pub(super) struct SignerArgs {
    /// Sign with this private key; once for each key that a threshold needs
    #[arg(long, required_unless_present = "draft", value_name = "FILE")]
    key: Vec<PathBuf>,
    /// Take the passphrase from the first line of this file instead of asking
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl SignerArgs {
    /// Opens the keys. Asks for passphrases.
    pub(super) fn open(&self) -> Result<Vec<PrivateKey>, Failure> {
        let mut keys = Vec::<PrivateKey>::new();
        for path in &self.key {
            let key = open(path, self.passphrase_file.as_deref())?;
            // Two signatures of one key count once, and a document with both is refused.
            if keys.iter().any(|known| known.key_id() == key.key_id()) {
                let text = format!("`{}` holds a key that was given already", path.display());
                return Err(Failure::usage(text).next("give each key once"));
            }
            keys.push(key);
        }
        Ok(keys)
    }
}

/// The keys as signers.
pub(super) fn signers(keys: &[PrivateKey]) -> Vec<&dyn Signer> {
    keys.iter().map(|key| key as &dyn Signer).collect()
}

pub(super) fn run(out: &Out, command: Command) -> Result<u8, Failure> {
    match command {
        Command::Generate { name, out: file, ecdsa, passphrase_file } => {
            let private = file.unwrap_or_else(|| key_file(name.unwrap_or_default()));
            generate(out, &private, ecdsa, passphrase_file.as_deref())?;
        }
        Command::Show { file, passphrase_file } => show(out, &file, passphrase_file.as_deref())?,
    }
    Ok(0)
}

#[derive(Serialize)]
struct Shown<'a> {
    key_id: String,
    keytype: &'a str,
    scheme: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    private: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    public: Option<&'a Path>,
}

fn generate(out: &Out, private: &Path, ecdsa: bool, passphrase: Option<&Path>) -> Result<(), Failure> {
    let public = private.with_extension("pub");
    if public == private {
        return Err(Failure::usage(format!("`{}` is a name for a public key", private.display()))
            .next("name the private key, for example --out team.key"));
    }
    // Said before anybody types a passphrase twice; the writing itself never overwrites.
    for path in [private, &public] {
        if path.symlink_metadata().is_ok() {
            return Err(KeyFileError::Exists { path: path.to_owned() }.into());
        }
    }
    let label = private.display().to_string();
    let passphrase = match passphrase {
        Some(file) => Passphrase::from_file(file)?,
        None => Passphrase::prompt(&label, true)?,
    };
    let key = PrivateKey::generate(if ecdsa { Algorithm::EcdsaP256 } else { Algorithm::Ed25519 })?;
    save_public(&public, key.public())?;
    if let Err(error) = key.save(private, &passphrase) {
        // Made a moment ago, and of no use alone. If it stays, the first failure is still the one to tell.
        let _ = fs::remove_file(&public);
        return Err(error.into());
    }
    let shown = shown(key.key(), Some(private), Some(&public));
    let head = format!("{}  {}", shown.key_id, kind(key.public()));
    let notes = [
        format!("private  {}  (encrypted; keep it, and keep its passphrase elsewhere)", private.display()),
        format!("public   {}  (give this to whoever delegates to you)", public.display()),
    ];
    out.result(&shown, &head, &notes)
}

fn show(out: &Out, file: &Path, passphrase: Option<&Path>) -> Result<(), Failure> {
    let public = match load_public(file) {
        Ok(public) => public,
        Err(KeyFileError::NotAKey { .. }) if is_private(file) => open(file, passphrase)?.public().clone(),
        Err(error) => return Err(error.into()),
    };
    let key = Key::new(&public);
    out.result(&shown(&key, None, None), &format!("{}  {}", key.id(), kind(&public)), &[])
}

fn shown<'a>(key: &'a Key, private: Option<&'a Path>, public: Option<&'a Path>) -> Shown<'a> {
    Shown { key_id: key.id().0, keytype: &key.keytype, scheme: &key.scheme, private, public }
}

fn open(path: &Path, passphrase: Option<&Path>) -> Result<PrivateKey, KeyFileError> {
    // What needs no passphrase to be seen is said before one is asked for.
    match load_public(path) {
        Ok(_) => return Err(KeyFileError::NotAKey { path: path.to_owned(), expected: "a private key" }),
        Err(error @ (KeyFileError::NotFound { .. } | KeyFileError::Io { .. })) => return Err(error),
        Err(_) => {}
    }
    let passphrase = match passphrase {
        Some(file) => Passphrase::from_file(file)?,
        None => Passphrase::prompt(&path.display().to_string(), false)?,
    };
    PrivateKey::load(path, &passphrase)
}

/// True if the file looks like a private key, so that it is worth asking for a passphrase.
fn is_private(path: &Path) -> bool {
    let bytes = crate::state::read(path, 64 * 1024).ok().flatten().unwrap_or_default();
    bytes.windows(11).any(|window| window == b"PRIVATE KEY")
}

fn key_file(name: String) -> PathBuf {
    if name.ends_with(".key") { name.into() } else { format!("{name}.key").into() }
}

fn kind(public: &PublicKey) -> &'static str {
    match public {
        PublicKey::Ed25519(_) => "Ed25519",
        PublicKey::EcdsaP256(_) => "ECDSA P-256",
        PublicKey::EcdsaP384(_) => "ECDSA P-384",
        PublicKey::Rsa(_) => "RSA",
    }
}
