//! What `accepted` costs with the parts that the daemon is made of and nothing else: the least that any daemon of these takes.
//!
//! hyper's `http1` and tokio's runtime with their default settings, a parse, a signature, a sha256, and sled: one batch and one
//! flush for as many submissions as there are publishers. It is told the one key that signs, asks for no version, knows no
//! scope and no limit, signs nothing, keeps no list of what it took, and writes no log.

use std::{
    convert::Infallible,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use plimsoll_core::{
    oci::Digest,
    tuf::{Document, Key, Targets, verify},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

/// This word on the command line makes of this program such a server; the key stands on its standard input.
const PARTS: &str = "--parts";
/// How long it waits for as many as publish.
const GATHER: Duration = Duration::from_millis(2);

/// Such a server, in a process of its own.
pub(crate) struct Parts {
    child: Child,
    pub(crate) address: String,
}

impl Parts {
    /// For documents that `key` signs, of `publishers` at a time.
    pub(crate) fn start(key: &Key, publishers: usize) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([PARTS, &publishers.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&serde_json::to_vec(key).unwrap()).unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child, address: address.trim_end().to_owned() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Stored = (String, u64, Bytes, oneshot::Sender<()>);

/// Is such a server until it is killed; false at once if that is not what this process is for.
pub(crate) fn is_parts() -> bool {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() != Some(PARTS) {
        return false;
    }
    let publishers = words.next().unwrap().parse().unwrap();
    let mut key = Vec::new();
    std::io::stdin().lock().read_to_end(&mut key).unwrap();
    let key: Arc<Key> = Arc::new(serde_json::from_slice(&key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    listener.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (queue, queued) = mpsc::channel(publishers);
        tokio::spawn(store(queued, publishers));
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (queue, key) = (queue.clone(), key.clone());
            tokio::spawn(async move {
                let service = service_fn(|request| take(request, &key, &queue));
                // A client that went away ends its connection and nothing else.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

async fn take(
    request: Request<Incoming>,
    key: &Key,
    queue: &mpsc::Sender<Stored>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    #[derive(Deserialize)]
    struct Sent<'a> {
        #[serde(borrow)]
        documents: std::collections::BTreeMap<String, &'a RawValue>,
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let Sent { documents } = serde_json::from_slice(&body).unwrap();
    let (role, raw) = documents.into_iter().next().unwrap();
    let bytes = body.slice_ref(raw.get().as_bytes());
    let document = Document::<Targets>::parse(&role, &bytes).unwrap();
    let (version, id) = (document.version(), key.id());
    let keys = [(id.clone(), key.clone())].into();
    verify(document, &role, &keys, std::slice::from_ref(&id), 1).unwrap();
    let digest = Digest::of(&bytes).hex();
    let (stored, when) = oneshot::channel();
    queue.send((role, version, bytes, stored)).await.unwrap();
    when.await.unwrap();
    let answer = format!("{{\"id\":\"{}\"}}", &digest[..32]);
    Ok(Response::builder().status(202).body(Full::new(answer.into())).unwrap())
}

async fn store(mut queued: mpsc::Receiver<Stored>, publishers: usize) {
    let folder = tempfile::tempdir().unwrap();
    let db = sled::Config::new().path(folder.path()).flush_every_ms(None).open().unwrap();
    loop {
        let mut batch = Vec::new();
        if queued.recv_many(&mut batch, publishers).await == 0 {
            return;
        }
        let until = Instant::now() + GATHER;
        while batch.len() < publishers {
            let room = publishers - batch.len();
            if timeout_at(until, queued.recv_many(&mut batch, room)).await.is_err() {
                break;
            }
        }
        let db = db.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mut changes = sled::Batch::default();
            for (role, version, bytes, _) in &batch {
                changes.insert(format!("{role} {version:020}").as_bytes(), &bytes[..]);
            }
            db.apply_batch(changes).unwrap();
            db.flush().unwrap();
            batch
        });
        for (_, _, _, stored) in done.await.unwrap() {
            // Who asked may be gone.
            let _ = stored.send(());
        }
    }
}
