//! `delegate show` and `delegate test`: as the registry serves it to clients.

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::Reference,
    policy::{Policy, Scope, Verdict},
};

use super::list;
use crate::{
    cli::{
        Env, Failure, Out, argument,
        place::{address, chosen, covering},
    },
    publish::{self, Asked, Head, RoleVersion, RoleView, Trace, Why},
    trust::{load_policy, load_root},
    update::RegistrySource,
    verify::{ago, target_name},
};

/// Roles that are not asked are listed up to so many.
const PASSED: usize = 10;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ShowArgs {
    /// The role, for example targets--app
    #[arg(value_name = "ROLE")]
    role: String,
    /// The pinned root, by its name in the policy; else the only one
    name: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct TestArgs {
    /// HOST/REPOSITORY:TAG, HOST/REPOSITORY@sha256:HEX or both; the image need not be there
    #[arg(value_name = "REFERENCE", value_parser = argument::<Reference>)]
    reference: Reference,
    /// The pinned root, by its name in the policy; else the one that the policy names
    name: Option<String>,
}

pub(super) async fn show(env: &Env, out: &Out, args: &ShowArgs) -> Result<u8, Failure> {
    let policy = load_policy(&env.home)?;
    let root = chosen(&policy, args.name.as_deref(), None)?;
    let mut head = head(env, &policy, &root).await?;
    let view = publish::describe(&mut head, &args.role).await?;
    out.result(&view, &view.role, &described(&view, env.clock.now()))?;
    Ok(0)
}

pub(super) async fn test(env: &Env, out: &Out, args: &TestArgs) -> Result<u8, Failure> {
    let policy = load_policy(&env.home)?;
    let name = target_name(&args.reference);
    let root = covering(&policy, args.name.as_deref(), &args.reference, &name)?;
    let mut head = head(env, &policy, &root).await?;
    let trace = publish::trace(&mut head, &name.to_string(), args.reference.digest).await?;
    out.result(&trace, &decided(&trace), &steps(&trace))?;
    Ok(trace.verdict.exit_code())
}

async fn head(env: &Env, policy: &Policy, root: &str) -> Result<Head, Failure> {
    let pinned = load_root(&env.home, &policy.root[root])?;
    let source = RegistrySource::new(env.registry.clone(), address(policy, root)?);
    Ok(publish::as_clients(source, &env.home.state(), &pinned, env.clock.now()).await?)
}

fn described(view: &RoleView, now: DateTime<Utc>) -> Vec<String> {
    let mut notes: Vec<String> =
        view.above.iter().map(|above| format!("below  {}", aged(above, now))).collect();
    let own = RoleVersion { role: "itself".to_owned(), version: view.version, expires: view.expires };
    notes.push(format!("       {}", aged(&own, now)));
    notes.extend(view.fault.iter().map(|fault| format!("wrong  {fault}")));
    let scopes = scopes(&view.paths);
    notes.extend(scopes.iter().map(|scope| format!("scope  {scope}")));
    if !view.terminating {
        notes.push("       not terminating: clients go on to the roles after it".to_owned());
    }
    notes.push(format!("keys   {} of {}", view.threshold, list(&view.keys)));
    notes.push(format!("lists  {} names, and takes {} back", view.targets, view.revocations));
    for below in &view.delegations {
        notes.push(format!(
            "to     {}: {}, {} of {}",
            below.role,
            Scope::spell(&below.paths),
            below.threshold,
            list(&below.keys)
        ));
    }
    notes
}

/// Each scope, and what it means.
fn scopes(paths: &[String]) -> Vec<String> {
    let spelled = Scope::spell(paths);
    let words = |text: &str| match text.parse::<Scope>() {
        Ok(scope) => format!("{text}: {}", scope.in_words()),
        Err(_) => format!("{text}: what this pattern matches"),
    };
    spelled.split(", ").map(words).collect()
}

fn aged(role: &RoleVersion, now: DateTime<Utc>) -> String {
    let (Some(version), Some(expires)) = (role.version, role.expires) else {
        return format!("{}, nothing usable published", role.role);
    };
    let left = (expires - now).num_seconds();
    let life = match u64::try_from(left) {
        Ok(left) if left > 0 => format!("good for another {}", ago(left)),
        _ => format!("expired {} ago", ago(left.unsigned_abs())),
    };
    format!("{} version {version}, {life}", role.role)
}

fn decided(trace: &Trace) -> String {
    let verdict = trace.verdict;
    match trace.digest {
        Some(digest) => format!("{verdict}  {}  {digest}", trace.name),
        None => format!("{verdict}  {}", trace.name),
    }
}

fn steps(trace: &Trace) -> Vec<String> {
    let last = trace.asked.len().saturating_sub(1);
    let step = |(at, asked): (usize, &Asked)| {
        let version = asked.version.map_or_else(|| "-".to_owned(), |version| format!("version {version}"));
        let mut says = match (&asked.revokes, asked.lists) {
            (Some(revocation), _) => format!("takes it back: {}", revocation.reason),
            (None, Some(digest)) => format!("lists {digest}"),
            (None, None) if asked.version.is_none() => "cannot be asked".to_owned(),
            (None, None) => "does not list it".to_owned(),
        };
        if asked.terminating && at == last {
            says.push_str("; terminating, so nobody else is asked");
        }
        format!("{}  {} {version}, by {}: {says}", at + 1, asked.role, Scope::spell(&asked.paths))
    };
    let mut notes: Vec<String> = trace.asked.iter().enumerate().map(step).collect();
    notes.extend(trace.fault.iter().map(|fault| format!("   {fault}")));
    let takes_back = trace.asked.iter().any(|asked| asked.revocations > 0);
    if trace.verdict == Verdict::Absent && takes_back && !trace.name.contains('@') {
        notes.push("   (digests were taken back: for one of them clients read REVOKED; ask for REPOSITORY:TAG@DIGEST)".to_owned());
    }
    for passed in trace.passed.iter().take(PASSED) {
        let why = match passed.why {
            Why::OutOfScope => "it may not speak about this name",
            Why::After => "it comes after the role that decides",
        };
        notes.push(format!("-  {} is not asked: {why}", passed.role));
    }
    let more = trace.passed.len().saturating_sub(PASSED);
    if more > 0 {
        notes.push(format!("-  {more} others are not asked"));
    }
    notes
}
