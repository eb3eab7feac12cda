//! Decides what a reference is worth now: the policy says who must vouch, each of those roots is asked, and the registry
//! says what it would hand out.
//!
//! Every outcome but a fault of this machine is a [`Verdict`](plimsoll_core::policy::Verdict). A root that cannot be asked is never skipped, a network
//! fault is never proof of absence, and a revocation by any root that is asked beats everything else.

mod ask;
mod bulk;
mod decide;
mod report;
#[cfg(test)]
mod tests;
mod vote;
mod words;

use std::sync::Arc;

use plimsoll_core::{
    oci::{Reference, Tag, TargetName},
    policy::Policy,
    tuf::Floor,
};

use crate::{
    clock::Clock,
    floor::FloorFault,
    home::Home,
    registry::{Registry, RegistryError},
    state::StateError,
    trust::{self, TrustError},
};

pub use bulk::{Options, verify_all};
pub use report::{
    Part, RegistryReport, RevocationReport, RoleReport, RootReport, Unjudged, VERSION, Verification,
};
pub use words::{ago, as_of, chain, printable};

/// What a verification needs: the user's folders and policy, a registry client and a clock.
#[derive(Clone)]
pub struct Context {
    /// Where pinned roots and trusted state live.
    pub home: Home,
    /// Who must vouch for what; checked.
    pub policy: Policy,
    /// Nothing older than these is taken, of the trust repositories that they are of.
    pub floors: Vec<Floor>,
    /// The client for every registry that is asked.
    pub registry: Registry,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("home", &self.home)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// Reads the policy of `home`; there are no floors but those that the policy names. No network.
    ///
    /// # Errors
    /// [`LocalFault::Trust`] if there is no policy, or not a valid one.
    pub fn load(home: Home, registry: Registry, clock: Arc<dyn Clock>) -> Result<Self, LocalFault> {
        let policy = trust::load_policy(&home)?;
        Ok(Self { home, policy, floors: Vec::new(), registry, clock })
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// May what the registry hands out under this reference be run? A tag costs one HEAD.
    Verify,
    /// Which digest does the publisher mean? The registry's tag is not asked.
    Resolve,
}

/// One of several references: its verdict, or the fault of this machine that kept it from being judged, which others may
/// share.
pub type Judged = Result<Verification, Arc<LocalFault>>;

/// A fault of this machine: never a statement about a reference.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalFault {
    /// The policy or a pinned root.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A floor.
    #[error(transparent)]
    Floor(#[from] FloorFault),
    /// Trusted state.
    #[error(transparent)]
    State(#[from] StateError),
    /// Two roots of one list led to the same trust repository, whose word would count twice.
    #[error(
        "the scope {scope} names [root.{other}] and [root.{root}] in one list, and both lead to the same trust repository, \
         which has one voice"
    )]
    SameRepository {
        /// The `match` of the scope.
        scope: String,
        /// The second one's name.
        root: String,
        /// The first one's.
        other: String,
    },
    /// A registry option, or a local file that the registry client needs.
    #[error(transparent)]
    Registry(RegistryError),
}

impl LocalFault {
    /// The exit code: 1 for trusted state, 2 for what the user must change.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Trust(error) => error.exit_code(),
            Self::Floor(error) => error.exit_code(),
            Self::State(_) => 1,
            Self::SameRepository { .. } | Self::Registry(_) => 2,
        }
    }

    /// What to do next, if there is more to say than the message.
    pub fn next(&self) -> Option<String> {
        match self {
            Self::Trust(error) => error.next(),
            Self::Floor(error) => error.next(),
            Self::SameRepository { root, .. } => {
                Some(format!("take {root} out of that list, or pin the root that was meant in its place"))
            }
            Self::State(_) | Self::Registry(_) => None,
        }
    }
}

/// The target name that a reference is judged by: its tag if it has one, else its digest, else the tag `latest`.
pub fn target_name(reference: &Reference) -> TargetName {
    let repository = reference.repository.name.clone();
    match (&reference.tag, reference.digest) {
        (Some(tag), _) => TargetName::Tag { repository, tag: tag.clone() },
        (None, Some(digest)) => TargetName::Digest { repository, digest },
        (None, None) => TargetName::Tag { repository, tag: latest() },
    }
}

/// Decides on `reference`: [`verify_all`] for one, with the default [`Options`].
///
/// Network: for each root that is asked one conditional request when nothing changed, more to fetch what did; and in
/// [`Mode::Verify`] one HEAD of a tag that is signed. Trusted state on disk moves forward, never back.
///
/// # Errors
/// [`LocalFault`]; everything else is a verdict.
///
/// # Panics
/// Never: one reference has one verdict, and shares its fault with no other one.
pub async fn verify(ctx: &Context, reference: &Reference, mode: Mode) -> Result<Verification, LocalFault> {
    let all = verify_all(ctx, std::slice::from_ref(reference), mode, &Options::default()).await?;
    let judged = all.into_iter().next().expect("one reference has one verdict");
    judged.map_err(|fault| Arc::into_inner(fault).expect("there is no other reference to share it with"))
}

fn latest() -> Tag {
    "latest".parse().expect("`latest` is a tag")
}
