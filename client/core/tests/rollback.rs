//! Rollback, freeze, mix-and-match and equivocation of timestamp, snapshot and targets.

mod simulator;

use chrono::Duration;
use plimsoll_core::tuf::{Error, MetaFile, Snapshot, TimestampUpdate, Trusted};
use simulator::*;

/// A repository on its third publication, a client that saw it, and the files of each publication before.
fn seen() -> (Repository, Client, Vec<std::collections::BTreeMap<String, Vec<u8>>>) {
    let mut repository = Repository::with_team();
    let mut history = vec![repository.files.clone()];
    for _ in 0..2 {
        repository.list("team", "acme/app:v2", "second image");
        repository.publish();
        history.push(repository.files.clone());
    }
    let mut client = Client::new(&repository);
    client.finds(&repository, NAME);
    (repository, client, history)
}

/// T20: replayed from an earlier day, or merely signed again with a lower number.
#[test]
fn an_older_timestamp_is_a_rollback() {
    let (mut repository, mut client, history) = seen();
    repository.files.insert("timestamp.json".to_owned(), history[1]["timestamp.json"].clone());
    let error = client.refuses(&repository);
    assert!(
        matches!(error, Error::Rollback { ref role, held: 4, offered: 3 } if role == "timestamp"),
        "{error}"
    );
    repository.timestamp.common.version = 1;
    repository.put_timestamp();
    assert!(matches!(client.refuses(&repository), Error::Rollback { held: 4, offered: 1, .. }));
}

/// T20.
#[test]
fn the_timestamp_already_held_changes_nothing() {
    let (repository, mut client, _) = seen();
    let before = client.memory.clone();
    client.finds(&repository, NAME);
    assert_eq!(client.brought, Some(TimestampUpdate::Same));
    assert_eq!(client.memory, before);
    // And the held snapshot was not fetched again.
    assert_eq!(client.requests[..2], ["2.root.json", "timestamp.json"]);
    assert!(client.requests[2].ends_with(".targets.json"));
}

/// T20: the held one stays, nothing of the other is followed or kept, and it is reported.
#[test]
fn a_second_timestamp_of_the_held_version_is_not_followed() {
    let (mut repository, mut client, _) = seen();
    let before = client.clone();
    repository.list("team", NAME, "another image");
    repository.timestamp.common.version -= 1;
    repository.publish();
    let digest = client.finds(&repository, NAME);
    assert_eq!(client.brought, Some(TimestampUpdate::Equivocated));
    assert_eq!(digest, plimsoll_core::oci::Digest::of(b"image"));
    assert_eq!(client.memory, before.memory);
    assert_eq!(client.timestamp, before.timestamp);
    assert_eq!(client.snapshot, before.snapshot);
    // The next version is followed again.
    repository.publish();
    client.finds(&repository, NAME);
    assert_eq!(client.brought, Some(TimestampUpdate::New));
}

/// T20, P5: other white space or other signatures around the same content are no word of the signer: who only serves the
/// files can change them, and must not be able to accuse anybody.
#[test]
fn the_held_timestamp_in_another_spelling_is_no_equivocation() {
    let (mut repository, mut client, _) = seen();
    let honest = repository.files["timestamp.json"].clone();
    let before = client.memory.clone();
    let mut signers = repository.signers["timestamp"].clone();
    signers.push(Signer::ed25519(99));
    for other in [sign(&repository.timestamp, &signers), [honest.as_slice(), b"\n"].concat(), honest.clone()]
    {
        repository.files.insert("timestamp.json".to_owned(), other);
        client.finds(&repository, NAME);
        assert_eq!(client.brought, Some(TimestampUpdate::Same));
        assert_eq!((&client.memory, client.timestamp.as_ref()), (&before, Some(&honest)));
    }
    // Signatures that do not count are still none.
    repository.files.insert("timestamp.json".to_owned(), sign(&repository.timestamp, &[Signer::ed25519(99)]));
    assert!(matches!(client.refuses(&repository), Error::Threshold { .. }));
}

