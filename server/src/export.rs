//! The export of one trust repository: all that its store holds, in one file.
//!
//! Lines of JSON, each with one member that says what it is; the bytes of a document follow its line, and a line feed
//! follows them. In a file:
//!
//! | line | what |
//! |---|---|
//! | `export` | the first: the form's version, the daemon's name for the trust repository, when it was made |
//! | `head` | the current versions, retired names, when was last signed, what the registry showed |
//! | `document` | role, version, length and sha256 of the bytes that follow |
//! | `submission` | one that was accepted |
//! | `end` | how many of both there were |
//! | `seal` | the signature of the timestamp key over the sha256 of all before this line; nothing follows |
//!
//! The daemon gives the same in pages, without the first and the last two lines: `next` says where the next page starts.
//! Private keys are never in it.

use std::io::{self, BufRead, Read, Write};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use plimsoll::keys::{SignError, Signer};
use plimsoll_core::{
    oci::Digest,
    record,
    tuf::{KeyId, Root, limit},
};
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::store::{Commit, Head, Store, StoreError, SubmissionRecord, TrustKey};

/// The version of the form.
const FORMAT: u32 = 1;
/// A line, bytes: the head names every role.
const MAX_LINE: u64 = 16 << 20;
/// All that is read of an export, bytes: it is in memory while it is restored.
pub const MAX_EXPORT: u64 = 4 << 30;
/// A page is closed once it holds this much, bytes; its last document comes on top.
const PAGE: usize = 2 << 20;
/// The most bytes of one page: what it is closed at, one document more, and lines.
pub const MAX_PAGE: u64 = PAGE as u64 + limit::TARGETS + 2 * MAX_LINE;
/// Records of submissions that are read at a time.
const RECORDS: usize = 1000;

/// Why an export was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The disk.
    #[error("it cannot be read or written")]
    Io(#[from] io::Error),
    /// It is cut off, or not an export.
    #[error("it is not a whole export: {what} at byte {at}")]
    Form {
        /// What is wrong.
        what: String,
        /// How much was read before.
        at: u64,
    },
    /// A document is not what its line says.
    #[error("version {version} of {role} in it does not have its hash")]
    Hash {
        /// The role.
        role: String,
        /// The version.
        version: u64,
    },
    /// It is too large.
    #[error("it is larger than {limit} bytes")]
    TooLarge {
        /// The most that is read.
        limit: u64,
    },
    /// The seal was not made by the timestamp key that its newest root names, or something was changed since.
    #[error("its seal does not hold: it was changed since it was made, or made by somebody else")]
    Seal,
    /// The key did not sign.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// A part of an export.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// The current versions.
    Head(Head),
    /// A document.
    Document {
        /// Its role.
        role: String,
        /// Its version.
        version: u64,
        /// Itself.
        bytes: Bytes,
    },
    /// An accepted submission.
    Submission(SubmissionRecord),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Line {
    Export { format: u32, name: String, at: DateTime<Utc> },
    Head(Head),
    Document { role: String, version: u64, length: u64, digest: Digest },
    Submission(SubmissionRecord),
    Next(String),
    End { documents: u64, submissions: u64 },
    Seal { keyid: String, sig: String },
}

/// A whole export, its seal not yet judged.
#[derive(Debug, Clone)]
pub struct Export {
    /// What the daemon called the trust repository.
    pub name: String,
    /// When it was made, UTC.
    pub at: DateTime<Utc>,
    /// All that the store held, as one commit of sequence 1.
    pub commit: Commit,
    /// Whose seal it is.
    pub sealed_by: KeyId,
    sum: String,
    signature: Vec<u8>,
}

impl Export {
    /// Reads one to its end. All of it is in memory then.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn read(input: impl BufRead) -> Result<Self, ExportError> {
        let mut reader = Reader::new(input, MAX_EXPORT);
        let Some(Line::Export { format: FORMAT, name, at }) = reader.line()? else {
            return Err(reader.wrong("it does not begin as one of this version"));
        };
        let (mut head, mut documents, mut submissions) = (None, Vec::new(), Vec::new());
        loop {
            match reader.line()? {
                Some(Line::Head(found)) if head.is_none() => head = Some(found),
                Some(Line::Document { role, version, length, digest }) => {
                    let bytes = reader.document(&role, version, length, &digest)?;
                    documents.push((role, version, bytes));
                }
                Some(Line::Submission(record)) => submissions.push(record),
                Some(Line::End { documents: d, submissions: s })
                    if (d, s) == (documents.len() as u64, submissions.len() as u64) =>
                {
                    break;
                }
                _ => return Err(reader.wrong("something is missing or out of place")),
            }
        }
        let sum = HEXLOWER.encode(reader.sum.clone().finish().as_ref());
        let Some(Line::Seal { keyid, sig }) = reader.line()? else {
            return Err(reader.wrong("there is no seal"));
        };
        let signature = HEXLOWER.decode(sig.as_bytes()).map_err(|_| reader.wrong("the seal is not hex"))?;
        let mut head = head.ok_or_else(|| reader.wrong("there is no head"))?;
        if reader.line()?.is_some() {
            return Err(reader.wrong("something follows the seal"));
        }
        head.sequence = 1;
        let commit = Commit { documents, head, submissions };
        Ok(Self { name, at, commit, sealed_by: KeyId(keyid), sum, signature })
    }

    /// Checks that the timestamp key of `root` sealed it.
    ///
    /// # Errors
    /// [`ExportError::Seal`].
    pub fn check_seal(&self, root: &Root) -> Result<(), ExportError> {
        let named = root.roles.get("timestamp").is_some_and(|keys| keys.keyids.contains(&self.sealed_by));
        let key = root.keys.get(&self.sealed_by).filter(|_| named).ok_or(ExportError::Seal)?;
        let sealed = key.verifies(&statement(&self.sum), &self.signature);
        sealed.then_some(()).ok_or(ExportError::Seal)
    }
}

