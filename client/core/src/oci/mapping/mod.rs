//! How TUF files map onto tags, manifests and layers. `docs/oci-mapping.md` is the normative text; a test holds its
//! examples and this code to the same bytes.
//!
//! Pure: bytes in, bytes out. Nothing here checks a signature: a manifest is an unsigned hint of where files are.

pub mod inbox;
mod read;
mod write;

pub use read::{Listed, Listing, MappingError};
pub use write::{
    Artifact, FileEntry, Profile, RepositoryEntries, RepositoryFiles, entry_point, repository, role,
    travels_inside,
};

use super::{Digest, valid_tag};

/// The tag of the entry point: the top-level files of a trust repository.
pub const LATEST: &str = "latest";
/// The layer annotation that carries a file's TUF name.
pub const FILENAME: &str = "tuf.io/filename";
/// What the manifest at [`LATEST`] is.
pub const ARTIFACT_TYPE: &str = "application/vnd.tuf.repository.v1+json";
/// What the manifest of a delegated role is.
pub const ROLE_ARTIFACT_TYPE: &str = "application/vnd.tuf.role.v1+json";
/// The media type of a layer that holds a TUF file.
pub const METADATA_TYPE: &str = "application/vnd.tuf.metadata+json";
/// The name of the one file without a version in its name (TUF 1.0.34, 6.2).
pub const TIMESTAMP: &str = "timestamp.json";

/// The largest manifest that is read, in bytes: what registries must at least take (OCI distribution 1.1, "Pushing
/// Manifests").
pub const MAX_MANIFEST: usize = 4 << 20;
/// The most layers that are read or written in one manifest.
pub const MAX_LAYERS: usize = 1000;
/// The largest snapshot or targets file, in bytes, that travels inside the manifest too.
pub const INLINE_MAX: usize = 8 << 10;
/// How many snapshots, the newest included, `:latest` lists.
pub const SNAPSHOTS: usize = 3;

/// Names that no delegated role's tag may take: the top-level roles, TUF's `mirrors`, and tags with a meaning here.
const RESERVED: [&str; 7] = ["root", "targets", "snapshot", "timestamp", "mirrors", LATEST, "inbox"];

/// The name of a role's file in a repository with consistent snapshots, `VERSION.ROLE.json` (TUF 1.0.34, 6.2).
///
/// The role's name stands as it is: this is text for [`FILENAME`], not a path. Whoever makes a URL or file name of it
/// percent-encodes the role first.
pub fn file_name(role: &str, version: u64) -> String {
    format!("{version}.{role}.json")
}

