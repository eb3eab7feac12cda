//! Trusted state on disk.
