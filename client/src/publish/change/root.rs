//! Ceremonies: the next root, and publishing what several people signed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use plimsoll_core::tuf::{Document, RoleType, Root, Targets};
use serde::Serialize;

use crate::{
    publish::{
        PublishError, Published, Publisher,
        api::{OnlineKeys, TrustInfo},
        author::{self, AuthorError, RootEdit, edit_root, next_version},
        draft::{Base, Draft, Live, Next, Rehearsed, rehearse},
        publisher::{published, unsigned},
    },
    update::UpdateError,
};

/// An edit of the root, and of who signs `targets`.
#[derive(Debug, Clone, Default)]
pub struct RootRequest {
    /// What shall be different.
    pub edit: RootEdit,
    /// `targets` gets a full life again, too.
    pub extend_targets: bool,
}

/// What is known of a draft before it is submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ready {
    /// Which clients get to the new root; none if the draft has no new root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rehearsed: Option<Rehearsed>,
    /// Where it is to be seen, if it is published already.
    #[serde(skip)]
    pub published: Option<Published>,
}

impl Publisher {
    /// A draft of the next root, from what is published now, or on top of `onto`: a draft of root or `targets` that nobody
    /// signed yet. Where others than before sign `targets`, its present content is part of it, for them to sign.
    ///
    /// # Errors
    /// [`PublishError::Author`], [`PublishError::Stale`] for `onto`, and those of reading.
    pub async fn edit_root(
        &self,
        request: &RootRequest,
        onto: Option<&Draft>,
    ) -> Result<Draft, PublishError> {
        let present = self.present().await?;
        if let Some(role) = onto.and_then(|onto| present.moved(onto)) {
            return Err(PublishError::Stale { role });
        }
        let newest = present.roots.last().cloned().unwrap_or_default();
        let targets = BTreeMap::from([("targets".to_owned(), present.targets)]);
        let all = Base { roots: present.roots, documents: targets };
        let (root, targets) = match onto {
            Some(onto) => (
                onto.next_root().map(|root| root.signed.clone()),
                onto.next_targets().find(|(role, _)| *role == "targets").map(|(_, held)| held.signed.clone()),
            ),
            None => (None, None),
        };
        let held = Held { present_root: newest, all, root, targets };
        let draft = held.edited(request, &self.repository().to_string(), self.now())?;
        draft.check_pinned(self.pinned())?;
        Ok(draft)
    }

    /// The online keys that wait at the daemon to take the place of the present ones.
    ///
    /// # Errors
    /// [`PublishError::NoNextKeys`] if the operator made none, or the daemon is not talked to.
    pub async fn next_online(&self) -> Result<OnlineKeys, PublishError> {
        let Some((server, name)) = self.daemon().await? else { return Err(PublishError::NoNextKeys) };
        let info = server.trust(name, |trust| trust.name == name).await?;
        info.online_next.ok_or(PublishError::NoNextKeys)
    }

    /// Looks whether the draft can be published: who must sign signed, nothing in it has expired, nobody was faster, and
    /// every client comes along ([`rehearse`]); of new online keys, that the daemon has them. One that is published already is
    /// ready, too. Submits nothing.
    ///
    /// # Errors
    /// [`PublishError`]: [`PublishError::Unsigned`], [`PublishError::DraftExpired`], [`PublishError::Stale`],
    /// [`PublishError::Rehearsal`], [`PublishError::NotHeld`].
    pub async fn ready(&self, draft: &Draft) -> Result<Ready, PublishError> {
        draft.check_pinned(self.pinned())?;
        if !draft.is_complete() {
            return Err(unsigned(draft));
        }
        let (now, present) = (self.now(), self.present().await?);
        if let Some(timestamp) = present.shows(draft) {
            return Ok(Ready { rehearsed: None, published: Some(published(draft, timestamp)) });
        }
        if let Some((role, expires)) = draft.expired(now) {
            return Err(PublishError::DraftExpired { role, expires });
        }
        if let Some(role) = present.moved(draft) {
            return Err(PublishError::Stale { role });
        }
        let live = Live {
            timestamp: &present.timestamp,
            snapshot: &present.snapshot.bytes,
            targets: Some(&present.targets),
        };
        let rehearsed = rehearse(draft, Some(live), now).map_err(PublishError::Rehearsal)?;
        if let Some(root) = draft.next_root()
            // Through the inbox the daemon is out of sight; it takes no root that does not name its keys.
            && let Some((server, name)) = self.daemon().await?
        {
            let info = server.trust(name, |trust| trust.name == name).await?;
            if !holds(&info, &root.signed) {
                return Err(PublishError::NotHeld { server: server.url().to_string() });
            }
        }
        Ok(Ready { rehearsed, published: None })
    }

