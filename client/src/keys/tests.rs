//! Key files from end to end, with `openssl` as the other implementation.

mod agent;
mod import;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use data_encoding::{BASE64, HEXLOWER};
use plimsoll_core::tuf::PublicKey;
use tempfile::TempDir;

use super::*;

const PASSPHRASE: &str = "canary-passphrase-7f3a";
const BOTH: [Algorithm; 2] = [Algorithm::Ed25519, Algorithm::EcdsaP256];

fn passphrase() -> Passphrase {
    Passphrase::new(PASSPHRASE.to_owned()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A folder with a passphrase file.
fn folder() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let pass = dir.path().join("pass");
    fs::write(&pass, format!("{PASSPHRASE}\n")).unwrap();
    (dir, pass)
}

fn openssl(args: &[&str]) -> Output {
    let output = Command::new("openssl").args(args).output().expect("these tests need openssl");
    assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn assert_signs(key: &PrivateKey) {
    let signature = key.sign(b"message").unwrap();
    assert!(key.key().verifies(b"message", &signature));
    assert!(!key.key().verifies(b"massage", &signature));
    assert_eq!(key.key().public().as_ref(), Ok(key.public()));
    assert_eq!(key.key_id(), key.key().id());
}

#[test]
fn a_key_comes_back_from_its_file() {
    let (dir, pass) = folder();
    for algorithm in BOTH {
        let path = dir.path().join(format!("{algorithm:?}.key"));
        let key = PrivateKey::generate(algorithm).unwrap();
        key.save(&path, &passphrase()).unwrap();
        assert_eq!(mode(&path), 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));

        let again = PrivateKey::load(&path, &Passphrase::from_file(&pass).unwrap()).unwrap();
        assert_eq!(again.algorithm(), algorithm);
        assert_eq!(again.public(), key.public());
        assert_eq!(again.key_id(), key.key_id());
        assert_signs(&again);
        assert!(key.key().verifies(b"x", &again.sign(b"x").unwrap()));
    }
}

#[test]
fn two_keys_and_two_files_of_one_key_differ() {
    let (dir, _) = folder();
    for algorithm in BOTH {
        let key = PrivateKey::generate(algorithm).unwrap();
        assert_ne!(key.public(), PrivateKey::generate(algorithm).unwrap().public());
        let files = ["a", "b"].map(|name| dir.path().join(format!("{algorithm:?}-{name}")));
        for file in &files {
            key.save(file, &passphrase()).unwrap();
        }
        assert_ne!(fs::read(&files[0]).unwrap(), fs::read(&files[1]).unwrap());
    }
}

#[test]
fn a_wrong_passphrase_says_so() {
    let (dir, _) = folder();
    let path = dir.path().join("x.key");
    PrivateKey::generate(Algorithm::Ed25519).unwrap().save(&path, &passphrase()).unwrap();
    let wrong = Passphrase::new("canary-passphrase-7f3b".to_owned()).unwrap();
    let result = PrivateKey::load(&path, &wrong);
    assert!(matches!(result, Err(KeyFileError::WrongPassphrase { .. })), "{result:?}");
}

/// T83.
#[test]
fn a_private_key_open_to_others_is_refused() {
    let (dir, _) = folder();
    let key = PrivateKey::generate(Algorithm::Ed25519).unwrap();
    let sealed = dir.path().join("sealed.key");
    let plain = dir.path().join("plain.key");
    key.save(&sealed, &passphrase()).unwrap();
    key.save_insecure_plain(&plain).unwrap();
    for wide in [0o640, 0o620, 0o604, 0o602, 0o644, 0o666] {
        for path in [&sealed, &plain] {
            chmod(path, wide);
        }
        for result in [PrivateKey::load(&sealed, &passphrase()), PrivateKey::load_insecure_plain(&plain)] {
            let error = result.unwrap_err();
            assert!(matches!(error, KeyFileError::Permissions { mode, .. } if mode == wide), "{error:?}");
            assert!(error.to_string().contains("chmod 600 "), "{error}");
        }
    }
    for narrow in [0o600, 0o400] {
        chmod(&sealed, narrow);
        PrivateKey::load(&sealed, &passphrase()).unwrap();
    }
    // A link's own mode means nothing; the file it leads to is asked.
    let link = dir.path().join("link.key");
    std::os::unix::fs::symlink(&sealed, &link).unwrap();
    PrivateKey::load(&link, &passphrase()).unwrap();
    chmod(&sealed, 0o644);
    assert!(matches!(PrivateKey::load(&link, &passphrase()), Err(KeyFileError::Permissions { .. })));
}

/// T62: nor is a link followed where a key is written.
#[test]
fn no_file_is_ever_overwritten() {
    let (dir, _) = folder();
    let key = PrivateKey::generate(Algorithm::Ed25519).unwrap();
    let path = dir.path().join("x.key");
    fs::write(&path, "mine").unwrap();
    let dangling = dir.path().join("dangling");
    std::os::unix::fs::symlink(dir.path().join("nowhere"), &dangling).unwrap();
    for path in [path.as_path(), &dangling, dir.path()] {
        for result in
            [key.save(path, &passphrase()), key.save_insecure_plain(path), save_public(path, key.public())]
        {
            assert!(matches!(result, Err(KeyFileError::Exists { .. })), "{result:?}");
        }
    }
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    assert!(!dir.path().join("nowhere").exists());
    let result = key.save(&dir.path().join("no/x.key"), &passphrase());
    assert!(matches!(result, Err(KeyFileError::Io { .. })), "{result:?}");
}

#[test]
fn public_keys_come_back_from_their_files() {
    let (dir, _) = folder();
    for algorithm in BOTH {
        let path = dir.path().join(format!("{algorithm:?}.pub"));
        let key = PrivateKey::generate(algorithm).unwrap();
        save_public(&path, key.public()).unwrap();
        assert_eq!(mode(&path) & 0o700, 0o600);
        assert_eq!(mode(&path) & !0o644, 0);
        assert_eq!(load_public(&path).unwrap(), *key.public());
    }
}

#[test]
fn a_plain_key_is_read_only_when_asked_for() {
    let (dir, _) = folder();
    for algorithm in BOTH {
        let path = dir.path().join(format!("{algorithm:?}.key"));
        let key = PrivateKey::generate(algorithm).unwrap();
        key.save_insecure_plain(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(matches!(PrivateKey::load(&path, &passphrase()), Err(KeyFileError::Unencrypted { .. })));
        let again = PrivateKey::load_insecure_plain(&path).unwrap();
        assert_eq!(again.public(), key.public());
        assert_signs(&again);
    }
    let sealed = dir.path().join("sealed");
    PrivateKey::generate(Algorithm::Ed25519).unwrap().save(&sealed, &passphrase()).unwrap();
    assert!(matches!(PrivateKey::load_insecure_plain(&sealed), Err(KeyFileError::NotAKey { .. })));
}

#[test]
fn openssl_opens_our_files() {
    let (dir, pass) = folder();
    let pass = format!("file:{}", pass.display());
    for algorithm in BOTH {
        let path = dir.path().join(format!("{algorithm:?}.key"));
        let key = PrivateKey::generate(algorithm).unwrap();
        key.save(&path, &passphrase()).unwrap();
        let output = openssl(&["pkey", "-in", path.to_str().unwrap(), "-passin", &pass, "-pubout"]);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), key.public().to_pem());
        // Version 1, byte for byte as openssl itself writes the key.
        let output = openssl(&["pkey", "-in", path.to_str().unwrap(), "-passin", &pass]);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), *key.to_pem_insecure_plain());
    }
}

