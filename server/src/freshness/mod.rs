//! When the online roles are re-signed. Pure: the daemon's loop asks, this decides.

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll::publish::author::MAX_ONLINE_LIFE;

/// How long online documents live and how often they are re-signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Life of a timestamp: how old a view a client can be shown.
    pub timestamp_validity: TimeDelta,
    /// How often the timestamp is re-signed when nothing else happens.
    pub timestamp_interval: TimeDelta,
    /// Life of a snapshot; it is re-signed when half of it is over.
    pub snapshot_validity: TimeDelta,
}

impl Default for Freshness {
    /// A day, an hour, a week.
    fn default() -> Self {
        Self {
            timestamp_validity: TimeDelta::hours(24),
            timestamp_interval: TimeDelta::hours(1),
            snapshot_validity: TimeDelta::days(7),
        }
    }
}

/// Lives that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FreshnessError {
    /// A life outside its bounds.
    #[error("{what} must be from 3 s to 7 days")]
    Validity {
        /// Which.
        what: &'static str,
    },
    /// The interval leaves no time to try again before expiry.
    #[error("timestamp-interval must be at least 1 s and at most half of timestamp-validity")]
    Interval,
}

impl Freshness {
    /// Refuses lives that could not be kept fresh.
    ///
    /// # Errors
    /// [`FreshnessError`].
    pub fn check(&self) -> Result<(), FreshnessError> {
        // Times are cut to whole seconds, which takes up to one from a life.
        let range = TimeDelta::seconds(3)..=MAX_ONLINE_LIFE;
        if !range.contains(&self.timestamp_validity) {
            return Err(FreshnessError::Validity { what: "timestamp-validity" });
        }
        if !range.contains(&self.snapshot_validity) {
            return Err(FreshnessError::Validity { what: "snapshot-validity" });
        }
        if self.timestamp_interval < TimeDelta::seconds(1)
            || self.timestamp_interval * 2 > self.timestamp_validity
        {
            return Err(FreshnessError::Interval);
        }
        Ok(())
    }
}

/// What the newest online documents say of their life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// When the timestamp was signed.
    pub timestamp_at: DateTime<Utc>,
    /// When it expires.
    pub timestamp_expires: DateTime<Utc>,
    /// When the snapshot expires.
    pub snapshot_expires: DateTime<Utc>,
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
/// A snapshot is due when half of its configured life is over, a timestamp after its interval or when half of its
/// configured life is over. A due snapshot makes the timestamp due. `jitter`, from 0 to 1, shortens the interval by up to
/// a tenth, so that many daemons do not sign in step; [`next_check`] takes the same one.
///
/// # Errors
/// [`ClockBehind`] if `now` is before the last signing.
pub fn due(
    freshness: &Freshness,
    signed: &Signed,
    jitter: f64,
    now: DateTime<Utc>,
) -> Result<Due, ClockBehind> {
    if now < signed.timestamp_at {
        return Err(ClockBehind { now, signed: signed.timestamp_at });
    }
    let [snapshot_from, timestamp_from] = due_from(freshness, signed, jitter);
    Ok(Due { snapshot: now >= snapshot_from, timestamp: now >= timestamp_from })
}

/// When [`due`] will next say that something is due; at least 100 ms and at most a minute away, for a machine that slept
/// wakes up with another time of day.
pub fn next_check(
    freshness: &Freshness,
    signed: &Signed,
    jitter: f64,
    now: DateTime<Utc>,
) -> std::time::Duration {
    let [_, timestamp_from] = due_from(freshness, signed, jitter);
    let wait = (timestamp_from - now).clamp(TimeDelta::milliseconds(100), TimeDelta::seconds(60));
    wait.to_std().unwrap_or_default()
}

/// From when on the snapshot and the timestamp are due.
fn due_from(freshness: &Freshness, signed: &Signed, jitter: f64) -> [DateTime<Utc>; 2] {
    let interval = freshness.timestamp_interval;
    #[expect(clippy::cast_possible_truncation, reason = "a tenth of an interval of days fits by far")]
    let earlier = (interval.num_milliseconds() as f64 * 0.1 * jitter.clamp(0.0, 1.0)) as i64;
    let by_interval = signed.timestamp_at + interval - TimeDelta::milliseconds(earlier);
    let by_life = signed.timestamp_expires - freshness.timestamp_validity / 2;
    let snapshot = signed.snapshot_expires - freshness.snapshot_validity / 2;
    [snapshot, snapshot.min(by_interval).min(by_life)]
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
            snapshot_expires: at(snapshot) + freshness.snapshot_validity,
        }
    }

    #[test]
    fn timestamps_are_due_by_the_interval_and_snapshots_at_half_their_life() {
        let freshness = Freshness::default();
        let signed = signed(&freshness, 0, 0);
        let due = |seconds| due(&freshness, &signed, 0.0, at(seconds)).unwrap();
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
        assert!(!due(&short, &signed, 0.0, at(19)).unwrap().timestamp);
        assert!(due(&short, &signed, 0.0, at(20)).unwrap().timestamp);
    }

    #[test]
    fn jitter_brings_the_signing_forward_by_a_tenth_at_most_and_the_check_with_it() {
        let freshness = Freshness::default();
        let signed = signed(&freshness, 0, 0);
        assert!(!due(&freshness, &signed, 1.0, at(3239)).unwrap().timestamp);
        assert!(due(&freshness, &signed, 1.0, at(3240)).unwrap().timestamp);
        let wait = |seconds| next_check(&freshness, &signed, 1.0, at(seconds));
        assert_eq!(wait(3230), std::time::Duration::from_secs(10));
        assert_eq!(wait(0), std::time::Duration::from_secs(60));
        assert_eq!(wait(5000), std::time::Duration::from_millis(100));
    }

    #[test]
    fn a_clock_that_went_back_is_refused() {
        let freshness = Freshness::default();
        let signed = signed(&freshness, 100, 0);
        assert!(due(&freshness, &signed, 0.0, at(99)).is_err());
        assert!(due(&freshness, &signed, 0.0, at(100)).is_ok());
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
            },
        ] {
            freshness.check().unwrap();
            let (mut now, mut current, mut oldest) = (at(0), signed(&freshness, 0, 0), TimeDelta::zero());
            let mut jitter = 0.0;
            while now < at(365 * 86_400) {
                oldest = oldest.max(now - current.timestamp_at);
                assert!(now < current.timestamp_expires && now < current.snapshot_expires);
                let due = due(&freshness, &current, jitter, now).unwrap();
                if due.snapshot {
                    current.snapshot_expires = now + freshness.snapshot_validity;
                }
                if due.timestamp {
                    current.timestamp_at = now;
                    current.timestamp_expires = now + freshness.timestamp_validity;
                }
                if due.timestamp {
                    jitter = (jitter + 0.37) % 1.0;
                }
                let wait = TimeDelta::from_std(next_check(&freshness, &current, jitter, now)).unwrap();
                now += wait;
            }
            assert!(oldest <= freshness.timestamp_interval, "{oldest}");
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
        ] {
            assert!(bad.check().is_err());
        }
    }
}
