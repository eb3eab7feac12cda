//! Leaving a submission in a trust repository's inbox, for publishers who reach the registry and not the daemon.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::StatusCode;
use plimsoll_core::oci::{
    Digest, RepositoryAddress,
    mapping::{
        Artifact, Profile,
        inbox::{self, Entry, MAX_INBOX_MANIFEST},
    },
    media_type,
};
use serde::Deserialize;

use super::{
    PublishError,
    api::{Accepted, MAX_ANSWER, MAX_SUBMISSION, Refusal, Submission},
};
use crate::registry::{ManifestAnswer, Registry, RegistryError};

/// The inbox of one trust repository, `HOST/REPOSITORY/inbox` (docs/oci-mapping.md). Cheap to clone.
#[derive(Debug, Clone)]
pub struct Inbox {
    registry: Registry,
    repository: RepositoryAddress,
}

/// A submission that lies in an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Its tag.
    pub tag: String,
    /// sha256 of its manifest.
    pub digest: Digest,
    /// sha256 of its JSON, by which it is answered.
    pub submission: Digest,
}

/// What an inbox says that the daemon answered: a hint that nobody signed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// The daemon has it, and publishes it.
    #[serde(deserialize_with = "plimsoll_core::record::by_name")]
    Accepted(Accepted),
    /// The daemon does not take it.
    #[serde(deserialize_with = "plimsoll_core::record::by_name")]
    Refused(Refusal),
}

impl Inbox {
    /// The inbox of the trust repository `trust`. No I/O.
    ///
    /// # Errors
    /// [`PublishError::NoInbox`] if the inbox's name would be too long.
    pub fn new(registry: Registry, trust: &RepositoryAddress) -> Result<Self, PublishError> {
        let repository = inbox::inbox(trust)
            .map_err(|source| PublishError::NoInbox { trust: trust.to_string(), source })?;
        Ok(Self { registry, repository })
    }

    /// Where it is.
    pub fn repository(&self) -> &RepositoryAddress {
        &self.repository
    }

    /// Leaves `documents`, by role, which take effect together. Needs the right to push to the inbox and none else.
    ///
    /// Nothing is accepted yet when this returns: that shows in a timestamp whose snapshot names the documents. The same
    /// documents may be left again; what the daemon had already is known to it. A registry that refuses the manifest as
    /// such (400, 415, 422) is given that of OCI 1.0.
    ///
    /// # Errors
    /// [`PublishError::Inbox`], [`PublishError::TooLarge`].
    ///
    /// # Panics
    /// If a document is not JSON; those we author are.
    pub async fn leave(&self, documents: &BTreeMap<String, Vec<u8>>) -> Result<Left, PublishError> {
        let json = Submission::json(documents);
        let size = json.len() as u64;
        if size > MAX_SUBMISSION {
            return Err(PublishError::TooLarge { size, max: MAX_SUBMISSION });
        }
        let mut artifact = inbox::submission(&json, Profile::Oci11);
        let put = match self.put(&artifact).await {
            Err(RegistryError::Status { status, .. }) if refuses_manifest(status) => {
                artifact = inbox::submission(&json, Profile::Oci10);
                self.put(&artifact).await
            }
            put => put,
        };
        put.map_err(|source| self.failed(source))?;
        Ok(Left { tag: artifact.tag, digest: artifact.digest, submission: Digest::of(&json) })
    }

    /// What the daemon answered, if it has and this user may read it (404, 401 and 403 are no answer, and neither is what
    /// is not one).
    ///
    /// Not signed by anybody: whoever may push to the inbox can have written it. Success is a verified timestamp and
    /// snapshot that name the documents, and a refusal is believed only if those do not.
    ///
    /// # Errors
    /// [`PublishError::Inbox`] if the registry does not answer.
    pub async fn answer(&self, left: &Left) -> Result<Option<Answer>, PublishError> {
        match self.read(&inbox::answer_tag(&left.submission)).await {
            Err(error) if error.is_auth() || error.is_untrusted() => Ok(None),
            answer => answer.map_err(|source| self.failed(source)),
        }
    }

    async fn put(&self, artifact: &Artifact) -> Result<(), RegistryError> {
        for (_, bytes) in &artifact.blobs {
            self.registry.put_blob(&self.repository, bytes.clone().into()).await?;
        }
        let manifest = Bytes::from(artifact.manifest.clone());
        self.registry.put_manifest(&self.repository, &artifact.tag, media_type::MANIFEST, manifest).await?;
        Ok(())
    }

    async fn read(&self, tag: &str) -> Result<Option<Answer>, RegistryError> {
        let cap = MAX_INBOX_MANIFEST as u64;
        let ManifestAnswer::Found(manifest) =
            self.registry.manifest(&self.repository, tag, cap, None).await?
        else {
            return Ok(None);
        };
        let Ok(Entry::Answer { layer, .. }) = inbox::read(&manifest.bytes) else { return Ok(None) };
        if layer.size > MAX_ANSWER {
            return Ok(None);
        }
        let json = self.registry.blob(&self.repository, &layer.digest, layer.size, true).await?;
        Ok(json.and_then(|json| serde_json::from_slice(&json).ok()))
    }

    fn failed(&self, source: RegistryError) -> PublishError {
        PublishError::Inbox { inbox: self.repository.to_string(), source: source.into() }
    }
}

/// True for the statuses with which registries refuse a manifest of a form they do not know.
fn refuses_manifest(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE | StatusCode::UNPROCESSABLE_ENTITY
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T50, T56.
    #[test]
    fn an_answer_is_read_by_the_names_of_its_members() {
        let read = |text: &str| serde_json::from_str::<Answer>(text).ok();
        let accepted = r#"{"id": "00", "state": "accepted", "documents": {"targets": 2}, "timestamp": 3}"#;
        assert!(matches!(read(accepted), Some(Answer::Accepted(Accepted { timestamp: 3, .. }))));
        for text in [
            r#"["00", "accepted", {"targets": 2}, 3]"#,
            r#"{"id": "00", "state": {"accepted": null}, "documents": {"targets": 2}, "timestamp": 3}"#,
            r#"["malformed", "no", []]"#,
            "[]",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
