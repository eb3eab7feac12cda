//! A TUF repository as a model, and the files that it becomes.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, SHA512, digest};
use serde_json::{Map, Value, json};

use super::{
    json::{self as tree, Twice, canonical},
    keys::{Pool, Spelling},
};
use crate::tuf_repository::segment_of;

/// The top-level roles, in the order in which they come to be.
pub(super) const TOP: [&str; 4] = ["root", "timestamp", "snapshot", "targets"];

/// Keys, how many of them must sign, and how many do.
#[derive(Debug, Clone)]
pub(super) struct KeySet {
    pub(super) keys: Vec<usize>,
    pub(super) threshold: usize,
    pub(super) signing: usize,
}

impl KeySet {
    pub(super) fn signers(&self) -> Vec<usize> {
        self.keys[..self.signing].to_vec()
    }
}

/// What META says beside a version.
#[derive(Debug, Clone, Default)]
pub(super) struct MetaStyle {
    pub(super) length: bool,
    pub(super) sha256: bool,
    pub(super) sha512: bool,
    /// A hash of an algorithm that nobody knows, beside those above.
    pub(super) unknown: bool,
}

/// One root of the chain.
#[derive(Debug, Clone)]
pub(super) struct Root {
    pub(super) sets: BTreeMap<String, KeySet>,
    pub(super) consistent: bool,
    pub(super) expires: String,
}

/// What a delegation covers.
#[derive(Debug, Clone)]
pub(super) enum Paths {
    Patterns(Vec<String>),
    HashPrefixes(Vec<String>),
}

/// A delegation to a role by its name.
#[derive(Debug, Clone)]
pub(super) struct Child {
    pub(super) name: String,
    pub(super) set: KeySet,
    pub(super) terminating: bool,
    pub(super) paths: Paths,
}

/// Delegation to bins instead (TAP 15).
#[derive(Debug, Clone)]
pub(super) struct Bins {
    pub(super) prefix: String,
    pub(super) bits: usize,
    pub(super) set: KeySet,
}

impl Bins {
    pub(super) fn names(&self) -> Vec<String> {
        let width = self.bits.div_ceil(4);
        (0..1_u32 << self.bits).map(|bin| format!("{}-{bin:0width$x}", self.prefix)).collect()
    }

    /// The bin of a target name.
    pub(super) fn of(&self, name: &str) -> String {
        let hash = digest(&SHA256, name.as_bytes());
        let lead = u32::from_be_bytes(hash.as_ref()[..4].try_into().expect("four bytes"));
        let width = self.bits.div_ceil(4);
        format!("{}-{:0width$x}", self.prefix, lead >> (32 - self.bits))
    }
}

/// `targets` or a role below it.
#[derive(Debug, Clone)]
pub(super) struct Role {
    pub(super) version: u64,
    pub(super) expires: String,
    pub(super) targets: BTreeMap<String, Value>,
    pub(super) children: Vec<Child>,
    pub(super) bins: Option<Bins>,
    /// An empty list of delegations, where there are none.
    pub(super) empty_delegations: bool,
    pub(super) signers: Vec<usize>,
    /// Delegated to, but nothing was published under it yet: in no snapshot, and no file.
    pub(super) unpublished: bool,
}

/// The whole repository at one time.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    pub(super) spelling: Spelling,
    pub(super) spec_version: &'static str,
    pub(super) wide: bool,
    /// Unknown members, where TUF wants them to be tolerated: in `signed`, and inside delegations.
    pub(super) extra: bool,
    pub(super) delegation_extra: bool,
    /// A key of a type that nobody knows, in root.
    pub(super) unknown_key: bool,
    pub(super) trust: Option<String>,
    pub(super) timestamp_meta: MetaStyle,
    pub(super) snapshot_meta: MetaStyle,
    /// Version 1 first.
    pub(super) roots: Vec<Root>,
    pub(super) timestamp: (u64, String),
    pub(super) snapshot: (u64, String),
    pub(super) roles: BTreeMap<String, Role>,
    /// Roles that nobody delegates to any more, and their last version: a snapshot never drops one.
    pub(super) removed: BTreeMap<String, u64>,
}

