//! A tar archive that holds an image layout, read in place: nothing is ever unpacked (docs/adr/0017).
//!
//! Only what a layout is made of is read: plain files and folders under the very names of a layout, in the form of POSIX
//! ustar. Whatever else stands in an archive refuses it as a whole.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use plimsoll_core::oci::Digest;

use super::LayoutError;

/// How many entries an archive may have.
pub const MAX_ENTRIES: usize = 100_000;
/// How long an archive may be, bytes.
pub const MAX_ARCHIVE: u64 = 256 << 30;
/// Zeros that may follow the two blocks at the end: writers fill up their last record.
const MAX_END: u64 = 1 << 20;
/// How long a field of a header is told, characters.
const SHOWN: usize = 100;
pub(super) const BLOCK: usize = 512;

/// What is wrong with an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveFault {
    /// Compressed: how much there is inside cannot be known before it is unpacked.
    #[error("it is compressed ({0}); unpack it with that program first")]
    Compressed(&'static str),
    /// Longer than [`MAX_ARCHIVE`].
    #[error("it is longer than {MAX_ARCHIVE} bytes")]
    TooLong,
    /// More than [`MAX_ENTRIES`] entries.
    #[error("it has more than {MAX_ENTRIES} entries")]
    TooMany,
    /// The block is no header of a tar archive, or a damaged one.
    #[error("no sound header of a tar archive ({0})")]
    Header(&'static str),
    /// A link, a device, a pipe, a sparse file, or an extension.
    #[error("an entry of the type `{0}`; only plain files and folders are read")]
    Type(char),
    /// A name that no file of a layout has.
    #[error("no file of an image layout has that name")]
    Name,
    /// Two entries of one name.
    #[error("it is there twice")]
    Duplicate,
    /// The archive ends in the middle.
    #[error("the archive ends before it is complete")]
    Truncated,
    /// Something other than zeros where nothing is to stand.
    #[error("there is something where only zeros may stand")]
    Garbage,
}

/// An archive whose headers were all checked.
#[derive(Debug)]
pub(super) struct Archive {
    path: PathBuf,
    file: File,
    /// Where each file's content begins, and how long it is, by name.
    entries: BTreeMap<String, (u64, u64)>,
}

impl Archive {
    /// Reads every header, and none of the content.
    pub(super) fn open(path: &Path) -> Result<Self, LayoutError> {
        let file = File::open(path).map_err(|source| LayoutError::Io { path: path.to_owned(), source })?;
        let mut archive = Self { path: path.to_owned(), file, entries: BTreeMap::new() };
        archive.scan()?;
        Ok(archive)
    }

    /// The content of the entry `name`; none if there is none.
    pub(super) fn content(&self, name: &str) -> Option<Content<'_>> {
        let &(at, length) = self.entries.get(name)?;
        Some(Content { file: &self.file, at, left: length })
    }

    pub(super) fn length(&self, name: &str) -> Option<u64> {
        self.entries.get(name).map(|(_, length)| *length)
    }

    /// The digests of all blobs.
    pub(super) fn blobs(&self) -> impl Iterator<Item = Digest> + '_ {
        let hex = self.entries.keys().filter_map(|name| name.strip_prefix("blobs/sha256/"));
        hex.filter_map(|hex| Digest::from_hex(hex).ok())
    }

    fn scan(&mut self) -> Result<(), LayoutError> {
        let length = self.file.metadata().map_err(|error| self.unread(error))?.len();
        let (mut at, mut count) = (0, 0);
        let mut folders = Vec::new();
        if length > MAX_ARCHIVE {
            return Err(self.fault("", 0, ArchiveFault::TooLong));
        }
        loop {
            let block = self.block(at, length, "")?;
            if at == 0
                && let Some(program) = compressed(&block)
            {
                return Err(self.fault("", 0, ArchiveFault::Compressed(program)));
            }
            if block.iter().all(|byte| *byte == 0) {
                return self.ended(at, length);
            }
            count += 1;
            if count > MAX_ENTRIES {
                return Err(self.fault("", at, ArchiveFault::TooMany));
            }
            let header = Header::read(&block).map_err(|(name, fault)| self.fault(&name, at, fault))?;
            let start = at + BLOCK as u64;
            let twice = self.entries.contains_key(&header.name) || folders.contains(&header.name);
            if twice {
                return Err(self.fault(&header.name, at, ArchiveFault::Duplicate));
            }
            let end = start + header.size;
            let padded = end.div_ceil(BLOCK as u64) * BLOCK as u64;
            if padded > length {
                return Err(self.fault(&header.name, at, ArchiveFault::Truncated));
            }
            self.zeros(end, padded, &header.name)?;
            if header.folder {
                folders.push(header.name);
            } else {
                self.entries.insert(header.name, (start, header.size));
            }
            at = padded;
        }
    }

    /// After the last entry: at least two blocks of zeros, and nothing else.
    fn ended(&self, at: u64, length: u64) -> Result<(), LayoutError> {
        if length < at + 2 * BLOCK as u64 {
            return Err(self.fault("", at, ArchiveFault::Truncated));
        }
        if length - at > MAX_END {
            return Err(self.fault("", at, ArchiveFault::Garbage));
        }
        self.zeros(at, length, "")
    }

    fn zeros(&self, from: u64, to: u64, name: &str) -> Result<(), LayoutError> {
        let mut rest = vec![0; usize::try_from(to - from).expect("at most 1 MiB")];
        self.file.read_exact_at(&mut rest, from).map_err(|error| self.unread(error))?;
        match rest.iter().position(|byte| *byte != 0) {
            Some(offset) => Err(self.fault(name, from + offset as u64, ArchiveFault::Garbage)),
            None => Ok(()),
        }
    }

    fn block(&self, at: u64, length: u64, name: &str) -> Result<[u8; BLOCK], LayoutError> {
        let mut block = [0; BLOCK];
        if at + BLOCK as u64 > length {
            // What has not even one block may still say what it is.
            let read = self.file.read_at(&mut block, at).map_err(|error| self.unread(error))?;
            return match compressed(&block).filter(|_| at == 0 && read > 0) {
                Some(program) => Err(self.fault("", 0, ArchiveFault::Compressed(program))),
                None => Err(self.fault(name, at, ArchiveFault::Truncated)),
            };
        }
        self.file.read_exact_at(&mut block, at).map_err(|error| self.unread(error))?;
        Ok(block)
    }

    fn fault(&self, name: &str, offset: u64, fault: ArchiveFault) -> LayoutError {
        // Not joined: a name that begins with `/` would take the place of the archive's.
        let path = match name {
            "" => self.path.clone(),
            name => format!("{}/{name}", self.path.display()).into(),
        };
        LayoutError::Archive { path, offset, fault }
    }

    fn unread(&self, source: io::Error) -> LayoutError {
        LayoutError::Io { path: self.path.clone(), source }
    }
}

