//! The decision: pure, from what the roots and the registry said to one verdict. docs/policy.md has it in words.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::{Digest, Reference, TargetName},
    policy::{Constraint, DigestRefs, Require, Rule, ScopeEntry, Verdict, Vouch},
    tuf::Revocation,
};

use super::{
    Part, RegistryReport, RevocationReport, Verification,
    ask::{Answer, Said, Signed},
    vote::{Vote, gravest, vote},
    words::{self, Why},
};

/// A reference, the scope of the policy that applies to it, and what is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case<'a> {
    /// As it was written, in full: that is where it would be fetched.
    pub(super) reference: &'a Reference,
    /// What the policy judges it as.
    pub(super) identity: &'a Reference,
    pub(super) name: &'a TargetName,
    pub(super) scope: &'a ScopeEntry,
    /// One answer for each root of `require`.
    pub(super) answers: &'a [Answer],
    /// One for each root with a veto that stands only in `fallback`: what it takes back holds, and so does its failure.
    pub(super) beside: &'a [Answer],
    /// One for each root of `fallback`, if they were asked.
    pub(super) fallback: Option<&'a [Answer]>,
    pub(super) presented: &'a Presented,
    /// What the registry's tag points to, where a digest is written beside the tag: told, and never decisive.
    pub(super) beside_digest: &'a Presented,
    pub(super) now: DateTime<Utc>,
}

impl Case<'_> {
    /// The registry's word on the tag, whether it is what is judged or not.
    fn registry(&self) -> &Presented {
        if let Presented::Written(_) = self.presented { self.beside_digest } else { self.presented }
    }
}

/// What stands to be judged against the signed digest.
#[derive(Debug, Clone)]
pub(super) enum Presented {
    /// Nobody was asked.
    Unasked,
    /// Written in the reference.
    Written(Digest),
    /// What the registry's tag points to.
    Tag(Digest),
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
        if let Self::Written(digest) | Self::Tag(digest) = self { Some(*digest) } else { None }
    }
}

/// What came out, before it is put into words.
struct Outcome {
    verdict: Verdict,
    /// What the roots agree on.
    agreed: Option<Signed>,
    /// The names of those who vouch for it, and count.
    by: Vec<String>,
    revocation: Option<RevocationReport>,
    why: Why,
    warnings: Vec<String>,
}

impl Outcome {
    fn of(verdict: Verdict) -> Self {
        let (by, warnings) = (Vec::new(), Vec::new());
        Self { verdict, agreed: None, by, revocation: None, why: Why::Plain, warnings }
    }
}

/// True if the roots of the scope's fallback are to be asked: all that are required said, freshly, that they do not vouch,
/// and the policy says what then.
pub(super) fn wants_fallback(vouch: &Vouch, answers: &[Answer]) -> bool {
    vouch.fallback.is_some() && no_fallback(answers).is_none()
}

/// Why these answers are no fresh proof of absence by every required root, if they are not.
fn no_fallback(answers: &[Answer]) -> Option<String> {
    let unproven = answers.iter().find(|answer| !matches!(answer.said, Said::Absent) || answer.is_stale())?;
    let root = &unproven.report.name;
    Some(if unproven.is_stale() {
        format!("the view of root {root} is stale")
    } else {
        format!("root {root} did not say so")
    })
}

/// True if the word of the registry on its tag can change the verdict, or tells that the tag drifted from what is signed.
pub(super) fn wants_registry(case: &Case<'_>, verifying: bool) -> bool {
    let written = case.reference.digest.is_some();
    match &case.scope.rule {
        Rule::Deny { .. } => false,
        // There is no other digest to allow.
        Rule::AllowDigest { until, .. } => !written && case.now < *until,
        Rule::Vouch(_) => match decide(case) {
            Verification { verdict: Verdict::Revoked, .. } => false,
            // Its word is told before a line of the policy that is not met.
            Verification { digest: Some(_), .. } => verifying,
            // Absent or failed, what it hands out may be something that was taken back.
            _ => !written && all(case).any(|answer| !answer.revocations.is_empty()),
        },
    }
}

fn all<'a>(case: &Case<'a>) -> impl Iterator<Item = &'a Answer> {
    case.answers.iter().chain(case.fallback.unwrap_or(case.beside))
}

