//! Changing what is published.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::{Descriptor, Digest, TargetName},
    policy::Scope,
    tuf::{self, Document, KeyId, PublicKey, Root, Targets, matches, within},
};
use serde::Serialize;

use super::{
    PublishError, Server,
    author::{self, AuthorError},
    server::Submitted,
};
use crate::{
    clock::Clock,
    keys::Signer,
    registry::Registry,
    update::{Session, TufSource},
};

/// How often a change is applied to a newer head before giving up.
const TRIES: u32 = 20;

/// One trust repository, seen from its publish side.
pub struct Publisher {
    server: Server,
    http: Registry,
    name: String,
    pinned: Vec<u8>,
    state: PathBuf,
    clock: Arc<dyn Clock>,
}

/// A delegation to be made.
#[derive(Debug, Clone)]
pub struct DelegateRequest {
    /// The role that delegates, `targets` at the top.
    pub parent: String,
    /// What the new role may speak about.
    pub scope: Scope,
    /// What it is called below its parent.
    pub label: String,
    /// Who signs it.
    pub keys: Vec<PublicKey>,
    /// How many of them must.
    pub threshold: u64,
}

/// A tag to be signed.
#[derive(Debug, Clone)]
pub struct SignRequest {
    /// Its target name.
    pub name: TargetName,
    /// What the registry says it points at.
    pub descriptor: Descriptor,
}

/// A digest to be taken back.
#[derive(Debug, Clone)]
pub struct RevokeRequest {
    /// A tag, whose signed digest is meant, or the digest itself.
    pub name: TargetName,
    /// Why; clients show it.
    pub reason: String,
}

/// A change that is published.
#[derive(Debug, Clone, Serialize)]
pub struct Receipt {
    /// The role that changed.
    pub role: String,
    /// Its new version.
    pub version: u64,
    /// The first timestamp that holds it; the registry serves it.
    pub timestamp: u64,
    /// The digest signed or revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The target names, patterns or entries concerned.
    pub names: Vec<String>,
}

/// One role, as `status` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct RoleStatus {
    /// The role.
    pub role: String,
    /// Its version; none if it is delegated to and was never published.
    pub version: Option<u64>,
    /// When it expires.
    pub expires: Option<DateTime<Utc>>,
    /// Its key ids and threshold.
    pub keys: Vec<KeyId>,
    /// How many of them must sign.
    pub threshold: u64,
    /// The path patterns it may speak about; empty for root, timestamp and snapshot.
    pub paths: Vec<String>,
    /// How many names it lists.
    pub targets: usize,
    /// What is wrong with it, if it does not verify.
    pub fault: Option<String>,
}

type Read = Session<TufSource>;

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("server", &self.server).field("name", &self.name).finish_non_exhaustive()
    }
}

/// A role on the way to a name or scope.
struct OnPath {
    role: String,
    delegator: String,
    keyids: Vec<KeyId>,
    /// What it may speak about.
    allowed: Vec<String>,
    published: bool,
}

impl Publisher {
    /// Finds the trust repository that the root `pinned` starts at the daemon at `server`. `state` is the folder of
    /// trusted state: the publish side is held to the same memory as the verify side.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn connect(
        http: Registry,
        server: Server,
        pinned: Vec<u8>,
        state: &Path,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PublishError> {
        let root = Document::<Root>::parse("root", &pinned).map_err(crate::update::UpdateError::from)?;
        let id = root.signed.common.identity.map(|identity| identity.trust).unwrap_or_default();
        let trust = server
            .trust(&format!("trust id {id}"), |trust| trust.trust_id.as_deref() == Some(id.as_str()))
            .await?;
        Ok(Self { server, http, name: trust.name, pinned, state: state.to_owned(), clock })
    }

