//! Giving namespaces to keys.

use std::collections::BTreeMap;

use plimsoll_core::{
    policy::Scope,
    tuf::{DelegatedRole, Delegations, Key, KeyId, PublicKey, Targets, metadata::RoleKeysOnly, within},
};

use super::{AuthorError, not_reserved, out_of_scope};

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
    let patterns = scope.patterns();
    if !patterns.iter().all(|pattern| within(pattern, allowed)) {
        return Err(out_of_scope(scope, parent, allowed));
    }
    let distinct: BTreeMap<KeyId, Key> = keys.iter().map(Key::new).map(|key| (key.id(), key)).collect();
    if threshold == 0 || threshold > distinct.len() as u64 {
        return Err(AuthorError::Threshold { threshold, keys: distinct.len() });
    }
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
