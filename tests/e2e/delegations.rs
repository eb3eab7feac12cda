//! Delegations over their whole life, with the real binaries: made three deep without the operator, looked at, rotated,
//! removed, taken over, and keys revoked; after each step what clients, python-tuf and tough say.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use plimsoll::{
    clock::{Clock, SystemClock},
    keys::{Passphrase, PrivateKey, Signer},
    publish::{
        Content, Done, How, PublishError, Publisher, RotateRequest, Server, Unvouched, author, draft::Draft,
    },
    registry::{Registry, RegistryOptions},
};
use plimsoll_core::tuf::{Document, Targets};
use plimsoll_tests::{
    http,
    image::Image,
    peers,
    process::Run,
    tough_peer,
    world::{NAME, Site, World},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A world whose keys all lie on the owner's desk, so that one command can sign with several.
struct Town {
    world: World,
}

impl Town {
    /// With a trust repository for `acme/**`, and the keys of `people` beside the owner's.
    fn new(people: &[&str]) -> Self {
        let world = World::start(Site::embedded());
        world.generate_key("owner").ok();
        world.init().ok();
        let town = Self { world };
        for name in people {
            town.run(&format!("key generate {name}")).ok();
        }
        town
    }

    /// A town with the role `targets--app` for `acme/app`, signed by one of alice and bob. Bob signed `v1`, then alice
    /// `v2`: so for `v2` she stands alone.
    fn with_team() -> (Self, Image, Image) {
        let town = Self::new(&["alice", "bob", "carol"]);
        town.run("delegate add acme/app --label app --pub alice.pub --pub bob.pub --key owner.key").ok();
        let (one, two) = (town.push("acme/app:v1"), town.push("acme/app:v2"));
        town.sign("acme/app:v1", "bob").ok();
        town.sign("acme/app:v2", "alice").ok();
        (town, one, two)
    }

    /// Runs `line`, with the passphrase, at the owner's desk.
    fn run(&self, line: &str) -> Run {
        let mut arguments: Vec<String> =
            line.split(' ').map(|word| word.replace("HOST", self.world.host())).collect();
        if line.contains(".key") || line.starts_with("key") {
            arguments.extend(["--passphrase-file".to_owned(), "passphrase".to_owned()]);
        }
        self.world.owner().run(&arguments)
    }

    /// Runs `line` as [`Town::run`] does, but on a terminal where `answer` is typed.
    fn on_a_terminal(&self, line: &str, answer: &str) -> Run {
        let line = format!("plimsoll {line} --passphrase-file passphrase");
        self.world.owner().shell(&format!("echo {answer} | script -qec '{line}' /dev/null"))
    }

    fn push(&self, name: &str) -> Image {
        let image = Image::busybox(name);
        image.push(&format!("{}/{name}", self.world.host()), &self.world.side()).ok();
        image
    }

    fn sign(&self, name: &str, key: &str) -> Run {
        self.run(&format!("sign HOST/{name} --key {key}.key"))
    }

    /// What a client that slept since the beginning, and one that never saw anything, say of `name`: the same.
    #[track_caller]
    fn clients_say(&self, name: &str, code: i32) {
        let fresh = format!("fresh{}", tempfile::tempdir().unwrap().path().file_name().unwrap().display());
        for client in ["warm", &fresh] {
            let reference = format!("{}/{name}", self.world.host());
            self.world.client(client).run(&["verify", &reference]).expect_code(code);
        }
    }

    /// What python-tuf's client and tough find for `name`: the same.
    #[track_caller]
    fn peers_find(&self, name: &str, image: Option<&Image>) {
        let base = self.world.daemon.url();
        let root = self.world.owner().home().join("acme-root.json");
        let metadata = format!("{base}/tuf/{NAME}/metadata/");
        let found = peers::ngclient(&metadata, &format!("{base}/targets/"), &root, name).ok().json();
        let expected = image.map_or(Value::Null, |image| image.digest().hex().into());
        assert_eq!(
            found["target"].get("sha256").cloned().unwrap_or_default(),
            expected,
            "python-tuf: {name}"
        );
        let directory = self.dump();
        let loaded = tough_peer::load(&fs::read(root).unwrap(), directory.path()).unwrap();
        let digest = image.map(|image| image.digest().hex());
        assert_eq!(loaded.found.get(name).map(|(_, digest)| digest.clone()), digest, "tough: {name}");
    }

    /// All that a stock client could ask for, in a folder.
    fn dump(&self) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        let get = |file: &str| {
            let (status, body) = self.metadata(file);
            (status == 200).then(|| {
                fs::write(directory.path().join(file), &body).unwrap();
                serde_json::from_slice::<Value>(&body).unwrap()
            })
        };
        get("1.root.json").unwrap();
        let version = get("timestamp.json").unwrap()["signed"]["meta"]["snapshot.json"]["version"].clone();
        let snapshot = get(&format!("{version}.snapshot.json")).unwrap();
        for (file, meta) in snapshot["signed"]["meta"].as_object().unwrap() {
            get(&format!("{}.{file}", meta["version"])).unwrap();
        }
        directory
    }

    fn metadata(&self, file: &str) -> (u16, Vec<u8>) {
        let answer = http::get(&format!("{}/tuf/{NAME}/metadata/{file}", self.world.daemon.url())).unwrap();
        (answer.status, answer.body)
    }

    /// The newest document of `role`.
    fn document(&self, role: &str) -> Document<Targets> {
        let newest = (1..100).map(|version| self.metadata(&format!("{version}.{role}.json")));
        let (_, body) = newest.take_while(|(status, _)| *status == 200).last().unwrap();
        Document::parse(role, &body).unwrap()
    }

    fn key(&self, name: &str) -> PrivateKey {
        let home = self.world.owner().home().to_owned();
        let passphrase = Passphrase::from_file(&home.join("passphrase")).unwrap();
        PrivateKey::load(&home.join(format!("{name}.key")), &passphrase).unwrap()
    }

    fn key_id(&self, name: &str) -> String {
        self.key(name).key_id().0
    }

    /// Sends documents past our own client.
    fn submit(&self, documents: &Value) -> (u16, String) {
        let url = format!("{}/v1/trusts/{NAME}/submissions", self.world.daemon.url());
        let body = json!({ "documents": documents }).to_string();
        let answer = http::request("POST", &url, &[], body.as_bytes()).unwrap();
        (answer.status, answer.text())
    }

    /// `line` fails with `code`, says `says`, and nothing is submitted.
    #[track_caller]
    fn refused(&self, line: &str, code: i32, says: &str) {
        let before = self.metadata("timestamp.json").1;
        let run = self.run(line).expect_code(code);
        assert!(run.stderr.contains(says), "{line}: no `{says}` in\n{}", run.stderr);
        assert_eq!(run.stdout, "", "{line}");
        assert_eq!(self.metadata("timestamp.json").1, before, "{line}: something was published");
    }
}

