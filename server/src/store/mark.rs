//! How far one trust had come when its last commit was acknowledged, beside the store and apart from it.
//!
//! A file for each trust, named by the hash of its name: a line of JSON that says whose it is, then two records of a commit's
//! number (eight bytes, big-endian) and the sha256 of the line and that number. They are written in turn, so one that was being
//! written when the power went leaves the other, which is one behind.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use data_encoding::HEXLOWER;
use plimsoll_core::record;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::{TrustKey, open::sync_folder};

/// The name of a file that is being made.
pub(super) const TEMPORARY: &str = "new";

const NUMBER: usize = 8;
const RECORD: usize = NUMBER + 32;

/// The mark of one trust, open for writing.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    /// What the file begins with.
    line: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Whose {
    name: String,
    view: String,
}

impl Mark {
    /// Opens the mark of `trust` in `folder`, and makes it, at 0, if it is not there.
    pub(super) fn open(folder: &Path, trust: &TrustKey) -> io::Result<Self> {
        let whose = Whose { name: trust.name.clone(), view: trust.view.clone() };
        let mut line = serde_json::to_vec(&whose).expect("two texts always serialise");
        line.push(b'\n');
        let path = folder.join(HEXLOWER.encode(ring::digest::digest(&SHA256, &line).as_ref()));
        let open = || OpenOptions::new().read(true).write(true).open(&path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let temporary = folder.join(TEMPORARY);
                let mut file = File::create(&temporary)?;
                file.write_all(&line)?;
                file.write_all(&[record(&line, 0), record(&line, 0)].concat())?;
                file.sync_all()?;
                fs::rename(&temporary, &path)?;
                sync_folder(folder)?;
                open()?
            }
            opened => opened?,
        };
        Ok(Self { file, line })
    }

    /// Writes the number of a commit over the one before the last; durable on return.
    pub(super) fn write(&mut self, sequence: u64) -> io::Result<()> {
        let at = self.line.len() as u64 + (sequence % 2) * RECORD as u64;
        self.file.write_all_at(&record(&self.line, sequence), at)?;
        self.file.sync_data()
    }
}

/// Whose mark the bytes of a file are, and the number of the last commit in it; none if they are no mark.
pub(super) fn read(mut bytes: &[u8]) -> Option<(TrustKey, u64)> {
    /// A whole mark of earlier builds, which is not written to any more: it stays, and goes on to be true.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Earlier {
        name: String,
        view: String,
        sequence: u64,
    }
    if let Ok(Earlier { name, view, sequence }) = record::json(bytes) {
        return Some((TrustKey { name, view }, sequence));
    }
    let end = bytes.iter().position(|&byte| byte == b'\n')? + 1;
    let mut line = vec![0; end];
    bytes.read_exact(&mut line).ok()?;
    let Whose { name, view } = record::json(&line).ok()?;
    let whole = bytes.chunks_exact(RECORD).filter_map(|found| {
        let sequence = u64::from_be_bytes(found[..NUMBER].try_into().ok()?);
        (record(&line, sequence) == found).then_some(sequence)
    });
    Some((TrustKey { name, view }, whole.max()?))
}

fn record(line: &[u8], sequence: u64) -> Vec<u8> {
    let number = sequence.to_be_bytes();
    let mut sum = Context::new(&SHA256);
    sum.update(line);
    sum.update(&number);
    [&number, sum.finish().as_ref()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_of_an_earlier_build_is_read() {
        let found = read(br#"{"name":"acme","view":"","sequence":7}"#);
        assert_eq!(found, Some((TrustKey::whole("acme"), 7)));
        assert_eq!(read(br#"{"name":"acme","view":""}"#), None);
    }

    #[test]
    fn a_mark_is_read_as_it_was_written_and_a_torn_record_leaves_the_one_before() {
        let (folder, trust) = (tempfile::tempdir().unwrap(), TrustKey::whole("a\n{\"b"));
        let file = || {
            let entry = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap();
            fs::read(entry.path()).unwrap()
        };
        for sequence in [1, 2, 3] {
            // Opened again, as after a restart, and kept open.
            let mut mark = Mark::open(folder.path(), &trust).unwrap();
            assert_eq!(read(&file()), Some((trust.clone(), sequence * 10 - 10)));
            mark.write(sequence * 10 - 1).unwrap();
            mark.write(sequence * 10).unwrap();
            assert_eq!(read(&file()), Some((trust.clone(), sequence * 10)));
        }
        let whole = file();
        for at in 0..whole.len() {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            let newest = (whole.len() - 2 * RECORD..whole.len() - RECORD).contains(&at);
            let found = read(&torn).map(|(_, sequence)| sequence);
            match at < whole.len() - 2 * RECORD {
                true => assert_eq!(found, None, "whose it is stands in every sum"),
                false => assert_eq!(found, Some(if newest { 29 } else { 30 }), "byte {at}"),
            }
        }
        for cut in 0..whole.len() - RECORD {
            let found = read(&whole[..cut]).map(|(_, sequence)| sequence);
            assert!(found.is_none(), "{cut} bytes");
        }
    }
}
