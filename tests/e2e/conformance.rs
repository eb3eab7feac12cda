//! `plimsoll-conformance`, driven as the TUF conformance suite drives clients: exit codes, the folder of trusted
//! metadata, the target files, and every request.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use plimsoll_tests::{
    process::{Run, binary, run},
    tuf_repository::{ONLINE, TufRepository, hash, in_days, segment_of},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A client: its metadata in `metadata`, its targets in `targets`, and a place beside them where nothing may appear.
struct Client {
    home: TempDir,
}

impl Client {
    /// One that was given the first root, and asked nobody for it.
    fn of(repository: &TufRepository) -> Self {
        let home = tempfile::tempdir().unwrap();
        let client = Self { home };
        fs::create_dir(client.metadata()).unwrap();
        fs::create_dir(client.targets()).unwrap();
        let root = client.home.path().join("given");
        fs::write(&root, repository.file("/metadata/1.root.json")).unwrap();
        client.init(&root).ok();
        assert_eq!(repository.take_log(), [""; 0]);
        assert_eq!(client.documents(), documents([("root.json", repository.file("/metadata/1.root.json"))]));
        client
    }

    fn metadata(&self) -> PathBuf {
        self.home.path().join("metadata")
    }

    fn targets(&self) -> PathBuf {
        self.home.path().join("targets")
    }

    fn init(&self, root: &Path) -> Run {
        self.run(&[OsStr::new("init"), root.as_os_str()])
    }

    fn refresh(&self, repository: &TufRepository) -> Run {
        self.run(&["--metadata-url", &repository.metadata_url(), "refresh"].map(OsStr::new))
    }

    fn download(&self, repository: &TufRepository, names: &[&str]) -> Run {
        let folder = self.targets();
        let (metadata, targets) = (repository.metadata_url(), repository.targets_url());
        let mut arguments = vec![OsStr::new("--metadata-url"), OsStr::new(&metadata)];
        for name in names {
            arguments.extend(["--target-name", name].map(OsStr::new));
        }
        arguments.extend([OsStr::new("--target-dir"), folder.as_os_str()]);
        arguments.extend(["--target-base-url", &targets, "download"].map(OsStr::new));
        self.run(&arguments)
    }

    fn run(&self, arguments: &[&OsStr]) -> Run {
        let mut command = Command::new(binary("plimsoll-conformance"));
        checked(run(command.arg("--metadata-dir").arg(self.metadata()).args(arguments), b""))
    }

    /// Every file below the metadata folder that a reader takes for metadata.
    fn documents(&self) -> BTreeMap<String, Vec<u8>> {
        files(&self.metadata()).into_iter().filter(|(name, _)| name.ends_with(".json")).collect()
    }

    /// What lies below the target folder.
    fn downloaded(&self) -> BTreeMap<String, Vec<u8>> {
        files(&self.targets())
    }
}

/// Either 0 and silence, or 1 and one line.
fn checked(run: Run) -> Run {
    match run.code {
        0 => assert_eq!(run.stderr, "", "{}", run.command),
        1 => assert_eq!((run.stderr.lines().count(), &run.stderr[..7]), (1, "error: "), "{}", run.stderr),
        code => panic!("{code} is neither 0 nor 1: {}", run.command),
    }
    run
}

/// The files below `folder`, by their path in it; symlinks are not followed.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

