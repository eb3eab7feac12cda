use chrono::TimeDelta;
use plimsoll_core::tuf::{
    DelegatedRole, Delegations, Error, MetaFile, Revocation, Root, Snapshot, Targets, json,
    metadata::{Common, RoleKeysOnly},
};

use super::{
    check::{Eras, Role, Roots},
    *,
};
use crate::{
    keys::{Algorithm, PrivateKey, Signer},
    publish::{PublishError, api::OnlineKeys, author},
    registry::{Registry, RegistryOptions},
    update::TufSource,
};

const TRUST: &str = "0123456789abcdef0123456789abcdef";
const TEAM: &str = "targets--app";

fn key() -> PrivateKey {
    PrivateKey::generate(Algorithm::Ed25519).unwrap()
}

fn hour(number: i64) -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::hours(number)
}

fn digest(of: &str) -> Digest {
    Digest::of(of.as_bytes())
}

fn target(content: &str) -> Target {
    Target {
        length: content.len() as u64,
        hashes: BTreeMap::from([("sha256".to_owned(), digest(content).hex())]),
        custom: None,
        extra: BTreeMap::new(),
    }
}

fn revocation(content: &str, at: DateTime<Utc>) -> Revocation {
    let (digest, reason) = (Some(digest(content)), "it leaks".to_owned());
    Revocation { digest, paths: Vec::new(), reason, at, extra: BTreeMap::new() }
}

fn sign<T: plimsoll_core::tuf::metadata::RoleType>(document: &T, keys: &[&PrivateKey]) -> Vec<u8> {
    let signers: Vec<&dyn Signer> = keys.iter().map(|key| *key as &dyn Signer).collect();
    author::sign(document, &signers).unwrap()
}

/// A document of `role` in the making, and the versions signed so far.
struct Made {
    role: &'static str,
    document: Targets,
    versions: Vec<Option<Vec<u8>>>,
}

impl Made {
    fn new(role: &'static str) -> Self {
        let mut document = author::empty_targets(role, TRUST, hour(0));
        document.common.version = 0;
        Self { role, document, versions: Vec::new() }
    }

    /// The next version, changed by `change`, signed by `keys` at the hour of its number.
    fn then(&mut self, keys: &[&PrivateKey], change: impl FnOnce(&mut Targets)) -> &mut Self {
        let next = self.versions.len() as u64 + 1;
        self.document.common.version = next;
        self.document.common.identity.as_mut().unwrap().at = hour(next as i64);
        change(&mut self.document);
        self.versions.push(Some(sign(&self.document, keys)));
        self
    }

    fn verified(&self, eras: &Eras) -> (History, BTreeMap<String, Eras>) {
        self.verified_from(1, eras)
    }

    fn verified_from(&self, pinned: u64, eras: &Eras) -> (History, BTreeMap<String, Eras>) {
        let head = self.document.common.version;
        let newest = self.versions.last().cloned().flatten().unwrap_or_default();
        let meta = MetaFile::of(head, &newest);
        let mut role = Role::new(self.role, Some(TRUST), pinned, eras);
        for (version, bytes) in (1..).zip(&self.versions) {
            role.take(version, bytes.as_deref(), (version == head).then_some(&meta));
        }
        role.finish()
    }
}

fn list(name: &str, content: &str) -> impl FnOnce(&mut Targets) {
    let (name, target) = (name.to_owned(), target(content));
    move |document| drop(document.targets.insert(name, target))
}

fn same(_: &mut Targets) {}

/// Delegates `acme/app` to `keys`, and to nobody else; to nobody at all if there are none.
fn give(keys: &[(&PrivateKey, &str)], threshold: u64) -> impl FnOnce(&mut Targets) {
    let granted: BTreeMap<_, _> = keys.iter().map(|(key, _)| (key.key_id(), key.key().clone())).collect();
    let names = keys.iter().map(|(key, name)| (key.key_id(), (*name).to_owned())).collect();
    move |document| {
        document.common.identity.as_mut().unwrap().names = names;
        let role = DelegatedRole {
            name: TEAM.to_owned(),
            keys: RoleKeysOnly { keyids: granted.keys().cloned().collect(), threshold },
            terminating: true,
            paths: Some("acme/app".parse::<plimsoll_core::policy::Scope>().unwrap().patterns()),
            path_hash_prefixes: None,
            extra: BTreeMap::new(),
        };
        let roles = if granted.is_empty() { Vec::new() } else { vec![role] };
        let (succinct_roles, extra) = (None, BTreeMap::new());
        document.delegations = Some(Delegations { keys: granted, roles, succinct_roles, extra });
    }
}

