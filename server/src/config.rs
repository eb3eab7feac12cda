//! `plimsolld.toml` and the flags that override it.
//!
//! Strict: an unknown key, a wrong type or a value out of its range is an error that names file, line and key.

mod file;
mod show;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use plimsoll_core::oci::{ReferenceError, RepositoryAddress, mapping::Profile};

pub use show::Shown;

pub(crate) use self::file::duration;
use crate::{
    freshness::{Freshness, FreshnessError},
    quota::Quota,
    secrets::SecretFile,
    tls::TlsFiles,
};

/// Where the daemon listens if it is not told: loopback only.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8480);
/// What the one trust repository is called if none is configured.
pub const DEFAULT_TRUST: &str = "main";

/// What a daemon is to do.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data folder: keys, store and the embedded registry.
    pub data: PathBuf,
    /// Where to listen; port 0 means any free one.
    pub listen: SocketAddr,
    /// What `serve` logs: a filter as `--log` takes; none for `info`.
    pub log: Option<String>,
    /// How registries are reached.
    pub registry: RegistryAccess,
    /// What the listener shows of itself; none for plain http.
    pub tls: Option<TlsFiles>,
    /// Who may submit.
    pub api: ApiConfig,
    /// How long signatures last and how often they are renewed.
    pub freshness: Freshness,
    /// What each team may have of what all share.
    pub quota: Quota,
    /// The trust repositories, at least one, no name twice.
    pub trusts: Vec<TrustConfig>,
    /// True if neither file nor flags name a trust repository, so that it is [`DEFAULT_TRUST`].
    pub implied: bool,
}

/// `[registry]`: how registries are reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryAccess {
    /// PEM file of CA certificates trusted besides the system's. Default: none.
    pub ca_file: Option<PathBuf>,
    /// Speak plain http to every registry, not just to loopback. Default: false.
    pub plain_http: bool,
    /// Where `HOST[:PORT]/ca.crt` holds the CA of one host. Default: docker's.
    pub certs_dir: Option<PathBuf>,
}

/// `[api]`: who may submit. All that can be read, everybody may read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiConfig {
    /// Default: those with a token; on loopback everybody, until there is a file of tokens.
    pub submit: Option<Submit>,
    /// The file of tokens. Default: `tokens.toml` in the data folder.
    pub tokens: Option<SecretFile>,
}

/// Who may submit. It counts by its signatures in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submit {
    /// Whoever reaches the daemon.
    Anyone,
    /// Whoever shows a token.
    Tokens,
}

/// `[[trust]]`: one trust repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustConfig {
    /// What this daemon calls it, in URLs, folders and logs.
    pub name: String,
    /// Where its metadata is put; none for the embedded registry, at `LISTEN/NAME/trust`.
    pub repository: Option<RepositoryAddress>,
    /// Who to log in as; none for what `docker login` stored.
    pub login: Option<Login>,
    /// Which manifests the registry takes. Default: OCI 1.1.
    pub profile: Profile,
    /// How often submissions are collected from the inbox, `REPOSITORY/inbox`. Default: there is none.
    pub inbox: Option<Duration>,
    /// Accept keys of `keys-example/`, which everybody has. Default: false.
    pub allow_example_keys: bool,
}

/// A user name, and the file that holds the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user name.
    pub username: String,
    /// Its first line is the password; mode 0600 or narrower.
    pub password_file: SecretFile,
}

/// What flags say; they win over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--data`.
    pub data: Option<PathBuf>,
    /// `--listen`.
    pub listen: Option<SocketAddr>,
    /// `--log`.
    pub log: Option<String>,
    /// `--trust`, as often as it was given. If it was, exactly these are served; one that the file has too keeps
    /// what the file says of it.
    pub trusts: Vec<TrustArgument>,
}

/// `NAME` or `NAME=HOST/REPOSITORY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustArgument {
    /// The name.
    pub name: String,
    /// The repository, if one was given.
    pub repository: Option<RepositoryAddress>,
}

