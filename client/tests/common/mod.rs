//! A trust repository signed with throwaway keys, and a registry on loopback that serves whatever it is given.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll::{
    keys::{Algorithm, Passphrase, PrivateKey, Signer, save_public},
    publish::{
        api::{OnlineKeys, Submission},
        author,
    },
};
use plimsoll_core::{
    oci::{
        Descriptor, Digest, TargetName,
        mapping::{Profile, RepositoryFiles, repository},
        media_type,
    },
    policy::Scope,
    tuf::{
        Document, Identity, MetaFile, Root, Snapshot, Targets, Timestamp,
        metadata::{Common, RoleType},
    },
};

pub(crate) mod several;

pub(crate) const TRUST: &str = "0123456789abcdef0123456789abcdef";
/// The role that `acme/app` is delegated to.
pub(crate) const TEAM: &str = "targets--app";

/// Publisher, team and daemon in one.
pub(crate) struct Publisher {
    pub(crate) now: DateTime<Utc>,
    pub(crate) targets: Targets,
    pub(crate) team: Targets,
    pub(crate) root: Vec<u8>,
    /// The roots before that one, oldest first.
    earlier: Vec<Vec<u8>>,
    pub(crate) timestamp_life: TimeDelta,
    trust: String,
    owner: PrivateKey,
    team_key: PrivateKey,
    online: Arc<PrivateKey>,
    pub(crate) version: u64,
}

impl Publisher {
    /// A trust repository for `acme/**` in which `acme/app` is delegated to a team.
    pub(crate) fn new(now: DateTime<Utc>) -> Self {
        Self::of(TRUST, now)
    }

    /// The same with another trust id.
    pub(crate) fn of(trust: &str, now: DateTime<Utc>) -> Self {
        let key = || PrivateKey::generate(Algorithm::Ed25519).unwrap();
        let (owner, team_key, online) = (key(), key(), Arc::new(key()));
        let scope: Scope = "acme/**".parse().unwrap();
        let keys = OnlineKeys { timestamp: online.key().clone(), snapshot: online.key().clone() };
        let root =
            author::first_root(trust, std::slice::from_ref(&scope), &[owner.key().clone()], 1, &keys, now);
        let root = sign(&root, &owner);
        let mut targets = author::empty_targets("targets", trust, now);
        let allowed = ("targets", scope.patterns());
        let app = "acme/app".parse().unwrap();
        let public = team_key.public().clone();
        author::delegate(&mut targets, (allowed.0, &allowed.1), TEAM, &app, &[public], 1).unwrap();
        let team = author::empty_targets(TEAM, trust, now);
        let timestamp_life = TimeDelta::hours(24);
        let trust = trust.to_owned();
        let earlier = Vec::new();
        Self { now, targets, team, root, earlier, timestamp_life, trust, owner, team_key, online, version: 0 }
    }

    /// Takes the trust id out of the root, and gives all roles to another key in a second version. Returns the first.
    pub(crate) fn become_foreign_and_rotate(&mut self) -> Vec<u8> {
        let mut root = Document::<Root>::parse("root", &self.root).unwrap().signed;
        root.common.identity = None;
        let first = sign(&root, &self.owner);
        let [key, online] = [(); 2].map(|()| PrivateKey::generate(Algorithm::Ed25519).unwrap());
        root.common.version = 2;
        for (key, roles) in [(&key, ["root", "targets"]), (&online, ["timestamp", "snapshot"])] {
            root.keys.insert(key.key().id(), key.key().clone());
            for role in roles {
                root.roles.get_mut(role).unwrap().keyids = vec![key.key().id()];
            }
        }
        self.root = author::sign(&root, &[&self.owner as &dyn Signer, &key]).unwrap();
        self.earlier = vec![first.clone()];
        (self.owner, self.online) = (key, Arc::new(online));
        first
    }

