//! The verdict's JSON: every verdict there is, from real registries, held to docs/verdict.schema.json; and that many
//! references cost one refresh for each root.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../../client/tests/common/mod.rs"]
mod common;

use std::{collections::BTreeSet, fs, path::Path};

use chrono::TimeDelta;
use common::several::{LATEST, Several};
use plimsoll::verify::{Mode, Options, Unjudged, verify_all};
use plimsoll_core::policy::Verdict;
use plimsoll_tests::peers::schema_faults;
use serde_json::{Value, json};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;
const NEWER: &[u8] = br#"{"schemaVersion":2,"config":{},"layers":[],"x":1}"#;

const POLICY: &str = r#"
    [[scope]]
    match = "IMAGES/acme/**"
    require = { all = ["a", "b"] }
    [[scope]]
    match = "IMAGES/acme/app:c*"
    require = { any = ["a", "c"] }
    optional = ["c"]
    [[scope]]
    match = "IMAGES/acme/app:d*"
    require = { all = ["d"] }
    max-staleness = "30d"
    [[scope]]
    match = "IMAGES/acme/app:e*"
    require = { all = ["c"] }
    [[scope]]
    match = "IMAGES/acme/app:f*"
    require = { all = ["a"] }
    fallback = { any = ["b"] }
    on-absent = "fallback"
    [[scope]]
    match = "IMAGES/acme/denied"
    action = "deny"
    reason = "retired"
    [[remap]]
    from = "mirror.example.com"
    to = "IMAGES"
"#;

/// What `verify` says of each of the tags at the images' registry, as JSON.
async fn said(world: &Several, policy: &str, references: &[String]) -> Vec<Value> {
    let references: Vec<_> = references.iter().map(|text| text.parse().unwrap()).collect();
    let context = world.context(policy);
    let all = verify_all(&context, &references, Mode::Verify, &Options::default()).await.unwrap();
    all.iter().map(|v| serde_json::to_value(v.as_ref().unwrap()).unwrap()).collect()
}

async fn every_verdict() -> Vec<Value> {
    let mut world = Several::new(4, MANIFEST);
    for tag in ["moved", "gone", "two", "revoked", "d1", "f1"] {
        for root in 0..4 {
            // Of `f1`, the root that is required knows nothing.
            if (tag, root) != ("f1", 0) {
                world.publishers[root].vouch(&format!("acme/app:{tag}"), MANIFEST);
            }
        }
        world.push(tag, MANIFEST);
    }
    world.publishers[1].vouch("acme/app:two", NEWER);
    world.push("moved", NEWER);
    world.images.remove("acme/app/manifests/gone");
    (0..4).for_each(|root| world.publish(root));
    let mut found = Vec::new();
    let tags = ["v1", "moved", "gone", "two", "absent", "d1", "f1", "f2", "c1", "e1"];
    let mut references: Vec<String> = tags.iter().map(|tag| world.reference(tag)).collect();
    references.push(format!("{}/acme/denied:v1", world.images.address));
    references.push("elsewhere.example.com/x:v1".to_owned());
    references.push("mirror.example.com/acme/app:absent".to_owned());
    found.extend(said(&world, POLICY, &references).await);

    // One root's registry in trouble, then older than it was, then somebody else's.
    let e1 = [world.reference("e1"), world.reference("c1")];
    let latest = "acme/trust/manifests/latest";
    let old = world.hosts[2].file(latest);
    world.publish(2);
    found.extend(said(&world, POLICY, &e1).await);
    for status in [500, 403] {
        world.hosts[2].fail_with(Some(status));
        found.extend(said(&world, POLICY, &e1).await);
    }
    world.hosts[2].fail_with(None);
    world.hosts[2].put(latest, &old);
    found.extend(said(&world, POLICY, &e1).await);
    let Several { publishers, hosts, .. } = &mut world;
    publishers[3].publish(&hosts[2]);
    found.extend(said(&world, POLICY, &e1).await);

    // Taken back, then run out; what may be stale is.
    world.publishers[0].revoke(MANIFEST, "leaked");
    world.publish(0);
    found.extend(said(&world, POLICY, &[world.reference("revoked")]).await);
    world.clock.advance(TimeDelta::hours(30));
    let tags = ["v1", "d1", "absent"].map(|tag| world.reference(tag));
    found.extend(said(&world, POLICY, &tags).await);
    found
}

