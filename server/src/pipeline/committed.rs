//! What is committed, in memory, so that a round costs as much as it brings, and a question waits for nobody.
//!
//! The store has the last word. Here is what was read from it, and every commit since that it answered for; after a
//! failure it is read again.

use std::{
    collections::BTreeSet,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use crate::store::{Commit, Head, Published, RoleHead, newer};

/// The newest head. Only the committer brings it forward; the pusher adds what it recorded as published.
#[derive(Debug, Default)]
pub(super) struct Committed {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    head: Head,
    news: News,
}

/// Roles that were committed since the pusher last asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum News {
    /// Any: it was read anew.
    #[default]
    Any,
    /// These.
    Roles(BTreeSet<String>),
}

/// The newest version of each top-level role, as one commit left them; none before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TopLevel {
    pub(super) root: RoleHead,
    pub(super) timestamp: RoleHead,
    pub(super) snapshot: RoleHead,
    pub(super) targets: RoleHead,
}

/// A head that may not be changed while this is kept: for short questions only.
pub(super) struct HeadGuard<'a>(RwLockReadGuard<'a, State>);

impl std::ops::Deref for HeadGuard<'_> {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.0.head
    }
}

impl Committed {
    /// The newest head.
    pub(super) fn head(&self) -> HeadGuard<'_> {
        // Each change leaves it whole.
        HeadGuard(self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// `head` was read from the store.
    pub(super) fn read(&self, head: Head) {
        let mut state = self.write();
        // The pusher may have recorded something since it was read.
        let published = newer(head.published, state.head.published);
        *state = State { head: Head { published, ..head }, news: News::Any };
    }

    /// `commit` is stored.
    pub(super) fn apply(&self, commit: &Commit) {
        let mut state = self.write();
        state.head.apply(commit);
        if let News::Roles(roles) = &mut state.news {
            roles.extend(commit.head.roles.keys().cloned());
        }
    }

    /// `published` is recorded.
    pub(super) fn record(&self, published: Published) {
        let mut state = self.write();
        state.head.published = newer(state.head.published, Some(published));
    }

    /// What there is to be pushed, and which delegated roles changed since this was last asked. Of one moment: what the
    /// snapshot lists is at least as new as what is named here.
    pub(super) fn take(&self) -> (Option<TopLevel>, News) {
        let mut state = self.write();
        let news = std::mem::replace(&mut state.news, News::Roles(BTreeSet::new()));
        let role = |role: &str| state.head.roles.get(role).copied();
        let top = || {
            Some(TopLevel {
                root: role("root")?,
                timestamp: role("timestamp")?,
                snapshot: role("snapshot")?,
                targets: role("targets")?,
            })
        };
        (top(), news)
    }
}

/// True for a role that the root names itself.
pub(super) fn is_top_level(role: &str) -> bool {
    matches!(role, "root" | "timestamp" | "snapshot" | "targets")
}