impl Repository {
    pub(super) fn root(&self) -> &Root {
        self.roots.last().expect("there is a root")
    }

    /// All documents: `root:N`, `timestamp`, `snapshot`, `targets` and the published roles.
    pub(super) fn documents(&self) -> Vec<String> {
        let roots = (1..=self.roots.len()).map(|version| format!("root:{version}"));
        let roles = self.roles.iter().filter(|(_, role)| !role.unpublished).map(|(name, _)| name.clone());
        roots.chain(["timestamp".to_owned(), "snapshot".to_owned()]).chain(roles).collect()
    }

    /// Who signs a document.
    pub(super) fn signers(&self, document: &str) -> Vec<usize> {
        if let Some(version) = root_version(document) {
            let mut signers = self.roots[version - 1].sets["root"].signers();
            if version > 1 {
                signers.extend(self.roots[version - 2].sets["root"].signers());
            }
            signers.sort_unstable();
            signers.dedup();
            return signers;
        }
        match document {
            "timestamp" | "snapshot" => self.root().sets[document].signers(),
            _ => self.roles[document].signers.clone(),
        }
    }

    fn signed(&self, document: &str, meta: &Metas, pool: &Pool) -> Value {
        let mut signed = match document {
            "timestamp" => {
                let snapshot = self.timestamp_meta.json(self.snapshot.0, &meta.snapshot);
                json!({"version": self.timestamp.0, "expires": self.timestamp.1, "meta": {"snapshot.json": snapshot}})
            }
            "snapshot" => {
                let mut all: Map<String, Value> = meta
                    .roles
                    .iter()
                    .map(|(role, (version, bytes))| {
                        (format!("{role}.json"), self.snapshot_meta.json(*version, bytes))
                    })
                    .collect();
                for (role, version) in &self.removed {
                    all.entry(format!("{role}.json")).or_insert_with(|| json!({"version": version}));
                }
                json!({"version": self.snapshot.0, "expires": self.snapshot.1, "meta": all})
            }
            _ => match root_version(document) {
                Some(version) => self.signed_root(version, pool),
                None => self.signed_role(&self.roles[document], pool),
            },
        };
        let role_type = match document {
            "timestamp" | "snapshot" => document,
            _ if root_version(document).is_some() => "root",
            _ => "targets",
        };
        signed["_type"] = role_type.into();
        signed["spec_version"] = self.spec_version.into();
        if self.extra {
            signed["x-note"] = json!({"unknown": ["é", 1, true, null], "b\u{e000}": 1, "b\u{1f600}": 2});
        }
        if let Some(trust) = &self.trust {
            signed["x-plimsoll"] = json!({"trust": trust, "at": "2089-12-31T00:00:00Z"});
        }
        signed
    }

    fn signed_root(&self, version: usize, pool: &Pool) -> Value {
        let root = &self.roots[version - 1];
        let mut keys = Map::new();
        let mut roles = Map::new();
        for (role, set) in &root.sets {
            for &key in &set.keys {
                keys.insert(pool.id(key, self.spelling), pool.json(key, self.spelling));
            }
            roles.insert(role.clone(), self.set_json(set, pool));
        }
        if self.unknown_key {
            let id = "aa".repeat(32);
            keys.insert(
                id,
                json!({"keytype": "lattice", "scheme": "lattice-1", "keyval": {"public": "00ff"}}),
            );
        }
        json!({
            "version": version, "expires": root.expires, "consistent_snapshot": root.consistent,
            "keys": keys, "roles": roles,
        })
    }

    fn signed_role(&self, role: &Role, pool: &Pool) -> Value {
        let mut signed = json!({"version": role.version, "expires": role.expires, "targets": role.targets});
        let mut keys = Map::new();
        let sets = role.children.iter().map(|child| &child.set).chain(role.bins.iter().map(|bins| &bins.set));
        for &key in sets.flat_map(|set| &set.keys) {
            keys.insert(pool.id(key, self.spelling), pool.json(key, self.spelling));
        }
        if let Some(bins) = &role.bins {
            let mut succinct = self.set_json(&bins.set, pool);
            succinct["bit_length"] = bins.bits.into();
            succinct["name_prefix"] = bins.prefix.as_str().into();
            signed["delegations"] = json!({"keys": keys, "succinct_roles": succinct});
        } else if !role.children.is_empty() || role.empty_delegations {
            let roles: Vec<Value> = role.children.iter().map(|child| self.child_json(child, pool)).collect();
            signed["delegations"] = json!({"keys": keys, "roles": roles});
            if self.delegation_extra {
                signed["delegations"]["x-note"] = "unknown".into();
            }
        }
        signed
    }

