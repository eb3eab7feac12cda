//! Plimsoll's client: publish and verify trust metadata that lives in an OCI registry.
//!
//! The library does the work and the command line is a thin layer over it. Time is an argument or a [`clock::Clock`].

pub mod audit;
pub mod bundle;
pub mod cli;
pub mod clock;
pub mod doctor;
pub mod floor;
pub mod home;
pub mod keys;
pub mod layout;
pub mod lock;
mod percent;
pub mod publish;
pub mod registry;
pub mod state;
pub mod trust;
pub mod update;
pub mod verify;