/// Why a configuration cannot be used. All of it is misuse: the file or the flags must be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Not TOML, an unknown key, or a value of the wrong type.
    #[error("{place}: {message}")]
    Toml {
        /// File, line and key.
        place: Place,
        /// What the parser says.
        message: String,
    },
    /// A value out of its range.
    #[error("{place}")]
    Value {
        /// File, line and key, or the flag.
        place: Place,
        /// What is wrong with it.
        source: ValueError,
    },
    /// There is no place for the data folder.
    #[error(
        "no data folder: give --data DIR, or `data` in the configuration, or set PLIMSOLLD_DATA (HOME is not set)"
    )]
    NoData,
}

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key, with its table; empty if none can be told.
        key: String,
    },
    /// In a flag.
    Flag(&'static str),
}

/// What is wrong with one value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// Not an address.
    #[error("`{0}` is not an IP address with a port, as 127.0.0.1:8480")]
    Listen(String),
    /// Not a name.
    #[error("`{0}` is not a name: use lower-case letters, digits and `-`, at most 64")]
    Name(String),
    /// A name used twice.
    #[error("there are two trust repositories called `{0}`")]
    NameTwice(String),
    /// A repository used twice.
    #[error("{0} is the repository of two; each needs one of its own")]
    RepositoryTwice(RepositoryAddress),
    /// Not a repository.
    #[error("not HOST/REPOSITORY")]
    Repository(#[from] ReferenceError),
    /// Not a duration.
    #[error("`{0}` is not a duration: a whole number with `s`, `m`, `h` or `d`, as 24h, at most 3650d")]
    Duration(String),
    /// Not a size.
    #[error("`{0}` is not a size: a whole number with `KiB`, `MiB` or `GiB`, as 64MiB, at most 1024GiB")]
    Size(String),
    /// A number out of its range.
    #[error("{found} is not between 1 and {most}")]
    Number {
        /// What stands there.
        found: i64,
        /// The largest that may.
        most: i64,
    },
    /// Durations that do not fit together.
    #[error(transparent)]
    Freshness(#[from] FreshnessError),
    /// Not a profile.
    #[error("`{0}` is not a profile: `oci-1.1` or `oci-1.0`")]
    Profile(String),
    /// Half a login.
    #[error("`username` and `password-file` belong together; leave out both for what `docker login` stored")]
    HalfLogin,
    /// A login for the registry that has none.
    #[error("the embedded registry takes no login; give a `repository`, or leave the login out")]
    LoginWithoutRepository,
    /// An inbox where the daemon itself can be reached.
    #[error(
        "the embedded registry is where submissions are taken anyway; give a `repository`, or leave `inbox` out"
    )]
    InboxWithoutRepository,
    /// An inbox whose name would be too long.
    #[error("there is no room for `/inbox` after the name of {0}")]
    InboxName(RepositoryAddress),
    /// Half of what TLS needs.
    #[error("`certificate` and `key` belong together")]
    HalfTls,
    /// TLS, and a trust repository on the embedded registry, which the daemon and its neighbours reach in plain http.
    #[error(
        "trust repository {0} is on the embedded registry, which is spoken to in plain http on loopback: give it a \
         `repository`, or leave [tls] out"
    )]
    TlsEmbedded(String),
    /// Not a filter of the log.
    #[error("not what is to be logged, as `info` or `info,plimsoll_server=debug`: {0}")]
    Log(String),
    /// Not one who may submit.
    #[error("`{0}` is not who may submit: `tokens` or `anyone`")]
    Submit(String),
    /// Not the name of a credential.
    #[error("`credential:{0}` names no credential: letters, digits, `.`, `_` and `-`, the first no `.`")]
    Credential(String),
    /// An empty text.
    #[error("it is empty")]
    Empty,
}

