//! Attacks on the root chain, and recovery through it.

mod simulator;

use chrono::Duration;
use plimsoll_core::tuf::{Error, Mark, Trusted};
use simulator::*;

/// T06: the new root needs the old threshold and its own.
#[test]
fn a_new_root_needs_the_old_keys_and_its_own() {
    let (old, new) = (Signer::ed25519(1), Signer::ed25519(11));
    for (signers, accepted) in
        [(vec![&old], false), (vec![&new], false), (vec![], false), (vec![&old, &new], true)]
    {
        let mut repository = Repository::with_team();
        let mut client = Client::new(&repository);
        client.finds(&repository, NAME);
        repository.rotate("root", &new);
        repository.put_root(&signers.into_iter().cloned().collect::<Vec<_>>());
        if accepted {
            client.finds(&repository, NAME);
            assert_eq!(client.memory.root.unwrap().version, 2);
        } else {
            let error = client.refuses(&repository);
            assert!(
                matches!(error, Error::Threshold { ref role, have: 0, need: 1 } if role == "root"),
                "{error}"
            );
        }
    }
}

/// T06: a raised threshold binds the root that raises it.
#[test]
fn a_root_that_raises_its_threshold_must_meet_it() {
    let mut repository = Repository::with_team();
    let mut client = Client::new(&repository);
    client.finds(&repository, NAME);
    repository.next_root(|root, _| grant(root, "root", &[Signer::ed25519(1), Signer::ed25519(11)], 2));
    let error = client.refuses(&repository);
    assert!(matches!(error, Error::Threshold { have: 1, need: 2, .. }), "{error}");
}

/// T09: N+2, N, N-1, and a file `N+1.root.json` with any of them inside.
#[test]
fn only_the_next_root_version_is_taken() {
    let mut repository = Repository::with_team();
    repository.next_root(|_, _| ());
    let mut client = Client::new(&repository);
    client.finds(&repository, NAME);
    let root_signers = repository.signers["root"].clone();
    for version in [1, 2, 4, u64::from(u32::MAX), (1 << 63) - 1] {
        repository.root.common.version = version;
        let bytes = sign(&repository.root, &root_signers);
        repository.files.insert("3.root.json".to_owned(), bytes);
        let error = client.refuses(&repository);
        assert!(matches!(error, Error::RootVersion { expected: 3, found } if found == version), "{error}");
    }
    // The very files of N and N-1 in that place.
    for file in ["1.root.json", "2.root.json"] {
        repository.files.insert("3.root.json".to_owned(), repository.files[file].clone());
        assert!(matches!(client.refuses(&repository), Error::RootVersion { expected: 3, .. }));
    }
}

/// T13.
#[test]
fn an_expired_root_on_the_way_is_taken_and_the_last_is_not() {
    let mut repository = Repository::with_team();
    let mut client = Client::new(&repository);
    repository.next_root(|root, _| root.common.expires = now());
    let error = client.refusal(&repository, NAME);
    assert!(matches!(error, Error::Expired { ref role, version: 2, .. } if role == "root"), "{error}");
    // It is kept all the same: going back behind it would be a rollback.
    assert_eq!(client.memory.root.unwrap().version, 2);
    assert_eq!(client.memory.timestamp, None);

    repository.next_root(|root, _| root.common.expires = now() + Duration::seconds(1));
    client.finds(&repository, NAME);
    assert_eq!(client.memory.root.unwrap().version, 3);
}

/// T46: each run takes at most 256 steps; the next goes on from there.
#[test]
fn a_very_long_root_chain_is_walked_in_bounded_runs() {
    let mut repository = Repository::with_team();
    let mut client = Client::new(&repository);
    for _ in 0..300 {
        repository.next_root(|_, _| ());
    }
    client.finds(&repository, NAME);
    assert_eq!(client.memory.root.unwrap().version, 257);
    client.finds(&repository, NAME);
    assert_eq!(client.memory.root.unwrap().version, 301);
}