fn first_root(owners: &[&PrivateKey]) -> Root {
    let keys: Vec<_> = owners.iter().map(|owner| owner.key().clone()).collect();
    let online = OnlineKeys { timestamp: key().key().clone(), snapshot: key().key().clone() };
    author::first_root(TRUST, &["acme/**".parse().unwrap()], &keys, 1, &online, hour(0))
}

/// The keys of `targets` under one root of `owner`.
fn owned_by(owner: &PrivateKey) -> Eras {
    let root = sign(&first_root(&[owner]), &[owner]);
    Roots::new(&root, hour(100)).unwrap().finish().1
}

/// The history of the team's role, whose keys were what the versions of `parent` said.
fn team_of(parent: &Made, owner: &PrivateKey, team: &Made) -> History {
    let (_, below) = parent.verified(&owned_by(owner));
    team.verified(&below[TEAM]).0
}

fn faults(history: &History) -> Vec<(u64, String)> {
    history.faults().map(|(version, fault)| (version, chain(fault))).collect()
}

fn signers(history: &History, version: usize) -> Vec<&KeyId> {
    history.entries()[version - 1].signers.iter().map(|signer| &signer.keyid).collect()
}

fn named(key: &PrivateKey, name: &str) -> NamedKey {
    NamedKey { keyid: key.key_id(), name: Some(name.to_owned()) }
}

#[test]
fn each_version_tells_who_signed_it_and_what_changed() {
    let (owner, amy) = (key(), key());
    let mut parent = Made::new("targets");
    parent.then(&[&owner], give(&[(&amy, "amy")], 1));
    let mut team = Made::new(TEAM);
    team.then(&[&amy], list("acme/app:v1", "one"))
        .then(&[&amy], same)
        .then(&[&amy], list("acme/app:v1", "two"))
        .then(&[&amy], |document| {
            document.targets.clear();
            document.common.identity.as_mut().unwrap().revocations.push(revocation("two", hour(4)));
        })
        .then(&[&amy], |document| {
            let identity = document.common.identity.as_mut().unwrap();
            identity.revocations.clear();
            identity.reinstated.push(revocation("two", hour(5)));
        });
    let history = team_of(&parent, &owner, &team);

    assert_eq!(faults(&history), []);
    let name = || "acme/app:v1".to_owned();
    let expected = [
        vec![Change::Added { name: name(), target: target("one") }],
        vec![],
        vec![Change::Changed { name: name(), before: target("one"), target: target("two") }],
        vec![
            Change::Removed { name: name(), before: target("two") },
            Change::Revoked(revocation("two", hour(4))),
        ],
        vec![Change::Reinstated(revocation("two", hour(5)))],
    ];
    for (version, (entry, changes)) in (1..).zip(history.entries().iter().zip(expected)) {
        assert_eq!((entry.role.as_str(), entry.version, &entry.changes), (TEAM, version, &changes));
        assert_eq!(entry.at, Some(hour(version as i64)));
        assert_eq!(entry.signers, [named(&amy, "amy")]);
    }
}

#[test]
fn a_revocation_that_is_dropped_without_a_word_is_told() {
    let owner = key();
    let mut targets = Made::new("targets");
    let revocations = |document: &mut Targets, list| {
        document.common.identity.as_mut().unwrap().revocations = list;
    };
    targets
        .then(&[&owner], |document| revocations(document, vec![revocation("one", hour(1))]))
        .then(&[&owner], |document| revocations(document, Vec::new()));
    let history = targets.verified(&owned_by(&owner)).0;
    assert_eq!(history.entries()[1].changes, [Change::Forgotten(revocation("one", hour(1)))]);
}

