//! The inbox: where publishers who reach nothing but the registry leave submissions, and find the daemon's answers.
//!
//! Nothing in it is signed by whoever put it there. A submission counts by the signatures of its documents, and an answer
//! is a hint: success is a timestamp that names the documents, and nothing else.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};

use super::write::{Artifact, Profile};
use crate::oci::{
    Descriptor, Digest, EMPTY_CONFIG, Manifest, ManifestError, ReferenceError, RepositoryAddress, media_type,
};

/// What a submission is: its manifest's artifact type and its layer's media type.
pub const SUBMISSION_TYPE: &str = "application/vnd.plimsoll.submission.v1+json";
/// What an answer is: its manifest's artifact type and its layer's media type.
pub const ANSWER_TYPE: &str = "application/vnd.plimsoll.answer.v1+json";
/// The largest manifest that is read in an inbox, in bytes.
pub const MAX_INBOX_MANIFEST: usize = 8 << 10;
/// The last part of the repository's name.
const INBOX: &str = "inbox";
/// When an answer was written (OCI image spec 1.1, "Pre-Defined Annotation Keys").
const CREATED: &str = "org.opencontainers.image.created";

/// What lies under one tag of an inbox, by its manifest: an unsigned hint, whatever the tag's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A submission; the descriptor of its one layer, which the caller has yet to hold to a limit.
    Submission(Descriptor),
    /// An answer.
    Answer {
        /// Its one layer, which the caller has yet to hold to a limit.
        layer: Descriptor,
        /// When it says that it was written; none if it does not, or not in RFC 3339.
        created: Option<DateTime<Utc>>,
    },
}

/// Why a manifest is neither a submission nor an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InboxError {
    /// Longer than [`MAX_INBOX_MANIFEST`].
    #[error("the manifest has {size} bytes, at most {MAX_INBOX_MANIFEST} are read")]
    TooLarge {
        /// Its length in bytes.
        size: usize,
    },
    /// Not an image manifest.
    #[error("the manifest cannot be read")]
    Manifest(#[from] ManifestError),
    /// An artifact of another type.
    #[error("`{found}` is neither a submission nor an answer")]
    Type {
        /// Its artifact type, or its config's media type; cut to 200 characters.
        found: String,
    },
    /// Not exactly one layer, or one of another type than the manifest's.
    #[error("not one layer of the manifest's own type but {count} layers")]
    Layers {
        /// How many layers there are.
        count: usize,
    },
}

/// The inbox of the trust repository `trust`: `HOST/REPOSITORY/inbox`.
///
/// # Errors
/// [`ReferenceError`] if that name is too long for a repository.
pub fn inbox(trust: &RepositoryAddress) -> Result<RepositoryAddress, ReferenceError> {
    format!("{trust}/{INBOX}").parse()
}

/// The tag of the submission whose JSON has this digest: `s-` and the digest's 64 hex digits.
pub fn submission_tag(submission: &Digest) -> String {
    format!("s-{}", submission.hex())
}

/// The tag of the answer to it: `a-` and the same digits.
pub fn answer_tag(submission: &Digest) -> String {
    format!("a-{}", submission.hex())
}

/// The artifact that leaves `json`, the very body of a submission over HTTP, in an inbox. Equal input gives equal bytes.
pub fn submission(json: &[u8], profile: Profile) -> Artifact {
    artifact(SUBMISSION_TYPE, submission_tag(&Digest::of(json)), json, BTreeMap::new(), profile)
}

/// The artifact that answers `submission` at `now` with `json`, the very body of an answer over HTTP.
pub fn answer(submission: &Digest, json: &[u8], now: DateTime<Utc>, profile: Profile) -> Artifact {
    let created = (CREATED.to_owned(), now.to_rfc3339_opts(SecondsFormat::Secs, true));
    artifact(ANSWER_TYPE, answer_tag(submission), json, BTreeMap::from([created]), profile)
}

/// Reads an untrusted manifest of an inbox, in either [`Profile`]. Whether the registry's `Content-Type` agrees with it is
/// for the caller to check.
///
/// # Errors
/// [`InboxError`], by rule.
pub fn read(manifest: &[u8]) -> Result<Entry, InboxError> {
    if manifest.len() > MAX_INBOX_MANIFEST {
        return Err(InboxError::TooLarge { size: manifest.len() });
    }
    let manifest = Manifest::parse(manifest)?;
    let found = manifest.artifact_type.as_ref().unwrap_or(&manifest.config.media_type);
    if found != SUBMISSION_TYPE && found != ANSWER_TYPE {
        return Err(InboxError::Type { found: found.chars().take(200).collect() });
    }
    let [layer] = manifest.layers.as_slice() else {
        return Err(InboxError::Layers { count: manifest.layers.len() });
    };
    if layer.media_type != *found {
        return Err(InboxError::Layers { count: 1 });
    }
    if found == SUBMISSION_TYPE {
        return Ok(Entry::Submission(layer.clone()));
    }
    let created = manifest.annotations.get(CREATED).and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    Ok(Entry::Answer { layer: layer.clone(), created: created.map(|at| at.to_utc()) })
}

