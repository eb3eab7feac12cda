//! An engine on a store in memory, with the embedded registry on loopback behind a front that can be told to fail, and
//! the real client reading from it.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![allow(clippy::print_stdout, reason = "some tests print figures")]

mod alarms;
mod around;
mod clocks;
mod crashes;
mod flow;
mod front;
mod many;
mod outages;
mod recovery;
mod registry;
mod report;
mod rotation;
mod steps;
mod tick;
mod watchdog;
mod world;
mod year;
