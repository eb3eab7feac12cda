//! Several roots and many references, over a real registry client: the verdicts, and what they cost in requests.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::Duration;

use chrono::TimeDelta;
use common::{
    Publisher, TEAM,
    several::{LATEST, Several},
};
use plimsoll::{
    registry::{Credentials, Registry, RegistryError, RegistryOptions},
    state::{Place, State, StateError, StateKey},
    verify::{Context, LocalFault, Mode, Options, Part, Verification, verify, verify_all},
};
use plimsoll_core::{
    oci::{Digest, Reference},
    policy::Verdict,
};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;
const NEWER: &[u8] = br#"{"schemaVersion":2,"config":{},"layers":[],"x":1}"#;
const BOTH: &str = r#"require = { all = ["a", "b"] }"#;
const EITHER: &str = r#"require = { any = ["a", "b"] }"#;

async fn all(context: &Context, references: &[String]) -> Vec<Verification> {
    let references: Vec<Reference> = references.iter().map(|text| text.parse().unwrap()).collect();
    let all = verify_all(context, &references, Mode::Verify, &Options::default()).await.unwrap();
    all.into_iter().map(Result::unwrap).collect()
}

fn verdicts(all: &[Verification]) -> Vec<Verdict> {
    all.iter().map(|v| v.verdict).collect()
}

