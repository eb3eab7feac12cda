//! tough, over a folder: in a process of its own, as a stack overflow cannot be caught.

use std::{
    io::{BufRead, Write},
    path::Path,
};

use serde_json::json;
use tough::{
    ExpirationEnforcement, FilesystemTransport, RepositoryLoader, TargetName, TransportErrorKind,
    error::Error,
};
use url::Url;

use super::{
    peer::Request,
    verdict::{Answer, Failure, Kind, Verdict},
};

/// Judges the case on each line of standard input with tough and prints the verdicts, until there are no more lines.
/// The protocol is that of `tests/peers/differential.py`; tough's state is in a folder `tough` beside the stages.
///
/// tough knows no other time than the system's.
///
/// # Panics
/// If a line is not a request, or a case is not there.
pub fn serve_tough() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    for line in std::io::stdin().lock().lines() {
        let request: Request = serde_json::from_str(&line.expect("lines are text")).expect("a request");
        let state = request.folder.join("tough");
        std::fs::create_dir(&state).expect("the case is new");
        let verdicts: Vec<Verdict> =
            (0..request.stages).map(|stage| runtime.block_on(judge(&request, &state, stage))).collect();
        let mut out = std::io::stdout().lock();
        let line = serde_json::to_string(&verdicts).expect("verdicts are JSON");
        writeln!(out, "{line}").and_then(|()| out.flush()).expect("somebody reads");
    }
}

async fn judge(request: &Request, state: &Path, stage: usize) -> Verdict {
    // The newest root that it trusted before: it keeps that, but never reads it.
    let root = std::fs::read(state.join("root.json"))
        .or_else(|_| std::fs::read(request.folder.join("root.json")))
        .expect("the case was written");
    let base = Url::from_directory_path(request.folder.join(stage.to_string())).expect("an absolute path");
    let loaded = RepositoryLoader::new(&root, base.clone(), base)
        .transport(FilesystemTransport)
        .expiration_enforcement(ExpirationEnforcement::Safe)
        .datastore(state)
        .load()
        .await;
    let repository = match loaded {
        Ok(repository) => repository,
        Err(error) => return Verdict::refused(failure(error)),
    };
    let answer = |name: &String| {
        let Ok(target_name) = TargetName::new(name) else {
            let text = "not a name for tough".to_owned();
            return (name.clone(), Answer::Failed(Failure { kind: Kind::Malformed, text }));
        };
        let answer = match repository.targets().signed.find_target(&target_name, false) {
            Ok(target) => Answer::Found { length: json!(target.length), hashes: json!(target.hashes) },
            Err(_) => Answer::Absent,
        };
        (name.clone(), answer)
    };
    Verdict { refresh: None, names: request.names.iter().map(answer).collect() }
}

fn failure(error: Error) -> Failure {
    let kind = match &error {
        Error::ExpiredMetadata { .. } => Kind::Expired,
        Error::VerifyMetadata { .. } | Error::VerifyTrustedMetadata { .. } => Kind::Signatures,
        Error::OlderMetadata { .. }
        | Error::OlderSnapshotInTimestamp { .. }
        | Error::SnapshotRoleMissing { .. }
        | Error::SnapshotRoleRollback { .. }
        | Error::VersionMismatch { .. } => Kind::Version,
        Error::Transport { source, .. } if source.kind() == TransportErrorKind::FileNotFound => Kind::Missing,
        Error::Transport { .. } | Error::HashMismatch { .. } | Error::MaxSizeExceeded { .. } => {
            Kind::Mismatch
        }
        _ => Kind::Malformed,
    };
    let name = format!("{error:?}").chars().take_while(|c| c.is_alphanumeric()).collect::<String>();
    let text: String = format!("{name}: {:#}", anyhow::Error::new(error)).chars().take(400).collect();
    Failure { kind, text }
}
