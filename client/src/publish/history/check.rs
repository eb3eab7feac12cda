//! Verifies the versions of a role, oldest first. Pure.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use plimsoll_core::tuf::{
    Document, Error, KeyId, MetaFile, Root, Targets, Trusted, distinct_signers,
    metadata::{Common, RoleType},
};

use super::{
    Entry, Fault, History, NamedKey,
    changes::{self, Grant},
    named,
};
use crate::publish::author::key_names;

/// The keys that a role had, one after the other.
#[derive(Debug, Default)]
pub(super) struct Eras {
    list: Vec<Era>,
    /// What people called all of these keys.
    names: BTreeMap<KeyId, String>,
    /// True if nobody could have signed the role before the first of them.
    whole: bool,
}

/// A time in which a role's keys did not change.
#[derive(Debug)]
struct Era {
    /// When it began, by the delegator's word.
    at: Option<DateTime<Utc>>,
    /// None while nobody delegates to the role.
    grant: Option<Grant>,
}

impl Eras {
    /// Takes what the next version of the delegator says of the role.
    fn push(&mut self, delegator: &Common, names: &BTreeMap<KeyId, String>, grant: Option<&Grant>) {
        let keyids = grant.iter().flat_map(|grant| &grant.keyids);
        let known = keyids.filter_map(|id| Some((id.clone(), names.get(id)?.clone())));
        self.names.extend(known);
        let same = match (self.list.last().map(|era| era.grant.as_ref()), grant) {
            (Some(Some(last)), Some(grant)) => last.same_keys(grant),
            (Some(None), None) => true,
            _ => false,
        };
        if !same {
            self.list.push(Era { at: at(delegator), grant: grant.cloned() });
        }
    }

    /// Who may sign now.
    fn present(&self) -> BTreeSet<KeyId> {
        let grant = self.list.last().and_then(|era| era.grant.as_ref());
        grant.map(|grant| grant.keyids.clone()).unwrap_or_default()
    }

    /// Those whose signatures on `document` count in the era `index`, if they meet its threshold.
    fn vouching<T>(&self, index: usize, document: &Document<T>) -> Option<Vec<KeyId>> {
        let grant = self.list[index].grant.as_ref()?;
        let signers = signers(document, grant);
        (signers.len() as u64 >= grant.threshold.max(1)).then_some(signers)
    }

    /// The first era from `low` on whose keys vouch for `document`; and who signed, by the era that it was most likely
    /// signed in: the newest one that had begun by its own word and whose keys vouch for it.
    fn find<T: RoleType>(&self, low: usize, document: &Document<T>) -> Option<(usize, Vec<KeyId>)> {
        let eras = low..self.list.len();
        let (first, signers) =
            eras.clone().find_map(|index| Some((index, self.vouching(index, document)?)))?;
        let signed = at(document.signed.common());
        let begun = |index: &usize| self.list[*index].at.is_some_and(|at| signed >= Some(at));
        let later = eras.rev().take_while(|index| *index > first).filter(begun);
        let later = later.filter_map(|index| self.vouching(index, document)).next();
        Some((first, later.unwrap_or(signers)))
    }
}

/// The distinct keys of `grant` that validly signed `document`, one id for each, in the order of the signatures.
fn signers<T>(document: &Document<T>, grant: &Grant) -> Vec<KeyId> {
    let keyids: Vec<KeyId> = grant.keyids.iter().cloned().collect();
    let mut left = distinct_signers(document, &grant.keys, &keyids);
    let ids = document.signatures.iter().map(|signature| &signature.keyid);
    let counted = ids.filter(|id| {
        let public = grant.keys.get(*id).and_then(|key| key.public().ok());
        public.is_some_and(|public| left.remove(&public))
    });
    counted.cloned().collect()
}

fn at(common: &Common) -> Option<DateTime<Utc>> {
    common.identity.as_ref().map(|identity| identity.at)
}

/// The versions of the root, from the pinned one on.
pub(super) struct Roots {
    chain: Trusted,
    before: Option<Root>,
    entries: Vec<Entry>,
    names: BTreeMap<KeyId, String>,
    targets: Eras,
}

impl Roots {
    /// Begins with the root that is trusted out of band.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn new(pinned: &[u8], now: DateTime<Utc>) -> Result<Self, Error> {
        let chain = Trusted::new(pinned, now)?;
        let (entries, names) = (Vec::new(), BTreeMap::new());
        let targets = Eras { whole: chain.root().version() == 1, ..Eras::default() };
        let mut roots = Self { chain, before: None, entries, names, targets };
        roots.trusted();
        Ok(roots)
    }

    /// Takes the next version as the daemon has it.
    pub(super) fn take(&mut self, version: u64, bytes: Option<&[u8]>) {
        let Some(bytes) = bytes else { return self.fault(version, Fault::Missing) };
        match self.chain.update_root(bytes) {
            Ok(()) => self.trusted(),
            Err(error) => self.fault(version, Fault::Untrusted(error)),
        }
    }

    /// Takes the newest version, which an update verified, whatever is wrong with those before it.
    pub(super) fn newest(&mut self, newest: &Document<Root>) -> Result<(), Error> {
        if newest.version() > self.chain.root().version() {
            if self.chain.update_root(&newest.bytes).is_err() {
                self.chain = Trusted::new(&newest.bytes, self.chain.now())?;
            }
            self.trusted();
        }
        Ok(())
    }

    /// The history, and the keys of `targets`.
    pub(super) fn finish(self) -> (History, Eras) {
        let present = self.chain.root().signed.roles["root"].keyids.iter().cloned().collect();
        (History { role: "root".to_owned(), entries: self.entries, present }, self.targets)
    }

    fn fault(&mut self, version: u64, fault: Fault) {
        self.entries.push(Entry::faulty("root", version, fault));
    }

    fn trusted(&mut self) {
        let root = self.chain.root().clone();
        let now = &root.signed;
        self.names.extend(key_names(&now.common));
        let grants = changes::grants_of_root(now);
        self.targets.push(&now.common, &key_names(&now.common), grants.get("targets"));
        let mut ids: Vec<KeyId> = Vec::new();
        let before = self.before.as_ref().map(changes::grants_of_root);
        for grant in [before.as_ref().and_then(|grants| grants.get("root")), grants.get("root")] {
            let signers = grant.map(|grant| signers(&root, grant)).unwrap_or_default();
            let new: Vec<KeyId> = signers.into_iter().filter(|id| !ids.contains(id)).collect();
            ids.extend(new);
        }
        let signers = ids.iter().map(|id| named(id, &self.names)).collect();
        let changes = changes::of_root(self.before.as_ref(), now);
        self.entries.push(entry("root", &now.common, signers, changes));
        self.before = Some(now.clone());
    }
}

