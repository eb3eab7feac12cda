//! Questions to the person at the terminal.

use std::io::{self, BufRead, IsTerminal, Write};

use super::Failure;
use crate::verify::printable;

/// A line of an answer is not longer, bytes.
const MAX_ANSWER: u64 = 1024;

/// Asks `question`, to be answered with `yes`, unless `yes` was given as a flag. Only a terminal is asked: a script that
/// does not say `--yes` changes nothing.
pub(super) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::usage(format!("nobody is there to answer: {question}"))
            .next("look at what is shown, then add --yes"));
    }
    let unanswered = |error: io::Error| Failure::internal(format!("cannot ask: {error}"));
    let mut terminal = io::stderr().lock();
    write!(terminal, "{} [yes/no] ", printable(question))
        .and_then(|()| terminal.flush())
        .map_err(unanswered)?;
    let mut answer = String::new();
    io::Read::take(io::stdin().lock(), MAX_ANSWER).read_line(&mut answer).map_err(unanswered)?;
    match answer.trim() {
        "yes" | "y" | "Yes" | "YES" | "Y" => Ok(()),
        _ => Err(Failure::usage("not confirmed: nothing was changed".to_owned())),
    }
}
