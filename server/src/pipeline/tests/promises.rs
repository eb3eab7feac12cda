//! What a publisher promised stays: revocations, immutable tags; and what stands beside the entries.

use plimsoll_core::tuf::{KeyId, Revocation};

use super::*;
use RefusalCode::Refused;
use plimsoll::publish::api::RefusalReason as Why;

fn identity(targets: &mut Targets) -> &mut plimsoll_core::tuf::Identity {
    targets.common.identity.as_mut().unwrap()
}

fn digest(content: &str) -> Digest {
    Digest::of(content.as_bytes())
}

fn taken_back(content: &str, at: DateTime<Utc>) -> Revocation {
    Revocation {
        digest: Some(digest(content)),
        paths: Vec::new(),
        reason: "it was not that one".to_owned(),
        at,
        extra: BTreeMap::new(),
    }
}

/// Takes the revocation of `content` back as publishers do.
fn reinstate(targets: &mut Targets, content: &str, at: DateTime<Utc>) {
    identity(targets).revocations.retain(|revocation| revocation.digest != Some(digest(content)));
    identity(targets).reinstated.push(taken_back(content, at));
}

fn insert(targets: &mut Targets, name: &str, content: &str) {
    targets.targets.insert(name.to_owned(), target(content));
}

const TEAM: &str = "targets--team";

/// A team that revoked `bad` at `start()`.
fn revoked() -> World {
    let mut world = World::with_team();
    world.submit(&[(TEAM, world.next(TEAM, |t| insert(t, "acme/app:v1", "bad")))]).unwrap();
    let revoke = |t: &mut Targets| drop(author::revoke(t, &digest("bad"), "found broken", start()));
    world.submit(&[(TEAM, world.next(TEAM, revoke))]).unwrap();
    world.advance(TimeDelta::minutes(10));
    world
}

fn why(world: &World, document: Vec<u8>, reason: Why, text: &str) {
    let refusal = world.refuses(&[(TEAM, document)], Refused, text);
    assert_eq!(refusal.reason, Some(reason), "{}", refusal.message);
}

/// P3.
#[test]
fn a_revoked_digest_comes_back_only_by_a_signed_word_and_can_be_revoked_again() {
    let world = revoked();
    let now = world.now;
    let silently = world.next(TEAM, |t| identity(t).revocations.clear());
    why(&world, silently, Why::RevocationDropped, "the revocation of sha256:");
    let other = world.next(TEAM, |t| {
        identity(t).revocations.clear();
        identity(t).reinstated.push(taken_back("other", now));
    });
    why(&world, other, Why::RevocationDropped, "the revocation of sha256:");
    let older = world.next(TEAM, |t| reinstate(t, "bad", start() - TimeDelta::seconds(1)));
    why(&world, older, Why::RevocationDropped, "the revocation of sha256:");
    let both = world.next(TEAM, |t| identity(t).reinstated.push(taken_back("bad", now)));
    why(&world, both, Why::RevocationDropped, "revoked and reinstated at once");
    let ahead = now + TimeDelta::minutes(5);
    let future = world.next(TEAM, |t| reinstate(t, "bad", ahead + TimeDelta::seconds(1)));
    why(&world, future, Why::AheadOfClock, "ahead of this daemon's clock");
    // Listed in the same version in which it is taken back.
    let good = world.next(TEAM, |t| {
        reinstate(t, "bad", now);
        insert(t, "acme/app:v1", "bad");
    });
    world.submit(&[(TEAM, good)]).unwrap();

    // It stays said, also when it is revoked again; the old word does not undo that.
    let forgotten = world.next(TEAM, |t| identity(t).reinstated.clear());
    why(&world, forgotten, Why::RevocationDropped, "they stay");
    let again = world.next(TEAM, |t| {
        author::revoke(t, &digest("bad"), "it was that one", now);
    });
    world.submit(&[(TEAM, again)]).unwrap();
    let old_word = world.next(TEAM, |t| identity(t).revocations.clear());
    why(&world, old_word, Why::RevocationDropped, "the revocation of sha256:");
    let third = world.next(TEAM, |t| reinstate(t, "bad", now + TimeDelta::seconds(1)));
    world.submit(&[(TEAM, third)]).unwrap();
    assert_eq!(world.newest::<Targets>(TEAM).reinstated().len(), 2);
}

