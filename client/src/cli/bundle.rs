//! `bundle export`, `bundle inspect` and `bundle import`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use chrono::{DateTime, SecondsFormat, Utc};
use plimsoll_core::{
    oci::{Reference, RepositoryAddress, TargetName},
    policy::{Place, Policy, Rule, Verdict},
    tuf::{Floor, Outcome},
};
use serde::Serialize;

use super::{Env, Failure, Out};
use crate::{
    bundle::{
        Bundle, BundleError, Closure, Contents, Extent, Image, Imported, Importer, Known, LandedImage,
        LeftOut, Others, PinnedRoot, Site, Skipped, Summary, Written, export,
    },
    floor,
    trust::{load_policy, load_root},
    update::{AnySource, Bounds, Places, Session},
    verify::{Context, Mode, Options, ago, target_name, verify_all},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Write what verifies references, or a whole trust repository, into a file to be carried
    Export(ExportArgs),
    /// Tell what is in a bundle and how old that is; checks every digest, and needs no network
    Inspect {
        /// The bundle, or the folder of an image layout
        file: PathBuf,
    },
    /// Verify a bundle by the roots pinned here, and put it into a registry or a folder; forward only
    Import(ImportArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// References, or names of pinned roots: then all their roles
    #[arg(required = true, value_name = "REF|ROOT")]
    what: Vec<String>,
    /// Take the images along that verify, with all platforms: those named, or under a root every signed tag
    #[arg(long)]
    with_images: bool,
    /// Take metadata only; this is so unless told otherwise
    #[arg(long, conflicts_with = "with_images")]
    metadata_only: bool,
    /// Leave out what the far side has: a floor, or what bundle inspect or import printed there with -o json
    #[arg(long, value_name = "STATE")]
    since: Option<PathBuf>,
    /// The file to write; never overwrites one
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("where").required(true))]
pub(super) struct ImportArgs {
    /// The bundle
    file: PathBuf,
    /// Push to this registry: HOST, or HOST/PREFIX
    #[arg(long, value_name = "HOST[/PREFIX]", group = "where")]
    to: Option<String>,
    /// Put it into this folder, which a policy can name as the place oci:FOLDER
    #[arg(long, value_name = "FOLDER", group = "where")]
    layout: Option<PathBuf>,
}

#[derive(Serialize)]
struct Exported<'a> {
    #[serde(flatten)]
    written: Written,
    trusts: Vec<&'a Summary>,
    images: Vec<Carried<'a>>,
    left_out: Vec<&'a LeftOut>,
    /// Places that gave nothing good while another one did.
    skipped: &'a [Skipped],
    /// Tags under a root that do not verify, so are not taken along.
    unverified: &'a BTreeMap<String, Verdict>,
}

#[derive(Serialize)]
struct Carried<'a> {
    image: &'a str,
    digest: plimsoll_core::oci::Digest,
}

pub(super) async fn run(env: &Env, out: &Out, command: Command) -> Result<u8, Failure> {
    match command {
        Command::Export(args) => run_export(env, out, &args).await,
        Command::Inspect { file } => {
            let contents = Bundle::open(&file)?.contents(env.clock.now());
            let head = format!("{}  {} of content", file.display(), size(contents.bytes));
            out.result(&contents, &head, &inspected(&contents, env.clock.now()))?;
            Ok(0)
        }
        Command::Import(args) => run_import(env, out, args).await,
    }
}

/// What is asked of one root.
#[derive(Default)]
struct Wanted {
    whole: bool,
    names: BTreeSet<String>,
}

