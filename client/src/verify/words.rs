//! Reasons and advice in words. They never suggest switching a check off.

use std::{fmt::Display, time::Duration};

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::{Digest, Reference, TargetName},
    policy::Verdict,
};

use super::{
    Part, RootReport, Verification,
    ask::{Answer, Said},
    decide::{Case, Presented},
    report::VERSION,
};
use crate::update::{Places, Session, Source};

const MAX_REASON: usize = 200;
const MAX_LINE: usize = 4000;
/// So many tags are named as examples.
const MAX_SHOWN: usize = 5;

/// An error and its sources, joined by `: `.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// A number of seconds for people, for example `42 s`, `5 min`, `3 h`, `12 days`.
pub fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// How old the view is that the verdict rests on, for people: `as of 5 min ago`, with the root's name where there are
/// several. Of several roots that decided the oldest view counts; of one that gave nothing that could be used, what was seen
/// last: `last seen 3 h ago`. None where no metadata was looked at.
pub fn as_of(v: &Verification) -> Option<String> {
    let decided = |root: &&RootReport| match (&v.revocation, v.verdict) {
        (Some(revocation), _) => root.name == revocation.root,
        (None, Verdict::Verified) => root.vouches,
        (None, verdict) => root.status == verdict && root.error.is_some(),
    };
    let looked_at = || v.roots.iter().filter(|root| root.timestamp_expires.is_some());
    let mut those: Vec<&RootReport> = looked_at().filter(decided).collect();
    if those.is_empty() {
        those = looked_at().collect();
    }
    // One that does not say how old it is could be the oldest.
    let root = those.into_iter().max_by_key(|root| root.age.unwrap_or(u64::MAX))?;
    let word = if root.fetched_at.is_some() { "as of" } else { "last seen" };
    let whose = if v.roots.len() > 1 { format!(" by root {}", root.name) } else { String::new() };
    Some(match root.age {
        Some(age) => format!("{word} {} ago{whose}", ago(age)),
        None => format!("{word} at a time that is not told{whose}"),
    })
}

/// A reason that somebody else wrote, as it may be shown: see [`printable`].
pub(super) fn reason(text: &str) -> String {
    printable(text).chars().take(MAX_REASON).collect()
}

/// Somebody else's words on one line that cannot move a terminal's cursor, fake a line or hide a part: control
/// characters, those that turn the direction of text and those that cannot be seen become spaces. At most 4,000
/// characters, ending in `…` if there were more.
pub fn printable(text: &str) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() || unseen(c) { ' ' } else { c });
    let mut line: String = chars.by_ref().take(MAX_LINE).collect();
    if chars.next().is_some() {
        line.push('…');
    }
    line
}

/// Characters that turn the direction of text around, end a line, or take no room.
fn unseen(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Why a verdict is what it is, where that does not follow from the verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// It follows.
    Plain,
    /// The name is not there in a view that ran out, and an absence needs a fresh one.
    StaleAbsence {
        /// The root whose view it is.
        root: String,
        /// How long ago it ran out, in seconds.
        by: u64,
    },
    /// A line of the policy refuses it.
    Denied {
        /// Which line.
        line: String,
        /// What it says, or what breaks it.
        detail: String,
        /// What to do.
        next: String,
    },
    /// A line of the policy allows it without any root.
    Allowed {
        /// Which line.
        line: String,
        /// Until when.
        until: DateTime<Utc>,
        /// Why, in the words of the policy's author.
        reason: String,
    },
}

/// The verdict on a reference about which nobody was asked.
fn unasked(verdict: Verdict, reference: &Reference, identity: &Reference, name: &TargetName) -> Verification {
    Verification {
        version: VERSION,
        verdict,
        exit_code: verdict.exit_code(),
        reference: reference.to_string(),
        identity: identity.to_string(),
        name: name.to_string(),
        scope: None,
        resolved: None,
        digest: None,
        media_type: None,
        size: None,
        presented: reference.digest,
        registry: None,
        registry_error: None,
        roots: Vec::new(),
        revocation: None,
        warnings: Vec::new(),
        reason: String::new(),
        next: None,
    }
}

/// No scope of the policy covers `identity`, which is what `reference` stands for.
pub(super) fn no_policy(reference: &Reference, identity: &Reference, name: &TargetName) -> Verification {
    let of = if reference.repository == identity.repository {
        String::new()
    } else {
        format!(", which {} stands for", reference.repository)
    };
    Verification {
        reason: format!(
            "no scope of your policy covers {}{of}, so nobody may vouch for it",
            identity.repository
        ),
        next: Some(
            "ask its publisher for the complete `plimsoll trust add` line; `plimsoll trust list` shows what is covered \
             now"
                .to_owned(),
        ),
        ..unasked(Verdict::NoPolicy, reference, identity, name)
    }
}

