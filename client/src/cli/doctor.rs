//! `doctor`: looks for what is wrong, from the policy to the registry. Changes nothing.

use std::{fs, io, os::unix::fs::MetadataExt, path::PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core::{
    policy::{Policy, Verdict},
    tuf::{Document, Root},
};
use serde::Serialize;
use url::Url;

use super::{
    Env, Failure, Out,
    output::{Tone, json, one_line, painted},
    place::{address, chosen},
    servers,
};
use crate::{
    doctor::{Copy, Opinion, judge, second_opinion},
    publish::{self, Depth, RoleStatus, Server},
    registry::Registry,
    trust::{Remembered, load_root, read_policy, show},
    update::{Bounds, RegistrySource, Session, UpdateError},
    verify::{ago, printable},
};

/// The registry's clock may be apart from ours by so much: it shows whole seconds, and is only its word.
const CLOCKS_APART: TimeDelta = TimeDelta::minutes(2);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The pinned root, by its name in the policy; else all of them
    #[arg(value_name = "TRUST")]
    name: Option<String>,
    /// URL of the plimsolld to look for; else the one remembered by init
    #[arg(long, value_name = "URL", env = servers::variable(), value_parser = servers::url)]
    server: Option<Url>,
    /// Ask tough about the copy in this folder: what the command does with itself
    #[arg(long, hide = true, value_name = "FOLDER")]
    judge: Option<PathBuf>,
}

/// What was looked at, and what was seen.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    /// The pinned root that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    state: Grade,
    /// The exit code that it stands for; 0 if nothing is wrong.
    code: u8,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Grade {
    Good,
    /// Nothing is wrong, and still it is good to know.
    Note,
    Bad,
}

#[derive(Serialize)]
struct Report<'a> {
    code: u8,
    findings: &'a [Finding],
}

#[derive(Default)]
struct Findings {
    root: Option<String>,
    all: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, check: &'static str, state: Grade, code: u8, text: &str, next: Option<String>) {
        self.all.push(Finding { check, root: self.root.clone(), state, code, text: one_line(text), next });
    }

    fn good(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(check, Grade::Good, 0, &text.into(), None);
    }

    fn note(&mut self, check: &'static str, text: impl Into<String>, next: Option<&str>) {
        self.add(check, Grade::Note, 0, &text.into(), next.map(str::to_owned));
    }

    fn bad(&mut self, check: &'static str, failure: Failure, next: &str) {
        let Failure { code, text, next: advice } = failure;
        self.add(check, Grade::Bad, code, &text, Some(advice.unwrap_or_else(|| next.to_owned())));
    }

    /// That of the first that is bad.
    fn code(&self) -> u8 {
        self.all.iter().find(|finding| finding.state == Grade::Bad).map_or(0, |finding| finding.code)
    }
}

pub(super) async fn run(env: &Env, out: &Out, args: &Args) -> Result<u8, Failure> {
    if let Some(folder) = &args.judge {
        // Read by the doctor that asked.
        out.print(&json(&judge(folder).await))?;
        return Ok(0);
    }
    let mut findings = Findings::default();
    match read_policy(&env.home) {
        Ok(policy) => {
            let (roots, scopes) = (policy.root.len(), policy.scopes().len());
            let path = env.home.policy();
            let text = format!("{}: roots pinned: {roots}, scopes: {scopes}", path.display());
            if scopes == 0 {
                findings.note("policy", text, Some("plimsoll trust add"));
            } else {
                findings.good("policy", text);
            }
            let names: Vec<String> = match &args.name {
                Some(name) => vec![chosen(&policy, Some(name), None)?],
                None => policy.root.keys().cloned().collect(),
            };
            state_folder(env, &mut findings);
            for name in names {
                findings.root = Some(name.clone());
                root(env, args, &policy, &name, &mut findings).await;
            }
        }
        Err(error) => {
            let advice = format!("repair {}", env.home.policy().display());
            findings.bad("policy", error.into(), &advice);
            state_folder(env, &mut findings);
        }
    }
    let code = findings.code();
    if out.json() {
        out.print(&json(&Report { code, findings: &findings.all }))?;
        return Ok(code);
    }
    for finding in findings.all.iter().filter(|finding| !out.quiet() || finding.state == Grade::Bad) {
        out.print(&line(finding))?;
    }
    Ok(code)
}

fn line(finding: &Finding) -> String {
    let (word, tone) = match finding.state {
        Grade::Good => ("good", Tone::Good),
        Grade::Note => ("note", Tone::Unsure),
        Grade::Bad => ("BAD ", Tone::Bad),
    };
    let whose = finding.root.as_ref().map_or_else(String::new, |root| format!("{root}: "));
    let text = printable(&format!("{whose}{}: {}", finding.check, finding.text));
    let next =
        finding.next.as_ref().map_or_else(String::new, |next| format!("\n      try: {}", printable(next)));
    format!("{}  {text}{next}", painted(word, tone, &io::stdout()))
}

