//! The publish side: making, signing and submitting metadata.
//!
//! [`author`] builds documents and is pure; [`draft`] collects their signatures and is pure, too; [`api`] is what client
//! and daemon say to each other. [`Publisher::change`] reads the verified [`Head`], applies an edit to it, has it signed,
//! submits it, and does so again on a newer head if somebody was faster. Every change is a method of [`Publisher`] in
//! `change/`.

pub mod api;
pub mod author;
mod change;
mod delegation;
pub mod draft;
mod error;
mod head;
pub mod history;
mod inbox;
mod init;
mod present;
mod publisher;
mod seen;
mod server;
mod status;

pub use change::{
    Content, DelegateRequest, Delegated, KeyRevoked, Ready, ReinstateRequest, Reinstated, Rekeyed,
    RemoveRequest, Removed, RevokeKeyRequest, RevokeRequest, Revoked, RootRequest, RotateRequest,
    SignRequest, Signed, TakeOverRequest, Unsigned, Unvouched, Vouched, edit_first,
};
pub use delegation::{
    Asked, Delegation, Passed, RoleVersion, RoleView, Trace, Why, as_clients, describe, trace,
};
pub use error::PublishError;
pub use head::{Head, OnPath, Writable};
pub use inbox::{Answer, Inbox, Left};
pub use init::{FirstRequest, InitRequest, Initialised, Prepared, first_draft, init, prepare, served};
pub use publisher::{Done, Edit, How, Published, Publisher};
pub use seen::{Expected, seen};
pub use server::{Server, Submitted};
pub use status::{Contents, Depth, Entry, KeyStatus, RoleStatus, is_aging, status};
