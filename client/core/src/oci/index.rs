//! Image indexes (OCI image spec 1.1, image-index.md; docker's manifest lists have the same shape).

use serde::Deserialize;

use super::{Descriptor, Digest, media_type};
use crate::{record, tuf::json};

/// How many platform manifests of one index are read, those of indexes inside it among them.
pub const MAX_PLATFORMS: usize = 256;
/// What a size may be at most, bytes: the largest integer that every JSON reader keeps exactly.
const MAX_SIZE: u64 = (1 << 53) - 1;

/// Why bytes are not a usable image index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// Not strict JSON.
    #[error("the index is not strict JSON")]
    Json(#[from] json::JsonError),
    /// JSON, but not of an index's shape.
    #[error("the index does not have the shape of an image index")]
    Shape(#[from] serde_json::Error),
    /// `schemaVersion` is not 2.
    #[error("schemaVersion {0} instead of 2")]
    SchemaVersion(u8),
    /// The document's own `mediaType` is not the expected one.
    #[error("mediaType `{found}` where {expected} was expected")]
    MediaType {
        /// What it says of itself.
        found: String,
        /// What it was handed out as.
        expected: String,
    },
    /// `config` or `layers` stands beside `manifests`: the bytes could be read as two things (CVE-2021-41190).
    #[error("`config` or `layers` in an index: the document could be read as an image manifest too")]
    Ambiguous,
    /// More than [`MAX_PLATFORMS`] manifests.
    #[error("more than {MAX_PLATFORMS} manifests in one index")]
    TooMany,
    /// A size that no manifest has.
    #[error("{digest} is said to have {size} bytes")]
    Size {
        /// The manifest.
        digest: Digest,
        /// Its size, bytes.
        size: u64,
    },
}

/// True for the media types of an OCI image index and a docker manifest list.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, media_type::INDEX | media_type::DOCKER_LIST)
}

/// The manifests that an index of `media_type` lists, from untrusted `bytes`; the caller has capped their length. Each
/// digest once, in the order of the index; whatever platforms they are for, attestations among them.
///
/// # Errors
/// [`IndexError`], by rule.
pub fn read_index(bytes: &[u8], media_type: &str) -> Result<Vec<Descriptor>, IndexError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Index {
        schema_version: u8,
        media_type: Option<String>,
        manifests: Vec<Descriptor>,
        config: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
        fs_layers: Option<serde::de::IgnoredAny>,
    }
    json::check(bytes)?;
    let index: Index = record::json(bytes)?;
    if index.schema_version != 2 {
        return Err(IndexError::SchemaVersion(index.schema_version));
    }
    if let Some(found) = index.media_type.filter(|found| found != media_type) {
        let (found, expected) = (found.chars().take(200).collect(), media_type.to_owned());
        return Err(IndexError::MediaType { found, expected });
    }
    if index.config.is_some() || index.layers.is_some() || index.fs_layers.is_some() {
        return Err(IndexError::Ambiguous);
    }
    if index.manifests.len() > MAX_PLATFORMS {
        return Err(IndexError::TooMany);
    }
    let mut platforms: Vec<Descriptor> = Vec::new();
    for manifest in index.manifests {
        if manifest.size > MAX_SIZE {
            return Err(IndexError::Size { digest: manifest.digest, size: manifest.size });
        }
        if !platforms.iter().any(|known| known.digest == manifest.digest) {
            platforms.push(manifest);
        }
    }
    Ok(platforms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(head: &str, manifests: &[String]) -> Vec<u8> {
        format!("{{{head},\"manifests\":[{}]}}", manifests.join(",")).into_bytes()
    }

    fn manifest(content: &str) -> String {
        let digest = Digest::of(content.as_bytes());
        format!(r#"{{"mediaType":"{}","digest":"{digest}","size":7}}"#, media_type::MANIFEST)
    }

    #[test]
    fn each_manifest_is_listed_once_in_the_order_of_the_index() {
        let both = [manifest("b"), manifest("a"), manifest("b")];
        for media_type in [media_type::INDEX, media_type::DOCKER_LIST] {
            let head = format!(r#""schemaVersion":2,"mediaType":"{media_type}","subject":{{}}"#);
            for head in [head.as_str(), r#""schemaVersion":2"#] {
                let read = read_index(&index(head, &both), media_type).unwrap();
                let digests: Vec<Digest> = read.iter().map(|read| read.digest).collect();
                assert_eq!(digests, [Digest::of(b"b"), Digest::of(b"a")]);
            }
        }
    }

    /// T77: CVE-2021-41190, and what else is not plainly an index.
    #[test]
    fn what_could_be_something_else_is_refused() {
        let read = |head: &str| read_index(&index(head, &[manifest("a")]), media_type::INDEX);
        for member in ["config", "layers", "fsLayers"] {
            let head = format!(r#""schemaVersion":2,"{member}":[]"#);
            assert!(matches!(read(&head), Err(IndexError::Ambiguous)), "{member}");
        }
        let list = format!(r#""schemaVersion":2,"mediaType":"{}""#, media_type::DOCKER_LIST);
        assert!(matches!(read(&list), Err(IndexError::MediaType { .. })));
        assert!(matches!(read(r#""schemaVersion":1"#), Err(IndexError::SchemaVersion(1))));
        assert!(matches!(read(r#""schemaVersion":2,"schemaVersion":2"#), Err(IndexError::Json(_))));
        let other = br#"{"schemaVersion":2,"manifests":[{"mediaType":"a","digest":"sha512:00","size":1}]}"#;
        assert!(matches!(read_index(other, media_type::INDEX), Err(IndexError::Shape(_))));
        let huge = manifest("a").replace(":7}", ":9007199254740992}");
        let huge = read_index(&index(r#""schemaVersion":2"#, &[huge]), media_type::INDEX);
        assert!(matches!(huge, Err(IndexError::Size { .. })));
    }

    #[test]
    fn an_index_lists_256_manifests_at_most() {
        let many = |count: usize| (0..count).map(|i| manifest(&i.to_string())).collect::<Vec<_>>();
        let read = |count| read_index(&index(r#""schemaVersion":2"#, &many(count)), media_type::INDEX);
        assert_eq!(read(MAX_PLATFORMS).unwrap().len(), MAX_PLATFORMS);
        assert!(matches!(read(MAX_PLATFORMS + 1), Err(IndexError::TooMany)));
    }
}
