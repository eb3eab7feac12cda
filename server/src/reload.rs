//! Taking over a changed configuration while the daemon runs: all of it is read and checked before any of it counts.

mod plan;

use std::{collections::BTreeMap, fmt};

use plimsoll::verify;
use tracing::{error, info, warn};

pub use self::plan::Change;
use self::plan::Plan;
use crate::{
    config::{Config, TrustConfig},
    daemon::{self, Daemon, DaemonError, Edge, Launched, Place, Prepared, Seen},
};

/// What a reload did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// What has another value, which counts from now on.
    pub changed: Vec<Change>,
    /// The trust repositories that are served from now on, and where.
    pub served: Vec<(String, String)>,
    /// Those that are not served any more.
    pub withdrawn: Vec<String>,
    /// Those that were started anew, as what changed of them cannot change otherwise.
    pub restarted: Vec<String>,
    /// Those that should be started anew, go on as they were instead, and why.
    pub kept: Vec<(String, String)>,
    /// Those that should be served or started anew and are not, and why.
    pub failed: Vec<(String, String)>,
    /// What has another value in the configuration and needs a restart of the daemon: the old one goes on.
    pub restart: Vec<Change>,
}

impl Daemon {
    /// Takes over from `wanted` all that can change at run time, and reads certificate, key, CAs, tokens and passwords again,
    /// whether their names changed or not. Trust repositories come and go; one that moves to another repository, or to
    /// another profile, is started anew. What needs a restart of the daemon goes on as it was. Open connections stay, and so
    /// do submissions that wait. Blocking disk I/O on a thread that may block; takes up to some seconds if an engine has to end.
    ///
    /// # Errors
    /// [`DaemonError`] if `wanted` would not start, or something that it names cannot be used. Nothing changed then, but for
    /// keys that were made.
    pub async fn reload(&mut self, wanted: Config) -> Result<Reloaded, DaemonError> {
        daemon::check(&wanted)?;
        // Whoever writes the file anew may be seen at it.
        if wanted.implied && !self.config.implied {
            return Err(DaemonError::NoTrusts { served: self.api.names() });
        }
        let was_open = self.berth.is_open();
        let reloaded = self.take_over(wanted).await;
        if reloaded.is_err() && !was_open {
            self.berth.close();
        }
        reloaded
    }

    /// [`Daemon::reload`], of what was checked. May leave the embedded registry open.
    async fn take_over(&mut self, wanted: Config) -> Result<Reloaded, DaemonError> {
        let mut plan = Plan::new(&self.config, &wanted);
        // While what they have still runs.
        let kept = self.unfit(&plan).await;
        for (name, _) in &kept {
            plan.keep(name, &self.config);
        }
        // Those that failed before do so alone, and those that may not start.
        let (again, new): (Vec<_>, Vec<_>) = {
            let failed = self.api.names();
            plan.added.iter().cloned().partition(|name| failed.contains(name) || self.stuck.contains(name))
        };
        let next = &plan.next;
        let places = daemon::places(&next.trusts, self.address())?;
        let places: BTreeMap<String, Place> =
            next.trusts.iter().map(|trust| trust.name.clone()).zip(places).collect();
        let reading = next.clone();
        let read = daemon::blocking(move || {
            // Also what counts after a restart only: it would not start.
            Edge::read(&wanted)?;
            Edge::read(&reading)
        });
        let mut edge = read.await?;
        let accesses = std::mem::take(&mut edge.accesses);
        let accesses: BTreeMap<_, _> =
            next.trusts.iter().map(|trust| trust.name.clone()).zip(accesses).collect();
        let prepare =
            |name: &String| (plan.trust(name).clone(), places[name].clone(), accesses[name].clone());

        let launched = self.launch_all(next, new.iter().map(prepare).collect()).await?;

        // From here on nothing fails but what is started anew.
        let mut reloaded = Reloaded { kept, ..plan.reloaded(&places) };
        self.show(edge.tls);
        self.api.gate().replace(edge.tokens);
        for (name, running) in &self.trusts {
            if let Some(access) = accesses.get(name).filter(|_| !plan.restarted.contains(name)) {
                running.access.replace(access);
                running.adjust(next);
            }
        }
        // With those that did not start.
        let mut gone = self.api.names();
        gone.retain(|name| !places.contains_key(name));
        for name in &gone {
            self.api.withdraw(name);
        }
        for name in plan.restarted.iter().chain(&again) {
            self.api.pause(name);
        }
        let late = self.retire(gone.into_iter().chain(plan.restarted.clone())).await;
        for name in late.iter().filter(|name| !places.contains_key(*name)) {
            warn!(trust = name, "it is not served any more, and what it had under way does not end");
        }
        launched.into_iter().for_each(|launched| self.admit(launched));
        for name in plan.restarted.iter().chain(&again) {
            // Two engines on one store would undo each other.
            let started = if self.stuck.contains(name) {
                Err("what it had under way does not end; restart the daemon".to_owned())
            } else {
                self.launch_all(next, vec![prepare(name)]).await.map_err(|error| verify::chain(&error))
            };
            match started {
                Ok(launched) => launched.into_iter().for_each(|launched| self.admit(launched)),
                Err(why) => reloaded.failed.push((name.clone(), why)),
            }
        }
        let started = |name: &String| reloaded.failed.iter().all(|(failed, _)| failed != name);
        reloaded.restarted.retain(started);
        reloaded.served.retain(|(name, _)| started(name));
        for name in &plan.inboxes {
            self.look_into_inbox(plan.trust(name), places[name].clone());
        }
        if next.trusts.iter().all(|trust| trust.repository.is_some()) {
            self.berth.close();
        }
        let api = self.config.api != next.api;
        self.config = plan.next;
        // Tried again by the next reload.
        self.config.trusts.retain(|trust| self.trusts.contains_key(&trust.name));
        if api {
            self.warn_of_the_open();
        }
        Ok(reloaded)
    }

