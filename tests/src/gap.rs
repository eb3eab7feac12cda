//! A network that leads nowhere: what is started in it reaches what else is started in it, on loopback, and nothing more.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
};

use serde_json::json;
use tempfile::TempDir;

use crate::process::{Run, Service, run};

/// A network namespace of its own, without routes; gone when dropped, or when this process ends.
#[derive(Debug)]
pub struct Gap {
    keeper: Child,
}

impl Gap {
    /// A namespace with loopback and nothing else.
    ///
    /// # Panics
    /// If it is not permitted: it takes root (`CAP_NET_ADMIN`).
    pub fn new() -> Self {
        let script = "busybox ip link set lo up && echo ready && read -r _";
        let mut keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            // It waits for a line that never comes: the end of this process is the end of its input.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("`unshare` is there (util-linux)");
        let mut line = String::new();
        let stdout = keeper.stdout.as_mut().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a pipe can be read");
        if line != "ready\n" {
            let mut said = String::new();
            let _ = keeper.stderr.take().expect("stderr is piped").read_to_string(&mut said);
            let _ = keeper.wait();
            panic!(
                "this test needs a network that leads nowhere, so it makes a network namespace of its own; that is not \
                 permitted here: {said}run it as root (CAP_NET_ADMIN)"
            );
        }
        Self { keeper }
    }

    /// The words before a program that run it in here.
    pub fn enter(&self) -> [String; 2] {
        ["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", self.keeper.id())]
    }

    /// Runs `program` with `arguments` in here.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Run {
        let [enter, flag] = self.enter();
        run(Command::new(enter).arg(flag).arg(program).args(arguments), b"")
    }

    /// Starts Debian's `docker-registry` in here, over plain HTTP and open to everyone in here.
    ///
    /// # Panics
    /// With all that it said, if it does not listen within 30 s.
    pub fn registry(&self) -> GapRegistry {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let config = json!({
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": directory.path().join("storage")}},
            "http": {"addr": "127.0.0.1:0", "secret": "of this test"},
        });
        let path = directory.path().join("config.json");
        fs::write(&path, config.to_string()).expect("a temporary directory can be written");
        let [enter, flag] = self.enter();
        let mut command = Command::new(enter);
        command.arg(flag).args(["docker-registry", "serve"]).arg(&path);
        let service = Service::start(&mut command);
        let address = service.wait_listening().to_string();
        GapRegistry { _service: service, _directory: directory, address }
    }
}

impl Default for Gap {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Gap {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// A registry in a [`Gap`]; ended when dropped.
#[derive(Debug)]
pub struct GapRegistry {
    _service: Service,
    _directory: TempDir,
    address: String,
}

impl GapRegistry {
    /// Its address in there, `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.clone()
    }
}