    /// Adds a delegation and waits until it is published. `signers` hold keys of the parent.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn delegate(
        &self,
        request: &DelegateRequest,
        signers: &[&dyn Signer],
    ) -> Result<Receipt, PublishError> {
        let name = author::role_name(&request.parent, &request.label)?;
        self.change(signers, async |session, now| {
            let (parent, mut targets) = self.named_role(session, &request.parent).await?;
            self.check_signs(&parent, signers, &request.scope.to_string())?;
            let retired = session.trusted().memory().roles.contains_key(&name);
            if retired && targets.delegated(&name).is_none() {
                // A removed role stays in the snapshot, and its name is never given to others.
                return Err(AuthorError::NameTaken { name: name.clone() }.into());
            }
            let allowed = (parent.role.as_str(), parent.allowed.as_slice());
            author::delegate(&mut targets, allowed, &name, &request.scope, &request.keys, request.threshold)?;
            author::next_version(&parent.role, &mut targets, now);
            let names = request.scope.patterns();
            Ok(Change { role: parent.role, targets, digest: None, names })
        })
        .await
        .map(|receipt| receipt.of_role(name))
    }

    /// Signs a tag and its digest, and waits until they are published.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn sign(
        &self,
        request: &SignRequest,
        signers: &[&dyn Signer],
    ) -> Result<Receipt, PublishError> {
        self.change(signers, async |session, now| {
            let (role, mut targets) = self.role_for(session, &request.name, signers, now).await?;
            let allowed = (role.role.as_str(), role.allowed.as_slice());
            let names = author::vouch(&mut targets, allowed, &request.name, &request.descriptor)?;
            Ok(Change { role: role.role, targets, digest: Some(request.descriptor.digest), names })
        })
        .await
    }

    /// Takes a digest back, and waits until that is published.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn revoke(
        &self,
        request: &RevokeRequest,
        signers: &[&dyn Signer],
    ) -> Result<Receipt, PublishError> {
        self.change(signers, async |session, now| {
            let (role, mut targets) = self.role_for(session, &request.name, signers, now).await?;
            let digest = match &request.name {
                TargetName::Digest { digest, .. } => *digest,
                name @ TargetName::Tag { .. } => targets
                    .targets
                    .get(&name.to_string())
                    .and_then(tuf::Target::digest)
                    .ok_or_else(|| PublishError::NotListed {
                        role: role.role.clone(),
                        name: name.to_string(),
                    })?,
            };
            let before = targets.revocations().len();
            let names = author::revoke(&mut targets, &digest, &request.reason, now);
            if names.is_empty() && targets.revocations().len() == before {
                return Err(PublishError::AlreadyRevoked { role: role.role, digest });
            }
            Ok(Change { role: role.role, targets, digest: Some(digest), names })
        })
        .await
    }

    /// Every role: version, expiry, keys. Delegated roles that do not verify are listed with their fault.
    ///
    /// # Errors
    /// [`PublishError`] if the top level does not verify.
    pub async fn status(&self) -> Result<Vec<RoleStatus>, PublishError> {
        let mut session = self.session(self.clock.now()).await?;
        status(&mut session).await
    }

    async fn session(&self, now: DateTime<Utc>) -> Result<Read, PublishError> {
        let source = TufSource::new(self.http.clone(), self.server.metadata_url(&self.name));
        Ok(Session::refresh(source, &self.state, &self.pinned, now).await?)
    }

    /// Applies `edit` to the newest head, signs and submits; on a conflict again, on the newer head.
    async fn change(
        &self,
        signers: &[&dyn Signer],
        edit: impl AsyncFn(&mut Read, DateTime<Utc>) -> Result<Change, PublishError>,
    ) -> Result<Receipt, PublishError> {
        let mut role = String::new();
        for _ in 0..TRIES {
            let now = self.clock.now();
            let change = {
                let mut session = self.session(now).await?;
                edit(&mut session, now).await?
            };
            let version = change.targets.common.version;
            let bytes = author::sign(&change.targets, signers)?;
            let documents = BTreeMap::from([(change.role.clone(), bytes)]);
            match self.server.submit(&self.name, &documents).await? {
                Submitted::Accepted(accepted) => {
                    let accepted = self.server.published(&self.name, &accepted.id).await?;
                    return Ok(Receipt {
                        role: change.role,
                        version,
                        timestamp: accepted.timestamp,
                        digest: change.digest,
                        names: change.names,
                    });
                }
                Submitted::Conflict(_) => role = change.role,
            }
        }
        Err(PublishError::Contended { role, tries: TRIES })
    }

    /// The role that `signers` sign for and that may speak about `name`, the deepest one, ready to be changed: its next
    /// version, or its first.
    async fn role_for(
        &self,
        session: &mut Read,
        name: &TargetName,
        signers: &[&dyn Signer],
        now: DateTime<Utc>,
    ) -> Result<(OnPath, Targets), PublishError> {
        let text = name.to_string();
        let path = path_to(session, |paths| paths.iter().any(|pattern| matches(pattern, &text))).await?;
        let roles = path.iter().map(|role| role.role.as_str()).collect::<Vec<_>>().join(", ");
        let mine = |role: &OnPath| signers.iter().all(|signer| role.keyids.contains(&signer.key_id()));
        let covers = |role: &OnPath| role.allowed.iter().any(|pattern| matches(pattern, &text));
        let Some(role) = path.into_iter().rev().find(|role| mine(role) && covers(role)) else {
            let keyid = signers.first().map(|signer| signer.key_id().0).unwrap_or_default();
            return Err(PublishError::NoRole { keyid, name: text, roles });
        };
        let mut targets = if role.published {
            let (_, document) = session.trusted().role(&role.role).expect("path_to loads what is published");
            let mut targets = document.signed.clone();
            author::next_version(&role.role, &mut targets, now);
            targets
        } else {
            let trust = session.trusted().trust_id().unwrap_or_default().to_owned();
            author::empty_targets(&role.role, &trust, now)
        };
        // What a role above revoked must not come back below it.
        for above in self.revocations_above(session, &role) {
            if let Some(identity) = &mut targets.common.identity
                && matches!(name, TargetName::Digest { digest, .. } if above.digest == Some(*digest))
                && !identity.revocations.contains(&above)
            {
                return Err(PublishError::AlreadyRevoked {
                    role: role.delegator.clone(),
                    digest: above.digest.expect("just compared"),
                });
            }
        }
        Ok((role, targets))
    }

    fn revocations_above(&self, session: &Read, role: &OnPath) -> Vec<tuf::Revocation> {
        let mut all = Vec::new();
        let mut at = role.delegator.clone();
        while let Some((delegator, document)) = session.trusted().role(&at) {
            all.extend_from_slice(document.signed.revocations());
            at = delegator.to_owned();
        }
        all
    }

    /// The role called `name`, with its document.
    async fn named_role(&self, session: &mut Read, name: &str) -> Result<(OnPath, Targets), PublishError> {
        // A child's name starts with its parent's, so the way down is in the name.
        let path = path_to(session, |_| true).await?;
        let roles = path.iter().map(|role| role.role.as_str()).collect::<Vec<_>>().join(", ");
        let unknown = || PublishError::UnknownRole { role: name.to_owned(), roles: roles.clone() };
        let role = path.into_iter().find(|role| role.role == name && role.published).ok_or_else(unknown)?;
        let (_, document) = session.trusted().role(name).ok_or_else(unknown)?;
        Ok((role, document.signed.clone()))
    }

    fn check_signs(&self, role: &OnPath, signers: &[&dyn Signer], what: &str) -> Result<(), PublishError> {
        match signers.iter().find(|signer| !role.keyids.contains(&signer.key_id())) {
            None => Ok(()),
            Some(signer) => Err(PublishError::NoRole {
                keyid: signer.key_id().0,
                name: what.to_owned(),
                roles: role.role.clone(),
            }),
        }
    }
}