    /// The id of the team's key.
    pub(crate) fn team_key_id(&self) -> String {
        self.team_key.key().id().to_string()
    }

    /// The owner gives the team's names to another role and key, which takes over what the team signed.
    pub(crate) fn replace_team_key(&mut self) {
        let key = PrivateKey::generate(Algorithm::Ed25519).unwrap();
        let delegations = self.targets.delegations.as_mut().unwrap();
        let id = key.key().id();
        delegations.keys.insert(id.clone(), key.key().clone());
        delegations.roles[0].keys.keyids = vec![id];
        author::next_version("targets", &mut self.targets, self.now);
        self.team_key = key;
        self.renew();
    }

    /// The owner's key gives way to another one, for root and targets, in a second root.
    pub(crate) fn replace_owner_key(&mut self) {
        let mut root = Document::<Root>::parse("root", &self.root).unwrap().signed;
        let key = PrivateKey::generate(Algorithm::Ed25519).unwrap();
        root.common.version += 1;
        root.keys.insert(key.key().id(), key.key().clone());
        for role in ["root", "targets"] {
            root.roles.get_mut(role).unwrap().keyids = vec![key.key().id()];
        }
        let signed = author::sign(&root, &[&self.owner as &dyn Signer, &key]).unwrap();
        self.earlier.push(std::mem::replace(&mut self.root, signed));
        self.owner = key;
        author::next_version("targets", &mut self.targets, self.now);
    }

    /// The owner takes the team's delegation back, and nothing else.
    pub(crate) fn drop_team(&mut self) {
        self.targets.delegations.as_mut().unwrap().roles.clear();
        author::next_version("targets", &mut self.targets, self.now);
    }

    /// Writes `custom.version` into what the team signed as `name`.
    pub(crate) fn set_version(&mut self, name: &str, version: &str) {
        let target = self.team.targets.get_mut(name).unwrap();
        target.custom.get_or_insert_default().insert("version".to_owned(), version.to_owned().into());
        self.renew();
    }

    /// The team vouches for `manifest` under `name`, as far as it may.
    pub(crate) fn vouch(&mut self, name: &str, manifest: &[u8]) {
        let name: TargetName = name.parse().unwrap();
        let descriptor = Descriptor {
            media_type: media_type::MANIFEST.to_owned(),
            digest: Digest::of(manifest),
            size: manifest.len() as u64,
            data: None,
            annotations: BTreeMap::new(),
        };
        let allowed = "acme/app".parse::<Scope>().unwrap().patterns();
        author::vouch(&mut self.team, (TEAM, &allowed), &name, &descriptor).unwrap();
        self.renew();
    }

    /// The team vouches for `index` under `name`, with the one platform `platform`.
    pub(crate) fn vouch_platform(&mut self, name: &str, index: &[u8], platform: &[u8]) {
        self.vouch(name, index);
        let allowed = "acme/app".parse::<Scope>().unwrap().patterns();
        let platforms = [Descriptor::of(media_type::MANIFEST, platform)];
        author::vouch_platforms(&mut self.team, &allowed, "acme/app", Digest::of(index), &platforms).unwrap();
        self.renew();
    }

    pub(crate) fn revoke(&mut self, manifest: &[u8], reason: &str) {
        author::revoke(&mut self.team, &Digest::of(manifest), reason, self.now);
        self.renew();
    }

    /// The owner takes back what the team signed.
    pub(crate) fn revoke_above(&mut self, manifest: &[u8], reason: &str) {
        author::revoke(&mut self.targets, &Digest::of(manifest), reason, self.now);
        author::next_version("targets", &mut self.targets, self.now);
        // Past what the owner signed with the daemon's help.
        author::next_version("targets", &mut self.targets, self.now);
    }

