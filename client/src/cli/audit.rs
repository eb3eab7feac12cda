//! `audit`.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use plimsoll_core::policy::Verdict;

use super::{
    Env, Failure, Out,
    output::{Tone, painted},
    verify::{Floors, behind},
};
use crate::{
    audit::{self, Audited, Format, ImageReport, ListingError},
    verify::{chain, printable},
};

/// Where an image runs is told this often; JSON tells all.
const SHOWN_PLACES: usize = 3;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What runs: a list of references, or the output of crictl, docker or kubectl; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// What the file holds; else its shape tells
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    floors: Floors,
}

pub(super) async fn run(env: &Env, out: &Out, args: &Args) -> Result<u8, Failure> {
    let name = if args.file == Path::new("-") {
        "standard input".to_owned()
    } else {
        args.file.display().to_string()
    };
    let bytes = read(&args.file).map_err(|error| Failure::usage(format!("cannot read {name}: {error}")))?;
    let listing = audit::read(&bytes, args.format).map_err(|error| unread(&name, &error))?;
    drop(bytes);
    let context = args.floors.context(env)?;
    let audited = audit::audit(&context, &listing).await?;
    if out.json() {
        out.result(&audited, "", &[])?;
        return Ok(audited.exit_code());
    }
    for image in &audited.images {
        let (head, notes) = text(image, out);
        out.result(&(), &head, &notes)?;
    }
    warn(out, &audited);
    Ok(audited.exit_code())
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One more than may be, so that too much is noticed and not cut.
    let cap = audit::MAX_INPUT + 1;
    if file == Path::new("-") {
        io::stdin().lock().take(cap).read_to_end(&mut bytes)?;
    } else {
        File::open(file)?.take(cap).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn unread(name: &str, error: &ListingError) -> Failure {
    Failure::usage(format!("{name}: {}", chain(error)))
        .next("give a list of references, or what `kubectl get pods -A -o json`, `crictl ps -o json` or `docker inspect` print")
}

fn text(image: &ImageReport, out: &Out) -> (String, Vec<String>) {
    let verdict = image.verification.as_ref().map(|verification| verification.verdict);
    let (word, tone) = match verdict {
        Some(Verdict::Verified) => (Verdict::Verified.name(), Tone::Good),
        Some(Verdict::Absent | Verdict::NoPolicy | Verdict::Unreachable | Verdict::Auth) | None => {
            (verdict.map_or("UNKNOWN", Verdict::name), Tone::Unsure)
        }
        Some(verdict) => (verdict.name(), Tone::Bad),
    };
    let mut places = image.places[..image.places.len().min(SHOWN_PLACES)].join(", ");
    if let more @ 1.. = image.places.len().saturating_sub(SHOWN_PLACES) {
        places.push_str(&format!(" and {more} more"));
    }
    let head = format!(
        "{}  {}  {}{}",
        painted(word, tone, &io::stdout()),
        printable(&image.image),
        printable(&places),
        image.verification.as_ref().map(|v| behind(v, out)).unwrap_or_default()
    );
    let mut notes = Vec::new();
    notes.extend(image.unknown.as_ref().map(|why| format!("why   {why}")));
    notes.extend(image.next().map(|next| format!("next  {next}")));
    if image.superseded {
        notes.push("note  its tag means another digest now; your policy accepts this one still".to_owned());
    }
    if let Some(v) = image.verification.as_ref().filter(|v| v.verdict != Verdict::Verified) {
        notes.push(format!("why   {}", v.reason));
        notes.extend(v.next.as_ref().map(|next| format!("next  {next}")));
    }
    (head, notes)
}

fn warn(out: &Out, audited: &Audited) {
    let by_name = audited.images.iter().filter(|image| image.unknown.is_none() && !image.by_digest).count();
    if by_name > 0 {
        out.aside(&format!(
            "note: {by_name} of {} by name only: judged is what the name means now, which need not be what runs",
            audited.images.len()
        ));
    }
    if audited.idle > 0 {
        out.aside(&format!("note: {} left out, which have ended", audited.idle));
    }
    if audited.images.is_empty() {
        out.aside("nothing runs");
    }
    // Each warning once: many images share a root.
    let verifications = audited.images.iter().filter_map(|image| image.verification.as_ref());
    let warnings: BTreeSet<_> = verifications.flat_map(|v| &v.warnings).collect();
    warnings.iter().for_each(|warning| out.aside(&format!("warning: {warning}")));
}