/// T11: a client that lost its stored root starts from the shipped one and still knows how far it was.
#[test]
fn a_client_that_lost_its_root_is_not_led_back_to_an_older_one() {
    let mut repository = Repository::with_team();
    let mut client = Client::new(&repository);
    repository.next_root(|_, _| ());
    repository.next_root(|_, _| ());
    client.finds(&repository, NAME);
    client.root = repository.files["1.root.json"].clone();

    let withheld = repository.files.remove("3.root.json").unwrap();
    let error = client.refusal(&repository, NAME);
    assert!(matches!(error, Error::Rollback { ref role, held: 3, offered: 2 } if role == "root"), "{error}");
    assert_eq!(client.memory.root.unwrap().version, 3);

    repository.files.insert("3.root.json".to_owned(), withheld);
    client.finds(&repository, NAME);
}

/// T11, T27: nor to another root of the same version.
#[test]
fn a_client_that_lost_its_root_is_not_led_to_another_of_that_version() {
    let mut repository = Repository::with_team();
    let mut client = Client::new(&repository);
    repository.next_root(|_, _| ());
    client.finds(&repository, NAME);
    client.root = repository.files["1.root.json"].clone();
    repository.root.common.expires += Duration::days(1);
    repository.put_root(&[Signer::ed25519(1)]);
    for further in [false, true] {
        if further {
            repository.next_root(|_, _| ());
        }
        // From the shipped root, and from the other one itself, also if that chain goes on.
        for start in ["1.root.json", "2.root.json"] {
            client.root = repository.files[start].clone();
            let error = client.refuses(&repository);
            assert!(
                matches!(error, Error::Equivocation { ref role, version: 2 } if role == "root"),
                "{error}"
            );
        }
    }
}

/// T14: what a revoked key signed is refused after the rotation, also when it comes from the client's own cache.
#[test]
fn a_revoked_key_vouches_for_nothing() {
    for role in ["timestamp", "snapshot", "targets"] {
        let mut repository = Repository::with_team();
        let mut client = Client::new(&repository);
        client.finds(&repository, NAME);
        repository.rotate(role, &Signer::ed25519(77));
        // The registry goes on serving what the old key signed.
        let error = client.refusal(&repository, NAME);
        assert!(matches!(error, Error::Threshold { role: ref r, have: 0, .. } if r == role), "{error}");
        assert_eq!(client.memory.root.unwrap().version, 2);
        // A restarted client has only its cache, and that does not help either.
        assert!(matches!(client.refuses(&repository), Error::Threshold { role: r, .. } if r == role));
    }
}

/// T25: who holds the timestamp key sets the highest version there is; new keys undo that.
#[test]
fn rotating_the_timestamp_key_recovers_from_a_fast_forward() {
    let mut repository = Repository::with_team();
    let mut client = Client::new(&repository);
    let honest = (repository.timestamp.clone(), repository.files.clone());
    repository.timestamp.common.version = (1 << 63) - 2;
    repository.publish_timestamp(|_| ());
    client.finds(&repository, NAME);

    (repository.timestamp, repository.files) = honest;
    repository.publish();
    assert!(matches!(client.refuses(&repository), Error::Rollback { held, .. } if held == (1 << 63) - 1));

    // A key beside the old one resets nothing.
    let (old, new) = (Signer::ed25519(2), Signer::ed25519(12));
    repository.next_root(|root, _| grant(root, "timestamp", &[old, new.clone()], 1));
    repository.publish();
    assert!(matches!(client.refusal(&repository, NAME), Error::Rollback { .. }));

    repository.rotate("timestamp", &new);
    repository.publish();
    client.finds(&repository, NAME);
    assert_eq!(client.memory.timestamp.unwrap().version, repository.timestamp.common.version);
}

/// T25: the same for the snapshot named in the timestamp, which nobody could even sign.
#[test]
fn rotating_the_timestamp_key_recovers_from_a_snapshot_that_never_was() {
    let mut repository = Repository::with_team();
    let mut client = Client::new(&repository);
    repository.publish_timestamp(|timestamp| {
        timestamp.meta.get_mut("snapshot.json").unwrap().version = 1_000_000;
    });
    assert!(
        matches!(client.update(&repository, NAME), Err(Failure::Missing(file)) if file == "1000000.snapshot.json")
    );
    repository.publish();
    assert!(matches!(client.refuses(&repository), Error::Rollback { role, .. } if role == "snapshot"));
    repository.rotate("timestamp", &Signer::ed25519(12));
    repository.publish();
    client.finds(&repository, NAME);
}

