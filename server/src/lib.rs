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
pub mod notify;
pub mod pipeline;
mod reload;
pub mod secrets;
pub mod service;
pub mod store;
pub mod tls;
pub mod tokens;
