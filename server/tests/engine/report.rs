//! What the operator is told about a trust repository.

use chrono::TimeDelta;
use plimsoll::{keys::Signer, publish::api::RefusalReason};
use plimsoll_server::pipeline::report::{Lag, Report, RoleReport};

use super::front::Fault;
use super::world::{World, eventually, publish, submit, until};

fn role<'a>(report: &'a Report, name: &str) -> &'a RoleReport {
    report.tree.roles.iter().find(|role| role.name == name).unwrap_or_else(|| panic!("no {name}"))
}

#[tokio::test]
async fn the_report_has_the_tree_and_what_happened() {
    let world = World::new().await;
    let engine = world.engine().await;
    eventually("it waits for its owner", &engine, |health| health.ready).await;
    let report = engine.report().await;
    assert!(report.tree.roles.is_empty() && report.stored.is_none() && report.served.is_none());
    assert_eq!((report.trust_id, report.last_success, report.unread), (None, None, None));

    publish(&engine, world.init()).await;
    publish(&engine, world.teams(3)).await;
    let refusal = submit(&engine, world.teams(2)).await.unwrap_err();
    let report = engine.report().await;

    let names: Vec<_> = report.tree.roles.iter().map(|role| role.name.as_str()).collect();
    let teams = ["targets--r0", "targets--r1", "targets--r2"];
    assert_eq!(names, [&["root", "timestamp", "snapshot", "targets"], &teams[..]].concat());
    let team = role(&report, "targets--r1");
    assert_eq!((team.scope.as_str(), team.threshold, team.key_count, team.depth()), ("acme/r1", 1, 1, 1));
    assert_eq!(team.keys[0].id, world.team.key_id());
    let document = team.document.unwrap();
    assert_eq!(document.version, 1);
    assert_eq!(document.expires, world.born + TimeDelta::days(90) - TimeDelta::seconds(1));
    assert_eq!(document.life(), 90 * 86400 - 1);
    assert_eq!(role(&report, "targets").document.unwrap().version, 2);
    assert_eq!(role(&report, "targets").scope, "acme/**");
    assert!(role(&report, "root").document.unwrap().left(world.now()) > 0);

    let stored = report.stored.unwrap();
    let served = report.served.unwrap();
    assert_eq!((stored.version, served.version), (2, 2));
    assert_eq!((stored.signed, served.signed), (Some(world.born), Some(world.born)));
    assert_eq!(served.expires, world.born + TimeDelta::seconds(600));
    assert_eq!(report.lag, Lag { versions: 0, seconds: 0 });
    assert_eq!((report.counts.accepted, report.commits.count, report.counts.pushes), (2, 2, 2));
    assert_eq!(report.visible.count, 2);
    let reason = serde_json::to_value(refusal.reason.unwrap_or(RefusalReason::Other)).unwrap();
    let reason = reason.as_str().filter(|_| refusal.reason.is_some()).unwrap_or("conflict");
    assert_eq!(report.counts.refused[reason], 1, "{:?}", report.counts);
    assert_eq!(report.refusals.last().unwrap().message, refusal.message);
    let published = report.publishes.last().unwrap();
    assert_eq!((published.role_count, published.timestamp_version), (4, 2));
    assert_eq!(report.points.last().unwrap().seen, Some(world.born));
    until("the success is noted", || async { engine.report().await.last_success == Some(world.born) }).await;
    // A head that stays costs nothing: the same tree is given out.
    let (one, two) = (engine.report().await, engine.report().await);
    assert!(std::sync::Arc::ptr_eq(&one.tree, &two.tree));
    serde_json::to_value(&one).unwrap();
    engine.stop().await;
}

#[tokio::test]
async fn what_the_registry_lacks_is_told_with_its_age() {
    let world = World::new().await;
    let engine = world.engine().await;
    publish(&engine, world.init()).await;
    world.front.fail(Some(Fault::All(503)));
    submit(&engine, world.vouch("acme/app:v1", "one")).await.unwrap();
    until("a push fails", || async { engine.report().await.counts.pushes_failed > 0 }).await;
    world.clock.advance(TimeDelta::seconds(90));
    let report = engine.report().await;
    assert!(report.lag.versions >= 1, "{:?}", report.lag);
    assert!(report.lag.seconds >= 90, "{:?}", report.lag);
    assert_eq!(report.points.last().unwrap().seen, None);
    engine.stop().await;

    // Another process knows as much from the store alone.
    world.clock.advance(TimeDelta::seconds(10));
    let engine = world.engine().await;
    let report = engine.report().await;
    assert!(report.lag.versions >= 1 && report.lag.seconds >= 10, "{:?}", report.lag);
    assert_eq!(report.points[0].timestamp_version, report.served.unwrap().version);
    assert_eq!(report.tree.roles.len(), 4);
    engine.stop().await;
}
