//! What the commands that publish have in common: which trust repository, through which daemon, and what is told when a
//! change is seen or written to a draft.

use std::path::{Path, PathBuf};

use plimsoll_core::{
    oci::{Reference, RepositoryAddress, TargetName},
    policy::{Policy, Scope},
};
use serde::Serialize;
use url::Url;

use super::{Env, Failure, Out, servers};
use crate::{
    publish::{Done, Expected, Published, Publisher, Server, draft::Draft, seen},
    state::replace,
    trust::{load_policy, load_root, show},
};

/// Which trust repository, and where its daemon is.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Where {
    /// The pinned root to publish under, by its name in the policy; else the one that the policy names
    #[arg(long, value_name = "NAME")]
    pub(super) trust: Option<String>,
    /// URL of the plimsolld that takes submissions; else the one remembered by init
    #[arg(long, value_name = "URL", env = servers::variable(), value_parser = servers::url)]
    pub(super) server: Option<Url>,
    #[command(flatten)]
    pub(super) token: servers::TokenArgs,
    /// Leave the change in the inbox of the trust repository, where only the registry can be reached
    #[arg(long)]
    pub(super) via_registry: bool,
    /// Publish nothing: write the change to this file, for others to sign with `plimsoll ceremony sign`
    #[arg(long, value_name = "FILE")]
    pub(super) draft: Option<PathBuf>,
}

/// One trust repository, ready to be changed.
pub(super) struct Desk {
    /// What the policy calls it.
    pub(super) root: String,
    pub(super) address: RepositoryAddress,
    pub(super) pinned: Vec<u8>,
    pub(super) publisher: Publisher,
}

/// What a command prints of a change that is published.
#[derive(Serialize)]
struct Shown<'a, T> {
    #[serde(flatten)]
    published: &'a Published,
    #[serde(flatten)]
    told: &'a T,
}

/// What a command prints of a change that is a draft.
#[derive(Serialize)]
struct Drafted<'a, T> {
    draft: &'a Path,
    code: String,
    requirements: Vec<crate::publish::draft::Requirement>,
    #[serde(flatten)]
    told: &'a T,
}

impl Where {
    /// The desk of the root that is named, else of the one that the policy requires for `reference`.
    pub(super) async fn desk_for(
        &self,
        env: &Env,
        reference: &Reference,
        name: &TargetName,
    ) -> Result<Desk, Failure> {
        let policy = load_policy(&env.home)?;
        let root = covering(&policy, self.trust.as_deref(), reference, name)?;
        self.open(env, &policy, root).await
    }

    /// The desk of the one root that is named, else that the policy requires for each of `names`.
    pub(super) async fn desk_for_all(
        &self,
        env: &Env,
        names: &[(Reference, TargetName)],
    ) -> Result<Desk, Failure> {
        let policy = load_policy(&env.home)?;
        let mut one: Option<(String, &Reference)> = None;
        for (reference, name) in names {
            let root = covering(&policy, self.trust.as_deref(), reference, name)?;
            match &one {
                Some((known, first)) if *known != root => {
                    let text = format!("{first} is under the root {known}, and {reference} under {root}");
                    return Err(Failure::usage(text).next("name those of one root at a time"));
                }
                Some(_) => {}
                None => one = Some((root, reference)),
            }
        }
        let (root, _) = one.ok_or_else(|| Failure::usage("nothing is named".to_owned()))?;
        self.open(env, &policy, root).await
    }

    /// The desk of the root that is named, else of the only one, at `host` if that is given.
    pub(super) async fn desk(&self, env: &Env, host: Option<&str>) -> Result<Desk, Failure> {
        let policy = load_policy(&env.home)?;
        let root = chosen(&policy, self.trust.as_deref(), host)?;
        self.open(env, &policy, root).await
    }

    async fn open(&self, env: &Env, policy: &Policy, root: String) -> Result<Desk, Failure> {
        // Said before anybody types a passphrase.
        if let Some(file) = self.draft.as_deref().filter(|file| file.symlink_metadata().is_ok()) {
            return Err(exists(file));
        }
        let pinned = load_root(&env.home, &policy.root[&root])?;
        // What is published must be seen by the verify side's memory, too: one that is damaged is told before.
        show(&env.home, &root).await?;
        let (http, address, clock) = (env.registry.clone(), address(policy, &root)?, env.clock.clone());
        let publisher = if self.via_registry {
            Publisher::through_registry(http, address.clone(), pinned.clone(), &env.home.state(), clock)?
        } else {
            let url = servers::server(&env.home, self.server.as_ref(), &address.to_string())?;
            let server = Server::new(http.clone(), url).with_token(self.token.token()?);
            let state = env.home.publishing();
            Publisher::through_daemon(http, server, address.clone(), pinned.clone(), &state, clock)
        };
        Ok(Desk { root, address, pinned, publisher })
    }

