//! Pushing and removing: blobs and manifests.

use bytes::Bytes;
use http::{
    HeaderValue, Method, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE},
};
use plimsoll_core::oci::{Digest, RepositoryAddress};
use url::Url;

use super::{
    Access, Registry, RegistryError, check_reference, missing,
    pull::header_digest,
    request, scope, site,
    transport::{Request, Response, content_length, location, unexpected},
};

/// A blob that is being stored in pieces. What is not finished is not seen by anybody.
#[derive(Debug)]
pub struct Upload {
    repo: RepositoryAddress,
    start: Url,
    at: Url,
    /// Who named `at`, if that is not the registry itself.
    named_by: Option<Url>,
    /// It has led elsewhere: from then on there are no credentials, wherever that leads.
    away: bool,
    sent: u64,
}

/// What became of a manifest that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The registry removed it, or will.
    Removed,
    /// It had none.
    Absent,
    /// This registry removes nothing (405, or 400 and 501 as some say it).
    Unsupported,
}

impl Registry {
    /// Stores `bytes` as a blob in `repo` and returns their digest. Nothing is sent if the registry has the blob.
    ///
    /// When this returns, the registry has said that it holds the blob under that digest. It may be called again after
    /// any error: an upload that was not finished leaves nothing that can be seen.
    ///
    /// # Errors
    /// [`RegistryError::SizeMismatch`] or [`RegistryError::DigestMismatch`] if the registry's word about the blob is not
    /// what was sent, [`RegistryError::RedirectRefused`] for an upload location that is not followed, any other
    /// [`RegistryError`].
    pub async fn put_blob(&self, repo: &RepositoryAddress, bytes: Bytes) -> Result<Digest, RegistryError> {
        self.bounded(repo, self.put_blob_within(repo, bytes)).await
    }

    async fn put_blob_within(&self, repo: &RepositoryAddress, bytes: Bytes) -> Result<Digest, RegistryError> {
        let (inner, scope) = (&*self.inner, scope(repo, Access::Push));
        let digest = Digest::of(&bytes);
        let head = request(Method::HEAD, inner.endpoint(repo, &format!("blobs/{digest}"))?);
        let there = match self.send(&scope, &head).await {
            // Who may push need not be allowed to look; if it is neither, the upload says so.
            Err(error) if error.is_auth() => None,
            response => Some(response?),
        };
        match there {
            None => {}
            Some(response) if response.status == StatusCode::FORBIDDEN => {}
            Some(response) if response.status == StatusCode::OK => {
                let (expected, url) = (bytes.len() as u64, site::shown(&response.url));
                return match content_length(&response.headers) {
                    Some(got) if got != expected => Err(RegistryError::SizeMismatch { url, expected, got }),
                    _ => confirmed(&response, digest),
                };
            }
            Some(response) if missing(&head, &response) => {}
            Some(response) => return Err(unexpected(&response)),
        }

        let mut start = request(Method::POST, inner.endpoint(repo, "blobs/uploads/")?);
        start.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let response = self.send(&scope, &start).await?;
        match response.status {
            StatusCode::ACCEPTED => {}
            StatusCode::NOT_FOUND => return Err(RegistryError::NotFound { url: site::shown(&start.url) }),
            _ => return Err(unexpected(&response)),
        }
        let mut url = location(&response)?;
        site::check_hop(&start.url, &start.url, &url, inner.transport().plain_http()).map_err(|source| {
            RegistryError::RedirectRefused { from: site::shown(&start.url), to: site::shown(&url), source }
        })?;
        url.set_fragment(None);
        url.query_pairs_mut().append_pair("digest", &digest.to_string());

        let ours = site::same_origin(&start.url, &url);
        let mut put = request(Method::PUT, url);
        put.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        put.body = bytes;
        put.named_by = response.names().filter(|_| !ours);
        let response =
            if ours { self.send(&scope, &put).await? } else { inner.transport().send(&put, None).await? };
        match response.status {
            StatusCode::CREATED => confirmed(&response, digest),
            StatusCode::NOT_FOUND => Err(RegistryError::NotFound { url: site::shown(&put.url) }),
            _ => Err(unexpected(&response)),
        }
    }

