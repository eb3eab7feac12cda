//! Promises P1, P6 and P7 against `kill -9` at random moments: the real daemon in front of Debian's docker-registry, while
//! sixteen teams publish at once, and while the owner replaces its online keys.
//!
//! `PLIMSOLL_KILL_ROUNDS` says how often it is killed, `PLIMSOLL_KILL_SEED` when. What was counted is printed.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod crash_keys;
mod crash_scene;
mod stage;

use std::{
    collections::BTreeMap,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use crash_scene::{Dice, End, FollowingClient, Scene, Wrong, median_and_longest, role, rounds, tell, until};

const TEAMS: usize = 16;
/// What operators are told.
const READY: Duration = Duration::from_secs(2);

/// So many publishes are looked for after each kill.
const NEWEST: usize = 500;

/// P1, P6, P7: nothing acknowledged is lost, no version goes back, none has two contents, and it is ready again.
#[test]
fn kills_at_random_moments_under_sixteen_publishers_lose_nothing() {
    let freshness = "timestamp-validity = \"1h\"\ntimestamp-interval = \"1s\"\n";
    let (scene, daemon) = Scene::new(TEAMS, freshness);
    let (rounds, mut dice) = (rounds(30), Dice::new());
    let (mut ready, mut twice, mut kept) = (Vec::new(), 0, 0);
    let client = FollowingClient::new();
    let daemon = thread::scope(|scope| {
        let (scene, mut daemon) = (&scene, daemon);
        let _end = End(scene);
        for at in 0..TEAMS {
            scope.spawn(move || scene.publish_without_end(at, at % 2 == 0));
        }
        scope.spawn(|| scene.watch_files());
        scope.spawn(|| scene.watch_registry());
        let client = &client;
        scope.spawn(move || scene.follow(client));

        let acknowledged = || scene.acknowledged.lock().unwrap().clone();
        for _ in 0..rounds {
            // The moment is what matters here, not an event. Some time is needed to publish anything.
            let longest = if dice.roll(3) == 0 { 2500 } else { 900 };
            thread::sleep(dice.pause(longest));
            scene.watch.hear(&daemon.kill());
            if dice.roll(4) == 0 {
                scene.start_for(Duration::from_millis(1) + dice.pause(300));
                twice += 1;
            }
            let started = Instant::now();
            daemon = scene.start();
            ready.push(started.elapsed());
            scene.daemon_is_not_behind_the_registry();
            let so_far = acknowledged();
            // Those that the kill was closest to. All of them are looked for at the end: while this goes on, more come.
            scene.are_kept(&so_far[so_far.len().saturating_sub(NEWEST).max(kept)..]);
            kept = so_far.len();
        }
        // So that the last kill is followed by work, too.
        until("publishing after the last kill", || acknowledged().len() > kept + TEAMS);
        daemon
    });

    let acknowledged = scene.acknowledged.lock().unwrap().clone();
    let mut last = BTreeMap::new();
    for one in &acknowledged {
        last.insert(one.role.clone(), one.version);
    }
    scene.are_kept(&acknowledged);
    until("everything that was accepted is published", || {
        let (_, _, snapshot) = scene.latest().unwrap();
        let listed = |role: &str| snapshot.signed.meta[&format!("{role}.json")].version;
        last.iter().all(|(role, version)| listed(role) >= *version)
    });
    let cold = FollowingClient::new();
    for at in 0..TEAMS {
        let head = scene.info().unwrap().heads[&role(at)];
        for client in [&client, &cold] {
            // A team without one acknowledged version would test nothing.
            let found = client.find(&scene, at).unwrap();
            assert!(found == head && found >= last[&role(at)], "{}: {found}, {head}, {last:?}", role(at));
        }
    }
    scene.watch.hear(&daemon.output());
    let (median, longest) = median_and_longest(&ready);
    let published = acknowledged.iter().filter(|one| one.published).count();
    tell(&format!(
        "kill -9 under {TEAMS} publishers: {rounds} rounds (in {twice} killed again while it started), seed {}; \
         {} publishes acknowledged as accepted, {published} of them as published too; {} versions of roles seen; \
         {} lost, {} versions went back, {} versions with two contents; ready again after {median:.2} s (median), \
         {longest:.2} s (longest), {} of {rounds} later than {} s; the registry answered 500 to {} reads of a tag",
        dice.seed,
        acknowledged.len() - published,
        scene.watch.versions(),
        scene.watch.count(Wrong::Lost),
        scene.watch.count(Wrong::WentBack),
        scene.watch.count(Wrong::TwoContents),
        ready.iter().filter(|time| **time > READY).count(),
        READY.as_secs(),
        scene.disturbed.load(Ordering::Relaxed),
    ));
    scene.watch.assert_nothing_was_wrong();
    assert!(published > 0);
    assert_eq!(daemon.terminate(), 0);
}