/// T20: without the held document there is nothing to stay with.
#[test]
fn a_second_timestamp_is_refused_if_the_held_one_was_lost() {
    let (mut repository, mut client, _) = seen();
    client.timestamp = Some(b"torn".to_vec());
    let honest = repository.files["timestamp.json"].clone();
    repository.timestamp.common.expires += Duration::days(1);
    repository.put_timestamp();
    let error = client.refusal(&repository, NAME);
    assert!(matches!(error, Error::Equivocation { ref role, version: 4 } if role == "timestamp"), "{error}");
    // T12: the one remembered, fetched again, is fine.
    repository.files.insert("timestamp.json".to_owned(), honest);
    client.finds(&repository, NAME);
}

/// P2: a second timestamp cannot stretch the life of the held one.
#[test]
fn an_expired_held_timestamp_is_expired_whatever_else_is_offered() {
    let (mut repository, mut client, _) = seen();
    client.now = now() + Duration::days(31);
    repository.timestamp.common.expires += Duration::days(90);
    repository.put_timestamp();
    assert!(
        matches!(client.refuses(&repository), Error::Expired { role, version: 4, .. } if role == "timestamp")
    );
}

/// T20: within one run too, "held" is the timestamp verified last.
#[test]
fn two_timestamps_in_one_run_do_not_lead_back_to_the_cached_one() {
    let (mut repository, mut client, _) = seen();
    repository.publish_timestamp(|_| ());
    let mut trusted = client.refresh(&repository).unwrap();
    let memory = trusted.memory().clone();
    assert_eq!(memory.timestamp.unwrap().version, 5);
    repository.timestamp.common.expires += Duration::days(1);
    repository.put_timestamp();
    let update = trusted.update_timestamp(repository.bytes("timestamp")).unwrap();
    assert_eq!(update, TimestampUpdate::Equivocated);
    assert_eq!(trusted.timestamp().unwrap().version(), 5);
    assert_eq!(trusted.memory(), &memory);
}

/// T12: the snapshot lists the versions of the roles, so without it there is no memory to hold a new one to.
#[test]
fn a_snapshot_that_is_not_the_one_remembered_is_no_memory() {
    let (repository, client, history) = seen();
    let resume = || Trusted::resume(&client.root, client.memory.clone(), None, now()).unwrap();
    for bytes in [history[0]["2.snapshot.json"].as_slice(), b"{", b""] {
        let mut trusted = resume();
        let error = trusted.hold_snapshot(bytes).unwrap_err();
        assert!(matches!(error, Error::Hash { ref role, .. } if role == "snapshot"), "{error}");
        assert!(trusted.needs_snapshot());
        // Nothing that would have to be held to it goes on.
        let error = trusted.update_root(repository.bytes("root")).unwrap_err();
        assert!(matches!(error, Error::Order { ref role, .. } if role == "root"), "{error}");
        trusted.finish_root().unwrap();
        trusted.update_timestamp(repository.bytes("timestamp")).unwrap();
        let error = trusted.update_snapshot(repository.bytes("snapshot")).unwrap_err();
        assert!(matches!(error, Error::Order { ref role, .. } if role == "snapshot"), "{error}");
    }
}

/// T12, T20: a cached document that is not the one remembered counts as lost; the memory still holds.
#[test]
fn a_torn_cache_does_not_lose_the_memory() {
    let (mut repository, mut client, history) = seen();
    let honest = repository.files.clone();
    for timestamp in [None, Some(Vec::new()), Some(history[0]["timestamp.json"].clone())] {
        client.timestamp = timestamp;
        repository.files.insert("timestamp.json".to_owned(), history[0]["timestamp.json"].clone());
        let before = client.memory.clone();
        assert!(matches!(client.refusal(&repository, NAME), Error::Rollback { .. }));
        assert_eq!(client.memory, before);
        repository.files = honest.clone();
        client.finds(&repository, NAME);
        assert_eq!(client.memory, before);
    }
}

/// T21, T23: a newer timestamp that names an older snapshot.
#[test]
fn an_older_snapshot_in_a_newer_timestamp_is_a_rollback() {
    let (mut repository, mut client, history) = seen();
    let old = MetaFile::of(2, &history[0]["2.snapshot.json"]);
    repository.publish_timestamp(|timestamp| drop(timestamp.meta.insert("snapshot.json".to_owned(), old)));
    let error = client.refuses(&repository);
    assert!(
        matches!(error, Error::Rollback { ref role, held: 4, offered: 2 } if role == "snapshot"),
        "{error}"
    );
}