impl Config {
    /// The defaults with the data folder `data`: one trust repository, `main`, on the embedded registry.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            listen: DEFAULT_LISTEN,
            log: None,
            registry: RegistryAccess::default(),
            tls: None,
            api: ApiConfig::default(),
            freshness: Freshness::default(),
            quota: Quota::default(),
            trusts: vec![TrustConfig::embedded(DEFAULT_TRUST)],
            implied: true,
        }
    }

    /// Reads the configuration: defaults, over them `file` (at most 1 MiB), over that `overrides`. Relative paths in the
    /// file start at its folder.
    ///
    /// # Errors
    /// [`ConfigError`], with the place of the first thing that is wrong.
    pub fn resolve(file: Option<&Path>, overrides: &Overrides) -> Result<Self, ConfigError> {
        Self::resolve_in(file, overrides, |name| std::env::var_os(name))
    }

    fn resolve_in(
        file: Option<&Path>,
        overrides: &Overrides,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let read = file.map(file::read).transpose()?.unwrap_or_default();
        let data = overrides.data.clone().or(read.data).or_else(|| default_data(variable));
        let mut config = Self::new(data.ok_or(ConfigError::NoData)?);
        config.listen = overrides.listen.or(read.listen).unwrap_or(DEFAULT_LISTEN);
        config.log = overrides.log.clone().or(read.log);
        config.registry = read.registry;
        config.tls = read.tls;
        config.api = read.api;
        config.freshness = read.freshness;
        config.quota = read.quota;
        config.implied = read.trusts.is_empty() && overrides.trusts.is_empty();
        if !read.trusts.is_empty() {
            config.trusts = read.trusts;
        }
        if !overrides.trusts.is_empty() {
            config.trusts = chosen(&config.trusts, &overrides.trusts)?;
        }
        if let Some((path, line)) = file.zip(read.tls_line)
            && let Some(trust) = config.trusts.iter().find(|trust| trust.repository.is_none())
        {
            let place = Place::File { path: path.to_owned(), line, key: "tls".to_owned() };
            return Err(ConfigError::Value { place, source: ValueError::TlsEmbedded(trust.name.clone()) });
        }
        Ok(config)
    }
}

impl TrustConfig {
    /// The trust repository `name` on the embedded registry.
    pub fn embedded(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            repository: None,
            login: None,
            profile: Profile::Oci11,
            inbox: None,
            allow_example_keys: false,
        }
    }
}

/// True for `[a-z0-9-]{1,64}`: safe as a folder, a part of a URL and a part of a repository name once it neither begins
/// nor ends with `-`.
pub fn valid_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// The trust repositories that flags name.
fn chosen(known: &[TrustConfig], wanted: &[TrustArgument]) -> Result<Vec<TrustConfig>, ConfigError> {
    let mut trusts: Vec<TrustConfig> = Vec::new();
    for argument in wanted {
        let same = known.iter().find(|trust| trust.name == argument.name);
        let mut trust = same.cloned().unwrap_or_else(|| TrustConfig::embedded(&argument.name));
        trust.repository = argument.repository.clone().or(trust.repository);
        trusts.push(trust);
    }
    unique(&trusts).map_err(|source| ConfigError::Value { place: Place::Flag("--trust"), source })?;
    Ok(trusts)
}

/// Two with one name, or in one repository, would overwrite each other.
fn unique(trusts: &[TrustConfig]) -> Result<(), ValueError> {
    for (i, trust) in trusts.iter().enumerate() {
        for other in &trusts[..i] {
            if trust.name == other.name {
                return Err(ValueError::NameTwice(trust.name.clone()));
            }
            if let Some(repository) =
                trust.repository.as_ref().filter(|r| Some(*r) == other.repository.as_ref())
            {
                return Err(ValueError::RepositoryTwice(repository.clone()));
            }
        }
    }
    Ok(())
}

/// `$PLIMSOLLD_DATA`, else `$XDG_DATA_HOME/plimsolld`, else `~/.local/share/plimsolld`.
fn default_data(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    path("PLIMSOLLD_DATA").or_else(|| {
        let xdg = path("XDG_DATA_HOME").filter(|path| path.is_absolute());
        xdg.or_else(|| path("HOME").map(|home| home.join(".local/share")))
            .map(|folder| folder.join("plimsolld"))
    })
}

impl FromStr for TrustArgument {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (name, repository) = text.split_once('=').map_or((text, None), |(name, rest)| (name, Some(rest)));
        if !valid_name(name) {
            return Err(ValueError::Name(cut(name)));
        }
        Ok(Self { name: name.to_owned(), repository: repository.map(str::parse).transpose()? })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, key } if key.is_empty() => write!(f, "{}:{line}", path.display()),
            Self::File { path, line, key } => write!(f, "{}:{line}: `{key}`", path.display()),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(100).collect()
}
