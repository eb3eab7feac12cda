//! Connections: names are looked up once and the addresses checked, TCP and TLS have their time, and so have headers.

use std::{
    future::Future,
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
    vec,
};

use bytes::Bytes;
use http::{Extensions, Request, Uri};
use http_body_util::Full;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        self, Client,
        connect::{CaptureConnection, Connected, Connection, HttpConnector, capture_connection, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};
use rustls::ClientConfig;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};
use tower_service::Service;

use super::site;

/// Status line and headers of an answer, in bytes.
const MAX_HEAD: usize = 64 << 10;
const MAX_HEADERS: usize = 100;
/// Interim answers (1xx) before the one that counts. None is asked for.
const MAX_INTERIM: usize = 8;
const IDLE_TIME: Duration = Duration::from_secs(30);

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Pending<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;
type Lookup = Arc<dyn Fn(String) -> Pending<Vec<SocketAddr>, io::Error> + Send + Sync>;

pub(super) type Plain = Client<Bounded<HttpConnector<Resolver>>, Full<Bytes>>;
pub(super) type Tls = Client<Bounded<HttpsConnector<HttpConnector<Resolver>>>, Full<Bytes>>;

/// How names become addresses, and which of those are inside this machine or its network.
#[derive(Clone)]
pub(super) struct Network {
    pub(super) lookup: Lookup,
    pub(super) inside: fn(IpAddr) -> bool,
}

impl Default for Network {
    fn default() -> Self {
        let lookup: Lookup =
            Arc::new(|name| Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) }));
        Self { lookup, inside: site::is_internal_address }
    }
}

/// Which addresses a connection may go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Any: the user named the host.
    Anywhere,
    /// Not inside: a server outside named the host, and a name proves nothing about its address (T74).
    Outside,
}

/// All addresses of a name are inside, and whoever named it is not.
#[derive(Debug, thiserror::Error)]
#[error("its name leads to an address inside this machine or its network")]
pub(super) struct Inside;

/// Two clients: connections that may go anywhere are never lent to requests that may not.
#[derive(Clone)]
pub(super) struct Both<C> {
    anywhere: C,
    outside: C,
}

impl<C> Both<C> {
    fn new(client: impl Fn(Reach) -> C) -> Self {
        Self { anywhere: client(Reach::Anywhere), outside: client(Reach::Outside) }
    }

    pub(super) fn to(&self, reach: Reach) -> &C {
        match reach {
            Reach::Anywhere => &self.anywhere,
            Reach::Outside => &self.outside,
        }
    }
}

/// Clients for plain http, each connection made within `time`.
pub(super) fn plain(network: &Network, time: Duration) -> Both<Plain> {
    Both::new(|reach| builder().build(Bounded { inner: connector(network, reach, time), time }))
}

/// Clients for https, each connection made within `time`.
pub(super) fn tls(network: &Network, time: Duration, config: &ClientConfig) -> Both<Tls> {
    Both::new(|reach| {
        let inner = HttpsConnectorBuilder::new()
            .with_tls_config(config.clone())
            .https_only()
            .enable_http1()
            .wrap_connector(connector(network, reach, time));
        builder().build(Bounded { inner, time })
    })
}

fn builder() -> legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIME)
        .http1_max_buf_size(MAX_HEAD)
        .http1_max_headers(MAX_HEADERS);
    builder
}

fn connector(network: &Network, reach: Reach, time: Duration) -> HttpConnector<Resolver> {
    let mut connector = HttpConnector::new_with_resolver(Resolver { network: network.clone(), reach });
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(time));
    connector
}

/// Looks names up, and leaves out the addresses that are out of reach. The connection goes to what is left, so no second
/// look-up can give another answer.
#[derive(Clone)]
pub(super) struct Resolver {
    network: Network,
    reach: Reach,
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pending<Self::Response, io::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { network, reach } = self.clone();
        Box::pin(async move {
            let mut addresses = (network.lookup)(name.as_str().to_owned()).await?;
            if reach == Reach::Outside && !addresses.is_empty() {
                addresses.retain(|address| !(network.inside)(address.ip()));
                if addresses.is_empty() {
                    return Err(io::Error::other(Inside));
                }
            }
            Ok(addresses.into_iter())
        })
    }
}

