//! A policy that was checked: what deciding reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use chrono::{DateTime, TimeDelta, Utc};
use semver::{Version, VersionReq};

use super::{DigestRefs, Format, Place, PolicyError, PolicyFile, PolicyRule, Scope, index::Index};
use crate::{
    oci::{Digest, RepositoryAddress, TargetName},
    tuf::KeyId,
};

/// A policy that was read and checked (docs/policy.md). Nothing merges; what no scope covers is rejected.
///
/// Scopes cannot be changed here, so that the index over them always fits; see [`PolicyFile`] for changing a policy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    /// The pinned roots, by the name the user gave them.
    pub root: BTreeMap<String, RootEntry>,
    pub(super) scopes: Scopes,
    pub(super) profiles: BTreeMap<String, Scopes>,
    /// The longest `from` first.
    pub(super) remap: Vec<Remap>,
}

/// One pinned root of trust.
#[derive(Debug, Clone, PartialEq)]
pub struct RootEntry {
    /// The root document.
    pub document: RootDocument,
    /// Its sha256.
    pub sha256: Digest,
    /// Where its metadata is fetched; at least one. Transport only: the newest valid answer wins.
    pub places: Vec<Place>,
    /// The file of the floor; a relative path starts at the policy file's folder.
    pub floor: Option<PathBuf>,
}

/// Where the pinned root document is.
#[derive(Debug, Clone, PartialEq)]
pub enum RootDocument {
    /// In this file; a relative path starts at the policy file's folder.
    File(PathBuf),
    /// In the policy itself; its sha256 was compared.
    Inline(String),
}

/// One scope.
#[derive(Debug, Clone, PartialEq)]
pub struct ScopeEntry {
    /// `HOST/SCOPE` as written.
    pub pattern: String,
    /// The registry host, with its port if it has one.
    pub host: String,
    /// The names on that host.
    pub scope: Scope,
    /// What is said of them.
    pub rule: Rule,
}

/// What a scope says of its names.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// Roots must vouch.
    Vouch(Box<Vouch>),
    /// They are refused, and nobody is asked.
    Deny {
        /// Why, in the policy author's words.
        reason: String,
    },
    /// These digests are allowed until then, and nobody is asked.
    AllowDigest {
        /// The digests; at least one.
        digests: BTreeSet<Digest>,
        /// Until when, UTC; from then on they are refused.
        until: DateTime<Utc>,
        /// Why, in the policy author's words.
        reason: String,
    },
}

/// Who must vouch, and under which conditions. Every map and list names only roots of `require` and `fallback`.
#[derive(Debug, Clone, PartialEq)]
pub struct Vouch {
    /// Who must vouch.
    pub require: Require,
    /// Who may vouch instead for a name that `require` freshly proves absent.
    pub fallback: Option<Require>,
    /// By root: the scope inside that root whose names stand for those of the match. It has the same form.
    pub map: BTreeMap<String, Scope>,
    /// By root: which role, and which keys, must have decided.
    pub pin: BTreeMap<String, Pin>,
    /// Which digests a reference by digest may name.
    pub digest_refs: DigestRefs,
    /// Which versions are allowed.
    pub constraint: Option<Constraint>,
    /// How old the deciding role's signing time may be.
    pub max_signed_age: Option<TimeDelta>,
    /// For how long after its expiry the timestamp and snapshot may still be used.
    pub max_staleness: Option<TimeDelta>,
    /// Roots whose failure is a warning.
    pub optional: BTreeSet<String>,
    /// Roots whose revocations count: those written, else all named ones.
    pub veto: BTreeSet<String>,
}

/// Who must vouch. Each root is named once.
#[derive(Debug, Clone, PartialEq)]
pub enum Require {
    /// All of these.
    All(Vec<String>),
    /// At least one of these.
    Any(Vec<String>),
    /// At least so many of these.
    Threshold {
        /// How many: from 1 to the length of `of`.
        threshold: usize,
        /// Of which.
        of: Vec<String>,
    },
}

/// Which role must lie on the path to a name, and who must have signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The role.
    pub role: String,
    /// Keys that must each be among those whose signature counted for the role; may be empty.
    pub keys: Vec<KeyId>,
}

/// Which versions are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Constraint {
    /// The tag, read as a version, must meet it.
    Tag(VersionReq),
    /// The signed `custom.version` must meet it.
    CustomVersion(VersionReq),
}

/// One name that stands for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remap {
    /// A host, or a host and whole path segments.
    pub from: String,
    /// What stands in its place.
    pub to: String,
}

/// The scopes of a policy or a profile.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Scopes {
    pub(super) entries: Vec<ScopeEntry>,
    pub(super) index: Index,
}

