//! What is published now, as a publisher reads it: the roles on the way to a name, expired or orphaned ones too, ready to
//! be changed.

use std::{borrow::Borrow, cmp::Ordering, collections::BTreeMap};

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::{Digest, TargetName},
    tuf::{self, DelegatedRole, Document, KeyId, MetaFile, Revocation, Target, Targets, matches},
};

use super::{
    PublishError, author,
    draft::{Base, Draft},
};
use crate::{
    keys::Signer,
    state::Entry,
    update::{Begin, RegistrySource, Session, Source, SourceError, TufSource, UpdateError},
};

/// Where a publisher reads.
#[derive(Debug, Clone)]
pub(super) enum Reader {
    /// The daemon's plain TUF files: what it has accepted, ahead of the registry.
    Daemon(TufSource),
    /// The registry, as clients do.
    Registry(RegistrySource),
}

/// The present metadata at one time. Holds the lock of the trusted state.
#[derive(Debug)]
pub struct Head {
    session: Session<Reader>,
    now: DateTime<Utc>,
}

/// What the head has of a draft's documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    /// None of them yet.
    Nothing,
    /// Each of them.
    All,
    /// Newer versions: whether they follow on these or on others cannot be seen.
    Newer,
    /// Another document of one of the versions.
    Others,
}

/// A role on the way to a name or scope.
#[derive(Debug)]
pub struct OnPath {
    /// The role.
    pub role: String,
    /// Who delegates to it; `root` to `targets`.
    pub delegator: String,
    /// 0 is `targets`.
    pub depth: usize,
    /// The keys that may sign it.
    pub keyids: Vec<KeyId>,
    /// How many of them must.
    pub threshold: u64,
    /// What it may speak about, path patterns.
    pub allowed: Vec<String>,
    /// True if clients stop asking after it.
    pub terminating: bool,
    /// Its document, expired or not; none if it was never published; else why it does not verify.
    pub document: Result<Option<Document<Targets>>, UpdateError>,
}

/// A role that is to be changed.
#[derive(Debug)]
pub struct Writable {
    /// Where it stands.
    pub role: OnPath,
    /// Its next version, or its first.
    pub targets: Targets,
    /// What the roles above it revoked, and which of them did.
    pub above: Vec<(String, Revocation)>,
    /// The role whose word clients take before they ask this one.
    pub first: Option<String>,
    /// The digest that it, or a role below it, lists under the name.
    pub listed: Option<Digest>,
}

/// Where a name is written.
#[derive(Debug)]
pub(super) struct Spot {
    /// The role, by its place among those on the way.
    pub(super) at: usize,
    /// The role whose word clients take before they ask this one.
    pub(super) first: Option<String>,
    /// The digest that it, or a role below it, lists under the name.
    pub(super) listed: Option<Digest>,
}

impl OnPath {
    /// Its document, if there is one that verifies.
    pub fn content(&self) -> Option<&Targets> {
        Some(&self.document.as_ref().ok()?.as_ref()?.signed)
    }

    /// True if it may speak about the target name `name`.
    pub fn covers(&self, name: &str) -> bool {
        self.allowed.iter().any(|pattern| matches(pattern, name))
    }

    /// What it says of the target name `name`, if it may.
    pub fn listed(&self, name: &str) -> Option<&Target> {
        self.content().filter(|_| self.covers(name))?.targets.get(name)
    }

    /// True if every one of `signers` may sign it.
    pub fn signs(&self, signers: &[&dyn Signer]) -> bool {
        signers.iter().all(|signer| self.keyids.contains(&signer.key_id()))
    }
}

impl Head {
    pub(super) fn new(session: Session<Reader>, now: DateTime<Utc>) -> Self {
        Self { session, now }
    }

    /// The time of this look; every document of one change carries it.
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// What was verified.
    pub fn trusted(&self) -> &tuf::Trusted {
        self.session.trusted()
    }

    /// The session, to search names as clients do.
    pub(super) fn session(&mut self) -> &mut Session<Reader> {
        &mut self.session
    }

    /// The trust id; empty for a root without one.
    pub fn trust_id(&self) -> &str {
        self.session.trusted().trust_id().unwrap_or_default()
    }

