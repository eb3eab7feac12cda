//! When the online roles are re-signed, and whether the clock may be believed. Pure: the daemon's loop asks, this decides.

mod guard;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll::publish::author::MAX_ONLINE_LIFE;

pub use guard::{BOUND, ClockFault, Guard, Reading};

/// How long online documents live and how often they are re-signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Life of a timestamp: how old a view a client can be shown.
    pub timestamp_validity: TimeDelta,
    /// How often the timestamp is re-signed when nothing else happens.
    pub timestamp_interval: TimeDelta,
    /// By how much at most it is re-signed earlier. Default: a tenth of its interval.
    pub timestamp_jitter: Option<TimeDelta>,
    /// Life of a snapshot.
    pub snapshot_validity: TimeDelta,
    /// How often the snapshot is re-signed when nothing else happens. Default: half of its life.
    pub snapshot_interval: Option<TimeDelta>,
    /// By how much at most it is re-signed earlier. Default: a tenth of its interval.
    pub snapshot_jitter: Option<TimeDelta>,
}

impl Default for Freshness {
    /// A day, an hour, a week.
    fn default() -> Self {
        Self {
            timestamp_validity: TimeDelta::hours(24),
            timestamp_interval: TimeDelta::hours(1),
            timestamp_jitter: None,
            snapshot_validity: TimeDelta::days(7),
            snapshot_interval: None,
            snapshot_jitter: None,
        }
    }
}

/// How long the documents of one role live and how often they are re-signed: what [`Freshness`] comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cycle {
    /// The life of a document.
    pub validity: TimeDelta,
    /// From one signing to the next.
    pub interval: TimeDelta,
    /// By how much the next may be earlier.
    pub jitter: TimeDelta,
}

/// Lives that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FreshnessError {
    /// A life outside its bounds.
    #[error("{role}-validity must be from 3 s to 7 days")]
    Validity {
        /// Of which role.
        role: &'static str,
    },
    /// The interval leaves no time to try again before expiry.
    #[error("{role}-interval must be at least 1 s and at most half of {role}-validity")]
    Interval {
        /// Of which role.
        role: &'static str,
    },
    /// The interval would hardly be one.
    #[error("{role}-jitter must be at most half of {role}-interval")]
    Jitter {
        /// Of which role.
        role: &'static str,
    },
}

impl Freshness {
    /// That of timestamps.
    pub fn timestamp(&self) -> Cycle {
        Cycle::new(self.timestamp_validity, self.timestamp_interval, self.timestamp_jitter)
    }

    /// That of snapshots.
    pub fn snapshot(&self) -> Cycle {
        let interval = self.snapshot_interval.unwrap_or(self.snapshot_validity / 2);
        Cycle::new(self.snapshot_validity, interval, self.snapshot_jitter)
    }

    /// Refuses lives that could not be kept fresh.
    ///
    /// # Errors
    /// [`FreshnessError`].
    pub fn check(&self) -> Result<(), FreshnessError> {
        self.timestamp().check("timestamp")?;
        self.snapshot().check("snapshot")
    }
}

impl Cycle {
    fn new(validity: TimeDelta, interval: TimeDelta, jitter: Option<TimeDelta>) -> Self {
        Self { validity, interval, jitter: jitter.unwrap_or(interval / 10) }
    }

    fn check(&self, role: &'static str) -> Result<(), FreshnessError> {
        // Times are cut to whole seconds, which takes up to one from a life.
        if !(TimeDelta::seconds(3)..=MAX_ONLINE_LIFE).contains(&self.validity) {
            return Err(FreshnessError::Validity { role });
        }
        if !(TimeDelta::seconds(1)..=self.validity / 2).contains(&self.interval) {
            return Err(FreshnessError::Interval { role });
        }
        if !(TimeDelta::zero()..=self.interval / 2).contains(&self.jitter) {
            return Err(FreshnessError::Jitter { role });
        }
        Ok(())
    }

    /// From when on a document is due that was signed at `signed` and expires at `expires`, with `jitter` from 0 to 1: at
    /// most half way through the life that is configured now, whatever the document was given.
    fn due_from(&self, signed: DateTime<Utc>, expires: DateTime<Utc>, jitter: f64) -> DateTime<Utc> {
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds of a week fit by far")]
        let earlier = (self.jitter.num_milliseconds() as f64 * jitter.clamp(0.0, 1.0)) as i64;
        let by_interval = signed + self.interval - TimeDelta::milliseconds(earlier);
        by_interval.min(expires - self.validity / 2)
    }
}

