//! Machines that remember nothing, floors that hold them, and state that many of them share, with the real command line.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod past;

use std::{fs, path::Path, process::Command, thread};

use plimsoll_tests::{
    mounts::Mounts,
    process::{self, Run},
};

use past::{
    Machine,
    Moment::{First, Second, Third},
    Past, copy,
};

/// The floor of the machine `name`, which has seen the second moment, where `cold` finds it.
fn floor_of(name: &str, cold: &Machine) -> String {
    let warm = Past::shared().machine(name).seen(Second);
    let file = warm.cli.home().join("floor.json");
    let run = warm.cli.run(&["trust", "floor", "acme", "--out", "floor.json"]).ok();
    assert!(run.stdout.contains("wrote the floor of acme"), "{}", run.stdout);
    // On standard output it is the same.
    assert_eq!(warm.cli.run(&["trust", "floor", "acme"]).ok().stdout, fs::read_to_string(&file).unwrap());
    fs::copy(&file, cold.cli.home().join("floor.json")).unwrap();
    "floor.json".to_owned()
}

fn verify(machine: &Machine, more: &[&str]) -> Run {
    machine.cli.run(&[&["verify", "-o", "json", &machine.reference], more].concat())
}

fn forget(machine: &Machine) {
    let state = machine.cli.home().join("state");
    if state.exists() {
        fs::remove_dir_all(state).unwrap();
    }
}

/// P1, T20: without a memory anything fresh passes; with a floor nothing older does, and what is newer still does.
#[test]
fn a_floor_holds_a_machine_that_remembers_nothing() {
    let cold = Past::shared().machine("cold");
    let floor = floor_of("warm", &cold);
    cold.show(First);
    // This is the bound that docs/ephemeral.md states.
    verify(&cold, &[]).ok();
    for command in ["verify", "resolve"] {
        forget(&cold);
        let run = cold.cli.run(&[command, &cold.reference, "--floor", &floor]).expect_code(21);
        assert!(!run.stdout.contains("sha256:"), "{}", run.stdout);
        let told = run.stdout + &run.stderr;
        assert!(
            told.contains("the floor floor.json says was seen") && !told.contains("this machine"),
            "{told}"
        );
    }
    // It was no accident of the first run, and the refusal taught the machine nothing.
    assert_eq!(verify(&cold, &["--floor", &floor]).expect_code(21).json()["verdict"], "ROLLBACK");
    for moment in [Second, Third] {
        forget(&cold);
        cold.show(moment);
        let run = verify(&cold, &["--floor", &floor]).ok();
        assert_eq!(run.json()["warnings"].as_array().unwrap().len(), 0, "{}", run.stdout);
    }
    // P1: what it remembers by now is more than the floor says.
    cold.show(Second);
    verify(&cold, &["--floor", &floor]).expect_code(21);
}

/// P1: the policy's floor holds every command, without a flag.
#[test]
fn the_floor_of_the_policy_holds_too() {
    let cold = Past::shared().machine("cold-by-policy");
    floor_of("warm-by-policy", &cold);
    let policy = cold.cli.home().join("policy.toml");
    let text = fs::read_to_string(&policy).unwrap();
    let with = text.replace("[root.acme]\n", "[root.acme]\nfloor = \"floor.json\"\n");
    assert_ne!(text, with);
    fs::write(&policy, with).unwrap();
    cold.show(First);
    assert_eq!(verify(&cold, &[]).expect_code(21).json()["verdict"], "ROLLBACK");
    cold.show(Second);
    verify(&cold, &[]).ok();
    // T70: another repository's floor there holds nobody.
    let floor = cold.cli.home().join("floor.json");
    let text = fs::read_to_string(&floor).unwrap();
    let trust = text.split("\"trust\": \"").nth(1).unwrap().split('"').next().unwrap();
    fs::write(&floor, text.replace(trust, &"0".repeat(32))).unwrap();
    let run = verify(&cold, &[]).expect_code(2);
    assert!(run.stderr.contains("the floor is of trust id 0000"), "{}", run.stderr);
}

/// T15: a clock that was set back makes what ran out fresh again; a floor knows better.
#[test]
fn a_floor_notices_a_clock_that_was_set_back() {
    let cold = Past::shared().machine("cold-and-late");
    let floor = floor_of("warm-and-late", &cold);
    cold.show(Second);
    for (offset, code) in [("-30m", 0), ("-3h", 1)] {
        forget(&cold);
        let late = cold.cli.clone().under(&["faketime", "-f", offset]);
        late.run(&["verify", &cold.reference]).ok();
        forget(&cold);
        let run = late.run(&["verify", &cold.reference, "--floor", &floor]).expect_code(code);
        assert_eq!(run.stderr.contains("set the clock"), code == 1, "{}", run.stderr);
    }
}