/// P3, P4: whoever has the team's key for a day must not be able to take something back for ever.
#[test]
fn a_revocation_of_the_future_is_refused_since_nobody_could_take_it_back() {
    let world = World::with_team();
    let ahead = world.now + TimeDelta::minutes(5);
    let revoke = |at| world.next(TEAM, |t| drop(author::revoke(t, &digest("good"), "for ever", at)));
    why(&world, revoke(ahead + TimeDelta::seconds(1)), Why::AheadOfClock, "ahead of this daemon's clock");
    world.submit(&[(TEAM, revoke(ahead))]).unwrap();
}

/// P3, P4: what an ancestor took back is the ancestor's to give.
#[test]
fn what_an_ancestor_revoked_a_child_cannot_reinstate() {
    let world = revoked();
    let revoke = |t: &mut Targets| drop(author::revoke(t, &digest("bad"), "not ours either", start()));
    world.submit(&[("targets", world.next("targets", revoke))]).unwrap();
    let back = world.next(TEAM, |t| {
        reinstate(t, "bad", world.now);
        insert(t, "acme/app:v1", "bad");
    });
    why(&world, back, Why::Revoked, "which was revoked");
}

/// P3.
#[test]
fn the_revocation_of_a_scope_is_never_taken_back() {
    let world = World::with_team();
    let scope = Revocation { digest: None, paths: vec!["acme/app:*".to_owned()], ..taken_back("", start()) };
    let all = Revocation { digest: Some(digest("x")), ..scope.clone() };
    world.submit(&[(TEAM, world.next(TEAM, |t| identity(t).revocations = vec![scope, all]))]).unwrap();
    for keep in 0..2 {
        let dropped = world.next(TEAM, |t| {
            identity(t).revocations.remove(1 - keep);
            identity(t).reinstated.push(taken_back("x", world.now));
        });
        let refusal = world.refuses(&[(TEAM, dropped)], Refused, "");
        assert_eq!(refusal.reason, Some(Why::RevocationDropped), "{}", refusal.message);
    }
    let with = |entry: Revocation| world.next(TEAM, |t| identity(t).reinstated.push(entry));
    let of_paths =
        Revocation { digest: None, paths: vec!["acme/app:*".to_owned()], ..taken_back("", world.now) };
    why(&world, with(of_paths), Why::RevocationDropped, "without a digest");
    let long = Revocation { reason: "x".repeat(1001), ..taken_back("y", world.now) };
    why(&world, with(long), Why::TooMany, "a reason of 1001 characters");
    let many = world.next(TEAM, |t| {
        identity(t).reinstated = (0..1001).map(|n| taken_back(&n.to_string(), world.now)).collect();
    });
    why(&world, many, Why::TooMany, "more than 1000 entries");
}

/// P3, P4: what is kept for ever must not be able to fill a role up for ever, whoever had its key for a day.
#[test]
fn revocations_leave_room_for_what_a_role_vouches_for() {
    let world = World::with_team();
    let of = |range: std::ops::Range<usize>| -> Vec<Revocation> {
        let reason = "x".repeat(1000);
        range.map(|n| Revocation { reason: reason.clone(), ..taken_back(&n.to_string(), start()) }).collect()
    };
    let too_many = world.next(TEAM, |t| identity(t).revocations = of(0..2000));
    why(&world, too_many, Why::TooMany, "revocations and reinstated digests of more than 2097152 bytes");
    world.submit(&[(TEAM, world.next(TEAM, |t| identity(t).revocations = of(0..1500)))]).unwrap();
    let more = world.next(TEAM, |t| identity(t).revocations.extend(of(1500..2000)));
    why(&world, more, Why::TooMany, "revocations and reinstated digests");
    // What is signed is not hindered by it.
    world.submit(&[(TEAM, world.next(TEAM, |t| insert(t, "acme/app:v1", "good")))]).unwrap();
}

