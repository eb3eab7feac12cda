//! What is to be signed: manifests and indexes, in the registry or in an OCI image layout.

use std::path::{Path, PathBuf};

use plimsoll_core::{
    oci::{
        Descriptor, Digest, IndexError, MAX_PLATFORMS, Reference, RepositoryAddress, Tag, TargetName,
        is_index, read_index,
    },
    policy::Verdict,
    record,
};
use serde::Deserialize;
use tokio::task::JoinSet;

use super::{Failure, Out, argument, progress::Progress};
use crate::{
    layout::{Layout, LayoutError},
    registry::{ManifestAnswer, Registry},
    verify::{chain, target_name},
};

/// A manifest to be signed may be this long, bytes.
const MAX_MANIFEST: u64 = 4 << 20;
/// How many manifests are asked for at once: as a browser would, not as a flood.
const AT_ONCE: usize = 4;
/// The config's type says nothing where it is the empty one.
const EMPTY: &str = plimsoll_core::oci::media_type::EMPTY;

/// Something that can be signed.
#[derive(Debug, Clone)]
pub(super) struct Content {
    /// The manifest or index.
    pub(super) descriptor: Descriptor,
    /// The manifests of an index, those of indexes inside it too.
    pub(super) platforms: Vec<Descriptor>,
    /// What it is, for people: `index of 2`, or the type of the artifact.
    pub(super) kind: String,
}

/// Parses a reference; a digest without a repository is told from an odd name.
pub(super) fn reference(text: &str) -> Result<Reference, String> {
    if text.parse::<Digest>().is_ok() {
        return Err(
            "a digest alone does not say whose it is; name its repository: HOST/REPOSITORY@sha256:HEX"
                .to_owned(),
        );
    }
    argument(text)
}

/// What the registry has under each of `references`, in their order.
pub(super) async fn fetch_all(
    out: &Out,
    registry: &Registry,
    references: &[Reference],
) -> Result<Vec<Content>, Failure> {
    let progress = Progress::new(out, "reading what is to be signed", references.len());
    each(references, &progress, |reference| {
        let (registry, reference) = (registry.clone(), reference.clone());
        async move { fetch(&registry, &reference).await }
    })
    .await
}

/// Refuses if one of `references`, which had the digest beside it, points to another one by now.
pub(super) async fn still_there(
    out: &Out,
    registry: &Registry,
    references: &[(Reference, Digest)],
) -> Result<(), Failure> {
    let progress = Progress::new(out, "looking at the tags again", references.len());
    let looked = each(references, &progress, |(reference, shown)| {
        let (registry, reference, shown) = (registry.clone(), reference.clone(), *shown);
        async move {
            match registry.head_manifest(&reference.repository, &wanted(&reference)).await? {
                Some(found) if found.digest == shown => Ok(()),
                Some(found) => Err(Failure::usage(format!(
                    "{reference} has moved since it was looked at: it was {shown}, and is {} now; nothing was signed",
                    found.digest
                ))
                .next("find out who moved it, and run this again")),
                None => Err(missing(&reference)),
            }
        }
    });
    looked.await.map(|_| ())
}

/// The image in the layout that `place` names: `DIRECTORY`, or `DIRECTORY:NAME`.
pub(super) fn in_layout(place: &str) -> Result<Content, Failure> {
    let whole = Path::new(place);
    let (directory, name) = match place.rsplit_once(':') {
        Some((directory, name)) if !whole.is_dir() && !directory.is_empty() => {
            (Path::new(directory), Some(name))
        }
        _ => (whole, None),
    };
    let wrong = |error: LayoutError| Failure::usage(chain(&error));
    let layout = Layout::open(directory).map_err(wrong)?;
    let image = layout.image(name).map_err(wrong)?;
    let bytes = layout.manifest(image).map_err(wrong)?;
    let mut content = content(image.clone(), &bytes, &directory.join("index.json").display().to_string())?;
    for inner in content.inner_indexes() {
        let bytes = layout.manifest(&inner).map_err(wrong)?;
        content.add(&inner, &bytes, &PathBuf::from(directory).display().to_string())?;
    }
    Ok(content)
}

/// True if the registry has `digest` in `repository`.
pub(super) async fn has(
    registry: &Registry,
    repository: &RepositoryAddress,
    digest: &Digest,
) -> Result<bool, Failure> {
    Ok(registry.head_manifest(repository, &digest.to_string()).await?.is_some())
}