async fn run_export(env: &Env, out: &Out, args: &ExportArgs) -> Result<u8, Failure> {
    let policy = load_policy(&env.home)?;
    let known = args.since.as_deref().map(Known::read).transpose()?;
    let (mut wanted, mut references) = (BTreeMap::<String, Wanted>::new(), Vec::new());
    for what in &args.what {
        if policy.root.contains_key(what) {
            wanted.entry(what.clone()).or_default().whole = true;
            continue;
        }
        let reference = read(what)?;
        let roots = roots_of(&policy, &reference)?;
        for (root, name) in &roots {
            wanted.entry(root.clone()).or_default().names.insert(name.to_string());
        }
        references.extend(roots.into_iter().next().map(|(_, name)| (reference, name)));
    }
    let mut carried = Vec::new();
    if args.with_images {
        for ((reference, _), image) in references.iter().zip(images(env, &references).await?) {
            carried.push(image.map_err(|(verdict, why)| {
                Failure::verdict(verdict, format!("{verdict}  {reference}: {why}"))
                    .next("leave it out; without --with-images its revocation or absence can be carried")
            })?);
        }
    }
    let (mut closures, mut unverified, mut skipped) = (Vec::new(), BTreeMap::new(), Vec::new());
    for (root, wanted) in &wanted {
        let (closure, names) = closure(env, out, &policy, root, wanted, &mut skipped).await?;
        if args.with_images && wanted.whole {
            let tags = tags(&policy, root, &names);
            for ((reference, _), image) in tags.iter().zip(images(env, &tags).await?) {
                match image {
                    Ok(image) if carried.iter().all(|known: &Image| known.called != image.called) => {
                        carried.push(image);
                    }
                    Ok(_) => {}
                    Err((verdict, _)) => {
                        unverified.insert(reference.to_string(), verdict);
                    }
                }
            }
        }
        closures.push(closure);
    }
    carried.sort_by(|one, other| one.called.cmp(&other.called));
    let written = export(&env.registry, &closures, &carried, known.as_ref(), &args.out).await?;
    let head = format!("{}  {}", written.file.display(), size(written.bytes));
    let mut notes: Vec<String> =
        closures.iter().map(|closure| summary(&closure.summary, env.clock.now())).collect();
    notes.extend(carried.iter().map(|image| format!("image  {}  {}", image.called, image.top.digest)));
    if written.left_to_far_side > 0 {
        notes.push(format!("left out  {} blobs that the far side has", written.left_to_far_side));
    }
    let left_out: Vec<&LeftOut> = closures.iter().flat_map(|closure| &closure.left_out).collect();
    for left in &left_out {
        notes.push(format!("! left out  {}: {}", left.role, left.why));
    }
    notes.extend(unverified.iter().map(|(image, verdict)| format!("! not taken along  {image}: {verdict}")));
    let images = carried.iter().map(|image| Carried { image: &image.called, digest: image.top.digest });
    let shown = Exported {
        written,
        trusts: closures.iter().map(|closure| &closure.summary).collect(),
        images: images.collect(),
        left_out,
        skipped: &skipped,
        unverified: &unverified,
    };
    out.result(&shown, &head, &notes)?;
    warn(out, &skipped);
    Ok(0)
}

fn read(text: &str) -> Result<Reference, Failure> {
    let mut reference: Reference = super::argument(text).map_err(Failure::usage)?;
    if reference.tag.is_none() && reference.digest.is_none() {
        reference.tag = Some(super::argument("latest").map_err(Failure::internal)?);
    }
    Ok(reference)
}

/// The roots that the policy names for the reference, each with what the reference is called there.
fn roots_of(policy: &Policy, reference: &Reference) -> Result<Vec<(String, TargetName)>, Failure> {
    let found = policy.identity(&reference.repository).and_then(|repository| {
        let identity = Reference { repository, ..reference.clone() };
        let name = target_name(&identity);
        let scope = policy.select(&identity.repository.host, &name)?;
        let roots = scope.roots().into_iter();
        Some(
            roots.filter_map(|root| Some((root.to_owned(), scope.name_in(root, &name)?))).collect::<Vec<_>>(),
        )
    });
    found.filter(|roots| !roots.is_empty()).ok_or_else(|| {
        let text = format!("NO_POLICY: your policy names no root for {reference}, and no root is called so");
        Failure::verdict(Verdict::NoPolicy, text).next("plimsoll trust list")
    })
}

/// Each image, if it verifies; else what is said of it. All are asked together.
async fn images(
    env: &Env,
    wanted: &[(Reference, TargetName)],
) -> Result<Vec<Result<Image, (Verdict, String)>>, Failure> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let context = Context::load(env.home.clone(), env.registry.clone(), env.clock.clone())?;
    let references: Vec<Reference> = wanted.iter().map(|(reference, _)| reference.clone()).collect();
    let mut images = Vec::new();
    let said = verify_all(&context, &references, Mode::Verify, &Options::default()).await?;
    for ((reference, name), said) in wanted.iter().zip(said) {
        let said = said?;
        images.push(match said.digest.filter(|_| said.verdict == Verdict::Verified) {
            Some(digest) => Ok(Image::fetch(&env.registry, reference, &name.to_string(), digest).await?),
            None => Err((said.verdict, said.reason)),
        });
    }
    Ok(images)
}

