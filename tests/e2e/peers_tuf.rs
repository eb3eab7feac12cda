//! Other people's programs read what ours write: python-tuf, tough, securesystemslib, openssl, cryptography.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use data_encoding::HEXLOWER;
use plimsoll_core::tuf::{Key, json};
use plimsoll_tests::{
    http,
    middle::{Effect, Middle, Rule},
    peers,
    process::{self, Cli},
    tough_peer,
    world::{IMAGES, NAME, ROLE, Site, World},
};
use serde_json::Value;
use tempfile::TempDir;

/// What python-tuf's client finds by the daemon at `base`.
fn ngclient(world: &World, base: &str, target: &str) -> process::Run {
    let metadata = format!("{base}/tuf/{NAME}/metadata/");
    peers::ngclient(&metadata, &format!("{base}/targets/"), &root(world), target)
}

fn root(world: &World) -> PathBuf {
    world.owner().home().join("acme-root.json")
}

/// What tough finds in the plain TUF files of the daemon.
fn tough(world: &World) -> tough_peer::Loaded {
    let directory = dump(world);
    tough_peer::load(&fs::read(root(world)).unwrap(), directory.path()).unwrap()
}

/// All that a stock client could ask for, in a folder.
fn dump(world: &World) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let get = |file: &str| {
        let url = format!("{}/tuf/{NAME}/metadata/{file}", world.daemon.url());
        let answer = http::get(&url).unwrap();
        (answer.status == 200).then(|| {
            fs::write(directory.path().join(file), &answer.body).unwrap();
            serde_json::from_slice::<Value>(&answer.body).unwrap()
        })
    };
    let roots = (1..100).take_while(|version| get(&format!("{version}.root.json")).is_some()).count();
    assert_eq!(roots, 1);
    let timestamp = get("timestamp.json").unwrap();
    let version = &timestamp["signed"]["meta"]["snapshot.json"]["version"];
    let snapshot = get(&format!("{version}.snapshot.json")).unwrap();
    for (file, meta) in snapshot["signed"]["meta"].as_object().unwrap() {
        get(&format!("{}.{file}", meta["version"])).unwrap();
    }
    directory
}

#[test]
fn python_tuf_and_tough_find_what_is_signed_until_it_is_revoked() {
    let world = World::ready(Site::embedded());
    let image = world.push("v1", "for all clients\n");
    world.sign("v1").ok();
    world.sign_elsewhere("v1");
    let name = format!("{IMAGES}:v1");

    let middle = Middle::start(&world.daemon.address());
    let found = ngclient(&world, &middle.url(), &name).ok().json();
    assert_eq!(found["target"]["length"], image.size());
    assert_eq!(found["target"]["sha256"], image.digest().hex());
    let paths: Vec<String> = middle.take_log().into_iter().map(|entry| entry.path).collect();
    assert!(paths.iter().any(|path| path.ends_with(&format!("{ROLE}.json"))), "{paths:#?}");
    assert!(!paths.iter().any(|path| path.contains("other")), "{paths:#?}");

    let by_digest = format!("{IMAGES}@{}", image.digest());
    for name in [&name, &by_digest] {
        let found = ngclient(&world, &world.daemon.url(), name).ok().json();
        assert_eq!(found["target"]["sha256"], image.digest().hex(), "{name}");
    }
    assert_eq!(
        ngclient(&world, &world.daemon.url(), "acme/net-monitor:v2").ok().json()["target"],
        Value::Null
    );

    let loaded = tough(&world);
    for field in ["root", "timestamp", "snapshot", "targets"] {
        let version = match field {
            "root" => loaded.root,
            "timestamp" => loaded.timestamp,
            "snapshot" => loaded.snapshot,
            _ => loaded.targets,
        };
        assert_eq!(found[field], version, "{field}");
    }
    assert_eq!(loaded.found[&name], (image.size(), image.digest().hex()));
    assert_eq!(loaded.found[&by_digest], (image.size(), image.digest().hex()));
    assert!(loaded.found.contains_key("acme/other:v1"));

    world.revoke("v1", "enough").ok();
    for name in [&name, &by_digest] {
        let found = ngclient(&world, &world.daemon.url(), name).ok().json();
        assert_eq!(found["target"], Value::Null, "{name}");
        assert!(!tough(&world).found.contains_key(name), "{name}");
    }
    assert!(tough(&world).found.contains_key("acme/other:v1"));
}

