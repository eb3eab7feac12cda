//! The search for a target name through the delegations (TUF 1.0.34, 5.6.7): pre-order, lazy, bounded.

use std::borrow::Cow;

use data_encoding::HEXLOWER;

use super::{
    DelegatedRole, Delegations, Error, MetaFile, Revocation, Target, Targets, Trusted, matches,
    metadata::{RoleKeysOnly, cut},
};

/// How deep delegations are followed; `targets` is at depth 0.
pub const MAX_DEPTH: usize = 8;
/// How many roles one search visits, `targets` among them.
pub const MAX_ROLES: usize = 32;
/// How long the name of a role may be, bytes. No file system keeps a longer one, and what the search gathers repeats it.
pub const MAX_ROLE_NAME: usize = 512;

/// What the search needs next, or how it ended.
#[derive(Debug)]
pub enum Step {
    /// `role` must be fetched as `meta` describes it and given to [`Trusted::update_targets`], then the search goes on.
    Load {
        /// The role wanted.
        role: String,
        /// Who delegates to it.
        delegator: String,
        /// What the snapshot says of it.
        meta: MetaFile,
    },
    /// The search is complete.
    Done(Outcome),
}

/// How a search ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A role vouches for the name.
    Found(Found),
    /// A role on the way took back a whole scope that holds the name.
    Revoked {
        /// The role that says so.
        role: String,
        /// What it says.
        revocation: Revocation,
    },
    /// Every role that may speak about the name was asked, and none lists it. Whether a digest that is presented under
    /// the name was revoked stands in `revocations`.
    Absent {
        /// Who revoked what, among the roles asked.
        revocations: Vec<(String, Revocation)>,
        /// The roles asked, in the order in which they were, `targets` first: what they say together is the proof.
        asked: Vec<String>,
    },
}

/// A name that a role vouches for.
#[derive(Debug, Clone)]
pub struct Found {
    /// What it says of it.
    pub target: Target,
    /// The roles on the path, `targets` first, the one that lists the name last.
    pub path: Vec<String>,
    /// Who revoked what, among the roles asked so far.
    pub revocations: Vec<(String, Revocation)>,
}

impl Found {
    /// The revocation of `digest`, if a role on the way revoked it: it beats the entry.
    pub fn revocation(&self, digest: &crate::oci::Digest) -> Option<&(String, Revocation)> {
        self.revocations.iter().find(|(_, revocation)| revocation.digest.as_ref() == Some(digest))
    }
}

/// One search for one name. Iterative: input decides neither the stack nor, beyond the limits, the memory.
#[derive(Debug)]
pub struct Search {
    name: String,
    /// sha256 of the name in lower-case hex, by which bins are chosen.
    hash: String,
    /// Roles still to visit, the next one last.
    pending: Vec<Pending>,
    visited: Vec<Visit>,
    revocations: Vec<(String, Revocation)>,
    /// False for who gathers the revocations of digests alone.
    gathers: bool,
}

#[derive(Debug)]
pub(super) struct Pending {
    role: String,
    /// Where in `visited` its delegator stands; none for `targets`.
    delegator: Option<usize>,
    depth: usize,
}

impl Pending {
    pub(super) fn role(&self) -> &str {
        &self.role
    }

    /// Which of the visits before was that of its delegator; none for `targets`.
    pub(super) fn delegator(&self) -> Option<usize> {
        self.delegator
    }
}

#[derive(Debug)]
struct Visit {
    role: String,
    delegator: Option<usize>,
}

impl Search {
    /// A search for the target name `name`, for example `acme/net-monitor:v1`.
    pub fn new(name: &str) -> Self {
        let hash = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
        Self {
            name: name.to_owned(),
            hash: HEXLOWER.encode(hash.as_ref()),
            pending: vec![Pending { role: "targets".to_owned(), delegator: None, depth: 0 }],
            visited: Vec::new(),
            revocations: Vec::new(),
            gathers: true,
        }
    }

    /// The same, of which [`Search::revocations`] stays empty.
    pub(super) fn for_scopes(name: &str) -> Self {
        Self { gathers: false, ..Self::new(name) }
    }

    /// Who revoked what, among the roles asked so far: it holds also if a role below cannot be had or does not verify.
    /// Empty once the search is complete, as the outcome has it then.
    pub fn revocations(&self) -> &[(String, Revocation)] {
        &self.revocations
    }

    /// The roles asked so far, in the order in which they were.
    pub fn asked(&self) -> Vec<String> {
        self.visited.iter().map(|visit| visit.role.clone()).collect()
    }

