//! Whose word a document is: its signatures, its length and hashes, and the trust repository that it is of.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    super::{
        Document, Error, MetaFile, Root, Targets, Timestamp, Verbatim, Verified, distinct_signers, limit,
        metadata::{RoleType, check_content, cut},
        search::delegation_keys,
        verify::verify,
    },
    Mark,
};
use crate::oci::Digest;

/// 5.6.3: signatures, by the keys of whoever delegates: the root if `parent` is none.
pub(super) fn signed_as_delegated(
    document: Arc<Document<Targets>>,
    root: &Root,
    parent: Option<&Targets>,
    (role, delegator): (&str, &str),
) -> Result<Verified<Targets>, Error> {
    let Some(parent) = parent else { return verify_top(document, root, role) };
    let delegations = parent.delegations.as_ref().ok_or_else(|| not_delegated(role, delegator))?;
    let keys = delegation_keys(delegations, role).ok_or_else(|| not_delegated(role, delegator))?;
    verify(document, role, &delegations.keys, &keys.keyids, keys.threshold)
}

pub(super) fn not_delegated(role: &str, delegator: &str) -> Error {
    Error::NotDelegated { role: role.to_owned(), delegator: delegator.to_owned() }
}

/// A targets role that was verified when it was stored, if it is of the trust repository `trust`; of whatever version,
/// signed by whomever, and expired or not.
pub(in super::super) fn held_targets(
    trust: Option<&str>,
    role: &str,
    bytes: &[u8],
) -> Result<Arc<Document<Targets>>, Error> {
    let document = parse::<Targets>(role, bytes)?;
    check_identity(role, &document, trust)?;
    Ok(Arc::new(document))
}

pub(super) fn parse<T: RoleType>(role: &str, bytes: &[u8]) -> Result<Document<T>, Error> {
    check_limit(role, bytes)?;
    Document::parse(role, bytes)
}

pub(super) fn check_limit(role: &str, bytes: &[u8]) -> Result<(), Error> {
    let limit = limit::of(role);
    if bytes.len() as u64 > limit { Err(Error::TooLong { role: role.to_owned(), limit }) } else { Ok(()) }
}

/// The cached timestamp, if it is the one remembered; anything else counts as lost.
pub(super) fn held_timestamp(bytes: Option<&[u8]>, mark: Option<Mark>) -> Option<Arc<Document<Timestamp>>> {
    let (bytes, mark) = (bytes?, mark?);
    if mark.digest != Some(Digest::of(bytes)) {
        return None;
    }
    parse("timestamp", bytes).ok().map(Arc::new)
}

/// True if the keys that `root` gives `role` do not vouch for `document`.
pub(super) fn lapsed<T>(document: &Document<T>, root: &Root, role: &str) -> bool {
    let keys = &root.roles[role];
    (distinct_signers(document, &root.keys, &keys.keyids).len() as u64) < keys.threshold
}

/// True if what only the keys of `before` signed for `role` cannot meet the threshold of `after`.
pub(super) fn replaced(before: &Root, after: &Root, role: &str) -> bool {
    let keys = |root: &Root| -> BTreeSet<_> {
        let ids = root.roles[role].keyids.iter();
        ids.filter_map(|id| root.keys.get(id)?.public().ok()).collect()
    };
    (keys(before).intersection(&keys(after)).count() as u64) < after.roles[role].threshold
}

pub(super) fn verify_top<T>(
    document: impl Into<Arc<Document<T>>>,
    root: &Root,
    role: &str,
) -> Result<Verified<T>, Error> {
    let keys = root.roles.get(role).expect("Root::check requires the four top-level roles");
    verify(document, role, &root.keys, &keys.keyids, keys.threshold)
}

pub(super) fn trust_id<T: RoleType>(document: &Document<T>) -> Option<&str> {
    document.signed.common().identity.as_ref().map(|identity| identity.trust.as_str())
}

/// Identity (docs/oci-mapping.md, "x-plimsoll"): once a root carries a trust id, every document must carry the same, and
/// none may belong to a view that was not asked for.
pub(super) fn check_identity<T: RoleType>(
    role: &str,
    document: &Document<T>,
    expected: Option<&str>,
) -> Result<(), Error> {
    if let Some(view) = document.signed.common().identity.as_ref().and_then(|identity| identity.view.as_ref())
    {
        return Err(Error::View { role: role.to_owned(), view: cut(view) });
    }
    let found = trust_id(document);
    match expected {
        Some(expected) if found != Some(expected) => Err(Error::Identity {
            role: role.to_owned(),
            expected: expected.to_owned(),
            found: found.unwrap_or("none").to_owned(),
        }),
        _ => Ok(()),
    }
}

impl MetaFile {
    /// True if `bytes` have the length and the hashes that this lists, as far as it lists them.
    pub fn fits(&self, bytes: &[u8]) -> bool {
        check_meta("", "", self, bytes).is_ok()
    }
}

/// Length and every known hash of META must hold; if hashes are listed, one must be known.
pub(super) fn check_meta(
    role: &str,
    referrer: &'static str,
    meta: &MetaFile,
    bytes: &[u8],
) -> Result<(), Error> {
    check_content(role, referrer, meta.length, meta.hashes.as_ref(), bytes)
}

/// [`check_meta`] for bytes whose sha256 may be known already.
pub(super) fn check_verbatim(
    role: &str,
    referrer: &'static str,
    meta: &MetaFile,
    bytes: &Verbatim,
) -> Result<(), Error> {
    // Another algorithm beside it would have to be compared with the bytes themselves.
    let only = meta.hashes.as_ref().is_some_and(|hashes| hashes.len() == 1);
    if only && meta.digest() == Some(bytes.digest()) && meta.length.is_none_or(|l| l == bytes.len() as u64) {
        return Ok(());
    }
    check_meta(role, referrer, meta, bytes)
}
