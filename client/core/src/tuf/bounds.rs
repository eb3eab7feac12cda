//! What an update is held to beyond what the documents say of each other: how stale a view may be, and floors.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Error, Floor, Root, Snapshot,
    trusted::{Mark, not_older, same_if_known},
};

/// What an update is held to besides the documents and the memory. The default relaxes nothing and asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bounds {
    /// How long after its expiry a timestamp or a snapshot may still be taken, by the user's policy, where
    /// there is no network to fetch fresher ones. Extends those two only, and never a version. None, zero and less extend
    /// nothing.
    pub max_staleness: Option<TimeDelta>,
    /// Floors of this trust repository: each one holds, on top of the memory and never in its place.
    pub floors: Vec<Floor>,
}

impl Bounds {
    /// 5.4.4, 5.5.6: refuses a timestamp or snapshot that is expired at `now` by as much as may be, or more.
    pub(super) fn check_expiry(
        &self,
        role: &str,
        version: u64,
        expires: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let extension = self.max_staleness.unwrap_or_default().max(TimeDelta::zero());
        if now - expires < extension {
            return Ok(());
        }
        Err(Error::Expired { role: role.to_owned(), version, expires })
    }

    /// Each root of the chain: the version that a floor names has its bytes.
    pub(super) fn check_root(&self, root: Mark) -> Result<(), Error> {
        self.hold(|floor| same_if_known("root", floor.root, root))
    }

    /// The newest root is not older than a floor's.
    pub(super) fn check_newest_root(&self, version: u64) -> Result<(), Error> {
        self.hold(|floor| not_older("root", floor.root.version, version))
    }

    /// The timestamp, and the snapshot that it names, are not older than a floor's, nor others of the same version.
    pub(super) fn check_timestamp(&self, root: &Root, timestamp: Mark, named: Mark) -> Result<(), Error> {
        self.hold(|floor| {
            for (role, found) in [("timestamp", timestamp), ("snapshot", named)] {
                if let Some(seen) = floor.vouched(role, root) {
                    not_older(role, seen.version, found.version)?;
                    same_if_known(role, seen, found)?;
                }
            }
            Ok(())
        })
    }

    /// The snapshot is the floor's if it has its version, and lists every role that the floor names, none older, none
    /// with another hash for a known version.
    pub(super) fn check_snapshot(
        &self,
        root: &Root,
        mark: Mark,
        snapshot: Option<&Snapshot>,
    ) -> Result<(), Error> {
        self.hold(|floor| {
            // The versions of the roles were this snapshot's word, so they lapse with it.
            let Some(seen) = floor.vouched("snapshot", root) else { return Ok(()) };
            same_if_known("snapshot", seen, mark)?;
            for (role, seen) in snapshot.iter().flat_map(|_| &floor.roles) {
                let listed = snapshot.and_then(|snapshot| snapshot.role(role));
                let listed = listed.ok_or_else(|| Error::RoleRemoved { role: role.clone() })?.mark();
                not_older(role, seen.version, listed.version)?;
                same_if_known(role, *seen, listed)?;
            }
            Ok(())
        })
    }

    /// A role's document is the floor's if it has its version, also where the snapshot lists no hash.
    pub(super) fn check_role(&self, root: &Root, role: &str, mark: Mark) -> Result<(), Error> {
        self.hold(|floor| match (floor.vouched("snapshot", root), floor.roles.get(role)) {
            (Some(_), Some(seen)) => same_if_known(role, *seen, mark),
            _ => Ok(()),
        })
    }

    /// What `check` says of each floor, in the name of that floor.
    fn hold(&self, check: impl Fn(&Floor) -> Result<(), Error>) -> Result<(), Error> {
        self.floors.iter().try_for_each(|floor| {
            check(floor).map_err(|unmet| Error::Floor { floor: floor.called(), unmet: Box::new(unmet) })
        })
    }
}
