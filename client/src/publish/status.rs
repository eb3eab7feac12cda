//! Every role of a trust repository, for people to look at.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core::{
    oci::Digest,
    tuf::{KeyId, Revocation, Target},
};
use serde::Serialize;

use super::{
    PublishError,
    author::{key_names, max_life},
    head::{OnPath, path_to},
};
use crate::update::{Session, Source};

/// One role, as `status` and `inspect` show it.
#[derive(Debug, Clone, Serialize)]
pub struct RoleStatus {
    /// The role.
    pub role: String,
    /// The role that gives it its keys; none for root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Its version; none if it is delegated to and was never published.
    pub version: Option<u64>,
    /// When it was signed, by its own word.
    pub signed: Option<DateTime<Utc>>,
    /// When it expires.
    pub expires: Option<DateTime<Utc>>,
    /// True if it is time to sign it again; see [`is_aging`].
    pub aging: bool,
    /// The keys that may sign it.
    pub keys: Vec<KeyStatus>,
    /// How many of them must sign.
    pub threshold: u64,
    /// The path patterns it may speak about; empty for root, timestamp and snapshot.
    pub paths: Vec<String>,
    /// How many names it lists.
    pub targets: usize,
    /// How many digests and scopes it takes back.
    pub revocations: usize,
    /// What is wrong with it, if it does not verify.
    pub fault: Option<String>,
    /// What it lists; only with [`Depth::Contents`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contents: Option<Contents>,
}

/// A key that may sign a role.
#[derive(Debug, Clone, Serialize)]
pub struct KeyStatus {
    /// Its id.
    pub key_id: KeyId,
    /// What the role's parent calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What a role lists.
#[derive(Debug, Clone, Serialize)]
pub struct Contents {
    /// Digest and media type by target name.
    pub names: BTreeMap<String, Entry>,
    /// What it takes back.
    pub revoked: Vec<Revocation>,
    /// Revocations that it took back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reinstated: Vec<Revocation>,
}

/// What a name means.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// The manifest's digest; none if the role lists no usable sha256.
    pub digest: Option<Digest>,
    /// The manifest's length, bytes.
    pub length: u64,
    /// The manifest's media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// True if the tag was promised to mean nothing else.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub immutable: bool,
}

/// How much is wanted of each role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What it is.
    Roles,
    /// And every name it lists.
    Contents,
}

/// True if less than a fifth of the longest life of `role` is left of it at `now`: a daemon re-signs long before that, and
/// so should whoever holds the keys of the others. What expired is aging, too.
pub fn is_aging(role: &str, expires: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    let margin = match role {
        // Their lives are the operator's choice, down to seconds: what is left says little but when it is nothing.
        "timestamp" | "snapshot" => TimeDelta::zero(),
        role => max_life(role) / 5,
    };
    expires - now <= margin
}

/// Every role of an updated session, top level first, then delegated roles, each parent before its children.
///
/// # Errors
/// Those of fetching; a role that does not verify is listed with its fault.
pub async fn status<S: Source>(
    session: &mut Session<S>,
    depth: Depth,
) -> Result<Vec<RoleStatus>, PublishError> {
    let path = path_to(session, |_| true).await?;
    let trusted = session.trusted();
    let (root, now) = (&trusted.root().signed, trusted.now());
    let top = [
        Some(("root", &root.common)),
        trusted.timestamp().map(|document| ("timestamp", &document.signed.common)),
        trusted.snapshot().map(|document| ("snapshot", &document.signed.common)),
    ];
    let root_names = key_names(&root.common);
    let mut all: Vec<RoleStatus> = top
        .into_iter()
        .flatten()
        .map(|(role, common)| RoleStatus {
            role: role.to_owned(),
            parent: (role != "root").then(|| "root".to_owned()),
            version: Some(common.version),
            signed: common.identity.as_ref().map(|identity| identity.at),
            expires: Some(common.expires),
            aging: is_aging(role, common.expires, now),
            keys: keys(&root.roles[role].keyids, &root_names),
            threshold: root.roles[role].threshold,
            paths: Vec::new(),
            targets: 0,
            revocations: 0,
            fault: (common.expires <= now).then(|| "expired".to_owned()),
            contents: None,
        })
        .collect();
    let mut names_by_role = BTreeMap::from([("root".to_owned(), root_names)]);
    for role in &path {
        if let Some(targets) = role.content() {
            names_by_role.insert(role.role.clone(), key_names(&targets.common));
        }
    }
    let mut children: BTreeMap<String, Vec<OnPath>> = BTreeMap::new();
    for role in path {
        children.entry(role.delegator.clone()).or_default().push(role);
    }
    let mut pending = children.remove("root").unwrap_or_default();
    pending.reverse();
    while let Some(role) = pending.pop() {
        let below = children.remove(&role.role).unwrap_or_default();
        pending.extend(below.into_iter().rev());
        let expired = session.trusted().role(&role.role).is_none();
        let names = names_by_role.get(&role.delegator).cloned().unwrap_or_default();
        all.push(delegated(role, &names, depth, expired, now));
    }
    Ok(all)
}

fn delegated(
    role: OnPath,
    names: &BTreeMap<KeyId, String>,
    depth: Depth,
    expired: bool,
    now: DateTime<Utc>,
) -> RoleStatus {
    let mut status = RoleStatus {
        role: role.role,
        parent: Some(role.delegator),
        version: None,
        signed: None,
        expires: None,
        aging: false,
        keys: keys(&role.keyids, names),
        threshold: role.threshold,
        paths: role.allowed,
        targets: 0,
        revocations: 0,
        fault: None,
        contents: None,
    };
    let targets = match role.document {
        Ok(Some(document)) => document.signed,
        Ok(None) => {
            status.fault = Some("nothing published yet".to_owned());
            return status;
        }
        Err(error) => {
            status.fault = Some(crate::verify::chain(&error));
            return status;
        }
    };
    status.version = Some(targets.common.version);
    status.signed = targets.common.identity.as_ref().map(|identity| identity.at);
    status.expires = Some(targets.common.expires);
    status.aging = is_aging(&status.role, targets.common.expires, now);
    status.targets = targets.targets.len();
    status.revocations = targets.revocations().len();
    status.fault = expired.then(|| "expired".to_owned());
    status.contents = (depth == Depth::Contents).then(|| Contents {
        names: targets.targets.iter().map(|(name, target)| (name.clone(), entry(target))).collect(),
        revoked: targets.revocations().to_vec(),
        reinstated: targets.reinstated().to_vec(),
    });
    status
}

fn entry(target: &Target) -> Entry {
    Entry {
        digest: target.digest(),
        length: target.length,
        media_type: target.media_type().map(str::to_owned),
        immutable: target.is_immutable(),
    }
}

fn keys(ids: &[KeyId], names: &BTreeMap<KeyId, String>) -> Vec<KeyStatus> {
    ids.iter().map(|id| KeyStatus { key_id: id.clone(), name: names.get(id).cloned() }).collect()
}
