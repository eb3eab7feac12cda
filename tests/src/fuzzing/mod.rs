//! What the fuzz targets assert, one function for each parser of untrusted bytes.
//!
//! A function takes any bytes, panics if a property does not hold, and returns whether the parser took the bytes. The
//! targets in `tests/fuzz` call nothing else, and `tests/e2e/seeds.rs` replays the committed seeds through the same
//! functions. The crate of the targets has this folder as a module of its own, so that it need not build the servers
//! and peers of this one.

mod bundle;
mod documents;
mod files;
mod json;
mod names;
mod registry;

pub use bundle::bundle;
pub use documents::{root, snapshot, targets, timestamp};
pub use files::{key_file, policy};
pub use json::strict_json;
pub use names::{path_pattern, reference, role_tag, scope};
pub use registry::{challenge, listing, manifest};

/// A fuzz target: its name, which is also the name of its folder of seeds, and its function.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// Every fuzz target.
pub const TARGETS: [Target; 15] = [
    ("bundle", bundle),
    ("challenge", challenge),
    ("key_file", key_file),
    ("listing", listing),
    ("manifest", manifest),
    ("path_pattern", path_pattern),
    ("policy", policy),
    ("reference", reference),
    ("role_tag", role_tag),
    ("root", root),
    ("scope", scope),
    ("snapshot", snapshot),
    ("strict_json", strict_json),
    ("targets", targets),
    ("timestamp", timestamp),
];
