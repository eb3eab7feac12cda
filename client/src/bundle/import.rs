//! Taking a bundle in: everything is verified by roots that were pinned here before anything is written.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::{Descriptor, Digest, Reference},
    policy::{Place, Policy},
    tuf::{Document, Root},
};
use serde::Serialize;

use super::{
    Bundle, BundleError, Closure, Extent, ImagePart, NAME, Site, Summary, TrustPart,
    completed::{Completed, completed},
    landing::{Landing, Others, alone},
    push::{Blobs, push_blobs, shown_digest},
    site::{Spot, Standing, descriptor},
    vouch::Vouched,
};
use crate::{
    clock::Clock,
    layout::{Layout, REF_NAME, write},
    registry::Registry,
    state,
    update::{Bounds, LayoutSource, ROOT_RUNS, Session, UpdateError},
    verify::target_name,
};

/// How long another process may write to the same layout.
const PATIENCE: Duration = Duration::from_secs(60);

/// A root that was pinned here.
#[derive(Debug, Clone)]
pub struct PinnedRoot {
    /// What the policy calls it.
    pub name: String,
    /// The root document, compared with the policy's sha256.
    pub document: Vec<u8>,
    /// What is held to besides: by how much a bundle may be stale, and floors.
    pub bounds: Bounds,
}

/// Takes bundles in.
pub struct Importer<'a> {
    /// What decides which name an image must be signed as to be where it goes to, and where trust repositories are.
    pub policy: &'a Policy,
    /// The roots that may vouch: those of the policy.
    pub roots: &'a [PinnedRoot],
    /// The folder with trusted state, one folder in it for each trust id.
    pub state: &'a Path,
    /// Where it goes to.
    pub site: &'a Site,
    /// Tells the fixed time of the update (TUF 1.0.34, 5.1): once nobody else on this machine writes to the site.
    pub clock: &'a dyn Clock,
}

/// What was taken in, and what is there now: `--since` takes it.
#[derive(Debug, Clone, Serialize)]
pub struct Imported {
    /// The form of this: 1.
    pub bundle: u64,
    /// The trust repositories.
    pub trusts: Vec<Landed>,
    /// The images.
    pub images: Vec<LandedImage>,
    /// Every blob of what is there now.
    pub blobs: BTreeSet<Digest>,
}

/// A trust repository that was taken in.
#[derive(Debug, Clone, Serialize)]
pub struct Landed {
    /// The pinned root that vouched for it.
    pub root: String,
    /// Where it is.
    pub place: String,
    /// What it shows.
    #[serde(flatten)]
    pub summary: Summary,
    /// The version of the timestamp that was there before, if it was validly signed.
    pub before: Option<u64>,
    /// False if there was nothing new.
    pub new: bool,
    /// What others wrote there meanwhile.
    #[serde(flatten)]
    pub others: Others,
}

/// An image that was taken in.
#[derive(Debug, Clone, Serialize)]
pub struct LandedImage {
    /// What it was called where it was exported.
    pub image: String,
    /// False if it was there already.
    pub new: bool,
}

impl PinnedRoot {
    /// Its trust id, else the digest of the document.
    fn identity(&self) -> String {
        let document = Document::<Root>::parse("root", &self.document).ok();
        let identity = document.and_then(|document| document.signed.common.identity);
        identity.map_or_else(|| Digest::of(&self.document).to_string(), |identity| identity.trust)
    }
}

/// One trust repository, verified.
struct Verified<'a> {
    root: &'a PinnedRoot,
    spot: Spot<'a>,
    closure: Closure,
    before: Option<u64>,
    same: bool,
    others: Others,
}

