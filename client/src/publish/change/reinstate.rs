//! Bringing an earlier content forward: one that was revoked, unsigned, or replaced.

use std::collections::BTreeSet;

use plimsoll_core::{
    oci::{Digest, TargetName},
    tuf::{Revocation, Target, Targets},
};
use serde::Serialize;

use crate::publish::{
    Done, Edit, How, PublishError, Publisher, author,
    head::{Head, OnPath, Spot, revoked_above},
    history::{Change, Entry, History},
};

/// What is to be as it was.
#[derive(Debug, Clone)]
pub struct ReinstateRequest {
    /// The tag, or the digest itself.
    pub name: TargetName,
    /// What the tag shall mean; none for what it meant before what it means now.
    pub to: Option<Digest>,
    /// Why.
    pub reason: String,
    /// The digests it may take the place of; none for whatever the tag means when the change begins.
    pub over: Option<Vec<Digest>>,
}

/// What is as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reinstated {
    /// The role that vouches for it again.
    pub role: String,
    /// The digest.
    pub digest: Digest,
    /// The digests whose revocation was taken back: this one, and the platforms that were revoked with it. None if it was
    /// not revoked.
    pub digests: Vec<Digest>,
    /// The target names that are back.
    pub entries: Vec<String>,
    /// What the tag meant until now, if it was another digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Digest>,
    /// Names that meant it when it was revoked, and mean something else by now: they are left alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
}

impl Publisher {
    /// What [`Publisher::reinstate`] would do now. Changes nothing.
    ///
    /// # Errors
    /// As [`Publisher::reinstate`], as far as they can be told without signing.
    pub async fn preview_reinstate(
        &self,
        request: &ReinstateRequest,
        how: How<'_>,
    ) -> Result<Reinstated, PublishError> {
        let mut head = self.head().await?;
        Ok(self.back(&mut head, request, how, &mut None).await?.told)
    }

    /// Brings an earlier content forward under a new version, as the role's history has it: takes its revocation back if
    /// there is one, and lists its names again. Reads the daemon's history of the role.
    ///
    /// # Errors
    /// [`PublishError`]; [`PublishError::NothingEarlier`] if the history has no such content,
    /// [`PublishError::RevokedBy`] if another role revoked it, [`PublishError::Clash`] as with [`Publisher::sign`].
    pub async fn reinstate(
        &self,
        request: &ReinstateRequest,
        how: How<'_>,
    ) -> Result<Done<Reinstated>, PublishError> {
        let mut meant = None;
        self.change(how, async |head| self.back(head, request, how, &mut meant).await).await
    }

    async fn back(
        &self,
        head: &mut Head,
        request: &ReinstateRequest,
        how: How<'_>,
        meant: &mut Option<Option<Digest>>,
    ) -> Result<Edit<Reinstated>, PublishError> {
        let (mut path, spots) = head.spots(&[&request.name], how.signers).await?;
        let Spot { at, first, .. } = spots.into_iter().next().expect("one name has one spot");
        let (role, name) = (path[at].role.clone(), request.name.to_string());
        if let Some(first) = first {
            return Err(PublishError::Shadowed { role, first, name });
        }
        let now = path[at].content().and_then(|content| content.targets.get(&name)).and_then(Target::digest);
        let history = self.history(head, &role).await?;
        let nothing = || PublishError::NothingEarlier { role: role.clone(), name: name.clone() };
        let history = history.ok_or_else(nothing)?;
        let digest = match &request.name {
            TargetName::Digest { digest, .. } => *digest,
            TargetName::Tag { .. } => {
                let earlier =
                    history.last_content(&name).into_iter().filter_map(|earlier| earlier.target.digest());
                let before = request.to.or_else(|| earlier.into_iter().find(|digest| now != Some(*digest)));
                before.ok_or_else(nothing)?
            }
        };
        let above = revoked_above(&path, at);
        if let Some(other) = revoked_elsewhere(&path, at, &above, digest) {
            return Err(PublishError::RevokedBy { role: other, digest });
        }
        let first_seen = *meant.get_or_insert(now);
        let may_go = |theirs: &Digest| match &request.over {
            Some(over) => over.contains(theirs),
            None => first_seen.as_ref() == Some(theirs),
        };
        if let Some(theirs) = now.filter(|theirs| *theirs != digest && !may_go(theirs)) {
            return Err(PublishError::Clash { role, name, ours: digest, theirs });
        }
        let mut targets = head.next(&mut path[at], &above)?;
        let before = targets.targets.clone();
        let past = Past { history: &history, digest };
        let together = past.revoked_together(&targets);
        let digests = author::reinstate(&mut targets, &together, &request.reason, head.now());
        let left = past.restore(&mut targets, &path[at], &request.name, !digests.is_empty())?;
        let changed = |(name, target): &(&String, &Target)| before.get(*name) != Some(*target);
        let entries: Vec<String> =
            targets.targets.iter().filter(changed).map(|(name, _)| name.clone()).collect();
        if entries.is_empty() && digests.is_empty() {
            return Err(PublishError::NothingEarlier { role, name });
        }
        let replaces = now.filter(|now| *now != digest);
        let told = Reinstated { role: role.clone(), digest, digests, entries, replaces, left };
        Ok(Edit::of(&role, targets, told))
    }
}

