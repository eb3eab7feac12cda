//! Archives, whole and hostile. What is refused is refused when the archive is opened: nothing of it is read after that.

use std::io::{Read, Write};

use serde_json::json;
use tempfile::TempDir;

use super::{archive::BLOCK, *};

const MANIFEST: &str = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;

/// An archive in the making.
#[derive(Default, Clone)]
struct Tar(Vec<u8>);

impl Tar {
    /// A layout with one image, `v1`, but for the end of the archive.
    fn layout() -> Self {
        let mut image =
            serde_json::to_value(Descriptor::of(media_type::MANIFEST, MANIFEST.as_bytes())).unwrap();
        image["annotations"] = json!({REF_NAME: "v1"});
        let index = json!({"schemaVersion": 2, "manifests": [image]}).to_string();
        let marker = json!({"imageLayoutVersion": "1.0.0"}).to_string();
        Self::default()
            .file("oci-layout", marker.as_bytes())
            .file("index.json", index.as_bytes())
            .file(&blob_name(MANIFEST), MANIFEST.as_bytes())
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        self.entry(&header(name, content.len() as u64).unwrap(), content)
    }

    fn entry(mut self, header: &[u8; BLOCK], content: &[u8]) -> Self {
        self.0.extend_from_slice(header);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().div_ceil(BLOCK) * BLOCK, 0);
        self
    }

    /// An entry whose header was changed by `change`; its sum is right again.
    fn odd(self, name: &str, change: impl Fn(&mut [u8; BLOCK])) -> Self {
        self.entry(&changed(&header(name, 0).unwrap(), change), b"")
    }

    fn zeros(mut self, blocks: usize) -> Self {
        self.0.resize(self.0.len() + blocks * BLOCK, 0);
        self
    }

    fn open(&self) -> Result<Layout, LayoutError> {
        let folder = tempfile::tempdir().unwrap();
        self.open_in(&folder)
    }

    fn open_in(&self, folder: &TempDir) -> Result<Layout, LayoutError> {
        let path = folder.path().join("bundle.tar");
        fs::write(&path, &self.0).unwrap();
        Layout::open(&path)
    }

    /// Must be refused, for `fault`, at a place that ends in `place`.
    #[track_caller]
    fn refused(&self, place: &str, fault: &ArchiveFault) {
        match self.open() {
            Err(error @ LayoutError::Archive { .. }) => {
                assert!(error.is_untrusted());
                let LayoutError::Archive { path, fault: found, .. } = error else { unreachable!() };
                assert_eq!(found, *fault);
                assert!(path.to_str().unwrap().ends_with(place), "{}", path.display());
            }
            other => panic!("{other:?} instead of {fault:?}"),
        }
    }
}

fn blob_name(content: &str) -> String {
    name(&Digest::of(content.as_bytes()))
}

fn changed(header: &[u8; BLOCK], change: impl Fn(&mut [u8; BLOCK])) -> [u8; BLOCK] {
    let mut header = *header;
    change(&mut header);
    header[148..156].copy_from_slice(b"        ");
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn named(name: &'static [u8]) -> impl Fn(&mut [u8; BLOCK]) {
    move |header| {
        header[..100].fill(0);
        header[..name.len()].copy_from_slice(name);
    }
}

#[test]
fn an_archive_reads_like_the_directory_it_was_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Tar::layout().zeros(2).open_in(&folder).unwrap();
    let image = layout.image(Some("v1")).unwrap();
    assert_eq!(layout.manifest(image).unwrap(), MANIFEST.as_bytes());
    assert_eq!(layout.blob(&image.digest, 1000).unwrap().unwrap(), MANIFEST.as_bytes());
    assert!(matches!(layout.blob(&image.digest, 3), Err(LayoutError::TooLong { limit: 3, .. })));
    assert_eq!(layout.length(&image.digest).unwrap(), Some(MANIFEST.len() as u64));
    assert_eq!(
        (layout.blob(&Digest::of(b"x"), 9).unwrap(), layout.length(&Digest::of(b"x")).unwrap()),
        (None, None)
    );
    let mut copied = Vec::new();
    layout.copy(image, |piece| copied.write_all(piece)).unwrap();
    assert_eq!(copied, MANIFEST.as_bytes());
    assert_eq!(layout.archived().unwrap().collect::<Vec<_>>(), [image.digest]);
    // As tar and skopeo write them: folders, and a record filled up with zeros.
    let folders = |header: &mut [u8; BLOCK]| header[156] = b'5';
    let other = Tar::default().odd("blobs/", folders).odd("blobs/sha256/", folders);
    let other = Tar([other.0, Tar::layout().0].concat()).zeros(20);
    assert_eq!(other.open().unwrap().manifests().len(), 1);
}

