//! Bearer tokens for submitting, `tokens.toml`: names, hashes, what they are for and until when. The tokens themselves are
//! kept by nobody but those who were given them.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    hint::black_box,
    io::{self, Write},
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use plimsoll::registry::Secret;
use plimsoll_core::record;
use ring::{
    digest,
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{config::valid_name, secrets::SecretFile};

/// What the file is called in the data folder.
pub const TOKENS_FILE: &str = "tokens.toml";
/// Every token begins with this, so that those who look for secrets in the wrong place find it.
const PREFIX: &str = "plt_";
/// A file of tokens is not larger, bytes.
const MAX_FILE: usize = 1 << 20;
/// No file has more.
const MAX_TOKENS: usize = 1000;
const HEADER: &str = "# Who may submit. Written by `plimsolld token`; it holds hashes, and the tokens themselves are nowhere.\n";

/// One token, without itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// What the operator calls it: lower-case letters, digits, `-`.
    pub name: String,
    /// sha256 of the token's text, 64 hex digits.
    pub sha256: String,
    /// The trust repositories that it is for; none for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusts: Option<BTreeSet<String>>,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// From when on it is good for nothing; none for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<DateTime<Utc>>,
}

/// All tokens of a daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// In the order in which they were made; no name and no hash twice.
    #[serde(default, rename = "token")]
    pub list: Vec<Token>,
}

/// Why nobody is let in. What it says is safe to tell whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// There was none.
    #[error(
        "submissions need a token here: ask who runs this daemon for one (`plimsolld token add NAME`), and give it in \
         PLIMSOLL_TOKEN or with --token-file"
    )]
    Missing,
    /// It is none of ours.
    #[error(
        "this token is unknown or was removed: ask who runs this daemon for another (`plimsolld token add NAME`)"
    )]
    Unknown,
    /// It is too old.
    #[error(
        "the token {name} expired at {at}: ask who runs this daemon for another (`plimsolld token add NAME`)"
    )]
    Expired {
        /// The token's name.
        name: String,
        /// Since when.
        at: DateTime<Utc>,
    },
    /// It is for other trust repositories.
    #[error(
        "the token {name} is not for trust repository {trust}: use the one for it, or ask who runs this daemon"
    )]
    OtherTrust {
        /// The token's name.
        name: String,
        /// What was submitted to.
        trust: String,
    },
}

/// Why a file of tokens cannot be used. All of it is misuse.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It cannot be read or written.
    #[error("cannot use the file of tokens {file}")]
    File {
        /// The file.
        file: SecretFile,
        /// The system's reason.
        source: io::Error,
    },
    /// It does not say what it should.
    #[error("the file of tokens {file}, line {line}: {message}")]
    Content {
        /// The file.
        file: SecretFile,
        /// The line, from 1; the first one if it cannot be told.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A name that is there already.
    #[error("there is a token called `{0}` already: remove it, or give another name")]
    NameTwice(String),
    /// A name that is not there.
    #[error("there is no token called `{0}`: `plimsolld token list` shows those there are")]
    NoSuchName(String),
    /// As many as there may be.
    #[error("there are {MAX_TOKENS} tokens: remove those that are not used any more")]
    TooMany,
    /// The system's random numbers.
    #[error("the system gives no random numbers")]
    Randomness,
}

/// What a new token is for.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Its name, a valid one.
    pub name: String,
    /// The trust repositories that it is for; none for all.
    pub trusts: Option<BTreeSet<String>>,
    /// Until when; none for ever.
    pub expires: Option<DateTime<Utc>>,
}

