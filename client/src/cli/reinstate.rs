//! `reinstate`.

use plimsoll_core::{
    oci::{Digest, Reference, TargetName},
    policy::Verdict,
};

use super::{
    Env, Failure, Out, argument, ask,
    content::{has, reference},
    key::{SignerArgs, signers},
    output::complain,
    place::Where,
    revoke::reason,
};
use crate::{
    publish::{Expected, How, ReinstateRequest, Reinstated},
    verify::{printable, target_name},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// HOST/REPOSITORY:TAG, or HOST/REPOSITORY@sha256:HEX that was revoked
    #[arg(value_name = "REFERENCE", value_parser = reference)]
    reference: Reference,
    /// What the tag shall mean again; else what it meant before what it means now
    #[arg(long, value_name = "DIGEST", value_parser = argument::<Digest>)]
    to: Option<Digest>,
    /// Why; it stays in the metadata
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Do not ask before it is done
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    place: Where,
}

pub(super) async fn run(env: &Env, out: &Out, args: &Args) -> Result<u8, Failure> {
    let (name, mut request) = request(args)?;
    let desk = args.place.desk_for(env, &args.reference, &name).await?;
    let keys = args.signer.open()?;
    let signers = signers(&keys);
    let how = How { signers: &signers, draft: args.place.draft.is_some() };
    let told = desk.publisher.preview_reinstate(&request, how).await?;
    let repository = &args.reference.repository;
    if !has(&env.registry, repository, &told.digest).await? {
        let text = format!(
            "the registry has no {repository}@{} any more, so there is nothing to bring back",
            told.digest
        );
        return Err(Failure::verdict(Verdict::NoSuchTag, text).next("push it first"));
    }
    for line in words(&told).1 {
        complain(&printable(&line));
    }
    ask::confirm(&format!("bring back {name} as {}?", told.digest), args.yes)?;
    // What was shown, and nothing else.
    if matches!(name, TargetName::Tag { .. }) {
        request.to = Some(told.digest);
    }
    request.over = Some(told.replaces.into_iter().collect());
    let done = desk.publisher.reinstate(&request, how).await?;
    let expected = |told: &Reinstated| {
        // Where this role never listed it, those below decide again.
        let listed = told.entries.contains(&name.to_string());
        listed.then_some(Expected::Signed(&name, told.digest)).into_iter().collect()
    };
    args.place.conclude(env, out, &desk, &done, expected, words).await
}

fn request(args: &Args) -> Result<(TargetName, ReinstateRequest), Failure> {
    let reference = &args.reference;
    let name = target_name(reference);
    let to = match (args.to, reference.digest) {
        (Some(to), Some(digest)) if to != digest => {
            return Err(Failure::usage(format!("{reference} and --to {to} name two digests")));
        }
        (to, digest) => to.or(digest),
    };
    let reason = reason(&args.reason)?;
    Ok((name.clone(), ReinstateRequest { name, to, reason, over: None }))
}

fn words(told: &Reinstated) -> (String, Vec<String>) {
    let mut notes: Vec<String> =
        told.digests.iter().map(|digest| format!("no longer revoked  {digest}")).collect();
    notes.extend(told.entries.iter().map(|entry| format!("as     {entry}")));
    notes.extend(told.replaces.map(|before| format!("was    {before}")));
    notes.extend(
        told.left.iter().map(|name| format!("{name} means something else by now, and stays as it is")),
    );
    (format!("reinstated {}", told.digest), notes)
}