/// What the newest online documents say of their life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// When the timestamp was signed.
    pub timestamp_at: DateTime<Utc>,
    /// When it expires.
    pub timestamp_expires: DateTime<Utc>,
    /// When the snapshot was signed.
    pub snapshot_at: DateTime<Utc>,
    /// When the snapshot expires.
    pub snapshot_expires: DateTime<Utc>,
}

/// How much earlier than its interval each role is re-signed, from 0 (not at all) to 1 (by the whole jitter), so that many
/// daemons do not sign in step.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Jitter {
    /// The timestamp.
    pub timestamp: f64,
    /// The snapshot.
    pub snapshot: f64,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The snapshot, and with it the timestamp.
    pub snapshot: bool,
    /// The timestamp.
    pub timestamp: bool,
}

/// The clock is behind what was signed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the clock shows {now}, but a timestamp was signed at {signed}: the clock went back; set it right (nothing is signed \
     until then)"
)]
pub struct ClockBehind {
    /// What the clock shows.
    pub now: DateTime<Utc>,
    /// When the last timestamp was signed.
    pub signed: DateTime<Utc>,
}

/// Decides which online documents must be re-signed at `now`.
///
/// A document is due after its interval, or when half of its configured life is over. A due snapshot makes the timestamp
/// due. [`next_check`] takes the same `jitter`, which must stay the same until something is signed.
///
/// # Errors
/// [`ClockBehind`] if `now` is before the last signing.
pub fn due(
    freshness: &Freshness,
    signed: &Signed,
    jitter: Jitter,
    now: DateTime<Utc>,
) -> Result<Due, ClockBehind> {
    if now < signed.timestamp_at {
        return Err(ClockBehind { now, signed: signed.timestamp_at });
    }
    let [snapshot_from, timestamp_from] = due_from(freshness, signed, jitter);
    Ok(Due { snapshot: now >= snapshot_from, timestamp: now >= timestamp_from })
}

/// When [`due`] will next say that something is due; at least 100 ms and at most [`LONGEST_CHECK`] away, for a machine that
/// slept wakes up with another time of day.
pub fn next_check(
    freshness: &Freshness,
    signed: &Signed,
    jitter: Jitter,
    now: DateTime<Utc>,
) -> std::time::Duration {
    let [_, timestamp_from] = due_from(freshness, signed, jitter);
    let wait = (timestamp_from - now).max(TimeDelta::milliseconds(100));
    wait.to_std().unwrap_or_default().min(LONGEST_CHECK)
}

/// The longest time between two looks at the clocks.
pub const LONGEST_CHECK: std::time::Duration = std::time::Duration::from_secs(60);

