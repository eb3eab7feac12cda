//! Pinning and unpinning, on real folders.

use plimsoll_core::{policy::PolicyRule, tuf::Key};

use super::*;
use crate::{
    clock::{Clock, SystemClock},
    keys::{Algorithm, PrivateKey, Signer},
    publish::{api::OnlineKeys, author},
};

const ID: &str = "0123456789abcdef0123456789abcdef";

struct Desk {
    dir: tempfile::TempDir,
    home: Home,
}

fn desk() -> Desk {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(&dir.path().join("home"));
    Desk { dir, home }
}

/// A root for `scopes` that was signed a year and a day ago, so it is expired: that is no reason not to pin it.
fn root(scopes: &[&str]) -> Vec<u8> {
    let key = PrivateKey::generate(Algorithm::Ed25519).unwrap();
    let online = || Key::new(PrivateKey::generate(Algorithm::Ed25519).unwrap().public());
    let scopes: Vec<Scope> = scopes.iter().map(|scope| scope.parse().unwrap()).collect();
    let at = SystemClock.now() - chrono::TimeDelta::days(366);
    let keys = OnlineKeys { timestamp: online(), snapshot: online() };
    let root = author::first_root(ID, &scopes, &[key.key().clone()], 1, &keys, at);
    author::sign(&root, &[&key as &dyn Signer]).unwrap()
}

fn addition(name: &str, scopes: &[&str]) -> Addition {
    Addition {
        name: name.to_owned(),
        repository: "r.io/acme/trust".parse().unwrap(),
        scopes: scopes.iter().map(ToString::to_string).collect(),
    }
}

impl Desk {
    fn add(&self, addition: &Addition, root: &[u8]) -> Result<Pinned, TrustError> {
        add(&self.home, addition, root, &Digest::of(root), Path::new("x.json"), SystemClock.now())
    }

    fn policy(&self) -> String {
        fs::read_to_string(self.home.policy()).unwrap()
    }

    /// Everything on disk, to see that a refusal changed nothing.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let (mut files, mut folders) = (Vec::new(), vec![self.dir.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push((path.clone(), fs::read(path).unwrap()));
                }
            }
        }
        files.sort();
        files
    }
}

#[test]
fn a_root_is_pinned_with_its_own_scopes_at_the_repositorys_host() {
    let desk = desk();
    let bytes = root(&["acme/**", "tools/lint"]);
    let pinned = desk.add(&addition("acme", &[]), &bytes).unwrap();
    assert_eq!(pinned.scopes, ["r.io/acme/**", "r.io/tools/lint"]);
    assert_eq!(list(&desk.home).unwrap(), [pinned]);
    let policy = load_policy(&desk.home).unwrap();
    assert_eq!(load_root(&desk.home, &policy.root["acme"]).unwrap(), bytes);
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(desk.home.policy().parent().unwrap()), 0o700);
    assert_eq!(mode(&desk.home.roots().join("acme-root.json")), 0o644);
}

#[test]
fn scopes_can_be_narrowed_and_moved_to_a_mirror_but_not_widened() {
    let desk = desk();
    let bytes = root(&["acme/**"]);
    let pinned = desk.add(&addition("acme", &["mirror.io/acme/app"]), &bytes).unwrap();
    assert_eq!(pinned.scopes, ["mirror.io/acme/app"]);
    let result = desk.add(&addition("wide", &["r.io/**"]), &bytes);
    assert!(matches!(result, Err(TrustError::OutOfScope { .. })), "{result:?}");
    let silent = root(&[]);
    assert!(matches!(desk.add(&addition("silent", &[]), &silent), Err(TrustError::NoScope)));
    desk.add(&addition("silent", &["r.io/x/**"]), &silent).unwrap();
}

#[test]
fn a_policy_of_other_bytes_than_text_is_told_with_its_line() {
    let desk = desk();
    std::fs::create_dir_all(desk.home.policy().parent().unwrap()).unwrap();
    std::fs::write(desk.home.policy(), b"# one\nprofile = \"\xff\"\n").unwrap();
    let error = load_policy(&desk.home).unwrap_err();
    assert!(crate::verify::chain(&error).contains("line 2 is not UTF-8 text"), "{error:?}");
}

