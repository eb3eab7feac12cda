//! Giving a namespace to keys.

use plimsoll_core::{
    policy::Scope,
    tuf::{KeyId, PublicKey},
};
use serde::Serialize;

use crate::publish::{
    Done, Edit, How, PublishError, Publisher,
    author::{self, AuthorError},
    head::no_role,
};

/// A delegation to be made.
#[derive(Debug, Clone)]
pub struct DelegateRequest {
    /// The role that delegates, `targets` at the top.
    pub parent: String,
    /// What the new role may speak about.
    pub scope: Scope,
    /// What it is called below its parent.
    pub label: String,
    /// Who signs it.
    pub keys: Vec<PublicKey>,
    /// What people call these keys.
    pub names: Vec<(KeyId, String)>,
    /// How many of them must sign.
    pub threshold: u64,
}

/// A delegation that was made.
#[derive(Debug, Clone, Serialize)]
pub struct Delegated {
    /// The role that delegates.
    pub parent: String,
    /// The role that is delegated to.
    pub role: String,
    /// What it may speak about.
    pub paths: Vec<String>,
}

impl Publisher {
    /// Adds a delegation. The signers hold keys of the parent.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn delegate(
        &self,
        request: &DelegateRequest,
        how: How<'_>,
    ) -> Result<Done<Delegated>, PublishError> {
        let name = author::role_name(&request.parent, &request.label)?;
        self.change(how, async |head| {
            let chain = head.chain(&request.parent).await?;
            let (parent, mut targets) = head.next_of(chain)?;
            if !parent.signs(how.signers) {
                return Err(no_role(how.signers, &request.scope.to_string(), &[parent]));
            }
            let retired = head.trusted().wanted_role(&name).is_ok();
            if retired && targets.delegated(&name).is_none() {
                // A removed role stays in the snapshot, and its name is never given to others.
                return Err(AuthorError::NameTaken { name: name.clone() }.into());
            }
            let allowed = (parent.role.as_str(), parent.allowed.as_slice());
            author::delegate(&mut targets, allowed, &name, &request.scope, &request.keys, request.threshold)?;
            let keys: Vec<KeyId> =
                targets.delegations.iter().flat_map(|delegations| delegations.keys.keys()).cloned().collect();
            author::name_keys(&mut targets.common, &keys, &request.names)?;
            let told = Delegated {
                parent: parent.role.clone(),
                role: name.clone(),
                paths: request.scope.patterns(),
            };
            Ok(Edit::of(&parent.role, targets, told))
        })
        .await
    }
}
