//! Taking a namespace back.

use plimsoll_core::{
    oci::Digest,
    tuf::{DelegatedRole, within},
};
use serde::Serialize;

use super::rekey::{Vouched, last_content, vouched};
use crate::publish::{
    Done, Edit, How, PublishError, Publisher, author,
    head::{Head, no_role, parent_of},
};

/// A delegation to be removed.
#[derive(Debug, Clone)]
pub struct RemoveRequest {
    /// The role.
    pub role: String,
    /// Take back everything under its scope, too, and why.
    pub revoke: Option<String>,
}

/// A delegation that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// The role that delegated.
    pub parent: String,
    /// The role.
    pub role: String,
    /// What it could speak about, path patterns.
    pub paths: Vec<String>,
    /// True if everything under these is taken back.
    pub revoked: bool,
    /// The names that it listed.
    pub names: Vec<Vouched>,
    /// True if it ever published something: its name is never given again.
    pub published: bool,
    /// How much it took back itself, which is forgotten with it.
    pub revocations: usize,
    /// The roles below it, which nobody asks any more.
    pub below: Vec<String>,
    /// The roles beside it that may speak about some of its names, which are asked from now on; with `revoked` what is
    /// taken back of theirs, too.
    pub beside: Vec<String>,
}

impl Publisher {
    /// What [`Publisher::remove`] would do now. Publishes nothing.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn plan_removal(&self, request: &RemoveRequest, how: How<'_>) -> Result<Removed, PublishError> {
        let mut head = self.head().await?;
        Ok(removal(&mut head, request, how).await?.told)
    }

    /// Removes a delegation. The name of a role that published something is never given again. `agreed` is what was told of
    /// the plan.
    ///
    /// # Errors
    /// [`PublishError`]; [`PublishError::Moved`] if it is not what was agreed to.
    pub async fn remove(
        &self,
        request: &RemoveRequest,
        agreed: &Removed,
        how: How<'_>,
    ) -> Result<Done<Removed>, PublishError> {
        self.change(how, async |head| {
            let edit = removal(head, request, how).await?;
            if edit.told != *agreed {
                return Err(PublishError::Moved(request.role.clone()));
            }
            Ok(edit)
        })
        .await
    }
}

impl Removed {
    /// The digests that were listed by it.
    pub fn digests(&self) -> impl Iterator<Item = (&str, Digest)> {
        self.names.iter().filter_map(|vouched| Some((vouched.name.as_str(), vouched.digest?)))
    }
}

async fn removal(
    head: &mut Head,
    request: &RemoveRequest,
    how: How<'_>,
) -> Result<Edit<Removed>, PublishError> {
    let role = &request.role;
    let parent = parent_of(role).ok_or_else(|| PublishError::Owners { role: role.clone() })?;
    let chain = head.chain(parent).await?;
    let (at, mut targets) = head.next_of(chain)?;
    if !at.signs(how.signers) {
        return Err(no_role(how.signers, &format!("what {role} may speak about"), &[at]));
    }
    let Some(removed) = author::undelegate(&mut targets, role) else {
        let roles = targets.delegations.iter().flat_map(|delegations| &delegations.roles);
        let roles: Vec<&str> = roles.map(|sibling| sibling.name.as_str()).collect();
        return Err(PublishError::UnknownRole { role: role.clone(), roles: roles.join(", ") });
    };
    let paths = removed.paths.unwrap_or_default();
    if let Some(reason) = &request.revoke {
        author::revoke_paths(&mut targets, paths.clone(), reason, head.now());
    }
    let content = last_content(head, role).await?;
    let content = content.as_ref().map(|document| &document.signed);
    let below = content.and_then(|targets| targets.delegations.as_ref());
    let siblings = targets.delegations.iter().flat_map(|delegations| &delegations.roles);
    let told = Removed {
        parent: parent.to_owned(),
        role: role.clone(),
        revoked: request.revoke.is_some(),
        names: content.map(vouched).unwrap_or_default(),
        published: content.is_some(),
        revocations: content.map_or(0, |targets| targets.revocations().len()),
        below: below.iter().flat_map(|below| &below.roles).map(|below| below.name.clone()).collect(),
        beside: siblings.filter(|role| overlaps(role, &paths)).map(|role| role.name.clone()).collect(),
        paths,
    };
    Ok(Edit::of(parent, targets, told))
}

/// True if one of the two surely holds names of the other.
fn overlaps(sibling: &DelegatedRole, paths: &[String]) -> bool {
    let theirs = sibling.paths.as_deref().unwrap_or_default();
    theirs.iter().any(|path| within(path, paths)) || paths.iter().any(|path| within(path, theirs))
}
