//! Publishing where only the registry can be reached: submissions left in the inbox, on Debian's docker-registry with users
//! who have different rights, and a real daemon that collects them.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::{
    collections::BTreeMap,
    fs,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use plimsoll::{
    clock::{Clock, SystemClock},
    keys::{Passphrase, PrivateKey},
    publish::{Answer, Inbox, Left, PublishError, Publisher, api::Submission, author, draft::Draft},
    registry::{Credentials, ManifestAnswer, Registry as Client, RegistryOptions, Secret},
};
use plimsoll_core::{
    oci::{
        Descriptor, Digest, Manifest, RepositoryAddress,
        mapping::{
            LATEST, Listing, MAX_MANIFEST, Profile,
            inbox::{self, SUBMISSION_TYPE},
        },
        media_type,
    },
    policy::Verdict,
    tuf::{Document, Targets, Timestamp},
};
use plimsoll_tests::{
    docker_registry::{Access, Registry},
    http,
    middle::{Effect, Middle, Rule},
    token_server::{TokenServer, User},
    world::{IMAGES, NAME, ROLE, Site, TRUST, World, log_in},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const INBOX: &str = "acme/trust/inbox";
/// May do everything that a daemon with an inbox does.
const DAEMON: (&str, &str) = ("daemon", "d");
/// A CI job of the team: reads what vouches for images, and may leave something in the inbox.
const CI: (&str, &str) = ("ci", "c");
/// Reads what vouches for images.
const READER: (&str, &str) = ("reader", "r");

/// A daemon with an inbox on a registry with tokens, and a middle between them and everybody.
struct Scene {
    world: World,
    middle: Middle,
    _registry: Registry,
    _tokens: TokenServer,
    runtime: Runtime,
}

impl Scene {
    /// The daemon may do `actions` in the inbox.
    fn new(actions: &[&str]) -> Self {
        let tokens = TokenServer::start([
            (DAEMON.0, User::new(DAEMON.1).may(&["pull", "push"], TRUST).may(actions, INBOX)),
            (CI.0, User::new(CI.1).may(&["pull"], TRUST).may(&["pull", "push"], INBOX)),
            (READER.0, User::new(READER.1).may(&["pull"], TRUST)),
        ]);
        let registry = Registry::start(Access::Token(&tokens));
        let middle = Middle::start(&registry.address());
        let site = Site::at(&middle.address()).daemon(DAEMON).machines(READER).timestamp(20, 1).inbox();
        let world = World::ready(site);
        Self { world, middle, _registry: registry, _tokens: tokens, runtime: Runtime::new().unwrap() }
    }

    fn client(&self, (user, password): (&str, &str)) -> Client {
        let credentials = Credentials::fixed(user, Secret::new(password));
        Client::new(RegistryOptions { credentials, ..RegistryOptions::default() }).unwrap()
    }

    fn inbox(&self, user: (&str, &str)) -> Inbox {
        Inbox::new(self.client(user), &self.world.trust().parse().unwrap()).unwrap()
    }

    fn address(&self) -> RepositoryAddress {
        format!("{}/{INBOX}", self.world.host()).parse().unwrap()
    }

    fn leave(&self, documents: &BTreeMap<String, Vec<u8>>) -> Left {
        self.runtime.block_on(self.inbox(CI).leave(documents)).unwrap()
    }

    /// The daemon's answer, once there is one.
    fn answer(&self, left: &Left) -> Answer {
        let inbox = self.inbox(CI);
        eventually("answer", || self.runtime.block_on(inbox.answer(left)).unwrap())
    }

    fn accepted(&self, left: &Left) -> String {
        match self.answer(left) {
            Answer::Accepted(accepted) => accepted.id,
            Answer::Refused(refusal) => panic!("{refusal:?}"),
        }
    }

    fn refused(&self, left: &Left) -> (String, String) {
        match self.answer(left) {
            Answer::Accepted(accepted) => panic!("{accepted:?}"),
            Answer::Refused(refusal) => {
                let code = serde_json::to_value(refusal.code).unwrap();
                (code.as_str().unwrap().to_owned(), refusal.message)
            }
        }
    }

    /// The tags in the inbox; none if it does not exist.
    fn tags(&self) -> Vec<String> {
        self.runtime.block_on(self.client(DAEMON).tags(&self.address())).unwrap_or_default()
    }

    /// What clients of the registry are told `tag` is.
    fn resolved(&self, tag: &str) -> Option<String> {
        let run = self.world.client("client").run(&["resolve", &self.world.reference(tag)]);
        (run.code == 0).then(|| run.stdout.trim().to_owned())
    }

    /// What the daemon says of the trust repository.
    fn info(&self) -> serde_json::Value {
        let url = format!("{}/v1/trusts/{NAME}", self.world.daemon.url());
        serde_json::from_slice(&http::get(&url).unwrap().body).unwrap()
    }

    /// The newest version of the team's role that the daemon has accepted.
    fn head(&self) -> Option<Document<Targets>> {
        let version = self.info()["heads"][ROLE].as_u64()?;
        let url = format!("{}/tuf/{NAME}/metadata/{version}.{ROLE}.json", self.world.daemon.url());
        Some(Document::parse(ROLE, &http::get(&url).unwrap().body).unwrap())
    }

    fn newest(&self) -> Vec<u8> {
        self.head().unwrap().bytes.into()
    }

    /// The next version of the team's role, which says that `tag` is `digest`, signed by the team.
    fn next(&self, tag: &str, digest: &Digest) -> BTreeMap<String, Vec<u8>> {
        self.signed(tag, digest, |_| ())
    }

    fn signed(
        &self,
        tag: &str,
        digest: &Digest,
        change: impl FnOnce(&mut Targets),
    ) -> BTreeMap<String, Vec<u8>> {
        let mut targets = self.head().map_or_else(
            || {
                let trust = self.info()["trust_id"].as_str().unwrap().to_owned();
                let mut first = author::empty_targets(ROLE, &trust, SystemClock.now());
                first.common.version = 0;
                first
            },
            |head| head.signed,
        );
        let patterns = [format!("{IMAGES}:*"), format!("{IMAGES}@*")];
        let descriptor = Descriptor { digest: *digest, ..Descriptor::of(media_type::MANIFEST, b"image") };
        let name = format!("{IMAGES}:{tag}").parse().unwrap();
        author::vouch(&mut targets, (ROLE, &patterns), &name, &descriptor).unwrap();
        author::next_version(ROLE, &mut targets, SystemClock.now());
        change(&mut targets);
        let team = self.world.machine("team");
        let passphrase = Passphrase::from_file(&team.home().join("passphrase")).unwrap();
        let key = PrivateKey::load(&team.home().join("team.key"), &passphrase).unwrap();
        BTreeMap::from([(ROLE.to_owned(), author::sign(&targets, &[&key]).unwrap())])
    }

    /// Pushes `manifest` to the inbox as `tag`, with `blobs`.
    fn push(&self, client: &Client, tag: &str, kind: &str, manifest: Vec<u8>, blobs: &[&[u8]]) {
        self.runtime.block_on(async {
            for blob in blobs {
                client.put_blob(&self.address(), blob.to_vec().into()).await.unwrap();
            }
            client.put_manifest(&self.address(), tag, kind, manifest.into()).await.unwrap();
        });
    }

    /// Waits until the daemon has listed the inbox `count` times from now on.
    fn looks(&self, count: usize) {
        let listed = || self.requests("GET", "/tags/list");
        let before = listed();
        eventually("look", || (listed() >= before + count).then_some(()));
    }

    /// How many requests of this kind the inbox has had.
    fn requests(&self, method: &str, tail: &str) -> usize {
        let wanted = format!("/v2/{INBOX}{tail}");
        self.middle.log().iter().filter(|e| e.method == method && e.path.starts_with(&wanted)).count()
    }
}

/// What `look` finds, as soon as it finds something.
fn eventually<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what} within a minute");
        // What another program has in a registry is no event here.
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_is_left_in_the_inbox_is_published_and_answered() {
    let scene = Scene::new(&["pull", "push", "delete"]);
    let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
    let documents = scene.next("v1", &one);
    let late = scene.next("v2", &two);

    let left = scene.leave(&documents);
    assert_eq!(left.tag, format!("s-{}", Digest::of(&Submission::json(&documents)).hex()));
    let id = scene.accepted(&left);
    assert_eq!(scene.newest(), documents[ROLE]);
    let resolved = eventually("tag v1", || scene.resolved("v1"));
    assert_eq!(resolved, format!("{}/{IMAGES}@{one}", scene.world.host()));
    let answered = format!("a-{}", left.submission.hex());
    eventually("removal", || (scene.tags() == [answered.clone()]).then_some(()));

    // The same again, by the same user or by somebody who kept a copy: known, and nothing new.
    let again = scene.leave(&documents);
    assert_eq!(again, left);
    eventually("removal", || (scene.tags() == [answered.clone()]).then_some(()));
    assert_eq!(scene.accepted(&again), id);
    assert_eq!(scene.newest(), documents[ROLE]);

    // Another change of the version that was changed already is a conflict, as it is over HTTP.
    let left = scene.leave(&late);
    let (code, message) = scene.refused(&left);
    assert_eq!(code, "conflict", "{message}");
    assert_eq!(scene.newest(), documents[ROLE]);
    // Done anew on the head it goes in.
    let rebased = scene.next("v2", &two);
    scene.accepted(&scene.leave(&rebased));
    let resolved = eventually("tag v2", || scene.resolved("v2"));
    assert_eq!(resolved, format!("{}/{IMAGES}@{two}", scene.world.host()));
}