    fn child_json(&self, child: &Child, pool: &Pool) -> Value {
        let mut role = self.set_json(&child.set, pool);
        role["name"] = child.name.as_str().into();
        role["terminating"] = child.terminating.into();
        match &child.paths {
            Paths::Patterns(patterns) => role["paths"] = json!(patterns),
            Paths::HashPrefixes(prefixes) => role["path_hash_prefixes"] = json!(prefixes),
        }
        role
    }

    fn set_json(&self, set: &KeySet, pool: &Pool) -> Value {
        let ids: Vec<String> = set.keys.iter().map(|&key| pool.id(key, self.spelling)).collect();
        json!({"keyids": ids, "threshold": set.threshold})
    }
}

/// N of `root:N`.
pub(super) fn root_version(document: &str) -> Option<usize> {
    document.strip_prefix("root:")?.parse().ok()
}

impl MetaStyle {
    fn json(&self, version: u64, bytes: &[u8]) -> Value {
        let mut meta = json!({"version": version});
        if self.length {
            meta["length"] = bytes.len().into();
        }
        if self.sha256 || self.sha512 {
            meta["hashes"] = hashes(bytes, self.sha256, self.sha512);
            if self.unknown {
                meta["hashes"]["x-hash"] = "00".into();
            }
        }
        meta
    }
}

pub(super) fn hashes(bytes: &[u8], sha256: bool, sha512: bool) -> Value {
    let mut hashes = json!({});
    if sha256 {
        hashes["sha256"] = HEXLOWER.encode(digest(&SHA256, bytes).as_ref()).into();
    }
    if sha512 {
        hashes["sha512"] = HEXLOWER.encode(digest(&SHA512, bytes).as_ref()).into();
    }
    hashes
}

/// What happens to the signatures of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signatures {
    /// One less than the threshold stay.
    Drop,
    DropAll,
    /// The first one stands twice.
    Twice,
    /// The first two change their ids, or the only one gets another id.
    Swap,
    NotHex,
    OddLength,
    UpperCase,
    /// All are over another document.
    Foreign,
    Reverse,
    /// One of a key that the role does not list comes before the others.
    Stranger,
}

/// What happens to a document.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Set(tree::Path, Value),
    Remove(tree::Path),
    Twice(Twice),
    Signatures(Signatures),
    /// In a delegator: the role gets its first key under two ids, and a threshold of two.
    TwoIds(String),
    /// In that role: the key with this number signs under its second id as well.
    SecondId(usize),
}

/// A change of one document while the repository is written.
#[derive(Debug, Clone)]
pub(super) struct Edit {
    pub(super) document: String,
    pub(super) action: Action,
    /// The signatures are made after the change.
    pub(super) resign: bool,
    /// META speaks of the document as it is after the change.
    pub(super) cascade: bool,
}

/// The files of a repository.
#[derive(Debug, Clone, Default)]
pub(super) struct Files {
    pub(super) bytes: BTreeMap<String, Vec<u8>>,
    /// The file of each document.
    pub(super) names: BTreeMap<String, String>,
}

#[derive(Default)]
struct Metas {
    roles: BTreeMap<String, (u64, Vec<u8>)>,
    snapshot: Vec<u8>,
}

