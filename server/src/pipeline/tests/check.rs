//! The client's own verifier before anything is stored: each kind of wrong plan is caught.

use plimsoll_core::tuf::{Error, MetaFile, RoleKeys};

use super::*;
use crate::{
    keys::OnlineRole,
    pipeline::check::{Held, Offered, check},
    store::Commit,
};

const TEAM: &str = "targets--team";

/// A plan over what is published, to be spoilt: a new version of the team's role, and what follows from it.
struct Planned {
    world: World,
    held: Held,
    roots: Vec<Vec<u8>>,
    chain: Option<Vec<Bytes>>,
    timestamp: Timestamp,
    snapshot: Snapshot,
    role: Vec<u8>,
    targets: Option<Arc<Document<Targets>>>,
    signers: [OnlineRole; 2],
    /// The timestamp says of the snapshot what it is, whatever was changed there.
    consistent: bool,
}

impl World {
    /// `targets` as it was published.
    fn targets(&self, version: u64) -> Arc<Document<Targets>> {
        Arc::new(Document::parse("targets", &self.document("targets", version).unwrap()).unwrap())
    }
}

impl Planned {
    fn new() -> Self {
        let world = World::with_team();
        let (mut timestamp, mut snapshot) = (world.timestamp(), world.snapshot());
        timestamp.common.version += 1;
        snapshot.common.version += 1;
        let role = world.next(TEAM, |t| {
            t.targets.insert("acme/app:v1".to_owned(), target("x"));
        });
        snapshot.meta.insert(format!("{TEAM}.json"), MetaFile::of(2, &role));
        let newest = |role: &str| world.document(role, world.version(role)).unwrap();
        let held = Held {
            root: newest("root"),
            timestamp: Some(newest("timestamp")),
            snapshot: Some(newest("snapshot")),
        };
        Self {
            held,
            roots: Vec::new(),
            chain: None,
            timestamp,
            snapshot,
            role,
            targets: None,
            signers: OnlineRole::ALL,
            consistent: true,
            world,
        }
    }

    fn entry(&mut self, role: &str) -> &mut MetaFile {
        self.snapshot.meta.get_mut(&format!("{role}.json")).unwrap()
    }

    /// What the check says of it.
    fn check(mut self) -> Result<Vec<String>, Error> {
        let keys = self.world.setup.keys();
        let root: Root = self.world.newest("root");
        let sign_as = |role: OnlineRole| keys.signer(role, role.named_by(&root).unwrap()).unwrap();
        let snapshot = sign(&self.snapshot, &[sign_as(self.signers[1])]);
        if self.consistent {
            let meta = MetaFile::of(self.snapshot.common.version, &snapshot);
            self.timestamp.meta.insert("snapshot.json".to_owned(), meta);
        }
        let timestamp = sign(&self.timestamp, &[sign_as(self.signers[0])]);
        let path = vec![
            ("targets".to_owned(), self.world.targets(2)),
            (TEAM.to_owned(), Arc::new(Document::parse(TEAM, &self.role)?)),
        ];
        let offered = Offered {
            roots: self.roots.iter().map(Vec::as_slice).collect(),
            chain: self.chain,
            timestamp: Arc::new(Document::parse("timestamp", &timestamp)?),
            snapshot: Arc::new(Document::parse("snapshot", &snapshot)?),
            roles: vec![path],
            targets: self.targets,
        };
        let held = self.held.client(self.world.now)?;
        check(&held, &offered, self.world.now).map(|(_, reports)| reports)
    }

    fn refused(change: impl FnOnce(&mut Self)) -> Error {
        let mut planned = Self::new();
        change(&mut planned);
        planned.check().expect_err("a client refuses it")
    }
}

#[test]
fn an_honest_plan_passes_without_a_word() {
    assert_eq!(Planned::new().check().unwrap(), Vec::<String>::new());
    let mut whole = Planned::new();
    whole.chain = Some(vec![whole.held.root.clone()]);
    whole.targets = Some(whole.world.targets(2));
    assert_eq!(whole.check().unwrap(), Vec::<String>::new());
}

