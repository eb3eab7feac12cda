use chrono::TimeDelta;
use plimsoll_core::{oci::Digest, tuf::PublicKey};

use super::{super::tests::*, *};
use crate::publish::{
    author,
    draft::{Base, Next},
};

const ALICE: &str = "7ab6b86cb2c9684b0ddc10896153aa2595decf4d4327a5ff1a8ab7422c828b12";
const BOB: &str = "c3f860ca5da4454d33496ca33bb48f0cdcd5b731be7316b67ca191db0185aa26";
const CAROL: &str = "8bf5a507dc237a32c90c0a23b34bab6b386826145a5b726da75c91d466e4bf33";
const DAVE: &str = "3336b222894653a1c328c2636b5ada9d8c2f53be3b927369d64e7087014bf619";

fn said(draft: &Draft, world: &World) -> Vec<String> {
    words(draft, world.now + TimeDelta::days(1), 20)
}

#[track_caller]
fn says(draft: &Draft, world: &World, expected: &[&str]) {
    assert_eq!(said(draft, world), expected);
}

/// A draft of `next`, where `before` is what is published, signed by its owners.
fn change(world: &World, before: &Targets, next: Targets) -> Draft {
    let mut base = world.base();
    base.documents.insert("targets".to_owned(), world.sign(before, &["alice", "bob"]));
    Draft::new("registry.example.com/acme/trust", &base, [("targets".to_owned(), next.into())]).unwrap()
}

fn root_change(world: &World, edit: impl FnOnce(&mut Root)) -> Vec<String> {
    let mut root = world.first();
    author::next_version("root", &mut root, world.now);
    edit(&mut root);
    let base = Base { documents: BTreeMap::new(), ..world.base() };
    let next: [(String, Next); 1] = [("root".to_owned(), root.into())];
    said(&Draft::new("registry.example.com/acme/trust", &base, next).unwrap(), world)
}

#[test]
fn a_new_trust_repository() {
    let world = World::new();
    let [alice, bob, carol] = [("alice", ALICE), ("bob", BOB), ("carol", CAROL)]
        .map(|(name, id)| format!("    {name}, key id {id}"));
    let [timestamp, snapshot] = ["timestamp", "snapshot"].map(|name| world.id(name));
    says(
        &world.beginning(),
        &world,
        &[
            "a NEW trust repository: 00112233445566778899aabbccddeeff, for registry.example.com/acme/trust",
            "  it may speak about acme/**: every repository below acme/, at any depth; not acme itself",
            "root version 1 (says whose keys count), valid until 2027-11-21 12:00 UTC (364 days from now)",
            "  the root needs 2 of 3 signatures:",
            &alice,
            &bob,
            &carol,
            "  targets needs 2 of 3 signatures:",
            &alice,
            &bob,
            &carol,
            &format!("  the daemon signs timestamp with key id {timestamp}"),
            &format!("  the daemon signs snapshot with key id {snapshot}"),
            "targets version 1 (says who may sign which names), valid until 2027-11-21 12:00 UTC (364 days from now)",
            "  nothing is signed and nothing delegated yet",
        ],
    );
}

#[test]
fn a_holder_is_replaced() {
    let world = World::new();
    let dave = |what: &str| format!("  may sign {what} from now on: dave, key id {DAVE}");
    says(
        &world.rotation(),
        &world,
        &[
            "a change of the trust repository 00112233445566778899aabbccddeeff, for registry.example.com/acme/trust",
            "root version 2 (says whose keys count), valid until 2027-11-22 12:00 UTC (365 days from now; before: \
             2027-11-21 12:00 UTC)",
            "  bob (c3f860ca) may not sign the root any more",
            &dave("the root"),
            "  the root needs 2 of 3 signatures, as before",
            "  bob (c3f860ca) may not sign targets any more",
            &dave("targets"),
            "  targets needs 2 of 3 signatures, as before",
            "targets version 2 (says who may sign which names), valid until 2027-11-21 12:00 UTC (364 days from now; \
             before: 2027-11-21 12:00 UTC)",
            "  the same content as before, signed anew",
        ],
    );
}