#[test]
fn delegations_tell_what_changed_of_them() {
    let (owner, amy, bob) = (key(), key(), key());
    let mut parent = Made::new("targets");
    parent
        .then(&[&owner], give(&[(&amy, "amy")], 1))
        .then(&[&owner], give(&[(&amy, "amy"), (&bob, "bob")], 2))
        .then(&[&owner], give(&[(&bob, "bob")], 1))
        .then(&[&owner], |document| {
            document.delegations.as_mut().unwrap().roles[0].paths = Some(vec!["acme/app:v*".to_owned()]);
        })
        .then(&[&owner], give(&[], 1));
    let history = parent.verified(&owned_by(&owner)).0;

    let role = || TEAM.to_owned();
    let paths = || "acme/app".parse::<plimsoll_core::policy::Scope>().unwrap().patterns();
    let expected = [
        vec![Change::Delegated {
            role: role(),
            keys: vec![named(&amy, "amy")],
            threshold: 1,
            paths: paths(),
        }],
        vec![
            Change::Keys { role: role(), added: vec![named(&bob, "bob")], removed: vec![] },
            Change::Threshold { role: role(), before: 1, now: 2 },
        ],
        vec![
            Change::Keys { role: role(), added: vec![], removed: vec![named(&amy, "amy")] },
            Change::Threshold { role: role(), before: 2, now: 1 },
        ],
        vec![Change::Scope { role: role(), before: paths(), now: vec!["acme/app:v*".to_owned()] }],
        vec![Change::Undelegated { role: role() }],
    ];
    let changes: Vec<_> = history.entries().iter().map(|entry| entry.changes.clone()).collect();
    assert_eq!(changes, expected);
}

/// T14: what a key signed counts in the time in which the role had it, and never after a version by those that came later.
#[test]
fn a_key_that_was_taken_away_signs_nothing_after_those_that_replaced_it() {
    let (owner, amy, bob) = (key(), key(), key());
    let mut parent = Made::new("targets");
    parent.then(&[&owner], give(&[(&amy, "amy")], 1)).then(&[&owner], give(&[(&bob, "bob")], 1));
    let mut team = Made::new(TEAM);
    team.then(&[&amy], same)
        .then(&[&bob], same)
        .then(&[&amy], list("acme/app:evil", "x"))
        .then(&[&bob], same);
    let history = team_of(&parent, &owner, &team);

    let bad: Vec<_> = history.faults().collect();
    assert!(matches!(bad[..], [(3, Fault::Untrusted(Error::Threshold { have: 0, need: 1, .. }))]), "{bad:?}");
    assert_eq!(history.entries()[0].signers, [named(&amy, "amy")]);
    assert!(history.entries()[2].signers.is_empty() && history.entries()[2].changes.is_empty());
    // What it listed shows up where somebody who may has signed it.
    assert_eq!(history.entries()[3].signers, [named(&bob, "bob")]);
    assert_eq!(history.entries()[3].changes.len(), 1);
    assert_eq!(history.present_keys(), &BTreeSet::from([bob.key_id()]));
}

#[test]
fn while_nobody_delegates_to_a_role_nobody_signs_it() {
    let (owner, amy, bob) = (key(), key(), key());
    let mut parent = Made::new("targets");
    parent
        .then(&[&owner], give(&[(&amy, "amy")], 1))
        .then(&[&owner], give(&[], 1))
        .then(&[&owner], give(&[(&bob, "bob")], 1));
    let mut team = Made::new(TEAM);
    team.then(&[&amy], same).then(&[&bob], same);
    assert_eq!(faults(&team_of(&parent, &owner, &team)), []);

    parent.then(&[&owner], give(&[], 1));
    let history = team_of(&parent, &owner, &team);
    assert_eq!(faults(&history), []);
    assert!(history.present_keys().is_empty());
}

/// Both signatures are valid; whether the second counts depends on when the document was signed.
#[test]
fn who_counts_is_told_by_the_keys_of_the_time() {
    let (owner, amy, bob) = (key(), key(), key());
    let mut parent = Made::new("targets");
    parent.then(&[&owner], give(&[(&amy, "amy")], 1)).then(&[&owner], same).then(&[&owner], same);
    parent.then(&[&owner], give(&[(&amy, "amy"), (&bob, "bob")], 1));
    let mut team = Made::new(TEAM);
    for _ in 0..5 {
        team.then(&[&amy, &bob], same);
    }
    let history = team_of(&parent, &owner, &team);
    assert_eq!(faults(&history), []);
    assert_eq!(signers(&history, 3), [&amy.key_id()]);
    assert_eq!(signers(&history, 4), [&amy.key_id(), &bob.key_id()]);
    assert_eq!(signers(&history, 5), [&amy.key_id(), &bob.key_id()]);
}

