//! Attacks on thresholds and keys: who counts, and how often.

mod simulator;

use plimsoll_core::tuf::{
    Document, Error, KeyId, PublicKey, Root, Signature, Targets, Timestamp, assemble, distinct_signers, json,
};
use serde_json::json;
use simulator::*;

/// A repository whose timestamp needs two of `keys`, and whose timestamp is signed by `signers`.
fn timestamp_needs_two_of(keys: &[Signer], signers: &[Signer]) -> (Repository, Client) {
    let mut repository = Repository::with_team();
    let client = Client::new(&repository);
    repository.next_root(|root, all| {
        grant(root, "timestamp", keys, 2);
        all.insert("timestamp".to_owned(), signers.to_vec());
    });
    repository.publish();
    (repository, client)
}

/// The client takes the new root and refuses the timestamp for want of signatures; nothing of it is remembered.
fn assert_one_of_two(repository: &Repository, mut client: Client) {
    let error = client.refusal(repository, NAME);
    assert!(
        matches!(error, Error::Threshold { ref role, have: 1, need: 2 } if role == "timestamp"),
        "{error}"
    );
    assert_eq!(client.memory.root.map(|root| root.version), Some(2));
    assert_eq!(client.memory.timestamp, None);
}

#[test]
fn two_distinct_keys_meet_a_threshold_of_two() {
    let keys = [Signer::ed25519(10), Signer::ecdsa()];
    let (repository, mut client) = timestamp_needs_two_of(&keys, &keys);
    client.finds(&repository, NAME);
}

/// T01, T02: one Ed25519 key under two ids counts once, with and without a field that makes it look different.
#[test]
fn one_key_under_two_ids_counts_once() {
    let key = Signer::ed25519(10);
    let mut other = key.called("other");
    other.key.extra.insert("x-owner".to_owned(), "somebody else".into());
    let keys = [key.clone(), other];
    let (repository, client) = timestamp_needs_two_of(&keys, &keys);
    assert_one_of_two(&repository, client);
}

/// T01: ECDSA is randomised, so the two signatures differ; it is one key all the same.
#[test]
fn two_randomised_signatures_of_one_key_count_once() {
    let key = Signer::ecdsa();
    let keys = [key.clone(), key.called("other")];
    let (repository, client) = timestamp_needs_two_of(&keys, &keys);
    let signatures = parsed::<Timestamp>("timestamp", repository.bytes("timestamp")).signatures;
    assert_ne!(signatures[0].sig, signatures[1].sig);
    assert_one_of_two(&repository, client);
}

/// T02: each other spelling of a P-256 key counts as the same key, or not at all.
#[test]
fn one_key_in_two_spellings_counts_once() {
    let key = Signer::ecdsa();
    let Ok(PublicKey::EcdsaP256(point)) = key.key.public() else { panic!() };
    let hex = data_encoding::HEXLOWER.encode(&point);
    let compressed = format!("0{}{}", 2 + (point[64] & 1), &hex[2..66]);
    let mut scheme = key.called("other");
    scheme.key.keytype = "ecdsa-sha2-nistp256".to_owned();
    for other in [
        key.spelled("other", &hex),
        key.spelled("other", &hex.to_uppercase()),
        key.spelled("other", &compressed),
        key.spelled("other", &format!("0{}{}", 6 + (point[64] & 1), &hex[2..])),
        key.spelled("other", &key.public().replace('\n', "\r\n")),
        key.spelled("other", &format!("\n\n{}", key.public().trim_end())),
        scheme,
    ] {
        let keys = [key.clone(), other];
        let (repository, client) = timestamp_needs_two_of(&keys, &keys);
        assert_one_of_two(&repository, client);
    }
}

