//! Keys and signatures in all their spellings, those of another library among them.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod simulator;

use data_encoding::{BASE64, HEXLOWER};
use plimsoll_core::tuf::{Key, KeyError, KeyId, PublicKey};
use serde::Deserialize;
use serde_json::Value;
use simulator::*;

/// Made by `tests/peers/signatures.py`, which says what its members mean.
const SIGNATURES: &str = include_str!("vectors/signatures.json");

#[derive(Deserialize)]
struct Case {
    name: String,
    key: Key,
    message: String,
    sig: String,
    verifies: bool,
    unlike: Option<String>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(SIGNATURES).unwrap()
}

fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

/// True if the signature, in hex as documents have it, counts.
fn counts(case: &Case, message: &str) -> bool {
    HEXLOWER.decode(case.sig.as_bytes()).is_ok_and(|sig| case.key.verifies(message.as_bytes(), &sig))
}

/// T57, T59: keys and signatures of securesystemslib, right and wrong, count here when they count there, but for those
/// where a reason is given.
#[test]
fn signatures_of_another_library_count_as_they_do_there() {
    let (mut right, mut unlike) = (0, 0);
    for case in cases() {
        assert_eq!(counts(&case, &case.message), case.verifies != case.unlike.is_some(), "{}", case.name);
        assert!(!counts(&case, "another message"), "{}", case.name);
        right += usize::from(case.verifies);
        unlike += usize::from(case.unlike.is_some());
    }
    assert!(right > 20 && unlike > 5, "{right} {unlike}");
}

/// T02: sloppy PEM is the same key as neat PEM, and the same as a point in hex.
#[test]
fn however_it_is_spelled_it_is_one_key() {
    for signer in [Signer::ecdsa(), Signer::p384(), Signer::rsa()] {
        let public = signer.key.public().unwrap();
        let pem = signer.public();
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let one_line = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
        for other in [
            pem.replace('\n', "\r\n"),
            pem.replace('\n', "\r"),
            pem.trim_end().to_owned(),
            format!("{pem}\n\n"),
            format!(" \t\r\n{pem}"),
            pem.replace('\n', " \n\t"),
            one_line.replace('\n', ""),
            one_line,
        ] {
            let other = signer.spelled("other", &other);
            assert_eq!(other.key.public().as_ref(), Ok(&public), "{:?}", other.public());
            assert_ne!(other.key.id(), signer.key.id());
        }
        assert_eq!(public.to_pem(), pem);
        assert_eq!(Key::new(&public), signer.key);
    }
    for signer in [Signer::ecdsa(), Signer::p384()] {
        let Ok(public @ (PublicKey::EcdsaP256(point) | PublicKey::EcdsaP384(point))) = &signer.key.public()
        else {
            panic!()
        };
        let other = signer.spelled("other", &HEXLOWER.encode(point));
        assert_eq!(other.key.public().as_ref(), Ok(public));
    }
}

/// T02: the key of openssl's that differs from ours in nothing but its writer is read, and written the same.
#[test]
fn what_openssl_writes_is_written_the_same() {
    for name in ["ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "rsassa-pss-sha256, 8192 bits"] {
        let case = case(name);
        let pem = case.key.keyval["public"].as_str().unwrap();
        assert_eq!(PublicKey::from_pem(pem).unwrap().to_pem(), pem);
        assert_eq!(Key::new(&PublicKey::from_pem(pem).unwrap()), case.key);
    }
}

/// An element of DER.
fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(contents.len()).unwrap().to_be_bytes();
    let head = match contents.len() {
        0..0x80 => vec![tag, low],
        0x80..0x100 => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [head.as_slice(), contents].concat()
}

/// An RSA key whose RSAPublicKey has these contents of its two integers.
fn rsa(modulus: &[u8], exponent: &[u8]) -> Key {
    let numbers = [element(2, modulus), element(2, exponent)].concat();
    Key::new(&PublicKey::Rsa(element(0x30, &numbers)))
}

