//! The trusted-metadata state machine (TUF 1.0.34, section 5): one method per role, in spec order.

mod checks;
mod memory;

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};

pub use self::memory::{HighWater, Mark, SnapshotMark};
pub(super) use self::{
    checks::held_targets,
    memory::{not_older, same_if_known},
};
use self::{
    checks::{
        check_identity, check_limit, check_meta, check_verbatim, held_timestamp, lapsed, not_delegated,
        parse, replaced, signed_as_delegated, trust_id, verify_top,
    },
    memory::{keep_known, mark, same_hashes, same_version},
};
use super::{Bounds, Document, Error, MetaFile, Root, Snapshot, Targets, Timestamp, Verified, verify::meets};
use crate::oci::Digest;

/// At most this many root steps in one run (5.3.3). Verified roots persist, so the next run goes on.
pub const MAX_ROOT_STEPS: u64 = 256;

/// What a timestamp brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampUpdate {
    /// A newer one: to be persisted.
    New,
    /// What is already held, possibly with other signatures or spelled otherwise: the held one stays.
    Same,
    /// The held version with other content. The held one stays; the signer, or who holds its key, said two things.
    Equivocated,
}

/// Verified metadata at one fixed time.
///
/// A refused document leaves everything here as it was before the call. Documents must come in the order root,
/// timestamp, snapshot, targets, delegated roles. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Trusted {
    now: DateTime<Utc>,
    bounds: Arc<Bounds>,
    memory: HighWater,
    root: Verified<Root>,
    root_final: bool,
    /// The memory is of an older root than `root`: what lapsed in between is not forgotten yet.
    behind: bool,
    held_timestamp: Option<Arc<Document<Timestamp>>>,
    /// The snapshot of the memory, once it was read.
    held_snapshot: Option<Arc<Document<Snapshot>>>,
    timestamp: Option<Verified<Timestamp>>,
    snapshot: Option<Verified<Snapshot>>,
    /// The timestamp names the snapshot of the memory, which need not have been read.
    snapshot_kept: bool,
    /// By role: who delegated, and the document.
    roles: BTreeMap<String, (String, Verified<Targets>)>,
}

impl Trusted {
    /// Starts from a root that is trusted out of band (5.2). `now` is the fixed update start time (5.1).
    ///
    /// # Errors
    /// If the bytes are not a root that its own keys vouch for.
    pub fn new(root: &[u8], now: DateTime<Utc>) -> Result<Self, Error> {
        Self::begin(&Arc::new(parse::<Root>("root", root)?), now)
    }

    fn begin(document: &Arc<Document<Root>>, now: DateTime<Utc>) -> Result<Self, Error> {
        let root = verify_top(document.clone(), &document.signed, "root")?;
        check_identity("root", &root, None)?;
        let memory = HighWater { root: Some(mark(&root)), ..HighWater::default() };
        Ok(Self::start(root, memory, now))
    }

    /// Goes on from what an earlier update remembered. `root` is trusted out of band, or the one that `memory` names,
    /// which is then believed by its sha256. `timestamp` is the cached document, taken only if it is the one that
    /// `memory` names; a lost one is fetched again and held to `memory` all the same.
    ///
    /// If `memory` knows a newer root than the one given, the chain must reach it before [`Trusted::finish_root`]. If
    /// it knows only an older one (a crash between the two writes), what lapsed in between is forgotten first.
    ///
    /// # Errors
    /// As [`Trusted::new`].
    pub fn resume(
        root: &[u8],
        memory: HighWater,
        timestamp: Option<&[u8]>,
        now: DateTime<Utc>,
    ) -> Result<Self, Error> {
        let known = memory.root.is_some_and(|seen| seen.digest == Some(Digest::of(root)));
        let mut trusted = if known {
            let root = Verified::remembered(Arc::new(parse::<Root>("root", root)?));
            Self::start(root, HighWater::default(), now)
        } else {
            Self::new(root, now)?
        };
        let given = mark(&trusted.root);
        trusted.memory = memory;
        trusted.held_timestamp = held_timestamp(timestamp, trusted.memory.timestamp);
        // The memory says `given` only once what lapsed is forgotten: whoever starts again from it is behind as well.
        trusted.behind = trusted.memory.root.get_or_insert(given).version < given.version;
        Ok(trusted)
    }

