//! The online keys are replaced, and the daemon dies between any two steps.

use std::{fs, path::PathBuf};

use plimsoll::publish::api::RefusalReason as Why;
use plimsoll_core::tuf::{KeyId, RoleKeys};
use tempfile::TempDir;

use super::*;
use crate::{
    keys::{self, Keyring, OnlineKeyError},
    store::{FailAt, Published, StoreError},
};
use RefusalCode::Refused;

/// A trust repository with a team, whose online keys are on disk.
struct Disk {
    world: World,
    data: TempDir,
}

impl std::ops::Deref for Disk {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Disk {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        keys::load_or_make(data.path(), "acme").unwrap();
        let mut world = World::empty();
        world.setup.keys = Arc::new(Mutex::new(Keyring::open(data.path(), "acme").unwrap()));
        world.submit(&[("root", world.signed_root()), ("targets", world.first_targets())]).unwrap();
        Self { world, data }
    }

    fn folder(&self) -> PathBuf {
        self.data.path().join("keys/acme")
    }

    /// The files and folders of the keys, without their content.
    fn layout(&self) -> Vec<String> {
        let list = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap());
        let mut names = Vec::new();
        for entry in list(self.folder()) {
            let name = entry.file_name().into_string().unwrap();
            names.extend(list(entry.path()).map(|file| format!("{name}/{}", file.file_name().display())));
            names.push(name);
        }
        names.sort();
        names
    }

    fn make_next(&self) -> OnlineKeys {
        keys::make_next(self.data.path(), "acme").unwrap().0.next(None).unwrap()
    }

    /// The next root, which names these keys.
    fn naming(&self, online: &OnlineKeys) -> Root {
        self.next_root(|root| {
            for (role, key) in [("timestamp", &online.timestamp), ("snapshot", &online.snapshot)] {
                root.keys.insert(key.id(), key.clone());
                root.roles.get_mut(role).unwrap().keyids = vec![key.id()];
            }
            let used: Vec<KeyId> = root.roles.values().flat_map(|role| role.keyids.clone()).collect();
            root.keys.retain(|id, _| used.contains(id));
        })
    }

    fn signed(&self, root: &Root) -> Vec<u8> {
        sign(root, &[&self.owner])
    }

    /// Notes that the registry shows the newest timestamp, or not, and brings the folder up to that.
    fn settle(&self, published: bool) {
        let timestamp_version = self.version("timestamp");
        if published {
            let repository = Some(self.setup.place);
            let record =
                Published { timestamp_version, manifest: Digest::of(b"x"), at: self.now, repository };
            self.store.record_published(&self.setup.key, &record).unwrap();
        }
        self.setup.reload(self.now).unwrap();
        let root = self.setup.newest_root().unwrap().unwrap();
        let shown = self.setup.is_shown(&root.signed).unwrap();
        assert_eq!(shown, published);
        self.setup.keys().settle(&root.signed, shown).unwrap();
    }

    /// What a start after a kill finds.
    fn reopen(&self) {
        *self.setup.keys() = Keyring::open(self.data.path(), "acme").unwrap();
        self.setup.reload(self.now).unwrap();
    }

    /// Who signed the newest timestamp and snapshot, as the newest root has it.
    fn signers(&self) -> OnlineKeys {
        let root: Root = self.newest("root");
        let by = |role: &str| {
            let bytes = self.document(role, self.version(role)).unwrap();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            root.roles[role].keyids.iter().find(|id| text.contains(&id.0)).map(|id| root.keys[id].clone())
        };
        OnlineKeys {
            timestamp: by("timestamp").expect("signed by the key that the root names"),
            snapshot: by("snapshot").expect("signed by the key that the root names"),
        }
    }

    /// The daemon goes on with `online` and nothing else, after a restart too.
    fn goes_on_with(mut self, online: &OnlineKeys) {
        for _ in 0..2 {
            self.world.advance(TimeDelta::hours(1));
            assert!(self.tick().signed);
            assert_eq!((&self.signers(), &self.online()), (online, online));
            self.reopen();
        }
        self.world.advance(TimeDelta::days(5));
        assert!(self.tick().signed);
        assert_eq!(&self.signers(), online);
    }
}

