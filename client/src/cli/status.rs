//! `status`.

use plimsoll_core::{
    policy::{Policy, Scope},
    tuf::KeyId,
};
use serde::Serialize;

use super::{
    Env, Failure, Out,
    output::{complain, json},
    place::{address, chosen},
};
use crate::{
    publish::{self, RoleStatus},
    trust::{load_policy, load_root},
    update::{RegistrySource, Session},
    verify::{ago, printable},
};

#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// The pinned root, by its name in the policy; else all of them
    name: Option<String>,
}

/// Reads from the registry, as a client does: no daemon is needed.
pub(super) async fn status(env: &Env, out: &Out, args: &StatusArgs) -> Result<u8, Failure> {
    #[derive(Serialize)]
    struct Shown<'a> {
        name: &'a str,
        repository: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
        roles: Vec<RoleStatus>,
    }
    let policy = load_policy(&env.home)?;
    let names: Vec<String> = match &args.name {
        Some(name) => vec![chosen(&policy, Some(name), None)?],
        None => policy.root.keys().cloned().collect(),
    };
    let mut code = 0;
    let mut all = Vec::new();
    for name in &names {
        let repository = policy.root[name].repository.as_str();
        match roles(env, &policy, name).await {
            Ok(roles) => all.push(Shown { name, repository, error: None, roles }),
            // One root that is down does not hide the others.
            Err(failure) => {
                code = if code == 0 { failure.code } else { code };
                let error = Some(failure.named(&env.home).text);
                all.push(Shown { name, repository, error, roles: Vec::new() });
            }
        }
    }
    if out.json() {
        out.print(&json(&all))?;
        return Ok(code);
    }
    let now = env.clock.now();
    for shown in &all {
        let notes: Vec<String> = shown.roles.iter().map(|role| line(role, now)).collect();
        out.result(shown, &format!("{}  {}", shown.name, shown.repository), &notes)?;
        if let Some(error) = &shown.error {
            complain(&printable(&format!("error: {}: {error}", shown.name)));
        }
    }
    Ok(code)
}

async fn roles(env: &Env, policy: &Policy, name: &str) -> Result<Vec<RoleStatus>, Failure> {
    let pinned = load_root(&env.home, name, &policy.root[name])?;
    let source = RegistrySource::new(env.registry.clone(), address(policy, name));
    let mut session = Session::refresh(source, &env.home.state(), &pinned, env.clock.now()).await?;
    Ok(publish::status(&mut session).await?)
}

fn line(role: &RoleStatus, now: chrono::DateTime<chrono::Utc>) -> String {
    let version = role.version.map_or_else(|| "-".to_owned(), |version| format!("version {version}"));
    let expiry = role.expires.map_or_else(String::new, |expires| {
        let left = (expires - now).num_seconds();
        match u64::try_from(left) {
            Ok(left) if left > 0 => format!(", good for another {}", ago(left)),
            _ => format!(", expired {} ago", ago(left.unsigned_abs())),
        }
    });
    let keys: Vec<&str> = role.keys.iter().map(KeyId::short).collect();
    let mut line = format!("{:<28} {version}{expiry}; {} of {}", role.role, role.threshold, keys.join(", "));
    if !role.paths.is_empty() {
        line.push_str(&format!("; {} names under {}", role.targets, Scope::spell(&role.paths)));
    }
    if let Some(fault) = &role.fault {
        line.push_str(&format!("; {fault}"));
    }
    line
}
