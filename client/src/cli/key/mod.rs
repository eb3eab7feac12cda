//! `key`: making, showing, listing, importing and changing keys.

mod list;
mod signer;

use std::{
    fs,
    path::{Path, PathBuf},
};

use plimsoll_core::tuf::{Key, PublicKey};
use serde::Serialize;

use super::{Failure, Out};
use crate::keys::{
    Algorithm, Imported, KeyFileError, Passphrase, PrivateKey, Signer, load_public, save_public,
};

use signer::{KeyPlace, agent_key, ask, open};
pub(super) use signer::{SignerArgs, signers};

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
        /// A .pub or .key file, or ssh-agent:SELECTOR
        #[arg(value_name = "KEY", value_parser = KeyPlace::parser())]
        key: KeyPlace,
        /// Take the passphrase from the first line of this file instead of asking
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// List the keys in folders and files, and the Ed25519 keys of the ssh-agent
    List {
        /// Folders, whose .pub and .key files are listed, and files; else the current folder
        #[arg(value_name = "PATH")]
        paths: Vec<PathBuf>,
    },
    /// Bring in the private key of another tool: PKCS#8 (openssl, securesystemslib), SEC1, cosign
    Import {
        /// The other tool's file; it stays as it is
        file: PathBuf,
        /// The new private key's file; the public part goes beside it, ending in .pub
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Take the passphrase of the other tool's file from the first line of this file instead of asking
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
        /// Take the passphrase of the new file from the first line of this file; else it is the same as before
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
    },
    /// Write the public part of a key, in PEM
    ExportPublic {
        /// A .pub or .key file, or ssh-agent:SELECTOR
        #[arg(value_name = "KEY", value_parser = KeyPlace::parser())]
        key: KeyPlace,
        /// Where to; else to standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Take the passphrase from the first line of this file instead of asking
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
    },
    /// Change the passphrase of a private key's file
    Passwd {
        /// The private key's file
        file: PathBuf,
        /// Take the present passphrase from the first line of this file instead of asking
        #[arg(long, value_name = "FILE")]
        passphrase_file: Option<PathBuf>,
        /// Take the new passphrase from the first line of this file instead of asking
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
    },
}

pub(super) fn run(out: &Out, command: Command) -> Result<u8, Failure> {
    match command {
        Command::Generate { name, out: file, ecdsa, passphrase_file } => {
            let private = file.unwrap_or_else(|| key_file(name.unwrap_or_default()));
            generate(out, &private, ecdsa, passphrase_file.as_deref())?;
        }
        Command::Show { key, passphrase_file } => show(out, &key, passphrase_file.as_deref())?,
        Command::List { paths } => list::run(out, &paths)?,
        Command::Import { file, out: private, passphrase_file, new_passphrase_file } => {
            import(out, &file, &private, passphrase_file.as_deref(), new_passphrase_file.as_deref())?;
        }
        Command::ExportPublic { key, out: file, passphrase_file } => {
            export_public(out, &key, file.as_deref(), passphrase_file.as_deref())?;
        }
        Command::Passwd { file, passphrase_file, new_passphrase_file } => {
            passwd(out, &file, passphrase_file.as_deref(), new_passphrase_file.as_deref())?;
        }
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
    let public = public_beside(private)?;
    let passphrase = new_passphrase(private, passphrase)?;
    let key = PrivateKey::generate(if ecdsa { Algorithm::EcdsaP256 } else { Algorithm::Ed25519 })?;
    save(out, &key, private, &public, &passphrase)
}

fn import(
    out: &Out,
    file: &Path,
    private: &Path,
    passphrase: Option<&Path>,
    new: Option<&Path>,
) -> Result<(), Failure> {
    let public = public_beside(private)?;
    let Imported { key, passphrase: before } = PrivateKey::import(file, || ask(file, passphrase))?;
    let passphrase = match (new, before) {
        (None, Some(before)) => before,
        (new, _) => new_passphrase(private, new).map_err(|error| match error {
            KeyFileError::NoTerminal => Failure::from(error).next(
                "give the passphrase of the new file with --new-passphrase-file: the one that is imported has none",
            ),
            error => error.into(),
        })?,
    };
    save(out, &key, private, &public, &passphrase)
}

fn passwd(out: &Out, file: &Path, passphrase: Option<&Path>, new: Option<&Path>) -> Result<(), Failure> {
    let key = open(file, passphrase)?;
    let new = new_passphrase(file, new).map_err(|error| match error {
        KeyFileError::NoTerminal => {
            Failure::from(error).next("give the new one with --new-passphrase-file FILE")
        }
        error => error.into(),
    })?;
    key.reseal(file, &new)?;
    let head = format!("{}  {}", key.key_id(), kind(key.public()));
    let note =
        format!("private  {}  (opens with the new passphrase only; copies keep the old one)", file.display());
    out.result(&shown(key.key(), Some(file), None), &head, &[note])
}

fn show(out: &Out, place: &KeyPlace, passphrase: Option<&Path>) -> Result<(), Failure> {
    let public = public(place, passphrase)?;
    let key = Key::new(&public);
    out.result(&shown(&key, None, None), &format!("{}  {}", key.id(), kind(&public)), &[])
}

fn export_public(
    out: &Out,
    place: &KeyPlace,
    file: Option<&Path>,
    passphrase: Option<&Path>,
) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Exported<'a> {
        #[serde(flatten)]
        key: Shown<'a>,
        pem: &'a str,
    }
    if let Some(file) = file {
        refuse_existing(file)?;
    }
    let public = public(place, passphrase)?;
    let (key, pem) = (Key::new(&public), public.to_pem());
    let exported = Exported { key: shown(&key, None, file), pem: &pem };
    match file {
        None => out.result(&exported, pem.trim_end(), &[]),
        Some(file) => {
            save_public(file, &public)?;
            let note = format!("public   {}  (give this to whoever delegates to you)", file.display());
            out.result(&exported, &format!("{}  {}", key.id(), kind(&public)), &[note])
        }
    }
}

