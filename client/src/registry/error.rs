//! What can go wrong between us and a registry, in three families that never mix.

use std::{io, path::PathBuf, time::Duration};

use http::StatusCode;
use plimsoll_core::oci::Digest;

/// Why a call to a registry failed.
///
/// Every error belongs to one family: [`is_auth`](Self::is_auth) (log in, or ask for access),
/// [`is_untrusted`](Self::is_untrusted) (the answer contradicts itself or us: stop), [`is_misuse`](Self::is_misuse)
/// (an argument or a local file), and all others mean that the registry is unavailable: try again later, and conclude
/// nothing about what it holds. URLs are shown without user info, query and fragment, since those can hold secrets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// 401, and there are no credentials for this registry.
    #[error("{url} asks for credentials: `docker login {host}`")]
    Unauthorized {
        /// The registry, as a user names it.
        host: String,
        /// What was asked for.
        url: String,
    },
    /// 401 although credentials were presented.
    #[error("{url} does not accept the credentials stored for {host}: renew them with `docker login {host}`")]
    LoginRejected {
        /// The registry, as a user names it.
        host: String,
        /// What was asked for.
        url: String,
    },
    /// 401 with neither a Basic nor a Bearer challenge that can be read.
    #[error("{url} asks for credentials in another way than Basic or Bearer: ask who runs this registry")]
    UnknownChallenge {
        /// What was asked for.
        url: String,
    },
    /// 403.
    #[error("{url} denies access: ask who runs this registry for permission")]
    Forbidden {
        /// What was asked for.
        url: String,
    },

    /// A token would be read by everybody on the way.
    #[error(
        "a token is not sent to {host} in plain http, where everybody on the way could read it: use its https URL"
    )]
    TokenInTheClear {
        /// Host and port.
        host: String,
    },

    /// No connection.
    #[error("cannot reach {host}")]
    Connect {
        /// Host and port.
        host: String,
        /// What the system says.
        source: io::Error,
    },
    /// No TLS connection: the certificate is not to be trusted, or the other side does not speak TLS.
    #[error("no TLS connection to {host}; if its certificate is from a CA of your own, give that CA's file")]
    Tls {
        /// Host and port.
        host: String,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The whole call took longer than its deadline.
    #[error("{host} did not finish its answer within {after:?}")]
    Timeout {
        /// The registry.
        host: String,
        /// The deadline.
        after: Duration,
    },
    /// The body came slower than the minimum rate.
    #[error("{url} sent {bytes} bytes within {window:?}, too slow to wait for")]
    TooSlow {
        /// What was asked for.
        url: String,
        /// Bytes that came within the window.
        bytes: u64,
        /// The window.
        window: Duration,
    },
    /// Status line and headers came slower than they may, from their first byte on.
    #[error("the headers of {url} did not come to their end within {window:?}")]
    SlowHead {
        /// What was asked for.
        url: String,
        /// The time they have.
        window: Duration,
    },
    /// The connection ended, or stopped being HTTP, before the answer was whole.
    #[error("the answer of {url} is cut off or not HTTP")]
    Interrupted {
        /// What was asked for.
        url: String,
        /// What hyper says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A status that this request does not expect: 429, 5xx, or simply another one.
    #[error("{url} answers {status}{}", retry_text(.retry_after.as_ref()))]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: StatusCode,
        /// How long the registry asks us to wait (`Retry-After` in seconds; at most a day).
        retry_after: Option<Duration>,
    },
    /// An answer with the right status that lacks what it must hold.
    #[error("the answer of {url} has {what}")]
    Malformed {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The registry says that it has no such repository, or no such upload.
    #[error("{url} does not exist (404)")]
    NotFound {
        /// What was asked for.
        url: String,
    },

    /// More bytes than allowed, announced or sent.
    #[error("the answer of {url} is larger than {cap} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The limit in bytes.
        cap: u64,
    },
    /// The content has another digest than was asked for.
    #[error("{url}: the content has digest {got} instead of {expected}")]
    DigestMismatch {
        /// What was asked for.
        url: String,
        /// The digest asked for or computed by us.
        expected: Digest,
        /// The digest found.
        got: Digest,
    },
    /// The content has another size than was asked for.
    #[error("{url}: the content has {got} bytes instead of {expected}")]
    SizeMismatch {
        /// What was asked for.
        url: String,
        /// The size asked for, in bytes.
        expected: u64,
        /// The size found, in bytes.
        got: u64,
    },
    /// A 200 that is no manifest: a log-in page, for example.
    #[error("{url} answers with `{got}`, which is not a manifest: is this a registry?")]
    ContentType {
        /// What was asked for.
        url: String,
        /// The media type found, cut to 200 characters; empty if there was none.
        got: String,
    },
    /// A content encoding although none was asked for.
    #[error("{url} answers with content encoding `{got}`, which was not asked for")]
    ContentEncoding {
        /// What was asked for.
        url: String,
        /// The encoding found, cut to 200 characters.
        got: String,
    },
    /// A manifest that can be read in two ways (CVE-2021-41190), or in none.
    #[error("{url}: refused as a manifest")]
    Manifest {
        /// What was asked for.
        url: String,
        /// The rule it breaks.
        source: ManifestFault,
    },
    /// A redirect, upload location or next page that leads where we do not go.
    #[error("{from} leads to {to}, which is not followed")]
    RedirectRefused {
        /// Where it was said.
        from: String,
        /// Where it leads.
        to: String,
        /// The rule it breaks.
        source: Refusal,
    },
    /// A token server that gets nothing from us.
    #[error("the registry {registry} names {realm} as its token server, which is not asked")]
    RealmRefused {
        /// The registry.
        registry: String,
        /// The token server.
        realm: String,
        /// The rule it breaks.
        source: Refusal,
    },

    /// The CA file cannot be used.
    #[error("cannot use the CA file {path}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The system has no CA certificates.
    #[error("this system has no CA certificates: install its ca-certificates package, or give a CA file")]
    NoRoots,
    /// The file with credentials cannot be used.
    #[error("cannot use the credentials in {path}")]
    DockerConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never its content.
        source: ConfigFault,
    },
    /// A credential helper failed.
    #[error("the credential helper `{helper}` has no answer for {host}")]
    CredentialHelper {
        /// The program.
        helper: String,
        /// The registry.
        host: String,
        /// What went wrong; never its output.
        source: HelperFault,
    },
    /// The argument is not a repository, a tag, a digest or a header value.
    #[error("`{text}` is not {what}")]
    Argument {
        /// The argument, cut to 200 characters.
        text: String,
        /// What it should have been.
        what: &'static str,
    },
}

