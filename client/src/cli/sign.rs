//! `sign`.

use std::collections::BTreeMap;

use plimsoll_core::{
    oci::{Digest, Reference, RepositoryAddress, TargetName},
    tuf::matches,
};
use serde::Serialize;

use super::{
    Env, Failure, Out, argument, ask,
    content::{Content, fetch_all, in_layout, reference, still_there},
    key::{SignerArgs, signers},
    output::complain,
    place::{Desk, Where},
};
use crate::{
    publish::{Done, Expected, How, PublishError, SignRequest, Signed},
    verify::{printable, target_name},
};

/// How many tags are signed in one go. A role's document holds about as many.
const MAX_TAGS: usize = 5000;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// HOST/REPOSITORY:TAG, or several; with @sha256:HEX that digest, if the registry has it; without a tag only the digest
    #[arg(value_name = "REFERENCE", value_parser = reference, required_unless_present = "all_tags")]
    references: Vec<Reference>,
    /// Every tag of this repository
    #[arg(long, value_name = "HOST/REPOSITORY", value_parser = argument::<RepositoryAddress>, conflicts_with_all = ["references", "layout"])]
    all_tags: Option<RepositoryAddress>,
    /// But not the tags that look like this: `*` and `?` stand for any characters
    #[arg(long, value_name = "GLOB", requires = "all_tags")]
    exclude: Vec<String>,
    /// Sign what is in this OCI image layout, without asking the registry; NAME is the image's name in it
    #[arg(long, value_name = "FOLDER[:NAME]")]
    layout: Option<String>,
    /// Promise that the tag means this digest for good: no other may be signed under it until this one is revoked
    #[arg(long)]
    immutable: bool,
    /// Do not ask before signing
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    place: Where,
}

/// One name, and what it shall mean.
pub(super) struct Item {
    pub(super) reference: Reference,
    pub(super) name: TargetName,
    pub(super) content: Content,
}

#[derive(Serialize)]
struct Told {
    signed: Vec<Signed>,
}

pub(super) async fn run(env: &Env, out: &Out, args: &Args) -> Result<u8, Failure> {
    let references = references(env, args).await?;
    let names = names(&references, args)?;
    let desk = args.place.desk_for_all(env, &names).await?;
    let content = match &args.layout {
        Some(place) => Some(vec![in_layout(place)?]),
        None => None,
    };
    let keys = args.signer.open()?;
    let signers = signers(&keys);
    let how = How { signers: &signers, draft: args.place.draft.is_some() };
    let content = match content {
        Some(content) => content,
        None => fetch_all(out, &env.registry, &references).await?,
    };
    let items = names.into_iter().zip(content);
    let items: Vec<Item> =
        items.map(|((reference, name), content)| Item { reference, name, content }).collect();

    let mut requests: Vec<SignRequest> = items.iter().map(|item| request(item, args.immutable)).collect();
    // A script that names what it signs has said what it wants.
    let asks = args.all_tags.is_some() || ask::somebody_is_there();
    if asks || items.len() > 1 {
        let told = desk.publisher.preview(&requests, how).await?;
        show(out, &items, &told, asks && !args.yes);
        for (request, told) in requests.iter_mut().zip(told) {
            request.over = Some(told.replaces.into_iter().collect());
        }
    }
    if asks {
        let what = if items.len() == 1 { "this".to_owned() } else { format!("these {} names", items.len()) };
        ask::confirm(&format!("sign {what} under the root {}?", desk.root), args.yes)?;
    }
    if args.layout.is_none() {
        let tags = items.iter().filter(|item| item.reference.digest.is_none());
        let tags: Vec<(Reference, Digest)> =
            tags.map(|item| (item.reference.clone(), item.content.descriptor.digest)).collect();
        still_there(out, &env.registry, &tags).await?;
    }
    let done = sign(&desk, &mut requests, how, args.yes).await?.map(|signed| Told { signed });
    let expected =
        |_| items.iter().map(|item| Expected::Signed(&item.name, item.content.descriptor.digest)).collect();
    args.place.conclude(env, out, &desk, &done, expected, |told| words(&items, told)).await
}