    fn start(root: Verified<Root>, memory: HighWater, now: DateTime<Utc>) -> Self {
        Self {
            now,
            bounds: Arc::default(),
            memory,
            root,
            root_final: false,
            behind: false,
            held_timestamp: None,
            held_snapshot: None,
            timestamp: None,
            snapshot: None,
            snapshot_kept: false,
            roles: BTreeMap::new(),
        }
    }

    /// A client that remembers what this one does, at the start of an update at `now`.
    #[must_use]
    pub fn again(&self, now: DateTime<Utc>) -> Self {
        let mut next = self.clone();
        (next.now, next.root_final, next.timestamp) = (now, false, None);
        next.forget_verified_snapshot();
        next
    }

    /// A client that knows nothing but the root trusted here, of which it has verified its own threshold.
    ///
    /// # Errors
    /// [`Error::Threshold`].
    pub fn afresh(&self, now: DateTime<Utc>) -> Result<Self, Error> {
        Self::begin(&self.root.document(), now)
    }

    /// The same, held to `bounds` from here on. To be called before anything else.
    ///
    /// # Errors
    /// [`Error::Equivocation`] if a floor names another root of this version.
    pub fn bounded(mut self, bounds: Arc<Bounds>) -> Result<Self, Error> {
        bounds.check_root(mark(&self.root))?;
        self.bounds = bounds;
        Ok(self)
    }

    /// True if the memory is of an older root than the trusted one, so that what lapsed in between is still to be
    /// forgotten: [`Trusted::finish_root`] needs the memory's snapshot then.
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// True if the memory's snapshot must be brought back by [`Trusted::hold_snapshot`] before a new root, a new
    /// snapshot or a search: they need the versions of the roles that it lists.
    pub fn needs_snapshot(&self) -> bool {
        self.memory.snapshot.is_some() && self.held_snapshot.is_none()
    }

    /// Brings back the snapshot that the memory names, believed by its sha256.
    ///
    /// # Errors
    /// [`Error::Hash`] if it is another one; if it was kept already, and lists less than a floor does, those of
    /// [`Trusted::update_snapshot`].
    pub fn hold_snapshot(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.memory.snapshot.is_none_or(|seen| seen.digest != Digest::of(bytes)) {
            let (role, algorithm) = ("snapshot".to_owned(), "sha256".to_owned());
            return Err(Error::Hash { role, referrer: "the memory", algorithm });
        }
        let document = Arc::new(parse::<Snapshot>("snapshot", bytes)?);
        if self.snapshot_kept {
            self.bounds.check_snapshot(&self.root.signed, mark(&document), Some(&document.signed))?;
            self.snapshot = Some(Verified::remembered(document.clone()));
        }
        self.held_snapshot = Some(document);
        Ok(())
    }

    /// The memory as it stands now; to be persisted with each role that verifies.
    pub fn memory(&self) -> &HighWater {
        &self.memory
    }

    /// The fixed time.
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// By how much the timestamp or the snapshot that was taken is past its expiry, whichever more: only
    /// [`Bounds::max_staleness`] lets them be. None if both are fresh, or none was taken yet.
    pub fn stale_by(&self) -> Option<TimeDelta> {
        let timestamp = self.timestamp.as_ref().map(|timestamp| timestamp.signed.common.expires);
        let taken = self.snapshot_kept || self.snapshot.is_some();
        let snapshot = self.memory.snapshot.filter(|_| taken).map(|snapshot| snapshot.expires);
        let expires = timestamp.into_iter().chain(snapshot).min()?;
        (self.now >= expires).then(|| self.now - expires)
    }

    /// True if the view is stale: [`Trusted::stale_by`] says by how much.
    pub fn is_stale(&self) -> bool {
        self.stale_by().is_some()
    }

    /// The newest root verified so far.
    pub fn root(&self) -> &Verified<Root> {
        &self.root
    }

    /// The timestamp, once verified.
    pub fn timestamp(&self) -> Option<&Verified<Timestamp>> {
        self.timestamp.as_ref()
    }

    /// The snapshot, once verified and read: see [`Trusted::keep_snapshot`].
    pub fn snapshot(&self) -> Option<&Verified<Snapshot>> {
        self.snapshot.as_ref()
    }

