//! References to images, in the grammar of OCI distribution 1.1 and with docker's defaults for the host.

use std::{fmt, str::FromStr};

use super::{Digest, DigestError};

/// The host that a reference without one means.
const DEFAULT_HOST: &str = "docker.io";
/// Other names of the same registry.
const DEFAULT_ALIASES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];
const MAX_NAME: usize = 255;

/// A repository on a registry, `HOST[:PORT]/NAME`, for example `registry.example.com/acme/trust`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryAddress {
    /// Host with an optional port, lower case; an IPv6 address in the spelling of RFC 5952.
    pub host: String,
    /// Repository name in the grammar of [`valid_repository`].
    pub name: String,
}

/// What a user names: a repository with a tag, a digest, or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The registry and repository.
    pub repository: RepositoryAddress,
    /// The tag, if one was written. A reference with neither tag nor digest means `:latest`.
    pub tag: Option<Tag>,
    /// The digest, if one was written.
    pub digest: Option<Digest>,
}

/// A tag: `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

/// A text that is not a reference or repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// It begins as a URL does.
    #[error("`{text}`: a reference is written without `{scheme}://`")]
    Scheme {
        /// The whole text, cut to 300 characters.
        text: String,
        /// What stands before `://`.
        scheme: String,
    },
    /// A character that no reference holds: a control character, a space, or one that may look like another.
    #[error(
        "character {at} of `{text}` is U+{code:04X}; a reference holds plain ASCII letters, digits and signs only"
    )]
    Character {
        /// The whole text, cut to 300 characters.
        text: String,
        /// Which one, from 1.
        at: usize,
        /// Its code point.
        code: u32,
    },
    /// The host part is not a host with an optional port.
    #[error("`{text}`: `{host}` is not a registry host")]
    Host {
        /// The whole text, cut to 300 characters.
        text: String,
        /// The part read as host.
        host: String,
    },
    /// The repository name breaks the grammar.
    #[error(
        "`{text}`: `{name}` is not a repository name (lower-case letters, digits, `.`, `_`, `-`, and `/`)"
    )]
    Name {
        /// The whole text, cut to 300 characters.
        text: String,
        /// The part read as name.
        name: String,
    },
    /// The tag breaks the grammar.
    #[error("`{text}`: `{tag}` is not a tag (letters, digits, `.`, `_`, `-`; at most 128)")]
    Tag {
        /// The whole text, cut to 300 characters.
        text: String,
        /// The part read as tag.
        tag: String,
    },
    /// The digest breaks the grammar.
    #[error("`{text}`: not a reference")]
    Digest {
        /// The whole text, cut to 300 characters.
        text: String,
        /// What is wrong with it.
        source: DigestError,
    },
    /// A repository was wanted, and the text has a tag or digest too.
    #[error("`{text}` has a tag or digest where only REGISTRY/REPOSITORY is wanted")]
    NotBare {
        /// The whole text, cut to 300 characters.
        text: String,
    },
}

/// True if `name` is a repository name: components of lower-case letters and digits, joined inside by one `.`, one or
/// two `_`, or any number of `-`, and separated by `/`; at most 255 characters (OCI distribution 1.1, "Pulling manifests").
pub fn valid_repository(name: &str) -> bool {
    name.len() <= MAX_NAME && name.split('/').all(valid_component)
}

fn valid_component(component: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    alnum(first)
        && alnum(last)
        && component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

/// True if `tag` matches `[A-Za-z0-9_][A-Za-z0-9._-]{0,127}`.
pub fn valid_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// Host name, IPv4 or bracketed IPv6, with an optional port.
pub(crate) fn valid_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let Some((address, tail)) = rest.split_once(']') else { return false };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            (None, tail)
        }
        None => {
            let at = host.find(':').unwrap_or(host.len());
            (Some(&host[..at]), &host[at..])
        }
    };
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    name.is_none_or(|name| name.len() <= 253 && name.split('.').all(label))
        && (port.is_empty()
            || port.strip_prefix(':').is_some_and(|p| {
                !p.starts_with('0')
                    && p.bytes().all(|b| b.is_ascii_digit())
                    && p.parse::<u16>().is_ok_and(|p| p > 0)
            }))
}

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if valid_tag(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ReferenceError::Tag { text: cut(text), tag: cut(text) })
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for RepositoryAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.name)
    }
}