/// The tag of a delegated role's manifest: the role's name if that is a valid tag and not reserved, else `x-` and the
/// sha256 of the name in hex. Different roles have different tags.
pub fn role_tag(role: &str) -> String {
    if valid_tag(role) && !RESERVED.contains(&role) && !role.starts_with("x-") {
        role.to_owned()
    } else {
        format!("x-{}", Digest::of(role.as_bytes()).hex())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oci::Manifest;

    const DOC: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/oci-mapping.md"));

    /// The content of the fenced block after `<!-- example: NAME -->`.
    fn example(name: &str) -> &'static str {
        let marker = format!("<!-- example: {name} -->\n```json\n");
        let start = DOC.find(&marker).unwrap_or_else(|| panic!("no example {name}")) + marker.len();
        let length = DOC[start..].find("\n```\n").unwrap();
        &DOC[start..start + length]
    }

    /// The small repository of the document's examples.
    fn small(profile: Profile) -> Artifact {
        repository(
            &RepositoryFiles {
                timestamp: br#"{"signed":"timestamp"}"#,
                snapshots: vec![
                    (4, br#"{"signed":"snapshot 4"}"#),
                    (3, br#"{"signed":"snapshot 3"}"#),
                    (2, br#"{"signed":"snapshot 2"}"#),
                ],
                targets: (2, br#"{"signed":"targets 2"}"#),
                roots: vec![(1, br#"{"signed":"root 1"}"#), (2, br#"{"signed":"root 2"}"#)],
            },
            profile,
        )
    }

    fn small_role() -> Artifact {
        let (current, previous) = (br#"{"signed":"net-monitor 7"}"#, br#"{"signed":"net-monitor 6"}"#);
        role("targets--net-monitor", (7, current), Some((6, previous)), Profile::Oci11)
    }

    fn assert_documented(name: &str, artifact: &Artifact) {
        assert_eq!(example(name).as_bytes(), artifact.manifest, "{}", text(artifact));
        let stated =
            format!("\n`:{}` · {} bytes · `{}`\n", artifact.tag, artifact.manifest.len(), artifact.digest);
        assert!(DOC.contains(&stated), "{name}: the document does not state {stated}");
        assert_eq!(artifact.digest, Digest::of(&artifact.manifest));
    }

    fn text(artifact: &Artifact) -> &str {
        std::str::from_utf8(&artifact.manifest).unwrap()
    }

    #[test]
    fn the_document_and_the_code_agree_to_the_byte() {
        assert_documented("latest", &small(Profile::Oci11));
        assert_documented("role", &small_role());
        assert_documented("latest, OCI 1.0", &small(Profile::Oci10));
        let json = br#"{"documents":{"targets--net-monitor":{"signed":"net-monitor 8"}}}"#;
        let left = inbox::submission(json, Profile::Oci11);
        assert_documented("submission", &left);
        let now = "2026-11-21T14:30:00Z".parse().unwrap();
        let json = br#"{"code":"refused","message":"targets--net-monitor: not enough signatures"}"#;
        assert_documented("answer", &inbox::answer(&left.blobs[1].0, json, now, Profile::Oci11));
    }

    #[test]
    fn the_indented_example_says_the_same() {
        let manifest = Manifest::parse(&small(Profile::Oci11).manifest).unwrap();
        assert_eq!(example("latest, indented"), serde_json::to_string_pretty(&manifest).unwrap());
    }

    #[test]
    fn the_document_states_the_tags_that_the_code_gives() {
        let table = DOC.split("<!-- role tags -->").nth(1).unwrap();
        let rows: Vec<_> = table
            .lines()
            .skip_while(|line| !line.starts_with("|---"))
            .skip(1)
            .take_while(|line| line.starts_with('|'))
            .collect();
        assert!(rows.len() >= 5, "{rows:?}");
        for row in rows {
            let cells: Vec<_> = row.split('`').collect();
            assert_eq!(role_tag(cells[1]), cells[3], "{row}");
        }
    }

    #[test]
    fn the_document_states_the_names_and_limits_of_the_code() {
        let inbox = [inbox::SUBMISSION_TYPE, inbox::ANSWER_TYPE];
        for name in
            [FILENAME, ARTIFACT_TYPE, ROLE_ARTIFACT_TYPE, METADATA_TYPE, TIMESTAMP].into_iter().chain(inbox)
        {
            assert!(DOC.contains(&format!("`{name}`")), "{name}");
        }
        for (what, limit) in [
            ("Manifest, bytes", MAX_MANIFEST),
            ("Layers in a manifest", MAX_LAYERS),
            ("Roots in `latest`, the newest", MAX_LAYERS - 2 - SNAPSHOTS),
            ("File inside the manifest, bytes", INLINE_MAX),
            ("Snapshots listed", SNAPSHOTS),
            ("Manifest in an inbox, bytes", inbox::MAX_INBOX_MANIFEST),
        ] {
            assert!(DOC.contains(&format!("| {what} | {limit} |")), "{what} {limit}");
        }
    }

    #[test]
    fn reserved_and_impossible_tags_are_mapped() {
        for plain in ["net-monitor", "targets--net-monitor", "_x", "Latest", "x", "X-1"] {
            assert_eq!(role_tag(plain), plain);
        }
        let long = "a".repeat(129);
        for mapped in
            ["latest", "root", "mirrors", "inbox", "x-", "x-1", "", "a/b", "é", "../x", ".x", "-x", &long]
        {
            let tag = role_tag(mapped);
            assert_eq!(tag, format!("x-{}", Digest::of(mapped.as_bytes()).hex()));
            assert!(valid_tag(&tag));
        }
    }

    proptest! {
        /// A tag that stands for a name is never the tag of another name, whatever a foreign repository calls its roles.
        #[test]
        fn every_role_has_a_valid_tag_of_its_own(role in any::<String>()) {
            let tag = role_tag(&role);
            prop_assert!(valid_tag(&tag) && !RESERVED.contains(&tag.as_str()));
            prop_assert!(tag == role || role_tag(&tag) != tag);
        }
    }
}