fn documents<const N: usize>(documents: [(&str, Vec<u8>); N]) -> BTreeMap<String, Vec<u8>> {
    documents.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

/// What a first refresh leaves behind, of these versions.
fn top_level(
    repository: &TufRepository,
    root: u64,
    snapshot: u64,
    targets: u64,
) -> BTreeMap<String, Vec<u8>> {
    documents([
        ("root.json", repository.file(&format!("/metadata/{root}.root.json"))),
        ("timestamp.json", repository.file("/metadata/timestamp.json")),
        ("snapshot.json", repository.file(&format!("/metadata/{snapshot}.snapshot.json"))),
        ("targets.json", repository.file(&format!("/metadata/{targets}.targets.json"))),
    ])
}

fn delegated(name: &str, version: u64) -> String {
    format!("/metadata/{version}.{}.json", segment_of(name))
}

/// The suite reads exit codes, the metadata folder and the requests; each is exact.
#[test]
fn a_refresh_asks_for_what_changed_and_keeps_it_as_received() {
    let mut repository = TufRepository::start();
    let client = Client::of(&repository);
    client.refresh(&repository).ok();
    let first = [
        "GET /metadata/2.root.json 404",
        "GET /metadata/timestamp.json 200",
        "GET /metadata/1.snapshot.json 200",
        "GET /metadata/1.targets.json 200",
    ];
    assert_eq!(repository.take_log(), first);
    assert_eq!(client.documents(), top_level(&repository, 1, 1, 1));

    // Nothing new.
    client.refresh(&repository).ok();
    let steady = ["GET /metadata/2.root.json 404", "GET /metadata/timestamp.json 200"];
    assert_eq!(repository.take_log(), steady);
    assert_eq!(client.documents(), top_level(&repository, 1, 1, 1));

    // A new timestamp that names the same snapshot.
    repository.publish(&["timestamp"]);
    client.refresh(&repository).ok();
    assert_eq!(repository.take_log(), steady);
    assert_eq!(client.documents(), top_level(&repository, 1, 1, 1));

    // A new snapshot that names the same targets.
    repository.publish(&["snapshot", "timestamp"]);
    client.refresh(&repository).ok();
    let snapshot = [steady[0], steady[1], "GET /metadata/2.snapshot.json 200"];
    assert_eq!(repository.take_log(), snapshot);
    assert_eq!(client.documents(), top_level(&repository, 1, 2, 1));

    // Two new roots at once.
    repository.publish(&["root", "root"]);
    client.refresh(&repository).ok();
    let roots = [
        "GET /metadata/2.root.json 200",
        "GET /metadata/3.root.json 200",
        "GET /metadata/4.root.json 404",
        "GET /metadata/timestamp.json 200",
    ];
    assert_eq!(repository.take_log(), roots);
    assert_eq!(client.documents(), top_level(&repository, 3, 2, 1));

    // New keys for everything but root.
    for role in ONLINE {
        repository.rotate(role);
    }
    repository.publish(&["root", "targets", "snapshot", "timestamp"]);
    client.refresh(&repository).ok();
    let rotated = [
        "GET /metadata/4.root.json 200",
        "GET /metadata/5.root.json 404",
        "GET /metadata/timestamp.json 200",
        "GET /metadata/3.snapshot.json 200",
        "GET /metadata/2.targets.json 200",
    ];
    assert_eq!(repository.take_log(), rotated);
    assert_eq!(client.documents(), top_level(&repository, 4, 3, 2));
}

#[test]
fn a_target_is_downloaded_once_and_again_when_it_changed() {
    let mut repository = TufRepository::start();
    repository.add_target("targets", "dir/file.txt", "one", &["sha256"]);
    repository.publish(&ONLINE);
    let client = Client::of(&repository);
    client.refresh(&repository).ok();
    assert_eq!(client.downloaded(), documents([]));
    repository.take_log();
    let steady = ["GET /metadata/2.root.json 404", "GET /metadata/timestamp.json 200"].map(str::to_owned);

    client.download(&repository, &["dir/file.txt"]).ok();
    let fetch = format!("GET /targets/dir/{}.file.txt 200", hash("sha256", b"one"));
    assert_eq!(repository.take_log(), [&steady[..], &[fetch]].concat());
    let [(name, content)] = Vec::from_iter(client.downloaded()).try_into().unwrap();
    assert_eq!(content, b"one");

    client.download(&repository, &["dir/file.txt"]).ok();
    assert_eq!(repository.take_log(), steady);

    // Changed behind our back: fetched again.
    fs::write(client.targets().join(&name), "eno").unwrap();
    client.download(&repository, &["dir/file.txt"]).ok();
    assert_eq!(repository.take_log().len(), 3);
    assert_eq!(client.downloaded(), documents([(&name, b"one".to_vec())]));

    repository.add_target("targets", "dir/file.txt", "two", &["sha256"]);
    repository.publish(&ONLINE);
    client.download(&repository, &["dir/file.txt"]).ok();
    assert_eq!(client.downloaded(), documents([(&name, b"two".to_vec())]));
}

#[test]
fn several_targets_share_one_refresh() {
    let mut repository = TufRepository::start();
    repository.add_target("targets", "one", "1", &["sha256"]);
    repository.add_target("targets", "two", "2", &["sha256"]);
    repository.publish(&ONLINE);
    let client = Client::of(&repository);
    client.download(&repository, &["one", "two"]).ok();
    let log = repository.take_log();
    let asked: Vec<&str> = log.iter().map(|line| line.split_once(' ').unwrap().1).collect();
    let metadata = ["2.root.json 404", "timestamp.json 200", "2.snapshot.json 200", "2.targets.json 200"];
    let metadata = metadata.map(|file| format!("/metadata/{file}"));
    let files = [("one", "1"), ("two", "2")]
        .map(|(name, content)| format!("/targets/{}.{name} 200", hash("sha256", content.as_bytes())));
    assert_eq!(asked, [&metadata[..], &files].concat());
    assert_eq!(client.downloaded(), documents([("one", b"1".to_vec()), ("two", b"2".to_vec())]));
}

/// A role that was verified for one delegator is verified again for the next, in the same run and in a later one.
#[test]
fn a_held_role_is_verified_for_the_delegator_that_leads_to_it() {
    let mut repository = TufRepository::start();
    repository.delegate("targets", "a", &["a/*"]);
    repository.delegate("targets", "b", &["b/*"]);
    // `c` is signed with the key that `a` names for it, never with the one that `b` names.
    repository.delegate("a", "c", &["a/*"]);
    repository.delegate("b", "c", &["b/*"]);
    repository.add_target("c", "a/file", "through a", &["sha256"]);
    repository.add_target("c", "b/file", "through b", &["sha256"]);
    repository.publish(&["a", "b", "c", "targets", "snapshot", "timestamp"]);
    let client = Client::of(&repository);
    let good = documents([("a%2Ffile", b"through a".to_vec())]);
    client.download(&repository, &["a/file", "b/file"]).expect_code(1);
    assert_eq!(client.downloaded(), good);
    let asked = repository.take_log().concat();
    assert!(!asked.contains(&hash("sha256", b"through b")), "{asked}");
    client.download(&repository, &["b/file"]).expect_code(1);
    assert_eq!(client.downloaded(), good);
    client.download(&repository, &["a/file"]).ok();
}

/// T60: a role name is one segment of a URL and one file name, whatever it holds.
#[test]
fn a_role_name_never_leaves_its_folder_or_its_segment() {
    let long = "x".repeat(300);
    let names = [
        "?",
        "#",
        "/x",
        "../x",
        "..",
        ".",
        "a\0b",
        "a\\b",
        "CON",
        "%2e%2e%2fx",
        "é b",
        "../../snapshot",
        &long,
    ];
    for consistent in [true, false] {
        let mut repository = TufRepository::start();
        repository.document("root")["consistent_snapshot"] = json!(consistent);
        for name in names {
            repository.delegate("targets", name, &["*"]);
        }
        repository.publish(&["root"]);
        repository.publish(&names);
        repository.publish(&ONLINE);
        let client = Client::of(&repository);
        let beside = files(client.home.path());
        client.download(&repository, &["absent"]).expect_code(1);
        let asked: Vec<String> = names
            .iter()
            .map(|name| if consistent { format!("1.{name}") } else { (*name).to_owned() })
            .map(|name| format!("GET /metadata/{}.json 200", segment_of(&name)))
            .collect();
        let log = repository.take_log();
        assert_eq!(log[log.len() - names.len()..], asked);
        // The four top-level roles under their names, and one file for each of these; nothing outside.
        let found = client.documents();
        assert_eq!(found.len(), 4 + names.len(), "{:?}", found.keys());
        assert!(found.keys().all(|name| !name.contains('/')), "{:?}", found.keys());
        for name in names {
            let bytes = repository.file(&repository.path(name, 1));
            assert_eq!(found.values().filter(|found| **found == bytes).count(), 1, "{name:?}");
        }
        let outside = |files: BTreeMap<String, Vec<u8>>| -> Vec<String> {
            files.into_keys().filter(|name| !name.starts_with("metadata/")).collect()
        };
        assert_eq!(outside(files(client.home.path())), outside(beside));
        // And they are found again.
        client.download(&repository, &["absent"]).expect_code(1);
        assert_eq!(client.documents(), found);
    }
}

#[test]
fn without_consistent_snapshots_names_carry_neither_version_nor_hash() {
    let mut repository = TufRepository::start();
    repository.document("root")["consistent_snapshot"] = json!(false);
    repository.publish(&["root"]);
    repository.delegate("targets", "team", &["team/*"]);
    repository.add_target("team", "team/file", "content", &["sha256"]);
    repository.publish(&["team", "targets", "snapshot", "timestamp"]);
    let client = Client::of(&repository);
    client.download(&repository, &["team/file"]).ok();
    let asked = [
        "GET /metadata/2.root.json 200",
        "GET /metadata/3.root.json 404",
        "GET /metadata/timestamp.json 200",
        "GET /metadata/snapshot.json 200",
        "GET /metadata/targets.json 200",
        "GET /metadata/team.json 200",
        "GET /targets/team/file 200",
    ];
    assert_eq!(repository.take_log(), asked);
    assert_eq!(client.downloaded(), documents([("team%2Ffile", b"content".to_vec())]));
    client.refresh(&repository).ok();
    assert_eq!(repository.take_log(), [asked[1], asked[2]]);
}

/// What is percent-encoded in a URL that was handed over is so on purpose.
#[test]
fn a_percent_encoded_url_is_asked_for_as_it_is() {
    let repository = TufRepository::start();
    for file in ["timestamp.json", "1.snapshot.json", "1.targets.json"] {
        let bytes = repository.file(&format!("/metadata/{file}"));
        repository.put(&format!("/a%2fb%20%C3%a9/{file}"), Some(&bytes));
    }
    for slash in ["/", ""] {
        let client = Client::of(&repository);
        let url = repository.metadata_url().replace("/metadata/", &format!("/a%2fb%20%C3%a9{slash}"));
        client.run(&["--metadata-url", &url, "refresh"].map(OsStr::new)).ok();
        let asked = ["2.root.json 404", "timestamp.json 200", "1.snapshot.json 200", "1.targets.json 200"];
        assert_eq!(repository.take_log(), asked.map(|file| format!("GET /a%2fb%20%C3%a9/{file}")));
    }
}

#[test]
fn a_target_is_asked_for_by_a_hash_that_is_known() {
    let mut repository = TufRepository::start();
    for (name, algorithms) in [
        ("a", &["sha256"][..]),
        ("b", &["sha512"]),
        ("c", &["sha256", "sha512"]),
        ("d", &["sha512", "blake9"]),
        ("e", &["blake9"]),
    ] {
        repository.add_target("targets", name, "content", algorithms);
    }
    repository.publish(&ONLINE);
    let client = Client::of(&repository);
    client.refresh(&repository).ok();
    for (name, algorithm) in [("a", "sha256"), ("b", "sha512"), ("c", "sha256"), ("d", "sha512")] {
        repository.take_log();
        client.download(&repository, &[name]).ok();
        let asked = format!("GET /targets/{}.{name} 200", hash(algorithm, b"content"));
        assert_eq!(repository.take_log()[2..], [asked]);
    }
    // A hash that nobody knows vouches for nothing.
    client.download(&repository, &["e"]).expect_code(1);
    assert_eq!(repository.take_log().len(), 2);
    assert_eq!(client.downloaded().len(), 4);
}

/// T63: a hash goes into a URL, so it must be one.
#[test]
fn a_hash_that_is_none_is_not_asked_for() {
    let mut repository = TufRepository::start();
    let good = hash("sha256", b"content");
    for (name, hash) in [
        ("path", "../../x"),
        ("short", &good[1..]),
        ("upper", &good.to_uppercase()),
        ("long", &format!("{good}00")),
        ("empty", ""),
    ] {
        repository.add_target("targets", name, "content", &["sha256"]);
        repository.document("targets")["targets"][name]["hashes"]["sha256"] = json!(hash);
    }
    // One that is good does not make up for another that is not.
    repository.add_target("targets", "beside", "content", &["sha256", "sha512"]);
    repository.document("targets")["targets"]["beside"]["hashes"]["sha512"] = json!("../../x");
    repository.publish(&ONLINE);
    let client = Client::of(&repository);
    for name in ["path", "short", "upper", "long", "empty", "beside"] {
        client.download(&repository, &[name]).expect_code(1);
        let asked = repository.take_log().concat();
        assert!(!asked.contains("/targets/"), "{name}: {asked}");
    }
    assert_eq!(client.downloaded(), documents([]));
}

/// T61: what a role lists may be called anything; what is stored lies in the folder.
#[test]
fn no_target_name_leaves_the_folder() {
    let long = "y".repeat(300);
    let bad = ["/etc/x", "../x", "a/../../x", "..", ".", "", "a//b", "a/", "./a", "%2e%2E/x", "a/.%2e/x"];
    let good = ["C:\\x", "a\\..\\x", "a\nb", "..a", ".hidden", "-x", "a%2fb", "é b", "a:b@c", &long];
    let mut repository = TufRepository::start();
    for name in bad.into_iter().chain(good) {
        repository.add_target("targets", name, name, &["sha256"]);
    }
    repository.publish(&ONLINE);
    // What is percent-encoded in a target's name is so on purpose.
    let encoded = format!("{}.a%2fb", hash("sha256", b"a%2fb"));
    repository.put(&format!("/targets/{encoded}"), Some(b"a%2fb"));
    let client = Client::of(&repository);
    for name in bad {
        client.download(&repository, &[name]).expect_code(1);
        let asked = repository.take_log().concat();
        assert!(!asked.contains("/targets/"), "{name}: {asked}");
    }
    let beside = files(client.home.path()).into_keys().filter(|name| !name.starts_with("metadata/"));
    assert_eq!(Vec::from_iter(beside), ["given"]);
    for name in good {
        client.download(&repository, &[name]).ok();
    }
    let found = client.downloaded();
    assert_eq!(found.len(), good.len());
    assert!(found.keys().all(|name| !name.contains('/')), "{:?}", found.keys());
    for name in good {
        assert_eq!(found.values().filter(|content| *content == name.as_bytes()).count(), 1, "{name:?}");
    }
}

/// T62: whoever else can write to the target folder cannot lead a download elsewhere.
#[test]
fn a_symlink_in_the_target_folder_is_replaced_and_not_followed() {
    let mut repository = TufRepository::start();
    repository.add_target("targets", "file", "content", &["sha256"]);
    repository.add_target("targets", "dir/file", "content", &["sha256"]);
    repository.publish(&ONLINE);
    let client = Client::of(&repository);
    let outside = client.home.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("there"), "content").unwrap();
    for link in ["there", "dangling"] {
        let path = client.targets().join("file");
        let _ = fs::remove_file(&path);
        symlink(outside.join(link), &path).unwrap();
        client.download(&repository, &["file"]).ok();
        assert!(fs::symlink_metadata(&path).unwrap().is_file(), "{link}");
    }
    symlink(&outside, client.targets().join("dir")).unwrap();
    client.download(&repository, &["dir/file"]).ok();
    assert_eq!(files(&outside), documents([("there", b"content".to_vec())]));
    let content = || b"content".to_vec();
    assert_eq!(client.downloaded(), documents([("dir%2Ffile", content()), ("file", content())]));
    // A folder in the file's place stays, and nothing is left half done.
    fs::remove_file(client.targets().join("file")).unwrap();
    fs::create_dir(client.targets().join("file")).unwrap();
    client.download(&repository, &["file"]).expect_code(1);
    assert_eq!(client.downloaded(), documents([("dir%2Ffile", content())]));
}

