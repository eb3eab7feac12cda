//! What of a changed configuration counts from now on, and what does not. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::Value;

use super::Reloaded;
use crate::{
    config::{Config, Shown, TrustConfig},
    daemon::Place,
};

/// A value of the configuration that is another one now, as `plimsolld config show` has it; none where it is not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key, with its table, as `freshness.timestamp-interval` or `trust.acme.inbox`.
    pub key: String,
    /// What counted before, or still does.
    pub old: Option<String>,
    /// What the configuration says now.
    pub new: Option<String>,
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    /// What counts from now on.
    pub(super) next: Config,
    /// Trust repositories that are to be served.
    pub(super) added: Vec<String>,
    /// Those that are not any more.
    pub(super) withdrawn: Vec<String>,
    /// Those that need another engine.
    pub(super) restarted: Vec<String>,
    /// Those whose inbox is another, or looked into at another interval.
    pub(super) inboxes: Vec<String>,
    changed: Vec<Change>,
    restart: Vec<Change>,
}

impl Plan {
    /// How to get from `held` to `wanted`, as far as that goes while the daemon runs.
    pub(super) fn new(held: &Config, wanted: &Config) -> Self {
        // Every key, so that one that is new is not forgotten here.
        let Config { data: _, listen: _, log, registry, tls, api, freshness, quota, trusts, implied } =
            wanted.clone();
        // The connections that are open, and all URLs, are of one kind.
        let tls = if held.tls.is_some() == tls.is_some() { tls } else { held.tls.clone() };
        let (data, listen) = (held.data.clone(), held.listen);
        let trusts = settled(held, trusts, &wanted.data);
        let next = Config { data, listen, log, registry, tls, api, freshness, quota, trusts, implied };
        let before = |name: &str| held.trusts.iter().find(|trust| trust.name == name);
        let mut plan = Self {
            added: Vec::new(),
            withdrawn: Vec::new(),
            restarted: Vec::new(),
            inboxes: Vec::new(),
            changed: Vec::new(),
            restart: Vec::new(),
            next,
        };
        for trust in &plan.next.trusts {
            let name = trust.name.clone();
            match before(&name) {
                None => plan.added.push(name),
                Some(before) if needs_another_engine(before, trust) => plan.restarted.push(name),
                Some(before) if before.inbox != trust.inbox => plan.inboxes.push(name),
                Some(_) => {}
            }
        }
        let stays = |name: &str| plan.next.trusts.iter().any(|trust| trust.name == name);
        let gone = held.trusts.iter().filter(|trust| !stays(&trust.name));
        plan.withdrawn = gone.map(|trust| trust.name.clone()).collect();
        plan.changed = differences(held, &plan.next);
        // Those have a line of their own.
        let whole: BTreeSet<_> =
            plan.added.iter().chain(&plan.withdrawn).map(|name| format!("trust.{name}")).collect();
        plan.changed.retain(|change| !whole.iter().any(|name| is_of(&change.key, name)));
        plan.restart = differences(&plan.next, wanted);
        plan
    }

    /// `name`, which needs another engine and can have none, goes on as `held` has it.
    pub(super) fn keep(&mut self, name: &str, held: &Config) {
        self.restarted.retain(|restarted| restarted != name);
        for trust in self.next.trusts.iter_mut().filter(|trust| trust.name == name) {
            if let Some(held) = held.trusts.iter().find(|held| held.name == name) {
                trust.clone_from(held);
            }
        }
        let table = format!("trust.{name}");
        self.changed.retain(|change| !is_of(&change.key, &table));
    }

    /// What is to be known of `name`, which is to be served.
    ///
    /// # Panics
    /// If it is not.
    pub(super) fn trust(&self, name: &str) -> &TrustConfig {
        let trust = self.next.trusts.iter().find(|trust| trust.name == name);
        trust.expect("the plan names only those that it has")
    }

    /// What is told of it once it was carried out.
    pub(super) fn reloaded(&self, places: &BTreeMap<String, Place>) -> Reloaded {
        let served = self.added.iter().map(|name| (name.clone(), places[name].repository.to_string()));
        Reloaded {
            changed: self.changed.clone(),
            served: served.collect(),
            withdrawn: self.withdrawn.clone(),
            restarted: self.restarted.clone(),
            kept: Vec::new(),
            failed: Vec::new(),
            restart: self.restart.clone(),
        }
    }
}