/// A team of which both must sign, and the next root: drafted, signed apart and published by people who reach nothing but the
/// registry.
#[test]
fn drafts_are_made_and_finished_through_the_registry_alone() {
    let scene = Scene::new(&["pull", "push", "delete"]);
    let world = &scene.world;
    let run = |who: &str, line: &str| {
        let machine = if who == "owner" { world.owner() } else { world.client(who) };
        log_in(machine.home(), world.host(), CI.0, CI.1);
        // Nothing listens there.
        let machine = machine.env("PLIMSOLL_SERVER", "http://127.0.0.1:9");
        machine.run(&line.replace("KEY", "--passphrase-file passphrase --key").split(' ').collect::<Vec<_>>())
    };
    for who in ["alice", "bob"] {
        world.client(who);
        world.generate_key(who).ok();
    }
    let pair = "--pub ../alice/alice.pub --pub ../bob/bob.pub --threshold 2";
    run("owner", &format!("delegate add acme/pair --label pair {pair} --via-registry KEY owner.key")).ok();
    let add = "delegate add acme/pair:v* --parent targets--pair --label tags --pub alice.pub";
    run("alice", &format!("{add} --draft pair.draft --via-registry KEY alice.key")).ok();
    let alone = run("alice", "ceremony finish pair.draft --via-registry --yes").expect_code(2);
    assert!(alone.stderr.contains("targets--pair needs 1 more of bob"), "{}", alone.stderr);
    run("bob", "ceremony sign ../alice/pair.draft --yes KEY bob.key").ok();
    let run_it = || run("bob", "ceremony finish ../alice/pair.draft --via-registry --yes");
    let finished = run_it().ok();
    assert!(finished.stdout.starts_with("published targets--pair version 1\n"), "{}", finished.stdout);
    let again = run_it().ok();
    assert!(again.stdout.starts_with("was published before: targets--pair version 1\n"), "{}", again.stdout);

    let edit = "ceremony edit --add-owner-pub ../alice/alice.pub --draft root.draft --via-registry";
    run("owner", edit).ok();
    run("owner", "ceremony sign root.draft --yes KEY owner.key").ok();
    let finished = run("owner", "ceremony finish root.draft --via-registry --yes").ok();
    assert!(finished.stdout.starts_with("published root version 2, targets version"), "{}", finished.stdout);
    let status = world.client("fresh").run(&["status"]).ok().stdout;
    assert!(status.contains("root  version 2") && status.contains("targets--pair  version 1"), "{status}");
}

