//! What is looked at before a submission may wait for the committer.

use plimsoll::publish::api::RefusalReason as Why;

use super::*;
use crate::pipeline::{accept::vouch, round::Overlay};
use RefusalCode::{Conflict, Malformed, Refused};

/// The submission as it comes to the committer: parsed, and with good signatures known as such.
fn looked_at(world: &World, documents: &[(&str, Vec<u8>)]) -> Result<Submitted, Refusal> {
    let submitted = submitted(documents);
    vouch(&Overlay::new(&world.setup), &submitted.documents, &world.setup.parsed).map(|()| submitted)
}

fn taken(world: &World, submitted: Submitted) -> Result<SubmissionRecord, Refusal> {
    world.round(&[submitted]).unwrap().answers.pop().unwrap()
}

#[test]
fn who_holds_no_key_does_not_get_to_the_committer() {
    let world = World::with_team();
    let stranger = key();
    for (role, reason) in [("targets", Why::Threshold), ("targets--team", Why::Threshold)] {
        let bytes = sign(&world.edit(role, |_| {}), &[&stranger]);
        let refusal = looked_at(&world, &[(role, bytes)]).unwrap_err();
        assert_eq!((refusal.code, refusal.reason), (Refused, Some(reason)), "{role}");
    }
    let root = sign(&world.next_root(|_| {}), &[&stranger]);
    assert_eq!(looked_at(&world, &[("root", root)]).unwrap_err().reason, Some(Why::Threshold));
    let first = world.first("targets--none", &stranger);
    assert_eq!(looked_at(&world, &[("targets--none", first)]).unwrap_err().reason, Some(Why::NotDelegated));
    let old = world.document("targets", 1).unwrap().to_vec();
    assert_eq!(looked_at(&world, &[("targets", old)]).unwrap_err().code, Conflict);
    assert_eq!(looked_at(&world, &[("targets", b"{}".to_vec())]).unwrap_err().code, Malformed);
    assert_eq!(looked_at(&world, &[]).unwrap_err().code, Malformed);
}

/// A first submission, a delegation with its child, and a root with what it makes sign anew.
#[test]
fn what_is_signed_is_vouched_for_under_what_comes_with_it() {
    let world = World::empty();
    let first = [("root", world.signed_root()), ("targets", world.first_targets())];
    taken(&world, looked_at(&world, &first).unwrap()).unwrap();
    let team = "targets--team";
    let above = world.next("targets", |t| delegate(t, team, "acme/app", &[&world.team]));
    let set = [("targets", above), (team, world.first(team, &world.team))];
    taken(&world, looked_at(&world, &set).unwrap()).unwrap();
}

/// P4: the keys may be taken away between the look and the round; what was vouched for under the old ones counts no more.
#[test]
fn a_signature_that_was_good_a_moment_ago_is_verified_again_when_the_role_above_has_changed() {
    let world = World::with_team();
    let team = "targets--team";
    let late = [(team, world.next(team, |_| {}))];
    let late = looked_at(&world, &late).unwrap();
    let new = key();
    let targets = world.next("targets", |t| {
        let delegations = t.delegations.as_mut().unwrap();
        delegations.keys = BTreeMap::from([(new.key_id(), new.key().clone())]);
        delegations.roles[0].keys.keyids = vec![new.key_id()];
    });
    // In the same round, and in the next.
    let batch = [submitted(&[("targets", targets)]), late.clone()];
    let answers = world.round(&batch).unwrap().answers;
    assert!(answers[0].is_ok(), "{answers:?}");
    assert_eq!(answers[1].as_ref().unwrap_err().reason, Some(Why::Threshold));
    assert_eq!(taken(&world, late).unwrap_err().reason, Some(Why::Threshold));

    let root = [("root", sign(&world.next_root(|_| {}), &[&world.owner]))];
    let root = looked_at(&world, &root).unwrap();
    let holder = key();
    let other = world.next_root(|root| {
        root.keys.insert(holder.key_id(), holder.key().clone());
        root.roles.get_mut("root").unwrap().keyids.push(holder.key_id());
    });
    let other = submitted(&[("root", sign(&other, &[&world.owner]))]);
    let answers = world.round(&[other, root]).unwrap().answers;
    assert!(answers[0].is_ok());
    assert_eq!(answers[1].as_ref().unwrap_err().code, Conflict);
}