#[test]
fn python_tuf_and_tough_read_ecdsa_signatures_and_refuse_what_has_expired() {
    let world = World::ready(Site::embedded().ecdsa().timestamp(4, 1));
    let image = world.push("v1", "soon stale\n");
    world.sign("v1").ok();
    let middle = Middle::start(&world.daemon.address());
    let name = format!("{IMAGES}:v1");
    middle.set(Rule::new("GET", "/timestamp.json"), Effect::Freeze);
    let found = ngclient(&world, &middle.url(), &name).ok().json();
    assert_eq!(found["target"]["sha256"], image.digest().hex());

    // The clock is the wall's: four seconds have to pass.
    let frozen = dump(&world);
    let deadline = Instant::now() + Duration::from_secs(30);
    let refused = loop {
        let run = ngclient(&world, &middle.url(), &name);
        if run.code != 0 || Instant::now() > deadline {
            break run.expect_code(1);
        }
    };
    assert!(refused.stderr.starts_with("ExpiredMetadataError"), "{}", refused.stderr);
    let root = fs::read(root(&world)).unwrap();
    while tough_peer::load(&root, frozen.path()).is_ok() {
        assert!(Instant::now() < deadline, "tough takes an expired timestamp");
    }
    let refused = tough_peer::load(&root, frozen.path()).unwrap_err();
    assert!(refused.to_lowercase().contains("expired"), "{refused}");

    // The daemon has kept it fresh all the time.
    ngclient(&world, &world.daemon.url(), &name).ok();
    assert!(tough(&world).found.contains_key(&name));
}

#[test]
fn python_and_openssl_open_the_keys_we_make() {
    let home = tempfile::tempdir().unwrap();
    let cli = Cli::new(home.path());
    let path = |file: &str| home.path().join(file);
    fs::write(path("passphrase"), "correct horse battery staple\n").unwrap();
    fs::write(path("wrong"), "incorrect horse battery staple\n").unwrap();
    for (name, flags) in [("plain", &[] as &[&str]), ("curve", &["--ecdsa"])] {
        let mut arguments = vec!["key", "generate", name, "--passphrase-file", "passphrase"];
        arguments.extend(flags);
        cli.run(&arguments).ok();
        let private = path(&format!("{name}.key"));
        assert!(fs::read_to_string(&private).unwrap().starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
        let public = fs::read_to_string(path(&format!("{name}.pub"))).unwrap();

        assert_eq!(peers::open_key(&private, &path("passphrase")).ok().stdout.trim(), public.trim());
        peers::open_key(&private, &path("wrong")).expect_code(1);
        assert_eq!(openssl(&private, &path("passphrase")).ok().stdout.trim(), public.trim());
        assert_ne!(openssl(&private, &path("wrong")).code, 0);
    }
}

/// T02, T57, T59: the verdicts that stand in the core's file of signatures are still those of the library under
/// python-tuf, and ours differ from them only where the file says why.
#[test]
fn python_agrees_on_keys_and_signatures_but_where_a_reason_is_given() {
    const CASES: &str = include_str!("../../client/core/tests/vectors/signatures.json");
    let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
    let theirs = peers::verifies(CASES);
    assert_eq!(theirs.len(), cases.len());
    for (case, theirs) in cases.iter().zip(theirs) {
        assert_eq!(case["verifies"], theirs, "{}", case["name"]);
        let key: Key = serde_json::from_value(case["key"].clone()).unwrap();
        let message = case["message"].as_str().unwrap().as_bytes();
        let ours = HEXLOWER
            .decode(case["sig"].as_str().unwrap().as_bytes())
            .is_ok_and(|signature| key.verifies(message, &signature));
        assert_eq!(ours != theirs, case["unlike"].is_string(), "{}", case["name"]);
    }
}

/// An owner can delegate to an RSA key of openssl's, and stock clients read on; a P-384 key, with which tough would
/// refuse the whole of the targets role, is refused in plain words.
#[test]
fn python_tuf_and_tough_read_a_delegation_to_an_rsa_key() {
    let world = World::ready(Site::embedded());
    let image = world.push("v1", "beside RSA\n");
    world.sign("v1").ok();
    let folder = world.owner().home().join("../foreign");
    fs::create_dir(&folder).unwrap();
    let generate = |algorithm: &str, option: &str| {
        let private = folder.join("foreign.key");
        let mut command = Command::new("openssl");
        command.args(["genpkey", "-algorithm", algorithm, "-pkeyopt", option, "-out"]).arg(&private);
        process::run(&mut command, b"").ok();
        let mut command = Command::new("openssl");
        command.args(["pkey", "-pubout", "-in"]).arg(&private).arg("-out").arg(folder.join("foreign.pub"));
        process::run(&mut command, b"").ok();
    };
    generate("EC", "ec_paramgen_curve:P-384");
    let refused = world.delegate("acme/foreign", "foreign", "foreign");
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("other TUF clients cannot read"), "{}", refused.stderr);
    generate("RSA", "rsa_keygen_bits:2048");
    world.delegate("acme/foreign", "foreign", "foreign").ok();

    let name = format!("{IMAGES}:v1");
    let found = ngclient(&world, &world.daemon.url(), &name).ok().json();
    assert_eq!(found["target"]["sha256"], image.digest().hex());
    let targets =
        http::get(&format!("{}/tuf/{NAME}/metadata/{}.targets.json", world.daemon.url(), found["targets"]));
    assert!(String::from_utf8(targets.unwrap().body).unwrap().contains("rsassa-pss-sha256"));
    // It reads the file; roles it lists none of, as it stops at the first one that has published nothing yet.
    assert_eq!(found["targets"], tough(&world).targets);
}

