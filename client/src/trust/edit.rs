//! Changes to the text of a policy. What its author wrote stays, comments included, where that can be done so that the
//! result reads back as intended; else the policy is written anew.

use plimsoll_core::{
    oci::Digest,
    policy::{Format, PolicyFile, RequireTable, ScopeTable},
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Addition, Home, TrustError, format_of, policy_text, root_file};

/// The policy with a root and its scopes added. Reads the policy and changes nothing.
pub(super) fn with_root(
    home: &Home,
    addition: &Addition,
    scopes: &[String],
    sha256: &Digest,
) -> Result<String, TrustError> {
    let Before { text, mut policy, format } = before(home)?;
    if policy.root.contains_key(&addition.name) {
        return Err(TrustError::Exists { name: addition.name.clone() });
    }
    let refuse = |source| TrustError::Addition { source: Box::new(source) };
    let added = tables(addition, scopes, sha256);
    let new = PolicyFile::from_toml(&added).map_err(refuse)?;
    policy.root.extend(new.root);
    policy.scope.extend(new.scope);
    policy.check().map_err(refuse)?;
    let gap = match text.as_str() {
        "" => "",
        text if text.ends_with('\n') => "\n",
        _ => "\n\n",
    };
    Ok(settle(format!("{text}{gap}{added}"), &policy, format))
}

/// The policy without a root and without the scopes that name it. Reads the policy and changes nothing.
pub(super) fn without_root(home: &Home, name: &str) -> Result<String, TrustError> {
    let Before { text, mut policy, format } = before(home)?;
    policy.root.remove(name);
    policy.scope.retain(|scope| !names(scope, name));
    for profile in policy.profile.values_mut() {
        profile.scope.retain(|scope| !names(scope, name));
    }
    let kept = if format == Format::Toml { cut(&text, name) } else { String::new() };
    Ok(settle(kept, &policy, format))
}

/// The policy that is to be changed.
struct Before {
    text: String,
    policy: PolicyFile,
    format: Format,
}

fn before(home: &Home) -> Result<Before, TrustError> {
    let path = home.policy();
    let format = format_of(&path);
    let Some(text) = policy_text(home)? else {
        return Ok(Before { text: String::new(), policy: PolicyFile::default(), format });
    };
    let read = || {
        let policy = PolicyFile::read(&text, format)?;
        policy.check().map_err(|error| error.located(&text, format))?;
        Ok(policy)
    };
    match read() {
        Ok(policy) => Ok(Before { text, policy, format }),
        Err(source) => Err(TrustError::Policy { path, source: Box::new(source) }),
    }
}

/// True if the scope names the root `name`.
fn names(scope: &ScopeTable, name: &str) -> bool {
    let of = |require: &RequireTable| {
        [&require.all, &require.any, &require.of].into_iter().flatten().flatten().any(|root| root == name)
    };
    scope.require.iter().chain(&scope.fallback).any(of)
}

/// The edited text, if it says exactly what is meant. JSON has no comments that could be lost, so it is always written anew.
fn settle(text: String, meant: &PolicyFile, format: Format) -> String {
    match format {
        Format::Json => meant.to_json(),
        Format::Toml => match PolicyFile::from_toml(&text) {
            Ok(read) if without_empty(&read) == without_empty(meant) => text,
            _ => meant.to_toml(),
        },
    }
}

/// A profile without scopes covers nothing, whether its heading stays or not.
fn without_empty(policy: &PolicyFile) -> PolicyFile {
    let mut policy = policy.clone();
    policy.profile.retain(|_, profile| !profile.scope.is_empty());
    policy
}

fn tables(addition: &Addition, scopes: &[String], sha256: &Digest) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    // An odd name is quoted, so that the policy's check sees and refuses it instead of the TOML reader.
    let name = quoted(&addition.name);
    let bare = addition.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let heading = if bare && !addition.name.is_empty() { &addition.name } else { &name };
    let mut text = format!(
        "[root.{heading}]\nfile = {}\nsha256 = {}\nrepository = {}\n",
        quoted(&format!("roots/{}", root_file(&addition.name))),
        quoted(&sha256.hex()),
        quoted(&addition.repository.to_string()),
    );
    for scope in scopes {
        text.push_str(&format!("\n[[scope]]\nmatch = {}\nrequire = {{ all = [{name}] }}\n", quoted(scope)));
    }
    text
}

/// The text without the tables that define the root `name` or name it; comments right above a table belong to it.
fn cut(text: &str, name: &str) -> String {
    let Some(mut tables) = headed(text, name) else { return text.to_owned() };
    tables.sort_by_key(|table| table.start);
    let mut kept = text[..tables.first().map_or(text.len(), |table| table.start)].to_owned();
    for (at, table) in tables.iter().enumerate() {
        let end = tables.get(at + 1).map_or(text.len(), |next| next.start);
        if !table.concerned {
            kept.push_str(&text[table.start..end]);
        }
    }
    kept.trim_start_matches('\n').to_owned()
}

/// A table with a heading of its own, and with all that stands below it up to the next.
struct Headed {
    /// Where its first line begins, comments above the heading included.
    start: usize,
    concerned: bool,
}

/// The roots, scopes, remaps and profiles that have a heading; what is written in one line with others has none.
fn headed(text: &str, name: &str) -> Option<Vec<Headed>> {
    let document = DeTable::parse(text).ok()?;
    let policy = PolicyFile::from_toml(text).ok()?;
    let mut tables = Vec::new();
    let mut note = |value: &Spanned<DeValue<'_>>, concerned: bool| {
        tables.extend(above(text, value.span().start).map(|start| Headed { start, concerned }));
    };
    let table = |key: &str| document.get_ref().get(key).and_then(|value| value.get_ref().as_table());
    for (key, value) in table("root").into_iter().flatten() {
        note(value, key.get_ref() == name);
    }
    for (value, scope) in elements(document.get_ref().get("scope")).zip(&policy.scope) {
        note(value, names(scope, name));
    }
    for value in elements(document.get_ref().get("remap")) {
        note(value, false);
    }
    for (key, value) in table("profile").into_iter().flatten() {
        note(value, false);
        let scopes = value.get_ref().as_table().and_then(|profile| profile.get("scope"));
        let read = policy.profile.get(&**key.get_ref()).map(|profile| profile.scope.as_slice());
        for (value, scope) in elements(scopes).zip(read.unwrap_or_default()) {
            note(value, names(scope, name));
        }
    }
    Some(tables)
}

/// The elements of a list, if it is one.
fn elements<'a, 'i>(
    value: Option<&'a Spanned<DeValue<'i>>>,
) -> impl Iterator<Item = &'a Spanned<DeValue<'i>>> {
    value.and_then(|value| value.get_ref().as_array()).into_iter().flat_map(|array| array.iter())
}

/// Where the lines of the table begin whose heading stands at `heading`; none if no heading does.
fn above(text: &str, heading: usize) -> Option<usize> {
    let line = text[..heading].rfind('\n').map_or(0, |end| end + 1);
    if !text[heading..].starts_with('[') || !text[line..heading].trim().is_empty() {
        return None;
    }
    let mut start = line;
    for above in text[..line].split_inclusive('\n').rev() {
        if !above.trim_start().starts_with('#') && !above.trim().is_empty() {
            break;
        }
        start -= above.len();
    }
    Some(start)
}
