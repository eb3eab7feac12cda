//! What can be wrong with a policy, and where.

use std::fmt;

use crate::{
    oci::{Digest, DigestError, ReferenceError},
    tuf::{self, FloorError},
};

use super::{DurationError, PlaceError, ScopeError};

/// Why a policy cannot be used. All of it is misuse: the policy's author must change something.
#[derive(Debug)]
pub struct PolicyError {
    /// Where in the text; none if the policy was put together and never was a text.
    pub at: Option<Position>,
    /// The key that is wrong in words, for example `[root.acme] sha256`; empty if the text as a whole is.
    pub subject: Box<str>,
    /// The rule that it breaks.
    pub rule: PolicyRule,
    /// The way from the top of the document to the value.
    pub(super) path: Box<[Step]>,
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The character in that line, from 1.
    pub column: usize,
}

/// One step down a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// A rule that a policy breaks (docs/policy.md).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyRule {
    /// Not a document of the policy's shape: the syntax, an unknown, missing or repeated key, or a value of another kind.
    #[error("{message}")]
    Shape {
        /// In the words of the parser, one line.
        message: String,
    },
    /// The name of a root or profile that could not be a file or a heading.
    #[error("the name `{name}`: use lower-case letters, digits, `-` and `_`, at most 64")]
    Name {
        /// The name.
        name: String,
    },
    /// Neither or both of `file` and `inline`.
    #[error("write exactly one of `file` and `inline`")]
    Document,
    /// A `sha256` that is not one.
    #[error("it must be 64 lower-case hex digits")]
    Sha256,
    /// The inline root is not the one pinned.
    #[error("the inline root is not the one that sha256 pins: it has {}", found.hex())]
    InlineDigest {
        /// What it has.
        found: Digest,
    },
    /// A file that the policy names and that cannot be read.
    #[error("{} cannot be reached", path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not the root that is pinned.
    #[error("{} is not the root that was pinned: its sha256 is {}", path.display(), found.hex())]
    RootDigest {
        /// The file.
        path: std::path::PathBuf,
        /// What it has.
        found: Digest,
    },
    /// What is pinned is no root document.
    #[error("it is no root document")]
    NotARoot {
        /// Why.
        source: Box<tuf::Error>,
    },
    /// The file holds no floor.
    #[error("{} is not a floor", path.display())]
    Floor {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: Box<FloorError>,
    },
    /// A floor of another trust repository than the root starts.
    #[error("the floor is of {floor}, and the pinned root of {root}")]
    OtherFloor {
        /// Whose floor it is: a trust id, or the sha256 of a root.
        floor: String,
        /// What the pinned root starts.
        root: String,
    },
    /// A list that must hold something holds nothing.
    #[error("the list is empty")]
    Empty,
    /// A list holds something twice.
    #[error("`{item}` is listed twice")]
    Twice {
        /// What.
        item: String,
    },
    /// Where metadata is fetched is not a place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A name without a registry host, or with a wrong one.
    #[error("`{text}` must start with a registry host, as registry.example.com/acme/**")]
    Host {
        /// What was given.
        text: String,
    },
    /// A host that is another name of one: no reference is ever read as it.
    #[error("the host `{host}` is written `{canonical}` here, as every reference is read")]
    HostAlias {
        /// What was given.
        host: String,
        /// What to write.
        canonical: String,
    },
    /// What stands after the host is not a scope.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// Two scopes are equally specific and can cover the same reference.
    #[error(
        "it and `{other}` are equally specific, and both can cover one name; exactly one scope may apply"
    )]
    Equal {
        /// The `match` of the other one, which stands further up.
        other: String,
    },
    /// Neither `require` nor `action`.
    #[error("write `require`, or an `action` with its reason")]
    NoRequire,
    /// Not exactly one of the forms of `require` and `fallback`.
    #[error("write exactly one of {{ all = [..] }}, {{ any = [..] }} and {{ threshold = N, of = [..] }}")]
    RequireForm,
    /// A threshold that is zero, or that all together cannot meet.
    #[error("the threshold {threshold} must be at least 1 and at most {of}, the number of roots listed")]
    Threshold {
        /// What was given.
        threshold: u64,
        /// How many roots there are.
        of: usize,
    },
    /// Two roots of one list are one and the same, so that its word would count twice.
    #[error(
        "[root.{root}] and [root.{other}] pin the same document, and one root has one voice: name it once"
    )]
    SameRoot {
        /// The second one's name.
        root: String,
        /// The first one's.
        other: String,
    },
    /// Two roots of one list pin different documents of the same trust repository, so that its word would count twice.
    #[error(
        "[root.{root}] and [root.{other}] are of the same trust repository, and one trust repository has one voice: name it \
         once"
    )]
    SameRepository {
        /// The second one's name.
        root: String,
        /// The first one's.
        other: String,
    },
    /// A root that is not there.
    #[error("there is no [root.{root}]")]
    UnknownRoot {
        /// Its name.
        root: String,
    },
    /// A root that is there, and that this scope names in neither `require` nor `fallback`.
    #[error("`{root}` is named by neither `require` nor `fallback` of this scope")]
    NotRequired {
        /// Its name.
        root: String,
    },
    /// Every root of an `all` is optional.
    #[error("every root of `all` is optional, so nobody would have to vouch")]
    AllOptional,
    /// A name inside a root that has another form than the `match`.
    #[error("`{map}` must have the same form as the match, `{pattern}`: only the literal part may differ")]
    Map {
        /// What was given.
        map: String,
        /// The scope of the match, without its host.
        pattern: String,
    },
    /// A role that never lies on the path to a name.
    #[error("`{role}` is no role that lies on the path to a name")]
    PinRole {
        /// What was given.
        role: String,
    },
    /// A key id that is not one.
    #[error("`{id}` is no key id: write all 64 lower-case hex digits")]
    KeyId {
        /// What was given.
        id: String,
    },
    /// `fallback` without `on-absent = "fallback"`, or the other way round.
    #[error("`fallback` and on-absent = \"fallback\" belong together: write both or neither")]
    Fallback,
    /// Not exactly one of `tag` and `custom-version`.
    #[error("write exactly one of {{ tag = \">=1.2\" }} and {{ custom-version = \">=1.2\" }}")]
    ConstraintForm,
    /// A version requirement that is not one.
    #[error("`{text}` is no version requirement, as `>=1.2, <2`")]
    Version {
        /// What was given.
        text: String,
        /// Why.
        source: semver::Error,
    },
    /// A duration that is not one.
    #[error(transparent)]
    Duration(#[from] DurationError),
    /// A key that means nothing beside the others of its scope.
    #[error("`{key}` has no place here: {why}")]
    Misplaced {
        /// The key.
        key: &'static str,
        /// In words.
        why: &'static str,
    },
    /// A key that the action needs.
    #[error("this action needs `{key}`")]
    Needed {
        /// The key.
        key: &'static str,
    },
    /// A digest that is not one.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A time that is not one.
    #[error("`{text}` is no time: write it in quotes as \"2027-01-31T12:00:00Z\"")]
    Time {
        /// What was given.
        text: String,
    },
    /// A side of a remap that is neither a host nor a repository's beginning.
    #[error("`{text}` must be a registry host, or one with whole path segments, as mirror.example.com/hub")]
    RemapPrefix {
        /// What was given.
        text: String,
        /// Why.
        source: Box<ReferenceError>,
    },
    /// Two remaps from one name, or one to itself.
    #[error("`{from}` is remapped already, or to itself")]
    RemapTwice {
        /// The name.
        from: String,
    },
    /// A profile that is not there.
    #[error("there is no [profile.{name}]; there is: {known}")]
    UnknownProfile {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
}

impl PolicyError {
    /// A rule that is broken at `path`, which is called `subject`; `at` is found when there is a text.
    pub(super) fn new(subject: String, path: Vec<Step>, rule: PolicyRule) -> Self {
        Self { at: None, subject: subject.into(), rule, path: path.into() }
    }

    /// The parser's refusal of a text.
    pub(super) fn shape(at: Option<Position>, message: &str) -> Self {
        let message = message.split('\n').map(str::trim).collect::<Vec<_>>().join(" ");
        Self { at, subject: "".into(), rule: PolicyRule::Shape { message }, path: [].into() }
    }

    /// The same, one step further down.
    pub(super) fn under(mut self, step: impl Into<Step>) -> Self {
        self.path = std::iter::once(step.into()).chain(self.path).collect();
        self
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.at, &*self.subject) {
            (Some(at), "") => write!(f, "{at}"),
            (Some(at), subject) => write!(f, "{at}: {subject}"),
            (None, "") => f.write_str("the policy"),
            (None, subject) => f.write_str(subject),
        }
    }
}

impl std::error::Error for PolicyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.rule)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

impl From<&str> for Step {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Step {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}
