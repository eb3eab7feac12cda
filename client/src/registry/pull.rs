//! Pulling: manifests, blobs and tags.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, DATE, ETAG, IF_NONE_MATCH, LINK},
};
use plimsoll_core::{
    oci::{Descriptor, Digest, RepositoryAddress, media_type, valid_tag},
    record,
    tuf::json,
};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, de::IgnoredAny};
use url::Url;

use super::{
    Access, Known, ManifestAnswer, ManifestBytes, ManifestFault, Refusal, Registry, RegistryError,
    check_reference, missing, request, scope, site,
    transport::{Request, Response, content_length, unexpected},
};

/// For manifests whose size no caller limits, in bytes; what the specification asks registries to take at least.
const MAX_MANIFEST: u64 = 4 << 20;
/// Longer ones are not worth sending back.
const MAX_ETAG: usize = 256;
/// What a blob that is given on piece by piece must bring on average, bytes in a second.
const LEAST_RATE: u64 = 64 << 10;
const MAX_PAGE: u64 = 4 << 20;
const MAX_PAGES: usize = 1000;
const MAX_TAGS: usize = 200_000;
/// What registries say a manifest's digest is (OCI distribution 1.1, "Pulling manifests").
const DIGEST_HEADER: &str = "docker-content-digest";

/// One page of a list of tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagPage {
    /// The tags, in the registry's order.
    pub tags: Vec<String>,
    /// Where the list goes on, if it does.
    pub next: Option<NextTags>,
    /// True if the page was longer than what was read of it.
    pub cut: bool,
    /// What was asked for, without its query.
    url: String,
}

/// Where a list of tags goes on: an address within the same list, which the registry named. It may be kept for later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextTags {
    url: Url,
}

impl Registry {
    /// Fetches the manifest that `reference`, a tag or digest, names in `repo`: at most `cap` bytes, in one request once
    /// a token is at hand.
    ///
    /// With `known`, the request is conditional where the registry knows `ETag`s, and the known manifest reads
    /// [`ManifestAnswer::NotModified`] either way. The digest is computed here; by digest, it is compared.
    ///
    /// # Errors
    /// Any [`RegistryError`]; only a 404 by the registry itself is [`ManifestAnswer::NotFound`].
    pub async fn manifest(
        &self,
        repo: &RepositoryAddress,
        reference: &str,
        cap: u64,
        known: Option<&Known>,
    ) -> Result<ManifestAnswer, RegistryError> {
        self.bounded(repo, self.manifest_within(repo, reference, cap, known)).await
    }

    async fn manifest_within(
        &self,
        repo: &RepositoryAddress,
        reference: &str,
        cap: u64,
        known: Option<&Known>,
    ) -> Result<ManifestAnswer, RegistryError> {
        let wanted = check_reference(reference)?;
        let mut request = self.manifest_request(Method::GET, repo, reference)?;
        let etag = known.and_then(|k| k.etag.as_deref()).filter(|e| e.len() <= MAX_ETAG);
        let etag = etag.and_then(|etag| HeaderValue::from_str(etag).ok());
        let conditional = etag.is_some();
        if let Some(etag) = etag {
            request.headers.insert(IF_NONE_MATCH, etag);
        }
        let response = self.send(&scope(repo, Access::Pull), &request).await?;
        self.note_clock(&request, &response);
        match response.status {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if conditional => return Ok(ManifestAnswer::NotModified),
            _ if missing(&request, &response) => return Ok(ManifestAnswer::NotFound),
            _ => return Err(unexpected(&response)),
        }
        let url = site::shown(&response.url);
        let media_type = manifest_type(&response)?;
        let etag = response.headers.get(ETAG).and_then(|e| e.to_str().ok());
        let etag = etag.filter(|e| e.len() <= MAX_ETAG).map(str::to_owned);
        let bytes = self.inner.transport().read(response, cap).await?;
        let digest = Digest::of(&bytes);
        if let Some(expected) = wanted.filter(|wanted| *wanted != digest) {
            return Err(RegistryError::DigestMismatch { url, expected, got: digest });
        }
        if known.is_some_and(|known| known.digest == digest) {
            return Ok(ManifestAnswer::NotModified);
        }
        check_manifest(&bytes, &media_type).map_err(|source| RegistryError::Manifest { url, source })?;
        Ok(ManifestAnswer::Found(ManifestBytes { bytes, digest, media_type, etag }))
    }

    /// Asks for the type, digest and size of what `reference` names in `repo`; `None` is a 404 by the registry itself.
    ///
    /// By tag, the digest is the registry's word: a registry that sends none is asked for the manifest itself.
    ///
    /// # Errors
    /// Any [`RegistryError`].
    pub async fn head_manifest(
        &self,
        repo: &RepositoryAddress,
        reference: &str,
    ) -> Result<Option<Descriptor>, RegistryError> {
        self.bounded(repo, self.head_within(repo, reference)).await
    }