#[test]
fn nothing_that_a_root_changes_goes_unsaid() {
    let world = World::new();
    let last = |edit: fn(&mut Root)| root_change(&world, edit).last().unwrap().clone();
    assert_eq!(last(|_| {}), "  nothing else changes");
    let said = last(|root| root.roles.get_mut("root").unwrap().threshold = 1);
    assert_eq!(said, "  the root needs 1 of 3 signatures instead of 2 of 3");
    let said = last(|root| root.common.identity.as_mut().unwrap().scope.push("other/**".to_owned()));
    assert!(said.starts_with("  may speak about other/**: every"), "{said}");
    let said = last(|root| {
        let names = &mut root.common.identity.as_mut().unwrap().names;
        names.values_mut().for_each(|name| name.push('2'));
    });
    assert_eq!(said, "  calls the key c3f860ca `bob2`, which was called `bob`");
    assert_eq!(last(|root| root.consistent_snapshot = false), NO_WORDS);
    assert_eq!(last(|root| drop(root.extra.insert("x".to_owned(), "y".into()))), NO_WORDS);
    let said = root_change(&world, |root| {
        root.roles.get_mut("timestamp").unwrap().keyids = vec![world.id("snapshot")];
    });
    assert!(said[3].starts_with("  may sign timestamp, for the daemon, from now on: key id"), "{said:#?}");
}

/// An id is what the document says it is: another key under a known id, and an id that is not that of its key, are shown.
#[test]
fn a_key_is_shown_by_what_it_is_and_not_by_what_it_is_called() {
    let world = World::new();
    let evil = Key::new(&PublicKey::Ed25519([9; 32]));
    let said = root_change(&world, |root| drop(root.keys.insert(world.id("bob"), evil.clone())));
    assert!(said.contains(&"  bob (c3f860ca) may not sign the root any more".to_owned()), "{said:#?}");
    let new = format!(
        "  may sign the root from now on: bob, key id {} (which the document calls {BOB})",
        evil.id()
    );
    assert!(said.contains(&new), "{said:#?}");
    // A new root does not call a known key otherwise when it removes it.
    let said = root_change(&world, |root| {
        root.roles.get_mut("root").unwrap().keyids.remove(0);
        let names = &mut root.common.identity.as_mut().unwrap().names;
        names.insert(world.id("alice"), "mallory".to_owned());
    });
    assert!(said.contains(&"  alice (7ab6b86c) may not sign the root any more".to_owned()), "{said:#?}");
}

#[test]
fn names_delegations_and_revocations_that_change() {
    let world = World::new();
    let digest = |text: &str| Digest::of(text.as_bytes());
    let mut before = world.targets();
    for (name, content) in [("acme/app:v1", "one"), ("acme/app:v2", "two"), ("acme/app:v3", "three")] {
        vouch(&mut before, name, digest(content));
    }
    let mut after = before.clone();
    author::next_version("targets", &mut after, world.now);
    vouch(&mut after, "acme/app:v1", digest("four"));
    after.targets.remove("acme/app:v2");
    author::revoke(&mut after, &digest("three"), "leaked a secret", world.now);
    delegate(&mut after, "targets--app", world.key("dave").public());
    let [one, two, three, four] = ["one", "two", "three", "four"].map(digest);
    says(
        &change(&world, &before, after.clone()),
        &world,
        &[
            "a change of the trust repository 00112233445566778899aabbccddeeff, for registry.example.com/acme/trust",
            "targets version 2 (says who may sign which names), valid until 2027-11-21 12:00 UTC (364 days from now; \
             before: 2027-11-21 12:00 UTC)",
            "  gives acme/app to targets--app, which needs 1 of 1 signatures:",
            "    covers every tag and digest of acme/app; nothing below acme/app/",
            &format!("    key id {DAVE}"),
            &format!("  changes acme/app:v1 to {four} (was {one})"),
            &format!("  removes acme/app:v2 (was {two})"),
            &format!("  removes acme/app:v3 (was {three})"),
            &format!("  removes acme/app@{three} (was {three})"),
            &format!("  signs acme/app@{four} as {four}"),
            &format!("  revokes {three}: leaked a secret"),
        ],
    );
    // And back again: what was revoked comes back, with or without a word.
    let mut back = after.clone();
    author::next_version("targets", &mut back, world.now);
    back.delegations = None;
    back.common.identity.as_mut().unwrap().revocations.clear();
    let mut published = after;
    published.common.version = 1;
    back.common.version = 2;
    let lines = words(&change(&world, &published, back), world.now, 20);
    assert!(lines.contains(&"  takes acme/app away from targets--app".to_owned()), "{lines:#?}");
    let dropped = format!("  WARNING: drops the revocation of {three} without saying why");
    assert!(lines.contains(&dropped), "{lines:#?}");
}

