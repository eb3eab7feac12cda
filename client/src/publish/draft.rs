//! A change that waits for signatures: one file, carried between people who are apart in place and time
//! (docs/publishing.md, "Drafts").
//!
//! A draft holds the documents to be published, and what they start from: the chain of roots and the present document of
//! each role on the way. So a machine without a network can tell who must sign and what changes, and need not believe
//! whoever made the draft. Pure: no I/O, no clock.

mod check;
mod rehearse;
mod requirement;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::Digest,
    policy::Verdict,
    record,
    tuf::{self, Document, KeyId, RoleType, Root, Signature, Targets, assemble, json},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::keys::{SignError, Signer};

use check::rewritten;
pub use rehearse::{Live, RehearsalError, Rehearsed, rehearse};
pub use requirement::{Holder, Requirement};
pub use words::words;

/// A draft may be this long, bytes.
pub const MAX_DRAFT: u64 = 64 * 1024 * 1024;
/// The one format there is.
const FORMAT: u32 = 1;

/// The next version of a role.
#[derive(Debug, Clone)]
pub enum Next {
    /// The next root.
    Root(Box<Root>),
    /// The next version of `targets` or of a delegated role.
    Targets(Box<Targets>),
}

impl From<Root> for Next {
    fn from(root: Root) -> Self {
        Self::Root(Box::new(root))
    }
}

impl From<Targets> for Next {
    fn from(targets: Targets) -> Self {
        Self::Targets(Box::new(targets))
    }
}

/// Where a change starts: what is published now.
#[derive(Debug, Clone, Default)]
pub struct Base {
    /// Root documents, each one version after the one before it, the newest last; none before the first root. Only the
    /// newest is needed to submit; a draft that travels has all of them, from version 1 on.
    pub roots: Vec<Vec<u8>>,
    /// The present document of each changed role and of every role above it, as far as there is one.
    pub documents: BTreeMap<String, Vec<u8>>,
}

/// A change that waits for signatures.
#[derive(Debug, Clone)]
pub struct Draft {
    repository: String,
    roots: Vec<Document<Root>>,
    base: BTreeMap<String, Document<Targets>>,
    root: Option<Document<Root>>,
    targets: BTreeMap<String, Document<Targets>>,
}

/// Why a draft cannot be used. All of it is misuse, or somebody tampered with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// Not a draft at all.
    #[error("not a draft of this version of plimsoll: {0}")]
    Shape(String),
    /// Its sum is another one.
    #[error("the draft was damaged on its way, or changed by hand")]
    Damaged,
    /// A document in it is not one.
    #[error("a document in the draft is damaged")]
    Document(#[from] tuf::Error),
    /// What it starts from does not hold together.
    #[error("what the draft starts from does not hold together: {0}")]
    Base(String),
    /// It starts from a root that the pinned one does not lead to.
    #[error(
        "the draft is of another trust repository, or starts from a root that the pinned one does not lead to"
    )]
    Foreign,
    /// It starts from a root that has been replaced.
    #[error(
        "the draft starts from root version {starts}, and this machine has seen version {seen}: who had a say then may \
         have none now"
    )]
    Behind {
        /// The newest root that the draft knows.
        starts: u64,
        /// The newest root that was seen.
        seen: u64,
    },
    /// A document is not the version after the present one.
    #[error("the draft has {role} version {found} where version {expected} must follow")]
    Version {
        /// The role.
        role: String,
        /// The version in the draft.
        found: u64,
        /// The version that must follow.
        expected: u64,
    },
    /// Nobody may sign it.
    #[error("nobody delegates to a role `{0}`")]
    NotDelegated(String),
    /// A document that would not stay the same if a signature were put to it.
    #[error("the draft spells {role} in a way that no version of plimsoll writes, so it cannot be signed")]
    Spelling {
        /// The role.
        role: String,
    },
    /// More signatures are asked for than could ever be given.
    #[error(
        "{role} would need {threshold} signatures of {keys} different keys, so nobody could sign it any more"
    )]
    Threshold {
        /// The role whose keys the draft changes.
        role: String,
        /// How many must sign.
        threshold: u64,
        /// How many could.
        keys: usize,
    },
    /// One key, or one id, stands for two of a role's keys.
    #[error("{role} would have one key twice: as {} and as {}", .keyids[0].short(), .keyids[1].short())]
    KeyTwice {
        /// The role whose keys the draft changes.
        role: String,
        /// The two ids.
        keyids: [KeyId; 2],
    },
    /// The role is not changed.
    #[error("the draft changes {changed} and not {role}")]
    NotChanged {
        /// The role.
        role: String,
        /// The roles that are.
        changed: String,
    },
    /// A signature that does not verify, or of a key that has no say.
    #[error("the draft was tampered with: {role} carries a signature of {keyid} that does not count")]
    Signature {
        /// The role.
        role: String,
        /// The key.
        keyid: KeyId,
    },
    /// Two drafts that are not one change.
    #[error("these are two different changes: they differ in {0}; let everybody sign the same draft")]
    Different(String),
    /// A key that signed all that it is asked for.
    #[error("key {} signed this already", .0.short())]
    AlreadySigned(KeyId),
    /// A key that need not sign.
    #[error("key {} need not sign this: no document in the draft asks for it", .0.short())]
    NotAsked(KeyId),
    /// The key's home did not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl DraftError {
    /// UNTRUSTED for what only damage or an attack explains, CONFLICT for what somebody else changed meanwhile; none for
    /// misuse.
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Damaged | Self::Document(_) | Self::Base(_) | Self::Foreign => Some(Verdict::Untrusted),
            Self::Version { .. } | Self::Signature { .. } | Self::Spelling { .. } => Some(Verdict::Untrusted),
            Self::Behind { .. } => Some(Verdict::Conflict),
            _ => None,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// [`FORMAT`].
    draft: u32,
    /// sha256 over the rest, against damage. Against who computes it anew there are the signatures, and the code.
    sum: Digest,
    repository: String,
    roots: Vec<Box<RawValue>>,
    base: BTreeMap<String, Box<RawValue>>,
    documents: BTreeMap<String, Box<RawValue>>,
}

