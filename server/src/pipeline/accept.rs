//! accept: is a set of signed role documents one that we publish? Pure but for reading the present documents.
//!
//! Everything is decided against the parent versions that take effect in the same snapshot. What this step leaves behind
//! if a later one fails: nothing, the caller holds the set in memory.

mod delegations;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use plimsoll::publish::{
    api::{MAX_DOCUMENTS, Refusal, RefusalCode},
    author,
};
use plimsoll_core::{
    oci::TargetName,
    policy::Scope,
    tuf::{
        self, DelegatedRole, Document, Key, KeyId, MAX_DEPTH, MAX_VERIFICATIONS, Root, Targets,
        distinct_signers, limit, matches, metadata::RoleType, verify, within,
    },
};

use delegations::orphaned;

use super::OnlineKeys;

/// Clocks of publishers may be ahead of ours by this much.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(5);
/// Reasons and names beyond this are not for people.
const MAX_REASON: usize = 1000;
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
    pub(super) online: &'a OnlineKeys,
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
        return Err(refused("the first submission must hold root and targets version 1".to_owned()));
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
            return Err(refused(format!("{role} is signed by this daemon alone")));
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
            return Err(Refusal { code: RefusalCode::Conflict, message, heads });
        }
        if version != head + 1 {
            return Err(refused(format!("{role} version {version} where version {} must follow", head + 1)));
        }
        Ok(())
    }

    fn root(&mut self) -> Result<(), Refusal> {
        const ROLE: &str = "root";
        let bytes = &self.documents[ROLE];
        let document: Document<Root> = parse(ROLE, bytes)?;
        let new = &document.signed;
        let keys = &new.roles[ROLE];
        verify(document.clone(), ROLE, &new.keys, &keys.keyids, keys.threshold).map_err(untrusted)?;
        if let Some(old) = self.present.document(ROLE)? {
            let old: Document<Root> = parse(ROLE, &old)?;
            let keys = &old.signed.roles[ROLE];
            verify(document.clone(), ROLE, &old.signed.keys, &keys.keyids, keys.threshold)
                .map_err(untrusted)?;
            if trust_id(&old) != trust_id(&document) {
                return Err(refused("root: another trust id than the root before it".to_owned()));
            }
        }
        if !new.consistent_snapshot {
            return Err(refused("root: consistent_snapshot must be true".to_owned()));
        }
        let id = trust_id(&document).unwrap_or_default();
        if id.len() != 32 || !id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(refused("root: x-plimsoll.trust must be 32 lower-case hex digits".to_owned()));
        }
        let scopes =
            new.common.identity.as_ref().map(|identity| identity.scope.as_slice()).unwrap_or_default();
        if scopes.is_empty() || scopes.iter().any(|scope| scope.parse::<Scope>().is_err()) {
            return Err(refused("root: x-plimsoll.scope must list one scope or more".to_owned()));
        }
        if scopes.len() > MAX_PATTERNS {
            return Err(refused(format!("root: more than {MAX_PATTERNS} scopes")));
        }
        self.check_common(ROLE, &document)?;
        self.check_keys(ROLE, &new.keys)?;
        for (role, keys) in &new.roles {
            check_reachable(role, &new.keys, &keys.keyids, keys.threshold)?;
        }
        // A root that would leave us unable to sign is refused, whoever signed it.
        for (role, id) in
            [("timestamp", self.rules.online.timestamp.id()), ("snapshot", self.rules.online.snapshot.id())]
        {
            let keys = &new.roles[role];
            if keys.threshold != 1 || !keys.keyids.contains(&id) {
                return Err(refused(format!(
                    "root: {role} must be signed by this daemon's key {id} with threshold 1"
                )));
            }
        }
        // Taking the keys of `targets` away takes effect at once, whatever it breaks; the owner hears of it.
        if let Some(targets) = self.newest::<Targets>("targets")? {
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
        self.take(ROLE, document.version(), bytes);
        Ok(())
    }

    fn targets(&mut self, role: &str) -> Result<(), Refusal> {
        let bytes = &self.documents[role];
        let document: Document<Targets> = parse(role, bytes)?;
        let chain = self.chain(role, &document)?;
        self.check_common(role, &document)?;
        self.check_room(role)?;
        self.check_targets(role, &document.signed, &chain)?;
        self.check_delegations(role, &document.signed, &chain)?;
        let before = match self.present.document(role)? {
            Some(bytes) => Some(parse::<Targets>(role, &bytes)?.signed),
            None => None,
        };
        check_revocations(role, before.as_ref(), &document.signed, &chain)?;
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
        let root: Document<Root> =
            self.newest("root")?.ok_or_else(|| refused("there is no root yet".to_owned()))?;
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
            return Err(refused(format!("{role}: more than {MAX_DEPTH} levels of delegation")));
        }
        for (depth, label) in labels.iter().enumerate() {
            let name = author::role_name(&parent, label).map_err(|error| refused(error.to_string()))?;
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
            return Err(refused(format!(
                "{role}: unsigned member `{name}` beside `signed` and `signatures`"
            )));
        }
        let common = document.signed.common();
        let identity =
            common.identity.as_ref().ok_or_else(|| refused(format!("{role}: no x-plimsoll member")))?;
        if identity.view.is_some() {
            return Err(refused(format!("{role}: views are not published here")));
        }
        if role != "root" {
            let root: Option<Document<Root>> = self.newest("root")?;
            let expected = root.as_ref().and_then(trust_id).unwrap_or_default();
            if identity.trust != expected {
                return Err(refused(format!(
                    "{role}: trust id {} instead of {expected}",
                    cut(&identity.trust)
                )));
            }
        }
        let now = self.rules.now;
        if identity.at > now + CLOCK_SKEW {
            return Err(refused(format!(
                "{role}: signed at {}, which is ahead of this daemon's clock",
                identity.at
            )));
        }
        if common.expires <= now {
            return Err(refused(format!("{role}: expired at {}", common.expires)));
        }
        let life = author::max_life(role);
        if common.expires > now + life + CLOCK_SKEW {
            return Err(refused(format!(
                "{role}: expires {}, more than {} days ahead",
                common.expires,
                life.num_days()
            )));
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
            return Err(refused(format!("{role}: there are {MAX_ROLES} roles; no more fit into a snapshot")));
        }
        let below_team = role.match_indices("--").nth(1).map(|(at, _)| &role[..at + 2]);
        if let Some(prefix) = below_team.filter(|prefix| !room(prefix, MAX_SUBTREE)) {
            return Err(refused(format!("{role}: there are {MAX_SUBTREE} roles below {prefix}")));
        }
        Ok(())
    }

    /// Names inside every bound, in our grammar, and never what was revoked.
    fn check_targets(&self, role: &str, targets: &Targets, chain: &Chain) -> Result<(), Refusal> {
        let revoked: BTreeSet<_> = chain
            .revoked
            .iter()
            .chain(targets.revocations())
            .filter_map(|revocation| revocation.digest)
            .collect();
        for (name, target) in &targets.targets {
            let parsed: TargetName = name.parse().map_err(|error| refused(format!("{role}: {error}")))?;
            if let Some(bound) = chain.bounds.iter().find(|bound| !bound.iter().any(|p| matches(p, name))) {
                return Err(refused(format!(
                    "{role} may not speak about {name}, only about {}",
                    bound.join(", ")
                )));
            }
            let digest = target
                .digest()
                .ok_or_else(|| refused(format!("{role}: {name} has no sha256 in lower-case hex")))?;
            if matches!(&parsed, TargetName::Digest { digest: named, .. } if *named != digest) {
                return Err(refused(format!("{role}: {name} names another digest than its hash")));
            }
            if revoked.contains(&digest) {
                return Err(refused(format!("{role}: {name} points at {digest}, which was revoked")));
            }
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

struct RoleKeys<'a> {
    keyids: &'a [KeyId],
    threshold: u64,
}

fn role_keys(role: &DelegatedRole) -> RoleKeys<'_> {
    RoleKeys { keyids: &role.keys.keyids, threshold: role.keys.threshold }
}

