//! `plimsolld config`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Subcommand;

use crate::{
    config::{Config, Overrides},
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
}

/// Does what `command` says.
pub(super) fn run(command: ConfigCommand) -> anyhow::Result<()> {
    let ConfigCommand::Check { file } = command;
    check(file.as_deref())
}

fn check(file: Option<&Path>) -> anyhow::Result<()> {
    let config = Config::resolve(file, &Overrides::default())?;
    daemon::check(&config)?;
    let mut out = io::stdout().lock();
    writeln!(out, "data    {}", config.data.display())?;
    writeln!(out, "listen  {}", config.listen)?;
    for trust in &config.trusts {
        match &trust.repository {
            Some(repository) => writeln!(out, "trust   {} at {repository}", trust.name)?,
            None => writeln!(out, "trust   {} on the embedded registry", trust.name)?,
        }
    }
    writeln!(out, "ok")?;
    out.flush()?;
    Ok(())
}
