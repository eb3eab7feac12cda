//! Ed25519 keys that an ssh-agent keeps (draft-ietf-sshm-ssh-agent): two questions over a Unix socket.
//!
//! The agent signs the message as it is; its answer is the 64 bytes of RFC 8032 with a name in front (RFC 8709), so it is
//! good for metadata. Nothing that the agent answers is believed: a signature is used only if the key that was chosen
//! verifies it.

use std::{
    collections::BTreeMap,
    env, fmt,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use plimsoll_core::tuf::{Key, KeyId, PublicKey};

use super::{SignError, Signer, ssh};

const SOCKET: &str = "SSH_AUTH_SOCK";
/// The longest message that OpenSSH's agent sends or takes, bytes.
const MAX_MESSAGE: usize = 256 * 1024;
const LIST_TIME: Duration = Duration::from_secs(10);
/// A person may have to confirm (`ssh-add -c`).
const SIGN_TIME: Duration = Duration::from_secs(120);
/// An id is chosen by no fewer of its characters.
const MIN_PREFIX: usize = 8;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGNATURE: u8 = 14;

/// Why an ssh-agent is of no help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// Misuse: there is no agent.
    #[error("there is no ssh-agent: SSH_AUTH_SOCK is not set")]
    NoAgent,
    /// Misuse: none of its keys is meant.
    #[error("the ssh-agent has no Ed25519 key `{selector}`; {}", known(.held))]
    NoSuchKey {
        /// What was asked for.
        selector: String,
        /// The Ed25519 keys it has, described.
        held: Vec<String>,
    },
    /// Misuse: several keys could be meant.
    #[error("`{selector}` could be several keys of the ssh-agent: {}", .held.join("; "))]
    Ambiguous {
        /// What was asked for.
        selector: String,
        /// The keys that could be meant, described.
        held: Vec<String>,
    },
    /// It does not answer, or not in time.
    #[error("cannot talk to the ssh-agent at `{}`", .socket.display())]
    Unreachable {
        /// Its socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It answers something else than its protocol allows.
    #[error("the ssh-agent at `{}` answered with {what}", .socket.display())]
    Garbled {
        /// Its socket.
        socket: PathBuf,
        /// What is wrong with the answer.
        what: &'static str,
    },
    /// More than an agent takes.
    #[error(
        "this is too long for an ssh-agent, which takes {MAX_MESSAGE} bytes at once; sign it with a key file"
    )]
    TooLong,
    /// It did not do what it was asked: the key was removed, the agent is locked, or somebody declined.
    #[error("the ssh-agent refused")]
    Refused,
    /// The signature is not one of the key that was asked to sign.
    #[error("the ssh-agent's signature does not verify with the key that was asked for")]
    WrongSignature,
}

fn known(keys: &[String]) -> String {
    if keys.is_empty() { "it has none at all".to_owned() } else { format!("it has {}", keys.join("; ")) }
}

/// An ssh-agent.
#[derive(Debug, Clone)]
pub struct Agent {
    socket: PathBuf,
}

/// An Ed25519 key that an ssh-agent keeps.
pub struct AgentKey {
    agent: Agent,
    key: Key,
    id: KeyId,
    blob: Vec<u8>,
    comment: String,
}

impl Agent {
    /// The agent that `SSH_AUTH_SOCK` names. No I/O.
    ///
    /// # Errors
    /// [`AgentError::NoAgent`].
    pub fn from_env() -> Result<Self, AgentError> {
        let socket = env::var_os(SOCKET).filter(|socket| !socket.is_empty()).ok_or(AgentError::NoAgent)?;
        Ok(Self::at(Path::new(&socket)))
    }

    /// The agent that listens at `socket`. No I/O.
    pub fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The Ed25519 keys that the agent has now, each once, by id. Others, and weak ones, are left out. Blocking: waits up
    /// to 10 s.
    ///
    /// # Errors
    /// [`AgentError::Unreachable`], [`AgentError::Garbled`], [`AgentError::Refused`].
    pub fn keys(&self) -> Result<Vec<AgentKey>, AgentError> {
        let answer = self.ask(&[REQUEST_IDENTITIES], IDENTITIES, LIST_TIME)?;
        let listed = identities(&answer).ok_or_else(|| self.garbled("a damaged list of keys"))?;
        let keys = listed.into_iter().filter_map(|(blob, comment)| self.key(blob, comment));
        Ok(keys.map(|key| (key.id.clone(), key)).collect::<BTreeMap<_, _>>().into_values().collect())
    }

    /// The one Ed25519 key that `selector` means: its comment, the first eight or more characters of its key id, or its
    /// fingerprint, `SHA256:…` as `ssh-add -l` shows it. Blocking as [`Agent::keys`].
    ///
    /// # Errors
    /// Those of [`Agent::keys`], [`AgentError::NoSuchKey`], [`AgentError::Ambiguous`].
    pub fn key_for(&self, selector: &str) -> Result<AgentKey, AgentError> {
        let keys = self.keys()?;
        let described = |keys: &[AgentKey]| keys.iter().map(ToString::to_string).collect();
        let all = described(&keys);
        let mut meant: Vec<_> = keys.into_iter().filter(|key| key.is_meant(selector)).collect();
        match (meant.pop(), meant.is_empty()) {
            (Some(key), true) => Ok(key),
            (Some(key), false) => {
                meant.push(key);
                Err(AgentError::Ambiguous { selector: selector.to_owned(), held: described(&meant) })
            }
            (None, _) => Err(AgentError::NoSuchKey { selector: selector.to_owned(), held: all }),
        }
    }