    /// The roles from `targets` down through every delegation that `follow` accepts.
    ///
    /// # Errors
    /// Those of fetching.
    pub async fn path(
        &mut self,
        follow: impl Fn(&DelegatedRole) -> bool,
    ) -> Result<Vec<OnPath>, PublishError> {
        path_to(&mut self.session, follow).await
    }

    /// The role that `signers` sign for and that may speak about `name`, the deepest one, ready to be changed.
    ///
    /// # Errors
    /// [`PublishError::NoRole`] and those of fetching.
    pub async fn role_for(
        &mut self,
        name: &TargetName,
        signers: &[&dyn Signer],
    ) -> Result<Writable, PublishError> {
        let (mut path, spots) = self.spots(&[name], signers).await?;
        let Spot { at, first, listed } = spots.into_iter().next().expect("one name has one spot");
        let above = revoked_above(&path, at);
        let mut role = path.swap_remove(at);
        let targets = self.next(&mut role, &above)?;
        Ok(Writable { role, targets, above, first, listed })
    }

    /// The roles that may speak about any of `names`, and for each name where it is written: in the deepest role that
    /// `signers` sign for.
    ///
    /// # Errors
    /// [`PublishError::NoRole`] and those of fetching.
    pub(super) async fn spots(
        &mut self,
        names: &[&TargetName],
        signers: &[&dyn Signer],
    ) -> Result<(Vec<OnPath>, Vec<Spot>), PublishError> {
        let texts: Vec<String> = names.iter().map(ToString::to_string).collect();
        let wanted =
            |paths: &[String]| texts.iter().any(|text| paths.iter().any(|pattern| matches(pattern, text)));
        let path = self.path(|child| wanted(child.paths.as_deref().unwrap_or_default())).await?;
        let spot = |text: &String| {
            let Some(at) = path.iter().rposition(|role| role.signs(signers) && role.covers(text)) else {
                self.check_unexpired(&path)?;
                let roles: Vec<&OnPath> = path.iter().filter(|role| role.covers(text)).collect();
                self.check_unexpired(&roles)?;
                return Err(no_role(signers, text, &roles));
            };
            // What the tag means in this role, or in one below it: a parent revokes what its team signed.
            let listed = path[at..].iter().find_map(|role| role.listed(text).and_then(Target::digest));
            Ok(Spot { at, first: asked_first(&path, text, &path[at].role), listed })
        };
        let spots = texts.iter().map(spot).collect::<Result<_, _>>()?;
        Ok((path, spots))
    }

    /// The role called `name` and the roles above it, `targets` first, itself last.
    ///
    /// # Errors
    /// [`PublishError::UnknownRole`] and those of fetching.
    pub async fn chain(&mut self, name: &str) -> Result<Vec<OnPath>, PublishError> {
        // A role's name starts with its parent's: of thousands, only those on the way are fetched.
        let mut path = self.path(|child| is_on_the_way(&child.name, name)).await?;
        if path.last().is_none_or(|last| last.role != name) {
            self.check_unexpired(&path)?;
            return Err(PublishError::UnknownRole { role: name.to_owned(), roles: names(&path) });
        }
        path.retain(|role| is_on_the_way(&role.role, name));
        Ok(path)
    }

    /// The next version of the role at the end of `chain`, or its first. What a role above it revoked is left out: it is
    /// worth nothing, and the daemon takes no version that still lists it.
    ///
    /// # Errors
    /// [`PublishError::Orphaned`], or why else its present document does not verify.
    pub fn next_of(&self, mut chain: Vec<OnPath>) -> Result<(OnPath, Targets), PublishError> {
        let above = revoked_above(&chain, chain.len() - 1);
        let mut role = chain.pop().expect("a chain ends with its role");
        let targets = self.next(&mut role, &above)?;
        Ok((role, targets))
    }

    /// What stands below a role that ran out is not followed, so it cannot be told whether it is there.
    fn check_unexpired<R: Borrow<OnPath>>(&self, path: &[R]) -> Result<(), PublishError> {
        let ran_out = |role: &OnPath| Some(role.content()?.common.expires).filter(|at| *at <= self.now);
        match path.iter().map(Borrow::borrow).find_map(|role| Some((role.role.clone(), ran_out(role)?))) {
            Some((role, expires)) => Err(PublishError::ExpiredAbove { role, expires }),
            None => Ok(()),
        }
    }

