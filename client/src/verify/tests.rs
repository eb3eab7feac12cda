//! The decision, from answers that are written down here. The walk that leads to the answers is tested over a real
//! registry client in `client/tests/verify.rs` and `client/tests/roots.rs`.

mod conditions;
mod votes;

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core::{
    oci::{Digest, Reference},
    policy::{Policy, Rule, Verdict},
    tuf::{KeyId, PublicKey, Revocation},
};

use super::{
    Part, RoleReport, RootReport, Verification,
    ask::{Answer, Said, Signed},
    decide::{Case, Presented, decide, wants_fallback, wants_registry},
    target_name,
    words::{ago, printable},
};

const TAG: &str = "r.io/acme/app:v1";
const ALL: &str = r#"require = { all = ["a"] }"#;

fn good() -> Digest {
    Digest::of(b"good")
}

fn other() -> Digest {
    Digest::of(b"other")
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn entry(digest: Digest) -> Signed {
    Signed {
        digest,
        length: Some(7),
        media_type: Some("a/b".to_owned()),
        current: true,
        version: None,
        at: Some(now() - TimeDelta::days(10)),
    }
}

fn signed(digest: Digest) -> Said {
    Said::Signed(entry(digest))
}

/// What the root `name` says.
fn answer(name: &str, said: Said) -> Answer {
    let status = match &said {
        Said::Signed(_) => Verdict::Verified,
        Said::Absent => Verdict::Absent,
        Said::ScopeRevoked(..) => Verdict::Revoked,
        Said::Failed(verdict) => *verdict,
    };
    let path = ["targets", "targets--app"].map(str::to_owned).to_vec();
    let role = |role: &String| RoleReport {
        role: role.clone(),
        version: 1,
        keys: vec![KeyId("k1".to_owned()), KeyId("k2".to_owned())],
        threshold: 1,
        signed_at: Some(now()),
        expires: now(),
    };
    let report = RootReport {
        name: name.to_owned(),
        part: Part::Required,
        status,
        vouches: false,
        trust: None,
        source: format!("r.io/{name}/trust"),
        target: "acme/app:v1".to_owned(),
        digest: if let Said::Signed(signed) = &said { Some(signed.digest) } else { None },
        roles: path.iter().map(role).collect(),
        path,
        signed_at: None,
        timestamp_expires: None,
        fetched_at: None,
        age: None,
        stale_by: None,
        error: matches!(said, Said::Failed(_)).then(|| "it failed".to_owned()),
        unpublished: false,
    };
    Answer {
        report,
        said,
        revocations: Arc::default(),
        scope_seen: None,
        role: None,
        notes: Vec::new(),
        lineage: Arc::default(),
        keys: Arc::default(),
    }
}

/// T28: where one of two names has no trust id, a key that their newest roots share makes them one trust repository.
#[test]
fn answers_by_roots_that_share_a_key_are_of_one_trust_repository() {
    let keys: Vec<PublicKey> = (1..4).map(|n| PublicKey::Ed25519([n; 32])).collect();
    let of = |trust: Option<&str>, keys: &[PublicKey]| {
        let mut answer = answer("a", Said::Absent);
        answer.report.trust = trust.map(str::to_owned);
        answer.keys = Arc::new(keys.iter().cloned().collect());
        answer
    };
    for (one, other, same) in [
        (of(None, &keys[..2]), of(None, &keys[1..]), true),
        (of(None, &keys[..1]), of(None, &keys[1..]), false),
        (of(None, &keys[..2]), of(Some("x"), &keys[1..]), true),
        (of(Some("y"), &keys), of(Some("x"), &keys), false),
        (of(None, &[]), of(None, &[]), false),
    ] {
        assert_eq!(
            (one.is_of_the_same(&other), other.is_of_the_same(&one)),
            (same, same),
            "{one:?} {other:?}"
        );
    }
}

fn revoking(mut answer: Answer, digest: Digest) -> Answer {
    Arc::make_mut(&mut answer.revocations).push(("targets--app".to_owned(), revocation(Some(digest))));
    answer
}

fn revocation(digest: Option<Digest>) -> Revocation {
    let at = DateTime::<Utc>::UNIX_EPOCH;
    Revocation { digest, paths: Vec::new(), reason: "leaked\x1b[2J".to_owned(), at, extra: BTreeMap::new() }
}

/// A policy with the roots `a` to `f` and one scope for `r.io/acme/**` that says `rule`.
fn policy(rule: &str) -> Policy {
    let root = |name: &str| {
        let sha256 = Digest::of(name.as_bytes()).hex();
        format!(
            "[root.{name}]\nfile = \"{name}.json\"\nsha256 = \"{sha256}\"\nrepository = \"r.io/{name}/trust\"\n"
        )
    };
    let roots: String = ["a", "b", "c", "d", "e", "f"].map(root).concat();
    Policy::parse(&format!("{roots}\n[[scope]]\nmatch = \"r.io/acme/**\"\n{rule}\n")).unwrap()
}

/// One question, decided as the walk decides it.
struct Asked<'a> {
    rule: &'a str,
    reference: &'a str,
    answers: Vec<Answer>,
    /// What the roots of the fallback would say; they are asked only if the decision wants them.
    fallback: Vec<Answer>,
    presented: Presented,
    beside_digest: Presented,
    now: DateTime<Utc>,
}

