//! What the demo prints.

use std::io::{self, IsTerminal, Write};

use plimsoll_core::policy::Verdict;

/// Writes to stdout, in colour if that is a terminal and `NO_COLOR` is not set.
pub(super) struct Show {
    out: io::Stdout,
    colour: bool,
}

impl Show {
    pub(super) fn new() -> Self {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { out: io::stdout(), colour }
    }

    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", short(text))?;
        self.out.flush()
    }

    pub(super) fn heading(&mut self, text: &str) -> io::Result<()> {
        let text = self.paint("1", text);
        self.line(&format!("\n{text}"))
    }

    /// One step: what is done, and below it what came of it.
    pub(super) fn step(&mut self, number: usize, what: &str) -> io::Result<()> {
        let number = self.paint("36", &format!("{number:>3}"));
        self.line(&format!("{number}  {what}"))
    }

    pub(super) fn detail(&mut self, text: &str) -> io::Result<()> {
        let text = self.paint("2", text);
        self.line(&format!("     {text}"))
    }

    /// A verdict of the client, and whether it is the right one.
    pub(super) fn verdict(&mut self, got: Verdict, wanted: Verdict, why: &str) -> io::Result<bool> {
        let right = got == wanted;
        let name = match (right, got) {
            (false, _) => self.paint("1;31", &format!("{got}, but {wanted} was to be expected")),
            (true, Verdict::Verified) => self.paint("1;32", got.name()),
            (true, _) => self.paint("1;33", got.name()),
        };
        let mark = if right { self.paint("32", "✓") } else { self.paint("31", "✗") };
        self.line(&format!("   {mark} {name}  {why}"))?;
        Ok(right)
    }

    /// Something that is not a verdict of the client went as it should, or not.
    pub(super) fn outcome(&mut self, right: bool, text: &str) -> io::Result<bool> {
        let mark = if right { self.paint("32", "✓") } else { self.paint("31", "✗") };
        self.line(&format!("   {mark} {text}"))?;
        Ok(right)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Digests cut to twelve digits, so that lines stay lines: the demo is to be read, not copied from.
fn short(text: &str) -> String {
    let mut out = String::new();
    let mut digits = 0;
    for c in text.chars() {
        digits = if c.is_ascii_digit() || ('a'..='f').contains(&c) { digits + 1 } else { 0 };
        match digits {
            0..=12 => out.push(c),
            13 => out.push('…'),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn long_digests_are_cut_and_words_are_not() {
        assert_eq!(
            super::short("is sha256:0123456789abcdef0123, a decade"),
            "is sha256:0123456789ab…, a decade"
        );
    }
}
