//! Rules for single documents, each broken alone.

use plimsoll_core::tuf::{Identity, Key, KeyId, PublicKey, Revocation, RoleKeys};

use super::*;
use RefusalCode::{Conflict, Malformed, Refused, TooLarge};

/// Changes the text of a signed document; the signature no longer fits.
fn replace(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(text.contains(from), "{text}");
    text.replacen(from, to, 1).into_bytes()
}

fn identity(targets: &mut Targets) -> &mut Identity {
    targets.common.identity.as_mut().unwrap()
}

#[test]
fn a_first_submission_is_a_root_and_a_targets_role() {
    let world = World::empty();
    world.refuses(&[], Malformed, "1 to 64 documents");
    world.refuses(&[("root", world.signed_root())], Refused, "must hold root and targets version 1");
    world.refuses(&[("targets", world.first_targets())], Refused, "there is no root yet");
    let record = world.submit(&[("root", world.signed_root()), ("targets", world.first_targets())]).unwrap();
    assert_eq!(record.timestamp_version, 1);
    assert_eq!(world.snapshot().meta.len(), 1);
}

#[test]
fn the_online_roles_are_signed_by_the_daemon_alone() {
    let world = World::new();
    for role in ["timestamp", "snapshot"] {
        let bytes = world.document(role, 1).unwrap().to_vec();
        world.refuses(&[(role, bytes)], Refused, "signed by this daemon alone");
    }
}

#[test]
fn an_older_or_equal_version_is_a_conflict_with_the_heads_and_one_ahead_is_refused() {
    let world = World::with_team();
    let refusal = world.refuses(&[("targets", world.first_targets())], Conflict, "not newer than version 2");
    assert_eq!(refusal.heads, BTreeMap::from([("targets".to_owned(), 2)]));
    let same = sign(&world.edit("targets", |t| t.common.version = 2), &[&world.owner]);
    let team = world.next("targets--team", |_| {});
    let refusal = world.refuses(&[("targets", same), ("targets--team", team)], Conflict, "version 2");
    assert_eq!(refusal.heads, BTreeMap::from([("targets".to_owned(), 2), ("targets--team".to_owned(), 1)]));
    world.refuses(&[("targets", world.next("targets", |t| t.common.version = 4))], Refused, "version 3 must");
}

/// T25.
#[test]
fn a_version_at_the_end_of_any_integer_is_refused_without_damage() {
    let world = World::new();
    for huge in [(1u64 << 31) - 1, 1 << 31, (1 << 53) - 1, 1 << 53, (1 << 63) - 1] {
        let bytes = replace(&world.next("targets", |_| {}), "\"version\":2", &format!("\"version\":{huge}"));
        let refusal = world.submit(&[("targets", bytes)]).unwrap_err();
        assert!(matches!(refusal.code, Refused | Malformed), "{refusal:?}");
    }
    for beyond in ["9223372036854775808", "18446744073709551615", "18446744073709551616", "-1", "0", "2.0"] {
        let bytes =
            replace(&world.next("targets", |_| {}), "\"version\":2", &format!("\"version\":{beyond}"));
        let refusal = world.submit(&[("targets", bytes)]).unwrap_err();
        assert!(matches!(refusal.code, Conflict | Malformed), "{beyond}: {refusal:?}");
    }
    // Signed by the right key it is refused all the same.
    let far = world.next("targets", |t| t.common.version = (1 << 31) - 1);
    world.refuses(&[("targets", far)], Refused, "where version 2 must follow");
    world.submit(&[("targets", world.next("targets", |_| {}))]).unwrap();
}

/// T06.
#[test]
fn a_root_needs_the_old_and_its_own_threshold() {
    let world = World::new();
    let new = key();
    let root = world.next_root(|root| {
        root.keys.remove(&world.owner.key_id());
        root.keys.insert(new.key_id(), new.key().clone());
        for role in ["root", "targets"] {
            root.roles.get_mut(role).unwrap().keyids = vec![new.key_id()];
        }
    });
    world.refuses(&[("root", sign(&root, &[&new]))], Refused, "0 of 1 required signatures");
    world.refuses(&[("root", sign(&root, &[&world.owner]))], Refused, "0 of 1 required signatures");
    let answer = world.round(&[submitted(&[("root", sign(&root, &[&world.owner, &new]))])]).unwrap();
    assert!(answer.answers[0].is_ok(), "{:?}", answer.answers);
    // That `targets` now has no valid signature is the owner's to mend, and is said.
    assert!(
        answer.reports.iter().any(|r| r.contains("targets version 1 has 0 of 1")),
        "{:?}",
        answer.reports
    );
}

