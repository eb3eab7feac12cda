//! Who holds a trust repository: its first root, and what the next ones change.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use plimsoll_core::{
    policy::Scope,
    tuf::{Identity, Key, KeyId, MAX_VERIFICATIONS, RoleKeys, Root, metadata::Common},
};

use super::{super::api::OnlineKeys, AuthorError, MAX_ROOT_LIFE, find_key, key_names, name_keys};

/// A public key that gets a role, and what people call it.
#[derive(Debug, Clone, PartialEq)]
pub struct Granted {
    /// The key.
    pub key: Key,
    /// Its name, if it has one.
    pub name: Option<String>,
}

/// Who signs a role.
#[derive(Debug, Clone, PartialEq)]
pub struct Holders {
    /// Their keys.
    pub keys: Vec<Granted>,
    /// How many of them must sign.
    pub threshold: u64,
}

/// What shall become different about who signs a role.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RoleEdit {
    /// Keys that shall sign it from now on.
    pub add: Vec<Granted>,
    /// Keys that shall not any more: each a name, a key id or its beginning.
    pub remove: Vec<String>,
    /// How many must sign; else as many as before.
    pub threshold: Option<u64>,
}

/// What shall become different about a root.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RootEdit {
    /// Who signs the root.
    pub root: RoleEdit,
    /// Who signs `targets`.
    pub targets: RoleEdit,
    /// The daemon's new keys.
    pub online: Option<OnlineKeys>,
    /// Nothing need be different but the expiry.
    pub extend: bool,
}

impl RoleEdit {
    /// True if it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty() && self.threshold.is_none()
    }
}

impl RootEdit {
    /// True if it changes nothing, the expiry included.
    pub fn is_empty(&self) -> bool {
        self.root.is_empty() && self.targets.is_empty() && self.online.is_none() && !self.extend
    }
}

/// The first root of a trust repository: one owner key set for root and targets, the daemon's keys for the rest.
pub fn first_root(
    trust: &str,
    scopes: &[Scope],
    owners: &[Key],
    threshold: u64,
    online: &OnlineKeys,
    now: DateTime<Utc>,
) -> Root {
    let mut identity = Identity::new(trust, now);
    identity.scope = scopes.iter().map(ToString::to_string).collect();
    let mut root = Root {
        common: Common::new("root", 1, now + MAX_ROOT_LIFE, identity),
        consistent_snapshot: true,
        keys: BTreeMap::new(),
        roles: BTreeMap::new(),
        extra: BTreeMap::new(),
    };
    for role in ["root", "targets"] {
        give(&mut root, role, owners, threshold);
    }
    give_online(&mut root, online);
    root
}

/// The first root of a trust repository whose holders are apart: who signs it, and who signs `targets`.
///
/// # Errors
/// [`AuthorError`]: a threshold that these keys cannot meet, a key given twice, an online key among them.
pub fn held_root(
    trust: &str,
    scopes: &[Scope],
    holders: (&Holders, &Holders),
    online: &OnlineKeys,
    now: DateTime<Utc>,
) -> Result<Root, AuthorError> {
    let mut root = first_root(trust, scopes, &[], 1, online, now);
    let edit = |holders: &Holders| RoleEdit {
        add: holders.keys.clone(),
        remove: Vec::new(),
        threshold: Some(holders.threshold),
    };
    let (of_root, of_targets) = holders;
    let edit = RootEdit { root: edit(of_root), targets: edit(of_targets), ..RootEdit::default() };
    edit_root(&mut root, &edit)?;
    Ok(root)
}

/// Changes who signs what; version and times stay. True if those who sign `targets` are others now, so that it must be
/// signed anew.
///
/// # Errors
/// [`AuthorError`]; `root` is then not to be used.
pub fn edit_root(root: &mut Root, edit: &RootEdit) -> Result<bool, AuthorError> {
    let before = root.clone();
    if let Some(online) = &edit.online {
        give_online(root, online);
    }
    let mut names = Vec::new();
    for (role, edit) in [("root", &edit.root), ("targets", &edit.targets)] {
        edit_role(root, &before, role, edit)?;
        names.extend(edit.add.iter().filter_map(|added| Some((added.key.id(), added.name.clone()?))));
    }
    no_online_owner(root)?;
    let used: BTreeSet<KeyId> = root.roles.values().flat_map(|keys| keys.keyids.iter().cloned()).collect();
    root.keys.retain(|id, _| used.contains(id));
    let owners: Vec<KeyId> =
        ["root", "targets"].iter().flat_map(|role| root.roles[*role].keyids.clone()).collect();
    name_keys(&mut root.common, &owners, &names)?;
    if *root == before && !edit.extend {
        return Err(AuthorError::Unchanged);
    }
    Ok(root.roles["targets"] != before.roles["targets"])
}

