//! `plimsolld demo`: the whole of Plimsoll in one process, and five attacks that fail.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use plimsoll_tests::process;

/// What the README promises.
const LIMIT: Duration = Duration::from_secs(30);
const VERDICTS: [&str; 5] = ["ROLLBACK", "EXPIRED", "MISMATCH", "REVOKED", "ABSENT"];

#[test]
fn the_demo_stops_five_attacks_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let temporary = home.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut command = Command::new(process::binary("plimsolld"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PLIMSOLL") || name.starts_with("XDG_")) {
            command.env_remove(name);
        }
    }
    command.arg("demo").current_dir(home.path()).env("HOME", home.path()).env("TMPDIR", &temporary);
    let started = Instant::now();
    let run = process::run(&mut command, b"").ok();
    let took = started.elapsed();
    assert!(took < LIMIT, "{took:?}");

    // Each verdict after the one before: the attacks come in this order.
    let mut rest = run.stdout.as_str();
    for verdict in VERDICTS {
        let at = rest.find(verdict).unwrap_or_else(|| panic!("no {verdict} in its place in\n{}", run.stdout));
        rest = &rest[at + verdict.len()..];
    }
    for stream in [&run.stdout, &run.stderr] {
        assert!(!stream.contains('\u{1b}'), "colour where there is no terminal:\n{stream}");
        assert!(!stream.contains("panicked"), "{stream}");
    }
    let left: Vec<_> = fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [temporary]);
}
