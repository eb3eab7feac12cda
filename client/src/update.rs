//! The TUF client workflow (TUF 1.0.34, section 5) with its I/O: the only place that joins tuf, a source of metadata and
//! trusted state.

use std::{collections::BTreeSet, future::Future, path::Path, sync::Arc, time::Duration};

use plimsoll_core::{
    oci::Digest,
    policy::Verdict,
    tuf::{
        self, Document, Floor, HighWater, MAX_ROOT_STEPS, MetaFile, Outcome, Root, Search, Snapshot, Step,
        TimestampUpdate, Trusted, Verified,
    },
};

use crate::state::{self, Entry, Place, State, StateError, StateKey};

pub mod download;
mod layout_source;
mod places;
mod registry_source;
mod remembered;
mod tuf_source;
mod urls;

pub use layout_source::LayoutSource;
pub use places::{AnySource, LayoutPlace, Places};
pub use plimsoll_core::tuf::Bounds;
pub use registry_source::RegistrySource;
pub(crate) use remembered::Remembered;
pub use tuf_source::TufSource;

/// How long a process waits for another one that updates the same state.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);
/// So many runs of [`MAX_ROOT_STEPS`] roots are made for what comes as a whole, in a bundle.
pub(crate) const ROOT_RUNS: u32 = 16;

/// Where metadata comes from. Transport only: nothing a source says is believed.
pub trait Source: Send {
    /// Starts a round. `entry` is what the last complete update saw, if it may be relied on.
    fn begin(&mut self, entry: Option<&Entry>) -> impl Future<Output = Result<Begin, SourceError>> + Send;
    /// The root of `version`; none if, and only if, there is none.
    fn root(&mut self, version: u64) -> impl Future<Output = Result<Option<Vec<u8>>, SourceError>> + Send;
    /// The roots of `version` that other places have, for a source that has several. Which of them is one is for the caller
    /// to find out; one that cannot be had is not among them.
    fn other_roots(&mut self, _version: u64) -> impl Future<Output = Vec<Vec<u8>>> + Send {
        async { Vec::new() }
    }
    /// The timestamp.
    fn timestamp(&mut self) -> impl Future<Output = Result<Vec<u8>, SourceError>> + Send;
    /// The snapshot that a timestamp describes as `meta`; `consistent` is the root's `consistent_snapshot` (6.2).
    fn snapshot(
        &mut self,
        meta: &MetaFile,
        consistent: bool,
    ) -> impl Future<Output = Result<Vec<u8>, SourceError>> + Send;
    /// The targets role that a snapshot describes as `meta`; `consistent` as for the snapshot.
    fn targets(
        &mut self,
        role: &str,
        meta: &MetaFile,
        consistent: bool,
    ) -> impl Future<Output = Result<Vec<u8>, SourceError>> + Send;
    /// What to remember when the round is complete.
    fn entry(&self) -> Option<Entry>;
    /// Where it is, for messages.
    fn location(&self) -> String;
}

/// How a round starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Everything may be new.
    Changed,
    /// Nothing changed since the entry.
    Unchanged,
}

