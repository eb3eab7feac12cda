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

use super::{AuthorError, name_keys, not_reserved, out_of_scope};

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
            let shown = keyids.iter().map(|id| match names.get(id) {
                Some(name) => format!("{name} ({})", id.short()),
                None => id.short().to_owned(),
            });
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
    name_keys(&mut targets.common, &needed, []);
}
