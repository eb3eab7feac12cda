//! Changing what is published.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::{Descriptor, Digest, TargetName},
    policy::Scope,
    tuf::{self, DelegatedRole, Document, KeyId, PublicKey, Revocation, Root, Targets, matches},
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
    update::{Session, Source, TufSource, UpdateError},
};

/// How often a change is applied to a newer head before giving up.
const TRIES: u32 = 20;
/// How long to wait before the next try, once more for each: what won may not be served yet.
const PAUSE: Duration = Duration::from_millis(50);

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
    /// The role that changed; with a new delegation, the parent.
    pub role: String,
    /// The role that is delegated to now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delegated: Option<String>,
    /// The new version of `role`.
    pub version: u64,
    /// The first timestamp that holds it; the registry serves it.
    pub timestamp: u64,
    /// The digest signed or revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The digest that the tag meant before, if it was another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Digest>,
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
        f.debug_struct("Publisher")
            .field("server", &self.server)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A role on the way to a name or scope.
struct OnPath {
    role: String,
    delegator: String,
    depth: usize,
    keyids: Vec<KeyId>,
    threshold: u64,
    /// What it may speak about.
    allowed: Vec<String>,
    /// Its content, expired or not; none if it was never published.
    document: Result<Option<Targets>, UpdateError>,
}

impl Publisher {
    /// Finds the trust repository that the root `pinned` starts at the daemon at `server`. `state` is the folder of
    /// what the publish side remembers, which must not be the verify side's: the daemon shows what it has accepted, and
    /// that is ahead of the registry until it is pushed.
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
        let root = Document::<Root>::parse("root", &pinned).map_err(UpdateError::from)?;
        let id = root.signed.common.identity.map(|identity| identity.trust).unwrap_or_default();
        let trust = server.trust_with_id(&id).await?;
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
            if !signers.iter().all(|signer| parent.keyids.contains(&signer.key_id())) {
                return Err(no_role(signers, &request.scope.to_string(), &[parent]));
            }
            let retired = session.trusted().wanted_role(&name).is_ok();
            if retired && targets.delegated(&name).is_none() {
                // A removed role stays in the snapshot, and its name is never given to others.
                return Err(AuthorError::NameTaken { name: name.clone() }.into());
            }
            let allowed = (parent.role.as_str(), parent.allowed.as_slice());
            author::delegate(&mut targets, allowed, &name, &request.scope, &request.keys, request.threshold)?;
            author::next_version(&parent.role, &mut targets, now);
            let names = request.scope.patterns();
            Ok(Change { role: parent.role, targets, digest: None, replaces: None, names })
        })
        .await
        .map(|receipt| Receipt { delegated: Some(name), ..receipt })
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
            let Writable { role, mut targets, above, first, .. } =
                self.role_for(session, &request.name, signers, now).await?;
            if let Some(first) = first {
                return Err(PublishError::Shadowed {
                    role: role.role,
                    first,
                    name: request.name.to_string(),
                });
            }
            // What a role above revoked must not come back below it.
            let digest = request.descriptor.digest;
            if let Some((_, revocation)) = above.iter().find(|(_, above)| above.digest == Some(digest)) {
                let reason = revocation.reason.clone();
                return Err(AuthorError::Revoked { digest, reason }.into());
            }
            let before = targets.targets.get(&request.name.to_string()).and_then(tuf::Target::digest);
            let replaces = before.filter(|before| *before != digest);
            let allowed = (role.role.as_str(), role.allowed.as_slice());
            let names = author::vouch(&mut targets, allowed, &request.name, &request.descriptor)?;
            Ok(Change { role: role.role, targets, digest: Some(digest), replaces, names })
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
            let Writable { role, mut targets, above, listed, .. } =
                self.role_for(session, &request.name, signers, now).await?;
            let digest = match &request.name {
                TargetName::Digest { digest, .. } => *digest,
                name @ TargetName::Tag { .. } => listed.ok_or_else(|| PublishError::NotListed {
                    role: role.role.clone(),
                    name: name.to_string(),
                })?,
            };
            if let Some((role, _)) = above.iter().find(|(_, above)| above.digest == Some(digest)) {
                return Err(PublishError::AlreadyRevoked { role: role.clone(), digest });
            }
            let before = targets.revocations().len();
            let names = author::revoke(&mut targets, &digest, &request.reason, now);
            if names.is_empty() && targets.revocations().len() == before {
                return Err(PublishError::AlreadyRevoked { role: role.role, digest });
            }
            Ok(Change { role: role.role, targets, digest: Some(digest), replaces: None, names })
        })
        .await
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
        for attempt in 1..=TRIES {
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
                        delegated: None,
                        version,
                        timestamp: accepted.timestamp,
                        digest: change.digest,
                        replaces: change.replaces,
                        names: change.names,
                    });
                }
                Submitted::Conflict(_) => role = change.role,
            }
            if attempt < TRIES {
                tokio::time::sleep(PAUSE * attempt).await;
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
    ) -> Result<Writable, PublishError> {
        let text = name.to_string();
        let covers = |paths: &[String]| paths.iter().any(|pattern| matches(pattern, &text));
        let mut path = path_to(session, |child| covers(child.paths.as_deref().unwrap_or_default())).await?;
        let signs = |role: &OnPath| signers.iter().all(|signer| role.keyids.contains(&signer.key_id()));
        let Some(at) = path.iter().rposition(|role| signs(role) && covers(&role.allowed)) else {
            return Err(no_role(signers, &text, &path));
        };
        let (above, first) = (revoked_above(&path, at), asked_first(&path, &text, &path[at].role));
        // What the tag means in this role, or in one below it: a parent revokes what its team signed.
        let listed = path[at..].iter().find_map(|role| {
            let targets = role.document.as_ref().ok()?.as_ref()?;
            targets.targets.get(&text).and_then(tuf::Target::digest)
        });
        let mut role = path.swap_remove(at);
        let targets = match std::mem::replace(&mut role.document, Ok(None))? {
            Some(mut targets) => {
                author::next_version(&role.role, &mut targets, now);
                // What a role above revoked is worth nothing here, and the daemon takes no version that still lists it.
                targets.targets.retain(|_, target| {
                    !above
                        .iter()
                        .any(|(_, revoked)| revoked.digest.is_some() && revoked.digest == target.digest())
                });
                targets
            }
            None => {
                let trust = session.trusted().trust_id().unwrap_or_default();
                author::empty_targets(&role.role, trust, now)
            }
        };
        Ok(Writable { role, targets, above, first, listed })
    }

    /// The role called `name`, with its document.
    async fn named_role(&self, session: &mut Read, name: &str) -> Result<(OnPath, Targets), PublishError> {
        // A role's name starts with its parent's: of thousands, only those on the way are fetched.
        let on_the_way = |child: &DelegatedRole| name.starts_with(&child.name);
        let mut path = path_to(session, on_the_way).await?;
        let unknown = PublishError::UnknownRole { role: name.to_owned(), roles: names(&path) };
        let Some(at) = path.iter().position(|role| role.role == name) else { return Err(unknown) };
        let mut role = path.swap_remove(at);
        let targets = std::mem::replace(&mut role.document, Ok(None))?.ok_or(unknown)?;
        Ok((role, targets))
    }
}

