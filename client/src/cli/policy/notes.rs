//! What a policy may say and hardly means: lines that never apply, and roots that cannot vouch as they are asked to.

use chrono::{DateTime, Utc};
use plimsoll_core::{
    policy::{DigestRefs, Policy, Rule, Scope, ScopeEntry},
    tuf::{Document, Root},
};

use crate::{home::Home, trust::load_root};

/// The notes on `policy`, in its order.
pub(super) fn notes(home: &Home, policy: &Policy, now: DateTime<Utc>) -> Vec<String> {
    let mut notes = Vec::new();
    for entry in policy.scopes() {
        let pattern = &entry.pattern;
        if let Some(why) = never(policy, entry) {
            notes.push(format!("no reference is ever in the scope {pattern}: {why}"));
        }
        if let Rule::AllowDigest { until, .. } = &entry.rule
            && now >= *until
        {
            notes.push(format!(
                "what the scope {pattern} allowed ended on {}",
                until.format("%Y-%m-%d %H:%M UTC")
            ));
        }
        if let (Scope::Tags { .. }, Rule::Vouch(vouch)) = (&entry.scope, &entry.rule)
            && vouch.digest_refs == DigestRefs::Retained
        {
            notes.push(format!(
                "`digest-refs` of the scope {pattern} never applies: a scope of tags covers no reference by digest alone"
            ));
        }
        for name in entry.roots() {
            if let Some(own) = outside(home, policy, entry, name) {
                notes.push(format!(
                    "the pinned root {name} says that it speaks for {own} only, which is not all of the scope {pattern}: \
                     the rest would be ABSENT; `map` says what names are called inside a root"
                ));
            }
        }
    }
    let profiles: Vec<Policy> =
        policy.profiles().filter_map(|name| policy.clone().with_profile(name).ok()).collect();
    let used = |name: &str| {
        [policy]
            .into_iter()
            .chain(&profiles)
            .flat_map(Policy::scopes)
            .any(|scope| scope.roots().contains(&name))
    };
    let unused = policy.root.keys().filter(|name| !used(name));
    notes.extend(unused.map(|name| format!("no scope names [root.{name}]")));
    notes
}

/// Why no reference can be in the scope, if that is so.
fn never(policy: &Policy, entry: &ScopeEntry) -> Option<String> {
    let literal = match &entry.scope {
        Scope::Repository(name) | Scope::Tags { repository: name, .. } => name.clone(),
        Scope::Children(prefix) | Scope::Below(prefix) => prefix.clone(),
    };
    let short = match &entry.scope {
        Scope::Repository(_) | Scope::Tags { .. } => !literal.contains('/'),
        Scope::Children(prefix) => prefix.is_empty(),
        Scope::Below(_) => false,
    };
    if entry.host == "docker.io" && short {
        return Some("names of one part are below library/ there, as docker.io/library/nginx".to_owned());
    }
    let below = |name: &str, prefix: &str| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let names = format!("{}/{literal}", entry.host);
    let names = names.trim_end_matches('/');
    let away = policy.remaps().iter().find(|remap| below(names, &remap.from))?;
    // A bare host takes in no name that is all of `from`.
    if names == away.from
        && !away.to.contains('/')
        && !matches!(entry.scope, Scope::Children(_) | Scope::Below(_))
    {
        return None;
    }
    let back = policy.remaps().iter().any(|remap| below(names, &remap.to) || below(&remap.to, names));
    (!back).then(|| format!("the remap from {} judges what is there as {}", away.from, away.to))
}

/// What the root says that it speaks for, if that is less than the scope asks it about.
fn outside(home: &Home, policy: &Policy, entry: &ScopeEntry, name: &str) -> Option<String> {
    let Rule::Vouch(vouch) = &entry.rule else { return None };
    let document = Document::<Root>::parse("root", &load_root(home, policy.root.get(name)?).ok()?).ok()?;
    let own = document.signed.common.identity.as_ref()?.scope.clone();
    let parents: Vec<Scope> = own.iter().filter_map(|scope| scope.parse().ok()).collect();
    let asked = vouch.map.get(name).unwrap_or(&entry.scope);
    let inside = own.is_empty() || parents.iter().any(|parent| asked.within(parent));
    (!inside).then(|| own.join(", "))
}