/// The closure of what is wanted of one root, and every name that its roles list.
async fn closure(
    env: &Env,
    out: &Out,
    policy: &Policy,
    root: &str,
    wanted: &Wanted,
    skipped: &mut Vec<Skipped>,
) -> Result<(Closure, BTreeSet<String>), Failure> {
    let pinned = load_root(&env.home, &policy.root[root])?;
    let called = called(env, policy, root, &pinned)?;
    let places = sources(env, &policy.root[root].places, &pinned);
    let bounds = bounds(env, policy, root)?;
    let (state, now) = (env.home.state(), env.clock.now());
    let session = Session::refresh_places(places, &state, &pinned, now, &bounds).await;
    let mut session = session.map_err(BundleError::from)?;
    skipped.extend(Skipped::of(&session));
    for name in &wanted.names {
        let found = session.find(name).await;
        let found = found.map_err(|unfinished| Failure::from(unfinished.error))?;
        if matches!(found, Outcome::Absent { .. }) {
            out.aside(&format!("note: nobody signed {name}; the bundle will say so"));
        }
    }
    let extent = if wanted.whole { Extent::All } else { Extent::Searched };
    let closure = Closure::collect(&mut session, &called.to_string(), extent).await?;
    let listed = session.trusted().roles().flat_map(|(_, role)| role.signed.targets.keys().cloned());
    Ok((closure, listed.collect()))
}

/// The places as they are asked, for the root document `pinned`.
pub(super) fn sources(env: &Env, places: &[Place], pinned: &[u8]) -> Places<AnySource> {
    let policy = env.home.policy();
    let beside = policy.parent().unwrap_or(Path::new(""));
    let source = |place| AnySource::new(env.registry.clone(), place, beside, pinned);
    Places::new(places.iter().map(source).collect())
}

/// What the trust repository of `root` is called in a bundle, which the far side puts it below: the first of its places that
/// is a repository on a registry, wherever it is read; else the name that a layout among its places has for it.
fn called(env: &Env, policy: &Policy, root: &str, pinned: &[u8]) -> Result<RepositoryAddress, Failure> {
    let entry = &policy.root[root];
    if let Some(repository) = entry.repository() {
        return Ok(repository.clone());
    }
    let policy = env.home.policy();
    let beside = policy.parent().unwrap_or(Path::new(""));
    let called = entry.places.iter().find_map(|place| {
        match AnySource::new(env.registry.clone(), place, beside, pinned) {
            AnySource::Layout(layout) => layout.called().ok()??.parse().ok(),
            _ => None,
        }
    });
    called.ok_or_else(|| {
        let text = format!(
            "[root.{root}] has no place with a name that a registry could put it under: plain TUF files are read, and \
             cannot be exported under a URL"
        );
        Failure::usage(text).next(
            "add HOST/REPOSITORY, as its publisher calls it, to its `repository` in the policy; or `plimsoll mirror` \
             it to a registry first",
        )
    })
}

/// Each place that was passed over, as a warning.
pub(super) fn warn(out: &Out, skipped: &[Skipped]) {
    for Skipped { place, why } in skipped {
        out.aside(&format!("warning: {place} gave nothing that could be used ({why}); another place did"));
    }
}

/// The tags among `names`, at each host where the policy requires `root` for them.
fn tags(policy: &Policy, root: &str, names: &BTreeSet<String>) -> Vec<(Reference, TargetName)> {
    let scopes = policy.scopes().iter().filter(|scope| scope.roots().contains(&root));
    let hosts: BTreeSet<&str> = scopes.map(|scope| scope.host.as_str()).collect();
    let mut tags = Vec::new();
    for name in names {
        let Ok(name @ TargetName::Tag { .. }) = name.parse::<TargetName>() else { continue };
        for host in &hosts {
            let Ok(reference) = format!("{host}/{name}").parse::<Reference>() else { continue };
            let roots = roots_of(policy, &reference).unwrap_or_default();
            if roots.iter().any(|(known, called)| known == root && *called == name) {
                tags.push((reference, name.clone()));
            }
        }
    }
    tags
}

/// What bundles and copies are held to: the floors, and the longest staleness that the policy allows anything of this root.
pub(super) fn bounds(env: &Env, policy: &Policy, root: &str) -> Result<Bounds, Failure> {
    let allowed = policy.scopes().iter().filter_map(|scope| match &scope.rule {
        Rule::Vouch(vouch) if scope.roots().contains(&root) => vouch.max_staleness,
        _ => None,
    });
    Ok(Bounds { max_staleness: allowed.max(), floors: floors_of(env, policy, root)? })
}

/// The floor that the policy names for `root`.
fn floors_of(env: &Env, policy: &Policy, root: &str) -> Result<Vec<Floor>, Failure> {
    let Some(path) = &policy.root[root].floor else { return Ok(Vec::new()) };
    let folder = env.home.policy().parent().map(Path::to_owned).unwrap_or_default();
    Ok(vec![floor::read(&folder.join(path))?])
}