fn names(path: &[OnPath]) -> String {
    path.iter().map(|role| role.role.as_str()).collect::<Vec<_>>().join(", ")
}

fn no_role(signers: &[&dyn Signer], what: &str, path: &[OnPath]) -> PublishError {
    let keyid = signers.first().map(|signer| signer.key_id().0).unwrap_or_default();
    PublishError::NoRole { keyid, name: what.to_owned(), roles: names(path) }
}

/// A role that is to be changed.
struct Writable {
    role: OnPath,
    /// Its next version.
    targets: Targets,
    /// What the roles above it revoked, and which of them did.
    above: Vec<(String, Revocation)>,
    /// The role whose word clients take before they ask this one.
    first: Option<String>,
    /// The digest that it, or a role below it, lists under the name.
    listed: Option<Digest>,
}

struct Change {
    role: String,
    targets: Targets,
    digest: Option<Digest>,
    replaces: Option<Digest>,
    names: Vec<String>,
}

/// What the roles above the one at `at` revoked, and which of them did.
fn revoked_above(path: &[OnPath], at: usize) -> Vec<(String, Revocation)> {
    let mut above = Vec::new();
    let mut delegator = &path[at].delegator;
    // A role stands behind its delegator, so this ends.
    while let Some(role) = path.iter().find(|role| role.role == *delegator) {
        let document = role.document.as_ref().ok().and_then(Option::as_ref);
        let revocations = document.map(Targets::revocations).unwrap_or_default();
        above.extend(revocations.iter().map(|revocation| (role.role.clone(), revocation.clone())));
        delegator = &role.delegator;
    }
    above
}

/// The role whose word on `name` clients take before they ask `role` (5.6.7); none if they get to `role`.
fn asked_first(path: &[OnPath], name: &str, role: &str) -> Option<String> {
    let mut pending = vec!["targets"];
    let mut visited = Vec::new();
    while let Some(next) = pending.pop() {
        if next == role {
            return None;
        }
        if visited.contains(&next) {
            continue;
        }
        visited.push(next);
        let asked = path.iter().find(|asked| asked.role == next);
        // One that cannot be read now stops clients now; that is no answer, and may pass.
        let Some(document) = asked.and_then(|asked| asked.document.as_ref().ok()?.as_ref()) else { continue };
        if document.targets.contains_key(name) {
            return Some(next.to_owned());
        }
        let delegated = document.delegations.iter().flat_map(|delegations| &delegations.roles);
        let covers = |child: &&DelegatedRole| child.paths.iter().flatten().any(|path| matches(path, name));
        let mut children = Vec::new();
        for child in delegated.filter(covers) {
            children.push(child.name.as_str());
            if child.terminating {
                pending.clear();
                break;
            }
        }
        children.reverse();
        pending.append(&mut children);
    }
    visited.last().map(|&last| last.to_owned())
}