/// Why a source did not give a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The source lists a file and then does not have it: it was replaced meanwhile, or is damaged.
    #[error("{location} lists {file} but does not have it")]
    Gone {
        /// The source.
        location: String,
        /// The file.
        file: String,
    },
    /// There is no trust metadata at all. No proof of anything.
    #[error("there is no trust metadata at {location}")]
    Empty {
        /// The source.
        location: String,
    },
    /// The entry point is not one.
    #[error("what {location} serves is not a trust repository")]
    Mapping {
        /// The source.
        location: String,
        /// Why.
        source: plimsoll_core::oci::mapping::MappingError,
    },
    /// The registry or server.
    #[error(transparent)]
    Registry(#[from] crate::registry::RegistryError),
    /// The image layout.
    #[error(transparent)]
    Layout(#[from] crate::layout::LayoutError),
}

/// Why an update failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// Metadata that is not to be trusted, or not any more.
    #[error(transparent)]
    Tuf(#[from] tuf::Error),
    /// The pinned root and the stored chain contradict each other.
    #[error("the pinned root version {version} is not the one in the chain trusted before")]
    PinnedRoot {
        /// The pinned root's version.
        version: u64,
    },
    /// A floor of another trust repository: it says nothing about this one.
    #[error("the floor is of {floor}, and the pinned root of {root}")]
    OtherFloor {
        /// Whose floor it is: a trust id, or the sha256 of a root.
        floor: String,
        /// What the pinned root starts.
        root: String,
    },
    /// More than [`MAX_ROOT_STEPS`] new roots; the verified ones are kept, so the next run goes on.
    #[error("more than {MAX_ROOT_STEPS} new root versions in one run; run again to go on")]
    TooManyRoots,
    /// The metadata could not be had.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Trusted state could not be read or written.
    #[error(transparent)]
    State(#[from] StateError),
}

/// A search that could not be completed.
#[derive(Debug, thiserror::Error)]
#[error("the search could not be completed")]
pub struct Unfinished {
    /// Who revoked what, among the verified roles that were asked before it stopped.
    pub revocations: Vec<(String, tuf::Revocation)>,
    /// The verified roles that were asked before it stopped, in order.
    pub asked: Vec<String>,
    /// Why it stopped.
    #[source]
    pub error: UpdateError,
}

impl UpdateError {
    /// The verdict; none if the fault is local (state, a floor, options), which is never a verdict about a reference.
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Tuf(error) => Some(error.into()),
            Self::PinnedRoot { .. } | Self::Source(SourceError::Mapping { .. }) => Some(Verdict::Untrusted),
            Self::TooManyRoots | Self::Source(SourceError::Gone { .. } | SourceError::Empty { .. }) => {
                Some(Verdict::Unreachable)
            }
            Self::Source(SourceError::Registry(error)) => registry_verdict(error),
            Self::Source(SourceError::Layout(error)) if error.is_untrusted() => Some(Verdict::Untrusted),
            Self::Source(SourceError::Layout(_)) => Some(Verdict::Unreachable),
            Self::State(_) | Self::OtherFloor { .. } => None,
        }
    }
}

/// The verdict of a registry's failure; none for misuse.
pub fn registry_verdict(error: &crate::registry::RegistryError) -> Option<Verdict> {
    match () {
        () if error.is_misuse() => None,
        () if error.is_auth() => Some(Verdict::Auth),
        () if error.is_untrusted() => Some(Verdict::Untrusted),
        () => Some(Verdict::Unreachable),
    }
}

/// One update at one fixed time, over trusted state that is locked until this is dropped.
#[derive(Debug)]
pub struct Session<S> {
    source: S,
    state: State,
    trusted: Trusted,
    pinned: Document<Root>,
    bounds: Arc<Bounds>,
    equivocation: bool,
    unremembered: Option<StateError>,
    refetched: bool,
    skipped: Vec<(String, UpdateError)>,
}

/// What a session writes to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remembers {
    /// Each role as soon as it verifies.
    All,
    Nothing,
}

impl<S: Source> Session<S> {
    /// Opens the state of the trust repository that the root document `pinned` starts, below `base`, and brings it up to
    /// date: [`Session::refresh_at`].
    ///
    /// # Errors
    /// [`UpdateError`].
    pub async fn refresh(
        source: S,
        base: &Path,
        pinned: &[u8],
        now: chrono::DateTime<chrono::Utc>,
        bounds: &Bounds,
    ) -> Result<Self, UpdateError> {
        Self::refresh_at(source, &place_of(base, pinned)?, pinned, now, bounds).await
    }

    /// Verifies as [`Session::refresh`] does, against what is remembered, and remembers nothing: for what may still be refused
    /// for another reason.
    ///
    /// # Errors
    /// [`UpdateError`].
    pub async fn rehearse(
        source: S,
        base: &Path,
        pinned: &[u8],
        now: chrono::DateTime<chrono::Utc>,
        bounds: &Bounds,
    ) -> Result<Self, UpdateError> {
        let mut session =
            Self::open(source, &place_of(base, pinned)?, pinned, now, bounds, Remembers::Nothing).await?;
        // What a run reaches is not on disk for the next one, so they are all made here.
        for _ in 1..ROOT_RUNS {
            match session.whole_round(None).await {
                Err(UpdateError::TooManyRoots) => {}
                round => return round.map(|()| session),
            }
        }
        session.whole_round(None).await?;
        Ok(session)
    }

