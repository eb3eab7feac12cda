//! `delegate rotate` and `delegate take-over`: other keys for a role.

use std::path::PathBuf;

use super::{granted, lines, list, names};
use crate::{
    cli::{
        Env, Failure, Out,
        ask::{answer, confirm},
        key::{SignerArgs, signers},
        place::Where,
    },
    publish::{Content, How, Rekeyed, RotateRequest, TakeOverRequest, Unvouched},
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RotateArgs {
    /// The role, for example targets--app
    #[arg(value_name = "ROLE")]
    role: String,
    /// Grant it to this public key, too; once for each key
    #[arg(long = "pub", value_name = "FILE")]
    public: Vec<PathBuf>,
    /// Take it from this key: an id, the start of one, or the key's name; once for each key
    #[arg(long, value_name = "ID")]
    remove_key_id: Vec<String>,
    /// How many of its keys must sign; else as many as now
    #[arg(long, value_name = "N")]
    threshold: Option<u64>,
    /// Vouch anew for names and delegations that only the removed keys vouched for
    #[arg(long, conflicts_with = "drop_names")]
    keep_names: bool,
    /// Leave out names and delegations that only the removed keys vouched for: they read ABSENT, and a role's name is never
    /// given again
    #[arg(long)]
    drop_names: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    place: Where,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct TakeOverArgs {
    /// The role, for example targets--app
    #[arg(value_name = "ROLE")]
    role: String,
    /// Grant it to this public key, once for each key; else to the keys that sign
    #[arg(long = "pub", value_name = "FILE")]
    public: Vec<PathBuf>,
    /// How many of these keys must sign; else as many as before, or all of them if there are fewer
    #[arg(long, value_name = "N")]
    threshold: Option<u64>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    place: Where,
}

pub(super) async fn rotate(env: &Env, out: &Out, args: &RotateArgs) -> Result<u8, Failure> {
    let granted = granted(&args.public)?;
    let desk = args.place.desk(env, None).await?;
    let keys = args.signer.open()?;
    let signers = signers(&keys);
    let how = How { signers: &signers, draft: args.place.draft.is_some() };
    let mut request = RotateRequest {
        role: args.role.clone(),
        names: names(&granted),
        add: granted.into_iter().map(|(key, _)| key).collect(),
        remove: args.remove_key_id.clone(),
        threshold: args.threshold,
        unvouched: Unvouched::Drop,
    };
    let plan = desk.publisher.plan_rotation(&request, how).await?;
    if plan.content == Content::Signed && is_asked(&plan) {
        out.aside(&format!("no key that stays vouched for this in {}:", plan.role));
        lines(&plan.unvouched).iter().for_each(|line| out.aside(line));
        plan.unvouched_below.iter().for_each(|below| out.aside(&format!("  what is delegated to {below}")));
        request.unvouched = decided(args, &plan)?;
    }
    if plan.content == Content::Unsigned && !how.draft {
        out.aside(&format!("until {} is signed anew, clients read UNTRUSTED for:", plan.role));
        lines(&plan.names).iter().for_each(|line| out.aside(line));
        let question = format!(
            "the last content of {} is not signed by enough of its new keys, and they are not at hand: go on, and let {} \
             names read UNTRUSTED until they sign?",
            plan.role,
            plan.names.len()
        );
        confirm(&question, args.yes)?;
    }
    let done = desk.publisher.rotate(&request, &plan, how).await?;
    let kept = request.unvouched == Unvouched::Keep;
    let words = |told: &Rekeyed| {
        let mut notes = changed(told);
        if told.content == Content::Signed && !told.unvouched.is_empty() {
            let what = if kept { "vouched for anew" } else { "left out, so they read ABSENT" };
            notes.push(format!("{} names that only removed keys vouched for: {what}", told.unvouched.len()));
        }
        if told.content == Content::Signed && !told.unvouched_below.is_empty() {
            let what = if kept { "vouched for anew" } else { "withdrawn for good" };
            let roles = told.unvouched_below.join(", ");
            notes.push(format!("delegations that only removed keys vouched for, to {roles}: {what}"));
        }
        match told.content {
            Content::None => notes.push("nothing published yet".to_owned()),
            Content::Stands => notes.push("its content stands: keys that stay signed it".to_owned()),
            Content::Signed => notes.push("its content is signed anew, with a full life".to_owned()),
            Content::Unsigned => notes.push(format!(
                "its names read UNTRUSTED until its keys sign: plimsoll delegate rotate {} --key FILE",
                told.role
            )),
        }
        (format!("rotated {}", told.role), notes)
    };
    args.place.conclude(env, out, &desk, &done, |_| Vec::new(), words).await
}

/// True if there is something that nobody who stays vouched for.
fn is_asked(plan: &Rekeyed) -> bool {
    !plan.unvouched.is_empty() || !plan.unvouched_below.is_empty()
}

/// What shall happen to it.
fn decided(args: &RotateArgs, plan: &Rekeyed) -> Result<Unvouched, Failure> {
    match (args.keep_names, args.drop_names) {
        (true, _) => return Ok(Unvouched::Keep),
        (_, true) => return Ok(Unvouched::Drop),
        _ => {}
    }
    let question = match (plan.unvouched.len(), plan.unvouched_below.len()) {
        (names, 0) => format!("vouch for these {names} names anew, with the keys at hand?"),
        (0, roles) => format!("vouch for these {roles} delegations anew, with the keys at hand?"),
        (names, roles) => {
            format!("vouch for these {names} names and {roles} delegations anew, with the keys at hand?")
        }
    };
    match answer(&question)? {
        Some(true) => Ok(Unvouched::Keep),
        Some(false) => Ok(Unvouched::Drop),
        None => {
            const SHOWN: usize = 20;
            let names = plan.unvouched.iter().map(|vouched| vouched.name.clone());
            let roles = plan.unvouched_below.iter().map(|below| format!("what is delegated to {below}"));
            let names: Vec<String> = names.chain(roles).collect();
            let more = names.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let names = names[..names.len().min(SHOWN)].join(", ");
            Err(Failure::usage(format!("only the removed keys vouched for {names}{more}"))
                .next("look at each, then add --keep-names or --drop-names"))
        }
    }
}

pub(super) async fn take_over(env: &Env, out: &Out, args: &TakeOverArgs) -> Result<u8, Failure> {
    let granted = granted(&args.public)?;
    let desk = args.place.desk(env, None).await?;
    let keys = args.signer.open()?;
    let signers = signers(&keys);
    if granted.is_empty() && signers.is_empty() {
        return Err(Failure::usage("nobody is named who shall have the role".to_owned())
            .next("add --pub FILE, or --key FILE"));
    }
    let how = How { signers: &signers, draft: args.place.draft.is_some() };
    let request = TakeOverRequest {
        role: args.role.clone(),
        names: names(&granted),
        keys: granted.into_iter().map(|(key, _)| key).collect(),
        threshold: args.threshold,
    };
    let plan = desk.publisher.plan_take_over(&request, how).await?;
    out.aside(&format!("{} last said, and its new keys will vouch for:", plan.role));
    lines(&plan.names).iter().for_each(|line| out.aside(line));
    let question = format!(
        "take {} from {} and let {} of {} vouch for these {} names?",
        plan.role,
        if plan.removed.is_empty() { "nobody".to_owned() } else { list(&plan.removed) },
        plan.threshold,
        list(&plan.keys),
        plan.names.len()
    );
    confirm(&question, args.yes || how.draft)?;
    let done = desk.publisher.take_over(&request, &plan, how).await?;
    let words = |told: &Rekeyed| {
        let mut notes = changed(told);
        notes.push(format!(
            "{} names vouched for anew, with a full life; what it took back stays so",
            told.names.len()
        ));
        if !told.below.is_empty() {
            notes.push(format!(
                "it delegates to {}, with keys that its old team chose: look at them",
                told.below.join(", ")
            ));
        }
        (format!("took over {}", told.role), notes)
    };
    args.place.conclude(env, out, &desk, &done, |_| Vec::new(), words).await
}

/// The lines about keys.
pub(in crate::cli) fn changed(told: &Rekeyed) -> Vec<String> {
    let mut notes = Vec::new();
    if !told.added.is_empty() {
        notes.push(format!("new    {}", list(&told.added)));
    }
    if !told.removed.is_empty() {
        notes.push(format!("gone   {}", list(&told.removed)));
    }
    notes.push(format!("signed by {} of {}", told.threshold, list(&told.keys)));
    notes
}
