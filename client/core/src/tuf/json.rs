//! Strict JSON and its canonical form.
//!
//! One reading only: duplicate members at any depth, numbers out of range, lone surrogates, a byte order mark, nesting
//! over [`MAX_DEPTH`], member names that the typed parser reserves and anything but white space after the document are
//! refused before any typed parse looks at the bytes (RFC 8259 leaves each of them to the reader, and readers differ).
//! [`Value::canonical`] is the form that is signed: OLPC Canonical JSON, as TUF 1.0.34 section 4.1 asks.
//!
//! [`Outline::of`] checks all of that in one pass that allocates next to nothing if members stand in order, and tells
//! whether `signed` is canonical as it stands: then nobody has to encode it. [`parse`] reads any order into a tree.

mod outline;

use std::borrow::Cow;

pub use outline::Outline;

/// How deep arrays and objects may nest.
pub const MAX_DEPTH: usize = 64;

/// A parsed document; strings borrow from the input where they hold no escape.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer in the range of `i64`.
    Int(i64),
    /// A number with a fraction or exponent. It has no canonical form.
    Float,
    /// A string.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Value<'a>>),
    /// An object, its members sorted by name in code point order, no name twice.
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
}

/// Why bytes are not strict JSON. `at` is the offset in bytes where the reader stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// Not JSON at all.
    #[error("not JSON at byte {at}")]
    Syntax {
        /// Offset in bytes.
        at: usize,
    },
    /// A member name stands twice in one object.
    #[error("a member name stands twice in one object, noticed at byte {at}")]
    Duplicate {
        /// Offset in bytes.
        at: usize,
    },
    /// An integer beyond 64 bits with sign.
    #[error("an integer out of range at byte {at}")]
    Range {
        /// Offset in bytes.
        at: usize,
    },
    /// Half a surrogate pair, or bytes that are not UTF-8.
    #[error("a string that is not Unicode at byte {at}")]
    Unicode {
        /// Offset in bytes.
        at: usize,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} at byte {at}")]
    Depth {
        /// Offset in bytes.
        at: usize,
    },
    /// Something other than white space after the document.
    #[error("something stands after the document at byte {at}")]
    Trailing {
        /// Offset in bytes.
        at: usize,
    },
    /// A member name that the typed parser would take for one of its own.
    #[error("a reserved member name at byte {at}")]
    Reserved {
        /// Offset in bytes.
        at: usize,
    },
    /// A number with fraction or exponent where only integers have a canonical form.
    #[error("a number with fraction or exponent inside what is signed")]
    Float,
}

/// Checks that `bytes` are one strict JSON document: takes what [`parse`] takes.
///
/// # Errors
/// [`JsonError`], at the first byte that breaks a rule, duplicates aside.
pub fn check(bytes: &[u8]) -> Result<(), JsonError> {
    Outline::of(bytes).map(drop)
}

/// Parses one strict JSON document. Time is linear (sorting members aside), memory at most a small multiple of the
/// input, the stack constant.
///
/// # Errors
/// [`JsonError`], at the first byte that breaks a rule.
pub fn parse(bytes: &[u8]) -> Result<Value<'_>, JsonError> {
    Parser::new(bytes)?.document()
}

