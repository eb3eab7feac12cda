//! Verification over a real registry client: the verdicts, and what each costs in requests.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use common::{Host, Publisher, TEAM};
use plimsoll::{
    clock::{Clock, ManualClock},
    floor,
    home::Home,
    registry::{Credentials, Registry, RegistryOptions},
    state::StateError,
    trust::{self, Addition},
    verify::{Context, LocalFault, Mode, Verification, verify},
};
use plimsoll_core::{oci::Digest, policy::Verdict, tuf::Floor};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;
const NEWER: &[u8] = br#"{"schemaVersion":2,"config":{},"layers":[],"x":1}"#;

struct World {
    registry: Host,
    publisher: Publisher,
    clock: Arc<ManualClock>,
    context: Context,
    _dir: tempfile::TempDir,
}

/// Everything pinned, `acme/app:v1` signed, pushed and published.
fn world() -> World {
    let now = DateTime::<Utc>::from_timestamp(1_800_000_000, 0).unwrap();
    let (registry, mut publisher) = (Host::start(), Publisher::new(now));
    publisher.vouch("acme/app:v1", MANIFEST);
    publisher.publish(&registry);
    push(&registry, "v1", MANIFEST);
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path());
    let addition = Addition {
        name: "acme".to_owned(),
        repository: format!("{}/acme/trust", registry.address).parse().unwrap(),
        scopes: Vec::new(),
    };
    let root = &publisher.root;
    trust::add(&home, &addition, root, &Digest::of(root), dir.path(), now).unwrap();
    let clock = Arc::new(ManualClock::new(now + TimeDelta::minutes(5)));
    let options = RegistryOptions { credentials: Credentials::anonymous(), ..RegistryOptions::default() };
    let context = Context::load(home, Registry::new(options).unwrap(), clock.clone()).unwrap();
    World { registry, publisher, clock, context, _dir: dir }
}

fn push(registry: &Host, tag: &str, manifest: &[u8]) {
    registry.put(&format!("acme/app/manifests/{tag}"), manifest);
}

impl World {
    async fn ask(&self, name: &str, mode: Mode) -> Verification {
        let reference = format!("{}/{name}", self.registry.address).parse().unwrap();
        verify(&self.context, &reference, mode).await.unwrap()
    }

    async fn verdict(&self, name: &str) -> Verdict {
        self.ask(name, Mode::Verify).await.verdict
    }

    fn publish(&mut self) {
        self.publisher.publish(&self.registry);
    }
}

fn by_digest(manifest: &[u8]) -> String {
    format!("acme/app@{}", Digest::of(manifest))
}

#[tokio::test]
async fn with_nothing_changed_each_question_costs_one_request_and_a_tag_one_more() {
    let world = world();
    let v = world.ask("acme/app:v1", Mode::Verify).await;
    assert_eq!(v.verdict, Verdict::Verified, "{v:?}");
    assert_eq!(v.resolved, Some(format!("{}/{}", world.registry.address, by_digest(MANIFEST))));
    assert_eq!((v.presented, v.size), (Some(Digest::of(MANIFEST)), Some(MANIFEST.len() as u64)));
    let root = &v.roots[0];
    assert_eq!(root.path, ["targets", TEAM]);
    assert_eq!(root.age, Some(300));
    let roles: Vec<&str> = root.roles.iter().map(|role| role.role.as_str()).collect();
    assert_eq!(roles, ["root", "timestamp", "snapshot", "targets", TEAM]);

    world.registry.lines();
    let latest = "GET /v2/acme/trust/manifests/latest";
    for mode in [Mode::Resolve, Mode::Verify] {
        assert_eq!(world.ask(&by_digest(MANIFEST), mode).await.verdict, Verdict::Verified);
        assert_eq!(world.registry.lines(), [latest]);
    }
    assert_eq!(world.ask("acme/app:v1", Mode::Resolve).await.verdict, Verdict::Verified);
    assert_eq!(world.registry.lines(), [latest]);
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Verified);
    assert_eq!(world.registry.lines(), [latest, "HEAD /v2/acme/app/manifests/v1"]);
    // A digest beside the tag is what is presented.
    assert_eq!(world.verdict(&format!("acme/app:v1@{}", Digest::of(MANIFEST))).await, Verdict::Verified);
    assert_eq!(world.verdict(&format!("acme/app:v1@{}", Digest::of(NEWER))).await, Verdict::Mismatch);
    // The registry's tag is asked for all the same, to tell whether it drifted.
    let head = "HEAD /v2/acme/app/manifests/v1";
    assert_eq!(world.registry.lines(), [latest, head, latest, head]);
    let absent = world.ask("acme/app:v2", Mode::Verify).await;
    assert_eq!(absent.verdict, Verdict::Absent);
    assert_eq!(world.registry.lines(), [latest]);
    let root = &absent.roots[0];
    let roles: Vec<&str> = root.roles.iter().map(|role| role.role.as_str()).collect();
    assert_eq!(roles, ["root", "timestamp", "snapshot", "targets", TEAM], "what proves the absence");
    assert!(root.path.is_empty() && root.roles.iter().all(|role| !role.keys.is_empty()));
}

