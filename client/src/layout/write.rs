//! Writing image layouts: what is new is added, and seen all at once.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use plimsoll_core::oci::{Descriptor, Digest, media_type};
use serde::Serialize;

use super::{Layout, LayoutError, REF_NAME, name};
use crate::state::replace;

const MODE: u32 = 0o644;

/// Makes `folder` an image layout without images, unless it is a layout already.
///
/// # Errors
/// [`LayoutError::Io`], with the path; those of [`Layout::open`].
pub fn prepare(folder: &Path) -> Result<(), LayoutError> {
    let blobs = folder.join("blobs/sha256");
    let made = DirBuilder::new().recursive(true).mode(0o755).create(&blobs);
    made.map_err(|source| LayoutError::Io { path: blobs, source })?;
    for (name, content) in
        [("index.json", index(&[])), ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())]
    {
        let path = folder.join(name);
        if !path.exists() {
            replace(&path, &content, MODE).map_err(|source| LayoutError::Io { path, source })?;
        }
    }
    Layout::open(folder).map(drop)
}

/// Stores `bytes` as a blob, durably, unless it is there. Nothing names it yet.
///
/// # Errors
/// [`LayoutError`], with the blob's path.
pub fn put(layout: &Layout, bytes: &[u8]) -> Result<(), LayoutError> {
    let digest = Digest::of(bytes);
    // One that is damaged is replaced.
    if layout.blob(&digest, bytes.len() as u64).is_ok_and(|found| found.is_some()) {
        return Ok(());
    }
    let path = layout.place().join(name(&digest));
    replace(&path, bytes, MODE).map_err(|source| LayoutError::Io { path, source })
}

/// Copies the blob that `descriptor` names from another layout, durably, unless it is there; it counts only if it has its
/// digest and size. Nothing names it yet.
///
/// # Errors
/// [`LayoutError`], with the blob's path.
pub fn put_from(layout: &Layout, from: &Layout, descriptor: &Descriptor) -> Result<(), LayoutError> {
    if layout.copy(descriptor, |_| Ok(())).is_ok() {
        return Ok(());
    }
    let path = layout.place().join(name(&descriptor.digest));
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let io = |source| LayoutError::Io { path: path.clone(), source };
    let _ = fs::remove_file(&temporary);
    let copied = (|| {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(MODE).open(&temporary).map_err(io)?;
        from.copy(descriptor, |piece| file.write_all(piece))?;
        file.sync_all().and_then(|()| fs::rename(&temporary, &path)).map_err(io)
    })();
    if copied.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    copied?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
}

/// Lists `manifests` in `index.json`, each in place of what has its name there. This one replacement makes all of them seen.
///
/// # Errors
/// [`LayoutError::Io`], those of [`Layout::open`].
pub fn publish(folder: &Path, manifests: &[Descriptor]) -> Result<(), LayoutError> {
    let mut all: Vec<Descriptor> = Layout::open(folder)?.manifests().to_vec();
    let called = |descriptor: &Descriptor| descriptor.annotations.get(REF_NAME).cloned();
    for manifest in manifests {
        match all.iter_mut().find(|known| called(known) == called(manifest)) {
            Some(known) => *known = manifest.clone(),
            None => all.push(manifest.clone()),
        }
    }
    let path = folder.join("index.json");
    replace(&path, &index(&all), MODE).map_err(|source| LayoutError::Io { path, source })
}

/// The content of an `index.json`: compact JSON, always the same for the same manifests.
///
/// # Panics
/// Never: strings and integers always serialise.
pub fn index(manifests: &[Descriptor]) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Index<'a> {
        schema_version: u8,
        media_type: &'static str,
        manifests: &'a [Descriptor],
    }
    let index = Index { schema_version: 2, media_type: media_type::INDEX, manifests };
    serde_json::to_vec(&index).expect("strings and integers always serialise")
}