/// T60: what could lead out of a folder is no name, and no entry.
#[test]
fn names_of_an_archive_that_are_no_file_of_a_layout_are_refused() {
    let long = [b'a'; 100];
    let upper = format!("blobs/sha256/{}", Digest::of(b"x").hex().to_uppercase());
    let names: [&[u8]; 14] = [
        b"../oci-layout",
        b"/etc/passwd",
        b"blobs/sha256/../../../x",
        b"./index.json",
        b"blobs//sha256/x",
        b"blobs/sha256/",
        b"blobs/sha256/abc",
        b"blobs\\sha256\\abc",
        b"blobs/sha512/ab",
        b"INDEX.JSON",
        b"index.json/",
        b"manifest.json",
        b"",
        &long,
    ];
    for odd in names.into_iter().chain([upper.as_bytes()]) {
        let put = |header: &mut [u8; BLOCK]| {
            header[..100].fill(0);
            header[..odd.len()].copy_from_slice(odd);
        };
        let shown = String::from_utf8(odd.to_vec()).unwrap();
        Tar::layout().odd("index.json", put).zeros(2).refused(&shown, &ArchiveFault::Name);
    }
    // A second name behind the first one's end, a name in two parts, and one that is no text.
    let behind = named(b"index.json\0../x");
    Tar::layout().odd("index.json", behind).zeros(2).refused("index.json", &ArchiveFault::Name);
    let prefix = |header: &mut [u8; BLOCK]| header[345..347].copy_from_slice(b"..");
    Tar::layout().odd("oci-layout", prefix).zeros(2).refused("oci-layout", &ArchiveFault::Name);
    Tar::layout().odd("index.json", named(b"\xff\xfe")).zeros(2).refused("", &ArchiveFault::Name);
}

/// T62: a link in an archive is never made, so never followed.
#[test]
fn entries_of_an_archive_that_are_no_plain_files_are_refused() {
    // Hard and symbolic links, devices, pipes, long names, extensions, sparse files, volumes, and what nobody knows.
    for kind in *b"12346789LKSVMNDxgXAz\xff" {
        let odd = |header: &mut [u8; BLOCK]| header[156] = kind;
        let refused = Tar::layout().odd(&blob_name("x"), odd).zeros(2).open();
        let fault = match refused {
            Err(LayoutError::Archive { fault: ArchiveFault::Type(fault), .. }) => fault,
            // `D` stands in GNU's archives for a folder with its list.
            other => panic!("{}: {other:?}", char::from(kind)),
        };
        assert!(kind == 0xff || fault == char::from(kind), "{fault}");
    }
    let link = |header: &mut [u8; BLOCK]| header[157..167].copy_from_slice(b"/etc/passw");
    Tar::layout().odd(&blob_name("x"), link).zeros(2).refused(&blob_name("x"), &ArchiveFault::Name);
    let full = |header: &mut [u8; BLOCK]| {
        header[156] = b'5';
        header[124..136].copy_from_slice(b"00000000001\0");
    };
    let fault = ArchiveFault::Header("a folder with content");
    Tar::layout().odd("blobs", full).zeros(2).refused("blobs", &fault);
}

