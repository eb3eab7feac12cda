//! One delegated role, and how a name is decided, as clients see both: for people to look at.

use std::{collections::BTreeMap, path::Path};

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::Digest,
    policy::Verdict,
    tuf::{DelegatedRole, KeyId, Outcome, Revocation, Search, Step, matches},
};
use serde::Serialize;

use super::{
    PublishError,
    author::key_names,
    head::{Head, OnPath, Reader},
    history::{self, NamedKey},
};
use crate::{
    update::{Bounds, RegistrySource, Session, UpdateError},
    verify::chain,
};

/// One role, as `delegate show` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct RoleView {
    /// The role.
    pub role: String,
    /// The roles above it, `targets` first.
    pub above: Vec<RoleVersion>,
    /// What it may speak about, path patterns.
    pub paths: Vec<String>,
    /// The keys that may sign it.
    pub keys: Vec<NamedKey>,
    /// How many of them must.
    pub threshold: u64,
    /// True if clients ask no role after it.
    pub terminating: bool,
    /// Its version; none if it was never published, or does not verify.
    pub version: Option<u64>,
    /// When it expires, UTC.
    pub expires: Option<DateTime<Utc>>,
    /// How many names it lists.
    pub targets: usize,
    /// How much it takes back.
    pub revocations: usize,
    /// What it delegates, in the order that clients ask.
    pub delegations: Vec<Delegation>,
    /// Why clients do not go by it, if they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// A role and its version.
#[derive(Debug, Clone, Serialize)]
pub struct RoleVersion {
    /// The role.
    pub role: String,
    /// Its version; none if it was never published, or does not verify.
    pub version: Option<u64>,
    /// When it expires, UTC.
    pub expires: Option<DateTime<Utc>>,
}

/// What a role delegates.
#[derive(Debug, Clone, Serialize)]
pub struct Delegation {
    /// To which role.
    pub role: String,
    /// What that may speak about, path patterns.
    pub paths: Vec<String>,
    /// Who signs it.
    pub keys: Vec<NamedKey>,
    /// How many of them must.
    pub threshold: u64,
}

/// How clients decide a name.
#[derive(Debug, Clone, Serialize)]
pub struct Trace {
    /// The target name.
    pub name: String,
    /// What clients say of it, and of the digest if one was given.
    pub verdict: Verdict,
    /// What the name means, if a role lists it.
    pub digest: Option<Digest>,
    /// The roles in the order they are asked (5.6.7). The last one decided, or could not.
    pub asked: Vec<Asked>,
    /// The roles that the roles asked delegate to and that are not asked.
    pub passed: Vec<Passed>,
    /// Why the search could not be completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// A role that is asked.
#[derive(Debug, Clone, Serialize)]
pub struct Asked {
    /// The role.
    pub role: String,
    /// Its version; none if it could not be had, or does not verify.
    pub version: Option<u64>,
    /// What it may speak about, path patterns.
    pub paths: Vec<String>,
    /// True if no role after it is asked.
    pub terminating: bool,
    /// What it lists for the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lists: Option<Digest>,
    /// How many digests and scopes it takes back.
    pub revocations: usize,
    /// What it takes back: the scope that the name lies in, or the digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revokes: Option<Revocation>,
}

/// A role that is not asked.
#[derive(Debug, Clone, Serialize)]
pub struct Passed {
    /// The role.
    pub role: String,
    /// Why.
    pub why: Why,
}

/// Why a role is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The name is not in its scope.
    OutOfScope,
    /// It comes after the role that decided, or after one that is terminating.
    After,
}

/// What clients of the registry see now, for looking at. Moves the trusted state in the folder `state` forward.
///
/// # Errors
/// [`UpdateError`].
pub async fn as_clients(
    source: RegistrySource,
    state: &Path,
    pinned: &[u8],
    now: DateTime<Utc>,
) -> Result<Head, UpdateError> {
    Ok(Head::new(
        Session::refresh(Reader::Registry(source), state, pinned, now, &Bounds::default()).await?,
        now,
    ))
}

/// The role called `name`, and what stands above and below it.
///
/// # Errors
/// [`PublishError::UnknownRole`], [`PublishError::ExpiredAbove`] and those of fetching.
pub async fn describe(head: &mut Head, name: &str) -> Result<RoleView, PublishError> {
    let mut path = head.chain(name).await?;
    let names = match path.len() {
        1 => Some(key_names(&head.trusted().root().signed.common)),
        above => path[above - 2].content().map(|targets| key_names(&targets.common)),
    };
    let role = path.pop().expect("a chain ends with its role");
    let content = role.content();
    let fault = match &role.document {
        Ok(None) => Some("nothing published yet".to_owned()),
        Ok(Some(_)) => head.trusted().role(name).is_none().then(|| "expired".to_owned()),
        Err(error) => Some(chain(error)),
    };
    let delegations = content.and_then(|targets| targets.delegations.as_ref());
    let delegation = |below: &DelegatedRole| Delegation {
        role: below.name.clone(),
        paths: below.paths.clone().unwrap_or_default(),
        keys: named(
            &below.keys.keyids,
            &content.map(|targets| key_names(&targets.common)).unwrap_or_default(),
        ),
        threshold: below.keys.threshold,
    };
    Ok(RoleView {
        above: path.iter().map(RoleVersion::of).collect(),
        keys: named(&role.keyids, &names.unwrap_or_default()),
        threshold: role.threshold,
        terminating: role.terminating,
        version: content.map(|targets| targets.common.version),
        expires: content.map(|targets| targets.common.expires),
        targets: content.map_or(0, |targets| targets.targets.len()),
        revocations: content.map_or(0, |targets| targets.revocations().len()),
        delegations: delegations.iter().flat_map(|below| &below.roles).map(delegation).collect(),
        fault,
        paths: role.allowed.clone(),
        role: role.role,
    })
}

