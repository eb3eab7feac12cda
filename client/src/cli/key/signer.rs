//! `--key` and `--passphrase-file`: the keys that a command signs with.

use std::{
    convert::Infallible,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use clap::builder::{OsStringValueParser, TypedValueParser};

use plimsoll_core::tuf::KeyId;

use super::Failure;
use crate::{
    cli::delegate::name,
    keys::{Agent, AgentError, AgentKey, KeyFileError, Passphrase, PrivateKey, Signer, load_public},
};

const AGENT: &str = "ssh-agent:";

/// Where a private key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum KeyPlace {
    /// In a file.
    File(PathBuf),
    /// In an ssh-agent, chosen by what stands here.
    Agent(String),
}

impl KeyPlace {
    /// Takes an argument: `ssh-agent:SELECTOR`, or a file. `./ssh-agent:x` is a file.
    fn new(argument: OsString) -> Self {
        match argument.to_str().and_then(|text| text.strip_prefix(AGENT)) {
            Some(selector) => Self::Agent(selector.to_owned()),
            None => Self::File(argument.into()),
        }
    }

    pub(super) fn parser() -> impl TypedValueParser<Value = Self> {
        OsStringValueParser::new().try_map(|argument| Ok::<_, Infallible>(Self::new(argument)))
    }
}

impl fmt::Display for KeyPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Agent(selector) => write!(f, "{AGENT}{selector}"),
        }
    }
}

/// `--key` and `--passphrase-file`, for the commands that sign.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct SignerArgs {
    /// Sign with this private key: a file, or ssh-agent:SELECTOR; once for each key that a threshold needs
    #[arg(long, required_unless_present = "draft", value_name = "KEY", value_parser = KeyPlace::parser())]
    key: Vec<KeyPlace>,
    /// Take the passphrase from the first line of this file instead of asking; once for all keys, or once for each file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Vec<PathBuf>,
}

impl SignerArgs {
    /// True if no key is given: a draft is to be written that others sign.
    pub(in crate::cli) fn is_empty(&self) -> bool {
        self.key.is_empty()
    }

    /// Opens the keys, in the order in which they were given. Asks for passphrases.
    pub(in crate::cli) fn open(&self) -> Result<Vec<Box<dyn Signer>>, Failure> {
        let files = self.key.iter().filter(|key| matches!(key, KeyPlace::File(_))).count();
        let given = self.passphrase_file.len();
        if given > 1 && given != files {
            let text = format!("{given} passphrase files were given for {files} key files");
            return Err(Failure::usage(text).next("give --passphrase-file once, or once for each --key FILE"));
        }
        let mut passphrases = self.passphrase_file.iter().map(PathBuf::as_path);
        let mut keys = Vec::<Box<dyn Signer>>::new();
        for place in &self.key {
            let key: Box<dyn Signer> = match place {
                KeyPlace::Agent(selector) => Box::new(agent_key(selector)?),
                KeyPlace::File(path) if given == 1 => Box::new(open(path, Some(&self.passphrase_file[0]))?),
                KeyPlace::File(path) => Box::new(open(path, passphrases.next())?),
            };
            // Two signatures of one key count once, and a document with both is refused.
            if keys.iter().any(|known| known.key_id() == key.key_id()) {
                let text = format!("`{place}` holds a key that was given already");
                return Err(Failure::usage(text).next("give each key once"));
            }
            keys.push(key);
        }
        Ok(keys)
    }

    /// What the files of `keys`, which were opened from here, call them: `alice.key` is alice's.
    pub(in crate::cli) fn names(&self, keys: &[Box<dyn Signer>]) -> Vec<(KeyId, String)> {
        let name = |place: &KeyPlace| match place {
            KeyPlace::File(path) => name(path),
            KeyPlace::Agent(_) => None,
        };
        self.key.iter().zip(keys).filter_map(|(place, key)| Some((key.key_id(), name(place)?))).collect()
    }
}

/// The keys as signers.
pub(in crate::cli) fn signers(keys: &[Box<dyn Signer>]) -> Vec<&dyn Signer> {
    keys.iter().map(AsRef::as_ref).collect()
}

/// Opens a key file. Asks for its passphrase unless there is a file with it.
pub(super) fn open(path: &Path, passphrase: Option<&Path>) -> Result<PrivateKey, KeyFileError> {
    // What needs no passphrase to be seen is said before one is asked for.
    match load_public(path) {
        Ok(_) => return Err(KeyFileError::NotAKey { path: path.to_owned(), expected: "a private key" }),
        Err(error @ (KeyFileError::NotFound { .. } | KeyFileError::Io { .. })) => return Err(error),
        Err(_) => {}
    }
    PrivateKey::load_asking(path, || ask(path, passphrase))
}

/// The passphrase of the key file `path`, from a file or by asking.
pub(super) fn ask(path: &Path, passphrase: Option<&Path>) -> Result<Passphrase, KeyFileError> {
    match passphrase {
        Some(file) => Passphrase::from_file(file),
        None => Passphrase::prompt(&path.display().to_string(), false),
    }
}

/// The key of the ssh-agent that `selector` means.
pub(super) fn agent_key(selector: &str) -> Result<AgentKey, Failure> {
    Ok(Agent::from_env()?.key_for(selector)?)
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        let text = crate::verify::chain(&error);
        match error {
            AgentError::NoAgent => Self::usage(text)
                .next("start one with `eval \"$(ssh-agent)\"`, then add the key with `ssh-add FILE`"),
            AgentError::NoSuchKey { .. } => Self::usage(text).next(
                "choose one by its comment, by eight or more characters of its id, or by its SHA256:… fingerprint; \
                 `ssh-add FILE` adds one, `plimsoll key list` shows what is there",
            ),
            AgentError::Ambiguous { .. } => {
                Self::usage(text).next("choose it by its SHA256:… fingerprint, or by more of its id")
            }
            AgentError::Unreachable { .. } => {
                Self::internal(text).next("see whether `ssh-add -l` works; SSH_AUTH_SOCK names the agent's socket")
            }
            _ => Self::internal(text),
        }
    }
}
