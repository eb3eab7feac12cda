//! Debian's `docker-registry` (distribution 2.8.2), a real registry.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    process::{self, Run, Service},
    tls::Authority,
    token_server::TokenServer,
};

/// Whom a registry lets in.
#[derive(Debug, Clone, Copy)]
pub enum Access<'a> {
    /// Everyone.
    Open,
    /// One user, by HTTP basic authentication.
    Htpasswd {
        /// The user's name.
        user: &'a str,
        /// The user's password.
        password: &'a str,
    },
    /// Who holds a token of this server.
    Token(&'a TokenServer),
}

/// A running `docker-registry` with storage of its own, on a loopback port; ended when dropped.
///
/// Deleting is on. Its storage lives as long as the value, over [`Registry::stop`] and [`Registry::start_again`].
#[derive(Debug)]
pub struct Registry {
    directory: TempDir,
    config: Value,
    address: SocketAddr,
    tls: bool,
    service: Option<Service>,
}

impl Registry {
    /// A registry over plain HTTP, open to everyone.
    ///
    /// # Panics
    /// As [`Registry::start`].
    pub fn open() -> Self {
        Self::start(Access::Open)
    }

    /// A registry over plain HTTP; returns once it answers `/v2/`.
    ///
    /// # Panics
    /// With all that it said, if it does not answer within 30 s.
    pub fn start(access: Access<'_>) -> Self {
        Self::launch(access, None)
    }

    /// A registry over TLS with the certificate of `authority`; returns once it listens.
    ///
    /// # Panics
    /// As [`Registry::start`].
    pub fn start_tls(access: Access<'_>, authority: &Authority) -> Self {
        Self::launch(access, Some(authority))
    }

    fn launch(access: Access<'_>, authority: Option<&Authority>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let mut config = json!({
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {
                "filesystem": {"rootdirectory": directory.path().join("storage")},
                "delete": {"enabled": true},
                "maintenance": {"uploadpurging": {"enabled": false}},
            },
            "http": {"addr": "127.0.0.1:0", "secret": "the same after a restart"},
        });
        match access {
            Access::Open => {}
            Access::Htpasswd { user, password } => {
                let path = directory.path().join("htpasswd");
                // `-i`: the password from standard input; `-B`: bcrypt, the only kind the registry takes.
                let run =
                    process::run(Command::new("htpasswd").args(["-niB", user]), password.as_bytes()).ok();
                fs::write(&path, run.stdout).expect("a temporary directory can be written");
                config["auth"] = json!({"htpasswd": {"realm": "registry", "path": path}});
            }
            Access::Token(server) => {
                let bundle = directory.path().join("token.pem");
                fs::write(&bundle, server.certificate_pem()).expect("a temporary directory can be written");
                config["auth"] = json!({"token": {
                    "realm": server.realm(),
                    "service": server.service(),
                    "issuer": server.issuer(),
                    "rootcertbundle": bundle,
                }});
            }
        }
        if let Some(authority) = authority {
            config["http"]["tls"] =
                json!({"certificate": authority.certificate_file(), "key": authority.key_file()});
        }
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut this = Self { directory, config, address, tls: authority.is_some(), service: None };
        this.start_again();
        this
    }

    /// Its address, `127.0.0.1:PORT`: the host part of a reference.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Its base URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }

    /// Where it stores what it holds: a directory that a test may look at, or damage.
    pub fn storage(&self) -> PathBuf {
        self.directory.path().join("storage")
    }

    /// All it has said since it was last started.
    pub fn output(&self) -> String {
        self.service.as_ref().map(Service::output).unwrap_or_default()
    }

    /// Ends it: an outage.
    pub fn stop(&mut self) {
        self.service = None;
    }

    /// Removes the tag `tag` of `repository`, as a person with access to its disk would.
    ///
    /// # Panics
    /// If there is no such tag.
    pub fn remove_tag(&self, repository: &str, tag: &str) {
        let tags = format!("docker/registry/v2/repositories/{repository}/_manifests/tags/{tag}");
        fs::remove_dir_all(self.storage().join(tags)).expect("the registry has this tag");
    }

    /// Runs its `garbage-collect -m`, which deletes manifests without a tag, too.
    ///
    /// # Panics
    /// If it was not stopped before; as [`process::run`].
    pub fn collect_garbage(&self) -> Run {
        assert!(self.service.is_none(), "a running registry must not be collected");
        process::run(&mut self.command(&["garbage-collect", "-m"]), b"")
    }

    /// Starts it on the same address with what it held, if it is not running.
    ///
    /// # Panics
    /// As [`Registry::start`].
    pub fn start_again(&mut self) {
        if self.service.is_some() {
            return;
        }
        self.config["http"]["addr"] = json!(self.address.to_string());
        // JSON is YAML.
        fs::write(self.file(), self.config.to_string()).expect("a temporary directory can be written");
        let service = Service::start(&mut self.command(&["serve"]));
        self.address = service.wait_listening();
        if !self.tls {
            let url = format!("{}/v2/", self.url());
            process::wait_until(&url, |status| matches!(status, 200 | 401), || service.output());
        }
        self.service = Some(service);
    }
    fn file(&self) -> PathBuf {
        self.directory.path().join("config.yml")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/docker-registry");
        command.args(arguments).arg(self.file()).current_dir(self.directory.path());
        for (name, _) in std::env::vars_os() {
            // Such variables override the file.
            if name.to_str().is_some_and(|name| name.starts_with("REGISTRY_") || name.starts_with("OTEL_")) {
                command.env_remove(name);
            }
        }
        command
    }
}
