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
mod table;
mod trees;
mod warm;

use std::time::Duration;

use table::{cpu, median};

fn main() {
    table::run(&[warm::rows, cold::rows, processes::rows]);
}

/// The median CPU time of one call of each of the two, over `rounds` rounds in which they take turns; in each, they are
/// called until a millisecond is full, so that the clock's grain does not count.
pub(crate) fn compare<A, B>(
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