/// Writes both files of a new key and shows it.
fn save(
    out: &Out,
    key: &PrivateKey,
    private: &Path,
    public: &Path,
    passphrase: &Passphrase,
) -> Result<(), Failure> {
    save_public(public, key.public())?;
    if let Err(error) = key.save(private, passphrase) {
        // Made a moment ago, and of no use alone. If it stays, the first failure is still the one to tell.
        let _ = fs::remove_file(public);
        return Err(error.into());
    }
    let shown = shown(key.key(), Some(private), Some(public));
    let head = format!("{}  {}", shown.key_id, kind(key.public()));
    let notes = [
        format!("private  {}  (encrypted; keep it, and keep its passphrase elsewhere)", private.display()),
        format!("public   {}  (give this to whoever delegates to you)", public.display()),
    ];
    out.result(&shown, &head, &notes)
}

/// Where the public part of the new key `private` goes, if nothing is in the way of either.
fn public_beside(private: &Path) -> Result<PathBuf, Failure> {
    let public = private.with_extension("pub");
    if public == private {
        return Err(Failure::usage(format!("`{}` is a name for a public key", private.display()))
            .next("name the private key, for example --out team.key"));
    }
    refuse_existing(private)?;
    refuse_existing(&public)?;
    Ok(public)
}

/// Says it before anybody types a passphrase twice; the writing itself never overwrites.
fn refuse_existing(path: &Path) -> Result<(), KeyFileError> {
    if path.symlink_metadata().is_ok() {
        return Err(KeyFileError::Exists { path: path.to_owned() });
    }
    Ok(())
}

fn new_passphrase(private: &Path, passphrase: Option<&Path>) -> Result<Passphrase, KeyFileError> {
    match passphrase {
        Some(file) => Passphrase::from_file(file),
        None => Passphrase::prompt(&format!("{} (new)", private.display()), true),
    }
}

/// The public key of what a person points to; a private one is opened for it.
fn public(place: &KeyPlace, passphrase: Option<&Path>) -> Result<PublicKey, Failure> {
    let file = match place {
        KeyPlace::Agent(selector) => return Ok(agent_key(selector)?.public()),
        KeyPlace::File(file) => file,
    };
    match load_public(file) {
        Ok(public) => Ok(public),
        Err(KeyFileError::NotAKey { .. }) if is_private(file) => Ok(open(file, passphrase)?.public().clone()),
        Err(error) => Err(error.into()),
    }
}

fn shown<'a>(key: &'a Key, private: Option<&'a Path>, public: Option<&'a Path>) -> Shown<'a> {
    Shown { key_id: key.id().0, keytype: &key.keytype, scheme: &key.scheme, private, public }
}

/// True if the file looks like a private key, so that it is worth asking for a passphrase.
fn is_private(path: &Path) -> bool {
    // Opening a FIFO would wait for its writer.
    if !fs::metadata(path).is_ok_and(|found| found.is_file()) {
        return false;
    }
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
