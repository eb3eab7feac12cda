//! Taking over a changed configuration while the daemon runs: all of it is read and checked before any of it counts.

use std::fmt;

use tracing::info;

use crate::{
    config::{Config, TrustConfig},
    daemon::{Daemon, DaemonError, Edge},
};

/// What a reload found changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// The keys that have another value, and count from now on.
    pub changed: Vec<String>,
    /// The keys that have another value, and need a restart: the old one goes on.
    pub restart: Vec<String>,
}

impl Daemon {
    /// Takes over from `config` what can change at run time: `[freshness]`, `[api]`, the files of `[tls]`, logins; and reads
    /// certificate, key, tokens and passwords again, whether their names changed or not. What needs a restart goes on as it
    /// was. Open connections stay. Blocking disk I/O on a thread that may block.
    ///
    /// # Errors
    /// [`DaemonError`] if something that `config` names cannot be used. Nothing changed then.
    pub async fn reload(&mut self, config: Config) -> Result<Reloaded, DaemonError> {
        let (next, reloaded) = merged(self.config(), config);
        let reading = next.clone();
        let edge = crate::daemon::blocking(move || Edge::read(&reading)).await?;
        let engines = self.engines();
        // The same for all, so either the first refuses it or none does.
        for engine in &engines {
            let refused = |source| DaemonError::Engine {
                name: engine.name().to_owned(),
                source: Box::new(crate::pipeline::EngineError::Freshness(source)),
            };
            engine.set_freshness(next.freshness).map_err(refused)?;
        }
        // From here on nothing fails.
        self.take(next, edge);
        Ok(reloaded)
    }
}

/// What goes on, and what of `wanted` that is, as compared with `held`.
fn merged(held: &Config, wanted: Config) -> (Config, Reloaded) {
    // Every key, so that a new one is not forgotten here.
    let Config { data, listen, registry, tls, api, freshness, quota, trusts } = wanted;
    let mut reloaded = Reloaded::default();
    let mut next = held.clone();
    let mut keep = |same: bool, key: &str| {
        if !same {
            reloaded.restart.push(key.to_owned());
        }
    };
    keep(held.data == data, "data");
    keep(held.listen == listen, "listen");
    keep(held.registry == registry, "[registry]");
    keep(held.tls.is_some() == tls.is_some(), "[tls]");
    keep(held.quota == quota, "[quota]");
    for trust in &trusts {
        let key = format!("[[trust]] {}", trust.name);
        match held.trusts.iter().find(|other| other.name == trust.name) {
            None => keep(false, &key),
            Some(other) => keep(TrustConfig { login: trust.login.clone(), ..other.clone() } == *trust, &key),
        }
    }
    for gone in held.trusts.iter().filter(|other| trusts.iter().all(|trust| trust.name != other.name)) {
        keep(false, &format!("[[trust]] {}", gone.name));
    }
    let mut take = |same: bool, key: &str| {
        if !same {
            reloaded.changed.push(key.to_owned());
        }
    };
    take(held.freshness == freshness, "[freshness]");
    next.freshness = freshness;
    take(held.api == api, "[api]");
    next.api = api;
    if held.tls.is_some() && tls.is_some() {
        take(held.tls == tls, "[tls]");
        next.tls = tls;
    }
    for trust in &mut next.trusts {
        // A login belongs to a repository.
        let same = |other: &&TrustConfig| other.name == trust.name && other.repository == trust.repository;
        if let Some(other) = trusts.iter().find(same) {
            take(trust.login == other.login, &format!("the login of {}", trust.name));
            trust.login = other.login.clone();
        }
    }
    (next, reloaded)
}

/// What the log says of it.
pub(crate) fn report(reloaded: &Reloaded) {
    info!("{reloaded}");
    if !reloaded.restart.is_empty() {
        tracing::warn!(
            "these changed and need a restart, until then the old values go on: {}",
            reloaded.restart.join(", ")
        );
    }
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reloaded: certificate, tokens and passwords were read again")?;
        if self.changed.is_empty() { Ok(()) } else { write!(f, "; changed: {}", self.changed.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::config::{Login, Submit};

    fn config() -> Config {
        let mut config = Config::new("/data");
        config.trusts[0].repository = "r.io/a".parse().ok();
        config.trusts.push(TrustConfig::embedded("b"));
        config
    }

    #[test]
    fn nothing_changed_is_nothing_told() {
        assert_eq!(merged(&config(), config()).1, Reloaded::default());
    }

    #[test]
    fn what_can_change_does_and_what_needs_a_restart_is_named_and_stays() {
        let mut wanted = config();
        wanted.freshness.timestamp_interval = TimeDelta::minutes(5);
        wanted.api.submit = Some(Submit::Tokens);
        wanted.trusts[0].login =
            Some(Login { username: "x".to_owned(), password_file: std::path::PathBuf::from("/p").into() });
        let (next, reloaded) = merged(&config(), wanted.clone());
        assert_eq!(reloaded.changed, ["[freshness]", "[api]", "the login of main"]);
        assert_eq!(reloaded.restart, [""; 0]);
        assert_eq!(
            (next.freshness, &next.api, &next.trusts),
            (wanted.freshness, &wanted.api, &wanted.trusts)
        );

        wanted.listen = "127.0.0.1:1".parse().unwrap();
        wanted.data = "/other".into();
        wanted.registry.plain_http = true;
        wanted.trusts[0].repository = "r.io/other".parse().ok();
        wanted.trusts[1] = TrustConfig::embedded("c");
        let (next, reloaded) = merged(&config(), wanted);
        assert_eq!(
            reloaded.restart,
            ["data", "listen", "[registry]", "[[trust]] main", "[[trust]] c", "[[trust]] b"]
        );
        assert_eq!(reloaded.changed, ["[freshness]", "[api]"]);
        let held = config();
        assert_eq!((next.listen, next.data, next.trusts), (held.listen, held.data, held.trusts));
    }
}
