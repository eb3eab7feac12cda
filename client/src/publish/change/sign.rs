//! Vouching for tags and digests.

use std::collections::BTreeMap;

use plimsoll_core::{
    oci::{Descriptor, Digest, TargetName},
    tuf::Target,
};
use serde::Serialize;

use crate::publish::{
    Done, Edit, How, PublishError, Publisher,
    author::{self, AuthorError},
    draft::Next,
    head::{Head, Writable},
};

/// A name to be signed.
#[derive(Debug, Clone)]
pub struct SignRequest {
    /// Its target name.
    pub name: TargetName,
    /// What the registry says it points at.
    pub descriptor: Descriptor,
}

/// A name that was signed.
#[derive(Debug, Clone, Serialize)]
pub struct Signed {
    /// Its target name.
    pub name: String,
    /// The role that vouches for it.
    pub role: String,
    /// What it means from now on.
    pub digest: Digest,
    /// The digest that it meant before, if it was another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Digest>,
    /// The target names written.
    pub entries: Vec<String>,
}

impl Publisher {
    /// Signs names, all in one publish.
    ///
    /// # Errors
    /// [`PublishError`]; [`PublishError::Clash`] if somebody else gave one of the names another digest meanwhile.
    pub async fn sign(
        &self,
        requests: &[SignRequest],
        how: How<'_>,
    ) -> Result<Done<Vec<Signed>>, PublishError> {
        // What each name meant when this began: only that is replaced without asking.
        let mut meant: BTreeMap<String, Option<Digest>> = BTreeMap::new();
        self.change(how, async |head| {
            let mut edit = Edit { documents: BTreeMap::new(), told: Vec::new() };
            for request in requests {
                sign_one(head, request, how, &mut meant, &mut edit).await?;
            }
            Ok(edit)
        })
        .await
    }
}

async fn sign_one(
    head: &mut Head,
    request: &SignRequest,
    how: How<'_>,
    meant: &mut BTreeMap<String, Option<Digest>>,
    edit: &mut Edit<Vec<Signed>>,
) -> Result<(), PublishError> {
    let Writable { role, targets, above, first, .. } = head.role_for(&request.name, how.signers).await?;
    if let Some(first) = first {
        return Err(PublishError::Shadowed { role: role.role, first, name: request.name.to_string() });
    }
    // What a role above revoked must not come back below it.
    let digest = request.descriptor.digest;
    if let Some((_, revocation)) = above.iter().find(|(_, above)| above.digest == Some(digest)) {
        let reason = revocation.reason.clone();
        return Err(AuthorError::Revoked { digest, reason }.into());
    }
    let name = request.name.to_string();
    // Several names may be one role's.
    let next = edit.documents.entry(role.role.clone()).or_insert_with(|| targets.into());
    let Next::Targets(targets) = next else { unreachable!("no root vouches for names") };
    let before = targets.targets.get(&name).and_then(Target::digest);
    let first_seen = *meant.entry(name.clone()).or_insert(before);
    if let Some(theirs) = before.filter(|theirs| *theirs != digest && Some(*theirs) != first_seen) {
        return Err(PublishError::Clash { role: role.role, name, ours: digest, theirs });
    }
    let allowed = (role.role.as_str(), role.allowed.as_slice());
    let entries = author::vouch(targets, allowed, &request.name, &request.descriptor)?;
    let replaces = before.filter(|before| *before != digest);
    edit.told.push(Signed { name, role: role.role, digest, replaces, entries });
    Ok(())
}
