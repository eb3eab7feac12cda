//! Keys of other tools. The files in `fixtures/` were written by `fixtures/make.py`.

use std::cell::Cell;

use proptest::prelude::*;

use super::*;

/// What `make.py` seals with.
const HORSE: &str = "correct horse";

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/keys/fixtures").join(name)).unwrap()
}

/// `bytes` as the private file `name` in a folder of its own.
fn private(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    chmod(&path, 0o600);
    (dir, path)
}

fn horse() -> Result<Passphrase, KeyFileError> {
    Passphrase::new(HORSE.to_owned())
}

fn nobody() -> Result<Passphrase, KeyFileError> {
    panic!("no passphrase is needed")
}

/// Imports `bytes`, which must not be a key or not be opened.
fn refused(bytes: &[u8]) -> KeyFileError {
    PrivateKey::import(&private("x", bytes).1, horse).unwrap_err()
}

#[test]
fn keys_of_other_tools_are_imported_as_the_keys_they_are() {
    let (ed25519, p256) = (Algorithm::Ed25519, Algorithm::EcdsaP256);
    for (name, suffix, algorithm, sealed) in [
        ("cosign", "key", p256, true),
        ("cosign-old", "key", p256, true),
        ("cosign-empty", "key", p256, false),
        ("python-ed25519", "pem", ed25519, true),
        ("python-ed25519-plain", "pem", ed25519, false),
        ("python-ed25519-der", "der", ed25519, true),
        ("python-p256", "pem", p256, true),
        ("python-p256-plain", "pem", p256, false),
        ("python-p256-der", "der", p256, true),
        ("python-sec1", "pem", p256, false),
    ] {
        let (dir, path) = private(&format!("{name}.{suffix}"), &fixture(&format!("{name}.{suffix}")));
        // Beside it, so that it is compared as well.
        let public = dir.path().join(format!("{name}.pub"));
        fs::write(&public, fixture(&format!("{name}.pub"))).unwrap();
        let asked = Cell::new(0);
        let imported = PrivateKey::import(&path, || {
            asked.set(asked.get() + 1);
            horse()
        });
        let imported = imported.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!((asked.get(), imported.passphrase.is_some()), (u32::from(sealed), sealed), "{name}");
        assert_eq!(imported.key.algorithm(), algorithm, "{name}");
        assert_eq!(*imported.key.public(), load_public(&public).unwrap(), "{name}");
        assert_signs(&imported.key);

        // The plain ones alone, as sealing takes its time.
        if !sealed {
            let ours = dir.path().join("ours");
            imported.key.save(&ours, &passphrase()).unwrap();
            assert_eq!(PrivateKey::load(&ours, &passphrase()).unwrap().public(), imported.key.public());
        }
    }
}

#[test]
fn keys_of_openssl_are_imported_in_each_of_its_forms() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    // The curve stands in front of the key.
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-out", &at("sec1.pem")]);
    assert!(fs::read_to_string(at("sec1.pem")).unwrap().starts_with("-----BEGIN EC PARAMETERS-----"));
    openssl(&["ec", "-in", &at("sec1.pem"), "-outform", "DER", "-out", &at("sec1.der")]);
    openssl(&[
        "pkcs8",
        "-topk8",
        "-nocrypt",
        "-in",
        &at("sec1.pem"),
        "-outform",
        "DER",
        "-out",
        &at("p8.der"),
    ]);
    openssl(&["ec", "-in", &at("sec1.pem"), "-no_public", "-out", &at("secret.pem")]);
    openssl(&["pkcs8", "-topk8", "-nocrypt", "-in", &at("secret.pem"), "-out", &at("secret-p8.pem")]);
    openssl(&["pkey", "-in", &at("sec1.pem"), "-pubout", "-out", &at("public")]);
    for name in ["sec1.pem", "sec1.der", "p8.der"] {
        chmod(Path::new(&at(name)), 0o600);
        let imported = PrivateKey::import(Path::new(&at(name)), nobody).unwrap();
        assert_eq!(*imported.key.public(), load_public(Path::new(&at("public"))).unwrap(), "{name}");
        assert_signs(&imported.key);
    }
    for name in ["secret.pem", "secret-p8.pem"] {
        chmod(Path::new(&at(name)), 0o600);
        let error = PrivateKey::import(Path::new(&at(name)), nobody).unwrap_err();
        assert!(matches!(error, KeyFileError::NoPublicKey { .. }), "{error:?}");
        // What the error says to do.
        let anew = format!("anew-{name}");
        openssl(&["ec", "-in", &at(name), "-out", &at(&anew)]);
        chmod(Path::new(&at(&anew)), 0o600);
        PrivateKey::import(Path::new(&at(&anew)), nobody).unwrap();
    }
}

