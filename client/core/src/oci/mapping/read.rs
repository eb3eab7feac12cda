//! From a manifest to what it lists.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde::{Deserialize, de::IgnoredAny};

use super::{ARTIFACT_TYPE, FILENAME, MAX_LAYERS, MAX_MANIFEST, METADATA_TYPE, TIMESTAMP, file_name};
use crate::{
    oci::{Descriptor, Digest, Manifest, ManifestError, media_type},
    record,
};

/// What the manifest at [`LATEST`](super::LATEST) lists: an unsigned hint. Whoever owns the registry may have written it;
/// the TUF workflow decides what the files are worth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The files by name, such as `3.root.json`.
    pub files: BTreeMap<String, Listed>,
}

/// One listed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// sha256 of the file: the blob to fetch.
    pub digest: Digest,
    /// The file's length in bytes, as the manifest has it.
    pub size: u64,
    /// The file itself if the manifest carries it: decoded, of this size and digest.
    pub data: Option<Vec<u8>>,
}

/// Why a manifest cannot serve as the entry point of a trust repository.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MappingError {
    /// Longer than [`MAX_MANIFEST`].
    #[error("the manifest has {size} bytes, at most {MAX_MANIFEST} are read")]
    TooLarge {
        /// Its length in bytes.
        size: usize,
    },
    /// Not an image manifest at all.
    #[error("the manifest cannot be read")]
    Manifest(#[from] ManifestError),
    /// A sound manifest of something else, such as an ordinary image.
    #[error("this is not a trust repository but `{found}`")]
    NotATrustRepository {
        /// The artifact type, or media type, that it has instead of [`ARTIFACT_TYPE`]; cut to 200 characters.
        found: String,
    },
    /// More layers than [`MAX_LAYERS`].
    #[error("the manifest has {count} layers, at most {MAX_LAYERS} are read")]
    TooManyLayers {
        /// How many it has.
        count: usize,
    },
    /// Two layers claim one file name.
    #[error("the manifest lists `{filename}` twice")]
    Duplicate {
        /// The name, cut to 200 characters.
        filename: String,
    },
    /// A layer's `data` is not base64.
    #[error("the content that the manifest carries for `{filename}` is not base64")]
    DataEncoding {
        /// The file's name, cut to 200 characters.
        filename: String,
    },
    /// A layer's `data` has another length than the layer says.
    #[error("the manifest carries {found} bytes for `{filename}` and says {expected}")]
    DataSize {
        /// The file's name, cut to 200 characters.
        filename: String,
        /// The layer's `size` in bytes.
        expected: u64,
        /// The length of the decoded content in bytes.
        found: u64,
    },
    /// A layer's `data` has another digest than the layer says.
    #[error("the manifest carries content {found} for `{filename}` and says {expected}")]
    DataDigest {
        /// The file's name, cut to 200 characters.
        filename: String,
        /// The layer's `digest`.
        expected: Digest,
        /// The digest of the decoded content.
        found: Digest,
    },
}

impl Listing {
    /// Reads the untrusted bytes of the manifest at [`LATEST`](super::LATEST), in either [`Profile`](super::Profile).
    ///
    /// Layers of other media types, and those without a file name, are skipped: later versions may add some. Whether the
    /// registry's `Content-Type` agrees with the document is for the caller to check.
    ///
    /// # Errors
    /// [`MappingError`], by rule.
    pub fn parse(manifest: &[u8]) -> Result<Self, MappingError> {
        if manifest.len() > MAX_MANIFEST {
            return Err(MappingError::TooLarge { size: manifest.len() });
        }
        let manifest = Manifest::parse(manifest).map_err(|error| of_something_else(manifest, error))?;
        // Without an artifactType the config's media type says what an artifact is (OCI image spec 1.1, manifest.md).
        let found = manifest.artifact_type.as_ref().unwrap_or(&manifest.config.media_type);
        if found != ARTIFACT_TYPE {
            return Err(MappingError::NotATrustRepository { found: cut(found) });
        }
        if manifest.layers.len() > MAX_LAYERS {
            return Err(MappingError::TooManyLayers { count: manifest.layers.len() });
        }
        let mut files = BTreeMap::new();
        for mut layer in manifest.layers {
            let Some(filename) = layer.annotations.remove(FILENAME) else { continue };
            if layer.media_type != METADATA_TYPE {
                continue;
            }
            let listed = Listed::new(&filename, &layer)?;
            if files.contains_key(&filename) {
                return Err(MappingError::Duplicate { filename: cut(&filename) });
            }
            files.insert(filename, listed);
        }
        Ok(Self { files })
    }

