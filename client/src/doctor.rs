//! A second opinion: another implementation of TUF, tough, loads what a trust repository publishes, and what it says is
//! compared with what we say (decision 15). Reads only, and judges one and the same copy twice.
//!
//! tough is asked by [`judge`], in a process of its own, as it can overflow its stack, which nothing catches. It is nowhere
//! else: neither publishing nor verifying ever waits for it.

mod compare;
mod copy;
mod judge;

pub use compare::{Opinion, second_opinion};
pub use copy::{Copy, CopySource};
pub use judge::{Judged, Loaded, judge};
