//! What a round signs, and when.

use super::*;

fn entry(name: &str) -> impl Fn(&mut Targets) {
    move |t| {
        t.targets.insert(name.to_owned(), target(name));
    }
}

/// Two teams, each with a role.
fn two_teams() -> World {
    let world = World::with_team();
    let targets = world.next("targets", |t| delegate(t, "targets--b", "acme/b", &[&world.team]));
    world.submit(&[("targets", targets), ("targets--b", world.first("targets--b", &world.team))]).unwrap();
    world
}

#[test]
fn submissions_of_one_round_share_one_timestamp() {
    let world = two_teams();
    let before = world.version("timestamp");
    let batch = [("targets--team", "acme/app:v1"), ("targets--b", "acme/b:v1")]
        .map(|(role, name)| submitted(&[(role, world.next(role, entry(name)))]));
    let answers = world.round(&batch).unwrap().answers;
    let versions: Vec<u64> = answers.into_iter().map(|a| a.unwrap().timestamp_version).collect();
    assert_eq!(versions, [before + 1, before + 1]);
    assert_eq!(world.version("timestamp"), before + 1);
    let snapshot = world.snapshot();
    assert_eq!(
        (snapshot.role("targets--team").unwrap().version, snapshot.role("targets--b").unwrap().version),
        (2, 2)
    );
}

/// P6.
#[test]
fn a_submission_whose_answer_was_lost_gets_the_same_record_again() {
    let world = World::with_team();
    let submission = submitted(&[("targets--team", world.next("targets--team", entry("acme/app:v1")))]);
    // Twice while the first still waits, and again afterwards.
    let first = world.round(&[submission.clone(), submission.clone(), submission.clone()]).unwrap().answers;
    let record = first[0].clone().unwrap();
    assert_eq!(first[1], Ok(record.clone()));
    assert_eq!(first[2], Ok(record.clone()));
    let timestamp = world.version("timestamp");
    assert_eq!(world.round(&[submission]).unwrap().answers, [Ok(record)]);
    assert_eq!(world.version("timestamp"), timestamp, "nothing new was signed for it");
}

/// A set that `accept` cannot see through, because it breaks a role above it: only the client's check finds it.
fn poisoned(world: &World) -> Submitted {
    submitted(&[("targets--team--ci", world.next("targets--team--ci", |_| {}))])
}

fn with_orphans() -> World {
    let world = two_teams();
    let ci = "targets--team--ci";
    let above = world.next("targets--team", |t| delegate(t, ci, "acme/app", &[&world.team]));
    world.submit(&[("targets--team", above), (ci, world.first(ci, &world.team))]).unwrap();
    let new = key();
    let targets = world.next("targets", |t| {
        let delegations = t.delegations.as_mut().unwrap();
        delegations.keys.insert(new.key_id(), new.key().clone());
        delegations.roles.iter_mut().find(|r| r.name == "targets--team").unwrap().keys.keyids =
            vec![new.key_id()];
    });
    world.submit(&[("targets", targets)]).unwrap();
    world
}

#[test]
fn one_poisoned_submission_does_not_hurt_the_others_of_its_round() {
    let world = with_orphans();
    let good = submitted(&[("targets--b", world.next("targets--b", entry("acme/b:v1")))]);
    let answers = world.round(&[poisoned(&world), good]).unwrap().answers;
    assert!(answers[0].as_ref().unwrap_err().message.contains("clients would refuse it"), "{answers:?}");
    assert!(answers[1].is_ok(), "{answers:?}");
    assert_eq!(world.version("targets--b"), 2);
}

/// P2, P4: whoever sends such a thing without end keeps nobody's timestamp from being signed.
#[test]
fn a_poisoned_submission_does_not_hold_up_the_timestamp_that_is_due() {
    let mut world = with_orphans();
    world.advance(TimeDelta::hours(1));
    let before = world.version("timestamp");
    let outcome = world.round(&[poisoned(&world)]).unwrap();
    assert!(outcome.answers[0].is_err() && outcome.signed);
    assert_eq!(world.version("timestamp"), before + 1);
}

#[test]
fn nothing_is_signed_when_nothing_is_due() {
    let mut world = World::with_team();
    let before = world.head();
    world.advance(TimeDelta::minutes(53));
    assert!(!world.tick().signed);
    assert_eq!(world.head(), before);
    assert!(!World::empty().tick().signed);
}

#[test]
fn a_timestamp_is_signed_again_after_its_interval_under_the_same_snapshot() {
    let mut world = World::with_team();
    let (timestamp, snapshot) = (world.timestamp(), world.snapshot());
    world.advance(TimeDelta::hours(1));
    assert!(world.tick().signed);
    let new = world.timestamp();
    assert_eq!(new.common.version, timestamp.common.version + 1);
    assert_eq!(new.meta, timestamp.meta);
    assert_eq!(new.common.expires, world.now + TimeDelta::hours(24));
    assert_eq!(world.snapshot(), snapshot);
}

