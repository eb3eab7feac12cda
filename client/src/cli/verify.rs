//! `verify` and `resolve`.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, IsTerminal, Read},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::{Reference, ReferenceError},
    policy::{DurationError, Verdict, duration},
};

use super::{
    Env, Failure, Out, argument,
    output::{Tone, complain, json, json_line, painted},
};
use crate::{
    floor,
    verify::{
        Context, Mode, Options, Part, RootReport, Unjudged, Verification, ago, as_of, chain, printable,
        verify as decide, verify_all,
    },
};

/// A list of references may be this long, bytes.
const MAX_LIST: u64 = 16 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to judge: HOST/REPOSITORY with :TAG, @sha256:HEX or both; docker's defaults apply
    #[arg(value_name = "REFERENCE", required_unless_present = "file")]
    references: Vec<String>,
    /// Judge what this file lists, too, one reference on each line; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// At most so many requests for tags at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    parallel: u16,
    /// For everything together; what has no answer by then is UNREACHABLE
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = argument::<Patience>)]
    deadline: Patience,
    #[command(flatten)]
    floors: Floors,
}

#[derive(Debug, clap::Args)]
pub(super) struct ResolveArgs {
    /// What to judge: HOST/REPOSITORY with :TAG, @sha256:HEX or both; docker's defaults apply
    #[arg(value_name = "REFERENCE", value_parser = argument::<Reference>)]
    reference: Reference,
    #[command(flatten)]
    floors: Floors,
}

/// A time to wait, as the policy writes durations.
#[derive(Debug, Clone, Copy)]
struct Patience(Duration);

impl FromStr for Patience {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let refused = || DurationError { text: text.to_owned() };
        duration(text)?.to_std().map(Self).map_err(|_| refused())
    }
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

/// A reference to be judged, or what was written in its place and why it is none.
type Asked = Result<Reference, Unjudged>;

/// Prints the verdicts, whatever they are: one in full, or several on a line each. The exit code is that of the gravest; that
/// of a line without a verdict, if all others are VERIFIED.
pub(super) async fn verify(env: &Env, out: &Out, args: &Args) -> Result<u8, Failure> {
    let mut asked: Vec<Asked> = args.references.iter().map(|text| read(text, None)).collect();
    if let Some(file) = &args.file {
        asked.extend(listed(file)?);
    }
    let single = asked.len() == 1 && args.file.is_none();
    if let (true, [Err(unread)]) = (single, asked.as_slice()) {
        let next = "name it as HOST/REPOSITORY with :TAG, @sha256:HEX or both";
        return Err(Failure::usage(unread.reason.clone()).next(next));
    }
    let context = args.floors.context(env)?;
    let options = Options { parallel: args.parallel.into(), deadline: args.deadline.0 };
    let references: Vec<Reference> = asked.iter().flatten().cloned().collect();
    let mut judged = verify_all(&context, &references, Mode::Verify, &options).await?.into_iter();
    let mut all = Vec::new();
    for asked in asked {
        all.push(match asked {
            Err(unread) => Err(unread),
            Ok(reference) => match judged.next().expect("each reference was judged") {
                Err(fault) if single => return Err(fault.into()),
                judged => judged.map_err(|fault| Unjudged::of(reference.to_string(), &fault)),
            },
        });
    }
    match all.as_slice() {
        [Ok(one)] if single => show(env, out, one)?,
        several => {
            let line = |judged: &Result<Verification, Unjudged>| match judged {
                Ok(v) if out.json() => json_line(v),
                Err(unjudged) if out.json() => json_line(unjudged),
                Ok(v) => line(v, out, &io::stdout()),
                Err(unjudged) => unknown(unjudged, &io::stdout()),
            };
            out.print(&several.iter().map(line).collect::<Vec<_>>().join("\n"))?;
        }
    }
    let (judged, unjudged): (Vec<&Verification>, Vec<&Unjudged>) =
        (all.iter().flatten().collect(), all.iter().filter_map(|judged| judged.as_ref().err()).collect());
    warn(out, judged.iter().copied());
    let gravest = Verdict::gravest(judged.iter().map(|v| v.verdict));
    if all.len() > 1 && !out.json() {
        let good = judged.iter().filter(|v| v.verdict == Verdict::Verified).count();
        let gravest =
            gravest.map_or_else(String::new, |gravest| format!("; the gravest verdict is {gravest}"));
        let without = match unjudged.len() {
            0 => String::new(),
            count => format!("; {count} could not be judged"),
        };
        out.aside(&format!("{good} of {} are VERIFIED{gravest}{without}", all.len()));
    }
    let faults = unjudged.iter().map(|unjudged| unjudged.exit_code).max();
    Ok(match gravest.unwrap_or(Verdict::Verified) {
        Verdict::Verified => faults.unwrap_or(0),
        gravest => gravest.exit_code(),
    })
}

/// Prints one verdict in full.
pub(super) fn show(env: &Env, out: &Out, verification: &Verification) -> Result<(), Failure> {
    let (head, notes) = text(verification, env.clock.now(), &io::stdout());
    out.result(verification, &head, &notes)
}

