//! Rules between a role and those above and below it, and sets that take effect together.

use plimsoll_core::tuf::SuccinctRoles;

use super::*;
use RefusalCode::{Conflict, Malformed, Refused};

fn add(name: &'static str) -> impl Fn(&mut Targets) {
    move |t| {
        t.targets.insert(name.to_owned(), target(name));
    }
}

/// The next `targets`, with a change to its delegation to `targets--team`.
fn changed(world: &World, change: impl FnOnce(&mut plimsoll_core::tuf::DelegatedRole)) -> Vec<u8> {
    world.next("targets", |t| change(&mut t.delegations.as_mut().unwrap().roles[0]))
}

/// T37, P4.
#[test]
fn a_name_must_lie_inside_of_every_scope_on_the_path() {
    let world = World::with_team();
    for (role, name, why) in [
        ("targets", "other/app:v1", "targets may not speak about other/app:v1"),
        ("targets", "acme:v1", "may not speak about"),
        (
            "targets--team",
            "acme/other:v1",
            "targets--team may not speak about acme/other:v1, only about acme/app:*",
        ),
        ("targets--team", "acme/app/sub:v1", "may not speak about"),
        ("targets--team", "other/app:v1", "may not speak about"),
    ] {
        world.refuses(&[(role, world.next(role, add(name)))], Refused, why);
    }
    world.submit(&[("targets--team", world.next("targets--team", add("acme/app:v1")))]).unwrap();
    // A tag scope holds no digests, and a grandchild is bound by all above it.
    let child =
        world.next("targets--team", |t| delegate(t, "targets--team--ci", "acme/app:v*", &[&world.team]));
    let ci = "targets--team--ci";
    let with = |name: &str| {
        let mut t = author::empty_targets(ci, TRUST, world.now);
        t.targets.insert(name.to_owned(), target("x"));
        sign(&t, &[&world.team])
    };
    let digest = format!("acme/app@{}", Digest::of(b"x"));
    for name in ["acme/app:latest", digest.as_str(), "acme/other:v1"] {
        world.refuses(&[("targets--team", child.clone()), (ci, with(name))], Refused, "may not speak about");
    }
    world.submit(&[("targets--team", child), (ci, with("acme/app:v1"))]).unwrap();
    // The middle scope shrinks: what lies below is bound at once.
    world
        .submit(&[("targets", changed(&world, |role| role.paths = Some(vec!["acme/app:w*".to_owned()])))])
        .unwrap();
    world.refuses(&[(ci, world.next(ci, |_| {}))], Refused, "only about acme/app:w*");
}

#[test]
fn a_delegation_must_lie_inside_of_the_scope_of_who_delegates() {
    let world = World::with_team();
    for scope in ["other/app", "**", "acme", "acme2/**"] {
        let bytes = world.next("targets", |t| delegate(t, "targets--x", scope, &[&world.team]));
        world.refuses(&[("targets", bytes)], Refused, "which is outside of");
    }
    for scope in ["acme/other", "acme/**", "acme/app/sub"] {
        let bytes = world.next("targets--team", |t| delegate(t, "targets--team--x", scope, &[&world.team]));
        world.refuses(&[("targets--team", bytes)], Refused, "which is outside of");
    }
}

/// T38, T39.
#[test]
fn only_plain_patterns_are_published() {
    let world = World::with_team();
    for pattern in [
        "acme/app:[a]",
        "acme/app:]",
        "acme/{app,b}:*",
        "acme/app:}",
        "acme/ap?:*",
        "acme/app:\\*",
        "/acme/app:*",
        "acme//app:*",
        "./acme/app:*",
        "acme/../app:*",
        "acme/app:**",
        "acme/**",
        "!acme/app:*",
        "acme/app:é",
        "acme/app:\n",
        "acme/app:%2f",
        "",
    ] {
        let bytes = changed(&world, |role| role.paths = Some(vec![pattern.to_owned()]));
        world.refuses(&[("targets", bytes)], Refused, "is not a pattern that is published here");
    }
    let bytes = changed(&world, |role| role.paths = Some(vec![]));
    world.refuses(&[("targets", bytes)], Refused, "needs path patterns");
    let many = (0..65).map(|n| format!("acme/app:v{n}")).collect();
    world.refuses(&[("targets", changed(&world, |role| role.paths = Some(many)))], Refused, "more than 64");
    let prefixes = changed(&world, |role| {
        role.paths = None;
        role.path_hash_prefixes = Some(vec!["00".to_owned()]);
    });
    world.refuses(&[("targets", prefixes)], Refused, "needs path patterns");
    let bins = world.next("targets", |t| {
        let delegations = t.delegations.as_mut().unwrap();
        let keys = delegations.roles.remove(0).keys;
        let (name_prefix, extra) = ("bin".to_owned(), BTreeMap::new());
        delegations.succinct_roles = Some(SuccinctRoles { keys, bit_length: 4, name_prefix, extra });
    });
    world.refuses(&[("targets", bins)], Refused, "hash bins are not published");
}

