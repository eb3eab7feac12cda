//! tough's side of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use tough::{ExpirationEnforcement, FilesystemTransport, RepositoryLoader, TargetName};
use url::Url;

use crate::verify::chain;

/// What tough says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judged {
    /// It takes the repository.
    Loaded(Loaded),
    /// It does not, for this reason.
    Refused(String),
}

/// What tough found in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// The versions of the four top-level roles.
    pub versions: BTreeMap<String, u64>,
    /// For each name that was asked for, its sha256 in hex; null if nobody vouches for it.
    pub found: BTreeMap<String, Option<String>>,
    /// Every name that any role lists.
    pub listed: BTreeSet<String>,
}

/// The files of a question, in one folder.
pub(super) const PINNED: &str = "pinned.json";
pub(super) const NAMES: &str = "names.json";
pub(super) const FILES: &str = "metadata";

/// Has tough load the repository in `folder` from the root that is pinned there, by the system's clock, and look the names
/// up. Reads that folder; tough makes and removes a temporary one. May end the process: it overflows its stack on long
/// chains of delegations.
pub async fn judge(folder: &Path) -> Judged {
    match load(folder).await {
        Ok(loaded) => Judged::Loaded(loaded),
        Err(text) => Judged::Refused(text.chars().take(1000).collect()),
    }
}

async fn load(folder: &Path) -> Result<Loaded, String> {
    let unread = |error: std::io::Error| format!("cannot read {}: {error}", folder.display());
    let root = std::fs::read(folder.join(PINNED)).map_err(unread)?;
    let names = std::fs::read(folder.join(NAMES)).map_err(unread)?;
    let names: Vec<String> = serde_json::from_slice(&names).map_err(|error| error.to_string())?;
    let base =
        Url::from_directory_path(folder.join(FILES)).map_err(|()| "not an absolute path".to_owned())?;
    let repository = RepositoryLoader::new(&root, base.clone(), base)
        .transport(FilesystemTransport)
        .expiration_enforcement(ExpirationEnforcement::Safe)
        .load()
        .await
        .map_err(|error| chain(&error))?;
    let find = |name: &String| {
        let target = TargetName::new(name).ok().and_then(|target| {
            let found = repository.targets().signed.find_target(&target, false);
            found.ok().map(|target| HEXLOWER.encode(&target.hashes.sha256))
        });
        (name.clone(), target)
    };
    Ok(Loaded {
        versions: BTreeMap::from([
            ("root".to_owned(), repository.root().signed.version.get()),
            ("timestamp".to_owned(), repository.timestamp().signed.version.get()),
            ("snapshot".to_owned(), repository.snapshot().signed.version.get()),
            ("targets".to_owned(), repository.targets().signed.version.get()),
        ]),
        found: names.iter().map(find).collect(),
        listed: repository.all_targets().map(|(name, _)| name.raw().to_owned()).collect(),
    })
}
