//! What the user adds to the workflow: how stale a view may be, and floors for machines that remember nothing.

mod simulator;

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use plimsoll_core::{
    oci::Digest,
    tuf::{Bounds, Error, Floor, FloorError, KeyId, MetaFile, metadata::Common},
};
use simulator::*;

fn stale(days: i64) -> Bounds {
    Bounds { max_staleness: Some(Duration::days(days)), ..Bounds::default() }
}

fn held_to(floor: Floor) -> Bounds {
    Bounds { floors: vec![floor], ..Bounds::default() }
}

/// Sets when `role` expires in the next publication.
fn expires(repository: &mut Repository, role: &str, at: DateTime<Utc>) {
    let set = |common: &mut Common| common.expires = at;
    match role {
        "timestamp" => set(&mut repository.timestamp.common),
        "snapshot" => set(&mut repository.snapshot.common),
        "root" => repository.next_root(|root, _| set(&mut root.common)),
        _ => repository.edit(role, |targets| set(&mut targets.common)),
    }
    repository.publish();
}

/// P2: up to the last second that the policy allows, and not at the next; told from the second of the expiry on.
#[test]
fn a_stale_timestamp_or_snapshot_is_taken_for_as_long_as_the_policy_says() {
    for role in ["timestamp", "snapshot"] {
        let mut repository = Repository::with_team();
        let end = now() + Duration::days(3);
        expires(&mut repository, role, end);
        let mut warm = Client::new(&repository);
        warm.finds(&repository, NAME);
        let cold = Client::new(&repository);
        // Fetched and verified, and kept from an earlier run.
        for mut client in [cold, warm] {
            client.bounds = stale(7);
            for (seconds, stale_by) in [
                (-1, None),
                (0, Some(Duration::zero())),
                (7 * 86_400 - 1, Some(Duration::days(7) - Duration::seconds(1))),
            ] {
                client.now = end + Duration::seconds(seconds);
                let mut trusted = client.refresh(&repository).unwrap();
                assert_eq!(
                    (trusted.stale_by(), trusted.is_stale()),
                    (stale_by, stale_by.is_some()),
                    "{role}"
                );
                client.search(&repository, &mut trusted, NAME).unwrap();
            }
            client.now = end + Duration::days(7);
            let error = client.refuses(&repository);
            assert!(matches!(error, Error::Expired { role: ref r, .. } if r == role), "{error}");
            // Without the policy's word, at its expiry already.
            for bounds in [Bounds::default(), stale(0), stale(-1)] {
                client.bounds = bounds;
                client.now = end;
                assert!(matches!(client.refuses(&repository), Error::Expired { role: r, .. } if r == role));
                client.now = end - Duration::seconds(1);
                client.finds(&repository, NAME);
            }
        }
    }
}

/// P2: offline or not, what a team, the targets keys or the root keys let lapse has lapsed.
#[test]
fn no_policy_makes_an_expired_root_or_targets_role_do() {
    for role in ["root", "targets", "team"] {
        let mut repository = Repository::with_team();
        let end = now() + Duration::days(3);
        expires(&mut repository, role, end);
        let mut client = Client { bounds: stale(10_000), ..Client::new(&repository) };
        client.now = end - Duration::seconds(1);
        client.finds(&repository, NAME);
        client.now = end;
        let error = client.refusal(&repository, NAME);
        assert!(matches!(error, Error::Expired { role: ref r, .. } if r == role), "{error}");
    }
}

/// P1, T20: a stale view is still never an older one.
#[test]
fn staleness_relaxes_no_version() {
    let mut repository = Repository::with_team();
    let old = repository.files.clone();
    repository.publish();
    let mut client = Client { bounds: stale(10_000), ..Client::new(&repository) };
    client.finds(&repository, NAME);
    client.now = now() + Duration::days(60);
    repository.files = old;
    assert!(
        matches!(client.refuses(&repository), Error::Rollback { role, held: 3, .. } if role == "timestamp")
    );
}

/// The files of each publication, and the floor of a client that saw the second.
struct Seen {
    repository: Repository,
    first: BTreeMap<String, Vec<u8>>,
    floor: Floor,
}

fn seen() -> Seen {
    let mut repository = Repository::with_team();
    let first = repository.files.clone();
    repository.list("team", "acme/app:v2", "second image");
    repository.publish();
    let mut client = Client::new(&repository);
    client.finds(&repository, NAME);
    let mut floor = client.floor();
    floor.name = Some("f.json".to_owned());
    Seen { repository, first, floor }
}

