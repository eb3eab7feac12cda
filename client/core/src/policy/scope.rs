//! Scopes: the namespaces that a key, a delegation or a root speaks for.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{oci::valid_repository, tuf::matches};

/// How many path segments the names under a `**` have at most; `patterns` spells them out one by one.
pub const MAX_SCOPE_DEPTH: usize = 8;

/// A set of target names (docs/oci-mapping.md, "Scopes").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// `acme/net-monitor`: every tag and digest of one repository.
    Repository(String),
    /// `acme/net-monitor:v*`: those tags of one repository, and no digest.
    Tags {
        /// The repository.
        repository: String,
        /// A tag with `*` in it, or a plain tag.
        glob: String,
    },
    /// `acme/*`: every repository one level below `acme`. `*` alone: every repository without a `/`.
    Children(String),
    /// `acme/**`: every repository below `acme`, in names of up to eight segments. `**` alone: all of them.
    Below(String),
}

/// A text that is not a scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", no_scope(text))]
pub struct ScopeError {
    /// What was given, cut to 300 characters.
    pub text: String,
}

/// What is wrong with `text`: that what only looks like a letter is none cannot be seen.
fn no_scope(text: &str) -> String {
    if let Some((at, odd)) = (1..).zip(text.chars()).find(|(_, c)| !c.is_ascii_graphic()) {
        let code = u32::from(odd);
        return format!(
            "character {at} of `{text}` is U+{code:04X}; a scope holds plain ASCII letters, digits and signs only"
        );
    }
    format!(
        "`{text}` is not a scope: write a repository (acme/app), its tags (acme/app:v*), one level (acme/*) or all \
         below (acme/**)"
    )
}

impl Scope {
    /// The plain TUF path patterns of the scope, which stock clients match segment by segment as we do.
    pub fn patterns(&self) -> Vec<String> {
        match self {
            Self::Repository(name) => vec![format!("{name}:*"), format!("{name}@*")],
            Self::Tags { repository, glob } => vec![format!("{repository}:{glob}")],
            Self::Children(prefix) => vec![below(prefix, 1)],
            Self::Below(prefix) => {
                (1..=MAX_SCOPE_DEPTH - segments(prefix)).map(|depth| below(prefix, depth)).collect()
            }
        }
    }

    /// Path patterns in the words of scopes where they are some, for people: the way back from [`Scope::patterns`].
    pub fn spell(patterns: &[String]) -> String {
        let mut left: Vec<&String> = patterns.iter().collect();
        let mut spelled = Vec::new();
        while let Some(first) = left.first() {
            let scope = Self::candidates(first)
                .into_iter()
                .find(|scope| scope.patterns().iter().all(|pattern| left.contains(&pattern)));
            match scope {
                Some(scope) => {
                    spelled.push(scope.to_string());
                    left.retain(|pattern| !scope.patterns().contains(pattern));
                }
                None => spelled.push(left.remove(0).clone()),
            }
        }
        spelled.join(", ")
    }

    /// The scopes whose first pattern could be `pattern`, the widest first.
    fn candidates(pattern: &str) -> Vec<Self> {
        let texts = match pattern.strip_suffix('*') {
            Some(prefix) if prefix.is_empty() || prefix.ends_with('/') => {
                vec![format!("{prefix}**"), pattern.to_owned()]
            }
            Some(repository) => vec![repository.trim_end_matches(':').to_owned(), pattern.to_owned()],
            None => vec![pattern.to_owned()],
        };
        texts.into_iter().filter_map(|text| text.parse().ok()).collect()
    }

    /// True if the target name lies inside.
    pub fn covers(&self, name: &str) -> bool {
        self.patterns().iter().any(|pattern| matches(pattern, name))
    }

    /// True if every name of this scope lies inside `parent`.
    pub fn within(&self, parent: &Self) -> bool {
        let parents = parent.patterns();
        self.patterns().iter().all(|pattern| crate::tuf::within(pattern, &parents))
    }

    /// True if digests can be vouched for in this scope; a scope of tags holds none.
    pub fn holds_digests(&self) -> bool {
        !matches!(self, Self::Tags { .. })
    }

