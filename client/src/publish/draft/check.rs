//! What must hold of a draft before anybody looks at it. Pure: no I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_core::{
    oci::Digest,
    tuf::{
        self, Document, Identity, Key, KeyId, MAX_VERIFICATIONS, Mark, RoleType, Root, Signature, assemble,
        limit, verify,
    },
};

use super::{Base, Draft, DraftError, Requirement};

impl Draft {
    /// Checks that the draft goes on from the root document `pinned`, which the caller trusts, or makes it.
    ///
    /// # Errors
    /// [`DraftError::Foreign`].
    pub fn check_pinned(&self, pinned: &[u8]) -> Result<(), DraftError> {
        let digest = Digest::of(pinned);
        let makes = || {
            let pinned = Document::<Root>::parse("root", pinned).ok();
            let made = self.root.as_ref().filter(|_| self.is_first());
            pinned.zip(made).is_some_and(|(pinned, made)| pinned.canonical() == made.canonical())
        };
        if self.roots.iter().any(|root| root.digest() == digest) || makes() {
            Ok(())
        } else {
            Err(DraftError::Foreign)
        }
    }

    /// Checks that the draft starts from the root `newest`, the newest that was seen, or from a later one.
    ///
    /// # Errors
    /// [`DraftError::Behind`] if it ends before that one, [`DraftError::Foreign`] if it goes another way.
    pub fn check_newest(&self, newest: &Mark) -> Result<(), DraftError> {
        let starts = self.roots.last().map_or(0, Document::version);
        let is_newest = |root: &Document<Root>| {
            root.version() == newest.version && newest.digest.is_none_or(|digest| digest == root.digest())
        };
        if self.roots.iter().any(is_newest) {
            Ok(())
        } else if starts < newest.version {
            Err(DraftError::Behind { starts, seen: newest.version })
        } else {
            Err(DraftError::Foreign)
        }
    }

