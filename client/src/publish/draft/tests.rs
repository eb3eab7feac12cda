use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_core::{
    oci::Descriptor,
    tuf::{Identity, Key, PublicKey, Snapshot, Timestamp},
};
use serde_json::Value;

use super::*;
use crate::{
    keys::{Algorithm, PrivateKey},
    publish::{
        api::OnlineKeys,
        author::{self, Granted, Holders, RoleEdit, RootEdit},
    },
};

pub(super) const TRUST: &str = "00112233445566778899aabbccddeeff";
const REPOSITORY: &str = "registry.example.com/acme/trust";

/// Fixed keys, so that texts with their ids can be compared: alice, bob, carol, dave; timestamp, snapshot.
pub(super) struct World {
    pub(super) keys: Vec<PrivateKey>,
    pub(super) now: DateTime<Utc>,
}

const NAMES: [&str; 6] = ["alice", "bob", "carol", "dave", "timestamp", "snapshot"];

impl World {
    pub(super) fn new() -> Self {
        let key = |n: u8| {
            let der = [
                [
                    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
                    0x20,
                ]
                .as_slice(),
                &[n; 32],
            ];
            let text = data_encoding::BASE64.encode(&der.concat());
            let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
            PrivateKey::from_pem_insecure_plain(&pem, "test".as_ref()).unwrap()
        };
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        Self { keys: (1..=6).map(key).collect(), now }
    }

    pub(super) fn key(&self, name: &str) -> &PrivateKey {
        &self.keys[NAMES.iter().position(|known| *known == name).unwrap()]
    }

    pub(super) fn id(&self, name: &str) -> KeyId {
        self.key(name).key_id()
    }

    fn granted(&self, name: &str) -> Granted {
        Granted { key: self.key(name).key().clone(), name: Some(name.to_owned()) }
    }

    fn online(&self) -> OnlineKeys {
        let key = |name| self.key(name).key().clone();
        OnlineKeys { timestamp: key("timestamp"), snapshot: key("snapshot") }
    }

    /// Root version 1: two of alice, bob and carol, for root and targets.
    pub(super) fn first(&self) -> Root {
        let keys = ["alice", "bob", "carol"].map(|name| self.granted(name)).to_vec();
        let holders = Holders { keys, threshold: 2 };
        let scopes = ["acme/**".parse().unwrap()];
        author::held_root(TRUST, &scopes, (&holders, &holders), &self.online(), self.now).unwrap()
    }

    /// The next root: dave in place of bob, everywhere.
    pub(super) fn second(&self, before: &Root) -> Root {
        let mut root = before.clone();
        let role =
            RoleEdit { add: vec![self.granted("dave")], remove: vec!["bob".to_owned()], threshold: None };
        let edit = RootEdit { root: role.clone(), targets: role, ..RootEdit::default() };
        author::edit_root(&mut root, &edit).unwrap();
        author::next_version("root", &mut root, self.now + TimeDelta::days(1));
        root
    }

    pub(super) fn targets(&self) -> Targets {
        author::empty_targets("targets", TRUST, self.now)
    }

    pub(super) fn sign<T: RoleType>(&self, document: &T, names: &[&str]) -> Vec<u8> {
        let signers: Vec<&dyn Signer> = names.iter().map(|name| self.key(name) as &dyn Signer).collect();
        author::sign(document, &signers).unwrap()
    }

    /// Root and targets version 1, signed.
    pub(super) fn base(&self) -> Base {
        let targets = self.sign(&self.targets(), &["alice", "carol"]);
        Base {
            roots: vec![self.sign(&self.first(), &["alice", "bob"])],
            documents: BTreeMap::from([("targets".to_owned(), targets)]),
        }
    }

