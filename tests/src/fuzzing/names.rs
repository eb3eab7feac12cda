//! Names that others choose: path patterns, references, scopes, roles.

use plimsoll_core::{
    oci::{Digest, Manifest, Reference, RepositoryAddress, TargetName, mapping, valid_repository, valid_tag},
    policy::{MAX_SCOPE_DEPTH, Scope},
    tuf::{matches, within},
};

/// Lines: a pattern, a name, and parents of the pattern. A pattern matches the name if a matcher written after the rules
/// alone says so, lies within itself, and within the parents only if they match every name made of it.
///
/// # Panics
/// If one of these does not hold.
pub fn path_pattern(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let mut lines = text.split('\n');
    let (pattern, name) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let parents: Vec<String> = lines.map(str::to_owned).collect();

    let matched = matches(pattern, name);
    assert_eq!(matched, matches_by_the_rules(pattern, name), "{pattern:?} ~ {name:?}");
    assert!(within(pattern, &[pattern.to_owned()]));
    if within(pattern, &parents) {
        let fillings = ["", "a", "*", "?", name.split('/').next().unwrap_or_default()];
        let made = fillings.map(|filling| pattern.replace('*', filling).replace('?', "x"));
        for name in made.iter().map(String::as_str).chain([name]).filter(|name| matches(pattern, name)) {
            let known = parents.iter().any(|parent| matches(parent, name));
            assert!(known, "{pattern:?} is not within {parents:?}: {name:?}");
        }
    }
    matched
}

/// Which prefixes of the name the pattern matches so far, character by character of the pattern.
fn matches_by_the_rules(pattern: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for symbol in pattern.chars() {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            let before = at.checked_sub(1).map(|before| (name[before], before));
            next[at] = match symbol {
                '*' => reached[at] || before.is_some_and(|(c, before)| c != '/' && next[before]),
                '?' => before.is_some_and(|(c, before)| c != '/' && reached[before]),
                symbol => before.is_some_and(|(c, before)| c == symbol && reached[before]),
            };
        }
        reached = next;
    }
    reached[name.len()]
}

/// A reference, repository or target name is the same one when it is read again as it is shown, and its parts are what
/// may stand in a URL and in a target name: no wildcard, no dot segment.
///
/// # Panics
/// If one of these does not hold.
pub fn reference(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    if let Ok(name) = text.parse::<TargetName>() {
        assert_eq!(name.to_string(), text);
        assert!(harmless(name.repository()));
    }
    let repository = text.parse::<RepositoryAddress>();
    let Ok(reference) = text.parse::<Reference>() else {
        assert!(repository.is_err());
        return false;
    };
    assert_eq!(reference.to_string().parse().as_ref(), Ok(&reference));
    assert!(harmless(&reference.repository.name));
    assert!(reference.tag.as_ref().is_none_or(|tag| valid_tag(tag.as_str()) && harmless(tag.as_str())));
    let host = &reference.repository.host;
    assert!(!host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b)));

    let bare = reference.tag.is_none() && reference.digest.is_none();
    assert_eq!(repository.as_ref().ok(), bare.then_some(&reference.repository));
    let address = reference.repository.to_string();
    assert_eq!(address.parse().as_ref(), Ok(&reference.repository));
    true
}

fn harmless(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
    !name.is_empty()
        && name.bytes().all(plain)
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// A scope is the same one when it is read again as it is shown or as its patterns are spelled, lies within itself and
/// below everything, and covers a name made of each of its patterns.
///
/// # Panics
/// If one of these does not hold.
pub fn scope(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(scope) = text.parse::<Scope>() else { return false };
    assert_eq!(scope.to_string(), text);
    assert!(scope.within(&scope));
    assert!(scope.within(&Scope::Below(String::new())));

    let patterns = scope.patterns();
    assert!((1..=MAX_SCOPE_DEPTH).contains(&patterns.len()));
    // At the depth limit one level is all levels.
    let spelled = Scope::spell(&patterns);
    assert!(spelled == text || spelled == format!("{text}*") && patterns.len() == 1, "{spelled}");
    assert_eq!(spelled.parse::<Scope>().map(|scope| scope.patterns()).as_ref(), Ok(&patterns));
    for pattern in &patterns {
        assert!(scope.covers(&pattern.replace('*', "a")));
    }
    true
}

/// Lines: a role, and other roles. Every role has a valid tag, its own alone; a manifest of it lists its files under their
/// names. True if the tag of the first is its name.
///
/// # Panics
/// If one of these does not hold.
pub fn role_tag(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let (role, others) = text.split_once('\n').unwrap_or((text, ""));
    let tag = mapping::role_tag(role);
    assert!(valid_tag(&tag) && tag != mapping::LATEST);
    assert!(tag == role || tag == format!("x-{}", Digest::of(role.as_bytes()).hex()));
    for other in others.split('\n').chain([tag.as_str()]) {
        assert_eq!(mapping::role_tag(other) == tag, other == role, "{role:?} and {other:?}");
    }

    let artifact = mapping::role(role, (2, b"new"), Some((1, b"old")), mapping::Profile::Oci11);
    assert_eq!(artifact.tag, tag);
    let manifest = Manifest::parse(&artifact.manifest).expect("a manifest that we wrote");
    let names: Vec<_> = manifest.layers.iter().map(|layer| &layer.annotations[mapping::FILENAME]).collect();
    assert_eq!(names, [&mapping::file_name(role, 2), &mapping::file_name(role, 1)]);
    assert!(!valid_repository(role) || !role.contains('/') || tag != role);
    tag == role
}
