//! What Prometheus reads at `/metrics`: its text format, version 0.0.4 (docs/operations.md lists the metrics).
//!
//! Written out here: a library of metrics would keep a second copy of what [`Report`] knows already.

use std::fmt::Write as _;

use crate::pipeline::report::{BUCKETS, Histogram, Report, RoleReport};

/// What the answer calls itself.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// So many delegated roles of one trust repository have figures of their own, the first by name; the one of the others that
/// expires first stands for them, as [`OTHERS`].
const ROLES: usize = 200;
/// No role has this name: those that are delegated have `--` in theirs.
const OTHERS: &str = "_others";

/// What became of the configuration that was read last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// It was refused, or a trust repository in it does not start.
    pub(crate) refused: bool,
    /// Some of it needs a restart.
    pub(crate) restart: bool,
}

/// The metrics of `trusts`: the name of each trust repository, and what is known of it once it has started.
pub(crate) fn render(settings: Settings, trusts: &[(String, Option<Report>)]) -> String {
    let mut text = Text(String::with_capacity(4096 * (trusts.len() + 1)));
    text.family("build_info", "gauge", "1; the program's version is a label.");
    text.sample("build_info", "", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let Settings { refused, restart } = settings;
    text.family(
        "reload_successful",
        "gauge",
        "1 if the configuration that was read last counts, 0 if what went before goes on.",
    );
    text.sample("reload_successful", "", &[], u8::from(!refused));
    text.family("restart_needed", "gauge", "1 if it has values that count after a restart only, else 0.");
    text.sample("restart_needed", "", &[], u8::from(restart));
    text.family("trust_ready", "gauge", "1 if /readyz calls the trust repository ready, else 0.");
    for (name, report) in trusts {
        let ready = report.as_ref().is_some_and(|report| report.health.ready);
        text.sample("trust_ready", "", &[("trust", name)], u8::from(ready));
    }
    let reports: Vec<&Report> = trusts.iter().filter_map(|(_, report)| report.as_ref()).collect();
    gauges(&mut text, &reports);
    roles(&mut text, &reports);
    counters(&mut text, &reports);
    histograms(&mut text, &reports);
    text.0
}

/// A figure of each trust repository; none where there is nothing to say.
type Figure = (&'static str, &'static str, fn(&Report) -> Option<i64>);

const GAUGES: [Figure; 17] = [
    ("trust_alarm", "1 if the daemon stopped signing until somebody looks, else 0.", |report| {
        Some(i64::from(report.health.alarm.is_some()))
    }),
    (
        "last_success_timestamp_seconds",
        "When the registry was last seen to show the newest timestamp; 0 if never since the start.",
        |report| Some(report.last_success.map_or(0, |at| at.timestamp())),
    ),
    ("timestamp_validity_seconds", "Configured life of a timestamp.", |report| {
        Some(report.lives.timestamp_validity)
    }),
    ("timestamp_interval_seconds", "Configured time between two timestamps.", |report| {
        Some(report.lives.timestamp_interval)
    }),
    ("timestamp_version", "Version of the newest timestamp in the store.", |report| {
        report.stored.map(|stored| int(stored.version))
    }),
    ("timestamp_age_seconds", "Time since the newest timestamp in the store was signed.", |report| {
        Some((report.at - report.stored?.signed?).num_seconds())
    }),
    (
        "registry_timestamp_version",
        "Version of the timestamp that the registry was last seen to show.",
        |report| report.served.map(|served| int(served.version)),
    ),
    (
        "registry_timestamp_age_seconds",
        "Time since the timestamp that the registry shows was signed.",
        |report| Some((report.at - report.served?.signed?).num_seconds()),
    ),
    (
        "registry_timestamp_expires_in_seconds",
        "Time until clients stop believing what the registry shows; negative after that.",
        |report| Some((report.served?.expires - report.at).num_seconds()),
    ),
    ("registry_lag_versions", "Timestamps that are stored and not in the registry.", |report| {
        Some(int(report.lag.versions))
    }),
    (
        "registry_lag_seconds",
        "For how long the oldest commit has waited that is not in the registry; 0 if none does.",
        |report| Some(report.lag.seconds),
    ),
    ("queue_submissions", "Submissions that wait for the next round.", |report| {
        Some(count(report.queue.submissions))
    }),
    ("queue_limit_submissions", "How many may wait before others are turned away.", |report| {
        Some(count(report.queue.limit))
    }),
    ("queue_bytes", "Size of the submissions that wait or are worked on, rounded up to KiB.", |report| {
        Some(count(report.queue.kib) * 1024)
    }),
    ("roles", "Roles in use, the four top-level ones included.", |report| {
        Some(count(report.tree.roles.len()))
    }),
    ("roles_removed", "Roles that nobody delegates to any more; they stay in the snapshot.", |report| {
        Some(count(report.tree.removed))
    }),
    (
        "roles_unread",
        "1 if the figures of roles are old because the store cannot be read, else 0.",
        |report| Some(i64::from(report.unread.is_some())),
    ),
];

fn gauges(text: &mut Text, reports: &[&Report]) {
    for (name, help, figure) in GAUGES {
        text.family(name, "gauge", help);
        for report in reports {
            if let Some(value) = figure(report) {
                text.sample(name, "", &[("trust", &report.name)], value);
            }
        }
    }
}

/// A figure of a role that has a document, as of a report.
type RoleFigure = (&'static str, &'static str, fn(&Report, &RoleReport) -> i64);

fn roles(text: &mut Text, reports: &[&Report]) {
    let figures: [RoleFigure; 2] = [
        (
            "role_expires_in_seconds",
            "Time until the role's newest document in the store expires; negative after that.",
            |report, role| role.document.map_or(0, |document| document.left(report.at)),
        ),
        ("role_life_seconds", "How long that document lives in all, by its signer's word.", |_, role| {
            role.document.map_or(0, |document| document.life())
        }),
    ];
    let listed: Vec<_> = reports.iter().map(|report| (report, listed(report))).collect();
    for (name, help, figure) in figures {
        text.family(name, "gauge", help);
        for (report, roles) in &listed {
            for (label, role) in roles {
                text.sample(name, "", &[("trust", &report.name), ("role", label)], figure(report, role));
            }
        }
    }
}

/// The roles that have figures, each with the name it goes by.
fn listed(report: &Report) -> Vec<(&str, &RoleReport)> {
    let signed = report.tree.roles.iter().filter(|role| role.document.is_some());
    let (mut delegated, top): (Vec<_>, Vec<_>) = signed.partition(|role| role.parent.is_some());
    delegated.sort_by(|a, b| a.name.cmp(&b.name));
    let others = delegated.split_off(delegated.len().min(ROLES));
    let first = others.into_iter().min_by_key(|role| role.document.map(|document| document.expires));
    let named = top.into_iter().chain(delegated).map(|role| (role.name.as_str(), role));
    named.chain(first.map(|role| (OTHERS, role))).collect()
}

fn counters(text: &mut Text, reports: &[&Report]) {
    let figures: [Figure; 5] = [
        ("submissions_accepted_total", "Submissions accepted since the start.", |report| {
            Some(int(report.counts.accepted))
        }),
        (
            "resigned_total",
            "How often a timestamp was signed because it was due, with nothing new in it.",
            |report| Some(int(report.counts.resigned)),
        ),
        ("rounds_failed_total", "Rounds in which nothing could be signed.", |report| {
            Some(int(report.counts.rounds_failed))
        }),
        ("pushes_total", "How often the newest state was put into the registry.", |report| {
            Some(int(report.counts.pushes))
        }),
        ("pushes_failed_total", "Tries to look at the registry or to publish there that failed.", |report| {
            Some(int(report.counts.pushes_failed))
        }),
    ];
    for (name, help, figure) in figures {
        text.family(name, "counter", help);
        for report in reports {
            text.sample(name, "", &[("trust", &report.name)], figure(report).unwrap_or_default());
        }
    }
    let name = "submissions_refused_total";
    text.family(
        name,
        "counter",
        "Submissions refused since the start, by the rule that was broken (docs/http-api.md).",
    );
    for report in reports {
        for (reason, times) in &report.counts.refused {
            text.sample(name, "", &[("trust", &report.name), ("reason", reason)], *times);
        }
    }
}

/// A histogram of each trust repository.
type Latency = (&'static str, &'static str, fn(&Report) -> &Histogram);

fn histograms(text: &mut Text, reports: &[&Report]) {
    let figures: [Latency; 3] = [
        (
            "commit_seconds",
            "How long rounds took that signed something: accept, sign, check, store.",
            |report| &report.commits,
        ),
        ("push_seconds", "How long it took to put the newest state into the registry.", |report| {
            &report.pushes
        }),
        (
            "visible_seconds",
            "How long after its commit a timestamp, or a newer one, was in the registry.",
            |report| &report.visible,
        ),
    ];
    for (name, help, figure) in figures {
        text.family(name, "histogram", help);
        for report in reports {
            let (histogram, trust) = (figure(report), ("trust", report.name.as_str()));
            let mut below = 0;
            for (bound, times) in BUCKETS.iter().zip(histogram.buckets) {
                below += times;
                text.sample(name, "_bucket", &[trust, ("le", &bound.to_string())], below);
            }
            text.sample(name, "_bucket", &[trust, ("le", "+Inf")], histogram.count);
            text.sample(name, "_sum", &[trust], histogram.sum);
            text.sample(name, "_count", &[trust], histogram.count);
        }
    }
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = write!(self.0, "# HELP plimsolld_{name} {help}\n# TYPE plimsolld_{name} {kind}\n");
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let _ = write!(self.0, "plimsolld_{name}{suffix}");
        for (at, (label, text)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{}\"", escaped(text));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }
}

