//! Names and revocations, in words.

use plimsoll_core::{
    policy::Scope,
    tuf::{Revocation, Target, Targets},
};

/// What `new` says of names and of what was taken back, where it differs from `old`; up to `most` lines of a kind.
pub(super) fn changes(lines: &mut Vec<String>, old: &Targets, new: &Targets, most: usize) {
    let mut some = |kind, all| some(lines, kind, all, most);
    some("names changed", changed(old, new));
    some("names removed", removed(old, new));
    some("names signed", signed(old, new));
    let revoked = new.revocations().iter().filter(|revocation| !old.revocations().contains(revocation));
    let revoked = revoked.map(|revocation| format!("revokes {}: {}", what(revocation), revocation.reason));
    some("revocations", revoked.collect());
    let dropped = old.revocations().iter().filter(|revocation| !new.revocations().contains(revocation));
    some("reinstated", dropped.map(|dropped| reinstated(dropped, new)).collect());
    let other = new.reinstated().iter().filter(|entry| !old.reinstated().contains(entry));
    let other = other.filter(|entry| old.revocations().iter().all(|dropped| dropped.digest != entry.digest));
    let other = other.map(|entry| format!("notes that {} was reinstated: {}", what(entry), entry.reason));
    some("notes", other.collect());
    let lost = old.reinstated().iter().filter(|entry| !new.reinstated().contains(entry));
    let lost = lost.map(|entry| format!("forgets that {} was reinstated", what(entry)));
    some("notes forgotten", lost.collect());
}

fn signed(old: &Targets, new: &Targets) -> Vec<String> {
    let new = new.targets.iter().filter(|(name, _)| !old.targets.contains_key(*name));
    new.map(|(name, target)| format!("signs {name} as {}{}", digest(target), for_ever(target))).collect()
}

fn removed(old: &Targets, new: &Targets) -> Vec<String> {
    let gone = old.targets.iter().filter(|(name, _)| !new.targets.contains_key(*name));
    gone.map(|(name, target)| format!("removes {name} (was {})", digest(target))).collect()
}

fn changed(old: &Targets, new: &Targets) -> Vec<String> {
    let both = old.targets.iter().filter_map(|(name, was)| Some((name, was, new.targets.get(name)?)));
    let line = |(name, was, is): (&String, &Target, &Target)| match (was.digest(), is.digest()) {
        _ if was == is => None,
        (was_digest, is_digest) if was_digest == is_digest => {
            let promise = match (was.is_immutable(), is.is_immutable()) {
                (true, false) => ", which may change from now on",
                (false, true) => for_ever(is),
                _ => ", but says something else of it",
            };
            Some(format!("keeps {name} as {}{promise}", digest(is)))
        }
        _ => Some(format!("changes {name} to {}{} (was {})", digest(is), for_ever(is), digest(was))),
    };
    both.filter_map(line).collect()
}

fn reinstated(dropped: &Revocation, new: &Targets) -> String {
    let entry =
        new.reinstated().iter().find(|entry| entry.digest == dropped.digest && entry.at >= dropped.at);
    match entry {
        Some(entry) => format!("reinstates {}: {}", what(dropped), entry.reason),
        None => format!("WARNING: drops the revocation of {} without saying why", what(dropped)),
    }
}

fn what(revocation: &Revocation) -> String {
    match revocation.digest {
        Some(digest) => digest.to_string(),
        None => format!("everything in {}", Scope::spell(&revocation.paths)),
    }
}

fn digest(target: &Target) -> String {
    target.digest().map_or_else(|| "nothing usable".to_owned(), |digest| digest.to_string())
}

fn for_ever(target: &Target) -> &'static str {
    if target.is_immutable() { ", for good" } else { "" }
}

/// The first of `all`, and how many more there are. A warning is never among those that are only counted.
fn some(lines: &mut Vec<String>, kind: &str, all: Vec<String>, most: usize) {
    let (count, mut shown) = (all.len(), 0);
    for line in all {
        if shown < most || line.starts_with("WARNING") {
            lines.push(format!("  {line}"));
            shown += 1;
        }
    }
    if count > shown {
        lines.push(format!("  and {} more ({count} {kind} in all)", count - shown));
    }
}
