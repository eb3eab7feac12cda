//! `ceremony sign`.

use std::path::PathBuf;

use plimsoll_core::oci::Digest;

use super::{about, load, not_behind, pinned, progress, show, tell};
use crate::{
    cli::{
        Env, Failure, Out,
        ask::confirm,
        key::{SignerArgs, signers},
        place::write_draft,
    },
    trust::read_root_file,
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

pub(super) async fn run(env: &Env, out: &Out, args: &Args) -> Result<(), Failure> {
    let file = &args.draft;
    // Where a draft is *written*, keys are not needed, so the parser cannot ask for one.
    if args.signer.is_empty() {
        return Err(Failure::usage("no key is given to sign with".to_owned()).next("add --key FILE"));
    }
    let mut draft = load(env, file)?;
    if let Some(path) = &args.root {
        draft.check_pinned(&read_root_file(path)?).map_err(|error| about(file, error))?;
    }
    not_behind(env, file, &draft).await?;
    let known = args.root.is_some() || draft.is_first() || !pinned(env, draft.trust_id())?.is_empty();
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
    // Others may have signed it while this one was asked.
    let mut now = load(env, file)?;
    now.merge(&draft).map_err(|error| about(file, error))?;
    write_draft(file, &now, true)?;
    let draft = now;
    let head = format!("signed {}", file.display());
    show(env, out, file, &draft, &head, &progress(file, &draft))
}
