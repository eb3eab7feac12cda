use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// T83.
#[test]
fn keys_are_made_once_and_for_their_owner_only() {
    let data = tempfile::tempdir().unwrap();
    assert!(!exist(data.path(), "acme"));
    let first = load_or_make(data.path(), "acme").unwrap();
    assert!(first.made && exist(data.path(), "acme"));
    let folder = data.path().join("keys/acme");
    assert_eq!((mode(&data.path().join("keys")), mode(&folder)), (0o700, 0o700));
    assert_eq!((mode(&folder.join(TIMESTAMP)), mode(&folder.join(SNAPSHOT))), (0o600, 0o600));
    assert_ne!(first.public().timestamp, first.public().snapshot);

    let again = load_or_make(data.path(), "acme").unwrap();
    assert!(!again.made);
    assert_eq!(again.public(), first.public());
    let other = load_or_make(data.path(), "other").unwrap();
    assert_ne!(other.public(), first.public());
    let left: Vec<_> = fs::read_dir(data.path().join("keys")).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

/// T83.
#[test]
fn keys_that_others_can_read_are_refused() {
    let data = tempfile::tempdir().unwrap();
    load_or_make(data.path(), "acme").unwrap();
    let folder = data.path().join("keys/acme");
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    set(&folder.join(SNAPSHOT), 0o640);
    let error = load_or_make(data.path(), "acme").unwrap_err();
    assert!(matches!(error, OnlineKeyError::File(KeyFileError::Permissions { mode: 0o640, .. })));
    set(&folder.join(SNAPSHOT), 0o600);
    set(&folder, 0o750);
    let error = load_or_make(data.path(), "acme").unwrap_err();
    assert!(matches!(error, OnlineKeyError::Permissions { mode: 0o750, .. }), "{error:?}");
    assert!(error.to_string().contains("chmod 700"));
}

#[test]
fn a_lost_key_is_never_replaced() {
    let data = tempfile::tempdir().unwrap();
    let public = load_or_make(data.path(), "acme").unwrap().public();
    let path = data.path().join("keys/acme").join(TIMESTAMP);
    let away = data.path().join("away");
    fs::rename(&path, &away).unwrap();
    let error = load_or_make(data.path(), "acme").unwrap_err();
    assert!(matches!(error, OnlineKeyError::Lost { path: p } if p == path));
    assert!(!path.exists());
    fs::rename(&away, &path).unwrap();
    assert_eq!(load_or_make(data.path(), "acme").unwrap().public(), public);
}

#[test]
fn processes_that_make_keys_together_have_the_same() {
    let data = tempfile::tempdir().unwrap();
    let folder = folder(data.path(), "acme");
    private_folder(&folder).unwrap();
    fs::write(folder.join("x"), "").unwrap();
    assert!(!make(&folder).unwrap());
    assert_eq!(fs::read_dir(data.path().join("keys")).unwrap().count(), 1);
}

/// What a killed process left of a pair is removed, and what a living one is making is not.
#[test]
fn what_a_killed_process_left_is_removed_and_nobody_elses_work() {
    let data = tempfile::tempdir().unwrap();
    load_or_make(data.path(), "acme").unwrap();
    make_next(data.path(), "acme").unwrap();
    let keys = data.path().join("keys");
    // No process has this id.
    let left = [".acme-4194305", "acme/.next-4194305", "acme/.discarded-4194305"].map(|left| keys.join(left));
    let leave = || left.iter().for_each(|left| fs::create_dir_all(left.join("x")).unwrap());
    let others = [keys.join(".acme-b-4194305"), keys.join("acme/.backup"), keys.join(".acme-x")];
    others.iter().for_each(|other| fs::create_dir_all(other).unwrap());
    let there = || left.iter().filter(|left| left.exists()).count();
    let works: [&dyn Fn(); 3] = [
        &|| drop(load_or_make(data.path(), "acme").unwrap()),
        &|| drop(make_next(data.path(), "acme").unwrap()),
        &|| {
            discard_next(data.path(), "acme").unwrap();
        },
    ];
    for work in works {
        leave();
        work();
        assert_eq!(there(), 0);
    }
    leave();
    {
        let _making = [lock(&keys).unwrap(), lock(&keys.join("acme")).unwrap()];
        load_or_make(data.path(), "acme").unwrap();
        assert_eq!(there(), 3, "somebody is making them");
    }
    assert!(others.iter().all(|other| other.exists()), "not ours, or of another trust repository");
}

/// It is no key of anybody's, so it stops nobody from making keys.
#[test]
fn what_cannot_be_removed_stops_no_making_of_keys() {
    let data = tempfile::tempdir().unwrap();
    private_folder(&data.path().join("keys")).unwrap();
    // A file, which is not removed as a folder is, whoever runs this.
    let left = data.path().join("keys/.acme-4194305");
    fs::write(&left, "").unwrap();
    assert!(load_or_make(data.path(), "acme").unwrap().made);
    make_next(data.path(), "acme").unwrap();
    assert!(left.exists());
}

#[test]
fn the_example_keys_are_known() {
    let ids = example_keys();
    assert_eq!(ids.len(), 4);
    assert!(ids.iter().all(|id| id.0.len() == 64 && id.0.bytes().all(|b| b.is_ascii_hexdigit())));
}

/// T83.
#[test]
fn the_next_keys_are_made_once_and_as_private_as_the_present_ones() {
    let data = tempfile::tempdir().unwrap();
    assert!(make_next(data.path(), "acme").is_err(), "there is nothing to follow");
    let current = load_or_make(data.path(), "acme").unwrap().public();
    let (ring, made) = make_next(data.path(), "acme").unwrap();
    let next = ring.next(None).unwrap();
    assert!(made && !ring.is_taken());
    assert_eq!(ring.public(None), current);
    let ids: BTreeSet<KeyId> = ring.ids().into_iter().collect();
    assert_eq!(ids.len(), 4);
    let folder = data.path().join("keys/acme/next");
    assert_eq!(
        (mode(&folder), mode(&folder.join(TIMESTAMP)), mode(&folder.join(SNAPSHOT))),
        (0o700, 0o600, 0o600)
    );

    let (again, made) = make_next(data.path(), "acme").unwrap();
    assert!(!made);
    assert_eq!(again.next(None).unwrap(), next);
    assert_eq!(load_or_make(data.path(), "acme").unwrap().public(), current);
    fs::set_permissions(folder.join(SNAPSHOT), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(Keyring::open(data.path(), "acme").is_err());
    assert!(discard_next(data.path(), "acme").unwrap());
    assert_eq!(Keyring::open(data.path(), "acme").unwrap().next(None), None);
    let left = fs::read_dir(data.path().join("keys/acme")).unwrap().count();
    assert_eq!(left, 2, "nothing of what was discarded stays");
}