fn artifact(
    kind: &str,
    tag: String,
    json: &[u8],
    annotations: BTreeMap<String, String>,
    profile: Profile,
) -> Artifact {
    let (artifact_type, config_type) = match profile {
        Profile::Oci11 => (Some(kind.to_owned()), media_type::EMPTY),
        Profile::Oci10 => (None, kind),
    };
    let layer = Descriptor::of(kind, json);
    let blobs = vec![(Digest::of(EMPTY_CONFIG), EMPTY_CONFIG.to_vec()), (layer.digest, json.to_vec())];
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.to_owned()),
        artifact_type,
        config: Descriptor::of(config_type, EMPTY_CONFIG),
        layers: vec![layer],
        annotations,
    };
    let manifest = manifest.to_bytes();
    Artifact { tag, digest: Digest::of(&manifest), manifest, blobs }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Profile; 2] = [Profile::Oci11, Profile::Oci10];

    #[test]
    fn what_is_written_is_read() {
        let now = "2026-11-21T14:30:00Z".parse().unwrap();
        for profile in BOTH {
            let left = submission(b"{\"documents\":{}}", profile);
            let layer = Descriptor::of(SUBMISSION_TYPE, b"{\"documents\":{}}");
            assert_eq!(left.tag, format!("s-{}", layer.digest.hex()));
            assert_eq!(read(&left.manifest).unwrap(), Entry::Submission(layer.clone()));
            let answered = answer(&layer.digest, b"{}", now, profile);
            assert_eq!(answered.tag, format!("a-{}", layer.digest.hex()));
            let expected = Entry::Answer { layer: Descriptor::of(ANSWER_TYPE, b"{}"), created: Some(now) };
            assert_eq!(read(&answered.manifest).unwrap(), expected);
        }
        assert_ne!(submission(b"x", BOTH[0]).digest, submission(b"x", BOTH[1]).digest);
    }

    #[test]
    fn the_inbox_lies_below_the_trust_repository() {
        let trust = "r.io/acme/trust".parse().unwrap();
        assert_eq!(inbox(&trust).unwrap().to_string(), "r.io/acme/trust/inbox");
        let long = format!("r.io/{}", "a".repeat(250)).parse().unwrap();
        assert!(inbox(&long).is_err());
    }

    /// T43, T77.
    #[test]
    fn what_is_neither_submission_nor_answer_is_refused() {
        let sound = submission(b"x", Profile::Oci11).manifest;
        let text = String::from_utf8(sound.clone()).unwrap();
        let wide = text.replace("}],", "},").replace("\"layers\":[", "\"layers\":[null,");
        let mut many = Manifest::parse(&sound).unwrap();
        many.layers = vec![Descriptor::of(SUBMISSION_TYPE, b"x"); 20];
        let mut none = many.clone();
        none.layers.clear();
        let mut other = many.clone();
        other.layers = vec![Descriptor::of(ANSWER_TYPE, b"x")];
        let padded = [sound.as_slice(), &vec![b' '; MAX_INBOX_MANIFEST]].concat();
        assert!(matches!(read(&padded), Err(InboxError::TooLarge { .. })));
        assert!(matches!(read(&many.to_bytes()), Err(InboxError::Layers { count: 20 })));
        assert!(matches!(read(&none.to_bytes()), Err(InboxError::Layers { count: 0 })));
        assert!(matches!(read(&other.to_bytes()), Err(InboxError::Layers { count: 1 })));
        let image = text.replace("\"artifactType\":\"application/vnd.plimsoll.submission.v1+json\",", "");
        assert!(
            matches!(read(image.as_bytes()), Err(InboxError::Type { found }) if found == media_type::EMPTY)
        );
        for bytes in ["", "{}", wide.as_str(), &text.replace("\"layers\"", "\"manifests\":[],\"layers\"")] {
            assert!(matches!(read(bytes.as_bytes()), Err(InboxError::Manifest(_))), "{bytes}");
        }
    }

    #[test]
    fn a_date_that_cannot_be_read_is_none() {
        let written =
            answer(&Digest::of(b"x"), b"{}", "2026-11-21T14:30:00Z".parse().unwrap(), Profile::Oci11);
        let text = String::from_utf8(written.manifest).unwrap().replace("2026-11-21T", "yesterday ");
        assert!(matches!(read(text.as_bytes()), Ok(Entry::Answer { created: None, .. })));
    }
}
