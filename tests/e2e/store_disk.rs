//! The daemon's store on a disk that is full or read-only, and one that is damaged, with the real programs: no panic, no
//! hang, a clear word, and nothing lost that was acknowledged.
//!
//! Root writes through mode 0555, so the disks are real ones: small file systems, mounted where nobody else sees them.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod operator;
mod stage;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use operator::{Operator, copy, ends, listening, readyz};
use plimsoll_tests::{http, mounts::Mounts, process::run};
use stage::{plain, push};

/// Opening is given up after 30 s, twice at most; nothing else takes long.
const BOUNDED: Duration = Duration::from_secs(90);

/// The operator's data folder, a file system of its own. The daemon is stopped.
struct Disk {
    operator: Operator,
    mounts: Mounts,
}

impl Disk {
    fn new() -> Self {
        let mut operator = Operator::new();
        operator.kill();
        let (mounts, data) = (Mounts::new(), operator.data());
        mounts.shell("mount -t tmpfs -o mode=0700,size=24m none \"$0\"", &data);
        let inside = mounts.from_outside(&data);
        run(Command::new("cp").arg("-a").arg(data.join(".")).arg(inside), b"").ok();
        // Where it was there is nothing any more: only the mounted one can be meant.
        fs::remove_dir_all(data.join("store")).unwrap();
        Self { operator, mounts }
    }

    fn shell(&self, script: &str) {
        self.mounts.shell(script, &self.operator.data());
    }

    fn run(&self, line: &str) -> plimsoll_tests::process::Run {
        let run = run(&mut self.operator.command_under(&self.mounts.enter(), line), b"");
        plain(&run);
        run
    }

    /// Doctor says that the disk is wrong.
    fn finds(&self, line: &str, text: &str) {
        operator::Findings(self.run(line).expect_code(1).json()).has("wrong", "disk", text);
    }

    /// A daemon does not start, soon, and says why.
    fn refused_for(&self, why: &str) {
        let started = Instant::now();
        let refused = ends(&self.operator, &self.mounts.enter()).expect_code(1);
        plain(&refused);
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
        assert!(started.elapsed() < BOUNDED, "{:?}", started.elapsed());
    }
}

