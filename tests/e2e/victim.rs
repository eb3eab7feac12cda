//! What tests of a hostile registry start from: a trust repository in use, and a client who trusts it.

#![allow(dead_code, reason = "each test program uses its part")]

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use plimsoll_core::oci::Digest;
use plimsoll_tests::{
    docker_registry::Registry,
    middle::{Answer, Effect, Middle, Rule},
    process::{Cli, Run},
    world::{Site, World, files, state_folder},
};

pub(crate) const LATEST: &str = "/v2/acme/trust/manifests/latest";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry and a world on it with `v1` signed, shared by the tests that run at the time. Those that sign use tags of
/// their own.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) registry: Registry,
}

impl Stage {
    pub(crate) fn shared() -> Arc<Self> {
        static STAGE: Mutex<Weak<Stage>> = Mutex::new(Weak::new());
        // A test that failed leaves nothing half-done here.
        let mut stage = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
        stage.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Self::new(|site| site));
            *stage = Arc::downgrade(&new);
            new
        })
    }

    pub(crate) fn new(change: impl Fn(Site) -> Site) -> Self {
        let registry = Registry::open();
        let world = World::ready(change(Site::at(&registry.address())));
        world.push("v1", "under attack\n");
        world.sign("v1").ok();
        Self { world, registry }
    }

    /// A client that has verified `v1` through a registry in the middle.
    pub(crate) fn victim(&self, name: &str) -> Victim {
        let middle = Middle::start(&self.registry.address());
        let client = self.world.client_at(name, &middle.address());
        let reference = self.world.reference_at(&middle.address(), "v1");
        let victim = Victim { middle, client, reference };
        victim.verify().ok();
        victim
    }
}

pub(crate) struct Victim {
    pub(crate) middle: Middle,
    pub(crate) client: Cli,
    pub(crate) reference: String,
}

impl Victim {
    pub(crate) fn verify(&self) -> Run {
        self.client.run(&["verify", &self.reference])
    }

    pub(crate) fn state(&self) -> BTreeMap<PathBuf, (usize, Digest)> {
        files(&state_folder(&self.client))
    }

    /// Forgets what saves requests, so that the next look is a whole one. It is no memory against rollback.
    pub(crate) fn look_anew(&self) {
        // A refused look leaves none behind.
        let _ = fs::remove_file(state_folder(&self.client).join("entry.json"));
    }

    pub(crate) fn attack(&self, rule: &str, effect: Effect) {
        self.middle.set(Rule::new("GET HEAD", rule), effect);
    }

    /// Verifies with `code` and `words`, changes no file, and verifies again once the attack is over.
    #[track_caller]
    pub(crate) fn is_stopped(&self, what: &str, code: i32, words: &[&str]) {
        let before = self.state();
        let run = self.verify();
        assert_eq!(run.code, code, "{what}: {}{}", run.stdout, run.stderr);
        for word in words {
            assert!(run.stdout.contains(word), "{what}: `{word}` is not in {}", run.stdout);
        }
        let resolved = self.client.run(&["resolve", &self.reference]);
        assert_eq!((resolved.code, resolved.stdout.as_str()), (code, ""), "{what}: resolve");
        assert_eq!(self.state(), before, "{what}: trusted state");
        self.middle.clear();
    }
}

pub(crate) fn latest(victim: &Victim) -> Answer {
    let mut answer = victim.middle.recorded(LATEST).pop().unwrap();
    answer.headers.remove("etag");
    answer.headers.remove("content-length");
    answer
}

pub(crate) fn html() -> Effect {
    let page = Answer::status(200).header("content-type", "text/html").body("<html>Please log in</html>");
    Effect::Answer(page)
}
