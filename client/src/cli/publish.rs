//! `sign`, `revoke`, `delegate` and `status`.

use std::path::PathBuf;

use plimsoll_core::{
    oci::{Descriptor, Reference, RepositoryAddress, Tag, TargetName},
    policy::{Policy, Scope, Verdict},
    tuf::KeyId,
};
use serde::Serialize;
use url::Url;

use super::{
    Env, Failure, Out, argument,
    key::{SignerArgs, signers},
    output::{complain, json},
    servers,
};
use crate::{
    keys::load_public,
    publish::{
        self, DelegateRequest, Expected, Publisher, Receipt, RevokeRequest, RoleStatus, Server, SignRequest,
        seen,
    },
    registry::ManifestAnswer,
    trust::{load_policy, load_root, show},
    update::{RegistrySource, Session},
    verify::{ago, printable, target_name},
};

/// A manifest to be signed may be this long, bytes.
const MAX_MANIFEST: u64 = 4 << 20;
const MAX_REASON: usize = 200;

/// Which trust repository, and where its daemon is.
#[derive(Debug, clap::Args)]
pub(super) struct Where {
    /// The pinned root to publish under, by its name in the policy; else the one that the policy names
    #[arg(long, value_name = "NAME")]
    trust: Option<String>,
    /// URL of the plimsolld that takes submissions; else the one remembered by init
    #[arg(long, value_name = "URL", env = servers::variable(), value_parser = servers::url)]
    server: Option<Url>,
}

