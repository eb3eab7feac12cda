//! A token server for registries with `auth: token` (distribution's "token authentication specification").

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing,
};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use plimsoll::clock::{Clock, SystemClock};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use serde_json::{Value, json};

use crate::background::Background;

const ISSUER: &str = "plimsoll-tests";
const SERVICE: &str = "registry";

/// How long a token is valid, seconds.
const LIFE: i64 = 300;

/// One who may ask for tokens.
#[derive(Debug, Clone)]
pub struct User {
    password: String,
    grants: Vec<(String, Vec<String>)>,
}

impl User {
    /// A user with this password and no rights.
    pub fn new(password: &str) -> Self {
        Self { password: password.to_owned(), grants: Vec::new() }
    }

    /// Itself, allowed `actions` (`pull`, `push`) in `repository`: a name, or a prefix of names followed by `*`.
    #[must_use]
    pub fn may(mut self, actions: &[&str], repository: &str) -> Self {
        let actions = actions.iter().map(|&action| action.to_owned()).collect();
        self.grants.push((repository.to_owned(), actions));
        self
    }

    fn allows(&self, repository: &str, action: &str) -> bool {
        self.grants.iter().any(|(pattern, actions)| {
            let covered = match pattern.strip_suffix('*') {
                Some(prefix) => repository.starts_with(prefix),
                None => repository == pattern,
            };
            covered && actions.iter().any(|allowed| allowed == action)
        })
    }
}

/// A running token server over plain HTTP on loopback; ended when dropped.
///
/// Someone unknown or with a wrong password gets 401; one without rights gets a token that grants nothing, as real
/// token servers do. Asking without credentials is asking as the user with the empty name, if there is one.
#[derive(Debug)]
pub struct TokenServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _background: Background,
}

#[derive(Debug)]
struct Shared {
    users: HashMap<String, User>,
    key: EcdsaKeyPair,
    certificate_der: Vec<u8>,
    certificate_pem: String,
    requests: AtomicUsize,
}

impl TokenServer {
    /// Starts a server for these users, by name, with a signing key (ECDSA P-256) and certificate of its own.
    ///
    /// # Panics
    /// If no loopback port is free.
    pub fn start(users: impl IntoIterator<Item = (&'static str, User)>) -> Self {
        let key = rcgen::KeyPair::generate().expect("a P-256 key can be made");
        let params = rcgen::CertificateParams::new(Vec::new()).expect("no names are valid names");
        let certificate = params.self_signed(&key).expect("a certificate can sign itself");
        let signer = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            key.serialized_der(),
            &SystemRandom::new(),
        );
        let shared = Arc::new(Shared {
            users: users.into_iter().map(|(name, user)| (name.to_owned(), user)).collect(),
            key: signer.expect("ring reads the key that rcgen made with ring"),
            certificate_der: certificate.der().to_vec(),
            certificate_pem: certificate.pem(),
            requests: AtomicUsize::new(0),
        });
        let router = Router::new().route("/token", routing::get(token)).with_state(Arc::clone(&shared));
        let (background, address) = Background::serve(|listener, _| async move {
            // It ends with its runtime, never by itself.
            let _ = axum::serve(listener, router).await;
        });
        Self { address, shared, _background: background }
    }

    /// The URL at which tokens are to be had.
    pub fn realm(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// The service that tokens are for.
    pub fn service(&self) -> &'static str {
        SERVICE
    }

    /// Who issues the tokens.
    pub fn issuer(&self) -> &'static str {
        ISSUER
    }

    /// The certificate that tokens are checked with, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.shared.certificate_pem
    }

    /// How many requests for tokens have come, refused ones included.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

async fn token(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let (name, password) = credentials(&headers).unwrap_or_default();
    let Some(user) = shared.users.get(&name).filter(|user| user.password == password) else {
        let error = json!({"errors": [{"code": "UNAUTHORIZED", "message": "wrong name or password"}]});
        return (StatusCode::UNAUTHORIZED, Json(error)).into_response();
    };
    let query = query.unwrap_or_default();
    let access: Vec<Value> = url::form_urlencoded::parse(query.as_bytes())
        .filter(|(key, _)| key == "scope")
        .flat_map(|(_, scopes)| {
            scopes.split(' ').filter_map(|scope| granted(user, scope)).collect::<Vec<_>>()
        })
        .collect();
    let token = shared.sign(&name, &access);
    Json(json!({"token": token, "access_token": token, "expires_in": LIFE})).into_response()
}

/// The name and password of a basic `Authorization` header.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let encoded = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(BASE64.decode(encoded.as_bytes()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// What of `repository:NAME:ACTIONS` the user is allowed; `None` for a scope of another form.
fn granted(user: &User, scope: &str) -> Option<Value> {
    let (name, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
    let actions: Vec<&str> = actions.split(',').filter(|action| user.allows(name, action)).collect();
    Some(json!({"type": "repository", "name": name, "actions": actions}))
}

impl Shared {
    /// A JWT (RFC 7519) signed with ES256 (RFC 7518, section 3.4), the certificate in its `x5c`.
    fn sign(&self, subject: &str, access: &[Value]) -> String {
        let now = SystemClock.now().timestamp();
        let serial = self.requests.load(Ordering::SeqCst);
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [BASE64.encode(&self.certificate_der)]});
        let claims = json!({
            "iss": ISSUER, "sub": subject, "aud": SERVICE, "jti": serial.to_string(),
            "iat": now, "nbf": now - 10, "exp": now + LIFE, "access": access,
        });
        let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let message = format!("{}.{}", encode(&header), encode(&claims));
        let signature =
            self.key.sign(&SystemRandom::new(), message.as_bytes()).expect("the system has randomness");
        format!("{message}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_granted_what_was_asked_and_allowed_and_no_more() {
        let user = User::new("x").may(&["pull", "push"], "acme/net-monitor").may(&["pull"], "acme/*");
        let actions = |scope| granted(&user, scope).map(|access| access["actions"].clone());
        assert_eq!(actions("repository:acme/net-monitor:pull,push"), Some(json!(["pull", "push"])));
        assert_eq!(actions("repository:acme/other:pull,push"), Some(json!(["pull"])));
        assert_eq!(actions("repository:acmex/other:pull"), Some(json!([])));
        assert_eq!(actions("registry:catalog:*"), None);
    }
}
