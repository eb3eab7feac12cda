//! `policy check`, `explain`, `test` and `init`.

mod notes;
mod table;
mod words;

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use plimsoll_core::{
    oci::Reference,
    policy::{Format, Verdict},
};
use serde::Serialize;

use super::{
    Env, Failure, Out, argument,
    output::{Tone, painted},
    verify::{Floors, behind},
};
use crate::{
    state::create_private_folder,
    trust::{format_of, load_policy},
    verify::{Context, Judged, Mode, Options, Verification, chain, printable, verify, verify_all},
};

use table::Expectation;
use words::Step;

/// What `policy init` writes.
const STARTER: &str = include_str!("policy/starter.toml");
/// A table of expectations may be this long, bytes.
const MAX_TABLE: u64 = 4 * 1024 * 1024;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Say whether the policy and all that it names can be used; no network
    Check,
    /// Decide on a reference and say in words how each step came out
    Explain {
        /// What to judge, as for `verify`
        #[arg(value_name = "REFERENCE", value_parser = argument::<Reference>)]
        reference: Reference,
        #[command(flatten)]
        floors: Floors,
    },
    /// Compare verdicts with a table of what is expected: a reference and a verdict on each line
    Test {
        /// The table; `#` begins a comment, and `-` is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        floors: Floors,
    },
    /// Write a commented policy to start from; one that is there is never overwritten
    Init,
}

pub(super) async fn run(env: &Env, out: &Out, command: Command) -> Result<u8, Failure> {
    match command {
        Command::Check => check(env, out),
        Command::Explain { reference, floors } => explain(out, &floors.context(env)?, &reference).await,
        Command::Test { file, floors } => test(env, out, &file, &floors).await,
        Command::Init => init(env, out),
    }
}

#[derive(Serialize)]
struct Checked {
    policy: PathBuf,
    profile: Option<String>,
    roots: usize,
    scopes: usize,
    remaps: usize,
    profiles: Vec<String>,
    /// What is allowed and hardly meant.
    notes: Vec<String>,
}

/// Reads everything that a verification could need from this machine, and asks nobody.
fn check(env: &Env, out: &Out) -> Result<u8, Failure> {
    let policy = load_policy(&env.home)?;
    let path = env.home.policy();
    let found = notes::notes(&env.home, &policy, env.clock.now());
    let checked = Checked {
        roots: policy.root.len(),
        scopes: policy.scopes().len(),
        remaps: policy.remaps().len(),
        profiles: policy.profiles().map(str::to_owned).collect(),
        profile: env.home.profile().map(str::to_owned),
        policy: path,
        notes: found,
    };
    let head = format!(
        "good  {}: roots {}, scopes {}, remaps {}, profiles {}",
        checked.policy.display(),
        checked.roots,
        checked.scopes,
        checked.remaps,
        if checked.profiles.is_empty() { "none".to_owned() } else { checked.profiles.join(", ") },
    );
    let notes: Vec<String> = checked.notes.iter().map(|note| format!("note  {note}")).collect();
    out.result(&checked, &head, &notes)?;
    Ok(0)
}

#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    verification: &'a Verification,
    steps: &'a [Step],
}

async fn explain(out: &Out, context: &Context, reference: &Reference) -> Result<u8, Failure> {
    let verification = verify(context, reference, Mode::Verify).await?;
    let steps = words::steps(&context.policy, reference, &verification);
    let head =
        format!("{}  {}{}", shown(verification.verdict), verification.reference, behind(&verification, out));
    let width = steps.iter().map(|step| step.step.len()).max().unwrap_or_default();
    let lines: Vec<String> =
        steps.iter().map(|Step { step, text }| format!("{step:<width$}  {text}")).collect();
    out.result(&Explained { verification: &verification, steps: &steps }, &head, &lines)?;
    Ok(verification.verdict.exit_code())
}

fn shown(verdict: Verdict) -> String {
    let tone = match verdict {
        Verdict::Verified => Tone::Good,
        Verdict::Absent | Verdict::NoPolicy | Verdict::Unreachable | Verdict::Auth => Tone::Unsure,
        _ => Tone::Bad,
    };
    painted(verdict.name(), tone, &io::stdout())
}

#[derive(Serialize)]
struct Tested {
    line: usize,
    reference: String,
    expected: Verdict,
    /// None where a fault of this machine is in the way.
    verdict: Option<Verdict>,
    ok: bool,
    reason: String,
}