    /// Tells what became of a change: once clients see it, and in it what is `expected`; or once the draft is written.
    /// `head` is the first line and `notes` the rest of what is told of it.
    pub(super) async fn conclude<'a, T: Serialize>(
        &self,
        env: &Env,
        out: &Out,
        desk: &Desk,
        done: &'a Done<T>,
        expected: impl FnOnce(&'a T) -> Vec<Expected<'a>>,
        words: impl FnOnce(&T) -> (String, Vec<String>),
    ) -> Result<u8, Failure> {
        match done {
            Done::Published(published, told) => {
                desk.confirm(env, published, &expected(told)).await?;
                let (head, mut notes) = words(told);
                notes.push(format!(
                    "by     {published}, in the registry since timestamp {}",
                    published.timestamp
                ));
                out.result(&Shown { published, told }, &head, &notes)?;
            }
            Done::Drafted(draft, told) => {
                let file = self.draft.as_deref().expect("only --draft asks for a draft");
                write_draft(file, draft, false)?;
                let (head, mut notes) = words(told);
                notes.extend(still_to_sign(draft));
                notes.push(format!(
                    "wrote {}; everybody who signs it must read the code {}",
                    file.display(),
                    draft.code()
                ));
                let requirements = draft.requirements();
                let shown = Drafted { draft: file, code: draft.code(), requirements, told };
                out.result(&shown, &format!("draft, not published: {head}"), &notes)?;
            }
        }
        Ok(0)
    }
}

impl Desk {
    /// Reads the registry as clients do: only what they see is said to be done.
    pub(super) async fn confirm(
        &self,
        env: &Env,
        published: &Published,
        expected: &[Expected<'_>],
    ) -> Result<(), Failure> {
        let place = (&env.registry, &self.address);
        let state = env.home.state();
        // The documents first: they are what was signed here.
        let expected: Vec<_> = published.expected().chain(expected.iter().copied()).collect();
        Ok(seen(place, &state, &self.pinned, &env.clock, published.timestamp, &expected).await?)
    }
}

/// Writes the draft: a new file, or with `replacing` in place of the one that is there. Durable on return.
pub(super) fn write_draft(file: &Path, draft: &Draft, replacing: bool) -> Result<(), Failure> {
    if !replacing && file.symlink_metadata().is_ok() {
        return Err(exists(file));
    }
    let write = std::path::absolute(file).and_then(|path| replace(&path, &draft.write(), 0o644));
    write.map_err(|error| Failure::internal(format!("cannot write {}: {error}", file.display())))
}

/// One line for each document that wants signatures.
pub(super) fn still_to_sign(draft: &Draft) -> Vec<String> {
    let line = |requirement: &crate::publish::draft::Requirement| {
        let keys = requirement.keys.iter().map(|key| {
            let name = key.name.as_deref().unwrap_or_else(|| key.keyid.short());
            if key.signed { format!("{name} (signed)") } else { name.to_owned() }
        });
        let keys: Vec<String> = keys.collect();
        let need = match requirement.missing() {
            0 => "complete".to_owned(),
            missing => format!("{missing} missing"),
        };
        format!(
            "{} version {}, {} of {} by {}: {need}",
            requirement.role,
            requirement.version,
            requirement.threshold,
            keys.join(", "),
            requirement.by
        )
    };
    draft.requirements().iter().map(line).collect()
}

fn exists(file: &Path) -> Failure {
    Failure::usage(format!("`{}` exists already and is not overwritten", file.display()))
        .next("give --draft another name, or remove that file")
}

/// Where the root `root` is published: the first of its places that is a repository on a registry.
pub(super) fn address(policy: &Policy, root: &str) -> Result<RepositoryAddress, Failure> {
    policy.root[root].repository().cloned().ok_or_else(|| {
        Failure::usage(format!("[root.{root}] names no repository on a registry"))
            .next("add HOST/REPOSITORY to its `repository` in the policy")
    })
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
    let Some(scope) = policy.select(&reference.repository.host, name) else {
        return Err(Failure::usage(format!("no scope of your policy covers {}", reference.repository))
            .next("check the reference; `plimsoll trust list` shows what is covered"));
    };
    match scope.roots().as_slice() {
        [root] => Ok((*root).to_owned()),
        [] => {
            Err(Failure::usage(format!("no root speaks for {}: the policy decides by itself", scope.pattern))
                .next("add --trust NAME"))
        }
        several => Err(which(several.iter().copied())),
    }
}

/// The root called `named`, wherever it is, else the only one, at `host` if that is given.
pub(super) fn chosen(policy: &Policy, named: Option<&str>, host: Option<&str>) -> Result<String, Failure> {
    let roots = policy.root.iter().filter(|(name, entry)| {
        named.is_none_or(|named| named == *name)
            && (named.is_some()
                || host.is_none_or(|host| entry.repository().is_some_and(|address| address.host == host)))
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
pub(super) fn scope(text: &str) -> Result<(Option<String>, Scope), Failure> {
    let wrong = |error: plimsoll_core::policy::ScopeError| Failure::usage(error.to_string());
    match text.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':', '[']) || host == "localhost" => {
            Ok((Some(host.to_ascii_lowercase()), rest.parse().map_err(wrong)?))
        }
        _ => Ok((None, text.parse().map_err(wrong)?)),
    }
}