/// A threshold of two people is met by two.
#[test]
fn a_version_below_its_threshold_is_not_trusted() {
    let (owner, amy, bob) = (key(), key(), key());
    let mut parent = Made::new("targets");
    parent.then(&[&owner], give(&[(&amy, "amy"), (&bob, "bob")], 2));
    let mut team = Made::new(TEAM);
    team.then(&[&amy, &bob], same).then(&[&bob], same).then(&[&bob, &amy], same);
    let history = team_of(&parent, &owner, &team);
    let bad: Vec<_> = history.faults().collect();
    assert!(matches!(bad[..], [(2, Fault::Untrusted(Error::Threshold { have: 1, need: 2, .. }))]), "{bad:?}");
    assert_eq!(signers(&history, 3), [&bob.key_id(), &amy.key_id()]);
}

/// T26, T28, T70: each kind of wrong document in the place of one version is a fault of that version, and of no other.
#[test]
fn a_wrong_document_is_a_fault_of_its_version() {
    let owner = key();
    let mut targets = Made::new("targets");
    targets.then(&[&owner], same).then(&[&owner], list("acme/a:1", "a")).then(&[&owner], same);
    let signed = |change: fn(&mut Targets)| {
        let mut document = targets.document.clone();
        document.common.version = 2;
        change(&mut document);
        sign(&document, &[&owner])
    };
    let mut flipped = targets.versions[1].clone().unwrap();
    let at = flipped.windows(8).position(|text| text == b"acme/a:1").unwrap();
    flipped[at + 7] = b'2';
    let identity = |document: &mut Targets| document.common.identity.as_mut().unwrap().trust = "f".repeat(32);
    let view = |document: &mut Targets| {
        document.common.identity.as_mut().unwrap().view = Some("other".to_owned());
    };
    type Check = fn(&Fault) -> bool;
    let cases: [(&str, Option<Vec<u8>>, Check); 8] = [
        ("flipped", Some(flipped), |f| matches!(f, Fault::Untrusted(Error::Threshold { .. }))),
        ("another version", targets.versions[0].clone(), |f| {
            matches!(f, Fault::Untrusted(Error::Version { expected: 2, found: 1, .. }))
        }),
        ("another trust id", Some(signed(identity)), |f| {
            matches!(f, Fault::Untrusted(Error::Identity { .. }))
        }),
        ("no identity", Some(signed(|d| d.common.identity = None)), |f| {
            matches!(f, Fault::Untrusted(Error::Identity { .. }))
        }),
        ("a view", Some(signed(view)), |f| matches!(f, Fault::Untrusted(Error::View { .. }))),
        ("no JSON", Some(b"<html>".to_vec()), |f| matches!(f, Fault::Untrusted(Error::Json { .. }))),
        ("a root", Some(sign(&first_root(&[&owner]), &[&owner])), |f| {
            matches!(f, Fault::Untrusted(Error::Shape { .. } | Error::Invalid { .. }))
        }),
        ("nothing", None, |f| matches!(f, Fault::Missing)),
    ];
    for (what, bytes, is_expected) in cases {
        let mut served =
            Made { versions: targets.versions.clone(), document: targets.document.clone(), ..targets };
        served.versions[1] = bytes;
        let history = served.verified(&owned_by(&owner)).0;
        let bad: Vec<_> = history.faults().collect();
        assert!(matches!(bad[..], [(2, fault)] if is_expected(fault)), "{what}: {bad:?}");
        // What the version listed is told of the next one that verifies.
        assert_eq!(history.entries()[2].changes.len(), 1, "{what}");
        assert_eq!(history.introduced()["acme/a:1"].version, 3, "{what}");
    }
}

/// T28: signed by the right keys, of the right version, and not what the snapshot says.
#[test]
fn the_newest_version_is_the_one_of_the_snapshot() {
    let owner = key();
    let mut targets = Made::new("targets");
    targets.then(&[&owner], same).then(&[&owner], list("acme/a:1", "a"));
    let mut other = targets.document.clone();
    other.targets.clear();
    let (named, shown) = (targets.versions[1].clone().unwrap(), sign(&other, &[&owner]));
    let eras = owned_by(&owner);
    let mut role = Role::new("targets", Some(TRUST), 1, &eras);
    role.take(1, targets.versions[0].as_deref(), None);
    role.take(2, Some(&shown), Some(&MetaFile::of(2, &named)));
    let history = role.finish().0;
    let bad: Vec<_> = history.faults().collect();
    assert!(
        matches!(bad[..], [(2, Fault::Untrusted(Error::Hash { referrer: "the snapshot", .. }))]),
        "{bad:?}"
    );
}