fn cold(repository: &Repository, floor: &Floor) -> Client {
    Client { bounds: held_to(floor.clone()), ..Client::new(repository) }
}

/// What is wrong by the word of a floor: whoever has seen nothing himself must not be told that he had.
fn by(error: &Error) -> &Error {
    let Error::Floor { floor, unmet } = error else { panic!("no floor says so: {error}") };
    assert_eq!(floor, "the floor f.json");
    let words = error.to_string();
    assert!(words.contains("the floor f.json says was seen") && !words.contains("seen before"), "{words}");
    unmet
}

/// P1, T20: what a machine without a memory could be shown as fresh is a rollback where it has a floor.
#[test]
fn a_cold_client_with_a_floor_refuses_what_is_older() {
    let Seen { mut repository, first, floor } = seen();
    cold(&repository, &floor).finds(&repository, NAME);
    repository.publish();
    cold(&repository, &floor).finds(&repository, NAME);
    repository.files = first;
    Client::new(&repository).finds(&repository, NAME);
    let error = cold(&repository, &floor).refuses(&repository);
    assert!(
        matches!(by(&error), Error::Rollback { role, held: 3, offered: 2 } if role == "timestamp"),
        "{error}"
    );
}

/// T20, T21: the same number with other bytes, of the timestamp and of the snapshot that it names.
#[test]
fn a_cold_client_with_a_floor_refuses_other_bytes_of_its_versions() {
    let Seen { mut repository, floor, .. } = seen();
    let mut client = cold(&repository, &floor);
    repository.timestamp.common.expires += Duration::days(1);
    repository.put_timestamp();
    let error = client.refuses(&repository);
    assert!(matches!(by(&error), Error::Equivocation { role, version: 3 } if role == "timestamp"), "{error}");

    let Seen { mut repository, floor, .. } = seen();
    repository.snapshot.common.version -= 1;
    repository.snapshot.common.expires += Duration::days(1);
    repository.publish();
    for listed in [true, false] {
        repository.publish_timestamp(|timestamp| {
            let meta = timestamp.meta.get_mut("snapshot.json").unwrap();
            meta.hashes = meta.hashes.take().filter(|_| listed);
        });
        let mut client = cold(&repository, &floor);
        let error = client.refusal(&repository, NAME);
        assert!(
            matches!(by(&error), Error::Equivocation { role, version: 3 } if role == "snapshot"),
            "{error}"
        );
        assert!(client.memory.snapshot.is_none());
    }
}

/// T21, T22, T23: whoever has the online keys signs new numbers over old content.
#[test]
fn a_cold_client_with_a_floor_refuses_old_content_under_new_numbers() {
    let Seen { mut repository, first, floor } = seen();
    let old = MetaFile::of(2, &first["2.snapshot.json"]);
    repository.publish_timestamp(|timestamp| drop(timestamp.meta.insert("snapshot.json".to_owned(), old)));
    let error = cold(&repository, &floor).refuses(&repository);
    assert!(
        matches!(by(&error), Error::Rollback { role, held: 3, offered: 2 } if role == "snapshot"),
        "{error}"
    );

    type Lie = fn(&mut BTreeMap<String, MetaFile>);
    type Refused = fn(&Error) -> bool;
    let lies: [(Lie, Refused); 3] = [
        (
            |meta| meta.get_mut("team.json").unwrap().version = 2,
            |e| matches!(by(e), Error::Rollback { role, held: 3, offered: 2 } if role == "team"),
        ),
        (
            |meta| drop(meta.remove("team.json")),
            |e| matches!(by(e), Error::RoleRemoved { role } if role == "team"),
        ),
        (
            |meta| *meta.get_mut("team.json").unwrap() = MetaFile::of(3, b"other"),
            |e| matches!(by(e), Error::Equivocation { role, version: 3 } if role == "team"),
        ),
    ];
    for (lie, refused) in lies {
        let Seen { mut repository, floor, .. } = seen();
        repository.publish_snapshot(|snapshot| lie(&mut snapshot.meta));
        let mut client = cold(&repository, &floor);
        let error = client.refusal(&repository, NAME);
        assert!(refused(&error), "{error}");
        assert!(client.memory.snapshot.is_none(), "nothing of it is kept");
    }
}

