//! Delegations by the hash of the name: `path_hash_prefixes` (TUF 1.0.34, 4.5) and succinct bins (TAP 15).

mod simulator;

use plimsoll_core::{
    oci::Digest,
    tuf::{Error, Outcome, SuccinctRoles, metadata::RoleKeysOnly},
};
use simulator::*;

fn digest(content: &str) -> Digest {
    Digest::of(content.as_bytes())
}

/// T39: prefixes of the sha256 of the name, in lower-case hex.
#[test]
fn path_hash_prefixes_are_followed() {
    let hash = digest(NAME).hex();
    for (prefixes, found) in [
        (vec![hash[..2].to_owned()], true),
        (vec!["zz".to_owned(), hash.clone()], true),
        (vec![hash[..1].to_owned()], true),
        (vec![hash[..33].to_owned()], true),
        (vec![], false),
        // Nothing is a prefix of every digest, but says no digest.
        (vec![String::new()], false),
        (vec![hash[1..].to_owned()], false),
        (vec![format!(" {}", &hash[..2])], false),
        (vec![hash.to_uppercase()], false),
        // As the motivation of TAP 15 spells them, and as nobody reads them.
        (vec![format!("{}*", &hash[..2]), "*".to_owned(), "?".to_owned()], false),
        (vec![format!("{hash}0")], false),
    ] {
        let mut repository = Repository::with_team();
        repository.edit_delegation("targets", "team", |team| {
            team.paths = None;
            team.path_hash_prefixes = Some(prefixes);
        });
        repository.publish();
        let outcome = Client::new(&repository).update(&repository, NAME).unwrap();
        assert_eq!(matches!(outcome, Outcome::Found(_)), found);
    }
}

fn bins(bit_length: u32, signer: &Signer) -> SuccinctRoles {
    SuccinctRoles {
        keys: RoleKeysOnly { keyids: vec![signer.id.clone()], threshold: 1 },
        bit_length,
        name_prefix: "bin".to_owned(),
        extra: std::collections::BTreeMap::new(),
    }
}

/// TAP 15: the leading bits of the hash choose the bin; its name has the width of the largest.
#[test]
fn succinct_bins_are_followed() {
    let key = Signer::ed25519(60);
    let hash = digest(NAME).hex();
    let leading = u64::from_str_radix(&hash[..8], 16).unwrap();
    for bit_length in [1, 3, 4, 5, 8, 9, 16, 31, 32] {
        let number = leading >> (32 - bit_length);
        let width = format!("{:x}", (1u64 << bit_length) - 1).len();
        let bin = format!("bin-{number:0width$x}");
        let mut repository = Repository::new();
        repository.edit("targets", |targets| {
            let delegations = delegations(targets);
            delegations.keys.insert(key.id.clone(), key.key.clone());
            delegations.succinct_roles = Some(bins(bit_length, &key));
        });
        repository.add_role(&bin, &key);
        repository.list(&bin, NAME, "image");
        repository.publish();
        Client::new(&repository).finds(&repository, NAME);
        // Signed by another key, the bin vouches for nothing.
        repository.signers.insert(bin.clone(), vec![Signer::ed25519(61)]);
        repository.edit(&bin, |_| ());
        repository.publish();
        assert!(matches!(Client::new(&repository).refusal(&repository, NAME), Error::Threshold { .. }));
    }
}

/// T39: a bin terminates, as python-tuf and go-tuf have it: what it does not list is nobody else's to list.
#[test]
fn succinct_bins_terminate() {
    let key = Signer::ed25519(60);
    let mut repository = Repository::new();
    repository.delegate("targets", "hashed", &key, &["acme/*"]);
    repository.delegate("targets", "later", &key, &["acme/*"]);
    repository.list("later", NAME, "image");
    repository.edit("hashed", |hashed| {
        let delegations = delegations(hashed);
        delegations.keys.insert(key.id.clone(), key.key.clone());
        delegations.succinct_roles = Some(bins(1, &key));
    });
    repository.add_role("bin-0", &key);
    repository.add_role("bin-1", &key);
    repository.publish();
    let mut client = Client::new(&repository);
    assert!(matches!(client.update(&repository, NAME), Ok(Outcome::Absent { .. })));
    assert!(client.requests.last().unwrap().starts_with("1.bin-"), "{:?}", client.requests);
    // Names that `hashed` may not speak about are no bin's either.
    repository.list("targets", "other/app:v1", "image");
    repository.list("later", "other/lib:v1", "out of scope");
    repository.publish();
    client.finds(&repository, "other/app:v1");
    assert!(matches!(client.update(&repository, "other/lib:v1"), Ok(Outcome::Absent { .. })));
    assert_eq!(*client.requests.last().unwrap(), repository.file("targets"));
}

