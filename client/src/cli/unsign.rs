//! `unsign`.

use plimsoll_core::oci::{Reference, TargetName};
use serde::Serialize;

use super::{
    Env, Failure, Out, ask,
    content::reference,
    key::{SignerArgs, signers},
    output::complain,
    place::Where,
};
use crate::{
    publish::{Expected, How, Unsigned},
    verify::{printable, target_name},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// HOST/REPOSITORY:TAG, or HOST/REPOSITORY@sha256:HEX that no tag means; or several
    #[arg(value_name = "REFERENCE", value_parser = reference, required = true)]
    references: Vec<Reference>,
    /// Do not ask before it is done
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    place: Where,
}

#[derive(Serialize)]
struct Told {
    unsigned: Vec<Unsigned>,
}

pub(super) async fn run(env: &Env, out: &Out, args: &Args) -> Result<u8, Failure> {
    // With both, whether the tag still means that digest would be nobody's question here.
    if let Some(both) = args.references.iter().find(|r| r.tag.is_some() && r.digest.is_some()) {
        let text = format!("{both} names a tag and a digest; which one shall be unsigned?");
        return Err(Failure::usage(text).next("name one of them"));
    }
    let mut covered: Vec<(Reference, TargetName)> =
        args.references.iter().map(|reference| (reference.clone(), target_name(reference))).collect();
    covered.sort_by(|(_, a), (_, b)| a.cmp(b));
    covered.dedup_by(|(_, a), (_, b)| a == b);
    let names: Vec<TargetName> = covered.iter().map(|(_, name)| name.clone()).collect();
    let desk = args.place.desk_for_all(env, &covered).await?;
    let keys = args.signer.open()?;
    let signers = signers(&keys);
    let how = How { signers: &signers, draft: args.place.draft.is_some() };
    if ask::somebody_is_there() && !args.yes {
        for told in desk.publisher.preview_unsign(&names, how).await? {
            for entry in &told.entries {
                complain(&printable(&format!("{}  {entry}", told.role)));
            }
        }
        ask::confirm("take these out, so that clients read ABSENT?", false)?;
    }
    let done = desk.publisher.unsign(&names, how).await?.map(|unsigned| Told { unsigned });
    let expected = |told: &Told| {
        let told = names.iter().zip(&told.unsigned);
        told.filter(|(_, told)| told.still.is_empty()).map(|(name, _)| Expected::Absent(name)).collect()
    };
    args.place.conclude(env, out, &desk, &done, expected, words).await
}

fn words(told: &Told) -> (String, Vec<String>) {
    let mut notes = Vec::new();
    for told in &told.unsigned {
        notes.extend(told.entries.iter().map(|entry| format!("removed  {entry}")));
        if !told.still.is_empty() {
            notes.push(format!(
                "{} is still listed by {}: clients may go by that",
                told.name,
                told.still.join(", ")
            ));
        }
    }
    let head = match told.unsigned.as_slice() {
        [one] => format!("unsigned {}", one.name),
        several => format!("unsigned {} names", several.len()),
    };
    notes.push("this bars nothing: to keep a digest from being run, revoke it".to_owned());
    (head, notes)
}
