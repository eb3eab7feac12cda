//! The changes that publishers make, each from the present head to the next versions of the roles it touches. They are
//! applied anew to every newer head, so each must say what it wants, not what it saw.

mod delegate;
mod reinstate;
mod revoke;
mod sign;
mod unsign;

pub use delegate::{DelegateRequest, Delegated};
pub use reinstate::{ReinstateRequest, Reinstated};
pub use revoke::{RevokeRequest, Revoked};
pub use sign::{SignRequest, Signed};
pub use unsign::Unsigned;
