//! Whether the wall clock may be signed with. Pure: fed with readings of both clocks.
//!
//! A clock that went back signs what clients have seen newer of. One that went forward signs timestamps that stay valid
//! for longer than anybody decided: whoever keeps such a one can freeze clients with it. So a wall clock that was *set*,
//! as the monotonic clock tells, is not signed with
//!
//! - until it is set right again, or
//! - until it has gone steadily for a while (somebody corrected it): always if it went back, and forward if that is in
//!   all, since the daemon started, at most one life of a timestamp; then nobody can freeze a client for more than twice
//!   that life, or
//! - until a restart, which says that a person looked, for what is further ahead.
//!
//! And it is never signed with while it is before the last signing.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{ClockBehind, Freshness};

/// By how much a clock may be set without anybody asking: leap seconds and small corrections.
pub const BOUND: TimeDelta = TimeDelta::seconds(60);
/// The longest time for which a clock that was set must go steadily.
const STEADY: Duration = Duration::from_secs(600);
/// One part in so many is how far the two clocks may drift apart, in any time: 43 s a day.
const DRIFT: i32 = 2000;

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// What the wall clock shows, UTC.
    pub wall: DateTime<Utc>,
    /// What the monotonic clock shows.
    pub monotonic: Duration,
}

impl Reading {
    /// When the monotonic clock was at zero, according to the wall clock: the same for as long as nobody sets that.
    fn zero(&self) -> DateTime<Utc> {
        let since = TimeDelta::from_std(self.monotonic).unwrap_or(TimeDelta::MAX);
        self.wall.checked_sub_signed(since).unwrap_or(DateTime::<Utc>::MIN_UTC)
    }
}

/// Why nothing may be signed at this time of day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClockFault {
    /// It is before the last signing.
    #[error(transparent)]
    Behind(#[from] ClockBehind),
    /// It was set, and may be signed with if it goes steadily.
    #[error(
        "the clock was set {} {}, as the monotonic clock tells: nothing is signed until it is set right, or has gone \
         steadily for another {} s",
        span(*by), way(*by), wait.as_secs() + 1
    )]
    Set {
        /// By how much; above zero if it was set forward.
        by: TimeDelta,
        /// How long it must still go steadily.
        wait: Duration,
    },
    /// It was set further ahead than can be taken without a person.
    #[error(
        "the clock was set {} ahead, as the monotonic clock tells: nothing is signed until it is set right; if it is \
         right now, restart the daemon",
        span(*by)
    )]
    FarAhead {
        /// By how much.
        by: TimeDelta,
    },
}

/// Remembers what the clocks showed. One for each trust repository.
#[derive(Debug, Clone)]
pub struct Guard {
    steady: Duration,
    forward: TimeDelta,
    belief: Option<Belief>,
    doubt: Option<Doubt>,
}

/// What is signed with.
#[derive(Debug, Clone, Copy)]
struct Belief {
    zero: DateTime<Utc>,
    /// The earliest since the start; what was taken forward is counted from it.
    earliest: DateTime<Utc>,
    /// The last look.
    at: Duration,
}

/// What the wall clock was set to.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    zero: DateTime<Utc>,
    since: Duration,
}

impl Guard {
    /// A guard that has seen no clock yet: what it is shown first, it believes.
    pub fn new(freshness: &Freshness) -> Self {
        let life = freshness.timestamp_validity;
        // Less than what is left of any timestamp when the next one is due: a correction lets none expire.
        let steady = STEADY.min((life / 4).to_std().unwrap_or_default());
        Self { steady, forward: life, belief: None, doubt: None }
    }

    /// From now on lives are those of `freshness`; what was seen stays.
    pub fn set_freshness(&mut self, freshness: &Freshness) {
        let Self { steady, forward, .. } = Self::new(freshness);
        (self.steady, self.forward) = (steady, forward);
    }

