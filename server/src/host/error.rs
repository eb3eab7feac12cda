//! What the registry refuses, and how that reads on the wire (OCI distribution 1.1, "Error codes").

use std::io;

use axum::{
    Json,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use plimsoll_core::oci::Digest;

/// One refused request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("no such endpoint")]
    NoSuchEndpoint,
    #[error("{0} is not supported here")]
    Unsupported(Method),
    #[error("`{0}` is not a repository name")]
    NameInvalid(String),
    #[error("no repository `{0}`")]
    NameUnknown(String),
    #[error("`{0}` is not a tag")]
    TagInvalid(String),
    #[error("`{0}` is not a sha256 digest")]
    DigestInvalid(String),
    #[error("the content is {found}, not {expected}")]
    DigestMismatch { expected: Digest, found: Digest },
    #[error("no blob {0} in this repository")]
    BlobUnknown(Digest),
    #[error("no manifest `{0}` in this repository")]
    ManifestUnknown(String),
    #[error("not an acceptable manifest: {0}")]
    ManifestInvalid(String),
    #[error("the manifest names {0}, which this repository does not have")]
    ManifestBlobUnknown(Digest),
    #[error("more than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("no such upload")]
    UploadUnknown,
    #[error("the upload is in use by another request")]
    UploadBusy,
    #[error("the upload has {length} bytes; the chunk starts elsewhere")]
    UploadOffset { length: u64 },
    #[error("too many uploads at a time")]
    TooManyUploads,
    #[error("the range is outside the blob of {size} bytes")]
    Range { size: u64 },
    #[error("the query is not usable: {0}")]
    Query(String),
    #[error("the body came too slowly")]
    Slow,
    #[error("the body broke off")]
    Body,
    #[error("the registry's disk failed")]
    Io(#[from] io::Error),
}

impl Refusal {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::NoSuchEndpoint => (S::NOT_FOUND, "UNSUPPORTED"),
            Self::Unsupported(_) => (S::METHOD_NOT_ALLOWED, "UNSUPPORTED"),
            Self::NameInvalid(_) => (S::BAD_REQUEST, "NAME_INVALID"),
            Self::NameUnknown(_) => (S::NOT_FOUND, "NAME_UNKNOWN"),
            Self::TagInvalid(_) => (S::BAD_REQUEST, "TAG_INVALID"),
            Self::DigestInvalid(_) | Self::DigestMismatch { .. } => (S::BAD_REQUEST, "DIGEST_INVALID"),
            Self::BlobUnknown(_) => (S::NOT_FOUND, "BLOB_UNKNOWN"),
            Self::ManifestUnknown(_) => (S::NOT_FOUND, "MANIFEST_UNKNOWN"),
            Self::ManifestInvalid(_) => (S::BAD_REQUEST, "MANIFEST_INVALID"),
            Self::ManifestBlobUnknown(_) => (S::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"),
            Self::TooLarge { .. } => (S::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
            Self::UploadUnknown => (S::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
            Self::UploadBusy => (S::CONFLICT, "BLOB_UPLOAD_INVALID"),
            Self::UploadOffset { .. } => (S::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID"),
            Self::TooManyUploads => (S::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"),
            Self::Range { .. } => (S::RANGE_NOT_SATISFIABLE, "SIZE_INVALID"),
            Self::Query(_) => (S::BAD_REQUEST, "UNSUPPORTED"),
            Self::Slow => (S::REQUEST_TIMEOUT, "BLOB_UPLOAD_INVALID"),
            Self::Body => (S::BAD_REQUEST, "BLOB_UPLOAD_INVALID"),
            Self::Io(_) => (S::INTERNAL_SERVER_ERROR, "UNKNOWN"),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if let Self::Io(source) = &self {
            tracing::error!(error = %source, "the embedded registry's disk failed");
        }
        let (status, code) = self.status_and_code();
        let body = serde_json::json!({"errors": [{"code": code, "message": self.to_string()}]});
        let mut response = (status, Json(body)).into_response();
        let extra = match self {
            Self::UploadOffset { length } => Some((header::RANGE, uploaded(length))),
            Self::Range { size } => Some((header::CONTENT_RANGE, format!("bytes */{size}"))),
            Self::TooManyUploads => Some((header::RETRY_AFTER, "30".to_owned())),
            _ => None,
        };
        if let Some((name, value)) = extra {
            let value = HeaderValue::try_from(value).expect("digits and ASCII words make a header value");
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// The `Range` header for an upload of `length` bytes; its end is inclusive, and an empty upload reads `0-0`.
pub(super) fn uploaded(length: u64) -> String {
    format!("0-{}", length.saturating_sub(1))
}
