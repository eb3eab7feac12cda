//! The tests that every [`Store`] passes.

use super::*;

/// Runs the whole contract on an empty store.
pub(super) fn check(store: &impl Store) {
    an_empty_store_answers(store);
    a_commit_is_read_back_whole(store);
    a_stale_plan_conflicts_and_stores_nothing(store);
    a_version_is_never_rewritten(store);
    keys_are_unambiguous(store);
    published_only_moves_forward(store);
    submissions_come_in_pages(store);
}

/// A commit with these documents, one submission, and a head that names the documents.
pub(super) fn commit(sequence: u64, documents: &[(&str, u64, &'static str)]) -> Commit {
    let documents: Vec<_> = documents
        .iter()
        .map(|(role, version, text)| ((*role).to_owned(), *version, Bytes::from_static(text.as_bytes())))
        .collect();
    let roles = documents
        .iter()
        .map(|(role, version, bytes)| {
            let (digest, length) = (Digest::of(bytes), bytes.len() as u64);
            (role.clone(), RoleHead { version: *version, digest, length })
        })
        .collect();
    let submission = SubmissionRecord {
        id: format!("{sequence:08x}"),
        roles: documents.iter().map(|(role, version, _)| (role.clone(), *version)).collect(),
        timestamp_version: sequence,
        at: time(sequence),
    };
    let head = Head {
        sequence,
        roles,
        retired: BTreeSet::from(["targets--gone".to_owned()]),
        last_signed: Some(time(sequence)),
        published: None,
        taken_over: None,
    };
    Commit { documents, head, submissions: vec![submission] }
}

/// A record of that timestamp version.
pub(super) fn published(timestamp_version: u64) -> Published {
    Published {
        timestamp_version,
        manifest: Digest::of(&timestamp_version.to_be_bytes()),
        at: time(timestamp_version),
        repository: None,
    }
}

fn time(n: u64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_900_000_000 + i64::try_from(n % 1_000_000).unwrap(), 0).unwrap()
}

fn an_empty_store_answers(store: &impl Store) {
    let trust = TrustKey::whole("empty");
    assert_eq!(store.head(&trust).unwrap(), Head::default());
    assert_eq!(store.document(&trust, "root", 1).unwrap(), None);
    assert!(store.versions(&trust, "root").unwrap().is_empty());
    assert_eq!(store.submission(&trust, "00").unwrap(), None);
}

fn a_commit_is_read_back_whole(store: &impl Store) {
    let trust = TrustKey::whole("whole");
    let first =
        commit(1, &[("root", 1, "r1"), ("root", 2, "r2"), ("root", 300, "r300"), ("timestamp", 7, "")]);
    store.commit(&trust, &first).unwrap();
    assert_eq!(store.head(&trust).unwrap(), first.head);
    assert_eq!(store.document(&trust, "root", 2).unwrap().as_deref(), Some(&b"r2"[..]));
    assert_eq!(store.document(&trust, "timestamp", 7).unwrap().as_deref(), Some(&b""[..]));
    assert_eq!(store.versions(&trust, "root").unwrap(), [1, 2, 300]);
    assert_eq!(store.submission(&trust, "00000001").unwrap().as_ref(), first.submissions.first());
    let second = commit(2, &[("root", 256, "r256")]);
    store.commit(&trust, &second).unwrap();
    // What it does not name stays as it was.
    let mut head = first.head.clone();
    head.apply(&second);
    assert_eq!(store.head(&trust).unwrap(), head);
    assert_eq!((head.roles["root"].version, head.roles["timestamp"].version), (256, 7));
    assert_eq!(store.versions(&trust, "root").unwrap(), [1, 2, 256, 300]);
}

fn a_stale_plan_conflicts_and_stores_nothing(store: &impl Store) {
    let trust = TrustKey::whole("stale");
    store.commit(&trust, &commit(1, &[("targets", 1, "a")])).unwrap();
    for found in [0, 1, 3, u64::MAX] {
        let stale = commit(found, &[("targets", 2, "b")]);
        let Err(StoreError::Conflict { expected: 2, found: told }) = store.commit(&trust, &stale) else {
            panic!("sequence {found} was taken after 1")
        };
        assert_eq!(told, found);
    }
    assert_eq!(store.versions(&trust, "targets").unwrap(), [1]);
    assert_eq!(store.head(&trust).unwrap().sequence, 1);
    assert_eq!(store.submission(&trust, "00000003").unwrap(), None);
}

/// Promise P7.
fn a_version_is_never_rewritten(store: &impl Store) {
    let trust = TrustKey::whole("rewrite");
    store.commit(&trust, &commit(1, &[("targets", 1, "a")])).unwrap();
    for rewrite in [
        commit(2, &[("targets", 2, "b"), ("targets", 1, "other")]),
        commit(2, &[("targets", 2, "b"), ("targets", 2, "other")]),
    ] {
        let Err(StoreError::Rewrite { role, .. }) = store.commit(&trust, &rewrite) else {
            panic!("a version was rewritten")
        };
        assert_eq!(role, "targets");
    }
    assert_eq!(store.document(&trust, "targets", 1).unwrap().as_deref(), Some(&b"a"[..]));
    assert_eq!(store.versions(&trust, "targets").unwrap(), [1]);
    store.commit(&trust, &commit(2, &[("targets", 1, "a"), ("targets", 2, "b")])).unwrap();
    assert_eq!(store.versions(&trust, "targets").unwrap(), [1, 2]);
}

fn keys_are_unambiguous(store: &impl Store) {
    let odd = ["", "a", "a\0", "a\0b", "ab", "a/b", "../a", "\u{e9}", "e\u{301}"];
    let trusts: Vec<_> = odd
        .iter()
        .flat_map(|name| {
            odd.iter().map(move |view| TrustKey { name: (*name).to_owned(), view: (*view).to_owned() })
        })
        .collect();
    for trust in &trusts {
        assert_eq!(store.head(trust).unwrap(), Head::default(), "{trust:?} is not new");
        let documents: Vec<_> = odd.iter().map(|role| (*role, 1, "x")).collect();
        store.commit(trust, &commit(1, &documents)).unwrap();
        for role in odd {
            assert_eq!(store.versions(trust, role).unwrap(), [1], "{trust:?} {role:?}");
        }
    }
}

fn published_only_moves_forward(store: &impl Store) {
    let trust = TrustKey::whole("published");
    store.commit(&trust, &commit(1, &[("timestamp", 1, "t1")])).unwrap();
    store.record_published(&trust, &published(5)).unwrap();
    store.record_published(&trust, &published(4)).unwrap();
    let head = store.head(&trust).unwrap();
    assert_eq!((head.published, head.sequence), (Some(published(5)), 1));
    // A plan made before the record does not undo it.
    store.commit(&trust, &commit(2, &[("timestamp", 2, "t2")])).unwrap();
    assert_eq!(store.head(&trust).unwrap().published, Some(published(5)));
    let mut newer = commit(3, &[]);
    newer.head.published = Some(published(6));
    store.commit(&trust, &newer).unwrap();
    assert_eq!(store.head(&trust).unwrap().published, Some(published(6)));
    // The same in another repository takes its place, and no plan undoes that.
    let moved = Published { repository: Some(Digest::of(b"r.io/other")), ..published(6) };
    store.record_published(&trust, &moved).unwrap();
    store.commit(&trust, &commit(4, &[("timestamp", 4, "t4")])).unwrap();
    assert_eq!(store.head(&trust).unwrap().published, Some(moved));
    assert!(moved.is_at(&Digest::of(b"r.io/other")) && !moved.is_at(&Digest::of(b"r.io/first")));
    assert!(published(6).is_at(&Digest::of(b"r.io/first")), "what was stored before is taken to be there");
}

fn submissions_come_in_pages(store: &impl Store) {
    let (trust, other) = (TrustKey::whole("pages"), TrustKey::whole("pagesx"));
    for n in 1..=5 {
        store.commit(&trust, &commit(n, &[("timestamp", n, "t")])).unwrap();
    }
    store.commit(&other, &commit(1, &[("timestamp", 1, "t")])).unwrap();
    let ids = |after: &str, most| -> Vec<String> {
        store.submissions(&trust, after, most).unwrap().into_iter().map(|record| record.id).collect()
    };
    assert_eq!(ids("", 2), ["00000001", "00000002"]);
    assert_eq!(ids("00000002", 9), ["00000003", "00000004", "00000005"]);
    assert_eq!(ids("00000005", 9), [""; 0]);
    assert_eq!(store.submissions(&TrustKey::whole("nobody"), "", 9).unwrap(), []);
}