/// The trust repositories from now on.
fn settled(held: &Config, wanted: Vec<TrustConfig>, data: &std::path::Path) -> Vec<TrustConfig> {
    if held.data != data {
        // What is named in the configuration is of another data folder.
        return held.trusts.clone();
    }
    // As the configuration's own check has it, by where the daemon listens and with what.
    let embeds = held.tls.is_none() && held.listen.ip().is_loopback();
    let before = |name: &str| held.trusts.iter().find(|trust| trust.name == name);
    let settle = |trust: TrustConfig| match before(&trust.name) {
        _ if trust.repository.is_some() || embeds => Some(trust),
        before => before.cloned(),
    };
    wanted.into_iter().filter_map(settle).collect()
}

/// True if what changed of a trust repository is what its engine was made with for good.
fn needs_another_engine(before: &TrustConfig, now: &TrustConfig) -> bool {
    // Every key, as above.
    let TrustConfig { name: _, repository, login: _, profile, inbox: _, allow_example_keys } = now;
    (&before.repository, before.profile, before.allow_example_keys)
        != (repository, *profile, *allow_example_keys)
}

/// The keys whose values are others in `new` than in `old`.
fn differences(old: &Config, new: &Config) -> Vec<Change> {
    let (old, mut new) = (values(old), values(new));
    let mut changes = Vec::new();
    for (key, old) in old {
        let new = new.remove(&key);
        if new.as_ref() != Some(&old) {
            changes.push(Change { key, old: Some(old), new });
        }
    }
    changes.extend(new.into_iter().map(|(key, new)| Change { key, old: None, new: Some(new) }));
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    changes
}

/// All values that `config` has, by their keys.
fn values(config: &Config) -> BTreeMap<String, String> {
    let shown = serde_json::to_value(Shown::new(config)).expect("it is shown as JSON, too");
    let mut values = BTreeMap::new();
    collect(String::new(), &shown, &mut values);
    values
}

fn collect(key: String, value: &Value, values: &mut BTreeMap<String, String>) {
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| collect(below(name), value, values));
        }
        // The trust repositories, which have names.
        Value::Array(entries) => entries.iter().for_each(|entry| {
            collect(below(entry["name"].as_str().unwrap_or_default()), entry, values);
        }),
        Value::String(text) => drop(values.insert(key, text.clone())),
        other => drop(values.insert(key, other.to_string())),
    }
}

