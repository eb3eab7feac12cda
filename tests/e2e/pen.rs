//! Submissions written by hand, past the command line: what a publisher of ours would never send.

#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use plimsoll::{
    clock::{Clock, SystemClock},
    keys::{Algorithm, PrivateKey, Signer},
    publish::{
        api::{Refusal, RefusalCode, RefusalReason, Submission, TrustInfo},
        author,
    },
};
use plimsoll_core::{
    oci::Digest,
    policy::Scope,
    tuf::{Document, Root, Target, Targets, metadata::RoleType},
};
use plimsoll_tests::{
    http::{self, Response},
    process::Daemon,
};
use tempfile::TempDir;

pub(crate) const TRUST: &str = "00112233445566778899aabbccddeeff";
pub(crate) const TEAM: &str = "targets--team";
pub(crate) const OTHER: &str = "targets--other";

/// A daemon with a trust repository for `acme/**` on its own registry, and two teams: for `acme/app` and `acme/other`.
pub(crate) struct Pen {
    pub(crate) daemon: Daemon,
    pub(crate) owner: PrivateKey,
    pub(crate) team: PrivateKey,
    pub(crate) other: PrivateKey,
    _home: TempDir,
}

pub(crate) fn key() -> PrivateKey {
    PrivateKey::generate(Algorithm::Ed25519).unwrap()
}

pub(crate) fn now() -> DateTime<Utc> {
    SystemClock.now()
}

pub(crate) fn sign<T: RoleType>(signed: &T, key: &PrivateKey) -> Vec<u8> {
    author::sign(signed, &[key]).unwrap()
}

/// A target whose digest is that of `content`.
pub(crate) fn target(content: &str) -> Target {
    let hashes = BTreeMap::from([("sha256".to_owned(), Digest::of(content.as_bytes()).hex())]);
    Target { length: 1, hashes, custom: None, extra: BTreeMap::new() }
}

/// Adds a delegation without any of the author's checks.
pub(crate) fn delegate(targets: &mut Targets, name: &str, scope: &str, key: &PrivateKey) {
    let scope: Scope = scope.parse().unwrap();
    let all: Vec<String> =
        ["**".parse::<Scope>().unwrap(), scope.clone()].iter().flat_map(Scope::patterns).collect();
    author::delegate(targets, ("any", &all), name, &scope, &[key.public().clone()], 1).unwrap();
}

impl Pen {
    /// With `config` more in the daemon's configuration.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_at(config, "")
    }

    /// And with `trust` more in that of the trust repository.
    pub(crate) fn start_at(config: &str, trust: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let head = "data = \"data\"\nlisten = \"127.0.0.1:0\"\n";
        let config = format!("{head}{config}[[trust]]\nname = \"acme\"\n{trust}");
        let daemon = Daemon::start(home.path(), &config);
        let pen = Self { daemon, owner: key(), team: key(), other: key(), _home: home };
        let scopes = ["acme/**".parse().unwrap()];
        let owners = [pen.owner.key().clone()];
        let root = author::first_root(TRUST, &scopes, &owners, 1, &pen.info().online, now());
        let mut targets = author::empty_targets("targets", TRUST, now());
        delegate(&mut targets, TEAM, "acme/app", &pen.team);
        delegate(&mut targets, OTHER, "acme/other", &pen.other);
        pen.accepts(&[
            ("root", sign(&root, &pen.owner)),
            ("targets", sign(&targets, &pen.owner)),
            (TEAM, sign(&author::empty_targets(TEAM, TRUST, now()), &pen.team)),
            (OTHER, sign(&author::empty_targets(OTHER, TRUST, now()), &pen.other)),
        ]);
        pen
    }

    pub(crate) fn info(&self) -> TrustInfo {
        let answer = http::get(&format!("{}/v1/trusts/acme", self.daemon.url())).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// The plain TUF file `name`; none if there is none.
    pub(crate) fn file(&self, name: &str) -> Option<Vec<u8>> {
        let answer = http::get(&format!("{}/tuf/acme/metadata/{name}", self.daemon.url())).unwrap();
        (answer.status == 200).then_some(answer.body)
    }

    pub(crate) fn newest<T: RoleType>(&self, role: &str) -> T {
        let bytes = self.file(&format!("{}.{role}.json", self.info().heads[role])).unwrap();
        Document::<T>::parse(role, &bytes).unwrap().signed
    }

    /// The next version of `role`, changed.
    pub(crate) fn edit(&self, role: &str, change: impl FnOnce(&mut Targets)) -> Targets {
        let mut targets: Targets = self.newest(role);
        author::next_version(role, &mut targets, now());
        change(&mut targets);
        targets
    }

    /// The same, signed by who holds the role.
    pub(crate) fn next(&self, role: &str, change: impl FnOnce(&mut Targets)) -> Vec<u8> {
        let holder = match role {
            "targets" => &self.owner,
            OTHER => &self.other,
            _ => &self.team,
        };
        sign(&self.edit(role, change), holder)
    }

    /// The next root, changed and signed by the owner.
    pub(crate) fn next_root(&self, change: impl FnOnce(&mut Root)) -> Vec<u8> {
        let mut root: Root = self.newest("root");
        root.common.version += 1;
        root.common.identity.as_mut().unwrap().at = now();
        change(&mut root);
        sign(&root, &self.owner)
    }

    pub(crate) fn body(documents: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let documents = documents.iter().map(|(role, bytes)| ((*role).to_owned(), bytes.clone())).collect();
        Submission::json(&documents)
    }

    pub(crate) fn post(&self, body: &[u8]) -> Response {
        let url = format!("{}/v1/trusts/acme/submissions", self.daemon.url());
        http::request("POST", &url, &[("content-type", "application/json")], body).unwrap()
    }

    #[track_caller]
    pub(crate) fn accepts(&self, documents: &[(&str, Vec<u8>)]) {
        let answer = self.post(&Self::body(documents));
        assert_eq!(answer.status, 202, "{}", answer.text());
    }

    /// Every version there is, and the next ones there are not.
    fn state(&self) -> BTreeMap<String, Option<Vec<u8>>> {
        let heads = self.info().heads;
        let mut files: Vec<String> = vec!["timestamp.json".to_owned()];
        for (role, version) in heads.iter().filter(|(role, _)| *role != "timestamp") {
            files.extend([format!("{version}.{role}.json"), format!("{}.{role}.json", version + 1)]);
        }
        files.into_iter().map(|name| (name.clone(), self.file(&name))).collect()
    }

    /// Sends `body`: it must be refused so, and nothing may have changed for anybody.
    #[track_caller]
    pub(crate) fn refuses_body(
        &self,
        body: &[u8],
        status: u16,
        code: RefusalCode,
        reason: Option<RefusalReason>,
    ) -> Refusal {
        let before = self.state();
        let answer = self.post(body);
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let refusal: Refusal = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((refusal.code, refusal.reason), (code, reason), "{}", refusal.message);
        assert!(!refusal.message.is_empty() && !refusal.message.contains(char::is_control), "{refusal:?}");
        assert_eq!(self.state(), before, "{}", refusal.message);
        refusal
    }

    /// The same for documents, refused for a `reason` of its own.
    #[track_caller]
    pub(crate) fn refuses(&self, documents: &[(&str, Vec<u8>)], reason: RefusalReason) -> Refusal {
        self.refuses_body(&Self::body(documents), 422, RefusalCode::Refused, Some(reason))
    }
}