/// The first owner left before the root was pinned: what he signed can be neither believed nor blamed.
#[test]
fn what_is_older_than_the_pinned_root_is_not_verified() {
    let (first, second) = (key(), key());
    let mut root = first_root(&[&second]);
    root.common.version = 2;
    let pinned = sign(&root, &[&first, &second]);
    let eras = Roots::new(&pinned, hour(100)).unwrap().finish().1;
    let mut targets = Made::new("targets");
    targets.then(&[&first], list("acme/a:1", "a")).then(&[&second], same).then(&[&first], same);
    targets.then(&[&second], same);
    let history = targets.verified_from(2, &eras).0;
    let bad: Vec<_> = history.faults().collect();
    let [(1, old), (3, fault)] = bad[..] else { panic!("{bad:?}") };
    assert!(matches!(old, Fault::Unproven { pinned: 2 }) && old.verdict().is_none());
    assert!(matches!(fault, Fault::Untrusted(Error::Threshold { .. })));
    assert!(history.entries()[0].changes.is_empty());
}

/// Nothing is excused by an older time where everything since the beginning is known.
#[test]
fn a_first_version_by_a_stranger_is_not_trusted() {
    let (owner, amy, stranger) = (key(), key(), key());
    let mut targets = Made::new("targets");
    targets.then(&[&stranger], same).then(&[&owner], give(&[(&amy, "amy")], 1));
    let (history, below) = targets.verified(&owned_by(&owner));
    let is_untrusted = |history: &History| {
        let bad: Vec<_> = history.faults().collect();
        assert!(matches!(bad[..], [(1, Fault::Untrusted(Error::Threshold { .. }))]), "{bad:?}");
    };
    is_untrusted(&history);
    let mut team = Made::new(TEAM);
    team.then(&[&stranger], same).then(&[&amy], same);
    is_untrusted(&team.verified(&below[TEAM]).0);

    // Of a pinned second root: the team was given its role when that was known already, or maybe before.
    let mut root = first_root(&[&owner]);
    root.common.version = 2;
    let eras = Roots::new(&sign(&root, &[&owner]), hour(100)).unwrap().finish().1;
    let (history, below) = targets.verified_from(2, &eras);
    assert!(matches!(history.faults().collect::<Vec<_>>()[..], [(1, Fault::Unproven { pinned: 2 })]));
    let history = team.verified_from(2, &below[TEAM]).0;
    assert!(matches!(history.faults().collect::<Vec<_>>()[..], [(1, Fault::Unproven { pinned: 2 })]));
    let mut targets = Made::new("targets");
    targets.then(&[&owner], same).then(&[&owner], give(&[(&amy, "amy")], 1));
    let below = targets.verified_from(2, &eras).1;
    is_untrusted(&team.verified_from(2, &below[TEAM]).0);
}

