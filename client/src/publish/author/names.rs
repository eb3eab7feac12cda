//! Vouching for names, and taking that back: by no longer vouching, or by revoking a digest.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use plimsoll_core::{
    oci::{Descriptor, Digest, MAX_PLATFORMS, TargetName},
    tuf::{Revocation, Target, Targets, matches},
};

use super::{AuthorError, not_reserved, out_of_scope};

/// How many indexes the entry of one platform names at most.
pub const MAX_INDEXES: usize = 16;

/// Lets `targets`, whose role may speak about `allowed`, vouch for `descriptor` under `name`, and under its digest where
/// the role may speak about digests. Returns the names written.
///
/// # Errors
/// [`AuthorError::OutOfScope`], [`AuthorError::Revoked`]; [`AuthorError::Immutable`] if the name was promised to mean another
/// digest.
pub fn vouch(
    targets: &mut Targets,
    role: (&str, &[String]),
    name: &TargetName,
    descriptor: &Descriptor,
) -> Result<Vec<String>, AuthorError> {
    let (role, allowed) = role;
    let by_name = name.to_string();
    if !may(allowed, &by_name) {
        return Err(out_of_scope(name, role, allowed));
    }
    not_reserved(name.repository())?;
    not_revoked(targets, &descriptor.digest)?;
    let before = targets.targets.get(&by_name);
    let promised = before.is_some_and(Target::is_immutable);
    if let Some(digest) = before.and_then(Target::digest).filter(|digest| *digest != descriptor.digest)
        && promised
    {
        return Err(AuthorError::Immutable { name: by_name, digest });
    }
    let by_digest = digest_name(name.repository(), descriptor.digest);
    let mut written = vec![by_name];
    if may(allowed, &by_digest) && !written.contains(&by_digest) {
        written.push(by_digest);
    }
    for name in &written {
        write(targets, name, descriptor);
    }
    if promised {
        make_immutable(targets, name);
    }
    Ok(written)
}

/// Lets `targets` vouch for the platform manifests of the index `index` under their digests, as part of it, where the role
/// may speak about digests. Returns the names written.
///
/// # Errors
/// [`AuthorError::Platforms`] beyond [`MAX_PLATFORMS`], [`AuthorError::Revoked`] if one of them was taken back.
pub fn vouch_platforms(
    targets: &mut Targets,
    allowed: &[String],
    repository: &str,
    index: Digest,
    platforms: &[Descriptor],
) -> Result<Vec<String>, AuthorError> {
    if platforms.len() > MAX_PLATFORMS {
        return Err(AuthorError::Platforms { index });
    }
    let mut written = Vec::new();
    for platform in platforms.iter().filter(|platform| platform.digest != index) {
        not_revoked(targets, &platform.digest)?;
        let name = digest_name(repository, platform.digest);
        if !may(allowed, &name) {
            continue;
        }
        write(targets, &name, platform);
        let mut indexes = targets.targets[&name].indexes();
        // Of those that are listed no more nothing depends.
        indexes.retain(|known| *known != index && lists(targets, repository, known));
        indexes.push(index);
        indexes.drain(..indexes.len().saturating_sub(MAX_INDEXES));
        put_indexes(&mut targets.targets, &name, &indexes);
        written.push(name);
    }
    Ok(written)
}

/// Promises that the tag `name`, which `targets` vouches for, means its digest for good. Nothing for a digest, which
/// cannot mean another anyway.
pub fn make_immutable(targets: &mut Targets, name: &TargetName) {
    if let (TargetName::Tag { .. }, Some(target)) = (name, targets.targets.get_mut(&name.to_string())) {
        let custom = target.custom.get_or_insert_default();
        custom.insert("immutable".to_owned(), serde_json::Value::Bool(true).into());
    }
}