/// T59: RSA keys that anybody can sign for, or that are too weak or too long, say which they are.
#[test]
fn rsa_keys_are_of_2048_to_8192_bits_and_odd() {
    let number = |bits: usize, last: u8| {
        let mut number = vec![0xa5; bits.div_ceil(8)];
        number[0] = 1 << ((bits - 1) % 8);
        *number.last_mut().unwrap() = last;
        // What would be negative has a zero in front.
        if bits.is_multiple_of(8) { [&[0], number.as_slice()].concat() } else { number }
    };
    const F4: &[u8] = &[1, 0, 1];
    for bits in [2048, 2049, 3072, 8192] {
        assert!(matches!(rsa(&number(bits, 1), F4).public(), Ok(PublicKey::Rsa(_))), "{bits}");
    }
    for bits in [512, 1024, 2041, 2047, 8193, 16_384] {
        assert_eq!(rsa(&number(bits, 1), F4).public(), Err(KeyError::RsaSize { bits }));
    }
    let good = number(2048, 1);
    assert_eq!(rsa(&number(2048, 2), F4).public(), Err(KeyError::Weak("rsa")));
    for exponent in [&[1][..], &[2], &[4], &[1, 0, 0], &[2, 0, 0, 0, 1], &[1, 0, 0, 0, 0, 1]] {
        assert_eq!(rsa(&good, exponent).public(), Err(KeyError::Weak("rsa")), "{exponent:x?}");
    }
    for exponent in [&[3][..], &[5], F4, &[1, 0xff, 0xff, 0xff, 0xff]] {
        assert!(rsa(&good, exponent).public().is_ok(), "{exponent:x?}");
    }
    // Not in their only encoding.
    for exponent in [&[0, 3][..], &[0], &[0x81], &[]] {
        assert_eq!(rsa(&good, exponent).public(), Err(KeyError::Malformed("rsa")), "{exponent:x?}");
    }
}

/// T59, T57: what is wrong with a key is said by a variant of its own, and nothing panics.
#[test]
fn keys_that_cannot_count_say_why() {
    let pem = |signer: &Signer| signer.public().to_owned();
    let ecdsa = ("ecdsa", "ecdsa-sha2-nistp256");
    let p384 = ("ecdsa", "ecdsa-sha2-nistp384");
    let pss = ("rsa", "rsassa-pss-sha256");
    let edwards = ("ed25519", "ed25519");
    let malformed = KeyError::Malformed;
    let identity = format!("01{}", "0".repeat(62));
    for ((keytype, scheme), public, error) in [
        (edwards, "0".repeat(64), KeyError::Weak("ed25519")),
        (edwards, identity, KeyError::Weak("ed25519")),
        (edwards, "ab".repeat(31), malformed("ed25519")),
        (edwards, "ab".repeat(33), malformed("ed25519")),
        (edwards, format!("{}a", "ab".repeat(31)), malformed("ed25519")),
        (edwards, "AB".repeat(32), malformed("ed25519")),
        (edwards, "é".repeat(32), malformed("ed25519")),
        (edwards, pem(&Signer::rsa()), malformed("ed25519")),
        (ecdsa, String::new(), malformed("ecdsa")),
        (ecdsa, "00".to_owned(), malformed("ecdsa")),
        (ecdsa, format!("04{}", "1".repeat(126)), malformed("ecdsa")),
        (ecdsa, format!("04{}", "A".repeat(128)), malformed("ecdsa")),
        (ecdsa, format!("02{}", "1".repeat(64)), malformed("ecdsa")),
        (ecdsa, format!("06{}", "1".repeat(128)), malformed("ecdsa")),
        (ecdsa, format!("04{}", "1".repeat(192)), malformed("ecdsa")),
        (ecdsa, pem(&Signer::p384()), malformed("ecdsa")),
        (ecdsa, pem(&Signer::rsa()), malformed("ecdsa")),
        (p384, pem(&Signer::ecdsa()), malformed("ecdsa")),
        (p384, format!("04{}", "1".repeat(128)), malformed("ecdsa")),
        (p384, format!("03{}", "1".repeat(96)), malformed("ecdsa")),
        (pss, pem(&Signer::ecdsa()), malformed("rsa")),
        (pss, "-----BEGIN PUBLIC KEY-----".to_owned(), malformed("PEM")),
        (pss, "-----BEGIN PUBLIC KEY----------END PUBLIC KEY-----".to_owned(), {
            malformed("Ed25519, ECDSA P-256 or P-384, or RSA")
        }),
        (pss, pem(&Signer::rsa()).replace("PUBLIC", "PRIVATE"), malformed("PEM")),
        (pss, pem(&Signer::rsa()).replace('A', "*"), malformed("PEM")),
        (pss, pem(&Signer::rsa()).repeat(2), malformed("PEM")),
        (pss, "0".repeat(64), malformed("PEM")),
    ] {
        let mut key = Signer::ed25519(2).key;
        (key.keytype, key.scheme) = (keytype.to_owned(), scheme.to_owned());
        key.keyval.insert("public".to_owned(), public.as_str().into());
        assert_eq!(key.public(), Err(error), "{keytype} {scheme} {public}");
        assert!(!key.verifies(b"", b""));
    }
    for public in [Value::Null, 1.into(), vec![1].into(), serde_json::json!({"x": 1})] {
        let mut key = Signer::ed25519(2).key;
        key.keyval.insert("public".to_owned(), public.into());
        assert_eq!(key.public(), Err(malformed("ed25519")));
        key.keyval.clear();
        assert_eq!(key.public(), Err(malformed("ed25519")));
    }
    for (keytype, scheme) in [
        ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384"),
        ("ecdsa", "rsassa-pss-sha256"),
        ("ed25519", "ecdsa-sha2-nistp256"),
        ("rsa", "ed25519"),
        ("rsa", "rsassa-pss-sha1"),
        ("rsa", "rsa-pkcs1v15-sha256"),
        ("RSA", "rsassa-pss-sha256"),
        ("", ""),
    ] {
        let key = Signer::rsa().typed("x", keytype, scheme).key;
        assert!(matches!(key.public(), Err(KeyError::Unknown { .. })), "{keytype} {scheme}");
    }
}