#[test]
fn other_content_than_listed_is_not_stored() {
    let mut repository = TufRepository::start();
    repository.add_target("targets", "file", "content", &["sha256", "sha512"]);
    repository.publish(&ONLINE);
    let client = Client::of(&repository);
    client.download(&repository, &["file"]).ok();
    let before = client.downloaded();
    repository.add_target("targets", "file", "changed", &["sha256", "sha512"]);
    repository.publish(&ONLINE);
    let path = format!("/targets/{}.file", hash("sha256", b"changed"));
    for other in [Some(&b"chang3d"[..]), Some(b"changed and more"), Some(b"chang"), Some(b""), None] {
        repository.put(&path, other);
        client.download(&repository, &["file"]).expect_code(1);
        assert_eq!(client.downloaded(), before);
    }
    // The length must be the listed one, though the hashes are.
    repository.put(&path, Some(b"changed"));
    for length in [6, 8, u64::MAX >> 11] {
        repository.document("targets")["targets"]["file"]["length"] = json!(length);
        repository.publish(&ONLINE);
        client.download(&repository, &["file"]).expect_code(1);
        assert_eq!(client.downloaded(), before, "{length}");
    }
    // Every hash that is known must hold, not just the one it was asked by.
    repository.document("targets")["targets"]["file"]["length"] = json!(7);
    let hashes = &mut repository.document("targets")["targets"]["file"]["hashes"];
    hashes["sha512"] = json!(hash("sha512", b"content"));
    repository.publish(&ONLINE);
    client.download(&repository, &["file"]).expect_code(1);
    assert_eq!(client.downloaded(), before);
}

