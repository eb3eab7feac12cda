//! The store on one machine's disk, in sled 0.34.
//!
//! Keys are a kind byte, then trust name, view and role, each behind its length in eight bytes, then the version in
//! eight bytes, big-endian: no character in a name can make one key look like another, and versions sort.
//!
//! | kind | rest of the key | value |
//! |---|---|---|
//! | `h` | trust | the [`Head`] without roles and retired names, JSON |
//! | `r` | trust, role | its [`RoleHead`], JSON |
//! | `x` | trust, retired name | nothing |
//! | `d` | trust, role, version | sha256 of the document (32 bytes), then its bytes |
//! | `s` | trust, submission id | the [`SubmissionRecord`], JSON |
//!
//! sled opens empty, without a word, when the front of its log is damaged and no snapshot file contradicts it. So the
//! sequence of the last acknowledged commit stands outside of it too, in `marks/` ([`mark`](super::mark)), and a store that
//! opens behind its marks is damaged.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use ::sled::{Batch, Db, Error as SledError, IVec};
use bytes::Bytes;
use plimsoll_core::record;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Commit, Head, Published, RoleHead, Store, StoreError, SubmissionRecord, TrustKey, admit,
    mark::{self, Mark},
    newer,
    open::{Refusal, lock, open_guarded, set_aside, sync_folder},
};

/// The folder of the marks.
const MARKS: &str = "marks";

/// A [`Store`] in a folder, for one process at a time.
///
/// Each write is one sled batch followed by a flush, under a lock that readers take too: nothing is read that is not
/// on disk. After a failed write every call answers [`StoreError::Stopped`].
#[derive(Debug)]
pub struct SledStore {
    // Dropped before the lock.
    db: Db,
    /// True while a write is under way, and for good once one has failed.
    torn: RwLock<bool>,
    path: PathBuf,
    marks: Mutex<BTreeMap<TrustKey, Mark>>,
    _lock: File,
}

