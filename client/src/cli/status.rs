//! `status` and `inspect`: the roles of a trust repository as a tree, as the registry serves them.

use chrono::{DateTime, Utc};
use plimsoll_core::policy::{Policy, Scope};
use serde::Serialize;

use super::{
    Env, Failure, Out,
    output::{complain, json},
    place::{address, chosen},
};
use crate::{
    publish::{self, Contents, Depth, RoleStatus},
    trust::{load_policy, load_root},
    update::{Bounds, RegistrySource, Session},
    verify::{ago, printable},
};

#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// The pinned root, by its name in the policy; else all of them
    name: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct InspectArgs {
    /// The pinned root, by its name in the policy; else the only one
    name: Option<String>,
    /// Only this role
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
}

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    repository: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    roles: Vec<RoleStatus>,
}

/// Reads from the registry, as a client does: no daemon is needed.
pub(super) async fn status(env: &Env, out: &Out, args: &StatusArgs) -> Result<u8, Failure> {
    let policy = load_policy(&env.home)?;
    let names: Vec<String> = match &args.name {
        Some(name) => vec![chosen(&policy, Some(name), None)?],
        None => policy.root.keys().cloned().collect(),
    };
    let mut code = 0;
    let mut all = Vec::new();
    for name in &names {
        let repository = policy.root[name].location();
        match roles(env, &policy, name, Depth::Roles).await {
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
        tell(out, shown, now)?;
        if let Some(error) = &shown.error {
            complain(&printable(&format!("error: {}: {error}", shown.name)));
        }
    }
    Ok(code)
}

/// As `status`, with all that each role lists.
pub(super) async fn inspect(env: &Env, out: &Out, args: &InspectArgs) -> Result<u8, Failure> {
    let policy = load_policy(&env.home)?;
    let name = chosen(&policy, args.name.as_deref(), None)?;
    let mut roles = roles(env, &policy, &name, Depth::Contents).await?;
    if let Some(wanted) = &args.role {
        let known = roles.iter().map(|role| role.role.as_str()).collect::<Vec<_>>().join(", ");
        roles.retain(|role| role.role == *wanted);
        if roles.is_empty() {
            let text = format!("there is no role `{wanted}`; there are: {known}");
            return Err(Failure::usage(text).next("plimsoll status"));
        }
    }
    let shown = Shown { name: &name, repository: policy.root[&name].location(), error: None, roles };
    tell(out, &shown, env.clock.now())?;
    Ok(0)
}

async fn roles(env: &Env, policy: &Policy, name: &str, depth: Depth) -> Result<Vec<RoleStatus>, Failure> {
    let pinned = load_root(&env.home, &policy.root[name])?;
    let source = RegistrySource::new(env.registry.clone(), address(policy, name)?);
    let mut session =
        Session::refresh(source, &env.home.state(), &pinned, env.clock.now(), &Bounds::default()).await?;
    Ok(publish::status(&mut session, depth).await?)
}

fn tell(out: &Out, shown: &Shown<'_>, now: DateTime<Utc>) -> Result<(), Failure> {
    let mut notes = Vec::new();
    for (at, role) in shown.roles.iter().enumerate() {
        let (branch, below) = branches(&shown.roles, at);
        let detail = format!("{below}    ");
        notes.push(format!("{branch}{}", line(role, now)));
        if !role.paths.is_empty() {
            notes.push(format!("{detail}{} under {}", count(role), Scope::spell(&role.paths)));
        }
        if role.aging && role.fault.as_deref() != Some("expired") {
            notes.push(format!("{detail}! {}", renewal(&role.role)));
        }
        if let Some(fault) = &role.fault {
            notes.push(format!("{detail}! {fault}: {}", remedy(role)));
        }
        notes.extend(role.contents.iter().flat_map(listed).map(|line| format!("{detail}{line}")));
    }
    out.result(shown, &format!("{}  {}", shown.name, shown.repository), &notes)
}

/// `role  version N, good for another TIME, signed by 2 of alice, bob, carol`
fn line(role: &RoleStatus, now: DateTime<Utc>) -> String {
    let version = role.version.map_or_else(String::new, |version| format!("version {version}, "));
    let expiry = role.expires.map_or_else(String::new, |expires| {
        let left = (expires - now).num_seconds();
        match u64::try_from(left) {
            Ok(left) if left > 0 => format!("good for another {}, ", ago(left)),
            _ => format!("expired {} ago, ", ago(left.unsigned_abs())),
        }
    });
    let keys = role.keys.iter().map(|key| key.name.clone().unwrap_or_else(|| key.key_id.short().to_owned()));
    let keys: Vec<String> = keys.collect();
    let signers = match (role.threshold, keys.as_slice()) {
        (1, [only]) => only.clone(),
        (threshold, _) => format!("{threshold} of {}", keys.join(", ")),
    };
    format!("{}  {version}{expiry}signed by {signers}", role.role)
}

fn count(role: &RoleStatus) -> String {
    let names = match role.targets {
        1 => "1 name".to_owned(),
        count => format!("{count} names"),
    };
    match role.revocations {
        0 => names,
        count => format!("{names}, {count} revoked,"),
    }
}

/// The branch in front of the role at `at`, and what stands in front of the lines below it. Root, timestamp, snapshot and
/// targets are the trunk.
fn branches(roles: &[RoleStatus], at: usize) -> (String, String) {
    let parent = |at: usize| {
        let parent = roles[at].parent.as_deref()?;
        roles.iter().position(|role| role.role == parent)
    };
    let is_last = |at: usize| !roles[at + 1..].iter().any(|later| later.parent == roles[at].parent);
    let is_delegated = |at: usize| roles[at].role.contains("--");
    if !is_delegated(at) {
        return (String::new(), String::new());
    }
    let (mut above, mut next) = (String::new(), parent(at));
    while let Some(ancestor) = next.filter(|&ancestor| is_delegated(ancestor)) {
        above.insert_str(0, if is_last(ancestor) { "   " } else { "│  " });
        next = parent(ancestor);
    }
    let (branch, below) = if is_last(at) { ("└─ ", "   ") } else { ("├─ ", "│  ") };
    (format!("{above}{branch}"), format!("{above}{below}"))
}

fn renewal(role: &str) -> &'static str {
    match role {
        "root" => "renew it soon: `plimsoll ceremony edit --extend`",
        "timestamp" | "snapshot" => "the daemon does not re-sign it: look at its log",
        "targets" => "renew it soon: `plimsoll ceremony edit --extend-targets`",
        _ => {
            "sign something again soon, or clients will read EXPIRED for its names: any `plimsoll sign` renews it"
        }
    }
}