    /// A targets role, once verified, and the role that delegated to it (`root` for `targets`).
    pub fn role(&self, role: &str) -> Option<(&str, &Verified<Targets>)> {
        self.roles.get(role).map(|(delegator, document)| (delegator.as_str(), document))
    }

    /// Every targets role that was verified, in the order of their names.
    pub fn roles(&self) -> impl Iterator<Item = (&str, &Verified<Targets>)> {
        self.roles.iter().map(|(role, (_, document))| (role.as_str(), document))
    }

    /// The trust id that every document must carry, once a root carries one.
    pub fn trust_id(&self) -> Option<&str> {
        trust_id(&self.root)
    }

    /// Takes the successor of the trusted root (5.3).
    ///
    /// # Errors
    /// If it is not signed by both thresholds, not the next version, of another trust repository, or not the root that
    /// the memory knows of this version.
    pub fn update_root(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.settle("root")?;
        let document = parse::<Root>("root", bytes)?;
        // 5.3.4: signed by a threshold of the trusted root's keys, and by a threshold of its own.
        let trusted = &self.root.signed;
        let keys = &trusted.roles["root"];
        meets(&document, "root", &trusted.keys, &keys.keyids, keys.threshold)?;
        let new = document.signed.clone();
        let document = verify_top(document, &new, "root")?;
        // 5.3.5: exactly the next version.
        let expected = self.root.version() + 1;
        if document.version() != expected {
            return Err(Error::RootVersion { expected, found: document.version() });
        }
        check_identity("root", &document, self.trust_id())?;
        // A chain that leaves the one remembered is another chain, however far it goes.
        if let Some(seen) = self.memory.root {
            same_if_known("root", seen, mark(&self.root))?;
            same_if_known("root", seen, mark(&document))?;
        }
        self.bounds.check_root(mark(&document))?;
        // 5.3.6: not checked for expiry here; only the last root's expiry matters (5.3.10).
        let new = mark(&document);
        let before = std::mem::replace(&mut self.root, document);
        self.root_final = false;
        // The record never goes back, and a step that was taken before forgets nothing: a client that lost its newest
        // root walks up to it again.
        if self.memory.root.is_none_or(|seen| seen.version < new.version) {
            self.memory.root = Some(new);
            self.recover_from_fast_forward(Some(&before.signed));
        }
        // What the root before vouched for is verified again.
        self.timestamp = None;
        self.forget_verified_snapshot();
        Ok(())
    }

    /// Catches up with a root that the memory did not know, if there is one.
    fn settle(&mut self, role: &str) -> Result<(), Error> {
        self.snapshot_was_read(role)?;
        if std::mem::take(&mut self.behind) {
            self.memory.root = Some(mark(&self.root));
            self.recover_from_fast_forward(None);
        }
        Ok(())
    }

    fn snapshot_was_read(&self, role: &str) -> Result<(), Error> {
        if self.needs_snapshot() {
            return Err(Error::Order { role: role.to_owned(), missing: "the snapshot remembered" });
        }
        Ok(())
    }

    fn forget_verified_snapshot(&mut self) {
        self.snapshot = None;
        self.snapshot_kept = false;
        self.roles.clear();
    }

    /// 5.3.11, at each step: what the new root's keys no longer vouch for is forgotten, with the versions it set. A key
    /// added beside the old ones resets nothing. Of a held timestamp that was lost only the keys of `before`, the root
    /// before this one, are known: it has lapsed if too few of them are left to vouch for anything. Else its versions stay.
    fn recover_from_fast_forward(&mut self, before: Option<&Root>) {
        let root = &self.root.signed;
        let timestamp_lapsed = match &self.held_timestamp {
            Some(held) => lapsed(held, root, "timestamp"),
            None => before.is_some_and(|before| replaced(before, root, "timestamp")),
        };
        if timestamp_lapsed {
            self.held_timestamp = None;
            self.memory.timestamp = None;
            self.memory.snapshot_named = None;
        }
        if self.held_snapshot.as_ref().is_some_and(|held| lapsed(held, root, "snapshot")) {
            self.held_snapshot = None;
            self.memory.snapshot = None;
            self.memory.snapshot_named = None;
            self.memory.unlisted.clear();
        }
        // What is left has just been verified under the new root, unless it is lost or of another trust id.
        let id = self.trust_id();
        let timestamp =
            self.held_timestamp.as_ref().map(|held| check_identity("timestamp", held, id).is_ok());
        let snapshot = self.held_snapshot.as_ref().map(|held| check_identity("snapshot", held, id).is_ok());
        if timestamp.unwrap_or(self.memory.timestamp.is_none()) && snapshot.unwrap_or(true) {
            self.memory.under = Some(self.root.version());
        }
    }

