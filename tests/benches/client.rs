//! What a client costs, as ratios against a floor or a peer measured in the same run, the two taking turns.
//!
//! `cargo build --release --bins && cargo bench -p plimsoll-tests --bench client`. With `-- --check` it exits with 1 if a
//! ratio misses its target; any other word runs only the rows whose names contain it.

#![allow(clippy::print_stdout, reason = "a bench prints")]
#![expect(clippy::unwrap_used, reason = "a bench: a panic is its way to fail")]

mod cold;
mod processes;
#[path = "../../client/core/tests/simulator/mod.rs"]
mod simulator;
mod trees;
mod warm;

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// One line of the table.
struct Row {
    name: &'static str,
    ours: Duration,
    /// What `ours` is divided by, or what is divided by `ours` if the target is a minimum.
    other: Duration,
    target: Target,
}

#[derive(Clone, Copy)]
enum Target {
    AtMost(f64),
    /// `other / ours`.
    AtLeast(f64),
}

impl Row {
    fn ratio(&self) -> f64 {
        let ratio = self.ours.as_secs_f64() / self.other.as_secs_f64();
        match self.target {
            Target::AtMost(_) => ratio,
            Target::AtLeast(_) => 1.0 / ratio,
        }
    }

    fn is_met(&self) -> bool {
        match self.target {
            Target::AtMost(limit) => self.ratio() <= limit,
            Target::AtLeast(limit) => self.ratio() >= limit,
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let mut missed = 0;
    println!("{:<66} {:>10} {:>10} {:>7}  target", "", "ours", "other", "ratio");
    for part in [warm::rows, cold::rows, processes::rows] {
        let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str()));
        for row in part(&wants) {
            let (sign, limit) = match row.target {
                Target::AtMost(limit) => ("<=", limit),
                Target::AtLeast(limit) => (">=", limit),
            };
            let (ours, other) = (format!("{:.1?}", row.ours), format!("{:.1?}", row.other));
            let verdict = if row.is_met() { "" } else { "  MISSED" };
            println!("{:<66} {ours:>10} {other:>10} {:>7.2}  {sign} {limit}{verdict}", row.name, row.ratio());
            missed += usize::from(!row.is_met());
        }
    }
    if missed > 0 && arguments.iter().any(|argument| argument == "--check") {
        std::process::exit(1);
    }
}

/// CPU time this thread has used.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// The median CPU time of one call of each of the two, over `rounds` rounds in which they take turns; in each, they are
/// called until a millisecond is full, so that the clock's grain does not count.
fn compare<A, B>(
    rounds: usize,
    mut ours: impl FnMut() -> A,
    mut other: impl FnMut() -> B,
) -> (Duration, Duration) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    // The first round warms caches up.
    for round in 0..=rounds {
        let (x, y) = (timed(&mut ours), timed(&mut other));
        if round > 0 {
            a.push(x);
            b.push(y);
        }
    }
    (median(a), median(b))
}

fn timed<T>(call: &mut impl FnMut() -> T) -> Duration {
    let (start, mut calls) = (cpu(), 0);
    loop {
        drop(std::hint::black_box(call()));
        calls += 1;
        let used = cpu() - start;
        if used > Duration::from_millis(1) {
            return used / calls;
        }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
