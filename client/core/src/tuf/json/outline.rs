//! What is to be known of a document before anything reads it: one pass, no tree.

use std::{borrow::Cow, ops::Range};

use super::{JsonError, MAX_DEPTH, Parser, parse, reserved};

/// A strict document, and where the parts of a TUF document (TUF 1.0.34, 4.2) stand in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// The bytes of the outermost member `signed`, if there is one.
    pub signed: Option<Range<usize>>,
    /// The bytes of the outermost member `signatures`, if there is one.
    pub signatures: Option<Range<usize>>,
    /// True if the bytes of `signed` are its canonical form. False tells nothing.
    pub canonical: bool,
    /// True if there are outermost members beside the two.
    pub more: bool,
}

impl Outline {
    /// Checks that `bytes` are one strict JSON document. Time is linear (sorting members that are not in order aside).
    /// Allocates nothing inside of `signed` if all members there are in code point order and their names hold no
    /// escape, else as [`parse`] does; the stack is constant.
    ///
    /// # Errors
    /// [`JsonError`]: the rule broken by the first byte that breaks one, duplicates aside.
    pub fn of(bytes: &[u8]) -> Result<Self, JsonError> {
        let scan = Scan::of(bytes)?;
        if !scan.decided {
            parse(bytes)?;
        }
        Ok(scan.outline)
    }
}

/// One pass that keeps nothing of a document but, for each object that is open, the name of its last member.
struct Scan<'a> {
    parser: Parser<'a>,
    /// For each open array `None`, for each open object the name of the member that is being read.
    open: [Option<&'a str>; MAX_DEPTH],
    depth: usize,
    /// The names in the outermost object, which every tool orders as it likes: kept and compared.
    outermost: Vec<Cow<'a, str>>,
    /// Where the last value of the outermost object or array starts.
    starts: usize,
    outline: Outline,
    /// False if a member inside stood out of order or had an escape in its name, so that there may be duplicates.
    decided: bool,
}