/// T51, T70: a floor that holds nobody is misuse, and nothing is asked of anybody.
#[test]
fn a_floor_that_says_nothing_about_any_root_is_refused() {
    let cold = Past::shared().machine("cold-and-odd");
    let floor = floor_of("warm-and-odd", &cold);
    cold.show(Second);
    let refused = cold.cli.run(&["trust", "floor", "acme"]).expect_code(2);
    assert!(refused.stderr.contains("seen nothing of acme yet"), "{}", refused.stderr);
    let path = cold.cli.home().join(&floor);
    let good = fs::read_to_string(&path).unwrap();
    let trust = good.split("\"trust\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    for (bad, words) in [
        (good.replace(&trust, &"0".repeat(32)), "no pinned root"),
        (good.replace("\"floor\": 1", "\"floor\": 1, \"extra\": 1"), "extra"),
        (good.replace("\"floor\": 1", "\"floor\": 1, \"floor\": 1"), "twice"),
        (good[..good.len() / 2].to_owned(), "not strict JSON"),
    ] {
        fs::write(&path, bad).unwrap();
        let run = verify(&cold, &["--floor", &floor]).expect_code(2);
        assert!(run.stderr.contains(words), "{words}: {}", run.stderr);
        assert!(!cold.cli.home().join("state").exists(), "nothing was begun");
    }
    assert!(verify(&cold, &["--floor", "nowhere.json"]).expect_code(2).stderr.contains("no such file"));
}

/// P1, T88: one folder of trusted state, mounted read-only into many containers, is a memory for all of them: at the same
/// time, without a word when nothing is new, and without ever getting older.
#[test]
fn a_state_folder_that_is_shared_read_only_is_a_memory() {
    let shared = Past::shared().machine("shared").seen(Second).copy();
    let home = shared.cli.home().to_owned();
    let outside = Command::new("chmod").args(["-R", "a+rX"]).arg(&home).output().unwrap();
    assert!(outside.status.success());
    let mounts = Mounts::new();
    let state = home.join("state");
    mounts.shell("mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\"", &state);
    let root: [&str; 0] = [];
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    for who in [root.as_slice(), nobody.as_slice()] {
        let machine = |words: &[&str]| shared.cli.clone().under(words).under(&mounts.enter());
        shared.show(Second);
        thread::scope(|scope| {
            let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| shared.verify_by(&machine(who)))).collect();
            for run in runs {
                let run = run.join().unwrap();
                assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{who:?}: {}", run.stdout);
                assert_eq!(run.json()["warnings"].as_array().unwrap().len(), 0, "{who:?}: {}", run.stdout);
            }
        });
        // That the time cannot be remembered is nothing to warn of.
        let later = [who, &["faketime", "-f", "+20m"]].concat();
        let run = shared.verify_by(&machine(&later)).ok();
        assert_eq!(run.json()["warnings"].as_array().unwrap().len(), 0, "{who:?}: {}", run.stdout);
        shared.show(First);
        assert_eq!(shared.verify_by(&machine(who)).code, 21, "{who:?}");
        // News is held to it, and told not to be remembered.
        shared.show(Third);
        let run = shared.verify_by(&machine(who)).ok();
        assert_eq!(run.json()["warnings"].as_array().unwrap().len(), 1, "{who:?}: {}", run.stdout);
    }
    // Where it can be written, it is as private as ever.
    let run = shared.verify();
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(run.stderr.contains("open to others"), "{}", run.stderr);
}

/// T88: whoever can read the shared folder while its owner updates it waits, and sees the old state or the new one.
#[test]
fn who_shares_a_state_folder_waits_for_its_owner() {
    let owner = Past::shared().machine("owner-of-shared").seen(Second).copy();
    let mounts = Mounts::new();
    let inside = tempfile::tempdir().unwrap();
    copy(owner.cli.home(), inside.path());
    let bind = format!("mount --bind -o ro \"{}\" \"$0\"", owner.cli.home().join("state").display());
    mounts.shell(&bind, &inside.path().join("state"));
    owner.show(Third);
    let reader = process::Cli::new(inside.path()).under(&mounts.enter());
    thread::scope(|scope| {
        let runs: Vec<_> = (0..3).map(|_| scope.spawn(|| owner.verify_by(&reader))).collect();
        owner.verify().ok();
        for run in runs {
            run.join().unwrap().ok();
        }
    });
    assert!(Path::new(&owner.folder()).exists());
    owner.show(Second);
    assert_eq!(owner.verify_by(&reader).code, 21);
}