/// The content of one entry. What the file says by now is read: whoever reads compares the digest.
#[derive(Debug)]
pub(super) struct Content<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

struct Header {
    name: String,
    size: u64,
    folder: bool,
}

impl Header {
    /// What a block of 512 bytes says (POSIX.1-1988, ustar), or what is wrong with which name.
    fn read(block: &[u8; BLOCK]) -> Result<Self, (String, ArchiveFault)> {
        let shown = || {
            let end = block[..SHOWN].iter().position(|byte| *byte == 0).unwrap_or(SHOWN);
            String::from_utf8_lossy(&block[..end]).into_owned()
        };
        let wrong = |fault| (shown(), fault);
        let sum = |block: &[u8]| block.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        let expected = sum(&block[..148]) + 8 * u64::from(b' ') + sum(&block[156..]);
        if octal(&block[148..156]) != Some(expected) {
            return Err((String::new(), ArchiveFault::Header("its sum is wrong")));
        }
        // Both spellings of ustar: POSIX's, and GNU's.
        if !matches!(&block[257..265], b"ustar\x0000" | b"ustar  \0") {
            return Err((String::new(), ArchiveFault::Header("it is not ustar")));
        }
        let folder = match block[156] {
            b'0' | 0 => false,
            b'5' => true,
            other => {
                return Err(wrong(ArchiveFault::Type(
                    char::from(other).escape_default().last().unwrap_or('?'),
                )));
            }
        };
        // The name of a link, and the beginning of a long name: no file of a layout has one.
        if block[157..257].iter().chain(&block[345..]).any(|byte| *byte != 0) {
            return Err(wrong(ArchiveFault::Name));
        }
        let name = layout_name(&block[..100], folder).ok_or_else(|| wrong(ArchiveFault::Name))?;
        let size = octal(&block[124..136]).ok_or_else(|| wrong(ArchiveFault::Header("its size is none")))?;
        if folder && size != 0 {
            return Err(wrong(ArchiveFault::Header("a folder with content")));
        }
        Ok(Self { name, size, folder })
    }
}

/// The name in a field, if it is one of the few that a layout has; a folder's without the slash at its end.
fn layout_name(field: &[u8], folder: bool) -> Option<String> {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    if field[end..].iter().any(|byte| *byte != 0) {
        return None;
    }
    let name = std::str::from_utf8(&field[..end]).ok()?;
    let known = if folder {
        let name = name.strip_suffix('/').unwrap_or(name);
        return matches!(name, "." | "blobs" | "blobs/sha256").then(|| name.to_owned());
    } else {
        match name.strip_prefix("blobs/sha256/") {
            Some(hex) => Digest::from_hex(hex).is_ok(),
            None => matches!(name, "oci-layout" | "index.json"),
        }
    };
    known.then(|| name.to_owned())
}

/// A number in octal digits, ended by spaces or zeros.
fn octal(field: &[u8]) -> Option<u64> {
    let end = field.iter().rposition(|byte| !matches!(byte, 0 | b' '))? + 1;
    let digits = std::str::from_utf8(&field[..end]).ok()?;
    let plain = digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    plain.then(|| u64::from_str_radix(digits, 8).ok()).flatten()
}

fn compressed(start: &[u8]) -> Option<&'static str> {
    match start {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Some("xz"),
        _ => None,
    }
}

/// A header for a plain file of `size` bytes called `name`, always the same for the same two: owner 0, time 0.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if it is 8 GiB long or longer, which ustar has no room for.
pub fn header(name: &str, size: u64) -> io::Result<[u8; BLOCK]> {
    if size >= 1 << 33 || name.len() >= 100 {
        let why = format!("{name} has {size} bytes, and an archive has room for files below 8 GiB");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}