/// Hashed here, not taken from a header.
async fn fetch(registry: &Registry, reference: &Reference) -> Result<Content, Failure> {
    let repository = &reference.repository;
    let Some((descriptor, bytes)) = manifest(registry, repository, &wanted(reference)).await? else {
        return Err(missing(reference));
    };
    let mut content = content(descriptor, &bytes, &reference.to_string())?;
    for inner in content.inner_indexes() {
        let found = manifest(registry, repository, &inner.digest.to_string()).await?;
        let Some((_, bytes)) = found.filter(|(found, _)| found.size == inner.size) else {
            let digest = inner.digest;
            let text =
                format!("{reference} is an index of indexes, and the registry does not have {digest} of it");
            return Err(Failure::verdict(Verdict::NoSuchTag, text).next("push all of it first"));
        };
        content.add(&inner, &bytes, &reference.to_string())?;
    }
    Ok(content)
}

async fn manifest(
    registry: &Registry,
    repository: &RepositoryAddress,
    wanted: &str,
) -> Result<Option<(Descriptor, Vec<u8>)>, Failure> {
    match registry.manifest(repository, wanted, MAX_MANIFEST, None).await? {
        ManifestAnswer::Found(manifest) => {
            Ok(Some((Descriptor::of(&manifest.media_type, &manifest.bytes), manifest.bytes.to_vec())))
        }
        ManifestAnswer::NotFound | ManifestAnswer::NotModified => Ok(None),
    }
}

fn missing(reference: &Reference) -> Failure {
    let text = format!("the registry has no {reference}, so there is nothing to sign");
    Failure::verdict(Verdict::NoSuchTag, text).next("push it first, or check its name")
}

/// What a registry is asked for: the digest if one is written, else the tag.
fn wanted(reference: &Reference) -> String {
    match (reference.digest, target_name(reference)) {
        (Some(digest), _) | (None, TargetName::Digest { digest, .. }) => digest.to_string(),
        (None, TargetName::Tag { tag, .. }) => Tag::as_str(&tag).to_owned(),
    }
}

fn content(descriptor: Descriptor, bytes: &[u8], place: &str) -> Result<Content, Failure> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Kind {
        artifact_type: Option<String>,
        config: Option<Config>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Config {
        media_type: String,
    }
    // From a layout it may carry annotations; what is signed is type, digest and size.
    let descriptor = Descriptor { data: None, annotations: Default::default(), ..descriptor };
    if is_index(&descriptor.media_type) {
        let platforms = read_index(bytes, &descriptor.media_type).map_err(|error| unusable(place, &error))?;
        let kind = format!("index of {}", platforms.len());
        return Ok(Content { descriptor, platforms, kind });
    }
    let kind: Kind = record::json(bytes).unwrap_or_default();
    let config = kind.config.map(|config| config.media_type).filter(|config| config != EMPTY);
    let kind = kind.artifact_type.or(config).unwrap_or_else(|| descriptor.media_type.clone());
    Ok(Content { descriptor, platforms: Vec::new(), kind })
}

impl Content {
    fn inner_indexes(&self) -> Vec<Descriptor> {
        self.platforms.iter().filter(|platform| is_index(&platform.media_type)).cloned().collect()
    }

    /// Adds what the index `inner` of this one lists.
    fn add(&mut self, inner: &Descriptor, bytes: &[u8], place: &str) -> Result<(), Failure> {
        let listed = read_index(bytes, &inner.media_type).map_err(|error| unusable(place, &error))?;
        if listed.iter().any(|listed| is_index(&listed.media_type)) {
            let text = format!("{place} is an index of indexes of indexes; only one such step is followed");
            return Err(Failure::usage(text).next("sign the inner indexes by tags of their own"));
        }
        for listed in listed {
            if !self.platforms.iter().any(|known| known.digest == listed.digest) {
                self.platforms.push(listed);
            }
        }
        if self.platforms.len() > MAX_PLATFORMS {
            return Err(unusable(place, &IndexError::TooMany));
        }
        self.kind = format!("index of {}", self.platforms.len());
        Ok(())
    }
}

fn unusable(place: &str, error: &IndexError) -> Failure {
    Failure::usage(format!("{place} cannot be signed as an index: {}", chain(error)))
}

/// Does `work` for each of `items`, a few at a time; the results in their order. The first failure ends it.
async fn each<I, T: Send + 'static, F>(
    items: &[I],
    progress: &Progress,
    work: impl Fn(&I) -> F,
) -> Result<Vec<T>, Failure>
where
    F: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let mut waiting = items.iter().enumerate();
    let mut running = JoinSet::new();
    let mut done: Vec<(usize, T)> = Vec::new();
    loop {
        while running.len() < AT_ONCE
            && let Some((at, item)) = waiting.next()
        {
            let work = work(item);
            running.spawn(async move { (at, work.await) });
        }
        let Some(finished) = running.join_next().await else { break };
        let (at, result) =
            finished.map_err(|error| Failure::internal(format!("a look at the registry ended: {error}")))?;
        done.push((at, result?));
        progress.step();
    }
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}