/// The roles from `targets` down through every delegation that `follow` accepts, parents before children, at most
/// [`tuf::MAX_DEPTH`] deep. An expired role is read, so that it can be renewed, but not followed; one that does not
/// verify is listed with its fault.
async fn path_to<S: Source>(
    session: &mut Session<S>,
    follow: impl Fn(&DelegatedRole) -> bool,
) -> Result<Vec<OnPath>, PublishError> {
    let root = &session.trusted().root().signed;
    let keys = root.roles["targets"].clone();
    let allowed = author::root_patterns(root);
    let mut path = vec![OnPath {
        role: "targets".to_owned(),
        delegator: "root".to_owned(),
        depth: 0,
        keyids: keys.keyids,
        threshold: keys.threshold,
        allowed,
        document: read_role(session, "targets", "root").await?,
    }];
    let mut at = 0;
    while at < path.len() {
        let (delegator, depth) = (path[at].role.clone(), path[at].depth + 1);
        at += 1;
        // Only what verified, expiry included, is followed.
        let Some((_, document)) = session.trusted().role(&delegator) else { continue };
        let delegated = document.signed.delegations.iter().flat_map(|delegations| &delegations.roles);
        let children: Vec<_> = delegated
            .filter(|child| depth <= tuf::MAX_DEPTH && follow(child))
            .filter(|child| !path.iter().any(|known| known.role == child.name))
            .cloned()
            .collect();
        for child in children {
            let document = match session.trusted().wanted_role(&child.name) {
                Ok(_) => read_role(session, &child.name, &delegator).await?,
                Err(_) => Ok(None),
            };
            path.push(OnPath {
                role: child.name,
                delegator: delegator.clone(),
                depth,
                keyids: child.keys.keyids,
                threshold: child.keys.threshold,
                allowed: child.paths.unwrap_or_default(),
                document,
            });
        }
    }
    Ok(path)
}

/// The outer error is a fault that has nothing to do with the role: network, state.
async fn read_role<S: Source>(
    session: &mut Session<S>,
    role: &str,
    delegator: &str,
) -> Result<Result<Option<Targets>, UpdateError>, PublishError> {
    let read = match session.load_role(role, delegator).await {
        Ok(()) => Ok(session.trusted().role(role).map(|(_, document)| document.signed.clone())),
        Err(UpdateError::Tuf(tuf::Error::Expired { .. })) => {
            session.role_to_edit(role, delegator).await.map(Some)
        }
        Err(error) => Err(error),
    };
    match read {
        Err(error @ (UpdateError::Source(_) | UpdateError::State(_))) => Err(error.into()),
        other => Ok(other),
    }
}

/// Every role of an updated session, top level first, then delegated roles, parents before children.
///
/// # Errors
/// Those of fetching; a role that does not verify is listed with its fault.
pub async fn status<S: Source>(session: &mut Session<S>) -> Result<Vec<RoleStatus>, PublishError> {
    let path = path_to(session, |_| true).await?;
    let mut all: Vec<RoleStatus> = {
        let trusted = session.trusted();
        let root = &trusted.root().signed;
        let top = [
            Some(("root", &root.common)),
            trusted.timestamp().map(|document| ("timestamp", &document.signed.common)),
            trusted.snapshot().map(|document| ("snapshot", &document.signed.common)),
        ];
        top.into_iter()
            .flatten()
            .map(|(role, common)| RoleStatus {
                role: role.to_owned(),
                version: Some(common.version),
                expires: Some(common.expires),
                keys: root.roles[role].keyids.clone(),
                threshold: root.roles[role].threshold,
                paths: Vec::new(),
                targets: 0,
                fault: None,
            })
            .collect()
    };
    for role in path {
        let expired = session.trusted().role(&role.role).is_none();
        let mut status = RoleStatus {
            role: role.role,
            version: None,
            expires: None,
            keys: role.keyids,
            threshold: role.threshold,
            paths: role.allowed,
            targets: 0,
            fault: None,
        };
        match role.document {
            Ok(Some(targets)) => {
                status.version = Some(targets.common.version);
                status.expires = Some(targets.common.expires);
                status.targets = targets.targets.len();
                status.fault = expired.then(|| "expired".to_owned());
            }
            Ok(None) => status.fault = Some("nothing published yet".to_owned()),
            Err(error) => status.fault = Some(error.to_string()),
        }
        all.push(status);
    }
    Ok(all)
}
