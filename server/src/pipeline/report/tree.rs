//! The roles of a trust repository as its newest documents have them, for people to look at.
//!
//! Nothing here decides anything: the documents were verified when they were accepted.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::Digest,
    policy::Scope,
    tuf::{Document, Identity, KeyId, Root, Snapshot, Targets, Timestamp},
};
use serde::Serialize;

use super::super::round::RoundError;
use crate::store::{Head, RoleHead, Store, TrustKey};

/// A scope is shown up to this many characters.
const SCOPE: usize = 240;
/// Of the keys of one role that many are named.
const KEYS: usize = 16;
/// The top-level roles, in the order in which they are shown: `targets` last, since what it delegates follows.
const TOP: [&str; 4] = ["root", "timestamp", "snapshot", "targets"];

/// The roles of one trust repository, as of one head.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Tree {
    /// The timestamp's version in that head; 0 before the first submission.
    pub timestamp_version: u64,
    /// The four top-level roles, `targets` last (none before the first submission), then the delegated ones, each after the role that
    /// delegates to it, in the order of the delegations.
    pub roles: Vec<RoleReport>,
    /// How many roles are kept in the snapshot though nobody delegates to them any more.
    pub removed: usize,
}

/// One role.
#[derive(Debug, Clone, Serialize)]
pub struct RoleReport {
    /// Its name. Whoever delegates chose it.
    pub name: String,
    /// The role that delegates to it; none for the top-level ones.
    pub parent: Option<String>,
    /// What it may speak about, as scopes, cut to 240 characters; empty for root, snapshot and timestamp.
    pub scope: String,
    /// The keys that may sign it, at most 16.
    pub keys: Vec<KeyReport>,
    /// How many keys may sign it.
    pub key_count: usize,
    /// How many of them must.
    pub threshold: u64,
    /// Its newest document; none if it was delegated and never published.
    pub document: Option<DocumentReport>,
}

/// A key that may sign a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyReport {
    /// Its id.
    pub id: KeyId,
    /// What the role above calls it.
    pub name: Option<String>,
}

/// The newest document of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DocumentReport {
    /// From 1.
    pub version: u64,
    /// When it was signed, by its signer's word; UTC.
    pub signed: Option<DateTime<Utc>>,
    /// UTC.
    pub expires: DateTime<Utc>,
    /// Its length.
    pub bytes: u64,
    /// How many names it vouches for.
    pub targets: usize,
    /// How many digests and scopes it takes back.
    pub revocations: usize,
}

impl RoleReport {
    /// How deep in the tree: 0 for the top-level roles, 1 for those that `targets` delegates to.
    pub fn depth(&self) -> usize {
        if self.parent.is_some() { self.name.matches("--").count().max(1) } else { 0 }
    }

    /// True for the two roles that the daemon signs itself.
    pub fn is_online(&self) -> bool {
        matches!(self.name.as_str(), "timestamp" | "snapshot")
    }
}

impl DocumentReport {
    /// Seconds from `now` until it expires; negative after that.
    pub fn left(&self, now: DateTime<Utc>) -> i64 {
        (self.expires - now).num_seconds()
    }

    /// Seconds that it lives in all; by its signer's word, so at least 0.
    pub fn life(&self) -> i64 {
        self.signed.map_or(0, |signed| (self.expires - signed).num_seconds().max(0))
    }
}

/// What was read of each document, so that a new head costs only what is new in it.
#[derive(Debug, Default)]
pub(super) struct Reader {
    facts: BTreeMap<String, Facts>,
}

#[derive(Debug)]
struct Facts {
    digest: Digest,
    report: DocumentReport,
    grants: Vec<Grant>,
}

/// What a role says of one that it gives keys to.
#[derive(Debug, Clone)]
struct Grant {
    role: String,
    scope: String,
    keys: Vec<KeyReport>,
    key_count: usize,
    threshold: u64,
}

impl Reader {
    /// The tree of `head`. Reads the documents that are new since the last call.
    ///
    /// # Errors
    /// [`RoundError`] if one cannot be read; the next call tries again.
    pub(super) fn read(
        &mut self,
        store: &dyn Store,
        key: &TrustKey,
        head: &Head,
    ) -> Result<Tree, RoundError> {
        self.facts.retain(|role, _| head.roles.contains_key(role));
        for (role, entry) in &head.roles {
            if self.facts.get(role).is_none_or(|facts| facts.digest != entry.digest) {
                let missing = || RoundError::Missing { role: role.clone(), version: entry.version };
                let bytes = store.document(key, role, entry.version)?.ok_or_else(missing)?;
                self.facts.insert(role.clone(), facts(role, entry, &bytes)?);
            }
        }
        Ok(self.tree(head.roles.get("timestamp").map_or(0, |role| role.version)))
    }

