//! plimsolld: accepts publishers' signed metadata, keeps it fresh, and puts it in an OCI registry.

pub mod api;
pub mod backup;
pub mod cli;
pub mod config;
pub mod daemon;
mod dashboard;
pub mod demo;
pub mod doctor;
pub mod export;
pub mod freshness;
pub mod host;
pub mod inbox;
pub mod keys;
mod metrics;
pub mod notify;
pub mod pipeline;
mod reach;
mod reload;
pub mod repair;
pub mod restore;
pub mod secrets;
pub mod service;
pub mod store;
pub mod takeover;
pub mod tick;
pub mod tls;
pub mod tokens;