    /// Unsigned: root version 2, and targets version 2 with the content of before.
    pub(super) fn rotation(&self) -> Draft {
        let mut targets = self.targets();
        author::next_version("targets", &mut targets, self.now);
        let next =
            [("root".to_owned(), self.second(&self.first()).into()), ("targets".to_owned(), targets.into())];
        Draft::new(REPOSITORY, &self.base(), next).unwrap()
    }

    /// Unsigned: the first root and targets.
    pub(super) fn beginning(&self) -> Draft {
        let next = [("root".to_owned(), self.first().into()), ("targets".to_owned(), self.targets().into())];
        Draft::new(REPOSITORY, &Base::default(), next).unwrap()
    }

    /// Unsigned: version 2 of `targets--app`, which `targets` version 1 gives to dave.
    pub(super) fn app(&self) -> Draft {
        let mut targets = self.targets();
        delegate(&mut targets, "targets--app", self.key("dave").public());
        let present = author::empty_targets("targets--app", TRUST, self.now);
        let mut next = present.clone();
        author::next_version("targets--app", &mut next, self.now);
        let mut base = self.base();
        base.documents.insert("targets".to_owned(), self.sign(&targets, &["alice", "bob"]));
        base.documents.insert("targets--app".to_owned(), self.sign(&present, &["dave"]));
        Draft::new(REPOSITORY, &base, [("targets--app".to_owned(), next.into())]).unwrap()
    }
}

pub(super) fn delegate(targets: &mut Targets, role: &str, key: &PublicKey) {
    let allowed = ["acme/*".to_owned()];
    let scope = "acme/app".parse().unwrap();
    author::delegate(targets, ("targets", &allowed), role, &scope, std::slice::from_ref(key), 1).unwrap();
}

pub(super) fn vouch(targets: &mut Targets, name: &str, digest: Digest) {
    let descriptor = Descriptor {
        media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
        digest,
        size: 7,
        data: None,
        annotations: BTreeMap::new(),
    };
    let allowed = ["acme/*".to_owned()];
    author::vouch(targets, ("targets", &allowed), &name.parse().unwrap(), &descriptor).unwrap();
}

/// The draft changed by hand, its sum put right again: only signatures and structure are left to notice.
fn forged(draft: &Draft, change: impl FnOnce(&mut Value)) -> Result<Draft, DraftError> {
    let mut value: Value = serde_json::from_slice(&draft.write()).unwrap();
    change(&mut value);
    let documents = |part: &str| -> BTreeMap<String, Vec<u8>> {
        let members = value[part].as_object().unwrap();
        members.iter().map(|(role, document)| (role.clone(), document.to_string().into_bytes())).collect()
    };
    let roots = value["roots"].as_array().unwrap().iter().map(|root| root.to_string().into_bytes()).collect();
    let base = Base { roots, documents: documents("base") };
    let repository = value["repository"].as_str().unwrap();
    value["sum"] = serde_json::to_value(sum(repository, &base, &documents("documents"))).unwrap();
    Draft::read(value.to_string().as_bytes())
}

#[test]
fn a_draft_is_signed_apart_and_put_together() {
    let world = World::new();
    let mut draft = world.rotation();
    let needs: Vec<(String, String, u64)> =
        draft.requirements().iter().map(|r| (r.role.clone(), r.by.clone(), r.missing())).collect();
    let text = |role: &str, by: &str| (role.to_owned(), by.to_owned(), 2);
    // The old threshold and the new.
    let expected =
        [text("root", "root version 1"), text("root", "root version 2"), text("targets", "root version 2")];
    assert_eq!(needs, expected);

    let mut elsewhere = Draft::read(&draft.write()).unwrap();
    // Bob goes: he may sign the root, for he is asked by the one before, and nothing else.
    assert_eq!(draft.sign(world.key("bob")).unwrap(), ["root"]);
    assert_eq!(draft.sign(world.key("alice")).unwrap(), ["root", "targets"]);
    assert!(!draft.is_complete());
    assert_eq!(elsewhere.sign(world.key("dave")).unwrap(), ["root", "targets"]);
    assert_eq!(draft.merge(&Draft::read(&elsewhere.write()).unwrap()).unwrap(), 2);
    assert_eq!(draft.merge(&elsewhere).unwrap(), 0);
    assert!(draft.is_complete());
    assert_eq!(draft.code(), elsewhere.code());

    let again = draft.sign(world.key("bob")).unwrap_err();
    assert!(matches!(again, DraftError::AlreadySigned(_)), "{again}");
    let stranger = PrivateKey::generate(Algorithm::Ed25519).unwrap();
    let refused = draft.sign(&stranger).unwrap_err();
    assert!(matches!(refused, DraftError::NotAsked(_)), "{refused}");
}