/// True if the key `id`, and no other, signs `role`.
pub fn is_only_signer(root: &Root, role: &str, id: &KeyId) -> bool {
    let keys = &root.roles[role];
    keys.threshold == 1 && keys.keyids.as_slice() == [id.clone()]
}

fn edit_role(root: &mut Root, before: &Root, role: &str, edit: &RoleEdit) -> Result<(), AuthorError> {
    let mut keys = before.roles[role].clone();
    let names = key_names(&before.common);
    let removed = edit.remove.iter().map(|wanted| find_key(role, &keys.keyids, &names, wanted));
    let removed = removed.collect::<Result<Vec<_>, _>>()?;
    keys.keyids.retain(|id| !removed.contains(id));
    for added in &edit.add {
        let id = added.key.id();
        if keys.keyids.contains(&id) {
            return Err(AuthorError::KeyTaken { role: role.to_owned(), keyid: id });
        }
        root.keys.insert(id.clone(), added.key.clone());
        keys.keyids.push(id);
    }
    keys.threshold = edit.threshold.unwrap_or(keys.threshold);
    // An edit of other things does not judge what was there before.
    if !edit.is_empty() {
        let most = keys.keyids.len().min(MAX_VERIFICATIONS);
        if keys.threshold == 0 || keys.threshold > most as u64 {
            return Err(AuthorError::Threshold { threshold: keys.threshold, keys: most });
        }
    }
    root.roles.insert(role.to_owned(), keys);
    Ok(())
}

/// A key that lies on the daemon's disk must decide nothing that its owners decide.
fn no_online_owner(root: &Root) -> Result<(), AuthorError> {
    for role in ["root", "targets"] {
        let online = |id: &&KeyId| {
            ["timestamp", "snapshot"].iter().any(|online| root.roles[*online].keyids.contains(id))
        };
        if let Some(id) = root.roles[role].keyids.iter().find(online) {
            return Err(AuthorError::OnlineOwner { role: role.to_owned(), keyid: id.clone() });
        }
    }
    Ok(())
}

fn give(root: &mut Root, role: &str, keys: &[Key], threshold: u64) {
    root.keys.extend(keys.iter().map(|key| (key.id(), key.clone())));
    let keyids = keys.iter().map(Key::id).collect();
    root.roles.insert(role.to_owned(), RoleKeys { keyids, threshold, extra: BTreeMap::new() });
}

