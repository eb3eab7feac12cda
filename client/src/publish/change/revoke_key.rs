//! Taking back everything that one key alone vouched for.

use std::collections::BTreeSet;

use plimsoll_core::{
    oci::Digest,
    tuf::{KeyId, Target},
};
use serde::Serialize;

use super::rekey::{Documents, Given, NewKeys, Rekeyed, Rules, Unvouched, Vouched, next, rekey, vouched};
use crate::publish::{
    Done, Edit, How, PublishError, Publisher,
    author::{self, AuthorError},
    head::{Head, OnPath, is_on_the_way, parent_of},
    history::NamedKey,
};

/// A key to be revoked.
#[derive(Debug, Clone)]
pub struct RevokeKeyRequest {
    /// Its id, the start of the id, or its name.
    pub key: String,
    /// The one role that loses it; none for all of them.
    pub role: Option<String>,
    /// Why; clients show it.
    pub reason: String,
}

/// A key that was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyRevoked {
    /// The key.
    pub key: NamedKey,
    /// The roles that lose it.
    pub roles: Vec<Rekeyed>,
    /// The digests taken back: those that nobody but this key vouched for.
    pub revoked: Vec<Vouched>,
    /// Names that only this key vouched for, of digests that somebody else vouches for under another name: they are left
    /// out where the role is signed anew, and their digests are not taken back.
    pub dropped: Vec<Vouched>,
}

/// A role that grants to the key.
struct Granting {
    role: String,
    /// What it lists, if nobody else signs for it.
    alone: Vec<Vouched>,
}

/// Who has the key, and what everybody else says.
struct Found {
    key: NamedKey,
    /// Parents before children.
    roles: Vec<Granting>,
    /// The digests that roles list which do not have the key.
    elsewhere: BTreeSet<Digest>,
}

impl Publisher {
    /// What [`Publisher::revoke_key`] would do now. Publishes nothing.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn plan_key_revocation(
        &self,
        request: &RevokeKeyRequest,
        how: How<'_>,
    ) -> Result<KeyRevoked, PublishError> {
        let mut head = self.head().await?;
        Ok(self.key_revocation(&mut head, request, how).await?.told)
    }

    /// Takes a key out of the roles that have it, and takes back the digests that it alone vouched for, in the documents of
    /// the roles above. A role that then lacks signatures is signed anew if the keys at hand suffice. `agreed` is what was
    /// told of the plan.
    ///
    /// # Errors
    /// [`PublishError`]; [`PublishError::Owners`] for a key of the root, [`PublishError::Moved`] if it is not what was
    /// agreed to.
    pub async fn revoke_key(
        &self,
        request: &RevokeKeyRequest,
        agreed: &KeyRevoked,
        how: How<'_>,
    ) -> Result<Done<KeyRevoked>, PublishError> {
        self.change(how, async |head| {
            let edit = self.key_revocation(head, request, how).await?;
            if edit.told != *agreed {
                return Err(PublishError::Moved(request.key.clone()));
            }
            Ok(edit)
        })
        .await
    }

    async fn key_revocation(
        &self,
        head: &mut Head,
        request: &RevokeKeyRequest,
        how: How<'_>,
    ) -> Result<Edit<KeyRevoked>, PublishError> {
        let Found { key, roles, elsewhere } = granting(head, request).await?;
        let mut documents = Documents::new();
        let mut told =
            KeyRevoked { key: key.clone(), roles: Vec::new(), revoked: Vec::new(), dropped: Vec::new() };
        for Granting { role, alone } in roles {
            // What nobody else delegated goes as a whole, whoever has keys there: there is nothing to repair.
            let gone =
                |rekeyed: &&Rekeyed| rekeyed.unvouched_below.iter().any(|below| is_on_the_way(below, &role));
            let (parent, others, alone) = match told.roles.iter().find(gone) {
                Some(above) => (above.parent.clone(), BTreeSet::new(), alone),
                None => {
                    let rules = Rules { how, unvouched: Unvouched::Drop, resign: false, names: &[] };
                    let rekeyed =
                        rekey(self, head, &mut documents, &role, |given| without(given, &key.keyid), rules)
                            .await?;
                    let alone = rekeyed.unvouched.clone();
                    let kept = rekeyed.names.iter().filter(|vouched| !alone.contains(vouched));
                    let others: BTreeSet<Digest> = kept.filter_map(|vouched| vouched.digest).collect();
                    let parent = rekeyed.parent.clone();
                    told.roles.push(rekeyed);
                    (parent, others, alone)
                }
            };
            let vouched_for = |vouched: &Vouched| {
                vouched.digest.is_none_or(|digest| others.contains(&digest) || elsewhere.contains(&digest))
            };
            let (dropped, revoked): (Vec<Vouched>, Vec<Vouched>) = alone.into_iter().partition(vouched_for);
            let parent = documents.get_mut(&parent).expect("a parent that takes a key away is changed");
            for digest in revoked.iter().filter_map(|vouched| vouched.digest) {
                author::revoke(parent, &digest, &request.reason, head.now());
            }
            told.revoked.extend(revoked);
            told.dropped.extend(dropped);
        }
        drop_revoked(&mut documents);
        Ok(Edit { documents: next(documents), told })
    }
}

