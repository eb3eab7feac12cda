//! Delegations: scope, order, and how little one namespace can do to another.

mod simulator;

use plimsoll_core::{
    oci::Digest,
    tuf::{Error, Outcome, Recall, Revocation, Search, Step, TakenBack},
};
use simulator::*;

fn digest(content: &str) -> Digest {
    Digest::of(content.as_bytes())
}

fn absent(client: &mut Client, repository: &Repository, name: &str) -> bool {
    matches!(client.update(repository, name), Ok(Outcome::Absent { .. }))
}

/// P4: only roles on the way to the name are asked for.
#[test]
fn roles_outside_the_names_path_are_never_requested() {
    let mut repository = Repository::with_team();
    for i in 0..20 {
        repository.delegate(
            "targets",
            &format!("other{i}"),
            &Signer::ed25519(60),
            &[&format!("acme/other{i}:*")],
        );
    }
    repository.publish();
    let mut client = Client::new(&repository);
    client.finds(&repository, NAME);
    let expected = [
        "2.root.json".to_owned(),
        "timestamp.json".to_owned(),
        repository.file("snapshot"),
        repository.file("targets"),
        repository.file("team"),
    ];
    assert_eq!(client.requests, expected);
}

/// T16, T30, T37: an expired, garbled, wrongly signed or missing role ends the search for names in its scope only,
/// wherever it stands among its siblings, and leaves no trace in what is trusted.
#[test]
fn a_broken_role_hurts_its_own_namespace_only() {
    type Break = fn(&mut Repository);
    type Seen = fn(&Failure) -> bool;
    fn unhashed(repository: &mut Repository, bytes: Vec<u8>) {
        repository.files.insert(repository.file("other"), bytes);
        repository.publish_snapshot(|snapshot| {
            let meta = snapshot.meta.get_mut("other.json").unwrap();
            (meta.hashes, meta.length) = (None, None);
        });
    }
    let cases: [(Break, Seen); 9] = [
        (
            |repository| {
                repository.edit("other", |other| other.common.expires = now());
                repository.publish();
            },
            |failure| matches!(failure, Failure::Refused(Error::Expired { .. })),
        ),
        (
            |repository| drop(repository.files.insert(repository.file("other"), b"<html>".to_vec())),
            |failure| matches!(failure, Failure::Refused(Error::Length { .. })),
        ),
        (
            |repository| {
                let mut bytes = repository.bytes("other").to_vec();
                *bytes.last_mut().unwrap() = b' ';
                repository.files.insert(repository.file("other"), bytes);
            },
            |failure| matches!(failure, Failure::Refused(Error::Hash { .. })),
        ),
        (
            |repository| unhashed(repository, b"<html>".to_vec()),
            |failure| matches!(failure, Failure::Refused(Error::Json { .. })),
        ),
        (
            |repository| unhashed(repository, repository.files["timestamp.json"].clone()),
            |failure| matches!(failure, Failure::Refused(Error::Shape { .. } | Error::Invalid { .. })),
        ),
        (
            |repository| unhashed(repository, repository.bytes("team").to_vec()),
            |failure| matches!(failure, Failure::Refused(Error::Threshold { .. })),
        ),
        (
            |repository| {
                repository.signers.insert("other".to_owned(), vec![Signer::ed25519(99)]);
                repository.edit("other", |_| ());
                repository.publish();
            },
            |failure| matches!(failure, Failure::Refused(Error::Threshold { .. })),
        ),
        (
            |repository| drop(repository.files.remove(&repository.file("other"))),
            |failure| matches!(failure, Failure::Missing(_)),
        ),
        (
            |repository| {
                // Delegated to, never published.
                repository.roles.remove("other");
                repository.snapshot.meta.remove("other.json");
                repository.publish();
            },
            |failure| matches!(failure, Failure::Refused(Error::NotInSnapshot { .. })),
        ),
    ];
    for (spoil, seen) in cases {
        for first in [true, false] {
            let mut repository = Repository::with_team();
            repository.delegate("targets", "other", &Signer::ed25519(60), &["acme/other:*"]);
            repository.delegate("team", "team--ci", &Signer::ed25519(60), &["acme/app:ci-*"]);
            repository.list("team--ci", "acme/app:ci-1", "nightly");
            repository.list("other", "acme/other:v1", "other");
            if first {
                repository.edit("targets", |targets| delegations(targets).roles.reverse());
            }
            repository.publish();
            spoil(&mut repository);
            let mut client = Client::new(&repository);
            assert_eq!(client.finds(&repository, NAME), digest("image"));
            assert_eq!(client.finds(&repository, "acme/app:ci-1"), digest("nightly"));
            assert!(absent(&mut client, &repository, "acme/none:v1"));
            let mut trusted = client.refresh(&repository).unwrap();
            let memory = trusted.memory().clone();
            let failure = client.search(&repository, &mut trusted, "acme/other:v1").unwrap_err();
            assert!(seen(&failure), "{failure:?}");
            assert!(trusted.role("other").is_none() && *trusted.memory() == memory);
            // In the same run as well, names of others are still found.
            assert!(matches!(client.search(&repository, &mut trusted, NAME), Ok(Outcome::Found(_))));
        }
    }
}