/// The verdict and its reasons.
pub(super) fn decide(case: &Case<'_>) -> Verification {
    let outcome = match &case.scope.rule {
        Rule::Deny { reason } => Outcome {
            why: Why::Denied {
                line: line(case, "action"),
                detail: reason.clone(),
                next: "ask whoever wrote the policy what to use instead".to_owned(),
            },
            ..Outcome::of(Verdict::PolicyDeny)
        },
        Rule::AllowDigest { digests, until, reason } => {
            listed(case, &digests.iter().copied().collect::<Vec<_>>(), *until, reason)
        }
        Rule::Vouch(vouch) => vouched(case, vouch),
    };
    report(case, outcome)
}

/// `action = "allow-digest"`.
fn listed(case: &Case<'_>, digests: &[Digest], until: DateTime<Utc>, reason: &str) -> Outcome {
    let deny = |key: &str, detail: String, next: String| Outcome {
        why: Why::Denied { line: line(case, key), detail, next },
        ..Outcome::of(Verdict::PolicyDeny)
    };
    if case.now >= until {
        let detail = format!("the exception ended on {}", words::day(until));
        return deny("until", detail, words::exception_ended(case));
    }
    let not_presented = |detail: &str| deny("digests", detail.to_owned(), words::use_listed(case, digests));
    match case.presented {
        Presented::NoSuchTag => {
            not_presented("the registry has no such tag, so there is no digest that it could list")
        }
        Presented::Failed { verdict, .. } => Outcome::of(*verdict),
        Presented::Unasked => not_presented("no digest is presented that it could list"),
        Presented::Written(digest) | Presented::Tag(digest) if !digests.contains(digest) => {
            not_presented(&format!("{digest} is not among them"))
        }
        Presented::Written(digest) | Presented::Tag(digest) => {
            let signed = Signed {
                digest: *digest,
                length: None,
                media_type: None,
                current: true,
                version: None,
                at: None,
            };
            let why = Why::Allowed { line: line(case, "digests"), until, reason: reason.to_owned() };
            Outcome { agreed: Some(signed), why, ..Outcome::of(Verdict::Verified) }
        }
    }
}

/// The line of the policy that decided, for people.
fn line(case: &Case<'_>, key: &str) -> String {
    format!("{key} of the scope {}", case.scope.pattern)
}

/// Without `action`: roots vouch.
fn vouched(case: &Case<'_>, vouch: &Vouch) -> Outcome {
    let required: Vec<Answer> = case.answers.iter().map(|answer| heard(vouch, answer)).collect();
    let fallback: Option<Vec<Answer>> = case.fallback.map(|answers| {
        let unless_taken_back = |answer: &Answer| {
            let mut answer = heard(vouch, answer);
            // What any of those that are required took back is no case for a fallback, veto or not.
            if let Said::Signed(signed) = &answer.said
                && case.answers.iter().any(|required| required.revokes(&signed.digest).is_some())
            {
                answer.said = Said::Absent;
            }
            answer
        };
        answers.iter().map(unless_taken_back).collect()
    });
    let first: Vec<&Answer> = required.iter().collect();
    let (mut require, mut result) = (&vouch.require, vote(vouch, &vouch.require, &first));
    let mut warnings = Vec::new();
    if let (Vote::Absent, Some(instead)) = (&result, &vouch.fallback) {
        match (no_fallback(case.answers), &fallback) {
            (Some(why), _) => warnings.push(format!(
                "the fallback was not asked: that every required root lacks the name is not freshly proven ({why})"
            )),
            (None, Some(answers)) => {
                let second: Vec<&Answer> = answers.iter().collect();
                (require, result) = (instead, vote(vouch, instead, &second));
            }
            // Not asked yet.
            (None, None) => {}
        }
    }
    // An absence may be mended in what is not seen yet; a signature may be used for a while by the policy's leave.
    let mut why = Why::Plain;
    if let Vote::Absent = result {
        let voices = if std::ptr::eq(require, &vouch.require) {
            &required
        } else {
            fallback.as_ref().unwrap_or(&required)
        };
        let stale = voices.iter().find(|answer| matches!(answer.said, Said::Absent) && answer.is_stale());
        if let Some(stale) = stale {
            result = Vote::Failed(Verdict::Expired);
            why = Why::StaleAbsence {
                root: stale.report.name.clone(),
                by: stale.report.stale_by.unwrap_or_default(),
            };
        }
    }
    if fallback.is_none() {
        result = with_failures(vouch, result, case.beside);
    }
    let agreed = if let Vote::Agreed { signed, .. } = &result { Some((*signed).clone()) } else { None };
    let revocation = revocation(case, vouch, agreed.as_ref());
    let mut outcome = match (&revocation, result) {
        // Before everything else: one named root that takes it back is enough, whatever the others say or fail to.
        (Some(_), _) => Outcome::of(Verdict::Revoked),
        (None, Vote::Agreed { signed, by, against }) => {
            warnings.extend(against.iter().map(|answer| words::disagrees(answer)));
            let mut outcome = agreed_on(case, vouch, require, signed, &by);
            warnings.append(&mut outcome.warnings);
            outcome
        }
        (None, Vote::Conflict) => Outcome::of(Verdict::Conflict),
        // Not if a graver failure is to be told.
        (None, Vote::Failed(Verdict::Expired)) => Outcome { why, ..Outcome::of(Verdict::Expired) },
        (None, Vote::Failed(verdict)) => Outcome::of(verdict),
        (None, Vote::Absent) => Outcome::of(Verdict::Absent),
    };
    (outcome.agreed, outcome.revocation, outcome.warnings) = (agreed, revocation, warnings);
    outcome
}

