//! Reading a bundle: what is in it, whether it is whole, and whether everything has the digest that it should.
//!
//! Nothing is verified here but digests and shape. Only what [`Bundle::open`] has looked through is handed on.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use plimsoll_core::{
    oci::{
        Descriptor, Digest, EMPTY_CONFIG, Manifest, Reference, is_index,
        mapping::{FILENAME, LATEST, Listing, MAX_LAYERS, METADATA_TYPE, ROLE_ARTIFACT_TYPE, role_tag},
    },
    tuf::{Document, Snapshot, Timestamp, limit},
};

use super::{
    AS_OF, Bundle, BundleError, ImagePart, NAME, RolePart, TRUST, TrustPart, VERSION,
    images::{Listed, Parts, check_counts, children_first},
    ledger::Ledger,
};
use crate::layout::{Layout, REF_NAME};

/// How long a name is told, characters.
const SHOWN: usize = 300;

/// How many images are taken.
const MAX_IMAGES: u64 = 10_000;
/// How many trust repositories are taken.
const MAX_TRUSTS: u64 = 100;

impl Bundle {
    /// Looks through the bundle at `path`, an archive or the folder of one. Reads all of it and nothing else; no network.
    ///
    /// # Errors
    /// [`BundleError`]: the first thing that is wrong, and where.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let layout = Layout::open(path)?;
        let mut reader = Reader::default();
        let (mut trusts, mut roles, mut images) = (Vec::new(), Vec::new(), Vec::new());
        let mut names = BTreeSet::new();
        for descriptor in layout.manifests() {
            let called = descriptor.annotations.get(REF_NAME).cloned().unwrap_or_default();
            let shown = || called.chars().take(SHOWN).collect::<String>();
            let reference = called.parse::<Reference>().ok();
            // Spelled in the one way, so that a name is not there twice in two spellings.
            let reference = reference.filter(|reference| {
                reference.to_string() == called && (reference.tag.is_some() || reference.digest.is_some())
            });
            let Some(reference) = reference else {
                return Err(BundleError::Name { path: path.to_owned(), name: shown() });
            };
            if !names.insert(called.clone()) {
                return Err(BundleError::Twice { path: path.to_owned(), name: shown() });
            }
            let known = reader.ledger.known(descriptor);
            reader.ledger.sees(descriptor)?;
            reader.ledger.lists(&called, 1)?;
            let tag = reference.tag.as_ref().map(|tag| tag.as_str().to_owned());
            let repository = reference.repository.to_string();
            // Many may call one manifest an image: it is read once.
            if known {
                within(&called, "images", MAX_IMAGES, images.len() + 1)?;
                images.push(reader.image(&layout, &called, &reference, None, descriptor)?);
                continue;
            }
            let bytes = reader.ledger.manifest(&layout, &called, descriptor)?;
            match kind(&bytes, &descriptor.media_type) {
                Kind::Role => {
                    roles.push(reader.role(&called, &repository, tag.as_deref(), &bytes, descriptor)?);
                }
                Kind::Trust if tag.as_deref() == Some(LATEST) => {
                    within(&called, "trust repositories", MAX_TRUSTS, trusts.len() + 1)?;
                    trusts.push(reader.trust(&layout, &called, &repository, &bytes, descriptor)?);
                }
                kind => {
                    within(&called, "images", MAX_IMAGES, images.len() + 1)?;
                    if matches!(kind, Kind::Other) {
                        reader.ledger.is_image(descriptor);
                    }
                    images.push(reader.image(&layout, &called, &reference, Some(bytes), descriptor)?);
                }
            }
        }
        for (called, repository, role, part) in roles {
            let trust = trusts.iter_mut().find(|trust| trust.repository == repository);
            let trust = trust.ok_or(BundleError::Role { name: called })?;
            trust.versions.insert(role.clone(), part.version);
            trust.roles.insert(role, part);
        }
        if trusts.is_empty() {
            return Err(BundleError::NoTrust { path: path.to_owned() });
        }
        let (present, missing) = reader.ledger.look(&layout)?;
        Ok(Self { layout, trusts, images, present, missing })
    }
}