#[tokio::test]
async fn every_verdict_is_valid_by_the_schema_and_all_of_it_is_described() {
    let found = every_verdict().await;
    let verdicts: BTreeSet<&str> = found.iter().map(|v| v["verdict"].as_str().unwrap()).collect();
    let all: BTreeSet<&str> = Verdict::BY_GRAVITY.iter().map(|verdict| verdict.name()).collect();
    assert_eq!(verdicts, all, "each of them is there");
    let parts: BTreeSet<&str> = found
        .iter()
        .flat_map(|v| v["roots"].as_array().unwrap())
        .map(|root| root["part"].as_str().unwrap())
        .collect();
    assert_eq!(parts, BTreeSet::from(["fallback", "optional", "required"]));
    assert!(found.iter().any(|v| v["roots"][0]["stale_by"].is_u64()), "one is stale");

    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/verdict.schema.json");
    let mut strict: Value = serde_json::from_slice(&fs::read(&schema).unwrap()).unwrap();
    // A reader must take members that it does not know; what we write today is all described.
    close(&mut strict);
    let folder = tempfile::tempdir().unwrap();
    let closed = folder.path().join("schema.json");
    fs::write(&closed, strict.to_string()).unwrap();
    // What stands in the place of a verdict, where several are asked for, is in the schema too.
    let unread = Unjudged::unread("r.io/App:v1".to_owned(), "it is no reference".to_owned());
    let all: Vec<Value> = found.iter().cloned().chain([serde_json::to_value(&unread).unwrap()]).collect();
    for schema in [&schema, &closed] {
        for (fault, v) in schema_faults(schema, &all).into_iter().zip(&all) {
            assert_eq!(fault, None, "{v:#}");
        }
    }

    // And what is no verdict is not valid.
    let good = found.iter().find(|v| v["verdict"] == "VERIFIED").unwrap();
    let spoilt: Vec<Value> = [
        ("version", json!(2)),
        ("verdict", json!("FINE")),
        ("exit_code", json!(10)),
        ("resolved", Value::Null),
        ("digest", json!("sha256:ABC")),
        ("size", json!(-1)),
        ("roots", json!([{}])),
        ("revocation", json!({})),
        ("reason", json!("")),
    ]
    .into_iter()
    .map(|(member, value)| {
        let mut spoilt = good.clone();
        spoilt[member] = value;
        spoilt
    })
    .collect();
    for (fault, v) in schema_faults(&schema, &spoilt).into_iter().zip(&spoilt) {
        assert!(fault.is_some(), "{v:#}");
    }
}

/// Lets every object of a schema have the members that it describes, and no other one.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.contains_key("properties") && members.contains_key("required") {
                members.insert("additionalProperties".to_owned(), json!(false));
            }
            members.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// The request log of 500 references under three roots: one refresh for each root, one HEAD for each tag.
#[tokio::test]
async fn five_hundred_references_cost_one_refresh_for_each_root() {
    const REFERENCES: usize = 500;
    let mut world = Several::new(3, MANIFEST);
    for n in 0..REFERENCES {
        for publisher in &mut world.publishers {
            publisher.vouch(&format!("acme/app:t{n}"), MANIFEST);
        }
        world.push(&format!("t{n}"), MANIFEST);
    }
    (0..3).for_each(|root| world.publish(root));
    let references: Vec<String> = (0..REFERENCES).map(|n| world.reference(&format!("t{n}"))).collect();
    let policy = "[[scope]]\nmatch = \"IMAGES/acme/**\"\nrequire = { all = [\"a\", \"b\", \"c\"] }\n";
    // The first run fetches the roles.
    said(&world, policy, &references[..1]).await;
    world.requests();
    let found = said(&world, policy, &references).await;
    assert!(found.iter().all(|v| v["verdict"] == "VERIFIED"));
    let (roots, heads) = world.requests();
    assert_eq!(roots, [[LATEST]; 3]);
    let distinct: BTreeSet<&String> = heads.iter().collect();
    assert_eq!((heads.len(), distinct.len()), (REFERENCES, REFERENCES));
}