    /// The timestamp.
    pub fn timestamp(&self) -> Option<&Listed> {
        self.files.get(TIMESTAMP)
    }

    /// The root of this version.
    pub fn root(&self, version: u64) -> Option<&Listed> {
        self.files.get(&file_name("root", version))
    }

    /// The highest version of the roots listed.
    pub fn newest_root(&self) -> Option<u64> {
        self.files.keys().filter_map(|name| root_version(name)).max()
    }

    /// The snapshot of this version.
    pub fn snapshot(&self, version: u64) -> Option<&Listed> {
        self.files.get(&file_name("snapshot", version))
    }

    /// The top-level targets of this version.
    pub fn targets(&self, version: u64) -> Option<&Listed> {
        self.files.get(&file_name("targets", version))
    }
}

impl Listed {
    fn new(filename: &str, layer: &Descriptor) -> Result<Self, MappingError> {
        let data = layer.data.as_ref().map(|text| decode(filename, layer, text)).transpose()?;
        Ok(Self { digest: layer.digest, size: layer.size, data })
    }
}

fn decode(filename: &str, layer: &Descriptor, text: &str) -> Result<Vec<u8>, MappingError> {
    let filename = || cut(filename);
    let bytes =
        BASE64.decode(text.as_bytes()).map_err(|_| MappingError::DataEncoding { filename: filename() })?;
    let (found, expected) = (bytes.len() as u64, layer.size);
    if found != expected {
        return Err(MappingError::DataSize { filename: filename(), expected, found });
    }
    let (found, expected) = (Digest::of(&bytes), layer.digest);
    if found != expected {
        return Err(MappingError::DataDigest { filename: filename(), expected, found });
    }
    Ok(bytes)
}

/// An index, or an image in docker's format, is sound but something else: the likely case is a mistyped repository.
fn of_something_else(bytes: &[u8], error: ManifestError) -> MappingError {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Outline {
        media_type: Option<String>,
        config: Option<IgnoredAny>,
        layers: Option<IgnoredAny>,
    }
    match error {
        ManifestError::MediaType(found) => MappingError::NotATrustRepository { found },
        // `manifests`, as in an index, and nothing of an image manifest.
        ManifestError::Ambiguous => match record::json(bytes) {
            Ok(Outline { media_type, config: None, layers: None })
                if media_type.as_deref() != Some(media_type::MANIFEST) =>
            {
                let found = media_type.map_or_else(|| media_type::INDEX.to_owned(), |found| cut(&found));
                MappingError::NotATrustRepository { found }
            }
            _ => error.into(),
        },
        _ => error.into(),
    }
}

