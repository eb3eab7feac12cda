//! Where metadata may be fetched. A place is transport: trust is keyed by the root, so a wrong one can at worst say nothing.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::oci::{ReferenceError, RepositoryAddress};

/// One place that holds the metadata of a trust repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// `HOST/REPOSITORY`: a repository on a registry.
    Registry(RepositoryAddress),
    /// `oci:PATH`: an OCI layout folder; a relative path starts at the policy file's folder.
    Layout(PathBuf),
    /// `http://…` or `https://…`: the folder of a plain TUF repository's metadata. No user, query or fragment.
    Tuf(String),
}

/// A text that is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// It holds a `{` or `}`: places are never put together from what is asked for.
    #[error("`{text}`: a place is written out in full; nothing is filled in for braces")]
    Braces {
        /// What was given, cut to 300 characters.
        text: String,
    },
    /// A URL that could not be followed as it stands.
    #[error(
        "`{text}` must be http://HOST/PATH or https://HOST/PATH, without user, query, fragment or spaces"
    )]
    Url {
        /// What was given, cut to 300 characters.
        text: String,
    },
    /// `oci:` without a path.
    #[error("`{text}`: after oci: comes the path of a folder")]
    Layout {
        /// What was given, cut to 300 characters.
        text: String,
    },
    /// Not a repository.
    #[error("a place is HOST/REPOSITORY, oci:PATH or a URL")]
    Registry(#[from] ReferenceError),
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let shown = || text.chars().take(300).collect::<String>();
        if text.contains(['{', '}']) {
            return Err(PlaceError::Braces { text: shown() });
        }
        if let Some(path) = text.strip_prefix("oci:") {
            if path.is_empty() || path.starts_with("//") || path.contains(char::is_control) {
                return Err(PlaceError::Layout { text: shown() });
            }
            return Ok(Self::Layout(PathBuf::from(path)));
        }
        let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) else {
            return Ok(Self::Registry(text.parse()?));
        };
        let host = rest.split('/').next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '@' | '\\' | '"' | '<' | '>');
        if crate::oci::valid_host(host) && rest.chars().all(plain) {
            Ok(Self::Tuf(text.to_owned()))
        } else {
            Err(PlaceError::Url { text: shown() })
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(repository) => write!(f, "{repository}"),
            Self::Layout(path) => write!(f, "oci:{}", path.display()),
            Self::Tuf(url) => f.write_str(url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart_by_how_they_begin() {
        let registry = Place::Registry("r.io/acme/trust".parse().unwrap());
        for (text, place) in [
            ("r.io/acme/trust", registry),
            ("oci:exports/acme", Place::Layout("exports/acme".into())),
            ("oci:/srv/acme", Place::Layout("/srv/acme".into())),
            ("http://[::1]:8080/tuf/acme/metadata", Place::Tuf("http://[::1]:8080/tuf/acme/metadata".into())),
            ("https://d.example.com", Place::Tuf("https://d.example.com".into())),
        ] {
            assert_eq!(text.parse(), Ok(place.clone()), "{text}");
            assert_eq!(place.to_string(), text);
        }
    }

    #[test]
    fn what_could_be_filled_in_or_read_in_two_ways_is_no_place() {
        for braces in ["r.io/{name}/trust", "https://{host}/x", "oci:{x}", "r.io/a}"] {
            assert!(matches!(braces.parse::<Place>(), Err(PlaceError::Braces { .. })), "{braces}");
        }
        for url in [
            "https://",
            "https:///x",
            "https://u:p@h/x",
            "https://h/x?y",
            "https://h/x#y",
            "https://h/a b",
            "http://h/é",
            "http://h:0/x",
            "http://h\\x/",
        ] {
            assert!(matches!(url.parse::<Place>(), Err(PlaceError::Url { .. })), "{url}");
        }
        for layout in ["oci:", "oci://x", "oci:a\nb"] {
            assert!(matches!(layout.parse::<Place>(), Err(PlaceError::Layout { .. })), "{layout:?}");
        }
        for other in ["", "ftp://h/x", "r.io/x:v1", "HTTPS://h/x", "r.io"] {
            assert!(!matches!(other.parse::<Place>(), Ok(Place::Tuf(_) | Place::Layout(_))), "{other}");
        }
        assert!(matches!("r.io/x:v1".parse::<Place>(), Err(PlaceError::Registry(_))));
    }
}