    fn key(&self, blob: &[u8], comment: &[u8]) -> Option<AgentKey> {
        let key = Key::new(&ssh::ed25519(blob)?);
        key.check_authored().ok()?;
        let comment = String::from_utf8_lossy(comment).into_owned();
        Some(AgentKey { agent: self.clone(), id: key.id(), key, blob: blob.to_vec(), comment })
    }

    /// Sends `request` and returns what follows the type of the answer, which must be `expected`.
    fn ask(&self, request: &[u8], expected: u8, time: Duration) -> Result<Vec<u8>, AgentError> {
        let mut message = Vec::new();
        ssh::push_string(&mut message, request);
        let failed = |source| AgentError::Unreachable { socket: self.socket.clone(), source };
        let mut stream = Timed::connect(&self.socket, time).map_err(failed)?;
        stream.send(&message).map_err(failed)?;
        let mut length = [0; 4];
        stream.receive(&mut length).map_err(failed)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if !(1..=MAX_MESSAGE).contains(&length) {
            return Err(self.garbled("a message of no possible length"));
        }
        let mut answer = vec![0; length];
        stream.receive(&mut answer).map_err(failed)?;
        match answer[0] {
            kind if kind == expected => Ok(answer.split_off(1)),
            FAILURE => Err(AgentError::Refused),
            _ => Err(self.garbled("a message of another kind")),
        }
    }

    fn garbled(&self, what: &'static str) -> AgentError {
        AgentError::Garbled { socket: self.socket.clone(), what }
    }
}

impl AgentKey {
    /// What the agent calls it; anything at all, perhaps nothing.
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// `SHA256:…`, as `ssh-add -l` shows it.
    pub fn fingerprint(&self) -> String {
        ssh::fingerprint(&self.blob)
    }

    /// The public key.
    ///
    /// # Panics
    /// Never: the blob was read before.
    pub fn public(&self) -> PublicKey {
        ssh::ed25519(&self.blob).expect("the blob was read before")
    }

    fn is_meant(&self, selector: &str) -> bool {
        selector == self.comment
            || selector == self.fingerprint()
            || selector.len() >= MIN_PREFIX && self.id.0.starts_with(&selector.to_ascii_lowercase())
    }

    pub(super) fn signature(&self, message: &[u8]) -> Result<Vec<u8>, AgentError> {
        let mut request = vec![SIGN_REQUEST];
        ssh::push_string(&mut request, &self.blob);
        ssh::push_string(&mut request, message);
        request.extend_from_slice(&[0; 4]); // No flags: they choose hashes for RSA.
        if request.len() > MAX_MESSAGE {
            return Err(AgentError::TooLong);
        }
        let answer = self.agent.ask(&request, SIGNATURE, SIGN_TIME)?;
        let signature = signature(&answer).ok_or_else(|| self.agent.garbled("a damaged signature"))?;
        if !self.key.verifies(message, signature) {
            return Err(AgentError::WrongSignature);
        }
        Ok(signature.to_vec())
    }
}

impl Signer for AgentKey {
    fn key(&self) -> &Key {
        &self.key
    }

    fn key_id(&self) -> KeyId {
        self.id.clone()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.signature(message)
            .map_err(|error| SignError::Failed { key_id: self.id.clone(), source: Box::new(error) })
    }
}

impl fmt::Display for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.id.short(), self.fingerprint(), self.comment)
    }
}

impl fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentKey")
            .field("id", &self.id)
            .field("comment", &self.comment)
            .finish_non_exhaustive()
    }
}

/// The blobs and comments of an answer to [`REQUEST_IDENTITIES`].
fn identities(mut answer: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let count = ssh::number(&mut answer)?;
    let mut listed = Vec::new();
    // Each takes eight bytes at least, so a count that is too big ends the loop soon.
    for _ in 0..count {
        listed.push((ssh::string(&mut answer)?, ssh::string(&mut answer)?));
    }
    answer.is_empty().then_some(listed)
}

/// The 64 bytes in an answer to [`SIGN_REQUEST`].
fn signature(mut answer: &[u8]) -> Option<&[u8]> {
    let mut blob = ssh::string(&mut answer)?;
    let algorithm = ssh::string(&mut blob)?;
    let signature = ssh::string(&mut blob)?;
    let whole = answer.is_empty() && blob.is_empty() && algorithm == ssh::ED25519;
    (whole && signature.len() == 64).then_some(signature)
}

/// A stream that ends at a given time, however slowly bytes drip.
struct Timed {
    stream: UnixStream,
    end: Instant,
}

impl Timed {
    fn connect(socket: &Path, time: Duration) -> io::Result<Self> {
        Ok(Self { stream: UnixStream::connect(socket)?, end: Instant::now() + time })
    }

    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(self.left()?))?;
            match again(self.stream.write(bytes))? {
                Some(0) => return Err(io::ErrorKind::WriteZero.into()),
                Some(sent) => bytes = &bytes[sent..],
                None => {}
            }
        }
        Ok(())
    }

    fn receive(&mut self, mut into: &mut [u8]) -> io::Result<()> {
        while !into.is_empty() {
            self.stream.set_read_timeout(Some(self.left()?))?;
            match again(self.stream.read(into))? {
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(got) => into = &mut into[got..],
                None => {}
            }
        }
        Ok(())
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

/// `None` if nothing happened yet: a signal, or the time that the system was given.
fn again(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => Ok(None),
        Err(error) => Err(error),
    }
}