/// T23: the memory is of what was named, even if that snapshot never came.
#[test]
fn a_snapshot_that_was_named_and_withheld_is_remembered() {
    let (mut repository, mut client, _) = seen();
    let third = repository.files.clone();
    repository.publish();
    repository.files.remove(&repository.file("snapshot"));
    assert!(matches!(client.update(&repository, NAME), Err(Failure::Missing(_))));
    assert_eq!(client.memory.snapshot.unwrap().version, 4);
    assert_eq!(client.memory.snapshot_named.unwrap().version, 5);
    repository.files = third;
    repository.snapshot.common.version = 4;
    repository.publish_timestamp(|_| ());
    assert!(
        matches!(client.refuses(&repository), Error::Rollback { role, held: 5, offered: 4 } if role == "snapshot")
    );
}

/// T22, T24: the snapshot is refused, the timestamp before it stays, and the next good update passes.
#[test]
fn a_snapshot_that_lowers_or_drops_a_role_is_refused() {
    for lower in [true, false] {
        for role in ["team", "targets", "other"] {
            let (mut repository, mut client, _) = seen();
            repository.add_role("other", &Signer::ed25519(70));
            repository.edit("other", |_| ());
            repository.publish();
            client.finds(&repository, NAME);
            let before = client.clone();

            let file = format!("{role}.json");
            repository.publish_snapshot(|snapshot| {
                if lower {
                    snapshot.meta.get_mut(&file).unwrap().version -= 1;
                } else {
                    snapshot.meta.remove(&file);
                }
            });
            let error = client.refusal(&repository, NAME);
            match (lower, role) {
                (true, _) => {
                    assert!(matches!(error, Error::Rollback { role: ref r, .. } if r == role), "{error}");
                }
                (false, "targets") => assert!(matches!(error, Error::Invalid { .. }), "{error}"),
                _ => assert!(matches!(error, Error::RoleRemoved { role: ref r } if r == role), "{error}"),
            }
            assert_eq!(client.memory.timestamp.unwrap().version, repository.timestamp.common.version);
            assert_eq!(client.memory.snapshot, before.memory.snapshot);
            assert_eq!(client.snapshot, before.snapshot);

            repository.publish();
            client.finds(&repository, NAME);
        }
    }
}

/// T27: a newer snapshot that gives a known version of a role another hash.
#[test]
fn a_known_role_version_with_another_hash_is_refused() {
    let (mut repository, mut client, _) = seen();
    let team = repository.roles.get_mut("team").unwrap();
    team.targets.insert(NAME.to_owned(), target("another image"));
    repository.put("team");
    let before = client.memory.clone();
    repository.publish();
    let error = client.refusal(&repository, NAME);
    assert!(matches!(error, Error::Equivocation { ref role, version: 4 } if role == "team"), "{error}");
    assert_eq!(client.memory.snapshot, before.snapshot);
}

/// T27: nor in two steps, by first leaving the hash out.
#[test]
fn a_known_hash_is_not_forgotten_when_a_snapshot_leaves_it_out() {
    let (mut repository, mut client, _) = seen();
    repository.publish_snapshot(|snapshot| snapshot.meta.get_mut("team.json").unwrap().hashes = None);
    client.finds(&repository, NAME);
    let team = repository.roles.get_mut("team").unwrap();
    team.targets.insert(NAME.to_owned(), target("another image"));
    repository.put("team");
    // The document itself, while no hash is listed.
    repository.publish_snapshot(|snapshot| {
        let team = snapshot.meta.get_mut("team.json").unwrap();
        (team.hashes, team.length) = (None, None);
    });
    let error = client.refusal(&repository, NAME);
    assert!(matches!(error, Error::Equivocation { ref role, version: 4 } if role == "team"), "{error}");
    // And the other hash.
    repository.publish();
    let error = client.refusal(&repository, NAME);
    assert!(matches!(error, Error::Equivocation { ref role, version: 4 } if role == "team"), "{error}");
}

