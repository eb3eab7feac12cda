//! Giving namespaces to keys.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use plimsoll_core::{
    policy::Scope,
    tuf::{
        DelegatedRole, Delegations, Key, KeyId, MAX_DEPTH, PublicKey, Revocation, Targets,
        metadata::RoleKeysOnly, within,
    },
};

use super::{super::history::named, AuthorError, name_keys, not_reserved, out_of_scope};

/// Adds a delegation of `scope` to `targets`, the document of a role that may speak about `allowed` (path patterns).
/// More specific scopes come first; the delegation is terminating.
///
/// # Errors
/// [`AuthorError`].
pub fn delegate(
    targets: &mut Targets,
    parent: (&str, &[String]),
    name: &str,
    scope: &Scope,
    keys: &[PublicKey],
    threshold: u64,
) -> Result<(), AuthorError> {
    let (parent, allowed) = parent;
    if parent.matches("--").count() >= MAX_DEPTH {
        return Err(AuthorError::TooDeep { parent: parent.to_owned() });
    }
    let patterns = scope.patterns();
    if !patterns.iter().all(|pattern| within(pattern, allowed)) {
        return Err(out_of_scope(scope, parent, allowed));
    }
    let distinct = distinct(keys.iter().map(Key::new), threshold)?;
    let delegations = targets.delegations.get_or_insert_with(|| Delegations {
        keys: BTreeMap::new(),
        roles: Vec::new(),
        succinct_roles: None,
        extra: BTreeMap::new(),
    });
    if delegations.roles.iter().any(|role| role.name == name) {
        return Err(AuthorError::NameTaken { name: name.to_owned() });
    }
    if let Scope::Repository(repository) | Scope::Tags { repository, .. } = scope {
        not_reserved(repository)?;
    }
    if let Some(sibling) = delegations.roles.iter().find(|role| role.paths.as_ref() == Some(&patterns)) {
        return Err(AuthorError::ScopeTaken { scope: scope.to_string(), role: sibling.name.clone() });
    }
    let role = DelegatedRole {
        name: name.to_owned(),
        keys: RoleKeysOnly { keyids: distinct.keys().cloned().collect(), threshold },
        terminating: true,
        paths: Some(patterns),
        path_hash_prefixes: None,
        extra: BTreeMap::new(),
    };
    delegations.keys.extend(distinct);
    // Ordered most specific first: before the first sibling that contains it.
    let at = delegations
        .roles
        .iter()
        .position(|sibling| {
            let wider = sibling.paths.as_deref().unwrap_or_default();
            role.paths.iter().flatten().all(|pattern| within(pattern, wider))
        })
        .unwrap_or(delegations.roles.len());
    delegations.roles.insert(at, role);
    Ok(())
}

/// Lets `keys`, and no others, sign the role `name` that `targets` delegates to. Does nothing if there is no such role.
///
/// # Errors
/// [`AuthorError::Threshold`].
pub fn give_keys(
    targets: &mut Targets,
    name: &str,
    keys: impl IntoIterator<Item = Key>,
    threshold: u64,
) -> Result<(), AuthorError> {
    let distinct = distinct(keys, threshold)?;
    let Some(delegations) = &mut targets.delegations else { return Ok(()) };
    if let Some(role) = delegations.roles.iter_mut().find(|role| role.name == name) {
        role.keys = RoleKeysOnly { keyids: distinct.keys().cloned().collect(), threshold };
        delegations.keys.extend(distinct);
    }
    forget_keys(targets);
    Ok(())
}

/// Takes the delegation to `name` out of `targets` and returns it. Its name must never be given again.
pub fn undelegate(targets: &mut Targets, name: &str) -> Option<DelegatedRole> {
    let delegations = targets.delegations.as_mut()?;
    let at = delegations.roles.iter().position(|role| role.name == name)?;
    let removed = delegations.roles.remove(at);
    forget_keys(targets);
    Some(removed)
}

/// Takes back every name that matches one of `paths`, for good: there is no way to reinstate a scope.
pub fn revoke_paths(targets: &mut Targets, paths: Vec<String>, reason: &str, now: DateTime<Utc>) {
    if let Some(identity) = &mut targets.common.identity {
        let (reason, extra) = (reason.to_owned(), BTreeMap::new());
        identity.revocations.push(Revocation { digest: None, paths, reason, at: now, extra });
    }
}

/// The one key of `role` that `wanted` is the id of, the start of the id (four hex digits or more), or the name.
///
/// # Errors
/// [`AuthorError::NoSuchKey`].
pub fn find_key(
    role: &str,
    keyids: &[KeyId],
    names: &BTreeMap<KeyId, String>,
    wanted: &str,
) -> Result<KeyId, AuthorError> {
    const SHORTEST: usize = 4;
    let fits = |id: &&KeyId| {
        (wanted.len() >= SHORTEST && id.0.starts_with(wanted)) || names.get(*id).is_some_and(|n| n == wanted)
    };
    let exact = keyids.iter().find(|id| id.0 == wanted);
    let mut fitting = exact.into_iter().chain(keyids.iter().filter(|_| exact.is_none()).filter(fits));
    match (fitting.next(), fitting.next()) {
        (Some(id), None) => Ok(id.clone()),
        (first, _) => {
            let shown = keyids.iter().map(|id| named(id, names).to_string());
            Err(AuthorError::NoSuchKey {
                wanted: wanted.chars().take(80).collect(),
                several: first.is_some(),
                role: role.to_owned(),
                keys: shown.collect::<Vec<_>>().join(", "),
            })
        }
    }
}

