//! Why a publish did not happen.

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::{Digest, ReferenceError},
    policy::Verdict,
    tuf::KeyId,
};

use super::{
    author::AuthorError,
    draft::{DraftError, RehearsalError},
};
use crate::{
    keys::SignError,
    registry::RegistryError,
    update::{UpdateError, registry_verdict},
};

/// Why a publish did not happen. Unless a variant says otherwise, nothing changed anywhere.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The change itself is not possible.
    #[error(transparent)]
    Author(#[from] AuthorError),
    /// Signing failed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The draft cannot be used.
    #[error(transparent)]
    Draft(DraftError),
    /// The keys at hand are not enough.
    #[error("not signed by enough keys: {missing}")]
    Unsigned {
        /// Which roles need how many signatures of whom, for people.
        missing: String,
    },
    /// Somebody else gave the name another digest while this change was made.
    #[error("{name} was just signed by somebody else: {role} says {theirs} now, and you sign {ours}")]
    Clash {
        /// The role.
        role: String,
        /// The target name.
        name: String,
        /// What we sign.
        ours: Digest,
        /// What it means since.
        theirs: Digest,
    },
    /// The present metadata could not be fetched or is not to be trusted.
    #[error("cannot read the present metadata")]
    Update(#[from] UpdateError),
    /// The daemon did not answer usably.
    #[error("cannot talk to the daemon")]
    Server(#[from] RegistryError),
    /// The inbox of a trust repository cannot be used.
    #[error("cannot use the inbox {inbox}")]
    Inbox {
        /// The repository.
        inbox: String,
        /// Why.
        source: Box<RegistryError>,
    },
    /// The trust repository's name leaves no room for that of its inbox.
    #[error("{trust} can have no inbox")]
    NoInbox {
        /// The trust repository.
        trust: String,
        /// Why.
        source: ReferenceError,
    },
    /// More than one submission may hold.
    #[error(
        "the change is {size} bytes long, at most {max} go into one submission: make it in smaller steps"
    )]
    TooLarge {
        /// Its length in bytes.
        size: u64,
        /// The limit.
        max: u64,
    },
    /// The daemon's answer is not one of its API.
    #[error("{url} answers, but not as plimsolld does")]
    NotADaemon {
        /// The URL asked.
        url: String,
    },
    /// 401 or 403: a token is needed, or another one.
    #[error("the daemon at {server} takes no submission: {message}")]
    NotLetIn {
        /// The daemon.
        server: String,
        /// Why, and what to do, in its words.
        message: String,
    },
    /// The daemon does not serve this trust repository.
    #[error("the daemon at {server} does not serve {wanted}; it serves: {served}")]
    NotServed {
        /// The daemon.
        server: String,
        /// What was wanted.
        wanted: String,
        /// What it serves.
        served: String,
    },
    /// The trust repository exists already.
    #[error("{repository} already is a trust repository (trust id {trust_id})")]
    AlreadyInitialised {
        /// The repository.
        repository: String,
        /// Its trust id.
        trust_id: String,
    },
    /// The daemon's online keys are not the ones expected.
    #[error("the daemon at {server} has other online keys than the ones given with --online-pub")]
    OnlineKeys {
        /// The daemon.
        server: String,
    },
    /// The key signs for no role that may speak about the name.
    #[error("key {keyid} signs for no role that may speak about {name}; roles on its path: {roles}")]
    NoRole {
        /// The key.
        keyid: String,
        /// The name or scope.
        name: String,
        /// The roles that were looked at.
        roles: String,
    },
    /// There is no such role.
    #[error("there is no role `{role}`; on the way there are: {roles}")]
    UnknownRole {
        /// The role.
        role: String,
        /// The roles there are.
        roles: String,
    },
    /// A role on the way ran out, so clients ask none of those below it.
    #[error("{role} expired at {expires}, so nobody goes by what stands below it")]
    ExpiredAbove {
        /// The role that expired.
        role: String,
        /// When, UTC.
        expires: DateTime<Utc>,
    },
    /// What the role last said is not signed by enough of the keys that it has now, so it is no ground to build on.
    #[error("{role} does not count: the keys that it has now did not sign what it last said")]
    Orphaned {
        /// The role.
        role: String,
        /// What is missing.
        source: Box<UpdateError>,
    },
    /// The keys of `targets` are the root's to change.
    #[error("the keys of {role} are the owners': the root gives them, and no role delegates to it")]
    Owners {
        /// The role.
        role: String,
    },
    /// Without the key, the role's threshold could not be met any more.
    #[error("without key {}, {role} would have {left} keys and need {threshold} signatures", .keyid.short())]
    TooFewLeft {
        /// The role.
        role: String,
        /// The key.
        keyid: KeyId,
        /// How many keys would be left.
        left: usize,
        /// How many must sign.
        threshold: u64,
    },
    /// No role grants anything to the key.
    #[error("no role grants anything to a key `{0}`")]
    UnknownKey(String),
    /// The role has published nothing that could be taken over.
    #[error("{0} has published nothing yet")]
    NothingPublished(String),
    /// Its last content was never signed by whom it had to be.
    #[error("the last content of {role} (version {version}) was never vouched for by keys that the role had")]
    NeverVouched {
        /// The role.
        role: String,
        /// The version.
        version: u64,
    },
    /// The registry keeps no history, and nothing else was to be talked to.
    #[error(
        "the registry keeps the last versions of {0} only; who signed what before is known to the daemon"
    )]
    NoHistory(String),
    /// There is nothing to be changed.
    #[error("{0} stays as it is: nothing of it was asked to be changed, and it needs no new signature")]
    NothingToChange(String),
    /// Somebody changed it between the question and the answer.
    #[error("{0} was changed by somebody else since you were asked")]
    Moved(String),
    /// Nothing in the role has this name or digest.
    #[error(
        "{role} does not list {name}, nor does a role below it; to bar a digest, name it: REPOSITORY@sha256:HEX"
    )]
    NotListed {
        /// The role.
        role: String,
        /// The name.
        name: String,
    },
    /// The role does not vouch for the name, so there is nothing to take out.
    #[error("{role} does not sign {name}{}{others}", if others.is_empty() { "" } else { ", but others do: " })]
    NotSigned {
        /// The role.
        role: String,
        /// The name.
        name: String,
        /// Roles that do, joined by commas; empty if there are none.
        others: String,
    },
    /// The role's history has nothing else that could be brought back.
    #[error("the history of {role} has nothing to bring back for {name}")]
    NothingEarlier {
        /// The role.
        role: String,
        /// The name.
        name: String,
    },
    /// Another role took the digest back, so this one cannot bring it back.
    #[error("{role} revoked {digest}, and only the keys of {role} can take that back")]
    RevokedBy {
        /// The role.
        role: String,
        /// The digest.
        digest: Digest,
    },
    /// Revoked already, with nothing left to remove.
    #[error("{role} revoked {digest} before")]
    AlreadyRevoked {
        /// The role.
        role: String,
        /// The digest.
        digest: Digest,
    },
    /// The daemon understood and refused.
    #[error("the daemon refuses: {message}")]
    Refused {
        /// Why.
        message: String,
    },
    /// An answer in the inbox says that the daemon refuses; nobody signs those.
    #[error("an answer in {inbox} says that the daemon refuses: {message}")]
    RefusedIn {
        /// The inbox.
        inbox: String,
        /// Why.
        message: String,
    },
    /// The daemon understood and cannot take it now.
    #[error("the daemon cannot take it now: {message}")]
    NotNow {
        /// Why.
        message: String,
    },
    /// Others were faster, time and again.
    #[error("others published {role} first {tries} times in a row; try again")]
    Contended {
        /// The role.
        role: String,
        /// How often.
        tries: u32,
    },
    /// Accepted, so durable at the daemon, but not seen in a timestamp in time. It will be published later.
    #[error(
        "accepted as {id} and safe at the daemon, but not yet in the registry: the daemon publishes it when the registry \
         answers (see its log)"
    )]
    NotPublishedInTime {
        /// The submission.
        id: String,
    },
    /// Accepted, so durable at the daemon, which then could not be asked any more. It will be published later.
    #[error("accepted as {id} and safe at the daemon, which does not say any more how far it came")]
    Unconfirmed {
        /// The submission.
        id: String,
        /// Why.
        source: RegistryError,
    },
    /// The daemon says that it is published, and that could not be seen in the registry.
    #[error("the daemon says that it is in timestamp {timestamp}, but that could not be seen at {location}")]
    NotSeen {
        /// Where clients read.
        location: String,
        /// The timestamp that should hold it.
        timestamp: u64,
        /// Why not.
        source: Box<UpdateError>,
    },
    /// It is published, and clients go by something else.
    #[error("it is published, but clients of {location} read something else for {name}: {what}")]
    Overruled {
        /// Where clients read.
        location: String,
        /// The target name.
        name: String,
        /// What they read.
        what: String,
    },
    /// What was said to be published is not there.
    #[error(
        "it was said to be published, but {location} has another {role} in the place of version {version}, or none"
    )]
    Dropped {
        /// Where clients read.
        location: String,
        /// The role.
        role: String,
        /// The version that was signed.
        version: u64,
    },
    /// Clients ask another role first and go by what it says.
    #[error("clients ask {first} for {name} before {role}, so what {role} lists would decide nothing")]
    Shadowed {
        /// The role that was to be changed.
        role: String,
        /// The role that decides.
        first: String,
        /// The target name.
        name: String,
    },
    /// There are more versions than are read in one go, or they are too long.
    #[error("the history up to {role} is too long to be read in one go")]
    LongHistory {
        /// The role at which it became too long.
        role: String,
    },
    /// It lies in the inbox, and no timestamp that names it was seen in time. The daemon may still collect it.
    #[error("left in {inbox} as {tag}, and not published yet: the daemon has not collected it")]
    NotCollected {
        /// The inbox.
        inbox: String,
        /// The submission's tag.
        tag: String,
    },
    /// The draft goes on from something that is not the newest any more.
    #[error("somebody else changed {role} since this draft was made, so it cannot be published any more")]
    Stale {
        /// The role.
        role: String,
    },
    /// The draft waited for too long.
    #[error("{role} in the draft expired at {expires}; nothing was sent")]
    DraftExpired {
        /// The role.
        role: String,
        /// When.
        expires: DateTime<Utc>,
    },
    /// Clients would not take the new root.
    #[error("the rehearsal failed, nothing was sent")]
    Rehearsal(#[source] RehearsalError),
    /// The root names online keys that the daemon does not have.
    #[error("the daemon at {server} does not have the online keys that the new root names; nothing was sent")]
    NotHeld {
        /// The daemon.
        server: String,
    },
    /// The daemon has no online keys to go on with.
    #[error("the daemon has no online keys that wait to take the place of the present ones")]
    NoNextKeys,
    /// No randomness.
    #[error("the system gave no randomness")]
    Randomness,
}