fn immutable(content: &str) -> Target {
    let custom = BTreeMap::from([("immutable".to_owned(), serde_json::Value::Bool(true).into())]);
    Target { custom: Some(custom), ..target(content) }
}

fn with_immutable() -> World {
    let world = World::with_team();
    let add = |t: &mut Targets| drop(t.targets.insert("acme/app:v1".to_owned(), immutable("one")));
    world.submit(&[(TEAM, world.next(TEAM, add))]).unwrap();
    world
}

#[test]
fn an_immutable_tag_means_one_digest_until_that_is_revoked() {
    let world = with_immutable();
    let set = |entry: Option<Target>| {
        world.next(TEAM, |t| {
            t.targets.clear();
            t.targets.extend(entry.map(|entry| ("acme/app:v1".to_owned(), entry)));
        })
    };
    why(&world, set(Some(immutable("two"))), Why::Immutable, "points at another digest");
    why(&world, set(Some(target("one"))), Why::Immutable, "is immutable no more");
    why(&world, set(None), Why::Immutable, "is missing");
    // Other tags are free, and the entry may be described otherwise.
    let mut described = immutable("one");
    described.custom.as_mut().unwrap().insert("note".to_owned(), "x".into());
    let more = world.next(TEAM, |t| {
        t.targets.insert("acme/app:v1".to_owned(), described);
        insert(t, "acme/app:latest", "two");
    });
    world.submit(&[(TEAM, more)]).unwrap();
    let revoked = world.next(TEAM, |t| drop(author::revoke(t, &digest("one"), "broken", world.now)));
    world.submit(&[(TEAM, revoked)]).unwrap();
    world.submit(&[(TEAM, world.next(TEAM, |t| insert(t, "acme/app:v1", "two")))]).unwrap();
}

/// P4: neither a parent's revocation nor a narrower scope may leave a team unable to publish.
#[test]
fn an_immutable_tag_goes_when_the_parent_takes_it_away() {
    let world = with_immutable();
    let revoke = |t: &mut Targets| drop(author::revoke(t, &digest("one"), "broken", world.now));
    world.submit(&[("targets", world.next("targets", revoke))]).unwrap();
    why(&world, world.next(TEAM, |_| {}), Why::Revoked, "which was revoked");
    world.submit(&[(TEAM, world.next(TEAM, |t| t.targets.clear()))]).unwrap();

    let world = with_immutable();
    let narrower = |t: &mut Targets| {
        t.delegations.as_mut().unwrap().roles[0].paths = Some(vec!["acme/app:w*".to_owned()]);
    };
    world.submit(&[("targets", world.next("targets", narrower))]).unwrap();
    why(&world, world.next(TEAM, |_| {}), Why::OutOfScope, "may not speak about acme/app:v1");
    world.submit(&[(TEAM, world.next(TEAM, |t| t.targets.clear()))]).unwrap();
}

