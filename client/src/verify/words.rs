//! Reasons and advice in words. They never suggest switching a check off.

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::{Reference, TargetName},
    policy::Verdict,
};

use super::{Presented, RootReport, Verification, ask::Answer};

const MAX_REASON: usize = 200;
const MAX_LINE: usize = 4000;

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

/// No scope of the policy covers `reference`.
pub(super) fn no_policy(reference: &Reference, name: &TargetName) -> Verification {
    Verification {
        verdict: Verdict::NoPolicy,
        reference: reference.to_string(),
        name: name.to_string(),
        scope: None,
        resolved: None,
        digest: None,
        presented: reference.digest,
        length: None,
        media_type: None,
        roots: Vec::new(),
        revocation: None,
        warnings: Vec::new(),
        detail: format!("no scope of your policy covers {}, so nobody may vouch for it", reference.repository),
        next: Some(
            "ask its publisher for the complete `plimsoll trust add` line; `plimsoll trust list` shows what is covered \
             now"
                .to_owned(),
        ),
    }
}

/// What a person should look at although it does not change the verdict.
pub(super) fn warnings(answers: &[Answer], verdict: Verdict, presented: &Presented) -> Vec<String> {
    let mut warnings: Vec<String> = answers
        .iter()
        .filter(|answer| answer.equivocation)
        .map(|answer| {
            format!(
                "{} shows another timestamp under a version seen before: two signers hold its key, or it was stolen; \
                 tell whoever runs it",
                answer.report.repository
            )
        })
        .collect();
    warnings.extend(answers.iter().filter_map(|answer| {
        let why = answer.unremembered.as_ref()?;
        Some(format!(
            "what {} says was checked against what is remembered, but cannot be remembered itself ({why}): until it can, \
             the next run would not notice a step back to something older that is still fresh",
            answer.report.repository
        ))
    }));
    warnings.extend(answers.iter().filter_map(|answer| {
        let by = answer.report.stale_by?;
        Some(format!(
            "what {} says ran out {} ago; your policy takes it for a while (max-staleness), so what was revoked since is \
             not known here",
            answer.report.repository,
            ago(by)
        ))
    }));
    if let (Verdict::Absent, Presented::Failed { why, .. }) = (verdict, presented) {
        warnings.push(format!("whether the registry hands out something revoked could not be seen: {why}"));
    }
    warnings
}

/// Fills in detail and next step.
pub(super) fn explain(v: &mut Verification, reference: &Reference, presented: &Presented) {
    let repository = &reference.repository.name;
    // The root whose own failure gave the verdict, if one did.
    let failed = v.roots.iter().find(|root| root.verdict == v.verdict && root.error.is_some());
    let error = match (failed, presented) {
        (Some(root), _) => {
            let error = root.error.as_deref().unwrap_or_default();
            format!(" ({}: {error})", root.name)
        }
        (None, Presented::Failed { why, .. }) => format!(" ({why})"),
        _ => String::new(),
    };
    let digest = |digest: Option<plimsoll_core::oci::Digest>| {
        digest.map_or_else(|| "nothing".to_owned(), |digest| digest.to_string())
    };
    let (detail, next) = match v.verdict {
        Verdict::Verified => (signers(&v.roots), None),
        Verdict::Absent => (
            format!(
                "nobody who may speak about it has signed this name: its trust metadata is complete and fresh, and {} \
                 is not in it",
                v.name
            ),
            Some(format!("check the name; if it is right, ask the publisher of {repository} to sign it")),
        ),
        Verdict::NoSuchTag => (
            format!("the publisher signed it as {}, but the registry has no such tag", digest(v.digest)),
            Some("the tag was deleted or is being withheld: ask who runs the registry".to_owned()),
        ),
        Verdict::Mismatch => (
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
        Verdict::Revoked => (
            v.revocation.as_ref().map_or_else(String::new, |revocation| {
                format!(
                    "taken back by {} of {} on {}: {}",
                    revocation.role,
                    revocation.root,
                    day(revocation.at),
                    revocation.reason
                )
            }),
            Some("do not run it; stop what runs it already, and move to a version signed since".to_owned()),
        ),
        Verdict::Conflict => (
            "the roots that your policy requires signed different content under this name".to_owned(),
            Some("do not run it; ask the publishers which one they mean".to_owned()),
        ),
        Verdict::PolicyDeny => (
            "this digest was signed earlier, but no tag of the same role means it now; the policy accepts current digests only"
                .to_owned(),
            Some(format!("use a digest that a tag of {repository} means now: `plimsoll resolve {}:TAG`", reference.repository)),
        ),
        Verdict::NoPolicy => (String::new(), None),
        Verdict::Expired => (
            format!(
                "the trust metadata ran out: either newer metadata is being withheld from you, or its signer has \
                 stopped{error}"
            ),
            Some("check this machine's clock and run it again; if it stays, tell whoever runs the trust repository".to_owned()),
        ),
        Verdict::Rollback => (
            format!("older metadata was served than this machine has seen: somebody turns back the clock{error}"),
            Some(
                "do not run anything from there; ask who runs the registry whether a backup was restored, or somebody \
                 tampers"
                    .to_owned(),
            ),
        ),
        Verdict::Untrusted if failed.is_some_and(|root| root.unpublished) => (
            format!("it was given to a team that has signed nothing yet{error}"),
            Some(format!("ask the team behind {repository} to sign it; until then nobody vouches for it")),
        ),
        Verdict::Untrusted => (
            format!("what was served is not what the keys you trust have signed{error}"),
            Some("do not run it; ask who runs the registry and the trust repository. Trying again will not help".to_owned()),
        ),
        Verdict::Unreachable => (
            format!("nothing could be learned about it, neither good nor bad{error}"),
            Some("check the address and the network, and run it again".to_owned()),
        ),
        Verdict::Auth => (
            format!("the registry does not let you read what is needed to decide{error}"),
            Some("log in (`docker login HOST`), or ask for read access to the image and its trust repository".to_owned()),
        ),
    };
    v.detail = detail;
    v.next = next;
}

fn signers(roots: &[RootReport]) -> String {
    let each: Vec<String> =
        roots.iter().map(|root| format!("{} (root {})", root.path.join(" > "), root.name)).collect();
    format!("signed by {}", each.join(" and "))
}

fn without_digest(reference: &Reference) -> String {
    Reference { digest: None, ..reference.clone() }.to_string()
}

fn day(at: DateTime<Utc>) -> String {
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