    /// Opens the state at `place`, which the root document `pinned` starts, and brings it up to date.
    ///
    /// `now` is the fixed update start time (5.1). Each role is persisted as soon as it verifies; a refusal leaves that
    /// role and later ones as they were. Where the disk is full or read-only, what is there holds, and what verifies
    /// counts for this session only: [`Session::unremembered`].
    ///
    /// `bounds` may let timestamp and snapshot be stale ([`Trusted::stale_by`] tells whether they are), and may hold all
    /// to floors; what is remembered holds besides, and no floor is remembered itself.
    ///
    /// # Errors
    /// [`UpdateError`].
    pub async fn refresh_at(
        source: S,
        place: &Place,
        pinned: &[u8],
        now: chrono::DateTime<chrono::Utc>,
        bounds: &Bounds,
    ) -> Result<Self, UpdateError> {
        let mut session = Self::open(source, place, pinned, now, bounds, Remembers::All).await?;
        let entry = session.state.entry()?;
        session.whole_round(entry.as_ref()).await?;
        Ok(session)
    }

    /// Opens the state at `place`, and asks nobody yet.
    async fn open(
        source: S,
        place: &Place,
        pinned: &[u8],
        now: chrono::DateTime<chrono::Utc>,
        bounds: &Bounds,
        remembers: Remembers,
    ) -> Result<Self, UpdateError> {
        let pinned = Document::<Root>::parse("root", pinned)?;
        for floor in &bounds.floors {
            if !floor.is_of(&pinned) {
                return Err(other_floor(floor, &pinned));
            }
        }
        let bounds = Arc::new(bounds.clone());
        let mut state = State::open(place, LOCK_PATIENCE).await?;
        if remembers == Remembers::Nothing {
            state.stop_writing();
        }
        state.check_clock(now)?;
        bounds.floors.iter().try_for_each(|floor| state::check_floor(now, floor))?;
        let memory = state.memory().cloned();
        let first_use = memory.is_none();
        let trusted = start(&state, memory.unwrap_or_default(), &pinned, &bounds, now)?;
        let mut session = Self {
            source,
            state,
            trusted,
            pinned,
            bounds,
            equivocation: false,
            unremembered: None,
            refetched: false,
            skipped: Vec::new(),
        };
        if first_use {
            // 5.2: the trusted root is stored before anything is asked of anybody.
            let memory = session.trusted.memory();
            let put = session.state.put_root(session.pinned.version(), &session.pinned.bytes, memory);
            session.remembered(put)?;
        }
        Ok(session)
    }

    /// Where the metadata comes from, for messages: of several places the one that won.
    pub fn location(&self) -> String {
        self.source.location()
    }

    /// What is trusted now.
    pub fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    /// The snapshot that is trusted now, read from the disk if it was not yet. No network.
    ///
    /// # Errors
    /// [`UpdateError::State`].
    pub fn verified_snapshot(&mut self) -> Result<&Verified<Snapshot>, UpdateError> {
        self.read_snapshot()?;
        let missing = || tuf::Error::Order { role: "snapshot".to_owned(), missing: "the timestamp" };
        self.trusted.snapshot().ok_or_else(|| missing().into())
    }

    /// True if the source showed the held timestamp's version with other content: its signer said two things.
    pub fn equivocation(&self) -> bool {
        self.equivocation
    }

    /// Why what verified could not be persisted, if it could not: the disk is full or read-only. The next run will hold
    /// what it is shown to what was remembered before.
    pub fn unremembered(&self) -> Option<&StateError> {
        self.unremembered.as_ref()
    }

    /// Searches for the target name `name` (5.6.7), fetching only the roles on its way.
    ///
    /// # Errors
    /// [`Unfinished`]: then nothing is known about the name, not even that it is absent, but what the roles asked so far
    /// took back stays taken back.
    pub async fn find(&mut self, name: &str) -> Result<Outcome, Unfinished> {
        let mut search = Search::new(name);
        loop {
            let stopped = |search: &Search, error| Unfinished {
                revocations: search.revocations().to_vec(),
                asked: search.asked(),
                error,
            };
            self.read_snapshot().map_err(|error| stopped(&search, error))?;
            match search.step(&self.trusted).map_err(|error| stopped(&search, error.into()))? {
                Step::Done(outcome) => return Ok(outcome),
                Step::Load { role, delegator, meta } => match self.load(&role, &delegator, &meta).await {
                    Err(UpdateError::Source(SourceError::Gone { .. })) if !self.refetched => {
                        self.again().await.map_err(|error| stopped(&search, error))?;
                        search = Search::new(name);
                    }
                    other => other.map_err(|error| stopped(&search, error))?,
                },
            }
        }
    }

