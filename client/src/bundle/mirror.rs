//! Copying a trust repository to a registry: verified, forward only.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use plimsoll_core::oci::RepositoryAddress;
use serde::Serialize;

use super::{
    BundleError, Closure, Extent, LeftOut, Skipped, Summary,
    landing::{Landing, Others, alone},
    site::{Shown, Spot, Standing},
};
use crate::{
    registry::Registry,
    state::StateError,
    update::{AnySource, Bounds, Places, Session, UpdateError},
};

/// A trust repository and the place that it is copied to.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// Speaks to where it is copied to.
    pub registry: Registry,
    /// Where it is: the newest that is valid at any of these places.
    pub from: Places<AnySource>,
    /// The pinned root document.
    pub pinned: Vec<u8>,
    /// What it is held to besides.
    pub bounds: Bounds,
    /// The folder with trusted state.
    pub state: PathBuf,
    /// Where it is copied to.
    pub to: RepositoryAddress,
}

/// What one look found and did.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// Where it was read.
    pub from: String,
    /// Where it is copied to.
    pub to: String,
    /// True if something was copied; else both showed the same.
    pub copied: bool,
    /// The version of the timestamp that is now shown at both.
    pub timestamp: u64,
    /// When that was signed, UTC.
    pub as_of: Option<DateTime<Utc>>,
    /// The version of the timestamp that the copy showed before; none if it showed none that is validly signed.
    pub before: Option<u64>,
    /// By how much the copy was behind, seconds between the signing of the two timestamps; 0 if they were the same. None if
    /// there was no copy, or a timestamp does not say when it was signed.
    pub lag: Option<u64>,
    /// The whole, if it was copied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy: Option<Summary>,
    /// Roles that do not verify at the source, so were not copied.
    pub left_out: Vec<LeftOut>,
    /// Places that gave nothing good while another one did.
    pub skipped: Vec<Skipped>,
    /// What others wrote there meanwhile.
    #[serde(flatten)]
    pub others: Others,
}

impl Mirror {
    /// Brings trusted state up to date from all places at `now` and, if the copy shows something older, pushes there: roles
    /// that changed first, the entry point last. What it pushes is made of verified documents, not of what the source's
    /// manifests say.
    ///
    /// Others on this machine that write there wait meanwhile; what others do is told, and undone where it was a step back.
    ///
    /// # Errors
    /// [`BundleError`]: the source does not verify, or the copy shows something newer.
    pub async fn round(&self, now: DateTime<Utc>) -> Result<Round, BundleError> {
        let _alone = alone(&self.state, [self.to.to_string()].into()).await?;
        let places = self.from.clone();
        let mut session =
            Session::refresh_places(places, &self.state, &self.pinned, now, &self.bounds).await?;
        let trusted = session.trusted();
        let timestamp = trusted.timestamp().expect("a complete update has a timestamp").clone();
        let root = trusted.root().bytes.to_vec();
        let spot = Spot::Registry(&self.registry, self.to.clone());
        let shown = spot.shown().await?;
        let standing = match &shown {
            Some(shown) => spot.standing(shown, &root, &timestamp).await?,
            None => Standing::Empty,
        };
        let as_of = timestamp.signed.common.identity.as_ref().map(|identity| identity.at);
        let mut round = Round {
            from: session.location(),
            to: self.to.to_string(),
            copied: false,
            timestamp: timestamp.version(),
            as_of,
            before: None,
            lag: None,
            copy: None,
            left_out: Vec::new(),
            skipped: Skipped::of(&session),
            others: Others::default(),
        };
        match standing {
            Standing::Same => {
                (round.before, round.lag) = (Some(timestamp.version()), Some(0));
                return Ok(round);
            }
            Standing::Empty => {}
            Standing::Behind { version, as_of: behind } => {
                let seconds = as_of.zip(behind).map(|(ours, theirs)| (ours - theirs).num_seconds());
                round.lag = seconds.map(|seconds| u64::try_from(seconds).unwrap_or(0));
                round.before = Some(version);
            }
        }
        let closure = Closure::collect(&mut session, &round.from, Extent::All).await?;
        // Others may go on while this is pushed.
        drop(session);
        round.others = self.push(&closure, shown.as_ref().filter(|_| round.before.is_some())).await?;
        (round.copied, round.copy, round.left_out) = (true, Some(closure.summary), closure.left_out);
        Ok(round)
    }

    async fn push(&self, closure: &Closure, shown: Option<&Shown>) -> Result<Others, BundleError> {
        let landing = Landing { registry: &self.registry, to: &self.to, closure };
        let mut pushed = Vec::new();
        let there = shown.and_then(|shown| shown.snapshot.as_ref());
        for (role, delegated) in &closure.roles {
            let same = |role: &str| {
                let named = there.and_then(|snapshot| snapshot.signed.role(role));
                named.is_some() && named == closure.snapshot.signed.role(role)
            };
            // What the snapshot there names was pushed before it, unless it did not verify then; and whether it does is
            // for the role above it to say.
            let document = delegated.artifact.blobs.last().map(|(digest, _)| digest);
            let there = match document {
                _ if !same(role) => false,
                Some(digest) if !same(&delegated.delegator) => {
                    self.registry.has_blob(&self.to, digest).await?
                }
                _ => true,
            };
            if !there {
                landing.role(delegated).await?;
                pushed.push(role.as_str());
            }
        }
        landing.entry_point(&pushed).await
    }
}

/// True for what may be over when it is tried again.
pub(crate) fn is_passing(error: &BundleError) -> bool {
    let registry = match error {
        BundleError::Registry(error) => error,
        BundleError::Update(UpdateError::Source(crate::update::SourceError::Registry(error))) => error,
        BundleError::Moved { .. }
        | BundleError::Update(UpdateError::Source(_) | UpdateError::State(StateError::Busy { .. })) => {
            return true;
        }
        _ => return false,
    };
    registry.is_unavailable()
}