/// Stops vouching for `name`: removes its entry, and the entries by digest that were there for it alone. Returns the names
/// removed; none if there was no such entry.
///
/// # Errors
/// [`AuthorError::Immutable`] for a tag that was promised to stay; [`AuthorError::StillMeant`] for a digest that a tag or
/// an index still means.
pub fn unvouch(targets: &mut Targets, name: &TargetName) -> Result<Vec<String>, AuthorError> {
    let text = name.to_string();
    let Some(digest) = targets.targets.get(&text).map(Target::digest) else { return Ok(Vec::new()) };
    let repository = name.repository();
    match (name, digest) {
        (TargetName::Tag { .. }, digest) => {
            if let Some(digest) = digest.filter(|_| targets.targets[&text].is_immutable()) {
                return Err(AuthorError::Immutable { name: text, digest });
            }
        }
        (TargetName::Digest { digest, .. }, _) => {
            let by = meant_by(targets, repository, digest);
            if !by.is_empty() {
                return Err(AuthorError::StillMeant { name: text, by: by.join(", ") });
            }
        }
    }
    targets.targets.remove(&text);
    let mut removed = vec![text];
    if let Some(digest) = digest.filter(|digest| meant_by(targets, repository, digest).is_empty()) {
        let by_digest = digest_name(repository, digest);
        if targets.targets.remove(&by_digest).is_some() {
            removed.push(by_digest);
        }
        for platform in platforms_of(targets, repository, &digest) {
            let name = digest_name(repository, platform);
            drop_index(&mut targets.targets, &name, &digest);
            if meant_by(targets, repository, &platform).is_empty() {
                targets.targets.remove(&name);
                removed.push(name);
            }
        }
    }
    Ok(removed)
}

/// Takes `digest` back: removes every entry with it and lists it as revoked. Returns the names removed. What was signed
/// with it, as [`platforms_to_revoke`] tells, is to be taken back before, in the same way.
pub fn revoke(targets: &mut Targets, digest: &Digest, reason: &str, now: DateTime<Utc>) -> Vec<String> {
    let removed: Vec<String> = targets
        .targets
        .iter()
        .filter(|(_, target)| target.digest().as_ref() == Some(digest))
        .map(|(name, _)| name.clone())
        .collect();
    targets.targets.retain(|name, _| !removed.contains(name));
    let parts: Vec<String> = targets
        .targets
        .iter()
        .filter(|(_, target)| target.indexes().contains(digest))
        .map(|(name, _)| name.clone())
        .collect();
    for name in parts {
        drop_index(&mut targets.targets, &name, digest);
    }
    if let Some(identity) = &mut targets.common.identity
        && !identity.revocations.iter().any(|r| r.digest.as_ref() == Some(digest))
    {
        identity.revocations.push(revocation(*digest, reason, now));
    }
    removed
}

/// The platform manifests that must be revoked with the index `index`: those signed with it, and neither meant by a tag
/// of `roles` nor signed with another index that one of them lists and that is not `revoked`.
pub fn platforms_to_revoke(
    roles: &[&Targets],
    index: &Digest,
    revoked: impl Fn(&Digest) -> bool,
) -> Vec<Digest> {
    let mut platforms = BTreeSet::new();
    let mut kept = BTreeSet::new();
    for (name, target) in roles.iter().flat_map(|role| &role.targets) {
        let (Some(digest), Ok(name)) = (target.digest(), name.parse::<TargetName>()) else { continue };
        if matches!(name, TargetName::Tag { .. }) {
            kept.insert(digest);
            continue;
        }
        let indexes = target.indexes();
        if indexes.contains(index) {
            platforms.insert(digest);
        }
        let other = |other: &Digest| {
            other != index
                && !revoked(other)
                && roles.iter().any(|role| lists(role, name.repository(), other))
        };
        if indexes.iter().any(other) {
            kept.insert(digest);
        }
    }
    platforms.retain(|digest| !kept.contains(digest) && digest != index && !revoked(digest));
    platforms.into_iter().collect()
}

/// Takes the revocations of `digests` back, for `reason`. Returns those that were there. Their entries are another matter:
/// [`restore`].
pub fn reinstate(targets: &mut Targets, digests: &[Digest], reason: &str, now: DateTime<Utc>) -> Vec<Digest> {
    let Some(identity) = &mut targets.common.identity else { return Vec::new() };
    let mut taken = Vec::new();
    for digest in digests {
        let there = identity.revocations.iter().filter(|old| old.digest.as_ref() == Some(digest));
        // Never before the revocation itself, whatever this machine's clock says.
        let Some(at) = there.map(|old| old.at).max() else { continue };
        identity.revocations.retain(|old| old.digest.as_ref() != Some(digest));
        identity.reinstated.push(revocation(*digest, reason, now.max(at)));
        taken.push(*digest);
    }
    taken
}

