//! What a daemon with a hundred trust repositories takes while nobody publishes.

use std::{fs, thread, time::Duration};

use plimsoll::{
    clock::{Clock, SystemClock},
    publish::api::TrustInfo,
};
use plimsoll_tests::{docker_registry::Registry, process::Daemon};

use crate::{
    connection::{Connection, cpu_of},
    crowd::{Crowd, body},
    table::{Row, Target},
};

const TRUSTS: usize = 100;
const TEAMS: usize = 4;
/// Until what the start took is given back: threads that nothing uses end after 10 s.
const SETTLE: Duration = Duration::from_secs(20);
const IDLE: Duration = Duration::from_secs(60);

pub(crate) fn rows(wants: &dyn Fn(&str) -> bool) -> Vec<Row> {
    const RESIDENT: &str = "idle: memory of a daemon with 100 trust repositories / 30 MB";
    const CPU: &str = "idle: its CPU in a minute / a minute";
    if !wants(RESIDENT) && !wants(CPU) {
        return Vec::new();
    }
    let (registry, home) = (Registry::open(), tempfile::tempdir().unwrap());
    let mut config = "data = \"data\"\nlisten = \"127.0.0.1:0\"\n".to_owned();
    for n in 0..TRUSTS {
        config.push_str(&format!(
            "[[trust]]\nname = \"org{n}\"\nrepository = \"{}/org{n}/trust\"\n",
            registry.address()
        ));
    }
    let daemon = Daemon::start(home.path(), &config);
    make(&daemon);
    thread::sleep(SETTLE);
    let busy = resident(daemon.pid());
    assert_eq!(daemon.terminate(), 0);

    let daemon = Daemon::start(home.path(), &config);
    thread::sleep(SETTLE);
    let before = cpu_of(daemon.pid());
    thread::sleep(IDLE);
    let (used, resident) = (cpu_of(daemon.pid()) - before, resident(daemon.pid()));
    println!(
        "idle: {TRUSTS} trust repositories of {TEAMS} teams: {:.1} MB resident, {:.1} MB after their first publishes; {used:.0?} \
         of CPU in {IDLE:.0?}",
        mb(resident),
        mb(busy)
    );
    vec![
        Row { name: RESIDENT, ours: resident.into(), other: 30_000_000.into(), target: Target::AtMost(1.0) },
        Row { name: CPU, ours: used.into(), other: IDLE.into(), target: Target::AtMost(0.01) },
    ]
}

/// Makes every trust repository, and waits until the registry shows it.
fn make(daemon: &Daemon) {
    let mut connection = Connection::open(&daemon.address());
    let crowd = Crowd::new(TEAMS, SystemClock.now());
    for n in 0..TRUSTS {
        let trust = format!("/v1/trusts/org{n}");
        let (_, info) = connection.send("GET", &trust, b"");
        let info: TrustInfo = serde_json::from_slice(&info).unwrap();
        for documents in crowd.beginning(&info.online) {
            let (status, answer) =
                connection.send("POST", &format!("{trust}/submissions"), &body(&documents));
            assert_eq!(status, 202, "{}", String::from_utf8_lossy(&answer));
            let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
            let id = answer["id"].as_str().unwrap();
            let (_, answer) = connection.send("GET", &format!("{trust}/submissions/{id}?wait=20"), b"");
            let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
            assert_eq!(answer["state"], "published");
        }
    }
}

/// Memory of process `pid` that is in RAM, bytes.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
