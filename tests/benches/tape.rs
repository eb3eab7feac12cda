//! A proxy that keeps what a client sends, connection by connection, and what it takes to send the same again.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Which of the proxy's connections it came on, from 0.
    pub(crate) connection: usize,
    pub(crate) at: Instant,
    pub(crate) method: String,
    pub(crate) path: String,
    /// The lines of its head after the first, without `host` and `content-length`.
    pub(crate) headers: Vec<String>,
    pub(crate) body: Vec<u8>,
}

/// A running proxy; its threads end with the process.
#[derive(Debug, Clone)]
pub(crate) struct Tape {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Tape {
    /// In front of `upstream` (`HOST:PORT`).
    pub(crate) fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tape = Self { address: listener.local_addr().unwrap().to_string(), requests: Arc::default() };
        let (requests, upstream) = (tape.requests.clone(), upstream.to_owned());
        let connections = AtomicUsize::new(0);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&upstream).unwrap());
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let connection = connections.fetch_add(1, Ordering::SeqCst);
                let (mut back, mut from) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut back);
                    let _ = back.shutdown(Shutdown::Both);
                });
                let requests = requests.clone();
                thread::spawn(move || pass(connection, client, server, &requests));
            }
        });
        tape
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What came so far, in order.
    pub(crate) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

/// Passes requests on, each whole, until the client goes.
fn pass(connection: usize, client: TcpStream, mut server: TcpStream, requests: &Mutex<Vec<Request>>) {
    let mut client = BufReader::new(client);
    while let Some((request, bytes)) = read(connection, &mut client) {
        requests.lock().unwrap().push(request);
        if server.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Write);
}

/// The next request, and its bytes; none at the end.
fn read(connection: usize, client: &mut impl BufRead) -> Option<(Request, Vec<u8>)> {
    let (mut bytes, mut lines) = (Vec::new(), Vec::new());
    loop {
        let start = bytes.len();
        if !matches!(client.read_until(b'\n', &mut bytes), Ok(1..)) {
            return None;
        }
        match String::from_utf8_lossy(&bytes[start..]).trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let first = lines.remove(0);
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let length = lines.iter().find_map(|line| header(line, "content-length")?.parse().ok());
    lines.retain(|line| header(line, "host").or(header(line, "content-length")).is_none());
    let mut body = vec![0; length.unwrap_or(0)];
    client.read_exact(&mut body).ok()?;
    bytes.extend_from_slice(&body);
    Some((Request { connection, at: Instant::now(), method, path, headers: lines, body }, bytes))
}

fn header<'a>(line: &'a str, wanted: &str) -> Option<&'a str> {
    let (name, value) = line.split_once(':')?;
    name.eq_ignore_ascii_case(wanted).then_some(value.trim())
}
