//! Asks one root about one name.

use std::path::Path;

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::{Digest, TargetName},
    policy::{Verdict, is_current},
    tuf::{self, Document, Found, Outcome, Revocation, RoleType, Trusted},
};

use super::{LocalFault, RoleReport, RootReport, words::chain};
use crate::{
    floor::FloorFault,
    update::{Bounds, Session, Source, SourceError, UpdateError},
};

/// What one root says, and what the answer rests on.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) report: RootReport,
    pub(super) said: Said,
    /// Which role took back what, among the roles asked.
    pub(super) revocations: Vec<(String, Revocation)>,
    /// The signer of the timestamp said two things.
    pub(super) equivocation: bool,
    /// Why what was verified could not be remembered, if it could not.
    pub(super) unremembered: Option<String>,
}

/// The root's word on the name.
#[derive(Debug, Clone)]
pub(super) enum Said {
    /// It is signed.
    Signed(Signed),
    /// Freshly proven: nobody who may speak about the name lists it.
    Absent,
    /// A role took back a whole scope that holds the name.
    ScopeRevoked(String, Revocation),
    /// No answer that could be used.
    Failed(Verdict),
}

/// What is signed under the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signed {
    pub(super) digest: Digest,
    pub(super) length: u64,
    pub(super) media_type: Option<String>,
    /// For a digest: some tag of its repository means it now, or an index that it was signed with.
    pub(super) current: bool,
}

impl Answer {
    pub(super) fn has_revocations(&self) -> bool {
        !self.revocations.is_empty()
    }
}

/// Brings the trusted state of the root `name` up to date and searches for `wanted`. `pinned` is the root document,
/// already compared with the policy's sha256.
///
/// # Errors
/// [`LocalFault`]; an untrusted or unavailable root is an answer.
pub(super) async fn ask<S: Source>(
    source: S,
    base: &Path,
    name: &str,
    pinned: &[u8],
    now: DateTime<Utc>,
    bounds: &Bounds,
    wanted: &TargetName,
) -> Result<Answer, LocalFault> {
    let report = RootReport {
        name: name.to_owned(),
        trust: None,
        repository: source.location(),
        verdict: Verdict::Untrusted,
        path: Vec::new(),
        roles: Vec::new(),
        timestamp_age: None,
        stale_by: None,
        error: None,
        unpublished: false,
    };
    let mut answer = Answer {
        report,
        said: Said::Absent,
        revocations: Vec::new(),
        equivocation: false,
        unremembered: None,
    };
    let mut session = match Session::refresh(source, base, pinned, now, bounds).await {
        Ok(session) => session,
        Err(error) => return failed(answer, error),
    };
    let found = session.find(&wanted.to_string()).await;
    answer.equivocation = session.equivocation();
    answer.unremembered = session.unremembered().map(|error| chain(error));
    describe(&mut answer.report, session.trusted());
    let (verdict, said) = match found {
        Err(unfinished) => {
            // A role above took it back: that holds, whatever the roles below fail to say.
            answer.revocations = unfinished.revocations;
            return failed(answer, unfinished.error);
        }
        Ok(Outcome::Revoked { role, revocation }) => {
            answer.report.path = vec![role.clone()];
            (Verdict::Revoked, Said::ScopeRevoked(role, revocation))
        }
        Ok(Outcome::Absent { revocations }) => {
            answer.revocations = revocations;
            (Verdict::Absent, Said::Absent)
        }
        Ok(Outcome::Found(found)) => {
            answer.report.path = found.path.clone();
            answer.revocations = found.revocations.clone();
            match found.target.digest() {
                Some(digest) => {
                    let current = match wanted {
                        TargetName::Tag { .. } => true,
                        TargetName::Digest { repository, .. } => {
                            means_now(session.trusted(), &found, repository, &digest)
                        }
                    };
                    let media_type = found.target.media_type().map(str::to_owned);
                    let signed = Signed { digest, length: found.target.length, media_type, current };
                    (Verdict::Verified, Said::Signed(signed))
                }
                None => {
                    answer.report.error = Some("the entry has no sha256".to_owned());
                    (Verdict::Untrusted, Said::Failed(Verdict::Untrusted))
                }
            }
        }
    };
    for role in answer.report.path.clone() {
        if let Some((_, document)) = session.trusted().role(&role) {
            answer.report.roles.push(role_report(&role, document));
        }
    }
    answer.report.verdict = verdict;
    answer.said = said;
    Ok(answer)
}

fn failed(mut answer: Answer, error: UpdateError) -> Result<Answer, LocalFault> {
    match (error.verdict(), error) {
        (Some(verdict), error) => {
            answer.report.verdict = verdict;
            answer.report.error = Some(chain(&error));
            answer.report.unpublished = matches!(error, UpdateError::Tuf(tuf::Error::NotInSnapshot { .. }));
            answer.said = Said::Failed(verdict);
            Ok(answer)
        }
        (None, UpdateError::State(error)) => Err(error.into()),
        (None, UpdateError::OtherFloor { floor, root }) => Err(FloorFault::Other { floor, root }.into()),
        (None, UpdateError::Source(SourceError::Registry(error))) => Err(LocalFault::Registry(error)),
        (None, error) => unreachable!("every other error has a verdict: {error}"),
    }
}

/// True if the role at the end of `found`'s path means `digest` now.
fn means_now(trusted: &Trusted, found: &Found, repository: &str, digest: &Digest) -> bool {
    let Some((_, role)) = found.path.last().and_then(|role| trusted.role(role)) else { return false };
    is_current(&role.signed, repository, digest, |index| found.revocation(index).is_some())
}

fn describe(report: &mut RootReport, trusted: &Trusted) {
    report.stale_by = trusted.stale_by().map(|by| u64::try_from(by.num_seconds()).unwrap_or(0));
    report.trust = trusted.trust_id().map(str::to_owned);
    report.roles.push(role_report("root", trusted.root()));
    if let Some(timestamp) = trusted.timestamp() {
        report.roles.push(role_report("timestamp", timestamp));
        let signed_at = timestamp.signed.common.identity.as_ref().map(|identity| identity.at);
        // A clock behind the signer's makes the age negative; that is no age at all, so it is shown as none passed.
        report.timestamp_age =
            signed_at.map(|at| u64::try_from((trusted.now() - at).num_seconds()).unwrap_or(0));
    }
    if let Some(snapshot) = trusted.snapshot() {
        report.roles.push(role_report("snapshot", snapshot));
    }
}

fn role_report<T: RoleType>(role: &str, document: &Document<T>) -> RoleReport {
    let common = document.signed.common();
    RoleReport { role: role.to_owned(), version: common.version, expires: common.expires }
}