/// Where what was seen is remembered: ours alone, and to be written.
fn state_folder(env: &Env, findings: &mut Findings) {
    const CHECK: &str = "state";
    let folder = env.home.state();
    let shown = folder.display();
    let mode = match fs::metadata(&folder) {
        Ok(metadata) => metadata.mode() & 0o7777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return findings.note(CHECK, format!("{shown} is not there: the first verify makes it"), None);
        }
        Err(error) => {
            let failure = Failure::internal(format!("cannot read {shown}: {error}"));
            return findings.bad(CHECK, failure, "look at its owner and mode");
        }
    };
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        let failure = Failure::internal(format!("{shown} can be written by others (mode {mode:03o})"));
        return findings.bad(CHECK, failure, &format!("chmod 700 {shown}"));
    }
    // Only trying tells: a mount may be read-only, a disk full.
    let probe = folder.join(format!(".doctor-{}", std::process::id()));
    let written = fs::OpenOptions::new().write(true).create_new(true).open(&probe);
    let written = written.and_then(|mut file| io::Write::write_all(&mut file, b"doctor\n"));
    // It may not have been made.
    let _ = fs::remove_file(&probe);
    match written {
        Ok(()) => findings.good(CHECK, format!("{shown} can be written, by nobody else (mode {mode:03o})")),
        Err(error) => {
            let failure = Failure::internal(format!(
                "{shown} cannot be written: {error}; what is seen is not remembered"
            ));
            findings.bad(CHECK, failure, "make room on its disk, or give it to the user who verifies");
        }
    }
}

/// Everything about one pinned root.
async fn root(env: &Env, args: &Args, policy: &Policy, name: &str, findings: &mut Findings) {
    let pinned = match load_root(&env.home, &policy.root[name]) {
        Ok(pinned) => pinned,
        Err(error) => {
            return findings.bad("root", error.into(), "get the root from its publisher again");
        }
    };
    match Document::<Root>::parse("root", &pinned) {
        Ok(root) => findings.good("root", format!("version {} is pinned", root.version())),
        Err(error) => {
            return findings.bad(
                "root",
                UpdateError::from(error).into(),
                "get the root from its publisher again",
            );
        }
    }
    let remembered = memory(env, name, findings).await;
    daemon(env, args, policy, name, findings).await;
    let repository = match address(policy, name) {
        Ok(repository) => repository,
        Err(failure) => {
            return findings.bad("registry", failure, "only what is on a registry is looked at here");
        }
    };
    let mut source = RegistrySource::new(env.registry.clone(), repository.clone());
    let copy = Copy::fetch(&mut source, &pinned).await;
    let mut copy = match copy {
        Ok(copy) => copy,
        Err(error) => {
            let failure = Failure::from(error);
            let auth = failure.code == Verdict::Auth.exit_code();
            let host = &repository.host;
            let next = if auth {
                format!("docker login {host}, as a user who may pull {repository}")
            } else {
                format!("check the network and that {host} runs; then `plimsoll status {name}`")
            };
            return findings.bad("registry", failure, &next);
        }
    };
    findings.good("registry", format!("{repository} answers, with {} files", copy.files()));
    clock(&env.registry, env.clock.now(), findings);
    if !copy.missing().is_empty() {
        let failure = Failure::verdict(
            Verdict::Unreachable,
            format!("the registry lists what it does not have: {}", copy.missing().join(", ")),
        );
        findings.bad("registry", failure, "tell who runs the daemon: it pushes them again");
    }
    metadata(env, &mut copy, &pinned, remembered.as_ref(), findings).await;
}

async fn memory(env: &Env, name: &str, findings: &mut Findings) -> Option<Remembered> {
    match show(&env.home, name).await {
        Ok(details) => {
            match &details.remembered {
                Some(Remembered { timestamp: Some(version), .. }) => {
                    findings.good("memory", format!("timestamp {version} is the newest seen"));
                }
                _ => findings.note("memory", "nothing was verified under it yet", None),
            }
            details.remembered
        }
        Err(error) => {
            let failure = Failure::from(error).named(&env.home);
            findings.bad("memory", failure, &format!("plimsoll trust reset {name}"));
            None
        }
    }
}

async fn daemon(env: &Env, args: &Args, policy: &Policy, name: &str, findings: &mut Findings) {
    const CHECK: &str = "daemon";
    let repository = policy.root[name].location();
    let Ok(url) = servers::server(&env.home, args.server.as_ref(), &repository) else {
        return findings.note(CHECK, "none is known, which only publishers need", None);
    };
    let server = Server::new(env.registry.clone(), url.clone());
    let trusts = match server.trusts().await {
        Ok(trusts) => trusts,
        Err(error) => {
            return findings.bad(CHECK, error.into(), "check that plimsolld runs and that --server names it");
        }
    };
    match trusts.iter().find(|trust| trust.repository == repository) {
        Some(trust) => match &trust.alarm {
            Some(alarm) => {
                let failure = Failure::verdict(Verdict::Unreachable, format!("it is in ALARM: {alarm}"));
                findings.bad(CHECK, failure, "tell who runs it");
            }
            None => findings.good(CHECK, format!("{url} answers")),
        },
        None => {
            let failure = Failure::usage(format!("{url} does not serve {repository}"));
            findings.bad(CHECK, failure, "check --server, or ask who runs it");
        }
    }
}

