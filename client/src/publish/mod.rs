//! Making and submitting signed metadata.