    /// Submits what [`Publisher::ready`] found ready, and waits until it is published.
    ///
    /// # Errors
    /// [`PublishError`]; [`PublishError::Stale`] if somebody was faster.
    pub async fn finish(&self, draft: &Draft) -> Result<Published, PublishError> {
        let role = draft.versions().into_keys().next().unwrap_or_default();
        self.submit(draft).await?.ok_or(PublishError::Stale { role })
    }
}

/// A draft of the first root, changed while nobody has signed it. No I/O.
///
/// # Errors
/// [`PublishError::Author`].
pub fn edit_first(draft: &Draft, request: &RootRequest, now: DateTime<Utc>) -> Result<Draft, PublishError> {
    let targets =
        draft.next_targets().find(|(role, _)| *role == "targets").map(|(_, held)| held.signed.clone());
    let held = Held {
        present_root: Vec::new(),
        all: Base::default(),
        root: draft.next_root().map(|root| root.signed.clone()),
        targets,
    };
    held.edited(request, draft.repository(), now)
}

/// What an edit starts from.
struct Held {
    present_root: Vec<u8>,
    all: Base,
    /// The next versions that an unsigned draft has already.
    root: Option<Root>,
    targets: Option<Targets>,
}

impl Held {
    fn edited(
        self,
        request: &RootRequest,
        repository: &str,
        now: DateTime<Utc>,
    ) -> Result<Draft, PublishError> {
        if request.edit.is_empty() && !request.extend_targets {
            return Err(AuthorError::Unchanged.into());
        }
        let mut next = BTreeMap::<String, Next>::new();
        let mut sign_targets = request.extend_targets || self.targets.is_some();
        if !request.edit.is_empty() {
            let mut root = renewed("root", self.root, &self.present_root, now)?;
            sign_targets |= edit_root(&mut root, &request.edit)?;
            next.insert("root".to_owned(), root.into());
        } else if let Some(root) = self.root {
            next.insert("root".to_owned(), root.into());
        }
        let mut base = self.all;
        if sign_targets {
            let present = base.documents.get("targets").map(Vec::as_slice).unwrap_or_default();
            next.insert("targets".to_owned(), renewed("targets", self.targets, present, now)?.into());
        } else {
            base.documents.clear();
        }
        Ok(Draft::new(repository, &base, next)?)
    }
}

/// The next version of the document `present`, or `drafted` if there is one already, with a full life from `now` on.
fn renewed<T: RoleType>(
    role: &str,
    drafted: Option<T>,
    present: &[u8],
    now: DateTime<Utc>,
) -> Result<T, PublishError> {
    let mut next = match drafted {
        Some(mut drafted) => {
            drafted.common_mut().version -= 1;
            drafted
        }
        None => Document::<T>::parse(role, present).map_err(UpdateError::from)?.signed,
    };
    next_version(role, &mut next, now);
    Ok(next)
}

/// True if the daemon can sign under `root`: with its present keys, with those that are to follow, or one of each.
fn holds(info: &TrustInfo, root: &Root) -> bool {
    let held =
        [Some(&info.online), info.online_next.as_ref()].into_iter().flatten().flat_map(OnlineKeys::ids);
    let held: Vec<_> = held.collect();
    ["timestamp", "snapshot"]
        .iter()
        .all(|role| held.iter().any(|(of, id)| of == role && author::is_only_signer(root, role, id)))
}
