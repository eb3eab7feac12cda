//! `plimsolld backup`, `plimsolld restore` and `plimsolld repair`.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, bail};
use clap::Args;
use plimsoll::clock::{Clock, SystemClock};
use plimsoll_core::oci::Digest;
use url::Url;

use super::{Source, runtime};
use crate::{
    backup::{self, ENDING},
    config::{Config, Overrides, TrustArgument, TrustConfig},
    repair,
    restore::{self, Done},
};

/// Which trust repositories there are: what `serve` is told.
#[derive(Debug, Args)]
pub(super) struct Served {
    #[command(flatten)]
    source: Source,
    /// This trust repository is served, at HOST/REPO or on the embedded registry, as `serve --trust` was told
    #[arg(long = "trust", value_name = "NAME[=HOST/REPO]")]
    trusts: Vec<TrustArgument>,
}

impl Served {
    /// The configuration with it.
    pub(super) fn resolve(&self) -> anyhow::Result<Config> {
        let overrides =
            Overrides { data: self.source.data.clone(), trusts: self.trusts.clone(), ..Overrides::default() };
        Ok(Config::resolve(self.source.config.as_deref(), &overrides)?)
    }
}

#[derive(Debug, Args)]
pub(super) struct Backup {
    /// A folder, which gets one file `NAME.plimsolld-export` for each trust repository; or, for one, the file
    #[arg(value_name = "DIR|FILE")]
    to: PathBuf,
    /// The trust repositories' names in the configuration; without any, all
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Where the running daemon answers, as http://127.0.0.1:8480
    ///
    /// Default: where the configuration says that it listens.
    #[arg(long, value_name = "URL")]
    server: Option<Url>,
    #[command(flatten)]
    served: Served,
}

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The trust repository's name in the configuration
    name: String,
    /// An export, made by `plimsolld backup`: it has the history, retired names and submissions, which the registry has not
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// The digest of a root of the trust repository, as its owners say it and clients pin it
    ///
    /// Not needed if an export is given that a key in the data folder sealed.
    #[arg(long, value_name = "sha256:HEX")]
    root: Option<Digest>,
    #[command(flatten)]
    served: Served,
}

#[derive(Debug, Args)]
pub(super) struct Repair {
    /// The trust repository's name in the configuration
    name: String,
    /// Take over what the registry shows, and go on with versions above it
    #[arg(long, required = true)]
    skip_ahead: bool,
    #[command(flatten)]
    served: Served,
}

/// Writes exports.
pub(super) fn backup(arguments: Backup) -> anyhow::Result<()> {
    let config = arguments.served.resolve()?;
    let trusts = chosen(&config, &arguments.names)?;
    let folder = arguments.to.is_dir() || arguments.to.as_os_str().to_string_lossy().ends_with('/');
    if folder {
        std::fs::create_dir_all(&arguments.to)
            .with_context(|| format!("cannot make {}", arguments.to.display()))?;
    } else if trusts.len() != 1 {
        bail!(
            "{} is not a folder, and {} trust repositories are to be backed up: name one of them, or a folder",
            arguments.to.display(),
            trusts.len()
        );
    }
    runtime()?.block_on(async {
        let source = backup::Source::open(&config, arguments.server)?;
        for trust in trusts {
            let path = if folder {
                arguments.to.join(format!("{}.{ENDING}", trust.name))
            } else {
                arguments.to.clone()
            };
            let written = backup::backup(&config, trust, &source, &path, SystemClock.now()).await?;
            let (path, documents, bytes) = (written.path.display(), written.documents, written.bytes);
            writeln!(io::stdout(), "{}  {path}  {documents} documents, {bytes} bytes", trust.name)?;
        }
        anyhow::Ok(())
    })?;
    writeln!(
        io::stderr(),
        "private keys are not in it: copy {} too, and keep that copy as secret as the keys",
        config.data.join("keys").display()
    )?;
    Ok(())
}

/// Rebuilds a store.
pub(super) fn restore(arguments: &Restore) -> anyhow::Result<()> {
    let config = arguments.served.resolve()?;
    let trust = one(&config, &arguments.name)?;
    let from = restore::From { export: arguments.from.as_deref(), root: arguments.root };
    let done = runtime()?.block_on(restore::restore(&config, trust, &from, SystemClock.now()))?;
    print(&trust.name, &done, "restored")
}

/// Catches up with the registry.
pub(super) fn repair(arguments: &Repair) -> anyhow::Result<()> {
    let config = arguments.served.resolve()?;
    let trust = one(&config, &arguments.name)?;
    let done = runtime()?.block_on(repair::skip_ahead(&config, trust, SystemClock.now()))?;
    print(&trust.name, &done, "caught up")
}

fn print(name: &str, done: &Done, what: &str) -> anyhow::Result<()> {
    let Done { place, trust_id, found, next, documents, roles, notes } = done;
    let mut out = io::stdout().lock();
    writeln!(out, "{what}  {name}, trust id {trust_id}, from timestamp {found} in {place}")?;
    writeln!(out, "store     {roles} roles, {documents} documents written")?;
    if let Some(next) = next {
        writeln!(
            out,
            "next      timestamp and snapshot {next}, signed: start the daemon, which publishes them"
        )?;
    }
    for note in notes {
        writeln!(out, "note      {note}")?;
    }
    Ok(out.flush()?)
}

fn chosen<'a>(config: &'a Config, names: &[String]) -> anyhow::Result<Vec<&'a TrustConfig>> {
    if names.is_empty() {
        return Ok(config.trusts.iter().collect());
    }
    names.iter().map(|name| one(config, name)).collect()
}

/// The trust repository `name` of the configuration.
pub(super) fn one<'a>(config: &'a Config, name: &str) -> anyhow::Result<&'a TrustConfig> {
    let found = config.trusts.iter().find(|trust| trust.name == name);
    let names = || config.trusts.iter().map(|trust| trust.name.as_str()).collect::<Vec<_>>().join(", ");
    found.with_context(|| format!("the configuration has no trust repository `{name}`; it has: {}", names()))
}
