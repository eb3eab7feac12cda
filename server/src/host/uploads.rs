//! Blobs on their way in: one temporary file and one running hash each.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::body::Body;
use data_encoding::HEXLOWER;
use plimsoll_core::oci::Digest;
use ring::digest::{Context, SHA256};
use tokio::{fs::File, io::AsyncWriteExt, sync::OwnedMutexGuard, time::Instant};

use super::{body, disk::random_id, error::Refusal, route::Repository};

/// The largest blob in bytes.
pub(super) const MAX_BLOB: u64 = 8 << 30;
/// How many uploads there may be at a time.
pub(super) const MAX_OPEN: usize = 64;
/// After this long without a byte an upload is dropped.
const IDLE: Duration = Duration::from_secs(3600);

/// The uploads under way. They do not outlive the process: a client that finds its upload gone starts over.
pub(super) struct Uploads {
    folder: PathBuf,
    open: Mutex<HashMap<String, Slot>>,
}

struct Slot {
    repository: Repository,
    upload: Arc<tokio::sync::Mutex<Upload>>,
}

/// One upload. Its file goes with it.
pub(super) struct Upload {
    file: File,
    path: PathBuf,
    hash: Context,
    length: u64,
    touched: Instant,
    /// True while file and hash may differ: for good if a write failed or its request went away in the middle.
    torn: bool,
}

