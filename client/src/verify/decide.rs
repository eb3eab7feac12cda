//! The decision: pure, from what the roots and the registry said to one verdict.

use plimsoll_core::{
    oci::{Digest, Reference, TargetName},
    policy::Verdict,
    tuf::Revocation,
};

use super::{
    RevocationReport, Verification,
    ask::{Answer, Said, Signed},
    words,
};

/// What stands to be judged against the signed digest.
#[derive(Debug, Clone)]
pub(super) enum Presented {
    /// Nobody was asked.
    Unasked,
    /// Written in the reference, or what the registry's tag points to.
    Digest(Digest),
    /// The registry has no such tag.
    NoSuchTag,
    /// The registry gave no usable answer.
    Failed {
        /// What that means.
        verdict: Verdict,
        /// In words.
        why: String,
    },
}

impl Presented {
    fn digest(&self) -> Option<Digest> {
        if let Self::Digest(digest) = self { Some(*digest) } else { None }
    }
}

/// Failures, the gravest first: what must not be retried before what may be.
const GRAVITY: [Verdict; 5] =
    [Verdict::Untrusted, Verdict::Rollback, Verdict::Expired, Verdict::Auth, Verdict::Unreachable];

/// The verdict on `reference` and its reasons. `answers` holds one answer for each required root.
pub(super) fn decide(
    reference: &Reference,
    name: &TargetName,
    scope: &str,
    answers: &[Answer],
    presented: &Presented,
) -> Verification {
    let signed: Vec<&Signed> = answers
        .iter()
        .filter_map(|answer| if let Said::Signed(signed) = &answer.said { Some(signed) } else { None })
        .collect();
    let agreed = signed.first().filter(|first| signed.iter().all(|other| same(first, other)));
    let revocation = revocation(answers, &signed, presented.digest());
    let verdict = match &revocation {
        // Before everything else: one required root that takes it back is enough, whatever the others say or fail to.
        Some(_) => Verdict::Revoked,
        None => verdict(answers, agreed.copied(), presented),
    };
    let mut verification = Verification {
        verdict,
        reference: reference.to_string(),
        name: name.to_string(),
        scope: Some(scope.to_owned()),
        resolved: None,
        digest: agreed.map(|signed| signed.digest),
        presented: presented.digest(),
        length: agreed.map(|signed| signed.length),
        media_type: agreed.and_then(|signed| signed.media_type.clone()),
        roots: answers.iter().map(|answer| answer.report.clone()).collect(),
        revocation,
        warnings: words::warnings(answers, verdict, presented),
        detail: String::new(),
        next: None,
    };
    if let (Verdict::Verified, Some(digest)) = (verdict, verification.digest) {
        verification.resolved = Some(format!("{}@{digest}", reference.repository));
    }
    words::explain(&mut verification, reference, presented);
    verification
}

fn verdict(answers: &[Answer], agreed: Option<&Signed>, presented: &Presented) -> Verdict {
    let failed = |verdict: &Verdict| {
        answers.iter().any(|answer| matches!(answer.said, Said::Failed(failure) if failure == *verdict))
    };
    if let Some(failure) = GRAVITY.into_iter().find(failed) {
        return failure;
    }
    // No answer at all, or one with a failure that has no place in the list, is no basis for anything.
    if answers.is_empty() || answers.iter().any(|answer| matches!(answer.said, Said::Failed(_))) {
        return Verdict::Untrusted;
    }
    if answers.iter().any(|answer| matches!(answer.said, Said::Absent)) {
        return Verdict::Absent;
    }
    let Some(signed) = agreed else { return Verdict::Conflict };
    match presented {
        Presented::NoSuchTag => return Verdict::NoSuchTag,
        Presented::Failed { verdict, .. } => return *verdict,
        // So is a digest entry inert unless its hash says the same as its name, which is what is presented.
        Presented::Digest(digest) if *digest != signed.digest => return Verdict::Mismatch,
        Presented::Digest(_) | Presented::Unasked => {}
    }
    let current = answers.iter().all(|answer| matches!(&answer.said, Said::Signed(signed) if signed.current));
    if current { Verdict::Verified } else { Verdict::PolicyDeny }
}

/// Roots agree if digest, size and type are the same.
fn same(a: &Signed, b: &Signed) -> bool {
    (a.digest, a.length, &a.media_type) == (b.digest, b.length, &b.media_type)
}

/// The first revocation that concerns the name, a digest signed under it, or the digest presented.
fn revocation(answers: &[Answer], signed: &[&Signed], presented: Option<Digest>) -> Option<RevocationReport> {
    answers.iter().find_map(|answer| {
        if let Said::ScopeRevoked(role, revocation) = &answer.said {
            return Some(report(answer, role, revocation));
        }
        let concerns = |digest: &Digest| {
            presented.as_ref() == Some(digest) || signed.iter().any(|signed| signed.digest == *digest)
        };
        let (role, revocation) = answer
            .revocations
            .iter()
            .find(|(_, revocation)| revocation.digest.as_ref().is_some_and(concerns))?;
        Some(report(answer, role, revocation))
    })
}

fn report(answer: &Answer, role: &str, revocation: &Revocation) -> RevocationReport {
    RevocationReport {
        root: answer.report.name.clone(),
        role: role.to_owned(),
        digest: revocation.digest,
        reason: words::printable(&revocation.reason),
        at: revocation.at,
    }
}
