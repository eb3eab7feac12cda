//! Several people publish the same role at once: everything they signed ends up in it, with no step by hand.

#![expect(clippy::print_stdout, reason = "how far it got is worth reading")]

use std::{collections::BTreeSet, fs, thread};

use plimsoll_core::tuf::{Document, Targets};
use plimsoll_tests::{
    docker_registry::Registry,
    http,
    world::{ROLE, Site, World},
};

const PUBLISHERS: usize = 8;
const EACH: usize = 25;

/// Eight machines with the team's key sign 25 tags each, all at once: 200 of 200 are in the final metadata.
#[test]
fn publishes_of_one_role_at_the_same_time_all_end_up_in_it() {
    let registry = Registry::open();
    let world = World::ready(Site::at(&registry.address()));
    let image = world.push("v1", "signed under many tags");
    let digest = image.digest();
    let machines: Vec<_> = (0..PUBLISHERS)
        .map(|at| {
            let machine = world.client(&format!("team-{at}")).env("PLIMSOLL_SERVER", &world.daemon.url());
            // The very key of the team: these are its members, or its CI jobs.
            for file in ["team.key", "team.pub", "passphrase"] {
                fs::copy(world.team().home().join(file), machine.home().join(file)).unwrap();
            }
            machine
        })
        .collect();

    thread::scope(|scope| {
        for (at, machine) in machines.iter().enumerate() {
            let world = &world;
            scope.spawn(move || {
                for number in 0..EACH {
                    let reference = format!("{}@{digest}", world.reference(&format!("p{at}-{number}")));
                    let signed = machine.run(&[
                        "sign",
                        &reference,
                        "--key",
                        "team.key",
                        "--passphrase-file",
                        "passphrase",
                    ]);
                    signed.ok();
                }
            });
        }
    });

    let head = http::get(&format!("{}/v1/trusts/acme", world.daemon.url())).unwrap();
    let head: serde_json::Value = serde_json::from_slice(&head.body).unwrap();
    let version = head["heads"][ROLE].as_u64().unwrap();
    let url = format!("{}/tuf/acme/metadata/{version}.{ROLE}.json", world.daemon.url());
    let role = Document::<Targets>::parse(ROLE, &http::get(&url).unwrap().body).unwrap().signed;
    let found: BTreeSet<_> = role.targets.keys().filter(|name| name.contains(":p")).cloned().collect();
    let name = |at, number| format!("acme/net-monitor:p{at}-{number}");
    let wanted: BTreeSet<_> =
        (0..PUBLISHERS).flat_map(|at| (0..EACH).map(move |number| name(at, number))).collect();
    assert_eq!(found, wanted);
    // One version for each, and the one with which the world began.
    println!("{} publishes, version {version}", wanted.len());
    let last = world.reference(&format!("p{}-{}", PUBLISHERS - 1, EACH - 1));
    world.client("fresh").run(&["resolve", &last]).ok();
}