#[test]
fn a_refusal_changes_nothing() {
    let desk = desk();
    let bytes = root(&["acme/**"]);
    let before = desk.files();
    let wrong = add(
        &desk.home,
        &addition("acme", &[]),
        &bytes,
        &Digest::of(b"else"),
        Path::new("x"),
        SystemClock.now(),
    );
    assert!(matches!(wrong, Err(TrustError::NotTheRoot { .. })), "{wrong:?}");
    // Tampered with, yet with the hash of the tampered file: its own keys do not vouch for it.
    let tampered = String::from_utf8(bytes.clone()).unwrap().replace("acme/**", "evil/**").into_bytes();
    for (document, name) in [(&tampered[..], "acme"), (b"{}", "acme"), (b"", "acme")] {
        let result = desk.add(&addition(name, &[]), document);
        assert!(matches!(result, Err(TrustError::NotARoot { .. })), "{result:?}");
    }
    for name in ["", "Acme", "a/b", "../x", "a\"b", "a b"] {
        let result = desk.add(&addition(name, &[]), &bytes);
        assert!(matches!(result, Err(TrustError::Addition { .. })), "{name} {result:?}");
    }
    assert_eq!(desk.files(), before);
    assert!(!desk.home.policy().parent().unwrap().exists());

    desk.add(&addition("acme", &[]), &bytes).unwrap();
    let before = desk.files();
    let again = desk.add(&addition("acme", &["r.io/acme/app"]), &bytes);
    assert!(matches!(again, Err(TrustError::Exists { .. })), "{again:?}");
    let equal = desk.add(&addition("second", &[]), &bytes);
    assert!(matches!(equal, Err(TrustError::Addition { .. })), "{equal:?}");
    assert!(matches!(remove(&desk.home, "third"), Err(TrustError::Unknown { .. })));
    assert_eq!(desk.files(), before);
}

#[test]
fn comments_and_other_content_stay() {
    let desk = desk();
    desk.add(&addition("acme", &[]), &root(&["acme/**"])).unwrap();
    let mine = format!("# mine\n{}", desk.policy());
    fs::write(desk.home.policy(), &mine).unwrap();
    desk.add(&addition("other", &["r.io/other/**"]), &root(&["other/**"])).unwrap();
    assert!(desk.policy().starts_with(&mine), "{}", desk.policy());
    let with_note = desk.policy().replace("[root.other]", "# theirs\n[root.other]");
    fs::write(desk.home.policy(), with_note).unwrap();

    remove(&desk.home, "other").unwrap();
    assert_eq!(desk.policy().trim_end(), mine.trim_end());
    assert!(!desk.home.roots().join("other-root.json").exists());
    remove(&desk.home, "acme").unwrap();
    assert!(list(&desk.home).unwrap().is_empty());
}

#[test]
fn a_policy_that_text_cannot_be_added_to_is_written_anew() {
    let desk = desk();
    create_private_folder(&desk.home.roots()).unwrap();
    let bytes = root(&["acme/**"]);
    let inline = format!(
        "root = {{ x = {{ file = \"x\", sha256 = \"{0}\", repository = \"r.io/x/trust\" }} }}\nscope = [{{ match = \
         \"r.io/x/**\", require = {{ all = [\"x\"] }} }}]\n",
        Digest::of(b"").hex()
    );
    fs::write(desk.home.policy(), inline).unwrap();
    desk.add(&addition("acme", &[]), &bytes).unwrap();
    let names = || list(&desk.home).unwrap().into_iter().map(|pinned| pinned.name).collect::<Vec<_>>();
    assert_eq!(names(), ["acme", "x"]);
    remove(&desk.home, "x").unwrap();
    assert_eq!(names(), ["acme"]);
}

