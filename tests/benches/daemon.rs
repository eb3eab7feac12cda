//! What the daemon costs, as ratios against a floor or a peer measured in the same run.
//!
//! `cargo build --release --bins && cargo bench -p plimsoll-tests --bench daemon`. With `-- --check` it exits with 1 if a
//! ratio misses its target; any other word runs only the rows whose names contain it.
//!
//! CPU of the daemon is that of its process, user and system, from `/proc`; it has a grain of 10 ms, so each measurement
//! lasts long enough for a hundred of them.

#![allow(clippy::print_stdout, reason = "a bench prints")]
#![expect(clippy::unwrap_used, reason = "a bench: a panic is its way to fail")]

mod accepted;
mod cli;
mod connection;
mod crowd;
mod idle;
mod lag;
mod parts;
mod reads;
mod roles;
mod table;
mod tape;

fn main() {
    if reads::is_bare_server() || parts::is_parts() {
        return;
    }
    table::run(&[accepted::rows, cli::rows, idle::rows, lag::rows, reads::rows, roles::rows]);
}
