//! Locking files: every image of every file is verified, then all files are written, or none.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use plimsoll_core::{
    oci::{Digest, Reference},
    policy::Verdict,
};
use serde::Serialize;

use super::{Item, Kind, Place, Unread, apply, locked, to_verify};
use crate::{
    state,
    verify::{Context, LocalFault, Mode, Options, Verification, verify_all},
};

/// A file may be this long, bytes.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Why files were not looked at, or not written. None was changed, unless the error says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockFault {
    /// The file's name does not say what it is.
    #[error("{}: neither a Dockerfile nor YAML, by its name", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what its name says, or not for certain.
    #[error("{}", path.display())]
    Unread {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Unread,
    },
    /// The file was changed while its images were verified.
    #[error("{} was changed meanwhile; nothing was written", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A file could not be written; those written before it have their old content again.
    #[error("cannot write {}; every file is as it was", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be written, and one written before it could not be put back.
    #[error("cannot write {}, and {} could not be put back: look at both", path.display(), other.display())]
    Torn {
        /// The file that could not be written.
        path: PathBuf,
        /// One that has its new content.
        other: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A fault of this machine.
    #[error(transparent)]
    Local(#[from] Arc<LocalFault>),
}

impl From<LocalFault> for LockFault {
    fn from(fault: LocalFault) -> Self {
        Self::Local(Arc::new(fault))
    }
}

impl LockFault {
    /// The exit code: 1 for what this machine could not do, 2 for what the user must change.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Write { .. } | Self::Torn { .. } => 1,
            Self::Local(fault) => fault.exit_code(),
            _ => 2,
        }
    }

    /// What to do next, if there is more to say than the message.
    pub fn next(&self) -> Option<String> {
        match self {
            Self::Kind { .. } => Some(
                "names that are read: Dockerfile, Containerfile, NAME.Dockerfile, *.yaml, *.yml, *.json"
                    .to_owned(),
            ),
            Self::Changed { .. } => Some("run it again".to_owned()),
            Self::Local(fault) => fault.next(),
            _ => None,
        }
    }
}

/// What was found in the files, and whether they were written.
#[derive(Debug, Clone, Serialize)]
pub struct Locked {
    /// The files in the order given, each once.
    pub files: Vec<FileReport>,
    /// True if the files were changed.
    pub written: bool,
    /// True if they were to be looked at only.
    pub check: bool,
}

/// What was found in one file.
#[derive(Debug, Clone, Serialize)]
pub struct FileReport {
    /// The file, as it was given.
    pub file: PathBuf,
    /// Its images, in order.
    pub images: Vec<ImageReport>,
}

/// What is to be said of one image in a file.
#[derive(Debug, Clone, Serialize)]
pub struct ImageReport {
    /// The line, from 1.
    pub line: usize,
    /// The image as it is, or was, written.
    pub image: String,
    /// What that means.
    pub state: State,
    /// How it is written when it is locked to the current digest; none if it must not be.
    pub locked: Option<String>,
    /// Why it cannot be checked where it is written.
    pub opaque: Option<String>,
    /// The verdict and its reasons; none for what cannot be checked.
    pub verification: Option<Verification>,
}

/// How an image is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Locked to the digest that is signed now.
    Current,
    /// Locked to another digest.
    Moved,
    /// Without a digest.
    Unlocked,
    /// Not verified.
    Refused,
    /// Written in a way that cannot be checked.
    Opaque,
}

impl Locked {
    /// Every image of every file.
    pub fn images(&self) -> impl Iterator<Item = &ImageReport> {
        self.files.iter().flat_map(|file| &file.images)
    }

    /// How many images are in `state`.
    pub fn count(&self, state: State) -> usize {
        self.images().filter(|image| image.state == state).count()
    }

    /// The gravest verdict's, if an image is not verified; 2 if one cannot be checked; with `check`, 12 (MISMATCH) if a
    /// file does not have the digest that is signed now; else 0.
    pub fn exit_code(&self) -> u8 {
        let verdicts = self.images().filter_map(|image| Some(image.verification.as_ref()?.verdict));
        let gravest = Verdict::gravest(verdicts).unwrap_or(Verdict::Verified);
        match () {
            () if gravest != Verdict::Verified => gravest.exit_code(),
            () if self.count(State::Opaque) + self.count(State::Refused) > 0 => 2,
            () if self.check && self.count(State::Moved) + self.count(State::Unlocked) > 0 => {
                Verdict::Mismatch.exit_code()
            }
            () => 0,
        }
    }
}

/// A file that was read.
struct File {
    given: PathBuf,
    /// Where it really is: a link stays a link.
    path: PathBuf,
    kind: Kind,
    text: String,
    items: Vec<Item>,
}

