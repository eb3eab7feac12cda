//! Making a trust repository.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use plimsoll_core::{
    oci::{Digest, RepositoryAddress},
    policy::Scope,
    tuf::{Key, KeyId},
};
use ring::rand::SecureRandom;

use super::{
    PublishError, Server,
    api::{OnlineKeys, TrustInfo},
    author::{self, Holders},
    draft::{Base, Draft, rehearse},
    publisher::unsigned,
    server::{Submitted, unknown},
};
use crate::{clock::Clock, keys::Signer};

/// A trust repository to be made.
#[derive(Debug, Clone)]
pub struct InitRequest {
    /// Where its metadata shall be; the daemon must serve it.
    pub repository: RepositoryAddress,
    /// What it may speak about.
    pub scopes: Vec<Scope>,
    /// The daemon's online keys, if they came another way than from the daemon.
    pub online: Option<OnlineKeys>,
    /// What people call the owners' keys.
    pub names: Vec<(KeyId, String)>,
}

/// A trust repository that was made and is served by the registry.
#[derive(Debug, Clone)]
pub struct Initialised {
    /// What the daemon calls it.
    pub name: String,
    /// Its trust id.
    pub trust_id: String,
    /// Its first root: what clients pin.
    pub root: Vec<u8>,
    /// sha256 of that root.
    pub sha256: Digest,
    /// The online keys it names.
    pub online: OnlineKeys,
    /// The timestamp that made it visible.
    pub timestamp: u64,
}

/// A trust repository that is signed and not yet submitted. Whoever submits it keeps [`Prepared::root`] first: from then
/// on the repository may exist, and nobody can use it without its root.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// What the daemon calls it.
    pub name: String,
    /// Its trust id.
    pub trust_id: String,
    /// Its first root: what clients pin.
    pub root: Vec<u8>,
    /// sha256 of that root.
    pub sha256: Digest,
    /// The online keys it names.
    pub online: OnlineKeys,
    targets: Vec<u8>,
}

/// A trust repository whose holders are apart.
#[derive(Debug, Clone)]
pub struct FirstRequest {
    /// Where its metadata shall be.
    pub repository: RepositoryAddress,
    /// What it may speak about.
    pub scopes: Vec<Scope>,
    /// Who signs its root.
    pub root: Holders,
    /// Who signs its `targets`.
    pub targets: Holders,
    /// The daemon's keys.
    pub online: OnlineKeys,
}

/// A draft of root and targets version 1, for their holders to sign. No I/O but for randomness.
///
/// # Errors
/// [`PublishError::Author`], [`PublishError::Randomness`].
pub fn first_draft(request: &FirstRequest, now: DateTime<Utc>) -> Result<Draft, PublishError> {
    let trust = random_id()?;
    let holders = (&request.root, &request.targets);
    let root = author::held_root(&trust, &request.scopes, holders, &request.online, now)?;
    let targets = author::empty_targets("targets", &trust, now);
    let next = [("root".to_owned(), root.into()), ("targets".to_owned(), targets.into())];
    Ok(Draft::new(&request.repository.to_string(), &Base::default(), next)?)
}

/// Asks the daemon which of its trust repositories is at `repository`.
///
/// # Errors
/// [`PublishError`], of the daemon's answer; [`PublishError::NotNow`] if an alarm keeps it from knowing whether the
/// trust repository was made.
pub async fn served(server: &Server, repository: &RepositoryAddress) -> Result<TrustInfo, PublishError> {
    let wanted = repository.to_string();
    let trust = server.trust(&wanted, |trust| trust.repository == wanted).await?;
    unknown(&trust).map_or(Ok(trust), Err)
}

/// Makes a trust repository: [`prepare`] and [`Prepared::submit`] in one.
///
/// # Errors
/// [`PublishError`].
pub async fn init(
    server: &Server,
    request: &InitRequest,
    owners: &[&dyn Signer],
    clock: &Arc<dyn Clock>,
) -> Result<Initialised, PublishError> {
    prepare(server, request, owners, clock).await?.submit(server).await
}

