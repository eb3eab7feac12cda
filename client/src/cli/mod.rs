//! The command line (docs/cli.md): parses, calls the library, prints, and turns the outcome into an exit code.
//!
//! Results go to standard output, faults and advice to standard error. Flags mean one thing everywhere: `--key` signs,
//! `--pub` grants, `-o` is the output format, `--out` a file. Passphrases come from a prompt or a file, never from an
//! argument.

mod ask;
mod audit;
mod bundle;
mod ceremony;
mod content;
mod delegate;
mod doctor;
mod failure;
mod init;
mod key;
mod lock;
mod log;
mod manual;
mod mirror;
mod output;
mod panic;
mod place;
mod policy;
mod progress;
mod promote;
mod reinstate;
mod revoke;
mod servers;
mod sign;
mod status;
mod trust;
mod unsign;
mod usage;
mod verify;

use std::{
    env::VarError, ffi::OsString, io::Write, path::PathBuf, process::ExitCode, sync::Arc, time::Duration,
};

use clap::{CommandFactory, Parser, Subcommand};

use crate::{
    clock::{Clock, SystemClock},
    home::Home,
    registry::{Registry, RegistryOptions},
};

pub use usage::usage_fault;

use failure::Failure;
use output::{Format, Out, unwritten};

/// Says which digest a container tag means now, and who vouched for it.
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
   0 VERIFIED, or done     12 MISMATCH      17 NO_POLICY    30 UNREACHABLE
   1 fault of this machine 14 REVOKED       20 EXPIRED      31 AUTH
  10 ABSENT                15 CONFLICT      21 ROLLBACK      2 usage, policy, arguments
  11 NO_SUCH_TAG           16 POLICY_DENY   22 UNTRUSTED";

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
struct Global {
    /// Format of results: text for people, json for programs
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Text)]
    output: Format,
    /// Print results only, without explanations
    #[arg(short, long, global = true)]
    quiet: bool,
    /// PEM file of CA certificates to trust besides the system's
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Speak plain http to every host, not just to loopback
    #[arg(long, global = true)]
    plain_http: bool,
    /// The policy to use; one whose name ends in .json is read as JSON
    #[arg(long, global = true, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The profile of the policy whose scopes apply in place of its own; else $PLIMSOLL_PROFILE
    #[arg(long, global = true, value_name = "NAME")]
    profile: Option<String>,
}

impl Global {
    /// Where files live, with the policy that was asked for.
    fn home(&self) -> Result<Home, Failure> {
        let mut home = Home::from_env().map_err(|error| Failure::usage(error.to_string()))?;
        if let Some(file) = &self.policy {
            home = home.with_policy(file);
        }
        if let Some(name) = self.profile_name()? {
            home = home.with_profile(&name);
        }
        Ok(home)
    }

