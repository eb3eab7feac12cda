//! Names in URLs: a name that others chose is one path segment, or a path below the base, whatever it holds.

use url::Url;

use crate::percent::{encoded, unreserved};

/// `path`, percent-encoded already, below `base`. The base's own path and query stay as they are.
pub(super) fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    let folder = base.path();
    let slash = if folder.ends_with('/') { "" } else { "/" };
    url.set_path(&format!("{folder}{slash}{path}"));
    url
}

/// `name` as one path segment: all but RFC 3986's unreserved characters are encoded, `%` among them.
pub(super) fn segment(name: &str) -> String {
    encoded(name, |_, byte| unreserved(byte))
}

/// The target name `name` as a path: a path-relative URL (TUF 1.0.34, 4.5, TARGETPATH), so that what is percent-encoded
/// in it stays as it is, and `/` separates. Everything else that a path cannot hold is encoded.
pub(super) fn target_path(name: &str) -> String {
    let is_code = |at: usize| {
        let digits = name.as_bytes().get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    encoded(name, |at, byte| match byte {
        b'%' => is_code(at),
        _ => unreserved(byte) || b"/!$&'()*+,;=:@".contains(&byte),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_stays_as_it_is() {
        for (base, url) in [
            ("http://h:1/a%2Fb%5Bc%5d/", "http://h:1/a%2Fb%5Bc%5d/1.root.json"),
            ("http://h:1/a", "http://h:1/a/1.root.json"),
            ("http://h:1", "http://h:1/1.root.json"),
            ("http://h:1/a//", "http://h:1/a//1.root.json"),
            ("http://h:1/a?sig=x%2F", "http://h:1/a/1.root.json?sig=x%2F"),
        ] {
            assert_eq!(below(&base.parse().unwrap(), "1.root.json").as_str(), url);
        }
    }

    /// T60: no role name leaves its segment.
    #[test]
    fn a_role_name_is_one_segment() {
        let base: Url = "http://h/m/".parse().unwrap();
        for (role, url) in [
            ("?", "http://h/m/1.%3F.json"),
            ("#", "http://h/m/1.%23.json"),
            ("/x", "http://h/m/1.%2Fx.json"),
            ("../x", "http://h/m/1...%2Fx.json"),
            ("..", "http://h/m/1....json"),
            ("a%2fb", "http://h/m/1.a%252fb.json"),
            ("a\\b\0", "http://h/m/1.a%5Cb%00.json"),
            ("é b", "http://h/m/1.%C3%A9%20b.json"),
        ] {
            assert_eq!(below(&base, &segment(&format!("1.{role}.json"))).as_str(), url);
        }
    }

    #[test]
    fn a_target_name_is_a_relative_url() {
        let base: Url = "http://h/t".parse().unwrap();
        for (name, url) in [
            ("dir/file.txt", "http://h/t/dir/file.txt"),
            ("acme/app:v1", "http://h/t/acme/app:v1"),
            ("a b?c#d", "http://h/t/a%20b%3Fc%23d"),
            ("a%20b%2Fc%zz", "http://h/t/a%20b%2Fc%25zz"),
            ("a\\b\té", "http://h/t/a%5Cb%09%C3%A9"),
        ] {
            assert_eq!(below(&base, &target_path(name)).as_str(), url);
        }
    }
}
