//! A TUF repository of our making, served over plain HTTP: what stock publishers write, and what they should not.
//!
//! Documents are plain JSON, so that a test can write what our own types would refuse. Keys are Ed25519; there is no
//! `x-plimsoll` in it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
};
use chrono::{DateTime, TimeDelta, Utc};
use data_encoding::HEXLOWER;
use plimsoll::clock::{Clock, SystemClock};
use plimsoll_core::tuf::json;
use ring::{
    digest::{SHA256, SHA512},
    signature::{Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};

use crate::background::Background;

/// The top-level roles but root, in the order to publish them in.
pub const ONLINE: [&str; 3] = ["targets", "snapshot", "timestamp"];

/// A repository and its server, which ends with it.
#[derive(Debug)]
pub struct TufRepository {
    /// The next versions of the roles, unsigned: the `signed` part of each.
    pub roles: BTreeMap<String, Value>,
    /// Who signs each role from now on.
    signers: BTreeMap<String, Vec<Pair>>,
    keys: u8,
    served: Arc<Mutex<Served>>,
    address: SocketAddr,
    _background: Background,
}

#[derive(Debug, Default)]
struct Served {
    /// By path as it is asked for, query included.
    files: BTreeMap<String, Vec<u8>>,
    statuses: BTreeMap<String, StatusCode>,
    log: Vec<String>,
}

/// A key pair and the id it has in metadata.
#[derive(Debug, Clone)]
struct Pair {
    id: String,
    seed: u8,
}

impl TufRepository {
    /// Version 1 of the four top-level roles with one key each, consistent snapshots, good for 30 days.
    ///
    /// # Panics
    /// If no loopback port is free.
    pub fn start() -> Self {
        let served = Arc::new(Mutex::new(Served::default()));
        let app = Router::new().fallback(answer).with_state(Arc::clone(&served));
        let (background, address) = Background::serve(move |listener, _| async move {
            axum::serve(listener, app).await.expect("serving never ends by itself");
        });
        let mut repository = Self {
            roles: BTreeMap::new(),
            signers: BTreeMap::new(),
            keys: 0,
            served,
            address,
            _background: background,
        };
        let mut root = signed("root");
        root["consistent_snapshot"] = json!(true);
        root["keys"] = json!({});
        root["roles"] = json!({});
        repository.roles.insert("root".to_owned(), root);
        for role in ["timestamp", "snapshot"] {
            let mut document = signed(role);
            document["meta"] = json!({});
            repository.roles.insert(role.to_owned(), document);
        }
        repository.roles.insert("targets".to_owned(), targets());
        for role in ["root", "timestamp", "snapshot", "targets"] {
            repository.rotate(role);
        }
        repository.publish(&["root", "targets", "snapshot", "timestamp"]);
        repository
    }

    /// Where the metadata lies, with a slash at the end.
    pub fn metadata_url(&self) -> String {
        format!("http://{}/metadata/", self.address)
    }

    /// Where the target files lie, with a slash at the end.
    pub fn targets_url(&self) -> String {
        format!("http://{}/targets/", self.address)
    }

    /// The file at `path`, for example `/metadata/1.root.json`.
    ///
    /// # Panics
    /// If there is none.
    pub fn file(&self, path: &str) -> Vec<u8> {
        self.served().files.get(path).unwrap_or_else(|| panic!("no {path}")).clone()
    }

    /// Puts a file at `path`; `None` takes it away.
    ///
    /// # Panics
    /// If the server panicked.
    pub fn put(&self, path: &str, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => drop(self.served().files.insert(path.to_owned(), bytes.to_vec())),
            None => drop(self.served().files.remove(path)),
        }
    }

    /// Answers `path` with this status from now on, and no body.
    ///
    /// # Panics
    /// If the status is none.
    pub fn answer(&self, path: &str, status: u16) {
        let status = StatusCode::from_u16(status).expect("a status");
        self.served().statuses.insert(path.to_owned(), status);
    }

    /// What was asked for since the last call: `METHOD PATH STATUS`, and `range` or `if` if it was asked so.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.served().log)
    }

    /// Signs and serves the next version of each of `roles` in this order, and names it in whoever refers to it.
    ///
    /// # Panics
    /// If there is no such role.
    pub fn publish(&mut self, roles: &[&str]) {
        for &role in roles {
            let version = self.roles[role]["version"].as_u64().expect("a version") + 1;
            self.document(role)["version"] = json!(version);
            let bytes = self.sign(role);
            self.put(&self.path(role, version), Some(&bytes));
            let referrer = match role {
                "root" | "timestamp" => continue,
                "snapshot" => "timestamp",
                _ => "snapshot",
            };
            self.document(referrer)["meta"][format!("{role}.json")] = json!({"version": version});
        }
    }

    /// Lists in `role` the target `name` with `content` and its hashes by `algorithms`, and serves the file.
    ///
    /// # Panics
    /// If there is no such role.
    pub fn add_target(&mut self, role: &str, name: &str, content: &str, algorithms: &[&str]) {
        let hashes: BTreeMap<&str, String> =
            algorithms.iter().map(|&algorithm| (algorithm, hash(algorithm, content.as_bytes()))).collect();
        self.document(role)["targets"][name] = json!({"length": content.len(), "hashes": hashes});
        let path = path_of(name);
        let (folder, file) = path.rsplit_once('/').map_or(("", &*path), |(folder, file)| (folder, file));
        let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        self.put(&format!("/targets/{path}"), Some(content.as_bytes()));
        for hash in hashes.values() {
            self.put(&format!("/targets/{folder}{hash}.{file}"), Some(content.as_bytes()));
        }
    }

    /// Delegates `paths` from `parent` to `role` under a key of its own. A role that exists keeps its content and
    /// signers: what `parent` expects of it is another matter.
    ///
    /// # Panics
    /// If there is no such parent.
    pub fn delegate(&mut self, parent: &str, role: &str, paths: &[&str]) {
        let pair = self.pair();
        let delegation = json!({
            "name": role, "keyids": [pair.id], "threshold": 1, "terminating": false, "paths": paths,
        });
        let document = self.document(parent);
        if document["delegations"].is_null() {
            document["delegations"] = json!({"keys": {}, "roles": []});
        }
        document["delegations"]["keys"][&pair.id] = pair.public();
        document["delegations"]["roles"].as_array_mut().expect("a list").push(delegation);
        self.roles.entry(role.to_owned()).or_insert_with(targets);
        self.signers.entry(role.to_owned()).or_insert_with(|| vec![pair]);
    }

    /// Gives a top-level role a new key, the only one; a root is signed by the old ones too.
    ///
    /// # Panics
    /// If it is not a top-level role.
    pub fn rotate(&mut self, role: &str) {
        let pair = self.pair();
        let root = self.document("root");
        root["keys"][&pair.id] = pair.public();
        root["roles"][role] = json!({"keyids": [pair.id], "threshold": 1});
        let signers = self.signers.entry(role.to_owned()).or_default();
        if role != "root" {
            signers.clear();
        }
        signers.push(pair);
    }

    /// The next version of `role`, to be changed before it is published.
    ///
    /// # Panics
    /// If there is no such role.
    pub fn document(&mut self, role: &str) -> &mut Value {
        self.roles.get_mut(role).unwrap_or_else(|| panic!("no role {role}"))
    }

    /// The path of a file of `role`, as a client must ask for it.
    ///
    /// # Panics
    /// Never: there always is a root.
    pub fn path(&self, role: &str, version: u64) -> String {
        let consistent = self.roles["root"]["consistent_snapshot"] == true;
        let name = match role {
            "root" => format!("{version}.root"),
            "timestamp" => "timestamp".to_owned(),
            _ if consistent => format!("{version}.{role}"),
            _ => role.to_owned(),
        };
        format!("/metadata/{}.json", segment_of(&name))
    }

    fn sign(&self, role: &str) -> Vec<u8> {
        let signed = &self.roles[role];
        let canonical = json::canonical_of(signed).expect("what tests write is canonical");
        let signatures: Vec<_> = self.signers[role]
            .iter()
            .map(|pair| json!({"keyid": pair.id, "sig": HEXLOWER.encode(pair.ring().sign(&canonical).as_ref())}))
            .collect();
        // Indented, so that bytes that are kept as received differ from bytes that were written anew.
        let document = json!({"signatures": signatures, "signed": signed});
        serde_json::to_vec_pretty(&document).expect("JSON serialises")
    }

    fn pair(&mut self) -> Pair {
        self.keys += 1;
        let mut pair = Pair { id: String::new(), seed: self.keys };
        let canonical = json::canonical_of(&pair.public()).expect("a key is canonical");
        pair.id = hash("sha256", &canonical);
        pair
    }

    fn served(&self) -> MutexGuard<'_, Served> {
        self.served.lock().expect("the server does not panic")
    }
}

