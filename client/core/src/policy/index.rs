//! Finds the one scope that applies to a name in a time that does not grow with their number.

use std::collections::{BTreeSet, HashMap};

use super::{MAX_SCOPE_DEPTH, Scope, ScopeEntry};
use crate::{oci::TargetName, tuf::matches};

/// The scopes of a policy by what they can cover. Numbers are positions in the policy's list.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Index {
    hosts: HashMap<String, Host>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Host {
    repositories: HashMap<String, Repository>,
    children: HashMap<String, usize>,
    below: HashMap<String, usize>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Repository {
    whole: Option<usize>,
    /// Tags without a star.
    tags: HashMap<String, usize>,
    globs: Globs,
}

/// Globs by what stands before their first star, then by what stands after their last one.
#[derive(Debug, Clone, Default, PartialEq)]
struct Globs {
    by_head: HashMap<String, HashMap<String, Vec<usize>>>,
    heads: BTreeSet<usize>,
    tails: BTreeSet<usize>,
}

/// Two scopes of which neither is more specific, and that can cover one name: their positions, the earlier first.
pub(super) type Clash = (usize, usize);

impl Index {
    pub(super) fn build(entries: &[ScopeEntry]) -> Result<Self, Clash> {
        let mut index = Self::default();
        let mut globs = HashMap::<(&str, &str, usize), Vec<usize>>::new();
        for (at, entry) in entries.iter().enumerate() {
            if !index.hosts.contains_key(&entry.host) {
                index.hosts.insert(entry.host.clone(), Host::default());
            }
            let host = index.hosts.get_mut(&entry.host).expect("it was just made");
            let known = match &entry.scope {
                Scope::Repository(name) => host.repository(name).whole.replace(at),
                Scope::Children(prefix) => host.children.insert(prefix.clone(), at),
                Scope::Below(prefix) => host.below.insert(prefix.clone(), at),
                Scope::Tags { repository, glob } if !glob.contains('*') => {
                    host.repository(repository).tags.insert(glob.clone(), at)
                }
                Scope::Tags { repository, glob } => {
                    host.repository(repository).globs.add(glob, at);
                    globs.entry((&entry.host, repository, glob.len())).or_default().push(at);
                    None
                }
            };
            if let Some(known) = known {
                return Err((known, at));
            }
        }
        for alike in globs.values() {
            if let Some(clash) = crossing(entries, alike) {
                return Err(clash);
            }
        }
        index.tags_in_globs(entries)?;
        Ok(index)
    }

    /// A glob as long as a tag is as specific as the tag.
    fn tags_in_globs(&self, entries: &[ScopeEntry]) -> Result<(), Clash> {
        for repository in self.hosts.values().flat_map(|host| host.repositories.values()) {
            for (tag, at) in &repository.tags {
                let alike = |other: &usize| glob(&entries[*other]).len() == tag.len();
                if let Some(other) = repository.globs.matching(entries, tag).find(alike) {
                    return Err((other.min(*at), other.max(*at)));
                }
            }
        }
        Ok(())
    }

    /// The most specific entry that covers `name` on `host`.
    pub(super) fn select<'a>(
        &self,
        entries: &'a [ScopeEntry],
        host: &str,
        name: &TargetName,
    ) -> Option<&'a ScopeEntry> {
        let host = self.hosts.get(host)?;
        let path = name.repository();
        if let Some(repository) = host.repositories.get(path) {
            let tagged = match name {
                TargetName::Tag { tag, .. } => repository.tagged(entries, tag.as_str()),
                TargetName::Digest { .. } => None,
            };
            if let Some(at) = tagged.or(repository.whole) {
                return Some(&entries[at]);
            }
        }
        let mut parent = path.rfind('/').map_or("", |end| &path[..end]);
        if let Some(at) = host.children.get(parent) {
            return Some(&entries[*at]);
        }
        let depth = path.split('/').count();
        if host.below.is_empty() || depth > MAX_SCOPE_DEPTH {
            return None;
        }
        // From the nearest to the farthest, which is from the most to the least specific.
        for _ in 0..depth {
            if let Some(at) = host.below.get(parent) {
                return Some(&entries[*at]);
            }
            parent = parent.rfind('/').map_or("", |end| &parent[..end]);
        }
        None
    }
}

impl Host {
    fn repository(&mut self, name: &str) -> &mut Repository {
        if !self.repositories.contains_key(name) {
            self.repositories.insert(name.to_owned(), Repository::default());
        }
        self.repositories.get_mut(name).expect("it was just made")
    }
}

impl Repository {
    /// The longest of the tags and globs that match `tag`.
    fn tagged(&self, entries: &[ScopeEntry], tag: &str) -> Option<usize> {
        let plain = self.tags.get(tag).copied();
        self.globs.matching(entries, tag).chain(plain).max_by_key(|at| glob(&entries[*at]).len())
    }
}

impl Globs {
    fn add(&mut self, glob: &str, at: usize) {
        let (head, tail) = ends(glob);
        self.heads.insert(head.len());
        self.tails.insert(tail.len());
        self.by_head.entry(head.to_owned()).or_default().entry(tail.to_owned()).or_default().push(at);
    }

    /// The globs that match `tag`.
    fn matching<'a>(&'a self, entries: &'a [ScopeEntry], tag: &'a str) -> impl Iterator<Item = usize> + 'a {
        let by_tail = self.heads.iter().filter_map(move |len| self.by_head.get(tag.get(..*len)?));
        let fitting = by_tail.flat_map(move |by_tail| {
            let tail = |len: &usize| tag.len().checked_sub(*len).and_then(|start| tag.get(start..));
            self.tails.iter().filter_map(move |len| by_tail.get(tail(len)?))
        });
        fitting.flatten().copied().filter(move |at| matches(glob(&entries[*at]), tag))
    }
}

/// Two of the globs `alike`, which are equally long and of one repository, that may share a tag: of one, what stands before
/// the first star begins the other's, and so what stands after the last one ends it. Never says no wrongly.
fn crossing(entries: &[ScopeEntry], alike: &[usize]) -> Option<Clash> {
    let mut by_head: Vec<usize> = alike.to_vec();
    by_head.sort_by_key(|at| (ends(glob(&entries[*at])).0.len(), *at));
    // For each head: the tails of its globs, and all that such a tail ends in.
    let mut whole = HashMap::<&str, HashMap<&str, usize>>::new();
    let mut within = HashMap::<&str, HashMap<&str, usize>>::new();
    for at in by_head {
        let (head, tail) = ends(glob(&entries[at]));
        for end in 0..=head.len() {
            let Some(tails) = whole.get(&head[..end]) else { continue };
            let ending = (0..=tail.len()).find_map(|start| tails.get(&tail[start..]));
            let known = ending.or_else(|| within.get(&head[..end])?.get(tail));
            if let Some(known) = known {
                return Some((at.min(*known), at.max(*known)));
            }
        }
        whole.entry(head).or_default().insert(tail, at);
        let ends = within.entry(head).or_default();
        for start in 0..=tail.len() {
            ends.insert(&tail[start..], at);
        }
    }
    None
}

fn glob(entry: &ScopeEntry) -> &str {
    match &entry.scope {
        Scope::Tags { glob, .. } => glob,
        _ => "",
    }
}

/// What stands before the first star, and after the last one.
fn ends(glob: &str) -> (&str, &str) {
    match (glob.find('*'), glob.rfind('*')) {
        (Some(first), Some(last)) => (&glob[..first], &glob[last + 1..]),
        _ => (glob, glob),
    }
}