    /// The next version of `role`, or its first, whose document is taken out of it; `above` is what the roles above it
    /// revoked.
    ///
    /// # Errors
    /// [`PublishError::Orphaned`], or why else its present document does not verify.
    pub(super) fn next(
        &self,
        role: &mut OnPath,
        above: &[(String, Revocation)],
    ) -> Result<Targets, PublishError> {
        let document = std::mem::replace(&mut role.document, Ok(None)).map_err(|error| match error {
            orphan @ UpdateError::Tuf(tuf::Error::Threshold { .. }) => {
                PublishError::Orphaned { role: role.role.clone(), source: Box::new(orphan) }
            }
            error => error.into(),
        });
        let Some(document) = document? else {
            return Ok(author::empty_targets(&role.role, self.trust_id(), self.now));
        };
        let mut targets = document.signed;
        let revoked = |digest: Option<Digest>| {
            digest.is_some() && above.iter().any(|(_, revoked)| revoked.digest == digest)
        };
        targets.targets.retain(|_, target| !revoked(target.digest()));
        author::next_version(&role.role, &mut targets, self.now);
        Ok(targets)
    }

    /// The last content of `role`, whoever vouches for it now: by hash from the snapshot.
    ///
    /// # Errors
    /// Those of fetching.
    pub async fn orphan(&mut self, role: &str) -> Result<Document<Targets>, PublishError> {
        Ok(self.session.orphan(role).await?)
    }

    /// What it has of the documents of `draft`.
    pub(super) fn shows(&self, draft: &Draft) -> Shows {
        let trusted = self.session.trusted();
        let versions = draft.versions();
        let mut shows = Shows::All;
        for (role, bytes) in draft.documents() {
            let (found, digest) = present(trusted, &role);
            let this = match found.cmp(&versions[&role]) {
                Ordering::Less => Shows::Nothing,
                Ordering::Equal if digest == Some(Digest::of(&bytes)) => Shows::All,
                Ordering::Equal => return Shows::Others,
                Ordering::Greater => Shows::Newer,
            };
            // They take effect together, so one that is not there says that none is.
            shows = match (shows, this) {
                (Shows::Nothing, _) | (_, Shows::Nothing) => Shows::Nothing,
                (Shows::All, Shows::All) => Shows::All,
                _ => Shows::Newer,
            };
        }
        shows
    }

