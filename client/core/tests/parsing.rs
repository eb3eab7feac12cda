//! Documents that are not what they seem, and bytes that are no document at all.

#![allow(clippy::unwrap_used)]

mod simulator;

use plimsoll_core::tuf::{
    Document, Error, Json, MAX_SIGNATURES, Root, Snapshot, Targets, Timestamp, assemble, json,
    json::JsonError, metadata::RoleType,
};
use proptest::prelude::*;
use serde_json::json;
use simulator::*;

/// `text` inside the `signed` of an otherwise good `targets`, as the member `x`.
fn with_member(text: &str) -> Vec<u8> {
    let plain = String::from_utf8(Repository::new().bytes("targets").to_vec()).unwrap();
    plain.replacen("\"signed\":{", &format!("\"signed\":{{\"x\":{text},"), 1).into_bytes()
}

fn refusal<T: RoleType>(bytes: &[u8]) -> Error {
    Document::<T>::parse(T::TYPE, bytes).unwrap_err()
}

/// T51 to T54, in a whole document: the rule is named, not merely "bad".
#[test]
fn bytes_with_two_readings_are_refused_by_their_rule() {
    assert!(Document::<Targets>::parse("targets", &with_member("1")).is_ok());
    type Rule = fn(&JsonError) -> bool;
    let digits = "1".repeat(1_000_000);
    let cases: [(&str, Rule); 16] = [
        (r#"[{"b":1,"a":2,"b":1}]"#, |e| matches!(e, JsonError::Duplicate { .. })),
        (r#"{"a":1,"\u0061":2}"#, |e| matches!(e, JsonError::Duplicate { .. })),
        (&digits, |e| matches!(e, JsonError::Range { .. })),
        ("9223372036854775808", |e| matches!(e, JsonError::Range { .. })),
        ("-1.5E-3", |e| matches!(e, JsonError::Float)),
        ("-01", |e| matches!(e, JsonError::Syntax { .. })),
        ("\"\u{1}\"", |e| matches!(e, JsonError::Syntax { .. })),
        (r#"{"a":1,"a":2}"#, |e| matches!(e, JsonError::Duplicate { .. })),
        ("1,\"x\":2", |e| matches!(e, JsonError::Duplicate { .. })),
        ("1e400", |e| matches!(e, JsonError::Float)),
        ("1.0", |e| matches!(e, JsonError::Float)),
        ("-0", |e| matches!(e, JsonError::Range { .. })),
        ("01", |e| matches!(e, JsonError::Syntax { .. })),
        ("18446744073709551616", |e| matches!(e, JsonError::Range { .. })),
        (r#""\ud800""#, |e| matches!(e, JsonError::Unicode { .. })),
        ("NaN", |e| matches!(e, JsonError::Syntax { .. })),
    ];
    for (text, rule) in cases {
        let error = refusal::<Targets>(&with_member(text));
        assert!(matches!(&error, Error::Json { source, .. } if rule(source)), "{text}: {error:?}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let error = refusal::<Targets>(&with_member(&deep));
    assert!(matches!(error, Error::Json { source: JsonError::Depth { .. }, .. }), "{error:?}");
}

/// T54: nothing before or after, no other encoding.
#[test]
fn a_document_is_one_json_text() {
    let good = Repository::new().bytes("targets").to_vec();
    let utf16: Vec<u8> = good.iter().flat_map(|&byte| [byte, 0]).collect();
    for bytes in [
        [b"\xef\xbb\xbf", good.as_slice()].concat(),
        [good.as_slice(), b"\0"].concat(),
        [good.as_slice(), b"{}"].concat(),
        [good.as_slice(), b"\xff"].concat(),
        utf16,
        good[..good.len() - 1].to_vec(),
        Vec::new(),
    ] {
        assert!(matches!(refusal::<Targets>(&bytes), Error::Json { .. }));
    }
    assert!(Document::<Targets>::parse("targets", &[good.as_slice(), b" \n\r\t"].concat()).is_ok());
}

/// T50: members beside `signed` and `signatures` are not signed; reading skips them and keeps the bytes.
#[test]
fn unknown_outer_members_are_skipped() {
    let text = String::from_utf8(Repository::new().bytes("targets").to_vec()).unwrap();
    let bytes = text.replacen('{', "{\"x\":1.5,", 1).into_bytes();
    let document = parsed::<Targets>("targets", &bytes);
    assert_eq!(document.bytes, bytes);
    assert_eq!(document.canonical(), json::canonical_of(&document.signed).unwrap());
}

/// A document of one role never passes for another.
#[test]
fn a_document_of_another_type_is_refused() {
    let repository = Repository::new();
    assert!(matches!(
        refusal::<Snapshot>(repository.bytes("timestamp")),
        Error::Invalid { .. } | Error::Shape { .. }
    ));
    assert!(matches!(
        refusal::<Timestamp>(repository.bytes("snapshot")),
        Error::Invalid { .. } | Error::Shape { .. }
    ));
    assert!(matches!(
        refusal::<Targets>(repository.bytes("root")),
        Error::Invalid { .. } | Error::Shape { .. }
    ));
    for other in ["Targets", "snapshot", "", "targets "] {
        let bytes = forge(repository.bytes("targets"), &[], |signed| signed["_type"] = json!(other));
        assert!(matches!(refusal::<Targets>(&bytes), Error::Invalid { .. }), "{other}");
    }
}

/// TUF 1.0.34, 4.3, SPEC_VERSION: a client of version 1 reads version 1, with or without a patch level, as python-tuf does.
#[test]
fn another_major_spec_version_is_refused() {
    for (version, good) in [
        ("1.0.34", true),
        ("1.0", true),
        ("1.99.0", true),
        ("1.0.0", true),
        ("2.0.0", false),
        ("0.9", false),
        ("10.0", false),
        ("01.0", false),
        ("1", false),
        ("1.", false),
        ("1.x", false),
        ("1.0.", false),
        ("1.0.0.0", false),
        ("1.0.0-rc1", false),
        ("1.-1", false),
        (" 1.0", false),
        ("1.٣", false),
        ("", false),
    ] {
        let bytes = forge(Repository::new().bytes("timestamp"), &[], |signed| {
            signed["spec_version"] = json!(version);
        });
        match Document::<Timestamp>::parse("timestamp", &bytes) {
            Ok(_) => assert!(good, "{version}"),
            Err(error) => assert!(!good && matches!(error, Error::Invalid { .. }), "{version}: {error}"),
        }
    }
}

/// TUF 1.0.34, 4.2.1: one form of time, to the second, in UTC. python-tuf reads `2030-2-1T0:0:0Z`, too, which is not it.
#[test]
fn a_time_of_another_form_is_refused() {
    for time in [
        json!("2030-02-01T00:00:00.5Z"),
        json!("2030-02-01T00:00:00+00:00"),
        json!("2030-02-01T00:00:00z"),
        json!("2030-02-01 00:00:00Z"),
        json!("2030-2-1T00:00:00Z"),
        json!("2030-02-01T0:0:0Z"),
        json!("2030-02-01"),
        json!("2030-02-01T00:00Z"),
        json!("20300201T000000Z"),
        json!("2030-02-01T00:00:00"),
        json!("2030-02-01T00:00:00\u{0}"),
        json!(""),
        json!("2030-02-30T00:00:00Z"),
        json!("2030-02-01T24:00:00Z"),
        json!("2030-06-30T23:59:60Z"),
        json!("+12030-02-01T00:00:00Z"),
        json!("-2030-02-01T00:00:00Z"),
        json!(" 2030-02-01T00:00:00Z"),
        json!("2030-02-01T00:00:00Z "),
        json!("٢٠30-02-01T00:00:00Z"),
        json!(1_900_000_000),
        json!(null),
    ] {
        let bytes =
            forge(Repository::new().bytes("timestamp"), &[], |signed| signed["expires"] = time.clone());
        assert!(matches!(refusal::<Timestamp>(&bytes), Error::Shape { .. }), "{time}");
    }
}

/// Versions count from 1.
#[test]
fn a_version_that_is_none_is_refused() {
    for version in [json!(0), json!(-1), json!("1"), json!(null), json!(true), json!([1])] {
        let bytes =
            forge(Repository::new().bytes("snapshot"), &[], |signed| signed["version"] = version.clone());
        assert!(
            matches!(refusal::<Snapshot>(&bytes), Error::Invalid { .. } | Error::Shape { .. }),
            "{version}"
        );
        let bytes = forge(Repository::new().bytes("snapshot"), &[], |signed| {
            signed["meta"]["targets.json"]["version"] = version.clone();
        });
        assert!(
            matches!(refusal::<Snapshot>(&bytes), Error::Invalid { .. } | Error::Shape { .. }),
            "{version}"
        );
    }
}

/// T25, T52: a version is any number that both readers of JSON read alike, up to 2^63 - 1; beyond it is no integer.
#[test]
fn versions_go_up_to_the_largest_integer() {
    let with = |version: &str| {
        let text = String::from_utf8(Repository::new().bytes("snapshot").to_vec()).unwrap();
        text.replacen(r#""version":1,"#, &format!(r#""version":{version},"#), 1)
            .replace(r#""version":1}"#, &format!(r#""version":{version}}}"#))
            .into_bytes()
    };
    for version in [1, (1 << 31) - 1, (1 << 53) + 1, i64::MAX.unsigned_abs()] {
        let document = parsed::<Snapshot>("snapshot", &with(&version.to_string()));
        assert_eq!((document.version(), document.signed.meta["targets.json"].version), (version, version));
    }
    for version in ["9223372036854775808", "18446744073709551615", "18446744073709551616"] {
        let error = refusal::<Snapshot>(&with(version));
        assert!(matches!(error, Error::Json { source: JsonError::Range { .. }, .. }), "{version}: {error:?}");
    }
}

/// A document of each role with every field that any has.
fn with_every_field() -> [(&'static str, serde_json::Value); 5] {
    let common = |role: &str| {
        json!({
            "_type": role, "spec_version": "1.0.34", "version": 1, "expires": "2030-02-01T00:00:00Z",
            "x-plimsoll": {
                "trust": TRUST, "at": "2030-01-01T00:00:00Z", "scope": ["acme/**"], "view": "v",
                "revocations": [
                    {"digest": format!("sha256:{}", "a".repeat(64)), "paths": ["a/*"], "reason": "r", "at": "2030-01-01T00:00:00Z"},
                ],
            },
        })
    };
    let document = |role: &str, own: serde_json::Value| {
        let mut signed = common(role);
        signed.as_object_mut().unwrap().append(&mut own.as_object().unwrap().clone());
        json!({"signatures": [{"keyid": "k", "sig": "00"}], "signed": signed})
    };
    let role = json!({"keyids": ["k"], "threshold": 1});
    let keys = json!({"k": {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "00"}}});
    let file = json!({"version": 1, "length": 1, "hashes": {"sha256": "00"}});
    let delegated = |paths: &str| {
        json!({
            "name": paths, "keyids": ["k"], "threshold": 1, "terminating": true, paths: ["a"],
        })
    };
    let targets = |delegations| {
        let target = json!({"length": 1, "hashes": {"sha512": "00"}, "custom": {"mediaType": "m"}});
        document("targets", json!({"targets": {"a": target}, "delegations": delegations}))
    };
    let roles = json!({"root": role, "timestamp": role, "snapshot": role, "targets": role, "mirrors": role});
    [
        ("root", document("root", json!({"consistent_snapshot": true, "keys": keys, "roles": roles}))),
        ("timestamp", document("timestamp", json!({"meta": {"snapshot.json": file}}))),
        ("snapshot", document("snapshot", json!({"meta": {"targets.json": file}}))),
        (
            "targets",
            targets(json!({"keys": keys, "roles": [delegated("paths"), delegated("path_hash_prefixes")]})),
        ),
        (
            "targets",
            targets(json!({
                "keys": keys,
                "succinct_roles": {"keyids": ["k"], "threshold": 1, "bit_length": 4, "name_prefix": "bin"},
            })),
        ),
    ]
}

fn parse_as(role: &str, document: &serde_json::Value) -> Result<(), Error> {
    let bytes = serde_json::to_vec(document).unwrap();
    match role {
        "root" => Document::<Root>::parse(role, &bytes).map(drop),
        "timestamp" => Document::<Timestamp>::parse(role, &bytes).map(drop),
        "snapshot" => Document::<Snapshot>::parse(role, &bytes).map(drop),
        _ => Document::<Targets>::parse(role, &bytes).map(drop),
    }
}

/// True for what stands inside a key or `custom`, which have members of any type.
fn is_open(pointer: &str) -> bool {
    pointer.ends_with("/custom") || pointer.contains("/custom/") || pointer.contains("/keyval/")
}

/// T56: each value of each role, replaced by a value of each other type, is refused as having the wrong shape. `null` may
/// stand for what may be missing; what is open to any type is preserved.
#[test]
fn a_wrong_type_in_any_field_is_an_error_and_no_panic() {
    const NULLABLE: [&str; 8] =
        ["x-plimsoll", "view", "digest", "length", "hashes", "delegations", "roles", "succinct_roles"];
    let mut refused = 0;
    for (role, document) in with_every_field() {
        parse_as(role, &document).unwrap();
        let mut pointers = Vec::new();
        collect(&document, String::new(), &mut pointers);
        for pointer in pointers.iter().filter(|pointer| !is_open(pointer)) {
            let was = document.pointer(pointer).unwrap();
            for value in [
                json!(null),
                json!(7),
                json!("x"),
                json!(["x"]),
                json!({"x": []}),
                json!([[{}]]),
                json!(true),
            ] {
                if std::mem::discriminant(&value) == std::mem::discriminant(was) {
                    continue;
                }
                let mut changed = document.clone();
                *changed.pointer_mut(pointer).unwrap() = value.clone();
                let field = pointer.rsplit('/').next().unwrap();
                match parse_as(role, &changed) {
                    Ok(()) => {
                        assert!(value.is_null() && NULLABLE.contains(&field), "{role}: {pointer}: {value}");
                    }
                    Err(error) => {
                        refused += 1;
                        let named = matches!(error, Error::Shape { .. } | Error::Invalid { .. });
                        assert!(named, "{role}: {pointer}: {value}: {error:?}");
                    }
                }
            }
        }
    }
    assert!(refused > 500, "{refused}");
}

/// T56: each member that TUF requires is required; each other one is not.
#[test]
fn a_missing_member_is_an_error_where_it_is_required() {
    // By the end of the pointer; entries of maps, whose names nobody requires, among them.
    const OPTIONAL: [&str; 18] = [
        "/x-plimsoll",
        "/scope",
        "/view",
        "/revocations",
        "/digest",
        "/revocations/0/paths",
        "/consistent_snapshot",
        "/roles/mirrors",
        ".json/hashes",
        ".json/length",
        "/signed/delegations",
        "/delegations/roles",
        "/custom",
        "/custom/mediaType",
        "/keys/k",
        "/keyval/public",
        "/targets/a",
        "/delegations/succinct_roles",
    ];
    for (role, document) in with_every_field() {
        let mut pointers = Vec::new();
        collect(&document, String::new(), &mut pointers);
        for pointer in pointers {
            let Some((object, field)) = pointer.rsplit_once('/') else { continue };
            let mut changed = document.clone();
            let Some(members) = changed.pointer_mut(object).unwrap().as_object_mut() else { continue };
            members.remove(field).unwrap();
            let optional = OPTIONAL.iter().any(|end| pointer.ends_with(end));
            match parse_as(role, &changed) {
                Ok(()) => assert!(optional, "{role}: {pointer}"),
                Err(error) => assert!(
                    !optional && matches!(error, Error::Shape { .. } | Error::Invalid { .. }),
                    "{role}: {pointer}: {error:?}"
                ),
            }
        }
    }
}

/// T50: what this version does not know stays in what is parsed, of any type, and is written again as it was; so does
/// `custom`, which the specification leaves to the publisher.
#[test]
fn unknown_members_of_every_object_are_preserved() {
    let values = [
        json!(null),
        json!(-7),
        json!("\u{e9}\n"),
        json!([[], {}]),
        json!({"z": [1], "a": null}),
        json!(true),
    ];
    for (role, document) in with_every_field() {
        let mut pointers = Vec::new();
        collect(&document["signed"], String::new(), &mut pointers);
        for (pointer, value) in pointers.iter().zip(values.iter().cycle()) {
            let mut changed = document["signed"].clone();
            let custom = pointer.ends_with("/custom");
            let Some(object) = changed.pointer_mut(pointer).and_then(serde_json::Value::as_object_mut) else {
                continue;
            };
            // Maps have entries, not unknown members.
            if ["keys", "roles", "meta", "targets", "hashes"].contains(&pointer.rsplit('/').next().unwrap()) {
                continue;
            }
            object.insert("x-unknown".to_owned(), value.clone());
            for changed in [
                Some(changed.clone()),
                custom.then(|| {
                    *changed.pointer_mut(pointer).unwrap() = value.clone();
                    changed
                }),
            ]
            .into_iter()
            .flatten()
            {
                let bytes = serde_json::to_vec(&json!({"signatures": [], "signed": changed})).unwrap();
                let written = match role {
                    "root" => serde_json::to_value(parsed::<Root>(role, &bytes).signed),
                    "timestamp" => serde_json::to_value(parsed::<Timestamp>(role, &bytes).signed),
                    "snapshot" => serde_json::to_value(parsed::<Snapshot>(role, &bytes).signed),
                    _ => serde_json::to_value(parsed::<Targets>(role, &bytes).signed),
                };
                let mut written = written.unwrap();
                // Written though it was left out: stock clients want it so.
                if let Some(delegations) =
                    changed.pointer("/delegations").filter(|d| d.get("roles").is_none())
                {
                    assert!(delegations.get("succinct_roles").is_some());
                    written["delegations"].as_object_mut().unwrap().remove("roles");
                }
                assert_eq!(written, changed, "{role}: {pointer}");
            }
        }
    }
}

/// Members that this version does not know are compared when documents are: by value, however they were written. What
/// has no canonical form (OLPC Canonical JSON), a number with fraction or exponent, is equal if it was written alike.
#[test]
fn unknown_values_are_equal_however_they_were_written() {
    let json = |text: &str| serde_json::from_str::<Json>(text).unwrap();
    for (one, other) in [
        (r#"{"a":[1,2],"b":null}"#, r#"{ "b": null, "\u0061": [1, 2] }"#),
        ("\"\\u00e9\"", "\"\u{e9}\""),
        ("1.5", "1.5"),
    ] {
        assert_eq!(json(one), json(other));
    }
    for (one, other) in
        [("1", "2"), ("1", "\"1\""), ("\"a\"", "\"b\""), ("[1]", "[1,1]"), ("1.5", "2.5"), ("1.5", "1.50")]
    {
        assert_ne!(json(one), json(other));
    }
}

/// T57: signatures of no known form refuse nothing: they do not count, and the one that is good does.
#[test]
fn malformed_signatures_do_not_refuse_a_good_document() {
    let repository = Repository::new();
    let good: serde_json::Value = serde_json::from_slice(repository.bytes("targets")).unwrap();
    let text = good["signatures"][0]["sig"].as_str().unwrap().to_owned();
    for bad in [
        "",
        "0",
        "zz",
        "00",
        &text[1..],
        &text[2..],
        &text.to_uppercase(),
        &format!("{text}00"),
        &"0".repeat(100_000),
    ] {
        let mut document = good.clone();
        document["signatures"].as_array_mut().unwrap().push(json!({"keyid": "other", "sig": bad, "x": [1]}));
        let parsed = parsed::<Targets>("targets", &serde_json::to_vec(&document).unwrap());
        let (root, role) = (&repository.root, &repository.root.roles["targets"]);
        let ids = [role.keyids.clone(), vec![plimsoll_core::tuf::KeyId("other".to_owned())]].concat();
        let mut keys = root.keys.clone();
        keys.insert(ids[1].clone(), Signer::ed25519(99).key);
        assert_eq!(plimsoll_core::tuf::distinct_signers(&parsed, &keys, &ids).len(), 1, "{bad:.9}");
    }
}

/// T41: more signatures than any document needs are refused, however many more there are.
#[test]
fn too_many_signatures_are_refused() {
    let list =
        |count: usize| -> Vec<_> { (0..count).map(|i| json!({"keyid": i.to_string(), "sig": ""})).collect() };
    let mut document: serde_json::Value = serde_json::from_slice(Repository::new().bytes("targets")).unwrap();
    document["signatures"] = json!(list(MAX_SIGNATURES));
    parse_as("targets", &document).unwrap();
    for count in [MAX_SIGNATURES + 1, 5 * MAX_SIGNATURES] {
        document["signatures"] = json!(list(count));
        assert!(matches!(parse_as("targets", &document), Err(Error::Invalid { .. })));
    }
}

/// TUF 1.0.34, 5.7.2: sha256 or sha512 alone will do, each listed one must hold, and one must be known.
#[test]
fn a_target_is_held_to_every_hash_that_is_known() {
    let content = b"content";
    let hex = |algorithm| data_encoding::HEXLOWER.encode(ring::digest::digest(algorithm, content).as_ref());
    let (sha256, sha512) = (hex(&ring::digest::SHA256), hex(&ring::digest::SHA512));
    let check = |hashes: serde_json::Value, length: u64| {
        let target: plimsoll_core::tuf::Target =
            serde_json::from_value(json!({"length": length, "hashes": hashes})).unwrap();
        target.check_content("name", content)
    };
    let length = content.len() as u64;
    for hashes in [
        json!({"sha256": sha256}),
        json!({"sha512": sha512}),
        json!({"sha256": sha256, "sha512": sha512, "blake3": "00", "md5": "zz"}),
    ] {
        check(hashes.clone(), length).unwrap();
        assert!(matches!(check(hashes, length + 1), Err(Error::Length { .. })));
    }
    for (hashes, which) in [
        (json!({"sha256": sha512, "sha512": sha512}), "sha256"),
        (json!({"sha256": sha256, "sha512": sha256}), "sha512"),
        (json!({"sha256": sha256.to_uppercase()}), "sha256"),
        (json!({"sha256": ""}), "sha256"),
        (json!({"sha512": &sha512[1..]}), "sha512"),
        (json!({"SHA256": sha256, "blake3": "00"}), "known hash"),
    ] {
        let refused = check(hashes.clone(), length);
        assert!(matches!(&refused, Err(Error::Hash { algorithm, .. }) if algorithm == which), "{hashes}");
    }
}

/// TUF 1.0.34, 4.5, TARGETS: `custom` is the publisher's; a text that is called `mediaType` there is the media type.
#[test]
fn the_media_type_is_a_text_in_custom() {
    for (custom, expected) in [
        (json!({"mediaType": "application/x"}), Some("application/x")),
        (json!({"mediaType": 7}), None),
        (json!({"mediatype": "application/x"}), None),
        (json!("application/x"), None),
    ] {
        let target = json!({"length": 1, "hashes": {"sha256": ""}, "custom": custom});
        let target: plimsoll_core::tuf::Target = serde_json::from_value(target).unwrap();
        assert_eq!(target.media_type(), expected, "{custom}");
    }
}

/// What an error repeats of a text that nobody vouched for is short, and nothing that a terminal would obey.
#[test]
fn an_error_repeats_a_text_cut_and_without_control_characters() {
    let name = format!("a\u{1b}[2J\n{}", "é".repeat(100));
    let error = target("content").check_content(&name, b"").unwrap_err();
    let shown = format!("a\u{fffd}[2J\u{fffd}{}", "é".repeat(74));
    assert!(matches!(&error, Error::Length { role, .. } if *role == shown), "{error}");
}

/// What we author is read without encoding it again, whatever its texts hold; and it is the same bytes each time.
#[test]
fn what_we_assemble_is_canonical_as_it_stands() {
    let mut document = targets();
    for name in ["z", "a", "\u{e9}", "e\u{301}", "\"\\", "\u{1F600}", "\u{FF5E}"] {
        document.targets.insert(name.to_owned(), target(name));
    }
    let bytes = assemble(&document, &[]);
    let canonical = json::canonical_of(&document).unwrap();
    assert!(bytes.windows(canonical.len()).any(|window| window == canonical));
    assert_eq!(parsed::<Targets>("targets", &bytes).canonical(), canonical);
    // Canonical JSON has control characters as they are, which JSON has not.
    document.targets.insert("line\nfeed".to_owned(), target("x"));
    let bytes = assemble(&document, &[]);
    assert_eq!(parsed::<Targets>("targets", &bytes).canonical(), json::canonical_of(&document).unwrap());
    assert_eq!(parsed::<Targets>("targets", &bytes).signed, document);
}

fn collect(value: &serde_json::Value, at: String, pointers: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(members) => {
            for (name, member) in members {
                collect(member, format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), pointers);
            }
        }
        serde_json::Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                collect(item, format!("{at}/{i}"), pointers);
            }
        }
        _ => {}
    }
    pointers.push(at);
}

/// T56: objects have members by name; an array in their place is another reading.
#[test]
fn a_signature_that_is_an_array_is_refused() {
    let repository = Repository::new();
    let mut document: serde_json::Value = serde_json::from_slice(repository.bytes("targets")).unwrap();
    let signature = document["signatures"][0].clone();
    document["signatures"][0] = json!([signature["keyid"], signature["sig"]]);
    assert!(matches!(refusal::<Targets>(&serde_json::to_vec(&document).unwrap()), Error::Shape { .. }));
}

/// T53: a member name that the JSON library takes for its own would be read as the document that its string holds: a
/// second reading, and one nested beyond every limit.
#[test]
fn member_names_of_the_json_library_are_not_read_twice() {
    for name in ["$serde_json::private::RawValue", "$serde_json::private::Number"] {
        let text = format!(r#"{{"{name}":"{{\"a\":1,\"a\":2.5}}"}}"#);
        let error = refusal::<Targets>(&with_member(&text));
        assert!(matches!(error, Error::Json { source: JsonError::Reserved { .. }, .. }), "{error:?}");
    }
}

/// What stock clients need: `roles` stands in delegations even if it is empty, but never beside `succinct_roles`.
#[test]
fn delegations_always_have_one_kind_of_roles() {
    let mut document = targets();
    delegations(&mut document);
    let written = |document: &Targets| -> serde_json::Value {
        serde_json::from_slice(&assemble(document, &[])).unwrap()
    };
    assert_eq!(written(&document)["signed"]["delegations"], json!({"keys": {}, "roles": []}));
    let succinct = json!({"keyids": [], "threshold": 1, "bit_length": 4, "name_prefix": "bin", "x": 1});
    delegations(&mut document).succinct_roles = Some(serde_json::from_value(succinct.clone()).unwrap());
    assert_eq!(written(&document)["signed"]["delegations"], json!({"keys": {}, "succinct_roles": succinct}));
}

/// T40: each role has its limit in bytes, which a document may reach.
#[test]
fn a_document_longer_than_its_role_may_be_is_refused() {
    const MIB: usize = 1024 * 1024;
    for (role, most) in
        [("root", MIB / 2), ("timestamp", 16 * 1024), ("snapshot", 8 * MIB), ("team", 8 * MIB)]
    {
        for (length, fits) in [(most, true), (most + 1, false)] {
            let mut repository = Repository::with_team();
            repository.files.get_mut(&repository.file(role)).unwrap().resize(length, b' ');
            // Whoever lists the file says nothing against it.
            match role {
                "snapshot" => repository.publish_timestamp(|_| ()),
                "team" => repository.publish(),
                _ => {}
            }
            let mut client = Client::new(&repository);
            if fits {
                client.finds(&repository, NAME);
                continue;
            }
            let error = client.refusal(&repository, NAME);
            assert!(
                matches!(&error, Error::TooLong { role: found, limit } if found == role && *limit == most as u64),
                "{error}"
            );
        }
    }
}

/// Every published file of a small repository, by name.
fn published() -> (Repository, Vec<String>) {
    let mut repository = Repository::with_team();
    repository.next_root(|_, _| ());
    repository.publish();
    let files =
        ["root", "timestamp", "snapshot", "targets", "team"].map(|role| repository.file(role)).to_vec();
    (repository, files)
}

thread_local! {
    static PUBLISHED: (Repository, Vec<String>) = published();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// P5: one flipped bit in any file is refused, or changes nothing that was signed.
    #[test]
    fn a_flipped_bit_never_changes_what_is_accepted(file in 0usize..5, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        PUBLISHED.with(|(repository, files)| {
            let file = &files[file];
            let good = repository.files[file].clone();
            let mut bad = good.clone();
            bad[at.index(good.len())] ^= 1 << bit;
            let mut client = Client::new(repository);
            let mut hostile = Repository::new();
            hostile.files = repository.files.clone();
            hostile.files.insert(file.clone(), bad.clone());
            let accepted = client.update(&hostile, NAME);
            if file == "timestamp.json" || file.ends_with("root.json") {
                // Not held to a hash: harmless changes are possible outside `signed` only.
                if accepted.is_ok() {
                    let (old, new) = (json::parse(&good).unwrap(), json::parse(&bad).unwrap());
                    prop_assert_eq!(old.member("signed"), new.member("signed"));
                }
            } else {
                let refused = matches!(accepted, Err(Failure::Refused(Error::Hash { .. })));
                prop_assert!(refused, "{:?}", accepted);
            }
            if let Ok(outcome) = accepted {
                let plimsoll_core::tuf::Outcome::Found(found) = outcome else { panic!() };
                prop_assert_eq!(found.target.digest(), Some(plimsoll_core::oci::Digest::of(b"image")));
            }
            Ok(())
        })?;
    }

    /// T56.
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        parse_as_everything(&bytes);
    }

    /// T56: documents made of the right names and the wrong values.
    #[test]
    fn no_json_panics(value in any_signed()) {
        let document = json!({"signatures": [{"keyid": "k", "sig": "00"}], "signed": value});
        parse_as_everything(&serde_json::to_vec(&document).unwrap());
    }
}

fn parse_as_everything(bytes: &[u8]) {
    let _ = Document::<Root>::parse("root", bytes);
    let _ = Document::<Timestamp>::parse("timestamp", bytes);
    let _ = Document::<Snapshot>::parse("snapshot", bytes);
    let _ = Document::<Targets>::parse("targets", bytes);
}

fn any_signed() -> impl Strategy<Value = serde_json::Value> {
    let name = prop_oneof![
        Just("_type"),
        Just("version"),
        Just("expires"),
        Just("spec_version"),
        Just("meta"),
        Just("keys"),
        Just("roles"),
        Just("targets"),
        Just("delegations"),
        Just("x-plimsoll"),
        Just("threshold"),
        Just("keyids"),
        Just("snapshot.json"),
        Just("targets.json"),
        Just("root"),
        Just("timestamp"),
        Just("snapshot"),
        Just("succinct_roles"),
        Just("bit_length"),
        Just("name"),
        Just("paths"),
        Just("hashes"),
        Just("length"),
        Just("keyval"),
        Just("keytype"),
        Just("scheme"),
        Just("trust"),
        Just("at"),
        Just("revocations"),
    ]
    .prop_map(str::to_owned);
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        Just(json!(1)),
        Just(json!("targets")),
        Just(json!("root")),
        Just(json!("1.0.34")),
        Just(json!("2031-01-01T00:00:00Z")),
        Just(json!(TRUST)),
        any::<f64>().prop_map(|f| json!(f)),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 80, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(name.clone(), inner, 0..8)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}