fn openssl(key: &Path, passphrase: &Path) -> process::Run {
    let mut command = Command::new("openssl");
    command.args(["pkey", "-pubout", "-in"]).arg(key);
    command.arg("-passin").arg(format!("file:{}", passphrase.display()));
    process::run(&mut command, b"")
}

/// T55. `PLIMSOLL_DIFFERENTIAL=1000000` for the long run; `PLIMSOLL_DIFFERENTIAL_SEED` for other documents.
#[test]
fn canonical_json_is_the_same_as_securesystemslibs_on_generated_documents() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let count = number("PLIMSOLL_DIFFERENTIAL", 20_000);
    let mut generator = Generator(number("PLIMSOLL_DIFFERENTIAL_SEED", 1));
    let mut refused = 0;
    let mut kinds = BTreeMap::new();
    for start in (0..count).step_by(5_000) {
        let documents: Vec<String> =
            (start..count.min(start + 5_000)).map(|_| generator.document()).collect();
        let lines: Vec<&str> = documents.iter().map(String::as_str).collect();
        for (document, theirs) in documents.iter().zip(peers::canonical(&lines)) {
            for kind in unusual(document) {
                *kinds.entry(kind).or_insert(0_u64) += 1;
            }
            let ours = json::parse(document.as_bytes()).and_then(|value| value.canonical());
            match (&ours, &theirs) {
                (Ok(ours), Ok(theirs)) => assert_eq!(ours, theirs, "{document}"),
                (Err(_), Err(_)) => refused += 1,
                _ => panic!("{document}\nours: {ours:?}\ntheirs: {theirs:?}"),
            }
        }
    }
    // Documents with a float somewhere, which neither has a canonical form for.
    assert!(refused > 0 && refused < count / 3, "{refused} of {count} refused");
    // And documents of each kind that encoders trip over.
    assert!(kinds.len() == 4 && kinds.values().all(|&documents| documents > count / 1000), "{kinds:?}");
}

/// What is unusual about a document, of what encoders trip over.
fn unusual(document: &str) -> BTreeSet<&'static str> {
    fn walk(value: &Value, kinds: &mut BTreeSet<&'static str>) {
        let mut text = |text: &str| {
            kinds.extend(text.contains(|c: char| c > '\u{ffff}').then_some("astral"));
            kinds.extend(text.contains(char::is_control).then_some("control"));
            // A letter and an accent that have a form in one character: e with acute, for instance.
            let mut pairs = text.chars().zip(text.chars().skip(1));
            kinds.extend(
                pairs.any(|(c, next)| "aeiouy".contains(c) && next == '\u{301}').then_some("not normalised"),
            );
        };
        match value {
            Value::String(string) => text(string),
            Value::Array(items) => items.iter().for_each(|item| walk(item, kinds)),
            Value::Object(members) => {
                members.keys().for_each(|name| text(name));
                let mut names: Vec<&String> = members.keys().collect();
                names.sort_by(|a, b| a.chars().cmp(b.chars()));
                if !names.is_sorted_by(|a, b| a.encode_utf16().le(b.encode_utf16())) {
                    kinds.insert("sorted otherwise in UTF-16");
                }
                members.values().for_each(|value| walk(value, kinds));
            }
            _ => {}
        }
    }
    let mut kinds = BTreeSet::new();
    // Not the few that have integers or nesting beyond what this reader takes.
    if let Ok(value) = serde_json::from_str(document) {
        walk(&value, &mut kinds);
    }
    kinds
}