/// Verifies every image that the files at `paths` name and, unless `check`, writes each as `NAME:TAG@sha256:…` with the
/// digest that is signed now. Nothing is written unless all images of all files are verified.
///
/// An image that is locked to what is signed now is good as it is, wherever the registry's tag points.
///
/// Network: as [`verify_all`] for each image that is named, once. Each file is replaced atomically and durably, its mode
/// kept; should one fail, those before it are put back. After a crash in between, each file is whole, and locking again
/// finishes the rest.
///
/// # Errors
/// [`LockFault`]; an image that is not verified, or cannot be checked, is part of the result.
pub async fn lock(ctx: &Context, paths: &[PathBuf], check: bool) -> Result<Locked, LockFault> {
    let files = read_all(paths)?;
    let verified = verified(ctx, &files).await?;
    let reports: Vec<FileReport> = files.iter().map(|file| report(file, &verified)).collect();
    let mut result = Locked { files: reports, written: false, check };
    if check || result.exit_code() != 0 {
        return Ok(result);
    }
    let mut changes = Vec::new();
    for (file, report) in files.iter().zip(&result.files) {
        let new = edited(file, report);
        if new != file.text {
            read_back(file, report, &new)?;
            changes.push((file, new));
        }
    }
    result.written = !changes.is_empty();
    write_all(&changes)?;
    Ok(result)
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<File>, LockFault> {
    let mut files: Vec<File> = Vec::new();
    for given in paths {
        let failed = |source| LockFault::Read { path: given.clone(), source };
        let kind = Kind::of(given).ok_or_else(|| LockFault::Kind { path: given.clone() })?;
        let path = fs::canonicalize(given).map_err(failed)?;
        if files.iter().any(|file| file.path == path) {
            continue;
        }
        let text = read(&path).map_err(failed)?;
        let items = kind.images(&text).map_err(|source| LockFault::Unread { path: given.clone(), source })?;
        files.push(File { given: given.clone(), path, kind, text, items });
    }
    Ok(files)
}

fn read(path: &Path) -> io::Result<String> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let bytes = state::read(path, MAX_FILE)?.ok_or(io::ErrorKind::NotFound)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}

/// Each image that is named, verified once.
async fn verified(ctx: &Context, files: &[File]) -> Result<HashMap<Reference, Verification>, LockFault> {
    let places = files.iter().flat_map(|file| &file.items).filter_map(|item| match &item.place {
        Place::At { reference, .. } => Some(reference),
        Place::Opaque(_) => None,
    });
    // By the tag, which says what it is to be locked to; and as it is locked, since what will be pulled is that.
    let both = places.flat_map(|reference| [to_verify(reference), reference.clone()]);
    let mut seen = HashSet::new();
    let references: Vec<Reference> = both.filter(|reference| seen.insert(reference.clone())).collect();
    let all = verify_all(ctx, &references, Mode::Verify, &Options::default()).await?;
    // Without one of them nothing could be written, so the fault is told, and no more.
    let all = all.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(references.into_iter().zip(all).collect())
}

fn report(file: &File, verified: &HashMap<Reference, Verification>) -> FileReport {
    let image = |item: &Item| {
        let mut report = ImageReport {
            line: item.line,
            image: item.text.clone(),
            state: State::Opaque,
            locked: None,
            opaque: None,
            verification: None,
        };
        match &item.place {
            Place::Opaque(why) => report.opaque = Some(why.to_string()),
            Place::At { reference, .. } => {
                let judged =
                    |reference: &Reference| verified.get(reference).expect("every place was verified");
                // Locked to what is signed: where the registry's tag points by now is a warning.
                let verification = Some(judged(reference)).filter(|v| v.verdict == Verdict::Verified);
                let verification = verification.unwrap_or_else(|| judged(&to_verify(reference)));
                // What may be run, which is there for what is verified and for nothing else.
                let digest = verification.resolved.as_deref().and_then(pinned_digest);
                report.locked = digest.map(|digest| locked(&item.text, reference, &digest));
                report.state = match (digest, reference.digest) {
                    (None, _) => State::Refused,
                    (Some(_), None) => State::Unlocked,
                    (Some(digest), Some(written)) if digest == written => State::Current,
                    (Some(_), Some(_)) => State::Moved,
                };
                report.verification = Some(verification.clone());
            }
        }
        report
    };
    FileReport { file: file.given.clone(), images: file.items.iter().map(image).collect() }
}

/// The digest in `REPOSITORY@sha256:…`.
fn pinned_digest(resolved: &str) -> Option<Digest> {
    resolved.split_once('@')?.1.parse().ok()
}

