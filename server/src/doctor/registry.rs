//! What the registry shows, compared with the store.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use plimsoll::{registry::Registry, verify};
use plimsoll_core::{
    oci::{Digest, RepositoryAddress, mapping::LATEST},
    tuf::{Document, Timestamp},
};

use super::Finding;
use crate::{
    config::{Config, TrustConfig},
    daemon,
    store::{MemoryStore, SledStore, Store, TrustKey},
    takeover::{
        self, Merged, TakeOverError,
        registry::{Entry, FetchError, Found, entry, fetch},
    },
};

/// Clocks that differ by less are not told.
const SKEW: TimeDelta = TimeDelta::minutes(5);

/// Compares what the registry shows of `trust` with `store`: none if there is no store; not at all if it was not opened.
pub(super) async fn check(
    config: &Config,
    trust: &TrustConfig,
    store: Option<Option<&SledStore>>,
    now: DateTime<Utc>,
    findings: &mut Vec<Finding>,
) {
    let name = &trust.name;
    if trust.repository.is_none() {
        findings.push(embedded(config, name, store).of(name));
        return;
    }
    let Some((registry, repository)) = reach(config, trust, findings) else { return };
    let Some(found) = look(&registry, &repository, name, now, findings).await else { return };
    let (nothing, key) = (MemoryStore::new(), TrustKey::whole(name));
    let store: &dyn Store = match store {
        Some(Some(store)) => store,
        Some(None) => &nothing,
        None => {
            findings.push(Finding::ok("registry", "it answers; not compared with the store").of(name));
            return;
        }
    };
    let made = store.head(&key).is_ok_and(|head| head.sequence > 0);
    let finding = match found {
        Found::Nothing if made => {
            let next = "start the daemon: it writes it again, and warns";
            Finding::warning("registry", format!("{repository}:latest is not there"), next)
        }
        Found::Nothing => Finding::ok("registry", format!("{repository} is empty")),
        Found::Foreign(what) => foreign(&repository, &what),
        Found::Entry(entry) => compare(&registry, &repository, trust, store, entry, now).await,
    };
    findings.push(finding.of(name));
}

/// The embedded registry is not served now, but its folder says whether the trust repository was published.
fn embedded(config: &Config, name: &str, store: Option<Option<&SledStore>>) -> Finding {
    let tag = config.data.join("registry/repositories").join(name).join("trust/_tags").join(LATEST);
    let made = |store: &SledStore| store.head(&TrustKey::whole(name)).is_ok_and(|head| head.sequence > 0);
    match store {
        Some(store) if tag.exists() && !store.is_some_and(made) => {
            let found = "the embedded one has it, and the store has not: the store is lost";
            Finding::wrong(
                "registry",
                found,
                format!("`plimsolld restore {name}`, with --from EXPORT if there is one"),
            )
        }
        _ => Finding::ok("registry", "the embedded one: it runs with the daemon"),
    }
}

async fn compare(
    registry: &Registry,
    repository: &RepositoryAddress,
    trust: &TrustConfig,
    store: &dyn Store,
    entry: Entry,
    now: DateTime<Utc>,
) -> Finding {
    let (name, key) = (&trust.name, TrustKey::whole(&trust.name));
    let known = |role: &str, version: u64, digest: &Digest| {
        store.document(&key, role, version).ok().flatten().filter(|held| Digest::of(held) == *digest)
    };
    let shown = match fetch(registry, repository, entry, known).await {
        Ok(shown) => shown,
        Err(error) => return untaken(&error),
    };
    let version = shown.view.timestamp_version();
    match takeover::merge(store, &key, "the store", Some(shown), now) {
        Ok(Some(Merged { from_registry: true, head, newest, .. })) if head.sequence == 0 => {
            let found = format!(
                "{repository}:latest shows timestamp {version} of trust repository {}, which is not in the store: the store \
                 is lost, or this is another daemon's",
                newest.trust_id()
            );
            let next =
                format!("if it is yours, `plimsolld restore {name}`, with --from EXPORT if there is one");
            Finding::wrong("registry", found, next)
        }
        Ok(Some(Merged { from_registry: true, .. })) => {
            let found = format!(
                "AHEAD: {repository}:latest shows timestamp {version}, newer than the store: the store is old"
            );
            let next = format!(
                "if another daemon runs with a copy of these keys, stop it; then restore the newest store, or `plimsolld repair \
                 {name} --skip-ahead`"
            );
            Finding::wrong("registry", found, next)
        }
        Ok(Some(merged)) if merged.newest.timestamp_version() == version => Finding::ok(
            "registry",
            format!("{repository}:latest shows the same as the store, timestamp {version}"),
        ),
        Ok(_) => {
            let found = format!("{repository}:latest shows timestamp {version}, older than the store");
            Finding::warning("registry", found, "start the daemon, or see why it cannot publish")
        }
        Err(error) => refused(&error),
    }
}