async fn run_import(env: &Env, out: &Out, args: ImportArgs) -> Result<u8, Failure> {
    let site = match (args.to, args.layout) {
        (Some(to), _) => Site::registry(env.registry.clone(), &to)
            .map_err(|error| Failure::usage(format!("--to: {}", crate::verify::chain(&error))))?,
        (None, Some(folder)) => Site::Layout(folder),
        (None, None) => return Err(Failure::usage("give --to or --layout".to_owned())),
    };
    let policy = load_policy(&env.home)?;
    let mut roots = Vec::new();
    for (name, entry) in &policy.root {
        let document = load_root(&env.home, entry)?;
        roots.push(PinnedRoot { name: name.clone(), document, bounds: bounds(env, &policy, name)? });
    }
    let bundle = Bundle::open(&args.file)?;
    let state = env.home.state();
    let importer =
        Importer { policy: &policy, roots: &roots, state: &state, site: &site, clock: env.clock.as_ref() };
    let imported = importer.import(&bundle).await?;
    let (head, notes) = told(&imported, env.clock.now());
    out.result(&imported, &head, &notes)?;
    Ok(0)
}

fn told(imported: &Imported, now: DateTime<Utc>) -> (String, Vec<String>) {
    let mut notes = Vec::new();
    for trust in &imported.trusts {
        let how = match (trust.new, trust.before) {
            (false, _) => "the same as before".to_owned(),
            (true, Some(before)) => format!("timestamp {before} before"),
            (true, None) => "new".to_owned(),
        };
        notes.push(format!("{}, by the root {}, {how}", summary(&trust.summary, now), trust.root));
        notes.push(format!("  at {}", trust.place));
        notes.extend(others(&trust.others).map(|note| format!("  {note}")));
    }
    for LandedImage { image, new } in &imported.images {
        notes.push(format!("image  {image}{}", if *new { "" } else { ", the same as before" }));
    }
    let new = imported.trusts.iter().any(|trust| trust.new) || imported.images.iter().any(|image| image.new);
    (if new { "imported" } else { "nothing new: this was imported before" }.to_owned(), notes)
}

/// What others wrote to the same place, if they did.
pub(super) fn others(others: &Others) -> Option<String> {
    match others {
        Others { newer: Some(version), .. } => Some(format!(
            "! somebody else wrote the newer timestamp {version} there meanwhile: that one stays"
        )),
        Others { again: true, .. } => {
            Some("! somebody else wrote something older over it meanwhile: it was put there again".to_owned())
        }
        _ => None,
    }
}

fn inspected(contents: &Contents, now: DateTime<Utc>) -> Vec<String> {
    let mut notes = Vec::new();
    for trust in &contents.trusts {
        let as_of = trust.as_of.map_or_else(|| "of no known time".to_owned(), time);
        let age = trust.age.map_or_else(String::new, |age| format!(" ({} ago)", ago(age)));
        let trust_id = trust.trust.as_deref().unwrap_or("none");
        notes.push(format!("trust  {}  as of {as_of}{age}; trust id {trust_id}", trust.repository));
        let versions = trust.versions.iter().map(|(role, version)| format!("{role} {version}"));
        notes.push(format!("  {}", versions.collect::<Vec<_>>().join(", ")));
        notes.extend(trust.expires.map(|expires| match expires <= now {
            true => format!("  expired at {}", time(expires)),
            false => format!("  good until {}", time(expires)),
        }));
    }
    for image in &contents.images {
        notes.push(format!("image  {}  {}  {}", image.image, image.digest, size(image.bytes)));
    }
    if !contents.missing.is_empty() {
        let bytes = contents.missing.iter().fold(0u64, |sum, missing| sum.saturating_add(missing.bytes));
        let count = contents.missing.len();
        notes.push(format!("left out  {count} blobs, {}, which must be at the far side", size(bytes)));
    }
    notes.push("nothing of this is verified yet: `plimsoll bundle import` does that".to_owned());
    notes
}

/// `trust  REPOSITORY  as of TIME (AGE ago): root 1, timestamp 2, snapshot 3, targets 4; 5 roles`
fn summary(summary: &Summary, now: DateTime<Utc>) -> String {
    let as_of = summary.as_of.map_or_else(String::new, |at| {
        let age = u64::try_from((now - at).num_seconds()).unwrap_or(0);
        format!("as of {} ({} ago): ", time(at), ago(age))
    });
    let roles = summary.versions.len().saturating_sub(4);
    let roles = if roles == 1 { "1 role".to_owned() } else { format!("{roles} roles") };
    format!("trust  {}  {as_of}{}; {roles}", summary.repository, summary.versions_in_words())
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}