/// The result of the required roots beside those that might take back what they say: one of these that fails, and is not
/// optional, counts like a required one.
fn with_failures<'a>(vouch: &Vouch, result: Vote<'a>, beside: &[Answer]) -> Vote<'a> {
    let failed = beside.iter().filter(|answer| !vouch.optional.contains(&answer.report.name));
    let failed = failed.filter_map(|answer| match answer.said {
        Said::Failed(verdict) => Some(verdict),
        _ => None,
    });
    let own = if let Vote::Failed(verdict) = result { Some(verdict) } else { None };
    match gravest(failed.chain(own)) {
        Some(verdict) => Vote::Failed(verdict),
        None => result,
    }
}

/// The answer as far as it counts: a root whose revocations have no veto does not vouch for what it took back itself.
fn heard(vouch: &Vouch, answer: &Answer) -> Answer {
    let mut answer = answer.clone();
    if !vouch.veto.contains(&answer.report.name) {
        let taken_back = match &answer.said {
            Said::ScopeRevoked(..) => true,
            Said::Signed(signed) => answer.revokes(&signed.digest).is_some(),
            Said::Absent | Said::Failed(_) => false,
        };
        if taken_back {
            answer.said = Said::Absent;
        }
    }
    answer
}

/// Enough roots vouch for `signed`: is it what is presented, and do they vouch as the policy wants it?
fn agreed_on(case: &Case<'_>, vouch: &Vouch, require: &Require, signed: &Signed, by: &[&Answer]) -> Outcome {
    match case.presented {
        Presented::NoSuchTag => return Outcome::of(Verdict::NoSuchTag),
        Presented::Failed { verdict, .. } => return Outcome::of(*verdict),
        // So is a digest entry inert unless its hash says the same as its name, which is what is presented.
        Presented::Written(digest) | Presented::Tag(digest) if *digest != signed.digest => {
            return Outcome::of(Verdict::Mismatch);
        }
        Presented::Written(_) | Presented::Tag(_) | Presented::Unasked => {}
    }
    let denied = |Broken { key, detail, next }: Broken| Outcome {
        why: Why::Denied { line: line(case, key), detail, next },
        ..Outcome::of(Verdict::PolicyDeny)
    };
    if let Some(Constraint::Tag(requirement)) = &vouch.constraint {
        let constraint = vouch.constraint.as_ref().expect("it was just looked at");
        let tag = case.identity.tag.as_ref();
        if !tag.is_some_and(|tag| constraint.admits(tag.as_str())) {
            let found = tag.map_or_else(
                || "there is no tag".to_owned(),
                |tag| format!("the tag is {tag}{}", no_version(tag.as_str())),
            );
            return denied(Broken {
                key: "constraint",
                detail: format!("the tag must be a version that meets `{requirement}`; {found}"),
                next: words::meeting(case, requirement, &tags_that_meet(case, constraint, by)),
            });
        }
    }
    let (mut passed, mut failed) = (Vec::new(), Vec::new());
    for &answer in by {
        match condition(case, vouch, answer) {
            None => passed.push(answer),
            Some(broken) => failed.push((answer, broken)),
        }
    }
    // The same vote again, without those who vouch otherwise than the policy wants it.
    match vote(vouch, require, &passed) {
        Vote::Agreed { .. } => {
            let warnings = failed.iter().map(|(answer, Broken { key, detail, .. })| {
                format!("root {} does not count: {detail} ({})", answer.report.name, line(case, key))
            });
            let warnings = warnings.collect();
            let by = passed.iter().map(|answer| answer.report.name.clone()).collect();
            Outcome { by, warnings, ..Outcome::of(Verdict::Verified) }
        }
        _ => {
            let broken = failed.into_iter().next().map(|(_, broken)| broken);
            denied(broken.expect("all of them together were enough"))
        }
    }
}

