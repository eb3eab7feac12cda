//! `WWW-Authenticate` (RFC 9110, section 11.6.1), as far as registries use it.

use http::{HeaderMap, header::WWW_AUTHENTICATE};

/// All challenges of one answer together may not be longer, in bytes.
const MAX_HEADER: usize = 8 << 10;
const MAX_PARAMS: usize = 32;

/// How a registry wants to be shown credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// The challenge to follow: Bearer before Basic; `None` if there is neither, or one that cannot be read in one way.
    ///
    /// A challenge's `scope` is not read: what a token is for is our decision.
    pub(super) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut all = Vec::new();
        let mut length = 0;
        for value in headers.get_all(WWW_AUTHENTICATE) {
            length += value.len();
            if length > MAX_HEADER {
                return None;
            }
            all.extend(parse(value.to_str().ok()?)?);
        }
        let bearer = all.iter().find(|c| c.scheme == "bearer").and_then(|c| {
            let one = |name: &str| {
                let mut values = c.params.iter().filter(|(n, _)| n == name).map(|(_, v)| v.clone());
                (values.next(), values.next().is_none())
            };
            match (one("realm"), one("service")) {
                ((Some(realm), true), (service, true)) => Some(Self::Bearer { realm, service }),
                _ => None,
            }
        });
        bearer.or_else(|| all.iter().any(|c| c.scheme == "basic").then_some(Self::Basic))
    }
}

/// One challenge: scheme and parameter names in lower case.
struct Parsed {
    scheme: String,
    params: Vec<(String, String)>,
}

fn parse(text: &str) -> Option<Vec<Parsed>> {
    let mut rest = text;
    let mut all: Vec<Parsed> = Vec::new();
    let mut params = 0;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Some(all);
        }
        let name = token(&mut rest)?.to_ascii_lowercase();
        let after = rest.trim_start_matches([' ', '\t']);
        match after.strip_prefix('=') {
            // A name with a value belongs to the challenge before it; any other name begins a challenge.
            Some(value) => {
                params += 1;
                if params > MAX_PARAMS {
                    return None;
                }
                rest = value.trim_start_matches([' ', '\t']);
                // `Negotiate dG9rZW4=` ends in padding, which has no value.
                let value = match rest.strip_prefix('"') {
                    Some(quoted) => {
                        let (value, after) = quoted_string(quoted)?;
                        rest = after;
                        value
                    }
                    None => {
                        let end = rest.find([',', ' ', '\t']).unwrap_or(rest.len());
                        let (value, after) = rest.split_at(end);
                        rest = after;
                        value.to_owned()
                    }
                };
                all.last_mut()?.params.push((name, value));
            }
            None => all.push(Parsed { scheme: name, params: Vec::new() }),
        }
    }
}

fn token<'a>(rest: &mut &'a str) -> Option<&'a str> {
    let word = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c);
    let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
    let (token, after) = rest.split_at(end);
    *rest = after;
    (!token.is_empty()).then_some(token)
}

/// The text up to the closing quote, and what follows it.
fn quoted_string(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::from_headers(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
    }

    #[test]
    fn reads_what_registries_send() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        assert_eq!(read(&[hub]), bearer("https://auth.docker.io/token", Some("registry.docker.io")));
        assert_eq!(read(&[r#"Basic realm="Registry Realm""#]), Some(Challenge::Basic));
        assert_eq!(read(&["Basic"]), Some(Challenge::Basic));
        assert_eq!(
            read(&[r#"bearer REALM=https://r.io/t , Service = "a\"b""#]),
            bearer("https://r.io/t", Some("a\"b"))
        );
        assert_eq!(read(&[r#"Basic realm="x", Bearer realm="y""#]), bearer("y", None));
        assert_eq!(read(&[r#"Negotiate dG9rZW4=, Basic realm="x""#]), Some(Challenge::Basic));
        assert_eq!(read(&["Negotiate", r#"Bearer realm="y""#]), bearer("y", None));
    }

    #[test]
    fn refuses_what_reads_in_two_ways_or_none() {
        for bad in [
            "",
            "Negotiate",
            r#"Bearer realm="a",realm="b""#,
            r#"Bearer realm="a",service="b",service="c""#,
            r#"Bearer service="b""#,
            r#"Bearer realm="open"#,
            r#"Bearer realm="a\"#,
            r#"realm="a""#,
            "Bearer realm=\"a\" @",
            "@",
        ] {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[&format!("Basic realm=\"{}\"", "x".repeat(MAX_HEADER))]), None);
        assert_eq!(read(&[&format!("Basic {}", "a=b,".repeat(MAX_PARAMS + 1))]), None);
    }
}