/// What is signed: no TUF document begins like this, so neither can pass for the other.
fn statement(sum: &str) -> Vec<u8> {
    format!("plimsolld export {FORMAT}\n{sum}\n").into_bytes()
}

/// Writes an export.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    sum: Sum,
    head: Option<Head>,
    documents: u64,
    submissions: u64,
}

struct Sum(Context);

impl std::fmt::Debug for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sum")
    }
}

impl<W: Write> Writer<W> {
    /// Begins one of the trust repository that the daemon calls `name`.
    ///
    /// # Errors
    /// [`ExportError::Io`].
    pub fn begin(out: W, name: &str, at: DateTime<Utc>) -> Result<Self, ExportError> {
        let sum = Sum(Context::new(&SHA256));
        let mut writer = Self { out, sum, head: None, documents: 0, submissions: 0 };
        writer.line(&Line::Export { format: FORMAT, name: name.to_owned(), at })?;
        Ok(writer)
    }

    /// Adds a part. What came into the store after the head was read is left out, so that the export is as of one moment.
    ///
    /// # Errors
    /// [`ExportError::Io`]; [`ExportError::Form`] if the head is not the first part.
    pub fn add(&mut self, part: &Part) -> Result<(), ExportError> {
        let newest = |head: &Head, role: &str| head.roles.get(role).map_or(0, |role| role.version);
        match (part, &self.head) {
            (Part::Head(head), None) => {
                self.line(&Line::Head(head.clone()))?;
                self.head = Some(head.clone());
            }
            (Part::Document { role, version, bytes }, Some(head)) => {
                if *version <= newest(head, role) {
                    self.write(&document(role, *version, bytes))?;
                    self.documents += 1;
                }
            }
            (Part::Submission(record), Some(head)) => {
                if record.timestamp_version <= newest(head, "timestamp") {
                    self.line(&Line::Submission(record.clone()))?;
                    self.submissions += 1;
                }
            }
            _ => return Err(ExportError::Form { what: "the head is not first".to_owned(), at: 0 }),
        }
        Ok(())
    }