#[test]
fn a_signature_made_elsewhere_is_attached_or_refused() {
    let world = World::new();
    let mut draft = world.rotation();
    let signature = world.key("alice").sign(&draft.payload("targets").unwrap()).unwrap();
    let refused = draft.attach("root", &world.id("alice"), &signature).unwrap_err();
    assert!(matches!(refused, DraftError::Signature { .. }), "{refused}");
    let refused = draft.attach("targets", &world.id("bob"), &signature).unwrap_err();
    assert!(matches!(refused, DraftError::NotAsked(_)), "{refused}");
    assert!(draft.is_unsigned());
    draft.attach("targets", &world.id("alice"), &signature).unwrap();
    assert!(Draft::read(&draft.write()).unwrap().signatures("targets").len() == 1);
    let again = draft.attach("targets", &world.id("alice"), &signature).unwrap_err();
    assert!(matches!(again, DraftError::NotAsked(_) | DraftError::AlreadySigned(_)), "{again}");
    let unknown = draft.payload("targets--app").unwrap_err();
    assert_eq!(unknown.to_string(), "the draft changes root, targets and not targets--app");
}

#[test]
fn a_byte_flipped_anywhere_is_noticed() {
    let world = World::new();
    let mut draft = world.rotation();
    draft.sign(world.key("alice")).unwrap();
    let bytes = draft.write();
    // Each read costs signatures: every seventh byte is enough to meet every part.
    for at in (0..bytes.len()).step_by(7) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        assert!(Draft::read(&flipped).is_err(), "byte {at}");
    }
    assert!(Draft::read(&bytes[..bytes.len() - 2]).is_err());
}

#[test]
fn a_signed_document_that_was_changed_is_refused() {
    let world = World::new();
    let mut draft = world.rotation();
    draft.sign(world.key("alice")).unwrap();
    let root = |value: &mut Value| value["documents"]["root"].clone();
    for (what, refused) in [
        (
            "threshold",
            forged(&draft, |value| {
                value["documents"]["root"]["signed"]["roles"]["root"]["threshold"] = 1.into();
            }),
        ),
        (
            "expiry",
            forged(&draft, |value| {
                value["documents"]["targets"]["signed"]["expires"] = "2027-01-01T00:00:00Z".into();
            }),
        ),
        (
            "another's signature",
            forged(&draft, |value| {
                value["documents"]["root"]["signatures"][0]["keyid"] = world.id("dave").0.into();
            }),
        ),
        (
            "a signature of nobody",
            forged(&draft, |value| {
                value["documents"]["root"]["signatures"][0]["keyid"] = "00".repeat(32).into();
            }),
        ),
        (
            "a signature of another document",
            forged(&draft, |value| {
                let root = root(value);
                value["documents"]["targets"]["signatures"] = root["signatures"].clone();
            }),
        ),
    ] {
        assert!(matches!(refused, Err(DraftError::Signature { .. })), "{what}: {refused:?}");
        assert_eq!(refused.unwrap_err().verdict(), Some(Verdict::Untrusted));
    }
    let other = "ffeeddccbbaa99887766554433221100";
    let refused = forged(&draft, |value| {
        value["documents"]["targets"]["signed"]["x-plimsoll"]["trust"] = other.into();
    });
    assert!(matches!(refused, Err(DraftError::Base(_))), "{refused:?}");
    let refused = forged(&draft, |value| {
        value["documents"]["root"]["signed"]["version"] = 3.into();
    });
    assert!(matches!(refused, Err(DraftError::Version { expected: 2, found: 3, .. })), "{refused:?}");
}