#[test]
fn a_root_that_would_leave_the_daemon_unable_to_sign_is_refused() {
    let world = World::new();
    let change = |change: &dyn Fn(&mut Root)| sign(&world.next_root(|root| change(root)), &[&world.owner]);
    for role in ["timestamp", "snapshot"] {
        let why = format!("{role} must be signed by this daemon's key");
        let dropped = change(&|root| root.roles.get_mut(role).unwrap().keyids = vec![world.owner.key_id()]);
        world.refuses(&[("root", dropped)], Refused, &why);
        let two = change(&|root| {
            let keys = root.roles.get_mut(role).unwrap();
            keys.keyids.push(world.owner.key_id());
            keys.threshold = 2;
        });
        world.refuses(&[("root", two)], Refused, &why);
        // Listed, but its key is not there: the id names nothing.
        let id =
            if role == "timestamp" { world.online().timestamp.id() } else { world.online().snapshot.id() };
        let gone = change(&|root| {
            root.keys.remove(&id);
        });
        world.refuses(&[("root", gone)], Refused, "cannot be met by 0 distinct keys");
    }
}

/// T70.
#[test]
fn documents_of_another_trust_repository_are_refused() {
    let world = World::with_team();
    let other = "f".repeat(32);
    let root = world.next_root(|root| root.common.identity.as_mut().unwrap().trust = other.clone());
    world.refuses(&[("root", sign(&root, &[&world.owner]))], Refused, "another trust id");
    for role in ["targets", "targets--team"] {
        let bytes = world.next(role, |t| identity(t).trust = other.clone());
        world.refuses(&[(role, bytes)], Refused, "instead of 0123456789abcdef");
        let none = world.next(role, |t| t.common.identity = None);
        world.refuses(&[(role, none)], Refused, "no x-plimsoll");
        let view = world.next(role, |t| identity(t).view = Some("a".to_owned()));
        world.refuses(&[(role, view)], Refused, "views are not published");
    }
    let wrong = world.next_root(|root| root.common.identity.as_mut().unwrap().trust = "x".to_owned());
    world.refuses(&[("root", sign(&wrong, &[&world.owner]))], Malformed, "trust id");
}

#[test]
fn a_root_says_consistent_snapshot_and_its_scope() {
    let world = World::new();
    let change = |change: &dyn Fn(&mut Root)| sign(&world.next_root(|root| change(root)), &[&world.owner]);
    let scoped =
        |scopes: Vec<String>| change(&|root| root.common.identity.as_mut().unwrap().scope = scopes.clone());
    world.refuses(
        &[("root", change(&|root| root.consistent_snapshot = false))],
        Refused,
        "consistent_snapshot",
    );
    for bad in [vec![], vec!["acme/[x]".to_owned()], vec!["acme/**".to_owned(), String::new()]] {
        world.refuses(&[("root", scoped(bad))], Refused, "x-plimsoll.scope");
    }
    let many = (0..65).map(|n| format!("acme/a{n}")).collect();
    world.refuses(&[("root", scoped(many))], Refused, "more than 64 scopes");
}

/// T17.
#[test]
fn a_life_is_capped_for_each_role() {
    let world = World::with_team();
    let (day, skew) = (TimeDelta::days(1), TimeDelta::minutes(5));
    for (role, days) in [("targets", 365), ("targets--team", 90)] {
        let most = world.now + day * days + skew;
        let bytes = world.next(role, |t| t.common.expires = most + TimeDelta::seconds(1));
        world.refuses(&[(role, bytes)], Refused, &format!("more than {days} days ahead"));
        world.submit(&[(role, world.next(role, |t| t.common.expires = most))]).unwrap();
    }
    let root = world.next_root(|root| root.common.expires = world.now + day * 366);
    world.refuses(&[("root", sign(&root, &[&world.owner]))], Refused, "more than 365 days ahead");
}

#[test]
fn what_has_expired_or_comes_from_the_future_is_refused() {
    let world = World::with_team();
    let skew = TimeDelta::minutes(5);
    for role in ["targets", "targets--team"] {
        let bytes = world.next(role, |t| t.common.expires = world.now);
        world.refuses(&[(role, bytes)], Refused, "expired at");
        let bytes = world.next(role, |t| identity(t).at = world.now + skew + TimeDelta::seconds(1));
        world.refuses(&[(role, bytes)], Refused, "ahead of this daemon's clock");
        world.submit(&[(role, world.next(role, |t| identity(t).at = world.now + skew))]).unwrap();
    }
    let root = world.next_root(|root| root.common.expires = world.now);
    world.refuses(&[("root", sign(&root, &[&world.owner]))], Refused, "expired at");
}