/// T39: a bin holds names of every namespace under the scope of its delegator, and no others.
#[test]
fn a_bin_vouches_for_nothing_outside_of_its_delegators_scope() {
    let key = Signer::ed25519(60);
    for succinct in [true, false] {
        let mut repository = Repository::with_team();
        let bin = if succinct {
            let number = u8::from_str_radix(&digest("other/app:v1").hex()[..1], 16).unwrap() >> 3;
            format!("bin-{number}")
        } else {
            "bin".to_owned()
        };
        repository.edit("team", |team| {
            let delegations = delegations(team);
            delegations.keys.insert(key.id.clone(), key.key.clone());
            if succinct {
                delegations.succinct_roles = Some(bins(1, &key));
            }
        });
        if succinct {
            repository.add_role(&bin, &key);
        } else {
            repository.delegate("team", &bin, &key, &[]);
            repository.edit_delegation("team", &bin, |role| {
                role.paths = None;
                role.path_hash_prefixes = Some((0..16).map(|digit| format!("{digit:x}")).collect());
            });
        }
        repository.list(&bin, "other/app:v1", "forged");
        repository.publish();
        let outcome = Client::new(&repository).update(&repository, "other/app:v1");
        assert!(matches!(outcome, Ok(Outcome::Absent { .. })), "{outcome:?}");
    }
}

/// T58.
#[test]
fn succinct_bins_of_no_or_too_many_bits_are_refused() {
    for bit_length in [0, 33, u32::MAX] {
        let key = Signer::ed25519(60);
        let mut repository = Repository::new();
        repository
            .edit("targets", |targets| delegations(targets).succinct_roles = Some(bins(bit_length, &key)));
        repository.publish();
        assert!(matches!(Client::new(&repository).refusal(&repository, NAME), Error::Invalid { .. }));
    }
}

/// T58: a number of bits is a whole number, a prefix is text, and an empty one is a prefix.
#[test]
fn succinct_bins_that_mean_nothing_are_refused() {
    use serde_json::json;
    let key = Signer::ed25519(60);
    let good = json!({"keyids": [key.id], "threshold": 1, "bit_length": 4, "name_prefix": "bin"});
    let wrong = [
        ("bit_length", json!(-1)),
        ("bit_length", json!("4")),
        ("bit_length", json!(4_294_967_297_u64)),
        ("bit_length", json!(null)),
        ("name_prefix", json!(null)),
        ("name_prefix", json!(7)),
        ("threshold", json!(0)),
        ("keyids", json!("bin")),
    ];
    for (member, value) in wrong.into_iter().chain([("name_prefix", json!(""))]) {
        let mut repository = Repository::new();
        let mut succinct = good.clone();
        succinct[member] = value.clone();
        let bytes = forge(repository.bytes("targets"), &repository.signers["targets"], |targets| {
            targets["delegations"] = json!({"keys": {}, "succinct_roles": succinct});
        });
        repository.files.insert(repository.file("targets"), bytes.clone());
        repository.publish();
        let mut trusted = Client::new(&repository).refresh(&repository).unwrap();
        let outcome = trusted.update_targets("targets", "root", &bytes);
        if value == json!("") {
            outcome.unwrap();
        } else {
            let error = outcome.unwrap_err();
            assert!(
                matches!(error, Error::Shape { .. } | Error::Invalid { .. }),
                "{member} {value}: {error}"
            );
            assert!(trusted.role("targets").is_none());
        }
    }
}

/// T58: a role that only looks like a bin is not delegated.
#[test]
fn only_exact_bin_names_are_delegated() {
    let key = Signer::ed25519(60);
    let mut repository = Repository::new();
    repository.edit("targets", |targets| {
        let delegations = delegations(targets);
        delegations.keys.insert(key.id.clone(), key.key.clone());
        delegations.succinct_roles = Some(bins(5, &key));
    });
    let wrong = ["bin-20", "bin-0", "bin-001", "bin-0A", "bin-+1", "bin", "bin-", "bin--1", "bin-0g"];
    for role in wrong.iter().chain(&["bin-1f"]) {
        repository.add_role(role, &key);
    }
    repository.publish();
    let mut trusted = Client::new(&repository).refresh(&repository).unwrap();
    trusted.update_targets("targets", "root", repository.bytes("targets")).unwrap();
    for role in wrong {
        let error = trusted.update_targets(role, "targets", repository.bytes(role)).unwrap_err();
        assert!(matches!(error, Error::NotDelegated { .. }), "{role}: {error}");
    }
    trusted.update_targets("bin-1f", "targets", repository.bytes("bin-1f")).unwrap();
}