    /// A draft of these documents, if all of them hold together.
    pub(super) fn assembled(
        repository: String,
        base: &Base,
        documents: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Self, DraftError> {
        let roots = base.roots.iter().map(|bytes| parse("root", bytes)).collect::<Result<_, _>>()?;
        let targets = |documents: &BTreeMap<String, Vec<u8>>| {
            let targets = documents.iter().filter(|(role, _)| *role != "root");
            targets
                .map(|(role, bytes)| Ok((role.clone(), parse(role, bytes)?)))
                .collect::<Result<_, DraftError>>()
        };
        let draft = Self {
            repository,
            roots,
            base: targets(&base.documents)?,
            root: documents.get("root").map(|bytes| parse("root", bytes)).transpose()?,
            targets: targets(documents)?,
        };
        draft.check_base()?;
        draft.check_next()?;
        draft.check_keys()?;
        draft.check_signatures()?;
        Ok(draft)
    }

    /// The roots are a chain (5.3.4, 5.3.5), and every role above a changed one is signed by whom its parent names.
    fn check_base(&self) -> Result<(), DraftError> {
        let mut before: Option<&Document<Root>> = None;
        for root in &self.roots {
            for by in before.into_iter().chain([root]) {
                let keys = &by.signed.roles["root"];
                verify(root.clone(), "root", &by.signed.keys, &keys.keyids, keys.threshold)?;
            }
            if before.is_some_and(|before| before.version() + 1 != root.version()) {
                return Err(DraftError::Base(format!("root version {} does not follow", root.version())));
            }
            before = Some(root);
        }
        for role in self.base.keys() {
            let changed = self.targets.contains_key(role);
            if !changed && !self.targets.keys().any(|below| is_above(role, below)) {
                return Err(DraftError::Base(format!("{role} has nothing to do with the change")));
            }
            if !changed && !self.is_vouched(role) {
                return Err(DraftError::Base(format!("{role} is not signed by the keys that may sign it")));
            }
        }
        Ok(())
    }

    /// Each new document is the version after the present one, of the same trust repository, and somebody may sign it.
    fn check_next(&self) -> Result<(), DraftError> {
        if self.root.is_none() && self.targets.is_empty() {
            return Err(DraftError::Shape("it changes nothing".to_owned()));
        }
        if let Some(root) = &self.root {
            follows("root", root.version(), self.roots.last().map(Document::version))?;
            rewritten("root", root, &root.signatures)?;
        }
        for (role, document) in &self.targets {
            follows(role, document.version(), self.base.get(role).map(Document::version))?;
            self.keys_of(role).ok_or_else(|| DraftError::NotDelegated(role.clone()))?;
            rewritten(role, document, &document.signatures)?;
        }
        let trust = |identity: Option<&Identity>| identity.map(|identity| identity.trust.clone());
        let mut ids: BTreeSet<Option<String>> = BTreeSet::new();
        ids.extend(
            self.roots.iter().chain(&self.root).map(|root| trust(root.signed.common.identity.as_ref())),
        );
        let targets = self.base.values().chain(self.targets.values());
        ids.extend(targets.map(|document| trust(document.signed.common.identity.as_ref())));
        if ids.len() != 1 || ids.contains(&None) {
            return Err(DraftError::Base("its documents are of different trust repositories".to_owned()));
        }
        Ok(())
    }

    /// A draft that travels has every root, so that a rehearsal misses no client.
    pub(super) fn check_beginning(&self) -> Result<(), DraftError> {
        match self.roots.first().map(Document::version) {
            None | Some(1) => Ok(()),
            Some(version) => Err(DraftError::Base(format!("it begins at root version {version}"))),
        }
    }

    /// Whoever gets a say by this change can have one: enough keys for the threshold, each of them once.
    fn check_keys(&self) -> Result<(), DraftError> {
        if let Some(next) = &self.root {
            let (new, old) = (&next.signed, self.roots.last().map(|root| &root.signed));
            for (role, keys) in &new.roles {
                let before = old.and_then(|old| {
                    Some((&old.roles.get(role)?.keyids, old.roles[role].threshold, &old.keys))
                });
                signable(role, before, (&keys.keyids, keys.threshold, &new.keys))?;
            }
        }
        for (role, next) in &self.targets {
            let Some(new) = &next.signed.delegations else { continue };
            let present =
                self.base.get(role).filter(|_| self.is_vouched(role)).map(|present| &present.signed);
            let old = present.and_then(|present| present.delegations.as_ref());
            for child in &new.roles {
                let before = old.and_then(|old| {
                    let before = old.roles.iter().find(|before| before.name == child.name)?;
                    Some((&before.keys.keyids, before.keys.threshold, &old.keys))
                });
                signable(&child.name, before, (&child.keys.keyids, child.keys.threshold, &new.keys))?;
            }
        }
        Ok(())
    }

    /// Every signature is a valid one of a key that is asked for it.
    pub(super) fn check_signatures(&self) -> Result<(), DraftError> {
        let requirements = self.requirements();
        for role in self.versions().into_keys() {
            for signature in self.signatures(&role) {
                let counts = |requirement: &Requirement| {
                    requirement.role == role
                        && requirement.keys.iter().any(|key| key.keyid == signature.keyid && key.signed)
                };
                if !requirements.iter().any(counts) {
                    return Err(DraftError::Signature { role, keyid: signature.keyid.clone() });
                }
            }
        }
        Ok(())
    }
}

fn is_above(role: &str, below: &str) -> bool {
    below.strip_prefix(role).is_some_and(|rest| rest.starts_with("--"))
}

/// The ids of a role's keys, how many of them must sign, and what the ids stand for.
type Given<'a> = (&'a Vec<KeyId>, u64, &'a BTreeMap<KeyId, Key>);

/// Refuses keys that could not sign `role`. What was published `before` and stays is not judged.
fn signable(role: &str, before: Option<Given<'_>>, now: Given<'_>) -> Result<(), DraftError> {
    let (keyids, threshold, keys) = now;
    let stays = |(old_ids, old_threshold, old_keys): Given<'_>| {
        old_ids == keyids
            && old_threshold == threshold
            && keyids.iter().all(|id| old_keys.get(id) == keys.get(id))
    };
    if before.is_some_and(stays) {
        return Ok(());
    }
    let (mut listed, mut distinct) = (BTreeSet::new(), BTreeMap::new());
    for id in keyids {
        let twice = |other: &KeyId| DraftError::KeyTwice {
            role: role.to_owned(),
            keyids: [other, id].map(Clone::clone),
        };
        if !listed.insert(id) {
            return Err(twice(id));
        }
        let public = keys.get(id).and_then(|key| key.public().ok());
        if let Some(other) = public.and_then(|public| distinct.insert(public, id)) {
            return Err(twice(other));
        }
    }
    let most = distinct.len().min(MAX_VERIFICATIONS);
    if threshold > most as u64 {
        return Err(DraftError::Threshold { role: role.to_owned(), threshold, keys: most });
    }
    Ok(())
}

fn follows(role: &str, found: u64, present: Option<u64>) -> Result<(), DraftError> {
    let expected = present.unwrap_or_default() + 1;
    if found == expected {
        Ok(())
    } else {
        Err(DraftError::Version { role: role.to_owned(), found, expected })
    }
}

/// The same document with these signatures. One that does not survive being written anew is not one of ours: what a
/// signer would sign is not what they were shown.
pub(super) fn rewritten<T: RoleType>(
    role: &str,
    document: &Document<T>,
    signatures: &[Signature],
) -> Result<Document<T>, DraftError> {
    let written = parse(role, &assemble(&document.signed, signatures))?;
    if written.canonical() == document.canonical() {
        Ok(written)
    } else {
        Err(DraftError::Spelling { role: role.to_owned() })
    }
}

fn parse<T: RoleType>(role: &str, bytes: &[u8]) -> Result<Document<T>, DraftError> {
    let limit = limit::of(role);
    if bytes.len() as u64 > limit {
        return Err(tuf::Error::TooLong { role: role.to_owned(), limit }.into());
    }
    Ok(Document::parse(role, bytes)?)
}