/// Writes `target` under `name` again as it was, but for indexes that are not listed (any more). A platform that is listed
/// belongs to the indexes of both.
///
/// # Errors
/// As [`vouch`].
pub fn restore(
    targets: &mut Targets,
    role: (&str, &[String]),
    name: &TargetName,
    target: &Target,
) -> Result<(), AuthorError> {
    let (role, allowed) = role;
    let text = name.to_string();
    if !may(allowed, &text) {
        return Err(out_of_scope(name, role, allowed));
    }
    if let Some(digest) = target.digest() {
        not_revoked(targets, &digest)?;
    }
    let mut indexes = target.indexes();
    if let Some(before) = targets.targets.get(&text) {
        if let Some(digest) = before.digest().filter(|digest| target.digest() != Some(*digest))
            && before.is_immutable()
        {
            return Err(AuthorError::Immutable { name: text, digest });
        }
        indexes.extend(before.indexes());
    }
    let mut known = BTreeSet::new();
    indexes.retain(|index| known.insert(*index) && lists(targets, name.repository(), index));
    indexes.truncate(MAX_INDEXES);
    targets.targets.insert(text.clone(), target.clone());
    put_indexes(&mut targets.targets, &text, &indexes);
    Ok(())
}

fn may(allowed: &[String], name: &str) -> bool {
    allowed.iter().any(|pattern| matches(pattern, name))
}

fn digest_name(repository: &str, digest: Digest) -> String {
    TargetName::Digest { repository: repository.to_owned(), digest }.to_string()
}

fn not_revoked(targets: &Targets, digest: &Digest) -> Result<(), AuthorError> {
    match targets.revocations().iter().find(|revocation| revocation.digest.as_ref() == Some(digest)) {
        Some(revocation) => Err(AuthorError::Revoked { digest: *digest, reason: revocation.reason.clone() }),
        None => Ok(()),
    }
}

fn revocation(digest: Digest, reason: &str, at: DateTime<Utc>) -> Revocation {
    Revocation {
        digest: Some(digest),
        paths: Vec::new(),
        reason: reason.to_owned(),
        at,
        extra: BTreeMap::new(),
    }
}

/// The entry of `descriptor` under `name`, with the indexes that are there.
fn write(targets: &mut Targets, name: &str, descriptor: &Descriptor) {
    let indexes = targets.targets.get(name).map(Target::indexes).unwrap_or_default();
    let target = Target {
        length: descriptor.size,
        hashes: BTreeMap::from([("sha256".to_owned(), descriptor.digest.hex())]),
        custom: Some(BTreeMap::from([("mediaType".to_owned(), descriptor.media_type.clone().into())])),
        extra: BTreeMap::new(),
    };
    targets.targets.insert(name.to_owned(), target);
    put_indexes(&mut targets.targets, name, &indexes);
}

fn put_indexes(entries: &mut BTreeMap<String, Target>, name: &str, indexes: &[Digest]) {
    let Some(target) = entries.get_mut(name) else { return };
    if indexes.is_empty() {
        if let Some(custom) = &mut target.custom {
            custom.remove("index");
        }
    } else {
        let custom = target.custom.get_or_insert_default();
        custom.insert("index".to_owned(), serde_json::json!(indexes).into());
    }
}

fn drop_index(entries: &mut BTreeMap<String, Target>, name: &str, index: &Digest) {
    let mut indexes = entries.get(name).map(Target::indexes).unwrap_or_default();
    indexes.retain(|known| known != index);
    put_indexes(entries, name, &indexes);
}

/// True if `targets` lists `digest` in `repository`, by a tag or by itself.
fn lists(targets: &Targets, repository: &str, digest: &Digest) -> bool {
    targets.targets.contains_key(&digest_name(repository, *digest))
        || tags_of(targets, repository, digest).next().is_some()
}

