//! `lock`.

use std::{io, path::PathBuf};

use super::{
    Env, Failure, Out,
    output::{Tone, painted},
    verify::{Floors, behind},
};
use crate::{
    lock::{self, FileReport, ImageReport, Locked, State},
    verify::printable,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Dockerfiles, compose files, Kubernetes YAML
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Change nothing; fail if an image is not locked to the digest that is signed now
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    floors: Floors,
}

pub(super) async fn run(env: &Env, out: &Out, args: &Args) -> Result<u8, Failure> {
    let context = args.floors.context(env)?;
    let locked = lock::lock(&context, &args.files, args.check).await?;
    let code = locked.exit_code();
    if out.json() {
        out.result(&locked, "", &[])?;
        return Ok(code);
    }
    for file in &locked.files {
        for image in &file.images {
            let (head, notes) = text(file, image, &locked);
            let age = image.verification.as_ref().map(|v| behind(v, out)).unwrap_or_default();
            out.result(&(), &(head + &age), &notes)?;
        }
        if file.images.is_empty() {
            out.aside(&format!("{}: names no image", file.file.display()));
        }
    }
    warn(out, &locked);
    if code != 0 && !args.check {
        out.aside("nothing was written: every image of every file must be verified first");
    }
    Ok(code)
}

fn text(file: &FileReport, image: &ImageReport, locked: &Locked) -> (String, Vec<String>) {
    let (word, tone) = match image.state {
        State::Current => ("current", Tone::Good),
        State::Moved | State::Unlocked if locked.written => ("locked", Tone::Good),
        State::Moved => ("moved", Tone::Unsure),
        State::Unlocked => ("unlocked", Tone::Unsure),
        State::Refused => {
            let verdict = image.verification.as_ref().map(|verification| verification.verdict);
            (verdict.map_or("UNTRUSTED", |verdict| verdict.name()), Tone::Bad)
        }
        State::Opaque => ("unchecked", Tone::Bad),
    };
    let shown = printable(image.locked.as_ref().unwrap_or(&image.image));
    let head =
        format!("{}  {}:{}  {shown}", painted(word, tone, &io::stdout()), file.file.display(), image.line);
    let mut notes = Vec::new();
    if image.state == State::Moved {
        notes.push(format!("was   {}", image.image));
    }
    notes.extend(image.opaque.as_ref().map(|why| format!("why   {why}")));
    if let Some(verification) = image.verification.as_ref().filter(|_| image.state == State::Refused) {
        notes.push(format!("why   {}", verification.reason));
        notes.extend(verification.next.as_ref().map(|next| format!("next  {next}")));
    }
    (head, notes)
}

/// Each warning once: many images share a root.
fn warn(out: &Out, locked: &Locked) {
    let verifications = locked.images().filter_map(|image| image.verification.as_ref());
    let warnings: std::collections::BTreeSet<_> = verifications.flat_map(|v| &v.warnings).collect();
    warnings.iter().for_each(|warning| out.aside(&format!("warning: {warning}")));
}