/// The other role on the way that revoked `digest`.
fn revoked_elsewhere(
    path: &[OnPath],
    at: usize,
    above: &[(String, Revocation)],
    digest: Digest,
) -> Option<String> {
    let revokes = |revocation: &Revocation| revocation.digest == Some(digest);
    let higher = above.iter().find(|(_, revocation)| revokes(revocation)).map(|(role, _)| role.clone());
    let below = path[at + 1..]
        .iter()
        .find(|role| role.content().is_some_and(|content| content.revocations().iter().any(revokes)));
    higher.or_else(|| below.map(|role| role.role.clone()))
}

/// What a role's history says of one digest.
struct Past<'a> {
    history: &'a History,
    digest: Digest,
}

impl Past<'_> {
    /// The digest, and those of its platforms that were revoked in the same version, as far as `targets` lists them as
    /// revoked.
    fn revoked_together(&self, targets: &Targets) -> Vec<Digest> {
        let listed: BTreeSet<Digest> =
            targets.revocations().iter().filter_map(|revocation| revocation.digest).collect();
        if !listed.contains(&self.digest) {
            return Vec::new();
        }
        let platforms: BTreeSet<Digest> =
            self.platforms().iter().filter_map(|(_, target)| target.digest()).collect();
        let mut together = vec![self.digest];
        let others = self.revoked_in().into_iter().flat_map(|entry| &entry.changes).filter_map(revoked);
        together.extend(others.filter(|other| platforms.contains(other) && listed.contains(other)));
        together
    }

    /// Lists the digest again: under `name`, under the names that it was revoked with if it `was_revoked`, by itself, and
    /// its platforms. Returns the names that mean something else by now.
    fn restore(
        &self,
        targets: &mut Targets,
        role: &OnPath,
        name: &TargetName,
        was_revoked: bool,
    ) -> Result<Vec<String>, PublishError> {
        let allowed = (role.role.as_str(), role.allowed.as_slice());
        let mut names: BTreeSet<TargetName> = BTreeSet::from([name.clone()]);
        if was_revoked {
            names.extend(self.names_revoked());
        }
        let by_digest =
            |repository: &str| TargetName::Digest { repository: repository.to_owned(), digest: self.digest };
        let repositories: BTreeSet<String> = names.iter().map(|name| name.repository().to_owned()).collect();
        names.extend(repositories.iter().map(|repository| by_digest(repository)));
        let (mut left, mut found) = (Vec::new(), false);
        for each in &names {
            let text = each.to_string();
            let now = targets.targets.get(&text).and_then(Target::digest);
            if now.is_some_and(|now| now != self.digest) && each != name {
                left.push(text);
                continue;
            }
            // What the tag meant may have been signed without an entry of its own.
            let Some(target) = self.target(&text) else { continue };
            found |= each == name;
            if now.is_none() || each == name {
                author::restore(targets, allowed, each, target)?;
            }
        }
        if !found && !was_revoked {
            let (role, name) = (role.role.clone(), name.to_string());
            return Err(PublishError::NothingEarlier { role, name });
        }
        // After the index itself: a platform belongs to what is listed.
        for (platform, target) in
            self.platforms().into_iter().filter(|(name, _)| repositories.contains(name.repository()))
        {
            if found || names.iter().any(|name| targets.targets.contains_key(&name.to_string())) {
                author::restore(targets, allowed, &platform, target)?;
            }
        }
        Ok(left)
    }

    /// The names that stood for it in the version before the one that revoked it.
    fn names_revoked(&self) -> Vec<TargetName> {
        let Some(revoking) = self.revoked_in() else { return Vec::new() };
        let verified = self.history.entries().iter().filter(|entry| entry.fault.is_none());
        let before = verified.map(|entry| entry.version).filter(|version| *version < revoking.version).max();
        let names = self.history.last_names(self.digest).into_iter();
        names
            .filter(|earlier| Some(earlier.last) == before)
            .filter_map(|earlier| earlier.name.parse().ok())
            .collect()
    }

    /// The newest version that revoked it.
    fn revoked_in(&self) -> Option<&Entry> {
        let revokes = |change: &Change| revoked(change) == Some(self.digest);
        self.history
            .entries()
            .iter()
            .rev()
            .find(|entry| entry.fault.is_none() && entry.changes.iter().any(revokes))
    }

    /// What was last written under `name` for it.
    fn target(&self, name: &str) -> Option<&Target> {
        self.written()
            .find(|(written, target)| *written == name && target.digest() == Some(self.digest))
            .map(|(_, target)| target)
    }

    /// What was last written as a platform of it, by name.
    fn platforms(&self) -> Vec<(TargetName, &Target)> {
        let mut known = BTreeSet::new();
        self.written()
            .filter(|(_, target)| target.indexes().contains(&self.digest))
            .filter(|(name, _)| known.insert(*name))
            .filter_map(|(name, target)| Some((name.parse().ok()?, target)))
            .collect()
    }

    /// Every entry that was written, the newest first.
    fn written(&self) -> impl Iterator<Item = (&str, &Target)> {
        let verified = self.history.entries().iter().rev().filter(|entry| entry.fault.is_none());
        verified.flat_map(|entry| entry.changes.iter().rev()).filter_map(|change| match change {
            Change::Added { name, target } | Change::Changed { name, target, .. } => {
                Some((name.as_str(), target))
            }
            _ => None,
        })
    }
}

fn revoked(change: &Change) -> Option<Digest> {
    if let Change::Revoked(revocation) = change { revocation.digest } else { None }
}