impl PublishError {
    /// True if the daemon may have taken the submission all the same: it did, or its answer was lost.
    pub fn may_be_taken(&self) -> bool {
        let sent = |error: &RegistryError| {
            !matches!(error, RegistryError::Connect { .. }) && !error.is_auth() && !error.is_misuse()
        };
        match self {
            Self::Server(error) => sent(error),
            Self::Inbox { source, .. } => sent(source),
            Self::NotADaemon { .. }
            | Self::NotCollected { .. }
            | Self::RefusedIn { .. }
            | Self::NotPublishedInTime { .. }
            | Self::Unconfirmed { .. }
            | Self::NotSeen { .. }
            | Self::Overruled { .. }
            | Self::Dropped { .. } => true,
            _ => false,
        }
    }

    /// The verdict whose exit code fits; none for misuse and local faults.
    pub fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Unconfirmed { .. } => Some(Verdict::Unreachable),
            // The registry may only be slow to show it. Whether it withholds it, the timestamp's expiry will tell.
            Self::NotSeen { source, .. } => match source.verdict() {
                Some(Verdict::Rollback) => Some(Verdict::Unreachable),
                verdict => verdict,
            },
            Self::Update(error) => error.verdict(),
            Self::Orphaned { source, .. } => source.verdict(),
            Self::Server(error) => registry_verdict(error),
            Self::NotLetIn { .. } => Some(Verdict::Auth),
            Self::Inbox { source, .. } => registry_verdict(source),
            Self::Clash { .. } | Self::Moved(_) | Self::Stale { .. } => Some(Verdict::Conflict),
            Self::Draft(error) => error.verdict(),
            Self::Dropped { .. } => Some(Verdict::Untrusted),
            Self::NotADaemon { .. }
            | Self::NotCollected { .. }
            | Self::NotNow { .. }
            | Self::Contended { .. }
            | Self::LongHistory { .. }
            | Self::NotPublishedInTime { .. } => Some(Verdict::Unreachable),
            _ => None,
        }
    }
}
