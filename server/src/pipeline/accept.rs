//! accept: is a set of signed role documents one that we publish? Pure but for reading the present documents.
//!
//! Everything is decided against the parent versions that take effect in the same snapshot. What this step leaves behind
//! if a later one fails: nothing, the caller holds the set in memory.

mod delegations;
mod entries;
mod parsed;
mod revocations;
mod root;
mod signatures;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use plimsoll::publish::{
    api::{Refusal, RefusalCode, RefusalReason as Why},
    author,
};
use plimsoll_core::{
    oci::Digest,
    tuf::{self, Document, Key, KeyId, MAX_VERIFICATIONS, Root, Targets, limit, metadata::RoleType},
};

pub(crate) use self::parsed::Sent;
use self::signatures::{Chain, RoleKeys, Signatures, role_keys};
pub(super) use self::{
    parsed::{Kept, Parsed, RoleDocument},
    signatures::vouch,
};
use crate::{
    keys::Keyring,
    quota::{self, Full, Quota, Usage},
};

/// Clocks of publishers may be ahead of ours by this much.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(5);
/// Reasons beyond this are not for people, bytes.
const MAX_REASON: usize = 1000;
/// Names of keys beyond this, too.
const MAX_KEY_NAME: usize = 64;
/// Patterns in one delegation, and scopes in a root. Names are matched against all of them in the one thread that signs,
/// so without a bound one team's document could keep everybody's timestamp from being signed.
const MAX_PATTERNS: usize = 64;
/// Roles in all. Each costs about 250 bytes in the snapshot that all share (limit: 8 MiB).
const MAX_ROLES: usize = 20_000;

/// What is published now, and how to read it.
pub(super) trait Present {
    /// The newest version of `role`, 0 if there is none.
    fn version(&self, role: &str) -> u64;
    /// The newest document of `role`.
    fn document(&self, role: &str) -> Result<Option<Bytes>, Refusal>;
    /// True if `role` once existed and was removed.
    fn is_retired(&self, role: &str) -> bool;
    /// The sha256 of that.
    fn digest(&self, role: &str) -> Option<Digest>;
    /// Its length in bytes.
    fn length(&self, role: &str) -> Option<u64>;
    /// How many roles there are whose names start with `prefix`.
    fn count(&self, prefix: &str) -> usize;
    /// What the role `subtree` has, with all below it.
    fn usage(&self, subtree: &str) -> Usage;
}

/// What does not come with the submission.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    /// Our keys, which every root must name.
    pub(super) keys: &'a Keyring,
    /// Keys that anybody can have.
    pub(super) refused_keys: &'a BTreeSet<KeyId>,
    /// What each subtree may have.
    pub(super) quota: &'a Quota,
    /// Documents that were read before.
    pub(super) parsed: &'a Parsed,
    pub(super) now: DateTime<Utc>,
}

/// A set that was accepted.
#[derive(Debug, Clone, Default)]
pub(super) struct AcceptedSet {
    /// By role.
    pub(super) documents: Vec<(String, RoleDocument)>,
    /// Role names that are delegated to no more; never to be given to others.
    pub(super) retired: BTreeSet<String>,
    /// Faults that a parent's change causes below it: reported, never a reason to refuse the parent.
    pub(super) reports: Vec<String>,
}

/// Checks a submission.
///
/// # Errors
/// [`Refusal`], with a message for the publisher.
pub(super) fn accept(
    present: &impl Present,
    documents: &BTreeMap<String, Sent>,
    rules: Rules<'_>,
) -> Result<AcceptedSet, Refusal> {
    let signatures = Signatures::new(present, documents, rules.parsed)?;
    let mut set = Set { present, documents, rules, signatures, accepted: AcceptedSet::default() };
    for role in in_order(documents) {
        set.signatures.check_version(role)?;
        if role == "root" { set.root()? } else { set.targets(role)? }
    }
    if !documents.contains_key("targets") && present.version("targets") == 0 {
        let message = "the first submission must hold root and targets version 1";
        return Err(refused(Why::WrongVersion, message.to_owned()));
    }
    set.check_quota()?;
    Ok(set.accepted)
}