async fn granting(head: &mut Head, request: &RevokeKeyRequest) -> Result<Found, PublishError> {
    let path = match &request.role {
        // Of thousands of roles, those on the way.
        Some(role) => head.chain(role).await?,
        None => head.path(|_| true).await?,
    };
    let asked = |role: &&OnPath| request.role.as_ref().is_none_or(|wanted| role.role == *wanted);
    let mut found: Option<NamedKey> = None;
    let mut roles = Vec::new();
    for role in path.iter().filter(asked) {
        let names = names(head, &path, role);
        let keyid = match author::find_key(&role.role, &role.keyids, &names, &request.key) {
            Ok(keyid) => keyid,
            Err(error @ AuthorError::NoSuchKey { several: true, .. }) => return Err(error.into()),
            Err(_) => continue,
        };
        if parent_of(&role.role).is_none() {
            return Err(PublishError::Owners { role: role.role.clone() });
        }
        let name = names.get(&keyid).cloned();
        match &found {
            // The same name, or the same first digits, and another key.
            Some(first) if first.keyid != keyid => {
                let keys = format!("{}, {}", first.keyid, keyid);
                let (wanted, role) = (request.key.clone(), "several roles".to_owned());
                return Err(AuthorError::NoSuchKey { wanted, several: true, role, keys }.into());
            }
            Some(_) => {}
            None => found = Some(NamedKey { keyid, name }),
        }
        let only = role.keyids.len() == 1;
        let alone = role.content().filter(|_| only).map(vouched).unwrap_or_default();
        roles.push(Granting { role: role.role.clone(), alone });
    }
    let root = &head.trusted().root().signed;
    if root.keys.keys().any(|id| id.0 == request.key) && found.is_none() {
        return Err(PublishError::Owners { role: "root".to_owned() });
    }
    let key = found.ok_or_else(|| PublishError::UnknownKey(request.key.clone()))?;
    // Whoever stole a key could list what others sign, to have it taken back with the key.
    let others = path.iter().filter(|role| !role.keyids.contains(&key.keyid));
    let listed = others.filter_map(OnPath::content).flat_map(|targets| targets.targets.values());
    let elsewhere = listed.filter_map(Target::digest).collect();
    Ok(Found { key, roles, elsewhere })
}

/// What the document that gives `role` its keys calls them.
fn names(head: &Head, path: &[OnPath], role: &OnPath) -> std::collections::BTreeMap<KeyId, String> {
    let delegator = path.iter().find(|delegator| delegator.role == role.delegator);
    match delegator.and_then(OnPath::content) {
        Some(targets) => author::key_names(&targets.common),
        None => author::key_names(&head.trusted().root().signed.common),
    }
}

fn without(given: &Given<'_>, keyid: &KeyId) -> Result<NewKeys, PublishError> {
    let keys: Vec<_> = given.keys().filter(|(id, _)| *id != keyid).map(|(_, key)| key.clone()).collect();
    let threshold = given.role.keys.threshold;
    if (keys.len() as u64) < threshold {
        return Err(PublishError::TooFewLeft {
            role: given.role.name.clone(),
            keyid: keyid.clone(),
            left: keys.len(),
            threshold,
        });
    }
    Ok(NewKeys { keys, threshold })
}

/// What one document of the change takes back, no other one below it lists.
fn drop_revoked(documents: &mut Documents) {
    let revoked: Vec<(String, BTreeSet<Digest>)> = documents
        .iter()
        .map(|(role, targets)| {
            (role.clone(), targets.revocations().iter().filter_map(|revocation| revocation.digest).collect())
        })
        .collect();
    for (role, targets) in documents {
        let above = |above: &str| role.strip_prefix(above).is_some_and(|rest| rest.starts_with("--"));
        for (_, revoked) in revoked.iter().filter(|(by, _)| above(by)) {
            targets
                .targets
                .retain(|_, target| target.digest().is_none_or(|digest| !revoked.contains(&digest)));
        }
    }
}