/// T26: a snapshot that lists no hash does not free the role's document from the floor.
#[test]
fn a_cold_client_with_a_floor_refuses_another_document_that_no_hash_names() {
    let Seen { mut repository, floor, .. } = seen();
    repository.roles.get_mut("team").unwrap().common.version -= 1;
    repository.list("team", NAME, "another image");
    repository.publish_snapshot(|snapshot| {
        let meta = snapshot.meta.get_mut("team.json").unwrap();
        (meta.hashes, meta.length) = (None, None);
    });
    let error = cold(&repository, &floor).refusal(&repository, NAME);
    assert!(matches!(by(&error), Error::Equivocation { role, version: 3 } if role == "team"), "{error}");
}

/// T09, T13: the chain must reach the floor's root, through its very bytes.
#[test]
fn a_cold_client_with_a_floor_refuses_an_older_root_and_another_one() {
    let mut repository = Repository::with_team();
    let before = repository.files.clone();
    repository.next_root(|root, _| root.common.expires += Duration::days(1));
    repository.publish();
    let mut client = Client::new(&repository);
    client.finds(&repository, NAME);
    let mut floor = client.floor();
    floor.name = Some("f.json".to_owned());
    repository.files = before;
    let error = cold(&repository, &floor).refuses(&repository);
    assert!(matches!(by(&error), Error::Rollback { role, held: 2, offered: 1 } if role == "root"), "{error}");

    // Another second root, on the way and as the pinned one.
    repository.root.common.version = 1;
    repository.next_root(|root, _| root.common.expires += Duration::days(2));
    repository.next_root(|_, _| ());
    repository.publish();
    repository.publish();
    let pinned = repository.files["2.root.json"].clone();
    for client in [cold(&repository, &floor), Client { root: pinned, ..cold(&repository, &floor) }] {
        let error = client.clone().refuses(&repository);
        assert!(matches!(by(&error), Error::Equivocation { role, version: 2 } if role == "root"), "{error}");
    }
}

/// T25: a version that a thief signed absurdly high is in the floor; the root that drops the key lifts it, and nothing else.
#[test]
fn a_root_that_replaces_a_key_lifts_what_it_vouched_for_from_the_floor() {
    for role in ["timestamp", "snapshot"] {
        let Seen { mut repository, mut floor, .. } = seen();
        let huge = 1 << 40;
        if role == "timestamp" {
            floor.timestamp.version = huge;
        } else {
            floor.snapshot.version = huge;
        }
        floor.roles.get_mut("team").unwrap().version = huge;
        let error = cold(&repository, &floor).refuses(&repository);
        assert!(matches!(by(&error), Error::Rollback { held, .. } if *held == huge), "{error}");
        // A key beside the old one lifts nothing.
        repository.next_root(|root, signers| {
            let both = [signers[role][0].clone(), Signer::ed25519(70)];
            grant(root, role, &both, 1);
        });
        let error = cold(&repository, &floor).refusal(&repository, NAME);
        assert!(matches!(by(&error), Error::Rollback { held, .. } if *held == huge), "{error}");
        repository.rotate(role, &Signer::ed25519(71));
        repository.publish();
        if role == "timestamp" {
            let error = cold(&repository, &floor).refusal(&repository, NAME);
            assert!(matches!(by(&error), Error::Rollback { role, .. } if role == "team"), "{error}");
            floor.roles.clear();
        }
        cold(&repository, &floor).finds(&repository, NAME);
        // What is not signed by that key still holds.
        floor.root.version = 9;
        let error = cold(&repository, &floor).refusal(&repository, NAME);
        assert!(matches!(by(&error), Error::Rollback { held: 9, .. }), "{error}");
    }
}

/// P1: a floor from long ago does not loosen what the machine remembers.
#[test]
fn a_floor_lowers_nothing_that_is_remembered() {
    let Seen { mut repository, floor, .. } = seen();
    let second = repository.files.clone();
    repository.publish();
    let mut client = cold(&repository, &floor);
    client.finds(&repository, NAME);
    repository.files = second;
    assert!(matches!(client.refuses(&repository), Error::Rollback { held: 4, offered: 3, .. }));
}