#[test]
fn of_many_names_some_are_shown_and_all_are_counted() {
    let world = World::new();
    let before = world.targets();
    let mut after = before.clone();
    author::next_version("targets", &mut after, world.now);
    for n in 0..30 {
        vouch(&mut after, &format!("acme/app:v{n}"), Digest::of(b"the same"));
    }
    let draft = change(&world, &before, after);
    let few = said(&draft, &world);
    assert_eq!(few.len(), 2 + 20 + 1, "{few:#?}");
    assert_eq!(few.last().unwrap(), "  and 11 more (31 names signed in all)");
    // Whoever wants to know can.
    let all = words(&draft, world.now, usize::MAX);
    assert_eq!(all.len(), 2 + 31, "{all:#?}");
}

/// A warning cannot be hidden behind many lines that need none.
#[test]
fn a_warning_is_never_only_counted() {
    let world = World::new();
    let mut before = world.targets();
    for n in 0..30 {
        author::revoke(&mut before, &Digest::of(&[n]), "bad", world.now);
    }
    let mut after = before.clone();
    author::next_version("targets", &mut after, world.now);
    let all: Vec<Digest> = before.revocations().iter().filter_map(|revocation| revocation.digest).collect();
    author::reinstate(&mut after, &all, "it was good", world.now);
    let quietly = all.last().unwrap();
    after.common.identity.as_mut().unwrap().reinstated.retain(|entry| entry.digest != Some(*quietly));
    let said = said(&change(&world, &before, after), &world);
    let warning = format!("  WARNING: drops the revocation of {quietly} without saying why");
    assert!(said.contains(&warning), "{said:#?}");
    assert!(said.contains(&"  and 9 more (30 reinstated in all)".to_owned()), "{said:#?}");
}

#[test]
fn what_a_new_delegation_says_besides_is_warned_of() {
    let world = World::new();
    let before = world.targets();
    let mut after = before.clone();
    author::next_version("targets", &mut after, world.now);
    delegate(&mut after, "targets--app", world.key("dave").public());
    after.delegations.as_mut().unwrap().roles[0].extra.insert("x-more".to_owned(), "more".into());
    let said = said(&change(&world, &before, after), &world);
    assert!(said.iter().any(|line| line.starts_with("  WARNING: targets--app has more to it")), "{said:#?}");
}

/// Whoever makes a draft decides what it starts from; what nobody signed is not taken for what was there before.
#[test]
fn an_unsigned_past_hides_nothing() {
    let world = World::new();
    let mut before = world.targets();
    vouch(&mut before, "acme/app:v1", Digest::of(b"evil"));
    let mut after = before.clone();
    author::next_version("targets", &mut after, world.now);
    let mut base = world.base();
    base.documents.insert("targets".to_owned(), world.sign(&before, &["dave"]));
    let next: [(String, Next); 1] = [("targets".to_owned(), after.into())];
    let said = said(&Draft::new("registry.example.com/acme/trust", &base, next).unwrap(), &world);
    assert!(said.iter().any(|line| line.starts_with("  WARNING: nobody who may sign it")), "{said:#?}");
    assert!(said.iter().any(|line| line.starts_with("  signs acme/app:v1 as")), "{said:#?}");
}
