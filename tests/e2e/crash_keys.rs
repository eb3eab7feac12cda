//! The online keys are replaced, and the daemon is killed: at random moments around the root that names the next ones, and
//! before each single change of a file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use plimsoll::{
    keys::Signer,
    publish::{
        api::OnlineKeys,
        author::{self, RootEdit},
    },
};
use plimsoll_core::tuf::Root;
use plimsoll_tests::process::{self, Service, binary};

use crate::crash_scene::{Dice, End, FollowingClient, Scene, Wrong, median_and_longest, rounds, tell, until};

const TEAMS: usize = 4;
/// One usable pair, and nothing beside it.
const SETTLED: [&str; 2] = ["snapshot.key", "timestamp.key"];

type Documents = BTreeMap<String, Vec<u8>>;

impl Scene {
    /// The next pair, made now if none waits.
    fn rotate(&self) -> OnlineKeys {
        let run = process::run(&mut self.daemon_command(&["key", "rotate", "acme", "-o", "json"]), b"").ok();
        serde_json::from_value(run.json()["next"].clone()).unwrap()
    }

    fn daemon_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("plimsolld"));
        command.args(arguments).arg("--config").arg(self.home.path().join("plimsolld.toml"));
        command.current_dir(self.home.path());
        command
    }

    /// The next root, which names `online`.
    fn naming(&self, online: &OnlineKeys) -> Documents {
        let mut root: Root = self.newest("root").signed;
        root.common.version += 1;
        let edit = RootEdit { online: Some(online.clone()), ..RootEdit::default() };
        author::edit_root(&mut root, &edit).unwrap();
        let root = author::sign(&root, &[&self.owner as &dyn Signer]).unwrap();
        BTreeMap::from([("root".to_owned(), root)])
    }

    /// The root is sent again, as its owner would who got no answer. Then there is one pair and it is `next`, in the
    /// folder, in what the daemon tells and in what the registry shows.
    fn converges_to(&self, next: &OnlineKeys, documents: &Documents) {
        self.publish(documents);
        until("the folder of the keys is settled", || self.key_files() == SETTLED);
        let info = self.info().unwrap();
        assert_eq!((&info.online, &info.online_next, &info.alarm), (next, &None, &None));
        let root: Root = self.newest("root").signed;
        let (_, timestamp, snapshot) = self.latest().unwrap();
        for (role, key, signatures) in [
            ("timestamp", &next.timestamp, &timestamp.signatures),
            ("snapshot", &next.snapshot, &snapshot.signatures),
        ] {
            assert_eq!(root.roles[role].keyids, [key.id()]);
            assert!(signatures.iter().all(|signature| signature.keyid == key.id()), "{role}: {signatures:?}");
        }
    }

    /// A folder that a kill left behind, in a word.
    fn state_of_keys(&self) -> &'static str {
        let files = self.key_files();
        let has = |name: &str| files.iter().any(|file| file == name);
        match (has("next"), has("taken")) {
            (true, false) => "waiting",
            (false, true) => "taken",
            (false, false) => "settled",
            (true, true) => "both",
        }
    }
}

