//! The configuration as it takes effect, defaults included. Holds no secret: a password is in a file, and only that is named.

use std::{collections::BTreeMap, path::PathBuf};

use chrono::TimeDelta;
use plimsoll_core::oci::mapping::Profile;
use serde::Serialize;

use super::{Config, Submit};
use crate::{freshness::Cycle, secrets::SecretFile};

/// What `plimsolld config show` prints: as TOML, it is a file that means the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Shown {
    data: PathBuf,
    listen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    registry: Registry,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<Tls>,
    #[serde(skip_serializing_if = "Api::is_empty")]
    api: Api,
    /// Six durations, by their keys.
    freshness: BTreeMap<String, String>,
    quota: QuotaShown,
    trust: Vec<Trust>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Registry {
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
    plain_http: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    certs_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct QuotaShown {
    roles: u64,
    bytes: String,
    publishes_per_minute: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Tls {
    certificate: String,
    key: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Api {
    #[serde(skip_serializing_if = "Option::is_none")]
    submit: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<String>,
}

impl Api {
    /// True where what takes effect depends on where the daemon listens and on which files are there.
    fn is_empty(&self) -> bool {
        self.submit.is_none() && self.tokens.is_none()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Trust {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_file: Option<String>,
    profile: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    inbox: Option<String>,
    allow_example_keys: bool,
}

impl Shown {
    /// What `config` says.
    pub fn new(config: &Config) -> Self {
        let mut freshness = BTreeMap::new();
        for (role, cycle) in
            [("timestamp", config.freshness.timestamp()), ("snapshot", config.freshness.snapshot())]
        {
            let Cycle { validity, interval, jitter } = cycle;
            for (key, length) in [("validity", validity), ("interval", interval), ("jitter", jitter)] {
                freshness.insert(format!("{role}-{key}"), text(length));
            }
        }
        let trust = config.trusts.iter().map(|trust| Trust {
            name: trust.name.clone(),
            repository: trust.repository.as_ref().map(ToString::to_string),
            username: trust.login.as_ref().map(|login| login.username.clone()),
            password_file: trust.login.as_ref().map(|login| secret(&login.password_file)),
            profile: match trust.profile {
                Profile::Oci11 => "oci-1.1",
                Profile::Oci10 => "oci-1.0",
            },
            inbox: trust.inbox.and_then(|interval| TimeDelta::from_std(interval).ok()).map(text),
            allow_example_keys: trust.allow_example_keys,
        });
        Self {
            data: config.data.clone(),
            listen: config.listen.to_string(),
            log: config.log.clone(),
            registry: Registry {
                ca_file: config.registry.ca_file.clone(),
                plain_http: config.registry.plain_http,
                certs_dir: config.registry.certs_dir.clone(),
            },
            tls: config
                .tls
                .as_ref()
                .map(|files| Tls { certificate: secret(&files.certificate), key: secret(&files.key) }),
            api: Api {
                submit: config.api.submit.map(|submit| match submit {
                    Submit::Anyone => "anyone",
                    Submit::Tokens => "tokens",
                }),
                tokens: config.api.tokens.as_ref().map(secret),
            },
            freshness,
            quota: QuotaShown {
                roles: config.quota.roles,
                bytes: size(config.quota.bytes),
                publishes_per_minute: config.quota.publishes_per_minute,
            },
            trust: trust.collect(),
        }
    }
}

/// A file that holds secrets, as the configuration names it.
fn secret(file: &SecretFile) -> String {
    match file {
        SecretFile::File(path) => path.display().to_string(),
        SecretFile::Credential(name) => format!("credential:{name}"),
    }
}

/// `bytes`, which the configuration gives in whole KiB, in the largest unit that it is a whole number of.
fn size(bytes: u64) -> String {
    let (unit, name) = [(1 << 30, "GiB"), (1 << 20, "MiB")]
        .into_iter()
        .find(|(unit, _)| bytes.is_multiple_of(*unit))
        .unwrap_or((1 << 10, "KiB"));
    format!("{}{name}", bytes / unit)
}

/// `length` in the largest unit that it is a whole number of; what is below a second is cut off.
fn text(length: TimeDelta) -> String {
    let seconds = length.num_seconds();
    let (unit, name) = [(86_400, 'd'), (3600, 'h'), (60, 'm')]
        .into_iter()
        .find(|(unit, _)| seconds > 0 && seconds % unit == 0)
        .unwrap_or((1, 's'));
    format!("{}{name}", seconds / unit)
}