/// The digest is what will be pulled, so it decides; what the tag says is told.
#[tokio::test]
async fn drift_beside_a_digest_is_told_and_changes_no_verdict() {
    let world = world();
    let locked = format!("acme/app:v1@{}", Digest::of(MANIFEST));
    let ask = || world.ask(&locked, Mode::Verify);
    let v = ask().await;
    let registry = v.registry.unwrap();
    assert_eq!(
        (v.verdict, registry.digest, registry.drift),
        (Verdict::Verified, Some(Digest::of(MANIFEST)), Some(false))
    );
    assert!(v.warnings.is_empty(), "{:?}", v.warnings);

    push(&world.registry, "v1", NEWER);
    let v = ask().await;
    let registry = v.registry.unwrap();
    assert_eq!(
        (v.verdict, registry.digest, registry.drift),
        (Verdict::Verified, Some(Digest::of(NEWER)), Some(true))
    );
    assert_eq!(
        (v.presented, v.resolved),
        (Some(Digest::of(MANIFEST)), Some(format!("{}/{}", world.registry.address, by_digest(MANIFEST))))
    );
    assert!(
        v.warnings[0].starts_with(&format!("the registry's tag v1 points to {}", Digest::of(NEWER))),
        "{:?}",
        v.warnings
    );
    // What the registry hands out is no excuse for what is written.
    assert_eq!(world.verdict(&format!("acme/app:v1@{}", Digest::of(NEWER))).await, Verdict::Mismatch);

    world.registry.remove("acme/app/manifests/v1");
    let v = ask().await;
    let registry = v.registry.unwrap();
    assert_eq!((v.verdict, registry.digest, registry.drift), (Verdict::Verified, None, Some(true)));
    assert!(v.warnings[0].starts_with("the registry has no tag v1"), "{:?}", v.warnings);

    // `resolve` asks for no tag.
    world.registry.lines();
    let v = world.ask(&locked, Mode::Resolve).await;
    assert_eq!((v.verdict, v.registry.is_none(), v.warnings.len()), (Verdict::Verified, true, 0));
    assert_eq!(world.registry.lines(), ["GET /v2/acme/trust/manifests/latest"]);
}

/// What was verified before the refusal is told with it.
#[tokio::test]
async fn a_root_that_ran_out_tells_its_trust_id_and_the_roles_that_were_verified() {
    let world = world();
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Verified);
    world.clock.advance(TimeDelta::days(3));
    let v = world.ask("acme/app:v1", Mode::Verify).await;
    assert_eq!(v.verdict, Verdict::Expired);
    let root = &v.roots[0];
    assert_eq!(root.trust.as_deref(), Some(common::TRUST));
    let roles: Vec<(&str, u64)> = root.roles.iter().map(|role| (role.role.as_str(), role.version)).collect();
    assert_eq!(roles, [("root", 1), ("timestamp", 1), ("snapshot", 1)]);
    assert!(root.roles.iter().all(|role| role.keys.len() == 1 && role.threshold == 1));
    assert_eq!(root.timestamp_expires, Some(root.roles[1].expires));
    assert!(root.age.is_some() && root.fetched_at.is_none());
}

#[tokio::test]
async fn a_moved_tag_is_a_mismatch_and_a_deleted_one_is_no_such_tag() {
    let world = world();
    push(&world.registry, "v1", NEWER);
    let v = world.ask("acme/app:v1", Mode::Verify).await;
    assert_eq!((v.verdict, v.resolved), (Verdict::Mismatch, None));
    assert_eq!((v.digest, v.presented), (Some(Digest::of(MANIFEST)), Some(Digest::of(NEWER))));
    world.registry.remove("acme/app/manifests/v1");
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::NoSuchTag);
    // What the publisher means does not depend on it.
    assert_eq!(world.ask("acme/app:v1", Mode::Resolve).await.verdict, Verdict::Verified);
    // A reference without tag or digest means `latest`.
    let v = world.ask("acme/app", Mode::Verify).await;
    assert_eq!((v.verdict, v.name.as_str()), (Verdict::Absent, "acme/app:latest"));
}

