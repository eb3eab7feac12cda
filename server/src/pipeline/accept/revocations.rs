//! What a role takes back, and what it may take back of that.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use plimsoll::publish::api::{Refusal, RefusalReason as Why};
use plimsoll_core::tuf::{Revocation, Targets, within};

use super::{CLOCK_SKEW, Chain, MAX_PATTERNS, MAX_REASON, cut, is_pattern, refused};

/// How often one role may say that something is good after all: the list is kept for ever.
const MAX_REINSTATED: usize = 1000;
/// What one role may revoke and reinstate, bytes of JSON. It is kept for ever, so whoever had the role's key for a day must
/// not be able to fill the document up with it.
const MAX_TAKEN_BACK: usize = 2 * 1024 * 1024;

/// What was revoked stays so unless it is reinstated in this very version; what is new is short and inside of what the
/// role may speak about.
pub(super) fn check(
    role: &str,
    before: Option<&Targets>,
    after: &Targets,
    chain: &Chain,
    now: DateTime<Utc>,
) -> Result<(), Refusal> {
    let reinstated = reinstated(role, before, after, now)?;
    if size(after) > MAX_TAKEN_BACK.max(before.map_or(0, size)) {
        let message =
            format!("{role}: revocations and reinstated digests of more than {MAX_TAKEN_BACK} bytes");
        return Err(refused(Why::TooMany, message));
    }
    let kept: BTreeSet<String> = after.revocations().iter().map(text).collect();
    let mut known = BTreeSet::new();
    for old in before.map(Targets::revocations).unwrap_or_default() {
        let written = text(old);
        // A whole scope is never taken back: its delegation is gone.
        let taken_back = old.paths.is_empty()
            && old.digest.is_some()
            && reinstated.iter().any(|new| new.digest == old.digest && new.at >= old.at);
        if !taken_back && !kept.contains(&written) {
            let what = old.digest.map_or_else(|| old.paths.join(", "), |digest| digest.to_string());
            let message = format!("{role}: the revocation of {} is missing", cut(&what));
            return Err(refused(Why::RevocationDropped, message));
        }
        known.insert(written);
    }
    for new in after.revocations().iter().filter(|revocation| !known.contains(&text(revocation))) {
        check_reason(role, &new.reason)?;
        // It is taken back by what is not older, and that may not be of the future either.
        if new.at > now + CLOCK_SKEW {
            let message =
                format!("{role}: a revocation of {}, which is ahead of this daemon's clock", new.at);
            return Err(refused(Why::AheadOfClock, message));
        }
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

/// The entries of `reinstated` that are new in this version. Those that were there stay: they are history.
fn reinstated<'a>(
    role: &str,
    before: Option<&Targets>,
    after: &'a Targets,
    now: DateTime<Utc>,
) -> Result<Vec<&'a Revocation>, Refusal> {
    let there: BTreeSet<String> = after.reinstated().iter().map(text).collect();
    let known: BTreeSet<String> =
        before.map(Targets::reinstated).unwrap_or_default().iter().map(text).collect();
    if !known.is_subset(&there) {
        let message = format!("{role}: an entry of x-plimsoll.reinstated is missing; they stay");
        return Err(refused(Why::RevocationDropped, message));
    }
    if after.reinstated().len() > MAX_REINSTATED {
        let message = format!("{role}: more than {MAX_REINSTATED} entries in x-plimsoll.reinstated");
        return Err(refused(Why::TooMany, message));
    }
    let new: Vec<&Revocation> =
        after.reinstated().iter().filter(|entry| !known.contains(&text(entry))).collect();
    for entry in &new {
        let Some(digest) = entry.digest.filter(|_| entry.paths.is_empty()) else {
            let message =
                format!("{role}: an entry of x-plimsoll.reinstated without a digest, or with paths");
            return Err(refused(Why::RevocationDropped, message));
        };
        check_reason(role, &entry.reason)?;
        if entry.at > now + CLOCK_SKEW {
            let message = format!(
                "{role}: {digest} is reinstated at {}, which is ahead of this daemon's clock",
                entry.at
            );
            return Err(refused(Why::AheadOfClock, message));
        }
        if after.revocations().iter().any(|revocation| revocation.digest == Some(digest)) {
            let message = format!("{role}: {digest} is revoked and reinstated at once");
            return Err(refused(Why::RevocationDropped, message));
        }
    }
    Ok(new)
}

fn check_reason(role: &str, reason: &str) -> Result<(), Refusal> {
    if reason.len() > MAX_REASON {
        return Err(refused(Why::TooMany, format!("{role}: a reason of {} characters", reason.len())));
    }
    Ok(())
}

fn size(targets: &Targets) -> usize {
    targets.revocations().iter().chain(targets.reinstated()).map(|revocation| text(revocation).len()).sum()
}

fn text(revocation: &Revocation) -> String {
    serde_json::to_string(revocation).expect("a revocation that was read can be written")
}
