//! The table that a bench prints, and how two things that take turns are compared.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// One line of the table.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) ours: Amount,
    /// What `ours` is divided by, or what is divided by `ours` if the target is a minimum.
    pub(crate) other: Amount,
    pub(crate) target: Target,
}

/// What is compared.
#[derive(Clone, Copy)]
pub(crate) enum Amount {
    Time(Duration),
    #[allow(dead_code, reason = "not every bench measures memory")]
    Bytes(u64),
}

impl From<Duration> for Amount {
    fn from(time: Duration) -> Self {
        Self::Time(time)
    }
}

impl From<u64> for Amount {
    fn from(bytes: u64) -> Self {
        Self::Bytes(bytes)
    }
}

impl Amount {
    #[allow(clippy::cast_precision_loss, reason = "a ratio to look at")]
    fn number(self) -> f64 {
        match self {
            Self::Time(time) => time.as_secs_f64(),
            Self::Bytes(bytes) => bytes as f64,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Time(time) => format!("{time:.1?}"),
            Self::Bytes(_) => format!("{:.1}MB", self.number() / 1e6),
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Target {
    AtMost(f64),
    /// `other / ours`.
    #[allow(dead_code, reason = "not every bench has a floor")]
    AtLeast(f64),
}

impl Row {
    fn ratio(&self) -> f64 {
        let ratio = self.ours.number() / self.other.number();
        match self.target {
            Target::AtMost(_) => ratio,
            Target::AtLeast(_) => 1.0 / ratio,
        }
    }

    fn is_met(&self) -> bool {
        match self.target {
            Target::AtMost(limit) => self.ratio() <= limit,
            Target::AtLeast(limit) => self.ratio() >= limit,
        }
    }
}

/// What makes some rows, if the filter wants them.
pub(crate) type Part = fn(&dyn Fn(&str) -> bool) -> Vec<Row>;

/// Prints the rows of `parts`; the words on the command line filter them. With `--check`, exits with 1 if one misses its
/// target.
pub(crate) fn run(parts: &[Part]) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let mut missed = 0;
    println!("{:<66} {:>10} {:>10} {:>7}  target", "", "ours", "other", "ratio");
    for part in parts {
        let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str()));
        for row in part(&wants) {
            let (sign, limit) = match row.target {
                Target::AtMost(limit) => ("<=", limit),
                Target::AtLeast(limit) => (">=", limit),
            };
            let (ours, other) = (row.ours.text(), row.other.text());
            let verdict = if row.is_met() { "" } else { "  MISSED" };
            println!("{:<66} {ours:>10} {other:>10} {:>7.3}  {sign} {limit}{verdict}", row.name, row.ratio());
            missed += usize::from(!row.is_met());
        }
    }
    if missed > 0 && arguments.iter().any(|argument| argument == "--check") {
        std::process::exit(1);
    }
}

/// CPU time this thread has used.
#[allow(dead_code, reason = "not every bench measures its own CPU")]
pub(crate) fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
