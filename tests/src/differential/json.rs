//! JSON as a publisher with a mind of its own would write it, apart from the code under test.

use serde_json::Value;

/// One step from a value to one inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seg {
    Member(String),
    Item(usize),
}

pub(super) type Path = Vec<Seg>;

/// A path of members.
pub(super) fn path(members: &[&str]) -> Path {
    members.iter().map(|&member| Seg::Member(member.to_owned())).collect()
}

/// A path for people.
pub(super) fn show(path: &[Seg]) -> String {
    path.iter()
        .map(|seg| match seg {
            Seg::Member(name) => format!("/{name}"),
            Seg::Item(at) => format!("/{at}"),
        })
        .collect()
}

/// The paths of all values inside `value`, its own not among them.
pub(super) fn paths(value: &Value) -> Vec<Path> {
    let mut found = Vec::new();
    walk(value, &mut Vec::new(), &mut found);
    found
}

fn walk(value: &Value, at: &mut Path, found: &mut Vec<Path>) {
    let inside: Vec<(Seg, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(n, v)| (Seg::Member(n.clone()), v)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(i, v)| (Seg::Item(i), v)).collect(),
        _ => return,
    };
    for (seg, value) in inside {
        at.push(seg);
        found.push(at.clone());
        walk(value, at, found);
        at.pop();
    }
}

pub(super) fn get<'a>(value: &'a Value, path: &[Seg]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, seg| match seg {
        Seg::Member(name) => value.get(name),
        Seg::Item(at) => value.get(at),
    })
}

/// Puts `new` where `path` leads, if there is something to put it into.
pub(super) fn set(value: &mut Value, path: &[Seg], new: Value) {
    let Some((last, parents)) = path.split_last() else { return };
    let parent = parents.iter().try_fold(value, |value, seg| match seg {
        Seg::Member(name) => value.get_mut(name),
        Seg::Item(at) => value.get_mut(at),
    });
    match (parent, last) {
        (Some(Value::Object(members)), Seg::Member(name)) => drop(members.insert(name.clone(), new)),
        (Some(Value::Array(items)), Seg::Item(at)) if *at < items.len() => items[*at] = new,
        _ => {}
    }
}

pub(super) fn remove(value: &mut Value, path: &[Seg]) {
    let Some((last, parents)) = path.split_last() else { return };
    let parent = parents.iter().try_fold(value, |value, seg| match seg {
        Seg::Member(name) => value.get_mut(name),
        Seg::Item(at) => value.get_mut(at),
    });
    match (parent, last) {
        (Some(Value::Object(members)), Seg::Member(name)) => drop(members.remove(name)),
        (Some(Value::Array(items)), Seg::Item(at)) if *at < items.len() => drop(items.remove(*at)),
        _ => {}
    }
}

/// OLPC canonical JSON. What has no canonical form (floats, `u64` beyond `i64`) is written as it is.
pub(super) fn canonical(value: &Value) -> Vec<u8> {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out.into_bytes()
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => write_plain(text, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|a, b| a.0.chars().cmp(b.0.chars()));
            out.push('{');
            for (i, (name, value)) in members.into_iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                write_plain(name, out);
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

fn write_plain(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        if c == '"' || c == '\\' {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

/// A member that stands twice: with `value` as well, before or after its own.
#[derive(Debug, Clone)]
pub(super) struct Twice {
    pub(super) path: Path,
    pub(super) value: Value,
    pub(super) after: bool,
}

/// The document as a file, with a space after each comma and colon if it is `wide`.
pub(super) fn render(value: &Value, wide: bool, twice: Option<&Twice>) -> Vec<u8> {
    let mut out = String::new();
    write(value, wide, twice, &mut Vec::new(), &mut out);
    out.into_bytes()
}

fn write(value: &Value, wide: bool, twice: Option<&Twice>, at: &mut Path, out: &mut String) {
    let (comma, colon) = if wide { (", ", ": ") } else { (",", ":") };
    match value {
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { comma } else { "" });
                at.push(Seg::Item(i));
                write(item, wide, twice, at, out);
                at.pop();
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (i, (name, value)) in members.iter().enumerate() {
                out.push_str(if i > 0 { comma } else { "" });
                at.push(Seg::Member(name.clone()));
                let name = Value::from(name.as_str()).to_string();
                let other = twice.filter(|twice| twice.path == *at);
                if let Some(other) = other.filter(|other| !other.after) {
                    out.push_str(&format!("{name}{colon}{}{comma}", other.value));
                }
                out.push_str(&name);
                out.push_str(colon);
                write(value, wide, twice, at, out);
                if let Some(other) = other.filter(|other| other.after) {
                    out.push_str(&format!("{comma}{name}{colon}{}", other.value));
                }
                at.pop();
            }
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}