impl Draft {
    /// A draft without signatures: `next` over `base`, for the trust repository at `repository` (`HOST/REPOSITORY`).
    ///
    /// # Errors
    /// [`DraftError`].
    pub fn new(
        repository: &str,
        base: &Base,
        next: impl IntoIterator<Item = (String, Next)>,
    ) -> Result<Self, DraftError> {
        let mut documents = BTreeMap::new();
        for (role, next) in next {
            let bytes = match next {
                Next::Root(root) => assemble(&*root, &[]),
                Next::Targets(targets) => assemble(&*targets, &[]),
            };
            documents.insert(role, bytes);
        }
        Self::assembled(repository.to_owned(), base, &documents)
    }

    /// Reads a draft and checks everything in it: that the roots are a chain from version 1 on, that the documents it
    /// starts from are signed by whom they must be, that each new one is the next version, that whoever gets a say can
    /// have one, and that each signature counts. Expiry is not looked at: what ran out may be renewed.
    ///
    /// # Errors
    /// [`DraftError`].
    pub fn read(bytes: &[u8]) -> Result<Self, DraftError> {
        let shape = |error: &dyn std::error::Error| DraftError::Shape(error.to_string());
        json::check(bytes).map_err(|error| shape(&error))?;
        let written: Written = record::json(bytes).map_err(|error| shape(&error))?;
        if written.draft != FORMAT {
            return Err(DraftError::Shape(format!("it has format {}", written.draft)));
        }
        let raw = |map: BTreeMap<String, Box<RawValue>>| {
            map.into_iter().map(|(role, raw)| (role, raw.get().as_bytes().to_vec())).collect()
        };
        let roots = written.roots.iter().map(|raw| raw.get().as_bytes().to_vec()).collect();
        let base = Base { roots, documents: raw(written.base) };
        let documents = raw(written.documents);
        if sum(&written.repository, &base, &documents) != written.sum {
            return Err(DraftError::Damaged);
        }
        let draft = Self::assembled(written.repository, &base, &documents)?;
        draft.check_beginning()?;
        Ok(draft)
    }

