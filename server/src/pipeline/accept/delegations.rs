//! What a role may delegate, to whom, and what that does to the roles below.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll::publish::{
    api::{Refusal, RefusalReason as Why},
    author,
};
use plimsoll_core::tuf::{DelegatedRole, Identity, Key, KeyId, MAX_DEPTH, Targets, distinct_signers, within};

use super::{
    Chain, MAX_KEY_NAME, MAX_PATTERNS, Present, RoleKeys, Set, check_reachable, cut, is_pattern, refused,
    role_keys,
};

impl<P: Present> Set<'_, P> {
    /// Delegations inside every bound, to names of ours, with keys that can sign.
    pub(super) fn check_delegations(
        &self,
        role: &str,
        targets: &Targets,
        chain: &Chain,
    ) -> Result<(), Refusal> {
        let none = BTreeMap::new();
        let keys = targets.delegations.as_ref().map_or(&none, |delegations| &delegations.keys);
        check_key_names(role, targets.common.identity.as_ref(), keys)?;
        let Some(delegations) = &targets.delegations else { return Ok(()) };
        if delegations.succinct_roles.is_some() {
            return Err(refused(Why::Delegation, format!("{role}: hash bins are not published here")));
        }
        // Clients that keep only what they know of a delegation would find its signature broken.
        let unknown =
            delegations.extra.keys().chain(delegations.roles.iter().flat_map(|role| role.extra.keys()));
        if let Some(member) = unknown.into_iter().next() {
            let message = format!("{role}: unknown member `{}` in delegations", cut(member));
            return Err(refused(Why::Delegation, message));
        }
        self.check_keys(role, &delegations.keys)?;
        if !delegations.roles.is_empty() && role.matches("--").count() >= MAX_DEPTH {
            let message = format!("{role}: more than {MAX_DEPTH} levels of delegation");
            return Err(refused(Why::TooMany, message));
        }
        for child in &delegations.roles {
            let name = cut(&child.name);
            let label = child.name.strip_prefix(role).and_then(|rest| rest.strip_prefix("--"));
            let valid = label.is_some_and(|label| author::role_name(role, label).is_ok());
            if !valid {
                let message = format!("{role}: `{name}` must be called {role}--LABEL");
                return Err(refused(Why::Delegation, message));
            }
            if self.present.is_retired(&child.name) {
                let message = format!("{role}: `{name}` was removed; its name is never given again");
                return Err(refused(Why::RetiredName, message));
            }
            let paths = child.paths.as_deref().unwrap_or_default();
            if paths.is_empty() {
                return Err(refused(Why::Delegation, format!("{role}: `{name}` needs path patterns")));
            }
            if paths.len() > MAX_PATTERNS {
                let message = format!("{role}: `{name}` has more than {MAX_PATTERNS} path patterns");
                return Err(refused(Why::TooMany, message));
            }
            for path in paths {
                if !is_pattern(path) {
                    let message = format!("{role}: `{}` is not a pattern that is published here", cut(path));
                    return Err(refused(Why::Delegation, message));
                }
                if let Some(bound) = chain.bounds.iter().find(|bound| !within(path, bound)) {
                    let message = format!(
                        "{role} cannot delegate {}, which is outside of {}",
                        cut(path),
                        bound.join(", ")
                    );
                    return Err(refused(Why::OutOfScope, message));
                }
            }
            let RoleKeys { keyids, threshold } = role_keys(child);
            check_reachable(&name, &delegations.keys, keyids, threshold)?;
        }
        Ok(())
    }

    /// Keys we author and everybody reads: known, strong, under their own id, and not ones that everybody has.
    pub(super) fn check_keys(&self, role: &str, keys: &BTreeMap<KeyId, Key>) -> Result<(), Refusal> {
        let mut seen = BTreeSet::new();
        for (id, key) in keys {
            let refuse = |why: &str| Err(refused(Why::Key, format!("{role}: key {} {why}", cut(&id.0))));
            let public = key
                .check_authored()
                .map_err(|error| refused(Why::Key, format!("{role}: key {}: {error}", cut(&id.0))))?;
            if key.id() != *id {
                return refuse("is not listed under its own id");
            }
            // Others count unknown members into the id.
            if !key.extra.is_empty() || key.keyval.len() != 1 {
                return refuse("has members that do not belong to a public key");
            }
            // By what it is, not by how it is spelled.
            if self.rules.refused_keys.contains(&Key::new(&public).id()) {
                return refuse(
                    "is an example key that everybody has; make your own with `plimsoll key generate`",
                );
            }
            if !seen.insert(public) {
                return refuse("stands there twice, spelled in two ways");
            }
        }
        Ok(())
    }

    /// What a changed delegation does to the child that is there: reported. Removed children retire their names.
    pub(super) fn report_children(
        &mut self,
        role: &str,
        before: Option<&Targets>,
        after: &Targets,
    ) -> Result<(), Refusal> {
        let before = before.and_then(|targets| targets.delegations.as_ref());
        let delegated: BTreeMap<&str, &DelegatedRole> = after
            .delegations
            .iter()
            .flat_map(|delegations| &delegations.roles)
            .map(|child| (child.name.as_str(), child))
            .collect();
        for old in before.iter().flat_map(|delegations| &delegations.roles) {
            let Some(new) = delegated.get(old.name.as_str()) else {
                // Only what the snapshot lists for ever needs its name for ever: there is an end to such roles, and to
                // names that one team could give and take back there is none.
                if self.present.version(&old.name) > 0 {
                    self.accepted.retired.insert(old.name.clone());
                }
                self.accepted.reports.push(format!("{} is delegated to no more", old.name));
                continue;
            };
            let unchanged = old.keys == new.keys && old.paths == new.paths;
            if unchanged || self.present.version(&old.name) == 0 {
                continue;
            }
            let Some(child) = self.signatures.newest::<Targets>(&old.name)? else { continue };
            let keys = after.delegations.as_ref().map(|delegations| &delegations.keys);
            let signers =
                keys.map_or(0, |keys| distinct_signers(&child, keys, &new.keys.keyids).len() as u64);
            if signers < new.keys.threshold {
                self.accepted.reports.push(orphaned(
                    &old.name,
                    child.version(),
                    signers,
                    new.keys.threshold,
                    role,
                ));
            }
        }
        Ok(())
    }
}

/// Names that people can tell apart, of keys that stand in the document.
pub(super) fn check_key_names(
    role: &str,
    identity: Option<&Identity>,
    keys: &BTreeMap<KeyId, Key>,
) -> Result<(), Refusal> {
    let safe = |name: &str| {
        (1..=MAX_KEY_NAME).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@+- ".contains(&b))
            && name.trim() == name
    };
    let mut seen = BTreeSet::new();
    for (id, name) in identity.iter().flat_map(|identity| &identity.names) {
        let refuse = |why: &str| {
            let message = format!("{role}: the name `{}` of key {} {why}", cut(name), cut(&id.0));
            Err(refused(Why::KeyNames, message))
        };
        if !keys.contains_key(id) {
            return refuse("is of no key that stands there");
        }
        if !safe(name) {
            return refuse("is not one of 1 to 64 letters, digits, `._@+-`, and spaces inside");
        }
        if !seen.insert(name) {
            return refuse("is another key's, too");
        }
    }
    Ok(())
}

pub(super) fn orphaned(child: &str, version: u64, have: u64, need: u64, parent: &str) -> String {
    format!(
        "{child} version {version} has {have} of {need} signatures that {parent} now asks for: its names are untrusted \
         until it is signed again"
    )
}