#[track_caller]
fn says(run: &Run, words: &[&str]) {
    for word in words {
        assert!(run.stdout.contains(word), "no `{word}` in\n{}{}", run.stdout, run.stderr);
    }
}

/// Org, team, repository: each level is made by the keys of the one above, and the owner's key is only there for the first.
#[test]
fn a_chain_of_three_is_made_without_the_operator_and_shown() {
    let town = Town::new(&["org", "team", "repo"]);
    town.run("delegate add acme/** --label org --pub org.pub --key owner.key").ok();
    let add = "delegate add acme/net/* --label net --parent targets--org --pub team.pub";
    town.refused(&format!("{add} --key team.key"), 2, "signs for no role");
    town.run(&format!("{add} --key org.key")).ok();
    let add =
        "delegate add acme/net/app --label app --parent targets--org--net --pub repo.pub --pub team.pub";
    town.run(&format!("{add} --threshold 2 --key team.key")).ok();

    // Delegated, and nothing said yet: not absent.
    let test = "delegate test HOST/acme/net/app:v1";
    let run = town.run(test).expect_code(22);
    says(&run, &["UNTRUSTED  acme/net/app:v1", "3  targets--org--net version 1", "targets--org--net--app"]);
    let image = town.push("acme/net/app:v1");
    town.refused("sign HOST/acme/net/app:v1 --key repo.key", 2, "not signed by enough keys");
    town.run("sign HOST/acme/net/app:v1 --key repo.key --key team.key").ok();
    town.clients_say("acme/net/app:v1", 0);
    town.peers_find("acme/net/app:v1", Some(&image));

    let run = town.run(test).ok();
    says(
        &run,
        &[
            &format!("VERIFIED  acme/net/app:v1  {}", image.digest()),
            "1  targets version 2, by acme/**: does not list it",
            "2  targets--org version 1, by acme/**: does not list it",
            "3  targets--org--net version 1, by acme/net/*: does not list it",
            &format!("4  targets--org--net--app version 1, by acme/net/app: lists {}", image.digest()),
        ],
    );
    let trace = town.run(&format!("{test} -o json")).ok().json();
    assert_eq!(trace["verdict"], "VERIFIED");
    assert_eq!(trace["asked"].as_array().unwrap().len(), 4);
    assert_eq!(trace["asked"][3]["lists"], image.digest().to_string());

    let run = town.run("delegate test HOST/acme/net/app:v2").expect_code(10);
    says(&run, &["ABSENT  acme/net/app:v2"]);
    let run = town.run("delegate test HOST/acme/net/other:v1").expect_code(10);
    says(&run, &["-  targets--org--net--app is not asked: it may not speak about this name"]);
    let other = format!("sha256:{}", "0".repeat(64));
    town.run(&format!("{test}@{other}")).expect_code(12);

    let run = town.run("delegate show targets--org--net").ok();
    let team = town.key_id("team");
    says(
        &run,
        &[
            "below  targets version 2, good for another 36",
            "below  targets--org version 1, good for another 89 days",
            "itself version 1, good for another 89 days",
            "scope  acme/net/*: every repository one level below acme/net/",
            &format!("keys   1 of team ({})", &team[..8]),
            "lists  0 names, and takes 0 back",
            "to     targets--org--net--app: acme/net/app, 2 of ",
        ],
    );
    let view = town.run("delegate show targets--org--net--app -o json").ok().json();
    assert_eq!(view["threshold"], 2);
    assert_eq!(view["targets"], 2);
    assert_eq!(view["above"].as_array().unwrap().len(), 3);
    town.refused("delegate show targets--org--nothing", 2, "there is no role `targets--org--nothing`");

    // The owner takes the digest back, three levels further up.
    town.run("revoke HOST/acme/net/app:v1 --reason broken --key owner.key").ok();
    let run = town.run(&format!("{test}@{}", image.digest())).expect_code(14);
    says(&run, &["REVOKED", "1  targets version 3, by acme/**: takes it back: broken"]);
    town.clients_say("acme/net/app:v1", 14);
}