enum Kind {
    Trust,
    Role,
    Other,
}

/// So many of `what` are not more than `limit`; `name` is the last of them.
fn within(name: &str, what: &'static str, limit: u64, count: usize) -> Result<(), BundleError> {
    if count as u64 <= limit {
        return Ok(());
    }
    Err(BundleError::TooMany { name: name.to_owned(), what, limit })
}

/// What a manifest says that it is.
fn kind(bytes: &[u8], media_type: &str) -> Kind {
    if is_index(media_type) {
        return Kind::Other;
    }
    let Ok(manifest) = Manifest::parse(bytes) else { return Kind::Other };
    let found = manifest.artifact_type.as_ref().unwrap_or(&manifest.config.media_type);
    match found.as_str() {
        plimsoll_core::oci::mapping::ARTIFACT_TYPE => Kind::Trust,
        ROLE_ARTIFACT_TYPE => Kind::Role,
        _ => Kind::Other,
    }
}

/// Reads the entries of an index, one after the other.
#[derive(Default)]
struct Reader {
    ledger: Ledger,
}

type Role = (String, String, String, RolePart);

impl Reader {
    /// The config and layers of a manifest of ours; with `inline`, what travels inside it is at hand.
    fn layers(
        &mut self,
        name: &str,
        repository: &str,
        bytes: &[u8],
        inline: bool,
    ) -> Result<Manifest, BundleError> {
        let wrong = |source| BundleError::Manifest { name: name.to_owned(), source };
        let manifest = Manifest::parse(bytes).map_err(wrong)?;
        if manifest.layers.len() > MAX_LAYERS {
            return Err(BundleError::Role { name: name.to_owned() });
        }
        self.ledger.lists(name, manifest.layers.len() + 1)?;
        let config = &manifest.config;
        let empty = config.digest == Digest::of(EMPTY_CONFIG) && config.size == EMPTY_CONFIG.len() as u64;
        self.ledger.names(format!("the config of {name}"), config, repository, true, empty)?;
        for layer in &manifest.layers {
            let file = layer.annotations.get(FILENAME).map_or("a layer", String::as_str);
            let what = format!("{} of {repository}", file.chars().take(SHOWN).collect::<String>());
            self.ledger.names(what, layer, repository, true, inline && layer.data.is_some())?;
        }
        Ok(manifest)
    }

