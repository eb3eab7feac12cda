//! Several places for one root: transport only, the newest valid one wins, and who owns one place can take nothing away.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use chrono::{DateTime, TimeDelta, Utc};
use common::{Host, Publisher};
use plimsoll::{
    registry::{Credentials, Registry, RegistryOptions},
    update::{AnySource, Bounds, Places, RegistrySource, Session, UpdateError},
};
use plimsoll_core::{policy::Verdict, tuf};

const LATEST: &str = "acme/trust/manifests/latest";
const ASKED: &str = "GET /v2/acme/trust/manifests/latest";
const MANIFEST: &[u8] = b"one";

/// Three places, all of them with what was published last.
struct World {
    hosts: [Host; 3],
    publisher: Publisher,
    dir: tempfile::TempDir,
    registry: Registry,
}

fn world() -> World {
    let now = DateTime::<Utc>::from_timestamp(1_800_000_000, 0).unwrap();
    let mut publisher = Publisher::new(now);
    publisher.vouch("acme/app:v1", MANIFEST);
    let options = RegistryOptions { credentials: Credentials::anonymous(), ..RegistryOptions::default() };
    let world = World {
        hosts: [Host::start(), Host::start(), Host::start()],
        publisher,
        dir: tempfile::tempdir().unwrap(),
        registry: Registry::new(options).unwrap(),
    };
    let mut world = world;
    world.publish(&[0, 1, 2]);
    world
}

impl World {
    /// The next version, at these places only.
    fn publish(&mut self, places: &[usize]) {
        for (n, at) in places.iter().enumerate() {
            self.publisher.version -= u64::from(n > 0);
            self.publisher.publish(&self.hosts[*at]);
        }
    }

    async fn refresh(&self, places: &[usize]) -> Result<Session<Places<AnySource>>, UpdateError> {
        let source = |at: &usize| {
            let address = format!("{}/acme/trust", self.hosts[*at].address).parse().unwrap();
            AnySource::Registry(RegistrySource::new(self.registry.clone(), address))
        };
        let places = Places::new(places.iter().map(source).collect());
        let now = self.publisher.now + TimeDelta::minutes(5);
        Session::refresh_places(places, self.dir.path(), &self.publisher.root, now, &Bounds::default()).await
    }

    /// The version of the timestamp that was taken, the place that it came from, and those that were skipped.
    async fn good(&self, places: &[usize]) -> (u64, usize, Vec<Option<Verdict>>) {
        let session = self.refresh(places).await.unwrap();
        let version = session.trusted().timestamp().unwrap().version();
        let from = session.location();
        let at = self.hosts.iter().position(|host| from.starts_with(&host.address)).unwrap();
        (version, at, session.skipped().iter().map(|(_, why)| why.verdict()).collect())
    }

    async fn bad(&self, places: &[usize]) -> UpdateError {
        self.refresh(places).await.expect_err("no place is good")
    }

    fn lines(&self) -> [Vec<String>; 3] {
        [0, 1, 2].map(|at| self.hosts[at].lines())
    }
}

#[tokio::test]
async fn the_newest_wins_wherever_it_is() {
    let mut world = world();
    assert_eq!(world.good(&[0, 1, 2]).await, (1, 0, vec![]), "the first of those that are alike");
    for (newer, at) in [(vec![1], 1), (vec![2], 2), (vec![0], 0), (vec![1, 2], 1)] {
        world.publish(&newer);
        let (version, from, skipped) = world.good(&[0, 1, 2]).await;
        assert_eq!((version, from), (world.publisher.version, at));
        // Those that lag are older than what is known now, but not than what was known before.
        let lagged_twice =
            |skipped: &[Option<Verdict>]| skipped.iter().all(|why| *why == Some(Verdict::Rollback));
        assert!(lagged_twice(&skipped), "{skipped:?}");
    }
}

/// T20: an older copy at one place is no alarm while another one is newer; older at all of them is.
#[tokio::test]
async fn older_than_remembered_everywhere_is_rollback() {
    let mut world = world();
    let old = world.hosts[0].file(LATEST);
    world.publish(&[0, 1, 2]);
    assert_eq!(world.good(&[0, 1]).await, (2, 0, vec![]));
    world.hosts[0].put(LATEST, &old);
    assert_eq!(world.good(&[0, 1]).await, (2, 1, vec![Some(Verdict::Rollback)]), "it went back, and says so");
    world.hosts[1].put(LATEST, &old);
    let error = world.bad(&[0, 1]).await;
    assert!(matches!(error, UpdateError::Tuf(tuf::Error::Rollback { held: 2, offered: 1, .. })), "{error:?}");
    // The memory is as it was.
    assert_eq!(world.good(&[2]).await, (2, 2, vec![]));
}

