//! Giving a team other keys.

use plimsoll_core::tuf::{Key, KeyId, PublicKey};

use super::rekey::{Content, Documents, Given, NewKeys, Rekeyed, Rules, Unvouched, next, rekey};
use crate::publish::{Done, Edit, How, PublishError, Publisher, author::AuthorError, head::Head};

/// Other keys for a role. With none, and no other threshold, its last content is signed anew by those it has.
#[derive(Debug, Clone)]
pub struct RotateRequest {
    /// The role.
    pub role: String,
    /// Keys it gets.
    pub add: Vec<PublicKey>,
    /// What people call these keys.
    pub names: Vec<(KeyId, String)>,
    /// Keys it loses: ids, the start of ids, or names.
    pub remove: Vec<String>,
    /// How many must sign; none to leave that as it is.
    pub threshold: Option<u64>,
    /// What happens to names and delegations that only keys which it loses vouched for.
    pub unvouched: Unvouched,
}

impl Rekeyed {
    /// True if the same was asked of whoever agreed to `self` and to `other`.
    fn asks_as(&self, other: &Self) -> bool {
        let asked = |told: &Self| {
            let unvouched = (told.unvouched.clone(), told.unvouched_below.clone());
            (told.content, told.removed.clone(), told.names.clone(), unvouched)
        };
        asked(self) == asked(other)
    }
}

impl Publisher {
    /// What [`Publisher::rotate`] would do now. Publishes nothing.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn plan_rotation(
        &self,
        request: &RotateRequest,
        how: How<'_>,
    ) -> Result<Rekeyed, PublishError> {
        let mut head = self.head().await?;
        Ok(self.rotation(&mut head, request, how).await?.told)
    }

    /// Gives a role other keys; its content, if it needs new signatures and the keys at hand suffice, is signed anew in the
    /// same submission. `agreed` is what was told of the plan.
    ///
    /// # Errors
    /// [`PublishError`]; [`PublishError::Moved`] if what was agreed to is not what would happen now.
    pub async fn rotate(
        &self,
        request: &RotateRequest,
        agreed: &Rekeyed,
        how: How<'_>,
    ) -> Result<Done<Rekeyed>, PublishError> {
        self.change(how, async |head| {
            let edit = self.rotation(head, request, how).await?;
            if !edit.told.asks_as(agreed) {
                return Err(PublishError::Moved(request.role.clone()));
            }
            Ok(edit)
        })
        .await
    }

    async fn rotation(
        &self,
        head: &mut Head,
        request: &RotateRequest,
        how: How<'_>,
    ) -> Result<Edit<Rekeyed>, PublishError> {
        let mut documents = Documents::new();
        let rules = Rules { how, unvouched: request.unvouched, resign: false, names: &request.names };
        let new = |given: &Given<'_>| Ok(new_keys(given, request)?);
        let told = rekey(self, head, &mut documents, &request.role, new, rules).await?;
        if documents.is_empty() && told.content == Content::Unsigned {
            // Nothing but its content was to be signed.
            let need = format!("{} needs {} of its keys", told.role, told.threshold);
            return Err(PublishError::Unsigned { missing: need });
        }
        if documents.is_empty() {
            return Err(PublishError::NothingToChange(request.role.clone()));
        }
        Ok(Edit { documents: next(documents), told })
    }
}

fn new_keys(given: &Given<'_>, request: &RotateRequest) -> Result<NewKeys, AuthorError> {
    let removed = request.remove.iter().map(|wanted| given.find(wanted)).collect::<Result<Vec<_>, _>>()?;
    let staying = given.keys().filter(|(id, _)| !removed.contains(id)).map(|(_, key)| key.clone());
    let mut keys: Vec<Key> = staying.collect();
    for key in request.add.iter().map(Key::new) {
        let keyid = key.id();
        if given.role.keys.keyids.contains(&keyid) {
            return Err(AuthorError::KeyTaken { role: request.role.clone(), keyid });
        }
        keys.push(key);
    }
    Ok(NewKeys { keys, threshold: request.threshold.unwrap_or(given.role.keys.threshold) })
}