/// The name would be too long inside `root`, by the `map` of the scope `pattern`.
pub(super) fn no_name(
    reference: &Reference,
    identity: &Reference,
    name: &TargetName,
    pattern: &str,
    root: &str,
) -> Verification {
    Verification {
        scope: Some(pattern.to_owned()),
        reason: format!(
            "map of the scope {pattern} makes a name of it that is longer than a repository's may be, so root {root} cannot \
             hold it"
        ),
        next: Some(format!("shorten what `map` names for {root}")),
        ..unasked(Verdict::PolicyDeny, reference, identity, name)
    }
}

/// There was no time left.
pub(super) fn late(whole: Duration) -> String {
    format!("there was no answer before the deadline of {}", ago(whole.as_secs()))
}

/// A root that vouches for something else than enough others do.
pub(super) fn disagrees(answer: &Answer) -> String {
    let what = match &answer.said {
        Said::Signed(signed) => signed.digest.to_string(),
        Said::Absent | Said::ScopeRevoked(..) | Said::Failed(_) => "nothing".to_owned(),
    };
    format!("root {} vouches for something else under this name: {what}", answer.report.name)
}

/// What a person should look at when a root gave an answer.
pub(super) fn notes<S: Source>(root: &str, session: &Session<Places<S>>) -> Vec<String> {
    let mut notes = Vec::new();
    let place = session.location();
    if session.equivocation() {
        notes.push(format!(
            "{place} shows another timestamp under a version seen before: two signers hold its key, or it was stolen; \
             tell whoever runs it"
        ));
    }
    if let Some(why) = session.unremembered() {
        notes.push(format!(
            "what {place} says was checked against what is remembered, but cannot be remembered itself ({}): until it can, \
             the next run would not notice a step back to something older that is still fresh",
            chain(why)
        ));
    }
    notes.extend(session.skipped().iter().map(|(skipped, why)| {
        format!(
            "of the places of root {root}, {skipped} gave nothing that could be used ({}); {place} did",
            chain(why)
        )
    }));
    notes
}

/// What a person should look at although it does not change the verdict; `more` besides.
pub(super) fn warnings(case: &Case<'_>, verdict: Verdict, more: Vec<String>) -> Vec<String> {
    let answers = || case.answers.iter().chain(case.fallback.unwrap_or(case.beside));
    let mut warnings: Vec<String> = answers().flat_map(|answer| answer.notes.iter().cloned()).collect();
    warnings.extend(answers().filter_map(|answer| {
        let by = answer.report.stale_by?;
        Some(format!(
            "what {} says ran out {} ago; your policy takes it for a while (max-staleness), so what was revoked since is \
             not known here",
            answer.report.source,
            ago(by)
        ))
    }));
    warnings.extend(answers().filter_map(|answer| match &answer.said {
        Said::Failed(failure) if answer.report.part == Part::Optional && verdict != *failure => {
            Some(format!(
                "root {}, which is optional, does not vouch: {failure} ({})",
                answer.report.name,
                answer.report.error.as_deref().unwrap_or_default()
            ))
        }
        _ => None,
    }));
    warnings.extend(more);
    if let (Verdict::Absent, Presented::Failed { why, .. }) = (verdict, case.presented) {
        warnings.push(format!("whether the registry hands out something revoked could not be seen: {why}"));
    }
    warnings
}

/// What to know of the registry's tag where a digest is written beside it and `signed` is what it should point to.
pub(super) fn drift(case: &Case<'_>, signed: &Digest) -> Option<String> {
    let (Presented::Written(_), Some(tag)) = (case.presented, &case.reference.tag) else { return None };
    match case.beside_digest {
        Presented::Tag(digest) if digest != signed => {
            let answers = || case.answers.iter().chain(case.fallback.unwrap_or(case.beside));
            let taken_back = answers().any(|answer| answer.revokes(digest).is_some());
            let what =
                if taken_back { "which was taken back" } else { "which is not what is signed under it" };
            Some(format!(
                "the registry's tag {tag} points to {digest}, {what}: whoever pulls by the tag alone gets that; tell the \
                 publisher"
            ))
        }
        Presented::NoSuchTag => Some(format!(
            "the registry has no tag {tag}, though it is signed: it was deleted or is being withheld"
        )),
        Presented::Failed { why, .. } => {
            Some(format!("what the registry's tag {tag} points to could not be seen: {why}"))
        }
        _ => None,
    }
}