    /// Ends it with the seal of `key`, and gives what it was written to, with the number of documents.
    ///
    /// # Errors
    /// [`ExportError::Io`], [`ExportError::Sign`].
    pub fn seal(mut self, key: &dyn Signer) -> Result<(W, u64), ExportError> {
        self.line(&Line::End { documents: self.documents, submissions: self.submissions })?;
        let sum = HEXLOWER.encode(self.sum.0.clone().finish().as_ref());
        let sig = HEXLOWER.encode(&key.sign(&statement(&sum))?);
        self.line(&Line::Seal { keyid: key.key_id().0, sig })?;
        Ok((self.out, self.documents))
    }

    fn line(&mut self, line: &Line) -> Result<(), ExportError> {
        self.write(&text(line))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.sum.0.update(bytes);
        Ok(self.out.write_all(bytes)?)
    }
}

/// A page of what `store` holds of `trust`, from `after` on, which an earlier page named; none for the first. Blocking.
///
/// # Errors
/// [`StoreError`]. An `after` that no page named gives an empty page.
pub fn page(store: &dyn Store, trust: &TrustKey, after: Option<&str>) -> Result<Vec<u8>, StoreError> {
    let head = store.head(trust)?;
    let mut out = Vec::new();
    let (mut from, mut submission) = match after.map(|after| after.split_once(':')) {
        None => {
            out.extend(text(&Line::Head(head.clone())));
            (Some((String::new(), 0)), String::new())
        }
        Some(Some(("s", id))) => (None, id.to_owned()),
        Some(Some((version, role))) => (version.parse().ok().map(|v| (role.to_owned(), v)), String::new()),
        Some(None) => return Ok(out),
    };
    if let Some((role_after, version_after)) = from.take() {
        for role in head.roles.range(role_after.clone()..).map(|(role, _)| role) {
            for version in store.versions(trust, role)? {
                if *role == role_after && version <= version_after {
                    continue;
                }
                let missing = || StoreError::Unavailable {
                    source: io::Error::other("a document vanished while it was read"),
                };
                let bytes = store.document(trust, role, version)?.ok_or_else(missing)?;
                out.extend(document(role, version, &bytes));
                if out.len() >= PAGE {
                    out.extend(text(&Line::Next(format!("{version}:{role}"))));
                    return Ok(out);
                }
            }
        }
    }
    loop {
        let records = store.submissions(trust, &submission, RECORDS)?;
        let Some(last) = records.last() else { return Ok(out) };
        submission.clone_from(&last.id);
        for record in records {
            out.extend(text(&Line::Submission(record)));
        }
        if out.len() >= PAGE {
            out.extend(text(&Line::Next(format!("s:{submission}"))));
            return Ok(out);
        }
    }
}

/// The parts of a page, and where the next one starts.
///
/// # Errors
/// [`ExportError`].
pub fn parts(page: &[u8]) -> Result<(Vec<Part>, Option<String>), ExportError> {
    let (mut reader, mut parts) = (Reader::new(page, MAX_PAGE), Vec::new());
    loop {
        parts.push(match reader.line()? {
            None => return Ok((parts, None)),
            Some(Line::Next(next)) => return Ok((parts, Some(next))),
            Some(Line::Head(head)) => Part::Head(head),
            Some(Line::Document { role, version, length, digest }) => {
                let bytes = reader.document(&role, version, length, &digest)?;
                Part::Document { role, version, bytes }
            }
            Some(Line::Submission(record)) => Part::Submission(record),
            Some(_) => return Err(reader.wrong("something is out of place")),
        });
    }
}

fn text(line: &Line) -> Vec<u8> {
    let mut text = serde_json::to_vec(line).expect("strings, integers and times always serialise");
    text.push(b'\n');
    text
}