impl Uploads {
    /// No uploads; drops what an earlier process left in `folder` long ago. Blocking.
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        sweep_files(&folder)?;
        Ok(Self { folder, open: Mutex::default() })
    }

    /// Begins an upload and returns its id.
    ///
    /// # Errors
    /// [`Refusal::TooManyUploads`], [`Refusal::Io`].
    pub(super) async fn begin(&self, repository: &Repository) -> Result<String, Refusal> {
        self.sweep(Instant::now());
        if self.slots().len() >= MAX_OPEN {
            return Err(Refusal::TooManyUploads);
        }
        let id = random_id()?;
        let path = self.folder.join(format!("upload-{id}"));
        let upload = Upload {
            file: File::create_new(&path).await?,
            path,
            hash: Context::new(&SHA256),
            length: 0,
            touched: Instant::now(),
            torn: false,
        };
        let slot = Slot { repository: repository.clone(), upload: Arc::new(tokio::sync::Mutex::new(upload)) };
        let mut slots = self.slots();
        // Others may have begun while the file was made.
        if slots.len() >= MAX_OPEN {
            return Err(Refusal::TooManyUploads);
        }
        slots.insert(id.clone(), slot);
        Ok(id)
    }

    /// The upload, for this request alone.
    ///
    /// # Errors
    /// [`Refusal::UploadUnknown`], [`Refusal::UploadBusy`].
    pub(super) fn take(&self, repository: &Repository, id: &str) -> Result<OwnedMutexGuard<Upload>, Refusal> {
        let upload = match self.slots().get(id) {
            Some(slot) if slot.repository == *repository => Arc::clone(&slot.upload),
            _ => return Err(Refusal::UploadUnknown),
        };
        let upload = upload.try_lock_owned().map_err(|_| Refusal::UploadBusy)?;
        if upload.torn {
            self.forget(id);
            return Err(Refusal::UploadUnknown);
        }
        Ok(upload)
    }

    /// Drops the upload; its file goes as soon as no request uses it.
    pub(super) fn forget(&self, id: &str) {
        self.slots().remove(id);
    }

    /// Drops the uploads that have been idle too long. One that cannot be locked is in use.
    fn sweep(&self, now: Instant) {
        self.slots()
            .retain(|_, slot| slot.upload.try_lock().map_or(true, |u| now.duration_since(u.touched) < IDLE));
    }

    /// A panic cannot leave the map half-changed.
    fn slots(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upload {
    /// Bytes so far.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Where the bytes are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a body. What came before a body broke off stays.
    ///
    /// # Errors
    /// [`Refusal::Slow`], [`Refusal::Body`]: the upload may go on. [`Refusal::TooLarge`], [`Refusal::Io`]: it may not.
    pub(super) async fn append(&mut self, mut body: Body) -> Result<(), Refusal> {
        let deadline = body::deadline();
        while let Some(data) = body::piece(&mut body, deadline).await? {
            self.torn = true;
            if self.length + data.len() as u64 > MAX_BLOB {
                return Err(Refusal::TooLarge { limit: MAX_BLOB });
            }
            self.hash.update(&data);
            self.file.write_all(&data).await?;
            self.length += data.len() as u64;
            self.touched = Instant::now();
            self.torn = false;
        }
        self.torn = true;
        self.file.flush().await?;
        self.torn = false;
        Ok(())
    }

    /// Makes the bytes durable if their digest is `expected`.
    ///
    /// # Errors
    /// [`Refusal::DigestMismatch`], [`Refusal::Io`].
    pub(super) async fn seal(&mut self, expected: Digest) -> Result<(), Refusal> {
        let hex = HEXLOWER.encode(self.hash.clone().finish().as_ref());
        let found = Digest::from_hex(&hex).expect("a sha256 has 64 lower-case hex digits");
        if found != expected {
            return Err(Refusal::DigestMismatch { expected, found });
        }
        self.file.sync_all().await?;
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Gone already if it became a blob.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the files that have been idle too long. The file system's own clock says how long: a new file is now.
fn sweep_files(folder: &Path) -> io::Result<()> {
    let probe = folder.join(format!("probe-{}", random_id()?));
    let now = fs::File::create_new(&probe)?.metadata()?.modified()?;
    fs::remove_file(&probe)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if now.duration_since(entry.metadata()?.modified()?).is_ok_and(|idle| idle > IDLE) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> Repository {
        Repository::parse("acme/x").unwrap()
    }

    #[tokio::test]
    async fn there_are_at_most_64_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(folder.path().to_owned()).unwrap();
        for _ in 0..MAX_OPEN {
            uploads.begin(&repository()).await.unwrap();
        }
        assert!(matches!(uploads.begin(&repository()).await, Err(Refusal::TooManyUploads)));
        let id = uploads.slots().keys().next().unwrap().clone();
        uploads.forget(&id);
        uploads.begin(&repository()).await.unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), MAX_OPEN);
    }

    #[tokio::test]
    async fn an_idle_one_is_dropped_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(folder.path().to_owned()).unwrap();
        let (idle, used) =
            (uploads.begin(&repository()).await.unwrap(), uploads.begin(&repository()).await.unwrap());
        let held = uploads.take(&repository(), &used).unwrap();
        uploads.sweep(Instant::now() + IDLE);
        assert!(matches!(uploads.take(&repository(), &idle), Err(Refusal::UploadUnknown)));
        assert!(matches!(uploads.take(&repository(), &used), Err(Refusal::UploadBusy)));
        drop(held);
        assert!(uploads.take(&repository(), &used).is_ok());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn an_upload_belongs_to_its_repository() {
        let folder = tempfile::tempdir().unwrap();
        let uploads = Uploads::open(folder.path().to_owned()).unwrap();
        let id = uploads.begin(&repository()).await.unwrap();
        let other = Repository::parse("acme/y").unwrap();
        assert!(matches!(uploads.take(&other, &id), Err(Refusal::UploadUnknown)));
    }

    #[test]
    fn what_an_earlier_process_left_goes_after_an_hour() {
        let folder = tempfile::tempdir().unwrap();
        for (name, age) in [("old", 3700), ("young", 3500)] {
            let file = fs::File::create(folder.path().join(name)).unwrap();
            let now = file.metadata().unwrap().modified().unwrap();
            file.set_modified(now - Duration::from_secs(age)).unwrap();
        }
        Uploads::open(folder.path().to_owned()).unwrap();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["young"]);
    }
}
