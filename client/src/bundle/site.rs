//! Where a bundle or a mirror goes to: a registry, or an image layout in a folder.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::{
        Descriptor, Digest, Reference, ReferenceError, RepositoryAddress,
        mapping::{Artifact, LATEST, Listed, Listing, MAX_MANIFEST, MappingError},
        media_type,
    },
    tuf::{Document, Root, Snapshot, Timestamp, Trusted, limit},
};

use super::BundleError;
use crate::{
    layout::{Layout, LayoutError, REF_NAME},
    registry::{ManifestAnswer, Registry, RegistryError},
};

/// Where a bundle goes to.
#[derive(Debug, Clone)]
pub enum Site {
    /// A registry: `HOST`, or `HOST/PREFIX`, which the repositories' names are put below.
    Registry(Registry, String),
    /// A folder that is an image layout, or will be one; repositories keep the names that they have in the bundle.
    Layout(PathBuf),
}

impl Site {
    /// The registry at `place`, `HOST` or `HOST/PREFIX`.
    ///
    /// # Errors
    /// [`ReferenceError`].
    pub fn registry(registry: Registry, place: &str) -> Result<Self, ReferenceError> {
        let place = place.trim_end_matches('/');
        // A host is read as one only with a repository behind it.
        let probe: Reference = format!("{place}/x").parse()?;
        Ok(Self::Registry(registry, probe.repository.to_string().trim_end_matches("/x").to_owned()))
    }

    /// The repository at this site that the repository `source`, `HOST/REPOSITORY`, goes to.
    pub(super) fn spot(&self, source: &str) -> Result<Spot<'_>, BundleError> {
        match self {
            Self::Layout(folder) => Ok(Spot::Layout(folder, source.to_owned())),
            Self::Registry(registry, place) => {
                let wrong = |error| BundleError::Place { repository: source.to_owned(), source: error };
                let source: RepositoryAddress = source.parse().map_err(wrong)?;
                let to = format!("{place}/{}", source.name).parse().map_err(wrong)?;
                Ok(Spot::Registry(registry, to))
            }
        }
    }
}

/// One repository at a site.
#[derive(Debug)]
pub(super) enum Spot<'a> {
    Registry(&'a Registry, RepositoryAddress),
    Layout(&'a Path, String),
}

/// What a trust repository shows at a spot: nothing of it is verified.
#[derive(Debug)]
pub(super) struct Shown {
    listing: Listing,
    root: Option<Document<Root>>,
    pub(super) timestamp: Option<Document<Timestamp>>,
    pub(super) snapshot: Option<Document<Snapshot>>,
}

/// How what is shown at a spot stands to what is to go there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// There is nothing, or nothing that the root's keys vouch for.
    Empty,
    /// It is older.
    Behind { version: u64, as_of: Option<DateTime<Utc>> },
    /// It is the same.
    Same,
}