/// What to do about a tag that does not meet `requirement`, where `tags` do.
pub(super) fn meeting(case: &Case<'_>, requirement: &impl Display, tags: &[String]) -> String {
    let repository = &case.identity.repository.name;
    match tags {
        [] => format!(
            "use a tag that meets `{requirement}`; none was found that is signed where this one is, so ask the publisher of \
             {repository} to sign such a version"
        ),
        tags => {
            let shown = tags[..tags.len().min(MAX_SHOWN)].join(", ");
            let more = if tags.len() > MAX_SHOWN { " and others" } else { "" };
            format!("use a tag that meets `{requirement}`; signed are {shown}{more}")
        }
    }
}

/// What to do where the exception of `allow-digest` is over.
pub(super) fn exception_ended(case: &Case<'_>) -> String {
    format!(
        "look at `until` of the scope {}: ask whoever wrote the policy who signs {} now, and is to be required instead",
        case.scope.pattern, case.identity.repository.name
    )
}

/// What to do where `allow-digest` lists `digests`, and none of them is presented.
pub(super) fn use_listed(case: &Case<'_>, digests: &[Digest]) -> String {
    let first = digests.first().map_or_else(String::new, |digest| {
        let tag = case.reference.tag.as_ref().map_or_else(String::new, |tag| format!(":{tag}"));
        format!(", as {}{tag}@{digest}", case.reference.repository)
    });
    format!(
        "look at `digests` of the scope {}: use one of them by its digest{first}, or ask whoever wrote the policy what is to \
         be used",
        case.scope.pattern
    )
}