const SETTLED: [&str; 2] = ["snapshot.key", "timestamp.key"];
const WAITING: [&str; 5] =
    ["next", "next/snapshot.key", "next/timestamp.key", "snapshot.key", "timestamp.key"];
const TAKEN: [&str; 5] =
    ["snapshot.key", "taken", "taken/snapshot.key", "taken/timestamp.key", "timestamp.key"];

#[test]
fn a_root_that_names_the_next_keys_takes_effect_with_what_they_signed() {
    let disk = Disk::new();
    let (old, next) = (disk.online(), disk.make_next());
    assert_eq!(disk.layout(), WAITING);
    let (timestamp, snapshot) = (disk.version("timestamp"), disk.version("snapshot"));
    let listed = disk.snapshot().meta;
    disk.submit(&[("root", disk.signed(&disk.naming(&next)))]).unwrap();
    assert_eq!((disk.version("timestamp"), disk.version("snapshot")), (timestamp + 1, snapshot + 1));
    assert_eq!(disk.snapshot().meta, listed);
    assert_eq!((disk.signers(), disk.online()), (next.clone(), next.clone()));
    // The old ones stay for as long as the registry shows what they signed.
    disk.settle(false);
    assert_eq!(disk.layout(), TAKEN);
    // But no root goes back to them: they may be the stolen ones.
    let back = disk.signed(&disk.naming(&old));
    let refusal = disk.refuses(&[("root", back)], Refused, "this daemon's key");
    assert_eq!(refusal.reason, Some(Why::OnlineKeys));
    disk.settle(true);
    assert_eq!(disk.layout(), SETTLED);
    assert_eq!(keys::load_or_make(disk.data.path(), "acme").unwrap().public(), next);
    let refusal = disk.refuses(&[("root", disk.signed(&disk.naming(&old)))], Refused, "this daemon's key");
    assert_eq!(refusal.reason, Some(Why::OnlineKeys));
    disk.goes_on_with(&next);
}

#[test]
fn each_online_key_may_be_replaced_alone() {
    for timestamp_only in [true, false] {
        let disk = Disk::new();
        let (old, next) = (disk.online(), disk.make_next());
        let mixed = if timestamp_only {
            OnlineKeys { timestamp: next.timestamp, snapshot: old.snapshot }
        } else {
            OnlineKeys { timestamp: old.timestamp, snapshot: next.snapshot }
        };
        let before = disk.version("snapshot");
        disk.submit(&[("root", disk.signed(&disk.naming(&mixed)))]).unwrap();
        assert_eq!(disk.version("snapshot"), before + u64::from(!timestamp_only));
        assert_eq!(
            (disk.signers(), disk.setup.keys().next(Some(&disk.newest("root")))),
            (mixed.clone(), None)
        );
        disk.settle(true);
        assert_eq!(disk.layout(), SETTLED, "the other one of the pair waits no more");
        // And another pair, both this time.
        let third = disk.make_next();
        disk.submit(&[("root", disk.signed(&disk.naming(&third)))]).unwrap();
        disk.settle(true);
        disk.goes_on_with(&third);
    }
}

