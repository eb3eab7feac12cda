//! Whole processes, warm, on loopback; wall clock, since waiting is what a user does.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use plimsoll_tests::{
    docker_registry::Registry,
    http,
    process::binary,
    world::{IMAGES, NAME, Site, TRUST, World},
};

use crate::table::{Row, Target, median};

const ROUNDS: usize = 100;
/// Python takes its time.
const PYTHON_ROUNDS: usize = 15;

pub(crate) fn rows(wants: &dyn Fn(&str) -> bool) -> Vec<Row> {
    const CURL: &str = "process: plimsoll resolve / curl with the same conditional request";
    const PYTHON: &str = "process: python-tuf's ngclient, the same update / plimsoll resolve";
    if !wants(CURL) && !wants(PYTHON) {
        return Vec::new();
    }
    let registry = Registry::open();
    let world = World::ready(Site::at(&registry.address()));
    world.push("v1", "for the bench\n");
    world.sign("v1").ok();
    let client = world.client("bench");
    client.run(&["resolve", &world.reference("v1")]).ok();

    let mut resolve = Command::new(binary("plimsoll"));
    resolve.env("HOME", client.home()).env("PLIMSOLL_HOME", client.home());
    resolve.args(["resolve", &world.reference("v1")]);

    let url = format!("http://{}/v2/{TRUST}/manifests/latest", world.host());
    let accept = "application/vnd.oci.image.manifest.v1+json";
    let now = http::request("GET", &url, &[("accept", accept)], b"").unwrap();
    let etag = now.header("etag").unwrap().to_owned();
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", &format!("accept: {accept}")]);
    curl.args(["-H", &format!("if-none-match: {etag}"), &url]);
    assert_eq!(curl.output().unwrap().stdout, b"304");

    let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let kept = tempfile::tempdir().unwrap();
    let base = world.daemon.url();
    let mut python = Command::new(tests.join("../.venv/bin/python"));
    python.arg("-I").arg(tests.join("peers/ngclient.py"));
    python.args([format!("{base}/tuf/{NAME}/metadata/"), format!("{base}/targets/")]);
    python.arg(world.owner().home().join("acme-root.json")).arg(format!("{IMAGES}:v1")).arg(kept.path());

    let mut rows = Vec::new();
    if wants(CURL) {
        let (ours, other) = compare(ROUNDS, &mut resolve, &mut curl);
        rows.push(Row { name: CURL, ours: ours.into(), other: other.into(), target: Target::AtMost(1.0) });
    }
    if wants(PYTHON) {
        let (ours, other) = compare(PYTHON_ROUNDS, &mut resolve, &mut python);
        rows.push(Row {
            name: PYTHON,
            ours: ours.into(),
            other: other.into(),
            target: Target::AtLeast(20.0),
        });
    }
    rows
}

/// The median wall clock of each of the two, taking turns.
fn compare(rounds: usize, ours: &mut Command, other: &mut Command) -> (Duration, Duration) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (x, y) = (timed(ours), timed(other));
        if round > 0 {
            a.push(x);
            b.push(y);
        }
    }
    (median(a), median(b))
}

fn timed(command: &mut Command) -> Duration {
    let start = Instant::now();
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}");
    start.elapsed()
}