/// T02, T57: an Ed25519 key in upper-case hex never counts, so it cannot be a second spelling.
#[test]
fn an_ed25519_key_in_upper_case_never_counts() {
    let key = Signer::ed25519(10);
    let keys = [key.clone(), key.spelled("other", &key.public().to_uppercase())];
    let (repository, client) = timestamp_needs_two_of(&keys, &keys);
    assert_one_of_two(&repository, client);
}

/// T03.
#[test]
fn a_key_id_that_signs_twice_is_refused() {
    let key = Signer::ed25519(2);
    let mut repository = Repository::with_team();
    repository.signers.insert("timestamp".to_owned(), vec![key.clone(), key]);
    repository.put_timestamp();
    let error = Client::new(&repository).refusal(&repository, NAME);
    assert!(matches!(error, Error::DuplicateSignature { .. }), "{error}");
}

/// T04: the rules hold for delegated roles, at depth 1 and 2.
#[test]
fn delegated_thresholds_count_distinct_keys_too() {
    for (parent, role) in [("targets", "team"), ("team", "team--ci")] {
        let mut repository = Repository::with_team();
        repository.edit("team", |team| team.targets.clear());
        repository.delegate("team", "team--ci", &Signer::ed25519(51), &["acme/app:*"]);
        repository.list("team--ci", NAME, "image");
        let key = repository.signers[role][0].clone();
        let twin = key.called("twin");
        repository.edit(parent, |targets| {
            delegations(targets).keys.insert(twin.id.clone(), twin.key.clone());
        });
        repository.edit_delegation(parent, role, |delegated| {
            delegated.keys.keyids.push(twin.id.clone());
            delegated.keys.threshold = 2;
        });
        repository.signers.insert(role.to_owned(), vec![key, twin]);
        repository.put(role);
        repository.publish();
        let error = Client::new(&repository).refusal(&repository, NAME);
        assert!(matches!(error, Error::Threshold { role: ref r, have: 1, need: 2 } if r == role), "{error}");
    }
}

/// T05: a threshold that is no positive number is refused when parsed, in roots and in delegations.
#[test]
fn a_threshold_that_means_nothing_is_refused() {
    let repository = Repository::with_team();
    for threshold in [json!(0), json!(-1), json!(1u64 << 63), json!(null), json!("1"), json!(true)] {
        let root = forge(repository.bytes("root"), &repository.signers["root"], |root| {
            root["roles"]["timestamp"]["threshold"] = threshold.clone();
        });
        let targets = forge(repository.bytes("targets"), &repository.signers["targets"], |targets| {
            targets["delegations"]["roles"][0]["threshold"] = threshold.clone();
        });
        for error in [
            Document::<Root>::parse("root", &root).unwrap_err(),
            Document::<Targets>::parse("targets", &targets).unwrap_err(),
        ] {
            let right = match threshold.as_u64() {
                Some(0) => matches!(error, Error::Invalid { .. }),
                Some(_) => matches!(error, Error::Json { source: json::JsonError::Range { .. }, .. }),
                None => matches!(error, Error::Shape { .. }),
            };
            assert!(right, "{threshold}: {error:?}");
        }
    }
    let missing = forge(repository.bytes("root"), &repository.signers["root"], |root| {
        root["roles"]["timestamp"].as_object_mut().unwrap().remove("threshold");
    });
    let error = Document::<Root>::parse("root", &missing).unwrap_err();
    assert!(matches!(error, Error::Shape { .. }), "{error}");
}

/// T05: such a role can be read; it is just never signed enough.
#[test]
fn a_threshold_above_the_number_of_keys_is_never_met() {
    let key = Signer::ed25519(10);
    let (repository, client) = timestamp_needs_two_of(std::slice::from_ref(&key), std::slice::from_ref(&key));
    assert_one_of_two(&repository, client);
}

