//! Trusted state on a disk that is full, read-only or another than the rest, with the real command line (T88).
//!
//! Root writes through mode 0555, so the disks are real ones: small file systems, mounted where nobody else sees them.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod past;

use std::{collections::BTreeMap, fs, path::PathBuf};

use plimsoll_core::oci::Digest;
use plimsoll_tests::{mounts::Mounts, process::Run, world::files};

use past::{
    Machine,
    Moment::{self, First, Second, Third},
    Past, Update, copy, is_half_written,
};

/// A machine whose folder of trusted state is a file system of its own.
struct Stateful {
    machine: Machine,
    mounts: Mounts,
}

impl Stateful {
    /// A copy of `machine`, which has seen something, with its trusted state on a tmpfs with these options.
    fn new(machine: &Machine, options: &str) -> Self {
        let (machine, mounts) = (machine.copy(), Mounts::new());
        let state = machine.cli.home().join("state");
        mounts.shell(&format!("mount -t tmpfs -o mode=0700,{options} none \"$0\""), &state);
        // Outside, the folder is still what it was: that is what fills the file system.
        copy(&state, &mounts.from_outside(&state));
        Self { machine, mounts }
    }

    fn shell(&self, script: &str) {
        self.mounts.shell(script, &self.machine.cli.home().join("state"));
    }

    fn verify(&self) -> Run {
        self.machine.verify_under(&self.mounts.enter())
    }

    fn sees(&self, moment: Moment) -> Run {
        self.machine.show(moment);
        self.verify()
    }

    /// Every file of the trusted state, but for what fills the disk, and the entry.
    fn files(&self) -> BTreeMap<PathBuf, (usize, Digest)> {
        let mut files = files(&self.mounts.from_outside(&self.machine.cli.home().join("state")));
        // A hint that saves requests may go.
        files.retain(|path, _| !path.ends_with("entry.json") && !path.to_string_lossy().contains("filler"));
        files
    }

    /// The state that it had comes back to the ordinary disk, to be looked at by ordinary means.
    fn back_home(self) -> Machine {
        let state = self.machine.cli.home().join("state");
        let inside = self.mounts.from_outside(&state);
        for path in fs::read_dir(&inside).unwrap().map(|entry| entry.unwrap().path()) {
            if path.to_string_lossy().contains("filler") {
                fs::remove_file(path).unwrap();
            }
        }
        // The folder itself stays: what is mounted on it elsewhere would go with it.
        for path in fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path()) {
            fs::remove_dir_all(path).unwrap();
        }
        copy(&inside, &state);
        self.machine
    }
}

/// The disks that take no writes: what to mount, what to do to it once the state is there, how to undo that, and what
/// the system calls it.
const DISKS: [(&str, &str, &str, &str); 3] = [
    ("size=1m", "cat /dev/zero > \"$0/filler\" || true", "rm \"$0/filler\"", "No space left on device"),
    (
        "size=1m,nr_inodes=100",
        "i=0; while touch \"$0/filler$i\"; do i=$((i+1)); done 2> /dev/null",
        "rm \"$0/filler\"*",
        "No space left on device",
    ),
    ("size=1m", "mount -o remount,ro \"$0\"", "mount -o remount,rw \"$0\"", "Read-only file system"),
];

/// T88: with nothing new to write, nobody notices the disk.
#[test]
fn a_disk_that_takes_no_writes_is_no_matter_when_nothing_is_new() {
    let second = Past::shared().machine("unchanged").seen(Second);
    for (options, spoil, _, fault) in DISKS {
        let disk = Stateful::new(&second, options);
        disk.shell(spoil);
        let before = disk.files();
        for _ in 0..2 {
            let run = disk.sees(Second);
            assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{fault}: {}", run.stdout);
            assert_eq!(run.json()["warnings"].as_array().unwrap().len(), 0, "{fault}: {}", run.stdout);
        }
        let run = disk.sees(First);
        assert_eq!(run.code, 21, "{fault}: {}{}", run.stdout, run.stderr);
        assert_eq!(disk.files(), before, "{fault}");
    }
}

