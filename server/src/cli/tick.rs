//! `plimsolld tick`.

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context;
use clap::Args;
use plimsoll::clock::SystemClock;

use super::{Output, Source};
use crate::{
    config::{Config, Overrides},
    tick,
};

#[derive(Debug, Args)]
pub(super) struct Tick {
    /// Trust repositories by their names in the configuration; all of them if none is given
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    source: Source,
    /// Sign a new timestamp, whether it is due or not
    #[arg(long)]
    force: bool,
    /// The output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

/// Does one round, and says how it went.
pub(super) async fn tick(arguments: Tick) -> anyhow::Result<ExitCode> {
    let Tick { names, source, force, output } = arguments;
    let overrides = Overrides { data: source.data, ..Overrides::default() };
    let config = Config::resolve(source.config.as_deref(), &overrides)?;
    let ticks = match tick::tick(config, &names, force, Arc::new(SystemClock)).await {
        Ok(ticks) => ticks,
        Err(error) => {
            let code = error.exit_code();
            writeln!(io::stderr(), "plimsolld: {:#}", anyhow::Error::from(error))?;
            return Ok(code.into());
        }
    };
    let mut out = io::stdout().lock();
    if output == Output::Json {
        writeln!(out, "{}", serde_json::to_string_pretty(&ticks).context("the rounds as JSON")?)?;
    } else {
        for tick in &ticks {
            writeln!(out, "{}", tick::line(tick))?;
        }
    }
    out.flush()?;
    Ok(tick::exit_code(&ticks).into())
}
