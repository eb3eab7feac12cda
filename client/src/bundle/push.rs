//! Pushing an image to a registry, from wherever its blobs are.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use bytes::Bytes;
use plimsoll_core::oci::{Descriptor, Digest, RepositoryAddress, Tag};

use super::{BundleError, Image};
use crate::{
    layout::{Layout, LayoutError},
    registry::{Registry, RegistryError},
};

/// The pieces in which a blob is pushed, bytes.
const PIECE: u64 = 8 << 20;
/// Names in the folder for temporary files that may be taken.
const MAX_TRIES: u32 = 100;

/// Where an image's blobs are read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Blobs<'a> {
    /// In a layout that was verified.
    Layout(&'a Layout),
    /// In a repository of a registry, which is not trusted: a blob is verified before any of it is sent on.
    Registry(&'a Registry, &'a RepositoryAddress),
}

impl Image {
    /// Pushes it to the repository `to`: blobs that are not there, its manifests by digest, and last the one that was
    /// verified, as `tag`, which showed `before` when this was decided on; then reads that back. Whatever is broken off can
    /// be done again, and goes on where it ended.
    ///
    /// # Errors
    /// [`BundleError::Gone`] if the source lacks a blob, [`BundleError::Registry`], [`BundleError::Write`] for the file
    /// that holds one blob on its way, [`BundleError::Meanwhile`] if `tag` does not show `before` any more,
    /// [`BundleError::Moved`] if it does not show the image in the end.
    pub async fn push(
        &self,
        registry: &Registry,
        to: &RepositoryAddress,
        tag: &Tag,
        before: Option<Digest>,
    ) -> Result<(), BundleError> {
        let from = Blobs::Registry(registry, &self.repository);
        push_blobs(registry, to, &self.blobs, from).await?;
        for (manifest, bytes) in &self.manifests {
            let top = manifest.digest == self.top.digest;
            if top {
                let found = shown(registry, to, tag).await?;
                if found != before && found != Some(manifest.digest) {
                    return Err(BundleError::Meanwhile { place: format!("{to}:{tag}"), found });
                }
            }
            let reference = if top { tag.as_str().to_owned() } else { manifest.digest.to_string() };
            let bytes = Bytes::from(bytes.clone());
            registry.put_manifest(to, &reference, &manifest.media_type, bytes).await?;
        }
        if shown(registry, to, tag).await? == Some(self.top.digest) {
            return Ok(());
        }
        Err(BundleError::Moved { place: format!("{to}:{tag}") })
    }
}

/// What `tag` means in the repository `to`; none if there is no such tag, or no such repository yet.
///
/// # Errors
/// [`RegistryError`].
pub async fn shown(
    registry: &Registry,
    to: &RepositoryAddress,
    tag: &Tag,
) -> Result<Option<Digest>, RegistryError> {
    shown_digest(registry, to, tag.as_str()).await
}

pub(super) async fn shown_digest(
    registry: &Registry,
    to: &RepositoryAddress,
    tag: &str,
) -> Result<Option<Digest>, RegistryError> {
    match registry.head_manifest(to, tag).await {
        Err(RegistryError::NotFound { .. }) => Ok(None),
        found => Ok(found?.map(|found| found.digest)),
    }
}

/// Pushes those of `blobs` that `to` does not have.
pub(super) async fn push_blobs(
    registry: &Registry,
    to: &RepositoryAddress,
    blobs: &[Descriptor],
    from: Blobs<'_>,
) -> Result<(), BundleError> {
    for blob in blobs {
        match registry.has_blob(to, &blob.digest).await {
            Ok(true) => continue,
            // Who may push need not be allowed to look; if it is neither, the upload says so.
            Err(error) if !error.is_auth() => return Err(error.into()),
            _ => {}
        }
        let mut content = from.open(blob).await?;
        let mut upload = registry.start_upload(to).await?;
        loop {
            let mut piece = Vec::new();
            (&mut content).take(PIECE).read_to_end(&mut piece).map_err(|source| from.unread(source))?;
            if piece.is_empty() {
                break;
            }
            registry.upload_piece(&mut upload, Bytes::from(piece)).await?;
        }
        registry.finish_upload(upload, &blob.digest).await?;
    }
    Ok(())
}

impl<'a> Blobs<'a> {
    async fn open<'b>(self, blob: &'b Descriptor) -> Result<Box<dyn Read + 'b>, BundleError>
    where
        'a: 'b,
    {
        match self {
            Self::Layout(layout) => Ok(Box::new(layout.read(&blob.digest)?.0)),
            Self::Registry(registry, repository) => Ok(Box::new(fetched(registry, repository, blob).await?)),
        }
    }

    fn unread(self, source: io::Error) -> BundleError {
        match self {
            Self::Layout(layout) => LayoutError::Io { path: layout.place().to_owned(), source }.into(),
            Self::Registry(..) => BundleError::Read { path: std::env::temp_dir(), source },
        }
    }
}

/// The blob in a file without a name: large ones are not held in memory, and nothing is left behind.
async fn fetched(
    registry: &Registry,
    repository: &RepositoryAddress,
    blob: &Descriptor,
) -> Result<File, BundleError> {
    let write = |source| BundleError::Write { path: std::env::temp_dir(), source };
    let mut file = nameless().map_err(write)?;
    let mut failed = None;
    let found = registry
        .blob_into(repository, blob, |piece| {
            failed = file.write_all(piece).err();
            failed.is_none()
        })
        .await;
    if let Some(source) = failed {
        return Err(write(source));
    }
    if !found? {
        return Err(BundleError::Gone { place: repository.to_string(), digest: blob.digest });
    }
    file.rewind().map_err(write)?;
    Ok(file)
}

fn nameless() -> io::Result<File> {
    let folder = std::env::temp_dir();
    let mut tried = 0;
    loop {
        let path: PathBuf = folder.join(format!("plimsoll-{}-{tried}.tmp", std::process::id()));
        match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return fs::remove_file(&path).map(|()| file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tried < MAX_TRIES => tried += 1,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way_has_no_name_and_is_read_from_the_start() {
        let (mut one, mut other) = (nameless().unwrap(), nameless().unwrap());
        one.write_all(b"one").unwrap();
        other.write_all(b"other").unwrap();
        one.rewind().unwrap();
        assert_eq!(io::read_to_string(one).unwrap(), "one");
        let start = format!("plimsoll-{}-", std::process::id());
        let left = fs::read_dir(std::env::temp_dir()).unwrap();
        let left = left.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(&start));
        assert_eq!(left.count(), 0);
    }
}