/// The tags of `repository` that mean `digest`, and the indexes listed there that it belongs to.
fn meant_by(targets: &Targets, repository: &str, digest: &Digest) -> Vec<String> {
    let mut by: Vec<String> = tags_of(targets, repository, digest).cloned().collect();
    let entry = targets.targets.get(&digest_name(repository, *digest));
    let indexes = entry.map(Target::indexes).unwrap_or_default();
    let listed = indexes.into_iter().filter(|index| lists(targets, repository, index));
    by.extend(listed.map(|index| digest_name(repository, index)));
    by
}

fn tags_of<'a>(targets: &'a Targets, repository: &str, digest: &Digest) -> impl Iterator<Item = &'a String> {
    let (prefix, digest) = (format!("{repository}:"), *digest);
    targets
        .targets
        .range(prefix.clone()..)
        .take_while(move |(name, _)| name.starts_with(&prefix))
        .filter(move |(_, target)| target.digest() == Some(digest))
        .map(|(name, _)| name)
}

fn platforms_of(targets: &Targets, repository: &str, index: &Digest) -> Vec<Digest> {
    let prefix = format!("{repository}@");
    targets
        .targets
        .range(prefix.clone()..)
        .take_while(|(name, _)| name.starts_with(&prefix))
        .filter(|(_, target)| target.indexes().contains(index))
        .filter_map(|(_, target)| target.digest())
        .collect()
}

#[cfg(test)]
mod tests {
    use plimsoll_core::{
        oci::media_type,
        policy::{Scope, is_current},
    };

    use super::{super::empty_targets, *};

    const ROLE: &str = "targets--app";
    const APP: &str = "acme/app";

