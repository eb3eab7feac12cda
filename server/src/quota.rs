//! What one team may take of what all share: room in the snapshot, disk, the daemon's time. Pure: time is an argument.
//!
//! A *subtree* is a role that `targets` delegates to, with all roles below it. One limit for each is enough: what a role
//! further down takes counts for its team, so no team can crowd out another, however it divides its own share.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

/// How much room a bucket has, in time: what was saved up for a minute may be spent at once.
const WINDOW: TimeDelta = TimeDelta::minutes(1);
const TOP: &str = "targets--";

/// `[quota]`: what each subtree may have.
///
/// `root` and `targets` are the owners' own and not limited, nor is how often a submission comes that holds one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Roles that a snapshot lists, removed ones included, as they stay there. Default: 1000.
    pub roles: u64,
    /// Bytes of the newest document of each. Default: 64 MiB.
    pub bytes: u64,
    /// Submissions accepted in a minute; as many may come at once after a quiet minute. Default: 600.
    pub publishes_per_minute: u32,
}

impl Default for Quota {
    fn default() -> Self {
        Self { roles: 1000, bytes: 64 << 20, publishes_per_minute: 600 }
    }
}

/// What a subtree has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    /// Roles.
    pub(crate) roles: u64,
    /// Bytes of their newest documents.
    pub(crate) bytes: u64,
}

/// What of a quota is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    Roles(u64),
    Bytes(u64),
}

impl Quota {
    /// Says whether a subtree that has `before` may come to `after`. What does not grow is allowed, so that a quota that
    /// was lowered keeps nobody from renewing what they have.
    pub(crate) fn allows(&self, before: Usage, after: Usage) -> Result<(), Full> {
        if after.roles > self.roles.max(before.roles) {
            return Err(Full::Roles(self.roles));
        }
        if after.bytes > self.bytes.max(before.bytes) {
            return Err(Full::Bytes(self.bytes));
        }
        Ok(())
    }
}

/// The subtree that `role` belongs to, by the name of its first role; none for the owners' own roles.
pub(crate) fn subtree(role: &str) -> Option<&str> {
    let rest = role.strip_prefix(TOP)?;
    Some(rest.find("--").map_or(role, |at| &role[..TOP.len() + at]))
}

/// How often each subtree publishes: a token bucket for each. In memory only: a restart forgets it.
///
/// Each bucket is the one moment at which it will be full again. One that is full is not kept, so there are never more
/// than subtrees that published within [`WINDOW`].
#[derive(Debug)]
pub(crate) struct Rates {
    each: TimeDelta,
    full_at: BTreeMap<String, DateTime<Utc>>,
    /// How many buckets there may be before those that are full are looked for.
    sweep: usize,
}

/// A subtree that published too often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TooOften {
    /// Which.
    pub(crate) subtree: String,
    /// When it may again.
    pub(crate) wait: Duration,
}

impl Rates {
    /// All buckets full.
    pub(crate) fn new(quota: &Quota) -> Self {
        Self { each: each(quota), full_at: BTreeMap::new(), sweep: 64 }
    }

    /// From now on `quota` counts. What was taken of a bucket stays taken, in publishes.
    pub(crate) fn change(&mut self, quota: &Quota, now: DateTime<Utc>) {
        let (old, new) = (micros(self.each), micros(each(quota)));
        for full_at in self.full_at.values_mut() {
            let taken = micros(*full_at - now).clamp(0, micros(WINDOW));
            // At most a minute times a minute; a bucket that is overdrawn by the new measure is empty.
            *full_at = now + TimeDelta::microseconds(taken * new / old).min(WINDOW);
        }
        self.each = each(quota);
    }

    /// Takes one publish of each of `subtrees` at `now`, or nothing at all.
    ///
    /// # Errors
    /// [`TooOften`], for the first that has none left.
    pub(crate) fn take(&mut self, subtrees: &BTreeSet<String>, now: DateTime<Utc>) -> Result<(), TooOften> {
        for subtree in subtrees {
            let over = self.filled(subtree, now) + self.each - now - WINDOW;
            if over > TimeDelta::zero() {
                let wait = over.to_std().unwrap_or_default();
                return Err(TooOften { subtree: subtree.clone(), wait });
            }
        }
        for subtree in subtrees {
            let full_at = self.filled(subtree, now) + self.each;
            self.full_at.insert(subtree.clone(), full_at);
        }
        if self.full_at.len() > self.sweep {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.sweep = 64.max(2 * self.full_at.len());
        }
        Ok(())
    }

    /// Gives back what was taken for a submission of which nothing came.
    pub(crate) fn give_back(&mut self, subtrees: &BTreeSet<String>) {
        for subtree in subtrees {
            if let Some(full_at) = self.full_at.get_mut(subtree) {
                *full_at -= self.each;
            }
        }
    }

    /// When the bucket is full: between `now` and [`WINDOW`] from it, also after the clock was put back.
    fn filled(&self, subtree: &str, now: DateTime<Utc>) -> DateTime<Utc> {
        self.full_at.get(subtree).map_or(now, |at| (*at).clamp(now, now + WINDOW))
    }
}

