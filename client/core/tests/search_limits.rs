//! The search through delegations is bounded, whatever the documents say.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod simulator;

use plimsoll_core::tuf::{DelegatedRole, Error, MAX_DEPTH, MAX_ROLE_NAME, MAX_ROLES, Outcome, limit};
use simulator::*;

/// A repository where each of `names` delegates to the next, `targets` to the first, all for any name of two segments.
fn chain(names: &[String]) -> Repository {
    let mut repository = Repository::new();
    let key = Signer::ed25519(60);
    // Typed and put once each: `delegate` would sign every role twice.
    repository.delegate("targets", &names[0], &key, &["*/*"]);
    let link = delegations(repository.roles.get_mut("targets").unwrap()).clone();
    for pair in names.windows(2) {
        let mut document = targets();
        document.delegations = Some(link.clone());
        delegations(&mut document).roles[0].name.clone_from(&pair[1]);
        repository.signers.insert(pair[0].clone(), vec![key.clone()]);
        repository.roles.insert(pair[0].clone(), document);
        repository.put(&pair[0]);
    }
    repository.add_role(names.last().unwrap(), &key);
    repository
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (1..=count).map(|i| format!("{prefix}{i}")).collect()
}

fn absent(client: &mut Client, repository: &Repository, name: &str) -> bool {
    matches!(client.update(repository, name), Ok(Outcome::Absent { .. }))
}

/// T36: eight levels are followed, the ninth is beyond the limit, and a chain of ten thousand costs no more.
#[test]
fn depth_is_limited() {
    for (depth, found) in [(MAX_DEPTH, true), (MAX_DEPTH + 1, false), (10_000, false)] {
        let roles = names("r", depth);
        let mut repository = chain(&roles);
        repository.list(roles.last().unwrap(), NAME, "image");
        repository.publish();
        let mut client = Client::new(&repository);
        if found {
            client.finds(&repository, NAME);
        } else {
            let error = client.refusal(&repository, NAME);
            assert!(matches!(error, Error::SearchLimit { ref role, .. } if role == "r9"), "{error}");
        }
        assert!(client.requests.len() <= MAX_DEPTH + 4, "{}", client.requests.len());
    }
}

/// T36: 32 roles are asked; a name that needs more is not absent but unknown.
#[test]
fn the_number_of_roles_is_limited() {
    for (siblings, complete) in [(MAX_ROLES - 1, true), (MAX_ROLES, false)] {
        let mut repository = Repository::new();
        for name in names("r", siblings) {
            repository.delegate("targets", &name, &Signer::ed25519(60), &["acme/*"]);
        }
        repository.publish();
        let mut client = Client::new(&repository);
        if complete {
            assert!(absent(&mut client, &repository, NAME));
        } else {
            let error = client.refusal(&repository, NAME);
            assert!(matches!(error, Error::SearchLimit { limit: "32 roles", .. }), "{error}");
        }
        assert_eq!(client.requests.len(), 3 + MAX_ROLES);
    }
}

/// `targets` with `count` delegations of `acme/*`, of which the first forty roles exist: `r0` to `r39`.
fn fan_out(count: usize) -> Repository {
    let key = Signer::ed25519(60);
    let mut repository = Repository::new();
    repository.delegate("targets", "r0", &key, &["acme/*"]);
    repository.edit("targets", |targets| {
        let roles = &mut delegations(targets).roles;
        for i in 1..count {
            roles.push(DelegatedRole { name: format!("r{i}"), ..roles[0].clone() });
        }
    });
    for i in 1..40 {
        repository.add_role(&format!("r{i}"), &key);
    }
    repository
}

/// T36: ten thousand delegations that all match are bounded in time and requests.
#[test]
fn a_wide_fan_out_is_bounded() {
    let mut repository = fan_out(10_000);
    repository.publish();
    let mut client = Client::new(&repository);
    let error = client.refusal(&repository, NAME);
    // `targets` and r0 to r30 are 32 roles.
    assert!(
        matches!(error, Error::SearchLimit { ref role, limit: "32 roles", .. } if role == "r31"),
        "{error}"
    );
    assert_eq!(client.requests.len(), 3 + MAX_ROLES);
    assert!(client.update(&repository, "other/app:v1").is_ok());
    assert_eq!(*client.requests.last().unwrap(), repository.file("targets"), "out of scope, none is asked");
}

/// T36, T33: a terminating delegation beyond the limit changes nothing, one within it ends the walk in time.
#[test]
fn the_limit_and_terminating_delegations_agree() {
    for (terminating, absent) in [("r30", true), ("r31", false), ("r9999", false)] {
        let mut repository = fan_out(10_000);
        repository.edit_delegation("targets", terminating, |role| role.terminating = true);
        repository.publish();
        let outcome = Client::new(&repository).update(&repository, NAME);
        let complete = matches!(outcome, Ok(Outcome::Absent { .. }));
        let limited = matches!(outcome, Err(Failure::Refused(Error::SearchLimit { .. })));
        assert_eq!((complete, limited), (absent, !absent), "{terminating}: {outcome:?}");
    }
}

