//! OCI image layouts: images in a directory, or in a tar archive of one (OCI image spec 1.1, image-layout.md).
//!
//! A layout may come from anybody. Nothing outside of its directory is read: paths are made of checked digests only, and no
//! link is followed below the directory. An archive is read in place, never unpacked. Every file is read with a cap, and a
//! blob counts only if it has its digest and size.

mod archive;
#[cfg(test)]
mod archive_tests;
mod error;
#[cfg(test)]
mod tests;
pub mod write;

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use plimsoll_core::{
    oci::{Descriptor, Digest, is_index, media_type},
    record,
    tuf::json,
};
use ring::digest::{Context, SHA256};
use serde::Deserialize;

use archive::{Archive, Content};
pub use archive::{ArchiveFault, MAX_ARCHIVE, MAX_ENTRIES, header};
pub use error::LayoutError;

/// The annotation that names an image inside a layout (OCI image spec 1.1, annotations.md).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// `oci-layout` and manifests may be this long, bytes.
const MAX_FILE: u64 = 4 << 20;
/// `index.json` may be this long, bytes: it names each of ten thousand roles.
const MAX_INDEX: u64 = 16 << 20;

/// An image layout that was opened.
#[derive(Debug)]
pub struct Layout {
    place: PathBuf,
    /// None: `place` is a directory.
    archive: Option<Archive>,
    manifests: Vec<Descriptor>,
}

