//! Strict JSON beside serde_json.

use plimsoll_core::tuf::json::{self, JsonError, Outline, Value};

/// Strict JSON is a subset of JSON, read as serde_json reads it; its canonical form is the one that an encoder written
/// after the rules alone gives, and parses to the same value unless it holds control characters, which it does not escape.
/// The outline made without a tree takes the same documents, and what it says of them is so.
///
/// # Panics
/// If one of these does not hold.
pub fn strict_json(bytes: &[u8]) -> bool {
    let strict = json::parse(bytes);
    match (&strict, Outline::of(bytes)) {
        (Ok(value), Ok(outline)) => outline_is_true(value, &outline, bytes),
        // The one pass finds some duplicates at once and others last; the parser finds them where their object ends.
        (Err(one), Err(other)) if [one, &other].iter().any(|e| matches!(e, JsonError::Duplicate { .. })) => {}
        (strict, outline) => assert_eq!(strict.as_ref().err(), outline.as_ref().err()),
    }
    match (&strict, serde_json::from_slice::<serde_json::Value>(bytes)) {
        (Ok(value), Ok(loose)) => match value.canonical() {
            Ok(canonical) => canonical_is_sound(value, &canonical, &loose),
            Err(error) => assert!(matches!(error, JsonError::Float) && has_float(value), "{error}"),
        },
        // A fraction or exponent has no value here, so one that no f64 holds is no error.
        (Ok(value), Err(error)) => assert!(has_float(value), "{error}"),
        (Err(error), Ok(_)) => assert!(
            !matches!(
                error,
                JsonError::Syntax { .. } | JsonError::Trailing { .. } | JsonError::Unicode { .. }
            ),
            "{error}"
        ),
        (Err(_), Err(_)) => {}
    }
    strict.is_ok()
}

fn outline_is_true(value: &Value<'_>, outline: &Outline, bytes: &[u8]) {
    for (name, range) in [("signed", &outline.signed), ("signatures", &outline.signatures)] {
        let part =
            range.clone().map(|range| json::parse(&bytes[range]).expect("a part of a document is one"));
        assert_eq!(part.as_ref(), value.member(name));
    }
    if outline.canonical {
        let signed = outline.signed.clone().expect("only what is there is canonical");
        let canonical = value.member("signed").map(Value::canonical);
        assert_eq!(canonical, Some(Ok(bytes[signed].to_vec())));
    }
}

fn canonical_is_sound(value: &Value<'_>, canonical: &[u8], loose: &serde_json::Value) {
    assert_eq!(canonical, canonical_by_the_rules(loose));
    let escaped = serde_json::to_vec(loose).expect("a value in memory serialises");
    assert_eq!(json::parse(&escaped).as_ref(), Ok(value));
    if !canonical.iter().any(|byte| *byte < 0x20) {
        let again = json::parse(canonical).expect("a canonical form without control characters is JSON");
        assert_eq!(&again, value);
        assert_eq!(again.canonical().as_deref(), Ok(canonical));
    }
}

/// The canonical form of a value without fractions, from serde_json's reading of it.
///
/// # Panics
/// If there is a number with a fraction or exponent.
pub(super) fn canonical_by_the_rules(value: &serde_json::Value) -> Vec<u8> {
    use serde_json::Value;
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")).into_bytes();
    let listed = |open: &str, items: Vec<Vec<u8>>, close: &str| {
        [open.as_bytes(), &items.join(&b','), close.as_bytes()].concat()
    };
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => listed("[", items.iter().map(canonical_by_the_rules).collect(), "]"),
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            let member =
                |(name, value): (&String, _)| [quoted(name), canonical_by_the_rules(value)].join(&b':');
            listed("{", members.into_iter().map(member).collect(), "}")
        }
        Value::Number(number) => number.as_i64().expect("an integer").to_string().into_bytes(),
        Value::Null | Value::Bool(_) => value.to_string().into_bytes(),
    }
}

fn has_float(value: &Value<'_>) -> bool {
    match value {
        Value::Float => true,
        Value::Array(items) => items.iter().any(has_float),
        Value::Object(members) => members.iter().any(|(_, value)| has_float(value)),
        _ => false,
    }
}
