//! Trusted state from outside, with the real command line: many processes at once, spoilt files, wrong clocks, modes and
//! links, pinned roots. What survives a kill or a full disk is in `state_kill.rs` and `state_disk.rs`.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod past;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
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
    Moment::{First, Second, Third},
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

/// What may become of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Gone,
    Empty,
    Half,
    /// One bit, in the middle.
    Bit,
    Other,
    /// What it was at the second moment.
    Older,
    Folder,
    /// A link to a file elsewhere with other content.
    Link,
    /// A link to nothing.
    Dangling,
    /// A link to itself.
    Loop,
    /// Not for its owner either. The command line runs without root's right to read it nevertheless.
    Unreadable,
    /// A gigabyte, though a hole.
    Huge,
}

use Damage::*;

const DAMAGE: [Damage; 12] =
    [Gone, Empty, Half, Bit, Other, Older, Folder, Link, Dangling, Loop, Unreadable, Huge];
const ELSEWHERE: &[u8] = b"{\"somebody\":\"else's\"}";

/// False if there is no such damage to this file.
fn damage(path: &Path, how: Damage, older: &Path, elsewhere: &Path) -> bool {
    let content = fs::read(path).unwrap();
    if how == Older {
        match fs::read(older) {
            Ok(older) if older != content => fs::write(path, older).unwrap(),
            _ => return false,
        }
        return true;
    }
    match how {
        Empty => fs::write(path, "").unwrap(),
        Half => fs::write(path, &content[..content.len() / 2]).unwrap(),
        Bit => {
            let mut content = content;
            let middle = content.len() / 2;
            content[middle] ^= 1;
            fs::write(path, content).unwrap();
        }
        Other => fs::write(path, ELSEWHERE).unwrap(),
        Unreadable => fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap(),
        Huge => fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1 << 30).unwrap(),
        Gone | Folder | Link | Dangling | Loop | Older => fs::remove_file(path).unwrap(),
    }
    match how {
        Folder => fs::create_dir(path).unwrap(),
        Link => {
            fs::write(elsewhere, ELSEWHERE).unwrap();
            symlink(elsewhere, path).unwrap();
        }
        Dangling => symlink(elsewhere.with_extension("nothing"), path).unwrap(),
        Loop => symlink(path, path).unwrap(),
        _ => {}
    }
    true
}

/// Root without its right to read and write everything: as anybody on his own files.
const AS_ANYBODY: [&str; 2] = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"];

/// True for documents that a registry can show again, and for the second copy of the snapshot; everything else in the
/// folder is memory.
fn is_cache(name: &Path) -> bool {
    let folder = name.parent().and_then(Path::to_str).unwrap();
    let name = name.file_name().unwrap().to_str().unwrap();
    match folder {
        "" => ["root.json", "timestamp.json", "snapshot.json", "targets.json", "entry.json"].contains(&name),
        "roles" | "roots" | "snapshots" => true,
        _ => false,
    }
}

/// T12, T62, T87: whatever becomes of a cached document, it is fetched again and held to the memory.
#[test]
fn spoilt_documents_are_fetched_again_and_held_to_the_memory() {
    let second = Past::shared().machine("documents").seen(Second);
    let third = second.copy().seen(Third);
    let names: Vec<_> = third.names().into_iter().filter(|name| is_cache(name)).collect();
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        for how in DAMAGE {
            let machine = third.copy();
            let (path, elsewhere) = (machine.folder().join(&name), machine.cli.home().join("elsewhere"));
            let good = fs::read(&path).unwrap();
            if !damage(&path, how, &second.folder().join(&name), &elsewhere) {
                continue;
            }
            let what = format!("{}: {how:?}", name.display());
            // It is the memory that counts, not what is left of the cache.
            machine.show(Second);
            let run = machine.verify_under(&AS_ANYBODY);
            // What it says was seen last, and what is shown, are the same: not modified, so the newer one held counts.
            let code = if name == Path::new("entry.json") && how == Older { 0 } else { 21 };
            assert_eq!(run.code, code, "{what}: {}{}", run.stdout, run.stderr);
            machine.show(Third);
            let run = machine.verify_under(&AS_ANYBODY);
            assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{what}: {}", run.stdout);
            assert_eq!(machine.remembered(), third.remembered(), "{what}");
            let healed = path.symlink_metadata().unwrap();
            assert!(healed.is_file(), "{what}: {healed:?}");
            // A hint that is well-formed and wrong costs a request at most, and is not worth a write.
            if name != Path::new("entry.json") || how != Bit {
                assert_eq!(fs::read(&path).unwrap(), good, "{what}");
            }
            assert_eq!(healed.permissions().mode() & 0o7777, 0o600, "{what}");
            if how == Link {
                assert_eq!(fs::read(&elsewhere).unwrap(), ELSEWHERE, "{what}: written through a link");
            }
            assert!(!elsewhere.with_extension("nothing").exists(), "{what}: written through a link");
        }
    }
}