#[test]
fn a_snapshot_is_signed_again_at_half_its_life() {
    let mut world = World::with_team();
    world.setup.freshness =
        Freshness { snapshot_jitter: Some(TimeDelta::zero()), ..Freshness::default() }.into();
    let before = world.snapshot();
    world.advance(TimeDelta::hours(84) - TimeDelta::seconds(1));
    world.tick();
    assert_eq!(world.snapshot(), before);
    world.advance(TimeDelta::seconds(1));
    world.tick();
    let after = world.snapshot();
    assert_eq!(after.common.version, before.common.version + 1);
    assert_eq!(after.common.expires, world.now + TimeDelta::days(7));
    assert_eq!(after.meta, before.meta);
}

/// The daemon was away for a month.
#[test]
fn expired_online_roles_are_signed_again() {
    let mut world = World::with_team();
    world.advance(TimeDelta::days(30));
    assert!(world.tick().signed);
    assert_eq!(world.timestamp().common.expires, world.now + TimeDelta::hours(24));
    assert_eq!(world.snapshot().common.expires, world.now + TimeDelta::days(7));
}

/// P4.
#[test]
fn an_expired_root_or_targets_role_does_not_stop_freshness_or_the_teams() {
    let mut world = World::with_team();
    world.advance(TimeDelta::days(366));
    let outcome = world.tick();
    assert!(outcome.signed);
    assert!(outcome.reports.iter().any(|r| r.contains("root: version 1 expired")), "{:?}", outcome.reports);
    let team = submitted(&[("targets--team", world.next("targets--team", entry("acme/app:v1")))]);
    let outcome = world.round(&[team]).unwrap();
    assert!(outcome.answers[0].is_ok(), "{:?}", outcome.answers);
    for said in ["root: version 1 expired", "targets: version 2 expired"] {
        assert!(outcome.reports.iter().any(|r| r.contains(said)), "{said}: {:?}", outcome.reports);
    }
    // Their renewal takes effect the moment it comes.
    let root = sign(&world.next_root(|_| {}), &[&world.owner]);
    world.submit(&[("root", root), ("targets", world.next("targets", |_| {}))]).unwrap();
    world.advance(TimeDelta::hours(1));
    let outcome = world.tick();
    assert!(outcome.signed && outcome.reports.is_empty(), "{:?}", outcome.reports);
}

#[test]
fn below_an_expired_parent_the_client_still_checks_everything_else() {
    let mut world = with_orphans();
    world.advance(TimeDelta::days(366));
    let refusal = world.round(&[poisoned(&world)]).unwrap().answers.pop().unwrap().unwrap_err();
    assert!(refusal.message.contains("clients would refuse it"), "{refusal:?}");
}

/// T15.
#[test]
fn a_clock_that_went_back_stops_signing_until_it_is_right_again() {
    let mut world = World::with_team();
    let before = world.head();
    let good = submitted(&[("targets--team", world.next("targets--team", |_| {}))]);
    let right = world.now;
    world.now = right - TimeDelta::seconds(1);
    assert!(matches!(world.round(&[]), Err(RoundError::Clock(_))));
    assert!(matches!(world.round(std::slice::from_ref(&good)), Err(RoundError::Clock(_))));
    assert_eq!(world.head(), before);
    world.now = right;
    assert!(world.round(&[good]).unwrap().answers[0].is_ok());
}

#[test]
fn a_root_alone_changes_the_timestamp_and_no_snapshot() {
    let world = World::with_team();
    let (timestamp, snapshot) = (world.version("timestamp"), world.version("snapshot"));
    world.submit(&[("root", sign(&world.next_root(|_| {}), &[&world.owner]))]).unwrap();
    assert_eq!((world.version("timestamp"), world.version("snapshot")), (timestamp + 1, snapshot));
    assert!(world.snapshot().role("root").is_none());
}

#[test]
fn two_roots_in_a_row_in_one_round_are_both_taken() {
    let world = World::new();
    let two = world.next_root(|_| {});
    let mut three = two.clone();
    three.common.version = 3;
    let batch = [&two, &three].map(|root| submitted(&[("root", sign(root, &[&world.owner]))]));
    let outcome = world.round(&batch).unwrap();
    assert!(outcome.answers.iter().all(Result::is_ok), "{:?}", outcome.answers);
    assert_eq!(world.version("root"), 3);
    assert!(world.document("root", 2).is_some());
}