    /// How specific the scope is: a greater value is more specific. Two scopes that share a name are never equal in it
    /// unless they are the same scope, or both are tag scopes of one repository.
    pub fn specificity(&self) -> (usize, usize, usize) {
        match self {
            Self::Tags { repository, glob } => (segments(repository) + 1, 3, glob.len()),
            Self::Repository(name) => (segments(name) + 1, 2, 0),
            Self::Children(prefix) => (segments(prefix) + 1, 1, 0),
            Self::Below(prefix) => (segments(prefix) + 1, 0, 0),
        }
    }

    /// True if names of this scope can be exchanged for those of `other`: see [`Scope::exchange`].
    pub fn has_form_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Repository(_), Self::Repository(_))
            | (Self::Children(_), Self::Children(_))
            | (Self::Below(_), Self::Below(_)) => true,
            (Self::Tags { glob, .. }, Self::Tags { glob: other, .. }) => glob == other,
            _ => false,
        }
    }

    /// The name of `other` that stands for `name`, one of this scope's: the literal part is exchanged, the rest stays. None
    /// if the scopes have different forms, or the name is not one of this scope.
    pub fn exchange(&self, other: &Self, name: &str) -> Option<String> {
        if !self.has_form_of(other) || !self.covers(name) {
            return None;
        }
        let rest = name.strip_prefix(self.literal())?;
        let joined = match (self.literal(), other.literal()) {
            // Without a literal part there is no slash behind it either.
            ("", "") => rest.to_owned(),
            ("", literal) => format!("{literal}/{rest}"),
            (_, "") => rest.strip_prefix('/')?.to_owned(),
            (_, literal) => format!("{literal}{rest}"),
        };
        Some(joined)
    }

    /// What stands before the first wildcard, without the slash at its end; of a repository, all of it.
    fn literal(&self) -> &str {
        match self {
            Self::Repository(name) | Self::Tags { repository: name, .. } => name,
            Self::Children(prefix) | Self::Below(prefix) => prefix,
        }
    }

    /// True if a name may lie in both; for two scopes of equal specificity. It never says no wrongly.
    #[cfg(test)]
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let (Self::Tags { repository: a, glob: tags }, Self::Tags { repository: b, glob: others }) =
            (self, other)
        else {
            return self == other;
        };
        // Two globs share a name only if what stands before their first star, and after their last one, agrees.
        let ends = |glob: &'_ str| match (glob.find('*'), glob.rfind('*')) {
            (Some(first), Some(last)) => (glob[..first].to_owned(), glob[last + 1..].to_owned()),
            _ => (glob.to_owned(), glob.to_owned()),
        };
        let ((head, tail), (other_head, other_tail)) = (ends(tags), ends(others));
        a == b
            && match (tags.contains('*'), others.contains('*')) {
                (false, false) => tags == others,
                (true, false) => matches(tags, others),
                (false, true) => matches(others, tags),
                (true, true) => {
                    (head.starts_with(&other_head) || other_head.starts_with(&head))
                        && (tail.ends_with(&other_tail) || other_tail.ends_with(&tail))
                }
            }
    }

    /// In words, for people: what lies inside and what does not.
    pub fn in_words(&self) -> String {
        match self {
            Self::Repository(name) => format!("every tag and digest of {name}; nothing below {name}/"),
            Self::Tags { repository, glob } => format!("the tags {glob} of {repository}; no digests"),
            Self::Children(prefix) if prefix.is_empty() => {
                "every repository whose name has no `/`; nothing below them".to_owned()
            }
            Self::Children(prefix) => {
                format!("every repository one level below {prefix}/; not {prefix} itself, nothing deeper")
            }
            Self::Below(prefix) if prefix.is_empty() => "every repository".to_owned(),
            Self::Below(prefix) => {
                format!("every repository below {prefix}/, at any depth; not {prefix} itself")
            }
        }
    }
}

fn segments(path: &str) -> usize {
    if path.is_empty() { 0 } else { path.split('/').count() }
}