/// How long it takes until one more publish is allowed.
fn each(quota: &Quota) -> TimeDelta {
    let each = micros(WINDOW) / i64::from(quota.publishes_per_minute.max(1));
    TimeDelta::microseconds(each.max(1))
}

fn micros(length: TimeDelta) -> i64 {
    length.num_microseconds().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn rates(publishes_per_minute: u32) -> Rates {
        Rates::new(&Quota { publishes_per_minute, ..Quota::default() })
    }

    fn of(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_subtree_is_named_by_its_first_role() {
        for (role, expected) in [
            ("targets--a", Some("targets--a")),
            ("targets--a--b--c", Some("targets--a")),
            ("targets--a-b--c", Some("targets--a-b")),
            ("targets", None),
            ("root", None),
            ("snapshot", None),
        ] {
            assert_eq!(subtree(role), expected, "{role}");
        }
    }

    #[test]
    fn what_does_not_grow_is_allowed_also_beyond_the_quota() {
        let quota = Quota { roles: 10, bytes: 100, ..Quota::default() };
        let usage = |roles, bytes| Usage { roles, bytes };
        assert_eq!(quota.allows(usage(9, 90), usage(10, 100)), Ok(()));
        assert_eq!(quota.allows(usage(10, 90), usage(11, 90)), Err(Full::Roles(10)));
        assert_eq!(quota.allows(usage(10, 100), usage(10, 101)), Err(Full::Bytes(100)));
        assert_eq!(quota.allows(usage(20, 200), usage(20, 200)), Ok(()));
        assert_eq!(quota.allows(usage(20, 200), usage(20, 150)), Ok(()));
        assert_eq!(quota.allows(usage(20, 200), usage(20, 201)), Err(Full::Bytes(100)));
    }

    #[test]
    fn a_minutes_worth_may_come_at_once_and_then_one_at_a_time() {
        let (mut rates, a) = (rates(60), of(&["a"]));
        for n in 0..60 {
            assert_eq!(rates.take(&a, start()), Ok(()), "{n}");
        }
        let wait = Duration::from_secs(1);
        assert_eq!(rates.take(&a, start()), Err(TooOften { subtree: "a".to_owned(), wait }));
        let later = start() + TimeDelta::seconds(1);
        assert_eq!(rates.take(&a, later), Ok(()));
        assert!(rates.take(&a, later).is_err());
        // What was saved up is never more than a minute's worth.
        let much_later = start() + TimeDelta::days(1);
        assert!((0..60).all(|_| rates.take(&a, much_later).is_ok()));
        assert!(rates.take(&a, much_later).is_err());
    }

    #[test]
    fn one_subtree_takes_nothing_from_another_and_all_or_nothing() {
        let mut rates = rates(1);
        rates.take(&of(&["b"]), start()).unwrap();
        assert_eq!(rates.take(&of(&["a", "b"]), start()).unwrap_err().subtree, "b");
        rates.take(&of(&["a"]), start()).unwrap();
        rates.give_back(&of(&["a"]));
        rates.take(&of(&["a"]), start()).unwrap();
    }

    #[test]
    fn a_quota_that_changes_forgets_nothing_that_was_taken() {
        let quota = |publishes_per_minute| Quota { publishes_per_minute, ..Quota::default() };
        let (mut rates, a) = (rates(10), of(&["a"]));
        let left = |rates: &mut Rates, now| (0..).take_while(|_| rates.take(&a, now).is_ok()).count();
        for _ in 0..4 {
            rates.take(&a, start()).unwrap();
        }
        rates.change(&quota(100), start());
        assert_eq!(left(&mut rates, start()), 96);
        // Lowered below what was taken: none is left, and one comes back after its time.
        rates.change(&quota(2), start());
        assert_eq!(left(&mut rates, start()), 0);
        assert_eq!(left(&mut rates, start() + TimeDelta::seconds(30)), 1);
        assert_eq!(left(&mut rates, start() + TimeDelta::days(1)), 2);
        rates.change(&quota(3), start() + TimeDelta::days(2));
        assert_eq!(left(&mut rates, start() + TimeDelta::days(2)), 3, "what came back has come back");
        // The clock was put back, and far ahead.
        rates.change(&quota(60), start());
        assert_eq!(left(&mut rates, start() + TimeDelta::minutes(1)), 60);
    }

    #[test]
    fn a_clock_that_is_put_back_locks_nobody_out() {
        let (mut rates, a) = (rates(60), of(&["a"]));
        rates.take(&a, start() + TimeDelta::days(365)).unwrap();
        let wait = rates.take(&a, start()).unwrap_err().wait;
        assert_eq!(wait, Duration::from_secs(1));
        rates.take(&a, start() + TimeDelta::seconds(1)).unwrap_err();
        rates.take(&of(&["b"]), start()).unwrap();
    }

    #[test]
    fn full_buckets_are_not_kept() {
        let mut rates = rates(600);
        for n in 0..100_000 {
            let name = format!("t{n}");
            rates.take(&BTreeSet::from([name]), start() + TimeDelta::milliseconds(10 * n)).unwrap();
            assert!(rates.full_at.len() <= 128, "{}", rates.full_at.len());
        }
    }
}