#[test]
fn files_made_by_openssl_open() {
    let (dir, pass) = folder();
    // A file named for both ends gives its second line to the second.
    let pass_out = format!("file:{}", dir.path().join("pass-out").display());
    fs::copy(&pass, dir.path().join("pass-out")).unwrap();
    let pass = format!("file:{}", pass.display());
    let ed25519 = ["-algorithm", "ed25519"].as_slice();
    let ecdsa = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"].as_slice();
    for (algorithm, kind) in [(Algorithm::Ed25519, ed25519), (Algorithm::EcdsaP256, ecdsa)] {
        let made = dir.path().join(format!("{algorithm:?}.key"));
        let made = made.to_str().unwrap();
        openssl(&[&["genpkey"], kind, &["-aes256", "-pass", &pass, "-out", made]].concat());
        let scrypt = format!("{made}.scrypt");
        openssl(&[
            "pkcs8", "-topk8", "-scrypt", "-in", made, "-passin", &pass, "-passout", &pass_out, "-out",
            &scrypt,
        ]);
        let public = format!("{made}.pub");
        openssl(&["pkey", "-in", made, "-passin", &pass, "-pubout", "-out", &public]);
        for file in [made, &scrypt] {
            chmod(Path::new(file), 0o600);
            let key = PrivateKey::load(Path::new(file), &passphrase()).unwrap();
            assert_eq!(key.algorithm(), algorithm);
            assert_eq!(*key.public(), load_public(Path::new(&public)).unwrap());
            assert_signs(&key);
        }
    }
}