    /// Goes on until a role must be loaded or the search is complete.
    ///
    /// # Errors
    /// [`Error::NotInSnapshot`] for a role that is delegated to but not in the snapshot, [`Error::SearchLimit`] beyond
    /// [`MAX_DEPTH`], [`MAX_ROLES`] or [`MAX_ROLE_NAME`], where 5.6.7.1 ends the search too. The search is over then:
    /// nothing is known about the name, so it is not absent.
    pub fn step(&mut self, trusted: &Trusted) -> Result<Step, Error> {
        while let Some(next) = self.pending.pop() {
            // 5.6.7.1: a role that was visited is not visited again; cycles and diamonds end here.
            if self.has_visited(&next.role) {
                continue;
            }
            self.check_limits(&next)?;
            let delegator = next.delegator.map_or("root", |at| &self.visited[at].role);
            let document = match trusted.role(&next.role) {
                Some((by, document)) if by == delegator => document,
                // Not loaded, or verified for another delegator: it must verify for this one.
                _ => {
                    let meta = trusted.wanted_role(&next.role)?.clone();
                    let step = Step::Load { role: next.role.clone(), delegator: delegator.to_owned(), meta };
                    self.pending.push(next);
                    return Ok(step);
                }
            };
            if let Some(outcome) = self.visit(next, &document.signed) {
                return Ok(Step::Done(outcome));
            }
        }
        let (revocations, asked) = (std::mem::take(&mut self.revocations), self.asked());
        Ok(Step::Done(Outcome::Absent { revocations, asked }))
    }

    /// The next role that was not visited yet, for who can do without those beyond the limits.
    pub(super) fn next_within_limits(&mut self) -> Option<Pending> {
        while let Some(next) = self.pending.pop() {
            if !self.has_visited(&next.role) && self.check_limits(&next).is_ok() {
                return Some(next);
            }
        }
        None
    }

    fn has_visited(&self, role: &str) -> bool {
        self.visited.iter().any(|visit| visit.role == role)
    }

    fn check_limits(&self, next: &Pending) -> Result<(), Error> {
        let limit = match () {
            () if next.role.len() > MAX_ROLE_NAME => "512 bytes in a role's name",
            () if next.depth > MAX_DEPTH => "8 levels of delegation",
            () if self.visited.len() >= MAX_ROLES => "32 roles",
            () => return Ok(()),
        };
        Err(Error::SearchLimit { role: cut(&next.role), name: self.name.clone(), limit })
    }

    pub(super) fn visit(
        &mut self,
        Pending { role, delegator, depth }: Pending,
        targets: &Targets,
    ) -> Option<Outcome> {
        let at = self.visited.len();
        self.visited.push(Visit { role: role.clone(), delegator });
        // Revocations first: one in any role asked beats entries in it and below it.
        for revocation in targets.revocations() {
            if revocation.paths.iter().any(|pattern| matches(pattern, &self.name)) {
                return Some(Outcome::Revoked { role, revocation: revocation.clone() });
            }
            if self.gathers && revocation.digest.is_some() {
                self.revocations.push((role.clone(), revocation.clone()));
            }
        }
        // 5.6.7: the role's own entries, then those it delegates to, in order.
        if let Some(target) = targets.targets.get(&self.name) {
            return Some(Outcome::Found(Found {
                target: target.clone(),
                path: self.path_to(at),
                revocations: std::mem::take(&mut self.revocations),
            }));
        }
        if let Some(delegations) = &targets.delegations {
            self.follow(delegations, at, depth + 1);
        }
        None
    }

    /// Queues the roles that may speak about the name. Of roles not visited yet, one more than can still be visited is
    /// enough: before the last of them the search is beyond its limit, with the same error as if all had been queued.
    fn follow(&mut self, delegations: &Delegations, delegator: usize, depth: usize) {
        let enough = MAX_ROLES + 1 - self.visited.len();
        let mut children = Vec::new();
        let mut terminated = false;
        for (role, terminating) in delegated_for(delegations, &self.name, &self.hash) {
            terminated = terminating;
            if !self.has_visited(&role) {
                children.push(Pending { role: role.into_owned(), delegator: Some(delegator), depth });
            }
            if terminated || children.len() == enough {
                break;
            }
        }
        // 5.6.7.2.1: nothing after a terminating delegation is asked, here or further up.
        if terminated {
            self.pending.clear();
        }
        self.pending.extend(children.into_iter().rev());
    }

    fn path_to(&self, at: usize) -> Vec<String> {
        let visit = |at: usize| &self.visited[at];
        let mut path: Vec<_> = std::iter::successors(Some(visit(at)), |visited| visited.delegator.map(visit))
            .map(|visited| visited.role.clone())
            .collect();
        path.reverse();
        path
    }
}

/// The delegated roles that may speak about `name`, in order, and whether each is terminating.
///
/// The bin of TAP 15 counts as terminating. The TAP's text says that bins are not, but the TAP is a draft that 1.0.34 does
/// not adopt, and every client that reads bins (python-tuf, go-tuf) ends at them: whoever publishes them has seen names
/// that the bin does not list stay unknown. Going on to later roles would believe roles that no other client asks; ending
/// here can only make a name absent, which its publisher sees at once.
fn delegated_for<'a>(
    delegations: &'a Delegations,
    name: &'a str,
    hash: &'a str,
) -> impl Iterator<Item = (Cow<'a, str>, bool)> {
    let bin =
        delegations.succinct_roles.as_ref().map(|succinct| (succinct_role(succinct, hash).into(), true));
    delegations
        .roles
        .iter()
        .filter(move |role| may_speak(role, name, hash))
        .map(|role| (role.name.as_str().into(), role.terminating))
        .chain(bin)
}