/// T36: roles that were visited do not count against a role that names them all again.
#[test]
fn a_wide_diamond_is_walked_to_its_end() {
    let key = Signer::ed25519(60);
    let mut repository = fan_out(20);
    // r19 names all that were visited, forty that exist nowhere but outside of the name's scope, and one new role.
    for i in 0..19 {
        repository.delegate("r19", &format!("r{i}"), &key, &["acme/*"]);
    }
    for i in 0..40 {
        repository.delegate("r19", &format!("elsewhere{i}"), &key, &["other/*"]);
    }
    repository.delegate("r19", "last", &key, &["acme/*"]);
    repository.list("last", NAME, "image");
    repository.publish();
    let mut client = Client::new(&repository);
    let Ok(Outcome::Found(found)) = client.update(&repository, NAME) else { panic!() };
    assert_eq!(found.path, ["targets", "r19", "last"]);
    assert_eq!(client.requests.len(), 3 + 1 + 20 + 1);
}

/// T36: a full binary tree of delegations, where what waits is never more than the limits.
#[test]
fn a_tree_is_walked_up_to_the_limit() {
    let key = Signer::ed25519(60);
    let mut repository = Repository::new();
    for i in 1..64 {
        let parent = if i == 1 { "targets".to_owned() } else { format!("n{}", i / 2) };
        repository.delegate(&parent, &format!("n{i}"), &key, &["acme/*"]);
    }
    repository.publish();
    let mut client = Client::new(&repository);
    let error = client.refusal(&repository, NAME);
    assert!(matches!(error, Error::SearchLimit { limit: "32 roles", .. }), "{error}");
    assert_eq!(client.requests.len(), 3 + MAX_ROLES);
    let asked: std::collections::BTreeSet<_> = client.requests.iter().collect();
    assert_eq!(asked.len(), client.requests.len(), "none is asked twice");
}

/// T36, T41: as many patterns as fit into the largest document there may be, each made to be costly, for a name that
/// none of them covers; one byte more is refused unread.
#[test]
fn patterns_up_to_the_size_limit_are_bounded() {
    let key = Signer::ed25519(60);
    for (count, pattern) in [(10_000, "acme/*aaaaaaaaab*"), (1, "acme/*a?a*a?a*ab")] {
        let mut repository = Repository::new();
        repository.delegate("targets", "r0", &key, &[]);
        // Keys and names of a delegation take some 150 bytes, what stands around the delegations some 700.
        let room = usize::try_from(limit::TARGETS).unwrap() / count - 150 - 700 / count;
        repository.edit("targets", |targets| {
            let role = delegations(targets).roles.remove(0);
            let paths = Some(vec![pattern.to_owned(); room / (pattern.len() + 3)]);
            let named = |i| DelegatedRole { name: format!("r{i}"), paths: paths.clone(), ..role.clone() };
            delegations(targets).roles = (0..count).map(named).collect();
        });
        let size = repository.bytes("targets").len() as u64;
        assert!((limit::TARGETS / 100 * 95..=limit::TARGETS).contains(&size), "{count}: {size} bytes");
        repository.publish();
        let name = format!("acme/{}", "a".repeat(250));
        let mut client = Client::new(&repository);
        let outcome = client.update(&repository, &name);
        assert!(matches!(outcome, Ok(Outcome::Absent { .. })), "{outcome:?}");
        let mut long = repository.bytes("targets").to_vec();
        long.resize(usize::try_from(limit::TARGETS).unwrap() + 1, b' ');
        repository.files.insert(repository.file("targets"), long.clone());
        repository.publish_snapshot(|snapshot| {
            snapshot.meta.get_mut("targets.json").unwrap().hashes = None;
            snapshot.meta.get_mut("targets.json").unwrap().length = None;
        });
        assert!(matches!(client.refusal(&repository, &name), Error::TooLong { .. }));
    }
}

/// T36: the name of a role is repeated with each revocation that is found on the way, so it is bounded as well.
#[test]
fn a_role_of_endless_name_is_not_followed() {
    for (length, followed) in
        [(300, true), (MAX_ROLE_NAME, true), (MAX_ROLE_NAME + 1, false), (1_000_000, false)]
    {
        let role = "r".repeat(length);
        let mut repository = Repository::new();
        repository.delegate("targets", &role, &Signer::ed25519(60), &["acme/*"]);
        repository.list(&role, NAME, "image");
        repository.publish();
        let mut client = Client::new(&repository);
        if followed {
            client.finds(&repository, NAME);
        } else {
            let error = client.refusal(&repository, NAME);
            assert!(matches!(error, Error::SearchLimit { limit: "512 bytes in a role's name", .. }));
            assert!(error.to_string().len() < 300);
            assert_eq!(client.requests.len(), 4);
        }
    }
}
