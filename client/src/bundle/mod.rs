//! Trust across a gap: bundles that somebody carries, and mirrors between registries (docs/air-gap.md).
//!
//! A bundle is a tar archive of an OCI image layout: trust repositories as they lie in a registry, and the images that were
//! asked for. Nothing of it is believed. What leaves was verified by the client's own update workflow, what arrives is
//! verified again by roots that were pinned at the far side, and nothing goes back: an older bundle is ROLLBACK.

mod closure;
mod error;
mod export;
mod images;
mod import;
mod landing;
mod mirror;
mod push;
mod read;
mod since;
mod site;

pub use closure::{Closure, Extent, LeftOut, RoleArtifact, Skipped, Summary};
pub use error::BundleError;
pub use export::{Written, export};
pub use images::Image;
pub use import::{Imported, Importer, Landed, LandedImage, PinnedRoot};
pub use landing::Others;
pub(crate) use mirror::is_passing;
pub use mirror::{Mirror, Round};
pub use push::shown;
pub use read::{Bundle, Contents, ImagePart, Missing, RolePart, TrustPart};
pub use since::Known;
pub use site::Site;

/// The annotations of a bundle's entries begin so.
const PREFIX: &str = "vnd.plimsoll.";
/// The trust id.
const TRUST: &str = "vnd.plimsoll.trust";
/// When the timestamp was signed, RFC 3339.
const AS_OF: &str = "vnd.plimsoll.as-of";
/// The role that the manifest is of.
const ROLE: &str = "vnd.plimsoll.role";
/// The version of that role.
const VERSION: &str = "vnd.plimsoll.version";
/// The target name that an image was verified as.
const NAME: &str = "vnd.plimsoll.name";