fn give_online(root: &mut Root, online: &OnlineKeys) {
    for (role, key) in [("timestamp", &online.timestamp), ("snapshot", &online.snapshot)] {
        give(root, role, std::slice::from_ref(key), 1);
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_core::tuf::PublicKey;

    use super::*;

    const TRUST: &str = "00112233445566778899aabbccddeeff";

    fn key(n: u8) -> Key {
        Key::new(&PublicKey::Ed25519([n; 32]))
    }

    fn granted(n: u8, name: &str) -> Granted {
        Granted { key: key(n), name: Some(name.to_owned()) }
    }

    fn online() -> OnlineKeys {
        OnlineKeys { timestamp: key(101), snapshot: key(102) }
    }

    fn holders(keys: &[(u8, &str)], threshold: u64) -> Holders {
        Holders { keys: keys.iter().map(|(n, name)| granted(*n, name)).collect(), threshold }
    }

    fn root_of(root: &Holders, targets: &Holders) -> Result<Root, AuthorError> {
        let scopes = ["acme/**".parse().unwrap()];
        held_root(TRUST, &scopes, (root, targets), &online(), DateTime::UNIX_EPOCH)
    }

    fn three() -> Root {
        let three = holders(&[(1, "alice"), (2, "bob"), (3, "carol")], 2);
        root_of(&three, &three).unwrap()
    }

    fn remove(text: &str) -> RoleEdit {
        RoleEdit { remove: vec![text.to_owned()], ..RoleEdit::default() }
    }

    #[test]
    fn holders_are_named_and_thresholds_can_be_met() {
        let root = three();
        assert_eq!(root.roles["root"].keyids.len(), 3);
        assert_eq!(root.roles["root"].threshold, 2);
        assert_eq!(root.common.identity.unwrap().names[&key(2).id()], "bob");
        for threshold in [0, 3] {
            let refused = root_of(&holders(&[(1, "alice"), (2, "bob")], threshold), &holders(&[(3, "c")], 1));
            assert_eq!(refused.unwrap_err(), AuthorError::Threshold { threshold, keys: 2 });
        }
        let twice = holders(&[(1, "alice"), (1, "alicia")], 2);
        let refused = root_of(&twice, &holders(&[(3, "c")], 1)).unwrap_err();
        assert!(matches!(refused, AuthorError::KeyTaken { .. }), "{refused}");
        let homonyms = holders(&[(1, "alice"), (2, "alice")], 1);
        let refused = root_of(&homonyms, &homonyms).unwrap_err();
        assert!(matches!(refused, AuthorError::NameOfTwo { .. }), "{refused}");
        let refused = root_of(&holders(&[(101, "daemon")], 1), &holders(&[(3, "c")], 1)).unwrap_err();
        assert!(matches!(refused, AuthorError::OnlineOwner { .. }), "{refused}");
    }

    #[test]
    fn a_holder_is_replaced_in_one_edit() {
        let mut root = three();
        let edit = RootEdit {
            root: RoleEdit { add: vec![granted(4, "dave")], ..remove("bob") },
            ..RootEdit::default()
        };
        assert!(!edit_root(&mut root, &edit).unwrap());
        assert_eq!(root.roles["root"].keyids, [key(1).id(), key(3).id(), key(4).id()]);
        assert_eq!(root.roles["root"].threshold, 2);
        // Bob still signs targets.
        assert!(root.keys.contains_key(&key(2).id()));
        let edit = RootEdit { targets: remove(key(2).id().short()), ..RootEdit::default() };
        assert!(edit_root(&mut root, &edit).unwrap());
        assert!(!root.keys.contains_key(&key(2).id()));
        assert!(!root.common.identity.unwrap().names.contains_key(&key(2).id()));
    }

    #[test]
    fn an_edit_that_cannot_be_is_refused() {
        let one = |role: RoleEdit| edit_root(&mut three(), &RootEdit { root: role, ..RootEdit::default() });
        let refused = one(remove("mallory")).unwrap_err();
        assert!(matches!(refused, AuthorError::NoSuchKey { .. }), "{refused}");
        // Too short to be meant.
        let refused = one(remove(&key(1).id().0[..3])).unwrap_err();
        assert!(matches!(refused, AuthorError::NoSuchKey { .. }), "{refused}");
        let edit = RoleEdit { remove: vec!["alice".to_owned(), "bob".to_owned()], ..RoleEdit::default() };
        assert_eq!(one(edit).unwrap_err(), AuthorError::Threshold { threshold: 2, keys: 1 });
        let edit = RoleEdit { threshold: Some(4), ..RoleEdit::default() };
        assert_eq!(one(edit).unwrap_err(), AuthorError::Threshold { threshold: 4, keys: 3 });
        let edit = RoleEdit { add: vec![granted(1, "alice")], ..RoleEdit::default() };
        assert!(matches!(one(edit).unwrap_err(), AuthorError::KeyTaken { .. }));
        let edit = RoleEdit { threshold: Some(2), ..RoleEdit::default() };
        assert_eq!(one(edit).unwrap_err(), AuthorError::Unchanged);
        assert_eq!(edit_root(&mut three(), &RootEdit { extend: true, ..RootEdit::default() }), Ok(false));
    }

    #[test]
    fn online_keys_are_replaced_and_are_nobodys_owner_key() {
        let mut root = three();
        let new = OnlineKeys { timestamp: key(111), snapshot: key(112) };
        let edit = RootEdit { online: Some(new), ..RootEdit::default() };
        assert!(!edit_root(&mut root, &edit).unwrap());
        assert_eq!(root.roles["timestamp"].keyids, [key(111).id()]);
        assert!(!root.keys.contains_key(&key(101).id()));
        let alices = OnlineKeys { timestamp: key(1), snapshot: key(112) };
        let refused = edit_root(&mut root, &RootEdit { online: Some(alices), ..RootEdit::default() });
        assert!(matches!(refused.unwrap_err(), AuthorError::OnlineOwner { .. }));
    }
}
