//! The daemon, as the publish side sees it.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use plimsoll_core::record;
use serde::de::DeserializeOwned;
use url::Url;

use super::{
    PublishError,
    api::{Accepted, MAX_ANSWER, Progress, Refusal, RefusalCode, Submission, TrustInfo, Trusts},
};
use crate::registry::{Registry, RegistryError, Secret};

/// How long one question for progress may wait at the daemon, seconds.
const WAIT: u64 = 10;
/// How long it is asked before giving up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it may fail to answer, one time after the other: it may be starting anew.
const FAILURES: u32 = 10;
/// The daemon holds the question for a while; should it answer at once, do not spin.
const PAUSE: Duration = Duration::from_millis(300);

/// A daemon at one URL.
#[derive(Debug, Clone)]
pub struct Server {
    http: Registry,
    url: Url,
    token: Option<Secret>,
}

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// Durable.
    Accepted(Accepted),
    /// Somebody was faster.
    Conflict(Refusal),
}

impl Server {
    /// The daemon at `url`. No I/O.
    pub fn new(http: Registry, url: Url) -> Self {
        Self { http, url, token: None }
    }

    /// The same, submitting with `token`. It is sent to this URL only, with submissions only, and never in plain http beyond
    /// this machine.
    #[must_use]
    pub fn with_token(self, token: Option<Secret>) -> Self {
        Self { token, ..self }
    }

    /// Where it is.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The plain TUF files of the trust repository that the daemon calls `name`.
    pub fn metadata_url(&self, name: &str) -> Url {
        self.endpoint(&["tuf", name, "metadata"])
    }

    /// The trust repositories that the daemon serves, without those that have not started.
    ///
    /// # Errors
    /// [`PublishError::Server`], [`PublishError::NotADaemon`].
    pub async fn trusts(&self) -> Result<Vec<TrustInfo>, PublishError> {
        Ok(self.list().await?.trusts)
    }

    async fn list(&self) -> Result<Trusts, PublishError> {
        let url = self.endpoint(&["v1", "trusts"]);
        let body = self.http.file(&url, MAX_ANSWER).await?.ok_or_else(|| not_a_daemon(&url))?;
        read(&url, &body)
    }

    /// The one that `wanted` picks; `what` names it in the error.
    ///
    /// # Errors
    /// [`PublishError::NotServed`]; [`PublishError::NotNow`] if it may be one that has not started; those of
    /// [`Server::trusts`].
    pub async fn trust(
        &self,
        what: &str,
        wanted: impl Fn(&TrustInfo) -> bool,
    ) -> Result<TrustInfo, PublishError> {
        let list = self.list().await?;
        let found = list.trusts.iter().find(|trust| wanted(trust)).cloned();
        found.ok_or_else(|| self.not_served(what, &list))
    }

    /// The one with this trust id.
    ///
    /// # Errors
    /// [`PublishError::NotNow`] if it may be one that has an alarm and does not know its id: its store may be lost.
    /// Else as [`Server::trust`].
    pub async fn trust_with_id(&self, id: &str) -> Result<TrustInfo, PublishError> {
        let list = self.list().await?;
        let found = list.trusts.iter().find(|trust| trust.trust_id.as_deref() == Some(id)).cloned();
        let missing = || self.not_served(&format!("trust id {id}"), &list);
        found.ok_or_else(|| list.trusts.iter().find_map(unknown).unwrap_or_else(missing))
    }

    fn not_served(&self, what: &str, list: &Trusts) -> PublishError {
        if !list.starting.is_empty() {
            let message = format!(
                "{what} is not among what it serves, and {} has not started: try again, or have whoever runs it look at \
                 its log",
                list.starting.join(", ")
            );
            return PublishError::NotNow { message };
        }
        let served = list.trusts.iter().map(|trust| trust.repository.as_str()).collect::<Vec<_>>().join(", ");
        PublishError::NotServed {
            server: self.url.to_string(),
            wanted: what.to_owned(),
            served: if served.is_empty() { "nothing".to_owned() } else { served },
        }
    }

    /// Submits `documents`, which take effect together. Once accepted they are durable.
    ///
    /// # Errors
    /// [`PublishError::Refused`], [`PublishError::NotLetIn`], [`PublishError::NotNow`], [`PublishError::Server`],
    /// [`PublishError::NotADaemon`].
    ///
    /// # Panics
    /// If a document is not JSON; ours are.
    pub async fn submit(
        &self,
        name: &str,
        documents: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Submitted, PublishError> {
        let body = Submission::json(documents);
        let url = self.endpoint(&["v1", "trusts", name, "submissions"]);
        let (status, answer) =
            self.http.post(&url, self.token.as_ref(), Bytes::from(body), MAX_ANSWER).await?;
        if status.is_success() {
            return Ok(Submitted::Accepted(read(&url, &answer)?));
        }
        let refusal: Refusal = match read(&url, &answer) {
            // Whoever is in front of the daemon says this in words of its own.
            Err(_) if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) => {
                return Err(RegistryError::Status { url: url.to_string(), status, retry_after: None }.into());
            }
            Err(_) if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                let message = format!("what is in front of it answers {status}");
                return Err(PublishError::NotLetIn { server: self.url.to_string(), message });
            }
            refusal => refusal?,
        };
        match refusal.code {
            RefusalCode::Conflict => Ok(Submitted::Conflict(refusal)),
            RefusalCode::Unauthorized | RefusalCode::Forbidden => {
                Err(PublishError::NotLetIn { server: self.url.to_string(), message: refusal.message })
            }
            RefusalCode::Unavailable | RefusalCode::RateLimited => {
                Err(PublishError::NotNow { message: refusal.message })
            }
            _ => Err(PublishError::Refused { message: refusal.message }),
        }
    }

    /// Waits until the submission is in a timestamp that the registry serves.
    ///
    /// # Errors
    /// [`PublishError::NotPublishedInTime`] after about a minute, [`PublishError::Unconfirmed`],
    /// [`PublishError::NotADaemon`].
    pub async fn published(&self, name: &str, id: &str) -> Result<Accepted, PublishError> {
        let mut url = self.endpoint(&["v1", "trusts", name, "submissions", id]);
        url.query_pairs_mut().append_pair("wait", &WAIT.to_string());
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut failures = 0;
        while tokio::time::Instant::now() < deadline {
            match self.http.file(&url, MAX_ANSWER).await {
                Ok(body) => {
                    failures = 0;
                    let accepted: Accepted = read(&url, &body.ok_or_else(|| not_a_daemon(&url))?)?;
                    if accepted.state == Progress::Published {
                        return Ok(accepted);
                    }
                }
                Err(source) => {
                    failures += 1;
                    if failures == FAILURES || !source.is_unavailable() {
                        return Err(PublishError::Unconfirmed { id: id.to_owned(), source });
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(PublishError::NotPublishedInTime { id: id.to_owned() })
    }

    fn endpoint(&self, path: &[&str]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }
}

/// With an alarm, that there is no trust id does not mean that the trust repository was never made.
pub(super) fn unknown(trust: &TrustInfo) -> Option<PublishError> {
    let alarm = trust.alarm.as_ref().filter(|_| trust.trust_id.is_none())?;
    Some(PublishError::NotNow { message: format!("{} is in ALARM: {alarm}", trust.repository) })
}

fn read<T: DeserializeOwned>(url: &Url, body: &[u8]) -> Result<T, PublishError> {
    record::json(body).map_err(|_| not_a_daemon(url))
}

fn not_a_daemon(url: &Url) -> PublishError {
    PublishError::NotADaemon { url: url.to_string() }
}
