//! Files that others may have written: keys and policies.

use std::{cell::RefCell, collections::BTreeSet, io::Write, path::Path};

use data_encoding::BASE64;
use plimsoll::keys::{Passphrase, PrivateKey, Signer};
use plimsoll_core::{
    policy::{Format, Policy, PolicyFile, Scope},
    tuf::{Key, PublicKey},
};
use tempfile::NamedTempFile;

/// The passphrase of the sealed keys among the seeds.
const PASSPHRASE: &str = "seed";

/// A key file, or DER that is read under the label of each kind of key file. A public key is the same one when it is written
/// again; so is a private one, sealed or not, and signs what its public part verifies.
///
/// # Panics
/// If one of these does not hold, or a temporary file cannot be written.
pub fn key_file(bytes: &[u8]) -> bool {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.starts_with("-----") => key_text(text),
        _ => ["PUBLIC KEY", "PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "EC PRIVATE KEY"]
            .map(|label| key_text(&armoured(label, bytes)))
            .contains(&true),
    }
}

fn armoured(label: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ASCII"));
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.collect::<Vec<_>>().join("\n"))
}

fn key_text(pem: &str) -> bool {
    let public = PublicKey::from_pem(pem);
    if let Ok(public) = &public {
        assert_eq!(PublicKey::from_pem(&public.to_pem()).as_ref(), Ok(public));
        assert_eq!(Key::new(public).public().as_ref(), Ok(public));
        assert!(!Key::new(public).verifies(b"", b""));
    }
    let plain = PrivateKey::from_pem_insecure_plain(pem, Path::new("seed"));
    plain.iter().for_each(private_key);
    let imported = imported(pem);
    imported.iter().for_each(private_key);
    public.is_ok() || plain.is_ok() || imported.is_some()
}

fn private_key(key: &PrivateKey) {
    let written = key.to_pem_insecure_plain();
    let again =
        PrivateKey::from_pem_insecure_plain(&written, Path::new("seed")).expect("a key that we wrote");
    assert_eq!((again.public(), again.algorithm()), (key.public(), key.algorithm()));
    assert_eq!(again.to_pem_insecure_plain(), written);
    assert_eq!(key.key_id(), Key::new(key.public()).id());
    let signature = key.sign(b"message").expect("a key that was read signs");
    assert!(key.key().verifies(b"message", &signature));
    assert!(!key.key().verifies(b"another", &signature));
}

/// Reads `pem` as a key of ours or of another tool, by way of a file that each thread keeps.
fn imported(pem: &str) -> Option<PrivateKey> {
    thread_local! {
        static FILE: RefCell<NamedTempFile> =
            RefCell::new(NamedTempFile::new().expect("a temporary file can be made"));
    }
    FILE.with_borrow_mut(|file| {
        std::fs::File::create(file.path())
            .and_then(|mut file| file.write_all(pem.as_bytes()))
            .expect("a temporary file can be written");
        let passphrase = Passphrase::new(PASSPHRASE.to_owned()).expect("the passphrase is not empty");
        PrivateKey::import(file.path(), || Ok(passphrase)).ok().map(|imported| imported.key)
    })
}

/// A policy is the same one when it is written again, and one scope at most applies to a reference: of those that cover
/// its name, one is more specific than all others.
///
/// # Panics
/// If one of these does not hold.
pub fn policy(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(policy) = Policy::parse(text) else { return false };
    let file = PolicyFile::from_toml(text).expect("a policy that was read");
    for (text, format) in [(file.to_toml(), Format::Toml), (file.to_json(), Format::Json)] {
        assert_eq!(Policy::read(&text, format).expect("a policy that we wrote"), policy);
    }

    let scopes: Vec<(&str, &str, Scope)> = policy
        .scopes()
        .iter()
        .map(|entry| (entry.pattern.as_str(), entry.host.as_str(), entry.scope.clone()))
        .collect();
    // Few scopes make names, so that a policy of many takes no time.
    for (host, name) in names_in(&scopes[..scopes.len().min(8)]) {
        let mut covering: Vec<_> = scopes
            .iter()
            .filter(|(_, own, scope)| *own == host && scope.covers(&name))
            .map(|(pattern, _, scope)| (scope.specificity(), *pattern))
            .collect();
        covering.sort_by(|a, b| b.cmp(a));
        if let [first, second, ..] = &covering[..] {
            assert!(first.0 > second.0, "{name:?} lies in {:?} and {:?}", first.1, second.1);
        }
        let Ok(name) = name.parse() else { continue };
        let selected = policy.select(host, &name);
        assert_eq!(selected.map(|s| s.pattern.as_str()), covering.first().map(|(_, pattern)| *pattern));
    }
    true
}

/// Names that lie in the scopes, made so that one may lie in two: each wildcard stands for a piece of any of them.
fn names_in<'a>(scopes: &[(&str, &'a str, Scope)]) -> BTreeSet<(&'a str, String)> {
    let patterns: Vec<(&str, String)> = scopes
        .iter()
        .flat_map(|(_, host, scope)| scope.patterns().into_iter().map(move |pattern| (*host, pattern)))
        .collect();
    let tags = patterns.iter().filter_map(|(_, pattern)| Some(pattern.split_once(':')?.1));
    let mut pieces: BTreeSet<&str> = tags.flat_map(|tag| tag.split('*')).take(12).collect();
    pieces.extend(["", "a", "a:v1"]);
    let mut names = BTreeSet::new();
    for (host, pattern) in &patterns {
        names.extend(pieces.iter().map(|piece| (*host, pattern.replace('*', piece))));
    }
    names
}
