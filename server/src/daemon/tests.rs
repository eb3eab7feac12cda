//! Whole daemons in a folder of their own, on a free loopback port.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use plimsoll::{
    clock::SystemClock,
    keys::{Algorithm, PrivateKey, SignError},
    publish::{InitRequest, Server, init},
};
use plimsoll_core::policy::Scope;
use tempfile::TempDir;

use super::*;

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
    // Nothing is signed before.
    for engine in daemon.engines() {
        engine.looked().await;
    }
    let owner = PrivateKey::generate(Algorithm::Ed25519)?;
    let repository = info(daemon, "main").await.repository.parse().unwrap();
    let scopes = vec!["acme/**".parse::<Scope>().unwrap()];
    let request = InitRequest { repository, scopes, online: None, names: Vec::new() };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Ok(init(&server(daemon), &request, &[&owner], &clock).await.unwrap().timestamp)
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
