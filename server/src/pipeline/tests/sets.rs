//! What changes together: keys taken away, teams replaced, delegations removed.

use plimsoll::publish::api::RefusalReason as Why;
use plimsoll_core::tuf::{Revocation, RoleKeys};

use super::*;
use RefusalCode::Refused;

const TEAM: &str = "targets--team";

fn add(name: &'static str) -> impl Fn(&mut Targets) {
    move |t| drop(t.targets.insert(name.to_owned(), target(name)))
}

/// `targets` with other keys for its first delegation.
fn rekeyed(world: &World, keys: &[&PrivateKey], threshold: u64) -> Vec<u8> {
    world.next("targets", |t| {
        let delegations = t.delegations.as_mut().unwrap();
        delegations.keys = keys.iter().map(|key| (key.key_id(), key.key().clone())).collect();
        delegations.roles[0].keys.keyids = keys.iter().map(|key| key.key_id()).collect();
        delegations.roles[0].keys.threshold = threshold;
    })
}

/// A team that vouches for `acme/app:v1`.
fn world() -> World {
    let world = World::with_team();
    world.submit(&[(TEAM, world.next(TEAM, add("acme/app:v1")))]).unwrap();
    world
}

/// T06, T07: a root's new owners, other thresholds, and the `targets` that they sign again, at once.
#[test]
fn new_owners_come_with_the_targets_role_and_the_teams_that_they_sign() {
    let world = world();
    let owners = [key(), key(), key()];
    let root = world.next_root(|root| {
        root.keys.remove(&world.owner.key_id());
        root.keys.extend(owners.iter().map(|key| (key.key_id(), key.key().clone())));
        for role in ["root", "targets"] {
            let keyids = owners.iter().map(Signer::key_id).collect();
            root.roles.insert(role.to_owned(), RoleKeys { keyids, threshold: 2, extra: BTreeMap::new() });
        }
    });
    let signed = |by: &[&PrivateKey]| sign(&root, by);
    let targets = world.edit("targets", |t| delegate(t, "targets--b", "acme/b", &[&world.team]));
    let team = ("targets--b", world.first("targets--b", &world.team));
    let [a, b, c] = &owners;
    let set = |root: Vec<u8>, by: &[&PrivateKey]| {
        vec![("root", root), ("targets", sign(&targets, by)), team.clone()]
    };
    let refuses = |set: &[(&str, Vec<u8>)], have: &str| {
        let refusal = world.refuses(set, Refused, have);
        assert_eq!(refusal.reason, Some(Why::Threshold));
    };
    refuses(&set(signed(&[a, b]), &[a, b]), "root: 0 of 1 required");
    refuses(&set(signed(&[a, &world.owner]), &[a, b]), "root: 1 of 2 required");
    refuses(&set(signed(&[a, b, &world.owner]), &[&world.owner]), "targets: 0 of 2 required");
    refuses(&set(signed(&[a, b, &world.owner]), &[a, &world.owner]), "targets: 1 of 2 required");
    let set = set(signed(&[a, b, &world.owner]), &[b, c]);
    let outcome = world.round(&[submitted(&set)]).unwrap();
    assert!(outcome.answers[0].is_ok() && outcome.reports.is_empty(), "{outcome:?}");
    // The owner that was is nobody now.
    refuses(&[("targets", world.next("targets", |_| {}))], "0 of 2 required");
    refuses(&[("root", sign(&world.next_root(|_| {}), &[&world.owner]))], "0 of 2 required");
}

/// T14: whatever the removed key signs, alone or in the very set that removes it, is refused.
#[test]
fn a_removed_key_signs_nothing_any_more() {
    let world = world();
    let new = key();
    let (targets, old) = (rekeyed(&world, &[&new], 1), world.next(TEAM, add("acme/app:v2")));
    let together = [("targets", targets.clone()), (TEAM, old.clone())];
    let refusal = world.refuses(&together, Refused, "targets--team: 0 of 1 required");
    assert_eq!(refusal.reason, Some(Why::Threshold));
    let again = sign(&world.edit(TEAM, |_| {}), &[&new]);
    world.submit(&[("targets", targets), (TEAM, again)]).unwrap();
    let refusal = world.refuses(&[(TEAM, world.next(TEAM, |_| {}))], Refused, "0 of 1 required");
    assert_eq!(refusal.reason, Some(Why::Threshold));
    let both = sign(&world.edit(TEAM, add("acme/app:v3")), &[&world.team, &new]);
    world.submit(&[(TEAM, both)]).unwrap();
}

/// T01: one of two holders is not two.
#[test]
fn a_threshold_that_rises_holds_from_that_submission_on() {
    let world = world();
    let other = key();
    let both = rekeyed(&world, &[&world.team, &other], 2);
    let one = world.next(TEAM, |_| {});
    world.refuses(&[("targets", both.clone()), (TEAM, one)], Refused, "1 of 2 required");
    let two = sign(&world.edit(TEAM, |_| {}), &[&world.team, &other]);
    world.submit(&[("targets", both), (TEAM, two)]).unwrap();
    world.refuses(&[(TEAM, world.next(TEAM, |_| {}))], Refused, "1 of 2 required");
}

