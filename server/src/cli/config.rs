//! `plimsolld config`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Subcommand;

use super::Output;
use crate::{
    config::{Config, Overrides, Shown},
    daemon,
};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check a configuration and the files it names, without starting anything
    Check {
        /// The configuration file; without it, the defaults
        #[arg(value_name = "FILE", env = "PLIMSOLLD_CONFIG")]
        file: Option<PathBuf>,
    },
    /// Print the configuration as it takes effect, defaults included
    Show {
        /// The configuration file; without it, the defaults
        #[arg(value_name = "FILE", env = "PLIMSOLLD_CONFIG")]
        file: Option<PathBuf>,
        /// The output format; text is a configuration file that means the same
        #[arg(short, long, value_name = "FORMAT", default_value = "text")]
        output: Output,
    },
}

/// Does what `command` says.
pub(super) fn run(command: ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check { file } => check(file.as_deref()),
        ConfigCommand::Show { file, output } => show(file.as_deref(), output),
    }
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

fn show(file: Option<&Path>, output: Output) -> anyhow::Result<()> {
    let shown = Shown::new(&Config::resolve(file, &Overrides::default())?);
    let text = if output == Output::Json {
        serde_json::to_string_pretty(&shown).context("the configuration as JSON")? + "\n"
    } else {
        toml::to_string(&shown).context("the configuration as TOML")?
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}