/// Every form that a scope can have, in tables of their own, in one line, and in profiles.
#[test]
fn whatever_else_the_policy_says_stays_as_it_was_written() {
    let desk = desk();
    desk.add(&addition("acme", &[]), &root(&["acme/**"])).unwrap();
    let inline = "[1,\n[2]\n]";
    let mine = format!(
        r#"# mine
{}
# ours, in the policy itself
[root.own]
inline = '''{inline}'''
sha256 = "{}"
repository = ["r.io/own/trust", "oci:exports/own"]

# both must vouch
[[scope]]
match = "r.io/both/**"   # a note
optional = ["own"]
max-staleness = "7d"

[scope.require]
all = ["acme", "own"]

[scope.map]
own = "x/**"

[[scope]]
match = "r.io/late/**"
require = {{ any = ["own"] }}
on-absent = "fallback"
fallback = {{ threshold = 1, of = ["acme"] }}

# never
[[scope]]
match = "r.io/bad/**"
action = "deny"
reason = "it is bad"

[[remap]]
from = "m.io"
to = "r.io"

[profile.ci]
# of CI
[[profile.ci.scope]]
match = "r.io/**"
require = {{ all = ["own"] }}
[[profile.ci.scope]]
match = "r.io/acme/**"
require = {{ all = ["acme"] }}
"#,
        desk.policy(),
        Digest::of(inline.as_bytes()).hex()
    );
    fs::write(desk.home.policy(), &mine).unwrap();
    assert_eq!(list(&desk.home).unwrap()[0].scopes, ["r.io/acme/**", "r.io/both/**", "r.io/late/**"]);
    desk.add(&addition("new", &["r.io/new/**"]), &root(&["new/**"])).unwrap();
    assert!(desk.policy().starts_with(&mine), "{}", desk.policy());
    remove(&desk.home, "new").unwrap();
    assert_eq!(desk.policy().trim_end(), mine.trim_end());

    remove(&desk.home, "acme").unwrap();
    let left = desk.policy();
    for kept in
        ["# ours", "[2]\n]'''", "# never", "[[remap]]", "[profile.ci]\n# of CI\n", "match = \"r.io/**\""]
    {
        assert!(left.contains(kept), "{kept}:\n{left}");
    }
    for gone in ["acme", "r.io/both", "a note", "scope.map", "r.io/late"] {
        assert!(!left.contains(gone), "{gone}:\n{left}");
    }
    // What is left is no root document: a look at the text alone.
    let policy = read_policy(&desk.home).unwrap();
    assert_eq!((policy.root.len(), policy.scopes().len(), policy.remaps().len()), (1, 1, 1));
    let ci = policy.with_profile("ci").unwrap();
    assert_eq!(ci.scopes().len(), 1);
    remove(&desk.home, "own").unwrap();
    assert!(desk.policy().contains("# never"), "{}", desk.policy());
    let prod = load_policy(&desk.home.clone().with_profile("prod"));
    assert!(matches!(prod, Err(TrustError::Policy { .. })), "{prod:?}");
}

#[test]
fn a_policy_in_json_is_read_and_changed_as_json() {
    let desk = desk();
    let json = desk.dir.path().join("home/policy.json");
    fs::create_dir_all(json.parent().unwrap()).unwrap();
    fs::write(&json, "{\"scope\": [{\"match\": \"r.io/x\", \"action\": \"deny\", \"reason\": \"no\"}]}")
        .unwrap();
    assert_eq!(desk.home.policy(), json);
    desk.add(&addition("acme", &[]), &root(&["acme/**"])).unwrap();
    assert!(!desk.dir.path().join("home/policy.toml").exists());
    assert_eq!(load_policy(&desk.home).unwrap().scopes().len(), 2);
    remove(&desk.home, "acme").unwrap();
    assert_eq!(load_policy(&desk.home).unwrap().scopes().len(), 1);
    fs::write(&json, "{\n \"scope\": 1}").unwrap();
    let Err(TrustError::Policy { source, .. }) = load_policy(&desk.home) else { panic!() };
    assert_eq!(source.at.map(|at| at.line), Some(2));

    fs::write(desk.dir.path().join("home/policy.toml"), "").unwrap();
    let two = load_policy(&desk.home);
    assert!(matches!(two, Err(TrustError::TwoPolicies { .. })), "{two:?}");
    let given = load_policy(&desk.home.clone().with_policy(&json));
    assert!(matches!(given, Err(TrustError::Policy { .. })), "{given:?}");
}

