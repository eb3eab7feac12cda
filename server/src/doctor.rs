//! `plimsolld doctor`: reads only, and says what is wrong and what to do.
//!
//! The store is opened in a copy, since opening repairs; where a running daemon has it open, that one is asked instead.

mod disk;
mod registry;
mod running;
mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll::verify;
use serde::Serialize;
use url::Url;

use crate::{
    config::{Config, TrustConfig},
    daemon,
    keys::{self, Keyring},
};

/// What expires sooner is told.
const SOON: TimeDelta = TimeDelta::days(14);

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Not wrong yet, or not to be told.
    Warning,
    /// Wrong.
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at, a word: `config`, `data`, `disk`, `keys`, `store`, `documents`, `expiry`, `clock`, `registry`,
    /// `daemon`.
    pub about: &'static str,
    /// Of which trust repository; none for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<String>,
    /// What was found, for people.
    pub found: String,
    /// What to do next; none if nothing is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Finding {
    fn ok(about: &'static str, found: impl Into<String>) -> Self {
        Self { level: Level::Ok, about, trust: None, found: found.into(), next: None }
    }

    fn warning(about: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { level: Level::Warning, about, trust: None, found: found.into(), next: Some(next.into()) }
    }

    fn wrong(about: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { level: Level::Wrong, about, trust: None, found: found.into(), next: Some(next.into()) }
    }

    fn of(self, name: &str) -> Self {
        Self { trust: Some(name.to_owned()), ..self }
    }
}

/// Looks at everything that `config` names. `server` is where a running daemon answers, if not where `config` says.
///
/// Writes nothing but a copy of the store in the system's temporary folder, which it removes. Takes bounded time: at most
/// one minute for opening the store, and the registry client's limits for each request. Must be called on a tokio
/// runtime.
pub async fn run(config: &Config, server: Option<Url>, now: DateTime<Utc>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = daemon::check(config) {
        let next = "correct the configuration; `plimsolld config check` tells the same";
        findings.push(Finding::wrong("config", verify::chain(&error), next));
    }
    match daemon::check_files(config) {
        Ok(elsewhere) => findings.extend(elsewhere.iter().map(|file| {
            let found = format!("{file} was not looked at: only the service is given it");
            Finding::warning("config", found, "see docs/operations.md, systemd")
        })),
        Err(error) => {
            findings.push(Finding::wrong("config", verify::chain(&error), "correct the configuration"));
        }
    }
    if !disk::check(config, &mut findings) {
        return findings;
    }
    let keyrings: BTreeMap<&str, Keyring> = config
        .trusts
        .iter()
        .filter_map(|trust| Some((trust.name.as_str(), keyring(config, trust, &mut findings)?)))
        .collect();
    let opened = store::open(config, &mut findings);
    let running = match opened {
        store::Opened::Running => running::check(config, server, now, &mut findings).await,
        _ => None,
    };
    for trust in &config.trusts {
        let keys = keyrings.get(trust.name.as_str());
        if let store::Opened::Copy(copy) = &opened {
            store::check(copy, trust, keys, now, &mut findings);
        }
        match &opened {
            store::Opened::Running if running.is_none() => {}
            store::Opened::Running => {
                let heads = running.as_ref().and_then(|running| running.get(&trust.name));
                registry::check_running(config, trust, heads, now, &mut findings).await;
            }
            _ => registry::check(config, trust, opened.store(), now, &mut findings).await,
        }
    }
    findings
}

/// The keys of `trust`, if they can be used.
fn keyring(config: &Config, trust: &TrustConfig, findings: &mut Vec<Finding>) -> Option<Keyring> {
    let name = &trust.name;
    let folder = config.data.join("keys").join(name);
    if !keys::exist(&config.data, name) {
        let found = format!("there are none in {}", folder.display());
        let next = format!(
            "nothing, if {name} was never made; else restore them from a backup, or run `plimsolld key show {name}`, which \
             makes new ones, and have the owners publish a root that names those"
        );
        findings.push(Finding::warning("keys", found, next).of(name));
        return None;
    }
    match Keyring::open(&config.data, name) {
        Ok(ring)
            if !trust.allow_example_keys && ring.ids().iter().any(|id| keys::example_keys().contains(id)) =>
        {
            let next = "replace them: `plimsolld key rotate`, and a root that names the new ones";
            let found = format!("{} holds a key of keys-example/, which everybody has", folder.display());
            findings.push(Finding::wrong("keys", found, next).of(name));
            Some(ring)
        }
        Ok(ring) => {
            let waiting = if ring.next(None).is_some() { "; a next pair waits" } else { "" };
            findings.push(Finding::ok("keys", format!("readable{waiting}")).of(name));
            Some(ring)
        }
        Err(error) => {
            let next = format!("restore {} from a backup, or correct its mode", folder.display());
            findings.push(Finding::wrong("keys", verify::chain(&error), next).of(name));
            None
        }
    }
}

/// What is to be said of roles that expire at these times.
fn expiries(name: &str, expiries: &BTreeMap<String, DateTime<Utc>>, now: DateTime<Utc>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (role, expires) in expiries {
        let online = matches!(role.as_str(), "timestamp" | "snapshot");
        let left = *expires - now;
        let next = match () {
            () if online => "start the daemon, or see why it cannot sign or publish".to_owned(),
            () if role == "root" => {
                "have the owners renew it: `plimsoll ceremony edit --extend` (docs/publishing.md)".to_owned()
            }
            () if role == "targets" => {
                "have the owners renew it: `plimsoll ceremony edit --extend-targets` (docs/publishing.md)"
                    .to_owned()
            }
            () => "have its publishers sign a new version".to_owned(),
        };
        if left <= TimeDelta::zero() {
            let found = format!("{role} expired at {}", expires.format("%FT%TZ"));
            findings.push(Finding::wrong("expiry", found, next).of(name));
        } else if !online && left < SOON {
            let found =
                format!("{role} expires at {}, in {} days", expires.format("%FT%TZ"), left.num_days());
            findings.push(Finding::warning("expiry", found, next).of(name));
        }
    }
    if findings.is_empty() {
        let first = expiries.iter().min_by_key(|(_, expires)| **expires);
        if let Some((role, expires)) = first {
            let found = format!(
                "none of {} roles is expired; the first will be {role}, at {}",
                expiries.len(),
                expires.format("%FT%TZ")
            );
            findings.push(Finding::ok("expiry", found).of(name));
        }
    }
    findings
}