    /// The owner takes back the whole of the team's namespace.
    pub(crate) fn revoke_scope(&mut self, reason: &str) {
        let scope: Scope = "acme/app".parse().unwrap();
        author::revoke_paths(&mut self.targets, scope.patterns(), reason, self.now);
        author::next_version("targets", &mut self.targets, self.now);
        // Past what the owner signed with the daemon's help.
        author::next_version("targets", &mut self.targets, self.now);
    }

    /// The team takes back that it took `manifest` back.
    pub(crate) fn reinstate(&mut self, manifest: &[u8]) {
        author::reinstate(&mut self.team, &[Digest::of(manifest)], "a mistake", self.now);
        self.renew();
    }

    /// Where the registry has the owner's document.
    pub(crate) fn targets_blob(&self) -> String {
        format!("acme/trust/blobs/{}", Digest::of(&sign(&self.targets, &self.owner)))
    }

    /// Where the registry has the team's document.
    pub(crate) fn team_blob(&self) -> String {
        format!("acme/trust/blobs/{}", Digest::of(&sign(&self.team, &self.team_key)))
    }

    pub(crate) fn renew(&mut self) {
        author::next_version(TEAM, &mut self.team, self.now);
    }

    /// Signs snapshot and timestamp and serves everything at `registry` under `acme/trust`.
    pub(crate) fn publish(&mut self, registry: &Host) {
        self.version += 1;
        self.head().serve(&registry.shared);
        self.daemon(registry, Some(&self.trust));
    }

    fn head(&self) -> Head {
        let (targets, team) = (sign(&self.targets, &self.owner), sign(&self.team, &self.team_key));
        Head {
            trust: self.trust.clone(),
            root: self.root.clone(),
            earlier: self.earlier.clone(),
            roles: BTreeMap::from([
                ("targets".to_owned(), (self.targets.common.version, targets)),
                (TEAM.to_owned(), (self.team.common.version, team)),
            ]),
            online: self.online.clone(),
            version: self.version,
            now: self.now,
            life: self.timestamp_life,
        }
    }

    /// A daemon's API at `registry` that takes every submission, says that it is in this timestamp, and lies.
    pub(crate) fn liar(&self, registry: &Host, timestamp: u64) {
        self.daemon(registry, Some(&self.trust));
        let accepted =
            serde_json::json!({"id": "1", "state": "published", "documents": {}, "timestamp": timestamp});
        *registry.shared.taker.lock().unwrap() = None;
        registry.put_at("/v1/trusts/acme/submissions", accepted.to_string().as_bytes());
        registry.put_at("/v1/trusts/acme/submissions/1?wait=10", accepted.to_string().as_bytes());
    }

    /// A daemon's API at `registry` that takes every submission and publishes it at once.
    pub(crate) fn daemon(&self, registry: &Host, trust_id: Option<&str>) {
        let head = Mutex::new(self.head());
        *registry.shared.taker.lock().unwrap() = Some(Box::new(move |shared, body| {
            let mut head = head.lock().unwrap();
            head.take(body);
            head.serve(shared);
            let accepted = serde_json::json!({
                "id": "1", "state": "published", "documents": {}, "timestamp": head.version
            });
            for path in ["/v1/trusts/acme/submissions", "/v1/trusts/acme/submissions/1?wait=10"] {
                shared.files.lock().unwrap().insert(path.to_owned(), accepted.to_string().into_bytes());
            }
        }));
        let key = self.online.key();
        let trusts = serde_json::json!({"trusts": [{
            "name": "acme", "repository": format!("{}/acme/trust", registry.address), "trust_id": trust_id,
            "online": {"timestamp": key, "snapshot": key}, "heads": {},
        }]});
        registry.put_at("/v1/trusts", trusts.to_string().as_bytes());
    }

    /// Writes the keys of owner and team as key files.
    pub(crate) fn save_keys(&self, folder: &Path, passphrase: &Path) {
        let passphrase = Passphrase::from_file(passphrase).unwrap();
        self.owner.save(&folder.join("owner.key"), &passphrase).unwrap();
        self.team_key.save(&folder.join("team.key"), &passphrase).unwrap();
        save_public(&folder.join("team.pub"), self.team_key.public()).unwrap();
    }
}