impl SledStore {
    /// Opens the store in the folder `path`, making it (mode 0700) if it is not there.
    ///
    /// sled may refuse to open after a kill while it wrote a `snap.*` file, and may panic or hang on a damaged log; so
    /// it is opened on a thread of its own, with 30 seconds to answer. If that fails, the `snap.*` files (they only
    /// speed up opening) are renamed to `torn-snap.*`, and it is tried once more.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it open; [`StoreError::Open`] if the folder cannot be used;
    /// [`StoreError::Damaged`] if sled cannot read what is there, or reads less than was acknowledged:
    /// [`restore`](crate::restore::restore) rebuilds it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open { path: path.to_owned(), source };
        let lock = lock(path)?;
        let folder = path.join("sled");
        // A kill between writing such a file and renaming it; sled would take it for the newest snapshot.
        set_aside(&folder, |name| name.ends_with(".generating")).map_err(failed)?;
        let db = match open_guarded(&folder) {
            Err(Refusal::Damaged(first)) => {
                if set_aside(&folder, |_| true).map_err(failed)? == 0 {
                    return Err(StoreError::Damaged { path: path.to_owned(), detail: first });
                }
                tracing::warn!(folder = %folder.display(), why = first, "set sled's snapshot files aside");
                open_guarded(&folder).map_err(|r| r.into_error(path))?
            }
            other => other.map_err(|r| r.into_error(path))?,
        };
        check_marks(&db, path)?;
        // What sled made must have names that survive loss of power.
        sync_folder(&folder).and_then(|()| sync_folder(path)).map_err(failed)?;
        Ok(Self { db, torn: RwLock::new(false), path: path.to_owned(), marks: Mutex::default(), _lock: lock })
    }

    fn stopped(&self) -> StoreError {
        StoreError::Stopped { path: self.path.clone() }
    }

    /// The right to read. A panic inside sled during a write poisons the lock, which is a failed write too.
    fn reading(&self) -> Result<RwLockReadGuard<'_, bool>, StoreError> {
        match self.torn.read() {
            Ok(torn) if !*torn => Ok(torn),
            _ => Err(self.stopped()),
        }
    }

    fn writing(&self) -> Result<RwLockWriteGuard<'_, bool>, StoreError> {
        match self.torn.write() {
            Ok(torn) if !*torn => Ok(torn),
            _ => Err(self.stopped()),
        }
    }

    /// Notes that the commit `sequence` will be acknowledged; durable on return.
    fn mark(&self, trust: &TrustKey, sequence: u64) -> io::Result<()> {
        // A file that was opened and not yet written to is written to next time.
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = match marks.entry(trust.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Mark::open(&self.path.join(MARKS), trust)?),
        };
        mark.write(sequence)
    }

    /// Stores `batch`; durable on return.
    fn write(&self, torn: &mut bool, batch: Batch) -> Result<(), StoreError> {
        // From here a failure leaves memory ahead of the disk. The mark stays, so nobody reads what may be lost.
        *torn = true;
        self.db
            .apply_batch(batch)
            .and_then(|()| self.db.flush())
            .map_err(io::Error::from)
            // Large values are files of their own.
            .and_then(|_| sync_folder(&self.path.join("sled").join("blobs")))
            .map_err(|source| StoreError::Uncertain { source })?;
        *torn = false;
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        self.db.get(key).map_err(|e| self.unreadable(e))
    }

    fn unreadable(&self, error: SledError) -> StoreError {
        match error {
            SledError::Io(source) => StoreError::Unavailable { source },
            other => self.damaged(other.to_string()),
        }
    }

    fn damaged(&self, detail: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), detail }
    }

    fn get_json<T: DeserializeOwned>(&self, key: &[u8], what: &str) -> Result<Option<T>, StoreError> {
        self.get(key)?
            .map(|v| record::json(&v).map_err(|e| self.damaged(format!("a {what} does not parse: {e}"))))
            .transpose()
    }

    /// The head without roles and retired names, which may be many.
    fn stored_head(&self, trust: &TrustKey) -> Result<Head, StoreError> {
        Ok(self.get_json(&key(b'h', trust, None), "head")?.unwrap_or_default())
    }

    /// The names that stand behind `kind` and `trust`, each with its value.
    fn named(&self, kind: u8, trust: &TrustKey) -> impl Iterator<Item = Result<(String, IVec), StoreError>> {
        let prefix = key(kind, trust, None);
        let length = prefix.len() + size_of::<u64>();
        self.db.scan_prefix(prefix).map(move |entry| {
            let (key, value) = entry.map_err(|e| self.unreadable(e))?;
            let name = key.get(length..).and_then(|name| std::str::from_utf8(name).ok());
            Ok((name.ok_or_else(|| self.damaged("a key is too short".to_owned()))?.to_owned(), value))
        })
    }

    fn stored_document(
        &self,
        trust: &TrustKey,
        role: &str,
        version: u64,
    ) -> Result<Option<Bytes>, StoreError> {
        let Some(value) = self.get(&document_key(trust, role, version))? else { return Ok(None) };
        match value.split_at_checked(32) {
            Some((sum, bytes)) if digest(bytes).as_ref() == sum => Ok(Some(Bytes::copy_from_slice(bytes))),
            _ => Err(self.damaged(format!("version {version} of role `{role}` does not have its hash"))),
        }
    }
}

impl Store for SledStore {
    fn head(&self, trust: &TrustKey) -> Result<Head, StoreError> {
        let _reading = self.reading()?;
        let mut head = self.stored_head(trust)?;
        for entry in self.named(b'r', trust) {
            let (role, value) = entry?;
            let parsed: RoleHead = record::json(&value)
                .map_err(|e| self.damaged(format!("the head of a role does not parse: {e}")))?;
            head.roles.insert(role, parsed);
        }
        for entry in self.named(b'x', trust) {
            head.retired.insert(entry?.0);
        }
        Ok(head)
    }

    fn document(&self, trust: &TrustKey, role: &str, version: u64) -> Result<Option<Bytes>, StoreError> {
        let _reading = self.reading()?;
        self.stored_document(trust, role, version)
    }

    fn versions(&self, trust: &TrustKey, role: &str) -> Result<Vec<u64>, StoreError> {
        let _reading = self.reading()?;
        let version = |key: &IVec| key.last_chunk().map(|v| u64::from_be_bytes(*v));
        self.db
            .scan_prefix(key(b'd', trust, Some(role)))
            .keys()
            .map(|key| {
                let key = key.map_err(|e| self.unreadable(e))?;
                version(&key).ok_or_else(|| self.damaged("a key is too short".to_owned()))
            })
            .collect()
    }

