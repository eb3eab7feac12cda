//! One version of a role, in words.

use std::collections::BTreeSet;

use plimsoll_core::{
    oci::Digest,
    policy::Scope,
    tuf::{Revocation, Target},
};

use crate::{
    cli::delegate::list,
    publish::history::{Change, Entry, NamedKey},
    verify::chain,
};

/// So many changes of one version are told; JSON has them all.
const SHOWN: usize = 40;

/// Role, version and time.
pub(super) fn head(entry: &Entry) -> String {
    let at = entry.at.map(|at| format!("  {}", at.format("%Y-%m-%d %H:%M:%S UTC"))).unwrap_or_default();
    format!("{} {}{at}", entry.role, entry.version)
}

/// Who signed it and what changed; or what is wrong with it.
pub(super) fn notes(entry: &Entry) -> Vec<String> {
    if let Some(fault) = &entry.fault {
        return vec![chain(fault)];
    }
    let mut notes = vec![format!("by          {}", keys(&entry.signers))];
    let changes = changes(&entry.changes);
    let more = changes.len().saturating_sub(SHOWN);
    notes.extend(changes.into_iter().take(SHOWN));
    if more > 0 {
        notes.push(format!("and {more} changes more: -o json lists them"));
    }
    if entry.changes.is_empty() {
        let what =
            if entry.version == 1 { "empty       says nothing yet" } else { "unchanged   signed again" };
        notes.push(what.to_owned());
    }
    if let Some(expires) = entry.expires {
        notes.push(format!("expires     {}", expires.format("%Y-%m-%d %H:%M UTC")));
    }
    notes
}

fn changes(all: &[Change]) -> Vec<String> {
    // What a tag says already is not said again for its digest.
    let told: BTreeSet<(bool, Digest)> = all.iter().filter_map(by_tag).collect();
    let repeats = |change: &&Change| match change {
        Change::Added { name, target } => is_digest(name) && told_by(&told, true, target),
        Change::Removed { name, before } => is_digest(name) && told_by(&told, false, before),
        _ => false,
    };
    all.iter().filter(|change| !repeats(change)).flat_map(lines).collect()
}

/// The digest that a tag means now (true), or does not mean any more (false).
fn by_tag(change: &Change) -> Option<(bool, Digest)> {
    match change {
        Change::Added { name, target } | Change::Changed { name, target, .. } if !is_digest(name) => {
            Some((true, target.digest()?))
        }
        Change::Removed { name, before } if !is_digest(name) => Some((false, before.digest()?)),
        _ => None,
    }
}

fn told_by(told: &BTreeSet<(bool, Digest)>, now: bool, target: &Target) -> bool {
    let of = target.digest().into_iter().chain(target.indexes());
    of.into_iter().any(|digest| told.contains(&(now, digest)))
}

fn is_digest(name: &str) -> bool {
    name.contains('@')
}

fn lines(change: &Change) -> Vec<String> {
    match change {
        Change::Added { name, target } => vec![format!("signed      {name}  {}", meaning(target))],
        Change::Changed { name, before, target } if before.digest() == target.digest() => {
            vec![format!("described   {name}  {}", meaning(target))]
        }
        Change::Changed { name, before, target } => vec![
            format!("moved       {name}  {}", meaning(target)),
            format!("  from      {}", digest(before)),
        ],
        Change::Removed { name, before } => vec![format!("removed     {name}  {}", digest(before))],
        Change::Revoked(revocation) => vec![format!("revoked     {}", taken_back(revocation))],
        Change::Reinstated(revocation) => vec![format!("reinstated  {}", taken_back(revocation))],
        Change::Forgotten(revocation) => vec![format!("no longer revoked  {}", taken_back(revocation))],
        Change::Delegated { role, keys: granted, threshold, paths } => {
            let scope = if paths.is_empty() { String::new() } else { format!("{} to ", Scope::spell(paths)) };
            vec![format!("delegated   {scope}{role}: {threshold} of {}", keys(granted))]
        }
        Change::Undelegated { role } => vec![format!("withdrew    the delegation to {role}")],
        Change::Keys { role, added, removed } => {
            let line = |what, keyed: &[NamedKey]| format!("{what}  {role}: {}", keys(keyed));
            let added = (!added.is_empty()).then(|| line("added key ", added));
            let removed = (!removed.is_empty()).then(|| line("took key  ", removed));
            added.into_iter().chain(removed).collect()
        }
        Change::Threshold { role, before, now } => {
            vec![format!("threshold   {role}: {now} signatures, before {before}")]
        }
        Change::Scope { role, before, now } => {
            vec![format!("scope       {role}: {}, before {}", Scope::spell(now), Scope::spell(before))]
        }
    }
}

fn meaning(target: &Target) -> String {
    let immutable = if target.is_immutable() { ", for good" } else { "" };
    format!("{}{immutable}", digest(target))
}

fn digest(target: &Target) -> String {
    target.digest().map_or_else(|| "(no sha256)".to_owned(), |digest| digest.to_string())
}

fn taken_back(revocation: &Revocation) -> String {
    let what = match revocation.digest {
        Some(digest) => digest.to_string(),
        None => Scope::spell(&revocation.paths),
    };
    format!("{what}  ({})", revocation.reason)
}

fn keys(keys: &[NamedKey]) -> String {
    if keys.is_empty() { "nobody".to_owned() } else { list(keys) }
}
