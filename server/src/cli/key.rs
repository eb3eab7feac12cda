//! `plimsolld key`.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, bail};
use clap::Subcommand;
use plimsoll::publish::api::OnlineKeys;
use serde::Serialize;

use super::{Output, Source};
use crate::keys::{self, Keyring};

#[derive(Debug, Subcommand)]
pub(super) enum Key {
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

/// Does what `command` says.
pub(super) fn run(command: Key) -> anyhow::Result<()> {
    match command {
        Key::Show { name, source, output } => show_keys(&name, source, output),
        Key::Rotate { name, discard: true, source, .. } => discard_keys(&name, source),
        Key::Rotate { name, source, output, .. } => rotate_keys(&name, source, output),
    }
}

fn show_keys(name: &str, source: Source, output: Output) -> anyhow::Result<()> {
    let (data, served) = source.data_of(name)?;
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
    let (data, _) = source.data_of(name)?;
    if !keys::exist(&data, name) {
        bail!("there are no keys for `{name}` in {} that could be replaced", data.join("keys").display());
    }
    Ok(data)
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
