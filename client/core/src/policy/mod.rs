//! The policy: which root speaks for which reference, and the verdict.

mod current;
mod file;
mod scope;
mod verdict;

pub use current::is_current;
pub use file::{Policy, PolicyError, RootEntry, ScopeEntry, Selected};
pub use scope::{MAX_SCOPE_DEPTH, Scope, ScopeError};
pub use verdict::Verdict;