    fn trust(
        &mut self,
        layout: &Layout,
        name: &str,
        repository: &str,
        bytes: &[u8],
        descriptor: &Descriptor,
    ) -> Result<TrustPart, BundleError> {
        let wrong = |source| BundleError::Mapping { name: name.to_owned(), source };
        let listing = Listing::parse(bytes).map_err(wrong)?;
        self.layers(name, repository, bytes, true)?;
        let file = |listed: Option<&plimsoll_core::oci::mapping::Listed>, cap| match listed {
            Some(listed) if listed.data.is_some() => Ok(listed.data.clone()),
            Some(listed) => layout.blob(&listed.digest, cap),
            None => Ok(None),
        };
        let timestamp = file(listing.timestamp(), limit::TIMESTAMP)?;
        let timestamp = timestamp.and_then(|bytes| Document::<Timestamp>::parse("timestamp", &bytes).ok());
        let mut versions = BTreeMap::new();
        versions.extend(listing.newest_root().map(|version| ("root".to_owned(), version)));
        if let Some(timestamp) = &timestamp {
            versions.insert("timestamp".to_owned(), timestamp.version());
            let meta = timestamp.signed.snapshot();
            versions.insert("snapshot".to_owned(), meta.version);
            let snapshot = file(listing.snapshot(meta.version), limit::SNAPSHOT)?;
            let snapshot = snapshot.and_then(|bytes| Document::<Snapshot>::parse("snapshot", &bytes).ok());
            let targets = snapshot.as_ref().and_then(|snapshot| snapshot.signed.role("targets"));
            versions.extend(targets.map(|meta| ("targets".to_owned(), meta.version)));
        }
        let identity = timestamp.as_ref().and_then(|timestamp| timestamp.signed.common.identity.as_ref());
        let part = TrustPart {
            repository: repository.to_owned(),
            trust: identity.map(|identity| identity.trust.clone()),
            as_of: identity.map(|identity| identity.at),
            age: None,
            expires: timestamp.as_ref().map(|timestamp| timestamp.signed.common.expires),
            versions,
            listing,
            roles: BTreeMap::new(),
        };
        agrees(name, TRUST, descriptor, part.trust.clone())?;
        let as_of = part.as_of.map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true));
        agrees(name, AS_OF, descriptor, as_of)?;
        for (key, role) in [
            ("vnd.plimsoll.root", "root"),
            ("vnd.plimsoll.timestamp", "timestamp"),
            ("vnd.plimsoll.snapshot", "snapshot"),
            ("vnd.plimsoll.targets", "targets"),
        ] {
            // Of the snapshot the far side may have the only copy, and it alone names the version of targets.
            if let Some(version) = part.versions.get(role) {
                agrees(name, key, descriptor, Some(version.to_string()))?;
            }
        }
        Ok(part)
    }

    fn role(
        &mut self,
        name: &str,
        repository: &str,
        tag: Option<&str>,
        bytes: &[u8],
        descriptor: &Descriptor,
    ) -> Result<Role, BundleError> {
        let wrong = || BundleError::Role { name: name.to_owned() };
        let manifest = self.layers(name, repository, bytes, false)?;
        let mut newest: Option<(String, RolePart)> = None;
        for layer in manifest.layers {
            let file = layer.annotations.get(FILENAME).filter(|_| layer.media_type == METADATA_TYPE);
            let (role, version) = file.and_then(|file| split(file)).ok_or_else(wrong)?;
            if tag != Some(role_tag(&role).as_str()) {
                return Err(wrong());
            }
            if newest.as_ref().is_none_or(|(_, known)| known.version < version) {
                newest = Some((role, RolePart { version, document: layer }));
            }
        }
        let (role, part) = newest.ok_or_else(wrong)?;
        agrees(name, super::ROLE, descriptor, Some(role.clone()))?;
        agrees(name, VERSION, descriptor, Some(part.version.to_string()))?;
        Ok((name.to_owned(), repository.to_owned(), role, part))
    }

    fn image(
        &mut self,
        layout: &Layout,
        called: &str,
        reference: &Reference,
        bytes: Option<Vec<u8>>,
        descriptor: &Descriptor,
    ) -> Result<ImagePart, BundleError> {
        let repository = reference.repository.to_string();
        let name = descriptor.annotations.get(NAME).cloned();
        let name = name.unwrap_or_else(|| crate::verify::target_name(reference).to_string());
        let top = Descriptor { annotations: BTreeMap::new(), data: None, ..descriptor.clone() };
        let mut manifests: Vec<Listed<Descriptor>> = Vec::new();
        let (mut blobs, mut own): (Vec<Descriptor>, BTreeSet<Digest>) = Default::default();
        let mut pending = vec![(top.clone(), bytes, 0)];
        while let Some((manifest, bytes, depth)) = pending.pop() {
            if manifests.iter().any(|known| known.digest == manifest.digest) {
                continue;
            }
            self.ledger.sees(&manifest)?;
            let parts = self.ledger.parts(layout, called, &manifest, bytes)?;
            let Parts { manifests: children, blobs: listed } = &*parts;
            check_counts(called, manifests.len() + children.len(), depth)?;
            self.ledger.lists(called, children.len() + listed.len())?;
            let below = children.iter().map(|child| child.digest).collect();
            pending.extend(children.iter().map(|child| (child.clone(), None, depth + 1)));
            for blob in listed {
                self.ledger.names(format!("a blob of {called}"), blob, &repository, false, false)?;
                if own.insert(blob.digest) {
                    blobs.push(blob.clone());
                }
            }
            manifests.push(Listed { digest: manifest.digest, below, item: manifest });
        }
        let manifests = children_first(manifests);
        let all = manifests.iter().chain(&blobs).map(|descriptor| descriptor.size);
        let bytes = all.fold(0, u64::saturating_add);
        let digest = top.digest;
        Ok(ImagePart { image: called.to_owned(), name, digest, top, manifests, blobs, bytes })
    }
}

