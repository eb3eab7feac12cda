//! Building documents. Pure: time, ids and signers are arguments.

mod delegations;
mod names;
mod root;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core::{
    oci::{Digest, MAX_PLATFORMS},
    policy::Scope,
    tuf::{
        Identity, KeyId, MAX_DEPTH, Root, Signature, Targets, assemble, json,
        metadata::{Common, RoleType},
    },
};

use crate::keys::{SignError, Signer};

pub use delegations::{delegate, find_key, give_keys, revoke_paths, undelegate};
pub use names::{
    MAX_INDEXES, make_immutable, platforms_to_revoke, reinstate, restore, revoke, unvouch, vouch,
    vouch_platforms,
};
pub use root::{Granted, Holders, RoleEdit, RootEdit, edit_root, first_root, held_root, is_only_signer};

/// The longest life of root and targets documents, also what we give them.
pub const MAX_ROOT_LIFE: TimeDelta = TimeDelta::days(365);
/// The longest life of delegated roles, also what we give them.
pub const MAX_DELEGATED_LIFE: TimeDelta = TimeDelta::days(90);
/// The longest life of snapshot and timestamp.
pub const MAX_ONLINE_LIFE: TimeDelta = TimeDelta::days(7);
/// Role names are this long at most, so that each is a tag.
pub const MAX_ROLE_NAME: usize = 128;

/// The longest life that a document of `role` may have.
pub fn max_life(role: &str) -> TimeDelta {
    match role {
        "root" | "targets" => MAX_ROOT_LIFE,
        "timestamp" | "snapshot" => MAX_ONLINE_LIFE,
        _ => MAX_DELEGATED_LIFE,
    }
}

/// Why a change cannot be made. All of it is misuse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorError {
    /// A label that could not be part of a role name.
    #[error(
        "`{label}` cannot label a role: use letters, digits, `_` and single `-`, and not latest, inbox or mirrors"
    )]
    Label {
        /// The label.
        label: String,
    },
    /// The role name would be too long.
    #[error("the role name `{name}` is longer than {MAX_ROLE_NAME} characters")]
    NameTooLong {
        /// The name.
        name: String,
    },
    /// The name is taken, or was.
    #[error("`{name}` already is the name of a role; choose another --label")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// A child's scope is not inside its parent's.
    #[error("{scope} is not inside what {parent} may speak about ({allowed})")]
    OutOfScope {
        /// The scope or name.
        scope: String,
        /// The role that may not speak about it.
        parent: String,
        /// What it may speak about.
        allowed: String,
    },
    /// Fewer keys than the threshold, or a threshold of 0.
    #[error("threshold {threshold} cannot be met by {keys} distinct keys")]
    Threshold {
        /// The threshold.
        threshold: u64,
        /// How many distinct keys there are.
        keys: usize,
    },
    /// Two keys would have one name.
    #[error("two keys would be called `{name}` ({keyids}); name one file otherwise")]
    NameOfTwo {
        /// The name.
        name: String,
        /// The beginnings of their ids.
        keyids: String,
    },
    /// The daemon's key would be an owner's, too.
    #[error("key {} is one of the daemon's online keys; {role} must be signed by keys that are offline", .keyid.short())]
    OnlineOwner {
        /// The role.
        role: String,
        /// The key.
        keyid: KeyId,
    },
    /// An edit that changes nothing.
    #[error("this changes nothing")]
    Unchanged,
    /// A role so deep that clients would not ask it.
    #[error("{parent} is {MAX_DEPTH} levels below targets, and clients go no deeper: it cannot delegate")]
    TooDeep {
        /// The role that would delegate.
        parent: String,
    },
    /// The role has the key already.
    #[error("key {} is one of {role}'s already", .keyid.short())]
    KeyTaken {
        /// The role.
        role: String,
        /// The key.
        keyid: KeyId,
    },
    /// No key of the role is meant, or more than one.
    #[error("`{wanted}` is {} of the keys of {role}: {keys}", if *.several { "more than one" } else { "none" })]
    NoSuchKey {
        /// What was asked for: an id, the start of one, or a name.
        wanted: String,
        /// True if it fits several.
        several: bool,
        /// The role.
        role: String,
        /// The keys that it has.
        keys: String,
    },
    /// Another role has exactly this scope. A second one would take its place, and leave its revocations behind.
    #[error("{scope} is delegated to {role} already")]
    ScopeTaken {
        /// The scope.
        scope: String,
        /// The role that has it.
        role: String,
    },
    /// A repository that may hold trust metadata.
    #[error("{repository}: names that end in /trust are reserved for trust metadata")]
    Reserved {
        /// The repository.
        repository: String,
    },
    /// A digest that was revoked is to be signed again.
    #[error("{digest} was revoked ({reason}) and cannot be signed again")]
    Revoked {
        /// The digest.
        digest: Digest,
        /// The reason given then.
        reason: String,
    },
    /// A tag that was promised to mean its digest for good is to mean another, or nothing.
    #[error("{name} was signed as immutable: it means {digest} until that is revoked")]
    Immutable {
        /// The tag's target name.
        name: String,
        /// What it means.
        digest: Digest,
    },
    /// A digest is to be listed no more, and something still means it.
    #[error("{name} is still meant by {by}")]
    StillMeant {
        /// The digest's target name.
        name: String,
        /// The tags, and the indexes it belongs to.
        by: String,
    },
    /// An index of more platforms than are signed with one.
    #[error("{index} is an index of more than {MAX_PLATFORMS} manifests")]
    Platforms {
        /// The index.
        index: Digest,
    },
}

