//! Whether a digest is meant now (docs/oci-mapping.md, "Target names").

use crate::{
    oci::{Digest, TargetName},
    tuf::Targets,
};

/// True if `role` means `digest` in `repository` now: one of its tags there points to it, or to a multi-platform index
/// that the digest was signed with. A digest that was signed once and that nothing means any more would be a way back to
/// an old version.
///
/// `revoked` tells what was taken back, by this role or one above it: an index that was is no index to be current by.
pub fn is_current(
    role: &Targets,
    repository: &str,
    digest: &Digest,
    revoked: impl Fn(&Digest) -> bool,
) -> bool {
    let entry = TargetName::Digest { repository: repository.to_owned(), digest: *digest }.to_string();
    let mut wanted = vec![*digest];
    // One step: an index of an index is written down with the outermost one.
    let indexes = role.targets.get(&entry).map(crate::tuf::Target::indexes).unwrap_or_default();
    wanted.extend(indexes.into_iter().filter(|index| !revoked(index)));
    // Names sort by repository first, so only its own entries are looked at.
    let prefix = format!("{repository}:");
    role.targets.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix)).any(
        |(name, target)| {
            target.digest().is_some_and(|meant| wanted.contains(&meant))
                && matches!(name.parse(), Ok(TargetName::Tag { repository: of, .. }) if of == repository)
        },
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const APP: &str = "acme/app";

    fn digest(content: &str) -> Digest {
        Digest::of(content.as_bytes())
    }

    fn entry(content: &str, indexes: &[&str]) -> Value {
        let mut entry = json!({"length": 1, "hashes": {"sha256": digest(content).hex()}});
        if !indexes.is_empty() {
            let indexes: Vec<Digest> = indexes.iter().map(|index| digest(index)).collect();
            entry["custom"] = json!({"index": indexes});
        }
        entry
    }

    fn by_digest(content: &str) -> String {
        format!("{APP}@{}", digest(content))
    }

    fn role(entries: &[(&str, Value)]) -> Targets {
        let targets: serde_json::Map<String, Value> =
            entries.iter().map(|(name, entry)| ((*name).to_owned(), entry.clone())).collect();
        let document = json!({
            "_type": "targets", "spec_version": "1.0.34", "version": 1, "expires": "2030-01-01T00:00:00Z",
            "targets": targets,
        });
        serde_json::from_value(document).unwrap()
    }

    fn meant(role: &Targets, content: &str) -> bool {
        is_current(role, APP, &digest(content), |_| false)
    }

    #[test]
    fn a_digest_is_meant_by_a_tag_of_its_own_repository() {
        let role = role(&[
            ("acme/app:v1", entry("one", &[])),
            ("acme/app-2:v1", entry("near", &[])),
            ("acme/other:v1", entry("other", &[])),
            (&by_digest("one"), entry("one", &[])),
            (&by_digest("old"), entry("old", &[])),
        ]);
        assert!(meant(&role, "one"));
        for not in ["old", "near", "other", "unknown"] {
            assert!(!meant(&role, not), "{not}");
        }
    }

    #[test]
    fn a_platform_is_meant_while_a_tag_means_an_index_it_was_signed_with() {
        let entries = [
            ("acme/app:v2", entry("new index", &[])),
            (&*by_digest("shared"), entry("shared", &["old index", "new index"])),
            (&*by_digest("dropped"), entry("dropped", &["old index"])),
            (&*by_digest("old index"), entry("old index", &[])),
            // An index that is itself signed with one: only the tag's own index counts.
            (&*by_digest("inner"), entry("inner", &["new index"])),
            (&*by_digest("innermost"), entry("innermost", &["inner"])),
        ];
        let role = role(&entries);
        assert!(meant(&role, "shared") && meant(&role, "inner"));
        for not in ["dropped", "old index", "innermost"] {
            assert!(!meant(&role, not), "{not}");
        }
        let revoked = |index: &Digest| *index == digest("new index");
        assert!(!is_current(&role, APP, &digest("shared"), revoked), "its one current index was taken back");
    }

    /// What a role writes as `custom.index` is its own word: garbage there makes nothing current.
    #[test]
    fn an_index_that_is_no_list_of_digests_counts_for_nothing() {
        let mut garbage = entry("platform", &[]);
        for index in [json!("x"), json!([digest("index"), 7]), json!({}), json!([null])] {
            garbage["custom"] = json!({"index": index});
            let name = by_digest("platform");
            let role = role(&[("acme/app:v1", entry("index", &[])), (&name, garbage.clone())]);
            assert!(!meant(&role, "platform"), "{garbage}");
        }
    }
}
