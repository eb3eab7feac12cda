//! `revoke`.

mod key;

use plimsoll_core::oci::{Reference, TargetName};

use super::{
    Env, Failure, Out,
    content::reference,
    key::{SignerArgs, signers},
    place::Where,
};
use crate::{
    publish::{Expected, How, RevokeRequest, Revoked},
    verify::target_name,
};

const MAX_REASON: usize = 200;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// HOST/REPOSITORY:TAG, whose signed digest is meant, or HOST/REPOSITORY@sha256:HEX
    #[arg(value_name = "REFERENCE", value_parser = reference, required_unless_present = "key_id")]
    reference: Option<Reference>,
    /// Instead of a reference: take this key out of every role, and back what it alone vouched for; its id, the start
    /// of that, or its name
    #[arg(long, value_name = "ID", conflicts_with = "reference")]
    key_id: Option<String>,
    /// With --key-id: only out of this role
    #[arg(long, value_name = "ROLE", requires = "key_id")]
    role: Option<String>,
    /// With --key-id: do not ask
    #[arg(long, requires = "key_id")]
    yes: bool,
    /// Why; everybody who verifies it is shown this
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    place: Where,
}

pub(super) async fn run(env: &Env, out: &Out, args: &Args) -> Result<u8, Failure> {
    let reason = reason(&args.reason)?;
    let Some(reference) = &args.reference else {
        return key::run(env, out, args, reason).await;
    };
    let name = match reference.digest {
        Some(digest) => TargetName::Digest { repository: reference.repository.name.clone(), digest },
        None => target_name(reference),
    };
    let desk = args.place.desk_for(env, reference, &name).await?;
    let keys = args.signer.open()?;
    let signers = signers(&keys);
    let how = How { signers: &signers, draft: args.place.draft.is_some() };
    let done = desk.publisher.revoke(&RevokeRequest { name: name.clone(), reason }, how).await?;
    let words = |told: &Revoked| {
        let mut notes: Vec<String> =
            told.platforms.iter().map(|platform| format!("with     {platform}, of the same index")).collect();
        notes.extend(told.entries.iter().map(|entry| format!("removed  {entry}")));
        notes.push("clients read REVOKED from their next update on; stop what runs it already".to_owned());
        (format!("revoked {}", told.digest), notes)
    };
    let expected = |told: &Revoked| vec![Expected::Revoked(&name, told.digest)];
    args.place.conclude(env, out, &desk, &done, expected, words).await
}

/// Checks `--reason`.
pub(super) fn reason(text: &str) -> Result<String, Failure> {
    let reason = text.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON || reason.chars().any(char::is_control) {
        return Err(Failure::usage(format!("--reason must be 1 to {MAX_REASON} characters on one line")));
    }
    Ok(reason.to_owned())
}
