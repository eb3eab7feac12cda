//! A store in memory, for tests of what stands on it.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use super::{Commit, Head, Published, Store, StoreError, SubmissionRecord, TrustKey, admit, newer};

/// A [`Store`] that lives as long as its last clone and fails on demand. Clones share one state, so a clone stands for
/// the disk that a restarted daemon finds.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

/// Where a write fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailAt {
    /// Failed, and not stored: [`StoreError::Unavailable`].
    BeforePersist,
    /// Failed, but stored: [`StoreError::Uncertain`].
    AfterPersist,
}

#[derive(Debug, Default)]
struct State {
    trusts: HashMap<TrustKey, Trust>,
    fail_commit: Option<FailAt>,
    fail_record: Option<FailAt>,
}

#[derive(Debug, Default)]
struct Trust {
    head: Head,
    documents: BTreeMap<(String, u64), Bytes>,
    submissions: BTreeMap<String, SubmissionRecord>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the next [`Store::commit`] that passes its checks fail.
    pub fn fail_next(&self, at: FailAt) {
        self.state().fail_commit = Some(at);
    }

    /// Makes the next [`Store::record_published`] fail.
    pub fn fail_next_record(&self, at: FailAt) {
        self.state().fail_record = Some(at);
    }

    /// The state; a panic of another test thread cannot have left it half-changed, since nothing in here panics.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, trust: &TrustKey, read: impl FnOnce(&Trust) -> T) -> Option<T> {
        self.state().trusts.get(trust).map(read)
    }
}

impl Store for MemoryStore {
    fn head(&self, trust: &TrustKey) -> Result<Head, StoreError> {
        Ok(self.with(trust, |t| t.head.clone()).unwrap_or_default())
    }

    fn document(&self, trust: &TrustKey, role: &str, version: u64) -> Result<Option<Bytes>, StoreError> {
        Ok(self.with(trust, |t| t.documents.get(&(role.to_owned(), version)).cloned()).flatten())
    }

    fn versions(&self, trust: &TrustKey, role: &str) -> Result<Vec<u64>, StoreError> {
        let range = (role.to_owned(), 0)..=(role.to_owned(), u64::MAX);
        Ok(self.with(trust, |t| t.documents.range(range).map(|((_, v), _)| *v).collect()).unwrap_or_default())
    }

    fn submission(&self, trust: &TrustKey, id: &str) -> Result<Option<SubmissionRecord>, StoreError> {
        Ok(self.with(trust, |t| t.submissions.get(id).cloned()).flatten())
    }

    fn submissions(
        &self,
        trust: &TrustKey,
        after: &str,
        most: usize,
    ) -> Result<Vec<SubmissionRecord>, StoreError> {
        let later = |t: &Trust| {
            let later = t.submissions.iter().filter(|(id, _)| id.as_str() > after);
            later.take(most).map(|(_, record)| record.clone()).collect()
        };
        Ok(self.with(trust, later).unwrap_or_default())
    }

    fn commit(&self, trust: &TrustKey, commit: &Commit) -> Result<(), StoreError> {
        let mut state = self.state();
        let held = state.trusts.get(trust);
        let stored = held.map(|t| t.head.clone()).unwrap_or_default();
        admit(&stored, commit, |role, version| {
            Ok(held.and_then(|t| t.documents.get(&(role.to_owned(), version)).cloned()))
        })?;
        let fail = state.fail_commit.take();
        before(fail)?;
        let held = state.trusts.entry(trust.clone()).or_default();
        held.head.apply(commit);
        for (role, version, bytes) in &commit.documents {
            held.documents.insert((role.clone(), *version), bytes.clone());
        }
        for record in &commit.submissions {
            held.submissions.insert(record.id.clone(), record.clone());
        }
        after(fail)
    }

    fn record_published(&self, trust: &TrustKey, published: &Published) -> Result<(), StoreError> {
        let mut state = self.state();
        let fail = state.fail_record.take();
        before(fail)?;
        let head = &mut state.trusts.entry(trust.clone()).or_default().head;
        head.published = newer(head.published, Some(*published));
        after(fail)
    }
}

fn before(fail: Option<FailAt>) -> Result<(), StoreError> {
    match fail {
        Some(FailAt::BeforePersist) => Err(StoreError::Unavailable { source: injected() }),
        _ => Ok(()),
    }
}

fn after(fail: Option<FailAt>) -> Result<(), StoreError> {
    match fail {
        Some(FailAt::AfterPersist) => Err(StoreError::Uncertain { source: injected() }),
        _ => Ok(()),
    }
}

fn injected() -> io::Error {
    io::Error::other("a fault set by the test")
}

#[cfg(test)]
mod tests {
    use super::{super::contract, *};

    #[test]
    fn keeps_the_contract() {
        contract::check(&MemoryStore::new());
    }

    #[test]
    fn a_commit_that_failed_before_persisting_can_be_retried_as_it_stands() {
        let (store, trust) = (MemoryStore::new(), TrustKey::whole("a"));
        let commit = contract::commit(1, &[("root", 1, "r1")]);
        store.fail_next(FailAt::BeforePersist);
        assert!(matches!(store.commit(&trust, &commit), Err(StoreError::Unavailable { .. })));
        assert_eq!(store.head(&trust).unwrap(), Head::default());
        store.commit(&trust, &commit).unwrap();
        assert_eq!(store.head(&trust).unwrap().sequence, 1);
    }

    #[test]
    fn a_commit_that_failed_after_persisting_is_found_in_the_head() {
        let (store, trust) = (MemoryStore::new(), TrustKey::whole("a"));
        let commit = contract::commit(1, &[("root", 1, "r1")]);
        store.fail_next(FailAt::AfterPersist);
        assert!(matches!(store.commit(&trust, &commit), Err(StoreError::Uncertain { .. })));
        assert_eq!(store.clone().head(&trust).unwrap().sequence, 1);
        assert!(matches!(store.commit(&trust, &commit), Err(StoreError::Conflict { expected: 2, found: 1 })));
    }

    #[test]
    fn recording_fails_on_demand_too() {
        let (store, trust) = (MemoryStore::new(), TrustKey::whole("a"));
        store.fail_next_record(FailAt::BeforePersist);
        assert!(store.record_published(&trust, &contract::published(1)).is_err());
        assert_eq!(store.head(&trust).unwrap().published, None);
        store.fail_next_record(FailAt::AfterPersist);
        assert!(store.record_published(&trust, &contract::published(1)).is_err());
        assert_eq!(store.head(&trust).unwrap().published, Some(contract::published(1)));
    }
}