/// Makes root and targets version 1 of a trust repository, signed by every one of `owners` (all of them are the
/// threshold's keys; the threshold is 1). Asks the daemon for its keys and changes nothing.
///
/// # Errors
/// [`PublishError`].
pub async fn prepare(
    server: &Server,
    request: &InitRequest,
    owners: &[&dyn Signer],
    clock: &Arc<dyn Clock>,
) -> Result<Prepared, PublishError> {
    let trust = served(server, &request.repository).await?;
    if let Some(trust_id) = trust.trust_id {
        return Err(PublishError::AlreadyInitialised {
            repository: request.repository.to_string(),
            trust_id,
        });
    }
    if request.online.as_ref().is_some_and(|given| given.ids() != trust.online.ids()) {
        return Err(PublishError::OnlineKeys { server: server.url().to_string() });
    }
    let online = trust.online;
    let trust_id = random_id()?;
    let now = clock.now();
    let keys: Vec<Key> = owners.iter().map(|owner| owner.key().clone()).collect();
    let mut root = author::first_root(&trust_id, &request.scopes, &keys, 1, &online, now);
    let ids: Vec<KeyId> = keys.iter().map(Key::id).collect();
    author::name_keys(&mut root.common, &ids, &request.names)?;
    let root = author::sign(&root, owners)?;
    let targets = author::sign(&author::empty_targets("targets", &trust_id, now), owners)?;
    let sha256 = Digest::of(&root);
    Ok(Prepared { name: trust.name, trust_id, root, sha256, online, targets })
}

impl Prepared {
    /// What a signed draft of the first root prepares. What the daemon calls it is to be filled in. Submitted twice, it
    /// is the same.
    ///
    /// # Errors
    /// [`PublishError::Unsigned`], [`PublishError::DraftExpired`], [`PublishError::Rehearsal`];
    /// [`PublishError::Stale`] for a draft that is not of a first root.
    pub fn of_draft(draft: &Draft, now: DateTime<Utc>) -> Result<Self, PublishError> {
        let mut documents = draft.documents();
        let (Some(root), Some(targets)) = (documents.remove("root"), documents.remove("targets")) else {
            return Err(PublishError::Stale { role: "root".to_owned() });
        };
        if !draft.is_complete() {
            return Err(unsigned(draft));
        }
        if let Some((role, expires)) = draft.expired(now) {
            return Err(PublishError::DraftExpired { role, expires });
        }
        rehearse(draft, None, now).map_err(PublishError::Rehearsal)?;
        let stale = || PublishError::Stale { role: "root".to_owned() };
        let signed = draft.next_root().filter(|_| draft.is_first()).map(|root| &root.signed);
        let signed = signed.ok_or_else(stale)?;
        let key = |role: &str| signed.keys.get(signed.roles[role].keyids.first()?).cloned();
        let (timestamp, snapshot) = (key("timestamp").ok_or_else(stale)?, key("snapshot").ok_or_else(stale)?);
        let online = OnlineKeys { timestamp, snapshot };
        let (trust_id, sha256) = (draft.trust_id().to_owned(), Digest::of(&root));
        Ok(Self { name: String::new(), trust_id, root, sha256, online, targets })
    }

    /// Submits it and waits until it is published.
    ///
    /// # Errors
    /// [`PublishError`]; see [`PublishError::may_be_taken`].
    pub async fn submit(self, server: &Server) -> Result<Initialised, PublishError> {
        let Self { name, trust_id, root, sha256, online, targets } = self;
        let documents = BTreeMap::from([("root".to_owned(), root.clone()), ("targets".to_owned(), targets)]);
        let accepted = match server.submit(&name, &documents).await? {
            Submitted::Accepted(accepted) => accepted,
            // Somebody made it between our question and our submission.
            Submitted::Conflict(refusal) => return Err(PublishError::Refused { message: refusal.message }),
        };
        let accepted = server.published(&name, &accepted.id).await?;
        Ok(Initialised { name, trust_id, root, sha256, online, timestamp: accepted.timestamp })
    }
}

/// 128 random bits in hex.
fn random_id() -> Result<String, PublishError> {
    let mut bytes = [0; 16];
    ring::rand::SystemRandom::new().fill(&mut bytes).map_err(|_| PublishError::Randomness)?;
    Ok(HEXLOWER.encode(&bytes))
}
