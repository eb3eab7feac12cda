//! Writing a trust repository to a registry where others may write at the same time.
//!
//! A registry has no compare-and-swap. On one machine a lock keeps writers of one place apart. Against those of other
//! machines, a writer looks right before it writes the entry point and again after it, and whoever finds that something older
//! was written over something newer puts the newer there again, roles and all.

use std::{collections::BTreeSet, path::Path, time::Duration};

use plimsoll_core::{
    oci::{
        Digest, RepositoryAddress,
        mapping::{self, Profile},
    },
    tuf::limit,
};
use serde::Serialize;

use super::{
    BundleError, Closure, RoleArtifact,
    push::shown_digest,
    site::{Shown, Spot, Standing, push},
};
use crate::{
    registry::Registry,
    state::{self, Lock, StateError},
    update::UpdateError,
};

/// How long another process on this machine may write to the same place: images may be on their way.
const PATIENCE: Duration = Duration::from_secs(600);
/// So many times the entry point is put in the place of something older.
const MAX_AGAIN: u32 = 3;

/// What others wrote to the same place meanwhile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Others {
    /// The version of a newer timestamp that somebody else put there; it stays.
    pub newer: Option<u64>,
    /// True if somebody else had written something older over it, and it was put there again.
    pub again: bool,
}

/// Waits until no other process with the trusted state `state` writes to any of `places`, and keeps them out until what is
/// returned is dropped.
///
/// # Errors
/// [`BundleError::Update`] with a [`StateError`]: another one takes longer than ten minutes, or `state` cannot be written.
pub(super) async fn alone(state: &Path, places: BTreeSet<String>) -> Result<Vec<Lock>, BundleError> {
    let mut locks = Vec::new();
    // In one order, so that no two wait for each other.
    for place in places {
        let folder = state.join("writing").join(Digest::of(place.as_bytes()).hex());
        let write = |source| StateError::Write { path: folder.clone(), source };
        state::create_private_folder(&folder).map_err(write).map_err(UpdateError::from)?;
        locks.push(state::lock_alone(&folder.join("lock"), PATIENCE).await.map_err(UpdateError::from)?);
    }
    Ok(locks)
}

/// A verified trust repository on its way to a place in a registry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Landing<'a> {
    pub(super) registry: &'a Registry,
    pub(super) to: &'a RepositoryAddress,
    pub(super) closure: &'a Closure,
}

impl Landing<'_> {
    /// Pushes the role, which nothing leads to before the entry point is there.
    pub(super) async fn role(&self, role: &RoleArtifact) -> Result<(), BundleError> {
        Ok(push(self.registry, self.to, &role.artifact).await?)
    }

    /// Pushes the entry point, which makes everything seen, unless something newer is there by now, and looks whether it and
    /// `roles`, which were pushed before, stay.
    ///
    /// # Errors
    /// [`BundleError::Older`] if there was something newer before anything was seen of this; [`BundleError::Moved`] if
    /// somebody else does not stop writing; else as [`Spot::standing`].
    pub(super) async fn entry_point(&self, roles: &[&str]) -> Result<Others, BundleError> {
        let spot = Spot::Registry(self.registry, self.to.clone());
        let mut others = Others::default();
        let mut written = false;
        for _ in 0..=MAX_AGAIN + 1 {
            let shown = spot.shown().await?;
            let standing = match &shown {
                Some(shown) => spot.standing(shown, &self.closure.root, &self.closure.timestamp).await,
                None => Ok(Standing::Empty),
            };
            match (standing, &shown) {
                (Err(BundleError::Older { place, role, shown: version, ours }), Some(shown)) => {
                    self.give_back(roles, shown).await?;
                    if !written {
                        return Err(BundleError::Older { place, role, shown: version, ours });
                    }
                    others.newer = shown.timestamp.as_ref().map(|timestamp| timestamp.version());
                    return Ok(others);
                }
                (Ok(Standing::Same), _) if written => {
                    if !self.put_back(roles).await? {
                        return Ok(others);
                    }
                    others.again = true;
                    continue;
                }
                (standing, _) => drop(standing?),
            }
            push(self.registry, self.to, &self.closure.latest).await?;
            others.again |= std::mem::replace(&mut written, true);
        }
        Err(BundleError::Moved { place: self.to.to_string() })
    }

    /// Pushes those of `roles` again whose tags are not ours any more: what no tag leads to, registries may delete. True if
    /// there was one.
    async fn put_back(&self, roles: &[&str]) -> Result<bool, BundleError> {
        let mut any = false;
        for role in roles.iter().filter_map(|role| self.closure.roles.get(*role)) {
            if self.tag(&role.artifact.tag).await? != Some(role.artifact.digest) {
                self.role(role).await?;
                any = true;
            }
        }
        Ok(any)
    }

    /// Puts the roles of the newer snapshot in `shown` where ours were written over them.
    async fn give_back(&self, roles: &[&str], shown: &Shown) -> Result<(), BundleError> {
        let Some(snapshot) = &shown.snapshot else { return Ok(()) };
        let spot = Spot::Registry(self.registry, self.to.clone());
        for name in roles {
            let (Some(ours), Some(theirs)) = (self.closure.roles.get(*name), snapshot.signed.role(name))
            else {
                continue;
            };
            let Some(digest) = theirs.digest().filter(|_| ours.version < theirs.version) else { continue };
            if self.tag(&ours.artifact.tag).await? != Some(ours.artifact.digest) {
                continue;
            }
            let size = theirs.length.map_or(limit::TARGETS, |length| length.min(limit::TARGETS));
            if let Some(bytes) = spot.blob(&digest, size).await? {
                let newer = mapping::role(name, (theirs.version, &bytes), None, Profile::Oci11);
                push(self.registry, self.to, &newer).await?;
            }
        }
        Ok(())
    }

    async fn tag(&self, tag: &str) -> Result<Option<Digest>, BundleError> {
        Ok(shown_digest(self.registry, self.to, tag).await?)
    }
}