/// T51: whichever of two a reader takes, another one may take the other.
#[test]
fn an_entry_that_is_there_twice_refuses_the_archive() {
    for name in ["oci-layout", "index.json", &blob_name(MANIFEST)] {
        Tar::layout().file(name, b"other").zeros(2).refused(name, &ArchiveFault::Duplicate);
    }
    let folder = |header: &mut [u8; BLOCK]| header[156] = b'5';
    Tar::layout()
        .odd("blobs", folder)
        .odd("blobs/", folder)
        .zeros(2)
        .refused("blobs", &ArchiveFault::Duplicate);
}

/// T54: nothing stands behind the end, between the entries, or in place of what is missing.
#[test]
fn an_archive_that_is_cut_off_or_goes_on_is_refused() {
    let whole = Tar::layout();
    for cut in [0, 1, 511, 512, 513, 700, whole.0.len() - 1] {
        Tar(whole.0[..cut].to_vec()).refused("", &ArchiveFault::Truncated);
    }
    whole.refused("bundle.tar", &ArchiveFault::Truncated);
    whole.clone().zeros(1).refused("bundle.tar", &ArchiveFault::Truncated);
    let mut behind = whole.clone().zeros(2);
    behind.0.push(1);
    behind.refused("bundle.tar", &ArchiveFault::Garbage);
    Tar([whole.clone().zeros(2).0, Tar::layout().zeros(2).0].concat())
        .refused("bundle.tar", &ArchiveFault::Garbage);
    whole.clone().zeros(3000).refused("bundle.tar", &ArchiveFault::Garbage);
    // Between the end of a file and the next header.
    let mut between = whole.clone().zeros(2);
    let marker = json!({"imageLayoutVersion": "1.0.0"}).to_string().len();
    between.0[BLOCK + marker] = b'!';
    between.refused("oci-layout", &ArchiveFault::Garbage);
    // A header that promises more than there is.
    let promise = |header: &mut [u8; BLOCK]| header[124..136].copy_from_slice(b"77777777777\0");
    whole.odd(&blob_name("x"), promise).zeros(2).refused(&blob_name("x"), &ArchiveFault::Truncated);
}

/// T52.
#[test]
fn headers_with_odd_numbers_or_sums_are_refused() {
    let sizes: [&[u8; 12]; 6] = [
        b"\x80\0\0\0\0\0\0\0\0\0\0\x01",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"-0000000001\0",
        b"00000000008\0",
        b"0x000000001\0",
        b"            ",
    ];
    for size in sizes {
        let odd = |header: &mut [u8; BLOCK]| header[124..136].copy_from_slice(size);
        let fault = ArchiveFault::Header("its size is none");
        Tar::layout().odd(&blob_name("x"), odd).zeros(2).refused(&blob_name("x"), &fault);
    }
    let mut flipped = Tar::layout().zeros(2);
    flipped.0[0] ^= 1;
    flipped.refused("bundle.tar", &ArchiveFault::Header("its sum is wrong"));
    let old = |header: &mut [u8; BLOCK]| header[257..265].fill(0);
    Tar::layout().odd("x", old).zeros(2).refused("bundle.tar", &ArchiveFault::Header("it is not ustar"));
    assert!(header(&blob_name("x"), 1 << 33).is_err());
    assert!(header(&"x".repeat(100), 0).is_err());
}

