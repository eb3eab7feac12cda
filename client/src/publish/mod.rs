//! The publish side: making, signing and submitting metadata.
//!
//! [`author`] builds documents and is pure; [`api`] is what client and daemon say to each other; [`Publisher`] fetches the
//! verified head, applies a change to it, submits it, and applies it again to a newer head if somebody was faster.

pub mod api;
pub mod author;
mod error;
pub mod history;
mod init;
mod publisher;
mod seen;
mod server;

pub use error::PublishError;
pub use init::{InitRequest, Initialised, Prepared, init, prepare, served};
pub use publisher::{DelegateRequest, Publisher, Receipt, RevokeRequest, RoleStatus, SignRequest, status};
pub use seen::{Expected, seen};
pub use server::{Server, Submitted};
