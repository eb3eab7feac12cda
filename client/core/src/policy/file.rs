//! The policy file: pinned roots, and which of them speak for which references.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{Scope, ScopeError};
use crate::oci::{Digest, Reference, ReferenceError, RepositoryAddress};

/// A policy as written in `policy.toml`. Unknown keys are errors; nothing merges; what no scope covers is rejected.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The pinned roots, by the name the user gave them.
    #[serde(default)]
    pub root: BTreeMap<String, RootEntry>,
    /// Which references they speak for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<ScopeEntry>,
}

/// One pinned root of trust.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootEntry {
    /// The root document; a relative path starts at the policy file's folder.
    pub file: PathBuf,
    /// sha256 of that file, 64 hex digits.
    pub sha256: String,
    /// Where its metadata is fetched, `HOST/REPOSITORY`. Transport only: trust is keyed by the root.
    pub repository: String,
}

/// One scope.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeEntry {
    /// `HOST/SCOPE`, for example `registry.example.com/acme/**`.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Who must vouch.
    pub require: Require,
}

/// Who must vouch for a reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Require {
    /// All of these roots, and they must agree.
    pub all: Vec<String>,
}

/// The scope that applies to a reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Selected<'a> {
    /// The scope's `match`.
    pub pattern: &'a str,
    /// The roots that must vouch, by name; at least one.
    pub roots: Vec<(&'a str, &'a RootEntry)>,
}

/// Why a policy cannot be used. All of it is misuse: the policy's author must change something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Not TOML of the policy's shape; the source names line and column.
    #[error("not a policy")]
    Toml(#[from] toml::de::Error),
    /// A `sha256` that is not one.
    #[error("[root.{root}]: sha256 must be 64 lower-case hex digits")]
    Sha256 {
        /// The root.
        root: String,
    },
    /// A repository that is not one.
    #[error("[root.{root}]: repository")]
    Repository {
        /// The root.
        root: String,
        /// Why.
        source: ReferenceError,
    },
    /// A root name that could not be a file or a heading.
    #[error("root name `{root}`: use lower-case letters, digits, `-` and `_`, at most 64")]
    Name {
        /// The name.
        root: String,
    },
    /// A `match` without a registry host, or with a wrong one.
    #[error(
        "[[scope]] match = `{pattern}`: it must start with a registry host, as registry.example.com/acme/**"
    )]
    Host {
        /// The match.
        pattern: String,
    },
    /// A `match` whose part after the host is not a scope.
    #[error("[[scope]] match = `{pattern}`")]
    Scope {
        /// The match.
        pattern: String,
        /// Why.
        source: ScopeError,
    },
    /// Two scopes are equally specific and can cover the same reference.
    #[error("[[scope]]: `{first}` and `{second}` are equally specific; exactly one scope may apply")]
    Equal {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// `require` names no root.
    #[error("[[scope]] match = `{pattern}`: require names no root")]
    NoRoot {
        /// The match.
        pattern: String,
    },
    /// `require` names a root that is not there.
    #[error("[[scope]] match = `{pattern}`: there is no [root.{root}]")]
    UnknownRoot {
        /// The match.
        pattern: String,
        /// The root.
        root: String,
    },
}