/// P1, T08, T88: with something new to write, the verdict is about what is new, held to the memory there is; that memory
/// stays as it is, and the run says so. The next run with space writes.
#[test]
fn a_disk_that_takes_no_writes_keeps_the_old_memory_and_says_so() {
    let update = Update::new("new");
    for (options, spoil, mend, fault) in DISKS {
        let disk = Stateful::new(&update.machine, options);
        disk.shell(spoil);
        let before = disk.files();
        for _ in 0..2 {
            let run = disk.sees(Third);
            assert_eq!(run.code, 0, "{fault}: {}{}", run.stdout, run.stderr);
            let json = run.json();
            assert_eq!(json["verdict"], "VERIFIED", "{fault}");
            let warnings = json["warnings"].as_array().unwrap();
            assert_eq!(warnings.len(), 1, "{fault}: {warnings:?}");
            let state = disk.machine.cli.home().join("state");
            for word in [state.to_str().unwrap(), fault, "older"] {
                assert!(warnings[0].as_str().unwrap().contains(word), "`{word}` is not in {}", warnings[0]);
            }
            assert_eq!(disk.files(), before, "{fault}");
            for command in ["verify", "resolve"] {
                let cli = disk.machine.cli.clone().under(&disk.mounts.enter());
                let run = cli.run(&[command, &disk.machine.reference]).ok();
                assert!(!run.stdout.contains(fault), "{command}: {}", run.stdout);
                assert_eq!(run.stderr.matches("warning: ").count(), 1, "{command}: {}", run.stderr);
                assert!(run.stderr.contains(fault), "{command}: {}", run.stderr);
            }
            assert_eq!(disk.files(), before, "{fault}");
            // It has not seen the third moment, as far as it knows, but the second it has.
            let run = disk.sees(First);
            assert_eq!(run.code, 21, "{fault}: {}{}", run.stdout, run.stderr);
            assert_eq!(disk.files(), before, "{fault}");
        }
        disk.shell(mend);
        let run = disk.sees(Third);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{fault}: {}", run.stdout);
        update.is_remembered(&disk.back_home(), true, fault);
    }
}

/// P1, T12, T88: each single write fails, done or not, and the others do not: nothing that was not remembered is taken for
/// seen by the next run.
#[test]
fn a_write_that_fails_at_any_point_is_no_lasting_harm() {
    let update = Update::new("faults");
    for (calls, at_least) in [("/^rename", 5), ("/^f(data)?sync$", 10)] {
        let mut faults = 0;
        loop {
            let machine = update.machine.copy();
            machine.show(Third);
            let what = format!("call {} of {calls} fails", faults + 1);
            let filter = format!("inject={calls}:error=ENOSPC:when={}", faults + 1);
            let run = machine.verify_under(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", &filter]);
            assert_eq!(run.code, 0, "{what}: {}{}", run.stdout, run.stderr);
            let warned = !run.json()["warnings"].as_array().unwrap().is_empty();
            assert!(
                !machine.names().iter().any(|name| is_half_written(name)),
                "{what}: {:?}",
                machine.names()
            );
            update.is_remembered(&machine, !warned, &what);
            if !warned {
                break;
            }
            faults += 1;
            assert!(faults < 200, "{what}: no end of it");
        }
        assert!(faults >= at_least, "{faults} faults at {calls}");
    }
}

/// T88: the very first look, with nowhere to remember it.
#[test]
fn a_first_look_without_a_place_to_remember_it_says_so() {
    let new = Past::shared().machine("nowhere");
    fs::create_dir(new.cli.home().join("state")).unwrap();
    for (options, spoil, _, fault) in DISKS {
        let disk = Stateful::new(&new, options);
        disk.shell(spoil);
        let run = disk.sees(Third);
        assert_eq!(run.code, 0, "{fault}: {}{}", run.stdout, run.stderr);
        let json = run.json();
        let warnings = json["warnings"].as_array().unwrap();
        assert_eq!(warnings.len(), 1, "{fault}: {warnings:?}");
        for word in [fault, "older"] {
            assert!(warnings[0].as_str().unwrap().contains(word), "`{word}` is not in {}", warnings[0]);
        }
        assert_eq!(disk.files().len(), 0, "{:?}", disk.files());
    }
}

/// T88: temporary files are made beside what they replace, so that no rename crosses file systems.
#[test]
fn a_home_on_another_disk_than_temporary_files_works() {
    let new = Past::shared().machine("elsewhere").copy();
    let mounts = Mounts::new();
    let home = new.cli.home().to_owned();
    mounts.shell("mount -t tmpfs -o mode=0700,size=1m none \"$0\"", &home);
    copy(&home, &mounts.from_outside(&home));
    for moment in [First, Second, Third] {
        new.show(moment);
        let run = new.verify_under(&mounts.enter()).ok();
        assert_eq!(run.stderr, "");
    }
    new.show(Second);
    new.verify_under(&mounts.enter()).expect_code(21);
    // The folder outside, where the file system is not mounted, saw none of it.
    assert!(!home.join("state").exists());
    for (line, code) in [
        (&["trust", "reset", "acme", "--yes"][..], 0),
        (&["trust", "remove", "acme"], 0),
        (&["key", "generate", "new", "--passphrase-file", "passphrase"], 0),
    ] {
        let inside = new.cli.clone().under(&["env", "-C", home.to_str().unwrap()]).under(&mounts.enter());
        inside.run(line).expect_code(code);
    }
}
