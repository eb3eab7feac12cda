//! Whose word a document is: its version, then its signatures, under the roles above it.
//!
//! This part of `accept` needs nothing but documents that seldom change, so it is done before a submission may wait for the
//! committer: who holds no key never gets into its queue.

use std::{collections::BTreeMap, sync::Arc};

use plimsoll::publish::{
    api::{MAX_DOCUMENTS, Refusal, RefusalCode, RefusalReason as Why},
    author,
};
use plimsoll_core::tuf::{self, DelegatedRole, Document, KeyId, MAX_DEPTH, Root, Targets, verify};

use super::{
    Present, in_order, malformed, parse,
    parsed::{Kept, Parsed, Sent},
    refused, unknown, untrusted,
};

/// Says whether every document of a set is the next version of its role, signed as what is published now, or what is in the
/// set itself, asks for. Nothing else is looked at.
///
/// # Errors
/// [`Refusal`], as `accept` would give it.
pub(in super::super) fn vouch(
    present: &impl Present,
    documents: &BTreeMap<String, Sent>,
    parsed: &Parsed,
) -> Result<(), Refusal> {
    let signatures = Signatures::new(present, documents, parsed)?;
    for role in in_order(documents) {
        signatures.check_version(role)?;
        if role == "root" {
            signatures.root(&documents[role].read(role)?)?;
        } else {
            signatures.chain(role, &documents[role].read(role)?)?;
        }
    }
    Ok(())
}

/// A set of documents over what is published.
pub(super) struct Signatures<'a, P> {
    present: &'a P,
    documents: &'a BTreeMap<String, Sent>,
    parsed: &'a Parsed,
}

/// What bounds a role.
pub(super) struct Chain {
    /// The patterns of each delegation on the way; a name must match in each.
    pub(super) bounds: Vec<Vec<String>>,
    /// What the roles above revoked.
    pub(super) revoked: Vec<tuf::Revocation>,
}

pub(super) struct RoleKeys<'a> {
    pub(super) keyids: &'a [KeyId],
    pub(super) threshold: u64,
}

impl<'a, P: Present> Signatures<'a, P> {
    pub(super) fn new(
        present: &'a P,
        documents: &'a BTreeMap<String, Sent>,
        parsed: &'a Parsed,
    ) -> Result<Self, Refusal> {
        if documents.is_empty() || documents.len() > MAX_DOCUMENTS {
            return Err(malformed(format!("a submission has 1 to {MAX_DOCUMENTS} documents")));
        }
        if let Some(role) = documents.keys().find(|role| role.len() > author::MAX_ROLE_NAME) {
            return Err(unknown(role));
        }
        Ok(Self { present, documents, parsed })
    }

    /// The document of `role` as of the snapshot that this set makes.
    pub(super) fn newest<T: Kept>(&self, role: &str) -> Result<Option<Arc<Document<T>>>, Refusal> {
        if let Some(sent) = self.documents.get(role) {
            return sent.read(role).map(Some);
        }
        self.published(role)
    }

    /// The document of `role` that is published.
    pub(super) fn published<T: Kept>(&self, role: &str) -> Result<Option<Arc<Document<T>>>, Refusal> {
        let Some(digest) = self.present.digest(role) else { return Ok(None) };
        if let Some(known) = self.parsed.find(&digest) {
            return Ok(Some(known));
        }
        let Some(bytes) = self.present.document(role)? else { return Ok(None) };
        let document = Arc::new(parse(role, &bytes)?);
        self.parsed.keep(&document);
        Ok(Some(document))
    }

