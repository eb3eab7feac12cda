//! The file as it is written.

use std::{
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    ops::Range,
    path::{Path, PathBuf},
};

use chrono::TimeDelta;
use plimsoll_core::{
    oci::mapping::{self, Profile},
    record,
};
use serde::Deserialize;
use toml::Spanned;

use super::{
    ApiConfig, ConfigError, Login, Place, RegistryAccess, Submit, TrustConfig, ValueError, cut, unique,
    valid_name,
};
use crate::{freshness::Freshness, logging, quota::Quota, secrets::SecretFile, tls::TlsFiles};

const MAX_FILE: u64 = 1 << 20;
/// No snapshot lists more.
const MAX_QUOTA_ROLES: u32 = 20_000;
const MAX_PUBLISHES: u32 = 1_000_000;

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) data: Option<PathBuf>,
    pub(super) listen: Option<SocketAddr>,
    pub(super) log: Option<String>,
    pub(super) registry: RegistryAccess,
    pub(super) tls: Option<TlsFiles>,
    /// Where `[tls]` stands.
    pub(super) tls_line: Option<usize>,
    pub(super) api: ApiConfig,
    pub(super) freshness: Freshness,
    pub(super) quota: Quota,
    pub(super) trusts: Vec<TrustConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Document {
    data: Option<Spanned<PathBuf>>,
    listen: Option<Spanned<String>>,
    log: Option<Spanned<String>>,
    #[serde(default)]
    registry: RegistryTable,
    tls: Option<Spanned<TlsTable>>,
    #[serde(default)]
    api: ApiTable,
    #[serde(default)]
    freshness: FreshnessTable,
    #[serde(default)]
    quota: QuotaTable,
    #[serde(default)]
    trust: Vec<Spanned<TrustTable>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RegistryTable {
    ca_file: Option<Spanned<PathBuf>>,
    #[serde(default)]
    plain_http: bool,
    certs_dir: Option<Spanned<PathBuf>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct TlsTable {
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<PathBuf>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ApiTable {
    submit: Option<Spanned<String>>,
    tokens: Option<Spanned<PathBuf>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FreshnessTable {
    timestamp_validity: Option<Spanned<String>>,
    timestamp_interval: Option<Spanned<String>>,
    timestamp_jitter: Option<Spanned<String>>,
    snapshot_validity: Option<Spanned<String>>,
    snapshot_interval: Option<Spanned<String>>,
    snapshot_jitter: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct QuotaTable {
    roles: Option<Spanned<i64>>,
    bytes: Option<Spanned<String>>,
    publishes_per_minute: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct TrustTable {
    name: Spanned<String>,
    repository: Option<Spanned<String>>,
    username: Option<Spanned<String>>,
    password_file: Option<Spanned<PathBuf>>,
    profile: Option<Spanned<String>>,
    inbox: Option<Spanned<String>>,
    #[serde(default)]
    allow_example_keys: bool,
}

/// Reads and checks the file `path`.
///
/// # Errors
/// [`ConfigError`].
pub(super) fn read(path: &Path) -> Result<Settings, ConfigError> {
    let text = text(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    Reader { path, text: &text }.read()
}

fn text(path: &Path) -> io::Result<String> {
    // Asked before opening, as opening a FIFO would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a file"));
    }
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is larger than 1 MiB"));
    }
    Ok(text)
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn read(&self) -> Result<Settings, ConfigError> {
        let document: Document = record::toml(self.text).map_err(|e| self.syntax(&e))?;
        let listen = document.listen.map(|text| {
            let address = text.get_ref().parse();
            address.map_err(|_| self.wrong(text.span(), "listen", ValueError::Listen(cut(text.get_ref()))))
        });
        let log = document.log.map(|text| match logging::parse(text.get_ref()) {
            Ok(_) => Ok(text.into_inner()),
            Err(error) => Err(self.wrong(text.span(), "log", ValueError::Log(error.to_string()))),
        });
        let registry = document.registry;
        let registry = RegistryAccess {
            ca_file: self.path(registry.ca_file, "registry.ca-file")?,
            plain_http: registry.plain_http,
            certs_dir: self.path(registry.certs_dir, "registry.certs-dir")?,
        };
        let tls_line = document.tls.as_ref().map(|table| self.line(table.span().start));
        let tls = document.tls.map(|table| self.tls(table)).transpose()?;
        let api = self.api(document.api)?;
        let mut trusts = Vec::new();
        for table in document.trust {
            let span = table.span();
            trusts.push(self.trust(table.into_inner(), span.clone())?);
            unique(&trusts).map_err(|source| self.wrong(span, "trust", source))?;
        }
        Ok(Settings {
            data: self.path(document.data, "data")?,
            listen: listen.transpose()?,
            log: log.transpose()?,
            registry,
            tls,
            tls_line,
            api,
            freshness: self.freshness(document.freshness)?,
            quota: self.quota(document.quota)?,
            trusts,
        })
    }

    fn trust(&self, table: TrustTable, span: Range<usize>) -> Result<TrustConfig, ConfigError> {
        if !valid_name(table.name.get_ref()) {
            let source = ValueError::Name(cut(table.name.get_ref()));
            return Err(self.wrong(table.name.span(), "trust.name", source));
        }
        let repository = table.repository.map(|text| {
            let address = text.get_ref().parse();
            address.map_err(|e| self.wrong(text.span(), "trust.repository", ValueError::Repository(e)))
        });
        let repository = repository.transpose()?;
        let password_file = self.secret(table.password_file, "trust.password-file")?;
        let login = match (table.username, password_file) {
            (None, None) => None,
            (Some(username), Some(_)) if username.get_ref().is_empty() => {
                return Err(self.wrong(username.span(), "trust.username", ValueError::Empty));
            }
            (Some(username), Some(password_file)) => {
                Some(Login { username: username.into_inner(), password_file })
            }
            _ => return Err(self.wrong(span, "trust.username", ValueError::HalfLogin)),
        };
        if login.is_some() && repository.is_none() {
            return Err(self.wrong(span, "trust.username", ValueError::LoginWithoutRepository));
        }
        let profile = match table.profile {
            None => Profile::Oci11,
            Some(text) => match text.get_ref().as_str() {
                "oci-1.1" => Profile::Oci11,
                "oci-1.0" => Profile::Oci10,
                other => {
                    return Err(self.wrong(text.span(), "trust.profile", ValueError::Profile(cut(other))));
                }
            },
        };
        let inbox = match (table.inbox, &repository) {
            (None, _) => None,
            (Some(text), None) => {
                return Err(self.wrong(text.span(), "trust.inbox", ValueError::InboxWithoutRepository));
            }
            (Some(text), Some(repository)) => {
                let wrong = |source| self.wrong(text.span(), "trust.inbox", source);
                if mapping::inbox::inbox(repository).is_err() {
                    return Err(wrong(ValueError::InboxName(repository.clone())));
                }
                let interval = duration(text.get_ref()).and_then(|interval| interval.to_std().ok());
                Some(interval.ok_or_else(|| wrong(ValueError::Duration(cut(text.get_ref()))))?)
            }
        };
        let (name, allow_example_keys) = (table.name.into_inner(), table.allow_example_keys);
        Ok(TrustConfig { name, repository, login, profile, inbox, allow_example_keys })
    }

    fn tls(&self, table: Spanned<TlsTable>) -> Result<TlsFiles, ConfigError> {
        let span = table.span();
        let TlsTable { certificate, key } = table.into_inner();
        let certificate = self.secret(certificate, "tls.certificate")?;
        let key = self.secret(key, "tls.key")?;
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(TlsFiles { certificate, key }),
            _ => Err(self.wrong(span, "tls", ValueError::HalfTls)),
        }
    }

    fn api(&self, table: ApiTable) -> Result<ApiConfig, ConfigError> {
        let submit = match table.submit {
            None => None,
            Some(text) => Some(match text.get_ref().as_str() {
                "tokens" => Submit::Tokens,
                "anyone" => Submit::Anyone,
                other => return Err(self.wrong(text.span(), "api.submit", ValueError::Submit(cut(other)))),
            }),
        };
        Ok(ApiConfig { submit, tokens: self.secret(table.tokens, "api.tokens")? })
    }

    fn freshness(&self, table: FreshnessTable) -> Result<Freshness, ConfigError> {
        let mut first = None;
        let mut read = |text: Option<Spanned<String>>, key: &str| -> Result<Option<TimeDelta>, ConfigError> {
            let Some(text) = text else { return Ok(None) };
            // None at all is a jitter, too.
            let nothing = key.ends_with("jitter") && text.get_ref() == "0s";
            let length = if nothing { Some(TimeDelta::zero()) } else { duration(text.get_ref()) };
            let key = format!("freshness.{key}");
            let wrong = || self.wrong(text.span(), &key, ValueError::Duration(cut(text.get_ref())));
            let length = length.ok_or_else(wrong)?;
            first.get_or_insert(text.span());
            Ok(Some(length))
        };
        let default = Freshness::default();
        let freshness = Freshness {
            timestamp_validity: read(table.timestamp_validity, "timestamp-validity")?
                .unwrap_or(default.timestamp_validity),
            timestamp_interval: read(table.timestamp_interval, "timestamp-interval")?
                .unwrap_or(default.timestamp_interval),
            timestamp_jitter: read(table.timestamp_jitter, "timestamp-jitter")?,
            snapshot_validity: read(table.snapshot_validity, "snapshot-validity")?
                .unwrap_or(default.snapshot_validity),
            snapshot_interval: read(table.snapshot_interval, "snapshot-interval")?,
            snapshot_jitter: read(table.snapshot_jitter, "snapshot-jitter")?,
        };
        let unfit =
            |source| self.wrong(first.unwrap_or_default(), "freshness", ValueError::Freshness(source));
        freshness.check().map_err(unfit)?;
        Ok(freshness)
    }

    fn quota(&self, table: QuotaTable) -> Result<Quota, ConfigError> {
        let mut quota = Quota::default();
        if let Some(roles) = table.roles {
            quota.roles = self.number(&roles, "quota.roles", MAX_QUOTA_ROLES)?.into();
        }
        if let Some(text) = table.bytes {
            let wrong = || self.wrong(text.span(), "quota.bytes", ValueError::Size(cut(text.get_ref())));
            quota.bytes = size(text.get_ref()).ok_or_else(wrong)?;
        }
        if let Some(publishes) = table.publishes_per_minute {
            quota.publishes_per_minute =
                self.number(&publishes, "quota.publishes-per-minute", MAX_PUBLISHES)?;
        }
        Ok(quota)
    }

    /// A whole number from 1 to `most`.
    fn number(&self, number: &Spanned<i64>, key: &str, most: u32) -> Result<u32, ConfigError> {
        let found = *number.get_ref();
        let fits = u32::try_from(found).ok().filter(|number| (1..=most).contains(number));
        fits.ok_or_else(|| self.wrong(number.span(), key, ValueError::Number { found, most: most.into() }))
    }

    /// A path, from the file's folder if it is relative.
    fn path(&self, path: Option<Spanned<PathBuf>>, key: &str) -> Result<Option<PathBuf>, ConfigError> {
        let Some(path) = path else { return Ok(None) };
        if path.get_ref().as_os_str().is_empty() {
            return Err(self.wrong(path.span(), key, ValueError::Empty));
        }
        let folder = self.path.parent().unwrap_or(Path::new(""));
        Ok(Some(folder.join(path.get_ref())))
    }

    /// A path as [`Reader::path`], or `credential:NAME`.
    fn secret(&self, path: Option<Spanned<PathBuf>>, key: &str) -> Result<Option<SecretFile>, ConfigError> {
        if let Some(text) = &path {
            let credential = SecretFile::credential(&text.get_ref().to_string_lossy());
            let wrong = |name| self.wrong(text.span(), key, ValueError::Credential(name));
            if let Some(credential) = credential.map_err(wrong)? {
                return Ok(Some(credential));
            }
        }
        Ok(self.path(path, key)?.map(SecretFile::File))
    }

    fn wrong(&self, span: Range<usize>, key: &str, source: ValueError) -> ConfigError {
        ConfigError::Value { place: self.place(span.start, key.to_owned()), source }
    }

    /// The parser's own errors name the key only if it is one that should not be there, so it is read from the line.
    fn syntax(&self, error: &toml::de::Error) -> ConfigError {
        let at = error.span().map_or(0, |span| span.start).min(self.text.len());
        let start = self.text[..at].rfind('\n').map_or(0, |i| i + 1);
        let line = self.text[start..].lines().next().unwrap_or_default();
        let key = line.split_once('=').map_or("", |(key, _)| key.trim());
        let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        ConfigError::Toml { place: self.place(at, cut(key)), message }
    }

    fn place(&self, at: usize, key: String) -> Place {
        Place::File { path: self.path.to_owned(), line: self.line(at), key }
    }

    fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count()
    }
}

/// `64KiB`, `64MiB` or `1GiB`: above nothing, at most a tebibyte.
fn size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(3)?)?;
    let unit: u64 = match unit {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    if number.len() > 10 || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let bytes = number.parse::<u64>().ok()?.checked_mul(unit)?;
    (1..=1 << 40).contains(&bytes).then_some(bytes)
}

/// `3s`, `15m`, `24h` or `7d`: above nothing, at most ten years.
pub(crate) fn duration(text: &str) -> Option<TimeDelta> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return None,
    };
    if number.len() > 9 || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds = number.parse::<i64>().ok()? * seconds;
    (1..=3650 * 86400).contains(&seconds).then(|| TimeDelta::seconds(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_a_whole_number_and_a_unit() {
        for (text, bytes) in [("1KiB", 1024), ("64MiB", 64 << 20), ("1GiB", 1 << 30), ("1024GiB", 1 << 40)] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "KiB",
            "0KiB",
            "64",
            "64MB",
            "64 MiB",
            "-1MiB",
            "1.5MiB",
            "1025GiB",
            "99999999999GiB",
            "6€iB",
        ] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_a_whole_number_and_a_unit() {
        for (text, seconds) in
            [("3s", 3), ("15m", 900), ("24h", 86400), ("7d", 604_800), ("3650d", 315_360_000)]
        {
            assert_eq!(duration(text), Some(TimeDelta::seconds(seconds)), "{text}");
        }
        for text in [
            "",
            "s",
            "3",
            "0s",
            "-3s",
            "+3s",
            "1.5h",
            "3 s",
            "3S",
            "3ms",
            "1h30m",
            "3651d",
            "9999999999s",
            "3€",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