#[test]
fn a_wrong_passphrase_an_unknown_form_and_damage_are_told_apart() {
    for name in ["cosign.key", "python-ed25519.pem", "python-p256-der.der"] {
        let (_dir, path) = private("x", &fixture(name));
        let error = PrivateKey::import(&path, || Passphrase::new("battery staple".to_owned())).unwrap_err();
        assert!(matches!(error, KeyFileError::WrongPassphrase { .. }), "{name}: {error:?}");
        let error = refused(&fixture(name)[..150]);
        assert!(matches!(error, KeyFileError::NotAKey { .. }), "{name}: {error:?}");
    }
    let openssh = b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
    for (bytes, says) in [(openssh.to_vec(), "ssh-agent:"), (fixture("python-sec1-sealed.pem"), "-topk8")] {
        let error = refused(&bytes);
        assert!(matches!(error, KeyFileError::UnreadForm { .. }), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let rsa = refused(b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n");
    assert!(matches!(rsa, KeyFileError::UnsupportedAlgorithm { .. }), "{rsa:?}");
}

/// A cosign key whose JSON `change` was applied to.
fn cosign(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let text = String::from_utf8(fixture("cosign-old.key")).unwrap();
    let (label, content) = pkcs8::der::pem::decode_vec(text.as_bytes()).unwrap();
    let mut document = serde_json::from_slice(&content).unwrap();
    change(&mut document);
    pem(label, &serde_json::to_vec(&document).unwrap()).into_bytes()
}

#[test]
fn a_cosign_key_that_costs_too_much_is_refused_before_deriving() {
    for (n, r, p) in [(1u64 << 40, 8, 1), (65536, 32, 1), (65536, 8, 16)] {
        let error = refused(&cosign(|key| {
            key["kdf"]["params"] = serde_json::json!({"N": n, "r": r, "p": p});
        }));
        let KeyFileError::ParametersTooCostly { cost, .. } = error else { panic!("{error:?}") };
        assert_eq!(cost, KdfCost::Scrypt { n, r, p });
    }
    for params in [[0, 8, 1], [3, 8, 1], [1024, 0, 1], [1024, 8, 0]] {
        let error = refused(&cosign(|key| {
            key["kdf"]["params"] = serde_json::json!({"N": params[0], "r": params[1], "p": params[2]});
        }));
        assert!(matches!(error, KeyFileError::NotAKey { .. }), "{params:?}: {error:?}");
    }
}

#[test]
fn a_cosign_key_of_other_algorithms_is_refused_by_name() {
    for part in ["kdf", "cipher"] {
        let error = refused(&cosign(|key| key[part]["name"] = "rot13".into()));
        assert!(
            matches!(&error, KeyFileError::UnsupportedAlgorithm { algorithm, .. } if algorithm == "rot13")
        );
    }
}

#[test]
fn a_cosign_key_with_any_part_changed_does_not_open() {
    // The cheapest cost, so that each try takes no time; it is not the one that was sealed with either.
    for pointer in ["/kdf/salt", "/cipher/nonce", "/ciphertext"] {
        for to in ["", "AAAA", "!", &BASE64.encode(&[7; 24]), &BASE64.encode(&[7; 200])] {
            let error = refused(&cosign(|key| {
                key["kdf"]["params"]["N"] = 2.into();
                *key.pointer_mut(pointer).unwrap() = to.into();
            }));
            assert!(
                matches!(error, KeyFileError::WrongPassphrase { .. } | KeyFileError::NotAKey { .. }),
                "{pointer} {to}: {error:?}"
            );
        }
    }
    // One bit of the sealed key, under the right passphrase.
    let error = refused(&cosign(|key| {
        let mut sealed = BASE64.decode(key["ciphertext"].as_str().unwrap().as_bytes()).unwrap();
        sealed[40] ^= 1;
        key["ciphertext"] = BASE64.encode(&sealed).into();
    }));
    assert!(matches!(error, KeyFileError::WrongPassphrase { .. }), "{error:?}");
}

#[test]
fn an_ecdsa_key_must_agree_with_the_public_part_it_states() {
    let (_, mut der) = secret(&PrivateKey::generate(Algorithm::EcdsaP256).unwrap());
    let (_, other) = secret(&PrivateKey::generate(Algorithm::EcdsaP256).unwrap());
    let point = der.len() - 65;
    der[point..].copy_from_slice(&other[point..]);
    for error in [read_plain(&der).unwrap_err(), refused(&der)] {
        assert!(matches!(error, KeyFileError::StatedPublicKey { .. }), "{error:?}");
    }
}

#[test]
fn a_public_key_file_of_another_key_beside_a_private_one_is_refused() {
    let (dir, _) = folder();
    let at = |name: &str| dir.path().join(name);
    let [key, other] = [(); 2].map(|()| PrivateKey::generate(Algorithm::Ed25519).unwrap());
    key.save(&at("team.key"), &passphrase()).unwrap();
    key.save_insecure_plain(&at("team.pem")).unwrap();
    let loads = || {
        [
            PrivateKey::load(&at("team.key"), &passphrase()),
            PrivateKey::load_insecure_plain(&at("team.pem")),
            PrivateKey::import(&at("team.pem"), nobody).map(|imported| imported.key),
        ]
    };
    save_public(&at("team.pub"), other.public()).unwrap();
    for error in loads().map(Result::unwrap_err) {
        let KeyFileError::PublicFileDiffers { private, beside, public, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!((private, public), (&key.key_id(), &other.key_id()));
        assert_eq!(*beside, at("team.pub"));
    }
    fs::write(at("team.pub"), "garbage").unwrap();
    for error in loads().map(Result::unwrap_err) {
        assert!(matches!(&error, KeyFileError::NotAKey { path, .. } if *path == at("team.pub")), "{error:?}");
    }
    fs::write(at("team.pub"), key.public().to_pem()).unwrap();
    for loaded in loads() {
        assert_eq!(loaded.unwrap().key_id(), key.key_id());
    }
}

#[test]
fn foreign_keys_are_not_signed_with_but_the_error_says_how_to_bring_them_in() {
    for (name, plain) in [("cosign.key", false), ("python-sec1.pem", false), ("python-p256-plain.pem", true)]
    {
        let (_dir, path) = private(name, &fixture(name));
        let error = PrivateKey::load_asking(&path, nobody).unwrap_err();
        let expected = match &error {
            KeyFileError::Unencrypted { .. } => plain,
            KeyFileError::Foreign { .. } => !plain,
            _ => false,
        };
        assert!(expected && error.to_string().contains("`plimsoll key import "), "{error:?}");
    }
}

#[test]
fn a_new_passphrase_replaces_the_file_and_keeps_the_key() {
    let (dir, _) = folder();
    let (path, link) = (dir.path().join("x.key"), dir.path().join("link.key"));
    let key = PrivateKey::generate(Algorithm::Ed25519).unwrap();
    key.save(&path, &passphrase()).unwrap();
    std::os::unix::fs::symlink("x.key", &link).unwrap();
    key.reseal(&link, &horse().unwrap()).unwrap();
    assert!(link.is_symlink() && !path.is_symlink());
    assert_eq!(mode(&path), 0o600);
    assert_eq!(PrivateKey::load(&path, &horse().unwrap()).unwrap().key_id(), key.key_id());
    assert!(matches!(PrivateKey::load(&path, &passphrase()), Err(KeyFileError::WrongPassphrase { .. })));
    let result = key.reseal(&dir.path().join("none"), &passphrase());
    assert!(matches!(result, Err(KeyFileError::NotFound { .. })), "{result:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn a_public_key_of_openssh_is_read_from_its_one_line() {
    let (dir, path) = (tempfile::tempdir().unwrap(), "id_ed25519.pub");
    let path = dir.path().join(path);
    let read = |text: &str| {
        fs::write(&path, text).unwrap();
        load_public(&path)
    };
    // The public key of RFC 8032, 7.1, TEST 1, in the words of RFC 8709.
    let blob = "AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
    let known = read(&format!("ssh-ed25519 {blob} alice@laptop, work\n")).unwrap();
    assert!(
        matches!(&known, PublicKey::Ed25519(bytes) if bytes.starts_with(&[0xd7, 0x5a, 0x98])),
        "{known:?}"
    );
    assert_eq!(read(&format!("ssh-ed25519 {blob}")).unwrap(), known);
    for bad in [
        "ssh-ed25519".to_owned(),
        "ssh-ed25519 !".to_owned(),
        format!("ssh-ed25519 {}", &blob[..60]),
        format!("ssh-ed25519 {blob}\nssh-ed25519 {blob}\n"),
        format!("ssh-ed25519 {}", blob.replace("lZDI1", "lZDI2")),
        format!("command=\"x\" ssh-ed25519 {blob}"),
    ] {
        let result = read(&bad);
        assert!(matches!(result, Err(KeyFileError::NotAKey { .. })), "{bad}: {result:?}");
    }
    for algorithm in ["ssh-rsa", "ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com"] {
        let error = read(&format!("{algorithm} {blob}")).unwrap_err();
        assert!(matches!(error, KeyFileError::UnsupportedAlgorithm { .. }), "{error:?}");
        assert!(error.to_string().contains(algorithm), "{error}");
    }
    // A key of small order, which anybody can sign for.
    let weak = [&b"\0\0\0\x0bssh-ed25519\0\0\0\x20\x01"[..], &[0; 31]].concat();
    let result = read(&format!("ssh-ed25519 {}", BASE64.encode(&weak)));
    assert!(matches!(result, Err(KeyFileError::PublicKey { .. })), "{result:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the damage, there is an answer, and what is imported all the same is a key that signs.
    #[test]
    fn no_damaged_file_panics(
        which in prop::sample::select(vec![
            "cosign", "python-ed25519-plain.pem", "python-p256-plain.pem", "python-sec1.pem",
            "python-p256-der.der", "python-ed25519.pub",
        ]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.3, any::<prop::sample::Index>()),
    ) {
        // The cheapest cost, as the empty passphrase is tried on it.
        let mut bytes = match which {
            "cosign" => cosign(|key| key["kdf"]["params"]["N"] = 2.into()),
            name => fixture(name),
        };
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        if let Some(at) = cut {
            bytes.truncate(at.index(bytes.len()));
        }
        let (_dir, path) = private("x", &bytes);
        // Nothing is derived: nobody knows the passphrase.
        if let Ok(imported) = PrivateKey::import(&path, || Err(KeyFileError::NoTerminal)) {
            assert_signs(&imported.key);
        }
        let _ = load_public(&path);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), label in 0..5usize) {
        let label = ["PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED SIGSTORE PRIVATE KEY", ""][label];
        let file = if label.is_empty() { bytes } else { pem(label, &bytes).into_bytes() };
        let (_dir, path) = private("x", &file);
        prop_assert!(PrivateKey::import(&path, || Err(KeyFileError::NoTerminal)).is_err());
    }
}
