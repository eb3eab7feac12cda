//! A server that does as a test says: raw bytes over TCP or TLS, so that it can lie about lengths and break off.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) target: String,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// The connection it came over: 0 for the server's first.
    pub(super) connection: usize,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// `METHOD TARGET`.
    pub(super) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// What to answer; the connection is closed after it, unless it is to be kept.
pub(super) enum Reply {
    /// These bytes, and then the next request is awaited on the same connection.
    Keep(Vec<u8>),
    /// These bytes.
    Raw(Vec<u8>),
    /// These bytes, and then one more every 20 ms.
    Drip(Vec<u8>),
    /// These bytes, and then this chunk over and over.
    Endless(Vec<u8>, Vec<u8>),
    /// Nothing, for as long as the client waits.
    Hang,
    /// Nothing, at once.
    BreakOff,
}

/// An answer with its true length.
pub(super) fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let length = body.len().to_string();
    let mut headers = headers.to_vec();
    if status != 304 && !headers.iter().any(|(name, _)| *name == "content-length") {
        headers.push(("content-length", &length));
    }
    let mut raw = head(status, &headers);
    raw.extend_from_slice(body);
    Reply::Raw(raw)
}

pub(super) fn head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} x\r\nconnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    (text + "\r\n").into_bytes()
}

/// A certificate for 127.0.0.1 and localhost, and the PEM of the CA that signed it.
pub(super) struct Identity {
    pub(super) ca_pem: String,
    config: Arc<ServerConfig>,
}

impl Identity {
    pub(super) fn new() -> Self {
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new([]).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let key = rcgen::KeyPair::generate().unwrap();
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let certificate = rcgen::CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &rcgen::Issuer::new(ca, ca_key))
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        Self { ca_pem, config: Arc::new(config) }
    }
}

/// Runs until it is dropped.
pub(super) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    accepting: Option<thread::JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::run("127.0.0.1", None, handler)
    }

    /// At another address of this machine, `127.x.x.x`.
    pub(super) fn start_at(ip: &str, handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::run(ip, None, handler)
    }

    pub(super) fn start_tls(id: &Identity, handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::run("127.0.0.1", Some(id.config.clone()), handler)
    }

    fn run(
        ip: &str,
        tls: Option<Arc<ServerConfig>>,
        handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, stop) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::new(AtomicBool::new(false)));
        let (log, stopped, handler) = (seen.clone(), stop.clone(), Arc::new(handler));
        let accepting = thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
                let (tls, log, stopped, handler) =
                    (tls.clone(), log.clone(), stopped.clone(), handler.clone());
                thread::spawn(move || match tls {
                    Some(config) => {
                        let connection = ServerConnection::new(config).unwrap();
                        let mut stream = StreamOwned::new(connection, stream);
                        while serve(&mut stream, number, &log, &stopped, &*handler) {}
                    }
                    None => while serve(&mut { &stream }, number, &log, &stopped, &*handler) {},
                });
            }
        });
        Self { address, seen, stop, accepting: Some(accepting) }
    }

    /// `127.0.0.1:PORT`, or at its other address.
    pub(super) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The request lines so far.
    pub(super) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
    }
}

/// Answers one request; true if another one may follow.
fn serve<S: Read + Write>(
    stream: &mut S,
    connection: usize,
    log: &Mutex<Vec<Seen>>,
    stopped: &AtomicBool,
    handler: &dyn Fn(&Seen) -> Reply,
) -> bool {
    let Some(mut seen) = read_request(stream) else { return false };
    seen.connection = connection;
    // Logged before it is answered: whoever has the answer finds the request in the log.
    log.lock().unwrap().push(seen.clone());
    // The client may go at any time; that is its right.
    let _ = match handler(&seen) {
        Reply::Keep(bytes) => return stream.write_all(&bytes).and_then(|()| stream.flush()).is_ok(),
        Reply::Raw(bytes) => stream.write_all(&bytes).and_then(|()| stream.flush()),
        Reply::Drip(head) => stream.write_all(&head).and_then(|()| {
            (0..500).take_while(|_| !stopped.load(Ordering::SeqCst)).try_for_each(|_| {
                thread::sleep(Duration::from_millis(20));
                stream.write_all(b"x").and_then(|()| stream.flush())
            })
        }),
        Reply::Endless(head, chunk) => {
            stream.write_all(&head).and_then(|()| (0..10_000).try_for_each(|_| stream.write_all(&chunk)))
        }
        Reply::Hang => stream.read(&mut [0]).map(drop),
        Reply::BreakOff => Ok(()),
    };
    false
}

fn read_request<S: Read>(stream: &mut S) -> Option<Seen> {
    let mut bytes = Vec::new();
    let mut more = |bytes: &mut Vec<u8>| {
        let mut part = [0; 4096];
        let n = stream.read(&mut part).ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(&part[..n]);
        Some(())
    };
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        more(&mut bytes)?;
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let mut seen = Seen {
        method: first.next()?.to_owned(),
        target: first.next()?.to_owned(),
        headers: lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect(),
        body: Vec::new(),
        connection: 0,
    };
    let length = seen.header("content-length").map_or(0, |l| l.parse().unwrap());
    while bytes.len() < end + 4 + length {
        more(&mut bytes)?;
    }
    seen.body = bytes.split_off(end + 4);
    Some(seen)
}