impl Policy {
    /// Reads and checks a policy in TOML. No I/O: the files that it names are not looked at.
    ///
    /// # Errors
    /// [`PolicyError`] with its position.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        Self::read(text, Format::Toml)
    }

    /// Reads and checks a policy in one of its two formats. No I/O: the files that it names are not looked at.
    ///
    /// # Errors
    /// [`PolicyError`] with its position.
    pub fn read(text: &str, format: Format) -> Result<Self, PolicyError> {
        PolicyFile::read(text, format)?.check().map_err(|error| error.located(text, format))
    }

    /// The scopes that apply, as written.
    pub fn scopes(&self) -> &[ScopeEntry] {
        &self.scopes.entries
    }

    /// The names of the profiles.
    pub fn profiles(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(String::as_str)
    }

    /// The remaps, the longest `from` first.
    pub fn remaps(&self) -> &[Remap] {
        &self.remap
    }

    /// The same policy with the scopes of the profile `name` in place of its own. Roots and remaps stay.
    ///
    /// # Errors
    /// [`PolicyRule::UnknownProfile`].
    pub fn with_profile(mut self, name: &str) -> Result<Self, PolicyError> {
        match self.profiles.get(name) {
            Some(scopes) => {
                self.scopes = scopes.clone();
                Ok(self)
            }
            None => {
                let known = self.profiles().collect::<Vec<_>>().join(", ");
                let known = if known.is_empty() { "none".to_owned() } else { known };
                let rule = PolicyRule::UnknownProfile { name: name.to_owned(), known };
                Err(PolicyError::new(String::new(), Vec::new(), rule))
            }
        }
    }

    /// The identity of a repository: what the policy's scopes call it. Of the remaps whose `from` is the repository or
    /// whole leading segments of it, the longest is applied, once; without one the repository is its own identity.
    ///
    /// None if what the remap makes of it is no repository (a host alone, or a name that is too long), so that no scope
    /// can cover it.
    pub fn identity(&self, repository: &RepositoryAddress) -> Option<RepositoryAddress> {
        let Some(remap) = self.remap_of(repository) else { return Some(repository.clone()) };
        let text = repository.to_string();
        let exchanged = format!("{}{}", remap.to, text.strip_prefix(&remap.from)?);
        // A host alone would be read as a repository on the default registry.
        if !exchanged.contains('/') {
            return None;
        }
        // Read again, so that the identity is one that a reference can have.
        exchanged.parse().ok()
    }

    /// The remap that applies to a repository: the longest whose `from` is it, or whole leading segments of it, whatever
    /// comes of it; none if it is judged as what it is.
    pub fn remap_of(&self, repository: &RepositoryAddress) -> Option<&Remap> {
        if self.remap.is_empty() {
            return None;
        }
        let text = repository.to_string();
        self.remap.iter().find(|remap| {
            text.strip_prefix(&remap.from).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// The one scope that applies to the target name `name` on `host`, the most specific; none if nothing covers it.
    /// Both are those of the identity: see [`Policy::identity`].
    pub fn select(&self, host: &str, name: &TargetName) -> Option<&ScopeEntry> {
        self.scopes.index.select(&self.scopes.entries, host, name)
    }
}

impl RootEntry {
    /// The first place, as it is written.
    ///
    /// # Panics
    /// Never for an entry of a checked policy, which has a place.
    pub fn location(&self) -> String {
        self.places.first().expect("a checked policy has a place for each root").to_string()
    }

    /// The first place that is a repository on a registry, which is where its publishers work.
    pub fn repository(&self) -> Option<&RepositoryAddress> {
        self.places.iter().find_map(|place| match place {
            Place::Registry(repository) => Some(repository),
            Place::Layout(_) | Place::Tuf(_) => None,
        })
    }
}

impl ScopeEntry {
    /// The roots that the scope names, in `require` and `fallback`, each once, in the order written.
    pub fn roots(&self) -> Vec<&str> {
        match &self.rule {
            Rule::Vouch(vouch) => vouch.roots(),
            Rule::Deny { .. } | Rule::AllowDigest { .. } => Vec::new(),
        }
    }

    /// What `name`, which this scope covers, is called inside `root`: itself unless `map` says otherwise. None if the
    /// name there would be longer than a repository's name may be, so that the root cannot hold it.
    pub fn name_in(&self, root: &str, name: &TargetName) -> Option<TargetName> {
        match &self.rule {
            Rule::Vouch(vouch) => match vouch.map.get(root) {
                Some(inside) => self.scope.exchange(inside, &name.to_string())?.parse().ok(),
                None => Some(name.clone()),
            },
            Rule::Deny { .. } | Rule::AllowDigest { .. } => Some(name.clone()),
        }
    }
}

impl Vouch {
    /// The roots of `require` and `fallback`, each once, in the order written.
    pub fn roots(&self) -> Vec<&str> {
        let mut roots: Vec<&str> = self.require.roots().iter().map(String::as_str).collect();
        for root in self.fallback.iter().flat_map(Require::roots) {
            if !roots.contains(&root.as_str()) {
                roots.push(root);
            }
        }
        roots
    }

    /// How many roots of `require` (or `fallback`) must vouch, at least 1: of an `all`, those that are not optional.
    pub fn needed(&self, require: &Require) -> usize {
        match require {
            Require::All(roots) => roots.iter().filter(|root| !self.optional.contains(*root)).count().max(1),
            Require::Any(_) => 1,
            Require::Threshold { threshold, .. } => *threshold,
        }
    }
}

impl Require {
    /// The roots, in the order written; at least one, each once.
    pub fn roots(&self) -> &[String] {
        match self {
            Self::All(roots) | Self::Any(roots) | Self::Threshold { of: roots, .. } => roots,
        }
    }
}

impl Constraint {
    /// The version requirement.
    pub fn requirement(&self) -> &VersionReq {
        match self {
            Self::Tag(requirement) | Self::CustomVersion(requirement) => requirement,
        }
    }

    /// True if `text` is a full semantic version, as `1.2.3`; a leading `v` may stand before it.
    pub fn is_version(text: &str) -> bool {
        Version::parse(text.strip_prefix('v').unwrap_or(text)).is_ok()
    }

    /// True if `text`, the tag or the signed `custom.version`, is a semantic version (a leading `v` may stand before it)
    /// that meets the requirement. A pre-release meets it only where the requirement names one of the same version.
    pub fn admits(&self, text: &str) -> bool {
        let text = text.strip_prefix('v').unwrap_or(text);
        Version::parse(text).is_ok_and(|version| self.requirement().matches(&version))
    }
}
