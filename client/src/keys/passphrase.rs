//! Passphrases, from a file or a terminal, never from an argument.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    path::Path,
};

use zeroize::Zeroizing;

use super::{KeyFileError, file::read_capped};

const PASSPHRASE_FILE_LIMIT: u64 = 4 * 1024;
const TERMINAL: &str = "/dev/tty";

/// A passphrase, wiped from memory when dropped. Never empty, never shown.
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// The passphrase `text`, which becomes part of this value without a copy.
    ///
    /// # Errors
    /// [`KeyFileError::PassphraseEmpty`].
    pub fn new(text: String) -> Result<Self, KeyFileError> {
        let text = Zeroizing::new(text);
        if text.is_empty() { Err(KeyFileError::PassphraseEmpty) } else { Ok(Self(text)) }
    }

    /// The first line of the file `path`, without its line end; the file is at most 4 KiB. A pipe is as good as a file.
    ///
    /// # Errors
    /// [`KeyFileError`] if it cannot be read, is too big, not UTF-8, or its first line is empty.
    pub fn from_file(path: &Path) -> Result<Self, KeyFileError> {
        let file = File::open(path).map_err(|e| KeyFileError::io(path, e))?;
        let bytes = read_capped(file, path, PASSPHRASE_FILE_LIMIT)?;
        let line = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = std::str::from_utf8(line)
            .map_err(|_| KeyFileError::PassphraseNotText { path: path.to_owned() })?;
        Self::new(text.to_owned())
    }

    /// Asks for the passphrase of `label` on the terminal, without echo; twice if `confirm`, for a new key. Waits for a
    /// person.
    ///
    /// # Errors
    /// [`KeyFileError::NoTerminal`], [`KeyFileError::Terminal`] if none is typed, [`KeyFileError::PassphraseEmpty`],
    /// [`KeyFileError::PassphraseMismatch`].
    pub fn prompt(label: &str, confirm: bool) -> Result<Self, KeyFileError> {
        require_terminal(Path::new(TERMINAL))?;
        ask(label, confirm, rpassword::prompt_password)
    }

    /// The bytes to derive from: the text in UTF-8, as `openssl` takes it.
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

fn require_terminal(path: &Path) -> Result<(), KeyFileError> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.map(|_| ()).map_err(|_| KeyFileError::NoTerminal)
}

fn ask(
    label: &str,
    confirm: bool,
    mut read: impl FnMut(String) -> io::Result<String>,
) -> Result<Passphrase, KeyFileError> {
    let mut read = |text| read(text).map_err(|source| KeyFileError::Terminal { source });
    let passphrase = Passphrase::new(read(format!("Passphrase for {label}: "))?)?;
    if confirm && *Zeroizing::new(read("The same again: ".to_owned())?) != *passphrase.0 {
        return Err(KeyFileError::PassphraseMismatch);
    }
    Ok(passphrase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(confirm: bool, answers: &[&str]) -> Result<Passphrase, KeyFileError> {
        let mut answers = answers.iter();
        ask("x.key", confirm, |_| {
            answers.next().map(ToString::to_string).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        })
    }

    #[test]
    fn a_new_passphrase_is_typed_twice_and_never_empty() {
        assert_eq!(typed(true, &["a b", "a b"]).unwrap().bytes(), b"a b");
        assert_eq!(typed(false, &["a"]).unwrap().bytes(), b"a");
        assert!(matches!(typed(true, &["a", "b"]), Err(KeyFileError::PassphraseMismatch)));
        assert!(matches!(typed(true, &[""]), Err(KeyFileError::PassphraseEmpty)));
        assert!(matches!(typed(true, &["a"]), Err(KeyFileError::Terminal { .. })));
    }

    #[test]
    fn without_a_terminal_the_error_says_what_to_use() {
        let dir = tempfile::tempdir().unwrap();
        let error = require_terminal(&dir.path().join("tty")).unwrap_err();
        assert!(matches!(error, KeyFileError::NoTerminal));
        assert!(error.to_string().contains("--passphrase-file"));
    }

    #[test]
    fn a_passphrase_file_gives_its_first_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pass");
        for (bytes, expected) in [
            (&b"secret"[..], "secret"),
            (b"secret\n", "secret"),
            (b"secret\r\n", "secret"),
            (b" s p \nsecond\n", " s p "),
            ("pässwörd\n".as_bytes(), "pässwörd"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(Passphrase::from_file(&path).unwrap().bytes(), expected.as_bytes());
        }
        for empty in [&b""[..], b"\n", b"\r\n", b"\nsecond\n"] {
            std::fs::write(&path, empty).unwrap();
            assert!(matches!(Passphrase::from_file(&path), Err(KeyFileError::PassphraseEmpty)));
        }
        std::fs::write(&path, b"\xff\n").unwrap();
        assert!(matches!(Passphrase::from_file(&path), Err(KeyFileError::PassphraseNotText { .. })));
        std::fs::write(&path, vec![b'a'; 4097]).unwrap();
        assert!(matches!(Passphrase::from_file(&path), Err(KeyFileError::TooBig { limit: 4096, .. })));
        assert!(matches!(Passphrase::from_file(dir.path()), Err(KeyFileError::Io { .. })));
        assert!(matches!(Passphrase::from_file(&dir.path().join("no")), Err(KeyFileError::NotFound { .. })));
    }
}
