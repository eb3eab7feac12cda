//! What a publisher may get wrong at the daemon's API, with the real binary: a specific status, code and reason, nothing
//! stored, nothing changed for anybody else. The table is in docs/http-api.md.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod pen;

use chrono::TimeDelta;
use data_encoding::HEXLOWER;
use pen::{OTHER, Pen, TEAM, delegate, key, now, sign, target};
use plimsoll::{
    keys::Signer,
    publish::{
        api::{RefusalCode, RefusalReason},
        author,
    },
};
use plimsoll_core::tuf::{Root, Targets};
use serde_json::{Value, json};

/// Signs what our own types would not write: `signed` must be in its canonical order.
fn sign_raw(signed: &Value, key: &impl Signer) -> Vec<u8> {
    let text = serde_json::to_string(signed).unwrap();
    let sig = HEXLOWER.encode(&key.sign(text.as_bytes()).unwrap());
    let signature = json!({ "keyid": key.key_id().0, "sig": sig });
    format!("{{\"signatures\":[{signature}],\"signed\":{text}}}").into_bytes()
}

/// The next version of `role` as JSON, changed.
fn raw(pen: &Pen, role: &str, change: impl FnOnce(&mut Value)) -> Value {
    let document: Value = serde_json::from_slice(&pen.next(role, |_| {})).unwrap();
    let mut signed = document["signed"].clone();
    change(&mut signed);
    signed
}

/// T51, T53, T54, T56: valid JSON of the wrong shape, at each level.
#[test]
fn json_of_the_wrong_shape_is_malformed() {
    let pen = Pen::start("");
    let good = String::from_utf8(pen.next(TEAM, |_| {})).unwrap();
    for body in [
        "null".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        "{\"documents\":[]}".to_owned(),
        "{\"documents\":{}}".to_owned(),
        format!("{{\"documents\":{{\"{TEAM}\":[{good}]}}}}"),
        format!("{{\"documents\":{{\"{TEAM}\":{good}}},\"documents\":{{}}}}"),
        format!("{{\"documents\":{{\"{TEAM}\":{good}}}}} true"),
        // Unknown members beside the one that there is.
        format!("{{\"documents\":{{\"{TEAM}\":{good}}},\"force\":true}}"),
    ] {
        pen.refuses_body(body.as_bytes(), 400, RefusalCode::Malformed, None);
    }
    for shape in [
        json!({}),
        json!({ "signed": {} }),
        json!({ "signed": [], "signatures": [] }),
        json!({ "signed": raw(&pen, TEAM, |_| {}), "signatures": {} }),
    ] {
        let body = json!({ "documents": { TEAM: shape } }).to_string();
        pen.refuses_body(body.as_bytes(), 400, RefusalCode::Malformed, None);
    }
    // Signed all the same.
    let wrong: [fn(&mut Value); 8] = [
        |v| v["targets"] = json!([]),
        |v| v["version"] = json!("2"),
        |v| v["expires"] = json!("tomorrow"),
        |v| v["_type"] = json!("root"),
        |v| v["spec_version"] = json!("2.0.0"),
        |v| v["delegations"] = json!({ "keys": [], "roles": {} }),
        |v| v["x-plimsoll"]["trust"] = json!("short"),
        |v| v["targets"] = json!({ "acme/app:v1": { "length": -1, "hashes": {} } }),
    ];
    for change in wrong {
        let bytes = sign_raw(&raw(&pen, TEAM, change), &pen.team);
        pen.refuses_body(&Pen::body(&[(TEAM, bytes)]), 400, RefusalCode::Malformed, None);
    }
    pen.accepts(&[(TEAM, good.into_bytes())]);
}

/// T25: good signatures over the wrong version.
#[test]
fn versions_other_than_the_next_are_refused() {
    let pen = Pen::start("");
    pen.accepts(&[(TEAM, pen.next(TEAM, |_| {}))]);
    for (role, head) in [(TEAM, 2), ("targets", 1)] {
        // Each another document: the very same one would be a submission that is sent again.
        let of = |version: u64| {
            pen.next(role, |t| {
                t.common.version = version;
                t.targets.insert("acme/app:again".to_owned(), target("x"));
            })
        };
        let same = Pen::body(&[(role, of(head))]);
        let refusal = pen.refuses_body(&same, 409, RefusalCode::Conflict, None);
        assert_eq!(refusal.heads[role], head);
        for version in [head + 2, (1 << 31) - 1, 1 << 31, 1 << 53, (1 << 63) - 1] {
            pen.refuses(&[(role, of(version))], RefusalReason::WrongVersion);
        }
        let holder = if role == TEAM { &pen.team } else { &pen.owner };
        for beyond in [json!(1u64 << 63), json!(u64::MAX), json!(0), json!(-1)] {
            let bytes = sign_raw(&raw(&pen, role, |v| v["version"] = beyond), holder);
            pen.refuses_body(&Pen::body(&[(role, bytes)]), 400, RefusalCode::Malformed, None);
        }
    }
    for version in [3, (1 << 31) - 1, 1 << 53] {
        pen.refuses(&[("root", pen.next_root(|r| r.common.version = version))], RefusalReason::WrongVersion);
    }
    for role in ["timestamp", "snapshot"] {
        pen.refuses(&[(role, pen.next(TEAM, |_| {}))], RefusalReason::WrongVersion);
    }
    pen.accepts(&[(TEAM, pen.next(TEAM, |_| {}))]);
}