    /// What time it is where `repo` is, as the registry's `Date` says (RFC 9110, 6.6.1); none if it does not. Whoever owns
    /// the registry says what they like: good for a warning, never for a decision.
    ///
    /// # Errors
    /// Any [`RegistryError`] but those of a status: every answer has a date.
    pub async fn date(&self, repo: &RepositoryAddress) -> Result<Option<DateTime<Utc>>, RegistryError> {
        self.bounded(repo, async {
            let request = self.manifest_request(Method::HEAD, repo, "latest")?;
            let response = self.send(&scope(repo, Access::Pull), &request).await?;
            let date = response.headers.get(DATE).and_then(|date| date.to_str().ok());
            Ok(date.and_then(|date| DateTime::parse_from_rfc2822(date).ok()).map(|date| date.to_utc()))
        })
        .await
    }

    async fn head_within(
        &self,
        repo: &RepositoryAddress,
        reference: &str,
    ) -> Result<Option<Descriptor>, RegistryError> {
        let wanted = check_reference(reference)?;
        let request = self.manifest_request(Method::HEAD, repo, reference)?;
        let response = self.send(&scope(repo, Access::Pull), &request).await?;
        match response.status {
            StatusCode::OK => {}
            _ if missing(&request, &response) => return Ok(None),
            _ => return Err(unexpected(&response)),
        }
        if let (Some(digest), Some(size)) = (header_digest(&response), content_length(&response.headers)) {
            if let Some(expected) = wanted.filter(|wanted| *wanted != digest) {
                let url = site::shown(&response.url);
                return Err(RegistryError::DigestMismatch { url, expected, got: digest });
            }
            return Ok(Some(descriptor(manifest_type(&response)?, digest, size)));
        }
        Ok(match self.manifest_within(repo, reference, MAX_MANIFEST, None).await? {
            ManifestAnswer::Found(m) => Some(descriptor(m.media_type, m.digest, m.bytes.len() as u64)),
            ManifestAnswer::NotFound => None,
            ManifestAnswer::NotModified => unreachable!("nothing was known"),
        })
    }

    fn manifest_request(
        &self,
        method: Method,
        repo: &RepositoryAddress,
        reference: &str,
    ) -> Result<Request, RegistryError> {
        let mut request = request(method, self.inner.endpoint(repo, &format!("manifests/{reference}"))?);
        request.headers.insert(ACCEPT, HeaderValue::from_static(media_type::ACCEPT));
        Ok(request)
    }

    /// Fetches the blob `digest` from `repo`; `None` is a 404 by the registry itself. The bytes are hashed here.
    ///
    /// `size`, in bytes, is what the blob must have if `exact`, else what it may have at most.
    ///
    /// # Errors
    /// [`RegistryError::DigestMismatch`], [`RegistryError::SizeMismatch`] and [`RegistryError::TooLarge`] if it is not
    /// that blob; any other [`RegistryError`].
    pub async fn blob(
        &self,
        repo: &RepositoryAddress,
        digest: &Digest,
        size: u64,
        exact: bool,
    ) -> Result<Option<Bytes>, RegistryError> {
        self.bounded(repo, async {
            let request = request(Method::GET, self.inner.endpoint(repo, &format!("blobs/{digest}"))?);
            let response = self.send(&scope(repo, Access::Pull), &request).await?;
            match response.status {
                StatusCode::OK => {}
                _ if missing(&request, &response) => return Ok(None),
                _ => return Err(unexpected(&response)),
            }
            let url = site::shown(&response.url);
            let bytes = self.inner.transport().read(response, size).await?;
            let got = bytes.len() as u64;
            if exact && got != size {
                return Err(RegistryError::SizeMismatch { url, expected: size, got });
            }
            let got = Digest::of(&bytes);
            if got != *digest {
                return Err(RegistryError::DigestMismatch { url, expected: *digest, got });
            }
            Ok(Some(bytes))
        })
        .await
    }