    /// True if documents with the sha256 remembered were verified under the very root that is trusted now.
    fn believes_memory(&self) -> bool {
        self.memory.under == Some(self.root.version())
    }

    /// Ends the root chain: there is no newer root (5.3.8, 5.3.10).
    ///
    /// # Errors
    /// [`Error::Rollback`] or [`Error::Equivocation`] if the memory knows a newer root or another one of this version;
    /// [`Error::Expired`] if the newest root is expired at `now`.
    pub fn finish_root(&mut self) -> Result<(), Error> {
        if self.behind {
            self.settle("root")?;
        }
        if let Some(seen) = self.memory.root {
            not_older("root", seen.version, self.root.version())?;
            same_if_known("root", seen, mark(&self.root))?;
        }
        self.bounds.check_newest_root(self.root.version())?;
        // 5.3.10: a freeze at an expired root is refused.
        self.root.check_expiry("root", self.now)?;
        self.root_final = true;
        Ok(())
    }

    /// The timestamp verified last, in this run or an earlier one, if it is at hand: the one that the memory names.
    pub fn held_timestamp(&self) -> Option<&[u8]> {
        self.held_timestamp.as_ref().map(|held| &*held.bytes)
    }

    /// The timestamp and the snapshot that the memory names, if both are at hand, parsed.
    pub fn remembered(&self) -> Option<(&Document<Timestamp>, &Arc<Document<Snapshot>>)> {
        Some((self.held_timestamp.as_deref()?, self.held_snapshot.as_ref()?))
    }

    /// The snapshot verified last, in this run or an earlier one, if it was read: the one that the memory names.
    pub fn held_snapshot(&self) -> Option<&[u8]> {
        self.held_snapshot.as_ref().map(|held| &*held.bytes)
    }

    /// Takes a timestamp (5.4).
    ///
    /// # Errors
    /// If it is not signed by its threshold, older than the memory in itself or in the snapshot it names, expired, or
    /// of another trust repository.
    pub fn update_timestamp(&mut self, bytes: &[u8]) -> Result<TimestampUpdate, Error> {
        const ROLE: &str = "timestamp";
        if !self.root_final {
            return Err(Error::Order { role: ROLE.to_owned(), missing: "the newest root" });
        }
        if let Some(held) = &self.held_timestamp
            && self.believes_memory()
            && held.bytes == *bytes
        {
            let held = Verified::remembered(held.clone());
            return self.accept_timestamp(held, TimestampUpdate::Same);
        }
        self.take_timestamp(Arc::new(parse(ROLE, bytes)?))
    }

    /// As [`Trusted::update_timestamp`], with a document that was parsed before.
    ///
    /// # Errors
    /// As [`Trusted::update_timestamp`].
    pub fn take_timestamp(&mut self, document: Arc<Document<Timestamp>>) -> Result<TimestampUpdate, Error> {
        const ROLE: &str = "timestamp";
        if !self.root_final {
            return Err(Error::Order { role: ROLE.to_owned(), missing: "the newest root" });
        }
        check_limit(ROLE, &document.bytes)?;
        let (document, update) = self.read_timestamp(document)?;
        self.accept_timestamp(document, update)
    }

    /// 5.4.3.2 to 5.4.5.
    fn accept_timestamp(
        &mut self,
        document: Verified<Timestamp>,
        update: TimestampUpdate,
    ) -> Result<TimestampUpdate, Error> {
        const ROLE: &str = "timestamp";
        // 5.4.3.2: the snapshot it names is not older, and a known version is named with its known hash.
        let mut named = document.signed.snapshot().mark();
        let verified =
            self.memory.snapshot.map(|seen| Mark { version: seen.version, digest: Some(seen.digest) });
        for seen in [self.memory.snapshot_named, verified].into_iter().flatten() {
            not_older("snapshot", seen.version, named.version)?;
            same_if_known("snapshot", seen, named)?;
            keep_known(seen, &mut named);
        }
        if let Some(held) = &self.held_timestamp {
            same_hashes("snapshot", held.signed.snapshot(), document.signed.snapshot())?;
        }
        self.bounds.check_timestamp(&self.root.signed, mark(&document), document.signed.snapshot().mark())?;
        // 5.4.4: expiry, later by as much as the user's policy allows.
        self.bounds.check_expiry(ROLE, document.version(), document.signed.common.expires, self.now)?;
        // 5.4.5: to be persisted.
        self.memory.timestamp = Some(mark(&document));
        self.memory.snapshot_named = Some(named);
        self.held_timestamp = Some(document.document());
        self.timestamp = Some(document);
        self.forget_verified_snapshot();
        Ok(update)
    }