/// Compares with what a running daemon serves.
pub(super) async fn check_running(
    config: &Config,
    trust: &TrustConfig,
    served: Option<&Bytes>,
    now: DateTime<Utc>,
    findings: &mut Vec<Finding>,
) {
    let name = &trust.name;
    let Some((registry, repository)) = reach(config, trust, findings) else { return };
    let Some(found) = look(&registry, &repository, name, now, findings).await else { return };
    let version = |bytes: &Bytes| Document::<Timestamp>::parse("timestamp", bytes).map(|d| d.version()).ok();
    let finding = match (found, served) {
        (Found::Nothing, None) => Finding::ok("registry", format!("{repository} is empty")),
        (Found::Nothing, Some(_)) => {
            let next = "wait for one interval; if it stays so, see the daemon's log";
            Finding::warning("registry", format!("{repository}:latest is not there"), next)
        }
        (Found::Foreign(what), _) => foreign(&repository, &what),
        (Found::Entry(entry), served) => {
            let shown = entry.timestamp.as_ref().and_then(version);
            let ours = served.and_then(version);
            match (shown, ours) {
                (Some(shown), Some(ours)) if entry.timestamp.as_ref() == served => Finding::ok(
                    "registry",
                    format!(
                        "{repository}:latest shows what the daemon serves, timestamp {}",
                        shown.max(ours)
                    ),
                ),
                (Some(shown), Some(ours)) if shown < ours => Finding::warning(
                    "registry",
                    format!("{repository}:latest shows timestamp {shown}; the daemon is at {ours}"),
                    "nothing, if it just signed; else see the daemon's log",
                ),
                (Some(shown), Some(ours)) if shown > ours => Finding::wrong(
                    "registry",
                    format!("AHEAD: {repository}:latest shows timestamp {shown}; the daemon is at {ours}"),
                    "the daemon raises the alarm if our key signed it; stop it and run this again",
                ),
                (Some(shown), Some(_)) => Finding::wrong(
                    "registry",
                    format!("TWIN: {repository}:latest shows another timestamp {shown} than the daemon's"),
                    "docs/operations.md, A second signer",
                ),
                _ => Finding::wrong(
                    "registry",
                    format!("{repository}:latest is not what the daemon serves"),
                    "stop the daemon and run this again, to have it compared with the store",
                ),
            }
        }
    };
    findings.push(finding.of(name));
}

/// The registry's client, where there is one to ask.
fn reach(
    config: &Config,
    trust: &TrustConfig,
    findings: &mut Vec<Finding>,
) -> Option<(Registry, RepositoryAddress)> {
    let Some(repository) = &trust.repository else {
        findings.push(Finding::ok("registry", "the embedded one: it runs with the daemon").of(&trust.name));
        return None;
    };
    if trust.login.as_ref().is_some_and(|login| !login.password_file.is_here()) {
        let found = "not asked: only the service is given the password";
        let next = "see docs/operations.md, systemd";
        findings.push(Finding::warning("registry", found, next).of(&trust.name));
        return None;
    }
    match daemon::client(config, trust) {
        Ok(registry) => Some((registry, repository.clone())),
        Err(error) => {
            let next = "correct the configuration";
            findings.push(Finding::wrong("registry", verify::chain(&error), next).of(&trust.name));
            None
        }
    }
}

/// What is at `:latest`, and what time it is there.
async fn look(
    registry: &Registry,
    repository: &RepositoryAddress,
    name: &str,
    now: DateTime<Utc>,
    findings: &mut Vec<Finding>,
) -> Option<Found> {
    match entry(registry, repository).await {
        Ok(found) => {
            if let Ok(Some(date)) = registry.date(repository).await
                && (date - now).abs() > SKEW
            {
                let found = format!(
                    "this machine's shows {}, the registry's {}",
                    now.format("%FT%TZ"),
                    date.format("%FT%TZ")
                );
                let next = "look which one is wrong: clients judge expiry by theirs";
                findings.push(Finding::warning("clock", found, next).of(name));
            }
            Some(found)
        }
        Err(error) => {
            let next = match () {
                () if error.is_auth() => {
                    "look at `username` and `password-file`, or `docker login`, of this user"
                }
                () if error.is_misuse() => "correct the configuration",
                () => {
                    "look at the registry and the network; what is published stays good until its timestamp expires"
                }
            };
            findings.push(Finding::wrong("registry", verify::chain(&error), next).of(name));
            None
        }
    }
}

fn foreign(repository: &RepositoryAddress, what: &str) -> Finding {
    let next = "look whether the repository is the right one; the daemon writes over it if it published there before";
    Finding::wrong("registry", format!("{repository}:latest holds something else: {what}"), next)
}

fn untaken(error: &FetchError) -> Finding {
    let next = match error {
        FetchError::Registry(_) => "look at the registry and the network",
        _ => "look who else writes to this repository; the daemon writes over what it did not sign",
    };
    Finding::wrong("registry", verify::chain(error), next)
}

fn refused(error: &TakeOverError) -> Finding {
    let text = verify::chain(error);
    match error {
        TakeOverError::Twin { .. } | TakeOverError::Lost { .. } => {
            Finding::wrong("registry", format!("TWIN: {text}"), "docs/operations.md, A second signer")
        }
        TakeOverError::OtherTrust { .. } => {
            Finding::wrong("registry", text, "look whether the repository is the right one")
        }
        _ => Finding::warning(
            "registry",
            format!("not compared with the store: {text}"),
            "see what is said of the store",
        ),
    }
}
