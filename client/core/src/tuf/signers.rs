//! Who signed what is trusted, for pins and for showing.

use std::collections::{BTreeMap, BTreeSet};

use super::{Document, Key, KeyId, Trusted, distinct_signers, search::delegation_keys};

/// Whose signatures a verified role carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signers {
    /// The ids of the keys that validly signed it, among those that whoever delegates lists: each the sha256 of the key's
    /// material as we author it, not what the metadata calls it, which may be any text (TAP 12).
    pub keys: BTreeSet<KeyId>,
    /// How many must have signed it.
    pub threshold: u64,
}

impl Trusted {
    /// Who signed `role`; none for a role that is not verified here. Costs as much as [`distinct_signers`].
    pub fn signers(&self, role: &str) -> Option<Signers> {
        let root = &self.root().signed;
        let top = root.roles.get(role);
        match role {
            "root" => return top.map(|top| signers(self.root(), &root.keys, &top.keyids, top.threshold)),
            "timestamp" => {
                return top
                    .zip(self.timestamp())
                    .map(|(top, timestamp)| signers(timestamp, &root.keys, &top.keyids, top.threshold));
            }
            "snapshot" => {
                return top
                    .zip(self.snapshot())
                    .map(|(top, snapshot)| signers(snapshot, &root.keys, &top.keyids, top.threshold));
            }
            _ => {}
        }
        let (delegator, document) = self.role(role)?;
        if delegator == "root" {
            return top.map(|top| signers(document, &root.keys, &top.keyids, top.threshold));
        }
        let delegations = self.role(delegator)?.1.signed.delegations.as_ref()?;
        let given = delegation_keys(delegations, role)?;
        Some(signers(document, &delegations.keys, &given.keyids, given.threshold))
    }
}

fn signers<T>(
    document: &Document<T>,
    keys: &BTreeMap<KeyId, Key>,
    keyids: &[KeyId],
    threshold: u64,
) -> Signers {
    let signed = distinct_signers(document, keys, keyids);
    Signers { keys: signed.iter().map(|public| Key::new(public).id()).collect(), threshold }
}
