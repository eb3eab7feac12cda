//! What a role vouches for.

use std::collections::BTreeSet;

use plimsoll::publish::api::{Refusal, RefusalReason as Why};
use plimsoll_core::{
    oci::{Digest, TargetName},
    tuf::Targets,
};

use super::{Chain, refused};

/// Names inside every bound, in our grammar. Never what was revoked.
pub(super) fn check(role: &str, after: &Targets, chain: &Chain) -> Result<(), Refusal> {
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
    }
    Ok(())
}
