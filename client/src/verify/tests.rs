//! The decision, from answers that are written down here. The walk that leads to the answers is tested over a real
//! registry client in `client/tests/verify.rs`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::{Digest, Reference},
    policy::Verdict,
    tuf::Revocation,
};

use super::{
    RootReport, Verification,
    ask::{Answer, Said, Signed},
    decide::{Presented, decide},
    target_name,
    words::{ago, printable},
};

const TAG: &str = "r.io/acme/app:v1";

fn good() -> Digest {
    Digest::of(b"good")
}

fn other() -> Digest {
    Digest::of(b"other")
}

fn signed(digest: Digest) -> Said {
    Said::Signed(Signed { digest, length: 7, media_type: Some("a/b".to_owned()), current: true })
}

fn answer(said: Said) -> Answer {
    let report = RootReport {
        name: "acme".to_owned(),
        trust: None,
        repository: "r.io/acme/trust".to_owned(),
        verdict: Verdict::Verified,
        path: vec!["targets".to_owned(), "targets--app".to_owned()],
        roles: Vec::new(),
        timestamp_age: None,
        stale_by: None,
        error: None,
        unpublished: false,
    };
    Answer { report, said, revocations: Vec::new(), equivocation: false, unremembered: None }
}

fn revoking(mut answer: Answer, digest: Digest) -> Answer {
    answer.revocations.push(("targets--app".to_owned(), revocation(Some(digest))));
    answer
}

fn revocation(digest: Option<Digest>) -> Revocation {
    let at = DateTime::<Utc>::UNIX_EPOCH;
    Revocation { digest, paths: Vec::new(), reason: "leaked\x1b[2J".to_owned(), at, extra: BTreeMap::new() }
}

fn judge(reference: &str, answers: &[Answer], presented: &Presented) -> Verification {
    let reference: Reference = reference.parse().unwrap();
    let v = decide(&reference, &target_name(&reference), "r.io/acme/**", answers, presented);
    assert_eq!(v.resolved.is_some(), v.verdict == Verdict::Verified, "{v:?}");
    assert!(!v.detail.is_empty(), "{v:?}");
    // T93, and that nobody is told to look away.
    let text = format!("{} {}", v.detail, v.next.as_deref().unwrap_or_default()).to_lowercase();
    for bad in ["insecure", "skip", "disable", "ignore", "--force"] {
        assert!(!text.contains(bad), "{text}");
    }
    v
}

#[test]
fn one_root_and_a_tag() {
    let at = Presented::Digest;
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
        let v = judge(TAG, &[answer(said.clone())], &presented);
        assert_eq!(v.verdict, expected, "{said:?} {presented:?}");
    }
    let v = judge(TAG, &[answer(signed(good()))], &at(good()));
    assert_eq!(v.resolved.unwrap(), format!("r.io/acme/app@{}", good()));
    assert_eq!((v.length, v.media_type.as_deref()), (Some(7), Some("a/b")));
    assert_eq!(judge(TAG, &[], &at(good())).verdict, Verdict::Untrusted);
}

/// P3: signed, presented, or merely named by another root.
#[test]
fn a_revoked_digest_reads_revoked_wherever_it_turns_up() {
    let at = Presented::Digest;
    for (answers, presented) in [
        (vec![revoking(answer(signed(good())), good())], Presented::Unasked),
        (vec![revoking(answer(signed(other())), good())], at(good())),
        (vec![revoking(answer(Said::Absent), good())], at(good())),
        (vec![answer(signed(good())), revoking(answer(signed(good())), good())], at(good())),
        (
            vec![answer(Said::Failed(Verdict::Unreachable)), revoking(answer(Said::Absent), good())],
            at(good()),
        ),
    ] {
        let v = judge(TAG, &answers, &presented);
        assert_eq!(v.verdict, Verdict::Revoked, "{answers:?}");
        assert_eq!(v.revocation.unwrap().reason, "leaked [2J");
    }
    let elsewhere = [revoking(answer(signed(good())), other())];
    assert_eq!(judge(TAG, &elsewhere, &at(good())).verdict, Verdict::Verified);
    let absent = [revoking(answer(Said::Absent), other())];
    assert_eq!(judge(TAG, &absent, &at(good())).verdict, Verdict::Absent);
}

#[test]
fn every_required_root_must_vouch_and_they_must_agree() {
    let both = |a: Said, b: Said| judge(TAG, &[answer(a), answer(b)], &Presented::Digest(good())).verdict;
    assert_eq!(both(signed(good()), signed(good())), Verdict::Verified);
    assert_eq!(both(signed(good()), signed(other())), Verdict::Conflict);
    let longer = Signed { digest: good(), length: 8, media_type: Some("a/b".to_owned()), current: true };
    assert_eq!(both(signed(good()), Said::Signed(longer.clone())), Verdict::Conflict);
    let untyped = Said::Signed(Signed { length: 7, media_type: None, ..longer });
    assert_eq!(both(signed(good()), untyped), Verdict::Conflict);
    assert_eq!(both(signed(good()), Said::Absent), Verdict::Absent);
    assert_eq!(both(Said::Absent, signed(good())), Verdict::Absent);
    for (i, grave) in
        [Verdict::Untrusted, Verdict::Rollback, Verdict::Expired, Verdict::Auth].iter().enumerate()
    {
        assert_eq!(both(signed(good()), Said::Failed(*grave)), *grave);
        for lesser in
            [Verdict::Rollback, Verdict::Expired, Verdict::Auth, Verdict::Unreachable].iter().skip(i)
        {
            assert_eq!(both(Said::Failed(*lesser), Said::Failed(*grave)), *grave);
        }
        assert_eq!(both(Said::Absent, Said::Failed(*grave)), *grave);
    }
}

#[test]
fn a_digest_must_be_meant_now() {
    let reference = format!("r.io/acme/app@{}", good());
    let at = Presented::Digest(good());
    assert_eq!(judge(&reference, &[answer(signed(good()))], &at).verdict, Verdict::Verified);
    let old = Signed { digest: good(), length: 7, media_type: Some("a/b".to_owned()), current: false };
    assert_eq!(judge(&reference, &[answer(Said::Signed(old))], &at).verdict, Verdict::PolicyDeny);
    // Inert unless its hash says the same as its name.
    assert_eq!(judge(&reference, &[answer(signed(other()))], &at).verdict, Verdict::Mismatch);
    assert_eq!(judge(&reference, &[revoking(answer(Said::Absent), good())], &at).verdict, Verdict::Revoked);
    // With a tag beside it, the tag judges.
    let both = format!("{TAG}@{}", good());
    assert_eq!(judge(&both, &[answer(signed(other()))], &at).verdict, Verdict::Mismatch);
    assert_eq!(judge(&both, &[answer(signed(good()))], &at).verdict, Verdict::Verified);
}

/// P2: whoever reads the verdict reads that the view is stale, and by how much.
#[test]
fn a_stale_view_is_told_with_every_verdict() {
    for said in [signed(good()), Said::Absent] {
        let mut stale = answer(said);
        stale.report.stale_by = Some(3 * 86_400);
        let warnings = judge(TAG, &[stale], &Presented::Digest(good())).warnings;
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