#[test]
fn a_root_that_names_neither_the_present_nor_the_next_keys_is_refused() {
    let disk = Disk::new();
    let (old, next, strange) = (disk.online(), disk.make_next(), key().key().clone());
    let refuses = |root: Root| {
        let refusal =
            disk.refuses(&[("root", disk.signed(&root))], Refused, "must be signed by this daemon's key");
        assert_eq!(refusal.reason, Some(Why::OnlineKeys));
        assert!(refusal.message.contains("or its next one"), "{}", refusal.message);
        assert_eq!(disk.layout(), WAITING);
    };
    refuses(disk.naming(&OnlineKeys { timestamp: strange.clone(), ..next.clone() }));
    refuses(disk.naming(&OnlineKeys { snapshot: strange, ..old.clone() }));
    // Each key for its own role.
    refuses(disk.naming(&OnlineKeys { timestamp: next.snapshot.clone(), snapshot: next.timestamp.clone() }));
    // The old key beside the new one would stay good for who stole it.
    let mut both = disk.naming(&next);
    both.keys.insert(old.timestamp.id(), old.timestamp.clone());
    let keyids = vec![next.timestamp.id(), old.timestamp.id()];
    both.roles.insert("timestamp".to_owned(), RoleKeys { keyids, threshold: 1, extra: BTreeMap::new() });
    refuses(both);

    let named = disk.signed(&disk.naming(&next));
    assert!(keys::discard_next(disk.data.path(), "acme").unwrap());
    assert!(!keys::discard_next(disk.data.path(), "acme").unwrap());
    let refusal = disk.refuses(&[("root", named)], Refused, "must be signed by this daemon's key");
    assert!(!refusal.message.contains("next one"), "{}", refusal.message);
    disk.goes_on_with(&old);
}

/// P6: the commit did not come, so nothing was taken.
#[test]
fn keys_of_a_root_that_was_not_stored_wait_again() {
    let disk = Disk::new();
    let (old, next) = (disk.online(), disk.make_next());
    let root = submitted(&[("root", disk.signed(&disk.naming(&next)))]);
    disk.store.fail_next(FailAt::BeforePersist);
    let error = disk.round(std::slice::from_ref(&root)).unwrap_err();
    assert!(matches!(error, RoundError::Store(StoreError::Unavailable { .. })), "{error}");
    assert_eq!(disk.layout(), TAKEN);
    let error = keys::discard_next(disk.data.path(), "acme").unwrap_err();
    assert!(matches!(error, OnlineKeyError::Taken { .. }), "{error}");
    assert_eq!(disk.online(), old);
    for restart in [false, true] {
        if restart {
            disk.setup.keys().claim(&disk.naming(&next)).unwrap();
            disk.reopen();
        }
        assert_eq!(disk.layout(), TAKEN);
        disk.settle(false);
        assert_eq!(disk.layout(), WAITING);
    }
    assert!(disk.round(&[root]).unwrap().answers[0].is_ok());
    disk.settle(true);
    disk.goes_on_with(&next);
}

/// P6: killed after the commit, before anything was told or moved.
#[test]
fn keys_of_a_root_that_was_stored_sign_after_a_kill() {
    for published in [false, true] {
        let disk = Disk::new();
        let next = disk.make_next();
        disk.store.fail_next(FailAt::AfterPersist);
        let error = disk.round(&[submitted(&[("root", disk.signed(&disk.naming(&next)))])]).unwrap_err();
        assert!(matches!(error, RoundError::Store(StoreError::Uncertain { .. })), "{error}");
        disk.reopen();
        assert_eq!((disk.layout(), disk.online()), (TAKEN.map(str::to_owned).to_vec(), next.clone()));
        disk.settle(published);
        assert_eq!(disk.layout().len(), if published { SETTLED.len() } else { TAKEN.len() });
        disk.goes_on_with(&next);
    }
}