impl Spot<'_> {
    pub(super) fn place(&self) -> String {
        match self {
            Self::Registry(_, repository) => repository.to_string(),
            Self::Layout(folder, repository) => format!("oci:{}:{repository}", folder.display()),
        }
    }

    /// What is shown here; none if there is no entry point.
    pub(super) async fn shown(&self) -> Result<Option<Shown>, BundleError> {
        let Some(manifest) = self.latest().await? else { return Ok(None) };
        let wrong = |source: MappingError| BundleError::Mapping { name: self.place(), source };
        let listing = Listing::parse(&manifest).map_err(wrong)?;
        let timestamp = self.file(listing.timestamp(), limit::TIMESTAMP).await?;
        let timestamp = timestamp.and_then(|bytes| Document::<Timestamp>::parse("timestamp", &bytes).ok());
        let named = timestamp.as_ref().and_then(|t| listing.snapshot(t.signed.snapshot().version));
        let snapshot = self.file(named, limit::SNAPSHOT).await?;
        let fits = |bytes: &Vec<u8>| timestamp.as_ref().is_some_and(|t| t.signed.snapshot().fits(bytes));
        let snapshot = snapshot.filter(fits);
        let snapshot = snapshot.and_then(|bytes| Document::<Snapshot>::parse("snapshot", &bytes).ok());
        let root = listing.newest_root().and_then(|newest| listing.root(newest));
        let root = self.file(root, limit::ROOT).await?;
        let root = root.and_then(|bytes| Document::<Root>::parse("root", &bytes).ok());
        Ok(Some(Shown { listing, root, timestamp, snapshot }))
    }

    /// Refuses a place that shows another trust repository than the one of `root` and `timestamp`. No key vouches for what
    /// it shows, but whoever reads it there may.
    ///
    /// # Errors
    /// [`BundleError::Foreign`]
    async fn is_ours(
        &self,
        shown: &Shown,
        root: &[u8],
        timestamp: &Document<Timestamp>,
    ) -> Result<(), BundleError> {
        let ours = timestamp.signed.common.identity.as_ref().map(|identity| &identity.trust);
        let commons = [
            shown.timestamp.as_ref().map(|document| &document.signed.common),
            shown.root.as_ref().map(|document| &document.signed.common),
        ];
        let said = |trust: Option<&String>| {
            trust.map_or_else(
                || "a repository without a trust id".to_owned(),
                |id| format!("the trust id {id}"),
            )
        };
        let foreign = |found| BundleError::Foreign { place: self.place(), found, ours: said(ours) };
        let theirs: Vec<_> = commons.into_iter().flatten().map(|common| common.identity.as_ref()).collect();
        let ids: Vec<_> = theirs.iter().flatten().map(|identity| &identity.trust).collect();
        if let Some(other) = ids.iter().find(|id| Some(**id) != ours) {
            return Err(foreign(said(Some(other))));
        }
        if ours.is_some() {
            return if ids.is_empty() && !theirs.is_empty() { Err(foreign(said(None))) } else { Ok(()) };
        }
        // Without a trust id it is known by its roots: ours stands there with other content.
        let Ok(root) = Document::<Root>::parse("root", root) else { return Ok(()) };
        let there = self.file(shown.listing.root(root.version()), limit::ROOT).await?;
        let there = there.and_then(|bytes| Document::<Root>::parse("root", &bytes).ok());
        match there {
            Some(there) if there.canonical() != root.canonical() => {
                Err(foreign(format!("a repository with another root {}", there.version())))
            }
            _ => Ok(()),
        }
    }

    /// Where else in the same folder the trust id `trust` is. A registry is not searched.
    ///
    /// # Errors
    /// [`BundleError::Layout`]
    pub(super) async fn elsewhere(&self, trust: &str) -> Result<Option<String>, BundleError> {
        let (Self::Layout(folder, here), Some(layout)) = (self, self.layout()?) else { return Ok(None) };
        for descriptor in layout.manifests() {
            let called = descriptor.annotations.get(REF_NAME).and_then(|name| name.strip_suffix(LATEST));
            let Some(repository) = called.and_then(|name| name.strip_suffix(':')) else { continue };
            if repository == here {
                continue;
            }
            let spot = Spot::Layout(folder, repository.to_owned());
            // An image may be called `latest`, too.
            let shown = match spot.shown().await {
                Err(BundleError::Mapping { .. }) => continue,
                shown => shown?,
            };
            let timestamp = shown.and_then(|shown| shown.timestamp);
            let identity = timestamp.as_ref().and_then(|document| document.signed.common.identity.as_ref());
            if identity.is_some_and(|identity| identity.trust == trust) {
                return Ok(Some(spot.place()));
            }
        }
        Ok(None)
    }

    /// Its address. In a folder, the one that it had where it was exported.
    ///
    /// # Errors
    /// [`BundleError::Place`]
    pub(super) fn address(&self) -> Result<RepositoryAddress, BundleError> {
        match self {
            Self::Registry(_, repository) => Ok(repository.clone()),
            Self::Layout(_, repository) => repository
                .parse()
                .map_err(|source| BundleError::Place { repository: repository.clone(), source }),
        }
    }

    /// Compares what is shown here with our `timestamp`, under our newest `root`. Times do not count: what is shown here may
    /// have expired long ago, and is still not to be replaced by something older.
    ///
    /// # Errors
    /// [`BundleError::Foreign`] if another trust repository is here; [`BundleError::Older`] if a validly signed root or timestamp here is newer than ours,
    /// [`BundleError::Equivocation`].
    pub(super) async fn standing(
        &self,
        shown: &Shown,
        root: &[u8],
        timestamp: &Document<Timestamp>,
    ) -> Result<Standing, BundleError> {
        self.is_ours(shown, root, timestamp).await?;
        // At the beginning of time nothing has expired.
        let Ok(mut there) = Trusted::new(root, DateTime::<Utc>::MIN_UTC) else { return Ok(Standing::Empty) };
        let next = there.root().version() + 1;
        if let Some(bytes) = self.file(shown.listing.root(next), limit::ROOT).await?
            && there.update_root(&bytes).is_ok()
        {
            let ours = next - 1;
            return Err(BundleError::Older { place: self.place(), role: "root", shown: next, ours });
        }
        let Some(theirs) = &shown.timestamp else { return Ok(Standing::Empty) };
        if there.finish_root().is_err() || there.update_timestamp(&theirs.bytes).is_err() {
            return Ok(Standing::Empty);
        }
        let (version, ours) = (theirs.version(), timestamp.version());
        if version > ours {
            return Err(BundleError::Older { place: self.place(), role: "timestamp", shown: version, ours });
        }
        if version < ours {
            let as_of = theirs.signed.common.identity.as_ref().map(|identity| identity.at);
            return Ok(Standing::Behind { version, as_of });
        }
        if theirs.canonical() != timestamp.canonical() {
            return Err(BundleError::Equivocation { place: self.place(), version });
        }
        Ok(Standing::Same)
    }

    async fn latest(&self) -> Result<Option<Vec<u8>>, BundleError> {
        match self {
            Self::Registry(registry, repository) => {
                match registry.manifest(repository, LATEST, MAX_MANIFEST as u64, None).await? {
                    ManifestAnswer::Found(found) => Ok(Some(found.bytes.to_vec())),
                    _ => Ok(None),
                }
            }
            Self::Layout(_, repository) => {
                let Some(layout) = self.layout()? else { return Ok(None) };
                let name = format!("{repository}:{LATEST}");
                let found = layout.manifests().iter().find(|d| d.annotations.get(REF_NAME) == Some(&name));
                Ok(found.map(|descriptor| layout.manifest(descriptor)).transpose()?)
            }
        }
    }

    async fn file(&self, listed: Option<&Listed>, cap: u64) -> Result<Option<Vec<u8>>, BundleError> {
        match listed {
            Some(Listed { data: Some(data), .. }) => Ok(Some(data.clone())),
            Some(listed) if listed.size <= cap => self.blob(&listed.digest, listed.size).await,
            _ => Ok(None),
        }
    }

    /// The blob, of `size` bytes; none if it is not here.
    pub(super) async fn blob(&self, digest: &Digest, size: u64) -> Result<Option<Vec<u8>>, BundleError> {
        match self {
            Self::Registry(registry, repository) => {
                match registry.blob(repository, digest, size, true).await {
                    Err(RegistryError::NotFound { .. }) => Ok(None),
                    found => Ok(found?.map(Into::into)),
                }
            }
            Self::Layout(..) => match self.layout()? {
                Some(layout) => Ok(layout.blob(digest, size)?),
                None => Ok(None),
            },
        }
    }

    pub(super) async fn has(&self, digest: &Digest) -> Result<bool, BundleError> {
        match self {
            Self::Registry(registry, repository) => Ok(registry.has_blob(repository, digest).await?),
            Self::Layout(..) => match self.layout()? {
                Some(layout) => Ok(layout.length(digest)?.is_some()),
                None => Ok(false),
            },
        }
    }

    /// True if the image `called`, which has the tag `tag` if any, is here and means `digest`.
    pub(super) async fn shows(
        &self,
        tag: Option<&str>,
        called: &str,
        digest: &Digest,
    ) -> Result<bool, BundleError> {
        match self {
            Self::Registry(registry, repository) => {
                let reference = tag.map_or_else(|| digest.to_string(), str::to_owned);
                match registry.head_manifest(repository, &reference).await {
                    Err(RegistryError::NotFound { .. }) => Ok(false),
                    found => Ok(found?.is_some_and(|found| found.digest == *digest)),
                }
            }
            Self::Layout(..) => Ok(self.layout()?.is_some_and(|layout| {
                let mut named = layout.manifests().iter();
                named.any(|found| {
                    found.digest == *digest
                        && found.annotations.get(REF_NAME).is_some_and(|name| name == called)
                })
            })),
        }
    }

    fn layout(&self) -> Result<Option<Layout>, LayoutError> {
        let Self::Layout(folder, _) = self else { return Ok(None) };
        match Layout::open(folder) {
            Ok(layout) => Ok(Some(layout)),
            // Not made yet.
            Err(LayoutError::Missing { path }) if path == *folder || path == folder.join("oci-layout") => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Pushes `artifact`: its blobs, then its manifest to its tag.
pub(super) async fn push(
    registry: &Registry,
    to: &RepositoryAddress,
    artifact: &Artifact,
) -> Result<(), RegistryError> {
    for (_, bytes) in &artifact.blobs {
        registry.put_blob(to, Bytes::from(bytes.clone())).await?;
    }
    let manifest = Bytes::from(artifact.manifest.clone());
    registry.put_manifest(to, &artifact.tag, media_type::MANIFEST, manifest).await?;
    Ok(())
}

/// What names an artifact in a layout.
pub(super) fn descriptor(artifact: &Artifact, repository: &str) -> Descriptor {
    let mut descriptor = Descriptor::of(media_type::MANIFEST, &artifact.manifest);
    descriptor.annotations.insert(REF_NAME.to_owned(), format!("{repository}:{}", artifact.tag));
    descriptor
}
