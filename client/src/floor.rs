//! Floors (docs/ephemeral.md): what this machine saw of a trust repository, for machines that remember nothing.
//!
//! A floor is a file to bake into an image. It only narrows what is trusted, holds no secret, and is never remembered.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use plimsoll_core::tuf::{Document, Floor, FloorError, HighWater, Mark, Root, Snapshot, Timestamp};

use crate::{
    home::Home,
    state::{self, State, StateError},
    trust::{self, TrustError},
};

/// A floor may be this long, bytes: room for 50,000 roles.
pub(crate) const MAX_FLOOR: u64 = 16 * 1024 * 1024;

/// Why a floor can be neither written nor used. All of it is misuse, but for trusted state that is damaged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FloorFault {
    /// The file cannot be read.
    #[error("cannot read the floor {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the floor {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds no floor.
    #[error("{} is not a floor", path.display())]
    Floor {
        /// The file.
        path: PathBuf,
        /// Why.
        source: FloorError,
    },
    /// A floor of a trust repository that no pinned root starts: it would hold nobody to anything.
    #[error("the floor {} is of {of}, which no pinned root is of", path.display())]
    Nobody {
        /// The file.
        path: PathBuf,
        /// The trust id, or the sha256 of a root.
        of: String,
    },
    /// A floor that the policy names for a root of another trust repository.
    #[error("the floor is of {floor}, and the pinned root of {root}")]
    Other {
        /// Whose floor it is: a trust id, or the sha256 of a root.
        floor: String,
        /// What the pinned root starts.
        root: String,
    },
    /// Nothing complete was seen of the root yet.
    #[error("this machine has seen nothing of {name} yet, so there is no floor to write")]
    NothingSeen {
        /// The root, by its name in the policy.
        name: String,
    },
    /// The policy or the pinned root.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Trusted state.
    #[error(transparent)]
    State(#[from] StateError),
}

impl FloorFault {
    /// The exit code: 1 for trusted state and a file that cannot be written, 2 for what the user must change.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::State(_) | Self::Write { .. } => 1,
            Self::Trust(error) => error.exit_code(),
            _ => 2,
        }
    }

    /// What to do next, if there is more to say than the message.
    pub fn next(&self) -> Option<String> {
        match self {
            Self::Floor { .. } => {
                Some("make it anew with `plimsoll trust floor NAME --out FILE`, where it was made".to_owned())
            }
            Self::Nobody { .. } | Self::Other { .. } => Some(
                "`plimsoll trust list` names the pinned roots, `plimsoll trust show NAME` the trust id of each"
                    .to_owned(),
            ),
            Self::NothingSeen { name } => {
                Some(format!("run `plimsoll verify` on something that {name} speaks for, then this again"))
            }
            Self::Trust(error) => error.next(),
            _ => None,
        }
    }
}

/// Reads the floor in the file `path`, at most 16 MiB.
///
/// # Errors
/// [`FloorFault::Read`], [`FloorFault::Floor`].
pub fn read(path: &Path) -> Result<Floor, FloorFault> {
    let failed = |source| FloorFault::Read { path: path.to_owned(), source };
    let missing = || failed(io::Error::new(io::ErrorKind::NotFound, "there is no such file"));
    let bytes = state::read(path, MAX_FLOOR).map_err(failed)?.ok_or_else(missing)?;
    let mut floor =
        Floor::parse(&bytes).map_err(|source| FloorFault::Floor { path: path.to_owned(), source })?;
    floor.name = Some(path.display().to_string());
    Ok(floor)
}

/// Writes `floor` to the file `path`, which is replaced as a whole and durably. Anybody may read it: it is to be baked in.
///
/// # Errors
/// [`FloorFault::Write`].
pub fn write(floor: &Floor, path: &Path) -> Result<(), FloorFault> {
    // A bare file name has an empty parent, which is not a folder that can be opened.
    let target =
        if path.parent() == Some(Path::new("")) { Path::new(".").join(path) } else { path.to_owned() };
    state::replace(&target, floor.to_json().as_bytes(), 0o644)
        .map_err(|source| FloorFault::Write { path: path.to_owned(), source })
}