/// T05: what cannot be delegated, a threshold above the number of keys for one, is refused before anything is sent.
#[test]
fn what_cannot_be_delegated_is_refused_before_anything_is_sent() {
    let (town, _, _) = Town::with_team();
    let home = town.world.owner().home().to_owned();
    fs::copy(home.join("alice.pub"), home.join("alina.pub")).unwrap();
    for (arguments, says) in [
        ("other/app --label x --pub carol.pub --key owner.key", "not inside what targets may speak about"),
        ("acme/x --label x --pub carol.pub --key bob.key", "signs for no role"),
        (
            "acme/x --label x --pub alice.pub --pub alina.pub --key owner.key",
            "holds a key that was given already",
        ),
        ("acme/x --label x --pub alice.pub --threshold 2 --key owner.key", "threshold 2 cannot be met by 1"),
        ("acme/x --label x --pub alice.pub --threshold 0 --key owner.key", "threshold 0 cannot be met"),
        ("acme/x --label app --pub carol.pub --key owner.key", "already is the name of a role"),
        ("acme/app --label y --pub carol.pub --key owner.key", "is delegated to targets--app already"),
        ("acme/x --label a--b --pub carol.pub --key owner.key", "cannot label a role"),
        (
            "acme/app/x --label x --parent targets--app --pub carol.pub --key bob.key",
            "not inside what targets--app",
        ),
        (
            "acme/app --label x --parent targets--none --pub carol.pub --key bob.key",
            "there is no role `targets--none`",
        ),
        ("acme/trust --label x --pub carol.pub --key owner.key", "reserved"),
    ] {
        town.refused(&format!("delegate add {arguments}"), 2, says);
    }
    for (arguments, says) in [
        ("targets --pub carol.pub --key owner.key", "the keys of targets are the owners'"),
        ("targets--app --pub alice.pub --key owner.key", "is one of targets--app's already"),
        ("targets--app --threshold 3 --key owner.key", "threshold 3 cannot be met by 2"),
        (
            "targets--app --remove-key-id nobody --key owner.key",
            "`nobody` is none of the keys of targets--app",
        ),
        ("targets--app --remove-key-id bob --remove-key-id alice --key owner.key", "cannot be met by 0"),
        ("targets--app --remove-key-id bob --key carol.key", "signs for no role"),
        ("targets--app --key owner.key", "stays as it is"),
        ("targets--none --pub carol.pub --key owner.key", "there is no role `targets--none`"),
    ] {
        town.refused(&format!("delegate rotate {arguments}"), 2, says);
    }
    town.refused(
        "delegate remove targets--none --yes --key owner.key",
        2,
        "there is no role `targets--none`",
    );
    town.refused("delegate remove targets --yes --key owner.key", 2, "the keys of targets are the owners'");
    town.refused("delegate remove targets--app --yes --key bob.key", 2, "signs for no role");
    town.refused("delegate remove targets--app --revoke --key owner.key", 2, "--reason");
    town.refused("delegate remove targets--app --key owner.key", 2, "nobody is there to answer");
    town.refused("delegate take-over targets--app --key owner.key", 2, "nobody is there to answer");
    town.refused("delegate rotate targets--app --pub carol.pub", 2, "--key");
    let owner = town.key_id("owner");
    town.refused(
        &format!("revoke --key-id {owner} --reason leak --yes --key owner.key"),
        2,
        "plimsoll ceremony edit",
    );
    town.refused(
        "revoke --key-id carol --reason leak --yes --key owner.key",
        2,
        "no role grants anything to a key `carol`",
    );
    town.refused("revoke --key-id alice --reason leak --key owner.key", 2, "nobody is there to answer");
    town.refused(
        "revoke HOST/acme/app:v1 --key-id alice --reason leak --key owner.key",
        2,
        "cannot be used with",
    );
}

/// Two keys under one name could not be told apart: refused here as the daemon would refuse it, after nobody's signature.
#[test]
fn no_two_keys_of_a_role_are_called_alike() {
    let town = Town::new(&["alice", "bob"]);
    let home = town.world.owner().home().to_owned();
    fs::create_dir(home.join("new")).unwrap();
    fs::copy(home.join("bob.pub"), home.join("new/alice.pub")).unwrap();
    let add = "delegate add acme/app --label app --pub alice.pub";
    town.refused(
        &format!("{add} --pub new/alice.pub --key owner.key"),
        2,
        "two keys would be called `alice`",
    );
    town.run(&format!("{add} --key owner.key")).ok();
    let rotate = "delegate rotate targets--app --pub new/alice.pub --draft two.draft";
    town.refused(rotate, 2, "two keys would be called `alice`");
    town.run("delegate rotate targets--app --remove-key-id alice --pub new/alice.pub --key owner.key").ok();
}