#[test]
fn a_snapshot_entry_that_is_not_the_role_is_caught() {
    let other = MetaFile::of(2, b"other");
    let error = Planned::refused(|p| p.entry(TEAM).hashes = other.hashes.clone());
    assert!(matches!(&error, Error::Hash { role, .. } if role == TEAM), "{error}");
    let error = Planned::refused(|p| *p.entry(TEAM).length.as_mut().unwrap() += 1);
    assert!(matches!(&error, Error::Length { role, .. } if role == TEAM), "{error}");
    let error = Planned::refused(|p| p.entry(TEAM).version = 3);
    assert!(matches!(&error, Error::Version { role, expected: 3, found: 2 } if role == TEAM), "{error}");
    // Of a role that nobody changed.
    let error = Planned::refused(|p| p.entry("targets").hashes = other.hashes.clone());
    assert!(matches!(&error, Error::Equivocation { role, .. } if role == "targets"), "{error}");
    let error = Planned::refused(|p| drop(p.snapshot.meta.remove(&format!("{TEAM}.json"))));
    assert!(matches!(&error, Error::RoleRemoved { role } if role == TEAM), "{error}");
}

/// T41: what clients would not even read is not published, however it got here.
#[test]
fn a_role_that_is_too_long_for_clients_is_caught() {
    let error = Planned::refused(|p| {
        // White space after a document is nobody's concern but that of who must read it.
        p.role.resize((8 << 20) + 1, b' ');
        let meta = MetaFile::of(2, &p.role);
        *p.entry(TEAM) = meta;
    });
    assert!(matches!(&error, Error::TooLong { role, .. } if role == TEAM), "{error}");
}

#[test]
fn a_timestamp_that_does_not_name_the_snapshot_is_caught() {
    let of = |change: fn(&mut MetaFile)| {
        Planned::refused(|p| {
            p.consistent = false;
            let keys = p.world.setup.keys();
            let root: Root = p.world.newest("root");
            let key = keys.signer(OnlineRole::Snapshot, OnlineRole::Snapshot.named_by(&root).unwrap());
            let bytes = sign(&p.snapshot, &[key.unwrap()]);
            let mut meta = MetaFile::of(p.snapshot.common.version, &bytes);
            change(&mut meta);
            p.timestamp.meta.insert("snapshot.json".to_owned(), meta);
        })
    };
    let error = of(|meta| meta.hashes = MetaFile::of(1, b"other").hashes);
    assert!(matches!(&error, Error::Hash { role, .. } if role == "snapshot"), "{error}");
    let error = of(|meta| *meta.length.as_mut().unwrap() -= 1);
    assert!(matches!(&error, Error::Length { role, .. } if role == "snapshot"), "{error}");
    let error = of(|meta| meta.version += 1);
    assert!(matches!(&error, Error::Version { role, .. } if role == "snapshot"), "{error}");
}

#[test]
fn a_wrong_key_is_caught() {
    use OnlineRole::{Snapshot, Timestamp};
    let error = Planned::refused(|p| p.signers = [Snapshot, Snapshot]);
    assert!(matches!(&error, Error::Threshold { role, have: 0, .. } if role == "timestamp"), "{error}");
    let error = Planned::refused(|p| p.signers = [Timestamp, Timestamp]);
    assert!(matches!(&error, Error::Threshold { role, have: 0, .. } if role == "snapshot"), "{error}");
    let error = Planned::refused(|p| {
        p.role = sign(&p.world.edit(TEAM, |_| {}), &[&p.world.owner]);
        let meta = MetaFile::of(2, &p.role);
        *p.entry(TEAM) = meta;
    });
    assert!(matches!(&error, Error::Threshold { role, have: 0, .. } if role == TEAM), "{error}");
}

/// P1.
#[test]
fn a_version_that_goes_back_or_stays_is_caught() {
    let error = Planned::refused(|p| p.timestamp.common.version -= 1);
    assert!(matches!(&error, Error::Equivocation { role, .. } if role == "timestamp"), "{error}");
    let error = Planned::refused(|p| p.timestamp.common.version -= 2);
    assert!(matches!(&error, Error::Rollback { role, .. } if role == "timestamp"), "{error}");
    let error = Planned::refused(|p| p.snapshot.common.version -= 2);
    assert!(matches!(&error, Error::Rollback { role, .. } if role == "snapshot"), "{error}");
    let error = Planned::refused(|p| p.entry("targets").version -= 1);
    assert!(matches!(&error, Error::Rollback { role, .. } if role == "targets"), "{error}");
}

#[test]
fn what_has_expired_or_is_of_another_trust_repository_is_caught() {
    let error = Planned::refused(|p| p.timestamp.common.expires = p.world.now);
    assert!(matches!(&error, Error::Expired { role, .. } if role == "timestamp"), "{error}");
    let error = Planned::refused(|p| p.snapshot.common.expires = p.world.now);
    assert!(matches!(&error, Error::Expired { role, .. } if role == "snapshot"), "{error}");
    let error = Planned::refused(|p| p.snapshot.common.identity.as_mut().unwrap().trust = "f".repeat(32));
    assert!(matches!(&error, Error::Identity { role, .. } if role == "snapshot"), "{error}");
}