/// P3.
#[tokio::test]
async fn a_revoked_digest_reads_revoked_by_tag_and_by_digest() {
    let mut world = world();
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Verified);
    world.publisher.revoke(MANIFEST, "the build was tampered with");
    world.publish();
    for mode in [Mode::Verify, Mode::Resolve] {
        for name in ["acme/app:v1", &by_digest(MANIFEST)] {
            let v = world.ask(name, mode).await;
            assert_eq!((v.verdict, v.resolved), (Verdict::Revoked, None), "{name} {mode:?}");
            assert_eq!(v.revocation.unwrap().reason, "the build was tampered with");
        }
    }
    // The tag is signed anew, but the registry still hands out what was revoked.
    world.publisher.vouch("acme/app:v1", NEWER);
    world.publish();
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Revoked);
    push(&world.registry, "v1", NEWER);
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Verified);
    // Absent, and the registry cannot say what it would hand out: absence was proven all the same.
    world.registry.remove("acme/app/manifests/v7");
    assert_eq!(world.verdict("acme/app:v7").await, Verdict::Absent);
}

/// P3: what the owner took back stays so, whatever becomes of the role below: the team's keys may be lost for good.
#[tokio::test]
async fn a_revocation_above_holds_when_the_role_below_fails() {
    for (role_below, otherwise) in
        [("expired", Verdict::Expired), ("withheld", Verdict::Unreachable), ("garbled", Verdict::Untrusted)]
    {
        let mut world = world();
        if role_below == "expired" {
            world.publisher.team.common.expires = world.publisher.now;
        }
        world.publisher.revoke_above(MANIFEST, "its builder was broken into");
        world.publish();
        let team = world.publisher.team_blob();
        match role_below {
            "withheld" => world.registry.remove(&team),
            "garbled" => world.registry.put(&team, b"{}"),
            _ => {}
        }
        for mode in [Mode::Verify, Mode::Resolve] {
            for name in ["acme/app:v1", &by_digest(MANIFEST)] {
                let v = world.ask(name, mode).await;
                assert_eq!((v.verdict, v.resolved), (Verdict::Revoked, None), "{role_below} {name} {mode:?}");
            }
        }
        // What was not revoked keeps the verdict of the failure.
        push(&world.registry, "v1", NEWER);
        for name in ["acme/app:v1", &by_digest(NEWER)] {
            assert_eq!(world.verdict(name).await, otherwise, "{role_below} {name}");
        }
    }
}

#[tokio::test]
async fn a_digest_that_no_tag_means_any_more_is_denied() {
    let mut world = world();
    assert_eq!(world.verdict(&by_digest(MANIFEST)).await, Verdict::Verified);
    world.publisher.vouch("acme/app:v1", NEWER);
    world.publish();
    assert_eq!(world.verdict(&by_digest(MANIFEST)).await, Verdict::PolicyDeny);
    assert_eq!(world.verdict(&by_digest(NEWER)).await, Verdict::Verified);
}

#[tokio::test]
async fn a_platform_is_accepted_by_its_digest_while_a_tag_means_its_index() {
    const PLATFORM: &[u8] = b"for one platform";
    let mut world = world();
    world.publisher.vouch_platform("acme/app:v1", MANIFEST, PLATFORM);
    world.publish();
    let v = world.ask(&by_digest(PLATFORM), Mode::Verify).await;
    assert_eq!((v.verdict, v.digest), (Verdict::Verified, Some(Digest::of(PLATFORM))));
    world.publisher.vouch("acme/app:v1", NEWER);
    world.publish();
    assert_eq!(world.verdict(&by_digest(PLATFORM)).await, Verdict::PolicyDeny);
    world.publisher.vouch("acme/app:v1", MANIFEST);
    world.publish();
    assert_eq!(world.verdict(&by_digest(PLATFORM)).await, Verdict::Verified);
    // A role above took the index back and knows nothing of its platforms.
    world.publisher.revoke_above(MANIFEST, "broken");
    world.publish();
    assert_eq!(world.verdict(&by_digest(PLATFORM)).await, Verdict::PolicyDeny);
}

