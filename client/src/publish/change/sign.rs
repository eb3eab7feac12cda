//! Vouching for tags and digests.

use std::collections::BTreeMap;

use plimsoll_core::{
    oci::{Descriptor, Digest, TargetName},
    tuf::{Revocation, Target, Targets},
};
use serde::Serialize;

use crate::publish::{
    Done, Edit, How, PublishError, Publisher,
    author::{self, AuthorError},
    draft::Next,
    head::{Head, OnPath, Spot, revoked_above},
};

/// A name to be signed.
#[derive(Debug, Clone)]
pub struct SignRequest {
    /// Its target name.
    pub name: TargetName,
    /// What the registry says it points at.
    pub descriptor: Descriptor,
    /// The platform manifests, if that is a multi-platform index: they are signed as part of it. At most
    /// [`MAX_PLATFORMS`](plimsoll_core::oci::MAX_PLATFORMS).
    pub platforms: Vec<Descriptor>,
    /// Promise that the tag means this digest for good.
    pub immutable: bool,
    /// The digests it may take the place of; none for whatever the name means when the change begins.
    pub over: Option<Vec<Digest>>,
}

/// A name that was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signed {
    /// Its target name.
    pub name: String,
    /// The role that vouches for it.
    pub role: String,
    /// What it means from now on.
    pub digest: Digest,
    /// The media type of that.
    pub media_type: String,
    /// The digest that it meant before, if it was another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Digest>,
    /// True if it was signed as immutable, now or before.
    pub immutable: bool,
    /// The target names written.
    pub entries: Vec<String>,
}

impl SignRequest {
    /// The name for this content, which is no index, over whatever it means when the change begins.
    pub fn new(name: TargetName, descriptor: Descriptor) -> Self {
        Self { name, descriptor, platforms: Vec::new(), immutable: false, over: None }
    }
}

impl Publisher {
    /// What [`Publisher::sign`] would do now. Changes nothing.
    ///
    /// # Errors
    /// As [`Publisher::sign`], as far as they can be told without signing.
    pub async fn preview(&self, requests: &[SignRequest], how: How<'_>) -> Result<Vec<Signed>, PublishError> {
        let mut head = self.head().await?;
        Ok(edit(&mut head, requests, how, &mut BTreeMap::new()).await?.told)
    }

    /// Signs names, all in one publish.
    ///
    /// # Errors
    /// [`PublishError`]; [`PublishError::Clash`] if a name means another digest by now than it may take the place of.
    pub async fn sign(
        &self,
        requests: &[SignRequest],
        how: How<'_>,
    ) -> Result<Done<Vec<Signed>>, PublishError> {
        // What each name meant when this began: only that is replaced without asking.
        let mut meant: BTreeMap<String, Option<Digest>> = BTreeMap::new();
        self.change(how, async |head| edit(head, requests, how, &mut meant).await).await
    }
}

async fn edit(
    head: &mut Head,
    requests: &[SignRequest],
    how: How<'_>,
    meant: &mut BTreeMap<String, Option<Digest>>,
) -> Result<Edit<Vec<Signed>>, PublishError> {
    let names: Vec<&TargetName> = requests.iter().map(|request| &request.name).collect();
    let (mut path, spots) = head.spots(&names, how.signers).await?;
    // Several names may be one role's.
    let mut roles: BTreeMap<usize, Role> = BTreeMap::new();
    for spot in &spots {
        roles.entry(spot.at).or_insert_with(|| Role { above: revoked_above(&path, spot.at), targets: None });
    }
    for (at, role) in &mut roles {
        role.targets = Some(head.next(&mut path[*at], &role.above)?);
    }
    let mut told = Vec::new();
    for (request, spot) in requests.iter().zip(spots) {
        let role = roles.get_mut(&spot.at).expect("every spot's role was put there");
        told.push(sign_one(&path[spot.at], role, request, spot, meant)?);
    }
    let next = |(at, role): (usize, Role)| Some((path[at].role.clone(), Next::from(role.targets?)));
    Ok(Edit { documents: roles.into_iter().filter_map(next).collect(), told })
}

/// A role that is changed.
struct Role {
    above: Vec<(String, Revocation)>,
    targets: Option<Targets>,
}

fn sign_one(
    on_path: &OnPath,
    role: &mut Role,
    request: &SignRequest,
    spot: Spot,
    meant: &mut BTreeMap<String, Option<Digest>>,
) -> Result<Signed, PublishError> {
    let name = request.name.to_string();
    if let Some(first) = spot.first {
        return Err(PublishError::Shadowed { role: on_path.role.clone(), first, name });
    }
    // What a role above revoked must not come back below it.
    let digest = request.descriptor.digest;
    let signed = || request.platforms.iter().map(|platform| platform.digest).chain([digest]);
    if let Some((_, revocation)) =
        role.above.iter().find(|(_, above)| signed().any(|digest| above.digest == Some(digest)))
    {
        let digest = revocation.digest.unwrap_or(digest);
        return Err(AuthorError::Revoked { digest, reason: revocation.reason.clone() }.into());
    }
    let targets = role.targets.as_mut().expect("the next version was made");
    let before = targets.targets.get(&name).and_then(Target::digest);
    let first_seen = *meant.entry(name.clone()).or_insert(before);
    let may_go = |theirs: &Digest| match &request.over {
        Some(over) => over.contains(theirs),
        None => first_seen.as_ref() == Some(theirs),
    };
    if let Some(theirs) = before.filter(|theirs| *theirs != digest && !may_go(theirs)) {
        return Err(PublishError::Clash { role: on_path.role.clone(), name, ours: digest, theirs });
    }
    let mut entries =
        author::vouch(targets, (&on_path.role, &on_path.allowed), &request.name, &request.descriptor)?;
    entries.extend(author::vouch_platforms(
        targets,
        &on_path.allowed,
        request.name.repository(),
        digest,
        &request.platforms,
    )?);
    if request.immutable {
        author::make_immutable(targets, &request.name);
    }
    Ok(Signed {
        immutable: targets.targets[&name].is_immutable(),
        name,
        role: on_path.role.clone(),
        digest,
        media_type: request.descriptor.media_type.clone(),
        replaces: before.filter(|before| *before != digest),
        entries,
    })
}
