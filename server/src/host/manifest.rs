//! What a pushed manifest must look like (OCI image spec 1.1, manifest.md and image-index.md).

use std::borrow::Cow;

use plimsoll_core::{
    oci::{Digest, media_type},
    record,
    tuf::json,
};
use serde::Deserialize;

use super::error::Refusal;

/// What a manifest needs to be in its repository.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) blobs: Vec<Digest>,
    pub(super) manifests: Vec<Digest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape<'a> {
    schema_version: u8,
    #[serde(borrow)]
    media_type: Option<Cow<'a, str>>,
    #[serde(borrow)]
    config: Option<Named<'a>>,
    #[serde(borrow)]
    layers: Option<Vec<Named<'a>>>,
    #[serde(borrow)]
    manifests: Option<Vec<Named<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named<'a> {
    #[serde(borrow)]
    media_type: Cow<'a, str>,
    digest: Digest,
    #[expect(dead_code, reason = "its presence and type are checked")]
    size: u64,
}

/// What the manifest `bytes`, sent as `content_type`, needs.
///
/// # Errors
/// [`Refusal::ManifestInvalid`].
pub(super) fn needs(bytes: &[u8], content_type: &str) -> Result<Needs, Refusal> {
    let invalid = |why: String| Refusal::ManifestInvalid(why);
    json::check(bytes).map_err(|e| invalid(e.to_string()))?;
    let shape: Shape<'_> = record::json(bytes).map_err(|e| invalid(e.to_string()))?;
    if shape.schema_version != 2 {
        return Err(invalid(format!("schemaVersion {} instead of 2", shape.schema_version)));
    }
    if shape.media_type.as_deref().is_some_and(|inner| inner != content_type) {
        return Err(invalid("its mediaType is not the Content-Type".to_owned()));
    }
    let image = matches!(content_type, media_type::MANIFEST | media_type::DOCKER_MANIFEST);
    let index = matches!(content_type, media_type::INDEX | media_type::DOCKER_LIST);
    match (shape.config, shape.layers, shape.manifests) {
        (Some(config), Some(layers), None) if image => {
            let blobs = std::iter::once(config).chain(layers).filter(|d| !d.elsewhere()).map(|d| d.digest);
            Ok(Needs { blobs: blobs.collect(), manifests: Vec::new() })
        }
        (None, None, Some(manifests)) if index => {
            Ok(Needs { blobs: Vec::new(), manifests: manifests.into_iter().map(|d| d.digest).collect() })
        }
        // Bytes that could be read as either kind are refused with the rest (CVE-2021-41190).
        _ if image => Err(invalid("an image manifest has config and layers, and no manifests".to_owned())),
        _ if index => Err(invalid("an index has manifests, and neither config nor layers".to_owned())),
        _ => Err(invalid("its Content-Type is not an image manifest's or index's".to_owned())),
    }
}

impl Named<'_> {
    /// True for layers that are not kept in registries.
    fn elsewhere(&self) -> bool {
        self.media_type.contains(".nondistributable.") || self.media_type.contains(".foreign.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_named() {
        let d =
            |n: &str| serde_json::json!({"mediaType": "a/b", "digest": Digest::of(n.as_bytes()), "size": 1});
        let mut foreign = d("3");
        foreign["mediaType"] = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip".into();
        let image = serde_json::json!({"schemaVersion": 2, "config": d("1"), "layers": [d("2"), foreign]});
        let needs_of = |v: &serde_json::Value, t| needs(&serde_json::to_vec(v).unwrap(), t);
        let blobs = vec![Digest::of(b"1"), Digest::of(b"2")];
        assert_eq!(needs_of(&image, media_type::MANIFEST).unwrap(), Needs { blobs, manifests: vec![] });
        let index =
            serde_json::json!({"schemaVersion": 2, "mediaType": media_type::INDEX, "manifests": [d("1")]});
        let manifests = vec![Digest::of(b"1")];
        assert_eq!(needs_of(&index, media_type::INDEX).unwrap(), Needs { blobs: vec![], manifests });
    }

    #[test]
    fn what_is_not_one_clear_manifest_is_refused() {
        let d = r#"{"mediaType":"a/b","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}"#;
        let both = format!(r#"{{"schemaVersion":2,"config":{d},"layers":[],"manifests":[]}}"#);
        let twice = format!(r#"{{"schemaVersion":2,"config":{d},"config":{d},"layers":[]}}"#);
        let one = format!(r#"{{"schemaVersion":1,"config":{d},"layers":[]}}"#);
        let other =
            format!(r#"{{"schemaVersion":2,"mediaType":"{}","config":{d},"layers":[]}}"#, media_type::INDEX);
        let good = format!(r#"{{"schemaVersion":2,"config":{d},"layers":[]}}"#);
        assert!(needs(good.as_bytes(), media_type::MANIFEST).is_ok());
        assert!(needs(good.as_bytes(), media_type::INDEX).is_err());
        assert!(needs(good.as_bytes(), "text/plain").is_err());
        for bad in [
            &both,
            &twice,
            &one,
            &other,
            "",
            "[]",
            "{}",
            r#"{"schemaVersion":2}"#,
            &good.replace("sha256", "sha512"),
        ] {
            assert!(
                matches!(needs(bad.as_bytes(), media_type::MANIFEST), Err(Refusal::ManifestInvalid(_))),
                "{bad}"
            );
        }
    }
}
