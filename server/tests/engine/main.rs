//! An engine on a store in memory, with the embedded registry on loopback behind a front that can be told to fail, and
//! the real client reading from it.

mod alarms;
mod flow;
mod front;
mod outages;
mod world;
