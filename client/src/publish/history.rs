//! Who signed what, and when: every version of a role that the daemon has, each one verified.
//!
//! [`read()`] fetches the versions, `check` verifies them; what is asked of them here is pure.
//!
//! What a history can prove: each version carries signatures of a threshold of the keys that its delegator, at one of its
//! own verified versions, gave it to; along a role these never go back; the newest version is the one that the snapshot
//! names. What it cannot: whoever runs the daemon *and* holds keys that were good once can put another document in the
//! place of an old version. `at` is the signer's own word.

mod changes;
mod check;
mod read;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::Digest,
    policy::Verdict,
    tuf::{self, KeyId, Target},
};
use serde::{Serialize, Serializer, ser::SerializeStruct};

pub use changes::Change;
pub use read::{MAX_BYTES, MAX_VERSIONS, Present, read};

use crate::verify::chain;

/// All versions of one role, oldest first.
#[derive(Debug)]
pub struct History {
    role: String,
    /// One for each version from the first to the newest; for `root` from the pinned one.
    entries: Vec<Entry>,
    /// Who may sign it now.
    present: BTreeSet<KeyId>,
}

/// One version of a role.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// The role.
    pub role: String,
    /// The version.
    pub version: u64,
    /// When it was signed, by its own word; UTC. None if it does not say, or was not verified.
    pub at: Option<DateTime<Utc>>,
    /// When it expires, UTC; none if it was not verified.
    pub expires: Option<DateTime<Utc>>,
    /// Whose signatures are valid and count, in the order they stand in the document. Of a root: its own keys and those
    /// of the root before.
    pub signers: Vec<NamedKey>,
    /// What is different from the version before, or from the last one before it that verified.
    pub changes: Vec<Change>,
    /// Why nothing is known of it. Then there are no signers and no changes, and nothing that it says is believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

/// A key, and what people call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedKey {
    /// The key's id.
    pub keyid: KeyId,
    /// Its name, if the document that gives it a role has one for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `alice (3f2a91c0)`, or the beginning of the id alone.
impl std::fmt::Display for NamedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.keyid.short()),
            None => f.write_str(self.keyid.short()),
        }
    }
}

/// Why a version counts for nothing. As JSON `{"kind", "detail"}`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It verifies under none of the keys that the role had, or is not the document that the snapshot names.
    #[error("not to be trusted")]
    Untrusted(#[source] tuf::Error),
    /// The snapshot lists the role, and no role is known to have delegated to it, ever.
    #[error("not to be trusted: the snapshot lists it, and no role ever delegated to it")]
    Orphan,
    /// The daemon does not have it.
    #[error("the daemon does not have it")]
    Missing,
    /// It was signed by keys of a time before the pinned root, of which nothing is known.
    #[error("older than the pinned root, version {pinned}, so there is nothing to verify it by")]
    Unproven {
        /// The version of the pinned root.
        pinned: u64,
    },
}

impl Fault {
    /// The verdict whose exit code fits; none if it is no fault of anybody.
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Untrusted(_) | Self::Orphan => Some(Verdict::Untrusted),
            Self::Missing => Some(Verdict::Unreachable),
            Self::Unproven { .. } => None,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Untrusted(_) => "untrusted",
            Self::Orphan => "orphan",
            Self::Missing => "missing",
            Self::Unproven { .. } => "unproven",
        }
    }
}

impl Serialize for Fault {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fault = serializer.serialize_struct("Fault", 2)?;
        fault.serialize_field("kind", self.kind())?;
        fault.serialize_field("detail", &chain(self))?;
        fault.end()
    }
}

/// Since when a name means what it means.
#[derive(Debug, Clone, PartialEq)]
pub struct Introduction {
    /// What it means: the digest, if there is one that we know.
    pub digest: Option<Digest>,
    /// The first version in which it means that, without a gap up to now.
    pub version: u64,
    /// When that version was signed.
    pub at: Option<DateTime<Utc>>,
    /// Who signed that version.
    pub signers: Vec<NamedKey>,
}

/// What a name meant earlier.
#[derive(Debug, Clone, PartialEq)]
pub struct Earlier {
    /// The target name.
    pub name: String,
    /// What it stood for.
    pub target: Target,
    /// The first version that listed it so.
    pub first: u64,
    /// The last version that did, among those that verified.
    pub last: u64,
}

impl History {
    /// The role.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Every version, oldest first, the faulty ones among them.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The versions of which nothing is believed. What the other questions answer leaves them out.
    pub fn faults(&self) -> impl Iterator<Item = (u64, &Fault)> {
        self.entries.iter().filter_map(|entry| Some((entry.version, entry.fault.as_ref()?)))
    }

    /// The keys that may sign the role now; none if nobody delegates to it any more.
    pub fn present_keys(&self) -> &BTreeSet<KeyId> {
        &self.present
    }

