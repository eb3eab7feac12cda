//! Whether the two tasks of an engine go on, for the watchdog.
//!
//! A task that was ended by a fault of the world (a registry that is down, a clock that went back, an alarm) goes on all
//! the same, and a restart would cure nothing. A task *hangs* if it does not come back from a step, or if its steps end in
//! a way that only a restart can cure: they panic, or the store has stopped.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// One step is over within this time: a round, a call to the registry (which has a deadline of 30 s), a look at the store.
/// And no later after it was to wake is a task awake.
const PATIENCE: Duration = Duration::from_secs(60);

/// The life sign of one task.
#[derive(Debug)]
pub(super) struct Beat(Mutex<State>);

#[derive(Debug)]
struct State {
    /// When the task will have given its next sign.
    due: Instant,
    /// True while its steps end as only a restart can cure: then `due` stays as it is.
    broken: bool,
}

impl Default for Beat {
    fn default() -> Self {
        Self(Mutex::new(State { due: Instant::now() + PATIENCE, broken: false }))
    }
}

impl Beat {
    /// A step begins.
    pub(super) fn step(&self) {
        self.promise(Instant::now() + PATIENCE);
    }

    /// The task sleeps until `wake`, or until it is woken before.
    pub(super) fn sleep(&self, wake: Instant) {
        self.promise(wake + PATIENCE);
    }

    /// A step was done, whatever came of it: nothing is broken.
    pub(super) fn done(&self) {
        self.state().broken = false;
    }

    /// A step ended as only a restart can cure. Unless one is [`done`](Beat::done) in time, the task hangs.
    pub(super) fn broken(&self) {
        self.state().broken = true;
    }

    /// For how long the task has been late at `now`; none if it is not.
    pub(super) fn late(&self, now: Instant) -> Option<Duration> {
        let due = self.state().due;
        (now > due).then(|| now - due)
    }

    fn promise(&self, due: Instant) {
        let mut state = self.state();
        if !state.broken {
            state.due = due;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under this lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_sleeps_or_works_in_time_is_not_late() {
        let (beat, now) = (Beat::default(), Instant::now());
        assert_eq!(beat.late(now), None);
        let wake = now + Duration::from_secs(3600);
        beat.sleep(wake);
        assert_eq!(beat.late(wake + PATIENCE), None);
        assert_eq!(beat.late(wake + PATIENCE + Duration::from_secs(1)), Some(Duration::from_secs(1)));
        beat.step();
        assert_eq!(beat.late(now + PATIENCE), None);
        assert!(beat.late(now + PATIENCE + Duration::from_secs(60)).is_some());
    }

    #[test]
    fn a_task_whose_steps_stay_broken_becomes_late_however_often_it_tries() {
        let (beat, now) = (Beat::default(), Instant::now());
        beat.step();
        beat.broken();
        beat.sleep(now + Duration::from_secs(3600));
        beat.step();
        assert!(beat.late(now + PATIENCE + Duration::from_secs(60)).is_some());
        beat.done();
        beat.sleep(now + Duration::from_secs(3600));
        assert_eq!(beat.late(now + PATIENCE + Duration::from_secs(60)), None);
    }
}