fn remedy(role: &RoleStatus) -> &'static str {
    match (role.role.as_str(), role.fault.as_deref()) {
        (_, Some("nothing published yet")) => {
            "clients read UNTRUSTED for its names until its team signs something"
        }
        ("timestamp" | "snapshot", _) => "the daemon does not re-sign it: look at its log",
        ("root", _) => "renew it: `plimsoll ceremony edit --extend`",
        ("targets", _) => "its owners must sign it again: `plimsoll ceremony edit --extend-targets`",
        (_, Some("expired")) => "clients read EXPIRED for its names until any `plimsoll sign` renews it",
        _ => "its team must sign it again; whoever delegates to it may `plimsoll delegate take-over` it",
    }
}

fn listed(contents: &Contents) -> Vec<String> {
    let names = contents.names.iter().map(|(name, entry)| {
        let digest = entry.digest.map_or_else(|| "no usable digest".to_owned(), |digest| digest.to_string());
        let kind = entry.media_type.as_deref().unwrap_or("no media type");
        let immutable = if entry.immutable { "  immutable" } else { "" };
        // A digest's name says its digest.
        if name.contains('@') {
            format!("{name}  {kind}")
        } else {
            format!("{name}  {digest}  {kind}{immutable}")
        }
    });
    let entries = |word: &'static str, list: &[plimsoll_core::tuf::Revocation]| -> Vec<String> {
        let line = |revocation: &plimsoll_core::tuf::Revocation| {
            let what = revocation
                .digest
                .map_or_else(|| Scope::spell(&revocation.paths), |digest| digest.to_string());
            format!("{word} {what}  {}  {}", revocation.at.format("%Y-%m-%d"), revocation.reason)
        };
        list.iter().map(line).collect()
    };
    let revoked = entries("revoked", &contents.revoked);
    names.chain(revoked).chain(entries("reinstated", &contents.reinstated)).collect()
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use plimsoll_core::tuf::KeyId;

    use super::*;
    use crate::publish::{KeyStatus, is_aging};

    fn role(name: &str, parent: &str) -> RoleStatus {
        let now = DateTime::UNIX_EPOCH;
        let key = |id: &str, name: Option<&str>| KeyStatus {
            key_id: KeyId(id.repeat(32)),
            name: name.map(str::to_owned),
        };
        RoleStatus {
            role: name.to_owned(),
            parent: Some(parent.to_owned()),
            version: Some(3),
            signed: Some(now),
            expires: Some(now + TimeDelta::days(80)),
            aging: false,
            keys: vec![key("a1", Some("alice")), key("b2", None)],
            threshold: 2,
            paths: Vec::new(),
            targets: 0,
            revocations: 0,
            fault: None,
            contents: None,
        }
    }

    #[test]
    fn delegations_are_drawn_as_a_tree() {
        let roles = [
            role("root", ""),
            role("targets", "root"),
            role("targets--a", "targets"),
            role("targets--a--x", "targets--a"),
            role("targets--a--x--y", "targets--a--x"),
            role("targets--b", "targets"),
            role("targets--b--z", "targets--b"),
        ];
        let drawn: Vec<String> = roles.iter().enumerate().map(|(at, _)| branches(&roles, at).0).collect();
        assert_eq!(drawn, ["", "", "├─ ", "│  └─ ", "│     └─ ", "└─ ", "   └─ "]);
    }

    #[test]
    fn a_line_names_the_keys_and_counts_down() {
        let mut role = role("targets--a", "targets");
        let short = &role.keys[1].key_id.short().to_owned();
        let text = line(&role, DateTime::UNIX_EPOCH);
        assert_eq!(
            text,
            format!("targets--a  version 3, good for another 80 days, signed by 2 of alice, {short}")
        );
        role.keys.truncate(1);
        role.threshold = 1;
        let text = line(&role, DateTime::UNIX_EPOCH + TimeDelta::days(83));
        assert_eq!(text, "targets--a  version 3, expired 3 days ago, signed by alice");
    }

    #[test]
    fn what_has_less_than_a_fifth_of_its_life_left_is_aging() {
        let now = DateTime::UNIX_EPOCH;
        for (role, days, aging) in
            [("root", 74, false), ("root", 73, true), ("targets--a", 19, false), ("targets--a", 18, true)]
        {
            assert_eq!(is_aging(role, now + TimeDelta::days(days), now), aging, "{role} {days}");
        }
        assert!(!is_aging("timestamp", now + TimeDelta::seconds(1), now));
        assert!(is_aging("timestamp", now, now));
    }
}
