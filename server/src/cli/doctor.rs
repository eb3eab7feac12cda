//! `plimsolld doctor`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::Args;
use plimsoll::clock::{Clock, SystemClock};
use serde::Serialize;
use url::Url;

use super::{Output, backup::Served, runtime};
use crate::doctor::{self, Finding, Level};

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Where the running daemon answers, as http://127.0.0.1:8480
    ///
    /// Default: where the configuration says that it listens.
    #[arg(long, value_name = "URL")]
    server: Option<Url>,
    #[command(flatten)]
    served: Served,
    /// The output format
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

#[derive(Serialize)]
struct Report {
    well: bool,
    findings: Vec<Finding>,
}

/// Looks at everything; the exit code says whether something is wrong.
pub(super) fn doctor(arguments: Doctor) -> anyhow::Result<ExitCode> {
    let config = arguments.served.resolve()?;
    let findings = runtime()?.block_on(doctor::run(&config, arguments.server, SystemClock.now()));
    let well = findings.iter().all(|finding| finding.level != Level::Wrong);
    let mut out = io::stdout().lock();
    if arguments.output == Output::Json {
        let text =
            serde_json::to_string_pretty(&Report { well, findings }).context("the findings as JSON")?;
        writeln!(out, "{text}")?;
    } else {
        for Finding { level, about, trust, found, next } in &findings {
            let level = match level {
                Level::Ok => "ok",
                Level::Warning => "warning",
                Level::Wrong => "WRONG",
            };
            let of = trust.as_ref().map(|trust| format!("{trust}: ")).unwrap_or_default();
            writeln!(out, "{level:<8} {about:<10} {of}{found}")?;
            if let Some(next) = next {
                writeln!(out, "{:<19} do: {next}", "")?;
            }
        }
        writeln!(out, "{}", if well { "nothing is wrong" } else { "something is wrong" })?;
    }
    out.flush()?;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
