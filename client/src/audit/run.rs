//! Judging what runs.

use std::{collections::HashMap, sync::Arc};

use plimsoll_core::{
    oci::Reference,
    policy::{Policy, ScopeEntry, Verdict},
};
use serde::Serialize;

use super::{Image, Listing};
use crate::verify::{
    Context, Judged, LocalFault, Mode, Options, Verification, chain, target_name, verify_all,
};

/// What runs, and what it is worth now.
#[derive(Debug, Clone, Serialize)]
pub struct Audited {
    /// Each image once, in the order in which they were listed.
    pub images: Vec<ImageReport>,
    /// How many entries of the listing have ended.
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
    /// The fault of this machine that keeps it from being judged, if one does.
    #[serde(skip)]
    fault: Option<Arc<LocalFault>>,
}

impl Audited {
    /// The gravest verdict's; if all that could be judged are verified and some could not be, 2, or 1 where faults of
    /// this machine are all that is in the way; else 0.
    pub fn exit_code(&self) -> u8 {
        let verdicts = self.images.iter().filter_map(|image| Some(image.verification.as_ref()?.verdict));
        let unknown = self.images.iter().filter(|image| image.unknown.is_some());
        let code = unknown.map(|image| image.fault.as_ref().map_or(2, |fault| fault.exit_code())).max();
        match Verdict::gravest(verdicts).unwrap_or(Verdict::Verified) {
            Verdict::Verified => code.unwrap_or(0),
            verdict => verdict.exit_code(),
        }
    }
}

impl ImageReport {
    /// What to do about a fault of this machine, if there is more to say than why.
    pub fn next(&self) -> Option<String> {
        self.fault.as_ref()?.next()
    }
}

/// Verifies what `listing` says is running.
///
/// A digest is judged under the tag by which it was asked for. If that tag means another digest by now, it is judged by
/// itself, and the policy says whether digests that were signed earlier may go on running: the scope that covers the tag,
/// and if that does not cover the digest, it stays a mismatch. Network: as
/// [`verify_all`], for each image once, and once more for those.
///
/// # Errors
/// As [`verify_all`]; everything else is a verdict, or why there is none.
pub async fn audit(ctx: &Context, listing: &Listing) -> Result<Audited, LocalFault> {
    let mut at = HashMap::<&Image, usize>::new();
    let mut images: Vec<ImageReport> = Vec::new();
    let mut known: Vec<(usize, Reference)> = Vec::new();
    for running in &listing.running {
        let index = *at.entry(&running.image).or_insert_with(|| {
            if let Image::Known(reference) = &running.image {
                known.push((images.len(), reference.clone()));
            }
            images.push(ImageReport::of(&running.image));
            images.len() - 1
        });
        images[index].places.push(running.place.clone());
    }
    for (index, judged) in verified(ctx, &known).await? {
        match judged {
            Ok(verification) => images[index].verification = Some(verification),
            Err(fault) => {
                images[index].unknown = Some(chain(&*fault));
                images[index].fault = Some(fault);
            }
        }
    }
    // By themselves, those whose tag means another digest now.
    known.retain(|(index, reference)| {
        let verdict = images[*index].verification.as_ref().map(|verification| verification.verdict);
        verdict == Some(Verdict::Mismatch) && one_scope(&ctx.policy, reference)
    });
    known.iter_mut().for_each(|(_, reference)| reference.tag = None);
    for (index, judged) in verified(ctx, &known).await? {
        let Ok(verification) = judged else { continue };
        // Revoked weighs more than superseded; any other failure says less than the mismatch does.
        if matches!(verification.verdict, Verdict::Verified | Verdict::Revoked) {
            images[index].superseded = verification.verdict == Verdict::Verified;
            images[index].verification = Some(verification);
        }
    }
    Ok(Audited { images, idle: listing.idle })
}

/// True if one scope covers `reference` by its tag and by its digest: else what another scope, with other roots or rules,
/// says of the digest would stand for what the tag's does not.
fn one_scope(policy: &Policy, reference: &Reference) -> bool {
    let Some(repository) = policy.identity(&reference.repository) else { return false };
    let scope = |tag, digest| -> Option<&ScopeEntry> {
        let judged = Reference { repository: repository.clone(), tag, digest };
        policy.select(&repository.host, &target_name(&judged))
    };
    if reference.tag.is_none() || reference.digest.is_none() {
        return false;
    }
    let scopes = scope(reference.tag.clone(), None).zip(scope(None, reference.digest));
    scopes.is_some_and(|(tag, digest)| std::ptr::eq(tag, digest))
}

async fn verified(ctx: &Context, images: &[(usize, Reference)]) -> Result<Vec<(usize, Judged)>, LocalFault> {
    let references: Vec<Reference> = images.iter().map(|(_, reference)| reference.clone()).collect();
    let all = verify_all(ctx, &references, Mode::Verify, &Options::default()).await?;
    Ok(images.iter().map(|(index, _)| *index).zip(all).collect())
}

impl ImageReport {
    fn of(image: &Image) -> Self {
        let (text, by_digest, unknown) = match image {
            Image::Known(reference) => (reference.to_string(), reference.digest.is_some(), None),
            Image::Unknown { text, why } => (text.clone(), false, Some((*why).to_owned())),
        };
        let (places, verification) = (Vec::new(), None);
        Self { image: text, places, by_digest, superseded: false, unknown, verification, fault: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_judged_by_itself_only_in_the_scope_of_its_tag() {
        let sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let policy = |patterns: &[&str]| {
            let scope =
                |pattern: &&str| format!("[[scope]]\nmatch = \"{pattern}\"\nrequire = {{ all = [\"a\"] }}\n");
            let scopes: String = patterns.iter().map(scope).collect();
            let root =
                format!("[root.a]\nfile = \"a\"\nsha256 = \"{sha256}\"\nrepository = \"r.io/a/trust\"\n");
            let remap = "[[remap]]\nfrom = \"m.io/hub\"\nto = \"r.io/acme\"\n";
            Policy::parse(&format!("{root}{remap}{scopes}")).unwrap()
        };
        let one = policy(&["r.io/acme/**"]);
        let two = policy(&["r.io/acme/**", "r.io/acme/app:v*"]);
        let only_tags = policy(&["r.io/acme/app:v*"]);
        for (policy, reference, expected) in [
            (&one, "r.io/acme/app:v1", true),
            (&one, "m.io/hub/app:v1", true),
            (&one, "q.io/acme/app:v1", false),
            (&two, "r.io/acme/app:v1", false),
            (&two, "m.io/hub/app:v1", false),
            (&two, "r.io/acme/app:w1", true),
            (&only_tags, "r.io/acme/app:v1", false),
        ] {
            let reference: Reference = format!("{reference}@sha256:{sha256}").parse().unwrap();
            assert_eq!(one_scope(policy, &reference), expected, "{reference}");
            let bare = Reference { tag: None, ..reference.clone() };
            assert!(!one_scope(policy, &bare), "{bare} was judged so already");
        }
    }
}
