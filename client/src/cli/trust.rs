//! `trust add`, `list`, `show`, `floor`, `remove` and `reset`.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use plimsoll_core::{
    oci::{Digest, DigestError, RepositoryAddress},
    tuf::Floor,
};
use serde::Serialize;

use super::{Env, Failure, Out, argument};
use crate::{
    floor,
    trust::{self, Addition, Details, Pinned},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Pin the root of a trust repository, and trust it for its scopes
    Add(AddArgs),
    /// List the pinned roots and what they speak for
    List,
    /// Show one pinned root, its keys, and what is remembered of it
    Show {
        /// The root's name
        name: String,
    },
    /// Write down what was seen of a trust repository, for machines that remember nothing
    Floor {
        /// The root's name
        name: String,
        /// Where to write it, replaced as a whole; else standard output
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Unpin a root; what was seen of it stays remembered
    Remove {
        /// The root's name
        name: String,
    },
    /// Forget what was seen of a trust repository and start over from the pinned root
    Reset {
        /// The root's name
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct AddArgs {
    /// What to call it: lower-case letters, digits, `-` and `_`
    name: String,
    /// The root document
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// sha256 of that file, which the publisher gave you another way
    #[arg(long, value_name = "HEX", value_parser = digest)]
    sha256: Digest,
    /// Where its metadata is fetched, HOST/REPOSITORY
    #[arg(long, value_name = "HOST/REPOSITORY", value_parser = argument::<RepositoryAddress>)]
    repository: RepositoryAddress,
    /// What it shall speak for; else what the root says, at the repository's host
    #[arg(long, value_name = "HOST/SCOPE")]
    scope: Vec<String>,
}

fn digest(text: &str) -> Result<Digest, DigestError> {
    Digest::from_hex(text.strip_prefix("sha256:").unwrap_or(text))
}

pub(super) async fn run(env: &Env, out: &Out, command: Command) -> Result<u8, Failure> {
    match command {
        Command::Add(args) => add(env, out, args)?,
        Command::List => list(env, out)?,
        Command::Show { name } => {
            let details = trust::show(&env.home, &name).await?;
            out.result(&details, &name, &lines(&details))?;
        }
        Command::Floor { name, out: file } => write_floor(env, out, &name, file.as_deref()).await?,
        Command::Remove { name } => {
            let removed = trust::remove(&env.home, &name)?;
            let mut notes: Vec<String> = removed
                .pinned
                .scopes
                .iter()
                .map(|scope| format!("not covered by it any more  {scope}"))
                .collect();
            notes.extend(removed.state.as_ref().map(|state| {
                format!(
                    "still remembered            {} (so a root that comes back is held to it)",
                    state.display()
                )
            }));
            out.result(&removed, &format!("removed {name}"), &notes)?;
        }
        Command::Reset { name, yes } => reset(env, out, &name, yes).await?,
    }
    Ok(0)
}

fn add(env: &Env, out: &Out, args: AddArgs) -> Result<(), Failure> {
    let document = trust::read_root_file(&args.root)?;
    let addition = Addition { name: args.name, repository: args.repository, scopes: args.scope };
    let pinned = trust::add(&env.home, &addition, &document, &args.sha256, &args.root, env.clock.now())?;
    let mut notes: Vec<String> = pinned.scopes.iter().map(|scope| format!("trusted for  {scope}")).collect();
    notes.push(format!("policy       {}", env.home.policy().display()));
    out.result(&pinned, &format!("pinned {}  {}", pinned.name, pinned.repository), &notes)
}

fn list(env: &Env, out: &Out) -> Result<(), Failure> {
    let pinned = trust::list(&env.home)?;
    if out.json() || pinned.is_empty() {
        return out.result(&pinned, "no root is pinned, so nothing can be verified", &[]);
    }
    pinned.iter().try_for_each(|pinned| {
        let notes: Vec<String> = pinned.scopes.iter().map(|scope| format!("trusted for  {scope}")).collect();
        out.result(pinned, &format!("{}  {}", pinned.name, pinned.repository), &notes)
    })
}

fn lines(details: &Details) -> Vec<String> {
    let Pinned { repository, scopes, file, sha256, .. } = &details.pinned;
    let mut lines = vec![
        format!("repository   {repository}"),
        format!("trust id     {}", details.trust.as_deref().unwrap_or("none")),
        format!(
            "pinned root  version {}, expires {}",
            details.version,
            details.expires.format("%Y-%m-%d %H:%M UTC")
        ),
        format!("file         {}", file.display()),
        format!("sha256       {sha256}"),
    ];
    lines.extend(scopes.iter().map(|scope| format!("trusted for  {scope}")));
    for role in &details.roles {
        lines.push(format!("{:<12} {} of {}", role.role, role.threshold, role.keys.join(", ")));
    }
    let version =
        |version: Option<u64>| version.map_or_else(|| "none".to_owned(), |version| version.to_string());
    lines.push(match &details.remembered {
        Some(seen) => format!(
            "remembered   root {}, timestamp {}, snapshot {}",
            version(seen.root),
            version(seen.timestamp),
            version(seen.snapshot)
        ),
        None => "remembered   nothing yet".to_owned(),
    });
    lines.push(format!("state        {}", details.state.display()));
    lines
}

/// Without a file the floor itself is the result, as it would be in the file.
async fn write_floor(env: &Env, out: &Out, name: &str, file: Option<&Path>) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Written<'a> {
        name: &'a str,
        file: &'a Path,
        floor: &'a Floor,
    }
    let floor = floor::of_state(&env.home, name, env.clock.now()).await?;
    let Some(file) = file else { return out.print(floor.to_json().trim_end()) };
    floor::write(&floor, file)?;
    let notes = [
        format!("as of      {}", floor.as_of.format("%Y-%m-%d %H:%M UTC")),
        format!(
            "not below  root {}, timestamp {}, snapshot {}, roles {}",
            floor.root.version,
            floor.timestamp.version,
            floor.snapshot.version,
            floor.roles.len()
        ),
        format!("use it     plimsoll verify --floor {} REFERENCE", file.display()),
    ];
    let text = format!("wrote the floor of {name}  {}", file.display());
    out.result(&Written { name, file, floor: &floor }, &text, &notes)
}

async fn reset(env: &Env, out: &Out, name: &str, yes: bool) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct Reset<'a> {
        name: &'a str,
        state: Option<PathBuf>,
    }
    // Everything is checked before the question is asked.
    let details = trust::list(&env.home)?;
    if details.iter().any(|pinned| pinned.name == name) && !yes {
        confirm(name)?;
    }
    let state = trust::reset(&env.home, name).await?;
    let text = match &state {
        Some(folder) => format!("forgot what was seen of {name}, in {}", folder.display()),
        None => format!("nothing was remembered of {name}"),
    };
    out.result(&Reset { name, state }, &text, &[])
}

fn confirm(name: &str) -> Result<(), Failure> {
    let refused = || Failure::usage(format!("nothing was reset: forgetting {name} was not confirmed"));
    if !io::stdin().is_terminal() {
        return Err(refused().next("answer on a terminal, or give --yes"));
    }
    let question = format!(
        "This machine forgets how new the metadata of {name} was, so older metadata could be shown to it once.\nType \
         the name to go on: "
    );
    let mut stderr = io::stderr();
    let asked = stderr.write_all(question.as_bytes()).and_then(|()| stderr.flush());
    let mut answer = String::new();
    let read = asked.and_then(|()| io::stdin().read_line(&mut answer));
    if read.is_ok() && answer.trim() == name { Ok(()) } else { Err(refused()) }
}
