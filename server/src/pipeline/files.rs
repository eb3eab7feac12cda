//! Reading what was signed, as the plain files of a TUF repository.

use bytes::Bytes;
use plimsoll::publish::api::Refusal;

use super::{Engine, blocking};

/// One of the plain files.
#[derive(Debug)]
pub(crate) struct PlainFile {
    pub(crate) bytes: Bytes,
    /// The version of `timestamp.json`, the one file whose name does not tell it: all others never change.
    pub(crate) timestamp: Option<u64>,
}

impl Engine {
    /// The version of the newest timestamp; 0 if there is none. It is durable, and so is all that it leads to. No I/O.
    pub(crate) fn timestamp_version(&self) -> u64 {
        *self.shared.committed.borrow()
    }

    /// The plain TUF file `name`: `timestamp.json`, `N.root.json`, `N.snapshot.json` or `N.ROLE.json`. None if there is
    /// no such file.
    ///
    /// # Errors
    /// [`Refusal`] if the store cannot be read.
    pub async fn file(&self, name: &str) -> Result<Option<Bytes>, Refusal> {
        Ok(self.plain_file(name).await?.map(|file| file.bytes))
    }

    /// As [`Engine::file`].
    pub(crate) async fn plain_file(&self, name: &str) -> Result<Option<PlainFile>, Refusal> {
        let Some(stem) = name.strip_suffix(".json") else { return Ok(None) };
        let timestamp = (stem == "timestamp").then(|| self.timestamp_version());
        let (role, version) = match timestamp {
            Some(version) => (stem, version),
            None => {
                let Some((version, role)) = stem.split_once('.') else { return Ok(None) };
                // Only the digits that we would write: one name for one file.
                let Some(version) = version.parse().ok().filter(|v: &u64| v.to_string() == version) else {
                    return Ok(None);
                };
                if role == "timestamp" {
                    return Ok(None);
                }
                (role, version)
            }
        };
        let (shared, role) = (self.shared.clone(), role.to_owned());
        let bytes = blocking(move || shared.setup.store.document(&shared.setup.key, &role, version)).await?;
        Ok(bytes.map(|bytes| PlainFile { bytes, timestamp }))
    }
}
