//! What is published now, as a ceremony needs it. Unlike [`super::Head`] it can be read when the root has expired, for
//! that is what a new root is for.

use plimsoll_core::{
    oci::Digest,
    tuf::{self, Document, MetaFile, RoleType, Root, Snapshot, Timestamp, verify},
};

use super::{PublishError, Publisher, draft::Draft, head::Reader};
use crate::update::{Begin, Source, SourceError, UpdateError};

/// The present documents. The roots are a chain from version 1 on that the caller checks with [`Draft::check_pinned`];
/// the rest is vouched for by the newest of them, but for `targets`, which may be orphaned.
#[derive(Debug, Clone)]
pub(super) struct Present {
    pub(super) roots: Vec<Vec<u8>>,
    pub(super) timestamp: Vec<u8>,
    pub(super) snapshot: Document<Snapshot>,
    pub(super) targets: Vec<u8>,
}

impl Publisher {
    /// What is published now, also if the root has expired.
    ///
    /// # Errors
    /// [`PublishError::Update`].
    pub(super) async fn present(&self) -> Result<Present, PublishError> {
        let expired =
            match self.head().await {
                Ok(mut head) => {
                    let session = head.session();
                    // The snapshot is read for this, if it was not before.
                    let targets = session.orphan("targets").await?.bytes.into();
                    let roots = session.root_chain().await?;
                    let (timestamp, snapshot) = (session.trusted().timestamp(), session.trusted().snapshot());
                    let (Some(timestamp), Some(snapshot)) = (timestamp, snapshot) else {
                        let missing = "the timestamp";
                        return Err(
                            UpdateError::from(tuf::Error::Order { role: "targets".into(), missing }).into()
                        );
                    };
                    let (timestamp, snapshot) = (timestamp.bytes.to_vec(), Document::clone(snapshot));
                    return Ok(Present { roots, timestamp, snapshot, targets });
                }
                Err(PublishError::Update(UpdateError::Tuf(tuf::Error::Expired {
                    role, version, ..
                }))) if role == "root" => version,
                Err(error) => return Err(error),
            };
        Ok(under_expired_root(self.reader().await?, expired).await?)
    }
}

impl Present {
    /// The present timestamp's version, if all of `draft` is what is published now.
    pub(super) fn shows(&self, draft: &Draft) -> Option<u64> {
        let is_there = |(role, bytes): (String, Vec<u8>)| match role.as_str() {
            "root" => self.roots.last() == Some(&bytes),
            role => {
                let listed = self.snapshot.signed.role(role).and_then(MetaFile::digest);
                listed == Some(Digest::of(&bytes))
            }
        };
        let timestamp = Document::<Timestamp>::parse("timestamp", &self.timestamp).ok()?;
        draft.documents().into_iter().all(is_there).then(|| timestamp.version())
    }

    /// The role of `draft` that somebody else has changed since it was made; none if it can be published as it is.
    pub(super) fn moved(&self, draft: &Draft) -> Option<String> {
        let newest = self.roots.last();
        let moved = |role: &String| match role.as_str() {
            "root" => draft.roots().last().map(|root| &*root.bytes) != newest.map(Vec::as_slice),
            role => {
                let listed = self.snapshot.signed.role(role).map(|meta| (meta.version, meta.digest()));
                listed != draft.present(role).map(|held| (held.version(), Some(held.digest())))
            }
        };
        draft.versions().into_keys().find(moved)
    }
}

/// The root `version` verified and has expired, so that nothing below it can count. It is read all the same, to make the
/// next root.
async fn under_expired_root(mut reader: Reader, version: u64) -> Result<Present, UpdateError> {
    let (Begin::Changed | Begin::Unchanged) = reader.begin(None).await?;
    let mut roots = Vec::new();
    for version in 1..=version {
        let (location, file) = (reader.location(), format!("{version}.root.json"));
        roots.push(reader.root(version).await?.ok_or(SourceError::Gone { location, file })?);
    }
    let newest = roots.last().map(Vec::as_slice).unwrap_or_default();
    let root = Document::<Root>::parse("root", newest)?.signed;
    let timestamp = reader.timestamp().await?;
    let named = signed::<Timestamp>(&root, "timestamp", &timestamp)?;
    let snapshot = reader.snapshot(named.signed.snapshot(), root.consistent_snapshot).await?;
    let snapshot = signed::<Snapshot>(&root, "snapshot", &snapshot)?;
    let not_in_snapshot = || tuf::Error::NotInSnapshot { role: "targets".to_owned() };
    let meta = snapshot.signed.role("targets").ok_or_else(not_in_snapshot)?.clone();
    let targets = reader.targets("targets", &meta, root.consistent_snapshot).await?;
    Ok(Present { roots, timestamp, snapshot, targets })
}

fn signed<T: RoleType>(root: &Root, role: &str, bytes: &[u8]) -> Result<Document<T>, tuf::Error> {
    let document = Document::parse(role, bytes)?;
    let keys = &root.roles[role];
    verify(document.clone(), role, &root.keys, &keys.keyids, keys.threshold)?;
    Ok(document)
}