/// Why bytes are refused as a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestFault {
    /// Not strict JSON.
    #[error(transparent)]
    Json(#[from] plimsoll_core::tuf::json::JsonError),
    /// JSON, but not of a manifest's shape.
    #[error("it is not an object with the members of a manifest")]
    Shape,
    /// It has members of both an image manifest and an index.
    #[error("it can be read both as an image manifest and as an index")]
    Ambiguous,
    /// `mediaType` differs from the `Content-Type` header.
    #[error("its `mediaType` differs from the Content-Type it was sent with")]
    MediaType,
}

/// Why a URL that a server sent is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Not an http or https URL.
    #[error("it is not an http or https URL")]
    NotHttp,
    /// It holds a user name or password.
    #[error("it holds a user name or password")]
    UserInfo,
    /// From https, or from a registry elsewhere, to plain http.
    #[error("it leaves TLS for plain http")]
    PlainHttp,
    /// A loopback, private or link-local address, or a name that leads to nothing else, named by a registry that is not
    /// at one itself.
    #[error("it is an address inside this machine or its network")]
    Internal,
    /// The fifth redirect was not the last.
    #[error("there are more than five redirects")]
    TooMany,
    /// A redirect of something else than GET or HEAD.
    #[error("only downloads are redirected")]
    Upload,
    /// The next page is at another origin or path.
    #[error("the next page is not part of the same list")]
    OtherList,
    /// Pages that go in a circle, or have no end.
    #[error("the pages go in a circle or have no end")]
    Circle,
    /// A token server at another site, while we hold credentials for the registry.
    #[error("it is at another site than the registry and would receive its credentials")]
    OtherSite,
}

/// What is wrong with a file of credentials.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigFault {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is over 1 MiB.
    #[error("it is larger than 1 MiB")]
    TooLarge,
    /// It is not JSON, or a member has the wrong type.
    #[error("it is not what docker writes, at line {line}, column {column}")]
    Json {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// An `auth` is not `USER:PASSWORD` in base64.
    #[error("the `auth` of {host} is not USER:PASSWORD in base64: `docker login {host}` writes it anew")]
    Auth {
        /// The registry.
        host: String,
    },
    /// The name of a helper that could be a path.
    #[error("the helper's name has other characters than letters, digits, `.`, `_` and `-`")]
    HelperName,
}

/// How a credential helper failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HelperFault {
    /// It cannot be started or spoken to.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It took too long.
    #[error("it did not finish within {0:?}")]
    Timeout(Duration),
    /// It failed.
    #[error("it failed with {0}")]
    Failed(std::process::ExitStatus),
    /// It wrote more than 64 KiB, or not what helpers write.
    #[error("its output is not a credential")]
    Output,
}

impl RegistryError {
    /// True if the registry wants other credentials, or denies access (401, 403).
    pub fn is_auth(&self) -> bool {
        matches!(
            self,
            Self::Unauthorized { .. }
                | Self::LoginRejected { .. }
                | Self::UnknownChallenge { .. }
                | Self::Forbidden { .. }
        )
    }

    /// True if the answer contradicts what was asked for, itself, or a rule of safety: retrying will not help.
    pub fn is_untrusted(&self) -> bool {
        matches!(
            self,
            Self::TooLarge { .. }
                | Self::DigestMismatch { .. }
                | Self::SizeMismatch { .. }
                | Self::ContentType { .. }
                | Self::ContentEncoding { .. }
                | Self::Manifest { .. }
                | Self::RedirectRefused { .. }
                | Self::RealmRefused { .. }
        )
    }

    /// True if an argument or a local file is at fault.
    pub fn is_misuse(&self) -> bool {
        matches!(
            self,
            Self::CaFile { .. }
                | Self::NoRoots
                | Self::DockerConfig { .. }
                | Self::CredentialHelper { .. }
                | Self::Argument { .. }
                | Self::TokenInTheClear { .. }
        )
    }

    /// True if it is none of the other families: the registry did not answer usably, and may later.
    pub fn is_unavailable(&self) -> bool {
        !(self.is_auth() || self.is_untrusted() || self.is_misuse())
    }

    /// How long the registry asks us to wait before the next try, if it does.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

fn retry_text(after: Option<&Duration>) -> String {
    after.map(|after| format!(": try again in {} s", after.as_secs())).unwrap_or_default()
}
