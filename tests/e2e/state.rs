//! Trusted state from outside, with the real command line: many processes at once, wrong clocks, pinned roots. What may
//! become of its files is in `state_files.rs`, what survives a kill or a full disk in `state_kill.rs` and `state_disk.rs`.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod past;

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use plimsoll::{
    keys::{Passphrase, PrivateKey},
    publish::author,
};
use plimsoll_core::{
    oci::Digest,
    tuf::{Document, Root},
};
use plimsoll_tests::{
    process::{Cli, Run},
    world::{NAME, TRUST},
};
use serde_json::Value;

use past::{
    Machine,
    Moment::{Second, Third},
    Past, is_half_written,
};

const PUBLISHES: usize = 20;
const PROCESSES: usize = 6;

/// What a verification rests on: the version of each role.
fn versions(run: &Run) -> BTreeMap<String, u64> {
    let json = run.json();
    let roles = json["roots"][0]["roles"].as_array().unwrap();
    roles
        .iter()
        .map(|role| (role["role"].as_str().unwrap().to_owned(), role["version"].as_u64().unwrap()))
        .collect()
}

/// P1, T12: many processes on one state, again and again while the repository publishes: all succeed, none sees less
/// than one that had ended before it began, and all end on the newest.
#[test]
fn parallel_processes_never_go_back_while_the_repository_publishes() {
    let past = Past::shared();
    let client = past.world.client("parallel");
    let reference = past.world.reference("v1");
    let verify = || versions(&client.run(&["verify", "-o", "json", &reference]).ok());
    // The highest versions that any process had seen when it ended.
    let seen = Mutex::new(verify());
    let (first, done) = (seen.lock().unwrap().clone(), AtomicBool::new(false));
    let look = || {
        let floor = seen.lock().unwrap().clone();
        let found = verify();
        let mut seen = seen.lock().unwrap();
        for (role, version) in found {
            assert!(version >= floor[&role], "{role}: {version} after {}", floor[&role]);
            let highest = seen.get_mut(&role).unwrap();
            *highest = version.max(*highest);
        }
    };
    let rounds = thread::scope(|scope| {
        let runners: Vec<_> = (0..PROCESSES)
            .map(|_| {
                scope.spawn(|| {
                    let mut rounds = 0;
                    while !done.load(Ordering::Relaxed) {
                        look();
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        let _end = End(&done);
        for _ in 0..PUBLISHES {
            past.world.sign("v1").ok();
        }
        drop(_end);
        runners.into_iter().map(|runner| runner.join().unwrap()).collect::<Vec<usize>>()
    });
    assert!(rounds.iter().sum::<usize>() > PUBLISHES, "{rounds:?}");
    let newest: Value = serde_json::from_slice(&past.document("timestamp")).unwrap();
    let newest = newest["signed"]["version"].as_u64().unwrap();
    assert!(newest >= first["timestamp"] + PUBLISHES as u64, "{newest} after {first:?}");
    thread::scope(|scope| {
        for _ in 0..PROCESSES {
            scope.spawn(|| assert_eq!(verify()["timestamp"], newest));
        }
    });
    let state = client.home().join("state");
    let litter: Vec<_> =
        plimsoll_tests::world::files(&state).into_keys().filter(|path| is_half_written(path)).collect();
    assert!(litter.is_empty(), "{litter:?}");
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Words that run the command line with another clock: `-2h`, or `@2099-01-01 00:00:00` for one that starts there.
fn at(time: &str) -> [&str; 5] {
    ["env", "FAKETIME_DONT_FAKE_MONOTONIC=1", "faketime", "-f", time]
}

/// T15: a clock that was set back would make fresh again what expired.
#[test]
fn a_clock_that_was_set_back_is_noticed() {
    let machine = Past::shared().machine("back").seen(Third);
    let before = machine.state();
    for back in ["-61m", "-20h", "-400d", "@1970-01-02 00:00:00"] {
        for _ in 0..2 {
            let run = machine.verify_under(&at(back));
            assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{back}: {}", run.stderr);
            // Both times: what the clock shows and what it showed.
            assert_eq!(run.stderr.matches(" UTC").count(), 2, "{back}: {}", run.stderr);
            assert!(run.stderr.contains("set the clock"), "{back}: {}", run.stderr);
            assert_eq!(machine.state(), before, "{back}");
        }
    }
    // Clocks are corrected by less than that every day.
    machine.verify_under(&at("-50m")).ok();
    machine.verify().ok();
}

/// T15: a clock that once was far ahead locks nobody out.
#[test]
fn a_clock_once_in_the_far_future_is_no_lasting_harm() {
    for (name, seen) in [("future", true), ("future-new", false)] {
        let machine = Past::shared().machine(name);
        let machine = if seen { machine.seen(Second) } else { machine };
        machine.show(Third);
        for future in ["@2099-01-01 00:00:00", "+25h", "+8d", "+400d"] {
            let run = machine.verify_under(&at(future));
            assert_eq!(run.code, 20, "{future}: {}{}", run.stdout, run.stderr);
            assert!(run.json()["reason"].as_str().unwrap().contains("expired"), "{future}: {}", run.stdout);
        }
        let run = machine.verify();
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{name}: {}", run.stdout);
        machine.refuses(Second, name);
    }
}

/// T15: one that was ahead by less than a timestamp's life is told from one that is behind by nobody; it locks out for
/// no longer than that, and can be reset.
#[test]
fn a_clock_once_ahead_within_a_timestamps_life_can_be_reset() {
    let machine = Past::shared().machine("ahead");
    machine.show(Third);
    machine.verify_under(&at("+20h")).ok();
    machine.verify().expect_code(1);
    machine.verify_under(&at("+1170m")).ok();
    machine.verify_under(&at("+25h")).expect_code(20);
    machine.cli.run(&["trust", "reset", NAME, "--yes"]).ok();
    machine.verify().ok();
}

/// P1, T12: the lock file is deleted again and again under many processes: all succeed, nobody goes back, and nothing is
/// left to mend.
#[test]
fn a_lock_that_is_deleted_lets_nobody_go_back() {
    let second = Past::shared().machine("lock").seen(Second);
    let third = second.copy().seen(Third);
    for _ in 0..8 {
        let machine = second.copy();
        machine.show(Third);
        let (lock, done) = (machine.folder().join("lock"), AtomicBool::new(false));
        let runs: Vec<Run> = thread::scope(|scope| {
            let _end = End(&done);
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = fs::remove_file(&lock);
                    thread::yield_now();
                }
            });
            let runners: Vec<_> = (0..PROCESSES).map(|_| scope.spawn(|| machine.verify())).collect();
            runners.into_iter().map(|runner| runner.join().unwrap()).collect()
        });
        for run in runs {
            assert_eq!(run.ok().stderr, "");
        }
        machine.refuses(Second, "the lock was deleted");
        machine.show(Third);
        machine.verify().ok();
        assert_eq!(machine.remembered(), third.remembered());
    }
}

/// T12: a lock that is gone is not a memory that is gone, for the other commands neither.
#[test]
fn a_lock_that_is_gone_hides_no_memory() {
    let third = Past::shared().machine("lockless").seen(Third);
    let expected = third.remembered();
    assert!(expected.is_object(), "{expected}");
    let remove_lock = || fs::remove_file(third.folder().join("lock"));
    let _ = remove_lock();
    assert_eq!(third.remembered(), expected);
    // Lost, and its lock too: a reset is the way out all the same.
    let _ = remove_lock();
    fs::write(third.folder().join("memory.json"), "{").unwrap();
    third.verify().expect_code(1);
    let _ = remove_lock();
    third.cli.run(&["trust", "reset", NAME, "--yes"]).ok();
    third.verify().ok();
    assert_eq!(third.remembered(), expected);
}

/// The pinned root of `machine` is now this one.
fn pin(machine: &Machine, root: &[u8]) {
    let file = machine.cli.home().join("pinned.json");
    fs::write(&file, root).unwrap();
    let (sha256, repository) = (Digest::of(root).hex(), format!("{}/{TRUST}", machine.registry()));
    machine.cli.run(&["trust", "remove", NAME]).ok();
    let file = file.to_str().unwrap();
    machine
        .cli
        .run(&["trust", "add", NAME, "--root", file, "--sha256", &sha256, "--repository", &repository])
        .ok();
}

/// Another root of the same version, signed by the same key.
fn other(root: &[u8], owner: &Cli) -> Vec<u8> {
    let mut root = Document::<Root>::parse("root", root).unwrap().signed;
    root.common.expires -= chrono::TimeDelta::days(1);
    let passphrase = Passphrase::from_file(&owner.home().join("passphrase")).unwrap();
    let key = PrivateKey::load(&owner.home().join("owner.key"), &passphrase).unwrap();
    author::sign(&root, &[&key]).unwrap()
}

/// T11: the newest stored root wins over an older shipped one; a newer shipped one is where the chain must lead.
#[test]
fn the_newest_root_counts_be_it_stored_or_pinned() {
    let past = Past::shared();
    let newer = past.document("2.root");
    let second = past.machine("roots").seen(Second);
    let third = second.copy().seen(Third);

    // The first root is pinned, the second is stored: with the second withheld, there is nothing but rollback.
    third.refuses(Second, "pinned 1, stored 2");
    third.show(Third);
    third.verify().ok();

    // The second is pinned, the first is stored, and the registry withholds the second: but it is there.
    let machine = second.copy();
    pin(&machine, &newer);
    machine.refuses(Second, "pinned 2, stored 1");
    machine.show(Third);
    machine.verify().ok();
    assert_eq!(machine.remembered(), third.remembered());
    machine.refuses(Second, "pinned 2, stored 2");

    // And back to the first one: it is in the chain, and resets nothing.
    pin(&machine, &past.document("1.root"));
    machine.refuses(Second, "pinned 1 again, stored 2");
    machine.show(Third);
    machine.verify().ok();
}

/// T11: a pinned root that is not the one in the chain, be it signed by the right key, is UNTRUSTED.
#[test]
fn a_pinned_root_that_contradicts_the_chain_is_untrusted() {
    let past = Past::shared();
    let second = past.machine("contradiction").seen(Second);
    let third = second.copy().seen(Third);
    let owner = past.world.owner();
    for version in [1, 2] {
        let root = past.document(&format!("{version}.root"));
        let other = other(&root, &owner);
        assert_ne!(other, root);
        for (stored, known) in [(1, &second), (2, &third)] {
            let machine = known.copy();
            pin(&machine, &other);
            let before = machine.state();
            machine.show(Third);
            let what = format!("pinned another {version}, stored {stored}");
            for _ in 0..2 {
                let run = machine.verify();
                assert_eq!(run.code, 22, "{what}: {}{}", run.stdout, run.stderr);
                assert!(run.stdout.contains("pinned root"), "{what}: {}", run.stdout);
                assert_eq!(machine.state(), before, "{what}");
            }
            pin(&machine, &root);
            machine.verify().ok();
            assert_eq!(machine.remembered(), third.remembered(), "{what}");
        }
    }
}
