//! Where in a text a value stands. Only asked when something is wrong with it, so that reading a policy costs nothing more.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Position, error::Step};

/// The two formats of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `policy.toml`.
    Toml,
    /// `policy.json`.
    Json,
}

/// Where the value at `path` starts, or as much of the way as there is.
pub(super) fn locate(text: &str, format: Format, path: &[Step]) -> Position {
    let offset = match format {
        Format::Toml => toml_offset(text, path),
        Format::Json => Json { text: text.as_bytes(), at: 0 }.find(path),
    };
    position(text, offset.unwrap_or_default())
}

/// The position of the byte `offset`.
pub(super) fn position(text: &str, offset: usize) -> Position {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line = before.rfind('\n').map_or(before, |end| &before[end + 1..]);
    Position { line: before.matches('\n').count() + 1, column: line.chars().count() + 1 }
}

/// Where the reader of JSON stopped; it counts bytes from 1, and 0 at the beginning of a line.
pub(super) fn json_error(text: &str, error: &serde_json::Error) -> Position {
    let start: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    position(text, start + error.column().saturating_sub(1))
}

fn toml_offset(text: &str, path: &[Step]) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let mut offset = 0;
    let mut inside: Option<&Spanned<DeValue<'_>>> = None;
    for step in path {
        let next = match (step, inside.map(Spanned::get_ref)) {
            (Step::Key(key), None) => table.get_ref().get(key.as_str()),
            (Step::Key(key), Some(DeValue::Table(table))) => table.get(key.as_str()),
            (Step::Index(index), Some(DeValue::Array(array))) => array.get(*index),
            _ => None,
        };
        let Some(next) = next else { break };
        offset = next.span().start;
        inside = Some(next);
    }
    Some(offset)
}

/// A walk over a text that is valid JSON.
struct Json<'a> {
    text: &'a [u8],
    at: usize,
}

impl Json<'_> {
    fn find(&mut self, path: &[Step]) -> Option<usize> {
        self.space();
        let mut found = self.at;
        for step in path {
            let there = match step {
                Step::Key(key) => self.member(key),
                Step::Index(index) => self.element(*index),
            };
            if there.is_none() {
                break;
            }
            found = self.at;
        }
        Some(found)
    }

    /// Moves to the value of `key` in the object that starts here.
    fn member(&mut self, key: &str) -> Option<()> {
        self.expect(b'{')?;
        loop {
            self.space();
            let start = self.at;
            self.string()?;
            let name: String = serde_json::from_slice(&self.text[start..self.at]).ok()?;
            self.space();
            self.expect(b':')?;
            self.space();
            if name == key {
                return Some(());
            }
            self.value()?;
            self.space();
            self.expect(b',')?;
        }
    }

    /// Moves to the element `index` of the list that starts here.
    fn element(&mut self, index: usize) -> Option<()> {
        self.expect(b'[')?;
        self.space();
        for _ in 0..index {
            self.value()?;
            self.space();
            self.expect(b',')?;
            self.space();
        }
        (*self.text.get(self.at)? != b']').then_some(())
    }

    /// Moves behind the value that starts here.
    fn value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.text.get(self.at)? {
                b'"' => self.string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                _ => self.literal()?,
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn literal(&mut self) -> Option<()> {
        let start = self.at;
        while self.text.get(self.at).is_some_and(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b)) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn string(&mut self) -> Option<()> {
        self.expect(b'"')?;
        loop {
            match self.text.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
    }

    fn space(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (*self.text.get(self.at)? == byte).then(|| self.at += 1)
    }
}
