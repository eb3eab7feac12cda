//! Floods from one peer, with the real binary: oversized bodies, connections that say nothing, bad signatures without end.
//! Whoever publishes from elsewhere is served as if nothing were. The addresses of the loopback network are the peers.
//!
//! Prints what it saw; asserts no times.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]
#![expect(clippy::print_stdout, reason = "measurements are for people")]

mod pen;

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use pen::{OTHER, Pen, TEAM, key, sign, target};
use plimsoll::{
    publish::{
        Answer, Inbox,
        api::{Accepted, Progress, Refusal, RefusalReason},
    },
    registry::{Credentials, Registry as Client, RegistryOptions},
};
use plimsoll_tests::{docker_registry::Registry, http};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

/// How many submissions with bad signatures are sent.
const BAD: usize = 10_000;
/// Over so many connections.
const CONNECTIONS: usize = 32;
/// A leak of what was received in any of these floods would be far beyond it, MiB.
const MOST_MEMORY: u64 = 1536;

/// The peer that floods.
const FLOOD: &str = "127.0.0.2:0";

async fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(FLOOD.parse().unwrap())?;
    socket.connect(to).await
}

fn head(length: usize) -> String {
    format!(
        "POST /v1/trusts/acme/submissions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

/// The status, `Retry-After` and body of the next answer; none if the connection ends first.
async fn answer(stream: &mut BufReader<TcpStream>) -> Option<(u16, Option<u64>, Vec<u8>)> {
    let (mut status, mut wait, mut length) = (0, None, 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(rest) = line.strip_prefix("http/1.1 ") {
            status = rest[..3].parse().ok()?;
        } else if let Some(value) = line.strip_prefix("retry-after: ") {
            wait = value.parse().ok();
        } else if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        } else if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((status, wait, body))
}

/// The most memory that the daemon ever had, MiB.
fn peak(pen: &Pen) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pen.daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Publishes for the team, one version after the other, until `flooded` and 20 times at least; every one must be published.
fn publish_meanwhile(pen: &Pen, flooded: &AtomicBool) -> usize {
    let (mut published, mut slowest) = (0, Duration::ZERO);
    while published < 20 || !flooded.load(Ordering::SeqCst) {
        let started = Instant::now();
        let bytes = pen.next(TEAM, |t| {
            t.targets.insert(format!("acme/app:v{published}"), target("x"));
        });
        let answer = pen.post(&Pen::body(&[(TEAM, bytes)]));
        assert_eq!(answer.status, 202, "publish {published}: {}", answer.text());
        let accepted: Accepted = serde_json::from_slice(&answer.body).unwrap();
        let url = format!("{}/v1/trusts/acme/submissions/{}?wait=9", pen.daemon.url(), accepted.id);
        // However busy the machine.
        let is_published = (0..20).any(|_| {
            let progress = http::get(&url).unwrap();
            let progress: Accepted = serde_json::from_slice(&progress.body).unwrap();
            progress.state == Progress::Published
        });
        assert!(is_published, "publish {published}");
        published += 1;
        slowest = slowest.max(started.elapsed());
    }
    println!("meanwhile {published} publishes from elsewhere, the slowest took {} ms", slowest.as_millis());
    published
}

/// Runs `flood` while somebody else publishes, and returns what it says.
fn during<T: Send>(pen: &Pen, flood: impl AsyncFnOnce(SocketAddr) -> T + Send) -> T {
    let address = pen.daemon.address().parse().unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| publish_meanwhile(pen, &over));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let said = runtime.block_on(flood(address));
        over.store(true, Ordering::SeqCst);
        publishing.join().unwrap();
        said
    })
}

