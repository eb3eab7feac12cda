//! Every role of a trust repository, for people to look at.

use chrono::{DateTime, Utc};
use plimsoll_core::tuf::KeyId;
use serde::Serialize;

use super::{PublishError, head::path_to};
use crate::update::{Session, Source};

/// One role, as `status` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct RoleStatus {
    /// The role.
    pub role: String,
    /// Its version; none if it is delegated to and was never published.
    pub version: Option<u64>,
    /// When it expires.
    pub expires: Option<DateTime<Utc>>,
    /// Its key ids and threshold.
    pub keys: Vec<KeyId>,
    /// How many of them must sign.
    pub threshold: u64,
    /// The path patterns it may speak about; empty for root, timestamp and snapshot.
    pub paths: Vec<String>,
    /// How many names it lists.
    pub targets: usize,
    /// What is wrong with it, if it does not verify.
    pub fault: Option<String>,
}

/// Every role of an updated session, top level first, then delegated roles, parents before children.
///
/// # Errors
/// Those of fetching; a role that does not verify is listed with its fault.
pub async fn status<S: Source>(session: &mut Session<S>) -> Result<Vec<RoleStatus>, PublishError> {
    let path = path_to(session, |_| true).await?;
    let mut all: Vec<RoleStatus> = {
        let trusted = session.trusted();
        let root = &trusted.root().signed;
        let top = [
            Some(("root", &root.common)),
            trusted.timestamp().map(|document| ("timestamp", &document.signed.common)),
            trusted.snapshot().map(|document| ("snapshot", &document.signed.common)),
        ];
        top.into_iter()
            .flatten()
            .map(|(role, common)| RoleStatus {
                role: role.to_owned(),
                version: Some(common.version),
                expires: Some(common.expires),
                keys: root.roles[role].keyids.clone(),
                threshold: root.roles[role].threshold,
                paths: Vec::new(),
                targets: 0,
                fault: None,
            })
            .collect()
    };
    for role in path {
        let expired = session.trusted().role(&role.role).is_none();
        let mut status = RoleStatus {
            role: role.role,
            version: None,
            expires: None,
            keys: role.keyids,
            threshold: role.threshold,
            paths: role.allowed,
            targets: 0,
            fault: None,
        };
        match role.document {
            Ok(Some(targets)) => {
                status.version = Some(targets.signed.common.version);
                status.expires = Some(targets.signed.common.expires);
                status.targets = targets.signed.targets.len();
                status.fault = expired.then(|| "expired".to_owned());
            }
            Ok(None) => status.fault = Some("nothing published yet".to_owned()),
            Err(error) => status.fault = Some(error.to_string()),
        }
        all.push(status);
    }
    Ok(all)
}
