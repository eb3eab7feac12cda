//! Looks at a change as clients do: a daemon's word is no proof that the registry shows it.

use std::{path::Path, sync::Arc, time::Duration};

use plimsoll_core::{
    oci::{Digest, RepositoryAddress, TargetName},
    tuf::{self, Outcome, Revocation},
};

use super::{PublishError, head::present};
use crate::{
    clock::Clock,
    registry::Registry,
    update::{Bounds, RegistrySource, Session, Source, Unfinished, UpdateError},
};

/// A registry may serve what it had before for a moment: this often, with this pause, it is asked again.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// What clients shall see in the new metadata.
#[derive(Debug, Clone, Copy)]
pub enum Expected<'a> {
    /// This digest under this name.
    Signed(&'a TargetName, Digest),
    /// This digest taken back, for whoever asks for this name.
    Revoked(&'a TargetName, Digest),
    /// Nobody who may speak about this name lists it.
    Absent(&'a TargetName),
    /// This version of the role, which is this document, or a newer one.
    Document {
        /// The role.
        role: &'a str,
        /// Its version.
        version: u64,
        /// The document's digest.
        digest: Digest,
    },
}

/// Reads the trust repository at `repository` as a client does and returns once it shows `timestamp` or a newer one,
/// and in it all that is `expected`. Moves trusted state in the folder `state` forward; asks for about 5 seconds.
///
/// # Errors
/// [`PublishError::NotSeen`], [`PublishError::Overruled`], [`PublishError::Dropped`].
pub async fn seen(
    (registry, repository): (&Registry, &RepositoryAddress),
    state: &Path,
    pinned: &[u8],
    clock: &Arc<dyn Clock>,
    timestamp: u64,
    expected: &[Expected<'_>],
) -> Result<(), PublishError> {
    let not_seen = |error| PublishError::NotSeen {
        location: repository.to_string(),
        timestamp,
        source: Box::new(error),
    };
    let mut tries = 0;
    let mut session = loop {
        let source = RegistrySource::new(registry.clone(), repository.clone());
        match fresh(source, state, pinned, clock, timestamp).await {
            Err(UpdateError::Tuf(tuf::Error::Rollback { .. })) if tries < TRIES => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            result => break result.map_err(not_seen)?,
        }
    };
    session.verified_snapshot().map_err(not_seen)?;
    for expected in expected {
        if let Expected::Document { role, version, digest } = *expected {
            let (found, there) = present(session.trusted(), role);
            // What is newer was signed by who may: whether it goes on from ours, the other expectations tell.
            if found < version || (found == version && there != Some(digest)) {
                let (location, role) = (repository.to_string(), role.to_owned());
                return Err(PublishError::Dropped { location, role, version });
            }
            continue;
        }
        if let Some((name, what)) = contradicted(&mut session, expected).await.map_err(not_seen)? {
            let (location, name) = (repository.to_string(), name.to_string());
            return Err(PublishError::Overruled { location, name, what });
        }
    }
    Ok(())
}

/// What clients see instead of what is expected; none if they see that.
async fn contradicted<'a, S: Source>(
    session: &mut Session<S>,
    expected: &Expected<'a>,
) -> Result<Option<(&'a TargetName, String)>, UpdateError> {
    let stopped = |unfinished: Unfinished| unfinished.error;
    Ok(Some(match *expected {
        Expected::Document { .. } => return Ok(None),
        Expected::Signed(name, digest) => match session.find(&name.to_string()).await.map_err(stopped)? {
            Outcome::Found(found) if found.revocation(&digest).is_some() => (name, "revoked".to_owned()),
            Outcome::Found(found) if found.target.digest() == Some(digest) => return Ok(None),
            Outcome::Found(found) => (name, says(&found.path, found.target.digest())),
            Outcome::Revoked { role, .. } => (name, format!("revoked by {role}")),
            Outcome::Absent { .. } => (name, "nobody signs it".to_owned()),
        },
        Expected::Revoked(name, digest) => match session.find(&name.to_string()).await {
            Err(unfinished) if lists(&unfinished.revocations, digest) => return Ok(None),
            result => match result.map_err(stopped)? {
                Outcome::Revoked { .. } => return Ok(None),
                Outcome::Absent { revocations, .. } if lists(&revocations, digest) => return Ok(None),
                Outcome::Found(found) if lists(&found.revocations, digest) => return Ok(None),
                Outcome::Found(found) => (name, says(&found.path, found.target.digest())),
                Outcome::Absent { .. } => (name, "nobody signs it or takes it back".to_owned()),
            },
        },
        Expected::Absent(name) => match session.find(&name.to_string()).await.map_err(stopped)? {
            Outcome::Absent { .. } => return Ok(None),
            Outcome::Found(found) => (name, says(&found.path, found.target.digest())),
            Outcome::Revoked { role, .. } => (name, format!("revoked by {role}")),
        },
    }))
}

async fn fresh<S: Source>(
    source: S,
    state: &Path,
    pinned: &[u8],
    clock: &Arc<dyn Clock>,
    timestamp: u64,
) -> Result<Session<S>, UpdateError> {
    let session = Session::refresh(source, state, pinned, clock.now(), &Bounds::default()).await?;
    let offered = session.trusted().timestamp().map_or(0, |timestamp| timestamp.version());
    if offered < timestamp {
        let role = "timestamp".to_owned();
        return Err(tuf::Error::Rollback { role, held: timestamp, offered }.into());
    }
    Ok(session)
}

fn lists(revocations: &[(String, Revocation)], digest: Digest) -> bool {
    revocations.iter().any(|(_, revocation)| revocation.digest == Some(digest))
}

fn says(path: &[String], digest: Option<Digest>) -> String {
    let digest = digest.map_or_else(|| "nothing usable".to_owned(), |digest| digest.to_string());
    format!("{} says {digest}", path.last().map_or("somebody", String::as_str))
}
