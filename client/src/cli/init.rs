//! `init`: makes a trust repository.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use plimsoll_core::{oci::RepositoryAddress, policy::Scope, record, tuf::limit};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use url::Url;

use super::{
    Env, Failure, Out, argument,
    ceremony::{made, named},
    key::{SignerArgs, signers},
    place::write_draft,
    servers,
};
use crate::{
    publish::{
        FirstRequest, InitRequest, Prepared, PublishError, Server,
        api::{OnlineKeys, TrustInfo},
        author::Holders,
        first_draft, prepare, seen, served,
    },
    state::{read, replace},
    trust::{self, Addition},
};

const MAX_ONLINE: u64 = 64 * 1024;

#[derive(Debug, clap::Args)]
#[command(mut_arg("key", |key| key
    .conflicts_with("root_pub")
    .help("Sign with this private key, which becomes an owner's; once for each key, and each may then sign alone \
        (threshold 1)")
))]
pub(super) struct Args {
    /// Where the metadata shall be, HOST/REPOSITORY; the daemon must be configured for it
    #[arg(value_parser = argument::<RepositoryAddress>)]
    repository: RepositoryAddress,
    /// What it may speak about, for example 'acme/**'; once for each scope
    #[arg(long, required = true)]
    scope: Vec<Scope>,
    #[command(flatten)]
    signer: SignerArgs,
    /// URL of the plimsolld that shall keep it fresh; not asked if --online-pub is given with --draft
    #[arg(long, value_name = "URL", env = servers::variable(), value_parser = servers::url,
        required_unless_present = "draft")]
    server: Option<Url>,
    #[command(flatten)]
    token: servers::TokenArgs,
    /// JSON file with the daemon's online keys, which came another way than from the daemon; it must have the same
    #[arg(long, value_name = "FILE")]
    online_pub: Option<PathBuf>,
    /// Several holders, who sign later: this public key signs the root; once for each
    #[arg(long, value_name = "FILE", requires = "draft", requires = "root_threshold")]
    root_pub: Vec<PathBuf>,
    /// How many of these keys must sign the root
    #[arg(long, value_name = "N", requires = "root_pub")]
    root_threshold: Option<u64>,
    /// This public key signs `targets`; else those of the root do
    #[arg(long, value_name = "FILE", requires = "root_pub", requires = "targets_threshold")]
    targets_pub: Vec<PathBuf>,
    /// How many of these keys must sign `targets`; else as many as the root needs
    #[arg(long, value_name = "N", requires = "root_pub")]
    targets_threshold: Option<u64>,
    /// Make nothing yet: write a draft to this file, for the holders to sign with `plimsoll ceremony sign`
    #[arg(long, value_name = "FILE", requires = "root_pub", conflicts_with_all = ["name", "out"])]
    draft: Option<PathBuf>,
    /// What to call it in the policy; else what the daemon calls it
    #[arg(long)]
    name: Option<String>,
    /// Where to write the root that clients pin; else NAME-root.json
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// A trust repository that is signed and is to be submitted.
pub(super) struct Making<'a> {
    pub(super) server: Server,
    /// The server's, to be remembered.
    pub(super) url: &'a Url,
    pub(super) addition: Addition,
    /// Where the root is written.
    pub(super) file: PathBuf,
    pub(super) prepared: Prepared,
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
    if let Some(file) = &args.draft {
        return drafted(env, out, args, file).await.map(|()| 0);
    }
    let url = args.server.as_ref().ok_or_else(no_server)?;
    let online = args.online_pub.as_deref().map(online_keys).transpose()?;
    let keys = args.signer.open()?;
    let server = Server::new(env.registry.clone(), url.clone()).with_token(args.token.token()?);
    let info = unmade(&server, &args.repository).await?;
    let name = args.name.clone().unwrap_or(info.name);
    let file = args.out.clone().unwrap_or_else(|| format!("{name}-root.json").into());
    let scopes = args.scope.iter().map(|scope| format!("{}/{scope}", args.repository.host)).collect();
    let addition = Addition { name, repository: args.repository.clone(), scopes };
    check(env, &addition, &file, None)?;
    show_online(out, &info.online);
    let request = InitRequest {
        repository: args.repository.clone(),
        scopes: args.scope.clone(),
        // The ones just shown, or the ones given: a daemon that now has others is refused.
        online: Some(online.unwrap_or(info.online)),
        names: args.signer.names(&keys),
    };
    let prepared = prepare(&server, &request, &signers(&keys), &env.clock).await?;
    make(env, out, Making { server, url, addition, file, prepared }).await?;
    Ok(0)
}

/// Writes a draft of the first root and of `targets`, for several holders to sign.
async fn drafted(env: &Env, out: &Out, args: &Args, file: &Path) -> Result<(), Failure> {
    let root = named(&args.root_pub, &[])?;
    let targets = named(&args.targets_pub, &root)?;
    let threshold = args.root_threshold.expect("--root-pub requires it");
    let targets = Holders {
        keys: if targets.is_empty() { root.clone() } else { targets },
        threshold: args.targets_threshold.unwrap_or(threshold),
    };
    let online = match (&args.online_pub, &args.server) {
        (Some(file), _) => online_keys(file)?,
        (None, Some(url)) => {
            let server = Server::new(env.registry.clone(), url.clone());
            let online = unmade(&server, &args.repository).await?.online;
            show_online(out, &online);
            online
        }
        (None, None) => return Err(no_server()),
    };
    let request = FirstRequest {
        repository: args.repository.clone(),
        scopes: args.scope.clone(),
        root: Holders { keys: root, threshold },
        targets,
        online,
    };
    let draft = first_draft(&request, env.clock.now())?;
    write_draft(file, &draft, false)?;
    made(env, out, file, &draft)
}