/// P1, P6: whatever the moment, one pair is usable afterwards, and clients follow.
#[test]
fn kills_around_a_rotation_of_the_online_keys_leave_one_usable_pair() {
    let freshness = "timestamp-validity = \"1h\"\ntimestamp-interval = \"1s\"\n";
    let (scene, daemon) = Scene::new(TEAMS, freshness);
    let (rounds, mut dice) = (rounds(30).div_ceil(2), Dice::new());
    let (mut ready, mut found) = (Vec::new(), BTreeMap::<&str, usize>::new());
    let (warm, slept) = (FollowingClient::new(), FollowingClient::new());
    slept.find(&scene, 0).unwrap();
    let daemon = thread::scope(|scope| {
        let (scene, mut daemon) = (&scene, daemon);
        let _end = End(scene);
        for at in 0..TEAMS {
            scope.spawn(move || scene.publish_without_end(at, at % 2 == 0));
        }
        scope.spawn(|| scene.watch_files());
        scope.spawn(|| scene.watch_registry());
        let warm = &warm;
        scope.spawn(move || scene.follow(warm));

        let mut used = BTreeSet::new();
        for _ in 0..rounds {
            let next = scene.rotate();
            assert!(used.insert(next.timestamp.id()), "a pair that was used before");
            let documents = scene.naming(&next);
            let sending = scope.spawn({
                let documents = documents.clone();
                move || scene.insist(&documents)
            });
            // A commit and the push of it take about as long.
            thread::sleep(dice.pause(150));
            scene.watch.hear(&daemon.kill());
            *found.entry(scene.state_of_keys()).or_default() += 1;
            if dice.roll(2) == 0 {
                scene.start_for(Duration::from_millis(1) + dice.pause(300));
                *found.entry(scene.state_of_keys()).or_default() += 1;
            }
            let started = Instant::now();
            daemon = scene.start();
            ready.push(started.elapsed());
            scene.daemon_is_not_behind_the_registry();
            assert!(sending.join().unwrap().is_some());
            scene.converges_to(&next, &documents);
        }
        daemon
    });
    // The last publishes, and clients that start now, looked all the time, or slept since the first root.
    let acknowledged = scene.acknowledged.lock().unwrap().clone();
    scene.are_kept(&acknowledged);
    let version = |client: &FollowingClient| client.find(&scene, 0).unwrap();
    let team = crate::crash_scene::role(0);
    until("the last publish is published", || version(&warm) == scene.info().unwrap().heads[&team]);
    assert_eq!(version(&slept), version(&warm));
    assert_eq!(version(&FollowingClient::new()), version(&warm));
    scene.watch.hear(&daemon.output());
    let (median, longest) = median_and_longest(&ready);
    tell(&format!(
        "kill -9 around a rotation of the online keys: {rounds} rounds, seed {}; the keys were found {found:?}; {} lost, \
         {} versions went back, {} versions with two contents; ready again after {median:.2} s (median), {longest:.2} s \
         (longest)",
        dice.seed,
        scene.watch.count(Wrong::Lost),
        scene.watch.count(Wrong::WentBack),
        scene.watch.count(Wrong::TwoContents),
    ));
    scene.watch.assert_nothing_was_wrong();
    assert_eq!(daemon.terminate(), 0);
}

/// The folder of the store's marks, of which there is one.
const MARKS: &str = "store/marks";

/// Each change of a file in a rotation: the call, what it is called with in the data folder, and what a kill before it
/// leaves of the keys.
const CHANGES: [(&str, &str, &str); 6] = [
    ("/^rename", "keys/acme/next", "waiting"),
    // Claimed.
    ("fsync", "keys/acme", "taken"),
    // Committed, and not yet acknowledged.
    ("pwrite64", MARKS, "taken"),
    // In the registry, and recorded.
    ("/^rename", "keys/acme/taken/timestamp.key", "taken"),
    ("/^rename", "keys/acme/taken/snapshot.key", "taken"),
    ("/^(unlink|rmdir)", "keys/acme/taken", "taken"),
];

/// P1, P6: the same before each change of a file, one after the other, so that no moment is left out.
#[test]
fn a_kill_before_each_change_of_a_file_in_a_rotation_leaves_one_usable_pair() {
    // Long, so that nothing but the rotation changes files.
    let (scene, mut daemon) = Scene::new(1, "timestamp-validity = \"10h\"\ntimestamp-interval = \"4h\"\n");
    let client = FollowingClient::new();
    for (calls, path, left) in CHANGES {
        let next = scene.rotate();
        let documents = scene.naming(&next);
        scene.watch.hear(&daemon.kill());
        scene.rotate_until(calls, path, &documents);
        assert_eq!(scene.state_of_keys(), left, "before {calls} of {path}");
        daemon = scene.start();
        scene.converges_to(&next, &documents);
        client.find(&scene, 0).unwrap();
        FollowingClient::new().find(&scene, 0).unwrap();
    }
    scene.watch.hear(&daemon.output());
    scene.watch.assert_nothing_was_wrong();
    assert_eq!(daemon.terminate(), 0);
}

