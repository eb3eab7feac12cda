//! An engine on a store in memory, with the embedded registry on loopback behind a front that can be told to fail, and
//! the real client reading from it.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod alarms;
mod flow;
mod front;
mod outages;
mod report;
mod rotation;
mod world;
