//! Whether an image in a bundle is vouched for.

use plimsoll_core::{
    policy::Verdict,
    tuf::{Outcome, Revocation},
};

use super::{BundleError, ImagePart};
use crate::{
    update::{Session, Source},
    verify::chain,
};

/// What the trust repositories of a bundle say of one of its images.
#[derive(Debug, Clone, Default)]
pub(super) struct Vouched {
    by_one: bool,
    against: Option<(Verdict, String)>,
    silent: Option<(Verdict, String)>,
}

impl Vouched {
    /// Asks for `name`, which stands for the place that the image goes to; none if this root has no say there.
    pub(super) async fn ask<S: Source>(
        &mut self,
        session: &mut Session<S>,
        image: &ImagePart,
        name: Option<&str>,
    ) {
        let Some(name) = name else {
            let why = "your policy asks none of the roots in the bundle about where it goes to".to_owned();
            self.silent.get_or_insert((Verdict::Absent, why));
            return;
        };
        let is_it = |(_, revocation): &(String, Revocation)| revocation.digest == Some(image.digest);
        let mut revoked = |role: &str| {
            self.against.get_or_insert((Verdict::Revoked, format!("{role} took it back")));
        };
        match session.find(name).await {
            Ok(Outcome::Found(found)) => {
                let target = &found.target;
                let media_type = target.media_type().is_none_or(|found| found == image.top.media_type);
                let same = target.digest() == Some(image.digest) && target.length == image.top.size;
                if let Some((role, _)) = found.revocation(&image.digest) {
                    revoked(role);
                } else if same && media_type {
                    self.by_one = true;
                } else {
                    let why = format!("another manifest is signed as {name}");
                    self.silent = Some((Verdict::Mismatch, why));
                }
            }
            Ok(Outcome::Revoked { role, .. }) => revoked(&role),
            Ok(Outcome::Absent { revocations, .. }) => match revocations.iter().find(|entry| is_it(entry)) {
                Some((role, _)) => revoked(role),
                None => {
                    let why =
                        format!("nobody signed {name}, which is what it must be called where it goes to");
                    self.silent.get_or_insert((Verdict::Absent, why));
                }
            },
            Err(unfinished) => {
                if let Some((role, _)) = unfinished.revocations.iter().find(|entry| is_it(entry)) {
                    revoked(role);
                }
                let verdict = unfinished.error.verdict().unwrap_or(Verdict::Unreachable);
                self.silent.get_or_insert((verdict, chain(&unfinished.error)));
            }
        }
    }

    pub(super) fn check(self, image: &ImagePart) -> Result<(), BundleError> {
        let unverified =
            |(verdict, why)| BundleError::Unverified { image: image.image.clone(), verdict, why };
        match (self.against, self.by_one, self.silent) {
            (Some(against), _, _) => Err(unverified(against)),
            (None, true, _) => Ok(()),
            (None, false, silent) => {
                let nobody =
                    || (Verdict::Absent, "no trust repository in the bundle vouches for it".to_owned());
                Err(unverified(silent.unwrap_or_else(nobody)))
            }
        }
    }
}