/// T50.
#[test]
fn members_that_nobody_signed_are_refused() {
    let pen = Pen::start("");
    for (role, good) in [(TEAM, pen.next(TEAM, |_| {})), ("root", pen.next_root(|_| {}))] {
        let text = String::from_utf8(good).unwrap();
        let bytes = text.replacen("{\"signatures\"", "{\"note\":1,\"signatures\"", 1).into_bytes();
        pen.refuses(&[(role, bytes)], RefusalReason::Form);
    }
}

/// T15, T17.
#[test]
fn documents_that_have_expired_or_live_too_long_are_refused() {
    let pen = Pen::start("");
    let holders = [("targets", 365), (TEAM, 90)];
    for (role, days) in holders {
        let of = |expires| pen.next(role, |t: &mut Targets| t.common.expires = expires);
        pen.refuses(&[(role, of(now() - TimeDelta::seconds(1)))], RefusalReason::Expired);
        pen.refuses(&[(role, of(now() - TimeDelta::days(1000)))], RefusalReason::Expired);
        for days in [days + 1, 36_500, 2_900_000] {
            pen.refuses(&[(role, of(now() + TimeDelta::days(days)))], RefusalReason::TooLongLived);
        }
        let ahead =
            pen.next(role, |t| t.common.identity.as_mut().unwrap().at = now() + TimeDelta::minutes(30));
        pen.refuses(&[(role, ahead)], RefusalReason::AheadOfClock);
    }
    pen.refuses(&[("root", pen.next_root(|r| r.common.expires = now()))], RefusalReason::Expired);
    let long = pen.next_root(|r| r.common.expires = now() + TimeDelta::days(366));
    pen.refuses(&[("root", long)], RefusalReason::TooLongLived);
}

/// T37, T38, P4.
#[test]
fn names_and_delegations_outside_the_scope_are_refused() {
    let pen = Pen::start("");
    for name in ["acme/other:v1", "acme/app2:v1", "acme/app/sub:v1", "other/app:v1"] {
        let bytes = pen.next(TEAM, |t| drop(t.targets.insert(name.to_owned(), target("x"))));
        pen.refuses(&[(TEAM, bytes)], RefusalReason::OutOfScope);
    }
    let bytes = pen.next("targets", |t| drop(t.targets.insert("other/app:v1".to_owned(), target("x"))));
    pen.refuses(&[("targets", bytes)], RefusalReason::OutOfScope);
    for scope in ["acme/other", "acme/**", "other/app"] {
        let child = "targets--team--ci";
        let bytes = pen.next(TEAM, |t| delegate(t, child, scope, &pen.team));
        let first = sign(&author::empty_targets(child, pen::TRUST, now()), &pen.team);
        pen.refuses(&[(TEAM, bytes), (child, first)], RefusalReason::OutOfScope);
    }
    for name in ["acme/app", "ACME/app:v1", "../app:v1", "acme/app:\u{7}"] {
        let bytes = pen.next(TEAM, |t| drop(t.targets.insert(name.to_owned(), target("x"))));
        pen.refuses(&[(TEAM, bytes)], RefusalReason::Entry);
    }
}

/// T01, T05, P4: good signatures, of somebody else's key.
#[test]
fn keys_of_another_role_sign_nothing() {
    let pen = Pen::start("");
    for (role, wrong) in [(TEAM, &pen.owner), (TEAM, &pen.other), (OTHER, &pen.team), ("targets", &pen.team)]
    {
        pen.refuses(&[(role, sign(&pen.edit(role, |_| {}), wrong))], RefusalReason::Threshold);
    }
    let mut root: Root = pen.newest("root");
    root.common.version = 2;
    let stolen = sign(&root, &pen.team);
    pen.refuses(&[("root", stolen)], RefusalReason::Threshold);
    // With one bad document in a set, the good one is not taken either.
    let set = [(TEAM, pen.next(TEAM, |_| {})), (OTHER, sign(&pen.edit(OTHER, |_| {}), &pen.team))];
    pen.refuses(&set, RefusalReason::Threshold);
}

