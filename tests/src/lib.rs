//! What the tests share: real servers, hostile servers, images, peers.
//!
//! Everything here is synchronous and panics when a fixture cannot be set up: a test whose world is missing has
//! failed, and says what was missing. Servers listen on loopback, on ports the system chose; in-process ones run on
//! threads of their own, so tests may be plain functions or `#[tokio::test]`. What a value started ends with it.

mod background;
pub mod differential;
pub mod docker_registry;
pub mod fuzzing;
pub mod gap;
pub mod http;
pub mod image;
pub mod middle;
pub mod mounts;
pub mod peers;
pub mod process;
pub mod skopeo;
pub mod tls;
pub mod token_server;
pub mod tough_peer;
pub mod transcript;
pub mod tuf_repository;
pub mod world;