/// T36: clients go eight levels deep, so nobody delegates deeper.
#[test]
fn there_are_eight_levels_and_no_ninth() {
    let town = Town::new(&["team"]);
    let mut parent = "targets".to_owned();
    for level in 1..=8 {
        let key = if level == 1 { "owner" } else { "team" };
        let add = format!(
            "delegate add acme/app --label l{level} --parent {parent} --pub team.pub --key {key}.key"
        );
        town.run(&add).ok();
        parent.push_str(&format!("--l{level}"));
    }
    let image = town.push("acme/app:v1");
    town.sign("acme/app:v1", "team").ok();
    town.clients_say("acme/app:v1", 0);
    town.peers_find("acme/app:v1", Some(&image));
    let add = format!("delegate add acme/app --label l9 --parent {parent} --pub team.pub --key team.key");
    town.refused(&add, 2, "8 levels below targets");
}

/// T14: no permission survives a rotated key by accident: what only that key vouched for is kept if somebody says so.
#[test]
fn what_only_a_removed_key_vouched_for_is_asked_about() {
    let (town, one, two) = Town::with_team();
    town.clients_say("acme/app:v2", 0);
    let rotate =
        "delegate rotate targets--app --remove-key-id alice --pub carol.pub --key owner.key --key bob.key";
    let by_digest = format!("acme/app@{}", two.digest());
    town.refused(rotate, 2, &format!("only the removed keys vouched for acme/app:v2, {by_digest}"));
    town.clients_say("acme/app:v2", 0);

    let run = town.run(&format!("{rotate} --drop-names")).ok();
    says(
        &run,
        &[
            "rotated targets--app",
            "2 names that only removed keys vouched for: left out, so they read ABSENT",
            "its content is signed anew",
            "by     targets version 3, targets--app version 3, in the registry since timestamp",
        ],
    );
    town.clients_say("acme/app:v1", 0);
    town.clients_say("acme/app:v2", 10);
    town.peers_find("acme/app:v1", Some(&one));
    town.peers_find("acme/app:v2", None);

    // The removed key is worth nothing any more, to us or to the daemon.
    town.refused("sign HOST/acme/app:v2 --key alice.key", 2, "signs for no role");
    let mut next = town.document("targets--app").signed;
    author::next_version("targets--app", &mut next, SystemClock.now());
    let forged = author::sign(&next, &[&town.key("alice")]).unwrap();
    let (status, answer) =
        town.submit(&json!({"targets--app": serde_json::from_slice::<Value>(&forged).unwrap()}));
    assert_eq!(status, 422, "{answer}");
    town.sign("acme/app:v2", "carol").ok();
    town.clients_say("acme/app:v2", 0);
}

#[test]
fn on_a_terminal_somebody_is_asked_and_can_say_no() {
    let (town, _, _) = Town::with_team();
    let before = town.metadata("timestamp.json").1;
    let run = town.on_a_terminal("delegate remove targets--app --key owner.key", "no").expect_code(2);
    says(&run, &["remove targets--app with its 4 names? [yes/no]", "not confirmed: nothing was changed"]);
    assert_eq!(town.metadata("timestamp.json").1, before);

    let rotate = "delegate rotate targets--app --remove-key-id alice --key owner.key --key bob.key";
    let run = town.on_a_terminal(rotate, "no").ok();
    says(
        &run,
        &["vouch for these 2 names anew, with the keys at hand? [yes/no]", "left out, so they read ABSENT"],
    );
    town.clients_say("acme/app:v1", 0);
    town.clients_say("acme/app:v2", 10);
    town.sign("acme/app:v2", "bob").ok();
    let run = town.on_a_terminal("delegate take-over targets--app --key owner.key", "yes").ok();
    says(&run, &["and let 1 of", "vouch for these 4 names? [yes/no]", "took over targets--app"]);
    town.clients_say("acme/app:v2", 0);
}

#[test]
fn the_keys_that_stay_can_vouch_anew() {
    let (town, one, two) = Town::with_team();
    let alice = town.key_id("alice");
    let rotate = format!("delegate rotate targets--app --remove-key-id {} --key owner.key", &alice[..10]);
    let run = town.run(&format!("{rotate} --key bob.key --keep-names")).ok();
    says(
        &run,
        &[
            "2 names that only removed keys vouched for: vouched for anew",
            &format!("gone   alice ({})", &alice[..8]),
        ],
    );
    for (name, image) in [("acme/app:v1", &one), ("acme/app:v2", &two)] {
        town.clients_say(name, 0);
        town.peers_find(name, Some(image));
    }
    // Bob stands for all of it now, so adding and removing others asks nothing.
    let run = town.run("delegate rotate targets--app --pub carol.pub --key owner.key").ok();
    says(&run, &["its content stands", "new    carol ("]);
    let run = town.run("delegate rotate targets--app --remove-key-id carol --key owner.key").ok();
    says(&run, &["its content stands"]);
    town.clients_say("acme/app:v2", 0);
}

