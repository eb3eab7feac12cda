//! A copy of all that a trust repository publishes, as plain TUF files, taken without believing any of it.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use plimsoll_core::{
    record,
    tuf::{Document, MAX_ROOT_STEPS, MetaFile, Root, Targets},
};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;

use crate::{
    state::{Entry, StateError},
    update::{Begin, Source, SourceError, UpdateError},
};

/// How much is copied, bytes in all.
const MAX_BYTES: usize = 512 << 20;
const METADATA: &str = "metadata";

/// Files in a folder of their own below the system's temporary one, mode 0700, which is removed with this.
#[derive(Debug)]
pub struct Copy {
    folder: PathBuf,
    location: String,
    /// How many files there are.
    files: usize,
    bytes: usize,
    /// Roles that the snapshot lists and whose file is not here.
    missing: Vec<String>,
    /// What no stock client knows, for each file that has it.
    pub(super) oddities: Vec<String>,
}

/// The part of timestamp and snapshot that leads on.
#[derive(Deserialize)]
struct Listing {
    signed: Meta,
}

#[derive(Deserialize)]
struct Meta {
    meta: BTreeMap<String, MetaFile>,
}

impl Copy {
    /// Copies roots, timestamp, snapshot and every role that the snapshot lists from `source`. `pinned` is the root that is
    /// trusted, which need not be there.
    ///
    /// Where something cannot be read as TUF, the copy ends: whoever judges it finds the same.
    ///
    /// # Errors
    /// [`UpdateError::Source`] if the source does not answer, [`UpdateError::State`] if the disk does not take it.
    pub async fn fetch(source: &mut impl Source, pinned: &[u8]) -> Result<Self, UpdateError> {
        let mut copy = Self::empty(source.location())?;
        source.begin(None).await?;
        let pinned = Document::<Root>::parse("root", pinned)?;
        let from = pinned.version();
        let mut version = 1;
        // A repository that began at the pinned root lists none before it.
        while version <= from + MAX_ROOT_STEPS {
            match source.root(version).await? {
                Some(bytes) => copy.put(&format!("{version}.root.json"), &bytes)?,
                None if version > from => break,
                None => {}
            }
            version += 1;
        }
        let timestamp = source.timestamp().await?;
        copy.put("timestamp.json", &timestamp)?;
        let Some(meta) = listing(&timestamp).and_then(|mut meta| meta.remove("snapshot.json")) else {
            return Ok(copy);
        };
        let snapshot = match source.snapshot(&meta, true).await {
            Err(SourceError::Gone { .. }) => return Ok(copy),
            other => other?,
        };
        copy.put(&format!("{}.snapshot.json", meta.version), &snapshot)?;
        for (file, meta) in listing(&snapshot).unwrap_or_default() {
            let Some(role) = file.strip_suffix(".json") else { continue };
            match source.targets(role, &meta, true).await {
                // A name that could leave the folder is no file.
                Ok(bytes) if is_plain(role) && copy.bytes + bytes.len() <= MAX_BYTES => {
                    copy.put(&format!("{}.{role}.json", meta.version), &bytes)?;
                    copy.note(role, &bytes);
                }
                Ok(_) | Err(SourceError::Gone { .. }) => copy.missing.push(role.to_owned()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(copy)
    }

    fn empty(location: String) -> Result<Self, UpdateError> {
        let mut random = [0; 16];
        let made = SystemRandom::new().fill(&mut random).map_err(|_| io::Error::other("no random bytes"));
        let folder = std::env::temp_dir().join(format!("plimsoll-doctor-{}", HEXLOWER.encode(&random)));
        let made = made.and_then(|()| {
            let mut builder = DirBuilder::new();
            builder.mode(0o700);
            // Not `recursive`: one that is there is not ours.
            builder.create(&folder)?;
            builder.create(folder.join(METADATA))
        });
        made.map_err(|source| StateError::Write { path: folder.clone(), source })?;
        Ok(Self { folder, location, files: 0, bytes: 0, missing: Vec::new(), oddities: Vec::new() })
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), UpdateError> {
        self.files += 1;
        self.bytes += bytes.len();
        Ok(self.write(&self.metadata().join(name), bytes)?)
    }

    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StateError> {
        fs::write(path, bytes).map_err(|source| StateError::Write { path: path.to_owned(), source })
    }

    /// What of a targets role tough cannot read (docs/divergences.md).
    fn note(&mut self, role: &str, bytes: &[u8]) {
        let Ok(document) = Document::<Targets>::parse(role, bytes) else { return };
        let Some(delegations) = document.signed.delegations else { return };
        if delegations.succinct_roles.is_some() {
            self.oddities.push(format!("{role} has hash bins (TAP 15)"));
        }
        self.note_keys(role, delegations.keys.values().map(|key| key.scheme.as_str()));
    }

    /// What of a root tough cannot read.
    pub(super) fn note_root(&mut self, root: &Root) {
        self.note_keys("root", root.keys.values().map(|key| key.scheme.as_str()));
        if !root.consistent_snapshot {
            self.oddities.push("root has no consistent_snapshot".to_owned());
        }
    }

    fn note_keys<'a>(&mut self, role: &str, schemes: impl Iterator<Item = &'a str>) {
        const KNOWN: [&str; 3] = ["ed25519", "ecdsa-sha2-nistp256", "rsassa-pss-sha256"];
        for scheme in schemes.filter(|scheme| !KNOWN.contains(scheme)) {
            let scheme: String = scheme.chars().take(100).collect();
            self.oddities.push(format!("{role} lists a key of scheme {scheme}"));
        }
    }

    /// Where it was copied from.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// How many files it has.
    pub fn files(&self) -> usize {
        self.files
    }

    /// Roles that the snapshot lists and that could not be copied.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// The folder as a whole.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A place for what our own client remembers of it, which is forgotten with it.
    pub fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// The folder with the plain TUF files.
    pub(super) fn metadata(&self) -> PathBuf {
        self.folder.join(METADATA)
    }

    /// The copy as our own client reads it.
    pub fn source(&self) -> CopySource {
        CopySource { folder: self.metadata(), location: self.location.clone() }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // In the system's temporary folder, and nobody else's to read: at worst it stays there.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn listing(bytes: &[u8]) -> Option<BTreeMap<String, MetaFile>> {
    record::json::<Listing>(bytes).ok().map(|listing| listing.signed.meta)
}

fn is_plain(role: &str) -> bool {
    (1..=200).contains(&role.len()) && role.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Reads a [`struct@Copy`].
#[derive(Debug, Clone)]
pub struct CopySource {
    folder: PathBuf,
    location: String,
}

impl CopySource {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, SourceError> {
        // What could not be copied is not here; nor is what has since become unreadable.
        Ok(fs::read(self.folder.join(name)).ok())
    }

    fn listed(&self, name: &str) -> Result<Vec<u8>, SourceError> {
        let gone = || SourceError::Gone { location: self.location.clone(), file: name.to_owned() };
        self.read(name)?.ok_or_else(gone)
    }
}

impl Source for CopySource {
    async fn begin(&mut self, _entry: Option<&Entry>) -> Result<Begin, SourceError> {
        Ok(Begin::Changed)
    }

    async fn root(&mut self, version: u64) -> Result<Option<Vec<u8>>, SourceError> {
        self.read(&format!("{version}.root.json"))
    }

    async fn timestamp(&mut self) -> Result<Vec<u8>, SourceError> {
        self.listed("timestamp.json")
    }

    async fn snapshot(&mut self, meta: &MetaFile, _consistent: bool) -> Result<Vec<u8>, SourceError> {
        self.listed(&format!("{}.snapshot.json", meta.version))
    }

    async fn targets(
        &mut self,
        role: &str,
        meta: &MetaFile,
        _consistent: bool,
    ) -> Result<Vec<u8>, SourceError> {
        if !is_plain(role) {
            return Err(SourceError::Gone { location: self.location.clone(), file: role.to_owned() });
        }
        self.listed(&format!("{}.{role}.json", meta.version))
    }

    fn entry(&self) -> Option<Entry> {
        None
    }

    fn location(&self) -> String {
        self.location.clone()
    }
}