/// Waits until `/readyz` at `url` has `text`.
#[track_caller]
fn becomes(url: &str, text: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !readyz(url).contains(text) {
        assert!(Instant::now() < deadline, "no `{text}` in {}", readyz(url));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// P6, T88: a disk that fills up under a daemon. What was accepted before stays, nothing is said to be accepted that is not,
/// and with room again a restart goes on.
#[test]
fn a_disk_that_is_full_stops_the_daemon_and_loses_nothing() {
    let disk = Disk::new();
    let (operator, enter) = (&disk.operator, disk.mounts.enter());
    let (service, url) = listening(operator, &enter);
    becomes(&url, "ready: fresh");
    operator.publish("before");
    operator.verifies("before");
    disk.shell("cat /dev/zero > \"$0/filler\" || true");
    // There is room for some yet, where the store has its disk already; then it says that it failed.
    let mut late = Vec::new();
    for n in 0..150 {
        let tag = format!("late{n}");
        push(&format!("{}/acme/net-monitor:{tag}", operator.host), &tag);
        let line = format!("sign {}/acme/net-monitor:{tag}", operator.host);
        let signed = operator.desk.with_key(&line, "team");
        plain(&signed);
        if signed.code != 0 {
            break;
        }
        late.push(tag);
    }
    becomes(&url, "not ready");
    let said = readyz(&url);
    assert!(said.contains("ALARM") && said.contains("restart the daemon"), "{said}");
    assert_eq!(http::get(&format!("{url}/livez")).unwrap().status, 200);
    // Readers are still served what is there.
    operator.verifies("before");
    disk.finds("doctor -o json", "0 MiB free");
    assert!(!service.output().contains("panicked"), "{}", service.output());
    drop(service);

    disk.refused_for("No space left on device");
    disk.shell("rm \"$0/filler\"");
    let (service, url) = listening(operator, &enter);
    becomes(&url, "ready: fresh");
    operator.verifies("before");
    for tag in late.iter().take(1).chain(late.last()) {
        operator.verifies(tag);
    }
    operator.publish("after");
    operator.verifies("after");
    drop(service);
    disk.run("doctor").ok();
}

/// T88: a disk that is read-only when the daemon starts.
#[test]
fn a_disk_that_is_read_only_is_told_and_left_as_it_is() {
    let disk = Disk::new();
    disk.shell("mount -o remount,ro \"$0\"");
    let store = disk.mounts.from_outside(&disk.operator.store());
    let before = tree_of(&store);
    disk.refused_for("Read-only file system");
    disk.finds("doctor -o json", "read-only");
    assert_eq!(tree_of(&store), before);
    disk.shell("mount -o remount,rw \"$0\"");
    let (service, url) = listening(&disk.operator, &disk.mounts.enter());
    becomes(&url, "ready: fresh");
    disk.operator.publish("after");
    disk.operator.verifies("after");
    drop(service);
}

/// P6, T88: files of the store that were flipped, cut, emptied or removed. The daemon starts with all that was acknowledged,
/// or not at all; doctor says which, in bounded time, and a restore brings it back.
#[test]
fn a_damaged_store_is_refused_and_rebuilt() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 5] = [
        ("flipped", |bytes| {
            let length = bytes.len();
            bytes.iter_mut().skip(20).step_by((length / 50).max(1)).for_each(|byte| *byte ^= 0xff);
        }),
        ("cut in half", |bytes| bytes.truncate(bytes.len() / 2)),
        ("emptied", Vec::clear),
        ("zeroed", |bytes| bytes.fill(0)),
        ("cut by a little", |bytes| bytes.truncate(bytes.len().saturating_sub(100))),
    ];
    let mut operator = Operator::new();
    operator.publish("v2");
    operator.verifies("v2");
    operator.run("backup all.export acme").ok();
    operator.kill();
    let whole = operator.home.path().join("whole");
    copy(&operator.store(), &whole);
    let (mut refused, mut opened) = (0, 0);
    for file in ["sled/db", "sled/conf", "sled/snap", "marks"] {
        for (name, damage) in damages {
            fs::remove_dir_all(operator.store()).unwrap();
            copy(&whole, &operator.store());
            if !spoil(&operator.store(), file, damage) {
                continue;
            }
            let before = tree_of(&operator.store());
            let started = Instant::now();
            let doctor = operator.run("doctor -o json");
            assert!(started.elapsed() < BOUNDED, "{file} {name}");
            assert_eq!(tree_of(&operator.store()), before, "{file} {name}: doctor changed it");
            // Made to end: another daemon has the address, so that it opens the store and says so.
            let taken = std::net::TcpListener::bind(listen(&operator)).unwrap();
            let run = ends(&operator, &[]).expect_code(1);
            drop(taken);
            plain(&run);
            if run.stderr.contains("cannot listen on") {
                opened += 1;
                continue;
            }
            refused += 1;
            assert!(
                run.stderr.contains("is damaged") || run.stderr.contains("cannot open"),
                "{file} {name}: {}",
                run.stderr
            );
            operator::Findings(doctor.expect_code(1).json()).has("wrong", "store", "");
            if refused == 1 {
                let line = "restore acme --from all.export";
                let blocked = operator.run(line).expect_code(1);
                assert!(blocked.stderr.contains("move it away"), "{}", blocked.stderr);
                fs::rename(operator.store(), operator.data().join("store.damaged")).unwrap();
                operator.run(line).ok();
                operator.doctor(0).well();
                operator.start();
                operator.verifies("v2");
                operator.publish("v3");
                operator.verifies("v3");
                operator.kill();
                // Again from where the damage was: later ones are of the same store.
                fs::remove_dir_all(operator.data().join("store.damaged")).unwrap();
            }
        }
    }
    assert!(refused >= 4, "only {refused} damages were noticed, {opened} did no harm");
}

fn listen(operator: &Operator) -> String {
    let text = fs::read_to_string(operator.home.path().join("plimsolld.toml")).unwrap();
    let at = text.find("listen = \"").unwrap() + 10;
    text[at..at + text[at..].find('"').unwrap()].to_owned()
}

/// Damages every file in `store` whose path begins with `file`. False if it has none.
fn spoil(store: &Path, file: &str, damage: fn(&mut Vec<u8>)) -> bool {
    let mut any = false;
    for path in tree_of(store).into_keys() {
        if path.is_file() && path.strip_prefix(store).unwrap().to_str().unwrap().starts_with(file) {
            let mut bytes = fs::read(&path).unwrap();
            damage(&mut bytes);
            fs::write(&path, bytes).unwrap();
            any = true;
        }
    }
    any
}

/// Every file below `folder`, with its content.
fn tree_of(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut tree = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tree.extend(tree_of(&path));
        } else {
            tree.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    tree
}
