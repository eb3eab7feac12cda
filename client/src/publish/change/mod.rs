//! The changes that publishers make, each from the present head to the next versions of the roles it touches. They are
//! applied anew to every newer head, so each must say what it wants, not what it saw.

mod delegate;
mod reinstate;
mod rekey;
mod remove;
mod revoke;
mod revoke_key;
mod root;
mod rotate;
mod sign;
mod take_over;
mod unsign;

pub use delegate::{DelegateRequest, Delegated};
pub use reinstate::{ReinstateRequest, Reinstated};
pub use rekey::{Content, Rekeyed, Unvouched, Vouched};
pub use remove::{RemoveRequest, Removed};
pub use revoke::{RevokeRequest, Revoked};
pub use revoke_key::{KeyRevoked, RevokeKeyRequest};
pub use root::{Ready, RootRequest, edit_first};
pub use rotate::RotateRequest;
pub use sign::{SignRequest, Signed};
pub use take_over::TakeOverRequest;
pub use unsign::Unsigned;
