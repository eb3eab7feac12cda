//! What an earlier update verified, for when nothing newer can be had.

use std::{path::Path, sync::Arc};

use chrono::{DateTime, Utc};
use plimsoll_core::tuf::{Bounds, Document, Recall, Root, Snapshot, TakenBack, Timestamp, Trusted};

use super::{UpdateError, place_of, start};
use crate::state::State;

/// The documents that this machine holds of a trust repository. They are read without a lock.
#[derive(Debug)]
pub(crate) struct Remembered {
    state: State,
    trusted: Trusted,
}

impl Remembered {
    /// Of the trust repository that the root document `pinned` starts, below `base`. No network, and nothing is waited for.
    ///
    /// # Errors
    /// [`UpdateError::State`] if the memory is lost or cannot be read; with a verdict, if nothing that is held has to do
    /// with `pinned`.
    pub(crate) fn of(base: &Path, pinned: &[u8], now: DateTime<Utc>) -> Result<Self, UpdateError> {
        let document = Document::<Root>::parse("root", pinned)?;
        let state = State::look(&place_of(base, pinned)?)?;
        let memory = state.memory().cloned().unwrap_or_default();
        let trusted = start(&state, memory, &document, &Arc::new(Bounds::default()), now)?;
        Ok(Self { state, trusted })
    }

    /// What was verified last: the root, and what is remembered of the roles below.
    pub(crate) fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    /// The snapshot that was verified last.
    pub(crate) fn snapshot(&self) -> Option<Document<Snapshot>> {
        let document: Document<Snapshot> =
            Document::parse("snapshot", &self.state.document("snapshot").ok()??).ok()?;
        let seen = self.trusted.memory().snapshot.as_ref()?.digest;
        (seen == document.digest()).then_some(document)
    }

    /// The timestamp that was verified last.
    pub(crate) fn timestamp(&self) -> Option<Document<Timestamp>> {
        Document::parse("timestamp", self.trusted.held_timestamp()?).ok()
    }

    /// What was taken back of each of the target names `names`, in their order. What verified since, in `session`, is
    /// newer than what is held: where nothing can be written, it is nowhere else.
    pub(crate) fn taken_back<'a>(
        &self,
        session: Option<&Trusted>,
        names: impl Iterator<Item = &'a str>,
    ) -> Vec<TakenBack> {
        // What cannot be read is as if it were not held: there is a failure to tell already.
        let read = |role: &str| self.state.document(role).ok()?;
        let mut recall = Recall::new(session.unwrap_or(&self.trusted), read);
        names.map(|name| recall.of(name)).collect()
    }
}