/// T07.
#[test]
fn signatures_of_keys_that_the_role_does_not_list_are_ignored() {
    let mut repository = Repository::with_team();
    // A stranger, a key of another role, and a key that the root lists but gives no role.
    let unused = Signer::ed25519(90);
    repository.next_root(|root, _| drop(root.keys.insert(unused.id.clone(), unused.key.clone())));
    for others in [vec![Signer::ed25519(99)], vec![Signer::ed25519(3)], vec![unused]] {
        repository.signers.insert("timestamp".to_owned(), others.clone());
        repository.put_timestamp();
        let error = Client::new(&repository).refusal(&repository, NAME);
        assert!(matches!(error, Error::Threshold { have: 0, need: 1, .. }), "{error}");
        // Beside the right one they do no harm.
        repository.signers.insert("timestamp".to_owned(), [others, vec![Signer::ed25519(2)]].concat());
        repository.put_timestamp();
        Client::new(&repository).finds(&repository, NAME);
    }
}

/// T59, T57: keys that cannot verify never count, whatever stands in the signature, and refuse nothing by being there.
#[test]
fn weak_and_malformed_keys_never_count() {
    let zeros = "0".repeat(64);
    let identity = format!("01{}", "0".repeat(62));
    let off_curve = format!("04{}", "1".repeat(128));
    for (keytype, scheme, public) in [
        ("ed25519", "ed25519", zeros.as_str()),
        ("ed25519", "ed25519", identity.as_str()),
        ("ed25519", "ed25519", "abc"),
        ("ed25519", "ed25519", ""),
        ("ed25519", "ecdsa-sha2-nistp256", Signer::ed25519(2).public()),
        ("rsa", "rsassa-pss-sha256", "-----BEGIN PUBLIC KEY-----"),
        ("ecdsa", "ecdsa-sha2-nistp256", off_curve.as_str()),
        ("ecdsa", "ecdsa-sha2-nistp256", "00"),
        ("sphincs+", "shake", "?"),
    ] {
        let mut repository = Repository::with_team();
        repository.next_root(|root, _| {
            let mut key = Signer::ed25519(2).key;
            (key.keytype, key.scheme) = (keytype.to_owned(), scheme.to_owned());
            key.keyval.insert("public".to_owned(), public.into());
            root.keys.insert(KeyId("weak".to_owned()), key);
            let role = root.roles.get_mut("timestamp").unwrap();
            role.keyids.push(KeyId("weak".to_owned()));
            role.threshold = 2;
        });
        let good = Signer::ed25519(2).sign(&json::canonical_of(&repository.timestamp).unwrap());
        // All zeros, the identity point as R with S = 0, and the very signature of the good key.
        for sig in ["0".repeat(128), format!("{identity}{zeros}"), good.sig.clone()] {
            let weak = Signature { keyid: KeyId("weak".to_owned()), sig };
            let bytes = assemble(&repository.timestamp, &[good.clone(), weak]);
            repository.files.insert("timestamp.json".to_owned(), bytes);
            assert_one_of_two(&repository, Client::new(&repository));
        }
    }
}

/// T57.
#[test]
fn malformed_signatures_do_not_count_and_do_no_harm() {
    let key = Signer::ed25519(10);
    let keys = [key.clone(), Signer::ed25519(11)];
    let (mut repository, client) = timestamp_needs_two_of(&keys, &keys);
    let canonical = json::canonical_of(&repository.timestamp).unwrap();
    let (first, second) = (keys[0].sign(&canonical), keys[1].sign(&canonical));
    for sig in
        ["", "0", "zz", &second.sig[..126], &format!("{}00", second.sig), &second.sig.to_uppercase(), "é"]
    {
        let bad = Signature { keyid: keys[1].id.clone(), sig: sig.to_owned() };
        let bytes = assemble(&repository.timestamp, &[first.clone(), bad]);
        repository.files.insert("timestamp.json".to_owned(), bytes);
        assert_one_of_two(&repository, client.clone());
    }
}