#[test]
fn names_outside_the_grammar_are_refused() {
    let world = World::new();
    for name in [
        "acme/app",
        "Acme/app:v1",
        "acme//app:v1",
        "../app:v1",
        "acme/app:v1/x",
        "acme/*:v1",
        "acme/app:\u{7}",
    ] {
        let bytes = world.next("targets", |t| {
            t.targets.insert(name.to_owned(), target("a"));
        });
        world.refuses(&[("targets", bytes)], Refused, "is not a target name");
    }
}

#[test]
fn a_digest_entry_must_have_the_hash_it_names_and_every_entry_a_sha256() {
    let world = World::new();
    let name = format!("acme/app@{}", Digest::of(b"a"));
    let entry = |hash: &str| {
        let mut target = target("a");
        target.hashes =
            BTreeMap::from([hash.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap()]);
        world.next("targets", |t| {
            t.targets.insert(name.clone(), target);
        })
    };
    let good = Digest::of(b"a").hex();
    let other = entry(&format!("sha256={}", Digest::of(b"b").hex()));
    world.refuses(&[("targets", other)], Refused, "names another digest than its hash");
    for bad in [format!("sha512={good}"), format!("sha256={}", good.to_uppercase()), "sha256=".to_owned()] {
        world.refuses(&[("targets", entry(&bad))], Refused, "has no sha256 in lower-case hex");
    }
    world.submit(&[("targets", entry(&format!("sha256={good}")))]).unwrap();
}

fn revoke(targets: &mut Targets, content: &str) {
    author::revoke(targets, &Digest::of(content.as_bytes()), "found broken", start());
}

/// P3: what was taken back stays so, in the role itself and in those below it.
#[test]
fn a_revoked_digest_is_not_added_again_and_a_revocation_is_not_dropped() {
    let world = World::with_team();
    let add = |t: &mut Targets| {
        t.targets.insert("acme/app:v1".to_owned(), target("bad"));
    };
    world.submit(&[("targets--team", world.next("targets--team", add))]).unwrap();
    // The parent may revoke what the child lists, which the child must then drop.
    world.submit(&[("targets", world.next("targets", |t| revoke(t, "bad")))]).unwrap();
    world.refuses(&[("targets--team", world.next("targets--team", |_| {}))], Refused, "which was revoked");
    world.submit(&[("targets--team", world.next("targets--team", |t| t.targets.clear()))]).unwrap();
    world.refuses(&[("targets--team", world.next("targets--team", add))], Refused, "which was revoked");
    // In the role itself.
    world.refuses(&[("targets", world.next("targets", add))], Refused, "which was revoked");
    let dropped = world.next("targets", |t| identity(t).revocations.clear());
    world.refuses(&[("targets", dropped)], Refused, "the revocation of sha256:");
    let changed = world.next("targets", |t| identity(t).revocations[0].reason = "never mind".to_owned());
    world.refuses(&[("targets", changed)], Refused, "the revocation of sha256:");
}

#[test]
fn a_revocation_is_short_and_inside_of_the_scope_and_stays_when_the_scope_shrinks() {
    let world = World::with_team();
    let revocation = |paths: &[&str], reason: &str| Revocation {
        digest: None,
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        reason: reason.to_owned(),
        at: world.now,
        extra: BTreeMap::new(),
    };
    let with = |r: Revocation| world.next("targets--team", |t| identity(t).revocations.push(r));
    for outside in [&["acme/other:*"][..], &["*/*"], &["acme/app:*", "acme/*"], &["acme/app:[a]"]] {
        world.refuses(&[("targets--team", with(revocation(outside, "x")))], Refused, "outside of its scope");
    }
    let long = with(revocation(&["acme/app:*"], &"x".repeat(1001)));
    world.refuses(&[("targets--team", long)], Refused, "a reason of 1001 characters");
    world.submit(&[("targets--team", with(revocation(&["acme/app:*"], "x")))]).unwrap();
    let narrower = world.next("targets", |t| {
        t.delegations.as_mut().unwrap().roles[0].paths = Some(vec!["acme/app:v*".to_owned()]);
    });
    world.submit(&[("targets", narrower)]).unwrap();
    world.submit(&[("targets--team", world.next("targets--team", |_| {}))]).unwrap();
}