#[test]
fn what_stands_beside_an_entry_is_small_and_in_its_place() {
    let world = World::with_team();
    let (tag, by_digest) = ("acme/app:v1".to_owned(), format!("acme/app@{}", digest("a")));
    let with = |name: &str, member: &str, value: serde_json::Value| {
        let custom = Some(BTreeMap::from([(member.to_owned(), value.into())]));
        world.next(TEAM, |t| drop(t.targets.insert(name.to_owned(), Target { custom, ..target("a") })))
    };
    let index = |n: usize| (0..n).map(|n| digest(&n.to_string()).to_string()).collect::<Vec<_>>();
    for (name, member, value, text) in [
        (&by_digest, "immutable", true.into(), "belongs to a tag"),
        (&tag, "immutable", "true".into(), "neither true nor false"),
        (&tag, "index", index(1).into(), "belongs to a digest"),
        (&by_digest, "index", index(0).into(), "1 to 16 digests"),
        (&by_digest, "index", index(17).into(), "1 to 16 digests"),
        (&by_digest, "index", digest("b").to_string().into(), "1 to 16 digests"),
        (&by_digest, "index", vec!["sha256:../../x"].into(), "1 to 16 digests"),
        (&by_digest, "index", vec![digest("a").to_string()].into(), "1 to 16 digests"),
        (&tag, "note", "x".repeat(4096).into(), "more than 4096 bytes"),
    ] {
        why(&world, with(name, member, value), Why::Entry, text);
    }
    let mut odd = target("a");
    odd.extra.insert("custom".to_owned(), "x".repeat(5000).into());
    let odd = world.next(TEAM, |t| drop(t.targets.insert(tag.clone(), odd)));
    why(&world, odd, Why::Entry, "more than 4096 bytes");
    for (name, member, value) in [
        (&by_digest, "index", index(16).into()),
        (&tag, "immutable", false.into()),
        (&tag, "note", "x".repeat(4000).into()),
    ] {
        world.submit(&[(TEAM, with(name, member, value))]).unwrap();
    }
}

/// T02.
#[test]
fn names_of_keys_are_of_keys_that_are_there_and_tell_them_apart() {
    let world = World::with_team();
    let (one, two) = (world.team.key_id(), key());
    let named = |names: &[(&KeyId, &str)]| {
        world.next("targets", |t| {
            let delegations = t.delegations.as_mut().unwrap();
            delegations.keys.insert(two.key_id(), two.key().clone());
            delegations.roles[0].keys.keyids.push(two.key_id());
            let names = names.iter().map(|(id, name)| ((*id).clone(), (*name).to_owned()));
            identity(t).names = names.collect();
        })
    };
    let other = key().key_id();
    let refuses = |names: &[(&KeyId, &str)], text: &str| {
        let refusal = world.refuses(&[("targets", named(names))], Refused, text);
        assert_eq!(refusal.reason, Some(Why::KeyNames));
    };
    refuses(&[(&other, "alice")], "of no key that stands there");
    refuses(&[(&one, "alice"), (&two.key_id(), "alice")], "is another key's, too");
    for bad in ["", " alice", "alice ", "al\u{1b}[2Jice", "al\nice", "alíce", "a/b", &"x".repeat(65)] {
        refuses(&[(&one, bad)], "is not one of 1 to 64 letters");
    }
    world.submit(&[("targets", named(&[(&one, "alice"), (&two.key_id(), "Bob B. <2>")]))]).unwrap_err();
    world.submit(&[("targets", named(&[(&one, "alice"), (&two.key_id(), "Bob B. +1@a-b_c")]))]).unwrap();
    // Whose key goes, goes with its name.
    let gone = world.next("targets", |t| {
        let delegations = t.delegations.as_mut().unwrap();
        delegations.keys.remove(&two.key_id());
        delegations.roles[0].keys.keyids.pop();
    });
    let refusal = world.refuses(&[("targets", gone)], Refused, "of no key that stands there");
    assert_eq!(refusal.reason, Some(Why::KeyNames));
    // A document that gives nobody a role names nobody.
    let team = world.next(TEAM, |t| drop(identity(t).names.insert(one.clone(), "alice".to_owned())));
    why(&world, team, Why::KeyNames, "of no key that stands there");
    let root = world.next_root(|root| {
        let names = BTreeMap::from([(one.clone(), "alice".to_owned())]);
        root.common.identity.as_mut().unwrap().names = names;
    });
    let refusal = world.refuses(&[("root", sign(&root, &[&world.owner]))], Refused, "of no key that");
    assert_eq!(refusal.reason, Some(Why::KeyNames));
    let root = world.next_root(|root| {
        let names = BTreeMap::from([(world.owner.key_id(), "alice".to_owned())]);
        root.common.identity.as_mut().unwrap().names = names;
    });
    world.submit(&[("root", sign(&root, &[&world.owner]))]).unwrap();
}