/// What is to be signed, by name.
async fn references(env: &Env, args: &Args) -> Result<Vec<Reference>, Failure> {
    let Some(repository) = &args.all_tags else { return Ok(args.references.clone()) };
    let tags = env.registry.tags(repository).await?;
    let excluded = |tag: &String| args.exclude.iter().any(|glob| matches(glob, tag));
    let mut references = Vec::new();
    for tag in tags.iter().filter(|tag| !excluded(tag)) {
        let tag = tag.parse().map_err(|_| Failure::internal(format!("`{tag}` is no tag")))?;
        references.push(Reference { repository: repository.clone(), tag: Some(tag), digest: None });
    }
    match references.len() {
        0 => Err(Failure::usage(format!("{repository} has no tag to sign ({} are excluded)", tags.len()))),
        1..=MAX_TAGS => Ok(references),
        found => Err(Failure::usage(format!("{repository} has {found} tags, more than {MAX_TAGS}"))
            .next("leave some out with --exclude, or name those that shall be signed")),
    }
}

/// The target name of each; every one once.
fn names(references: &[Reference], args: &Args) -> Result<Vec<(Reference, TargetName)>, Failure> {
    if args.layout.is_some() && references.len() != 1 {
        return Err(Failure::usage("--layout holds what one reference shall mean, so name one".to_owned()));
    }
    let mut known = BTreeMap::new();
    let mut names = Vec::new();
    for reference in references {
        let name = target_name(reference);
        if args.immutable && matches!(name, TargetName::Digest { .. }) {
            return Err(Failure::usage(format!(
                "--immutable promises what a tag means, and {reference} has none"
            )));
        }
        if args.layout.is_some() && reference.digest.is_some() {
            return Err(Failure::usage(format!("{reference} names a digest, and --layout has its own"))
                .next("name the tag alone"));
        }
        // Two hosts, one name: names carry no host.
        if let Some(other) = known.insert(name.clone(), reference) {
            return Err(Failure::usage(format!("{other} and {reference} are the same name, {name}")));
        }
        names.push((reference.clone(), name));
    }
    Ok(names)
}

pub(super) fn request(item: &Item, immutable: bool) -> SignRequest {
    SignRequest {
        platforms: item.content.platforms.clone(),
        immutable,
        ..SignRequest::new(item.name.clone(), item.content.descriptor.clone())
    }
}

/// Shows what will be signed, on standard error. Who is asked must see it, however quiet it shall be.
pub(super) fn show(out: &Out, items: &[Item], told: &[Signed], asked: bool) {
    for (item, told) in items.iter().zip(told) {
        let replaces = match told.replaces {
            Some(before) => format!(", in place of {before}"),
            None => String::new(),
        };
        let immutable = if told.immutable { ", immutable" } else { "" };
        let kind = &item.content.kind;
        let line = format!("{}  {}  {kind}{immutable}{replaces}; {}", told.name, told.digest, told.role);
        if asked { complain(&printable(&line)) } else { out.aside(&line) }
    }
}

/// Signs; where somebody else was faster, who is there is asked which of the two is meant.
pub(super) async fn sign(
    desk: &Desk,
    requests: &mut [SignRequest],
    how: How<'_>,
    yes: bool,
) -> Result<Done<Vec<Signed>>, Failure> {
    loop {
        match desk.publisher.sign(requests, how).await {
            // Said before nobody could know of it, --yes is no answer to this.
            Err(error @ PublishError::Clash { .. }) if !yes && ask::somebody_is_there() => {
                let PublishError::Clash { name, ours, theirs, .. } = &error else { return Err(error.into()) };
                complain(&format!(
                    "{name} was just signed by somebody else\n  theirs  {theirs}\n  ours    {ours}"
                ));
                if ask::answer("which one shall it mean: is it ours?")? != Some(true) {
                    return Err(error.into());
                }
                let clashed = requests.iter_mut().find(|request| request.name.to_string() == *name);
                let clashed = clashed.expect("a clash is about one of the names");
                clashed.over.get_or_insert_default().push(*theirs);
            }
            other => return Ok(other?),
        }
    }
}

fn words(items: &[Item], told: &Told) -> (String, Vec<String>) {
    let mut notes = Vec::new();
    for signed in &told.signed {
        notes.extend(signed.entries.iter().map(|entry| format!("as     {entry}")));
        notes.extend(signed.replaces.map(|before| format!("was    {before}")));
        if signed.immutable {
            notes.push(
                "for good: no other digest may be signed under this tag until this one is revoked".to_owned(),
            );
        }
    }
    if items.iter().any(|item| matches!(item.name, TargetName::Digest { .. })) {
        notes.push(
            "a digest by itself is accepted by clients once a tag, or an index that a tag means, means it"
                .to_owned(),
        );
    }
    let head = match items {
        [item] => format!("signed {}  {}", item.reference, item.content.descriptor.digest),
        several => format!("signed {} names", several.len()),
    };
    (head, notes)
}
