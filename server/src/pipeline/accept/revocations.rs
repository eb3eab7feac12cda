//! What a role takes back.

use std::collections::BTreeSet;

use plimsoll::publish::api::{Refusal, RefusalReason as Why};
use plimsoll_core::tuf::{Revocation, Targets, within};

use super::{Chain, MAX_PATTERNS, MAX_REASON, cut, is_pattern, refused};

/// What was revoked stays so; what is new is short and inside of what the
/// role may speak about.
pub(super) fn check(
    role: &str,
    before: Option<&Targets>,
    after: &Targets,
    chain: &Chain,
) -> Result<(), Refusal> {
    let kept: BTreeSet<String> = after.revocations().iter().map(text).collect();
    let mut known = BTreeSet::new();
    for old in before.map(Targets::revocations).unwrap_or_default() {
        let written = text(old);
        if !kept.contains(&written) {
            let what = old.digest.map_or_else(|| old.paths.join(", "), |digest| digest.to_string());
            let message = format!("{role}: the revocation of {} is missing", cut(&what));
            return Err(refused(Why::RevocationDropped, message));
        }
        known.insert(written);
    }
    for new in after.revocations().iter().filter(|revocation| !known.contains(&text(revocation))) {
        check_reason(role, &new.reason)?;
        if new.paths.len() > MAX_PATTERNS {
            let message = format!("{role}: a revocation of more than {MAX_PATTERNS} patterns");
            return Err(refused(Why::TooMany, message));
        }
        // Whoever is asked about a name is believed about it, so nobody revokes more than that.
        let outside =
            |path: &String| !is_pattern(path) || !chain.bounds.iter().all(|bound| within(path, bound));
        if let Some(path) = new.paths.iter().find(|path| outside(path)) {
            let message = format!("{role} cannot revoke {}, which is outside of its scope", cut(path));
            return Err(refused(Why::OutOfScope, message));
        }
    }
    Ok(())
}

fn check_reason(role: &str, reason: &str) -> Result<(), Refusal> {
    if reason.len() > MAX_REASON {
        return Err(refused(Why::TooMany, format!("{role}: a reason of {} characters", reason.len())));
    }
    Ok(())
}

fn text(revocation: &Revocation) -> String {
    serde_json::to_string(revocation).expect("a revocation that was read can be written")
}