/// T42: whoever may push to the inbox writes answers there, too: no delegation counts as published, and none as refused for
/// good, because of what one of them says.
#[test]
fn a_forged_answer_makes_no_lost_change_look_published() {
    let scene = Scene::new(&["pull", "push", "delete"]);
    let world = &scene.world;
    let owner = |line: &str| {
        let line = format!("{line} --key owner.key --passphrase-file passphrase");
        world.owner().run(&line.split(' ').collect::<Vec<_>>()).ok();
    };
    let add = |label: &str| format!("delegate add acme/{label} --label {label} --pub owner.pub");
    owner(&format!("{} --draft lost.draft", add("lost")));
    let draft = Draft::read(&fs::read(world.owner().home().join("lost.draft")).unwrap()).unwrap();
    assert!(draft.is_complete());
    // Others were faster, twice, and the daemon does not get to see what is left.
    owner(&add("one"));
    owner(&add("two"));
    scene.middle.set(Rule::new("GET", &format!("/{INBOX}/tags")), Effect::Status(503));

    let submission = Digest::of(&Submission::json(&draft.documents()));
    let forge = |json: &Value| {
        let json = json.to_string();
        let artifact = inbox::answer(&submission, json.as_bytes(), SystemClock.now(), Profile::Oci11);
        let blobs: Vec<_> = artifact.blobs.iter().map(|(_, bytes)| bytes.as_slice()).collect();
        scene.push(&scene.client(CI), &artifact.tag, media_type::MANIFEST, artifact.manifest.clone(), &blobs);
    };
    let pinned = fs::read(world.owner().home().join("acme-root.json")).unwrap();
    let state = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock);
    let trust: RepositoryAddress = world.trust().parse().unwrap();
    let ci = Publisher::through_registry(scene.client(CI), trust, pinned, state.path(), clock).unwrap();
    let accepted = json!({"id": "00", "state": "published", "documents": {"targets": 3}, "timestamp": 1});
    forge(&accepted);
    assert_eq!(scene.runtime.block_on(ci.submit(&draft)).unwrap(), None);
    forge(&json!({"code": "refused", "message": "give up"}));
    let error = scene.runtime.block_on(ci.submit(&draft)).unwrap_err();
    assert!(matches!(&error, PublishError::RefusedIn { .. }), "{error:?}");
    assert!(error.may_be_taken());
}

