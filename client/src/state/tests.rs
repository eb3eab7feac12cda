//! Trusted state on real folders.

use plimsoll_core::tuf::Mark;

use super::*;

async fn open(base: &Path) -> Result<State, StateError> {
    let key = StateKey::of(b"root", Some("0123456789abcdef0123456789abcdef"));
    State::open(&Place::keyed(base, &key), Duration::from_millis(50)).await
}

fn memory(version: u64) -> HighWater {
    let mark = Mark { version, digest: Some(Digest::of(b"t")) };
    HighWater { timestamp: Some(mark), ..HighWater::default() }
}

#[tokio::test]
async fn what_was_put_is_there_again() {
    let base = tempfile::tempdir().unwrap();
    let mut state = open(base.path()).await.unwrap();
    assert!(state.memory().is_none());
    state.put("timestamp", b"t", &memory(3)).unwrap();
    state.put("../x", b"r", &memory(3)).unwrap();
    drop(state);
    let state = open(base.path()).await.unwrap();
    assert_eq!(state.memory(), Some(&memory(3)));
    assert_eq!(state.document("timestamp").unwrap().unwrap(), b"t");
    assert_eq!(state.document("../x").unwrap().unwrap(), b"r");
    assert_eq!(state.document("snapshot").unwrap(), None);
}

/// T15.
#[tokio::test]
async fn a_clock_that_was_set_back_is_noticed_after_a_restart() {
    let base = tempfile::tempdir().unwrap();
    let at = |minutes: i64| DateTime::<Utc>::from_timestamp(1_800_000_000 + minutes * 60, 0).unwrap();
    let mut state = open(base.path()).await.unwrap();
    state.put("timestamp", b"t", &memory(3)).unwrap();
    state.check_clock(at(-10_000)).unwrap();
    state.put_time(at(0)).unwrap();
    let path = state.place.memory();
    let written = std::fs::read(&path).unwrap();
    state.put_time(at(9)).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), written);
    state.put_time(at(10)).unwrap();
    // Never back.
    state.put_time(at(5)).unwrap();
    state.put("timestamp", b"t", &memory(4)).unwrap();
    drop(state);
    let state = open(base.path()).await.unwrap();
    state.check_clock(at(-50)).unwrap();
    let refused = state.check_clock(at(-51));
    assert!(matches!(refused, Err(StateError::ClockBehind { seen, .. }) if seen == at(10)), "{refused:?}");
}

/// T12.
#[tokio::test]
async fn a_lost_or_torn_record_fails_closed() {
    let base = tempfile::tempdir().unwrap();
    let mut state = open(base.path()).await.unwrap();
    state.put("timestamp", b"t", &memory(3)).unwrap();
    let path = state.place.memory();
    drop(state);
    let good = std::fs::read(&path).unwrap();
    let lower = String::from_utf8(good.clone()).unwrap().replace("\"version\":3", "\"version\":1");
    for bad in [&good[..good.len() / 2], b"", b"{}", lower.as_bytes()] {
        std::fs::write(&path, bad).unwrap();
        assert!(matches!(open(base.path()).await, Err(StateError::MemoryLost { .. })));
    }
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(open(base.path()).await, Err(StateError::MemoryLost { .. })));
}

/// T25, T41: who signs snapshots decides how large the record gets: as many roles as a snapshot has room for, the hash of
/// each listed once and then left out. What was written must be read again, or the memory is lost for good.
#[test]
fn the_largest_record_that_snapshots_bring_about_can_be_read() {
    let none = HighWater::default();
    let mark = Mark { version: 1, digest: Some(Digest::of(b"t")) };
    let unlisted = |names: &[&str]| names.iter().map(|&name| (name.to_owned(), mark)).collect();
    let length =
        |names| serde_json::to_vec(&HighWater { unlisted: unlisted(names), ..none.clone() }).unwrap().len();
    // The shortest name there is, for which the record grows the most.
    let remembered = (length(&["", "x"]) - length(&["x"])) as u64;
    let listed = r#"".json":{"version":1},"#.len() as u64;
    assert!(limit::SNAPSHOT / listed * remembered + 1024 * 1024 < MAX_MEMORY, "{remembered} for {listed}");
}

/// T12: the snapshot lists the versions of the roles. One sound copy is enough and makes the other good.
#[tokio::test]
async fn the_snapshot_of_the_record_survives_the_loss_of_either_copy() {
    let base = tempfile::tempdir().unwrap();
    let mut state = open(base.path()).await.unwrap();
    let seen = |bytes: &[u8]| {
        let (digest, length) = (Digest::of(bytes), bytes.len() as u64);
        SnapshotMark { version: 1, digest, length, expires: DateTime::UNIX_EPOCH }
    };
    for bytes in [b"first".as_slice(), b"second"] {
        let memory = HighWater { snapshot: Some(seen(bytes)), ..memory(3) };
        state.put_snapshot(bytes, &memory).unwrap();
    }
    let copy = state.place.snapshot(&Digest::of(b"second"));
    let cached = state.place.document("snapshot");
    // The copy before is gone.
    assert!(matches!(state.held_snapshot(&seen(b"first")), Err(StateError::MemoryLost { .. })));
    for torn in [&copy, &cached] {
        for bad in [Some(b"seco".as_slice()), None] {
            match bad {
                Some(bytes) => std::fs::write(torn, bytes).unwrap(),
                None => std::fs::remove_file(torn).unwrap(),
            }
            assert_eq!(state.held_snapshot(&seen(b"second")).unwrap(), b"second");
            assert_eq!(std::fs::read(torn).unwrap(), b"second");
        }
    }
    for path in [&copy, &cached] {
        std::fs::write(path, b"torn").unwrap();
    }
    let lost = state.held_snapshot(&seen(b"second"));
    assert!(matches!(lost, Err(StateError::MemoryLost { ref path }) if *path == copy), "{lost:?}");
}

#[tokio::test]
async fn a_folder_open_to_others_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let base = tempfile::tempdir().unwrap();
    let folder = open(base.path()).await.unwrap().place.own();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o750)).unwrap();
    assert!(matches!(open(base.path()).await, Err(StateError::Permissions { mode: 0o750, .. })));
}

#[tokio::test]
async fn one_process_at_a_time() {
    let base = tempfile::tempdir().unwrap();
    let held = open(base.path()).await.unwrap();
    assert!(matches!(open(base.path()).await, Err(StateError::Busy { .. })));
    drop(held);
    open(base.path()).await.unwrap();
}

/// P1: a lock file that is deleted, or another one in its place, lets nobody else in.
#[tokio::test]
async fn the_folder_stays_locked_without_its_lock_file() {
    let base = tempfile::tempdir().unwrap();
    let held = open(base.path()).await.unwrap();
    for another in [false, true] {
        std::fs::remove_file(held.place.lock()).unwrap();
        if another {
            std::fs::write(held.place.lock(), "").unwrap();
        }
        assert!(matches!(open(base.path()).await, Err(StateError::Busy { .. })));
        std::fs::write(held.place.lock(), "").unwrap();
    }
    drop(held);
    open(base.path()).await.unwrap();
}

/// P1: where folders cannot be locked, as on NFS, others hold the file alone.
#[tokio::test]
async fn the_lock_file_alone_keeps_others_out() {
    let base = tempfile::tempdir().unwrap();
    let path = open(base.path()).await.unwrap().place.lock();
    let held = std::fs::File::options().write(true).open(&path).unwrap();
    held.try_lock().unwrap();
    assert!(matches!(open(base.path()).await, Err(StateError::Busy { .. })));
    drop(held);
    open(base.path()).await.unwrap();
}
