//! The changes that publishers make, each from the present head to the next versions of the roles it touches. They are
//! applied anew to every newer head, so each must say what it wants, not what it saw.

mod delegate;
mod revoke;
mod root;
mod sign;

pub use delegate::{DelegateRequest, Delegated};
pub use revoke::{RevokeRequest, Revoked};
pub use root::{Ready, RootRequest, edit_first};
pub use sign::{SignRequest, Signed};
