//! Reading and writing key files with care for size, permissions and durability.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use plimsoll_core::tuf::{Key, KeyError, PublicKey};
use zeroize::Zeroizing;

use super::{KeyFileError, ssh};

/// A key file is a few hundred bytes.
const KEY_FILE_LIMIT: u64 = 16 * 1024;
const PUBLIC_KEY: &str = "an Ed25519, ECDSA P-256 or RSA public key in PEM (-----BEGIN PUBLIC KEY-----)";
const SSH_PUBLIC_KEY: &str = "an undamaged public key of OpenSSH, alone on one line";

/// Reads a public key file: SubjectPublicKeyInfo in PEM, or the one line of an Ed25519 key of OpenSSH (`ssh-ed25519 …`);
/// at most 16 KiB. Blocking file I/O.
///
/// # Errors
/// [`KeyFileError`] if the file cannot be read, holds no such key, or one that must not be authored into metadata
/// (weak, not a point of its curve, or of a kind that other TUF clients cannot read: ECDSA P-384).
pub fn load_public(path: &Path) -> Result<PublicKey, KeyFileError> {
    let text = read_text(path, PUBLIC_KEY, |_| Ok(()))?;
    let key = match ssh::line(&text) {
        None => PublicKey::from_pem(&text),
        Some(ssh::Line::Ed25519(key)) => Ok(key),
        Some(ssh::Line::Other(algorithm)) => {
            return Err(KeyFileError::UnsupportedAlgorithm { path: path.to_owned(), algorithm });
        }
        Some(ssh::Line::Damaged) => {
            return Err(KeyFileError::NotAKey { path: path.to_owned(), expected: SSH_PUBLIC_KEY });
        }
    };
    let key = key.and_then(|key| Key::new(&key).check_authored());
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
    read_text(path, expected, |file| check_private(file, path))
}

/// The bytes of a private key file, refused if anybody but its owner has access.
pub(super) fn read_private_bytes(
    path: &Path,
    expected: &'static str,
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    read_bytes(path, expected, |file| check_private(file, path))
}

/// Replaces a private key file, mode 0600: after a crash there is the old one or the new one, whole. A link stays one.
pub(super) fn replace_private(path: &Path, pem: &str) -> Result<(), KeyFileError> {
    let failed = |source| KeyFileError::io(path, source);
    let target = fs::canonicalize(path).map_err(failed)?;
    let mut temporary = target.clone().into_os_string();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(temporary);
    // Left behind only by a crash of a process that had our id.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // Durable before it takes the old one's place, so that there always is one of them.
    create_private(&temporary, pem)?;
    fs::rename(&temporary, &target).map_err(|source| {
        // The old file is untouched, and that is what is told.
        let _ = fs::remove_file(&temporary);
        failed(source)
    })?;
    sync_parent(&target).map_err(failed)
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

fn check_private(file: &File, path: &Path) -> Result<(), KeyFileError> {
    let mode = file.metadata().map_err(|e| KeyFileError::io(path, e))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Permissions { path: path.to_owned(), mode });
    }
    Ok(())
}

fn read_text(
    path: &Path,
    expected: &'static str,
    check: impl FnOnce(&File) -> Result<(), KeyFileError>,
) -> Result<Zeroizing<String>, KeyFileError> {
    let bytes = read_bytes(path, expected, check)?;
    let text =
        std::str::from_utf8(&bytes).map_err(|_| KeyFileError::NotAKey { path: path.to_owned(), expected })?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn read_bytes(
    path: &Path,
    expected: &'static str,
    check: impl FnOnce(&File) -> Result<(), KeyFileError>,
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    // Asked before opening, as opening a FIFO would wait for its writer; all that matters is asked of the opened file.
    if !fs::metadata(path).map_err(|e| KeyFileError::io(path, e))?.is_file() {
        return Err(KeyFileError::NotAKey { path: path.to_owned(), expected });
    }
    let file = File::open(path).map_err(|e| KeyFileError::io(path, e))?;
    check(&file)?;
    read_capped(file, path, KEY_FILE_LIMIT)
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
