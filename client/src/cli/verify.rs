//! `verify` and `resolve`.

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
};

use chrono::{DateTime, Utc};
use plimsoll_core::{oci::Reference, policy::Verdict};

use super::{
    Env, Failure, Out, argument,
    output::{Tone, complain, json, painted},
};
use crate::{
    floor,
    verify::{Context, Mode, Verification, ago, verify as decide},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to judge: HOST/REPOSITORY with :TAG, @sha256:HEX or both; docker's defaults apply
    #[arg(value_name = "REFERENCE", value_parser = argument::<Reference>)]
    reference: Reference,
    #[command(flatten)]
    floors: Floors,
}

/// What holds a machine that remembers nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Floors {
    /// Take nothing older than this file from `plimsoll trust floor` says; may be repeated, for several roots
    #[arg(long, value_name = "FILE")]
    floor: Vec<PathBuf>,
}

impl Floors {
    /// What every verdict of this run needs.
    pub(super) fn context(&self, env: &Env) -> Result<Context, Failure> {
        let mut context = Context::load(env.home.clone(), env.registry.clone(), env.clock.clone())?;
        context.floors = floor::read_all(&env.home, &self.floor)?;
        Ok(context)
    }
}

/// Prints the verdict, whatever it is.
pub(super) async fn verify(env: &Env, out: &Out, args: &Args) -> Result<u8, Failure> {
    let verification = ask(env, args, Mode::Verify).await?;
    let (head, notes) = text(&verification, env.clock.now(), &io::stdout());
    out.result(&verification, &head, &notes)?;
    warn(out, &verification);
    Ok(verification.verdict.exit_code())
}

/// Prints nothing on standard output but what may be run, so that `docker run $(plimsoll resolve REF)` is safe.
pub(super) async fn resolve(env: &Env, out: &Out, args: &Args) -> Result<u8, Failure> {
    let verification = ask(env, args, Mode::Resolve).await?;
    let (head, notes) = text(&verification, env.clock.now(), &io::stderr());
    match &verification.resolved {
        Some(resolved) => out.result(&verification, resolved, &[])?,
        None if out.json() => complain(&json(&verification)),
        None => {
            complain(&head);
            notes.iter().for_each(|note| out.aside(&format!("  {note}")));
        }
    }
    warn(out, &verification);
    Ok(verification.verdict.exit_code())
}

/// The warnings are advice beside the result; JSON holds them itself.
fn warn(out: &Out, verification: &Verification) {
    for warning in verification.warnings.iter().filter(|_| !out.json()) {
        out.aside(&format!("warning: {warning}"));
    }
}

async fn ask(env: &Env, args: &Args, mode: Mode) -> Result<Verification, Failure> {
    let context = args.floors.context(env)?;
    Ok(decide(&context, &args.reference, mode).await?)
}

/// The line with the verdict, and the lines below it.
fn text(v: &Verification, now: DateTime<Utc>, stream: &impl IsTerminal) -> (String, Vec<String>) {
    let tone = match v.verdict {
        Verdict::Verified => Tone::Good,
        Verdict::Absent | Verdict::NoPolicy | Verdict::Unreachable | Verdict::Auth => Tone::Unsure,
        _ => Tone::Bad,
    };
    let mut head = format!("{}  {}", painted(v.verdict.name(), tone, stream), v.reference);
    let mut notes = Vec::new();
    if v.verdict == Verdict::Verified {
        if let Some(digest) = v.digest.filter(|digest| !v.reference.contains(&digest.to_string())) {
            head.push_str(&format!("  {digest}"));
        }
        for root in &v.roots {
            notes.push(format!("signed by  {}, under the root {}", root.path.join(" > "), root.name));
            notes.extend(fresh(root, now).map(|fresh| format!("as of      {fresh}")));
        }
    } else {
        notes.push(format!("why   {}", v.reason));
        notes.extend(v.next.as_ref().map(|next| format!("next  {next}")));
    }
    (head, notes)
}

/// How old the view is, and how long it holds.
fn fresh(root: &crate::verify::RootReport, now: DateTime<Utc>) -> Option<String> {
    let timestamp = root.roles.iter().find(|role| role.role == "timestamp")?;
    // Every role must be unexpired, so the first to expire counts.
    let expires = root.roles.iter().map(|role| role.expires).min()?;
    let left = u64::try_from((expires - now).num_seconds()).unwrap_or(0);
    let age = root.age.map_or_else(String::new, |age| format!("{} ago, ", ago(age)));
    if let Some(by) = root.stale_by {
        return Some(format!("{age}timestamp {}; stale: it ran out {} ago", timestamp.version, ago(by)));
    }
    Some(format!("{age}timestamp {}; good for another {}", timestamp.version, ago(left)))
}