/// T16, T30, T37: what a role lists itself stands, though a role below it is broken; so do names of its other children.
#[test]
fn a_broken_child_does_not_hurt_its_parent() {
    let mut repository = Repository::with_team();
    repository.delegate("team", "team--old", &Signer::ed25519(60), &["acme/app:old-*"]);
    repository.delegate("team", "team--ci", &Signer::ed25519(60), &["acme/app:*"]);
    repository.list("team--old", "acme/app:old-1", "old");
    repository.list("team--ci", "acme/app:ci-1", "nightly");
    repository.edit("team--old", |old| old.common.expires = now());
    repository.publish();
    let mut client = Client::new(&repository);
    assert_eq!(client.finds(&repository, NAME), digest("image"));
    assert_eq!(client.finds(&repository, "acme/app:ci-1"), digest("nightly"));
    let error = client.refusal(&repository, "acme/app:old-1");
    assert!(matches!(error, Error::Expired { ref role, .. } if role == "team--old"), "{error}");
}

/// P8: a role that may speak about the name and cannot be read is never passed over for the next one.
#[test]
fn a_broken_role_is_not_passed_over_for_a_later_one() {
    let mut repository = Repository::with_team();
    repository.delegate("targets", "later", &Signer::ed25519(60), &["acme/*"]);
    repository.list("later", NAME, "other image");
    repository.edit("team", |team| team.common.expires = now());
    repository.publish();
    let error = Client::new(&repository).refusal(&repository, NAME);
    assert!(matches!(error, Error::Expired { ref role, .. } if role == "team"), "{error}");
}

/// T32, T34: pre-order, first match: `targets` itself, then the first child and all below it, then the second.
#[test]
fn the_walk_is_in_pre_order() {
    let mut repository = Repository::new();
    for (parent, child) in
        [("targets", "a"), ("targets", "b"), ("a", "a--1"), ("a", "a--2"), ("a--1", "a--1--x")]
    {
        repository.delegate(parent, child, &Signer::ed25519(60), &["acme/app:*"]);
    }
    let order = ["targets", "a", "a--1", "a--1--x", "a--2", "b"];
    // From last to first: whoever lists the name before the others wins, and nobody after it is asked.
    for (at, role) in order.iter().enumerate().rev() {
        repository.list(role, NAME, role);
        repository.publish();
        let mut client = Client::new(&repository);
        assert_eq!(client.finds(&repository, NAME), digest(role));
        let asked: Vec<_> = client.requests[3..].iter().map(|file| file.split('.').nth(1).unwrap()).collect();
        assert_eq!(asked, order[..=at]);
    }
}

/// T32, T33, T35: the delegation graphs of the published conformance suite, `>` a terminating delegation, `~` one whose
/// patterns do not match: roles are asked in its order, each once.
#[test]
fn the_published_graphs_are_walked_in_the_published_order() {
    for (graph, order) in [
        ("targets-A", "A"),
        ("targets-A targets-B", "A B"),
        ("targets-A targets-B B-C", "A B C"),
        ("targets-A targets-B A-C A-D", "A C D B"),
        ("targets-A targets-B A-C C-D", "A C D B"),
        ("targets-A targets-B A>C A-D", "A C"),
        ("targets-A targets-B A>C C-D", "A C D"),
        ("targets~A targets-B A-C", "B"),
        ("targets-A targets-B A~C C-D", "A B"),
        ("targets-A targets-B B-C C-D D-B", "A B C D"),
        ("targets-A targets-B B-C A-C", "A C B"),
        ("targets-A targets-B B-C A~C", "A B C"),
        // Beyond the suite: a role that delegates to itself, and to one that comes again further up.
        ("targets-A A-A A-B B-B B-A targets-B targets-C", "A B C"),
        ("targets-A targets-B A-B B>C B-D targets-D", "A B C"),
        ("targets>A targets-B A-C", "A C"),
        ("targets~A targets>B targets-C", "B"),
    ] {
        let key = Signer::ed25519(60);
        let mut repository = Repository::new();
        for edge in graph.split(' ') {
            let (parent, child) = edge.split_once(['-', '>', '~']).unwrap();
            let paths = if edge.contains('~') { ["*.py"] } else { ["*"] };
            repository.delegate(parent, child, &key, &paths);
            let terminating = edge.contains('>');
            repository.edit_delegation(parent, child, |delegated| delegated.terminating = terminating);
        }
        repository.publish();
        let mut client = Client::new(&repository);
        assert!(absent(&mut client, &repository, "missingpath"), "{graph}");
        let asked: Vec<_> = client.requests[4..].iter().map(|file| file.split('.').nth(1).unwrap()).collect();
        assert_eq!(asked.join(" "), order, "{graph}");
    }
}