impl Tokens {
    /// Reads `file`, which only its owner may read; none if it does not exist. Blocking disk I/O.
    ///
    /// # Errors
    /// [`TokenError::File`], [`TokenError::Content`].
    pub fn read(file: &SecretFile) -> Result<Option<Self>, TokenError> {
        let failed = |source| TokenError::File { file: file.clone(), source };
        let bytes = match file.read(MAX_FILE) {
            Ok(bytes) => bytes,
            // A credential that was configured and is not there is a mistake, not the state before the first token.
            Err(e) if e.kind() == io::ErrorKind::NotFound && matches!(file, SecretFile::File(_)) => {
                return Ok(None);
            }
            Err(source) => return Err(failed(source)),
        };
        let wrong = |line, message| TokenError::Content { file: file.clone(), line, message };
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong(1, "it is not UTF-8 text".to_owned()))?;
        let tokens: Self = record::toml(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start).min(text.len());
            let line = 1 + text.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count();
            wrong(line, error.message().split_whitespace().collect::<Vec<_>>().join(" "))
        })?;
        tokens.check().map_err(|message| wrong(1, message))?;
        Ok(Some(tokens))
    }

    /// The token that `presented` is, if it is for `trust` and good at `now`. Takes as long for a wrong one as for any.
    ///
    /// # Errors
    /// [`Denial`].
    pub fn admit(&self, presented: &str, trust: &str, now: DateTime<Utc>) -> Result<&Token, Denial> {
        let shown = hash(presented);
        let mut found = None;
        for token in &self.list {
            // All are compared, and each to its end. What is compared are hashes, so even a leak would tell nothing that
            // helps to find a token.
            if same(token.sha256.as_bytes(), shown.as_bytes()) {
                found = Some(token);
            }
        }
        let token = found.ok_or(Denial::Unknown)?;
        let name = token.name.clone();
        if let Some(at) = token.expires.filter(|at| now >= *at) {
            return Err(Denial::Expired { name, at });
        }
        match &token.trusts {
            Some(trusts) if !trusts.contains(trust) => {
                Err(Denial::OtherTrust { name, trust: trust.to_owned() })
            }
            _ => Ok(token),
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.list.len() > MAX_TOKENS {
            return Err(format!("it has more than {MAX_TOKENS} tokens"));
        }
        let (mut names, mut hashes) = (BTreeSet::new(), BTreeSet::new());
        for token in &self.list {
            let name = &token.name;
            if !valid_name(name) {
                let shown: String = name.chars().take(100).collect();
                return Err(format!(
                    "`{shown}` is not a name: use lower-case letters, digits and `-`, at most 64"
                ));
            }
            if HEXLOWER.decode(token.sha256.as_bytes()).map_or(0, |hash| hash.len()) != 32 {
                return Err(format!("the `sha256` of {name} is not 64 lower-case hex digits"));
            }
            if token.trusts.iter().flatten().any(|trust| !valid_name(trust)) {
                return Err(format!(
                    "the `trusts` of {name} hold something that is no trust repository's name"
                ));
            }
            if !names.insert(name) || !hashes.insert(&token.sha256) {
                return Err(format!("the name or the `sha256` of {name} is there twice"));
            }
        }
        Ok(())
    }
}

/// Makes a token, adds it to the file `path`, durably, and returns it: it cannot be had again. Blocking disk I/O; several
/// at a time wait for each other.
///
/// # Errors
/// [`TokenError`].
pub fn add(path: &Path, new: &NewToken, now: DateTime<Utc>) -> Result<Secret, TokenError> {
    change(path, |tokens| {
        if tokens.list.len() >= MAX_TOKENS {
            return Err(TokenError::TooMany);
        }
        if tokens.list.iter().any(|token| token.name == new.name) {
            return Err(TokenError::NameTwice(new.name.clone()));
        }
        let mut random = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(&mut *random).map_err(|_| TokenError::Randomness)?;
        let text = Secret::new(format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&*random)));
        let sha256 = hash(text.expose());
        let NewToken { name, trusts, expires } = new.clone();
        tokens.list.push(Token { name, sha256, trusts, created: now, expires });
        Ok(text)
    })
}

/// Removes the token `name` from the file `path`, durably. The file stays, also without tokens: what needed one still
/// does.
///
/// # Errors
/// [`TokenError`].
pub fn remove(path: &Path, name: &str) -> Result<(), TokenError> {
    change(path, |tokens| {
        let before = tokens.list.len();
        tokens.list.retain(|token| token.name != name);
        if tokens.list.len() == before { Err(TokenError::NoSuchName(name.to_owned())) } else { Ok(()) }
    })
}

fn change<T>(path: &Path, edit: impl FnOnce(&mut Tokens) -> Result<T, TokenError>) -> Result<T, TokenError> {
    let file = SecretFile::File(path.to_owned());
    let failed = |source| TokenError::File { file: file.clone(), source };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Let go when it is closed.
    let lock = File::open(folder).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let mut tokens = Tokens::read(&file)?.unwrap_or_default();
    let result = edit(&mut tokens)?;
    let text = toml::to_string(&tokens).map_err(|e| failed(io::Error::other(e)))?;
    write(folder, path, &format!("{HEADER}\n{text}")).map_err(failed)?;
    Ok(result)
}

/// Replaces `path` as a whole, mode 0600. It belongs to whom its folder belongs, so that what root makes can be read by
/// the daemon.
fn write(folder: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    let (owner, ours) = (fs::metadata(folder)?, file.as_file().metadata()?);
    if owner.uid() != ours.uid() {
        chown(file.path(), Some(owner.uid()), Some(owner.gid()))?;
    }
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

/// 64 hex digits.
fn hash(token: &str) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, token.as_bytes()).as_ref())
}

/// True if both are the same; takes a time that depends on their lengths only.
fn same(one: &[u8], other: &[u8]) -> bool {
    let differ = one.iter().zip(other).fold(0, |differ, (a, b)| black_box(differ | (a ^ b)));
    one.len() == other.len() && differ == 0
}