/// T25: new snapshot keys forget the snapshot and with it the floor of every role.
#[test]
fn rotating_the_snapshot_key_recovers_from_a_fast_forward() {
    let mut repository = Repository::with_team();
    let mut client = Client::new(&repository);
    let honest = repository.snapshot.clone();
    repository.snapshot.common.version = 500;
    repository.publish_snapshot(|snapshot| {
        snapshot.meta.get_mut("targets.json").unwrap().version = 600;
        snapshot.meta.get_mut("team.json").unwrap().version = 700;
    });
    assert!(
        matches!(client.update(&repository, NAME), Err(Failure::Missing(file)) if file == "600.targets.json")
    );
    assert_eq!(client.seen("team"), 700);

    // Neither an honest snapshot nor a team's new key undoes it.
    repository.snapshot.common.version = 501;
    repository.delegate("targets", "team2", &Signer::ed25519(60), &["acme/two:*"]);
    repository.publish();
    assert!(matches!(client.refusal(&repository, NAME), Error::Rollback { held: 600 | 700, .. }));
    let next = Signer::ed25519(61);
    repository.edit("targets", |targets| {
        delegations(targets).keys.insert(next.id.clone(), next.key.clone());
    });
    repository.edit_delegation("targets", "team", |team| team.keys.keyids = vec![next.id.clone()]);
    repository.signers.insert("team".to_owned(), vec![next]);
    repository.put("team");
    repository.publish();
    assert!(matches!(client.refusal(&repository, NAME), Error::Rollback { held: 600 | 700, .. }));

    // New snapshot keys do, all the way down to the honest numbers; the timestamp's own memory stays.
    repository.rotate("snapshot", &Signer::ed25519(13));
    repository.snapshot.common.version = honest.common.version;
    let timestamp = client.memory.timestamp;
    repository.publish();
    client.finds(&repository, NAME);
    assert!(client.memory.timestamp.unwrap().version > timestamp.unwrap().version);
    assert_eq!(client.seen("team"), repository.roles["team"].common.version);
}

/// T12, T25: walking a chain again that was walked before forgets nothing. Only a step that is new can.
#[test]
fn a_client_that_lost_its_newest_root_forgets_nothing_on_the_way_up() {
    let mut repository = Repository::with_team();
    let mut client = Client::new(&repository);
    client.finds(&repository, NAME);
    // Root 2 has other online keys, root 3 the first ones again.
    for seed in [(12, 13), (2, 3)] {
        repository.rotate("timestamp", &Signer::ed25519(seed.0));
        repository.root.common.version -= 1;
        repository.rotate("snapshot", &Signer::ed25519(seed.1));
        repository.publish();
        client.finds(&repository, NAME);
    }
    let older = repository.files.clone();
    repository.publish();
    client.finds(&repository, NAME);
    let memory = client.memory.clone();

    client.root = repository.files["1.root.json"].clone();
    repository.files = older;
    let error = client.refusal(&repository, NAME);
    assert!(matches!(error, Error::Rollback { ref role, .. } if role == "timestamp"), "{error}");
    assert_eq!(client.memory, memory);
}

/// T12, T25: nor does the last step of that way, though the timestamp that the memory is of was lost as well, and the keys
/// before that step have all been replaced.
#[test]
fn a_client_that_lost_its_root_and_its_timestamp_forgets_nothing_on_the_way_up() {
    let mut repository = Repository::with_team();
    repository.rotate("timestamp", &Signer::ed25519(12));
    let mut client = Client::new(&repository);
    repository.publish();
    let older = repository.files.clone();
    repository.publish();
    client.finds(&repository, NAME);
    let memory = client.memory.clone();

    client.root = repository.files["1.root.json"].clone();
    client.timestamp = None;
    repository.files = older;
    let error = client.refusal(&repository, NAME);
    assert!(matches!(error, Error::Rollback { ref role, .. } if role == "timestamp"), "{error}");
    assert_eq!(client.memory, memory);
}

