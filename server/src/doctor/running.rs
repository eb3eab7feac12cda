//! A daemon that runs: what it says of itself.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::StatusCode;
use plimsoll::{publish::Server, registry::Registry, verify};
use plimsoll_core::tuf::{Document, Root, Snapshot, Targets, Timestamp, limit};
use url::Url;

use super::{Finding, expiries};
use crate::{backup::daemon, config::Config};

const MAX_HEALTH: u64 = 1 << 20;
/// Roles whose expiry is asked for, of one trust repository: one request each.
const MAX_ROLES: usize = 2000;

/// What a running daemon serves: by trust repository, its newest timestamp.
pub(super) type Served = BTreeMap<String, Bytes>;

/// Asks the daemon, at `server` or where `config` says. None if it does not answer.
pub(super) async fn check(
    config: &Config,
    server: Option<Url>,
    now: DateTime<Utc>,
    findings: &mut Vec<Finding>,
) -> Option<Served> {
    findings.push(Finding::ok("store", "a running daemon has it open, so that one is asked"));
    let silent = |url: &Url, why: String| {
        let next =
            "name where it answers with --server, or stop it and run this again; if it hangs, restart it";
        Finding::wrong("daemon", format!("it does not answer at {url}: {why}"), next)
    };
    let (url, http) = daemon(config, server);
    let http = match http {
        Ok(http) => http,
        Err(error) => {
            findings.push(silent(&url, verify::chain(&error)));
            return None;
        }
    };
    let ready = at(&url, &["readyz"]);
    match http.health(&ready, MAX_HEALTH).await {
        Ok((StatusCode::OK, _)) => findings.push(Finding::ok("daemon", format!("ready, at {url}"))),
        Ok((StatusCode::SERVICE_UNAVAILABLE, body)) => {
            let text = String::from_utf8_lossy(&body);
            for line in text.lines().filter(|line| line.contains("not ready") || !line.contains(':')) {
                let next = "docs/operations.md, What /readyz says";
                findings.push(Finding::wrong("daemon", line.to_owned(), next));
            }
        }
        Ok((status, _)) => {
            findings.push(silent(&url, status.to_string()));
            return None;
        }
        Err(error) => {
            findings.push(silent(&url, verify::chain(&error)));
            return None;
        }
    }
    let server = Server::new(http.clone(), url.clone());
    let trusts = match server.trusts().await {
        Ok(trusts) => trusts,
        Err(error) => {
            findings.push(silent(&url, verify::chain(&error)));
            return None;
        }
    };
    let mut served = Served::new();
    for trust in &config.trusts {
        let Some(info) = trusts.iter().find(|info| info.name == trust.name) else {
            let next = "restart it with this configuration, or name the one that it runs with";
            let found = "the running daemon does not serve it";
            findings.push(Finding::wrong("daemon", found, next).of(&trust.name));
            continue;
        };
        if info.trust_id.is_none() && info.alarm.is_none() {
            findings.push(Finding::ok("daemon", "never made").of(&trust.name));
        }
        if info.heads.is_empty() {
            continue;
        }
        let files = server.metadata_url(&trust.name);
        findings.extend(expiries(&trust.name, &lives(&http, &files, &info.heads).await, now));
        if let Ok(Some(timestamp)) = http.file(&at(&files, &["timestamp.json"]), limit::TIMESTAMP).await {
            served.insert(trust.name.clone(), timestamp);
        }
    }
    Some(served)
}

/// When what expires, by role.
async fn lives(
    http: &Registry,
    files: &Url,
    heads: &BTreeMap<String, u64>,
) -> BTreeMap<String, DateTime<Utc>> {
    let mut lives = BTreeMap::new();
    for (role, version) in heads.iter().take(MAX_ROLES) {
        let name =
            if role == "timestamp" { "timestamp.json".to_owned() } else { format!("{version}.{role}.json") };
        let Ok(Some(bytes)) = http.file(&at(files, &[&name]), limit::of(role)).await else { continue };
        let expires = match role.as_str() {
            "root" => Document::<Root>::parse(role, &bytes).map(|d| d.signed.common.expires),
            "timestamp" => Document::<Timestamp>::parse(role, &bytes).map(|d| d.signed.common.expires),
            "snapshot" => Document::<Snapshot>::parse(role, &bytes).map(|d| d.signed.common.expires),
            _ => Document::<Targets>::parse(role, &bytes).map(|d| d.signed.common.expires),
        };
        lives.extend(expires.ok().map(|expires| (role.clone(), expires)));
    }
    lives
}

fn at(url: &Url, path: &[&str]) -> Url {
    let mut url = url.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}
