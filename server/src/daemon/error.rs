//! Why a daemon does not start, or does not reload.

use std::{io, net::SocketAddr, path::PathBuf};

use plimsoll::registry::RegistryError;
use plimsoll_core::oci::{ReferenceError, RepositoryAddress};

use crate::{
    host::HostError, keys::OnlineKeyError, pipeline::EngineError, secrets::SecretFile, store::StoreError,
    tls::TlsError, tokens::TokenError,
};

/// Why a daemon does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// The data folder, or the keys in it, cannot be used.
    #[error(transparent)]
    Keys(#[from] OnlineKeyError),
    /// The store has documents of a trust repository whose keys are gone.
    #[error(
        "the online keys of trust repository {name} are gone ({} does not exist): restore them from a backup; or run \
         `plimsolld key show {name}`, which makes new ones, and have the owners publish a root that names those",
        folder.display()
    )]
    KeysGone {
        /// The trust repository.
        name: String,
        /// Where they should be.
        folder: PathBuf,
    },
    /// Two trust repositories have one key, so what is signed for one could be shown for the other.
    #[error("{} and {} hold the same key: remove the copy, each trust repository needs keys of its own", first.display(), second.display())]
    SharedKey {
        /// One folder.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// An online key is an example key.
    #[error("{} holds a key of keys-example/, whose private half everybody has: remove that folder", folder.display())]
    ExampleKey {
        /// The folder.
        folder: PathBuf,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The embedded registry.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: choose another with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The embedded registry takes pushes from everybody who reaches it.
    #[error(
        "trust repository {name} is on the embedded registry, which asks nobody who they are, so it serves loopback only \
         and not {listen}: give it a `repository` on another registry, or listen on 127.0.0.1"
    )]
    Exposed {
        /// The trust repository.
        name: String,
        /// Where the daemon was to listen.
        listen: SocketAddr,
    },
    /// The embedded registry's address and the trust repository's name make no repository.
    #[error(
        "trust repository {name} cannot be on the embedded registry: give it a `repository`, or another name"
    )]
    Repository {
        /// The trust repository.
        name: String,
        /// Why.
        source: ReferenceError,
    },
    /// The trust repository's name leaves no room for that of its inbox.
    #[error("trust repository {name} can have no inbox: leave `inbox` out, or give it a shorter name")]
    Inbox {
        /// The trust repository.
        name: String,
        /// Why.
        source: ReferenceError,
    },
    /// Two trust repositories, or the inbox of one and another, are at one address.
    #[error(
        "trust repositories {first} and {second} are both at {repository}; each needs a repository of its own"
    )]
    SameRepository {
        /// One.
        first: String,
        /// The other.
        second: String,
        /// Where.
        repository: RepositoryAddress,
    },
    /// The password file cannot be used.
    #[error("trust repository {name}: cannot use the password file {file}")]
    Password {
        /// The trust repository.
        name: String,
        /// The file.
        file: SecretFile,
        /// Why.
        source: io::Error,
    },
    /// The listener's certificate and key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The tokens.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// The registry client's settings cannot be used.
    #[error("trust repository {name}: [registry]")]
    Registry {
        /// The trust repository.
        name: String,
        /// Why.
        source: RegistryError,
    },
    /// What is to be reloaded names no trust repository, and what is served came from one that did.
    #[error(
        "the configuration has no [[trust]] any more: is the file empty, or cut off? Write it again. To stop serving {}, \
         have it say what to serve instead, as a [[trust]] with `name = \"main\"`, or restart the daemon",
        served.join(", ")
    )]
    NoTrusts {
        /// The trust repositories that are served.
        served: Vec<String>,
    },
    /// An engine does not start.
    #[error("trust repository {name} does not start")]
    Engine {
        /// The trust repository.
        name: String,
        /// Why.
        source: Box<EngineError>,
    },
}