/// `prefix` and `depth` whole-segment wildcards. The last one matches `name:tag` and `name@digest` alike.
fn below(prefix: &str, depth: usize) -> String {
    let stars = vec!["*"; depth].join("/");
    if prefix.is_empty() { stars } else { format!("{prefix}/{stars}") }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(name) => f.write_str(name),
            Self::Tags { repository, glob } => write!(f, "{repository}:{glob}"),
            Self::Children(prefix) if prefix.is_empty() => f.write_str("*"),
            Self::Children(prefix) => write!(f, "{prefix}/*"),
            Self::Below(prefix) if prefix.is_empty() => f.write_str("**"),
            Self::Below(prefix) => write!(f, "{prefix}/**"),
        }
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let refuse = || ScopeError { text: text.chars().take(300).collect() };
        let named = |name: &str| {
            if valid_repository(name) && segments(name) <= MAX_SCOPE_DEPTH {
                Ok(name.to_owned())
            } else {
                Err(refuse())
            }
        };
        // A wildcard stands for one segment more.
        let above = |name: &str| if segments(name) < MAX_SCOPE_DEPTH { named(name) } else { Err(refuse()) };
        match text {
            "*" => return Ok(Self::Children(String::new())),
            "**" => return Ok(Self::Below(String::new())),
            _ => {}
        }
        if let Some(prefix) = text.strip_suffix("/**") {
            return Ok(Self::Below(above(prefix)?));
        }
        if let Some(prefix) = text.strip_suffix("/*") {
            return Ok(Self::Children(above(prefix)?));
        }
        if let Some((repository, glob)) = text.split_once(':') {
            // A tag with its stars taken for letters must be a tag.
            let tag = glob.replace('*', "x");
            return if crate::oci::valid_tag(&tag) {
                Ok(Self::Tags { repository: named(repository)?, glob: glob.to_owned() })
            } else {
                Err(refuse())
            };
        }
        Ok(Self::Repository(named(text)?))
    }
}

impl TryFrom<String> for Scope {
    type Error = ScopeError;

    fn try_from(text: String) -> Result<Self, ScopeError> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope(text: &str) -> Scope {
        text.parse().unwrap()
    }