    fn now() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }

    fn digest(content: &str) -> Digest {
        Digest::of(content.as_bytes())
    }

    fn descriptor(content: &str) -> Descriptor {
        Descriptor::of(media_type::MANIFEST, content.as_bytes())
    }

    fn tag(tag: &str) -> TargetName {
        format!("{APP}:{tag}").parse().unwrap()
    }

    fn by_digest(content: &str) -> TargetName {
        TargetName::Digest { repository: APP.to_owned(), digest: digest(content) }
    }

    /// A role for `acme/app`.
    struct Role {
        targets: Targets,
        allowed: Vec<String>,
    }

    impl Role {
        fn new() -> Self {
            Self::of(APP)
        }

        fn of(scope: &str) -> Self {
            let allowed = scope.parse::<Scope>().unwrap().patterns();
            Self { targets: empty_targets(ROLE, &"0".repeat(32), now()), allowed }
        }

        fn sign(&mut self, name: &TargetName, content: &str) -> Result<Vec<String>, AuthorError> {
            vouch(&mut self.targets, (ROLE, &self.allowed), name, &descriptor(content))
        }

        /// Signs an index of `platforms` as `name`.
        fn index(&mut self, name: &TargetName, content: &str, platforms: &[&str]) -> Vec<String> {
            let mut written = self.sign(name, content).unwrap();
            let platforms: Vec<Descriptor> = platforms.iter().map(|platform| descriptor(platform)).collect();
            let index = digest(content);
            written
                .extend(vouch_platforms(&mut self.targets, &self.allowed, APP, index, &platforms).unwrap());
            written
        }

        fn names(&self) -> Vec<String> {
            self.targets.targets.keys().cloned().collect()
        }

        fn lists(&self, name: &TargetName) -> bool {
            self.targets.targets.contains_key(&name.to_string())
        }

        fn indexes(&self, content: &str) -> Vec<Digest> {
            self.targets.targets[&by_digest(content).to_string()].indexes()
        }

        fn is_current(&self, content: &str) -> bool {
            self.lists(&by_digest(content)) && is_current(&self.targets, APP, &digest(content), |_| false)
        }

        /// As the command does it: what belongs to it first.
        fn revoke(&mut self, content: &str) -> Vec<String> {
            let revoked: Vec<Digest> =
                self.targets.revocations().iter().filter_map(|revocation| revocation.digest).collect();
            let platforms =
                platforms_to_revoke(&[&self.targets], &digest(content), |digest| revoked.contains(digest));
            let all = platforms.into_iter().chain([digest(content)]);
            all.flat_map(|digest| revoke(&mut self.targets, &digest, "broken", now())).collect()
        }
    }

    #[test]
    fn the_platforms_of_an_index_are_written_with_it_and_shared_by_several() {
        let mut role = Role::new();
        let written = role.index(&tag("v1"), "index 1", &["amd64", "arm64"]);
        assert_eq!(written.len(), 4, "{written:?}");
        role.index(&tag("v2"), "index 2", &["amd64", "arm64 again"]);
        assert_eq!(role.indexes("amd64"), [digest("index 1"), digest("index 2")]);
        assert_eq!(role.indexes("arm64 again"), [digest("index 2")]);
        for current in ["amd64", "arm64", "arm64 again", "index 1", "index 2"] {
            assert!(role.is_current(current), "{current}");
        }
        // The tag moves: what only the old index holds is listed, and current no more.
        role.index(&tag("v1"), "index 3", &["amd64"]);
        assert!(role.lists(&by_digest("arm64")) && !role.is_current("arm64"));
        assert!(role.is_current("amd64") && role.is_current("arm64 again"));
        // Signed for itself besides: what it belongs to stays.
        role.sign(&tag("v1-amd64"), "amd64").unwrap();
        assert_eq!(role.indexes("amd64"), [digest("index 1"), digest("index 2"), digest("index 3")]);
    }

    #[test]
    fn a_role_for_tags_alone_writes_no_platforms() {
        let mut role = Role::of("acme/app:v*");
        assert_eq!(role.index(&tag("v1"), "index", &["amd64"]), [tag("v1").to_string()]);
    }

    #[test]
    fn a_platform_names_the_newest_indexes_that_are_listed() {
        let mut role = Role::new();
        for i in 0..20 {
            role.index(&tag(&format!("v{i}")), &format!("index {i}"), &["amd64"]);
        }
        let expected: Vec<Digest> = (4..20).map(|i| digest(&format!("index {i}"))).collect();
        assert_eq!(role.indexes("amd64"), expected);
        unvouch(&mut role.targets, &tag("v10")).unwrap();
        role.index(&tag("v20"), "index 20", &["amd64"]);
        assert!(!role.indexes("amd64").contains(&digest("index 10")));
    }

    #[test]
    fn an_index_with_too_many_or_revoked_platforms_is_not_signed() {
        let mut role = Role::new();
        let many: Vec<Descriptor> = (0..=MAX_PLATFORMS).map(|i| descriptor(&i.to_string())).collect();
        let (index, allowed) = (digest("index"), role.allowed.clone());
        let refused = vouch_platforms(&mut role.targets, &allowed, APP, index, &many);
        assert_eq!(refused, Err(AuthorError::Platforms { index }));
        revoke(&mut role.targets, &digest("bad"), "broken", now());
        let refused = vouch_platforms(&mut role.targets, &allowed, APP, index, &[descriptor("bad")]);
        assert!(matches!(refused, Err(AuthorError::Revoked { digest: bad, .. }) if bad == digest("bad")));
    }

    #[test]
    fn a_tag_that_was_promised_to_stay_means_no_other_digest_and_is_not_unsigned() {
        let mut role = Role::new();
        role.sign(&tag("v1"), "one").unwrap();
        make_immutable(&mut role.targets, &tag("v1"));
        let before = role.targets.clone();
        let immutable = AuthorError::Immutable { name: tag("v1").to_string(), digest: digest("one") };
        assert_eq!(role.sign(&tag("v1"), "two"), Err(immutable.clone()));
        assert_eq!(unvouch(&mut role.targets, &tag("v1")), Err(immutable.clone()));
        let two = Role::new().signed("two");
        assert_eq!(restore(&mut role.targets, (ROLE, &role.allowed), &tag("v1"), &two), Err(immutable));
        assert_eq!(role.targets, before);
        // Again the same digest: the promise stays. It is the tag's, not the digest's.
        role.sign(&tag("v1"), "one").unwrap();
        assert!(role.targets.targets[&tag("v1").to_string()].is_immutable());
        assert!(!role.targets.targets[&by_digest("one").to_string()].is_immutable());
        // Taken back, the tag is free.
        role.revoke("one");
        role.sign(&tag("v1"), "two").unwrap();
        assert!(!role.targets.targets[&tag("v1").to_string()].is_immutable());
    }

    #[test]
    fn what_is_unsigned_leaves_nothing_that_was_there_for_it_alone() {
        let mut role = Role::new();
        let empty = role.names();
        role.index(&tag("v1"), "index", &["amd64", "arm64"]);
        role.sign(&tag("v1-arm64"), "arm64").unwrap();
        role.sign(&tag("latest"), "index").unwrap();
        assert_eq!(unvouch(&mut role.targets, &tag("v1")).unwrap(), [tag("v1").to_string()]);
        assert!(role.is_current("index") && role.is_current("amd64"), "another tag means it");
        let refused = unvouch(&mut role.targets, &by_digest("index"));
        assert!(matches!(refused, Err(AuthorError::StillMeant { by, .. }) if by == "acme/app:latest"));
        let refused = unvouch(&mut role.targets, &by_digest("amd64"));
        assert!(
            matches!(refused, Err(AuthorError::StillMeant { by, .. }) if by.ends_with(&digest("index").hex()))
        );

        let mut removed = unvouch(&mut role.targets, &tag("latest")).unwrap();
        removed.sort();
        let mut expected =
            [tag("latest"), by_digest("index"), by_digest("amd64")].map(|name| name.to_string());
        expected.sort();
        assert_eq!(removed, expected);
        assert_eq!(role.indexes("arm64"), []);
        unvouch(&mut role.targets, &tag("v1-arm64")).unwrap();
        assert_eq!(role.names(), empty);
        assert_eq!(unvouch(&mut role.targets, &tag("v1-arm64")).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn an_index_is_revoked_with_what_belongs_to_it_alone() {
        let mut role = Role::new();
        role.index(&tag("v1"), "index 1", &["own", "shared", "tagged"]);
        role.index(&tag("v2"), "index 2", &["shared"]);
        role.sign(&tag("v1-tagged"), "tagged").unwrap();
        let removed = role.revoke("index 1");
        assert_eq!(removed.len(), 3, "the tag, and the digests of index and platform: {removed:?}");
        let revoked: BTreeSet<Digest> =
            role.targets.revocations().iter().filter_map(|revocation| revocation.digest).collect();
        assert_eq!(revoked, BTreeSet::from([digest("own"), digest("index 1")]));
        assert!(role.is_current("shared") && role.is_current("tagged"));
        assert_eq!((role.indexes("shared"), role.indexes("tagged")), (vec![digest("index 2")], vec![]));
        // Now it belongs to the other alone.
        role.revoke("index 2");
        assert!(
            role.targets.revocations().iter().any(|revocation| revocation.digest == Some(digest("shared")))
        );
    }

    #[test]
    fn what_is_reinstated_is_as_it_was() {
        let mut role = Role::new();
        role.index(&tag("v1"), "index", &["amd64", "arm64"]);
        let before = role.targets.clone();
        role.revoke("index");
        assert!(role.targets.targets.is_empty());
        let all = [digest("amd64"), digest("arm64"), digest("index")];
        // A clock that is behind: not before the revocation.
        let taken = reinstate(&mut role.targets, &all, "was fine", now() - chrono::TimeDelta::days(1));
        assert_eq!(taken, all);
        let mut entries: Vec<_> = before.targets.iter().collect();
        // Tags first, as only what is listed is belonged to.
        entries.sort_by_key(|(name, _)| name.contains('@'));
        for (name, target) in entries {
            restore(&mut role.targets, (ROLE, &role.allowed), &name.parse().unwrap(), target).unwrap();
        }
        assert_eq!(role.targets.targets, before.targets);
        assert_eq!(role.targets.revocations(), []);
        assert!(
            role.targets.reinstated().iter().all(|entry| entry.at == now() && entry.reason == "was fine")
        );
        assert_eq!(reinstate(&mut role.targets, &all, "again", now()), Vec::<Digest>::new());
    }

    impl Role {
        fn signed(mut self, content: &str) -> Target {
            self.sign(&tag("x"), content).unwrap();
            self.targets.targets[&tag("x").to_string()].clone()
        }
    }
}