impl<'a> Asked<'a> {
    fn of(rule: &'a str, answers: Vec<Answer>) -> Self {
        Self {
            rule,
            reference: TAG,
            answers,
            fallback: Vec::new(),
            presented: Presented::Tag(good()),
            beside_digest: Presented::Unasked,
            now: now(),
        }
    }

    fn fallback(self, fallback: Vec<Answer>) -> Self {
        Self { fallback, ..self }
    }

    fn presented(self, presented: Presented) -> Self {
        Self { presented, ..self }
    }

    /// The verdict, and whether the fallback and the registry were wanted on the way.
    fn walk(mut self) -> (Verification, bool, bool) {
        let policy = policy(self.rule);
        let reference: Reference = self.reference.parse().unwrap();
        let name = target_name(&reference);
        let scope = policy.select("r.io", &name).unwrap();
        let (mut fallback, mut beside) = (None, Vec::new());
        if let Rule::Vouch(vouch) = &scope.rule {
            for answer in
                self.answers.iter_mut().filter(|answer| vouch.optional.contains(&answer.report.name))
            {
                answer.report.part = Part::Optional;
            }
            let only = |answer: &&Answer| {
                let name = &answer.report.name;
                vouch.veto.contains(name) && !vouch.require.roots().contains(name)
            };
            beside = self.fallback.iter().filter(only).cloned().collect();
            fallback = wants_fallback(vouch, &self.answers).then_some(&*self.fallback);
        }
        let case = Case {
            reference: &reference,
            identity: &reference,
            name: &name,
            scope,
            answers: &self.answers,
            beside: &beside,
            fallback,
            // What is presented under a reference with a digest is written there.
            presented: if let Presented::Written(_) = self.presented {
                &self.presented
            } else {
                &Presented::Unasked
            },
            beside_digest: &Presented::Unasked,
            now: self.now,
        };
        let wants_registry = wants_registry(&case, true);
        let v = decide(&Case { presented: &self.presented, beside_digest: &self.beside_digest, ..case });
        assert_eq!(v.resolved.is_some(), v.verdict == Verdict::Verified, "{v:?}");
        assert_eq!(v.exit_code, v.verdict.exit_code());
        assert!(!v.reason.is_empty(), "{v:?}");
        // T93, and that nobody is told to look away.
        let text = format!("{} {}", v.reason, v.next.as_deref().unwrap_or_default()).to_lowercase();
        for bad in ["insecure", "skip", "disable", "ignore", "--force"] {
            assert!(!text.contains(bad), "{text}");
        }
        (v, fallback.is_some(), wants_registry)
    }

    fn judge(self) -> Verification {
        self.walk().0
    }

    fn verdict(self) -> Verdict {
        self.judge().verdict
    }
}

fn judge(reference: &str, answers: &[Answer], presented: &Presented) -> Verification {
    let rule = match answers.len() {
        2 => r#"require = { all = ["a", "b"] }"#,
        _ => ALL,
    };
    let presented = match presented {
        // What is presented under a reference with a digest is written there.
        Presented::Tag(digest) if reference.contains('@') => Presented::Written(*digest),
        presented => presented.clone(),
    };
    Asked { reference, ..Asked::of(rule, answers.to_vec()) }.presented(presented).judge()
}

#[test]
fn one_root_and_a_tag() {
    let at = Presented::Tag;
    let failed = |verdict, why: &str| Presented::Failed { verdict, why: why.to_owned() };
    for (said, presented, expected) in [
        (signed(good()), at(good()), Verdict::Verified),
        (signed(good()), Presented::Unasked, Verdict::Verified),
        (signed(good()), at(other()), Verdict::Mismatch),
        (signed(good()), Presented::NoSuchTag, Verdict::NoSuchTag),
        (signed(good()), failed(Verdict::Unreachable, "gone"), Verdict::Unreachable),
        (signed(good()), failed(Verdict::Auth, "who"), Verdict::Auth),
        (Said::Absent, Presented::Unasked, Verdict::Absent),
        (Said::Absent, at(good()), Verdict::Absent),
        (Said::Absent, Presented::NoSuchTag, Verdict::Absent),
        // Freshly proven: what the registry fails to say does not change it.
        (Said::Absent, failed(Verdict::Unreachable, "gone"), Verdict::Absent),
        (Said::ScopeRevoked("targets".to_owned(), revocation(None)), at(good()), Verdict::Revoked),
        (Said::Failed(Verdict::Expired), at(good()), Verdict::Expired),
        (Said::Failed(Verdict::Unreachable), Presented::NoSuchTag, Verdict::Unreachable),
        // A failure that has no business here is not waved through.
        (Said::Failed(Verdict::Verified), at(good()), Verdict::Untrusted),
    ] {
        let v = judge(TAG, &[answer("a", said.clone())], &presented);
        assert_eq!(v.verdict, expected, "{said:?} {presented:?}");
    }
    let v = judge(TAG, &[answer("a", signed(good()))], &at(good()));
    assert_eq!(v.resolved.unwrap(), format!("r.io/acme/app@{}", good()));
    assert_eq!((v.size, v.media_type.as_deref()), (Some(7), Some("a/b")));
    assert_eq!(judge(TAG, &[], &at(good())).verdict, Verdict::Untrusted);
}

