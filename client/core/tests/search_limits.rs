//! The search through delegations is bounded, whatever the documents say.

mod simulator;

use plimsoll_core::tuf::{Error, MAX_DEPTH, MAX_ROLES, Outcome};
use simulator::*;

/// A repository where each of `chain` delegates to the next, `targets` to the first, all for any name of two segments.
fn chain(names: &[String]) -> Repository {
    let mut repository = Repository::new();
    let key = Signer::ed25519(60);
    let mut parent = "targets";
    for name in names {
        repository.delegate(parent, name, &key, &["*/*"]);
        parent = name;
    }
    repository
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (1..=count).map(|i| format!("{prefix}{i}")).collect()
}

fn absent(client: &mut Client, repository: &Repository, name: &str) -> bool {
    matches!(client.update(repository, name), Ok(Outcome::Absent { .. }))
}

/// T36: eight levels are followed, the ninth is beyond the limit, and a chain of a thousand costs no more.
#[test]
fn depth_is_limited() {
    for (depth, found) in [(MAX_DEPTH, true), (MAX_DEPTH + 1, false), (1_000, false)] {
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

/// T36: ten thousand delegations that all match are bounded in time and requests.
#[test]
fn a_wide_fan_out_is_bounded() {
    let key = Signer::ed25519(60);
    let mut repository = Repository::new();
    repository.delegate("targets", "r0", &key, &["acme/*"]);
    repository.edit("targets", |targets| {
        let roles = &mut delegations(targets).roles;
        for i in 1..10_000 {
            roles.push(plimsoll_core::tuf::DelegatedRole { name: format!("r{i}"), ..roles[0].clone() });
        }
    });
    for i in 1..40 {
        repository.add_role(&format!("r{i}"), &key);
    }
    repository.publish();
    let mut client = Client::new(&repository);
    assert!(matches!(client.refusal(&repository, NAME), Error::SearchLimit { .. }));
    assert_eq!(client.requests.len(), 3 + MAX_ROLES);
}
