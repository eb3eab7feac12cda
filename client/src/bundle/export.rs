//! Writing a bundle.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use chrono::SecondsFormat;
use plimsoll_core::oci::{
    Descriptor, Digest, RepositoryAddress,
    mapping::{LATEST, Listing},
    media_type,
};
use serde::Serialize;

use super::{
    AS_OF, BundleError, Closure, Image, Known, NAME, PREFIX, ROLE, TRUST, VERSION, closure::Summary,
};
use crate::{
    layout::{REF_NAME, header, write},
    registry::Registry,
};

const BLOCK: u64 = 512;
/// Two blocks of zeros.
const END: [u8; 1024] = [0; 1024];

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    /// The file.
    pub file: PathBuf,
    /// Its length, bytes.
    pub bytes: u64,
    /// How many blobs it has.
    pub blobs: usize,
    /// How many blobs of the closure were left out, since the far side has them.
    pub left_to_far_side: usize,
}

/// Where the content of a blob is.
enum Piece {
    Here(Vec<u8>),
    There(RepositoryAddress, Descriptor),
}

/// What a bundle is made of. The same content makes the same bytes.
#[derive(Default)]
struct Package {
    manifests: Vec<Descriptor>,
    blobs: BTreeMap<Digest, Piece>,
    left: BTreeSet<Digest>,
}

/// Writes `closures` and `images` into a new file `out`: all of it, or with `known` what the far side does not have yet.
///
/// The blobs of images are fetched on the way. The file appears under its name when it is complete and on the disk; a
/// failure leaves none.
///
/// # Errors
/// [`BundleError::Exists`], [`BundleError::Write`], [`BundleError::Gone`], [`BundleError::Registry`].
pub async fn export(
    registry: &Registry,
    closures: &[Closure],
    images: &[Image],
    known: Option<&Known>,
    out: &Path,
) -> Result<Written, BundleError> {
    if out.symlink_metadata().is_ok() {
        return Err(BundleError::Exists { path: out.to_owned() });
    }
    let mut package = Package::default();
    for closure in closures {
        package.add(closure, known);
    }
    for image in images {
        package.add_image(image, known);
    }
    // A blob that is new for one is not left out for another.
    let blobs = &package.blobs;
    package.left.retain(|digest| !blobs.contains_key(digest));
    let temporary = Temporary::new(out)?;
    let bytes = package.write(registry, &temporary).await?;
    temporary.become_file(out)?;
    let (blobs, left_to_far_side) = (package.blobs.len(), package.left.len());
    Ok(Written { file: out.to_owned(), bytes, blobs, left_to_far_side })
}

impl Package {
    fn add(&mut self, closure: &Closure, known: Option<&Known>) {
        let summary = &closure.summary;
        let mut annotations =
            BTreeMap::from([(REF_NAME.to_owned(), format!("{}:{LATEST}", summary.repository))]);
        annotations.extend(summary.trust.clone().map(|trust| (TRUST.to_owned(), trust)));
        let as_of = summary.as_of.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true));
        annotations.extend(as_of.map(|at| (AS_OF.to_owned(), at)));
        for role in ["root", "timestamp", "snapshot", "targets"] {
            let version =
                summary.versions.get(role).map(|version| (format!("{PREFIX}{role}"), version.to_string()));
            annotations.extend(version);
        }
        let latest = &closure.latest;
        self.manifest(&latest.manifest, annotations);
        let listing = Listing::parse(&latest.manifest).expect("we wrote it");
        for (digest, bytes) in &latest.blobs {
            let listed = listing.files.iter().find(|(_, listed)| listed.digest == *digest);
            let there = known.is_some_and(|known| {
                // What travels inside the manifest, and the two bytes of the config, need not travel twice.
                let inline = listed.is_none_or(|(_, listed)| listed.data.is_some());
                let root = listed.and_then(|(name, _)| name.strip_suffix(".root.json")?.parse().ok());
                let root = root.is_some_and(|version| known.has_root(summary.trust.as_deref(), version));
                inline || root || known.has(digest)
            });
            self.blob(*digest, bytes, there);
        }
        let wanted = known.map(|known| news(closure, known));
        for (role, delegated) in &closure.roles {
            if wanted.as_ref().is_some_and(|wanted| !wanted.contains(role.as_str())) {
                self.left.insert(delegated.artifact.digest);
                self.left.extend(delegated.artifact.blobs.iter().map(|(digest, _)| *digest));
                continue;
            }
            let called = format!("{}:{}", summary.repository, delegated.artifact.tag);
            let mut annotations = BTreeMap::from([
                (REF_NAME.to_owned(), called),
                (ROLE.to_owned(), role.clone()),
                (VERSION.to_owned(), delegated.version.to_string()),
            ]);
            annotations.extend(summary.trust.clone().map(|trust| (TRUST.to_owned(), trust)));
            self.manifest(&delegated.artifact.manifest, annotations);
            for (digest, bytes) in &delegated.artifact.blobs {
                let config = *digest == Digest::of(plimsoll_core::oci::EMPTY_CONFIG);
                self.blob(*digest, bytes, known.is_some_and(|known| config || known.has(digest)));
            }
        }
    }

    fn add_image(&mut self, image: &Image, known: Option<&Known>) {
        let annotations =
            [(REF_NAME.to_owned(), image.called.clone()), (NAME.to_owned(), image.name.clone())];
        self.manifests.push(Descriptor { annotations: annotations.into(), ..image.top.clone() });
        for (descriptor, bytes) in &image.manifests {
            self.blobs.insert(descriptor.digest, Piece::Here(bytes.clone()));
        }
        for blob in &image.blobs {
            if known.is_some_and(|known| known.has(&blob.digest)) {
                self.left.insert(blob.digest);
            } else {
                let piece = || Piece::There(image.repository.clone(), blob.clone());
                self.blobs.entry(blob.digest).or_insert_with(piece);
            }
        }
    }

    fn manifest(&mut self, bytes: &[u8], annotations: BTreeMap<String, String>) {
        let descriptor = Descriptor::of(media_type::MANIFEST, bytes);
        self.blobs.insert(descriptor.digest, Piece::Here(bytes.to_vec()));
        self.manifests.push(Descriptor { annotations, ..descriptor });
    }

    fn blob(&mut self, digest: Digest, bytes: &[u8], there: bool) {
        if there {
            self.left.insert(digest);
        } else {
            self.blobs.insert(digest, Piece::Here(bytes.to_vec()));
        }
    }

    async fn write(&self, registry: &Registry, to: &Temporary) -> Result<u64, BundleError> {
        let mut tar = Tar { file: BufWriter::new(&to.file), length: 0, path: &to.path };
        tar.whole("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        tar.whole("index.json", &write::index(&self.manifests))?;
        for (digest, piece) in &self.blobs {
            let name = format!("blobs/sha256/{}", digest.hex());
            match piece {
                Piece::Here(bytes) => tar.whole(&name, bytes)?,
                Piece::There(repository, descriptor) => {
                    tar.begin(&name, descriptor.size)?;
                    let mut failed = None;
                    let found = registry
                        .blob_into(repository, descriptor, |piece| {
                            let put = tar.put(piece);
                            let stop = put.is_err();
                            failed = put.err();
                            !stop
                        })
                        .await;
                    if let Some(error) = failed {
                        return Err(error);
                    }
                    if !found? {
                        return Err(BundleError::Gone { place: repository.to_string(), digest: *digest });
                    }
                    tar.fill_up()?;
                }
            }
        }
        tar.finish()
    }
}