impl FromStr for RepositoryAddress {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let reference: Reference = text.parse()?;
        if reference.tag.is_some() || reference.digest.is_some() {
            return Err(ReferenceError::NotBare { text: cut(text) });
        }
        Ok(reference.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    /// Reads `[HOST/]NAME[:TAG][@DIGEST]`. As in docker, the first component is a host if it has a `.` or `:` or is
    /// `localhost`; without a host, `docker.io` is meant, and a single-component name there is under `library/`. The
    /// other names of Docker Hub are read as `docker.io`, so that one policy holds whichever is written.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if let Some((at, odd)) = text.chars().enumerate().find(|(_, c)| !c.is_ascii_graphic()) {
            return Err(ReferenceError::Character { text: cut(text), at: at + 1, code: odd.into() });
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(ReferenceError::Scheme { text: cut(text), scheme: cut(scheme) });
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (
                rest,
                Some(digest.parse().map_err(|source| ReferenceError::Digest { text: cut(text), source })?),
            ),
            None => (text, None),
        };
        let (host, path) = match rest.split_once('/') {
            Some((first, path)) if first.contains(['.', ':', '[']) || first == "localhost" => {
                (Some(first), path)
            }
            _ => (None, rest),
        };
        let (name, tag) = match path.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (path, None),
        };
        if host.is_some_and(|h| !valid_host(h)) {
            return Err(ReferenceError::Host { text: cut(text), host: cut(host.unwrap_or_default()) });
        }
        if !valid_repository(name) {
            return Err(ReferenceError::Name { text: cut(text), name: cut(name) });
        }
        let tag = match tag {
            Some(tag) if valid_tag(tag) => Some(Tag(tag.to_owned())),
            Some(tag) => return Err(ReferenceError::Tag { text: cut(text), tag: cut(tag) }),
            None => None,
        };
        let host = host.map_or_else(|| DEFAULT_HOST.to_owned(), canonical_host);
        let host = if DEFAULT_ALIASES.contains(&host.as_str()) { DEFAULT_HOST.to_owned() } else { host };
        let name = if host == DEFAULT_HOST && !name.contains('/') {
            format!("library/{name}")
        } else {
            name.to_owned()
        };
        Ok(Self { repository: RepositoryAddress { host, name }, tag, digest })
    }
}