#[tokio::test]
async fn many_references_cost_one_refresh_for_each_root_and_one_request_for_each_tag() {
    let mut world = Several::new(3, MANIFEST);
    for tag in 0..50 {
        for root in 0..3 {
            world.publishers[root].vouch(&format!("acme/app:t{tag}"), MANIFEST);
        }
        world.push(&format!("t{tag}"), MANIFEST);
    }
    (0..3).for_each(|root| world.publish(root));
    let context = world.scope(r#"require = { threshold = 2, of = ["a", "b", "c"] }"#);
    // Each of them twice.
    let references: Vec<String> = (0..100).map(|n| world.reference(&format!("t{}", n / 2))).collect();
    for first in [true, false] {
        let verified = all(&context, &references).await;
        assert!(verified.iter().all(|v| v.verdict == Verdict::Verified), "{:?}", verdicts(&verified));
        let asked: Vec<&str> = verified.iter().map(|v| v.reference.as_str()).collect();
        assert_eq!(asked, references);
        let (roots, mut heads) = world.requests();
        for lines in roots {
            assert_eq!(lines.iter().filter(|line| *line == LATEST).count(), 1, "{lines:?}");
            // The first time the roles are fetched, each once.
            assert_eq!(lines.len(), if first { 2 } else { 1 }, "{lines:?}");
        }
        heads.sort();
        let mut wanted: Vec<String> =
            (0..50).map(|tag| format!("HEAD /v2/acme/app/manifests/t{tag}")).collect();
        wanted.sort();
        assert_eq!(heads, wanted);
    }
}

#[tokio::test]
async fn each_reference_has_its_own_verdict_whatever_becomes_of_the_others() {
    let mut world = Several::new(3, MANIFEST);
    world.vouch(0, "moved", MANIFEST);
    world.push("moved", NEWER);
    world.vouch(0, "gone", MANIFEST);
    world.hosts[2].fail_with(Some(503));
    let context = world.context(
        r#"
        [[scope]]
        match = "IMAGES/acme/**"
        require = { all = ["a"] }
        [[scope]]
        match = "IMAGES/acme/app:c*"
        require = { all = ["c"] }
        [[scope]]
        match = "IMAGES/acme/denied"
        action = "deny"
        reason = "retired"
        "#,
    );
    let mut references: Vec<String> =
        ["moved", "v1", "gone", "absent", "c1"].iter().map(|tag| world.reference(tag)).collect();
    references.push(format!("{}/acme/denied:v1", world.images.address));
    references.push("elsewhere.example/x:v1".to_owned());
    let found = all(&context, &references).await;
    use Verdict::*;
    assert_eq!(verdicts(&found), [Mismatch, Verified, NoSuchTag, Absent, Unreachable, PolicyDeny, NoPolicy]);
    let drift: Vec<Option<bool>> =
        found.iter().map(|v| v.registry.as_ref().and_then(|registry| registry.drift)).collect();
    assert_eq!(drift, [Some(true), Some(false), Some(true), None, None, None, None]);
    assert_eq!(Verdict::gravest(verdicts(&found)), Some(Mismatch));
}

/// T28: what one root says is never put together with what another one says.
#[tokio::test]
async fn roots_that_signed_different_content_are_a_conflict() {
    let mut world = Several::new(2, MANIFEST);
    world.vouch(1, "v1", NEWER);
    for rule in [BOTH, EITHER] {
        let context = world.scope(rule);
        for pushed in [MANIFEST, NEWER] {
            world.push("v1", pushed);
            let v = world.ask(&context, "v1").await;
            assert_eq!((v.verdict, v.resolved), (Verdict::Conflict, None), "{rule}");
        }
    }
    world.vouch(0, "v1", NEWER);
    assert_eq!(world.verdict(&world.scope(BOTH), "v1").await, Verdict::Verified);
}

/// T70: a root's metadata at the address of another one convinces nobody, though that one is pinned too.
#[tokio::test]
async fn roots_do_not_vouch_for_each_other() {
    let mut world = Several::new(2, MANIFEST);
    let context = world.scope(EITHER);
    assert_eq!(world.verdict(&context, "v1").await, Verdict::Verified);
    let Several { publishers, hosts, .. } = &mut world;
    publishers[1].publish(&hosts[0]);
    assert_eq!(world.verdict(&context, "v1").await, Verdict::Untrusted);
}

/// T20, T45, P8: what fails ends with its own verdict although another root alone would be enough.
#[tokio::test]
async fn one_root_that_fails_is_not_made_up_for_by_another() {
    let mut world = Several::new(2, MANIFEST);
    let context = world.scope(EITHER);
    let latest = "acme/trust/manifests/latest";
    let old = world.hosts[1].file(latest);
    world.publish(1);
    assert_eq!(world.verdict(&context, "v1").await, Verdict::Verified);
    let new = world.hosts[1].file(latest);
    for (status, verdict) in [(500, Verdict::Unreachable), (404, Verdict::Unreachable), (403, Verdict::Auth)]
    {
        world.hosts[1].fail_with(Some(status));
        assert_eq!(world.verdict(&context, "v1").await, verdict, "{status}");
    }
    world.hosts[1].fail_with(None);
    world.hosts[1].put(latest, &old);
    assert_eq!(world.verdict(&context, "v1").await, Verdict::Rollback);
    // Where the policy has it optional, it is told of, and does not count.
    let optional = world.scope(&format!("optional = [\"b\"]\n{EITHER}"));
    let v = world.ask(&optional, "v1").await;
    assert_eq!(
        (v.verdict, v.roots[1].status, v.roots[1].part),
        (Verdict::Verified, Verdict::Rollback, Part::Optional)
    );
    assert!(
        v.warnings[0].starts_with("root b, which is optional, does not vouch: ROLLBACK"),
        "{:?}",
        v.warnings
    );
    world.hosts[1].put(latest, &new);
    // One that runs out, while the other is fresh.
    world.clock.advance(TimeDelta::hours(20));
    world.publishers[0].now += TimeDelta::hours(20);
    world.publish(0);
    world.clock.advance(TimeDelta::hours(5));
    assert_eq!(world.verdict(&context, "v1").await, Verdict::Expired);
}

/// T28: that two names are of one trust repository may show only once both were refreshed: then nothing is judged by both.
#[tokio::test]
async fn a_chain_that_leads_from_one_pinned_root_to_another_has_one_voice() {
    let mut world = Several::new(2, MANIFEST);
    let first = world.publishers[0].become_foreign_and_rotate();
    world.publish(0);
    std::fs::write(world.dir.path().join("old.json"), &first).unwrap();
    let context = world.context(&format!(
        r#"
        [root.old]
        file = "old.json"
        sha256 = "{}"
        repository = "{}/acme/trust"
        [[scope]]
        match = "IMAGES/acme/**"
        require = {{ threshold = 2, of = ["a", "old", "b"] }}
        [[scope]]
        match = "IMAGES/acme/app:v*"
        require = {{ all = ["old"] }}
        fallback = {{ any = ["a"] }}
        on-absent = "fallback"
        [[scope]]
        match = "IMAGES/acme/app:f*"
        require = {{ any = ["b"] }}
        fallback = {{ any = ["a", "old"] }}
        on-absent = "fallback"
        "#,
        Digest::of(&first).hex(),
        world.hosts[0].address
    ));
    let references: Vec<Reference> =
        ["v1", "x", "f1"].iter().map(|tag| world.reference(tag).parse().unwrap()).collect();
    for _ in 0..2 {
        let found = verify_all(&context, &references, Mode::Verify, &Options::default()).await.unwrap();
        assert!(found[0].as_ref().is_ok_and(|v| v.verdict == Verdict::Verified), "{:?}", found[0]);
        for found in &found[1..] {
            let fault = found.as_ref().unwrap_err();
            let LocalFault::SameRepository { root, other, .. } = &**fault else { panic!("{fault:?}") };
            assert_eq!((other.as_str(), root.as_str(), fault.exit_code()), ("a", "old", 2));
        }
    }
}

/// P3: a revocation by one root of several.
#[tokio::test]
async fn any_root_may_take_a_digest_back() {
    let mut world = Several::new(2, MANIFEST);
    let context = world.scope(EITHER);
    world.publishers[1].revoke(MANIFEST, "its builder was broken into");
    world.publish(1);
    let v = world.ask(&context, "v1").await;
    assert_eq!((v.verdict, v.revocation.unwrap().root.as_str()), (Verdict::Revoked, "b"));
    let veto = world.scope(&format!("veto = [\"a\"]\n{EITHER}"));
    assert_eq!(world.verdict(&veto, "v1").await, Verdict::Verified);
}

/// P3: what a root took back, and this machine has seen, holds while nothing can be had of it: neither who withholds its
/// metadata nor who serves something older or somebody else's makes it forgotten, be the root optional or not.
#[tokio::test]
async fn what_was_taken_back_once_is_not_forgotten_while_the_root_fails() {
    use Verdict::*;
    const LATEST: &str = "acme/trust/manifests/latest";
    for whole_scope in [false, true] {
        let mut world = Several::new(2, MANIFEST);
        let optional = world.scope(&format!("optional = [\"b\"]\n{EITHER}"));
        assert_eq!(world.verdict(&optional, "v1").await, Verified);
        let old = world.hosts[1].file(LATEST);
        match whole_scope {
            true => world.publishers[1].revoke_scope("the team is gone"),
            false => world.publishers[1].revoke(MANIFEST, "its builder was broken into"),
        }
        world.publish(1);
        assert_eq!(world.verdict(&optional, "v1").await, Revoked);
        let new = world.hosts[1].file(LATEST);
        let rules = [
            ("optional", optional),
            ("required", world.scope(EITHER)),
            ("both", world.scope(BOTH)),
            (
                "fallback",
                world.scope(
                    "require = { all = [\"a\"] }\nfallback = { all = [\"b\"] }\non-absent = \"fallback\"",
                ),
            ),
        ];
        let other = Publisher::of(&"e".repeat(32), world.publishers[1].now);
        for trouble in ["503", "403", "401", "404", "older", "another's", "expired"] {
            match trouble {
                "older" => world.hosts[1].put(LATEST, &old),
                "another's" => {
                    let host = common::Host::start();
                    let mut other =
                        Publisher::of(&other.targets.common.identity.as_ref().unwrap().trust, other.now);
                    other.publish(&host);
                    world.hosts[1].put(LATEST, &host.file(LATEST));
                }
                "expired" => {
                    world.clock.advance(TimeDelta::hours(25));
                    world.publishers[0].now += TimeDelta::hours(25);
                    world.publish(0);
                }
                status => world.hosts[1].fail_with(Some(status.parse().unwrap())),
            }
            for (name, context) in &rules {
                let v = world.ask(context, "v1").await;
                assert_eq!((v.verdict, v.resolved), (Revoked, None), "{trouble} {name} {whole_scope}");
                let b = v.roots.iter().find(|root| root.name == "b").unwrap();
                assert_ne!(b.status, Revoked, "{trouble}: it could not say so now");
                assert_eq!(v.revocation.unwrap().root, "b");
                assert!(v.reason.contains("as seen before"), "{}", v.reason);
                // Whatever else was signed, what is presented was taken back.
                let absent = world.ask(context, "v9").await.verdict;
                assert_eq!(absent == Revoked, whole_scope, "{trouble} {name}: {absent}");
            }
            // Where it has no veto, its word was its own.
            let veto = world.scope(&format!("veto = [\"a\"]\noptional = [\"b\"]\n{EITHER}"));
            assert_eq!(world.verdict(&veto, "v1").await, Verified, "{trouble}");
            world.hosts[1].fail_with(None);
            world.hosts[1].put(LATEST, &new);
        }
    }
}

/// P3: an older document that was seen holds where a newer one is known to exist and is withheld; once that was read, it says
/// what is so.
#[tokio::test]
async fn a_withheld_newer_role_makes_nothing_forgotten() {
    use Verdict::*;
    let mut world = Several::new(2, MANIFEST);
    let context = world.scope(&format!("optional = [\"b\"]\n{EITHER}"));
    world.publishers[1].revoke(MANIFEST, "its builder was broken into");
    world.publish(1);
    assert_eq!(world.verdict(&context, "v1").await, Revoked);
    world.publishers[1].reinstate(MANIFEST);
    world.publishers[1].vouch("acme/app:v1", MANIFEST);
    world.publish(1);
    let blob = world.publishers[1].team_blob();
    let bytes = world.hosts[1].file(&blob);
    world.hosts[1].remove(&blob);
    let v = world.ask(&context, "v1").await;
    assert_eq!((v.verdict, v.roots[1].status), (Revoked, Unreachable));
    world.hosts[1].put(&blob, &bytes);
    assert_eq!(world.verdict(&context, "v1").await, Verified);
    world.hosts[1].fail_with(Some(503));
    assert_eq!(world.verdict(&context, "v1").await, Verified, "it was reinstated, and that was seen");
}

/// P3: keys that are replaced undo no revocation that was seen: what they signed last does, once it is seen. A torn copy of the
/// newest root changes nothing of that.
#[tokio::test]
async fn a_revocation_that_was_seen_outlives_the_keys_that_signed_it() {
    use Verdict::*;
    for rotated in ["team", "owner", "owner, and root.json is torn"] {
        let mut world = Several::new(2, MANIFEST);
        let pinned = world.scope(&format!("optional = [\"b\"]\n{BOTH}"));
        let b = &mut world.publishers[1];
        if rotated == "team" {
            b.revoke(MANIFEST, "broken into");
        } else {
            b.revoke_above(MANIFEST, "broken into");
        }
        world.publish(1);
        assert_eq!(world.verdict(&pinned, "v1").await, Revoked, "{rotated}");
        if rotated == "team" {
            world.publishers[1].replace_team_key();
        } else {
            // Too much to be inlined in the manifest.
            (0..100).for_each(|n| world.publishers[1].revoke_above(&[n], "broken into"));
            world.publishers[1].replace_owner_key();
        }
        world.publish(1);
        let blob = match rotated {
            "team" => world.publishers[1].team_blob(),
            _ => world.publishers[1].targets_blob(),
        };
        if rotated.ends_with("torn") {
            assert_eq!(world.verdict(&pinned, "v1").await, Revoked, "{rotated}");
            let root = pinned.home.state().join(format!("{:032x}/whole/root.json", 1));
            assert!(root.exists());
            std::fs::write(root, b"{").unwrap();
            world.hosts[1].fail_with(Some(503));
        }
        let bytes = world.hosts[1].file(&blob);
        world.hosts[1].remove(&blob);
        for _ in 0..2 {
            let v = world.ask(&pinned, "v1").await;
            assert_eq!((v.verdict, v.roots[1].status), (Revoked, Unreachable), "{rotated}");
        }
        world.hosts[1].put(&blob, &bytes);
        world.hosts[1].fail_with(None);
        assert_eq!(world.verdict(&pinned, "v1").await, Revoked, "{rotated}");
        if rotated == "team" {
            world.publishers[1].reinstate(MANIFEST);
            world.publishers[1].vouch("acme/app:v1", MANIFEST);
            world.publish(1);
            assert_eq!(world.verdict(&pinned, "v1").await, Verified);
            world.hosts[1].fail_with(Some(503));
            assert_eq!(world.verdict(&pinned, "v1").await, Verified, "it was reinstated, and that was seen");
        }
    }
}

/// P3: whom nobody delegates to any more takes nothing back, once that was seen.
#[tokio::test]
async fn what_a_removed_role_took_back_counts_until_its_removal_was_seen() {
    use Verdict::*;
    let mut world = Several::new(2, MANIFEST);
    let context = world.scope(&format!("optional = [\"b\"]\n{EITHER}"));
    world.publishers[1].revoke(MANIFEST, "its builder was broken into");
    world.publish(1);
    assert_eq!(world.verdict(&context, "v1").await, Revoked);
    // Too much to be inlined in the manifest.
    (0..100).for_each(|n| world.publishers[1].revoke_above(&[n], "broken into"));
    world.publishers[1].drop_team();
    world.publish(1);
    let blob = world.publishers[1].targets_blob();
    let bytes = world.hosts[1].file(&blob);
    world.hosts[1].remove(&blob);
    assert_eq!(world.verdict(&context, "v1").await, Revoked);
    world.hosts[1].put(&blob, &bytes);
    assert_eq!(world.verdict(&context, "v1").await, Verified);
    world.hosts[1].fail_with(Some(503));
    assert_eq!(world.verdict(&context, "v1").await, Verified, "the removal was seen");
}

/// P3: nor does a fault of this machine with one root hide what another one took back. Where nothing was, it is no verdict.
#[tokio::test]
async fn a_fault_with_one_root_hides_no_revocation_by_another() {
    use Verdict::*;
    let mut world = Several::new(2, MANIFEST);
    let rules = [
        BOTH.to_owned(),
        format!("optional = [\"a\"]\n{BOTH}"),
        "require = { all = [\"a\"] }\nfallback = { all = [\"b\"] }\non-absent = \"fallback\"".to_owned(),
    ];
    let lose = || std::fs::remove_file(world.dir.path().join(format!("state/{:032x}/whole/memory.json", 0)));
    let context = world.scope(BOTH);
    assert_eq!(world.verdict(&context, "v1").await, Verified);
    lose().unwrap();
    let memory_is_lost = |found: &Result<Verification, std::sync::Arc<LocalFault>>| matches!(found, Err(fault) if matches!(**fault, LocalFault::State(StateError::MemoryLost { .. })));
    let references: Vec<Reference> = vec![world.reference("v1").parse().unwrap()];
    for rule in &rules {
        let found = verify_all(&world.scope(rule), &references, Mode::Verify, &Options::default()).await;
        assert!(memory_is_lost(&found.as_ref().unwrap()[0]), "{rule}: {found:?}");
    }
    world.publishers[1].revoke(MANIFEST, "its builder was broken into");
    world.publish(1);
    for rule in &rules {
        let v = world.ask(&world.scope(rule), "v1").await;
        assert_eq!((v.verdict, v.revocation.unwrap().root.as_str()), (Revoked, "b"), "{rule}");
        assert!(v.warnings.iter().any(|warning| warning.contains("memory")), "{:?}", v.warnings);
        let other = vec![world.reference("v9").parse().unwrap()];
        let found = verify_all(&world.scope(rule), &other, Mode::Verify, &Options::default()).await.unwrap();
        assert!(memory_is_lost(&found[0]), "{rule}: {found:?}");
    }
}

/// P3, T48: nor does a registry that says nothing, or another process that waits for it, make anything forgotten.
#[tokio::test]
async fn what_was_taken_back_holds_when_there_is_no_time_to_ask() {
    let mut world = Several::new(2, MANIFEST);
    let context = world.scope(&format!("optional = [\"b\"]\n{EITHER}"));
    world.publishers[1].revoke(MANIFEST, "its builder was broken into");
    world.publish(1);
    assert_eq!(world.verdict(&context, "v1").await, Verdict::Revoked);
    let key = StateKey::of(&[], Some(&format!("{:032x}", 1)));
    let held = State::open(&Place::keyed(&context.home.state(), &key), Duration::ZERO).await.unwrap();
    let references = [world.reference("v1").parse().unwrap()];
    let options = Options { deadline: Duration::from_secs(1), parallel: 2 };
    let found = verify_all(&context, &references, Mode::Verify, &options).await.unwrap();
    let v = found[0].as_ref().unwrap();
    assert_eq!((v.verdict, v.roots[1].status), (Verdict::Revoked, Verdict::Unreachable));
    drop(held);
}

#[tokio::test]
async fn a_fallback_is_asked_on_fresh_proof_of_absence_only() {
    let mut world = Several::new(2, MANIFEST);
    world.vouch(1, "v2", NEWER);
    world.push("v2", NEWER);
    let context = world.scope(
        "veto = [\"a\"]\nrequire = { all = [\"a\"] }\nfallback = { all = [\"b\"] }\non-absent = \"fallback\"",
    );
    assert_eq!(world.verdict(&context, "v1").await, Verdict::Verified);
    assert_eq!(world.requests().0[1], [""; 0], "nobody asked the fallback");
    world.hosts[0].fail_with(Some(503));
    assert_eq!(world.verdict(&context, "v2").await, Verdict::Unreachable);
    assert_eq!(world.requests().0[1], [""; 0]);
    world.hosts[0].fail_with(None);
    let v = world.ask(&context, "v2").await;
    assert_eq!(v.verdict, Verdict::Verified);
    let said: Vec<(Part, Verdict, bool)> =
        v.roots.iter().map(|root| (root.part, root.status, root.vouches)).collect();
    assert_eq!(said, [(Part::Required, Verdict::Absent, false), (Part::Fallback, Verdict::Verified, true)]);
    // Together with others that need the same root: it is asked once.
    world.requests();
    let both = world.context(
        r#"
        [[scope]]
        match = "IMAGES/acme/**"
        require = { all = ["a"] }
        fallback = { all = ["b"] }
        on-absent = "fallback"
        [[scope]]
        match = "IMAGES/acme/app:v1"
        require = { all = ["b"] }
        "#,
    );
    let references = ["v1", "v2", "v3"].map(|tag| world.reference(tag));
    use Verdict::*;
    assert_eq!(verdicts(&all(&both, &references).await), [Verified, Verified, Absent]);
    assert_eq!(world.requests().0, [[LATEST], [LATEST]]);
    // What the required root took back, no fallback brings back.
    world.publishers[0].revoke(NEWER, "broken");
    world.publish(0);
    assert_eq!(world.verdict(&context, "v2").await, Revoked);
}

/// P3: a root that stands only in the fallback, and has a veto, is asked though the required ones vouch; what it takes back
/// holds, and that it fails is no leave to go without it.
#[tokio::test]
async fn a_veto_in_the_fallback_holds_though_nobody_needs_the_fallback() {
    let mut world = Several::new(2, MANIFEST);
    let rule = "require = { all = [\"a\"] }\nfallback = { all = [\"b\"] }\non-absent = \"fallback\"";
    let context = world.scope(rule);
    let v = world.ask(&context, "v1").await;
    assert_eq!((v.verdict, v.roots[1].part, v.roots[1].vouches), (Verdict::Verified, Part::Fallback, false));
    assert_eq!(world.requests().0[1].iter().filter(|line| *line == LATEST).count(), 1);
    world.hosts[1].fail_with(Some(503));
    assert_eq!(world.verdict(&context, "v1").await, Verdict::Unreachable);
    let any = rule.replace("fallback = { all", "fallback = { any");
    let optional = world.scope(&format!("optional = [\"b\"]\n{any}"));
    let v = world.ask(&optional, "v1").await;
    assert_eq!(v.verdict, Verdict::Verified);
    assert!(v.warnings[0].starts_with("root b, which is optional, does not vouch: UNREACHABLE"), "{v:?}");
    world.hosts[1].fail_with(None);
    world.publishers[1].revoke(MANIFEST, "its builder was broken into");
    world.publish(1);
    let v = world.ask(&context, "v1").await;
    assert_eq!((v.verdict, v.revocation.unwrap().root.as_str()), (Verdict::Revoked, "b"));
    let without = world.scope(&format!("veto = [\"a\"]\n{rule}"));
    assert_eq!(world.verdict(&without, "v1").await, Verdict::Verified);
}

/// A stale view is no fresh proof, and one root may be asked twice with two measures without locking itself out.
#[tokio::test]
async fn what_is_stale_is_used_as_the_scope_says() {
    let mut world = Several::new(2, MANIFEST);
    world.vouch(1, "v2", MANIFEST);
    world.push("v2", MANIFEST);
    let context = world.context(
        r#"
        [[scope]]
        match = "IMAGES/acme/**"
        require = { all = ["a"] }
        [[scope]]
        match = "IMAGES/acme/app:v*"
        max-staleness = "3d"
        require = { all = ["a"] }
        fallback = { all = ["b"] }
        on-absent = "fallback"
        veto = ["a"]
        "#,
    );
    world.vouch(0, "other", MANIFEST);
    world.clock.advance(TimeDelta::hours(26));
    let references = ["v1", "other", "v2"].map(|tag| world.reference(tag));
    world.requests();
    let found = all(&context, &references).await;
    use Verdict::*;
    assert_eq!(verdicts(&found), [Verified, Expired, Expired]);
    assert!(found[2].reason.contains("only a fresh one proves"), "{}", found[2].reason);
    assert!(found[0].roots[0].stale_by.is_some_and(|by| by > 7000), "{:?}", found[0].roots);
    let latest = |lines: &[String]| lines.iter().filter(|line| *line == LATEST).count();
    let (roots, _) = world.requests();
    assert_eq!((latest(&roots[0]), latest(&roots[1])), (2, 0), "once for each measure, and no fallback");
}

/// T91: what may be run is the signed digest at the place that was asked for, whatever name it is judged by.
#[tokio::test]
async fn a_mirror_is_judged_as_what_it_mirrors_and_run_from_where_it_is() {
    let world = Several::new(1, MANIFEST);
    let context = world.context(
        r#"
        [[scope]]
        match = "registry.example.com/acme/**"
        require = { all = ["a"] }
        [[remap]]
        from = "IMAGES"
        to = "registry.example.com"
        "#,
    );
    let v = world.ask(&context, "v1").await;
    assert_eq!(v.verdict, Verdict::Verified, "{v:?}");
    assert_eq!(v.identity, "registry.example.com/acme/app:v1");
    assert_eq!(v.reference, world.reference("v1"));
    let here = format!("{}/acme/app@{}", world.images.address, Digest::of(MANIFEST));
    assert_eq!(v.resolved, Some(here));
    assert_eq!(world.requests().1, ["HEAD /v2/acme/app/manifests/v1"]);
    world.push("v1", NEWER);
    assert_eq!(world.verdict(&context, "v1").await, Verdict::Mismatch);
}

/// A `map` that is wrong can be seen.
#[tokio::test]
async fn an_absence_names_what_the_root_was_asked_for() {
    let world = Several::new(2, MANIFEST);
    let scope = |require: &str, map: &str| {
        world.context(&format!("[[scope]]\nmatch = \"IMAGES/acme/**\"\nrequire = {require}\nmap = {map}\n"))
    };
    let v = world.ask(&scope("{ all = [\"a\"] }", "{ a = \"hub/**\" }"), "v1").await;
    assert_eq!(v.verdict, Verdict::Absent);
    assert!(v.reason.ends_with("acme/app:v1 (called hub/app:v1 in root a) is not in it"), "{}", v.reason);
    assert!(v.next.unwrap().starts_with("check the name, and `map` of the scope "));
    let v = world.ask(&scope("{ all = [\"a\", \"b\"] }", "{ b = \"hub/**\" }"), "v1").await;
    let says = "have signed acme/app:v1 (called hub/app:v1 in root b), by trust metadata";
    assert!(v.verdict == Verdict::Absent && v.reason.contains(says), "{}", v.reason);
    let v = world.ask(&scope("{ all = [\"a\"] }", "{ a = \"acme/**\" }"), "v9").await;
    assert!(v.reason.ends_with("and acme/app:v9 is not in it"), "{}", v.reason);
}

/// Which tags to use instead is told from what is signed; what was taken back is none of them.
#[tokio::test]
async fn tags_that_meet_a_constraint_are_named() {
    let mut world = Several::new(2, MANIFEST);
    for tag in ["v1.0.0", "v2.0.0", "v2.10.0", "v2.9.0", "latest"] {
        world.vouch(0, tag, tag.as_bytes());
    }
    world.vouch(0, "v3.0.0", NEWER);
    world.publishers[0].revoke(NEWER, "a hole");
    world.publish(0);
    let rule = |require: &str| format!("require = {require}\nconstraint = {{ tag = \">=2\" }}");
    let v = world.ask(&world.scope(&rule("{ all = [\"a\"] }")), "v1").await;
    assert_eq!(v.verdict, Verdict::PolicyDeny);
    assert_eq!(v.next.unwrap(), "use a tag that meets `>=2`; signed are v2.10.0, v2.9.0, v2.0.0");
    // Each of the roots must have signed it.
    world.vouch(1, "v2.9.0", b"v2.9.0");
    let v = world.ask(&world.scope(&rule("{ all = [\"a\", \"b\"] }")), "v1").await;
    assert_eq!(v.next.unwrap(), "use a tag that meets `>=2`; signed are v2.9.0");
}

#[tokio::test]
async fn a_root_may_know_a_name_by_another_one() {
    let world = Several::new(2, MANIFEST);
    world.images.put("imported/tool/manifests/v1", MANIFEST);
    let context = world.context(
        r#"
        [[scope]]
        match = "IMAGES/imported/tool"
        require = { all = ["a"] }
        map = { a = "acme/app" }
        "#,
    );
    let reference = format!("{}/imported/tool:v1", world.images.address);
    let v = all(&context, &[reference]).await.remove(0);
    assert_eq!(v.verdict, Verdict::Verified, "{v:?}");
    assert_eq!((v.name.as_str(), v.roots[0].target.as_str()), ("imported/tool:v1", "acme/app:v1"));
}

/// The page's order (docs/policy.md, "Deciding"): what the registry says is told before a line of the policy that is not
/// met, whether or not anything was ever taken back.
#[tokio::test]
async fn the_registrys_word_is_told_before_a_line_of_the_policy() {
    use Verdict::*;
    for line in [
        "constraint = { tag = \">=3\" }",
        "constraint = { custom-version = \">=3\" }",
        "max-signed-age = \"1s\"",
        "pin = { a = { role = \"targets--other\" } }",
    ] {
        for taken_back in [false, true] {
            let mut world = Several::new(1, MANIFEST);
            if taken_back {
                world.publishers[0].revoke(b"something else", "broken");
                world.publish(0);
            }
            world.clock.advance(TimeDelta::minutes(1));
            let context = world.scope(&format!("require = {{ all = [\"a\"] }}\n{line}"));
            assert_eq!(world.verdict(&context, "v1").await, PolicyDeny, "{line}");
            assert_eq!(world.requests().1, ["HEAD /v2/acme/app/manifests/v1"], "{line}");
            // What is signed is asked of the publisher alone.
            let reference = world.reference("v1").parse().unwrap();
            let resolved = verify(&context, &reference, Mode::Resolve).await.unwrap();
            assert_eq!((resolved.verdict, world.requests().1), (PolicyDeny, Vec::new()), "{line}");
            world.push("v1", NEWER);
            let v = world.ask(&context, "v1").await;
            assert_eq!((v.verdict, v.registry.unwrap().drift), (Mismatch, Some(true)), "{line}");
            world.images.remove("acme/app/manifests/v1");
            assert_eq!(world.verdict(&context, "v1").await, NoSuchTag, "{line}");
            for (status, verdict) in [(503, Unreachable), (403, Auth)] {
                world.images.fail_with(Some(status));
                assert_eq!(world.verdict(&context, "v1").await, verdict, "{line}");
            }
        }
    }
}

/// What is wrong on this machine with one host ends the references that need that host, and no other one.
#[tokio::test]
async fn a_local_fault_of_one_host_ends_only_what_needs_it() {
    let mut world = Several::new(2, MANIFEST);
    let other = common::Host::start();
    other.put("acme/app/manifests/v1", MANIFEST);
    other.fail_with(Some(401));
    let config = world.dir.path().join("config.json");
    let helpers = [&other, &world.hosts[1]].map(|host| format!("\"{}\": \"none-such\"", host.address));
    std::fs::write(&config, format!("{{\"credHelpers\": {{{}}}}}", helpers.join(", "))).unwrap();
    let credentials = Credentials::config_file(&config);
    world.registry = Registry::new(RegistryOptions { credentials, ..RegistryOptions::default() }).unwrap();
    let context = world.context(
        &r#"
        [[scope]]
        match = "IMAGES/acme/**"
        require = { all = ["a"] }
        [[scope]]
        match = "IMAGES/acme/app:b*"
        require = { any = ["a", "b"] }
        optional = ["b"]
        [[scope]]
        match = "OTHER/acme/**"
        require = { all = ["a"] }
        "#
        .replace("OTHER", &other.address),
    );
    let references: Vec<Reference> = [
        world.reference("v1"),
        world.reference("b1"),
        format!("{}/acme/app:v1", other.address),
        format!("{}/acme/app:absent", other.address),
        world.reference("absent"),
    ]
    .iter()
    .map(|text| text.parse().unwrap())
    .collect();
    world.hosts[1].fail_with(Some(401));
    let found = verify_all(&context, &references, Mode::Verify, &Options::default()).await.unwrap();
    let told: Vec<String> = found
        .iter()
        .map(|line| match line {
            Ok(v) => v.verdict.to_string(),
            Err(fault) => {
                let LocalFault::Registry(RegistryError::CredentialHelper { host, .. }) = &**fault else {
                    panic!("{fault:?}")
                };
                assert_eq!(fault.exit_code(), 2);
                host.clone()
            }
        })
        .collect();
    let (b, other) = (world.hosts[1].address.clone(), other.address.clone());
    assert_eq!(told, ["VERIFIED".to_owned(), b, other, "ABSENT".to_owned(), "ABSENT".to_owned()]);
    // By itself it is the fault as it is.
    let fault = verify(&context, &references[2], Mode::Verify).await.unwrap_err();
    assert!(matches!(fault, LocalFault::Registry(RegistryError::CredentialHelper { .. })), "{fault:?}");
    // So is trusted state that was damaged, of the one root.
    world.hosts[1].fail_with(None);
    verify(&context, &references[1], Mode::Verify).await.unwrap();
    let memory = context.home.state().join(format!("{:032x}/whole/memory.json", 1));
    std::fs::write(memory, "torn").unwrap();
    let found = verify_all(&context, &references[..2], Mode::Verify, &Options::default()).await.unwrap();
    assert!(found[0].as_ref().is_ok_and(|v| v.verdict == Verdict::Verified));
    let fault = found[1].as_ref().unwrap_err();
    assert!(matches!(&**fault, LocalFault::State(StateError::MemoryLost { .. })), "{fault:?}");
}

/// TAP 13: who holds the roles above cannot give a pinned name to other keys.
#[tokio::test]
async fn a_pin_holds_when_the_owner_exchanges_the_teams_key() {
    let mut world = Several::new(1, MANIFEST);
    let key = world.publishers[0].team_key_id();
    let pin =
        format!("require = {{ all = [\"a\"] }}\npin = {{ a = {{ role = \"{TEAM}\", keys = [\"{key}\"] }} }}");
    let context = world.scope(&pin);
    let v = world.ask(&context, "v1").await;
    assert_eq!(v.verdict, Verdict::Verified, "{v:?}");
    let signers: Vec<&str> = v.roots[0].roles[4].keys.iter().map(|key| key.0.as_str()).collect();
    assert_eq!(signers, [key.as_str()]);
    world.publishers[0].replace_team_key();
    world.publish(0);
    let v = world.ask(&context, "v1").await;
    assert_eq!(v.verdict, Verdict::PolicyDeny);
    assert!(v.reason.contains(&format!("{TEAM} of root a is not signed by the key {key}")), "{}", v.reason);
    let without = world.scope(r#"require = { all = ["a"] }"#);
    assert_eq!(world.verdict(&without, "v1").await, Verdict::Verified);
}

#[tokio::test]
async fn a_signed_version_is_held_to_the_constraint() {
    let mut world = Several::new(1, MANIFEST);
    let context = world.scope("require = { all = [\"a\"] }\nconstraint = { custom-version = \">=2\" }");
    assert_eq!(world.verdict(&context, "v1").await, Verdict::PolicyDeny);
    for (version, verdict) in [("2.0.1", Verdict::Verified), ("1.9.9", Verdict::PolicyDeny)] {
        world.publishers[0].set_version("acme/app:v1", version);
        world.publish(0);
        assert_eq!(world.verdict(&context, "v1").await, verdict, "{version}");
    }
}

#[tokio::test]
async fn a_listed_digest_is_allowed_without_asking_any_root() {
    let world = Several::new(1, MANIFEST);
    let context = world.scope(&format!(
        "action = \"allow-digest\"\ndigests = [\"{}\"]\nreason = \"not signed yet\"\nuntil = \"2030-01-01T00:00:00Z\"",
        Digest::of(NEWER)
    ));
    assert_eq!(world.verdict(&context, "v1").await, Verdict::PolicyDeny);
    world.push("v1", NEWER);
    let v = world.ask(&context, "v1").await;
    assert_eq!((v.verdict, v.resolved.is_some()), (Verdict::Verified, true));
    let (roots, heads) = world.requests();
    assert_eq!((roots[0].len(), heads.len()), (0, 2));
}

/// T48: the deadline is for all of it, and costs only those their verdict who needed what did not come.
#[tokio::test]
async fn a_registry_that_says_nothing_holds_up_only_those_who_need_it() {
    let mut world = Several::new(1, MANIFEST);
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = silent.local_addr().unwrap().to_string();
    // A second root whose registry takes connections and never answers.
    world.publishers.push(Publisher::of(&"f".repeat(32), world.publishers[0].now));
    world.hosts.push(common::Host::start());
    let context = world.context(
        r#"
        [[scope]]
        match = "IMAGES/acme/**"
        require = { all = ["a"] }
        [[scope]]
        match = "IMAGES/acme/app:b*"
        require = { all = ["b"] }
        [[scope]]
        match = "SILENT/acme/**"
        require = { all = ["a"] }
        "#
        .replace("SILENT", &address)
        .as_str(),
    );
    let policy = std::fs::read_to_string(context.home.policy()).unwrap();
    std::fs::write(context.home.policy(), policy.replace(&world.hosts[1].address, &address)).unwrap();
    let context = Context::load(context.home, context.registry, context.clock).unwrap();
    assert_eq!(world.verdict(&context, "v1").await, Verdict::Verified);
    let references: Vec<Reference> =
        [world.reference("v1"), world.reference("b1"), format!("{address}/acme/app:v1")]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
    let options = Options { deadline: Duration::from_secs(3), parallel: 2 };
    let found = verify_all(&context, &references, Mode::Verify, &options).await.unwrap();
    let found: Vec<Verification> = found.into_iter().map(Result::unwrap).collect();
    use Verdict::*;
    assert_eq!(verdicts(&found), [Verified, Unreachable, Unreachable]);
    for (v, root) in [(&found[1], Unreachable), (&found[2], Verified)] {
        assert!(v.reason.contains("before the deadline of 3 s"), "{}", v.reason);
        assert_eq!(v.roots[0].status, root);
    }
}