#[test]
fn other_kinds_of_keys_are_refused_by_name() {
    let (dir, pass) = folder();
    let pass = format!("file:{}", pass.display());
    let p384 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"].as_slice();
    let x25519 = ["-algorithm", "x25519"].as_slice();
    for (name, kind, oid) in [("p384", p384, "1.3.132.0.34"), ("x25519", x25519, "1.3.101.110")] {
        let path = dir.path().join(name);
        openssl(&[&["genpkey"], kind, &["-aes256", "-pass", &pass, "-out", path.to_str().unwrap()]].concat());
        chmod(&path, 0o600);
        let error = PrivateKey::load(&path, &passphrase()).unwrap_err();
        assert!(matches!(error, KeyFileError::UnsupportedAlgorithm { .. }), "{error:?}");
        assert!(error.to_string().contains(oid), "{error}");
    }
}

#[test]
fn garbage_is_not_a_key_and_never_panics() {
    let (dir, _) = folder();
    let path = dir.path().join("x.key");
    let write = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        chmod(&path, 0o600);
    };
    let public = PrivateKey::generate(Algorithm::Ed25519).unwrap().public().to_pem();
    let begin = "-----BEGIN ENCRYPTED PRIVATE KEY-----\n";
    let empty = format!("{begin}-----END ENCRYPTED PRIVATE KEY-----\n");
    for bytes in
        [&b""[..], b"\0", b"\xff\xfe", b"-----BEGIN", begin.as_bytes(), empty.as_bytes(), public.as_bytes()]
    {
        write(bytes);
        for result in [PrivateKey::load(&path, &passphrase()), PrivateKey::load_insecure_plain(&path)] {
            assert!(matches!(result, Err(KeyFileError::NotAKey { .. })), "{result:?}");
        }
    }
    write(&vec![b'a'; 16 * 1024 + 1]);
    assert!(matches!(PrivateKey::load(&path, &passphrase()), Err(KeyFileError::TooBig { .. })));
    assert!(matches!(PrivateKey::load(dir.path(), &passphrase()), Err(KeyFileError::NotAKey { .. })));
    assert!(matches!(
        PrivateKey::load(&dir.path().join("no"), &passphrase()),
        Err(KeyFileError::NotFound { .. })
    ));
}

#[test]
fn a_damaged_plain_key_never_panics() {
    for algorithm in BOTH {
        let (_, der) = secret(&PrivateKey::generate(algorithm).unwrap());
        for i in 0..der.len() {
            assert!(read_plain(&der[..i]).is_err());
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = der.clone();
                damaged[i] ^= flip;
                if let Ok(key) = read_plain(&damaged) {
                    assert_signs(&key);
                }
            }
        }
    }
}