impl<'a> Value<'a> {
    /// The member `name`, if this is an object that has it.
    pub fn member(&self, name: &str) -> Option<&Value<'a>> {
        match self {
            Self::Object(members) => {
                members.binary_search_by(|(n, _)| n.as_ref().cmp(name)).ok().map(|i| &members[i].1)
            }
            _ => None,
        }
    }

    /// The canonical bytes: members sorted, no white space, `"` and `\` the only escapes, no Unicode normalisation.
    ///
    /// # Errors
    /// [`JsonError::Float`] for a number with fraction or exponent.
    pub fn canonical(&self) -> Result<Vec<u8>, JsonError> {
        let mut out = Vec::new();
        self.write(&mut out, write_string)?;
        Ok(out)
    }

    /// The shortest JSON with members sorted: the canonical bytes, but for control characters, which canonical JSON has
    /// as they are and JSON as escapes.
    ///
    /// # Errors
    /// [`JsonError::Float`] for a number with fraction or exponent.
    pub fn compact(&self) -> Result<Vec<u8>, JsonError> {
        let mut out = Vec::new();
        self.write(&mut out, |text, out| {
            serde_json::to_writer(out, text).expect("a text is JSON and memory takes it");
        })?;
        Ok(out)
    }

    /// Recursion is bounded by [`MAX_DEPTH`], which `parse` enforced.
    fn write(&self, out: &mut Vec<u8>, string: fn(&str, &mut Vec<u8>)) -> Result<(), JsonError> {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(true) => out.extend_from_slice(b"true"),
            Self::Bool(false) => out.extend_from_slice(b"false"),
            Self::Int(n) => out.extend_from_slice(n.to_string().as_bytes()),
            Self::Float => return Err(JsonError::Float),
            Self::String(s) => string(s, out),
            Self::Array(items) => {
                out.push(b'[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    item.write(out, string)?;
                }
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                for (i, (name, value)) in members.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    string(name, out);
                    out.push(b':');
                    value.write(out, string)?;
                }
                out.push(b'}');
            }
        }
        Ok(())
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text.as_bytes() {
        if byte == b'"' || byte == b'\\' {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// The canonical bytes of anything that serialises to JSON without floats.
///
/// # Errors
/// [`JsonError`] if the serialised form breaks a rule of this module; our own documents never do.
pub fn canonical_of(value: &impl serde::Serialize) -> Result<Vec<u8>, JsonError> {
    let bytes = serde_json::to_vec(value).map_err(|_| JsonError::Syntax { at: 0 })?;
    parse(&bytes)?.canonical()
}

/// An array or object that is still open.
enum Open<'a> {
    Array(Vec<Value<'a>>),
    Object { members: Vec<(Cow<'a, str>, Value<'a>)>, name: Cow<'a, str> },
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// No byte was read since this was set that canonical JSON would spell otherwise.
    plain: bool,
}

impl<'a> Parser<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(bytes).map_err(|e| JsonError::Unicode { at: e.valid_up_to() })?;
        Ok(Self { text, bytes, at: 0, plain: true })
    }

    /// Reads the whole document with a stack of its own, so that depth costs no call frames.
    fn document(mut self) -> Result<Value<'a>, JsonError> {
        let mut open: Vec<Open<'a>> = Vec::new();
        loop {
            // A value starts here.
            self.space();
            let mut value = match self.peek() {
                Some(b'[') => {
                    self.deeper(open.len())?;
                    self.space();
                    if !self.eat(b']') {
                        open.push(Open::Array(Vec::new()));
                        continue;
                    }
                    Value::Array(Vec::new())
                }
                Some(b'{') => {
                    self.deeper(open.len())?;
                    self.space();
                    if !self.eat(b'}') {
                        let name = self.name()?;
                        open.push(Open::Object { members: Vec::new(), name });
                        continue;
                    }
                    Value::Object(Vec::new())
                }
                _ => self.scalar()?,
            };
            // A value ended here: hand it to what encloses it, which may end too.
            loop {
                self.space();
                match open.pop() {
                    None if self.at == self.bytes.len() => return Ok(value),
                    None => return Err(JsonError::Trailing { at: self.at }),
                    Some(Open::Array(mut items)) => {
                        items.push(value);
                        if self.eat(b',') {
                            open.push(Open::Array(items));
                            break;
                        }
                        self.expect(b']')?;
                        value = Value::Array(items);
                    }
                    Some(Open::Object { mut members, name }) => {
                        members.push((name, value));
                        if self.eat(b',') {
                            self.space();
                            let name = self.name()?;
                            open.push(Open::Object { members, name });
                            break;
                        }
                        self.expect(b'}')?;
                        // Most objects are small and their memory is what a hostile document multiplies.
                        members.shrink_to_fit();
                        members.sort_by(|a, b| a.0.cmp(&b.0));
                        if members.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                            return Err(JsonError::Duplicate { at: self.at });
                        }
                        value = Value::Object(members);
                    }
                }
            }
        }
    }

    fn deeper(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth >= MAX_DEPTH {
            return Err(JsonError::Depth { at: self.at });
        }
        self.at += 1;
        Ok(())
    }

    fn name(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let at = self.at;
        let name = self.string()?;
        reserved(&name, at)?;
        self.space();
        self.expect(b':')?;
        Ok(name)
    }

    fn scalar(&mut self) -> Result<Value<'a>, JsonError> {
        match self.peek() {
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                for (word, value) in
                    [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))]
                {
                    if self.bytes[self.at..].starts_with(word.as_bytes()) {
                        self.at += word.len();
                        return Ok(value);
                    }
                }
                Err(JsonError::Syntax { at: self.at })
            }
        }
    }

    fn number(&mut self) -> Result<Value<'a>, JsonError> {
        let start = self.at;
        self.eat(b'-');
        let digits = self.digits();
        if digits == 0 || (digits > 1 && self.bytes[self.at - digits] == b'0') {
            return Err(JsonError::Syntax { at: start });
        }
        let mut float = false;
        if self.eat(b'.') {
            float = true;
            if self.digits() == 0 {
                return Err(JsonError::Syntax { at: start });
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            float = true;
            self.at += 1;
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            if self.digits() == 0 {
                return Err(JsonError::Syntax { at: start });
            }
        }
        if float {
            self.plain = false;
            return Ok(Value::Float);
        }
        // `-0` has two readings (0, or a float's negative zero), so it has none here.
        if &self.text[start..self.at] == "-0" {
            return Err(JsonError::Range { at: start });
        }
        if digits > 19 {
            return Err(JsonError::Range { at: start });
        }
        self.text[start..self.at].parse().map(Value::Int).map_err(|_| JsonError::Range { at: start })
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let start = self.at + 1;
        let (raw, escaped) = self.raw_string()?;
        if !escaped {
            return Ok(Cow::Borrowed(raw));
        }
        let mut decoded = String::with_capacity(raw.len());
        let mut inside = Parser { at: start, ..*self };
        let mut copied = start;
        while inside.at < start + raw.len() {
            if !inside.eat(b'\\') {
                inside.at += 1;
                continue;
            }
            decoded.push_str(&self.text[copied..inside.at - 1]);
            decoded.push(inside.escape()?);
            copied = inside.at;
        }
        decoded.push_str(&self.text[copied..start + raw.len()]);
        Ok(Cow::Owned(decoded))
    }

    /// A string as it is written, without its quotes, and whether it holds an escape.
    fn raw_string(&mut self) -> Result<(&'a str, bool), JsonError> {
        self.expect(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.ordinary();
            match self.peek() {
                None | Some(0..=0x1f) => return Err(JsonError::Syntax { at: self.at }),
                Some(b'"') => {
                    self.at += 1;
                    return Ok((&self.text[start..self.at - 1], escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                    // The two that canonical JSON spells like this.
                    self.plain &= matches!(self.peek(), Some(b'"' | b'\\'));
                    self.escape()?;
                }
                Some(_) => self.at += 1,
            }
        }
    }

    /// Skips bytes of a string that mean themselves, eight at a time.
    fn ordinary(&mut self) {
        const ONES: u64 = u64::from_ne_bytes([1; 8]);
        const HIGH: u64 = ONES << 7;
        while let Some(chunk) = self.bytes[self.at..].first_chunk() {
            let word = u64::from_le_bytes(*chunk);
            // The high bit of each byte that is zero, and of some after the first one.
            let zero = |word: u64| word.wrapping_sub(ONES) & !word;
            let control = word.wrapping_sub(ONES * 0x20) & !word;
            let found = (zero(word ^ (ONES * 0x22)) | zero(word ^ (ONES * 0x5c)) | control) & HIGH;
            if found != 0 {
                self.at += found.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let at = self.at;
        let byte = self.peek().ok_or(JsonError::Syntax { at })?;
        self.at += 1;
        Ok(match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex4()?;
                let code = match high {
                    0xd800..=0xdbff => {
                        if !(self.eat(b'\\') && self.eat(b'u')) {
                            return Err(JsonError::Unicode { at });
                        }
                        let low = self.hex4()?;
                        if !(0xdc00..=0xdfff).contains(&low) {
                            return Err(JsonError::Unicode { at });
                        }
                        0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)
                    }
                    other => other,
                };
                char::from_u32(code).ok_or(JsonError::Unicode { at })?
            }
            _ => return Err(JsonError::Syntax { at }),
        })
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let at = self.at;
        let mut code = 0;
        for _ in 0..4 {
            let digit =
                self.peek().and_then(|b| char::from(b).to_digit(16)).ok_or(JsonError::Syntax { at })?;
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
            self.plain = false;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.eat(byte) { Ok(()) } else { Err(JsonError::Syntax { at: self.at }) }
    }
}

/// serde_json reads an object with such a member as the document inside the member's string, which nobody checked here.
/// No format of ours has one.
fn reserved(name: &str, at: usize) -> Result<(), JsonError> {
    if name.starts_with("$serde_json::private::") { Err(JsonError::Reserved { at }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        String::from_utf8(parse(text.as_bytes()).unwrap().canonical().unwrap()).unwrap()
    }

    #[test]
    fn canonical_form_is_the_one_that_is_signed() {
        assert_eq!(canonical(r#" { "b" : [ 1 , -2, true ], "a" : null } "#), r#"{"a":null,"b":[1,-2,true]}"#);
        assert_eq!(canonical(r#""\u00e9\n\/\"\\""#), "\"é\n/\\\"\\\\\"");
        assert_eq!(canonical(r#""\b\f\r\t""#), "\"\u{8}\u{c}\r\t\"");
        assert_eq!(canonical(r#""\ud83d\ude00""#), "\"😀\"");
        // Code point order, not UTF-16 order: U+FF5E before U+1F600.
        assert_eq!(canonical("{\"😀\":1,\"～\":2}"), "{\"～\":2,\"😀\":1}");
        // No Unicode normalisation.
        assert_eq!(canonical("\"e\u{301}\""), "\"e\u{301}\"");
    }

    /// T51.
    #[test]
    fn duplicate_members_at_any_depth_are_refused() {
        for text in [r#"{"a":1,"a":1}"#, r#"[[{"x":{"b":1,"c":2,"b":3}}]]"#, r#"{"a":1,"\u0061":2}"#] {
            assert!(matches!(check(text.as_bytes()), Err(JsonError::Duplicate { .. })), "{text}");
        }
    }

    /// T52.
    #[test]
    fn numbers_with_two_readings_are_refused_at_once() {
        let huge = "1".repeat(1_000_000);
        for text in ["9223372036854775808", "-9223372036854775809", "-0", huge.as_str()] {
            assert!(matches!(check(text.as_bytes()), Err(JsonError::Range { .. })));
        }
        for text in ["01", "-", "1.", ".5", "1e", "+1", "NaN"] {
            assert!(matches!(check(text.as_bytes()), Err(JsonError::Syntax { .. })), "{text}");
        }
        for text in ["1e400", "1.0", "-0.0", "1E-2"] {
            assert_eq!(parse(text.as_bytes()).unwrap().canonical(), Err(JsonError::Float), "{text}");
        }
        assert_eq!(parse(b"-9223372036854775808"), Ok(Value::Int(i64::MIN)));
    }

    /// T53.
    #[test]
    fn deep_nesting_is_refused_without_using_the_stack() {
        for open in ["[", "{\"a\":"] {
            let deep = open.repeat(100_000);
            assert!(matches!(check(deep.as_bytes()), Err(JsonError::Depth { .. })));
        }
        let at_limit = format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        assert_eq!(check(at_limit.as_bytes()), Ok(()));
    }

    /// T54.
    #[test]
    fn text_that_is_not_one_clean_unicode_document_is_refused() {
        for text in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\u0041""#] {
            assert!(matches!(check(text.as_bytes()), Err(JsonError::Unicode { .. })), "{text}");
        }
        assert!(matches!(check(b"\"\xff\""), Err(JsonError::Unicode { at: 1 })));
        assert!(matches!(check(b"\xef\xbb\xbf{}"), Err(JsonError::Syntax { at: 0 })));
        assert!(matches!(check(b"{} x"), Err(JsonError::Trailing { at: 3 })));
        assert!(matches!(check(b"{}\0"), Err(JsonError::Trailing { at: 2 })));
        assert!(check(b"\"a\0b\"").is_err());
        for text in ["", " ", "[", "{", "[1,]", "{\"a\":1,}", "{a:1}", "'a'", "\"", "[1 2]", "tru", "\"\\x\""]
        {
            assert!(check(text.as_bytes()).is_err(), "{text:?}");
        }
        assert_eq!(check(b" {} \r\n\t"), Ok(()));
    }

    /// T54: RFC 8259, section 7: wherever it stands among the eight bytes that are looked at together.
    #[test]
    fn a_control_character_in_a_string_is_refused_where_it_stands() {
        for control in 0..0x20 {
            for at in 1..=20 {
                let mut text = format!("\"{}\"", "a".repeat(30)).into_bytes();
                text[at] = control;
                assert_eq!(check(&text), Err(JsonError::Syntax { at }), "{control:#x}");
            }
        }
    }

    pub(super) fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(5, 60, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// T55: the canonical form does not depend on how the document was written. Serialising again through
        /// serde_json (which escapes control characters, so it parses) and canonicalising changes nothing.
        #[test]
        fn canonical_form_is_a_function_of_the_value(value in any_json()) {
            let compact = serde_json::to_vec(&value).unwrap();
            let pretty = serde_json::to_vec_pretty(&value).unwrap();
            let (a, b) = (parse(&compact).unwrap(), parse(&pretty).unwrap());
            prop_assert_eq!(&a, &b);
            prop_assert_eq!(a.canonical().unwrap(), b.canonical().unwrap());
        }

        /// T56.
        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = check(&bytes);
        }

        /// Strict means a subset: what we take, serde_json takes too.
        #[test]
        fn what_is_strict_is_json(text in "[\\[\\]{}\",:0-9eE.+\\- \\\\utrfalsn]{0,40}") {
            crate::tuf::json::outline::tests::outline(&text);
            if check(text.as_bytes()).is_ok() && !text.contains(['e', 'E']) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
            }
        }
    }
}
