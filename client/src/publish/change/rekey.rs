//! Giving a role other keys, and what becomes of its last content: what rotating, taking over and revoking a key share.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_core::{
    oci::Digest,
    tuf::{DelegatedRole, Delegations, Document, Key, KeyId, Targets, distinct_signers},
};
use serde::Serialize;

use crate::{
    keys::Signer,
    publish::{
        How, PublishError, Publisher, author,
        author::AuthorError,
        draft::Next,
        head::{Head, no_role, parent_of},
        history::{History, NamedKey, named},
    },
};

/// What a role says of a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Vouched {
    /// The target name.
    pub name: String,
    /// What it stands for, if that has a sha256.
    pub digest: Option<Digest>,
}

/// What becomes of a role's last content under its new keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// There is none yet.
    None,
    /// It carries enough signatures of keys that stay.
    Stands,
    /// It is signed anew, in the same submission.
    Signed,
    /// It is not signed by enough of the keys: the names read UNTRUSTED until it is.
    Unsigned,
}

/// A role whose keys were changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rekeyed {
    /// The role that delegates.
    pub parent: String,
    /// The role.
    pub role: String,
    /// Who signs it from now on.
    pub keys: Vec<NamedKey>,
    /// How many of them must.
    pub threshold: u64,
    /// Those of them that are new.
    pub added: Vec<NamedKey>,
    /// Those that sign no more.
    pub removed: Vec<NamedKey>,
    /// What becomes of its last content.
    pub content: Content,
    /// The names that it lists.
    pub names: Vec<Vouched>,
    /// Those of them that no key stands for which stays: only keys that were taken away vouched for them.
    pub unvouched: Vec<Vouched>,
    /// The roles that it delegates to. They stay as they are, but for those in `unvouched_below`.
    pub below: Vec<String>,
    /// Those of them that no key stands for which stays: only keys that were taken away gave them their present keys or
    /// scope. What becomes of them is what becomes of the names in `unvouched`.
    pub unvouched_below: Vec<String>,
}

/// What happens to names, and to delegations, that only removed keys vouched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unvouched {
    /// Those who sign the role anew vouch for them, too.
    Keep,
    /// They are left out when it is signed anew. The roles' names are never given again.
    Drop,
}

/// Who signs a role from now on.
pub(super) struct NewKeys {
    pub(super) keys: Vec<Key>,
    pub(super) threshold: u64,
}

/// What a role has now.
pub(super) struct Given<'a> {
    pub(super) role: &'a DelegatedRole,
    pub(super) keys: &'a BTreeMap<KeyId, Key>,
    pub(super) names: &'a BTreeMap<KeyId, String>,
}

/// How [`rekey`] goes about it.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) how: How<'a>,
    pub(super) unvouched: Unvouched,
    /// The content must be signed anew, whatever it is signed with, and whether or not the keys at hand suffice.
    pub(super) resign: bool,
    /// What people call the keys.
    pub(super) names: &'a [(KeyId, String)],
}

/// The documents of a change in the making, by role.
pub(super) type Documents = BTreeMap<String, Targets>;

/// The documents as [`crate::publish::Edit`] wants them.
pub(super) fn next(documents: Documents) -> BTreeMap<String, Next> {
    documents.into_iter().map(|(role, targets)| (role, targets.into())).collect()
}

