//! Why nothing was exported, imported or mirrored.

use std::{io, path::PathBuf};

use plimsoll_core::{
    oci::{Digest, IndexError, ManifestError, ReferenceError, mapping::MappingError},
    policy::Verdict,
    tuf::json::JsonError,
};

use crate::{
    layout::LayoutError,
    registry::RegistryError,
    update::{UpdateError, registry_verdict},
};

/// Why nothing was exported, imported or mirrored. Each names what and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The layout or archive itself.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// An entry of `index.json` that is not `HOST/REPOSITORY:TAG` or `HOST/REPOSITORY@DIGEST`.
    #[error("`{}` lists `{name}`, which names no tag and no digest in a repository", path.display())]
    Name {
        /// The bundle.
        path: PathBuf,
        /// What it says, cut to 300 characters.
        name: String,
    },
    /// Two entries of one name.
    #[error("`{}` lists `{name}` twice", path.display())]
    Twice {
        /// The bundle.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// Nothing in it vouches for anything.
    #[error("there is no trust repository in `{}`", path.display())]
    NoTrust {
        /// The bundle.
        path: PathBuf,
    },
    /// The entry point of a trust repository that is none.
    #[error("`{name}` is not a trust repository")]
    Mapping {
        /// Its name.
        name: String,
        /// Why.
        source: MappingError,
    },
    /// A manifest that cannot be read.
    #[error("the manifest `{name}` cannot be read")]
    Manifest {
        /// Its name.
        name: String,
        /// Why.
        source: ManifestError,
    },
    /// An image index that cannot be read, or with too many manifests.
    #[error("the index `{name}` cannot be read")]
    Index {
        /// Its name.
        name: String,
        /// Why.
        source: IndexError,
    },
    /// The manifest of a role that is not what its tag says, or of a trust repository that is not there.
    #[error("`{name}` is not the manifest of a role of a trust repository in the same bundle")]
    Role {
        /// Its name.
        name: String,
    },
    /// A blob that is said to have two lengths.
    #[error("{digest} is said to have {one} bytes, and {other}")]
    Sizes {
        /// The blob.
        digest: Digest,
        /// One, bytes.
        one: u64,
        /// The other, bytes.
        other: u64,
    },
    /// A blob that nothing in the bundle names.
    #[error("`{}` is named by nothing in the bundle", path.display())]
    Stowaway {
        /// The blob.
        path: PathBuf,
    },
    /// What it says of itself is not what the documents in it say.
    #[error("`{name}` says {key} {said}, and its documents say {found}")]
    Annotation {
        /// The entry.
        name: String,
        /// What about.
        key: &'static str,
        /// What it says.
        said: String,
        /// What the documents say.
        found: String,
    },
    /// No root is pinned for a trust repository in the bundle.
    #[error("no root is pinned for {repository}{}", trust.as_ref().map(|trust| format!(" (trust id {trust})")).unwrap_or_default())]
    NotPinned {
        /// Where it was exported from.
        repository: String,
        /// Its trust id.
        trust: Option<String>,
    },
    /// Something that the bundle names is not in it, and not where it is to go.
    #[error("{what} ({digest}) is neither in the bundle nor at {place}")]
    Incomplete {
        /// What it is.
        what: String,
        /// Its digest.
        digest: Digest,
        /// Where it is to go.
        place: String,
    },
    /// A role that is at the destination, and would be lost.
    #[error("the bundle does not have {role} version {version}, of which {place} has an older version")]
    Lacks {
        /// The role.
        role: String,
        /// The version that the snapshot names.
        version: u64,
        /// Where it is to go.
        place: String,
    },
    /// A role that does not verify.
    #[error("{role} does not verify")]
    RoleUnverified {
        /// The role.
        role: String,
        /// Why.
        source: Box<UpdateError>,
    },
    /// A role that no verified role delegates to.
    #[error("{role} is in the bundle, and no role that verifies delegates to it")]
    Undelegated {
        /// The role.
        role: String,
    },
    /// The destination shows something newer, with valid signatures.
    #[error("{place} shows {role} version {shown}, which is newer than version {ours}")]
    Older {
        /// The destination.
        place: String,
        /// `root` or `timestamp`.
        role: &'static str,
        /// The version there.
        shown: u64,
        /// Ours.
        ours: u64,
    },
    /// What a bundle may have was passed: it could be made to cost more than it is worth.
    #[error("{name}: more than {limit} {what}")]
    TooMany {
        /// Where it was passed.
        name: String,
        /// Of what.
        what: &'static str,
        /// How many are taken.
        limit: u64,
    },
    /// The destination is another trust repository's.
    #[error("{place} is the place of {found}, and not of {ours}: it is not overwritten")]
    Foreign {
        /// The destination.
        place: String,
        /// Whose it is.
        found: String,
        /// What was to go there.
        ours: String,
    },
    /// The trust repository has another name already.
    #[error("the trust id {trust} is at {known}, and cannot be at {place} besides")]
    Elsewhere {
        /// The trust id.
        trust: String,
        /// Where it was to go.
        place: String,
        /// Where it is.
        known: String,
    },
    /// Two things in the bundle go to one place.
    #[error("{one} and {other} would both go to {place}")]
    SamePlace {
        /// One.
        one: String,
        /// The other.
        other: String,
        /// Where to.
        place: String,
    },
    /// An image that would go into a trust repository.
    #[error("{image} would go into {place}, where a trust repository is")]
    InTrust {
        /// What it is called in the bundle.
        image: String,
        /// Where it would go.
        place: String,
    },
    /// The destination shows another timestamp of the same version, with valid signatures: its signer said two things.
    #[error("{place} shows another timestamp of version {version}, with valid signatures")]
    Equivocation {
        /// The destination.
        place: String,
        /// The version.
        version: u64,
    },
    /// An image that is not vouched for.
    #[error("{image}: {why}")]
    Unverified {
        /// Its name.
        image: String,
        /// What is known of it.
        verdict: Verdict,
        /// In words.
        why: String,
    },
    /// The destination does not show what was just written there.
    #[error("{place} does not show what was pushed: somebody else writes there")]
    Moved {
        /// The destination.
        place: String,
    },
    /// The destination's tag is not what it was when this began: somebody else moved it, or removed it.
    #[error("{place} means {} by now, which it did not when this began", found.map_or_else(|| "nothing".to_owned(), |found| found.to_string()))]
    Meanwhile {
        /// The tag.
        place: String,
        /// What it means now.
        found: Option<Digest>,
    },
    /// A name at the destination that no repository has.
    #[error("there is no place for {repository} at the destination")]
    Place {
        /// The repository in the bundle.
        repository: String,
        /// Why.
        source: ReferenceError,
    },
    /// What is to be fetched is listed and not there.
    #[error("{place} does not have {digest}")]
    Gone {
        /// The repository.
        place: String,
        /// What.
        digest: Digest,
    },
    /// The file is there.
    #[error("`{}` exists already and is not overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The disk does not take it.
    #[error("cannot write `{}`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file that says what the far side has, which cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not strict JSON.
    #[error("`{}` is not strict JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: JsonError,
    },
    /// Neither a floor nor what `bundle inspect` prints.
    #[error("`{}` is neither a floor nor what `plimsoll bundle inspect -o json` prints", path.display())]
    State {
        /// The file.
        path: PathBuf,
    },
    /// A trust repository in a bundle that does not verify, or is older than what was seen here.
    #[error("{repository}, as it is in the bundle")]
    Refused {
        /// Where it was exported from.
        repository: String,
        /// Why.
        source: Box<UpdateError>,
    },
    /// Verifying.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl BundleError {
    /// The verdict; none for misuse and faults of this machine.
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Layout(error) if error.is_untrusted() => Some(Verdict::Untrusted),
            Self::Name { .. }
            | Self::Twice { .. }
            | Self::NoTrust { .. }
            | Self::Mapping { .. }
            | Self::Manifest { .. }
            | Self::Index { .. }
            | Self::Role { .. }
            | Self::Sizes { .. }
            | Self::Stowaway { .. }
            | Self::Annotation { .. }
            | Self::Undelegated { .. }
            | Self::TooMany { .. }
            | Self::SamePlace { .. }
            | Self::InTrust { .. }
            | Self::Equivocation { .. } => Some(Verdict::Untrusted),
            Self::NotPinned { .. } => Some(Verdict::NoPolicy),
            Self::Incomplete { .. } | Self::Lacks { .. } | Self::Moved { .. } | Self::Gone { .. } => {
                Some(Verdict::Unreachable)
            }
            Self::Older { .. } => Some(Verdict::Rollback),
            Self::Foreign { .. } | Self::Elsewhere { .. } | Self::Meanwhile { .. } => Some(Verdict::Conflict),
            Self::Unverified { verdict, .. } => Some(*verdict),
            Self::RoleUnverified { source, .. } | Self::Refused { source, .. } => source.verdict(),
            Self::Update(error) => error.verdict(),
            Self::Registry(error) => registry_verdict(error),
            Self::Layout(_)
            | Self::Place { .. }
            | Self::Exists { .. }
            | Self::Write { .. }
            | Self::Read { .. }
            | Self::Json { .. }
            | Self::State { .. } => None,
        }
    }

    /// True for a fault of this machine, false for misuse; means nothing where there is a verdict.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Write { .. } | Self::Update(UpdateError::State(_)) => true,
            Self::Refused { source, .. } => matches!(**source, UpdateError::State(_)),
            _ => false,
        }
    }
}
