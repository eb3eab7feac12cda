//! The search for a target name through the delegations (TUF 1.0.34, 5.6.7): pre-order, lazy, bounded.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;

use super::{
    DelegatedRole, Delegations, Error, MetaFile, Revocation, Target, Targets, Trusted, matches,
    metadata::RoleKeysOnly,
};

/// How deep delegations are followed; `targets` is at depth 0.
pub const MAX_DEPTH: usize = 8;
/// How many roles one search visits.
pub const MAX_ROLES: usize = 32;

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
    /// Roles still to visit, the next one last: role, delegator, depth.
    pending: Vec<(String, String, usize)>,
    /// Visited roles and who led there.
    visited: BTreeMap<String, String>,
    revocations: Vec<(String, Revocation)>,
}

impl Search {
    /// A search for the target name `name`, for example `acme/net-monitor:v1`.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            pending: vec![("targets".to_owned(), "root".to_owned(), 0)],
            visited: BTreeMap::new(),
            revocations: Vec::new(),
        }
    }

    /// Who revoked what, among the roles asked so far: it holds also if a role below cannot be had or does not verify.
    /// Empty once the search is complete, as the outcome has it then.
    pub fn revocations(&self) -> &[(String, Revocation)] {
        &self.revocations
    }

    /// Goes on until a role must be loaded or the search is complete.
    ///
    /// # Errors
    /// [`Error::NotInSnapshot`] for a role that is delegated to but not in the snapshot, [`Error::SearchLimit`] beyond
    /// [`MAX_DEPTH`] or [`MAX_ROLES`]. The search is over then: nothing is known about the name.
    pub fn step(&mut self, trusted: &Trusted) -> Result<Step, Error> {
        loop {
            let Some((role, delegator, depth)) = self.pending.last().cloned() else {
                return Ok(Step::Done(Outcome::Absent {
                    revocations: std::mem::take(&mut self.revocations),
                }));
            };
            // 5.6.7.1: a role that was visited is not visited again; cycles and diamonds end here.
            if self.visited.contains_key(&role) {
                self.pending.pop();
                continue;
            }
            let document = match trusted.role(&role) {
                Some((by, document)) if by == delegator => document,
                // Not loaded, or verified for another delegator: it must verify for this one.
                _ => {
                    self.check_limits(&role, depth)?;
                    let meta = trusted.wanted_role(&role)?.clone();
                    return Ok(Step::Load { role, delegator, meta });
                }
            };
            self.check_limits(&role, depth)?;
            self.pending.pop();
            self.visited.insert(role.clone(), delegator);
            if let Some(outcome) = self.visit(&role, &document.signed, depth) {
                return Ok(Step::Done(outcome));
            }
        }
    }

    fn check_limits(&self, role: &str, depth: usize) -> Result<(), Error> {
        let limit = match () {
            () if depth > MAX_DEPTH => "8 levels of delegation",
            () if self.visited.len() >= MAX_ROLES => "32 roles",
            () => return Ok(()),
        };
        Err(Error::SearchLimit { role: role.to_owned(), name: self.name.clone(), limit })
    }

    fn visit(&mut self, role: &str, targets: &Targets, depth: usize) -> Option<Outcome> {
        // Revocations first: one in any role asked beats entries in it and below it.
        for revocation in targets.revocations() {
            if revocation.paths.iter().any(|pattern| matches(pattern, &self.name)) {
                return Some(Outcome::Revoked { role: role.to_owned(), revocation: revocation.clone() });
            }
            if revocation.digest.is_some() {
                self.revocations.push((role.to_owned(), revocation.clone()));
            }
        }
        // 5.6.7: the role's own entries, then those it delegates to, in order.
        if let Some(target) = targets.targets.get(&self.name) {
            return Some(Outcome::Found(Found {
                target: target.clone(),
                path: self.path_to(role),
                revocations: std::mem::take(&mut self.revocations),
            }));
        }
        if let Some(delegations) = &targets.delegations {
            let mut children = Vec::new();
            for (name, terminating) in delegated_for(delegations, &self.name) {
                children.push((name, role.to_owned(), depth + 1));
                // 5.6.7.2.1: nothing after a terminating delegation is asked, here or further up.
                if terminating {
                    self.pending.clear();
                    break;
                }
            }
            children.reverse();
            self.pending.append(&mut children);
        }
        None
    }

    fn path_to(&self, role: &str) -> Vec<String> {
        let mut path = vec![role.to_owned()];
        let mut at = role;
        while let Some(delegator) = self.visited.get(at).filter(|delegator| *delegator != "root") {
            path.push(delegator.clone());
            at = delegator;
        }
        path.reverse();
        path
    }
}

/// The delegated roles that may speak about `name`, in order, and whether each is terminating. Bins are not (TAP 15,
/// "Specification"), though python-tuf and go-tuf take them so.
fn delegated_for<'a>(
    delegations: &'a Delegations,
    name: &'a str,
) -> impl Iterator<Item = (String, bool)> + 'a {
    let hash = HEXLOWER.encode(ring::digest::digest(&ring::digest::SHA256, name.as_bytes()).as_ref());
    let bin = delegations.succinct_roles.as_ref().map(|succinct| (succinct_role(succinct, &hash), false));
    delegations
        .roles
        .iter()
        .filter(move |role| may_speak(role, name, &hash))
        .map(|role| (role.name.clone(), role.terminating))
        .chain(bin)
}

/// 4.5: a delegation covers a name by its path patterns, or by prefixes of the sha256 of the name.
fn may_speak(role: &DelegatedRole, name: &str, hash: &str) -> bool {
    role.paths.as_ref().is_some_and(|paths| paths.iter().any(|pattern| matches(pattern, name)))
        || role
            .path_hash_prefixes
            .as_ref()
            .is_some_and(|prefixes| prefixes.iter().any(|prefix| hash.starts_with(prefix.as_str())))
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
