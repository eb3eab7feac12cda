//! Attacks on thresholds and keys: who counts, and how often.

mod simulator;

use data_encoding::HEXLOWER;
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
    let rsa = Signer::rsa();
    for keys in [
        [Signer::ed25519(10), Signer::ecdsa()],
        [Signer::p384(), rsa.clone()],
        [Signer::ecdsa(), rsa.typed("rsa", "rsa", "rsassa-pss-sha384")],
        [Signer::p384(), rsa.typed("rsa", "rsa", "rsassa-pss-sha512")],
        [Signer::p384(), Signer::p384()],
        [Signer::ed25519(10), Signer::ed25519(11)],
    ] {
        let (repository, mut client) = timestamp_needs_two_of(&keys, &keys);
        client.finds(&repository, NAME);
    }
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

/// The keys whose signatures differ each time.
fn randomised() -> [Signer; 3] {
    [Signer::ecdsa(), Signer::p384(), Signer::rsa()]
}

/// T01: ECDSA and RSA-PSS are randomised, so the two signatures differ; it is one key all the same.
#[test]
fn two_randomised_signatures_of_one_key_count_once() {
    for key in randomised() {
        let keys = [key.clone(), key.called("other")];
        let (repository, client) = timestamp_needs_two_of(&keys, &keys);
        let signatures = parsed::<Timestamp>("timestamp", repository.bytes("timestamp")).signatures;
        assert_ne!(signatures[0].sig, signatures[1].sig);
        assert_one_of_two(&repository, client);
    }
}

/// The same key under the id `other`, in each other spelling that somebody could think of: of its public part, its
/// type and its scheme. Each of them signs.
fn respelled(key: &Signer) -> Vec<Signer> {
    let pem = key.public();
    let spelled = |public: &str| key.spelled("other", public);
    let mut others = vec![
        spelled(&pem.replace('\n', "\r\n")),
        spelled(pem.trim_end()),
        spelled(&format!("\n\n {pem}\n")),
        spelled(&pem.replace("PUBLIC KEY", "RSA PUBLIC KEY")),
    ];
    match key.key.public().expect("the test's own keys can verify") {
        PublicKey::EcdsaP256(point) | PublicKey::EcdsaP384(point) => {
            let hex = HEXLOWER.encode(&point);
            let (x, odd) = (&hex[2..=point.len()], point[point.len() - 1] & 1);
            others.extend([
                spelled(&hex),
                spelled(&hex.to_uppercase()),
                spelled(&format!("0{}{x}", 2 + odd)),
                spelled(&format!("0{}{}", 6 + odd, &hex[2..])),
                key.typed("other", &key.key.scheme, &key.key.scheme),
            ]);
        }
        PublicKey::Rsa(_) => others.extend([
            key.typed("other", "rsa", "rsassa-pss-sha384"),
            key.typed("other", "rsa", "rsassa-pss-sha512"),
        ]),
        PublicKey::Ed25519(_) => others.push(spelled(&pem.to_uppercase())),
    }
    others
}