#[test]
fn what_a_draft_starts_from_must_hold_together() {
    let world = World::new();
    let draft = world.rotation();
    // A chain that its own keys do not hold.
    let refused = forged(&draft, |value| {
        value["roots"][0]["signed"]["roles"]["root"]["threshold"] = 1.into();
    });
    assert!(matches!(refused, Err(DraftError::Document(tuf::Error::Threshold { .. }))), "{refused:?}");
    // Whoever pinned another root is not led here by it.
    let other = world.sign(&world.second(&world.first()), &["alice", "bob", "dave"]);
    assert!(matches!(draft.check_pinned(&other), Err(DraftError::Foreign)));
    draft.check_pinned(&world.base().roots[0]).unwrap();
    // Parents that nobody signed.
    let app = world.app();
    assert!(app.is_vouched("targets--app"));
    let evil = Key::new(world.key("carol").public());
    let refused = forged(&app, |value| {
        let delegations = &mut value["base"]["targets"]["signed"]["delegations"];
        delegations["keys"][evil.id().0.as_str()] = serde_json::to_value(&evil).unwrap();
        delegations["roles"][0]["keyids"] = vec![evil.id().0].into();
    });
    assert!(matches!(refused, Err(DraftError::Base(_))), "{refused:?}");
    let refused = forged(&app, |value| {
        value["base"]["targets--other"] = value["base"]["targets--app"].clone();
    });
    assert!(matches!(refused, Err(DraftError::Base(_))), "{refused:?}");
    // A parent that is changed, too, is not checked like that; what it names is nobody's word then.
    let mut parent = world.targets();
    delegate(&mut parent, "targets--app", world.key("dave").public());
    let (mut next, present) = (parent.clone(), app.base());
    author::next_version("targets", &mut next, world.now);
    let next = [
        ("targets".to_owned(), next.into()),
        ("targets--app".to_owned(), app.targets["targets--app"].signed.clone().into()),
    ];
    let both = Draft::new(REPOSITORY, &present, next).unwrap();
    assert!(both.is_vouched("targets--app"));
    let orphaned = forged(&both, |value| value["base"]["targets"]["signatures"] = Value::Array(Vec::new()));
    assert!(!orphaned.unwrap().is_vouched("targets--app"));
}

/// What is signed is what was shown: a document that says nothing else, spelt otherwise, would lose the signature.
#[test]
fn a_document_that_is_spelt_in_another_way_is_not_said_to_be_signed() {
    let draft = World::new().rotation();
    for (role, member, value) in [
        ("targets", "reinstated", Value::Array(Vec::new())),
        ("targets", "view", Value::Null),
        ("root", "names", serde_json::json!({})),
    ] {
        let refused = forged(&draft, |whole| {
            whole["documents"][role]["signed"]["x-plimsoll"][member] = value;
        });
        assert!(matches!(&refused, Err(DraftError::Spelling { role: of }) if of == role), "{refused:?}");
        assert_eq!(refused.unwrap_err().verdict(), Some(Verdict::Untrusted));
    }
}