    /// Those to be started anew for which that would fail, and why, as far as that can be told while they run.
    async fn unfit(&self, plan: &Plan) -> Vec<(String, String)> {
        let mut unfit = Vec::new();
        for name in &plan.restarted {
            let (trust, config) = (plan.trust(name).clone(), plan.next.clone());
            let (store, berth) = (self.store.clone(), self.berth.clone());
            let mut seen = self.keys_in_use();
            let looked = daemon::blocking(move || {
                if trust.repository.is_none() {
                    berth.open(&config.data.join("registry"))?;
                }
                // Opened again when the engine that runs has ended, which may have put others in their place.
                daemon::keyring(&config, &trust, &*store, &mut seen).map(drop)
            });
            if let Err(error) = looked.await {
                unfit.push((name.clone(), verify::chain(&error)));
            }
        }
        unfit
    }

    /// Starts engines that nobody reaches yet, all or none. The embedded registry is opened if one needs it.
    async fn launch_all(
        &self,
        config: &Config,
        trusts: Vec<(TrustConfig, Place, daemon::Access)>,
    ) -> Result<Vec<Launched>, DaemonError> {
        if trusts.is_empty() {
            return Ok(Vec::new());
        }
        let (config, store, berth) = (config.clone(), self.store.clone(), self.berth.clone());
        let mut seen = self.keys_in_use();
        let prepared = daemon::blocking(move || {
            if trusts.iter().any(|(trust, ..)| trust.repository.is_none()) {
                berth.open(&config.data.join("registry"))?;
            }
            let prepare = |(trust, place, access): (TrustConfig, Place, daemon::Access)| {
                let keys = daemon::keyring(&config, &trust, &*store, &mut seen)?;
                Ok(Prepared { trust, place, access, keys })
            };
            let prepared: Result<Vec<_>, DaemonError> = trusts.into_iter().map(prepare).collect();
            Ok::<_, DaemonError>((prepared?, config))
        });
        let (prepared, config) = prepared.await?;
        let mut launched: Vec<Launched> = Vec::new();
        for prepared in prepared {
            match self.launch(&config, prepared).await {
                Ok(one) => launched.push(one),
                Err(error) => {
                    for one in launched {
                        one.engine.stop().await;
                    }
                    return Err(error);
                }
            }
        }
        Ok(launched)
    }

    /// The keys of what is served, with their folders.
    fn keys_in_use(&self) -> Seen {
        let mut seen = Seen::new();
        for name in self.trusts.keys() {
            let folder = self.config.data.join("keys").join(name);
            seen.extend(self.key_ids(name).into_iter().map(|id| (id, folder.clone())));
        }
        seen
    }
}

impl Reloaded {
    /// Logs it, a line for each thing, and how many there are at last.
    pub(crate) fn log(&self) {
        for change in &self.changed {
            info!("changed: {change}");
        }
        for (name, place) in &self.served {
            info!(trust = name, "served from now on: {place}");
        }
        for name in &self.withdrawn {
            warn!(trust = name, "not served any more; its keys and what the store has of it stay");
        }
        for name in &self.restarted {
            info!(trust = name, "started anew");
        }
        for (name, why) in &self.kept {
            error!(
                trust = name,
                "it is not started anew and goes on as it was, until the next reload tries again: {why}"
            );
        }
        for (name, why) in &self.failed {
            error!(trust = name, "it is not served until the next reload or restart: {why}");
        }
        for change in &self.restart {
            warn!("needs a restart, until then the old value goes on: {change}");
        }
        info!("{self}");
    }
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reloaded: certificates, tokens and passwords were read again; ")?;
        let Self { changed, served, withdrawn, restarted, kept, failed, restart } = self;
        write!(
            f,
            "{} changed, {} served anew, {} not any more, {} started anew",
            changed.len(),
            served.len(),
            withdrawn.len(),
            restarted.len()
        )?;
        let failures = kept.len() + failed.len();
        if failures > 0 {
            write!(f, ", {failures} FAILED")?;
        }
        if !restart.is_empty() {
            write!(f, ", {} need a restart", restart.len())?;
        }
        Ok(())
    }
}