/// Where the tokens of the data folder `data` are, unless the configuration says otherwise.
pub fn default_file(data: &Path) -> PathBuf {
    data.join(TOKENS_FILE)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use chrono::TimeDelta;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn new(name: &str) -> NewToken {
        NewToken { name: name.to_owned(), trusts: None, expires: None }
    }

    fn read(path: &Path) -> Result<Option<Tokens>, TokenError> {
        Tokens::read(&SecretFile::File(path.to_owned()))
    }

    #[test]
    fn a_token_is_shown_once_and_only_its_hash_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = default_file(folder.path());
        assert_eq!(read(&path).unwrap(), None);
        let token = add(&path, &new("ci"), at(0)).unwrap();
        let other = add(&path, &new("desk"), at(0)).unwrap();
        assert_ne!(token.expose(), other.expose());
        assert_eq!((token.expose().len(), &token.expose()[..4]), (47, "plt_"));
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("plt_"), "{text}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let tokens = read(&path).unwrap().unwrap();
        assert_eq!(tokens.admit(token.expose(), "acme", at(1)).unwrap().name, "ci");
        assert_eq!(tokens.admit(other.expose(), "acme", at(1)).unwrap().name, "desk");
        assert!(matches!(add(&path, &new("ci"), at(0)), Err(TokenError::NameTwice(_))));
        remove(&path, "ci").unwrap();
        assert!(matches!(remove(&path, "ci"), Err(TokenError::NoSuchName(_))));
        let tokens = read(&path).unwrap().unwrap();
        assert_eq!(tokens.admit(token.expose(), "acme", at(1)), Err(Denial::Unknown));
        remove(&path, "desk").unwrap();
        assert_eq!(read(&path).unwrap(), Some(Tokens::default()));
    }

    #[test]
    fn a_token_is_good_for_its_trust_repositories_until_it_expires() {
        let folder = tempfile::tempdir().unwrap();
        let path = default_file(folder.path());
        let trusts = Some(["acme".to_owned()].into());
        let expires = Some(at(0) + TimeDelta::days(90));
        let token = add(&path, &NewToken { trusts, expires, ..new("ci") }, at(0)).unwrap();
        let tokens = read(&path).unwrap().unwrap();
        let admit = |text: &str, trust, now| tokens.admit(text, trust, now).map(|token| token.name.clone());
        assert_eq!(admit(token.expose(), "acme", at(0)), Ok("ci".to_owned()));
        let other = Denial::OtherTrust { name: "ci".to_owned(), trust: "other".to_owned() };
        assert_eq!(admit(token.expose(), "other", at(0)), Err(other));
        let over = Denial::Expired { name: "ci".to_owned(), at: at(90 * 86400) };
        assert_eq!(admit(token.expose(), "acme", at(90 * 86400 - 1)), Ok("ci".to_owned()));
        assert_eq!(admit(token.expose(), "acme", at(90 * 86400)), Err(over.clone()));
        // Who may not know what it is for learns no more than that it is over.
        assert_eq!(admit(token.expose(), "other", at(90 * 86400)), Err(over));
        for wrong in
            ["", "plt_", &token.expose()[..46], &format!("{}A", token.expose()), &hash(token.expose())]
        {
            assert_eq!(admit(wrong, "acme", at(0)), Err(Denial::Unknown), "{wrong}");
        }
    }

    #[test]
    fn a_file_that_is_not_understood_or_open_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = default_file(folder.path());
        let token = |more: &str| {
            let hash = "0".repeat(64);
            format!(
                "[[token]]\nname = \"a\"\nsha256 = \"{hash}\"\ncreated = \"2026-01-01T00:00:00Z\"\n{more}"
            )
        };
        let put = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            read(&path)
        };
        assert_eq!(put(&token(""), 0o600).unwrap().unwrap().list.len(), 1);
        assert!(matches!(put(&token(""), 0o640), Err(TokenError::File { .. })));
        for (text, line) in [
            (token("x = 1\n"), 5),
            (token("trusts = \"a\"\n"), 5),
            (format!("token = [[\"a\", \"{}\", [], \"2026-01-01T00:00:00Z\"]]\n", "00".repeat(32)), 1),
            (token("trusts = [\"A\"]\n"), 1),
            (token(&token("")), 1),
            (token("").replace("\"a\"", "\"A\""), 1),
            (token("").replace("00", "0"), 1),
            (token("").replace("2026", "x"), 4),
        ] {
            let refused = put(&text, 0o600);
            assert!(
                matches!(refused, Err(TokenError::Content { line: l, .. }) if l == line),
                "{text} {refused:?}"
            );
        }
    }
}
