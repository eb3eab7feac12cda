//! Pins, versions, ages, digests and actions: what the policy asks besides a signature.

use super::*;

const BY_DIGEST: &str = "r.io/acme/app@sha256:";

/// The verdict and what it says if the scope says `line` besides, for one root that vouches as `change` has it.
fn with(line: &str, change: impl Fn(&mut Answer)) -> (Verdict, String) {
    let mut one = answer("a", signed(good()));
    change(&mut one);
    let v = Asked::of(&format!("{line}\n{ALL}"), vec![one]).judge();
    (v.verdict, v.reason)
}

fn denied(line: &str, change: impl Fn(&mut Answer), says: &str) {
    let (verdict, reason) = with(line, change);
    assert_eq!(verdict, Verdict::PolicyDeny, "{line}");
    assert!(reason.contains(says), "{reason}");
    // Which line of the policy it was.
    assert!(reason.ends_with("of the scope r.io/acme/**)"), "{reason}");
}

fn allowed(line: &str, change: impl Fn(&mut Answer)) {
    assert_eq!(with(line, change).0, Verdict::Verified, "{line}");
}

fn change(answer: &mut Answer, edit: impl Fn(&mut Signed)) {
    let Said::Signed(signed) = &mut answer.said else { panic!() };
    edit(signed);
}

