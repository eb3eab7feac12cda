//! The token dance: what to do after a 401 (docker's "token authentication specification").

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use data_encoding::BASE64;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use plimsoll_core::record;
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;
use zeroize::Zeroizing;

use super::{
    Credentials, Refusal, RegistryError, Secret,
    challenge::Challenge,
    credentials::Login,
    site,
    transport::{Request, Response, Transport, unexpected},
};

const MAX_TOKEN_BODY: u64 = 64 << 10;
/// How long a token lives if its server does not say (token specification, `expires_in`).
const DEFAULT_LIFE: u64 = 60;
const MAX_LIFE: u64 = 24 * 60 * 60;
/// Beyond that many remembered headers all are forgotten: they can be had again.
const MAX_CACHED: usize = 1024;

/// What one `Authorization` header is good for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    /// The registry as a user names it, `docker.io` for Docker Hub.
    pub(super) host: String,
    pub(super) repository: String,
    pub(super) access: Access,
}

/// What is to be done there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Access {
    Pull,
    Push,
    Delete,
}

impl Access {
    const ALL: [Self; 3] = [Self::Pull, Self::Push, Self::Delete];

    /// As token servers name it.
    fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
            Self::Delete => "delete",
        }
    }
}

/// Credentials and the headers they were turned into, per scope.
pub(super) struct Auth {
    credentials: Credentials,
    cache: Mutex<HashMap<Scope, Cached>>,
}

struct Cached {
    header: HeaderValue,
    /// `None` for Basic, which does not age.
    until: Option<Instant>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<Secret>,
    access_token: Option<Secret>,
    expires_in: Option<u64>,
}

impl Auth {
    pub(super) fn new(credentials: Credentials) -> Self {
        Self { credentials, cache: Mutex::default() }
    }

    /// The header to send up front, if there is one for `scope` that has not aged.
    pub(super) fn cached(&self, scope: &Scope) -> Option<HeaderValue> {
        let cache = self.cache();
        let cached = cache.get(scope)?;
        cached.until.is_none_or(|until| Instant::now() < until).then(|| cached.header.clone())
    }

    /// Answers the challenge of `response`, a 401, and remembers the result for `scope`.
    ///
    /// # Errors
    /// [`RegistryError::Unauthorized`] if there are no credentials and none can be done without;
    /// [`RegistryError::RealmRefused`] before anything is sent to a token server that shall not have it.
    pub(super) async fn login(
        &self,
        transport: &Transport,
        scope: &Scope,
        response: &Response,
    ) -> Result<HeaderValue, RegistryError> {
        self.cache().remove(scope);
        let url = &response.url;
        let challenge = Challenge::from_headers(&response.headers)
            .ok_or_else(|| RegistryError::UnknownChallenge { url: site::shown(url) })?;
        let login = self.credentials.lookup(&scope.host, &scope.repository).await?;
        let cached = match (challenge, login) {
            (Challenge::Basic, Some(Login::Password { user, password })) => {
                Cached { header: basic(&user, password.expose()), until: None }
            }
            (Challenge::Basic, _) => return Err(refused(scope, url, false)),
            (Challenge::Bearer { realm, service }, login) => {
                let realm = check_realm(transport, url, &realm, login.is_some())?;
                token(transport, scope, response, realm, service, login.as_ref()).await?
            }
        };
        let header = cached.header.clone();
        let mut cache = self.cache();
        if cache.len() >= MAX_CACHED {
            cache.clear();
        }
        if cached.until.is_none() {
            // Basic is the same for all that is done: the rest need not be asked for again.
            for access in Access::ALL {
                let other = Scope { access, ..scope.clone() };
                cache.insert(other, Cached { header: header.clone(), until: None });
            }
        } else {
            cache.insert(scope.clone(), cached);
        }
        Ok(header)
    }

    /// The error for a 401 that came although `login` had its turn.
    pub(super) async fn rejected(&self, scope: &Scope, url: &Url) -> RegistryError {
        self.cache().remove(scope);
        match self.credentials.lookup(&scope.host, &scope.repository).await {
            Ok(login) => refused(scope, url, login.is_some()),
            Err(e) => e,
        }
    }

