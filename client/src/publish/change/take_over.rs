//! Taking over what a team left behind.

use plimsoll_core::tuf::{Key, KeyId, PublicKey};

use super::rekey::{Content, Documents, NewKeys, Rekeyed, Rules, Unvouched, next, rekey};
use crate::publish::{Done, Edit, How, PublishError, Publisher, head::Head};

/// A role to be taken over: its last content, under other keys.
#[derive(Debug, Clone)]
pub struct TakeOverRequest {
    /// The role.
    pub role: String,
    /// Who signs it from now on; none for the keys at hand.
    pub keys: Vec<PublicKey>,
    /// What people call these keys.
    pub names: Vec<(KeyId, String)>,
    /// How many must sign; none for as many as before, if there are so many keys, else all of them.
    pub threshold: Option<u64>,
}

impl Publisher {
    /// What [`Publisher::take_over`] would do now. Publishes nothing.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn plan_take_over(
        &self,
        request: &TakeOverRequest,
        how: How<'_>,
    ) -> Result<Rekeyed, PublishError> {
        let mut head = self.head().await?;
        Ok(self.taking_over(&mut head, request, how).await?.told)
    }

    /// Delegates a role to other keys, who vouch for all of its last content: the keys it had are lost or expired. What it
    /// revoked stays revoked, and the roles below it stay. `agreed` is what was told of the plan.
    ///
    /// # Errors
    /// [`PublishError`]; [`PublishError::NeverVouched`] if nobody entitled ever signed that content,
    /// [`PublishError::Moved`] if it is not what was agreed to.
    pub async fn take_over(
        &self,
        request: &TakeOverRequest,
        agreed: &Rekeyed,
        how: How<'_>,
    ) -> Result<Done<Rekeyed>, PublishError> {
        self.change(how, async |head| {
            let edit = self.taking_over(head, request, how).await?;
            if edit.told != *agreed {
                return Err(PublishError::Moved(request.role.clone()));
            }
            Ok(edit)
        })
        .await
    }

    async fn taking_over(
        &self,
        head: &mut Head,
        request: &TakeOverRequest,
        how: How<'_>,
    ) -> Result<Edit<Rekeyed>, PublishError> {
        let mut keys: Vec<Key> = request.keys.iter().map(Key::new).collect();
        if keys.is_empty() {
            keys.extend(how.signers.iter().map(|signer| signer.key().clone()));
        }
        let mut documents = Documents::new();
        let rules = Rules { how, unvouched: Unvouched::Keep, resign: true, names: &request.names };
        let told = rekey(
            self,
            head,
            &mut documents,
            &request.role,
            |given| {
                let as_before = given.role.keys.threshold.min(keys.len() as u64);
                Ok(NewKeys { keys, threshold: request.threshold.unwrap_or(as_before) })
            },
            rules,
        )
        .await?;
        if told.content == Content::None {
            return Err(PublishError::NothingPublished(request.role.clone()));
        }
        Ok(Edit { documents: next(documents), told })
    }
}