/// Killed between the renames that put the next keys in their place, and after them.
#[test]
fn a_kill_in_the_middle_of_the_swap_is_gone_on_from() {
    let steps: [&[&str]; 4] = [
        &["timestamp.key"],
        &["timestamp.key", "snapshot.key"],
        &["snapshot.key"],
        &["timestamp.key", "snapshot.key", ""],
    ];
    for moved in steps {
        let disk = Disk::new();
        let next = disk.make_next();
        disk.submit(&[("root", disk.signed(&disk.naming(&next)))]).unwrap();
        disk.settle(false);
        for file in moved {
            let taken = disk.folder().join("taken");
            if file.is_empty() {
                fs::remove_dir(taken).unwrap();
            } else {
                fs::rename(taken.join(file), disk.folder().join(file)).unwrap();
            }
        }
        disk.reopen();
        assert_eq!(disk.online(), next, "{moved:?}");
        disk.settle(true);
        assert_eq!(disk.layout(), SETTLED, "{moved:?}");
        disk.goes_on_with(&next);
    }
    // One was named, moved, and the other one is left over.
    let disk = Disk::new();
    let (old, next) = (disk.online(), disk.make_next());
    let mixed = OnlineKeys { timestamp: next.timestamp, snapshot: old.snapshot };
    disk.submit(&[("root", disk.signed(&disk.naming(&mixed)))]).unwrap();
    fs::rename(disk.folder().join("taken/timestamp.key"), disk.folder().join("timestamp.key")).unwrap();
    disk.reopen();
    disk.settle(true);
    assert_eq!(disk.layout(), SETTLED);
    disk.goes_on_with(&mixed);
}

/// The operator discards or replaces the pair while a root that names it is on its way.
#[test]
fn keys_that_were_discarded_meanwhile_are_not_committed() {
    let disk = Disk::new();
    let next = disk.make_next();
    disk.setup.keys().reload().unwrap();
    let root = disk.naming(&next);
    keys::discard_next(disk.data.path(), "acme").unwrap();
    let error = disk.setup.keys().claim(&root).unwrap_err();
    assert!(matches!(error, OnlineKeyError::NextChanged { .. }), "{error}");

    let next = disk.make_next();
    disk.setup.keys().reload().unwrap();
    keys::discard_next(disk.data.path(), "acme").unwrap();
    let other = disk.make_next();
    let error = disk.setup.keys().claim(&disk.naming(&next)).unwrap_err();
    assert!(matches!(error, OnlineKeyError::NextChanged { .. }), "{error}");
    assert_eq!((disk.layout(), disk.make_next()), (WAITING.map(str::to_owned).to_vec(), other.clone()));
    disk.submit(&[("root", disk.signed(&disk.naming(&other)))]).unwrap();
    disk.settle(true);
    disk.goes_on_with(&other);
}

/// Broken next keys keep nobody from publishing, and the present ones go on.
#[test]
fn next_keys_that_cannot_be_read_are_reported_and_not_offered() {
    let disk = Disk::new();
    let (old, next) = (disk.online(), disk.make_next());
    fs::remove_file(disk.folder().join("next/snapshot.key")).unwrap();
    let outcome = disk.round(&[submitted(&[("root", disk.signed(&disk.naming(&next)))])]).unwrap();
    assert_eq!(outcome.answers[0].as_ref().unwrap_err().reason, Some(Why::OnlineKeys));
    assert!(outcome.reports.iter().any(|r| r.contains("next online keys cannot be read")), "{outcome:?}");
    disk.submit(&[("root", disk.signed(&disk.naming(&old)))]).unwrap();
    assert!(keys::discard_next(disk.data.path(), "acme").unwrap());
    disk.goes_on_with(&old);
}

/// Other keys than the root names, as after a backup: nothing is signed, and a root that names them mends it.
#[test]
fn a_daemon_without_the_keys_of_its_root_signs_nothing_until_a_root_names_those_it_has() {
    let mut disk = Disk::new();
    fs::remove_dir_all(disk.folder()).unwrap();
    keys::load_or_make(disk.data.path(), "acme").unwrap();
    disk.reopen();
    let new = disk.online();
    disk.world.advance(TimeDelta::hours(2));
    let before = disk.head();
    let error = disk.round(&[]).unwrap_err();
    assert!(matches!(error, RoundError::NoKey { role: "timestamp", version: 1 }), "{error}");
    assert_eq!(disk.head(), before);
    disk.submit(&[("root", disk.signed(&disk.naming(&new)))]).unwrap();
    disk.goes_on_with(&new);
}
