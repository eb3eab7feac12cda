//! The parties of the demo, and what they can do.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use chrono::TimeDelta;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use plimsoll::{
    clock::{Clock, SystemClock},
    home::Home,
    keys::{Algorithm, PrivateKey, Signer},
    publish::{
        self, DelegateRequest, Done, How, InitRequest, Initialised, Published, Publisher, RevokeRequest,
        Server, SignRequest, author,
    },
    registry::{Credentials, Registry, RegistryOptions},
    trust::{self, Addition},
    verify::{self, Mode, Verification},
};
use plimsoll_core::{
    oci::{
        Descriptor, Digest, Reference, RepositoryAddress, TargetName,
        mapping::{self, Profile, RepositoryFiles},
        media_type,
    },
    tuf::{Document, MetaFile, Snapshot, Targets, Timestamp},
};
use url::Url;

use super::{
    image,
    middle::{Answer, Middle},
};
use crate::{
    config::{Config, TrustConfig},
    daemon::Daemon,
    freshness::Freshness,
    keys,
};

pub(super) const TRUST: &str = "acme";
pub(super) const TEAM_ROLE: &str = "targets--net-monitor";

/// Everybody in the demo. The folder goes with it.
pub(super) struct Scene {
    folder: tempfile::TempDir,
    daemon: Daemon,
    pub(super) middle: Middle,
    pub(super) server: Server,
    http: Registry,
    clock: Arc<dyn Clock>,
    owner: PrivateKey,
    pub(super) team: PrivateKey,
    root: std::sync::OnceLock<Vec<u8>>,
}

/// A role document that the daemon would not take.
pub(super) struct Forgery<'a> {
    pub(super) role: &'a str,
    pub(super) version: u64,
    pub(super) bytes: Vec<u8>,
}

