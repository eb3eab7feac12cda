//! The functions that the targets call, without the servers and peers that `plimsoll-tests` builds beside them.

#[path = "../src/fuzzing/mod.rs"]
pub mod fuzzing;
