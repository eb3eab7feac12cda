//! Several roots of trust, each with a registry of its own, and one more registry with the images.

use std::{fs, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll::{
    clock::ManualClock,
    home::Home,
    registry::{Credentials, Registry, RegistryOptions},
    verify::{Context, Mode, Verification, verify},
};
use plimsoll_core::{oci::Digest, policy::Verdict};

use super::{Host, Publisher};

/// What a client asks of an entry point when it knows it.
pub(crate) const LATEST: &str = "GET /v2/acme/trust/manifests/latest";

pub(crate) struct Several {
    /// Where the trust repositories are, by the letters `a`, `b` and so on.
    pub(crate) hosts: Vec<Host>,
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) images: Host,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) registry: Registry,
}

impl Several {
    /// So many roots, all of which vouch for `acme/app:v1` with the content `manifest`, which is there.
    pub(crate) fn new(roots: usize, manifest: &[u8]) -> Self {
        let now = DateTime::<Utc>::from_timestamp(1_800_000_000, 0).unwrap();
        Self::at(now, roots, manifest)
    }

    /// The same at another time.
    pub(crate) fn at(now: DateTime<Utc>, roots: usize, manifest: &[u8]) -> Self {
        let options = RegistryOptions { credentials: Credentials::anonymous(), ..RegistryOptions::default() };
        let mut several = Self {
            hosts: (0..roots).map(|_| Host::start()).collect(),
            publishers: (0..roots).map(|at| Publisher::of(&format!("{at:032x}"), now)).collect(),
            images: Host::start(),
            clock: Arc::new(ManualClock::new(now + TimeDelta::minutes(5))),
            dir: tempfile::tempdir().unwrap(),
            registry: Registry::new(options).unwrap(),
        };
        for at in 0..roots {
            several.publishers[at].vouch("acme/app:v1", manifest);
            several.publish(at);
        }
        several.push("v1", manifest);
        several
    }

    pub(crate) fn publish(&mut self, root: usize) {
        self.publishers[root].publish(&self.hosts[root]);
    }

    /// The root `root` vouches for `manifest` as `acme/app:TAG`, and publishes it.
    pub(crate) fn vouch(&mut self, root: usize, tag: &str, manifest: &[u8]) {
        self.publishers[root].vouch(&format!("acme/app:{tag}"), manifest);
        self.publish(root);
    }

    pub(crate) fn push(&self, tag: &str, manifest: &[u8]) {
        self.images.put(&format!("acme/app/manifests/{tag}"), manifest);
    }

    /// Writes a policy with all the roots and `rest`, in which `IMAGES` stands for the images' registry.
    pub(crate) fn context(&self, rest: &str) -> Context {
        let home = Home::at(self.dir.path());
        let mut policy = String::new();
        for (at, publisher) in self.publishers.iter().enumerate() {
            let name = letter(at);
            fs::write(self.dir.path().join(format!("{name}.json")), &publisher.root).unwrap();
            policy.push_str(&format!(
                "[root.{name}]\nfile = \"{name}.json\"\nsha256 = \"{}\"\nrepository = \"{}/acme/trust\"\n",
                Digest::of(&publisher.root).hex(),
                self.hosts[at].address
            ));
        }
        policy.push_str(&rest.replace("IMAGES", &self.images.address));
        fs::write(home.policy(), policy).unwrap();
        Context::load(home, self.registry.clone(), self.clock.clone()).unwrap()
    }

    /// The same with one scope, for everything below `acme/`.
    pub(crate) fn scope(&self, rule: &str) -> Context {
        self.context(&format!("[[scope]]\nmatch = \"IMAGES/acme/**\"\n{rule}\n"))
    }

    /// `IMAGES/acme/app:TAG`
    pub(crate) fn reference(&self, tag: &str) -> String {
        format!("{}/acme/app:{tag}", self.images.address)
    }

    pub(crate) async fn ask(&self, context: &Context, tag: &str) -> Verification {
        verify(context, &self.reference(tag).parse().unwrap(), Mode::Verify).await.unwrap()
    }

    pub(crate) async fn verdict(&self, context: &Context, tag: &str) -> Verdict {
        self.ask(context, tag).await.verdict
    }

    /// How many requests each root's registry had since the last call, and what the images' registry was asked.
    pub(crate) fn requests(&self) -> (Vec<Vec<String>>, Vec<String>) {
        (self.hosts.iter().map(Host::lines).collect(), self.images.lines())
    }
}

/// What the root at this place is called.
pub(crate) fn letter(at: usize) -> char {
    char::from(b'a' + u8::try_from(at).unwrap())
}
