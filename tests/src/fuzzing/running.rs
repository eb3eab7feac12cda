//! Files that name images, listings of what runs, and floors.

use plimsoll::{
    audit::{self, Image},
    lock::{Kind, Place, apply, locked, to_verify},
};
use plimsoll_core::{oci::Digest, tuf::Floor};

/// A file that names images: each place holds its image, no two overlap, and when all are locked nothing else changed.
/// Taken if it names one that can be locked, as a Dockerfile or as YAML.
///
/// # Panics
/// If one of these does not hold.
pub fn images(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    [Kind::Dockerfile, Kind::Yaml].map(|kind| images_of(kind, text)).contains(&true)
}

fn images_of(kind: Kind, text: &str) -> bool {
    let Ok(items) = kind.images(text) else { return false };
    let digest = Digest::of(b"meant");
    let mut edits = Vec::new();
    for item in &items {
        let Place::At { span, reference } = &item.place else { continue };
        assert_eq!(text[span.clone()], item.text);
        assert_eq!(item.text.parse().as_ref(), Ok(reference));
        let new = locked(&item.text, reference, &digest);
        assert_eq!(locked(&new, &new.parse().expect("a locked reference"), &digest), new);
        let meant = to_verify(reference);
        assert!(meant.digest.is_none() || meant.tag.is_none());
        edits.push((span.clone(), new));
    }
    edits.sort_by_key(|(span, _)| span.start);
    assert!(edits.is_sorted_by(|(a, _), (b, _)| a.end <= b.start), "places overlap");
    let old: Vec<_> = edits.iter().map(|(span, _)| (span.clone(), text[span.clone()].to_owned())).collect();
    assert_eq!(apply(text, &old), text);
    let grown: usize = edits.iter().map(|(span, new)| new.len() - span.len().min(new.len())).sum();
    assert!(apply(text, &edits).len() <= text.len() + grown);
    !edits.is_empty()
}

/// A listing of what runs: what is told to be known is a reference, which reads back as itself. Taken if something runs.
///
/// # Panics
/// If that does not hold.
pub fn running(bytes: &[u8]) -> bool {
    let Ok(listing) = audit::read(bytes, None) else { return false };
    for running in &listing.running {
        if let Image::Known(reference) = &running.image {
            assert_eq!(reference.to_string().parse().as_ref(), Ok(reference));
        }
    }
    !listing.running.is_empty()
}

/// A floor is the same one when it is written again.
///
/// # Panics
/// If it is not.
pub fn floor(bytes: &[u8]) -> bool {
    let Ok(floor) = Floor::parse(bytes) else { return false };
    assert_eq!(Floor::parse(floor.to_json().as_bytes()).expect("a floor that we wrote"), floor);
    true
}