/// The team lost its keys and its role expired: the parent signs its last content again, revocations with it.
#[test]
fn an_expired_child_is_taken_over_in_one_submission() {
    let mut world = world();
    let revoke = |t: &mut Targets| drop(author::revoke(t, &Digest::of(b"bad"), "broken", start()));
    world.submit(&[(TEAM, world.next(TEAM, revoke))]).unwrap();
    world.advance(TimeDelta::days(91));
    world.tick();
    let targets = rekeyed(&world, &[&world.owner], 1);
    let forgetful = world.edit(TEAM, |t| t.common.identity.as_mut().unwrap().revocations.clear());
    let refusal = world.refuses(
        &[("targets", targets.clone()), (TEAM, sign(&forgetful, &[&world.owner]))],
        Refused,
        "",
    );
    assert_eq!(refusal.reason, Some(Why::RevocationDropped), "{}", refusal.message);
    // As it was, it has expired, whoever signs it.
    let mut stale: Targets = world.newest(TEAM);
    stale.common.version += 1;
    let refusal = world.refuses(
        &[("targets", targets.clone()), (TEAM, sign(&stale, &[&world.owner]))],
        Refused,
        "expired",
    );
    assert_eq!(refusal.reason, Some(Why::Expired));
    let content = sign(&world.edit(TEAM, |_| {}), &[&world.owner]);
    world.submit(&[("targets", targets), (TEAM, content)]).unwrap();
    let taken: Targets = world.newest(TEAM);
    assert!(taken.targets.contains_key("acme/app:v1") && taken.revocations().len() == 1);
    assert!(taken.common.expires > world.now);
}

/// P3, P4: a team is removed; what it vouched for is told as revoked, and its name is gone for good.
#[test]
fn a_delegation_is_removed_as_a_revocation() {
    let world = world();
    let paths = scope("acme/app").patterns();
    let removed = |paths: Vec<String>| {
        world.next("targets", |t| {
            t.delegations.as_mut().unwrap().roles.clear();
            t.delegations.as_mut().unwrap().keys.clear();
            let (reason, extra) = ("they are gone".to_owned(), BTreeMap::new());
            let revocation = Revocation { digest: None, paths, reason, at: world.now, extra };
            t.common.identity.as_mut().unwrap().revocations.push(revocation);
        })
    };
    let late = world.next(TEAM, add("acme/app:v2"));
    let refusal = world.refuses(&[("targets", removed(paths.clone())), (TEAM, late.clone())], Refused, "");
    assert_eq!(refusal.reason, Some(Why::NotDelegated), "{}", refusal.message);
    let wider = world.refuses(&[("targets", removed(vec!["other/*".to_owned()]))], Refused, "cannot revoke");
    assert_eq!(wider.reason, Some(Why::OutOfScope));
    let outcome = world.round(&[submitted(&[("targets", removed(paths.clone()))])]).unwrap();
    assert!(outcome.answers[0].is_ok(), "{outcome:?}");
    assert_eq!(world.newest::<Targets>("targets").revocations()[0].paths, paths);

    let refusal = world.refuses(&[(TEAM, late)], Refused, "nobody delegates");
    assert_eq!(refusal.reason, Some(Why::NotDelegated));
    let again = world.next("targets", |t| delegate(t, TEAM, "acme/app", &[&world.team]));
    let refusal = world.refuses(&[("targets", again)], Refused, "its name is never given again");
    assert_eq!(refusal.reason, Some(Why::RetiredName));
    // Another role for the same scope is something else.
    let other = world.next("targets", |t| delegate(t, "targets--team2", "acme/app", &[&world.team]));
    world
        .submit(&[("targets", other), ("targets--team2", world.first("targets--team2", &world.team))])
        .unwrap();
}

/// P4: a team may give names and take them back without end; what nobody published leaves nothing behind that others pay for.
#[test]
fn only_a_role_that_published_something_keeps_its_name() {
    let world = world();
    let give = |t: &mut Targets| delegate(t, "targets--team--brief", "acme/app:v*", &[&world.team]);
    let take = |t: &mut Targets| drop(author::undelegate(t, "targets--team--brief"));
    for _ in 0..2 {
        world.submit(&[(TEAM, world.next(TEAM, give))]).unwrap();
        world.submit(&[(TEAM, world.next(TEAM, take))]).unwrap();
        assert!(world.head().retired.is_empty());
    }
    world.submit(&[(TEAM, world.next(TEAM, give))]).unwrap();
    let brief = world.first("targets--team--brief", &world.team);
    // Both in one round: the name counts as used.
    let both = [submitted(&[("targets--team--brief", brief)]), submitted(&[(TEAM, world.next(TEAM, take))])];
    assert!(world.round(&both).unwrap().answers.iter().all(Result::is_ok));
    assert_eq!(world.head().retired.into_iter().collect::<Vec<_>>(), ["targets--team--brief"]);
    let refusal = world.refuses(&[(TEAM, world.next(TEAM, give))], Refused, "never given again");
    assert_eq!(refusal.reason, Some(Why::RetiredName));
}