/// What is published: signed documents by role, and the key that signs the snapshot and timestamp over them.
struct Head {
    trust: String,
    root: Vec<u8>,
    earlier: Vec<Vec<u8>>,
    roles: BTreeMap<String, (u64, Vec<u8>)>,
    online: Arc<PrivateKey>,
    version: u64,
    now: DateTime<Utc>,
    life: TimeDelta,
}

impl Head {
    /// Takes a submission. A root starts all anew.
    fn take(&mut self, submission: &[u8]) {
        let submission: Submission = serde_json::from_slice(submission).unwrap();
        self.version += 1;
        for (role, document) in submission.documents {
            let bytes = document.get().as_bytes().to_vec();
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            if role == "root" {
                self.trust = value["signed"]["x-plimsoll"]["trust"].as_str().unwrap().to_owned();
                self.root = bytes;
                self.earlier.clear();
                self.roles.remove(TEAM);
            } else {
                self.roles.insert(role, (value["signed"]["version"].as_u64().unwrap(), bytes));
            }
        }
    }

    fn serve(&self, shared: &Shared) {
        let meta = self
            .roles
            .iter()
            .map(|(role, (version, bytes))| (format!("{role}.json"), MetaFile::of(*version, bytes)));
        let snapshot =
            Snapshot { common: self.common("snapshot"), meta: meta.collect(), extra: BTreeMap::new() };
        let snapshot = sign(&snapshot, &self.online);
        let timestamp = Timestamp {
            common: self.common("timestamp"),
            meta: BTreeMap::from([("snapshot.json".to_owned(), MetaFile::of(self.version, &snapshot))]),
            extra: BTreeMap::new(),
        };
        let timestamp = sign(&timestamp, &self.online);
        let (version, targets) = &self.roles["targets"];
        let all = self.earlier.iter().chain([&self.root]);
        let mut roots: Vec<(u64, &[u8])> = (1..).zip(all.map(Vec::as_slice)).collect();
        roots.reverse();
        let files = RepositoryFiles {
            timestamp: &timestamp,
            snapshots: vec![(self.version, &snapshot)],
            targets: (*version, targets),
            roots: roots.clone(),
        };
        let artifact = repository(&files, Profile::Oci11);
        let mut served = shared.files.lock().unwrap();
        let documents = self.roles.values().map(|(_, bytes)| bytes);
        for bytes in documents.chain(&self.earlier).chain([&snapshot, &self.root]) {
            served.insert(format!("/v2/acme/trust/blobs/{}", Digest::of(bytes)), bytes.clone());
        }
        served.insert("/v2/acme/trust/manifests/latest".to_owned(), artifact.manifest);
        let plain = "/tuf/acme/metadata";
        for (role, (version, bytes)) in &self.roles {
            served.insert(format!("{plain}/{version}.{role}.json"), bytes.clone());
        }
        served.insert(format!("{plain}/1.root.json"), self.root.clone());
        served.insert(format!("{plain}/timestamp.json"), timestamp);
        served.insert(format!("{plain}/{}.snapshot.json", self.version), snapshot);
    }

    fn common(&self, role: &str) -> Common {
        let identity = Identity::new(&self.trust, self.now);
        Common::new(role, self.version, self.now + self.life, identity)
    }
}

fn sign<T: RoleType>(signed: &T, key: &PrivateKey) -> Vec<u8> {
    author::sign(signed, &[key as &dyn Signer]).unwrap()
}

/// A registry on loopback; runs until it is dropped.
pub(crate) struct Host {
    pub(crate) address: String,
    shared: Arc<Shared>,
    accepting: Option<thread::JoinHandle<()>>,
}

type Taker = Box<dyn Fn(&Shared, &[u8]) + Send>;

