//! What one team may take of what all share.

use plimsoll::publish::api::RefusalReason as Why;

use super::*;
use crate::store::{Commit, FailAt};
use RefusalCode::{RateLimited, Refused};

const TEAM: &str = "targets--team";

impl World {
    fn limited(mut self, quota: Quota) -> Self {
        self.setup.rates = Mutex::new(Rates::new(&quota));
        self.setup.quota = Mutex::new(quota);
        self
    }
}

fn publishes(publishes_per_minute: u32) -> World {
    let world = two_teams();
    world.limited(Quota { publishes_per_minute, ..Quota::default() })
}

/// Two teams, each with a role.
fn two_teams() -> World {
    let world = World::with_team();
    let targets = world.next("targets", |t| delegate(t, "targets--b", "acme/b", &[&world.team]));
    world.submit(&[("targets", targets), ("targets--b", world.first("targets--b", &world.team))]).unwrap();
    world
}

/// A longer document of `role`.
fn longer(world: &World, role: &str, by: usize) -> Vec<u8> {
    world.next(role, |t| {
        let filler = serde_json::Value::from("x".repeat(by.min(4000)));
        for n in 0..by.div_ceil(4000) {
            let scope = if role == "targets--b" { "b" } else { "app" };
            let mut target = target("x");
            target.custom = Some(BTreeMap::from([("note".to_owned(), filler.clone().into())]));
            t.targets.insert(format!("acme/{scope}:n{n}"), target);
        }
    })
}

/// P4: the snapshot is everybody's, so nobody fills it alone.
#[test]
fn one_team_cannot_fill_up_the_snapshot() {
    let world = two_teams();
    let mut head = world.head();
    let entry = head.roles[TEAM];
    for n in 0..999 {
        head.roles.insert(format!("{TEAM}--r{n}"), entry);
        // Of another team, whose name begins like this one's.
        head.roles.insert(format!("{TEAM}-x--r{n}"), entry);
    }
    // One that was removed stays in the snapshot, so it counts.
    head.retired.insert(format!("{TEAM}--r0"));
    head.sequence += 1;
    world.store.commit(&world.setup.key, &Commit { documents: vec![], head, submissions: vec![] }).unwrap();
    world.setup.reload(world.now).unwrap();
    let ci = "targets--team--ci";
    let above = || world.next(TEAM, |t| delegate(t, ci, "acme/app", &[&world.team]));
    let set = [(TEAM, above()), (ci, world.first(ci, &world.team))];
    let refusal = world.refuses(&set, Refused, "targets--team may have 1000 roles");
    assert_eq!(refusal.reason, Some(Why::Quota));
    assert!(refusal.message.contains("quota.roles"), "{}", refusal.message);
    // What is there is renewed, and others have room.
    world.submit(&[(TEAM, above())]).unwrap();
    let targets = world.next("targets", |t| delegate(t, "targets--c", "acme/c", &[&world.team]));
    world.submit(&[("targets", targets), ("targets--c", world.first("targets--c", &world.team))]).unwrap();
}

/// P4.
#[test]
fn the_bytes_of_a_team_are_those_of_its_newest_documents() {
    let world = two_teams();
    let used = world.head().roles[TEAM].length;
    let world = world.limited(Quota { bytes: used + 5000, ..Quota::default() });
    let refusal = world.refuses(
        &[(TEAM, longer(&world, TEAM, 20_000))],
        Refused,
        "targets--team with the roles below it",
    );
    assert_eq!(refusal.reason, Some(Why::Quota));
    assert!(refusal.message.contains(&format!("at most {}", used + 5000)), "{}", refusal.message);
    world.submit(&[("targets--b", longer(&world, "targets--b", 4000))]).unwrap();
    // What was published before counts no more: as often as it fits.
    for _ in 0..5 {
        world.submit(&[(TEAM, longer(&world, TEAM, 4000))]).unwrap();
    }
    // A role below the team's counts for it.
    let ci = "targets--team--ci";
    let above = world.next(TEAM, |t| delegate(t, ci, "acme/app", &[&world.team]));
    let mut first = author::empty_targets(ci, TRUST, world.now);
    for n in 0..40 {
        first.targets.insert(format!("acme/app:v{n}"), target("x"));
    }
    let refusal = world.refuses(&[(TEAM, above), (ci, sign(&first, &[&world.team]))], Refused, "quota.bytes");
    assert_eq!(refusal.reason, Some(Why::Quota));
    // The owners have no such limit.
    world.submit(&[("targets", longer(&world, "targets", 40_000))]).unwrap();
}