#[test]
fn a_policy_given_by_name_has_its_roots_beside_it() {
    let desk = desk();
    let bytes = root(&["acme/**"]);
    let home = desk.home.clone().with_policy(&desk.dir.path().join("ci/policy.toml"));
    add(&home, &addition("acme", &[]), &bytes, &Digest::of(&bytes), Path::new("x"), SystemClock.now())
        .unwrap();
    assert!(desk.dir.path().join("ci/roots/acme-root.json").exists());
    assert!(!desk.dir.path().join("home").exists());
    let policy = load_policy(&home).unwrap();
    assert_eq!(load_root(&home, &policy.root["acme"]).unwrap(), bytes);
    assert!(matches!(load_policy(&desk.home), Err(TrustError::NoPolicy { .. })));
}

/// A file that the policy names is missed when the policy is read, not when the one reference comes that needs it.
#[test]
fn a_root_file_that_is_not_there_is_told_with_its_line_and_can_be_unpinned() {
    let desk = desk();
    desk.add(&addition("acme", &[]), &root(&["acme/**"])).unwrap();
    desk.add(&addition("other", &["r.io/other/**"]), &root(&["other/**"])).unwrap();
    let line = desk.policy().lines().position(|line| line.contains("other-root.json")).unwrap() + 1;
    let file = desk.home.roots().join("other-root.json");
    let spoil: [&dyn Fn(); 2] = [&|| fs::remove_file(&file).unwrap(), &|| fs::create_dir(&file).unwrap()];
    for spoil in spoil {
        spoil();
        let Err(TrustError::Policy { source, .. }) = load_policy(&desk.home) else { panic!() };
        assert_eq!(source.at.map(|at| (at.line, at.column)), Some((line, 8)));
        assert!(matches!(source.rule, PolicyRule::File { path, .. } if path == file));
    }
    assert_eq!(list(&desk.home).unwrap().len(), 2);
    fs::remove_dir(&file).unwrap();
    remove(&desk.home, "other").unwrap();
    load_policy(&desk.home).unwrap();
}

/// T87.
#[test]
fn a_pinned_root_is_compared_with_its_hash_on_every_load() {
    let desk = desk();
    desk.add(&addition("acme", &[]), &root(&["acme/**"])).unwrap();
    let policy = load_policy(&desk.home).unwrap();
    let path = desk.home.roots().join("acme-root.json");
    fs::write(&path, root(&["acme/**"])).unwrap();
    let result = load_root(&desk.home, &policy.root["acme"]);
    assert!(matches!(result, Err(TrustError::RootDigest { .. })), "{result:?}");
    fs::remove_file(&path).unwrap();
    let result = load_root(&desk.home, &policy.root["acme"]);
    assert!(matches!(result, Err(TrustError::Read { .. })), "{result:?}");
}