/// T50.
#[test]
fn unsigned_members_are_not_published() {
    let world = World::new();
    let bytes = replace(&world.next("targets", |_| {}), "{\"signatures\"", "{\"note\":1,\"signatures\"");
    world.refuses(&[("targets", bytes)], Refused, "unsigned member `note`");
}

/// T51, T54, T56.
#[test]
fn what_is_not_strict_json_or_not_a_document_is_malformed() {
    let world = World::new();
    let good = world.next("targets", |_| {});
    let twice = replace(&good, "{\"signatures\"", "{\"signed\":1,\"signatures\"");
    let trailing = [good.as_slice(), b"x"].concat();
    let floats = replace(&good, "\"version\":2", "\"version\":2e0");
    let typed = replace(&good, "\"_type\":\"targets\"", "\"_type\":\"root\"");
    for bad in [twice, trailing, floats, typed, vec![], b"[]".to_vec(), vec![0xff], b"{}".to_vec()] {
        world.refuses(&[("targets", bad)], Malformed, "targets");
    }
    let long = [good.as_slice(), &vec![b' '; 8 << 20]].concat();
    world.refuses(&[("targets", long)], TooLarge, "longer than");
    let root = [world.signed_root().as_slice(), &vec![b' '; 512 << 10]].concat();
    world.refuses(&[("root", root)], TooLarge, "longer than");
}

#[test]
fn signatures_of_other_keys_do_not_count() {
    let world = World::with_team();
    let bytes = sign(&world.edit("targets--team", |_| {}), &[&world.owner]);
    world.refuses(&[("targets--team", bytes)], Refused, "0 of 1 required signatures");
    let bytes = sign(&world.edit("targets", |_| {}), &[&world.team]);
    world.refuses(&[("targets", bytes)], Refused, "0 of 1 required signatures");
}

#[test]
fn more_than_64_documents_are_not_one_submission() {
    let world = World::new();
    let bytes = world.first_targets();
    let names: Vec<String> = (0..65).map(|n| format!("targets--r{n}")).collect();
    let documents: Vec<_> = names.iter().map(|name| (name.as_str(), bytes.clone())).collect();
    world.refuses(&documents, Malformed, "1 to 64 documents");
}

/// T60.
#[test]
fn role_names_that_nobody_delegates_to_are_refused_and_not_echoed_at_length() {
    let world = World::with_team();
    let bytes = world.next("targets--team", |_| {});
    let first = world.first("targets--x", &world.team);
    let long = format!("targets--{}", "x".repeat(1 << 20));
    for name in [
        "",
        "mirrors",
        "../x",
        "targets--",
        "targets----x",
        "team",
        "targets--\u{1b}[31m",
        "targets--team--",
        &long,
    ] {
        let why = world.submit(&[(name, first.clone())]).unwrap_err();
        assert_eq!(why.code, Refused, "{name:.40}: {}", why.message);
        world.refuses(&[(name, first.clone())], Refused, "");
    }
    world.refuses(&[("targets--other", bytes)], Refused, "version 2 where version 1 must follow");
    world.refuses(&[("targets--other", first)], Refused, "nobody delegates to a role `targets--other`");
}

/// The first root with `extra` among its keys, listed for `root`.
fn with_key(world: &World, id: KeyId, extra: &Key) -> Vec<u8> {
    let mut root = world.first_root();
    root.keys.insert(id.clone(), extra.clone());
    root.roles.get_mut("root").unwrap().keyids.push(id);
    sign(&root, &[&world.owner])
}

/// Made with openssl; nobody has its private part.
const P384: &str = "-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEv3UczGXfVsEQiNjpODRf7mAeT7PeVrbz
qH4ek+Ux5ydAXLA4nt2J8mFduXlgcBmToF4U80zb7rwbXpSsRWpILwQYznqItXQy
HJ7KOKj7L7VJnZ2/Afm35OJ6wa6hexta
-----END PUBLIC KEY-----
";