/// The parent need not have the team's keys: then the names read UNTRUSTED, as was said, until the team signs.
#[test]
fn a_team_finishes_a_rotation_with_its_own_keys() {
    let (town, one, _) = Town::with_team();
    let rotate = "delegate rotate targets--app --remove-key-id alice --key owner.key";
    town.refused(rotate, 2, "let 4 names read UNTRUSTED until they sign?");
    let run = town.run(&format!("{rotate} --yes")).ok();
    assert!(run.stderr.contains("  acme/app:v1  sha256:"), "{}", run.stderr);
    says(&run, &["plimsoll delegate rotate targets--app --key FILE"]);
    town.clients_say("acme/app:v1", 22);
    town.run("delegate test HOST/acme/app:v1").expect_code(22);

    town.refused(
        "delegate rotate targets--app --key bob.key",
        2,
        "only the removed keys vouched for acme/app:v2",
    );
    let run = town.run("delegate rotate targets--app --key bob.key --drop-names").ok();
    says(&run, &["by     targets--app version 3, in the registry"]);
    town.clients_say("acme/app:v1", 0);
    town.clients_say("acme/app:v2", 10);
    town.peers_find("acme/app:v1", Some(&one));
}

/// In a team of two who both sign, the one who stays vouched for everything: nothing is asked, and the new pair signs.
#[test]
fn a_pair_loses_one_and_gets_another() {
    let town = Town::new(&["alice", "bob", "carol"]);
    let add = "delegate add acme/app --label app --pub alice.pub --pub bob.pub --threshold 2 --key owner.key";
    town.run(add).ok();
    let image = town.push("acme/app:v1");
    town.run("sign HOST/acme/app:v1 --key alice.key --key bob.key").ok();
    let rotate = "delegate rotate targets--app --remove-key-id alice";
    town.refused(&format!("{rotate} --key owner.key"), 2, "threshold 2 cannot be met by 1");
    let rotate = format!("{rotate} --pub carol.pub --key owner.key --key bob.key");
    town.refused(&rotate, 2, "let 2 names read UNTRUSTED until they sign?");
    let run = town.run(&format!("{rotate} --key carol.key")).ok();
    says(&run, &["signed by 2 of ", "its content is signed anew"]);
    town.clients_say("acme/app:v1", 0);
    town.peers_find("acme/app:v1", Some(&image));
}

/// What somebody agreed to is what is done: not what it would be since.
#[tokio::test]
async fn a_plan_that_somebody_overtook_is_not_carried_out() {
    let (town, _, _) = Town::with_team();
    let home = town.world.owner().home().to_owned();
    let http = Registry::new(RegistryOptions::default()).unwrap();
    let publisher = Publisher::through_daemon(
        http.clone(),
        Server::new(http, town.world.daemon.url().parse().unwrap()),
        town.world.trust().parse().unwrap(),
        fs::read(home.join("acme-root.json")).unwrap(),
        &tempfile::tempdir().unwrap().path().join("publishing"),
        Arc::new(SystemClock),
    );
    let (owner, bob) = (town.key("owner"), town.key("bob"));
    let signers: [&dyn Signer; 2] = [&owner, &bob];
    let how = How { signers: &signers, draft: false };
    let request = RotateRequest {
        role: "targets--app".to_owned(),
        add: Vec::new(),
        names: Vec::new(),
        remove: vec!["alice".to_owned()],
        threshold: None,
        unvouched: Unvouched::Keep,
    };
    let plan = publisher.plan_rotation(&request, how).await.unwrap();
    assert_eq!(plan.content, Content::Signed);
    let names: Vec<&str> = plan.unvouched.iter().map(|vouched| vouched.name.as_str()).collect();
    assert_eq!(names.first(), Some(&"acme/app:v2"));
    assert_eq!(names.len(), 2);

    // Alice signs one more, which nobody has looked at yet.
    town.push("acme/app:v3");
    town.sign("acme/app:v3", "alice").ok();
    let before = town.metadata("timestamp.json").1;
    let refused = publisher.rotate(&request, &plan, how).await.unwrap_err();
    assert!(matches!(&refused, PublishError::Moved(role) if role == "targets--app"), "{refused:?}");
    assert_eq!(town.metadata("timestamp.json").1, before);

    let plan = publisher.plan_rotation(&request, how).await.unwrap();
    let done = publisher.rotate(&request, &plan, how).await.unwrap();
    assert!(matches!(done, Done::Published(..)));
    town.clients_say("acme/app:v3", 0);
}