/// What to add to a version that misses a requirement since it is none.
fn no_version(text: &str) -> &'static str {
    if Constraint::is_version(text) { "" } else { ", which is no full semantic version, as 1.2.3 is" }
}

/// The tags of the repository that meet `constraint` and that each of the roots `by` signs where it signs this name, the
/// newest version first.
fn tags_that_meet(case: &Case<'_>, constraint: &Constraint, by: &[&Answer]) -> Vec<String> {
    let signed = |answer: &Answer| -> BTreeSet<String> {
        let repository = match case.scope.name_in(&answer.report.name, case.name) {
            Some(TargetName::Tag { repository, .. } | TargetName::Digest { repository, .. }) => repository,
            None => return BTreeSet::new(),
        };
        let prefix = format!("{repository}:");
        let role = answer.role.iter().flat_map(|role| role.signed.targets.range(prefix.clone()..));
        let tags = role.map_while(|(name, target)| Some((name.strip_prefix(&prefix)?, target)));
        let kept = tags.filter(|(tag, target)| {
            constraint.admits(tag) && target.digest().is_some_and(|digest| answer.revokes(&digest).is_none())
        });
        kept.map(|(tag, _)| tag.to_owned()).collect()
    };
    let common = by.iter().map(|answer| signed(answer)).reduce(|one, other| &one & &other);
    let mut tags: Vec<String> = common.into_iter().flatten().collect();
    tags.sort_by_cached_key(|tag| {
        let numbers = tag.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse::<u64>().ok());
        std::cmp::Reverse(numbers.collect::<Vec<_>>())
    });
    tags
}

/// A condition of the policy that is not met.
struct Broken {
    /// The key of the scope.
    key: &'static str,
    /// What breaks it.
    detail: String,
    /// What to do.
    next: String,
}

/// The condition of the policy under which this root's word does not count, and why; none if it counts.
fn condition(case: &Case<'_>, vouch: &Vouch, answer: &Answer) -> Option<Broken> {
    let (root, report) = (&answer.report.name, &answer.report);
    let broken = |key, detail, next| Some(Broken { key, detail, next });
    let last = report.path.last().map_or("targets", String::as_str);
    let Said::Signed(signed) = &answer.said else { return None };
    if let Some(pin) = vouch.pin.get(root) {
        let on_path = report.path.contains(&pin.role);
        let signers =
            report.roles.iter().find(|role| role.role == pin.role && on_path).map(|role| &role.keys);
        let Some(signers) = signers else {
            return broken(
                "pin",
                format!("root {root} vouches by {}, not by {}", report.path.join(" > "), pin.role),
                format!(
                    "ask those behind root {root} why {} does not speak for it any more; if they gave it away for good, \
                     whoever wrote the policy can pin who has it now",
                    pin.role
                ),
            );
        };
        if let Some(key) = pin.keys.iter().find(|key| !signers.contains(key)) {
            return broken(
                "pin",
                format!("{} of root {root} is not signed by the key {key}", pin.role),
                format!(
                    "ask the holder of that key to sign {} of root {root}; if it was replaced for good, whoever wrote the \
                     policy can pin the new one",
                    pin.role
                ),
            );
        }
    }
    if vouch.digest_refs == DigestRefs::Current && !signed.current {
        let why = format!("root {root} signed this digest earlier, but no tag of the same role means it now");
        return broken(
            "digest-refs",
            why,
            format!("`plimsoll resolve {}` prints what a tag means now", words::by_tag(case.reference)),
        );
    }
    if let Some(constraint @ Constraint::CustomVersion(requirement)) = &vouch.constraint {
        let version = signed.version.as_deref();
        if !version.is_some_and(|version| constraint.admits(version)) {
            let found = version.map_or_else(
                || "signed none".to_owned(),
                |version| format!("signed {}{}", words::reason(version), no_version(version)),
            );
            return broken(
                "constraint",
                format!("`custom.version` must be a version that meets `{requirement}`; root {root} {found}"),
                format!(
                    "use a tag whose signed version meets it, or ask the signers of {last} of root {root} to sign one that \
                     does"
                ),
            );
        }
    }
    if let Some(most) = vouch.max_signed_age {
        match signed.at {
            None => {
                return broken(
                    "max-signed-age",
                    format!("root {root} does not say when it signed this"),
                    format!("ask the signers of {last} of root {root} to sign it with the time"),
                );
            }
            // A clock behind the signer's: it was signed just now.
            Some(at) if case.now - at > most => {
                return broken(
                    "max-signed-age",
                    format!("root {root} signed this on {}", words::day(at)),
                    format!("ask the signers of {last} of root {root} to sign it again"),
                );
            }
            Some(_) => {}
        }
    }
    None
}