/// A version 2 file states its public part; one that states another's is refused.
#[test]
fn an_ed25519_key_must_agree_with_the_public_part_it_states() {
    let key = PrivateKey::generate(Algorithm::Ed25519).unwrap();
    let (seed, _) = secret(&key);
    let PublicKey::Ed25519(mut public) = *key.public() else { unreachable!("asked for Ed25519") };
    let file = |public: &[u8; 32]| {
        let head = HEXLOWER.decode(b"3051020101300506032b657004220420").unwrap();
        [head.as_slice(), &seed, &[0x81, 0x21, 0x00], public].concat()
    };
    let read = read_plain(&file(&public)).unwrap();
    assert_eq!(read.public(), key.public());
    assert_eq!(*read.to_pem_insecure_plain(), *key.to_pem_insecure_plain());
    public[0] ^= 1;
    let result = read_plain(&file(&public));
    assert!(matches!(result, Err(KeyFileError::StatedPublicKey { .. })), "{result:?}");
}

/// T84: neither the passphrase nor the secret bytes stand in anything that is shown.
#[test]
fn nothing_that_is_shown_holds_a_secret() {
    let (dir, pass) = folder();
    for algorithm in BOTH {
        let key = PrivateKey::generate(algorithm).unwrap();
        let path = dir.path().join(format!("{algorithm:?}.key"));
        let plain = dir.path().join(format!("{algorithm:?}.plain"));
        key.save(&path, &passphrase()).unwrap();
        key.save_insecure_plain(&plain).unwrap();
        let damaged = dir.path().join(format!("{algorithm:?}.damaged"));
        fs::write(
            &damaged,
            key.to_pem_insecure_plain().replace("PRIVATE KEY-----\nM", "PRIVATE KEY-----\nN"),
        )
        .unwrap();
        chmod(&damaged, 0o600);
        let other = Passphrase::new(format!("{PASSPHRASE}-other")).unwrap();

        let mut shown = vec![format!("{key:?} {key:#?}"), format!("{:?} {other:#?}", passphrase())];
        let mut show = |error: KeyFileError| shown.push(format!("{error} {error:?} {error:#?}"));
        show(PrivateKey::load(&path, &other).unwrap_err());
        show(PrivateKey::load(&plain, &passphrase()).unwrap_err());
        show(PrivateKey::load(&pass, &passphrase()).unwrap_err());
        show(PrivateKey::load_insecure_plain(&damaged).unwrap_err());
        show(PrivateKey::load_insecure_plain(&path).unwrap_err());
        show(load_public(&plain).unwrap_err());
        show(key.save(&path, &passphrase()).unwrap_err());
        chmod(&plain, 0o644);
        show(PrivateKey::load_insecure_plain(&plain).unwrap_err());

        let (secret, _) = secret(&key);
        let listed = format!("{secret:?}");
        let listed = listed.trim_matches(['[', ']']);
        for text in &shown {
            assert!(!text.contains("canary"), "{text}");
            assert!(!text.to_lowercase().contains(&HEXLOWER.encode(&secret)), "{text}");
            assert!(!text.contains(BASE64.encode(&secret).trim_end_matches('=')), "{text}");
            assert!(!text.replace([' ', '\n'], "").contains(&listed.replace(' ', "")), "{text}");
            for line in key.to_pem_insecure_plain().lines().filter(|line| !line.starts_with('-')) {
                assert!(!text.contains(line), "{text}");
            }
        }
    }
}

fn read_plain(der: &[u8]) -> Result<PrivateKey, KeyFileError> {
    PrivateKey::from_pem_insecure_plain(&pem("PRIVATE KEY", der), Path::new("x.key"))
}

/// `der` in PEM.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// The 32 secret bytes, and the whole PKCS#8 in DER.
fn secret(key: &PrivateKey) -> (Vec<u8>, Vec<u8>) {
    let pem = key.to_pem_insecure_plain();
    let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = BASE64.decode(text.as_bytes()).unwrap();
    let start = match key.algorithm() {
        Algorithm::Ed25519 => 16,
        Algorithm::EcdsaP256 => 36,
    };
    (der[start..start + 32].to_vec(), der)
}
