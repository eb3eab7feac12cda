//! Many references in one run of `plimsoll verify`, as a ratio to as many bare HEADs at the same concurrency.
//!
//! `cargo build --release --bins && cargo bench -p plimsoll-tests --bench verify_bulk`, with `-- --check` as the others. It
//! prints the most memory that the process held, too.

#![allow(clippy::print_stdout, reason = "a bench prints")]
#![allow(clippy::unwrap_used, reason = "a bench: a panic is its way to fail")]

#[path = "../../client/tests/common/mod.rs"]
mod common;
mod table;

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::several::Several;
use plimsoll::{
    clock::{Clock, SystemClock},
    registry::{Credentials, Registry as Client, RegistryOptions},
};
use plimsoll_core::oci::RepositoryAddress;
use plimsoll_tests::{docker_registry::Registry, http, process::binary};
use table::{Row, Target, median};
use tokio::task::JoinSet;

const REFERENCES: usize = 500;
const PARALLEL: usize = 16;
const ROUNDS: usize = 15;
/// Bytes that the process may hold.
const MEMORY: u64 = 60 << 20;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn main() {
    table::run(&[rows]);
}

fn rows(wants: &dyn Fn(&str) -> bool) -> Vec<Row> {
    const OURS: &str = "verify of 500 references under 3 roots / 500 HEADs by our client";
    const CURL: &str = "verify of 500 references under 3 roots / 500 HEADs by curl";
    if !wants(OURS) && !wants(CURL) {
        return Vec::new();
    }
    let registry = Registry::open();
    let image = image_in(&registry);
    let mut world = Several::at(SystemClock.now(), 3, &image);
    let (mut list, mut config) = (String::new(), String::new());
    for n in 0..REFERENCES {
        let url = format!("http://{}/v2/acme/app/manifests/t{n}", registry.address());
        let put = http::request("PUT", &url, &[("content-type", MANIFEST)], &image).unwrap();
        assert_eq!(put.status, 201, "{}", put.text());
        for publisher in &mut world.publishers {
            publisher.vouch(&format!("acme/app:t{n}"), &image);
        }
        writeln!(list, "{}/acme/app:t{n}", registry.address()).unwrap();
        writeln!(
            config,
            "url = \"{url}\"\nhead\nheader = \"accept: {MANIFEST}\"\noutput = \"/dev/null\"\nnext"
        )
        .unwrap();
    }
    (0..3).for_each(|root| world.publish(root));
    world.context(&format!(
        "[[scope]]\nmatch = \"{}/acme/**\"\nrequire = {{ all = [\"a\", \"b\", \"c\"] }}\n",
        registry.address()
    ));
    let home = world.dir.path();
    fs::write(home.join("list"), list).unwrap();
    fs::write(home.join("urls"), config.trim_end_matches("next\n")).unwrap();

    let mut verify = Command::new(binary("plimsoll"));
    verify.env("HOME", home).env("PLIMSOLL_HOME", home);
    verify.arg("verify").arg("-f").arg(home.join("list"));
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--fail", "--parallel", "--parallel-immediate", "--parallel-max"]);
    curl.arg(PARALLEL.to_string()).arg("-K").arg(home.join("urls"));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let repository: RepositoryAddress = format!("{}/acme/app", registry.address()).parse().unwrap();
    let (mut ours, mut heads, mut curls, mut most) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for round in 0..=ROUNDS {
        let (time, memory) = run(&mut verify, home);
        let bare = timed(|| runtime.block_on(bare_heads(&repository)));
        let peer = run(&mut curl, home).0;
        // The first round fetches the roles, and warms everything up.
        if round > 0 {
            ours.push(time);
            heads.push(bare);
            curls.push(peer);
        }
        most = most.max(memory);
    }
    println!("{:<66} {:>7.1} MB  <= {}", "  it held at most", most as f64 / f64::from(1 << 20), MEMORY >> 20);
    assert!(most <= MEMORY, "too much memory");
    let ours = median(ours);
    vec![
        Row { name: OURS, ours: ours.into(), other: median(heads).into(), target: Target::AtMost(1.5) },
        Row { name: CURL, ours: ours.into(), other: median(curls).into(), target: Target::AtMost(1.5) },
    ]
}

/// A manifest that the registry takes: with a config that is there.
fn image_in(registry: &Registry) -> Vec<u8> {
    let client = Client::new(options()).unwrap();
    let repository: RepositoryAddress = format!("{}/acme/app", registry.address()).parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let digest = runtime.block_on(client.put_blob(&repository, "{}".into())).unwrap();
    let config =
        format!(r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{digest}","size":2}}"#);
    format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[]}}"#).into_bytes()
}

fn options() -> RegistryOptions {
    RegistryOptions { credentials: Credentials::anonymous(), ..RegistryOptions::default() }
}

async fn bare_heads(repository: &RepositoryAddress) {
    let client = Client::new(options()).unwrap();
    let (mut running, mut next) = (JoinSet::new(), 0);
    loop {
        while running.len() < PARALLEL && next < REFERENCES {
            let (client, repository, tag) = (client.clone(), repository.clone(), format!("t{next}"));
            running.spawn(async move { client.head_manifest(&repository, &tag).await.unwrap().unwrap() });
            next += 1;
        }
        match running.join_next().await {
            Some(done) => drop(done.unwrap()),
            None => return,
        }
    }
}

fn timed(call: impl FnOnce()) -> Duration {
    let start = Instant::now();
    call();
    start.elapsed()
}

/// How long the command ran, and the most memory it was seen to hold, bytes.
fn run(command: &mut Command, home: &Path) -> (Duration, u64) {
    let start = Instant::now();
    let errors = fs::File::create(home.join("errors")).unwrap();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn().unwrap();
    let mut most = 0;
    loop {
        most = most.max(held(&child));
        if let Some(status) = child.try_wait().unwrap() {
            let errors = fs::read_to_string(home.join("errors")).unwrap();
            assert!(status.success(), "{command:?}: {errors}");
            return (start.elapsed(), most);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// `VmHWM` of a process: what it held at most so far.
fn held(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes: Option<u64> = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kilobytes.unwrap_or(0) * 1024
}