#[test]
fn a_removed_delegation_is_absent_or_revoked_and_its_name_never_comes_back() {
    let town = Town::new(&["team", "sub"]);
    town.run("delegate add acme/app --label app --pub team.pub --key owner.key").ok();
    town.run("delegate add acme/app:beta* --label beta --parent targets--app --pub sub.pub --key team.key")
        .ok();
    town.run("delegate add acme/lib --label lib --pub team.pub --key owner.key").ok();
    let (app, beta) = (town.push("acme/app:v1"), town.push("acme/app:beta1"));
    town.push("acme/lib:v1");
    town.sign("acme/app:v1", "team").ok();
    town.sign("acme/app:beta1", "sub").ok();
    town.sign("acme/lib:v1", "team").ok();
    town.peers_find("acme/app:v1", Some(&app));
    town.peers_find("acme/app:beta1", Some(&beta));

    town.push("acme/app:old");
    town.sign("acme/app:old", "team").ok();
    town.run("revoke HOST/acme/app:old --reason old --key team.key").ok();

    let run = town.run("delegate remove targets--app --yes --key owner.key").ok();
    says(
        &run,
        &[
            "removed targets--app",
            "names under acme/app read ABSENT",
            "what it took back itself (1) is forgotten",
            "nobody asks the roles below it any more: targets--app--beta",
            "the name targets--app is never given again",
        ],
    );
    assert!(run.stderr.contains("  acme/app:v1  sha256:"), "{}", run.stderr);
    for name in ["acme/app:v1", "acme/app:beta1"] {
        town.clients_say(name, 10);
        town.peers_find(name, None);
    }
    town.clients_say("acme/lib:v1", 0);
    town.refused(
        "delegate add acme/app --label app --pub team.pub --key owner.key",
        2,
        "already is the name of a role",
    );
    // Another name for the scope is fine, and begins with nothing.
    town.run("delegate add acme/app --label app2 --pub team.pub --key owner.key").ok();
    town.sign("acme/app:v1", "team").ok();
    town.clients_say("acme/app:v1", 0);

    let run = town.run("delegate remove targets--lib --revoke --reason dissolved --yes --key owner.key").ok();
    says(&run, &["every name under acme/lib reads REVOKED; nobody can sign one again"]);
    town.clients_say("acme/lib:v1", 14);
    town.clients_say("acme/lib:v2", 14);
    town.peers_find("acme/lib:v1", None);
    let run = town.run("delegate test HOST/acme/lib:v1").expect_code(14);
    says(&run, &["takes it back: dissolved"]);
    town.clients_say("acme/app:v1", 0);
}

/// The team lost its keys; the parent lets others vouch for what it last said, and what it revoked stays revoked.
#[test]
fn a_lost_team_is_taken_over_with_what_it_said_and_took_back() {
    let town = Town::new(&["team", "sub", "next", "third"]);
    town.run("delegate add acme/app --label app --pub team.pub --key owner.key").ok();
    town.refused("delegate take-over targets--app --yes --key owner.key", 2, "has published nothing yet");
    town.run("delegate add acme/app:beta* --label beta --parent targets--app --pub sub.pub --key team.key")
        .ok();
    let (good, beta) = (town.push("acme/app:v1"), town.push("acme/app:beta1"));
    town.push("acme/app:bad");
    town.sign("acme/app:v1", "team").ok();
    town.sign("acme/app:bad", "team").ok();
    town.sign("acme/app:beta1", "sub").ok();
    town.run("revoke HOST/acme/app:bad --reason broken --key team.key").ok();

    // By the parent's own key, in one submission.
    let run = town.run("delegate take-over targets--app --yes --key owner.key").ok();
    says(
        &run,
        &[
            "took over targets--app",
            "2 names vouched for anew",
            "it delegates to targets--app--beta, with keys that its old team chose",
            "by     targets version 3, targets--app version 5",
        ],
    );
    for (name, image) in [("acme/app:v1", &good), ("acme/app:beta1", &beta)] {
        town.clients_say(name, 0);
        town.peers_find(name, Some(image));
    }
    town.clients_say("acme/app:bad", 14);
    town.refused("sign HOST/acme/app:v1 --key team.key", 2, "signs for no role");

    // To a new team, whose keys must sign too.
    let over = "delegate take-over targets--app --pub next.pub --pub third.pub --threshold 2 --yes";
    town.refused(&format!("{over} --key owner.key --key next.key"), 2, "needs 1 more of third");
    town.run(&format!("{over} --key owner.key --key next.key --key third.key")).ok();
    town.clients_say("acme/app:v1", 0);
    town.peers_find("acme/app:v1", Some(&good));
}

/// Content that was orphaned by a rotation is taken over; content that nobody entitled ever signed is not.
#[test]
fn an_orphan_is_taken_over_and_an_expired_role_too() {
    let town = Town::new(&["team", "new"]);
    town.run("delegate add acme/app --label app --pub team.pub --key owner.key").ok();
    let image = town.push("acme/app:v1");
    town.sign("acme/app:v1", "team").ok();
    town.run("delegate rotate targets--app --remove-key-id team --pub new.pub --yes --key owner.key").ok();
    town.clients_say("acme/app:v1", 22);
    town.refused(
        "sign HOST/acme/app:v1 --key new.key",
        22,
        "targets--app does not count: the keys that it has now did",
    );
    town.refused("sign HOST/acme/app:v1 --key new.key", 22, "`plimsoll delegate take-over ROLE`");
    town.run("delegate take-over targets--app --yes --key owner.key").ok();
    town.clients_say("acme/app:v1", 0);
    town.peers_find("acme/app:v1", Some(&image));

    // The team signs for some seconds only, and then is not there any more.
    let (mut brief, key) = (town.document("targets--app").signed, town.key("owner"));
    let now = SystemClock.now();
    author::next_version("targets--app", &mut brief, now);
    brief.common.expires = now + TimeDelta::seconds(8);
    let brief = author::sign(&brief, &[&key]).unwrap();
    let (status, answer) =
        town.submit(&json!({"targets--app": serde_json::from_slice::<Value>(&brief).unwrap()}));
    assert_eq!(status, 202, "{answer}");
    let deadline = Instant::now() + Duration::from_secs(60);
    while town.run("delegate test HOST/acme/app:v1").code != 20 {
        assert!(Instant::now() < deadline, "it never expires");
    }
    town.clients_say("acme/app:v1", 20);
    let below = "delegate add acme/app:x* --label x --parent targets--app--y --pub new.pub --key owner.key";
    town.refused(below, 2, "targets--app expired at");
    let run = town.run("delegate show targets--app").ok();
    says(&run, &["wrong  expired"]);
    town.run("delegate take-over targets--app --pub new.pub --yes --key owner.key --key new.key").ok();
    town.clients_say("acme/app:v1", 0);
    town.peers_find("acme/app:v1", Some(&image));
}

