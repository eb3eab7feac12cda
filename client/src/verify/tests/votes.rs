//! Who must vouch, who does, who failed, who takes back: the truth tables.

use super::*;

/// What one letter of a table stands for: `x` and `y` are signed content, `X` is `x` of another length and `t` of no media
/// type, `-` is a fresh absence, and the rest are failures.
fn said(letter: char) -> Said {
    match letter {
        'x' => signed(good()),
        'X' => Said::Signed(Signed { length: Some(8), ..entry(good()) }),
        't' => Said::Signed(Signed { media_type: None, ..entry(good()) }),
        'y' => signed(other()),
        '-' => Said::Absent,
        'U' => Said::Failed(Verdict::Unreachable),
        'E' => Said::Failed(Verdict::Expired),
        'R' => Said::Failed(Verdict::Rollback),
        'F' => Said::Failed(Verdict::Untrusted),
        'A' => Said::Failed(Verdict::Auth),
        other => panic!("{other}"),
    }
}

fn answers(names: &str, letters: &str) -> Vec<Answer> {
    let pairs = names.chars().zip(letters.chars());
    pairs.map(|(name, letter)| answer(&name.to_string(), said(letter))).collect()
}

fn check(rule: &str, table: &[(&str, Verdict)]) {
    for (letters, expected) in table {
        let v = Asked::of(rule, answers("abc", letters)).judge();
        assert_eq!(v.verdict, *expected, "{rule}: {letters}: {v:#?}");
    }
}

/// Every arrangement of the letters must come to the same verdict: there are no priorities.
fn check_in_any_order(rule: &str, table: &[(&str, Verdict)]) {
    for (letters, expected) in table {
        let letters: Vec<char> = letters.chars().collect();
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let turned: String = order.into_iter().filter_map(|at| letters.get(at)).collect();
            if turned.len() == letters.len() {
                check(rule, &[(&turned, *expected)]);
            }
        }
    }
}

const ALL_OF_THREE: &str = r#"require = { all = ["a", "b", "c"] }"#;
const ANY_OF_THREE: &str = r#"require = { any = ["a", "b", "c"] }"#;
const TWO_OF_THREE: &str = r#"require = { threshold = 2, of = ["a", "b", "c"] }"#;

/// T28: digest, length and media type are one thing, and they are all of the same roots.
#[test]
fn all_must_vouch_for_the_same() {
    use Verdict::*;
    check_in_any_order(
        ALL_OF_THREE,
        &[
            ("xxx", Verified),
            ("xxy", Conflict),
            ("xxX", Conflict),
            ("xxt", Conflict),
            ("xyX", Conflict),
            ("xx-", Absent),
            ("x--", Absent),
            // Though all of them vouched, it would be a conflict; but one says that it does not.
            ("xy-", Absent),
            ("---", Absent),
        ],
    );
}

/// T28: what two roots say is never put together from both.
#[test]
fn any_one_will_do_unless_another_says_otherwise() {
    use Verdict::*;
    check_in_any_order(
        ANY_OF_THREE,
        &[
            ("xxx", Verified),
            ("x--", Verified),
            ("xx-", Verified),
            // No root goes before another one.
            ("xy-", Conflict),
            ("xX-", Conflict),
            ("xt-", Conflict),
            ("xxy", Conflict),
            ("---", Absent),
        ],
    );
}

#[test]
fn a_threshold_counts_those_who_say_the_same() {
    use Verdict::*;
    check_in_any_order(
        TWO_OF_THREE,
        &[
            ("xxx", Verified),
            ("xx-", Verified),
            // Two agree; the third is told of, and does not count.
            ("xxy", Verified),
            ("xxX", Verified),
            // The number is there only if those who disagree are counted together.
            ("xy-", Conflict),
            ("xyX", Conflict),
            ("x--", Absent),
            ("---", Absent),
        ],
    );
    let v = Asked::of(TWO_OF_THREE, answers("abc", "x--")).judge();
    assert!(v.reason.ends_with("complete and fresh: a has, b and c not"), "{}", v.reason);
    let v = Asked::of(TWO_OF_THREE, answers("abc", "xy-")).judge();
    assert!(v.reason.ends_with(&format!("a signed {}, b signed {}", good(), other())), "{}", v.reason);
    let v = Asked::of(TWO_OF_THREE, answers("abc", "xyx")).judge();
    assert_eq!(v.digest, Some(good()));
    assert!(v.warnings[0].starts_with("root b vouches for something else"), "{:?}", v.warnings);
    assert_eq!(v.reason, "signed by targets > targets--app (root a) and targets > targets--app (root c)");
}