/// Makes JSON documents, the same ones for the same seed.
struct Generator(u64);

impl Generator {
    /// One of `0..below` (xorshift64*, Vigna 2016).
    fn pick(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % below
    }

    fn document(&mut self) -> String {
        let mut out = String::new();
        self.value(&mut out, 0);
        out
    }

    fn value(&mut self, out: &mut String, depth: u32) {
        self.space(out);
        match self.pick(if depth > 5 { 8 } else { 14 }) {
            0 => out.push_str("null"),
            1 => out.push_str(["true", "false"][usize::from(self.pick(2) == 0)]),
            2..=4 => self.number(out),
            5..=7 => self.string(out),
            8..=10 => self.list(out, depth, '[', ']', false),
            _ => self.list(out, depth, '{', '}', true),
        }
        self.space(out);
    }

    fn list(&mut self, out: &mut String, depth: u32, open: char, close: char, named: bool) {
        out.push(open);
        let mut names = std::collections::HashSet::new();
        for i in 0..self.pick(5) {
            let mut name = String::new();
            if named {
                self.string(&mut name);
                let decoded: String = serde_json::from_str(&name).unwrap();
                // One name, one member: the other library lets the last one win.
                if !names.insert(decoded) {
                    continue;
                }
            }
            if i > 0 && !out.ends_with(open) {
                out.push(',');
            }
            if named {
                self.space(out);
                out.push_str(&name);
                self.space(out);
                out.push(':');
            }
            self.value(out, depth + 1);
        }
        out.push(close);
    }

    fn number(&mut self, out: &mut String) {
        let high = self.pick(1 << 32);
        let number = (high << 32 | self.pick(1 << 32)).cast_signed();
        match self.pick(40) {
            // Not `-0`, which we refuse (T52) and Python reads as 0.
            1 => out.push_str(["1.5", "-0.0", "1e3", "2E-7"][usize::try_from(self.pick(4)).unwrap()]),
            2 => out.push_str(&i64::MIN.to_string()),
            3 => out.push_str(&i64::MAX.to_string()),
            4..=20 => out.push_str(&(number >> 50).to_string()),
            _ => out.push_str(&number.to_string()),
        }
    }

    fn string(&mut self, out: &mut String) {
        const ESCAPES: [&str; 8] = ["\\\"", "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t"];
        out.push('"');
        for _ in 0..self.pick(9) {
            match self.pick(10) {
                0 => out.push_str(ESCAPES[usize::try_from(self.pick(8)).unwrap()]),
                1 | 2 => {
                    // As an escape, in pairs of surrogates beyond the first plane; hex digits of either case.
                    let upper = self.pick(2) == 0;
                    for unit in self.character().encode_utf16(&mut [0; 2]) {
                        let escape = if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
                        out.push_str(&escape);
                    }
                }
                3..=5 => {
                    let c = self.character();
                    if c >= ' ' && c != '"' && c != '\\' {
                        out.push(c);
                    }
                }
                _ => out.push(char::from(b'a' + u8::try_from(self.pick(26)).unwrap())),
            }
        }
        out.push('"');
    }

    /// Any scalar value, most of them from where encoders differ.
    fn character(&mut self) -> char {
        let code = match self.pick(6) {
            0 => self.pick(0x80),
            1 => self.pick(0x800),
            // Around the surrogates: code point order is not the order of UTF-16 units.
            2 => 0xD700 + self.pick(0x2900),
            3 => self.pick(0x1_0000),
            4 => 0x1_0000 + self.pick(0x10_0000),
            _ => [0x7F, 0x2028, 0x2029, 0xFEFF, 0xFFFD, 0xFFFF, 0xE9, 0x301]
                [usize::try_from(self.pick(8)).unwrap()],
        };
        u32::try_from(code).ok().and_then(char::from_u32).unwrap_or('\u{FFFD}')
    }

    /// White space of JSON, but no line feed: one document is one line.
    fn space(&mut self, out: &mut String) {
        match self.pick(12) {
            0 => out.push(' '),
            1 => out.push('\t'),
            2 => out.push_str(" \r "),
            _ => {}
        }
    }
}
