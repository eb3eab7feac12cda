//! Which daemon takes submissions for which trust repository: `servers.toml`, written by `init`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use plimsoll_core::record;
use serde::{Deserialize, Serialize};
use url::Url;

use super::Failure;
use crate::{
    home::Home,
    registry::Secret,
    state::{create_private_folder, read, replace},
};

const MAX: u64 = 1024 * 1024;
const VARIABLE: &str = "PLIMSOLL_SERVER";
const TOKEN: &str = "PLIMSOLL_TOKEN";
const MAX_TOKEN: u64 = 16 * 1024;

/// What a daemon wants to see before it takes a submission. Never an argument itself: those are for everybody to read.
#[derive(Debug, Default, Clone, clap::Args)]
pub(super) struct TokenArgs {
    /// File whose first line is the token for submitting, if the daemon wants one; else $PLIMSOLL_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl TokenArgs {
    /// The token, if one is given. Reads a file.
    pub(super) fn token(&self) -> Result<Option<Secret>, Failure> {
        let (text, place) = match &self.token_file {
            Some(path) => (token_file(path)?, path.display().to_string()),
            None => match std::env::var_os(TOKEN) {
                Some(value) if !value.is_empty() => {
                    let text = value.into_string().map_err(|_| unusable(TOKEN))?;
                    (Secret::new(text), TOKEN.to_owned())
                }
                _ => return Ok(None),
            },
        };
        let line = text.expose().lines().next().unwrap_or_default().trim();
        if line.is_empty() || !line.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(unusable(&place));
        }
        Ok(Some(Secret::new(line)))
    }
}

fn token_file(path: &Path) -> Result<Secret, Failure> {
    let wrong = |why: &str| Failure::usage(format!("cannot use the token file {}: {why}", path.display()));
    let bytes = read(path, MAX_TOKEN).map_err(|error| wrong(&error.to_string()))?;
    let bytes = bytes.ok_or_else(|| wrong("it does not exist"))?;
    String::from_utf8(bytes).map(Secret::new).map_err(|_| wrong("it is not UTF-8 text"))
}

fn unusable(place: &str) -> Failure {
    Failure::usage(format!("{place} holds no token")).next("`plimsolld token add NAME` prints one")
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Servers {
    /// URLs by trust repository, `HOST/REPOSITORY`.
    #[serde(default)]
    servers: BTreeMap<String, String>,
}

/// Reads `--server`.
pub(super) fn url(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err("not a URL: write it as http://127.0.0.1:8480 or https://trust.example.com".to_owned()),
    }
}

/// The environment variable that stands for `--server`; none if it is empty, which counts as unset.
pub(super) fn variable() -> Option<&'static str> {
    std::env::var_os(VARIABLE).is_none_or(|value| !value.is_empty()).then_some(VARIABLE)
}

/// The daemon to submit to: the one given, else the one remembered for `repository`.
pub(super) fn server(home: &Home, given: Option<&Url>, repository: &str) -> Result<Url, Failure> {
    if let Some(url) = given {
        return Ok(url.clone());
    }
    let known = load(home)?.servers.remove(repository).ok_or_else(|| {
        Failure::usage(format!("no daemon is known for {repository}"))
            .next("give --server URL, or set PLIMSOLL_SERVER, to the URL of its plimsolld")
    })?;
    known.parse().map_err(|_| {
        let path = home.servers();
        Failure::usage(format!("cannot use {}: `{known}` is not a URL", path.display()))
    })
}

/// Remembers the daemon for `repository`. Replaces the file atomically.
pub(super) fn remember(home: &Home, repository: &str, url: &Url) -> Result<(), Failure> {
    let path = home.servers();
    let mut all = load(home)?;
    all.servers.insert(repository.to_owned(), url.to_string());
    let text = toml::to_string(&all).expect("a table of strings always serialises");
    let write = || {
        create_private_folder(path.parent().unwrap_or(Path::new(".")))?;
        replace(&path, text.as_bytes(), 0o644)
    };
    write().map_err(|error| Failure::internal(format!("cannot write {}: {error}", path.display())))
}

fn load(home: &Home) -> Result<Servers, Failure> {
    let path = home.servers();
    let wrong = |why: String| Failure::usage(format!("cannot use {}: {why}", path.display()));
    let Some(bytes) = read(&path, MAX).map_err(|error| wrong(error.to_string()))? else {
        return Ok(Servers::default());
    };
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 text".to_owned()))?;
    record::toml(&text).map_err(|error| wrong(error.to_string()))
}
