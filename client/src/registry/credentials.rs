//! Credentials: docker's configuration file and its credential helpers.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fmt, io,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use data_encoding::{BASE64, BASE64_NOPAD};
use plimsoll_core::record;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::{ConfigFault, HelperFault, RegistryError};

const MAX_CONFIG: u64 = 1 << 20;
const MAX_OUTPUT: u64 = 64 << 10;
const HELPER_TIME: Duration = Duration::from_secs(10);
/// What helpers and configuration files call Docker Hub.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// The user name by which helpers say that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// A password or token: wiped from memory when dropped, and never shown.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Zeroizing<String>);

/// Where credentials come from. Cheap to clone, and clones stay the same; nothing is read before a registry asks for
/// credentials.
#[derive(Debug, Clone)]
pub struct Credentials(Arc<RwLock<Arc<Source>>>);

#[derive(Debug)]
enum Source {
    Anonymous,
    Fixed(Login),
    Docker,
    File(PathBuf),
}

/// What is known for one registry.
#[derive(Debug, Clone)]
pub(super) enum Login {
    Password {
        user: String,
        password: Secret,
    },
    /// A refresh token for the registry's token server.
    IdentityToken(Secret),
}

impl Secret {
    /// Takes `text` as a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The secret itself. For the wire only: never for a log, a message or a file.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl From<Source> for Credentials {
    fn from(source: Source) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(source))))
    }
}

impl Credentials {
    /// No credentials, for any registry.
    pub fn anonymous() -> Self {
        Self::from(Source::Anonymous)
    }

    /// This user and password for whichever registry asks. Only for clients that speak to one registry.
    pub fn fixed(user: impl Into<String>, password: Secret) -> Self {
        Self::from(Source::Fixed(Login::Password { user: user.into(), password }))
    }

    /// What `docker login` or `podman login` stored: `$REGISTRY_AUTH_FILE` if that is set, else
    /// `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`. A missing file means no credentials.
    pub fn docker() -> Self {
        Self::from(Source::Docker)
    }

    /// As [`Credentials::docker`], from the file at `path`, which must exist.
    pub fn config_file(path: impl Into<PathBuf>) -> Self {
        Self::from(Source::File(path.into()))
    }

    /// Takes over from where `other` comes, for itself and all its clones: clients that use them do so when a registry
    /// next asks.
    pub fn replace(&self, other: &Self) {
        let source = other.source();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = source;
    }

    fn source(&self) -> Arc<Source> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is stored for `host` (as in the reference, so `docker.io` for Docker Hub) and `repository`; `None` means
    /// anonymous. Reads a file and may run a helper, for at most 10 s.
    pub(super) async fn lookup(&self, host: &str, repository: &str) -> Result<Option<Login>, RegistryError> {
        let source = self.source();
        let (path, required) = match &*source {
            Source::Anonymous => return Ok(None),
            Source::Fixed(login) => return Ok(Some(login.clone())),
            Source::File(path) => (path.clone(), true),
            Source::Docker => match docker_config(|name| std::env::var_os(name)) {
                Some(path) => (path, false),
                None => return Ok(None),
            },
        };
        let fault = |source| RegistryError::DockerConfig { path: path.clone(), source };
        let config = match read_config(&path).await {
            Ok(config) => config,
            Err(ConfigFault::Io(e)) if e.kind() == io::ErrorKind::NotFound && !required => return Ok(None),
            Err(source) => return Err(fault(source)),
        };
        if let Some(name) = config.helper(host) {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            if name.is_empty() || !name.bytes().all(plain) {
                return Err(fault(ConfigFault::HelperName));
            }
            let helper = format!("docker-credential-{name}");
            let login = ask_helper(helper.as_ref(), host, HELPER_TIME).await.map_err(|source| {
                RegistryError::CredentialHelper { helper, host: host.to_owned(), source }
            })?;
            if login.is_some() {
                return Ok(login);
            }
        }
        config.stored(host, repository).map_err(fault)
    }
}

/// The configuration file to read; `var` looks up the environment.
fn docker_config(var: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<PathBuf> {
    let set = |name| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("REGISTRY_AUTH_FILE")
        .or_else(|| set("DOCKER_CONFIG").map(|dir| dir.join("config.json")))
        .or_else(|| set("HOME").map(|home| home.join(".docker/config.json")))
}

/// The part of docker's configuration that matters here.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: HashMap<String, Entry>,
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<Secret>,
    username: Option<String>,
    password: Option<Secret>,
    identitytoken: Option<Secret>,
}

async fn read_config(path: &std::path::Path) -> Result<Config, ConfigFault> {
    let file = tokio::fs::File::open(path).await?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_CONFIG + 1).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 > MAX_CONFIG {
        return Err(ConfigFault::TooLarge);
    }
    // serde's own message quotes the values it stumbles over, and those are passwords.
    record::json(&bytes).map_err(|e| ConfigFault::Json { line: e.line(), column: e.column() })
}

