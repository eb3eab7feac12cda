//! Bundles that somebody had in hands.

use std::{fs, io::Write};

use chrono::{DateTime, Utc};
use plimsoll::{bundle::Bundle, layout::Layout};

/// What is taken is whole: every blob is read as its digest says, what is left out is not there, and it reads the same once
/// more. Whatever the bytes are, no file is made.
///
/// # Panics
/// If one of these does not hold, or the system's temporary folder cannot be written.
pub fn bundle(bytes: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = folder.path().join("bundle.tar");
    let written = fs::File::create(&path).and_then(|mut file| file.write_all(bytes));
    written.expect("a temporary file can be written");
    let opened = Bundle::open(&path);
    let files = fs::read_dir(folder.path()).expect("a temporary folder can be read").count();
    assert_eq!(files, 1, "something was unpacked");
    let Ok(bundle) = opened else { return false };
    let layout = Layout::open(&path).expect("it was just opened");
    let contents = bundle.contents(DateTime::<Utc>::MIN_UTC);
    assert!(!contents.trusts.is_empty() && contents.bytes <= bytes.len() as u64);
    for digest in &contents.blobs {
        let blob = layout.blob(digest, bytes.len() as u64).expect("it has its digest");
        assert!(blob.is_some(), "{digest}");
    }
    for missing in &contents.missing {
        assert_eq!(layout.length(&missing.digest).expect("an archive can be asked"), None);
    }
    let again = Bundle::open(&path).expect("it was just opened").contents(DateTime::<Utc>::MIN_UTC);
    assert_eq!(format!("{again:?}"), format!("{contents:?}"));
    true
}
