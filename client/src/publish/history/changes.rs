//! What is different between two versions of a role. Pure.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_core::tuf::{Delegations, Key, KeyId, Revocation, Root, Target, Targets};
use serde::{Serialize, Serializer};

use super::{NamedKey, named};
use crate::publish::author::key_names;

/// One difference to the version before. As JSON an object with the member `change`, its kind; targets are written as their
/// digests, with `null` for one without a sha256.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Change {
    /// A name that was not listed before.
    Added {
        /// The target name.
        name: String,
        /// What it means.
        #[serde(rename = "digest", serialize_with = "digest")]
        target: Target,
    },
    /// A name that means something else now, or has another `custom` beside the same digest.
    Changed {
        /// The target name.
        name: String,
        /// What it meant.
        #[serde(serialize_with = "digest")]
        before: Target,
        /// What it means.
        #[serde(rename = "digest", serialize_with = "digest")]
        target: Target,
    },
    /// A name that is not listed any more.
    Removed {
        /// The target name.
        name: String,
        /// What it meant.
        #[serde(serialize_with = "digest")]
        before: Target,
    },
    /// A digest or a scope taken back.
    Revoked(Revocation),
    /// A revocation taken back.
    Reinstated(Revocation),
    /// A revocation that is listed no more, without a word. The daemon takes no such version.
    Forgotten(Revocation),
    /// A role that is given to keys; of a root, one of the four top-level roles.
    Delegated {
        /// The role.
        role: String,
        /// Its keys.
        keys: Vec<NamedKey>,
        /// How many of them must sign.
        threshold: u64,
        /// The path patterns, or hash prefixes, that it may speak about; of `targets`, the root's scopes.
        paths: Vec<String>,
    },
    /// A role that is delegated to no more.
    Undelegated {
        /// The role.
        role: String,
    },
    /// A role has other keys.
    Keys {
        /// The role.
        role: String,
        /// New ones.
        added: Vec<NamedKey>,
        /// Those that do not count any more.
        removed: Vec<NamedKey>,
    },
    /// A role needs another number of signatures.
    Threshold {
        /// The role.
        role: String,
        /// The number before.
        before: u64,
        /// The number now.
        now: u64,
    },
    /// A role may speak about something else.
    Scope {
        /// The role.
        role: String,
        /// What it was.
        before: Vec<String>,
        /// What it is.
        now: Vec<String>,
    },
}

/// To whom a document gives a role.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Grant {
    pub(super) keyids: BTreeSet<KeyId>,
    pub(super) keys: BTreeMap<KeyId, Key>,
    pub(super) threshold: u64,
    pub(super) paths: Vec<String>,
}

impl Grant {
    fn new(keyids: &[KeyId], threshold: u64, keys: &BTreeMap<KeyId, Key>, paths: Vec<String>) -> Self {
        let keyids: BTreeSet<KeyId> = keyids.iter().cloned().collect();
        let keys = keyids.iter().filter_map(|id| Some((id.clone(), keys.get(id)?.clone()))).collect();
        Self { keyids, keys, threshold, paths }
    }

    /// True if the same signatures are good for both.
    pub(super) fn same_keys(&self, other: &Self) -> bool {
        (&self.keyids, &self.keys, self.threshold) == (&other.keyids, &other.keys, other.threshold)
    }
}

/// The top-level roles.
pub(super) fn grants_of_root(root: &Root) -> BTreeMap<String, Grant> {
    let scopes = root.common.identity.as_ref().map(|identity| identity.scope.clone()).unwrap_or_default();
    let grant = |(role, keys): (&String, &plimsoll_core::tuf::RoleKeys)| {
        let paths = if role == "targets" { scopes.clone() } else { Vec::new() };
        (role.clone(), Grant::new(&keys.keyids, keys.threshold, &root.keys, paths))
    };
    root.roles.iter().map(grant).collect()
}

/// The roles that `targets` delegates to by name.
pub(super) fn grants_of(targets: &Targets) -> BTreeMap<String, Grant> {
    let Some(Delegations { keys, roles, .. }) = &targets.delegations else { return BTreeMap::new() };
    let grant = |role: &plimsoll_core::tuf::DelegatedRole| {
        let paths = role.paths.clone().or_else(|| role.path_hash_prefixes.clone()).unwrap_or_default();
        (role.name.clone(), Grant::new(&role.keys.keyids, role.keys.threshold, keys, paths))
    };
    roles.iter().map(grant).collect()
}