impl Config {
    fn helper(&self, host: &str) -> Option<&str> {
        let own = self.cred_helpers.iter().find(|(key, _)| normal(key) == host).map(|(_, name)| name);
        own.or(self.creds_store.as_ref()).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The entry for the longest part of `host/repository` that has one (podman stores credentials per namespace).
    fn stored(&self, host: &str, repository: &str) -> Result<Option<Login>, ConfigFault> {
        let full = format!("{host}/{repository}");
        let mut key = full.as_str();
        loop {
            if let Some((_, entry)) = self.auths.iter().find(|(k, _)| normal(k) == key) {
                return entry.login(host);
            }
            if key.len() <= host.len() {
                return Ok(None);
            }
            key = &key[..key.rfind('/').unwrap_or(host.len()).max(host.len())];
        }
    }
}

impl Entry {
    fn login(&self, host: &str) -> Result<Option<Login>, ConfigFault> {
        if let Some(token) = self.identitytoken.as_ref().filter(|t| !t.expose().is_empty()) {
            return Ok(Some(Login::IdentityToken(token.clone())));
        }
        if let Some(auth) = self.auth.as_ref().filter(|a| !a.expose().is_empty()) {
            let bad = || ConfigFault::Auth { host: host.to_owned() };
            let auth = auth.expose().trim();
            let bytes = BASE64
                .decode(auth.as_bytes())
                .or_else(|_| BASE64_NOPAD.decode(auth.as_bytes()))
                .map(Zeroizing::new)
                .map_err(|_| bad())?;
            let text = std::str::from_utf8(&bytes).map_err(|_| bad())?;
            let (user, password) = text.split_once(':').ok_or_else(bad)?;
            let password = Secret::new(password.trim_end_matches('\0'));
            return Ok(Some(Login::Password { user: user.to_owned(), password }));
        }
        Ok(match (&self.username, &self.password) {
            (Some(user), Some(password)) if !user.is_empty() => {
                Some(Login::Password { user: user.clone(), password: password.clone() })
            }
            _ => None,
        })
    }
}

/// A key of the configuration as a reference would write it: no scheme, no API version, one name for Docker Hub.
fn normal(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    match key {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: Secret,
}

/// Runs `PROGRAM get` with the host on its standard input (docker-credential-helpers, "Development").
async fn ask_helper(program: &OsStr, host: &str, time: Duration) -> Result<Option<Login>, HelperFault> {
    let key = if host == "docker.io" { HUB_KEY } else { host };
    let run = async {
        let mut child = tokio::process::Command::new(program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let mut stdin = child.stdin.take().expect("standard input is piped");
        // A helper that ends without reading closes the pipe; what it says decides, not that.
        let _ = stdin.write_all(key.as_bytes()).await;
        drop(stdin);
        let stdout = child.stdout.take().expect("standard output is piped");
        let mut output = Zeroizing::new(Vec::new());
        stdout.take(MAX_OUTPUT + 1).read_to_end(&mut output).await?;
        if output.len() as u64 > MAX_OUTPUT {
            return Err(HelperFault::Output);
        }
        Ok((child.wait().await?, output))
    };
    let (status, output) =
        tokio::time::timeout(time, run).await.map_err(|_| HelperFault::Timeout(time))??;
    if !status.success() {
        let unknown = String::from_utf8_lossy(&output).contains("credentials not found");
        return if unknown { Ok(None) } else { Err(HelperFault::Failed(status)) };
    }
    let answer: Answer = record::json(&output).map_err(|_| HelperFault::Output)?;
    Ok(match answer {
        Answer { secret, .. } if secret.expose().is_empty() => None,
        Answer { username, secret } if username == TOKEN_USER => Some(Login::IdentityToken(secret)),
        Answer { username, secret } => Some(Login::Password { user: username, password: secret }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn look(
        config: &str,
        host: &str,
        repository: &str,
    ) -> Result<Option<(String, String)>, RegistryError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, config).unwrap();
        let login = Credentials::config_file(&path).lookup(host, repository).await?;
        Ok(login.map(|login| match login {
            Login::Password { user, password } => (user, password.expose().to_owned()),
            Login::IdentityToken(token) => (TOKEN_USER.to_owned(), token.expose().to_owned()),
        }))
    }

    fn pair(user: &str, secret: &str) -> Option<(String, String)> {
        Some((user.to_owned(), secret.to_owned()))
    }

    #[tokio::test]
    async fn reads_what_docker_and_podman_write() {
        // dTpwOnE= is u:p:q, YTpi is a:b.
        let config = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "dTpwOnE="},
            "r.io:5000": {"auth": "YTpi", "email": "x"},
            "r.io:5000/acme": {"username": "n", "password": "m"},
            "t.io": {"auth": "YTpi", "identitytoken": "tok"},
            "e.io": {}}, "other": [1]}"#;
        let look = async |host, repository| look(config, host, repository).await.unwrap();
        assert_eq!(look("docker.io", "library/nginx").await, pair("u", "p:q"));
        assert_eq!(look("r.io:5000", "x").await, pair("a", "b"));
        assert_eq!(look("r.io:5000", "acme/x").await, pair("n", "m"));
        assert_eq!(look("r.io:5000", "acmex/x").await, pair("a", "b"));
        assert_eq!(look("t.io", "x").await, pair(TOKEN_USER, "tok"));
        assert_eq!(look("e.io", "x").await, None);
        assert_eq!(look("r.io", "acme/x").await, None);
    }

    #[test]
    fn the_environment_names_the_file() {
        let find = |vars: &[(&str, &str)]| {
            docker_config(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
        };
        assert_eq!(find(&[]), None);
        assert_eq!(find(&[("HOME", "/h")]), Some("/h/.docker/config.json".into()));
        assert_eq!(find(&[("HOME", "/h"), ("DOCKER_CONFIG", "/d")]), Some("/d/config.json".into()));
        assert_eq!(find(&[("DOCKER_CONFIG", "/d"), ("REGISTRY_AUTH_FILE", "/f")]), Some("/f".into()));
        assert_eq!(find(&[("HOME", "/h"), ("DOCKER_CONFIG", "")]), Some("/h/.docker/config.json".into()));
    }

    /// Neither messages nor `Debug` hold what the file holds.
    #[tokio::test]
    async fn errors_never_show_a_secret() {
        for config in [
            r#"{"auths": {"r.io": "CANARY"}}"#,
            r#"{"auths": {"r.io": {"auth": "CANARY*"}}}"#,
            r#"{"auths": {"r.io": {"password": "CANARY", "auth": 7}}}"#,
            r#"{"auths": "CANARY"}"#,
            r#"{"credsStore": "../CANARY"}"#,
            "CANARY",
        ] {
            let error = look(config, "r.io", "x").await.unwrap_err();
            assert!(error.is_misuse(), "{error}");
            let source = std::error::Error::source(&error).unwrap();
            let text = format!("{error} {error:?} {source}");
            assert!(!text.contains("CANARY"), "{text}");
        }
        assert_eq!(format!("{:?}", Secret::new("CANARY")), "Secret(…)");
    }

    #[tokio::test]
    async fn a_missing_file_is_an_error_only_if_it_was_named() {
        let error = Credentials::config_file("/nonexistent/x").lookup("r.io", "x").await.unwrap_err();
        assert!(matches!(error, RegistryError::DockerConfig { .. }));
    }

    #[tokio::test]
    async fn a_helper_that_is_not_installed_is_named() {
        let error = look(r#"{"credsStore": "plimsoll-missing"}"#, "r.io", "x").await.unwrap_err();
        assert!(matches!(&error, RegistryError::CredentialHelper { helper, source: HelperFault::Io(_), .. }
            if helper == "docker-credential-plimsoll-missing"));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn helpers_are_asked_as_docker_asks_them() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let ask = async |script: &str, host: &str, time| {
            // One name per script: a file that another thread's child still holds open for writing cannot be run.
            let path = dir.path().join(plimsoll_core::oci::Digest::of(script.as_bytes()).hex());
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
            for _ in 0..100 {
                match ask_helper(path.as_os_str(), host, time).await {
                    Err(HelperFault::Io(e)) if e.kind() == io::ErrorKind::ExecutableFileBusy => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    other => return other,
                }
            }
            panic!("the script stays busy")
        };
        let long = Duration::from_secs(10);
        let echo = r#"[ "$1" = get ] && printf '{"Username":"u","Secret":"%s"}' "$(cat)""#;
        let secret = |login: Option<Login>| match login {
            Some(Login::Password { password, .. }) => password.expose().to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(secret(ask(echo, "r.io:5000", long).await.unwrap()), "r.io:5000");
        assert_eq!(secret(ask(echo, "docker.io", long).await.unwrap()), HUB_KEY);
        let token = r#"echo '{"ServerURL":"x","Username":"<token>","Secret":"t"}'"#;
        assert!(matches!(ask(token, "r.io", long).await, Ok(Some(Login::IdentityToken(_)))));
        let none = "echo credentials not found in native keychain; exit 1";
        assert!(matches!(ask(none, "r.io", long).await, Ok(None)));
        assert!(matches!(ask("echo CANARY; exit 1", "r.io", long).await, Err(HelperFault::Failed(_))));
        assert!(matches!(ask("echo CANARY", "r.io", long).await, Err(HelperFault::Output)));
        assert!(matches!(ask("exec cat /dev/zero", "r.io", long).await, Err(HelperFault::Output)));
        let short = Duration::from_millis(100);
        assert!(matches!(ask("exec sleep 60", "r.io", short).await, Err(HelperFault::Timeout(_))));
    }
}