/// T45: only a 404 says that there is no newer root.
#[test]
fn a_root_that_is_withheld_is_not_the_end_of_the_chain() {
    let repository = TufRepository::start();
    let client = Client::of(&repository);
    client.refresh(&repository).ok();
    let before = files(&client.metadata());
    for status in [401, 403, 410, 429, 500, 503] {
        repository.answer("/metadata/2.root.json", status);
        repository.take_log();
        client.refresh(&repository).expect_code(1);
        let log = repository.take_log();
        assert!(log.iter().all(|line| line.starts_with("GET /metadata/2.root.json")), "{log:?}");
        assert_eq!(files(&client.metadata()), before, "{status}");
    }
}

/// T08, T20, T24: a refusal leaves the role and later ones as they were; earlier ones advance.
#[test]
fn a_refused_document_leaves_the_folder_as_it_was() {
    let mut repository = TufRepository::start();
    let client = Client::of(&repository);
    let old = repository.file("/metadata/timestamp.json");
    repository.publish(&ONLINE);
    client.refresh(&repository).ok();
    let before = client.documents();
    let good = repository.file("/metadata/timestamp.json");
    for bad in [old.as_slice(), b"", b"{}", &good[..good.len() - 2]] {
        repository.put("/metadata/timestamp.json", Some(bad));
        client.refresh(&repository).expect_code(1);
        assert_eq!(client.documents(), before);
    }
    // A document that somebody else put into the folder is not believed, and makes nobody forget.
    fs::write(client.metadata().join("timestamp.json"), &old).unwrap();
    repository.put("/metadata/timestamp.json", Some(&old));
    client.refresh(&repository).expect_code(1);
    repository.put("/metadata/timestamp.json", Some(&good));
    client.refresh(&repository).ok();
    assert_eq!(client.documents(), before);
    // The snapshot is bad: the timestamp that names it stays.
    repository.publish(&["snapshot", "timestamp"]);
    let snapshot = repository.file("/metadata/3.snapshot.json");
    repository.put("/metadata/3.snapshot.json", Some(b"{}"));
    client.refresh(&repository).expect_code(1);
    let mut advanced = before;
    advanced.insert("timestamp.json".to_owned(), repository.file("/metadata/timestamp.json"));
    assert_eq!(client.documents(), advanced);
    repository.put("/metadata/3.snapshot.json", Some(&snapshot));
    client.refresh(&repository).ok();
    assert_eq!(client.documents(), top_level(&repository, 1, 3, 2));
}

