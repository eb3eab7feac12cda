//! `plimsolld token`.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, bail};
use chrono::{SecondsFormat, TimeDelta};
use clap::{Args, Subcommand};
use plimsoll::clock::{Clock, SystemClock};

use super::{Output, Source};
use crate::{
    config::{Config, Overrides, duration, valid_name},
    keys,
    secrets::SecretFile,
    tokens::{self, NewToken, Tokens},
};

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a token and print it, this once
    ///
    /// The daemon may be running: it takes the token at once. From the first one on, every submission needs one.
    Add {
        /// What to call it: lower-case letters, digits, `-`
        #[arg(value_parser = name)]
        name: String,
        /// Good for this trust repository only, by its name in the configuration; may be given several times
        #[arg(long = "trust", value_name = "NAME", value_parser = name)]
        trusts: Vec<String>,
        /// Good for this long only, as 90d or 12h
        #[arg(long, value_name = "TIME", value_parser = life)]
        expires: Option<TimeDelta>,
        #[command(flatten)]
        place: Place,
    },
    /// List the tokens: names, what they are for and until when
    List {
        #[command(flatten)]
        place: Place,
        /// The output format
        #[arg(short, long, value_name = "FORMAT", default_value = "text")]
        output: Output,
    },
    /// Take a token back, at once
    Remove {
        /// Its name
        #[arg(value_parser = name)]
        name: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
pub(super) struct Place {
    #[command(flatten)]
    source: Source,
    /// The file of tokens; else `tokens` in the configuration, else tokens.toml in the data folder
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) fn run(command: Token) -> anyhow::Result<()> {
    match command {
        Token::Add { name, trusts, expires, place } => {
            let config = place.config()?;
            if let Some(unknown) = trusts.iter().find(|name| !config.trusts.iter().any(|t| t.name == **name))
                && place.source.config.is_some()
            {
                bail!("the configuration has no trust repository `{unknown}`");
            }
            let now = SystemClock.now();
            let trusts = (!trusts.is_empty()).then(|| trusts.into_iter().collect::<BTreeSet<_>>());
            let expires = expires.map(|life| now + life);
            let path = place.path(&config)?;
            let token = tokens::add(&path, &NewToken { name: name.clone(), trusts, expires }, now)?;
            let mut out = io::stdout().lock();
            writeln!(out, "{}", token.expose())?;
            out.flush()?;
            writeln!(
                io::stderr(),
                "made the token {name}; it is not shown again, {} has its hash",
                path.display()
            )?;
        }
        Token::List { place, output } => {
            let path = place.path(&place.config()?)?;
            list(&Tokens::read(&SecretFile::File(path))?.unwrap_or_default(), output)?;
        }
        Token::Remove { name, place } => {
            let path = place.path(&place.config()?)?;
            tokens::remove(&path, &name)?;
            writeln!(io::stderr(), "removed the token {name}")?;
        }
    }
    Ok(())
}

fn list(tokens: &Tokens, output: Output) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if output == Output::Json {
        writeln!(out, "{}", serde_json::to_string_pretty(tokens).context("the tokens as JSON")?)?;
    } else {
        for token in &tokens.list {
            let time = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
            let trusts = match &token.trusts {
                Some(trusts) => trusts.iter().map(String::as_str).collect::<Vec<_>>().join(","),
                None => "all".to_owned(),
            };
            let expires = token.expires.map_or("never".to_owned(), time);
            writeln!(out, "{}  for {trusts}  made {}  expires {expires}", token.name, time(token.created))?;
        }
    }
    out.flush()?;
    Ok(())
}

impl Place {
    fn config(&self) -> anyhow::Result<Config> {
        let overrides = Overrides { data: self.source.data.clone(), ..Overrides::default() };
        Ok(Config::resolve(self.source.config.as_deref(), &overrides)?)
    }

    fn path(&self, config: &Config) -> anyhow::Result<PathBuf> {
        match (&self.file, &config.api.tokens) {
            (Some(path), _) | (None, Some(SecretFile::File(path))) => Ok(path.clone()),
            (None, Some(file @ SecretFile::Credential(_))) => {
                bail!(
                    "{file} is what systemd hands to the service: give --file FILE, the one that LoadCredential= names"
                )
            }
            (None, None) => {
                keys::private_folder(&config.data)?;
                Ok(tokens::default_file(&config.data))
            }
        }
    }
}

fn name(text: &str) -> Result<String, String> {
    if valid_name(text) {
        Ok(text.to_owned())
    } else {
        Err("use lower-case letters, digits and `-`, at most 64".to_owned())
    }
}

fn life(text: &str) -> Result<TimeDelta, String> {
    duration(text).ok_or_else(|| "write it as 90d, 12h or 30m; at most 3650d".to_owned())
}