/// T40: what unfolds to more than it is, is not unfolded; what is longer than it may be is not read.
#[test]
fn bombs_are_refused_before_they_are_read() {
    for (start, program) in [
        (&b"\x1f\x8b\x08\0"[..], "gzip"),
        (b"\x28\xb5\x2f\xfd\x04", "zstd"),
        (b"BZh91AY", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
    ] {
        for length in [start.len(), 4000] {
            let mut bomb = start.to_vec();
            bomb.resize(length, 7);
            Tar(bomb).refused("bundle.tar", &ArchiveFault::Compressed(program));
        }
    }
    // A file of holes, which takes no room on the disk.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle.tar");
    File::create(&path).unwrap().set_len(MAX_ARCHIVE + 1).unwrap();
    let refused = Layout::open(&path);
    assert!(matches!(refused, Err(LayoutError::Archive { fault: ArchiveFault::TooLong, .. })), "{refused:?}");
    // One that is as long as it may be says no more than its first block.
    File::create(&path).unwrap().set_len(MAX_ARCHIVE).unwrap();
    let refused = Layout::open(&path);
    assert!(matches!(refused, Err(LayoutError::Archive { fault: ArchiveFault::Garbage, .. })), "{refused:?}");
    // A manifest of a size that no manifest has is not read into memory.
    let mut huge = header(&blob_name("x"), 0).unwrap();
    huge = changed(&huge, |header| header[124..136].copy_from_slice(b"00100000000\0"));
    let archive = Tar::layout().entry(&huge, &vec![0; 1 << 24]).zeros(2);
    let layout = archive.open_in(&folder).unwrap();
    let digest = Digest::of(b"x");
    assert!(matches!(layout.blob(&digest, 1 << 20), Err(LayoutError::TooLong { .. })));
}

/// T41.
#[test]
fn an_archive_of_too_many_entries_is_refused() {
    let mut many = Vec::new();
    for number in 0..=MAX_ENTRIES {
        many.extend_from_slice(&header(&blob_name(&number.to_string()), 0).unwrap());
    }
    Tar(many).zeros(2).refused("bundle.tar", &ArchiveFault::TooMany);
}

/// T71: a blob counts by its digest and its size, whatever its name says, and whenever it is read.
#[test]
fn blobs_of_an_archive_that_are_missing_or_other_than_their_name_are_refused() {
    let digest = Digest::of(MANIFEST.as_bytes());
    let without = Tar(Tar::layout().0[..4 * BLOCK].to_vec()).zeros(2).open().unwrap();
    let image = without.image(None).unwrap();
    assert!(
        matches!(without.manifest(image), Err(LayoutError::Missing { path }) if path.ends_with(blob_name(MANIFEST)))
    );
    let other = MANIFEST.replace("[]", "{}");
    let other = Tar(Tar::layout().0[..4 * BLOCK].to_vec()).file(&blob_name(MANIFEST), other.as_bytes());
    let other = other.zeros(2);
    let folder = tempfile::tempdir().unwrap();
    let layout = other.open_in(&folder).unwrap();
    let image = layout.image(None).unwrap().clone();
    assert!(matches!(layout.manifest(&image), Err(LayoutError::Digest { .. })));
    assert!(matches!(layout.blob(&digest, 1000), Err(LayoutError::Digest { .. })));
    assert!(matches!(layout.copy(&image, |_| Ok(())), Err(LayoutError::Digest { .. })));
    let shorter = Descriptor { size: image.size - 1, ..image.clone() };
    assert!(matches!(layout.copy(&shorter, |_| Ok(())), Err(LayoutError::Size { .. })));
    // Another file is put in its place after it was opened, or it is cut off: it is read as it is by then.
    let folder = tempfile::tempdir().unwrap();
    let layout = Tar::layout().zeros(2).open_in(&folder).unwrap();
    layout.manifest(&image).unwrap();
    let path = folder.path().join("bundle.tar");
    let mut bytes = Vec::new();
    File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
    let at = bytes.windows(MANIFEST.len()).position(|found| found == MANIFEST.as_bytes()).unwrap();
    bytes[at + 1] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(layout.manifest(&image), Err(LayoutError::Digest { .. })));
    File::options().write(true).open(&path).unwrap().set_len(at as u64 + 3).unwrap();
    assert!(matches!(layout.copy(&image, |_| Ok(())), Err(LayoutError::Size { .. })));
}