/// T08: a well-formed document that its keys did not sign is not kept, whichever role it is of; the roles before it are.
#[test]
fn a_forged_document_of_any_role_is_not_kept_and_the_roles_before_it_are() {
    let order = ["root", "timestamp", "snapshot", "targets", "team"];
    for (at, forged) in order.into_iter().enumerate() {
        let mut repository = TufRepository::start();
        repository.delegate("targets", "team", &["team/*"]);
        repository.add_target("team", "team/file", "content", &["sha256"]);
        repository.publish(&["team", "targets", "snapshot", "timestamp"]);
        let client = Client::of(&repository);
        client.download(&repository, &["team/file"]).ok();
        let held = client.documents();
        repository.publish(&["root", "team", "targets", "snapshot", "timestamp"]);
        let path = |role: &str| repository.path(role, repository.roles[role]["version"].as_u64().unwrap());
        let newer = order.map(|role| (format!("{role}.json"), repository.file(&path(role))));

        let good = &newer[at].1;
        let mut document: Value = serde_json::from_slice(good).unwrap();
        document["signed"]["x"] = json!("nobody signed this");
        repository.put(&path(forged), Some(document.to_string().as_bytes()));
        for _ in 0..2 {
            client.download(&repository, &["team/file"]).expect_code(1);
            let mut expected = held.clone();
            expected.extend(newer[..at].iter().cloned());
            assert_eq!(client.documents(), expected, "{forged}");
        }
        repository.put(&path(forged), Some(good));
        client.download(&repository, &["team/file"]).ok();
        assert_eq!(client.documents(), BTreeMap::from(newer), "{forged}");
    }
}

