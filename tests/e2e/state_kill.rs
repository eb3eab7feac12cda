//! Trusted state against `kill -9`, with the real command line: at any instant, and before each single change of a file.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod past;

use std::time::Instant;

use past::{
    Machine,
    Moment::{Second, Third},
    Past, Update, is_half_written,
};

const KILLS: u32 = 52;

/// P1, T08, T12: a kill at any instant of an update leaves a state that opens and remembers.
#[test]
fn a_kill_at_any_instant_loses_no_memory() {
    let update = Update::new("instants");
    // How long it lives under `timeout`, which does the killing here.
    let undisturbed = update.machine.copy();
    undisturbed.show(Third);
    let begun = Instant::now();
    undisturbed.verify_under(&["timeout", "-s", "KILL", "60"]).ok();
    let life = begun.elapsed();
    let mut killed = 0;
    for at in 1..=KILLS {
        let machine = update.machine.copy();
        machine.show(Third);
        // The moment is what matters here, not an event; which one it was does not decide what must be true.
        let instant = (life * at / KILLS).as_secs_f64().to_string();
        let run = machine.verify_under(&["timeout", "-s", "KILL", &instant]);
        killed += u32::from(run.code != 0);
        update.is_remembered(&machine, run.code == 0, &format!("killed after {instant} s of {life:?}"));
    }
    assert!(killed >= 10, "only {killed} of {KILLS} were killed");
}

/// P1, T08, T12: the same before each change of a file, one after the other, so that no instant is left out.
#[test]
fn a_kill_before_each_change_of_a_file_loses_no_memory() {
    let update = Update::new("changes");
    kill_before_each_change(&update.machine, |machine, what| update.is_remembered(machine, false, what));
}

/// T10, T12: the same at the first contact: no kill leaves a state that only `trust reset` would open, and what is seen
/// next is remembered.
#[test]
fn a_kill_at_the_first_contact_needs_no_help() {
    let new = Past::shared().machine("first-contact");
    kill_before_each_change(&new, |machine, what| {
        machine.show(Third);
        let run = machine.verify();
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{what}: the next run: {}", run.stdout);
        machine.refuses(Second, what);
    });
}

/// Runs `check` on one copy of `machine` after the other, each killed while it verified [`Third`]: before its first
/// write, its second, and so on; its first fsync, its second, and so on.
fn kill_before_each_change(machine: &Machine, check: impl Fn(&Machine, &str)) {
    for (calls, at_least) in
        [("/^p?write", 5), ("/^f(data)?sync$", 10), ("/^rename", 5), ("/^unlink", 0), ("/^mkdir", 0)]
    {
        let mut kills = 0;
        loop {
            let copy = machine.copy();
            copy.show(Third);
            let filter = format!("inject={calls}:signal=KILL:when={}", kills + 1);
            let run = copy.verify_under(&strace(&filter));
            let what = format!("killed before call {} of {calls}", kills + 1);
            if run.code == 0 {
                break;
            }
            assert_eq!((run.code, run.stderr.as_str()), (-1, ""), "{what}: {}", run.stdout);
            check(&copy, &what);
            kills += 1;
            assert!(kills < 200, "{what}: no end of it");
        }
        assert!(kills >= at_least, "{kills} kills at {calls}");
    }
}

/// T12, T88: files that a killed process left half-written do not pile up.
#[test]
fn what_a_killed_process_left_half_written_is_cleared_away() {
    let machine = Past::shared().machine("litter").seen(Second);
    machine.show(Third);
    let half_written = || machine.names().into_iter().filter(|name| is_half_written(name)).count();
    machine.verify_under(&strace("inject=/^rename:signal=KILL:when=1")).expect_code(-1);
    assert_eq!(half_written(), 1, "{:?}", machine.names());
    machine.verify().ok();
    assert_eq!(half_written(), 0, "{:?}", machine.names());
}

/// Words that run the command line under `strace`, with one more expression for it.
fn strace(expression: &str) -> [&str; 7] {
    ["strace", "-f", "-qq", "-o", "/dev/null", "-e", expression]
}
