//! How a verdict came about, step by step, in words.

use plimsoll_core::{
    oci::{Reference, TargetName},
    policy::{Constraint, DigestRefs, Policy, Require, Rule, ScopeEntry, Verdict, Vouch},
};
use serde::Serialize;

use crate::verify::{Part, RootReport, Verification, ago, target_name};

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Step {
    /// Which: `reference`, `identity`, `scope`, `rule`, `root`, `registry`, `warning`, `verdict` or `next`.
    pub(super) step: &'static str,
    /// How it came out.
    pub(super) text: String,
}

/// The steps from `reference`, as it was written, to the verdict `v` by `policy`.
pub(super) fn steps(policy: &Policy, reference: &Reference, v: &Verification) -> Vec<Step> {
    let mut steps = vec![
        Step { step: "reference", text: format!("{reference} is read as {}", v.reference) },
        Step { step: "identity", text: identity(policy, reference, v) },
    ];
    // Without an identity there is nothing that a scope could cover.
    let judged: Option<Reference> =
        policy.identity(&reference.repository).and_then(|_| v.identity.parse().ok());
    let name = judged.as_ref().map(target_name);
    let covering = match (&judged, &name) {
        (Some(judged), Some(name)) => covering(policy, judged, name),
        _ => Vec::new(),
    };
    steps.push(Step { step: "scope", text: scope(&covering, v) });
    if let (Some(entry), Some(name)) = (covering.first(), &name) {
        steps.extend(rule(entry, name).into_iter().map(|text| Step { step: "rule", text }));
    }
    steps.extend(v.roots.iter().map(|root| Step { step: "root", text: answer(root) }));
    steps.push(Step { step: "registry", text: registry(covering.first().copied(), v) });
    steps.extend(v.warnings.iter().map(|text| Step { step: "warning", text: text.clone() }));
    steps.push(Step { step: "verdict", text: format!("{}: {}", v.verdict, v.reason) });
    steps.extend(v.next.iter().map(|text| Step { step: "next", text: text.clone() }));
    steps
}

fn identity(policy: &Policy, reference: &Reference, v: &Verification) -> String {
    let Some(remap) = policy.remap_of(&reference.repository) else {
        return "no remap applies, so it is judged as what it is".to_owned();
    };
    let applies = format!("the remap from {} to {} applies", remap.from, remap.to);
    match policy.identity(&reference.repository) {
        Some(_) => format!("{applies}: it is judged as {}", v.identity),
        None => format!("{applies}, and what it makes of it is no repository, so nothing covers it"),
    }
}

/// The scopes that cover the name, the most specific first.
fn covering<'a>(policy: &'a Policy, judged: &Reference, name: &TargetName) -> Vec<&'a ScopeEntry> {
    let text = name.to_string();
    let covers = |entry: &&ScopeEntry| entry.host == judged.repository.host && entry.scope.covers(&text);
    let mut covering: Vec<&ScopeEntry> = policy.scopes().iter().filter(covers).collect();
    covering.sort_by_key(|entry| std::cmp::Reverse(entry.scope.specificity()));
    covering
}

fn scope(covering: &[&ScopeEntry], v: &Verification) -> String {
    match covering {
        [] => format!("none covers {}", v.identity),
        [only] => format!("{} applies: {}", only.pattern, only.scope.in_words()),
        [first, others @ ..] => {
            let others: Vec<&str> = others.iter().map(|entry| entry.pattern.as_str()).collect();
            format!(
                "{} applies, the most specific: {}; less specific, so without a say: {}",
                first.pattern,
                first.scope.in_words(),
                others.join(", ")
            )
        }
    }
}

/// What the scope wants of `name`, one line each.
fn rule(entry: &ScopeEntry, name: &TargetName) -> Vec<String> {
    match &entry.rule {
        Rule::Deny { reason } => vec![format!("it is refused, and nobody is asked: {reason}")],
        Rule::AllowDigest { digests, until, reason } => {
            let digests: Vec<String> = digests.iter().map(ToString::to_string).collect();
            vec![format!(
                "until {} these digests are allowed, and nobody is asked: {} ({reason})",
                until.format("%Y-%m-%d %H:%M UTC"),
                digests.join(", ")
            )]
        }
        Rule::Vouch(vouch) => conditions(entry, vouch, name),
    }
}