#[tokio::test]
async fn a_place_that_merely_lags_is_not_worth_a_warning() {
    let mut world = world();
    assert_eq!(world.good(&[0, 1]).await, (1, 0, vec![]));
    world.publish(&[0]);
    assert_eq!(
        world.good(&[0, 1]).await,
        (2, 0, vec![]),
        "the mirror shows what was remembered, the origin more"
    );
    world.publish(&[1]);
    assert_eq!(world.good(&[0, 1]).await, (3, 1, vec![]));
}

#[tokio::test]
async fn a_place_that_fails_is_skipped_if_another_one_is_good() {
    let world = world();
    for (status, verdict) in [(500, Verdict::Unreachable), (404, Verdict::Unreachable), (403, Verdict::Auth)]
    {
        world.hosts[0].fail_with(Some(status));
        assert_eq!(world.good(&[0, 1]).await, (1, 1, vec![Some(verdict)]), "{status}");
        assert_eq!(world.good(&[1, 0]).await, (1, 1, vec![Some(verdict)]), "{status}");
        world.hosts[1].fail_with(Some(500));
        // The gravest of the failures.
        assert_eq!(world.bad(&[0, 1]).await.verdict(), Some(verdict), "{status}");
        world.hosts[1].fail_with(None);
    }
    world.hosts[0].fail_with(None);
    // T28, T70: another trust repository at one of them.
    Publisher::new(world.publisher.now).publish(&world.hosts[0]);
    assert_eq!(world.good(&[0, 1]).await, (1, 1, vec![Some(Verdict::Untrusted)]));
    world.hosts[1].fail_with(Some(500));
    assert_eq!(world.bad(&[1, 0]).await.verdict(), Some(Verdict::Untrusted));
}

/// T28: a newer timestamp that is genuine is believed although the place lacks the rest; what is older does not count then.
#[tokio::test]
async fn something_newer_that_is_withheld_is_not_waved_away_for_something_older() {
    for places in [[0, 1], [1, 0]] {
        let mut world = world();
        assert_eq!(world.good(&[0, 1]).await, (1, 0, vec![]));
        world.publish(&[1]);
        // The timestamp is inside of the manifest; the snapshot is taken out, and its blob is gone.
        let mut manifest: serde_json::Value = serde_json::from_slice(&world.hosts[1].file(LATEST)).unwrap();
        for layer in manifest["layers"].as_array_mut().unwrap() {
            if layer["annotations"]["tuf.io/filename"] == "2.snapshot.json" {
                layer.as_object_mut().unwrap().remove("data");
                world.hosts[1].remove(&format!("acme/trust/blobs/{}", layer["digest"].as_str().unwrap()));
            }
        }
        world.hosts[1].put(LATEST, manifest.to_string().as_bytes());
        assert_eq!(world.bad(&places).await.verdict(), Some(Verdict::Unreachable), "{places:?}");
        // From now on it is remembered.
        assert_eq!(world.bad(&places).await.verdict(), Some(Verdict::Rollback), "{places:?}");
        // Another place has the file that is missing: it is found by its hash.
        world.publisher.version -= 1;
        world.publisher.publish(&world.hosts[2]);
        assert_eq!(world.good(&[1, 2]).await, (2, 1, vec![]));
    }
}

#[tokio::test]
async fn one_place_costs_what_it_costs_alone_and_each_further_one_as_much_again() {
    let world = world();
    world.good(&[0]).await;
    world.lines();
    world.good(&[0]).await;
    assert_eq!(world.lines()[0], [ASKED]);
    world.good(&[0, 1, 2]).await;
    assert_eq!(world.lines(), [vec![ASKED.to_owned()], vec![ASKED.to_owned()], vec![ASKED.to_owned()]]);
    world.good(&[0, 1, 2]).await;
    assert_eq!(world.lines(), [vec![ASKED.to_owned()], vec![ASKED.to_owned()], vec![ASKED.to_owned()]]);
}