    fn tree(&self, timestamp_version: u64) -> Tree {
        let Some(root) = self.facts.get("root") else { return Tree { timestamp_version, ..Tree::default() } };
        let top = TOP.iter().filter_map(|name| root.grants.iter().find(|grant| grant.role == *name));
        let mut roles: Vec<_> = top.map(|grant| self.role(grant, None)).collect();
        // Deepest last in, first out: each role stands right after its parent. Names grow by each level, so this ends.
        let mut waiting: Vec<(&str, &Grant)> = self.grants("targets").collect();
        while let Some((parent, grant)) = waiting.pop() {
            roles.push(self.role(grant, Some(parent)));
            waiting.extend(self.grants(&grant.role));
        }
        let removed = self.facts.len().saturating_sub(roles.iter().filter(|r| r.document.is_some()).count());
        Tree { timestamp_version, roles, removed }
    }

    /// What `role` delegates, the first last.
    fn grants<'a>(&'a self, role: &str) -> impl Iterator<Item = (&'a str, &'a Grant)> {
        let found = self.facts.get_key_value(role);
        let (name, grants) = found.map_or(("", &[][..]), |(name, facts)| (name, &facts.grants));
        let below = move |grant: &&Grant| grant.role.len() > name.len() && grant.role.starts_with(name);
        grants.iter().rev().filter(below).map(move |grant| (name, grant))
    }

    fn role(&self, grant: &Grant, parent: Option<&str>) -> RoleReport {
        RoleReport {
            name: grant.role.clone(),
            parent: parent.map(str::to_owned),
            scope: grant.scope.clone(),
            keys: grant.keys.clone(),
            key_count: grant.key_count,
            threshold: grant.threshold,
            document: self.facts.get(&grant.role).map(|facts| facts.report),
        }
    }
}

/// When the stored timestamp `version` was signed and expires; none if it is not stored.
///
/// # Errors
/// [`RoundError`].
pub(super) fn timestamp(
    store: &dyn Store,
    key: &TrustKey,
    version: u64,
) -> Result<Option<DocumentReport>, RoundError> {
    let Some(bytes) = store.document(key, "timestamp", version)? else { return Ok(None) };
    let entry = RoleHead { version, digest: Digest::of(&bytes), length: bytes.len() as u64 };
    Ok(Some(facts("timestamp", &entry, &bytes)?.report))
}

fn facts(role: &str, entry: &RoleHead, bytes: &[u8]) -> Result<Facts, RoundError> {
    let (mut targets, mut revocations, mut grants) = (0, 0, Vec::new());
    let common = match role {
        "root" => {
            let root = parse::<Root>(role, bytes)?;
            grants = top_level(&root);
            root.common
        }
        "snapshot" => parse::<Snapshot>(role, bytes)?.common,
        "timestamp" => parse::<Timestamp>(role, bytes)?.common,
        _ => {
            let document = parse::<Targets>(role, bytes)?;
            (targets, revocations) = (document.targets.len(), document.revocations().len());
            grants = delegated(&document);
            document.common
        }
    };
    let report = DocumentReport {
        version: entry.version,
        signed: common.identity.map(|identity| identity.at),
        expires: common.expires,
        bytes: entry.length,
        targets,
        revocations,
    };
    Ok(Facts { digest: entry.digest, report, grants })
}

fn parse<T: plimsoll_core::tuf::metadata::RoleType>(role: &str, bytes: &[u8]) -> Result<T, RoundError> {
    Ok(Document::<T>::parse(role, bytes).map_err(RoundError::Stored)?.signed)
}

fn top_level(root: &Root) -> Vec<Grant> {
    let identity = root.common.identity.as_ref();
    let grant = |(role, keys): (&String, &plimsoll_core::tuf::RoleKeys)| {
        let scope = match (role.as_str(), identity) {
            ("targets", Some(identity)) => spell(&identity.scope),
            _ => String::new(),
        };
        let (key_count, named) = (keys.keyids.len(), named(&keys.keyids, identity));
        Grant { role: role.clone(), scope, keys: named, key_count, threshold: keys.threshold }
    };
    root.roles.iter().map(grant).collect()
}

fn delegated(document: &Targets) -> Vec<Grant> {
    let identity = document.common.identity.as_ref();
    let roles = document.delegations.iter().flat_map(|delegations| &delegations.roles);
    roles
        .map(|role| Grant {
            role: role.name.clone(),
            scope: spell(role.paths.as_deref().unwrap_or_default()),
            keys: named(&role.keys.keyids, identity),
            key_count: role.keys.keyids.len(),
            threshold: role.keys.threshold,
        })
        .collect()
}

fn named(ids: &[KeyId], identity: Option<&Identity>) -> Vec<KeyReport> {
    let name = |id: &KeyId| identity.and_then(|identity| identity.names.get(id).cloned());
    ids.iter().take(KEYS).map(|id| KeyReport { id: id.clone(), name: name(id) }).collect()
}

fn spell(patterns: &[String]) -> String {
    let text = Scope::spell(patterns);
    match text.char_indices().nth(SCOPE) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
