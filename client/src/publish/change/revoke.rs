//! Taking digests back.

use plimsoll_core::{
    oci::{Digest, TargetName},
    tuf::Targets,
};
use serde::Serialize;

use crate::publish::{
    Done, Edit, How, PublishError, Publisher, author,
    head::{OnPath, Spot, revoked_above},
};

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
    /// The platform manifests that were signed with it alone, and so are taken back with it.
    pub platforms: Vec<Digest>,
    /// The target names that stood for any of these and are gone.
    pub entries: Vec<String>,
}

impl Publisher {
    /// Takes a digest back. That of a multi-platform index goes with the platform manifests that were signed with it,
    /// but for those that a tag or another index means.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn revoke(&self, request: &RevokeRequest, how: How<'_>) -> Result<Done<Revoked>, PublishError> {
        self.change(how, async |head| {
            let (mut path, spots) = head.spots(&[&request.name], how.signers).await?;
            let Spot { at, listed, .. } = spots.into_iter().next().expect("one name has one spot");
            let digest = match &request.name {
                TargetName::Digest { digest, .. } => *digest,
                name @ TargetName::Tag { .. } => listed.ok_or_else(|| PublishError::NotListed {
                    role: path[at].role.clone(),
                    name: name.to_string(),
                })?,
            };
            let above = revoked_above(&path, at);
            if let Some((role, _)) = above.iter().find(|(_, above)| above.digest == Some(digest)) {
                return Err(PublishError::AlreadyRevoked { role: role.clone(), digest });
            }
            // A parent revokes what its team signed, too.
            let roles: Vec<&Targets> = path[at..].iter().filter_map(OnPath::content).collect();
            let own = path[at].content().map(Targets::revocations).unwrap_or_default();
            let revoked = |digest: &Digest| {
                let listed = above.iter().map(|(_, revocation)| revocation).chain(own);
                listed.into_iter().any(|revocation| revocation.digest.as_ref() == Some(digest))
            };
            let platforms = author::platforms_to_revoke(&roles, &digest, revoked);

            let mut targets = head.next(&mut path[at], &above)?;
            let before = targets.revocations().len();
            let all = platforms.iter().chain([&digest]);
            let entries: Vec<String> = all
                .flat_map(|digest| author::revoke(&mut targets, digest, &request.reason, head.now()))
                .collect();
            let role = path[at].role.clone();
            if entries.is_empty() && targets.revocations().len() == before {
                return Err(PublishError::AlreadyRevoked { role, digest });
            }
            let told = Revoked { role: role.clone(), digest, platforms, entries };
            Ok(Edit::of(&role, targets, told))
        })
        .await
    }
}
