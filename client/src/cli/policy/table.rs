//! The table of `policy test`.

use plimsoll_core::{
    oci::{Reference, ReferenceError},
    policy::Verdict,
};

/// One line: what is expected of a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expectation {
    /// The line, from 1.
    pub(super) number: usize,
    pub(super) reference: Reference,
    pub(super) expected: Verdict,
}

/// A text that is no table.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TableError {
    #[error("line {line}: a line is REFERENCE VERDICT")]
    Line { line: usize },
    #[error("line {line}: {source}")]
    Reference { line: usize, source: ReferenceError },
    #[error("line {line}: `{text}` is no verdict; there are: {known}")]
    Verdict { line: usize, text: String, known: String },
    #[error("there is no line to test")]
    Empty,
}

/// `REFERENCE VERDICT` on each line, apart by spaces; what follows a `#` is a comment.
pub(super) fn parse(text: &str) -> Result<Vec<Expectation>, TableError> {
    let mut expectations = Vec::new();
    for (at, content) in text.lines().enumerate() {
        let line = at + 1;
        let content = content.split('#').next().unwrap_or_default();
        let words: Vec<&str> = content.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            [reference, expected] => {
                let reference = reference.parse().map_err(|source| TableError::Reference { line, source })?;
                let expected = verdict(expected).ok_or_else(|| TableError::Verdict {
                    line,
                    text: expected.chars().take(80).collect(),
                    known: Verdict::BY_GRAVITY.map(Verdict::name).join(", "),
                })?;
                expectations.push(Expectation { number: line, reference, expected });
            }
            _ => return Err(TableError::Line { line }),
        }
    }
    // A table that was emptied by mistake must not pass.
    if expectations.is_empty() { Err(TableError::Empty) } else { Ok(expectations) }
}

fn verdict(name: &str) -> Option<Verdict> {
    Verdict::BY_GRAVITY.into_iter().find(|verdict| verdict.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_line_by_line() {
        let text =
            "# what we run\n\nr.io/a:v1   VERIFIED\nr.io/a:v2\tNO_SUCH_TAG # gone\r\n  nginx NO_POLICY\n";
        let read: Vec<(usize, String, &str)> = parse(text)
            .unwrap()
            .into_iter()
            .map(|line| (line.number, line.reference.to_string(), line.expected.name()))
            .collect();
        let expected = [
            (3, "r.io/a:v1".to_owned(), "VERIFIED"),
            (4, "r.io/a:v2".to_owned(), "NO_SUCH_TAG"),
            (5, "docker.io/library/nginx".to_owned(), "NO_POLICY"),
        ];
        assert_eq!(read, expected);
        for verdict in Verdict::BY_GRAVITY {
            assert_eq!(parse(&format!("a {verdict}")).unwrap()[0].expected, verdict);
        }
    }

    #[test]
    fn what_is_no_table_is_refused_with_its_line() {
        assert_eq!(parse("\nr.io/a"), Err(TableError::Line { line: 2 }));
        assert_eq!(parse("r.io/a VERIFIED yes"), Err(TableError::Line { line: 1 }));
        assert!(matches!(parse("r.io/A VERIFIED"), Err(TableError::Reference { line: 1, .. })));
        assert!(matches!(parse("r.io/a verified"), Err(TableError::Verdict { line: 1, .. })));
        for empty in ["", "\n", "# r.io/a VERIFIED\n"] {
            assert_eq!(parse(empty), Err(TableError::Empty));
        }
    }
}
