//! Target files (TUF 1.0.34, 5.7): what a search found, fetched, checked and stored.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use plimsoll_core::{
    oci::Digest,
    policy::Verdict,
    tuf::{self, Target},
};
use ring::rand::{SecureRandom, SystemRandom};
use url::Url;

use super::{
    registry_verdict,
    urls::{below, segment, target_path},
};
use crate::{
    registry::{Registry, RegistryError},
    state::read,
};

/// The longest target that is fetched, in bytes: it is held in memory until its hashes are known.
pub const MAX_TARGET: u64 = 1 << 30;

/// Longer names, once encoded, are stored by their hash: most file systems take 255 bytes.
const MAX_NAME: usize = 200;

/// The hash algorithms that are known, with the length of a hash in hex; the one that a file is asked for by first.
const KNOWN: [(&str, usize); 2] = [("sha256", 64), ("sha512", 128)];

/// Where target files come from, and the folder they are stored in.
///
/// All files lie directly in the folder, under the target's name percent-encoded as one path segment (`dir/file` is
/// `dir%2Ffile`; a very long one is `=` and the name's sha256). So no target name leaves the folder, and there is no
/// folder below it that somebody could replace by a symlink.
#[derive(Debug, Clone)]
pub struct Downloads {
    http: Registry,
    base: Url,
    folder: PathBuf,
}

/// A target file that is there and has the length and hashes that its role lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Downloaded {
    /// Where.
    pub path: PathBuf,
    /// False if it was there already, so that nothing was asked for.
    pub fetched: bool,
}

/// Why a target file is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// The target's name is none that a file can have: empty, absolute, a folder, with `.` or `..`, or with NUL.
    #[error("`{name}` cannot be the name of a file")]
    Name {
        /// The name.
        name: String,
    },
    /// The role lists no sha256 and no sha512.
    #[error("`{name}` is listed without a hash of a known algorithm")]
    NoKnownHash {
        /// The target's name.
        name: String,
    },
    /// Longer than [`MAX_TARGET`].
    #[error("`{name}` is listed with {length} bytes, and {MAX_TARGET} is the most that is fetched")]
    TooLong {
        /// The target's name.
        name: String,
        /// The listed length, bytes.
        length: u64,
    },
    /// 404: listed, and not there. No proof of anything.
    #[error("{location} does not have `{name}`")]
    Missing {
        /// The target's name.
        name: String,
        /// The base URL.
        location: String,
    },
    /// The listed hash is none.
    #[error("`{name}` is listed with a {algorithm} that is none")]
    Hash {
        /// The target's name.
        name: String,
        /// The algorithm.
        algorithm: &'static str,
    },
    /// Not the listed content: [`tuf::Error::Length`] if it is shorter (longer is [`RegistryError::TooLarge`]), else
    /// [`tuf::Error::Hash`].
    #[error(transparent)]
    Content(tuf::Error),
    /// The server.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// What is already in the folder could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file could not be stored. What was under its name before still is.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl DownloadError {
    /// The verdict; none if the fault is local.
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Name { .. }
            | Self::NoKnownHash { .. }
            | Self::TooLong { .. }
            | Self::Hash { .. }
            | Self::Content(_) => Some(Verdict::Untrusted),
            Self::Missing { .. } => Some(Verdict::Unreachable),
            Self::Registry(error) => registry_verdict(error),
            Self::Read { .. } | Self::Write { .. } => None,
        }
    }
}

impl Downloads {
    /// Target files below the URL `base`, to be stored in `folder`, which exists. No I/O.
    pub fn new(http: Registry, base: Url, folder: PathBuf) -> Self {
        Self { http, base, folder }
    }

    /// Where the target `name` is stored, whether or not it is there. No I/O.
    ///
    /// # Errors
    /// [`DownloadError::Name`].
    pub fn path(&self, name: &str) -> Result<PathBuf, DownloadError> {
        // Relative, and nothing that a server or a file system would resolve; not even encoded.
        let fits = |part: &str| {
            let dots = part.replace("%2e", ".").replace("%2E", ".");
            !matches!(&*dots, "" | "." | "..")
        };
        if name.contains('\0') || !name.split('/').all(fits) {
            return Err(DownloadError::Name { name: name.to_owned() });
        }
        let file = segment(name);
        // `segment` writes no `=`: no name is another one's hash, or a temporary file.
        let file =
            if file.len() > MAX_NAME { format!("={}", Digest::of(name.as_bytes()).hex()) } else { file };
        Ok(self.folder.join(file))
    }

    /// Makes sure that the target `name`, which a search found as `target`, is in the folder.
    ///
    /// A file that is there with the right length and hashes costs no request. Else one GET fetches it: as
    /// `DIR/HASH.FILE` if `consistent` (the trusted root's `consistent_snapshot`), HASH being the listed sha256 or else
    /// sha512; as `DIR/FILE` if not. It is cut off at the listed length and stored only if the length and every known
    /// hash are as listed: written to a temporary file, flushed, renamed, and the folder flushed. A symlink under the
    /// file's name is replaced, never followed. Two processes may do this at once.
    ///
    /// # Errors
    /// [`DownloadError`]; then what was in the folder is as it was.
    pub async fn fetch(
        &self,
        name: &str,
        target: &Target,
        consistent: bool,
    ) -> Result<Downloaded, DownloadError> {
        let path = self.path(name)?;
        let hash = well_formed(name, target)?;
        if target.length > MAX_TARGET {
            return Err(DownloadError::TooLong { name: name.to_owned(), length: target.length });
        }
        if self.held(&path, target)? {
            return Ok(Downloaded { path, fetched: false });
        }
        let url = below(&self.base, &remote_path(name, consistent.then_some(hash)));
        let bytes = self.http.file(&url, target.length).await?.ok_or_else(|| DownloadError::Missing {
            name: name.to_owned(),
            location: self.base.to_string(),
        })?;
        target.check_content(name, &bytes).map_err(DownloadError::Content)?;
        store(&path, &bytes).map_err(|source| DownloadError::Write { path: path.clone(), source })?;
        Ok(Downloaded { path, fetched: true })
    }

