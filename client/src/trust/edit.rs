//! Changes to the text of a policy. What its author wrote stays, comments included, where that can be done so that the
//! result reads back as intended; else the policy is written anew.

use std::collections::BTreeMap;

use plimsoll_core::{
    oci::Digest,
    policy::{Format, PolicyFile, RequireTable, ScopeTable},
};

use super::{Addition, Home, TrustError, policy_text, root_file};

/// The policy with a root and its scopes added. Reads the policy and changes nothing.
pub(super) fn with_root(
    home: &Home,
    addition: &Addition,
    scopes: &[String],
    sha256: &Digest,
) -> Result<String, TrustError> {
    let text = policy_text(&home.policy())?.unwrap_or_default();
    let mut policy = parse(home, &text)?;
    if policy.root.contains_key(&addition.name) {
        return Err(TrustError::Exists { name: addition.name.clone() });
    }
    let refuse = |source| TrustError::Addition { source };
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
    Ok(settle(format!("{text}{gap}{added}"), &policy))
}

/// The policy without a root and without the scopes that require it. Reads the policy and changes nothing.
pub(super) fn without_root(home: &Home, name: &str) -> Result<String, TrustError> {
    let text = policy_text(&home.policy())?.unwrap_or_default();
    let mut policy = parse(home, &text)?;
    policy.root.remove(name);
    policy.scope.retain(|scope| !names(scope, name));
    let kept: String = blocks(&text).into_iter().filter(|block| !concerns(block, name)).collect();
    Ok(settle(kept.trim_start_matches('\n').to_owned(), &policy))
}

fn parse(home: &Home, text: &str) -> Result<PolicyFile, TrustError> {
    let read = || {
        let policy = PolicyFile::from_toml(text)?;
        policy.check().map_err(|error| error.located(text, Format::Toml))?;
        Ok(policy)
    };
    read().map_err(|source| TrustError::Policy { path: home.policy(), source })
}

/// True if the scope needs the root `name`.
fn names(scope: &ScopeTable, name: &str) -> bool {
    let of = |require: &RequireTable| {
        [&require.all, &require.any, &require.of].into_iter().flatten().flatten().any(|root| root == name)
    };
    scope.require.iter().chain(&scope.fallback).any(of)
}

/// The edited text, if it says exactly what is meant.
fn settle(text: String, meant: &PolicyFile) -> String {
    match PolicyFile::from_toml(&text) {
        Ok(read) if read == *meant => text,
        _ => meant.to_toml(),
    }
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

/// The text cut before each heading; comments above a heading belong to it.
fn blocks(text: &str) -> Vec<String> {
    let (mut blocks, mut current, mut above) = (Vec::new(), String::new(), String::new());
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        if trimmed.starts_with('[') {
            blocks.push(std::mem::take(&mut current));
            current = std::mem::take(&mut above);
            current.push_str(line);
        } else if trimmed.starts_with('#') || trimmed.is_empty() {
            above.push_str(line);
        } else {
            current.push_str(&std::mem::take(&mut above));
            current.push_str(line);
        }
    }
    blocks.push(current + &above);
    blocks
}

/// True if the block defines the root `name` or a scope that requires it.
fn concerns(block: &str, name: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Lenient {
        #[serde(default)]
        root: BTreeMap<String, toml::Value>,
        #[serde(default)]
        scope: Vec<LenientScope>,
    }
    #[derive(serde::Deserialize)]
    struct LenientScope {
        require: BTreeMap<String, Vec<String>>,
    }
    let Ok(read) = toml::from_str::<Lenient>(block) else { return false };
    read.root.contains_key(name)
        || read.scope.iter().any(|scope| scope.require.values().flatten().any(|root| root == name))
}