#[tokio::test]
async fn freeze_rollback_and_outage_have_their_own_verdicts() {
    const LATEST: &str = "acme/trust/manifests/latest";
    let mut world = world();
    let old = world.registry.file(LATEST);
    world.publish();
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Verified);
    // P8: an outage proves nothing.
    for (status, expected) in [
        (500, Verdict::Unreachable),
        (429, Verdict::Unreachable),
        (404, Verdict::Unreachable),
        (401, Verdict::Auth),
        (403, Verdict::Auth),
    ] {
        world.registry.fail_with(Some(status));
        let v = world.ask("acme/app:v1", Mode::Verify).await;
        assert_eq!((v.verdict, v.resolved), (expected, None), "{status}");
        assert!(v.roots[0].error.is_some());
    }
    world.registry.fail_with(None);
    // P2: frozen until it runs out.
    world.clock.advance(TimeDelta::hours(25));
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Expired);
    assert_eq!(world.ask("acme/app:v1", Mode::Resolve).await.verdict, Verdict::Expired);
    world.clock.advance(-TimeDelta::hours(25));
    // P1: an older timestamp, with everything it names.
    let new = world.registry.file(LATEST);
    world.registry.put(LATEST, &old);
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Rollback);
    world.registry.put(LATEST, &new);
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Verified);
    // Another repository's metadata at the same place.
    Publisher::new(world.publisher.now).publish(&world.registry);
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Untrusted);
}

#[tokio::test]
async fn what_no_scope_covers_is_not_asked_for() {
    let world = world();
    let v = world.ask("other/app:v1", Mode::Verify).await;
    assert_eq!((v.verdict, v.scope), (Verdict::NoPolicy, None));
    let elsewhere = "r.io/acme/app:v1".parse().unwrap();
    assert_eq!(verify(&world.context, &elsewhere, Mode::Verify).await.unwrap().verdict, Verdict::NoPolicy);
    assert!(world.registry.lines().is_empty());
}

/// T87: a local fault is no verdict, and is found before anybody is asked.
#[tokio::test]
async fn a_pinned_root_that_was_changed_is_a_local_fault() {
    let world = world();
    std::fs::write(world.context.home.roots().join("acme-root.json"), b"{}").unwrap();
    let reference = format!("{}/acme/app:v1", world.registry.address).parse().unwrap();
    let fault = verify(&world.context, &reference, Mode::Verify).await.unwrap_err();
    assert!(matches!(fault, LocalFault::Trust(_)), "{fault:?}");
    assert_eq!(fault.exit_code(), 2);
    assert!(world.registry.lines().is_empty());
}

/// T20: the warning does not go away because the registry says that nothing changed.
#[tokio::test]
async fn equivocation_is_told_every_time() {
    let mut world = world();
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Verified);
    // The same versions, signed again with another content.
    world.publisher.version -= 1;
    world.publisher.timestamp_life += TimeDelta::seconds(1);
    let latest = "acme/trust/manifests/latest";
    let good = world.registry.file(latest);
    world.publish();
    for _ in 0..2 {
        let v = world.ask("acme/app:v1", Mode::Verify).await;
        assert_eq!((v.verdict, v.warnings.len()), (Verdict::Verified, 1), "{v:?}");
    }
    world.registry.put(latest, &good);
    let v = world.ask("acme/app:v1", Mode::Verify).await;
    assert_eq!((v.verdict, v.warnings.len()), (Verdict::Verified, 0), "{v:?}");
}

/// T20, T28: after a round that was cut off, "not modified" since the round before it is an answer about something older
/// than what is held.
#[tokio::test]
async fn an_unfinished_round_is_not_ended_by_not_modified() {
    let mut world = world();
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Verified);
    let latest = "acme/trust/manifests/latest";
    let old = world.registry.file(latest);
    world.publish();
    let new = world.registry.file(latest);
    // The new timestamp is inside the manifest and is taken; then the registry fails, and shows what it had before.
    let mut broken: serde_json::Value = serde_json::from_slice(&new).unwrap();
    for layer in broken["layers"].as_array_mut().unwrap() {
        if layer["annotations"]["tuf.io/filename"] == "2.snapshot.json" {
            layer.as_object_mut().unwrap().remove("data");
            let blob = format!("acme/trust/blobs/{}", layer["digest"].as_str().unwrap());
            world.registry.remove(&blob);
        }
    }
    world.registry.put(latest, broken.to_string().as_bytes());
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Unreachable);
    world.registry.put(latest, &old);
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Rollback);
    world.registry.put(latest, &new);
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Verified);
}