/// P8: whatever the others say, and however many of them are enough.
#[test]
fn a_failure_is_never_passed_over_for_something_weaker() {
    use Verdict::*;
    for rule in [ALL_OF_THREE, ANY_OF_THREE, TWO_OF_THREE] {
        for (letter, failure) in
            [('U', Unreachable), ('A', Auth), ('E', Expired), ('R', Rollback), ('F', Untrusted)]
        {
            for others in ["xx", "xy", "x-", "--"] {
                check_in_any_order(rule, &[(&format!("{others}{letter}"), failure)]);
            }
        }
        // The gravest of several: what must not be retried before what may be.
        check_in_any_order(
            rule,
            &[
                ("UAE", Expired),
                ("URE", Rollback),
                ("FRE", Untrusted),
                ("UUA", Auth),
                ("xUF", Untrusted),
                ("-UA", Auth),
            ],
        );
    }
}

#[test]
fn an_optional_root_that_fails_does_not_vouch_and_is_told_of() {
    use Verdict::*;
    let optional = |require: &str| format!("optional = [\"c\"]\nrequire = {require}");
    let all = optional(r#"{ all = ["a", "b", "c"] }"#);
    check(&all, &[("xxx", Verified), ("xxU", Verified), ("xxF", Verified), ("xx-", Verified)]);
    // It stands in for nobody.
    check(
        &all,
        &[("x-x", Absent), ("-xU", Absent), ("--x", Absent), ("xUx", Unreachable), ("xyx", Conflict)],
    );
    let any = optional(r#"{ any = ["a", "b", "c"] }"#);
    check(&any, &[("x-R", Verified), ("--x", Verified), ("x-y", Conflict), ("U-x", Unreachable)]);
    // Its word could have changed it, so nothing is proven.
    check(&any, &[("--U", Unreachable), ("--R", Rollback), ("---", Absent)]);
    let two = optional(r#"{ threshold = 2, of = ["a", "b", "c"] }"#);
    check(
        &two,
        &[("xxU", Verified), ("x-x", Verified), ("x-E", Expired), ("--E", Absent), ("xyF", Conflict)],
    );

    let v = Asked::of(&two, answers("abc", "xxR")).judge();
    assert_eq!(v.warnings, ["root c, which is optional, does not vouch: ROLLBACK (it failed)"]);
    let parts: Vec<Part> = v.roots.iter().map(|root| root.part).collect();
    assert_eq!(parts, [Part::Required, Part::Required, Part::Optional]);
}

const FALLBACK: &str = r#"
    require = { all = ["a", "b"] }
    fallback = { any = ["d", "e"] }
    on-absent = "fallback"
"#;

/// P8: only a fresh proof of absence, by each of those that are required, leads to another root.
#[test]
fn a_fallback_is_taken_on_fresh_proof_of_absence_and_on_nothing_else() {
    use Verdict::*;
    for (required, instead, expected, asked) in [
        ("--", "x-", Verified, true),
        ("--", "--", Absent, true),
        ("--", "xy", Conflict, true),
        ("--", "xU", Unreachable, true),
        ("--", "-R", Rollback, true),
        ("xx", "yy", Verified, false),
        ("x-", "xx", Absent, false),
        ("-x", "xx", Absent, false),
        ("xy", "xx", Conflict, false),
        ("-U", "xx", Unreachable, false),
        ("U-", "xx", Unreachable, false),
        ("-A", "xx", Auth, false),
        ("-E", "xx", Expired, false),
        ("-R", "xx", Rollback, false),
        ("-F", "xx", Untrusted, false),
    ] {
        let (v, wanted, _) =
            Asked::of(FALLBACK, answers("ab", required)).fallback(answers("de", instead)).walk();
        assert_eq!((v.verdict, wanted), (expected, asked), "{required} {instead}");
        // Those with a veto are heard in any case; only what they vouch for waits.
        assert_eq!(v.roots.len(), 4);
        assert!(asked || v.roots[2..].iter().all(|root| !root.vouches));
        if expected == Verified && asked {
            assert_eq!(v.reason, "signed by targets > targets--app (root d, the fallback)");
            assert_eq!((v.roots[1].part, v.roots[2].part), (Part::Required, Part::Fallback));
        }
    }
}

/// P3, P8: the veto of a root that stands only in the fallback holds whether anybody turns to the fallback or not, and its
/// failure is no leave to go without it.
#[test]
fn a_veto_that_stands_in_the_fallback_only_is_heard_in_any_case() {
    use Verdict::*;
    let veto = "veto = [\"a\", \"d\"]";
    let optional = "optional = [\"d\"]";
    for (line, letter, expected) in [
        ("", 'U', Unreachable),
        ("", 'F', Untrusted),
        (veto, 'E', Expired),
        ("veto = [\"a\"]", 'U', Verified),
        (optional, 'U', Verified),
        ("", '-', Verified),
        ("", 'y', Verified),
    ] {
        let rule = format!("{line}\n{FALLBACK}");
        let asked = Asked::of(&rule, answers("ab", "xx")).fallback(answers("de", &format!("{letter}x")));
        assert_eq!(asked.verdict(), expected, "{line} {letter}");
    }
    for (line, required, expected) in [
        ("", "xx", Revoked),
        ("", "xU", Revoked),
        ("", "x-", Revoked),
        (veto, "xx", Revoked),
        (optional, "xx", Revoked),
        ("veto = [\"a\"]", "xx", Verified),
    ] {
        let rule = format!("{line}\n{FALLBACK}");
        let mut instead = answers("de", "-x");
        instead[0] = revoking(instead[0].clone(), good());
        let v = Asked::of(&rule, answers("ab", required)).fallback(instead).judge();
        assert_eq!(v.verdict, expected, "{line} {required}");
        if expected == Revoked {
            assert_eq!(v.revocation.unwrap().root, "d");
        }
    }
    // The gravest of all failures.
    let v = Asked::of(FALLBACK, answers("ab", "xU")).fallback(answers("de", "Rx")).judge();
    assert_eq!(v.verdict, Rollback);
    // What it vouches for is nobody's word.
    let v = Asked::of(FALLBACK, answers("ab", "x-")).fallback(answers("de", "xx")).judge();
    assert!(v.reason.ends_with("complete and fresh: a has, b not"), "{}", v.reason);
}

#[test]
fn an_absence_that_is_stale_or_only_supposed_leads_to_no_fallback() {
    let mut stale = answers("ab", "--");
    stale[1].report.stale_by = Some(60);
    let (v, asked, _) = Asked::of(FALLBACK, stale).fallback(answers("de", "xx")).walk();
    assert_eq!((v.verdict, asked), (Verdict::Expired, false));
    assert!(
        v.warnings.iter().any(|warning| warning.contains("the view of root b is stale")),
        "{:?}",
        v.warnings
    );
    // An optional root that failed may have had it.
    let rule = format!("optional = [\"b\"]\n{FALLBACK}");
    let (v, asked, _) = Asked::of(&rule, answers("ab", "-U")).fallback(answers("de", "xx")).walk();
    assert_eq!((v.verdict, asked), (Verdict::Absent, false));
    assert!(v.warnings.iter().any(|warning| warning.contains("root b did not say so")), "{:?}", v.warnings);
}

/// P3: one root that takes it back is enough, whatever the others say or fail to say.
#[test]
fn a_revocation_by_any_named_root_beats_everything() {
    for rule in [ALL_OF_THREE, ANY_OF_THREE, TWO_OF_THREE] {
        for letters in ["xxx", "xx-", "xy-", "--x", "UFx", "URA", "---"] {
            for who in 0..3 {
                let mut all = answers("abc", letters);
                all[who] = revoking(all[who].clone(), good());
                assert_eq!(Asked::of(rule, all).verdict(), Verdict::Revoked, "{rule} {letters} {who}");
                let mut all = answers("abc", letters);
                all[who].said = Said::ScopeRevoked("targets".to_owned(), revocation(None));
                assert_eq!(Asked::of(rule, all).verdict(), Verdict::Revoked, "{rule} {letters} {who}");
            }
        }
    }
    // Of something else, it is nothing to this.
    let mut all = answers("abc", "xxx");
    all[1] = revoking(all[1].clone(), other());
    assert_eq!(Asked::of(ALL_OF_THREE, all).verdict(), Verdict::Verified);
    // One that signs what was taken back is outvoted, and what the others agree on was not.
    let mut all = answers("abc", "xxy");
    all[0] = revoking(all[0].clone(), other());
    assert_eq!(Asked::of(TWO_OF_THREE, all).verdict(), Verdict::Verified);
}

/// P3: signed, presented, or merely named by another root.
#[test]
fn a_revoked_digest_reads_revoked_wherever_it_turns_up() {
    let at = Presented::Tag;
    let a = |said| answer("a", said);
    let b = |said| answer("b", said);
    for (answers, presented) in [
        (vec![revoking(a(signed(good())), good())], Presented::Unasked),
        (vec![revoking(a(signed(other())), good())], at(good())),
        (vec![revoking(a(Said::Absent), good())], at(good())),
        (vec![a(signed(good())), revoking(b(signed(good())), good())], at(good())),
        (vec![a(Said::Failed(Verdict::Unreachable)), revoking(b(Said::Absent), good())], at(good())),
    ] {
        let v = judge(TAG, &answers, &presented);
        assert_eq!(v.verdict, Verdict::Revoked, "{answers:?}");
        assert_eq!(v.revocation.unwrap().reason, "leaked [2J");
    }
    let absent = [revoking(answer("a", Said::Absent), other())];
    assert_eq!(judge(TAG, &absent, &at(good())).verdict, Verdict::Absent);
}

/// P2: by the policy's leave a stale view vouches; it proves no absence.
#[test]
fn a_stale_view_vouches_and_proves_no_absence() {
    use Verdict::*;
    for (rule, letters, stale, expected) in [
        (ALL, "x", 0, Verified),
        (ALL, "-", 0, Expired),
        (ALL_OF_THREE, "xx-", 2, Expired),
        (ALL_OF_THREE, "xx-", 0, Absent),
        (TWO_OF_THREE, "x--", 1, Expired),
        (TWO_OF_THREE, "xx-", 2, Verified),
        (ANY_OF_THREE, "---", 2, Expired),
        (ANY_OF_THREE, "xy-", 2, Conflict),
        (ALL_OF_THREE, "-UU", 0, Unreachable),
    ] {
        let mut all = answers("abc", letters);
        all[stale].report.stale_by = Some(3 * 86_400);
        let v = Asked::of(rule, all).judge();
        assert_eq!(v.verdict, expected, "{rule} {letters} {stale}");
        assert!(expected == Absent || !v.reason.contains("complete and fresh"), "{}", v.reason);
        if expected == Expired {
            assert!(v.reason.contains("ran out 3 days ago: max-staleness"), "{}", v.reason);
        }
    }
    // The fallback's, too.
    let mut instead = answers("de", "--");
    instead[1].report.stale_by = Some(60);
    let v = Asked::of(FALLBACK, answers("ab", "--")).fallback(instead).judge();
    assert_eq!(v.verdict, Expired);
    assert!(v.reason.starts_with("root e does not list acme/app:v1"), "{}", v.reason);
    // What was taken back is, whatever is stale.
    let mut stale = answers("abc", "---");
    stale[1].report.stale_by = Some(60);
    stale[1] = revoking(stale[1].clone(), good());
    assert_eq!(Asked::of(ANY_OF_THREE, stale).verdict(), Revoked);
}

#[test]
fn where_veto_names_some_the_revocations_of_the_others_only_cost_them_their_voice() {
    let rule = |require: &str| format!("veto = [\"a\"]\nrequire = {require}");
    let all = |who: usize, letters: &str| {
        let mut all = answers("abc", letters);
        all[who] = revoking(all[who].clone(), good());
        all
    };
    let any = rule(r#"{ any = ["a", "b", "c"] }"#);
    assert_eq!(Asked::of(&any, all(0, "xxx")).verdict(), Verdict::Revoked);
    assert_eq!(Asked::of(&any, all(1, "xxx")).verdict(), Verdict::Verified);
    assert_eq!(Asked::of(&any, all(1, "-x-")).verdict(), Verdict::Absent, "it vouches for what it took back");
    let every = rule(r#"{ all = ["a", "b", "c"] }"#);
    assert_eq!(Asked::of(&every, all(1, "xxx")).verdict(), Verdict::Absent);
    let mut scope = answers("abc", "xxx");
    scope[1].said = Said::ScopeRevoked("targets".to_owned(), revocation(None));
    assert_eq!(Asked::of(&any, scope.clone()).verdict(), Verdict::Verified);
    assert_eq!(Asked::of(&every, scope).verdict(), Verdict::Absent);
}

/// P3: a revocation anywhere forbids the fallback what was revoked.
#[test]
fn a_fallback_brings_nothing_back_that_was_revoked() {
    let revoked = |names: &str, who: usize, digest| {
        let mut all = answers(names, "--");
        all[who] = revoking(all[who].clone(), digest);
        all
    };
    let fallback = || answers("de", "x-");
    let v = Asked::of(FALLBACK, revoked("ab", 1, good())).fallback(fallback()).judge();
    assert_eq!(v.verdict, Verdict::Revoked);
    // Also if only the fallback knows of it.
    assert_eq!(
        Asked::of(FALLBACK, answers("ab", "--"))
            .fallback({
                let mut all = fallback();
                all[1] = revoking(all[1].clone(), good());
                all
            })
            .verdict(),
        Verdict::Revoked
    );
    // And the root that took it back has no veto: the fallback's word does not count either.
    let rule = format!("veto = [\"a\"]\n{FALLBACK}");
    let v = Asked::of(&rule, revoked("ab", 1, good())).fallback(fallback()).judge();
    assert_eq!(v.verdict, Verdict::Absent);
    let v = Asked::of(&rule, revoked("ab", 1, other())).fallback(fallback()).judge();
    assert_eq!(v.verdict, Verdict::Verified);
    // A scope that was taken back is no proof of absence.
    let mut scope = answers("ab", "--");
    scope[1].said = Said::ScopeRevoked("targets".to_owned(), revocation(None));
    let (v, asked, _) = Asked::of(&rule, scope).fallback(fallback()).walk();
    assert_eq!((v.verdict, asked), (Verdict::Absent, false));
}

#[test]
fn the_registry_is_asked_only_if_its_word_can_change_the_verdict() {
    for (letters, revoking_root, wanted) in [
        ("xxx", None, true),
        ("xx-", None, false),
        ("xx-", Some(0), true),
        ("UUU", None, false),
        ("UUU", Some(2), true),
        ("xxy", None, false),
    ] {
        let mut all = answers("abc", letters);
        if let Some(at) = revoking_root {
            all[at] = revoking(all[at].clone(), Digest::of(b"something"));
        }
        assert_eq!(Asked::of(ALL_OF_THREE, all).walk().2, wanted, "{letters} {revoking_root:?}");
    }
}