/// A connector whose connections, TLS included, are there in time or not at all.
#[derive(Clone)]
pub(super) struct Bounded<C> {
    inner: C,
    time: Duration,
}

impl<C> Service<Uri> for Bounded<C>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send + 'static>,
{
    type Response = Watched<C::Response>;
    type Error = BoxError;
    type Future = Pending<Self::Response, BoxError>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (time, connecting) = (self.time, self.inner.call(uri));
        Box::pin(async move {
            match timeout(time, connecting).await {
                Ok(connected) => Ok(Watched { inner: connected.map_err(Into::into)?, head: Head::default() }),
                Err(_) => {
                    let text = format!("no connection within {time:?}");
                    Err(io::Error::new(io::ErrorKind::TimedOut, text).into())
                }
            }
        })
    }
}

/// When the first byte after the last request came.
#[derive(Debug, Clone, Default)]
struct Head(Arc<HeadState>);

#[derive(Debug, Default)]
struct HeadState {
    began: Mutex<Option<Instant>>,
    changed: Notify,
}

impl Head {
    fn began(&self) -> Option<Instant> {
        *self.0.began.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, to: Option<Instant>) {
        *self.0.began.lock().unwrap_or_else(PoisonError::into_inner) = to;
        self.0.changed.notify_one();
    }
}

/// A connection that notes when answers begin.
pub(super) struct Watched<T> {
    inner: T,
    head: Head,
}

impl<T: Connection> Connection for Watched<T> {
    fn connected(&self) -> Connected {
        self.inner.connected().extra(self.head.clone())
    }
}

impl<T: Read + Unpin> Read for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        if self.head.began().is_none() {
            self.head.set(Some(Instant::now()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Write + Unpin> Watched<T> {
    /// Another request: its answer has not begun.
    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(_))) && self.head.began().is_some() {
            self.head.set(None);
        }
        written
    }
}

impl<T: Write + Unpin> Write for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, bytes);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// What is wrong with the head of an answer that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadFault {
    /// It did not come to its end in time.
    Slow,
    /// Interim answers, over and over.
    Interim,
}

/// Watches the answer to one request until its headers are there.
pub(super) struct HeadWatch {
    connection: CaptureConnection,
    interim: Arc<Interim>,
    asked: Instant,
}

#[derive(Default)]
struct Interim {
    seen: AtomicUsize,
    enough: Notify,
}

impl HeadWatch {
    /// To be called just before `request` is sent.
    pub(super) fn new<B>(request: &mut Request<B>) -> Self {
        let interim = Arc::<Interim>::default();
        let counted = interim.clone();
        hyper::ext::on_informational(request, move |_| {
            if counted.seen.fetch_add(1, Ordering::Relaxed) >= MAX_INTERIM {
                counted.enough.notify_one();
            }
        });
        Self { connection: capture_connection(request), interim, asked: Instant::now() }
    }

    /// Ends if the head takes longer than `window` from its first byte on, or does not stop to begin anew.
    pub(super) async fn fault(mut self, window: Duration) -> HeadFault {
        tokio::select! {
            () = self.interim.enough.notified() => HeadFault::Interim,
            () = slow(&mut self.connection, self.asked, window) => HeadFault::Slow,
        }
    }
}

async fn slow(connection: &mut CaptureConnection, asked: Instant, window: Duration) {
    let mut extras = Extensions::new();
    if let Some(connected) = &*connection.wait_for_connection_metadata().await {
        connected.get_extras(&mut extras);
    }
    let Some(Head(head)) = extras.remove::<Head>() else { return std::future::pending().await };
    let head = Head(head);
    loop {
        // What is older belongs to the answer before, on the same connection.
        let began = head.began().filter(|began| *began >= asked);
        let Some(began) = began else {
            head.0.changed.notified().await;
            continue;
        };
        tokio::select! {
            () = sleep_until(began + window) => if head.began() == Some(began) { return },
            () = head.0.changed.notified() => {}
        }
    }
}
