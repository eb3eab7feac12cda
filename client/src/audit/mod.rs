//! What runs, verified again: a revocation reaches what was started before it.
//!
//! [`read`] takes the documented output of the tools that know what runs ([`Format`]); [`audit`] judges each image by the
//! digest that runs, under the identity by which it was asked for.

mod docker;
mod kubernetes;
mod run;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use plimsoll_core::oci::Reference;
use serde::de::IgnoredAny;

pub use run::{Audited, ImageReport, audit};

/// What is read may be this long, bytes.
pub const MAX_INPUT: u64 = 64 * 1024 * 1024;

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// References, one a line; blank lines and lines that begin with `#` are skipped
    List,
    /// `crictl ps -o json`, `crictl images -o json`
    Crictl,
    /// `docker inspect` of containers and images, `docker ps --format json`
    Docker,
    /// `kubectl get pods -A -o json`
    Kubectl,
}

/// Something that runs, or could.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Where, in the words of its tool: `NAMESPACE/POD/CONTAINER`, `NAMESPACE/POD/volumes/VOLUME`, a
    /// container's name, `line 3`.
    pub place: String,
    /// What.
    pub image: Image,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Image {
    /// By the digest that runs, if the reference has one; by its name else.
    Known(Reference),
    /// Neither a digest nor a name that could be judged.
    Unknown {
        /// What is said of it.
        text: String,
        /// Why it cannot be judged.
        why: &'static str,
    },
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// What runs.
    pub running: Vec<Running>,
    /// How many entries were left out since they have ended.
    pub idle: usize,
}

/// Why a listing cannot be read. All of it is misuse.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListingError {
    /// Longer than [`MAX_INPUT`].
    #[error("longer than {} MiB", MAX_INPUT / 1024 / 1024)]
    TooLong,
    /// Nothing at all: whatever should have written it failed, perhaps.
    #[error("there is nothing in it")]
    Empty,
    /// Not UTF-8.
    #[error("byte {at}: not UTF-8 text")]
    NotText {
        /// Offset in bytes.
        at: usize,
    },
    /// A line that is no reference.
    #[error("line {line}")]
    Reference {
        /// The line, from 1.
        line: usize,
        /// Why.
        source: plimsoll_core::oci::ReferenceError,
    },
    /// Not JSON of the shape that the tool documents; the source names line and column.
    #[error("not the output of {tool}")]
    Shape {
        /// The tool and its arguments.
        tool: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// JSON of a shape that is none of these tools'.
    #[error("{place}: {what}")]
    Unknown {
        /// Where: `items[3].kind`, `line 2`.
        place: String,
        /// What is there.
        what: String,
    },
}

/// Reads what a tool says is running. Without a `format`, its shape tells which it is: text that is no JSON is a list.
///
/// # Errors
/// [`ListingError`].
pub fn read(bytes: &[u8], format: Option<Format>) -> Result<Listing, ListingError> {
    if bytes.len() as u64 > MAX_INPUT {
        return Err(ListingError::TooLong);
    }
    let text =
        std::str::from_utf8(bytes).map_err(|error| ListingError::NotText { at: error.valid_up_to() })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(ListingError::Empty);
    }
    let format = match format {
        Some(format) => format,
        None => guessed(text)?,
    };
    match format {
        Format::List => list(text),
        Format::Crictl => kubernetes::crictl(text),
        Format::Docker => docker::docker(text),
        Format::Kubectl => kubernetes::kubectl(text),
    }
}

/// The format of `text`, by how its JSON begins.
fn guessed(text: &str) -> Result<Format, ListingError> {
    let start = text.trim_start();
    if start.starts_with('[') {
        return Ok(Format::Docker);
    }
    if !start.starts_with('{') {
        return Ok(Format::List);
    }
    let mut stream = serde_json::Deserializer::from_str(start).into_iter::<BTreeMap<String, IgnoredAny>>();
    let members = match stream.next() {
        Some(Err(source)) => return Err(ListingError::Shape { tool: "crictl, docker or kubectl", source }),
        Some(Ok(members)) => members,
        None => return Ok(Format::List),
    };
    let has = |name: &str| members.contains_key(name);
    match () {
        () if has("kind") => Ok(Format::Kubectl),
        () if has("containers") || has("images") => Ok(Format::Crictl),
        () if has("Image") || has("Id") || has("ID") => Ok(Format::Docker),
        () => {
            let names: Vec<&str> = members.keys().map(String::as_str).take(5).collect();
            let what = format!("none of crictl, docker and kubectl writes an object of {}", names.join(", "));
            Err(ListingError::Unknown { place: "line 1".to_owned(), what })
        }
    }
}

/// References, one a line.
fn list(text: &str) -> Result<Listing, ListingError> {
    let mut listing = Listing::default();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let reference = line.parse().map_err(|source| ListingError::Reference { line: number, source })?;
        listing.add(format!("line {number}"), Image::Known(reference));
    }
    Ok(listing)
}

impl Listing {
    fn add(&mut self, place: String, image: Image) {
        self.running.push(Running { place, image });
    }
}

impl Image {
    /// What was asked for as `name`, and runs as `digest`, as far as either is told. `pinned` are references by digest in
    /// which the digest was told; the first gives the identity if the name is none.
    fn of(name: Option<&str>, pinned: Option<Reference>, why: &'static str) -> Self {
        let named = name.filter(|name| !is_id(name)).and_then(|name| name.parse::<Reference>().ok());
        match (named, pinned) {
            (Some(named), Some(pinned)) => Self::Known(Reference { digest: pinned.digest, ..named }),
            (Some(reference), None) | (None, Some(reference)) => Self::Known(reference),
            (None, None) => Self::Unknown { text: name.unwrap_or_default().to_owned(), why },
        }
    }
}

/// True if `text` is the id of an image on one machine, whole or cut: nobody signs those.
fn is_id(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    matches!(hex.len(), 12 | 13 | 64) && hex.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase())
}

/// `text` as a reference with a digest: `REPOSITORY@sha256:…`, perhaps after a scheme such as `docker-pullable://`.
fn pinned(text: &str) -> Option<Reference> {
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    text.parse::<Reference>().ok().filter(|reference| reference.digest.is_some())
}

/// What an image is known as: each tag under every digest that its repository has here, digests without a tag by
/// themselves, tags without a digest by their names.
fn names(tags: &[String], digests: &[String]) -> Vec<Reference> {
    let parsed =
        |texts: &[String]| texts.iter().filter_map(|text| text.parse().ok()).collect::<Vec<Reference>>();
    let (tags, digests) = (parsed(tags), parsed(digests));
    let mut names = Vec::new();
    for tag in &tags {
        let own = digests.iter().filter(|digest| digest.repository == tag.repository);
        let before = names.len();
        names.extend(own.map(|own| Reference { digest: own.digest, ..tag.clone() }));
        if names.len() == before {
            names.push(tag.clone());
        }
    }
    let untagged =
        digests.iter().filter(|digest| !tags.iter().any(|tag| tag.repository == digest.repository));
    names.extend(untagged.cloned());
    names
}
