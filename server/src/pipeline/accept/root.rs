//! What a root must be.

use plimsoll::{
    keys::Signer,
    publish::api::{Refusal, RefusalReason as Why},
};
use plimsoll_core::{
    policy::Scope,
    tuf::{KeyId, Root, Targets, distinct_signers},
};

use super::{
    MAX_PATTERNS, Present, Set, check_reachable,
    delegations::{check_key_names, orphaned},
    parsed::RoleDocument,
    refused, trust_id,
};
use crate::keys::OnlineRole;

impl<P: Present> Set<'_, P> {
    /// Signed by its own threshold and that of the root before it, of one trust id, with keys that we can sign under.
    pub(super) fn root(&mut self) -> Result<(), Refusal> {
        const ROLE: &str = "root";
        let document = self.documents[ROLE].read::<Root>(ROLE)?;
        let new = &document.signed;
        let old = self.signatures.root(&document)?;
        if old.as_ref().is_some_and(|old| trust_id(old) != trust_id(&document)) {
            let message = "root: another trust id than the root before it";
            return Err(refused(Why::TrustId, message.to_owned()));
        }
        if !new.consistent_snapshot {
            return Err(refused(Why::Form, "root: consistent_snapshot must be true".to_owned()));
        }
        let id = trust_id(&document).unwrap_or_default();
        if id.len() != 32 || !id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            let message = "root: x-plimsoll.trust must be 32 lower-case hex digits";
            return Err(refused(Why::TrustId, message.to_owned()));
        }
        let scopes =
            new.common.identity.as_ref().map(|identity| identity.scope.as_slice()).unwrap_or_default();
        if scopes.is_empty() || scopes.iter().any(|scope| scope.parse::<Scope>().is_err()) {
            let message = "root: x-plimsoll.scope must list one scope or more";
            return Err(refused(Why::Form, message.to_owned()));
        }
        if scopes.len() > MAX_PATTERNS {
            return Err(refused(Why::TooMany, format!("root: more than {MAX_PATTERNS} scopes")));
        }
        self.check_common(ROLE, &document)?;
        self.check_keys(ROLE, &new.keys)?;
        check_key_names(ROLE, new.common.identity.as_ref(), &new.keys)?;
        for (role, keys) in &new.roles {
            check_reachable(role, &new.keys, &keys.keyids, keys.threshold)?;
        }
        // A root that would leave us unable to sign is refused, whoever signed it.
        for role in OnlineRole::ALL {
            let usable = self.rules.keys.usable(role, old.as_ref().map(|old| &old.signed));
            let ids: Vec<KeyId> = usable.iter().map(|key| key.key_id()).collect();
            if !role.named_by(new).is_some_and(|named| ids.contains(named)) {
                let keys: Vec<&str> = ids.iter().map(|id| id.0.as_str()).collect();
                let (role, keys) = (role.name(), keys.join(" or its next one "));
                let message = format!(
                    "root: {role} must be signed by this daemon's key {keys} alone, with threshold 1"
                );
                return Err(refused(Why::OnlineKeys, message));
            }
        }
        // Taking the keys of `targets` away takes effect at once, whatever it breaks; the owner hears of it.
        if let Some(targets) = self.signatures.newest::<Targets>("targets")? {
            let keys = &new.roles["targets"];
            let signers = distinct_signers(&targets, &new.keys, &keys.keyids).len() as u64;
            if signers < keys.threshold {
                self.accepted.reports.push(orphaned(
                    "targets",
                    targets.version(),
                    signers,
                    keys.threshold,
                    ROLE,
                ));
            }
        }
        self.take(ROLE, RoleDocument::Root(document));
        Ok(())
    }
}
