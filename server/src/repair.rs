//! `plimsolld repair NAME --skip-ahead`: a store that is older than the registry takes over what that shows.

use chrono::{DateTime, Utc};
use plimsoll_core::oci::Digest;

use crate::{
    config::{Config, TrustConfig},
    keys::Keyring,
    reach::Reach,
    restore::{Done, RestoreError, finish, open, shown},
    store::{Commit, Head, Store, TrustKey},
    takeover,
};

/// Takes over what the registry shows of `trust`, verified by the chain of roots that the store holds, and signs the next
/// snapshot and timestamp, of versions above all that may have been signed meanwhile. All or nothing: one commit.
///
/// # Errors
/// [`RestoreError`]; [`RestoreError::NotBehind`] if the registry is not ahead,
/// [`TakeOverError::Twin`](takeover::TakeOverError::Twin) or [`TakeOverError::Lost`](takeover::TakeOverError::Lost) if
/// somebody else signs with our keys.
pub async fn skip_ahead(
    config: &Config,
    trust: &TrustConfig,
    now: DateTime<Utc>,
) -> Result<Done, RestoreError> {
    let (name, key) = (&trust.name, TrustKey::whole(&trust.name));
    let not_behind = |what: String| RestoreError::NotBehind { name: name.clone(), what };
    let store = open(config)?;
    let head = store.head(&key)?;
    if head.sequence == 0 {
        return Err(not_behind(format!("it is not in the store; `plimsolld restore {name}` rebuilds it")));
    }
    let keys = Keyring::open(&config.data, name)?;
    let reach = Reach::of(config, trust).await?;
    let known = |role: &str, version: u64, digest: &Digest| {
        let held = store.document(&key, role, version).ok().flatten();
        held.filter(|held| Digest::of(held) == *digest)
    };
    let shown = shown(&reach, known).await?;
    let place = takeover::place(&reach.repository);
    if shown.is_none() {
        return Err(not_behind(format!("{place} shows nothing; the daemon writes it again")));
    }
    let merged = takeover::merge(&store, &key, "the store", shown, now)?
        .ok_or_else(|| not_behind("there is nothing".to_owned()))?;
    if !merged.from_registry {
        return Err(not_behind(format!(
            "{place} is not ahead of the store, which is at timestamp {}; start the daemon",
            merged.newest.timestamp_version()
        )));
    }
    let head = Head { sequence: head.sequence + 1, ..merged.head.clone() };
    let commit = Commit { documents: merged.documents.clone(), head, submissions: vec![] };
    finish(config, trust, &store, Some(&keys), &merged, commit, now)
}