    /// Looks at the clocks; `signed` is when the last timestamp was signed, if one was. Call it before each signing, and at
    /// least once a minute.
    ///
    /// # Errors
    /// [`ClockFault`]: nothing may be signed now.
    pub fn look(&mut self, reading: Reading, signed: Option<DateTime<Utc>>) -> Result<(), ClockFault> {
        let behind = signed.filter(|signed| reading.wall < *signed);
        let behind = behind.map(|signed| ClockBehind { now: reading.wall, signed });
        let zero = reading.zero();
        let Some(belief) = self.belief.filter(|_| signed.is_some()) else {
            // A clock that is known to be wrong is nothing to start from.
            self.belief = behind.is_none().then_some(Belief { zero, earliest: zero, at: reading.monotonic });
            return behind.map_or(Ok(()), |behind| Err(behind.into()));
        };
        let by = zero - belief.zero;
        if by.abs() <= BOUND {
            self.doubt = None;
            let passed = TimeDelta::from_std(reading.monotonic.saturating_sub(belief.at)).unwrap_or_default();
            let drift = by.clamp(-passed / DRIFT, passed / DRIFT);
            self.belief = Some(Belief { zero: belief.zero + drift, at: reading.monotonic, ..belief });
            return behind.map_or(Ok(()), |behind| Err(behind.into()));
        }
        let doubt = self.doubt.filter(|doubt| (zero - doubt.zero).abs() <= BOUND);
        let doubt = *self.doubt.insert(doubt.unwrap_or(Doubt { zero, since: reading.monotonic }));
        if let Some(behind) = behind {
            return Err(behind.into());
        }
        if zero - belief.earliest > self.forward {
            return Err(ClockFault::FarAhead { by });
        }
        let wait = self.steady.saturating_sub(reading.monotonic.saturating_sub(doubt.since));
        if !wait.is_zero() {
            return Err(ClockFault::Set { by, wait });
        }
        let earliest = belief.earliest.min(zero);
        (self.belief, self.doubt) = (Some(Belief { zero, earliest, at: reading.monotonic }), None);
        Ok(())
    }
}

fn way(by: TimeDelta) -> &'static str {
    if by < TimeDelta::zero() { "back" } else { "ahead" }
}