#[test]
fn roots_form_a_chain_from_the_pinned_one() {
    let (amy, bob) = (key(), key());
    let first = first_root(&[&amy]);
    let mut second = first_root(&[&bob]);
    second.common.version = 2;
    second.common.identity.as_mut().unwrap().names = BTreeMap::from([(bob.key_id(), "bob".to_owned())]);
    let mut third = second.clone();
    third.common.version = 3;
    let first = sign(&first, &[&amy]);
    let (good, third) = (sign(&second, &[&amy, &bob]), sign(&third, &[&bob]));
    let newest = plimsoll_core::tuf::Document::parse("root", &third).unwrap();
    let history = |second: Option<&[u8]>| {
        let mut roots = Roots::new(&first, hour(100)).unwrap();
        roots.take(2, second);
        roots.newest(&newest).unwrap();
        roots.finish().0
    };

    let whole = history(Some(&good));
    assert_eq!(faults(&whole), []);
    let by_bob = named(&bob, "bob");
    let by_amy = NamedKey { keyid: amy.key_id(), name: None };
    assert_eq!(whole.entries()[0].signers, std::slice::from_ref(&by_amy));
    assert_eq!(whole.entries()[1].signers, [by_amy.clone(), by_bob.clone()]);
    assert_eq!(whole.entries()[2].signers, std::slice::from_ref(&by_bob));
    for role in ["root", "targets"] {
        let (role, added, removed) = (role.to_owned(), vec![by_bob.clone()], vec![by_amy.clone()]);
        assert!(whole.entries()[1].changes.contains(&Change::Keys { role, added, removed }));
    }
    assert_eq!(whole.present_keys(), &BTreeSet::from([bob.key_id()]));

    // The newest one was verified by an update, whatever the daemon shows of those before.
    let half = sign(&second, &[&bob]);
    let bad = history(Some(&half));
    assert!(
        matches!(bad.faults().collect::<Vec<_>>()[..], [(2, Fault::Untrusted(Error::Threshold { .. }))]),
        "{bad:?}"
    );
    assert_eq!(bad.entries()[2].signers, [by_bob]);
    let bad = history(None);
    assert!(matches!(bad.faults().collect::<Vec<_>>()[..], [(2, Fault::Missing)]), "{bad:?}");
}

#[test]
fn a_name_stands_alone_until_another_key_signs_a_version_that_holds_it() {
    let (owner, amy, bob, gone) = (key(), key(), key(), key());
    let mut parent = Made::new("targets");
    let all = [(&amy, "amy"), (&bob, "bob"), (&gone, "gone")];
    parent.then(&[&owner], give(&all, 1));
    parent.then(&[&owner], same).then(&[&owner], same).then(&[&owner], same).then(&[&owner], same);
    parent.then(&[&owner], same).then(&[&owner], same).then(&[&owner], give(&all[..2], 1));
    let mut team = Made::new(TEAM);
    team.then(&[&amy], list("acme/app:carried", "c"))
        .then(&[&bob], list("acme/app:bobs", "b"))
        .then(&[&gone], list("acme/app:left", "l"))
        .then(&[&amy], list("acme/app:moved", "1"))
        .then(&[&bob], same)
        .then(&[&amy], list("acme/app:moved", "2"))
        .then(&[&gone], list("acme/app:fresh", "f"))
        .then(&[&amy], list("acme/app:alone", "a"));
    let history = team_of(&parent, &owner, &team);
    assert_eq!(faults(&history), []);

    let since: Vec<_> = history
        .introduced()
        .into_iter()
        .map(|(name, introduction)| (name, introduction.version, introduction.signers))
        .collect();
    let expected = [
        ("alone", 8, (&amy, "amy")),
        ("bobs", 2, (&bob, "bob")),
        ("carried", 1, (&amy, "amy")),
        ("fresh", 7, (&gone, "gone")),
        ("left", 3, (&gone, "gone")),
        ("moved", 6, (&amy, "amy")),
    ];
    let expected =
        expected.map(|(tag, at, (key, name))| (format!("acme/app:{tag}"), at, vec![named(key, name)]));
    assert_eq!(since, expected);
    // Bob carried `carried` and `left` on in version 5. The key that is gone does not count beside Amy's in version 7.
    assert_eq!(
        history.vouched_only_by(&amy.key_id()),
        ["acme/app:alone", "acme/app:fresh", "acme/app:moved"]
    );
    assert!(history.vouched_only_by(&bob.key_id()).is_empty());
    assert!(history.vouched_only_by(&gone.key_id()).is_empty());
    assert!(history.vouched_only_by(&owner.key_id()).is_empty());

    // Before Bob signed again, `left` stood on the key that is gone, and Amy's.
    team.versions.truncate(3);
    team.document.common.version = 3;
    let history = team_of(&parent, &owner, &team);
    assert_eq!(history.vouched_only_by(&gone.key_id()), ["acme/app:left"]);
    assert!(history.vouched_only_by(&amy.key_id()).is_empty());
}

