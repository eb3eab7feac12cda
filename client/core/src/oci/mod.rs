//! The OCI side: names, digests, manifests, and the mapping between TUF files and tags, manifests and layers.

mod digest;
mod index;
mod manifest;
pub mod mapping;
mod name;
mod reference;

pub use digest::{Digest, DigestError};
pub use index::{IndexError, MAX_PLATFORMS, is_index, read_index};
pub use manifest::{Descriptor, EMPTY_CONFIG, Manifest, ManifestError, media_type};
pub use name::{TargetName, TargetNameError};
pub(crate) use reference::valid_host;
pub use reference::{Reference, ReferenceError, RepositoryAddress, Tag, valid_repository, valid_tag};