/// T28: where roots carry no trust id, a key that they share, for whatever role, makes them one trust repository with one voice:
/// else who withholds a newer root could make two of one.
#[test]
fn foreign_roots_that_share_a_key_have_one_voice() {
    let desk = desk();
    let keys: Vec<PrivateKey> = (0..3).map(|_| PrivateKey::generate(Algorithm::Ed25519).unwrap()).collect();
    let foreign = |version: u64, signers: &[&PrivateKey], threshold: u64| {
        let public: Vec<Key> = signers.iter().map(|key| key.key().clone()).collect();
        let online = OnlineKeys { timestamp: public[0].clone(), snapshot: public[0].clone() };
        let mut root = author::first_root(ID, &[], &public, threshold, &online, SystemClock.now());
        (root.common.identity, root.common.version) = (None, version);
        author::sign(&root, &signers.iter().map(|key| *key as &dyn Signer).collect::<Vec<_>>()).unwrap()
    };
    let load = |one: &[u8], other: &[u8]| {
        let mut policy = String::new();
        for (name, document) in [("one", one), ("other", other)] {
            fs::create_dir_all(desk.home.roots()).unwrap();
            fs::write(desk.home.roots().join(name), document).unwrap();
            policy.push_str(&format!(
                "[root.{name}]\nfile = \"roots/{name}\"\nsha256 = \"{}\"\nrepository = \"r.io/{name}\"\n",
                Digest::of(document).hex()
            ));
        }
        policy.push_str("[[scope]]\nmatch = \"r.io/**\"\nrequire = { all = [\"one\", \"other\"] }\n");
        fs::write(desk.home.policy(), policy).unwrap();
        load_policy(&desk.home)
    };
    let [a, b, c] = [&keys[0], &keys[1], &keys[2]];
    for (one, other) in [
        (foreign(1, &[a], 1), foreign(2, &[a], 1)),
        (foreign(1, &[a, b], 2), foreign(2, &[b, a, c], 2)),
        // Whoever can sign the one could sign the other.
        (foreign(1, &[a, b], 1), foreign(2, &[b, c], 2)),
        (foreign(1, &[a], 1), root_of(a)),
        (foreign(1, &[a, b], 2), foreign(2, &[b, c], 2)),
        // As root another one signs alone, and the rest stays.
        (foreign(1, &[a], 1), succeeded(&foreign(1, &[a], 1), [a, b], &["root"])),
        (foreign(1, &[a], 1), succeeded(&foreign(1, &[a], 1), [a, b], &["root", "targets", "timestamp"])),
    ] {
        let Err(TrustError::Policy { source, .. }) = load(&one, &other) else { panic!() };
        assert_eq!(source.at.map(|at| (at.line, at.column)), Some((11, 27)));
        let PolicyRule::SameRepository { root, other } = source.rule else { panic!("{:?}", source.rule) };
        assert_eq!((root.as_str(), other.as_str()), ("other", "one"));
    }
    for (one, other) in [(foreign(1, &[a], 1), foreign(1, &[b], 1)), (root_of(a), root(&["acme/**"]))] {
        let loaded = load(&one, &other);
        let same_id = matches!((trust_of(&one), trust_of(&other)), (Some(one), Some(other)) if one == other);
        assert_eq!(loaded.is_err(), same_id, "{loaded:?}");
    }
}

/// The root after `before`, in which the second of `keys` takes the place of the first one in `roles`.
fn succeeded(before: &[u8], keys: [&PrivateKey; 2], roles: &[&str]) -> Vec<u8> {
    let mut root = Document::<Root>::parse("root", before).unwrap().signed;
    root.common.version += 1;
    root.keys.insert(keys[1].key().id(), keys[1].key().clone());
    for role in roles {
        root.roles.get_mut(*role).unwrap().keyids = vec![keys[1].key().id()];
    }
    author::sign(&root, &keys.map(|key| key as &dyn Signer)).unwrap()
}

/// A root with a trust id, signed by `key`.
fn root_of(key: &PrivateKey) -> Vec<u8> {
    let online = OnlineKeys { timestamp: key.key().clone(), snapshot: key.key().clone() };
    let root = author::first_root(ID, &[], &[key.key().clone()], 1, &online, SystemClock.now());
    author::sign(&root, &[key as &dyn Signer]).unwrap()
}

fn trust_of(root: &[u8]) -> Option<String> {
    Document::<Root>::parse("root", root).unwrap().signed.common.identity.map(|identity| identity.trust)
}

#[tokio::test]
async fn a_reset_forgets_under_the_lock_and_works_on_a_damaged_memory() {
    let desk = desk();
    let bytes = root(&["acme/**"]);
    desk.add(&addition("acme", &[]), &bytes).unwrap();
    assert_eq!(reset(&desk.home, "acme").await.unwrap(), None);
    assert_eq!(show(&desk.home, "acme").await.unwrap().remembered, None);
    assert!(!desk.home.state().exists());

    let key = StateKey::of(&bytes, Some(ID));
    let mut state = State::open(&Place::keyed(&desk.home.state(), &key), PATIENCE).await.unwrap();
    state.put_root(1, &bytes, &HighWater::default()).unwrap();
    drop(state);
    assert!(show(&desk.home, "acme").await.unwrap().remembered.is_some());
    let folder = key.folder(&desk.home.state());
    fs::write(folder.join("memory.json"), "torn").unwrap();
    let result = show(&desk.home, "acme").await;
    assert!(matches!(result, Err(TrustError::State(StateError::MemoryLost { .. }))), "{result:?}");

    assert_eq!(reset(&desk.home, "acme").await.unwrap(), Some(folder.clone()));
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
    let state = State::open(&Place::keyed(&desk.home.state(), &key), PATIENCE).await.unwrap();
    assert!(state.memory().is_none());
}
