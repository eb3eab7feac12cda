//! `plimsoll log`: who signed what, and when, with the real programs; and a history that somebody changed.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use plimsoll::{
    keys::{Passphrase, PrivateKey},
    publish::author,
};
use plimsoll_core::tuf::{Document, Targets};
use plimsoll_tests::{
    http,
    middle::{Answer, Effect, Middle, Rule},
    process::Run,
    world::{IMAGES, NAME, ROLE, Site, World, files},
};
use serde_json::Value;

/// The team signs, signs again, moves the tag and takes it back; the owner delegates twice.
fn with_a_past() -> (World, [String; 2]) {
    let world = World::ready(Site::embedded());
    let first = world.push("v1", "the first\n").digest().to_string();
    world.sign("v1").ok();
    world.sign("v1").ok();
    let second = world.push("v1", "the second\n").digest().to_string();
    world.sign("v1").ok();
    world.revoke("v1", "it leaks").ok();
    world.sign_elsewhere("v1");
    (world, [first, second])
}

fn versions(run: &Run) -> Vec<(String, u64)> {
    let version =
        |entry: &Value| (entry["role"].as_str().unwrap().to_owned(), entry["version"].as_u64().unwrap());
    run.json().as_array().unwrap().iter().map(version).collect()
}

fn of(role: &str, versions: &[u64]) -> Vec<(String, u64)> {
    versions.iter().map(|version| (role.to_owned(), *version)).collect()
}

fn assert_says(output: &str, words: &[&str]) {
    for word in words {
        assert!(output.contains(word), "`{word}` is not in: {output}");
    }
}

#[test]
fn the_log_says_who_signed_what_by_role_key_name_and_time() {
    let (world, [first, second]) = with_a_past();
    let (team, tag) = (world.team(), format!("{IMAGES}:v1"));

    let text = team.run(&["log"]).ok().stdout;
    assert_says(&text, &[&first, &second, &tag, "moved", "revoked", "it leaks", "signed again"]);
    assert_says(&text, &[&format!("delegated   {IMAGES} to {ROLE}"), "root 1  ", "targets 3  "]);
    let all = versions(&team.run(&["log", "-o", "json"]).ok());
    assert_eq!(all.len(), 9, "{all:?}");
    assert_eq!(all[0], ("targets--other".to_owned(), 1));
    // Both were signed in one go.
    assert_eq!(all[7..], [("targets".to_owned(), 1), ("root".to_owned(), 1)]);

    let json = team.run(&["log", "--role", ROLE, "-o", "json"]).ok();
    assert_eq!(versions(&json), of(ROLE, &[4, 3, 2, 1]));
    let entries = json.json();
    let kinds = |at: usize| -> Vec<&str> {
        let changes = entries[at]["changes"].as_array().unwrap();
        changes.iter().map(|change| change["change"].as_str().unwrap()).collect()
    };
    assert_eq!(kinds(0), ["removed", "removed", "revoked"]);
    assert_eq!(entries[0]["changes"][2]["digest"], second);
    assert_eq!(entries[0]["changes"][2]["reason"], "it leaks");
    assert_eq!(kinds(1), ["changed", "added"]);
    assert_eq!(kinds(2), [""; 0]);
    assert_eq!(kinds(3), ["added", "added"]);
    assert_eq!(entries[3]["changes"][0]["name"], tag);
    assert_eq!(entries[3]["changes"][0]["digest"], first);

    let id = entries[0]["signers"][0]["keyid"].as_str().unwrap();
    let ask = |arguments: &[&str]| {
        let mut all = vec!["log", "acme", "-o", "json"];
        all.extend(arguments);
        versions(&team.run(&all).ok())
    };
    assert_eq!(ask(&["--key", &id[..8]]), of(ROLE, &[4, 3, 2, 1]));
    assert_eq!(ask(&["--key", &id[..8], "-n", "2"]), of(ROLE, &[4, 3]));
    assert_eq!(ask(&["--key", "team"]), of(ROLE, &[4, 3, 2, 1]));
    assert_eq!(ask(&["--key", "nobody"]), []);
    assert_eq!(ask(&["--role", "targets"]), of("targets", &[3, 2, 1]));
    assert_eq!(ask(&["--role", "root"]), of("root", &[1]));
    assert_eq!(ask(&["--since", "1h"]), all);
    assert_eq!(ask(&["--since", "2099-01-01"]), []);
    let reference = world.reference("v1");
    assert_eq!(ask(&["--ref", &reference]), of(ROLE, &[4, 3, 1]));
    // The second took the place of the first in version 3, whose own digest entry stays.
    let by_digest = format!("{}/{IMAGES}@{second}", world.host());
    assert_eq!(ask(&["--ref", &by_digest]), of(ROLE, &[4, 3]));
    let by_digest = format!("{}/{IMAGES}@{first}", world.host());
    assert_eq!(ask(&["--ref", &by_digest]), of(ROLE, &[3, 1]));

    // No key is needed, and nobody's memory of the registry moves.
    let client = world.client("reader").env("PLIMSOLL_SERVER", &world.daemon.url());
    client.run(&["verify", &world.reference("none")]).expect_code(10);
    let verified = |cli: &plimsoll_tests::process::Cli| {
        let mut state = files(&cli.home().join("state"));
        state.retain(|path, _| !path.to_string_lossy().contains("publishing"));
        state
    };
    let before = verified(&client);
    assert_eq!(client.run(&["log"]).ok().stdout, text);
    assert_eq!(verified(&client), before);
}