/// T48: 10,000 submissions of the team's next version, signed by a stranger.
#[test]
fn bad_signatures_without_end_hold_up_nobody_else() {
    let pen = Pen::start("[quota]\npublishes-per-minute = 1000000\n");
    let before = peak(&pen);
    let stranger = key();
    // The next version, so that its signature is verified.
    let body: Arc<Vec<u8>> =
        Arc::new(Pen::body(&[("targets", sign(&pen.edit("targets", |_| {}), &stranger))]));
    let started = Instant::now();
    let answers = during(&pen, async |address| {
        let mut tasks = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let body = body.clone();
            tasks.spawn(async move {
                let mut counted: BTreeMap<u16, usize> = BTreeMap::new();
                let mut stream = BufReader::new(connect(address).await.unwrap());
                for _ in 0..BAD / CONNECTIONS {
                    let request = [head(body.len()).as_bytes(), &body].concat();
                    let sent = stream.get_mut().write_all(&request).await;
                    let answer = if sent.is_ok() { answer(&mut stream).await } else { None };
                    let Some((status, wait, body)) = answer else {
                        // Closed by the daemon, which need not keep it.
                        *counted.entry(0).or_default() += 1;
                        stream = BufReader::new(connect(address).await.unwrap());
                        continue;
                    };
                    let refusal: Refusal = serde_json::from_slice(&body).unwrap();
                    if status == 429 {
                        assert_eq!(refusal.reason, Some(RefusalReason::Peer));
                        assert_eq!(wait, refusal.retry_after);
                        assert!((1..=120).contains(&wait.unwrap()), "{wait:?}");
                    } else {
                        assert_eq!(refusal.reason, Some(RefusalReason::Threshold), "{}", refusal.message);
                    }
                    *counted.entry(status).or_default() += 1;
                }
                counted
            });
        }
        let mut counted: BTreeMap<u16, usize> = BTreeMap::new();
        while let Some(each) = tasks.join_next().await {
            for (status, count) in each.unwrap() {
                *counted.entry(status).or_default() += count;
            }
        }
        counted
    });
    let took = started.elapsed();
    println!("{BAD} bad signatures in {} ms: {answers:?}", took.as_millis());
    println!("memory: {before} MiB before, {} MiB at most", peak(&pen));
    assert!(answers.keys().all(|status| [0, 422, 429].contains(status)), "{answers:?}");
    // 60 at once, one a second, and those that were on their way.
    let looked_at = 60 + usize::try_from(took.as_secs()).unwrap() + 1 + CONNECTIONS;
    assert!((60..=looked_at).contains(&answers[&422]), "{answers:?}");
    assert!(answers[&429] > BAD / 2, "{answers:?}");
    assert!(peak(&pen) < 256, "{} MiB", peak(&pen));
    // Whoever floods is let in again: nothing is kept for ever. From elsewhere it was never shut out.
    pen.accepts(&[("targets", pen.next("targets", |_| {}))]);
}

/// T40, T41: bodies that are too long, and bodies of the longest that cost the most to read.
#[test]
fn bodies_of_any_size_hold_up_nobody_else() {
    const MIB: usize = 1 << 20;
    let pen = Pen::start("[quota]\npublishes-per-minute = 1000000\n");
    let before = peak(&pen);
    // As many values as fit, members out of order so that a tree is made of them.
    let dense = {
        let mut body = b"{\"documents\":{\"b\":{},\"a\":{\"b\":1,\"a\":[".to_vec();
        while body.len() < 24 * MIB - 16 {
            body.extend_from_slice(b"0,");
        }
        body.extend_from_slice(b"0]}}}");
        body
    };
    let answers = during(&pen, async |address| {
        let mut counted: BTreeMap<u16, usize> = BTreeMap::new();
        let mut tasks = JoinSet::new();
        for _ in 0..12 {
            tasks.spawn(async move {
                let mut stream = BufReader::new(connect(address).await.unwrap());
                stream.get_mut().write_all(head(30 * MIB).as_bytes()).await.unwrap();
                for _ in 0..30 {
                    // Cut off half-way is an answer too.
                    if stream.get_mut().write_all(&vec![b' '; MIB]).await.is_err() {
                        break;
                    }
                }
                answer(&mut stream).await.map_or(0, |(status, ..)| status)
            });
        }
        while let Some(status) = tasks.join_next().await {
            *counted.entry(status.unwrap()).or_default() += 1;
        }
        // One after the other: two at a time are all that there is room for.
        let mut first = None;
        for _ in 0..6 {
            let mut stream = BufReader::new(connect(address).await.unwrap());
            stream.get_mut().write_all(head(dense.len()).as_bytes()).await.unwrap();
            let _ = stream.get_mut().write_all(&dense).await;
            let (status, _, body) = answer(&mut stream).await.unwrap_or_default();
            first.get_or_insert((status, String::from_utf8(body).unwrap()));
            *counted.entry(status).or_default() += 1;
        }
        (counted, first.unwrap())
    });
    let (answers, (status, told)) = answers;
    println!("12 bodies of 30 MiB, then 6 dense ones of 24 MiB: {answers:?}");
    println!("memory: {before} MiB before, {} MiB at most", peak(&pen));
    assert!(answers.keys().all(|status| [0, 413, 429].contains(status)), "{answers:?}");
    // It was read to its end: one document of it is what is too long.
    assert_eq!(status, 413, "{told}");
    assert!(told.contains("a: longer than 8388608 bytes"), "{told}");
    assert!(peak(&pen) < MOST_MEMORY, "{} MiB", peak(&pen));
}

