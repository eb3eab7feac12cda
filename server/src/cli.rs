//! The command line of `plimsolld`: parse, call the library, print, exit code.
//!
//! Exit code 0 on success and on an end by SIGTERM or SIGINT, 2 for a wrong command line, 1 for all else; `tick` has those
//! of the verdict table. What a command was asked for goes to standard output, logs and errors to standard error.

mod backup;
mod config;
mod doctor;
mod key;
mod serve;
mod tick;
mod token;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, anyhow, bail};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::{EnvFilter, filter::ParseError};

use crate::{
    config::{Config, Overrides, valid_name},
    logging::{self, Filter},
    store::OPENER,
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
    /// Default: for `serve`, what the configuration says, else info; for `tick`: warn; for the demo, which tells its own story:
    /// error; for all else: info.
    #[arg(long, global = true, value_name = "FILTER", env = "PLIMSOLLD_LOG", value_parser = filter)]
    log: Option<String>,
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
    Serve(serve::Serve),
    /// Do one round without a daemon: look at the registry, sign what is due, publish it, read it back
    ///
    /// For cron and CI. Exit codes are those of the verdict table: 0 if the registry shows what was signed and it is fresh, 10
    /// if the trust repository was never made, 20 expired, 21 the registry is ahead of the store, 22 something else is there,
    /// 30 the registry cannot be reached, 31 it denies access; 1 for a fault here: the clock, the store, or a daemon that
    /// runs on it. With several trust repositories it is 1 if one has that, else the highest.
    Tick(tick::Tick),
    /// The daemon's own keys
    #[command(subcommand)]
    Key(key::Key),
    /// Who may submit: tokens, of which only hashes are kept
    #[command(subcommand)]
    Token(token::Token),
    /// The configuration file
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Write all that the store holds into a signed file for each trust repository; the daemon may be running
    Backup(backup::Backup),
    /// Rebuild the store of a trust repository from the registry, and from an export where there is one
    Restore(backup::Restore),
    /// Bring a store that is older than the registry up to what that shows
    Repair(backup::Repair),
    /// Look at everything, change nothing, and say what is wrong and what to do
    ///
    /// The exit code is 1 if something is wrong. The daemon may be running.
    Doctor(doctor::Doctor),
    /// Show the whole of Plimsoll in one process: publish, verify, and five attacks that fail
    Demo,
}

/// What is logged.
#[derive(Debug)]
struct Log {
    filter: Filter,
    /// `--log`, which wins over the configuration.
    given: Option<String>,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => match plimsoll::cli::usage_fault(&Cli::command(), &args, &error) {
            Some(code) => return code.into(),
            None => error.exit(),
        },
    };
    let default = match cli.command {
        Command::Demo => "error",
        // What it says is its output; who runs it from cron gets no mail if all is well.
        Command::Tick(_) => "warn",
        _ => logging::DEFAULT,
    };
    quiet_about_damaged_stores();
    let log = Log { filter: Filter::install(first(&cli, default), cli.log_format.into()), given: cli.log };
    match run(cli.command, log) {
        Ok(code) => code,
        Err(error) => {
            // If standard error is closed, too, there is nobody left to tell.
            let _ = writeln!(io::stderr(), "plimsolld: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, log: Log) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(arguments) => runtime()?.block_on(serve::serve(arguments, log))?,
        Command::Key(command) => key::run(command)?,
        Command::Token(command) => token::run(command)?,
        Command::Config(command) => config::run(command)?,
        Command::Backup(arguments) => backup::backup(arguments)?,
        Command::Restore(arguments) => backup::restore(&arguments)?,
        Command::Doctor(arguments) => return doctor::doctor(arguments),
        Command::Repair(arguments) => backup::repair(&arguments)?,
        Command::Tick(arguments) => return runtime()?.block_on(tick::tick(arguments)),
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

impl Source {
    /// The data folder, and whether the configuration has the trust repository `name`. If a file was named, it must.
    fn data_of(self, name: &str) -> anyhow::Result<(PathBuf, bool)> {
        if !valid_name(name) {
            bail!(
                "`{name}` is not a trust repository's name: lower-case letters, digits and `-`, at most 64"
            );
        }
        let overrides = Overrides { data: self.data, ..Overrides::default() };
        let config = Config::resolve(self.config.as_deref(), &overrides)?;
        let names: Vec<&str> = config.trusts.iter().map(|trust| trust.name.as_str()).collect();
        let served = names.contains(&name);
        if let Some(file) = self.config.filter(|_| !served) {
            bail!("{} has no trust repository `{name}`; it has: {}", file.display(), names.join(", "));
        }
        Ok((config.data, served))
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // Made only when needed: as when the names of hundreds of registries are looked up and none is answered. Those must not
    // take all threads from the rounds of other trust repositories.
    builder.enable_all().max_blocking_threads(4096);
    builder.build().context("cannot start the runtime")
}

fn watch(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).context("cannot watch for signals")
}

/// sled panics on some damaged stores, which the thread that opens it catches and tells in its own words.
fn quiet_about_damaged_stores() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some(OPENER) {
            usual(panic);
        }
    }));
}

fn filter(text: &str) -> Result<String, ParseError> {
    logging::parse(text).map(|_| text.to_owned())
}

/// What is logged until a configuration was read.
fn first(cli: &Cli, default: &str) -> EnvFilter {
    let given = cli.log.as_deref().unwrap_or(default);
    logging::parse(given).expect("the argument was looked at, and so were the defaults")
}

impl From<LogFormat> for logging::Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
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
            "config show -o xml",
            "tick -o xml",
            "tick --listen 127.0.0.1:1",
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
