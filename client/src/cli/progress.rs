//! How far long work has come, on a terminal only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Out;

/// Work of fewer steps is over before anybody would read about it.
const WORTH_SHOWING: u64 = 3;

/// A bar on standard error that goes away when it is dropped. Nothing is drawn if standard error is no terminal, if the
/// user wants quiet, or if there is little to do.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// The bar for `steps` steps of `work`, for example `reading tags`.
    pub(super) fn new(out: &Out, work: &'static str, steps: usize) -> Self {
        let steps = u64::try_from(steps).unwrap_or(u64::MAX);
        let quiet = out.quiet() || steps < WORTH_SHOWING;
        // indicatif itself hides a bar on a standard error that is no terminal.
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(ProgressBar::with_draw_target(Some(steps), target).with_style(style).with_message(work))
    }

    /// One step is done.
    pub(super) fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