    /// T61: what only looks like a scope is told by its code point, since it cannot be seen.
    #[test]
    fn a_character_that_looks_like_another_is_named() {
        for (text, words) in [
            ("\u{430}cme/app", "character 1 of `\u{430}cme/app` is U+0430"),
            ("acme/\u{430}pp:v*", "character 6 of `acme/\u{430}pp:v*` is U+0430"),
            ("acme/app:v\u{2217}", "character 11 of `acme/app:v\u{2217}` is U+2217"),
            ("acme\u{2215}*", "is U+2215"),
            ("acme/\u{200b}app", "is U+200B"),
            ("acme /app", "is U+0020"),
        ] {
            let error = text.parse::<Scope>().unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("plain ASCII"), "{error}");
        }
        let error = "Acme/app".parse::<Scope>().unwrap_err().to_string();
        assert!(error.contains("`Acme/app` is not a scope: write a repository"), "{error}");
    }

    #[test]
    fn scopes_compile_to_plain_patterns() {
        assert_eq!(scope("acme/app").patterns(), ["acme/app:*", "acme/app@*"]);
        assert_eq!(scope("acme/app:v*").patterns(), ["acme/app:v*"]);
        assert_eq!(scope("acme/*").patterns(), ["acme/*"]);
        assert_eq!(scope("acme/**").patterns()[..2], ["acme/*", "acme/*/*"]);
        assert_eq!(scope("acme/**").patterns().len(), 7);
        assert_eq!(scope("**").patterns().len(), 8);
        assert_eq!(scope("**").patterns()[1], "*/*");
    }

    #[test]
    fn patterns_are_spelled_as_scopes_again() {
        for text in ["acme/app", "acme/app:v*", "acme/app:v1", "acme/app:*", "acme/*", "acme/**", "*", "**"] {
            assert_eq!(Scope::spell(&scope(text).patterns()), text);
        }
        let both = [scope("acme/a").patterns(), scope("acme/b/**").patterns()].concat();
        assert_eq!(Scope::spell(&both), "acme/a, acme/b/**");
        assert_eq!(Scope::spell(&["a?c".to_owned(), "acme/x@*".to_owned()]), "a?c, acme/x@*");
    }

    #[test]
    fn scopes_cover_what_they_say() {
        for (text, name, covered) in [
            ("acme/app", "acme/app:v1", true),
            ("acme/app", "acme/app/sub:v1", false),
            ("acme/app", "acme/app2:v1", false),
            ("acme/*", "acme/app:v1", true),
            ("acme/*", "acme/app/sub:v1", false),
            ("acme/*", "acme:v1", false),
            ("acme/**", "acme/a/b/c:v1", true),
            ("acme/**", "acme:v1", false),
            ("acme/**", "acme2/a:v1", false),
            ("acme/app:v*", "acme/app:v1", true),
            ("acme/app:v*", "acme/app:latest", false),
            ("**", "a/b/c:v1", true),
            ("*", "a/b:v1", false),
            ("*", "a:v1", true),
        ] {
            assert_eq!(scope(text).covers(name), covered, "{text} covers {name}");
        }
        assert!(scope("acme/app").covers(&format!("acme/app@{}", crate::oci::Digest::of(b""))));
    }

    #[test]
    fn a_child_lies_inside_its_parent() {
        for (child, parent, inside) in [
            ("acme/app", "acme/**", true),
            ("acme/app", "acme/*", true),
            ("acme/app:v*", "acme/app", true),
            ("acme/app:v1*", "acme/app:v*", true),
            ("acme/app", "acme/app:v*", false),
            ("acme/a/b", "acme/*", false),
            ("acme/a/**", "acme/**", true),
            ("acme/**", "acme/a/**", false),
            ("acme/**", "**", true),
            ("other/app", "acme/**", false),
            ("acme", "acme/**", false),
            ("acme2/**", "acme/**", false),
            ("acme/*", "acme/*", true),
            ("acme/*", "acme/app", false),
        ] {
            assert_eq!(scope(child).within(&scope(parent)), inside, "{child} in {parent}");
        }
    }

    #[test]
    fn the_more_specific_scope_is_the_greater_one() {
        let rising = [
            "**", "*", "a/**", "a/*", "a", "a:*", "a:v*", "a:v1*", "a/b/**", "a/b/*", "a/b", "a/b:*",
            "a/b/c/**",
        ];
        assert!(rising.map(|text| scope(text).specificity()).is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn tags_of_two_repositories_never_overlap() {
        for (one, other, overlap) in [
            ("a/x:v*", "a/y:v*", false),
            ("a/x:v*", "a/x:*1", true),
            ("a/x:v*", "a/x:w*", false),
            ("a/x:*1", "a/x:*2", false),
            ("a/x:v1", "a/x:v*", true),
            ("a/x:v*", "a/x:w1", false),
            ("a/x:v1", "a/x:v1", true),
            ("a/x:v1", "a/y:v1", false),
        ] {
            assert_eq!(scope(one).overlaps(&scope(other)), overlap, "{one} and {other}");
            assert_eq!(scope(other).overlaps(&scope(one)), overlap, "{other} and {one}");
        }
    }

    #[test]
    fn people_are_told_what_lies_inside() {
        for (text, words) in [
            ("a/b", "every tag and digest of a/b; nothing below a/b/"),
            ("a/b:v*", "the tags v* of a/b; no digests"),
            ("*", "every repository whose name has no `/`; nothing below them"),
            ("a/*", "every repository one level below a/; not a itself, nothing deeper"),
            ("**", "every repository"),
            ("a/**", "every repository below a/, at any depth; not a itself"),
        ] {
            assert_eq!(scope(text).in_words(), words);
            assert_eq!(scope(text).holds_digests(), !text.contains(':'), "{text}");
            assert_eq!(String::from(scope(text)), text);
        }
    }

    #[test]
    fn what_is_not_a_scope_is_refused() {
        for bad in [
            "",
            "/",
            "acme/",
            "acme/***",
            "a*/b",
            "acme/[x]",
            "acme/{a,b}",
            "A/b",
            "acme/x:",
            "acme/x:?",
            "acme/../b",
            "a/a/a/a/a/a/a/a/**",
        ] {
            assert!(bad.parse::<Scope>().is_err(), "{bad}");
        }
        for good in ["*", "**", "acme", "acme/app", "acme/app:v*", "acme/app:*", "acme/*", "acme/b/**"] {
            assert_eq!(scope(good).to_string(), good);
        }
    }

    proptest! {
        #[test]
        fn inside_means_every_covered_name_is_covered(
            child in "[ab](/[ab]){0,2}(/\\*|/\\*\\*|:[ab]\\*|)",
            parent in "[ab](/[ab]){0,2}(/\\*|/\\*\\*|:[ab]\\*|)",
            name in "[ab](/[ab]){0,3}:[ab]{1,2}",
        ) {
            let (child, parent) = (scope(&child), scope(&parent));
            if child.within(&parent) && child.covers(&name) {
                prop_assert!(parent.covers(&name));
            }
        }
    }
}