    /// The draft as a file: JSON with the documents verbatim.
    ///
    /// # Panics
    /// Never: every document is JSON.
    pub fn write(&self) -> Vec<u8> {
        let raw = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).expect("a document is UTF-8");
            RawValue::from_string(text.to_owned()).expect("a document is JSON")
        };
        let raws = |documents: &BTreeMap<String, Vec<u8>>| {
            documents.iter().map(|(role, bytes)| (role.clone(), raw(bytes))).collect()
        };
        let (base, documents) = (self.base(), self.documents());
        let written = Written {
            draft: FORMAT,
            sum: sum(&self.repository, &base, &documents),
            repository: self.repository.clone(),
            roots: base.roots.iter().map(|root| raw(root)).collect(),
            base: raws(&base.documents),
            documents: raws(&documents),
        };
        let mut bytes = serde_json::to_vec(&written).expect("JSON in JSON always serialises");
        bytes.push(b'\n');
        bytes
    }

    /// Where the change shall be published, `HOST/REPOSITORY`. Nobody vouches for this: it is a hint.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The trust id of its documents.
    pub fn trust_id(&self) -> &str {
        let root = self.roots.last().or(self.root.as_ref());
        root.and_then(|root| root.signed.common.identity.as_ref()).map_or("", |identity| &identity.trust)
    }

    /// True if it makes a trust repository: there is no root before it.
    pub fn is_first(&self) -> bool {
        self.roots.is_empty()
    }

    /// What it starts from.
    pub fn base(&self) -> Base {
        Base {
            roots: self.roots.iter().map(|root| root.bytes.to_vec()).collect(),
            documents: self.base.iter().map(|(role, held)| (role.clone(), held.bytes.to_vec())).collect(),
        }
    }

    /// The roots it starts from, the newest last.
    pub fn roots(&self) -> &[Document<Root>] {
        &self.roots
    }

    /// The present document of `role`, if the draft has it. It is verified for the roles above the changed ones; that of a
    /// changed role may be orphaned: [`Draft::is_vouched`].
    pub fn present(&self, role: &str) -> Option<&Document<Targets>> {
        self.base.get(role)
    }

    /// The new root, if the change has one.
    pub fn next_root(&self) -> Option<&Document<Root>> {
        self.root.as_ref()
    }

    /// The new versions of `targets` and delegated roles, parents before children.
    pub fn next_targets(&self) -> impl Iterator<Item = (&str, &Document<Targets>)> {
        self.targets.iter().map(|(role, document)| (role.as_str(), document))
    }

    /// A code over everything that is to be signed: everybody who signs the same change reads the same 16 hex digits.
    pub fn code(&self) -> String {
        let mut all = Vec::new();
        for canonical in
            self.root.iter().map(Document::canonical).chain(self.targets.values().map(Document::canonical))
        {
            all.extend_from_slice(Digest::of(canonical).hex().as_bytes());
        }
        Digest::of(&all).hex()[..16].to_owned()
    }

    /// True if nobody signed any of it yet.
    pub fn is_unsigned(&self) -> bool {
        self.versions().keys().all(|role| self.signatures(role).is_empty())
    }

    /// True if every document has the signatures it needs.
    pub fn is_complete(&self) -> bool {
        self.requirements().iter().all(|requirement| requirement.missing() == 0)
    }

    /// The documents with the signatures they have, by role.
    pub fn documents(&self) -> BTreeMap<String, Vec<u8>> {
        let root = self.root.iter().map(|root| ("root".to_owned(), root.bytes.to_vec()));
        let targets = self.targets.iter().map(|(role, document)| (role.clone(), document.bytes.to_vec()));
        root.chain(targets).collect()
    }

    /// The version of each document, by role.
    pub fn versions(&self) -> BTreeMap<String, u64> {
        let root = self.root.iter().map(|root| ("root".to_owned(), root.version()));
        root.chain(self.targets.iter().map(|(role, document)| (role.clone(), document.version()))).collect()
    }

    /// The first document that is over at `now`, and when it expired.
    pub fn expired(&self, now: DateTime<Utc>) -> Option<(String, DateTime<Utc>)> {
        let root = self.root.iter().map(|root| ("root", root.signed.common.expires));
        let targets = self.targets.iter().map(|(role, held)| (role.as_str(), held.signed.common.expires));
        let over = root.chain(targets).find(|(_, expires)| *expires <= now);
        over.map(|(role, expires)| (role.to_owned(), expires))
    }

    /// Signs every document that asks for the signer's key and has no signature of it. Returns their roles.
    ///
    /// # Errors
    /// [`DraftError::NotAsked`], [`DraftError::AlreadySigned`], [`DraftError::Sign`].
    pub fn sign(&mut self, signer: &dyn Signer) -> Result<Vec<String>, DraftError> {
        let id = signer.key_id();
        let asked = self.roles_asking(&id)?;
        for role in &asked {
            let sig = data_encoding::HEXLOWER.encode(&signer.sign(&self.payload(role)?)?);
            self.add(role, Signature { keyid: id.clone(), sig })?;
        }
        Ok(asked)
    }

    /// What is signed for `role`: the canonical form of its new document.
    ///
    /// # Errors
    /// [`DraftError::NotChanged`].
    pub fn payload(&self, role: &str) -> Result<Vec<u8>, DraftError> {
        match (role, &self.root) {
            ("root", Some(root)) => Ok(root.canonical().to_vec()),
            _ => match self.targets.get(role) {
                Some(document) => Ok(document.canonical().to_vec()),
                None => Err(self.not_changed(role)),
            },
        }
    }

    /// Adds a signature over [`Draft::payload`] that was made elsewhere.
    ///
    /// # Errors
    /// [`DraftError::NotAsked`], [`DraftError::AlreadySigned`], [`DraftError::Signature`], [`DraftError::NotChanged`].
    pub fn attach(&mut self, role: &str, keyid: &KeyId, signature: &[u8]) -> Result<(), DraftError> {
        self.payload(role)?;
        if !self.roles_asking(keyid)?.iter().any(|asking| asking == role) {
            return Err(DraftError::NotAsked(keyid.clone()));
        }
        let mut with = self.clone();
        with.add(role, Signature { keyid: keyid.clone(), sig: data_encoding::HEXLOWER.encode(signature) })?;
        with.check_signatures()?;
        *self = with;
        Ok(())
    }

    /// Takes over the signatures of `other`, a copy of the same change. Returns how many were new.
    ///
    /// # Errors
    /// [`DraftError::Different`]; the draft is then as it was.
    pub fn merge(&mut self, other: &Self) -> Result<usize, DraftError> {
        let canonical = |draft: &Self| -> BTreeMap<String, Vec<u8>> {
            draft
                .versions()
                .into_keys()
                .map(|role| (role.clone(), draft.payload(&role).unwrap_or_default()))
                .collect()
        };
        let (ours, theirs) = (canonical(self), canonical(other));
        let roles: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        if let Some(role) = roles.into_iter().find(|role| ours.get(*role) != theirs.get(*role)) {
            return Err(DraftError::Different(role.clone()));
        }
        let start = |draft: &Self| draft.roots.last().map(Document::digest);
        if start(self) != start(other) {
            return Err(DraftError::Different("the root they start from".to_owned()));
        }
        let (mut with, mut new) = (self.clone(), 0);
        for role in ours.keys() {
            let known = self.signatures(role);
            let is_new = |theirs: &&Signature| known.iter().all(|known| known.keyid != theirs.keyid);
            for signature in other.signatures(role).iter().filter(is_new) {
                with.add(role, signature.clone())?;
                new += 1;
            }
        }
        with.check_signatures()?;
        *self = with;
        Ok(new)
    }

    fn signatures(&self, role: &str) -> &[Signature] {
        match (role, &self.root) {
            ("root", Some(root)) => &root.signatures,
            _ => self.targets.get(role).map_or(&[], |document| &document.signatures),
        }
    }

    fn add(&mut self, role: &str, signature: Signature) -> Result<(), DraftError> {
        match (role, &mut self.root) {
            ("root", Some(root)) => put(role, root, signature),
            _ => match self.targets.get_mut(role) {
                Some(document) => put(role, document, signature),
                None => Err(self.not_changed(role)),
            },
        }
    }

    fn not_changed(&self, role: &str) -> DraftError {
        let changed: Vec<String> = self.versions().into_keys().collect();
        DraftError::NotChanged { role: role.to_owned(), changed: changed.join(", ") }
    }
}

/// Puts one signature more to the document, which stays the same otherwise.
fn put<T: RoleType>(role: &str, document: &mut Document<T>, signature: Signature) -> Result<(), DraftError> {
    let mut signatures = document.signatures.clone();
    signatures.retain(|known| known.keyid != signature.keyid);
    signatures.push(signature);
    *document = rewritten(role, document, &signatures)?;
    Ok(())
}

fn sum(repository: &str, base: &Base, documents: &BTreeMap<String, Vec<u8>>) -> Digest {
    let counts = format!("{} {} {}", base.roots.len(), base.documents.len(), documents.len());
    let mut parts = vec![repository.as_bytes(), counts.as_bytes()];
    parts.extend(base.roots.iter().map(Vec::as_slice));
    for (role, bytes) in base.documents.iter().chain(documents) {
        parts.extend([role.as_bytes(), bytes]);
    }
    // The hash of each part has one length, so nothing can move from one part to the next.
    let hashes: String = parts.into_iter().map(|part| Digest::of(part).hex()).collect();
    Digest::of(hashes.as_bytes())
}
