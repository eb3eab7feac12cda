//! A store in memory, with something around each call: what a test makes of it.

use bytes::Bytes;
use plimsoll_server::store::{
    Commit, Head, MemoryStore, Published, Store, StoreError, SubmissionRecord, TrustKey,
};

/// A call of the store.
pub(crate) enum Call<'a> {
    Head,
    Document,
    Versions,
    Submission,
    Submissions,
    Commit(&'a TrustKey, &'a Commit),
    Record,
}

/// What becomes of calls.
pub(crate) trait Around: Send + Sync + 'static {
    /// Answers `call`, of which `go_on` is what a sound store does.
    fn call<T>(&self, call: Call<'_>, go_on: impl FnOnce() -> Result<T, StoreError>)
    -> Result<T, StoreError>;
}

/// A store in memory whose calls go through `around`.
pub(crate) struct Surrounded<A> {
    pub(crate) inner: MemoryStore,
    pub(crate) around: A,
}

impl<A: Around> Store for Surrounded<A> {
    fn head(&self, trust: &TrustKey) -> Result<Head, StoreError> {
        self.around.call(Call::Head, || self.inner.head(trust))
    }
    fn document(&self, trust: &TrustKey, role: &str, version: u64) -> Result<Option<Bytes>, StoreError> {
        self.around.call(Call::Document, || self.inner.document(trust, role, version))
    }
    fn versions(&self, trust: &TrustKey, role: &str) -> Result<Vec<u64>, StoreError> {
        self.around.call(Call::Versions, || self.inner.versions(trust, role))
    }
    fn submission(&self, trust: &TrustKey, id: &str) -> Result<Option<SubmissionRecord>, StoreError> {
        self.around.call(Call::Submission, || self.inner.submission(trust, id))
    }
    fn submissions(
        &self,
        trust: &TrustKey,
        after: &str,
        most: usize,
    ) -> Result<Vec<SubmissionRecord>, StoreError> {
        self.around.call(Call::Submissions, || self.inner.submissions(trust, after, most))
    }
    fn commit(&self, trust: &TrustKey, commit: &Commit) -> Result<(), StoreError> {
        self.around.call(Call::Commit(trust, commit), || self.inner.commit(trust, commit))
    }
    fn record_published(&self, trust: &TrustKey, published: &Published) -> Result<(), StoreError> {
        self.around.call(Call::Record, || self.inner.record_published(trust, published))
    }
}