struct Change {
    role: String,
    targets: Targets,
    digest: Option<Digest>,
    names: Vec<String>,
}

impl Receipt {
    fn of_role(mut self, role: String) -> Self {
        self.role = role;
        self
    }
}

/// The roles from `targets` down through every delegation whose paths `follow` accepts, parents before children, at most
/// [`tuf::MAX_DEPTH`] deep. Loads what is published and verifies; what is not verifiable is listed and not followed.
async fn path_to(
    session: &mut Read,
    follow: impl Fn(&[String]) -> bool,
) -> Result<Vec<OnPath>, PublishError> {
    let root = &session.trusted().root().signed;
    let top = OnPath {
        role: "targets".to_owned(),
        delegator: "root".to_owned(),
        keyids: root.roles["targets"].keyids.clone(),
        allowed: author::root_patterns(root),
        published: true,
    };
    session.load_role("targets", "root").await?;
    let mut path = vec![top];
    let mut at = 0;
    while at < path.len() {
        let delegator = path[at].role.clone();
        let depth = delegator.matches("--").count();
        let children: Vec<_> = match session.trusted().role(&delegator) {
            Some((_, document)) if depth < tuf::MAX_DEPTH => document
                .signed
                .delegations
                .iter()
                .flat_map(|delegations| &delegations.roles)
                .filter(|role| follow(role.paths.as_deref().unwrap_or_default()))
                .filter(|role| !path.iter().any(|known| known.role == role.name))
                .cloned()
                .collect(),
            _ => Vec::new(),
        };
        for child in children {
            let published = session.trusted().wanted_role(&child.name).is_ok();
            if published {
                match session.load_role(&child.name, &delegator).await {
                    // Expired or signed by lost keys: its own keys may still sign the next version, from scratch only
                    // through take-over; so it is reported, not hidden.
                    Err(error) if error.verdict().is_some() && !is_fetch_fault(&error) => {}
                    other => other?,
                }
            }
            path.push(OnPath {
                published: published && session.trusted().role(&child.name).is_some(),
                role: child.name,
                delegator: delegator.clone(),
                keyids: child.keys.keyids,
                allowed: child.paths.unwrap_or_default(),
            });
        }
        at += 1;
    }
    Ok(path)
}

fn is_fetch_fault(error: &crate::update::UpdateError) -> bool {
    matches!(error, crate::update::UpdateError::Source(_))
}