/// The delegated roles that are new to the far side, and those above them, which lead there.
fn news<'a>(closure: &'a Closure, known: &Known) -> BTreeSet<&'a str> {
    let mut wanted = BTreeSet::new();
    for (role, delegated) in &closure.roles {
        let document = delegated.artifact.blobs.last().map(|(digest, _)| digest);
        if document.is_some_and(|digest| known.has(digest)) {
            continue;
        }
        let mut next = Some(role.as_str());
        while let Some((name, above)) = next.and_then(|name| closure.roles.get_key_value(name)) {
            next = wanted.insert(name.as_str()).then_some(above.delegator.as_str());
        }
    }
    wanted
}

struct Tar<'a> {
    file: BufWriter<&'a File>,
    length: u64,
    path: &'a Path,
}

impl Tar<'_> {
    fn whole(&mut self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        self.begin(name, bytes.len() as u64)?;
        self.put(bytes)?;
        self.fill_up()
    }

    fn begin(&mut self, name: &str, size: u64) -> Result<(), BundleError> {
        let header = header(name, size).map_err(|error| self.failed(error))?;
        self.put(&header)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BundleError> {
        self.length += bytes.len() as u64;
        let written = self.file.write_all(bytes);
        written.map_err(|error| self.failed(error))
    }

    fn fill_up(&mut self) -> Result<(), BundleError> {
        let rest = usize::try_from(self.length.next_multiple_of(BLOCK) - self.length);
        self.put(&vec![0; rest.expect("less than a block")])
    }

    fn finish(mut self) -> Result<u64, BundleError> {
        self.put(&END)?;
        self.file.flush().map_err(|error| self.failed(error))?;
        Ok(self.length)
    }

    fn failed(&self, source: io::Error) -> BundleError {
        BundleError::Write { path: self.path.to_owned(), source }
    }
}

/// A file in the making beside where it is to be; removed unless it becomes that.
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    fn new(out: &Path) -> Result<Self, BundleError> {
        let failed = |source| BundleError::Write { path: out.to_owned(), source };
        let mut name = out.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?.to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let path = std::path::absolute(out).map_err(failed)?.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path).map_err(failed)?;
        Ok(Self { path, file })
    }

    fn become_file(self, out: &Path) -> Result<(), BundleError> {
        let failed = |source| BundleError::Write { path: out.to_owned(), source };
        self.file.sync_all().map_err(failed)?;
        // Not a rename: what somebody put there meanwhile is not overwritten.
        match fs::hard_link(&self.path, out) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(BundleError::Exists { path: out.to_owned() });
            }
            // File systems without hard links.
            Err(_) => fs::rename(&self.path, out).map_err(failed)?,
            Ok(()) => {}
        }
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // It is gone if it was renamed.
        let _ = fs::remove_file(&self.path);
    }
}

impl Summary {
    /// `root 3, timestamp 12, snapshot 9, targets 2`
    pub fn versions_in_words(&self) -> String {
        let top = ["root", "timestamp", "snapshot", "targets"];
        let words = top.iter().filter_map(|role| Some(format!("{role} {}", self.versions.get(*role)?)));
        words.collect::<Vec<_>>().join(", ")
    }
}
