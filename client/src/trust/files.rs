//! The files that a policy names: each is looked at when the policy is read, not when the one reference comes that needs it.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use plimsoll_core::{
    oci::Digest,
    policy::{Format, Place, PlaceError, Policy, PolicyError, PolicyRule, RootDocument, RootEntry},
    tuf::{Document, Floor, Root, limit},
};
use url::Url;

use super::root_path;
use crate::{floor::MAX_FLOOR, home::Home, state::read};

/// Checks what `policy` names: its root documents, floors and places, and that no two names of one list are one trust
/// repository. `text` is the policy as written, for the line and column.
///
/// # Errors
/// [`PolicyError`] of the first rule that is broken, with its position.
pub(super) fn check(home: &Home, policy: &Policy, text: &str, format: Format) -> Result<(), PolicyError> {
    let mut roots = Vec::new();
    for (name, entry) in &policy.root {
        let root = checked(home, entry)
            .map_err(|(key, rule)| PolicyError::in_root(name, key, rule).located(text, format))?;
        roots.push((name.as_str(), root));
    }
    let mut same = BTreeSet::new();
    for (at, (name, root)) in roots.iter().enumerate() {
        for (other, before) in &roots[..at] {
            if one_repository(&root.signed, &before.signed) {
                same.extend([(*name, *other), (*other, *name)]);
            }
        }
    }
    if same.is_empty() {
        return Ok(());
    }
    policy
        .check_voices(|root, other| same.contains(&(root, other)))
        .map_err(|error| error.located(text, format))
}

type Broken = (&'static str, PolicyRule);

fn checked(home: &Home, entry: &RootEntry) -> Result<Document<Root>, Broken> {
    for place in &entry.places {
        // A host of digits, for one, may be none to who has to follow it.
        if let Place::Tuf(url) = place
            && url.parse::<Url>().is_err()
        {
            return Err(("repository", PlaceError::Url { text: url.clone() }.into()));
        }
    }
    let root = match &entry.document {
        RootDocument::Inline(text) => parsed("inline", text.as_bytes())?,
        RootDocument::File(_) => {
            let path = root_path(home, entry);
            let bytes = file("file", &path, limit::ROOT)?;
            let found = Digest::of(&bytes);
            if found != entry.sha256 {
                return Err(("file", PolicyRule::RootDigest { path, found }));
            }
            parsed("file", &bytes)?
        }
    };
    if let Some(path) = &entry.floor {
        let path = beside(home, path);
        let bytes = file("floor", &path, MAX_FLOOR)?;
        let floor = Floor::parse(&bytes)
            .map_err(|source| ("floor", PolicyRule::Floor { path, source: Box::new(source) }))?;
        if !floor.is_of(&root) {
            let (floor, root) =
                (of(floor.trust.as_deref(), floor.pinned), of(trust_id(&root.signed), root.digest()));
            return Err(("floor", PolicyRule::OtherFloor { floor, root }));
        }
    }
    Ok(root)
}

fn parsed(key: &'static str, bytes: &[u8]) -> Result<Document<Root>, Broken> {
    Document::<Root>::parse("root", bytes)
        .map_err(|source| (key, PolicyRule::NotARoot { source: Box::new(source) }))
}

/// A path of the policy: a relative one starts at its folder.
fn beside(home: &Home, path: &Path) -> PathBuf {
    home.policy().parent().unwrap_or(Path::new("")).join(path)
}

/// The content of a file. Nothing else is opened: a pipe would wait for its other end.
fn file(key: &'static str, path: &Path, cap: u64) -> Result<Vec<u8>, Broken> {
    let unreachable = |source| (key, PolicyRule::File { path: path.to_owned(), source });
    if !fs::metadata(path).map_err(unreachable)?.is_file() {
        return Err(unreachable(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")));
    }
    let missing = || unreachable(io::ErrorKind::NotFound.into());
    read(path, cap).map_err(unreachable)?.ok_or_else(missing)
}

/// True if both start the same trust repository: by their trust ids; where one has none, if they share a key.
fn one_repository(one: &Root, other: &Root) -> bool {
    if let (Some(one), Some(other)) = (trust_id(one), trust_id(other)) {
        return one == other;
    }
    !one.public_keys().is_disjoint(&other.public_keys())
}

fn trust_id(root: &Root) -> Option<&str> {
    root.common.identity.as_ref().map(|identity| identity.trust.as_str())
}

fn of(trust: Option<&str>, root: Digest) -> String {
    trust.map_or_else(|| format!("the root {root}"), |id| format!("trust id {id}"))
}