/// T27: also where the only hash is a sha512.
#[test]
fn a_known_role_version_with_another_sha512_is_refused() {
    let sha512 = |repository: &Repository| {
        let digest = ring::digest::digest(&ring::digest::SHA512, repository.bytes("team"));
        let hashes = [("sha512".to_owned(), data_encoding::HEXLOWER.encode(digest.as_ref()))].into();
        move |snapshot: &mut Snapshot| snapshot.meta.get_mut("team.json").unwrap().hashes = Some(hashes)
    };
    let (mut repository, mut client, _) = seen();
    repository.edit("team", |_| ());
    let edit = sha512(&repository);
    repository.publish_snapshot(edit);
    client.finds(&repository, NAME);
    let before = client.memory.clone();
    let team = repository.roles.get_mut("team").unwrap();
    team.targets.insert(NAME.to_owned(), target("another image"));
    repository.put("team");
    let edit = sha512(&repository);
    repository.publish_snapshot(edit);
    let error = client.refusal(&repository, NAME);
    assert!(matches!(error, Error::Equivocation { ref role, version: 5 } if role == "team"), "{error}");
    assert_eq!(client.memory.snapshot, before.snapshot);
}

/// T27: a newer timestamp that names a known snapshot version with another hash, at once or in two steps.
#[test]
fn a_known_snapshot_version_with_another_hash_is_refused() {
    for first_without in [false, true] {
        let (mut repository, mut client, _) = seen();
        if first_without {
            repository.publish_timestamp(|timestamp| {
                timestamp.meta.get_mut("snapshot.json").unwrap().hashes = None;
            });
            client.finds(&repository, NAME);
        }
        repository.snapshot.common.version -= 1;
        repository.publish_snapshot(|snapshot| snapshot.common.expires += Duration::days(1));
        let error = client.refuses(&repository);
        assert!(
            matches!(error, Error::Equivocation { ref role, version: 4 } if role == "snapshot"),
            "{error}"
        );
    }
}

/// T27: also if the snapshot that the hash was of never came.
#[test]
fn the_hash_of_a_snapshot_that_was_withheld_binds() {
    let (mut repository, mut client, _) = seen();
    repository.publish();
    let withheld = repository.files.remove(&repository.file("snapshot"));
    assert!(matches!(client.update(&repository, NAME), Err(Failure::Missing(_))));

    let other = Signer::ed25519(3);
    repository.snapshot.common.expires += Duration::days(1);
    let bytes = sign(&repository.snapshot, &[other]);
    repository.files.insert(repository.file("snapshot"), bytes);
    let bare = |timestamp: &mut plimsoll_core::tuf::Timestamp| {
        let meta = timestamp.meta.get_mut("snapshot.json").unwrap();
        (meta.hashes, meta.length) = (None, None);
    };
    repository.publish_timestamp(bare);
    let error = client.refusal(&repository, NAME);
    assert!(matches!(error, Error::Equivocation { ref role, version: 5 } if role == "snapshot"), "{error}");
    assert_eq!(client.memory.snapshot.unwrap().version, 4);
    repository.publish_timestamp(|_| ());
    let error = client.refuses(&repository);
    assert!(matches!(error, Error::Equivocation { ref role, version: 5 } if role == "snapshot"), "{error}");
    // The one that was named is taken.
    repository.files.insert(repository.file("snapshot"), withheld.unwrap());
    repository.publish_timestamp(bare);
    client.finds(&repository, NAME);
}

/// T27: also if the only hash it was named by is a sha512.
#[test]
fn the_sha512_of_a_snapshot_that_was_withheld_binds() {
    let (mut repository, mut client, _) = seen();
    for bytes in [b"one", b"two"] {
        let digest = ring::digest::digest(&ring::digest::SHA512, bytes);
        let hashes = [("sha512".to_owned(), data_encoding::HEXLOWER.encode(digest.as_ref()))].into();
        repository.publish_timestamp(|timestamp| {
            let meta = timestamp.meta.get_mut("snapshot.json").unwrap();
            (meta.version, meta.hashes, meta.length) = (5, Some(hashes), None);
        });
        match (bytes, client.update(&repository, NAME)) {
            (b"one", Err(Failure::Missing(_))) => {
                assert_eq!(client.memory.snapshot_named.unwrap().version, 5);
            }
            (b"two", Err(Failure::Refused(error))) => assert!(
                matches!(error, Error::Equivocation { ref role, version: 5 } if role == "snapshot"),
                "{error}"
            ),
            (_, other) => panic!("{other:?}"),
        }
    }
}