/// T12: whatever becomes of the memory, it is never started anew in silence, and nothing is written.
#[test]
fn a_spoilt_memory_fails_closed() {
    let second = Past::shared().machine("memory").seen(Second);
    let third = second.copy().seen(Third);
    let names: Vec<_> = third.names().into_iter().filter(|name| !is_cache(name)).collect();
    assert!(names.contains(&PathBuf::from("memory.json")), "{names:?}");
    for name in names {
        for how in DAMAGE {
            let machine = third.copy();
            let (path, elsewhere) = (machine.folder().join(&name), machine.cli.home().join("elsewhere"));
            if !damage(&path, how, &second.folder().join(&name), &elsewhere) {
                continue;
            }
            let what = format!("{}: {how:?}", name.display());
            let tree = || tree(machine.cli.home());
            let before = tree();
            for moment in [First, Second, Third] {
                machine.show(moment);
                let run = machine.verify_under(&AS_ANYBODY);
                if how == Older {
                    // Whole, so it is the documents beside it that give it away, once they are looked at.
                    let closed = run.code == 1 && run.stderr.contains("plimsoll trust reset");
                    assert!(
                        closed || (run.code, moment) == (21, First),
                        "{moment:?}: {}{}",
                        run.stdout,
                        run.stderr
                    );
                    continue;
                }
                assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{what}: {moment:?}: {}", run.stderr);
                assert!(run.stderr.contains(path.to_str().unwrap()), "{what}: {}", run.stderr);
                // What is only closed to us is not lost.
                let lost = run.stderr.contains("plimsoll trust reset");
                assert_eq!(lost, how != Unreadable, "{what}: {}", run.stderr);
                assert_eq!(tree(), before, "{what}: {moment:?}");
            }
            machine.cli.run(&["trust", "reset", NAME, "--yes"]).ok();
            machine.verify().ok();
            assert_eq!(machine.remembered(), third.remembered(), "{what}");
        }
    }
}

/// T12: the versions of all roles are in the snapshot that was seen last. With both copies of it gone there is nothing
/// to hold a new one to.
#[test]
fn a_memory_without_its_snapshot_fails_closed() {
    let third = Past::shared().machine("snapshots").seen(Third);
    let copies: Vec<_> =
        third.names().into_iter().filter(|name| name.to_string_lossy().contains("snapshot")).collect();
    assert_eq!(copies.len(), 2, "{copies:?}");
    for how in [Gone, Empty, Half, Bit, Other, Folder, Link, Dangling, Loop, Huge] {
        let machine = third.copy();
        for name in &copies {
            let path = machine.folder().join(name);
            damage(&path, how, &path, &machine.cli.home().join("elsewhere"));
        }
        let before = tree(machine.cli.home());
        for _ in 0..2 {
            let run = machine.verify();
            assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{how:?}: {}", run.stderr);
            for word in [machine.folder().to_str().unwrap(), "plimsoll trust reset"] {
                assert!(run.stderr.contains(word), "{how:?}: `{word}` is not in {}", run.stderr);
            }
            assert_eq!(tree(machine.cli.home()), before, "{how:?}");
        }
        machine.cli.run(&["trust", "reset", NAME, "--yes"]).ok();
        machine.verify().ok();
    }
}

/// Every file, folder and link below `folder`: its mode, and the digest of a file's content.
fn tree(folder: &Path) -> BTreeMap<PathBuf, (u32, Option<Digest>)> {
    let mut tree = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let found = path.symlink_metadata().unwrap();
            let small = found.is_file() && found.len() < 1 << 20;
            let content = small.then(|| Digest::of(&fs::read(&path).unwrap()));
            if found.is_dir() {
                folders.push(path.clone());
            }
            tree.insert(path, (found.permissions().mode() & 0o7777, content));
        }
    }
    tree
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
            assert!(run.json()["detail"].as_str().unwrap().contains("expired"), "{future}: {}", run.stdout);
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

