//! All that is needed to verify names of one trust repository elsewhere: taken from an updated session, so verified.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::mapping::{self, Artifact, Profile, RepositoryFiles},
    tuf::{Document, Error, MAX_DEPTH, Snapshot, Targets, Timestamp, Verified},
};
use serde::Serialize;

use super::BundleError;
use crate::{
    update::{Places, Session, Source, SourceError, UpdateError},
    verify::chain,
};

/// Which roles are wanted.
#[derive(Debug, Clone, Copy)]
pub enum Extent<'a> {
    /// Every role that is delegated to, at any depth.
    All,
    /// Those that the session's searches visited.
    Searched,
    /// These, all of them; each must verify.
    Only(&'a BTreeSet<String>),
}

/// One trust repository, verified, in the form in which it lies in a registry. Equal content gives equal bytes.
///
/// Only what verified is in it: no older snapshots, and of each role the present version alone.
#[derive(Debug, Clone)]
pub struct Closure {
    /// What it is.
    pub summary: Summary,
    /// The trusted root document.
    pub root: Vec<u8>,
    /// The verified timestamp.
    pub timestamp: Verified<Timestamp>,
    /// The verified snapshot.
    pub snapshot: Verified<Snapshot>,
    /// The entry point.
    pub latest: Artifact,
    /// The delegated roles, by name.
    pub roles: BTreeMap<String, RoleArtifact>,
    /// The delegated roles that are wanted, and do not verify; with [`Extent::Only`], those below an expired one.
    pub left_out: Vec<LeftOut>,
}

/// What a trust repository shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Where it came from, `HOST/REPOSITORY`.
    pub repository: String,
    /// The trust id; none for a foreign one.
    pub trust: Option<String>,
    /// When the timestamp was signed, by its own word, UTC: what is here was true then.
    pub as_of: Option<DateTime<Utc>>,
    /// When the timestamp expires, UTC.
    pub expires: DateTime<Utc>,
    /// The version of every role that is here, by its name; of `root` the newest.
    pub versions: BTreeMap<String, u64>,
}

/// One delegated role.
#[derive(Debug, Clone)]
pub struct RoleArtifact {
    /// The role that delegates to it.
    pub delegator: String,
    /// Its version.
    pub version: u64,
    /// Its manifest and document.
    pub artifact: Artifact,
}

/// A role that does not verify: its names do not, here and there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The role.
    pub role: String,
    /// Why, in words.
    pub why: String,
}

/// A place of a root that gave nothing good while another one did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The place.
    pub place: String,
    /// Why, in words.
    pub why: String,
}

impl Skipped {
    /// Those that `session` passed over; one that merely lags is not among them.
    pub fn of<S: Source>(session: &Session<Places<S>>) -> Vec<Self> {
        let skipped = session.skipped().iter();
        skipped.map(|(place, why)| Self { place: place.clone(), why: chain(why) }).collect()
    }
}

impl Closure {
    /// Takes what `extent` says from `session`, which reads from `repository`.
    ///
    /// Network: each wanted role that is not held already, and roots older than the pinned one. Expired roles are taken:
    /// their names read EXPIRED there as they do here.
    ///
    /// # Errors
    /// [`BundleError::Update`]; with [`Extent::Only`], [`BundleError::RoleUnverified`] and [`BundleError::Undelegated`].
    pub async fn collect<S: Source>(
        session: &mut Session<S>,
        repository: &str,
        extent: Extent<'_>,
    ) -> Result<Self, BundleError> {
        session.load_role("targets", "root").await?;
        let (roles, left_out) = match extent {
            Extent::Searched => (searched(session), Vec::new()),
            _ => walked(session, extent).await?,
        };
        let roots = session.roots_below().await?;
        let snapshot = session.verified_snapshot()?.clone();
        let trusted = session.trusted();
        let missing = |role: &str| Error::Order { role: role.to_owned(), missing: "an update" };
        let timestamp = trusted.timestamp().ok_or_else(|| UpdateError::from(missing("timestamp")))?.clone();
        let (_, targets) = trusted.role("targets").ok_or_else(|| UpdateError::from(missing("targets")))?;
        let latest = mapping::repository(
            &RepositoryFiles {
                timestamp: &timestamp.bytes,
                snapshots: vec![(snapshot.version(), &snapshot.bytes)],
                targets: (targets.version(), &targets.bytes),
                roots: roots.iter().map(|(version, bytes)| (*version, bytes.as_slice())).collect(),
            },
            Profile::Oci11,
        );
        let top = [
            ("root", trusted.root().version()),
            ("timestamp", timestamp.version()),
            ("snapshot", snapshot.version()),
            ("targets", targets.version()),
        ];
        let delegated = roles.iter().map(|(role, artifact)| (role.clone(), artifact.version));
        let common = &timestamp.signed.common;
        let summary = Summary {
            repository: repository.to_owned(),
            trust: trusted.trust_id().map(str::to_owned),
            as_of: common.identity.as_ref().map(|identity| identity.at),
            expires: common.expires,
            versions: top
                .map(|(role, version)| (role.to_owned(), version))
                .into_iter()
                .chain(delegated)
                .collect(),
        };
        let root = trusted.root().bytes.to_vec();
        Ok(Self { summary, root, timestamp, snapshot, latest, roles, left_out })
    }
}