/// T48: connections that begin a request and say no more, more of them than one peer may have.
#[test]
fn connections_that_say_nothing_hold_up_nobody_else() {
    const OPEN: usize = 400;
    let pen = Pen::start("[quota]\npublishes-per-minute = 1000000\n");
    let before = peak(&pen);
    let address = pen.daemon.address().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (streams, open) = runtime.block_on(async {
        let mut streams = Vec::new();
        for n in 0..OPEN {
            let mut stream = connect(address).await.unwrap();
            let begun = match n % 3 {
                0 => "POST /v1/trusts/acme/subm".to_owned(),
                1 => head(1 << 20),
                _ => head(1 << 20) + "{\"documents\":{",
            };
            // Those beyond its share are closed at once.
            let _ = stream.write_all(begun.as_bytes()).await;
            streams.push(stream);
        }
        let mut open = OPEN;
        for _ in 0..500 {
            let is_open = |stream: &&TcpStream| matches!(stream.try_read(&mut [0]), Err(e) if e.kind() == ErrorKind::WouldBlock);
            open = streams.iter().filter(is_open).count();
            if open <= 256 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        (streams, open)
    });
    publish_meanwhile(&pen, &AtomicBool::new(true));
    drop(streams);
    println!("{OPEN} connections that say nothing: {open} were kept");
    println!("memory: {before} MiB before, {} MiB at most", peak(&pen));
    assert!(open <= 256, "{open}");
    assert!(peak(&pen) < 256, "{} MiB", peak(&pen));
}

/// P4: what a team leaves in the inbox beyond its rate stays there, holds up nobody, and is taken in its time.
#[test]
fn an_inbox_holds_what_came_too_often_until_its_time_has_come() {
    let registry = Registry::open();
    let repository = format!("{}/acme/trust", registry.address());
    let pen = Pen::start_at(
        "[quota]\npublishes-per-minute = 6\n",
        &format!("repository = \"{repository}\"\ninbox = \"1s\"\n"),
    );
    let next = |pen: &Pen| Pen::body(&[(TEAM, pen.next(TEAM, |_| {}))]);
    let mut status = 202;
    for _ in 0..100 {
        status = pen.post(&next(&pen)).status;
        if status != 202 {
            break;
        }
    }
    assert_eq!(status, 429);
    let options = RegistryOptions { credentials: Credentials::anonymous(), ..RegistryOptions::default() };
    let inbox = Inbox::new(Client::new(options).unwrap(), &repository.parse().unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let left = [TEAM, OTHER].map(|role| {
        let documents = BTreeMap::from([(role.to_owned(), pen.next(role, |_| {}))]);
        runtime.block_on(inbox.leave(&documents)).unwrap()
    });
    for left in left {
        let mut answer = None;
        for _ in 0..600 {
            answer = runtime.block_on(inbox.answer(&left)).unwrap();
            if answer.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(matches!(answer, Some(Answer::Accepted(_))), "{answer:?}");
    }
}
