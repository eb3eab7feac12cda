//! Taking digests back.

use plimsoll_core::oci::{Digest, TargetName};
use serde::Serialize;

use crate::publish::{Done, Edit, How, PublishError, Publisher, author, head::Writable};

/// A digest to be taken back.
#[derive(Debug, Clone)]
pub struct RevokeRequest {
    /// A tag, whose signed digest is meant, or the digest itself.
    pub name: TargetName,
    /// Why; clients show it.
    pub reason: String,
}

/// A digest that was taken back.
#[derive(Debug, Clone, Serialize)]
pub struct Revoked {
    /// The role that took it back.
    pub role: String,
    /// The digest.
    pub digest: Digest,
    /// The target names that stood for it and are gone.
    pub entries: Vec<String>,
}

impl Publisher {
    /// Takes a digest back.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn revoke(&self, request: &RevokeRequest, how: How<'_>) -> Result<Done<Revoked>, PublishError> {
        self.change(how, async |head| {
            let Writable { role, mut targets, above, listed, .. } =
                head.role_for(&request.name, how.signers).await?;
            let digest = match &request.name {
                TargetName::Digest { digest, .. } => *digest,
                name @ TargetName::Tag { .. } => listed.ok_or_else(|| PublishError::NotListed {
                    role: role.role.clone(),
                    name: name.to_string(),
                })?,
            };
            if let Some((role, _)) = above.iter().find(|(_, above)| above.digest == Some(digest)) {
                return Err(PublishError::AlreadyRevoked { role: role.clone(), digest });
            }
            let before = targets.revocations().len();
            let entries = author::revoke(&mut targets, &digest, &request.reason, head.now());
            if entries.is_empty() && targets.revocations().len() == before {
                return Err(PublishError::AlreadyRevoked { role: role.role, digest });
            }
            let told = Revoked { role: role.role.clone(), digest, entries };
            Ok(Edit::of(&role.role, targets, told))
        })
        .await
    }
}