#[test]
fn a_child_is_called_after_its_parent() {
    let world = World::with_team();
    for name in [
        "team",
        "targets--team--x",
        "targets--",
        "targets--a--b",
        "targets--a.b",
        "targets---a",
        "targets--latest",
    ] {
        let bytes = changed(&world, |role| role.name = name.to_owned());
        world.refuses(&[("targets", bytes)], Refused, "must be called targets--LABEL");
    }
    let taken = world.next("targets--team", |t| delegate(t, "targets--other", "acme/app", &[&world.team]));
    world.refuses(&[("targets--team", taken)], Refused, "must be called targets--team--LABEL");
    world.refuses(&[("targets", changed(&world, |role| role.name = "snapshot".to_owned()))], Malformed, "");
}

#[test]
fn the_name_of_a_removed_role_is_never_given_again() {
    let world = World::with_team();
    let outcome =
        world.round(&[submitted(&[("targets", world.next("targets", |t| t.delegations = None))])]).unwrap();
    assert!(outcome.answers[0].is_ok());
    assert!(outcome.reports.iter().any(|r| r.contains("targets--team is delegated to no more")));
    // 5.5.5: it stays in the snapshot.
    assert!(world.snapshot().role("targets--team").is_some());
    world.refuses(&[("targets--team", world.next("targets--team", |_| {}))], Refused, "nobody delegates");
    let again = |t: &mut Targets| delegate(t, "targets--team", "acme/app", &[&world.team]);
    world.refuses(&[("targets", world.next("targets", again))], Refused, "its name is never given again");
    let other = world.next("targets", |t| delegate(t, "targets--team2", "acme/app", &[&world.team]));
    world.submit(&[("targets", other)]).unwrap();
}

#[test]
fn a_name_removed_earlier_in_the_same_round_is_gone_too() {
    let world = World::with_team();
    let without = world.edit("targets", |t| t.delegations = None);
    let mut again = without.clone();
    author::next_version("targets", &mut again, world.now);
    delegate(&mut again, "targets--team", "acme/app", &[&world.team]);
    let batch = [&without, &again].map(|t| submitted(&[("targets", sign(t, &[&world.owner]))]));
    let answers = world.round(&batch).unwrap().answers;
    assert!(answers[0].is_ok());
    assert!(answers[1].as_ref().unwrap_err().message.contains("never given again"), "{:?}", answers[1]);
}

/// T02, T05, T59, and members that make the document unreadable to clients that drop what they do not know.
#[test]
fn delegated_keys_follow_the_same_rules() {
    let world = World::with_team();
    let edit = |change: &dyn Fn(&mut plimsoll_core::tuf::Delegations)| {
        world.next("targets", |t| change(t.delegations.as_mut().unwrap()))
    };
    let foreign = edit(&|d| {
        let (_, key) = d.keys.pop_first().unwrap();
        d.keys.insert(plimsoll_core::tuf::KeyId("ab".repeat(32)), key);
    });
    world.refuses(&[("targets", foreign)], Refused, "not listed under its own id");
    let two = edit(&|d| d.roles[0].keys.threshold = 2);
    world.refuses(&[("targets", two)], Refused, "threshold 2 cannot be met by 1 distinct keys");
    let repeated = edit(&|d| {
        let id = d.roles[0].keys.keyids[0].clone();
        d.roles[0].keys.keyids = vec![id.clone(), id];
        d.roles[0].keys.threshold = 2;
    });
    world.refuses(&[("targets", repeated)], Refused, "cannot be met by 1 distinct keys");
    let unlisted = edit(&|d| d.keys.clear());
    world.refuses(&[("targets", unlisted)], Refused, "cannot be met by 0 distinct keys");
    let zero = edit(&|d| d.roles[0].keys.threshold = 0);
    world.refuses(&[("targets", zero)], Malformed, "threshold 0");
    let role_extra = edit(&|d| {
        d.roles[0].extra.insert("x-note".to_owned(), 1.into());
    });
    world.refuses(&[("targets", role_extra)], Refused, "unknown member `x-note` in delegations");
    let extra = edit(&|d| {
        d.extra.insert("x-note".to_owned(), 1.into());
    });
    world.refuses(&[("targets", extra)], Refused, "unknown member `x-note` in delegations");
}

#[test]
fn a_delegation_and_its_childs_first_version_take_effect_together() {
    let world = World::new();
    let (before, child) = (world.head().sequence, world.first("targets--team", &world.team));
    world.refuses(&[("targets--team", child.clone())], Refused, "nobody delegates");
    let targets = world.next("targets", |t| delegate(t, "targets--team", "acme/app", &[&world.team]));
    let record = world.submit(&[("targets--team", child), ("targets", targets)]).unwrap();
    assert_eq!(world.head().sequence, before + 1);
    assert_eq!(record.roles, BTreeMap::from([("targets".to_owned(), 2), ("targets--team".to_owned(), 1)]));
    let snapshot = world.snapshot();
    assert_eq!(
        (snapshot.role("targets").unwrap().version, snapshot.role("targets--team").unwrap().version),
        (2, 1)
    );
}