/// 4.5: a delegation covers a name by its path patterns, or by prefixes of the sha256 of the name in lower-case hex, of
/// any length but none: an empty one says no digest, so it grants nothing, though text that starts with nothing always is
/// a prefix (python-tuf reads it as every name).
fn may_speak(role: &DelegatedRole, name: &str, hash: &str) -> bool {
    let shares = |prefix: &String| !prefix.is_empty() && hash.starts_with(prefix.as_str());
    role.paths.as_ref().is_some_and(|paths| paths.iter().any(|pattern| matches(pattern, name)))
        || role.path_hash_prefixes.as_ref().is_some_and(|prefixes| prefixes.iter().any(shares))
}

/// TAP 15: the bin is the leading `bit_length` bits of the hash, in hex, padded to the width of the largest bin.
fn succinct_role(succinct: &super::SuccinctRoles, hash: &str) -> String {
    let leading = u32::from_str_radix(&hash[..8], 16).expect("a sha256 in hex has 64 digits");
    let bin = leading >> (32 - succinct.bit_length);
    let width = usize::try_from(succinct.bit_length.div_ceil(4)).expect("at most 8");
    format!("{}-{bin:0width$x}", succinct.name_prefix)
}

/// The keys that `delegations` gives `role`.
pub(super) fn delegation_keys<'a>(delegations: &'a Delegations, role: &str) -> Option<&'a RoleKeysOnly> {
    if let Some(listed) = delegations.roles.iter().find(|listed| listed.name == role) {
        return Some(&listed.keys);
    }
    let succinct = delegations.succinct_roles.as_ref()?;
    let bin = role.strip_prefix(succinct.name_prefix.as_str())?.strip_prefix('-')?;
    let width = usize::try_from(succinct.bit_length.div_ceil(4)).expect("at most 8");
    let number = u64::from_str_radix(bin, 16).ok()?;
    let lower = bin.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (bin.len() == width && lower && number < 1 << succinct.bit_length).then_some(&succinct.keys)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn delegations(names: impl Iterator<Item = String>) -> Delegations {
        let role = |name| DelegatedRole {
            name,
            keys: RoleKeysOnly { keyids: Vec::new(), threshold: 1 },
            terminating: false,
            paths: Some(vec!["acme/*".to_owned()]),
            path_hash_prefixes: None,
            extra: BTreeMap::new(),
        };
        Delegations {
            keys: BTreeMap::new(),
            roles: names.map(role).collect(),
            succinct_roles: None,
            extra: BTreeMap::new(),
        }
    }

    /// T36: what waits to be visited is bounded by what can be visited, however many delegations match.
    #[test]
    fn no_more_roles_wait_than_could_be_visited() {
        let wide = delegations((0..10_000).map(|i| format!("r{i}")));
        let mut search = Search::new("acme/app:v1");
        search.pending.clear();
        search.visited.push(Visit { role: "targets".to_owned(), delegator: None });
        search.visited.extend((0..5).map(|i| Visit { role: format!("r{i}"), delegator: Some(0) }));
        search.follow(&wide, 0, 1);
        let waiting: Vec<_> = search.pending.iter().rev().map(|next| next.role.clone()).collect();
        let expected: Vec<_> = (5..32).map(|i| format!("r{i}")).collect();
        assert_eq!(
            waiting, expected,
            "the 26 that can still be visited, and the one that is beyond the limit"
        );
    }

    /// T39: a bin is named by the leading bits, in lower-case hex of the width of the largest bin.
    #[test]
    fn bins_are_named_with_leading_zeros() {
        let succinct = |bit_length| crate::tuf::SuccinctRoles {
            keys: RoleKeysOnly { keyids: Vec::new(), threshold: 1 },
            bit_length,
            name_prefix: "b".to_owned(),
            extra: BTreeMap::new(),
        };
        let hash = format!("00abcdef{}", "5".repeat(56));
        for (bit_length, bin) in
            [(1, "b-0"), (4, "b-0"), (5, "b-00"), (9, "b-001"), (16, "b-00ab"), (32, "b-00abcdef")]
        {
            assert_eq!(succinct_role(&succinct(bit_length), &hash), bin);
        }
        let hash = "f".repeat(64);
        for (bit_length, bin) in [(1, "b-1"), (3, "b-7"), (5, "b-1f"), (31, "b-7fffffff"), (32, "b-ffffffff")]
        {
            assert_eq!(succinct_role(&succinct(bit_length), &hash), bin);
        }
    }
}