    fn cache(&self) -> MutexGuard<'_, HashMap<Scope, Cached>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(scope: &Scope, url: &Url, presented: bool) -> RegistryError {
    let (host, url) = (scope.host.clone(), site::shown(url));
    if presented {
        RegistryError::LoginRejected { host, url }
    } else {
        RegistryError::Unauthorized { host, url }
    }
}

/// A header from texts that are base64 or were checked.
fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// None for a token that does not fit into a header: empty, or with anything but visible ASCII.
pub(super) fn bearer(token: &Secret) -> Option<HeaderValue> {
    let token = token.expose();
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    sensitive(&Zeroizing::new(format!("Bearer {token}")))
}

fn basic(user: &str, password: &str) -> HeaderValue {
    let pair = Zeroizing::new(format!("{user}:{password}"));
    let text = Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes())));
    sensitive(&text).expect("base64 fits into a header")
}

/// The token server's URL, if it may be asked: over TLS unless the registry itself is spoken to in plain http, not
/// inside our network unless the registry is, and at the registry's own site if it would see credentials.
fn check_realm(
    transport: &Transport,
    registry: &Url,
    realm: &str,
    credentials: bool,
) -> Result<Url, RegistryError> {
    let refuse = |shown: String, source| RegistryError::RealmRefused {
        registry: site::authority(registry),
        realm: shown,
        source,
    };
    let url =
        Url::parse(realm).map_err(|_| refuse("something that is not a URL".to_owned(), Refusal::NotHttp))?;
    site::check_hop(registry, registry, &url, transport.plain_http())
        .map_err(|source| refuse(site::shown(&url), source))?;
    if credentials && !site::same_site(registry, &url) {
        return Err(refuse(site::shown(&url), Refusal::OtherSite));
    }
    Ok(url)
}

/// Asks the token server: a GET with Basic credentials if there are any, or a POST with the identity token.
async fn token(
    transport: &Transport,
    scope: &Scope,
    registry: &Response,
    mut realm: Url,
    service: Option<String>,
    login: Option<&Login>,
) -> Result<Cached, RegistryError> {
    let wanted = format!("repository:{}:{}", scope.repository, scope.access.actions());
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let (url, named_by) = (realm.clone(), registry.names());
    let mut request = Request { method: Method::GET, url, named_by, headers, body: Default::default() };
    let fields = service.map(|service| ("service", service)).into_iter().chain([("scope", wanted)]);
    if let Some(Login::IdentityToken(token)) = login {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        form.append_pair("grant_type", "refresh_token").append_pair("client_id", "plimsoll");
        form.append_pair("refresh_token", token.expose());
        request.method = Method::POST;
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        request.body = form.finish().into();
    } else {
        realm.query_pairs_mut().extend_pairs(fields);
        request.url = realm;
        if let Some(Login::Password { user, password }) = login {
            request.headers.insert(AUTHORIZATION, basic(user, password.expose()));
        }
    }
    // Sent once, never along a redirect: the realm was checked, and nothing else was.
    let asked = Instant::now();
    let response = transport.send_once(&request, &request.url, request.named_by.as_ref(), None).await;
    let response = response.map_err(|error| match error {
        RegistryError::RedirectRefused { to, source, .. } => {
            RegistryError::RealmRefused { registry: site::authority(&registry.url), realm: to, source }
        }
        other => other,
    })?;
    match response.status {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => return Err(refused(scope, &response.url, login.is_some())),
        _ => return Err(unexpected(&response)),
    }
    let url = site::shown(&response.url);
    let body = Zeroizing::new(Vec::from(transport.read(response, MAX_TOKEN_BODY).await?));
    let malformed = || RegistryError::Malformed { url: url.clone(), what: "no usable token" };
    let answer: TokenAnswer = record::json(&body).map_err(|_| malformed())?;
    let token = [answer.token, answer.access_token].into_iter().flatten().find(|t| !t.expose().is_empty());
    let token = token.ok_or_else(malformed)?;
    let header = sensitive(&Zeroizing::new(format!("Bearer {}", token.expose()))).ok_or_else(malformed)?;
    let life = answer.expires_in.unwrap_or(DEFAULT_LIFE).min(MAX_LIFE);
    // Given up a little early, so that it does not run out on the way.
    let until = Some(asked + Duration::from_secs(life - life / 10));
    Ok(Cached { header, until })
}