    /// Stores `bytes` as the manifest `reference`, a tag or their digest, of `repo` and returns their digest.
    ///
    /// Registries replace a tag at once and without comparing: the last writer wins.
    ///
    /// # Errors
    /// [`RegistryError::Argument`] if `reference` is another digest, [`RegistryError::DigestMismatch`] if the registry
    /// stored other bytes,
    /// [`RegistryError::NotFound`] if it has no such repository, any other [`RegistryError`].
    pub async fn put_manifest(
        &self,
        repo: &RepositoryAddress,
        reference: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Digest, RegistryError> {
        self.bounded(repo, async {
            let wanted = check_reference(reference)?;
            let mut put = request(Method::PUT, self.inner.endpoint(repo, &format!("manifests/{reference}"))?);
            let digest = Digest::of(&bytes);
            if wanted.is_some_and(|wanted| wanted != digest) {
                let text = reference.to_owned();
                return Err(RegistryError::Argument { text, what: "the digest of this manifest" });
            }
            let content_type = HeaderValue::from_str(media_type).map_err(|_| RegistryError::Argument {
                text: media_type.chars().take(200).collect(),
                what: "a media type",
            })?;
            put.headers.insert(CONTENT_TYPE, content_type);
            put.body = bytes;
            let response = self.send(&scope(repo, Access::Push), &put).await?;
            match response.status {
                StatusCode::CREATED => confirmed(&response, digest),
                StatusCode::NOT_FOUND => Err(RegistryError::NotFound { url: site::shown(&put.url) }),
                _ => Err(unexpected(&response)),
            }
        })
        .await
    }
}

impl Registry {
    /// Begins to store a blob in `repo` in pieces (OCI distribution 1.1, "Pushing a blob in chunks").
    ///
    /// # Errors
    /// As [`Registry::put_blob`].
    pub async fn start_upload(&self, repo: &RepositoryAddress) -> Result<Upload, RegistryError> {
        self.bounded(repo, async {
            let mut start = request(Method::POST, self.inner.endpoint(repo, "blobs/uploads/")?);
            start.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            let response = self.send(&scope(repo, Access::Push), &start).await?;
            match response.status {
                StatusCode::ACCEPTED => {}
                StatusCode::NOT_FOUND => {
                    return Err(RegistryError::NotFound { url: site::shown(&start.url) });
                }
                _ => return Err(unexpected(&response)),
            }
            let mut upload = Upload {
                repo: repo.clone(),
                at: start.url.clone(),
                start: start.url,
                named_by: None,
                away: false,
                sent: 0,
            };
            self.go_on(&mut upload, &response)?;
            Ok(upload)
        })
        .await
    }

    /// Sends the next piece.
    ///
    /// # Errors
    /// As [`Registry::put_blob`]; then the upload is to be given up.
    pub async fn upload_piece(&self, upload: &mut Upload, bytes: Bytes) -> Result<(), RegistryError> {
        let repo = upload.repo.clone();
        self.bounded(&repo, async {
            let length = bytes.len() as u64;
            let mut patch = request(Method::PATCH, upload.at.clone());
            let range = format!("{}-{}", upload.sent, (upload.sent + length).saturating_sub(1));
            let range = HeaderValue::from_str(&range).expect("two numbers are a header's value");
            patch.headers.insert(CONTENT_RANGE, range);
            patch.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            patch.body = bytes;
            let response = self.send_upload(upload, patch).await?;
            if response.status != StatusCode::ACCEPTED {
                return Err(unexpected(&response));
            }
            upload.sent += length;
            self.go_on(upload, &response)
        })
        .await
    }

    /// Ends the upload: when this returns, the registry has said that it holds the blob under `digest`, of which it makes
    /// sure itself.
    ///
    /// # Errors
    /// As [`Registry::put_blob`].
    pub async fn finish_upload(&self, upload: Upload, digest: &Digest) -> Result<(), RegistryError> {
        let repo = upload.repo.clone();
        self.bounded(&repo, async {
            let mut url = upload.at.clone();
            url.query_pairs_mut().append_pair("digest", &digest.to_string());
            let mut put = request(Method::PUT, url);
            put.headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            let response = self.send_upload(&upload, put).await?;
            match response.status {
                StatusCode::CREATED => confirmed(&response, *digest).map(drop),
                _ => Err(unexpected(&response)),
            }
        })
        .await
    }

    /// Where the registry wants the next piece.
    fn go_on(&self, upload: &mut Upload, response: &Response) -> Result<(), RegistryError> {
        let mut url = location(response)?;
        site::check_hop(&upload.start, &upload.start, &url, self.inner.transport().plain_http()).map_err(
            |source| RegistryError::RedirectRefused {
                from: site::shown(&upload.start),
                to: site::shown(&url),
                source,
            },
        )?;
        url.set_fragment(None);
        upload.away |= !site::same_origin(&upload.start, &url);
        upload.named_by = response.names().filter(|_| upload.away);
        upload.at = url;
        Ok(())
    }

    /// Credentials go to the registry itself and to nobody that it names.
    async fn send_upload(&self, upload: &Upload, mut request: Request) -> Result<Response, RegistryError> {
        if !upload.away {
            return self.send(&scope(&upload.repo, Access::Push), &request).await;
        }
        request.named_by = upload.named_by.clone();
        self.inner.transport().send(&request, None).await
    }

    /// Removes the manifest `digest` from `repo`, and with it every tag that names it (OCI distribution 1.1, "Deleting
    /// Manifests").
    ///
    /// # Errors
    /// [`RegistryError`]; [`RegistryError::is_auth`] if these credentials may not.
    pub async fn delete_manifest(
        &self,
        repo: &RepositoryAddress,
        digest: &Digest,
    ) -> Result<Removal, RegistryError> {
        self.bounded(repo, async {
            let delete = request(Method::DELETE, self.inner.endpoint(repo, &format!("manifests/{digest}"))?);
            let response = self.send(&scope(repo, Access::Delete), &delete).await?;
            match response.status {
                StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT => Ok(Removal::Removed),
                StatusCode::NOT_FOUND => Ok(Removal::Absent),
                StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST | StatusCode::NOT_IMPLEMENTED => {
                    Ok(Removal::Unsupported)
                }
                _ => Err(unexpected(&response)),
            }
        })
        .await
    }
}

/// `digest`, unless the registry says that it holds something else.
fn confirmed(response: &Response, digest: Digest) -> Result<Digest, RegistryError> {
    match header_digest(response) {
        Some(got) if got != digest => {
            Err(RegistryError::DigestMismatch { url: site::shown(&response.url), expected: digest, got })
        }
        _ => Ok(digest),
    }
}