/// The version in `N.root.json`, in the one way of writing it.
fn root_version(name: &str) -> Option<u64> {
    let version = name.strip_suffix(".root.json")?.parse().ok()?;
    (file_name("root", version) == name).then_some(version)
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::oci::mapping::{Profile, RepositoryFiles, repository, role};

    fn layer(name: &str, bytes: &[u8]) -> Value {
        json!({
            "mediaType": METADATA_TYPE, "digest": Digest::of(bytes), "size": bytes.len(),
            "annotations": {FILENAME: name},
        })
    }

    fn carrying(name: &str, bytes: &[u8], data: &str) -> Value {
        let mut layer = layer(name, bytes);
        layer["data"] = data.into();
        layer
    }

    fn manifest(layers: &[Value]) -> Value {
        json!({
            "schemaVersion": 2, "mediaType": media_type::MANIFEST, "artifactType": ARTIFACT_TYPE,
            "config": {"mediaType": media_type::EMPTY, "digest": Digest::of(b"{}"), "size": 2}, "layers": layers,
        })
    }

    fn parse(manifest: &Value) -> Result<Listing, MappingError> {
        Listing::parse(manifest.to_string().as_bytes())
    }

    #[test]
    fn finds_each_file_by_role_and_version() {
        let listing = parse(&manifest(&[
            carrying("timestamp.json", b"t", "dA=="),
            layer("12.snapshot.json", b"s"),
            layer("3.targets.json", b"g"),
            layer("9.root.json", b"r9"),
            layer("10.root.json", b"r10"),
        ]))
        .unwrap();
        assert_eq!(listing.timestamp().unwrap().data.as_deref(), Some(b"t".as_slice()));
        assert_eq!(listing.snapshot(12).unwrap().digest, Digest::of(b"s"));
        assert_eq!(listing.targets(3).unwrap().size, 1);
        assert_eq!(listing.newest_root(), Some(10));
        assert_eq!(listing.root(9).unwrap().data, None);
        assert_eq!((listing.root(11), listing.snapshot(1), listing.targets(4)), (None, None, None));
    }

    #[test]
    fn a_root_version_is_written_in_one_way_only() {
        let strange =
            ["011.root.json", "+12.root.json", "13.root.json.root.json", "99999999999999999999.root.json"];
        let layers: Vec<_> = ["2.root.json"].iter().chain(&strange).map(|name| layer(name, b"r")).collect();
        assert_eq!(parse(&manifest(&layers)).unwrap().newest_root(), Some(2));
        assert_eq!(parse(&manifest(&[])).unwrap().newest_root(), None);
    }

    #[test]
    fn layers_that_are_not_tuf_files_are_skipped() {
        let mut tarball = layer("timestamp.json", b"tar");
        tarball["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip".into();
        let mut nameless = layer("x", b"y");
        nameless["annotations"] = json!({"org.opencontainers.image.title": "timestamp.json"});
        let listing = parse(&manifest(&[tarball, nameless, layer("timestamp.json", b"t")])).unwrap();
        assert_eq!(listing.files.len(), 1);
        assert_eq!(listing.timestamp().unwrap().digest, Digest::of(b"t"));
    }

    #[test]
    fn a_file_listed_twice_is_refused_even_with_one_content() {
        let twice = [layer("1.root.json", b"r"), layer("1.root.json", b"r")];
        let error = parse(&manifest(&twice)).unwrap_err();
        assert!(matches!(error, MappingError::Duplicate { filename } if filename == "1.root.json"));
    }

    #[test]
    fn carried_content_must_be_what_the_layer_says() {
        let refusal = |bytes: &[u8], data: &str| {
            parse(&manifest(&[carrying("timestamp.json", bytes, data)])).unwrap_err()
        };
        for data in ["dA", "dA==\n", "dB==", "d-==", "*"] {
            assert!(matches!(refusal(b"t", data), MappingError::DataEncoding { .. }), "{data}");
        }
        assert!(matches!(refusal(b"t", "dHQ="), MappingError::DataSize { expected: 1, found: 2, .. }));
        assert!(matches!(refusal(b"t", ""), MappingError::DataSize { expected: 1, found: 0, .. }));
        assert!(
            matches!(refusal(b"t", "dQ=="), MappingError::DataDigest { expected, .. } if expected == Digest::of(b"t"))
        );
        let empty = parse(&manifest(&[carrying("timestamp.json", b"", "")])).unwrap();
        assert_eq!(empty.timestamp().unwrap().data, Some(Vec::new()));
    }

    /// T43.
    #[test]
    fn a_manifest_beyond_the_limits_is_refused() {
        let padded = |length: usize| {
            let mut bytes = manifest(&[]).to_string().into_bytes();
            bytes.resize(length, b' ');
            Listing::parse(&bytes)
        };
        assert!(padded(MAX_MANIFEST).is_ok());
        assert!(
            matches!(padded(MAX_MANIFEST + 1), Err(MappingError::TooLarge { size }) if size == MAX_MANIFEST + 1)
        );
        let many: Vec<_> = (0..=MAX_LAYERS).map(|i| layer(&format!("{i}.root.json"), b"r")).collect();
        assert_eq!(parse(&manifest(&many[1..])).unwrap().newest_root(), Some(MAX_LAYERS as u64));
        assert!(matches!(parse(&manifest(&many)), Err(MappingError::TooManyLayers { count: 1001 })));
    }

    #[test]
    fn other_digest_algorithms_are_refused() {
        let mut layer = layer("1.root.json", b"r");
        layer["digest"] = format!("sha512:{}", "0".repeat(128)).into();
        assert!(matches!(parse(&manifest(&[layer])), Err(MappingError::Manifest(ManifestError::Shape(_)))));
    }

    #[test]
    fn an_ordinary_image_is_not_a_trust_repository() {
        let found = |manifest: &Value| match parse(manifest) {
            Err(MappingError::NotATrustRepository { found }) => found,
            other => panic!("{other:?}"),
        };
        let image_config = "application/vnd.oci.image.config.v1+json";
        let mut image = manifest(&[]);
        image["config"]["mediaType"] = image_config.into();
        image.as_object_mut().unwrap().remove("artifactType");
        assert_eq!(found(&image), image_config);
        image["mediaType"] = media_type::DOCKER_MANIFEST.into();
        assert_eq!(found(&image), media_type::DOCKER_MANIFEST);
        assert_eq!(found(&json!({"schemaVersion": 2, "manifests": []})), media_type::INDEX);
        let list = json!({"schemaVersion": 2, "mediaType": media_type::DOCKER_LIST, "manifests": []});
        assert_eq!(found(&list), media_type::DOCKER_LIST);
        let of_a_role = role("r", (1, b"one"), None, Profile::Oci11).manifest;
        assert_eq!(found(&serde_json::from_slice(&of_a_role).unwrap()), "application/vnd.tuf.role.v1+json");
        // An artifact type outranks what the config says.
        let mut other = manifest(&[]);
        other["artifactType"] = "application/spdx+json".into();
        other["config"]["mediaType"] = ARTIFACT_TYPE.into();
        assert_eq!(found(&other), "application/spdx+json");
    }

    /// T77.
    #[test]
    fn a_manifest_that_is_an_index_too_is_refused() {
        let mut both = manifest(&[]);
        both["manifests"] = json!([]);
        assert!(matches!(parse(&both), Err(MappingError::Manifest(ManifestError::Ambiguous))));
        both.as_object_mut().unwrap().remove("layers");
        assert!(matches!(parse(&both), Err(MappingError::Manifest(ManifestError::Ambiguous))));
        // An index that calls itself a manifest is no sound index.
        both.as_object_mut().unwrap().remove("config");
        assert!(matches!(parse(&both), Err(MappingError::Manifest(ManifestError::Ambiguous))));
    }

    fn versions() -> impl Strategy<Value = BTreeMap<u64, Vec<u8>>> {
        prop::collection::btree_map(1..u64::MAX, prop::collection::vec(any::<u8>(), 0..40), 1..8)
    }

    fn borrowed(files: &BTreeMap<u64, Vec<u8>>) -> Vec<(u64, &[u8])> {
        files.iter().map(|(&version, bytes)| (version, bytes.as_slice())).collect()
    }

    proptest! {
        /// What is written is read back: every file with its digest and size, its content if it was small.
        #[test]
        fn reading_undoes_writing(
            timestamp in prop::collection::vec(any::<u8>(), 0..40),
            snapshots in versions(),
            targets in prop::collection::vec(any::<u8>(), 8100..8300),
            roots in versions(),
            old in any::<bool>(),
        ) {
            let profile = if old { Profile::Oci10 } else { Profile::Oci11 };
            let files = RepositoryFiles {
                timestamp: &timestamp,
                snapshots: borrowed(&snapshots),
                targets: (5, &targets),
                roots: borrowed(&roots),
            };
            let artifact = repository(&files, profile);
            let listing = Listing::parse(&artifact.manifest).unwrap();

            let as_listed = |listed: Option<&Listed>, bytes: &[u8], inline: bool| {
                let listed = listed.expect("listed");
                assert_eq!((listed.digest, listed.size), (Digest::of(bytes), bytes.len() as u64));
                assert_eq!(listed.data.as_deref(), (inline && !old).then_some(bytes));
                assert!(artifact.blobs.contains(&(listed.digest, bytes.to_vec())));
            };
            as_listed(listing.timestamp(), &timestamp, true);
            as_listed(listing.targets(5), &targets, targets.len() <= 8192);
            for (i, (&version, bytes)) in snapshots.iter().rev().take(3).enumerate() {
                as_listed(listing.snapshot(version), bytes, i == 0);
            }
            for (&version, bytes) in &roots {
                as_listed(listing.root(version), bytes, false);
            }
            prop_assert_eq!(listing.newest_root(), roots.keys().last().copied());
            prop_assert_eq!(listing.files.len(), 2 + snapshots.len().min(3) + roots.len());
        }

        /// T56.
        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Listing::parse(&bytes);
        }
    }
}