/// root, targets, then delegated roles, parents before children.
fn in_order(documents: &BTreeMap<String, Sent>) -> Vec<&str> {
    let mut roles: Vec<&str> = documents.keys().map(String::as_str).collect();
    roles.sort_by_key(|role| match *role {
        "root" => (0, 0, ""),
        "targets" => (1, 0, ""),
        role => (2, role.matches("--").count(), role),
    });
    roles
}

struct Set<'a, P> {
    present: &'a P,
    documents: &'a BTreeMap<String, Sent>,
    rules: Rules<'a>,
    signatures: Signatures<'a, P>,
    accepted: AcceptedSet,
}

impl<P: Present> Set<'_, P> {
    fn targets(&mut self, role: &str) -> Result<(), Refusal> {
        let document = self.documents[role].read::<Targets>(role)?;
        let chain = self.signatures.chain(role, &document)?;
        self.check_common(role, &document)?;
        self.check_room(role)?;
        let before = self.signatures.published::<Targets>(role)?;
        let before = before.as_ref().map(|before| &before.signed);
        entries::check(role, before, &document.signed, &chain)?;
        self.check_delegations(role, &document.signed, &chain)?;
        revocations::check(role, before, &document.signed, &chain, self.rules.now)?;
        self.report_children(role, before, &document.signed)?;
        self.take(role, RoleDocument::Targets(document));
        Ok(())
    }

    fn take(&mut self, role: &str, document: RoleDocument) {
        self.accepted.documents.push((role.to_owned(), document));
    }

    /// What every document must be: ours, of this trust repository, alive, and not for longer than its role may.
    fn check_common<T: RoleType>(&self, role: &str, document: &Document<T>) -> Result<(), Refusal> {
        if document.has_unsigned_members() {
            // They are nobody's word: read past by clients, published by nobody (T50).
            let names = match tuf::json::parse(&document.bytes) {
                Ok(tuf::json::Value::Object(members)) => members,
                _ => Vec::new(),
            };
            let name = names.iter().find(|(name, _)| name != "signed" && name != "signatures");
            let name = name.map_or("", |(name, _)| name.as_ref());
            let message = format!("{role}: unsigned member `{name}` beside `signed` and `signatures`");
            return Err(refused(Why::Form, message));
        }
        let common = document.signed.common();
        let identity = common
            .identity
            .as_ref()
            .ok_or_else(|| refused(Why::TrustId, format!("{role}: no x-plimsoll member")))?;
        if identity.view.is_some() {
            return Err(refused(Why::Form, format!("{role}: views are not published here")));
        }
        if role != "root" {
            let root = self.signatures.newest::<Root>("root")?;
            let expected = root.as_deref().and_then(trust_id).unwrap_or_default();
            if identity.trust != expected {
                let message = format!("{role}: trust id {} instead of {expected}", cut(&identity.trust));
                return Err(refused(Why::TrustId, message));
            }
        }
        let now = self.rules.now;
        if identity.at > now + CLOCK_SKEW {
            let message = format!("{role}: signed at {}, which is ahead of this daemon's clock", identity.at);
            return Err(refused(Why::AheadOfClock, message));
        }
        if common.expires <= now {
            return Err(refused(Why::Expired, format!("{role}: expired at {}", common.expires)));
        }
        let life = author::max_life(role);
        if common.expires > now + life + CLOCK_SKEW {
            let message =
                format!("{role}: expires {}, more than {} days ahead", common.expires, life.num_days());
            return Err(refused(Why::TooLongLived, message));
        }
        Ok(())
    }

    /// A new role must leave room for those of others.
    fn check_room(&self, role: &str) -> Result<(), Refusal> {
        if self.present.version(role) > 0 {
            return Ok(());
        }
        let new = |prefix: &str| {
            let taken = self.accepted.documents.iter();
            taken.filter(|(role, document)| document.version() == 1 && role.starts_with(prefix)).count()
        };
        let room = |prefix: &str, most| self.present.count(prefix) + new(prefix) < most;
        if !room("targets--", MAX_ROLES) {
            let message = format!("{role}: there are {MAX_ROLES} roles; no more fit into a snapshot");
            return Err(refused(Why::TooMany, message));
        }
        Ok(())
    }

    /// What each subtree would have after this set.
    fn check_quota(&self) -> Result<(), Refusal> {
        let subtrees: BTreeSet<&str> =
            self.documents.keys().filter_map(|role| quota::subtree(role)).collect();
        for subtree in subtrees {
            let before = self.present.usage(subtree);
            let mut after = before;
            let documents = self.documents.iter();
            for (role, bytes) in documents.filter(|(role, _)| quota::subtree(role) == Some(subtree)) {
                let old = self.present.length(role);
                after.roles += u64::from(old.is_none());
                after.bytes = (after.bytes + bytes.len() as u64).saturating_sub(old.unwrap_or_default());
            }
            let refuse = |what: String| Err(refused(Why::Quota, what));
            match self.rules.quota.allows(before, after) {
                Ok(()) => {}
                Err(Full::Roles(most)) => {
                    return refuse(format!(
                        "{subtree} may have {most} roles with those below it, removed ones included; sign in those that are \
                         there, or ask who runs the daemon for more (`quota.roles`)"
                    ));
                }
                Err(Full::Bytes(most)) => {
                    return refuse(format!(
                        "{subtree} with the roles below it would have {} bytes of at most {most}; unsign what is not run any \
                         more, or ask who runs the daemon for more (`quota.bytes`)",
                        after.bytes
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Patterns that every client reads alike: literals and `*` inside a segment. `**` crosses segments for some.
fn is_pattern(path: &str) -> bool {
    path.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:@*".contains(&b))
        && !path.contains("**")
        && path.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

/// A threshold that the listed keys can meet, with as many signatures as clients verify.
fn check_reachable(
    role: &str,
    keys: &BTreeMap<KeyId, Key>,
    keyids: &[KeyId],
    threshold: u64,
) -> Result<(), Refusal> {
    let distinct: BTreeSet<_> =
        keyids.iter().filter_map(|id| keys.get(id)).filter_map(|key| key.public().ok()).collect();
    let most = distinct.len().min(MAX_VERIFICATIONS);
    if (most as u64) < threshold {
        let message = format!("{role}: threshold {threshold} cannot be met by {most} distinct keys");
        return Err(refused(Why::Threshold, message));
    }
    Ok(())
}

fn parse<T: RoleType>(role: &str, bytes: &[u8]) -> Result<Document<T>, Refusal> {
    if bytes.len() as u64 > limit::of(role) {
        let message = format!("{}: longer than {} bytes", cut(role), limit::of(role));
        return Err(Refusal::new(RefusalCode::TooLarge, message));
    }
    Document::parse(role, bytes).map_err(|error| malformed(with_source(&error)))
}

fn trust_id<T: RoleType>(document: &Document<T>) -> Option<&str> {
    document.signed.common().identity.as_ref().map(|identity| identity.trust.as_str())
}

fn unknown(role: &str) -> Refusal {
    refused(Why::NotDelegated, format!("nobody delegates to a role `{}`", cut(role)))
}

/// [`verify`] says nothing else but that there are too few signatures.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn untrusted(error: tuf::Error) -> Refusal {
    refused(Why::Threshold, with_source(&error))
}

fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "messages are made on the spot")]
fn malformed(message: String) -> Refusal {
    Refusal::new(RefusalCode::Malformed, printable(&message))
}

#[expect(clippy::needless_pass_by_value, reason = "messages are made on the spot")]
fn refused(reason: Why, message: String) -> Refusal {
    Refusal { reason: Some(reason), ..Refusal::new(RefusalCode::Refused, printable(&message)) }
}

/// Messages quote what came in: nothing that a terminal would obey.
fn printable(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}
