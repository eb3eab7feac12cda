//! From a request's path to what it asks for. Names are checked here, so nothing unchecked reaches the disk.

use std::fmt;

use plimsoll_core::oci::{Digest, Tag, valid_repository};

use super::error::Refusal;

/// A repository name that passed [`valid_repository`]: safe as a relative path, and no component begins with `_`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repository(String);

/// What a manifest is asked for by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ManifestRef {
    Tag(Tag),
    Digest(Digest),
}

/// What a path asks for (OCI distribution 1.1, "Endpoints").
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    Base,
    Tags(Repository),
    Manifest(Repository, ManifestRef),
    Blob(Repository, Digest),
    Uploads(Repository),
    Upload(Repository, String),
}

impl Repository {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn parse(name: &str) -> Result<Self, Refusal> {
        if valid_repository(name) { Ok(Self(name.to_owned())) } else { Err(Refusal::NameInvalid(cut(name))) }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ManifestRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl Route {
    /// Reads the path from the right, since repository names hold slashes and may hold words like `blobs`.
    ///
    /// Nothing is percent-decoded: no valid path needs it.
    pub(super) fn parse(path: &str) -> Result<Self, Refusal> {
        let rest = match path.strip_prefix("/v2") {
            Some("" | "/") => return Ok(Self::Base),
            Some(rest) => rest.strip_prefix('/').ok_or(Refusal::NoSuchEndpoint)?,
            None => return Err(Refusal::NoSuchEndpoint),
        };
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Ok(Self::Tags(Repository::parse(name)?));
        }
        if let Some(name) =
            rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads"))
        {
            return Ok(Self::Uploads(Repository::parse(name)?));
        }
        let (head, last) = rest.rsplit_once('/').ok_or(Refusal::NoSuchEndpoint)?;
        if let Some(name) = head.strip_suffix("/blobs/uploads") {
            return Ok(Self::Upload(Repository::parse(name)?, cut(last)));
        }
        if let Some(name) = head.strip_suffix("/blobs") {
            return Ok(Self::Blob(Repository::parse(name)?, digest(last)?));
        }
        if let Some(name) = head.strip_suffix("/manifests") {
            return Ok(Self::Manifest(Repository::parse(name)?, reference(last)?));
        }
        Err(Refusal::NoSuchEndpoint)
    }
}

pub(super) fn digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|_| Refusal::DigestInvalid(cut(text)))
}

fn reference(text: &str) -> Result<ManifestRef, Refusal> {
    if text.contains(':') {
        return digest(text).map(ManifestRef::Digest);
    }
    text.parse().map(ManifestRef::Tag).map_err(|_| Refusal::TagInvalid(cut(text)))
}

fn cut(text: &str) -> String {
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn repository(name: &str) -> Repository {
        Repository::parse(name).unwrap()
    }

    #[test]
    fn paths_are_read_from_the_right() {
        let tag = |t: &str| ManifestRef::Tag(t.parse().unwrap());
        let sha = || HEX.parse::<Digest>().unwrap();
        for (path, route) in [
            ("/v2", Route::Base),
            ("/v2/", Route::Base),
            ("/v2/a/tags/list", Route::Tags(repository("a"))),
            ("/v2/a/tags/list/tags/list", Route::Tags(repository("a/tags/list"))),
            ("/v2/a/b/manifests/v1", Route::Manifest(repository("a/b"), tag("v1"))),
            ("/v2/a/blobs/uploads/manifests/v1", Route::Manifest(repository("a/blobs/uploads"), tag("v1"))),
            (&format!("/v2/a/manifests/{HEX}"), Route::Manifest(repository("a"), ManifestRef::Digest(sha()))),
            (&format!("/v2/blobs/blobs/{HEX}"), Route::Blob(repository("blobs"), sha())),
            ("/v2/a/b/blobs/uploads/", Route::Uploads(repository("a/b"))),
            ("/v2/a/b/blobs/uploads", Route::Uploads(repository("a/b"))),
            ("/v2/a/b/blobs/uploads/1f", Route::Upload(repository("a/b"), "1f".to_owned())),
        ] {
            assert_eq!(Route::parse(path).unwrap(), route, "{path}");
        }
    }

    /// T60, T63.
    #[test]
    fn no_unchecked_name_gets_through() {
        for path in [
            "/v2/a/manifests/../x",
            "/v2/a/manifests/..",
            "/v2/a/manifests/.x",
            "/v2/a/manifests/%2e%2e%2fx",
            "/v2/a/manifests/",
            "/v2/a/manifests/x\\y",
            "/v2/../manifests/v1",
            "/v2/a/../b/manifests/v1",
            "/v2/a//b/tags/list",
            "/v2/_tags/tags/list",
            "/v2/a/_tags/tags/list",
            "/v2/A/tags/list",
            "/v2/.a/tags/list",
            "/v2//tags/list",
            "/v2/a/blobs/sha256:../../x",
            "/v2/a/blobs/sha512:00",
            "/v2/a/blobs/x",
            "/v2x",
            "/v2/_catalog",
            "/v2/a/x/y",
            "/",
        ] {
            assert!(Route::parse(path).is_err(), "{path}");
        }
        assert!(Route::parse(&format!("/v2/{}/tags/list", "a".repeat(256))).is_err());
        assert!(Route::parse(&format!("/v2/a/manifests/{}", "a".repeat(129))).is_err());
    }
}