    /// Loads `role`, which `delegator` delegates to and which must be loaded itself.
    ///
    /// # Errors
    /// [`UpdateError`].
    pub async fn load_role(&mut self, role: &str, delegator: &str) -> Result<(), UpdateError> {
        self.read_snapshot()?;
        let meta = self.trusted.wanted_role(role)?.clone();
        self.load(role, delegator, &meta).await
    }

    /// Fetches `role` for its publisher: verified, but for its expiry. Persists nothing and decides nothing.
    ///
    /// # Errors
    /// [`UpdateError`].
    pub async fn role_to_edit(
        &mut self,
        role: &str,
        delegator: &str,
    ) -> Result<tuf::Document<tuf::Targets>, UpdateError> {
        let bytes = self.present(role).await?;
        Ok((*self.trusted.verify_targets(role, delegator, &bytes)?).clone())
    }

    /// Fetches `role` as the snapshot has it, by hash, whoever signed it: for the publisher who takes over what nobody
    /// vouches for any more. Nothing may be decided by it.
    ///
    /// # Errors
    /// [`UpdateError`].
    pub async fn orphan(&mut self, role: &str) -> Result<tuf::Document<tuf::Targets>, UpdateError> {
        let bytes = self.present(role).await?;
        let document = tuf::Document::parse(role, &bytes)?;
        let meta = self.trusted.wanted_role(role)?;
        if meta.digest() != Some(document.digest()) || meta.version != document.version() {
            return Err(SourceError::Gone { location: self.source.location(), file: role.to_owned() }.into());
        }
        Ok(document)
    }

    /// The root documents from version 1 to the trusted one, as the source has them. They are not verified.
    ///
    /// # Errors
    /// [`UpdateError::Source`]; a source that lacks one is [`SourceError::Gone`].
    pub async fn root_chain(&mut self) -> Result<Vec<Vec<u8>>, UpdateError> {
        let (mut roots, mut listed) = (Vec::new(), false);
        for version in 1..=self.trusted.root().version() {
            let mut root = self.source.root(version).await.map_err(UpdateError::Source)?;
            // Where nothing was new, this session has not read which files there are.
            if root.is_none() && !listed {
                self.source.begin(None).await.map_err(UpdateError::Source)?;
                (root, listed) = (self.source.root(version).await.map_err(UpdateError::Source)?, true);
            }
            let gone = || SourceError::Gone {
                location: self.source.location(),
                file: format!("{version}.root.json"),
            };
            roots.push(root.ok_or_else(gone).map_err(UpdateError::Source)?);
        }
        Ok(roots)
    }

    /// The trusted root and those before it, newest first, as far down as each is vouched for by the one below it: those
    /// since the pinned one as they were verified, older ones as the source has them.
    ///
    /// # Errors
    /// [`UpdateError::Source`], [`UpdateError::State`].
    pub async fn roots_below(&mut self) -> Result<Vec<(u64, Vec<u8>)>, UpdateError> {
        let root = self.trusted.root();
        let mut roots = vec![(root.version(), root.bytes.to_vec())];
        let mut listed = false;
        for version in (1..roots[0].0).rev() {
            let above = &roots.last().expect("the trusted root is there").1;
            let held = self.state.root(version)?.filter(|below| self.leads(below, above));
            let below = match held {
                Some(below) => Some(below),
                None => self.root_below(version, above, &mut listed).await?,
            };
            let Some(below) = below else { break };
            roots.push((version, below));
        }
        Ok(roots)
    }

    /// The digests of the roots from the pinned one to the trusted one, as they were verified and are held.
    ///
    /// # Errors
    /// [`StateError::Read`].
    pub(crate) fn lineage(&self) -> Result<BTreeSet<Digest>, StateError> {
        let mut digests = BTreeSet::from([self.pinned.digest(), self.trusted.root().digest()]);
        for version in self.pinned.version()..self.trusted.root().version() {
            digests.extend(self.state.root(version)?.map(|bytes| Digest::of(&bytes)));
        }
        Ok(digests)
    }