impl Scene {
    /// Starts daemon and attacker on free loopback ports, and makes the keys.
    pub(super) async fn set() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut config = Config::new(folder.path().join("daemon"));
        config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.trusts = vec![TrustConfig::embedded(TRUST)];
        config.freshness = Freshness {
            timestamp_validity: TimeDelta::seconds(3),
            timestamp_interval: TimeDelta::seconds(1),
            snapshot_validity: TimeDelta::days(7),
        };
        let daemon = Daemon::start(config, clock.clone()).await?;
        let middle = Middle::start(daemon.address()).await?;
        let options = RegistryOptions { credentials: Credentials::anonymous(), ..RegistryOptions::default() };
        let http = Registry::new(options)?;
        let url = Url::parse(&format!("http://{}", daemon.address()))?;
        let server = Server::new(http.clone(), url);
        Ok(Self {
            folder,
            daemon,
            middle,
            server,
            http,
            clock,
            owner: PrivateKey::generate(Algorithm::Ed25519)?,
            team: PrivateKey::generate(Algorithm::Ed25519)?,
            root: std::sync::OnceLock::new(),
        })
    }

    /// Ends the daemon; the folder is removed with the scene.
    pub(super) async fn strike(self) {
        self.daemon.stop().await;
    }

    pub(super) fn daemon_address(&self) -> SocketAddr {
        self.daemon.address()
    }

    /// Pushes an image to the real registry.
    pub(super) async fn push(&self, name: &str, tag: &str, text: &str) -> anyhow::Result<Descriptor> {
        let repository: RepositoryAddress = format!("{}/acme/{name}", self.daemon.address()).parse()?;
        Ok(image::push(&self.http, &repository, tag, text).await?)
    }

    pub(super) async fn init(&self) -> anyhow::Result<Initialised> {
        let request = InitRequest {
            repository: format!("{}/{TRUST}/trust", self.daemon.address()).parse()?,
            scopes: vec!["acme/**".parse()?],
            online: None,
            names: Vec::new(),
        };
        let made = publish::init(&self.server, &request, &[&self.owner as &dyn Signer], &self.clock).await?;
        self.root.set(made.root.clone()).map_err(|_| anyhow!("the demo makes one trust repository"))?;
        Ok(made)
    }

    /// Gives the team its namespace and returns its role.
    pub(super) async fn delegate(&self) -> anyhow::Result<String> {
        let request = DelegateRequest {
            parent: "targets".to_owned(),
            scope: "acme/net-monitor".parse()?,
            label: "net-monitor".to_owned(),
            keys: vec![self.team.public().clone()],
            names: vec![(self.team.key_id(), "team".to_owned())],
            threshold: 1,
        };
        let how = How { signers: &[&self.owner], draft: false };
        Ok(published(self.publisher()?.delegate(&request, how).await?)?.1.role)
    }

    /// Signs a tag with the team's key.
    pub(super) async fn sign(&self, tag: &str, descriptor: &Descriptor) -> anyhow::Result<Published> {
        let request = SignRequest::new(net_monitor(tag)?, descriptor.clone());
        let how = How { signers: &[&self.team], draft: false };
        Ok(published(self.publisher()?.sign(&[request], how).await?)?.0)
    }

    /// Takes back what a tag means.
    pub(super) async fn revoke(&self, tag: &str, reason: &str) -> anyhow::Result<Published> {
        let request = RevokeRequest { name: net_monitor(tag)?, reason: reason.to_owned() };
        let how = How { signers: &[&self.team], draft: false };
        Ok(published(self.publisher()?.revoke(&request, how).await?)?.0)
    }

    fn publisher(&self) -> anyhow::Result<Publisher> {
        let root = self.root.get().ok_or_else(|| anyhow!("there is no trust repository yet"))?;
        let state = self.folder.path().join("publisher");
        Ok(Publisher::through_daemon(
            self.http.clone(),
            self.server.clone(),
            format!("{}/{TRUST}/trust", self.daemon.address()).parse()?,
            root.clone(),
            &state,
            self.clock.clone(),
        ))
    }

    /// The client pins the root; it reaches metadata and images through the attacker's registry only.
    pub(super) fn pin(&self, made: &Initialised) -> anyhow::Result<()> {
        let addition = Addition {
            name: TRUST.to_owned(),
            repository: format!("{}/{TRUST}/trust", self.middle.address()).parse()?,
            scopes: Vec::new(),
        };
        let file = self.folder.path().join("acme-root.json");
        trust::add(&self.client(), &addition, &made.root, &made.sha256, &file, self.clock.now())?;
        Ok(())
    }

    fn client(&self) -> Home {
        Home::at(&self.folder.path().join("client"))
    }

    /// What the client says of `acme/NAME:TAG`.
    pub(super) async fn verify(&self, name_and_tag: &str) -> anyhow::Result<Verification> {
        let context = verify::Context::load(self.client(), self.http.clone(), self.clock.clone())?;
        let reference: Reference = format!("{}/acme/{name_and_tag}", self.middle.address()).parse()?;
        Ok(verify::verify(&context, &reference, Mode::Verify).await?)
    }

    /// Where clients ask for `:latest`.
    pub(super) fn latest_path(&self) -> String {
        format!("/v2/{TRUST}/trust/manifests/latest")
    }

    /// What the real registry shows at `:latest` now, through the middle.
    pub(super) async fn latest_seen(&self) -> anyhow::Result<Answer> {
        let url = Url::parse(&format!("http://{}{}", self.middle.address(), self.latest_path()))?;
        self.http.file(&url, 4 << 20).await?;
        self.middle.seen(&self.latest_path()).ok_or_else(|| anyhow!("the registry shows no :latest"))
    }

    /// Waits until the daemon has re-signed by itself.
    pub(super) async fn wait_for_newer(&self) -> anyhow::Result<()> {
        let before = self.latest_seen().await?.body;
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if self.latest_seen().await?.body != before {
                return Ok(());
            }
        }
        Err(anyhow!("the daemon re-signed nothing for 10 s"))
    }

    /// The next version of the team's role, vouching for `name` as well, whatever its delegation says.
    pub(super) async fn team_role_with(
        &self,
        name: &str,
        descriptor: &Descriptor,
    ) -> anyhow::Result<Targets> {
        let now = self.clock.now();
        let snapshot: Document<Snapshot> = self.newest_snapshot().await?;
        let meta = snapshot.signed.role(TEAM_ROLE).ok_or_else(|| anyhow!("the team has no role yet"))?;
        let bytes = self.file(&format!("{}.{TEAM_ROLE}.json", meta.version)).await?;
        let mut role = Document::<Targets>::parse(TEAM_ROLE, &bytes)?.signed;
        author::next_version(TEAM_ROLE, &mut role, now);
        author::vouch(&mut role, (TEAM_ROLE, &["*/*".to_owned()]), &name.parse()?, descriptor)?;
        Ok(role)
    }

    /// Signs a snapshot and a timestamp for the forgery with the daemon's own keys and serves all of it from the middle.
    /// Returns where the forged role lies.
    pub(super) async fn inject(&self, forgery: &Forgery<'_>) -> anyhow::Result<String> {
        let now = self.clock.now();
        let online = keys::load_or_make(&self.folder.path().join("daemon"), TRUST)?.signers;
        let root = self.file("1.root.json").await?;
        let targets_version = {
            let snapshot = self.newest_snapshot().await?;
            snapshot.signed.role("targets").map_or(1, |meta| meta.version)
        };
        let targets = self.file(&format!("{targets_version}.targets.json")).await?;

        let mut snapshot = self.newest_snapshot().await?.signed;
        snapshot.common.version += 1000;
        snapshot.meta.insert(format!("{}.json", forgery.role), MetaFile::of(forgery.version, &forgery.bytes));
        let snapshot_bytes = author::sign(&snapshot, &[&online.snapshot])?;

        let mut timestamp = self.newest_timestamp().await?.signed;
        timestamp.common.version += 1000;
        timestamp.common.expires = now + TimeDelta::seconds(60);
        let meta = MetaFile::of(snapshot.common.version, &snapshot_bytes);
        timestamp.meta.insert("snapshot.json".to_owned(), meta);
        let timestamp_bytes = author::sign(&timestamp, &[&online.timestamp])?;

        let files = RepositoryFiles {
            timestamp: &timestamp_bytes,
            snapshots: vec![(snapshot.common.version, &snapshot_bytes)],
            targets: (targets_version, &targets),
            roots: vec![(1, &root)],
        };
        let latest = mapping::repository(&files, Profile::Oci11);
        let role = mapping::role(forgery.role, (forgery.version, &forgery.bytes), None, Profile::Oci11);
        for (digest, bytes) in latest.blobs.into_iter().chain(role.blobs) {
            let blob = Answer { headers: HeaderMap::new(), body: Bytes::from(bytes) };
            self.middle.forge(&format!("/v2/{TRUST}/trust/blobs/{digest}"), blob);
        }
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type::MANIFEST))]);
        self.middle.forge(&self.latest_path(), Answer { headers, body: Bytes::from(latest.manifest) });
        Ok(format!("/v2/{TRUST}/trust/blobs/{}", Digest::of(&forgery.bytes)))
    }

    /// True if the client's memory says that it took the forged snapshot.
    pub(super) async fn took_forgery(&self) -> anyhow::Result<bool> {
        let details = trust::show(&self.client(), TRUST).await?;
        Ok(details.remembered.and_then(|memory| memory.snapshot).is_some_and(|version| version > 1000))
    }

    async fn newest_timestamp(&self) -> anyhow::Result<Document<Timestamp>> {
        Ok(Document::parse("timestamp", &self.file("timestamp.json").await?)?)
    }

    async fn newest_snapshot(&self) -> anyhow::Result<Document<Snapshot>> {
        let version = self.newest_timestamp().await?.signed.snapshot().version;
        Ok(Document::parse("snapshot", &self.file(&format!("{version}.snapshot.json")).await?)?)
    }

    /// A file of the daemon's plain TUF face.
    async fn file(&self, name: &str) -> anyhow::Result<Bytes> {
        let mut url = self.server.metadata_url(TRUST);
        url.path_segments_mut().map_err(|()| anyhow!("not an http URL"))?.push(name);
        self.http.file(&url, 8 << 20).await?.ok_or_else(|| anyhow!("the daemon has no {name}"))
    }
}

fn net_monitor(tag: &str) -> anyhow::Result<TargetName> {
    Ok(format!("acme/net-monitor:{tag}").parse()?)
}

fn published<T>(done: Done<T>) -> anyhow::Result<(Published, T)> {
    match done {
        Done::Published(published, told) => Ok((published, told)),
        Done::Drafted(..) => Err(anyhow!("nobody asked for a draft")),
    }
}