    fn submission(&self, trust: &TrustKey, id: &str) -> Result<Option<SubmissionRecord>, StoreError> {
        let _reading = self.reading()?;
        self.get_json(&key(b's', trust, Some(id)), "submission record")
    }

    fn submissions(
        &self,
        trust: &TrustKey,
        after: &str,
        most: usize,
    ) -> Result<Vec<SubmissionRecord>, StoreError> {
        let _reading = self.reading()?;
        // All ids of one length sort as they do without it before them; of another length there are none.
        let prefix = key(b's', trust, None);
        let from = key(b's', trust, Some(after));
        let later = self.db.range(from.clone()..).take_while(|entry| {
            // An error is for the caller to see.
            entry.as_ref().map_or(true, |(key, _)| key.starts_with(&prefix))
        });
        later
            .filter(|entry| entry.as_ref().map_or(true, |(key, _)| *key != from))
            .take(most)
            .map(|entry| {
                let (_, value) = entry.map_err(|e| self.unreadable(e))?;
                record::json(&value)
                    .map_err(|e| self.damaged(format!("a submission record does not parse: {e}")))
            })
            .collect()
    }

    fn commit(&self, trust: &TrustKey, commit: &Commit) -> Result<(), StoreError> {
        let mut torn = self.writing()?;
        let mut head = self.stored_head(trust)?;
        admit(&head, commit, |role, version| self.stored_document(trust, role, version))?;
        let mut batch = Batch::default();
        for (role, version, bytes) in &commit.documents {
            batch.insert(document_key(trust, role, *version), [digest(bytes).as_ref(), bytes].concat());
        }
        // Earlier builds kept all of the head under one key: with the first commit its parts move to where they are now.
        for (role, role_head) in head.roles.iter().chain(&commit.head.roles) {
            batch.insert(key(b'r', trust, Some(role)), json(role_head));
        }
        for name in head.retired.iter().chain(&commit.head.retired) {
            batch.insert(key(b'x', trust, Some(name)), &[]);
        }
        head.apply(commit);
        head.roles.clear();
        head.retired.clear();
        for record in &commit.submissions {
            batch.insert(key(b's', trust, Some(&record.id)), json(record));
        }
        batch.insert(key(b'h', trust, None), json(&head));
        self.write(&mut torn, batch)?;
        // If this fails the commit is stored, and the mark is one behind, which opening allows.
        *torn = true;
        self.mark(trust, head.sequence).map_err(|source| StoreError::Uncertain { source })?;
        *torn = false;
        Ok(())
    }

    fn record_published(&self, trust: &TrustKey, published: &Published) -> Result<(), StoreError> {
        let mut torn = self.writing()?;
        let mut head = self.stored_head(trust)?;
        let next = newer(head.published, Some(*published));
        if next == head.published {
            return Ok(());
        }
        head.published = next;
        let mut batch = Batch::default();
        batch.insert(key(b'h', trust, None), json(&head));
        self.write(&mut torn, batch)
    }
}

fn key(kind: u8, trust: &TrustKey, last: Option<&str>) -> Vec<u8> {
    let mut key = vec![kind];
    for part in [Some(trust.name.as_str()), Some(trust.view.as_str()), last].into_iter().flatten() {
        key.extend_from_slice(&(part.len() as u64).to_be_bytes());
        key.extend_from_slice(part.as_bytes());
    }
    key
}

fn document_key(trust: &TrustKey, role: &str, version: u64) -> Vec<u8> {
    let mut key = key(b'd', trust, Some(role));
    key.extend_from_slice(&version.to_be_bytes());
    key
}

fn digest(bytes: &[u8]) -> ring::digest::Digest {
    ring::digest::digest(&ring::digest::SHA256, bytes)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("records of strings, integers and times always serialise")
}