    /// The profile that was asked for. A script whose variable is empty meant some profile; a variable of the environment
    /// that is empty counts as unset.
    fn profile_name(&self) -> Result<Option<String>, Failure> {
        if let Some(name) = &self.profile {
            return match name.is_empty() {
                true => Err(Failure::usage("--profile names no profile".to_owned())
                    .next("name one that `plimsoll policy check` lists, or leave the option out")),
                false => Ok(Some(name.clone())),
            };
        }
        match std::env::var("PLIMSOLL_PROFILE") {
            Ok(name) if name.is_empty() => Ok(None),
            Ok(name) => Ok(Some(name)),
            Err(VarError::NotPresent) => Ok(None),
            Err(VarError::NotUnicode(_)) => {
                Err(Failure::usage("$PLIMSOLL_PROFILE is not UTF-8 text, so it names no profile".to_owned()))
            }
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Decide whether what the registry hands out under references may be run
    Verify(verify::Args),
    /// Print the digest that the publisher means, as HOST/REPOSITORY@sha256:HEX
    Resolve(verify::ResolveArgs),
    /// Lock the images of Dockerfiles, compose files and Kubernetes YAML to the digests that are signed now
    Lock(lock::Args),
    /// Verify what runs already; fail if anything is not allowed any more
    Audit(audit::Args),
    /// Pin, list and remove roots of trust
    #[command(subcommand)]
    Trust(trust::Command),
    /// Check, explain and test the policy, or start one
    #[command(subcommand)]
    Policy(policy::Command),
    /// Show the roles of a trust repository: versions, expiries, keys, scopes
    Status(status::StatusArgs),
    /// Show everything in a trust repository: its roles with each name, digest and revocation
    Inspect(status::InspectArgs),
    /// Tell who signed what, and when, from every version that the daemon has
    Log(log::Args),
    /// Look for what is wrong, from the policy to the registry, with a second opinion; changes nothing
    Doctor(doctor::Args),
    /// Carry trust, and images, to where there is no network
    #[command(subcommand)]
    Bundle(bundle::Command),
    /// Copy a trust repository to another registry, verified, and tell how far that is behind
    Mirror(mirror::Args),
    /// Make and show keys
    #[command(subcommand)]
    Key(key::Command),
    /// Make a trust repository
    Init(init::Args),
    /// Give a namespace to other keys
    #[command(subcommand)]
    Delegate(delegate::Command),
    /// Sign with several people, apart in place and time; change who holds a trust repository
    #[command(subcommand)]
    Ceremony(ceremony::Command),
    /// Sign what tags point to now
    Sign(sign::Args),
    /// Copy what is VERIFIED to another name or registry, and sign it there with your own keys
    Promote(promote::Args),
    /// Vouch for a name no longer: clients read ABSENT
    Unsign(unsign::Args),
    /// Take a signed digest back
    Revoke(revoke::Args),
    /// Bring back what a name meant before: one that was revoked, unsigned or replaced
    Reinstate(reinstate::Args),
    /// Print the completions of a shell: `plimsoll completion bash > /etc/bash_completion.d/plimsoll`
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual, one page for each command, into a folder
    Man {
        /// The folder, made if it is not there
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
}

/// What every command has at hand.
struct Env {
    home: Home,
    registry: Registry,
    clock: Arc<dyn Clock>,
}

/// Runs the command line `args`, the program's name first, and returns its exit code (docs/cli.md, "Exit codes").
///
/// Reads the environment (`PLIMSOLL_HOME`, `PLIMSOLL_PROFILE`, `PLIMSOLL_SERVER`, XDG, `NO_COLOR`) and does whatever the
/// command says. It never ends with 0 if the result could not be written, or if something panicked: from then on, and for
/// the whole process, a panic is one line on standard error.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    panic::contained(|| parsed(args))
}

fn parsed(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => {
            if let Some(code) = usage_fault(&Cli::command(), &args, &error) {
                return code.into();
            }
            // Help and version are results too: unwritten, they are failures.
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            return match error.print().and_then(|()| std::io::stdout().flush()) {
                Ok(()) => code.into(),
                Err(error) => Out::new(Format::Text, false).failure(&unwritten(&error)).max(code).into(),
            };
        }
    };
    let mut out = Out::new(cli.global.output, cli.global.quiet);
    match start(cli, &mut out) {
        Ok(code) => code.into(),
        Err(failure) => out.failure(&failure).into(),
    }
}

fn start(cli: Cli, out: &mut Out) -> Result<u8, Failure> {
    let home = cli.global.home()?;
    let options = RegistryOptions {
        ca_file: cli.global.ca_file,
        plain_http: cli.global.plain_http,
        ..RegistryOptions::default()
    };
    let env = Env { home, registry: Registry::new(options)?, clock: Arc::new(SystemClock) };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::internal(format!("cannot start: {error}")))?;
    let result =
        runtime.block_on(command(&env, out, cli.command)).map_err(|failure| failure.named(&env.home));
    // A name server that hangs must not hold up the exit.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn command(env: &Env, out: &mut Out, command: Command) -> Result<u8, Failure> {
    match command {
        Command::Verify(args) => verify::verify(env, out, &args).await,
        Command::Resolve(args) => verify::resolve(env, out, &args).await,
        Command::Lock(args) => lock::run(env, out, &args).await,
        Command::Audit(args) => audit::run(env, out, &args).await,
        Command::Trust(command) => trust::run(env, out, command).await,
        Command::Policy(command) => policy::run(env, out, command).await,
        Command::Status(args) => status::status(env, out, &args).await,
        Command::Inspect(args) => status::inspect(env, out, &args).await,
        Command::Log(args) => log::run(env, out, &args).await,
        Command::Doctor(args) => doctor::run(env, out, &args).await,
        Command::Bundle(command) => bundle::run(env, out, command).await,
        Command::Mirror(args) => mirror::run(env, out, &args).await,
        Command::Key(command) => key::run(out, command),
        Command::Init(args) => init::run(env, out, &args).await,
        Command::Delegate(command) => delegate::run(env, out, command).await,
        Command::Ceremony(command) => ceremony::run(env, out, command).await,
        Command::Sign(args) => sign::run(env, out, &args).await,
        Command::Promote(args) => promote::run(env, out, &args).await,
        Command::Unsign(args) => unsign::run(env, out, &args).await,
        Command::Revoke(args) => revoke::run(env, out, &args).await,
        Command::Reinstate(args) => reinstate::run(env, out, &args).await,
        Command::Completion { shell } => manual::completion(out, shell),
        Command::Man { folder } => manual::pages(out, &folder),
    }
}

/// Parses an argument; a failure tells its causes too.
fn argument<T>(text: &str) -> Result<T, String>
where
    T: std::str::FromStr<Err: std::error::Error + 'static>,
{
    text.parse().map_err(|error: T::Err| crate::verify::chain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