#[test]
fn one_bad_document_refuses_the_whole_set() {
    let world = World::new();
    let targets = world.next("targets", |t| delegate(t, "targets--team", "acme/app", &[&world.team]));
    let bad = sign(&author::empty_targets("targets--team", TRUST, world.now), &[&world.owner]);
    world.refuses(&[("targets", targets), ("targets--team", bad)], Refused, "0 of 1 required signatures");
}

#[test]
fn a_key_rotation_comes_with_what_it_signs_again() {
    let world = World::with_team();
    let new = key();
    let targets = changed(&world, |_| {});
    drop(targets);
    let targets = world.next("targets", |t| {
        let delegations = t.delegations.as_mut().unwrap();
        delegations.keys = BTreeMap::from([(new.key_id(), new.key().clone())]);
        delegations.roles[0].keys.keyids = vec![new.key_id()];
    });
    let old = world.next("targets--team", |_| {});
    world.refuses(
        &[("targets", targets.clone()), ("targets--team", old)],
        Refused,
        "0 of 1 required signatures",
    );
    let again = sign(&world.edit("targets--team", |_| {}), &[&new]);
    let outcome = world.round(&[submitted(&[("targets", targets), ("targets--team", again)])]).unwrap();
    assert!(outcome.answers[0].is_ok(), "{:?}", outcome.answers);
    assert!(outcome.reports.is_empty(), "{:?}", outcome.reports);
}

#[test]
fn a_change_of_the_parent_that_orphans_a_child_is_taken_and_reported() {
    let world = World::with_team();
    let new = key();
    let targets = world.next("targets", |t| {
        let delegations = t.delegations.as_mut().unwrap();
        delegations.keys = BTreeMap::from([(new.key_id(), new.key().clone())]);
        delegations.roles[0].keys.keyids = vec![new.key_id()];
    });
    let outcome = world.round(&[submitted(&[("targets", targets)])]).unwrap();
    assert!(outcome.answers[0].is_ok());
    let said = "targets--team version 1 has 0 of 1 signatures that targets now asks for";
    assert!(outcome.reports.iter().any(|r| r.contains(said)), "{:?}", outcome.reports);
    // T14: the old key is out.
    world.refuses(&[("targets--team", world.next("targets--team", |_| {}))], Refused, "0 of 1 required");
    world.submit(&[("targets--team", sign(&world.edit("targets--team", |_| {}), &[&new]))]).unwrap();
}

#[test]
fn delegations_nest_eight_deep_and_no_deeper() {
    let world = World::new();
    let mut parent = "targets".to_owned();
    for depth in 1..=9 {
        let child = format!("{parent}--d{depth}");
        let above = world.next(&parent, |t| delegate(t, &child, "acme/app", &[&world.team]));
        if depth == 9 {
            world.refuses(&[(&parent, above.clone())], Refused, "more than 8 levels");
            world.refuses(
                &[(&parent, above), (&child, world.first(&child, &world.team))],
                Refused,
                "8 levels",
            );
        } else {
            world.submit(&[(&parent, above), (&child, world.first(&child, &world.team))]).unwrap();
        }
        parent = child;
    }
    let deepest = "targets--d1--d2--d3--d4--d5--d6--d7--d8";
    world.submit(&[(deepest, world.next(deepest, add("acme/app:v1")))]).unwrap();
}

/// Below an orphan nothing can be published: clients would refuse it.
#[test]
fn a_child_of_an_orphan_is_refused_by_the_clients_own_check() {
    let world = World::with_team();
    let ci = "targets--team--ci";
    let above = world.next("targets--team", |t| delegate(t, ci, "acme/app", &[&world.team]));
    world.submit(&[("targets--team", above), (ci, world.first(ci, &world.team))]).unwrap();
    let new = key();
    let targets = world.next("targets", |t| {
        let delegations = t.delegations.as_mut().unwrap();
        delegations.keys = BTreeMap::from([(new.key_id(), new.key().clone())]);
        delegations.roles[0].keys.keyids = vec![new.key_id()];
    });
    world.submit(&[("targets", targets)]).unwrap();
    world.refuses(&[(ci, world.next(ci, |_| {}))], Refused, "clients would refuse it");
}

#[test]
fn losers_of_a_race_in_one_round_hear_of_the_winner() {
    let world = World::with_team();
    let one = submitted(&[("targets--team", world.next("targets--team", add("acme/app:v1")))]);
    let two = submitted(&[("targets--team", world.next("targets--team", add("acme/app:v2")))]);
    let answers = world.round(&[one, two]).unwrap().answers;
    assert!(answers[0].is_ok());
    let lost = answers[1].as_ref().unwrap_err();
    assert_eq!((lost.code, &lost.heads["targets--team"]), (Conflict, &2));
}
