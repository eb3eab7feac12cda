//! A client that has nothing but the root it pins, in the process: one name, two delegations deep.

use crate::{
    compare,
    simulator::Client,
    table::{Row, Target},
    trees::{self, Least},
};

pub(crate) fn rows(wants: &dyn Fn(&str) -> bool) -> Vec<Row> {
    [
        ("cold verify at 10 roles / verifications + sha256 + typed parses", 10, 100),
        ("cold verify at 10,000 roles / verifications + sha256 + typed parses", 10_000, 30),
    ]
    .into_iter()
    .filter(|(name, ..)| wants(name))
    .map(|(name, roles, rounds)| {
        let repository = trees::repository(roles);
        let roles = ["root", "timestamp", "snapshot", "targets", "team", "team--net"];
        let least = roles.map(|role| Least::of(&repository, role));
        let (ours, other) = compare(
            rounds,
            || Client::new(&repository).finds(&repository, trees::NAME),
            || least.iter().for_each(Least::work),
        );
        Row { name, ours: ours.into(), other: other.into(), target: Target::AtMost(2.0) }
    })
    .collect()
}