impl Policy {
    /// Reads and checks a policy.
    ///
    /// # Errors
    /// [`PolicyError`], by rule.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let policy: Self = toml::from_str(text)?;
        policy.check()?;
        Ok(policy)
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`PolicyError`], by rule.
    pub fn check(&self) -> Result<(), PolicyError> {
        for (root, entry) in &self.root {
            if !valid_root_name(root) {
                return Err(PolicyError::Name { root: root.clone() });
            }
            entry.digest(root)?;
            entry.address(root)?;
        }
        let mut seen = Vec::<(String, Scope, &str)>::new();
        for entry in &self.scope {
            let (host, scope) = entry.parse()?;
            let equal = |(known_host, known, _): &&(String, Scope, &str)| {
                *known_host == host && known.specificity() == scope.specificity() && known.overlaps(&scope)
            };
            if let Some((_, _, first)) = seen.iter().find(equal) {
                let (first, second) = ((*first).to_owned(), entry.pattern.clone());
                return Err(PolicyError::Equal { first, second });
            }
            seen.push((host, scope, &entry.pattern));
            if entry.require.all.is_empty() {
                return Err(PolicyError::NoRoot { pattern: entry.pattern.clone() });
            }
            for root in &entry.require.all {
                if !self.root.contains_key(root) {
                    return Err(PolicyError::UnknownRoot {
                        pattern: entry.pattern.clone(),
                        root: root.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    /// The one scope that applies to `reference`, the most specific; none if nothing covers it. `name` is the target
    /// name of the reference, without a host.
    ///
    /// # Panics
    /// If the policy was never checked.
    pub fn select(&self, reference: &Reference, name: &str) -> Option<Selected<'_>> {
        let (_, entry) = self
            .scope
            .iter()
            .filter_map(|entry| {
                let (host, scope) = entry.parse().expect("the policy was checked when it was read");
                let applies = host == reference.repository.host && scope.covers(name);
                applies.then(|| (scope.specificity(), entry))
            })
            .max_by_key(|(specificity, _)| *specificity)?;
        let roots = entry.require.all.iter().map(|root| (root.as_str(), &self.root[root])).collect();
        Some(Selected { pattern: &entry.pattern, roots })
    }

    /// The policy as TOML.
    ///
    /// # Panics
    /// Never: tables of strings always serialise.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("tables of strings always serialise")
    }
}

impl RootEntry {
    /// The pinned sha256.
    ///
    /// # Errors
    /// [`PolicyError::Sha256`].
    pub fn digest(&self, root: &str) -> Result<Digest, PolicyError> {
        Digest::from_hex(&self.sha256).map_err(|_| PolicyError::Sha256 { root: root.to_owned() })
    }

    /// Where the metadata is fetched.
    ///
    /// # Errors
    /// [`PolicyError::Repository`].
    pub fn address(&self, root: &str) -> Result<RepositoryAddress, PolicyError> {
        self.repository.parse().map_err(|source| PolicyError::Repository { root: root.to_owned(), source })
    }
}

impl ScopeEntry {
    /// Host and scope of `match`.
    fn parse(&self) -> Result<(String, Scope), PolicyError> {
        let no_host = || PolicyError::Host { pattern: self.pattern.clone() };
        let (host, scope) = self.pattern.split_once('/').ok_or_else(no_host)?;
        // A host by the same rule as in a reference: `acme/**` alone would read as a host called acme.
        let probe: Reference = format!("{host}/x").parse().map_err(|_| no_host())?;
        if probe.repository.host != host {
            return Err(no_host());
        }
        let scope =
            scope.parse().map_err(|source| PolicyError::Scope { pattern: self.pattern.clone(), source })?;
        Ok((host.to_owned(), scope))
    }
}

/// True if `name` can name a root: it becomes a heading and a file name.
fn valid_root_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        && !name.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = r#"
        [root.acme]
        file = "acme-root.json"
        sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        repository = "r.io/acme/trust"
    "#;

    fn policy(scopes: &[&str]) -> Result<Policy, PolicyError> {
        let scopes: String = scopes
            .iter()
            .map(|s| format!("[[scope]]\nmatch = \"{s}\"\nrequire = {{ all = [\"acme\"] }}\n"))
            .collect();
        Policy::parse(&format!("{ROOT}\n{scopes}"))
    }

    fn selected<'a>(policy: &'a Policy, reference: &str) -> Option<&'a str> {
        let reference: Reference = reference.parse().unwrap();
        let name = format!("{}:{}", reference.repository.name, reference.tag.as_ref().unwrap());
        policy.select(&reference, &name).map(|selected| selected.pattern)
    }

    #[test]
    fn the_most_specific_scope_applies_whatever_the_order() {
        let scopes =
            ["r.io/acme/app", "r.io/acme/**", "r.io/acme/*", "r.io/acme/app:v*", "r.io/acme/app:v1*"];
        for scopes in [scopes.to_vec(), scopes.iter().rev().copied().collect()] {
            let policy = policy(&scopes).unwrap();
            assert_eq!(selected(&policy, "r.io/acme/app:v1"), Some("r.io/acme/app:v1*"));
            assert_eq!(selected(&policy, "r.io/acme/app:v2"), Some("r.io/acme/app:v*"));
            assert_eq!(selected(&policy, "r.io/acme/app:x"), Some("r.io/acme/app"));
            assert_eq!(selected(&policy, "r.io/acme/other:x"), Some("r.io/acme/*"));
            assert_eq!(selected(&policy, "r.io/acme/a/b:x"), Some("r.io/acme/**"));
            assert_eq!(selected(&policy, "r.io/other/app:v1"), None);
            assert_eq!(selected(&policy, "other.io/acme/app:v1"), None);
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        assert!(matches!(policy(&["r.io/acme/**", "r.io/acme/**"]), Err(PolicyError::Equal { .. })));
        assert!(matches!(policy(&["r.io/acme/a:v*", "r.io/acme/a:*1"]), Err(PolicyError::Equal { .. })));
        assert!(matches!(policy(&["r.io/acme/a:v1", "r.io/acme/a:v*"]), Err(PolicyError::Equal { .. })));
        policy(&["r.io/acme/a:v1", "r.io/acme/a:v2", "r.io/acme/b:v1", "s.io/acme/a:v1"]).unwrap();
        assert!(matches!(policy(&["acme/**"]), Err(PolicyError::Host { .. })));
        assert!(matches!(policy(&["r.io/acme/[a]"]), Err(PolicyError::Scope { .. })));
        assert!(matches!(Policy::parse(&format!("{ROOT}\nextra = 1")), Err(PolicyError::Toml(_))));
        let bad = ROOT.replace("e3b0", "E3B0");
        assert!(matches!(Policy::parse(&bad), Err(PolicyError::Sha256 { .. })));
        let missing = "[[scope]]\nmatch = \"r.io/acme/**\"\nrequire = { all = [\"other\"] }\n";
        assert!(matches!(Policy::parse(missing), Err(PolicyError::UnknownRoot { .. })));
        let without = ROOT.lines().filter(|l| !l.contains("sha256")).collect::<Vec<_>>().join("\n");
        assert!(matches!(Policy::parse(&without), Err(PolicyError::Toml(_))));
    }

    #[test]
    fn a_root_is_named_so_that_it_can_be_a_file() {
        let named = |name: &str| Policy::parse(&ROOT.replace("root.acme", &format!("root.\"{name}\"")));
        for good in ["a", "0-9_z", "_", &"a".repeat(64)] {
            assert!(named(good).unwrap().root.contains_key(good), "{good}");
        }
        for bad in ["", "-a", "A", "a b", "a/b", "..", "é", "a:b", &"a".repeat(65)] {
            assert!(matches!(named(bad), Err(PolicyError::Name { root }) if root == bad), "{bad}");
        }
    }

    #[test]
    fn a_policy_round_trips() {
        let policy = policy(&["r.io/acme/**"]).unwrap();
        assert_eq!(Policy::parse(&policy.to_toml()).unwrap(), policy);
    }
}
