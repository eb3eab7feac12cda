//! The pure part of Plimsoll: no network, no file system, no clock.
//!
//! - [`tuf`]: the client workflow of The Update Framework (TUF 1.0.34, section 5): bytes and `now` in, verdict out.
//! - [`oci`]: references, digests, descriptors and manifests, and how a TUF repository maps onto them.
//! - [`policy`]: which root speaks for which reference, and the one [`policy::Verdict`] of every surface.
//! - [`record`]: reading what comes from outside by the names of its members only.

pub mod oci;
pub mod policy;
pub mod record;
pub mod tuf;