/// T27: a hash that was left out is remembered while the same snapshot is verified once more, and forgotten with the
/// snapshots of keys that were rotated away (T25).
#[test]
fn a_hash_that_was_left_out_is_remembered_as_long_as_its_snapshots_count() {
    let (mut repository, mut client, _) = seen();
    repository.edit("targets", |_| ());
    repository.publish();
    client.finds(&repository, NAME);
    assert!(client.memory.unlisted.is_empty(), "what is listed needs no other memory");
    repository.publish_snapshot(|snapshot| {
        let team = snapshot.meta.get_mut("team.json").unwrap();
        (team.hashes, team.length) = (None, None);
    });
    client.finds(&repository, NAME);
    let remembered = client.memory.unlisted.clone();
    assert_eq!(remembered.keys().collect::<Vec<_>>(), ["team"]);
    // Another hash beside the known one: the held snapshot is compared, and verified again.
    let digest = ring::digest::digest(&ring::digest::SHA512, repository.bytes("snapshot"));
    repository.publish_timestamp(|timestamp| {
        let hashes = timestamp.meta.get_mut("snapshot.json").unwrap().hashes.as_mut().unwrap();
        hashes.insert("sha512".to_owned(), data_encoding::HEXLOWER.encode(digest.as_ref()));
    });
    client.finds(&repository, NAME);
    assert_eq!(client.memory.unlisted, remembered);
    // The same version of the team's role with other content.
    let team = repository.roles.get_mut("team").unwrap();
    team.targets.insert(NAME.to_owned(), target("another image"));
    repository.put("team");
    repository.publish();
    let error = client.refusal(&repository, NAME);
    assert!(matches!(error, Error::Equivocation { ref role, version: 4 } if role == "team"), "{error}");
    // It was signed with a stolen snapshot key, and so was what it is held to.
    repository.rotate("snapshot", &Signer::ed25519(13));
    repository.publish();
    assert_eq!(client.finds(&repository, NAME), plimsoll_core::oci::Digest::of(b"another image"));
    assert!(client.memory.unlisted.is_empty());
}

/// T27: where no timestamp lists hashes, the held snapshot itself tells.
#[test]
fn another_snapshot_of_the_held_version_is_refused_without_hashes_too() {
    let (mut repository, mut client, _) = seen();
    let bare = |timestamp: &mut plimsoll_core::tuf::Timestamp| {
        let meta = timestamp.meta.get_mut("snapshot.json").unwrap();
        (meta.hashes, meta.length) = (None, None);
    };
    repository.publish_timestamp(bare);
    client.finds(&repository, NAME);
    repository.snapshot.common.expires += Duration::days(1);
    let bytes = sign(&repository.snapshot, &repository.signers["snapshot"]);
    repository.files.insert(repository.file("snapshot"), bytes);
    repository.publish_timestamp(bare);
    // A snapshot of the version held is not asked for, 5.5.1; nor would it be taken.
    let before = client.memory.clone();
    let mut trusted = client.refresh(&repository).unwrap();
    assert_eq!(client.requests, ["2.root.json", "timestamp.json"]);
    let error = trusted.update_snapshot(repository.bytes("snapshot")).unwrap_err();
    assert!(matches!(error, Error::Equivocation { ref role, version: 4 } if role == "snapshot"), "{error}");
    assert_eq!(trusted.memory().snapshot, before.snapshot);
}

/// T28, T29: each file must be the one that the file before it names, by version, length and hash.
#[test]
fn files_of_different_days_do_not_mix() {
    for role in ["snapshot", "targets", "team"] {
        let (mut repository, _, history) = seen();
        repository.edit("targets", |_| ());
        repository.publish();
        let old = history[0].iter().find(|(file, _)| file.ends_with(&format!("{role}.json"))).unwrap().1;
        repository.files.insert(repository.file(role), old.clone());
        let mut client = Client::new(&repository);
        let error = client.refusal(&repository, NAME);
        assert!(
            matches!(error, Error::Length { role: ref r, .. } | Error::Hash { role: ref r, .. } if r == role),
            "{error}"
        );
    }
}