#[test]
fn a_draft_of_keys_that_could_never_sign_is_refused() {
    let world = World::new();
    let alice = world.key("alice").key().clone();
    let refused = |change: &dyn Fn(&mut Value)| {
        forged(&world.rotation(), |whole| change(&mut whole["documents"]["root"]["signed"])).unwrap_err()
    };
    for role in ["root", "targets", "timestamp"] {
        let error = refused(&|root| root["roles"][role]["threshold"] = 4.into());
        assert!(
            matches!(&error, DraftError::Threshold { role: of, threshold: 4, .. } if of == role),
            "{error}"
        );
        assert_eq!(error.verdict(), None);
    }
    // One key under two ids looks like two to whoever reads the ids.
    let other = "5".repeat(64);
    let error = refused(&|root| {
        root["keys"][&other] = serde_json::to_value(&alice).unwrap();
        root["roles"]["root"]["keyids"] = serde_json::json!([alice.id(), other]);
    });
    assert!(matches!(&error, DraftError::KeyTwice { role, .. } if role == "root"), "{error}");
    let error =
        refused(&|root| root["roles"]["root"]["keyids"] = serde_json::json!([alice.id(), alice.id()]));
    assert!(matches!(&error, DraftError::KeyTwice { .. }), "{error}");

    // A team's keys.
    let mut next = world.targets();
    delegate(&mut next, "targets--app", world.key("dave").public());
    author::next_version("targets", &mut next, world.now);
    let team = Draft::new(REPOSITORY, &world.base(), [("targets".to_owned(), next.clone().into())]).unwrap();
    let refused = forged(&team, |whole| {
        whole["documents"]["targets"]["signed"]["delegations"]["roles"][0]["threshold"] = 2.into();
    });
    assert!(matches!(refused, Err(DraftError::Threshold { threshold: 2, keys: 1, .. })), "{refused:?}");
    // What was published like that is not this change's fault.
    let delegations = next.delegations.as_mut().unwrap();
    delegations.roles[0].keys.threshold = 2;
    let mut base = world.base();
    base.roots.truncate(1);
    base.documents.insert("targets".to_owned(), world.sign(&next, &["alice", "bob"]));
    author::next_version("targets", &mut next, world.now);
    Draft::new(REPOSITORY, &base, [("targets".to_owned(), next.into())]).unwrap();
}

#[test]
fn a_draft_that_travels_has_every_root() {
    let world = World::new();
    let mut root = world.first();
    author::next_version("root", &mut root, world.now);
    let base = Base { roots: vec![world.sign(&root, &["alice", "bob"])], documents: BTreeMap::new() };
    author::next_version("root", &mut root, world.now);
    let draft = Draft::new(REPOSITORY, &base, [("root".to_owned(), root.into())]).unwrap();
    let refused = Draft::read(&draft.write()).unwrap_err();
    assert!(matches!(refused, DraftError::Base(_)), "{refused}");
}

#[test]
fn two_changes_are_not_merged() {
    let world = World::new();
    let mut one = world.rotation();
    one.sign(world.key("alice")).unwrap();
    let mut other = forged(&world.rotation(), |value| {
        value["documents"]["root"]["signed"]["roles"]["root"]["threshold"] = 1.into();
    })
    .unwrap();
    other.sign(world.key("dave")).unwrap();
    assert_ne!(one.code(), other.code());
    let before = one.write();
    assert!(matches!(one.merge(&other), Err(DraftError::Different(role)) if role == "root"));
    assert!(matches!(one.merge(&world.app()), Err(DraftError::Different(_))));
    assert_eq!(one.write(), before);
}

#[test]
fn a_rehearsal_leads_clients_from_every_root() {
    let world = World::new();
    let mut draft = world.rotation();
    for name in ["alice", "bob", "dave"] {
        draft.sign(world.key(name)).unwrap();
    }
    let later = world.now + TimeDelta::days(1);
    let (timestamp, snapshot) = live(&world, "timestamp");
    let live_now = |timestamp| Live { timestamp, snapshot: &snapshot, targets: None };
    let rehearsed = rehearse(&draft, Some(live_now(&timestamp)), later).unwrap().unwrap();
    assert_eq!(rehearsed, Rehearsed { from: vec![1], to: 2, slow_from: None });
    // A change without a root needs none.
    assert_eq!(rehearse(&world.app(), None, later).unwrap(), None);

    // Somebody else signs the timestamp.
    let (other, _) = live(&world, "dave");
    let refused = rehearse(&draft, Some(live_now(&other)), later).unwrap_err();
    assert!(
        matches!(&refused, RehearsalError::Role { role, root: 2, .. } if role == "timestamp"),
        "{refused}"
    );
    let over = world.now + TimeDelta::days(400);
    let refused = rehearse(&draft, None, over).unwrap_err();
    assert!(matches!(refused, RehearsalError::Root { from: 1, at: 2, source: tuf::Error::Expired { .. } }));
}

