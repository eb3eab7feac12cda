//! In-process servers on threads of their own.

use std::{future::Future, net::SocketAddr};

use tokio::{net::TcpListener, runtime::Runtime};

/// A runtime for one server; dropping it ends the server and closes its connections.
#[derive(Debug)]
pub(crate) struct Background(Option<Runtime>);

impl Background {
    /// Binds a free loopback port and runs what `serve` makes of it until the value is dropped.
    pub(crate) fn serve<F, S>(serve: S) -> (Self, SocketAddr)
    where
        S: FnOnce(TcpListener, SocketAddr) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime starts");
        let std_listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        std_listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let address = std_listener.local_addr().expect("a bound socket has an address");
        let guard = runtime.enter();
        let listener = TcpListener::from_std(std_listener).expect("the runtime takes the socket");
        runtime.spawn(serve(listener, address));
        drop(guard);
        (Self(Some(runtime)), address)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // A plain drop waits, which is refused inside async tests.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