/// Refuses a store that is behind one of its marks.
fn check_marks(db: &Db, store: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Open { path: store.to_owned(), source };
    let damaged = |detail| StoreError::Damaged { path: store.to_owned(), detail };
    let folder = store.join(MARKS);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.ends_with(mark::TEMPORARY) {
            continue;
        }
        let unreadable = || damaged(format!("{} does not parse", path.display()));
        let (trust, acknowledged) = mark::read(&fs::read(&path).map_err(failed)?).ok_or_else(unreadable)?;
        let head = db.get(key(b'h', &trust, None)).map_err(|e| damaged(e.to_string()))?;
        let head: Option<Head> = head
            .map(|v| record::json(&v))
            .transpose()
            .map_err(|e| damaged(format!("a head does not parse: {e}")))?;
        let found = head.map_or(0, |h| h.sequence);
        if found < acknowledged {
            let TrustKey { name, .. } = trust;
            return Err(damaged(format!(
                "`{name}` is at {found}, but commit {acknowledged} was acknowledged"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{super::contract, *};

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// A store with 200 commits, closed, opened and closed again: sled writes its snapshot when it opens.
    fn used(path: &Path, trust: &TrustKey) {
        let store = SledStore::open(path).unwrap();
        for n in 1..=200 {
            store.commit(trust, &contract::commit(n, &[("timestamp", n, "bytes")])).unwrap();
        }
        drop(store);
        drop(SledStore::open(path).unwrap());
        assert!(names(&path.join("sled")).iter().any(|n| n.starts_with("snap.")), "sled wrote no snapshot");
    }

    fn copy(from: &Path, to: &Path) {
        for name in names(from) {
            let (from, to) = (from.join(&name), to.join(&name));
            if from.is_dir() {
                fs::create_dir(&to).unwrap();
                copy(&from, &to);
            } else {
                fs::copy(&from, &to).unwrap();
            }
        }
    }

    fn assert_used(path: &Path, trust: &TrustKey) {
        let store = SledStore::open(path).unwrap();
        assert_eq!(store.head(trust).unwrap().sequence, 200);
        assert_eq!(store.versions(trust, "timestamp").unwrap().len(), 200);
    }

    #[test]
    fn keeps_the_contract() {
        let folder = tempfile::tempdir().unwrap();
        contract::check(&SledStore::open(folder.path()).unwrap());
    }

    #[test]
    fn everything_is_there_after_reopening() {
        let (folder, trust) = (tempfile::tempdir().unwrap(), TrustKey::whole("acme"));
        let large = Bytes::from(vec![7; 3 << 20]);
        let store = SledStore::open(folder.path()).unwrap();
        let mut commit = contract::commit(1, &[("root", 1, "r1")]);
        commit.documents.push(("targets".to_owned(), 1, large.clone()));
        store.commit(&trust, &commit).unwrap();
        store.record_published(&trust, &contract::published(9)).unwrap();
        drop(store);
        let store = SledStore::open(folder.path()).unwrap();
        let head = store.head(&trust).unwrap();
        assert_eq!((head.sequence, head.published), (1, Some(contract::published(9))));
        assert_eq!(store.document(&trust, "targets", 1).unwrap(), Some(large));
        assert_eq!(store.submission(&trust, "00000001").unwrap().as_ref(), commit.submissions.first());
    }

    #[test]
    fn a_second_open_is_refused_while_the_first_lives() {
        let folder = tempfile::tempdir().unwrap();
        let first = SledStore::open(folder.path()).unwrap();
        let Err(StoreError::InUse { path }) = SledStore::open(folder.path()) else { panic!("opened twice") };
        assert_eq!(path, folder.path());
        drop(first);
        SledStore::open(folder.path()).unwrap();
    }

    #[test]
    fn others_have_no_access_to_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let _store = SledStore::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_torn_snapshot_is_set_aside_and_nothing_is_lost() {
        let (folder, trust) = (tempfile::tempdir().unwrap(), TrustKey::whole("acme"));
        used(folder.path(), &trust);
        let sled = folder.path().join("sled");
        for name in names(&sled).iter().filter(|n| n.starts_with("snap.")) {
            let file = File::options().write(true).open(sled.join(name)).unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        }
        assert_used(folder.path(), &trust);
        assert!(names(&sled).iter().any(|n| n.starts_with("torn-snap.")));
        assert_used(folder.path(), &trust);
    }

    #[test]
    fn a_half_written_snapshot_is_set_aside_and_nothing_is_lost() {
        let (folder, trust) = (tempfile::tempdir().unwrap(), TrustKey::whole("acme"));
        used(folder.path(), &trust);
        let sled = folder.path().join("sled");
        fs::write(sled.join("snap.FFFFFFFFFFFFFFFF.generating"), b"half").unwrap();
        assert_used(folder.path(), &trust);
        assert!(names(&sled).contains(&"torn-snap.FFFFFFFFFFFFFFFF.generating".to_owned()));
    }

    /// What sled itself does here, with its snapshot set aside, is to open empty or to refuse. Neither may pass for a
    /// new store.
    #[test]
    fn a_damaged_folder_never_opens_behind_its_commits() {
        type Damage = fn(&mut Vec<u8>);
        let damages: [(&str, Damage); 7] = [
            ("filled", |b| b.fill(0x5a)),
            ("zeroed", |b| b.fill(0)),
            ("halved", |b| b.truncate(b.len() / 2)),
            ("short", |b| b.truncate(b.len().saturating_sub(100))),
            ("middle", |b| {
                let (from, to) = (b.len() / 2, b.len() / 2 + b.len().min(8192) / 2);
                b[from..to].fill(0x5a);
            }),
            ("front", |b| {
                let to = b.len().min(5000);
                b[10..to].fill(0x5a);
            }),
            ("empty", Vec::clear),
        ];
        let (origin, trust) = (tempfile::tempdir().unwrap(), TrustKey::whole("acme"));
        used(origin.path(), &trust);
        let mut refused = 0;
        for (file, snapshot) in [("conf", true), ("db", true), ("conf", false), ("db", false)] {
            for (name, damage) in damages {
                let folder = tempfile::tempdir().unwrap();
                copy(origin.path(), folder.path());
                let sled = folder.path().join("sled");
                if !snapshot {
                    set_aside(&sled, |_| true).unwrap();
                }
                let mut bytes = fs::read(sled.join(file)).unwrap();
                damage(&mut bytes);
                fs::write(sled.join(file), &bytes).unwrap();
                match SledStore::open(folder.path()) {
                    Ok(store) => assert_eq!(store.head(&trust).unwrap().sequence, 200, "{file} {name}"),
                    Err(StoreError::Damaged { path, detail }) => {
                        assert_eq!(path, folder.path());
                        assert!(!detail.is_empty());
                        refused += 1;
                    }
                    Err(other) => panic!("{file} {name}: {other:?}"),
                }
            }
        }
        assert!(refused > 8, "only {refused} of 28 damages were noticed");
    }

    #[test]
    fn an_emptied_store_is_damaged_not_new() {
        let (folder, trust) = (tempfile::tempdir().unwrap(), TrustKey::whole("acme"));
        used(folder.path(), &trust);
        fs::remove_dir_all(folder.path().join("sled")).unwrap();
        let Err(StoreError::Damaged { detail, .. }) = SledStore::open(folder.path()) else {
            panic!("a lost store was taken for a new one")
        };
        assert!(detail.contains("`acme` is at 0, but commit 200 was acknowledged"), "{detail}");
    }

    #[test]
    fn the_head_of_an_earlier_build_is_read_and_taken_apart() {
        let (folder, trust) = (tempfile::tempdir().unwrap(), TrustKey::whole("acme"));
        let store = SledStore::open(folder.path()).unwrap();
        let mut head = contract::commit(1, &[("root", 1, "r1"), ("targets", 1, "t1")]).head;
        store.db.insert(key(b'h', &trust, None), json(&head)).unwrap();
        assert_eq!(store.head(&trust).unwrap(), head);
        for (number, version) in [(2, 2), (3, 3)] {
            let next = contract::commit(number, &[("targets", version, "t")]);
            store.commit(&trust, &next).unwrap();
            head.apply(&next);
            assert_eq!(store.head(&trust).unwrap(), head);
        }
        assert!(store.stored_head(&trust).unwrap().roles.is_empty());
    }

    #[test]
    fn a_document_without_its_hash_is_not_returned() {
        let (folder, trust) = (tempfile::tempdir().unwrap(), TrustKey::whole("acme"));
        let store = SledStore::open(folder.path()).unwrap();
        store.commit(&trust, &contract::commit(1, &[("root", 1, "r1")])).unwrap();
        store.db.insert(document_key(&trust, "root", 1), b"other".to_vec()).unwrap();
        assert!(matches!(store.document(&trust, "root", 1), Err(StoreError::Damaged { .. })));
    }
}
