//! Path patterns of delegations (TUF 1.0.34, 4.5, PATHPATTERN).

/// True if `pattern` matches `name`: segment by segment (`/` separates), `*` any run of characters inside a segment,
/// `?` one of them, everything else itself and case-sensitive. No normalisation of any kind.
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

/// Greedy matching that returns to the last `*` only: at most `pattern.len() * name.len()` steps.
fn segment_matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
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

    /// T36: a pattern made to backtrack costs its length times the name's.
    #[test]
    fn a_hostile_pattern_is_bounded() {
        assert!(!matches(&"*a".repeat(2_000), &"a".repeat(1_999)));
        assert!(!matches(&format!("{}b", "a*".repeat(1_000)), &"a".repeat(10_000)));
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
