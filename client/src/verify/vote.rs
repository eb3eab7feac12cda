//! Counts who vouches for what (TAP 4, for one repository of images): pure.

use std::collections::BTreeSet;

use plimsoll_core::policy::{Require, Verdict, Vouch};

use super::ask::{Answer, Said, Signed};

/// What the roots of a `require` or `fallback` say together.
#[derive(Debug)]
pub(super) enum Vote<'a> {
    /// Enough of them vouch for the same digest, length and media type.
    Agreed {
        /// That.
        signed: &'a Signed,
        /// Those who vouch for it.
        by: Vec<&'a Answer>,
        /// Those who vouch for something else: too few to count.
        against: Vec<&'a Answer>,
    },
    /// Enough of them vouch, though not for the same; or enough for one thing, and enough for another.
    Conflict,
    /// One that must be heard failed, or one that could have made up the number.
    Failed(Verdict),
    /// All that could make up the number said that they do not vouch.
    Absent,
}

/// The vote of `answers`, one for each root of `require`.
///
/// A root that fails ends the vote with its failure unless it is optional; then it does not vouch, and its failure is the
/// result only if its word could have changed it: a failure is never proof of absence.
pub(super) fn vote<'a>(vouch: &Vouch, require: &Require, answers: &[&'a Answer]) -> Vote<'a> {
    let is_optional = |answer: &Answer| vouch.optional.contains(&answer.report.name);
    let failures = |optional: bool| {
        let failed = answers.iter().filter(move |answer| is_optional(answer) == optional);
        failed.filter_map(|answer| if let Said::Failed(verdict) = answer.said { Some(verdict) } else { None })
    };
    if let Some(failure) = gravest(failures(false)) {
        return Vote::Failed(failure);
    }
    // No answer at all is no basis for anything.
    if answers.is_empty() {
        return Vote::Failed(Verdict::Untrusted);
    }
    let enough = |answers: &[&Answer]| {
        let names: BTreeSet<&str> = answers.iter().map(|answer| answer.report.name.as_str()).collect();
        let all = match require {
            // Those that are optional cannot stand in for those that are not.
            Require::All(roots) => {
                roots.iter().all(|root| vouch.optional.contains(root) || names.contains(root.as_str()))
            }
            Require::Any(_) | Require::Threshold { .. } => true,
        };
        all && names.len() >= vouch.needed(require)
    };
    let vouching: Vec<&Answer> =
        answers.iter().copied().filter(|answer| matches!(answer.said, Said::Signed(_))).collect();
    let mut agreeing = groups(&vouching).into_iter().filter(|(_, group)| enough(group));
    match (agreeing.next(), agreeing.next()) {
        (Some((signed, by)), None) => {
            let against = vouching.into_iter().filter(|answer| !by.iter().any(|other| is(answer, other)));
            return Vote::Agreed { signed, against: against.collect(), by };
        }
        (Some(_), Some(_)) => return Vote::Conflict,
        (None, _) => {}
    }
    if enough(&vouching) {
        return Vote::Conflict;
    }
    let silent = answers.iter().copied().filter(|answer| matches!(answer.said, Said::Failed(_)));
    let with_silent: Vec<&Answer> = vouching.iter().copied().chain(silent).collect();
    match gravest(failures(true)) {
        Some(failure) if enough(&with_silent) => Vote::Failed(failure),
        _ => Vote::Absent,
    }
}

/// Those who vouch, by what they vouch for.
fn groups<'a>(vouching: &[&'a Answer]) -> Vec<(&'a Signed, Vec<&'a Answer>)> {
    let mut groups: Vec<(&Signed, Vec<&Answer>)> = Vec::new();
    for &answer in vouching {
        let Said::Signed(signed) = &answer.said else { continue };
        match groups.iter_mut().find(|(known, _)| same(known, signed)) {
            Some((_, group)) => group.push(answer),
            None => groups.push((signed, vec![answer])),
        }
    }
    groups
}

/// Roots agree if digest, length and media type are the same.
fn same(a: &Signed, b: &Signed) -> bool {
    (a.digest, a.length, &a.media_type) == (b.digest, b.length, &b.media_type)
}

fn is(one: &Answer, other: &Answer) -> bool {
    std::ptr::eq(one, other)
}

/// The gravest failure. One that is no failure has no business here, and is not waved through.
pub(super) fn gravest(failures: impl Iterator<Item = Verdict>) -> Option<Verdict> {
    const FAILURES: [Verdict; 5] =
        [Verdict::Untrusted, Verdict::Rollback, Verdict::Expired, Verdict::Auth, Verdict::Unreachable];
    Verdict::gravest(
        failures.map(|verdict| if FAILURES.contains(&verdict) { verdict } else { Verdict::Untrusted }),
    )
}