fn distinct(
    keys: impl IntoIterator<Item = Key>,
    threshold: u64,
) -> Result<BTreeMap<KeyId, Key>, AuthorError> {
    let distinct: BTreeMap<KeyId, Key> = keys.into_iter().map(|key| (key.id(), key)).collect();
    if threshold == 0 || threshold > distinct.len() as u64 {
        return Err(AuthorError::Threshold { threshold, keys: distinct.len() });
    }
    Ok(distinct)
}

/// Drops the keys, and their names, that no delegation needs any more.
fn forget_keys(targets: &mut Targets) {
    let Some(delegations) = &mut targets.delegations else { return };
    let needed: BTreeSet<KeyId> =
        delegations.roles.iter().flat_map(|role| &role.keys.keyids).cloned().collect();
    delegations.keys.retain(|id, _| needed.contains(id));
    name_keys(&mut targets.common, &needed, &[]).expect("no new name is the name of another key");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::author::empty_targets;

    fn key(fill: u8) -> PublicKey {
        PublicKey::Ed25519([fill; 32])
    }

    fn targets() -> Targets {
        let mut targets = empty_targets("targets", "trust", DateTime::UNIX_EPOCH);
        let allowed = ["acme/*".to_owned()];
        for (label, scope, keys) in [("a", "acme/a", [key(1), key(2)]), ("b", "acme/b", [key(2), key(3)])] {
            let name = format!("targets--{label}");
            let scope = scope.parse().unwrap();
            delegate(&mut targets, ("targets", &allowed), &name, &scope, &keys, 1).unwrap();
        }
        let named =
            [(1, "ann"), (2, "bea"), (3, "cem")].map(|(n, name)| (Key::new(&key(n)).id(), name.into()));
        let keep: Vec<KeyId> = targets.delegations.as_ref().unwrap().keys.keys().cloned().collect();
        let named: Vec<_> = named.into_iter().collect();
        name_keys(&mut targets.common, &keep, &named).unwrap();
        targets
    }

    fn names(targets: &Targets) -> Vec<&str> {
        let mut names: Vec<&str> =
            targets.common.identity.as_ref().unwrap().names.values().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn keys_that_no_delegation_needs_are_forgotten_with_their_names() {
        let mut targets = targets();
        give_keys(&mut targets, "targets--a", [Key::new(&key(4))], 1).unwrap();
        assert_eq!(names(&targets), ["bea", "cem"]);
        assert_eq!(targets.delegated("targets--a").unwrap().keys.keyids, [Key::new(&key(4)).id()]);
        assert_eq!(targets.delegations.as_ref().unwrap().keys.len(), 3);
        let removed = undelegate(&mut targets, "targets--b").unwrap();
        assert_eq!(removed.paths.unwrap(), ["acme/b:*", "acme/b@*"]);
        assert_eq!(names(&targets), [""; 0]);
        assert_eq!(targets.delegations.as_ref().unwrap().keys.len(), 1);
        assert_eq!(undelegate(&mut targets, "targets--b"), None);
    }

    #[test]
    fn a_threshold_that_the_new_keys_cannot_meet_changes_nothing() {
        let mut targets = targets();
        let before = targets.clone();
        for threshold in [0, 2] {
            let twice = [Key::new(&key(4)), Key::new(&key(4))];
            let refused = give_keys(&mut targets, "targets--a", twice, threshold).unwrap_err();
            assert_eq!(refused, AuthorError::Threshold { threshold, keys: 1 });
            assert_eq!(targets, before);
        }
    }

    #[test]
    fn a_key_is_found_by_id_by_the_start_of_it_and_by_name() {
        let ids = ["abcd1111", "abcd2222", "abcd"].map(|id| KeyId(id.to_owned()));
        let names = BTreeMap::from([(ids[1].clone(), "bob".to_owned()), (ids[0].clone(), "amy".to_owned())]);
        let find = |wanted: &str| find_key("r", &ids, &names, wanted);
        assert_eq!(find("abcd1"), Ok(ids[0].clone()));
        assert_eq!(find("bob"), Ok(ids[1].clone()));
        assert_eq!(find("abcd"), Ok(ids[2].clone()), "a whole id is itself");
        for (wanted, two) in [("abc", false), ("", false), ("carol", false), ("abcd3", false)] {
            let refused = find(wanted).unwrap_err();
            assert!(matches!(refused, AuthorError::NoSuchKey { several, .. } if several == two), "{wanted}");
        }
        let refused = find_key("r", &ids[..2], &names, "abcd").unwrap_err();
        let keys = "amy (abcd1111), bob (abcd2222)";
        assert_eq!(refused.to_string(), format!("`abcd` is more than one of the keys of r: {keys}"));
    }

    #[test]
    fn nobody_delegates_below_the_eighth_level() {
        let parent = format!("targets{}", "--x".repeat(8));
        let mut targets = empty_targets(&parent, "trust", DateTime::UNIX_EPOCH);
        let scope = "acme/a".parse().unwrap();
        let allowed = ["acme/*".to_owned()];
        let name = format!("{parent}--x");
        let refused = delegate(&mut targets, (&parent, &allowed), &name, &scope, &[key(1)], 1).unwrap_err();
        assert_eq!(refused, AuthorError::TooDeep { parent });
    }
}
