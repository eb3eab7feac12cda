//! Changing what is published: read the head, edit, sign, submit; if somebody was faster, again on the newer head.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::{Digest, RepositoryAddress},
    tuf::{Document, Root},
};
use ring::rand::SecureRandom;
use serde::Serialize;
use tokio::sync::OnceCell;

use super::{
    PublishError, Server,
    api::RefusalCode,
    draft::{Draft, DraftError, Next},
    head::{Head, Reader, Shows},
    history::{self, History},
    inbox::{Answer, Inbox},
    seen::Expected,
    server::Submitted,
};
use crate::{
    clock::Clock,
    keys::Signer,
    registry::Registry,
    update::{Bounds, RegistrySource, Session, TufSource, UpdateError},
};

/// How long a change is applied to newer heads before giving up.
const PATIENCE: Duration = Duration::from_secs(120);
/// After a lost race, up to so long until the next try, once more for each up to eight: what won may not be served yet,
/// and those who lost together must not try together.
const PAUSE: Duration = Duration::from_millis(60);

/// How long the daemon may take to collect what was left in the inbox, and how often it is looked for.
const COLLECTED: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(700);

/// One trust repository, seen from its publish side.
pub struct Publisher {
    via: Via,
    http: Registry,
    repository: RepositoryAddress,
    pinned: Vec<u8>,
    state: PathBuf,
    clock: Arc<dyn Clock>,
}

/// How changes get to the daemon.
#[derive(Debug)]
enum Via {
    /// Over its API.
    Daemon {
        server: Server,
        /// What it calls the trust repository, once it was asked.
        name: OnceCell<String>,
    },
    /// Through the registry, for those who reach nothing else.
    Inbox(Inbox),
}

/// What a change makes: the next versions of some roles, which take effect together.
#[derive(Debug)]
pub struct Edit<T> {
    /// The new documents, by role.
    pub documents: BTreeMap<String, Next>,
    /// What to tell about the change.
    pub told: T,
}

/// What shall become of a change, and who signs it.
#[derive(Clone, Copy)]
pub struct How<'a> {
    /// The keys at hand.
    pub signers: &'a [&'a dyn Signer],
    /// Collect signatures in a draft, instead of submitting.
    pub draft: bool,
}

/// What became of a change.
#[derive(Debug)]
pub enum Done<T> {
    /// In the registry.
    Published(Published, T),
    /// Not submitted: it waits for signatures.
    Drafted(Box<Draft>, T),
}

/// Where a change is to be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Published {
    /// The new version of each role.
    pub versions: BTreeMap<String, u64>,
    /// The first timestamp that holds it.
    pub timestamp: u64,
    /// The digest of each new document.
    #[serde(skip)]
    pub documents: BTreeMap<String, Digest>,
}

impl Published {
    /// What clients shall see of it: every document, or what was published after it.
    pub fn expected(&self) -> impl Iterator<Item = Expected<'_>> {
        self.documents.iter().map(|(role, digest)| {
            let version = self.versions.get(role).copied().unwrap_or_default();
            Expected::Document { role, version, digest: *digest }
        })
    }
}

/// `targets version 3, targets--app version 7`.
impl std::fmt::Display for Published {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, (role, version)) in self.versions.iter().enumerate() {
            write!(f, "{}{role} version {version}", if at > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("via", &self.via)
            .field("repository", &self.repository)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for How<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("How").field("draft", &self.draft).finish_non_exhaustive()
    }
}

impl<T> Done<T> {
    /// The same, with `tell` of what is told.
    pub fn map<U>(self, tell: impl FnOnce(T) -> U) -> Done<U> {
        match self {
            Self::Published(published, told) => Done::Published(published, tell(told)),
            Self::Drafted(draft, told) => Done::Drafted(draft, tell(told)),
        }
    }
}

impl<T> Edit<T> {
    /// A change of one role.
    pub fn of(role: &str, next: impl Into<Next>, told: T) -> Self {
        Self { documents: BTreeMap::from([(role.to_owned(), next.into())]), told }
    }
}

impl Publisher {
    /// The trust repository at `repository`, which the root `pinned` starts, kept by the daemon at `server`. `state` is
    /// the folder of what the publish side remembers, which must not be the verify side's: the daemon shows what it has
    /// accepted, and that is ahead of the registry until it is pushed. No I/O.
    pub fn through_daemon(
        http: Registry,
        server: Server,
        repository: RepositoryAddress,
        pinned: Vec<u8>,
        state: &Path,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let via = Via::Daemon { server, name: OnceCell::new() };
        Self { via, http, repository, pinned, state: state.to_owned(), clock }
    }