/// From when on the snapshot and the timestamp are due.
fn due_from(freshness: &Freshness, signed: &Signed, jitter: Jitter) -> [DateTime<Utc>; 2] {
    let of = freshness.snapshot();
    let snapshot = of.due_from(signed.snapshot_at, signed.snapshot_expires, jitter.snapshot);
    let of = freshness.timestamp();
    let timestamp = of.due_from(signed.timestamp_at, signed.timestamp_expires, jitter.timestamp);
    [snapshot, snapshot.min(timestamp)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn signed(freshness: &Freshness, timestamp: i64, snapshot: i64) -> Signed {
        Signed {
            timestamp_at: at(timestamp),
            timestamp_expires: at(timestamp) + freshness.timestamp_validity,
            snapshot_at: at(snapshot),
            snapshot_expires: at(snapshot) + freshness.snapshot_validity,
        }
    }

    #[test]
    fn timestamps_are_due_by_the_interval_and_snapshots_at_half_their_life() {
        let freshness = Freshness::default();
        let signed = signed(&freshness, 0, 0);
        let due = |seconds| due(&freshness, &signed, Jitter::default(), at(seconds)).unwrap();
        assert_eq!(due(3599), Due { snapshot: false, timestamp: false });
        assert_eq!(due(3600), Due { snapshot: false, timestamp: true });
        assert_eq!(due(84 * 3600), Due { snapshot: true, timestamp: true });
    }

    /// A life that was shortened in the configuration takes effect at once, not after the old life.
    #[test]
    fn a_shortened_life_takes_effect_at_once() {
        let long = Freshness::default();
        let signed = signed(&long, 0, 0);
        let short = Freshness {
            timestamp_validity: TimeDelta::seconds(60),
            timestamp_interval: TimeDelta::seconds(20),
            ..long
        };
        assert!(!due(&short, &signed, Jitter::default(), at(19)).unwrap().timestamp);
        assert!(due(&short, &signed, Jitter::default(), at(20)).unwrap().timestamp);
    }

    #[test]
    fn jitter_brings_the_signing_forward_by_a_tenth_at_most_and_the_check_with_it() {
        let freshness = Freshness::default();
        let signed = signed(&freshness, 0, 0);
        assert!(
            !due(&freshness, &signed, Jitter { timestamp: 1.0, snapshot: 1.0 }, at(3239)).unwrap().timestamp
        );
        assert!(
            due(&freshness, &signed, Jitter { timestamp: 1.0, snapshot: 1.0 }, at(3240)).unwrap().timestamp
        );
        let wait =
            |seconds| next_check(&freshness, &signed, Jitter { timestamp: 1.0, snapshot: 1.0 }, at(seconds));
        assert_eq!(wait(3230), std::time::Duration::from_secs(10));
        assert_eq!(wait(0), std::time::Duration::from_secs(60));
        assert_eq!(wait(5000), std::time::Duration::from_millis(100));
    }

    #[test]
    fn a_clock_that_went_back_is_refused() {
        let freshness = Freshness::default();
        let signed = signed(&freshness, 100, 0);
        assert!(due(&freshness, &signed, Jitter::default(), at(99)).is_err());
        assert!(due(&freshness, &signed, Jitter::default(), at(100)).is_ok());
    }

    /// A simulated year: the newest timestamp is never older than the interval.
    #[test]
    fn a_year_stays_fresh() {
        for freshness in [
            Freshness::default(),
            Freshness {
                timestamp_validity: TimeDelta::seconds(3600),
                timestamp_interval: TimeDelta::seconds(1800),
                snapshot_validity: TimeDelta::days(1),
                timestamp_jitter: Some(TimeDelta::seconds(900)),
                snapshot_interval: Some(TimeDelta::hours(5)),
                snapshot_jitter: Some(TimeDelta::zero()),
            },
        ] {
            freshness.check().unwrap();
            let (mut now, mut current, mut oldest) = (at(0), signed(&freshness, 0, 0), TimeDelta::zero());
            let mut jitter = Jitter::default();
            let mut oldest_snapshot = TimeDelta::zero();
            while now < at(365 * 86_400) {
                oldest = oldest.max(now - current.timestamp_at);
                assert!(now < current.timestamp_expires && now < current.snapshot_expires);
                let due = due(&freshness, &current, jitter, now).unwrap();
                if due.snapshot {
                    oldest_snapshot = oldest_snapshot.max(now - current.snapshot_at);
                    current.snapshot_at = now;
                    jitter.snapshot = (jitter.snapshot + 0.37) % 1.0;
                    current.snapshot_expires = now + freshness.snapshot_validity;
                }
                if due.timestamp {
                    current.timestamp_at = now;
                    jitter.timestamp = (jitter.timestamp + 0.37) % 1.0;
                    current.timestamp_expires = now + freshness.timestamp_validity;
                }
                let wait = TimeDelta::from_std(next_check(&freshness, &current, jitter, now)).unwrap();
                now += wait;
            }
            assert!(oldest <= freshness.timestamp().interval, "{oldest}");
            assert!(oldest_snapshot <= freshness.snapshot().interval, "{oldest_snapshot}");
        }
    }

    /// T17: the roles that the daemon signs live for seven days at most.
    #[test]
    fn lives_that_cannot_be_kept_are_refused() {
        let good = Freshness::default();
        let (timestamp_validity, snapshot_validity) = (TimeDelta::days(7), TimeDelta::days(7));
        assert!(Freshness { timestamp_validity, snapshot_validity, ..good }.check().is_ok());
        for bad in [
            Freshness { timestamp_validity: timestamp_validity + TimeDelta::seconds(1), ..good },
            Freshness { snapshot_validity: snapshot_validity + TimeDelta::seconds(1), ..good },
            Freshness { timestamp_validity: TimeDelta::seconds(1), ..good },
            Freshness { timestamp_interval: TimeDelta::hours(13), ..good },
            Freshness { timestamp_interval: TimeDelta::zero(), ..good },
            Freshness { timestamp_jitter: Some(TimeDelta::minutes(31)), ..good },
            Freshness { snapshot_interval: Some(TimeDelta::hours(85)), ..good },
            Freshness { snapshot_jitter: Some(TimeDelta::seconds(-1)), ..good },
        ] {
            assert!(bad.check().is_err());
        }
    }
}