/// T83: folders and files are for their owner alone from the moment they are made, whatever the umask.
#[test]
fn state_and_keys_are_private_under_every_umask() {
    for umask in ["000", "022", "077", "777"] {
        let machine = Past::shared().machine(&format!("umask-{umask}")).copy();
        let cli = machine.cli.clone().under(&["sh", "-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]);
        machine.show(Third);
        if umask == "777" {
            // Nobody can work in folders that are not his own; but that is an error, not something left open.
            let run = machine.verify_by(&cli.clone().under(&AS_ANYBODY));
            assert!(run.code <= 1, "{}{}", run.stdout, run.stderr);
        } else {
            machine.verify_by(&cli).ok();
        }
        cli.run(&["key", "generate", "new", "--passphrase-file", "passphrase"]);
        let tree = tree(machine.cli.home());
        for (path, (mode, content)) in &tree {
            let secret = path.starts_with(machine.cli.home().join("state")) || path.ends_with("new.key");
            assert!(!secret || mode & 0o077 == 0, "umask {umask}: {} has mode {mode:o}", path.display());
            let own = if content.is_some() { 0o600 } else { 0o700 };
            assert!(
                !secret || umask == "777" || *mode == own,
                "umask {umask}: {} has mode {mode:o}",
                path.display()
            );
        }
        assert!(tree.contains_key(&machine.cli.home().join("new.key")), "umask {umask}");
    }
}

/// T83: a folder that others can write into is refused, wherever on the way to the memory it is: who can put another
/// folder in its place can make it forget.
#[test]
fn folders_open_to_others_are_refused() {
    let third = Past::shared().machine("modes").seen(Third);
    for (up, mode, refused) in [
        (0, 0o750, true),
        (0, 0o701, true),
        (0, 0o770, true),
        (1, 0o770, true),
        (1, 0o707, true),
        (2, 0o777, true),
    ] {
        let machine = third.copy();
        let folder = machine.folder();
        let folder = folder.ancestors().nth(up).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
        let before = tree(machine.cli.home());
        let run = machine.verify();
        assert_eq!(run.code == 1, refused, "{} {mode:o}: {}{}", folder.display(), run.stdout, run.stderr);
        assert!(run.stderr.contains(&format!("chmod 700 {}", folder.display())), "{}", run.stderr);
        assert_eq!(tree(machine.cli.home()), before);
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
        machine.verify().ok();
    }
}

/// T62: links in place of the lock or of a folder lead to no write outside, and to no loss of memory.
#[test]
fn links_in_the_state_folder_lead_to_no_write_elsewhere() {
    let third = Past::shared().machine("links").seen(Third);
    for target in ["a file", "nothing"] {
        let machine = third.copy();
        let elsewhere = machine.cli.home().join("elsewhere");
        if target == "a file" {
            fs::write(&elsewhere, ELSEWHERE).unwrap();
        }
        let lock = machine.folder().join("lock");
        let _ = fs::remove_file(&lock);
        symlink(&elsewhere, &lock).unwrap();
        let run = machine.verify();
        assert!([0, 1].contains(&run.code), "{target}: {}{}", run.stdout, run.stderr);
        assert_eq!(
            fs::read(&elsewhere).ok().as_deref(),
            (target == "a file").then_some(ELSEWHERE),
            "{target}"
        );
        machine.show(Second);
        let run = machine.verify();
        assert!([21, 1].contains(&run.code), "{target}: {}{}", run.stdout, run.stderr);
        machine.show(Third);
    }
    // The whole folder moved to another place, with a link to it: the same memory, under the same rules.
    let machine = third.copy();
    let (folder, moved) = (machine.cli.home().join("state"), machine.cli.home().join("moved"));
    fs::rename(&folder, &moved).unwrap();
    symlink(&moved, &folder).unwrap();
    machine.verify().ok();
    machine.refuses(Second, "a link to the folder");
}

/// P1, T12: the lock is deleted again and again under many processes, so that several write at once: some may fail, but
/// nobody goes back, and nothing is left to mend.
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
        for run in &runs {
            assert!([0, 1].contains(&run.code), "{}{}", run.stdout, run.stderr);
        }
        if runs.iter().any(|run| run.code == 0) {
            machine.refuses(Second, "the lock was deleted");
        }
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