/// T32, T34: where patterns overlap, the order of the delegations decides, not which pattern says more.
#[test]
fn of_overlapping_patterns_the_first_wins() {
    for wide_first in [true, false] {
        let mut repository = Repository::new();
        for (role, paths) in [("wide", ["acme/*"]), ("narrow", ["acme/app:v1"])] {
            repository.delegate("targets", role, &Signer::ed25519(60), &paths);
            repository.list(role, NAME, role);
        }
        repository.list("wide", "acme/app:v2", "wide");
        if !wide_first {
            repository.edit("targets", |targets| delegations(targets).roles.reverse());
        }
        repository.publish();
        let mut client = Client::new(&repository);
        let winner = if wide_first { "wide" } else { "narrow" };
        assert_eq!(client.finds(&repository, NAME), digest(winner));
        assert!(client.requests.last().unwrap().contains(winner) && client.requests.len() == 5);
        assert_eq!(client.finds(&repository, "acme/app:v2"), digest("wide"));
    }
}

/// The path of what was found is the chain of delegations, not the order of the walk.
#[test]
fn the_path_of_a_finding_is_its_chain_of_delegations() {
    let mut repository = Repository::new();
    for (parent, child) in [("targets", "a"), ("targets", "b"), ("b", "b--1")] {
        repository.delegate(parent, child, &Signer::ed25519(60), &["acme/app:*"]);
    }
    repository.list("b--1", NAME, "image");
    repository.publish();
    let Ok(Outcome::Found(found)) = Client::new(&repository).update(&repository, NAME) else { panic!() };
    assert_eq!(found.path, ["targets", "b", "b--1"]);
}

/// T33: siblings and the siblings of every ancestor are cut off, though the role itself lists nothing.
#[test]
fn a_terminating_delegation_ends_the_walk_at_every_depth() {
    for (parent, role) in [("targets", "a"), ("a", "a--1"), ("a--1", "a--1--x")] {
        let mut repository = Repository::new();
        for (parent, child) in [
            ("targets", "a"),
            ("a", "a--1"),
            ("a--1", "a--1--x"),
            ("a--1", "a--1--y"),
            ("a", "a--2"),
            ("targets", "b"),
        ] {
            repository.delegate(parent, child, &Signer::ed25519(60), &["acme/app:*"]);
        }
        for later in ["a--1--y", "a--2", "b"].iter().filter(|later| !later.starts_with(&format!("{role}--")))
        {
            repository.list(later, NAME, "not this one");
        }
        repository.edit_delegation(parent, role, |delegated| delegated.terminating = true);
        repository.publish();
        assert!(absent(&mut Client::new(&repository), &repository, NAME), "{role}");
        // For a name that it does not cover, a terminating delegation ends nothing.
        repository
            .edit_delegation(parent, role, |delegated| delegated.paths = Some(vec!["acme/x".to_owned()]));
        repository.publish();
        Client::new(&repository).finds(&repository, NAME);
    }
}

/// T33: what a terminating role delegates to is still asked.
#[test]
fn below_a_terminating_role_the_walk_goes_on() {
    let mut repository = Repository::with_team();
    repository.edit("team", |team| team.targets.clear());
    repository.delegate("team", "team--ci", &Signer::ed25519(60), &["acme/app:*"]);
    repository.list("team--ci", NAME, "image");
    repository.edit_delegation("targets", "team", |team| team.terminating = true);
    repository.publish();
    Client::new(&repository).finds(&repository, NAME);
}

