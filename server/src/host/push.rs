//! Writing: uploads and manifests (OCI distribution 1.1, "Push").

use axum::{
    body::Body,
    extract::Query,
    http::{HeaderMap, StatusCode, header, request::Parts, response::Builder},
    response::Response,
};
use plimsoll_core::oci::Digest;
use serde::Deserialize;

use super::{
    CONTENT_DIGEST, Host, body,
    error::{Refusal, uploaded},
    manifest::needs,
    route::{self, ManifestRef, Repository},
    uploads::MAX_BLOB,
};

/// The largest manifest in bytes.
pub(super) const MAX_MANIFEST: usize = 4 << 20;

#[derive(Deserialize)]
struct Wanted {
    digest: Option<String>,
    mount: Option<String>,
    from: Option<String>,
}

pub(super) async fn manifest(
    host: &Host,
    repository: Repository,
    reference: ManifestRef,
    parts: &Parts,
    body: Body,
) -> Result<Response, Refusal> {
    let bytes = body::collect(body, MAX_MANIFEST).await?;
    let media_type = content_type(&parts.headers)?;
    let needs = needs(&bytes, &media_type)?;
    let digest = Digest::of(&bytes);
    let tag = match reference {
        ManifestRef::Tag(tag) => Some(tag),
        ManifestRef::Digest(expected) if expected != digest => {
            return Err(Refusal::DigestMismatch { expected, found: digest });
        }
        ManifestRef::Digest(_) => None,
    };
    let location = format!("/v2/{repository}/manifests/{digest}");
    let store = host.shared.blocking(move |disk| {
        for blob in &needs.blobs {
            if !disk.has_blob(&repository, blob)? {
                return Err(Refusal::ManifestBlobUnknown(*blob));
            }
        }
        for child in &needs.manifests {
            if !disk.has_manifest(&repository, child)? {
                return Err(Refusal::ManifestBlobUnknown(*child));
            }
        }
        Ok(disk.put_manifest(&repository, &digest, &media_type, &bytes, tag.as_ref())?)
    });
    store.await?;
    Ok(done(created(location, &digest)))
}

/// `POST …/blobs/uploads/`: mounts a blob, takes a whole one, or begins an upload.
pub(super) async fn begin(
    host: &Host,
    repository: Repository,
    parts: &Parts,
    body: Body,
) -> Result<Response, Refusal> {
    let wanted = wanted(parts)?;
    if let (Some(mount), Some(from)) = (&wanted.mount, &wanted.from) {
        let (digest, from, to) = (route::digest(mount)?, Repository::parse(from)?, repository.clone());
        let mounted = host.shared.blocking(move |disk| {
            let there = disk.has_blob(&from, &digest)?;
            if there {
                disk.link_blob(&to, &digest)?;
            }
            Ok(there)
        });
        if mounted.await? {
            return Ok(done(created(blob_location(&repository, &digest), &digest)));
        }
    }
    // A wrong digest is told before the bytes are taken.
    let digest = wanted.digest.as_deref().map(route::digest).transpose()?;
    let id = host.shared.uploads.begin(&repository).await?;
    match digest {
        None => Ok(done(accepted(&repository, &id, 0))),
        Some(digest) => {
            let taken = complete(host, &repository, &id, digest, &parts.headers, body).await;
            // Nobody was told the id, so nobody can go on with it.
            host.shared.uploads.forget(&id);
            taken
        }
    }
}

pub(super) async fn status(host: &Host, repository: &Repository, id: &str) -> Result<Response, Refusal> {
    let length = host.shared.uploads.take(repository, id)?.length();
    Ok(done(accepted(repository, id, length).status(StatusCode::NO_CONTENT)))
}

pub(super) async fn append(
    host: &Host,
    repository: &Repository,
    id: &str,
    parts: &Parts,
    body: Body,
) -> Result<Response, Refusal> {
    let mut upload = host.shared.uploads.take(repository, id)?;
    check_chunk(&parts.headers, upload.length())?;
    let appended = upload.append(body).await;
    forget_if_lost(host, id, &appended);
    appended?;
    Ok(done(accepted(repository, id, upload.length())))
}

