//! Who must sign a document, and who did.

use std::collections::BTreeMap;

use plimsoll_core::tuf::{Document, Key, KeyId, RoleType, Root, Targets, distinct_signers};
use serde::Serialize;

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
