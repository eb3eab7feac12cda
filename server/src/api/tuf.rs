//! The plain TUF files, for stock clients (TUF 1.0.34, 6.2, consistent snapshots).

use axum::{
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use plimsoll_core::oci::Digest;

use super::{Api, plain};

/// No file name is longer: `VERSION.ROLE.json`.
const MAX_NAME: usize = 300;

/// `GET /tuf/NAME/metadata/FILE`
pub(super) async fn file(
    State(api): State<Api>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Response {
    // The one answer that means "there is none": clients end their walk along the roots on it.
    let none = || plain(StatusCode::NOT_FOUND, "no such file\n".to_owned());
    let Ok(Path((name, file))) = path else { return none() };
    if file.len() > MAX_NAME {
        return none();
    }
    let found = match api.engine(&name) {
        Ok(engine) => engine.file(&file).await.map_err(Into::into),
        Err(failure) => Err(failure),
    };
    match found {
        Ok(Some(bytes)) => answer(&file, bytes, &headers),
        Ok(None) => none(),
        Err(failure) => plain(failure.status, format!("{}\n", failure.refusal.message)),
    }
}

fn answer(file: &str, bytes: Bytes, headers: &HeaderMap) -> Response {
    let etag = format!("\"{}\"", Digest::of(&bytes).hex());
    // A file with its version in its name never changes (promise P7).
    let versioned = file.split_once('.').is_some_and(|(version, rest)| {
        !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit()) && rest != "json"
    });
    let cache = if versioned { "public, max-age=31536000, immutable" } else { "no-cache" };
    let common = [(header::ETAG, etag.as_str()), (header::CACHE_CONTROL, cache)];
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
    let mut known = known.flat_map(|v| v.split(',')).map(str::trim);
    if known.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    (common, [(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}
