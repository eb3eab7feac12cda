//! Questions to the person at the terminal.

use std::io::{self, BufRead, IsTerminal, Write};

use super::Failure;
use crate::verify::printable;

/// A line of an answer is not longer, bytes.
const MAX_ANSWER: u64 = 1024;

/// True if there is somebody to ask: what they read and what they type is a terminal.
pub(super) fn somebody_is_there() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks `question`, to be answered with `yes`, unless `yes` was given as a flag. Only a terminal is asked: a script that
/// does not say `--yes` changes nothing.
pub(super) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    match answer(question)? {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::usage("not confirmed: nothing was changed".to_owned())),
        None => Err(Failure::usage(format!("nobody is there to answer: {question}"))
            .next("look at what is shown, then add --yes")),
    }
}

/// Whether `question` is answered with `yes`; none without a terminal.
pub(super) fn answer(question: &str) -> Result<Option<bool>, Failure> {
    if !somebody_is_there() {
        return Ok(None);
    }
    let unanswered = |error: io::Error| Failure::internal(format!("cannot ask: {error}"));
    let mut terminal = io::stderr().lock();
    write!(terminal, "{} [yes/no] ", printable(question))
        .and_then(|()| terminal.flush())
        .map_err(unanswered)?;
    let mut answer = String::new();
    io::Read::take(io::stdin().lock(), MAX_ANSWER).read_line(&mut answer).map_err(unanswered)?;
    Ok(Some(matches!(answer.trim(), "yes" | "y" | "Yes" | "YES" | "Y")))
}