/// `PUT …/blobs/uploads/ID?digest=`, with or without a last chunk.
pub(super) async fn finish(
    host: &Host,
    repository: Repository,
    id: &str,
    parts: &Parts,
    body: Body,
) -> Result<Response, Refusal> {
    let digest = wanted(parts)?.digest.ok_or_else(|| Refusal::Query("no digest".to_owned()))?;
    complete(host, &repository, id, route::digest(&digest)?, &parts.headers, body).await
}

pub(super) fn cancel(host: &Host, repository: &Repository, id: &str) -> Result<Response, Refusal> {
    drop(host.shared.uploads.take(repository, id)?);
    host.shared.uploads.forget(id);
    Ok(done(Response::builder().status(StatusCode::NO_CONTENT)))
}

/// Takes the last bytes, checks the digest and makes the upload a blob.
async fn complete(
    host: &Host,
    repository: &Repository,
    id: &str,
    digest: Digest,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let mut upload = host.shared.uploads.take(repository, id)?;
    check_chunk(headers, upload.length())?;
    let appended = upload.append(body).await;
    forget_if_lost(host, id, &appended);
    appended?;
    // Sealed or not, the upload ends here; its file goes with it unless it becomes the blob.
    host.shared.uploads.forget(id);
    upload.seal(digest).await?;
    let to = repository.clone();
    let stored = host.shared.blocking(move |disk| Ok(disk.adopt_blob(&to, &digest, upload.path())?));
    stored.await?;
    Ok(done(created(blob_location(repository, &digest), &digest)))
}

/// An upload whose body only broke off may go on; after any other failure its bytes are of no use.
fn forget_if_lost(host: &Host, id: &str, appended: &Result<(), Refusal>) {
    if matches!(appended, Err(refusal) if !matches!(refusal, Refusal::Slow | Refusal::Body)) {
        host.shared.uploads.forget(id);
    }
}

/// Refuses a chunk that does not continue the upload or that says it is too large.
fn check_chunk(headers: &HeaderMap, length: u64) -> Result<(), Refusal> {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    if let Some(range) = text(header::CONTENT_RANGE) {
        let range = range.strip_prefix("bytes ").unwrap_or(range);
        let start = range.split_once('-').and_then(|(start, _)| start.parse::<u64>().ok());
        if start != Some(length) {
            return Err(Refusal::UploadOffset { length });
        }
    }
    let announced = text(header::CONTENT_LENGTH).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
    if length.saturating_add(announced) > MAX_BLOB {
        return Err(Refusal::TooLarge { limit: MAX_BLOB });
    }
    Ok(())
}

fn wanted(parts: &Parts) -> Result<Wanted, Refusal> {
    let Query(wanted) = Query::try_from_uri(&parts.uri).map_err(|e| Refusal::Query(e.body_text()))?;
    Ok(wanted)
}

/// The media type without parameters.
fn content_type(headers: &HeaderMap) -> Result<String, Refusal> {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.split(';').next())
        .map(|v| v.trim().to_owned())
        .ok_or_else(|| Refusal::ManifestInvalid("no Content-Type".to_owned()))
}

fn blob_location(repository: &Repository, digest: &Digest) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

fn created(location: String, digest: &Digest) -> Builder {
    Response::builder()
        .status(StatusCode::CREATED)
        .header(header::LOCATION, location)
        .header(CONTENT_DIGEST, digest.to_string())
}

fn accepted(repository: &Repository, id: &str, length: u64) -> Builder {
    Response::builder()
        .status(StatusCode::ACCEPTED)
        .header(header::LOCATION, format!("/v2/{repository}/blobs/uploads/{id}"))
        .header(header::RANGE, uploaded(length))
        .header("docker-upload-uuid", id)
}

fn done(builder: Builder) -> Response {
    builder.body(Body::empty()).expect("checked names, digests and numbers make header values")
}
