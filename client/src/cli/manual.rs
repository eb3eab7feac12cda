//! `completion` and `man`: what a package installs beside the binary, made from the command line itself.

use std::{fs, path::Path};

use clap::CommandFactory;
use clap_complete::Shell;
use serde::Serialize;

use super::{Cli, Failure, Out};

const NAME: &str = "plimsoll";

pub(super) fn completion(out: &Out, shell: Shell) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    let script = String::from_utf8(script).expect("what clap writes is text");
    out.print(script.trim_end())?;
    Ok(0)
}

#[derive(Serialize)]
struct Written {
    pages: Vec<String>,
}

/// Writes `plimsoll.1`, `plimsoll-sign.1` and so on. Pages of an earlier version are replaced.
pub(super) fn pages(out: &Out, folder: &Path) -> Result<u8, Failure> {
    let failed = |error: std::io::Error| {
        Failure::internal(format!("cannot write the manual to {}: {error}", folder.display()))
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    clap_mangen::generate_to(command, folder).map_err(failed)?;
    let pages = fs::read_dir(folder).map_err(failed)?.filter_map(Result::ok);
    let mut pages: Vec<String> = pages
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(NAME) && name.ends_with(".1"))
        .collect();
    pages.sort();
    let text = format!("wrote {} pages to {}", pages.len(), folder.display());
    out.result(&Written { pages }, &text, &[])?;
    Ok(0)
}
