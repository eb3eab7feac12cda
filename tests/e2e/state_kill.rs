//! Trusted state against `kill -9`, with the real command line: at any instant, and before each single change of a file.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod past;

use std::time::Instant;

use past::{
    Machine,
    Moment::{Second, Third},
    Past, is_half_written,
};

const KILLS: u32 = 60;

/// Machines that have seen the second and the third moment, behind one registry.
fn machines(name: &str) -> (Machine, Machine) {
    let second = Past::shared().machine(name).seen(Second);
    let third = second.copy().seen(Third);
    (second, third)
}

/// P1, T08, T12: a kill at any instant of an update leaves a state that opens and remembers.
#[test]
fn a_kill_at_any_instant_loses_no_memory() {
    let (second, third) = machines("instants");
    // How long it lives under `timeout`, which does the killing here.
    let undisturbed = second.copy();
    let begun = Instant::now();
    undisturbed.show(Third);
    undisturbed.verify_under(&["timeout", "-s", "KILL", "60"]).ok();
    let life = begun.elapsed();
    let mut killed = 0;
    for at in 1..=KILLS {
        let machine = second.copy();
        machine.show(Third);
        // The moment is what matters here, not an event; which one it was does not decide what must be true.
        let instant = (life * at / KILLS).as_secs_f64().to_string();
        let run = machine.verify_under(&["timeout", "-s", "KILL", &instant]);
        killed += u32::from(run.code != 0);
        machine.is_sound(&run, &second, &third, &format!("killed after {instant} s of {life:?}"));
    }
    assert!(killed >= KILLS / 2, "only {killed} of {KILLS} were killed");
}

/// P1, T08, T12: the same before each change of a file, one after the other, so that no instant is left out.
#[test]
fn a_kill_before_each_change_of_a_file_loses_no_memory() {
    let (second, third) = machines("changes");
    for calls in ["/^(write|pwrite64)$", "/^f(data)?sync$", "/^rename", "/^unlink", "/^ftruncate|^linkat?$|^symlink"] {
        let mut kills = 0;
        loop {
            let machine = second.copy();
            machine.show(Third);
            let filter = format!("inject={calls}:signal=KILL:when={}", kills + 1);
            let run = machine.verify_under(&strace(&filter));
            let what = format!("killed before call {} of {calls}", kills + 1);
            if run.code == 0 {
                break;
            }
            assert_eq!((run.code, run.stderr.as_str()), (-1, ""), "{what}: {}", run.stdout);
            machine.is_sound(&run, &second, &third, &what);
            kills += 1;
            assert!(kills < 200, "{what}: no end of it");
        }
        eprintln!("{calls}: {kills}");
    }
}

/// T12, T88: files that a killed process left half-written do not pile up.
#[test]
fn what_a_killed_process_left_half_written_is_cleared_away() {
    let (machine, _) = machines("litter");
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