/// TAP 13: who holds the roles above cannot give the name to somebody else.
#[test]
fn a_pinned_role_and_its_keys_must_be_on_the_path() {
    let key = |id: &str| id.repeat(64);
    let keys = |ids: &str| {
        let ids: Vec<String> = ids.chars().map(|id| format!("\"{}\"", key(&id.to_string()))).collect();
        format!("pin = {{ a = {{ role = \"targets--app\", keys = [{}] }} }}", ids.join(", "))
    };
    let by = |ids: &str| {
        let ids: Vec<KeyId> = ids.chars().map(|id| KeyId(key(&id.to_string()))).collect();
        move |answer: &mut Answer| answer.report.roles[1].keys.clone_from(&ids)
    };
    allowed(r#"pin = { a = { role = "targets--app" } }"#, |_| {});
    allowed(&keys("12"), by("12"));
    allowed(&keys("1"), by("12"));
    denied(&keys("12"), by("1"), "targets--app of root a is not signed by the key 2222");
    denied(&keys("1"), by("3"), "(pin of the scope");
    let elsewhere =
        |answer: &mut Answer| answer.report.path = vec!["targets".to_owned(), "targets--new".to_owned()];
    denied(&keys("1"), elsewhere, "root a vouches by targets > targets--new, not by targets--app");
    // The right keys under another role are not enough.
    denied(
        &keys("1"),
        |answer| {
            answer.report.path = vec!["targets".to_owned()];
            by("1")(answer);
        },
        "not by targets--app",
    );
}

#[test]
fn a_version_must_meet_the_constraint() {
    let tag = |constraint: &str, tag: &str| {
        let rule = format!("constraint = {{ tag = \"{constraint}\" }}\n{ALL}");
        let reference = format!("r.io/acme/app:{tag}");
        Asked { reference: &reference, ..Asked::of(&rule, vec![answer("a", signed(good()))]) }.judge()
    };
    assert_eq!(tag(">=1.2, <2", "v1.4.0").verdict, Verdict::Verified);
    for bad in ["2.0.0", "1.1.9", "latest", "1.4.0-rc.1", "1.4"] {
        let v = tag(">=1.2, <2", bad);
        assert_eq!(v.verdict, Verdict::PolicyDeny, "{bad}");
        let none = if matches!(bad, "latest" | "1.4") {
            ", which is no full semantic version, as 1.2.3 is"
        } else {
            ""
        };
        assert!(v.reason.contains(&format!("the tag is {bad}{none} (constraint of")), "{}", v.reason);
    }
    // A digest alone has no tag that could meet it.
    let rule = format!("constraint = {{ tag = \"*\" }}\n{ALL}");
    let reference = format!("{BY_DIGEST}{}", good().hex());
    let asked = Asked { reference: &reference, ..Asked::of(&rule, vec![answer("a", signed(good()))]) };
    let v = asked.presented(Presented::Written(good())).judge();
    assert_eq!(v.verdict, Verdict::PolicyDeny);
    assert!(v.reason.contains("there is no tag"), "{}", v.reason);

    let custom = r#"constraint = { custom-version = "^2.1" }"#;
    allowed(custom, |answer| change(answer, |signed| signed.version = Some("2.3.1".to_owned())));
    denied(
        custom,
        |answer| change(answer, |signed| signed.version = Some("3.0.0\x1b".to_owned())),
        "signed 3.0.0 , which is no full semantic version",
    );
    denied(custom, |_| {}, "root a signed none");
}

#[test]
fn a_signature_may_be_too_old_for_the_policy() {
    allowed(r#"max-signed-age = "10d""#, |_| {});
    denied(r#"max-signed-age = "9d""#, |_| {}, "root a signed this on 2027-01-05");
    denied(
        r#"max-signed-age = "9d""#,
        |answer| change(answer, |signed| signed.at = None),
        "does not say when",
    );
    // A signer whose clock is ahead signed it just now.
    allowed(r#"max-signed-age = "9d""#, |answer| {
        change(answer, |signed| signed.at = Some(now() + TimeDelta::days(1)));
    });
}

#[test]
fn retained_digests_are_for_those_who_want_them() {
    let old = |answer: &mut Answer| change(answer, |signed| signed.current = false);
    denied(r#"digest-refs = "current""#, old, "no tag of the same role means it now");
    denied("", old, "no tag of the same role means it now");
    allowed(r#"digest-refs = "retained""#, old);
}

/// A root that vouches otherwise than the policy wants it does not count; if the others are enough, so be it.
#[test]
fn a_condition_costs_a_root_its_voice_and_not_more() {
    let line = r#"pin = { b = { role = "targets--app" } }"#;
    let all = || {
        let mut all = ["a", "b", "c"].map(|name| answer(name, signed(good()))).to_vec();
        all[1].report.path = vec!["targets".to_owned()];
        all
    };
    for (require, expected) in [
        (r#"{ all = ["a", "b", "c"] }"#, Verdict::PolicyDeny),
        (r#"{ threshold = 2, of = ["a", "b", "c"] }"#, Verdict::Verified),
        (r#"{ threshold = 3, of = ["a", "b", "c"] }"#, Verdict::PolicyDeny),
        (r#"{ any = ["a", "b", "c"] }"#, Verdict::Verified),
    ] {
        let v = Asked::of(&format!("{line}\nrequire = {require}"), all()).judge();
        assert_eq!(v.verdict, expected, "{require}");
        if expected == Verdict::Verified {
            assert!(v.warnings[0].starts_with("root b does not count: "), "{:?}", v.warnings);
            assert_eq!(
                v.reason,
                "signed by targets > targets--app (root a) and targets > targets--app (root c)"
            );
        }
    }
    // What it says is still something else than what the others say.
    let mut all = all();
    all[1].said = signed(other());
    let v = Asked::of(&format!("{line}\nrequire = {{ any = [\"a\", \"b\", \"c\"] }}"), all).judge();
    assert_eq!(v.verdict, Verdict::Conflict);
}

#[test]
fn what_is_denied_is_denied_whoever_vouches() {
    let rule = "action = \"deny\"\nreason = \"retired\"";
    for presented in [Presented::Unasked, Presented::Tag(good()), Presented::NoSuchTag] {
        let (v, _, registry) = Asked::of(rule, Vec::new()).presented(presented).walk();
        assert_eq!((v.verdict, registry), (Verdict::PolicyDeny, false));
        assert_eq!(v.reason, "your policy refuses it: retired (action of the scope r.io/acme/**)");
    }
}

#[test]
fn a_listed_digest_is_allowed_until_the_day() {
    let rule = format!(
        "action = \"allow-digest\"\ndigests = [\"{}\"]\nreason = \"no signer yet\"\nuntil = \"2027-02-01T00:00:00Z\"",
        good()
    );
    let failed = Presented::Failed { verdict: Verdict::Unreachable, why: "gone".to_owned() };
    for (presented, expected) in [
        (Presented::Tag(good()), Verdict::Verified),
        (Presented::Written(good()), Verdict::Verified),
        (Presented::Tag(other()), Verdict::PolicyDeny),
        // Nothing that is presented is on the list, and nobody signed anything.
        (Presented::NoSuchTag, Verdict::PolicyDeny),
        (failed, Verdict::Unreachable),
    ] {
        let (v, _, registry) = Asked::of(&rule, Vec::new()).presented(presented.clone()).walk();
        assert_eq!((v.verdict, registry), (expected, true), "{presented:?}");
        if expected == Verdict::Verified {
            assert!(v.reason.contains("until 2027-02-01 00:00 UTC without asking anybody: no signer yet"));
            assert_eq!(v.resolved, Some(format!("r.io/acme/app@{}", good())));
        }
        if let Presented::NoSuchTag = presented {
            let says = "the registry has no such tag, so there is no digest that it could list (digests of";
            assert!(v.reason.contains(says) && !v.reason.contains("signed"), "{}", v.reason);
        }
        // Not to `resolve`, which would answer the same again.
        if expected == Verdict::PolicyDeny {
            let next = v.next.unwrap();
            let listed = format!("use one of them by its digest, as {TAG}@{}", good());
            assert!(
                next.starts_with("look at `digests` of the scope r.io/acme/**") && next.contains(&listed),
                "{next}"
            );
        }
    }
    let until: DateTime<Utc> = "2027-02-01T00:00:00Z".parse().unwrap();
    for (now, expected) in [(until - TimeDelta::seconds(1), Verdict::Verified), (until, Verdict::PolicyDeny)]
    {
        let (v, _, registry) = Asked { now, ..Asked::of(&rule, Vec::new()) }.walk();
        assert_eq!((v.verdict, registry), (expected, expected == Verdict::Verified));
        let next = v.next.unwrap_or_default();
        assert!(expected == Verdict::Verified || next.starts_with("look at `until` of the scope"), "{next}");
    }
}

/// What is told to do leads on: it never is to ask what has just refused.
#[test]
fn the_advice_names_who_can_mend_what_the_policy_refuses() {
    let key = "1".repeat(64);
    let pin = format!("pin = {{ a = {{ role = \"targets--app\", keys = [\"{key}\"] }} }}");
    let next = |line: &str, edit: &dyn Fn(&mut Answer)| {
        let mut one = answer("a", signed(good()));
        edit(&mut one);
        let v = Asked::of(&format!("{line}\n{ALL}"), vec![one]).judge();
        assert_eq!(v.verdict, Verdict::PolicyDeny, "{line}");
        v.next.unwrap()
    };
    let ids = |ids: &'static str| {
        move |answer: &mut Answer| answer.report.roles[1].keys = vec![KeyId(ids.to_owned())]
    };
    let unsaid = |answer: &mut Answer| change(answer, |signed| signed.at = None);
    for (line, edit, says) in [
        (
            pin.as_str(),
            &ids("k1") as &dyn Fn(&mut Answer),
            "ask the holder of that key to sign targets--app of root a",
        ),
        ("pin = { a = { role = \"targets--new\" } }", &|_| {}, "ask those behind root a why targets--new"),
        (
            "constraint = { custom-version = \">=2\" }",
            &|_| {},
            "ask the signers of targets--app of root a to sign one",
        ),
        ("constraint = { tag = \">=2\" }", &|_| {}, "use a tag that meets `>=2`; none was found"),
        ("max-signed-age = \"1d\"", &|_| {}, "ask the signers of targets--app of root a to sign it again"),
        (
            "max-signed-age = \"1d\"",
            &unsaid,
            "ask the signers of targets--app of root a to sign it with the time",
        ),
    ] {
        let next = next(line, edit);
        assert!(next.contains(says) && !next.contains("plimsoll resolve"), "{line}: {next}");
    }
}