/// The role and the version in `N.ROLE.json`, in the one way of writing it.
fn split(file: &str) -> Option<(String, u64)> {
    let (version, role) = file.strip_suffix(".json")?.split_once('.')?;
    let number: u64 = version.parse().ok()?;
    (number.to_string() == version && !role.is_empty()).then(|| (role.to_owned(), number))
}

/// An annotation is for people and for other programs: it says what the documents say, or is not there.
fn agrees(
    name: &str,
    key: &'static str,
    descriptor: &Descriptor,
    found: Option<String>,
) -> Result<(), BundleError> {
    match (descriptor.annotations.get(key), found) {
        (Some(said), found) if found.as_ref() != Some(said) => Err(BundleError::Annotation {
            name: name.to_owned(),
            key,
            said: said.chars().take(SHOWN).collect(),
            found: found.unwrap_or_else(|| "nothing".to_owned()),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_core::oci::media_type;

    use super::*;
    use crate::layout::write;

    /// A layout in which `names` images are one manifest with `layers` layers.
    fn bundle(names: u64, layers: usize) -> Result<Bundle, BundleError> {
        let folder = tempfile::tempdir().unwrap();
        write::prepare(folder.path()).unwrap();
        let layout = Layout::open(folder.path()).unwrap();
        let layer = |at: usize| Descriptor::of("application/octet-stream", &at.to_le_bytes());
        let layers: Vec<Descriptor> = (0..layers).map(layer).collect();
        let manifest =
            serde_json::json!({"schemaVersion": 2, "config": layer(0), "layers": layers}).to_string();
        write::put(&layout, manifest.as_bytes()).unwrap();
        let named = |at: u64| {
            let name = format!("r.example.com/acme/app:v{at}");
            let annotations = BTreeMap::from([(REF_NAME.to_owned(), name)]);
            Descriptor { annotations, ..Descriptor::of(media_type::MANIFEST, manifest.as_bytes()) }
        };
        let index = write::index(&(0..names).map(named).collect::<Vec<_>>());
        std::fs::write(folder.path().join("index.json"), index).unwrap();
        Bundle::open(folder.path())
    }

    /// T40: few bytes cannot be made to cost much work.
    #[test]
    fn what_a_bundle_lists_is_counted_and_the_place_is_named_where_it_is_too_much() {
        let refused = |names, layers, kind, last: &str| match bundle(names, layers) {
            Err(BundleError::TooMany { name, what, .. }) => {
                assert!(what.starts_with(kind), "{what}");
                assert_eq!(name, format!("r.example.com/acme/app:{last}"));
            }
            other => panic!("{names} images of {layers} layers: {:?}", other.map(drop)),
        };
        refused(MAX_IMAGES + 1, 1, "images", "v10000");
        // Each name lists itself, the config and the layers.
        refused(100, 1000, "descriptors", "v99");
        refused(1, 1001, "layers", "v0");
        for (names, layers) in [(MAX_IMAGES, 1), (99, 1000)] {
            let whole = bundle(names, layers).map(drop);
            assert!(matches!(whole, Err(BundleError::NoTrust { .. })), "{whole:?}");
        }
    }
}
