//! Repositories of many roles, and what the least possible work on their documents is.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use plimsoll_core::{
    oci::Digest,
    tuf::{
        DelegatedRole, Document, KeyId, MetaFile, PublicKey, RoleType, Root, Signature, Snapshot, Targets,
        Timestamp, metadata::RoleKeysOnly,
    },
};

use crate::simulator::{Repository, Signer, delegations, sign, targets};

/// The name that is searched: `targets` delegates it to `team`, and that to `team--net`.
pub(crate) const NAME: &str = "acme/team/net:v1";

/// A repository of `roles` delegated roles, all but two of them beside the way to [`NAME`], each with a key of its own.
pub(crate) fn repository(roles: u32) -> Repository {
    let mut repository = Repository::new();
    repository.edit("targets", |targets| {
        let delegations = delegations(targets);
        for i in 2..roles {
            let mut public = [0x33; 32];
            public[..4].copy_from_slice(&i.to_be_bytes());
            let key = plimsoll_core::tuf::Key::new(&PublicKey::Ed25519(public));
            let path = format!("acme/other-{i:05}");
            let name = format!("targets--other-{i:05}");
            delegations.roles.push(delegated(
                &name,
                &key.id(),
                &[&format!("{path}:*"), &format!("{path}@*")],
            ));
            delegations.keys.insert(key.id(), key);
        }
    });
    repository.delegate("targets", "team", &Signer::ed25519(50), &["acme/team/*"]);
    repository.delegate("team", "team--net", &Signer::ed25519(51), &["acme/team/net:*", "acme/team/net@*"]);
    repository.list("team--net", NAME, "image");
    // Documents of others are never fetched; the snapshot lists them.
    let other = sign(&targets(), &[Signer::ed25519(52)]);
    repository.publish_snapshot(|snapshot| {
        for i in 2..roles {
            let mut meta = MetaFile::of(1, &other);
            meta.hashes = Some(BTreeMap::from([("sha256".to_owned(), Digest::of(&i.to_be_bytes()).hex())]));
            snapshot.meta.insert(format!("targets--other-{i:05}.json"), meta);
        }
    });
    repository
}

fn delegated(name: &str, key: &KeyId, paths: &[&str]) -> DelegatedRole {
    DelegatedRole {
        name: name.to_owned(),
        keys: RoleKeysOnly { keyids: vec![key.clone()], threshold: 1 },
        terminating: true,
        paths: Some(paths.iter().map(|&path| path.to_owned()).collect()),
        path_hash_prefixes: None,
        extra: BTreeMap::new(),
    }
}

type Parse = fn(&[u8]);

/// A document, and all that must be done with it at the very least: one typed parse, one verification of its signature,
/// one sha256 where another document lists it.
pub(crate) struct Least {
    bytes: Vec<u8>,
    canonical: Vec<u8>,
    parse: Parse,
    signature: Vec<u8>,
    public: Vec<u8>,
    hashed: bool,
}

#[derive(serde::Deserialize)]
struct Envelope<T> {
    signatures: Vec<Signature>,
    signed: T,
}

fn parse<T: RoleType>(bytes: &[u8]) {
    let envelope: Envelope<T> = serde_json::from_slice(bytes).unwrap();
    std::hint::black_box((envelope.signed, envelope.signatures));
}

impl Least {
    pub(crate) fn of(repository: &Repository, role: &str) -> Self {
        let bytes = repository.bytes(role).to_vec();
        let (canonical, signatures, parse): (_, _, Parse) = match role {
            "root" => part(Document::<Root>::parse(role, &bytes).unwrap()),
            "timestamp" => part(Document::<Timestamp>::parse(role, &bytes).unwrap()),
            "snapshot" => part(Document::<Snapshot>::parse(role, &bytes).unwrap()),
            _ => part(Document::<Targets>::parse(role, &bytes).unwrap()),
        };
        let key = &repository.signers[role][0].key;
        Self {
            parse,
            canonical,
            signature: HEXLOWER.decode(signatures[0].sig.as_bytes()).unwrap(),
            public: HEXLOWER.decode(key.keyval["public"].as_str().unwrap().as_bytes()).unwrap(),
            hashed: !matches!(role, "root" | "timestamp"),
            bytes,
        }
    }

    pub(crate) fn work(&self) {
        (self.parse)(&self.bytes);
        let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, &self.public);
        key.verify(&self.canonical, &self.signature).unwrap();
        if self.hashed {
            std::hint::black_box(ring::digest::digest(&ring::digest::SHA256, &self.bytes));
        }
    }
}

fn part<T: RoleType>(document: Document<T>) -> (Vec<u8>, Vec<Signature>, Parse) {
    (document.canonical().to_vec(), document.signatures, parse::<T>)
}