    /// The root of `version` that vouches for `above`, from the source or else from another place of it. `listed` is whether
    /// this session has read which files there are: where nothing was new, it has not.
    async fn root_below(
        &mut self,
        version: u64,
        above: &[u8],
        listed: &mut bool,
    ) -> Result<Option<Vec<u8>>, UpdateError> {
        let mut found = self.source.root(version).await;
        if matches!(found, Ok(None)) && !std::mem::replace(listed, true) {
            found = match self.source.begin(None).await {
                Ok(_) => self.source.root(version).await,
                Err(error) => Err(error),
            };
        }
        if let Ok(Some(root)) = &found
            && self.leads(root, above)
        {
            return Ok(Some(root.clone()));
        }
        let others = self.source.other_roots(version).await;
        let other = others.into_iter().find(|root| self.leads(root, above));
        // What cannot be had anywhere is told as where it was looked for first.
        if other.is_none() {
            found?;
        }
        Ok(other)
    }

    /// True if `below` is a root that vouches for the root `above`.
    fn leads(&self, below: &[u8], above: &[u8]) -> bool {
        let ahead = Trusted::new(below, self.trusted.now());
        ahead.is_ok_and(|mut ahead| ahead.update_root(above).is_ok())
    }

    /// The bytes of `role` that the snapshot lists.
    async fn present(&mut self, role: &str) -> Result<Vec<u8>, UpdateError> {
        self.read_snapshot()?;
        let meta = self.trusted.wanted_role(role)?.clone();
        Ok(self.source.targets(role, &meta, self.consistent()).await?)
    }

    fn consistent(&self) -> bool {
        self.trusted.root().signed.consistent_snapshot
    }

    /// Goes on where nothing could be written, and remembers why; any other fault of the disk stops everything.
    fn remembered(&mut self, put: Result<(), StateError>) -> Result<(), UpdateError> {
        let Err(error) = put else { return Ok(()) };
        // A record must never speak of a snapshot that was not written, nor the entry of what is not held.
        self.state.stop_writing();
        if !error.is_unwritable() {
            return Err(error.into());
        }
        self.unremembered.get_or_insert(error);
        Ok(())
    }

    /// Reads the snapshot that the memory names, unless it was read before.
    fn read_snapshot(&mut self) -> Result<(), UpdateError> {
        if let Some(seen) = self.trusted.memory().snapshot.filter(|_| self.trusted.needs_snapshot()) {
            let bytes = self.state.held_snapshot(&seen)?;
            self.trusted.hold_snapshot(&bytes)?;
        }
        Ok(())
    }

    /// A round, made again from the start if the source changed under us, or what it said to be unchanged is not in our
    /// cache.
    async fn whole_round(&mut self, entry: Option<&Entry>) -> Result<(), UpdateError> {
        match self.round(entry).await {
            Err(UpdateError::Source(SourceError::Gone { .. })) => self.again().await,
            other => other,
        }
    }

    async fn again(&mut self) -> Result<(), UpdateError> {
        self.refetched = true;
        self.restart()?;
        self.round(None).await
    }

    /// Back to where the session began, but for what verified since.
    fn restart(&mut self) -> Result<(), UpdateError> {
        // From the memory of this session: it is ahead of the disk's where nothing can be written.
        let memory = self.trusted.memory().clone();
        let mut trusted = start(&self.state, memory, &self.pinned, &self.bounds, self.trusted.now())?;
        if let Some(held) = self.trusted.held_snapshot().filter(|_| trusted.needs_snapshot()) {
            trusted.hold_snapshot(held)?;
        }
        self.trusted = trusted;
        Ok(())
    }

