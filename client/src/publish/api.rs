//! What client and daemon say to each other over HTTP (docs/http-api.md). JSON, both ways.

use std::{collections::BTreeMap, time::Duration};

use plimsoll_core::tuf::{Key, KeyId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// More than this many documents in one submission are refused.
pub const MAX_DOCUMENTS: usize = 64;
/// A submission may be this long, bytes.
pub const MAX_SUBMISSION: u64 = 24 * 1024 * 1024;
/// An answer of the daemon may be this long, bytes.
pub const MAX_ANSWER: u64 = 1024 * 1024;

/// `GET /v1/trusts`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trusts {
    /// The trust repositories that the daemon serves.
    pub trusts: Vec<TrustInfo>,
    /// What it calls those that it is to serve and that have not started, or could not be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub starting: Vec<String>,
}

/// `GET /v1/trusts/NAME`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrustInfo {
    /// What the daemon calls it.
    pub name: String,
    /// Where its metadata is put, `HOST/REPOSITORY`.
    pub repository: String,
    /// The daemon's keys for it.
    pub online: OnlineKeys,
    /// The keys that wait to take their place: the daemon signs with them from the root on that names them. None if the
    /// operator made none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online_next: Option<OnlineKeys>,
    /// The trust id; none before `init`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_id: Option<String>,
    /// The newest accepted version of each role.
    pub heads: BTreeMap<String, u64>,
    /// Why the daemon stopped signing for good, until somebody looks: what it says of the trust repository may be wrong
    /// then. Text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<String>,
}

/// The public keys that sign timestamp and snapshot of one trust repository, and of no other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OnlineKeys {
    /// Signs `timestamp`.
    pub timestamp: Key,
    /// Signs `snapshot`.
    pub snapshot: Key,
}

impl OnlineKeys {
    /// Role and key id of each, for people to compare.
    pub fn ids(&self) -> [(&'static str, KeyId); 2] {
        [("timestamp", self.timestamp.id()), ("snapshot", self.snapshot.id())]
    }
}

/// `POST /v1/trusts/NAME/submissions`: signed documents that take effect together, by role.
#[derive(Debug, Serialize, Deserialize)]
pub struct Submission {
    /// The documents, each `{"signed": …, "signatures": […]}`.
    pub documents: BTreeMap<String, Box<RawValue>>,
}

impl Submission {
    /// The JSON of a submission of `documents`, by role, each verbatim. Equal documents give equal bytes.
    ///
    /// # Panics
    /// If a document is not JSON; those we author are.
    pub fn json(documents: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
        let raw = |bytes: &Vec<u8>| {
            let text = String::from_utf8(bytes.clone()).expect("authored documents are UTF-8");
            RawValue::from_string(text).expect("authored documents are JSON")
        };
        let documents = documents.iter().map(|(role, bytes)| (role.clone(), raw(bytes))).collect();
        serde_json::to_vec(&Self { documents }).expect("JSON in JSON always serialises")
    }
}

/// The answer to a submission that was taken, and to a question about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Names the submission: hex.
    pub id: String,
    /// How far it came.
    pub state: Progress,
    /// The version of each role submitted.
    pub documents: BTreeMap<String, u64>,
    /// The first timestamp that holds it.
    pub timestamp: u64,
}

/// How far a submission came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// Durable at the daemon.
    Accepted,
    /// In a timestamp that the registry serves.
    Published,
}

/// Any answer but success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What kind.
    pub code: RefusalCode,
    /// For programs: which rule was broken. None where the code says it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<RefusalReason>,
    /// For people: what is wrong, and what to do.
    pub message: String,
    /// With [`RefusalCode::Conflict`]: the newest version of each role that was submitted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub heads: BTreeMap<String, u64>,
    /// With [`RefusalCode::RateLimited`]: after how many seconds it may be tried again, at least 1. The header
    /// `Retry-After` says the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl Refusal {
    /// A refusal without reason and heads.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, reason: None, message: message.into(), heads: BTreeMap::new(), retry_after: None }
    }

    /// Nothing is wrong with it but that too much came: `who` says whose limit that is, and `wait` for how long.
    pub fn rate_limited(reason: RefusalReason, who: &str, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let seconds = seconds.max(1);
        let message = format!("{who}; nothing was changed, send it again in {seconds} s");
        let refusal = Self::new(RefusalCode::RateLimited, message);
        Self { reason: Some(reason), retry_after: Some(seconds), ..refusal }
    }

    /// True if the same submission may be taken later.
    pub fn is_for_now(&self) -> bool {
        matches!(self.code, RefusalCode::RateLimited | RefusalCode::Unavailable)
    }
}

/// The rules that a submission can break (docs/http-api.md, "Refusals").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RefusalReason {
    /// The version is not the one after the newest, or timestamp or snapshot were submitted, which the daemon signs.
    WrongVersion,
    /// Nobody delegates to the role.
    NotDelegated,
    /// Too few valid signatures, or a threshold that cannot be met.
    Threshold,
    /// Another trust id, or none.
    TrustId,
    /// A root that leaves the daemon unable to sign.
    OnlineKeys,
    /// A name, delegation or revocation outside of what the role may speak about.
    OutOfScope,
    /// A digest that was revoked is listed.
    Revoked,
    /// A revocation is missing, or taken back without saying so.
    RevocationDropped,
    /// A tag that was signed as immutable is changed.
    Immutable,
    /// The document has expired.
    Expired,
    /// The document expires too late.
    TooLongLived,
    /// The document, or a change in it, is of the future.
    AheadOfClock,
    /// A key that is not published here.
    Key,
    /// The names of keys.
    KeyNames,
    /// The name of a role that was removed.
    RetiredName,
    /// A delegation or path pattern that is not published here.
    Delegation,
    /// A target's name, hash or `custom`.
    Entry,
    /// Members that a document must have, or must not have.
    Form,
    /// More than fits.
    TooMany,
    /// More roles or bytes than the subtree's quota.
    Quota,
    /// The subtree published more often than its quota.
    PublishRate,
    /// Too much that was refused, or too much at a time, from one address.
    Peer,
    /// Clients would refuse what would be published.
    Clients,
    /// A token is needed, and there was none.
    NoToken,
    /// The token is unknown, or was removed.
    BadToken,
    /// The token has expired.
    TokenExpired,
    /// The token is for other trust repositories.
    TokenTrust,
    /// A reason that this version does not know.
    #[serde(other)]
    Other,
}

/// Kinds of refusal, each with one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// 400: not a submission.
    Malformed,
    /// 401: a token is needed, or another one.
    Unauthorized,
    /// 403: the token is not for this.
    Forbidden,
    /// 404: no such trust repository or submission.
    NotFound,
    /// 409: somebody else published this version first. Apply the change to the newest version and submit that.
    Conflict,
    /// 413: too long.
    TooLarge,
    /// 422: understood and not allowed.
    Refused,
    /// 429: not so often. The same submission may be taken later.
    RateLimited,
    /// 503: the daemon cannot take it now.
    Unavailable,
}

impl RefusalCode {
    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Refused => 422,
            Self::RateLimited => 429,
            Self::Unavailable => 503,
        }
    }
}