#[test]
fn what_cannot_be_asked_is_refused_before_anything_is_read() {
    let world = World::ready(Site::embedded());
    let team = world.team();
    assert_says(&team.run(&["log", "other"]).expect_code(2).stderr, &["no root called `other`"]);
    assert_says(&team.run(&["log", "--since", "soon"]).expect_code(2).stderr, &["not a time"]);
    assert_says(
        &team.run(&["log", "--role", "targets--nobody"]).expect_code(2).stderr,
        &["no role `targets--nobody`", "targets"],
    );
    let stranger = world.client("stranger");
    assert_says(&stranger.run(&["log"]).expect_code(2).stderr, &["no daemon is known", "--server"]);
}

/// T14, T28: an old version that is not what was signed then is named, and nothing it says is shown; the rest is.
#[test]
fn a_history_that_was_changed_is_told_apart() {
    let (world, [first, second]) = with_a_past();
    let middle = Middle::start(&world.daemon.address());
    let server = middle.url();
    let file = |version: u64, role: &str| Rule::new("GET", &format!("/metadata/{version}.{role}.json"));
    let log = |arguments: &[&str]| {
        let mut all = vec!["log", "--server", &server];
        all.extend(arguments);
        world.team().run(&all)
    };
    let honest = log(&["-o", "json"]).ok();

    // One hex digit of the digest that the team signed.
    let (hex, forged) = (first.trim_start_matches("sha256:").to_owned(), "0".repeat(64));
    let lie = forged.clone();
    let edit = Effect::edit(move |answer: &mut Answer| {
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(text.contains(&hex));
        answer.body = text.replace(&hex, &lie).into();
    });
    middle.set(file(1, ROLE), edit);
    let told = log(&[]).expect_code(22);
    assert_says(&told.stderr, &[&format!("{ROLE} version 1"), "not to be trusted", "0 of 1"]);
    assert_says(&told.stdout, &[&second, "it leaks", "root 1", "not to be trusted"]);
    assert!(!told.stdout.contains(&forged));
    let json = log(&["-o", "json", "-n", "1", "--role", ROLE]).expect_code(22);
    assert_eq!(versions(&json), of(ROLE, &[4, 1]));
    assert_eq!(json.json()[1]["fault"]["kind"], "untrusted");
    // Who asks for another role need not hear of it.
    log(&["--role", "targets"]).ok();
    middle.clear();

    // The newest of the role's own earlier versions in its place: signed, and not what the snapshot names.
    let old = http::get(&format!("{}/tuf/acme/metadata/3.{ROLE}.json", world.daemon.url()));
    middle.set(file(4, ROLE), Effect::Answer(Answer::status(200).body(old.unwrap().body)));
    let told = log(&[]).expect_code(22);
    assert_says(&told.stderr, &[&format!("{ROLE} version 4"), "the snapshot"]);
    assert!(!told.stdout.contains("it leaks"));
    middle.clear();

    // Of the parent: who could have signed what is below it is not known then.
    middle.set(file(2, "targets"), Effect::WrongBytes);
    let told = log(&["--role", ROLE]).expect_code(22);
    assert_says(&told.stderr, &["targets version 2", "not to be trusted"]);
    middle.clear();

    middle.set(file(2, ROLE), Effect::Status(404));
    let told = log(&[]).expect_code(30);
    assert_says(&told.stderr, &[&format!("{ROLE} version 2"), "does not have it"]);
    assert_says(&told.stdout, &[&first, &second]);
    middle.clear();

    middle.set(file(2, ROLE), Effect::Status(503));
    assert_eq!(log(&[]).expect_code(30).stdout, "");
    middle.clear();
    assert_eq!(log(&["-o", "json"]).ok().stdout, honest.stdout);
}

/// The owner submits the next version of targets, without the delegation to the team.
fn withdraw(world: &World) {
    let (owner, server) = (world.owner(), world.daemon.url());
    let newest = http::get(&format!("{server}/tuf/{NAME}/metadata/2.targets.json")).unwrap().body;
    let mut targets = Document::<Targets>::parse("targets", &newest).unwrap().signed;
    targets.common.version = 3;
    targets.delegations.as_mut().unwrap().roles.clear();
    let passphrase = Passphrase::from_file(&owner.home().join("passphrase")).unwrap();
    let key = PrivateKey::load(&owner.home().join("owner.key"), &passphrase).unwrap();
    let signed: Value = serde_json::from_slice(&author::sign(&targets, &[&key]).unwrap()).unwrap();
    let body = serde_json::json!({"documents": {"targets": signed}}).to_string();
    let submissions = format!("{server}/v1/trusts/{NAME}/submissions");
    let answer = http::request("POST", &submissions, &[], body.as_bytes()).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
}

#[test]
fn the_log_goes_on_over_removed_roles_and_new_roots() {
    let world = World::ready(Site::embedded());
    world.push("v1", "the first\n");
    world.sign("v1").ok();
    world.renew_root();
    withdraw(&world);
    let team = world.team();
    let text = team.run(&["log"]).ok().stdout;
    assert_says(
        &text,
        &["root 2  ", &format!("withdrew    the delegation to {ROLE}"), &format!("{ROLE} 1  ")],
    );
    let role = team.run(&["log", "--role", ROLE, "-o", "json"]).ok();
    assert_eq!(versions(&role), of(ROLE, &[1]));

    // Whoever hides that it was ever delegated does not make the role vanish from the snapshot.
    let middle = Middle::start(&world.daemon.address());
    middle.set(Rule::new("GET", "/metadata/2.targets.json"), Effect::Status(404));
    let told = team.run(&["log", "--server", &middle.url()]).expect_code(22);
    assert_says(&told.stderr, &["targets version 2", &format!("{ROLE} version 1"), "no role ever delegated"]);
}
