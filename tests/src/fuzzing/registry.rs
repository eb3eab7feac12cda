//! What a registry answers: challenges and manifests.

use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};
use plimsoll_core::oci::{
    Digest, Manifest,
    mapping::{self, Listing, MAX_LAYERS, Profile, RepositoryFiles},
};

use challenges::Challenge;

// The parser is no part of the client's interface; it depends on nothing of the client, so it is compiled here as well.
#[path = "../../../client/src/registry/challenge.rs"]
mod challenges;

/// Lines: the values of the headers `WWW-Authenticate`. A challenge is the same one when it is written again in the plainest
/// way, and when all values stand in one header (RFC 9110, section 5.3).
///
/// # Panics
/// If one of these does not hold.
pub fn challenge(bytes: &[u8]) -> bool {
    let Ok(values) = bytes.split(|b| *b == b'\n').map(HeaderValue::from_bytes).collect::<Result<Vec<_>, _>>()
    else {
        return false;
    };
    let Some(challenge) = read(values.iter().cloned()) else { return false };

    let written = match &challenge {
        Challenge::Basic => "Basic".to_owned(),
        Challenge::Bearer { realm, service } => {
            let quoted = |text: &str| format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""));
            let service = service.iter().map(|service| format!(",service={}", quoted(service)));
            format!("Bearer realm={}{}", quoted(realm), service.collect::<String>())
        }
    };
    // Longer than all headers may be, by its escapes.
    if written.len() <= 8 << 10 {
        let written = HeaderValue::from_str(&written).expect("what came in a header may stand in one");
        assert_eq!(read([written]).as_ref(), Some(&challenge));
    }

    // Each header may have 32 parameters, and all together 8 KiB.
    if bytes.iter().filter(|b| **b == b'=').count() <= 32 && bytes.len() + values.len() <= 8 << 10 {
        let one = values.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b", "[..]);
        let one = HeaderValue::from_bytes(&one).expect("header values joined are one");
        assert_eq!(read([one]).as_ref(), Some(&challenge));
    }
    true
}

fn read(values: impl IntoIterator<Item = HeaderValue>) -> Option<Challenge> {
    Challenge::from_headers(&values.into_iter().map(|value| (WWW_AUTHENTICATE, value)).collect::<HeaderMap>())
}

/// A manifest that is taken is written again as the same manifest, then to the byte.
///
/// # Panics
/// If one of these does not hold.
pub fn manifest(bytes: &[u8]) -> bool {
    let Ok(manifest) = Manifest::parse(bytes) else { return false };
    let written = manifest.to_bytes();
    let again = Manifest::parse(&written).expect("a manifest that we wrote");
    assert_eq!(again, manifest);
    assert_eq!(again.to_bytes(), written);
    assert_eq!(manifest.schema_version, 2);
    true
}

/// A listing comes of a sound manifest, whose content it never mistakes: what it carries has the size and digest that it
/// states. And whatever files are written as a manifest are listed as they are.
///
/// # Panics
/// If one of these does not hold.
pub fn listing(bytes: &[u8]) -> bool {
    files_are_listed_as_they_are(bytes);
    let Ok(listing) = Listing::parse(bytes) else { return false };
    let manifest = Manifest::parse(bytes).expect("a listing comes of a manifest");
    assert!(listing.files.len() <= manifest.layers.len() && manifest.layers.len() <= MAX_LAYERS);
    for (name, listed) in &listing.files {
        let layers =
            manifest.layers.iter().filter(|layer| layer.annotations.get(mapping::FILENAME) == Some(name));
        assert!(layers.clone().any(|layer| layer.digest == listed.digest && layer.size == listed.size));
        if let Some(data) = &listed.data {
            assert_eq!((Digest::of(data), data.len() as u64), (listed.digest, listed.size));
            assert!(layers.clone().any(|layer| layer.data.as_ref() == Some(&BASE64.encode(data))));
        }
    }
    if let Some(version) = listing.newest_root() {
        assert!(
            listing.root(version).is_some()
                && version.checked_add(1).is_none_or(|v| listing.root(v).is_none())
        );
    }
    assert_eq!(Listing::parse(&manifest.to_bytes()).ok(), Some(listing));
    true
}

fn files_are_listed_as_they_are(bytes: &[u8]) {
    let (root, rest) = bytes.split_at(bytes.len() / 2);
    let version = u64::from(bytes.first().copied().unwrap_or_default()) + 1;
    let files = RepositoryFiles {
        timestamp: rest,
        snapshots: vec![(version, bytes), (version + 1, root)],
        targets: (version, rest),
        roots: vec![(version, root), (version + 1, bytes)],
    };
    for profile in [Profile::Oci10, Profile::Oci11] {
        let artifact = mapping::repository(&files, profile);
        let listing = Listing::parse(&artifact.manifest).expect("a manifest that we wrote");
        for (listed, bytes) in [
            (listing.timestamp(), rest),
            (listing.snapshot(version), bytes),
            (listing.snapshot(version + 1), root),
            (listing.targets(version), rest),
            (listing.root(version), root),
            (listing.root(version + 1), bytes),
        ] {
            let listed = listed.expect("every file is listed");
            assert_eq!((listed.digest, listed.size), (Digest::of(bytes), bytes.len() as u64));
            assert!(artifact.blobs.iter().any(|(digest, blob)| *digest == listed.digest && blob == bytes));
        }
        assert_eq!((listing.files.len(), listing.newest_root()), (6, Some(version + 1)));
    }
}
