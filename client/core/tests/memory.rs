//! Hostile documents at the size limits: however they are made, reading one takes memory in proportion to its length.

#![allow(clippy::unwrap_used)]

use plimsoll_core::tuf::{Document, Root, Snapshot, Targets, Timestamp, limit, metadata::RoleType};

/// Peak memory, in bytes for each byte of the document. The worst are made of maps with one entry.
const MULTIPLE: u64 = 48;
/// What the allocator and the test's own documents may take beside it.
const SLACK: u64 = 4 * 1024 * 1024;

/// A name, and what makes a document, parses it and tells its length.
type Case = (&'static str, fn() -> u64);

fn parse<T: RoleType>(bytes: &[u8]) -> u64 {
    assert!(bytes.len() as u64 <= limit::of(T::TYPE));
    drop(Document::<T>::parse(T::TYPE, bytes));
    bytes.len() as u64
}

/// `head`, then as many of `unit(0)`, `unit(1)`, … with commas as the limit of `T` allows, then `tail`; parsed.
fn filled<T: RoleType>(head: &str, unit: impl Fn(u64) -> String, tail: &str) -> u64 {
    let room = usize::try_from(limit::of(T::TYPE)).unwrap() - tail.len() - 1;
    let mut text = String::with_capacity(room + tail.len() + 1);
    text.push_str(head);
    for i in 0.. {
        let unit = unit(i);
        if text.len() + unit.len() > room {
            break;
        }
        text.push_str(&unit);
        text.push(',');
    }
    text.pop();
    text.push_str(tail);
    parse::<T>(text.as_bytes())
}

const COMMON: &str = r#""expires":"2030-01-01T00:00:00Z","spec_version":"1.0.34","version":1"#;

/// `signed` of a targets document with `head`, units and `tail` among its members, the required ones in front.
fn targets(head: &str, unit: impl Fn(u64) -> String, tail: &str) -> u64 {
    let head = format!(r#"{{"signatures":[],"signed":{{"_type":"targets",{COMMON},{head}"#);
    filled::<Targets>(&head, unit, &format!("{tail}}}}}"))
}

fn unknown(unit: &'static str) -> u64 {
    targets(r#""targets":{},"x":["#, |_| unit.to_owned(), "]")
}

fn meta(role: &str) -> String {
    format!(r#"{{"signatures":[],"signed":{{"_type":"{role}",{COMMON},"meta":{{"#)
}

/// Smaller limits first: a peak is never forgotten.
const CASES: [Case; 15] = [
    ("a timestamp of many files", || {
        let unit = |i| format!(r#""{i:05}":{{"hashes":{{"":""}},"version":1}}"#);
        filled::<Timestamp>(&meta("timestamp"), unit, "}}}")
    }),
    ("a root of many keys", || {
        let head = format!(r#"{{"signatures":[],"signed":{{"_type":"root",{COMMON},"roles":{{}},"keys":{{"#);
        let unit = |i| format!(r#""{i:05}":{{"keytype":"","keyval":{{"":0}},"scheme":"","x":0}}"#);
        filled::<Root>(&head, unit, "}}}")
    }),
    ("one name", || targets(r#""targets":{},""#, |_| "n".repeat(1 << 16), r#"":0"#)),
    ("escapes in a text", || unknown(r#""\u0041\u0041\u0041\u0041\u0041\u0041\u0041\u0041\u0041\u0041""#)),
    ("unknown numbers", || unknown("1")),
    ("unknown objects", || unknown(r#"{"":0}"#)),
    ("unknown members out of order", || {
        targets(r#""targets":{},"x":["#, |_| r#"{"b":[{}],"a":{"":[]}}"#.to_owned(), "]")
    }),
    ("duplicates at the end", || filled::<Targets>("{", |i| format!(r#""{}":0"#, i % 500_000), "}")),
    ("signatures", || {
        filled::<Targets>(
            r#"{"signatures":["#,
            |i| format!(r#"{{"keyid":"{i:x}","sig":""}}"#),
            r#"],"signed":{}}"#,
        )
    }),
    ("patterns", || {
        let head = r#""targets":{},"delegations":{"keys":{},"roles":[{"name":"a","keyids":[],"threshold":1,"terminating":true,"paths":["#;
        targets(head, |_| r#""""#.to_owned(), "]}]}")
    }),
    ("delegations", || {
        let unit = |i| {
            format!(r#"{{"keyids":[],"name":"{i:x}","paths":[],"terminating":true,"threshold":1,"x":0}}"#)
        };
        targets(r#""delegations":{"keys":{},"roles":["#, unit, r#"]},"targets":{}"#)
    }),
    ("delegated keys", || {
        let unit = |i| format!(r#""{i:06}":{{"keytype":"","keyval":{{"":0}},"scheme":"","x":0}}"#);
        targets(r#""delegations":{"keys":{"#, unit, r#"},"roles":[]},"targets":{}"#)
    }),
    ("entries with all members", || {
        let unit = |i| format!(r#""{i:06}":{{"custom":{{"":0}},"hashes":{{"":""}},"length":1,"x":0}}"#);
        targets(r#""targets":{"#, unit, "}")
    }),
    ("a snapshot of many roles", || {
        let unit = |i| format!(r#""{i:06}":{{"hashes":{{"":""}},"version":1,"x":0}}"#);
        filled::<Snapshot>(&meta("snapshot"), unit, "}}}")
    }),
    ("revocations", || {
        let unit = |_| r#"{"at":"2030-01-01T00:00:00Z","reason":"","x":0}"#.to_owned();
        targets(
            r#""targets":{},"x-plimsoll":{"at":"2030-01-01T00:00:00Z","trust":"","revocations":["#,
            unit,
            "]}",
        )
    }),
];

/// T36, T41, T52, T53, T56: nobody's document takes more than a stated multiple of its length to be refused or read.
#[test]
fn memory_is_a_small_multiple_of_the_document_whatever_it_holds() {
    let before = peak();
    let mut worst = 0;
    for (name, case) in CASES {
        let length = case();
        let grown = peak() - before;
        worst = worst.max(grown / length);
        assert!(grown <= MULTIPLE * length + SLACK, "{name}: {grown} bytes for a document of {length}");
    }
    assert!(worst > 0, "the peak did not move: it is not measured");
}

/// The most memory this process ever had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}