/// T02: each other spelling of a key counts as the same key, or not at all.
#[test]
fn one_key_in_two_spellings_counts_once() {
    for key in randomised() {
        let mut same = 0;
        for other in respelled(&key) {
            same += usize::from(other.key.public() == key.key.public());
            let keys = [key.clone(), other];
            let (repository, client) = timestamp_needs_two_of(&keys, &keys);
            assert_one_of_two(&repository, client);
        }
        assert!(same >= 5, "{same} spellings are read");
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

/// `team` at depth 1 and `team--ci` at depth 2, which lists [`NAME`]; `role`, one of them, needs `threshold` of `keys`
/// and is signed by `signers`.
fn delegated(role: &str, keys: &[Signer], threshold: u64, signers: &[Signer]) -> Repository {
    let mut repository = Repository::with_team();
    repository.edit("team", |team| team.targets.clear());
    repository.delegate("team", "team--ci", &Signer::ed25519(51), &["acme/app:*"]);
    repository.list("team--ci", NAME, "image");
    let parent = if role == "team" { "targets" } else { "team" };
    repository.edit(parent, |targets| {
        delegations(targets).keys.extend(keys.iter().map(|key| (key.id.clone(), key.key.clone())));
    });
    repository.edit_delegation(parent, role, |delegated| {
        delegated.keys.keyids = keys.iter().map(|key| key.id.clone()).collect();
        delegated.keys.threshold = threshold;
    });
    repository.signers.insert(role.to_owned(), signers.to_vec());
    repository.put(role);
    repository.publish();
    repository
}

/// T04: the rules of T01 and T02 hold for delegated roles, at depth 1 and 2.
#[test]
fn delegated_thresholds_count_distinct_keys_too() {
    for role in ["team", "team--ci"] {
        let mut pairs: Vec<_> = randomised().map(|key| [key.clone(), key.called("twin")]).into();
        pairs.push([Signer::ed25519(50), Signer::ed25519(50).called("twin")]);
        for key in randomised() {
            pairs.extend(respelled(&key).into_iter().map(|other| [key.clone(), other]));
        }
        for keys in pairs {
            let repository = delegated(role, &keys, 2, &keys);
            let error = Client::new(&repository).refusal(&repository, NAME);
            assert!(
                matches!(error, Error::Threshold { role: ref r, have: 1, need: 2 } if r == role),
                "{error}"
            );
        }
        let keys = [Signer::ecdsa(), Signer::rsa()];
        let repository = delegated(role, &keys, 2, &keys);
        Client::new(&repository).finds(&repository, NAME);
    }
}

/// T04: so does the rule of T03.
#[test]
fn a_key_id_that_signs_a_delegated_role_twice_is_refused() {
    for role in ["team", "team--ci"] {
        for key in [Signer::ed25519(50), Signer::rsa()] {
            let repository = delegated(role, std::slice::from_ref(&key), 1, &[key.clone(), key.clone()]);
            let error = Client::new(&repository).refusal(&repository, NAME);
            assert!(
                matches!(&error, Error::DuplicateSignature { role: r, keyid } if r == role && *keyid == key.id),
                "{error}"
            );
        }
    }
}

/// T07: a delegated role is signed by the keys that its own delegator lists for it, and by no others.
#[test]
fn a_delegated_role_is_not_signed_by_keys_of_others() {
    for role in ["team", "team--ci"] {
        // Of the other role, of the top level, of nobody.
        let other = if role == "team" { 51 } else { 50 };
        let key = Signer::ecdsa();
        for stranger in [Signer::ed25519(other), Signer::ed25519(4), Signer::ed25519(99)] {
            let keys = std::slice::from_ref(&key);
            let repository = delegated(role, keys, 1, std::slice::from_ref(&stranger));
            let error = Client::new(&repository).refusal(&repository, NAME);
            assert!(
                matches!(error, Error::Threshold { role: ref r, have: 0, need: 1 } if r == role),
                "{error}"
            );
            // Nor does a foreign key count that signs under the id of the right one.
            let disguised = stranger.called(&key.id.0);
            let repository = delegated(role, keys, 1, &[disguised]);
            let error = Client::new(&repository).refusal(&repository, NAME);
            assert!(matches!(error, Error::Threshold { have: 0, need: 1, .. }), "{error}");
        }
        let repository = delegated(role, std::slice::from_ref(&key), 1, &[Signer::ed25519(99), key.clone()]);
        Client::new(&repository).finds(&repository, NAME);
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

/// 1,024 bits, made with openssl.
const WEAK_RSA: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCurxEX6ot+AlB1GAwzrkcgGQkf
ZYqQDhvcFTnJ+PXosbxOnAwY8ldfSeY+zDaUvbfIiJiBBNgD17DqaCP5OEa0Qni5
Ow+/V14trTC8j9s0Tiyz6P1uP1UWJ5kcs+AI3Ust2LP4/fT4kTpxbxGM80rjSkMF
P4RgkPh1fstyF1VHqwIDAQAB
-----END PUBLIC KEY-----
";

/// T59, T57: keys that cannot verify never count, whatever stands in the signature, and refuse nothing by being there.
#[test]
fn weak_and_malformed_keys_never_count() {
    let zeros = "0".repeat(64);
    let identity = format!("01{}", "0".repeat(62));
    let off_curve = format!("04{}", "1".repeat(128));
    let off_curve_384 = format!("04{}", "1".repeat(192));
    for (keytype, scheme, public) in [
        ("ed25519", "ed25519", zeros.as_str()),
        ("ed25519", "ed25519", identity.as_str()),
        ("ed25519", "ed25519", "abc"),
        ("ed25519", "ed25519", ""),
        ("ed25519", "ecdsa-sha2-nistp256", Signer::ed25519(2).public()),
        ("rsa", "rsassa-pss-sha256", "-----BEGIN PUBLIC KEY-----"),
        ("rsa", "rsassa-pss-sha256", Signer::ed25519(2).public()),
        ("rsa", "rsassa-pss-sha256", WEAK_RSA),
        ("ecdsa", "ecdsa-sha2-nistp256", off_curve.as_str()),
        ("ecdsa", "ecdsa-sha2-nistp384", off_curve_384.as_str()),
        ("ecdsa", "ecdsa-sha2-nistp384", "00"),
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

/// T59: the algorithm comes from the key; what a signature says about itself changes nothing.
#[test]
fn a_signature_does_not_choose_its_algorithm() {
    let keys = [Signer::ed25519(10), Signer::rsa()];
    for (method, scheme) in
        [("ed25519", "ed25519"), ("rsa", "rsassa-pss-sha512"), ("none", "none"), ("", "hmac-sha256")]
    {
        for (right, wrong) in [(0, 1), (1, 0)] {
            let (mut repository, mut client) = timestamp_needs_two_of(&keys, &keys);
            let mut document =
                serde_json::from_slice::<serde_json::Value>(repository.bytes("timestamp")).unwrap();
            for signature in document["signatures"].as_array_mut().unwrap() {
                for (name, value) in [("method", method), ("keytype", method), ("scheme", scheme)] {
                    signature[name] = json!(value);
                }
            }
            repository.files.insert("timestamp.json".to_owned(), document.to_string().into_bytes());
            client.clone().finds(&repository, NAME);
            // The signature of the other key in this one's place, with all that it says.
            document["signatures"][wrong]["sig"] = document["signatures"][right]["sig"].clone();
            repository.files.insert("timestamp.json".to_owned(), document.to_string().into_bytes());
            let error = client.refusal(&repository, NAME);
            assert!(matches!(error, Error::Threshold { have: 1, need: 2, .. }), "{error}");
        }
    }
}

/// T57.
#[test]
fn malformed_signatures_do_not_count_and_do_no_harm() {
    let good = Signer::ed25519(10);
    for other in [Signer::ed25519(11), Signer::ecdsa(), Signer::p384(), Signer::rsa()] {
        let keys = [good.clone(), other];
        let (mut repository, mut client) = timestamp_needs_two_of(&keys, &keys);
        client.clone().finds(&repository, NAME);
        let canonical = json::canonical_of(&repository.timestamp).unwrap();
        let (first, second) = (keys[0].sign(&canonical), keys[1].sign(&canonical));
        let sig = second.sig.as_str();
        let longer = format!("{sig}00");
        let zeros = "0".repeat(sig.len());
        let ones = "f".repeat(sig.len());
        let upper = sig.to_uppercase();
        let spaced = format!(" {sig}\n");
        let odd = &sig[1..];
        let shorter = &sig[..sig.len() - 2];
        let endless = "ab".repeat(4_000);
        let spelled = [shorter, odd, &longer, &zeros, &ones, &upper, &spaced, &endless];
        for sig in ["", "0", "00", "zz", "é", "0x00", "3006020100020100"].iter().chain(&spelled) {
            let bad = Signature { keyid: keys[1].id.clone(), sig: (*sig).to_owned() };
            // In front, too: it does not hide the good one.
            for signatures in [[first.clone(), bad.clone()], [bad, first.clone()]] {
                let bytes = assemble(&repository.timestamp, &signatures);
                repository.files.insert("timestamp.json".to_owned(), bytes);
                assert_one_of_two(&repository, client.clone());
            }
        }
        let bytes = assemble(&repository.timestamp, &[second, first]);
        repository.files.insert("timestamp.json".to_owned(), bytes);
        client.finds(&repository, NAME);
    }
}

/// T57, T59: a root may list keys that cannot count for every role, beside those that do.
#[test]
fn a_document_with_keys_that_cannot_count_is_good_without_them() {
    let mut repository = Repository::with_team();
    repository.next_root(|root, _| {
        for (id, keytype, scheme, public) in [
            ("weak", "rsa", "rsassa-pss-sha256", WEAK_RSA),
            ("odd", "ed25519", "ed25519", "abc"),
            ("upper", "ed25519", "ed25519", &Signer::ed25519(2).public().to_uppercase()),
            ("future", "ml-dsa", "ml-dsa-65/1", "?"),
        ] {
            let mut key = Signer::ed25519(2).typed(id, keytype, scheme).spelled(id, public).key;
            key.extra.insert("x".to_owned(), json!([1]).into());
            root.keys.insert(KeyId(id.to_owned()), key);
            for role in root.roles.values_mut() {
                role.keyids.insert(0, KeyId(id.to_owned()));
            }
        }
    });
    let junk = ["weak", "odd", "upper", "future", "nobody"]
        .map(|id| Signature { keyid: KeyId(id.to_owned()), sig: "ab".repeat(128) });
    let good = Signer::ed25519(2).sign(&json::canonical_of(&repository.timestamp).unwrap());
    let bytes = assemble(&repository.timestamp, &[&junk[..], &[good]].concat());
    repository.files.insert("timestamp.json".to_owned(), bytes);
    Client::new(&repository).finds(&repository, NAME);
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