/// T33: a terminating role that is missing is not passed over either: not at hand, or in no snapshot.
#[test]
fn a_missing_terminating_role_does_not_open_the_way_to_others() {
    for listed in [true, false] {
        let mut repository = Repository::with_team();
        repository.delegate("targets", "later", &Signer::ed25519(60), &["acme/*"]);
        repository.list("later", NAME, "other image");
        repository.edit_delegation("targets", "team", |team| team.terminating = true);
        repository.files.remove(&repository.file("team"));
        let team = repository.roles.remove("team").unwrap();
        if listed {
            repository.snapshot.meta.get_mut("team.json").unwrap().version = team.common.version;
        } else {
            repository.snapshot.meta.remove("team.json");
        }
        repository.publish();
        let mut client = Client::new(&repository);
        let failure = client.update(&repository, NAME).unwrap_err();
        if listed {
            assert!(matches!(failure, Failure::Missing(_)), "{failure:?}");
        } else {
            assert!(matches!(failure, Failure::Refused(Error::NotInSnapshot { .. })), "{failure:?}");
            assert!(!client.requests.iter().any(|file| file.contains("team")), "{:?}", client.requests);
        }
        assert!(!client.requests.iter().any(|file| file.contains("later")), "{:?}", client.requests);
    }
}

/// T31: a role that the snapshot does not name is neither fetched nor, when its bytes are at hand, trusted; with it,
/// nothing that only it leads to.
#[test]
fn a_role_that_no_snapshot_names_is_not_trusted() {
    let mut repository = Repository::with_team();
    repository.delegate("team", "team--ci", &Signer::ed25519(60), &["acme/app:*"]);
    repository.list("team--ci", "acme/app:ci-1", "nightly");
    repository.publish();
    let (team, ci) = (repository.bytes("team").to_vec(), repository.bytes("team--ci").to_vec());
    repository.publish_snapshot(|snapshot| drop(snapshot.meta.remove("team.json")));
    let mut client = Client::new(&repository);
    assert!(matches!(client.refusal(&repository, NAME), Error::NotInSnapshot { ref role } if role == "team"));
    assert_eq!(*client.requests.last().unwrap(), repository.file("targets"));
    let mut trusted = client.refresh(&repository).unwrap();
    trusted.update_targets("targets", "root", repository.bytes("targets")).unwrap();
    let error = trusted.update_targets("team", "targets", &team).unwrap_err();
    assert!(matches!(error, Error::NotInSnapshot { ref role } if role == "team"), "{error}");
    let error = trusted.update_targets("team--ci", "team", &ci).unwrap_err();
    assert!(matches!(error, Error::NotDelegated { ref role, .. } if role == "team--ci"), "{error}");
    assert!(trusted.role("team").is_none() && trusted.role("team--ci").is_none());
}

/// T35: cycles and self-delegation end; each role is asked for once.
#[test]
fn cycles_end() {
    let key = Signer::ed25519(60);
    let mut repository = Repository::new();
    for (parent, child) in [("targets", "a"), ("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")] {
        repository.delegate(parent, child, &key, &["*/*"]);
    }
    repository.publish();
    let mut client = Client::new(&repository);
    assert!(absent(&mut client, &repository, NAME));
    assert_eq!(client.requests.len(), 6, "{:?}", client.requests);
}

/// T35: a role with two parents is verified by the keys of the one that the walk came from.
#[test]
fn a_diamond_is_verified_by_the_parent_on_the_way() {
    let (one, two) = (Signer::ed25519(61), Signer::ed25519(62));
    let mut repository = Repository::new();
    for (parent, scope) in [("a", "acme/a:*"), ("b", "acme/b:*")] {
        repository.delegate("targets", parent, &Signer::ed25519(60), &[scope]);
    }
    repository.delegate("a", "shared", &one, &["acme/*"]);
    repository.delegate("b", "shared", &two, &["acme/*"]);
    repository.list("shared", "acme/a:v1", "a");
    repository.list("shared", "acme/b:v1", "b");
    repository.publish();
    let mut client = Client::new(&repository);
    client.finds(&repository, "acme/a:v1");
    assert!(matches!(client.refusal(&repository, "acme/b:v1"), Error::Threshold { .. }));
    // In one run as well: that it was verified for one parent says nothing to the other.
    let mut trusted = client.refresh(&repository).unwrap();
    assert!(client.search(&repository, &mut trusted, "acme/a:v1").is_ok());
    assert!(matches!(
        client.search(&repository, &mut trusted, "acme/b:v1"),
        Err(Failure::Refused(Error::Threshold { .. }))
    ));
    // Signed by both keys, both names are found.
    repository.signers.insert("shared".to_owned(), vec![one, two]);
    repository.edit("shared", |_| ());
    repository.publish();
    client.finds(&repository, "acme/a:v1");
    client.finds(&repository, "acme/b:v1");
}

