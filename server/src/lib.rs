//! plimsolld: accepts publishers' signed metadata, keeps it fresh, and puts it in an OCI registry.

pub mod api;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod freshness;
pub mod host;
mod inbox;
pub mod keys;
pub mod pipeline;
pub mod quota;
pub mod store;