/// T26, T29: META that lies about length, hash or version.
#[test]
fn a_document_that_differs_from_its_meta_is_refused() {
    type Lie = fn(&mut MetaFile);
    type Refused = fn(&Error) -> bool;
    let lies: [(Lie, Refused); 6] = [
        (|meta| meta.length = Some(1), |e| matches!(e, Error::Length { expected: 1, .. })),
        (|meta| meta.length = meta.length.map(|n| n + 1), |e| matches!(e, Error::Length { .. })),
        (
            |meta| drop(meta.hashes.as_mut().unwrap().insert("sha256".to_owned(), "00".repeat(32))),
            |e| matches!(e, Error::Hash { .. }),
        ),
        (
            |meta| drop(meta.hashes.as_mut().unwrap().insert("sha512".to_owned(), "00".repeat(64))),
            |e| matches!(e, Error::Hash { algorithm, .. } if algorithm == "sha512"),
        ),
        (
            |meta| {
                let hash = meta.hashes.as_ref().unwrap()["sha256"].to_uppercase();
                meta.hashes.as_mut().unwrap().insert("sha256".to_owned(), hash);
            },
            |e| matches!(e, Error::Hash { .. }),
        ),
        (
            |meta| meta.hashes = Some([("md5".to_owned(), "00".to_owned())].into()),
            |e| matches!(e, Error::Hash { algorithm, .. } if algorithm == "known hash"),
        ),
    ];
    for (lie, refused) in lies {
        for role in ["snapshot", "targets", "team"] {
            let mut repository = Repository::with_team();
            match role {
                "snapshot" => {
                    repository
                        .publish_timestamp(|timestamp| lie(timestamp.meta.get_mut("snapshot.json").unwrap()));
                }
                _ => repository.publish_snapshot(|snapshot| {
                    lie(snapshot.meta.get_mut(&format!("{role}.json")).unwrap());
                }),
            }
            let error = Client::new(&repository).refusal(&repository, NAME);
            assert!(refused(&error), "{role}: {error}");
        }
    }
}

/// T26: the right bytes under another version than META says; without hashes only the version inside tells.
#[test]
fn a_version_other_than_the_listed_one_is_refused() {
    for role in ["snapshot", "targets", "team"] {
        let mut repository = Repository::with_team();
        let version = if role == "snapshot" {
            repository.snapshot.common.version + 1
        } else {
            repository.roles[role].common.version + 1
        };
        let bytes = repository.bytes(role).to_vec();
        repository.files.insert(format!("{version}.{role}.json"), bytes);
        let lie =
            |meta: &mut MetaFile| *meta = MetaFile { version, length: None, hashes: None, ..meta.clone() };
        match role {
            "snapshot" => {
                repository
                    .publish_timestamp(|timestamp| lie(timestamp.meta.get_mut("snapshot.json").unwrap()));
            }
            _ => repository
                .publish_snapshot(|snapshot| lie(snapshot.meta.get_mut(&format!("{role}.json")).unwrap())),
        }
        let error = Client::new(&repository).refusal(&repository, NAME);
        assert!(
            matches!(error, Error::Version { role: ref r, expected, .. } if r == role && expected == version),
            "{error}"
        );
    }
}

/// P2, T15: at the second of its expiry a document is expired; every role before it still advances.
#[test]
fn an_expired_document_is_refused_and_earlier_roles_advance() {
    for (at, role) in ["timestamp", "snapshot", "targets", "team"].into_iter().enumerate() {
        let (mut repository, mut client, _) = seen();
        let before = client.memory.clone();
        match role {
            "timestamp" => repository.publish_timestamp(|timestamp| timestamp.common.expires = now()),
            "snapshot" => repository.publish_snapshot(|snapshot| snapshot.common.expires = now()),
            _ => {
                repository.edit(role, |targets| targets.common.expires = now());
                repository.publish();
            }
        }
        let error = client.refusal(&repository, NAME);
        assert!(matches!(error, Error::Expired { role: ref r, .. } if r == role), "{error}");
        assert_eq!(client.memory.timestamp != before.timestamp, at > 0);
        assert_eq!(client.memory.snapshot != before.snapshot, at > 1);
    }
}