/// T14: everything that only the leaked key vouched for reads REVOKED; what others vouched for stays.
#[test]
fn a_revoked_key_takes_back_what_it_alone_vouched_for() {
    let (town, one, two) = Town::with_team();
    let revoke = "revoke --key-id alice --reason leaked --yes --key owner.key";
    let run = town.run(&format!("{revoke} --key bob.key")).ok();
    says(
        &run,
        &[
            &format!("revoked key alice ({}) of targets--app", &town.key_id("alice")[..8]),
            &format!("acme/app:v2  {}", two.digest()),
            "targets--app is signed anew",
            "by     targets version 3, targets--app version 3",
        ],
    );
    assert!(!run.stdout.contains("acme/app:v1"), "{}", run.stdout);
    town.clients_say("acme/app:v1", 0);
    town.clients_say("acme/app:v2", 14);
    town.peers_find("acme/app:v1", Some(&one));
    town.peers_find("acme/app:v2", None);
    town.refused("sign HOST/acme/app:v2 --key bob.key", 2, "was revoked (leaked)");
}

/// Without the team's keys, what the leaked key vouched for reads REVOKED all the same, and the rest waits for the team.
#[test]
fn a_key_is_revoked_without_the_team() {
    let (town, one, _) = Town::with_team();
    let run = town.run("revoke --key-id alice --reason leaked --yes --key owner.key").ok();
    says(&run, &["the other names of targets--app read UNTRUSTED until its keys sign"]);
    town.clients_say("acme/app:v2", 14);
    town.clients_say("acme/app:v1", 22);
    town.run("delegate rotate targets--app --key bob.key --drop-names").ok();
    town.clients_say("acme/app:v1", 0);
    town.clients_say("acme/app:v2", 14);
    town.peers_find("acme/app:v1", Some(&one));
    town.refused(
        "revoke --key-id bob --reason leaked --yes --key owner.key",
        2,
        "would have 0 keys and need 1",
    );
}

/// One image, signed by two people under two tags: revoking one's key does not take the other's away.
#[test]
fn a_digest_that_somebody_else_vouches_for_is_not_taken_back() {
    let (town, _, two) = Town::with_team();
    // Bob's version carries on what alice said, so bob stands for v2 from now on; then alice gives v3's image a new tag.
    let image = town.push("acme/app:v3");
    town.sign("acme/app:v3", "bob").ok();
    image.push(&format!("{}/acme/app:stable", town.world.host()), &town.world.side()).ok();
    town.sign("acme/app:stable", "alice").ok();
    let run = town.run("revoke --key-id alice --reason leaked --yes --key owner.key --key bob.key").ok();
    says(&run, &["nothing is taken back", "left out, though others vouch", "acme/app:stable"]);
    town.clients_say("acme/app:v3", 0);
    town.clients_say("acme/app:v2", 0);
    town.clients_say("acme/app:stable", 10);
    town.peers_find("acme/app:v2", Some(&two));
}

/// A change that waits for people elsewhere needs no key at hand, and publishes nothing.
#[test]
fn every_change_can_be_drafted_without_a_key() {
    let (town, _, _) = Town::with_team();
    let before = town.metadata("timestamp.json").1;
    let home = town.world.owner().home().to_owned();
    for (number, line, roles) in [
        (1, "delegate add acme/x --label x --pub carol.pub", vec!["targets"]),
        (
            2,
            "delegate rotate targets--app --remove-key-id alice --keep-names",
            vec!["targets", "targets--app"],
        ),
        (3, "delegate remove targets--app", vec!["targets"]),
        (4, "delegate take-over targets--app --pub carol.pub", vec!["targets", "targets--app"]),
        (5, "revoke --key-id alice --reason leaked", vec!["targets", "targets--app"]),
    ] {
        let file = format!("{number}.draft");
        let run = town.run(&format!("{line} --draft {file}")).ok();
        says(&run, &["draft, not published: ", "1 missing", &format!("wrote {file}")]);
        let draft = Draft::read(&fs::read(home.join(&file)).unwrap()).unwrap();
        assert_eq!(draft.versions().into_keys().collect::<Vec<_>>(), roles, "{line}");
        assert!(!draft.is_complete());
    }
    assert_eq!(town.metadata("timestamp.json").1, before);

    // Bob and the owner sign the second one apart from each other.
    let mut draft = Draft::read(&fs::read(home.join("2.draft")).unwrap()).unwrap();
    assert_eq!(draft.sign(&town.key("bob")).unwrap(), ["targets--app"]);
    assert_eq!(draft.sign(&town.key("owner")).unwrap(), ["targets"]);
    assert!(draft.is_complete());
    let documents: Value = draft
        .documents()
        .into_iter()
        .map(|(role, bytes)| (role, serde_json::from_slice(&bytes).unwrap()))
        .collect::<serde_json::Map<String, Value>>()
        .into();
    let (status, answer) = town.submit(&documents);
    assert_eq!(status, 202, "{answer}");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !town.run("delegate show targets--app").ok().stdout.contains("keys   1 of bob") {
        assert!(Instant::now() < deadline, "it is never published");
    }
    town.clients_say("acme/app:v2", 0);
}