/// T14: what a team's key signed is refused once its delegator names another key, though the team published nothing new.
#[test]
fn a_team_key_that_was_taken_away_vouches_for_nothing() {
    for (parent, role) in [("targets", "team"), ("team", "team--ci")] {
        let mut repository = Repository::with_team();
        repository.edit("team", |team| team.targets.clear());
        repository.delegate("team", "team--ci", &Signer::ed25519(51), &["acme/app:*"]);
        repository.list("team--ci", NAME, "image");
        repository.publish();
        let mut client = Client::new(&repository);
        client.finds(&repository, NAME);
        let next = Signer::ed25519(77);
        repository.edit(parent, |targets| {
            delegations(targets).keys.insert(next.id.clone(), next.key.clone());
        });
        repository.edit_delegation(parent, role, |delegated| delegated.keys.keyids = vec![next.id.clone()]);
        repository.publish();
        let error = client.refusal(&repository, NAME);
        assert!(
            matches!(error, Error::Threshold { role: ref r, have: 0, need: 1 } if r == role),
            "{role}: {error}"
        );
        repository.signers.insert(role.to_owned(), vec![next]);
        repository.edit(role, |_| ());
        repository.publish();
        client.finds(&repository, NAME);
    }
}

/// T37: what a team lists outside its scope is never seen; the scope of every delegation on the path counts.
#[test]
fn names_outside_the_scope_are_ignored() {
    let mut repository = Repository::with_team();
    repository.list("team", "acme/other:v1", "forged");
    repository.list("team", "acme/app/sub:v1", "forged");
    repository.delegate("team", "team--wide", &Signer::ed25519(60), &["*/*"]);
    repository.list("team--wide", "acme/other:v1", "forged");
    repository.list("team--wide", "acme/app:v9", "mine");
    repository.publish();
    let mut client = Client::new(&repository);
    assert!(absent(&mut client, &repository, "acme/other:v1"));
    assert!(absent(&mut client, &repository, "acme/app/sub:v1"));
    assert_eq!(client.finds(&repository, NAME), digest("image"));
    assert_eq!(client.finds(&repository, "acme/app:v9"), digest("mine"));
}

/// T37: a role's delegation cannot name a top-level role, a name twice, or have both kinds of scope or none.
#[test]
fn delegations_that_mean_nothing_are_refused() {
    use serde_json::json;
    type Edit = fn(&mut serde_json::Value);
    let edits: [Edit; 8] = [
        |d| d["roles"][0]["name"] = json!("root"),
        |d| d["roles"][0]["name"] = json!("targets"),
        |d| d["roles"][0]["name"] = json!(""),
        |d| {
            let role = d["roles"][0].clone();
            d["roles"].as_array_mut().unwrap().push(role);
        },
        |d| d["roles"][0]["path_hash_prefixes"] = json!(["00"]),
        |d| drop(d["roles"][0].as_object_mut().unwrap().remove("paths")),
        |d| {
            d["succinct_roles"] =
                json!({"keyids": [], "threshold": 1, "bit_length": 4, "name_prefix": "bin"});
        },
        |d| d["roles"] = json!({}),
    ];
    for edit in edits {
        let mut repository = Repository::with_team();
        let bytes = forge(repository.bytes("targets"), &repository.signers["targets"], |targets| {
            edit(&mut targets["delegations"]);
        });
        repository.files.insert(repository.file("targets"), bytes.clone());
        repository.snapshot.common.version += 1;
        let version = repository.roles["targets"].common.version;
        repository
            .snapshot
            .meta
            .insert("targets.json".to_owned(), plimsoll_core::tuf::MetaFile::of(version, &bytes));
        let snapshot = sign(&repository.snapshot, &repository.signers["snapshot"]);
        repository.files.insert(repository.file("snapshot"), snapshot);
        repository.publish_timestamp(|_| ());
        let error = Client::new(&repository).refusal(&repository, NAME);
        assert!(matches!(error, Error::Invalid { .. } | Error::Shape { .. }), "{error}");
    }
}

