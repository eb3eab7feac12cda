//! `key list`: the keys in folders, and those of the ssh-agent.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use plimsoll_core::tuf::{Key, PublicKey};
use serde::Serialize;

use super::{Failure, Out, is_private, kind};
use crate::{
    keys::{Agent, AgentError, AgentKey, KeyFileError, load_public},
    verify::{chain, printable},
};

#[derive(Serialize)]
struct List {
    keys: Vec<Row>,
    warnings: Vec<String>,
}

/// One key: a private file, a public one, or both of one name; or a key of the ssh-agent.
#[derive(Serialize)]
struct Row {
    /// Not known of a private key without a public file: it is not opened for this.
    key_id: Option<String>,
    keytype: Option<String>,
    scheme: Option<String>,
    /// Files, or the ssh-agent with a selector.
    private: Option<PathBuf>,
    public: Option<PathBuf>,
    ssh_agent: Option<String>,
    /// What is wrong with it, or how to learn more.
    note: Option<String>,
    #[serde(skip)]
    kind: &'static str,
}

pub(super) fn run(out: &Out, paths: &[PathBuf]) -> Result<(), Failure> {
    let here = [PathBuf::from(".")];
    let paths = if paths.is_empty() { &here[..] } else { paths };
    let mut files = BTreeSet::new();
    for path in paths {
        files.extend(found(path).map_err(|error| not_listed(path, &error))?);
    }
    let (mut keys, mut warnings) = (rows(&files), Vec::new());
    match Agent::from_env().and_then(|agent| agent.keys()) {
        Ok(held) => keys.extend(held.iter().map(of_agent)),
        Err(AgentError::NoAgent) => {}
        Err(error) => warnings.push(chain(&error)),
    }
    if out.json() {
        return out.result(&List { keys, warnings }, "", &[]);
    }
    for warning in &warnings {
        out.aside(&format!("warning: {warning}"));
    }
    if keys.is_empty() {
        out.aside("no keys here; `plimsoll key generate NAME` makes one");
        return Ok(());
    }
    out.print(&keys.iter().map(line).collect::<Vec<_>>().join("\n"))
}

/// `path` itself, or its `.pub` and `.key` files if it is a folder.
fn found(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        let listed = file.extension().is_some_and(|extension| extension == "pub" || extension == "key");
        if listed && file.is_file() {
            // Paths below the current folder are shown as people write them.
            files.push(file.strip_prefix(".").unwrap_or(&file).to_owned());
        }
    }
    Ok(files)
}

fn not_listed(path: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => Failure::usage(format!("there is no file or folder `{}`", path.display())),
        _ => Failure::usage(format!("cannot read `{}`: {error}", path.display())),
    }
}

/// One row for each key; a public file beside its private one has none of its own.
fn rows(files: &BTreeSet<PathBuf>) -> Vec<Row> {
    let mut rows = Vec::new();
    for file in files {
        let public = match load_public(file) {
            Err(KeyFileError::NotAKey { .. }) if is_private(file) => {
                rows.push(private_row(file));
                continue;
            }
            public => public,
        };
        let of_private = files
            .iter()
            .any(|other| other != file && other.with_extension("pub") == *file && is_private(other));
        if !of_private {
            rows.push(match public {
                Ok(public) => Row { public: Some(file.clone()), ..row(Some(&public)) },
                Err(error) => Row { public: Some(file.clone()), note: Some(chain(&error)), ..row(None) },
            });
        }
    }
    rows
}

fn private_row(file: &Path) -> Row {
    let beside = file.with_extension("pub");
    let mode = fs::metadata(file).map_or(0, |found| found.permissions().mode() & 0o777);
    let mut row = match load_public(&beside) {
        Err(KeyFileError::NotFound { .. }) => {
            let note = format!(
                "no {} beside it; `plimsoll key show {}` tells its id",
                beside.display(),
                file.display()
            );
            Row { note: Some(note), private: Some(file.to_owned()), ..row(None) }
        }
        Ok(public) => Row { private: Some(file.to_owned()), public: Some(beside), ..row(Some(&public)) },
        Err(error) => Row { note: Some(chain(&error)), private: Some(file.to_owned()), ..row(None) },
    };
    if mode & 0o077 != 0 {
        row.note = Some(chain(&KeyFileError::Permissions { path: file.to_owned(), mode }));
    }
    row
}

/// What a public key says about itself.
fn row(public: Option<&PublicKey>) -> Row {
    let key = public.map(Key::new);
    Row {
        key_id: key.as_ref().map(|key| key.id().0),
        keytype: key.as_ref().map(|key| key.keytype.clone()),
        scheme: key.map(|key| key.scheme),
        private: None,
        public: None,
        ssh_agent: None,
        note: None,
        kind: public.map_or("-", kind),
    }
}

fn of_agent(key: &AgentKey) -> Row {
    let comment = Some(key.comment()).filter(|comment| !comment.is_empty()).map(str::to_owned);
    Row { ssh_agent: Some(comment.unwrap_or_else(|| key.fingerprint())), ..row(Some(&key.public())) }
}

/// `ID  TYPE  private|public  PLACE`, and below it what is to be said about it.
fn line(row: &Row) -> String {
    let id = row.key_id.as_deref().unwrap_or("-");
    let place = match (&row.ssh_agent, row.private.as_ref().or(row.public.as_ref())) {
        (Some(selector), _) => format!("ssh-agent:{selector}"),
        (None, file) => file.map(|file| file.display().to_string()).unwrap_or_default(),
    };
    let half = if row.private.is_some() || row.ssh_agent.is_some() { "private" } else { "public" };
    let note = row.note.as_ref().map(|note| format!("\n  {}", printable(note))).unwrap_or_default();
    format!("{id:<64}  {:<11}  {half:<7}  {}{note}", row.kind, printable(&place))
}
