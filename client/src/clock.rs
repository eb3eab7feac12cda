//! The only place that reads the wall clock.

use std::{sync::Mutex, time::Duration};

use chrono::{DateTime, SubsecRound, Utc};
use rustix::time::{ClockId, clock_gettime};

/// Where the time comes from: the system, or a test.
pub trait Clock: Send + Sync {
    /// The time now, UTC, cut to whole seconds (TUF 1.0.34, section 4.2, EXPIRES has that precision).
    fn now(&self) -> DateTime<Utc>;

    /// Time since some moment that stays the same while the machine runs. Nobody sets it, so it tells whether somebody
    /// set [`now`](Self::now).
    fn monotonic(&self) -> Duration;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one reading of the wall clock")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now().trunc_subsecs(0)
    }

    /// Since the machine started, on Linux the time asleep included.
    fn monotonic(&self) -> Duration {
        #[cfg(target_os = "linux")]
        let id = ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let id = ClockId::Monotonic;
        // Neither runs before zero.
        clock_gettime(id).try_into().unwrap_or_default()
    }
}

/// A clock that stands still until it is set.
#[derive(Debug)]
pub struct ManualClock(Mutex<(DateTime<Utc>, Duration)>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: DateTime<Utc>) -> Self {
        Self(Mutex::new((now, Duration::ZERO)))
    }

    /// Sets the clock to `now`, forwards or back. No time passes: the monotonic reading stays.
    ///
    /// # Panics
    /// Never: no holder of its lock panics.
    pub fn set(&self, now: DateTime<Utc>) {
        self.0.lock().expect("no holder of this lock panics").0 = now;
    }

    /// Lets `by` pass on both clocks.
    ///
    /// # Panics
    /// Never: no holder of its lock panics.
    pub fn advance(&self, by: chrono::TimeDelta) {
        let mut both = self.0.lock().expect("no holder of this lock panics");
        both.0 += by;
        both.1 += by.to_std().unwrap_or_default();
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        self.0.lock().expect("no holder of this lock panics").0
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().expect("no holder of this lock panics").1
    }
}