#[derive(Debug, clap::Args)]
pub(super) struct SignArgs {
    /// HOST/REPOSITORY:TAG; with @sha256:HEX, only if the registry has that digest
    #[arg(value_name = "REFERENCE", value_parser = argument::<Reference>)]
    reference: Reference,
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, clap::Args)]
pub(super) struct RevokeArgs {
    /// HOST/REPOSITORY:TAG, whose signed digest is meant, or HOST/REPOSITORY@sha256:HEX
    #[arg(value_name = "REFERENCE", value_parser = argument::<Reference>)]
    reference: Reference,
    /// Why; everybody who verifies it is shown this
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum DelegateCommand {
    /// Give a namespace to other keys
    Add(Box<DelegateArgs>),
    /// List the roles, their keys and what they may speak about
    List(StatusArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct DelegateArgs {
    /// acme/app (a repository), acme/app:v* (its tags), acme/* (one level), acme/** (all below); HOST/ may lead
    #[arg(value_name = "SCOPE")]
    scope: String,
    /// What to call the role below its parent
    #[arg(long)]
    label: String,
    /// Grant it to this public key; once for each key
    #[arg(long = "pub", required = true, value_name = "FILE")]
    public: Vec<PathBuf>,
    /// How many of these keys must sign
    #[arg(long, default_value_t = 1, value_name = "N")]
    threshold: u64,
    /// The role that delegates
    #[arg(long, default_value = "targets", value_name = "ROLE")]
    parent: String,
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// The pinned root, by its name in the policy; else all of them
    name: Option<String>,
}

pub(super) async fn sign(env: &Env, out: &Out, args: &SignArgs) -> Result<u8, Failure> {
    let name = target_name(&args.reference);
    let policy = load_policy(&env.home)?;
    let root = covering(&policy, args.place.trust.as_deref(), &args.reference, &name)?;
    let server = servers::server(&env.home, args.place.server.as_ref(), &policy.root[&root].repository)?;
    let keys = args.signer.open()?;
    let descriptor = fetch(env, &args.reference, &name).await?;
    let publisher = connect(env, &policy, &root, server).await?;
    let receipt = publisher
        .sign(&SignRequest { name: name.clone(), descriptor: descriptor.clone() }, &signers(&keys))
        .await?;
    confirm(env, &policy, &root, &receipt, Expected::Signed(&name, descriptor.digest)).await?;
    let mut notes: Vec<String> = receipt.names.iter().map(|name| format!("as     {name}")).collect();
    notes.extend(receipt.replaces.map(|before| format!("was    {before}")));
    notes.push(published(&receipt));
    out.result(&receipt, &format!("signed {}  {}", args.reference, descriptor.digest), &notes)?;
    Ok(0)
}

pub(super) async fn revoke(env: &Env, out: &Out, args: &RevokeArgs) -> Result<u8, Failure> {
    let reason = args.reason.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON || reason.chars().any(char::is_control) {
        return Err(Failure::usage(format!("--reason must be 1 to {MAX_REASON} characters on one line")));
    }
    let name = match args.reference.digest {
        Some(digest) => TargetName::Digest { repository: args.reference.repository.name.clone(), digest },
        None => target_name(&args.reference),
    };
    let policy = load_policy(&env.home)?;
    let root = covering(&policy, args.place.trust.as_deref(), &args.reference, &name)?;
    let server = servers::server(&env.home, args.place.server.as_ref(), &policy.root[&root].repository)?;
    let keys = args.signer.open()?;
    let publisher = connect(env, &policy, &root, server).await?;
    let request = RevokeRequest { name: name.clone(), reason: reason.to_owned() };
    let receipt = publisher.revoke(&request, &signers(&keys)).await?;
    let expected = receipt.digest.map_or(Expected::Metadata, |digest| Expected::Revoked(&name, digest));
    confirm(env, &policy, &root, &receipt, expected).await?;
    let digest = receipt.digest.map(|digest| digest.to_string()).unwrap_or_default();
    let mut notes: Vec<String> = receipt.names.iter().map(|name| format!("removed  {name}")).collect();
    notes.push(published(&receipt));
    notes.push("clients read REVOKED from their next update on; stop what runs it already".to_owned());
    out.result(&receipt, &format!("revoked {digest}"), &notes)?;
    Ok(0)
}

pub(super) async fn delegate(env: &Env, out: &Out, command: DelegateCommand) -> Result<u8, Failure> {
    let args = match command {
        DelegateCommand::Add(args) => args,
        DelegateCommand::List(args) => return status(env, out, &args).await,
    };
    let (host, scope) = scope(&args.scope)?;
    let policy = load_policy(&env.home)?;
    let root = chosen(&policy, args.place.trust.as_deref(), host.as_deref())?;
    let server = servers::server(&env.home, args.place.server.as_ref(), &policy.root[&root].repository)?;
    let public = args.public.iter().map(|path| load_public(path)).collect::<Result<_, _>>()?;
    let keys = args.signer.open()?;
    let publisher = connect(env, &policy, &root, server).await?;
    let request = DelegateRequest {
        parent: args.parent,
        scope: scope.clone(),
        label: args.label,
        keys: public,
        threshold: args.threshold,
    };
    let receipt = publisher.delegate(&request, &signers(&keys)).await?;
    confirm(env, &policy, &root, &receipt, Expected::Metadata).await?;
    let notes = [
        format!("covers {}", scope.in_words()),
        format!("signed by {} of {} keys", request.threshold, request.keys.len()),
        published(&receipt),
    ];
    let role = receipt.delegated.as_deref().unwrap_or_default();
    out.result(&receipt, &format!("delegated {scope} to {role}"), &notes)?;
    Ok(0)
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

/// What the registry has under the reference: hashed here, not taken from a header.
async fn fetch(env: &Env, reference: &Reference, name: &TargetName) -> Result<Descriptor, Failure> {
    let wanted = match (reference.digest, name) {
        (Some(digest), _) => digest.to_string(),
        (None, TargetName::Tag { tag, .. }) => Tag::as_str(tag).to_owned(),
        (None, TargetName::Digest { digest, .. }) => digest.to_string(),
    };
    match env.registry.manifest(&reference.repository, &wanted, MAX_MANIFEST, None).await? {
        ManifestAnswer::Found(manifest) => Ok(Descriptor {
            media_type: manifest.media_type,
            digest: manifest.digest,
            size: manifest.bytes.len() as u64,
            data: None,
            annotations: std::collections::BTreeMap::new(),
        }),
        ManifestAnswer::NotFound | ManifestAnswer::NotModified => {
            let text = format!("the registry has no {reference}, so there is nothing to sign");
            Err(Failure::verdict(Verdict::NoSuchTag, text).next("push it first, or check its name"))
        }
    }
}

async fn connect(env: &Env, policy: &Policy, root: &str, server: Url) -> Result<Publisher, Failure> {
    let pinned = load_root(&env.home, root, &policy.root[root])?;
    // What is published must be seen by the verify side's memory, too: one that is damaged is told before.
    show(&env.home, root).await?;
    let server = Server::new(env.registry.clone(), server);
    let state = env.home.publishing();
    Ok(Publisher::connect(env.registry.clone(), server, pinned, &state, env.clock.clone()).await?)
}

/// Reads the registry as clients do: only what they see is said to be done.
async fn confirm(
    env: &Env,
    policy: &Policy,
    root: &str,
    receipt: &Receipt,
    expected: Expected<'_>,
) -> Result<(), Failure> {
    let pinned = load_root(&env.home, root, &policy.root[root])?;
    let place = (&env.registry, &address(policy, root));
    Ok(seen(place, &env.home.state(), &pinned, &env.clock, receipt.timestamp, expected).await?)
}

fn address(policy: &Policy, root: &str) -> RepositoryAddress {
    policy.root[root].address(root).expect("the policy was checked when it was read")
}

/// The root to publish under: the one named, else the one that the policy requires for the reference.
pub(super) fn covering(
    policy: &Policy,
    named: Option<&str>,
    reference: &Reference,
    name: &TargetName,
) -> Result<String, Failure> {
    if named.is_some() {
        return chosen(policy, named, None);
    }
    let Some(selected) = policy.select(reference, &name.to_string()) else {
        return Err(Failure::usage(format!("no scope of your policy covers {}", reference.repository))
            .next("check the reference; `plimsoll trust list` shows what is covered"));
    };
    match selected.roots.as_slice() {
        [(root, _)] => Ok((*root).to_owned()),
        several => Err(which(several.iter().map(|(root, _)| *root))),
    }
}

/// The root called `named`, wherever it is, else the only one, at `host` if that is given.
pub(super) fn chosen(policy: &Policy, named: Option<&str>, host: Option<&str>) -> Result<String, Failure> {
    let roots = policy.root.iter().filter(|(name, entry)| {
        named.is_none_or(|named| named == *name)
            && (named.is_some()
                || host.is_none_or(|host| entry.address(name).is_ok_and(|address| address.host == host)))
    });
    let roots: Vec<&str> = roots.map(|(name, _)| name.as_str()).collect();
    match (roots.as_slice(), named) {
        ([root], _) => Ok((*root).to_owned()),
        ([], Some(named)) => {
            Err(Failure::usage(format!("no root called `{named}` is pinned")).next("plimsoll trust list"))
        }
        ([], None) => {
            Err(Failure::usage("no root is pinned for this".to_owned()).next("plimsoll trust list"))
        }
        (several, _) => Err(which(several.iter().copied())),
    }
}

fn which<'a>(roots: impl Iterator<Item = &'a str>) -> Failure {
    let roots: Vec<&str> = roots.collect();
    Failure::usage(format!("several roots could be meant: {}", roots.join(", "))).next("add --trust NAME")
}

/// A scope with or without a host, by the rule of references: a first component with `.` or `:`, or `localhost`.
fn scope(text: &str) -> Result<(Option<String>, Scope), Failure> {
    let wrong = |error: plimsoll_core::policy::ScopeError| Failure::usage(error.to_string());
    match text.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':', '[']) || host == "localhost" => {
            Ok((Some(host.to_ascii_lowercase()), rest.parse().map_err(wrong)?))
        }
        _ => Ok((None, text.parse().map_err(wrong)?)),
    }
}

fn published(receipt: &Receipt) -> String {
    format!(
        "by     {} version {}, in the registry since timestamp {}",
        receipt.role, receipt.version, receipt.timestamp
    )
}
