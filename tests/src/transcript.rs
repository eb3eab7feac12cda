//! Terminal examples in pages: finding them, and comparing what they show with what is printed.
//!
//! A `console` block is to be run if the line before it is `<!-- run -->`. In it, a line that starts with `$ ` or with a
//! name and `$ ` (`alice$ `) is a command, which goes on in the next line if it ends with a backslash or opened a here
//! document. The lines up to the next command are its output, where `…` stands for any text within a line and a line
//! `...` for any lines.

/// Something in a page that a test has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A command to be run.
    Step(Step),
    /// `> **NAME:** TEXT` on a line of its own, outside of blocks.
    Remark {
        /// Its line in the page, from 1.
        line: usize,
        /// What stands before the colon.
        name: String,
        /// What stands behind it.
        text: String,
    },
}

/// A command, and what it is said to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its line in the page, from 1.
    pub line: usize,
    /// Who runs it: what stands before the `$`, mostly nothing.
    pub who: String,
    /// The command, as it is written; several lines if it has them.
    pub command: String,
    /// What it is said to print, line by line.
    pub output: Vec<String>,
}

/// The commands of the blocks that are to be run and the remarks between them, in the order of the page.
///
/// # Panics
/// With the line, if a mark has no block, or a block starts with output.
pub fn parts(page: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let (mut marked, mut inside, mut here) = (false, None::<bool>, None::<String>);
    for (number, line) in page.lines().enumerate() {
        let line_number = number + 1;
        let Some(run) = inside else {
            assert!(!marked || line == "```console", "line {line_number}: a mark without a block");
            inside = line.starts_with("```").then_some(marked);
            marked = line == "<!-- run -->";
            parts.extend(remark(line_number, line));
            continue;
        };
        if line == "```" {
            inside = None;
        } else if !run {
        } else if let Some(end) = &here {
            let ended = line == end;
            go_on(&mut parts, line);
            here = here.filter(|_| !ended);
        } else if unfinished(&parts) {
            go_on(&mut parts, line);
        } else if let Some((who, command)) = prompt(line) {
            here = command.split_once("<<").map(|(_, end)| end.trim().to_owned());
            let (who, command) = (who.to_owned(), command.to_owned());
            parts.push(Part::Step(Step { line: line_number, who, command, output: Vec::new() }));
        } else if let Some(Part::Step(step)) = parts.last_mut() {
            step.output.push(line.to_owned());
        } else {
            panic!("line {line_number}: output before any command");
        }
    }
    parts
}

/// The commands alone.
///
/// # Panics
/// As [`parts`].
pub fn steps(page: &str) -> Vec<Step> {
    let step = |part| match part {
        Part::Step(step) => Some(step),
        Part::Remark { .. } => None,
    };
    parts(page).into_iter().filter_map(step).collect()
}

/// Whether `found` is what `expected` says; empty lines at the end do not count.
pub fn lines_match(expected: &[String], found: &[&str]) -> bool {
    let trimmed = found.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
    let mut rest = &found[..trimmed];
    let mut groups = expected.split(|line| line == "...");
    let first = groups.next().unwrap_or_default();
    let matches = |lines: &[String], found: &[&str]| {
        lines.len() <= found.len() && lines.iter().zip(found).all(|(line, found)| line_matches(line, found))
    };
    if !matches(first, rest) {
        return false;
    }
    rest = &rest[first.len()..];
    let groups: Vec<_> = groups.collect();
    for (at, group) in groups.iter().enumerate() {
        let last = at + 1 == groups.len();
        let places = 0..=rest.len().saturating_sub(group.len());
        let place = places.into_iter().find(|&place| {
            matches(group, &rest[place..]) && (!last || group.is_empty() || place + group.len() == rest.len())
        });
        let Some(place) = place else { return false };
        if last {
            return true;
        }
        rest = &rest[place + group.len()..];
    }
    rest.is_empty()
}

fn line_matches(expected: &str, found: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = found.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Who is asked for a command, and the command.
fn prompt(line: &str) -> Option<(&str, &str)> {
    let (who, command) = line.split_once("$ ")?;
    who.chars().all(|c| c.is_ascii_lowercase()).then_some((who, command))
}

fn remark(line: usize, text: &str) -> Option<Part> {
    let (name, text) = text.strip_prefix("> **")?.split_once(":** ")?;
    Some(Part::Remark { line, name: name.to_owned(), text: text.to_owned() })
}

fn unfinished(parts: &[Part]) -> bool {
    matches!(parts.last(), Some(Part::Step(step)) if step.output.is_empty() && step.command.ends_with('\\'))
}

fn go_on(parts: &mut [Part], line: &str) {
    if let Some(Part::Step(step)) = parts.last_mut() {
        step.command.push('\n');
        step.command.push_str(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_text_and_for_lines() {
        assert!(line_matches("signed … by …", "signed this by that"));
        assert!(line_matches("a…", "a") && line_matches("a", "a"));
        assert!(!line_matches("a", "ab") && !line_matches("…b", "ba") && !line_matches("x…", "a"));
        let check = |expected: &[&str], found: &[&str]| {
            lines_match(&expected.iter().map(ToString::to_string).collect::<Vec<_>>(), found)
        };
        assert!(check(&[], &[]) && check(&[], &[""]) && !check(&[], &["a"]));
        assert!(check(&["..."], &["a", "b"]) && check(&["a", "...", "c"], &["a", "b", "c"]));
        assert!(check(&["...", "b", "...", "d"], &["a", "b", "b", "c", "d", ""]));
        assert!(!check(&["a", "...", "c"], &["a", "b"]) && !check(&["a"], &["a", "b"]));
    }

    #[test]
    fn only_marked_blocks_are_steps_and_remarks_stand_between_them() {
        let page = "```console\n$ no\n<!-- no: thing -->\n```\n<!-- run -->\n```console\n$ a \\\n  b\nout\n\
                    $ cat <<END\n$ x\nEND\n```\n> **Seen by:** all of us: yes\n<!-- run -->\n```console\n\
                    bob$ c\nBob$ d\n```\n";
        let step = |line, who: &str, command: &str, output: &[&str]| {
            let output = output.iter().map(ToString::to_string).collect();
            Part::Step(Step { line, who: who.to_owned(), command: command.to_owned(), output })
        };
        let expected = [
            step(7, "", "a \\\n  b", &["out"]),
            step(10, "", "cat <<END\n$ x\nEND", &[]),
            Part::Remark { line: 14, name: "Seen by".to_owned(), text: "all of us: yes".to_owned() },
            step(17, "bob", "c", &["Bob$ d"]),
        ];
        assert_eq!(parts(page), expected);
        assert_eq!(steps(page).len(), 3);
    }
}