/// Reads the floors in `paths`, each of which must be of a root that the policy of `home` pins.
///
/// # Errors
/// [`FloorFault`].
pub fn read_all(home: &Home, paths: &[PathBuf]) -> Result<Vec<Floor>, FloorFault> {
    let mut floors = Vec::new();
    if paths.is_empty() {
        return Ok(floors);
    }
    let policy = trust::load_policy(home)?;
    let mut roots = Vec::new();
    for entry in policy.root.values() {
        let bytes = trust::load_root(home, entry)?;
        // One that is no root fails the verification that asks it, and has no floor.
        roots.extend(Document::<Root>::parse("root", &bytes));
    }
    for path in paths {
        let floor = read(path)?;
        if !roots.iter().any(|root| floor.is_of(root)) {
            let of =
                floor.trust.clone().map_or_else(|| floor.pinned.to_string(), |id| format!("trust id {id}"));
            return Err(FloorFault::Nobody { path: path.clone(), of });
        }
        floors.push(floor);
    }
    Ok(floors)
}

/// The floors among `floors` of the trust repository that the root document `pinned` starts; none if it is no root.
pub fn of_root(floors: &[Floor], pinned: &[u8]) -> Vec<Floor> {
    if floors.is_empty() {
        return Vec::new();
    }
    let Ok(root) = Document::<Root>::parse("root", pinned) else { return Vec::new() };
    floors.iter().filter(|floor| floor.is_of(&root)).cloned().collect()
}

/// The floor of what this machine has seen of the root `name`. It is as of the last complete update, or as of when the
/// timestamp was signed, where that is later, and not after `now`. Reads trusted state under its lock; no network.
///
/// # Errors
/// [`FloorFault::NothingSeen`] before the first complete update, or where it was damaged since; [`FloorFault::Trust`],
/// [`FloorFault::State`].
pub async fn of_state(home: &Home, name: &str, now: DateTime<Utc>) -> Result<Floor, FloorFault> {
    let nothing = || FloorFault::NothingSeen { name: name.to_owned() };
    let (pinned, state) = trust::remembered_of(home, name).await?.ok_or_else(nothing)?;
    let (memory, seen) = state.memory().zip(state.seen()).ok_or_else(nothing)?;
    let snapshot = memory.snapshot.ok_or_else(nothing)?;
    let snapshot = Document::<Snapshot>::parse("snapshot", &state.held_snapshot(&snapshot)?).ok();
    let root = state.document("root")?.and_then(|bytes| Document::<Root>::parse("root", &bytes).ok());
    let (root, snapshot) = root.zip(snapshot).ok_or_else(nothing)?;
    let roles = in_use(&state, memory, &snapshot.signed)?;
    let as_of = seen.max(signed_at(&state, memory)?.map_or(seen, |at| at.min(now)));
    Floor::of(&pinned, memory, &root, &snapshot, roles, as_of).ok_or_else(nothing)
}

/// When the timestamp that `memory` names was signed, if it says.
fn signed_at(state: &State, memory: &HighWater) -> Result<Option<DateTime<Utc>>, StateError> {
    let held = state.document("timestamp")?;
    let held = held.and_then(|bytes| Document::<Timestamp>::parse("timestamp", &bytes).ok());
    let held = held.filter(|held| memory.timestamp.is_some_and(|seen| seen.digest == Some(held.digest())));
    Ok(held.and_then(|held| held.signed.common.identity.as_ref().map(|identity| identity.at)))
}

/// The roles of `snapshot` whose documents are here: those that this machine was on the way of.
fn in_use(
    state: &State,
    memory: &HighWater,
    snapshot: &Snapshot,
) -> Result<BTreeMap<String, Mark>, StateError> {
    let mut roles = BTreeMap::new();
    for (file, meta) in &snapshot.meta {
        let Some(role) = file.strip_suffix(".json") else { continue };
        if state.document(role)?.is_some_and(|bytes| meta.fits(&bytes)) {
            // Where the snapshot leaves a hash out, the file could be anything of its length; what is remembered is not.
            let unlisted = memory.unlisted.get(role).and_then(|seen| seen.digest);
            let mark = Mark { digest: meta.digest().or(unlisted), ..meta.mark() };
            roles.insert(role.to_owned(), mark);
        }
    }
    Ok(roles)
}