/// The first revocation by a root with a veto that concerns the name, the digest that is agreed on (where nothing is, any
/// that is signed under it), or the digest presented.
fn revocation(case: &Case<'_>, vouch: &Vouch, agreed: Option<&Signed>) -> Option<RevocationReport> {
    let signed: Vec<Digest> = match agreed {
        Some(agreed) => vec![agreed.digest],
        None => all(case)
            .filter_map(
                |answer| if let Said::Signed(signed) = &answer.said { Some(signed.digest) } else { None },
            )
            .collect(),
    };
    all(case).filter(|answer| vouch.veto.contains(&answer.report.name)).find_map(|answer| {
        if let Some((role, revocation)) = answer.revokes_scope() {
            return Some(revocation_report(answer, role, revocation));
        }
        let (role, revocation) =
            signed.iter().chain(&case.presented.digest()).find_map(|digest| answer.revokes(digest))?;
        Some(revocation_report(answer, role, revocation))
    })
}

fn revocation_report(answer: &Answer, role: &str, revocation: &Revocation) -> RevocationReport {
    RevocationReport {
        root: answer.report.name.clone(),
        role: role.to_owned(),
        digest: revocation.digest,
        reason: words::reason(&revocation.reason),
        at: revocation.at,
    }
}

fn report(case: &Case<'_>, outcome: Outcome) -> Verification {
    let Outcome { verdict, agreed, by, revocation, why, mut warnings } = outcome;
    let (registry, registry_error) = match case.registry() {
        Presented::Tag(digest) => (Some(Some(*digest)), None),
        Presented::NoSuchTag => (Some(None), None),
        Presented::Failed { why, .. } => (None, Some(why.clone())),
        Presented::Unasked | Presented::Written(_) => (None, None),
    };
    let signed = agreed.as_ref().filter(|_| matches!(case.scope.rule, Rule::Vouch(_)));
    warnings.extend(signed.and_then(|signed| words::drift(case, &signed.digest)));
    let drift = |digest: Option<Digest>| signed.map(|signed| digest != Some(signed.digest));
    let mut verification = Verification {
        version: super::report::VERSION,
        verdict,
        exit_code: verdict.exit_code(),
        reference: case.reference.to_string(),
        identity: case.identity.to_string(),
        name: case.name.to_string(),
        scope: Some(case.scope.pattern.clone()),
        resolved: agreed
            .as_ref()
            .filter(|_| verdict == Verdict::Verified)
            .map(|agreed| format!("{}@{}", case.reference.repository, agreed.digest)),
        digest: agreed.as_ref().map(|agreed| agreed.digest),
        media_type: agreed.as_ref().and_then(|agreed| agreed.media_type.clone()),
        size: agreed.as_ref().and_then(|agreed| agreed.length),
        presented: case.presented.digest(),
        registry: registry.map(|digest| RegistryReport { digest, drift: drift(digest) }),
        registry_error,
        roots: all(case).map(|answer| answer.report.clone()).collect(),
        revocation,
        warnings: words::warnings(case, verdict, warnings),
        reason: String::new(),
        next: None,
    };
    for root in verification.roots.iter_mut().skip(case.answers.len()) {
        root.part = Part::Fallback;
    }
    for root in &mut verification.roots {
        root.vouches = by.contains(&root.name);
    }
    words::explain(&mut verification, case, why);
    verification
}