/// The files that `repository` becomes, if `edits` happen on the way.
pub(super) fn write(repository: &Repository, edits: &[Edit], pool: &Pool) -> Files {
    let mut files = Files::default();
    let mut metas = Metas::default();
    let consistent = repository.root().consistent;
    let versioned = |version: u64, name: &str| {
        if consistent { format!("{version}.{name}.json") } else { format!("{name}.json") }
    };
    let published = repository.roles.iter().filter(|(_, role)| !role.unpublished);
    let mut put = |document: &str, file: String, bytes: Vec<u8>| {
        files.names.insert(document.to_owned(), file.clone());
        files.bytes.insert(file, bytes);
    };
    let mut snapshot_version = repository.snapshot.0;
    for version in 1..=repository.roots.len() {
        let document = format!("root:{version}");
        let written = one(repository, &document, &metas, edits, pool);
        put(&document, format!("{version}.root.json"), written.bytes);
    }
    for (name, role) in published {
        let written = one(repository, name, &metas, edits, pool);
        let version = written.version.unwrap_or(role.version);
        put(name, versioned(version, &segment_of(name)), written.bytes);
        metas.roles.insert(name.clone(), (version, written.meta));
    }
    let snapshot = one(repository, "snapshot", &metas, edits, pool);
    metas.snapshot = snapshot.meta;
    snapshot_version = snapshot.version.unwrap_or(snapshot_version);
    put("snapshot", versioned(snapshot_version, "snapshot"), snapshot.bytes);
    let stands = Repository { snapshot: (snapshot_version, String::new()), ..repository.clone() };
    put("timestamp", "timestamp.json".to_owned(), one(&stands, "timestamp", &metas, edits, pool).bytes);
    files
}

struct Written {
    bytes: Vec<u8>,
    /// What META speaks of: the bytes, or what they were before the edit.
    meta: Vec<u8>,
    /// The version that META lists, if the edit changed it.
    version: Option<u64>,
}

fn one(repository: &Repository, document: &str, metas: &Metas, edits: &[Edit], pool: &Pool) -> Written {
    let signed = repository.signed(document, metas, pool);
    let signers = repository.signers(document);
    let sign = |signed: &Value| -> Vec<Value> {
        let canonical = canonical(signed);
        let entry = |&key: &usize| json!({"keyid": pool.id(key, repository.spelling), "sig": pool.sign(key, &canonical)});
        signers.iter().map(entry).collect()
    };
    let mut whole = json!({"signatures": sign(&signed), "signed": signed});
    let clean = tree::render(&whole, repository.wide, None);
    let Some(edit) = edits.iter().find(|edit| edit.document == document) else {
        return Written { bytes: clean.clone(), meta: clean, version: None };
    };
    let mut twice = None;
    match &edit.action {
        Action::Set(path, value) => tree::set(&mut whole, path, value.clone()),
        Action::Remove(path) => tree::remove(&mut whole, path),
        Action::Twice(member) => twice = Some(member),
        Action::TwoIds(role) => two_ids(&mut whole, role, repository, pool),
        Action::Signatures(_) | Action::SecondId(_) => {}
    }
    if edit.resign && whole.get("signatures").is_some() && whole.get("signed").is_some() {
        // Readers that take the last of two members see `value` where it comes after.
        let mut seen = whole.clone();
        if let Some(twice) = twice.filter(|twice| twice.after) {
            tree::set(&mut seen, &twice.path, twice.value.clone());
        }
        whole["signatures"] = sign(&seen["signed"]).into();
    }
    match &edit.action {
        Action::Signatures(change) => change_signatures(&mut whole, *change, repository, document, pool),
        Action::SecondId(key) => {
            let entry = json!({
                "keyid": second_id(*key, repository, pool), "sig": pool.sign(*key, &canonical(&whole["signed"])),
            });
            whole["signatures"].as_array_mut().expect("documents are signed").push(entry);
        }
        _ => {}
    }
    let bytes = tree::render(&whole, repository.wide, twice);
    let version = whole["signed"]["version"].as_u64().filter(|&version| edit.cascade && version > 0);
    let meta = if edit.cascade { bytes.clone() } else { clean };
    Written { bytes, meta, version }
}

