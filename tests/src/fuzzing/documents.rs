//! The documents of the four role types.

use chrono::TimeDelta;
use plimsoll_core::tuf::{
    Document, Error, Key, PublicKey, Root, Snapshot, Targets, Timestamp, assemble, json, matches,
    metadata::RoleType,
};
use serde::Deserialize;

use super::json::canonical_by_the_rules;

/// As `document`; its keys keep their material and id however a document spells them.
///
/// # Panics
/// If one of these does not hold.
pub fn root(bytes: &[u8]) -> bool {
    let Some(root) = document::<Root>(bytes) else { return false };
    root.signed.keys.values().for_each(key);
    true
}

/// As `document`; its keys as in `root`, and every pattern can be asked about every name.
///
/// # Panics
/// If one of these does not hold.
pub fn targets(bytes: &[u8]) -> bool {
    let Some(targets) = document::<Targets>(bytes) else { return false };
    let targets = targets.signed;
    if let Some(delegations) = &targets.delegations {
        delegations.keys.values().for_each(key);
        for role in &delegations.roles {
            assert_eq!(targets.delegated(&role.name), Some(role));
            for (pattern, name) in role.paths.iter().flatten().zip(targets.targets.keys()) {
                matches(pattern, name);
            }
        }
    }
    for target in targets.targets.values() {
        assert!(!target.hashes.is_empty());
        assert!(target.digest().is_none_or(|digest| target.hashes["sha256"] == digest.hex()));
    }
    true
}

/// As `document`; `targets.json` is there.
///
/// # Panics
/// If one of these does not hold.
pub fn snapshot(bytes: &[u8]) -> bool {
    let snapshot = document::<Snapshot>(bytes);
    assert!(snapshot.as_ref().is_none_or(|snapshot| snapshot.signed.role("targets").is_some()));
    snapshot.is_some()
}

/// As `document`; `snapshot.json` is there.
///
/// # Panics
/// If one of these does not hold.
pub fn timestamp(bytes: &[u8]) -> bool {
    let timestamp = document::<Timestamp>(bytes);
    assert!(timestamp.as_ref().is_none_or(|timestamp| timestamp.signed.snapshot().version > 0));
    timestamp.is_some()
}

/// A document that is taken keeps its bytes; what its signatures are over is the canonical form of all of `signed`; and
/// written again it is taken again as the same document, then to the byte.
fn document<T: RoleType + PartialEq>(bytes: &[u8]) -> Option<Document<T>> {
    #[derive(Deserialize)]
    struct Signed {
        signed: serde_json::Value,
    }
    let document = Document::<T>::parse(T::TYPE, bytes).ok()?;
    let Signed { signed } = serde_json::from_slice(bytes).expect("a strict document is JSON");
    assert_eq!(document.bytes, bytes);
    assert_eq!(document.canonical(), canonical_by_the_rules(&signed));
    assert!(document.version() > 0);

    let written = assemble(&document.signed, &document.signatures);
    let again = Document::<T>::parse(T::TYPE, &written).expect("what we write of a document is one");
    assert_eq!(again.signed, document.signed);
    assert_eq!(again.signatures, document.signatures);
    assert_eq!(json::canonical_of(&document.signed).as_deref(), Ok(again.canonical()));
    assert_eq!(assemble(&again.signed, &again.signatures), written);

    let expires = document.signed.common().expires;
    assert!(matches!(document.check_expiry(T::TYPE, expires), Err(Error::Expired { .. })));
    assert!(document.check_expiry(T::TYPE, expires - TimeDelta::seconds(1)).is_ok());
    Some(document)
}

/// A key that is taken is the same key when we write it, in metadata and in a file, and takes no signature that is none.
fn key(key: &Key) {
    let Ok(public) = key.public() else { return };
    let ours = Key::new(&public);
    assert_eq!(ours.public().as_ref(), Ok(&public));
    assert_eq!(PublicKey::from_pem(&public.to_pem()).as_ref(), Ok(&public));
    assert!(!key.verifies(b"", b"") && !ours.verifies(b"", b""));
}