/// P3: a revoked digest beats the entry of any role asked after it, and of the role itself; not of one asked before.
#[test]
fn a_revoked_digest_beats_entries_below() {
    for (revoker, beaten) in [("targets", true), ("team", true), ("team--ci", true), ("later", false)] {
        let mut repository = Repository::with_team();
        repository.edit("team", |team| team.targets.clear());
        repository.delegate("team", "team--ci", &Signer::ed25519(60), &["acme/app:*"]);
        repository.delegate("targets", "later", &Signer::ed25519(60), &["acme/app:*"]);
        repository.list("team--ci", NAME, "image");
        repository.revoke(revoker, revoked("image"));
        repository.revoke(revoker, revoked("another"));
        repository.publish();
        let Ok(Outcome::Found(found)) = Client::new(&repository).update(&repository, NAME) else { panic!() };
        let revocation = found.revocation(&digest("image"));
        assert_eq!(revocation.map(|(role, _)| role.as_str()), beaten.then_some(revoker));
        assert!(found.revocation(&digest("never heard of")).is_none());
    }
}

/// P3: a child cannot take back what an ancestor lists.
#[test]
fn a_child_cannot_revoke_what_its_ancestor_lists() {
    let mut repository = Repository::with_team();
    repository.list("targets", NAME, "image");
    repository.revoke("team", revoked("image"));
    repository.publish();
    let Ok(Outcome::Found(found)) = Client::new(&repository).update(&repository, NAME) else { panic!() };
    assert_eq!(found.path, ["targets"]);
    assert!(found.revocation(&digest("image")).is_none());
}

/// P3, P4: a team's revocations reach no further than its scope.
#[test]
fn a_revocation_counts_inside_its_scope_only() {
    let mut repository = Repository::with_team();
    repository.delegate("targets", "other", &Signer::ed25519(60), &["acme/other:*"]);
    repository.list("other", "acme/other:v1", "image");
    repository.revoke("team", revoked("image"));
    repository.revoke("team", Revocation { digest: None, paths: vec!["*/*".to_owned()], ..revoked("") });
    repository.publish();
    let Ok(Outcome::Found(found)) = Client::new(&repository).update(&repository, "acme/other:v1") else {
        panic!()
    };
    assert!(found.revocation(&digest("image")).is_none());
}

/// P3: a digest revoked and listed nowhere is still known as revoked.
#[test]
fn an_absent_name_tells_what_was_revoked() {
    let mut repository = Repository::with_team();
    repository.edit("team", |team| team.targets.clear());
    repository.revoke("team", revoked("image"));
    repository.publish();
    let Ok(Outcome::Absent { revocations, asked }) = Client::new(&repository).update(&repository, NAME)
    else {
        panic!()
    };
    assert_eq!(asked, ["targets", "team"], "these prove it");
    assert_eq!(revocations.len(), 1);
    assert_eq!(revocations[0].0, "team");
}

/// P3: what was revoked is known while the walk is under way, so a role below that cannot be had does not hide it.
#[test]
fn a_revocation_is_known_before_the_roles_below_are_had() {
    let mut repository = Repository::with_team();
    repository.revoke("targets", revoked("image"));
    repository.publish();
    let mut trusted = Client::new(&repository).refresh(&repository).unwrap();
    let mut search = Search::new(NAME);
    assert!(matches!(search.step(&trusted), Ok(Step::Load { role, .. }) if role == "targets"));
    assert!(search.revocations().is_empty());
    trusted.update_targets("targets", "root", repository.bytes("targets")).unwrap();
    assert!(matches!(search.step(&trusted), Ok(Step::Load { role, .. }) if role == "team"));
    let [(role, revocation)] = search.revocations() else { panic!("{:?}", search.revocations()) };
    assert_eq!((role.as_str(), revocation.digest), ("targets", Some(digest("image"))));
}