/// The references in `file`, one on each line; blank lines and those that start with `#` are for people.
fn listed(file: &Path) -> Result<Vec<Asked>, Failure> {
    let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    let unread = |error: io::Error| Failure::usage(format!("cannot read {name}: {error}"));
    let source: Box<dyn Read> = match file {
        file if file == Path::new("-") => Box::new(io::stdin()),
        file => Box::new(File::open(file).map_err(unread)?),
    };
    let mut text = String::new();
    source.take(MAX_LIST + 1).read_to_string(&mut text).map_err(unread)?;
    if text.len() as u64 > MAX_LIST {
        return Err(Failure::usage(format!("{name} is longer than {} MiB", MAX_LIST >> 20)));
    }
    let lines = text.lines().map(str::trim).enumerate();
    let written = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let references: Vec<Asked> =
        written.map(|(at, line)| read(line, Some(&format!("line {} of {name}", at + 1)))).collect();
    if references.is_empty() {
        // To have judged nothing must not look as if all were well.
        return Err(Failure::usage(format!("{name} lists no reference")));
    }
    Ok(references)
}

/// The reference that is written as `text`, at `place` in a list.
fn read(text: &str, place: Option<&str>) -> Asked {
    text.parse().map_err(|error: ReferenceError| {
        let place = place.map_or_else(String::new, |place| format!("{place}: "));
        Unjudged::unread(text.to_owned(), format!("{place}{}", chain(&error)))
    })
}

/// Prints nothing on standard output but what may be run, so that `docker run $(plimsoll resolve REF)` is safe.
pub(super) async fn resolve(env: &Env, out: &Out, args: &ResolveArgs) -> Result<u8, Failure> {
    let context = args.floors.context(env)?;
    let verification = decide(&context, &args.reference, Mode::Resolve).await?;
    let (head, notes) = text(&verification, env.clock.now(), &io::stderr());
    match &verification.resolved {
        Some(resolved) => out.result(&verification, resolved, &[])?,
        None if out.json() => complain(&json(&verification)),
        None => {
            complain(&head);
            notes.iter().for_each(|note| out.aside(&format!("  {note}")));
        }
    }
    warn(out, std::slice::from_ref(&verification));
    Ok(verification.verdict.exit_code())
}

/// The warnings are advice beside the result, each told once; JSON holds them itself.
pub(super) fn warn<'a>(out: &Out, verifications: impl IntoIterator<Item = &'a Verification>) {
    let mut told = BTreeSet::new();
    for warning in verifications.into_iter().flat_map(|v| &v.warnings).filter(|_| !out.json()) {
        if told.insert(warning) {
            out.aside(&format!("warning: {warning}"));
        }
    }
}

fn tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Verified => Tone::Good,
        Verdict::Absent | Verdict::NoPolicy | Verdict::Unreachable | Verdict::Auth => Tone::Unsure,
        _ => Tone::Bad,
    }
}

/// What stands behind a verdict on its line: how old the view is that it rests on.
pub(super) fn behind(v: &Verification, out: &Out) -> String {
    as_of(v).filter(|_| !out.quiet()).map_or_else(String::new, |as_of| format!("  ({as_of})"))
}

/// One verdict of several, on one line: with the digest that may be run, or why there is none.
fn line(v: &Verification, out: &Out, stream: &impl IsTerminal) -> String {
    let mut line = format!("{}  {}", painted(v.verdict.name(), tone(v.verdict), stream), v.reference);
    match v.digest.filter(|_| v.verdict == Verdict::Verified) {
        Some(digest) => line.push_str(&format!("  {digest}")),
        None if out.quiet() => {}
        None => line.push_str(&format!("  {}", printable(&v.reason))),
    }
    line.push_str(&behind(v, out));
    line
}

/// One of several that has no verdict, on one line.
fn unknown(unjudged: &Unjudged, stream: &impl IsTerminal) -> String {
    let word = painted("UNKNOWN", Tone::Unsure, stream);
    format!("{word}  {}  {}", printable(&unjudged.reference), printable(&unjudged.reason))
}

/// The line with the verdict, and the lines below it.
fn text(v: &Verification, now: DateTime<Utc>, stream: &impl IsTerminal) -> (String, Vec<String>) {
    let mut head = format!("{}  {}", painted(v.verdict.name(), tone(v.verdict), stream), v.reference);
    let mut notes = Vec::new();
    if v.verdict == Verdict::Verified {
        if let Some(digest) = v.digest.filter(|digest| !v.reference.contains(&digest.to_string())) {
            head.push_str(&format!("  {digest}"));
        }
        if v.roots.is_empty() {
            notes.push(format!("why   {}", v.reason));
        }
        for root in v.roots.iter().filter(|root| root.vouches) {
            let fallback = if root.part == Part::Fallback { ", a fallback" } else { "" };
            notes.push(format!(
                "signed by  {}, under the root {}{fallback}",
                root.path.join(" > "),
                root.name
            ));
            notes.extend(fresh(root, now).map(|fresh| format!("as of      {fresh}")));
        }
    } else {
        notes.push(format!("why   {}", v.reason));
        notes.extend(v.next.as_ref().map(|next| format!("next  {next}")));
        notes.extend(as_of(v));
    }
    (head, notes)
}

/// How old the view is, and how long it holds.
fn fresh(root: &RootReport, now: DateTime<Utc>) -> Option<String> {
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
