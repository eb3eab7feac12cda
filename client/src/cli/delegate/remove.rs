//! `delegate remove`.

use plimsoll_core::{oci::TargetName, policy::Scope};

use super::lines;
use crate::{
    cli::{
        Env, Failure, Out,
        ask::confirm,
        key::{SignerArgs, signers},
        place::Where,
        revoke::reason,
    },
    publish::{Expected, How, RemoveRequest, Removed},
};

/// As many names are looked up in the registry afterwards.
const LOOKED_UP: usize = 4;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The role, for example targets--app; once it published something, its name is never given again
    #[arg(value_name = "ROLE")]
    role: String,
    /// Take back everything under its scope, too, for good: the names read REVOKED, and nobody can sign them again
    #[arg(long, requires = "reason")]
    revoke: bool,
    /// Why, with --revoke; everybody who verifies it is shown this
    #[arg(long, value_name = "TEXT", requires = "revoke")]
    reason: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    place: Where,
}

pub(in crate::cli) async fn run(env: &Env, out: &Out, args: &Args) -> Result<u8, Failure> {
    let revoke = args.reason.as_deref().map(reason).transpose()?;
    let desk = args.place.desk(env, None).await?;
    let keys = args.signer.open()?;
    let signers = signers(&keys);
    let how = How { signers: &signers, draft: args.place.draft.is_some() };
    let request = RemoveRequest { role: args.role.clone(), revoke };
    let plan = desk.publisher.plan_removal(&request, how).await?;
    told(&plan).iter().for_each(|line| out.aside(line));
    lines(&plan.names).iter().for_each(|line| out.aside(line));
    let question = format!("remove {} with its {} names?", plan.role, plan.names.len());
    confirm(&question, args.yes || how.draft)?;
    let done = desk.publisher.remove(&request, &plan, how).await?;
    let names: Vec<(TargetName, _)> = plan
        .digests()
        .filter(|_| plan.revoked)
        .filter_map(|(name, digest)| Some((name.parse().ok()?, digest)))
        .take(LOOKED_UP)
        .collect();
    let expected =
        |_: &Removed| names.iter().map(|(name, digest)| Expected::Revoked(name, *digest)).collect();
    let words = |removed: &Removed| (format!("removed {}", removed.role), told(removed));
    args.place.conclude(env, out, &desk, &done, expected, words).await
}

/// What it means to the names.
fn told(removed: &Removed) -> Vec<String> {
    let scope = Scope::spell(&removed.paths);
    let mut notes = match (removed.revoked, removed.beside.as_slice()) {
        (true, []) => vec![format!("every name under {scope} reads REVOKED; nobody can sign one again")],
        (true, beside) => vec![format!(
            "every name under {scope} reads REVOKED, also those of {}; nobody can sign one again",
            beside.join(", ")
        )],
        (false, []) => {
            vec![format!("names under {scope} read ABSENT, unless {} lists them itself", removed.parent)]
        }
        (false, beside) => vec![format!("for names under {scope}, clients ask {} next", beside.join(", "))],
    };
    if removed.revocations > 0 && !removed.revoked {
        notes.push(format!(
            "what it took back itself ({}) is forgotten: whoever gets these names may sign that again",
            removed.revocations
        ));
    }
    if !removed.below.is_empty() {
        notes.push(format!("nobody asks the roles below it any more: {}", removed.below.join(", ")));
    }
    if removed.published {
        notes.push(format!("the name {} is never given again", removed.role));
    }
    notes
}
