//! The publish side's view of what is published.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::sync::Arc;

use common::{Host, Publisher as Team};
use plimsoll::{
    clock::{Clock, SystemClock},
    publish::Publisher,
    registry::{Credentials, Registry, RegistryOptions},
};

/// Another process with the same home may have seen it first; a change that waits in an inbox must be found all the same.
#[tokio::test]
async fn a_head_that_brings_nothing_new_still_tells_what_is_published() {
    let (dir, registry) = (tempfile::tempdir().unwrap(), Host::start());
    let mut team = Team::new(SystemClock.now());
    team.publish(&registry);
    let options = RegistryOptions { credentials: Credentials::anonymous(), ..RegistryOptions::default() };
    let http = Registry::new(options).unwrap();
    let address = format!("{}/acme/trust", registry.address).parse().unwrap();
    let clock = Arc::new(SystemClock);
    let publisher = Publisher::through_registry(http, address, team.root.clone(), dir.path(), clock).unwrap();
    for look in ["first", "second"] {
        let head = publisher.head().await.unwrap();
        let targets = head.trusted().wanted_role("targets").map(|meta| meta.version);
        assert_eq!(targets.ok(), Some(team.targets.common.version), "{look} look");
    }
}