    /// 5.4.2 to 5.4.3.1: the timestamp that counts, verified.
    fn read_timestamp(
        &self,
        document: Arc<Document<Timestamp>>,
    ) -> Result<(Verified<Timestamp>, TimestampUpdate), Error> {
        const ROLE: &str = "timestamp";
        // 5.4.2: signatures.
        let document = verify_top(document, &self.root.signed, ROLE)?;
        check_identity(ROLE, &document, self.trust_id())?;
        // 5.4.3.1: not older than the trusted timestamp; the same version only with the same content.
        let Some(seen) = self.memory.timestamp else { return Ok((document, TimestampUpdate::New)) };
        not_older(ROLE, seen.version, document.version())?;
        if seen.version != document.version() {
            return Ok((document, TimestampUpdate::New));
        }
        if seen.digest == Some(document.digest()) {
            return Ok((document, TimestampUpdate::Same));
        }
        let equivocation = Error::Equivocation { role: ROLE.to_owned(), version: seen.version };
        let held = self.held_timestamp.as_ref().ok_or(equivocation)?;
        // Whoever serves the file can change what is around the content; only the content is the signer's word.
        let same = held.canonical() == document.canonical();
        let update = if same { TimestampUpdate::Same } else { TimestampUpdate::Equivocated };
        let document = verify_top(held.clone(), &self.root.signed, ROLE)?;
        check_identity(ROLE, &document, self.trust_id())?;
        Ok((document, update))
    }

    /// What the timestamp says of the snapshot, once there is a timestamp.
    pub fn wanted_snapshot(&self) -> Option<&MetaFile> {
        self.timestamp.as_ref().map(|timestamp| timestamp.signed.snapshot())
    }

    /// Takes the snapshot of the memory, read or not, if it is the one that the timestamp names (5.5.1): it was verified
    /// under this root, so only its expiry is looked at. If it is not, false: [`Trusted::update_snapshot`] must follow.
    ///
    /// # Errors
    /// [`Error::Order`] without a timestamp, [`Error::Expired`]; those of a floor as [`Trusted::update_snapshot`].
    pub fn keep_snapshot(&mut self) -> Result<bool, Error> {
        const ROLE: &str = "snapshot";
        let Some(meta) = self.wanted_snapshot() else {
            return Err(Error::Order { role: ROLE.to_owned(), missing: "the timestamp" });
        };
        let Some(seen) = self.memory.snapshot.filter(|_| self.believes_memory()) else { return Ok(false) };
        let named = match &meta.hashes {
            None => true,
            // Another algorithm beside it would have to be compared with the document itself.
            Some(hashes) => hashes.len() == 1 && meta.digest() == Some(seen.digest),
        };
        if !named || meta.version != seen.version || meta.length.is_some_and(|length| length != seen.length) {
            return Ok(false);
        }
        let (known, held) = (Mark { version: seen.version, digest: Some(seen.digest) }, &self.held_snapshot);
        let listed = held.as_ref().map(|held| &held.signed);
        self.bounds.check_snapshot(&self.root.signed, known, listed)?;
        // 5.5.6: expiry, later by as much as the user's policy allows.
        self.bounds.check_expiry(ROLE, seen.version, seen.expires, self.now)?;
        self.snapshot_kept = true;
        self.snapshot = self.held_snapshot.clone().map(Verified::remembered);
        Ok(true)
    }

    /// True if the held snapshot was read and has the version, length and hashes that the timestamp names.
    pub fn held_snapshot_fits(&self) -> bool {
        match (&self.held_snapshot, self.wanted_snapshot()) {
            (Some(held), Some(meta)) => held.version() == meta.version && meta.fits(&held.bytes),
            _ => false,
        }
    }

