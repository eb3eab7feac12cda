//! `sign`.

use plimsoll_core::{
    oci::{Descriptor, Reference, Tag, TargetName},
    policy::Verdict,
};

use super::{
    Env, Failure, Out, argument,
    key::{SignerArgs, signers},
    place::Where,
};
use crate::{
    publish::{Expected, How, SignRequest, Signed},
    registry::ManifestAnswer,
    verify::target_name,
};

/// A manifest to be signed may be this long, bytes.
const MAX_MANIFEST: u64 = 4 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// HOST/REPOSITORY:TAG; with @sha256:HEX, only if the registry has that digest
    #[arg(value_name = "REFERENCE", value_parser = argument::<Reference>)]
    reference: Reference,
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    place: Where,
}

pub(super) async fn run(env: &Env, out: &Out, args: &Args) -> Result<u8, Failure> {
    let name = target_name(&args.reference);
    let desk = args.place.desk_for(env, &args.reference, &name).await?;
    let keys = args.signer.open()?;
    let descriptor = fetch(env, &args.reference, &name).await?;
    let digest = descriptor.digest;
    let signers = signers(&keys);
    let how = How { signers: &signers, draft: args.place.draft.is_some() };
    let requests = [SignRequest::new(name.clone(), descriptor)];
    let done = desk.publisher.sign(&requests, how).await?;
    let words = |told: &Vec<Signed>| {
        let mut notes = Vec::new();
        for signed in told {
            notes.extend(signed.entries.iter().map(|entry| format!("as     {entry}")));
            notes.extend(signed.replaces.map(|before| format!("was    {before}")));
        }
        (format!("signed {}  {digest}", args.reference), notes)
    };
    let expected = |_| vec![Expected::Signed(&name, digest)];
    args.place.conclude(env, out, &desk, &done, expected, words).await
}

/// What the registry has under the reference: hashed here, not taken from a header.
async fn fetch(env: &Env, reference: &Reference, name: &TargetName) -> Result<Descriptor, Failure> {
    let wanted = match (reference.digest, name) {
        (Some(digest), _) => digest.to_string(),
        (None, TargetName::Tag { tag, .. }) => Tag::as_str(tag).to_owned(),
        (None, TargetName::Digest { digest, .. }) => digest.to_string(),
    };
    match env.registry.manifest(&reference.repository, &wanted, MAX_MANIFEST, None).await? {
        ManifestAnswer::Found(manifest) => Ok(Descriptor {
            media_type: manifest.media_type,
            digest: manifest.digest,
            size: manifest.bytes.len() as u64,
            data: None,
            annotations: std::collections::BTreeMap::new(),
        }),
        ManifestAnswer::NotFound | ManifestAnswer::NotModified => {
            let text = format!("the registry has no {reference}, so there is nothing to sign");
            Err(Failure::verdict(Verdict::NoSuchTag, text).next("push it first, or check its name"))
        }
    }
}