    /// True if `path` is a file, not a symlink to one, with the content that `target` lists.
    fn held(&self, path: &Path, target: &Target) -> Result<bool, DownloadError> {
        let fault = |source| DownloadError::Read { path: path.to_owned(), source };
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_file() && found.len() == target.length => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(fault(source)),
        }
        match read(path, target.length) {
            Ok(bytes) => Ok(bytes.is_some_and(|bytes| target.check_content("", &bytes).is_ok())),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(false),
            Err(source) => Err(fault(source)),
        }
    }
}

/// The known hash to ask by. All known ones must be hashes: they go into a URL (T63).
fn well_formed<'a>(name: &str, target: &'a Target) -> Result<&'a str, DownloadError> {
    let mut first = None;
    for (label, length) in KNOWN {
        let Some(hash) = target.hashes.get(label) else { continue };
        let digits = hash.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        if !digits || hash.len() != length {
            return Err(DownloadError::Hash { name: name.to_owned(), algorithm: label });
        }
        first = first.or(Some(hash.as_str()));
    }
    first.ok_or_else(|| DownloadError::NoKnownHash { name: name.to_owned() })
}

/// 5.7.3: the hash stands before the last part of the name.
fn remote_path(name: &str, hash: Option<&str>) -> String {
    match (hash, name.rsplit_once('/')) {
        (None, _) => target_path(name),
        (Some(hash), None) => format!("{hash}.{}", target_path(name)),
        (Some(hash), Some((folder, file))) => format!("{}/{hash}.{}", target_path(folder), target_path(file)),
    }
}

/// Puts `bytes` under `path`, atomically and durably.
fn store(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    // Not by the process id: containers that share the folder may all be number 1.
    let mut random = [0; 16];
    SystemRandom::new().fill(&mut random).map_err(|_| io::Error::other("the system gives no randomness"))?;
    let temporary = folder.join(format!("={}.tmp", HEXLOWER.encode(&random)));
    // `create_new` follows no symlink, and neither does the rename.
    let written =
        OpenOptions::new().write(true).create_new(true).mode(0o644).open(&temporary).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        });
    if let Err(error) = written {
        // The first error is the one to report; a temporary file that stays costs its room and nothing else.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::RegistryOptions;

    /// T61: no name leaves the folder, takes another one's file or that of a temporary file.
    #[test]
    fn every_target_has_a_file_of_its_own_in_the_folder() {
        let http = Registry::new(RegistryOptions::default()).unwrap();
        let downloads = Downloads::new(http, "http://localhost/".parse().unwrap(), "/o".into());
        for name in
            ["", "/", "/x", "x/", "a//b", ".", "..", "../x", "a/./b", "a/../b", "a\0b", "%2e", "x/%2E%2e"]
        {
            let refused = downloads.path(name).unwrap_err();
            assert!(matches!(refused, DownloadError::Name { name: ref n } if n == name), "{refused}");
            assert_eq!(refused.verdict(), Some(Verdict::Untrusted));
        }
        let long = ["x".repeat(201), "/x".repeat(80).split_off(1), "é".repeat(60)];
        let hashed = format!("={}", Digest::of(long[0].as_bytes()).hex());
        let temporary = "=0123456789abcdef0123456789abcdef.tmp";
        let names =
            ["x", "X", "a/b", "a%2Fb", "a\\b", "...", "..a", "é", "e\u{301}", "CON", &hashed, temporary];
        let mut seen = std::collections::BTreeSet::new();
        for name in names.into_iter().chain(long.iter().map(String::as_str)) {
            let path = downloads.path(name).unwrap();
            assert_eq!(path.parent(), Some(Path::new("/o")), "{name}");
            assert!(path.file_name().unwrap().len() <= MAX_NAME, "{name}");
            assert!(seen.insert(path), "{name} is not alone under its name");
        }
        assert!(!seen.contains(Path::new("/o").join(temporary).as_path()));
    }

    /// T61: two processes may have one id, in containers that share a folder: neither takes the other's half-written file.
    #[test]
    fn a_file_that_another_process_is_writing_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let id = std::process::id();
        let theirs: Vec<_> = (0..10).map(|n| folder.path().join(format!("={id}.{n}.tmp"))).collect();
        theirs.iter().for_each(|path| fs::write(path, "half").unwrap());
        store(&folder.path().join("x"), b"whole").unwrap();
        assert_eq!(fs::read(folder.path().join("x")).unwrap(), b"whole");
        assert!(theirs.iter().all(|path| fs::read(path).is_ok_and(|bytes| bytes == b"half")));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 11, "no file of ours stays");
    }
}
