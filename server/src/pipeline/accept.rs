//! accept: is a set of signed role documents one that we publish? Pure but for reading the present documents.
//!
//! Everything is decided against the parent versions that take effect in the same snapshot. What this step leaves behind
//! if a later one fails: nothing, the caller holds the set in memory.

mod delegations;
mod entries;
mod revocations;
mod root;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use plimsoll::publish::{
    api::{MAX_DOCUMENTS, Refusal, RefusalCode, RefusalReason as Why},
    author,
};
use plimsoll_core::tuf::{
    self, DelegatedRole, Document, Key, KeyId, MAX_DEPTH, MAX_VERIFICATIONS, Root, Targets, limit,
    metadata::RoleType, verify,
};

use crate::keys::Keyring;

/// Clocks of publishers may be ahead of ours by this much.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(5);
/// Reasons beyond this are not for people, bytes.
const MAX_REASON: usize = 1000;
/// Names of keys beyond this, too.
const MAX_KEY_NAME: usize = 64;
/// Patterns in one delegation, and scopes in a root. Names are matched against all of them in the one thread that signs,
/// so without a bound one team's document could keep everybody's timestamp from being signed.
const MAX_PATTERNS: usize = 64;
/// Roles below one team's, and in all. Each costs about 250 bytes in the snapshot that all share (limit: 8 MiB), so one
/// team's must not fill it up.
const MAX_SUBTREE: usize = 1000;
const MAX_ROLES: usize = 20_000;

/// What is published now, and how to read it.
pub(super) trait Present {
    /// The newest version of `role`, 0 if there is none.
    fn version(&self, role: &str) -> u64;
    /// The newest document of `role`.
    fn document(&self, role: &str) -> Result<Option<Bytes>, Refusal>;
    /// True if `role` once existed and was removed.
    fn is_retired(&self, role: &str) -> bool;
    /// How many roles there are whose names start with `prefix`.
    fn count(&self, prefix: &str) -> usize;
}

/// What does not come with the submission.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    /// Our keys, which every root must name.
    pub(super) keys: &'a Keyring,
    /// Keys that anybody can have.
    pub(super) refused_keys: &'a BTreeSet<KeyId>,
    pub(super) now: DateTime<Utc>,
}

/// A set that was accepted.
#[derive(Debug, Clone, Default)]
pub(super) struct AcceptedSet {
    /// Role, version, bytes.
    pub(super) documents: Vec<(String, u64, Bytes)>,
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
    documents: &BTreeMap<String, Vec<u8>>,
    rules: Rules<'_>,
) -> Result<AcceptedSet, Refusal> {
    if documents.is_empty() || documents.len() > MAX_DOCUMENTS {
        return Err(malformed(format!("a submission has 1 to {MAX_DOCUMENTS} documents")));
    }
    if let Some(role) = documents.keys().find(|role| role.len() > author::MAX_ROLE_NAME) {
        return Err(unknown(role));
    }
    let mut set = Set { present, documents, rules, accepted: AcceptedSet::default() };
    for role in in_order(documents) {
        set.check_version(role)?;
        if role == "root" { set.root()? } else { set.targets(role)? }
    }
    if !documents.contains_key("targets") && present.version("targets") == 0 {
        let message = "the first submission must hold root and targets version 1";
        return Err(refused(Why::WrongVersion, message.to_owned()));
    }
    Ok(set.accepted)
}

/// root, targets, then delegated roles, parents before children.
fn in_order(documents: &BTreeMap<String, Vec<u8>>) -> Vec<&str> {
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
    documents: &'a BTreeMap<String, Vec<u8>>,
    rules: Rules<'a>,
    accepted: AcceptedSet,
}

