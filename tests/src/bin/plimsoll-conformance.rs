//! `plimsoll-conformance`: Plimsoll's client as the TUF conformance suite drives clients (docs/testing.md).
//!
//! The same update as `plimsoll verify` makes, with plain HTTP(S) below it instead of a registry, and a folder of
//! documents that others read. Exits with 0 or 1, never with anything else.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use plimsoll::{
    clock::{Clock, SystemClock},
    registry::{Registry, RegistryOptions},
    state::{Place, State, read},
    update::{Bounds, Session, TufSource, download::Downloads},
};
use plimsoll_core::tuf::{Outcome, Trusted, limit};
use url::Url;

/// How long to wait for another process that works in the same folder.
const PATIENCE: Duration = Duration::from_secs(60);

/// A TUF client, driven as the TUF conformance suite drives clients.
#[derive(Debug, Parser)]
#[command(name = "plimsoll-conformance", version)]
struct Cli {
    /// Folder with the trusted metadata: ROLE.json, and the memory against rollback in .plimsoll/
    #[arg(long, value_name = "DIR")]
    metadata_dir: PathBuf,
    /// Where the repository's metadata is
    #[arg(long, value_name = "URL")]
    metadata_url: Option<Url>,
    /// Target to download; may be given more than once
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    target_name: Vec<String>,
    /// Folder for downloaded targets
    #[arg(long, value_name = "DIR")]
    target_dir: Option<PathBuf>,
    /// Where the repository's targets are
    #[arg(long, value_name = "URL")]
    target_base_url: Option<Url>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start from a trusted root; asks nobody
    Init {
        /// The root
        root_file: PathBuf,
    },
    /// Bring the top-level metadata up to date
    Refresh,
    /// Bring the metadata up to date and download targets
    Download,
}

fn main() -> ExitCode {
    // The suite knows 0 and 1; a panic would be 101.
    std::panic::set_hook(Box::new(|panic| {
        say("error", &panic.to_string());
        std::process::exit(1);
    }));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let written = error.print();
            return ExitCode::from(u8::from(error.use_stderr() || written.is_err()));
        }
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say("error", &format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let place = Place::documents(&cli.metadata_dir);
    runtime.block_on(async {
        match &cli.verb {
            Verb::Init { root_file } => init(&place, root_file).await,
            Verb::Refresh => refresh(cli, &place, &client()?).await.map(drop),
            Verb::Download => download(cli, &place).await,
        }
    })
}

/// Stores the trusted root, and the memory that speaks of it.
async fn init(place: &Place, root_file: &Path) -> anyhow::Result<()> {
    let context = || format!("cannot read {}", root_file.display());
    let root = read(root_file, limit::ROOT).with_context(context)?.with_context(context)?;
    let trusted = Trusted::new(&root, SystemClock.now())?;
    let mut state = State::open(place, PATIENCE).await?;
    // A start that was killed before it stored its root is made again; any other would forget what was seen.
    if state.memory().is_some_and(|memory| memory != trusted.memory()) || state.oldest_root()?.is_some() {
        bail!("there is trusted metadata already");
    }
    state.put_root(trusted.root().version(), &root, trusted.memory())?;
    Ok(())
}

async fn refresh(cli: &Cli, place: &Place, http: &Registry) -> anyhow::Result<Session<TufSource>> {
    let url = cli.metadata_url.clone().context("--metadata-url is missing")?;
    let pinned = State::open(place, PATIENCE).await?.oldest_root()?;
    let (_, pinned) = pinned.context("there is no trusted root: `init` comes first")?;
    let source = TufSource::new(http.clone(), url);
    let mut session =
        Session::refresh_at(source, place, &pinned, SystemClock.now(), &Bounds::default()).await?;
    if session.equivocation() {
        say("warning", "the timestamp of this version had other content before; the one held stays");
    }
    session.load_role("targets", "root").await?;
    remembered(&session)?;
    Ok(session)
}

async fn download(cli: &Cli, place: &Place) -> anyhow::Result<()> {
    let base = cli.target_base_url.clone().context("--target-base-url is missing")?;
    let folder = cli.target_dir.clone().context("--target-dir is missing")?;
    if cli.target_name.is_empty() {
        bail!("--target-name is missing");
    }
    let http = client()?;
    let mut session = refresh(cli, place, &http).await?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let downloads = Downloads::new(http, base, folder);
    for name in &cli.target_name {
        let found = match session.find(name).await? {
            Outcome::Found(found) => found,
            Outcome::Absent { .. } => bail!("nobody vouches for `{name}`"),
            Outcome::Revoked { role, .. } => bail!("`{name}` was revoked by {role}"),
        };
        remembered(&session)?;
        let consistent = session.trusted().root().signed.consistent_snapshot;
        downloads.fetch(name, &found.target, consistent).await?;
    }
    Ok(())
}

/// What could not be written is no trusted metadata for whoever reads the folder.
fn remembered(session: &Session<TufSource>) -> anyhow::Result<()> {
    match session.unremembered() {
        Some(error) => bail!("{error}"),
        None => Ok(()),
    }
}

fn client() -> anyhow::Result<Registry> {
    Ok(Registry::new(RegistryOptions { plain_http: true, ..RegistryOptions::default() })?)
}

/// One line on standard error, whatever the text holds. One that cannot be written changes no outcome.
fn say(kind: &str, text: &str) {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let _ = writeln!(std::io::stderr(), "{kind}: {line}");
}