/// A clock that is a year ahead each time that it is read.
struct Racing(ManualClock);

impl Clock for Racing {
    fn now(&self) -> DateTime<Utc> {
        let now = self.0.now();
        self.0.advance(TimeDelta::days(365));
        now
    }

    fn monotonic(&self) -> std::time::Duration {
        self.0.monotonic()
    }
}

/// T15: one update has one time, that of its start (TUF 1.0.34, 5.1), however long it takes and however many roles.
#[tokio::test]
async fn an_update_is_judged_by_the_time_at_which_it_began() {
    let mut world = world();
    world.context.clock = Arc::new(Racing(ManualClock::new(world.clock.now())));
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Verified);
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Expired);
}

/// What is refused by the word of a floor alone is not said to have been seen here.
#[tokio::test]
async fn a_refusal_by_a_floor_names_the_floor() {
    let mut world = world();
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Verified);
    let file = world.context.home.policy().with_file_name("high.json");
    let held = floor::of_state(&world.context.home, "acme", world.clock.now()).await.unwrap();
    let hold = |world: &mut World, change: &dyn Fn(&mut Floor)| {
        let mut floor = held.clone();
        change(&mut floor);
        floor::write(&floor, &file).unwrap();
        world.context.floors = floor::read_all(&world.context.home, std::slice::from_ref(&file)).unwrap();
    };
    let says = format!("the floor {} says was seen", file.display());
    type Change = fn(&mut Floor);
    let changes: [(Change, Verdict); 3] = [
        (|floor| floor.timestamp.version = 99, Verdict::Rollback),
        (|floor| _ = floor.roles.insert("gone".to_owned(), floor.root), Verdict::Rollback),
        (|floor| floor.timestamp.digest = Digest::of(b"another"), Verdict::Untrusted),
    ];
    for (change, verdict) in changes {
        hold(&mut world, &change);
        let v = world.ask("acme/app:v1", Mode::Verify).await;
        assert_eq!(v.verdict, verdict, "{}", v.reason);
        assert!(v.reason.contains(&says), "{}", v.reason);
        assert!(!v.reason.contains("this machine") && !v.reason.contains("seen before"), "{}", v.reason);
    }
    hold(&mut world, &|floor| floor.as_of += TimeDelta::hours(2));
    let reference = format!("{}/acme/app:v1", world.registry.address).parse().unwrap();
    let fault = verify(&world.context, &reference, Mode::Verify).await.unwrap_err();
    assert!(matches!(fault, LocalFault::State(StateError::ClockBehindFloor { .. })), "{fault:?}");
    assert!(fault.to_string().contains(&format!("the floor {} is as of", file.display())), "{fault}");
    hold(&mut world, &|_| ());
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Verified);
}

/// What a floor holds was there when its timestamp was signed, though the time is remembered in steps of ten minutes.
#[tokio::test]
async fn a_floor_is_not_as_of_a_time_before_its_timestamp() {
    let mut world = world();
    let begin = world.publisher.now;
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Verified);
    world.clock.advance(TimeDelta::minutes(8));
    world.publisher.now += TimeDelta::minutes(9);
    world.publish();
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Verified);
    for (now, as_of) in [(13, 9), (9, 9), (7, 7), (1, 5)] {
        let floor =
            floor::of_state(&world.context.home, "acme", begin + TimeDelta::minutes(now)).await.unwrap();
        assert_eq!(
            (floor.timestamp.version, floor.as_of - begin),
            (2, TimeDelta::minutes(as_of)),
            "at {now}"
        );
    }
}

/// T15: expired metadata does not become fresh again because the clock is set back.
#[tokio::test]
async fn a_clock_that_is_set_back_is_a_local_fault() {
    let mut world = world();
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Verified);
    world.clock.advance(TimeDelta::hours(23));
    world.publisher.now += TimeDelta::hours(23);
    world.publish();
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Verified);
    world.clock.advance(TimeDelta::hours(48));
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Expired);
    world.clock.advance(-TimeDelta::hours(50));
    let reference = format!("{}/acme/app:v1", world.registry.address).parse().unwrap();
    let fault = verify(&world.context, &reference, Mode::Verify).await.unwrap_err();
    assert!(matches!(fault, LocalFault::State(StateError::ClockBehind { .. })), "{fault:?}");
    assert_eq!(fault.exit_code(), 1);
    // A correction of minutes is none of our business.
    world.clock.advance(TimeDelta::minutes(90));
    assert_eq!(world.verdict("acme/app:v1").await, Verdict::Verified);
}