/// One delegator for each name.
#[test]
fn a_second_delegator_for_a_name_is_refused() {
    let pen = Pen::start("");
    let thief = key();
    for (role, name) in [(TEAM, OTHER), (TEAM, "targets--other--ci"), ("targets", "targets--team--ci")] {
        // The author would not write it, so it is put in the place of one that it does.
        let mut targets = pen.edit(role, |t| delegate(t, &format!("{role}--x"), "acme/app:x*", &thief));
        let delegations = targets.delegations.as_mut().unwrap();
        delegations.roles.iter_mut().find(|r| r.name.ends_with("--x")).unwrap().name = name.to_owned();
        let holder = if role == TEAM { &pen.team } else { &pen.owner };
        pen.refuses(&[(role, sign(&targets, holder))], RefusalReason::Delegation);
    }
    // Twice in one document.
    let mut signed = raw(&pen, "targets", |_| {});
    let roles = signed["delegations"]["roles"].as_array_mut().unwrap();
    let again = roles[0].clone();
    roles.push(again);
    let bytes = sign_raw(&signed, &pen.owner);
    pen.refuses_body(&Pen::body(&[("targets", bytes)]), 400, RefusalCode::Malformed, None);
    // And to whom nobody delegates.
    let first = sign(&author::empty_targets("targets--team--ci", pen::TRUST, now()), &pen.team);
    pen.refuses(&[("targets--team--ci", first)], RefusalReason::NotDelegated);
}

/// T70.
#[test]
fn another_trust_id_is_refused() {
    let pen = Pen::start("");
    let other = "f".repeat(32);
    for role in ["targets", TEAM] {
        let bytes = pen.next(role, |t| t.common.identity.as_mut().unwrap().trust = other.clone());
        pen.refuses(&[(role, bytes)], RefusalReason::TrustId);
        pen.refuses(&[(role, pen.next(role, |t| t.common.identity = None))], RefusalReason::TrustId);
    }
    let root = pen.next_root(|r| r.common.identity.as_mut().unwrap().trust = other.clone());
    pen.refuses(&[("root", root)], RefusalReason::TrustId);
}

#[test]
fn a_root_without_the_daemons_keys_is_refused() {
    let pen = Pen::start("");
    let (owner, mine) = (pen.owner.key_id(), key());
    for role in ["timestamp", "snapshot"] {
        let dropped = pen.next_root(|r| r.roles.get_mut(role).unwrap().keyids = vec![owner.clone()]);
        pen.refuses(&[("root", dropped)], RefusalReason::OnlineKeys);
        let replaced = pen.next_root(|r| {
            r.keys.insert(mine.key_id(), mine.key().clone());
            r.roles.get_mut(role).unwrap().keyids = vec![mine.key_id()];
        });
        pen.refuses(&[("root", replaced)], RefusalReason::OnlineKeys);
        let beside = pen.next_root(|r| {
            r.keys.insert(mine.key_id(), mine.key().clone());
            r.roles.get_mut(role).unwrap().keyids.push(mine.key_id());
        });
        pen.refuses(&[("root", beside)], RefusalReason::OnlineKeys);
        let gone = pen.next_root(|r| {
            let id = r.roles[role].keyids[0].clone();
            r.keys.remove(&id);
        });
        pen.refuses(&[("root", gone)], RefusalReason::Threshold);
    }
    pen.accepts(&[("root", pen.next_root(|_| {}))]);
}

/// P4: more than its quota, and more often; the same is told through `Retry-After`.
#[test]
fn a_team_beyond_its_quota_is_refused_and_others_are_not() {
    let pen = Pen::start("[quota]\nroles = 2\nbytes = \"4KiB\"\npublishes-per-minute = 3\n");
    let long = pen.next(TEAM, |t| {
        for n in 0..40 {
            t.targets.insert(format!("acme/app:v{n}"), target("x"));
        }
    });
    pen.refuses(&[(TEAM, long)], RefusalReason::Quota);
    let children = ["targets--team--a", "targets--team--b"];
    let above = pen.next(TEAM, |t| {
        for child in children {
            delegate(t, child, &format!("acme/app:{}*", &child[child.len() - 1..]), &pen.team);
        }
    });
    let mut set = vec![(TEAM, above)];
    set.extend(
        children.map(|child| (child, sign(&author::empty_targets(child, pen::TRUST, now()), &pen.team))),
    );
    pen.refuses(&set, RefusalReason::Quota);
    // The first one came with the root, so it took none of the three.
    for _ in 0..3 {
        pen.accepts(&[(TEAM, pen.next(TEAM, |_| {}))]);
    }
    let body = Pen::body(&[(TEAM, pen.next(TEAM, |_| {}))]);
    let refusal = pen.refuses_body(&body, 429, RefusalCode::RateLimited, Some(RefusalReason::PublishRate));
    let told = pen.post(&body);
    assert!((1..=20).contains(&refusal.retry_after.unwrap()), "{refusal:?}");
    let header: u64 = told.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=20).contains(&header), "{header}");
    pen.accepts(&[(OTHER, pen.next(OTHER, |_| {}))]);
    pen.accepts(&[("targets", pen.next("targets", |_| {}))]);
}
