//! A small world around one trust repository: a daemon, and machines (homes) of an owner, a team and clients.
//!
//! ```no_run
//! use plimsoll_tests::{docker_registry::Registry, world::{Site, World}};
//!
//! let registry = Registry::open();
//! let world = World::ready(Site::at(&registry.address()));
//! world.push("v1", "hello\n");
//! world.sign("v1").ok();
//! world.client("ci").run(&["verify", &world.reference("v1")]).ok();
//! ```

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use data_encoding::BASE64;
use plimsoll::{
    keys::{Passphrase, PrivateKey},
    publish::author,
};
use plimsoll_core::{
    oci::Digest,
    tuf::{Document, Root},
};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    http,
    image::Image,
    process::{Cli, Daemon, Run},
    skopeo::Side,
    tls::Authority,
};

/// What the daemon calls the trust repository.
pub const NAME: &str = "acme";
/// The trust repository, without its host.
pub const TRUST: &str = "acme/trust";
/// The repository of images that belongs to the team.
pub const IMAGES: &str = "acme/net-monitor";
/// The team's role.
pub const ROLE: &str = "targets--net-monitor";

/// A user name and a password.
type Login = (&'static str, &'static str);

/// Where a world is, and who logs in there as whom. Everything is anonymous unless said otherwise.
#[derive(Debug, Clone, Default)]
pub struct Site {
    host: Option<String>,
    ca: Option<(PathBuf, PathBuf)>,
    daemon: Option<Login>,
    machines: Option<Login>,
    builder: Option<Login>,
    freshness: String,
    ecdsa: bool,
    inbox: bool,
}

impl Site {
    /// On the registry at `host` (`127.0.0.1:PORT`).
    pub fn at(host: &str) -> Self {
        Self { host: Some(host.to_owned()), ..Self::default() }
    }

    /// On the daemon's own registry.
    pub fn embedded() -> Self {
        Self::default()
    }

    /// Itself, over TLS with certificates of `authority`.
    #[must_use]
    pub fn tls(mut self, authority: &Authority) -> Self {
        self.ca = Some((authority.ca_file(), authority.ca_directory()));
        self
    }

    /// Itself; the daemon logs in as this user, by its configuration.
    #[must_use]
    pub fn daemon(mut self, login: Login) -> Self {
        self.daemon = Some(login);
        self
    }

    /// Itself; owner, team and clients log in as this user, by what `docker login` would have stored.
    #[must_use]
    pub fn machines(mut self, login: Login) -> Self {
        self.machines = Some(login);
        self
    }

    /// Itself; images are pushed (by skopeo) as this user.
    #[must_use]
    pub fn builder(mut self, login: Login) -> Self {
        self.builder = Some(login);
        self
    }

    /// Itself, with timestamps that live for `validity` seconds and are signed anew after `interval` seconds.
    #[must_use]
    pub fn timestamp(mut self, validity: u64, interval: u64) -> Self {
        self.freshness = format!(
            "[freshness]\ntimestamp-validity = \"{validity}s\"\ntimestamp-interval = \"{interval}s\"\n"
        );
        self
    }

    /// Itself; the daemon looks into the inbox every second.
    #[must_use]
    pub fn inbox(mut self) -> Self {
        self.inbox = true;
        self
    }

    /// Itself, with ECDSA keys for owner and team instead of Ed25519.
    #[must_use]
    pub fn ecdsa(mut self) -> Self {
        self.ecdsa = true;
        self
    }

    /// `plimsolld.toml` in `home`, and the files it names.
    fn config(&self, home: &Path) -> String {
        let mut config = format!("data = \"data\"\nlisten = \"127.0.0.1:0\"\n{}", self.freshness);
        if let Some((file, _)) = &self.ca {
            config.push_str(&format!("[registry]\nca-file = \"{}\"\n", file.display()));
        }
        config.push_str(&format!("[[trust]]\nname = \"{NAME}\"\n"));
        if let Some(host) = &self.host {
            config.push_str(&format!("repository = \"{host}/{TRUST}\"\n"));
        }
        if self.inbox {
            config.push_str("inbox = \"1s\"\n");
        }
        if let Some((user, password)) = self.daemon {
            write_private(&home.join("registry-password"), &format!("{password}\n"));
            config.push_str(&format!("username = \"{user}\"\npassword-file = \"registry-password\"\n"));
        }
        config
    }
}

/// A running daemon with one trust repository, and the machines of those who use it. Ends with the value.
#[derive(Debug)]
pub struct World {
    /// The daemon.
    pub daemon: Daemon,
    site: Site,
    host: String,
    directory: TempDir,
}