/// T25: snapshot and timestamp versions may jump, up to the largest number there is.
#[test]
fn versions_may_jump() {
    let (mut repository, mut client, _) = seen();
    repository.snapshot.common.version = (1 << 53) - 1;
    repository.timestamp.common.version = (1 << 63) - 2;
    repository.publish();
    client.finds(&repository, NAME);
    assert_eq!(client.memory.timestamp.unwrap().version, (1 << 63) - 1);
    // 2^63 is no number here, so nothing can follow and nothing is damaged.
    let bytes = forge(repository.bytes("timestamp"), &[Signer::ed25519(2)], |timestamp| {
        timestamp["version"] = (1u64 << 63).into();
    });
    repository.files.insert("timestamp.json".to_owned(), bytes);
    assert!(matches!(client.refuses(&repository), Error::Json { .. }));
}

/// T25: a snapshot key beside the old one resets nothing.
#[test]
fn a_snapshot_key_beside_the_old_one_resets_nothing() {
    let (mut repository, mut client, _) = seen();
    let before = client.memory.snapshot;
    let keys = [Signer::ed25519(3), Signer::ed25519(13)];
    repository.next_root(|root, signers| {
        grant(root, "snapshot", &keys, 1);
        signers.insert("snapshot".to_owned(), keys.to_vec());
    });
    repository.snapshot.common.version -= 2;
    repository.publish();
    let error = client.refusal(&repository, NAME);
    assert!(
        matches!(error, Error::Rollback { ref role, held: 4, offered: 3 } if role == "snapshot"),
        "{error}"
    );
    assert_eq!(client.memory.snapshot, before);
}

/// 4.4, HASHES: one of an algorithm that is not known does no harm beside one that is.
#[test]
fn an_unknown_hash_in_meta_does_no_harm_beside_a_known_one() {
    let unknown = |meta: &mut MetaFile| {
        meta.hashes.as_mut().unwrap().insert("blake9".to_owned(), "no hex".to_owned());
    };
    let mut repository = Repository::with_team();
    repository.publish_snapshot(|snapshot| snapshot.meta.values_mut().for_each(unknown));
    repository.publish_timestamp(|timestamp| timestamp.meta.values_mut().for_each(unknown));
    Client::new(&repository).finds(&repository, NAME);
}

/// T26: a held snapshot is believed by its sha256 only if nothing else that the new timestamp says of it contradicts.
#[test]
fn a_held_snapshot_that_a_new_timestamp_describes_otherwise_is_not_kept() {
    type Lie = fn(&mut MetaFile);
    let lies: [(Lie, &str); 2] = [
        (|meta| drop(meta.hashes.as_mut().unwrap().insert("sha512".to_owned(), "00".repeat(64))), "sha512"),
        (|meta| meta.length = meta.length.map(|length| length + 1), "length"),
    ];
    for (lie, what) in lies {
        let (mut repository, mut client, _) = seen();
        let before = client.memory.snapshot;
        repository.publish_timestamp(|timestamp| lie(timestamp.meta.get_mut("snapshot.json").unwrap()));
        match client.refusal(&repository, NAME) {
            Error::Hash { role, algorithm, .. } => assert_eq!((&*role, &*algorithm), ("snapshot", what)),
            Error::Length { role, .. } => assert_eq!((&*role, "length"), ("snapshot", what)),
            error => panic!("{what}: {error}"),
        }
        assert_eq!(client.memory.snapshot, before);
    }
}