    /// Gives the blob that `descriptor` names in `repo` to `take`, piece by piece as it comes; false is a 404 by the registry
    /// itself. Whether it is that blob is known at the end: what was given counts for nothing if this fails, or if `take`
    /// said no, which ends it at once.
    ///
    /// The deadline is longer than for other calls, by what the size takes at 64 KiB in a second.
    ///
    /// # Errors
    /// As [`Registry::blob`].
    pub async fn blob_into(
        &self,
        repo: &RepositoryAddress,
        descriptor: &Descriptor,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<bool, RegistryError> {
        let after = self.inner.deadline + Duration::from_secs(descriptor.size / LEAST_RATE);
        let fetched = async {
            let tail = format!("blobs/{}", descriptor.digest);
            let request = request(Method::GET, self.inner.endpoint(repo, &tail)?);
            let response = self.send(&scope(repo, Access::Pull), &request).await?;
            match response.status {
                StatusCode::OK => {}
                _ if missing(&request, &response) => return Ok(false),
                _ => return Err(unexpected(&response)),
            }
            let url = site::shown(&response.url);
            let (mut sum, mut got, mut stopped) = (Context::new(&SHA256), 0, false);
            let each = |piece: &[u8]| {
                sum.update(piece);
                got += piece.len() as u64;
                stopped = !take(piece);
                !stopped
            };
            let cut = self.inner.transport().read_each(response, descriptor.size, each).await?;
            if stopped {
                return Ok(true);
            }
            if cut {
                return Err(RegistryError::TooLarge { url, cap: descriptor.size });
            }
            if got != descriptor.size {
                return Err(RegistryError::SizeMismatch { url, expected: descriptor.size, got });
            }
            let got = Digest::from_sum(sum.finish().as_ref()).expect("a sha256 has 32 bytes");
            let expected = descriptor.digest;
            if got == expected { Ok(true) } else { Err(RegistryError::DigestMismatch { url, expected, got }) }
        };
        let late = || Err(RegistryError::Timeout { host: repo.host.clone(), after });
        tokio::time::timeout(after, fetched).await.unwrap_or_else(|_| late())
    }

    /// True if `repo` has the blob `digest`, by the registry's word.
    ///
    /// # Errors
    /// Any [`RegistryError`].
    pub async fn has_blob(&self, repo: &RepositoryAddress, digest: &Digest) -> Result<bool, RegistryError> {
        self.bounded(repo, async {
            let head = request(Method::HEAD, self.inner.endpoint(repo, &format!("blobs/{digest}"))?);
            let response = self.send(&scope(repo, Access::Pull), &head).await?;
            match response.status {
                StatusCode::OK => Ok(true),
                _ if missing(&head, &response) => Ok(false),
                _ => Err(unexpected(&response)),
            }
        })
        .await
    }

    /// Lists the tags of `repo`, in the registry's order, over as many pages as it takes (at most 1000, and 200,000
    /// tags).
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] if there is no such repository, [`RegistryError::RedirectRefused`] for pages that go
    /// in a circle or lead elsewhere, any other [`RegistryError`].
    pub async fn tags(&self, repo: &RepositoryAddress) -> Result<Vec<String>, RegistryError> {
        self.bounded(repo, self.tags_within(repo)).await
    }

    async fn tags_within(&self, repo: &RepositoryAddress) -> Result<Vec<String>, RegistryError> {
        let (mut seen, mut tags, mut from) = (HashSet::new(), Vec::new(), None);
        loop {
            let page = self.page_within(repo, from.as_ref(), MAX_PAGE).await?;
            if page.cut {
                return Err(RegistryError::TooLarge { url: page.url, cap: MAX_PAGE });
            }
            tags.extend(page.tags);
            let Some(next) = page.next else { return Ok(tags) };
            if !seen.insert(next.url.clone()) || seen.len() >= MAX_PAGES || tags.len() > MAX_TAGS {
                let (from, to) = (page.url, site::shown(&next.url));
                return Err(RegistryError::RedirectRefused { from, to, source: Refusal::Circle });
            }
            from = Some(next);
        }
    }

    /// One page of the tags of `repo`, as large as the registry makes it: the first, or the one that `from` leads to. At
    /// most `cap` bytes are read; of a longer page as many whole tags are returned as came until then.
    ///
    /// One request. That pages come to an end is for the caller to see to.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`] if there is no such repository, [`RegistryError::RedirectRefused`] for a next page that
    /// leads elsewhere or back to this one, any other [`RegistryError`].
    pub async fn tags_page(
        &self,
        repo: &RepositoryAddress,
        from: Option<&NextTags>,
        cap: u64,
    ) -> Result<TagPage, RegistryError> {
        self.bounded(repo, self.page_within(repo, from, cap)).await
    }