fn change_signatures(
    whole: &mut Value,
    change: Signatures,
    repository: &Repository,
    document: &str,
    pool: &Pool,
) {
    let threshold = threshold(repository, document);
    let canonical = canonical(&whole["signed"]);
    let signers = repository.signers(document);
    let Some(list) = whole["signatures"].as_array_mut() else { return };
    if list.is_empty() {
        return;
    }
    let sig = |list: &[Value], at: usize| list[at]["sig"].as_str().unwrap_or_default().to_owned();
    match change {
        Signatures::Drop => list.truncate(threshold - 1),
        Signatures::DropAll => list.clear(),
        Signatures::Twice => list.insert(0, list[0].clone()),
        Signatures::Swap if list.len() > 1 => {
            let (first, second) = (list[0]["keyid"].clone(), list[1]["keyid"].clone());
            list[0]["keyid"] = second;
            list[1]["keyid"] = first;
        }
        Signatures::Swap => list[0]["keyid"] = "bb".repeat(32).into(),
        Signatures::NotHex => list[0]["sig"] = format!("zz{}", &sig(list, 0)[2..]).into(),
        Signatures::OddLength => list[0]["sig"] = sig(list, 0)[1..].into(),
        Signatures::UpperCase => {
            for at in 0..list.len() {
                list[at]["sig"] = sig(list, at).to_uppercase().into();
            }
        }
        Signatures::Foreign => {
            for (entry, &key) in list.iter_mut().zip(&signers) {
                entry["sig"] = pool.sign(key, b"{}").into();
            }
        }
        Signatures::Reverse => list.reverse(),
        Signatures::Stranger => {
            let stranger = (0..).find(|key| !signers.contains(key)).expect("there are more keys");
            let id = pool.id(stranger, repository.spelling);
            list.insert(0, json!({"keyid": id, "sig": pool.sign(stranger, &canonical)}));
        }
    }
}

/// How many must sign, by whoever speaks first of the document.
fn threshold(repository: &Repository, document: &str) -> usize {
    if let Some(version) = root_version(document) {
        return repository.roots[version - 1].sets["root"].threshold;
    }
    if let Some(set) = repository.root().sets.get(document) {
        return set.threshold;
    }
    let children = repository.roles.values().flat_map(|role| &role.children);
    let listed = children.filter(|child| child.name == document).map(|child| child.set.threshold).min();
    let bins = repository.roles.values().filter_map(|role| role.bins.as_ref());
    listed.or_else(|| bins.map(|bins| bins.set.threshold).min()).unwrap_or(1)
}

/// `role`, which `whole` speaks of, gets its first key under two ids.
fn two_ids(whole: &mut Value, role: &str, repository: &Repository, pool: &Pool) {
    let signed = &mut whole["signed"];
    let (mut holder, mut keys) = (tree::path(&["roles", role]), tree::path(&["keys"]));
    if signed.get("roles").is_none() {
        let roles = signed["delegations"]["roles"].as_array();
        let at = roles.and_then(|roles| roles.iter().position(|one| one["name"] == role));
        holder = tree::path(&["delegations", "roles"]);
        holder.push(tree::Seg::Item(at.expect("a delegator lists the role")));
        keys = tree::path(&["delegations", "keys"]);
    }
    let first = tree::get(signed, &holder).and_then(|role| role["keyids"][0].as_str()).map(str::to_owned);
    let first = first.expect("a role has a key");
    let number = (0..).find(|&key| pool.id(key, repository.spelling) == first).expect("a key of the pool");
    let id = second_id(number, repository, pool);
    keys.push(tree::Seg::Member(id.clone()));
    tree::set(signed, &keys, second_spelling(number, repository, pool));
    for (member, value) in [("keyids", json!([first, id])), ("threshold", json!(2))] {
        let mut path = holder.clone();
        path.push(tree::Seg::Member(member.to_owned()));
        tree::set(signed, &path, value);
    }
}

/// The same key with one more member, and so another id for those who compute ids.
fn second_spelling(key: usize, repository: &Repository, pool: &Pool) -> Value {
    let mut key = pool.json(key, repository.spelling);
    key["x-spelling"] = "other".into();
    key
}

fn second_id(key: usize, repository: &Repository, pool: &Pool) -> String {
    let canonical = canonical(&second_spelling(key, repository, pool));
    HEXLOWER.encode(digest(&SHA256, &canonical).as_ref())
}