type Roles = BTreeMap<String, RoleArtifact>;

fn artifact(role: &str, delegator: &str, document: &Document<Targets>) -> RoleArtifact {
    let version = document.version();
    let artifact = mapping::role(role, (version, &document.bytes), None, Profile::Oci11);
    RoleArtifact { delegator: delegator.to_owned(), version, artifact }
}

fn searched<S: Source>(session: &Session<S>) -> Roles {
    let trusted = session.trusted();
    let delegated = trusted.roles().filter(|(role, _)| *role != "targets");
    let entry = |(role, document): (&str, &Verified<Targets>)| {
        let delegator = trusted.role(role).map_or("targets", |(delegator, _)| delegator);
        (role.to_owned(), artifact(role, delegator, document))
    };
    delegated.map(entry).collect()
}

/// From `targets` down, each role once; below a role that does not verify nothing does.
async fn walked<S: Source>(
    session: &mut Session<S>,
    extent: Extent<'_>,
) -> Result<(Roles, Vec<LeftOut>), BundleError> {
    let (mut roles, mut left_out, mut any_expired) = (Roles::new(), Vec::new(), false);
    let mut pending = vec![("targets".to_owned(), 0)];
    session.verified_snapshot()?;
    while let Some((delegator, depth)) = pending.pop() {
        for role in children(session, &delegator) {
            let wanted = match extent {
                Extent::Only(wanted) => wanted.contains(&role),
                _ => true,
            };
            if !wanted || depth >= MAX_DEPTH || roles.contains_key(&role) {
                continue;
            }
            match load(session, &role, &delegator).await {
                Ok((artifact, expired)) => {
                    roles.insert(role.clone(), artifact);
                    any_expired |= expired;
                    if !expired {
                        pending.push((role, depth + 1));
                    }
                }
                Err(error) if !is_of_the_role(&error) => return Err(error.into()),
                Err(source) if matches!(extent, Extent::Only(_)) => {
                    return Err(BundleError::RoleUnverified { role, source: source.into() });
                }
                // Delegated to, and nothing was published yet.
                Err(UpdateError::Tuf(Error::NotInSnapshot { .. })) => {}
                Err(error) => left_out.push(LeftOut { why: chain(&error), role }),
            }
        }
    }
    if let Extent::Only(wanted) = extent {
        for role in wanted.iter().filter(|role| !roles.contains_key(*role)) {
            // Below an expired role nothing verifies, so what is below it cannot be told from a stranger.
            if !any_expired {
                return Err(BundleError::Undelegated { role: role.clone() });
            }
            left_out.push(LeftOut { role: role.clone(), why: "a role above it is expired".to_owned() });
        }
    }
    Ok((roles, left_out))
}

/// The roles that `delegator` delegates to: those it lists, and hash bins (TAP 15) that the snapshot lists.
fn children<S: Source>(session: &Session<S>, delegator: &str) -> Vec<String> {
    let trusted = session.trusted();
    let Some((_, document)) = trusted.role(delegator) else { return Vec::new() };
    let Some(delegations) = &document.signed.delegations else { return Vec::new() };
    let mut children: Vec<String> = delegations.roles.iter().map(|role| role.name.clone()).collect();
    if let (Some(succinct), Some(snapshot)) = (&delegations.succinct_roles, trusted.snapshot()) {
        let prefix = format!("{}-", succinct.name_prefix);
        let bins = snapshot.signed.meta.keys().filter_map(|file| file.strip_suffix(".json"));
        children.extend(bins.filter(|role| role.starts_with(&prefix)).map(str::to_owned));
    }
    children
}

/// The verified role, and whether it is expired.
async fn load<S: Source>(
    session: &mut Session<S>,
    role: &str,
    delegator: &str,
) -> Result<(RoleArtifact, bool), UpdateError> {
    match session.load_role(role, delegator).await {
        Ok(()) => {}
        Err(UpdateError::Tuf(Error::Expired { .. })) => {
            let document = session.role_to_edit(role, delegator).await?;
            return Ok((artifact(role, delegator, &document), true));
        }
        Err(error) => return Err(error),
    }
    let (_, document) = session.trusted().role(role).expect("it was just loaded");
    Ok((artifact(role, delegator, document), false))
}

/// True if nothing but this role is wrong.
fn is_of_the_role(error: &UpdateError) -> bool {
    matches!(error, UpdateError::Tuf(_) | UpdateError::Source(SourceError::Gone { .. }))
}