#[test]
fn another_custom_beside_the_same_digest_introduces_nothing() {
    let (owner, amy) = (key(), key());
    let root = first_root(&[&owner, &amy]);
    let eras = Roots::new(&sign(&root, &[&owner]), hour(100)).unwrap().finish().1;
    let mut targets = Made::new("targets");
    targets.then(&[&owner], list("acme/a:1", "a")).then(&[&amy], |document| {
        let custom = BTreeMap::from([("mediaType".to_owned(), json_text("x/y"))]);
        document.targets.get_mut("acme/a:1").unwrap().custom = Some(custom);
    });
    let history = targets.verified(&eras).0;
    assert!(matches!(history.entries()[1].changes[..], [Change::Changed { .. }]));
    assert_eq!(history.introduced()["acme/a:1"].version, 1);
    assert!(history.last_content("acme/a:1").is_empty());
    assert!(history.vouched_only_by(&owner.key_id()).is_empty());
}

fn json_text(text: &str) -> plimsoll_core::tuf::Json {
    text.into()
}

#[test]
fn earlier_contents_are_found_by_name_and_by_digest() {
    let owner = key();
    let by_digest = |of: &str| format!("acme/a@{}", digest(of));
    let mut targets = Made::new("targets");
    targets
        .then(&[&owner], list("acme/a:1", "x"))
        .then(&[&owner], list("acme/a:old", "x"))
        .then(&[&owner], |document| drop(document.targets.remove("acme/a:old")))
        .then(&[&owner], list("acme/a:1", "y"))
        .then(&[&owner], list(&by_digest("x"), "x"))
        .then(&[&owner], list("acme/a:2", "x"))
        .then(&[&owner], |document| document.targets.clear())
        .then(&[&owner], list("acme/a:1", "z"));
    let history = targets.verified(&owned_by(&owner)).0;
    let earlier = |name: &str, of: &str, first, last| Earlier {
        name: name.to_owned(),
        target: target(of),
        first,
        last,
    };
    assert_eq!(
        history.last_content("acme/a:1"),
        [earlier("acme/a:1", "y", 4, 6), earlier("acme/a:1", "x", 1, 3)]
    );
    assert_eq!(
        history.last_names(digest("x")),
        [earlier("acme/a:2", "x", 6, 6), earlier(&by_digest("x"), "x", 5, 6)]
    );
    assert!(history.last_names(digest("z")).is_empty());
    assert!(history.last_content("acme/a:never").is_empty());
}

/// T25: a snapshot that claims absurdly many versions costs nothing.
#[tokio::test]
async fn a_history_of_absurd_length_is_not_begun() {
    let owner = key();
    let root = sign(&first_root(&[&owner]), &[&owner]);
    let of = |version, role: &str| {
        (format!("{role}.json"), MetaFile { version, length: None, hashes: None, extra: BTreeMap::new() })
    };
    let registry = Registry::new(RegistryOptions::default()).unwrap();
    // Nobody listens there: a request would be another error.
    let source = TufSource::new(registry.clone(), "http://127.0.0.1:9/".parse().unwrap());
    for version in [MAX_VERSIONS + 1, 1 << 53, u64::MAX] {
        let snapshot = Snapshot {
            common: Common::new("snapshot", 1, hour(100), plimsoll_core::tuf::Identity::new(TRUST, hour(0))),
            meta: BTreeMap::from([of(version, "targets")]),
            extra: BTreeMap::new(),
        };
        let present = read::present(&root, snapshot, hour(1));
        let result = read(&source, &root, &present, None).await;
        assert!(matches!(result, Err(PublishError::LongHistory { .. })), "{version}: {result:?}");
    }
    assert_eq!(registry.requests(), 0);
}

#[test]
fn json_says_what_text_says() {
    let owner = key();
    let mut targets = Made::new("targets");
    targets.then(&[&owner], list("acme/a:1", "a")).then(&[&owner], same);
    targets.versions[1] = None;
    let history = targets.verified(&owned_by(&owner)).0;
    let text = serde_json::to_value(history.entries()).unwrap();
    let change =
        serde_json::json!({"change": "added", "name": "acme/a:1", "digest": digest("a").to_string()});
    assert_eq!(text[0]["changes"], serde_json::json!([change]));
    assert_eq!(text[0]["signers"], serde_json::json!([{"keyid": owner.key_id().0}]));
    assert_eq!(text[0]["fault"], serde_json::Value::Null);
    assert_eq!(text[1]["fault"]["kind"], "missing");
    // Whoever prints it prints JSON.
    assert!(json::parse(&serde_json::to_vec(history.entries()).unwrap()).is_ok());
}