/// `90 s`, `2 h`, `365 d`: in whole units of what it has at least two of.
fn span(by: TimeDelta) -> String {
    let seconds = by.num_seconds().unsigned_abs();
    // To the nearest: who sets a clock a year ahead and looks a second later reads of a year.
    let whole = |unit: u64| (seconds + unit / 2) / unit;
    match (whole(60), whole(3600)) {
        (..2, _) => format!("{seconds} s"),
        (2..120, _) => format!("{} min", whole(60)),
        (_, 2..48) => format!("{} h", whole(3600)),
        _ => format!("{} d", whole(86_400)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;

    /// A guard with a day and an hour, both clocks, and when the last timestamp was signed.
    struct Machine {
        guard: Guard,
        wall: i64,
        monotonic: u64,
        signed: Option<i64>,
    }

    impl Machine {
        fn new() -> Self {
            let guard = Guard::new(&Freshness::default());
            let mut machine =
                Self { guard, wall: 1_800_000_000, monotonic: 5000, signed: Some(1_800_000_000) };
            machine.signs();
            machine
        }

        fn set(&mut self, by: i64) {
            self.wall += by;
        }

        fn pass(&mut self, seconds: i64) {
            self.wall += seconds;
            self.monotonic += u64::try_from(seconds).unwrap();
        }

        fn look(&mut self) -> Result<(), ClockFault> {
            let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
            let reading = Reading { wall: at(self.wall), monotonic: Duration::from_secs(self.monotonic) };
            self.guard.look(reading, self.signed.map(at))
        }

        fn signs(&mut self) {
            assert_eq!(self.look(), Ok(()));
            self.signed = Some(self.wall);
        }

        #[track_caller]
        fn was_set(&mut self) -> TimeDelta {
            match self.look() {
                Err(ClockFault::Set { by, .. }) => by,
                other => panic!("{other:?}"),
            }
        }

        #[track_caller]
        fn is_far_ahead(&mut self) {
            assert!(matches!(self.look(), Err(ClockFault::FarAhead { .. })), "{:?}", self.look());
        }

        #[track_caller]
        fn is_behind(&mut self) {
            assert!(matches!(self.look(), Err(ClockFault::Behind(_))), "{:?}", self.look());
        }
    }

    #[test]
    fn a_clock_that_nobody_sets_is_believed_however_seldom_it_is_looked_at() {
        let mut machine = Machine::new();
        for seconds in [0, 1, 60, HOUR, 8 * HOUR, YEAR] {
            machine.pass(seconds);
            machine.signs();
        }
    }

    #[test]
    fn what_is_set_and_set_right_again_is_believed_at_once() {
        for by in [61, HOUR, DAY, YEAR] {
            let mut machine = Machine::new();
            machine.set(by);
            assert!(machine.look().is_err(), "{by}");
            machine.pass(30);
            machine.set(-by);
            machine.signs();
        }
    }

    #[test]
    fn a_clock_set_ahead_by_at_most_a_life_is_believed_when_it_has_gone_steadily() {
        let mut machine = Machine::new();
        machine.set(HOUR);
        assert_eq!(machine.was_set(), TimeDelta::hours(1));
        machine.pass(599);
        machine.was_set();
        machine.pass(1);
        machine.signs();
    }

    #[test]
    fn one_that_is_set_again_meanwhile_waits_anew() {
        let mut machine = Machine::new();
        machine.set(HOUR);
        machine.was_set();
        machine.pass(599);
        machine.set(HOUR);
        machine.was_set();
        machine.pass(599);
        machine.was_set();
        machine.pass(1);
        machine.signs();
    }

    /// Else whoever can set the clock would get timestamps for all of the future, a life at a time.
    #[test]
    fn more_than_a_life_ahead_is_not_believed_at_once_or_in_steps() {
        let mut machine = Machine::new();
        machine.set(YEAR);
        machine.is_far_ahead();
        machine.pass(30 * DAY);
        machine.is_far_ahead();

        let mut machine = Machine::new();
        for _ in 0..2 {
            machine.set(12 * HOUR);
            machine.was_set();
            machine.pass(600);
            machine.signs();
        }
        machine.set(12 * HOUR);
        machine.pass(DAY);
        machine.is_far_ahead();

        // And in steps that are each too small to ask for.
        let mut machine = Machine::new();
        machine.set(50);
        machine.signs();
        machine.pass(60);
        machine.set(50);
        machine.was_set();
    }

    /// It could only bring what is signed to an earlier end, but never below what was signed.
    #[test]
    fn a_clock_set_back_is_believed_once_it_is_steady_and_after_the_last_signing() {
        let mut machine = Machine::new();
        machine.pass(HOUR);
        machine.set(-2 * HOUR);
        machine.is_behind();
        machine.pass(2 * HOUR);
        machine.signs();

        let mut machine = Machine::new();
        machine.pass(2 * HOUR);
        machine.set(-HOUR);
        assert_eq!(machine.was_set(), TimeDelta::hours(-1));
        machine.pass(600);
        machine.signs();
    }

    /// A machine without a clock of its own starts in the past, and is set when it finds the network.
    #[test]
    fn a_clock_that_starts_before_the_last_signing_is_believed_as_soon_as_it_is_right() {
        let mut machine = Machine::new();
        machine.guard = Guard::new(&Freshness::default());
        machine.set(-50 * YEAR);
        machine.is_behind();
        machine.set(50 * YEAR);
        machine.signs();

        // And if nothing was signed yet, there is nothing to protect.
        let mut machine = Machine::new();
        machine.signed = None;
        for by in [-50 * YEAR, 50 * YEAR] {
            machine.set(by);
            assert_eq!(machine.look(), Ok(()));
        }
    }

    #[test]
    fn clocks_may_drift_apart_slowly() {
        let mut machine = Machine::new();
        for _ in 0..365 {
            machine.pass(DAY);
            machine.set(40);
            machine.signs();
        }
    }

    #[test]
    fn a_fault_says_what_happened_and_what_to_do() {
        let by = TimeDelta::hours(-3);
        let text = ClockFault::Set { by, wait: Duration::from_secs(600) }.to_string();
        assert!(text.contains("set 3 h back") && text.contains("601 s"), "{text}");
        let text = ClockFault::FarAhead { by: TimeDelta::days(365) }.to_string();
        assert!(text.contains("365 d ahead") && text.contains("restart"), "{text}");
        for (seconds, told) in [
            (-89, "89 s"),
            (91, "2 min"),
            (61 * 60, "61 min"),
            (2 * HOUR - 1, "2 h"),
            (47 * HOUR, "47 h"),
            (-YEAR + 1, "365 d"),
        ] {
            assert_eq!(span(TimeDelta::seconds(seconds)), told);
        }
    }

    /// A shorter life takes effect at once here, too: what is signed by a clock set ahead would outlive it.
    #[test]
    fn a_shortened_life_shortens_what_is_taken() {
        let mut machine = Machine::new();
        machine.guard.set_freshness(&Freshness {
            timestamp_validity: TimeDelta::hours(2),
            timestamp_interval: TimeDelta::minutes(10),
            ..Freshness::default()
        });
        machine.set(20 * HOUR);
        machine.is_far_ahead();
        machine.pass(DAY);
        machine.is_far_ahead();
    }
}