/// How clients decide the target name `name`, and whether they take `presented` for it.
///
/// # Errors
/// Local faults only; what keeps clients from deciding is part of the answer.
pub async fn trace(head: &mut Head, name: &str, presented: Option<Digest>) -> Result<Trace, PublishError> {
    let session = head.session();
    let mut search = Search::new(name);
    let mut asked: Vec<(String, String)> = Vec::new();
    session.verified_snapshot()?;
    let ended: Result<Outcome, UpdateError> = loop {
        match search.step(session.trusted()) {
            Ok(Step::Load { role, delegator, .. }) => {
                let loaded = session.load_role(&role, &delegator).await;
                asked.push((role, delegator));
                if let Err(error) = loaded {
                    break Err(error);
                }
            }
            Ok(Step::Done(outcome)) => break Ok(outcome),
            Err(error) => break Err(error.into()),
        }
    };
    let mut revocations = search.revocations().to_vec();
    let (verdict, digest, fault) = match ended {
        Ok(Outcome::Found(found)) => {
            let digest = found.target.digest();
            revocations = found.revocations;
            (judged(digest, presented, &revocations), digest, None)
        }
        Ok(Outcome::Revoked { .. }) => (Verdict::Revoked, None, None),
        Ok(Outcome::Absent { revocations: told, .. }) => {
            revocations = told;
            let revoked = presented.is_some_and(|digest| takes_back(&revocations, digest));
            (if revoked { Verdict::Revoked } else { Verdict::Absent }, None, None)
        }
        Err(error) => match error.verdict() {
            // A role above took it back: that holds, whatever the roles below fail to say.
            Some(_) if presented.is_some_and(|digest| takes_back(&revocations, digest)) => {
                (Verdict::Revoked, None, Some(chain(&error)))
            }
            Some(verdict) => (verdict, None, Some(chain(&error))),
            None => return Err(error.into()),
        },
    };
    let trusted = head.trusted();
    let content = |role: &str| trusted.role(role).map(|(_, document)| &document.signed);
    let wanted = [digest, presented];
    let describe = |(role, delegator): &(String, String)| {
        let delegation = content(delegator).and_then(|targets| targets.delegated(role));
        let paths = delegation.map_or_else(
            || super::author::root_patterns(&trusted.root().signed),
            |delegation| delegation.paths.clone().unwrap_or_default(),
        );
        let targets = content(role);
        let takes_back = |revocation: &&Revocation| {
            revocation.paths.iter().any(|path| matches(path, name))
                || wanted.iter().flatten().any(|digest| revocation.digest == Some(*digest))
        };
        Asked {
            role: role.clone(),
            version: targets.map(|targets| targets.common.version),
            paths,
            terminating: delegation.is_some_and(|delegation| delegation.terminating),
            revocations: targets.map_or(0, |targets| targets.revocations().len()),
            lists: targets.and_then(|targets| targets.targets.get(name)?.digest()),
            revokes: targets.and_then(|targets| targets.revocations().iter().find(takes_back).cloned()),
        }
    };
    let steps: Vec<Asked> = asked.iter().map(describe).collect();
    let mut passed = Vec::new();
    for (role, _) in &asked {
        let delegations = content(role).and_then(|targets| targets.delegations.as_ref());
        for below in delegations.iter().flat_map(|delegations| &delegations.roles) {
            if asked.iter().all(|(known, _)| *known != below.name) {
                let covers = below.paths.iter().flatten().any(|path| matches(path, name));
                let why = if covers { Why::After } else { Why::OutOfScope };
                passed.push(Passed { role: below.name.clone(), why });
            }
        }
    }
    Ok(Trace { name: name.to_owned(), verdict, digest, asked: steps, passed, fault })
}

/// What clients say of a name that is listed.
fn judged(
    digest: Option<Digest>,
    presented: Option<Digest>,
    revocations: &[(String, Revocation)],
) -> Verdict {
    let Some(signed) = digest else { return Verdict::Untrusted };
    match presented {
        Some(presented) if takes_back(revocations, presented) => Verdict::Revoked,
        Some(presented) if presented != signed => Verdict::Mismatch,
        _ if takes_back(revocations, signed) => Verdict::Revoked,
        _ => Verdict::Verified,
    }
}

fn takes_back(revocations: &[(String, Revocation)], digest: Digest) -> bool {
    revocations.iter().any(|(_, revocation)| revocation.digest == Some(digest))
}

impl RoleVersion {
    fn of(role: &OnPath) -> Self {
        let content = role.content();
        Self {
            role: role.role.clone(),
            version: content.map(|targets| targets.common.version),
            expires: content.map(|targets| targets.common.expires),
        }
    }
}

fn named(keyids: &[KeyId], names: &BTreeMap<KeyId, String>) -> Vec<NamedKey> {
    keyids.iter().map(|id| history::named(id, names)).collect()
}
