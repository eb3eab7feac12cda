//! `promote`.

use plimsoll_core::{
    oci::{Digest, Reference, Tag, is_index},
    policy::Verdict,
};
use serde::Serialize;

use super::{
    Env, Failure, Out, argument, ask,
    content::Content,
    key::{SignerArgs, signers},
    output::complain,
    place::Where,
    sign::{Item, request, show, sign},
    verify::{Floors, show as show_verdict, warn},
};
use crate::{
    bundle::{Image, shown},
    publish::{Expected, How, Signed},
    verify::{Mode, printable, target_name, verify},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What is taken, HOST/REPOSITORY with :TAG, @sha256:HEX or both; your policy must call it VERIFIED
    #[arg(value_name = "SRC", value_parser = argument::<Reference>)]
    from: Reference,
    /// What it is called from then on, HOST/REPOSITORY:TAG; without a tag, that of SRC
    #[arg(value_name = "DST", value_parser = argument::<Reference>)]
    to: Reference,
    /// Promise that DST means this digest for good: no other may be signed under it until this one is revoked
    #[arg(long)]
    immutable: bool,
    /// Do not ask, not even before DST is moved from other content
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    floors: Floors,
    #[command(flatten)]
    signer: SignerArgs,
    #[command(flatten)]
    place: Where,
}

#[derive(Serialize)]
struct Told {
    /// What was verified, by digest.
    source: String,
    /// What it is called now.
    promoted: String,
    /// False if it was there already.
    copied: bool,
    /// What the registry's tag meant before, if it was something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    moved_from: Option<Digest>,
    signed: Vec<Signed>,
}

pub(super) async fn run(env: &Env, out: &Out, args: &Args) -> Result<u8, Failure> {
    let (to, tag) = destination(args)?;
    let name = target_name(&to);
    let desk = args.place.desk_for(env, &to, &name).await?;
    let verification = verify(&args.floors.context(env)?, &args.from, Mode::Verify).await?;
    let (Verdict::Verified, Some(resolved)) = (verification.verdict, &verification.resolved) else {
        show_verdict(env, out, &verification)?;
        warn(out, std::slice::from_ref(&verification));
        out.aside("nothing was copied and nothing signed");
        return Ok(verification.verdict.exit_code());
    };
    warn(out, std::slice::from_ref(&verification));
    let source: Reference = argument(resolved).map_err(Failure::internal)?;
    let digest = source.digest.ok_or_else(|| Failure::internal(format!("{source} names no digest")))?;

    let keys = args.signer.open()?;
    let signers = signers(&keys);
    let how = How { signers: &signers, draft: args.place.draft.is_some() };
    let image = Image::fetch(&env.registry, &source, &verification.name, digest).await?;
    let items = [Item { reference: to.clone(), name, content: content(&image) }];
    let shown = shown(&env.registry, &to.repository, &tag).await?;
    let before = shown.filter(|shown| *shown != digest);

    // Whatever would keep it from being signed is said before it is copied.
    let mut requests = [request(&items[0], args.immutable)];
    let told = desk.publisher.preview(&requests, how).await?;
    let moves = before.is_some() || told.iter().any(|told| told.replaces.is_some());
    let asks = ask::somebody_is_there() || moves;
    show(out, &items, &told, asks && !args.yes);
    if let Some(before) = before {
        complain(&printable(&format!("{to} means {before} in the registry now, and is moved to {digest}")));
    }
    if asks {
        let question = format!("copy {source} to {to}, and sign it under the root {}?", desk.root);
        ask::confirm(&question, args.yes)?;
    }
    requests[0].over = Some(told.into_iter().filter_map(|told| told.replaces).collect());

    let copied = shown != Some(digest);
    if copied {
        let pushed = image.push(&env.registry, &to.repository, &tag, shown).await;
        pushed.map_err(|error| halfway(error.into(), &format!("{to} is not copied and not signed")))?;
    }
    let done = sign(&desk, &mut requests, how, args.yes).await;
    let done = done.map_err(|failure| halfway(failure, &format!("{to} is copied, and not signed")))?;
    let done = done.map(|signed| Told {
        source: source.to_string(),
        promoted: to.to_string(),
        copied,
        moved_from: before,
        signed,
    });
    let expected = |_| vec![Expected::Signed(&items[0].name, digest)];
    args.place.conclude(env, out, &desk, &done, expected, |told| words(told, digest)).await
}

