//! What a round costs when there are many roles. Prints, asserts no times.

#![expect(clippy::print_stdout, reason = "measurements are for people")]

use super::*;
use crate::pipeline::{
    accept::RoleDocument,
    round::{Overlay, Taken},
};

#[test]
fn a_round_over_two_thousand_roles_is_measured() {
    const ROLES: usize = 2000;
    let mut world = World::new();
    let first = world.first("targets--r", &world.team);
    let mut targets = world.edit("targets", |_| {});
    for n in 0..ROLES {
        delegate(&mut targets, &format!("targets--r{n}"), &format!("acme/r{n}"), &[&world.team]);
    }
    let parsed = |bytes: &[u8]| RoleDocument::Targets(Arc::new(Document::parse("targets", bytes).unwrap()));
    let mut changed = vec![("targets".to_owned(), parsed(&sign(&targets, &[&world.owner])))];
    changed.extend((0..ROLES).map(|n| (format!("targets--r{n}"), parsed(&first))));
    let mut overlay = Overlay::new(&world.setup);
    overlay.add_all(&changed);
    let none = Taken { batch: &[], sets: &[] };
    let working = world.setup.take_working(world.now).unwrap();
    let mut keys = world.setup.keys();
    world.setup.sign_and_store(&mut keys, &working, &overlay, &changed, none, false, world.now).unwrap();
    drop(keys);

    let timed = |what: &str, world: &World, batch: &[Submitted]| {
        let start = std::time::Instant::now();
        let outcome = world.round(batch).unwrap();
        println!("{ROLES} roles, {what}: {} ms", start.elapsed().as_millis());
        assert!(outcome.answers.iter().all(Result::is_ok), "{:?}", outcome.answers);
        assert!(outcome.signed || what == "nothing due");
    };
    let bump = |world: &World, n: usize| {
        let role = format!("targets--r{n}");
        submitted(&[(role.as_str(), world.next(&role, |_| {}))])
    };
    timed("one publish", &world, &[bump(&world, 1)]);
    let eight: Vec<_> = (10..18).map(|n| bump(&world, n)).collect();
    timed("eight publishes in one round", &world, &eight);
    timed("nothing due", &world, &[]);
    world.advance(TimeDelta::hours(1));
    timed("a tick", &world, &[]);
    world.advance(TimeDelta::days(4));
    timed("a tick with a snapshot", &world, &[]);
    let start = std::time::Instant::now();
    let targets = world.next("targets", |_| {});
    println!("(signing targets itself: {} ms)", start.elapsed().as_millis());
    timed("a publish of targets", &world, &[submitted(&[("targets", targets)])]);
}
