//! `delegate`.

mod keys;
mod remove;
mod seeing;

use std::path::{Path, PathBuf};

use plimsoll_core::tuf::{Key, KeyId, PublicKey};

use super::{
    Env, Failure, Out,
    key::{SignerArgs, signers},
    place::{Where, scope},
    status::{StatusArgs, status},
};
use crate::{
    keys::load_public,
    publish::{DelegateRequest, How, Vouched, history::NamedKey},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Give a namespace to other keys
    Add(Box<AddArgs>),
    /// List the roles, their keys and what they may speak about
    List(StatusArgs),
    /// Show one role: what stands above it, its scope, keys, version and expiry, and whom it delegates to
    Show(seeing::ShowArgs),
    /// Show how clients decide a reference: every role asked, in order, and the verdict
    Test(seeing::TestArgs),
    /// Give a role other keys
    Rotate(Box<keys::RotateArgs>),
    /// Take a namespace back
    Remove(remove::Args),
    /// Let other keys vouch for what a role last said, after its own keys were lost or ran out
    TakeOver(keys::TakeOverArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct AddArgs {
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

pub(super) async fn run(env: &Env, out: &Out, command: Command) -> Result<u8, Failure> {
    match command {
        Command::Add(args) => add(env, out, *args).await,
        Command::List(args) => status(env, out, &args).await,
        Command::Show(args) => seeing::show(env, out, &args).await,
        Command::Test(args) => seeing::test(env, out, &args).await,
        Command::Rotate(args) => keys::rotate(env, out, &args).await,
        Command::Remove(args) => remove::run(env, out, &args).await,
        Command::TakeOver(args) => keys::take_over(env, out, &args).await,
    }
}

async fn add(env: &Env, out: &Out, args: AddArgs) -> Result<u8, Failure> {
    let (host, scope) = scope(&args.scope)?;
    let granted = granted(&args.public)?;
    let desk = args.place.desk(env, host.as_deref()).await?;
    let keys = args.signer.open()?;
    let request = DelegateRequest {
        parent: args.parent,
        scope: scope.clone(),
        label: args.label,
        names: names(&granted),
        keys: granted.into_iter().map(|(key, _)| key).collect(),
        threshold: args.threshold,
    };
    let signers = signers(&keys);
    let how = How { signers: &signers, draft: args.place.draft.is_some() };
    let done = desk.publisher.delegate(&request, how).await?;
    let words = |told: &crate::publish::Delegated| {
        let notes = vec![
            format!("covers {}", scope.in_words()),
            format!("signed by {} of {} keys", request.threshold, request.keys.len()),
        ];
        (format!("delegated {scope} to {}", told.role), notes)
    };
    args.place.conclude(env, out, &desk, &done, |_| Vec::new(), words).await
}

/// The public keys in `files`, each with what its file is called: `alice.pub` is alice's.
pub(super) fn granted(files: &[PathBuf]) -> Result<Vec<(PublicKey, Option<String>)>, Failure> {
    let mut all: Vec<(PublicKey, Option<String>)> = Vec::new();
    for path in files {
        let key = load_public(path)?;
        if all.iter().any(|(known, _)| *known == key) {
            let text = format!("`{}` holds a key that was given already", path.display());
            return Err(Failure::usage(text).next("give each key once"));
        }
        all.push((key, name(path)));
    }
    Ok(all)
}

/// What people call the keys, by id.
fn names(granted: &[(PublicKey, Option<String>)]) -> Vec<(KeyId, String)> {
    granted.iter().filter_map(|(key, name)| Some((Key::new(key).id(), name.clone()?))).collect()
}

/// The keys in one line.
pub(super) fn list(keys: &[NamedKey]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// One line for each name and what it stands for.
pub(super) fn lines(names: &[Vouched]) -> Vec<String> {
    let digest = |vouched: &Vouched| {
        // A digest's own entry says it already.
        let said = vouched.name.contains('@');
        vouched.digest.filter(|_| !said).map_or_else(String::new, |digest| format!("  {digest}"))
    };
    names.iter().map(|vouched| format!("  {}{}", vouched.name, digest(vouched))).collect()
}

/// What the docs allow as a name of a key; a file called otherwise names none.
pub(super) fn name(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_str()?;
    let fits = |c: char| c.is_ascii_alphanumeric() || "._@+-".contains(c);
    (stem.len() <= 64 && stem.chars().all(fits)).then(|| stem.to_owned())
}
