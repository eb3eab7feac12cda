//! Whole daemons in a folder of their own, on a free loopback port.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use plimsoll::{
    clock::SystemClock,
    keys::{Algorithm, PrivateKey, SignError},
    publish::{
        InitRequest, PublishError, Server,
        api::{RefusalReason, Submission},
        author, init,
    },
    registry::{Credentials, Registry, RegistryOptions},
};
use plimsoll_core::{oci::mapping::Profile, policy::Scope};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{setup::MAX_PASSWORD, *};
use crate::{
    config::Overrides,
    keys::{self, OnlineKeyError},
    secrets::SecretFile,
    store::StoreError,
};

fn config(folder: &TempDir) -> Config {
    Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::new(folder.path().join("data")) }
}

fn with_trusts(folder: &TempDir, names: &[&str]) -> Config {
    Config { trusts: names.iter().map(|name| TrustConfig::embedded(*name)).collect(), ..config(folder) }
}

async fn start(config: Config) -> Result<Daemon, DaemonError> {
    Daemon::start(config, Arc::new(SystemClock)).await
}

async fn refused(config: Config) -> DaemonError {
    start(config).await.expect_err("the daemon must not start")
}

fn server(daemon: &Daemon) -> Server {
    let options = RegistryOptions { credentials: Credentials::anonymous(), ..RegistryOptions::default() };
    Server::new(Registry::new(options).unwrap(), format!("http://{}", daemon.address()).parse().unwrap())
}

async fn info(daemon: &Daemon, name: &str) -> TrustInfo {
    server(daemon).trust(name, |trust| trust.name == name).await.unwrap()
}

async fn init_main(daemon: &Daemon) -> Result<u64, SignError> {
    init_trust(daemon, "main").await
}

async fn init_trust(daemon: &Daemon, name: &str) -> Result<u64, SignError> {
    init_by(daemon, name, &PrivateKey::generate(Algorithm::Ed25519)?).await
}

async fn init_by(daemon: &Daemon, name: &str, owner: &PrivateKey) -> Result<u64, SignError> {
    // Nothing is signed before.
    for engine in daemon.engines() {
        engine.looked().await;
    }
    let repository = info(daemon, name).await.repository.parse().unwrap();
    let scopes = vec!["acme/**".parse::<Scope>().unwrap()];
    let request = InitRequest { repository, scopes, online: None, names: Vec::new() };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Ok(init(&server(daemon), &request, &[owner], &clock).await.unwrap().timestamp)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trust_repository_on_the_embedded_registry_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = start(config(&folder)).await.unwrap();
    let before = info(&daemon, "main").await;
    assert_eq!(before.repository, format!("{}/main/trust", daemon.address()));
    assert_eq!(before.trust_id, None);
    assert!(init_main(&daemon).await.unwrap() >= 1);
    let made = info(&daemon, "main").await;
    assert!(made.trust_id.is_some());
    let address = daemon.address();
    daemon.stop().await;

    // The same port, since it is part of the embedded repository's name.
    let again = start(Config { listen: address, ..config(&folder) }).await.unwrap();
    let info = info(&again, "main").await;
    assert_eq!((info.trust_id, info.online, info.repository), (made.trust_id, made.online, made.repository));
    assert_eq!(info.heads["root"], 1);
    again.stop().await;
}

/// A pair made beside the running daemon is offered at once, and no longer when it was discarded.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_keys_are_seen_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = start(config(&folder)).await.unwrap();
    let data = folder.path().join("data");
    let before = info(&daemon, "main").await;
    assert_eq!(before.online_next, None);
    let next = keys::make_next(&data, "main").unwrap().0.next(None);
    for made in [next, None] {
        let now = info(&daemon, "main").await;
        assert_eq!((now.online, now.online_next), (before.online.clone(), made));
        keys::discard_next(&data, "main").unwrap();
    }
    daemon.stop().await;
}

