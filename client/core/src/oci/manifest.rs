//! Descriptors and image manifests (OCI image spec 1.1, descriptor.md and manifest.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Digest;
use crate::tuf::json;

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
        if serde_json::from_slice::<Ambiguity>(bytes)?.manifests.is_some() {
            return Err(ManifestError::Ambiguous);
        }
        let manifest: Self = serde_json::from_slice(bytes)?;
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
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a manifest of strings and integers always serialises")
    }
}