    async fn page_within(
        &self,
        repo: &RepositoryAddress,
        from: Option<&NextTags>,
        cap: u64,
    ) -> Result<TagPage, RegistryError> {
        let first = self.inner.endpoint(repo, "tags/list?n=1000")?;
        let url = from.map_or(&first, |next| &next.url);
        let refuse = |to: &Url, source| RegistryError::RedirectRefused {
            from: site::shown(url),
            to: site::shown(to),
            source,
        };
        let elsewhere = |to: &Url| !site::same_origin(&first, to) || to.path() != first.path();
        if elsewhere(url) {
            return Err(refuse(url, Refusal::OtherList));
        }
        let request = request(Method::GET, url.clone());
        let response = self.send(&scope(repo, Access::Pull), &request).await?;
        match response.status {
            StatusCode::OK => {}
            _ if missing(&request, &response) => {
                return Err(RegistryError::NotFound { url: site::shown(url) });
            }
            _ => return Err(unexpected(&response)),
        }
        let malformed = |what| RegistryError::Malformed { url: site::shown(url), what };
        let next = next_page(&response).map(|next| next.ok_or_else(|| malformed("no usable Link")));
        let (body, cut) = self.inner.transport().read_up_to(response, cap).await?;
        let tags = if cut { whole_tags(&body) } else { listed(&body) };
        let tags = tags.ok_or_else(|| malformed("no list of tags"))?;
        if !tags.iter().all(|tag| valid_tag(tag)) {
            return Err(malformed("a tag outside the grammar of tags"));
        }
        let next = next.transpose()?;
        if let Some(next) = &next {
            if elsewhere(next) {
                return Err(refuse(next, Refusal::OtherList));
            }
            if next == url {
                return Err(refuse(next, Refusal::Circle));
            }
        }
        Ok(TagPage { tags, next: next.map(|url| NextTags { url }), cut, url: site::shown(url) })
    }
}

/// The tags in a whole answer.
fn listed(body: &[u8]) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Page {
        tags: Option<Vec<String>>,
    }
    let page: Page = record::json(body).ok()?;
    Some(page.tags.unwrap_or_default())
}

/// The tags in the beginning of an answer that was too long to be read to its end. No tag needs an escape.
fn whole_tags(body: &[u8]) -> Option<Vec<String>> {
    let text = String::from_utf8_lossy(body);
    let (_, tags) = text.split_once("\"tags\"")?;
    let (_, tags) = tags.split_once('[')?;
    let parts: Vec<&str> = tags.split('"').collect();
    // Every second part stands between quotes; what follows the last quote is cut off, or nothing.
    let whole = parts[..parts.len() - 1].iter().skip(1).step_by(2);
    Some(whole.map(|tag| (*tag).to_owned()).collect())
}

fn descriptor(media_type: String, digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type, digest, size, data: None, annotations: Default::default() }
}

/// The digest in the header of `response`: the registry's word.
pub(super) fn header_digest(response: &Response) -> Option<Digest> {
    response.headers.get(DIGEST_HEADER)?.to_str().ok()?.parse().ok()
}

/// The `Content-Type` of `response` without parameters, if it is a manifest's.
fn manifest_type(response: &Response) -> Result<String, RegistryError> {
    let found = bare_type(&response.headers);
    let manifests =
        [media_type::MANIFEST, media_type::INDEX, media_type::DOCKER_MANIFEST, media_type::DOCKER_LIST];
    if manifests.contains(&found.as_str()) {
        return Ok(found);
    }
    let got = found.chars().take(200).collect();
    Err(RegistryError::ContentType { url: site::shown(&response.url), got })
}

fn bare_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Refuses a manifest that another reader could take for something else (CVE-2021-41190; T77).
fn check_manifest(bytes: &[u8], media_type: &str) -> Result<(), ManifestFault> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Probe {
        media_type: Option<String>,
        manifests: Option<IgnoredAny>,
        config: Option<IgnoredAny>,
        layers: Option<IgnoredAny>,
        fs_layers: Option<IgnoredAny>,
    }
    json::check(bytes)?;
    let probe: Probe = record::json(bytes).map_err(|_| ManifestFault::Shape)?;
    let index = matches!(media_type, media_type::INDEX | media_type::DOCKER_LIST);
    let of_image = probe.config.is_some() || probe.layers.is_some();
    if probe.fs_layers.is_some() || if index { of_image } else { probe.manifests.is_some() } {
        return Err(ManifestFault::Ambiguous);
    }
    match probe.media_type {
        Some(own) if own != media_type => Err(ManifestFault::MediaType),
        _ => Ok(()),
    }
}

/// Where `Link: <…>; rel="next"` leads (RFC 8288): `None` if there is no such link, `Some(None)` if it is no URL.
fn next_page(response: &Response) -> Option<Option<Url>> {
    for value in response.headers.get_all(LINK) {
        let mut rest = value.to_str().ok()?;
        while let Some((_, from)) = rest.split_once('<') {
            let Some((target, after)) = from.split_once('>') else { break };
            let (params, _) = after.split_once('<').unwrap_or((after, ""));
            let next =
                params.split([';', ',']).map(str::trim).any(|p| p == "rel=\"next\"" || p == "rel=next");
            if next {
                return Some(response.url.join(target).ok());
            }
            rest = after;
        }
    }
    None
}