/// True if `key` is one of `table`.
fn is_of(key: &str, table: &str) -> bool {
    key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'))
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, old, new } = self;
        match (old, new) {
            (Some(old), Some(new)) => write!(f, "`{key}` is {new}, was {old}"),
            (None, Some(new)) => write!(f, "`{key}` is {new}, was not set"),
            (Some(old), None) => write!(f, "`{key}` is not set, was {old}"),
            (None, None) => write!(f, "`{key}` is not set"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use chrono::TimeDelta;
    use plimsoll_core::oci::mapping::Profile;

    use super::*;
    use crate::{
        config::{Login, Submit},
        tls::TlsFiles,
    };

    fn config() -> Config {
        let mut config = Config::new("/data");
        config.trusts[0].repository = "r.io/a".parse().ok();
        config.trusts.push(TrustConfig::embedded("b"));
        config
    }

    fn login() -> Option<Login> {
        Some(Login { username: "x".to_owned(), password_file: PathBuf::from("/p").into() })
    }

    fn told(changes: &[Change]) -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    }

    fn none() -> [String; 0] {
        []
    }

    #[test]
    fn nothing_changed_is_nothing_done() {
        let plan = Plan::new(&config(), &config());
        assert_eq!(plan.reloaded(&BTreeMap::new()), Reloaded::default());
        assert_eq!(plan.inboxes, none());
    }

    #[test]
    fn every_value_that_can_change_does_and_is_named_with_both_values() {
        let mut wanted = config();
        wanted.log = Some("debug".to_owned());
        wanted.freshness.timestamp_interval = TimeDelta::minutes(5);
        wanted.api.submit = Some(Submit::Tokens);
        wanted.registry.ca_file = Some("/ca.pem".into());
        wanted.quota.roles = 5;
        wanted.trusts[0].login = login();
        wanted.trusts[0].inbox = Some(Duration::from_secs(10));
        let plan = Plan::new(&config(), &wanted);
        assert_eq!(
            told(&plan.changed),
            [
                "`api.submit` is tokens, was not set",
                "`freshness.timestamp-interval` is 5m, was 1h",
                "`freshness.timestamp-jitter` is 30s, was 6m",
                "`log` is debug, was not set",
                "`quota.roles` is 5, was 1000",
                "`registry.ca-file` is /ca.pem, was not set",
                "`trust.main.inbox` is 10s, was not set",
                "`trust.main.password-file` is /p, was not set",
                "`trust.main.username` is x, was not set",
            ]
        );
        assert_eq!(told(&plan.restart), none());
        assert_eq!((plan.restarted, plan.inboxes), (vec![], vec!["main".to_owned()]));
        assert_eq!(Shown::new(&plan.next), Shown::new(&wanted));
    }

    #[test]
    fn trust_repositories_come_go_and_move() {
        let mut wanted = config();
        wanted.trusts[0].repository = "r.io/other".parse().ok();
        wanted.trusts[0].login = login();
        wanted.trusts[1] = TrustConfig::embedded("c");
        let plan = Plan::new(&config(), &wanted);
        assert_eq!((&*plan.added, &*plan.withdrawn), (&["c".to_owned()][..], &["b".to_owned()][..]));
        assert_eq!(plan.restarted, ["main"]);
        assert_eq!(plan.next.trusts, wanted.trusts);
        assert_eq!(told(&plan.restart), none());
        let mut wanted = config();
        wanted.trusts[0].profile = Profile::Oci10;
        wanted.trusts[1].allow_example_keys = true;
        assert_eq!(Plan::new(&config(), &wanted).restarted, ["main", "b"]);
    }

    #[test]
    fn what_needs_a_restart_goes_on_and_is_named_and_the_rest_is_taken() {
        let mut wanted = config();
        wanted.listen = "127.0.0.1:1".parse().unwrap();
        wanted.quota.roles = 5;
        let plan = Plan::new(&config(), &wanted);
        assert_eq!(told(&plan.restart), ["`listen` is 127.0.0.1:1, was 127.0.0.1:8480"]);
        assert_eq!(told(&plan.changed), ["`quota.roles` is 5, was 1000"]);
        assert_eq!(plan.next.listen, config().listen);

        // Another data folder holds other keys and other tokens.
        wanted.data = "/other".into();
        wanted.trusts.push(TrustConfig::embedded("c"));
        wanted.trusts.remove(0);
        let plan = Plan::new(&config(), &wanted);
        assert_eq!(plan.next.trusts, config().trusts);
        assert_eq!((plan.added, plan.withdrawn), (vec![], vec![]));
        assert!(
            told(&plan.restart).contains(&"`data` is /other, was /data".to_owned()),
            "{:?}",
            plan.restart
        );
    }

    /// What a daemon that starts would refuse is not reached by a detour, either.
    #[test]
    fn the_embedded_registry_is_not_brought_up_behind_tls_or_beyond_loopback() {
        let elsewhere = || {
            let mut held = config();
            held.trusts.remove(1);
            held
        };
        let files = TlsFiles { certificate: PathBuf::from("/c").into(), key: PathBuf::from("/k").into() };
        let with_tls = Config { tls: Some(files), ..elsewhere() };
        let exposed = Config { listen: "0.0.0.0:8480".parse().unwrap(), ..elsewhere() };
        for held in [with_tls, exposed] {
            let plan = Plan::new(&held, &config());
            assert_eq!((plan.added, plan.withdrawn), (vec![], vec![]));
            assert_eq!(plan.next.trusts, held.trusts);
            assert!(plan.restart.iter().any(|change| change.key == "trust.b.name"), "{:?}", plan.restart);
            assert!(plan.restart.len() > 1);
            let mut wanted = config();
            wanted.trusts = vec![TrustConfig::embedded("main")];
            assert_eq!(Plan::new(&held, &wanted).next.trusts, held.trusts, "it stays where it is");
        }
    }
}