    /// The next version exactly: the same or an older one lost a race, one further ahead is refused.
    pub(super) fn check_version(&self, role: &str) -> Result<(), Refusal> {
        if matches!(role, "timestamp" | "snapshot") {
            return Err(refused(Why::WrongVersion, format!("{role} is signed by this daemon alone")));
        }
        // Only the version is read here, so that a loser hears of the conflict before anything else.
        let sent = &self.documents[role];
        let version = if role == "root" {
            sent.read::<Root>(role)?.version()
        } else {
            sent.read::<Targets>(role)?.version()
        };
        let head = self.present.version(role);
        if version <= head {
            let heads =
                self.documents.keys().map(|role| (role.clone(), self.present.version(role))).collect();
            let message = format!(
                "{role} version {version} is not newer than version {head}; apply the change to that"
            );
            return Err(Refusal { heads, ..Refusal::new(RefusalCode::Conflict, message) });
        }
        if version != head + 1 {
            let message = format!("{role} version {version} where version {} must follow", head + 1);
            return Err(refused(Why::WrongVersion, message));
        }
        Ok(())
    }

    /// A root by its own threshold and that of the root before it, which is returned.
    pub(super) fn root(
        &self,
        document: &Arc<Document<Root>>,
    ) -> Result<Option<Arc<Document<Root>>>, Refusal> {
        const ROLE: &str = "root";
        let old = self.published::<Root>(ROLE)?;
        for root in [Some(document), old.as_ref()].into_iter().flatten() {
            let keys = &root.signed.roles[ROLE];
            verify(document.clone(), ROLE, &root.signed.keys, &keys.keyids, keys.threshold)
                .map_err(untrusted)?;
        }
        Ok(old)
    }

    /// Verifies `document` by the keys that its parent gives it, and returns what bounds it: the patterns of every
    /// delegation on its path and the revocations above it.
    pub(super) fn chain(&self, role: &str, document: &Arc<Document<Targets>>) -> Result<Chain, Refusal> {
        let root = self
            .newest::<Root>("root")?
            .ok_or_else(|| refused(Why::NotDelegated, "there is no root yet".to_owned()))?;
        let mut chain = Chain { bounds: vec![author::root_patterns(&root.signed)], revoked: Vec::new() };
        if role == "targets" {
            let keys = &root.signed.roles["targets"];
            verify(document.clone(), role, &root.signed.keys, &keys.keyids, keys.threshold)
                .map_err(untrusted)?;
            return Ok(chain);
        }
        // `targets--a--b` is delegated to by `targets--a`, which is delegated to by `targets`.
        let mut parent = "targets".to_owned();
        let rest = role.strip_prefix("targets--").ok_or_else(|| unknown(role))?;
        let labels: Vec<&str> = rest.split("--").collect();
        if labels.len() > MAX_DEPTH {
            let message = format!("{role}: more than {MAX_DEPTH} levels of delegation");
            return Err(refused(Why::TooMany, message));
        }
        for (depth, label) in labels.iter().enumerate() {
            let name = author::role_name(&parent, label)
                .map_err(|error| refused(Why::NotDelegated, error.to_string()))?;
            let holder = self.newest::<Targets>(&parent)?.ok_or_else(|| unknown(role))?;
            let delegation = holder.signed.delegated(&name).ok_or_else(|| unknown(role))?;
            chain.bounds.push(delegation.paths.clone().unwrap_or_default());
            chain.revoked.extend(holder.signed.revocations().iter().cloned());
            if depth + 1 == labels.len() {
                let keys = &holder.signed.delegations.as_ref().ok_or_else(|| unknown(role))?.keys;
                let RoleKeys { keyids, threshold } = role_keys(delegation);
                verify(document.clone(), role, keys, keyids, threshold).map_err(untrusted)?;
            }
            parent = name;
        }
        Ok(chain)
    }
}

impl Chain {
    /// The first bound that `name` is outside of.
    pub(super) fn outside(&self, name: &str) -> Option<&Vec<String>> {
        self.bounds.iter().find(|bound| !bound.iter().any(|pattern| tuf::matches(pattern, name)))
    }
}

pub(super) fn role_keys(role: &DelegatedRole) -> RoleKeys<'_> {
    RoleKeys { keyids: &role.keys.keyids, threshold: role.keys.threshold }
}