/// T59, T02.
#[test]
fn keys_are_strong_canonical_and_under_their_own_id() {
    let world = World::empty();
    let targets = || ("targets", world.first_targets());
    let refuses = |id: KeyId, key: &Key, why: &str| {
        world.refuses(&[("root", with_key(&world, id, key)), targets()], Refused, why);
    };
    let good = key();
    refuses(KeyId("00".repeat(32)), good.key(), "not listed under its own id");
    let mut zero = Key::new(&PublicKey::Ed25519([0; 32]));
    refuses(zero.id(), &zero, "weak ed25519 key");
    zero.keyval.insert("public".to_owned(), "ab".into());
    refuses(zero.id(), &zero, "not a valid ed25519 key");
    let mut off = vec![4; 65];
    off[64] = 5;
    let off = Key::new(&PublicKey::EcdsaP256(off));
    refuses(off.id(), &off, "weak ecdsa key");
    let typed = |keytype: &str, scheme: &str| Key {
        keytype: keytype.to_owned(),
        scheme: scheme.to_owned(),
        ..good.key().clone()
    };
    let unknown = typed("sphincs+", "shake");
    refuses(unknown.id(), &unknown, "not one that Plimsoll verifies");
    let rsa = typed("rsa", "rsassa-pss-sha256");
    refuses(rsa.id(), &rsa, "not a valid PEM key");
    let mut off = vec![4; 97];
    off[96] = 5;
    let off = Key::new(&PublicKey::EcdsaP384(off));
    refuses(off.id(), &off, "weak ecdsa key");
    let p384 = Key::new(&PublicKey::from_pem(P384).unwrap());
    refuses(p384.id(), &p384, "other TUF clients cannot read");
    let mut extra = good.key().clone();
    extra.extra.insert("note".to_owned(), 1.into());
    refuses(extra.id(), &extra, "members that do not belong");
    let mut private = good.key().clone();
    private.keyval.insert("private".to_owned(), "".into());
    refuses(private.id(), &private, "members that do not belong");
}

/// T02.
#[test]
fn one_key_under_two_ids_is_refused() {
    let world = World::empty();
    let ecdsa = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let mut hex = ecdsa.key().clone();
    let PublicKey::EcdsaP256(point) = ecdsa.public() else { panic!() };
    hex.keyval.insert("public".to_owned(), data_encoding::HEXLOWER.encode(point).into());
    assert_ne!(hex.id(), ecdsa.key_id());
    let mut root = world.first_root();
    let extra = BTreeMap::new();
    root.keys.extend([(hex.id(), hex.clone()), (ecdsa.key_id(), ecdsa.key().clone())]);
    let two = RoleKeys { keyids: vec![hex.id(), ecdsa.key_id()], threshold: 1, extra };
    root.roles.insert("targets".to_owned(), two);
    let documents = |root: &Root| [("root", sign(root, &[&world.owner])), ("targets", world.first_targets())];
    world.refuses(&documents(&root), Refused, "stands there twice");
}

/// T05.
#[test]
fn a_threshold_that_cannot_be_met_is_refused() {
    let world = World::new();
    for role in ["root", "targets"] {
        let root = world.next_root(|root| root.roles.get_mut(role).unwrap().threshold = 2);
        let why = if role == "root" { "1 of 2 required" } else { "cannot be met by 1 distinct keys" };
        world.refuses(&[("root", sign(&root, &[&world.owner]))], Refused, why);
    }
    // There are enough keys here, but clients do not verify as many signatures.
    let crowd = world.next_root(|root| {
        let keys = (1..=65).map(|n| Key::new(&PublicKey::Ed25519([n; 32])));
        let keys: BTreeMap<_, _> = keys.map(|key| (key.id(), key)).collect();
        let targets = root.roles.get_mut("targets").unwrap();
        (targets.keyids, targets.threshold) = (keys.keys().cloned().collect(), 65);
        root.keys.extend(keys);
    });
    let crowd = [("root", sign(&crowd, &[&world.owner]))];
    world.refuses(&crowd, Refused, "threshold 65 cannot be met by 64 distinct keys");
    let zero = world.next_root(|root| root.roles.get_mut("targets").unwrap().threshold = 0);
    world.refuses(&[("root", sign(&zero, &[&world.owner]))], Malformed, "threshold 0");
}

#[test]
fn example_keys_are_refused_however_they_are_spelled() {
    let mut world = World::empty();
    let example = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    world.setup.refused_keys.insert(example.key_id());
    let mut hex = example.key().clone();
    let PublicKey::EcdsaP256(point) = example.public() else { panic!() };
    hex.keyval.insert("public".to_owned(), data_encoding::HEXLOWER.encode(point).into());
    for key in [example.key(), &hex] {
        let root = with_key(&world, key.id(), key);
        world.refuses(&[("root", root), ("targets", world.first_targets())], Refused, "example key");
    }
}
