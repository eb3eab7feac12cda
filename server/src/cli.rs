//! The command line of `plimsolld`: parse, call the library, print, exit code.
//!
//! Exit code 0 on success and on an end by SIGTERM or SIGINT, 2 for a wrong command line, 1 for all else. What a command
//! was asked for goes to standard output, logs and errors to standard error.

mod token;

use std::{
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, anyhow, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use plimsoll::publish::api::OnlineKeys;
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::{EnvFilter, filter::ParseError, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    config::{Config, Overrides, TrustArgument, valid_name},
    daemon,
    keys::{self, Keyring},
    service,
};

/// Keeps trust metadata in a container registry fresh.
///
/// plimsolld takes what publishers signed, puts it into an OCI registry, and re-signs its freshness before it ages. It
/// holds no key that says what is to be trusted.
#[derive(Debug, Parser)]
#[command(name = "plimsolld", version)]
struct Cli {
    /// What is logged to standard error, as `info`, `debug` or `info,plimsoll_server=debug`
    ///
    /// Default: info; for the demo, which tells its own story: error.
    #[arg(long, global = true, value_name = "FILTER", env = "PLIMSOLLD_LOG", value_parser = filter)]
    log: Option<EnvFilter>,
    /// How it is logged
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Lines for people, in colour on a terminal
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    Serve(Serve),
    /// The daemon's own keys
    #[command(subcommand)]
    Key(Key),
    /// Who may submit: tokens, of which only hashes are kept
    #[command(subcommand)]
    Token(token::Token),
    /// The configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show the whole of Plimsoll in one process: publish, verify, and five attacks that fail
    Demo,
}

#[derive(Debug, Args)]
struct Source {
    /// The configuration file; without it, one trust repository `main` on the embedded registry
    #[arg(long, value_name = "FILE", env = "PLIMSOLLD_CONFIG")]
    config: Option<PathBuf>,
    /// The data folder
    ///
    /// Default: `data` in the configuration, else $PLIMSOLLD_DATA, else $XDG_DATA_HOME/plimsolld, else
    /// ~/.local/share/plimsolld.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    source: Source,
    /// Where to listen, as 127.0.0.1:8480; port 0 is any free one
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Serve this trust repository, at HOST/REPO or on the embedded registry; may be given several times
    ///
    /// If given, exactly these are served; what the configuration says of one with the same name still holds.
    #[arg(long = "trust", value_name = "NAME[=HOST/REPO]")]
    trusts: Vec<TrustArgument>,
}

#[derive(Debug, Subcommand)]
enum Key {
    /// Print the public online keys of a trust repository, and make the keys if they are not there
    ///
    /// Publishers compare them with what `plimsoll init` shows, or give the JSON to `plimsoll init --online-pub`. If a next
    /// pair waits, it is printed too.
    Show {
        /// The trust repository's name in the configuration
        name: String,
        #[command(flatten)]
        source: Source,
        /// The output format
        #[arg(short, long, value_name = "FORMAT", default_value = "text")]
        output: Output,
    },
    /// Make the next pair of online keys of a trust repository, to replace the present one
    ///
    /// The daemon may be running. It offers the pair to publishers, and signs with it from the moment on at which the
    /// owners publish a root that names it; the keys that were replaced are removed then. Until then nothing changes. If a
    /// pair waits already, it is printed.
    Rotate {
        /// The trust repository's name in the configuration
        name: String,
        /// Remove the next pair that no root names yet
        #[arg(long, conflicts_with = "output")]
        discard: bool,
        #[command(flatten)]
        source: Source,
        /// The output format
        #[arg(short, long, value_name = "FORMAT", default_value = "text")]
        output: Output,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check a configuration and the files it names, without starting anything
    Check {
        /// The configuration file; without it, the defaults
        #[arg(value_name = "FILE", env = "PLIMSOLLD_CONFIG")]
        file: Option<PathBuf>,
    },
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let default = if matches!(cli.command, Command::Demo) { "error" } else { "info" };
    log_to_stderr(cli.log.unwrap_or_else(|| EnvFilter::new(default)), cli.log_format);
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            // If standard error is closed, too, there is nobody left to tell.
            let _ = writeln!(io::stderr(), "plimsolld: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(arguments) => runtime()?.block_on(serve(arguments))?,
        Command::Key(Key::Show { name, source, output }) => show_keys(&name, source, output)?,
        Command::Key(Key::Rotate { name, discard: true, source, .. }) => discard_keys(&name, source)?,
        Command::Key(Key::Rotate { name, source, output, .. }) => rotate_keys(&name, source, output)?,
        Command::Token(command) => token::run(command)?,
        Command::Config(ConfigCommand::Check { file }) => check(file.as_deref())?,
        Command::Demo => {
            let all_stopped = runtime()?.block_on(async {
                let mut interrupt = watch(SignalKind::interrupt())?;
                tokio::select! {
                    result = crate::demo::run() => result,
                    // The demo's folder is removed with what is dropped here.
                    _ = interrupt.recv() => Err(anyhow!("interrupted; nothing is left behind")),
                }
            })?;
            return Ok(if all_stopped { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn serve(arguments: Serve) -> anyhow::Result<()> {
    let Serve { source, listen, trusts } = arguments;
    let overrides = Overrides { data: source.data, listen, trusts };
    service::run(source.config, overrides).await
}

fn show_keys(name: &str, source: Source, output: Output) -> anyhow::Result<()> {
    let (data, served) = data_of(name, source)?;
    if !served && !keys::exist(&data, name) {
        bail!(
            "there are no keys for `{name}` in {}: `plimsolld serve --trust {name}` makes them, or name the configuration \
             with --config",
            data.join("keys").display()
        );
    }
    keys::private_folder(&data)?;
    let pair = keys::load_or_make(&data, name)?;
    if pair.made {
        writeln!(io::stderr(), "made new online keys for {name} in {}", pair.folder.display())?;
    }
    print_keys(&Keyring::open(&data, name)?, output)
}

fn rotate_keys(name: &str, source: Source, output: Output) -> anyhow::Result<()> {
    let data = data_with_keys(name, source)?;
    let (ring, made) = keys::make_next(&data, name)?;
    print_keys(&ring, output)?;
    let what = match (made, ring.is_taken()) {
        (true, _) => "made the next online keys: have the owners publish a root that names them",
        (false, false) => "these wait already: have the owners publish a root that names them",
        (false, true) => {
            "these wait already, and a root that names them was submitted: nothing is left to do"
        }
    };
    writeln!(io::stderr(), "{what}")?;
    Ok(())
}

fn discard_keys(name: &str, source: Source) -> anyhow::Result<()> {
    let data = data_with_keys(name, source)?;
    let what = if keys::discard_next(&data, name)? { "removed the next" } else { "there are no next" };
    writeln!(io::stderr(), "{what} online keys of {name}")?;
    Ok(())
}

/// The data folder, where the trust repository has keys.
fn data_with_keys(name: &str, source: Source) -> anyhow::Result<PathBuf> {
    let (data, _) = data_of(name, source)?;
    if !keys::exist(&data, name) {
        bail!("there are no keys for `{name}` in {} that could be replaced", data.join("keys").display());
    }
    Ok(data)
}

/// The data folder, and whether the configuration has the trust repository `name`. If a file was named, it must.
fn data_of(name: &str, source: Source) -> anyhow::Result<(PathBuf, bool)> {
    if !valid_name(name) {
        bail!("`{name}` is not a trust repository's name: lower-case letters, digits and `-`, at most 64");
    }
    let overrides = Overrides { data: source.data, ..Overrides::default() };
    let config = Config::resolve(source.config.as_deref(), &overrides)?;
    let names: Vec<&str> = config.trusts.iter().map(|trust| trust.name.as_str()).collect();
    let served = names.contains(&name);
    if let Some(file) = source.config.filter(|_| !served) {
        bail!("{} has no trust repository `{name}`; it has: {}", file.display(), names.join(", "));
    }
    Ok((config.data, served))
}

/// The public halves of both pairs. As JSON it is an `OnlineKeys` with one member more.
fn print_keys(ring: &Keyring, output: Output) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Pairs {
        #[serde(flatten)]
        current: OnlineKeys,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<OnlineKeys>,
    }
    let (current, next) = (ring.public(None), ring.next(None));
    let mut out = io::stdout().lock();
    if output == Output::Json {
        let text = serde_json::to_string_pretty(&Pairs { current, next }).context("the keys as JSON")?;
        writeln!(out, "{text}")?;
    } else {
        let width = if next.is_some() { 14 } else { 9 };
        for (prefix, pair) in [("", Some(current)), ("next ", next)] {
            let Some(pair) = pair else { continue };
            for (role, key) in [("timestamp", &pair.timestamp), ("snapshot", &pair.snapshot)] {
                let text = key.keyval.get("public").and_then(|text| text.as_str()).unwrap_or_default();
                let role = format!("{prefix}{role}");
                writeln!(out, "{role:<width$}  {}  key id {}", key.keytype, key.id())?;
                for line in text.lines() {
                    writeln!(out, "{:width$}  public {line}", "")?;
                }
            }
        }
    }
    out.flush()?;
    Ok(())
}

fn check(file: Option<&Path>) -> anyhow::Result<()> {
    let config = Config::resolve(file, &Overrides::default())?;
    daemon::check(&config)?;
    let elsewhere = daemon::check_files(&config)?;
    let mut out = io::stdout().lock();
    writeln!(out, "data    {}", config.data.display())?;
    writeln!(out, "listen  {}", config.listen)?;
    for trust in &config.trusts {
        match &trust.repository {
            Some(repository) => writeln!(out, "trust   {} at {repository}", trust.name)?,
            None => writeln!(out, "trust   {} on the embedded registry", trust.name)?,
        }
    }
    if let Some(tls) = &config.tls {
        writeln!(out, "tls     {}", tls.certificate)?;
    }
    for file in elsewhere {
        writeln!(out, "not looked at: {file}, which only the service is given")?;
    }
    writeln!(out, "ok")?;
    out.flush()?;
    Ok(())
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

fn watch(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("cannot watch for signals")
}

/// Refuses what `EnvFilter` by itself would only ignore.
fn filter(text: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(text)
}

fn log_to_stderr(filter: EnvFilter, format: LogFormat) {
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    match format {
        LogFormat::Text => {
            let colour =
                io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            registry.with(layer.with_target(false).with_ansi(colour)).init();
        }
        LogFormat::Json => registry.with(layer.json()).init(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_arguments_are_usage_errors() {
        for arguments in [
            "",
            "serve x",
            "serve --listen localhost:1",
            "serve --trust A",
            "serve --trust a=r.io/A",
            "key show",
            "key show main -o xml",
            "key rotate",
            "key rotate main --discard -o json",
            "--log x=y=z serve",
            "--log-format xml serve",
        ] {
            let line = std::iter::once("plimsolld").chain(arguments.split_whitespace());
            assert_eq!(Cli::try_parse_from(line).unwrap_err().exit_code(), 2, "{arguments}");
        }
        let line =
            ["plimsolld", "serve", "--data", "/d", "--trust", "a", "--trust", "b=r.io/t", "--log", "debug"];
        assert!(
            matches!(Cli::try_parse_from(line).unwrap().command, Command::Serve(s) if s.trusts.len() == 2)
        );
    }
}