    /// Takes the snapshot that the timestamp names (5.5). True if it is not the one already held.
    ///
    /// # Errors
    /// If it is not the one named, not signed by its threshold, drops or lowers a role, gives a known version another
    /// hash, is expired, or of another trust repository.
    pub fn update_snapshot(&mut self, bytes: &[u8]) -> Result<bool, Error> {
        const ROLE: &str = "snapshot";
        let Some(meta) = self.wanted_snapshot().cloned() else {
            return Err(Error::Order { role: ROLE.to_owned(), missing: "the timestamp" });
        };
        self.snapshot_was_read(ROLE)?;
        // 5.5.2: hashes and length of the timestamp.
        check_meta(ROLE, "the timestamp", &meta, bytes)?;
        self.accept_snapshot(&meta, Arc::new(parse::<Snapshot>(ROLE, bytes)?))
    }

    /// As [`Trusted::update_snapshot`], with a document that was parsed before.
    ///
    /// # Errors
    /// As [`Trusted::update_snapshot`].
    pub fn take_snapshot(&mut self, document: Arc<Document<Snapshot>>) -> Result<bool, Error> {
        const ROLE: &str = "snapshot";
        let Some(meta) = self.wanted_snapshot().cloned() else {
            return Err(Error::Order { role: ROLE.to_owned(), missing: "the timestamp" });
        };
        self.snapshot_was_read(ROLE)?;
        check_limit(ROLE, &document.bytes)?;
        // 5.5.2: hashes and length of the timestamp.
        check_verbatim(ROLE, "the timestamp", &meta, &document.bytes)?;
        self.accept_snapshot(&meta, document)
    }

    /// 5.5.3 to 5.5.7, for a document that `meta` names.
    fn accept_snapshot(&mut self, meta: &MetaFile, document: Arc<Document<Snapshot>>) -> Result<bool, Error> {
        const ROLE: &str = "snapshot";
        // 5.5.3: signatures.
        let document = verify_top(document, &self.root.signed, ROLE)?;
        check_identity(ROLE, &document, self.trust_id())?;
        // 5.5.4: the version that the timestamp names.
        same_version(ROLE, meta.version, document.version())?;
        // A hash that an earlier timestamp listed for this version binds, though this one leaves it out; so does the hash
        // of a snapshot of this version that was verified.
        if let Some(named) = self.memory.snapshot_named {
            same_if_known(ROLE, named, mark(&document))?;
        }
        // 5.5.5: every role seen before is still listed, none lower, none with another hash for a known version.
        let unlisted = match self.held_snapshot.as_ref().filter(|held| held.bytes != *document.bytes) {
            Some(held) => self.compare_roles(&held.signed, &document.signed)?,
            None => self.memory.unlisted.clone(),
        };
        self.bounds.check_snapshot(&self.root.signed, mark(&document), Some(&document.signed))?;
        // 5.5.6: expiry, later by as much as the user's policy allows.
        self.bounds.check_expiry(ROLE, document.version(), document.signed.common.expires, self.now)?;
        // 5.5.7: to be persisted.
        let new = SnapshotMark {
            version: document.version(),
            digest: document.digest(),
            length: document.bytes.len() as u64,
            expires: document.signed.common.expires,
        };
        let changed = self.memory.snapshot != Some(new);
        self.memory.snapshot = Some(new);
        self.memory.under = Some(self.root.version());
        self.memory.unlisted = unlisted;
        self.forget_verified_snapshot();
        self.held_snapshot = Some(document.document());
        self.snapshot = Some(document);
        Ok(changed)
    }

    /// Holds the roles that `new` lists to those of `held` and to the hashes that it left out. Gives the hashes that
    /// `new` leaves out.
    fn compare_roles(&self, held: &Snapshot, new: &Snapshot) -> Result<BTreeMap<String, Mark>, Error> {
        let mut unlisted = BTreeMap::new();
        for (file, meta) in &held.meta {
            let Some(role) = file.strip_suffix(".json") else { continue };
            let mut seen = meta.mark();
            if let Some(known) = self.memory.unlisted.get(role) {
                keep_known(*known, &mut seen);
            }
            let listed = new.meta.get(file).ok_or_else(|| Error::RoleRemoved { role: role.to_owned() })?;
            let now = listed.mark();
            not_older(role, seen.version, now.version)?;
            same_hashes(role, meta, listed)?;
            same_if_known(role, seen, now)?;
            if now.version == seen.version && now.digest.is_none() && seen.digest.is_some() {
                unlisted.insert(role.to_owned(), seen);
            }
        }
        Ok(unlisted)
    }