fn document(role: &str, version: u64, bytes: &[u8]) -> Vec<u8> {
    let (role, length) = (role.to_owned(), bytes.len() as u64);
    let mut all = text(&Line::Document { role, version, length, digest: Digest::of(bytes) });
    all.extend_from_slice(bytes);
    all.push(b'\n');
    all
}

struct Reader<R> {
    input: R,
    sum: Context,
    read: u64,
    limit: u64,
}

impl<R: BufRead> Reader<R> {
    fn new(input: R, limit: u64) -> Self {
        Self { input, sum: Context::new(&SHA256), read: 0, limit }
    }

    fn wrong(&self, what: &str) -> ExportError {
        ExportError::Form { what: what.to_owned(), at: self.read }
    }

    /// The next line; none at the end.
    fn line(&mut self) -> Result<Option<Line>, ExportError> {
        let mut line = Vec::new();
        (&mut self.input).take(MAX_LINE).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        if line.last() != Some(&b'\n') {
            return Err(self.wrong("a line is cut off, or too long"));
        }
        self.count(&line)?;
        record::json(&line).map(Some).map_err(|error| self.wrong(&error.to_string()))
    }

    fn document(
        &mut self,
        role: &str,
        version: u64,
        length: u64,
        digest: &Digest,
    ) -> Result<Bytes, ExportError> {
        if length > limit::of(role) {
            return Err(self.wrong("a document is too long"));
        }
        let mut bytes = Vec::new();
        (&mut self.input).take(length + 1).read_to_end(&mut bytes)?;
        self.count(&bytes)?;
        if bytes.len() as u64 != length + 1 || bytes.pop() != Some(b'\n') {
            return Err(self.wrong("a document is cut off"));
        }
        if Digest::of(&bytes) != *digest {
            return Err(ExportError::Hash { role: role.to_owned(), version });
        }
        Ok(bytes.into())
    }