/// T59: a DER prefix, suffix or detour is not another spelling of an RSA key, but none at all.
#[test]
fn an_rsa_key_has_one_der() {
    let neat = Signer::rsa().public().to_owned();
    let body: String = neat.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = BASE64.decode(body.as_bytes()).unwrap();
    let read = |der: &[u8]| {
        PublicKey::from_pem(&format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----",
            BASE64.encode(der)
        ))
    };
    let public = read(&der).unwrap();
    assert!(read(&[der.as_slice(), &[0]].concat()).is_err());
    // Each bit of all that is not the modulus: another key, or none.
    let modulus = der.len() - 5 - 256..der.len() - 5;
    for at in (0..der.len()).filter(|at| !modulus.contains(at)) {
        for bit in 0..8 {
            let mut other = der.clone();
            other[at] ^= 1 << bit;
            assert_ne!(read(&other).ok().as_ref(), Some(&public), "byte {at}, bit {bit}");
        }
    }
}

/// T59: what is off its curve never counts when read, and is refused when authored; P-384 keys and the longer hashes
/// of RSA count, but would lock other clients out, so they are not authored.
#[test]
fn only_sound_keys_that_everybody_reads_are_authored() {
    let portable = [Signer::ed25519(2), Signer::ecdsa(), Signer::rsa()];
    for signer in portable {
        assert_eq!(signer.key.check_authored(), signer.key.public());
    }
    for signer in [
        Signer::p384(),
        Signer::rsa().typed("x", "rsa", "rsassa-pss-sha384"),
        Signer::rsa().typed("x", "rsa", "rsassa-pss-sha512"),
    ] {
        assert!(signer.key.public().is_ok());
        let error = signer.key.check_authored().unwrap_err();
        assert_eq!(error, KeyError::NotPortable { scheme: signer.key.scheme.clone() });
    }
    let mut long = vec![4; 97];
    long[96] = 5;
    let off = [PublicKey::EcdsaP256(long[..65].to_vec()), PublicKey::EcdsaP384(long)];
    for public in off {
        let key = Key::new(&public);
        assert_eq!(key.public(), Ok(public));
        assert_eq!(key.check_authored(), Err(KeyError::Weak("ecdsa")));
    }
    assert_eq!(Key::new(&PublicKey::Ed25519([0; 32])).check_authored(), Err(KeyError::Weak("ed25519")));
}

/// A key id is text, whatever it holds: eight characters of it are shown to people, and maps are asked for it by text.
#[test]
fn a_key_id_is_text() {
    for (id, short) in
        [("0123456789abcdef", "01234567"), ("01234567", "01234567"), ("", ""), ("ééééééééé", "éééééééé")]
    {
        let id = KeyId(id.to_owned());
        assert_eq!(id.short(), short);
        assert_eq!(id.to_string(), id.0);
        let ids = std::collections::BTreeMap::from([(id.clone(), ())]);
        assert!(ids.contains_key(id.0.as_str()) && !ids.contains_key("another"));
    }
}
