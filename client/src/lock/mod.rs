//! Images in Dockerfiles, compose files and Kubernetes YAML, and how they are locked to digests.
//!
//! Text in, places out, edits back: nothing but an image's own text ever changes. What cannot be placed for certain is
//! named and left alone ([`Opaque`]); a file that cannot be read for certain is refused ([`Unread`]). Nothing is guessed.

mod dockerfile;
mod run;
#[cfg(test)]
mod tests;
mod yaml;

use std::{ops::Range, path::Path};

use plimsoll_core::oci::{Digest, Reference, ReferenceError};

pub use run::{FileReport, ImageReport, LockFault, Locked, State, lock};

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A Dockerfile (a Containerfile).
    Dockerfile,
    /// A compose file, or Kubernetes objects; JSON is YAML.
    Yaml,
}

/// A place in a file that names an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The line it begins on, from 1.
    pub line: usize,
    /// The image as it is written.
    pub text: String,
    /// Where, or why that cannot be told.
    pub place: Place,
}

/// Where an image is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In these bytes of the file, quotes and anchors aside.
    At {
        /// The bytes.
        span: Range<usize>,
        /// What is written there.
        reference: Reference,
    },
    /// Somewhere that cannot be checked, nor locked.
    Opaque(Opaque),
}

/// Why an image cannot be checked where it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Opaque {
    /// A variable decides.
    #[error("a variable decides which image it is")]
    Variable,
    /// The default of a build argument that is not plain, or has other uses.
    #[error("the build argument {name} has no plain default, or is used for something else too")]
    Argument {
        /// The argument.
        name: String,
    },
    /// Written with escapes, quotes inside, over several lines, or as a block.
    #[error("it is not written as one plain word")]
    Spelling,
    /// A mapping or a list where a reference is wanted.
    #[error("it is not written as one reference")]
    Parts,
    /// Nothing is written.
    #[error("no image is named")]
    Empty,
    /// An anchored text that is used for something else too.
    #[error("its anchor is used for something else too")]
    Shared,
    /// In a Dockerfile that stands in a compose file.
    #[error("it stands in an inline Dockerfile, which is not rewritten: give that a file of its own")]
    Inline,
    /// Not a reference.
    #[error("{0}")]
    Reference(ReferenceError),
}

/// A file that cannot be read for certain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Unread {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

impl Kind {
    /// How the file `path` is read, by its name: `Dockerfile`, `Containerfile`, either with `.SOMETHING` after it,
    /// `SOMETHING.Dockerfile`, `*.yaml`, `*.yml`, `*.json`. None for any other.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let dockerfile = |name: &str| matches!(name, "dockerfile" | "containerfile");
        let (first, last) = (name.split('.').next()?, name.rsplit_once('.').map_or("", |(_, last)| last));
        match () {
            () if matches!(last, "yaml" | "yml" | "json") => Some(Self::Yaml),
            () if dockerfile(first) || dockerfile(last) => Some(Self::Dockerfile),
            () => None,
        }
    }

    /// The images that `text` names, in the order of their places; each place once.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn images(self, text: &str) -> Result<Vec<Item>, Unread> {
        let mut items = match self {
            Self::Dockerfile => dockerfile::images(text)?,
            Self::Yaml => yaml::images(text)?,
        };
        items.sort_by_key(|item| (item.line, item.span().map_or(0, |span| span.start)));
        Ok(items)
    }
}

impl Item {
    /// The image `text` at `span`, as far as it is a reference.
    fn new(line: usize, text: &str, span: Range<usize>) -> Self {
        let place = match text.parse() {
            _ if text.contains('$') => Place::Opaque(Opaque::Variable),
            Ok(reference) => Place::At { span, reference },
            Err(error) => Place::Opaque(Opaque::Reference(error)),
        };
        Self { line, text: text.to_owned(), place }
    }

    fn opaque(line: usize, text: &str, why: Opaque) -> Self {
        Self { line, text: text.to_owned(), place: Place::Opaque(why) }
    }

    fn span(&self) -> Option<&Range<usize>> {
        match &self.place {
            Place::At { span, .. } => Some(span),
            Place::Opaque(_) => None,
        }
    }
}

/// What decides which digest `reference` is locked to: its tag, `latest` if it has neither tag nor digest; a digest alone
/// stands for itself.
pub fn to_verify(reference: &Reference) -> Reference {
    match (&reference.tag, reference.digest) {
        (None, Some(_)) => reference.clone(),
        _ => Reference { digest: None, ..reference.clone() },
    }
}

/// `text`, which is read as `reference`, locked to `digest`: host, repository and tag as they are written, `:latest` if
/// there is neither tag nor digest.
pub fn locked(text: &str, reference: &Reference, digest: &Digest) -> String {
    let name = text.split('@').next().unwrap_or_default();
    let tag = if reference.tag.is_none() && reference.digest.is_none() { ":latest" } else { "" };
    format!("{name}{tag}@{digest}")
}

/// `text` with the bytes of each edit replaced. Edits neither overlap nor reach beyond the text, and are in order.
///
/// # Panics
/// If they are not.
pub fn apply(text: &str, edits: &[(Range<usize>, String)]) -> String {
    let mut result = String::with_capacity(text.len() + edits.len() * 80);
    let mut at = 0;
    for (span, new) in edits {
        result.push_str(&text[at..span.start]);
        result.push_str(new);
        at = span.end;
    }
    result.push_str(&text[at..]);
    result
}
