//! `init`: makes a trust repository.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::builder::Resettable;
use plimsoll_core::{oci::RepositoryAddress, policy::Scope};
use serde::Serialize;
use url::Url;

use super::{
    Env, Failure, Out, argument,
    key::{SignerArgs, signers},
    servers,
};
use crate::{
    publish::{InitRequest, PublishError, Server, api::OnlineKeys, prepare, seen, served},
    state::{read, replace},
    trust::{self, Addition},
};

const MAX_ONLINE: u64 = 64 * 1024;

#[derive(Debug, clap::Args)]
#[command(mut_arg("key", |key| key.required_unless_present(Resettable::Reset).required(true).help(
    "Sign with this private key, which becomes an owner's; once for each key, and each may then sign alone (threshold 1)"
)))]
pub(super) struct Args {
    /// Where the metadata shall be, HOST/REPOSITORY; the daemon must be configured for it
    #[arg(value_parser = argument::<RepositoryAddress>)]
    repository: RepositoryAddress,
    /// What it may speak about, for example 'acme/**'; once for each scope
    #[arg(long, required = true)]
    scope: Vec<Scope>,
    #[command(flatten)]
    signer: SignerArgs,
    /// URL of the plimsolld that shall keep it fresh
    #[arg(long, value_name = "URL", env = servers::variable(), value_parser = servers::url)]
    server: Url,
    /// JSON file with the daemon's online keys, which came another way than from the daemon; it must have the same
    #[arg(long, value_name = "FILE")]
    online_pub: Option<PathBuf>,
    /// What to call it in the policy; else what the daemon calls it
    #[arg(long)]
    name: Option<String>,
    /// Where to write the root that clients pin; else NAME-root.json
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Made {
    name: String,
    repository: String,
    trust: String,
    scopes: Vec<String>,
    root: PathBuf,
    sha256: String,
    online: BTreeMap<&'static str, String>,
    timestamp: u64,
    trust_add: String,
}

pub(super) async fn run(env: &Env, out: &Out, args: &Args) -> Result<u8, Failure> {
    let online = args.online_pub.as_deref().map(online_keys).transpose()?;
    let keys = args.signer.open()?;
    let server = Server::new(env.registry.clone(), args.server.clone());
    let info = served(&server, &args.repository).await?;
    if let Some(trust_id) = info.trust_id {
        let repository = args.repository.to_string();
        return Err(PublishError::AlreadyInitialised { repository, trust_id }.into());
    }
    let name = args.name.clone().unwrap_or(info.name);
    let file = args.out.clone().unwrap_or_else(|| format!("{name}-root.json").into());
    let scopes = args.scope.iter().map(|scope| format!("{}/{scope}", args.repository.host)).collect();
    let addition = Addition { name: name.clone(), repository: args.repository.clone(), scopes };
    // Whatever could stop us afterwards is looked at before anything is published, for that cannot be undone.
    trust::check_addition(&env.home, &addition)?;
    if file.symlink_metadata().is_ok() {
        return Err(Failure::usage(format!("`{}` exists already and is not overwritten", file.display()))
            .next("move it away, or give --out FILE"));
    }
    out.aside("the daemon's online keys; compare with `plimsolld key show` on its machine:");
    for (role, id) in info.online.ids() {
        out.aside(&format!("  {role:<9}  {id}"));
    }
    let request = InitRequest {
        repository: args.repository.clone(),
        scopes: args.scope.clone(),
        // The ones just shown, or the ones given: a daemon that now has others is refused.
        online: Some(online.unwrap_or(info.online)),
    };
    let prepared = prepare(&server, &request, &signers(&keys), &env.clock).await?;
    // Before the daemon has it: a trust repository whose root is lost cannot be used by anybody, nor made again.
    std::path::absolute(&file).and_then(|path| replace(&path, &prepared.root, 0o644)).map_err(|error| {
        Failure::internal(format!("nothing was made: cannot write {}: {error}", file.display()))
    })?;
    let (root, hash) = (prepared.root.clone(), prepared.sha256);
    let submitted = prepared.submit(&server).await;
    if let Err(error) = &submitted
        && !error.may_be_taken()
    {
        // Written a moment ago, for nothing. If it stays, the first failure is still the one to tell.
        let _ = std::fs::remove_file(&file);
    } else {
        trust::add(&env.home, &addition, &root, &hash, &file, env.clock.now())?;
        servers::remember(&env.home, &args.repository.to_string(), &args.server)?;
    }
    let confirmed = match submitted {
        Ok(made) => {
            let (place, state) = ((&env.registry, &args.repository), env.home.state());
            seen(place, &state, &root, &env.clock, made.timestamp, &[]).await.map(|()| made)
        }
        Err(error) => Err(error),
    };
    let made = confirmed.map_err(|error| {
        let taken = error.may_be_taken();
        let failure = Failure::from(error);
        if !taken {
            return failure;
        }
        failure.next(format!(
            "keep {}: it is the root, pinned here as {name}; `plimsoll status {name}` tells when it is published. Was \
             it never taken, remove both and run this again",
            file.display()
        ))
    })?;

    let sha256 = made.sha256.hex();
    let shown = file.display();
    let trust_add = format!(
        "plimsoll trust add {name} --root {shown} --sha256 {sha256} --repository {}",
        args.repository
    );
    let notes = [
        format!("trust id   {}", made.trust_id),
        format!("speaks for {}", addition.scopes.join(" ")),
        format!("root       {shown}  (give this file to clients, and the hash below by another way)"),
        "clients run:".to_owned(),
        format!("  {trust_add}"),
    ];
    let made = Made {
        name,
        repository: args.repository.to_string(),
        trust: made.trust_id,
        scopes: addition.scopes,
        root: file,
        sha256,
        online: made.online.ids().into_iter().map(|(role, id)| (role, id.0)).collect(),
        timestamp: made.timestamp,
        trust_add,
    };
    out.result(&made, &format!("made {}", made.repository), &notes)?;
    Ok(0)
}

/// `{"timestamp": KEY, "snapshot": KEY}`, as the daemon's API and `plimsolld key show` write it.
fn online_keys(path: &Path) -> Result<OnlineKeys, Failure> {
    let wrong =
        |why: String| Failure::usage(format!("cannot use `{}` as online keys: {why}", path.display()));
    let bytes = read(path, MAX_ONLINE).map_err(|error| wrong(error.to_string()))?;
    let bytes = bytes.ok_or_else(|| wrong("there is no such file".to_owned()))?;
    plimsoll_core::tuf::json::check(&bytes).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))
}