/// T14: who stole a key may have given names to a key of their own before the theft is noticed. No such permission outlives
/// the stolen key unless somebody says so.
#[test]
fn what_a_stolen_key_delegated_does_not_outlive_it_unasked() {
    let town = Town::new(&["alice", "bob", "carol", "mallory"]);
    town.run("delegate add acme/app/** --label app --pub alice.pub --pub bob.pub --key owner.key").ok();
    town.run("delegate add acme/app/good --parent targets--app --label good --pub carol.pub --key bob.key")
        .ok();
    let theirs =
        "delegate add acme/app/bad --parent targets--app --label bad --pub mallory.pub --key alice.key";
    town.run(theirs).ok();
    town.push("acme/app/bad:v1");
    town.push("acme/app/good:v1");
    town.sign("acme/app/bad:v1", "mallory").ok();
    town.sign("acme/app/good:v1", "carol").ok();
    let rotate = "delegate rotate targets--app --remove-key-id alice --key owner.key --key bob.key";
    town.refused(rotate, 2, "only the removed keys vouched for what is delegated to targets--app--bad");

    let run = town.run(&format!("{rotate} --drop-names")).ok();
    says(&run, &["delegations that only removed keys vouched for, to targets--app--bad: withdrawn for good"]);
    town.clients_say("acme/app/bad:v1", 10);
    town.clients_say("acme/app/good:v1", 0);
    town.peers_find("acme/app/bad:v1", None);
    town.refused("sign HOST/acme/app/bad:v1 --key mallory.key", 2, "signs for no role");
    let again = theirs.replace("alice.key", "bob.key");
    town.refused(&again, 2, "`targets--app--bad` already is the name of a role");

    // Kept, if somebody looked at it and says so.
    let add = "delegate add acme/app/new --parent targets--app --label new --pub carol.pub --key bob.key";
    town.run(add).ok();
    town.push("acme/app/new:v1");
    town.sign("acme/app/new:v1", "carol").ok();
    let rotate =
        "delegate rotate targets--app --remove-key-id bob --pub alice.pub --key owner.key --key alice.key";
    town.refused(rotate, 2, "targets--app--good, what is delegated to targets--app--new");
    let run = town.run(&format!("{rotate} --keep-names")).ok();
    says(
        &run,
        &[
            "delegations that only removed keys vouched for, to targets--app--good, targets--app--new: vouched",
        ],
    );
    town.clients_say("acme/app/new:v1", 0);
}

/// T14: what a revoked key delegated goes with it, to the same stolen key or to another, and what it signed there alone
/// reads REVOKED. What others vouch for elsewhere stays, though the thief listed it to have it taken back, too.
#[test]
fn a_revoked_key_takes_back_what_it_delegated() {
    let town = Town::new(&["alice", "bob", "carol", "mallory"]);
    town.run("delegate add acme/app/** --label app --pub alice.pub --pub bob.pub --key owner.key").ok();
    town.run("delegate add acme/honest --label honest --pub carol.pub --key owner.key").ok();
    let honest = town.push("acme/honest:v1");
    town.sign("acme/honest:v1", "carol").ok();
    for (label, key) in [("one", "alice"), ("two", "mallory")] {
        let add =
            format!("delegate add acme/app/{label} --parent targets--app --label {label} --pub {key}.pub");
        town.run(&format!("{add} --key alice.key")).ok();
        town.push(&format!("acme/app/{label}:v1"));
        town.sign(&format!("acme/app/{label}:v1"), key).ok();
    }
    honest.push(&format!("{}/acme/app/copy:v1", town.world.host()), &town.world.side()).ok();
    town.sign("acme/app/copy:v1", "alice").ok();

    let run = town.run("revoke --key-id alice --reason stolen --yes --key owner.key --key bob.key").ok();
    says(
        &run,
        &[
            "acme/app/one:v1",
            "left out, though others vouch",
            "acme/app/copy:v1",
            "delegations of targets--app that nobody else vouched for are withdrawn for good: targets--app--one, \
             targets--app--two",
        ],
    );
    town.clients_say("acme/app/one:v1", 14);
    town.clients_say("acme/app/two:v1", 10);
    town.clients_say("acme/app/copy:v1", 10);
    town.clients_say("acme/honest:v1", 0);
    town.peers_find("acme/honest:v1", Some(&honest));
}
