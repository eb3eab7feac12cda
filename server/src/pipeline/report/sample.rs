//! A report for the tests of what is made of reports.

use plimsoll_core::tuf::KeyId;

use super::*;

/// The time of [`report`].
pub(crate) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

/// A role signed `age` days ago that expires in `left` days.
pub(crate) fn role(name: &str, parent: Option<&str>, age: i64, left: i64) -> RoleReport {
    let days = chrono::TimeDelta::days;
    let key = |name: &str, id: &str| KeyReport { id: KeyId(id.repeat(8)), name: Some(name.to_owned()) };
    RoleReport {
        name: name.to_owned(),
        parent: parent.map(str::to_owned),
        scope: if name.contains("--") { "acme/net-monitor".to_owned() } else { String::new() },
        keys: vec![key("alice", "0123abcd"), key("bob", "4567cdef")],
        key_count: 2,
        threshold: 1,
        document: Some(DocumentReport {
            version: 3,
            signed: Some(now() - days(age)),
            expires: now() + days(left),
            bytes: 1000,
            targets: 2,
            revocations: 1,
        }),
    }
}

/// A trust repository that is well: timestamp 31 was signed half an hour ago.
pub(crate) fn report() -> Report {
    let hours = chrono::TimeDelta::hours;
    let signed = now() - chrono::TimeDelta::minutes(30);
    let document = DocumentReport {
        version: 31,
        signed: Some(signed),
        expires: signed + hours(24),
        bytes: 500,
        targets: 0,
        revocations: 0,
    };
    let roles = vec![
        role("root", None, 100, 265),
        RoleReport { document: Some(document), ..role("timestamp", None, 0, 1) },
        role("snapshot", None, 1, 6),
        RoleReport { scope: "acme/**".to_owned(), ..role("targets", None, 30, 335) },
        role("targets--net-monitor", Some("targets"), 10, 80),
        role("targets--net-monitor--edge", Some("targets--net-monitor"), 5, 85),
    ];
    let mut recorder = Recorder::default();
    for (version, ago) in (20..=31).rev().zip(0_i64..) {
        let at = signed - hours(ago);
        let point = Point { timestamp_version: version, signed: at, seen: Some(at) };
        recorder.points.push_front(point);
    }
    let served = Served { version: 31, signed: Some(signed), expires: signed + hours(24), published: signed };
    Report {
        name: "acme".to_owned(),
        repository: "registry.example.com/acme/trust".to_owned(),
        trust_id: Some("00112233445566778899aabbccddeeff".to_owned()),
        at: now(),
        health: Health {
            ready: true,
            alarm: None,
            detail: "fresh".to_owned(),
            timestamp_expires: Some(served.expires),
            registry_clock: None,
            published: Some(31),
        },
        lives: Lives { timestamp_validity: 86_400, timestamp_interval: 3_600, snapshot_validity: 7 * 86_400 },
        tree: Arc::new(Tree { timestamp_version: 31, roles, removed: 1 }),
        unread: None,
        stored: Some(document),
        served: Some(served),
        lag: Lag { versions: 0, seconds: 0 },
        last_success: Some(signed),
        queue: Queue { submissions: 0, limit: QUEUE, kib: 0, kib_limit: QUEUE_KIB },
        counts: Counts { accepted: 4, resigned: 11, ..Counts::default() },
        commits: Histogram::default(),
        pushes: Histogram::default(),
        visible: Histogram::default(),
        publishes: vec![PublishEvent {
            at: signed,
            id: "4bf7d9eb558c5ea94db999442abb862c".to_owned(),
            roles: vec![("targets--net-monitor".to_owned(), 3)],
            role_count: 1,
            timestamp_version: 31,
        }],
        refusals: vec![RefusalEvent {
            at: signed,
            reason: "threshold".to_owned(),
            message: "targets--net-monitor: 0 of 1 signatures".to_owned(),
            times: 3,
        }],
        points: recorder.points.into(),
    }
}
