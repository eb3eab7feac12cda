//! No longer vouching for names.

use std::collections::BTreeMap;

use plimsoll_core::{
    oci::TargetName,
    tuf::{Revocation, Targets},
};
use serde::Serialize;

use crate::publish::{
    Done, Edit, How, PublishError, Publisher, author,
    draft::Next,
    head::{Head, revoked_above},
};

/// A name that nobody vouches for any more, or one role less.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unsigned {
    /// Its target name.
    pub name: String,
    /// The role that vouched for it.
    pub role: String,
    /// The target names that are gone.
    pub entries: Vec<String>,
    /// Other roles that list it, and that clients go by if they ask them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub still: Vec<String>,
}

impl Publisher {
    /// What [`Publisher::unsign`] would do now. Changes nothing.
    ///
    /// # Errors
    /// As [`Publisher::unsign`], as far as they can be told without signing.
    pub async fn preview_unsign(
        &self,
        names: &[TargetName],
        how: How<'_>,
    ) -> Result<Vec<Unsigned>, PublishError> {
        let mut head = self.head().await?;
        Ok(edit(&mut head, names, how).await?.told)
    }

    /// Stops vouching for names, all in one publish. What is under them is not revoked: it reads as absent.
    ///
    /// # Errors
    /// [`PublishError`]; [`PublishError::NotSigned`] if the role lists nothing under a name.
    pub async fn unsign(
        &self,
        names: &[TargetName],
        how: How<'_>,
    ) -> Result<Done<Vec<Unsigned>>, PublishError> {
        self.change(how, async |head| edit(head, names, how).await).await
    }
}

async fn edit(
    head: &mut Head,
    names: &[TargetName],
    how: How<'_>,
) -> Result<Edit<Vec<Unsigned>>, PublishError> {
    let wanted: Vec<&TargetName> = names.iter().collect();
    let (mut path, spots) = head.spots(&wanted, how.signers).await?;
    // Asked before the documents are taken out of the path.
    let others = |name: &TargetName, at: usize| -> Vec<String> {
        let text = name.to_string();
        let others =
            path.iter().enumerate().filter(|(other, role)| *other != at && role.listed(&text).is_some());
        others.map(|(_, role)| role.role.clone()).collect()
    };
    let still: Vec<Vec<String>> =
        names.iter().zip(&spots).map(|(name, spot)| others(name, spot.at)).collect();
    let mut above: BTreeMap<usize, Vec<(String, Revocation)>> = BTreeMap::new();
    for spot in &spots {
        above.entry(spot.at).or_insert_with(|| revoked_above(&path, spot.at));
    }
    let mut next: BTreeMap<usize, Targets> = BTreeMap::new();
    for (at, above) in &above {
        next.insert(*at, head.next(&mut path[*at], above)?);
    }
    let mut told: Vec<Unsigned> = Vec::new();
    for ((name, spot), still) in names.iter().zip(&spots).zip(still) {
        let targets = next.get_mut(&spot.at).expect("every spot's role was put there");
        let (role, name_text) = (path[spot.at].role.clone(), name.to_string());
        let entries = author::unvouch(targets, name)?;
        // A digest goes with the last tag that means it, which may have been named before it.
        let gone = told.iter().any(|told| told.entries.contains(&name_text));
        if entries.is_empty() && !gone {
            let others = still.join(", ");
            return Err(PublishError::NotSigned { role, name: name_text, others });
        }
        told.push(Unsigned { name: name_text, role, entries, still });
    }
    let documents = next.into_iter().map(|(at, targets)| (path[at].role.clone(), Next::from(targets)));
    Ok(Edit { documents: documents.collect(), told })
}
