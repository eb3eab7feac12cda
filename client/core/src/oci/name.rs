//! Target names: what a TUF target is called when it is an artifact in a registry (docs/oci-mapping.md, "Names").

use std::{fmt, str::FromStr};

use super::{Digest, Tag, valid_repository};

/// A target name. It carries no host: which registry it stands for is the client's policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetName {
    /// `acme/net-monitor:v1`: what the tag means now.
    Tag {
        /// The repository.
        repository: String,
        /// The tag.
        tag: Tag,
    },
    /// `acme/net-monitor@sha256:<hex>`: this digest may run.
    Digest {
        /// The repository.
        repository: String,
        /// The digest.
        digest: Digest,
    },
}

/// A text that is not a target name of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a target name: expected REPOSITORY:TAG or REPOSITORY@sha256:HEX")]
pub struct TargetNameError {
    /// What was given, cut to 300 characters.
    pub text: String,
}

impl TargetName {
    /// The repository part.
    pub fn repository(&self) -> &str {
        match self {
            Self::Tag { repository, .. } | Self::Digest { repository, .. } => repository,
        }
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag { repository, tag } => write!(f, "{repository}:{tag}"),
            Self::Digest { repository, digest } => write!(f, "{repository}@{digest}"),
        }
    }
}

impl FromStr for TargetName {
    type Err = TargetNameError;

    fn from_str(text: &str) -> Result<Self, TargetNameError> {
        let refuse = || TargetNameError { text: text.chars().take(300).collect() };
        let (repository, name) = if let Some((repository, digest)) = text.split_once('@') {
            let digest = digest.parse().map_err(|_| refuse())?;
            (repository, Self::Digest { repository: repository.to_owned(), digest })
        } else {
            let (repository, tag) = text.rsplit_once(':').ok_or_else(refuse)?;
            let tag = tag.parse().map_err(|_| refuse())?;
            (repository, Self::Tag { repository: repository.to_owned(), tag })
        };
        if valid_repository(repository) { Ok(name) } else { Err(refuse()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_hold_no_glob() {
        let digest = Digest::of(b"");
        for good in ["acme/net-monitor:v1".to_owned(), format!("acme/net-monitor@{digest}"), "a:b".to_owned()]
        {
            let name = good.parse::<TargetName>().unwrap();
            assert_eq!(name.to_string(), good);
            assert_eq!(name.repository(), good.split([':', '@']).next().unwrap());
        }
        // T61.
        for bad in [
            "acme/x",
            "acme/x:",
            "/acme/x:v1",
            "acme/../x:v1",
            "acme/x:v*",
            "acme/*:v1",
            "acme/x@v1",
            "x:y/z",
            "a:b:c",
        ] {
            assert!(bad.parse::<TargetName>().is_err(), "{bad}");
        }
    }
}