    /// Sections 5.3 to 5.5, and the entry that ends a complete round.
    async fn round(&mut self, entry: Option<&Entry>) -> Result<(), UpdateError> {
        let reached = self.trusted.root().version();
        let memory = self.trusted.memory();
        // A chain that was lost on disk is walked again, even if nothing changed at the source.
        let whole_chain = memory.root.is_some_and(|seen| seen.version <= reached);
        let complete = self.trusted.held_timestamp().is_some()
            && memory.snapshot.is_some()
            && whole_chain
            && reached >= self.pinned.version();
        let entry = entry.filter(|_| complete);
        let begin = self.source.begin(entry).await?;
        if begin == Begin::Changed {
            self.roots().await?;
        }
        let (pinned, reached) = (self.pinned.version(), self.trusted.root().version());
        if reached < pinned {
            // The chain ends below a root that was handed over out of band: it is withheld.
            return Err(
                tuf::Error::Rollback { role: "root".to_owned(), held: pinned, offered: reached }.into()
            );
        }
        if self.trusted.is_behind() {
            self.read_snapshot()?;
        }
        self.trusted.finish_root()?;
        self.heal_root()?;
        self.timestamp(begin).await?;
        self.snapshot().await?;
        // What is shown was not followed: nobody shall hear "not modified" for it, and so miss the warning.
        if begin == Begin::Changed
            && !self.equivocation
            && let Some(entry) = self.source.entry()
        {
            let put = self.state.put_entry(&entry);
            self.remembered(put)?;
        }
        match self.state.put_time(self.trusted.now()) {
            // Nothing new was seen, so nothing but the time is not remembered: a folder that is shared read-only is no fault.
            Err(error) if error.is_unwritable() => Ok(()),
            put => self.remembered(put),
        }
    }

    /// 5.3.2 to 5.3.9.
    async fn roots(&mut self) -> Result<(), UpdateError> {
        for _ in 0..MAX_ROOT_STEPS {
            let next = self.trusted.root().version() + 1;
            // 5.3.3: if there is none, this is the newest. Only the source's plain "there is none" counts as that.
            let Some(bytes) = self.source.root(next).await? else { return Ok(()) };
            // 5.3.11 looks at what was remembered.
            self.read_snapshot()?;
            let mut ahead = self.trusted.clone();
            ahead.update_root(&bytes)?;
            if next == self.pinned.version() && self.pinned.bytes != bytes {
                return Err(UpdateError::PinnedRoot { version: next });
            }
            // 5.3.8: persisted as soon as it verifies.
            let put = self.state.put_root(next, &bytes, ahead.memory());
            self.trusted = ahead;
            self.remembered(put)?;
        }
        let next = self.trusted.root().version() + 1;
        if self.source.root(next).await?.is_some() { Err(UpdateError::TooManyRoots) } else { Ok(()) }
    }

    /// Writes the copies of the pinned and of the newest root again where they were torn: both are in the chain that was
    /// just verified. After a crash between the two the newest one counts as torn still.
    fn heal_root(&mut self) -> Result<(), UpdateError> {
        let (pinned, newest) = (&self.pinned, self.trusted.root());
        let memory = self.trusted.memory();
        let torn = self.state.root(pinned.version())?.as_deref() != Some(&*pinned.bytes);
        let mut put = Ok(());
        if torn {
            put = self.state.put_root(pinned.version(), &pinned.bytes, memory);
        }
        if torn
            || self.state.root(newest.version())?.as_deref() != Some(&*newest.bytes)
            || self.state.document("root")?.as_deref() != Some(&*newest.bytes)
        {
            put = put.and(self.state.put_root(newest.version(), &newest.bytes, memory));
        }
        self.remembered(put)
    }

    /// 5.4.
    async fn timestamp(&mut self, begin: Begin) -> Result<(), UpdateError> {
        let held = self.trusted.held_timestamp().map(<[u8]>::to_vec);
        let bytes = match (begin, held) {
            (Begin::Unchanged, Some(held)) => held,
            _ => self.source.timestamp().await?,
        };
        let put = match self.trusted.update_timestamp(&bytes)? {
            // The entry speaks of the round before. Should this one not be completed, or not come from there, then "not
            // modified since" would be about something older than what is held.
            TimestampUpdate::New => self
                .state
                .forget_entry()
                .and_then(|()| self.state.put("timestamp", &bytes, self.trusted.memory())),
            // A cached copy that was torn is healed.
            TimestampUpdate::Same
                if self.state.document("timestamp")?.as_deref() != self.trusted.held_timestamp() =>
            {
                let held = self.trusted.held_timestamp().expect("the timestamp was just verified");
                self.state.put("timestamp", held, self.trusted.memory())
            }
            TimestampUpdate::Same => Ok(()),
            TimestampUpdate::Equivocated => {
                self.equivocation = true;
                Ok(())
            }
        };
        self.remembered(put)
    }