/// T12: without its memory the client does not start over.
#[test]
fn a_folder_that_lost_its_memory_is_refused() {
    let repository = TufRepository::start();
    let client = Client::of(&repository);
    client.refresh(&repository).ok();
    repository.take_log();
    let mine: Vec<String> =
        files(&client.metadata()).into_keys().filter(|name| !name.ends_with(".json")).collect();
    let memory = mine.iter().find(|name| name.ends_with("memory")).unwrap();
    fs::remove_file(client.metadata().join(memory)).unwrap();
    client.refresh(&repository).expect_code(1);
    assert_eq!(repository.take_log(), [""; 0]);
}

/// Processes that work in one folder wait for each other, and none is refused.
#[test]
fn processes_that_share_their_folders_all_succeed() {
    let mut repository = TufRepository::start();
    repository.add_target("targets", "file", "content", &["sha256"]);
    repository.publish(&ONLINE);
    let client = Client::of(&repository);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| client.download(&repository, &["file"]).ok());
        }
    });
    assert_eq!(client.downloaded(), documents([("file", b"content".to_vec())]));
    assert_eq!(client.documents(), top_level(&repository, 1, 2, 2));
}

/// The clock is the process's own, so that `faketime` moves it.
#[test]
fn the_clock_of_the_process_decides() {
    let mut repository = TufRepository::start();
    repository.document("root")["expires"] = json!(in_days(7));
    repository.publish(&["root"]);
    let client = Client::of(&repository);
    let at = |days: &str| {
        let mut command = Command::new("faketime");
        command.args(["-f", days]).arg(binary("plimsoll-conformance"));
        command.arg("--metadata-dir").arg(client.metadata());
        checked(run(command.args(["--metadata-url", &repository.metadata_url(), "refresh"]), b""))
    };
    at("+6d").ok();
    at("+8d").expect_code(1);
}