/// The text with each image as it is locked.
fn edited(file: &File, report: &FileReport) -> String {
    let edits = file.items.iter().zip(&report.images).filter_map(|(item, image)| {
        let Place::At { span, .. } = &item.place else { return None };
        Some((span.clone(), image.locked.clone()?))
    });
    let edits: BTreeMap<usize, _> = edits.map(|edit| (edit.0.start, edit)).collect();
    apply(&file.text, &edits.into_values().collect::<Vec<_>>())
}

/// The new text names the same places, each with the image that was verified: else the file was not understood.
fn read_back(file: &File, report: &FileReport, new: &str) -> Result<(), LockFault> {
    let unread = |source| LockFault::Unread { path: file.given.clone(), source };
    let items = file.kind.images(new).map_err(unread)?;
    let wanted = report.images.iter().map(|image| (image.line, image.locked.as_deref()));
    let found = items.iter().map(|item| (item.line, Some(item.text.as_str())));
    if wanted.eq(found) {
        return Ok(());
    }
    let what = "the file would not read back as it should; lock it by hand, and tell us".to_owned();
    Err(unread(Unread { line: 1, what }))
}

fn write_all(changes: &[(&File, String)]) -> Result<(), LockFault> {
    for (file, _) in changes {
        if read(&file.path).ok().as_ref() != Some(&file.text) {
            return Err(LockFault::Changed { path: file.given.clone() });
        }
    }
    for (at, (file, new)) in changes.iter().enumerate() {
        if let Err(source) = write(&file.path, new) {
            let path = file.given.clone();
            // The file itself too: it may have been replaced before the write failed.
            for (done, _) in &changes[..=at] {
                let old = read(&done.path).is_ok_and(|text| text == done.text);
                if !old && write(&done.path, &done.text).is_err() {
                    return Err(LockFault::Torn { path, other: done.given.clone(), source });
                }
            }
            return Err(LockFault::Write { path, source });
        }
    }
    Ok(())
}

/// Replaces the content of `path`, and keeps its mode.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let permissions = fs::metadata(path)?.permissions();
    // Nobody may read it meanwhile who could not before; the mode given here is cut by the umask.
    state::replace(path, text.as_bytes(), permissions.mode() & 0o700)?;
    fs::set_permissions(path, permissions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path, text: &str) -> File {
        fs::write(path, text).unwrap();
        File {
            given: path.to_owned(),
            path: path.to_owned(),
            kind: Kind::Yaml,
            text: text.to_owned(),
            items: Vec::new(),
        }
    }

    /// What [`state::replace`] would write first.
    fn temporary(path: &Path) -> PathBuf {
        let name = path.file_name().unwrap().to_str().unwrap();
        path.with_file_name(format!("{name}.{}.tmp", std::process::id()))
    }

    #[test]
    fn all_files_are_written_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a", "b", "c"].map(|name| folder.path().join(name));
        let files = paths.each_ref().map(|path| file(path, "old"));
        let changes: Vec<_> = files.iter().map(|file| (file, "new".to_owned())).collect();
        let texts = || paths.each_ref().map(|path| fs::read_to_string(path).unwrap());
        // Nothing can be written where a folder is in the way.
        fs::create_dir(temporary(&paths[1])).unwrap();
        let error = write_all(&changes).unwrap_err();
        assert!(matches!(error, LockFault::Write { ref path, .. } if *path == paths[1]), "{error}");
        assert_eq!(texts(), ["old"; 3]);
        fs::remove_dir(temporary(&paths[1])).unwrap();

        fs::write(&paths[2], "edited").unwrap();
        let error = write_all(&changes).unwrap_err();
        assert!(matches!(error, LockFault::Changed { ref path } if *path == paths[2]), "{error}");
        assert_eq!(texts(), ["old", "old", "edited"]);

        fs::write(&paths[2], "old").unwrap();
        write_all(&changes).unwrap();
        assert_eq!(texts(), ["new"; 3]);
    }

    #[test]
    fn a_link_stays_a_link_and_a_file_is_locked_once() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real.yaml"), folder.path().join("link.yaml"));
        fs::write(&real, "services: {}\n").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let files = read_all(&[link.clone(), real.clone(), link.clone()]).unwrap();
        assert_eq!(files.len(), 1);
        write_all(&[(&files[0], "services: {}\n\n".to_owned())]).unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "services: {}\n\n");
        for (name, bytes) in [("folder.yaml", None), ("bytes.yaml", Some(b"\xff")), ("gone.yaml", None)] {
            let path = folder.path().join(name);
            match bytes {
                Some(bytes) => fs::write(&path, bytes).unwrap(),
                None if name == "folder.yaml" => fs::create_dir(&path).unwrap(),
                None => {}
            }
            assert!(matches!(read_all(&[path]), Err(LockFault::Read { .. })), "{name}");
        }
    }
}
