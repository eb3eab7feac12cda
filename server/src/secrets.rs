//! Files that hold secrets: passwords, private keys, and what systemd hands over as credentials.

use std::{
    ffi::OsString,
    fmt,
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use plimsoll::registry::Secret;
use zeroize::Zeroizing;

/// How a credential is written where a path is expected.
const PREFIX: &str = "credential:";
/// Where systemd puts credentials.
const FOLDER: &str = "CREDENTIALS_DIRECTORY";

/// Where a secret is: a file of the operator's, or a credential that systemd hands over (`LoadCredential=`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretFile {
    /// A file; only its owner may have access.
    File(PathBuf),
    /// The credential of this name, a file in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

impl SecretFile {
    /// Reads `credential:NAME`; none if `text` is a path. A name is 1 to 255 letters, digits, `.`, `_` and `-`, the first
    /// of which is no `.`.
    ///
    /// # Errors
    /// The name, if it is none.
    pub fn credential(text: &str) -> Result<Option<Self>, String> {
        let Some(name) = text.strip_prefix(PREFIX) else { return Ok(None) };
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if name.is_empty() || name.len() > 255 || name.starts_with('.') || !name.bytes().all(plain) {
            return Err(name.chars().take(100).collect());
        }
        Ok(Some(Self::Credential(name.to_owned())))
    }

    /// False for a credential outside of a service that was started with credentials: there it cannot be looked at.
    pub fn is_here(&self) -> bool {
        matches!(self, Self::File(_)) || folder(|name| std::env::var_os(name)).is_some()
    }

    /// The file. Reads the environment.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] for a credential if the process was given none.
    pub fn path(&self) -> io::Result<PathBuf> {
        self.path_in(|name| std::env::var_os(name))
    }

    fn path_in(&self, variable: impl Fn(&str) -> Option<OsString>) -> io::Result<PathBuf> {
        match self {
            Self::File(path) => Ok(path.clone()),
            Self::Credential(name) => match folder(variable) {
                Some(folder) => Ok(folder.join(name)),
                None => {
                    let text = format!(
                        "${FOLDER} is not set: this process is no systemd service with `LoadCredential={name}:FILE`"
                    );
                    Err(io::Error::new(io::ErrorKind::NotFound, text))
                }
            },
        }
    }

    /// The content, at most `max` bytes. The file must be a plain one that only its owner can read.
    ///
    /// # Errors
    /// [`io::Error`], which says what to do about it.
    pub fn read(&self, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
        // systemd gives the service's user access by an access control list, whose mask shows as the group's bits; the
        // folder is that user's alone.
        let closed = if matches!(self, Self::Credential(_)) { 0o037 } else { 0o077 };
        read(&self.path()?, closed, max)
    }

    /// As [`SecretFile::read`], of something that everybody may read, as a certificate.
    ///
    /// # Errors
    /// [`io::Error`], which says what to do about it.
    pub fn read_public(&self, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
        read(&self.path()?, 0, max)
    }

    /// The first line, which must not be empty, of at most `max` bytes.
    ///
    /// # Errors
    /// As [`SecretFile::read`].
    pub fn first_line(&self, max: usize) -> io::Result<Secret> {
        let bytes = self.read(max)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("it is not UTF-8 text"))?;
        match text.lines().next().unwrap_or_default() {
            "" => Err(wrong("its first line is empty")),
            line => Ok(Secret::new(line)),
        }
    }
}

impl From<PathBuf> for SecretFile {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl fmt::Display for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Credential(name) => write!(f, "{PREFIX}{name}"),
        }
    }
}

fn folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    variable(FOLDER).map(PathBuf::from).filter(|folder| folder.is_absolute())
}

/// `closed` are the permission bits that must not be set.
fn read(path: &Path, closed: u32, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // Asked before opening, as opening a FIFO would wait for its writer; the mode is asked of the opened file.
    if !std::fs::metadata(path)?.is_file() {
        return Err(wrong("it is not a file"));
    }
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & closed != 0 {
        return Err(wrong(&format!("it is open to others (mode {mode:03o}); run `chmod 600` on it")));
    }
    // With room for all it is never moved, so nothing of it stays behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(max + 1));
    file.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(wrong(&format!("it is larger than {max} bytes")));
    }
    Ok(bytes)
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_credential_is_named_and_never_a_way_out_of_its_folder() {
        assert_eq!(
            SecretFile::credential("credential:tls.key"),
            Ok(Some(SecretFile::Credential("tls.key".to_owned())))
        );
        assert_eq!(SecretFile::credential("/etc/credential:x"), Ok(None));
        for name in ["", "../x", "a/b", ".hidden", "a b", "é"] {
            assert_eq!(SecretFile::credential(&format!("credential:{name}")), Err(name.to_owned()));
        }
        let file = SecretFile::Credential("key".to_owned());
        let path = file.path_in(|name| (name == FOLDER).then(|| "/run/credentials/x".into())).unwrap();
        assert_eq!(path, Path::new("/run/credentials/x/key"));
        for folder in [None, Some("relative")] {
            let none = file.path_in(|_| folder.map(OsString::from)).unwrap_err();
            assert!(none.to_string().contains("LoadCredential=key:FILE"), "{none}");
        }
    }

    #[test]
    fn what_others_can_read_is_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for (mode, own, credential) in
            [(0o600, true, true), (0o440, false, true), (0o604, false, false), (0o660, false, false)]
        {
            write(&path, "x\n", mode);
            assert_eq!(read(&path, 0o077, 10).is_ok(), own, "{mode:o}");
            assert_eq!(read(&path, 0o037, 10).is_ok(), credential, "{mode:o}");
        }
        assert!(SecretFile::File(folder.path().to_owned()).read(10).is_err());
    }
}