/// The one spelling of a host that [`valid_host`] accepts: lower case, and an IPv6 address as RFC 5952 writes it, so that
/// one machine is one host for policies, trust and credentials.
fn canonical_host(host: &str) -> String {
    let address = host.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    match address.and_then(|(address, port)| Some((address.parse::<std::net::Ipv6Addr>().ok()?, port))) {
        Some((address, port)) => format!("[{address}]{port}"),
        None => host.to_ascii_lowercase(),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_docker_reads() {
        for (text, shown) in [
            ("registry.example.com/acme/net-monitor:v1", "registry.example.com/acme/net-monitor:v1"),
            ("localhost/a", "localhost/a"),
            ("my-registry.io/a", "my-registry.io/a"),
            ("127.0.0.1:5000/a/b:v1", "127.0.0.1:5000/a/b:v1"),
            ("[::1]:5000/a", "[::1]:5000/a"),
            ("Registry.Example.com/a", "registry.example.com/a"),
            ("nginx:1.25", "docker.io/library/nginx:1.25"),
            ("acme/x", "docker.io/acme/x"),
            ("ubuntu", "docker.io/library/ubuntu"),
            ("docker.io", "docker.io/library/docker.io"),
            ("docker.io/ubuntu", "docker.io/library/ubuntu"),
            ("docker.io/library/ubuntu:22.04", "docker.io/library/ubuntu:22.04"),
            ("index.docker.io/ubuntu", "docker.io/library/ubuntu"),
            ("registry-1.docker.io/acme/x:v1", "docker.io/acme/x:v1"),
            ("Index.Docker.IO/acme/x", "docker.io/acme/x"),
            ("docker.io.example.com/ubuntu", "docker.io.example.com/ubuntu"),
            ("[2001:DB8::1]:5000/acme/x:v1", "[2001:db8::1]:5000/acme/x:v1"),
            ("[::1]/a", "[::1]/a"),
            ("[0:0:0::1]:5000/a", "[::1]:5000/a"),
            ("[2001:0DB8:0:0:0:0:0:0001]/a", "[2001:db8::1]/a"),
            ("[::FFFF:127.0.0.1]:5000/a", "[::ffff:127.0.0.1]:5000/a"),
            ("localhost:5000/a", "localhost:5000/a"),
            // A name with a colon and no slash has a tag, not a port.
            ("a:5000", "docker.io/library/a:5000"),
            ("r.io/a__b/c--d.e", "r.io/a__b/c--d.e"),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), shown);
        }
        let digest = Digest::of(b"x");
        let both = format!("r.io/a:v1@{digest}").parse::<Reference>().unwrap();
        assert_eq!((both.tag.unwrap().as_str(), both.digest), ("v1", Some(digest)));
    }

    /// T60, T61: a name that passes holds no glob character, no dot segment, no escape.
    #[test]
    fn refuses_names_outside_the_grammar() {
        for bad in [
            "",
            "r.io/",
            "r.io/A",
            "r.io/../x",
            "r.io//x",
            "r.io/x/",
            "r.io/a___b",
            "r.io/a..b",
            "r.io/a%2fb",
            "r.io/a\\b",
            "r.io/a*",
            "r.io/[a]",
            "r.io/-a",
            "r.io/a:",
            "r.io/a:-x",
            "r.io/a@sha256:00",
            "r.io:0/a",
            "r.io:99999/a",
            "r.io:05000/a",
            "r.io:/a",
            "r.io:https/a",
            "[::1/a",
            "::1/a",
            "[::1]5000/a",
            "[::1%25lo]:5000/a",
            "[fe80::1%lo]/a",
            "[]/a",
            "Ubuntu",
            "LOCALHOST/a",
            "Acme/x",
            "r.io/Acme/x",
            "r.io./a",
            "docker.io/",
            "r.io/a:v1:v2",
            "r.io/a@v1",
            "r.io/a:v1@",
            "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "-r.io/a",
            "r..io/a",
            "r_x.io/a",
            "r x.io/a",
            "[::g]/a",
            "r.io/a\0b",
            "r.io/é",
            "r.io/.",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
        assert!(format!("r.io/{}", "a".repeat(256)).parse::<Reference>().is_err());
        assert!(format!("r.io/a:{}", "a".repeat(129)).parse::<Reference>().is_err());
        for url in ["docker://r.io/a:v1", "https://r.io/a", "oci://a"] {
            assert!(matches!(url.parse::<Reference>(), Err(ReferenceError::Scheme { .. })), "{url}");
        }
        assert!(matches!("r.io/a:v1".parse::<RepositoryAddress>(), Err(ReferenceError::NotBare { .. })));
    }

    /// T61: what only looks like a name is told by its code point, since it cannot be seen.
    #[test]
    fn a_character_that_looks_like_another_is_named() {
        for (text, at, code) in [
            ("r.io/\u{430}cme/x", 6, 0x430),
            ("d\u{43e}cker.io/acme/x", 2, 0x43e),
            ("r.io/acme\u{2215}x", 10, 0x2215),
            ("r.io/acme/x\u{a789}v1", 12, 0xa789),
            ("r.io/acme/x:v\u{661}", 14, 0x661),
            ("r.io/acme/\u{200b}x", 11, 0x200b),
            ("\u{feff}r.io/acme/x", 1, 0xfeff),
            ("r.io/acme/x ", 12, 0x20),
            ("r.io/acme/x\n", 12, 0xa),
            ("r.io/acme/x\0", 12, 0),
        ] {
            let refused = ReferenceError::Character { text: text.to_owned(), at, code };
            assert_eq!(text.parse::<Reference>(), Err(refused), "{text:?}");
        }
    }

    proptest::proptest! {
        /// T60: one machine is one host, however its address is spelt, and what is shown is read as the same again.
        #[test]
        fn every_spelling_of_an_ipv6_address_is_one_host(
            parts in proptest::collection::vec(proptest::prop_oneof![proptest::strategy::Just(0u16), proptest::arbitrary::any::<u16>()], 8),
            upper in proptest::arbitrary::any::<bool>(),
            wide in proptest::arbitrary::any::<bool>(),
            port in proptest::option::of(1u16..),
        ) {
            let each = parts.iter().map(|part| if wide { format!("{part:04x}") } else { format!("{part:x}") });
            let spelt = each.collect::<Vec<_>>().join(":");
            let spelt = if upper { spelt.to_uppercase() } else { spelt };
            let port = port.map_or_else(String::new, |port| format!(":{port}"));
            let read = |address: &str| format!("[{address}]{port}/a:v1").parse::<Reference>().unwrap();
            let shortest: std::net::Ipv6Addr = spelt.parse().unwrap();
            proptest::prop_assert_eq!(&read(&spelt).repository.host, &format!("[{shortest}]{port}"));
            proptest::prop_assert_eq!(read(&spelt), read(&shortest.to_string()));
            proptest::prop_assert_eq!(read(&spelt).to_string().parse::<Reference>().unwrap(), read(&spelt));
        }
    }

    #[test]
    fn an_error_names_the_part_that_is_wrong_and_shows_no_endless_text() {
        let refusal = |text: &str| text.parse::<Reference>().unwrap_err();
        let name =
            |text: &str, name: &str| ReferenceError::Name { text: text.to_owned(), name: name.to_owned() };
        // What stands after a colon is no tag if a path goes on there.
        assert_eq!(refusal("r.io/a:v1/b"), name("r.io/a:v1/b", "a:v1/b"));
        let (long, cut) = ("X".repeat(301), "X".repeat(300));
        assert_eq!(refusal(&long), name(&cut, &cut));
    }
}