/// Only who comes fresh notices: whoever holds the newest root asks for none before it.
#[test]
fn a_chain_of_roots_that_does_not_lead_to_the_newest_is_caught() {
    let with_two = || {
        let mut planned = Planned::new();
        let second = sign(&planned.world.next_root(|_| {}), &[&planned.world.owner]);
        planned.chain = Some(vec![planned.held.root.clone(), Bytes::from(second.clone())]);
        planned.roots = vec![second];
        planned
    };
    assert_eq!(with_two().check().unwrap(), Vec::<String>::new());
    let chain = |change: fn(&mut Vec<Bytes>)| {
        let mut planned = with_two();
        change(planned.chain.as_mut().unwrap());
        planned.check().expect_err("a fresh client refuses it")
    };
    let error = chain(|chain| drop(chain.pop()));
    assert!(matches!(error, Error::RootVersion { expected: 2, found: 1 }), "{error}");
    let error = chain(|chain| chain.insert(1, chain[0].clone()));
    assert!(matches!(error, Error::RootVersion { expected: 2, found: 1 }), "{error}");
    let error = chain(|chain| chain[0] = Bytes::from_static(b"{}"));
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    // The first root was replaced by another's.
    let mut planned = with_two();
    let other = World::new();
    planned.chain.as_mut().unwrap()[0] = other.document("root", 1).unwrap();
    assert!(matches!(planned.check().unwrap_err(), Error::Threshold { .. }));
}

/// `targets` was not changed, and still the snapshot must say of it what it is.
#[test]
fn unchanged_targets_are_compared_with_the_new_snapshot() {
    let error = Planned::refused(|p| {
        p.entry("targets").version = 3;
        p.targets = Some(p.world.targets(2));
    });
    // The way to the changed role leads over it.
    assert!(matches!(&error, Error::Version { role, .. } if role == "targets"), "{error}");
}

/// A parent's change is never refused because what is below it stops verifying.
#[test]
fn targets_that_the_owners_orphaned_are_reported_and_freshness_goes_on() {
    let mut world = World::with_team();
    let new = key();
    let root = world.next_root(|root| {
        root.keys.insert(new.key_id(), new.key().clone());
        let keys = RoleKeys { keyids: vec![new.key_id()], ..root.roles["targets"].clone() };
        root.roles.insert("targets".to_owned(), keys);
    });
    let outcome = world.round(&[submitted(&[("root", sign(&root, &[&world.owner]))])]).unwrap();
    assert!(outcome.answers[0].is_ok(), "{:?}", outcome.answers);
    assert!(outcome.reports.iter().any(|r| r.contains("targets: 0 of 1")), "{:?}", outcome.reports);
    // Through a tick with a new snapshot, too.
    world.advance(TimeDelta::days(4));
    let outcome = world.tick();
    assert!(outcome.signed);
    assert!(outcome.reports.iter().any(|r| r.contains("targets: 0 of 1")), "{:?}", outcome.reports);
}

/// The store lost a root that nobody who follows needs: nothing is signed that a fresh client could not reach.
#[test]
fn a_chain_that_was_damaged_is_found_at_the_first_round_after_a_start() {
    let mut world = World::with_team();
    world.submit(&[("root", sign(&world.next_root(|_| {}), &[&world.owner]))]).unwrap();
    world.advance(TimeDelta::hours(1));
    assert!(world.tick().signed);
    // Another store, with everything but root version 1.
    let (store, head) = (MemoryStore::new(), world.head());
    let documents = head.roles.iter().flat_map(|(role, entry)| {
        let first = if role == "root" { 2 } else { 1 };
        let versions = first..=entry.version;
        versions.map(|version| (role.clone(), version, world.document(role, version).unwrap()))
    });
    let commit =
        Commit { documents: documents.collect(), head: Head { sequence: 1, ..head }, submissions: vec![] };
    store.commit(&world.setup.key, &commit).unwrap();
    world.setup.store = Arc::new(store);
    world.setup.reload(world.now).unwrap();
    world.advance(TimeDelta::hours(1));
    assert!(world.tick().signed, "the walk was made before");
    *world.setup.walked.lock().unwrap() = None;
    world.advance(TimeDelta::hours(1));
    assert!(matches!(world.round(&[]), Err(RoundError::Missing { role, version: 1 }) if role == "root"));
}
