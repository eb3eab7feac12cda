//! Documents that are not what they seem, and bytes that are no document at all.

#![allow(clippy::unwrap_used)]

mod simulator;

use plimsoll_core::tuf::{
    Document, Error, Root, Snapshot, Targets, Timestamp, Trusted, assemble, json, json::JsonError,
    metadata::RoleType,
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
    let cases: [(&str, Rule); 9] = [
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

/// TUF 1.0.34, 4.2: a client of version 1 reads version 1.
#[test]
fn another_major_spec_version_is_refused() {
    for (version, good) in [
        ("1.0.34", true),
        ("1.0", true),
        ("1.99.0", true),
        ("2.0.0", false),
        ("10.0", false),
        ("1", false),
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

/// TUF 1.0.34, 4.2.1: one form of time, to the second, in UTC.
#[test]
fn a_time_of_another_form_is_refused() {
    for time in [
        json!("2030-02-01T00:00:00.5Z"),
        json!("2030-02-01T00:00:00+00:00"),
        json!("2030-02-01T00:00:00z"),
        json!("2030-02-01 00:00:00Z"),
        json!("2030-2-1T00:00:00Z"),
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

/// T56: every value of a root, replaced by every other type of value, is refused or harmless; nothing panics.
#[test]
fn a_wrong_type_in_any_field_is_an_error_and_no_panic() {
    let repository = Repository::with_team();
    for (role, bytes) in [
        ("root", repository.bytes("root")),
        ("timestamp", repository.bytes("timestamp")),
        ("snapshot", repository.bytes("snapshot")),
        ("targets", repository.bytes("targets")),
        ("targets", repository.bytes("team")),
    ] {
        let document: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        let mut pointers = Vec::new();
        collect(&document, String::new(), &mut pointers);
        for pointer in pointers {
            for value in [json!(null), json!(7), json!("x"), json!([]), json!({}), json!([[{}]]), json!(true)]
            {
                let mut changed = document.clone();
                *changed.pointer_mut(&pointer).unwrap() = value;
                let bytes = serde_json::to_vec(&changed).unwrap();
                match role {
                    "root" => drop(Trusted::new(&bytes, now())),
                    "timestamp" => drop(Document::<Timestamp>::parse(role, &bytes)),
                    "snapshot" => drop(Document::<Snapshot>::parse(role, &bytes)),
                    _ => drop(Document::<Targets>::parse(role, &bytes)),
                }
            }
        }
    }
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

/// T40: each role has its limit in bytes.
#[test]
fn a_document_longer_than_its_role_may_be_is_refused() {
    let mut repository = Repository::with_team();
    let mut bytes = repository.bytes("timestamp").to_vec();
    bytes.resize(16 * 1024 + 1, b' ');
    repository.files.insert("timestamp.json".to_owned(), bytes);
    let error = Client::new(&repository).refusal(&repository, NAME);
    assert!(matches!(error, Error::TooLong { limit: 16_384, .. }), "{error}");
    let mut bytes = repository.bytes("root").to_vec();
    bytes.resize(512 * 1024 + 1, b' ');
    assert!(matches!(Trusted::new(&bytes, now()), Err(Error::TooLong { .. })));
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
