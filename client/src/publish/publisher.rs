//! Changing what is published: read the head, edit, sign, submit; if somebody was faster, again on the newer head.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use plimsoll_core::{
    oci::RepositoryAddress,
    tuf::{Document, Root},
};
use ring::rand::SecureRandom;
use serde::Serialize;

use super::{
    PublishError, Server,
    draft::{Draft, DraftError, Next},
    head::{Head, Reader},
    history::{self, History},
    server::Submitted,
};
use crate::{
    clock::Clock,
    keys::Signer,
    registry::Registry,
    update::{Session, TufSource, UpdateError},
};

/// How long a change is applied to newer heads before giving up.
const PATIENCE: Duration = Duration::from_secs(120);
/// After a lost race, up to so long until the next try, once more for each up to eight: what won may not be served yet,
/// and those who lost together must not try together.
const PAUSE: Duration = Duration::from_millis(60);

/// One trust repository, seen from its publish side.
pub struct Publisher {
    server: Server,
    http: Registry,
    name: String,
    repository: RepositoryAddress,
    pinned: Vec<u8>,
    state: PathBuf,
    clock: Arc<dyn Clock>,
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
            .field("server", &self.server)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for How<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("How").field("draft", &self.draft).finish_non_exhaustive()
    }
}

impl<T> Edit<T> {
    /// A change of one role.
    pub fn of(role: &str, next: impl Into<Next>, told: T) -> Self {
        Self { documents: BTreeMap::from([(role.to_owned(), next.into())]), told }
    }
}

impl Publisher {
    /// Finds the trust repository at `repository`, which the root `pinned` starts, at the daemon at `server`. `state` is
    /// the folder of what the publish side remembers, which must not be the verify side's: the daemon shows what it has
    /// accepted, and that is ahead of the registry until it is pushed.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn connect(
        http: Registry,
        server: Server,
        repository: RepositoryAddress,
        pinned: Vec<u8>,
        state: &Path,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PublishError> {
        let root = Document::<Root>::parse("root", &pinned).map_err(UpdateError::from)?;
        let id = root.signed.common.identity.map(|identity| identity.trust).unwrap_or_default();
        let trust = server.trust_with_id(&id).await?;
        Ok(Self { server, http, name: trust.name, repository, pinned, state: state.to_owned(), clock })
    }

    /// The daemon.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// What the daemon calls the trust repository.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is published now.
    ///
    /// # Errors
    /// [`PublishError::Update`].
    pub async fn head(&self) -> Result<Head, PublishError> {
        let now = self.clock.now();
        let source = TufSource::new(self.http.clone(), self.server.metadata_url(&self.name));
        let session = Session::refresh(Reader::Daemon(source), &self.state, &self.pinned, now).await?;
        Ok(Head::new(session, now))
    }

    /// Every version of `role` that the daemon has, as of `head`; none if it was never published.
    pub(super) async fn history(&self, head: &mut Head, role: &str) -> Result<Option<History>, PublishError> {
        if head.trusted().wanted_role(role).is_err() {
            return Ok(None);
        }
        let present = history::Present::of(head.session())?;
        let source = TufSource::new(self.http.clone(), self.server.metadata_url(&self.name));
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
        match self.server.submit(&self.name, &draft.documents()).await? {
            Submitted::Accepted(accepted) => {
                let accepted = self.server.published(&self.name, &accepted.id).await?;
                Ok(Some(Published { versions: draft.versions(), timestamp: accepted.timestamp }))
            }
            Submitted::Conflict(_) => Ok(None),
        }
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

/// Who has to sign before the draft may be submitted.
fn unsigned(draft: &Draft) -> PublishError {
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