    fn count(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.sum.update(bytes);
        self.read += bytes.len() as u64;
        if self.read > self.limit { Err(ExportError::TooLarge { limit: self.limit }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use plimsoll::keys::{Algorithm, PrivateKey};

    use super::*;
    use crate::store::{MemoryStore, RoleHead};

    const MIB: usize = 1 << 20;

    /// Three versions of a large role, one of another, and submissions; a head that is behind the newest of each.
    fn store() -> (MemoryStore, TrustKey) {
        let (store, key) = (MemoryStore::new(), TrustKey::whole("acme"));
        for version in 1..=4_u64 {
            let bytes = Bytes::from(vec![b'0' + u8::try_from(version).unwrap(); 4 * MIB]);
            let small = Bytes::from(format!("{version}\n"));
            let entry =
                |bytes: &Bytes| RoleHead { version, digest: Digest::of(bytes), length: bytes.len() as u64 };
            let roles = BTreeMap::from([
                ("targets".to_owned(), entry(&bytes)),
                ("timestamp".to_owned(), entry(&small)),
            ]);
            let head = Head {
                sequence: version,
                roles,
                retired: BTreeSet::from(["x".to_owned()]),
                ..Head::default()
            };
            let record = SubmissionRecord {
                id: format!("{version:032x}"),
                roles: BTreeMap::new(),
                timestamp_version: version,
                at: DateTime::UNIX_EPOCH,
            };
            let documents =
                vec![("targets".to_owned(), version, bytes), ("timestamp".to_owned(), version, small)];
            store.commit(&key, &Commit { documents, head, submissions: vec![record] }).unwrap();
        }
        (store, key)
    }

    /// All pages, as a backup writes them, and how many there were.
    fn file(store: &MemoryStore, key: &TrustKey, signer: &PrivateKey) -> (Vec<u8>, usize) {
        let mut writer = Writer::begin(Vec::new(), "acme", DateTime::UNIX_EPOCH).unwrap();
        let (mut after, mut pages) = (None, 0);
        loop {
            let page = page(store, key, after.as_deref()).unwrap();
            assert!(page.len() as u64 <= MAX_PAGE);
            pages += 1;
            let (found, next) = parts(&page).unwrap();
            for part in &found {
                writer.add(part).unwrap();
            }
            let Some(next) = next else { break };
            after = Some(next);
        }
        (writer.seal(signer).unwrap().0, pages)
    }

    #[test]
    fn what_was_written_in_pages_is_read_back_whole() {
        let ((store, key), signer) = (store(), PrivateKey::generate(Algorithm::Ed25519).unwrap());
        let (file, pages) = file(&store, &key, &signer);
        assert_eq!(pages, 5, "a large document closes a page; then the rest");
        let export = Export::read(file.as_slice()).unwrap();
        assert_eq!((export.name.as_str(), &export.sealed_by), ("acme", &signer.key_id()));
        assert_eq!(export.commit.head, Head { sequence: 1, ..store.head(&key).unwrap() });
        assert_eq!(export.commit.documents.len(), 8);
        assert_eq!(export.commit.submissions.len(), 4);
        for (role, version, bytes) in &export.commit.documents {
            assert_eq!(store.document(&key, role, *version).unwrap().as_ref(), Some(bytes));
        }
    }

    #[test]
    fn an_export_is_as_of_the_moment_at_which_its_head_was_read() {
        let ((store, key), signer) = (store(), PrivateKey::generate(Algorithm::Ed25519).unwrap());
        let mut writer = Writer::begin(Vec::new(), "acme", DateTime::UNIX_EPOCH).unwrap();
        let (found, _) = parts(&page(&store, &key, Some("s:")).unwrap()).unwrap();
        assert!(writer.add(&found[0]).is_err(), "the head comes first");
        let mut head = store.head(&key).unwrap();
        head.roles.get_mut("timestamp").unwrap().version = 2;
        head.roles.remove("targets");
        writer.add(&Part::Head(head)).unwrap();
        let mut after = None;
        loop {
            let (found, next) = parts(&page(&store, &key, after.as_deref()).unwrap()).unwrap();
            for part in found.iter().filter(|part| !matches!(part, Part::Head(_))) {
                writer.add(part).unwrap();
            }
            let Some(next) = next else { break };
            after = Some(next);
        }
        let export = Export::read(writer.seal(&signer).unwrap().0.as_slice()).unwrap();
        let versions: Vec<_> =
            export.commit.documents.iter().map(|(role, version, _)| (role.as_str(), *version)).collect();
        assert_eq!(versions, [("timestamp", 1), ("timestamp", 2)]);
        assert_eq!(export.commit.submissions.len(), 2);
    }

    #[test]
    fn whatever_was_cut_or_changed_is_no_export() {
        let (store, key) = (MemoryStore::new(), TrustKey::whole("acme"));
        let bytes = Bytes::from_static(b"{}");
        let entry = RoleHead { version: 1, digest: Digest::of(&bytes), length: 2 };
        let head =
            Head { sequence: 1, roles: BTreeMap::from([("root".to_owned(), entry)]), ..Head::default() };
        let documents = vec![("root".to_owned(), 1, bytes)];
        store.commit(&key, &Commit { documents, head, submissions: vec![] }).unwrap();
        let signer = PrivateKey::generate(Algorithm::Ed25519).unwrap();
        let (file, _) = file(&store, &key, &signer);
        for length in 0..file.len() {
            assert!(Export::read(&file[..length]).is_err(), "the first {length} bytes");
        }
        let whole = Export::read(file.as_slice()).unwrap();
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            // What still reads has another seal, or another sum under it.
            if let Ok(export) = Export::read(changed.as_slice()) {
                let same = (&export.sum, &export.signature, &export.sealed_by)
                    == (&whole.sum, &whole.signature, &whole.sealed_by);
                assert!(!same, "byte {at} does not count");
            }
        }
    }
}