#[derive(Default)]
struct Shared {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    lines: Mutex<Vec<String>>,
    status: Mutex<Option<u16>>,
    /// Takes what is posted, before the answer is looked up.
    taker: Mutex<Option<Taker>>,
    stop: AtomicBool,
}

impl Host {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::<Shared>::default();
        let state = shared.clone();
        let accepting = thread::spawn(move || {
            for stream in listener.incoming() {
                if state.stop.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), state) = (stream, state.clone()) else { continue };
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    /// Serves `bytes` at `/v2/` and `path`.
    pub(crate) fn put(&self, path: &str, bytes: &[u8]) {
        self.put_at(&format!("/v2/{path}"), bytes);
    }

    /// Serves `bytes` at exactly this path and query, for any method.
    pub(crate) fn put_at(&self, path: &str, bytes: &[u8]) {
        self.shared.files.lock().unwrap().insert(path.to_owned(), bytes.to_vec());
    }

    pub(crate) fn file(&self, path: &str) -> Vec<u8> {
        self.shared.files.lock().unwrap()[&format!("/v2/{path}")].clone()
    }

    /// What is served at exactly this path and query.
    pub(crate) fn bytes(&self, path: &str) -> Vec<u8> {
        self.shared.files.lock().unwrap()[path].clone()
    }

    /// Takes nothing that is posted, and answers it in another tongue.
    pub(crate) fn answer_posts_with_garbage(&self) {
        *self.shared.taker.lock().unwrap() = None;
        self.put_at("/v1/trusts/acme/submissions", b"<html>");
    }

    pub(crate) fn remove(&self, path: &str) {
        self.shared.files.lock().unwrap().remove(&format!("/v2/{path}"));
    }

    /// Answers everything with this status from now on.
    pub(crate) fn fail_with(&self, status: Option<u16>) {
        *self.shared.status.lock().unwrap() = status;
    }

    /// The request lines since the last call.
    pub(crate) fn lines(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.lines.lock().unwrap())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) {
    let (mut first, mut etag, mut length) = (String::new(), None, 0);
    let mut reader = BufReader::new(stream.try_clone().unwrap().take(64 * 1024));
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let line = line.trim_end();
        match line.split_once(": ") {
            _ if first.is_empty() => first = line.to_owned(),
            _ if line.is_empty() => break,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().unwrap();
            }
            Some((name, value)) if name.eq_ignore_ascii_case("if-none-match") => {
                etag = Some(value.to_owned());
            }
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    // Logged before it is answered: whoever has the answer finds the request in the log.
    shared.lines.lock().unwrap().push(format!("{method} {path}"));
    if method == "POST"
        && let Some(taker) = &*shared.taker.lock().unwrap()
    {
        taker(shared, &body);
    }
    let file = shared.files.lock().unwrap().get(path).cloned();
    let status = *shared.status.lock().unwrap();
    let (status, body) = match (status, file) {
        (Some(status), _) => (status, Vec::new()),
        (None, None) => (404, Vec::new()),
        (None, Some(file)) if etag == Some(format!("\"{}\"", Digest::of(&file))) => (304, file),
        (None, Some(file)) => (200, file),
    };
    let kind = if path.contains("/manifests/") { media_type::MANIFEST } else { "application/octet-stream" };
    let digest = Digest::of(&body);
    let mut head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-type: {kind}\r\n");
    if status == 200 {
        head.push_str(&format!("docker-content-digest: {digest}\r\n"));
    }
    if status == 401 {
        head.push_str("www-authenticate: Basic realm=\"x\"\r\n");
    }
    if status == 200 || status == 304 {
        head.push_str(&format!("etag: \"{digest}\"\r\n"));
    }
    if status != 304 {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    let _ = stream.write_all(head.as_bytes());
    if method != "HEAD" && status != 304 {
        let _ = stream.write_all(&body);
    }
}