#[test]
fn exit_codes_are_0_and_1() {
    let repository = TufRepository::start();
    let client = Client::of(&repository);
    let program = |arguments: &[&str]| run(Command::new(binary("plimsoll-conformance")).args(arguments), b"");
    let folder = client.metadata().to_str().unwrap().to_owned();
    program(&["--help"]).ok();
    for wrong in [
        &[][..],
        &["refresh"],
        &["--metadata-dir", &folder],
        &["--metadata-dir", &folder, "refresh"],
        &["--metadata-dir", &folder, "--metadata-url", "nonsense", "refresh"],
        &["--metadata-dir", &folder, "--metadata-url", "ftp://localhost/", "refresh"],
        &["--metadata-dir", &folder, "--metadata-url", "http://127.0.0.1:1/", "refresh"],
        &["--metadata-dir", &folder, "--metadata-url", &repository.metadata_url(), "download"],
        &["--metadata-dir", &folder, "init"],
        &["--metadata-dir", &folder, "init", "/does/not/exist"],
        &["--metadata-dir", &folder, "init", "/dev/null"],
        &["--metadata-dir", &folder, "--range", "refresh"],
    ] {
        let run = program(wrong).expect_code(1);
        assert_ne!(run.stderr, "", "{}", run.command);
    }
    assert_eq!(repository.take_log(), [""; 0]);
    // A second start would forget what was seen.
    client.init(&client.home.path().join("given")).expect_code(1);
    client.refresh(&repository).ok();
}

