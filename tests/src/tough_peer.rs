//! `tough`: another implementation of TUF in Rust, as a second opinion.

use std::{collections::BTreeMap, path::Path, thread};

use data_encoding::HEXLOWER;
use tough::{ExpirationEnforcement, FilesystemTransport, RepositoryLoader};
use url::Url;

/// What tough found in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The version of the root it ended at.
    pub root: u64,
    /// The version of the timestamp.
    pub timestamp: u64,
    /// The version of the snapshot.
    pub snapshot: u64,
    /// The version of the top-level targets.
    pub targets: u64,
    /// Every target of every role, by name: its length in bytes and its sha256 in lower-case hex.
    pub found: BTreeMap<String, (u64, String)>,
}

/// Loads the repository whose metadata files (`1.root.json`, `timestamp.json`, `N.snapshot.json`, …) are in
/// `directory`, trusting `root`, with expiry enforced by the real clock. Reads every delegated role.
///
/// Works from plain and from async tests: tough runs on a thread of its own.
///
/// # Errors
/// tough's own, with its causes, as text.
///
/// # Panics
/// If `directory` is not an absolute path.
pub fn load(root: &[u8], directory: &Path) -> Result<Loaded, String> {
    let metadata = Url::from_directory_path(directory).expect("the directory is an absolute path");
    thread::scope(|scope| {
        let loading = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime starts").block_on(load_from(root, metadata))
        });
        loading.join().expect("tough does not panic")
    })
}

async fn load_from(root: &[u8], metadata: Url) -> Result<Loaded, String> {
    let repository = RepositoryLoader::new(&root, metadata.clone(), metadata)
        .transport(FilesystemTransport)
        .expiration_enforcement(ExpirationEnforcement::Safe)
        .load()
        .await
        .map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
    let found = repository
        .all_targets()
        .map(|(name, target)| {
            (name.raw().to_owned(), (target.length, HEXLOWER.encode(&target.hashes.sha256)))
        })
        .collect();
    Ok(Loaded {
        root: repository.root().signed.version.get(),
        timestamp: repository.timestamp().signed.version.get(),
        snapshot: repository.snapshot().signed.version.get(),
        targets: repository.targets().signed.version.get(),
        found,
    })
}