    /// The trust repository at `repository`, which the root `pinned` starts, where only the registry can be reached:
    /// changes are left in its inbox. `state` is the verify side's folder, since the registry is what is read. No I/O.
    ///
    /// # Errors
    /// [`PublishError::NoInbox`].
    pub fn through_registry(
        http: Registry,
        repository: RepositoryAddress,
        pinned: Vec<u8>,
        state: &Path,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PublishError> {
        let via = Via::Inbox(Inbox::new(http.clone(), &repository)?);
        Ok(Self { via, http, repository, pinned, state: state.to_owned(), clock })
    }

    /// The daemon and what it calls the trust repository, which is asked once; none if only the registry is talked to.
    ///
    /// # Errors
    /// [`PublishError`] of the daemon's answer; [`PublishError::NotServed`].
    pub async fn daemon(&self) -> Result<Option<(&Server, &str)>, PublishError> {
        let Via::Daemon { server, name } = &self.via else { return Ok(None) };
        let ask = async || {
            let root = Document::<Root>::parse("root", &self.pinned).map_err(UpdateError::from)?;
            let id = root.signed.common.identity.map(|identity| identity.trust).unwrap_or_default();
            Ok::<_, PublishError>(server.trust_with_id(&id).await?.name)
        };
        Ok(Some((server, name.get_or_try_init(ask).await?)))
    }

    /// What is published now.
    ///
    /// # Errors
    /// [`PublishError::Update`].
    pub async fn head(&self) -> Result<Head, PublishError> {
        let now = self.clock.now();
        let mut session =
            Session::refresh(self.reader().await?, &self.state, &self.pinned, now, &Bounds::default())
                .await?;
        // Read from the disk if nothing is new: a head is asked what is published.
        session.verified_snapshot()?;
        Ok(Head::new(session, now))
    }

    /// Where it is read.
    pub(super) async fn reader(&self) -> Result<Reader, PublishError> {
        Ok(match self.daemon().await? {
            Some((server, name)) => {
                Reader::Daemon(TufSource::new(self.http.clone(), server.metadata_url(name)))
            }
            None => Reader::Registry(RegistrySource::new(self.http.clone(), self.repository.clone())),
        })
    }

    /// Where the trust repository is.
    pub(super) fn repository(&self) -> &RepositoryAddress {
        &self.repository
    }

    /// The root that is trusted out of band.
    pub(super) fn pinned(&self) -> &[u8] {
        &self.pinned
    }

    /// The time.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Every version of `role` that the daemon has, as of `head`; none if it was never published.
    pub(super) async fn history(&self, head: &mut Head, role: &str) -> Result<Option<History>, PublishError> {
        if head.trusted().wanted_role(role).is_err() {
            return Ok(None);
        }
        let (server, name) = self.daemon().await?.ok_or_else(|| PublishError::NoHistory(role.to_owned()))?;
        let present = history::Present::of(head.session())?;
        let source = TufSource::new(self.http.clone(), server.metadata_url(name));
        let histories = history::read(&source, &self.pinned, &present, Some(role)).await?;
        Ok(histories.into_iter().find(|history| history.role() == role))
    }

    /// Applies `edit` to the newest head, signs, and submits it unless a draft is wanted; if somebody was faster, again
    /// on the newer head. What it returns as published is in a timestamp that the daemon says the registry serves.
    ///
    /// # Errors
    /// [`PublishError`]; [`PublishError::Unsigned`] if the keys at hand are not enough to submit.
    pub async fn change<T>(
        &self,
        how: How<'_>,
        mut edit: impl AsyncFnMut(&mut Head) -> Result<Edit<T>, PublishError>,
    ) -> Result<Done<T>, PublishError> {
        let started = tokio::time::Instant::now();
        let mut tries = 0;
        loop {
            tries += 1;
            let (draft, told) = {
                let mut head = self.head().await?;
                let edit = edit(&mut head).await?;
                let base = head.base(edit.documents.keys().cloned(), how.draft).await?;
                (Draft::new(&self.repository.to_string(), &base, edit.documents)?, edit.told)
            };
            let draft = signed(draft, how)?;
            if how.draft {
                return Ok(Done::Drafted(Box::new(draft), told));
            }
            let roles: Vec<String> = draft.versions().into_keys().collect();
            if let Some(published) = self.submit(&draft).await? {
                return Ok(Done::Published(published, told));
            }
            if started.elapsed() > PATIENCE {
                return Err(PublishError::Contended { role: roles.join(", "), tries });
            }
            tokio::time::sleep(pause(tries)?).await;
        }
    }

    /// Submits a draft that has all its signatures, and waits until it is published. None if somebody published one of
    /// its roles first: the draft is of no use any more.
    ///
    /// # Errors
    /// [`PublishError`]; [`PublishError::Unsigned`] if signatures are missing.
    pub async fn submit(&self, draft: &Draft) -> Result<Option<Published>, PublishError> {
        if !draft.is_complete() {
            return Err(unsigned(draft));
        }
        let timestamp = match (self.daemon().await?, &self.via) {
            (Some((server, name)), _) => match server.submit(name, &draft.documents()).await? {
                Submitted::Accepted(accepted) => Some(server.published(name, &accepted.id).await?.timestamp),
                Submitted::Conflict(_) => None,
            },
            (None, Via::Inbox(inbox)) => self.leave(inbox, draft).await?,
            (None, Via::Daemon { .. }) => unreachable!("a daemon has a name once it was asked"),
        };
        Ok(timestamp.map(|timestamp| published(draft, timestamp)))
    }

    /// Leaves the draft's documents in the inbox and waits for the timestamp that names them; none if somebody published
    /// one of the roles first.
    async fn leave(&self, inbox: &Inbox, draft: &Draft) -> Result<Option<u64>, PublishError> {
        let left = inbox.leave(&draft.documents()).await?;
        let started = tokio::time::Instant::now();
        let mut refused = None;
        while started.elapsed() < COLLECTED {
            let (newer, kept, timestamp) = {
                let mut head = self.head().await?;
                let timestamp = head.trusted().timestamp().map_or(0, |timestamp| timestamp.version());
                match head.shows(draft) {
                    Shows::All => return Ok(Some(timestamp)),
                    Shows::Others => return Ok(None),
                    Shows::Newer => (true, head.delegates_as(draft).await?, timestamp),
                    Shows::Nothing => (false, false, timestamp),
                }
            };
            // Whoever may push to the inbox could have written the answer: the metadata was looked at once more since.
            if let Some(message) = refused {
                return Err(PublishError::RefusedIn { inbox: inbox.repository().to_string(), message });
            }
            match inbox.answer(&left).await? {
                // Of names, who asked looks at what they mean then; of delegations this is all that is looked at.
                Some(Answer::Accepted(accepted)) if kept && accepted.timestamp <= timestamp => {
                    return Ok(Some(accepted.timestamp));
                }
                Some(Answer::Accepted(_)) if newer && !kept => return Ok(None),
                Some(Answer::Refused(refusal)) if refusal.code == RefusalCode::Conflict => return Ok(None),
                Some(Answer::Refused(refusal)) => refused = Some(refusal.message),
                // Somebody went on from ours, or from another of the same version: what is wanted is applied to that.
                None if newer => return Ok(None),
                Some(Answer::Accepted(_)) | None => {}
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(PublishError::NotCollected { inbox: inbox.repository().to_string(), tag: left.tag })
    }
}

/// The draft with the signatures of the keys at hand, each of which must be asked for.
fn signed(mut draft: Draft, how: How<'_>) -> Result<Draft, PublishError> {
    for signer in how.signers {
        draft.sign(*signer)?;
    }
    if !how.draft && !draft.is_complete() {
        return Err(unsigned(&draft));
    }
    Ok(draft)
}

/// The draft as published in `timestamp`.
pub(super) fn published(draft: &Draft, timestamp: u64) -> Published {
    let documents = draft.documents().into_iter().map(|(role, bytes)| (role, Digest::of(&bytes)));
    Published { versions: draft.versions(), timestamp, documents: documents.collect() }
}

/// Who has to sign before the draft may be submitted.
pub(super) fn unsigned(draft: &Draft) -> PublishError {
    let open = draft.requirements().into_iter().filter(|requirement| requirement.missing() > 0);
    let words = open.map(|requirement| {
        let who = requirement.keys.iter().filter(|key| !key.signed);
        let who: Vec<&str> =
            who.map(|key| key.name.as_deref().unwrap_or_else(|| key.keyid.short())).collect();
        format!("{} needs {} more of {}", requirement.role, requirement.missing(), who.join(", "))
    });
    PublishError::Unsigned { missing: words.collect::<Vec<_>>().join("; ") }
}

fn pause(tries: u32) -> Result<Duration, PublishError> {
    let mut random = [0];
    ring::rand::SystemRandom::new().fill(&mut random).map_err(|_| PublishError::Randomness)?;
    Ok(PAUSE * tries.min(8) * u32::from(random[0]) / 255)
}

impl From<DraftError> for PublishError {
    fn from(error: DraftError) -> Self {
        match error {
            DraftError::Sign(error) => Self::Sign(error),
            error => Self::Draft(error),
        }
    }
}
