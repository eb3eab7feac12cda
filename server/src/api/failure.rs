//! Everything but success, on the wire.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use plimsoll::publish::api::{Refusal, RefusalCode, RefusalReason};

use crate::tokens::Denial;

/// When to try again after 503, seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// A refusal with its HTTP status.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) refusal: Refusal,
    /// True if the engine decided it, which counted it then.
    pub(super) counted: bool,
}

impl Failure {
    pub(super) fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Refusal::new(code, message).into()
    }

    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(RefusalCode::Malformed, message)
    }

    pub(super) fn not_found(message: &str) -> Self {
        Self::new(RefusalCode::NotFound, message)
    }

    pub(super) fn no_such_trust() -> Self {
        Self::not_found("no trust repository of this name; /v1/trusts lists those that are served")
    }

    pub(super) fn unavailable(message: &str) -> Self {
        Self::new(RefusalCode::Unavailable, message)
    }

    /// 401, or 403 for a good token of others.
    pub(super) fn denied(denial: &Denial) -> Self {
        let (code, reason) = match denial {
            Denial::Missing => (RefusalCode::Unauthorized, RefusalReason::NoToken),
            Denial::Unknown => (RefusalCode::Unauthorized, RefusalReason::BadToken),
            Denial::Expired { .. } => (RefusalCode::Unauthorized, RefusalReason::TokenExpired),
            Denial::OtherTrust { .. } => (RefusalCode::Forbidden, RefusalReason::TokenTrust),
        };
        Refusal { reason: Some(reason), ..Refusal::new(code, denial.to_string()) }.into()
    }

    /// Too much at a time from one address.
    pub(super) fn crowded(what: &str) -> Self {
        Refusal::rate_limited(RefusalReason::Peer, what, Duration::from_secs(1)).into()
    }

    pub(super) fn starting() -> Self {
        Self::unavailable("the daemon is starting; try again")
    }

    pub(super) fn stopping() -> Self {
        Self::unavailable("the daemon is stopping; try again when it is back")
    }

    /// What the engine answered.
    pub(super) fn of_engine(refusal: Refusal) -> Self {
        Self { counted: true, ..refusal.into() }
    }

    /// 405, the first of two statuses that have no code of their own.
    pub(super) fn method() -> Self {
        let failure = Self::malformed("this method is not allowed here; docs/http-api.md lists the routes");
        Self { status: StatusCode::METHOD_NOT_ALLOWED, ..failure }
    }

    /// 408, the other.
    pub(super) fn slow() -> Self {
        Self { status: StatusCode::REQUEST_TIMEOUT, ..Self::malformed("the body came too slowly") }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, refusal, counted: false }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        // RFC 6750, section 3.1: no error is named to who showed nothing.
        let challenge = match self.refusal.reason {
            Some(RefusalReason::NoToken) => Some("Bearer realm=\"plimsolld\""),
            Some(RefusalReason::BadToken | RefusalReason::TokenExpired) => {
                Some("Bearer realm=\"plimsolld\", error=\"invalid_token\"")
            }
            Some(RefusalReason::TokenTrust) => {
                Some("Bearer realm=\"plimsolld\", error=\"insufficient_scope\"")
            }
            _ => None,
        };
        let wait = self.refusal.retry_after;
        let mut response = (self.status, Json(self.refusal)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = wait {
            headers.insert(header::RETRY_AFTER, seconds.into());
        } else if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if let Some(challenge) = challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}