/// T83.
#[tokio::test(flavor = "multi_thread")]
async fn the_data_folder_is_private() {
    let folder = tempfile::tempdir().unwrap();
    start(config(&folder)).await.unwrap().stop().await;
    let data = folder.path().join("data");
    for name in ["", "keys", "keys/main", "store", "registry"] {
        let mode = fs::metadata(data.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{name}");
    }
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    let error = refused(config(&folder)).await;
    assert!(matches!(error, DaemonError::Keys(OnlineKeyError::Permissions { mode: 0o755, .. })), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_on_the_same_data_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = start(config(&folder)).await.unwrap();
    let error = refused(config(&folder)).await;
    assert!(matches!(error, DaemonError::Store(StoreError::InUse { .. })), "{error:?}");
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = refused(Config { listen: address, ..config(&folder) }).await;
    assert!(matches!(error, DaemonError::Listen { address: a, .. } if a == address), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_registry_is_never_exposed() {
    let folder = tempfile::tempdir().unwrap();
    let error = refused(Config { listen: "0.0.0.0:0".parse().unwrap(), ..config(&folder) }).await;
    assert!(matches!(error, DaemonError::Exposed { .. }), "{error:?}");
    assert!(!folder.path().join("data").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_keys_of_a_used_trust_repository_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = start(config(&folder)).await.unwrap();
    init_main(&daemon).await.unwrap();
    daemon.stop().await;
    fs::remove_dir_all(folder.path().join("data/keys/main")).unwrap();
    let error = refused(config(&folder)).await;
    assert!(matches!(error, DaemonError::KeysGone { .. }), "{error:?}");
    assert!(!folder.path().join("data/keys/main").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn copied_and_public_keys_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    start(with_trusts(&folder, &["a", "b"])).await.unwrap().stop().await;
    let files = folder.path().join("data/keys");
    fs::copy(files.join("a/timestamp.key"), files.join("b/snapshot.key")).unwrap();
    let error = refused(with_trusts(&folder, &["a", "b"])).await;
    assert!(matches!(error, DaemonError::SharedKey { .. }), "{error:?}");

    fs::remove_file(files.join("b/snapshot.key")).unwrap();
    PrivateKey::generate(Algorithm::Ed25519)
        .unwrap()
        .save_insecure_plain(&files.join("b/snapshot.key"))
        .unwrap();
    keys::make_next(&folder.path().join("data"), "b").unwrap();
    fs::copy(files.join("a/timestamp.key"), files.join("b/next/timestamp.key")).unwrap();
    let error = refused(with_trusts(&folder, &["a", "b"])).await;
    assert!(matches!(error, DaemonError::SharedKey { .. }), "{error:?}");
    keys::discard_next(&folder.path().join("data"), "b").unwrap();

    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../keys-example");
    let sealed = folder.path().join("timestamp.key");
    fs::copy(example.join("timestamp.key"), &sealed).unwrap();
    fs::set_permissions(&sealed, fs::Permissions::from_mode(0o600)).unwrap();
    let passphrase = plimsoll::keys::Passphrase::from_file(&example.join("passphrase.txt")).unwrap();
    fs::remove_file(files.join("b/snapshot.key")).unwrap();
    PrivateKey::load(&sealed, &passphrase)
        .unwrap()
        .save_insecure_plain(&files.join("b/snapshot.key"))
        .unwrap();
    let error = refused(with_trusts(&folder, &["a", "b"])).await;
    assert!(matches!(error, DaemonError::ExampleKey { .. }), "{error:?}");
    let mut allowed = with_trusts(&folder, &["a", "b"]);
    allowed.trusts[1].allow_example_keys = true;
    start(allowed).await.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_trust_repositories_have_two_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = with_trusts(&folder, &["a", "b"]);
    config.listen = "127.0.0.1:8480".parse().unwrap();
    config.trusts[1].repository = "127.0.0.1:8480/a/trust".parse().ok();
    let error = refused(config).await;
    assert!(matches!(error, DaemonError::SameRepository { .. }), "{error:?}");
}

/// T83, T84.
#[test]
fn a_password_file_is_one_private_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    let write = |text: &[u8], mode| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        SecretFile::File(path.clone()).first_line(MAX_PASSWORD)
    };
    for text in ["s3cret", "s3cret\n", "s3cret\r\nsecond\n"] {
        assert_eq!(write(text.as_bytes(), 0o400).unwrap().expose(), "s3cret");
        fs::remove_file(&path).unwrap();
    }
    for (text, mode) in
        [(&b"s3cret"[..], 0o644), (b"s3cret", 0o640), (b"", 0o600), (b"\nx", 0o600), (b"\xff", 0o600)]
    {
        let error = write(text, mode).unwrap_err();
        assert!(!error.to_string().contains("s3cret"));
    }
    assert!(write(&vec![b'x'; 4097], 0o600).is_err());
    let read = |path: &Path| SecretFile::File(path.to_owned()).first_line(MAX_PASSWORD);
    assert_eq!(read(&folder.path().join("no")).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(read(folder.path()).is_err());
}

/// What the daemon answers to a GET of `path`.
async fn get(daemon: &Daemon, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\naccept: text/html\r\nconnection: close\r\n\r\n");
    exchange(daemon.address(), request.as_bytes()).await
}

async fn exchange(address: SocketAddr, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

fn names(daemon: &Daemon) -> Vec<String> {
    daemon.engines().iter().map(|engine| engine.name().to_owned()).collect()
}

/// The daemon serves what it is told to from then on, and what it served before is as it was when it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn trust_repositories_come_and_go_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = start(config(&folder)).await.unwrap();
    init_main(&daemon).await.unwrap();
    let made = info(&daemon, "main").await;

    let reloaded = daemon.reload(with_trusts(&folder, &["main", "b"])).await.unwrap();
    let place = format!("{}/b/trust", daemon.address());
    assert_eq!(reloaded.served, [("b".to_owned(), place.clone())]);
    assert!(reloaded.changed.is_empty() && reloaded.restart.is_empty(), "{reloaded:?}");
    assert_eq!(
        (names(&daemon), info(&daemon, "b").await.repository),
        (vec!["b".into(), "main".into()], place)
    );
    assert_eq!(info(&daemon, "main").await, made, "nothing happened to it");
    assert_eq!(init_trust(&daemon, "b").await.unwrap(), 1);
    let b = info(&daemon, "b").await;
    let told = [
        ("/readyz", "\nb: ready"),
        ("/metrics", "{trust=\"b\"}"),
        ("/v1/trusts", "/b/trust"),
        ("/", "href=\"/trusts/b\""),
    ];
    for (path, text) in told {
        assert!(get(&daemon, path).await.1.contains(text), "{path}");
    }
    assert_eq!(get(&daemon, "/tuf/b/metadata/1.root.json").await.0, 200);

    let reloaded = daemon.reload(config(&folder)).await.unwrap();
    assert_eq!(reloaded.withdrawn, ["b"]);
    assert_eq!(names(&daemon), ["main"]);
    for path in ["/tuf/b/metadata/1.root.json", "/tuf/b/metadata/timestamp.json", "/v1/trusts/b", "/trusts/b"]
    {
        assert_eq!(get(&daemon, path).await.0, 404, "{path}");
    }
    for (path, text) in told {
        assert!(!get(&daemon, path).await.1.contains(text), "{path}");
    }

    // Back again, with its keys and documents; the other one goes, and the embedded registry with the last of them.
    let reloaded = daemon.reload(with_trusts(&folder, &["b"])).await.unwrap();
    assert_eq!((reloaded.served.len(), reloaded.withdrawn), (1, vec!["main".to_owned()]));
    let again = info(&daemon, "b").await;
    assert_eq!((&again.trust_id, &again.online, again.heads["root"]), (&b.trust_id, &b.online, 1));
    assert_eq!(get(&daemon, "/v2/").await.0, 200);
    let mut elsewhere = with_trusts(&folder, &["b"]);
    elsewhere.trusts[0].repository = "127.0.0.1:1/b/trust".parse().ok();
    let reloaded = daemon.reload(elsewhere).await.unwrap();
    assert_eq!((reloaded.restarted, reloaded.failed), (vec!["b".to_owned()], vec![]));
    assert_eq!(info(&daemon, "b").await.repository, "127.0.0.1:1/b/trust");
    assert_eq!(get(&daemon, "/v2/").await.0, 404);
    let reloaded = daemon.reload(config(&folder)).await.unwrap();
    assert_eq!(reloaded.served.len(), 1);
    assert_eq!(info(&daemon, "main").await.trust_id, made.trust_id);
    assert_eq!(get(&daemon, "/v2/").await.0, 200);
    daemon.stop().await;
}

/// All of it or nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_would_not_start_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = start(config(&folder)).await.unwrap();
    init_main(&daemon).await.unwrap();
    let before = info(&daemon, "main").await;
    let keys = folder.path().join("data/keys");
    let copy = || {
        keys::load_or_make(&folder.path().join("data"), "b").unwrap();
        fs::copy(keys.join("main/timestamp.key"), keys.join("b/snapshot.key")).unwrap();
    };
    copy();
    let error = daemon.reload(with_trusts(&folder, &["b", "main"])).await.unwrap_err();
    assert!(matches!(error, DaemonError::SharedKey { .. }), "{error:?}");
    let mut exposed = with_trusts(&folder, &["c"]);
    exposed.listen = "0.0.0.0:0".parse().unwrap();
    let error = daemon.reload(exposed).await.unwrap_err();
    assert!(matches!(error, DaemonError::Exposed { .. }), "{error:?}");
    let mut twice = with_trusts(&folder, &["main", "c"]);
    twice.trusts[1].repository = format!("{}/main/trust", daemon.address()).parse().ok();
    let error = daemon.reload(twice).await.unwrap_err();
    assert!(matches!(error, DaemonError::SameRepository { .. }), "{error:?}");
    let mut no_ca = with_trusts(&folder, &["c"]);
    no_ca.registry.ca_file = Some(folder.path().join("none"));
    let error = daemon.reload(no_ca).await.unwrap_err();
    assert!(matches!(error, DaemonError::Registry { .. }), "{error:?}");
    // One that could be served does not start without the others.
    let error = daemon.reload(with_trusts(&folder, &["c", "b"])).await.unwrap_err();
    assert!(matches!(error, DaemonError::SharedKey { .. }), "{error:?}");
    assert_eq!((names(&daemon), info(&daemon, "main").await), (vec!["main".to_owned()], before));
    daemon.stop().await;
}

/// A file that is being written, or was lost, withdraws nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_without_a_trust_repository_withdraws_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plimsolld.toml");
    let read = |text: &str| {
        fs::write(&file, text).unwrap();
        let overrides = Overrides {
            data: Some(folder.path().join("data")),
            listen: "127.0.0.1:0".parse().ok(),
            ..Overrides::default()
        };
        Config::resolve(Some(&file), &overrides).unwrap()
    };
    let two = "[[trust]]\nname = \"a\"\n[[trust]]\nname = \"b\"\n";
    let mut daemon = start(read(two)).await.unwrap();
    for text in ["", "[quota]\nroles = 5\n"] {
        let error = daemon.reload(read(text)).await.unwrap_err();
        assert!(
            matches!(&error, DaemonError::NoTrusts { served } if *served == ["a", "b"]),
            "{text:?}: {error:?}"
        );
        assert_eq!((names(&daemon), daemon.config().quota.roles), (vec!["a".into(), "b".into()], 1000));
        assert!(!folder.path().join("data/keys/main").exists());
    }
    // What says so is taken at its word.
    let reloaded = daemon.reload(read("[[trust]]\nname = \"main\"\n")).await.unwrap();
    assert_eq!((names(&daemon), reloaded.withdrawn), (vec!["main".to_owned()], vec!["a".into(), "b".into()]));
    daemon.stop().await;
    let mut daemon = start(read("")).await.unwrap();
    assert_eq!(daemon.reload(read("")).await.unwrap().withdrawn, [""; 0], "nothing was named before, either");
    daemon.stop().await;
}

/// An engine is made for one repository and one profile; what it accepted is there in the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_trust_repository_that_changes_is_started_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = start(with_trusts(&folder, &["a", "b"])).await.unwrap();
    init_trust(&daemon, "a").await.unwrap();
    let before = info(&daemon, "a").await;
    let mut wanted = with_trusts(&folder, &["a", "b"]);
    wanted.trusts[0].profile = Profile::Oci10;
    let reloaded = daemon.reload(wanted.clone()).await.unwrap();
    assert_eq!((reloaded.restarted, reloaded.failed), (vec!["a".to_owned()], vec![]));
    assert_eq!(reloaded.changed.len(), 1, "{:?}", reloaded.changed);
    assert_eq!(info(&daemon, "a").await, before);

    // Keys that cannot be used are told, it goes on as it was, and the next reload tries again.
    let key = folder.path().join("data/keys/a/snapshot.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let reloaded = daemon.reload(with_trusts(&folder, &["a", "b"])).await.unwrap();
    assert!(reloaded.kept[0].1.contains("chmod 600"), "{reloaded:?}");
    assert_eq!((reloaded.changed, reloaded.restarted, reloaded.failed), (vec![], vec![], vec![]));
    assert_eq!(names(&daemon), ["a", "b"]);
    assert_eq!(daemon.config().trusts[0].profile, Profile::Oci10, "what it goes by");
    assert_eq!(info(&daemon, "a").await, before);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let reloaded = daemon.reload(with_trusts(&folder, &["a", "b"])).await.unwrap();
    assert_eq!((reloaded.restarted, reloaded.kept), (vec!["a".to_owned()], vec![]));
    assert_eq!(info(&daemon, "a").await, before);
    daemon.stop().await;
}

/// What goes on where it was leaves no room there for another, so nothing is taken over then.
#[tokio::test(flavor = "multi_thread")]
async fn two_that_change_places_do_so_both_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let at = |a: &str, b: &str| {
        let mut config = with_trusts(&folder, &["a", "b"]);
        config.trusts[0].repository = a.parse().ok();
        config.trusts[1].repository = b.parse().ok();
        config
    };
    let (one, two) = ("127.0.0.1:1/one/trust", "127.0.0.1:1/two/trust");
    let mut daemon = start(at(one, two)).await.unwrap();
    let key = folder.path().join("data/keys/a/snapshot.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = daemon.reload(at(two, one)).await.unwrap_err();
    assert!(matches!(error, DaemonError::SameRepository { .. }), "{error:?}");
    assert_eq!(info(&daemon, "b").await.repository, two);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(daemon.reload(at(two, one)).await.unwrap().restarted, ["a", "b"]);
    assert_eq!(
        (info(&daemon, "a").await.repository, info(&daemon, "b").await.repository),
        (two.into(), one.into())
    );
    daemon.stop().await;
}

/// One that could not be started anew stops neither the publishing of others nor the next reload.
#[tokio::test(flavor = "multi_thread")]
async fn a_trust_repository_that_failed_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = start(with_trusts(&folder, &["a", "b"])).await.unwrap();
    // As a start anew that failed leaves it.
    daemon.api.pause("a");
    daemon.retire(["a".to_owned()]).await;
    daemon.config.trusts.retain(|trust| trust.name != "a");
    let key = folder.path().join("data/keys/a/snapshot.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();

    // The one that runs is listed and takes submissions; of the other it is said that it is not there now.
    assert_eq!(info(&daemon, "b").await.name, "b");
    assert_eq!(get(&daemon, "/v1/trusts/a").await.0, 503);
    let error = server(&daemon).trust("a", |trust| trust.name == "a").await.unwrap_err();
    assert!(
        matches!(&error, PublishError::NotNow { message } if message.contains("a has not started")),
        "{error:?}"
    );
    let error = server(&daemon).trust_with_id("00").await.unwrap_err();
    assert!(matches!(error, PublishError::NotNow { .. }), "{error:?}");
    assert_eq!(init_trust(&daemon, "b").await.unwrap(), 1);

    let mut wanted = with_trusts(&folder, &["a", "b", "c"]);
    wanted.quota.roles = 5;
    let reloaded = daemon.reload(wanted.clone()).await.unwrap();
    assert!(reloaded.failed[0].1.contains("chmod 600"), "{reloaded:?}");
    let served: Vec<_> = reloaded.served.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((served, reloaded.changed.len()), (vec!["c"], 1), "{:?}", reloaded.changed);
    assert_eq!(names(&daemon), ["b", "c"]);
    assert!(get(&daemon, "/readyz").await.1.contains("a: not ready: starting"));
    assert!(get(&daemon, "/metrics").await.1.contains("plimsolld_trust_ready{trust=\"a\"} 0"));

    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let reloaded = daemon.reload(wanted).await.unwrap();
    assert_eq!((reloaded.served.len(), reloaded.failed), (1, vec![]));
    assert_eq!(names(&daemon), ["a", "b", "c"]);
    daemon.stop().await;
}

/// P7: what did not end may still sign, so nothing else may in its place, by no later reload either.
#[tokio::test(flavor = "multi_thread")]
async fn a_trust_repository_whose_engine_did_not_end_is_not_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = start(with_trusts(&folder, &["a", "b"])).await.unwrap();
    daemon.reload(with_trusts(&folder, &["b"])).await.unwrap();
    // As an engine that hangs would have left it.
    daemon.stuck.insert("a".to_owned());
    for _ in 0..2 {
        let reloaded = daemon.reload(with_trusts(&folder, &["a", "b", "c"])).await.unwrap();
        assert!(reloaded.failed[0].1.contains("restart the daemon"), "{reloaded:?}");
        assert_eq!(names(&daemon), ["b", "c"]);
        assert_eq!(get(&daemon, "/v1/trusts/a").await.0, 503);
    }
    daemon.stop().await;
}

/// The next submission is held to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_reloaded_counts_for_engines_that_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = start(config(&folder)).await.unwrap();
    let key = PrivateKey::generate(Algorithm::Ed25519).unwrap();
    init_by(&daemon, "main", &key).await.unwrap();
    let (now, trust_id) = (SystemClock.now(), info(&daemon, "main").await.trust_id.unwrap());
    let mut targets = author::empty_targets("targets", &trust_id, now);
    targets.common.version = 2;
    let (above, scope) = (["acme/*".to_owned()], "acme/a".parse().unwrap());
    author::delegate(&mut targets, ("targets", &above), "targets--a", &scope, &[key.public().clone()], 1)
        .unwrap();
    let team = author::empty_targets("targets--a", &trust_id, now);
    let documents = BTreeMap::from([
        ("targets".to_owned(), author::sign(&targets, &[&key]).unwrap()),
        ("targets--a".to_owned(), author::sign(&team, &[&key]).unwrap()),
    ]);
    let mut small = config(&folder);
    small.quota.bytes = 1;
    daemon.reload(small).await.unwrap();
    let refusal = daemon.engines()[0].submit(documents.clone()).await.unwrap_err();
    assert_eq!(refusal.reason, Some(RefusalReason::Quota), "{refusal:?}");
    daemon.reload(config(&folder)).await.unwrap();
    daemon.engines()[0].submit(documents).await.unwrap();
    daemon.stop().await;
}

/// P6: whatever the moment at which an engine makes room for another one on the same store.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_by_reloads_under_publishing() {
    const PUBLISHES: u64 = 20;
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = start(config(&folder)).await.unwrap();
    let key = PrivateKey::generate(Algorithm::Ed25519).unwrap();
    init_by(&daemon, "main", &key).await.unwrap();
    let (address, trust_id) = (daemon.address(), info(&daemon, "main").await.trust_id.unwrap());
    let (done, mut published) = watch::channel(0);
    let publisher = tokio::spawn(async move {
        let mut put_off = 0;
        let mut targets = author::empty_targets("targets", &trust_id, SystemClock.now());
        for nth in 0..PUBLISHES {
            done.send_replace(nth);
            author::next_version("targets", &mut targets, SystemClock.now());
            let signed = author::sign(&targets, &[&key]).unwrap();
            let body = Submission::json(&BTreeMap::from([("targets".to_owned(), signed)]));
            let post = format!(
                "POST /v1/trusts/main/submissions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            loop {
                match exchange(address, &[post.as_bytes(), &body].concat()).await {
                    (202, _) => break,
                    (503, _) => put_off += 1,
                    other => panic!("version {}: {other:?}", targets.common.version),
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        put_off
    });
    let mut reloads = 0;
    while !publisher.is_finished() {
        let mut wanted = config(&folder);
        if reloads % 2 == 0 {
            wanted.trusts[0].profile = Profile::Oci10;
        }
        let reloaded = daemon.reload(wanted).await.unwrap();
        assert_eq!((reloaded.restarted.len(), reloaded.failed), (1, vec![]));
        reloads += 1;
        // An error says that all are published.
        let _ = published.wait_for(|nth| *nth > 2 * reloads).await;
    }
    let put_off = publisher.await.unwrap();
    assert!(reloads > 1, "{reloads} reloads, {put_off} answers of 503");
    let head = info(&daemon, "main").await;
    assert_eq!((head.heads["targets"], head.alarm), (PUBLISHES + 1, None));
    let version = head.heads["timestamp"];
    let engine = daemon.engines().remove(0);
    let shown = tokio::time::timeout(Duration::from_secs(30), async {
        while engine.health().published < Some(version) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    shown.await.unwrap();
    daemon.stop().await;
}