impl Layout {
    /// Reads `oci-layout` and `index.json` in `place`, a directory or a tar archive of one. Of an archive every header is
    /// read, too.
    ///
    /// # Errors
    /// [`LayoutError`].
    pub fn open(place: &Path) -> Result<Self, LayoutError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Marker {
            image_layout_version: String,
        }
        #[derive(Deserialize)]
        struct Index {
            manifests: Vec<Descriptor>,
        }
        let kind = fs::metadata(place).map_err(|error| unread(place, MAX_FILE, error))?.file_type();
        let archive = if kind.is_file() { Some(Archive::open(place)?) } else { None };
        let mut layout = Self { place: place.to_owned(), archive, manifests: Vec::new() };
        let marker: Marker = strict(&place.join("oci-layout"), &layout.file("oci-layout", MAX_FILE)?)?;
        if marker.image_layout_version.split('.').next() != Some("1") {
            let version = marker.image_layout_version.chars().take(80).collect();
            return Err(LayoutError::Version { path: place.join("oci-layout"), version });
        }
        let index: Index = strict(&place.join("index.json"), &layout.file("index.json", MAX_INDEX)?)?;
        layout.manifests = index.manifests;
        Ok(layout)
    }

    /// The directory or archive.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// What `index.json` lists, in its order: unsigned hints.
    pub fn manifests(&self) -> &[Descriptor] {
        &self.manifests
    }

    /// The digests of all blobs that an archive holds, whatever names them; none of a directory, which may hold more.
    pub fn archived(&self) -> Option<impl Iterator<Item = Digest> + '_> {
        self.archive.as_ref().map(Archive::blobs)
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
                let directory = self.place.clone();
                Err(LayoutError::NoSuchImage { directory, name: name.map(cut), names: self.names() })
            }
            _ => Err(LayoutError::Several { directory: self.place.clone(), names: self.names() }),
        }
    }

    /// The bytes of the manifest that `descriptor` names: they have its digest and its size, and say of themselves what it
    /// says of them, if anything.
    ///
    /// # Errors
    /// [`LayoutError`], with the blob's path.
    pub fn manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, LayoutError> {
        let path = self.path(&descriptor.digest);
        if descriptor.size > MAX_FILE {
            return Err(LayoutError::TooLong { path, limit: MAX_FILE });
        }
        let bytes = self.sized(descriptor)?;
        check_type(&path, &bytes, &descriptor.media_type)?;
        Ok(bytes)
    }

    /// The blob `digest`, at most `cap` bytes, in memory and with that digest; none if it is not there.
    ///
    /// # Errors
    /// [`LayoutError`], with the blob's path.
    pub fn blob(&self, digest: &Digest, cap: u64) -> Result<Option<Vec<u8>>, LayoutError> {
        let bytes = match self.file(&name(digest), cap) {
            Ok(bytes) => bytes,
            Err(LayoutError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = Digest::of(&bytes);
        if found == *digest {
            Ok(Some(bytes))
        } else {
            Err(LayoutError::Digest { path: self.path(digest), found })
        }
    }

    /// How long the blob `digest` is, bytes; none if it is not there. Its content is not read.
    ///
    /// # Errors
    /// [`LayoutError`], with the blob's path.
    pub fn length(&self, digest: &Digest) -> Result<Option<u64>, LayoutError> {
        match &self.archive {
            Some(archive) => Ok(archive.length(&name(digest))),
            None => match self.plain(&name(digest)) {
                Ok((_, length)) => Ok(Some(length)),
                Err(LayoutError::Missing { .. }) => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    /// Gives the content of the blob that `descriptor` names to `take`, piece by piece; whether it has that digest and size
    /// is known at the end.
    ///
    /// # Errors
    /// [`LayoutError`] with the blob's path: then what was given counts for nothing. [`LayoutError::Io`] for an error of
    /// `take`, too.
    pub fn copy(
        &self,
        descriptor: &Descriptor,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), LayoutError> {
        let path = self.path(&descriptor.digest);
        let io = |source| LayoutError::Io { path: path.clone(), source };
        let (mut content, length) = self.content(&name(&descriptor.digest))?;
        if length != descriptor.size {
            return Err(LayoutError::Size { path, expected: descriptor.size, found: length });
        }
        let mut sum = Context::new(&SHA256);
        let mut piece = vec![0; 1 << 16];
        let mut left = length;
        // Not more than it was long, should it grow.
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            let read = content.read(&mut piece[..most]).map_err(io)?;
            if read == 0 {
                return Err(LayoutError::Size { path, expected: length, found: length - left });
            }
            sum.update(&piece[..read]);
            take(&piece[..read]).map_err(io)?;
            left -= read as u64;
        }
        let found = Digest::from_sum(sum.finish().as_ref()).expect("a sha256 has 32 bytes");
        if found == descriptor.digest { Ok(()) } else { Err(LayoutError::Digest { path, found }) }
    }

    /// The content of the blob `digest` as it is now, unchecked, and its length in bytes.
    ///
    /// # Errors
    /// [`LayoutError`], with the blob's path.
    pub fn read(&self, digest: &Digest) -> Result<(impl Read, u64), LayoutError> {
        self.content(&name(digest))
    }

    fn sized(&self, descriptor: &Descriptor) -> Result<Vec<u8>, LayoutError> {
        let path = self.path(&descriptor.digest);
        let bytes = self.file(&name(&descriptor.digest), MAX_FILE)?;
        if bytes.len() as u64 != descriptor.size {
            let found = bytes.len() as u64;
            return Err(LayoutError::Size { path, expected: descriptor.size, found });
        }
        let found = Digest::of(&bytes);
        if found == descriptor.digest { Ok(bytes) } else { Err(LayoutError::Digest { path, found }) }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.place.join(name(digest))
    }

    fn file(&self, name: &str, cap: u64) -> Result<Vec<u8>, LayoutError> {
        let path = self.place.join(name);
        let (content, length) = self.content(name)?;
        if length > cap {
            return Err(LayoutError::TooLong { path, limit: cap });
        }
        let mut bytes = Vec::new();
        content.take(cap + 1).read_to_end(&mut bytes).map_err(|error| unread(&path, cap, error))?;
        if bytes.len() as u64 > cap { Err(LayoutError::TooLong { path, limit: cap }) } else { Ok(bytes) }
    }

    fn content(&self, name: &str) -> Result<(Reader<'_>, u64), LayoutError> {
        match &self.archive {
            Some(archive) => {
                let missing = || LayoutError::Missing { path: self.place.join(name) };
                let length = archive.length(name).ok_or_else(missing)?;
                Ok((Reader::Archive(archive.content(name).ok_or_else(missing)?), length))
            }
            None => {
                let (path, length) = self.plain(name)?;
                Ok((Reader::File(File::open(&path).map_err(|error| unread(&path, MAX_FILE, error))?), length))
            }
        }
    }

    /// A plain file in the directory, of whose folders none is a link: one could lead out of the layout, and a pipe would
    /// never end.
    fn plain(&self, name: &str) -> Result<(PathBuf, u64), LayoutError> {
        let mut path = self.place.clone();
        let mut parts = name.split('/').peekable();
        loop {
            path.push(parts.next().expect("the loop ends at the last part"));
            let found = fs::symlink_metadata(&path).map_err(|error| unread(&path, MAX_FILE, error))?;
            let last = parts.peek().is_none();
            if !(if last { found.is_file() } else { found.is_dir() }) {
                return Err(LayoutError::NotPlain { path });
            }
            if last {
                return Ok((path, found.len()));
            }
        }
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

fn name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// What a blob is read from.
enum Reader<'a> {
    File(File),
    Archive(Content<'a>),
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Archive(content) => content.read(buffer),
        }
    }
}

fn strict<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, LayoutError> {
    json::check(bytes).map_err(|source| LayoutError::Json { path: path.to_owned(), source })?;
    record::json(bytes).map_err(|source| LayoutError::Shape { path: path.to_owned(), source })
}

fn unread(path: &Path, limit: u64, error: io::Error) -> LayoutError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => LayoutError::Missing { path },
        io::ErrorKind::FileTooLarge => LayoutError::TooLong { path, limit },
        _ => LayoutError::Io { path, source: error },
    }
}

fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}
