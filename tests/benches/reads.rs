//! Metadata read from the plain TUF face, against a bare hyper server that answers the same bytes.
//!
//! The bare server is hyper's `http1` with its default settings on tokio's runtime with its default settings, a task for each
//! connection. It answers whatever it is asked, with the head and the body that the daemon gives (but for `date`), and does
//! nothing else: it routes nothing, knows no conditions, limits nobody in number, size or time, and never ends.

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
use hyper::{
    HeaderMap, Response,
    header::{HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
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
        let (head, bytes) = answer(&site.daemon.address(), &path);
        let bare = Bare::start(&head, &bytes);
        assert_eq!(answer(&bare.address, &path), (head, bytes.clone()));
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
        let (ours, other) = ((ours / count).into(), (other / count).into());
        rows.push(Row { name, ours, other, target: Target::AtLeast(0.8) });
    }
    rows
}

/// What is answered to a GET of `path`: the head without its date, in the order of the alphabet, and the body.
fn answer(host: &str, path: &str) -> (Vec<String>, Vec<u8>) {
    let mut head = Vec::new();
    let (status, body) =
        Connection::open(host).send_noting("GET", path, b"", |line| head.push(line.to_owned()));
    assert_eq!(status, 200);
    head.retain(|line| !line.is_empty() && !line.starts_with("date:"));
    head.sort();
    (head, body)
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
    fn start(head: &[String], body: &[u8]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(BARE).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        for line in head.iter().filter(|line| line.contains(": ") && !line.starts_with("content-length:")) {
            writeln!(stdin, "{line}").unwrap();
        }
        writeln!(stdin).unwrap();
        stdin.write_all(body).unwrap();
        drop(stdin);
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

/// Serves what stands on standard input, the lines of a head, an empty one, and a body, until it is killed; false at once if that is not what this process is for.
pub(crate) fn is_bare_server() -> bool {
    if std::env::args().nth(1).as_deref() != Some(BARE) {
        return false;
    }
    let (mut head, mut body) = (HeaderMap::new(), Vec::new());
    let mut stdin = std::io::stdin().lock();
    for line in stdin.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        head.insert(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
    }
    stdin.read_to_end(&mut body).unwrap();
    let body = Bytes::from(body);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    listener.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (head, body) = (head.clone(), body.clone());
            tokio::spawn(async move {
                let service = service_fn(move |_| {
                    let mut response = Response::new(Full::new(body.clone()));
                    response.headers_mut().clone_from(&head);
                    async move { Ok::<_, Infallible>(response) }
                });
                // A client that went away ends its connection and nothing else.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}
