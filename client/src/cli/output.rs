//! Writing results and failures.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::Failure;
use crate::verify::printable;

/// The format of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

/// Standard output and standard error, and how to write to them.
pub(super) struct Out {
    format: Format,
    quiet: bool,
}

/// The failure of a command whose result could not be written.
pub(super) fn unwritten(error: &io::Error) -> Failure {
    Failure::internal(format!("cannot write to standard output: {error}"))
}

/// What a word stands for, so how it is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
    Unsure,
}

impl Out {
    pub(super) fn new(format: Format, quiet: bool) -> Self {
        Self { format, quiet }
    }

    pub(super) fn quiet(&self) -> bool {
        self.quiet
    }

    pub(super) fn json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints a result: `value` as JSON, or the `text` as it is and, unless told to be quiet, the `notes` indented below
    /// it, each made fit for a terminal.
    pub(super) fn result(&self, value: &impl Serialize, text: &str, notes: &[String]) -> Result<(), Failure> {
        if self.json() {
            return self.print(&json(value));
        }
        let mut all = text.to_owned();
        for note in notes.iter().filter(|_| !self.quiet) {
            all.push_str("\n  ");
            // Notes hold names and reasons that others wrote.
            all.push_str(&printable(note));
        }
        self.print(&all)
    }

    /// Prints the lines of `text` on standard output.
    pub(super) fn print(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(|error| unwritten(&error))
    }

    /// Prints a line of advice or progress on standard error, unless told to be quiet.
    pub(super) fn aside(&self, text: &str) {
        if !self.quiet {
            complain(&printable(text));
        }
    }

    /// Prints why the command failed and returns its exit code.
    pub(super) fn failure(&self, failure: &Failure) -> u8 {
        complain(&format!(
            "{} {}",
            painted("error:", Tone::Bad, &io::stderr()),
            printable(&one_line(&failure.text))
        ));
        if let Some(next) = &failure.next {
            complain(&format!("  try: {}", printable(next)));
        }
        failure.code
    }
}

/// Writes to standard error, as it is. If nobody reads it, the exit code still speaks.
pub(super) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// `value` as one line of JSON.
pub(super) fn json_line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("results hold strings, numbers and times")
}

/// `value` as JSON for people, too.
pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("results hold strings, numbers and times")
}

/// `word` in bold colour if `stream` is a terminal and `NO_COLOR` is not set.
pub(super) fn painted(word: &str, tone: Tone, stream: &impl IsTerminal) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if plain || !stream.is_terminal() {
        return word.to_owned();
    }
    let code = match tone {
        Tone::Good => 32,
        Tone::Bad => 31,
        Tone::Unsure => 33,
    };
    format!("\x1b[1;{code}m{word}\x1b[0m")
}

/// Parsers of TOML and JSON draw pictures over several lines; a failure is one line.
pub(super) fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
