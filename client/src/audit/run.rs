//! Judging what runs.

use std::collections::HashMap;

use plimsoll_core::{oci::Reference, policy::Verdict};
use serde::Serialize;

use super::{Image, Listing};
use crate::verify::{Context, LocalFault, Mode, Verification, verify};

/// What runs, and what it is worth now.
#[derive(Debug, Clone, Serialize)]
pub struct Audited {
    /// Each image once, in the order in which they were listed.
    pub images: Vec<ImageReport>,
    /// How many entries of the listing do not run.
    pub idle: usize,
}

/// One image that runs.
#[derive(Debug, Clone, Serialize)]
pub struct ImageReport {
    /// The image, in full as far as it is known.
    pub image: String,
    /// Where it runs, in the words of the tool.
    pub places: Vec<String>,
    /// True if the digest that runs is known; else it was judged by what its name means and its registry hands out now.
    pub by_digest: bool,
    /// True if its tag means another digest now, and the policy accepts this one all the same.
    pub superseded: bool,
    /// Why it cannot be judged.
    pub unknown: Option<String>,
    /// The verdict and its reasons; none for what cannot be judged.
    pub verification: Option<Verification>,
}

impl Audited {
    /// The gravest verdict's; 2 if all that could be judged are verified and some could not be; else 0.
    pub fn exit_code(&self) -> u8 {
        let verdicts = self.images.iter().filter_map(|image| Some(image.verification.as_ref()?.verdict));
        match Verdict::gravest(verdicts).unwrap_or(Verdict::Verified) {
            Verdict::Verified if self.images.iter().any(|image| image.unknown.is_some()) => 2,
            verdict => verdict.exit_code(),
        }
    }
}

/// Verifies what `listing` says is running.
///
/// A digest is judged under the tag by which it was asked for. If that tag means another digest by now, it is judged by
/// itself, and the policy says whether digests that were signed earlier may go on running. Network: as [`verify`], for
/// each image once.
///
/// # Errors
/// [`LocalFault`]; everything else is a verdict.
pub async fn audit(ctx: &Context, listing: &Listing) -> Result<Audited, LocalFault> {
    let mut at = HashMap::<&Image, usize>::new();
    let mut images: Vec<ImageReport> = Vec::new();
    for running in &listing.running {
        let index = match at.get(&running.image) {
            Some(index) => *index,
            None => {
                images.push(judge(ctx, &running.image).await?);
                at.insert(&running.image, images.len() - 1);
                images.len() - 1
            }
        };
        images[index].places.push(running.place.clone());
    }
    Ok(Audited { images, idle: listing.idle })
}

async fn judge(ctx: &Context, image: &Image) -> Result<ImageReport, LocalFault> {
    let mut report = ImageReport {
        image: String::new(),
        places: Vec::new(),
        by_digest: false,
        superseded: false,
        unknown: None,
        verification: None,
    };
    match image {
        Image::Unknown { text, why } => {
            report.image.clone_from(text);
            report.unknown = Some((*why).to_owned());
        }
        Image::Known(reference) => {
            report.image = reference.to_string();
            report.by_digest = reference.digest.is_some();
            let mut verification = verify(ctx, reference, Mode::Verify).await?;
            if verification.verdict == Verdict::Mismatch
                && reference.tag.is_some()
                && reference.digest.is_some()
            {
                let alone = Reference { tag: None, ..reference.clone() };
                let own = verify(ctx, &alone, Mode::Verify).await?;
                // Revoked by itself weighs more than superseded; any other failure says less than the mismatch does.
                if matches!(own.verdict, Verdict::Verified | Verdict::Revoked) {
                    report.superseded = own.verdict == Verdict::Verified;
                    verification = own;
                }
            }
            report.verification = Some(verification);
        }
    }
    Ok(report)
}