/// P3: what was verified earlier tells what was taken back, whatever became of it and of its keys since; and it vouches for
/// nothing.
#[test]
fn what_was_taken_back_is_recalled_from_documents_that_were_verified_earlier() {
    let mut repository = Repository::with_team();
    repository.revoke("targets", revoked("image"));
    repository.revoke("team", revoked("other"));
    repository.publish();
    let trusted = Client::new(&repository).refresh(&repository).unwrap();
    let held = |role: &str| Some(repository.bytes(role).to_vec());
    let roles = |seen: TakenBack| seen.digests.iter().map(|(role, _)| role.clone()).collect::<Vec<_>>();
    assert_eq!(roles(Recall::new(&trusted, held).of(NAME)), ["targets", "team"]);
    // The team's says nothing about names that are not the team's.
    assert_eq!(roles(Recall::new(&trusted, held).of("other/app:v1")), ["targets"]);
    // What is not held is left out, and so is what is torn or of another kind.
    for other in [None, Some(b"{".to_vec()), Some(repository.bytes("snapshot").to_vec())] {
        let without = |role: &str| if role == "team" { other.clone() } else { held(role) };
        assert_eq!(roles(Recall::new(&trusted, without).of(NAME)), ["targets"]);
    }
    let top = |role: &str| held(role).filter(|_| role != "targets");
    assert_eq!(Recall::new(&trusted, top).of(NAME), TakenBack::default(), "nobody delegates to the team");
    // Read once, however many names there are.
    let mut read = 0;
    let mut recall = Recall::new(&trusted, |role: &str| {
        read += 1;
        held(role)
    });
    let first = recall.of(NAME).digests;
    (0..100).for_each(|n| {
        let digests = recall.of(&format!("acme/app:v{n}")).digests;
        assert!(std::sync::Arc::ptr_eq(&digests, &first), "one list for all names of the same roles");
    });
    assert_eq!(first.len(), 2);
    drop(recall);
    assert_eq!(read, 2);
    // A whole scope.
    let scope = Revocation { digest: None, paths: vec!["acme/app:*".to_owned()], ..revoked("") };
    repository.revoke("targets", scope);
    let held = |role: &str| Some(repository.bytes(role).to_vec());
    let seen = Recall::new(&trusted, held).of(NAME);
    assert_eq!(seen.scope.unwrap().0, "targets");
    // Keys that were replaced undo nothing by themselves: what is held is from before.
    let before = ["targets", "team"].map(|role| (role, repository.bytes(role).to_vec()));
    repository.rotate("targets", &Signer::ed25519(62));
    repository.publish();
    let mut rotated = Client::new(&repository).refresh(&repository).unwrap();
    let held = |role: &str| before.iter().find(|(known, _)| *known == role).map(|(_, bytes)| bytes.clone());
    assert!(Recall::new(&rotated, held).of(NAME).scope.is_some());
    // What verified since is newer than what is held.
    repository.edit("targets", |targets| targets.common.identity.as_mut().unwrap().revocations.clear());
    repository.publish();
    rotated = Client::new(&repository).refresh(&repository).unwrap();
    rotated.update_targets("targets", "root", repository.bytes("targets")).unwrap();
    assert_eq!(roles(Recall::new(&rotated, held).of(NAME)), ["team"]);
}

/// P3: a scope that was taken back reads as revoked, whoever lists names in it.
#[test]
fn a_revoked_scope_is_revoked() {
    let mut repository = Repository::with_team();
    repository.list("targets", "acme/app:v2", "second");
    let scope = Revocation { digest: None, paths: vec!["acme/app:*".to_owned()], ..revoked("") };
    repository.revoke("targets", scope);
    repository.publish();
    let mut client = Client::new(&repository);
    for name in [NAME, "acme/app:v2", "acme/app:unheard-of"] {
        let outcome = client.update(&repository, name).unwrap();
        assert!(matches!(outcome, Outcome::Revoked { ref role, .. } if role == "targets"), "{name}");
    }
    assert!(absent(&mut client, &repository, "acme/apple:v1"));
}

/// T31: a role is taken only from who delegates to it by name, whoever signed it and whatever the snapshot lists.
#[test]
fn a_role_that_its_delegator_does_not_name_is_refused() {
    let key = Signer::ed25519(50);
    let mut repository = Repository::with_team();
    repository.add_role("stray", &key);
    repository.delegate("team", "team--ci", &key, &["acme/app:*"]);
    repository.publish();
    let mut trusted = Client::new(&repository).refresh(&repository).unwrap();
    trusted.update_targets("targets", "root", repository.bytes("targets")).unwrap();
    trusted.update_targets("team", "targets", repository.bytes("team")).unwrap();
    for (role, delegator) in [
        ("stray", "targets"),
        ("stray", "team"),
        ("stray", "stray"),
        ("stray", "nobody"),
        ("stray", "root"),
        ("team", "root"),
        ("team", "team"),
        ("team--ci", "targets"),
        ("targets", "targets"),
        ("targets", "team"),
    ] {
        let error = trusted.update_targets(role, delegator, repository.bytes(role)).unwrap_err();
        let Error::NotDelegated { role: named, delegator: by } = &error else { panic!("{role}: {error}") };
        assert_eq!((named.as_str(), by.as_str()), (role, delegator));
    }
    assert!(trusted.role("stray").is_none() && trusted.role("team--ci").is_none());
    assert_eq!(trusted.role("team").unwrap().0, "targets");
    trusted.update_targets("team--ci", "team", repository.bytes("team--ci")).unwrap();
}