#[test]
fn only_who_may_push_to_the_inbox_leaves_something_there() {
    let scene = Scene::new(&["pull", "push", "delete"]);
    let documents = scene.next("v1", &Digest::of(b"one"));
    for user in [READER, ("stranger", "x"), (CI.0, "wrong")] {
        let error = scene.runtime.block_on(scene.inbox(user).leave(&documents)).unwrap_err();
        assert!(matches!(&error, PublishError::Inbox { source, .. } if source.is_auth()), "{error:?}");
        assert_eq!(error.verdict(), Some(Verdict::Auth));
        assert!(!error.may_be_taken());
    }
    assert!(scene.tags().is_empty());
    // The inbox gives no right to the trust repository.
    let trust = scene.world.trust().parse().unwrap();
    let ci = scene.client(CI);
    let put = scene.runtime.block_on(ci.put_blob(&trust, b"x".to_vec().into()));
    assert!(put.unwrap_err().is_auth());

    // What was refused is told to those who may read there; to others there is no answer.
    let refused = scene.signed("v1", &Digest::of(b"one"), |targets| targets.common.version += 5);
    let left = scene.leave(&refused);
    let (code, message) = scene.refused(&left);
    assert_eq!(code, "refused", "{message}");
    assert!(message.contains("version"), "{message}");
    assert_eq!(scene.runtime.block_on(scene.inbox(READER).answer(&left)).unwrap(), None);
    // What is not an answer is none, whoever put it there.
    let forged = Left { submission: Digest::of(b"another"), ..left };
    let submission = inbox::submission(b"[]", Profile::Oci11);
    let blobs: Vec<_> = submission.blobs.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    let tag = inbox::answer_tag(&forged.submission);
    scene.push(&scene.client(CI), &tag, media_type::MANIFEST, submission.manifest.clone(), &blobs);
    assert_eq!(scene.runtime.block_on(scene.inbox(CI).answer(&forged)).unwrap(), None);

    scene.middle.set(Rule::new("*", &format!("/{INBOX}/")), Effect::Status(503));
    let error = scene.runtime.block_on(scene.inbox(CI).leave(&documents)).unwrap_err();
    assert_eq!(error.verdict(), Some(Verdict::Unreachable), "{error:?}");
    let error = scene.runtime.block_on(scene.inbox(CI).answer(&forged)).unwrap_err();
    assert_eq!(error.verdict(), Some(Verdict::Unreachable), "{error:?}");
    // Nobody listens to the inbox now, and everything else goes on.
    let version = timestamp(&scene).signed.common.version;
    eventually("timestamp", || (timestamp(&scene).signed.common.version > version).then_some(()));
    scene.middle.clear();
    scene.accepted(&scene.leave(&documents));
}

