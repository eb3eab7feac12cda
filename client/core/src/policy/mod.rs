//! The policy: which root speaks for which reference, and the verdict.

mod check;
mod current;
mod duration;
mod error;
mod file;
mod index;
mod locate;
mod place;
mod rules;
mod scope;
#[cfg(test)]
mod tests;
mod verdict;

pub use current::is_current;
pub use duration::{DurationError, duration};
pub use error::{PolicyError, PolicyRule, Position};
pub use file::{
    Action, ConstraintTable, DigestRefs, OnAbsent, PinTable, Places, PolicyFile, ProfileTable, RemapTable,
    RequireTable, RootTable, ScopeTable,
};
pub use locate::Format;
pub use place::{Place, PlaceError};
pub use rules::{Constraint, Pin, Policy, Remap, Require, RootDocument, RootEntry, Rule, ScopeEntry, Vouch};
pub use scope::{MAX_SCOPE_DEPTH, Scope, ScopeError};
pub use verdict::Verdict;
