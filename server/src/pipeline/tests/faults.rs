//! Commits that fail before and after they are stored.

use super::*;
use crate::store::{FailAt, StoreError};

fn submission(world: &World, name: &'static str) -> Submitted {
    let bytes = world.next("targets--team", |t| {
        t.targets.insert(name.to_owned(), target(name));
    });
    submitted(&[("targets--team", bytes)])
}

/// P6, P7.
#[test]
fn a_commit_that_was_not_stored_is_made_again() {
    let world = World::with_team();
    let (before, one) = (world.head(), submission(&world, "acme/app:v1"));
    world.store.fail_next(FailAt::BeforePersist);
    let error = world.round(std::slice::from_ref(&one)).unwrap_err();
    assert!(matches!(error, RoundError::Store(StoreError::Unavailable { .. })), "{error}");
    assert_eq!(world.head(), before);
    let record = world.round(&[one]).unwrap().answers.pop().unwrap().unwrap();
    assert_eq!(record.timestamp_version, before.roles["timestamp"].version + 1);
}

/// P6, P7.
#[test]
fn a_commit_that_was_stored_though_it_failed_is_found_by_the_next_try() {
    let world = World::with_team();
    let one = submission(&world, "acme/app:v1");
    world.store.fail_next(FailAt::AfterPersist);
    let error = world.round(std::slice::from_ref(&one)).unwrap_err();
    assert!(matches!(error, RoundError::Store(StoreError::Uncertain { .. })), "{error}");
    let stored = world.head();
    let record = world.round(&[one]).unwrap().answers.pop().unwrap().unwrap();
    assert_eq!(world.head(), stored, "the same submission takes no second version");
    assert_eq!(record.timestamp_version, stored.roles["timestamp"].version);
    // Somebody else's change to the same version loses.
    let mut other: Targets = world.newest("targets--team");
    other.targets.clear();
    let answer = world.submit(&[("targets--team", sign(&other, &[&world.team]))]).unwrap_err();
    assert_eq!(answer.code, RefusalCode::Conflict);
}

/// P7: every way to fail, in turn, under submissions and ticks; no version ever has two contents.
#[test]
fn no_version_is_ever_stored_with_two_contents() {
    let mut world = World::with_team();
    let mut seen: BTreeMap<(String, u64), Bytes> = BTreeMap::new();
    for step in 0..12 {
        world.advance(TimeDelta::hours(1));
        match step % 3 {
            0 => world.store.fail_next(FailAt::BeforePersist),
            1 => world.store.fail_next(FailAt::AfterPersist),
            _ => {}
        }
        let batch = if step % 2 == 0 { vec![submission(&world, "acme/app:v1")] } else { vec![] };
        let _ = world.round(&batch);
        for (role, entry) in world.head().roles {
            let bytes = world.document(&role, entry.version).unwrap();
            assert_eq!(Digest::of(&bytes), entry.digest);
            let known = seen.entry((role, entry.version)).or_insert_with(|| bytes.clone());
            assert_eq!(*known, bytes);
        }
    }
    assert!(world.version("timestamp") > 8);
}
