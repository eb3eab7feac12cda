//! `skopeo`: another implementation's way to copy and inspect images.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::process::{self, Run};

/// How skopeo speaks to one side of a copy.
#[derive(Debug, Clone, Default)]
pub struct Side {
    credentials: Option<(String, String)>,
    ca_directory: Option<PathBuf>,
}

impl Side {
    /// Anonymous, over plain HTTP.
    pub fn plain() -> Self {
        Self::default()
    }

    /// Itself, as this user.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.credentials = Some((name.to_owned(), password.to_owned()));
        self
    }

    /// Itself, over TLS, trusting the `*.crt` files in `directory` too.
    #[must_use]
    pub fn tls(mut self, directory: &Path) -> Self {
        self.ca_directory = Some(directory.to_owned());
        self
    }

    fn add_to(&self, command: &mut Command, prefix: &str) {
        match &self.ca_directory {
            Some(directory) => command.arg(format!("--{prefix}cert-dir")).arg(directory),
            None => command.arg(format!("--{prefix}tls-verify=false")),
        };
        match &self.credentials {
            Some((name, password)) => {
                command.arg(format!("--{prefix}creds")).arg(format!("{name}:{password}"))
            }
            None => command.arg(format!("--{prefix}no-creds")),
        };
    }
}

/// Copies an image, digests unchanged, all platforms.
///
/// `source` and `destination` are in skopeo's own words: `docker://127.0.0.1:5000/acme/net-monitor:v1`,
/// `oci:DIRECTORY:NAME`.
///
/// # Panics
/// If skopeo cannot be started, or does not end.
pub fn copy(source: &str, source_side: &Side, destination: &str, destination_side: &Side) -> Run {
    let mut command = skopeo();
    command.args(["copy", "--quiet", "--all", "--preserve-digests"]);
    source_side.add_to(&mut command, "src-");
    destination_side.add_to(&mut command, "dest-");
    process::run(command.args([source, destination]), b"")
}

/// The manifest of `reference` (`HOST/REPOSITORY:TAG`) as the registry serves it, in `stdout`.
///
/// # Panics
/// As [`copy`].
pub fn inspect_raw(reference: &str, side: &Side) -> Run {
    let mut command = skopeo();
    command.args(["inspect", "--raw"]);
    side.add_to(&mut command, "");
    process::run(command.arg(format!("docker://{reference}")), b"")
}

/// The tags of `repository` (`HOST/REPOSITORY`), in `stdout` as JSON with the members `Repository` and `Tags`.
///
/// # Panics
/// As [`copy`].
pub fn list_tags(repository: &str, side: &Side) -> Run {
    let mut command = skopeo();
    command.arg("list-tags");
    side.add_to(&mut command, "");
    process::run(command.arg(format!("docker://{repository}")), b"")
}

fn skopeo() -> Command {
    let mut command = Command::new("skopeo");
    // skopeo's own signature policy is not what is tested here.
    command.arg("--insecure-policy");
    command
}
