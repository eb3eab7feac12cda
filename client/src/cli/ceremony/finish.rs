//! `ceremony finish`.

use std::path::PathBuf;

use plimsoll_core::oci::RepositoryAddress;
use serde::Serialize;
use url::Url;

use super::{about, load, pinned, tell};
use crate::{
    cli::{
        Env, Failure, Out,
        ask::confirm,
        init::{Making, make},
        place::Where,
        servers,
    },
    publish::{
        Prepared, PublishError, Published, Ready, Server,
        draft::{Draft, Rehearsed},
        served,
    },
    trust::Addition,
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The draft
    draft: PathBuf,
    /// The pinned root, by its name in the policy, else the one that fits; for a new trust repository, what to call it
    #[arg(long, value_name = "NAME")]
    trust: Option<String>,
    /// URL of the plimsolld that takes it; else the one remembered by init
    #[arg(long, value_name = "URL", env = servers::variable(), value_parser = servers::url)]
    server: Option<Url>,
    #[command(flatten)]
    token: servers::TokenArgs,
    /// Leave it in the inbox of the trust repository, where only the registry can be reached
    #[arg(long)]
    via_registry: bool,
    /// For a new trust repository: where to write the root that clients pin; else NAME-root.json
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
struct Finished<'a> {
    trust: &'a str,
    code: String,
    #[serde(flatten)]
    published: &'a Published,
    #[serde(flatten)]
    ready: &'a Ready,
}

pub(super) async fn run(env: &Env, out: &Out, args: &Args) -> Result<(), Failure> {
    let draft = load(env, &args.draft)?;
    if draft.is_first() { first(env, out, args, &draft).await } else { next(env, out, args, &draft).await }
}

/// Makes a trust repository, as `init` does.
async fn first(env: &Env, out: &Out, args: &Args, draft: &Draft) -> Result<(), Failure> {
    let url = args.server.as_ref().ok_or_else(|| {
        Failure::usage("a new trust repository needs a daemon".to_owned())
            .next("give --server URL of its plimsolld")
    })?;
    let repository: RepositoryAddress = draft.repository().parse().map_err(|_| {
        Failure::usage(format!("`{}`: `{}` is no repository", args.draft.display(), draft.repository()))
    })?;
    // Whatever is wrong with the draft is said before anybody is asked for anything.
    let now = env.clock.now();
    let mut prepared = Prepared::of_draft(draft, now)?;
    let server = Server::new(env.registry.clone(), url.clone()).with_token(args.token.token()?);
    let info = served(&server, &repository).await?;
    if let Some(trust_id) = info.trust_id.clone().filter(|id| id != draft.trust_id()) {
        return Err(PublishError::AlreadyInitialised { repository: repository.to_string(), trust_id }.into());
    }
    if let (Some(_), Some((name, _))) = (&info.trust_id, pinned(env, draft.trust_id())?.first()) {
        return Err(Failure::usage(format!("{repository} is made already, and pinned here as {name}"))
            .next(format!("plimsoll status {name}")));
    }
    if info.online.ids() != prepared.online.ids() {
        return Err(PublishError::NotHeld { server: url.to_string() }.into());
    }
    let name = args.trust.clone().unwrap_or_else(|| info.name.clone());
    let identity = draft.next_root().and_then(|root| root.signed.common.identity.as_ref());
    let scopes = identity.iter().flat_map(|identity| &identity.scope);
    let addition = Addition {
        name: name.clone(),
        scopes: scopes.map(|scope| format!("{}/{scope}", repository.host)).collect(),
        repository,
    };
    tell(env, out, &args.draft, draft, !args.yes);
    confirm(&format!("code {}: make this trust repository?", draft.code()), args.yes)?;
    let file = args.out.clone().unwrap_or_else(|| format!("{name}-root.json").into());
    prepared.name = info.name;
    make(env, out, Making { server, url, addition, file, prepared }).await
}

/// Publishes a change of a trust repository that is pinned here.
async fn next(env: &Env, out: &Out, args: &Args, draft: &Draft) -> Result<(), Failure> {
    let trust = match &args.trust {
        Some(name) => name.clone(),
        None => {
            let found = pinned(env, draft.trust_id())?;
            let none = || {
                Failure::usage(format!("no root of the trust repository {} is pinned here", draft.trust_id()))
                    .next("plimsoll trust add NAME --root FILE --sha256 HEX --repository HOST/REPOSITORY")
            };
            found.into_iter().next().map(|(name, _)| name).ok_or_else(none)?
        }
    };
    let place = Where {
        trust: Some(trust),
        server: args.server.clone(),
        token: args.token.clone(),
        via_registry: args.via_registry,
        ..Where::default()
    };
    let desk = place.desk(env, None).await?;
    draft.check_pinned(&desk.pinned).map_err(|error| about(&args.draft, error))?;
    let ready = desk.publisher.ready(draft).await?;
    if let Some(published) = &ready.published {
        desk.confirm(env, published, &[]).await?;
        let finished = Finished { trust: &desk.root, code: draft.code(), published, ready: &ready };
        let note = format!("in the registry since timestamp {} at the latest", published.timestamp);
        return out.result(&finished, &format!("was published before: {published}"), &[note]);
    }
    tell(env, out, &args.draft, draft, !args.yes);
    let rehearsed = ready.rehearsed.as_ref().map(in_words).unwrap_or_default();
    for line in &rehearsed {
        out.aside(line);
    }
    confirm(&format!("code {}: publish this?", draft.code()), args.yes)?;
    let published = desk.publisher.finish(draft).await?;
    desk.confirm(env, &published, &[]).await?;
    let mut notes = rehearsed;
    notes.push(format!("in the registry since timestamp {}", published.timestamp));
    let finished = Finished { trust: &desk.root, code: draft.code(), published: &published, ready: &ready };
    out.result(&finished, &format!("published {published}"), &notes)
}

fn in_words(rehearsed: &Rehearsed) -> Vec<String> {
    let from = match rehearsed.from.as_slice() {
        [one] => format!("version {one}"),
        [first, .., last] => format!("any version from {first} to {last}"),
        [] => "no version".to_owned(),
    };
    let mut lines = vec![format!("rehearsed: clients that hold root {from} get to version {}", rehearsed.to)];
    lines.extend(rehearsed.slow_from.map(|version| {
        format!("clients that hold root version {version} or an older one get there in more than one run")
    }));
    lines
}