/// What `now` changes; of the first root, everything it says.
pub(super) fn of_root(before: Option<&Root>, now: &Root) -> Vec<Change> {
    let (old, old_names) =
        before.map(|root| (grants_of_root(root), key_names(&root.common))).unwrap_or_default();
    of_grants((&old, &old_names), (&grants_of_root(now), &key_names(&now.common)))
}

/// What `now` changes; of a role's first version, everything it says.
pub(super) fn of_targets(before: Option<&Targets>, now: &Targets) -> Vec<Change> {
    let none = BTreeMap::new();
    let old = before.map_or(&none, |before| &before.targets);
    let mut changes = Vec::new();
    for (name, target) in &now.targets {
        let (name, target) = (name.clone(), target.clone());
        match old.get(&name) {
            None => changes.push(Change::Added { name, target }),
            Some(before) if *before != target => {
                changes.push(Change::Changed { name, before: before.clone(), target });
            }
            Some(_) => {}
        }
    }
    let gone = old.iter().filter(|(name, _)| !now.targets.contains_key(*name));
    changes.extend(gone.map(|(name, before)| Change::Removed { name: name.clone(), before: before.clone() }));
    changes.extend(of_revocations(before, now));
    let (old, old_names) = before.map(|old| (grants_of(old), key_names(&old.common))).unwrap_or_default();
    changes.extend(of_grants((&old, &old_names), (&grants_of(now), &key_names(&now.common))));
    changes
}

fn of_revocations(before: Option<&Targets>, now: &Targets) -> Vec<Change> {
    let (old, old_taken_back) =
        before.map_or((&[][..], &[][..]), |before| (before.revocations(), before.reinstated()));
    let new = |list: &[Revocation], old: &[Revocation]| -> Vec<Revocation> {
        list.iter().filter(|revocation| !old.contains(revocation)).cloned().collect()
    };
    let taken_back = new(now.reinstated(), old_taken_back);
    let same = |a: &Revocation, b: &Revocation| (&a.digest, &a.paths) == (&b.digest, &b.paths);
    let forgotten =
        old.iter().filter(|old| !now.revocations().iter().chain(&taken_back).any(|listed| same(listed, old)));
    let forgotten: Vec<Revocation> = forgotten.cloned().collect();
    let mut changes: Vec<Change> = new(now.revocations(), old).into_iter().map(Change::Revoked).collect();
    changes.extend(taken_back.into_iter().map(Change::Reinstated));
    changes.extend(forgotten.into_iter().map(Change::Forgotten));
    changes
}

type Granted<'a> = (&'a BTreeMap<String, Grant>, &'a BTreeMap<KeyId, String>);

fn of_grants((old, old_names): Granted<'_>, (new, new_names): Granted<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    for (role, grant) in new {
        let role = role.clone();
        let Some(before) = old.get(&role) else {
            let keys = grant.keyids.iter().map(|keyid| named(keyid, new_names)).collect();
            let (threshold, paths) = (grant.threshold, grant.paths.clone());
            changes.push(Change::Delegated { role, keys, threshold, paths });
            continue;
        };
        // Another key under the id of an old one is both: the old one gone and a new one there.
        let kept = |id: &&KeyId| {
            before.keyids.contains(*id)
                && grant.keyids.contains(*id)
                && before.keys.get(*id) == grant.keys.get(*id)
        };
        let added: Vec<NamedKey> =
            grant.keyids.iter().filter(|id| !kept(id)).map(|id| named(id, new_names)).collect();
        let removed: Vec<NamedKey> =
            before.keyids.iter().filter(|id| !kept(id)).map(|id| named(id, old_names)).collect();
        if !added.is_empty() || !removed.is_empty() {
            changes.push(Change::Keys { role: role.clone(), added, removed });
        }
        if before.threshold != grant.threshold {
            let (before, now) = (before.threshold, grant.threshold);
            changes.push(Change::Threshold { role: role.clone(), before, now });
        }
        if before.paths != grant.paths {
            let (before, now) = (before.paths.clone(), grant.paths.clone());
            changes.push(Change::Scope { role, before, now });
        }
    }
    let gone = old.keys().filter(|role| !new.contains_key(*role));
    changes.extend(gone.map(|role| Change::Undelegated { role: role.clone() }));
    changes
}

fn digest<S: Serializer>(target: &Target, serializer: S) -> Result<S::Ok, S::Error> {
    target.digest().serialize(serializer)
}
