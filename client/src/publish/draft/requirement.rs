//! Who must sign a document, and who did.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_core::tuf::{Document, Key, KeyId, RoleType, Root, Targets, distinct_signers, verify};
use serde::Serialize;

use super::{Draft, DraftError};

/// Whose signatures one document needs. A root needs two: of the root before it and of itself (5.3.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Requirement {
    /// The role that is signed.
    pub role: String,
    /// Its version in the draft.
    pub version: u64,
    /// Who asks: `root version 3`, `targets version 7`.
    pub by: String,
    /// How many of the keys must sign.
    pub threshold: u64,
    /// How many different keys of them did.
    pub signed: u64,
    /// The keys that may.
    pub keys: Vec<Holder>,
}

/// A key that may sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Its id.
    pub keyid: KeyId,
    /// What people call it, if the document that gives it the role says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// True if it signed.
    pub signed: bool,
}

impl Requirement {
    /// How many signatures are still missing.
    pub fn missing(&self) -> u64 {
        self.threshold.saturating_sub(self.signed)
    }
}

impl Draft {
    /// Whose signatures are needed, document by document, and who signed already.
    pub fn requirements(&self) -> Vec<Requirement> {
        let mut all = Vec::new();
        if let Some(next) = &self.root {
            if let Some(old) = self.roots.last() {
                all.push(self.asked_by_root("root", next, old));
            }
            all.push(self.asked_by_root("root", next, next));
        }
        for (role, document) in &self.targets {
            let asked = self.keys_of(role).map(|asked| asked.requirement(role, document));
            all.extend(asked);
        }
        all
    }

    /// True if the present document of `role`, and of every role above it, is signed by the keys that may sign it now;
    /// false if it is orphaned, or if there is none.
    pub fn is_vouched(&self, role: &str) -> bool {
        let signed = |role: &str| {
            let (Some(document), Some(asked)) = (self.base.get(role), self.present_keys_of(role)) else {
                return false;
            };
            verify(document.clone(), role, asked.keys, asked.keyids, asked.threshold).is_ok()
        };
        // Keys that an unsigned parent names are nobody's.
        let above = role.match_indices("--").map(|(at, _)| &role[..at]);
        above.chain([role]).all(signed)
    }

    fn asked_by_root(&self, role: &str, document: &Document<Root>, by: &Document<Root>) -> Requirement {
        let label = format!("root version {}", by.version());
        AskedBy::root(label, &by.signed, role, self.names()).requirement(role, document)
    }

    /// Who must sign `role` once the draft takes effect.
    pub(super) fn keys_of(&self, role: &str) -> Option<AskedBy<'_>> {
        if role == "targets" {
            let root = self.root.as_ref().or(self.roots.last())?;
            return Some(AskedBy::root(
                format!("root version {}", root.version()),
                &root.signed,
                role,
                self.names(),
            ));
        }
        let (parent, _) = role.rsplit_once("--")?;
        AskedBy::parent(parent, self.targets.get(parent).or_else(|| self.base.get(parent))?, role)
    }

    /// Who must sign `role` now.
    fn present_keys_of(&self, role: &str) -> Option<AskedBy<'_>> {
        if role == "targets" {
            let root = self.roots.last()?;
            return Some(AskedBy::root(
                format!("root version {}", root.version()),
                &root.signed,
                role,
                self.names(),
            ));
        }
        let (parent, _) = role.rsplit_once("--")?;
        AskedBy::parent(parent, self.base.get(parent)?, role)
    }

    /// What the roots call keys. A new root does not rename the keys of the present one: whoever signs it knows those.
    pub(crate) fn names(&self) -> BTreeMap<KeyId, String> {
        let roots = self.root.iter().chain(self.roots.last());
        let identities = roots.filter_map(|root| root.signed.common.identity.as_ref());
        identities.flat_map(|identity| identity.names.clone()).collect()
    }

    /// The roles whose documents ask for the key and have no signature of it.
    pub(super) fn roles_asking(&self, id: &KeyId) -> Result<Vec<String>, DraftError> {
        let requirements = self.requirements();
        let asks = |requirement: &&Requirement| requirement.keys.iter().any(|holder| holder.keyid == *id);
        let asked: BTreeSet<&str> =
            requirements.iter().filter(asks).map(|requirement| requirement.role.as_str()).collect();
        if asked.is_empty() {
            return Err(DraftError::NotAsked(id.clone()));
        }
        let signed = |role: &str| self.signatures(role).iter().any(|signature| signature.keyid == *id);
        let open: Vec<String> = asked.into_iter().filter(|role| !signed(role)).map(str::to_owned).collect();
        if open.is_empty() { Err(DraftError::AlreadySigned(id.clone())) } else { Ok(open) }
    }
}

/// Keys that are asked for, by whom.
pub(super) struct AskedBy<'a> {
    by: String,
    pub(super) keys: &'a BTreeMap<KeyId, Key>,
    pub(super) keyids: &'a [KeyId],
    pub(super) threshold: u64,
    names: BTreeMap<KeyId, String>,
}

impl<'a> AskedBy<'a> {
    pub(super) fn root(by: String, root: &'a Root, role: &str, names: BTreeMap<KeyId, String>) -> Self {
        let keys = &root.roles[role];
        Self { by, keys: &root.keys, keyids: &keys.keyids, threshold: keys.threshold, names }
    }

    pub(super) fn parent(parent: &str, document: &'a Document<Targets>, role: &str) -> Option<Self> {
        let delegated = document.signed.delegated(role)?;
        let identity = document.signed.common.identity.as_ref();
        Some(Self {
            by: format!("{parent} version {}", document.version()),
            keys: &document.signed.delegations.as_ref()?.keys,
            keyids: &delegated.keys.keyids,
            threshold: delegated.keys.threshold,
            names: identity.map(|identity| identity.names.clone()).unwrap_or_default(),
        })
    }

    pub(super) fn requirement<T: RoleType>(self, role: &str, document: &Document<T>) -> Requirement {
        let holder = |keyid: &KeyId| Holder {
            keyid: keyid.clone(),
            name: self.names.get(keyid).cloned(),
            signed: !distinct_signers(document, self.keys, std::slice::from_ref(keyid)).is_empty(),
        };
        Requirement {
            role: role.to_owned(),
            version: document.version(),
            threshold: self.threshold,
            // Counted as clients count: one key under two ids is one.
            signed: distinct_signers(document, self.keys, self.keyids).len() as u64,
            keys: self.keyids.iter().map(holder).collect(),
            by: self.by,
        }
    }
}
