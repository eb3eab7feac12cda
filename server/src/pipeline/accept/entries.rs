//! What a role vouches for.

use std::collections::BTreeSet;

use plimsoll::publish::api::{Refusal, RefusalReason as Why};
use plimsoll_core::{
    oci::{Digest, TargetName},
    tuf::{Target, Targets},
};

use super::{Chain, cut, refused};

/// What a publisher may add to one entry, bytes of JSON: everybody below the same snapshot pays for it.
const MAX_CUSTOM: usize = 4 * 1024;
/// Indexes that one platform's manifest may be signed with.
const MAX_INDEXES: usize = 16;

/// Names inside every bound, in our grammar, never what was revoked, and what was promised of a tag is kept.
pub(super) fn check(
    role: &str,
    before: Option<&Targets>,
    after: &Targets,
    chain: &Chain,
) -> Result<(), Refusal> {
    let revoked: BTreeSet<Digest> =
        chain.revoked.iter().chain(after.revocations()).filter_map(|revocation| revocation.digest).collect();
    for (name, target) in &after.targets {
        let parsed: TargetName =
            name.parse().map_err(|error| refused(Why::Entry, format!("{role}: {error}")))?;
        if let Some(bound) = chain.outside(name) {
            let message = format!("{role} may not speak about {name}, only about {}", bound.join(", "));
            return Err(refused(Why::OutOfScope, message));
        }
        let digest = target
            .digest()
            .ok_or_else(|| refused(Why::Entry, format!("{role}: {name} has no sha256 in lower-case hex")))?;
        if matches!(&parsed, TargetName::Digest { digest: named, .. } if *named != digest) {
            let message = format!("{role}: {name} names another digest than its hash");
            return Err(refused(Why::Entry, message));
        }
        if revoked.contains(&digest) {
            let message = format!("{role}: {name} points at {digest}, which was revoked");
            return Err(refused(Why::Revoked, message));
        }
        if let Some(wrong) = wrong_custom(&parsed, digest, target) {
            return Err(refused(Why::Entry, format!("{role}: {name}: {wrong}")));
        }
    }
    // A promise ends with the digest, and where the role may speak no more.
    let promised = before.iter().flat_map(|before| &before.targets).filter(|(name, target)| {
        target.is_immutable()
            && chain.outside(name).is_none()
            && target.digest().is_some_and(|digest| !revoked.contains(&digest))
    });
    for (name, old) in promised {
        let wrong = match after.targets.get(name) {
            None => "is missing",
            Some(new) if new.digest() != old.digest() => "points at another digest",
            Some(new) if !new.is_immutable() => "is immutable no more",
            Some(_) => continue,
        };
        let message = format!(
            "{role}: {} {wrong}; it was signed as immutable, so it stays until its digest is revoked",
            cut(name)
        );
        return Err(refused(Why::Immutable, message));
    }
    Ok(())
}

fn wrong_custom(name: &TargetName, digest: Digest, target: &Target) -> Option<String> {
    let is_tag = matches!(name, TargetName::Tag { .. });
    let size = serde_json::to_vec(&(&target.custom, &target.extra)).map_or(usize::MAX, |json| json.len());
    if size > MAX_CUSTOM {
        return Some(format!("custom of more than {MAX_CUSTOM} bytes"));
    }
    let custom = target.custom.as_ref()?;
    if let Some(immutable) = custom.get("immutable") {
        if !is_tag {
            return Some("custom.immutable belongs to a tag".to_owned());
        }
        if immutable.read::<bool>().is_none() {
            return Some("custom.immutable is neither true nor false".to_owned());
        }
    }
    let index = custom.get("index")?;
    if is_tag {
        return Some("custom.index belongs to a digest".to_owned());
    }
    let indexes: BTreeSet<Digest> = index.read().unwrap_or_default();
    if !(1..=MAX_INDEXES).contains(&indexes.len()) || indexes.contains(&digest) {
        return Some(format!("custom.index is not a list of 1 to {MAX_INDEXES} digests of indexes"));
    }
    None
}