fn clock(registry: &Registry, now: DateTime<Utc>, findings: &mut Findings) {
    let Some(theirs) = registry.clock() else {
        return findings.note("clock", "the registry did not say what time it is", None);
    };
    let apart = now - theirs;
    if apart.abs() <= CLOCKS_APART {
        return findings.good("clock", "within two minutes of the registry's");
    }
    let way = if apart > TimeDelta::zero() { "ahead of" } else { "behind" };
    let text =
        format!("{} {way} the registry's; one of them is wrong", ago(apart.num_seconds().unsigned_abs()));
    findings.note("clock", text, Some("compare with a time server: what has expired depends on it"));
}

/// What the copy says, for us and for tough.
async fn metadata(
    env: &Env,
    copy: &mut Copy,
    pinned: &[u8],
    remembered: Option<&Remembered>,
    findings: &mut Findings,
) {
    let now = env.clock.now();
    let session = Session::refresh(copy.source(), &copy.state(), pinned, now, &Bounds::default()).await;
    let program = std::env::current_exe();
    let program = program.map_err(|error| Failure::internal(format!("cannot find this program: {error}")));
    let mut session = match session {
        Ok(session) => session,
        Err(error) => {
            if let Ok(program) = &program {
                opinion(second_opinion(program, copy, pinned, Err(&error)).await, findings);
            }
            let next = "if it stays, ask its publisher, by another way than the registry";
            return findings.bad("metadata", error.into(), next);
        }
    };
    let trusted = session.trusted();
    let shown = trusted.timestamp().map(|document| document.version());
    if let Some(seen) =
        remembered.and_then(|remembered| remembered.timestamp).filter(|seen| Some(*seen) > shown)
    {
        let text = format!("the registry shows timestamp {}, and {seen} was seen", shown.unwrap_or_default());
        let failure = Failure::verdict(Verdict::Rollback, text);
        findings.bad("metadata", failure, "ask who runs the registry: it shows an older state than before");
    }
    let roles = match publish::status(&mut session, Depth::Contents).await {
        Ok(roles) => roles,
        Err(error) => return findings.bad("metadata", error.into(), "run this again"),
    };
    for role in &roles {
        freshness(role, now, findings);
    }
    match program {
        Ok(program) => {
            let answer = second_opinion(&program, copy, pinned, Ok((&mut session, &roles))).await;
            opinion(answer, findings);
        }
        Err(failure) => findings.bad("second opinion", failure, "run this again"),
    }
}

fn freshness(role: &RoleStatus, now: DateTime<Utc>, findings: &mut Findings) {
    const CHECK: &str = "freshness";
    let name = &role.role;
    let whose = match name.as_str() {
        "root" => "its owners renew it with `plimsoll ceremony edit --extend`",
        "timestamp" | "snapshot" => "ask who runs the daemon: it does not re-sign it",
        _ => "whoever holds its keys signs something again",
    };
    match (&role.fault, role.expires) {
        (Some(fault), _) if fault == "nothing published yet" => {
            findings.note(CHECK, format!("{name}: {fault}"), None);
        }
        (Some(fault), _) if fault == "expired" => {
            let failure = Failure::verdict(Verdict::Expired, format!("{name} has expired"));
            findings.bad(CHECK, failure, whose);
        }
        (Some(fault), _) => {
            let failure = Failure::verdict(Verdict::Untrusted, format!("{name}: {fault}"));
            findings.bad(CHECK, failure, "ask whoever holds its keys, or those of the role above it");
        }
        (None, Some(expires)) => {
            let left = ago((expires - now).num_seconds().unsigned_abs());
            let text = format!("{name} is good for another {left}");
            if role.aging { findings.note(CHECK, text, Some(whose)) } else { findings.good(CHECK, text) }
        }
        (None, None) => {}
    }
}

fn opinion(answer: Result<Opinion, crate::state::StateError>, findings: &mut Findings) {
    const CHECK: &str = "second opinion";
    match answer {
        Ok(Opinion::Agrees { names }) => {
            findings.good(CHECK, format!("tough says the same of {names} names"));
        }
        Ok(Opinion::RefusesToo(text)) => {
            findings.note(CHECK, format!("tough refuses it, too: {text}"), None);
        }
        Ok(Opinion::Limited(why)) => {
            let text = format!("a limitation of tough, not a disagreement: {}", why.join("; "));
            findings.note(CHECK, text, None);
        }
        Ok(Opinion::Disagrees(how)) => {
            let failure =
                Failure::verdict(Verdict::Untrusted, format!("tough disagrees: {}", how.join("; ")));
            let next = "one of the two is wrong: do not rely on these names, and report it with a copy of the repository";
            findings.bad(CHECK, failure, next);
        }
        Err(error) => findings.bad(CHECK, error.into(), "make room in the system's temporary folder"),
    }
}
