//! The registry's folder.
//!
//! ```text
//! blobs/sha256/ab/abcd…                  content, blobs and manifests alike
//! repositories/NAME/_blobs/abcd…         empty: the repository has this blob
//! repositories/NAME/_manifests/abcd…     the manifest's media type
//! repositories/NAME/_tags/TAG            the manifest's digest
//! temporary/…                            uploads and files being written
//! ```
//!
//! No component of a repository's name begins with `_`. Every file is written under `temporary/`, synced, renamed to
//! its place, and its folder synced; content before the file that names it, so no crash leaves a name for nothing.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use plimsoll_core::oci::{Digest, Tag};
use ring::rand::{SecureRandom, SystemRandom};

use super::route::{ManifestRef, Repository};

#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
}

/// A manifest that a repository has.
#[derive(Debug)]
pub(super) struct StoredManifest {
    pub(super) digest: Digest,
    pub(super) media_type: String,
}

impl Disk {
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        fs::set_permissions(root, fs::Permissions::from_mode(0o700))?;
        let disk = Self { root: root.to_owned() };
        for folder in ["blobs/sha256", "repositories", "temporary"] {
            disk.make_folders(Path::new(folder))?;
        }
        Ok(disk)
    }

    /// Where unfinished files are kept; on the same file system as everything else.
    pub(super) fn temporary(&self) -> PathBuf {
        self.root.join("temporary")
    }

    /// The content and its length, if there is such content in any repository.
    pub(super) fn content(&self, digest: &Digest) -> io::Result<Option<(File, u64)>> {
        let Some(file) = found(File::open(self.root.join(content_path(digest))))? else { return Ok(None) };
        let length = file.metadata()?.len();
        Ok(Some((file, length)))
    }

    pub(super) fn has_blob(&self, repository: &Repository, digest: &Digest) -> io::Result<bool> {
        self.root.join(place(repository, "_blobs", &digest.hex())).try_exists()
    }

    pub(super) fn has_manifest(&self, repository: &Repository, digest: &Digest) -> io::Result<bool> {
        self.root.join(place(repository, "_manifests", &digest.hex())).try_exists()
    }

    pub(super) fn manifest(
        &self,
        repository: &Repository,
        reference: &ManifestRef,
    ) -> io::Result<Option<StoredManifest>> {
        let digest = match reference {
            ManifestRef::Digest(digest) => *digest,
            ManifestRef::Tag(tag) => {
                let path = self.root.join(place(repository, "_tags", tag.as_str()));
                let Some(text) = found(fs::read_to_string(&path))? else { return Ok(None) };
                text.parse().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?
            }
        };
        let path = self.root.join(place(repository, "_manifests", &digest.hex()));
        let media_type = found(fs::read_to_string(path))?;
        Ok(media_type.map(|media_type| StoredManifest { digest, media_type }))
    }

    /// The repository's tags, sorted; `None` if nothing was ever pushed to it.
    pub(super) fn tags(&self, repository: &Repository) -> io::Result<Option<Vec<String>>> {
        let folder = self.root.join("repositories").join(repository.as_str());
        let Some(entries) = found(fs::read_dir(folder.join("_tags")))? else {
            let known = folder.join("_blobs").try_exists()? || folder.join("_manifests").try_exists()?;
            return Ok(known.then(Vec::new));
        };
        let mut tags = Vec::new();
        for entry in entries {
            tags.extend(entry?.file_name().into_string().ok());
        }
        tags.sort_unstable();
        Ok(Some(tags))
    }

    /// Moves the synced file `temporary`, whose content has this digest, to its place and gives the blob to
    /// the repository. Durable on return.
    pub(super) fn adopt_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        temporary: &Path,
    ) -> io::Result<()> {
        self.adopt(temporary, &content_path(digest))?;
        self.link_blob(repository, digest)
    }

    /// Gives the repository a blob that another one has. Durable on return.
    pub(super) fn link_blob(&self, repository: &Repository, digest: &Digest) -> io::Result<()> {
        self.write(&place(repository, "_blobs", &digest.hex()), b"")
    }

    /// Stores a manifest, then points the tag at it. Durable on return.
    pub(super) fn put_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        media_type: &str,
        bytes: &[u8],
        tag: Option<&Tag>,
    ) -> io::Result<()> {
        // A crash after any line leaves what was there before, plus content that nothing names.
        self.write(&content_path(digest), bytes)?;
        self.write(&place(repository, "_manifests", &digest.hex()), media_type.as_bytes())?;
        if let Some(tag) = tag {
            self.write(&place(repository, "_tags", tag.as_str()), digest.to_string().as_bytes())?;
        }
        Ok(())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.temporary().join(format!("file-{}", random_id()?));
        let written = File::create_new(&temporary).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            self.adopt(&temporary, path)
        });
        if written.is_err() {
            // Best effort: what stays is swept an hour later.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn adopt(&self, temporary: &Path, path: &Path) -> io::Result<()> {
        let folder = path.parent().expect("every path in this module has a folder");
        self.make_folders(folder)?;
        fs::rename(temporary, self.root.join(path))?;
        sync_folder(&self.root.join(folder))
    }

    /// Makes a folder and those above it, each name durable.
    fn make_folders(&self, folder: &Path) -> io::Result<()> {
        let mut path = self.root.clone();
        for component in folder {
            let above = path.clone();
            path.push(component);
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => sync_folder(&above)?,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// 128 random bits, hex.
pub(super) fn random_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system has no randomness"))?;
    Ok(HEXLOWER.encode(&bytes))
}

fn content_path(digest: &Digest) -> PathBuf {
    let hex = digest.hex();
    ["blobs", "sha256", &hex[..2], &hex].iter().collect()
}

fn place(repository: &Repository, kind: &str, name: &str) -> PathBuf {
    ["repositories", repository.as_str(), kind, name].iter().collect()
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