impl<P: Present> Set<'_, P> {
    /// The document of `role` as of the snapshot that this set makes.
    fn newest<T: RoleType>(&self, role: &str) -> Result<Option<Document<T>>, Refusal> {
        let bytes = match self.documents.get(role) {
            Some(bytes) => bytes.clone(),
            None => match self.present.document(role)? {
                Some(bytes) => bytes.to_vec(),
                None => return Ok(None),
            },
        };
        parse(role, &bytes).map(Some)
    }

    /// The next version exactly: the same or an older one lost a race, one further ahead is refused.
    fn check_version(&self, role: &str) -> Result<(), Refusal> {
        if matches!(role, "timestamp" | "snapshot") {
            return Err(refused(Why::WrongVersion, format!("{role} is signed by this daemon alone")));
        }
        // Only the version is read here, so that a loser hears of the conflict before anything else.
        let bytes = &self.documents[role];
        let version = if role == "root" {
            parse::<Root>(role, bytes)?.version()
        } else {
            parse::<Targets>(role, bytes)?.version()
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

    fn targets(&mut self, role: &str) -> Result<(), Refusal> {
        let bytes = &self.documents[role];
        let document: Document<Targets> = parse(role, bytes)?;
        let chain = self.chain(role, &document)?;
        self.check_common(role, &document)?;
        self.check_room(role)?;
        let before = match self.present.document(role)? {
            Some(bytes) => Some(parse::<Targets>(role, &bytes)?.signed),
            None => None,
        };
        entries::check(role, before.as_ref(), &document.signed, &chain)?;
        self.check_delegations(role, &document.signed, &chain)?;
        revocations::check(role, before.as_ref(), &document.signed, &chain, self.rules.now)?;
        self.report_children(role, before.as_ref(), &document.signed)?;
        self.take(role, document.version(), bytes);
        Ok(())
    }

    fn take(&mut self, role: &str, version: u64, bytes: &[u8]) {
        self.accepted.documents.push((role.to_owned(), version, Bytes::copy_from_slice(bytes)));
    }

    /// Verifies `document` by the keys that its parent gives it, and returns what bounds it: the patterns of every
    /// delegation on its path and the revocations above it.
    fn chain(&self, role: &str, document: &Document<Targets>) -> Result<Chain, Refusal> {
        let root: Document<Root> = self
            .newest("root")?
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
            let holder: Document<Targets> = self.newest(&parent)?.ok_or_else(|| unknown(role))?;
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

    /// What every document must be: ours, of this trust repository, alive, and not for longer than its role may.
    fn check_common<T: RoleType>(&self, role: &str, document: &Document<T>) -> Result<(), Refusal> {
        let value =
            tuf::json::parse(&document.bytes).map_err(|_| malformed(format!("{role}: not strict JSON")))?;
        if let tuf::json::Value::Object(members) = &value
            && let Some((name, _)) = members.iter().find(|(name, _)| name != "signed" && name != "signatures")
        {
            // Unsigned members are nobody's word: read past by clients, published by nobody (T50).
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
            let root: Option<Document<Root>> = self.newest("root")?;
            let expected = root.as_ref().and_then(trust_id).unwrap_or_default();
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
            taken.filter(|(role, version, _)| *version == 1 && role.starts_with(prefix)).count()
        };
        let room = |prefix: &str, most| self.present.count(prefix) + new(prefix) < most;
        if !room("targets--", MAX_ROLES) {
            let message = format!("{role}: there are {MAX_ROLES} roles; no more fit into a snapshot");
            return Err(refused(Why::TooMany, message));
        }
        let below_team = role.match_indices("--").nth(1).map(|(at, _)| &role[..at + 2]);
        if let Some(prefix) = below_team.filter(|prefix| !room(prefix, MAX_SUBTREE)) {
            let message = format!("{role}: there are {MAX_SUBTREE} roles below {prefix}");
            return Err(refused(Why::TooMany, message));
        }
        Ok(())
    }
}

/// What bounds a role.
struct Chain {
    /// The patterns of each delegation on the way; a name must match in each.
    bounds: Vec<Vec<String>>,
    /// What the roles above revoked.
    revoked: Vec<tuf::Revocation>,
}

impl Chain {
    /// The first bound that `name` is outside of.
    fn outside(&self, name: &str) -> Option<&Vec<String>> {
        self.bounds.iter().find(|bound| !bound.iter().any(|pattern| tuf::matches(pattern, name)))
    }
}

struct RoleKeys<'a> {
    keyids: &'a [KeyId],
    threshold: u64,
}

fn role_keys(role: &DelegatedRole) -> RoleKeys<'_> {
    RoleKeys { keyids: &role.keys.keyids, threshold: role.keys.threshold }
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
