//! Our client, over a folder: its real code, trusted state and all.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use plimsoll::{
    state::Entry,
    update::{Begin, Bounds, Session, Source, SourceError, UpdateError},
};
use plimsoll_core::tuf::{Error, MetaFile, Outcome};
use serde_json::json;

use super::verdict::{Answer, Failure, Kind, Verdict};
use crate::tuf_repository::segment_of;

/// What our client says of stage `stage` of the case in `folder`; it keeps its state there, in `plimsoll`.
pub(super) fn judge(
    runtime: &tokio::runtime::Runtime,
    folder: &Path,
    stage: usize,
    names: &[String],
    now: DateTime<Utc>,
) -> Verdict {
    let pinned = std::fs::read(folder.join("root.json")).expect("the case was written");
    let source = Folder(folder.join(stage.to_string()));
    runtime.block_on(async {
        let mut session = match Session::refresh(
            source,
            &folder.join("plimsoll"),
            &pinned,
            now,
            &Bounds::default(),
        )
        .await
        {
            Ok(session) => session,
            Err(error) => return Verdict::refused(failure(&error)),
        };
        // The others load the top-level targets with the rest.
        if let Err(error) = session.load_role("targets", "root").await {
            return Verdict::refused(failure(&error));
        }
        let mut verdict = Verdict { refresh: None, names: std::collections::BTreeMap::new() };
        for name in names {
            let answer = match session.find(name).await {
                Ok(Outcome::Found(found)) => {
                    Answer::Found { length: json!(found.target.length), hashes: json!(found.target.hashes) }
                }
                Ok(_) => Answer::Absent,
                Err(unfinished) => Answer::Failed(failure(&unfinished.error)),
            };
            verdict.names.insert(name.clone(), answer);
        }
        verdict
    })
}

fn failure(error: &UpdateError) -> Failure {
    let kind = match error {
        UpdateError::Tuf(error) => match error {
            Error::Expired { .. } => Kind::Expired,
            Error::Threshold { .. } | Error::NotDelegated { .. } | Error::Identity { .. } => Kind::Signatures,
            Error::RootVersion { .. }
            | Error::Rollback { .. }
            | Error::RoleRemoved { .. }
            | Error::Equivocation { .. }
            | Error::Version { .. } => Kind::Version,
            Error::Hash { .. } | Error::Length { .. } => Kind::Mismatch,
            Error::NotInSnapshot { .. } => Kind::Unlisted,
            Error::SearchLimit { .. } => Kind::Limit,
            _ => Kind::Malformed,
        },
        UpdateError::Source(_) => Kind::Missing,
        UpdateError::TooManyRoots => Kind::Limit,
        UpdateError::PinnedRoot { .. } => Kind::Version,
        _ => Kind::Crash,
    };
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    Failure { kind, text }
}

/// The files of a folder, under the names that TUF gives them.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn file(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.0.join(name)).ok()
    }

    fn listed(&self, role: &str, meta: &MetaFile, consistent: bool) -> Result<Vec<u8>, SourceError> {
        let role = segment_of(role);
        let file = if consistent { format!("{}.{role}.json", meta.version) } else { format!("{role}.json") };
        self.file(&file).ok_or_else(|| SourceError::Gone { location: self.location(), file })
    }
}

impl Source for Folder {
    async fn begin(&mut self, _entry: Option<&Entry>) -> Result<Begin, SourceError> {
        Ok(Begin::Changed)
    }

    async fn root(&mut self, version: u64) -> Result<Option<Vec<u8>>, SourceError> {
        Ok(self.file(&format!("{version}.root.json")))
    }

    async fn timestamp(&mut self) -> Result<Vec<u8>, SourceError> {
        self.file("timestamp.json").ok_or_else(|| SourceError::Empty { location: self.location() })
    }

    async fn snapshot(&mut self, meta: &MetaFile, consistent: bool) -> Result<Vec<u8>, SourceError> {
        self.listed("snapshot", meta, consistent)
    }

    async fn targets(
        &mut self,
        role: &str,
        meta: &MetaFile,
        consistent: bool,
    ) -> Result<Vec<u8>, SourceError> {
        self.listed(role, meta, consistent)
    }

    fn entry(&self) -> Option<Entry> {
        None
    }

    fn location(&self) -> String {
        self.0.display().to_string()
    }
}
