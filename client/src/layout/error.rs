//! Why a layout cannot be read.

use std::path::PathBuf;

use plimsoll_core::{oci::Digest, tuf::json::JsonError};

use super::ArchiveFault;

/// Why a layout cannot be read. All of it is misuse, or a layout that somebody tampered with; each names the place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A file that a layout has is not there.
    #[error("`{}` is missing: not an OCI image layout, or not a whole one", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The system does not let it be read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A link, a pipe, or anything else that is no plain file or directory.
    #[error("`{}` is no plain file or directory; links in a layout are not followed", path.display())]
    NotPlain {
        /// The place.
        path: PathBuf,
    },
    /// Not a tar archive of a layout and of nothing else.
    #[error("`{}`, at byte {offset}: {fault}", path.display())]
    Archive {
        /// The archive, and the entry in it if it is known.
        path: PathBuf,
        /// Where in the archive, bytes.
        offset: u64,
        /// What is wrong.
        fault: ArchiveFault,
    },
    /// Longer than it may be.
    #[error("`{}` is longer than {limit} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit, bytes.
        limit: u64,
    },
    /// Another length than the layout says.
    #[error("`{}` has {found} bytes where the layout says {expected}", path.display())]
    Size {
        /// The blob.
        path: PathBuf,
        /// What the layout says, bytes.
        expected: u64,
        /// What it has, bytes.
        found: u64,
    },
    /// Other content than its name says.
    #[error("`{}` has the digest {found}", path.display())]
    Digest {
        /// The blob.
        path: PathBuf,
        /// What it has.
        found: Digest,
    },
    /// Not strict JSON.
    #[error("`{}` is not strict JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: JsonError,
    },
    /// JSON of another shape.
    #[error("`{}` does not have the shape it must have", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A version of layouts that is not known.
    #[error("`{}` says version `{version}`, and only 1 is known", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version.
        version: String,
    },
    /// Not a manifest, or one that says different things of itself.
    #[error("`{}` is not plainly a manifest or an index: media type `{found}`", path.display())]
    MediaType {
        /// The blob.
        path: PathBuf,
        /// The type that does not fit.
        found: String,
    },
    /// No image of this name, or none at all.
    #[error("there is no image{} in `{}`; it has {names}", name.as_ref().map(|name| format!(" `{name}`")).unwrap_or_default(), directory.display())]
    NoSuchImage {
        /// The layout.
        directory: PathBuf,
        /// The name; none if the only image was wanted.
        name: Option<String>,
        /// What there is.
        names: String,
    },
    /// Which one is meant is not clear.
    #[error("several images in `{}` could be meant; it has {names}", directory.display())]
    Several {
        /// The layout.
        directory: PathBuf,
        /// What there is.
        names: String,
    },
}

impl LayoutError {
    /// True if somebody tampered with it, or it is damaged; false if it is not there, cannot be read, or is not what was
    /// asked for.
    pub fn is_untrusted(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Io { .. } | Self::NoSuchImage { .. } | Self::Several { .. } => false,
            Self::NotPlain { .. }
            | Self::Archive { .. }
            | Self::TooLong { .. }
            | Self::Size { .. }
            | Self::Digest { .. }
            | Self::Json { .. }
            | Self::Shape { .. }
            | Self::Version { .. }
            | Self::MediaType { .. } => true,
        }
    }
}