/// T42, T43: whoever may push to the inbox fills it with what is none of its business.
#[test]
fn a_flood_of_garbage_keeps_neither_the_timestamp_nor_an_honest_submission_back() {
    let scene = Scene::new(&["pull", "push", "delete"]);
    let ci = scene.client(CI);
    let image = |layers: Vec<Descriptor>, kind: &str, n: usize| {
        let mut manifest = Manifest::parse(&inbox::submission(b"x", Profile::Oci11).manifest).unwrap();
        manifest.artifact_type = Some(kind.to_owned());
        manifest.layers = layers;
        manifest.annotations = BTreeMap::from([("n".to_owned(), n.to_string())]);
        manifest.to_bytes()
    };
    let layer = Descriptor::of(SUBMISSION_TYPE, b"not JSON");
    let blobs: [&[u8]; 2] = [b"{}", b"not JSON"];
    // Sorted before and after what is honest, with names of every kind.
    for n in 0..300 {
        let tag = match n % 3 {
            0 => format!("s-{n:064x}"),
            1 => format!("a-{}", Digest::of(n.to_string().as_bytes()).hex()),
            _ => format!("zz-junk-{n}"),
        };
        let kind = if n % 2 == 0 { "application/vnd.example+json" } else { SUBMISSION_TYPE };
        let manifest = image(vec![layer.clone(); n % 4 + 2], kind, n);
        scene.push(&ci, &tag, media_type::MANIFEST, manifest, if n == 0 { &blobs } else { &[] });
    }
    let huge = Descriptor { size: 1 << 40, ..layer.clone() };
    scene.push(&ci, "s-huge", media_type::MANIFEST, image(vec![huge], SUBMISSION_TYPE, 1), &[]);
    let short = Descriptor { size: 3, ..layer.clone() };
    scene.push(&ci, "s-short", media_type::MANIFEST, image(vec![short], SUBMISSION_TYPE, 1), &[]);
    let wide = image(vec![layer.clone(); 1000], SUBMISSION_TYPE, 1);
    scene.push(&ci, "s-wide", media_type::MANIFEST, wide, &[]);
    scene.push(&ci, "s-text", media_type::MANIFEST, image(vec![layer], SUBMISSION_TYPE, 1), &[]);
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media_type::INDEX);
    scene.push(&ci, "s-index", media_type::INDEX, index.into_bytes(), &[]);
    // Well-formed, and nothing for this trust repository; and one that would be, signed by nobody.
    let foreign = scene.signed("v1", &Digest::of(b"one"), |targets| {
        targets.common.identity.as_mut().unwrap().trust = "0".repeat(32);
    });
    let foreign = scene.leave(&foreign);
    let mut unsigned: serde_json::Value =
        serde_json::from_slice(&scene.next("v1", &Digest::of(b"one"))[ROLE]).unwrap();
    unsigned["signatures"] = serde_json::json!([]);
    let unsigned = scene.leave(&BTreeMap::from([(ROLE.to_owned(), unsigned.to_string().into_bytes())]));

    let one = Digest::of(b"one");
    let honest = scene.next("v1", &one);
    let left = scene.leave(&honest);
    let answered = eventually("answer", || {
        let timestamp = timestamp(&scene);
        assert!(timestamp.signed.common.expires > SystemClock.now(), "the timestamp expired");
        scene.runtime.block_on(scene.inbox(CI).answer(&left)).unwrap()
    });
    assert!(matches!(answered, Answer::Accepted(_)), "{answered:?}");
    assert_eq!(scene.newest(), honest[ROLE]);
    let resolved = eventually("tag v1", || scene.resolved("v1"));
    assert_eq!(resolved, format!("{}/{IMAGES}@{one}", scene.world.host()));
    for left in [&foreign, &unsigned] {
        // Whether it was looked at before or after the version was taken.
        let (code, message) = scene.refused(left);
        assert!(matches!(code.as_str(), "refused" | "conflict"), "{code}: {message}");
    }
    // The text that was no JSON has an answer, too; all else is gone.
    eventually("end of the garbage", || (scene.tags().len() == 4).then_some(()));
    assert!(scene.tags().iter().all(|tag| tag.starts_with("a-")), "{:?}", scene.tags());
    let text = Left { submission: Digest::of(b"not JSON"), ..left };
    assert_eq!(scene.refused(&text).0, "malformed");
}