    /// For each name in the newest version that verified: since when it has its digest, and who signed that version.
    ///
    /// Where a version is faulty, a name that it may have introduced counts as introduced by the next one.
    pub fn introduced(&self) -> BTreeMap<String, Introduction> {
        let (held, _) = self.replayed();
        let introduction = |held: Held<'_>| Introduction {
            digest: held.target.digest(),
            version: held.since.version,
            at: held.since.at,
            signers: held.since.signers.clone(),
        };
        held.into_iter().map(|(name, held)| (name.to_owned(), introduction(held))).collect()
    }

    /// For each role that the newest version that verified delegates to: the first version that does so to these keys, with
    /// this threshold and scope, without a gap up to now. Faulty versions count as in [`History::introduced`].
    pub fn delegated_since(&self) -> BTreeMap<String, u64> {
        let mut since = BTreeMap::new();
        for entry in &self.entries {
            for change in &entry.changes {
                match change {
                    Change::Delegated { role, .. }
                    | Change::Keys { role, .. }
                    | Change::Threshold { role, .. }
                    | Change::Scope { role, .. } => {
                        since.insert(role.clone(), entry.version);
                    }
                    Change::Undelegated { role } => {
                        since.remove(role);
                    }
                    _ => {}
                }
            }
        }
        since
    }

    /// The names in the newest version for which `key` alone stands: of all verified versions from the one that gave the
    /// name its present digest to the newest, `key` signed at least one, and none carries a valid signature of another
    /// key that may sign the role now.
    ///
    /// So carrying an entry forward counts as vouching for it, if another present key signed the version that does; keys
    /// that were taken from the role meanwhile do not count, whatever they signed. Where a version is faulty, it vouches
    /// for nothing: that can only make the list longer.
    pub fn vouched_only_by(&self, key: &KeyId) -> Vec<String> {
        let signed_by = |entry: &Entry, wanted: &dyn Fn(&KeyId) -> bool| {
            entry.signers.iter().any(|signer| wanted(&signer.keyid))
        };
        let last = |wanted: &dyn Fn(&KeyId) -> bool| {
            self.entries.iter().rev().find(|entry| signed_by(entry, wanted)).map_or(0, |entry| entry.version)
        };
        let own = last(&|signer| signer == key);
        let others = last(&|signer| signer != key && self.present.contains(signer));
        let (held, _) = self.replayed();
        let alone = |held: &Held<'_>| own >= held.since.version && others < held.since.version;
        held.into_iter().filter(|(_, held)| alone(held)).map(|(name, _)| name.to_owned()).collect()
    }

    /// What `name` meant before, the newest first: without what the newest version lists for it.
    pub fn last_content(&self, name: &str) -> Vec<Earlier> {
        let (_, mut past) = self.replayed();
        past.retain(|earlier| earlier.name == name);
        past.reverse();
        past
    }

    /// The names that stood for `digest` and do not any more, as the last version listed them that had any of them.
    pub fn last_names(&self, digest: Digest) -> Vec<Earlier> {
        let (_, mut past) = self.replayed();
        past.retain(|earlier| earlier.target.digest() == Some(digest));
        let newest = past.iter().map(|earlier| earlier.last).max();
        past.retain(|earlier| Some(earlier.last) == newest);
        past
    }

    /// What the newest verified version lists, and what earlier ones listed, in the order it ended.
    fn replayed(&self) -> (BTreeMap<&str, Held<'_>>, Vec<Earlier>) {
        let mut held: BTreeMap<&str, Held<'_>> = BTreeMap::new();
        let mut past = Vec::new();
        let mut last = 0;
        for entry in self.entries.iter().filter(|entry| entry.fault.is_none()) {
            for change in &entry.changes {
                let (name, now) = match change {
                    Change::Added { name, target } | Change::Changed { name, target, .. } => {
                        (name, Some(target))
                    }
                    Change::Removed { name, .. } => (name, None),
                    _ => continue,
                };
                let before = held.remove(name.as_str());
                let same = |before: &Held<'_>| now.is_some_and(|now| before.target.digest() == now.digest());
                let since = match before {
                    // Another `custom` beside the same digest introduces nothing.
                    Some(before) if same(&before) => before.since,
                    Some(Held { target, since }) => {
                        past.push(Earlier {
                            name: name.clone(),
                            target: target.clone(),
                            first: since.version,
                            last,
                        });
                        entry
                    }
                    None => entry,
                };
                if let Some(target) = now {
                    held.insert(name, Held { target, since });
                }
            }
            last = entry.version;
        }
        (held, past)
    }
}

/// What a name stands for, and the version that it stands for it since.
struct Held<'a> {
    target: &'a Target,
    since: &'a Entry,
}

/// The key with its name, if it has one in `names`.
pub(super) fn named(keyid: &KeyId, names: &BTreeMap<KeyId, String>) -> NamedKey {
    NamedKey { keyid: keyid.clone(), name: names.get(keyid).cloned() }
}

impl Entry {
    fn faulty(role: &str, version: u64, fault: Fault) -> Self {
        Self {
            role: role.to_owned(),
            version,
            at: None,
            expires: None,
            signers: Vec::new(),
            changes: Vec::new(),
            fault: Some(fault),
        }
    }
}