/// P4: whoever publishes without end is told to wait, and nobody else is.
#[test]
fn a_team_publishes_so_often_in_a_minute() {
    let mut world = publishes(3);
    for _ in 0..3 {
        world.submit(&[(TEAM, world.next(TEAM, |_| {}))]).unwrap();
    }
    let next = world.next(TEAM, |_| {});
    let refusal = world.refuses(&[(TEAM, next.clone())], RateLimited, "may publish 3 times in a minute");
    assert_eq!((refusal.reason, refusal.retry_after), (Some(Why::PublishRate), Some(20)));
    assert!(refusal.message.contains("again in 20 s"), "{}", refusal.message);
    // Roles below it count for it, and other teams and the owners are not held up by it.
    world.submit(&[("targets--b", world.next("targets--b", |_| {}))]).unwrap();
    for _ in 0..10 {
        world.submit(&[("targets", world.next("targets", |_| {}))]).unwrap();
    }
    // The same submission is taken later.
    world.advance(TimeDelta::seconds(20));
    world.submit(&[(TEAM, next)]).unwrap();
    world.refuses(&[(TEAM, world.next(TEAM, |_| {}))], RateLimited, "");
    // An owner who takes the role over is not held up by who floods it.
    let new = key();
    let targets = world.next("targets", |t| {
        let delegations = t.delegations.as_mut().unwrap();
        delegations.keys.insert(new.key_id(), new.key().clone());
        delegations.roles.iter_mut().find(|r| r.name == TEAM).unwrap().keys.keyids = vec![new.key_id()];
    });
    world.submit(&[("targets", targets), (TEAM, sign(&world.edit(TEAM, |_| {}), &[&new]))]).unwrap();
}

#[test]
fn only_what_is_published_takes_a_turn() {
    let world = publishes(2);
    // Refused, for any reason.
    for _ in 0..5 {
        world.submit(&[(TEAM, sign(&world.edit(TEAM, |_| {}), &[&world.owner]))]).unwrap_err();
    }
    // Sent again.
    let first = submitted(&[(TEAM, world.next(TEAM, |_| {}))]);
    let answers = world.round(&[first.clone(), first.clone()]).unwrap().answers;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(world.round(&[first]).unwrap().answers[0].is_ok());
    // Not stored.
    let second = submitted(&[(TEAM, world.next(TEAM, |_| {}))]);
    for _ in 0..5 {
        world.store.fail_next(FailAt::BeforePersist);
        world.round(std::slice::from_ref(&second)).unwrap_err();
    }
    assert!(world.round(&[second]).unwrap().answers[0].is_ok());
    world.refuses(&[(TEAM, world.next(TEAM, |_| {}))], RateLimited, "targets--team");
}

/// A new quota is for what is submitted next, and gives nobody back what was taken.
#[test]
fn a_quota_can_change_while_the_daemon_runs() {
    let world = publishes(4);
    let publish = |world: &World| world.submit(&[(TEAM, world.next(TEAM, |_| {}))]);
    for _ in 0..3 {
        publish(&world).unwrap();
    }
    let used = world.head().roles[TEAM].length;
    let set = |quota| world.setup.set_quota(quota, world.now);
    set(Quota { publishes_per_minute: 5, ..Quota::default() });
    for _ in 0..2 {
        publish(&world).unwrap();
    }
    world.refuses(&[(TEAM, world.next(TEAM, |_| {}))], RateLimited, "may publish 5 times in a minute");
    set(Quota { publishes_per_minute: 50, bytes: used, ..Quota::default() });
    publish(&world).unwrap();
    let longer = longer(&world, TEAM, 100);
    let refusal = world.refuses(&[(TEAM, longer.clone())], Refused, &format!("at most {used}"));
    assert_eq!(refusal.reason, Some(Why::Quota));
    set(Quota { publishes_per_minute: 50, ..Quota::default() });
    world.submit(&[(TEAM, longer)]).unwrap();
}