/// T41: the limit is on signatures, not on keys that sign.
#[test]
fn more_signatures_than_the_limit_are_refused() {
    let mut repository = Repository::with_team();
    let good = Signer::ed25519(2).sign(&json::canonical_of(&repository.timestamp).unwrap());
    let mut signatures: Vec<_> =
        (0..1_023).map(|i| Signature { keyid: KeyId(format!("{i}")), sig: good.sig.clone() }).collect();
    signatures.push(good);
    let at_limit = assemble(&repository.timestamp, &signatures);
    // 1,024 of full length are longer than a timestamp may be: the limit on bytes comes first there.
    repository.files.insert("timestamp.json".to_owned(), at_limit);
    let error = Client::new(&repository).refusal(&repository, NAME);
    assert!(matches!(error, Error::TooLong { .. }), "{error}");

    for signature in &mut signatures[..1_023] {
        signature.sig.clear();
    }
    let targets = &repository.roles["targets"];
    let good = Signer::ed25519(4).sign(&json::canonical_of(targets).unwrap());
    *signatures.last_mut().unwrap() = good;
    let parse =
        |signatures: &[Signature]| Document::<Targets>::parse("targets", &assemble(targets, signatures));
    assert!(parse(&signatures).is_ok());
    signatures.push(Signature { keyid: KeyId("one more".to_owned()), sig: String::new() });
    assert!(matches!(parse(&signatures), Err(Error::Invalid { .. })));
}

/// T36, T41: a role that lists a million key ids costs no more than reading it.
#[test]
fn a_role_with_very_many_key_ids_is_bounded() {
    let repository = Repository::new();
    let mut document = parsed::<Targets>("targets", repository.bytes("targets"));
    document.signatures = (0..1_024)
        .map(|i| Signature { keyid: KeyId(format!("{:064}", 1_000_000 + i)), sig: String::new() })
        .collect();
    let keyids: Vec<_> = (0..1_000_000).map(|i| KeyId(format!("{i:064}"))).collect();
    // Compared one with another, these would be a thousand million comparisons: whoever waits for this test would notice.
    let signers = distinct_signers(&document, &repository.root.keys, &keyids);
    assert!(signers.is_empty());
}

/// Unknown key types, schemes and fields are tolerated and stand unchanged in what is written again.
#[test]
fn unknown_keys_and_fields_are_tolerated_and_preserved() {
    let mut repository = Repository::with_team();
    let bytes = forge(repository.bytes("root"), &repository.signers["root"], |root| {
        root["keys"]["future"] = json!({
            "keytype": "hybrid", "scheme": "ml-dsa", "keyval": {"public": "x", "parts": [1, {"a": null}]}, "x": "y",
        });
        root["roles"]["timestamp"]["x-note"] = json!("n");
        root["roles"]["x-role"] = json!({"keyids": ["future"], "threshold": 1});
        root["x-unknown"] = json!({"deep": [{"a": "\u{e9}\n"}]});
        root["x-plimsoll"]["future"] = json!(7);
    });
    let document = parsed::<Root>("root", &bytes);
    assert_eq!(json::canonical_of(&document.signed).unwrap(), document.canonical());
    repository.files.insert("1.root.json".to_owned(), bytes);
    Client::new(&repository).finds(&repository, NAME);

    let bytes = forge(repository.bytes("team"), &repository.signers["team"], |team| {
        team["targets"][NAME]["custom"] = json!({"mediaType": "m", "x": [null, true, -1]});
        team["targets"][NAME]["x"] = json!("y");
        team["x-plimsoll"]["revocations"] =
            json!([{"paths": ["other"], "reason": "r", "at": "2030-01-01T00:00:00Z", "x": 1}]);
        team["delegations"] = json!({"keys": {}, "roles": [{
            "name": "n", "keyids": [], "threshold": 1, "terminating": true, "path_hash_prefixes": ["00"], "x": 1,
        }], "x": {}});
    });
    let document = parsed::<Targets>("team", &bytes);
    assert_eq!(json::canonical_of(&document.signed).unwrap(), document.canonical());
}