impl World {
    /// Starts the daemon; nothing is made yet.
    ///
    /// # Panics
    /// As [`Daemon::start`].
    pub fn start(site: Site) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let home = directory.path().join("daemon");
        fs::create_dir(&home).expect("a temporary directory can be written");
        let daemon = Daemon::start(&home, &site.config(&home));
        let host = site.host.clone().unwrap_or_else(|| daemon.address());
        Self { daemon, site, host, directory }
    }

    /// Starts the daemon, makes the keys and the trust repository for `acme/**`, and delegates
    /// [`IMAGES`] to the team.
    ///
    /// # Panics
    /// With what a command said, if it failed.
    pub fn ready(site: Site) -> Self {
        let world = Self::start(site);
        world.generate_key("owner").ok();
        world.generate_key("team").ok();
        world.init().ok();
        world.delegate(IMAGES, "net-monitor", "team").ok();
        world
    }

    /// The registry's host, as everybody but the daemon's configuration names it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `HOST/acme/net-monitor:TAG`
    pub fn reference(&self, tag: &str) -> String {
        self.reference_at(&self.host, tag)
    }

    /// The same at another host: a mirror, or a [`Middle`](crate::middle::Middle).
    pub fn reference_at(&self, host: &str, tag: &str) -> String {
        format!("{host}/{IMAGES}:{tag}")
    }

    /// `HOST/acme/trust`
    pub fn trust(&self) -> String {
        format!("{}/{TRUST}", self.host)
    }

    /// How skopeo pushes images here.
    pub fn side(&self) -> Side {
        let mut side = Side::plain();
        if let Some((user, password)) = self.site.builder {
            side = side.user(user, password);
        }
        if let Some((_, directory)) = &self.site.ca {
            side = side.tls(directory);
        }
        side
    }

    /// Pushes a busybox image with `message` as `tag`, with skopeo.
    ///
    /// # Panics
    /// With what skopeo said, if it failed.
    pub fn push(&self, tag: &str, message: &str) -> Image {
        let image = Image::busybox(message);
        image.push(&self.reference(tag), &self.side()).ok();
        image
    }

    /// The machine `name`, made if it is not there: logged in, with the file `passphrase`.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn machine(&self, name: &str) -> Cli {
        let home = self.directory.path().join(name);
        if !home.exists() {
            fs::create_dir_all(home.join(".docker")).expect("a temporary directory can be written");
            write_private(&home.join("passphrase"), &format!("{name} has a long passphrase\n"));
            if let Some((user, password)) = self.site.machines {
                log_in(&home, &self.host, user, password);
            }
        }
        let cli = Cli::new(&home);
        match &self.site.ca {
            Some((file, _)) => cli.argument("--ca-file").argument(&file.display().to_string()),
            None => cli,
        }
    }

    /// The machine of the owner, who holds root and targets.
    pub fn owner(&self) -> Cli {
        self.machine("owner")
    }

    /// The machine of the team, which has pinned the trust repository once it is made.
    ///
    /// # Panics
    /// With what `trust add` said, if it failed.
    pub fn team(&self) -> Cli {
        self.client("team").env("PLIMSOLL_SERVER", &self.daemon.url())
    }

    /// A client's machine that has pinned the trust repository.
    ///
    /// # Panics
    /// With what `trust add` said, if it failed.
    pub fn client(&self, name: &str) -> Cli {
        self.client_at(name, &self.host)
    }

    /// A client's machine that has pinned the trust repository at `host`, and trusts it for images there.
    ///
    /// # Panics
    /// With what `trust add` said, if it failed.
    pub fn client_at(&self, name: &str, host: &str) -> Cli {
        let client = self.machine(name);
        if !client.home().join("policy.toml").exists() {
            let root = self.owner().home().join("acme-root.json");
            let digest = Digest::of(&fs::read(&root).expect("the root was written")).hex();
            let root = root.to_str().expect("tests use paths that are text");
            let repository = format!("{host}/{TRUST}");
            let arguments =
                ["trust", "add", NAME, "--root", root, "--sha256", &digest, "--repository", &repository];
            client.run(&arguments).ok();
        }
        client
    }

    /// The key of `machine`, made on it: `MACHINE.key` and `MACHINE.pub`.
    pub fn generate_key(&self, machine: &str) -> Run {
        let mut arguments = vec!["key", "generate", machine, "--passphrase-file", "passphrase"];
        if self.site.ecdsa {
            arguments.push("--ecdsa");
        }
        self.machine(machine).run(&arguments)
    }

    /// The owner makes the trust repository.
    pub fn init(&self) -> Run {
        let (trust, server) = (self.trust(), self.daemon.url());
        self.owner().run(&[
            "init",
            &trust,
            "--scope",
            "acme/**",
            "--server",
            &server,
            "--key",
            "owner.key",
            "--passphrase-file",
            "passphrase",
        ])
    }

    /// The owner gives `scope` to the key of the machine `to`.
    pub fn delegate(&self, scope: &str, label: &str, to: &str) -> Run {
        let public = self.directory.path().join(to).join(format!("{to}.pub"));
        let public = public.to_str().expect("tests use paths that are text");
        self.owner().run(&[
            "delegate",
            "add",
            scope,
            "--label",
            label,
            "--pub",
            public,
            "--key",
            "owner.key",
            "--passphrase-file",
            "passphrase",
        ])
    }

    /// The owner signs and submits the next version of the root, otherwise unchanged, and waits until it is published.
    ///
    /// # Panics
    /// If the daemon refuses it, or does not publish it.
    pub fn renew_root(&self) {
        let owner = self.owner();
        let newest = (1..100)
            .map_while(|version| {
                let url = format!("{}/tuf/{NAME}/metadata/{version}.root.json", self.daemon.url());
                http::get(&url).ok().filter(|answer| answer.status == 200)
            })
            .last();
        let newest = newest.expect("the trust repository is made").body;
        let mut root = Document::<Root>::parse("root", &newest).expect("it is a root").signed.clone();
        root.common.version += 1;
        let passphrase = Passphrase::from_file(&owner.home().join("passphrase")).expect("it is there");
        let key = PrivateKey::load(&owner.home().join("owner.key"), &passphrase).expect("it opens");
        let root = author::sign(&root, &[&key]).expect("it can be signed");
        let root: serde_json::Value = serde_json::from_slice(&root).expect("it is JSON");
        let body = json!({"documents": {"root": root}}).to_string();
        let submissions = format!("{}/v1/trusts/{NAME}/submissions", self.daemon.url());
        let answer = http::request("POST", &submissions, &[], body.as_bytes()).expect("the daemon answers");
        assert_eq!(answer.status, 202, "{}", answer.text());
        let accepted: serde_json::Value = serde_json::from_slice(&answer.body).expect("it answers in JSON");
        let id = accepted["id"].as_str().expect("a submission has an id");
        // 9 s: our plain client waits for 10.
        let answer = http::get(&format!("{submissions}/{id}?wait=9")).expect("the daemon answers");
        assert!(answer.text().contains("\"published\""), "{}", answer.text());
    }

    /// The team signs `tag`.
    pub fn sign(&self, tag: &str) -> Run {
        let reference = self.reference(tag);
        self.team().run(&["sign", &reference, "--key", "team.key", "--passphrase-file", "passphrase"])
    }

    /// The team takes the digest signed as `tag` back.
    pub fn revoke(&self, tag: &str, reason: &str) -> Run {
        let reference = self.reference(tag);
        self.team().run(&[
            "revoke",
            &reference,
            "--reason",
            reason,
            "--key",
            "team.key",
            "--passphrase-file",
            "passphrase",
        ])
    }

    /// Another team, with a key and a role of its own, pushes and signs `tag` of `acme/other`.
    ///
    /// # Panics
    /// With what a command said, if it failed.
    pub fn sign_elsewhere(&self, tag: &str) {
        if !self.machine("other").home().join("other.key").exists() {
            self.generate_key("other").ok();
            self.delegate("acme/other", "other", "other").ok();
        }
        let reference = format!("{}/acme/other:{tag}", self.host);
        Image::busybox(tag).push(&reference, &self.side()).ok();
        let other = self.client("other").env("PLIMSOLL_SERVER", &self.daemon.url());
        other.run(&["sign", &reference, "--key", "other.key", "--passphrase-file", "passphrase"]).ok();
    }
}

