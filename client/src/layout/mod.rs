//! OCI image layouts: images in a directory (OCI image spec 1.1, image-layout.md).
//!
//! A layout may come from anybody. Nothing outside of its directory is read: paths are made of checked digests only, and no
//! link is followed below the directory. Every file is read with a cap, and a blob counts only if it has its digest and size.

mod error;
#[cfg(test)]
mod tests;

use std::{
    fs,
    path::{Path, PathBuf},
};

use plimsoll_core::{
    oci::{Descriptor, Digest, is_index, media_type},
    tuf::json,
};
use serde::Deserialize;

pub use error::LayoutError;

use crate::state;

/// The annotation that names an image inside a layout (OCI image spec 1.1, annotations.md).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// `oci-layout`, `index.json` and manifests may be this long, bytes.
const MAX_FILE: u64 = 4 << 20;

/// An image layout that was opened.
#[derive(Debug)]
pub struct Layout {
    directory: PathBuf,
    manifests: Vec<Descriptor>,
}

impl Layout {
    /// Reads `oci-layout` and `index.json` in `directory`.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn open(directory: &Path) -> Result<Self, LayoutError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Marker {
            image_layout_version: String,
        }
        #[derive(Deserialize)]
        struct Index {
            manifests: Vec<Descriptor>,
        }
        let marker: Marker = parsed(&directory.join("oci-layout"))?;
        if marker.image_layout_version.split('.').next() != Some("1") {
            let version = marker.image_layout_version.chars().take(80).collect();
            return Err(LayoutError::Version { path: directory.join("oci-layout"), version });
        }
        let index: Index = parsed(&directory.join("index.json"))?;
        Ok(Self { directory: directory.to_owned(), manifests: index.manifests })
    }

    /// The image called `name` in the layout; without a name the only one.
    ///
    /// # Errors
    /// [`LayoutError::NoSuchImage`], [`LayoutError::Several`].
    pub fn image(&self, name: Option<&str>) -> Result<&Descriptor, LayoutError> {
        let called = |manifest: &&Descriptor| {
            name.is_none_or(|name| manifest.annotations.get(REF_NAME).is_some_and(|called| called == name))
        };
        let mut found: Vec<&Descriptor> = self.manifests.iter().filter(called).collect();
        // The same content under several names is one image.
        found.dedup_by_key(|manifest| manifest.digest);
        match found.as_slice() {
            [image] => Ok(image),
            [] => {
                let directory = self.directory.clone();
                Err(LayoutError::NoSuchImage { directory, name: name.map(cut), names: self.names() })
            }
            _ => Err(LayoutError::Several { directory: self.directory.clone(), names: self.names() }),
        }
    }

    /// The bytes of the manifest that `descriptor` names: they have its digest and its size, and say of themselves what it
    /// says of them, if anything.
    ///
    /// # Errors
    /// [`LayoutError`], with the blob's path.
    pub fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, LayoutError> {
        let path = self.blob(&descriptor.digest)?;
        if descriptor.size > MAX_FILE {
            return Err(LayoutError::TooLong { path, limit: MAX_FILE });
        }
        let bytes = read(&path)?;
        if bytes.len() as u64 != descriptor.size {
            let found = bytes.len() as u64;
            return Err(LayoutError::Size { path, expected: descriptor.size, found });
        }
        let found = Digest::of(&bytes);
        if found != descriptor.digest {
            return Err(LayoutError::Digest { path, found });
        }
        check_type(&path, &bytes, &descriptor.media_type)?;
        Ok(bytes)
    }

    /// `blobs/sha256/HEX`, of which nothing is a link.
    fn blob(&self, digest: &Digest) -> Result<PathBuf, LayoutError> {
        let mut path = self.directory.clone();
        for part in ["blobs", "sha256"] {
            path.push(part);
            let kind = fs::symlink_metadata(&path).map_err(|error| unread(&path, error))?.file_type();
            if !kind.is_dir() {
                return Err(LayoutError::NotPlain { path });
            }
        }
        path.push(digest.hex());
        Ok(path)
    }

    fn names(&self) -> String {
        let names = self.manifests.iter().filter_map(|manifest| manifest.annotations.get(REF_NAME));
        let names: Vec<String> = names.take(20).map(|name| cut(name)).collect();
        if names.is_empty() { "no image with a name".to_owned() } else { names.join(", ") }
    }
}

/// What is signed is handed out by registries as this type, so it must be one, and the manifest must not deny it.
fn check_type(path: &Path, bytes: &[u8], media_type: &str) -> Result<(), LayoutError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Own {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let wrong = |found: &str| LayoutError::MediaType { path: path.to_owned(), found: cut(found) };
    if !is_index(media_type) && !matches!(media_type, media_type::MANIFEST | media_type::DOCKER_MANIFEST) {
        return Err(wrong(media_type));
    }
    let own: Own = strict(path, bytes)?;
    if let Some(own) = own.media_type.filter(|own| own != media_type) {
        return Err(wrong(&own));
    }
    // CVE-2021-41190: an image manifest that could be read as an index.
    if own.manifests.is_some() != is_index(media_type) {
        return Err(wrong(media_type));
    }
    Ok(())
}

fn parsed<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, LayoutError> {
    strict(path, &read(path)?)
}

fn strict<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, LayoutError> {
    json::check(bytes).map_err(|source| LayoutError::Json { path: path.to_owned(), source })?;
    serde_json::from_slice(bytes).map_err(|source| LayoutError::Shape { path: path.to_owned(), source })
}

/// A plain file: a link could lead out of the layout, and a pipe would never end.
fn read(path: &Path) -> Result<Vec<u8>, LayoutError> {
    let kind = fs::symlink_metadata(path).map_err(|error| unread(path, error))?.file_type();
    if !kind.is_file() {
        return Err(LayoutError::NotPlain { path: path.to_owned() });
    }
    match state::read(path, MAX_FILE) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(LayoutError::Missing { path: path.to_owned() }),
        Err(error) => Err(unread(path, error)),
    }
}

fn unread(path: &Path, error: std::io::Error) -> LayoutError {
    let path = path.to_owned();
    match error.kind() {
        std::io::ErrorKind::NotFound => LayoutError::Missing { path },
        std::io::ErrorKind::FileTooLarge => LayoutError::TooLong { path, limit: MAX_FILE },
        _ => LayoutError::Io { path, source: error },
    }
}

fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}