/// A document is believed by its sha256 only under the root whose keys vouched for it.
#[test]
fn a_document_remembered_under_another_root_is_verified_again() {
    let mut repository = Repository::with_team();
    let (first, second, third) = (Signer::ed25519(2), Signer::ed25519(12), Signer::ed25519(22));
    repository.next_root(|root, _| grant(root, "timestamp", &[first, second.clone()], 1));
    let mut client = Client::new(&repository);
    client.finds(&repository, NAME);
    assert_eq!(client.memory.under, Some(2));
    // One of the keys stays, but it is not the one that signed.
    repository.next_root(|root, signers| {
        grant(root, "timestamp", &[second, third.clone()], 1);
        signers.insert("timestamp".to_owned(), vec![third]);
    });
    // The step was taken while the cached timestamp could not be read, and then it is back.
    let held = client.timestamp.take();
    let error = client.refusal(&repository, NAME);
    assert!(matches!(error, Error::Threshold { ref role, .. } if role == "timestamp"), "{error}");
    assert_eq!(client.memory.under, Some(2));
    client.timestamp = held;
    let error = client.refusal(&repository, NAME);
    assert!(matches!(error, Error::Threshold { ref role, .. } if role == "timestamp"), "{error}");
    // What the new keys sign is held to the memory, and then believed.
    repository.publish();
    client.finds(&repository, NAME);
    assert_eq!(client.memory.under, Some(3));
}

/// T25: rotating one online key does not forget what the other signed.
#[test]
fn rotating_one_key_keeps_the_memory_of_the_other_role() {
    let mut repository = Repository::with_team();
    let mut client = Client::new(&repository);
    repository.publish();
    client.finds(&repository, NAME);
    repository.rotate("timestamp", &Signer::ed25519(12));
    repository.snapshot.common.version -= 2;
    repository.publish();
    assert!(matches!(client.refusal(&repository, NAME), Error::Rollback { role, .. } if role == "snapshot"));
}

/// 5.3.11 after a crash: the rotated root was persisted, the record of what it made the client forget was not.
#[test]
fn a_root_newer_than_the_record_still_forgets_what_lapsed() {
    let mut repository = Repository::with_team();
    let mut client = Client::new(&repository);
    repository.timestamp.common.version = 1_000;
    repository.publish_timestamp(|_| ());
    client.finds(&repository, NAME);
    repository.rotate("timestamp", &Signer::ed25519(12));
    repository.timestamp.common.version = 10;
    repository.publish();
    client.root = repository.bytes("root").to_vec();
    client.finds(&repository, NAME);
    assert_eq!(client.memory.timestamp.unwrap().version, 11);
}

/// The same, if the run is started again from the memory before it got that far: what lapsed is still to be forgotten.
#[test]
fn a_run_that_is_started_again_still_forgets_what_lapsed() {
    let mut repository = Repository::with_team();
    let mut client = Client::new(&repository);
    repository.timestamp.common.version = 1_000;
    repository.publish_timestamp(|_| ());
    client.finds(&repository, NAME);
    repository.rotate("timestamp", &Signer::ed25519(12));
    repository.timestamp.common.version = 10;
    repository.publish();
    client.root = repository.bytes("root").to_vec();
    let resume = |client: &Client| {
        Trusted::resume(&client.root, client.memory.clone(), client.timestamp.as_deref(), now()).unwrap()
    };
    let first = resume(&client);
    assert!(first.is_behind());
    client.memory = first.memory().clone();
    assert!(resume(&client).is_behind());
    client.finds(&repository, NAME);
    assert_eq!(client.memory.timestamp.unwrap().version, 11);
    assert!(!resume(&client).is_behind());
}

/// T10, T12: only the root that the memory names is believed by its sha256; any other one must vouch for itself.
#[test]
fn a_root_that_is_not_the_one_remembered_is_verified() {
    let mut repository = Repository::new();
    let mut client = Client::new(&repository);
    client.refresh(&repository).unwrap();
    repository.next_root(|_, _| ());
    repository.put_root(&[]);
    client.root = repository.bytes("root").to_vec();
    let error = client.refuses(&repository);
    assert!(matches!(error, Error::Threshold { ref role, .. } if role == "root"), "{error}");
    assert!(client.requests.is_empty());
}