    /// 5.5.
    async fn snapshot(&mut self) -> Result<(), UpdateError> {
        // 5.5.1: the one already held need not be fetched, nor read.
        if self.trusted.keep_snapshot()? {
            return Ok(());
        }
        self.read_snapshot()?;
        let meta = self.trusted.wanted_snapshot().expect("the timestamp was just verified").clone();
        let bytes = match self.trusted.held_snapshot().filter(|_| self.trusted.held_snapshot_fits()) {
            Some(held) => held.to_vec(),
            None => self.source.snapshot(&meta, self.consistent()).await?,
        };
        self.trusted.update_snapshot(&bytes)?;
        let put = self.state.put_snapshot(&bytes, self.trusted.memory());
        self.remembered(put)
    }

    /// 5.6 for one role. A cached document is used only if it is the one that the snapshot names, and verifies for this
    /// delegator now.
    async fn load(&mut self, role: &str, delegator: &str, meta: &MetaFile) -> Result<(), UpdateError> {
        if let Some(cached) = self.state.document(role)?.filter(|cached| meta.fits(cached)) {
            match self.trusted.update_targets(role, delegator, &cached) {
                // Without a hash in META it may be another one of this length: the source knows.
                Err(_) if meta.hashes.is_none() => {}
                other => return Ok(other?),
            }
        }
        let bytes = self.source.targets(role, meta, self.consistent()).await?;
        self.trusted.update_targets(role, delegator, &bytes)?;
        // 5.6.6.
        let put = self.state.put(role, &bytes, self.trusted.memory());
        self.remembered(put)
    }
}

/// Where below `base` the state of the trust repository is that the root document `pinned` starts.
fn place_of(base: &Path, pinned: &[u8]) -> Result<Place, UpdateError> {
    Ok(Place::keyed(base, &key_of(pinned)?))
}

/// By what the state of the trust repository is kept that the root document `pinned` starts.
///
/// # Errors
/// [`UpdateError::Tuf`] if it is no root document.
pub(crate) fn key_of(pinned: &[u8]) -> Result<StateKey, UpdateError> {
    let document = Document::<Root>::parse("root", pinned)?;
    let trust_id = document.signed.common.identity.as_ref().map(|identity| identity.trust.as_str());
    Ok(StateKey::of(pinned, trust_id))
}

/// Where an update starts (5.2): at the newest root of the stored chain, or at the pinned one, which is shipped out of
/// band. The newest stored root wins; a pinned root that contradicts the stored chain is refused.
fn start(
    state: &State,
    memory: HighWater,
    pinned: &Document<Root>,
    bounds: &Arc<Bounds>,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<Trusted, UpdateError> {
    let stored = state
        .document("root")?
        .filter(|bytes| memory.root.is_some_and(|seen| seen.digest == Some(Digest::of(bytes))));
    let root = match (stored, memory.root) {
        // The record says which root this version is; the chain's copy of it may be torn.
        (Some(bytes), Some(seen)) if seen.version == pinned.version() && pinned.bytes != bytes => {
            return Err(UpdateError::PinnedRoot { version: pinned.version() });
        }
        (Some(bytes), Some(seen)) if seen.version > pinned.version() => {
            match state.root(pinned.version())? {
                Some(known) if pinned.bytes == known => bytes,
                // A copy with a flipped bit would not verify.
                Some(known) if Trusted::new(&known, now).is_ok() => {
                    return Err(UpdateError::PinnedRoot { version: pinned.version() });
                }
                // Pinned below where the stored chain starts, or the copy is torn: walk from the pinned root, and reach
                // the stored one.
                Some(_) | None => pinned.bytes.to_vec(),
            }
        }
        // Pinned ahead of the stored chain: the chain must lead to it, byte by byte.
        (Some(bytes), Some(_)) => bytes,
        // First use, or a torn root: from the pinned one, and at least up to the one remembered.
        _ => pinned.bytes.to_vec(),
    };
    let timestamp = state.document("timestamp")?;
    Ok(Trusted::resume(&root, memory, timestamp.as_deref(), now)?.bounded(bounds.clone())?)
}

fn other_floor(floor: &Floor, pinned: &Document<Root>) -> UpdateError {
    let of = |trust: Option<&String>, root: Digest| {
        trust.map_or_else(|| format!("the root {root}"), |id| format!("trust id {id}"))
    };
    let identity = pinned.signed.common.identity.as_ref();
    UpdateError::OtherFloor {
        floor: of(floor.trust.as_ref(), floor.pinned),
        root: of(identity.map(|identity| &identity.trust), pinned.digest()),
    }
}