impl Scene {
    /// Runs the daemon, killed before it calls any of `calls` with `path`, and sends it the root until then.
    fn rotate_until(&self, calls: &str, path: &str, documents: &Documents) {
        let mut command = Command::new("strace");
        // `-D`: the daemon is the child here.
        command.args([
            "-D",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &format!("inject={calls}:signal=KILL"),
            "-P",
        ]);
        let mut full = self.home.path().join("data").join(path);
        if path == MARKS {
            full = fs::read_dir(&full).unwrap().next().unwrap().unwrap().path();
        }
        command.arg(full);
        command.arg(binary("plimsolld")).args(["serve", "--config"]);
        command.arg(self.home.path().join("plimsolld.toml")).current_dir(self.home.path());
        let service = Service::start(&mut command);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !service.has_ended() {
            let accepted = self.submit(documents);
            assert!(Instant::now() < deadline, "no {calls} of {path}; {accepted:?}\n{}", service.output());
            thread::sleep(Duration::from_millis(20));
        }
        self.watch.hear(&service.output());
    }
}

/// The kinds of calls that change a folder.
const CALLS: [&str; 4] = ["/^mkdir", "/^rename", "/^f(data)?sync", "/^(unlink|rmdir)"];
const PAIR: [&str; 2] = ["snapshot.key", "timestamp.key"];
const BOTH: [&str; 3] = ["next", "snapshot.key", "timestamp.key"];

/// `plimsolld key …`; with `kill`, killed before the nth call of this kind.
fn key(data: &Path, arguments: &[&str], kill: Option<(&str, usize)>) -> process::Run {
    let program = binary("plimsolld");
    let mut command = Command::new(if kill.is_some() { Path::new("strace") } else { &program });
    if let Some((calls, nth)) = kill {
        let inject = format!("inject={calls}:signal=KILL:when={nth}");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &inject]).arg(&program);
    }
    command.arg("key").args(arguments).arg("--data").arg(data).env_remove("PLIMSOLLD_CONFIG");
    process::run(&mut command, b"")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs `killed`, killed before each of its steps, each time after `before`, and `after` afterwards; then there must be one
/// of `left` in the folder of the keys and no other folder beside it. Returns how many kills there were.
fn is_killed(before: &[&[&str]], killed: &[&str], after: &[&str], left: &[&[&str]]) -> usize {
    let mut kills = 0;
    for calls in CALLS {
        for nth in 1..20 {
            let home = tempfile::tempdir().unwrap();
            let data = home.path().join("data");
            before.iter().for_each(|arguments| drop(key(&data, arguments, None).ok()));
            if key(&data, killed, Some((calls, nth))).code == 0 {
                break;
            }
            kills += 1;
            key(&data, after, None).ok();
            let folder = data.join("keys");
            let found = names(&folder.join("main"));
            assert!(left.iter().any(|left| found == *left), "{killed:?} before {calls} {nth}: {found:?}");
            assert_eq!(names(&folder), ["main"], "{killed:?} before {calls} {nth}");
        }
    }
    kills
}

/// What a kill leaves of a pair that was being made was shown to nobody, and what it leaves of one that was being discarded is
/// to be gone: the next command removes both.
#[test]
fn a_kill_before_each_step_of_a_key_command_leaves_nothing_that_the_next_does_not_remove() {
    let (show, rotate, discard) =
        (&["show", "main"][..], &["rotate", "main"][..], &["rotate", "main", "--discard"][..]);
    let kills = [
        is_killed(&[], show, show, &[&PAIR]),
        is_killed(&[show], rotate, rotate, &[&BOTH]),
        is_killed(&[show], rotate, discard, &[&PAIR]),
        is_killed(&[show, rotate], discard, discard, &[&PAIR]),
        is_killed(&[show, rotate], discard, rotate, &[&BOTH]),
        is_killed(&[show, rotate], discard, show, &[&PAIR, &BOTH]),
    ];
    tell(&format!("kill -9 before each step of `plimsolld key`: {kills:?} kills"));
    assert!(kills.iter().all(|kills| *kills > 2), "{kills:?}");
}
