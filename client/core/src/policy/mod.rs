//! The policy: which root speaks for which reference, and the verdict.