#[test]
fn a_rehearsal_needs_both_thresholds_and_the_new_targets() {
    let world = World::new();
    let signed = |names: &[&str]| {
        let mut draft = world.rotation();
        for name in names {
            draft.sign(world.key(name)).unwrap();
        }
        rehearse(&draft, None, world.now + TimeDelta::days(1))
    };
    // Enough for the new root, not for the old: only alice was there before.
    for names in [&["alice", "dave"] as &[&str], &["alice", "bob"]] {
        let refused = signed(names).unwrap_err();
        let threshold = tuf::Error::Threshold { role: "root".to_owned(), have: 1, need: 2 };
        let RehearsalError::Root { from: 1, at: 2, source } = refused else { panic!("{names:?}") };
        assert_eq!(source.to_string(), threshold.to_string(), "{names:?}");
    }
    // The new root, and not by those who sign targets from now on.
    let mut draft = world.rotation();
    for name in ["alice", "carol", "dave"] {
        let id = world.id(name);
        let signature = world.key(name).sign(&draft.payload("root").unwrap()).unwrap();
        draft.attach("root", &id, &signature).unwrap();
    }
    let refused = rehearse(&draft, None, world.now + TimeDelta::days(1)).unwrap_err();
    assert!(matches!(&refused, RehearsalError::Role { role, .. } if role == "targets"), "{refused}");
}

#[test]
fn a_chain_longer_than_one_run_is_told() {
    let world = World::new();
    let mut root = world.first();
    root.common.version = 256;
    let before = world.sign(&root, &["alice", "bob"]);
    author::next_version("root", &mut root, world.now);
    let base = Base { roots: vec![before], documents: BTreeMap::new() };
    let mut draft = Draft::new(REPOSITORY, &base, [("root".to_owned(), root.clone().into())]).unwrap();
    let slow = |draft: &mut Draft| {
        draft.sign(world.key("alice")).unwrap();
        draft.sign(world.key("bob")).unwrap();
        rehearse(draft, None, world.now).unwrap().unwrap().slow_from
    };
    // From version 1 to 257 it is 256 steps, which one run takes.
    assert_eq!(slow(&mut draft), None);
    let base = Base { roots: vec![world.sign(&root, &["alice", "bob"])], documents: BTreeMap::new() };
    author::next_version("root", &mut root, world.now);
    let mut draft = Draft::new(REPOSITORY, &base, [("root".to_owned(), root.into())]).unwrap();
    assert_eq!(slow(&mut draft), Some(1));
}

/// A timestamp signed by `signer`, and the snapshot it names.
fn live(world: &World, signer: &str) -> (Vec<u8>, Vec<u8>) {
    use plimsoll_core::tuf::{MetaFile, metadata::Common};
    let common = |role| Common::new(role, 1, world.now, Identity::new(TRUST, world.now));
    let snapshot = Snapshot {
        common: common("snapshot"),
        meta: BTreeMap::from([("targets.json".to_owned(), MetaFile::of(1, b""))]),
        extra: BTreeMap::new(),
    };
    let snapshot = world.sign(&snapshot, &["snapshot"]);
    let timestamp = Timestamp {
        common: common("timestamp"),
        meta: BTreeMap::from([("snapshot.json".to_owned(), MetaFile::of(1, &snapshot))]),
        extra: BTreeMap::new(),
    };
    (world.sign(&timestamp, &[signer]), snapshot)
}
