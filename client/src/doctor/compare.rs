//! What we say beside what tough says.

use std::{collections::BTreeSet, path::Path, process::Stdio, time::Duration};

use plimsoll_core::{
    oci::Digest,
    record,
    tuf::{self, Outcome},
};
use tokio::{process::Command, time::timeout};

use super::{
    Copy, CopySource, Judged, Loaded,
    judge::{NAMES, PINNED},
};
use crate::{
    publish::RoleStatus,
    state::StateError,
    update::{Session, UpdateError},
    verify::chain,
};

/// How long tough may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Names that are compared at most.
const MAX_NAMES: usize = 20_000;
/// Differences that are told.
const MAX_TOLD: usize = 20;

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opinion {
    /// Both say the same of so many names.
    Agrees {
        /// How many names were compared.
        names: usize,
    },
    /// Both refuse the repository; tough for this reason.
    RefusesToo(String),
    /// tough could not judge, or says something else for a reason that is known to be its own (docs/divergences.md).
    Limited(Vec<String>),
    /// They differ, and one of them is wrong.
    Disagrees(Vec<String>),
}

/// Has `program`, which is this one, ask tough about `copy`, and compares its answer with `ours`: the session over the very
/// same copy, with all roles of it, or why there is none.
///
/// # Errors
/// [`StateError`] if the copy's folder cannot be written.
pub async fn second_opinion(
    program: &Path,
    copy: &mut Copy,
    pinned: &[u8],
    ours: Result<(&mut Session<CopySource>, &[RoleStatus]), &UpdateError>,
) -> Result<Opinion, StateError> {
    let mut names = BTreeSet::new();
    if let Ok((session, roles)) = &ours {
        copy.note_root(&session.trusted().root().signed);
        let contents = roles.iter().filter_map(|role| role.contents.as_ref());
        names.extend(contents.flat_map(|contents| contents.names.keys().cloned()).take(MAX_NAMES));
    }
    copy.write(&copy.folder().join(PINNED), pinned)?;
    let asked = serde_json::to_vec(&names).expect("a list of strings always serialises");
    copy.write(&copy.folder().join(NAMES), &asked)?;
    let judged = match ask(program, copy.folder()).await {
        Ok(judged) => judged,
        Err(why) => return Ok(Opinion::Limited(vec![why])),
    };
    Ok(match (ours, judged) {
        (Err(_), Judged::Refused(text)) => Opinion::RefusesToo(text),
        (Err(error), Judged::Loaded(_)) => match error {
            UpdateError::Tuf(tuf::Error::Identity { .. } | tuf::Error::View { .. }) => {
                Opinion::Limited(vec!["tough takes it: it does not read `x-plimsoll`".to_owned()])
            }
            _ => Opinion::Disagrees(vec![format!("tough takes what plimsoll refuses: {}", chain(error))]),
        },
        (Ok((_, roles)), Judged::Refused(text)) => {
            let mut known = copy.oddities.clone();
            let faults = roles.iter().filter(|role| role.parent.as_deref() != Some("root"));
            known.extend(faults.filter_map(|role| Some(format!("{}: {}", role.role, role.fault.as_ref()?))));
            if known.is_empty() {
                Opinion::Disagrees(vec![format!("tough refuses what plimsoll takes: {text}")])
            } else {
                known.truncate(MAX_TOLD);
                known.insert(0, format!("tough refuses all of it: {text}"));
                Opinion::Limited(known)
            }
        }
        (Ok((session, _)), Judged::Loaded(loaded)) => compare(session, names, &loaded).await,
    })
}

async fn ask(program: &Path, folder: &Path) -> Result<Judged, String> {
    let mut command = Command::new(program);
    command.arg("doctor").arg("--judge").arg(folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await;
    let output = output.map_err(|_| format!("tough did not end within {} s", PATIENCE.as_secs()))?;
    let output = output.map_err(|error| format!("tough could not be asked: {error}"))?;
    // A signal, as a rule: it overflows its stack on long chains of delegations.
    let ended = || format!("tough did not come to an end: {}", output.status);
    record::json(&output.stdout).map_err(|_| ended())
}

async fn compare(session: &mut Session<CopySource>, names: BTreeSet<String>, theirs: &Loaded) -> Opinion {
    let (mut differ, mut limits) = (Vec::new(), Vec::new());
    let trusted = session.trusted();
    let ours = [
        ("root", Some(trusted.root().version())),
        ("timestamp", trusted.timestamp().map(|document| document.version())),
        ("snapshot", trusted.snapshot().map(|document| document.version())),
        ("targets", trusted.role("targets").map(|(_, document)| document.version())),
    ];
    for (role, version) in ours {
        let other = theirs.versions.get(role);
        if version.is_some() && version != other.copied() {
            differ.push(format!("{role}: version {version:?} for plimsoll, {other:?} for tough"));
        }
    }
    let count = names.len().max(theirs.listed.len());
    let all: BTreeSet<String> = names.into_iter().chain(theirs.listed.iter().cloned()).collect();
    for name in all.into_iter().take(MAX_NAMES) {
        let other = match theirs.found.get(&name) {
            Some(found) => {
                found.clone().map_or_else(|| "not there".to_owned(), |hex| format!("sha256:{hex}"))
            }
            // It lists a name that we do not know of at all.
            None => "listed".to_owned(),
        };
        let mine = say(session, &name).await;
        match mine {
            Said::Means(digest) if digest.to_string() == other => {}
            Said::Nothing if other == "not there" => {}
            Said::Revoked(text) if other != "not there" => {
                limits.push(format!("{name}: {text}, and tough does not read revocations"));
            }
            Said::Revoked(_) => {}
            Said::Means(digest) => differ.push(format!("{name}: {digest} for plimsoll, {other} for tough")),
            Said::Nothing => differ.push(format!("{name}: not there for plimsoll, {other} for tough")),
            Said::Refused(text) => differ.push(format!("{name}: {text} for plimsoll, {other} for tough")),
        }
    }
    if !differ.is_empty() {
        let more = differ.len().saturating_sub(MAX_TOLD);
        differ.truncate(MAX_TOLD);
        if more > 0 {
            differ.push(format!("and {more} more"));
        }
        return Opinion::Disagrees(differ);
    }
    limits.truncate(MAX_TOLD);
    if limits.is_empty() { Opinion::Agrees { names: count } } else { Opinion::Limited(limits) }
}

/// What we say of one name.
enum Said {
    Means(Digest),
    Nothing,
    Revoked(String),
    Refused(String),
}

async fn say(session: &mut Session<CopySource>, name: &str) -> Said {
    match session.find(name).await {
        Ok(Outcome::Found(found)) => match found.target.digest() {
            Some(digest) => match found.revocation(&digest) {
                Some((role, _)) => Said::Revoked(format!("revoked by {role}")),
                None => Said::Means(digest),
            },
            None => Said::Refused("no usable sha256".to_owned()),
        },
        Ok(Outcome::Revoked { role, .. }) => Said::Revoked(format!("revoked by {role}")),
        Ok(Outcome::Absent { .. }) => Said::Nothing,
        Err(unfinished) => Said::Refused(chain(&unfinished.error)),
    }
}