/// The versions of one targets role, from the first on.
pub(super) struct Role<'a> {
    role: &'a str,
    /// The trust id that every document must carry.
    trust: Option<&'a str>,
    pinned: u64,
    eras: &'a Eras,
    /// The era whose keys vouched for the last version: those before it are over.
    low: usize,
    before: Option<Targets>,
    entries: Vec<Entry>,
    below: BTreeMap<String, Eras>,
}

impl<'a> Role<'a> {
    pub(super) fn new(role: &'a str, trust: Option<&'a str>, pinned: u64, eras: &'a Eras) -> Self {
        let (entries, below) = (Vec::new(), BTreeMap::new());
        Self { role, trust, pinned, eras, low: 0, before: None, entries, below }
    }

    /// Takes the next version as the daemon has it; `meta` is what the snapshot says of it, if it is the newest.
    pub(super) fn take(&mut self, version: u64, bytes: Option<&[u8]>, meta: Option<&MetaFile>) {
        let entry = match bytes.map(|bytes| self.verified(version, bytes, meta)) {
            None => Entry::faulty(self.role, version, Fault::Missing),
            Some(Ok((document, signers))) => self.trusted(document, &signers),
            Some(Err(Error::Threshold { .. })) if self.before.is_none() && !self.eras.whole => {
                Entry::faulty(self.role, version, Fault::Unproven { pinned: self.pinned })
            }
            Some(Err(error)) => Entry::faulty(self.role, version, Fault::Untrusted(error)),
        };
        self.entries.push(entry);
    }

    /// The history, and the keys of the roles that it ever delegated to.
    pub(super) fn finish(self) -> (History, BTreeMap<String, Eras>) {
        let present = self.eras.present();
        (History { role: self.role.to_owned(), entries: self.entries, present }, self.below)
    }

    fn verified(
        &mut self,
        version: u64,
        bytes: &[u8],
        meta: Option<&MetaFile>,
    ) -> Result<(Document<Targets>, Vec<KeyId>), Error> {
        let role = || self.role.to_owned();
        if meta.is_some_and(|meta| !meta.fits(bytes)) {
            let algorithm = "length or hash".to_owned();
            return Err(Error::Hash { role: role(), referrer: "the snapshot", algorithm });
        }
        let document = Document::<Targets>::parse(self.role, bytes)?;
        if document.version() != version {
            return Err(Error::Version { role: role(), expected: version, found: document.version() });
        }
        let identity = document.signed.common.identity.as_ref();
        if let Some(view) = identity.and_then(|identity| identity.view.clone()) {
            return Err(Error::View { role: role(), view });
        }
        let found = identity.map(|identity| identity.trust.as_str());
        if let Some(expected) = self.trust.filter(|expected| found != Some(*expected)) {
            let (expected, found) = (expected.to_owned(), found.unwrap_or("none").to_owned());
            return Err(Error::Identity { role: role(), expected, found });
        }
        let Some((era, signers)) = self.eras.find(self.low, &document) else {
            let grant = self.eras.list.iter().rev().find_map(|era| era.grant.as_ref());
            let have = grant.map_or(0, |grant| signers(&document, grant).len() as u64);
            let need = grant.map_or(1, |grant| grant.threshold);
            return Err(Error::Threshold { role: role(), have, need });
        };
        self.low = era;
        Ok((document, signers))
    }

    fn trusted(&mut self, document: Document<Targets>, signers: &[KeyId]) -> Entry {
        let now = document.signed;
        // Only what the first version that is known delegates may have been delegated before.
        let known = self.before.is_some() || self.eras.whole || now.common.version == 1;
        let (grants, names) = (changes::grants_of(&now), key_names(&now.common));
        for role in grants.keys().filter(|role| !self.below.contains_key(*role)).cloned().collect::<Vec<_>>()
        {
            self.below.insert(role, Eras { whole: known, ..Eras::default() });
        }
        for (role, eras) in &mut self.below {
            eras.push(&now.common, &names, grants.get(role));
        }
        let signers = signers.iter().map(|id| named(id, &self.eras.names)).collect();
        let changes = changes::of_targets(self.before.as_ref(), &now);
        let entry = entry(self.role, &now.common, signers, changes);
        self.before = Some(now);
        entry
    }
}

fn entry(role: &str, common: &Common, signers: Vec<NamedKey>, changes: Vec<super::Change>) -> Entry {
    Entry {
        role: role.to_owned(),
        version: common.version,
        at: at(common),
        expires: Some(common.expires),
        signers,
        changes,
        fault: None,
    }
}