/// P1: nor does what a machine remembers of a worse day, kept and never read again, count against a floor.
#[test]
fn a_warm_client_with_a_floor_refuses_what_it_kept_itself() {
    let Seen { repository, mut floor, .. } = seen();
    let mut client = Client::new(&repository);
    client.finds(&repository, NAME);
    floor.roles.get_mut("team").unwrap().version += 1;
    client.bounds = held_to(floor.clone());
    let error = client.refuses(&repository);
    assert!(matches!(by(&error), Error::Rollback { role, held: 4, offered: 3 } if role == "team"), "{error}");
    floor.roles.clear();
    floor.snapshot.digest = Digest::of(b"another");
    client.bounds = held_to(floor);
    let error = client.refuses(&repository);
    assert!(matches!(by(&error), Error::Equivocation { role, version: 3 } if role == "snapshot"), "{error}");
}

/// T70: by the trust id, whichever root is pinned; by the very root where there is none.
#[test]
fn a_floor_knows_whose_it_is() {
    let Seen { repository, mut floor, .. } = seen();
    let root = |bytes: &[u8]| parsed::<plimsoll_core::tuf::Root>("root", bytes);
    let own = repository.bytes("root");
    assert!(floor.is_of(&root(own)));
    let key = &repository.signers["root"];
    let newer = forge(own, key, |signed| signed["version"] = 2.into());
    assert!(floor.is_of(&root(&newer)));
    let other = forge(own, key, |signed| signed["x-plimsoll"]["trust"] = "ff".repeat(16).into());
    let foreign = forge(own, key, |signed| drop(signed.as_object_mut().unwrap().remove("x-plimsoll")));
    assert!(!floor.is_of(&root(&other)) && !floor.is_of(&root(&foreign)));
    (floor.trust, floor.pinned) = (None, Digest::of(&foreign));
    assert!(floor.is_of(&root(&foreign)) && !floor.is_of(&root(own)));
}

/// T51: a floor is read in one way only.
#[test]
fn a_floor_is_strict_json() {
    let Seen { floor, .. } = seen();
    let text = floor.to_json();
    assert!(!text.contains("f.json"), "{text}");
    assert_eq!(Floor::parse(text.as_bytes()).unwrap(), {
        let mut unnamed = floor.clone();
        unnamed.name = None;
        unnamed
    });
    let parse = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        Floor::parse(text.replacen(from, to, 1).as_bytes())
    };
    assert!(matches!(parse("\"floor\": 1", "\"floor\": 2"), Err(FloorError::Form { found: 2 })));
    for (from, to) in [
        ("\"floor\": 1", "\"floor\": 1, \"extra\": 1"),
        ("\"as-of\"", "\"as_of\""),
        ("\"root\": {", "\"root\": {\"extra\": 1,"),
        ("\"version\": 3", "\"version\": -3"),
        ("\"version\": 3", "\"version\": 3.0"),
        ("sha256:", "sha512:"),
        ("\"timestamp\"", "\"x\""),
    ] {
        assert!(matches!(parse(from, to), Err(FloorError::Shape(_))), "{to}");
    }
    assert!(matches!(parse("\"floor\": 1", "\"floor\": 1, \"floor\": 1"), Err(FloorError::Json(_))));
    assert!(matches!(Floor::parse(format!("{text}{{}}").as_bytes()), Err(FloorError::Json(_))));
    let mut bare = floor;
    bare.snapshot.keys.clear();
    let error = Floor::parse(bare.to_json().as_bytes());
    assert!(matches!(error, Err(FloorError::NoKeys { role: "snapshot" })), "{error:?}");
    bare.snapshot.keys.insert(KeyId("x".to_owned()));
    Floor::parse(bare.to_json().as_bytes()).unwrap();
}

/// T51: a list is no floor, nor a part of one.
#[test]
fn a_list_stands_for_no_part_of_a_floor() {
    let Seen { floor, .. } = seen();
    let good: serde_json::Value = serde_json::from_str(&floor.to_json()).unwrap();
    for path in ["", "/root", "/timestamp", "/snapshot", "/roles", "/roles/targets"] {
        let part = good.pointer(path).unwrap();
        let values: Vec<_> = part.as_object().unwrap().values().cloned().collect();
        // In the order in which a record names its members, too.
        let ordered =
            ["floor", "trust", "pinned", "as-of", "root", "timestamp", "snapshot", "roles", "version"];
        let named = ordered.into_iter().chain(["digest", "keys"]).filter_map(|name| part.get(name).cloned());
        for list in [values, named.collect(), vec![part.clone()]] {
            let mut wrong = good.clone();
            *wrong.pointer_mut(path).unwrap() = list.into();
            let found = Floor::parse(wrong.to_string().as_bytes());
            assert!(matches!(found, Err(FloorError::Shape(_))), "{path}: {found:?}\n{wrong}");
        }
    }
}