fn conditions(entry: &ScopeEntry, vouch: &Vouch, name: &TargetName) -> Vec<String> {
    let mut lines = vec![format!("{} vouch for it", required(&vouch.require))];
    if let Some(fallback) = &vouch.fallback {
        lines.push(format!(
            "if all of these freshly prove that they have not signed it, {} vouch instead",
            required(fallback)
        ));
    }
    if !vouch.optional.is_empty() {
        let optional: Vec<&str> = vouch.optional.iter().map(String::as_str).collect();
        lines.push(format!("{} may fail, which is a warning: then it does not vouch", optional.join(", ")));
    }
    for root in vouch.roots() {
        if vouch.map.contains_key(root) {
            let inside =
                entry.name_in(root, name).map_or_else(|| "nothing".to_owned(), |name| name.to_string());
            lines.push(format!("{root} calls it {inside}"));
        }
        if let Some(pin) = vouch.pin.get(root) {
            let keys: Vec<&str> = pin.keys.iter().map(|key| key.0.as_str()).collect();
            let by = if keys.is_empty() {
                String::new()
            } else {
                format!(", signed by {}", keys.join(" and by "))
            };
            lines.push(format!("in {root}, the role {} must be on the path{by}", pin.role));
        }
    }
    match (name, vouch.digest_refs) {
        (TargetName::Tag { .. }, _) => {}
        (TargetName::Digest { .. }, DigestRefs::Current) => {
            lines.push("a digest must be meant by a tag of its repository now".to_owned());
        }
        (TargetName::Digest { .. }, DigestRefs::Retained) => {
            lines.push("a digest may be one that no tag means any more, as long as it is signed".to_owned());
        }
    }
    match &vouch.constraint {
        Some(Constraint::Tag(versions)) => lines.push(format!("the tag must be a version: {versions}")),
        Some(Constraint::CustomVersion(versions)) => {
            lines.push(format!("the signed custom.version must be one: {versions}"));
        }
        None => {}
    }
    let seconds = |time: chrono::TimeDelta| ago(u64::try_from(time.num_seconds()).unwrap_or_default());
    if let Some(most) = vouch.max_signed_age {
        lines.push(format!("it must have been signed in the last {}", seconds(most)));
    }
    if let Some(most) = vouch.max_staleness {
        lines.push(format!("timestamp and snapshot may be past their expiry by {}", seconds(most)));
    }
    if vouch.veto.len() < vouch.roots().len() {
        let veto: Vec<&str> = vouch.veto.iter().map(String::as_str).collect();
        lines.push(format!("of revocations, those by {} beat everything else", veto.join(", ")));
    }
    lines
}

fn required(require: &Require) -> String {
    match require {
        Require::All(roots) => match roots.as_slice() {
            [root] => format!("{root} must"),
            roots => format!("all of {} must agree and", roots.join(", ")),
        },
        Require::Any(roots) => format!("one of {} must", roots.join(", ")),
        Require::Threshold { threshold, of } => {
            format!("{threshold} of {} must agree and", of.join(", "))
        }
    }
}

fn answer(root: &RootReport) -> String {
    let part = match root.part {
        Part::Required => "required",
        Part::Optional => "optional",
        Part::Fallback => "fallback",
    };
    let mut text = format!("{} ({part}), asked for {}: {}", root.name, root.target, root.status);
    if !root.path.is_empty() {
        text.push_str(&format!(" by {}", root.path.join(" > ")));
    }
    if let Some(at) = root.signed_at {
        text.push_str(&format!(", signed {}", at.format("%Y-%m-%d %H:%M UTC")));
    }
    if let Some(age) = root.age {
        text.push_str(&format!("; its timestamp is {} old", ago(age)));
    }
    text.push_str(&format!("; from {}", root.source));
    if let Some(error) = &root.error {
        text.push_str(&format!(": {error}"));
    }
    text
}

/// Whether the registry was asked for the tag, and what it said.
fn registry(entry: Option<&ScopeEntry>, v: &Verification) -> String {
    match &v.registry {
        None => match &v.registry_error {
            Some(why) => format!("asked for the tag, and without an answer that could be used: {why}"),
            None => format!("not asked: {}", unasked(entry, v)),
        },
        Some(report) => {
            let has = report.digest.map_or_else(
                || "it has no such tag".to_owned(),
                |digest| format!("its tag points to {digest}"),
            );
            match report.drift {
                Some(true) => format!("{has}, which is not what is signed"),
                Some(false) => format!("{has}, as signed"),
                None => has,
            }
        }
    }
}

/// Why the registry was not asked for the tag.
fn unasked(entry: Option<&ScopeEntry>, v: &Verification) -> &'static str {
    let written = v.presented.is_some();
    match (entry.map(|entry| &entry.rule), v.verdict) {
        (None, _) => "no scope covers the reference, whatever is there",
        (Some(Rule::Deny { .. }), _) => "it is refused, whatever is there",
        (Some(Rule::AllowDigest { .. }), _) if written => "the digest is written in the reference",
        (Some(Rule::AllowDigest { .. }), _) => "the exception has ended, whatever is there",
        (Some(Rule::Vouch(_)), Verdict::Revoked) => "it was taken back, whatever is there",
        (Some(Rule::Vouch(_)), _) if v.roots.is_empty() => "no root can hold the name, whatever is there",
        (Some(Rule::Vouch(_)), _) if v.digest.is_some() => {
            "the digest is written in the reference, and no tag that it could have drifted from"
        }
        (Some(Rule::Vouch(_)), _) if written => {
            "the digest is written in the reference, and the roots agree on none that a tag could have drifted from"
        }
        (Some(Rule::Vouch(_)), _) => {
            "the roots agree on no digest that its tag could be compared with, and have taken none back"
        }
    }
}