/// What was revoked stays so; what is new is short and inside of what the role may speak about.
fn check_revocations(
    role: &str,
    before: Option<&Targets>,
    after: &Targets,
    chain: &Chain,
) -> Result<(), Refusal> {
    let text = |revocation: &tuf::Revocation| {
        serde_json::to_string(revocation).expect("a revocation that was read can be written")
    };
    let kept: BTreeSet<String> = after.revocations().iter().map(text).collect();
    let mut known = BTreeSet::new();
    for old in before.map(Targets::revocations).unwrap_or_default() {
        let written = text(old);
        if !kept.contains(&written) {
            let what = old.digest.map_or_else(|| old.paths.join(", "), |digest| digest.to_string());
            return Err(refused(format!("{role}: the revocation of {} is missing", cut(&what))));
        }
        known.insert(written);
    }
    for new in after.revocations().iter().filter(|revocation| !known.contains(&text(revocation))) {
        if new.reason.len() > MAX_REASON {
            return Err(refused(format!("{role}: a reason of {} characters", new.reason.len())));
        }
        if new.paths.len() > MAX_PATTERNS {
            return Err(refused(format!("{role}: a revocation of more than {MAX_PATTERNS} patterns")));
        }
        // Whoever is asked about a name is believed about it, so nobody revokes more than that.
        let outside =
            |path: &String| !is_pattern(path) || !chain.bounds.iter().all(|bound| within(path, bound));
        if let Some(path) = new.paths.iter().find(|path| outside(path)) {
            return Err(refused(format!(
                "{role} cannot revoke {}, which is outside of its scope",
                cut(path)
            )));
        }
    }
    Ok(())
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
        return Err(refused(format!("{role}: threshold {threshold} cannot be met by {most} distinct keys")));
    }
    Ok(())
}

fn parse<T: RoleType>(role: &str, bytes: &[u8]) -> Result<Document<T>, Refusal> {
    if bytes.len() as u64 > limit::of(role) {
        return Err(Refusal {
            code: RefusalCode::TooLarge,
            message: format!("{}: longer than {} bytes", cut(role), limit::of(role)),
            heads: BTreeMap::new(),
        });
    }
    Document::parse(role, bytes).map_err(|error| malformed(with_source(&error)))
}

fn trust_id<T: RoleType>(document: &Document<T>) -> Option<&str> {
    document.signed.common().identity.as_ref().map(|identity| identity.trust.as_str())
}

fn unknown(role: &str) -> Refusal {
    refused(format!("nobody delegates to a role `{}`", cut(role)))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn untrusted(error: tuf::Error) -> Refusal {
    refused(with_source(&error))
}

fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "messages are made on the spot")]
fn malformed(message: String) -> Refusal {
    Refusal { code: RefusalCode::Malformed, message: printable(&message), heads: BTreeMap::new() }
}

#[expect(clippy::needless_pass_by_value, reason = "messages are made on the spot")]
fn refused(message: String) -> Refusal {
    Refusal { code: RefusalCode::Refused, message: printable(&message), heads: BTreeMap::new() }
}

/// Messages quote what came in: nothing that a terminal would obey.
fn printable(message: &str) -> String {
    message.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}