/// What the daemon knows of the trust repository, which must not be made yet.
async fn unmade(server: &Server, repository: &RepositoryAddress) -> Result<TrustInfo, PublishError> {
    let info = served(server, repository).await?;
    match info.trust_id {
        Some(trust_id) => {
            Err(PublishError::AlreadyInitialised { repository: repository.to_string(), trust_id })
        }
        None => Ok(info),
    }
}

fn no_server() -> Failure {
    Failure::usage("nobody says what the daemon's online keys are".to_owned())
        .next("give --server URL of its plimsolld, or with --draft --online-pub FILE")
}

pub(super) fn show_online(out: &Out, online: &OnlineKeys) {
    out.aside("the daemon's online keys; compare with `plimsolld key show` on its machine:");
    for (role, id) in online.ids() {
        out.aside(&format!("  {role:<9}  {id}"));
    }
}

/// Whatever could stop us afterwards is looked at before anything is published, for that cannot be undone.
/// What was written for the same `root` by somebody who was interrupted is no obstacle.
fn check(env: &Env, addition: &Addition, file: &Path, root: Option<&[u8]>) -> Result<(), Failure> {
    trust::check_addition(&env.home, addition)?;
    let written = || read(file, limit::ROOT).ok().flatten();
    if file.symlink_metadata().is_ok() && root.is_none_or(|root| written().as_deref() != Some(root)) {
        return Err(Failure::usage(format!("`{}` exists already and is not overwritten", file.display()))
            .next("move it away, or give --out FILE"));
    }
    Ok(())
}

/// Submits a trust repository, pins it here, and waits until it is seen.
pub(super) async fn make(env: &Env, out: &Out, making: Making<'_>) -> Result<(), Failure> {
    let Making { server, url, addition, file, prepared } = making;
    let (name, repository) = (addition.name.clone(), addition.repository.clone());
    check(env, &addition, &file, Some(&prepared.root))?;
    let written_before = file.symlink_metadata().is_ok();
    // Before the daemon has it: a trust repository whose root is lost cannot be used by anybody, nor made again.
    std::path::absolute(&file).and_then(|path| replace(&path, &prepared.root, 0o644)).map_err(|error| {
        Failure::internal(format!("nothing was made: cannot write {}: {error}", file.display()))
    })?;
    let (root, hash) = (prepared.root.clone(), prepared.sha256);
    let submitted = prepared.submit(&server).await;
    if let Err(error) = &submitted
        && !error.may_be_taken()
    {
        // Written a moment ago, for nothing; but an earlier try that wrote it may have been taken. If it stays, the first
        // failure is still the one to tell.
        if !written_before {
            let _ = std::fs::remove_file(&file);
        }
    } else {
        trust::add(&env.home, &addition, &root, &hash, &file, env.clock.now())?;
        servers::remember(&env.home, &repository.to_string(), url)?;
    }
    let confirmed = match submitted {
        Ok(made) => {
            let (place, state) = ((&env.registry, &repository), env.home.state());
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
    let trust_add =
        format!("plimsoll trust add {name} --root {shown} --sha256 {sha256} --repository {repository}");
    let notes = [
        format!("trust id   {}", made.trust_id),
        format!("speaks for {}", addition.scopes.join(" ")),
        format!("root       {shown}  (give this file to clients, and the hash below by another way)"),
        "clients run:".to_owned(),
        format!("  {trust_add}"),
    ];
    let made = Made {
        name,
        repository: repository.to_string(),
        trust: made.trust_id,
        scopes: addition.scopes,
        root: file,
        sha256,
        online: made.online.ids().into_iter().map(|(role, id)| (role, id.0)).collect(),
        timestamp: made.timestamp,
        trust_add,
    };
    out.result(&made, &format!("made {}", made.repository), &notes)
}

/// `{"timestamp": KEY, "snapshot": KEY}`, as the daemon's API and `plimsolld key show` write it.
fn online_keys(path: &Path) -> Result<OnlineKeys, Failure> {
    online_file(path)
}

/// The same, or the pair that is to follow, which `plimsolld key rotate` writes beside it.
pub(super) fn next_online_keys(path: &Path) -> Result<OnlineKeys, Failure> {
    #[derive(Deserialize)]
    struct Pairs {
        next: Option<OnlineKeys>,
    }
    match online_file::<Pairs>(path)?.next {
        Some(next) => Ok(next),
        None => online_file(path),
    }
}

fn online_file<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let wrong =
        |why: String| Failure::usage(format!("cannot use `{}` as online keys: {why}", path.display()));
    let bytes = read(path, MAX_ONLINE).map_err(|error| wrong(error.to_string()))?;
    let bytes = bytes.ok_or_else(|| wrong("there is no such file".to_owned()))?;
    plimsoll_core::tuf::json::check(&bytes).map_err(|error| wrong(error.to_string()))?;
    record::json(&bytes).map_err(|error| wrong(error.to_string()))
}