    /// What the snapshot says of `role`.
    ///
    /// # Errors
    /// [`Error::Order`] without a snapshot, [`Error::NotInSnapshot`] if it does not list the role.
    pub fn wanted_role(&self, role: &str) -> Result<&MetaFile, Error> {
        let snapshot = self
            .snapshot
            .as_ref()
            .ok_or_else(|| Error::Order { role: role.to_owned(), missing: "the snapshot" })?;
        snapshot.signed.role(role).ok_or_else(|| Error::NotInSnapshot { role: role.to_owned() })
    }

    /// Takes a targets role that `delegator` delegates to (5.6); `root` is the delegator of `targets`.
    ///
    /// A role that was verified under another delegator earlier is verified again under this one.
    ///
    /// # Errors
    /// If the role is not in the snapshot or not delegated, or the document is not the one the snapshot names, not
    /// signed by its threshold, expired, or of another trust repository.
    pub fn update_targets(&mut self, role: &str, delegator: &str, bytes: &[u8]) -> Result<(), Error> {
        let document = self.verify_targets(role, delegator, bytes)?;
        self.accept_targets(role, delegator, document)
    }

    /// As [`Trusted::update_targets`], with a document that was parsed before.
    ///
    /// # Errors
    /// As [`Trusted::update_targets`].
    pub fn take_targets(
        &mut self,
        role: &str,
        delegator: &str,
        document: Arc<Document<Targets>>,
    ) -> Result<(), Error> {
        check_limit(role, &document.bytes)?;
        // 5.6.2: hashes and length of the snapshot.
        check_verbatim(role, "the snapshot", self.wanted_role(role)?, &document.bytes)?;
        let document = self.verify_read_targets(role, delegator, document)?;
        self.accept_targets(role, delegator, document)
    }

    fn accept_targets(
        &mut self,
        role: &str,
        delegator: &str,
        document: Verified<Targets>,
    ) -> Result<(), Error> {
        // 5.6.5: expiry.
        document.check_expiry(role, self.now)?;
        // 5.6.6: to be persisted.
        self.roles.insert(role.to_owned(), (delegator.to_owned(), document));
        Ok(())
    }

    /// Verifies a targets role as [`Trusted::update_targets`] does, but for its expiry, and takes nothing: for its
    /// publisher, who must read an expired document to renew it. Nothing may be decided by what it lists.
    ///
    /// # Errors
    /// As [`Trusted::update_targets`], without [`Error::Expired`].
    pub fn verify_targets(
        &self,
        role: &str,
        delegator: &str,
        bytes: &[u8],
    ) -> Result<Verified<Targets>, Error> {
        let meta = self.wanted_role(role)?;
        // 5.6.2: hashes and length of the snapshot.
        check_meta(role, "the snapshot", meta, bytes)?;
        self.verify_read_targets(role, delegator, Arc::new(parse::<Targets>(role, bytes)?))
    }

    /// 5.6.3 and 5.6.4, for a document that the snapshot names.
    fn verify_read_targets(
        &self,
        role: &str,
        delegator: &str,
        document: Arc<Document<Targets>>,
    ) -> Result<Verified<Targets>, Error> {
        let version = self.wanted_role(role)?.version;
        // A hash that an earlier snapshot listed for this version binds, though this snapshot leaves it out.
        if let Some(seen) = self.memory.unlisted.get(role) {
            same_if_known(role, *seen, Mark { version, digest: Some(document.digest()) })?;
        }
        self.bounds.check_role(&self.root.signed, role, mark(&document))?;
        let parent = if delegator == "root" && role == "targets" {
            None
        } else {
            let (_, parent) = self.roles.get(delegator).ok_or_else(|| not_delegated(role, delegator))?;
            Some(&parent.signed)
        };
        let document = signed_as_delegated(document, &self.root.signed, parent, (role, delegator))?;
        check_identity(role, &document, self.trust_id())?;
        // 5.6.4: the version that the snapshot names.
        same_version(role, version, document.version())?;
        Ok(document)
    }
}