#[test]
fn the_registrys_own_tag_is_told_and_whether_it_drifted() {
    for (said, presented, registry) in [
        (signed(good()), Presented::Tag(good()), Some((Some(good()), Some(false)))),
        (signed(good()), Presented::Tag(other()), Some((Some(other()), Some(true)))),
        (signed(good()), Presented::NoSuchTag, Some((None, Some(true)))),
        (Said::Absent, Presented::Tag(good()), Some((Some(good()), None))),
        (signed(good()), Presented::Written(good()), None),
        (signed(good()), Presented::Failed { verdict: Verdict::Auth, why: "who".to_owned() }, None),
        (signed(good()), Presented::Unasked, None),
    ] {
        let v = judge(TAG, &[answer("a", said)], &presented);
        let told = v.registry.map(|registry| (registry.digest, registry.drift));
        assert_eq!(told, registry, "{presented:?}");
        let error = if let Presented::Failed { why, .. } = &presented { Some(why.clone()) } else { None };
        assert_eq!(v.registry_error, error);
    }
}

/// The digest decides, and what was taken back is called so.
#[test]
fn what_the_tag_says_beside_a_digest_is_a_warning() {
    let reference = format!("{TAG}@{}", good());
    let gone = Presented::Failed { verdict: Verdict::Unreachable, why: "it is down".to_owned() };
    for (told, warning) in [
        (Presented::Tag(good()), None),
        (Presented::Tag(other()), Some("which was taken back")),
        (Presented::Tag(Digest::of(b"third")), Some("which is not what is signed under it")),
        (Presented::NoSuchTag, Some("the registry has no tag v1")),
        (gone, Some("could not be seen: it is down")),
    ] {
        let answers = vec![revoking(answer("a", signed(good())), other())];
        let asked = Asked { reference: &reference, beside_digest: told.clone(), ..Asked::of(ALL, answers) };
        let (v, _, wanted) = asked.presented(Presented::Written(good())).walk();
        assert_eq!((v.verdict, wanted), (Verdict::Verified, true), "{told:?}");
        assert_eq!(v.warnings.len(), usize::from(warning.is_some()), "{told:?}: {:?}", v.warnings);
        assert!(v.warnings.iter().all(|told| told.contains(warning.unwrap())), "{:?}", v.warnings);
    }
}

#[test]
fn a_digest_must_be_meant_now() {
    let reference = format!("r.io/acme/app@{}", good());
    let at = Presented::Tag(good());
    assert_eq!(judge(&reference, &[answer("a", signed(good()))], &at).verdict, Verdict::Verified);
    let old = Said::Signed(Signed { current: false, ..entry(good()) });
    let v = judge(&reference, &[answer("a", old)], &at);
    assert_eq!(v.verdict, Verdict::PolicyDeny);
    assert!(v.reason.contains("(digest-refs of the scope r.io/acme/**)"), "{}", v.reason);
    // Inert unless its hash says the same as its name.
    assert_eq!(judge(&reference, &[answer("a", signed(other()))], &at).verdict, Verdict::Mismatch);
    let revoked = revoking(answer("a", Said::Absent), good());
    assert_eq!(judge(&reference, &[revoked], &at).verdict, Verdict::Revoked);
    // With a tag beside it, the tag judges.
    let both = format!("{TAG}@{}", good());
    assert_eq!(judge(&both, &[answer("a", signed(other()))], &at).verdict, Verdict::Mismatch);
    assert_eq!(judge(&both, &[answer("a", signed(good()))], &at).verdict, Verdict::Verified);
}

/// P2: whoever reads the verdict reads that the view is stale, and by how much.
#[test]
fn a_stale_view_is_told_with_every_verdict() {
    for said in [signed(good()), Said::Absent] {
        let mut stale = answer("a", said);
        stale.report.stale_by = Some(3 * 86_400);
        let warnings = judge(TAG, &[stale], &Presented::Tag(good())).warnings;
        assert!(warnings[0].contains("ran out 3 days ago"), "{warnings:?}");
        assert_eq!(warnings.len(), 1);
    }
}

#[test]
fn times_and_strangers_words_are_fit_for_a_terminal() {
    let shown: Vec<String> = [0, 119, 120, 7199, 7200, 172_799, 172_800].into_iter().map(ago).collect();
    assert_eq!(shown, ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days"]);
    assert_eq!(printable("a\n\u{202e}b"), "a  b");
}
