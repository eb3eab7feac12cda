//! A refresh that finds nothing new, in the process: what was remembered, and the same timestamp again.

use plimsoll_core::tuf::{HighWater, Trusted};

use crate::{
    compare,
    simulator::{Client, Repository, now},
    table::{Row, Target},
    trees::{self, Least},
};

/// What a client reads from its disk, and the timestamp that it is offered.
struct Held {
    root: Vec<u8>,
    memory: HighWater,
    timestamp: Vec<u8>,
    offered: Vec<u8>,
}

impl Held {
    fn by(repository: &Repository) -> Self {
        let mut client = Client::new(repository);
        client.finds(repository, trees::NAME);
        let timestamp = client.timestamp.unwrap();
        Self { root: client.root, memory: client.memory, offered: timestamp.clone(), timestamp }
    }

    fn refresh(&self) -> Trusted {
        let mut trusted =
            Trusted::resume(&self.root, self.memory.clone(), Some(&self.timestamp), now()).unwrap();
        trusted.finish_root().unwrap();
        trusted.update_timestamp(&self.offered).unwrap();
        assert!(trusted.keep_snapshot().unwrap());
        trusted
    }
}

pub(crate) fn rows(wants: &dyn Fn(&str) -> bool) -> Vec<Row> {
    const FLOOR: &str = "warm refresh / parse of the timestamp + 1 verification";
    const SIZE: &str = "warm refresh at 10,000 roles / at 10 roles";
    if !wants(FLOOR) && !wants(SIZE) {
        return Vec::new();
    }
    let (few, many) = (trees::repository(10), trees::repository(10_000));
    let timestamp = Least::of(&few, "timestamp");
    let (few, many) = (Held::by(&few), Held::by(&many));
    let (ours, other) = compare(300, || few.refresh(), || timestamp.work());
    let first = Row { name: FLOOR, ours: ours.into(), other: other.into(), target: Target::AtMost(1.5) };
    let (ours, other) = compare(300, || many.refresh(), || few.refresh());
    vec![first, Row { name: SIZE, ours: ours.into(), other: other.into(), target: Target::AtMost(1.1) }]
}