impl<'a> Scan<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, JsonError> {
        let mut scan = Self {
            parser: Parser::new(bytes)?,
            open: [None; MAX_DEPTH],
            depth: 0,
            outermost: Vec::new(),
            starts: 0,
            outline: Outline { signed: None, signatures: None, canonical: false, more: false },
            decided: true,
        };
        loop {
            let opened = scan.value()?;
            if !opened && scan.ended()? {
                return Ok(scan);
            }
            if scan.open[scan.depth - 1].is_some() {
                scan.name(opened)?;
            }
        }
    }

    /// Reads a scalar or an empty array or object, or opens one that is not empty: then true.
    fn value(&mut self) -> Result<bool, JsonError> {
        self.parser.space();
        if self.depth == 1 {
            self.starts = self.parser.at;
            self.parser.plain = true;
        }
        let (object, end) = match self.parser.peek() {
            Some(b'{') => (true, b'}'),
            Some(b'[') => (false, b']'),
            Some(b'"') => return self.parser.raw_string().map(|_| false),
            _ => return self.parser.scalar().map(|_| false),
        };
        self.parser.deeper(self.depth)?;
        self.parser.space();
        if self.parser.eat(end) {
            return Ok(false);
        }
        self.open[self.depth] = object.then_some("");
        self.depth += 1;
        Ok(true)
    }

    /// Goes on after a value, out of all that ends with it. True if that is the document.
    fn ended(&mut self) -> Result<bool, JsonError> {
        loop {
            if self.depth == 1 {
                self.outermost_value();
            }
            self.parser.space();
            if self.depth == 0 {
                break;
            }
            if self.parser.eat(b',') {
                return Ok(false);
            }
            self.parser.expect(if self.open[self.depth - 1].is_some() { b'}' } else { b']' })?;
            self.depth -= 1;
        }
        let at = self.parser.at;
        if at != self.parser.bytes.len() {
            return Err(JsonError::Trailing { at });
        }
        self.outermost.sort_unstable();
        if self.outermost.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(JsonError::Duplicate { at });
        }
        Ok(true)
    }

    fn outermost_value(&mut self) {
        let within = self.starts..self.parser.at;
        match self.outermost.last().map(AsRef::as_ref) {
            Some("signed") => {
                self.outline.signed = Some(within);
                self.outline.canonical = self.parser.plain;
            }
            Some("signatures") => self.outline.signatures = Some(within),
            Some(_) => self.outline.more = true,
            None => {}
        }
    }

    /// Reads a member's name and its colon.
    fn name(&mut self, first: bool) -> Result<(), JsonError> {
        self.parser.space();
        if self.depth == 1 {
            let name = self.parser.name()?;
            self.outermost.push(name);
            return Ok(());
        }
        let at = self.parser.at;
        let (name, escaped) = self.parser.raw_string()?;
        reserved(name, at)?;
        self.parser.space();
        self.parser.expect(b':')?;
        let last = self.open[self.depth - 1].replace(name).unwrap_or_default();
        if escaped || (!first && name < last) {
            self.decided = false;
            self.parser.plain = false;
        } else if !first && name == last {
            return Err(JsonError::Duplicate { at });
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::{
        super::{Value, tests::any_json},
        *,
    };

    /// What [`Outline`] says of `text`, held to what [`parse`] makes of it.
    pub(in crate::tuf::json) fn outline(text: &str) -> Option<(Option<&str>, bool)> {
        let outline = Outline::of(text.as_bytes());
        let value = parse(text.as_bytes());
        assert_eq!(outline.is_ok(), value.is_ok(), "{text}: {outline:?}, {value:?}");
        let (outline, value) = (outline.ok()?, value.ok()?);
        for (range, name) in [(&outline.signed, "signed"), (&outline.signatures, "signatures")] {
            let within = range.as_ref().map(|range| parse(&text.as_bytes()[range.clone()]).unwrap());
            assert_eq!(within.as_ref(), value.member(name), "{text}");
        }
        let signed = outline.signed.map(|range| &text[range]);
        if outline.canonical {
            assert_eq!(signed.unwrap().as_bytes(), value.member("signed").unwrap().canonical().unwrap());
        }
        Some((signed, outline.canonical))
    }

    #[test]
    fn an_outline_tells_where_signed_stands_and_whether_it_is_canonical() {
        for (text, expected) in [
            (r#"{"signatures":[],"signed":{"a":[1,{}],"b":"\"\\é"}}"#, (r#"{"a":[1,{}],"b":"\"\\é"}"#, true)),
            // What stands beside it, and around it, may be as it likes.
            (r#" { "signed" : {"a":1} , "signatures" : [ 1.5, {"z":0,"a":0} ] } "#, (r#"{"a":1}"#, true)),
            (r#"{"x":{"signed":1},"\u0073igned":-7}"#, ("-7", true)),
            (r#"{"signed":{"b":1,"a":1}}"#, (r#"{"b":1,"a":1}"#, false)),
            (r#"{"signed":{"a": 1}}"#, (r#"{"a": 1}"#, false)),
            (r#"{"signed":{ }}"#, ("{ }", false)),
            (r#"{"signed":"\/"}"#, (r#""\/""#, false)),
            (r#"{"signed":"\u00e9"}"#, (r#""\u00e9""#, false)),
            (r#"{"signed":"\n"}"#, (r#""\n""#, false)),
            (r#"{"signed":{"\"":1}}"#, (r#"{"\"":1}"#, false)),
            (r#"{"signed":[1e2]}"#, ("[1e2]", false)),
        ] {
            assert_eq!(outline(text), Some((Some(expected.0), expected.1)), "{text}");
        }
        assert_eq!(outline(r#"[{"signed":1}]"#), Some((None, false)));
        // Duplicates out of order, in an escape, beside `signed`, and in it.
        for text in [
            r#"{"signed":{"b":1,"a":2,"b":3}}"#,
            r#"{"signed":{"a":1,"\u0061":2}}"#,
            r#"{"signed":1,"a":2,"signed":3}"#,
            r#"{"signed":1,"x":[{"b":0,"a":0,"b":0}]}"#,
        ] {
            assert!(matches!(Outline::of(text.as_bytes()), Err(JsonError::Duplicate { .. })), "{text}");
        }
        let escaped = r#"{"signed":{"\u0024serde_json::private::Number":"1"}}"#;
        assert!(matches!(Outline::of(escaped.as_bytes()), Err(JsonError::Reserved { .. })));
    }

    const STRANGE: [char; 14] =
        [' ', '!', '"', '#', '[', '\\', ']', '\0', '\u{1f}', '\u{7f}', 'é', '\u{2028}', '😀', 'a'];

    proptest! {
            /// The one pass and the tree agree on every document, in whatever order and spelling, and on what is none.
            #[test]
            fn an_outline_agrees_with_the_tree(
                value in any_json(),
                form in 0..3u8,
                flip in prop::option::of((any::<prop::sample::Index>(), 0x20..0x7fu8)),
            ) {
                let signed = match form {
                    0 => serde_json::to_string(&value).unwrap(),
                    1 => serde_json::to_string_pretty(&value).unwrap(),
                    _ => String::from_utf8(parse(value.to_string().as_bytes()).unwrap().compact().unwrap()).unwrap(),
                };
                let mut text = format!(r#"{{"signatures":[],"signed":{signed}}}"#);
                if let Some((at, byte)) = flip {
                    let at = at.index(text.len());
                    if text.is_char_boundary(at) && text.is_char_boundary(at + 1) {
                        text.replace_range(at..=at, char::from(byte).encode_utf8(&mut [0]));
                    }
                }
                outline(&text);
            }

            /// Long texts of what the reader of strings treats differently, at every offset from the eight it reads at once.
            #[test]
    fn strings_end_where_they_end(
                chars in prop::collection::vec(prop::sample::select(&STRANGE[..]), 0..40)
            ) {
                let text = String::from_iter(chars);
                outline(&format!(r#"{{"signed":"{text}"}}"#));
                let escaped = serde_json::to_string(&text).unwrap();
                let document = format!(r#"{{"signed":{escaped}}}"#);
                let (signed, canonical) = outline(&document).unwrap();
                prop_assert_eq!(signed, Some(escaped.as_str()));
                prop_assert_eq!(canonical, !text.chars().any(|c| c < ' '));
                let value = parse(escaped.as_bytes()).unwrap();
                prop_assert_eq!(value, Value::String(text.into()));
            }
    }
}
