//! Reading and writing key files with care for size, permissions and durability.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use plimsoll_core::tuf::{Key, KeyError, PublicKey};
use zeroize::Zeroizing;

use super::KeyFileError;

/// A key file is a few hundred bytes.
const KEY_FILE_LIMIT: u64 = 16 * 1024;
const PUBLIC_KEY: &str = "an Ed25519, ECDSA P-256 or RSA public key in PEM (-----BEGIN PUBLIC KEY-----)";

/// Reads a public key file: SubjectPublicKeyInfo in PEM, at most 16 KiB. Blocking file I/O.
///
/// # Errors
/// [`KeyFileError`] if the file cannot be read, holds no such key, or one that must not be authored into metadata
/// (weak, not a point of its curve, or of a kind that other TUF clients cannot read: ECDSA P-384).
pub fn load_public(path: &Path) -> Result<PublicKey, KeyFileError> {
    let text = read_text(path, PUBLIC_KEY, |_| Ok(()))?;
    let key = PublicKey::from_pem(&text).and_then(|key| Key::new(&key).check_authored());
    key.map_err(|source| match source {
        KeyError::Malformed(_) => KeyFileError::NotAKey { path: path.to_owned(), expected: PUBLIC_KEY },
        _ => KeyFileError::PublicKey { path: path.to_owned(), source },
    })
}

/// Writes a new public key file, mode 0644, SubjectPublicKeyInfo in PEM. Durable on return; a failure leaves no file.
/// Blocking file I/O.
///
/// # Errors
/// [`KeyFileError::Exists`] if there is anything at `path`, [`KeyFileError::Io`] or [`KeyFileError::NotFound`] if it
/// cannot be written.
pub fn save_public(path: &Path, key: &PublicKey) -> Result<(), KeyFileError> {
    create(path, 0o644, key.to_pem().as_bytes())
}

/// The text of a private key file, refused if anybody but its owner has access.
pub(super) fn read_private(path: &Path, expected: &'static str) -> Result<Zeroizing<String>, KeyFileError> {
    read_text(path, expected, |file| {
        let mode = file.metadata().map_err(|e| KeyFileError::io(path, e))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Permissions { path: path.to_owned(), mode });
        }
        Ok(())
    })
}

/// Writes a new private key file, mode 0600.
pub(super) fn create_private(path: &Path, pem: &str) -> Result<(), KeyFileError> {
    create(path, 0o600, pem.as_bytes())
}

/// At most `limit` bytes of `file`, in one buffer that is wiped and never moved.
pub(super) fn read_capped(file: File, path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let room = usize::try_from(limit + 1).expect("the limits are a few KiB");
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| KeyFileError::io(path, e))?;
    if bytes.len() == room {
        return Err(KeyFileError::TooBig { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

fn read_text(
    path: &Path,
    expected: &'static str,
    check: impl FnOnce(&File) -> Result<(), KeyFileError>,
) -> Result<Zeroizing<String>, KeyFileError> {
    let not_a_key = || KeyFileError::NotAKey { path: path.to_owned(), expected };
    // Asked before opening, as opening a FIFO would wait for its writer; all that matters is asked of the opened file.
    if !fs::metadata(path).map_err(|e| KeyFileError::io(path, e))?.is_file() {
        return Err(not_a_key());
    }
    let file = File::open(path).map_err(|e| KeyFileError::io(path, e))?;
    check(&file)?;
    let bytes = read_capped(file, path, KEY_FILE_LIMIT)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| not_a_key())?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn create(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), KeyFileError> {
    create_with(path, mode, |file| file.write_all(bytes))
}

fn create_with(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), KeyFileError> {
    let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(|e| {
            match e.kind() {
                io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
                _ => failed(e),
            }
        })?;
    let written = write(&mut file).and_then(|()| file.sync_all()).and_then(|()| sync_parent(path));
    written.map_err(|source| {
        // The file is ours, made a moment ago. If it cannot be removed either, the first failure is the one to tell.
        let _ = fs::remove_file(path);
        failed(source)
    })
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.key");
        let result = create_with(&path, 0o600, |file| {
            file.write_all(b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert!(matches!(result, Err(KeyFileError::Io { .. })), "{result:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    /// A new key of that kind, as `openssl genpkey -algorithm` takes it.
    fn openssl_public(kind: &[&str]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let private = dir.path().join("key");
        let run = |arguments: &mut Command| {
            let output = arguments.output().expect("these tests need openssl");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        run(Command::new("openssl").args(["genpkey", "-algorithm"]).args(kind).arg("-out").arg(&private));
        run(Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&private))
    }

    #[test]
    fn an_rsa_key_of_openssl_can_be_delegated_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rsa.pub");
        let pem = openssl_public(&["RSA", "-pkeyopt", "rsa_keygen_bits:3072"]);
        fs::write(&path, &pem).unwrap();
        let key = load_public(&path).unwrap();
        assert!(matches!(key, PublicKey::Rsa(_)));
        assert_eq!(key.to_pem(), pem);
        assert_eq!(Key::new(&key).public(), Ok(key));
    }

    #[test]
    fn public_keys_that_are_not_or_must_not_be_used_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut off_curve = vec![4; 65];
        off_curve[64] = 5;
        let weak = [
            PublicKey::Ed25519([0; 32]).to_pem(),
            PublicKey::EcdsaP256(off_curve).to_pem(),
            openssl_public(&["EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
            openssl_public(&["RSA", "-pkeyopt", "rsa_keygen_bits:1024"]),
        ];
        for (i, pem) in weak.iter().enumerate() {
            let path = dir.path().join(format!("weak{i}"));
            fs::write(&path, pem).unwrap();
            let result = load_public(&path);
            assert!(matches!(result, Err(KeyFileError::PublicKey { .. })), "{result:?}");
        }
        let path = dir.path().join("other");
        for bytes in [&b""[..], b"\xff\xfe", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
        {
            fs::write(&path, bytes).unwrap();
            assert!(matches!(load_public(&path), Err(KeyFileError::NotAKey { .. })));
        }
        fs::write(&path, vec![b'a'; 16 * 1024 + 1]).unwrap();
        assert!(matches!(load_public(&path), Err(KeyFileError::TooBig { limit: 16384, .. })));
        assert!(matches!(load_public(dir.path()), Err(KeyFileError::NotAKey { .. })));
        assert!(matches!(load_public(&dir.path().join("no")), Err(KeyFileError::NotFound { .. })));
    }
}
