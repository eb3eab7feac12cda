//! Trusted state from outside, with the real command line: what may become of its files and folders, spoilt, linked
//! elsewhere or open to others.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod past;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use plimsoll_core::oci::Digest;
use plimsoll_tests::world::NAME;

use past::{
    Moment::{First, Second, Third},
    Past,
};

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