/// 0 if every verdict is as expected, else 16, whatever the verdicts are; 1 or 2 if a fault of this machine is in the way of
/// one.
async fn test(env: &Env, out: &Out, file: &Path, floors: &Floors) -> Result<u8, Failure> {
    let unread = |why: String| Failure::usage(format!("cannot read {}: {why}", file.display()));
    let text = read(file).map_err(|error| unread(error.to_string()))?;
    let expectations =
        table::parse(&text).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    let context = floors.context(env)?;
    let references: Vec<Reference> = expectations.iter().map(|line| line.reference.clone()).collect();
    let found = verify_all(&context, &references, Mode::Verify, &Options::default()).await?;
    let fault = found.iter().filter_map(|judged| Some(judged.as_ref().err()?.exit_code())).max();
    let tested: Vec<Tested> =
        expectations.iter().zip(found).map(|(line, judged)| Tested::of(line, judged)).collect();
    let failed = tested.iter().filter(|line| !line.ok).count();
    if out.json() {
        out.result(&tested, "", &[])?;
    } else {
        for line in &tested {
            let Tested { line: number, reference, expected, verdict, ok, reason } = line;
            let (word, tone) = if *ok { ("ok  ", Tone::Good) } else { ("FAIL", Tone::Bad) };
            let word = painted(word, tone, &io::stdout());
            let verdict = verdict.map_or("not judged", Verdict::name);
            out.print(&printable_line(&match ok {
                true => format!("{word}  {reference}  {verdict}"),
                false => {
                    format!("{word}  {reference}  line {number}: expected {expected}, is {verdict}: {reason}")
                }
            }))?;
        }
        out.aside(&format!("{} of {} as expected", tested.len() - failed, tested.len()));
    }
    Ok(match (fault, failed) {
        (Some(code), _) => code,
        (None, 0) => 0,
        (None, _) => Verdict::PolicyDeny.exit_code(),
    })
}

impl Tested {
    fn of(line: &Expectation, judged: Judged) -> Self {
        let (number, expected) = (line.number, line.expected);
        match judged {
            Ok(v) => Self {
                line: number,
                reference: v.reference,
                expected,
                verdict: Some(v.verdict),
                ok: v.verdict == expected,
                reason: v.reason,
            },
            Err(fault) => Self {
                line: number,
                reference: line.reference.to_string(),
                expected,
                verdict: None,
                ok: false,
                reason: chain(&*fault),
            },
        }
    }
}

/// The text without what could move a cursor; the colour of its first word is ours.
fn printable_line(text: &str) -> String {
    match text.split_once("  ") {
        Some((word, rest)) => format!("{word}  {}", printable(rest)),
        None => printable(text),
    }
}

fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let stream: Box<dyn Read> =
        if file == Path::new("-") { Box::new(io::stdin()) } else { Box::new(fs::File::open(file)?) };
    stream.take(MAX_TABLE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_TABLE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

#[derive(Serialize)]
struct Started {
    policy: PathBuf,
}

fn init(env: &Env, out: &Out) -> Result<u8, Failure> {
    let path = env.home.policy();
    if format_of(&path) == Format::Json && !path.exists() {
        return Err(Failure::usage(format!(
            "a policy to start from is TOML, and {} would not be",
            path.display()
        ))
        .next("name it policy.toml"));
    }
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::usage(format!("there is a policy at {}, and it is not overwritten", path.display()))
                .next("plimsoll policy check")
        }
        _ => Failure::internal(format!("cannot write {}: {error}", path.display())),
    };
    if path.symlink_metadata().is_ok() {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    }
    create_private_folder(path.parent().unwrap_or(Path::new("."))).map_err(failed)?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
    let written = file.write_all(STARTER.as_bytes()).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half a policy would bar the next try.
        let _ = fs::remove_file(&path);
        return Err(failed(error));
    }
    let next =
        "next  plimsoll trust add NAME --root FILE --sha256 HEX --repository HOST/REPOSITORY".to_owned();
    out.result(&Started { policy: path.clone() }, &format!("wrote {}", path.display()), &[next])?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use plimsoll_core::policy::{Policy, PolicyFile};

    use super::*;

    /// As it is written it pins nothing; with the examples taken in, it is a policy that says everything once.
    #[test]
    fn the_starter_is_a_policy_with_and_without_its_examples() {
        assert_eq!(PolicyFile::from_toml(STARTER).unwrap(), PolicyFile::default());
        let examples: String = STARTER
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(example) if !example.starts_with(' ') => format!("{example}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let policy = Policy::parse(&examples).unwrap_or_else(|error| panic!("{error} {:?}", error.rule));
        assert!(policy.root.len() == 2 && policy.scopes().len() >= 4 && policy.remaps().len() == 1);
        assert_eq!(policy.profiles().collect::<Vec<_>>(), ["ci"]);
    }
}
