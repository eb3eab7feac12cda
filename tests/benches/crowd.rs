//! A trust repository with many teams, each with one key, and what they sign.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll::{
    keys::{Algorithm, PrivateKey, Signer},
    publish::{
        api::{MAX_DOCUMENTS, OnlineKeys},
        author,
    },
};
use plimsoll_core::{
    oci::Digest,
    tuf::{Target, Targets},
};

const TRUST: &str = "0123456789abcdef0123456789abcdef";
/// Names in each team's document, which makes it about 4 KiB.
const NAMES: usize = 28;

pub(crate) type Documents = BTreeMap<String, Vec<u8>>;

pub(crate) struct Crowd {
    pub(crate) owner: PrivateKey,
    pub(crate) team: PrivateKey,
    teams: usize,
    born: DateTime<Utc>,
}

/// The role of team `n`.
pub(crate) fn role(n: usize) -> String {
    format!("targets--n{n}")
}

impl Crowd {
    /// Of `teams` teams, which all sign with one key: whose it is costs nothing.
    pub(crate) fn new(teams: usize, born: DateTime<Utc>) -> Self {
        let key = || PrivateKey::generate(Algorithm::Ed25519).unwrap();
        Self { owner: key(), team: key(), teams, born }
    }

    /// The submissions that make the trust repository, to be sent in order.
    pub(crate) fn beginning(&self, online: &OnlineKeys) -> Vec<Documents> {
        let scope = "acme/**".parse().unwrap();
        let root = author::first_root(TRUST, &[scope], &[self.owner.key().clone()], 1, online, self.born);
        let mut targets = author::empty_targets("targets", TRUST, self.born);
        for n in 0..self.teams {
            let (scope, keys) = (format!("acme/n{n}").parse().unwrap(), [self.team.public().clone()]);
            author::delegate(&mut targets, ("targets", &["acme/*".to_owned()]), &role(n), &scope, &keys, 1)
                .unwrap();
        }
        let first = BTreeMap::from([
            ("root".to_owned(), author::sign(&root, &[&self.owner]).unwrap()),
            ("targets".to_owned(), author::sign(&targets, &[&self.owner]).unwrap()),
        ]);
        let roles: Vec<usize> = (0..self.teams).collect();
        let rest = roles
            .chunks(MAX_DOCUMENTS)
            .map(|some| some.iter().map(|&n| (role(n), self.document(n, 1))).collect::<Documents>());
        std::iter::once(first).chain(rest).collect()
    }

    /// What team `n` signs as `version`: always as long, always other digests.
    pub(crate) fn document(&self, n: usize, version: u64) -> Vec<u8> {
        let mut document: Targets = author::empty_targets(&role(n), TRUST, self.born);
        document.common.version = version;
        // So that documents of one length are not of one content at version 1.
        document.common.expires -= TimeDelta::seconds(i64::try_from(n % 10_000).unwrap());
        for at in 0..NAMES {
            let hash = Digest::of(format!("{n} {version} {at}").as_bytes()).hex();
            let hashes = BTreeMap::from([("sha256".to_owned(), hash)]);
            let target = Target { length: 1234, hashes, custom: None, extra: BTreeMap::new() };
            document.targets.insert(format!("acme/n{n}:v{at}"), target);
        }
        author::sign(&document, &[&self.team]).unwrap()
    }
}

/// A submission as it is sent.
pub(crate) fn body(documents: &Documents) -> Vec<u8> {
    let members: Vec<String> = documents
        .iter()
        .map(|(role, bytes)| format!("\"{role}\":{}", std::str::from_utf8(bytes).unwrap()))
        .collect();
    format!("{{\"documents\":{{{}}}}}", members.join(",")).into_bytes()
}