/// Fills in reason and next step.
pub(super) fn explain(v: &mut Verification, case: &Case<'_>, why: Why) {
    let (reference, presented) = (case.reference, case.presented);
    let repository = &case.identity.repository.name;
    // The root whose own failure gave the verdict, if one did.
    let failed = v.roots.iter().find(|root| root.status == v.verdict && root.error.is_some());
    let error = match (failed, presented) {
        (Some(root), _) => {
            let error = root.error.as_deref().unwrap_or_default();
            format!(" ({}: {error})", root.name)
        }
        (None, Presented::Failed { why, .. }) => format!(" ({why})"),
        _ => String::new(),
    };
    let digest =
        |digest: Option<Digest>| digest.map_or_else(|| "nothing".to_owned(), |digest| digest.to_string());
    // Those of a fallback that nobody turned to vouch for nothing.
    let voices = if case.fallback.is_some() { v.roots.len() } else { case.answers.len() };
    let voices = &v.roots[..voices];
    let vouching: Vec<&RootReport> = voices.iter().filter(|root| root.status == Verdict::Verified).collect();
    // What it was asked for, where a root knows it by another name: a wrong `map` is to be seen.
    let of_absent = |root: &&RootReport| match &why {
        Why::StaleAbsence { root: stale, .. } => root.name == *stale,
        _ => root.status == Verdict::Absent,
    };
    let mapped: Vec<String> = voices
        .iter()
        .filter(of_absent)
        .filter(|root| root.target != v.name)
        .map(|root| format!("{} in root {}", root.target, root.name))
        .collect();
    let asked = match mapped.is_empty() {
        true => v.name.clone(),
        false => format!("{} (called {})", v.name, mapped.join(" and ")),
    };
    let named = if mapped.is_empty() { "this name".to_owned() } else { asked.clone() };
    let (reason, next) = match (v.verdict, why) {
        (_, Why::Denied { line, detail, next }) => {
            (format!("your policy refuses it: {detail} ({line})"), Some(next))
        }
        (_, Why::Allowed { line, until, reason }) => (
            format!("your policy allows this digest until {} without asking anybody: {reason} ({line})", day(until)),
            None,
        ),
        (_, Why::StaleAbsence { root, by }) => (
            format!(
                "root {root} does not list {asked}, but what it says ran out {} ago: max-staleness lets a stale view vouch, \
                 and only a fresh one proves that a name is not signed",
                ago(by)
            ),
            Some("bring newer trust metadata here and run it again; if it stays, tell whoever runs the trust repository".to_owned()),
        ),
        (Verdict::Verified, _) => (signers(v), None),
        (Verdict::Absent, _) if !vouching.is_empty() => (
            format!(
                "fewer roots than your policy requires have signed {named}, by trust metadata that is complete and fresh: \
                 {} {}, {} not",
                names(&vouching),
                if vouching.len() == 1 { "has" } else { "have" },
                names(&voices.iter().filter(|root| root.status != Verdict::Verified).collect::<Vec<_>>()),
            ),
            Some(format!("ask those who have not to sign {repository}")),
        ),
        (Verdict::Absent, _) => (
            format!(
                "nobody who may speak about it has signed this name: its trust metadata is complete and fresh, and \
                 {asked} is not in it"
            ),
            Some(match mapped.is_empty() {
                true => format!("check the name; if it is right, ask the publisher of {repository} to sign it"),
                false => format!(
                    "check the name, and `map` of the scope {}; if they are right, ask the publisher of {repository} to \
                     sign it",
                    case.scope.pattern
                ),
            }),
        ),
        (Verdict::NoSuchTag, _) => (
            format!("the publisher signed it as {}, but the registry has no such tag", digest(v.digest)),
            Some("the tag was deleted or is being withheld: ask who runs the registry".to_owned()),
        ),
        (Verdict::Mismatch, _) => (
            format!(
                "the publisher signed {}, but {} is presented: the tag was moved without a signature, or somebody \
                 exchanged the image",
                digest(v.digest),
                digest(v.presented)
            ),
            Some(format!(
                "do not run it; tell the publisher. `plimsoll resolve {}` prints what was signed",
                without_digest(reference)
            )),
        ),
        (Verdict::Revoked, _) => (
            v.revocation.as_ref().map_or_else(String::new, |revocation| {
                let root = v.roots.iter().find(|root| root.name == revocation.root && root.error.is_some());
                let seen = root.map_or_else(String::new, |root| {
                    format!(" (as seen before; asked now, {} is {})", root.name, root.status)
                });
                format!(
                    "taken back by {} of {} on {}: {}{seen}",
                    revocation.role,
                    revocation.root,
                    day(revocation.at),
                    revocation.reason
                )
            }),
            Some("do not run it; stop what runs it already, and move to a version signed since".to_owned()),
        ),
        (Verdict::Conflict, _) => (
            format!(
                "the roots that your policy requires signed different content under this name: {}",
                vouching
                    .iter()
                    .map(|root| format!("{} signed {}", root.name, digest(root.digest)))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            Some("do not run it; ask the publishers which one they mean".to_owned()),
        ),
        // Each of these has its own line.
        (Verdict::PolicyDeny | Verdict::NoPolicy, _) => (String::new(), None),
        (Verdict::Expired, _) => (
            format!(
                "the trust metadata ran out: either newer metadata is being withheld from you, or its signer has \
                 stopped{error}"
            ),
            Some("check this machine's clock and run it again; if it stays, tell whoever runs the trust repository".to_owned()),
        ),
        (Verdict::Rollback, _) => (
            format!("older metadata was served than there has been: somebody turns back the clock{error}"),
            Some(
                "do not run anything from there; ask who runs the registry whether a backup was restored, or somebody \
                 tampers"
                    .to_owned(),
            ),
        ),
        (Verdict::Untrusted, _) if failed.is_some_and(|root| root.unpublished) => (
            format!("it was given to a team that has signed nothing yet{error}"),
            Some(format!("ask the team behind {repository} to sign it; until then nobody vouches for it")),
        ),
        (Verdict::Untrusted, _) => (
            format!("what was served is not what the keys you trust have signed{error}"),
            Some("do not run it; ask who runs the registry and the trust repository. Trying again will not help".to_owned()),
        ),
        (Verdict::Unreachable, _) => (
            format!("nothing could be learned about it, neither good nor bad{error}"),
            Some("check the address and the network, and run it again".to_owned()),
        ),
        (Verdict::Auth, _) => (
            format!("the registry does not let you read what is needed to decide{error}"),
            Some("log in (`docker login HOST`), or ask for read access to the image and its trust repository".to_owned()),
        ),
    };
    v.reason = reason;
    v.next = next;
}

fn signers(v: &Verification) -> String {
    let each = v.roots.iter().filter(|root| root.vouches).map(|root| {
        let fallback = if root.part == Part::Fallback { ", the fallback" } else { "" };
        format!("{} (root {}{fallback})", root.path.join(" > "), root.name)
    });
    format!("signed by {}", each.collect::<Vec<_>>().join(" and "))
}

/// The names of roots, for people.
fn names(roots: &[&RootReport]) -> String {
    roots.iter().map(|root| root.name.as_str()).collect::<Vec<_>>().join(" and ")
}

/// The reference by its tag; without one, where a tag would stand.
pub(super) fn by_tag(reference: &Reference) -> String {
    let tag = if reference.tag.is_none() { ":TAG" } else { "" };
    format!("{}{tag}", without_digest(reference))
}

fn without_digest(reference: &Reference) -> String {
    Reference { digest: None, ..reference.clone() }.to_string()
}

pub(super) fn day(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printable_is_one_line_of_what_can_be_seen() {
        assert_eq!(printable("a\x1b[2J\r\nb\u{9b}31m\u{202e}c\u{200b}é"), "a [2J  b 31m c é");
        assert_eq!(printable(&"x".repeat(MAX_LINE)).chars().count(), MAX_LINE);
        assert_eq!(printable(&"x".repeat(MAX_LINE * 2)).chars().count(), MAX_LINE + 1);
        assert_eq!(reason(&"x".repeat(MAX_LINE)).len(), MAX_REASON);
    }
}