/// T25, 5.3.11: a fast-forward is recovered from even if the timestamp that brought it was lost since. Only if no
/// keys are left that could vouch for it under the new root.
#[test]
fn a_lost_timestamp_is_forgotten_when_all_its_keys_are_replaced() {
    let (old, new) = (Signer::ed25519(2), Signer::ed25519(12));
    for (keys, threshold, forgotten) in [
        (vec![new.clone()], 1, true),
        (vec![old.called("again")], 1, false),
        (vec![old.clone(), new.clone()], 1, false),
        (vec![old.clone(), new.clone()], 2, true),
    ] {
        let mut repository = Repository::with_team();
        let mut client = Client::new(&repository);
        client.finds(&repository, NAME);
        let honest = repository.timestamp.common.version;
        repository.timestamp.common.version = 1_000;
        repository.publish();
        client.finds(&repository, NAME);
        client.timestamp = None;
        repository.next_root(|root, signers| {
            grant(root, "timestamp", &keys, threshold);
            signers.insert("timestamp".to_owned(), keys.clone());
        });
        repository.timestamp.common.version = honest;
        repository.publish();
        if forgotten {
            client.finds(&repository, NAME);
            assert_eq!(client.memory.timestamp.unwrap().version, honest + 1);
        } else {
            let error = client.refusal(&repository, NAME);
            assert!(
                matches!(error, Error::Rollback { ref role, held: 1_001, .. } if role == "timestamp"),
                "{error}"
            );
        }
        // The snapshot's keys are what they were.
        assert_eq!(
            client.memory.snapshot.unwrap().version,
            repository.snapshot.common.version - u64::from(!forgotten)
        );
    }
}

/// Documents of an older root do not outlive a newer one in the same run.
#[test]
fn a_root_that_comes_late_starts_the_run_again() {
    let mut repository = Repository::with_team();
    let mut client = Client::new(&repository);
    let mut trusted = client.refresh(&repository).unwrap();
    trusted.update_targets("targets", "root", repository.bytes("targets")).unwrap();
    assert_eq!(trusted.snapshot().unwrap().version(), repository.snapshot.common.version);
    repository.rotate("targets", &Signer::ed25519(14));
    trusted.update_root(repository.bytes("root")).unwrap();
    assert!(
        trusted.timestamp().is_none() && trusted.snapshot().is_none() && trusted.role("targets").is_none()
    );
    assert!(matches!(trusted.update_snapshot(repository.bytes("snapshot")), Err(Error::Order { .. })));
    assert!(matches!(trusted.update_timestamp(repository.bytes("timestamp")), Err(Error::Order { .. })));
}

/// 5: the steps have one order.
#[test]
fn a_step_out_of_order_is_refused() {
    let repository = Repository::with_team();
    let mut trusted = Trusted::new(repository.bytes("root"), now()).unwrap();
    assert!(matches!(trusted.update_timestamp(repository.bytes("timestamp")), Err(Error::Order { .. })));
    trusted.finish_root().unwrap();
    assert!(matches!(trusted.update_snapshot(repository.bytes("snapshot")), Err(Error::Order { .. })));
    trusted.update_timestamp(repository.bytes("timestamp")).unwrap();
    assert!(matches!(
        trusted.update_targets("targets", "root", repository.bytes("targets")),
        Err(Error::Order { .. })
    ));
    assert!(trusted.update_snapshot(repository.bytes("snapshot")).unwrap(), "it is new");
    assert!(!trusted.update_snapshot(repository.bytes("snapshot")).unwrap(), "it is held already");
    // T31: nobody delegated this way.
    assert!(matches!(
        trusted.update_targets("team", "targets", repository.bytes("team")),
        Err(Error::NotDelegated { .. })
    ));
    assert!(matches!(
        trusted.update_targets("team", "root", repository.bytes("team")),
        Err(Error::NotDelegated { .. })
    ));
}