/// What it shall be called, and the tag of that.
fn destination(args: &Args) -> Result<(Reference, Tag), Failure> {
    let (from, to) = (&args.from, &args.to);
    if let Some(digest) = to.digest {
        let text = format!("DST has the digest of what is copied, so it names none: {digest}");
        return Err(Failure::usage(text).next("name its tag alone"));
    }
    let latest = || argument("latest").map_err(Failure::internal);
    let tag = match (&to.tag, &from.tag, from.digest) {
        (Some(tag), _, _) | (None, Some(tag), _) => tag.clone(),
        (None, None, None) => latest()?,
        (None, None, Some(_)) => {
            let text = format!("{to} has no tag, and {from} has none that it could get");
            return Err(Failure::usage(text).next("name the tag of DST: HOST/REPOSITORY:TAG"));
        }
    };
    Ok((Reference { tag: Some(tag.clone()), ..to.clone() }, tag))
}

/// What is signed: the verified manifest or index, and all manifests below it.
fn content(image: &Image) -> Content {
    let below = image.manifests.iter().map(|(manifest, _)| manifest);
    let platforms: Vec<_> = below.filter(|below| below.digest != image.top.digest).cloned().collect();
    let kind = if is_index(&image.top.media_type) {
        format!("index of {}", platforms.len())
    } else {
        image.top.media_type.clone()
    };
    Content { descriptor: image.top.clone(), platforms, kind }
}

/// The failure with what is left of it, and that it can be run again.
fn halfway(failure: Failure, left: &str) -> Failure {
    let again = "run this again: what is there is not copied again";
    let next = failure.next.map_or_else(|| again.to_owned(), |next| format!("{next}; then {again}"));
    Failure { text: format!("{left}: {}", failure.text), next: Some(next), ..failure }
}

fn words(told: &Told, digest: Digest) -> (String, Vec<String>) {
    let mut notes = vec![format!("from   {}", told.source)];
    if !told.copied {
        notes.push("there already, so not copied".to_owned());
    }
    notes.extend(told.moved_from.map(|before| format!("moved  from {before}, which the tag meant")));
    for signed in &told.signed {
        notes.extend(signed.entries.iter().map(|entry| format!("as     {entry}")));
        notes.extend(signed.replaces.map(|before| format!("was    {before}")));
    }
    (format!("promoted {}  {digest}", told.promoted), notes)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn to(from: &str, to: &str) -> Result<String, String> {
        let line = Line::try_parse_from(["promote", from, to, "--key", "x.key"]).unwrap();
        destination(&line.args).map(|(to, _)| to.to_string()).map_err(|failure| failure.text)
    }

    #[test]
    fn the_destination_has_the_tag_that_is_named_else_that_of_the_source() {
        let digest = format!("a.example/x@{}", Digest::of(b"x"));
        assert_eq!(to("a.example/x:v1", "b.example/y:v2").unwrap(), "b.example/y:v2");
        assert_eq!(to("a.example/x:v1", "b.example/y").unwrap(), "b.example/y:v1");
        assert_eq!(to("a.example/x", "b.example/y").unwrap(), "b.example/y:latest");
        assert_eq!(to(&digest, "b.example/y:v1").unwrap(), "b.example/y:v1");
        assert!(to(&digest, "b.example/y").unwrap_err().contains("has no tag"));
        assert!(to("a.example/x:v1", &digest).unwrap_err().contains("names none"));
    }

    #[test]
    fn what_stopped_halfway_says_what_is_left_and_keeps_its_exit_code() {
        let failure = halfway(Failure { code: 30, text: "down".to_owned(), next: None }, "x is copied");
        assert_eq!((failure.code, failure.text.as_str()), (30, "x is copied: down"));
        assert!(failure.next.unwrap().starts_with("run this again"));
        let failure = halfway(Failure::usage("no".to_owned()).next("do that"), "x");
        assert!(failure.next.unwrap().starts_with("do that; then run this again"));
    }
}