    /// True if the roles of `draft` delegate now what it says that they shall, to the same keys. False for a draft of a root.
    ///
    /// # Errors
    /// Those of fetching.
    pub(super) async fn delegates_as(&mut self, draft: &Draft) -> Result<bool, PublishError> {
        if draft.next_root().is_some() {
            return Ok(false);
        }
        for (role, wanted) in draft.next_targets() {
            let chain = match self.chain(role).await {
                Err(PublishError::UnknownRole { .. } | PublishError::ExpiredAbove { .. }) => {
                    return Ok(false);
                }
                chain => chain?,
            };
            let content = chain.last().and_then(OnPath::content);
            if content.is_none_or(|content| content.delegations != wanted.signed.delegations) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What a change of `roles` starts from. With `travels`, all roots are fetched, so that who pinned any of them can
    /// check it without a network.
    ///
    /// # Errors
    /// Those of fetching.
    pub async fn base(
        &mut self,
        roles: impl IntoIterator<Item = String>,
        travels: bool,
    ) -> Result<Base, PublishError> {
        let roots = if travels {
            self.session.root_chain().await?
        } else {
            vec![self.session.trusted().root().bytes.to_vec()]
        };
        let mut documents = BTreeMap::new();
        for changed in roles.into_iter().filter(|role| role != "root") {
            for role in lineage(&changed) {
                if documents.contains_key(&role) || self.session.trusted().wanted_role(&role).is_err() {
                    continue;
                }
                let bytes = match self.session.trusted().role(&role) {
                    Some((_, document)) => document.bytes.to_vec(),
                    None => self.session.orphan(&role).await?.bytes.into(),
                };
                documents.insert(role, bytes);
            }
        }
        Ok(Base { roots, documents })
    }
}

/// The version of `role` that counts now, 0 if there is none, and the digest of its document. The snapshot must have been
/// read.
pub(super) fn present(trusted: &tuf::Trusted, role: &str) -> (u64, Option<Digest>) {
    match trusted.wanted_role(role) {
        _ if role == "root" => (trusted.root().version(), Some(trusted.root().digest())),
        Ok(meta) => (meta.version, meta.digest()),
        Err(_) => (0, None),
    }
}

/// `targets--a--b` and the roles above it, `targets` first.
fn lineage(role: &str) -> Vec<String> {
    let ends = role.match_indices("--").map(|(at, _)| at).chain([role.len()]);
    ends.map(|end| role[..end].to_owned()).collect()
}

/// True for `to` and the roles above it: a role's name starts with its parent's.
pub(super) fn is_on_the_way(role: &str, to: &str) -> bool {
    to.strip_prefix(role).is_some_and(|rest| rest.is_empty() || rest.starts_with("--"))
}

pub(super) fn names<R: Borrow<OnPath>>(path: &[R]) -> String {
    path.iter().map(|role| role.borrow().role.as_str()).collect::<Vec<_>>().join(", ")
}

pub(super) fn no_role<R: Borrow<OnPath>>(signers: &[&dyn Signer], what: &str, path: &[R]) -> PublishError {
    let keyid = signers.first().map(|signer| signer.key_id().0).unwrap_or_default();
    PublishError::NoRole { keyid, name: what.to_owned(), roles: names(path) }
}

/// The role that delegates to `role`, by the name; none for a top-level role.
pub(super) fn parent_of(role: &str) -> Option<&str> {
    role.rsplit_once("--").map(|(parent, _)| parent)
}

/// What the roles above the one at `at` revoked, and which of them did.
pub(super) fn revoked_above(path: &[OnPath], at: usize) -> Vec<(String, Revocation)> {
    let mut above = Vec::new();
    let mut delegator = &path[at].delegator;
    // A role stands behind its delegator, so this ends.
    while let Some(role) = path.iter().find(|role| role.role == *delegator) {
        let revocations = role.content().map(Targets::revocations).unwrap_or_default();
        above.extend(revocations.iter().map(|revocation| (role.role.clone(), revocation.clone())));
        delegator = &role.delegator;
    }
    above
}

/// The role whose word on `name` clients take before they ask `role` (5.6.7); none if they get to `role`.
pub(super) fn asked_first(path: &[OnPath], name: &str, role: &str) -> Option<String> {
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
        let Some(document) = asked.and_then(OnPath::content) else { continue };
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
pub(super) async fn path_to<S: Source>(
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
        terminating: true,
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
                terminating: child.terminating,
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
) -> Result<Result<Option<Document<Targets>>, UpdateError>, PublishError> {
    let read = match session.load_role(role, delegator).await {
        Ok(()) => Ok(session.trusted().role(role).map(|(_, document)| (**document).clone())),
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

impl Source for Reader {
    async fn begin(&mut self, entry: Option<&Entry>) -> Result<Begin, SourceError> {
        match self {
            Self::Daemon(source) => source.begin(entry).await,
            Self::Registry(source) => source.begin(entry).await,
        }
    }

    async fn root(&mut self, version: u64) -> Result<Option<Vec<u8>>, SourceError> {
        match self {
            Self::Daemon(source) => source.root(version).await,
            Self::Registry(source) => source.root(version).await,
        }
    }

    async fn timestamp(&mut self) -> Result<Vec<u8>, SourceError> {
        match self {
            Self::Daemon(source) => source.timestamp().await,
            Self::Registry(source) => source.timestamp().await,
        }
    }

    async fn snapshot(&mut self, meta: &MetaFile, consistent: bool) -> Result<Vec<u8>, SourceError> {
        match self {
            Self::Daemon(source) => source.snapshot(meta, consistent).await,
            Self::Registry(source) => source.snapshot(meta, consistent).await,
        }
    }

    async fn targets(
        &mut self,
        role: &str,
        meta: &MetaFile,
        consistent: bool,
    ) -> Result<Vec<u8>, SourceError> {
        match self {
            Self::Daemon(source) => source.targets(role, meta, consistent).await,
            Self::Registry(source) => source.targets(role, meta, consistent).await,
        }
    }

    fn entry(&self) -> Option<Entry> {
        match self {
            Self::Daemon(source) => source.entry(),
            Self::Registry(source) => source.entry(),
        }
    }

    fn location(&self) -> String {
        match self {
            Self::Daemon(source) => source.location(),
            Self::Registry(source) => source.location(),
        }
    }
}
