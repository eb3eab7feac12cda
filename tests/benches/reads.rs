//! Metadata read from the plain TUF face, against a bare hyper server that answers the same bytes.

use std::{
    convert::Infallible,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;

use crate::{
    accepted::Site,
    connection::{Connection, cpu_of},
    table::{Row, Target},
};

/// This word on the command line makes of this program the bare server, which answers with its standard input.
const BARE: &str = "--bare-server";
const CONNECTIONS: usize = 8;
/// Of each connection, in each of the rounds.
const READS: usize = 2_500;
const ROUNDS: usize = 3;

pub(crate) fn rows(wants: &dyn Fn(&str) -> bool) -> Vec<Row> {
    const TIMESTAMP: &str = "read: a bare hyper server's CPU for the timestamp / the daemon's";
    const ROLE: &str = "read: a bare hyper server's CPU for a role of 4 KiB / the daemon's";
    let site = match (wants(TIMESTAMP), wants(ROLE)) {
        (false, false) => return Vec::new(),
        _ => Site::new(4),
    };
    let mut rows = Vec::new();
    for (name, file) in [(TIMESTAMP, "timestamp.json"), (ROLE, "1.targets--n0.json")] {
        if !wants(name) {
            continue;
        }
        let path = format!("/tuf/acme/metadata/{file}");
        let (status, bytes) = site.connect().send("GET", &path, b"");
        assert_eq!(status, 200);
        let bare = Bare::start(&bytes);
        let (mut ours, mut other) = (Duration::ZERO, Duration::ZERO);
        for round in 0..=ROUNDS {
            let a = read(&site.daemon.address(), site.daemon.pid(), &path, bytes.len());
            let b = read(&bare.address, bare.child.id(), &path, bytes.len());
            // The first round warms both up.
            if round > 0 {
                ours += a;
                other += b;
            }
        }
        let count = u32::try_from(CONNECTIONS * READS * ROUNDS).unwrap();
        rows.push(Row { name, ours: ours / count, other: other / count, target: Target::AtLeast(0.8) });
    }
    rows
}

/// CPU time of process `pid` while all connections read.
fn read(host: &str, pid: u32, path: &str, length: usize) -> Duration {
    let before = cpu_of(pid);
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut connection = Connection::open(host);
                for _ in 0..READS {
                    let (status, body) = connection.send("GET", path, b"");
                    assert!(status == 200 && body.len() == length);
                }
            });
        }
    });
    cpu_of(pid) - before
}

struct Bare {
    child: Child,
    address: String,
}

impl Bare {
    fn start(answer: &[u8]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(BARE).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(answer).unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child, address: address.trim_end().to_owned() }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves what stands on standard input, until it is killed; false at once if that is not what this process is for.
pub(crate) fn is_bare_server() -> bool {
    if std::env::args().nth(1).as_deref() != Some(BARE) {
        return false;
    }
    let mut answer = Vec::new();
    std::io::stdin().read_to_end(&mut answer).unwrap();
    let answer = Bytes::from(answer);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    listener.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let service = service_fn(move |_| {
                    let answer = answer.clone();
                    async move { Ok::<_, Infallible>(Response::new(Full::new(answer))) }
                });
                // A client that went away ends its connection and nothing else.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}