impl Importer<'_> {
    /// Verifies `bundle`, writes it to the site (images, roles, and last the entry point of each trust repository), and then
    /// moves trusted state forward.
    ///
    /// Others on this machine that write to the same places wait meanwhile. What the bundle leaves out is completed from what
    /// is at the site. Nothing is written anywhere before everything was verified and found to be whole: what is refused leaves
    /// no mark, and this machine never remembers more than the site shows. If it is ended before trusted state moves, the
    /// next update from the site moves it.
    ///
    /// # Errors
    /// [`BundleError`]; an older bundle is [`Verdict::Rollback`](plimsoll_core::policy::Verdict::Rollback).
    pub async fn import(&self, bundle: &Bundle) -> Result<Imported, BundleError> {
        let completed = Arc::new(completed(self.site, bundle).await?);
        // Before anything is made here.
        bundle.trusts().iter().try_for_each(|part| self.pinned(part).map(drop))?;
        let _alone = match self.site {
            Site::Registry(..) => {
                let spots = bundle.trusts().iter().map(|part| Ok(self.site.spot(&part.repository)?.place()));
                alone(self.state, spots.collect::<Result<_, BundleError>>()?).await?
            }
            // Its lock is in the folder, for whoever writes there from anywhere.
            Site::Layout(_) => Vec::new(),
        };
        let now = self.clock.now();
        let mut vouched = vec![Vouched::default(); bundle.images().len()];
        let mut verified = Vec::new();
        for part in bundle.trusts() {
            let one = self.verified(bundle, part, &completed, &mut vouched, now).await?;
            verified.push(one);
        }
        for (image, vouched) in bundle.images().iter().zip(vouched) {
            vouched.check(image)?;
        }
        self.keep_apart(bundle, &verified)?;
        let mut new = Vec::new();
        for image in bundle.images() {
            let (spot, tag) = place_of(self.site, image)?;
            new.push(!spot.shows(tag.as_deref(), &image.image, &image.digest).await?);
        }
        match self.site {
            Site::Registry(registry, _) => self.push(registry, bundle, &new, &mut verified).await?,
            Site::Layout(folder) => self.store(folder, bundle, &verified).await?,
        }
        for part in bundle.trusts() {
            self.remember(bundle, part, &completed, now).await?;
        }
        Ok(imported(bundle, &new, verified))
    }

    async fn verified<'a>(
        &'a self,
        bundle: &Bundle,
        part: &TrustPart,
        completed: &Arc<BTreeMap<Digest, Vec<u8>>>,
        vouched: &mut [Vouched],
        now: DateTime<Utc>,
    ) -> Result<Verified<'a>, BundleError> {
        let root = self.pinned(part)?;
        let source = source(bundle, part, completed)?;
        let session = Session::rehearse(source, self.state, &root.document, now, &root.bounds).await;
        let mut session = session.map_err(|error| refused(part, error))?;
        let closure = closure(&mut session, part).await?;
        for (image, vouched) in bundle.images().iter().zip(vouched) {
            let name = self.name_for(root, image)?;
            vouched.ask(&mut session, image, name.as_deref()).await;
        }
        drop(session);
        let spot = self.site.spot(&part.repository)?;
        self.is_free(root, &spot)?;
        let (before, same) = may_go(&spot, &closure).await?;
        Ok(Verified { root, spot, closure, before, same, others: Others::default() })
    }

    /// Moves trusted state to what was verified, every role of it: what was taken back there holds here from now on.
    async fn remember(
        &self,
        bundle: &Bundle,
        part: &TrustPart,
        completed: &Arc<BTreeMap<Digest, Vec<u8>>>,
        now: DateTime<Utc>,
    ) -> Result<(), BundleError> {
        let root = self.pinned(part)?;
        let mut runs = 0;
        let mut session = loop {
            runs += 1;
            let source = source(bundle, part, completed)?;
            match Session::refresh(source, self.state, &root.document, now, &root.bounds).await {
                Err(UpdateError::TooManyRoots) if runs < ROOT_RUNS => {}
                session => break session.map_err(|error| refused(part, error))?,
            }
        };
        closure(&mut session, part).await.map(drop)
    }

    /// The pinned root of the trust repository that `part` says it is. The update decides whether it is that one.
    fn pinned(&self, part: &TrustPart) -> Result<&PinnedRoot, BundleError> {
        let is_meant = |root: &&PinnedRoot| match Document::<Root>::parse("root", &root.document) {
            Ok(document) => match &document.signed.common.identity {
                Some(identity) => part.trust.as_ref() == Some(&identity.trust),
                // A foreign root names no trust id: the bundle must list this very root.
                None => {
                    let listed = part.listing.root(document.version());
                    listed.is_some_and(|listed| listed.digest == document.digest())
                }
            },
            Err(_) => false,
        };
        let (repository, trust) = (part.repository.clone(), part.trust.clone());
        self.roots.iter().find(is_meant).ok_or(BundleError::NotPinned { repository, trust })
    }

    /// What `image` must be signed as by `root` to be where it goes to: what the policy calls that place there. None if the
    /// policy asks other roots about the place.
    ///
    /// Where the policy asks nobody about the place, it is what the bundle calls the image, so that its publisher's name for
    /// it stays its own. What the bundle says that it was verified as does not count.
    fn name_for(&self, root: &PinnedRoot, image: &ImagePart) -> Result<Option<String>, BundleError> {
        let wrong = |source| BundleError::Place { repository: image.image.clone(), source };
        let called: Reference = image.image.parse().map_err(wrong)?;
        let to = self.site.spot(&called.repository.to_string())?.address()?;
        let Some(repository) = self.policy.identity(&to) else { return Ok(None) };
        let identity = Reference { repository, ..called.clone() };
        let name = target_name(&identity);
        let scope = self.policy.select(&identity.repository.host, &name);
        let Some(scope) = scope.filter(|scope| !scope.roots().is_empty()) else {
            return Ok(Some(target_name(&called).to_string()));
        };
        let asked = scope.roots();
        let mut asked = self.roots.iter().filter(|one| asked.contains(&one.name.as_str()));
        let one = asked.find(|one| one.name == root.name || one.identity() == root.identity());
        Ok(one.and_then(|one| scope.name_in(&one.name, &name)).map(|name| name.to_string()))
    }

    /// The policy does not say that another trust repository is there.
    fn is_free(&self, root: &PinnedRoot, spot: &Spot<'_>) -> Result<(), BundleError> {
        let place = Place::Registry(spot.address()?);
        let there = |one: &&PinnedRoot| {
            self.policy.root.get(&one.name).is_some_and(|entry| entry.places.contains(&place))
        };
        let there: Vec<&PinnedRoot> = self.roots.iter().filter(there).collect();
        match there.first() {
            Some(other) if there.iter().all(|one| one.identity() != root.identity()) => {
                let (found, ours) = (format!("the root {}", other.name), format!("the root {}", root.name));
                Err(BundleError::Foreign { place: spot.place(), found, ours })
            }
            _ => Ok(()),
        }
    }

    /// No two things go to one place, no trust repository to two, and no image where a trust repository is.
    fn keep_apart(&self, bundle: &Bundle, verified: &[Verified<'_>]) -> Result<(), BundleError> {
        let (mut places, mut trusts) = (BTreeMap::new(), BTreeMap::new());
        for one in verified {
            let (place, known) = (one.spot.place(), one.closure.summary.repository.clone());
            if let Some(other) = places.insert(place.clone(), known.clone()) {
                return Err(BundleError::SamePlace { one: other, other: known, place });
            }
            if let Some(known) = trusts.insert(one.root.identity(), place.clone()) {
                return Err(BundleError::Elsewhere { trust: one.root.identity(), place, known });
            }
        }
        let pinned: Vec<&Place> = self.policy.root.values().flat_map(|entry| &entry.places).collect();
        let mut images = BTreeMap::new();
        for image in bundle.images() {
            let (spot, tag) = place_of(self.site, image)?;
            let (place, address) = (spot.place(), spot.address()?);
            if places.contains_key(&place) || pinned.contains(&&Place::Registry(address)) {
                return Err(BundleError::InTrust { image: image.image.clone(), place });
            }
            let place = match tag {
                Some(tag) => format!("{place}:{tag}"),
                None => format!("{place}@{}", image.digest),
            };
            if let Some(other) = images.insert(place.clone(), image) {
                let (one, other) = (other.image.clone(), image.image.clone());
                return Err(BundleError::SamePlace { one, other, place });
            }
        }
        Ok(())
    }

    async fn push(
        &self,
        registry: &Registry,
        bundle: &Bundle,
        new: &[bool],
        verified: &mut [Verified<'_>],
    ) -> Result<(), BundleError> {
        for (image, _) in bundle.images().iter().zip(new).filter(|(_, new)| **new) {
            self.push_image(registry, bundle, image).await?;
        }
        for one in &*verified {
            let Spot::Registry(_, to) = &one.spot else { continue };
            for role in one.closure.roles.values() {
                // What stays there is ours, or of somebody newer who is about to move the entry point.
                if one.same && shown_digest(registry, to, &role.artifact.tag).await?.is_some() {
                    continue;
                }
                Landing { registry, to, closure: &one.closure }.role(role).await?;
            }
        }
        for one in verified.iter_mut().filter(|one| !one.same) {
            let Spot::Registry(_, to) = &one.spot else { continue };
            let roles: Vec<&str> = one.closure.roles.keys().map(String::as_str).collect();
            one.others = Landing { registry, to, closure: &one.closure }.entry_point(&roles).await?;
        }
        Ok(())
    }

    async fn push_image(
        &self,
        registry: &Registry,
        bundle: &Bundle,
        image: &ImagePart,
    ) -> Result<(), BundleError> {
        let (to, tag) = place_of(self.site, image)?;
        let Spot::Registry(_, to) = to else { return Ok(()) };
        let layout = bundle.layout();
        push_blobs(registry, &to, &image.blobs, Blobs::Layout(layout)).await?;
        for manifest in &image.manifests {
            let bytes = Bytes::from(layout.manifest(manifest)?);
            let top = manifest.digest == image.digest;
            let reference = tag.clone().filter(|_| top).unwrap_or_else(|| manifest.digest.to_string());
            registry.put_manifest(&to, &reference, &manifest.media_type, bytes).await?;
        }
        Ok(())
    }

    async fn store(
        &self,
        folder: &Path,
        bundle: &Bundle,
        verified: &[Verified<'_>],
    ) -> Result<(), BundleError> {
        write::prepare(folder)?;
        let lock = folder.join(".plimsoll.lock");
        let _lock = state::lock(&lock, PATIENCE).await.map_err(crate::update::UpdateError::from)?;
        // Another import may have gone on since this one looked.
        for one in verified {
            may_go(&one.spot, &one.closure).await?;
        }
        let layout = Layout::open(folder)?;
        let mut manifests = Vec::new();
        for image in bundle.images() {
            for part in image.manifests.iter().chain(&image.blobs) {
                write::put_from(&layout, bundle.layout(), part).or_else(|error| {
                    // What the bundle leaves out is here: that was seen before.
                    if layout.copy(part, |_| Ok(())).is_ok() { Ok(()) } else { Err(error) }
                })?;
            }
            let annotations =
                [(REF_NAME.to_owned(), image.image.clone()), (NAME.to_owned(), image.name.clone())];
            manifests.push(Descriptor { annotations: annotations.into(), ..image.top.clone() });
        }
        for one in verified {
            let repository = &one.closure.summary.repository;
            let roles = one.closure.roles.values().map(|role| &role.artifact);
            for artifact in roles.chain([&one.closure.latest]) {
                for (_, bytes) in &artifact.blobs {
                    write::put(&layout, bytes)?;
                }
                write::put(&layout, &artifact.manifest)?;
                manifests.push(descriptor(artifact, repository));
            }
        }
        Ok(write::publish(folder, &manifests)?)
    }
}

fn source(
    bundle: &Bundle,
    part: &TrustPart,
    completed: &Arc<BTreeMap<Digest, Vec<u8>>>,
) -> Result<Completed, BundleError> {
    let source = LayoutSource::open(bundle.layout().place(), Some(&part.repository))?;
    Ok(Completed { bundle: source, files: completed.clone() })
}

/// What `part` has, by a session that reads it.
async fn closure(session: &mut Session<Completed>, part: &TrustPart) -> Result<Closure, BundleError> {
    let roles: BTreeSet<String> = part.roles.keys().cloned().collect();
    let closure = Closure::collect(session, &part.repository, Extent::Only(&roles)).await;
    closure.map_err(|error| match error {
        BundleError::Update(error) => refused(part, error),
        other => other,
    })
}

fn refused(part: &TrustPart, error: UpdateError) -> BundleError {
    BundleError::Refused { repository: part.repository.clone(), source: error.into() }
}

/// Where the image goes to, and its tag there.
fn place_of<'a>(site: &'a Site, image: &ImagePart) -> Result<(Spot<'a>, Option<String>), BundleError> {
    let wrong = |source| BundleError::Place { repository: image.image.clone(), source };
    let reference: Reference = image.image.parse().map_err(wrong)?;
    let spot = site.spot(&reference.repository.to_string())?;
    Ok((spot, reference.tag.map(|tag| tag.as_str().to_owned())))
}

/// What is at the spot may be replaced by `closure`: the version of the timestamp that is validly signed there, and whether
/// it is the same.
async fn may_go(spot: &Spot<'_>, closure: &Closure) -> Result<(Option<u64>, bool), BundleError> {
    if let Some(trust) = &closure.summary.trust
        && let Some(known) = spot.elsewhere(trust).await?
    {
        return Err(BundleError::Elsewhere { trust: trust.clone(), place: spot.place(), known });
    }
    let Some(shown) = spot.shown().await? else { return Ok((None, false)) };
    match spot.standing(&shown, &closure.root, &closure.timestamp).await? {
        Standing::Empty => Ok((None, false)),
        Standing::Same => Ok((Some(closure.timestamp.version()), true)),
        Standing::Behind { version, .. } => {
            nothing_is_lost(spot, &shown, closure).await?;
            Ok((Some(version), false))
        }
    }
}

/// Every role that is at the spot under its present snapshot is there under the new one, too.
async fn nothing_is_lost(
    spot: &Spot<'_>,
    shown: &super::site::Shown,
    closure: &Closure,
) -> Result<(), BundleError> {
    let Some(snapshot) = &shown.snapshot else { return Ok(()) };
    for (file, new) in &closure.snapshot.signed.meta {
        let Some(role) = file.strip_suffix(".json") else { continue };
        let Some(old) = snapshot.signed.role(role).filter(|old| *old != new) else { continue };
        let left_out = closure.left_out.iter().any(|left| left.role == role);
        if role == "targets" || left_out || closure.roles.contains_key(role) {
            continue;
        }
        let (Some(new_digest), Some(old_digest)) = (new.digest(), old.digest()) else { continue };
        // One that is here in its new version already, from elsewhere, is not lost.
        if spot.has(&old_digest).await? && !spot.has(&new_digest).await? {
            let (role, version) = (role.to_owned(), new.version);
            return Err(BundleError::Lacks { role, version, place: spot.place() });
        }
    }
    Ok(())
}

fn imported(bundle: &Bundle, new: &[bool], verified: Vec<Verified<'_>>) -> Imported {
    let parts = bundle.images().iter().flat_map(|image| image.manifests.iter().chain(&image.blobs));
    let mut blobs: BTreeSet<Digest> = parts.map(|part| part.digest).collect();
    let mut trusts = Vec::new();
    for one in verified {
        let roles = one.closure.roles.values().map(|role| &role.artifact);
        for artifact in roles.chain([&one.closure.latest]) {
            blobs.insert(artifact.digest);
            blobs.extend(artifact.blobs.iter().map(|(digest, _)| *digest));
        }
        trusts.push(Landed {
            root: one.root.name.clone(),
            place: one.spot.place(),
            summary: one.closure.summary,
            before: one.before,
            new: !one.same,
            others: one.others,
        });
    }
    let images = bundle.images().iter().zip(new);
    let images = images.map(|(image, new)| LandedImage { image: image.image.clone(), new: *new }).collect();
    Imported { bundle: 1, trusts, images, blobs }
}
