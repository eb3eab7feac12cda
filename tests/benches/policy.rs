//! What a policy of many scopes costs, as ratios measured in one run, the two taking turns.
//!
//! `cargo bench -p plimsoll-tests --bench policy`. With `-- --check` it exits with 1 if a ratio misses its target; any other
//! word runs only the rows whose names contain it.

#![allow(clippy::print_stdout, reason = "a bench prints")]
#![expect(clippy::unwrap_used, reason = "a bench: a panic is its way to fail")]

#[allow(dead_code, reason = "each bench uses a part of it")]
mod table;

use std::{fmt::Write, time::Duration};

use plimsoll_core::{
    oci::TargetName,
    policy::{Format, Policy, PolicyFile},
};
use table::{Row, Target, cpu, median};

/// The scopes of the large policy.
const MANY: usize = 10_000;
const FEW: usize = 10;
/// How many names are matched in a row, so that the large policy does not stay in the nearest cache.
const NAMES: usize = 1000;

/// What the scopes of a policy are like.
type Shape = fn(usize) -> String;

fn main() {
    table::run(&[loads, matches]);
}

fn loads(wants: &dyn Fn(&str) -> bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let shapes: [(&'static str, Shape); 3] = [
        ("load 10,000 scopes of namespaces / toml::from_str", namespace),
        ("load 10,000 scopes of tags in one repository / toml::from_str", tags),
        ("load 10,000 scopes that say everything / toml::from_str", everything),
    ];
    for (name, shape) in shapes.into_iter().filter(|(name, _)| wants(name)) {
        let text = policy(shape, MANY);
        let (ours, other) =
            compare(9, || Policy::parse(&text).unwrap(), || toml::from_str::<toml::Table>(&text).unwrap());
        rows.push(Row { name, ours: ours.into(), other: other.into(), target: Target::AtMost(3.0) });
    }
    let name = "load 10,000 scopes of namespaces in JSON / toml::from_str";
    if wants(name) {
        let text = policy(namespace, MANY);
        let json = PolicyFile::from_toml(&text).unwrap().to_json();
        let (ours, other) = compare(
            9,
            || Policy::read(&json, Format::Json).unwrap(),
            || toml::from_str::<toml::Table>(&text).unwrap(),
        );
        rows.push(Row { name, ours: ours.into(), other: other.into(), target: Target::AtMost(3.0) });
    }
    rows
}

fn matches(wants: &dyn Fn(&str) -> bool) -> Vec<Row> {
    let mut rows = Vec::new();
    let shapes: [(&'static str, Shape, Shape); 4] = [
        ("match in 10,000 scopes / in 10: repositories", repository, |n| format!("team{n}/app:v1")),
        ("match in 10,000 scopes / in 10: namespaces", namespace, |n| format!("team{n}/a/b:v1")),
        ("match in 10,000 scopes / in 10: tags of one repository", tags, |n| format!("acme/app:v{n:05}.7")),
        ("match in 10,000 scopes / in 10: nothing covers it", namespace, |n| format!("other{n}/a/b:v1")),
    ];
    for (name, shape, asked) in shapes.into_iter().filter(|(name, ..)| wants(name)) {
        let side = |scopes: usize| {
            let policy = Policy::parse(&policy(shape, scopes)).unwrap();
            // Spread over all scopes, in no order.
            let at = |n: usize| n * 7919 % scopes;
            let names: Vec<TargetName> = (0..NAMES).map(|n| asked(at(n)).parse().unwrap()).collect();
            (policy, names)
        };
        let (many, few) = (side(MANY), side(FEW));
        let all = |(policy, names): &(Policy, Vec<TargetName>)| {
            names.iter().filter(|name| policy.select("r.io", name).is_some()).count()
        };
        assert_eq!(all(&many), all(&few));
        let (ours, other) = compare(41, || all(&many), || all(&few));
        let each = |time: Duration| time / u32::try_from(NAMES).unwrap();
        rows.push(Row {
            name,
            ours: each(ours).into(),
            other: each(other).into(),
            target: Target::AtMost(2.0),
        });
    }
    rows
}

/// A policy of two roots and `scopes` scopes.
fn policy(shape: Shape, scopes: usize) -> String {
    let mut text = String::new();
    for (root, digit) in [("acme", "a"), ("us", "b")] {
        let sha256 = digit.repeat(64);
        writeln!(
            text,
            "[root.{root}]\nfile = \"{root}.json\"\nsha256 = \"{sha256}\"\nrepository = \"r.io/{root}/trust\"\n"
        )
        .unwrap();
    }
    for n in 0..scopes {
        writeln!(text, "[[scope]]\n{}", shape(n)).unwrap();
    }
    text
}

fn repository(n: usize) -> String {
    format!("match = \"r.io/team{n}/app\"\nrequire = {{ all = [\"acme\"] }}\n")
}

fn namespace(n: usize) -> String {
    format!("match = \"r.io/team{n}/**\"\nrequire = {{ all = [\"acme\"] }}\n")
}

/// Equally long, so equally specific: whether any two of them overlap must be found out.
fn tags(n: usize) -> String {
    format!("match = \"r.io/acme/app:v{n:05}*\"\nrequire = {{ all = [\"acme\"] }}\n")
}

fn everything(n: usize) -> String {
    format!(
        r#"match = "r.io/team{n}/**"
require = {{ threshold = 1, of = ["acme", "us"] }}
map = {{ acme = "vendor{n}/**" }}
pin = {{ acme = {{ role = "targets--net", keys = ["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"] }} }}
fallback = {{ all = ["us"] }}
on-absent = "fallback"
digest-refs = "retained"
constraint = {{ tag = ">=1.2, <2" }}
max-signed-age = "90d"
max-staleness = "7d"
optional = ["acme"]
veto = ["us"]
"#
    )
}

/// The median CPU time of one call of each of the two, over `rounds` rounds in which they take turns.
fn compare<A, B>(
    rounds: usize,
    mut ours: impl FnMut() -> A,
    mut other: impl FnMut() -> B,
) -> (Duration, Duration) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    // The first round warms caches up.
    for round in 0..=rounds {
        let (x, y) = (timed(&mut ours), timed(&mut other));
        if round > 0 {
            a.push(x);
            b.push(y);
        }
    }
    (median(a), median(b))
}

fn timed<T>(call: &mut impl FnMut() -> T) -> Duration {
    let start = cpu();
    let result = std::hint::black_box(call());
    let used = cpu() - start;
    drop(result);
    used
}