#[test]
fn where_nothing_can_be_removed_everything_is_looked_at_once() {
    for refusal in [None, Some(405)] {
        let scene = Scene::new(&["pull", "push"]);
        if let Some(status) = refusal {
            scene.middle.set(Rule::new("DELETE", &format!("/{INBOX}/")), Effect::Status(status));
        }
        let documents = scene.next("v1", &Digest::of(b"one"));
        let left = scene.leave(&documents);
        scene.accepted(&left);
        let answered = format!("a-{}", left.submission.hex());
        scene.looks(2);
        let tags = scene.tags();
        assert!(tags.len() == 2 && tags.contains(&left.tag) && tags.contains(&answered), "{tags:?}");
        let read = scene.requests("GET", &format!("/manifests/{}", left.tag));
        let tried = scene.requests("DELETE", "/manifests/");
        assert!(tried >= 1);
        scene.looks(3);
        assert_eq!(scene.requests("GET", &format!("/manifests/{}", left.tag)), read);
        assert_eq!(scene.requests("DELETE", "/manifests/"), tried);
        assert_eq!(scene.newest(), documents[ROLE]);
    }
}

#[test]
fn a_registry_that_refuses_artifact_types_is_given_what_it_takes() {
    let scene = Scene::new(&["pull", "push", "delete"]);
    let put = Rule::new("PUT", &format!("/{INBOX}/manifests/s-"));
    scene.middle.set(put.times(1), Effect::Status(400));
    let documents = scene.next("v1", &Digest::of(b"one"));
    let left = scene.leave(&documents);
    assert_eq!(left.digest, inbox::submission(&Submission::json(&documents), Profile::Oci10).digest);
    scene.accepted(&left);
    assert_eq!(scene.newest(), documents[ROLE]);
}

/// The timestamp in the registry.
fn timestamp(scene: &Scene) -> Document<Timestamp> {
    let trust = scene.world.trust().parse().unwrap();
    let client = scene.client(READER);
    let answer = scene.runtime.block_on(client.manifest(&trust, LATEST, MAX_MANIFEST as u64, None)).unwrap();
    let ManifestAnswer::Found(manifest) = answer else { panic!("{answer:?}") };
    let listing = Listing::parse(&manifest.bytes).unwrap();
    Document::parse("timestamp", listing.timestamp().unwrap().data.as_ref().unwrap()).unwrap()
}
