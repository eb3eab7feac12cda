//! Reading: manifests, blobs, tags (OCI distribution 1.1, "Pull" and "Content discovery").

use std::io::SeekFrom;

use axum::{
    body::Body,
    extract::Query,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts, response::Builder},
    response::{IntoResponse, Response},
};
use plimsoll_core::oci::Digest;
use serde::Deserialize;
use tokio::io::AsyncSeekExt;

use super::{
    CONTENT_DIGEST, Host,
    body::FileBody,
    error::Refusal,
    route::{ManifestRef, Repository},
};

/// The most tags in one answer.
const MAX_TAGS: usize = 1000;

pub(super) async fn manifest(
    host: &Host,
    repository: Repository,
    reference: ManifestRef,
    parts: &Parts,
) -> Result<Response, Refusal> {
    let known = if_none_match(&parts.headers);
    let found = host.shared.blocking(move |disk| {
        let unknown = || Refusal::ManifestUnknown(reference.to_string());
        let manifest = disk.manifest(&repository, &reference)?.ok_or_else(unknown)?;
        // The content is opened only if it is going to be sent.
        let content = if matches(known.as_deref(), &manifest.digest) {
            None
        } else {
            Some(disk.content(&manifest.digest)?.ok_or_else(unknown)?)
        };
        Ok((manifest, content))
    });
    let (manifest, content) = found.await?;
    let Some((file, length)) = content else { return Ok(not_modified(&manifest.digest)) };
    let builder = Response::builder().header(header::CONTENT_TYPE, manifest.media_type);
    Ok(send(builder, &manifest.digest, parts, FileBody { file: file.into(), left: length }))
}

pub(super) async fn blob(
    host: &Host,
    repository: Repository,
    digest: Digest,
    parts: &Parts,
) -> Result<Response, Refusal> {
    let found = host.shared.blocking(move |disk| {
        let content = if disk.has_blob(&repository, &digest)? { disk.content(&digest)? } else { None };
        content.ok_or(Refusal::BlobUnknown(digest))
    });
    let (file, size) = found.await?;
    if matches(if_none_match(&parts.headers).as_deref(), &digest) {
        return Ok(not_modified(&digest));
    }
    let mut file = tokio::fs::File::from(file);
    let mut builder = Response::builder()
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CACHE_CONTROL, "max-age=31536000, immutable");
    let mut left = size;
    if let Some((from, to)) = range(&parts.headers, size)? {
        file.seek(SeekFrom::Start(from)).await?;
        left = to - from + 1;
        builder = builder
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {from}-{to}/{size}"));
    }
    Ok(send(builder, &digest, parts, FileBody { file, left }))
}

pub(super) async fn tags(host: &Host, repository: Repository, parts: &Parts) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    struct Page {
        n: Option<usize>,
        last: Option<String>,
    }
    let Query(page) = Query::<Page>::try_from_uri(&parts.uri).map_err(|e| Refusal::Query(e.body_text()))?;
    let name = repository.clone();
    let all = host.shared.blocking(move |disk| Ok(disk.tags(&repository)?)).await?;
    let mut tags = all.ok_or_else(|| Refusal::NameUnknown(name.to_string()))?;
    if let Some(last) = page.last {
        tags.retain(|tag| *tag > last);
    }
    let count = page.n.unwrap_or(MAX_TAGS).min(MAX_TAGS);
    let more = tags.len() > count;
    tags.truncate(count);
    let link = tags
        .last()
        .filter(|_| more)
        .map(|last| format!("</v2/{name}/tags/list?n={count}&last={last}>; rel=\"next\""));
    let mut response = axum::Json(serde_json::json!({"name": name.as_str(), "tags": tags})).into_response();
    if let Some(link) = link {
        let link = HeaderValue::try_from(link).expect("names and tags are ASCII words");
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

fn send(builder: Builder, digest: &Digest, parts: &Parts, content: FileBody) -> Response {
    let builder = builder
        .header(header::CONTENT_LENGTH, content.left)
        .header(header::ETAG, etag(digest))
        .header(CONTENT_DIGEST, digest.to_string());
    let body = if parts.method == Method::HEAD { Body::empty() } else { Body::new(content) };
    builder.body(body).expect("digests, numbers and stored media types make header values")
}

fn not_modified(digest: &Digest) -> Response {
    (StatusCode::NOT_MODIFIED, [(header::ETAG, etag(digest))]).into_response()
}

fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

fn if_none_match(headers: &HeaderMap) -> Option<String> {
    headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()).map(str::to_owned)
}

/// True if an `If-None-Match` names the digest (RFC 9110, section 13.1.2: weak comparison).
fn matches(if_none_match: Option<&str>, digest: &Digest) -> bool {
    let etag = etag(digest);
    if_none_match.is_some_and(|list| {
        list.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    })
}

/// The first and last byte asked for, if one range is. Other forms of the header are ignored, as RFC 9110, section
/// 14.2, allows.
fn range(headers: &HeaderMap, size: u64) -> Result<Option<(u64, u64)>, Refusal> {
    let Some((from, to)) = headers
        .get(header::RANGE)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("bytes="))
        .and_then(|v| v.split_once('-'))
    else {
        return Ok(None);
    };
    let bounds = match (from.parse::<u64>(), to.parse::<u64>()) {
        (Ok(from), Ok(to)) => (from, to.min(size.saturating_sub(1))),
        (Ok(from), Err(_)) if to.is_empty() => (from, size.saturating_sub(1)),
        (Err(_), Ok(last)) if from.is_empty() && last > 0 => {
            (size.saturating_sub(last), size.saturating_sub(1))
        }
        _ => return Ok(None),
    };
    if bounds.0 >= size || bounds.0 > bounds.1 { Err(Refusal::Range { size }) } else { Ok(Some(bounds)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_are_compared_by_list_and_weakly() {
        let digest = Digest::of(b"x");
        for (header, same) in [
            (format!("\"{digest}\""), true),
            (format!("W/\"{digest}\""), true),
            (format!("\"other\", \"{digest}\""), true),
            ("*".to_owned(), true),
            (digest.to_string(), false),
            ("\"other\"".to_owned(), false),
        ] {
            assert_eq!(matches(Some(&header), &digest), same, "{header}");
        }
        assert!(!matches(None, &digest));
    }

    #[test]
    fn one_range_is_followed() {
        let of = |text: &str| {
            let headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_str(text).unwrap())]);
            range(&headers, 10).map_err(|_| ())
        };
        for (text, bounds) in [
            ("bytes=0-0", Ok(Some((0, 0)))),
            ("bytes=2-5", Ok(Some((2, 5)))),
            ("bytes=2-", Ok(Some((2, 9)))),
            ("bytes=-3", Ok(Some((7, 9)))),
            ("bytes=-30", Ok(Some((0, 9)))),
            ("bytes=2-500", Ok(Some((2, 9)))),
            ("bytes=10-", Err(())),
            ("bytes=5-4", Err(())),
            ("bytes=0-1,3-4", Ok(None)),
            ("lines=0-1", Ok(None)),
            ("bytes=-", Ok(None)),
        ] {
            assert_eq!(of(text), bounds, "{text}");
        }
    }
}
