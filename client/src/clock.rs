//! The only place that reads the wall clock.

use std::sync::Mutex;

use chrono::{DateTime, SubsecRound, Utc};

/// Where the time comes from: the system, or a test.
pub trait Clock: Send + Sync {
    /// The time now, UTC, cut to whole seconds (TUF 1.0.34, section 4.2, EXPIRES has that precision).
    fn now(&self) -> DateTime<Utc>;
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one reading of the wall clock")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now().trunc_subsecs(0)
    }
}

/// A clock that stands still until it is set.
#[derive(Debug)]
pub struct ManualClock(Mutex<DateTime<Utc>>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: DateTime<Utc>) -> Self {
        Self(Mutex::new(now))
    }

    /// Sets the clock to `now`, forwards or back.
    ///
    /// # Panics
    /// Never: no holder of its lock panics.
    pub fn set(&self, now: DateTime<Utc>) {
        *self.0.lock().expect("no holder of this lock panics") = now;
    }

    /// Moves the clock forward by `by`.
    ///
    /// # Panics
    /// Never: no holder of its lock panics.
    pub fn advance(&self, by: chrono::TimeDelta) {
        *self.0.lock().expect("no holder of this lock panics") += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().expect("no holder of this lock panics")
    }
}