/// T12: a start that was killed between its writes can be made again, with the same root only.
#[test]
fn a_start_that_was_killed_can_be_made_again() {
    let repository = TufRepository::start();
    let client = Client::of(&repository);
    let given = client.home.path().join("given");
    for stored in ["root.json", ".plimsoll/roots/1"] {
        fs::remove_file(client.metadata().join(stored)).unwrap();
    }
    client.refresh(&repository).expect_code(1);
    let root = fs::read(&given).unwrap();
    let other = [root.as_slice(), b"\n"].concat();
    fs::write(&given, other).unwrap();
    client.init(&given).expect_code(1);
    fs::write(&given, root).unwrap();
    client.init(&given).ok();
    client.refresh(&repository).ok();
}

/// T10: what is not a root that vouches for itself starts nothing (5.2).
#[test]
fn an_unsound_first_root_starts_nothing() {
    let repository = TufRepository::start();
    let home = tempfile::tempdir().unwrap();
    let client = Client { home };
    let given = client.home.path().join("given");
    let root = String::from_utf8(repository.file("/metadata/1.root.json")).unwrap();
    for bad in [
        root.replace("\"version\": 1", "\"version\": 2"),
        root.replace("\"_type\"", "\"type\""),
        String::new(),
    ] {
        fs::write(&given, bad).unwrap();
        client.init(&given).expect_code(1);
        client.refresh(&repository).expect_code(1);
    }
    assert_eq!(repository.take_log(), [""; 0]);
    assert_eq!(client.documents(), documents([]));
    fs::write(&given, root).unwrap();
    client.init(&given).ok();
    client.refresh(&repository).ok();
}

/// A role that a search fetched is metadata that this client trusts: it is in the folder, under its name.
#[test]
fn a_used_role_is_kept_as_received() {
    let mut repository = TufRepository::start();
    repository.delegate("targets", "team", &["team/*"]);
    repository.delegate("targets", "other", &["other/*"]);
    repository.add_target("team", "team/file", "content", &["sha256"]);
    repository.publish(&["team", "other", "targets", "snapshot", "timestamp"]);
    let client = Client::of(&repository);
    client.download(&repository, &["team/file"]).ok();
    let mut expected = top_level(&repository, 1, 2, 2);
    expected.insert("team.json".to_owned(), repository.file(&delegated("team", 1)));
    assert_eq!(client.documents(), expected);
}
