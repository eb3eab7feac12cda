//! The client workflow of TUF 1.0.34, section 5, without I/O.

pub mod json;
mod key;

pub use key::{Key, KeyError, KeyId, KeyVal, PublicKey};
