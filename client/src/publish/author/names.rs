//! Vouching for names and taking digests back.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::{Descriptor, Digest, TargetName},
    tuf::{Revocation, Target, Targets, matches},
};

use super::{AuthorError, not_reserved, out_of_scope};

/// Lets `targets`, whose role may speak about `allowed`, vouch for `descriptor` under `name`, and under its digest where
/// the role may speak about digests. Returns the names written.
///
/// # Errors
/// [`AuthorError::OutOfScope`], [`AuthorError::Revoked`].
pub fn vouch(
    targets: &mut Targets,
    role: (&str, &[String]),
    name: &TargetName,
    descriptor: &Descriptor,
) -> Result<Vec<String>, AuthorError> {
    let (role, allowed) = role;
    let may = |name: &str| allowed.iter().any(|pattern| matches(pattern, name));
    let by_name = name.to_string();
    if !may(&by_name) {
        return Err(out_of_scope(name, role, allowed));
    }
    not_reserved(name.repository())?;
    if let Some(revocation) = targets.revocations().iter().find(|r| r.digest == Some(descriptor.digest)) {
        return Err(AuthorError::Revoked { digest: descriptor.digest, reason: revocation.reason.clone() });
    }
    let target = Target {
        length: descriptor.size,
        hashes: BTreeMap::from([("sha256".to_owned(), descriptor.digest.hex())]),
        custom: Some(BTreeMap::from([("mediaType".to_owned(), descriptor.media_type.clone().into())])),
        extra: BTreeMap::new(),
    };
    let by_digest =
        TargetName::Digest { repository: name.repository().to_owned(), digest: descriptor.digest }
            .to_string();
    let mut written = vec![by_name];
    if may(&by_digest) && !written.contains(&by_digest) {
        written.push(by_digest);
    }
    for name in &written {
        targets.targets.insert(name.clone(), target.clone());
    }
    Ok(written)
}

/// Takes `digest` back: removes every entry with it and lists it as revoked. Returns the names removed.
pub fn revoke(targets: &mut Targets, digest: &Digest, reason: &str, now: DateTime<Utc>) -> Vec<String> {
    let removed: Vec<String> = targets
        .targets
        .iter()
        .filter(|(_, target)| target.digest().as_ref() == Some(digest))
        .map(|(name, _)| name.clone())
        .collect();
    targets.targets.retain(|name, _| !removed.contains(name));
    if let Some(identity) = &mut targets.common.identity
        && !identity.revocations.iter().any(|r| r.digest.as_ref() == Some(digest))
    {
        identity.revocations.push(Revocation {
            digest: Some(*digest),
            paths: Vec::new(),
            reason: reason.to_owned(),
            at: now,
            extra: BTreeMap::new(),
        });
    }
    removed
}