/// T70: once the root carries a trust id, every document must carry the same.
#[test]
fn documents_of_another_trust_repository_are_refused_at_every_role() {
    let foreign = "ffeeddccbbaa99887766554433221100";
    for role in ["root", "timestamp", "snapshot", "targets", "team"] {
        for id in [Some(foreign), None] {
            let mut repository = Repository::with_team();
            let mut client = Client::new(&repository);
            if role == "root" {
                client.finds(&repository, NAME);
            }
            let other = id.map(|id| plimsoll_core::tuf::Identity { trust: id.to_owned(), ..identity() });
            match role {
                "root" => repository.next_root(|root, _| root.common.identity = other),
                "timestamp" => repository.publish_timestamp(|timestamp| timestamp.common.identity = other),
                "snapshot" => repository.publish_snapshot(|snapshot| snapshot.common.identity = other),
                _ => {
                    repository.edit(role, |targets| targets.common.identity = other);
                    repository.publish();
                }
            }
            let before = client.memory.clone();
            let error = client.refusal(&repository, NAME);
            let found = id.unwrap_or("none");
            assert!(
                matches!(error, Error::Identity { role: ref r, found: ref f, .. } if r == role && f == found),
                "{role}: {error}"
            );
            if role == "root" {
                assert_eq!(client.memory, before);
            }
        }
    }
}

/// Identity: a root that adopts a trust id binds what comes after it, not the root before it.
#[test]
fn a_root_can_adopt_a_trust_id() {
    let mut repository = Repository::with_team();
    let mut client = Client::new(&repository);
    repository.root.common.identity = None;
    repository.put_root(&[Signer::ed25519(1)]);
    client.root = repository.bytes("root").to_vec();
    client.finds(&repository, NAME);
    repository.next_root(|root, _| root.common.identity = Some(identity()));
    client.finds(&repository, NAME);
    repository.next_root(|root, _| root.common.identity = None);
    assert!(matches!(client.refuses(&repository), Error::Identity { .. }));
}

/// Identity: nor does a held timestamp without the id come back in place of one that is not followed.
#[test]
fn a_held_timestamp_of_no_trust_id_is_not_followed_after_adoption() {
    let mut repository = Repository::with_team();
    let mut client = Client::new(&repository);
    repository.root.common.identity = None;
    repository.put_root(&[Signer::ed25519(1)]);
    client.root = repository.bytes("root").to_vec();
    repository.publish_timestamp(|timestamp| timestamp.common.identity = None);
    client.finds(&repository, NAME);
    repository.next_root(|root, _| root.common.identity = Some(identity()));
    repository.timestamp.common.identity = Some(identity());
    repository.put_timestamp();
    let error = client.refusal(&repository, NAME);
    assert!(matches!(error, Error::Identity { ref role, .. } if role == "timestamp"), "{error}");
}

/// A trust id names a directory on disk, so it is 32 hex digits and nothing else.
#[test]
fn a_trust_id_of_another_form_is_refused() {
    let mut repository = Repository::new();
    for id in ["", "../../etc", "00112233445566778899AABBCCDDEEFF", &TRUST[1..], "é"] {
        repository.root.common.identity.as_mut().unwrap().trust = id.to_owned();
        repository.put_root(&[Signer::ed25519(1)]);
        let error = Trusted::new(repository.bytes("root"), now()).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{id}: {error}");
    }
}

/// Design, section 10: a view that was not asked for would read as a fresh proof of absence.
#[test]
fn a_view_is_refused_at_every_role() {
    for role in ["root", "timestamp", "snapshot", "targets", "team"] {
        let mut repository = Repository::with_team();
        let mut client = Client::new(&repository);
        let view = Some(plimsoll_core::tuf::Identity { view: Some("acme/app".to_owned()), ..identity() });
        match role {
            "root" => repository.next_root(|root, _| root.common.identity = view),
            "timestamp" => repository.publish_timestamp(|timestamp| timestamp.common.identity = view),
            "snapshot" => repository.publish_snapshot(|snapshot| snapshot.common.identity = view),
            _ => {
                repository.edit(role, |targets| targets.common.identity = view);
                repository.publish();
            }
        }
        let error = client.refusal(&repository, NAME);
        assert!(matches!(error, Error::View { role: ref r, .. } if r == role), "{role}: {error}");
    }
}

/// T10: the first root is remembered from the start.
#[test]
fn the_pinned_root_is_remembered() {
    let repository = Repository::new();
    let trusted = Trusted::new(repository.bytes("root"), now()).unwrap();
    let digest = plimsoll_core::oci::Digest::of(repository.bytes("root"));
    assert_eq!(trusted.memory().root, Some(Mark { version: 1, digest: Some(digest) }));
}
