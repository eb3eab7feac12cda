//! `ceremony sign`.

use std::path::{Path, PathBuf};

use plimsoll_core::{
    oci::Digest,
    tuf::{Document, Root},
};

use super::{about, load, progress, show, tell};
use crate::{
    cli::{
        Env, Failure, Out,
        ask::confirm,
        key::{SignerArgs, signers},
        place::write_draft,
    },
    publish::draft::{Draft, DraftError},
    trust::{TrustError, load_policy, load_root, read_root_file},
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The draft; the signature is put into it
    draft: PathBuf,
    #[command(flatten)]
    signer: SignerArgs,
    /// A root document of the trust repository that you trust; else the one pinned here
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(env: &Env, out: &Out, args: &Args) -> Result<(), Failure> {
    let file = &args.draft;
    // Where a draft is *written*, keys are not needed, so the parser cannot ask for one.
    if args.signer.is_empty() {
        return Err(Failure::usage("no key is given to sign with".to_owned()).next("add --key FILE"));
    }
    let mut draft = load(file)?;
    let known = is_known(env, &draft, args.root.as_deref()).map_err(|error| match error {
        Refused::Draft(error) => about(file, error),
        Refused::Trust(error) => error.into(),
    })?;
    tell(env, out, file, &draft, !args.yes);
    let mut question = format!("code {}: sign this?", draft.code());
    if !known && let Some(first) = draft.roots().first() {
        let sha256 = Digest::of(&first.bytes).hex();
        if args.yes {
            let text =
                "no root of this trust repository is pinned here, so nothing tells it from an impostor's";
            return Err(Failure::usage(text.to_owned()).next(
                "give --root FILE with a root document that you trust, or leave --yes away and compare its hash",
            ));
        }
        question = format!(
            "no root of it is pinned here. Its root version {} has the sha256 {sha256}: is that the one you were given \
             another way, and code {}: sign this?",
            first.version(),
            draft.code()
        );
    }
    confirm(&question, args.yes)?;
    let keys = args.signer.open()?;
    for signer in signers(&keys) {
        draft.sign(signer).map_err(|error| about(file, error))?;
    }
    write_draft(file, &draft, true)?;
    let head = format!("signed {}", file.display());
    show(env, out, file, &draft, &head, &progress(file, &draft))
}

enum Refused {
    Draft(DraftError),
    Trust(TrustError),
}

/// True if the draft goes on from the root given, or from one that is pinned here; also if there is nothing before it.
fn is_known(env: &Env, draft: &Draft, root: Option<&Path>) -> Result<bool, Refused> {
    if let Some(path) = root {
        let bytes = read_root_file(path).map_err(Refused::Trust)?;
        return draft.check_pinned(&bytes).map(|()| true).map_err(Refused::Draft);
    }
    let pinned = pinned(env, draft.trust_id()).map_err(Refused::Trust)?;
    for (_, bytes) in &pinned {
        draft.check_pinned(bytes).map_err(Refused::Draft)?;
    }
    Ok(draft.is_first() || !pinned.is_empty())
}

/// The names and documents of the roots pinned here that have this trust id; none without a policy.
pub(super) fn pinned(env: &Env, trust: &str) -> Result<Vec<(String, Vec<u8>)>, TrustError> {
    let policy = match load_policy(&env.home) {
        Err(TrustError::NoPolicy { .. }) => return Ok(Vec::new()),
        policy => policy?,
    };
    let mut found = Vec::new();
    for (name, entry) in &policy.root {
        let bytes = load_root(&env.home, name, entry)?;
        let root = Document::<Root>::parse("root", &bytes).ok();
        let id = root.and_then(|root| root.signed.common.identity).map(|identity| identity.trust);
        if id.as_deref() == Some(trust) {
            found.push((name.clone(), bytes));
        }
    }
    Ok(found)
}