impl Pair {
    fn ring(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[self.seed; 32]).expect("32 bytes")
    }

    fn public(&self) -> Value {
        let public = HEXLOWER.encode(self.ring().public_key().as_ref());
        json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public}})
    }
}

/// The time as documents write it, `days` from now.
///
/// # Panics
/// Never, for less than a few million years.
pub fn in_days(days: i64) -> String {
    let time: DateTime<Utc> = SystemClock.now() + TimeDelta::days(days);
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The hash in hex; of an algorithm that nobody knows, nonsense.
pub fn hash(algorithm: &str, bytes: &[u8]) -> String {
    let algorithm = match algorithm {
        "sha256" => &SHA256,
        "sha512" => &SHA512,
        _ => return "00".to_owned(),
    };
    HEXLOWER.encode(ring::digest::digest(algorithm, bytes).as_ref())
}

async fn answer(State(served): State<Arc<Mutex<Served>>>, request: Request) -> (StatusCode, Vec<u8>) {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let mut served = served.lock().expect("tests do not panic while they hold it");
    let file = served.files.get(&path).cloned();
    let (status, body) = match (served.statuses.get(&path), file) {
        (Some(&status), _) => (status, Vec::new()),
        (None, Some(file)) => (StatusCode::OK, file),
        (None, None) => (StatusCode::NOT_FOUND, Vec::new()),
    };
    let mut line = format!("{} {path} {}", request.method(), status.as_u16());
    for (header, word) in [("range", " range"), ("if-none-match", " if"), ("if-modified-since", " if")] {
        if request.headers().contains_key(header) {
            line.push_str(word);
        }
    }
    served.log.push(line);
    (status, body)
}

fn signed(role_type: &str) -> Value {
    json!({"_type": role_type, "spec_version": "1.0.31", "version": 0, "expires": in_days(30)})
}

fn targets() -> Value {
    let mut targets = signed("targets");
    targets["targets"] = json!({});
    targets
}

/// As `urllib.parse.quote(name, safe="")` has it: what other repositories serve roles under.
pub fn segment_of(name: &str) -> String {
    encoded(name, b"-._~")
}

/// A target's name in a URL: RFC 3986 lets a path hold more than a role's name may.
fn path_of(name: &str) -> String {
    encoded(name, b"-._~/!$&'()*+,;=:@")
}

fn encoded(name: &str, plain: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || plain.contains(&byte);
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
