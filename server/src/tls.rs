//! TLS for the listener: certificate and key from files, handshakes bounded in time and number.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustls::{
    InconsistentKeys, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    net::TcpStream,
    sync::{Notify, watch},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::secrets::SecretFile;

/// A chain of certificates, or a key, is not larger, bytes.
const MAX_FILE: usize = 256 << 10;
/// A handshake is whole within this time, or over.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes under way. An honest one takes milliseconds, so when there are more it is the oldest that goes.
const HANDSHAKES: usize = 256;

/// `[tls]`: what the listener shows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: the server's certificate, then those between it and its CA.
    pub certificate: SecretFile,
    /// PEM: its private key, not encrypted (PKCS#8, SEC1 or PKCS#1).
    pub key: SecretFile,
}

/// Why certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The certificate file.
    #[error("[tls]: cannot use the certificate {file}")]
    Certificate {
        /// The file.
        file: SecretFile,
        /// What is wrong with it, and what to do.
        source: io::Error,
    },
    /// The key file.
    #[error("[tls]: cannot use the key {file}")]
    Key {
        /// The file.
        file: SecretFile,
        /// What is wrong with it, and what to do.
        source: io::Error,
    },
    /// They do not belong together.
    #[error(
        "[tls]: the key {key} is not that of the first certificate in {certificate}: put the server's own certificate \
         first, and give the key that it was made for"
    )]
    Pair {
        /// The certificate file.
        certificate: SecretFile,
        /// The key file.
        key: SecretFile,
    },
    /// rustls takes the certificate, or the type of the key, for none that it can use.
    #[error("[tls]: the certificate {certificate} with the key {key} cannot be used")]
    Unusable {
        /// The certificate file.
        certificate: SecretFile,
        /// The key file.
        key: SecretFile,
        /// What rustls says.
        source: Box<rustls::Error>,
    },
}

/// Reads certificate and key: TLS 1.2 and 1.3, HTTP/1.1, no client certificates. Blocking disk I/O. Whether the
/// certificate has expired, and for which names it is good, is for the clients to see.
///
/// # Errors
/// [`TlsError`].
pub(crate) fn load(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let TlsFiles { certificate, key } = files;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the suites of TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain(certificate)?, private(key)?);
    let mut config = config.map_err(|source| match source {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::Pair { certificate: certificate.clone(), key: key.clone() }
        }
        source => {
            TlsError::Unusable { certificate: certificate.clone(), key: key.clone(), source: source.into() }
        }
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn chain(file: &SecretFile) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Certificate { file: file.clone(), source };
    let pem = file.read_public(MAX_FILE).map_err(failed)?;
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(failed(invalid("it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)"))),
    }
}

fn private(file: &SecretFile) -> Result<PrivateKeyDer<'static>, TlsError> {
    let failed = |source| TlsError::Key { file: file.clone(), source };
    let pem = file.read(MAX_FILE).map_err(failed)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
        let encrypted = pem.windows(9).any(|text| text == b"ENCRYPTED");
        failed(invalid(if encrypted {
            "it is encrypted, and nobody is there to type its passphrase: give it in the clear, mode 0600 \
             (`openssl pkey -in KEY -out FILE`)"
        } else {
            "it holds no private key in PEM (-----BEGIN PRIVATE KEY-----)"
        }))
    })
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// What a listener that speaks TLS needs. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    config: watch::Receiver<Arc<ServerConfig>>,
    handshakes: Arc<Handshakes>,
}

impl Tls {
    /// New connections take the newest of what `config` is sent; those that are open go on with theirs.
    pub(crate) fn new(config: watch::Receiver<Arc<ServerConfig>>, handshakes: Handshakes) -> Self {
        Self { config, handshakes: Arc::new(handshakes) }
    }

    /// As [`Handshakes::shake`], with the newest certificate.
    pub(crate) async fn shake(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let config = self.config.borrow().clone();
        self.handshakes.shake(stream, config).await
    }
}

/// The handshakes under way, oldest first.
#[derive(Debug)]
pub(crate) struct Handshakes {
    pending: Mutex<VecDeque<Arc<Notify>>>,
    most: usize,
    time: Duration,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self::new(HANDSHAKES, HANDSHAKE)
    }
}

impl Handshakes {
    /// At most `most` at a time, each for at most `time`.
    pub(crate) fn new(most: usize, time: Duration) -> Self {
        Self { pending: Mutex::default(), most, time }
    }

    /// Makes a TLS connection of `stream`; none if the other side does not do its part, or not in time, or if so many
    /// came after it that it is the one to go.
    pub(crate) async fn shake(
        &self,
        stream: TcpStream,
        config: Arc<ServerConfig>,
    ) -> Option<TlsStream<TcpStream>> {
        let place = Place::new(self);
        let done = tokio::select! {
            done = timeout(self.time, TlsAcceptor::from(config).accept(stream)) => done,
            () = place.crowded_out.notified() => return None,
        };
        match done {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
        None
    }

    fn pending(&self) -> MutexGuard<'_, VecDeque<Arc<Notify>>> {
        // Nothing that is done under this lock can panic half-way.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One handshake's place among them, given up when it is dropped.
struct Place<'a> {
    all: &'a Handshakes,
    crowded_out: Arc<Notify>,
}

impl<'a> Place<'a> {
    fn new(all: &'a Handshakes) -> Self {
        let crowded_out = Arc::<Notify>::default();
        let mut pending = all.pending();
        pending.push_back(crowded_out.clone());
        if pending.len() > all.most
            && let Some(oldest) = pending.pop_front()
        {
            oldest.notify_one();
        }
        drop(pending);
        Self { all, crowded_out }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.all.pending().retain(|other| !Arc::ptr_eq(other, &self.crowded_out));
    }
}

#[cfg(test)]
mod tests {
    use rustls::server::ResolvesServerCertUsingSni;
    use tokio::net::TcpListener;

    use super::*;

    /// Shows no certificate to anybody: enough for handshakes that do not come that far.
    fn config() -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let resolver = Arc::new(ResolvesServerCertUsingSni::new());
        Arc::new(builder.unwrap().with_no_client_auth().with_cert_resolver(resolver))
    }

    /// Both ends of a connection whose client says nothing.
    async fn silent(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn who_says_nothing_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let handshakes = Handshakes::new(10, Duration::from_millis(50));
        let (_client, server) = silent(&listener).await;
        assert!(handshakes.shake(server, config()).await.is_none());
        assert!(handshakes.pending().is_empty());
    }

    #[tokio::test]
    async fn the_oldest_of_too_many_handshakes_goes_and_the_newest_stays() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let handshakes = Arc::new(Handshakes::new(2, Duration::from_secs(3600)));
        let (mut clients, mut tasks) = (Vec::new(), Vec::new());
        for count in 1..=3 {
            let (client, server) = silent(&listener).await;
            let shaking = handshakes.clone();
            tasks.push(tokio::spawn(async move { shaking.shake(server, config()).await.is_none() }));
            clients.push(client);
            // Until it has its place, so that their order is known.
            while handshakes.pending().len() < count.min(2) {
                tokio::task::yield_now().await;
            }
        }
        assert!(tasks.remove(0).await.unwrap());
        assert_eq!(handshakes.pending().len(), 2);
        assert!(tasks.iter().all(|task| !task.is_finished()));
        // Those that are dropped leave no place behind.
        for task in &tasks {
            task.abort();
        }
        for task in tasks {
            assert!(task.await.unwrap_err().is_cancelled());
        }
        assert!(handshakes.pending().is_empty());
    }
}
