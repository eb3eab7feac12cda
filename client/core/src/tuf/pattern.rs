//! Path patterns of delegations (TUF 1.0.34, 4.5, PATHPATTERN).

/// True if `pattern` matches `name`: segment by segment (`/` separates), `*` any run of characters inside a segment,
/// `?` one of them, everything else itself and case-sensitive. No normalisation of any kind.
///
/// `*` and `?` are the wildcards that 4.5 names. `[` and `{` are characters like any other, though python-tuf and go-tuf
/// read `[...]` as a set: such a pattern covers fewer names here, and is refused where delegations are authored.
///
/// Allocates nothing. The time is that of reading both, and for a text with `?` between two `*` at most its length times
/// the name's.
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut segments = (pattern.split('/'), name.split('/'));
    loop {
        match (segments.0.next(), segments.1.next()) {
            (None, None) => return true,
            (Some(pattern), Some(name)) if segment_matches(pattern, name) => {}
            _ => return false,
        }
    }
}

/// What stands before the first `*` must start the name and what stands after the last one must end it; each text in
/// between is taken where it is found first, which leaves the most for those after it.
fn segment_matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return without_head(name, pattern) == Some("");
    };
    let (texts, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    let inner = without_head(name, head).and_then(|name| without_tail(name, tail));
    inner.is_some_and(|name| texts.split('*').try_fold(name, after_first).is_some())
}

/// What follows `head`, whose `?` are any character, at the start of `name`.
fn without_head<'a>(name: &'a str, head: &str) -> Option<&'a str> {
    let mut rest = name.chars();
    head.chars().all(|c| rest.next().is_some_and(|found| c == '?' || c == found)).then_some(rest.as_str())
}

/// What stands before `tail`, whose `?` are any character, at the end of `name`.
fn without_tail<'a>(name: &'a str, tail: &str) -> Option<&'a str> {
    let mut rest = name.chars();
    tail.chars()
        .rev()
        .all(|c| rest.next_back().is_some_and(|found| c == '?' || c == found))
        .then_some(rest.as_str())
}

/// What follows the first place in `name` where `text` stands, whose `?` are any character.
fn after_first<'a>(name: &'a str, text: &str) -> Option<&'a str> {
    if !text.contains('?') {
        return name.find(text).map(|at| &name[at + text.len()..]);
    }
    name.char_indices().find_map(|(at, _)| without_head(&name[at..], text))
}

/// True if every name that `child` matches is surely matched by one of `parents`.
///
/// For authoring and submission only; clients check each name against every pattern on its path instead. It never says
/// yes wrongly. It says no to some patterns that are contained in a union or in a way that a single `*` at the end of
/// a segment does not show.
pub fn within(child: &str, parents: &[String]) -> bool {
    parents.iter().any(|parent| {
        let (child, parent): (Vec<_>, Vec<_>) = (child.split('/').collect(), parent.split('/').collect());
        child.len() == parent.len() && child.iter().zip(parent).all(|(c, p)| segment_within(c, p))
    })
}

fn segment_within(child: &str, parent: &str) -> bool {
    child == parent
        || parent.strip_suffix('*').is_some_and(|head| !head.contains(['*', '?']) && child.starts_with(head))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// T38.
    #[test]
    fn patterns_match_per_segment() {
        for (pattern, name, expected) in [
            ("acme/net-monitor:*", "acme/net-monitor:v1", true),
            ("acme/net-monitor:*", "acme/net-monitor2:v1", false),
            ("acme/net-monitor:*", "acme/net-monitor", false),
            ("acme/*", "acme/a:v1", true),
            ("acme/*", "acme/a/b:v1", false),
            ("acme/*/*", "acme/a/b:v1", true),
            ("*", "a/b", false),
            ("**", "a/b", false),
            ("**", "ab", true),
            ("a/**", "a/b/c", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a?c", "a/c", false),
            ("a[b]c", "abc", false),
            ("a[b]c", "a[b]c", true),
            ("{a,b}", "a", false),
            ("/a", "a", false),
            ("a", "./a", false),
            ("a/b", "a//b", false),
            ("a/*/b", "a//b", true),
            ("a/b", "a%2fb", false),
            ("\u{e9}", "e\u{301}", false),
            ("A", "a", false),
            ("", "", true),
            ("*", "", true),
            ("?", "é", true),
            ("a*b*c", "aXbXbc", true),
            ("a*b*c", "aXbXb", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} ~ {name}");
        }
    }

    /// T36: a pattern made to backtrack does not.
    #[test]
    fn a_hostile_pattern_is_bounded() {
        assert!(!matches(&"*a".repeat(2_000), &"a".repeat(1_999)));
        assert!(!matches(&format!("{}b", "a*".repeat(1_000)), &"a".repeat(10_000)));
    }

    /// The definition, as a recursion over all that a `*` could take.
    fn by_definition(pattern: &[char], name: &[char]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, _) => name.is_empty(),
            (Some(('*', rest)), _) => {
                by_definition(rest, name)
                    || name.split_first().is_some_and(|(&c, after)| c != '/' && by_definition(pattern, after))
            }
            (Some(('?', rest)), Some((&c, after))) => c != '/' && by_definition(rest, after),
            (Some((p, rest)), Some((c, after))) => p == c && by_definition(rest, after),
            (Some(_), None) => false,
        }
    }

    #[test]
    fn within_knows_what_we_emit() {
        let parent = ["acme/*".to_owned(), "acme/*/*".to_owned()];
        assert!(within("acme/x:*", &parent));
        assert!(within("acme/*/b@*", &parent));
        assert!(!within("acme/a/b/c:*", &parent));
        assert!(!within("*/x:*", &parent));
        assert!(!within("acme2/x:*", &parent));
        assert!(within("acme/x:v1*", &["acme/x:v*".to_owned()]));
        assert!(!within("acme/x:*", &["acme/x:v*".to_owned()]));
        assert!(!within("acme/xx", &["acme/*?".to_owned()]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// T38: no shortcut changes a verdict.
        #[test]
        fn matching_is_what_its_definition_says(pattern in "[ab*?/é]{0,9}", name in "[ab/é]{0,9}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            let expected = by_definition(&chars(&pattern), &chars(&name));
            prop_assert_eq!(matches(&pattern, &name), expected, "{} ~ {}", pattern, name);
        }

        #[test]
        fn within_never_says_yes_wrongly(
            child in "[ab:*?/]{1,8}", parent in "[ab:*?/]{1,8}", name in "[ab:/]{0,8}",
        ) {
            if within(&child, std::slice::from_ref(&parent)) && matches(&child, &name) {
                prop_assert!(matches(&parent, &name), "{} in {} but not {}", child, parent, name);
            }
        }
    }
}