/// Lets `new` say who signs `role`, and puts the next versions of its parent and, where it must be signed anew, of the role
/// itself into `documents`. A parent that would stay as it is is left alone.
///
/// No permission survives by accident: if no key that stays signed the last version, the names and delegations that none of
/// these keys ever stood for are told, and dropped from what is signed anew unless they shall be kept.
pub(super) async fn rekey(
    publisher: &Publisher,
    head: &mut Head,
    documents: &mut Documents,
    role: &str,
    new: impl FnOnce(&Given<'_>) -> Result<NewKeys, PublishError>,
    rules: Rules<'_>,
) -> Result<Rekeyed, PublishError> {
    let parent = parent_of(role).ok_or_else(|| PublishError::Owners { role: role.to_owned() })?;
    let chain = head.chain(parent).await?;
    let revoked: BTreeSet<Digest> = chain
        .iter()
        .filter_map(|above| above.content())
        .flat_map(|above| above.revocations().iter().filter_map(|revocation| revocation.digest))
        .collect();
    let (at, fresh) = head.next_of(chain)?;
    let mut next_parent = documents.get(parent).cloned().unwrap_or(fresh);
    let before = next_parent.clone();
    let unknown = || PublishError::UnknownRole { role: role.to_owned(), roles: delegated(&before) };
    let delegations = before.delegations.as_ref().ok_or_else(unknown)?;
    let delegation = before.delegated(role).ok_or_else(unknown)?;
    let names = author::key_names(&before.common);
    let NewKeys { keys, threshold } =
        new(&Given { role: delegation, keys: &delegations.keys, names: &names })?;

    author::give_keys(&mut next_parent, role, keys.iter().cloned(), threshold)?;
    let keyids: Vec<KeyId> =
        next_parent.delegated(role).map(|now| now.keys.keyids.clone()).unwrap_or_default();
    let needed: Vec<KeyId> = next_parent.delegations.iter().flat_map(|d| d.keys.keys()).cloned().collect();
    author::name_keys(&mut next_parent.common, &needed, rules.names)?;
    let parent_changes = next_parent.delegations != before.delegations
        || author::key_names(&next_parent.common) != author::key_names(&before.common);
    if parent_changes
        && !rules.how.draft
        && !rules.how.signers.iter().any(|s| at.keyids.contains(&s.key_id()))
    {
        return Err(no_role(rules.how.signers, &format!("what {role} may speak about"), &[at]));
    }

    let called = |ids: Vec<&KeyId>, by: &Targets| -> Vec<NamedKey> {
        let names = author::key_names(&by.common);
        ids.into_iter().map(|id| named(id, &names)).collect()
    };
    let old = &delegation.keys.keyids;
    let mut told = Rekeyed {
        parent: parent.to_owned(),
        role: role.to_owned(),
        keys: called(keyids.iter().collect(), &next_parent),
        threshold,
        added: called(keyids.iter().filter(|id| !old.contains(id)).collect(), &next_parent),
        removed: called(old.iter().filter(|id| !keyids.contains(id)).collect(), &before),
        content: Content::None,
        names: Vec::new(),
        unvouched: Vec::new(),
        below: Vec::new(),
        unvouched_below: Vec::new(),
    };
    let now = next_parent.delegations.as_ref().unwrap_or(delegations).keys.clone();
    if let Some(document) = last_content(head, role).await? {
        let mut child = content(&document, &revoked);
        told.names = vouched(&child);
        told.below =
            child.delegations.iter().flat_map(|d| &d.roles).map(|below| below.name.clone()).collect();
        let stands = distinct_signers(&document, &now, &keyids).len() as u64 >= threshold;
        let at_hand = at_hand(rules.how.signers, &keyids);
        // Whoever of the role is at hand, and not for the parent alone, is here to sign it.
        let wanted = at_hand.iter().any(|id| !at.keyids.contains(id));
        told.content = match () {
            () if rules.resign => Content::Signed,
            () if stands && !(wanted && at_hand.len() as u64 >= threshold) => Content::Stands,
            () if rules.how.draft || at_hand.len() as u64 >= threshold => Content::Signed,
            () => Content::Unsigned,
        };
        let vouched_now =
            distinct_signers(&document, &delegations.keys, old).len() as u64 >= delegation.keys.threshold;
        let staying: Vec<KeyId> = old.iter().filter(|id| keyids.contains(id)).cloned().collect();
        // Where all of it is taken over, it matters only that it was vouched for at all.
        let past_matters = !(rules.resign && vouched_now);
        if past_matters && distinct_signers(&document, &delegations.keys, &staying).is_empty() {
            let history = publisher.history(head, role).await?;
            let (names, below) = stood_for(history.as_ref(), role, document.version(), &staying)?;
            told.unvouched = told.names.iter().filter(|v| !names.contains(&v.name)).cloned().collect();
            told.unvouched_below = told.below.iter().filter(|role| !below.contains(*role)).cloned().collect();
        }
        if told.content == Content::Signed {
            if rules.unvouched == Unvouched::Drop {
                child.targets.retain(|name, _| told.unvouched.iter().all(|vouched| vouched.name != *name));
                for below in &told.unvouched_below {
                    author::undelegate(&mut child, below);
                }
            }
            author::next_version(role, &mut child, head.now());
            documents.insert(role.to_owned(), child);
        }
    }
    if parent_changes {
        documents.insert(parent.to_owned(), next_parent);
    }
    Ok(told)
}

/// What `targets` vouches for.
pub(super) fn vouched(targets: &Targets) -> Vec<Vouched> {
    let names = targets.targets.iter();
    names.map(|(name, target)| Vouched { name: name.clone(), digest: target.digest() }).collect()
}

/// What the snapshot has of `role`, whoever vouches for it now; none if it was never published.
pub(super) async fn last_content(
    head: &mut Head,
    role: &str,
) -> Result<Option<Document<Targets>>, PublishError> {
    if head.trusted().wanted_role(role).is_err() {
        return Ok(None);
    }
    head.orphan(role).await.map(Some)
}

/// The content without what a role above revoked: it is worth nothing, and the daemon takes no version that lists it.
fn content(document: &Document<Targets>, revoked: &BTreeSet<Digest>) -> Targets {
    let mut targets = document.signed.clone();
    targets.targets.retain(|_, target| target.digest().is_none_or(|digest| !revoked.contains(&digest)));
    targets
}

/// The names and the delegated roles for which one of `keys` stands: it signed a version that has them as they are, in a
/// row without a gap up to the last one.
///
/// # Errors
/// [`PublishError::NeverVouched`] if nobody who might have ever signed the last version: then nothing of it is known.
fn stood_for(
    history: Option<&History>,
    role: &str,
    version: u64,
    keys: &[KeyId],
) -> Result<(BTreeSet<String>, BTreeSet<String>), PublishError> {
    let never = || PublishError::NeverVouched { role: role.to_owned(), version };
    let history = history.ok_or_else(never)?;
    history
        .entries()
        .last()
        .filter(|last| last.fault.is_none() && last.version == version)
        .ok_or_else(never)?;
    let signed = history.entries().iter().rev().find(|entry| {
        entry.fault.is_none() && entry.signers.iter().any(|signer| keys.contains(&signer.keyid))
    });
    let last = signed.map_or(0, |entry| entry.version);
    let introduced = history.introduced().into_iter();
    let names = introduced.filter(|(_, since)| since.version <= last).map(|(name, _)| name).collect();
    let delegated = history.delegated_since().into_iter();
    Ok((names, delegated.filter(|(_, since)| *since <= last).map(|(role, _)| role).collect()))
}

fn at_hand(signers: &[&dyn Signer], keyids: &[KeyId]) -> BTreeSet<KeyId> {
    signers.iter().map(|signer| signer.key_id()).filter(|id| keyids.contains(id)).collect()
}

fn delegated(targets: &Targets) -> String {
    let delegations: Option<&Delegations> = targets.delegations.as_ref();
    let roles: Vec<&str> = delegations.iter().flat_map(|d| &d.roles).map(|role| role.name.as_str()).collect();
    if roles.is_empty() { "none".to_owned() } else { roles.join(", ") }
}

impl Given<'_> {
    /// The keys of the role that can be read.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&KeyId, &Key)> {
        self.role.keys.keyids.iter().filter_map(|id| self.keys.get_key_value(id))
    }

    /// The key of the role that `wanted` means: [`author::find_key`].
    pub(super) fn find(&self, wanted: &str) -> Result<KeyId, AuthorError> {
        author::find_key(&self.role.name, &self.role.keys.keyids, self.names, wanted)
    }
}