/// Stores `user` and `password` for `host` in `home` as `docker login` does.
///
/// # Panics
/// If it cannot be written.
pub fn log_in(home: &Path, host: &str, user: &str, password: &str) {
    let auth = BASE64.encode(format!("{user}:{password}").as_bytes());
    let config = json!({"auths": {host: {"auth": auth}}});
    write_private(&home.join(".docker/config.json"), &config.to_string());
}

/// The folder with the trusted state of [`NAME`] on a machine.
///
/// # Panics
/// If there is not exactly one.
pub fn state_folder(machine: &Cli) -> PathBuf {
    let folders = fs::read_dir(machine.home().join("state")).expect("something was updated");
    let folders = folders.map(|folder| folder.expect("the folder can be read").path());
    // The locks of who writes to registries.
    let mut folders = folders.filter(|folder| !folder.ends_with("writing"));
    let first = folders.next().expect("one trust id");
    assert!(folders.next().is_none(), "there is more than one trust id");
    first.join("whole")
}

/// Every file below `folder`, the lock aside, with its size in bytes and the digest of its content.
///
/// # Panics
/// If it cannot be read.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, (usize, Digest)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name != "lock") {
                let content = fs::read(&path).expect("the file can be read");
                found.insert(path, (content.len(), Digest::of(&content)));
            }
        }
    }
    found
}

fn write_private(path: &Path, text: &str) {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).expect("a temporary directory can be written");
}