/// Signs `signed` with each signer and returns the document's bytes.
///
/// # Errors
/// [`SignError`].
///
/// # Panics
/// Never: documents that we author hold no floats.
pub fn sign<T: RoleType>(signed: &T, signers: &[&dyn Signer]) -> Result<Vec<u8>, SignError> {
    let canonical = json::canonical_of(signed).expect("documents that we author have a canonical form");
    let signatures = signers
        .iter()
        .map(|signer| {
            let sig = data_encoding::HEXLOWER.encode(&signer.sign(&canonical)?);
            Ok(Signature { keyid: signer.key_id(), sig })
        })
        .collect::<Result<Vec<_>, SignError>>()?;
    Ok(assemble(signed, &signatures))
}

/// An empty targets document of `role`, version 1.
pub fn empty_targets(role: &str, trust: &str, now: DateTime<Utc>) -> Targets {
    Targets {
        common: Common::new("targets", 1, now + max_life(role), Identity::new(trust, now)),
        targets: BTreeMap::new(),
        delegations: None,
        extra: BTreeMap::new(),
    }
}

/// Makes `document` the next version of itself: version + 1, signed at `now`, with a full life ahead.
pub fn next_version<T: RoleType>(role: &str, document: &mut T, now: DateTime<Utc>) {
    let common = document.common_mut();
    common.version += 1;
    common.expires = now + max_life(role);
    if let Some(identity) = &mut common.identity {
        identity.at = now;
    }
}

/// What a document calls the keys that stand in it.
pub fn key_names(common: &Common) -> BTreeMap<KeyId, String> {
    common.identity.as_ref().map(|identity| identity.names.clone()).unwrap_or_default()
}

/// Writes down what people call keys (docs/oci-mapping.md, "x-plimsoll"), and forgets the names of keys not in `keep`.
///
/// # Errors
/// [`AuthorError::NameOfTwo`] if another key has one of `names`; `common` is then not to be used.
pub fn name_keys<'a>(
    common: &mut Common,
    keep: impl IntoIterator<Item = &'a KeyId>,
    names: &[(KeyId, String)],
) -> Result<(), AuthorError> {
    let Some(identity) = &mut common.identity else { return Ok(()) };
    let keep: BTreeSet<&KeyId> = keep.into_iter().collect();
    identity.names.extend(names.iter().cloned());
    identity.names.retain(|id, _| keep.contains(id));
    for (id, name) in names.iter().filter(|(id, _)| keep.contains(id)) {
        if let Some((other, _)) = identity.names.iter().find(|(other, named)| *named == name && *other != id)
        {
            return Err(AuthorError::NameOfTwo {
                name: name.clone(),
                keyids: [id, other].map(KeyId::short).join(", "),
            });
        }
    }
    Ok(())
}

/// The name of the role that `parent` delegates to under `label`.
///
/// # Errors
/// [`AuthorError::Label`], [`AuthorError::NameTooLong`].
pub fn role_name(parent: &str, label: &str) -> Result<String, AuthorError> {
    let refuse = || AuthorError::Label { label: label.chars().take(80).collect() };
    let fits = !label.is_empty()
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && !label.contains("--")
        && !label.starts_with(['-'])
        && !label.ends_with('-')
        && !label.starts_with("x-")
        && !matches!(label, "root" | "timestamp" | "snapshot" | "targets" | "mirrors" | "latest" | "inbox");
    if !fits {
        return Err(refuse());
    }
    let name = format!("{parent}--{label}");
    if name.len() > MAX_ROLE_NAME { Err(AuthorError::NameTooLong { name }) } else { Ok(name) }
}

/// What a root's scopes allow its `targets` role, as path patterns. A root without scopes allows nothing of ours.
pub fn root_patterns(root: &Root) -> Vec<String> {
    let scopes = root.common.identity.iter().flat_map(|identity| &identity.scope);
    scopes.filter_map(|scope| scope.parse::<Scope>().ok()).flat_map(|scope| scope.patterns()).collect()
}

/// Where trust metadata may lie, nothing else is signed (docs/oci-mapping.md, "Names").
fn not_reserved(repository: &str) -> Result<(), AuthorError> {
    if repository == "trust" || repository.ends_with("/trust") {
        return Err(AuthorError::Reserved { repository: repository.to_owned() });
    }
    Ok(())
}

fn out_of_scope(scope: &impl ToString, parent: &str, allowed: &[String]) -> AuthorError {
    AuthorError::OutOfScope {
        scope: scope.to_string(),
        parent: parent.to_owned(),
        allowed: Scope::spell(allowed),
    }
}
