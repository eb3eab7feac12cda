//! The metrics of the real daemon, read by Prometheus' own parser; and what is written about them.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use plimsoll_tests::{
    http, peers,
    process::{self, binary},
    world::{NAME, ROLE, Site, World},
};
use serde_json::{Value, json};

/// All samples by name and labels, and the type of each family.
struct Metrics {
    types: BTreeMap<String, String>,
    samples: Vec<(String, Value, f64)>,
}

impl Metrics {
    fn of(world: &World) -> Self {
        let answer = http::get(&format!("{}/metrics", world.daemon.url())).unwrap();
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let (mut types, mut samples) = (BTreeMap::new(), Vec::new());
        for family in peers::prometheus(&answer.text()) {
            let name = family["name"].as_str().unwrap().to_owned();
            let kind = family["type"].as_str().unwrap().to_owned();
            assert!(family["help"].as_str().unwrap().len() > 10, "{family}");
            // The parser leaves the ending of counters out.
            let name = if kind == "counter" { format!("{name}_total") } else { name };
            for sample in family["samples"].as_array().unwrap() {
                let value = sample[2].as_f64().unwrap();
                samples.push((sample[0].as_str().unwrap().to_owned(), sample[1].clone(), value));
            }
            assert!(types.insert(name, kind).is_none(), "{family}");
        }
        Self { types, samples }
    }

    fn value(&self, name: &str, labels: &Value) -> f64 {
        let found = self.samples.iter().find(|(other, with, _)| other == name && with == labels);
        found.unwrap_or_else(|| panic!("no {name} {labels}: {:?}", self.samples)).2
    }
}

fn page(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// Every metric that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("plimsolld_")).map(str::to_owned).collect()
}

#[test]
fn an_independent_parser_reads_what_the_daemon_counts() {
    let world = World::ready(Site::embedded().timestamp(600, 300));
    world.push("v1", "hello\n");
    world.sign("v1").ok();
    let submissions = format!("{}/v1/trusts/{NAME}/submissions", world.daemon.url());
    for body in ["no JSON", r#"{"documents":{"<b>\"\n":{}}}"#] {
        assert_eq!(http::request("POST", &submissions, &[], body.as_bytes()).unwrap().status, 400);
    }
    let metrics = Metrics::of(&world);
    let trust = json!({"trust": NAME});
    let role = |role: &str| json!({"trust": NAME, "role": role});
    for (name, labels, expected) in [
        ("plimsolld_trust_ready", &trust, 1.0),
        ("plimsolld_trust_alarm", &trust, 0.0),
        // init, a delegation with its role, one tag
        ("plimsolld_submissions_accepted_total", &trust, 3.0),
        ("plimsolld_submissions_refused_total", &json!({"trust": NAME, "reason": "malformed"}), 2.0),
        ("plimsolld_timestamp_version", &trust, 3.0),
        ("plimsolld_registry_timestamp_version", &trust, 3.0),
        ("plimsolld_registry_lag_versions", &trust, 0.0),
        ("plimsolld_registry_lag_seconds", &trust, 0.0),
        ("plimsolld_timestamp_validity_seconds", &trust, 600.0),
        ("plimsolld_timestamp_interval_seconds", &trust, 300.0),
        ("plimsolld_roles", &trust, 5.0),
        ("plimsolld_commit_seconds_count", &trust, 3.0),
        ("plimsolld_visible_seconds_count", &trust, 3.0),
        ("plimsolld_role_life_seconds", &role("timestamp"), 600.0),
        ("plimsolld_role_life_seconds", &role(ROLE), 90.0 * 86_400.0),
        ("plimsolld_role_life_seconds", &role("root"), 365.0 * 86_400.0),
    ] {
        assert_eq!(metrics.value(name, labels), expected, "{name}");
    }
    for (role, life) in
        [(role("timestamp"), 600.0), (role("root"), 365.0 * 86_400.0), (role(ROLE), 90.0 * 86_400.0)]
    {
        let left = metrics.value("plimsolld_role_expires_in_seconds", &role);
        assert!(left <= life && left > life - 300.0, "{role}: {left}");
    }
    let pushed = metrics.value("plimsolld_push_seconds_sum", &trust);
    assert!(pushed > 0.0 && metrics.value("plimsolld_last_success_timestamp_seconds", &trust) > 1.7e9);
}

#[test]
fn every_metric_is_described_and_every_rule_is_about_one() {
    let world = World::ready(Site::embedded());
    let submissions = format!("{}/v1/trusts/{NAME}/submissions", world.daemon.url());
    assert_eq!(http::request("POST", &submissions, &[], b"x").unwrap().status, 400);
    let metrics = Metrics::of(&world);
    let exported: BTreeSet<String> = metrics.types.keys().cloned().collect();
    let with_samples: BTreeSet<&String> = metrics.samples.iter().map(|(name, ..)| name).collect();
    assert_eq!(named(&page("docs/operations.md")), exported);

    let alerts = page("docs/plimsolld-alerts.yml");
    let rules: Vec<&str> = alerts.split("      - alert: ").skip(1).collect();
    assert!(rules.len() > 10, "{}", rules.len());
    let mut names = BTreeSet::new();
    for rule in rules {
        let (name, body) = rule.split_once('\n').unwrap();
        assert!(names.insert(name), "{name} twice");
        for member in ["expr: ", "severity: ", "summary: ", "description: "] {
            assert_eq!(body.matches(member).count(), 1, "{name} has no single {member}");
        }
        let expression = body.split("expr: ").nth(1).unwrap().split("labels:").next().unwrap();
        let used = named(expression);
        assert!(!used.is_empty(), "{name}");
        for metric in used {
            assert!(exported.contains(&metric) && with_samples.contains(&metric), "{name} uses {metric}");
        }
    }
}

/// By Prometheus itself: each alert fires for the trouble that it is about and for nothing else, and none on a calm day.
#[test]
fn every_alert_fires_for_its_trouble_and_none_on_a_calm_day() {
    let promtool = binary("plimsolld").parent().unwrap().join("../tools/bin/promtool");
    assert!(promtool.exists(), "{} is missing: run `bash tests/run.sh --install` first", promtool.display());
    let folder = tempfile::tempdir().unwrap();
    let (alerts, cases) = (page("docs/plimsolld-alerts.yml"), page("tests/peers/alerts.yml"));
    fs::write(folder.path().join("plimsolld-alerts.yml"), &alerts).unwrap();
    fs::write(folder.path().join("alerts.yml"), &cases).unwrap();
    let mut command = Command::new(promtool);
    process::run(command.args(["test", "rules", "alerts.yml"]).current_dir(folder.path()), b"").ok();
    for rule in alerts.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap();
        assert!(cases.contains(&format!("alertname=\"{name}\"")), "no case for {name}");
    }
    // The cases are about what the daemon counts.
    assert!(named(&cases).is_subset(&named(&page("docs/operations.md"))), "{:?}", named(&cases));
}