/// T35, T37: the keys of the delegation that led to a role decide, not those of another that names it as well, though
/// the role was verified under that one before, in the same run.
#[test]
fn the_delegation_that_does_not_cover_the_name_lends_no_keys() {
    let (one, two) = (Signer::ed25519(61), Signer::ed25519(62));
    let mut repository = Repository::new();
    for parent in ["a", "b"] {
        repository.delegate("targets", parent, &Signer::ed25519(60), &["acme/*"]);
    }
    repository.delegate("a", "shared", &one, &["acme/a:*"]);
    repository.delegate("b", "shared", &two, &["acme/*"]);
    repository.list("shared", "acme/a:v1", "a");
    repository.list("shared", "acme/b:v1", "b");
    repository.publish();
    let mut client = Client::new(&repository);
    let mut trusted = client.refresh(&repository).unwrap();
    let Ok(Outcome::Found(found)) = client.search(&repository, &mut trusted, "acme/a:v1") else { panic!() };
    assert_eq!(found.path, ["targets", "a", "shared"]);
    let failure = client.search(&repository, &mut trusted, "acme/b:v1").unwrap_err();
    assert!(matches!(failure, Failure::Refused(Error::Threshold { ref role, .. }) if role == "shared"));
    // It stays verified under the delegator it was verified for.
    assert_eq!(trusted.role("shared").unwrap().0, "a");
    assert!(matches!(client.search(&repository, &mut trusted, "acme/a:v1"), Ok(Outcome::Found(_))));
}

/// T60: a role's name is data: it is asked for, verified and found under just that name, whatever it looks like.
#[test]
fn unusual_role_names_are_names() {
    let long = "r".repeat(300);
    let names = [
        "?",
        "#",
        "/x",
        "../x",
        "a\0b",
        "CON",
        ".",
        "..",
        "%2e%2e",
        "a\\b",
        "a b",
        "é",
        "1.team",
        "team.json",
        &long,
    ];
    for role in names {
        let mut repository = Repository::with_team();
        repository.edit("team", |team| team.targets.clear());
        repository.delegate("team", role, &Signer::ed25519(60), &["acme/app:*"]);
        repository.list(role, NAME, "image");
        repository.publish();
        let team = &repository.roles["team"];
        assert!(team.delegated(role).is_some_and(|delegation| delegation.name == role));
        assert_eq!(team.delegated("nobody"), None);
        let mut client = Client::new(&repository);
        let Ok(Outcome::Found(found)) = client.update(&repository, NAME) else { panic!("{role:?}") };
        assert_eq!(found.path, ["targets", "team", role]);
        assert_eq!(*client.requests.last().unwrap(), format!("2.{role}.json"));
        // Signed by another key, it is refused under that name.
        repository.signers.insert(role.to_owned(), vec![Signer::ed25519(99)]);
        repository.edit(role, |_| ());
        repository.publish();
        let error = client.refusal(&repository, NAME);
        assert!(matches!(error, Error::Threshold { role: ref named, .. } if named == role), "{error}");
    }
}

/// T31: a walk never asks for a role that nobody delegates to, though the snapshot lists it.
#[test]
fn a_role_that_nobody_delegates_to_is_never_asked() {
    let mut repository = Repository::new();
    repository.add_role("stray", &Signer::ed25519(60));
    repository.list("stray", NAME, "image");
    repository.publish();
    let mut client = Client::new(&repository);
    assert!(absent(&mut client, &repository, NAME));
    let mut trusted = client.refresh(&repository).unwrap();
    let mut search = Search::new(NAME);
    assert!(matches!(search.step(&trusted), Ok(Step::Load { role, .. }) if role == "targets"));
    trusted.update_targets("targets", "root", repository.bytes("targets")).unwrap();
    assert!(matches!(search.step(&trusted), Ok(Step::Done(Outcome::Absent { .. }))));
}