/// A label's value as the format wants it. Whatever was sent, it ends no line and no value.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            // Allowed, and read as the end of a line by some.
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use super::*;
    use crate::pipeline::report::{
        Tree,
        sample::{report, role},
    };

    fn value<'a>(text: &'a str, series: &str) -> &'a str {
        let line =
            text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.unwrap_or_else(|| panic!("no {series}: {text}")).rsplit(' ').next().unwrap()
    }

    #[test]
    fn every_figure_is_there_with_its_unit() {
        let mut report = report();
        report.counts.refused.insert("threshold".to_owned(), 7);
        report.commits.buckets[1] = 2;
        (report.commits.count, report.commits.sum) = (3, 90.25);
        let text =
            render(Settings::default(), &[("acme".to_owned(), Some(report)), ("other".to_owned(), None)]);
        for (series, expected) in [
            ("plimsolld_trust_ready{trust=\"acme\"}", "1"),
            ("plimsolld_trust_ready{trust=\"other\"}", "0"),
            ("plimsolld_role_expires_in_seconds{trust=\"acme\",role=\"root\"}", "22896000"),
            ("plimsolld_role_life_seconds{trust=\"acme\",role=\"targets--net-monitor\"}", "7776000"),
            ("plimsolld_registry_timestamp_age_seconds{trust=\"acme\"}", "1800"),
            ("plimsolld_registry_timestamp_expires_in_seconds{trust=\"acme\"}", "84600"),
            ("plimsolld_last_success_timestamp_seconds{trust=\"acme\"}", "1799998200"),
            ("plimsolld_submissions_refused_total{trust=\"acme\",reason=\"threshold\"}", "7"),
            ("plimsolld_commit_seconds_bucket{trust=\"acme\",le=\"0.002\"}", "0"),
            ("plimsolld_commit_seconds_bucket{trust=\"acme\",le=\"60\"}", "2"),
            ("plimsolld_commit_seconds_bucket{trust=\"acme\",le=\"+Inf\"}", "3"),
            ("plimsolld_commit_seconds_sum{trust=\"acme\"}", "90.25"),
        ] {
            assert_eq!(value(&text, series), expected, "{series}");
        }
    }

    /// Families are whole and described once, no series is there twice, and no line is anything else.
    #[test]
    fn the_text_keeps_to_the_format() {
        let trusts: Vec<_> = ["a", "b", "c"].map(|name| (name.to_owned(), Some(report()))).into();
        let text = render(
            Settings { refused: true, restart: true },
            &trusts
                .into_iter()
                .map(|(name, report)| (name.clone(), report.map(|report| Report { name, ..report })))
                .collect::<Vec<_>>(),
        );
        let (mut family, mut families, mut series) = (String::new(), BTreeSet::new(), BTreeSet::new());
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, _) = help.split_once(' ').unwrap();
                let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).unwrap();
                assert!(matches!(kind, "gauge" | "counter" | "histogram"), "{kind}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                assert!(families.insert(name.to_owned()), "{name} twice");
                family = name.to_owned();
                continue;
            }
            let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
            let suffix = name.strip_prefix(&family).unwrap_or_else(|| panic!("{name} in {family}"));
            assert!(matches!(suffix, "" | "_bucket" | "_sum" | "_count"), "{name}");
            let (labels, number) = rest.rsplit_once(' ').unwrap();
            assert!(series.insert((name, labels)), "{line} twice");
            number.parse::<f64>().unwrap();
        }
        assert!(families.len() > 25, "{}", families.len());
    }

    #[test]
    fn a_hostile_name_ends_no_line_and_no_label() {
        let mut report = report();
        let evil = "x\"} 1\nplimsolld_trust_alarm{trust=\"acme\"} 1\\\r";
        report.tree = Arc::new(Tree { roles: vec![role(evil, Some("targets"), 1, 1)], ..Tree::default() });
        let text = render(Settings::default(), &[("acme".to_owned(), Some(report))]);
        let expected = "role=\"x\\\"} 1\\nplimsolld_trust_alarm{trust=\\\"acme\\\"} 1\\\\\u{fffd}\"} 86400\n";
        assert!(text.contains(expected), "{text}");
        assert_eq!(text.matches("\nplimsolld_trust_alarm{").count(), 1);
    }

    #[test]
    fn thousands_of_roles_do_not_become_thousands_of_series() {
        let mut report = report();
        let delegated = |n: i64| role(&format!("targets--r{n:04}"), Some("targets"), 1, 10 + (n * 7919) % 60);
        let mut roles = report.tree.roles[..4].to_vec();
        roles.extend((0..5000).map(delegated));
        roles[4 + 4999] = role("targets--r4999", Some("targets"), 89, 1);
        report.tree = Arc::new(Tree { roles, ..Tree::default() });
        let text = render(Settings::default(), &[("acme".to_owned(), Some(report))]);
        assert_eq!(text.matches("\nplimsolld_role_expires_in_seconds{").count(), 4 + ROLES + 1);
        let others = "plimsolld_role_expires_in_seconds{trust=\"acme\",role=\"_others\"}";
        assert_eq!(value(&text, others), "86400");
        assert_eq!(value(&text, &others.replace("expires_in", "life")), (90 * 86_400).to_string());
    }
}
