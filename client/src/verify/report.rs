//! What a verification says, and its JSON: one schema for all commands (docs/verdict.schema.json).

use chrono::{DateTime, Utc};
use plimsoll_core::{oci::Digest, policy::Verdict, tuf::KeyId};
use serde::Serialize;

use super::{LocalFault, words::chain};

/// The version of the JSON. It rises when a member changes its meaning or goes; members may be added without.
pub const VERSION: u32 = 1;

/// A verdict with its reasons.
#[derive(Debug, Clone, Serialize)]
pub struct Verification {
    /// [`VERSION`].
    pub version: u32,
    /// The verdict.
    pub verdict: Verdict,
    /// The exit code that it stands for.
    pub exit_code: u8,
    /// The reference in full: with its host, and with `latest` if neither tag nor digest was written.
    pub reference: String,
    /// What the policy judges it as: the same, unless the policy's `remap` says what the reference is a copy of.
    pub identity: String,
    /// The target name that was searched for; a root may know it by another one.
    pub name: String,
    /// The `match` of the policy's scope that applies; none if there is none.
    pub scope: Option<String>,
    /// `HOST/REPOSITORY@sha256:HEX`, what may be run, where the reference says; only with [`Verdict::Verified`].
    pub resolved: Option<String>,
    /// The signed digest, as far as the roots agree; not to be run unless `resolved` says so.
    pub digest: Option<Digest>,
    /// Signed media type of the manifest.
    pub media_type: Option<String>,
    /// Signed length of the manifest in bytes.
    pub size: Option<u64>,
    /// The digest that was presented: written in the reference, or what the registry's tag points to.
    pub presented: Option<Digest>,
    /// What the registry says of the tag; none if it was not asked, or did not answer.
    pub registry: Option<RegistryReport>,
    /// Why the registry, which was asked for the tag, gave no answer that could be used; none if it did, or was not asked.
    pub registry_error: Option<String>,
    /// What each root says that was asked, in the policy's order; those of a fallback last.
    pub roots: Vec<RootReport>,
    /// Why it was taken back, if it was.
    pub revocation: Option<RevocationReport>,
    /// What a person should look at although it does not change the verdict.
    pub warnings: Vec<String>,
    /// The reason in words.
    pub reason: String,
    /// What to do next, if there is something to do.
    pub next: Option<String>,
}

/// What is told in the place of a verdict of a reference that could not be judged: a fault of this machine or of the
/// reference, which says nothing about what is there.
#[derive(Debug, Clone, Serialize)]
pub struct Unjudged {
    /// [`VERSION`].
    pub version: u32,
    /// Always none: there is no verdict.
    pub verdict: Option<Verdict>,
    /// 1 for this machine, 2 for what the user must change.
    pub exit_code: u8,
    /// The reference as it was written, or in full as far as it could be read.
    pub reference: String,
    /// What is wrong.
    pub reason: String,
    /// What to do next, if there is something to do.
    pub next: Option<String>,
}

impl Unjudged {
    /// The fault that kept `reference` from being judged.
    pub fn of(reference: String, fault: &LocalFault) -> Self {
        let (exit_code, reason, next) = (fault.exit_code(), chain(fault), fault.next());
        Self { version: VERSION, verdict: None, exit_code, reference, reason, next }
    }

    /// A reference that cannot be read, and why: misuse.
    pub fn unread(reference: String, reason: String) -> Self {
        Self { version: VERSION, verdict: None, exit_code: 2, reference, reason, next: None }
    }
}

/// What the registry says of the tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RegistryReport {
    /// What its tag points to; none if it has no such tag.
    pub digest: Option<Digest>,
    /// True if that is not what is signed; none if the roots agree on nothing that it could be compared with.
    pub drift: Option<bool>,
}

/// As what a root was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Required: if it fails, that is the verdict.
    Required,
    /// Required, and `optional`: if it fails, it does not vouch.
    Optional,
    /// A fallback, since all that are required are known not to have signed the name.
    Fallback,
}

/// What one root says of the name.
#[derive(Debug, Clone, Serialize)]
pub struct RootReport {
    /// Its name in the policy.
    pub name: String,
    /// As what it was asked.
    pub part: Part,
    /// The verdict of this root alone, before the registry is asked and roots are compared.
    pub status: Verdict,
    /// True if the verdict is [`Verdict::Verified`] and this root is one of those that it rests on.
    pub vouches: bool,
    /// The trust id, 32 hex digits; none for a foreign root.
    pub trust: Option<String>,
    /// The place that its metadata came from: of several, the one that had the newest first.
    pub source: String,
    /// The target name that this root was asked for.
    pub target: String,
    /// The digest that it vouches for under that name, be it that of the others or not.
    pub digest: Option<Digest>,
    /// The roles from `targets` down to the one that decided.
    pub path: Vec<String>,
    /// The verified roles that the answer rests on: root, timestamp, snapshot and those of `path`; of an absence, all that
    /// were asked, and of a root that failed, those that were verified before it did.
    pub roles: Vec<RoleReport>,
    /// When the role that decided was signed, UTC; none if it does not say, or none did.
    pub signed_at: Option<DateTime<Utc>>,
    /// When the timestamp expires, UTC; where nothing could be had, of the one that was verified last.
    pub timestamp_expires: Option<DateTime<Utc>>,
    /// When the source was asked, UTC; none if it gave nothing that could be used.
    pub fetched_at: Option<DateTime<Utc>>,
    /// Seconds since that timestamp was signed; none if it does not say when, or there is none.
    pub age: Option<u64>,
    /// Seconds by which timestamp or snapshot are past their expiry, which the policy's `max-staleness` allows; none if
    /// they are fresh.
    pub stale_by: Option<u64>,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// True if it failed because a namespace was delegated and its team has published nothing yet.
    pub unpublished: bool,
}

/// One verified role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoleReport {
    /// The role.
    pub role: String,
    /// Its version.
    pub version: u64,
    /// The ids of the keys that signed it.
    pub keys: Vec<KeyId>,
    /// How many had to.
    pub threshold: u64,
    /// When it was signed, UTC; none if it does not say.
    pub signed_at: Option<DateTime<Utc>>,
    /// When it expires, UTC.
    pub expires: DateTime<Utc>,
}

/// A revocation and who said it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RevocationReport {
    /// The root, by its name in the policy.
    pub root: String,
    /// The role that lists it.
    pub role: String,
    /// The digest taken back; none if a whole scope was.
    pub digest: Option<Digest>,
    /// Why, in the publisher's words. Untrusted text: printable characters only, at most 200.
    pub reason: String,
    /// When, UTC.
    pub at: DateTime<Utc>,
}
