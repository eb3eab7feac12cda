//! Descriptors and image manifests (OCI image spec 1.1, descriptor.md and manifest.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Digest;
use crate::{record, tuf::json};

/// Media types Plimsoll reads or writes.
pub mod media_type {
    /// OCI image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// Docker image manifest, version 2 schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// The empty config, `{}` (OCI image spec 1.1, "Guidance for an empty descriptor").
    pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// The manifest types a client accepts, in the form of an `Accept` header.
    pub const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
        application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
}

/// The bytes of the empty config, `{}`.
pub const EMPTY_CONFIG: &[u8] = b"{}";

/// What a manifest says of one blob: its type, digest and size in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    pub media_type: String,
    /// sha256 of the content.
    pub digest: Digest,
    /// Length of the content in bytes.
    pub size: u64,
    /// The content itself in base64, if it travels inside the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Annotations, sorted by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Describes `bytes`, without annotations or inline data.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            data: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// An image manifest. Field order here is the order of the bytes we write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u8,
    /// [`media_type::MANIFEST`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What the artifact is; absent in the OCI 1.0 profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The config blob.
    pub config: Descriptor,
    /// The layers, one per file.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// Annotations, sorted by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Why bytes are not a usable image manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not strict JSON.
    #[error("the manifest is not strict JSON")]
    Json(#[from] json::JsonError),
    /// JSON, but not of a manifest's shape.
    #[error("the manifest does not have the shape of an image manifest")]
    Shape(#[from] serde_json::Error),
    /// `schemaVersion` is not 2.
    #[error("schemaVersion {0} instead of 2")]
    SchemaVersion(u8),
    /// The document's own `mediaType` is not an image manifest's.
    #[error("mediaType `{0}` is not an OCI image manifest")]
    MediaType(String),
    /// `manifests` stands beside `layers`: the bytes could be read as two things (CVE-2021-41190).
    #[error("`manifests` in an image manifest: the document could be read as an index too")]
    Ambiguous,
}

impl Manifest {
    /// Parses an OCI image manifest from untrusted `bytes`; the caller has capped their length.
    ///
    /// # Errors
    /// [`ManifestError`], by rule.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Ambiguity {
            manifests: Option<serde::de::IgnoredAny>,
        }
        json::check(bytes)?;
        if record::json::<Ambiguity>(bytes)?.manifests.is_some() {
            return Err(ManifestError::Ambiguous);
        }
        let manifest: Self = record::json(bytes)?;
        if manifest.schema_version != 2 {
            return Err(ManifestError::SchemaVersion(manifest.schema_version));
        }
        match manifest.media_type.as_deref() {
            None | Some(media_type::MANIFEST) => Ok(manifest),
            Some(other) => Err(ManifestError::MediaType(other.chars().take(200).collect())),
        }
    }

    /// The manifest's bytes: compact JSON, fields in the order of this struct, annotations sorted. Equal manifests
    /// give equal bytes.
    ///
    /// # Panics
    /// Never: strings and integers always serialise.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest of strings and integers always serialises")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = r#"{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}"#;

    /// A manifest with `head` in front, so that a test says what is special about it.
    fn parse(head: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(format!("{{{head},\"config\":{EMPTY},\"layers\":[]}}").as_bytes())
    }

    #[test]
    fn writing_undoes_parsing_to_the_byte() {
        let layer = r#"{"mediaType":"a/b","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,"data":"e30=","annotations":{"a":"1","b":"2"}}"#;
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","artifactType":"c/d","config":{EMPTY},"layers":[{layer}],"annotations":{{"x":"y"}}}}"#,
            media_type::MANIFEST
        );
        assert_eq!(Manifest::parse(text.as_bytes()).unwrap().to_bytes(), text.as_bytes());
    }

    #[test]
    fn optional_and_unknown_members_are_no_obstacle() {
        let manifest = parse(r#""schemaVersion":2,"subject":{},"x":1.5"#).unwrap();
        assert_eq!((manifest.media_type, manifest.artifact_type), (None, None));
        assert_eq!(manifest.config.digest, Digest::of(EMPTY_CONFIG));
    }

    /// T77: CVE-2021-41190.
    #[test]
    fn a_document_that_could_be_an_index_too_is_refused() {
        let manifest = format!(r#""schemaVersion":2,"mediaType":"{}""#, media_type::MANIFEST);
        for ambiguous in [&manifest, r#""schemaVersion":2"#] {
            for manifests in ["[]", "[{}]", "{}", "false"] {
                let parsed = parse(&format!(r#"{ambiguous},"manifests":{manifests}"#));
                assert!(matches!(parsed, Err(ManifestError::Ambiguous)), "{ambiguous} {manifests}");
            }
        }
        for other in [media_type::INDEX, media_type::DOCKER_LIST, media_type::DOCKER_MANIFEST, ""] {
            let parsed = parse(&format!(r#""schemaVersion":2,"mediaType":"{other}""#));
            assert!(matches!(parsed, Err(ManifestError::MediaType(found)) if found == other), "{other}");
        }
    }

    #[test]
    fn any_schema_version_but_2_is_refused() {
        for version in [0, 1, 3, 255] {
            let parsed = parse(&format!(r#""schemaVersion":{version}"#));
            assert!(matches!(parsed, Err(ManifestError::SchemaVersion(found)) if found == version));
        }
        for shape in
            [r#""schemaVersion":258"#, r#""schemaVersion":"2""#, r#""schemaVersion":2.0"#, r#""x":0"#]
        {
            assert!(matches!(parse(shape), Err(ManifestError::Shape(_))), "{shape}");
        }
    }

    /// T51: whichever of two a parser takes, another may take the other.
    #[test]
    fn duplicate_members_are_refused_wherever_they_stand() {
        for twice in [
            r#""schemaVersion":1,"schemaVersion":2"#,
            r#""schemaVersion":2,"layers":[]"#,
            r#""schemaVersion":2,"annotations":{"a":"1","a":"1"}"#,
            r#""schemaVersion":2,"unknown":[{"b":1,"\u0062":1}]"#,
        ] {
            let parsed = parse(twice);
            assert!(matches!(parsed, Err(ManifestError::Json(json::JsonError::Duplicate { .. }))), "{twice}");
        }
    }

    #[test]
    fn anything_but_one_json_document_is_refused() {
        for bytes in ["", "{}{}", "\u{feff}{}", "<html>"] {
            assert!(matches!(Manifest::parse(bytes.as_bytes()), Err(ManifestError::Json(_))), "{bytes}");
        }
        for shape in ["[]", "null", "{}", r#"{"schemaVersion":2,"config":{}}"#] {
            assert!(matches!(Manifest::parse(shape.as_bytes()), Err(ManifestError::Shape(_))), "{shape}");
        }
    }
}
