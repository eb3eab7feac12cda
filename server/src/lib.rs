//! plimsolld: accepts publishers' signed metadata, keeps it fresh, and puts it in an OCI registry.

pub mod api;
pub mod demo;
pub mod freshness;
pub mod host;
pub mod pipeline;
pub mod store;
