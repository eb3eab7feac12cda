//! What `docker` writes.

use std::collections::BTreeMap;

use plimsoll_core::{
    oci::{Digest, Reference},
    record::{self, Record},
};
use serde::Deserialize;

use super::{Image, Listing, ListingError, kubernetes::short, names, pinned};

const INSPECT: &str = "docker inspect";
const PS: &str = "docker ps --format json";
const ONLY_ID: &str =
    "only the id that it has on its machine is told; `docker inspect $(docker ps -q)` tells more";
const NO_NAME: &str = "it has no name, so nobody signed it";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    image: String,
    names: String,
    state: Option<String>,
}

/// A container or an image.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    id: String,
    name: Option<String>,
    image: Option<String>,
    config: Option<Config>,
    state: Option<State>,
    image_manifest_descriptor: Option<Descriptor>,
    repo_tags: Option<Vec<String>>,
    repo_digests: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    image: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    running: bool,
    status: Option<String>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: Digest,
}

/// `docker inspect` (an array) or `docker ps --format json` (an object a line).
pub(super) fn docker(text: &str) -> Result<Listing, ListingError> {
    if text.trim_start().starts_with('[') { inspect(text) } else { ps(text) }
}

fn ps(text: &str) -> Result<Listing, ListingError> {
    let mut listing = Listing::default();
    for line in serde_json::Deserializer::from_str(text).into_iter::<Record<Line>>() {
        let Record(line) = line.map_err(|source| ListingError::Shape { tool: PS, source })?;
        if line.state.as_deref().is_some_and(has_ended) {
            listing.idle += 1;
        } else {
            listing.add(line.names, Image::of(Some(&line.image), None, ONLY_ID));
        }
    }
    Ok(listing)
}

/// Containers, judged by the digests of the images that stand beside them; images alone by their own names.
fn inspect(text: &str) -> Result<Listing, ListingError> {
    let entries: Vec<Entry> =
        record::json(text.as_bytes()).map_err(|source| ListingError::Shape { tool: INSPECT, source })?;
    let images: BTreeMap<&str, &Entry> =
        entries.iter().filter(|entry| entry.is_image()).map(|entry| (entry.id.as_str(), entry)).collect();
    let containers = entries.iter().any(Entry::is_container);
    let mut listing = Listing::default();
    for (at, entry) in entries.iter().enumerate() {
        if entry.is_container() {
            add_container(&mut listing, entry, &images);
        } else if !entry.is_image() {
            let what =
                "neither a container (`Name`, `Config`, `State`) nor an image (`RepoTags`, `RepoDigests`)";
            return Err(ListingError::Unknown { place: format!("[{at}]"), what: what.to_owned() });
        } else if !containers {
            let place = format!("image {}", short(&entry.id));
            let known = entry.names();
            if known.is_empty() {
                listing.add(place.clone(), Image::of(Some(&entry.id), None, NO_NAME));
            }
            known.into_iter().for_each(|name| listing.add(place.clone(), Image::Known(name)));
        }
    }
    Ok(listing)
}

fn add_container(listing: &mut Listing, entry: &Entry, images: &BTreeMap<&str, &Entry>) {
    if entry.state.as_ref().is_some_and(State::has_ended) {
        listing.idle += 1;
        return;
    }
    let name = entry.config.as_ref().and_then(|config| config.image.as_deref());
    let named = name.filter(|name| !super::is_id(name)).and_then(|name| name.parse::<Reference>().ok());
    let mut beside =
        entry.image.as_deref().and_then(|id| images.get(id)).map_or_else(Vec::new, |i| i.names());
    beside.retain(|reference| reference.digest.is_some());
    let repository = named.as_ref().or(beside.first()).map(|reference| reference.repository.clone());
    let descriptor = entry.image_manifest_descriptor.as_ref().zip(named);
    let described = descriptor.map(|(manifest, named)| Reference { digest: Some(manifest.digest), ..named });
    // All digests of one image: which of them it was started by is not told.
    let mut runs: Vec<Reference> = name.and_then(pinned).into_iter().collect();
    for reference in beside {
        let is_new = runs.iter().all(|known| known.digest != reference.digest);
        if is_new && Some(&reference.repository) == repository.as_ref() {
            runs.push(reference);
        }
    }
    if runs.is_empty() {
        runs.extend(described);
    }
    let place = entry.name.as_deref().unwrap_or_default().trim_start_matches('/').to_owned();
    if runs.is_empty() {
        let name = name.filter(|name| !name.is_empty()).or(entry.image.as_deref());
        listing.add(place.clone(), Image::of(name, None, ONLY_ID));
    }
    for run in runs {
        listing.add(place.clone(), Image::of(name, Some(run), ONLY_ID));
    }
}

/// True if a container in this state, in docker's words, does not go on by itself.
fn has_ended(state: &str) -> bool {
    matches!(state, "dead" | "exited" | "removing" | "stopped")
}

impl State {
    fn has_ended(&self) -> bool {
        !self.running && self.status.as_deref().is_none_or(has_ended)
    }
}

impl Entry {
    fn is_container(&self) -> bool {
        self.name.is_some() && self.config.is_some() && self.state.is_some()
    }

    fn is_image(&self) -> bool {
        !self.is_container() && (self.repo_tags.is_some() || self.repo_digests.is_some())
    }

    fn names(&self) -> Vec<Reference> {
        names(self.repo_tags.as_deref().unwrap_or_default(), self.repo_digests.as_deref().unwrap_or_default())
    }
}
