//! Connections: accepted up to a limit, each a task of its own, ended in order.

use std::{io, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::{JoinError, JoinSet},
    time::timeout,
};

use super::{
    Api, Phase,
    peers::{Doors, Peer},
    reached, tuf,
};
use crate::tls::Tls;

/// How many connections are open at a time; more wait in the system's queue.
const CONNECTIONS: usize = 1024;
/// How much of a request is buffered, bytes; its head must fit.
const BUFFER: usize = 64 << 10;
/// The pause after a failed accept, which is mostly a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How long connections may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// For the head of a request, or idle before it, which hyper counts together.
    pub(crate) head: Duration,
    /// For the last requests when the daemon ends.
    pub(crate) drain: Duration,
}

impl Default for Times {
    fn default() -> Self {
        // Longer than the 30 s for which our own client keeps an idle connection: it must not send a submission on one
        // that we just closed.
        Self { head: Duration::from_secs(40), drain: Duration::from_secs(3) }
    }
}

/// What is served.
#[derive(Debug, Clone)]
pub(crate) struct Routes {
    pub(super) router: Router,
    /// The plain TUF files that are at hand.
    pub(super) files: Option<Api>,
}

impl From<Router> for Routes {
    fn from(router: Router) -> Self {
        Self { router, files: None }
    }
}

/// Serves `routes` until the phase is [`Phase::Closing`] or its sender is gone, then lets open requests end
/// within `times.drain`. A panic in a handler ends its own connection.
///
/// With `tls`, https is served. A handshake is no request: the end does not wait for it.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    routes: impl Into<Routes>,
    mut phase: watch::Receiver<Phase>,
    times: Times,
) {
    let routes = routes.into();
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let doors = Arc::new(Doors::default());
    let mut connections = JoinSet::new();
    let closing = phase.clone();
    loop {
        tokio::select! {
            () = reached(&mut phase, Phase::Closing) => break,
            (stream, peer, permit) = accept(&listener, &permits) => {
                // Nobody is told why: an answer would cost more than the connection.
                let Some(door) = doors.enter(peer) else { continue };
                // Answers are small and waited for. If it cannot be set, they are only slower.
                let _ = stream.set_nodelay(true);
                let (routes, phase, tls) = (routes.clone(), closing.clone(), tls.clone());
                connections.spawn(async move {
                    let _open = (permit, door);
                    match tls {
                        Some(tls) => secured(stream, peer, &tls, routes, phase, times.head).await,
                        None => connection(stream, peer, routes, phase, times.head).await,
                    }
                });
            }
            Some(ended) = connections.join_next() => note(ended),
        }
    }
    drop(listener);
    let ended = timeout(times.drain, async {
        while let Some(ended) = connections.join_next().await {
            note(ended);
        }
    });
    if ended.await.is_err() {
        tracing::warn!(open = connections.len(), "closing connections whose requests did not end");
        connections.shutdown().await;
    }
}

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> (TcpStream, Peer, OwnedSemaphorePermit) {
    let permit = Arc::clone(permits).acquire_owned().await.expect("this semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, address)) => return (stream, Peer::of(address.ip()), permit),
            // The other side's fault, and over.
            Err(e)
                if matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {}
            Err(error) => {
                tracing::error!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn secured(
    stream: TcpStream,
    peer: Peer,
    tls: &Tls,
    routes: Routes,
    mut phase: watch::Receiver<Phase>,
    head_time: Duration,
) {
    let stream = tokio::select! {
        stream = tls.shake(stream) => stream,
        () = reached(&mut phase, Phase::Closing) => return,
    };
    if let Some(stream) = stream {
        connection(stream, peer, routes, phase, head_time).await;
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    routes: Routes,
    mut phase: watch::Receiver<Phase>,
    head_time: Duration,
) {
    let (router, files) = (TowerToHyperService::new(routes.router), routes.files);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let held = files.as_ref().and_then(|api| tuf::held(api, &request));
        let answer = held.ok_or_else(|| {
            request.extensions_mut().insert(peer);
            router.call(request)
        });
        async move {
            match answer {
                Ok(held) => Ok(held),
                Err(routed) => routed.await,
            }
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head_time).max_buf_size(BUFFER);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = reached(&mut phase, Phase::Closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a request made its handler panic");
    }
}