/// T26: a held snapshot is kept unread if the timestamp says nothing of it but what the memory knows. What else it says
/// is compared with the document itself.
#[test]
fn a_held_snapshot_is_kept_unread_only_by_what_is_remembered_of_it() {
    type Say = fn(&mut MetaFile, String);
    let cases: [(Say, bool, bool); 6] = [
        (|_, _| (), true, true),
        (|meta, _| meta.length = None, true, true),
        (|meta, _| meta.hashes = None, true, true),
        (|meta, sha512| drop(meta.hashes.as_mut().unwrap().insert("sha512".to_owned(), sha512)), false, true),
        (|meta, sha512| meta.hashes = Some([("sha512".to_owned(), sha512)].into()), false, true),
        (|meta, _| meta.length = meta.length.map(|length| length + 1), false, false),
    ];
    let (mut repository, client, _) = seen();
    let snapshot = client.snapshot.unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA512, &snapshot);
    for (n, (say, kept, fits)) in cases.into_iter().enumerate() {
        let sha512 = data_encoding::HEXLOWER.encode(digest.as_ref());
        repository
            .publish_timestamp(|timestamp| say(timestamp.meta.get_mut("snapshot.json").unwrap(), sha512));
        let (memory, timestamp) = (client.memory.clone(), client.timestamp.as_deref());
        let mut trusted = Trusted::resume(&client.root, memory, timestamp, now()).unwrap();
        trusted.hold_snapshot(&snapshot).unwrap();
        assert!(!trusted.held_snapshot_fits(), "there is no timestamp yet");
        trusted.finish_root().unwrap();
        trusted.update_timestamp(repository.bytes("timestamp")).unwrap();
        assert_eq!(trusted.keep_snapshot().unwrap(), kept, "case {n}");
        assert_eq!(trusted.held_snapshot_fits(), fits, "case {n}");
    }
}

/// P2, T15: a held snapshot that is believed without reading it expires at the same second as any other.
#[test]
fn a_held_snapshot_expires_under_a_fresh_timestamp() {
    let (mut repository, mut client, _) = seen();
    repository.publish_timestamp(|timestamp| timestamp.common.expires += Duration::days(90));
    client.finds(&repository, NAME);
    let expires = repository.snapshot.common.expires;
    client.now = expires - Duration::seconds(1);
    client.finds(&repository, NAME);
    client.now = expires;
    let error = client.refusal(&repository, NAME);
    assert!(matches!(error, Error::Expired { ref role, .. } if role == "snapshot"), "{error}");
}

/// T70: once a root adopts a trust id, a held snapshot without it is not believed by its sha256 any more.
#[test]
fn a_held_snapshot_of_no_trust_id_is_not_kept_after_adoption() {
    let mut repository = Repository::with_team();
    let mut client = Client::new(&repository);
    repository.root.common.identity = None;
    repository.put_root(&[Signer::ed25519(1)]);
    client.root = repository.bytes("root").to_vec();
    repository.publish_snapshot(|snapshot| snapshot.common.identity = None);
    client.finds(&repository, NAME);
    repository.next_root(|root, _| root.common.identity = Some(identity()));
    repository.publish_timestamp(|_| ());
    let error = client.refusal(&repository, NAME);
    assert!(matches!(error, Error::Identity { ref role, .. } if role == "snapshot"), "{error}");
}

/// T27: another snapshot of the held version, where no timestamp ever listed a sha256: none at all, or a sha512 alone.
#[test]
fn another_snapshot_of_the_held_version_is_refused_though_no_sha256_was_ever_listed() {
    for sha512 in [false, true] {
        let listed = |repository: &Repository| {
            let digest = ring::digest::digest(&ring::digest::SHA512, repository.bytes("snapshot"));
            sha512.then(|| [("sha512".to_owned(), data_encoding::HEXLOWER.encode(digest.as_ref()))].into())
        };
        let mut repository = Repository::with_team();
        let hashes = listed(&repository);
        repository.publish_timestamp(|timestamp| {
            let meta = timestamp.meta.get_mut("snapshot.json").unwrap();
            (meta.hashes, meta.length) = (hashes, None);
        });
        let mut client = Client::new(&repository);
        client.finds(&repository, NAME);
        repository.snapshot.common.expires += Duration::days(1);
        let bytes = sign(&repository.snapshot, &repository.signers["snapshot"]);
        repository.files.insert(repository.file("snapshot"), bytes);
        let hashes = listed(&repository);
        repository.publish_timestamp(|timestamp| {
            let meta = timestamp.meta.get_mut("snapshot.json").unwrap();
            (meta.hashes, meta.length) = (hashes, None);
        });
        let held = client.memory.snapshot;
        let error = match client.refresh(&repository) {
            Ok(mut trusted) => trusted.update_snapshot(repository.bytes("snapshot")).unwrap_err(),
            Err(Failure::Refused(error)) => error,
            Err(other) => panic!("{other:?}"),
        };
        assert!(matches!(error, Error::Equivocation { ref role, .. } if role == "snapshot"), "{error}");
        assert_eq!(client.memory.snapshot, held);
    }
}
